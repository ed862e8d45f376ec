//! When the promises that a run broke were broken, for those that have a moment.

use crate::run::meter_options;
use crate::scenario::Scenario;
use firedrill_checkers::expect::{self, Expectation, Operator, Subject};
use firedrill_checkers::measure::Measurement;
use firedrill_checkers::meter::lost_writes;
use firedrill_checkers::record::{Records, SimTime};
use firedrill_reports::result::ViolationAt;

/// The moments, in order: a recovery that takes too long is late when its target has passed; of writes that must not be
/// lost it is told when the first and the last were acknowledged. Two writable primaries are seen in any drawing.
pub fn violations(scenario: &Scenario, records: &Records, measurement: &Measurement) -> Vec<ViolationAt> {
    let expectations = scenario.expect.iter().filter_map(|text| expect::parse(text).ok());
    let broken: Vec<Expectation> =
        expectations.filter(|expectation| expectation.broken_by(measurement).is_some()).collect();
    let mut found: Vec<ViolationAt> =
        broken.iter().filter_map(|expectation| too_late(expectation, records, measurement)).collect();
    if broken.iter().any(|expectation| metric(expectation).starts_with("rpo.")) {
        found.extend(losses(scenario, records));
    }
    found.sort_by_key(|violation| violation.at);
    found
}

fn metric(expectation: &Expectation) -> &str {
    match &expectation.subject {
        Subject::Known(metric) => metric.0.name,
        Subject::Extra(name) => name,
    }
}

fn too_late(expectation: &Expectation, records: &Records, measurement: &Measurement) -> Option<ViolationAt> {
    let limits = matches!(expectation.operator, Operator::AtMost | Operator::Below);
    if metric(expectation) != "rto" || !limits {
        return None;
    }
    let fault = records.journal.faults.get(measurement.rto.fault? as usize)?;
    let allowed = (expectation.bound * 1_000.0) as u64;
    Some(ViolationAt {
        at: SimTime(fault.began.at.0 + allowed),
        what: format!("not recovered in time: {}", expectation.text),
    })
}

fn losses(scenario: &Scenario, records: &Records) -> Vec<ViolationAt> {
    let options = meter_options(scenario);
    let lost = lost_writes(records, &options).unwrap_or_default();
    let mut acks: Vec<SimTime> = lost.iter().filter_map(|write| Some(write.completed?.at)).collect();
    acks.sort_unstable();
    let told = |at: &SimTime, which: &str| ViolationAt {
        at: *at,
        what: format!("acknowledged the {which} of {} writes that are lost", acks.len()),
    };
    match acks.as_slice() {
        [] => Vec::new(),
        [only] => vec![ViolationAt { at: *only, what: "acknowledged a write that is lost".to_owned() }],
        [first, .., last] => vec![told(first, "first"), told(last, "last")],
    }
}
