//! What the roles say to each other.

use super::anywhere;
use super::backup::{SourceMessage, StoreMessage};
use super::coordination::{Change, Command, LeaseId, Revision, Transaction, View};
use super::settings::NodeId;
use super::wal::{Entry, Lsn, Position, Term};
use crate::contract::*;
use crate::raft;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Any message of the system.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Message {
    /// A client asks a data node; answered by [`Message::Result`] with the same number.
    Query {
        /// The client's number for it.
        id: u64,
        /// What it wants.
        op: Op,
        /// What the client has seen, for causal reads.
        seen: Position,
    },
    /// A data node answers a client.
    Result {
        /// As in the query.
        id: u64,
        /// What came of it.
        result: Result<Outcome, Refusal>,
        /// How far the answering node's state reaches.
        at: Position,
    },
    /// Between data nodes.
    Peer(PeerMessage),
    /// A data node says that it lives (datagram).
    Heartbeat {
        /// Who.
        from: NodeId,
        /// Counts up; an overtaken beat is recognised and ignored.
        stamp: u64,
        /// Its term.
        term: Term,
        /// Its log.
        last: Position,
        /// It holds the primary's role.
        primary: bool,
    },
    /// The monitor asks a data node how it is (`GET /health`).
    Probe,
    /// The data node answers.
    Health {
        /// Its role.
        role: Role,
        /// Its term.
        term: Term,
        /// Its log.
        last: Position,
        /// Its disk has kept up with what was asked of it.
        disk_keeps_up: bool,
    },
    /// The monitor asks a replica when it last heard of the primary (`GET /seen`).
    SeenPrimary {
        /// The node that is doubted.
        node: NodeId,
    },
    /// The replica answers.
    LastContact {
        /// The node that is doubted.
        node: NodeId,
        /// Silence since; `None`: never heard of it.
        silence: Option<Duration>,
        /// The replica's log.
        last: Position,
    },
    /// The monitor orders a data node to give its role away, or to take the role (`POST /role`).
    Order(Order),
    /// To and from the coordination service.
    Coordination(CoordinationMessage),
    /// Between its members.
    Raft(raft::Message<Command, ()>),
    /// A client asks a router where the primary is, and is told of changes from then on.
    WhereIsPrimary,
    /// A router answers, or tells of a change.
    Route(Route),
    /// Switch a host's power off.
    Fence {
        /// The data node on it.
        node: NodeId,
    },
    /// It is off.
    Fenced {
        /// The data node on it.
        node: NodeId,
    },
    /// To and from the shared disk.
    Disk(DiskMessage),
    /// Between data nodes where every one of them takes writes, and with their clients.
    Anywhere(anywhere::Message),
    /// To and from the object store.
    Store(StoreMessage),
    /// Between a backup process and a data node.
    Source(SourceMessage),
    /// A primary pets its watchdog, or, no longer primary, disarms it.
    Pet {
        /// Armed from now on.
        armed: bool,
    },
}

/// To and from the shared disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum DiskMessage {
    /// A data node, clean and not primary, registers its key: it may write once it holds the lock.
    Register {
        /// Who.
        node: NodeId,
    },
    /// Take the lock of this epoch; granted if it is higher than any before.
    Lock {
        /// Who.
        node: NodeId,
        /// The epoch: the term.
        epoch: Term,
    },
    /// The answer, durable.
    Locked {
        /// Whether it was granted.
        granted: bool,
        /// The disk's epoch now.
        epoch: Term,
    },
    /// Remove another node's registration.
    Preempt {
        /// Whose.
        victim: NodeId,
    },
    /// Write log entries to their blocks.
    Write {
        /// Who.
        node: NodeId,
        /// Under which lock.
        epoch: Term,
        /// What; consecutive.
        entries: Arc<[Entry]>,
    },
    /// All blocks up to here are durable.
    Written {
        /// Up to here.
        upto: Lsn,
    },
    /// Reservation conflict: nothing was written.
    Conflict {
        /// The disk's epoch.
        epoch: Term,
    },
    /// What follows this entry; from the beginning, if the disk does not hold it.
    Read {
        /// The entry.
        previous: Position,
    },
    /// The answer: some of it.
    Blocks {
        /// The entry before the first.
        previous: Position,
        /// Entries.
        entries: Arc<[Entry]>,
        /// The last entry on the disk.
        last: Position,
    },
    /// Write a reset into a node's slot.
    Poison {
        /// Whose.
        victim: NodeId,
    },
    /// It is written.
    Poisoned {
        /// Whose.
        victim: NodeId,
    },
    /// Read a slot.
    Slot {
        /// Whose.
        node: NodeId,
    },
    /// The answer.
    SlotHolds {
        /// Somebody wrote a reset into it.
        reset: bool,
    },
    /// Empty a slot.
    ClearSlot {
        /// Whose.
        node: NodeId,
    },
}

impl DiskMessage {
    fn bytes(&self) -> usize {
        match self {
            DiskMessage::Write { entries, .. } | DiskMessage::Blocks { entries, .. } => {
                48 + entries.iter().map(|entry| entry.length() as usize).sum::<usize>()
            }
            // Slots are sectors.
            DiskMessage::Poison { .. } | DiskMessage::SlotHolds { .. } | DiskMessage::ClearSlot { .. } => {
                48 + 512
            }
            DiskMessage::Register { .. }
            | DiskMessage::Lock { .. }
            | DiskMessage::Locked { .. }
            | DiskMessage::Preempt { .. }
            | DiskMessage::Written { .. }
            | DiskMessage::Conflict { .. }
            | DiskMessage::Read { .. }
            | DiskMessage::Poisoned { .. }
            | DiskMessage::Slot { .. } => 48,
        }
    }
}

/// An order of the monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Order {
    /// Give the role away.
    Resign,
    /// Become primary of this term, whatever the log holds.
    Promote {
        /// The term.
        term: Term,
    },
    /// Run with this version of the configuration.
    Configure {
        /// Which.
        version: u32,
    },
    /// Another node is primary of this term.
    Follow {
        /// Who.
        primary: NodeId,
        /// Its term.
        term: Term,
    },
}

/// Why a data node did not do what a client asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Refusal {
    /// It is not the primary; this one may be.
    NotPrimary(Option<NodeId>),
    /// It is the primary and lacks what a write needs now; nothing was done.
    Unsafe,
    /// It began and cannot promise that it will last.
    Unknown,
    /// Too many clients are connected; nothing was done.
    Crowded,
}

/// Between data nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum PeerMessage {
    /// A replica asks its primary for what comes after its own last entry.
    Follow {
        /// Who.
        node: NodeId,
        /// Its term.
        term: Term,
        /// Its last entry, or an earlier one after a [`PeerMessage::Differs`].
        last: Position,
    },
    /// The primary does not have that entry; try what you have at or before this one.
    Differs {
        /// The primary's entry to try.
        hint: Position,
    },
    /// Entries.
    Append {
        /// The primary's term.
        term: Term,
        /// The entry before the first one.
        previous: Position,
        /// The entries; none: only the commit position is news.
        entries: Arc<[Entry]>,
        /// Everything up to here passed the primary's gate.
        commit: Lsn,
    },
    /// The replica's log is durable up to here.
    AppendAck {
        /// The replica's term.
        term: Term,
        /// Durable and equal to the primary's up to here.
        flushed: Lsn,
    },
    /// The sender is behind the receiver's term.
    Stale {
        /// The receiver's term.
        term: Term,
    },
    /// A candidate asks for a vote.
    VoteRequest {
        /// Its term.
        term: Term,
        /// Who.
        candidate: NodeId,
        /// Its log.
        last: Position,
    },
    /// The answer.
    Vote {
        /// The voter's term.
        term: Term,
        /// Who.
        from: NodeId,
        /// Whether it votes so, durably.
        granted: bool,
        /// The voter's log.
        last: Position,
    },
}

/// To and from the coordination service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum CoordinationMessage {
    /// A request.
    Request(Ask),
    /// A member passes a client's request on to the leader.
    Forwarded(Ask),
    /// Its answer.
    Reply {
        /// As in the request.
        client: u64,
        /// As in the request.
        sequence: u64,
        /// The answer.
        answer: Answer,
    },
    /// Keys changed; sent to those who watch.
    Changed(Changed),
}

/// A request to the coordination service. `client` and `sequence` name it: repeated under the same name it is not
/// done twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Ask {
    /// Who asks, in this life of its process.
    pub client: u64,
    /// Its number.
    pub sequence: u64,
    /// What.
    pub body: Body,
}

/// What can be asked of the coordination service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Body {
    /// A lease for this long.
    Grant {
        /// Time to live.
        ttl: Duration,
    },
    /// Begin the lease's time anew.
    KeepAlive {
        /// Which.
        lease: LeaseId,
    },
    /// End the lease and delete its keys.
    Revoke {
        /// Which.
        lease: LeaseId,
    },
    /// Compare, then put and delete.
    Transact(Transaction),
    /// All keys, confirmed by a quorum.
    Get,
    /// All keys as this member has them, and every change from then on.
    Watch,
}

/// An answer of the coordination service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Answer {
    /// The lease begins.
    Granted {
        /// Its name.
        lease: LeaseId,
    },
    /// The lease's time began anew.
    Alive,
    /// There is no such lease (any more).
    Gone,
    /// It ended.
    Revoked,
    /// All comparisons held, and it is done.
    Committed {
        /// Revision of the change.
        revision: Revision,
    },
    /// A comparison did not hold; nothing changed.
    Refused,
    /// All keys.
    View(View),
    /// Nobody knows whether it was done: repeat it under the same name.
    Ambiguous,
}

/// One revision's changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Changed {
    /// Which revision.
    pub revision: Revision,
    /// What changed in it.
    pub changes: Vec<Change>,
}

/// Where the primary is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Route {
    /// Term of the primary: a route of a lower one is out of date.
    pub term: Term,
    /// The primary, if there is one.
    pub primary: Option<NodeId>,
}

impl Message {
    /// Bytes on the wire. Framing: 8 for the system's own exchanges, 9 + 5 for HTTP/2 and gRPC towards the coordination
    /// service, about 120 for an HTTP/1.1 exchange's headers.
    pub fn wire_size(&self) -> usize {
        match self {
            Message::Query { op, .. } => 40 + op_bytes(op),
            Message::Result { result, .. } => 40 + result.as_ref().map_or(2, outcome_bytes),
            Message::Peer(message) => 8 + message.bytes(),
            Message::Heartbeat { .. } => 42,
            Message::Probe | Message::SeenPrimary { .. } | Message::Order(_) => 120,
            Message::Health { .. } | Message::LastContact { .. } => 160,
            Message::Coordination(message) => 14 + message.bytes(),
            Message::Raft(message) => message.wire_size(Command::bytes, |()| 0),
            Message::WhereIsPrimary => 12,
            Message::Route(_) => 25,
            Message::Fence { .. } | Message::Fenced { .. } => 64,
            Message::Disk(message) => message.bytes(),
            Message::Anywhere(message) => message.bytes(),
            Message::Store(message) => message.bytes(),
            Message::Source(message) => message.bytes(),
            Message::Pet { .. } => 1,
        }
    }
}

pub(super) fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Read { .. } | Op::ReadAt { .. } => 5,
        Op::Append { bytes, .. } | Op::Write { bytes, .. } => 13 + *bytes as usize,
        Op::Cas { .. } => 21,
        Op::Command { words, .. } => words.len(),
    }
}

pub(super) fn outcome_bytes(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::List(list) | Outcome::Audit { list, .. } => 8 * list.len(),
        Outcome::Text(text) => text.len(),
        Outcome::Done
        | Outcome::Version(_)
        | Outcome::Value(_)
        | Outcome::Mismatch(_)
        | Outcome::Fail(_)
        | Outcome::Unknown(_) => 9,
    }
}

impl PeerMessage {
    fn bytes(&self) -> usize {
        match self {
            PeerMessage::Append { entries, .. } => {
                32 + entries.iter().map(|entry| entry.length() as usize).sum::<usize>()
            }
            PeerMessage::Follow { .. }
            | PeerMessage::Differs { .. }
            | PeerMessage::AppendAck { .. }
            | PeerMessage::Stale { .. }
            | PeerMessage::VoteRequest { .. }
            | PeerMessage::Vote { .. } => 26,
        }
    }
}

impl CoordinationMessage {
    fn bytes(&self) -> usize {
        match self {
            CoordinationMessage::Request(ask) | CoordinationMessage::Forwarded(ask) => match &ask.body {
                Body::Transact(transaction) => 24 + 24 * transaction.puts.len(),
                Body::Grant { .. }
                | Body::KeepAlive { .. }
                | Body::Revoke { .. }
                | Body::Get
                | Body::Watch => 24,
            },
            CoordinationMessage::Reply { answer: Answer::View(_), .. } => 200,
            CoordinationMessage::Reply { .. } => 32,
            CoordinationMessage::Changed(changed) => 24 + 32 * changed.changes.len(),
        }
    }
}
