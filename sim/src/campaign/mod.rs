//! Many runs: scenarios times seeds, on several threads, with results in seed order whatever the threads do.

mod capsule;
mod cross_check;
mod records;
mod store;
mod twin;
mod verdict;
mod violations;
mod work;

pub use capsule::{Capsule, CapsuleError};
pub use cross_check::cross_check;
pub use records::{PACKED, pack, unpack};
pub use store::{Store, StoreError, read_plan, read_results, remaining};
pub use twin::compare_with_twin;
pub use verdict::{coarse_probe, judge, line_from, line_of, line_until_broken};
pub use violations::violations;
pub use work::{Interrupt, Progress, Task, execute};

use crate::backends::Backend;
use crate::run::Detail;
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
    /// Where it is run.
    pub backend: Backend,
}

/// The command that replays a seed of a job.
pub fn replay_command(job: &Job, seed: u64) -> String {
    let Loaded { scenario, path, .. } = &job.loaded;
    // A scenario of the gallery is known by its name, any other by its file.
    let known = path.ends_with(&format!("scenarios/{}.json", scenario.name));
    let target = if known { &scenario.name } else { path };
    let backend = match job.backend {
        Backend::Kernel => String::new(),
        other => format!(" --backend {}", other.name()),
    };
    format!("firedrill replay {target} --seed {seed}{backend}")
}

/// Which whole records a campaign keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Keep {
    /// Failing runs, the slowest recovery, and every hundredth run as a sample.
    #[default]
    Worst,
    /// Every run.
    All,
}

/// Why a run's records were kept that is not worth drawing.
pub const SAMPLE: &str = "sample";

/// From one sampled run to the next.
const SAMPLE_EVERY: usize = 100;

/// The runs whose whole records are kept, and why: first those worth drawing, then the samples.
pub fn runs_to_keep(result: &ScenarioResult, keep: Keep) -> Vec<(Seed, String)> {
    let mut kept = worth_drawing(result);
    let every = if keep == Keep::All { 1 } else { SAMPLE_EVERY };
    for line in result.lines.iter().skip(every - 1).step_by(every) {
        if !kept.iter().any(|(seed, _)| *seed == line.seed) {
            kept.push((line.seed, SAMPLE.to_owned()));
        }
    }
    kept
}

/// The whole records of a run. It is made again by replay: one seed is one run.
pub fn record_of(job: &Job, seed: Seed, why: String) -> StoredRun {
    let scenario = &job.loaded.scenario;
    let outcome = job.backend.run(scenario, seed.0, &Detail { notes: true, ..Detail::default() });
    let measurement = crate::run::measure(scenario, &outcome.records);
    StoredRun {
        seed,
        why,
        violations: violations(scenario, &outcome.records, &measurement),
        records: outcome.records,
        measurement,
        replay: replay_command(job, seed.0),
    }
}

/// Failing runs first, then the slowest recovery: the two pictures of a scenario's report.
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
    if let Some(line) = slowest.or(result.lines.first())
        && !worth.iter().any(|(seed, _)| *seed == line.seed)
    {
        worth.push((line.seed, "worst recovery".to_owned()));
    }
    worth.truncate(2);
    worth
}
