//! Judges the records of a run.

use super::accounts;
use crate::scenario::Scenario;
use firedrill_checkers::linear::{self, Overall};
use firedrill_checkers::measure::{Linearizability, Measurement};
use firedrill_checkers::meter::{self, MeterOptions};
use firedrill_checkers::record::{Records, SimTime};
use firedrill_checkers::sessions;

/// Everything that is measured in a run.
pub fn measure(scenario: &Scenario, records: &Records) -> Measurement {
    let mut measured = meter::measure(records, &meter_options(scenario));
    measured.linearizable = match linearizable(scenario.linearizability_budget, records) {
        Linearizability::Holds => accounts::judge(scenario, records).unwrap_or(Linearizability::Holds),
        other => other,
    };
    measured.sessions = asks_for_sessions(scenario).then(|| sessions::measure(&records.history));
    measured
}

/// Session guarantees are looked at where an expectation names them.
fn asks_for_sessions(scenario: &Scenario) -> bool {
    scenario.expect.iter().chain(&scenario.caught_by).any(|text| text.contains("sessions."))
}

/// What a scenario tells the meter.
pub fn meter_options(scenario: &Scenario) -> MeterOptions {
    MeterOptions { deadline: SimTime(scenario.probe.deadline.micros()), ..MeterOptions::default() }
}

fn linearizable(budget_steps: u64, records: &Records) -> Linearizability {
    if budget_steps == 0 {
        return Linearizability::NotChecked;
    }
    let options = linear::Options { budget_steps, threads: 1 };
    match linear::verdict_of(&records.history, &options) {
        Overall::Holds => Linearizability::Holds,
        // Only a verdict that needs words is asked for them.
        Overall::Violated | Overall::Unknown => explain(&linear::check_run(records, &options), records),
    }
}

fn explain(report: &linear::Report, records: &Records) -> Linearizability {
    let levels = || {
        let affordable = linear::levels::is_affordable(&records.history);
        affordable.then(|| Box::new(linear::levels::grade(&records.history, report)))
    };
    match report.strongest() {
        Some((key, evidence)) => Linearizability::Violated {
            key: key.key.clone(),
            why: format!("{}: {}", evidence.name, evidence.summary),
            levels: levels(),
        },
        None => {
            let s = &report.statistics;
            let why =
                format!("budget spent after {} steps, {} of {} keys undecided", s.steps, s.unknown, s.keys);
            Linearizability::Unknown { why }
        }
    }
}
