//! What each client may count on without linearizability, judged by sets: works where copies of a list may differ in
//! order, as long as its elements are unique (systems whose replicas answer reads, or take writes, on their own).
//! Where reads do show one order of all writes, [`crate::linear::levels`] says more.
//!
//! - **Read your writes**: a read shows every element that its client was told is appended.
//! - **Monotonic reads**: a read shows everything that its client has seen of that key before.
//! - **Causal order**: a read shows whatever its client could know of, by what it did, saw, and what the writers of what
//!   it saw had done and seen, over all keys (Terry et al. 1994; Ahamad et al. 1995). One vector a client and a write.
//!
//! A write that was acknowledged and lost breaks them too. Writes of unknown outcome are owed to nobody; whoever sees one
//! knows what its writer knew.

use crate::record::{Action, History, Instant, NodeIndex, Outcome, Purpose, Returned, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many reads broke each guarantee.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// Reads looked at.
    pub reads: u64,
    /// Reads that missed an acknowledged append of their own client.
    pub read_your_writes: u64,
    /// Reads that missed what their client had seen before.
    pub monotonic_reads: u64,
    /// Reads that missed something that their client could know of.
    pub causal: u64,
}

/// Counts over the workload's operations on lists; probes have several operations open and are no sessions.
pub fn measure(history: &History) -> Sessions {
    let mut judge = Judge::new(history);
    for (_, step) in steps(history) {
        match step {
            Step::Asked(operation) => judge.asked(operation),
            Step::Answered(operation) => judge.answered(operation),
        }
    }
    judge.found
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Asked(usize),
    Answered(usize),
}

/// Beginnings and acknowledged ends, in order.
fn steps(history: &History) -> Vec<(Instant, Step)> {
    let mut steps = Vec::new();
    for (at, operation) in history.operations.iter().enumerate() {
        if operation.purpose == Purpose::Workload {
            steps.push((operation.invoked, Step::Asked(at)));
            if let Some(completed) = operation.completed.filter(|_| operation.outcome.is_ok()) {
                steps.push((completed, Step::Answered(at)));
            }
        }
    }
    steps.sort_unstable();
    steps
}

/// An append.
#[derive(Clone, Debug)]
struct Write {
    /// Its client, as an index.
    client: usize,
    /// Its number among its client's appends, from 1.
    number: u32,
    /// What its client knew when it asked: of each client, how many appends.
    knew: Vec<u32>,
}

/// A set of elements.
type Set = std::collections::BTreeSet<Value>;

struct Judge<'a> {
    history: &'a History,
    clients: Vec<NodeIndex>,
    writes: BTreeMap<Value, Write>,
    appends: Vec<u32>,
    /// Of each client, what it knows.
    known: Vec<Vec<u32>>,
    /// Of each client and key: what it has seen there, and its own acknowledged appends there.
    seen: BTreeMap<(usize, u32), Set>,
    own: BTreeMap<(usize, u32), Set>,
    /// Of each key and client: its acknowledged appends, by number.
    owed: BTreeMap<(u32, usize), Vec<(u32, Value)>>,
    found: Sessions,
}

impl<'a> Judge<'a> {
    fn new(history: &'a History) -> Self {
        let load = history.operations.iter().filter(|operation| operation.purpose == Purpose::Workload);
        let mut clients: Vec<NodeIndex> = load.map(|operation| operation.client).collect();
        clients.sort_unstable();
        clients.dedup();
        Judge {
            history,
            writes: BTreeMap::new(),
            appends: vec![0; clients.len()],
            known: vec![vec![0; clients.len()]; clients.len()],
            clients,
            seen: BTreeMap::new(),
            own: BTreeMap::new(),
            owed: BTreeMap::new(),
            found: Sessions::default(),
        }
    }

    fn client(&self, operation: usize) -> usize {
        let node = self.history.operations[operation].client;
        self.clients.binary_search(&node).expect("every client is listed")
    }

    /// A client asks for an append: whoever sees it learns what this client knows now.
    fn asked(&mut self, operation: usize) {
        let client = self.client(operation);
        if let Action::Append(value) = self.history.operations[operation].action {
            self.appends[client] += 1;
            let write = Write { client, number: self.appends[client], knew: self.known[client].clone() };
            self.writes.insert(value, write);
        }
    }

    fn answered(&mut self, operation: usize) {
        let client = self.client(operation);
        let (action, key) =
            (self.history.operations[operation].action, self.history.operations[operation].key.0);
        match action {
            Action::Append(value) => {
                let number = self.writes[&value].number;
                self.known[client][client] = number;
                self.own.entry((client, key)).or_default().insert(value);
                self.owed.entry((key, client)).or_default().push((number, value));
            }
            Action::Read => {
                if let Some(shown) = self.shown(operation) {
                    self.judge(client, key, shown);
                }
            }
            Action::Write(_) | Action::Cas { .. } => {}
        }
    }

    /// What a read of a list showed.
    fn shown(&self, operation: usize) -> Option<Set> {
        let operation = &self.history.operations[operation];
        let spine = &self.history.keys[operation.key.0 as usize].spine;
        match &operation.outcome {
            Outcome::Ok(Returned::List { shared, tail }) => {
                Some(spine.iter().take(*shared as usize).chain(tail).copied().collect())
            }
            Outcome::Ok(Returned::Value(None)) => Some(Set::new()),
            _ => None,
        }
    }

    fn judge(&mut self, client: usize, key: u32, shown: Set) {
        self.found.reads += 1;
        let misses = |known: &BTreeMap<(usize, u32), Set>| {
            known.get(&(client, key)).is_some_and(|known| !known.is_subset(&shown))
        };
        self.found.read_your_writes += u64::from(misses(&self.own));
        self.found.monotonic_reads += u64::from(misses(&self.seen));
        self.learn(client, key, &shown);
        self.found.causal += u64::from(self.misses_its_past(client, key, &shown));
        self.seen.entry((client, key)).or_default().extend(shown);
    }

    /// The client now knows what it saw, and what the writers of that knew.
    fn learn(&mut self, client: usize, key: u32, shown: &Set) {
        let before = self.seen.get(&(client, key));
        let news = shown.iter().filter(|value| before.is_none_or(|before| !before.contains(*value)));
        for write in news.filter_map(|value| self.writes.get(value)) {
            for (known, more) in self.known[client].iter_mut().zip(&write.knew) {
                *known = (*known).max(*more);
            }
            let own = &mut self.known[client][write.client];
            *own = (*own).max(write.number);
        }
    }

    fn misses_its_past(&self, client: usize, key: u32, shown: &Set) -> bool {
        (0..self.clients.len()).any(|writer| {
            let owed = self.owed.get(&(key, writer)).map_or(&[][..], Vec::as_slice);
            let past = owed.iter().take_while(|(number, _)| *number <= self.known[client][writer]);
            past.into_iter().any(|(_, value)| !shown.contains(value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Failure, KeyIndex, KeyInfo, Operation, SimTime};

    /// A history of appends and reads, one after the other, of clients 0, 1, .. on keys 0 and 1.
    struct Story(History);

    impl Story {
        fn new() -> Self {
            Story(History { keys: vec![KeyInfo::default(), KeyInfo::default()], operations: Vec::new() })
        }

        fn tell(mut self, client: u16, key: u32, action: Action, outcome: Outcome) -> Self {
            let seq = self.0.operations.len() as u64 * 2;
            let at = |seq| Instant { at: SimTime(seq), seq };
            self.0.operations.push(Operation {
                process: u32::from(client),
                client: NodeIndex(client),
                purpose: Purpose::Workload,
                key: KeyIndex(key),
                action,
                bytes: 0,
                invoked: at(seq),
                completed: Some(at(seq + 1)),
                outcome,
                answered_by: None,
            });
            self
        }

        fn append(self, client: u16, key: u32, value: Value) -> Self {
            self.tell(client, key, Action::Append(value), Outcome::Ok(Returned::Done))
        }

        fn read(self, client: u16, key: u32, values: &[Value]) -> Self {
            let list = Returned::List { shared: 0, tail: values.to_vec() };
            self.tell(client, key, Action::Read, Outcome::Ok(list))
        }

        fn found(&self) -> (u64, u64, u64) {
            let found = measure(&self.0);
            (found.read_your_writes, found.monotonic_reads, found.causal)
        }
    }

    #[test]
    fn reads_that_show_all_in_any_order_break_nothing() {
        let story = Story::new().append(0, 0, 1).append(1, 0, 2).read(0, 0, &[2, 1]).read(1, 0, &[1, 2]);
        assert_eq!(story.found(), (0, 0, 0));
    }

    #[test]
    fn a_client_that_misses_its_own_append() {
        let story = Story::new().append(0, 0, 1).read(0, 0, &[]);
        assert_eq!(story.found(), (1, 0, 1));
    }

    #[test]
    fn another_client_may_miss_it() {
        assert_eq!(Story::new().append(0, 0, 1).read(1, 0, &[]).found(), (0, 0, 0));
    }

    #[test]
    fn a_client_that_sees_less_than_before() {
        let story = Story::new().append(0, 0, 1).read(1, 0, &[1]).read(1, 0, &[]);
        assert_eq!(story.found(), (0, 1, 1));
    }

    #[test]
    fn the_effect_without_its_cause_over_two_keys() {
        // Client 1 saw 1 on key 0 and then wrote 2 on key 1; client 2 sees 2 and not 1.
        let story =
            Story::new().append(0, 0, 1).read(1, 0, &[1]).append(1, 1, 2).read(2, 1, &[2]).read(2, 0, &[]);
        assert_eq!(story.found(), (0, 0, 1));
    }

    #[test]
    fn a_write_of_unknown_outcome_is_owed_to_nobody() {
        let story = Story::new()
            .tell(0, 0, Action::Append(1), Outcome::Info(Failure::Timeout))
            .read(0, 0, &[])
            .append(0, 0, 2)
            .read(1, 0, &[2]);
        assert_eq!(story.found(), (0, 0, 0));
    }
}
