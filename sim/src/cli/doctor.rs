//! `firedrill doctor`: can the testbed itself be trusted?

use super::{Cli, Exit, Failure, select};
use crate::backends::Backend;
use crate::campaign::{Job, compare_with_twin, cross_check, line_of};
use crate::scenario::{Seeds, load};
use firedrill_checkers::expect;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Scenarios to replay; none: all but the museum.
    names: Vec<String>,
    /// Seeds of each: how many, or which, as 1..100000.
    #[arg(long, default_value = "4")]
    seeds: String,
    /// Another build of the program (as the debug build) that must make the same runs.
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    /// Print the digests and nothing else.
    #[arg(long, hide = true)]
    digests: bool,
}

/// A scenario with this tag is not calm without its faults: its own settings restart nodes (an orchestrator's rolling
/// restart), its faults include the commands that complete the set-up, or every node takes writes on purpose.
const EVENTFUL: &str = "eventful";

/// The name and digest of every run, one a line.
type Digests = Vec<String>;

pub(super) fn main(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let jobs = jobs(cli, args)?;
    let here = digests(&jobs, 1, false);
    if args.digests {
        here.iter().for_each(|line| println!("{line}"));
        return Ok(Exit::Holds);
    }
    let mut sound = true;
    let mut tell = |what: &str, difference: Option<String>| {
        match &difference {
            None => println!("{what:<58} equal"),
            Some(difference) => println!("{what:<58} DIFFERENT: {difference}"),
        }
        sound &= difference.is_none();
    };
    println!("{} runs of {} scenarios", here.len(), jobs.len());
    tell("the same runs on 4 threads", difference(&here, &digests(&jobs, 4, false)));
    tell("the same runs in shuffled order", difference(&here, &digests(&jobs, 2, true)));
    let program = std::env::current_exe()?;
    tell("the same runs in another process", difference(&here, &in_process(&program, cli, args)?));
    if let Some(program) = &args.against {
        tell("the same runs by the other build", difference(&here, &in_process(program, cli, args)?));
    }
    if !sound {
        return Ok(Exit::Verdict(5));
    }
    if !calm_without_faults(&jobs) || !turmoil_agrees(&jobs)? {
        return Ok(Exit::Verdict(6));
    }
    canary(cli)
}

/// Seeds of each scenario that is run on turmoil too.
const CROSS_CHECKED: usize = 2;

/// Whether turmoil comes to the kernel's verdicts: for the first scenario of each system that turmoil can run, because it is
/// slow. `run --cross-check` does it for all, and compares times as well.
fn turmoil_agrees(jobs: &[Job]) -> Result<bool, Failure> {
    let mut systems = BTreeSet::new();
    let mut agrees = true;
    for job in jobs {
        let scenario = &job.loaded.scenario;
        if Backend::Turmoil.supports(scenario).is_err() || !systems.insert(scenario.system.name()) {
            continue;
        }
        let job = Job { seeds: (1..=CROSS_CHECKED as u64).collect(), ..job.clone() };
        let here: Vec<_> = job.seeds.iter().map(|seed| line_of(&job, *seed)).collect();
        let check = cross_check(&job, &here, Backend::Turmoil, CROSS_CHECKED, 2)?;
        if check.agree < check.runs {
            let (agree, runs) = (check.agree, check.runs);
            println!("{:<58} {agree} of {runs} verdicts equal", format!("on turmoil, {}", scenario.name));
            agrees = false;
        }
    }
    if agrees {
        println!("{:<58} equal", format!("verdicts of {} systems on turmoil", systems.len()));
    }
    Ok(agrees)
}

/// Whether nothing happens in the first seed of each scenario when its faults are left out: what a drill finds must be the
/// faults' doing.
fn calm_without_faults(jobs: &[Job]) -> bool {
    let mut calm = true;
    for job in jobs {
        let scenario = &job.loaded.scenario;
        if scenario.tags.iter().any(|tag| tag == EVENTFUL) {
            continue;
        }
        for unprovoked in compare_with_twin(scenario, 1).unprovoked {
            println!("{:<58} {unprovoked}", format!("without its faults, {}", scenario.name));
            calm = false;
        }
    }
    if calm {
        println!("{:<58} calm", "every scenario without its faults");
    }
    calm
}

fn jobs(cli: &Cli, args: &Args) -> Result<Vec<Job>, Failure> {
    let loaded = select::scenarios(cli, &args.names)?;
    let seeds = match args.seeds.parse::<u64>() {
        Ok(count) => format!("1..{}", count.max(1)),
        Err(_) => args.seeds.clone(),
    };
    let seeds = Seeds::new(&seeds)?.list(0)?;
    let job = |loaded| Job { loaded, seeds: seeds.clone(), own_seeds: false, backend: Backend::Kernel };
    Ok(loaded.into_iter().map(job).collect())
}

/// The digests of all runs in order, made on so many threads, in order or not.
fn digests(jobs: &[Job], threads: usize, shuffled: bool) -> Digests {
    let mut tasks: Vec<(usize, u64)> =
        jobs.iter().enumerate().flat_map(|(at, job)| job.seeds.iter().map(move |seed| (at, *seed))).collect();
    if shuffled {
        // Any order will do, as long as it is another one.
        tasks.sort_by_key(|(at, seed)| (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17), *at));
        tasks.reverse();
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut own = Vec::new();
        while let Some((at, seed)) = tasks.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            let line = line_of(&jobs[*at], *seed);
            own.push((*at, *seed, format!("{} {} {}", line.scenario, line.seed, line.trace_hash)));
        }
        own
    };
    let mut all: Vec<(usize, u64, String)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    all.sort();
    all.into_iter().map(|(.., text)| text).collect()
}

fn difference(here: &Digests, there: &Digests) -> Option<String> {
    if here.len() != there.len() {
        return Some(format!("{} runs against {}", here.len(), there.len()));
    }
    here.iter().zip(there).find(|(a, b)| a != b).map(|(a, b)| format!("{a} against {b}"))
}

fn in_process(program: &std::path::Path, cli: &Cli, args: &Args) -> Result<Digests, Failure> {
    let output = Command::new(program)
        .arg("--scenarios")
        .arg(&cli.scenarios)
        .args(["doctor", "--digests", "--seeds", &args.seeds])
        .args(&args.names)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(str::to_owned).collect())
}

/// The canary: a planted protocol bug that the judges must see.
fn canary(cli: &Cli) -> Result<Exit, Failure> {
    let folder = cli.scenarios.join("canary");
    let mut paths: Vec<PathBuf> = match std::fs::read_dir(&folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => Vec::new(),
    };
    paths.sort();
    if paths.is_empty() {
        println!("no canary in {}: the testbed may be blind", folder.display());
        return Ok(Exit::Verdict(8));
    }
    let mut caught = true;
    for path in paths {
        let loaded = load(&path)?;
        let seeds = loaded.scenario.seeds.list(0)?;
        let job = Job { loaded, seeds, own_seeds: true, backend: Backend::Kernel };
        let runs: Vec<_> = job.seeds.iter().map(|seed| line_of(&job, *seed).measurement).collect();
        for text in &job.loaded.scenario.caught_by {
            let judged =
                expect::parse(text).map_err(|error| Failure::BadInput(error.to_string()))?.judge(&runs);
            let seen = judged.verdict == expect::Verdict::Ok;
            println!(
                "canary {:<51} {}",
                job.loaded.scenario.name,
                if seen { "caught" } else { "NOT CAUGHT" }
            );
            caught &= seen;
        }
    }
    Ok(if caught { Exit::Holds } else { Exit::Verdict(8) })
}
