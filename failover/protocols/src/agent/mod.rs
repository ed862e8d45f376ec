//! Graph agents: a replicated property graph whose primary holds a lease, with everything around it that a published
//! recipe for highly available graph agents asks for (leases, witness, fencing, backups, a second region).
//!
//! Roles: data nodes ([`node`]: one primary, the others replicas, a write-ahead log each), the coordination service
//! ([`coordination`]: keys, leases and watches on Raft, in the manner of etcd), the health [`monitor`], the [`router`]
//! that clients ask for the primary, the power switch ([`fencer`]), the shared [`disk`] with its [`slots`], and the
//! [`client`]. [`anywhere`] is the other kind of cluster: every node takes writes, and copies merge.
//!
//! Read [`states`] and [`lease`] first: they are tables and arithmetic; then [`node::gate`](node), the one place where
//! a write may be acknowledged.

pub mod anywhere;
pub mod backup;
pub mod cdc;
pub mod cdc_reader;
pub mod client;
pub mod coordination;
pub mod disk;
pub mod fencer;
pub mod intruder;
pub mod lease;
mod message;
pub mod monitor;
pub mod node;
pub mod quirks;
pub mod rollout;
pub mod router;
pub mod settings;
pub mod slots;
pub mod states;
pub mod verbs;
pub mod versions;
pub mod wal;
pub mod watchdog;

pub use message::{
    Answer, Ask, Body, Changed, CoordinationMessage, DiskMessage, Message, PeerMessage, Refusal, Route,
};
pub use settings::{NodeId, Settings};

use crate::contract::System;
use crate::raft;

/// The system.
#[derive(Clone, Copy, Debug)]
pub enum Agent {}

impl System for Agent {
    const NAME: &'static str = "agent";
    type Message = Message;
    type Kind = Kind;
    type Timer = Timer;
    type Record = Record;

    fn wire_size(message: &Message) -> usize {
        message.wire_size()
    }
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Clients' queries at a data node.
    Client,
    /// A replica follows its primary.
    Replication,
    /// Votes between data nodes.
    Peer,
    /// Heartbeats between data nodes (datagrams).
    Heartbeat,
    /// HTTP health checks.
    Health,
    /// Clients of the coordination service.
    Coordination,
    /// Members of the coordination service.
    Raft,
    /// Clients at a router.
    Route,
    /// Orders to the power switch.
    Fence,
    /// A data process pets the watchdog beside it.
    Watchdog,
    /// Reads and writes of the shared disk.
    Disk,
    /// Data nodes tell each other of writes, where every one of them takes them.
    Gossip,
    /// A backup process at a data node.
    Backup,
    /// A restorer brings a state to a data node.
    Seed,
    /// A backup agent at the object store.
    Store,
    /// Whoever may only read, at the object store.
    RestoreRead,
}

/// Every timer of every role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A data node renews its lease.
    Renew,
    /// A data node's lease may have run out.
    LeaseDeadline,
    /// A data node may stand for election.
    Stand,
    /// A candidate has waited long enough for votes.
    VoteWindow,
    /// A data node says that it lives.
    Heartbeat,
    /// A replica looks for its primary again.
    Follow,
    /// A fence takes too long.
    FenceLimit,
    /// A synchronous member may be too slow.
    SyncWatch,
    /// A node without log saves its memory.
    Save,
    /// The oldest request to the coordination service may be too old.
    Coordination,
    /// The leader of the coordination service looks for leases that are over.
    Expiry,
    /// A member of the coordination service has had no leader for long.
    NoLeader,
    /// Raft's own.
    Raft(raft::Timer),
    /// The monitor probes a data node.
    Probe(NodeId),
    /// A probe of the monitor takes too long.
    ProbeLimit(NodeId),
    /// The monitor has waited long enough for the replicas' opinions.
    Confirm,
    /// A router asks again.
    Refresh,
    /// The oldest operation of a client is due.
    Deadline,
    /// A client tries again.
    BackOff,
    /// A client has heard nothing for too long.
    Silence,
    /// The power switch has done a job.
    Power(NodeId),
    /// A data node looks for the shared disk again.
    Disk,
    /// A reset in a slot must have been read by now.
    Poison,
    /// A slot is read.
    Slot,
    /// The slot's watchdog may be due.
    SlotLimit,
    /// A data node has heard no heartbeat of its primary for too long.
    PrimarySilent,
    /// A data node reads the keys that it is not told of.
    Look,
    /// A data node without primary tells a peer what it may lack.
    Gossip(NodeId),
    /// A client looks at a reader that may be silent.
    ReaderSilence,
    /// Of a backup process.
    Job(Job),
}

/// The timers of backup processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Job {
    /// A backup is due.
    Schedule,
    /// A run that broke off begins again.
    Again,
    /// The token bucket has something again.
    Throttle,
    /// The right to write is to be renewed.
    Writer,
    /// The log is to be archived.
    Archive,
    /// A restore is to be drilled.
    Drill,
    /// Decision and machine for a restore are there.
    Prepare,
    /// Answers of the store may be late.
    StoreLook,
    /// Answers of the source may be late.
    SourceLook,
    /// A process that was killed for its memory is started again.
    Restart,
}

/// What the nodes keep on disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Record {
    /// A record of a data node's log.
    Wal(wal::WalRecord),
    /// A data node's term and vote.
    Meta {
        /// Highest term it takes part in.
        term: wal::Term,
        /// Whom it voted for in it.
        voted: Option<NodeId>,
    },
    /// A branch of a log that another primary overruled, kept for the operator.
    Branch(alloc::vec::Vec<wal::Entry>),
    /// A node without log: its whole memory, as the changes that made it.
    Memory(alloc::vec::Vec<wal::Entry>),
    /// A member of the coordination service.
    Raft(raft::Record<coordination::Command, ()>),
    /// A block of the shared disk.
    Block(wal::Entry),
    /// The shared disk's lock, registrations and slots.
    Reservations(disk::Reservations),
    /// A write of a node where every one takes writes.
    Update(anywhere::Update),
    /// An object store.
    Store(backup::StoreRecord),
    /// A change that a reader of changes has handed on.
    Handed(wal::Entry),
}
