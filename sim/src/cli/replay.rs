//! `firedrill replay`: one run again, and its story.

use super::{Cli, Exit, Failure, select, write};
use crate::backends::Backend;
use crate::campaign::{Capsule, ENGINE, Job, line_from, violations};
use crate::run::{Detail, measure};
use crate::scenario::Loaded;
use crate::trace::TraceHash;
use clap::ValueEnum;
use firedrill_checkers::linear::{self, picture::Span};
use firedrill_checkers::measure::Linearizability;
use firedrill_checkers::record::{Fact, FaultRecord, NodeClass, Observation, Records, SimTime};
use firedrill_reports::Report;
use firedrill_reports::lanes::{Lane, lanes, role_word};
use firedrill_reports::result::{
    Campaign, Judgement, RunLine, ScenarioResult, ScenarioSummary, Seed, StoredRun,
};
use std::path::{Path, PathBuf};

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A scenario (with --seed), or a capsule.
    name: String,
    /// The seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Tell every event, not a screenful.
    #[arg(long)]
    all: bool,
    /// Where to run it.
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,
    /// Write the run as a capsule.
    #[arg(long, value_name = "FILE")]
    capsule: Option<PathBuf>,
    /// Write the run's records as JSON, compressed if the name ends with .gz.
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    /// Write a timeline for Perfetto (Chrome trace JSON).
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// If the run is not linearizable: write the operations that prove it as a page, with faults and roles above them.
    #[arg(long, value_name = "FILE")]
    explain: Option<PathBuf>,
}

pub(super) fn main(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let path = Path::new(&args.name);
    if args.seed.is_none() && path.is_file() {
        return replay_capsule(cli, args, path);
    }
    let Some(seed) = args.seed else {
        return Err(Failure::Usage("name the seed with --seed, or give a capsule".to_owned()));
    };
    let mut loaded = select::scenarios(cli, std::slice::from_ref(&args.name))?;
    if loaded.len() != 1 {
        return Err(Failure::Usage(format!("`{}` names {} scenarios; replay one", args.name, loaded.len())));
    }
    let loaded = loaded.remove(0);
    args.backend.supports(&loaded.scenario).map_err(Failure::Usage)?;
    let job = Job { loaded, seeds: vec![seed], own_seeds: false, backend: args.backend };
    let retold = tell(cli, args, &job, seed)?;
    Ok(verdict(&job, &retold.line))
}

/// One run, made once.
struct Retold {
    trace: TraceHash,
    line: RunLine,
}

/// Make the run, print its story, and write what was asked for.
fn tell(cli: &Cli, args: &Args, job: &Job, seed: u64) -> Result<Retold, Failure> {
    let scenario = &job.loaded.scenario;
    let detail = Detail { notes: true, messages: cli.verbose > 2, ..Detail::default() };
    let outcome = job.backend.run(scenario, seed, &detail);
    let measurement = measure(scenario, &outcome.records);
    let line = line_from(job, seed, &outcome, measurement.clone());
    println!("{}  seed {seed}  trace {}  engine {ENGINE}", scenario.name, outcome.trace.hex());
    println!("{}", scenario.story);
    let violations = violations(scenario, &outcome.records, &measurement);
    let story = firedrill_reports::story::story(&outcome.records, Some(&measurement), &violations, args.all);
    print!("{}", story.to_text());
    for expectation in &line.expectations {
        let word = if expectation.verdict == Judgement::Broken { "BROKEN" } else { "unknown" };
        println!("{word}  {}", expectation.expect);
    }
    if matches!(measurement.linearizable, Linearizability::Violated { .. }) {
        not_linearizable(args, &format!("{}, seed {seed}", scenario.name), &outcome.records)?;
    }
    if let Some(path) = &args.capsule {
        write(path, Capsule::of(scenario, seed, &outcome, &line).to_json().as_bytes())?;
    }
    let stored = StoredRun {
        seed: Seed(seed),
        why: "replayed".to_owned(),
        measurement,
        violations,
        replay: crate::campaign::replay_command(job, seed),
        records: outcome.records,
    };
    let retold = Retold { trace: outcome.trace, line };
    write_records(args, job, &retold.line, stored)?;
    Ok(retold)
}

/// Which operations cannot all be true, what holds all the same, and, if wanted, the picture with faults and roles.
fn not_linearizable(args: &Args, title: &str, records: &Records) -> Result<(), Failure> {
    let report = linear::check_run(records, &linear::Options::default());
    print!("{}", report.to_human());
    let affordable = linear::levels::is_affordable(&records.history);
    let levels = affordable.then(|| linear::levels::grade(&records.history, &report));
    if let Some(levels) = &levels {
        println!("{}", levels.words());
    }
    let Some(path) = &args.explain else { return Ok(()) };
    let page = linear::picture::html(&report, title, &spans(records), levels.as_ref());
    write(path, page.as_bytes())
}

/// The epochs a data node announced, each until its next one, in a lane of their own.
fn epochs(records: &Records, lane: &Lane) -> Vec<Span> {
    let announced = |seen: &&Observation| seen.node == lane.node;
    let epoch = |seen: &Observation| match seen.fact {
        Fact::Epoch(epoch) => Some((seen.instant.at, epoch)),
        _ => None,
    };
    let mut epochs: Vec<_> = records.observations.iter().filter(announced).filter_map(epoch).collect();
    epochs.dedup_by_key(|epoch| epoch.1);
    let span = |(n, (from, epoch)): (usize, &(SimTime, u64))| Span {
        lane: format!("{} epoch", lane.name),
        label: epoch.to_string(),
        from_ms: from.as_ms(),
        until_ms: epochs.get(n + 1).map(|next| next.0.as_ms()),
    };
    epochs.iter().enumerate().map(span).collect()
}

/// Faults, and the roles and epochs of data nodes, to be drawn above the clients.
fn spans(records: &Records) -> Vec<Span> {
    let fault = |fault: &FaultRecord| Span {
        lane: "faults".to_owned(),
        label: fault.label.clone(),
        from_ms: fault.began.at.as_ms(),
        until_ms: fault.healed.map(|healed| healed.at.as_ms()),
    };
    let mut spans: Vec<Span> = records.journal.faults.iter().map(fault).collect();
    for lane in lanes(records).lanes.iter().filter(|lane| lane.class == NodeClass::Data) {
        spans.extend(lane.roles.iter().map(|role| Span {
            lane: lane.name.clone(),
            label: role_word(role.what).to_owned(),
            from_ms: role.from.as_ms(),
            until_ms: Some(role.until.as_ms()),
        }));
        spans.extend(epochs(records, lane));
    }
    spans
}

/// The run's records and its timeline, where they were asked for.
fn write_records(args: &Args, job: &Job, line: &RunLine, stored: StoredRun) -> Result<(), Failure> {
    if let Some(path) = &args.records {
        write(path, &crate::campaign::pack(&stored, &path.to_string_lossy()))?;
    }
    if let Some(path) = &args.trace {
        let mut bytes = Vec::new();
        let summary =
            ScenarioSummary { name: job.loaded.scenario.name.clone(), ..ScenarioSummary::default() };
        let result = ScenarioResult { summary, lines: vec![line.clone()], stored: vec![stored] };
        let campaign = Campaign { scenarios: vec![result], ..Campaign::default() };
        firedrill_reports::trace::Trace.write(&campaign, &mut bytes)?;
        write(path, &bytes)?;
    }
    Ok(())
}

/// The exit of a run by what it broke.
fn verdict(job: &Job, line: &RunLine) -> Exit {
    let result = crate::campaign::judge(job, vec![line.clone()]);
    let broken = |code: u8| if code == 0 { Exit::Holds } else { Exit::Verdict(code) };
    // A single run is no statistics: only what it broke by itself counts.
    if line.failed() { broken(result.summary.exit) } else { Exit::Holds }
}

/// Replay a capsule: the same engine must meet the same digest; another one judges by the violation.
fn replay_capsule(cli: &Cli, args: &Args, path: &Path) -> Result<Exit, Failure> {
    let capsule = Capsule::read(path)?;
    let loaded: Loaded = capsule.loaded(path)?;
    let seed = capsule.seed.0;
    let backend = Backend::from_str(&capsule.backend, true)
        .map_err(|_| Failure::BadInput(format!("`{}` is no backend of this program", capsule.backend)))?;
    let job = Job { loaded, seeds: vec![seed], own_seeds: false, backend };
    let retold = tell(cli, args, &job, seed)?;
    if capsule.engine == ENGINE {
        if retold.trace.hex() == capsule.trace_hash {
            println!("same engine, same run: trace {}", capsule.trace_hash);
            return Ok(still_there(&job, &capsule, &retold.line));
        }
        explain_difference(&job, &capsule, &retold.trace);
        return Ok(Exit::Verdict(5));
    }
    println!(
        "another engine ({} made the capsule, this is {ENGINE}): judged by the violation",
        capsule.engine
    );
    Ok(still_there(&job, &capsule, &retold.line))
}

fn still_there(job: &Job, capsule: &Capsule, line: &RunLine) -> Exit {
    if capsule.violations.is_empty() || line.failed() {
        let word = if line.failed() { "still there" } else { "nothing to look for: the capsule names none" };
        println!("violation: {word}");
    } else {
        println!("violation: gone");
    }
    verdict(job, line)
}

/// Name the first event that differs, as near as the checkpoints allow.
fn explain_difference(job: &Job, capsule: &Capsule, now: &TraceHash) {
    let then = TraceHash {
        digest: u64::from_str_radix(&capsule.trace_hash, 16).unwrap_or(0),
        events: capsule.events,
        checkpoints: capsule.checkpoint_numbers(),
    };
    let Some(range) = now.first_difference(&then) else { return };
    println!("NONDETERMINISM: the same engine made another run of the same seed");
    println!("the first difference is in events {}..{}; this run has there:", range.start, range.end);
    let detail = Detail { events: range, ..Detail::default() };
    let outcome = job.backend.run(&job.loaded.scenario, capsule.seed.0, &detail);
    for line in outcome.events.iter().take(5) {
        println!("  {line}");
    }
}
