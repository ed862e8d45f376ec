//! Sentinel as real processes on loopback: the same scenario format, records and meter.

use firedrill::backends::tcp;
use firedrill::run::{Detail, measure};
use firedrill::scenario::load_text;
use std::path::Path;

const PRIMARY_CRASH: &str = r#"{
  "version": 1, "name": "sentinel/primary-crash", "story": "The primary's process is killed under load.",
  "system": { "sentinel": { "replicas": 2, "sentinels": 3, "quorum": 2, "down_after": "1s", "failover_timeout": "6s",
              "data": { "sync_delay": "0s" } } },
  "workload": { "append": { "clients": 2, "rate": "50/s", "op_timeout": "500ms", "start": "3s" } },
  "probe": { "every": "50ms" },
  "duration": "12s",
  "faults": [ { "crash": { "target": "primary", "at": "5s" } } ],
  "expect": [ "failovers >= 1" ],
  "seeds": "1"
}"#;

#[test]
fn a_killed_primary_is_replaced_and_nothing_acknowledged_is_lost() {
    let loaded = load_text(PRIMARY_CRASH, "test.json").unwrap_or_else(|error| panic!("{error}"));
    let program = Path::new(env!("CARGO_BIN_EXE_firedrill"));
    let outcome = tcp::run(&loaded.scenario, 1, &Detail::default(), program)
        .expect("processes can be started")
        .expect("sentinel has a wire form");
    let measurement = measure(&loaded.scenario, &outcome.records);
    let rto = measurement.rto.first.expect("the fault had an effect");
    println!("RTO over real sockets: {} ms", rto.ms);
    assert!(!rto.censored, "a replica took over");
    assert_eq!(measurement.rpo.writes, Some(0), "a killed process has handed over what it acknowledged");
    assert_eq!(measurement.faults_effective, 1);
}
