//! The comparison with a baseline: what flipped, what shifted, and the rule that tells a shift from noise.

use super::{cell, figure, number_cell, table};
use crate::compare::{Change, Comparison, ScenarioComparison};
use crate::headline::Mood;
use crate::svg::pairs::pairs;
use crate::text::{count, escape, plural};

/// Strips drawn; the table holds every metric.
const STRIPS_MAX: usize = 12;

/// The section; its sentences name flipped seeds first.
pub fn compared(comparison: &Comparison) -> String {
    let mut out = format!("<section><h2>Against the baseline: {}</h2>\n", comparison.verdict.phrase());
    out.push_str(&format!("<p class=\"soft small\">{}</p>\n", escape(Comparison::RULE)));
    comparison.lines().iter().for_each(|line| out.push_str(&format!("<p>{}</p>\n", escape(line))));
    let headings = [
        "scenario",
        "metric",
        "verdict",
        "#pairs",
        "#worse",
        "#better",
        "#baseline p50",
        "#now p50",
        "#median difference (95 %)",
    ];
    let rows: Vec<String> = comparison.scenarios.iter().flat_map(rows).collect();
    let metrics: usize = comparison.scenarios.iter().map(|s| s.metrics.len()).sum();
    if !rows.is_empty() {
        out.push_str(&table(&headings, rows.iter().cloned()));
    }
    let same = plural((metrics - rows.len()) as u64, "other figure");
    out.push_str(&format!("<p class=\"soft small\">{same} compared, without a changed pair.</p>\n"));
    out.push_str(&strips(comparison));
    out.push_str("</section>\n");
    out
}

fn rows(scenario: &ScenarioComparison) -> Vec<String> {
    let row = |m: &crate::compare::MetricComparison| {
        let interval =
            m.interval.map_or(String::new(), |(low, high)| format!(" ({} to {})", m.show(low), m.show(high)));
        let (mood, phrase) = match m.verdict {
            Change::Improved => (Mood::Good, m.verdict.phrase()),
            Change::WithinNoise => (Mood::Plain, m.verdict.phrase()),
            Change::Regressed => (Mood::Bad, m.verdict.phrase()),
        };
        let word = format!("{} {phrase}", super::overview::sign(mood));
        [
            cell(&scenario.name),
            cell(&m.metric),
            format!("<td class=\"{}\">{}</td>", super::overview::class(mood), escape(&word)),
            number_cell(&count(m.pairs)),
            number_cell(&count(m.worse)),
            number_cell(&count(m.better)),
            number_cell(&m.show(m.baseline_p50)),
            number_cell(&m.show(m.now_p50)),
            number_cell(&format!("{}{interval}", m.show(m.difference_p50))),
        ]
        .concat()
    };
    scenario.metrics.iter().filter(|m| m.worse + m.better > 0).map(row).collect()
}

fn strips(comparison: &Comparison) -> String {
    let metrics = comparison.scenarios.iter().flat_map(|s| s.metrics.iter().map(move |m| (s, m)));
    let changed = metrics.filter(|(_, m)| m.verdict != Change::WithinNoise).take(STRIPS_MAX).enumerate();
    changed
        .map(|(i, (s, m))| {
            figure("medium", &pairs(&format!("x{i}"), m), &format!("{}: {}", s.name, m.sentence()))
        })
        .collect()
}
