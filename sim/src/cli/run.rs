//! `firedrill run`: scenarios over seeds.

use super::{Cli, Exit, Failure, select};
use crate::backends::Backend;
use crate::campaign::{
    Capsule, Interrupt, Job, Keep, PACKED, Progress, SAMPLE, Store, Task, cross_check, execute, judge,
    line_of, line_until_broken, pack, record_of, replay_command, runs_to_keep,
};
use crate::run::Detail;
use crate::scenario::Seeds;
use clap::ValueEnum;
use firedrill_reports::Report;
use firedrill_reports::result::{Campaign, RunLine, ScenarioResult};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Scenarios, folders, files or patterns; none: all but the museum.
    names: Vec<String>,
    /// Seeds to run instead of each scenario's own: 1..300, 7, 3,9,0x1f, random:50, @FILE.
    #[arg(long)]
    seeds: Option<Seeds>,
    /// Where to run: the fast kernel, or the production driver over turmoil.
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,
    /// Threads; as many as there are cores if not given.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Form of what is printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Folder for results and reports.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Whole records to keep in --out.
    #[arg(long, value_enum, default_value_t, requires = "out", value_name = "WHICH")]
    keep: Keep,
    /// Go on with the interrupted campaign in --out.
    #[arg(long, requires = "out")]
    resume: bool,
    /// Compare with these stored runs, seed by seed; worse than noise: exit 7.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Store this campaign's runs as a baseline.
    #[arg(long, value_name = "FILE")]
    save_baseline: Option<PathBuf>,
    /// Run so many seeds of each scenario on turmoil too, and compare verdicts and times.
    #[arg(long, value_name = "K", default_value_t = 0)]
    cross_check: usize,
    /// End at the first failing run, and that run as soon as it certainly broke linearizability.
    #[arg(long)]
    fail_fast: bool,
}

/// Forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A table.
    Human,
    /// One JSON document.
    Json,
    /// One JSON line a run.
    Jsonl,
    /// JUnit XML.
    Junit,
    /// Markdown for a comment.
    Markdown,
    /// One self-contained page.
    Html,
}

impl Format {
    /// Write a campaign in this form.
    pub(super) fn write(self, campaign: &Campaign, out: &mut dyn Write) -> std::io::Result<()> {
        use firedrill_reports::{html, human, json, junit, markdown, text::Style};
        match self {
            Format::Human => {
                let plain = std::env::var_os("NO_COLOR").is_some() || !std::io::stdout().is_terminal();
                let style = if plain { Style::Plain } else { Style::Colour };
                human::Human { style }.write(campaign, out)
            }
            Format::Json => json::Json.write(campaign, out),
            Format::Jsonl => json::JsonLines.write(campaign, out),
            Format::Junit => junit::Junit.write(campaign, out),
            Format::Markdown => markdown::Markdown.write(campaign, out),
            Format::Html => html::Html.write(campaign, out),
        }
    }
}

/// Failing seeds of a scenario that get a capsule.
const CAPSULES_MAX: usize = 10;

pub(super) fn main(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let jobs = supported(select::jobs(cli, &args.names, args.seeds.as_ref(), args.backend)?)?;
    let tasks = tasks(&jobs);
    let baseline = args.baseline.as_deref().map(read_baseline).transpose()?;
    let (store, done) = match &args.out {
        Some(folder) => {
            let (store, done) = Store::open(folder, &jobs, args.resume)?;
            (Some(store), done)
        }
        None => (None, Vec::new()),
    };
    let interrupt = watch_for_interrupts();
    let remaining = crate::campaign::remaining(&tasks, &jobs, &done);
    let mut collector = Collector::new(&jobs, remaining.len(), store, done, args.fail_fast);
    let threads = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let make = if args.fail_fast { line_until_broken } else { line_of };
    execute(&jobs, &remaining, threads, &interrupt, &make, &mut collector)?;
    let interrupted = interrupt.load(Ordering::Relaxed);
    let (store, mut campaign) = collector.finish(&jobs);
    campaign.partial = interrupted;
    compare(baseline, &mut campaign);
    check_across(args, &jobs, &mut campaign, threads)?;
    // Shown first: should the folder have no room for reports, the user has seen what came out.
    args.format.write(&campaign, &mut std::io::stdout().lock())?;
    if let Some(store) = &store {
        write_reports(store, &jobs, args.keep, campaign.clone())?;
    }
    if let (Some(folder), Format::Human) = (&args.out, args.format) {
        println!("report   {}", folder.join("report.html").display());
    }
    if let Some(path) = &args.save_baseline {
        save_baseline(path, &campaign)?;
    }
    Ok(if interrupted { Exit::Interrupted } else { exit_of(&campaign) })
}

/// The jobs that their backend can run; the others are named and left out.
fn supported(jobs: Vec<Job>) -> Result<Vec<Job>, Failure> {
    let (mut kept, mut reasons) = (Vec::new(), Vec::new());
    for job in jobs {
        match job.backend.supports(&job.loaded.scenario) {
            Ok(()) => kept.push(job),
            Err(why) => reasons.push(format!("{}: skipped, {why}", job.loaded.scenario.name)),
        }
    }
    reasons.iter().for_each(|reason| eprintln!("{reason}"));
    if kept.is_empty() { Err(Failure::Nothing("this backend".to_owned())) } else { Ok(kept) }
}

fn exit_of(campaign: &Campaign) -> Exit {
    match campaign.exit() {
        0 => Exit::Holds,
        code => Exit::Verdict(code),
    }
}

fn tasks(jobs: &[Job]) -> Vec<Task> {
    let seeds = |(job, planned): (usize, &Job)| {
        planned.seeds.iter().map(move |seed| Task { job, seed: *seed }).collect::<Vec<_>>()
    };
    jobs.iter().enumerate().flat_map(seeds).collect()
}

/// The first Ctrl-C finishes what runs and reports it; the second ends at once.
fn watch_for_interrupts() -> Arc<Interrupt> {
    let interrupt = Arc::new(AtomicBool::new(false));
    let seen = interrupt.clone();
    let installed = ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("interrupted: finishing the runs under way; once more to end at once");
    });
    if let Err(error) = installed {
        eprintln!("warning: Ctrl-C will end at once: {error}");
    }
    interrupt
}

/// The same scenarios on turmoil: told beside the kernel's, and a difference makes a scenario inconclusive.
fn check_across(args: &Args, jobs: &[Job], campaign: &mut Campaign, threads: usize) -> std::io::Result<()> {
    if args.cross_check == 0 {
        return Ok(());
    }
    for (job, result) in jobs.iter().zip(&mut campaign.scenarios) {
        if let Err(why) = Backend::Turmoil.supports(&job.loaded.scenario) {
            eprintln!("{}: not cross-checked, {why}", job.loaded.scenario.name);
            continue;
        }
        let check = cross_check(job, &result.lines, Backend::Turmoil, args.cross_check, threads)?;
        let ms = |value: Option<f64>| value.map_or("none".to_owned(), |ms| format!("{ms:.0} ms"));
        eprintln!(
            "{}: {} of {} verdicts equal on turmoil, median recovery {} against {}{}",
            job.loaded.scenario.name,
            check.agree,
            check.runs,
            ms(check.p50_here),
            ms(check.p50_there),
            if check.equal { "" } else { "  DIFFERENT" }
        );
        if !check.equal {
            let verdict = result.summary.verdict.worst(firedrill_reports::result::Verdict::Inconclusive);
            result.summary.notes.push("the kernel and turmoil disagree".to_owned());
            result.summary.verdict = verdict;
            result.summary.exit = verdict.exit();
        }
        result.summary.cross_check = Some(check);
    }
    Ok(())
}

/// The runs of an earlier campaign.
fn read_baseline(path: &Path) -> Result<Vec<RunLine>, Failure> {
    let file = std::fs::File::open(path)
        .map_err(|error| Failure::Missing(format!("cannot read the baseline {}: {error}", path.display())))?;
    let read = firedrill_reports::json::read_lines(std::io::BufReader::new(file))
        .map_err(|error| Failure::BadInput(format!("{}: {error}", path.display())))?;
    Ok(read.lines)
}

fn save_baseline(path: &Path, campaign: &Campaign) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    for line in campaign.scenarios.iter().flat_map(|scenario| &scenario.lines) {
        let line = RunLine { cpu_seconds: None, ..line.clone() };
        firedrill_reports::json::write_line(&line, &mut bytes)?;
    }
    super::write(path, &bytes)
}

/// With a baseline: what changed, and a verdict of its own.
fn compare(baseline: Option<Vec<RunLine>>, campaign: &mut Campaign) {
    let Some(baseline) = baseline else { return };
    let lines: Vec<RunLine> = campaign.scenarios.iter().flat_map(|scenario| scenario.lines.clone()).collect();
    let comparison = firedrill_reports::compare::compare(&baseline, &lines);
    if comparison.verdict == firedrill_reports::compare::Change::Regressed {
        let verdict = firedrill_reports::result::Verdict::Regressed;
        if campaign.verdict().worst(verdict) == verdict {
            campaign.exit = Some(verdict.exit());
        }
    }
    campaign.comparison = Some(comparison);
}

/// Every artefact of a campaign's folder. They hold no clock and no CPU time, so that equal campaigns give equal bytes.
fn write_reports(store: &Store, jobs: &[Job], keep: Keep, mut campaign: Campaign) -> Result<(), Failure> {
    for (job, result) in jobs.iter().zip(&mut campaign.scenarios) {
        write_capsules(store, job, result)?;
        for (seed, why) in runs_to_keep(result, keep) {
            let stored = record_of(job, seed, why);
            // A report reads and draws what lies in `records/`, not the samples below it.
            let folder = if stored.why == SAMPLE { "records/samples" } else { "records" };
            let name = format!("{folder}/{}-{}{PACKED}", file_name(&result.summary.name), stored.seed);
            store.write(&name, &pack(&stored, &name))?;
            if stored.why != SAMPLE {
                result.stored.push(stored);
            }
        }
    }
    campaign.heading = heading(crate::campaign::ENGINE, &campaign);
    write_campaign(store, &campaign.reproducible())
}

/// What a stored report is about: which program made it, how many runs of how many scenarios, and where.
pub(super) fn heading(engine: &str, campaign: &Campaign) -> Vec<String> {
    let summaries = || campaign.scenarios.iter().map(|result| &result.summary);
    let runs: u64 = summaries().map(|summary| summary.runs).sum();
    let mut backends: Vec<&str> = summaries().map(|summary| summary.backend.as_str()).collect();
    backends.sort_unstable();
    backends.dedup();
    let (count, backends) = (campaign.scenarios.len(), backends.join(", "));
    vec![format!("Engine {engine}: {runs} runs of {count} scenarios on {backends}")]
}

pub(super) fn write_campaign(store: &Store, campaign: &Campaign) -> Result<(), Failure> {
    let artefacts: [(&str, Format); 5] = [
        ("summary.json", Format::Json),
        ("report.html", Format::Html),
        ("report.md", Format::Markdown),
        ("junit.xml", Format::Junit),
        ("report.txt", Format::Human),
    ];
    for (name, format) in artefacts {
        let mut bytes = Vec::new();
        if format == Format::Human {
            let style = firedrill_reports::text::Style::Plain;
            firedrill_reports::human::Human { style }.write(campaign, &mut bytes)?;
        } else {
            format.write(campaign, &mut bytes)?;
        }
        store.write(name, &bytes)?;
    }
    Ok(())
}

fn write_capsules(store: &Store, job: &Job, result: &mut ScenarioResult) -> Result<(), Failure> {
    let scenario = &job.loaded.scenario;
    let lines: Vec<RunLine> = result.lines.clone();
    for failure in result.summary.failures.iter_mut().take(CAPSULES_MAX) {
        let Some(line) = lines.iter().find(|line| line.seed == failure.seed) else { continue };
        let outcome = job.backend.run(scenario, failure.seed.0, &Detail::default());
        let name = format!("capsules/{}-{}.json", file_name(&scenario.name), failure.seed);
        store.write(&name, Capsule::of(scenario, failure.seed.0, &outcome, line).to_json().as_bytes())?;
        failure.capsule = Some(name);
        failure.replay = replay_command(job, failure.seed.0);
    }
    Ok(())
}

/// A scenario's name as a file name.
pub(super) fn file_name(scenario: &str) -> String {
    scenario.replace('/', "-")
}

/// Takes results as they come: keeps them on disk, shows progress, and judges a scenario when its last run is there.
struct Collector {
    lines: BTreeMap<usize, Vec<RunLine>>,
    store: Option<Store>,
    total: usize,
    done: usize,
    failed: usize,
    sim_seconds: f64,
    began: std::time::Instant,
    shown: std::time::Instant,
    bar: bool,
    fail_fast: bool,
}

impl Collector {
    #[expect(clippy::disallowed_methods, reason = "progress is shown in real time")]
    fn new(jobs: &[Job], total: usize, store: Option<Store>, done: Vec<RunLine>, fail_fast: bool) -> Self {
        let mut lines: BTreeMap<usize, Vec<RunLine>> = BTreeMap::new();
        for line in done {
            if let Some(job) = jobs.iter().position(|job| job.loaded.scenario.name == line.scenario) {
                lines.entry(job).or_default().push(line);
            }
        }
        let now = std::time::Instant::now();
        Collector {
            lines,
            store,
            total,
            done: 0,
            failed: 0,
            sim_seconds: 0.0,
            began: now,
            shown: now,
            bar: std::io::stderr().is_terminal(),
            fail_fast,
        }
    }

    fn show(&mut self, last: bool) {
        // On a terminal a line that renews itself; elsewhere a plain line now and then.
        let pause = if self.bar { 0.2 } else { 10.0 };
        if !last && self.shown.elapsed().as_secs_f64() < pause {
            return;
        }
        self.shown += self.shown.elapsed();
        let seconds = self.began.elapsed().as_secs_f64().max(1e-6);
        let text = format!(
            "{}/{} runs  {} failed  {:.0} runs/s  {:.0} simulated s/s",
            self.done,
            self.total,
            self.failed,
            self.done as f64 / seconds,
            self.sim_seconds / seconds
        );
        match (self.bar, last) {
            (true, false) => eprint!("\r\x1b[K{text}"),
            (true, true) => eprint!("\r\x1b[K"),
            (false, false) => eprintln!("{text}"),
            (false, true) => {}
        }
    }

    fn finish(mut self, jobs: &[Job]) -> (Option<Store>, Campaign) {
        self.show(true);
        let mut campaign = Campaign::default();
        for (at, job) in jobs.iter().enumerate() {
            let mut lines = self.lines.remove(&at).unwrap_or_default();
            lines.sort_by_key(|line| line.seed);
            campaign.scenarios.push(judge(job, lines));
        }
        (self.store, campaign)
    }
}

impl Progress for Collector {
    fn done(&mut self, task: Task, line: RunLine) -> std::io::Result<()> {
        if let Some(store) = &mut self.store {
            store.append(&line)?;
        }
        self.done += 1;
        self.failed += usize::from(line.failed());
        self.sim_seconds += line.sim_seconds;
        self.lines.entry(task.job).or_default().push(line);
        self.show(false);
        Ok(())
    }

    fn enough(&self) -> bool {
        self.fail_fast && self.failed > 0
    }
}
