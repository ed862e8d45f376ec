//! The exchanges of Memgraph's high availability: Bolt with clients, RPCs between instances, Raft between coordinators.

use super::state::{Address, ClusterState, Delta, InstanceId, Mode, Uuid};
use super::storage::{Committed, EpochId, StoredGraph};
use crate::contract::Value;
use crate::graph::{Refusal, Transaction, Vertex};
use crate::raft;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Anything that is sent.
#[derive(Clone, Debug, PartialEq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Message {
    /// Client to server.
    Bolt(Bolt),
    /// Server to client, in the order of the requests.
    Answer(Answer),
    /// A request on a management or replication port; one at a time on a connection.
    Call(Call),
    /// The answer to it.
    Return(Return),
    /// Between coordinators.
    Raft(Box<raft::Message<Delta, ClusterState>>),
    /// HTTP: `GET` of a path of the metrics server.
    Get(String),
    /// The answer to it.
    Page {
        /// 200, 404 or 503.
        status: u16,
        /// Plain text.
        body: String,
    },
}

/// What drivers send. A pipelined group of real Bolt messages is one here; its parts are named.
#[derive(Clone, Debug, PartialEq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Bolt {
    /// HELLO and LOGON: begins a connection.
    Hello,
    /// ROUTE: asks a coordinator for the table of a database.
    Route,
    /// BEGIN of a managed transaction.
    Begin {
        /// Mode `r`; absent for writes.
        read: bool,
    },
    /// RUN and PULL.
    Run(Query),
    /// COMMIT.
    Commit,
    /// RESET: after a failure, or to roll back.
    Reset,
}

/// A query, as far as workloads need one.
#[derive(Clone, Debug, PartialEq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Query {
    /// `MATCH`, `MERGE`, `SET`, `CREATE`: changes the graph.
    Change(Transaction),
    /// `MATCH (n {id: $id}) RETURN n`.
    Read(Vertex),
    /// `MATCH (a:Account) RETURN sum(a.balance), count(a)`, and the list of this vertex with it.
    Audit(Vertex),
    /// An administrative query, in its own words.
    Admin(String),
}

/// What servers answer.
#[derive(Clone, Debug, PartialEq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Answer {
    /// SUCCESS.
    Success {
        /// It carries the notification that a SYNC replica did not confirm (drivers drop it).
        warning: bool,
    },
    /// RECORD with a property, and SUCCESS.
    Value(Option<Value>),
    /// RECORD with a list, and SUCCESS.
    List(Arc<[Value]>),
    /// RECORD of an audit, and SUCCESS.
    Audit {
        /// The list.
        items: Arc<[Value]>,
        /// Id and balance of each account.
        accounts: Arc<[(u64, Value)]>,
    },
    /// RECORDs of an administrative query, as text, and SUCCESS.
    Text(String),
    /// SUCCESS with a routing table.
    Table(Table),
    /// FAILURE.
    Failure {
        /// Its class, by which drivers decide.
        code: Code,
        /// Its text.
        why: Why,
    },
}

/// A routing table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Table {
    /// Coordinators.
    pub routers: Vec<Address>,
    /// Instances offered for reads.
    pub readers: Vec<Address>,
    /// The MAIN that Raft names, alive or not.
    pub writers: Vec<Address>,
}

/// Class of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Code {
    /// `Memgraph.ClientError...`: drivers neither retry nor forget the server.
    Client,
    /// `Memgraph.TransientError...`: drivers run the unit of work again.
    Transient,
    /// `Neo.ClientError.Cluster.NotALeader`: drivers forget the writer and try again. Memgraph never sends it.
    NotALeader,
}

/// What a failure says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Why {
    /// A write was sent to a replica.
    WriteOnReplica,
    /// Writes are forbidden on this MAIN for now.
    WritesForbidden,
    /// The instance was demoted while the transaction ran.
    NotMainAnymore,
    /// A SYNC replica did not confirm. The transaction *is* committed on MAIN.
    SyncReplica,
    /// A STRICT_SYNC replica did not confirm; the transaction was aborted.
    StrictReplica,
    /// The graph refused a change.
    Refused(Refusal),
    /// Data was asked of a coordinator, or a table of a data instance.
    WrongServer,
    /// The administrative query failed.
    Administration,
}

/// A request between instances.
#[derive(Clone, Debug, PartialEq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Call {
    /// Leader to data instance, every second: are you there, and what are you?
    StateCheck,
    /// Leader to data instance, in a failover: how much do you have?
    GetDatabaseHistories,
    /// Leader to data instance: become MAIN.
    PromoteToMain {
        /// Under this identity.
        uuid: Uuid,
        /// With these replicas.
        replicas: Vec<ReplicaConfig>,
        /// Take writes at the end.
        writing_enabled: bool,
    },
    /// Leader to data instance: become a replica.
    DemoteMainToReplica {
        /// Of this MAIN.
        uuid: Uuid,
    },
    /// Leader to replica: follow this MAIN.
    SwapMainUuid {
        /// Which.
        uuid: Uuid,
    },
    /// Leader to MAIN: feed this replica too.
    RegisterReplicaOnMain {
        /// Must be MAIN's own.
        uuid: Uuid,
        /// Which.
        replica: ReplicaConfig,
    },
    /// Leader to MAIN: feed this replica no more.
    UnregisterReplica {
        /// Must be MAIN's own.
        uuid: Uuid,
        /// Which.
        replica: InstanceId,
    },
    /// Leader to data instance: settings that it has to know.
    UpdateConfig {
        /// A replica tells of its progress after so many changes.
        deltas_batch_progress_size: u64,
        /// As MAIN: take no writes.
        disable_writing: bool,
    },
    /// Leader to MAIN, up to v2.20: take writes now ([`super::quirks::Quirks::separate_writing_rpc`]).
    EnableWriting,
    /// Leader to data instance, up to v3.0: drop all data ([`super::quirks::Quirks::separate_reset_rpc`]).
    ResetData,
    /// Follower to leader: an administrative query, or a table, that a client asked of us.
    Forward(Forwarded),
    /// MAIN to replica, every second.
    FrequentHeartbeat,
    /// MAIN to replica: follow me, and take my databases and users.
    SystemRecovery {
        /// Me.
        uuid: Uuid,
    },
    /// MAIN to replica: how far are you?
    Heartbeat {
        /// Me.
        uuid: Uuid,
        /// My epoch.
        epoch: EpochId,
        /// My last durable timestamp.
        timestamp: u64,
    },
    /// MAIN to replica: a transaction.
    PrepareCommit {
        /// Me.
        uuid: Uuid,
        /// The timestamp that it follows.
        previous: u64,
        /// Only prepare it: a decision follows.
        two_phase: bool,
        /// The transaction.
        committed: Arc<Committed>,
    },
    /// MAIN to STRICT_SYNC replica: the decision.
    FinalizeCommit {
        /// Me.
        uuid: Uuid,
        /// Of the transaction with this timestamp.
        timestamp: u64,
        /// Commit, or abort.
        commit: bool,
    },
    /// MAIN to replica: a part of what you lack (a snapshot, the WAL files of earlier epochs, or the current WAL).
    Recover {
        /// Me.
        uuid: Uuid,
        /// Drop what you have first.
        reset: bool,
        /// The graph as of some timestamp.
        snapshot: Option<Arc<StoredGraph>>,
        /// The transactions that follow.
        log: Vec<Arc<Committed>>,
    },
}

/// What a follower hands to its leader.
#[derive(Clone, Debug, PartialEq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Forwarded {
    /// The routing table.
    Table,
    /// An administrative query.
    Admin(String),
}

/// How MAIN reaches a replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ReplicaConfig {
    /// Which instance.
    pub id: InstanceId,
    /// Its replication server.
    pub address: Address,
    /// How it is fed.
    pub mode: Mode,
}

/// The answer to a [`Call`].
#[derive(Clone, Debug, PartialEq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Return {
    /// Done or refused.
    Success(bool),
    /// To [`Call::StateCheck`].
    State(InstanceState),
    /// To [`Call::GetDatabaseHistories`].
    Histories {
        /// Timestamp of the last change of databases or users.
        system_timestamp: u64,
        /// Committed transactions of the one database.
        committed: u64,
        /// Its last durable timestamp.
        timestamp: u64,
        /// Its epochs with the last timestamp in each, the current one last.
        epochs: Vec<(EpochId, u64)>,
    },
    /// To [`Call::Heartbeat`].
    Heartbeat {
        /// The uuid was right.
        ok: bool,
        /// Last durable timestamp.
        timestamp: u64,
        /// Epoch of the last commit.
        epoch: EpochId,
        /// Committed transactions.
        committed: u64,
    },
    /// To [`Call::Recover`]: how far the replica is now; `None`: refused.
    Recovered(Option<u64>),
    /// To [`Call::Forward`].
    Table(Table),
    /// To [`Call::Forward`].
    Text(Result<String, String>),
}

/// What a data instance says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct InstanceState {
    /// It is a replica.
    pub is_replica: bool,
    /// Its own uuid as MAIN, or the one it follows.
    pub uuid: Uuid,
    /// It takes writes.
    pub writing_enabled: bool,
    /// As it was told.
    pub deltas_batch_progress_size: u64,
    /// As MAIN: committed transactions.
    pub committed: u64,
    /// As MAIN: the replicas it feeds, and how many transactions each lacks (negative: it has more).
    pub replicas: Vec<(InstanceId, i64)>,
}

/// Bolt framing: chunk header, end marker, structure and one small map.
const BOLT_SMALL: usize = 24;
/// An RPC's header: size, id, version, and a uuid or two.
const RPC_SMALL: usize = 40;

impl Message {
    /// Bytes on the wire.
    pub fn wire_size(&self) -> usize {
        match self {
            Message::Bolt(bolt) => bolt.wire_size(),
            Message::Answer(answer) => answer.wire_size(),
            Message::Call(call) => RPC_SMALL + call.body(),
            Message::Return(answer) => RPC_SMALL + answer.body(),
            Message::Raft(message) => {
                message.wire_size(Delta::size, |state| 420 * state.instances.len() + 400)
            }
            // Request line and host; status line and three headers.
            Message::Get(path) => 40 + path.len(),
            Message::Page { body, .. } => 90 + body.len(),
        }
    }
}

impl Bolt {
    fn wire_size(&self) -> usize {
        match self {
            // With the 20 bytes of the handshake, user agent, routing context and credentials.
            Bolt::Hello => 190,
            Bolt::Route => 60,
            Bolt::Begin { .. } => 26,
            Bolt::Run(Query::Change(transaction)) => 110 + transaction.size(),
            Bolt::Run(Query::Read(_)) => 90,
            Bolt::Run(Query::Audit(_)) => 160,
            Bolt::Run(Query::Admin(words)) => 60 + words.len(),
            Bolt::Commit | Bolt::Reset => 6,
        }
    }
}

impl Answer {
    fn wire_size(&self) -> usize {
        match self {
            Answer::Success { warning: false } => 7,
            Answer::Success { warning: true } => 240,
            Answer::Value(_) => 2 * BOLT_SMALL,
            Answer::List(values) => 2 * BOLT_SMALL + 9 * values.len(),
            Answer::Audit { items, accounts } => 2 * BOLT_SMALL + 9 * items.len() + 19 * accounts.len(),
            Answer::Text(text) => 2 * BOLT_SMALL + text.len(),
            Answer::Table(table) => {
                60 + 48 * (table.routers.len() + table.readers.len() + table.writers.len())
            }
            Answer::Failure { .. } => 150,
        }
    }
}

impl Call {
    fn body(&self) -> usize {
        match self {
            Call::PromoteToMain { replicas, .. } => 20 + 80 * replicas.len(),
            Call::DemoteMainToReplica { .. } | Call::RegisterReplicaOnMain { .. } => 80,
            Call::PrepareCommit { committed, .. } => 48 + committed.transaction.size(),
            Call::Recover { snapshot, log, .. } => {
                let snapshot = snapshot.as_ref().map_or(0, |stored| stored.graph.size() as usize);
                snapshot + log.iter().map(|committed| committed.transaction.size()).sum::<usize>()
            }
            Call::Forward(Forwarded::Admin(words)) => words.len(),
            Call::StateCheck
            | Call::GetDatabaseHistories
            | Call::SwapMainUuid { .. }
            | Call::UnregisterReplica { .. }
            | Call::UpdateConfig { .. }
            | Call::EnableWriting
            | Call::ResetData
            | Call::Forward(Forwarded::Table)
            | Call::FrequentHeartbeat
            | Call::SystemRecovery { .. }
            | Call::Heartbeat { .. }
            | Call::FinalizeCommit { .. } => 24,
        }
    }
}

impl Return {
    fn body(&self) -> usize {
        match self {
            Return::Success(_) | Return::Recovered(_) => 9,
            Return::State(state) => 40 + 60 * state.replicas.len(),
            Return::Histories { epochs, .. } => 32 + 24 * epochs.len(),
            Return::Heartbeat { .. } => 48,
            Return::Table(table) => 48 * (table.routers.len() + table.readers.len() + table.writers.len()),
            Return::Text(Ok(text) | Err(text)) => text.len(),
        }
    }
}
