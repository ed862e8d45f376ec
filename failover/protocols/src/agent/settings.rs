//! Every setting of the system, one struct per concern. The default of each is the corrected form; the variants that
//! reproduce a published sample or an incident are named beside it.

use super::backup::schedule::{Overlap, Schedule};
use super::backup::{Costs, Finding, Snapshot};
use super::quirks::Quirks;
use crate::contract::*;
use alloc::vec::Vec;

/// Number of a data node, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct NodeId(pub u8);

/// Who is where: the same on all nodes of a run.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Cluster {
    /// Client and peer address of each data node; [`NodeId`] 1 comes first.
    pub data: Vec<SocketAddrV4>,
    /// The coordination service's members.
    pub coordination: Vec<SocketAddrV4>,
    /// The health monitor, if there is one.
    pub monitor: Option<SocketAddrV4>,
    /// The routers that clients ask.
    pub routers: Vec<SocketAddrV4>,
    /// The power switch, if there is one.
    pub fencer: Option<SocketAddrV4>,
    /// The shared disk, if there is one.
    pub disk: Option<SocketAddrV4>,
}

impl Cluster {
    /// The address of a data node.
    pub fn address(&self, node: NodeId) -> SocketAddrV4 {
        self.data[usize::from(node.0) - 1]
    }

    /// The data node at an address.
    pub fn node_at(&self, address: SocketAddrV4) -> Option<NodeId> {
        self.nodes().find(|node| self.address(*node) == address)
    }

    /// All data nodes.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.data.len() as u8).map(NodeId)
    }
}

/// What a write waits for before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Replication {
    /// Its own disk only: a crash of the primary loses what no replica has pulled yet.
    Async,
    /// All members of the synchronous set, which the coordination service names (Patroni's `synchronous_mode`).
    Sync,
    /// A majority of the data nodes.
    Quorum,
}

/// From which moment the holder counts its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Anchor {
    /// From before the renewal was sent: the grantor cannot have begun to count earlier.
    Send,
    /// From the arrival of the answer, as several client libraries do: the holder's belief outlives the grantor's by
    /// the answer's way and any pause on it.
    Receive,
    /// From the moment at which the holder notices that renewals fail (Curator before its issue 460): up to one renewal
    /// interval and a request's time too late.
    Suspend,
}

/// When the holder looks at its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseCheck {
    /// At the moment of the acknowledgement.
    Ack,
    /// When the operation begins: whatever delays it afterwards is not covered.
    Start,
    /// Never; a timer takes the right away, as late as timers come.
    Timer,
    /// There is no lease: the role alone decides.
    Off,
}

/// Which clock measures the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseClock {
    /// The monotonic clock: drifts, never jumps.
    Monotonic,
    /// The wall clock: a step backwards lengthens the lease.
    Wall,
}

/// The lease of the primary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeaseSettings {
    /// Time to live of one grant (Patroni `ttl`: 30 s).
    pub ttl: Duration,
    /// How often it is renewed; a third of the time to live.
    pub renew_every: Duration,
    /// Allowed error of clock rates in parts per million, both clocks together.
    pub rate_bound_ppm: u32,
    /// What the holder keeps in hand on top, for steps that are not instant.
    pub margin: Duration,
    /// From when the holder counts.
    pub anchor: Anchor,
    /// When the holder looks.
    pub check: LeaseCheck,
    /// On which clock.
    pub clock: LeaseClock,
    /// How long a candidate waits after a lease ended before it may take the right (booth `acquire-after`,
    /// Consul `lock-delay`).
    pub acquire_after: Duration,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        LeaseSettings {
            ttl: Duration::from_secs(30),
            renew_every: Duration::from_secs(10),
            rate_bound_ppm: 1_000,
            margin: Duration::from_millis(100),
            anchor: Anchor::Send,
            check: LeaseCheck::Ack,
            clock: LeaseClock::Monotonic,
            acquire_after: Duration::ZERO,
        }
    }
}

/// Who measures the lease and can take the right away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keeper {
    /// The data process itself, at its gate.
    Inside,
    /// A process of its own beside it that looks every so often and tells the data process (pg agents of the
    /// Patroni kind): if it dies or is late, the data process goes on.
    Beside,
}

/// How the old primary is made harmless before the new one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fence {
    /// Not at all.
    None,
    /// By waiting until its lease is over.
    Wait,
    /// By switching its power off and waiting for the switch's answer.
    Power,
    /// By raising the lowest term that the other data nodes accept entries of: a vote does it.
    Token,
    /// By raising the epoch of the lock on the shared disk: the disk refuses the old one from then on.
    DiskLock,
    /// By taking its key out of the shared disk's reservation (SCSI-3 persistent reservations, preempt).
    Preempt,
    /// By writing a reset into its slot of the shared disk and waiting until it must have read it (sbd, `msgwait`).
    PoisonPill,
}

/// Where the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// On a disk of each data node's own.
    Own,
    /// On one disk that all data nodes reach over a network: whoever may write it has everything.
    Shared(DiskCheck),
}

/// What the shared disk checks before it takes a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskCheck {
    /// The epoch of the writer's lock: lower than the highest seen is refused.
    Epoch,
    /// Whether the writer is registered (write exclusive, registrants only).
    Registration,
    /// Nothing: a disk that trusts its cluster.
    Nothing,
}

/// The slots of the shared disk through which nodes are told to reset themselves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlotSettings {
    /// How often it reads the slot (sbd loop: 1 s).
    pub every: Duration,
    /// It resets its host when no read has succeeded for this long (sbd watchdog timeout: 5 s).
    pub watchdog: Duration,
    /// How long the writer of a reset waits until it counts on it (sbd `msgwait`: twice the watchdog timeout).
    pub message_wait: Duration,
}

impl Default for SlotSettings {
    fn default() -> Self {
        SlotSettings {
            every: Duration::from_secs(1),
            watchdog: Duration::from_secs(5),
            message_wait: Duration::from_secs(10),
        }
    }
}

/// Whose word makes a primary suspect enough to take its key away before its lease is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Detector {
    /// The health monitor's, or nobody's: the lease decides.
    Monitor,
    /// The data nodes' own heartbeats: a majority that misses them has the primary switched off.
    Heartbeat,
}

/// How data nodes learn what is in the coordination service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metadata {
    /// It tells them of every change.
    Push,
    /// They read it at this interval.
    Pull(Duration),
}

/// How a replica is found to be fit for promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElectionRule {
    /// Votes of peers: nobody who answers is ahead, and in quorum mode a majority answers.
    Votes,
    /// The monitor orders the first replica that answers to become primary.
    MonitorOrder,
}

/// Health checks over HTTP.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HealthSettings {
    /// From the start of one probe to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Failures in a row that make a node unhealthy.
    pub retries: u32,
    /// Successes in a row that make it healthy again.
    pub recoveries: u32,
    /// What a probe asks.
    pub probe: Probe,
    /// Whether the replicas must have lost a node too before it is declared dead.
    pub second_opinion: bool,
}

impl HealthSettings {
    /// 5 s, 2 s, 3: the profile inside one region.
    pub const LOCAL: HealthSettings = HealthSettings {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        retries: 3,
        recoveries: 1,
        probe: Probe::Write,
        second_opinion: true,
    };
    /// 3 s, 1 s, 3: the profile between regions.
    pub const CROSS_REGION: HealthSettings = HealthSettings {
        interval: Duration::from_secs(3),
        timeout: Duration::from_secs(1),
        retries: 3,
        recoveries: 1,
        probe: Probe::Write,
        second_opinion: true,
    };
}

/// What a health check proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// That the process answers HTTP.
    Http,
    /// Also that the primary's disk has finished a write since the probe before.
    Write,
}

/// Heartbeats between the data nodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeartbeatSettings {
    /// How often one is sent to every peer.
    pub interval: Duration,
    /// How many may be missed.
    pub missed: u32,
}

impl HeartbeatSettings {
    /// A published configuration sets `heartbeat_interval: 2000` and `fail_recv_const: 5` and means 2 s and five missed.
    /// Corosync has no option of the first name, and the second counts rotations of the token without a message that
    /// was due (`corosync.conf(5)`, default 2500). An idle token rotates every `hold` = 180 ms: a node is given up after
    /// 0.9 s.
    pub const AS_PRINTED: HeartbeatSettings =
        HeartbeatSettings { interval: Duration::from_millis(180), missed: 5 };

    /// Silence after which a node counts as dead.
    pub fn limit(&self) -> Duration {
        self.interval * self.missed
    }
}

impl Default for HeartbeatSettings {
    fn default() -> Self {
        HeartbeatSettings { interval: Duration::from_secs(2), missed: 5 }
    }
}

/// How a replica treats entries of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogRules {
    /// Lower terms are refused, terms adopted, and only a suffix that a match test found different is cut.
    Corrected,
    /// As a published sample has it: no lower term is refused, the own term is never adopted, so every later entry
    /// cuts the log, and nothing compares the entry before.
    AsPrinted,
}

/// What the store keeps beside a value to tell newer from older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Versions {
    /// One counter per node: concurrent writes are seen and kept as a conflict.
    Vector,
    /// One integer, as a published sample has it: the larger wins, and the other write is gone.
    Scalar,
}

/// Who takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Writers {
    /// The primary.
    Primary,
    /// Every data node: available on both sides of a cut, and merged afterwards.
    Anywhere,
}

/// Where reads are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// By the primary under its lease.
    Strong,
    /// By any node from what it has.
    Eventual,
    /// By any node that has seen what this client has seen.
    Causal,
}

/// Settings of the data nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentSettings {
    /// What a write waits for.
    pub replication: Replication,
    /// In sync mode: block writes while the synchronous set is empty (Patroni `synchronous_mode_strict`).
    pub sync_strict: bool,
    /// In sync mode: how long a silent member is waited for before it is taken out of the set.
    pub sync_timeout: Duration,
    /// In sync mode: members wanted in the set.
    pub sync_members: usize,
    /// In async mode: how far behind the primary's last published position a candidate may be, in bytes
    /// (Patroni `maximum_lag_on_failover`: 1 MiB).
    pub lag_max_bytes: u64,
    /// Log on disk; off: the state lives in memory.
    pub wal: bool,
    /// Without a log: how often the memory is saved whole.
    pub snapshot_every: Duration,
    /// The lease.
    pub lease: LeaseSettings,
    /// Who measures the lease.
    pub keeper: Keeper,
    /// How often a keeper beside the process looks.
    pub keeper_period: Duration,
    /// How the old primary is fenced.
    pub fence: Fence,
    /// How long a fence may take before the promotion is given up.
    pub fence_timeout: Duration,
    /// Reset the host if the primary's process has not shown life for this long.
    pub watchdog: Option<Duration>,
    /// How a candidate is chosen.
    pub election: ElectionRule,
    /// Nobody but the very first primary stands without an operator's word (Patroni: a standby cluster is never promoted
    /// automatically, because one site cannot know the state of the other).
    pub manual: bool,
    /// Random wait before a candidate asks for votes.
    pub stand_wait: (Duration, Duration),
    /// The node that shall be the very first primary: the others leave it some seconds of a start.
    pub first_primary: Option<NodeId>,
    /// How long it waits for votes.
    pub vote_window: Duration,
    /// No new candidacy for this long after a promotion.
    pub cool_down: Duration,
    /// Rules of the log.
    pub log_rules: LogRules,
    /// Heartbeats.
    pub heartbeat: HeartbeatSettings,
    /// A primary without contact to a majority of the data nodes for this long refuses writes; `None`: it does not
    /// look (the lease decides alone).
    pub isolate_after: Option<Duration>,
    /// Entries that a new primary replays in one second.
    pub replay_per_second: u64,
    /// Consistency of reads.
    pub consistency: Consistency,
    /// Where the log is kept.
    pub storage: Storage,
    /// The slots of the shared disk.
    pub slots: SlotSettings,
    /// Whose word makes a primary suspect.
    pub detector: Detector,
    /// How data nodes learn what is in the coordination service.
    pub metadata: Metadata,
    /// Who takes writes.
    pub writers: Writers,
    /// Where everybody takes writes: how copies tell newer from older.
    pub versions: Versions,
}

impl Default for AgentSettings {
    fn default() -> Self {
        AgentSettings {
            replication: Replication::Async,
            sync_strict: false,
            sync_timeout: Duration::from_secs(5),
            sync_members: 1,
            lag_max_bytes: 1 << 20,
            wal: true,
            snapshot_every: Duration::from_secs(60),
            lease: LeaseSettings::default(),
            keeper: Keeper::Inside,
            keeper_period: Duration::from_secs(1),
            fence: Fence::Wait,
            fence_timeout: Duration::from_secs(60),
            watchdog: None,
            election: ElectionRule::Votes,
            manual: false,
            stand_wait: (Duration::from_millis(150), Duration::from_millis(300)),
            first_primary: Some(NodeId(1)),
            vote_window: Duration::from_secs(1),
            cool_down: Duration::from_secs(2),
            log_rules: LogRules::Corrected,
            heartbeat: HeartbeatSettings::default(),
            isolate_after: None,
            replay_per_second: 1_000_000,
            consistency: Consistency::Strong,
            storage: Storage::Own,
            slots: SlotSettings::default(),
            detector: Detector::Monitor,
            metadata: Metadata::Push,
            writers: Writers::Primary,
            versions: Versions::Vector,
        }
    }
}

/// How leases are measured by the coordination service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LeaseSemantics {
    /// etcd v3.5: over after its time to live, found at the next look; all begin anew with a new leader.
    Etcd,
    /// Consul sessions: the time to live is a lower bound, and a session ends after twice of it; after a session ended
    /// against its holder's will, nobody gets its lock for `lock_delay` (15 s unless configured).
    Consul {
        /// How long a lock stays free after its session was ended.
        lock_delay: Duration,
        /// A session also ends when the monitor calls its node dead (the node's own health check).
        health_checks: bool,
    },
    /// ZooKeeper sessions: between 2 and 20 ticks long, and over at the next multiple of a tick.
    ZooKeeper {
        /// `tickTime`: 2 s.
        tick: Duration,
    },
}

impl LeaseSemantics {
    /// When the service counts a lease over that is renewed now: the span from now on its leader's clock. `now` is
    /// needed where ends are rounded up to a common beat.
    pub fn span(self, ttl: Duration, now: LocalTime) -> Duration {
        match self {
            LeaseSemantics::Etcd => ttl,
            LeaseSemantics::Consul { .. } => ttl * 2,
            LeaseSemantics::ZooKeeper { tick } => {
                let ttl = self.negotiated(ttl);
                let beat = (tick.as_micros() as u64).max(1);
                let end = now.0 + ttl.as_micros() as u64;
                Duration::from_micros(end.div_ceil(beat) * beat - now.0)
            }
        }
    }

    /// The time to live that a client gets when it asks for `ttl`.
    pub fn negotiated(self, ttl: Duration) -> Duration {
        match self {
            LeaseSemantics::Etcd | LeaseSemantics::Consul { .. } => ttl,
            LeaseSemantics::ZooKeeper { tick } => ttl.clamp(tick * 2, tick * 20),
        }
    }

    /// How long a lock stays free after its lease was ended by the service.
    pub fn lock_delay(self) -> Duration {
        match self {
            LeaseSemantics::Consul { lock_delay, .. } => lock_delay,
            LeaseSemantics::Etcd | LeaseSemantics::ZooKeeper { .. } => Duration::ZERO,
        }
    }
}

/// How a client of the coordination service waits for its proposals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proposals {
    /// Each has a name; its answer carries the name; without an answer nobody knows, and it is repeated under it.
    Corrected,
    /// As a published sample has it: one channel of acknowledgements for all, so that whoever waits longest takes the
    /// next one, whosever it is; and an answer that is late counts as a failure, though the proposal may pass yet.
    AsPrinted,
}

/// Settings of the coordination service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CoordinationSettings {
    /// How often the leader looks for leases that are over (etcd: 500 ms).
    pub expiry_scan: Duration,
    /// How long a client waits for an answer before it asks another member.
    pub request_timeout: Duration,
    /// Leases keep what is left of their time when the leader changes. Off, as in etcd without checkpoints: they
    /// begin anew with their full time.
    pub lease_checkpoint: bool,
    /// How leases are measured.
    pub semantics: LeaseSemantics,
    /// How clients wait for their proposals.
    pub proposals: Proposals,
}

impl Default for CoordinationSettings {
    fn default() -> Self {
        CoordinationSettings {
            expiry_scan: Duration::from_millis(500),
            request_timeout: Duration::from_secs(2),
            lease_checkpoint: false,
            semantics: LeaseSemantics::Etcd,
            proposals: Proposals::Corrected,
        }
    }
}

/// How routers learn of a new primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteMode {
    /// The coordination service tells them at once.
    Push,
    /// They ask at this interval.
    Pull(Duration),
}

/// Settings of routers and clients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoutingSettings {
    /// How routers learn of changes.
    pub mode: RouteMode,
    /// First wait of a client before it tries again; doubles up to `back_off_max`.
    pub back_off: Duration,
    /// Longest wait of a client before it tries again.
    pub back_off_max: Duration,
    /// How long a client waits for the first answer of a node before it asks the router again.
    pub silence: Duration,
    /// Clients that a data node serves at a time; 0: any number. Who comes later is told so until somebody leaves.
    pub max_connections: u32,
    /// Circuit breaker: consecutive errors that open it; 0: no breaker.
    pub breaker_errors: u32,
    /// How long it stays open.
    pub breaker_open: Duration,
}

impl Default for RoutingSettings {
    fn default() -> Self {
        RoutingSettings {
            mode: RouteMode::Push,
            back_off: Duration::from_millis(50),
            back_off_max: Duration::from_secs(1),
            silence: Duration::from_secs(1),
            max_connections: 0,
            breaker_errors: 0,
            breaker_open: Duration::from_secs(30),
        }
    }
}

/// Which data node backups are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceChoice {
    /// The primary.
    Primary,
    /// The data node after it: its clients are not disturbed, and its state is somewhat older.
    Replica,
}

/// Backups.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupSettings {
    /// The object store.
    pub store: SocketAddrV4,
    /// When a backup is due.
    pub schedule: Schedule,
    /// What happens when the one before has not ended.
    pub overlap: Overlap,
    /// Where it is read.
    pub source: SourceChoice,
    /// How the copy becomes a state.
    pub snapshot: Snapshot,
    /// How changed blocks are found.
    pub finding: Finding,
    /// Every so many backups one is a base; 0: only the first.
    pub base_every: u32,
    /// Every so many backups one is a checkpoint; 0: none.
    pub checkpoint_every: u32,
    /// Blocks between two savings of a session.
    pub group: u32,
    /// Chains that are kept.
    pub keep_chains: usize,
    /// How often the log is archived; `None`: not at all.
    pub archive_every: Option<Duration>,
    /// More waiting bytes than this are dropped and called archived (pgBackRest `archive-push-queue-max`); `None`:
    /// they wait.
    pub archive_queue_max: Option<u64>,
    /// Bytes a second that a copy may take; `None`: all it can get.
    pub bandwidth: Option<u64>,
    /// Time of the source's process that reading one block takes from everything else.
    pub read_cost: Duration,
    /// How much of each 100 ms the source may spend on reading blocks; `None`: as long as it takes.
    pub cpu_quota: Option<Duration>,
    /// Bytes that a backup agent may hold; beyond, it is killed and started again. None: as many as it likes.
    pub memory_limit: Option<u64>,
    /// Bytes of log that are archived at a time; None: all that there are.
    pub archive_piece: Option<u64>,
    /// An agent writes only while it holds the repository's lease.
    pub writer_lease: bool,
    /// How often a restore is drilled; `None`: on order only.
    pub drill_every: Option<Duration>,
    /// How fast the store and a restore are.
    pub costs: Costs,
}

impl BackupSettings {
    /// The defaults for a store.
    pub fn new(store: SocketAddrV4) -> Self {
        BackupSettings {
            store,
            schedule: Schedule::Every(Duration::from_secs(20)),
            overlap: Overlap::Skip,
            source: SourceChoice::Primary,
            snapshot: Snapshot::Consistent,
            finding: Finding::Position,
            base_every: 7,
            checkpoint_every: 0,
            group: 4,
            keep_chains: 4,
            archive_every: Some(Duration::from_secs(1)),
            archive_queue_max: None,
            bandwidth: None,
            read_cost: Duration::from_micros(200),
            cpu_quota: None,
            memory_limit: None,
            archive_piece: None,
            writer_lease: true,
            drill_every: None,
            costs: Costs {
                prepare: Duration::from_secs(5),
                object_latency: Duration::from_millis(1),
                ..Costs::default()
            },
        }
    }
}

/// A change that is rolled out while the service runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RolloutSettings {
    /// When, counted from the start.
    pub at: Duration,
    /// What the new version costs the primary's process for each write: the change is a bad one.
    pub write_cost: Duration,
    /// Latency that the service must not exceed.
    pub p99_limit: Duration,
    /// Time that the signals look back.
    pub window: Duration,
    /// How long after a change it may be the reason.
    pub recent: Duration,
}

impl Default for RolloutSettings {
    fn default() -> Self {
        RolloutSettings {
            at: Duration::from_secs(30),
            write_cost: Duration::from_millis(60),
            p99_limit: Duration::from_secs(1),
            window: Duration::from_secs(10),
            recent: Duration::from_secs(120),
        }
    }
}

/// All settings of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Who is where.
    pub cluster: Cluster,
    /// The data nodes.
    pub agent: AgentSettings,
    /// The coordination service.
    pub coordination: CoordinationSettings,
    /// Health checks.
    pub health: HealthSettings,
    /// Routers and clients.
    pub routing: RoutingSettings,
    /// A change that is rolled out; `None`: none is.
    pub rollout: Option<RolloutSettings>,
    /// Backups; `None`: there are none.
    pub backup: Option<BackupSettings>,
    /// Sessions carry only what their port is for; off: any message is taken from anybody.
    pub least_privilege: bool,
    /// Historical faults, all off by default.
    pub quirks: Quirks,
}

impl Settings {
    /// The default settings for a cluster.
    pub fn new(cluster: Cluster) -> Self {
        Settings {
            cluster,
            agent: AgentSettings::default(),
            coordination: CoordinationSettings::default(),
            health: HealthSettings::LOCAL,
            routing: RoutingSettings::default(),
            rollout: None,
            backup: None,
            least_privilege: true,
            quirks: Quirks::default(),
        }
    }

    /// How many data nodes are a majority.
    pub fn majority(&self) -> usize {
        self.cluster.data.len() / 2 + 1
    }
}

/// Port of the heartbeats.
pub const HEARTBEAT_PORT: u16 = 5405;
/// Port on which a primary waits for its replicas.
pub const REPLICATION_PORT: u16 = 7688;
/// Port on which votes are asked for.
pub const PEER_PORT: u16 = 7689;
/// Port of a data node for clients.
pub const CLIENT_PORT: u16 = 7687;
/// Port of the health checks.
pub const HEALTH_PORT: u16 = 8008;
/// Port of the coordination service for its clients.
pub const COORDINATION_PORT: u16 = 2379;
/// Port of the coordination service for its members.
pub const RAFT_PORT: u16 = 2380;
/// Port of a router.
pub const ROUTE_PORT: u16 = 7690;
/// Port of the power switch.
pub const FENCE_PORT: u16 = 623;
/// Port of the monitor.
pub const MONITOR_PORT: u16 = 9115;

/// Port of a data node for backups.
pub const BACKUP_PORT: u16 = 7691;
/// Port of a data node for a restorer that brings a state.
pub const SEED_PORT: u16 = 7692;
/// Port of an object store.
pub const STORE_PORT: u16 = 9000;
/// Port of an object store for those who may only read.
pub const RESTORE_PORT: u16 = 9001;
/// Port of an object store and of a restorer for operators.
pub const OPERATOR_PORT: u16 = 9002;
/// Port of the watchdog beside a data node.
pub const WATCHDOG_PORT: u16 = 7;

/// Port of the shared disk (iSCSI).
pub const DISK_PORT: u16 = 3260;

/// Another port of the same host.
pub(super) trait AtPort {
    /// With this port.
    fn at_port(self, port: u16) -> SocketAddrV4;
}

impl AtPort for SocketAddrV4 {
    fn at_port(self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(*self.ip(), port)
    }
}
