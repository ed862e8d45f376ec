//! Backups, restores and disasters of the system `agent` through whole runs.

use firedrill::run::{Detail, measure, run};
use firedrill::scenario::{Scenario, load};
use firedrill_checkers::backup::Backups;
use firedrill_checkers::measure::Measurement;
use std::path::Path;

fn scenario(name: &str) -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../scenarios/{name}.json"));
    match load(&path) {
        Ok(loaded) => loaded.scenario,
        Err(error) => panic!("{error}"),
    }
}

fn measured(scenario: &Scenario, seed: u64) -> (Measurement, Backups) {
    let records = run(scenario, seed, &Detail::default()).records;
    let measured = measure(scenario, &records);
    let backup = measured.backup.clone().expect("it has backups");
    (measured, backup)
}

#[test]
fn a_killed_agent_goes_on_behind_its_last_block_and_every_point_is_proved() {
    let (measured, backup) = measured(&scenario("agent/backup-agent-killed"), 3);
    assert!(measured.extra["backup_resumed"] >= 1.0);
    assert_eq!((backup.broken_total, backup.refused), (0, 0), "{:?}", backup.broken);
    assert!(backup.listed >= 2 && backup.restorable > backup.listed, "the archive carries each one further");
}

#[test]
fn a_cluster_that_lost_everything_comes_back_with_all_but_the_last_second() {
    let (measured, backup) = measured(&scenario("agent/dr-everything-lost"), 3);
    assert_eq!((measured.stuck, measured.converged), (false, Some(true)));
    assert!(measured.rpo.writes.is_some_and(|lost| lost < 400), "{:?}", measured.rpo);
    assert_eq!(measured.rpo.bytes, backup.restore_rpo_bytes, "the restore knew what it lacked");
    assert_eq!(backup.broken_total, 0, "{:?}", backup.broken);
}

#[test]
fn a_snapshot_without_its_log_breaks_the_first_rules_and_nothing_else_does() {
    let mut naive = scenario("museum/agent/snapshot-without-its-log");
    let (_, backup) = measured(&naive, 1);
    assert!(backup.broken_total > 0);
    let rules = ["B1", "B2", "B3"];
    assert!(backup.broken.iter().all(|broken| rules.contains(&broken.rule.as_str())), "{:?}", backup.broken);
    naive = naive.remedied().expect("valid").expect("has one");
    assert_eq!(measured(&naive, 1).1.broken_total, 0);
}

#[test]
fn rot_is_refused_and_never_given_out() {
    let (_, backup) = measured(&scenario("agent/backup-bit-rot"), 2);
    assert!(backup.refused >= 1 && backup.broken_total == 0, "{backup:?}");
    assert_eq!(backup.restored, 1, "an older backup and the archive are enough");
}

#[test]
fn one_seed_is_one_run() {
    let scenario = scenario("agent/backup-source-fails-over");
    let trace = |seed| run(&scenario, seed, &Detail::default()).trace;
    assert_eq!(trace(4), trace(4));
    assert_ne!(trace(4), trace(5));
}

#[test]
fn a_run_without_backups_has_no_word_about_them() {
    let scenario = scenario("agent/primary-crash-quorum");
    let records = run(&scenario, 1, &Detail::default()).records;
    assert_eq!((records.backups.is_none(), measure(&scenario, &records).backup.is_none()), (true, true));
}
