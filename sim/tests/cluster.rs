//! The system `cluster` through whole runs.

use firedrill::run::{Detail, measure, run};
use firedrill::scenario::{Scenario, load};
use firedrill_checkers::measure::Measurement;
use std::path::Path;

fn scenario(name: &str) -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../scenarios/{name}.json"));
    load(&path).expect("it is valid").scenario
}

fn measured(scenario: &Scenario, seed: u64) -> Measurement {
    measure(scenario, &run(scenario, seed, &Detail::default()).records)
}

fn write_gap_ms(name: &str, seed: u64) -> f64 {
    measured(&scenario(name), seed).rto.write_gap.expect("writes came back").ms
}

#[test]
fn a_killed_primary_is_replaced_without_loss_and_the_same_way_each_time() {
    let scenario = scenario("cluster/primary-killed");
    let first = run(&scenario, 3, &Detail::default());
    let measurement = measure(&scenario, &first.records);
    assert_eq!(measurement.rpo.writes, Some(0));
    assert_eq!(measurement.failover.count, 1);
    assert_eq!(measurement.truth_agrees, Some(true));
    assert!(measurement.rto.phases.elect.is_some(), "the winner announced its election");
    assert_eq!(first.trace, run(&scenario, 3, &Detail::default()).trace, "one seed, one trace");
}

#[test]
fn a_hand_over_is_shorter_than_a_crash_and_notify_is_the_shortest() {
    let crash = write_gap_ms("cluster/hand-over-crash", 1);
    let plain = write_gap_ms("cluster/hand-over-plain-sigterm", 1);
    let force = write_gap_ms("cluster/hand-over-force", 1);
    let notify = write_gap_ms("cluster/hand-over-notify", 1);
    assert!(notify < force && force < crash && force < plain, "{notify} {force} {crash} {plain}");
}

#[test]
fn without_a_majority_nobody_is_elected() {
    let measurement = measured(&scenario("cluster/majority-lost"), 1);
    assert_eq!(measurement.failover.count, 0);
    assert_eq!(measurement.rpo.writes, Some(0));
    assert_eq!(measurement.converged, Some(true));
}

#[test]
fn a_manual_failover_loses_nothing_and_force_does() {
    assert_eq!(measured(&scenario("cluster/manual-failover"), 1).rpo.writes, Some(0));
    assert!(measured(&scenario("cluster/manual-failover-force"), 1).rpo.writes > Some(0));
}

#[test]
fn a_replayed_order_fails_over_twice_until_it_names_its_replica() {
    let bug = scenario("museum/cluster/c24-the-order-is-replayed");
    assert_eq!(measured(&bug, 1).failover.count, 2);
    let cured = bug.remedied().expect("valid").expect("it has a remedy");
    assert_eq!(measured(&cured, 1).failover.count, 1);
}

#[test]
fn slots_move_with_their_keys_and_nobody_notices() {
    let measurement = measured(&scenario("cluster/slots-move-under-load"), 1);
    assert_eq!(measurement.rpo.writes, Some(0));
    assert_eq!((measurement.failover.count, measurement.split_brain.grade), (0, 0));
    assert_eq!(measurement.truth_agrees, Some(true), "the keys are where their slots are");
}

#[test]
fn a_readiness_gate_keeps_what_a_hasty_restart_loses() {
    let gated = measured(&scenario("cluster/rolling-restart-readiness-gate"), 1);
    assert_eq!((gated.rpo.writes, gated.failover.count), (Some(0), 3), "one hand-over a primary");
    assert!(measured(&scenario("cluster/rolling-restart-without-gate"), 1).rpo.writes > Some(0));
}

#[test]
fn an_orphan_gets_a_replica_that_can_take_it_over() {
    assert_eq!(measured(&scenario("cluster/orphan-gets-a-replica"), 1).failover.count, 1);
    assert_eq!(measured(&scenario("cluster/orphan-stays-alone"), 1).failover.count, 0);
}
