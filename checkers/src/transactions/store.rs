//! A key-value store that numbers its states: etcd, as its robustness tests record it. Every answer tells the revision
//! of the whole store it was given at, so the order of all writes is known, and strict serializability over all keys
//! together is a matter of one walk along the revisions:
//!
//! 1. no two writes have one revision;
//! 2. whatever was answered at a revision was not answered before the write that made it, or anything earlier, began;
//! 3. every answer shows what the writes up to its revision had left there: values, what they were compared with, what
//!    is missing from a range.
//!
//! A revision that no acknowledged write made belongs to one of unknown outcome: a read that shows it tells which. If
//! nobody shows it, it may have been any of those that are left, and rule 3 is silent about the keys they touch.
//!
//! holds: `put k a -> revision 2`, `get k -> a at 2`. Violated: after that, `get k -> nothing at 1`.

use super::Origin;
use super::report::{Anomaly, Class, Level, Report, Statistics, Step as Part};
use crate::linear::{Described, Ending, Overall};
use std::collections::{BTreeMap, BTreeSet};

/// A history of a store.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// In order of invocation.
    pub operations: Vec<Operation>,
    /// Operations that say nothing of the store's state: compaction, defragmentation, reads of unknown outcome.
    pub ignored: u64,
}

/// One request of one client.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The client.
    pub process: i64,
    /// Position of the invocation among all events.
    pub invoked: u32,
    /// Position of the completion, or [`super::OPEN`].
    pub completed: u32,
    /// What was asked.
    pub request: Request,
    /// What was answered; `None`: nobody knows whether it happened.
    pub answer: Option<Answer>,
    /// Where it stands in its source.
    pub origin: Origin,
}

/// What is asked of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// If all comparisons hold, the one list of steps, else the other, all at once. A single read or write is one step
    /// without comparisons.
    Transaction {
        /// What must hold.
        comparisons: Vec<Comparison>,
        /// Done if it does.
        then: Vec<Step>,
        /// Done if it does not.
        otherwise: Vec<Step>,
    },
    /// Get a lease.
    LeaseGrant,
    /// End a lease: takes away the keys that hang on it.
    LeaseRevoke {
        /// Which.
        lease: i64,
    },
}

/// Which keys are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The key, or the first one.
    pub start: String,
    /// Behind the last one; empty: only `start`.
    pub end: String,
    /// At most so many; 0: all.
    pub limit: i64,
    /// Of this revision; 0: the latest.
    pub revision: i64,
    /// Without values.
    pub keys_only: bool,
}

/// A comparison of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Of this key.
    pub key: String,
    /// The revision of its last write; 0: it is not there.
    pub revision: i64,
    /// If positive: how often it was written since it came to be, in place of the revision.
    pub version: i64,
}

/// A step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read keys.
    Range(Range),
    /// Set a key.
    Put {
        /// Which.
        key: String,
        /// To what.
        value: String,
        /// Lease it hangs on; 0: none.
        lease: i64,
    },
    /// Take a key away.
    Delete {
        /// Which.
        key: String,
    },
}

/// What was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The store's revision after it.
    pub revision: i64,
    /// Of a transaction: whether the comparisons did not hold.
    pub failure: bool,
    /// What each range or step found; empty if only the revision is known.
    pub found: Vec<Found>,
}

/// What a step found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The keys that were there.
    pub entries: Vec<Entry>,
    /// How many there are without a limit.
    pub count: i64,
    /// How many were taken away.
    pub deleted: i64,
}

/// A key that was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The revision of its last write.
    pub revision: i64,
}

/// Judges a history of a store.
pub fn check(store: &Store) -> Report {
    let mut judge = Judge::new(store);
    let found = judge.writes().or_else(|| judge.real_time()).or_else(|| {
        judge.fill_gaps();
        judge.contents()
    });
    let mut notes = Vec::new();
    let missing = judge.incomplete();
    if missing {
        notes.push(format!(
            "{} revisions were made by nobody in this history, and {} writes have an unknown outcome: is the file of a \
             client missing?",
            judge.gaps,
            judge.unknown.len()
        ));
    }
    let verdict = match (&found, missing) {
        (Some(_), _) => Overall::Violated,
        (None, true) => Overall::Unknown,
        (None, false) => Overall::Holds,
    };
    Report {
        verdict,
        level: match &found {
            Some(anomaly) => Some(anomaly.class.leaves()),
            None => (!missing).then_some(Level::StrictSerializable),
        },
        anomalies: found.into_iter().collect(),
        notes,
        statistics: judge.statistics(),
    }
}

/// What became of a key at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change<'a> {
    Put(&'a str),
    Deleted,
}

struct Judge<'a> {
    store: &'a Store,
    /// Who made each revision.
    writers: BTreeMap<i64, usize>,
    /// What was answered at each revision, writes first.
    at: BTreeMap<i64, Vec<usize>>,
    /// Writes of unknown outcome that have no revision so far.
    unknown: Vec<usize>,
    /// How many revisions nobody made as far as is known.
    gaps: u64,
    /// The last revision that was answered.
    last: i64,
    /// Revisions at which leases ended.
    revoked: Vec<i64>,
    /// Of each key its changes.
    changes: BTreeMap<&'a str, BTreeMap<i64, Change<'a>>>,
}

impl<'a> Judge<'a> {
    fn new(store: &'a Store) -> Self {
        Judge {
            store,
            writers: BTreeMap::new(),
            at: BTreeMap::new(),
            unknown: Vec::new(),
            gaps: 0,
            last: 1,
            revoked: Vec::new(),
            changes: BTreeMap::new(),
        }
    }

    fn statistics(&self) -> Statistics {
        let operations = &self.store.operations;
        let committed = operations.iter().filter(|o| o.answer.is_some()).count() as u64;
        Statistics {
            transactions: operations.len() as u64,
            committed,
            aborted: 0,
            unknown: operations.len() as u64 - committed,
            keys: self.changes.len() as u64,
            search_steps: 0,
        }
    }

    /// Rule 1, and who answered at which revision.
    fn writes(&mut self) -> Option<Anomaly> {
        for (i, operation) in self.store.operations.iter().enumerate() {
            let Some(answer) = &operation.answer else {
                if operation.may_write() {
                    self.unknown.push(i);
                }
                continue;
            };
            let list = self.at.entry(answer.revision).or_default();
            if !operation.writes() {
                list.push(i);
                continue;
            }
            list.insert(0, i);
            if let Some(other) = self.writers.insert(answer.revision, i) {
                let part = format!("made revision {}", answer.revision);
                let steps = vec![self.part(other, part.clone()), self.part(i, part)];
                return Some(anomaly(
                    Class::TwoWrites,
                    "two acknowledged writes made the same revision",
                    steps,
                ));
            }
            for step in operation.done() {
                let (key, change) = match step {
                    Step::Put { key, value, .. } => (key, Change::Put(value)),
                    Step::Delete { key } => (key, Change::Deleted),
                    Step::Range(_) => continue,
                };
                self.changes.entry(key).or_default().insert(answer.revision, change);
            }
        }
        // A lease that ended made the revision it was answered at if nobody else did.
        for (i, operation) in self.store.operations.iter().enumerate() {
            if let (Request::LeaseRevoke { .. }, Some(answer)) = (&operation.request, &operation.answer) {
                self.writers.entry(answer.revision).or_insert(i);
                self.revoked.push(answer.revision);
            }
        }
        self.last = self.at.last_key_value().map_or(1, |last| *last.0);
        self.gaps = (self.last - 1).max(0) as u64 - self.writers.range(2..).count() as u64;
        None
    }

    /// Rule 2.
    fn real_time(&self) -> Option<Anomaly> {
        let operation = |i: usize| &self.store.operations[i];
        let mut latest: Option<(usize, i64)> = None;
        for (&revision, members) in &self.at {
            let first = members.iter().copied().min_by_key(|&i| operation(i).completed)?;
            if let Some((late, older)) = latest
                && operation(first).completed < operation(late).invoked
            {
                let steps = vec![
                    self.part(first, format!("was answered at revision {revision}")),
                    self.part(late, format!("began after that, and was answered at revision {older}")),
                ];
                let own = operation(first).process == operation(late).process;
                let class = if own { Class::SessionOrder } else { Class::RealTime };
                return Some(anomaly(class, "the store's revision goes down along real time", steps));
            }
            let writer = self.writers.get(&revision).copied();
            if let Some(writer) = writer.filter(|&w| operation(first).completed < operation(w).invoked) {
                let steps = vec![
                    self.part(first, format!("was answered at revision {revision}")),
                    self.part(writer, "made that revision, and began later".to_owned()),
                ];
                return Some(anomaly(
                    Class::RealTime,
                    "a revision was seen before the write that made it began",
                    steps,
                ));
            }
            let last = members.iter().copied().max_by_key(|&i| operation(i).invoked)?;
            if latest.is_none_or(|(l, _)| operation(last).invoked > operation(l).invoked) {
                latest = Some((last, revision));
            }
        }
        None
    }

    /// Revisions that a read shows were made by a write of unknown outcome with that value.
    fn fill_gaps(&mut self) {
        let mut shown: BTreeMap<i64, (&'a str, &'a str)> = BTreeMap::new();
        for operation in &self.store.operations {
            for entry in operation.entries().filter(|entry| self.is_gap(entry.revision)) {
                shown.entry(entry.revision).or_insert((&entry.key, &entry.value));
            }
        }
        let store = self.store;
        for (revision, (key, value)) in shown {
            let puts = |steps: &[Step]| {
                steps
                    .iter()
                    .any(|s| matches!(s, Step::Put { key: k, value: v, .. } if k == key && v == value))
            };
            let branch = |i: usize| match &store.operations[i].request {
                Request::Transaction { then, otherwise, .. } => {
                    [then, otherwise].into_iter().find(|b| puts(b))
                }
                _ => None,
            };
            let Some(place) = self.unknown.iter().position(|&i| branch(i).is_some()) else { continue };
            let writer = self.unknown.remove(place);
            self.gaps -= 1;
            self.writers.insert(revision, writer);
            for step in branch(writer).into_iter().flatten() {
                match step {
                    Step::Put { key, value, .. } => {
                        self.changes.entry(key).or_default().insert(revision, Change::Put(value));
                    }
                    Step::Delete { key } => {
                        self.changes.entry(key).or_default().insert(revision, Change::Deleted);
                    }
                    Step::Range(_) => {}
                }
            }
        }
    }

    /// Rule 3.
    fn contents(&self) -> Option<Anomaly> {
        for (i, operation) in self.store.operations.iter().enumerate() {
            let Some(answer) = &operation.answer else { continue };
            let before = answer.revision - i64::from(operation.writes());
            if let Some(wrong) = self.compared(i, operation, answer, before) {
                return Some(wrong);
            }
            let mut changed: BTreeSet<&str> = BTreeSet::new();
            for (step, found) in operation.done().iter().zip(&answer.found) {
                match step {
                    Step::Put { key, .. } => _ = changed.insert(key),
                    Step::Delete { key } => {
                        let there = self.last(key, before).is_some_and(|(_, c)| matches!(c, Change::Put(_)));
                        if !changed.contains(key.as_str())
                            && there != (found.deleted > 0)
                            && !self.open(key, before)
                        {
                            let what = if there { "is there" } else { "is not there" };
                            return Some(self.wrong(
                                i,
                                key,
                                before,
                                &format!("`{key}` {what} at revision {before}"),
                            ));
                        }
                        changed.insert(key);
                    }
                    Step::Range(range) => {
                        // What the transaction itself changed before is its own affair.
                        let touched = changed.iter().any(|key| range.holds(key));
                        let wrong = if touched { None } else { self.shown(i, range, found, before) };
                        if wrong.is_some() {
                            return wrong;
                        }
                    }
                }
            }
        }
        None
    }

    /// Whether nobody made the revision as far as is known.
    fn is_gap(&self, revision: i64) -> bool {
        (2..=self.last).contains(&revision) && !self.writers.contains_key(&revision)
    }

    /// Whether some of these revisions were made by nobody as far as is known.
    fn gap_within(&self, from: i64, to: i64) -> bool {
        self.gaps > 0 && from <= to && (to - from) as usize >= self.writers.range(from..=to).count()
    }

    /// Whether there are more of them than writes of unknown outcome.
    fn incomplete(&self) -> bool {
        self.gaps > self.unknown.len() as u64
    }

    /// The last change of a key up to a revision.
    fn last(&self, key: &str, revision: i64) -> Option<(i64, &Change<'a>)> {
        let changes = self.changes.get(key)?;
        changes.range(..=revision).next_back().map(|(at, change)| (*at, change))
    }

    /// Whether a write whose revision is not known may have changed the key since its last known change.
    fn open(&self, key: &str, revision: i64) -> bool {
        let since = self.last(key, revision).map_or(1, |(at, _)| at);
        // A lease that ends takes its keys away; which hung on it is not told.
        if self.revoked.iter().any(|at| (since + 1..=revision).contains(at)) {
            return true;
        }
        let somebody =
            || self.incomplete() || self.unknown.iter().any(|&i| self.store.operations[i].may_touch(key));
        self.gap_within(since + 1, revision) && somebody()
    }

    /// Whether a transaction took the branch that the state asks for.
    fn compared(&self, i: usize, operation: &Operation, answer: &Answer, before: i64) -> Option<Anomaly> {
        let Request::Transaction { comparisons, .. } = &operation.request else { return None };
        if comparisons.iter().any(|c| c.version > 0 || self.open(&c.key, before)) {
            return None;
        }
        let modified = |key: &str| match self.last(key, before) {
            Some((at, Change::Put(_))) => at,
            _ => 0,
        };
        let differs = comparisons.iter().find(|c| modified(&c.key) != c.revision);
        match (differs, answer.failure) {
            (Some(c), false) => {
                let what = format!("`{}` was last written at revision {}", c.key, modified(&c.key));
                Some(self.wrong(i, &c.key, before, &what))
            }
            (None, true) => {
                let key = &comparisons.first()?.key;
                Some(self.wrong(i, key, before, "every comparison holds, and yet it failed"))
            }
            _ => None,
        }
    }

    /// Whether a range shows what was there.
    fn shown(&self, i: usize, range: &Range, found: &Found, latest: i64) -> Option<Anomaly> {
        let at = if range.revision > 0 { range.revision.min(latest) } else { latest };
        for Entry { key, value, revision } in &found.entries {
            let known = self.last(key, at);
            let same = |c: &Change<'_>| *c == Change::Put(value) || range.keys_only && *c != Change::Deleted;
            if known.is_some_and(|(m, c)| m == *revision && same(c)) {
                continue;
            }
            let unexplained = match self.changes.get(key.as_str()).and_then(|c| c.get(revision)) {
                Some(change) => !same(change) || known.is_none_or(|(m, _)| m != *revision),
                None => !(self.is_gap(*revision) && self.incomplete()),
            };
            if unexplained || *revision > at {
                let what =
                    format!("it shows `{key}` = {value} as written at revision {revision}, at revision {at}");
                return Some(self.wrong(i, key, at, &what));
            }
        }
        self.left_out(i, range, found, at)
    }

    /// A key that was there and is not shown.
    fn left_out(&self, i: usize, range: &Range, found: &Found, at: i64) -> Option<Anomaly> {
        if found.count > found.entries.len() as i64 {
            return None;
        }
        let shown = |key: &str| found.entries.iter().any(|entry| entry.key == key);
        let there = |key: &str| matches!(self.last(key, at), Some((_, Change::Put(_))));
        let missing = |key: &&&str| range.holds(key) && there(key) && !shown(key) && !self.open(key, at);
        let key = match range.end.as_str() {
            "" => self
                .changes
                .get_key_value(range.start.as_str())
                .map(|(key, _)| key)
                .filter(|key| missing(key)),
            _ => self
                .changes
                .range(range.start.as_str()..)
                .map(|(key, _)| key)
                .take_while(|k| range.holds(k))
                .find(|k| missing(k)),
        };
        key.map(|key| {
            self.wrong(i, key, at, &format!("`{key}` is there at revision {at}, and it does not show it"))
        })
    }

    fn wrong(&self, i: usize, key: &str, at: i64, what: &str) -> Anomaly {
        let writer = self.last(key, at).and_then(|(revision, _)| {
            let writer = *self.writers.get(&revision)?;
            (writer != i).then(|| {
                self.part(writer, format!("made revision {revision}, the last change of `{key}` up to {at}"))
            })
        });
        let steps = writer.into_iter().chain([self.part(i, what.to_owned())]).collect();
        anomaly(
            Class::WrongState,
            "an answer does not show what the writes up to its revision had left",
            steps,
        )
    }

    fn part(&self, i: usize, part: String) -> Part {
        Part { transaction: self.store.operations[i].describe(), part }
    }
}

fn anomaly(class: Class, summary: &str, steps: Vec<Part>) -> Anomaly {
    Anomaly { class, name: class.name(), summary: summary.to_owned(), steps, circle: false }
}

impl Range {
    fn holds(&self, key: &str) -> bool {
        if self.end.is_empty() {
            key == self.start
        } else {
            self.start.as_str() <= key && key < self.end.as_str()
        }
    }
}

impl Operation {
    /// The steps that were taken.
    fn done(&self) -> &[Step] {
        let failure = self.answer.as_ref().is_some_and(|answer| answer.failure);
        match &self.request {
            Request::Transaction { otherwise, .. } if failure => otherwise,
            Request::Transaction { then, .. } => then,
            Request::LeaseGrant | Request::LeaseRevoke { .. } => &[],
        }
    }

    /// Whether it made a revision. Of a lease that ended this is not known.
    fn writes(&self) -> bool {
        let found = self.answer.iter().flat_map(|answer| &answer.found);
        self.done().iter().any(|step| matches!(step, Step::Put { .. }))
            || found.into_iter().any(|f| f.deleted > 0)
    }

    /// All that its answer shows.
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.answer.iter().flat_map(|answer| &answer.found).flat_map(|found| &found.entries)
    }

    /// Whether it changes something if it happens.
    fn may_write(&self) -> bool {
        match &self.request {
            Request::Transaction { then, otherwise, .. } => {
                then.iter().chain(otherwise).any(|step| !matches!(step, Step::Range(_)))
            }
            Request::LeaseRevoke { .. } => true,
            Request::LeaseGrant => false,
        }
    }

    /// Whether it changes this key if it happens.
    fn may_touch(&self, key: &str) -> bool {
        match &self.request {
            Request::Transaction { then, otherwise, .. } => {
                then.iter().chain(otherwise).any(|step| match step {
                    Step::Put { key: k, .. } | Step::Delete { key: k } => k == key,
                    Step::Range(_) => false,
                })
            }
            Request::LeaseRevoke { .. } => true,
            Request::LeaseGrant => false,
        }
    }

    fn describe(&self) -> Described {
        let mut text = match &self.request {
            Request::Transaction { comparisons, .. } => {
                let compared: Vec<String> = comparisons.iter().map(Comparison::words).collect();
                let condition =
                    if compared.is_empty() { String::new() } else { format!("if {}: ", compared.join(", ")) };
                let found = self.answer.iter().flat_map(|answer| answer.found.iter().map(Some));
                let found = found.chain(std::iter::repeat(None));
                let steps: Vec<String> = self.done().iter().zip(found).map(|(s, f)| s.words(f)).collect();
                format!("{condition}{}", steps.join("; "))
            }
            Request::LeaseGrant => "grant a lease".to_owned(),
            Request::LeaseRevoke { lease } => format!("revoke lease {lease}"),
        };
        match &self.answer {
            Some(answer) => text.push_str(&format!(" (at revision {})", answer.revision)),
            None => text.push_str(" (unknown outcome)"),
        }
        Described {
            process: self.process.to_string(),
            text,
            invoked_ms: self.origin.invoked_ms,
            completed_ms: self.origin.completed_ms.filter(|_| self.answer.is_some()),
            line: self.origin.line,
            completed_line: None,
            node: None,
            ending: if self.answer.is_some() { Ending::Ok } else { Ending::Unknown },
        }
    }
}

impl Comparison {
    fn words(&self) -> String {
        match self.version {
            0 => format!("revision of {} = {}", self.key, self.revision),
            version => format!("version of {} = {version}", self.key),
        }
    }
}

impl Step {
    fn words(&self, found: Option<&Found>) -> String {
        match self {
            Step::Put { key, value, .. } => format!("put {key} = {value}"),
            Step::Delete { key } => format!("delete {key}"),
            Step::Range(range) => {
                let keys = if range.end.is_empty() {
                    range.start.clone()
                } else {
                    format!("{} .. {}", range.start, range.end)
                };
                let Some(found) = found else { return format!("read {keys}") };
                const SHOWN: usize = 4;
                let entry = |e: &Entry| format!("{} = {} (written at {})", e.key, e.value, e.revision);
                let mut shown: Vec<String> = found.entries.iter().take(SHOWN).map(entry).collect();
                if found.entries.len() > SHOWN {
                    shown.push(format!("and {} more", found.entries.len() - SHOWN));
                }
                let shown = if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") };
                format!("read {keys}: {shown}")
            }
        }
    }
}
