//! The page on the meter names every metric as the registry does.

use firedrill_checkers::expect::registry::{METRICS, Unit};

const PAGE: &str = include_str!("../../docs/meter.md");

#[test]
fn the_page_on_the_meter_lists_every_metric() {
    let mut table = String::from("| metric | unit | meaning |\n|---|---|---|\n");
    for metric in METRICS {
        let unit = match metric.unit {
            Unit::Time => "time",
            Unit::Bytes => "bytes",
            Unit::Count => "number",
            Unit::Flag => "yes or no",
        };
        table.push_str(&format!("| `{}` | {unit} | {} |\n", metric.name, metric.meaning));
    }
    assert!(PAGE.contains(&table), "docs/meter.md must contain this table:\n{table}");
}

#[test]
fn the_expectations_shown_on_the_page_can_be_read() {
    let shown = PAGE.split("```text expectations\n").nth(1).and_then(|rest| rest.split("```").next());
    let lines: Vec<&str> = shown.expect("the page shows expectations").lines().collect();
    assert!(lines.len() >= 8);
    for line in lines {
        let (expectation, _) = line.split_once("  ").unwrap_or((line, ""));
        firedrill_checkers::expect::parse(expectation)
            .unwrap_or_else(|error| panic!("{expectation}: {error}"));
    }
}
