//! The system `memgraph` through whole runs.

use firedrill::backends::Backend;
use firedrill::run::{Detail, measure, run};
use firedrill::scenario::{Scenario, load};
use firedrill_checkers::expect;
use firedrill_checkers::measure::Measurement;
use std::path::{Path, PathBuf};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(folder);
    let entries = std::fs::read_dir(&folder).expect("the folder is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    files.sort();
    files
}

fn scenario(path: &Path) -> Scenario {
    load(path).unwrap_or_else(|why| panic!("{}: {why:?}", path.display())).scenario
}

fn runs(scenario: &Scenario, count: usize) -> Vec<Measurement> {
    let seeds = scenario.seeds.list(0).expect("its seeds are valid");
    let one = |seed: &u64| measure(scenario, &run(scenario, *seed, &Detail::default()).records);
    seeds.iter().take(count).map(one).collect()
}

fn holds(text: &str, runs: &[Measurement]) -> bool {
    expect::parse(text).expect("it is valid").judge(runs).class.is_none()
}

#[test]
fn a_killed_main_costs_seconds_and_no_write() {
    let path =
        files("memgraph").into_iter().find(|path| path.ends_with("main-killed.json")).expect("it is shipped");
    let scenario = scenario(&path);
    let outcome = run(&scenario, 1, &Detail::default());
    let measured = measure(&scenario, &outcome.records);
    assert_eq!(measured.rpo.writes, Some(0));
    assert!(measured.rto.outage);
    assert_eq!(measured.truth_agrees, Some(true));
    assert_eq!(outcome.trace, run(&scenario, 1, &Detail::default()).trace, "one seed, one trace");
}

#[test]
fn bolt_over_bytes_recovers_as_fast_as_typed_messages() {
    let path =
        files("memgraph").into_iter().find(|path| path.ends_with("main-killed.json")).expect("it is shipped");
    let scenario = scenario(&path);
    Backend::Turmoil.supports(&scenario).expect("turmoil can do it");
    let outcome = Backend::Turmoil.run(&scenario, 1, &Detail::default());
    let measured = measure(&scenario, &outcome.records);
    let rto = measured.rto.first.expect("there was an outage");
    assert!(!rto.censored && (4_000.0..=7_200.0).contains(&rto.ms), "{rto:?}");
    assert_eq!(measured.rpo.writes, Some(0));
}

#[test]
fn every_scenario_holds_on_its_first_seed() {
    let files = files("memgraph");
    assert!(files.len() >= 56, "{} scenarios", files.len());
    for path in files {
        let scenario = scenario(&path);
        let measured = runs(&scenario, 1);
        for text in &scenario.expect {
            assert!(holds(text, &measured), "{}: `{text}` does not hold", path.display());
        }
    }
}

#[test]
fn every_museum_entry_is_caught_and_its_remedy_is_clean() {
    let files = files("museum/memgraph");
    assert!(files.len() >= 43, "{} entries", files.len());
    for path in files {
        let scenario = scenario(&path);
        let ill = runs(&scenario, 4);
        for text in &scenario.caught_by {
            assert!(holds(text, &ill), "{}: not caught by `{text}`", path.display());
        }
        let cured = scenario.remedied().expect("its remedy is valid");
        let well = cured.as_ref().map(|cured| runs(cured, 4));
        for run in ill.iter().chain(well.iter().flatten()) {
            assert_eq!(run.faults_effective, run.faults, "{}: a fault had no effect", path.display());
        }
        // A hazard without a cure states what is lost.
        for text in &scenario.expect {
            assert!(holds(text, well.as_ref().unwrap_or(&ill)), "{}: `{text}` does not hold", path.display());
        }
        if let Some(well) = &well {
            let clean = scenario.caught_by.iter().any(|text| !holds(text, well));
            assert!(clean, "{}: the remedy does not cure it", path.display());
        }
    }
}
