//! Figures beside the four answers: quality of the failovers and reads, what clients were told, error budgets, and every
//! measure there is.

use super::{cell, number_cell, table};
use crate::lanes::failure_word;
use crate::result::{Figure, RtoSummary, ScenarioResult, ScenarioSummary};
use crate::summarise::figure;
use crate::text::{count, escape, ms, number, of_metric, percent};
use firedrill_checkers::expect::registry::METRICS;
use firedrill_checkers::measure::Measurement;
use firedrill_checkers::record::SimTime;
use firedrill_checkers::slo::{MONTH, Objective};
use firedrill_checkers::stats::Sample;

/// Quality of failovers and reads, and what clients were told: only what is not zero, for zero is what is wanted.
pub fn quality(s: &ScenarioSummary) -> String {
    let (f, r) = (&s.failovers, &s.reads);
    let oldest = r.staleness_ms_max.map_or(String::new(), |age| format!(", the oldest by {}", ms(age)));
    let counted = [
        (f.false_failovers, "false failovers", "away from a primary that could serve".to_owned()),
        (f.missed, "missed failovers", "a long outage, a candidate alive, and no promotion".to_owned()),
        (
            f.needless,
            "needless failovers",
            "the fault had healed before the primary was judged dead".to_owned(),
        ),
        (f.flaps, "flaps", "promotions shortly after another one of the same shard".to_owned()),
        (f.aborted, "aborted failovers", "begun and given up".to_owned()),
        (r.stale, "stale reads", format!("missed a write acknowledged before they began{oldest}")),
        (r.dirty, "dirty reads", "showed a write that is not in the final state".to_owned()),
        (s.rpo.duplicates, "duplicates", "writes that were applied twice".to_owned()),
        (s.rpo.phantom_writes, "phantom writes", "reported as failed and there all the same".to_owned()),
        (s.stuck, "runs stuck", "no good write after the last heal".to_owned()),
        (
            s.not_converged,
            "runs not converged",
            "replicas differ, or writes are not served, at the end".to_owned(),
        ),
        (s.rpo.runs_unresolved, "runs unresolved", "two primaries of a shard survived unmerged".to_owned()),
        (
            s.truth_disagreements,
            "disagreements",
            "meter and ground truth differ: an error of this program".to_owned(),
        ),
    ];
    let rows: Vec<String> = counted
        .iter()
        .filter(|(n, _, _)| *n > 0)
        .map(|(n, what, meaning)| number_cell(&count(*n)) + &cell(what) + &cell(meaning))
        .collect();
    let mut out = String::new();
    if !rows.is_empty() {
        out.push_str("<h3>Also seen, all runs together</h3>\n");
        out.push_str(&table(&["#count", "what", "meaning"], rows));
    }
    out.push_str(&refusals(s));
    out
}

fn refusals(s: &ScenarioSummary) -> String {
    let total: u64 = s.refusals.values().sum();
    if total == 0 {
        return String::new();
    }
    let rows = s.refusals.iter().map(|(failure, n)| {
        cell(failure_word(*failure))
            + &number_cell(&count(*n))
            + &number_cell(&percent(*n as f64 / total as f64))
    });
    format!(
        "<details><summary class=\"small\">What clients were told: {} operations not acknowledged</summary>\n{}</details>\n",
        count(total),
        table(&["told", "#operations", "#share"], rows)
    )
}

/// What the tail of the recovery time means for the usual promises of availability.
pub fn budget(rto: &RtoSummary) -> String {
    let Some(p99) = rto.p99.filter(|p99| *p99 > 0.0 && p99.is_finite()) else { return String::new() };
    let outage = SimTime((p99 * 1_000.0).round() as u64);
    let above = if rto.is_lower_bound("p99") { "at least " } else { "" };
    let rows = [999_000, 999_500, 999_900].map(|good_per_million| {
        let objective = Objective { good_per_million, period: MONTH };
        let used =
            objective.used_by(outage).map_or("–".to_owned(), |used| format!("{above}{}", percent(used)));
        let fits = objective.outages_allowed(outage).map_or("–".to_owned(), count);
        let promise = format!("{} %", number(f64::from(good_per_million) / 10_000.0));
        cell(&promise)
            + &number_cell(&ms(objective.budget().as_ms()))
            + &number_cell(&used)
            + &number_cell(&fits)
    });
    let headings = ["promise for 30 days", "#budget", "#one such outage uses", "#such outages that fit"];
    format!(
        "<details><summary class=\"small\">What an outage at p99 means for an error budget</summary>\n{}</details>\n",
        table(&headings, rows)
    )
}

/// Every measure of the registry that some run has, and the system's own.
pub fn all(result: &ScenarioResult) -> String {
    let runs = || result.lines.iter().filter(|line| !line.inert).map(|line| &line.measurement);
    let measured = |read: fn(&Measurement) -> Option<Sample>| figure(runs().filter_map(read).collect());
    let known = METRICS.iter().filter_map(|m| Some((m, measured(m.read)?)));
    let (zero, some): (Vec<_>, Vec<_>) = known.partition(|(_, f)| f.min == 0.0 && f.max == 0.0);
    let known = some.iter().map(|(metric, figure)| row(metric.name, metric.meaning, figure));
    let own = result.summary.extra.iter().map(|(name, figure)| row(name, "a measure of this system", figure));
    let rows: Vec<String> = known.chain(own).collect();
    if rows.is_empty() {
        return String::new();
    }
    let zero = zero.iter().map(|(metric, _)| metric.name).collect::<Vec<_>>().join(", ");
    let headings = ["metric", "#runs", "#min", "#p50", "#p99", "#max", "meaning"];
    let figures = table(&headings, rows);
    format!(
        "<details><summary class=\"small\">All figures</summary>\n{figures}<p class=\"soft small\">0 in every run that \
         measured it: {zero}.</p>\n</details>\n"
    )
}

fn row(name: &str, meaning: &str, f: &Figure) -> String {
    let above = if f.censored > 0 { "> " } else { "" };
    let figures = [f.min, f.p50, f.p99].map(|value| number_cell(&of_metric(name, value))).concat();
    let max = number_cell(&format!("{above}{}", of_metric(name, f.max)));
    let name = format!("<td><code>{}</code></td>", escape(name));
    name + &number_cell(&count(f.samples))
        + &figures
        + &max
        + &format!("<td class=\"small\">{}</td>", escape(meaning))
}
