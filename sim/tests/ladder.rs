//! The ladder of crates: arrows point one way. `protocols <- node <- sim` and `checkers <- reports <- sim`; protocols
//! and checkers meet nowhere else, and the simulated network is linked by `sim` alone.

use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// Who may depend on whom inside the workspace.
const ALLOWED: [(&str, &[&str]); 5] = [
    ("firedrill-protocols", &[]),
    ("firedrill-node", &["firedrill-protocols"]),
    ("firedrill-checkers", &[]),
    ("firedrill-reports", &["firedrill-checkers"]),
    ("firedrill", &["firedrill-protocols", "firedrill-node", "firedrill-checkers", "firedrill-reports"]),
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

/// The normal dependencies of each member, by name.
fn edges(metadata: &Value) -> BTreeMap<String, Vec<String>> {
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().expect("a list of packages");
    packages
        .iter()
        .map(|package| {
            let all = package["dependencies"].as_array().expect("a list of dependencies");
            (name(package), all.iter().filter(|dep| dep["kind"].is_null()).map(name).collect())
        })
        .collect()
}

#[test]
fn arrows_between_our_crates_point_one_way() {
    let edges = edges(&metadata());
    assert_eq!(edges.len(), ALLOWED.len(), "a new crate needs its place on the ladder");
    for (from, allowed) in ALLOWED {
        let ours = edges[from].iter().filter(|dependency| dependency.starts_with("firedrill"));
        for dependency in ours {
            assert!(allowed.contains(&dependency.as_str()), "{from} must not depend on {dependency}");
        }
    }
}

#[test]
fn protocols_have_no_io_and_the_real_node_no_simulated_network() {
    let edges = edges(&metadata());
    let forbid = |from: &str, names: &[&str]| {
        for name in names {
            assert!(!edges[from].iter().any(|dependency| dependency == name), "{from} depends on {name}");
        }
    };
    forbid("firedrill-protocols", &["tokio", "rand", "turmoil", "serde_json"]);
    forbid("firedrill-node", &["turmoil"]);
    forbid("firedrill-checkers", &["tokio", "turmoil"]);
}

#[test]
fn protocol_code_compiles_without_the_standard_library() {
    let lib =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../failover/protocols/src/lib.rs"))
            .expect("the crate is there");
    assert!(lib.contains("#![no_std]"), "hidden clocks and hash order must not compile");
}
