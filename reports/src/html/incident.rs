//! One run as an incident: alert, grade, diagnosis, plan, the wait for a human, recovery, archive; the time of each.

use super::{cell, number_cell, table};
use crate::result::StoredRun;
use crate::text::{bytes, count, ms};
use firedrill_checkers::measure::{Measurement, Span};

/// The stages of the incident of a run; empty where there was no outage.
pub fn of_run(run: &StoredRun) -> String {
    let m = &run.measurement;
    if !m.rto.outage {
        return String::new();
    }
    let stages = [alert(m), grade(m), diagnosis(m), plan(m), human(run), recovery(m), archive(run)];
    let rows = stages.into_iter().map(|(stage, took, words)| {
        cell(stage) + &number_cell(&took.map_or("–".to_owned(), ms)) + &cell(&words)
    });
    format!(
        "<details><summary class=\"small\">This run as an incident</summary>\n{}</details>\n",
        table(&["stage", "#time", "what"], rows)
    )
}

type Stage = (&'static str, Option<f64>, String);

fn alert(m: &Measurement) -> Stage {
    let service = m.service.unwrap_or_default();
    let fired = |after: Option<f64>| {
        after.map_or("never fires".to_owned(), |after| format!("fires after {}", ms(after)))
    };
    let words = format!(
        "burn rate of 14.4: {}; more than 1 % of 5 minutes, for 10 minutes: {}",
        fired(service.burn_rate_after_ms),
        fired(service.ratio_after_ms)
    );
    ("alert", service.burn_rate_after_ms, words)
}

fn grade(m: &Measurement) -> Stage {
    let lost = m.rpo.writes.unwrap_or(0);
    let words = match (m.split_brain.grade, lost) {
        (2.., _) => {
            format!("two writable primaries for {}, {} writes lost", ms(m.split_brain.ms), count(lost))
        }
        (_, 1..) => format!("data lost: {} writes, {}", count(lost), bytes(m.rpo.bytes.unwrap_or(0))),
        (_, 0) => "outage without loss".to_owned(),
    };
    ("grade", None, words)
}

fn diagnosis(m: &Measurement) -> Stage {
    ("diagnosis", m.rto.phases.detect, "from the fault to the verdict that the primary is dead".to_owned())
}

fn plan(m: &Measurement) -> Stage {
    let phases = [m.rto.phases.elect, m.rto.phases.fence, m.rto.phases.promote];
    let took = phases.into_iter().flatten().reduce(|sum, phase| sum + phase);
    ("plan", took, "election, fence and promotion, without anybody's help".to_owned())
}

/// Orders that operators gave after the first failure: until then the plan waited for them.
fn human(run: &StoredRun) -> Stage {
    let faults = &run.records.journal.faults;
    let Some(first) = faults.iter().find(|fault| fault.kind != "command") else {
        return ("human", None, "nobody was needed".to_owned());
    };
    let order = faults.iter().find(|fault| fault.kind == "command" && fault.began > first.began);
    match order {
        Some(order) => (
            "human",
            Some(order.began.at.as_ms() - first.began.at.as_ms()),
            format!("waited for: {}", order.label),
        ),
        None => ("human", None, "nobody was needed".to_owned()),
    }
}

fn recovery(m: &Measurement) -> Stage {
    let (took, words) = match m.rto.first {
        Some(Span { ms, censored: false }) => (Some(ms), "a client's write was acknowledged"),
        Some(Span { .. }) | None => (None, "not before the run ended"),
    };
    ("recovery", took, words.to_owned())
}

fn archive(run: &StoredRun) -> Stage {
    ("archive", None, format!("the whole run, again and for ever: {}", run.replay))
}

#[cfg(test)]
mod tests {
    use super::*;
    use firedrill_checkers::record::{FaultRecord, Instant, SimTime};

    fn fault(kind: &str, second: u64) -> FaultRecord {
        let began = Instant { at: SimTime(second * 1_000_000), seq: second };
        let label = format!("{kind} struck");
        let kind = kind.to_owned();
        FaultRecord { kind, label, targets: vec![], began, healed: None, effects: 1, planned: false }
    }

    #[test]
    fn the_wait_for_a_human_counts_from_the_failure_to_the_order() {
        let mut run = StoredRun::default();
        assert_eq!(of_run(&run), "", "no outage, no incident");
        run.measurement.rto.outage = true;
        run.measurement.rpo.writes = Some(3);
        run.records.journal.faults = vec![fault("host_crash", 10), fault("command", 52)];
        assert_eq!(human(&run).1, Some(42_000.0));
        let page = of_run(&run);
        assert!(
            page.contains("waited for: command struck") && page.contains("data lost: 3 writes"),
            "{page}"
        );
        run.records.journal.faults.pop();
        assert_eq!(human(&run).1, None);
    }
}
