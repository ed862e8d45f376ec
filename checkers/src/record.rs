//! What a run leaves behind. Everything that is judged or drawn is computed from these types alone, so that a stored
//! run, a simulated run and a run over real sockets are judged by the same code.
//!
//! Three records, each event with its [`Instant`]: the **history** (what clients asked and got; never a node's
//! inside), the **observations** (what nodes announced about themselves) and the **journal** (faults, process life,
//! and, when kept, messages). **Ground truth** is a fourth, which only a simulator can give: it confirms, it is never
//! needed.

use serde::{Deserialize, Serialize};

/// True time of the world in microseconds since the start of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SimTime(pub u64);

impl SimTime {
    /// The time in milliseconds, as reports print it.
    pub fn as_ms(self) -> f64 {
        self.0 as f64 / 1_000.0
    }
}

/// A position in the run: its time, and the sequence number that orders events of the same microsecond.
/// Sequence numbers are shared by all three records, unique and increasing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instant {
    /// When.
    pub at: SimTime,
    /// Which of the events at that time, counted over the whole run.
    pub seq: u64,
}

/// Index into [`Topology::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeIndex(pub u16);

/// A part of the data with a primary of its own. Systems without shards use shard 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Shard(pub u16);

/// Who took part, and where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// Every node of the run, clients included; [`NodeIndex`] points here.
    pub nodes: Vec<NodeInfo>,
    /// Number of shards (1 where the system has none).
    pub shards: u16,
}

/// One process of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Name that scenarios and reports use, such as `data-1`.
    pub name: String,
    /// What it is: decides its lane in drawings and whether it can hold data.
    pub class: NodeClass,
    /// The host it runs on; several processes may share one.
    pub host: String,
    /// Zone of the host.
    pub zone: String,
    /// Region of the zone.
    pub region: String,
    /// Shard whose data it holds at the start, if it holds data.
    pub shard: Option<Shard>,
}

/// The kinds of process a drawing tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeClass {
    /// Holds the data: can be primary or replica.
    Data,
    /// Decides about failovers without holding data: sentinel, coordinator, monitor, witness.
    Arbiter,
    /// Anything else that serves: router, store, disk, fencer, orchestrator.
    Service,
    /// Issues the workload.
    Client,
    /// Issues the open-loop probes the meter reads.
    Probe,
}

// ---------------------------------------------------------------------------------------------------------- history

/// Index into [`History::keys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyIndex(pub u32);

/// A value or a list element. Workloads write unique ones; imported histories may repeat them.
pub type Value = u64;

/// What clients asked and what they were told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The keys, and per key what reads of a list have in common.
    pub keys: Vec<KeyInfo>,
    /// In order of invocation.
    pub operations: Vec<Operation>,
}

/// One key of the history.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// The key as the clients wrote it.
    pub name: String,
    /// Shard that owns it.
    pub shard: Shard,
    /// Longest list any read has shown so far, in that read's order: reads store only how much of it they share.
    /// Empty for keys that hold a single value.
    pub spine: Vec<Value>,
}

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// The client that issued it. One process has one operation open at a time, but for probes.
    pub process: u32,
    /// The node it was issued from.
    pub client: NodeIndex,
    /// Why it was issued.
    pub purpose: Purpose,
    /// Its key.
    pub key: KeyIndex,
    /// What was asked.
    pub action: Action,
    /// Payload bytes of a write; 0 for reads.
    pub bytes: u32,
    /// When it was asked.
    pub invoked: Instant,
    /// When the answer, or the client's giving up, was recorded. `None`: neither happened before the end.
    pub completed: Option<Instant>,
    /// What the client knows.
    pub outcome: Outcome,
    /// The node whose answer it was, if the client can tell.
    pub answered_by: Option<NodeIndex>,
}

impl Operation {
    /// Whether it would change the key's value.
    pub fn is_write(&self) -> bool {
        !matches!(self.action, Action::Read)
    }
}

/// Why an operation was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Load.
    Workload,
    /// Open-loop probe of the meter, at its own rate, on keys of its own.
    Probe,
    /// Read of one named node after the quiet tail; shows what survived. Not part of the linearizability check.
    FinalRead {
        /// The node that was read, whatever its role.
        node: NodeIndex,
    },
}

/// What was asked of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The whole value.
    Read,
    /// Add one element to the key's list.
    Append(Value),
    /// Set the register.
    Write(Value),
    /// Set the register to `to` if it holds `from`.
    Cas {
        /// Expected value; `None`: the key must not exist.
        from: Option<Value>,
        /// New value.
        to: Value,
    },
}

/// What a client knows about its operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It took effect, and this is what was returned.
    Ok(Returned),
    /// It certainly did not take effect.
    Fail(Failure),
    /// Nobody knows: it may take effect at any time after its invocation, or never.
    Info(Failure),
}

impl Outcome {
    /// Whether the client was told that it took effect.
    pub fn is_ok(&self) -> bool {
        matches!(self, Outcome::Ok(_))
    }
}

/// What an acknowledged operation returned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Returned {
    /// A write was acknowledged.
    Done,
    /// A write was acknowledged and the store told the version (position in the key's order) it got.
    Version(u64),
    /// A register's value; `None`: the key does not exist.
    Value(Option<Value>),
    /// A list: the first `shared` elements of the key's spine, then `tail`.
    /// A tail that is not empty means that the read diverges from the longest read seen before it.
    List {
        /// Elements in common with [`KeyInfo::spine`].
        shared: u32,
        /// What follows them.
        tail: Vec<Value>,
    },
    /// A compare-and-set found another value, told here, and changed nothing.
    Mismatch(Option<Value>),
}

/// Why an operation failed or stayed unknown, by class (reports count them).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// No answer in the client's time.
    Timeout,
    /// The connection was refused, or there was no one to connect to.
    Unreachable,
    /// The connection closed while the operation was open.
    Disconnected,
    /// The server said that it is not the primary.
    NotPrimary,
    /// The server refused writes for lack of replicas, lease or quorum.
    Unsafe,
    /// The server, or the cluster, said that it is not in service.
    Unavailable,
    /// The client could not find out where to go.
    NoRoute,
    /// A limit or breaker refused it.
    Limited,
    /// The store's own rules refused it, such as a compare-and-set that did not tell the current value.
    Rejected,
    /// Any other error.
    Other,
}

// ------------------------------------------------------------------------------------------------------ observations

/// A fact that a node announced about itself or others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// When it was announced.
    pub instant: Instant,
    /// Who announced it.
    pub node: NodeIndex,
    /// The shard it is about.
    pub shard: Shard,
    /// What it says.
    pub fact: Fact,
}

/// What a node can announce.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// Its role from now on.
    Role(Role),
    /// The epoch (term, view, generation) it now acts under.
    Epoch(u64),
    /// Whether it would acknowledge a write that arrives now.
    Writable(bool),
    /// A step of a failover, and the node it is about (the suspected, the elected, the promoted one).
    Mark {
        /// Which step.
        mark: Mark,
        /// Whom it concerns.
        about: Option<NodeIndex>,
    },
    /// A measured quantity of the node, such as replication lag.
    Gauge {
        /// Metric name, for example `replication_lag_bytes`.
        name: String,
        /// Its value.
        value: f64,
    },
    /// Free text for the story; never judged.
    Note(String),
}

/// Role of a node for one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// Knows that it may not serve: fenced, isolated, draining.
    Fenced,
    /// Starting, joining or rejoining: serves nothing yet.
    Joining,
}

/// The steps of a failover, in their usual order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// One node doubts the primary.
    Suspected,
    /// The deciding node or group judged it dead.
    Declared,
    /// Somebody won the right to run this failover, or the new primary won its term.
    Elected,
    /// The old primary is known to be unable to acknowledge: fence acknowledged, lease over, pause confirmed.
    Fenced,
    /// The new primary was told, or told itself, to take over.
    Promoting,
    /// The promotion is known to have succeeded.
    Promoted,
    /// The new primary would acknowledge a write from now on.
    Writable,
    /// Clients or routers are told of the new primary.
    Routed,
    /// The failover ended: configuration settled.
    Settled,
    /// The failover was given up.
    Aborted,
}

// ----------------------------------------------------------------------------------------------------------- journal

/// Everything that happened to the run from outside, and process life.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    /// The injected faults, in order of injection.
    pub faults: Vec<FaultRecord>,
    /// Starts, stops, pauses of processes, in order.
    pub life: Vec<LifeEvent>,
    /// Messages, only when the run is recorded for a drawing or a replay.
    pub messages: Vec<MessageRecord>,
    /// Messages sent in the whole run, recorded or not.
    pub messages_sent: u64,
    /// Bytes of these messages; `None`: nobody counted.
    #[serde(default)]
    pub bytes_sent: Option<u64>,
    /// Of these, bytes between data nodes: what replication costs; `None`: nobody counted.
    #[serde(default)]
    pub bytes_replicated: Option<u64>,
}

/// One injected fault and what it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultRecord {
    /// Kind as the scenario names it: `crash`, `cut`, `pause`, ...
    pub kind: String,
    /// One line for people: what, on whom.
    pub label: String,
    /// The nodes it acted on, as resolved at injection.
    pub targets: Vec<NodeIndex>,
    /// When it was injected.
    pub began: Instant,
    /// When it was healed; `None`: still on at the end.
    pub healed: Option<Instant>,
    /// Its proven effects: messages stopped, inputs held back, readings changed, processes stopped.
    pub effects: u64,
    /// Whether it is a planned action of an operator (switchover, graceful restart) and not a failure.
    pub planned: bool,
}

/// A change in the life of a process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LifeEvent {
    /// When.
    pub instant: Instant,
    /// Who.
    pub node: NodeIndex,
    /// What.
    pub life: Life,
}

/// The states of a process as the world sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// Began to run.
    Up,
    /// Ended by itself.
    Exited,
    /// Was killed.
    Killed,
    /// Its host lost power.
    HostLost,
    /// Stopped running, memory intact.
    Paused,
    /// Runs again.
    Resumed,
    /// Cut off from all other hosts but, possibly, clients on its side.
    Isolated,
    /// No longer cut off.
    Rejoined,
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageRecord {
    /// When it was sent.
    pub sent: Instant,
    /// When it was handed over; `None`: never.
    pub delivered: Option<Instant>,
    /// Sender.
    pub from: NodeIndex,
    /// Receiver.
    pub to: NodeIndex,
    /// Its text for people.
    pub label: String,
}

// ------------------------------------------------------------------------------------------------------ ground truth

/// What only a simulator knows: the state of every node at the end. It confirms what the meter computed from the
/// history and the final reads; the two must agree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroundTruth {
    /// State of each data node that was up at the end.
    pub nodes: Vec<NodeTruth>,
}

/// The final state of one data node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeTruth {
    /// Which node.
    pub node: NodeIndex,
    /// For which shard.
    pub shard: Shard,
    /// Its role at the end.
    pub role: Role,
    /// Its epoch at the end; the highest primary of a shard is the authoritative one.
    pub epoch: u64,
    /// Final value of each key it holds, as elements in order (a register is a list of one).
    pub state: Vec<(KeyIndex, Vec<Value>)>,
}

/// All that a run left behind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Records {
    /// Who took part.
    pub topology: Topology,
    /// What clients saw.
    pub history: History,
    /// What nodes announced.
    pub observations: Vec<Observation>,
    /// What happened from outside.
    pub journal: Journal,
    /// Present only for runs of a simulator.
    pub truth: Option<GroundTruth>,
    /// What a simulator was shown of the system's backups; present only where there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<crate::backup::Evidence>,
    /// What reads were shown of accounts, where money moves beside the lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audits: Vec<Audit>,
    /// Which clients were on the cut side of a fault, and from when to when.
    pub cut_clients: Vec<CutClient>,
    /// When the run ended.
    pub end: SimTime,
    /// When the quiet tail began: every fault healed, workload still running.
    pub healed: SimTime,
}

/// All accounts as a read was shown them, in the same snapshot as its list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// The read, as an index into [`History::operations`].
    pub operation: u32,
    /// Number and balance of each account there was.
    pub accounts: Vec<(u64, u64)>,
}

/// A client that a fault cut off from the majority.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CutClient {
    /// Which client or probe node.
    pub client: NodeIndex,
    /// Since when.
    pub from: SimTime,
    /// Until when.
    pub until: SimTime,
}
