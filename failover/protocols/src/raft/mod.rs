//! Raft, as a part that other nodes embed.
//!
//! Source: Diego Ongaro, *Consensus: Bridging Theory and Practice*, Stanford 2014 (the thesis); sections are cited at
//! the rules. Also here: PreVote (§9.6), a leader that steps down without a quorum (CheckQuorum, §6.2), reads confirmed
//! by a round of heartbeats (§6.4), snapshots (§5), one-member changes of the group (§4.1), leadership transfer
//! (§3.10).
//!
//! Assumed: members may crash and return with their disk; messages may be lost or late; clocks decide only *when*
//! something is tried. Promised: at most one leader a term; committed entries stay, in the same order, on all members.
//!
//! A [`Raft`] is not a node. The node that embeds it says once, in an [`Embed`], how Raft's messages, timers and
//! records travel among its own, hands over the events that are Raft's, and after each of them takes out what happened:
//!
//! ```ignore
//! struct Store;                                    // names the types; see `raft::service` for a whole node
//! impl Embed for Store { type System = MySystem; type Command = Change; type State = Image; ... }
//!
//! fn start(&mut self, cx, disk) {
//!     self.raft.start(cx, disk);                   // reads its files, sets its timers
//!     self.after_raft(cx);
//! }
//! fn on_message(&mut self, cx, session, message) {
//!     match message {
//!         Message::Raft(m) => self.raft.on_message(cx, session, m),
//!         Message::Put(change) => if self.raft.propose(cx, ticket, change).is_err() { /* not leader: say so */ },
//!     }
//!     self.after_raft(cx);
//! }
//! fn after_raft(&mut self, cx) {
//!     while let Some(event) = self.raft.next_event() {
//!         match event {
//!             Event::Apply { command, .. } => self.state.apply(command),
//!             Event::Restore { state, .. } => self.state = state,
//!             Event::Committed { ticket } => ...,  // our proposal: its Event::Apply came just before
//!             Event::Ambiguous { ticket } => ...,  // timed out or leadership lost: it may still commit later
//!             Event::Readable { ticket } => ...,   // now `self.state` answers the read, linearizably
//!             Event::Leading { .. } => ...,        // leader, and everything older is applied
//!             Event::Following { .. } => ...,      // no longer leader, if we were
//!             Event::Suspecting { .. } | Event::Standing { .. } | Event::Elected { .. } => {}
//!         }
//!     }
//! }
//! ```
//!
//! Sessions: Raft dials its peers by itself and owns those sessions ([`Raft::owns`]): `on_open` and `on_close` of them
//! are its own. Requests that peers send on sessions they dialled go to [`Raft::on_message`] too; the answer leaves on
//! the same session. `on_synced` goes to [`Raft::on_synced`] always; it ignores tokens that are not its own.

mod election;
mod links;
mod log;
mod members;
mod message;
pub mod quirks;
mod replication;
pub mod service;

pub use message::{Conflict, Entry, Index, Message, Payload, Position, Record, Snapshot, Term};

use crate::contract::*;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::hash::Hash;
use links::Links;
use log::Log;
use serde::{Serialize, de::DeserializeOwned};

/// File of the term and vote.
pub const VOTE_FILE: &str = "raft-vote";
/// File of the log.
pub const LOG_FILE: &str = "raft-log";
/// File of the newest snapshot.
pub const SNAPSHOT_FILE: &str = "raft-snapshot";

/// A member of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Member(pub u16);

/// Raft's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A follower or candidate has waited long enough.
    Election,
    /// A leader's beat.
    Heartbeat,
    /// The oldest proposal or read may have waited long enough.
    Request,
}

/// How Raft travels inside a system: which of the system's messages, timers and records are Raft's.
pub trait Embed: 'static {
    /// The system it is embedded in.
    type System: System;
    /// A command of the state machine.
    type Command: Clone + Debug + Eq + Hash + Serialize + DeserializeOwned + 'static;
    /// The whole state machine, for snapshots; `()` where none are taken.
    type State: Clone + Debug + Eq + Hash + Serialize + DeserializeOwned + 'static;
    /// The kind of the sessions between members.
    const KIND: <Self::System as System>::Kind;
    /// Wraps a message.
    fn message(message: Message<Self::Command, Self::State>) -> <Self::System as System>::Message;
    /// Wraps a timer.
    fn timer(timer: Timer) -> <Self::System as System>::Timer;
    /// Wraps a record.
    fn record(record: Record<Self::Command, Self::State>) -> <Self::System as System>::Record;
    /// Unwraps a record; `None` if it is not Raft's.
    fn unwrap(record: &<Self::System as System>::Record) -> Option<&Record<Self::Command, Self::State>>;
}

/// Times and switches. The defaults are those of NuRaft as Memgraph sets it since v2.19.
#[derive(Clone, Debug)]
pub struct Config {
    /// Interval of a leader's heartbeats.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout. The timeout is drawn anew each time, so that split votes are rare (thesis §3.4).
    pub election_max: Duration,
    /// A leader that hears no quorum for this long steps down (thesis §6.2). `None`: it stays until it meets a
    /// higher term.
    pub leadership_expiry: Option<Duration>,
    /// A member that misses its leader asks first whether it could win (thesis §9.6).
    pub pre_vote: bool,
    /// A proposal or read that takes longer is reported ambiguous.
    pub request_timeout: Duration,
    /// A peer that owes an answer, or a dial that hangs, for this long loses its session and is dialled again.
    pub response_limit: Duration,
    /// Entries in one message at most.
    pub batch_max: usize,
    /// Who is in the group is on disk with everything else (thesis §4.1). If not, a member that restarts knows only itself,
    /// and leads itself.
    pub stores_group: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            heartbeat: Duration::from_millis(1000),
            election_min: Duration::from_millis(2000),
            election_max: Duration::from_millis(4000),
            leadership_expiry: Some(Duration::from_millis(2000)),
            pre_vote: true,
            request_timeout: Duration::from_millis(3000),
            response_limit: Duration::from_millis(2000),
            batch_max: 64,
            stores_group: true,
        }
    }
}

/// What happened, for the node around it. Each is to be handled in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<C, P> {
    /// The next committed command.
    Apply {
        /// Its place.
        at: Position,
        /// The command.
        command: C,
    },
    /// In place of all commands up to `at`: this state.
    Restore {
        /// The last entry it covers.
        at: Position,
        /// The state machine.
        state: P,
    },
    /// Our proposal was committed, and its [`Event::Apply`] came just before this.
    Committed {
        /// As given to `propose`.
        ticket: u64,
    },
    /// Our proposal or read was not confirmed in time, or our leadership ended first. A proposal may still commit.
    Ambiguous {
        /// As given to `propose` or `read`.
        ticket: u64,
    },
    /// The state machine is now at least as new as when the read was asked for.
    Readable {
        /// As given to `read`.
        ticket: u64,
    },
    /// We won an election. Entries of earlier terms may still be unapplied.
    Elected {
        /// In this term.
        term: Term,
    },
    /// Our first entry is committed, so everything older is applied.
    Leading {
        /// In this term.
        term: Term,
    },
    /// We miss this leader and ask whether we would win an election.
    Suspecting {
        /// The leader that was last known.
        leader: Option<Member>,
    },
    /// We stand for election.
    Standing {
        /// In this term.
        term: Term,
    },
    /// We follow from now on.
    Following {
        /// In this term.
        term: Term,
        /// The leader, once known.
        leader: Option<Member>,
    },
}

/// Only the leader can do that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLeader {
    /// Who leads, as far as we know.
    pub leader: Option<Member>,
}

type RaftMessage<E> = Message<<E as Embed>::Command, <E as Embed>::State>;

/// What we are in the current term (thesis figure 3.3).
#[derive(Debug)]
enum Role {
    Follower,
    /// Asking whether we would be elected.
    PreCandidate {
        yes: BTreeSet<Member>,
    },
    /// Standing; our own vote is among them once it is durable.
    Candidate {
        yes: BTreeSet<Member>,
        transfer: bool,
    },
    Leader(Lead),
}

/// What only a leader keeps (thesis figure 3.1, "volatile state on leaders").
#[derive(Debug)]
struct Lead {
    progress: BTreeMap<Member, Progress>,
    /// The first entry of our term.
    first: Index,
    /// Said [`Event::Leading`] already.
    ready: bool,
    /// Current round of confirmation.
    round: u64,
    reads: VecDeque<Read>,
    proposals: VecDeque<Proposal>,
}

/// What a leader knows of one member.
#[derive(Debug)]
struct Progress {
    next: Index,
    matched: Index,
    /// When it last answered.
    contact: LocalTime,
    /// When the request was sent that it has not answered yet. One at a time: the next carries all that is new.
    waiting: Option<LocalTime>,
    round_sent: u64,
    commit_sent: Index,
    round_acked: u64,
}

#[derive(Debug)]
struct Read {
    ticket: u64,
    round: u64,
    index: Index,
    deadline: LocalTime,
}

#[derive(Debug)]
struct Proposal {
    ticket: u64,
    index: Index,
    deadline: LocalTime,
}

/// What a sync in progress will make durable.
#[derive(Debug)]
enum Syncing {
    Vote,
    Log(Index),
    Snapshot,
}

/// One member of a Raft group.
#[derive(Debug)]
pub struct Raft<E: Embed> {
    config: Config,
    me: Member,
    /// Persistent, in [`VOTE_FILE`].
    term: Term,
    /// Persistent, in [`VOTE_FILE`].
    vote: Option<Member>,
    /// Persistent, in [`LOG_FILE`].
    log: Log<E::Command>,
    /// Persistent, in [`SNAPSHOT_FILE`].
    snapshot: Option<Arc<Snapshot<E::State>>>,
    /// The group before any entry or snapshot says otherwise.
    founders: Vec<Member>,
    /// The group now.
    members: Vec<Member>,
    /// Restarted without knowledge of the group ([`Config::stores_group`]).
    alone: bool,
    role: Role,
    leader: Option<Member>,
    /// When we last heard from a leader.
    heard: Option<LocalTime>,
    /// How long we wait for one, as drawn last.
    patience: Duration,
    commit: Index,
    applied: Index,
    /// Our own log is durable up to here.
    durable: Index,
    syncs: Vec<(Token, Syncing)>,
    /// A snapshot took the place of the log in memory, and is not durable yet: the file still holds the old log.
    detached: bool,
    /// Replies that wait until nothing is being synced: what they say must survive us.
    held: Vec<(SessionId, RaftMessage<E>)>,
    links: Links<E>,
    events: VecDeque<Event<E::Command, E::State>>,
}

impl<E: Embed> Raft<E> {
    /// A member `me` of the group `founders`. `addresses` is the address book of everyone who may ever be a member.
    pub fn new(
        config: Config,
        me: Member,
        founders: Vec<Member>,
        addresses: BTreeMap<Member, Endpoint>,
    ) -> Self {
        Raft {
            links: Links::new(addresses, config.response_limit),
            config,
            me,
            term: Term(0),
            vote: None,
            log: Log::recover::<E::State>(core::iter::empty()),
            snapshot: None,
            members: founders.clone(),
            alone: false,
            founders,
            role: Role::Follower,
            leader: None,
            heard: None,
            patience: Duration::ZERO,
            commit: Index(0),
            applied: Index(0),
            durable: Index(0),
            syncs: Vec::new(),
            detached: false,
            held: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// Reads what earlier incarnations left and begins as a follower.
    pub fn start(&mut self, cx: &mut Cx<'_, E::System>, disk: &DiskImage<E::System>) {
        let records = |file: &'static str| disk.records(file).iter().filter_map(E::unwrap).cloned();
        if let Some(Record::Vote { term, vote }) = records(VOTE_FILE).last() {
            (self.term, self.vote) = (term, vote);
        }
        self.log = Log::recover(records(LOG_FILE));
        if let Some(Record::Snapshot(snapshot)) = records(SNAPSHOT_FILE).last() {
            self.recover_snapshot(cx, snapshot);
        }
        // An entry of a newer term than the one on file was accepted in that term.
        self.term = self.term.max(self.log.last().term);
        self.durable = self.log.last().index;
        self.alone = !self.config.stores_group && self.term > Term(0);
        self.recall_members();
        self.rest(cx);
    }

    /// Whether Raft dialled this session, so that its `on_open` and `on_close` are for Raft.
    pub fn owns(&self, session: SessionId) -> bool {
        self.links.owner(session).is_some()
    }

    /// A session that we own is open. Others are ignored.
    pub fn on_open(&mut self, cx: &mut Cx<'_, E::System>, session: SessionId) {
        let Some(peer) = self.links.opened(session) else { return };
        match self.role {
            Role::Leader(_) => self.replicate_to(cx, peer),
            Role::PreCandidate { .. } | Role::Candidate { .. } => self.ask_vote_of(cx, peer),
            Role::Follower => {}
        }
    }

    /// A session that we own ended. Others are ignored.
    pub fn on_close(&mut self, _cx: &mut Cx<'_, E::System>, session: SessionId) {
        // Dialled again at the next beat or election: a reason to speak is a reason to dial.
        if let Some(peer) = self.links.closed(session)
            && let Role::Leader(lead) = &mut self.role
            && let Some(progress) = lead.progress.get_mut(&peer)
        {
            progress.waiting = None;
        }
    }

    /// A message from a member, on whatever session.
    pub fn on_message(&mut self, cx: &mut Cx<'_, E::System>, session: SessionId, message: RaftMessage<E>) {
        match message {
            Message::PreVote { term, candidate, last } => {
                self.on_pre_vote(cx, session, term, candidate, last)
            }
            Message::PreVoteReply { term, from, granted } => self.on_pre_vote_reply(cx, term, from, granted),
            Message::Vote { term, candidate, last, transfer } => {
                self.on_vote(cx, session, term, candidate, last, transfer)
            }
            Message::VoteReply { term, from, granted } => self.on_vote_reply(cx, term, from, granted),
            Message::Append { term, leader, previous, entries, commit, round } => {
                let result = self.on_append(cx, term, leader, previous, entries, commit);
                let reply = Message::AppendReply { term: self.term, from: self.me, result, round };
                self.reply(cx, session, reply);
            }
            Message::AppendReply { term, from, result, round } => {
                self.on_append_reply(cx, term, from, result, round)
            }
            Message::Install { term, leader, snapshot } => {
                self.on_install(cx, session, term, leader, snapshot)
            }
            Message::TimeoutNow { term } => self.on_timeout_now(cx, term),
        }
    }

    /// One of Raft's timers came due.
    pub fn on_timer(&mut self, cx: &mut Cx<'_, E::System>, timer: Timer) {
        match timer {
            Timer::Election => self.on_election_timeout(cx),
            Timer::Heartbeat => self.on_heartbeat(cx),
            Timer::Request => self.on_request_timeout(cx),
        }
    }

    /// A sync ended; those of others are ignored. A member whose disk failed does not know what it promised, so its
    /// process ends.
    pub fn on_synced(&mut self, cx: &mut Cx<'_, E::System>, token: Token, result: Result<(), DiskError>) {
        let Some(at) = self.syncs.iter().position(|(t, _)| *t == token) else { return };
        let (_, synced) = self.syncs.remove(at);
        if result.is_err() {
            cx.note(|| alloc::format!("raft: member {} cannot store {synced:?} and ends", self.me.0));
            return cx.exit();
        }
        match synced {
            Syncing::Vote => {}
            Syncing::Log(last) => self.durable = self.durable.max(last),
            Syncing::Snapshot => self.compact_log(cx),
        }
        if self.syncs.is_empty() {
            for (session, message) in core::mem::take(&mut self.held) {
                cx.send(session, E::message(message));
            }
            self.campaign(cx);
        }
        self.advance_commit(cx);
    }

    /// What happened since; call until `None` after each handler.
    pub fn next_event(&mut self) -> Option<Event<E::Command, E::State>> {
        self.events.pop_front()
    }

    /// We lead the current term.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// We stand for election, or ask whether to.
    pub fn is_candidate(&self) -> bool {
        matches!(self.role, Role::PreCandidate { .. } | Role::Candidate { .. })
    }

    /// The leader of the current term, if known; ourselves if we lead.
    pub fn leader(&self) -> Option<Member> {
        self.leader
    }

    /// Who we are.
    pub fn me(&self) -> Member {
        self.me
    }

    /// The current term.
    pub fn term(&self) -> Term {
        self.term
    }

    /// The group now.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// How far the log reaches.
    pub fn last(&self) -> Position {
        self.log.last()
    }

    /// Entries up to here are known to be committed.
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// The end of the newest snapshot.
    pub fn base(&self) -> Position {
        self.log.base()
    }

    /// More than half of the group.
    fn quorum(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// Sends a reply once everything we did before is durable: votes, terms and entries must survive us before
    /// anyone counts on them (thesis §3.8).
    fn reply(&mut self, cx: &mut Cx<'_, E::System>, session: SessionId, message: RaftMessage<E>) {
        if self.syncs.is_empty() {
            cx.send(session, E::message(message));
        } else {
            self.held.push((session, message));
        }
    }

    /// Writes term and vote.
    fn save_vote(&mut self, cx: &mut Cx<'_, E::System>) {
        cx.replace(VOTE_FILE, E::record(Record::Vote { term: self.term, vote: self.vote }));
        let token = cx.sync(VOTE_FILE);
        self.syncs.push((token, Syncing::Vote));
    }

    /// Makes what was written to the log durable.
    fn sync_log(&mut self, cx: &mut Cx<'_, E::System>) {
        let token = cx.sync(LOG_FILE);
        self.syncs.push((token, Syncing::Log(self.log.last().index)));
    }

    /// Enters a newer term as a follower (thesis §3.3).
    fn enter_term(&mut self, cx: &mut Cx<'_, E::System>, term: Term) {
        assert!(term > self.term, "terms only grow");
        self.term = term;
        self.vote = None;
        self.save_vote(cx);
        self.step_down(cx, None);
    }

    /// Becomes a follower of `leader` in the current term.
    fn step_down(&mut self, cx: &mut Cx<'_, E::System>, leader: Option<Member>) {
        let before = core::mem::replace(&mut self.role, Role::Follower);
        if let Role::Leader(lead) = before {
            cx.cancel_timer(E::timer(Timer::Heartbeat));
            cx.cancel_timer(E::timer(Timer::Request));
            // What we proposed may be committed by our successor: nobody knows yet.
            let proposals = lead.proposals.iter().map(|p| p.ticket);
            let tickets = proposals.chain(lead.reads.iter().map(|r| r.ticket));
            self.events.extend(tickets.map(|ticket| Event::Ambiguous { ticket }));
        }
        self.leader = leader;
        self.events.push_back(Event::Following { term: self.term, leader });
        self.rest(cx);
    }

    /// Waits for a leader, for a time drawn anew (thesis §3.4).
    fn rest(&mut self, cx: &mut Cx<'_, E::System>) {
        self.patience = cx.random().duration(self.config.election_min, self.config.election_max);
        cx.set_timer(E::timer(Timer::Election), self.patience);
    }
}
