//! When backups begin: a table-driven clock (cron) with a guard against overlapping runs.

use crate::contract::{Duration, WallTime};

/// When a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// Every so often.
    Every(Duration),
    /// Once a day, so long after midnight UTC of the agent's wall clock (`0 2 * * *` is two hours).
    Daily(Duration),
}

/// What happens when a run is due and the one before it has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overlap {
    /// The new run is skipped and counted.
    Skip,
    /// The new run begins when the old one has ended; at most one waits.
    Queue,
}

const DAY: i64 = 86_400 * 1_000_000;

impl Schedule {
    /// From now to the next run. A run that was missed while the agent was down is not made up for; the next one is
    /// found from the clock.
    pub fn until_next(self, now: WallTime) -> Duration {
        match self {
            Schedule::Every(span) => span,
            Schedule::Daily(at) => {
                let at = (at.as_micros() as i64).rem_euclid(DAY);
                let wait = (at - now.0.rem_euclid(DAY)).rem_euclid(DAY);
                Duration::from_micros(if wait == 0 { DAY } else { wait } as u64)
            }
        }
    }
}

/// The guard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    running: bool,
    waiting: bool,
    /// Runs that did not take place because another one had not ended.
    pub skipped: u32,
}

impl Guard {
    /// A run is due: whether it may begin now.
    pub fn due(&mut self, overlap: Overlap) -> bool {
        if !self.running {
            self.running = true;
            return true;
        }
        match overlap {
            Overlap::Queue if !self.waiting => self.waiting = true,
            Overlap::Queue | Overlap::Skip => self.skipped += 1,
        }
        false
    }

    /// The run ended: whether the one that waited begins now.
    pub fn ended(&mut self) -> bool {
        self.running = core::mem::take(&mut self.waiting);
        self.running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01T00:00:00Z.
    const MIDNIGHT: i64 = 1_767_225_600_000_000;

    #[test]
    fn two_o_clock_comes_once_a_day_whatever_the_clock_says_now() {
        let nightly = Schedule::Daily(Duration::from_secs(7_200));
        let wait = |after: i64| nightly.until_next(WallTime(MIDNIGHT + after * 1_000_000)).as_secs();
        assert_eq!(wait(0), 7_200);
        assert_eq!(wait(7_199), 1);
        assert_eq!(wait(7_200), 86_400, "the run of this very moment has begun");
        assert_eq!(wait(7_201), 86_399);
        assert_eq!(Schedule::Every(Duration::from_secs(5)).until_next(WallTime(3)), Duration::from_secs(5));
    }

    #[test]
    fn a_second_run_is_skipped_or_waits_and_a_third_never_queues_behind_it() {
        let mut guard = Guard::default();
        assert!(guard.due(Overlap::Skip) && !guard.due(Overlap::Skip));
        assert!(!guard.ended());
        assert_eq!(guard.skipped, 1);
        let mut guard = Guard::default();
        assert!(guard.due(Overlap::Queue) && !guard.due(Overlap::Queue) && !guard.due(Overlap::Queue));
        assert!(guard.ended() && !guard.ended());
        assert_eq!(guard.skipped, 1);
    }
}
