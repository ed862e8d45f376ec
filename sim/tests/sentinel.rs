//! The system `sentinel` through whole runs.

use firedrill::run::{Detail, measure, run};
use firedrill::scenario::{Scenario, load, load_text};
use firedrill_checkers::record::{Fact, Mark, NodeIndex, Records, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn scenario(name: &str) -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../scenarios/{name}.json"));
    match load(&path) {
        Ok(loaded) => loaded.scenario,
        Err(error) => panic!("{error}"),
    }
}

fn records(scenario: &Scenario, seed: u64) -> Records {
    run(scenario, seed, &Detail::default()).records
}

fn first_mark(records: &Records, wanted: Mark) -> Option<f64> {
    let mut marks = records
        .observations
        .iter()
        .filter(|seen| matches!(seen.fact, Fact::Mark { mark, .. } if mark == wanted));
    marks.next().map(|seen| seen.instant.at.as_ms())
}

/// Whom each epoch's leaders were, as the sentinels announced it.
fn leaders(records: &Records) -> BTreeMap<u64, BTreeSet<NodeIndex>> {
    let mut epochs: BTreeMap<NodeIndex, u64> = BTreeMap::new();
    let mut leaders: BTreeMap<u64, BTreeSet<NodeIndex>> = BTreeMap::new();
    for seen in &records.observations {
        match seen.fact {
            Fact::Epoch(epoch) => drop(epochs.insert(seen.node, epoch)),
            Fact::Role(Role::Leader) => {
                let epoch = epochs.get(&seen.node).copied().unwrap_or(0);
                leaders.entry(epoch).or_default().insert(seen.node);
            }
            _ => {}
        }
    }
    leaders
}

/// Seven sentinels so far apart that several stand in the same epoch.
fn crowded(quirks: &str) -> Scenario {
    let text = format!(
        r#"{{ "version": 1, "name": "test/crowded", "story": "Several sentinels stand at once.",
            "system": {{ "sentinel": {{ "sentinels": 7, "quorum": 2, "down_after": "2s", "failover_timeout": "4s",
                "quirks": [{quirks}] }} }},
            "network": {{ "latency": {{ "p50": "60ms", "p99": "90ms" }} }},
            "workload": {{ "append": {{ "clients": 1, "rate": "5/s", "op_timeout": "1s" }} }},
            "probe": {{ "every": "1s" }}, "duration": "60s", "heal_at": "50s",
            "faults": [ {{ "crash": {{ "target": "primary", "at": "20s..21s", "forever": true }} }} ],
            "expect": [], "seeds": "1..4" }}"#
    );
    match load_text(&text, "crowded.json") {
        Ok(loaded) => loaded.scenario,
        Err(error) => panic!("{error}"),
    }
}

fn has_two_leaders_in_an_epoch(scenario: &Scenario, seed: u64) -> bool {
    leaders(&records(scenario, seed)).values().any(|leaders| leaders.len() > 1)
}

#[test]
fn a_failover_takes_its_steps_in_order() {
    let scenario = scenario("sentinel/primary-crash");
    for seed in 1..=3 {
        let records = records(&scenario, seed);
        let steps = [
            Mark::Suspected,
            Mark::Declared,
            Mark::Elected,
            Mark::Promoting,
            Mark::Promoted,
            Mark::Routed,
            Mark::Settled,
        ];
        let times: Vec<f64> = steps.iter().filter_map(|mark| first_mark(&records, *mark)).collect();
        assert_eq!(times.len(), steps.len(), "seed {seed}");
        assert!(times.is_sorted(), "seed {seed}: {times:?}");
    }
}

#[test]
fn an_election_has_one_winner_however_many_stand() {
    let scenario = crowded("");
    for seed in 1..=4 {
        assert!(!has_two_leaders_in_an_epoch(&scenario, seed), "seed {seed}");
    }
}

#[test]
fn sentinels_that_vote_twice_are_seen_to_elect_two() {
    let scenario = crowded(r#""votes_twice""#);
    assert!((1..=4).any(|seed| has_two_leaders_in_an_epoch(&scenario, seed)));
}

#[test]
fn what_a_cut_off_primary_acknowledged_is_lost_and_seen_to_be() {
    let scenario = scenario("sentinel/primary-cut-off-with-a-client");
    let measured = measure(&scenario, &records(&scenario, 1));
    assert!(measured.rpo.writes.is_some_and(|writes| writes > 100), "{:?}", measured.rpo);
    assert_eq!(measured.split_brain.grade, 4);
    assert_eq!(measured.truth_agrees, Some(true));
}

#[test]
fn one_groups_failover_does_not_disturb_another_of_the_same_sentinels() {
    let scenario = scenario("sentinel/one-of-two-groups-fails-over");
    for seed in 1..=2 {
        let records = records(&scenario, seed);
        let keys = &records.history.keys;
        let of = |group: u16| {
            let mine = move |key: u32| keys[key as usize].shard.0 == group;
            records.history.operations.iter().filter(move |operation| mine(operation.key.0))
        };
        assert!(of(0).any(|operation| !operation.outcome.is_ok()), "seed {seed}: the first group was out");
        assert!(of(1).count() > 1_000 && of(1).all(|operation| operation.outcome.is_ok()), "seed {seed}");
        let marked = records.observations.iter().filter(|seen| matches!(seen.fact, Fact::Mark { .. }));
        assert!(marked.clone().count() > 0 && marked.clone().all(|seen| seen.shard.0 == 0), "seed {seed}");
        assert_eq!(measure(&scenario, &records).truth_agrees, Some(true));
    }
}

#[test]
fn bytes_on_the_wire_are_counted_and_replication_is_a_part_of_them() {
    let scenario = scenario("sentinel/primary-crash");
    let records = records(&scenario, 1);
    let journal = &records.journal;
    let (sent, replicated) = (journal.bytes_sent.unwrap_or(0), journal.bytes_replicated.unwrap_or(0));
    assert!(replicated > 0 && replicated < sent, "{replicated} of {sent}");
    let cost = measure(&scenario, &records).cost;
    // Two replicas get each write as a command of some forty bytes around its payload, and a full copy after the failover.
    assert!(cost.write_amplification.is_some_and(|times| times > 2.0), "{cost:?}");
}

#[test]
fn a_run_is_the_same_run_again() {
    let scenario = scenario("sentinel/manual-failover-under-load");
    let trace = |seed| run(&scenario, seed, &Detail::default()).trace;
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}
