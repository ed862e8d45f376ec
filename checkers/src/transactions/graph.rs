//! A graph of "must come before", and its circles.

use super::report::{Level, Report};
use std::collections::VecDeque;
use std::fmt::Write as _;

/// A transaction, or a helper behind them.
pub(super) type Node = u32;

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A write before the write that came after it.
    Ww,
    /// A write before a read of it.
    Wr,
    /// A read before the write that it did not see.
    Rw,
    /// A client's earlier transaction before its later one.
    Session,
    /// What completed before what was invoked later.
    Time,
    /// From a helper on: the reason is that of the arrow into the helper.
    Through,
}

/// An arrow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub to: Node,
    pub kind: Kind,
    /// Which object.
    pub key: u32,
    /// Which place of its list.
    pub at: u32,
}

impl Edge {
    pub fn new(to: Node, kind: Kind, key: usize, at: usize) -> Edge {
        Edge { to, kind, key: key as u32, at: at as u32 }
    }
}

/// Which arrows count.
#[derive(Clone, Copy)]
struct Mask {
    reads: bool,
    misses: bool,
    session: bool,
    time: bool,
}

impl Mask {
    fn has(self, kind: Kind) -> bool {
        match kind {
            Kind::Ww | Kind::Through => true,
            Kind::Wr => self.reads,
            Kind::Rw => self.misses,
            Kind::Session => self.session,
            Kind::Time => self.time,
        }
    }
}

/// The levels that a graph without circles of these arrows has, from strong to weak. Snapshot isolation stands apart:
/// it forbids circles in which no two missed writes follow each other.
const LEVELS: [(Level, Mask); 5] = [
    (Level::StrictSerializable, Mask { reads: true, misses: true, session: true, time: true }),
    (Level::SessionSerializable, Mask { reads: true, misses: true, session: true, time: false }),
    (Level::Serializable, Mask { reads: true, misses: true, session: false, time: false }),
    (Level::ReadCommitted, Mask { reads: true, misses: false, session: false, time: false }),
    (Level::ReadUncommitted, Mask { reads: false, misses: false, session: false, time: false }),
];

/// Transactions are the nodes `0..transactions`; helpers follow.
#[derive(Debug)]
pub(super) struct Graph {
    transactions: usize,
    nodes: usize,
    added: Vec<(Node, Edge)>,
    start: Vec<u32>,
    edges: Vec<Edge>,
}

impl Graph {
    pub fn new(transactions: usize) -> Self {
        Graph { transactions, nodes: transactions, added: Vec::new(), start: Vec::new(), edges: Vec::new() }
    }

    /// A node that is no transaction.
    pub fn helper(&mut self) -> Node {
        self.nodes += 1;
        (self.nodes - 1) as Node
    }

    pub fn add(&mut self, from: Node, edge: Edge) {
        self.added.push((from, edge));
    }

    /// Groups the arrows by where they start.
    pub fn finish(&mut self) {
        let mut start = vec![0u32; self.nodes + 1];
        for (from, _) in &self.added {
            start[*from as usize + 1] += 1;
        }
        for n in 0..self.nodes {
            start[n + 1] += start[n];
        }
        let mut next = start.clone();
        let mut edges = vec![Edge::new(0, Kind::Through, 0, 0); self.added.len()];
        for (from, edge) in std::mem::take(&mut self.added) {
            let slot = &mut next[from as usize];
            edges[*slot as usize] = edge;
            *slot += 1;
        }
        (self.start, self.edges) = (start, edges);
    }

    fn from(&self, node: Node) -> &[Edge] {
        &self.edges[self.start[node as usize] as usize..self.start[node as usize + 1] as usize]
    }

    /// The strongest level without a circle, and a circle of the level above it that is as bad as can be.
    pub fn level(&self) -> (Level, Option<Vec<(Node, Edge)>>) {
        let mut circle: Option<Vec<(Node, Edge)>> = None;
        for (level, mask) in LEVELS {
            if level == Level::ReadCommitted {
                let snapshot = View { graph: self, mask: LEVELS[2].1, snapshot: true };
                match snapshot.in_circles() {
                    None => return (Level::SnapshotIsolation, circle),
                    Some(members) => circle = Some(snapshot.circle(&members)),
                }
            }
            let view = View { graph: self, mask, snapshot: false };
            match view.in_circles() {
                None => return (level, circle),
                Some(members) => circle = Some(view.circle(&members)),
            }
        }
        (Level::None, circle)
    }
}

/// Steps that the search for a short circle may take.
const SEARCH_STEPS: usize = 4_000_000;

/// A graph with some of its arrows. As a *snapshot* every node stands twice: as reached by any arrow, and as reached by
/// a missed write, from where no other missed write goes on.
struct View<'a> {
    graph: &'a Graph,
    mask: Mask,
    snapshot: bool,
}

impl View<'_> {
    /// States are nodes, or twice as many.
    fn states(&self) -> usize {
        self.graph.nodes * if self.snapshot { 2 } else { 1 }
    }

    fn node(&self, state: u32) -> Node {
        if self.snapshot { state / 2 } else { state }
    }

    fn next(&self, state: u32) -> impl Iterator<Item = (u32, Edge)> {
        let missed = self.snapshot && state % 2 == 1;
        self.graph.from(self.node(state)).iter().filter(move |edge| self.mask.has(edge.kind)).filter_map(
            move |edge| {
                if !self.snapshot {
                    return Some((edge.to, *edge));
                }
                match edge.kind {
                    Kind::Rw if missed => None,
                    Kind::Rw => Some((2 * edge.to + 1, *edge)),
                    // A helper passes on how it was reached.
                    Kind::Through => Some((2 * edge.to + u32::from(missed), *edge)),
                    _ => Some((2 * edge.to, *edge)),
                }
            },
        )
    }

    /// The states that lie on circles or behind one (Kahn's algorithm takes away all others); `None` if there are none.
    fn in_circles(&self) -> Option<Vec<bool>> {
        let mut incoming = vec![0u32; self.states()];
        for state in 0..self.states() as u32 {
            self.next(state).for_each(|(to, _)| incoming[to as usize] += 1);
        }
        let mut ready: Vec<u32> = (0..self.states() as u32).filter(|&s| incoming[s as usize] == 0).collect();
        let mut left = vec![true; self.states()];
        let mut done = 0;
        while let Some(state) = ready.pop() {
            left[state as usize] = false;
            done += 1;
            for (to, _) in self.next(state) {
                incoming[to as usize] -= 1;
                if incoming[to as usize] == 0 {
                    ready.push(to);
                }
            }
        }
        (done < self.states()).then_some(left)
    }

    /// A circle with as few transactions as the search finds: from each of them the shortest way back.
    fn circle(&self, members: &[bool]) -> Vec<(Node, Edge)> {
        let mut best: Option<Vec<(Node, Edge)>> = None;
        let mut steps = 0;
        let mut came: Vec<Option<(u32, Edge)>> = vec![None; self.states()];
        let mut distance = vec![u32::MAX; self.states()];
        let all = (0..self.states() as u32).filter(|&s| members[s as usize]);
        for start in self.some_circle(members).into_iter().chain(all) {
            if self.node(start) as usize >= self.graph.transactions {
                continue;
            }
            if best.as_ref().is_some_and(|b| b.len() == 2 || steps > SEARCH_STEPS) {
                break;
            }
            let limit = best.as_ref().map_or(u32::MAX, |b| b.len() as u32);
            let mut touched = vec![start];
            if let Some(circle) = self.way_back(start, members, limit, &mut came, &mut distance, &mut touched)
            {
                best = Some(circle);
            }
            steps += touched.len();
            for state in touched {
                came[state as usize] = None;
                distance[state as usize] = u32::MAX;
            }
        }
        best.unwrap_or_default()
    }

    /// The states of a circle: every member has another before it, so walking back from one comes round.
    fn some_circle(&self, members: &[bool]) -> Vec<u32> {
        let mut before = vec![u32::MAX; self.states()];
        for state in (0..self.states() as u32).filter(|&s| members[s as usize]) {
            self.next(state).for_each(|(to, _)| before[to as usize] = state);
        }
        let mut state = members.iter().position(|m| *m).expect("there are members") as u32;
        let mut met = vec![false; self.states()];
        while !std::mem::replace(&mut met[state as usize], true) {
            state = before[state as usize];
        }
        let mut circle = vec![state];
        let mut at = before[state as usize];
        while at != state {
            circle.push(at);
            at = before[at as usize];
        }
        circle
    }

    /// The shortest way from a state to itself, in transactions, if it has fewer than `limit`.
    fn way_back(
        &self,
        start: u32,
        members: &[bool],
        limit: u32,
        came: &mut [Option<(u32, Edge)>],
        distance: &mut [u32],
        touched: &mut Vec<u32>,
    ) -> Option<Vec<(Node, Edge)>> {
        let mut queue = VecDeque::from([start]);
        distance[start as usize] = 0;
        while let Some(state) = queue.pop_front() {
            let so_far = distance[state as usize];
            for (to, edge) in self.next(state).filter(|(to, _)| members[*to as usize]) {
                if to == start {
                    return (so_far + 1 < limit).then(|| self.unwind(start, state, edge, came));
                }
                // Helpers cost nothing.
                let cost = u32::from((self.node(to) as usize) < self.graph.transactions);
                if so_far + cost >= limit || distance[to as usize] <= so_far + cost {
                    continue;
                }
                distance[to as usize] = so_far + cost;
                came[to as usize] = Some((state, edge));
                touched.push(to);
                if cost == 0 { queue.push_front(to) } else { queue.push_back(to) }
            }
        }
        None
    }

    /// The way that was found, helpers left out: each transaction with the first arrow of its way to the next.
    fn unwind(
        &self,
        start: u32,
        last: u32,
        closing: Edge,
        came: &[Option<(u32, Edge)>],
    ) -> Vec<(Node, Edge)> {
        let mut way = vec![(last, closing)];
        let mut state = last;
        while state != start {
            let (before, edge) = came[state as usize].expect("every state on the way was reached");
            way.push((before, edge));
            state = before;
        }
        way.reverse();
        way.iter()
            .map(|(state, edge)| (self.node(*state), *edge))
            .filter(|(node, _)| (*node as usize) < self.graph.transactions)
            .collect()
    }
}

/// Radius of the circle in a drawing.
const RADIUS: f64 = 150.0;

/// A report as one page, the first circle drawn.
pub(super) fn html(report: &Report, title: &str, word: &str) -> String {
    let escape = crate::linear::picture::escape;
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n");
    let _ = writeln!(out, "<title>{}</title>", escape(title));
    out.push_str(crate::linear::picture::STYLE);
    let class = match report.verdict {
        crate::linear::Overall::Holds => "holds",
        crate::linear::Overall::Violated => "violated",
        crate::linear::Overall::Unknown => "unknown",
    };
    let _ = writeln!(out, "<h1>{}</h1>\n<p class=\"{class}\">{word}</p>", escape(title));
    let s = &report.statistics;
    let _ = writeln!(
        out,
        "<p>{} transactions on {} keys: {} committed, {} failed, {} unknown.</p>",
        s.transactions, s.keys, s.committed, s.aborted, s.unknown
    );
    if let Some(level) = report.level {
        let _ = writeln!(out, "<p>Strongest level that holds: {}.</p>", level.name());
    }
    for note in &report.notes {
        let _ = writeln!(out, "<p>{}</p>", escape(note));
    }
    for (n, anomaly) in report.anomalies.iter().enumerate() {
        let _ = writeln!(out, "<h2>{}</h2>\n<p>{}.</p>", escape(anomaly.name), escape(&anomaly.summary));
        if n == 0 && anomaly.circle {
            draw(&mut out, anomaly.steps.len());
        }
        out.push_str("<ol>\n");
        for step in &anomaly.steps {
            let _ = writeln!(
                out,
                "<li><code>{}</code><br>{}</li>",
                escape(&step.transaction.line()),
                escape(&step.part)
            );
        }
        out.push_str("</ol>\n");
    }
    out.push_str("</html>\n");
    out
}

/// Transactions in a circle, an arrow from each to the next. Coordinates have one decimal, so that a page is the same
/// everywhere.
fn draw(out: &mut String, transactions: usize) {
    let size = 2.0 * RADIUS + 80.0;
    let place = |n: usize| {
        let (sin, cos) = turn(n, transactions);
        (size / 2.0 + RADIUS * sin, size / 2.0 - RADIUS * cos)
    };
    let _ = writeln!(
        out,
        "<svg viewBox=\"0 0 {size} {size}\" width=\"{size}\" role=\"img\" aria-label=\"{transactions} transactions in a circle\">\
         <defs><marker id=\"tip\" viewBox=\"0 0 10 10\" refX=\"10\" refY=\"5\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\">\
         <path d=\"M0 0L10 5L0 10z\" fill=\"currentColor\"/></marker></defs>"
    );
    for n in 0..transactions {
        let ((x, y), (to_x, to_y)) = (place(n), place((n + 1) % transactions));
        let length = ((to_x - x).powi(2) + (to_y - y).powi(2)).sqrt().max(1.0);
        let (dx, dy) = ((to_x - x) / length * 22.0, (to_y - y) / length * 22.0);
        // Two transactions: the way back beside the way there.
        let (aside_x, aside_y) = if transactions == 2 { (-dy * 0.4, dx * 0.4) } else { (0.0, 0.0) };
        let _ = writeln!(
            out,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"currentColor\" marker-end=\"url(#tip)\"/>",
            x + dx + aside_x,
            y + dy + aside_y,
            to_x - dx + aside_x,
            to_y - dy + aside_y
        );
        let _ = writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"20\" fill=\"none\" stroke=\"currentColor\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"currentColor\">T{}</text>",
            y + 5.0,
            n + 1
        );
    }
    out.push_str("</svg>\n");
}

fn turn(n: usize, of: usize) -> (f64, f64) {
    (std::f64::consts::TAU * n as f64 / of.max(1) as f64).sin_cos()
}
