//! What members of a Raft group say to each other, and the words they need for it.

use super::Member;
use alloc::sync::Arc;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A term: numbers leaderships, never reused (thesis §3.3).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Term(pub u64);

/// A place in the log; the first entry has index 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Index(pub u64);

impl Index {
    /// The index after this one.
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }

    /// The index before this one; zero has none before it.
    pub fn before(self) -> Index {
        Index(self.0.saturating_sub(1))
    }
}

/// How far a log reaches: the term of its last entry decides before its length (thesis §3.6.1), which is the order
/// of the fields here.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Position {
    /// Term of the entry.
    pub term: Term,
    /// Index of the entry.
    pub index: Index,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry<C> {
    /// Where it stands, and the term of the leader that put it there.
    pub at: Position,
    /// What it says.
    pub payload: Payload<C>,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Payload<C> {
    /// The first entry of each leader: commits everything before it (thesis §6.4).
    Noop,
    /// A command for the state machine.
    Command(C),
    /// The members of the group from this entry on, in force as soon as it is in the log (thesis §4.1).
    Members(Vec<Member>),
}

/// The state machine at some index, in place of the log up to there (thesis §5).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Snapshot<P> {
    /// The last entry that it covers.
    pub at: Position,
    /// Members of the group at that entry.
    pub members: Vec<Member>,
    /// The state machine.
    pub state: P,
}

/// A message between members. Requests travel on the session that their sender dialled, replies come back on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message<C, P> {
    /// A member that misses its leader asks whether it would be elected, without disturbing anyone (thesis §9.6).
    PreVote {
        /// The term it would stand in.
        term: Term,
        /// Who asks.
        candidate: Member,
        /// How far its log reaches.
        last: Position,
    },
    /// The answer to [`Message::PreVote`].
    PreVoteReply {
        /// The term of the voter, or the asked one if granted.
        term: Term,
        /// Who answers.
        from: Member,
        /// It would vote so.
        granted: bool,
    },
    /// A candidate asks for a vote (thesis §3.4).
    Vote {
        /// The term it stands in.
        term: Term,
        /// Who stands.
        candidate: Member,
        /// How far its log reaches.
        last: Position,
        /// The old leader asked for this election, so nobody shall object that there is a leader (thesis §4.2.3).
        transfer: bool,
    },
    /// The answer to [`Message::Vote`].
    VoteReply {
        /// The voter's term.
        term: Term,
        /// Who answers.
        from: Member,
        /// It voted so, durably.
        granted: bool,
    },
    /// A leader replicates, or, with no entries, says that it lives (thesis §3.5).
    Append {
        /// The leader's term.
        term: Term,
        /// Who leads.
        leader: Member,
        /// The entry just before `entries`; the receiver must have it.
        previous: Position,
        /// What follows.
        entries: Vec<Entry<C>>,
        /// The leader's commit index.
        commit: Index,
        /// Counts the leader's rounds of confirmation for reads (thesis §6.4).
        round: u64,
    },
    /// The answer to [`Message::Append`].
    AppendReply {
        /// The receiver's term.
        term: Term,
        /// Who answers.
        from: Member,
        /// Its log agrees with the leader's, durably, up to here; or why not.
        result: Result<Index, Conflict>,
        /// The round of the request.
        round: u64,
    },
    /// A leader has no longer the entries that a member lacks and sends its state instead (thesis §5.1).
    Install {
        /// The leader's term.
        term: Term,
        /// Who leads.
        leader: Member,
        /// The state.
        snapshot: Arc<Snapshot<P>>,
    },
    /// A leader that gives up asks the member with the whole log to stand at once (thesis §3.10).
    TimeoutNow {
        /// The leader's term.
        term: Term,
    },
}

/// Why an append did not fit: lets the leader skip a whole term of the receiver at once (thesis §3.5, end).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conflict {
    /// The receiver's last entry that may agree: nothing after it does.
    pub maybe: Index,
}

impl<C, P> Message<C, P> {
    /// The sender's term.
    pub fn term(&self) -> Term {
        match self {
            Message::PreVote { term, .. }
            | Message::PreVoteReply { term, .. }
            | Message::Vote { term, .. }
            | Message::VoteReply { term, .. }
            | Message::Append { term, .. }
            | Message::AppendReply { term, .. }
            | Message::Install { term, .. }
            | Message::TimeoutNow { term } => *term,
        }
    }

    /// Bytes on the wire: 39 of header as NuRaft's (type, source, destination, terms, indexes), 13 an entry's frame,
    /// and the payloads by the given measures.
    pub fn wire_size(&self, command: impl Fn(&C) -> usize, state: impl Fn(&P) -> usize) -> usize {
        let body = match self {
            Message::Append { entries, .. } => entries
                .iter()
                .map(|entry| match &entry.payload {
                    Payload::Noop => 13,
                    Payload::Command(c) => 13 + command(c),
                    Payload::Members(members) => 13 + 2 * members.len(),
                })
                .sum(),
            Message::Install { snapshot, .. } => 24 + state(&snapshot.state),
            _ => 0,
        };
        39 + body
    }
}

/// What a member keeps on disk, one value a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record<C, P> {
    /// The only record of the file [`super::VOTE_FILE`].
    Vote {
        /// Newest term seen.
        term: Term,
        /// Whom we voted for in it.
        vote: Option<Member>,
    },
    /// Only the first record of [`super::LOG_FILE`] can be this: what remained of the log after a compaction.
    Base {
        /// The entry just before the first one.
        previous: Position,
        /// The entries.
        entries: Vec<Entry<C>>,
    },
    /// Any other record of [`super::LOG_FILE`].
    Entry(Entry<C>),
    /// The only record of [`super::SNAPSHOT_FILE`].
    Snapshot(Arc<Snapshot<P>>),
}
