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

/// An event in EDN.
fn event(process: usize, kind: &str, f: &str, value: &str) -> String {
    format!("{{:process {process}, :type :{kind}, :f :{f}, :value {value}}}\n")
}

/// Histories against which searches are helpless: everybody at once, nobody answered, values that repeat.
fn hopeless() -> Vec<(&'static str, String)> {
    let register = |p: usize| match p % 3 {
        0 => ("cas", format!("[{} {}]", p % 5, (p + 2) % 5)),
        _ => ("write", (p % 5).to_string()),
    };
    let mut wide = String::new();
    let mut unknown = String::new();
    for kind in ["invoke", "ok"] {
        for p in 0..10_000 {
            let (f, value) = register(p);
            wide += &event(p, kind, f, &value);
        }
    }
    for p in 0..30_000 {
        let (f, value) = register(p);
        unknown += &event(p, "invoke", f, &value);
        unknown += &event(p, "info", f, "nil");
        if p % 10 == 0 {
            unknown += &event(40_000, "invoke", "read", "nil");
            unknown += &event(40_000, "ok", "read", &(p % 5).to_string());
        }
    }
    let mut lists = String::new();
    for (kind, half) in [("invoke", 1), ("ok", 2)] {
        for p in (0..2_000).filter(|p| p % half == 0) {
            lists += &event(p, kind, "append", &(p % 3).to_string());
        }
    }
    let shown: Vec<String> = (0..1_200).map(|i| (i % 3).to_string()).collect();
    lists += &event(3_000, "invoke", "read", "nil");
    lists += &event(3_000, "ok", "read", &format!("[{}]", shown.join(" ")));
    let mut transactions = String::new();
    for (kind, read) in [("invoke", "nil"), ("ok", "2")] {
        for p in 0..1_000 {
            let steps = format!("[[:w {} {}] [:r {} {read}]]", p % 4, p % 3, (p + 1) % 4);
            transactions += &event(p, kind, "txn", &steps);
        }
    }
    vec![("wide", wide), ("unknown", unknown), ("lists", lists), ("transactions", transactions)]
}

#[test]
fn a_hopeless_history_ends_with_unknown_and_how_far_it_came() {
    let options = linear::Options { budget_steps: 200_000, threads: 2 };
    for (what, text) in hopeless() {
        let history = import::parse(what, text.into_bytes(), &import::Options::default()).expect("a history");
        if let Some(transactions) = &history.transactions {
            let report = transactions.check(&options);
            assert!(report.statistics.search_steps <= 2 * options.budget_steps, "{what}");
            let told = report.notes.iter().any(|note| note.contains("no verdict in"));
            assert_eq!(report.verdict == Overall::Unknown, told, "{what}: {:?}", report.notes);
            continue;
        }
        let report = linear::check_imported(&history, &options);
        let steps = report.statistics.steps;
        // Each attempt may go beyond its allotment by the order that it was writing down.
        assert!(steps <= 3 * options.budget_steps + 4 * history.operations, "{what}: {steps} steps");
        if report.verdict == Overall::Unknown {
            let words = report.to_human();
            assert!(words.contains("unknown") && words.contains("steps"), "{what}: {words}");
        }
    }
    // All that searches may keep is bounded, so the process stays small whatever is thrown at it.
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
        let kib: u64 = peak.trim().trim_end_matches(" kB").trim().parse().expect("a number");
        assert!(kib < 1_500_000, "{kib} KiB");
    }
}
