//! Transactions on append-only lists: what was read shows the order of all writes, so who must come before whom is a
//! graph, and the history is strictly serializable exactly if it has no circle.
//!
//! With `x1` the transaction that appended element 1 to `x`:
//! ```text
//! append before append    x1 -> x2          they stand next to each other in the list
//! append before read      x1 -> r           r read the list up to 1
//! read before append      r  -> x2          r read the list up to 1 and did not see 2
//! time                    a  -> b           a completed before b was invoked
//! ```
//! An acknowledged append that no read shows comes after everything that was read of its list. From an order of all
//! transactions along the arrows every read follows; so where there is no circle there is such an order, and each of the
//! arrows holds in any.
//!
//! holds: `T1: append 1 to x`, then `T2: read x = [1]`. Violated: `T1: append 1 to x`, then, invoked after that was
//! acknowledged, `T2: read x = []`.

use super::graph::{Edge, Graph, Kind, Node};
use super::report::{Anomaly, Class, Report, Statistics, Step as CycleStep};
use super::{History, OPEN, Step};
use crate::linear::columns::Token;
use crate::linear::{Ending, Overall};
use std::collections::BTreeMap;

/// Judges a history of appends and reads of lists.
pub fn check(history: &History) -> Report {
    let statistics = statistics(history);
    let mut found = Found { history, anomalies: Vec::new() };
    let Some(orders) = Orders::of(history, &mut found) else {
        let note = "an element was appended twice to one list, so reads do not show the order of writes";
        return Report {
            verdict: Overall::Unknown,
            level: None,
            anomalies: found.anomalies,
            notes: vec![note.into()],
            statistics,
        };
    };
    let graph = orders.graph(&mut found);
    let (level, circle) = graph.level();
    found.anomalies.extend(circle.map(|circle| anomaly(history, &orders, &circle)));
    found.anomalies.sort_by_key(|anomaly| anomaly.class);
    let level = found.anomalies.iter().map(|anomaly| anomaly.class.leaves()).chain([level]).min();
    let holds = found.anomalies.is_empty();
    found.anomalies.truncate(ANOMALIES_SHOWN);
    Report {
        verdict: if holds { Overall::Holds } else { Overall::Violated },
        level,
        anomalies: found.anomalies,
        notes: Vec::new(),
        statistics,
    }
}

/// Anomalies that are told; the gravest come first.
const ANOMALIES_SHOWN: usize = 10;

/// Anomalies that are collected.
const ANOMALIES_MAX: usize = 1_000;

/// Counts for a report.
pub(super) fn statistics(history: &History) -> Statistics {
    let count = |ending: Ending| history.transactions.iter().filter(|t| t.ending == ending).count() as u64;
    Statistics {
        transactions: history.transactions.len() as u64,
        committed: count(Ending::Ok),
        aborted: count(Ending::Failed),
        unknown: count(Ending::Unknown),
        keys: history.keys.len() as u64,
        search_steps: 0,
    }
}

/// What single reads give away.
struct Found<'a> {
    history: &'a History,
    anomalies: Vec<Anomaly>,
}

impl Found<'_> {
    fn add(&mut self, class: Class, summary: String, parts: &[(usize, &str)]) {
        if self.anomalies.len() >= ANOMALIES_MAX {
            return;
        }
        let step = |&(t, part): &(usize, &str)| CycleStep {
            transaction: self.history.describe(t),
            part: part.to_owned(),
        };
        let steps = parts.iter().map(step).collect();
        self.anomalies.push(Anomaly { class, name: class.name(), summary, steps, circle: false });
    }
}

/// Who wrote what, in which order.
struct Orders<'a> {
    history: &'a History,
    /// Of each list the transactions that appended its elements, in order; [`OPEN`] for nobody.
    writers: Vec<Vec<u32>>,
    /// Of each list the transactions that happened and whose append nobody saw.
    unseen: Vec<Vec<u32>>,
    /// Whether each transaction happened, as far as it matters.
    happened: Vec<bool>,
}

impl<'a> Orders<'a> {
    /// `None` if an element was appended twice.
    fn of(history: &'a History, found: &mut Found<'_>) -> Option<Self> {
        let mut appended: BTreeMap<(u32, Token), u32> = BTreeMap::new();
        for (t, transaction) in (0..).zip(&history.transactions) {
            for step in &transaction.steps {
                if let Step::Append { key, value } = step
                    && appended.insert((*key, *value), t).is_some()
                {
                    return None;
                }
            }
        }
        let mut happened: Vec<bool> = history.transactions.iter().map(|t| t.ending == Ending::Ok).collect();
        let mut writers = Vec::with_capacity(history.keys.len());
        for (k, key) in (0..).zip(&history.keys) {
            let mut of_key = Vec::with_capacity(key.spine.len());
            for value in &key.spine {
                // Each element has one place: what stands twice finds nobody the second time.
                let writer = appended.remove(&(k, *value)).unwrap_or(OPEN);
                if let Some(flag) = happened.get_mut(writer as usize) {
                    *flag = true;
                }
                of_key.push(writer);
            }
            writers.push(of_key);
        }
        let mut unseen = vec![Vec::new(); history.keys.len()];
        for ((key, _), writer) in &appended {
            if happened[*writer as usize] {
                unseen[*key as usize].push(*writer);
            }
        }
        for list in &mut unseen {
            list.sort_unstable();
            list.dedup();
        }
        let orders = Orders { history, writers, unseen, happened };
        orders.impossible_elements(found);
        orders.own_order(found);
        Some(orders)
    }

    /// Transactions whose appends to one list stand in another order than they were made in.
    fn own_order(&self, found: &mut Found<'_>) {
        let mut position: BTreeMap<(u32, Token), usize> = BTreeMap::new();
        for (k, key) in (0..).zip(&self.history.keys) {
            position.extend(key.spine.iter().enumerate().map(|(p, value)| ((k, *value), p)));
        }
        for t in (0..self.happened.len()).filter(|&t| self.happened[t]) {
            let mut last: BTreeMap<u32, Option<usize>> = BTreeMap::new();
            for step in &self.history.transactions[t].steps {
                let Step::Append { key, value } = step else { continue };
                let at = position.get(&(*key, *value)).copied();
                let before = last.insert(*key, at);
                if before.is_some_and(|before| at.is_some() && before.is_none_or(|b| Some(b) > at)) {
                    let name = &self.history.keys[*key as usize].name;
                    let summary =
                        format!("{name} shows the appends of a transaction in another order than its own");
                    found.add(Class::Internal, summary, &[(t, "appended in another order")]);
                }
            }
        }
    }

    /// Elements that nobody appended, that failed, or that stand in a list twice.
    fn impossible_elements(&self, found: &mut Found<'_>) {
        let history = self.history;
        for (k, key) in history.keys.iter().enumerate() {
            for (p, &writer) in self.writers[k].iter().enumerate() {
                let reader = || self.reader(k, p as u32 + 1);
                let value = history.value(key.spine[p]);
                if writer == OPEN && key.spine[..p].contains(&key.spine[p]) {
                    let summary =
                        format!("{value} stands in {} twice although it was appended once", key.name);
                    found.add(Class::DuplicateAppend, summary, &[(reader(), "read it")]);
                } else if writer == OPEN {
                    let summary = format!("{value} was read in {} and nobody appended it", key.name);
                    found.add(Class::Phantom, summary, &[(reader(), "read it")]);
                } else if history.transactions[writer as usize].ending == Ending::Failed {
                    let summary = format!("{value} was read in {} and its append certainly failed", key.name);
                    let parts = [(writer as usize, "certainly failed"), (reader(), "read what it appended")];
                    found.add(Class::AbortedRead, summary, &parts);
                }
            }
        }
    }

    /// The first transaction that read at least so many elements of a list.
    fn reader(&self, k: usize, length: u32) -> usize {
        let reads = |step: &Step| matches!(step, Step::List { key, shared, .. } if *key as usize == k && *shared >= length);
        let reader = self
            .history
            .transactions
            .iter()
            .position(|t| t.ending == Ending::Ok && t.steps.iter().any(reads));
        reader.expect("what stands in a spine was read")
    }

    /// Who must come before whom.
    fn graph(&self, found: &mut Found<'_>) -> Graph {
        let mut graph = Graph::new(self.history.transactions.len());
        let mut ends = Vec::with_capacity(self.writers.len());
        for (k, writers) in self.writers.iter().enumerate() {
            for p in 1..writers.len() {
                self.arrow(&mut graph, writers[p - 1], writers[p], Kind::Ww, k, p);
            }
            let end = End::of(&mut graph, &self.unseen[k]);
            if let Some(&last) = writers.last().filter(|&&last| last != OPEN) {
                end.behind(&mut graph, last, Kind::Ww, k, writers.len());
            }
            ends.push(end);
        }
        for t in 0..self.history.transactions.len() {
            if self.history.transactions[t].ending == Ending::Ok {
                self.reads(t, &ends, &mut graph, found);
            }
        }
        self.time(&mut graph);
        graph.finish();
        graph
    }

    fn arrow(&self, graph: &mut Graph, from: u32, to: u32, kind: Kind, key: usize, at: usize) {
        if from != to && from != OPEN && to != OPEN {
            graph.add(from, Edge::new(to, kind, key, at));
        }
    }

    /// The arrows of what a transaction read, and whether it agrees with itself.
    fn reads(&self, t: usize, ends: &[End<'_>], graph: &mut Graph, found: &mut Found<'_>) {
        // Of each list: elements that were there before, if known, and own appends since.
        let mut own: BTreeMap<u32, (Option<u32>, Vec<Token>)> = BTreeMap::new();
        for step in &self.history.transactions[t].steps {
            match step {
                Step::Append { key, value } => own.entry(*key).or_default().1.push(*value),
                Step::List { key, shared, tail } if tail.is_empty() => {
                    let (before, appended) = own.entry(*key).or_default();
                    let spine = &self.history.keys[*key as usize].spine[..*shared as usize];
                    let outside = shared.checked_sub(appended.len() as u32);
                    let agrees = outside.is_some_and(|n| {
                        spine[n as usize..] == appended[..] && before.is_none_or(|known| known == n)
                    });
                    if !agrees {
                        let name = &self.history.keys[*key as usize].name;
                        let summary = format!(
                            "a transaction read {name} otherwise than it had just read or written it"
                        );
                        found.add(Class::Internal, summary, &[(t, "contradicts itself")]);
                    } else if before.is_none() {
                        *before = outside;
                        let n = outside.expect("it agrees") as usize;
                        self.read(t, *key as usize, n, &ends[*key as usize], graph, found);
                    }
                }
                Step::List { key, shared, .. } => {
                    let longer = self.reader(*key as usize, *shared + 1);
                    let name = &self.history.keys[*key as usize].name;
                    let summary =
                        format!("two reads of {name} show lists of which neither continues the other");
                    found.add(
                        Class::DivergedLists,
                        summary,
                        &[(longer, "read one list"), (t, "read another")],
                    );
                }
                Step::Unread { .. } | Step::Write { .. } | Step::Value { .. } => {}
            }
        }
    }

    /// A transaction read the first `n` elements of a list that others had made.
    fn read(&self, t: usize, k: usize, n: usize, end: &End<'_>, graph: &mut Graph, found: &mut Found<'_>) {
        let writers = &self.writers[k];
        let t = t as u32;
        let name = &self.history.keys[k].name;
        let before = n.checked_sub(1).map(|p| writers[p]);
        if before == Some(t) {
            let summary = format!("a transaction read in {name} what it appended only afterwards");
            found.add(Class::Internal, summary, &[(t as usize, "contradicts itself")]);
        }
        if let Some(before) = before.filter(|&before| before != t && before != OPEN) {
            self.arrow(graph, before, t, Kind::Wr, k, n);
            if writers.get(n) == Some(&before) || (n == writers.len() && self.unseen[k].contains(&before)) {
                let summary = format!(
                    "{name} was read in the middle of a transaction that appended to it more than once"
                );
                let parts = [(before as usize, "appended more to it"), (t as usize, "read it in between")];
                found.add(Class::IntermediateRead, summary, &parts);
            }
        }
        if n == writers.len() {
            end.behind(graph, t, Kind::Rw, k, n);
            return;
        }
        self.arrow(graph, t, writers[n], Kind::Rw, k, n);
    }

    /// Real time and each client's own order.
    fn time(&self, graph: &mut Graph) {
        let mut events: Vec<(u32, bool, u32)> = Vec::new();
        for (t, transaction) in (0..).zip(&self.history.transactions) {
            if self.happened[t as usize] {
                events.push((transaction.invoked, false, t));
                if transaction.ending == Ending::Ok {
                    events.push((transaction.completed, true, t));
                }
            }
        }
        events.sort_unstable();
        // One node for "all that has completed by now" after each completion that an invocation follows.
        let mut now: Option<Node> = None;
        let mut fresh = false;
        let mut last_of: BTreeMap<i64, u32> = BTreeMap::new();
        for (_, is_end, t) in events {
            let process = self.history.transactions[t as usize].process;
            if is_end {
                if !fresh {
                    let next = graph.helper();
                    if let Some(before) = now {
                        graph.add(before, Edge::new(next, Kind::Through, 0, 0));
                    }
                    (now, fresh) = (Some(next), true);
                }
                graph.add(t, Edge::new(now.expect("just made"), Kind::Time, 0, 0));
                last_of.insert(process, t);
                continue;
            }
            fresh = false;
            if let Some(now) = now {
                graph.add(now, Edge::new(t, Kind::Through, 0, 0));
            }
            if let Some(&before) = last_of.get(&process) {
                graph.add(before, Edge::new(t, Kind::Session, 0, 0));
            }
        }
    }

    /// Why one transaction comes before another.
    fn because(&self, from: u32, edge: &Edge, to: u32) -> String {
        let key = &self.history.keys.get(edge.key as usize);
        let name = key.map_or("", |key| key.name.as_str());
        let at = |p: usize| {
            key.and_then(|key| key.spine.get(p)).map(|v| self.history.value(*v)).unwrap_or_default()
        };
        let p = edge.at as usize;
        match edge.kind {
            Kind::Ww if p == self.writers[edge.key as usize].len() => {
                format!(
                    "appended {} to {name}, which was read before anything of the next one was",
                    at(p - 1)
                )
            }
            Kind::Ww => {
                format!("appended {} to {name} right before the next one appended {}", at(p - 1), at(p))
            }
            Kind::Wr => format!("appended {} to {name}, which the next one read", at(p - 1)),
            Kind::Rw if p == self.writers[edge.key as usize].len() => {
                format!("read {name} without the {} that the next one appended", self.hidden(edge.key, to))
            }
            Kind::Rw => format!("read {name} without the {} that the next one appended", at(p)),
            Kind::Time => "completed before the next one was invoked".into(),
            Kind::Session => {
                let process = self.history.transactions[from as usize].process;
                format!("was made by the client of the next one (process {process}) before it")
            }
            Kind::Through => String::new(),
        }
    }

    /// What a transaction appended to a list and nobody saw.
    fn hidden(&self, k: u32, t: u32) -> String {
        let spine = &self.history.keys[k as usize].spine;
        let hidden = |step: &Step| match step {
            Step::Append { key, value } if *key == k && !spine.contains(value) => {
                Some(self.history.value(*value))
            }
            _ => None,
        };
        self.history.transactions[t as usize].steps.iter().find_map(hidden).unwrap_or_default()
    }
}

/// The appends to a list that nobody saw: they stand behind all that was read of it, in any order. A chain of helpers
/// leads to all of them, and from both sides to all but one.
struct End<'a> {
    unseen: &'a [u32],
    /// Leads to the first `n + 1` of them.
    first: Vec<Node>,
    /// Leads to the `n`-th and all after it.
    last: Vec<Node>,
}

impl<'a> End<'a> {
    fn of(graph: &mut Graph, unseen: &'a [u32]) -> Self {
        let mut end = End { unseen, first: Vec::new(), last: vec![0; unseen.len()] };
        for (n, &to) in unseen.iter().enumerate() {
            let node = graph.helper();
            graph.add(node, Edge::new(to, Kind::Through, 0, 0));
            if let Some(&before) = end.first.last() {
                graph.add(node, Edge::new(before, Kind::Through, 0, 0));
            }
            end.first.push(node);
            end.last[n] = node;
        }
        for (n, &to) in unseen.iter().enumerate().rev() {
            let node = graph.helper();
            graph.add(node, Edge::new(to, Kind::Through, 0, 0));
            if n + 1 < unseen.len() {
                graph.add(node, Edge::new(end.last[n + 1], Kind::Through, 0, 0));
            }
            end.last[n] = node;
        }
        end
    }

    /// All of them, but for its own, come after this transaction.
    fn behind(&self, graph: &mut Graph, t: u32, kind: Kind, key: usize, at: usize) {
        let to: [Option<Node>; 2] = match self.unseen.binary_search(&t) {
            Ok(own) => [own.checked_sub(1).map(|n| self.first[n]), self.last.get(own + 1).copied()],
            Err(_) => [self.first.last().copied(), None],
        };
        for node in to.into_iter().flatten() {
            graph.add(t, Edge::new(node, kind, key, at));
        }
    }
}

/// A circle in words. Each entry is a transaction and the first arrow of its way to the next.
fn anomaly(history: &History, orders: &Orders<'_>, circle: &[(Node, Edge)]) -> Anomaly {
    let count = |kind: Kind| circle.iter().filter(|(_, edge)| edge.kind == kind).count();
    let adjacent = (0..circle.len()).any(|n| {
        circle[n].1.kind == Kind::Rw && circle[(n + 1) % circle.len()].1.kind == Kind::Rw && circle.len() > 1
    });
    let class = match (count(Kind::Time), count(Kind::Session), count(Kind::Rw), count(Kind::Wr)) {
        (1.., ..) => Class::RealTime,
        (0, 1.., ..) => Class::SessionOrder,
        (0, 0, 0, 0) => Class::WriteCycle,
        (0, 0, 0, _) => Class::CircularFlow,
        (0, 0, 1, _) => Class::ReadSkew,
        _ if adjacent => Class::WriteSkew,
        _ => Class::LongFork,
    };
    let step = |n: usize| {
        let (node, edge) = &circle[n];
        let to = circle[(n + 1) % circle.len()].0;
        CycleStep { transaction: history.describe(*node as usize), part: orders.because(*node, edge, to) }
    };
    Anomaly {
        class,
        name: class.name(),
        summary: format!("{} transactions of which each must come before the next", circle.len()),
        steps: (0..circle.len()).map(step).collect(),
        circle: true,
    }
}
