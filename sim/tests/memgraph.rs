//! The system `memgraph` through whole runs.

use firedrill::run::{Detail, measure, run};
use firedrill::scenario::load;
use std::path::Path;

#[test]
fn a_killed_main_costs_seconds_and_no_write() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/memgraph/main-killed.json");
    let scenario = load(&path).expect("it is valid").scenario;
    let outcome = run(&scenario, 1, &Detail::default());
    let measured = measure(&scenario, &outcome.records);
    println!("{measured:#?}");
    assert_eq!(measured.rpo.writes, Some(0));
    assert!(measured.rto.outage);
    assert_eq!(measured.truth_agrees, Some(true));
    assert_eq!(outcome.trace, run(&scenario, 1, &Detail::default()).trace, "one seed, one trace");
}
