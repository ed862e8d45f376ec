//! The write-ahead log of a data node: records with term, position, time, length and checksum.
//!
//! The pipeline is explicit: [`Wal::append`] (in memory and handed to the file), *flush* (a sync of the runner,
//! reported by [`Wal::flushed_to`]), *apply* (the owner, once the gate lets an entry through), *acknowledge*. A suffix
//! is cut only after a match test found it different (Raft paper section 5.3, rule 3 of AppendEntries).

use super::settings::NodeId;
use crate::contract::WallTime;
use crate::graph;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

/// Leadership number of the data nodes; 0 before the first primary.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Term(pub u64);

/// Position in the log, from 1; 0 is before the first entry.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The position after this one.
    pub fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }
}

/// An entry's term and position: what two logs compare. The one with the higher term is newer, then the longer one
/// (Raft paper section 5.4.1).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Position {
    /// Term of the entry.
    pub term: Term,
    /// Its place.
    pub lsn: Lsn,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Content {
    /// First entry of a term: makes what the term found in the log its own.
    TermStart {
        /// The primary of the term.
        by: NodeId,
    },
    /// A change of the graph.
    Change(graph::Change),
    /// A point that an operator named, to be restored to later (PostgreSQL: `pg_create_restore_point`).
    Point(Arc<str>),
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// When it was written, by the wall clock of its primary: a new primary's clock may be behind the old one's.
    pub at: WallTime,
    /// What it says.
    pub content: Content,
}

impl Entry {
    /// Length of the record on disk: header, change and payload.
    pub fn length(&self) -> u32 {
        let body = match &self.content {
            Content::TermStart { .. } => 1,
            Content::Change(change) => change.size() as u32,
            Content::Point(name) => name.len() as u32,
        };
        HEADER_BYTES + body
    }
}

/// Term 8, position 8, time 8, length 4, checksum 8.
const HEADER_BYTES: u32 = 36;

/// An entry as it lies on disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct WalRecord {
    /// The entry.
    pub entry: Entry,
    /// Length that the writer meant.
    pub length: u32,
    /// Over everything above.
    pub checksum: u64,
}

impl WalRecord {
    /// The record of an entry.
    pub fn of(entry: Entry) -> Self {
        WalRecord { length: entry.length(), checksum: checksum(&entry), entry }
    }

    /// Whether it is what was written.
    pub fn intact(&self) -> bool {
        self.length == self.entry.length() && self.checksum == checksum(&self.entry)
    }
}

/// The number by which gauges call a named point: names are text, gauges are numbers.
pub fn point_number(name: &str) -> u32 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    name.hash(&mut hasher);
    (hasher.finish() >> 32) as u32
}

/// FNV-1a over the entry's fields, eight bytes a step.
fn checksum(entry: &Entry) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    entry.hash(&mut hasher);
    hasher.finish()
}

/// FNV-1a with a fixed width for every integer, so that a checksum means the same on every platform.
pub(crate) struct Fnv(pub u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }
    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }
    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
    }
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }
}

/// What reading a log back found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// All records are good.
    Whole,
    /// The last records were torn and are cut: nobody was told that they are durable.
    TornTail {
        /// How many records remain.
        kept: usize,
    },
    /// A bad record has a good one behind it: not a torn tail but corruption. The node must not serve.
    Corrupt {
        /// The first bad record.
        at: usize,
    },
}

/// The log in memory.
#[derive(Clone, Debug, Default)]
pub struct Wal {
    entries: Vec<Entry>,
    flushed: Lsn,
    bytes: u64,
}

impl Wal {
    /// Reads a log back: a bad record at the tail is cut, a bad one before a good one stops the node.
    pub fn recover(records: impl Iterator<Item = WalRecord>) -> (Wal, Recovered) {
        let mut wal = Wal::default();
        let mut bad = None;
        for (index, record) in records.enumerate() {
            let good = record.intact() && record.entry.position.lsn == Lsn(index as u64 + 1);
            match (good, bad) {
                (true, None) => wal.append(record.entry),
                (true, Some(at)) => return (wal, Recovered::Corrupt { at }),
                (false, None) => bad = Some(index),
                (false, Some(_)) => {}
            }
        }
        wal.flushed = wal.last().lsn;
        let found = bad.map_or(Recovered::Whole, |_| Recovered::TornTail { kept: wal.entries.len() });
        (wal, found)
    }

    /// Adds an entry behind the last one.
    ///
    /// # Panics
    /// If the entry does not follow the last one: a log has no holes.
    pub fn append(&mut self, entry: Entry) {
        assert_eq!(entry.position.lsn, self.last().lsn.next(), "a log has no holes");
        assert!(entry.position.term >= self.last().term, "terms never fall along a log");
        self.bytes += u64::from(entry.length());
        self.entries.push(entry);
    }

    /// The last entry's position.
    pub fn last(&self) -> Position {
        self.entries.last().map_or(Position::default(), |entry| entry.position)
    }

    /// The entry at a position.
    pub fn get(&self, lsn: Lsn) -> Option<&Entry> {
        self.entries.get(lsn.0.checked_sub(1)? as usize)
    }

    /// Term of the entry at `lsn`; term 0 before the first entry.
    pub fn term_at(&self, lsn: Lsn) -> Option<Term> {
        if lsn == Lsn(0) { Some(Term(0)) } else { self.get(lsn).map(|entry| entry.position.term) }
    }

    /// Entries from `lsn` on, at most `count`.
    pub fn from(&self, lsn: Lsn, count: usize) -> &[Entry] {
        let start = (lsn.0.max(1) as usize - 1).min(self.entries.len());
        let end = (start + count).min(self.entries.len());
        &self.entries[start..end]
    }

    /// All entries.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of all records.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is known to be durable.
    pub fn flushed(&self) -> Lsn {
        self.flushed
    }

    /// A sync that covered everything up to `lsn` succeeded.
    pub fn flushed_to(&mut self, lsn: Lsn) {
        // The log may have been cut since the sync was asked for.
        self.flushed = self.flushed.max(lsn.min(self.last().lsn));
    }

    /// The match test: whether this log has the entry `position`.
    pub fn matches(&self, position: Position) -> bool {
        self.term_at(position.lsn) == Some(position.term)
    }

    /// Where to try next when a follower's last entry does not match: our last entry that is not newer than the
    /// follower's in term and place, so that each round skips at least one term or one entry.
    pub fn fork_hint(&self, follower: Position) -> Position {
        let upper = (follower.lsn.0.saturating_sub(1) as usize).min(self.entries.len());
        self.entries[..upper]
            .iter()
            .rev()
            .find(|entry| entry.position.term <= follower.term)
            .map_or(Position::default(), |entry| entry.position)
    }

    /// Takes entries from a primary behind `previous`, which must match. Entries we have stay; the first one that
    /// differs and all behind it are cut. Gives the position after which entries are new, and what was cut.
    pub fn merge(&mut self, previous: Position, entries: &[Entry]) -> Option<Merged> {
        if !self.matches(previous) {
            return None;
        }
        let differs = entries.iter().position(|entry| !self.matches(entry.position));
        let Some(first) = differs else { return Some(Merged { kept: self.last().lsn, cut: Vec::new() }) };
        let kept = Lsn(entries[first].position.lsn.0 - 1);
        let cut = self.cut_after(kept);
        entries[first..].iter().for_each(|entry| self.append(entry.clone()));
        Some(Merged { kept, cut })
    }

    /// Cuts everything behind `kept` and gives it back.
    pub fn cut_after(&mut self, kept: Lsn) -> Vec<Entry> {
        let keep = (kept.0 as usize).min(self.entries.len());
        let cut = self.entries.split_off(keep);
        self.bytes -= cut.iter().map(|entry| u64::from(entry.length())).sum::<u64>();
        self.flushed = self.flushed.min(kept);
        cut
    }
}

/// What a merge did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Everything up to here was there before.
    pub kept: Lsn,
    /// What was thrown away: a branch that another primary's term overruled.
    pub cut: Vec<Entry>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(term: u64, lsn: u64) -> Entry {
        let position = Position { term: Term(term), lsn: Lsn(lsn) };
        let value = term * 1_000 + lsn;
        let change =
            graph::Change::Append { vertex: graph::Vertex(1), property: graph::ITEMS, value, bytes: 10 };
        Entry { position, at: WallTime(0), content: Content::Change(change) }
    }

    fn log(terms: &[u64]) -> Wal {
        let mut wal = Wal::default();
        terms.iter().enumerate().for_each(|(i, term)| wal.append(entry(*term, i as u64 + 1)));
        wal
    }

    #[test]
    fn a_torn_tail_is_cut_and_corruption_before_a_good_record_stops_the_node() {
        let mut records: Vec<_> =
            log(&[1, 1, 2]).entries().iter().map(|e| WalRecord::of(e.clone())).collect();
        records[2].checksum ^= 1;
        let (wal, found) = Wal::recover(records.iter().cloned());
        assert_eq!((wal.last().lsn, found), (Lsn(2), Recovered::TornTail { kept: 2 }));
        records[2].checksum ^= 1;
        records[1].entry.position.term = Term(9);
        assert_eq!(Wal::recover(records.iter().cloned()).1, Recovered::Corrupt { at: 1 });
    }

    #[test]
    fn only_the_conflicting_suffix_is_cut_and_only_after_a_match() {
        let mut wal = log(&[1, 1, 2, 2]);
        let news = [entry(1, 2), entry(3, 3)];
        let previous = Position { term: Term(1), lsn: Lsn(1) };
        let merged = wal.merge(previous, &news).expect("entry 1 matches");
        assert_eq!((merged.kept, merged.cut.len()), (Lsn(2), 2));
        assert_eq!(wal.last(), news[1].position);
        let nowhere = Position { term: Term(2), lsn: Lsn(3) };
        assert_eq!(wal.merge(nowhere, &[entry(4, 4)]), None);
        assert_eq!(wal.last().lsn, Lsn(3), "no match, no cut");
    }

    #[test]
    fn entries_that_are_there_already_are_not_cut_even_by_a_late_short_message() {
        let mut wal = log(&[1, 1, 1]);
        let merged = wal.merge(Position::default(), &[entry(1, 1)]).expect("matches");
        assert_eq!((merged.kept, wal.last().lsn), (Lsn(3), Lsn(3)));
    }

    #[test]
    fn the_fork_is_found_in_as_many_rounds_as_there_are_terms() {
        let primary = log(&[1, 1, 1, 4, 4, 4, 4]);
        let follower = log(&[1, 1, 1, 2, 2, 3, 3, 3]);
        let mut probe = follower.last();
        let mut rounds = 0;
        while !primary.matches(probe) {
            let hint = primary.fork_hint(probe);
            // The follower answers with its own last entry that is not newer than the hint.
            probe = if follower.matches(hint) {
                hint
            } else {
                follower.fork_hint(Position { lsn: hint.lsn.next(), ..hint })
            };
            rounds += 1;
            assert!(rounds < 5);
        }
        assert_eq!(probe.lsn, Lsn(3));
    }

    #[test]
    fn a_sync_that_ends_after_a_cut_claims_nothing_that_is_gone() {
        let mut wal = log(&[1, 1, 1]);
        wal.cut_after(Lsn(1));
        wal.flushed_to(Lsn(3));
        assert_eq!(wal.flushed(), Lsn(1));
    }
}
