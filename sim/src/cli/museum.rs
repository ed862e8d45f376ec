//! `firedrill museum`: every historical bug is caught as it stands, and clean with its remedy.

use super::{Cli, Exit, Failure, select};
use crate::backends::Backend;
use crate::campaign::{Job, line_of};
use crate::scenario::{Loaded, load_text};
use firedrill_checkers::expect::{self, Verdict};
use firedrill_checkers::measure::Measurement;

/// Arguments of `museum`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Entries or folders; none: all of them.
    names: Vec<String>,
}

/// What became of one entry.
struct Shown {
    name: String,
    complaint: Option<String>,
    cured: Option<bool>,
}

pub(super) fn main(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let entries = select::museum(cli, &args.names)?;
    if entries.is_empty() {
        return Err(Failure::Nothing("the museum".to_owned()));
    }
    let shown: Vec<Shown> = parallel(&entries);
    let mut bad = 0;
    for entry in &shown {
        let word = match (&entry.complaint, entry.cured) {
            (Some(_), _) => "MISSED",
            (None, Some(_)) => "caught, and clean with its remedy",
            (None, None) => "caught (hazard without a cure)",
        };
        println!("{:<56} {word}", entry.name);
        if let Some(complaint) = &entry.complaint {
            println!("    {complaint}");
            bad += 1;
        }
    }
    println!("{} of {} entries stand", shown.len() - bad, shown.len());
    Ok(if bad == 0 { Exit::Holds } else { Exit::Verdict(8) })
}

/// Show the entries, on as many threads as there are cores, in order.
fn parallel(entries: &[Loaded]) -> Vec<Shown> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let mut all: Vec<(usize, Shown)> = std::thread::scope(|scope| {
        let work = || {
            let mut own = Vec::new();
            loop {
                let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(entry) = entries.get(at) else { return own };
                own.push((at, show(entry)));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, shown)| shown).collect()
}

fn show(entry: &Loaded) -> Shown {
    let name = entry.scenario.name.clone();
    let complaint = caught(entry).err();
    if complaint.is_some() {
        return Shown { name, complaint, cured: None };
    }
    match clean(entry) {
        Ok(cured) => Shown { name, complaint: None, cured },
        Err(complaint) => Shown { name, complaint: Some(complaint), cured: Some(false) },
    }
}

/// The bug must show: each line of `caught_by` holds over the entry's seeds.
fn caught(entry: &Loaded) -> Result<(), String> {
    if entry.scenario.caught_by.is_empty() {
        return Err("it names nothing in `caught_by`".to_owned());
    }
    let runs = runs_of(entry)?;
    for text in &entry.scenario.caught_by {
        let judged = expect::parse(text).map_err(|error| error.to_string())?.judge(&runs);
        if judged.verdict != Verdict::Ok {
            return Err(format!("not caught: {}", judged.text));
        }
    }
    Ok(())
}

/// With the remedy every expectation holds, and the bug is gone. `None`: there is no remedy.
fn clean(entry: &Loaded) -> Result<Option<bool>, String> {
    let Some(cured) = entry.scenario.remedied().map_err(|error| error.to_string())? else {
        let hazard = entry.scenario.tags.iter().any(|tag| tag == "hazard");
        return if hazard { Ok(None) } else { Err("it has no remedy and is not tagged `hazard`".to_owned()) };
    };
    let text = serde_json::to_string(&cured).expect("a scenario is JSON");
    let cured = load_text(&text, &entry.path).map_err(|error| error.to_string())?;
    let runs = runs_of(&cured)?;
    if cured.scenario.expect.is_empty() {
        return Err("it says nothing in `expect` of the cured system".to_owned());
    }
    for text in &cured.scenario.expect {
        let judged = expect::parse(text).map_err(|error| error.to_string())?.judge(&runs);
        if judged.verdict != Verdict::Ok {
            return Err(format!("not clean with its remedy: {}", judged.text));
        }
    }
    let still = entry.scenario.caught_by.iter().all(|text| {
        expect::parse(text).is_ok_and(|expectation| expectation.judge(&runs).verdict == Verdict::Ok)
    });
    if still { Err("the remedy changes nothing: it is still caught".to_owned()) } else { Ok(Some(true)) }
}

fn runs_of(loaded: &Loaded) -> Result<Vec<Measurement>, String> {
    let seeds = loaded.scenario.seeds.list(0).map_err(|error| error.to_string())?;
    let job = Job { loaded: loaded.clone(), seeds, own_seeds: true, backend: Backend::Kernel };
    let lines: Vec<_> = job.seeds.iter().map(|seed| line_of(&job, *seed)).collect();
    if let Some(inert) = lines.iter().find(|line| line.inert) {
        return Err(format!("with seed {} a fault had no effect", inert.seed));
    }
    Ok(lines.into_iter().map(|line| line.measurement).collect())
}
