//! Backups: what is proved, what a restore cost, what a disaster would cost, and the table of one run's backups.

use super::{cell, number_cell, table};
use crate::result::{BackupSummary, Figure, ScenarioSummary};
use crate::text::{bytes, count, escape, ms, plural};
use firedrill_checkers::record::Records;

/// Over all runs; empty where there are no backups.
pub fn of_scenario(s: &ScenarioSummary) -> String {
    let Some(backup) = &s.backup else { return String::new() };
    let mut out = format!("<h3>Backups and restores</h3>\n<p>{}</p>\n", escape(&backup.words()));
    if let Some(first) = &backup.first_broken {
        out.push_str(&format!(
            "<p class=\"bad\">{} broken; the first: {}</p>\n",
            plural(backup.broken, "rule"),
            escape(first)
        ));
    }
    let row = |name: &str, meaning: &str, figure: &Option<Figure>, text: fn(f64) -> String| {
        figure.as_ref().map(|f| {
            let values = [f.p50, f.p99, f.max].map(|value| number_cell(&text(value))).concat();
            cell(name) + &number_cell(&count(f.samples)) + &values + &cell(meaning)
        })
    };
    let size = |value: f64| bytes(value.round() as u64);
    let rows: Vec<String> = [
        row("restore RTO", "from the order to the restored and proved state", &backup.restore_rto_ms, ms),
        row(
            "restore RPO",
            "acknowledged payload that the restored state lacks",
            &backup.restore_rpo_bytes,
            size,
        ),
        row(
            "disaster",
            "acknowledged payload that a disaster at the end would cost",
            &backup.disaster_bytes,
            size,
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !rows.is_empty() {
        out.push_str(&table(&["figure", "#runs", "#p50", "#p99", "#max", "meaning"], rows));
    }
    out
}

impl BackupSummary {
    /// In one line, for tables.
    pub fn words(&self) -> String {
        let largest = |figure: &Option<Figure>, text: fn(f64) -> String| {
            figure.as_ref().map_or("not measured".to_owned(), |figure| text(figure.max))
        };
        let size = |value: f64| bytes(value.round() as u64);
        let mut words = format!("backups: {} proved by restore", plural(self.proved, "point"));
        if self.refused > 0 {
            words.push_str(&format!(", {} refused", count(self.refused)));
        }
        if self.restored > 0 {
            words.push_str(&format!(
                "; {} ordered: RTO max {}, RPO max {}",
                plural(self.restored, "restore"),
                largest(&self.restore_rto_ms, ms),
                largest(&self.restore_rpo_bytes, size)
            ));
        }
        words + &format!("; a disaster at the end costs {} at most", largest(&self.disaster_bytes, size))
    }
}

/// The backups of one run, oldest first; empty where it has none.
pub fn of_run(records: &Records) -> String {
    let Some(evidence) = &records.backups else { return String::new() };
    let rows = evidence.catalog.iter().map(|entry| {
        let id = entry.listed.id;
        let points = evidence.restores.iter().filter(|shown| shown.order == 0 && shown.restore.backup == id);
        let (good, bad): (Vec<_>, Vec<_>) = points.partition(|shown| shown.restore.state.is_some());
        let reaches = good.iter().map(|shown| shown.restore.target).max();
        let state = match (bad.first(), reaches) {
            (Some(shown), _) => format!("refused: {}", shown.why),
            (None, Some(reaches)) => format!("restored to {} and {reaches}", entry.listed.stop),
            (None, None) => "not restored".to_owned(),
        };
        let parent = entry.listed.parent.map_or("–".to_owned(), |parent| parent.to_string());
        number_cell(&id.to_string())
            + &number_cell(&parent)
            + &number_cell(&entry.term.to_string())
            + &number_cell(&format!("{}..{}", entry.listed.start, entry.listed.stop))
            + &number_cell(&bytes(entry.bytes))
            + &cell(&state)
    });
    let rows: Vec<String> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let headings = ["#backup", "#rests on", "#term", "#positions", "#stored", "at the end"];
    format!(
        "<details><summary class=\"small\">The backups of this run</summary>\n{}</details>\n",
        table(&headings, rows)
    )
}
