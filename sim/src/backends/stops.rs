//! Why a process stands still: the faults that stop it, and the one that is to stop it in the middle of a step.

use crate::world::FaultId;

/// The stops of one process.
#[derive(Debug, Default)]
pub(crate) struct Stops {
    by: Vec<FaultId>,
    /// It is to stop at its next step that sends.
    hold_next: Option<FaultId>,
    /// It did: between its decision and its sends.
    holds: bool,
}

/// What the end of a fault means to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifted {
    /// What it holds, or was to hold, may go.
    pub(crate) release: bool,
    /// It runs again.
    pub(crate) runs: bool,
}

impl Stops {
    /// A fault stops the process.
    pub(crate) fn stop(&mut self, fault: FaultId) {
        self.by.push(fault);
    }

    /// A fault wants it to stop at its next step that sends.
    pub(crate) fn hold_next(&mut self, fault: FaultId) {
        self.hold_next = Some(fault);
    }

    /// It froze in the middle of a step: the fault that wanted it, if that is still on.
    pub(crate) fn held(&mut self) -> Option<FaultId> {
        let fault = self.hold_next.take()?;
        self.holds = true;
        Some(fault)
    }

    /// The fault is over.
    pub(crate) fn lift(&mut self, fault: FaultId) -> Lifted {
        let unmet = self.hold_next.take_if(|by| *by == fault).is_some();
        let stopped = !self.by.is_empty();
        self.by.retain(|by| *by != fault);
        let runs = stopped && self.by.is_empty();
        Lifted { release: unmet || runs && std::mem::take(&mut self.holds), runs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: FaultId = FaultId(1);
    const TWO: FaultId = FaultId(2);

    #[test]
    fn a_process_runs_again_when_the_last_fault_that_stops_it_is_over() {
        let mut stops = Stops::default();
        stops.stop(ONE);
        stops.stop(TWO);
        assert_eq!(stops.lift(ONE), Lifted { release: false, runs: false });
        assert_eq!(stops.lift(ONE), Lifted { release: false, runs: false });
        assert_eq!(stops.lift(TWO), Lifted { release: false, runs: true });
        assert_eq!(stops.lift(TWO), Lifted { release: false, runs: false });
    }

    #[test]
    fn what_is_held_is_released_when_the_process_runs_or_nobody_wants_it_held_any_more() {
        let mut stops = Stops::default();
        stops.hold_next(ONE);
        assert_eq!(stops.lift(ONE), Lifted { release: true, runs: false });
        assert_eq!(stops.held(), None);
        stops.hold_next(TWO);
        assert_eq!(stops.held(), Some(TWO));
        stops.stop(TWO);
        assert_eq!(stops.lift(TWO), Lifted { release: true, runs: true });
    }
}
