//! Faults of clocks and disks that are on, together, and the proof that each acted.

use crate::world::{ClockFault, DiskFault, FaultId};
use firedrill_node::memory_disk::{DiskState, Failing};
use std::time::Duration;

/// Faults of the clocks of one machine, with the steps that its processes had made before: each step since has read a
/// clock that was wrong.
#[derive(Debug, Default)]
pub(super) struct ClockFaults(Vec<(FaultId, ClockFault, u64)>);

impl ClockFaults {
    /// A fault begins after so many steps.
    pub(super) fn begin(&mut self, fault: FaultId, kind: ClockFault, steps: u64) {
        self.0.push((fault, kind, steps));
    }

    /// The sum of all drifts that are on, in millionths.
    pub(super) fn drift(&self) -> i64 {
        let drift = |kind: &ClockFault| match kind {
            ClockFault::Drift(ppm) => *ppm,
            ClockFault::Jump(_) => 0,
        };
        self.0.iter().map(|(_, kind, _)| drift(kind)).sum()
    }

    /// A fault is over: what it was. Its [`readings`](Self::readings) must be asked for before.
    pub(super) fn end(&mut self, fault: FaultId) -> Vec<ClockFault> {
        self.0.extract_if(.., |(by, ..)| *by == fault).map(|(_, kind, _)| kind).collect()
    }

    /// Wrong readings of a fault that is on, after so many steps.
    pub(super) fn readings(&self, fault: FaultId, steps: u64) -> u64 {
        let mine = self.0.iter().filter(|(by, ..)| *by == fault);
        mine.map(|(_, _, before)| steps.saturating_sub(*before)).sum()
    }
}

/// Faults of one disk, with the syncs and writes that were troubled before.
#[derive(Debug, Default)]
pub(super) struct DiskFaults(Vec<(FaultId, DiskFault, u64)>);

impl DiskFaults {
    /// A fault begins.
    pub(super) fn begin(&mut self, fault: FaultId, kind: DiskFault, troubled: u64) {
        self.0.push((fault, kind, troubled));
    }

    /// A fault is over: what it did, or `None` if it was none of this disk.
    pub(super) fn end(&mut self, fault: FaultId, troubled: u64) -> Option<u64> {
        let over: Vec<_> = self.0.extract_if(.., |(by, ..)| *by == fault).collect();
        (!over.is_empty()).then(|| over.iter().map(|(_, _, before)| troubled - before).sum())
    }

    /// What a fault that is on has done.
    pub(super) fn effects(&self, fault: FaultId, troubled: u64) -> u64 {
        let mine = self.0.iter().filter(|(by, ..)| *by == fault);
        mine.map(|(_, _, before)| troubled - before).sum()
    }

    /// All faults together: delays add, one stuck or full device is enough. `begun` is the fault that has just begun: one
    /// that fails a single sync does so once.
    pub(super) fn apply(&self, state: &mut DiskState, begun: Option<DiskFault>) {
        let kinds: Vec<DiskFault> = self.0.iter().map(|(_, kind, _)| *kind).collect();
        state.slow = kinds.iter().map(slowness).sum();
        state.stuck = kinds.contains(&DiskFault::Stuck);
        state.full = kinds.contains(&DiskFault::Full);
        state.failing = if kinds.contains(&DiskFault::Fail { once: false }) {
            Some(Failing::Always)
        } else if begun == Some(DiskFault::Fail { once: true }) {
            Some(Failing::Once)
        } else {
            state.failing.filter(|failing| *failing == Failing::Once)
        };
    }
}

fn slowness(kind: &DiskFault) -> Duration {
    match kind {
        DiskFault::Slow(span) => *span,
        DiskFault::Stuck | DiskFault::Fail { .. } | DiskFault::Full => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: FaultId = FaultId(1);
    const TWO: FaultId = FaultId(2);

    #[test]
    fn drifts_add_and_every_step_since_a_fault_began_has_read_a_wrong_clock() {
        let mut faults = ClockFaults::default();
        faults.begin(ONE, ClockFault::Drift(100), 7);
        faults.begin(TWO, ClockFault::Drift(-30), 9);
        faults.begin(TWO, ClockFault::Jump(5), 9);
        assert_eq!((faults.drift(), faults.readings(ONE, 10), faults.readings(TWO, 10)), (70, 3, 2));
        assert_eq!(faults.end(TWO).len(), 2);
        assert_eq!((faults.drift(), faults.readings(TWO, 10)), (100, 0));
    }

    #[test]
    fn a_sync_that_is_to_fail_once_fails_whatever_else_begins_or_ends() {
        let (mut faults, mut state) = (DiskFaults::default(), DiskState::default());
        let once = DiskFault::Fail { once: true };
        faults.begin(ONE, once, 0);
        faults.apply(&mut state, Some(once));
        faults.begin(TWO, DiskFault::Slow(Duration::from_secs(1)), 0);
        faults.apply(&mut state, Some(DiskFault::Slow(Duration::from_secs(1))));
        assert_eq!((state.failing, state.slow), (Some(Failing::Once), Duration::from_secs(1)));
        assert_eq!((faults.end(TWO, 3), faults.end(TWO, 3)), (Some(3), None));
        faults.apply(&mut state, None);
        assert_eq!((state.failing, state.slow), (Some(Failing::Once), Duration::ZERO));
    }
}
