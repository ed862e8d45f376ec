//! The twin of a run: the same seed without the faults.

use crate::run;
use crate::scenario::Scenario;
use firedrill_checkers::meter::twin::{self, TwinComparison};

/// Runs a seed with and without the scenario's faults and compares the two.
pub fn compare_with_twin(scenario: &Scenario, seed: u64) -> TwinComparison {
    let calm = Scenario { faults: Vec::new(), ..scenario.clone() };
    let records = |scenario: &Scenario| run::run(scenario, seed, &run::Detail::default()).records;
    twin::compare(&records(scenario), &records(&calm), &run::meter_options(scenario))
}
