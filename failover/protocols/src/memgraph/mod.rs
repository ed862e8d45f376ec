//! Memgraph's high availability: coordinators, data instances, and clients that route by Bolt tables.
//!
//! Three coordinators form a Raft group that stores no data: it stores who is MAIN. Its leader pings every data
//! instance once a second; when MAIN has been silent for five, it chooses the most advanced replica and commits *one*
//! Raft entry that names the new MAIN and a fresh uuid. Nothing else belongs to the failover: whatever the instances
//! then need (promotion, demotion, following another uuid) is found out by comparing what they answer to the next
//! pings with what Raft says, and done again until both agree.
//!
//! The uuid is a fencing token towards replicas: they refuse what another MAIN sends. Towards clients there is none:
//! an isolated MAIN has no lease and acknowledges writes until somebody demotes it.
//!
//! Source: behaviour of Memgraph 3.12 (August 2026) as documented and as visible in its public source, described in
//! our own words; older behaviour is in [`quirks`], each with the issue or pull request that fixed it.
//!
//! Reading order: [`message`] (the wire), [`state`] (what Raft replicates), [`coordinator`], [`instance`], [`client`];
//! [`rollout`] restarts it all one by one, as a deployment does.

pub mod client;
pub mod coordinator;
pub mod instance;
pub mod message;
mod metrics;
pub mod quirks;
pub mod rollout;
mod rpc;
pub mod state;
pub mod storage;

use crate::contract::{RequestId, SessionId, System};
use crate::raft;
use alloc::boxed::Box;
use alloc::sync::Arc;
use message::Message;
use state::{ClusterState, Delta};
use storage::StoredGraph;

/// The system.
#[derive(Debug)]
pub struct Memgraph;

/// The wire protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Clients: 7687 on every node.
    Bolt,
    /// Coordinators ask data instances, and followers their leader: 10000 on every node.
    Management,
    /// MAIN feeds replicas: 20000 on data instances.
    Replication,
    /// Raft: 12000 on coordinators.
    Coordinator,
    /// HTTP: 9091 on every node.
    Metrics,
}

/// Port of [`Kind::Bolt`].
pub const BOLT_PORT: u16 = 7687;
/// Port of [`Kind::Management`].
pub const MANAGEMENT_PORT: u16 = 10_000;
/// Port of [`Kind::Replication`].
pub const REPLICATION_PORT: u16 = 20_000;
/// Port of [`Kind::Coordinator`].
pub const COORDINATOR_PORT: u16 = 12_000;
/// Port of [`Kind::Metrics`].
pub const METRICS_PORT: u16 = 9091;

/// The timers of all roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Raft's.
    Raft(raft::Timer),
    /// The RPC in flight on this channel has taken too long.
    Rpc(Channel),
    /// Coordinator: the next ping of this instance is due.
    Ping(state::InstanceId),
    /// Coordinator: the callback of this instance gives up waiting for the lock.
    Lock(state::InstanceId),
    /// Coordinator: try to reconcile again.
    Reconcile,
    /// MAIN: time for the heartbeats to replicas.
    Heartbeat,
    /// Data instance: running transactions had their time to end before a demotion.
    Access,
    /// Rollout: its next step.
    Rollout,
    /// Client: an operation's time is over.
    Deadline(RequestId),
    /// Client: an operation may be tried again.
    Backoff(RequestId),
    /// Client: a connection, or the wait for a router's answer, took too long.
    Connection(SessionId),
}

/// Who an RPC channel leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// From a coordinator to a data instance's management server.
    Instance(state::InstanceId),
    /// From MAIN to a replica's replication server.
    Replica(state::InstanceId),
    /// From a coordinator to the management server of the leader.
    Leader,
}

/// What nodes keep on disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Record {
    /// A coordinator's Raft.
    Raft(Box<raft::Record<Delta, ClusterState>>),
    /// A data instance's role and epochs.
    Identity(storage::Identity),
    /// A committed transaction in the write-ahead log.
    Committed(Arc<storage::Committed>),
    /// A snapshot of the graph.
    Snapshot(Arc<StoredGraph>),
}

impl System for Memgraph {
    const NAME: &'static str = "memgraph";
    type Message = Message;
    type Kind = Kind;
    type Timer = Timer;
    type Record = Record;

    fn wire_size(message: &Message) -> usize {
        message.wire_size()
    }
}
