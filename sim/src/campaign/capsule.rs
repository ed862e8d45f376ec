//! A capsule: one run in one file, to be shared and replayed.

use super::ENGINE;
use crate::scenario::{LoadError, Loaded, Scenario, load_text};
use firedrill_checkers::record::FaultRecord;
use firedrill_reports::result::{RunLine, Seed};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One run: the scenario, the seed, what it did, and what was made of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capsule {
    /// Version of this form: 1.
    pub capsule: u32,
    /// The engine that made the run.
    pub engine: String,
    /// The scenario.
    pub scenario: Scenario,
    /// The seed.
    pub seed: Seed,
    /// The backend.
    pub backend: String,
    /// The digest of the run.
    pub trace_hash: String,
    /// The digest after every 1,024 events, to find the first difference.
    pub checkpoints: Vec<String>,
    /// Number of events.
    pub events: u64,
    /// The faults as the seed resolved them.
    pub faults: Vec<FaultRecord>,
    /// The expectations that the run broke; empty: it is kept for another reason.
    pub violations: Vec<String>,
}

/// Why a capsule cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CapsuleError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Missing {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a capsule, or not a whole one.
    #[error("{0}\n  help: a capsule is a whole JSON file written by `firedrill run --out`; copy it again")]
    Bad(LoadError),
    /// Its version is not known.
    #[error("{path} has version {version} of the form; this program reads version 1")]
    Version {
        /// The file.
        path: String,
        /// The version.
        version: u32,
    },
}

impl Capsule {
    /// The capsule of a run that has just been made (again).
    pub fn of(scenario: &Scenario, seed: u64, outcome: &crate::run::Outcome, line: &RunLine) -> Self {
        Capsule {
            capsule: 1,
            engine: ENGINE.to_owned(),
            scenario: scenario.clone(),
            seed: Seed(seed),
            backend: line.backend.clone(),
            trace_hash: outcome.trace.hex(),
            checkpoints: outcome.trace.checkpoints.iter().map(|hash| format!("{hash:016x}")).collect(),
            events: outcome.trace.events,
            faults: outcome.records.journal.faults.clone(),
            violations: line.failures.clone(),
        }
    }

    /// Read a capsule.
    ///
    /// # Errors
    /// The file cannot be read, is truncated, or is no capsule.
    pub fn read(path: &Path) -> Result<Self, CapsuleError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| CapsuleError::Missing { path: shown.clone(), source })?;
        let capsule: Capsule = crate::scenario::parse(&text, &shown).map_err(CapsuleError::Bad)?;
        if capsule.capsule != 1 {
            return Err(CapsuleError::Version { path: shown, version: capsule.capsule });
        }
        Ok(capsule)
    }

    /// Its scenario, checked like any other.
    ///
    /// # Errors
    /// The scenario in it is not valid for this program.
    pub fn loaded(&self, path: &Path) -> Result<Loaded, LoadError> {
        let text = serde_json::to_string_pretty(&self.scenario).expect("a scenario is JSON");
        load_text(&text, &format!("{} (scenario)", path.display()))
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a capsule is JSON") + "\n"
    }

    /// The checkpoints as numbers.
    pub fn checkpoint_numbers(&self) -> Vec<u64> {
        self.checkpoints.iter().filter_map(|hex| u64::from_str_radix(hex, 16).ok()).collect()
    }
}
