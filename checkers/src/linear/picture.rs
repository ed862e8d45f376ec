//! A violation as a picture: a lane a client, a bar an operation, the core in colour; faults, roles and epochs as lanes
//! of their own if the caller knows them. Time runs from left to right by events, not by the clock, so that a long pause
//! takes no room; the clock stands in the tooltips. No script, nothing from outside.

use super::levels::Levels;
use super::report::{Ending, Evidence, Overall, Report};
use std::fmt::Write as _;

/// Something that lasted, to be drawn above the clients: a fault, a role, an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Name of its lane.
    pub lane: String,
    /// What to write on it.
    pub label: String,
    /// When it began.
    pub from_ms: f64,
    /// When it ended; `None`: not before the end.
    pub until_ms: Option<f64>,
}

/// Width of one event.
const STEP: f64 = 44.0;
/// Height of a lane.
const LANE: f64 = 26.0;
/// Room for the lanes' names.
const MARGIN: f64 = 110.0;

/// The whole report as one HTML page, with the strongest violation drawn; `levels`: what holds all the same.
pub fn html(report: &Report, title: &str, spans: &[Span], levels: Option<&Levels>) -> String {
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n");
    let _ = writeln!(out, "<title>{}</title>", escape(title));
    out.push_str(STYLE);
    let (class, word) = match report.verdict {
        Overall::Holds => ("holds", "linearizable"),
        Overall::Violated => ("violated", "not linearizable"),
        Overall::Unknown => ("unknown", "unknown: the budget ended before a verdict"),
    };
    let s = &report.statistics;
    let _ = writeln!(out, "<h1>{}</h1>\n<p class=\"{class}\">{word}</p>", escape(title));
    let _ = writeln!(
        out,
        "<p>{} operations; keys: {} hold, {} violated, {} unknown.</p>",
        s.operations, s.holds, s.violated, s.unknown
    );
    if let Some(levels) = levels {
        let _ = writeln!(out, "<p>{}.</p>", escape(&levels.words()));
    }
    if let Some((key, evidence)) = report.strongest() {
        let on = if key.key.is_empty() { String::new() } else { format!(" on key {}", escape(&key.key)) };
        let _ =
            writeln!(out, "<h2>{}{on}</h2>\n<p>{}.</p>", escape(evidence.name), escape(&evidence.summary));
        if let Some(ms) = evidence.staleness_ms {
            let _ = writeln!(out, "<p>Out of date for {ms:.3} ms.</p>");
        }
        out.push_str("<ol>\n");
        for operation in &evidence.core {
            let line = escape(&operation.operation.line());
            let _ = writeln!(out, "<li><code>{line}</code><br>{}</li>", escape(&operation.part));
        }
        out.push_str("</ol>\n<div class=\"scroll\">");
        out.push_str(&svg(evidence, spans));
        out.push_str("</div>\n");
    }
    out.push_str("</html>\n");
    out
}

pub(crate) const STYLE: &str = "<style>\n:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem \
auto;padding:0 1rem}.scroll{overflow-x:auto}.violated{color:#c0392b;font-weight:600}.holds{color:#1e8449;font-weight:600}\
.unknown{color:#b9770e;font-weight:600}code{font-size:13px}\n</style>\n";

/// The window of a violation as SVG.
pub fn svg(evidence: &Evidence, spans: &[Span]) -> String {
    let axis = Axis::new(evidence);
    let mut lanes: Vec<&str> = Vec::new();
    for span in spans.iter().filter(|s| axis.shows(s)) {
        if !lanes.contains(&span.lane.as_str()) {
            lanes.push(&span.lane);
        }
    }
    let above = lanes.len();
    for operation in &evidence.window {
        if !lanes[above..].contains(&operation.process.as_str()) {
            lanes.push(&operation.process);
        }
    }
    let height = LANE * lanes.len() as f64 + 8.0;
    let width = axis.end();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"system-ui,sans-serif\" font-size=\"11\" role=\"img\">\n"
    );
    for (n, lane) in lanes.iter().enumerate() {
        let name = if n < above { escape(lane) } else { format!("client {}", escape(lane)) };
        let y = LANE * n as f64 + 18.0;
        let _ = writeln!(out, "<text x=\"4\" y=\"{y}\" fill=\"currentColor\">{name}</text>");
    }
    for span in spans.iter().filter(|s| axis.shows(s)) {
        let lane = lanes.iter().position(|l| *l == span.lane).unwrap_or(0);
        let (from, to) = (axis.at(span.from_ms), span.until_ms.map_or(width - 4.0, |ms| axis.at(ms)));
        bar(&mut out, lane, (from, to), "#7f8c8d", &span.label, &span.label, false);
    }
    for (n, operation) in evidence.window.iter().enumerate() {
        let lane = above + lanes[above..].iter().position(|l| *l == operation.process).unwrap_or(0);
        let core = evidence.core.iter().position(|c| c.operation == *operation);
        let colour = match (core, operation.ending) {
            (Some(_), _) => "#c0392b",
            (None, Ending::Ok) => "#2e86c1",
            (None, Ending::Failed) => "#95a5a6",
            (None, Ending::Unknown) => "#b9770e",
        };
        let label = match core {
            Some(number) => format!("{}: {}", number + 1, operation.text),
            None => operation.text.clone(),
        };
        bar(
            &mut out,
            lane,
            axis.bar(n),
            colour,
            &label,
            &operation.line(),
            operation.ending == Ending::Unknown,
        );
    }
    out.push_str("</svg>\n");
    out
}

fn bar(
    out: &mut String,
    lane: usize,
    (from, to): (f64, f64),
    colour: &str,
    label: &str,
    tip: &str,
    open: bool,
) {
    let y = LANE * lane as f64 + 4.0;
    let width = (to - from).max(8.0);
    let dash = if open { " stroke=\"currentColor\" stroke-dasharray=\"3 3\"" } else { "" };
    // What does not fit into its bar is cut; the tooltip has it all.
    let room = (width / 7.0) as usize;
    let text: String = label.chars().take(room).collect();
    let _ = writeln!(
        out,
        "<g><title>{}</title><rect x=\"{from}\" y=\"{y}\" width=\"{width}\" height=\"20\" rx=\"3\" fill=\"{colour}\"{dash}/>\
         <text x=\"{}\" y=\"{}\" fill=\"#fff\">{}</text></g>",
        escape(tip),
        from + 3.0,
        y + 14.0,
        escape(&text)
    );
}

/// Where events stand: one step each, in order of time.
struct Axis {
    /// Of each operation of the window, its events' ranks.
    ranks: Vec<(usize, usize)>,
    /// Times of the events by rank, as far as they are known.
    times: Vec<Option<f64>>,
}

impl Axis {
    fn new(evidence: &Evidence) -> Axis {
        // Lines order the events of files without a clock.
        let order =
            |ms: Option<f64>, line: Option<u64>| line.map(|l| l as f64).or(ms).unwrap_or(f64::INFINITY);
        let mut events: Vec<(f64, usize, bool, Option<f64>)> = Vec::new();
        for (n, o) in evidence.window.iter().enumerate() {
            events.push((order(o.invoked_ms, o.line), n, false, o.invoked_ms));
            let known = o.ending != Ending::Unknown;
            let end = if known { order(o.completed_ms, o.completed_line) } else { f64::INFINITY };
            events.push((end, n, true, o.completed_ms.filter(|_| known)));
        }
        events.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.2.cmp(&b.2)).then(a.1.cmp(&b.1)));
        let mut ranks = vec![(0, 0); evidence.window.len()];
        // Everything still open ends together, at the right edge.
        let over = events.iter().filter(|e| e.0.is_finite()).count();
        for (rank, &(at, n, end, _)) in events.iter().enumerate() {
            let rank = if at.is_finite() { rank } else { over };
            if end {
                ranks[n].1 = rank;
            } else {
                ranks[n].0 = rank;
            }
        }
        Axis { ranks, times: events.into_iter().map(|e| e.3).collect() }
    }

    fn x(rank: usize) -> f64 {
        MARGIN + STEP * rank as f64
    }

    fn bar(&self, n: usize) -> (f64, f64) {
        let (from, to) = self.ranks[n];
        (Self::x(from), Self::x(to) - 3.0)
    }

    fn end(&self) -> f64 {
        Self::x(self.ranks.iter().map(|r| r.1.max(r.0)).max().unwrap_or(0) + 1)
    }

    /// Where a time stands: before the first event that is later.
    fn at(&self, ms: f64) -> f64 {
        Self::x(self.times.iter().flatten().filter(|t| **t <= ms).count())
    }

    fn shows(&self, span: &Span) -> bool {
        let mut times = self.times.iter().flatten();
        times.any(|t| *t >= span.from_ms && span.until_ms.is_none_or(|until| *t <= until))
            || span.until_ms.is_none_or(|until| self.at(span.from_ms) < self.at(until))
    }
}

/// For text in HTML and SVG.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
