//! Expectations: reading them, refusing wrong ones helpfully, and judging.

use super::aggregate::Percentiles;
use super::registry::{METRICS, Unit};
use super::*;
use crate::measure::{Linearizability, Span};
use crate::stats::{Distribution, Sample};

fn read(text: &str) -> Expectation {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refuse(text: &str) -> ParseError {
    parse(text).expect_err(text)
}

fn recovered(ms: f64) -> Measurement {
    let mut run = Measurement { faults: 1, faults_effective: 1, ..Measurement::default() };
    run.rto.first = Some(Span { ms, censored: false });
    run.rpo.writes = Some(0);
    run
}

fn never_recovered(ms: f64) -> Measurement {
    let mut run = recovered(ms);
    run.rto.first = Some(Span { ms, censored: true });
    run
}

fn with(change: impl Fn(&mut Measurement)) -> Measurement {
    let mut run = recovered(1.0);
    change(&mut run);
    run
}

#[test]
fn every_form_of_an_expectation_is_read() {
    for (text, aggregation, operator, bound) in [
        ("rto.p99 <= 12s", Aggregation::Percentile(990), Operator::AtMost, 12_000.0),
        ("rto.max < 30s", Aggregation::Max, Operator::Below, 30_000.0),
        ("rpo.writes_max == 0", Aggregation::Max, Operator::Equal, 0.0),
        ("rpo.bytes_max <= 1024B", Aggregation::Max, Operator::AtMost, 1024.0),
        ("rpo.bytes<=1.5KiB", Aggregation::EachRun, Operator::AtMost, 1536.0),
        ("rpo.time_ms_max <= 200ms", Aggregation::Max, Operator::AtMost, 200.0),
        ("split_brain.grade <= 1", Aggregation::EachRun, Operator::AtMost, 1.0),
        ("split_brain.ms.max <= 250us", Aggregation::Max, Operator::AtMost, 0.25),
        ("failovers >= 1", Aggregation::EachRun, Operator::AtLeast, 1.0),
        ("linearizable", Aggregation::EachRun, Operator::Equal, 1.0),
        ("not linearizable", Aggregation::EachRun, Operator::Equal, 0.0),
        ("converged == false", Aggregation::EachRun, Operator::Equal, 0.0),
        ("phases.detect.p50 < 2m", Aggregation::Percentile(500), Operator::Below, 120_000.0),
        ("false_failovers == 0", Aggregation::EachRun, Operator::Equal, 0.0),
        ("stuck == 0", Aggregation::Sum, Operator::Equal, 0.0),
        ("rto.censored == 0", Aggregation::Sum, Operator::Equal, 0.0),
        ("extra.restore_ms.p50 <= 200ms", Aggregation::Percentile(500), Operator::AtMost, 200.0),
        ("extra.replication_lag != 7", Aggregation::EachRun, Operator::Unequal, 7.0),
        ("  rto.first.p999  >  1h ", Aggregation::Percentile(999), Operator::Above, 3_600_000.0),
    ] {
        let found = read(text);
        assert_eq!(
            (found.aggregation, found.operator, found.bound),
            (aggregation, operator, bound),
            "{text}"
        );
        assert_eq!(found.to_string(), text.trim());
    }
}

#[test]
fn every_metric_has_one_name_and_can_be_read_back() {
    let mut names: Vec<&str> =
        METRICS.iter().flat_map(|m| m.aliases.iter().copied().chain([m.name])).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "no name means two metrics");
    for metric in METRICS {
        let text = match metric.unit {
            Unit::Time => format!("{} <= 1s", metric.name),
            Unit::Bytes => format!("{} <= 1B", metric.name),
            Unit::Count => format!("{} <= 1", metric.name),
            Unit::Flag => metric.name.to_owned(),
        };
        assert_eq!(read(&text).subject, Subject::Known(KnownMetric(metric)));
        assert!(!metric.meaning.is_empty());
    }
}

#[test]
fn a_wrong_name_is_refused_with_the_nearest_right_one() {
    for (text, position, suggestion) in [
        ("rtp.p99 <= 12s", 0, "rto.p99"),
        ("split_brian.grade <= 1", 0, "split_brain.grade"),
        ("rto.p98 <= 12s", 4, "p90"),
        ("rto.reed <= 12s", 0, "rto.read"),
        ("failovers.p97 <= 1", 10, "p90"),
        ("linearisable", 0, "linearizable"),
        ("not convergd", 4, "converged"),
        ("rpo.write == 0", 0, "rpo.writes"),
        ("rto => 3s", 4, ">="),
        ("rto = 3s", 4, "=="),
        ("rpo.bytes <= 3kib", 14, "3KiB"),
        ("linearizable.p99", 12, "linearizable"),
        ("failovers == 3s", 14, "3"),
    ] {
        let error = refuse(text);
        assert_eq!(error.position, position, "{text}: {error}");
        assert_eq!(error.suggestion.as_deref(), Some(suggestion), "{text}: {error}");
        assert!(!error.allowed.is_empty() || error.what.contains("plain number"), "{text}: {error}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_is_allowed() {
    for (text, position, what) in [
        ("", 0, "expected the name of a metric"),
        ("not", 3, "expected the name of a metric"),
        ("quux <= 3", 0, "unknown metric `quux`"),
        ("rto.p99", 7, "expected a comparison"),
        ("rto.p99 <=", 10, "expected a value"),
        ("rto.p99 <= 12", 13, "`12` needs a unit"),
        ("rto.p99 <= 12x", 13, "unknown unit `x`"),
        ("rto.p99 <= s", 11, "`s` is no number"),
        ("rto.p99 <= 1s 2s", 14, "`2s` is too much"),
        ("not rto <= 1s", 4, "`not` needs a metric that is yes or no"),
        ("not linearizable == true", 17, "`not` stands without a comparison"),
        ("linearizable == maybe", 16, "expected yes or no"),
        ("rto.p99 <= -1s", 11, "`-1s` is no number"),
    ] {
        let error = refuse(text);
        assert_eq!((error.position, error.what.as_str()), (position, what), "{text}");
    }
}

#[test]
fn the_error_reads_as_a_sentence() {
    let error = refuse("failovers.p97 <= 1");
    assert!(
        error
            .to_string()
            .starts_with("unknown aggregation `p97` at column 11; did you mean `p90`?; allowed: min, max")
    );
}

#[test]
fn at_most_is_judged_on_the_largest_run_and_at_least_on_the_smallest() {
    let runs: Vec<Measurement> =
        [1, 2, 3].map(|count| with(|run| run.failover.count = count)).into_iter().collect();
    let judged = |text: &str| read(text).judge(&runs);
    assert_eq!(judged("failovers >= 1").verdict, Verdict::Ok);
    assert_eq!(judged("failovers >= 1").measured, Some(1.0));
    let broken = judged("failovers <= 2");
    assert_eq!((broken.verdict, broken.measured, broken.worst_run), (Verdict::Broken, Some(3.0), Some(2)));
    assert_eq!(broken.class, Some(ExitClass::Target));
    let equal = judged("failovers == 1");
    assert_eq!((equal.verdict, equal.worst_run), (Verdict::Broken, Some(2)));
    assert_eq!(judged("failovers != 2").verdict, Verdict::Broken);
    assert_eq!(judged("failovers.sum == 6").verdict, Verdict::Ok);
    assert_eq!(judged("failovers.mean == 2").verdict, Verdict::Ok);
    assert_eq!(judged("failovers.min == 1").verdict, Verdict::Ok);
}

#[test]
fn a_percentile_of_few_runs_is_their_maximum_and_says_so() {
    let runs: Vec<Measurement> = (1..=20).map(|n| recovered(f64::from(n) * 100.0)).collect();
    let judged = read("rto.p99 <= 12s").judge(&runs);
    assert_eq!((judged.verdict, judged.measured), (Verdict::Ok, Some(2_000.0)));
    assert_eq!(judged.text, "rto.p99 <= 12s: 2.000 s in 20 runs, p99 (max of 20)");
    assert_eq!(judged.class, None);
}

#[test]
fn a_run_that_never_recovered_breaks_every_target_it_outlived() {
    let mut runs: Vec<Measurement> = (0..98).map(|_| recovered(1_000.0)).collect();
    runs.push(never_recovered(40_000.0));
    let judged = read("rto.p99 <= 12s").judge(&runs);
    assert_eq!((judged.verdict, judged.censored, judged.measured), (Verdict::Broken, true, Some(40_000.0)));
    assert_eq!(judged.worst_run, Some(98));
    assert!(judged.text.contains("> 40.000 s"), "{}", judged.text);
    assert_eq!(read("rto.p50 <= 12s").judge(&runs).verdict, Verdict::Ok);
    assert_eq!(read("rto.censored == 0").judge(&runs).verdict, Verdict::Broken);
    assert_eq!(read("rto >= 500ms").judge(&runs).verdict, Verdict::Ok);
}

#[test]
fn a_run_that_ended_before_the_target_could_be_missed_is_inconclusive() {
    let judged = read("rto <= 60s").judge(&[recovered(1.0), never_recovered(40_000.0)]);
    assert_eq!((judged.verdict, judged.worst_run), (Verdict::Inconclusive, Some(1)));
}

#[test]
fn a_loss_is_a_matter_of_safety_where_it_is_forbidden_and_a_target_where_it_is_limited() {
    let runs = [with(|run| run.rpo.writes = Some(5))];
    let class = |text: &str| read(text).judge(&runs).class.map(ExitClass::code);
    assert_eq!(class("rpo.writes == 0"), Some(1));
    assert_eq!(class("rpo.writes < 1"), Some(1));
    assert_eq!(class("rpo.writes <= 3"), Some(3));
    assert_eq!(class("rpo.writes <= 5"), None);
}

#[test]
fn classes_follow_what_is_broken() {
    let runs = [with(|run| {
        run.split_brain.grade = 3;
        run.converged = Some(false);
        run.stuck = true;
        run.linearizable = Linearizability::Violated { key: "k".into(), why: "w".into(), levels: None };
    })];
    let class = |text: &str| read(text).judge(&runs).class.map(ExitClass::code);
    assert_eq!(class("split_brain.grade <= 1"), Some(1));
    assert_eq!(class("linearizable"), Some(1));
    assert_eq!(class("not linearizable"), None);
    assert_eq!(class("converged"), Some(4));
    assert_eq!(class("stuck == 0"), Some(4));
    assert_eq!(class("rto < 1ms"), Some(3));
}

#[test]
fn what_was_not_measured_is_never_a_pass() {
    let unknown = with(|run| run.linearizable = Linearizability::Unknown { why: "budget".into() });
    let holds = with(|run| run.linearizable = Linearizability::Holds);
    assert_eq!(read("linearizable").judge(&[holds.clone(), unknown]).verdict, Verdict::Inconclusive);
    assert_eq!(read("linearizable").judge(&[holds]).verdict, Verdict::Ok);
    let lost = with(|run| run.rpo.writes = Some(2));
    let blind = with(|run| run.rpo.writes = None);
    assert_eq!(
        read("rpo.writes == 0").judge(&[recovered(1.0), blind.clone()]).verdict,
        Verdict::Inconclusive
    );
    assert_eq!(read("rpo.writes == 0").judge(&[lost, blind]).verdict, Verdict::Broken);
    let nothing = read("phases.fence.p50 <= 1s").judge(&[recovered(1.0)]);
    assert_eq!((nothing.verdict, nothing.measured), (Verdict::Inconclusive, None));
    assert_eq!(read("rto <= 1s").judge(&[]).verdict, Verdict::Inconclusive);
    assert_eq!(read("extra.unheard == 1").judge(&[recovered(1.0)]).verdict, Verdict::Inconclusive);
}

#[test]
fn a_phase_that_some_runs_lack_is_judged_on_the_others() {
    let fenced = with(|run| run.rto.phases.fence = Some(20.0));
    let judged = read("phases.fence.max <= 25ms").judge(&[recovered(1.0), fenced]);
    assert_eq!((judged.verdict, judged.worst_run), (Verdict::Ok, Some(1)));
    assert_eq!(judged.text, "phases.fence.max <= 25ms: 20.000 ms in 1 run, not measured in 1 run");
}

#[test]
fn runs_with_an_inert_fault_do_not_count_for_targets_but_do_for_safety() {
    let inert = with(|run| {
        run.faults_effective = 0;
        run.rto.first = Some(Span { ms: 0.0, censored: false });
        run.split_brain.grade = 4;
    });
    let runs = [recovered(9_000.0), inert];
    assert_eq!(read("rto.min >= 5s").judge(&runs).verdict, Verdict::Ok);
    assert_eq!(read("split_brain.grade <= 1").judge(&runs).verdict, Verdict::Broken);
}

#[test]
fn a_seed_fails_by_itself_only_if_no_other_run_can_make_good_for_it() {
    let slow = with(|run| {
        run.rto.first = Some(Span { ms: 9_000.0, censored: false });
        run.failover.count = 2;
        run.stuck = true;
    });
    let fails = |text: &str| read(text).broken_by(&slow).map(ExitClass::code);
    assert_eq!(fails("rto <= 5s"), Some(3));
    assert_eq!(fails("rto.max <= 5s"), Some(3));
    assert_eq!(fails("rto.p99 <= 5s"), None, "the percentile may hold all the same");
    assert_eq!(fails("rto.mean <= 5s"), None);
    assert_eq!(fails("stuck == 0"), Some(4));
    assert_eq!(fails("stuck.sum >= 2"), None, "other runs may be stuck too");
    assert_eq!(fails("failovers.max == 3"), None, "another run may have three");
    assert_eq!(fails("failovers.max == 1"), Some(3));
    assert_eq!(fails("failovers.min >= 3"), Some(3));
    assert_eq!(fails("failovers.max >= 3"), None);
}

#[test]
fn an_expectation_is_a_string_in_json() {
    let expectation = read("rto.p99 <= 12s");
    let json = serde_json::to_string(&expectation).unwrap();
    assert_eq!(json, "\"rto.p99 <= 12s\"");
    assert_eq!(serde_json::from_str::<Expectation>(&json).unwrap(), expectation);
    assert!(
        serde_json::from_str::<Expectation>("\"rtp <= 1s\"")
            .unwrap_err()
            .to_string()
            .contains("did you mean")
    );
}

#[test]
fn percentiles_keep_the_runs_that_never_recovered_and_tell_which_figures_are_bounds() {
    let samples = [(6_000.0, false), (40_000.0, true)];
    let samples = samples.map(|(value, censored)| Sample { value, censored });
    let percentiles = Percentiles::of(&samples.into_iter().collect()).unwrap();
    assert_eq!((percentiles.p50, percentiles.p99, percentiles.max), (6_000.0, 40_000.0, 40_000.0));
    assert_eq!((percentiles.censored, percentiles.samples), (1, 2));
    assert_eq!(percentiles.maxima, ["p90", "p95", "p99"]);
    assert_eq!(percentiles.lower_bounds, ["p90", "p95", "p99", "max"]);
    assert_eq!(Percentiles::of(&Distribution::default()), None, "nothing measured is not zero");
}
