//! Asynchronous replication: histories, offsets, the backlog, and what a partial resync needs.
//!
//! A history is a stream of bytes with an id; an offset is a position in it. A node that is promoted starts a new
//! history, and remembers the old id up to the position of the fork, so that the other replicas of the old primary
//! can go on without a full copy (`replid2` and `second_replid_offset` of Redis 4.0 and later). A demoted primary
//! offers its own position to the new one: if it wrote past the fork, everything it has is replaced.

use super::message::Command;
use super::values::{Hex, Offset, ReplId};
use crate::contract::ChaCha8Rng;
use alloc::collections::VecDeque;

/// Where a node stands: its history and the recent part of it that it can still send.
#[derive(Clone, Debug)]
pub struct History {
    /// The id.
    pub id: ReplId,
    /// The position.
    pub offset: Offset,
    /// The history before the last promotion, and the first byte that is no longer common.
    pub earlier: Option<(ReplId, Offset)>,
    /// Entries that can be sent again. A primary that never had a replica keeps none, and does not count bytes.
    pub backlog: Option<Backlog>,
}

impl History {
    /// The history of a new process.
    pub fn new(random: &mut ChaCha8Rng) -> History {
        History { id: new_id(random), offset: Offset(0), earlier: None, backlog: None }
    }

    /// The first replica came: what happened before is in no backlog, so it belongs to no history one could join.
    pub fn begin(&mut self, random: &mut ChaCha8Rng) {
        self.id = new_id(random);
        self.earlier = None;
        self.backlog = Some(Backlog::empty(self.offset));
    }

    /// This node is promoted: a new history, with the old one good up to here.
    pub fn fork(&mut self, random: &mut ChaCha8Rng) {
        self.earlier = Some((self.id, self.offset.plus(1)));
        self.id = new_id(random);
    }

    /// A full copy of a primary's history at `offset` takes the place of ours.
    pub fn adopt(&mut self, id: ReplId, offset: Offset) {
        *self = History { id, offset, earlier: None, backlog: Some(Backlog::empty(offset)) };
    }

    /// The primary goes on with our history, maybe under a new id.
    pub fn rename(&mut self, id: ReplId) {
        if id != self.id {
            self.earlier = Some((self.id, self.offset.plus(1)));
            self.id = id;
        }
    }

    /// The backlog is needed from now on; a demoted primary may not have had one.
    pub fn keep_backlog(&mut self) {
        let offset = self.offset;
        self.backlog.get_or_insert_with(|| Backlog::empty(offset));
    }

    /// Counts an entry and keeps it.
    pub fn record(&mut self, command: Command, bytes: u32, limit: u64) {
        self.offset = self.offset.plus(u64::from(bytes));
        if let Some(backlog) = &mut self.backlog {
            backlog.push(command, bytes, limit);
        }
    }

    /// Forgets the PINGs at the end of the stream, as if they had not been said ("meaningful offset").
    pub fn trim_pings(&mut self) {
        let Some(backlog) = &mut self.backlog else { return };
        while let Some((Command::Ping, bytes)) = backlog.entries.back() {
            let bytes = u64::from(*bytes);
            self.offset.0 -= bytes;
            backlog.bytes -= bytes;
            backlog.entries.pop_back();
        }
    }

    /// The entries from `wanted` on, if a replica that has history `id` up to there can go on with ours.
    pub fn resume(&self, id: ReplId, wanted: Offset) -> Option<impl Iterator<Item = &(Command, u32)>> {
        let ours = id == self.id;
        let before_fork = self.earlier.is_some_and(|(earlier, end)| id == earlier && wanted <= end);
        if !ours && !before_fork {
            return None;
        }
        self.backlog.as_ref()?.from(wanted)
    }
}

fn new_id(random: &mut ChaCha8Rng) -> ReplId {
    ReplId(Hex::random(random))
}

/// The recent entries of a history, limited in bytes.
#[derive(Clone, Debug)]
pub struct Backlog {
    /// The first byte that is kept; one past the end if there is none.
    first: Offset,
    bytes: u64,
    entries: VecDeque<(Command, u32)>,
}

impl Backlog {
    /// Nothing is kept of what came up to `offset`.
    fn empty(offset: Offset) -> Backlog {
        Backlog { first: offset.plus(1), bytes: 0, entries: VecDeque::new() }
    }

    /// The first byte that is kept.
    pub fn first(&self) -> Offset {
        self.first
    }

    fn push(&mut self, command: Command, bytes: u32, limit: u64) {
        self.entries.push_back((command, bytes));
        self.bytes += u64::from(bytes);
        while self.bytes > limit {
            let Some((_, oldest)) = self.entries.pop_front() else { break };
            self.bytes -= u64::from(oldest);
            self.first = self.first.plus(u64::from(oldest));
        }
    }

    /// The entries from the byte `wanted` on; none if it lies outside, or within an entry.
    fn from(&self, wanted: Offset) -> Option<impl Iterator<Item = &(Command, u32)>> {
        let mut skip = 0;
        let mut at = self.first;
        while at < wanted {
            at = at.plus(u64::from(self.entries.get(skip)?.1));
            skip += 1;
        }
        (at == wanted).then(|| self.entries.iter().skip(skip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::stream;
    use alloc::vec::Vec;

    const PING: u32 = 14;

    /// A primary with a backlog and `entries` PINGs in it.
    fn history(random: &mut ChaCha8Rng, entries: usize) -> History {
        let mut history = History::new(random);
        history.begin(random);
        for _ in 0..entries {
            history.record(Command::Ping, PING, 1 << 20);
        }
        history
    }

    fn resumed(history: &History, id: ReplId, wanted: u64) -> Option<usize> {
        history.resume(id, Offset(wanted)).map(|entries| entries.collect::<Vec<_>>().len())
    }

    #[test]
    fn a_replica_goes_on_from_the_byte_after_its_own() {
        let history = history(&mut stream(1, 0, 0, 0), 3);
        assert_eq!(history.offset, Offset(42));
        assert_eq!(resumed(&history, history.id, 43), Some(0));
        assert_eq!(resumed(&history, history.id, 15), Some(2));
        assert_eq!(resumed(&history, history.id, 1), Some(3));
    }

    #[test]
    fn a_position_ahead_or_in_the_middle_of_an_entry_is_refused() {
        let history = history(&mut stream(1, 0, 0, 0), 3);
        assert_eq!(resumed(&history, history.id, 44), None);
        assert_eq!(resumed(&history, history.id, 16), None);
    }

    #[test]
    fn an_unknown_history_is_refused() {
        let random = &mut stream(1, 0, 0, 0);
        let history = history(random, 3);
        assert_eq!(resumed(&history, new_id(random), 1), None);
    }

    #[test]
    fn the_earlier_history_counts_up_to_the_fork_only() {
        let random = &mut stream(1, 0, 0, 0);
        let mut history = history(random, 2);
        let old = history.id;
        history.fork(random);
        history.record(Command::Ping, PING, 1 << 20);
        assert_eq!(resumed(&history, old, 15), Some(2));
        assert_eq!(resumed(&history, old, 29), Some(1), "exactly at the fork");
        // An old primary that wrote one more entry than we ever saw.
        assert_eq!(resumed(&history, old, 43), None);
        assert_eq!(resumed(&history, history.id, 43), Some(0));
    }

    #[test]
    fn what_fell_out_of_the_backlog_needs_a_full_copy() {
        let random = &mut stream(1, 0, 0, 0);
        let mut history = History::new(random);
        history.begin(random);
        for _ in 0..10 {
            history.record(Command::Ping, PING, 3 * u64::from(PING));
        }
        assert_eq!(resumed(&history, history.id, 7 * 14 + 1), Some(3));
        assert_eq!(resumed(&history, history.id, 6 * 14 + 1), None);
    }

    #[test]
    fn trimmed_pings_are_offered_to_nobody() {
        let random = &mut stream(1, 0, 0, 0);
        let mut history = history(random, 1);
        history.record(Command::Select(0), 23, 1 << 20);
        history.record(Command::Ping, PING, 1 << 20);
        history.record(Command::Ping, PING, 1 << 20);
        history.trim_pings();
        assert_eq!(history.offset, Offset(37), "the PING before the write stays");
        assert_eq!(resumed(&history, history.id, 38), Some(0));
        assert_eq!(resumed(&history, history.id, 52), None, "a replica that heard the PINGs is ahead now");
    }

    #[test]
    fn a_new_id_of_the_primary_renames_the_history() {
        let random = &mut stream(1, 0, 0, 0);
        let mut history = history(random, 2);
        let (old, new) = (history.id, new_id(random));
        history.rename(new);
        assert_eq!((history.id, history.earlier), (new, Some((old, Offset(29)))));
        history.rename(new);
        assert_eq!(history.earlier, Some((old, Offset(29))), "the same id again changes nothing");
    }
}
