//! One run as swimlanes: a lane per node with its role as fill and letter, absences hatched, client operations as
//! ticks in three rows (ok, unknown, fail), steps of the failover and violations as vertical markers, and the time
//! with two writable primaries hatched.

use super::{CHAR_WIDTH, Drawing, Scale, round_step, unit};
use crate::lanes::{
    Absence, Interval, Lane, Lanes, Seen, lanes, mark_word, node_name, outage_fault, role_letter, role_word,
};
use crate::result::StoredRun;
use crate::text::{clock, count, ms};
use firedrill_checkers::measure::{Measurement, Phases};
use firedrill_checkers::record::{NodeClass, Records, Shard, SimTime};
use std::collections::{BTreeMap, BTreeSet};

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 112.0;
const RIGHT: f64 = 8.0;
const LANE: f64 = 24.0;
const GAP: f64 = 6.0;
const LABEL_ROW: f64 = 14.0;

/// Node lanes drawn; a cluster of hundreds does not fit a page.
pub const NODE_LANES_MAX: usize = 16;

/// Client and probe lanes drawn.
pub const CLIENT_LANES_MAX: usize = 6;

/// Ticks drawn per picture. Ticks are one per pixel and outcome; beyond this many the pixels get coarser.
pub const TICKS_MAX: usize = 4_000;

/// Faults that get a bracket of their own.
const FAULT_ROWS_MAX: usize = 4;

/// Steps of the failover that get a marker.
const MARKS_MAX: usize = 14;

/// Violations that get a marker.
const VIOLATIONS_MAX: usize = 5;

/// A picture, and the sentences that belong under it.
pub struct Picture {
    /// The drawing.
    pub svg: String,
    /// What it shows and what it leaves out.
    pub caption: String,
}

/// The pictures of a run: all of it that matters, and a close-up of the failover where that is a small part of it.
pub fn swimlanes(id: &str, scenario: &str, run: &StoredRun) -> Vec<Picture> {
    let drawn = lanes(&run.records);
    let whole = window(run, &drawn);
    let mut out = vec![picture(id, scenario, run, &drawn, whole)];
    if let Some(close) = close_up(run, &drawn, whole) {
        out.push(picture(&format!("{id}-close"), scenario, run, &drawn, close));
    }
    out
}

type Window = (SimTime, SimTime);

/// From a little before the first fault until a little after the last thing of interest.
fn window(run: &StoredRun, drawn: &Lanes) -> Window {
    let records = &run.records;
    let began = records.journal.faults.iter().map(|f| f.began.at);
    let Some(first) = began.clone().chain(run.violations.iter().map(|v| v.at)).min() else {
        return (SimTime(0), drawn.end.max(SimTime(1)));
    };
    let healed = records.journal.faults.iter().filter_map(|f| f.healed).map(|h| h.at);
    let marks = drawn.marks.iter().map(|m| m.at);
    let roles = drawn.lanes.iter().flat_map(|lane| lane.roles.iter().map(|r| r.from));
    let conflicts = drawn.conflicts.iter().map(|c| c.until);
    let violations = run.violations.iter().map(|v| v.at);
    let last = began.chain(healed).chain(marks).chain(roles).chain(conflicts).chain(violations).max();
    around(first, last.unwrap_or(first), drawn.end)
}

fn around(first: SimTime, last: SimTime, end: SimTime) -> Window {
    // More room after than before: labels stand to the right of their moment.
    let length = last.0.saturating_sub(first.0);
    let (before, after) = ((length / 10).max(1_000_000), (length / 5).max(1_000_000));
    (SimTime(first.0.saturating_sub(before)), SimTime((last.0 + after).min(end.0.max(first.0 + 1))))
}

/// The outage from its fault to its end, where it takes less than 60 % of the whole picture.
fn close_up(run: &StoredRun, drawn: &Lanes, whole: Window) -> Option<Window> {
    let fault = outage_fault(&run.records, Some(&run.measurement))?;
    let first = run.measurement.rto.first.filter(|span| !span.censored && span.ms > 0.0)?;
    let close = around(fault, SimTime(fault.0 + (first.ms * 1_000.0) as u64), drawn.end);
    let part = (close.1.0 - close.0.0) as f64 / (whole.1.0 - whole.0.0) as f64;
    (part < 0.6).then_some(close)
}

fn picture(id: &str, scenario: &str, run: &StoredRun, drawn: &Lanes, window: Window) -> Picture {
    let title = format!("{scenario}, seed {}: {} to {}", run.seed, clock(window.0), clock(window.1));
    let mut p = Painter {
        drawing: Drawing::new(
            id,
            &title,
            "One lane per node; the story below tells the same in words.",
            WIDTH,
            0.0,
        ),
        time: Scale::new((window.0.0 as f64, window.1.0 as f64), (LEFT, WIDTH - RIGHT)),
        window,
        run,
        y: 4.0,
        caption: vec![format!("Shown: {} to {} of {}.", clock(window.0), clock(window.1), clock(drawn.end))],
    };
    p.faults();
    p.phases(drawn);
    let marks = p.mark_labels(drawn);
    p.node_lanes(drawn);
    p.client_lanes(drawn);
    p.markers(&marks);
    p.axis();
    let caption = p.caption.join(" ");
    p.drawing.set_height(p.y);
    Picture { svg: p.drawing.finish(), caption }
}

/// A vertical marker with its label. Both are drawn last, labels over lines.
struct Marker {
    x: f64,
    class: &'static str,
    label: Label,
}

struct Label {
    words: String,
    class: String,
    x: f64,
    y: f64,
}

struct Painter<'a> {
    drawing: Drawing,
    time: Scale,
    window: Window,
    run: &'a StoredRun,
    /// How far down the picture is painted.
    y: f64,
    caption: Vec<String>,
}

impl Painter<'_> {
    fn x(&self, at: SimTime) -> f64 {
        self.time.at(at.0 as f64)
    }

    fn shows(&self, at: SimTime) -> bool {
        self.window.0 <= at && at <= self.window.1
    }

    /// The part of an interval inside the window, as left edge and width of at least one unit.
    fn part<T>(&self, interval: &Interval<T>) -> Option<(f64, f64)> {
        let outside = interval.until < self.window.0 || interval.from > self.window.1;
        let (from, until) = (self.x(interval.from), self.x(interval.until));
        (!outside).then_some((from, (until - from).max(1.0)))
    }

    fn records(&self) -> &Records {
        &self.run.records
    }

    fn faults(&mut self) {
        let faults = self.run.records.journal.faults.clone();
        let end = self.records().end;
        let shown: Vec<_> = faults
            .iter()
            .map(|f| (f, Interval { from: f.began.at, until: f.healed.map_or(end, |h| h.at), what: () }))
            .filter(|(_, span)| self.part(span).is_some())
            .collect();
        for (fault, span) in shown.iter().take(FAULT_ROWS_MAX) {
            let Some((x, width)) = self.part(span) else { continue };
            self.drawing.text(
                "label end",
                LEFT - 8.0,
                self.y + 11.0,
                if fault.planned { "action" } else { "fault" },
            );
            self.drawing.rect_titled("fault", (x, self.y + 2.0), (width, 11.0), &fault.label);
            let words = fit(&fault.label, WIDTH - RIGHT - x - 4.0);
            self.drawing.text("fault-label", x + 4.0, self.y + 11.0, &words);
            self.y += LABEL_ROW + 2.0;
        }
        if shown.len() > FAULT_ROWS_MAX {
            let more = shown.len() - FAULT_ROWS_MAX;
            self.caption.push(format!("{more} more faults have no bracket of their own."));
        }
    }

    /// The phases of this run's recovery, which sum exactly to its recovery time.
    fn phases(&mut self, drawn: &Lanes) {
        let Some(fault) = outage_fault(self.records(), Some(&self.run.measurement)) else { return };
        let Some(first) = self.run.measurement.rto.first else { return };
        let until = if first.censored { drawn.end } else { SimTime(fault.0 + (first.ms * 1_000.0) as u64) };
        let outage = Interval { from: fault, until, what: () };
        let Some((x, width)) = self.part(&outage).filter(|_| first.ms > 0.0) else { return };
        self.drawing.text("label end", LEFT - 8.0, self.y + 12.0, "outage");
        let words =
            if first.censored { "never recovered".to_owned() } else { format!("outage {}", ms(first.ms)) };
        self.drawing.rect_titled("outage", (x, self.y), (width, 16.0), &words);
        let mut from = fault;
        for (name, length) in named(&self.run.measurement) {
            let step = SimTime(from.0 + (length * 1_000.0) as u64);
            let phase = Interval { from, until: step, what: () };
            if let Some((x, width)) = self.part(&phase) {
                self.drawing.rect_titled(
                    "phase",
                    (x, self.y),
                    (width, 16.0),
                    &format!("{name} {}", ms(length)),
                );
                let words = fit(&format!("{name} {}", ms(length)), width - 6.0);
                self.drawing.text("phase-label", x + 4.0, self.y + 12.0, &words);
            }
            from = step;
        }
        let parts: Vec<String> = named(&self.run.measurement)
            .iter()
            .map(|(name, length)| format!("{name} {}", ms(*length)))
            .collect();
        let sum = if parts.is_empty() { String::new() } else { format!(" = {}", parts.join(" + ")) };
        self.drawing.describe(&format!("The {words}{sum}."));
        self.caption.push(format!("The {words}{sum}."));
        self.y += 20.0;
    }

    /// Labels of the failover's steps in as many rows as they need, and the markers to draw through the lanes later.
    fn mark_labels(&mut self, drawn: &Lanes) -> Vec<Marker> {
        let mut labels: Vec<(f64, String, &'static str)> = self.steps(drawn);
        let run = self.run;
        let violations: Vec<_> =
            run.violations.iter().filter(|v| self.shows(v.at)).take(VIOLATIONS_MAX).collect();
        for violation in violations {
            labels.push((self.time.at(violation.at.0 as f64), "✖ violation".to_owned(), "mark-bad"));
            let words = format!("✖ {}: {}.", clock(violation.at), violation.what);
            self.caption.push(words);
        }
        labels.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut rows: Vec<f64> = Vec::new();
        let (mut row, mut deepest) = (0, 0);
        let mut out = Vec::new();
        for (x, words, class) in labels {
            let wide = (words.chars().count() as f64 + 1.0) * CHAR_WIDTH;
            // A marker runs down through the rows below its own, so a row is used again only right of all labels.
            row = if rows.iter().all(|end| *end < x) { 0 } else { row + 1 };
            rows.truncate(row);
            rows.push(x + 3.0 + wide);
            deepest = deepest.max(row + 1);
            let label_y = self.y + 11.0 + LABEL_ROW * row as f64;
            let (kind, at) = match x + 3.0 + wide > WIDTH - RIGHT {
                true => (" end", x - 3.0),
                false => ("", x + 3.0),
            };
            let name = if class == "mark-bad" { "bad-label" } else { "mark-label" };
            let label = Label { words, class: format!("{name} halo{kind}"), x: at, y: label_y };
            out.push(Marker { x, class, label });
        }
        self.y += LABEL_ROW * deepest as f64 + 4.0;
        out
    }

    /// The first of each kind of step about each node.
    fn steps(&mut self, drawn: &Lanes) -> Vec<(f64, String, &'static str)> {
        let mut seen = BTreeSet::new();
        let first: Vec<_> =
            drawn.marks.iter().filter(|m| self.shows(m.at) && seen.insert((m.mark, m.about))).collect();
        if first.len() > MARKS_MAX {
            self.caption.push(format!("{} later steps have no marker.", first.len() - MARKS_MAX));
        }
        let label = |m: &&crate::lanes::MarkAt| {
            let about =
                m.about.map_or(String::new(), |node| format!(" {}", node_name(&self.run.records, node)));
            (self.time.at(m.at.0 as f64), format!("{}{about}", mark_word(m.mark)), "mark")
        };
        first.iter().take(MARKS_MAX).map(label).collect()
    }

    fn node_lanes(&mut self, drawn: &Lanes) {
        let nodes: Vec<&Lane> =
            drawn.lanes.iter().filter(|lane| !is_client(lane) && has_something(lane)).collect();
        let silent: Vec<&str> = drawn
            .lanes
            .iter()
            .filter(|lane| !is_client(lane) && !has_something(lane))
            .map(|lane| lane.name.as_str())
            .collect();
        if !silent.is_empty() {
            let names = fit(&silent.join(", "), 60.0 * CHAR_WIDTH);
            self.caption.push(format!("No lane, for they have no role and were always there: {names}."));
        }
        if nodes.len() > NODE_LANES_MAX {
            self.caption.push(format!("{} more nodes have no lane.", nodes.len() - NODE_LANES_MAX));
        }
        let mut labels = Vec::new();
        for lane in nodes.iter().take(NODE_LANES_MAX) {
            let before = labels.len();
            self.node_lane(lane, &drawn.conflicts, &mut labels);
            if labels.len() > before {
                self.drawing.describe(&format!("{} is one of two writable primaries.", lane.name));
            }
            self.y += LANE + GAP;
        }
        self.conflict_labels(&labels);
    }

    /// Draws one lane; adds the conflicts it takes part in, as (their place, their words), to `labels`.
    fn node_lane(
        &mut self,
        lane: &Lane,
        conflicts: &[Interval<Shard>],
        labels: &mut Vec<(f64, f64, String)>,
    ) {
        let y = self.y;
        self.drawing.text("label end", LEFT - 8.0, y + 16.0, &fit(&lane.name, LEFT - 10.0));
        self.drawing.rect("lane", LEFT, y, WIDTH - RIGHT - LEFT, LANE);
        for role in &lane.roles {
            let Some((x, width)) = self.part(role) else { continue };
            let letter = role_letter(role.what);
            let title = format!(
                "{} {} from {} to {}",
                lane.name,
                role_word(role.what),
                clock(role.from),
                clock(role.until)
            );
            self.drawing.rect_titled(&format!("role-{letter}"), (x, y), (width, LANE), &title);
        }
        for writable in &lane.writable {
            if let Some((x, width)) = self.part(writable) {
                self.drawing.rect("writable", x, y + LANE - 4.0, width, 4.0);
            }
        }
        for absence in &lane.absences {
            let Some((x, width)) = self.part(absence) else { continue };
            let word = absence.what.word();
            let title =
                format!("{} {word} from {} to {}", lane.name, clock(absence.from), clock(absence.until));
            self.drawing.rect_titled(hatch(absence.what), (x, y), (width, LANE), &title);
            let wide = (word.chars().count() as f64 + 1.0) * CHAR_WIDTH + 6.0;
            if width > wide + 24.0 {
                self.drawing.rect("plate", x + 20.0, y + 4.0, wide, 15.0);
                self.drawing.text("absence-label", x + 23.0, y + 15.0, word);
            }
        }
        self.conflicts(lane, conflicts, labels);
        self.letters(lane);
    }

    /// Letters come last, so that no hatching hides them.
    fn letters(&mut self, lane: &Lane) {
        for role in &lane.roles {
            let Some((x, width)) = self.part(role) else { continue };
            let letter = role_letter(role.what);
            if width > 10.0 {
                self.drawing.text(
                    &format!("letter on-{letter}"),
                    x + 5.0,
                    self.y + 16.0,
                    &letter.to_string(),
                );
            }
        }
    }

    /// Hatches the lane where it is one of two writable primaries of its shard.
    fn conflicts(
        &mut self,
        lane: &Lane,
        conflicts: &[Interval<Shard>],
        labels: &mut Vec<(f64, f64, String)>,
    ) {
        for conflict in conflicts {
            let own = |w: &&Interval<Shard>| {
                w.what == conflict.what && w.from < conflict.until && w.until > conflict.from
            };
            let (Some((x, width)), Some(_)) = (self.part(conflict), lane.writable.iter().find(own)) else {
                continue;
            };
            let length = ms((conflict.until.0 - conflict.from.0) as f64 / 1_000.0);
            let words = format!("two writable primaries for {length}");
            self.drawing.rect_titled("hatch-conflict", (x, self.y - 1.0), (width, LANE + 2.0), &words);
            labels.push((x, self.y + LANE, words));
        }
    }

    /// Under the first lane of each conflict, above whatever is there; as many as do not collide.
    fn conflict_labels(&mut self, labels: &[(f64, f64, String)]) {
        let mut free = 0.0;
        let first = labels.first().map_or(0.0, |(_, y, _)| *y);
        for (x, y, words) in labels.iter().filter(|(_, y, _)| *y == first) {
            let wide = (words.chars().count() as f64 + 1.0) * CHAR_WIDTH + 6.0;
            let at = x.min(WIDTH - RIGHT - wide);
            if at >= free {
                self.drawing.rect("plate", at, y - 4.0, wide, 15.0);
                self.drawing.text("bad-label", at + 3.0, y + 7.0, words);
                free = at + wide;
            }
        }
    }

    fn client_lanes(&mut self, drawn: &Lanes) {
        let clients: Vec<&Lane> = drawn.lanes.iter().filter(|lane| is_client(lane)).collect();
        let shown: Vec<&Lane> = clients.iter().copied().take(CLIENT_LANES_MAX).collect();
        if clients.len() > shown.len() {
            self.caption.push(format!("{} more clients have no lane.", clients.len() - shown.len()));
        }
        let (ticks, pixel) = self.ticks(&shown);
        for (lane, ticks) in shown.iter().zip(&ticks) {
            self.client_lane(lane, ticks, pixel);
            self.y += LANE + GAP;
        }
        let operations: usize =
            shown.iter().map(|lane| lane.operations.iter().filter(|(at, _)| self.shows(*at)).count()).sum();
        let drawn: usize = ticks.iter().map(BTreeSet::len).sum();
        if operations > 0 {
            self.caption.push(format!(
                "{} operations drawn as {} ticks: those of one outcome within {} share one.",
                count(operations as u64),
                count(drawn as u64),
                ms((self.window.1.0 - self.window.0.0) as f64 / 1_000.0 / (WIDTH - RIGHT - LEFT)
                    * pixel as f64),
            ));
        }
    }

    /// Ticks of each lane as (outcome, column), and the width of a column: as fine as the bound allows.
    fn ticks(&self, shown: &[&Lane]) -> (Vec<BTreeSet<(Seen, i64)>>, i64) {
        let mut pixel = 1;
        loop {
            let of = |lane: &&Lane| {
                let inside = lane.operations.iter().filter(|(at, _)| self.shows(*at));
                inside.map(|(at, seen)| (*seen, self.x(*at) as i64 / pixel * pixel)).collect::<BTreeSet<_>>()
            };
            let ticks: Vec<BTreeSet<(Seen, i64)>> = shown.iter().map(of).collect();
            if ticks.iter().map(BTreeSet::len).sum::<usize>() <= TICKS_MAX || pixel > 64 {
                return (ticks, pixel);
            }
            pixel *= 2;
        }
    }

    fn client_lane(&mut self, lane: &Lane, ticks: &BTreeSet<(Seen, i64)>, pixel: i64) {
        let y = self.y;
        self.drawing.text("label end", LEFT - 8.0, y + 16.0, &fit(&lane.name, LEFT - 10.0));
        self.drawing.rect("lane", LEFT, y, WIDTH - RIGHT - LEFT, LANE);
        for absence in &lane.absences {
            if let Some((x, width)) = self.part(absence) {
                let title = format!("{} {}", lane.name, absence.what.word());
                self.drawing.rect_titled(hatch(absence.what), (x, y), (width, LANE), &title);
            }
        }
        let mut columns: BTreeMap<Seen, Vec<i64>> = BTreeMap::new();
        for (seen, column) in ticks {
            columns.entry(*seen).or_default().push(*column);
        }
        for (seen, columns) in columns {
            let (class, row) = match seen {
                Seen::Ok => ("tick-ok", 5.0),
                Seen::Unknown => ("tick-unknown", 12.0),
                Seen::Fail => ("tick-fail", 19.0),
            };
            self.drawing.path(class, &ticks_path(&columns, y + row, pixel));
        }
    }

    fn markers(&mut self, markers: &[Marker]) {
        for marker in markers {
            self.drawing.line(marker.class, (marker.x, marker.label.y - 9.0), (marker.x, self.y));
        }
        for Label { words, class, x, y } in markers.iter().map(|marker| &marker.label) {
            self.drawing.text(class, *x, *y, words);
        }
    }

    fn axis(&mut self) {
        let (from, until) = (self.window.0.0 as f64 / 1e6, self.window.1.0 as f64 / 1e6);
        let step = round_step(until - from, 10);
        let digits = if step < 0.01 {
            3
        } else if step < 0.1 {
            2
        } else {
            usize::from(step < 1.0)
        };
        let first = (from / step).ceil() as i64;
        self.drawing.line("axis-line", (LEFT, self.y), (WIDTH - RIGHT, self.y));
        for tick in (first..first + 24).map(|i| i as f64 * step).take_while(|tick| *tick <= until) {
            let x = self.time.at(tick * 1e6);
            self.drawing.line("axis-line", (x, self.y), (x, self.y + 4.0));
            self.drawing.text("num mid", x.min(WIDTH - 22.0), self.y + 16.0, &format!("{tick:.digits$} s"));
        }
        self.y += 22.0;
    }
}

/// A row of ticks as one thick line with gaps; neighbours join, so that a steady load costs a few bytes.
fn ticks_path(columns: &[i64], y: f64, pixel: i64) -> String {
    let mut out = String::new();
    let mut pen = None;
    let mut at = 0;
    while let Some(first) = columns.get(at) {
        let mut last = *first;
        while columns.get(at + 1) == Some(&(last + pixel)) {
            last += pixel;
            at += 1;
        }
        at += 1;
        match pen {
            None => out.push_str(&format!("M{first} {}", unit(y))),
            Some(pen) => out.push_str(&format!("m{} 0", first - pen)),
        }
        out.push_str(&format!("h{}", last - first + pixel));
        pen = Some(last + pixel);
    }
    out
}

fn is_client(lane: &Lane) -> bool {
    matches!(lane.class, NodeClass::Client | NodeClass::Probe)
}

/// Whether there is anything to draw in a node's lane; data nodes always have one.
fn has_something(lane: &Lane) -> bool {
    lane.class == NodeClass::Data || !lane.roles.is_empty() || !lane.absences.is_empty()
}

fn hatch(absence: Absence) -> &'static str {
    match absence {
        Absence::Down => "hatch-down",
        Absence::Paused => "hatch-paused",
        Absence::Cut => "hatch-cut",
    }
}

fn named(m: &Measurement) -> Vec<(&'static str, f64)> {
    let Phases { detect, elect, fence, promote, redirect } = m.rto.phases;
    let all = [
        ("detect", detect),
        ("elect", elect),
        ("fence", fence),
        ("promote", promote),
        ("redirect", redirect),
    ];
    all.into_iter().filter_map(|(name, ms)| ms.filter(|ms| *ms > 0.0).map(|ms| (name, ms))).collect()
}

/// Text cut to a width, with an ellipsis; nothing if hardly anything of it fits.
fn fit(text: &str, width: f64) -> String {
    let room = (width / CHAR_WIDTH).max(0.0) as usize;
    match text.chars().count() {
        n if n <= room => text.to_owned(),
        _ if room < 4 => String::new(),
        _ => text.chars().take(room - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::ViolationAt;
    use crate::sample;

    fn pictures(scenario: usize) -> Vec<Picture> {
        let campaign = sample::campaign(sample::Size::Small);
        swimlanes("w", "s", &campaign.scenarios[scenario].stored[0])
    }

    #[test]
    fn the_lanes_show_roles_by_letter_absences_by_hatching_and_steps_by_word() {
        let svg = &pictures(0)[0].svg;
        for part in [
            ">P</text>",
            ">R</text>",
            "hatch-down",
            "declared data-1",
            "promoting data-2",
            "tick-fail",
            "tick-ok",
        ] {
            assert!(svg.contains(part), "{part} is missing");
        }
    }

    #[test]
    fn two_writable_primaries_are_hatched_and_the_violation_is_marked() {
        let picture = &pictures(1)[0];
        assert!(picture.svg.contains("hatch-conflict") && picture.svg.contains("✖ violation"));
        assert!(picture.caption.contains("✖ 26.304s: data-1 acknowledges"), "{}", picture.caption);
    }

    #[test]
    fn of_many_violations_the_first_five_are_drawn() {
        let mut campaign = sample::campaign(sample::Size::Small);
        let run = &mut campaign.scenarios[1].stored[0];
        let at = run.violations[0].at;
        let violation = |n: u64| ViolationAt { at: SimTime(at.0 + n), what: format!("broken {n}") };
        run.violations = (0..8).map(violation).collect();
        let picture = &swimlanes("w", "s", run)[0];
        let named = (0..8).filter(|n| picture.caption.contains(&format!("broken {n}."))).count();
        assert_eq!(named, 5, "{}", picture.caption);
        run.violations = Vec::new();
        assert!(!swimlanes("w", "s", run)[0].svg.contains("✖ violation"));
    }

    #[test]
    fn a_short_outage_in_a_long_run_gets_a_close_up() {
        assert_eq!(pictures(0).len(), 2);
    }

    #[test]
    fn a_hundred_thousand_operations_stay_within_the_bound_and_are_told() {
        let mut campaign = sample::campaign(sample::Size::Small);
        let run = &mut campaign.scenarios[0].stored[0];
        let template = run.records.history.operations[0].clone();
        for i in 0..100_000_u64 {
            let mut operation = template.clone();
            operation.invoked.at = SimTime(i * 600);
            operation.completed = Some(operation.invoked);
            run.records.history.operations.push(operation);
        }
        let picture = &swimlanes("w", "s", run)[0];
        assert!(picture.svg.len() < 60_000, "{}", picture.svg.len());
        assert!(picture.caption.contains("operations drawn as"), "{}", picture.caption);
    }

    #[test]
    fn a_run_without_records_is_an_empty_picture() {
        let pictures = swimlanes("w", "s", &StoredRun::default());
        assert_eq!(pictures.len(), 1);
        assert!(!pictures[0].svg.contains("NaN"));
    }

    #[test]
    fn neighbouring_ticks_join() {
        assert_eq!(ticks_path(&[10, 11, 12, 20], 1.0, 1), "M10 1h3m7 0h1");
    }
}
