//! Change data capture: a reader that follows the log from a saved position.
//!
//! It delivers every entry at least once and drops what it has delivered already, by position. A log that was cut and
//! written anew by another primary is noticed by the term at the saved position. The form that polls by time is here
//! too, to show what it misses.

use super::wal::{Entry, Lsn, Position, Wal};
use alloc::vec::Vec;

/// What a reader did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Entries given on.
    pub delivered: u64,
    /// Entries seen again and dropped.
    pub duplicates: u64,
    /// Entries that were never seen.
    pub gaps: u64,
}

/// A reader.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// Everything up to here was given on; saved with what was given on.
    saved: Position,
    /// What it did.
    pub counters: Counters,
}

/// The log no longer has the entry that the reader stopped at: what it gave on since the fork must be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forked {
    /// Where it stopped.
    pub stopped_at: Position,
}

impl Reader {
    /// Goes on from a saved position.
    pub fn resume(saved: Position) -> Self {
        Reader { saved, counters: Counters::default() }
    }

    /// The position to save.
    pub fn position(&self) -> Position {
        self.saved
    }

    /// Reads what is committed behind the saved position.
    ///
    /// # Errors
    /// The log was cut below the saved position and written anew.
    pub fn read(&mut self, wal: &Wal, commit: Lsn) -> Result<Vec<Entry>, Forked> {
        if !wal.matches(self.saved) {
            return Err(Forked { stopped_at: self.saved });
        }
        let count = commit.0.saturating_sub(self.saved.lsn.0) as usize;
        let news = wal.from(self.saved.lsn.next(), count).to_vec();
        self.take(&news);
        Ok(news)
    }

    /// Takes a batch that a transport may have repeated; gives what is new in it.
    pub fn take(&mut self, batch: &[Entry]) -> Vec<Entry> {
        let mut news = Vec::new();
        for entry in batch {
            if entry.position.lsn <= self.saved.lsn {
                self.counters.duplicates += 1;
                continue;
            }
            self.counters.gaps += entry.position.lsn.0 - self.saved.lsn.0 - 1;
            self.counters.delivered += 1;
            self.saved = entry.position;
            news.push(entry.clone());
        }
        news
    }
}

/// The other form: asks for entries stamped later than the newest stamp it has seen. Entries that share a stamp, or
/// were committed late under an early one, are never seen.
pub fn poll_by_time(stamped: &[(u64, Entry)], newest_seen: &mut u64) -> Vec<Entry> {
    let news: Vec<_> = stamped.iter().filter(|(at, _)| *at > *newest_seen).collect();
    *newest_seen = news.iter().map(|(at, _)| *at).max().unwrap_or(*newest_seen);
    news.into_iter().map(|(_, entry)| entry.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::settings::NodeId;
    use crate::agent::wal::{Content, Term};
    use crate::contract::WallTime;

    fn entry(term: u64, lsn: u64) -> Entry {
        let position = Position { term: Term(term), lsn: Lsn(lsn) };
        Entry { position, at: WallTime(0), content: Content::TermStart { by: NodeId(1) } }
    }

    fn wal(terms: &[u64]) -> Wal {
        let mut wal = Wal::default();
        terms.iter().enumerate().for_each(|(at, term)| wal.append(entry(*term, at as u64 + 1)));
        wal
    }

    #[test]
    fn a_restarted_reader_goes_on_where_it_saved_and_drops_what_is_repeated() {
        let wal = wal(&[1, 1, 1, 1]);
        let mut reader = Reader::default();
        assert_eq!(reader.read(&wal, Lsn(2)).map(|news| news.len()), Ok(2));
        let mut again = Reader::resume(reader.position());
        assert_eq!(again.take(&[entry(1, 1), entry(1, 2), entry(1, 3)]).len(), 1);
        assert_eq!(again.counters, Counters { delivered: 1, duplicates: 2, gaps: 0 });
        again.take(&[entry(1, 6)]);
        assert_eq!(again.counters.gaps, 2);
    }

    #[test]
    fn only_committed_entries_are_given_on_and_a_cut_log_is_noticed() {
        let mut reader = Reader::default();
        reader.read(&wal(&[1, 1, 1]), Lsn(3)).expect("matches");
        let other = wal(&[1, 1, 2, 2]);
        let stopped_at = Position { term: Term(1), lsn: Lsn(3) };
        assert_eq!(reader.read(&other, Lsn(4)), Err(Forked { stopped_at }));
        assert_eq!(Reader::default().read(&other, Lsn(1)).map(|news| news.len()), Ok(1));
    }

    #[test]
    fn polling_by_time_misses_what_shares_a_stamp() {
        let mut newest = 0;
        assert_eq!(poll_by_time(&[(10, entry(1, 1))], &mut newest).len(), 1);
        let later = [(10, entry(1, 1)), (10, entry(1, 2)), (9, entry(1, 3)), (11, entry(1, 4))];
        assert_eq!(poll_by_time(&later, &mut newest).len(), 1, "two of three new entries are never seen");
    }
}
