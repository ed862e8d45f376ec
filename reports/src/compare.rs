//! A campaign against a baseline, paired by seed: the same seed draws the same faults in both, so each pair differs
//! by the change under test and by nothing else.
//!
//! **The noise rule.** A pair counts as changed when its two figures differ by more than 5 % of the baseline's and by
//! more than an absolute floor (50 ms for times, one probe interval as a rule; one for counts). A metric is
//! *improved* or *regressed* when, among the changed pairs, one direction outnumbers the other by a two-sided sign
//! test at 1 %; otherwise it is *within noise*. A shift of every run by more than the floor is caught, and so is a tail
//! of 3 % of 300 runs that all became slower. A seed that passed and now fails is a regression by itself.

use crate::result::{RunLine, Seed};
use crate::text::{count, of_metric, percent, plural};
use firedrill_checkers::measure::Measurement;
use firedrill_checkers::stats::{Distribution, Sample};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Relative part of the noise rule.
pub const NOISE_RATIO: f64 = 0.05;

/// Absolute part of the noise rule for times, in milliseconds.
pub const NOISE_MS: f64 = 50.0;

/// Absolute part of the noise rule for counts.
pub const NOISE_COUNT: f64 = 0.5;

/// Two-sided probability below which a sign test decides.
pub const SIGN_TEST_LEVEL: f64 = 0.01;

/// Flipped seeds that are named; the rest is counted.
const FLIPS_SHOWN: usize = 10;

/// The word for a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Better than the baseline.
    Improved,
    /// No difference that the noise rule lets pass.
    #[default]
    WithinNoise,
    /// Worse than the baseline.
    Regressed,
}

impl Change {
    /// The phrase that people read.
    pub fn phrase(self) -> &'static str {
        match self {
            Change::Improved => "improved",
            Change::WithinNoise => "within noise",
            Change::Regressed => "regressed",
        }
    }
}

/// A campaign against its baseline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Regressed if any scenario is; improved if some are and none regressed.
    pub verdict: Change,
    /// Scenarios that have runs on both sides, by name and backend.
    pub scenarios: Vec<ScenarioComparison>,
    /// Scenarios with runs on one side only, by name: they are not compared.
    pub unpaired: Vec<String>,
}

/// One scenario against its baseline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScenarioComparison {
    /// Name of the scenario.
    pub name: String,
    /// Backend of both sides.
    pub backend: String,
    /// Worst of the metrics; regressed if a seed newly fails.
    pub verdict: Change,
    /// Seeds on both sides.
    pub pairs: u64,
    /// Pairs whose trace hashes are equal: nothing at all changed in them.
    pub identical: u64,
    /// Seeds that passed and now fail.
    pub newly_failing: Vec<Seed>,
    /// Seeds that failed and now pass.
    pub newly_passing: Vec<Seed>,
    /// The metrics, in a fixed order; metrics without any pair are left out.
    pub metrics: Vec<MetricComparison>,
}

/// One metric over all pairs of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricComparison {
    /// Name of the metric; less is better for all of them.
    pub metric: String,
    /// Verdict by the noise rule.
    pub verdict: Change,
    /// Pairs with a figure on both sides.
    pub pairs: u64,
    /// Pairs that changed for the worse.
    pub worse: u64,
    /// Pairs that changed for the better.
    pub better: u64,
    /// Median of the baseline.
    pub baseline_p50: f64,
    /// Median now.
    pub now_p50: f64,
    /// Median of the paired differences, now less baseline.
    pub difference_p50: f64,
    /// Interval of that median at 95 % by order statistics; `None` with fewer than six pairs.
    pub interval: Option<(f64, f64)>,
    /// The paired differences in rising order, thinned to at most 200 for drawing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<f64>,
}

/// A figure of a run that can be compared: less is better.
struct Metric {
    name: &'static str,
    floor: f64,
    get: fn(&Measurement) -> Option<f64>,
}

/// What a run without recovery counts as: longer than anything, and equal to itself.
const NEVER_MS: f64 = 1e9;

/// The compared metrics.
const METRICS: [Metric; 6] = [
    Metric { name: "rto", floor: NOISE_MS, get: |m| span(m.rto.first) },
    Metric { name: "rto.stable", floor: NOISE_MS, get: |m| span(m.rto.stable) },
    Metric { name: "rto.unavail_total", floor: NOISE_MS, get: |m| m.rto.unavail_total },
    Metric { name: "rpo.writes", floor: NOISE_COUNT, get: |m| m.rpo.writes.map(|w| w as f64) },
    Metric { name: "split_brain.ms", floor: NOISE_MS, get: |m| Some(m.split_brain.ms) },
    Metric {
        name: "split_brain.divergent_writes",
        floor: NOISE_COUNT,
        get: |m| Some(m.split_brain.divergent_writes as f64),
    },
];

fn span(span: Option<firedrill_checkers::measure::Span>) -> Option<f64> {
    span.map(|span| if span.censored { NEVER_MS } else { span.ms })
}

/// Compares `now` with `baseline`, paired by scenario, backend and seed. Inert runs are left out on both sides.
pub fn compare(baseline: &[RunLine], now: &[RunLine]) -> Comparison {
    let (before, after) = (by_scenario(baseline), by_scenario(now));
    let mut out = Comparison::default();
    for (key, runs) in &after {
        match before.get(key) {
            Some(old) => out.scenarios.push(scenario(*key, old, runs)),
            None => out.unpaired.push(key.0.to_owned()),
        }
    }
    out.unpaired.extend(before.keys().filter(|key| !after.contains_key(*key)).map(|key| key.0.to_owned()));
    out.verdict = worst(out.scenarios.iter().map(|s| s.verdict));
    out
}

type Runs<'a> = BTreeMap<Seed, &'a RunLine>;

fn by_scenario(lines: &[RunLine]) -> BTreeMap<(&str, &str), Runs<'_>> {
    let mut out: BTreeMap<(&str, &str), Runs<'_>> = BTreeMap::new();
    for line in lines {
        out.entry((&line.scenario, &line.backend)).or_default().insert(line.seed, line);
    }
    out
}

fn worst(verdicts: impl Iterator<Item = Change> + Clone) -> Change {
    if verdicts.clone().any(|v| v == Change::Regressed) {
        Change::Regressed
    } else if verdicts.clone().any(|v| v == Change::Improved) {
        Change::Improved
    } else {
        Change::WithinNoise
    }
}

fn scenario((name, backend): (&str, &str), old: &Runs<'_>, new: &Runs<'_>) -> ScenarioComparison {
    let pairs: Vec<(&RunLine, &RunLine)> =
        new.iter().filter_map(|(seed, line)| old.get(seed).map(|before| (*before, *line))).collect();
    let flipped = |to: bool| {
        let flips = pairs.iter().filter(|(a, b)| a.failed() != to && b.failed() == to);
        flips.map(|(_, line)| line.seed).collect::<Vec<Seed>>()
    };
    let effective: Vec<(&RunLine, &RunLine)> =
        pairs.iter().copied().filter(|(a, b)| !a.inert && !b.inert).collect();
    let metrics: Vec<MetricComparison> = METRICS.iter().filter_map(|m| metric(m, &effective)).collect();
    let (newly_failing, newly_passing) = (flipped(true), flipped(false));
    let flips = match (newly_failing.is_empty(), newly_passing.is_empty()) {
        (false, _) => Change::Regressed,
        (true, false) => Change::Improved,
        (true, true) => Change::WithinNoise,
    };
    ScenarioComparison {
        name: name.to_owned(),
        backend: backend.to_owned(),
        verdict: worst(metrics.iter().map(|m| m.verdict).chain([flips])),
        pairs: pairs.len() as u64,
        identical: pairs.iter().filter(|(a, b)| a.trace_hash == b.trace_hash).count() as u64,
        newly_failing,
        newly_passing,
        metrics,
    }
}

fn metric(metric: &Metric, pairs: &[(&RunLine, &RunLine)]) -> Option<MetricComparison> {
    let figure = |line: &RunLine| (metric.get)(&line.measurement).filter(|value| value.is_finite());
    let figures: Vec<(f64, f64)> = pairs.iter().filter_map(|(a, b)| Some((figure(a)?, figure(b)?))).collect();
    if figures.is_empty() {
        return None;
    }
    let changed = |old: f64, new: f64| (new - old).abs() > (old.abs() * NOISE_RATIO).max(metric.floor);
    let worse = figures.iter().filter(|(old, new)| new > old && changed(*old, *new)).count() as u64;
    let better = figures.iter().filter(|(old, new)| new < old && changed(*old, *new)).count() as u64;
    let differences = sorted(figures.iter().map(|(old, new)| new - old));
    Some(MetricComparison {
        metric: metric.name.to_owned(),
        verdict: verdict(worse, better),
        pairs: figures.len() as u64,
        worse,
        better,
        baseline_p50: median(&sorted(figures.iter().map(|f| f.0))),
        now_p50: median(&sorted(figures.iter().map(|f| f.1))),
        difference_p50: median(&differences),
        interval: median_interval(&differences),
        differences: thinned(&differences, 200),
    })
}

fn verdict(worse: u64, better: u64) -> Change {
    if sign_test(worse, better) >= SIGN_TEST_LEVEL {
        Change::WithinNoise
    } else if worse > better {
        Change::Regressed
    } else {
        Change::Improved
    }
}

/// Two-sided probability of a split at least as uneven as this one, if both directions were equally likely.
pub fn sign_test(worse: u64, better: u64) -> f64 {
    let n = worse + better;
    let mut tail = 0.0;
    // C(n, k) / 2^n by its logarithm, so that thousands of pairs neither overflow nor vanish too early.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    for k in 0..=worse.min(better) {
        tail += log_term.exp();
        log_term += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

fn sorted(values: impl Iterator<Item = f64>) -> Distribution {
    values.map(Sample::exact).collect()
}

fn median(of: &Distribution) -> f64 {
    of.quantile(500).map_or(0.0, |median| median.value)
}

fn median_interval(of: &Distribution) -> Option<(f64, f64)> {
    let (low, high) = of.interval(500);
    Some((low?.value, high?.value))
}

/// At most `limit` of the values, evenly spread, both ends kept.
fn thinned(of: &Distribution, limit: usize) -> Vec<f64> {
    let (all, drawn) = (of.sorted(), of.len().min(limit));
    (0..drawn).map(|i| all[i * (all.len() - 1) / (drawn - 1).max(1)].value).collect()
}

impl Comparison {
    /// The rule, for the foot of every report that shows a comparison.
    pub const RULE: &'static str = "A pair of equal seeds counts as changed beyond 5 % and 50 ms (counts: beyond 5 % \
        and at least 1). Improved or regressed: a sign test over the changed pairs at 1 %. A seed that newly fails is \
        a regression by itself.";

    /// The comparison in sentences: flipped seeds first, then every metric that is not within noise.
    pub fn lines(&self) -> Vec<String> {
        let mut out: Vec<String> = self.scenarios.iter().flat_map(ScenarioComparison::lines).collect();
        if !self.unpaired.is_empty() {
            out.push(format!("Not compared, runs on one side only: {}.", self.unpaired.join(", ")));
        }
        if out.is_empty() {
            let pairs = self.scenarios.iter().map(|s| s.pairs).sum();
            out.push(format!("{}, nothing beyond noise.", plural(pairs, "paired run")));
        }
        out
    }
}

impl ScenarioComparison {
    fn lines(&self) -> Vec<String> {
        let mut out = Vec::new();
        for (seeds, what) in [(&self.newly_failing, "newly failing"), (&self.newly_passing, "newly passing")]
        {
            if !seeds.is_empty() {
                out.push(format!("{}: {what}: {}", self.name, seed_list(seeds)));
            }
        }
        let changed = self.metrics.iter().filter(|m| m.verdict != Change::WithinNoise);
        out.extend(changed.map(|m| format!("{}: {}", self.name, m.sentence())));
        out
    }
}

/// Some seeds by name, the rest by number.
pub fn seed_list(seeds: &[Seed]) -> String {
    let shown: Vec<String> = seeds.iter().take(FLIPS_SHOWN).map(|seed| seed.to_string()).collect();
    let rest = seeds.len().saturating_sub(FLIPS_SHOWN);
    let noun = if seeds.len() == 1 { "seed" } else { "seeds" };
    if rest > 0 {
        format!("{noun} {} and {} more", shown.join(" "), count(rest as u64))
    } else {
        format!("{noun} {}", shown.join(" "))
    }
}

impl MetricComparison {
    /// A figure of this metric in its unit; a run that never recovered is `never`.
    pub fn show(&self, value: f64) -> String {
        if value.abs() >= NEVER_MS / 2.0 { "never".to_owned() } else { of_metric(&self.metric, value) }
    }

    /// One line: what changed, by how much, in how many pairs.
    pub fn sentence(&self) -> String {
        format!(
            "{} {}: median {} -> {} ({} in the median pair); {} of {} worse, {} better",
            self.metric,
            self.verdict.phrase(),
            self.show(self.baseline_p50),
            self.show(self.now_p50),
            self.shift(),
            count(self.worse),
            plural(self.pairs, "pair"),
            count(self.better),
        )
    }

    fn shift(&self) -> String {
        let by = self.difference_p50;
        if by.abs() >= NEVER_MS / 2.0 {
            return "recovery lost or gained".to_owned();
        }
        let sign = if by > 0.0 { "+" } else { "" };
        let figure = of_metric(&self.metric, by);
        match self.baseline_p50 {
            base if base > 0.0 => format!("{sign}{figure}, {sign}{}", percent_signed(by / base)),
            _ => format!("{sign}{figure}"),
        }
    }
}

fn percent_signed(ratio: f64) -> String {
    if ratio < 0.0 { format!("-{}", percent(-ratio)) } else { percent(ratio) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firedrill_checkers::measure::Span;

    fn run(seed: u64, ms: f64) -> RunLine {
        let mut line = RunLine { scenario: "s".into(), seed: Seed(seed), ..RunLine::default() };
        line.measurement.rto.first = Some(Span { ms, censored: false });
        line
    }

    fn rto(baseline: &[RunLine], now: &[RunLine]) -> MetricComparison {
        compare(baseline, now).scenarios[0].metrics[0].clone()
    }

    #[test]
    fn the_same_runs_are_within_noise() {
        let runs: Vec<RunLine> = (0..300).map(|i| run(i, 5_000.0 + i as f64)).collect();
        let comparison = compare(&runs, &runs);
        assert_eq!(comparison.verdict, Change::WithinNoise);
        assert_eq!(comparison.scenarios[0].identical, 300);
    }

    #[test]
    fn a_shift_of_every_run_beyond_the_floor_is_a_regression_and_back_an_improvement() {
        let old: Vec<RunLine> = (0..30).map(|i| run(i, 5_000.0 + 10.0 * i as f64)).collect();
        let new: Vec<RunLine> = (0..30).map(|i| run(i, 6_000.0 + 10.0 * i as f64)).collect();
        let metric = rto(&old, &new);
        assert_eq!((metric.verdict, metric.worse, metric.difference_p50), (Change::Regressed, 30, 1_000.0));
        assert_eq!(metric.interval, Some((1_000.0, 1_000.0)));
        assert_eq!(rto(&new, &old).verdict, Change::Improved);
    }

    #[test]
    fn a_slower_tail_is_caught_though_the_median_stands_still() {
        let old: Vec<RunLine> = (0..300).map(|i| run(i, 5_000.0)).collect();
        let new: Vec<RunLine> = (0..300).map(|i| run(i, if i < 9 { 60_000.0 } else { 5_000.0 })).collect();
        let metric = rto(&old, &new);
        assert_eq!((metric.verdict, metric.difference_p50), (Change::Regressed, 0.0));
    }

    #[test]
    fn a_shift_within_the_rule_is_noise_however_many_pairs_show_it() {
        let old: Vec<RunLine> = (0..1_000).map(|i| run(i, 5_000.0)).collect();
        let new: Vec<RunLine> = (0..1_000).map(|i| run(i, 5_240.0)).collect();
        assert_eq!(rto(&old, &new).verdict, Change::WithinNoise);
    }

    #[test]
    fn a_seed_that_newly_fails_is_a_regression_by_itself() {
        let old: Vec<RunLine> = (0..5).map(|i| run(i, 5_000.0)).collect();
        let mut new = old.clone();
        new[3].failures.push("split_brain.grade".into());
        let comparison = compare(&old, &new);
        assert_eq!(comparison.verdict, Change::Regressed);
        assert_eq!(comparison.lines(), ["s: newly failing: seed 3"]);
        assert_eq!(compare(&new, &old).verdict, Change::Improved);
    }

    #[test]
    fn a_run_that_stopped_recovering_is_worse_than_any_time() {
        let old: Vec<RunLine> = (0..10).map(|i| run(i, 5_000.0)).collect();
        let mut new = old.clone();
        for line in &mut new {
            line.measurement.rto.first = Some(Span { ms: 1.0, censored: true });
        }
        assert_eq!(rto(&old, &new).verdict, Change::Regressed);
        assert_eq!(rto(&new, &new).verdict, Change::WithinNoise);
    }

    #[test]
    fn scenarios_of_one_side_are_named_and_not_compared() {
        let comparison = compare(&[], &[run(1, 1.0)]);
        assert_eq!((comparison.unpaired, comparison.verdict), (vec!["s".to_owned()], Change::WithinNoise));
    }

    #[test]
    fn the_sign_test_agrees_with_the_binomial_table() {
        // 2 * (1 + 10) / 2^10
        assert!((sign_test(9, 1) - 0.021_484_375).abs() < 1e-12);
        assert!((sign_test(8, 0) - 0.007_812_5).abs() < 1e-12);
        assert!((sign_test(5, 5) - 1.0).abs() < 1e-12);
        assert!((sign_test(0, 0) - 1.0).abs() < 1e-12);
    }
}
