//! `firedrill report`: the reports of a stored campaign, made again.

use super::run::Format;
use super::{Exit, Failure};
use crate::backends::Backend;
use crate::campaign::{Job, judge, read_plan, read_results};
use crate::scenario::load_text;
use clap::ValueEnum;
use firedrill_reports::Report;
use firedrill_reports::result::{Campaign, StoredRun};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of a campaign (of `run --out`).
    path: PathBuf,
    /// Form of the report.
    #[arg(long, value_enum, default_value_t = Form::Human)]
    format: Form,
    /// Write it here instead of stdout.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Forms of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
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
    /// Recovery times as HdrHistogram text, for the plotters of latency people.
    Hgrm,
    /// The kept runs as a Chrome trace, for Perfetto.
    Trace,
}

impl Form {
    fn write(self, campaign: &Campaign, out: &mut dyn Write) -> std::io::Result<()> {
        match self {
            Form::Human => Format::Human.write(campaign, out),
            Form::Json => Format::Json.write(campaign, out),
            Form::Jsonl => Format::Jsonl.write(campaign, out),
            Form::Junit => Format::Junit.write(campaign, out),
            Form::Markdown => Format::Markdown.write(campaign, out),
            Form::Html => Format::Html.write(campaign, out),
            Form::Hgrm => firedrill_reports::hgrm::Hgrm.write(campaign, out),
            Form::Trace => firedrill_reports::trace::Trace.write(campaign, out),
        }
    }
}

pub(super) fn main(args: &Args) -> Result<Exit, Failure> {
    let folder = if args.path.is_dir() { args.path.clone() } else { folder_of(&args.path)? };
    let campaign = stored_campaign(&folder)?;
    if args.format == Form::Trace && campaign.scenarios.iter().all(|scenario| scenario.stored.is_empty()) {
        let folder = folder.join("records");
        return Err(Failure::Missing(format!("{} holds no kept run to be drawn", folder.display())));
    }
    match &args.output {
        Some(path) => {
            let mut bytes = Vec::new();
            args.format.write(&campaign, &mut bytes)?;
            super::write(path, &bytes)?;
        }
        None => args.format.write(&campaign, &mut std::io::stdout().lock())?,
    }
    Ok(match campaign.exit() {
        0 => Exit::Holds,
        code => Exit::Verdict(code),
    })
}

/// A file of a campaign's folder stands for the folder.
fn folder_of(path: &Path) -> Result<PathBuf, Failure> {
    if !path.exists() {
        return Err(Failure::Missing(format!("cannot read {}: no such file or folder", path.display())));
    }
    Ok(path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf))
}

/// The campaign of a folder, judged again from its runs.
pub(super) fn stored_campaign(folder: &Path) -> Result<Campaign, Failure> {
    let plan = read_plan(folder)?;
    let lines = read_results(folder)?;
    let mut campaign = Campaign::default();
    let mut jobs = Vec::new();
    for planned in &plan.jobs {
        jobs.push((planned, load_text(&planned.text, &planned.path)?));
    }
    super::select::tell_apart(jobs.iter().map(|(_, loaded)| (&*loaded.scenario.name, &*loaded.path)))?;
    for (planned, loaded) in jobs {
        let seeds: Vec<u64> = planned.seeds.iter().filter_map(|seed| seed.parse().ok()).collect();
        let name = loaded.scenario.name.clone();
        let backend = Backend::from_str(&planned.backend, true).unwrap_or_default();
        let job = Job { loaded, seeds, own_seeds: planned.own_seeds, backend };
        let mut own: Vec<_> = lines.iter().filter(|line| line.scenario == name).cloned().collect();
        own.sort_by_key(|line| line.seed);
        campaign.partial |= own.len() < job.seeds.len();
        let mut result = judge(&job, own);
        result.stored = stored_runs(folder, &name);
        campaign.scenarios.push(result);
    }
    campaign.heading = super::run::heading(&plan.engine, &campaign);
    Ok(campaign)
}

/// The kept records of a scenario; a broken file is left out.
fn stored_runs(folder: &Path, scenario: &str) -> Vec<StoredRun> {
    let prefix = format!("{}-", super::run::file_name(scenario));
    let Ok(entries) = std::fs::read_dir(folder.join("records")) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let named = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        let seed = name.strip_suffix(".json").and_then(|name| name.strip_prefix(&prefix));
        seed.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
    };
    paths
        .iter()
        .filter(|path| named(path))
        .filter_map(|path| crate::campaign::unpack(&std::fs::read(path).ok()?))
        .collect()
}
