//! The pull-request comment: the four answers, one table, the failing scenarios with their replay commands.

use crate::Report;
use crate::compare::Comparison;
use crate::headline::{answers, longest_phase};
use crate::result::{Campaign, ScenarioSummary, Verdict, judgement_word};
use crate::text::{count, count_or, measured, ms, percent, percentile, percentile_label, printable};
use firedrill_checkers::expect::Verdict as Judgement;
use std::fmt::Write as _;
use std::io;

/// Characters of a comment: GitHub refuses bodies above 65,536, so nothing is begun that would not fit.
pub const LENGTH_MAX: usize = 65_000;

/// Failing seeds listed per scenario.
const SEEDS_SHOWN: usize = 10;

/// The Markdown report.
pub struct Markdown;

impl Report for Markdown {
    fn write(&self, campaign: &Campaign, out: &mut dyn io::Write) -> io::Result<()> {
        out.write_all(render(campaign).as_bytes())
    }
}

fn render(campaign: &Campaign) -> String {
    let mut page = head(campaign);
    let rows = campaign.scenarios.iter().map(|s| row(&s.summary));
    add_all(&mut page, table_head(), rows, "scenarios are not in this table");
    page.push('\n');
    let tables = crate::side_by_side::tables(campaign);
    add_all(&mut page, "", tables.iter().map(|table| table.markdown()), "tables are not shown here");
    if let Some(comparison) = &campaign.comparison {
        add_all(&mut page, "", std::iter::once(compared(comparison)), "comparison left out");
    }
    let bad = campaign.scenarios.iter().filter(|s| s.summary.verdict != Verdict::Ok);
    add_all(&mut page, "", bad.map(|s| card(&s.summary)), "failing scenarios are not shown here");
    page
}

/// Adds parts while they fit, and says how many did not.
fn add_all(page: &mut String, head: &str, parts: impl Iterator<Item = String>, left_out: &str) {
    page.push_str(head);
    let mut missing = 0_u64;
    for part in parts {
        // 200 characters are kept back for the line that says what is missing.
        if missing == 0 && page.len() + part.len() + 200 < LENGTH_MAX {
            page.push_str(&part);
        } else {
            missing += 1;
        }
    }
    if missing > 0 {
        let _ = writeln!(page, "\n_{} {left_out}: see the HTML report._", count(missing));
    }
}

fn head(campaign: &Campaign) -> String {
    let mut out = String::new();
    for (i, answer) in answers(campaign).iter().enumerate() {
        let level = if i == 0 { "## Firedrill: " } else { "**" };
        let close = if i == 0 { "" } else { "**" };
        let question = if i == 0 { String::new() } else { format!("{} ", answer.question) };
        let _ = writeln!(out, "{level}{question}{}{close}  ", text(&answer.short));
        for line in &answer.lines {
            let _ = writeln!(out, "{}  ", text(line));
        }
        out.push('\n');
    }
    out
}

fn table_head() -> &'static str {
    "| scenario | verdict | runs (inert) | p50 | p99 | target | longest phase | writes lost | split-brain |\n\
     |---|---|--:|--:|--:|--:|---|--:|---|\n"
}

fn row(s: &ScenarioSummary) -> String {
    let rto = &s.rto_ms;
    let few = if rto.samples > 0 && rto.samples < 299 { " (max)" } else { "" };
    let phase = longest_phase(s)
        .map_or("–".to_owned(), |(name, p)| format!("{name} {}", p.share.map_or(String::new(), percent)));
    let split = match s.split_brain.runs {
        0 => format!("grade {}", s.split_brain.grade_max),
        n => format!("grade {}, {} runs, {}", s.split_brain.grade_max, count(n), ms(s.split_brain.ms_max)),
    };
    format!(
        "| {} | {} | {} ({}) | {} | {}{few} | {} | {phase} | {} | {split} |\n",
        text(&s.name),
        verdict(s.verdict),
        count(s.runs),
        count(s.inert),
        percentile(rto, "p50"),
        percentile(rto, "p99"),
        rto.target.map_or("–".to_owned(), ms),
        count_or(s.rpo.writes_max),
    )
}

fn verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Ok => "ok".to_owned(),
        other => format!("**{}**", other.phrase()),
    }
}

fn card(s: &ScenarioSummary) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "<details><summary>{}: {}</summary>\n", text(&s.name), s.verdict.phrase());
    for e in s.expectations.iter().filter(|e| e.verdict != Judgement::Ok) {
        let (word, above) = (judgement_word(e.verdict), if e.censored { "> " } else { "" });
        let value = measured(&e.expect, e.measured);
        let _ = writeln!(out, "- {word} `{}`: measured {above}{value}", code(&e.expect));
    }
    let _ = writeln!(
        out,
        "- recovery {}: {}",
        percentile_label(99, s.rto_ms.samples),
        percentile(&s.rto_ms, "p99")
    );
    s.notes.iter().for_each(|note| {
        let _ = writeln!(out, "- {}", text(note));
    });
    if !s.failures.is_empty() {
        out.push_str("\n```\n");
        for failure in s.failures.iter().take(SEEDS_SHOWN) {
            let _ = writeln!(out, "{}   # {}", code(&failure.replay), code(&failure.what));
        }
        out.push_str("```\n");
    }
    if s.failures_total > SEEDS_SHOWN as u64 {
        let _ = writeln!(out, "{} seeds failed in all.", count(s.failures_total));
    }
    out.push_str("\n</details>\n\n");
    out
}

fn compared(comparison: &Comparison) -> String {
    let mut out = format!("### Against the baseline: {}\n\n", comparison.verdict.phrase());
    for line in comparison.lines() {
        let _ = writeln!(out, "- {}", text(&line));
    }
    out.push('\n');
    out
}

/// A name inside running text or a table cell: no markup, no cell border, no line break, no HTML, no mention.
fn text(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for c in printable(raw).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '|' | '*' | '`' | '[' | ']' | '\\' | '~' | '#' => {
                out.push('\\');
                out.push(c);
            }
            // An invisible joiner keeps `@name` from notifying somebody.
            '@' => out.push_str("@\u{2060}"),
            _ => out.push(c),
        }
    }
    out
}

/// A name inside code marks, where only the marks themselves can end it.
fn code(raw: &str) -> String {
    printable(raw).replace('`', "'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn it_begins_with_the_verdict() {
        let page = render(&sample::campaign(sample::Size::Small));
        assert!(page.starts_with("## Firedrill: No: 1 of 3 scenarios hold"), "{page}");
        assert!(page.contains("firedrill replay sentinel/primary-cut-off --seed"));
    }

    #[test]
    fn names_cannot_leave_their_cell() {
        let mut campaign = sample::campaign(sample::Size::Small);
        campaign.scenarios[0].summary.name = "a|b\n<script>@all`*".into();
        let page = render(&campaign);
        assert!(page.contains("| a\\|b\u{fffd}&lt;script&gt;@\u{2060}all\\`\\* |"), "{page}");
    }

    #[test]
    fn a_thousand_failing_scenarios_still_fit_into_a_comment() {
        let mut campaign = sample::campaign(sample::Size::Small);
        let bad = campaign.scenarios[1].clone();
        campaign.scenarios.extend(std::iter::repeat_n(bad, 1_000));
        let page = render(&campaign);
        assert!(page.len() < 65_536, "{}", page.len());
        assert!(page.contains("scenarios are not in this table"));
    }
}
