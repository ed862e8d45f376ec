//! The node's two clocks. They are different types on purpose: comparing the clocks of two nodes, or a monotonic
//! with a wall time, is the classic bug of leases, and here it does not compile.

use core::ops::{Add, Sub};
use core::time::Duration;

/// The node's own monotonic clock, in microseconds since its host booted. Drifts; stops in a VM suspend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalTime(pub u64);

impl LocalTime {
    /// Time passed since `earlier`; zero if `earlier` lies ahead.
    pub fn since(self, earlier: LocalTime) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for LocalTime {
    type Output = LocalTime;
    fn add(self, span: Duration) -> LocalTime {
        LocalTime(self.0.saturating_add(micros(span)))
    }
}

impl Sub<Duration> for LocalTime {
    type Output = LocalTime;
    fn sub(self, span: Duration) -> LocalTime {
        LocalTime(self.0.saturating_sub(micros(span)))
    }
}

/// The node's wall clock, in microseconds since the Unix epoch as this node believes it. It can jump either way.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct WallTime(pub i64);

impl WallTime {
    /// Signed distance from `earlier` in microseconds; negative after a jump backwards.
    pub fn micros_since(self, earlier: WallTime) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds since the Unix epoch.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
}

/// A duration in whole microseconds, saturating.
pub(crate) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
