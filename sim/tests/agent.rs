//! The system `agent` through whole runs.

use firedrill::run::{Detail, measure, run};
use firedrill::scenario::load;
use std::path::Path;

#[test]
#[ignore = "a look at one scenario, for development"]
fn look() {
    let path = std::env::var("SCENARIO").expect("SCENARIO names a file");
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let scenario = match load(Path::new(&path)) {
        Ok(loaded) => loaded.scenario,
        Err(error) => panic!("{error}"),
    };
    for seed in 1..=seeds {
        let outcome = run(&scenario, seed, &Detail::default());
        let m = measure(&scenario, &outcome.records);
        println!(
            "seed {seed}: rto {:?} phases {:?} rpo {:?}/{:?} sb {} fo {:?} lin {:?} conv {:?} truth {:?} load {:?} stuck {}",
            m.rto.first,
            m.rto.phases,
            m.rpo.writes,
            m.rpo.bytes,
            m.split_brain.grade,
            m.failover,
            m.linearizable,
            m.converged,
            m.truth_agrees,
            m.load,
            m.stuck
        );
        if std::env::var("MARKS").is_ok() {
            for o in &outcome.records.observations {
                println!(
                    "  {:.3} {} {:?}",
                    o.instant.at.as_ms() / 1000.0,
                    outcome.records.topology.nodes[o.node.0 as usize].name,
                    o.fact
                );
            }
        }
    }
}
