//! From the lines of all runs to the summary of a scenario: one pass, one sort per metric.
//!
//! Inert runs (a fault without effect) are counted and kept out of percentiles; safety is judged over every run.
//! Runs that never recovered stay in every percentile as longer than any other.

use crate::result::{
    BackupSummary, FailoverSummary, FaultSummary, Figure, LinearizableSummary, PhaseSummary, PhasesSummary,
    ReadSummary, RpoSummary, RtoSummary, RunLine, ScenarioSummary, SplitBrainSummary,
};
use firedrill_checkers::backup::Backups;
use firedrill_checkers::expect::aggregate::Percentiles;
use firedrill_checkers::expect::{Aggregation, Expectation, Operator, Subject};
use firedrill_checkers::measure::{Linearizability, Measurement, Phases};
use firedrill_checkers::record::Failure;
use firedrill_checkers::stats::{Distribution, Sample};
use std::collections::{BTreeMap, BTreeSet};

/// The figures of `lines`, all of one scenario and backend. Name, verdict, expectations and failures are the
/// caller's to add: they need the scenario.
pub fn summarise(lines: &[RunLine]) -> ScenarioSummary {
    let measured: Vec<&Measurement> = lines.iter().filter(|l| !l.inert).map(|l| &l.measurement).collect();
    let all = || lines.iter().map(|line| &line.measurement);
    let first = lines.first();
    ScenarioSummary {
        name: first.map(|l| l.scenario.clone()).unwrap_or_default(),
        backend: first.map(|l| l.backend.clone()).unwrap_or_default(),
        runs: lines.len() as u64,
        inert: lines.iter().filter(|l| l.inert).count() as u64,
        rto_ms: rto(&measured),
        phases_ms: phases(&measured),
        rpo: all().fold(RpoSummary::default(), add_loss),
        split_brain: all().fold(SplitBrainSummary::default(), add_split_brain),
        linearizable: all().fold(LinearizableSummary::default(), add_linearizable),
        faults: all().fold(FaultSummary::default(), |sum, m| FaultSummary {
            injected: sum.injected + u64::from(m.faults),
            effective: sum.effective + u64::from(m.faults_effective),
        }),
        failovers: all().fold(FailoverSummary::default(), add_failovers),
        reads: all().fold(ReadSummary::default(), add_reads),
        refusals: refusals(all()),
        stuck: all().filter(|m| m.stuck).count() as u64,
        not_converged: all().filter(|m| m.converged == Some(false)).count() as u64,
        truth_disagreements: all().filter(|m| m.truth_agrees == Some(false)).count() as u64,
        backup: backup(&lines.iter().map(|line| &line.measurement).collect::<Vec<_>>()),
        extra: extra(&measured),
        failures_total: lines.iter().filter(|l| l.failed()).count() as u64,
        sim_seconds: lines.iter().map(|l| l.sim_seconds).sum(),
        cpu_seconds: lines.iter().map(|l| l.cpu_seconds).sum::<Option<f64>>().filter(|_| !lines.is_empty()),
        ..ScenarioSummary::default()
    }
}

/// The recovery times of some runs; runs that never recovered come last, as longer than any other.
pub fn recovery_times<'a>(measured: impl Iterator<Item = &'a Measurement>) -> Distribution {
    let spans = measured.filter_map(|m| m.rto.first).filter(|span| span.ms.is_finite());
    spans.map(|span| Sample { value: span.ms, censored: span.censored }).collect()
}

/// The target for the tail of the recovery time that expectations set: the bound of `rto.p99`, else of the largest
/// run. A target for the median is none for the tail.
pub fn recovery_target<'a>(expectations: impl Iterator<Item = &'a Expectation>) -> Option<f64> {
    let of_rto = |e: &&Expectation| matches!(&e.subject, Subject::Known(metric) if metric.0.name == "rto");
    let upper = |e: &&Expectation| matches!(e.operator, Operator::AtMost | Operator::Below);
    let rank = |e: &Expectation| match e.aggregation {
        Aggregation::Percentile(990) => Some(0),
        Aggregation::Max | Aggregation::EachRun => Some(1),
        Aggregation::Percentile(per_mille) if per_mille > 900 => Some(2),
        Aggregation::Percentile(_) | Aggregation::Min | Aggregation::Mean | Aggregation::Sum => None,
    };
    let targets = expectations.filter(of_rto).filter(upper).filter_map(|e| Some((rank(e)?, e.bound)));
    targets.min_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))).map(|(_, bound)| bound)
}

fn rto(measured: &[&Measurement]) -> RtoSummary {
    let times = recovery_times(measured.iter().copied());
    let Some(p) = Percentiles::of(&times) else { return RtoSummary::default() };
    let known = |sample: Option<Sample>| sample.filter(|s| !s.censored).map(|s| s.value);
    let (low, high) = times.interval(990);
    RtoSummary {
        p50: Some(p.p50),
        p90: Some(p.p90),
        p95: Some(p.p95),
        p99: Some(p.p99),
        max: Some(p.max),
        censored: u64::from(p.censored),
        samples: u64::from(p.samples),
        lower_bounds: p.lower_bounds,
        maxima: p.maxima,
        p99_low: known(low),
        p99_high: known(high),
        target: None,
    }
}

fn phases(measured: &[&Measurement]) -> PhasesSummary {
    let total: f64 = measured.iter().map(|m| phase_sum(&m.rto.phases)).sum();
    let one = |get: fn(&Phases) -> Option<f64>| phase(measured, get, total);
    PhasesSummary {
        detect: one(|p| p.detect),
        elect: one(|p| p.elect),
        fence: one(|p| p.fence),
        promote: one(|p| p.promote),
        redirect: one(|p| p.redirect),
    }
}

fn phase_sum(phases: &Phases) -> f64 {
    [phases.detect, phases.elect, phases.fence, phases.promote, phases.redirect].into_iter().flatten().sum()
}

fn phase(measured: &[&Measurement], get: fn(&Phases) -> Option<f64>, total: f64) -> Option<PhaseSummary> {
    let figures = measured.iter().filter_map(|m| get(&m.rto.phases)).filter(|ms| ms.is_finite());
    let times: Distribution = figures.map(Sample::exact).collect();
    if times.is_empty() {
        return None;
    }
    let share = (total > 0.0).then(|| times.sorted().iter().map(|s| s.value).sum::<f64>() / total);
    let at = |per_mille| times.quantile(per_mille).map(|q| q.value);
    Some(PhaseSummary { p50: at(500), p99: at(990), share })
}

fn add_loss(mut sum: RpoSummary, m: &Measurement) -> RpoSummary {
    let writes = m.rpo.writes.unwrap_or(0);
    sum.writes_max = sum.writes_max.max(m.rpo.writes);
    sum.bytes_max = sum.bytes_max.max(m.rpo.bytes);
    sum.time_ms_max = larger(sum.time_ms_max, m.rpo.time_ms);
    sum.post_ms_max = larger(sum.post_ms_max, m.rpo.post_ms);
    sum.runs_with_loss += u64::from(writes > 0);
    sum.writes_total += writes;
    sum.causes.unreplicated += m.rpo.causes.unreplicated;
    sum.causes.stale_primary += m.rpo.causes.stale_primary;
    sum.causes.other += m.rpo.causes.other;
    sum.unknown_survived += m.rpo.unknown_survived;
    sum.unknown_vanished += m.rpo.unknown_vanished;
    sum.phantom_writes += m.rpo.phantom_writes;
    sum.duplicates += m.rpo.duplicates;
    sum.runs_unknown += u64::from(m.rpo.writes.is_none());
    sum.runs_unresolved += u64::from(!m.rpo.unresolved.is_empty());
    sum.visible_only |= m.rpo.visible_only;
    sum
}

/// The larger of two figures; a figure beats none, and what is not a number is none.
fn larger(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b.filter(|b| b.is_finite())) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

fn add_split_brain(mut sum: SplitBrainSummary, m: &Measurement) -> SplitBrainSummary {
    let grade = m.split_brain.grade.min(4);
    sum.grade_max = sum.grade_max.max(grade);
    sum.ms_max = larger(Some(sum.ms_max), Some(m.split_brain.ms)).unwrap_or(sum.ms_max);
    sum.divergent_writes_max = sum.divergent_writes_max.max(m.split_brain.divergent_writes);
    sum.runs += u64::from(grade >= 2);
    sum.runs_by_grade[usize::from(grade)] += 1;
    sum
}

fn add_linearizable(mut sum: LinearizableSummary, m: &Measurement) -> LinearizableSummary {
    match m.linearizable {
        Linearizability::Holds => sum.holds += 1,
        Linearizability::Violated { .. } => sum.violated += 1,
        Linearizability::Unknown { .. } => sum.unknown += 1,
        Linearizability::NotChecked => sum.not_checked += 1,
    }
    sum
}

fn add_failovers(mut sum: FailoverSummary, m: &Measurement) -> FailoverSummary {
    let count = u64::from(m.failover.count);
    sum.min = Some(sum.min.map_or(count, |min| min.min(count)));
    sum.max = sum.max.max(Some(count));
    sum.false_failovers += u64::from(m.failover.false_failovers);
    sum.missed += u64::from(m.failover.missed);
    sum.needless += u64::from(m.failover.needless);
    sum.flaps += u64::from(m.failover.flaps);
    sum.aborted += u64::from(m.failover.aborted);
    sum
}

fn add_reads(mut sum: ReadSummary, m: &Measurement) -> ReadSummary {
    sum.stale += m.reads.stale;
    sum.dirty += m.reads.dirty;
    sum.staleness_ms_max = larger(sum.staleness_ms_max, m.reads.staleness_max_ms);
    sum
}

fn refusals<'a>(all: impl Iterator<Item = &'a Measurement>) -> BTreeMap<Failure, u64> {
    let mut sum = BTreeMap::new();
    for (failure, count) in all.flat_map(|m| &m.load.refusals) {
        *sum.entry(*failure).or_default() += count;
    }
    sum
}

fn backup(all: &[&Measurement]) -> Option<BackupSummary> {
    let backups: Vec<&Backups> = all.iter().filter_map(|m| m.backup.as_ref()).collect();
    let sum = |of: fn(&Backups) -> u64| backups.iter().map(|b| of(b)).sum();
    let spread = |of: fn(&Backups) -> Option<f64>| {
        figure(backups.iter().filter_map(|b| of(b)).map(Sample::exact).collect())
    };
    let first = backups.iter().find_map(|b| b.broken.first());
    (!backups.is_empty()).then(|| BackupSummary {
        proved: sum(|b| b.restorable),
        refused: sum(|b| b.refused),
        broken: sum(|b| b.broken_total),
        first_broken: first.map(|b| format!("{}, backup {}: {}", b.rule, b.backup, b.why)),
        restored: sum(|b| b.restored),
        restore_rto_ms: spread(|b| b.restore_rto_ms),
        restore_rpo_bytes: spread(|b| b.restore_rpo_bytes.map(|bytes| bytes as f64)),
        disaster_bytes: spread(|b| b.disaster_bytes.map(|bytes| bytes as f64)),
    })
}

fn extra(measured: &[&Measurement]) -> BTreeMap<String, Figure> {
    let names: BTreeSet<&String> = measured.iter().flat_map(|m| m.extra.keys()).collect();
    let one = |name: &String| {
        let samples = measured.iter().filter_map(|m| m.extra.get(name)).map(|value| Sample::exact(*value));
        figure(samples.collect()).map(|figure| (name.clone(), figure))
    };
    names.into_iter().filter_map(one).collect()
}

/// A measure over the runs that have it; `None` if none has.
pub fn figure(of: Distribution) -> Option<Figure> {
    Some(Figure {
        samples: of.len() as u64,
        min: of.min()?.value,
        p50: of.quantile(500)?.value,
        p99: of.quantile(990)?.value,
        max: of.max()?.value,
        censored: of.censored() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Seed;
    use firedrill_checkers::measure::Span;

    fn run(seed: u64, ms: f64, censored: bool) -> RunLine {
        let mut line = RunLine { seed: Seed(seed), ..RunLine::default() };
        line.measurement.rto.first = Some(Span { ms, censored });
        line
    }

    #[test]
    fn a_run_that_never_recovered_stays_in_every_percentile() {
        let mut lines: Vec<RunLine> = (0..300).map(|i| run(i, i as f64, false)).collect();
        lines.extend((300..310).map(|i| run(i, 70_000.0, true)));
        let rto = summarise(&lines).rto_ms;
        assert_eq!((rto.p50, rto.p99, rto.max), (Some(154.0), Some(70_000.0), Some(70_000.0)));
        assert_eq!((rto.censored, rto.samples, rto.p99_high), (10, 310, None));
        assert_eq!(rto.lower_bounds, ["p99", "max"]);
    }

    #[test]
    fn with_too_few_samples_a_percentile_is_the_maximum() {
        let lines: Vec<RunLine> = (1..=20).map(|i| run(i, i as f64, false)).collect();
        let rto = summarise(&lines).rto_ms;
        assert_eq!((rto.p50, rto.p90, rto.p99), (Some(10.0), Some(20.0), Some(20.0)));
    }

    #[test]
    fn inert_runs_are_counted_and_left_out_of_percentiles_but_not_of_safety() {
        let mut inert = run(2, 9_000.0, false);
        inert.inert = true;
        inert.measurement.split_brain.grade = 3;
        let summary = summarise(&[run(1, 10.0, false), inert]);
        assert_eq!((summary.runs, summary.inert, summary.rto_ms.max), (2, 1, Some(10.0)));
        assert_eq!((summary.split_brain.grade_max, summary.split_brain.runs), (3, 1));
    }

    #[test]
    fn what_nobody_measured_is_none_and_never_zero() {
        let summary = summarise(&[RunLine::default()]);
        assert_eq!(summary.rto_ms.p50, None);
        assert_eq!(summary.rpo.writes_max, None);
        assert_eq!(summary.phases_ms.detect, None);
        assert_eq!(summarise(&[]).failovers.max, None);
        assert_eq!(summarise(&[]).cpu_seconds, None);
    }

    #[test]
    fn the_target_is_the_one_for_the_tail() {
        let target = |texts: &[&str]| {
            let parsed: Vec<Expectation> = texts.iter().map(|t| t.parse().unwrap()).collect();
            recovery_target(parsed.iter())
        };
        assert_eq!(target(&["rto.p50 <= 5s", "rto <= 30s", "rto.p99 <= 12s"]), Some(12_000.0));
        assert_eq!(target(&["rto.max < 30s", "rto.stable.p99 <= 1s"]), Some(30_000.0));
        assert_eq!(target(&["rto.p50 <= 5s", "rto.max >= 1s"]), None);
    }

    #[test]
    fn shares_of_the_phases_add_up_to_the_whole() {
        let mut line = run(1, 1_000.0, false);
        line.measurement.rto.phases = Phases {
            detect: Some(700.0),
            elect: Some(200.0),
            fence: None,
            promote: Some(0.0),
            redirect: Some(100.0),
        };
        let phases = summarise(&[line]).phases_ms;
        let sum: f64 = phases.named().iter().filter_map(|(_, _, p)| p.and_then(|p| p.share)).sum();
        assert!((sum - 1.0).abs() < 1e-9);
        assert_eq!(phases.fence, None);
    }
}
