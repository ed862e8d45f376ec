//! Histories that others recorded and judged: every verdict is met.

use firedrill_checkers::import;
use firedrill_checkers::linear::{self, Overall};
use serde_json::Value;
use std::path::Path;

#[test]
fn every_porcupine_verdict_is_reproduced() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/porcupine");
    let expected =
        std::fs::read_to_string(folder.join("expected.json")).expect("the table is in the repository");
    let expected: Value = serde_json::from_str(&expected).expect("the table is JSON");
    let files = expected["files"].as_object().expect("a table of files");
    assert_eq!(files.len(), 56);
    for (name, entry) in files {
        let history = import::open(&folder.join(name), &import::Options::default()).expect(name);
        assert_eq!(history.operations, entry["ops"].as_u64().expect("a number"), "{name}");
        let report = linear::check_imported(&history, &linear::Options::default());
        let verdict = if entry["verdict"] == "ok" { Overall::Holds } else { Overall::Violated };
        assert_eq!(report.verdict, verdict, "{name}\n{}", report.to_human());
    }
}
