//! From runs to verdicts.

use super::{Job, replay_command};
use crate::run;
use crate::scenario::Scenario;
use firedrill_checkers::expect::{self, Aggregation, Expectation};
use firedrill_checkers::measure::{Linearizability, Measurement};
use firedrill_reports::result::{
    ExpectationResult, FailureLine, Judgement, RunExpectation, RunLine, ScenarioResult, ScenarioSummary,
    Seed, Verdict,
};
use firedrill_reports::summarise::{recovery_target, summarise};

/// Failing seeds listed in a summary; the rest is counted.
const FAILURES_LISTED: usize = 50;

/// Run one seed and make its line.
pub fn line_of(job: &Job, seed: u64) -> RunLine {
    let began = cpu_time::ThreadTime::now();
    let scenario = &job.loaded.scenario;
    let _run = tracing::info_span!("run", scenario = scenario.name, seed).entered();
    let detail = run::Detail { notes: tracing::enabled!(tracing::Level::DEBUG), ..run::Detail::default() };
    let outcome = job.backend.run(scenario, seed, &detail);
    let line = line_from(job, seed, &outcome, run::measure(scenario, &outcome.records));
    RunLine { cpu_seconds: Some(began.elapsed().as_secs_f64()), ..line }
}

/// The same for a campaign that ends at the first failure: where linearizability is expected, the run itself ends as
/// soon as it is certainly broken. The line of such a run holds that verdict, and nothing that only a whole run shows.
pub fn line_until_broken(job: &Job, seed: u64) -> RunLine {
    let scenario = &job.loaded.scenario;
    let expected = scenario.expect.iter().any(|text| text.trim() == "linearizable");
    if !expected || scenario.linearizability_budget == 0 {
        return line_of(job, seed);
    }
    let began = cpu_time::ThreadTime::now();
    let outcome = job.backend.run(scenario, seed, &run::Detail { watch: true, ..run::Detail::default() });
    let mut measurement = run::measure(scenario, &outcome.records);
    if outcome.records.end.0 < scenario.duration.micros() {
        measurement = broken(measurement, outcome.records.end.0 as f64 / 1e6);
    }
    let line = line_from(job, seed, &outcome, measurement);
    RunLine { cpu_seconds: Some(began.elapsed().as_secs_f64()), ..line }
}

/// What a run that was ended early shows.
fn broken(measured: Measurement, seconds: f64) -> Measurement {
    let linearizable = match measured.linearizable {
        Linearizability::Violated { key, why, levels } => Linearizability::Violated {
            key,
            levels,
            why: format!("{why} (the run was ended there, at {seconds:.3} s)"),
        },
        other => other,
    };
    // Faults that were still to come are no evidence against the run.
    let faults = measured.faults_effective;
    Measurement {
        linearizable,
        faults,
        faults_effective: faults,
        strikes: measured.strikes,
        ..Measurement::default()
    }
}

/// The line of a run that was made and measured; without its cost.
pub fn line_from(job: &Job, seed: u64, outcome: &run::Outcome, mut measurement: Measurement) -> RunLine {
    if outcome.starved.is_some() {
        // What happened may be the machine's doing: such a run counts like one whose faults had no proven effect, against
        // safety, and for nothing else.
        measurement.faults_effective = 0;
    }
    let expectations = expectations_of_a_run(job, &measurement);
    RunLine {
        scenario: job.loaded.scenario.name.clone(),
        seed: Seed(seed),
        backend: job.backend.name().to_owned(),
        trace_hash: outcome.trace.hex(),
        inert: measurement.faults_effective < measurement.faults,
        failures: expectations
            .iter()
            .filter(|expectation| expectation.verdict == Judgement::Broken)
            .map(|expectation| expectation.expect.clone())
            .collect(),
        expectations,
        measurement,
        sim_seconds: outcome.records.end.0 as f64 / 1e6,
        cpu_seconds: None,
        events: outcome.trace.events,
    }
}

/// The expectations that one run alone breaks or leaves open, whatever the other runs are.
fn expectations_of_a_run(job: &Job, measurement: &Measurement) -> Vec<RunExpectation> {
    let mut verdicts = Vec::new();
    for expectation in parsed(&job.loaded.scenario.expect) {
        if expectation.broken_by(measurement).is_some() {
            verdicts.push(RunExpectation { expect: expectation.text, verdict: Judgement::Broken });
        } else if expectation.aggregation == Aggregation::EachRun
            && expectation.judge(std::slice::from_ref(measurement)).verdict == Judgement::Inconclusive
        {
            verdicts.push(RunExpectation { expect: expectation.text, verdict: Judgement::Inconclusive });
        }
    }
    verdicts
}

/// A recovery time is good to about the distance of the probes: more than a hundredth of the target is worth a word.
pub fn coarse_probe(scenario: &Scenario) -> Option<String> {
    let target = scenario.targets.and_then(|targets| targets.rto).map(|rto| rto.0.as_secs_f64() * 1e3);
    let target = target.or_else(|| recovery_target(parsed(&scenario.expect).iter()))?;
    let every = scenario.probe.every.0.as_secs_f64() * 1e3;
    (every * 100.0 > target).then(|| {
        format!(
            "Probes are {every} ms apart, more than a hundredth of the target of {target} ms: \
             recovery times are good to about {every} ms."
        )
    })
}

fn parsed(texts: &[String]) -> Vec<Expectation> {
    texts.iter().filter_map(|text| expect::parse(text).ok()).collect()
}

/// The verdict over all runs of a scenario.
pub fn judge(job: &Job, lines: Vec<RunLine>) -> ScenarioResult {
    let scenario = &job.loaded.scenario;
    let measurements: Vec<Measurement> = lines.iter().map(|line| line.measurement.clone()).collect();
    let mut summary = ScenarioSummary {
        name: scenario.name.clone(),
        system: scenario.system.name().to_owned(),
        backend: job.backend.name().to_owned(),
        story: scenario.story.clone(),
        source: scenario.source.clone().unwrap_or_default(),
        remark: scenario.note.clone().unwrap_or_default(),
        loss_target: scenario.targets.and_then(|targets| targets.rpo).map(|bytes| bytes.0),
        path: job.loaded.path.clone(),
        tags: scenario.tags.clone(),
        ..summarise(&lines)
    };
    let target = scenario.targets.and_then(|targets| targets.rto).map(|rto| rto.0.as_secs_f64() * 1e3);
    summary.rto_ms.target = target.or_else(|| recovery_target(parsed(&scenario.expect).iter()));
    summary.notes.extend(coarse_probe(scenario));
    let mut verdict = Verdict::Ok;
    let mut worst_seeds = Vec::new();
    for expectation in parsed(&scenario.expect) {
        let judged = expectation.judge(&measurements);
        if let (true, Some(worst)) = (judged.class.is_some(), judged.worst_run) {
            worst_seeds.push((lines[worst].seed, expectation.text.clone()));
        }
        let result = ExpectationResult::of(&expectation, &judged);
        verdict = verdict.worst(result.asks_for());
        summary.expectations.push(result);
    }
    verdict = verdict.worst(evidence(job, &lines, &mut summary.notes));
    summary.failures = failures(job, &lines, &worst_seeds);
    summary.trace_hash = campaign_hash(&lines);
    summary.verdict = verdict;
    summary.exit = verdict.exit();
    ScenarioResult { summary, lines, stored: Vec::new() }
}

/// Whether the runs are evidence at all: enough of them, with faults that acted, judged to the end.
fn evidence(job: &Job, lines: &[RunLine], notes: &mut Vec<String>) -> Verdict {
    let scenario = &job.loaded.scenario;
    let mut verdict = Verdict::Ok;
    let mut weaker = |verdict_now: Verdict, note: String| {
        notes.push(note);
        verdict = verdict.worst(verdict_now);
    };
    let runs = lines.len() as u64;
    let inert = lines.iter().filter(|line| line.inert).count() as u64;
    if inert * 1_000_000 > runs * u64::from(scenario.inert_max().ppm) {
        weaker(Verdict::Inconclusive, format!("in {inert} of {runs} runs a fault had no effect"));
    }
    if let Some(min_runs) = scenario.min_runs
        && job.own_seeds
        && runs < min_runs
    {
        weaker(
            Verdict::Inconclusive,
            format!("{runs} runs are fewer than the {min_runs} that are asked for"),
        );
    }
    let unknown = lines
        .iter()
        .filter(|l| matches!(l.measurement.linearizable, Linearizability::Unknown { .. }))
        .count();
    if unknown > 0 {
        weaker(Verdict::Inconclusive, format!("linearizability is unknown in {unknown} of {runs} runs"));
    }
    let disagree = lines.iter().filter(|line| line.measurement.truth_agrees == Some(false)).count();
    if disagree > 0 {
        let note =
            format!("in {disagree} of {runs} runs the meter and the simulator's ground truth disagree");
        weaker(Verdict::Inconclusive, note);
    }
    let stuck = lines.iter().filter(|line| line.measurement.stuck && !line.inert).count();
    let about_stuck = scenario.expect.iter().any(|text| text.starts_with("stuck"));
    if stuck > 0 && !about_stuck {
        weaker(
            Verdict::Stuck,
            format!("{stuck} of {runs} runs made no progress after every fault had healed"),
        );
    }
    verdict
}

fn failures(job: &Job, lines: &[RunLine], worst: &[(Seed, String)]) -> Vec<FailureLine> {
    let mut failing: Vec<(Seed, String)> =
        lines.iter().filter(|line| line.failed()).map(|line| (line.seed, line.failures.join("; "))).collect();
    for (seed, what) in worst {
        if !failing.iter().any(|(other, _)| other == seed) {
            failing.push((*seed, what.clone()));
        }
    }
    failing.truncate(FAILURES_LISTED);
    failing
        .into_iter()
        .map(|(seed, what)| FailureLine { seed, what, capsule: None, replay: replay_command(job, seed.0) })
        .collect()
}

/// The digest of all runs' digests in seed order.
fn campaign_hash(lines: &[RunLine]) -> String {
    let mut all = String::new();
    for line in lines {
        all.push_str(&line.trace_hash);
    }
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(all.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::Backend;
    use crate::scenario::load_text;

    #[test]
    fn a_watched_run_ends_where_linearizability_is_certainly_broken() {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/sentinel/primary-cut-off-with-a-client.json");
        let text = std::fs::read_to_string(path).expect("the scenario is in the repository");
        let mut loaded = load_text(&text, path).expect("it is valid");
        loaded.scenario.expect = vec!["linearizable".into()];
        let job = Job { loaded, seeds: vec![1], own_seeds: false, backend: Backend::Kernel };
        let (whole, ended) = (line_of(&job, 1), line_until_broken(&job, 1));
        assert_eq!((&whole.failures, &ended.failures), (&job.loaded.scenario.expect, &whole.failures));
        assert!(ended.sim_seconds < whole.sim_seconds && !ended.inert);
        let Linearizability::Violated { why, .. } = &ended.measurement.linearizable else {
            panic!("violated")
        };
        assert!(why.contains("the run was ended there"), "{why}");
    }
}
