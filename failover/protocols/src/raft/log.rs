//! The log in memory and how it lies on disk.

use super::{Embed, Entry, Index, LOG_FILE, Member, Payload, Position, Record, Term};
use crate::contract::Cx;
use alloc::vec::Vec;

/// The entries after `base`, and how many records of the file they take.
#[derive(Debug)]
pub(super) struct Log<C> {
    /// The entry just before the first one held: the end of the newest snapshot, or zero.
    base: Position,
    entries: Vec<Entry<C>>,
    /// The first record of the file holds all entries up to this index, if there is such a record.
    packed: Option<Index>,
    /// Index before the first single record of the file.
    singles_after: Index,
}

impl<C: Clone> Log<C> {
    /// The log that lies in these records.
    pub fn recover<P>(records: impl Iterator<Item = Record<C, P>>) -> Self {
        let mut log =
            Log { base: Position::default(), entries: Vec::new(), packed: None, singles_after: Index(0) };
        for record in records {
            match record {
                Record::Base { previous, entries } => {
                    log.base = previous;
                    log.entries = entries;
                    log.packed = Some(log.last().index);
                    log.singles_after = log.last().index;
                }
                Record::Entry(entry) => {
                    assert_eq!(entry.at.index, log.last().index.next(), "a log file has no holes");
                    log.entries.push(entry);
                }
                Record::Vote { .. } | Record::Snapshot(_) => {}
            }
        }
        log
    }

    /// Where the log begins: nothing at or before it can be read.
    pub fn base(&self) -> Position {
        self.base
    }

    /// How far the log reaches.
    pub fn last(&self) -> Position {
        self.entries.last().map_or(self.base, |entry| entry.at)
    }

    /// The term of an entry; `None` where the log does not reach, in either direction.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.get(index).map(|entry| entry.at.term)
    }

    /// An entry.
    pub fn get(&self, index: Index) -> Option<&Entry<C>> {
        self.entries.get(self.slot(index)?)
    }

    /// At most `count` entries after `index`.
    pub fn after(&self, index: Index, count: usize) -> &[Entry<C>] {
        let from = (index.0.saturating_sub(self.base.index.0) as usize).min(self.entries.len());
        &self.entries[from..(from + count).min(self.entries.len())]
    }

    /// The newest list of members in the log.
    pub fn members(&self) -> Option<&[Member]> {
        self.entries.iter().rev().find_map(|entry| match &entry.payload {
            Payload::Members(members) => Some(members.as_slice()),
            Payload::Noop | Payload::Command(_) => None,
        })
    }

    /// The last entry before `index` whose term is not `index`'s own: where the term of a conflict begins.
    pub fn before_term_of(&self, index: Index) -> Index {
        let term = self.term_at(index);
        let mut at = index;
        while at > self.base.index && self.term_at(at) == term {
            at = at.before();
        }
        at
    }

    /// Adds an entry, here and in the file.
    pub fn push<E: Embed<Command = C>>(&mut self, cx: &mut Cx<'_, E::System>, entry: Entry<C>) {
        assert_eq!(entry.at.index, self.last().index.next(), "entries follow each other");
        cx.append(LOG_FILE, E::record(Record::Entry(entry.clone())));
        self.entries.push(entry);
    }

    /// Forgets everything after `keep`, here and in the file.
    pub fn truncate<E: Embed<Command = C>>(&mut self, cx: &mut Cx<'_, E::System>, keep: Index) {
        let count = keep.0.saturating_sub(self.base.index.0) as usize;
        if count >= self.entries.len() {
            return;
        }
        self.entries.truncate(count);
        if keep >= self.singles_after {
            let packed = usize::from(self.packed.is_some());
            cx.truncate(LOG_FILE, packed + (keep.0 - self.singles_after.0) as usize);
        } else {
            self.rewrite::<E>(cx);
        }
    }

    /// Forgets everything up to `at`, which a snapshot covers, in memory only; whether anything changed. If the log
    /// does not hold that very entry, all of it is older or of another history, and goes (thesis §5.3).
    /// [`Log::rewrite`] must follow before anything is pushed.
    pub fn drop_until(&mut self, at: Position) -> bool {
        if at.index <= self.base.index {
            return false;
        }
        if self.term_at(at.index) == Some(at.term) {
            let count = (at.index.0 - self.base.index.0) as usize;
            self.entries.drain(..count);
        } else {
            self.entries.clear();
        }
        self.base = at;
        true
    }

    /// Writes the whole log as one record: replacing is atomic, removing the head of a file is not possible.
    pub fn rewrite<E: Embed<Command = C>>(&mut self, cx: &mut Cx<'_, E::System>) {
        let record = Record::Base { previous: self.base, entries: self.entries.clone() };
        cx.replace(LOG_FILE, E::record(record));
        self.packed = Some(self.last().index);
        self.singles_after = self.last().index;
    }

    fn slot(&self, index: Index) -> Option<usize> {
        index.0.checked_sub(self.base.index.0 + 1).map(|slot| slot as usize)
    }
}
