//! The clocks of one host: a monotonic clock that drifts and stops, and a wall clock that also jumps.

use firedrill_protocols::contract::{LocalTime, WallTime};

/// Where every wall clock starts: 2026-01-01T00:00:00Z.
pub(super) const EPOCH_MICROS: i64 = 1_767_225_600_000_000;
const PPM: i128 = 1_000_000;

/// Local time as a linear function of true time, re-based whenever the rate changes so that it stays continuous.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    base_true: u64,
    base_local: u64,
    drift_ppm: i64,
    wall_offset: i64,
    stopped: bool,
}

impl Clock {
    pub(super) fn new() -> Self {
        Clock { base_true: 0, base_local: 0, drift_ppm: 0, wall_offset: 0, stopped: false }
    }

    /// The monotonic clock at a true time.
    pub(super) fn local(&self, now: u64) -> LocalTime {
        if self.stopped {
            return LocalTime(self.base_local);
        }
        let passed = i128::from(now - self.base_true);
        LocalTime(self.base_local + (passed * (PPM + i128::from(self.drift_ppm)) / PPM) as u64)
    }

    /// The wall clock at a true time.
    pub(super) fn wall(&self, now: u64) -> WallTime {
        WallTime(EPOCH_MICROS + self.local(now).0 as i64 + self.wall_offset)
    }

    /// The first true time, `now` or later, at which the monotonic clock shows `local` or more; never, if stopped.
    pub(super) fn when(&self, local: LocalTime, now: u64) -> Option<u64> {
        if self.stopped {
            return None;
        }
        let ahead = i128::from(local.0.saturating_sub(self.base_local));
        let rate = PPM + i128::from(self.drift_ppm);
        let passed = (ahead * PPM + rate - 1) / rate;
        Some(now.max(self.base_true.saturating_add(passed as u64)))
    }

    /// Run at another rate from now on.
    pub(super) fn set_drift(&mut self, now: u64, ppm: i64) {
        assert!(ppm > -1_000_000, "a clock cannot run backwards");
        self.rebase(now);
        self.drift_ppm = ppm;
    }

    /// The present rate.
    pub(super) fn drift(&self) -> i64 {
        self.drift_ppm
    }

    /// Move the wall clock.
    pub(super) fn jump_wall(&mut self, micros: i64) {
        self.wall_offset += micros;
    }

    /// Stop both clocks, or let them go on.
    pub(super) fn set_stopped(&mut self, now: u64, stopped: bool) {
        self.rebase(now);
        self.stopped = stopped;
    }

    fn rebase(&mut self, now: u64) {
        self.base_local = self.local(now).0;
        self.base_true = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_reaches_its_deadline_early() {
        let mut clock = Clock::new();
        clock.set_drift(0, 10_000);
        assert_eq!(clock.local(10_000_000), LocalTime(10_100_000));
        assert_eq!(clock.when(LocalTime(10_100_000), 0), Some(10_000_000));
    }

    #[test]
    fn a_change_of_rate_keeps_time_continuous() {
        let mut clock = Clock::new();
        clock.set_drift(4_000_000, 50_000);
        assert_eq!(clock.local(4_000_000), LocalTime(4_000_000));
        assert_eq!(clock.local(5_000_000), LocalTime(5_050_000));
    }

    #[test]
    fn a_stopped_clock_stands_and_goes_on_from_there() {
        let mut clock = Clock::new();
        clock.set_stopped(2_000_000, true);
        assert_eq!(clock.local(9_000_000), LocalTime(2_000_000));
        assert_eq!(clock.when(LocalTime(3_000_000), 9_000_000), None);
        clock.set_stopped(9_000_000, false);
        assert_eq!(clock.when(LocalTime(3_000_000), 9_000_000), Some(10_000_000));
    }

    #[test]
    fn a_jump_moves_the_wall_clock_only() {
        let mut clock = Clock::new();
        let before = clock.wall(1_000);
        clock.jump_wall(-3_000_000);
        assert_eq!(clock.wall(1_000).micros_since(before), -3_000_000);
        assert_eq!(clock.local(1_000), LocalTime(1_000));
    }
}
