//! Scenarios as tests of any crate: run seeds, and fail with the command that replays the failure.
//!
//! ```no_run
//! #[test]
//! fn a_crash_loses_nothing() {
//!     firedrill::testing::hold("drills/crash.json", "1..50");
//! }
//! ```

use crate::backends::Backend;
use crate::campaign::{Job, judge, line_of};
use crate::run::{Detail, measure};
use crate::scenario::{Seeds, load};
use firedrill_reports::Report;
use firedrill_reports::result::Campaign;
use std::path::Path;

/// Run a scenario file on the kernel with these seeds (`1..50`, `3,9`), and panic if it does not hold: with the verdict,
/// the story of a failing seed, and the command that replays it.
///
/// # Panics
/// That is how a test fails; also if the file or the seeds cannot be read.
pub fn hold(path: impl AsRef<Path>, seeds: &str) {
    let loaded = load(path.as_ref()).unwrap_or_else(|error| panic!("{error}"));
    let scenario = loaded.scenario.clone();
    let job = Job { loaded, seeds: self::seeds(seeds), own_seeds: false, backend: Backend::Kernel };
    let lines = job.seeds.iter().map(|seed| line_of(&job, *seed)).collect();
    let campaign = Campaign { scenarios: vec![judge(&job, lines)], ..Campaign::default() };
    assert_holds(&campaign, |seed| {
        let run = job.backend.run(&scenario, seed, &Detail { notes: true, ..Detail::default() });
        let measured = measure(&scenario, &run.records);
        firedrill_reports::story::story(&run.records, Some(&measured), &[], false).to_text()
    });
}

/// Panics with what a person needs, unless the campaign holds.
pub(crate) fn assert_holds(campaign: &Campaign, story: impl Fn(u64) -> String) {
    if campaign.exit() == 0 {
        return;
    }
    let mut table = Vec::new();
    let human = firedrill_reports::human::Human { style: firedrill_reports::text::Style::Plain };
    human.write(campaign, &mut table).expect("memory takes everything");
    let failing = campaign.scenarios.iter().flat_map(|scenario| &scenario.summary.failures).next();
    let told =
        failing.map_or(String::new(), |failure| format!("seed {}:\n{}", failure.seed, story(failure.seed.0)));
    panic!("the drill does not hold\n{}{told}", String::from_utf8_lossy(&table));
}

/// The seeds of a text.
pub(crate) fn seeds(text: &str) -> Vec<u64> {
    let seeds: Seeds = text.parse().unwrap_or_else(|error| panic!("{error}"));
    seeds.list(0).unwrap_or_else(|error| panic!("{error}"))
}

const SEED: &str = "FIREDRILL_SEED";

/// The one seed that the user wants to see again.
pub(crate) fn seed_to_replay() -> Option<u64> {
    let text = std::env::var(SEED).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{SEED}={text} is no seed; write a number")))
}

/// The command that replays a seed of the test that runs on this thread.
pub(crate) fn replay_command(seed: u64) -> String {
    let thread = std::thread::current();
    let test = thread.name().filter(|name| *name != "main").unwrap_or("");
    format!("{SEED}={seed} cargo test {test} -- --nocapture")
}
