//! The linear rules while a run is still going on, so that a campaign can stop at the first violation.
//!
//! Fed with invocations and completions as they happen. What it reports is a violation whatever comes later. For
//! registers with unique values and no compare-and-set, and for lists, it misses nothing; with compare-and-set it applies
//! the same zones without chains, so the full check at the end may find more.

use super::report::Class;
use crate::record::{Action, History, Instant, Operation, Outcome, Purpose, Returned, Value};
use std::collections::BTreeMap;

/// A violation that is already certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Early {
    /// What went wrong. Finer names are for the full check: this one says stale read for all that met an old value.
    pub class: Class,
    /// The operation whose completion showed it, as an index into the history.
    pub operation: usize,
}

/// Watches a run.
#[derive(Debug, Default)]
pub struct Watch {
    keys: BTreeMap<u32, Key>,
}

/// What is known of a key. A version of a list, or a value of a register, is a cluster.
#[derive(Debug, Default)]
struct Key {
    /// Invocation of the write of each value, for those that did not fail.
    written: BTreeMap<Value, Instant>,
    /// Values whose write failed.
    failed: BTreeMap<Value, usize>,
    /// Index into `first` and `last` of each value that somebody surely saw or set; `None` is the start value.
    place: BTreeMap<Option<Value>, usize>,
    /// First completion of each cluster; increasing.
    first: Vec<Instant>,
    /// Last invocation of each cluster.
    last: Maxima,
    /// Lists: acknowledged appends that no read has shown so far.
    unseen: BTreeMap<Value, Instant>,
    /// Lists: which elements were shown, and where.
    shown: BTreeMap<Value, usize>,
    /// Lists: first completion and last invocation of each length.
    lengths: Vec<(Option<Instant>, Instant)>,
}

impl Watch {
    /// An operation is asked.
    pub fn invoked(&mut self, operation: &Operation) {
        if operation.purpose != Purpose::Workload {
            return;
        }
        if let Action::Append(v) | Action::Write(v) | Action::Cas { to: v, .. } = operation.action {
            let key = self.keys.entry(operation.key.0).or_default();
            key.written.insert(v, operation.invoked);
        }
    }

    /// The operation with this index is answered, or given up; the history holds the answer.
    pub fn completed(&mut self, history: &History, index: usize) -> Option<Early> {
        let operation = &history.operations[index];
        if operation.purpose != Purpose::Workload {
            return None;
        }
        let key = self.keys.entry(operation.key.0).or_default();
        let at = operation.completed?;
        let class = match (&operation.action, &operation.outcome) {
            (_, Outcome::Info(_)) => None,
            (Action::Append(v) | Action::Write(v) | Action::Cas { to: v, .. }, Outcome::Fail(_)) => {
                key.fail(*v, index)
            }
            (Action::Read, Outcome::Fail(_)) => None,
            (Action::Read, Outcome::Ok(Returned::List { shared, tail })) => {
                let spine = &history.keys[operation.key.0 as usize].spine;
                key.list(operation.invoked, at, &spine[..*shared as usize], tail)
            }
            (Action::Append(v), Outcome::Ok(_)) => {
                key.appended(at, *v);
                None
            }
            (Action::Write(v), Outcome::Ok(_)) => key.meets(Some(*v), operation.invoked, at),
            (Action::Read, Outcome::Ok(Returned::Value(v))) | (_, Outcome::Ok(Returned::Mismatch(v))) => {
                key.meets(*v, operation.invoked, at)
            }
            (Action::Cas { from, to }, Outcome::Ok(_)) => {
                let from = key.meets(*from, operation.invoked, at);
                from.or(key.meets(Some(*to), operation.invoked, at))
            }
            (Action::Read, Outcome::Ok(Returned::Done | Returned::Version(_))) => None,
        };
        class.map(|class| Early { class, operation: index })
    }
}

impl Key {
    fn fail(&mut self, value: Value, index: usize) -> Option<Class> {
        self.written.remove(&value);
        self.failed.insert(value, index);
        let seen = self.place.contains_key(&Some(value)) || self.shown.contains_key(&value);
        seen.then_some(Class::AbortedRead)
    }

    /// Why a value cannot have been there, if nobody has asked to write it yet.
    fn unwritten(&self, value: Value) -> Option<Class> {
        match (self.written.contains_key(&value), self.failed.contains_key(&value)) {
            (true, _) => None,
            (false, true) => Some(Class::AbortedRead),
            (false, false) => Some(Class::Phantom),
        }
    }

    /// An operation over `[inv, ret]` set or saw a register's value.
    fn meets(&mut self, value: Option<Value>, inv: Instant, ret: Instant) -> Option<Class> {
        if let Some(class) = value.and_then(|v| self.unwritten(v)) {
            return Some(class);
        }
        let start = Instant::default();
        if self.first.is_empty() {
            self.place.insert(None, 0);
            self.first.push(start);
            self.last.push(start);
        }
        let written = value.and_then(|v| self.written.get(&v)).copied().unwrap_or(start);
        let next = self.first.len();
        let at = *self.place.entry(value).or_insert(next);
        if at == next {
            self.first.push(ret);
            self.last.push(written);
        }
        self.last.raise(at, inv);
        self.conflicts(at).then_some(Class::StaleRead)
    }

    /// Whether another cluster must come both before and after this one.
    fn conflicts(&self, at: usize) -> bool {
        let (f, s) = (self.first[at], self.last.get(at));
        let until = self.first.partition_point(|first| *first < s);
        self.last.max(0, at.min(until)) > Some(f) || self.last.max(at + 1, until) > Some(f)
    }

    fn appended(&mut self, at: Instant, value: Value) {
        match self.shown.get(&value) {
            Some(&length) => self.lengths[length].0 = self.lengths[length].0.or(Some(at)),
            None => _ = self.unseen.insert(value, at),
        }
    }

    /// A read of a list over `[inv, ret]`. Takes time in proportion to the list's length, which workloads keep short.
    fn list(&mut self, inv: Instant, ret: Instant, shared: &[Value], tail: &[Value]) -> Option<Class> {
        if !tail.is_empty() {
            return Some(Class::DivergedLists);
        }
        if self.lengths.is_empty() {
            self.lengths.push((None, Instant::default()));
        }
        for v in &shared[self.shown.len().min(shared.len())..] {
            if let Some(class) = self.unwritten(*v) {
                return Some(class);
            }
            if self.shown.insert(*v, self.lengths.len()).is_some() {
                return Some(Class::DuplicateAppend);
            }
            self.lengths.push((self.unseen.remove(v), self.written[v]));
        }
        let (first, last) = &mut self.lengths[shared.len()];
        *first = first.or(Some(ret));
        *last = inv.max(*last);
        self.lengths_conflict()
    }

    /// Whether a length was there before something began that belongs to a shorter one.
    fn lengths_conflict(&self) -> Option<Class> {
        let mut latest = Instant::default();
        for (first, last) in &self.lengths {
            if first.is_some_and(|first| first < latest) {
                return Some(Class::StaleRead);
            }
            latest = latest.max(*last);
        }
        self.unseen.values().any(|acknowledged| *acknowledged < latest).then_some(Class::LostAppend)
    }
}

/// Largest of any range of a growing row of instants, each of which only rises: a segment tree.
#[derive(Debug, Default)]
struct Maxima {
    /// Leaves from `capacity` on; node `n` is the larger of `2 n` and `2 n + 1`.
    tree: Vec<Instant>,
    count: usize,
}

impl Maxima {
    fn capacity(&self) -> usize {
        self.tree.len() / 2
    }

    fn push(&mut self, value: Instant) {
        if self.count == self.capacity() {
            let leaves: Vec<Instant> = self.tree[self.capacity()..].to_vec();
            let capacity = (2 * leaves.len()).max(16);
            self.tree = vec![Instant::default(); 2 * capacity];
            self.tree[capacity..capacity + leaves.len()].copy_from_slice(&leaves);
            for node in (1..capacity).rev() {
                self.tree[node] = self.tree[2 * node].max(self.tree[2 * node + 1]);
            }
        }
        self.count += 1;
        self.raise(self.count - 1, value);
    }

    fn get(&self, at: usize) -> Instant {
        self.tree[self.capacity() + at]
    }

    fn raise(&mut self, at: usize, value: Instant) {
        let mut node = self.capacity() + at;
        while node >= 1 && self.tree[node] < value {
            self.tree[node] = value;
            node /= 2;
        }
    }

    /// Largest of `from..to`; `None` if that is empty.
    fn max(&self, from: usize, to: usize) -> Option<Instant> {
        let (mut low, mut high) = (from + self.capacity(), to + self.capacity());
        let mut largest = None;
        while low < high {
            if low & 1 == 1 {
                largest = largest.max(Some(self.tree[low]));
                low += 1;
            }
            if high & 1 == 1 {
                high -= 1;
                largest = largest.max(Some(self.tree[high]));
            }
            low /= 2;
            high /= 2;
        }
        largest
    }
}
