//! One scenario for the engineer: what it is, what it promised, how the runs spread, what was lost, and the worst run.

use super::overview::{badge, class, sign};
use super::{backups, cell, figure, figures, incident, number_cell, table};
use crate::headline::{Mood, longest_phase, loss_age};
use crate::result::{
    ExpectationResult, RunLine, ScenarioResult, ScenarioSummary, StoredRun, Verdict, judgement_word,
};
use crate::story::story;
use crate::summarise::recovery_times;
use crate::svg::series::Series;
use crate::svg::{causes, distribution, phases, swimlanes};
use crate::text::{
    anchor, bytes, count, count_or, escape, measured, ms, ms_or, number, percent, percentile,
    percentile_label, plural,
};
use firedrill_checkers::expect::{Operator, Verdict as Judgement, parse};
use firedrill_checkers::measure::Linearizability;
use firedrill_checkers::stats::Rate;

/// Failing seeds listed with their replay commands.
const FAILURES_SHOWN: usize = 50;

/// Slowest runs listed.
const SLOWEST_SHOWN: usize = 5;

/// Stored runs drawn in a page; each costs some 20 kB.
const DRAWN_MAX: usize = 24;

/// Stored runs drawn per scenario.
const DRAWN_PER_SCENARIO_MAX: usize = 3;

/// How many stored runs of each scenario are drawn in a page of so many scenarios: the first one always.
pub fn drawn_per_scenario(scenarios: usize) -> usize {
    (DRAWN_MAX / scenarios.max(1)).clamp(1, DRAWN_PER_SCENARIO_MAX)
}

/// The section of one scenario: open where it does not hold, one click away where it does. What the overview says of a
/// scenario that is `alone` is not said again.
pub fn scenario(index: usize, result: &ScenarioResult, drawn_max: usize, alone: bool) -> String {
    let s = &result.summary;
    let open = if s.verdict == Verdict::Ok && index > 0 { "" } else { " open" };
    let mut out = format!(
        "<section id=\"{}\"><details class=\"scenario\"{open}><summary><h2>{}</h2> {}</summary>\n",
        anchor(index, &s.name),
        escape(&s.name),
        badge(s.verdict)
    );
    for part in [
        about(s),
        expectations(s),
        recovery(index, result),
        loss(index, s),
        split_brain(s),
        consistency(result),
        backups::of_scenario(s),
        if alone { String::new() } else { super::strikes::strikes(std::iter::once(result)) },
        failures(s),
        drawn(index, result, drawn_max),
        figures::quality(s),
        figures::all(result),
        evidence(s),
    ] {
        out.push_str(&part);
    }
    out.push_str("</details></section>\n");
    out
}

fn about(s: &ScenarioSummary) -> String {
    let mut out = String::new();
    if !s.story.is_empty() {
        out.push_str(&format!("<p>{}</p>\n", escape(&s.story)));
    }
    if !s.source.is_empty() {
        out.push_str(&format!("<p class=\"soft small\">Source: {}</p>\n", escape(&s.source)));
    }
    if !s.remark.is_empty() {
        out.push_str(&format!("<p class=\"small\">{}</p>\n", escape(&s.remark)));
    }
    if let Some(asked) = crate::headline::asked_for(s) {
        out.push_str(&format!("<p class=\"small\"><b>{}</b></p>\n", escape(&asked)));
    }
    for note in &s.notes {
        out.push_str(&format!("<p class=\"unsure small\">? {}</p>\n", escape(note)));
    }
    out
}

// --------------------------------------------------------------------------------------------------- expectations

fn expectations(s: &ScenarioSummary) -> String {
    if s.expectations.is_empty() {
        return "<p class=\"soft\">The scenario states no expectation.</p>\n".to_owned();
    }
    let rows = s.expectations.iter().map(|e| {
        let mood = match e.verdict {
            Judgement::Ok => Mood::Good,
            Judgement::Broken => Mood::Bad,
            Judgement::Inconclusive => Mood::Unsure,
        };
        let above = if e.censored { "> " } else { "" };
        [
            format!("<td><code>{}</code></td>", escape(&e.expect)),
            format!("<td class=\"{}\">{} {}</td>", class(mood), sign(mood), judgement_word(e.verdict)),
            number_cell(&format!("{above}{}", measured(&e.expect, e.measured))),
            number_cell(&margin(e)),
        ]
        .concat()
    });
    "<h3>Expectations</h3>\n".to_owned() + &table(&["expectation", "verdict", "#measured", "#margin"], rows)
}

/// How far the measured value is from its bound, on the good side or the bad one.
fn margin(e: &ExpectationResult) -> String {
    let (Ok(parsed), Some(bound), Some(value)) = (parse(&e.expect), e.bound, e.measured) else {
        return "–".to_owned();
    };
    let room = match parsed.operator {
        Operator::AtMost | Operator::Below => bound - value,
        Operator::AtLeast | Operator::Above => value - bound,
        Operator::Equal if value == bound => return "exact".to_owned(),
        Operator::Equal | Operator::Unequal => -(value - bound).abs(),
    };
    let part =
        if bound.abs() > 0.0 { format!(" ({})", percent(room.abs() / bound.abs())) } else { String::new() };
    let word = match (parsed.operator, room < 0.0) {
        (_, false) => "left",
        (Operator::AtLeast | Operator::Above, true) => "short",
        (Operator::Equal | Operator::Unequal, true) => "off",
        (Operator::AtMost | Operator::Below, true) => "over",
    };
    format!("{} {word}{part}", measured(&e.expect, Some(room.abs())))
}

// ------------------------------------------------------------------------------------------------------- recovery

fn recovery(index: usize, result: &ScenarioResult) -> String {
    let s = &result.summary;
    let rto = &s.rto_ms;
    let mut out = "<div class=\"pair\"><div><h3>How long clients were out</h3>\n".to_owned();
    if rto.samples == 0 {
        return out + "<p class=\"soft\">Recovery time was not measured in any run.</p></div></div>\n";
    }
    let times = recovery_times(result.lines.iter().filter(|l| !l.inert).map(|l| &l.measurement));
    let p99_range = match (rto.p99_low, rto.p99_high) {
        (Some(low), Some(high)) => format!(" The true p99 lies between {} and {} (95 %).", ms(low), ms(high)),
        (Some(low), None) => format!(" The true p99 is above {} (95 %); how far needs more runs.", ms(low)),
        (None, _) => String::new(),
    };
    let words = format!(
        "{}: p50 {}, {} {}, maximum {}.{p99_range}",
        plural(rto.samples, "run"),
        percentile(rto, "p50"),
        percentile_label(99, rto.samples),
        percentile(rto, "p99"),
        percentile(rto, "max")
    );
    if times.is_empty() {
        out.push_str(&format!("<p>{}</p>\n", escape(&words)));
    } else {
        let svg = distribution::distribution(&format!("d{index}"), &s.name, &times, rto.target);
        out.push_str(&figure("medium", &svg, &words));
    }
    out.push_str("</div><div>");
    out.push_str(&phase_bars(index, s));
    out.push_str("</div></div>\n");
    out.push_str(&slowest(result));
    out.push_str(&figures::budget(rto));
    out
}

fn phase_bars(index: usize, s: &ScenarioSummary) -> String {
    let Some((longest, _)) = longest_phase(s) else {
        return "<h3>In which phase</h3>\n<p class=\"soft\">No phases were measured.</p>\n".to_owned();
    };
    let caption = format!(
        "Thick: median. Thin: {}. The percentage is the phase's part of all recovery time; {longest} takes most of it. \
         In each run the phases add up to its recovery time; their percentiles do not add up.",
        percentile_label(99, s.rto_ms.samples)
    );
    let svg = phases::phases(&format!("p{index}"), &s.name, &s.phases_ms, s.rto_ms.samples);
    "<h3>In which phase</h3>\n".to_owned() + &figure("medium", &svg, &caption)
}

/// The slowest runs with their phases.
fn slowest(result: &ScenarioResult) -> String {
    let time = |line: &RunLine| {
        let span = line.measurement.rto.first.filter(|span| span.ms.is_finite());
        span.map_or(-1.0, |span| if span.censored { f64::MAX } else { span.ms })
    };
    let mut runs: Vec<&RunLine> = result.lines.iter().filter(|l| !l.inert && time(l) >= 0.0).collect();
    if runs.is_empty() {
        return String::new();
    }
    // Equal times in the order of their seeds, so that the list is the same on every rendering.
    runs.sort_by(|a, b| time(b).total_cmp(&time(a)).then(a.seed.cmp(&b.seed)));
    let rows = runs.into_iter().take(SLOWEST_SHOWN).map(|line| {
        let rto = &line.measurement.rto;
        let span = rto
            .first
            .map_or(String::new(), |s| if s.censored { format!("> {}", ms(s.ms)) } else { ms(s.ms) });
        let p = &rto.phases;
        let phases = [p.detect, p.elect, p.fence, p.promote, p.redirect];
        let cells: String = phases.iter().map(|p| number_cell(&p.map_or("–".to_owned(), ms))).collect();
        number_cell(&line.seed.to_string())
            + &number_cell(&span)
            + &cells
            + &number_cell(&ms_or(rto.unavail_total))
    });
    let headings =
        ["#seed", "#recovery", "#detect", "#elect", "#fence", "#promote", "#redirect", "#out in all"];
    format!(
        "<details><summary class=\"small\">The slowest runs</summary>\n{}</details>\n",
        table(&headings, rows)
    )
}

// ----------------------------------------------------------------------------------------------------------- loss

fn loss(index: usize, s: &ScenarioSummary) -> String {
    let mut out = "<h3>What was lost</h3>\n".to_owned();
    let Some(writes) = s.rpo.writes_max else {
        return out + "<p class=\"soft\">The final state is not known: loss was not measured.</p>\n";
    };
    let rate = Rate::new(s.rpo.runs_with_loss, s.runs).words();
    if writes == 0 {
        out.push_str(&format!("<p>No acknowledged write was lost: runs with loss {}.</p>\n", escape(&rate)));
    } else {
        out.push_str(&format!(
            "<p>Up to <strong>{}</strong> in one run ({}; {}); runs with loss {}.</p>\n",
            plural(writes, "acknowledged write"),
            s.rpo.bytes_max.map_or_else(|| "size not measured".to_owned(), bytes),
            escape(&loss_age(&s.rpo)),
            escape(&rate)
        ));
        let svg = causes::causes(&format!("c{index}"), &s.name, &s.rpo.causes);
        out.push_str(&figure("medium", &svg, "Lost writes of all runs by cause."));
        let total = s.rpo.writes_total.max(1) as f64;
        let rows = causes::named(&s.rpo.causes).into_iter().map(|(word, meaning, n, _)| {
            cell(word) + &number_cell(&count(n)) + &number_cell(&percent(n as f64 / total)) + &cell(meaning)
        });
        out.push_str(&table(&["cause", "#writes", "#share", "meaning"], rows));
    }
    out.push_str(&format!(
        "<p class=\"soft small\">Of unknown outcome, not counted: {} survived, {} did not. Reported as failed and there \
         all the same: {}.{}</p>\n",
        count(s.rpo.unknown_survived),
        count(s.rpo.unknown_vanished),
        count(s.rpo.phantom_writes),
        if s.rpo.visible_only { " A register workload shows only the loss that no later write hides." } else { "" }
    ));
    out
}

fn split_brain(s: &ScenarioSummary) -> String {
    let split = &s.split_brain;
    let meanings = [
        "one primary at any time",
        "two nodes had the role of primary",
        "two nodes would have acknowledged a write",
        "both acknowledged writes",
        "their histories diverged",
    ];
    let rows = meanings.iter().enumerate().filter(|(grade, _)| split.runs_by_grade[*grade] > 0).map(
        |(grade, meaning)| {
            let runs = split.runs_by_grade[grade];
            number_cell(&grade.to_string()) + &cell(meaning) + &number_cell(&Rate::new(runs, s.runs).words())
        },
    );
    let mut out = "<h3>Two primaries at once</h3>\n".to_owned();
    if split.grade_max == 0 {
        let rate = Rate::new(0, s.runs).words();
        out.push_str(&format!("<p>Never: {}.</p>\n", escape(&rate)));
        return out;
    }
    out.push_str(&format!(
        "<p>Longest time with two writable primaries in a run: <strong>{}</strong>; most divergent writes: \
         <strong>{}</strong>.</p>\n",
        ms(split.ms_max),
        count(split.divergent_writes_max)
    ));
    out.push_str(&table(&["#grade", "meaning", "#runs that reached it and no higher"], rows));
    out
}

fn consistency(result: &ScenarioResult) -> String {
    let l = &result.summary.linearizable;
    if l.holds + l.violated + l.unknown == 0 {
        return String::new();
    }
    let expected = result
        .summary
        .expectations
        .iter()
        .any(|e| e.expect == "not linearizable" && e.verdict == Judgement::Ok);
    let mood = match (l.violated, l.unknown) {
        _ if expected => Mood::Plain,
        (0, 0) => Mood::Good,
        (0, _) => Mood::Unsure,
        _ => Mood::Bad,
    };
    let example = result.lines.iter().find_map(|line| match &line.measurement.linearizable {
        Linearizability::Violated { key, why, levels } => Some((line.seed, key, why, levels)),
        Linearizability::Holds | Linearizability::Unknown { .. } | Linearizability::NotChecked => None,
    });
    let example = example.map_or(String::new(), |(seed, key, why, levels)| {
        let holds =
            levels.as_ref().map_or(String::new(), |levels| format!("<br>{}", escape(&levels.words())));
        format!("<p>First: seed {seed}, key <code>{}</code>: {}{holds}</p>\n", escape(key), escape(why))
    });
    format!(
        "<h3>Linearizable</h3>\n<p><span class=\"{}\">{}</span> holds in {}, violated in {}, unknown (budget spent) in \
         {}.</p>\n{example}",
        class(mood),
        sign(mood),
        plural(l.holds, "run"),
        count(l.violated),
        count(l.unknown)
    )
}

// ------------------------------------------------------------------------------------------------------- failures

fn failures(s: &ScenarioSummary) -> String {
    if s.failures.is_empty() {
        return String::new();
    }
    let rows = s.failures.iter().take(FAILURES_SHOWN).map(|f| {
        number_cell(&f.seed.to_string())
            + &cell(&f.what)
            + &format!("<td><code>{}</code></td>", escape(&f.replay))
    });
    let shown = s.failures.len().min(FAILURES_SHOWN) as u64;
    let total = s.failures_total.max(s.failures.len() as u64);
    let rest = if total > shown {
        format!("<p class=\"soft small\">{} more failed.</p>\n", count(total - shown))
    } else {
        String::new()
    };
    let open = if total <= 10 { " open" } else { "" };
    format!(
        "<h3>Failing seeds: {} of {}</h3>\n<p>The first: <code>{}</code></p>\n<details{open}><summary class=\"small\">All of them</summary>\n{}{rest}</details>\n",
        count(total),
        count(s.runs),
        escape(&s.failures[0].replay),
        table(&["#seed", "what", "replay"], rows)
    )
}

fn drawn(index: usize, result: &ScenarioResult, drawn_max: usize) -> String {
    let mut out = String::new();
    for (i, run) in result.stored.iter().take(drawn_max).enumerate() {
        out.push_str(&one_run(&format!("w{index}-{i}"), &result.summary.name, run));
    }
    if let Some(more) = result.stored.len().checked_sub(drawn_max).filter(|more| *more > 0) {
        let more = plural(more as u64, "more stored run");
        out.push_str(&format!("<p class=\"soft small\">{more} can be replayed and is not drawn.</p>\n"));
    }
    out
}

fn one_run(id: &str, scenario: &str, run: &StoredRun) -> String {
    let mut out = format!("<h3>Seed {}: {}</h3>\n", run.seed, escape(&run.why));
    for picture in swimlanes::swimlanes(id, scenario, run) {
        out.push_str(&figure("wide", &picture.svg, &picture.caption));
    }
    out.push_str(LEGEND);
    for (at, series) in Series::of(&run.records).into_iter().enumerate() {
        let svg = series.draw(&format!("{id}-e{at}"), scenario, &run.records);
        out.push_str(&figure("wide", &svg, &series.words()));
    }
    out.push_str(&backups::of_run(&run.records));
    out.push_str(&incident::of_run(run));
    out.push_str(&format!("<pre>{}</pre>\n", escape(&run.replay)));
    let told = story(&run.records, Some(&run.measurement), &run.violations, false).to_text();
    if !told.is_empty() {
        out.push_str(&format!(
            "<details open><summary class=\"small\">The story of this run</summary><pre class=\"story\">{}</pre></details>\n",
            escape(&told)
        ));
    }
    out
}

/// What fills, letters, hatchings and ticks mean.
const LEGEND: &str = concat!(
    "<div class=\"legend\">",
    "<span><svg aria-hidden=\"true\"><rect class=\"role-P\" width=\"20\" height=\"14\"/></svg>P primary</span>",
    "<span><svg aria-hidden=\"true\"><rect class=\"role-R\" width=\"20\" height=\"14\"/></svg>R replica</span>",
    "<span><svg aria-hidden=\"true\"><rect class=\"role-C\" width=\"20\" height=\"14\"/></svg>C candidate</span>",
    "<span><svg aria-hidden=\"true\"><rect class=\"role-L\" width=\"20\" height=\"14\"/></svg>L leader</span>",
    "<span><svg aria-hidden=\"true\"><rect class=\"role-f\" width=\"20\" height=\"14\"/></svg>f follower</span>",
    "<span><svg aria-hidden=\"true\"><rect class=\"role-F\" width=\"20\" height=\"14\"/></svg>F fenced</span>",
    "<span><svg aria-hidden=\"true\"><rect class=\"role-J\" width=\"20\" height=\"14\"/></svg>J joining</span>",
    "<span><svg aria-hidden=\"true\"><rect class=\"role-P\" width=\"20\" height=\"14\"/>",
    "<rect class=\"writable\" y=\"10\" width=\"20\" height=\"4\"/></svg>foot bar: takes writes</span>",
    "<span><svg aria-hidden=\"true\"><rect class=\"hatch-down\" width=\"20\" height=\"14\"/></svg>down</span>",
    "<span><svg aria-hidden=\"true\"><rect class=\"hatch-paused\" width=\"20\" height=\"14\"/></svg>paused</span>",
    "<span><svg aria-hidden=\"true\"><rect class=\"hatch-cut\" width=\"20\" height=\"14\"/></svg>cut off</span>",
    "<span><svg aria-hidden=\"true\"><rect class=\"hatch-conflict\" width=\"20\" height=\"14\"/></svg>two writable primaries</span>",
    "<span><svg aria-hidden=\"true\"><path class=\"tick-ok\" d=\"M0 2h20\"/></svg>upper row: ok</span>",
    "<span><svg aria-hidden=\"true\"><path class=\"tick-unknown\" d=\"M0 7h20\"/></svg>middle row: unknown</span>",
    "<span><svg aria-hidden=\"true\"><path class=\"tick-fail\" d=\"M0 12h20\"/></svg>lower row: failed</span>",
    "</div>\n"
);

// ------------------------------------------------------------------------------------------------------- evidence

fn evidence(s: &ScenarioSummary) -> String {
    let failovers = match (s.failovers.min, s.failovers.max) {
        (Some(min), Some(max)) if min == max => count(min),
        (min, max) => format!("{} to {}", count_or(min), count_or(max)),
    };
    let mut facts = vec![
        ("system", s.system.clone()),
        ("backend", s.backend.clone()),
        ("runs", count(s.runs)),
        ("inert runs", count(s.inert)),
        ("faults injected", count(s.faults.injected)),
        ("faults with a proven effect", count(s.faults.effective)),
        ("failovers a run", failovers),
        ("never recovered", count(s.rto_ms.censored)),
        ("simulated", format!("{} s", number(s.sim_seconds.round()))),
        ("scenario file", s.path.clone()),
        ("trace hash", s.trace_hash.clone()),
    ];
    if let Some(check) = &s.cross_check {
        let verdict = if check.equal { "agree" } else { "DIFFER" };
        let words = format!(
            "{verdict}: {} of {} verdicts equal, median {} against {}",
            count(check.agree),
            count(check.runs),
            ms_or(check.p50_here),
            ms_or(check.p50_there)
        );
        facts.push(("cross-check", format!("{} {words}", check.backend)));
    }
    let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
    let items: String =
        facts.map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value))).collect();
    format!("<h3>Evidence</h3>\n<dl class=\"facts\">{items}</dl>\n")
}
