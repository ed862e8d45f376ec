//! The arithmetic of leases, without messages or timers.
//!
//! A holder may act until `anchor + ttl * (1 - r) - e` on its own clock, where `r` bounds the error of the two clock
//! rates together and `e` covers steps that are not instant. The grantor frees the lease at `received + ttl` on its
//! own clock. As the renewal is received after it was sent, counting from *before the sending* is safe for any delay
//! of the network, as long as the true rate error is at most `r` and the holder looks at the moment it acts
//! (Gray and Cheriton 1989, section 2; Chubby 2006, section 2.8).

use super::settings::{Anchor, LeaseCheck, LeaseClock, LeaseSettings};
use crate::contract::*;

/// Both clocks of a node at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clocks {
    /// Monotonic.
    pub local: LocalTime,
    /// Wall.
    pub wall: WallTime,
}

impl Clocks {
    /// The clocks of a step.
    pub fn of<S: System>(cx: &Cx<'_, S>) -> Self {
        Clocks { local: cx.now(), wall: cx.wall() }
    }

    /// Microseconds that the lease's clock has moved since `earlier`; negative after a step backwards.
    fn micros_since(self, earlier: Clocks, clock: LeaseClock) -> i64 {
        match clock {
            LeaseClock::Monotonic => self.local.0 as i64 - earlier.local.0 as i64,
            LeaseClock::Wall => self.wall.micros_since(earlier.wall),
        }
    }
}

/// The span that a holder may act on one grant: `ttl * (1 - r) - e`, in whole microseconds, rounded down.
pub fn usable(settings: &LeaseSettings) -> Duration {
    let ttl = settings.ttl.as_micros() as u64;
    let lost = ttl.saturating_mul(u64::from(settings.rate_bound_ppm)).div_ceil(1_000_000);
    Duration::from_micros(ttl.saturating_sub(lost)).saturating_sub(settings.margin)
}

/// What a holder believes of its lease.
#[derive(Clone, Debug)]
pub struct Lease {
    settings: LeaseSettings,
    /// From when the newest grant counts; `None`: nothing was granted.
    anchor: Option<Clocks>,
    /// The holder gave up or was told that it lost.
    lost: bool,
    /// It was noticed that renewals fail.
    suspended: bool,
}

impl Lease {
    /// No grant yet.
    pub fn new(settings: LeaseSettings) -> Self {
        Lease { settings, anchor: None, lost: false, suspended: false }
    }

    /// A grant that was asked for at `sent` was received at `received`. Grants may arrive out of order: only one that
    /// counts from later than the newest extends the lease.
    pub fn granted(&mut self, sent: Clocks, received: Clocks) {
        let anchor = match self.settings.anchor {
            Anchor::Send => sent,
            Anchor::Receive | Anchor::Suspend => received,
        };
        let newer =
            self.anchor.is_none_or(|old| self.lost || anchor.micros_since(old, self.settings.clock) >= 0);
        if newer {
            self.anchor = Some(anchor);
            self.lost = false;
            self.suspended = false;
        }
    }

    /// The holder notices that a renewal was not answered in time. Where it counts from here, its lease grows longer.
    pub fn suspended(&mut self, now: Clocks) {
        if self.settings.anchor == Anchor::Suspend && self.valid(now) && !self.suspended {
            self.anchor = Some(now);
            self.suspended = true;
        }
    }

    /// The grantor said that the lease is gone, or the holder gives it back.
    pub fn lose(&mut self) {
        self.lost = true;
    }

    /// Whether the holder may act now.
    pub fn valid(&self, now: Clocks) -> bool {
        self.left(now) > Duration::ZERO
    }

    /// How much longer the holder may act.
    pub fn left(&self, now: Clocks) -> Duration {
        let Some(anchor) = self.anchor else { return Duration::ZERO };
        if self.lost {
            return Duration::ZERO;
        }
        let used = now.micros_since(anchor, self.settings.clock);
        let span = usable(&self.settings).as_micros() as i64;
        Duration::from_micros(u64::try_from(span.saturating_sub(used)).unwrap_or(0))
    }

    /// Whether the gate of acknowledgements asks for the lease.
    pub fn gates_ack(&self) -> bool {
        match self.settings.check {
            LeaseCheck::Ack => true,
            LeaseCheck::Start | LeaseCheck::Timer | LeaseCheck::Off => false,
        }
    }

    /// Whether an operation that begins asks for the lease.
    pub fn gates_start(&self) -> bool {
        match self.settings.check {
            LeaseCheck::Ack | LeaseCheck::Start => true,
            LeaseCheck::Timer | LeaseCheck::Off => false,
        }
    }

    /// Whether a lease that ran out takes the role away at all.
    pub fn used(&self) -> bool {
        self.settings.check != LeaseCheck::Off
    }
}

/// A grantor's and a holder's view of one renewal in true time, for the inequality below.
#[derive(Clone, Copy, Debug)]
pub struct Renewal {
    /// The renewal's way to the grantor.
    pub request_delay: Duration,
    /// The answer's way back, including any pause of the holder.
    pub answer_delay: Duration,
    /// How long the holder stands still between its look at the lease and what it does then.
    pub pause: Duration,
    /// How fast the holder's clock runs against true time, in parts per million (-500: loses 0.5 ms a second).
    pub holder_rate_ppm: i32,
    /// The same of the grantor's.
    pub grantor_rate_ppm: i32,
}

/// By how much, in true microseconds, the holder's last permitted moment lies *after* the grantor's first free one.
/// Zero or less is safe; more is the length of time with two holders.
///
/// ```text
/// holder   |--sent----------------received-------- stops at anchor + usable/(1 + holder rate)
/// grantor        |--got it-------------------- frees at request_delay + ttl/(1 + grantor rate)
/// ```
pub fn overlap_micros(settings: &LeaseSettings, renewal: &Renewal) -> i64 {
    let anchored_at = match settings.anchor {
        Anchor::Send => Duration::ZERO,
        Anchor::Receive => renewal.request_delay + renewal.answer_delay,
        // The next renewal is due one interval later, and found unanswered one interval after that.
        Anchor::Suspend => settings.renew_every * 2,
    };
    let late = match settings.check {
        LeaseCheck::Ack => Duration::ZERO,
        LeaseCheck::Start | LeaseCheck::Timer | LeaseCheck::Off => renewal.pause,
    };
    let stops_at =
        (anchored_at + late).as_micros() as i64 + true_micros(usable(settings), renewal.holder_rate_ppm);
    let frees_at =
        renewal.request_delay.as_micros() as i64 + true_micros(settings.ttl, renewal.grantor_rate_ppm);
    stops_at - frees_at
}

/// True time that passes while a clock of this rate shows `span`.
fn true_micros(span: Duration, rate_ppm: i32) -> i64 {
    let shown = span.as_micros() as i128;
    (shown * 1_000_000 / (1_000_000 + i128::from(rate_ppm))) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Clocks {
        Clocks { local: LocalTime(micros), wall: WallTime(micros as i64) }
    }

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_lease_ends_before_its_time_to_live_by_rate_bound_and_margin() {
        let settings = LeaseSettings::default();
        // 30 s less 0.1 % less 100 ms.
        assert_eq!(usable(&settings), Duration::from_micros(30_000_000 - 30_000 - 100_000));
        let mut lease = Lease::new(settings);
        assert!(!lease.valid(at(0)), "nothing granted yet");
        lease.granted(at(SECOND), at(2 * SECOND));
        assert!(lease.valid(at(SECOND + 29_869_999)));
        assert!(!lease.valid(at(SECOND + 29_870_000)));
    }

    #[test]
    fn counting_from_the_answer_outlives_counting_from_the_sending() {
        let mut lease = Lease::new(LeaseSettings { anchor: Anchor::Receive, ..LeaseSettings::default() });
        lease.granted(at(0), at(10 * SECOND));
        assert!(lease.valid(at(35 * SECOND)), "the grantor freed it five seconds ago");
    }

    #[test]
    fn counting_from_the_notice_that_renewals_fail_outlives_the_grant() {
        let mut lease = Lease::new(LeaseSettings { anchor: Anchor::Suspend, ..LeaseSettings::default() });
        lease.granted(at(0), at(0));
        lease.suspended(at(20 * SECOND));
        lease.suspended(at(30 * SECOND));
        assert!(lease.valid(at(45 * SECOND)), "the grantor freed it 15 seconds ago");
        assert!(!lease.valid(at(50 * SECOND)), "noticed once");
        let mut sound = Lease::new(LeaseSettings::default());
        sound.granted(at(0), at(0));
        sound.suspended(at(20 * SECOND));
        assert!(!sound.valid(at(30 * SECOND)));
    }

    #[test]
    fn a_late_answer_to_an_early_renewal_does_not_shorten_the_lease() {
        let mut lease = Lease::new(LeaseSettings::default());
        lease.granted(at(10 * SECOND), at(11 * SECOND));
        lease.granted(at(0), at(12 * SECOND));
        assert!(lease.valid(at(39 * SECOND)));
    }

    #[test]
    fn a_wall_clock_set_back_lengthens_a_lease_measured_on_it() {
        let wall = LeaseSettings { clock: LeaseClock::Wall, ..LeaseSettings::default() };
        let mut lease = Lease::new(wall);
        lease.granted(at(100 * SECOND), at(100 * SECOND));
        let later = Clocks { local: LocalTime(140 * SECOND), wall: WallTime(110_000_000) };
        assert!(lease.valid(later));
        let mut monotonic = Lease::new(LeaseSettings::default());
        monotonic.granted(at(100 * SECOND), at(100 * SECOND));
        assert!(!monotonic.valid(later));
    }

    /// The safety inequality, swept: within its conditions no overlap, and each broken condition shows one.
    #[test]
    fn within_the_rate_bound_no_delay_gives_two_holders() {
        let settings = LeaseSettings::default();
        let half = settings.rate_bound_ppm as i32 / 2;
        for request in [0, 1, 500, 5_000, 60_000] {
            for answer in [0, 1, 500, 5_000, 60_000] {
                for holder_rate_ppm in [-half, 0, half] {
                    for grantor_rate_ppm in [-half, 0, half] {
                        let renewal = Renewal {
                            request_delay: Duration::from_millis(request),
                            answer_delay: Duration::from_millis(answer),
                            pause: Duration::from_secs(60),
                            holder_rate_ppm,
                            grantor_rate_ppm,
                        };
                        assert!(overlap_micros(&settings, &renewal) <= 0, "{renewal:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn each_broken_condition_gives_two_holders() {
        let calm = Renewal {
            request_delay: Duration::from_millis(1),
            answer_delay: Duration::from_millis(1),
            pause: Duration::ZERO,
            holder_rate_ppm: 0,
            grantor_rate_ppm: 0,
        };
        let settings = LeaseSettings::default();
        let slow_holder = Renewal { holder_rate_ppm: -10_000, ..calm };
        assert!(overlap_micros(&settings, &slow_holder) > 0, "a clock slow beyond the bound");
        let receive = LeaseSettings { anchor: Anchor::Receive, ..settings };
        let late_answer = Renewal { answer_delay: Duration::from_secs(3), ..calm };
        assert!(overlap_micros(&settings, &late_answer) <= 0);
        assert!(overlap_micros(&receive, &late_answer) > 0, "an answer three seconds late");
        let suspend = LeaseSettings { anchor: Anchor::Suspend, ..settings };
        assert!(overlap_micros(&suspend, &calm) > 0, "counted from when the loss was noticed");
        let start = LeaseSettings { check: LeaseCheck::Start, ..settings };
        let paused = Renewal { pause: Duration::from_secs(1), ..calm };
        assert!(overlap_micros(&settings, &paused) <= 0, "looked at when it acts");
        assert!(overlap_micros(&start, &paused) > 0, "looked at before a pause of a second");
    }
}
