//! What nodes announce: typed facts, part of each protocol's public interface. The meter computes phases and
//! split-brain from them, so a protocol announces what it *believes*, when it begins to believe it.

use alloc::string::String;
use core::net::SocketAddrV4;

/// A part of the data with a primary of its own; 0 where the system has one part.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Shard(pub u16);

/// A fact.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// Our role in the shard from now on. Announced at start and at each change.
    Role(Role),
    /// The epoch (term, configuration epoch, generation) that we act under from now on.
    Epoch(u64),
    /// Whether we would acknowledge a write that arrives now. Announced at start and at each change.
    Writable(bool),
    /// A step of a failover.
    Mark {
        /// Which step.
        mark: Mark,
        /// The client or peer address of the node it concerns: the suspected, the elected, the promoted.
        about: Option<SocketAddrV4>,
    },
    /// A measured quantity.
    Gauge {
        /// Its name, as `replication_lag_bytes`.
        name: &'static str,
        /// Its value.
        value: u64,
    },
    /// Text for the story of a run. Never judged, never part of the trace; say it with [`super::Cx::note`].
    Note(String),
}

/// Role of a node for one shard, or within its group of arbiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Role {
    /// Accepts writes, or would if nothing else forbade it.
    Primary,
    /// Follows a primary.
    Replica,
    /// Stands for election.
    Candidate,
    /// Leads a group of arbiters.
    Leader,
    /// Follows such a leader.
    Follower,
    /// Knows that it may not serve.
    Fenced,
    /// Starting, joining or rejoining: serves nothing yet.
    Joining,
}

/// The steps of a failover, in their usual order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Mark {
    /// One node doubts the primary.
    Suspected,
    /// The deciding node or group judged it dead.
    Declared,
    /// Somebody won the right to run this failover.
    Elected,
    /// The old primary is known to be unable to acknowledge.
    Fenced,
    /// The new primary was told, or told itself, to take over.
    Promoting,
    /// The promotion is known to have succeeded.
    Promoted,
    /// Clients or routers are told of the new primary.
    Routed,
    /// The configuration settled; the failover is over.
    Settled,
    /// The failover was given up.
    Aborted,
}
