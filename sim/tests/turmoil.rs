//! Sentinel on turmoil: the production driver and RESP under a drill.

use firedrill::backends::turmoil;
use firedrill::run::{Detail, measure};
use firedrill::scenario::{Loaded, load_text};
use std::collections::BTreeMap;
use std::process::Command;

fn scenario(json: &str) -> Loaded {
    load_text(json, "test.json").unwrap_or_else(|error| panic!("{error}"))
}

const PRIMARY_CRASH: &str = r#"{
  "version": 1, "name": "sentinel/primary-crash", "story": "The primary's process is killed under load.",
  "system": { "sentinel": { "replicas": 2, "sentinels": 3, "quorum": 2, "down_after": "1s", "failover_timeout": "6s",
              "data": { "sync_delay": "0s" } } },
  "workload": { "append": { "clients": 2, "rate": "50/s", "op_timeout": "500ms" } },
  "probe": { "every": "50ms" },
  "duration": "20s",
  "faults": [ { "crash": { "target": "primary", "at": "8s..9s" } } ],
  "expect": [ "failovers >= 1" ],
  "seeds": "1..2"
}"#;

/// Digest of a run, and the time until the first acknowledged write after the crash.
fn run(seed: u64) -> (u64, f64) {
    let loaded = scenario(PRIMARY_CRASH);
    let outcome = turmoil::run(&loaded.scenario, seed, &Detail::default()).expect("sentinel has a wire form");
    let measurement = measure(&loaded.scenario, &outcome.records);
    let rto = measurement.rto.first.expect("the fault had an effect");
    assert!(!rto.censored, "a replica took over");
    (outcome.trace.digest, rto.ms)
}

#[test]
fn a_killed_primary_is_replaced_in_the_time_that_the_timers_allow() {
    let (_, rto_ms) = run(1);
    // Silence of 1 s, ticks of up to 100 ms, and the second between two INFO: Redis needs 2.2 s to 3.4 s.
    assert!((1_900.0..3_900.0).contains(&rto_ms), "{rto_ms} ms");
}

#[test]
fn a_seed_is_one_run_on_every_thread_and_another_seed_is_another() {
    let lone = run(5).0;
    let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(|| (run(5).0, run(6).0))).collect();
    for thread in threads {
        let (same, other) = thread.join().expect("the run ends");
        assert_eq!(same, lone);
        assert_ne!(other, lone);
    }
}

/// Trace digests of one seed of every Sentinel scenario, made by another process on so many threads.
fn digests(threads: &str) -> BTreeMap<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_firedrill"))
        .args(["run", "sentinel", "--backend", "turmoil", "--seeds", "1", "--jobs", threads])
        .args(["--format", "jsonl", "--scenarios", concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios")])
        .output()
        .expect("the program is built");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines
        .filter_map(|line| {
            Some((line["scenario"].as_str()?.to_owned(), line["trace_hash"].as_str()?.to_owned()))
        })
        .collect()
}

#[test]
fn every_sentinel_scenario_is_one_run_in_every_process_and_on_every_thread() {
    let alone = std::thread::spawn(|| digests("1"));
    let crowded = digests("3");
    assert!(crowded.len() >= 20, "{crowded:?}");
    assert_eq!(alone.join().expect("it ends"), crowded);
}
