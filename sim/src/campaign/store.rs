//! The folder that a campaign leaves: results are written as they come, so that an end at any moment loses nothing
//! that was computed, and the campaign can be resumed.
//!
//! ```text
//! campaign.json            what is run: scenarios with their text, seeds, engine
//! runs.jsonl               one line a run, in order
//! summary.json report.html report.md report.txt junit.xml
//! capsules/  records/      failing and worst runs, whole; records as gzip of JSON
//! records/samples/         every hundredth run, or with `--keep all` all others
//! ```

use super::{ENGINE, Job, Task};
use firedrill_reports::json::{read_lines, write_line};
use firedrill_reports::result::RunLine;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A campaign's folder.
pub struct Store {
    folder: PathBuf,
    lines: BufWriter<File>,
}

/// Why a folder cannot be used. Exit code 74.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {what} {path}: {source}\n  help: name another folder with --out, or make room there")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The folder holds another campaign.
    #[error(
        "{path} holds another campaign ({difference}); resume it with the same arguments, or name a new folder"
    )]
    Other {
        /// The folder.
        path: String,
        /// What differs.
        difference: String,
    },
    /// The folder holds no campaign.
    #[error("{path} holds no campaign: {why}\n  help: `firedrill run --out {path}` makes one")]
    NoCampaign {
        /// The folder.
        path: String,
        /// What is missing or broken.
        why: String,
    },
}

/// What is run, as `campaign.json` keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The engine.
    pub engine: String,
    /// The jobs in order.
    pub jobs: Vec<PlannedJob>,
}

/// One job of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedJob {
    /// File of the scenario, as named.
    pub path: String,
    /// Its text.
    pub text: String,
    /// Its seeds.
    pub seeds: Vec<String>,
    /// The seeds are the scenario's own.
    pub own_seeds: bool,
    /// The backend's name.
    pub backend: String,
}

impl Plan {
    /// The plan of these jobs.
    pub fn of(jobs: &[Job]) -> Self {
        let planned = jobs.iter().map(|job| PlannedJob {
            path: job.loaded.path.clone(),
            text: job.loaded.text.clone(),
            seeds: job.seeds.iter().map(u64::to_string).collect(),
            own_seeds: job.own_seeds,
            backend: job.backend.name().to_owned(),
        });
        Plan { engine: ENGINE.to_owned(), jobs: planned.collect() }
    }

    fn difference(&self, other: &Plan) -> Option<String> {
        if self.engine != other.engine {
            return Some(format!("made by engine {}, this is {}", other.engine, self.engine));
        }
        if self.jobs != other.jobs {
            return Some("other scenarios or seeds".to_owned());
        }
        None
    }
}

impl Store {
    /// A new folder for a campaign, or the folder of an interrupted one with the results it has.
    ///
    /// # Errors
    /// The folder cannot be written, or holds another campaign.
    pub fn open(folder: &Path, jobs: &[Job], resume: bool) -> Result<(Self, Vec<RunLine>), StoreError> {
        fs::create_dir_all(folder).map_err(|source| io_error("create", folder, source))?;
        let plan = Plan::of(jobs);
        let lines_path = folder.join("runs.jsonl");
        let mut done = Vec::new();
        if resume && folder.join("campaign.json").exists() {
            let kept = read_plan(folder)?;
            if let Some(difference) = plan.difference(&kept) {
                return Err(StoreError::Other { path: folder.display().to_string(), difference });
            }
            done = read_results(folder)?;
        }
        let json = serde_json::to_vec_pretty(&plan).expect("a plan is JSON");
        write_file(&folder.join("campaign.json"), &json)?;
        // What was kept is written anew without its torn tail, beside the old file and then in its place.
        let fresh = folder.join("runs.jsonl.new");
        let file = File::create(&fresh).map_err(|source| io_error("write", &fresh, source))?;
        let mut store = Store { folder: folder.to_owned(), lines: BufWriter::new(file) };
        for line in &done {
            store.append(line).map_err(|source| io_error("write", &fresh, source))?;
        }
        fs::rename(&fresh, &lines_path).map_err(|source| io_error("write", &lines_path, source))?;
        Ok((store, done))
    }

    /// Keep one result; it is on disk when this returns.
    ///
    /// # Errors
    /// The disk is full, or worse.
    pub fn append(&mut self, line: &RunLine) -> io::Result<()> {
        let reproducible = RunLine { cpu_seconds: None, ..line.clone() };
        write_line(&reproducible, &mut self.lines)?;
        self.lines.flush()
    }

    /// Write one file of the folder.
    ///
    /// # Errors
    /// The operating system refused.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        write_file(&self.folder.join(name), bytes)
    }
}

/// The tasks that are not done yet.
pub fn remaining(tasks: &[Task], jobs: &[Job], done: &[RunLine]) -> Vec<Task> {
    let key = |task: &Task| (jobs[task.job].loaded.scenario.name.clone(), task.seed);
    let done: std::collections::BTreeSet<(String, u64)> =
        done.iter().map(|line| (line.scenario.clone(), line.seed.0)).collect();
    tasks.iter().filter(|task| !done.contains(&key(task))).copied().collect()
}

/// The plan of a folder.
///
/// # Errors
/// There is none, or it is broken.
pub fn read_plan(folder: &Path) -> Result<Plan, StoreError> {
    let path = folder.join("campaign.json");
    let none = |why: String| StoreError::NoCampaign { path: folder.display().to_string(), why };
    let text = fs::read_to_string(&path).map_err(|error| none(format!("campaign.json: {error}")))?;
    serde_json::from_str(&text).map_err(|error| none(format!("campaign.json: {error}")))
}

/// The results of a folder, in order; a torn last line is dropped.
///
/// # Errors
/// There are none, or a line in the middle is broken.
pub fn read_results(folder: &Path) -> Result<Vec<RunLine>, StoreError> {
    let path = folder.join("runs.jsonl");
    let none = |why: String| StoreError::NoCampaign { path: folder.display().to_string(), why };
    let file = File::open(&path).map_err(|error| none(format!("runs.jsonl: {error}")))?;
    let read = read_lines(io::BufReader::new(file)).map_err(|error| none(format!("runs.jsonl: {error}")))?;
    Ok(read.lines)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|source| io_error("create", parent, source))?;
    }
    fs::write(path, bytes).map_err(|source| {
        // Half a file helps nobody, and its room may save the next one.
        let _ = fs::remove_file(path);
        io_error("write", path, source)
    })
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { what, path: path.display().to_string(), source }
}
