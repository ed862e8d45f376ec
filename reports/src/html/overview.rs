//! The first screen: the verdict, the four answers, and one row per scenario.

use super::{number_cell, table};
use crate::headline::{Answer, Mood, answers, longest_phase, mood};
use crate::result::{Campaign, ScenarioResult, ScenarioSummary, Verdict};
use crate::svg::ranges::{axis_end, range};
use crate::text::{anchor, count, count_or, escape, ms, percent, percentile};

/// Everything above the first scenario.
pub fn overview(campaign: &Campaign) -> String {
    let [held, rest @ ..] = answers(campaign);
    let mut out = String::from("<main>\n<header>");
    out.push_str("<div class=\"product\">Firedrill report</div>\n");
    out.push_str(&banner(&held));
    out.push_str("</header>\n<div class=\"answers\">");
    rest.iter().for_each(|answer| out.push_str(&card(answer)));
    out.push_str("</div>\n");
    for line in &campaign.heading {
        out.push_str(&format!("<p class=\"soft small\">{}</p>\n", escape(line)));
    }
    if !campaign.scenarios.is_empty() {
        out.push_str("<h2>Scenarios</h2>\n");
        out.push_str(&scenarios(campaign));
        out.push_str(&super::strikes::strikes(campaign.scenarios.iter()));
    }
    out.push_str("</main>\n");
    out
}

fn banner(held: &Answer) -> String {
    let mut out = format!(
        "<div class=\"verdict {}\"><div class=\"soft small\">{}</div><h1>{} {}</h1>",
        class(held.mood),
        held.question,
        sign(held.mood),
        escape(&held.short)
    );
    held.lines.iter().for_each(|line| out.push_str(&format!("<p>{}</p>", escape(line))));
    out.push_str("</div>\n");
    out
}

fn card(answer: &Answer) -> String {
    let lines: String = answer.lines.iter().map(|line| format!("<p>{}</p>", escape(line))).collect();
    format!(
        "<div class=\"answer {}\"><h2>{}</h2><div class=\"short\">{}</div>{lines}</div>\n",
        class(answer.mood),
        answer.question,
        escape(&answer.short)
    )
}

/// The class of a mood.
pub fn class(mood: Mood) -> &'static str {
    match mood {
        Mood::Good => "good",
        Mood::Bad => "bad",
        Mood::Unsure => "unsure",
        Mood::Plain => "plain",
    }
}

/// The sign of a mood, so that colour is never alone.
pub fn sign(mood: Mood) -> &'static str {
    match mood {
        Mood::Good => "✔",
        Mood::Bad => "✖",
        Mood::Unsure => "?",
        Mood::Plain => "•",
    }
}

/// A verdict as a badge.
pub fn badge(verdict: Verdict) -> String {
    let mood = mood(verdict);
    format!("<span class=\"badge {}\">{} {}</span>", class(mood), sign(mood), verdict.phrase())
}

fn scenarios(campaign: &Campaign) -> String {
    let end = axis_end(campaign.scenarios.iter().map(|s| &s.summary.rto_ms));
    let headings = [
        "scenario",
        "verdict",
        "#runs (inert)",
        "#p50",
        "#p99",
        "#target",
        "recovery, shared axis",
        "longest phase",
        "#lost writes",
        "split-brain",
    ];
    let rows = campaign.scenarios.iter().enumerate().map(|(index, result)| row(index, result, end));
    let note = format!(
        "<p class=\"soft small\">Recovery: dot = median, bar to p99, line to the maximum, dashed = target; the axis ends \
         at {}.</p>\n",
        ms(end)
    );
    table(&headings, rows) + &note
}

fn row(index: usize, result: &ScenarioResult, end: f64) -> String {
    let s = &result.summary;
    let rto = &s.rto_ms;
    let backend = if s.backend == "kernel" { String::new() } else { format!(" ({})", s.backend) };
    let few = if rto.samples > 0 && rto.samples < 299 { "max " } else { "" };
    let phase = longest_phase(s)
        .map_or("–".to_owned(), |(name, p)| format!("{name} {}", p.share.map_or(String::new(), percent)));
    [
        format!(
            "<td><a href=\"#{}\">{}</a>{}</td>",
            anchor(index, &s.name),
            escape(&s.name),
            escape(&backend)
        ),
        format!("<td>{}</td>", badge(s.verdict)),
        number_cell(&format!("{} ({})", count(s.runs), count(s.inert))),
        number_cell(&percentile(rto, "p50")),
        number_cell(&format!("{few}{}", percentile(rto, "p99"))),
        number_cell(&rto.target.map_or("–".to_owned(), ms)),
        format!("<td class=\"range\">{}</td>", range(&format!("r{index}"), rto, end)),
        format!("<td class=\"w\">{}</td>", escape(&phase)),
        number_cell(&lost(s)),
        format!("<td class=\"w\">{}</td>", escape(&split_brain(s))),
    ]
    .concat()
}

fn lost(s: &ScenarioSummary) -> String {
    match s.rpo.runs_with_loss {
        0 => count_or(s.rpo.writes_max),
        runs => format!("{} ({} runs)", count_or(s.rpo.writes_max), count(runs)),
    }
}

fn split_brain(s: &ScenarioSummary) -> String {
    match s.split_brain.runs {
        0 if s.split_brain.grade_max == 0 => "none".to_owned(),
        0 => "roles only".to_owned(),
        runs => format!("{} runs, {}", count(runs), ms(s.split_brain.ms_max)),
    }
}
