//! Registers with unique values: is there one order of all operations that keeps each client's own and explains every
//! read (sequential consistency, Lamport 1979)?
//!
//! Which write a read saw is known, in which order writes of one key took effect is not; to find one is NP-hard (Gibbons
//! and Korach 1997). So two one-sided steps:
//! 1. what must be: if a write of the same key is before a read of another value, it is before that value's write; if it
//!    is after that write, it is after the read. Until nothing new follows. A circle: there is no order.
//! 2. what may be: operations are placed one after another, reads that fit at once, else those first that began first, a
//!    write not before all reads of the value it replaces. If all find a place, that is the order.
//!
//! Between the two the answer stays open.

use crate::record::{Action, Operation, Outcome, Purpose, Returned, Value};
use std::collections::{BTreeMap, BTreeSet};

/// More operations than these are not looked at: the first step keeps a number for each client with each operation,
/// and may go over them several times.
const OPERATIONS_MAX: usize = 200_000;
/// How often the first step goes over all operations at most.
const ROUNDS_MAX: usize = 20;

/// An operation that happened, as far as the order is concerned.
#[derive(Clone, Copy, Debug)]
struct Node {
    client: usize,
    key: u32,
    /// What it must find; `None`: it does not look. `Some(None)`: nothing.
    finds: Option<Option<Value>>,
    /// What it leaves behind.
    sets: Option<Value>,
}

/// Whether one order explains these operations, in order of invocation, of registers whose values are written once.
/// `None`: not known.
pub(super) fn exists<'a>(operations: impl Iterator<Item = &'a Operation>) -> Option<bool> {
    match Graph::of(operations)?.completed()? {
        None => Some(false),
        Some(graph) => graph.place().then_some(true),
    }
}

struct Graph {
    nodes: Vec<Node>,
    clients: usize,
    /// Of each key and value its write.
    writer: BTreeMap<(u32, Value), usize>,
    /// Who must come after each.
    after: Vec<BTreeSet<usize>>,
}

impl Graph {
    /// `None`: too large, or a value that nobody wrote, or wrote twice.
    fn of<'a>(operations: impl Iterator<Item = &'a Operation>) -> Option<Graph> {
        let operations: Vec<&Operation> = operations.filter(|o| o.purpose == Purpose::Workload).collect();
        let mut clients: BTreeMap<u32, usize> = BTreeMap::new();
        let seen: BTreeSet<(u32, Value)> =
            operations.iter().filter_map(|o| Some((o.key.0, finds(o)??))).collect();
        let mut nodes = Vec::new();
        for operation in operations {
            let (finds, sets) = (finds(operation), sets(operation));
            // What is unknown happened if somebody saw it, and is left out else.
            let unknown = matches!(operation.outcome, Outcome::Info(_));
            let happened = !unknown || sets.is_some_and(|value| seen.contains(&(operation.key.0, value)));
            if !happened || (finds.is_none() && sets.is_none()) {
                continue;
            }
            let next = clients.len();
            // The client of an unknown one does not wait for it: nothing need come after it.
            let client = if unknown { usize::MAX } else { *clients.entry(operation.process).or_insert(next) };
            nodes.push((operation.process, Node { client, key: operation.key.0, finds, sets }));
        }
        if nodes.len() > OPERATIONS_MAX {
            return None;
        }
        let mut graph = Graph {
            clients: clients.len(),
            writer: BTreeMap::new(),
            after: vec![BTreeSet::new(); nodes.len()],
            nodes: Vec::new(),
        };
        graph.link(&nodes)?;
        Some(graph)
    }

    /// Each client's own order, and every read after its write.
    fn link(&mut self, nodes: &[(u32, Node)]) -> Option<()> {
        let mut last: BTreeMap<u32, usize> = BTreeMap::new();
        for (i, (process, node)) in nodes.iter().enumerate() {
            if let Some(before) = last.get(process) {
                self.after[*before].insert(i);
            }
            if node.client != usize::MAX {
                last.insert(*process, i);
            }
            if let Some(value) = node.sets
                && self.writer.insert((node.key, value), i).is_some()
            {
                return None;
            }
            self.nodes.push(*node);
        }
        for (i, (_, node)) in nodes.iter().enumerate() {
            if let Some(Some(value)) = node.finds {
                let writer = *self.writer.get(&(node.key, value))?;
                self.after[writer].insert(i);
            }
        }
        Some(())
    }

    /// The operations in an order of the graph, those first that began first; shorter if there is a circle.
    fn sorted(&self) -> Vec<usize> {
        let mut waits = vec![0; self.nodes.len()];
        for to in self.after.iter().flatten() {
            waits[*to] += 1;
        }
        let mut ready: BTreeSet<usize> = (0..self.nodes.len()).filter(|&i| waits[i] == 0).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(i) = ready.pop_first() {
            order.push(i);
            for &to in &self.after[i] {
                waits[to] -= 1;
                if waits[to] == 0 {
                    ready.insert(to);
                }
            }
        }
        order
    }

    /// Adds what follows until nothing new does. The inner `None`: a circle; the outer: no end in sight.
    fn completed(mut self) -> Option<Option<Graph>> {
        for _ in 0..ROUNDS_MAX {
            let order = self.sorted();
            if order.len() < self.nodes.len() {
                return Some(None);
            }
            let new = self.follows(&order);
            if new.is_empty() {
                return Some(Some(self));
            }
            for (from, to) in new {
                self.after[from].insert(to);
            }
        }
        None
    }

    /// Pairs that the order of others demands and the graph does not have.
    fn follows(&self, order: &[usize]) -> Vec<(usize, usize)> {
        // Of each operation and client: how many of that client's operations are before it.
        let mut past = vec![vec![0u32; self.clients]; self.nodes.len()];
        // Of each client and key: its writes, by their place among its operations.
        let mut writes: BTreeMap<(usize, u32), Vec<(u32, usize)>> = BTreeMap::new();
        let mut readers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut count = vec![0; self.clients];
        for &i in order {
            let node = &self.nodes[i];
            if node.client != usize::MAX {
                count[node.client] += 1;
                past[i][node.client] = count[node.client];
                if node.sets.is_some() {
                    writes.entry((node.client, node.key)).or_default().push((count[node.client], i));
                }
            }
            if let Some(Some(value)) = node.finds {
                readers.entry(self.writer[&(node.key, value)]).or_default().push(i);
            }
            let known = std::mem::take(&mut past[i]);
            for &to in &self.after[i] {
                for (client, n) in known.iter().enumerate() {
                    past[to][client] = past[to][client].max(*n);
                }
            }
            past[i] = known;
        }
        let mut new = Vec::new();
        for &i in order {
            let node = &self.nodes[i];
            for (client, known) in past[i].iter().enumerate() {
                let list = writes.get(&(client, node.key)).map_or(&[][..], Vec::as_slice);
                let own = u32::from(client == node.client);
                let upto = list.partition_point(|w| w.0 + own <= *known);
                let Some(&(_, before)) = upto.checked_sub(1).map(|n| &list[n]) else { continue };
                self.demand(i, before, &readers, &mut new);
            }
        }
        new
    }

    /// `before` is a write of the same key that comes before `i`.
    fn demand(
        &self,
        i: usize,
        before: usize,
        readers: &BTreeMap<usize, Vec<usize>>,
        new: &mut Vec<(usize, usize)>,
    ) {
        let node = &self.nodes[i];
        if let Some(finds) = node.finds {
            match finds.map(|value| self.writer[&(node.key, value)]) {
                Some(writer) if writer == before => {}
                Some(writer) if !self.after[before].contains(&writer) => new.push((before, writer)),
                Some(_) => {}
                // It found nothing although something had been written: a circle of one.
                None => new.push((i, before)),
            }
        }
        if node.sets.is_some() {
            let late = readers
                .get(&before)
                .into_iter()
                .flatten()
                .filter(|&&r| r != i && !self.after[r].contains(&i));
            new.extend(late.map(|&r| (r, i)));
        }
    }

    /// Whether all find a place.
    fn place(&self) -> bool {
        let mut waits = vec![0; self.nodes.len()];
        for to in self.after.iter().flatten() {
            waits[*to] += 1;
        }
        // Reads that a value still waits for, besides who replaces it by a compare-and-set.
        let mut unread: BTreeMap<(u32, Option<Value>), u32> = BTreeMap::new();
        for node in &self.nodes {
            if let (Some(finds), None) = (node.finds, node.sets) {
                *unread.entry((node.key, finds)).or_default() += 1;
            }
        }
        let mut holds: BTreeMap<u32, Option<Value>> = BTreeMap::new();
        let mut ready: BTreeSet<usize> = (0..self.nodes.len()).filter(|&i| waits[i] == 0).collect();
        let mut placed = 0;
        // A read that fits can be placed at once: nothing that could follow without it cannot follow with it.
        let next = |ready: &BTreeSet<usize>, holds: &_, unread: &_| {
            let fits = |i: &usize| self.fits(*i, holds, unread);
            let reads = |i: &usize| self.nodes[*i].sets.is_none();
            ready.iter().copied().find(|i| reads(i) && fits(i)).or_else(|| ready.iter().copied().find(fits))
        };
        while let Some(i) = next(&ready, &holds, &unread) {
            ready.remove(&i);
            placed += 1;
            let node = &self.nodes[i];
            match (node.finds, node.sets) {
                (_, Some(value)) => _ = holds.insert(node.key, Some(value)),
                (Some(finds), None) => *unread.get_mut(&(node.key, finds)).expect("it was counted") -= 1,
                (None, None) => {}
            }
            for &to in &self.after[i] {
                waits[to] -= 1;
                if waits[to] == 0 {
                    ready.insert(to);
                }
            }
        }
        placed == self.nodes.len()
    }

    fn fits(
        &self,
        i: usize,
        holds: &BTreeMap<u32, Option<Value>>,
        unread: &BTreeMap<(u32, Option<Value>), u32>,
    ) -> bool {
        let node = &self.nodes[i];
        let held = holds.get(&node.key).copied().flatten();
        let found = node.finds.is_none_or(|finds| finds == held);
        found && (node.sets.is_none() || unread.get(&(node.key, held)).is_none_or(|n| *n == 0))
    }
}

fn finds(operation: &Operation) -> Option<Option<Value>> {
    match (operation.action, &operation.outcome) {
        (_, Outcome::Ok(Returned::Mismatch(seen))) => Some(*seen),
        (Action::Read, Outcome::Ok(Returned::Value(seen))) => Some(*seen),
        (Action::Cas { from, .. }, Outcome::Ok(_) | Outcome::Info(_)) => Some(from),
        _ => None,
    }
}

fn sets(operation: &Operation) -> Option<Value> {
    match (operation.action, &operation.outcome) {
        (_, Outcome::Ok(Returned::Mismatch(_)) | Outcome::Fail(_)) => None,
        (Action::Write(value) | Action::Cas { to: value, .. }, _) => Some(value),
        _ => None,
    }
}
