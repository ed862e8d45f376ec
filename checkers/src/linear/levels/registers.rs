//! What clients of registers must have known of: their own operations before, and all that was behind what they read.
//!
//! Two writes of a register need not be ordered for anybody. But if a write was in the past of another, and that one in
//! the past of a read, then the read must not show the first (Bouajjani, Enea, Guerraoui, Hamza, "On verifying causal
//! consistency", POPL 2017, call it WriteCORead). One vector a write, an entry a client.

use super::{Level, Sessions};
use crate::record::{Action, Instant, Operation, Outcome, Purpose, Returned, Value};
use std::collections::BTreeMap;

/// What reads gave away.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Reads of what nobody wrote.
    phantoms: u64,
    pub sessions: Sessions,
    pub causal_violations: u64,
}

impl Past {
    pub fn level(&self) -> Level {
        if self.phantoms > 0 {
            Level::None
        } else if self.sessions != Sessions::default() {
            Level::Ordered
        } else if self.causal_violations > 0 {
            Level::Sessions
        } else {
            Level::Causal
        }
    }
}

/// A write: of which client the how many-th, and what that client knew.
#[derive(Clone, Debug)]
struct Written {
    client: usize,
    number: u32,
    knew: Vec<u32>,
}

struct Clients {
    /// What each knows, as the number of writes of each.
    clocks: Vec<Vec<u32>>,
    /// Of each key and value its write.
    writes: BTreeMap<(u32, Value), Written>,
    /// Of each key and client its writes in order.
    of_client: BTreeMap<(u32, usize), Vec<Written>>,
    /// Of each key and client what it read last.
    seen: BTreeMap<(u32, usize), Option<Value>>,
    past: Past,
}

/// Walks through these operations; `None` if a value was written twice.
pub(super) fn past<'a>(operations: impl Iterator<Item = &'a Operation>) -> Option<Past> {
    let operations: Vec<&Operation> = operations.filter(|o| o.purpose == Purpose::Workload).collect();
    let mut processes: Vec<u32> = operations.iter().map(|o| o.process).collect();
    processes.sort_unstable();
    processes.dedup();
    let mut events: Vec<(Instant, usize, bool)> = Vec::new();
    for (i, operation) in operations.iter().enumerate() {
        events.push((operation.invoked, i, false));
        events.extend(operation.completed.map(|at| (at, i, true)));
    }
    events.sort_unstable();
    let mut clients = Clients {
        clocks: vec![vec![0; processes.len()]; processes.len()],
        writes: BTreeMap::new(),
        of_client: BTreeMap::new(),
        seen: BTreeMap::new(),
        past: Past::default(),
    };
    for (_, i, completed) in events {
        let operation = operations[i];
        let client = processes.binary_search(&operation.process).expect("every process is listed");
        if completed {
            clients.answered(operation, client);
        } else if !clients.asked(operation, client) {
            return None;
        }
    }
    Some(clients.past)
}

impl Clients {
    /// False if the value was written before.
    fn asked(&mut self, operation: &Operation, client: usize) -> bool {
        let (Action::Write(value) | Action::Cas { to: value, .. }) = operation.action else { return true };
        if matches!(operation.outcome, Outcome::Fail(_) | Outcome::Ok(Returned::Mismatch(_))) {
            return true;
        }
        let mut number = 0;
        // Of what is unknown the client does not know that it happened; whoever sees it learns what the client knew.
        if operation.outcome.is_ok() {
            self.clocks[client][client] += 1;
            number = self.clocks[client][client];
        }
        let written = Written { client, number, knew: self.clocks[client].clone() };
        if operation.outcome.is_ok() {
            self.of_client.entry((operation.key.0, client)).or_default().push(written.clone());
        }
        self.writes.insert((operation.key.0, value), written).is_none()
    }

    fn answered(&mut self, operation: &Operation, client: usize) {
        let seen = match (&operation.outcome, operation.action) {
            (Outcome::Ok(Returned::Value(seen) | Returned::Mismatch(seen)), _) => *seen,
            (Outcome::Ok(_), Action::Cas { from, .. }) => from,
            _ => return,
        };
        let key = operation.key.0;
        let write = seen.map(|value| self.writes.get(&(key, value)).cloned());
        if write.as_ref().is_some_and(Option::is_none) {
            self.past.phantoms += 1;
            return;
        }
        let write = write.flatten();
        self.judge(key, client, operation, write.as_ref());
        if let Some(write) = &write {
            for (known, more) in self.clocks[client].iter_mut().zip(&write.knew) {
                *known = (*known).max(*more);
            }
        }
        self.seen.insert((key, client), seen);
    }

    /// Whether the client knew of a write that had replaced the one it saw.
    fn judge(&mut self, key: u32, client: usize, operation: &Operation, write: Option<&Written>) {
        let replaces = |other: &Written| match write {
            None => true,
            // Whose own number is not known is in nobody's past for sure.
            Some(w) if w.number == 0 => false,
            Some(w) => {
                (other.client, other.number) != (w.client, w.number) && other.knew[w.client] >= w.number
            }
        };
        let last = |q: usize, upto: u32| {
            let list = self.of_client.get(&(key, q)).map_or(&[][..], Vec::as_slice);
            list.partition_point(|w| w.number <= upto).checked_sub(1).map(|n| &list[n])
        };
        // A compare-and-set that took place is its own latest write.
        let done = matches!(operation.action, Action::Cas { .. })
            && !matches!(operation.outcome, Outcome::Ok(Returned::Mismatch(_)));
        let own = self.clocks[client][client] - u32::from(done);
        let before = self.seen.get(&(key, client)).copied().flatten();
        let before = before.and_then(|value| self.writes.get(&(key, value)));
        if last(client, own).is_some_and(replaces) {
            self.past.sessions.read_your_writes += 1;
        } else if before.is_some_and(replaces) {
            self.past.sessions.monotonic_reads += 1;
        } else if (0..self.clocks.len())
            .filter(|q| *q != client)
            .any(|q| last(q, self.clocks[client][q]).is_some_and(replaces))
        {
            self.past.causal_violations += 1;
        }
    }
}
