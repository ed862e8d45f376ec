//! What a campaign leaves for its readers: one line per seed, one summary per scenario, and the campaign that holds
//! them. The JSON of these types is a public interface: fields keep name, type and unit; more may be added.
//!
//! Times are milliseconds as numbers. `null` means *not measured* or *does not exist*; it is never 0.
//! Seeds are strings in JSON, because JavaScript loses integers above 2^53.

use firedrill_checkers::expect::registry::Unit;
use firedrill_checkers::expect::{ExitClass, Expectation, Judged, Subject};
use firedrill_checkers::measure::{LossCauses, Measurement};
use firedrill_checkers::record::{Failure, Records, SimTime};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Verdict of one expectation.
pub use firedrill_checkers::expect::Verdict as Judgement;

/// Version of the JSON in this file.
pub const SCHEMA: u32 = 1;

/// The seed of one run: a number, written as a string in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seed(pub u64);

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for Seed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Seed, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map(Seed).map_err(|_| {
            serde::de::Error::custom(format!("seed `{text}` is not a decimal number below 2^64"))
        })
    }
}

// ------------------------------------------------------------------------------------------------------- one run

/// The result of one seed of one scenario: one line of `runs.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunLine {
    /// Name of the scenario.
    pub scenario: String,
    /// The seed.
    pub seed: Seed,
    /// The backend that ran it: `kernel`, `turmoil` or `tcp`.
    pub backend: String,
    /// Digest of the run's records, in hexadecimal.
    pub trace_hash: String,
    /// A fault of the run had no effect: the run is counted, but kept out of percentiles.
    pub inert: bool,
    /// What the judges measured.
    pub measurement: Measurement,
    /// What went wrong in this run, as metric names (`split_brain.divergent_writes`); empty if nothing did.
    pub failures: Vec<String>,
    /// Verdicts of those expectations that one run alone can fulfil or break.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expectations: Vec<RunExpectation>,
    /// Simulated (or real, on `tcp`) seconds that the run covered.
    pub sim_seconds: f64,
    /// Seconds of CPU it took; left out of everything that must be byte-identical between two executions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Events the world processed.
    pub events: u64,
}

impl RunLine {
    /// Whether anything went wrong in this run.
    pub fn failed(&self) -> bool {
        !self.failures.is_empty()
    }
}

/// What one run says about one expectation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunExpectation {
    /// The expectation as the scenario wrote it.
    pub expect: String,
    /// Its verdict in this run alone.
    pub verdict: Judgement,
}

// ------------------------------------------------------------------------------------------------------- verdicts

/// Verdict of a scenario or a campaign; each has its documented exit code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All expectations hold.
    #[default]
    Ok,
    /// Not enough evidence to say: inert faults, checker budget, too few runs.
    Inconclusive,
    /// Worse than the baseline, though every expectation holds.
    Regressed,
    /// A recovery or loss target was missed; safety held.
    TargetMissed,
    /// No progress after every fault had healed.
    Stuck,
    /// A safety promise was broken.
    Safety,
    /// The planted fault of a canary was not caught: the testbed itself is blind.
    CanaryMissed,
    /// The same seed gave two different runs.
    Nondeterministic,
}

impl Verdict {
    /// From the most harmless to the worst; the worst of a campaign decides its exit code.
    pub const BY_WEIGHT: [Verdict; 8] = [
        Verdict::Ok,
        Verdict::Inconclusive,
        Verdict::Regressed,
        Verdict::TargetMissed,
        Verdict::Stuck,
        Verdict::Safety,
        Verdict::CanaryMissed,
        Verdict::Nondeterministic,
    ];

    /// The exit code.
    pub fn exit(self) -> u8 {
        match self {
            Verdict::Ok => 0,
            Verdict::Safety => 1,
            Verdict::TargetMissed => 3,
            Verdict::Stuck => 4,
            Verdict::Nondeterministic => 5,
            Verdict::Inconclusive => 6,
            Verdict::Regressed => 7,
            Verdict::CanaryMissed => 8,
        }
    }

    /// The word that stands in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Regressed => "regressed",
            Verdict::TargetMissed => "target_missed",
            Verdict::Stuck => "stuck",
            Verdict::Safety => "safety",
            Verdict::CanaryMissed => "canary_missed",
            Verdict::Nondeterministic => "nondeterministic",
        }
    }

    /// The phrase that people read.
    pub fn phrase(self) -> &'static str {
        match self {
            Verdict::Ok => "holds",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Regressed => "worse than the baseline",
            Verdict::TargetMissed => "target missed",
            Verdict::Stuck => "no progress after heal",
            Verdict::Safety => "safety broken",
            Verdict::CanaryMissed => "canary not caught",
            Verdict::Nondeterministic => "not deterministic",
        }
    }

    /// The worse of two.
    pub fn worst(self, other: Verdict) -> Verdict {
        if self.weight() >= other.weight() { self } else { other }
    }

    fn weight(self) -> usize {
        Verdict::BY_WEIGHT.iter().position(|v| *v == self).unwrap_or(0)
    }
}

// -------------------------------------------------------------------------------------------------------- summary

/// What `--format json` prints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this form.
    pub schema: u32,
    /// Exit code of the program.
    pub exit: u8,
    /// One entry per scenario and backend.
    pub scenarios: Vec<ScenarioSummary>,
    /// Comparison with a baseline, where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<crate::compare::Comparison>,
}

/// All runs of one scenario on one backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScenarioSummary {
    /// Name of the scenario.
    pub name: String,
    /// The system under drill.
    pub system: String,
    /// The backend that ran it.
    pub backend: String,
    /// Runs made.
    pub runs: u64,
    /// Runs with a fault that had no effect.
    pub inert: u64,
    /// Verdict over all runs.
    pub verdict: Verdict,
    /// Its exit code.
    pub exit: u8,
    /// The expectations in the scenario's order.
    pub expectations: Vec<ExpectationResult>,
    /// Recovery time as clients saw it.
    pub rto_ms: RtoSummary,
    /// The phases of recovery. Percentiles of phases do not add up to the percentile of the whole.
    pub phases_ms: PhasesSummary,
    /// Loss of acknowledged writes.
    pub rpo: RpoSummary,
    /// Two primaries at once.
    pub split_brain: SplitBrainSummary,
    /// Verdicts of the linearizability checker, in runs.
    pub linearizable: LinearizableSummary,
    /// Proof of hardship.
    pub faults: FaultSummary,
    /// Failovers per run.
    pub failovers: FailoverSummary,
    /// Reads that were older than they may be.
    pub reads: ReadSummary,
    /// Operations of all runs that were not acknowledged, by what the client was told.
    pub refusals: BTreeMap<Failure, u64>,
    /// Runs that never served again after the last heal.
    pub stuck: u64,
    /// Runs that did not converge after the quiet tail, where it is known.
    pub not_converged: u64,
    /// Runs in which the meter and the simulator's ground truth disagree: an error of the program.
    pub truth_disagreements: u64,
    /// Backups and restores; `null`: the system has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupSummary>,
    /// Measures that belong to one system, by name.
    pub extra: BTreeMap<String, Figure>,
    /// Comparison of two backends, where it was asked for.
    pub cross_check: Option<CrossCheck>,
    /// Failing seeds with the command that replays each.
    pub failures: Vec<FailureLine>,
    /// Failing seeds in all; more than `failures` lists where that list was cut.
    pub failures_total: u64,
    /// Seconds simulated.
    pub sim_seconds: f64,
    /// Seconds of CPU; `null` in artefacts that must be byte-identical.
    pub cpu_seconds: Option<f64>,
    /// Digest of all runs' hashes in seed order.
    pub trace_hash: String,
    /// What happens, in one or two sentences, as the scenario tells it.
    pub story: String,
    /// Where the case comes from.
    pub source: String,
    /// What the scenario's author says of the numbers: which promise is kept, which is not, and why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remark: String,
    /// Bytes of acknowledged writes that may be lost, as asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_target: Option<u64>,
    /// File of the scenario, as given to the program.
    pub path: String,
    /// Tags of the scenario.
    pub tags: Vec<String>,
    /// What a reader must know to weigh the numbers: skipped faults, early stop, assumptions.
    pub notes: Vec<String>,
}

/// One expectation over all runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpectationResult {
    /// The expectation as the scenario wrote it.
    pub expect: String,
    /// Its verdict: `ok`, `broken` or `inconclusive`.
    pub verdict: Judgement,
    /// The measured value in the metric's unit (times in ms); `null` if it was not measured.
    pub measured: Option<f64>,
    /// The measured value is a lower bound: the run ended before its true value was known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub censored: bool,
    /// The bound in the same unit; `null` for a flag.
    #[serde(default)]
    pub bound: Option<f64>,
    /// Why it matters, if it is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ExitClass>,
    /// The judge's words.
    #[serde(default)]
    pub text: String,
}

impl ExpectationResult {
    /// What the judge said of an expectation.
    pub fn of(expectation: &Expectation, judged: &Judged) -> ExpectationResult {
        let flag = matches!(&expectation.subject, Subject::Known(metric) if metric.0.unit == Unit::Flag);
        ExpectationResult {
            expect: expectation.text.clone(),
            verdict: judged.verdict,
            measured: judged.measured,
            censored: judged.censored,
            bound: (!flag).then_some(expectation.bound),
            class: judged.class,
            text: judged.text.clone(),
        }
    }

    /// The verdict it asks for.
    pub fn asks_for(&self) -> Verdict {
        match (self.verdict, self.class) {
            (Judgement::Ok, _) => Verdict::Ok,
            (Judgement::Inconclusive, _) => Verdict::Inconclusive,
            (Judgement::Broken, Some(ExitClass::Safety)) => Verdict::Safety,
            (Judgement::Broken, Some(ExitClass::NoProgress)) => Verdict::Stuck,
            (Judgement::Broken, Some(ExitClass::Target) | None) => Verdict::TargetMissed,
        }
    }
}

/// The word for the verdict of one expectation, as JSON and tables have it.
pub fn judgement_word(verdict: Judgement) -> &'static str {
    match verdict {
        Judgement::Ok => "ok",
        Judgement::Broken => "broken",
        Judgement::Inconclusive => "inconclusive",
    }
}

impl ScenarioSummary {
    /// Takes over the judged expectations: their results, the recovery target, and the verdict if it is worse.
    pub fn take_expectations(&mut self, judged: &[(Expectation, Judged)]) {
        self.expectations = judged.iter().map(|(e, j)| ExpectationResult::of(e, j)).collect();
        self.rto_ms.target = crate::summarise::recovery_target(judged.iter().map(|(e, _)| e));
        let asked: Vec<Verdict> = self.expectations.iter().map(ExpectationResult::asks_for).collect();
        asked.into_iter().for_each(|verdict| self.worsen(verdict));
    }

    /// Sets the verdict and its exit code, if `verdict` is worse than the one there is.
    pub fn worsen(&mut self, verdict: Verdict) {
        self.verdict = self.verdict.worst(verdict);
        self.exit = self.verdict.exit();
    }
}

/// Percentiles of the recovery time, inert runs left out. A run that never recovered counts as longer than any other;
/// a figure that falls on such a run is what is known of it, and is named in [`RtoSummary::lower_bounds`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RtoSummary {
    /// Median.
    pub p50: Option<f64>,
    /// 90th percentile; the maximum where there are fewer than 29 samples.
    pub p90: Option<f64>,
    /// 95th percentile; the maximum where there are fewer than 59 samples.
    pub p95: Option<f64>,
    /// 99th percentile; the maximum where there are fewer than 299 samples.
    pub p99: Option<f64>,
    /// Largest.
    pub max: Option<f64>,
    /// Runs that had not recovered when they ended.
    pub censored: u64,
    /// Runs behind the percentiles.
    pub samples: u64,
    /// Which of the figures are lower bounds only: print them as `> 70 s`.
    pub lower_bounds: Vec<String>,
    /// Which of the percentiles had too few samples and are the maximum: print them as `p99 (max of 20)`.
    pub maxima: Vec<String>,
    /// Lower end of the 95 % interval of the true 99th percentile (an order statistic).
    pub p99_low: Option<f64>,
    /// Upper end of it; `null` where there are too few samples to say, or where it falls on a run without recovery.
    pub p99_high: Option<f64>,
    /// The target that the scenario sets for the tail, if it sets one.
    pub target: Option<f64>,
}

impl RtoSummary {
    /// Whether a figure (`p50`, `p99`, `max`, ...) is only a lower bound.
    pub fn is_lower_bound(&self, figure: &str) -> bool {
        self.lower_bounds.iter().any(|name| name == figure)
    }
}

/// The phases of recovery; a phase that the protocol lacks is `null`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PhasesSummary {
    /// Fault until the primary was judged dead.
    pub detect: Option<PhaseSummary>,
    /// Until the right to fail over was won.
    pub elect: Option<PhaseSummary>,
    /// Until the old primary was known to be harmless.
    pub fence: Option<PhaseSummary>,
    /// Until the new primary would acknowledge a write.
    pub promote: Option<PhaseSummary>,
    /// Until a client's write was acknowledged.
    pub redirect: Option<PhaseSummary>,
}

impl PhasesSummary {
    /// Name, meaning and figures of each phase, in order.
    pub fn named(&self) -> [(&'static str, &'static str, Option<PhaseSummary>); 5] {
        [
            ("detect", "fault until the primary was judged dead", self.detect),
            ("elect", "until the right to fail over was won", self.elect),
            ("fence", "until the old primary was harmless", self.fence),
            ("promote", "until the new primary would take writes", self.promote),
            ("redirect", "until a client's write was acknowledged", self.redirect),
        ]
    }
}

/// One phase of recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PhaseSummary {
    /// Median.
    pub p50: Option<f64>,
    /// 99th percentile; the maximum where there are fewer than 299 samples.
    pub p99: Option<f64>,
    /// Its part of all recovery time, 0 to 1.
    pub share: Option<f64>,
}

/// Loss of acknowledged writes over all runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RpoSummary {
    /// Most acknowledged writes lost in a run.
    pub writes_max: Option<u64>,
    /// Most payload bytes lost in a run.
    pub bytes_max: Option<u64>,
    /// Largest age, at the fault, of a lost write.
    pub time_ms_max: Option<f64>,
    /// Longest time after the fault at which a write was acknowledged that was lost: how long a stale primary went on.
    pub post_ms_max: Option<f64>,
    /// Runs that lost at least one acknowledged write.
    pub runs_with_loss: u64,
    /// Acknowledged writes lost in all runs together.
    pub writes_total: u64,
    /// The same by cause.
    pub causes: LossCauses,
    /// Writes of unknown outcome that survived, all runs together. They never count as loss.
    pub unknown_survived: u64,
    /// Writes of unknown outcome that did not.
    pub unknown_vanished: u64,
    /// Writes reported as failed that are in the final state all the same.
    pub phantom_writes: u64,
    /// Writes found more than once in the final state.
    pub duplicates: u64,
    /// Runs whose final state is not known.
    pub runs_unknown: u64,
    /// Runs in which two primaries of a shard survived unmerged, so that the loss depends on which of them is right.
    pub runs_unresolved: u64,
    /// A register workload shows only the loss that is visible.
    pub visible_only: bool,
}

/// Two primaries at once, over all runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SplitBrainSummary {
    /// Highest grade: 0 none, 1 two roles, 2 two writable, 3 both acknowledged, 4 histories diverged.
    pub grade_max: u8,
    /// Longest time with two writable primaries in a run.
    pub ms_max: f64,
    /// Most divergent acknowledged writes in a run.
    pub divergent_writes_max: u64,
    /// Runs with two writable primaries (grade 2 or above).
    pub runs: u64,
    /// Runs by grade, 0 to 4.
    pub runs_by_grade: [u64; 5],
}

/// Verdicts of the linearizability checker, in runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinearizableSummary {
    /// Every key has a linearization.
    pub holds: u64,
    /// Some key has none.
    pub violated: u64,
    /// The budget ended first.
    pub unknown: u64,
    /// Nobody asked.
    pub not_checked: u64,
}

/// Faults injected and faults with a proven effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultSummary {
    /// Injected.
    pub injected: u64,
    /// Of these, with an effect.
    pub effective: u64,
}

/// Failovers per run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailoverSummary {
    /// Fewest in a run; `null` without runs.
    pub min: Option<u64>,
    /// Most in a run; `null` without runs.
    pub max: Option<u64>,
    /// Failovers away from a primary that could serve, all runs together.
    pub false_failovers: u64,
    /// Failovers that should have happened and did not.
    pub missed: u64,
    /// Failovers for a fault that had healed before the primary was judged dead.
    pub needless: u64,
    /// Promotions shortly after another one of the same shard.
    pub flaps: u64,
    /// Failovers that were begun and given up.
    pub aborted: u64,
}

/// Reads that were older than they may be, all runs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadSummary {
    /// Reads that missed a write acknowledged before they began.
    pub stale: u64,
    /// Reads that showed a write which is not in the final state.
    pub dirty: u64,
    /// Largest age of a stale read.
    pub staleness_ms_max: Option<f64>,
}

/// Backups and restores over all runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupSummary {
    /// Points (backups, and positions of the archive) that were restored and compared at the end, all runs together.
    pub proved: u64,
    /// Points that a restore refused.
    pub refused: u64,
    /// Rules of backups that do not hold, all runs together.
    pub broken: u64,
    /// The first of them, in words.
    pub first_broken: Option<String>,
    /// Restores that were ordered and gave a state.
    pub restored: u64,
    /// From the order to the restored and proved state.
    pub restore_rto_ms: Option<Figure>,
    /// Payload of acknowledged writes that a restored state lacks.
    pub restore_rpo_bytes: Option<Figure>,
    /// Payload of acknowledged writes that a disaster at the end would cost.
    pub disaster_bytes: Option<Figure>,
}

/// One measure over the runs that have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Runs that have it.
    pub samples: u64,
    /// Smallest.
    pub min: f64,
    /// Median.
    pub p50: f64,
    /// 99th percentile; the maximum where there are fewer than 299 samples.
    pub p99: f64,
    /// Largest; a lower bound if `censored`.
    pub max: f64,
    /// Runs whose true value is larger than seen.
    pub censored: u64,
}

/// The same seeds on two backends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CrossCheck {
    /// The other backend.
    pub backend: String,
    /// Seeds that ran on both.
    pub runs: u64,
    /// Verdicts that agree.
    pub agree: u64,
    /// Median recovery on this backend.
    pub p50_here: Option<f64>,
    /// Median recovery on the other.
    pub p50_there: Option<f64>,
    /// The margin within which the medians count as equal.
    pub margin_ms: Option<f64>,
    /// Whether verdicts and times agree.
    pub equal: bool,
}

/// A failing seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FailureLine {
    /// The seed.
    pub seed: Seed,
    /// What went wrong, as a metric name.
    pub what: String,
    /// File of the capsule, if one was written.
    pub capsule: Option<String>,
    /// The command that replays it.
    pub replay: String,
}

// ------------------------------------------------------------------------------------------------------- campaign

/// The input of every renderer.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    /// One entry per scenario and backend, in the order to show.
    pub scenarios: Vec<ScenarioResult>,
    /// Exit code where it is not the worst of the scenarios' (interrupted, nothing selected).
    pub exit: Option<u8>,
    /// Lines that head the report: engine, command, selection. No wall-clock time, or reports stop being identical.
    pub heading: Vec<String>,
    /// The run was stopped before its end.
    pub partial: bool,
    /// Comparison with a baseline, where one was given.
    pub comparison: Option<crate::compare::Comparison>,
}

impl Campaign {
    /// The verdict that decides the exit code.
    pub fn verdict(&self) -> Verdict {
        self.scenarios.iter().fold(Verdict::Ok, |worst, s| worst.worst(s.summary.verdict))
    }

    /// The exit code of the program.
    pub fn exit(&self) -> u8 {
        self.exit.unwrap_or_else(|| self.verdict().exit())
    }

    /// The summary in its JSON form.
    pub fn summary(&self) -> Summary {
        Summary {
            schema: SCHEMA,
            exit: self.exit(),
            scenarios: self.scenarios.iter().map(|s| s.summary.clone()).collect(),
            comparison: self.comparison.clone(),
        }
    }

    /// The same campaign without anything that differs between two executions of it: CPU time.
    pub fn reproducible(mut self) -> Campaign {
        for scenario in &mut self.scenarios {
            scenario.summary.cpu_seconds = None;
            scenario.lines.iter_mut().for_each(|line| line.cpu_seconds = None);
        }
        self
    }
}

/// One scenario with everything there is to show of it.
#[derive(Clone, Debug, Default)]
pub struct ScenarioResult {
    /// Its summary.
    pub summary: ScenarioSummary,
    /// Its runs in seed order; may be empty where only the summary is left.
    pub lines: Vec<RunLine>,
    /// Whole records of the worst and of failing seeds; the first one is drawn.
    pub stored: Vec<StoredRun>,
}

impl ScenarioResult {
    /// The line of a seed. Lines are in seed order as a rule, so a short search first.
    pub fn line(&self, seed: Seed) -> Option<&RunLine> {
        match self.lines.binary_search_by_key(&seed, |line| line.seed) {
            Ok(at) => self.lines.get(at),
            Err(_) => self.lines.iter().find(|line| line.seed == seed),
        }
    }
}

/// The whole records of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoredRun {
    /// Its seed.
    pub seed: Seed,
    /// Why it was kept: `worst recovery`, `split_brain.divergent_writes`, ...
    pub why: String,
    /// Its records.
    pub records: Records,
    /// What the judges measured in it.
    pub measurement: Measurement,
    /// Moments at which a promise was broken, where the judge knows them.
    #[serde(default)]
    pub violations: Vec<ViolationAt>,
    /// The command that replays it.
    pub replay: String,
}

/// The moment at which a promise was broken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViolationAt {
    /// When.
    pub at: SimTime,
    /// What, in one line.
    pub what: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_kept_before_violations_were_has_none() {
        let run = StoredRun {
            violations: vec![ViolationAt { at: SimTime(7), what: "a promise".into() }],
            ..StoredRun::default()
        };
        let mut json = serde_json::to_value(&run).unwrap();
        assert_eq!(serde_json::from_value::<StoredRun>(json.clone()).unwrap(), run);
        json.as_object_mut().unwrap().remove("violations");
        let older: StoredRun = serde_json::from_value(json).unwrap();
        assert_eq!(older, StoredRun { violations: Vec::new(), ..run });
    }
}
