//! Many runs: scenarios times seeds, on several threads, with results in seed order whatever the threads do.

mod capsule;
mod store;
mod verdict;
mod work;

pub use capsule::{Capsule, CapsuleError};
pub use store::{Store, StoreError, read_plan, read_results, remaining};
pub use verdict::{judge, line_of};
pub use work::{Interrupt, Progress, Task, execute};

use crate::run::{Detail, run};
use crate::scenario::Loaded;
use firedrill_reports::result::{ScenarioResult, Seed, StoredRun};

/// The digest of the sources this program was built from.
pub const ENGINE: &str = env!("FIREDRILL_ENGINE");

/// A scenario and the seeds to run it with.
#[derive(Clone, Debug)]
pub struct Job {
    /// The scenario.
    pub loaded: Loaded,
    /// The seeds, in order.
    pub seeds: Vec<u64>,
    /// The seeds are the scenario's own: its `min_runs` counts.
    pub own_seeds: bool,
}

/// The command that replays a seed of a scenario.
pub fn replay_command(scenario: &str, seed: u64) -> String {
    format!("firedrill replay {scenario} --seed {seed}")
}

/// Whole records of the runs worth drawing: failing ones first, then the slowest recovery. They are made again by
/// replay: one seed is one run.
pub fn store_worst(job: &Job, result: &mut ScenarioResult, at_most: usize) {
    let scenario = &job.loaded.scenario;
    for (seed, why) in worth_drawing(result).into_iter().take(at_most) {
        let outcome = run(scenario, seed.0, &Detail { notes: true, ..Detail::default() });
        let measurement = crate::run::measure(scenario, &outcome.records);
        result.stored.push(StoredRun {
            seed,
            why,
            records: outcome.records,
            measurement,
            violations: Vec::new(),
            replay: replay_command(&scenario.name, seed.0),
        });
    }
}

fn worth_drawing(result: &ScenarioResult) -> Vec<(Seed, String)> {
    let mut worth: Vec<(Seed, String)> =
        result.summary.failures.iter().take(2).map(|failure| (failure.seed, failure.what.clone())).collect();
    let span = |line: &firedrill_reports::result::RunLine| {
        line.measurement.rto.first.map(|span| (span.censored, span.ms))
    };
    let slowest = result
        .lines
        .iter()
        .filter(|line| !line.inert && line.measurement.rto.first.is_some())
        .max_by(|a, b| span(a).partial_cmp(&span(b)).unwrap_or(std::cmp::Ordering::Equal));
    if let Some(line) = slowest.or(result.lines.first()) {
        if !worth.iter().any(|(seed, _)| *seed == line.seed) {
            worth.push((line.seed, "worst recovery".to_owned()));
        }
    }
    worth
}
