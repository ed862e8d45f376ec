//! A node's two clocks over the runtime's: offset, drift and jumps are set here, and timers follow.

use firedrill_protocols::contract::{Duration, LocalTime, WallTime};
use std::cell::RefCell;
use std::rc::Rc;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Longest sleep before a drifting clock is read again: bounds the rounding error of one long sleep.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// The clocks of a host. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct Clock {
    state: Rc<RefCell<State>>,
    changed: Rc<Notify>,
}

/// `local = base_local + (true - base_true) * (1 + ppm / 10^6)`; each change re-bases, so that local time has no step
/// but those asked for.
#[derive(Debug)]
struct State {
    /// None until the clock is read for the first time: then it begins to run.
    base_true: Option<Instant>,
    base_local: u64,
    base_wall: i64,
    drift_ppm: i64,
    /// The machine is suspended: both clocks stand still.
    stands: bool,
}

impl State {
    fn begun(&mut self) -> &mut State {
        self.base_true.get_or_insert_with(Instant::now);
        self
    }

    fn local(&self, now: Instant) -> u64 {
        let Some(base_true) = self.base_true.filter(|_| !self.stands) else { return self.base_local };
        let passed = i128::try_from(now.duration_since(base_true).as_micros()).unwrap_or(i128::MAX);
        let scaled = passed * i128::from(1_000_000 + self.drift_ppm) / 1_000_000;
        self.base_local.saturating_add(u64::try_from(scaled.max(0)).unwrap_or(u64::MAX))
    }

    fn wall(&self, now: Instant) -> i64 {
        self.base_wall.saturating_add_unsigned(self.local(now) - self.base_local)
    }

    fn rebase(&mut self, now: Instant) {
        (self.base_local, self.base_wall) = (self.local(now), self.wall(now));
        self.base_true = Some(now);
    }
}

impl Clock {
    /// A true clock that shows these values when it is read for the first time.
    pub fn new(local: LocalTime, wall: WallTime) -> Self {
        let state =
            State { base_true: None, base_local: local.0, base_wall: wall.0, drift_ppm: 0, stands: false };
        Clock { state: Rc::new(RefCell::new(state)), changed: Rc::default() }
    }

    /// The monotonic clock.
    pub fn now(&self) -> LocalTime {
        LocalTime(self.state.borrow_mut().begun().local(Instant::now()))
    }

    /// The wall clock.
    pub fn wall(&self) -> WallTime {
        WallTime(self.state.borrow_mut().begun().wall(Instant::now()))
    }

    /// From now on both clocks gain (or, negative, lose) this many microseconds in each second.
    pub fn set_drift(&self, ppm: i64) {
        self.change(|state| state.drift_ppm = ppm.max(-999_999));
    }

    /// Move the wall clock by this many microseconds.
    pub fn jump_wall(&self, micros: i64) {
        self.change(|state| state.base_wall = state.base_wall.saturating_add(micros));
    }

    /// The monotonic clock stood still for `gap`, as it does while a virtual machine is suspended.
    pub fn lose(&self, gap: Duration) {
        let gap_us = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX);
        self.change(|state| state.base_local = state.base_local.saturating_sub(gap_us));
    }

    /// Both clocks stand still from now on, as while a virtual machine is suspended.
    pub fn stand(&self) {
        self.change(|state| state.stands = true);
    }

    /// They go on where they stood.
    pub fn go_on(&self) {
        self.change(|state| state.stands = false);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.borrow_mut();
        state.rebase(Instant::now());
        change(&mut state);
        self.changed.notify_waiters();
    }

    /// Sleep until the monotonic clock shows `deadline`, whatever happens to the clock meanwhile.
    pub async fn sleep_until(&self, deadline: LocalTime) {
        loop {
            let changed = self.changed.notified();
            let left = self.true_time_until(deadline);
            if left.is_zero() {
                return;
            }
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep(left.min(SLEEP_MAX)) => {}
            }
        }
    }

    /// True time until the monotonic clock shows `deadline` at its present rate, rounded up.
    fn true_time_until(&self, deadline: LocalTime) -> Duration {
        let mut state = self.state.borrow_mut();
        let state = state.begun();
        if state.stands && deadline.0 > state.base_local {
            return SLEEP_MAX;
        }
        let left = u128::from(deadline.0.saturating_sub(state.local(Instant::now())));
        let rate = u128::try_from(1_000_000 + state.drift_ppm).unwrap_or(1).max(1);
        Duration::from_micros(u64::try_from((left * 1_000_000).div_ceil(rate)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Clock {
        Clock::new(LocalTime(0), WallTime(1_000_000))
    }

    async fn true_time_of(sleep: impl Future<Output = ()>) -> Duration {
        let begun = Instant::now();
        sleep.await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_clock_ends_a_lease_early_and_a_slow_one_late() {
        for (ppm, expected_ms) in [(10_000, 9_901), (-10_000, 10_102), (0, 10_000)] {
            let clock = clock();
            clock.set_drift(ppm);
            let slept = true_time_of(clock.sleep_until(LocalTime(10_000_000))).await;
            assert_eq!(slept.as_millis(), expected_ms, "drift {ppm} ppm");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_rate_reaches_a_sleeper() {
        let clock = clock();
        let other = clock.clone();
        let change = async move {
            tokio::time::sleep(Duration::from_secs(4)).await;
            other.set_drift(500_000);
            std::future::pending::<()>().await
        };
        let slept = true_time_of(async {
            tokio::select! { () = clock.sleep_until(LocalTime(10_000_000)) => {} () = change => {} }
        })
        .await;
        assert_eq!(slept.as_millis(), 8_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_stands_keeps_its_sleepers_until_it_goes_on() {
        let clock = clock();
        let other = clock.clone();
        let change = async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            other.stand();
            tokio::time::sleep(Duration::from_secs(7000)).await;
            assert_eq!(other.now(), LocalTime(1_000_000));
            other.go_on();
            std::future::pending::<()>().await
        };
        let slept = true_time_of(async {
            tokio::select! { () = clock.sleep_until(LocalTime(10_000_000)) => {} () = change => {} }
        })
        .await;
        assert_eq!(slept.as_secs(), 7010);
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspended_machine_loses_monotonic_time_and_a_jump_moves_the_wall_only() {
        let clock = clock();
        clock.now();
        tokio::time::advance(Duration::from_secs(5)).await;
        clock.lose(Duration::from_secs(2));
        clock.jump_wall(-4_000_000);
        assert_eq!((clock.now(), clock.wall()), (LocalTime(3_000_000), WallTime(2_000_000)));
    }
}
