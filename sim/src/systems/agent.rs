//! The system `agent`: a replicated graph under a lease, with its coordination service, monitor, router and, where
//! asked for, power switch and backups; in one region, or in two regions with a witness in a third.

mod backup;

pub use backup::Backup;

use super::{Builder, Client, SystemUnderTest};
use crate::scenario::{Bytes, Span};
use crate::world::Layout;
use firedrill_checkers::record::NodeClass;
use firedrill_node::driver::{Frames, Wire};
use firedrill_protocols::agent::quirks::Quirks as ProtocolQuirks;
use firedrill_protocols::agent::settings as agent;
use firedrill_protocols::agent::settings::{
    BACKUP_PORT, CLIENT_PORT, COORDINATION_PORT, DISK_PORT, FENCE_PORT, HEALTH_PORT, HEARTBEAT_PORT,
    MONITOR_PORT, PEER_PORT, RAFT_PORT, REPLICATION_PORT, ROUTE_PORT, SEED_PORT, STORE_PORT, WATCHDOG_PORT,
};
use firedrill_protocols::agent::{Agent, Kind, NodeId, Settings};
use firedrill_protocols::agent::{
    anywhere, client, coordination, disk, fencer, intruder, monitor, node, rollout, router, slots, watchdog,
};
use firedrill_protocols::contract::Shard;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::sync::Arc;

/// Settings of the system `agent`. The defaults are the corrected form of the recipe it follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Data nodes.
    pub agents: u8,
    /// Members of the coordination service.
    pub coordinators: u8,
    /// Routers that clients ask for the primary.
    pub routers: u8,
    /// Where everything stands.
    pub place: Place,
    /// What a write waits for.
    pub replication: Replication,
    /// Sync mode: block writes while nobody is in the synchronous set.
    pub sync_strict: bool,
    /// Sync mode: how long a silent member is waited for.
    pub sync_timeout: Span,
    /// Async mode: bytes that a candidate may be behind the last published position.
    pub lag_max: Bytes,
    /// A log on disk; without it the state lives in memory and is saved every `snapshot_every`.
    pub wal: bool,
    /// Without a log: how often the memory is saved.
    pub snapshot_every: Span,
    /// The lease.
    pub lease: Lease,
    /// How the old primary is made harmless.
    pub fence: Fence,
    /// How long a fence may take before the promotion is given up.
    pub fence_timeout: Span,
    /// Where the log is kept; a shared disk is a machine of its own, `shared-disk`.
    pub storage: Storage,
    /// What the shared disk checks before it takes a write.
    pub disk_check: DiskCheck,
    /// Slots of the shared disk through which nodes are told to reset themselves; `null`: nobody watches them.
    pub slots: Option<Slots>,
    /// A watchdog beside each data node resets it when the lease was not renewed for this long; `null`: none.
    pub watchdog: Option<Span>,
    /// Who decides about promotions.
    pub election: Election,
    /// Nobody but the very first primary stands without an operator's `promote`.
    pub manual: bool,
    /// A primary without contact to a majority of the data nodes for this long refuses writes; `null`: not looked at.
    pub isolate_after: Option<Span>,
    /// Heartbeats between data nodes.
    pub heartbeat: Heartbeat,
    /// Whose word may end a primary's right before its lease is over. With `heartbeat` it needs `"fence": "power"`.
    pub detector: Detector,
    /// Data nodes are told of changes in the coordination service; with `keys_pull_every` they read it at that interval
    /// instead.
    pub keys_pull_every: Option<Span>,
    /// Health checks of the monitor; the default is 5 s / 2 s / 3.
    pub health: Health,
    /// The rules of the log.
    pub log_rules: LogRules,
    /// Where reads are answered.
    pub consistency: Consistency,
    /// Who takes writes. With `anywhere` there is no primary and nothing that serves one: no coordination service,
    /// monitor or router; lists only, and `strong` reads are served as `eventual`.
    pub writers: Writers,
    /// With writers `anywhere`: how copies tell newer from older.
    pub versions: Versions,
    /// Entries that a new primary replays per second.
    pub replay_per_second: u64,
    /// Leases of the coordination service keep their remaining time over a change of its leader.
    pub lease_checkpoint: bool,
    /// Whose semantics leases have.
    pub lease_semantics: LeaseSemantics,
    /// How clients of the coordination service wait for their proposals.
    pub proposals: Proposals,
    /// Routers are told of a new primary at once; with `pull_every` they ask at that interval instead.
    pub route_pull_every: Option<Span>,
    /// Clients that a data node serves at a time; `0`: any number.
    pub max_connections: u32,
    /// Consecutive errors that open a client's circuit breaker; `0`: no breaker.
    pub breaker_errors: u32,
    /// How long the breaker stays open.
    pub breaker_open: Span,
    /// How long a client waits for the first answer of a node before it leaves it.
    pub client_silence: Span,
    /// Sessions carry only what their port is for; off: any message is taken from anybody.
    pub least_privilege: bool,
    /// A process with stolen certificates tries what they must not do.
    pub intruder: bool,
    /// A bad change is rolled out while the service runs; `null`: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Backups; `null`: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
    /// Historical faults.
    pub quirks: Quirks,
}

impl Default for Config {
    fn default() -> Self {
        let agent = agent::AgentSettings::default();
        Config {
            agents: 3,
            coordinators: 3,
            routers: 1,
            place: Place::OneRegion,
            replication: Replication::Async,
            sync_strict: agent.sync_strict,
            sync_timeout: Span(agent.sync_timeout),
            lag_max: Bytes(agent.lag_max_bytes),
            wal: true,
            snapshot_every: Span(agent.snapshot_every),
            lease: Lease::default(),
            fence: Fence::Wait,
            fence_timeout: Span(agent.fence_timeout),
            storage: Storage::Own,
            disk_check: DiskCheck::Epoch,
            slots: None,
            watchdog: None,
            election: Election::Votes,
            manual: false,
            isolate_after: None,
            heartbeat: Heartbeat::default(),
            detector: Detector::Monitor,
            keys_pull_every: None,
            health: Health::default(),
            log_rules: LogRules::Corrected,
            consistency: Consistency::Strong,
            writers: Writers::Primary,
            versions: Versions::Vector,
            replay_per_second: agent.replay_per_second,
            lease_checkpoint: false,
            lease_semantics: LeaseSemantics::Etcd,
            proposals: Proposals::Corrected,
            route_pull_every: None,
            max_connections: 0,
            breaker_errors: 0,
            breaker_open: Span::secs(30),
            client_silence: Span::secs(1),
            least_privilege: true,
            intruder: false,
            rollout: None,
            backup: None,
            quirks: Quirks::default(),
        }
    }
}

/// A change that is rolled out, watched, and rolled back if it turns out bad.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// When.
    pub at: Span,
    /// What the new version costs the primary's process for each write.
    pub write_cost: Span,
    /// Latency that the service must not exceed.
    pub p99_limit: Span,
    /// How long after the change it may be the reason.
    pub recent: Span,
}

impl Default for Rollout {
    fn default() -> Self {
        let settings = agent::RolloutSettings::default();
        Rollout {
            at: Span(settings.at),
            write_cost: Span(settings.write_cost),
            p99_limit: Span(settings.p99_limit),
            recent: Span(settings.recent),
        }
    }
}

/// Where everything stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// One region, a zone for each number.
    OneRegion,
    /// Region `one` has the first data nodes (the primary and, with three, a replica), region `two` the last one;
    /// each has a member of the coordination service, and the third member is the `witness` in region `three`, which
    /// votes and holds no data. Clients sit in region `users`.
    TwoRegions,
    /// Regions `one`, `two` and `three`, each with a data node and a member of the coordination service; a write in
    /// quorum mode waits for two of three. Clients sit in region `users`.
    ThreeRegions,
}

/// What a write waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Replication {
    /// The primary's disk.
    Async,
    /// One replica that the coordination service knows.
    Sync,
    /// A majority of the data nodes.
    Quorum,
}

/// How the old primary is made harmless before a new one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fence {
    /// Not at all.
    None,
    /// Its lease is waited for.
    Wait,
    /// Its power is switched off.
    Power,
    /// The other data nodes refuse its term.
    Token,
    /// The shared disk refuses its epoch.
    DiskLock,
    /// The shared disk forgets its registration.
    Preempt,
    /// A reset is written into its slot on the shared disk, and waited for.
    PoisonPill,
}

/// Where the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// On a disk of each data node's own.
    Own,
    /// On one disk that all reach.
    Shared,
}

/// What the shared disk checks before it takes a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskCheck {
    /// The epoch of the writer's lock.
    Epoch,
    /// The writer's registration.
    Registration,
    /// Nothing.
    Nothing,
}

/// The slots of the shared disk; a process beside each data node watches its slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Slots {
    /// How often the slot is read.
    pub every: Span,
    /// The host is reset when no read has succeeded for this long.
    pub watchdog: Span,
    /// How long the writer of a reset waits until it counts on it.
    pub message_wait: Span,
}

impl Default for Slots {
    fn default() -> Self {
        let slots = agent::SlotSettings::default();
        Slots {
            every: Span(slots.every),
            watchdog: Span(slots.watchdog),
            message_wait: Span(slots.message_wait),
        }
    }
}

/// Whose word may end a primary's right before its lease is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    /// The monitor's, where power fencing lets it; else nobody's.
    Monitor,
    /// The heartbeats' of a majority of the data nodes.
    Heartbeat,
}

/// Who takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Writers {
    /// The primary.
    Primary,
    /// Every data node.
    Anywhere,
}

/// How copies tell newer from older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Versions {
    /// Version vectors: concurrent writes are both kept.
    Vector,
    /// One integer, as a published sample has it: the larger wins.
    Scalar,
}

/// Whose semantics leases have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeaseSemantics {
    /// etcd: over after the time to live.
    Etcd,
    /// Consul: over after twice the time to live, or when the monitor calls the holder dead; then nobody gets the lock
    /// for `lock_delay`.
    Consul {
        /// 15 s unless configured.
        #[serde(default = "lock_delay")]
        lock_delay: Span,
        /// The session also ends when the monitor calls its node dead.
        #[serde(default)]
        health_checks: bool,
    },
    /// ZooKeeper: 2 to 20 ticks long, over at the next multiple of a tick.
    ZooKeeper {
        /// 2 s unless configured.
        #[serde(default = "tick")]
        tick: Span,
    },
}

fn lock_delay() -> Span {
    Span::secs(15)
}

fn tick() -> Span {
    Span::secs(2)
}

impl LeaseSemantics {
    fn settings(self) -> agent::LeaseSemantics {
        match self {
            LeaseSemantics::Etcd => agent::LeaseSemantics::Etcd,
            LeaseSemantics::Consul { lock_delay, health_checks } => {
                agent::LeaseSemantics::Consul { lock_delay: lock_delay.0, health_checks }
            }
            LeaseSemantics::ZooKeeper { tick } => agent::LeaseSemantics::ZooKeeper { tick: tick.0 },
        }
    }
}

/// How clients of the coordination service wait for their proposals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proposals {
    /// Each answer names its proposal, and without one nobody knows.
    Corrected,
    /// As a published sample has it: one channel of acknowledgements for all, and a late one is a failure.
    AsPrinted,
}

/// Who decides about promotions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Election {
    /// The replicas, once the lease is free.
    Votes,
    /// The monitor, by its health checks alone.
    MonitorOrder,
}

/// The rules of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogRules {
    /// Terms are checked, and a match test comes before a cut.
    Corrected,
    /// As a published sample has it.
    AsPrinted,
}

/// Where reads are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// By the primary under its lease.
    Strong,
    /// By any node, from what it has.
    Eventual,
    /// By any node that has seen what the client has seen.
    Causal,
}

/// The lease of the primary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lease {
    /// Time to live.
    pub ttl: Span,
    /// From one renewal to the next.
    pub renew_every: Span,
    /// Allowed error of clock rates, both clocks together, in parts per million.
    pub rate_bound_ppm: u32,
    /// What the holder keeps in hand.
    pub margin: Span,
    /// From when the holder counts.
    pub anchor: Anchor,
    /// When the holder looks.
    pub check: Check,
    /// On which clock.
    pub clock: LeaseClock,
    /// A process beside the data process measures the lease.
    pub keeper_beside: bool,
    /// How often that process looks.
    pub keeper_period: Span,
    /// Wait after the end of a lease before another node may take the right.
    pub acquire_after: Span,
}

impl Default for Lease {
    fn default() -> Self {
        let lease = agent::LeaseSettings::default();
        Lease {
            ttl: Span(lease.ttl),
            renew_every: Span(lease.renew_every),
            rate_bound_ppm: lease.rate_bound_ppm,
            margin: Span(lease.margin),
            anchor: Anchor::Send,
            check: Check::Ack,
            clock: LeaseClock::Monotonic,
            keeper_beside: false,
            keeper_period: Span::secs(1),
            acquire_after: Span(lease.acquire_after),
        }
    }
}

/// From when the holder counts its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// From the sending of the renewal.
    Send,
    /// From the arrival of its answer.
    Receive,
    /// From when the holder notices that renewals fail.
    Suspend,
}

/// When the holder looks at its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// At each acknowledgement.
    Ack,
    /// When an operation begins.
    Start,
    /// A timer takes the right away.
    Timer,
    /// Never: there is no lease.
    Off,
}

/// The clock of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeaseClock {
    /// The monotonic clock.
    Monotonic,
    /// The wall clock.
    Wall,
}

/// Heartbeats between data nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Heartbeat {
    /// How often.
    pub interval: Span,
    /// How many may be missed.
    pub missed: u32,
    /// `heartbeat_interval: 2000, fail_recv_const: 5` as corosync reads them: not 2 s and five missed beats, but five
    /// rotations of an idle token, 180 ms each. `interval` and `missed` do not count then.
    pub as_printed: bool,
}

impl Heartbeat {
    fn settings(&self) -> agent::HeartbeatSettings {
        match self.as_printed {
            true => agent::HeartbeatSettings::AS_PRINTED,
            false => agent::HeartbeatSettings { interval: self.interval.0, missed: self.missed },
        }
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        let beat = agent::HeartbeatSettings::default();
        Heartbeat { interval: Span(beat.interval), missed: beat.missed, as_printed: false }
    }
}

/// Health checks of the monitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// From one probe to the next.
    pub interval: Span,
    /// How long an answer may take.
    pub timeout: Span,
    /// Failures in a row that make a node unhealthy.
    pub retries: u32,
    /// A probe also asks whether the disk keeps up, not only for HTTP.
    pub write_probe: bool,
    /// The replicas must have lost a node too before it is declared dead.
    pub second_opinion: bool,
}

impl Default for Health {
    fn default() -> Self {
        let health = agent::HealthSettings::LOCAL;
        Health {
            interval: Span(health.interval),
            timeout: Span(health.timeout),
            retries: health.retries,
            write_probe: true,
            second_opinion: true,
        }
    }
}

/// Historical faults, all off by default; `docs/systems/agent.md` names the source of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quirks {
    /// A node that finds the lock free takes it without asking how far the others are.
    pub lock_unasked: bool,
    /// A new primary counts its term up from its own log.
    pub local_terms: bool,
    /// While the coordination service does not answer, the old lock is believed.
    pub cached_lock: bool,
    /// A demotion lets open sessions go on.
    pub smart_demotion: bool,
    /// A demotion is decided and not carried out.
    pub paper_fence: bool,
    /// Routers and clients take any route, older ones too.
    pub stale_routes: bool,
    /// Any member of the coordination service renews leases from its own memory.
    pub unchecked_renewal: bool,
    /// A rejoining primary keeps the writes that only it has.
    pub kept_tail: bool,
    /// A failed sync is tried again and then believed.
    pub retried_sync: bool,
    /// The monitor promotes the first replica that answers.
    pub first_alive: bool,
    /// A silent synchronous member is dropped without a word to the coordination service.
    pub silent_async: bool,
    /// A failed renewal is not tried again before the next is due.
    pub no_renew_retry: bool,
    /// A primary whose disk failed goes on renewing its lease.
    pub kept_lock: bool,
    /// Nobody hears that a put of a backup failed.
    pub unheard_failures: bool,
    /// A delta is taken on top of a backup of another history.
    pub any_parent: bool,
    /// A new primary archives from its promotion on.
    pub archive_from_promotion: bool,
    /// Expiry deletes what a restore reads.
    pub expire_unlocked: bool,
    /// The marks of changed blocks are believed after a restart.
    pub marks_after_crash: bool,
    /// A restored cluster goes on under the term of the lost one.
    pub old_identity: bool,
    /// A data node that has lost everything is backed up as if it were empty.
    pub blank_source: bool,
}

/// The machines of a layout.
struct Machines {
    agents: Vec<crate::world::HostIndex>,
    coordinators: Vec<crate::world::HostIndex>,
    monitor: crate::world::HostIndex,
    routers: Vec<crate::world::HostIndex>,
    fencer: Option<crate::world::HostIndex>,
    disk: Option<crate::world::HostIndex>,
    backup: Option<backup::Machines>,
}

impl SystemUnderTest for Config {
    type System = Agent;

    fn layout(&self, clients: &[Client]) -> Layout<Agent> {
        let mut build = Builder::new();
        if self.writers == Writers::Anywhere {
            return self.layout_anywhere(build, clients);
        }
        let machines = self.machines(&mut build);
        let settings = Arc::new(self.settings(&build, &machines));
        self.data_nodes(&mut build, &machines, &settings);
        self.coordination(&mut build, &machines, &settings);
        let shared = settings.clone();
        let ports = [(MONITOR_PORT, Kind::Health)];
        build.process("monitor", NodeClass::Service, machines.monitor, &ports, None, move || {
            Box::new(monitor::Monitor::new(shared.clone()))
        });
        for (at, host) in machines.routers.iter().enumerate() {
            let shared = settings.clone();
            let name = format!("router-{}", at + 1);
            build.process(&name, NodeClass::Service, *host, &[(ROUTE_PORT, Kind::Route)], None, move || {
                Box::new(router::Router::new(shared.clone(), at))
            });
        }
        if let Some(host) = machines.fencer {
            let shared = settings.clone();
            build.process(
                "fencer",
                NodeClass::Service,
                host,
                &[(FENCE_PORT, Kind::Fence)],
                None,
                move || Box::new(fencer::Fencer::new(shared.clone())),
            );
        }
        self.shared_disk(&mut build, &machines, &settings);
        if self.rollout.is_some() {
            let shared = settings.clone();
            let host = build.host("rollout", "zone-1", "here");
            build.process("rollout", NodeClass::Service, host, &[], None, move || {
                Box::new(rollout::Rollout::new(shared.clone()))
            });
        }
        if self.intruder {
            let shared = settings.clone();
            let host = build.host("intruder", "zone-1", "here");
            build.process("intruder", NodeClass::Service, host, &[], None, move || {
                Box::new(intruder::Intruder::new(shared.clone()))
            });
        }
        if let (Some(backup), Some(hosts)) = (&self.backup, &machines.backup) {
            backup.processes(&mut build, hosts, &settings);
        }
        let region = match self.place {
            Place::OneRegion => "here",
            Place::TwoRegions | Place::ThreeRegions => "users",
        };
        for (number, client) in clients.iter().enumerate() {
            let shared = settings.clone();
            build.client(client, "clients", region, move || {
                Box::new(client::Client::new(shared.clone(), number))
            });
        }
        build.build()
    }

    fn wire(&self) -> Option<Rc<dyn Wire<Agent>>> {
        // Its parts have no public wire form.
        Some(Rc::new(Frames { datagrams: Some(Kind::Heartbeat) }))
    }

    fn warmup(&self) -> Span {
        Span::secs(6)
    }

    fn quiesce(&self) -> Span {
        // A replica learns of the last entry with the primary's next beat.
        Span(self.heartbeat.interval.0 * 2 + std::time::Duration::from_secs(2))
    }
}

impl Config {
    /// Data nodes that all take writes, and clients; nothing else.
    fn layout_anywhere(&self, mut build: Builder<Agent>, clients: &[Client]) -> Layout<Agent> {
        let count = usize::from(self.agents);
        let hosts: Vec<_> = (0..count)
            .map(|at| {
                let (zone, region) = self.place_of(at, count);
                build.host(&format!("agent-{}", at + 1), &zone, region)
            })
            .collect();
        let cluster = agent::Cluster {
            data: hosts.iter().map(|host| build.address(*host, CLIENT_PORT)).collect(),
            ..agent::Cluster::default()
        };
        let defaults = Settings::new(cluster);
        let settings = Arc::new(Settings { agent: self.agent_settings(defaults.agent.clone()), ..defaults });
        for (at, host) in hosts.into_iter().enumerate() {
            let shared = settings.clone();
            let ports = [(CLIENT_PORT, Kind::Client), (REPLICATION_PORT, Kind::Gossip)];
            build.process(
                &format!("agent-{}", at + 1),
                NodeClass::Data,
                host,
                &ports,
                Some(Shard(0)),
                move || Box::new(anywhere::AnywhereNode::new(shared.clone(), NodeId(at as u8 + 1))),
            );
        }
        let region = if self.place == Place::TwoRegions { "users" } else { "here" };
        for client in clients {
            let shared = settings.clone();
            build.client(client, "clients", region, move || {
                Box::new(anywhere::AnywhereClient::new(shared.clone()))
            });
        }
        build.build()
    }

    /// The shared disk, and the watchers of its slots.
    fn shared_disk(&self, build: &mut Builder<Agent>, machines: &Machines, settings: &Arc<Settings>) {
        let Some(host) = machines.disk else { return };
        let shared = settings.clone();
        let ports = [(DISK_PORT, Kind::Disk)];
        build.process("shared-disk", NodeClass::Service, host, &ports, None, move || {
            Box::new(disk::SharedDisk::new(shared.clone()))
        });
        if self.slots.is_none() {
            return;
        }
        for (at, host) in machines.agents.iter().enumerate() {
            let shared = settings.clone();
            build.process(&format!("slot-{}", at + 1), NodeClass::Service, *host, &[], None, move || {
                Box::new(slots::SlotWatch::new(shared.clone(), NodeId(at as u8 + 1)))
            });
        }
    }

    /// Region and zone of the `at`-th of `count` nodes.
    fn place_of(&self, at: usize, count: usize) -> (String, &'static str) {
        match self.place {
            Place::OneRegion => (format!("zone-{}", at + 1), "here"),
            Place::TwoRegions if at + 1 < count.max(2) => (format!("one-{}", at + 1), "one"),
            Place::TwoRegions => ("two-1".to_owned(), "two"),
            Place::ThreeRegions => three_regions(at),
        }
    }

    fn machines(&self, build: &mut Builder<Agent>) -> Machines {
        let agents = usize::from(self.agents);
        let coordinators = usize::from(self.coordinators);
        let agents = (0..agents)
            .map(|at| {
                let (zone, region) = self.place_of(at, agents);
                build.host(&format!("agent-{}", at + 1), &zone, region)
            })
            .collect();
        let coordinators = (0..coordinators)
            .map(|at| {
                let (zone, region) = match (self.place, at) {
                    (Place::TwoRegions, 0) => ("one-1".to_owned(), "one"),
                    (Place::TwoRegions, 1) => ("two-1".to_owned(), "two"),
                    (Place::TwoRegions, _) => ("three-1".to_owned(), "three"),
                    (Place::ThreeRegions, at) => three_regions(at),
                    (Place::OneRegion, _) => (format!("zone-{}", at + 1), "here"),
                };
                build.host(&self.coordinator_name(at), &zone, region)
            })
            .collect();
        // The monitor looks from outside of both data regions.
        let (zone, region) = match self.place {
            Place::OneRegion => ("zone-1", "here"),
            Place::TwoRegions | Place::ThreeRegions => ("three-1", "three"),
        };
        let monitor = build.host("monitor", zone, region);
        let region = if self.place == Place::OneRegion { region } else { "users" };
        let routers =
            (1..=self.routers).map(|at| build.host(&format!("router-{at}"), zone, region)).collect();
        let fencer = (self.fence == Fence::Power).then(|| build.host("fencer", zone, region));
        let disk = (self.storage == Storage::Shared || self.slots.is_some())
            .then(|| build.host("shared-disk", "storage", region));
        let backup = self.backup.as_ref().map(|backup| backup.machines(build, zone, region));
        Machines { agents, coordinators, monitor, routers, fencer, disk, backup }
    }

    fn coordinator_name(&self, at: usize) -> String {
        match (self.place, at) {
            (Place::TwoRegions, 2) => "witness".to_owned(),
            (Place::TwoRegions | Place::ThreeRegions | Place::OneRegion, at) => format!("coord-{}", at + 1),
        }
    }

    fn data_nodes(&self, build: &mut Builder<Agent>, machines: &Machines, settings: &Arc<Settings>) {
        for (at, host) in machines.agents.iter().enumerate() {
            let shared = settings.clone();
            let ports = [
                (CLIENT_PORT, Kind::Client),
                (REPLICATION_PORT, Kind::Replication),
                (PEER_PORT, Kind::Peer),
                (HEARTBEAT_PORT, Kind::Heartbeat),
                (HEALTH_PORT, Kind::Health),
                (BACKUP_PORT, Kind::Backup),
                (SEED_PORT, Kind::Seed),
            ];
            let name = format!("agent-{}", at + 1);
            build.process(&name, NodeClass::Data, *host, &ports, Some(Shard(0)), move || {
                Box::new(node::DataNode::new(shared.clone(), NodeId(at as u8 + 1)))
            });
            if self.watchdog.is_some() {
                let shared = settings.clone();
                let ports = [(WATCHDOG_PORT, Kind::Watchdog)];
                build.process(
                    &format!("watchdog-{}", at + 1),
                    NodeClass::Service,
                    *host,
                    &ports,
                    None,
                    move || Box::new(watchdog::Watchdog::new(shared.clone(), NodeId(at as u8 + 1))),
                );
            }
        }
    }

    fn coordination(&self, build: &mut Builder<Agent>, machines: &Machines, settings: &Arc<Settings>) {
        let peers: Vec<_> =
            machines.coordinators.iter().map(|host| build.address(*host, RAFT_PORT)).collect();
        for (at, host) in machines.coordinators.iter().enumerate() {
            let (shared, peers) = (settings.clone(), peers.clone());
            let ports = [(COORDINATION_PORT, Kind::Coordination), (RAFT_PORT, Kind::Raft)];
            build.process(&self.coordinator_name(at), NodeClass::Arbiter, *host, &ports, None, move || {
                coordination::coordinator(shared.clone(), at, &peers)
            });
        }
    }

    fn settings(&self, build: &Builder<Agent>, machines: &Machines) -> Settings {
        let on = |hosts: &[crate::world::HostIndex], port| {
            hosts.iter().map(|host| build.address(*host, port)).collect()
        };
        let cluster = agent::Cluster {
            data: on(&machines.agents, CLIENT_PORT),
            coordination: on(&machines.coordinators, COORDINATION_PORT),
            monitor: Some(build.address(machines.monitor, MONITOR_PORT)),
            routers: on(&machines.routers, ROUTE_PORT),
            fencer: machines.fencer.map(|host| build.address(host, FENCE_PORT)),
            disk: machines.disk.map(|host| build.address(host, DISK_PORT)),
        };
        let defaults = Settings::new(cluster);
        Settings {
            agent: self.agent_settings(defaults.agent.clone()),
            coordination: agent::CoordinationSettings {
                lease_checkpoint: self.lease_checkpoint,
                semantics: self.lease_semantics.settings(),
                proposals: match self.proposals {
                    Proposals::Corrected => agent::Proposals::Corrected,
                    Proposals::AsPrinted => agent::Proposals::AsPrinted,
                },
                ..defaults.coordination
            },
            health: agent::HealthSettings {
                interval: self.health.interval.0,
                timeout: self.health.timeout.0,
                retries: self.health.retries,
                recoveries: 1,
                second_opinion: self.health.second_opinion,
                probe: if self.health.write_probe { agent::Probe::Write } else { agent::Probe::Http },
            },
            routing: agent::RoutingSettings {
                mode: self
                    .route_pull_every
                    .map_or(agent::RouteMode::Push, |every| agent::RouteMode::Pull(every.0)),
                max_connections: self.max_connections,
                breaker_errors: self.breaker_errors,
                breaker_open: self.breaker_open.0,
                silence: self.client_silence.0,
                ..defaults.routing
            },
            backup: self
                .backup
                .as_ref()
                .zip(machines.backup.as_ref())
                .map(|(backup, hosts)| backup.settings(build.address(hosts.store, STORE_PORT))),
            rollout: self.rollout.as_ref().map(|rollout| agent::RolloutSettings {
                at: rollout.at.0,
                write_cost: rollout.write_cost.0,
                p99_limit: rollout.p99_limit.0,
                recent: rollout.recent.0,
                ..agent::RolloutSettings::default()
            }),
            least_privilege: self.least_privilege,
            quirks: self.quirks.into(),
            ..defaults
        }
    }

    fn agent_settings(&self, defaults: agent::AgentSettings) -> agent::AgentSettings {
        agent::AgentSettings {
            replication: match self.replication {
                Replication::Async => agent::Replication::Async,
                Replication::Sync => agent::Replication::Sync,
                Replication::Quorum => agent::Replication::Quorum,
            },
            sync_strict: self.sync_strict,
            sync_timeout: self.sync_timeout.0,
            lag_max_bytes: self.lag_max.0,
            wal: self.wal,
            snapshot_every: self.snapshot_every.0,
            lease: agent::LeaseSettings {
                ttl: self.lease_semantics.settings().negotiated(self.lease.ttl.0),
                ..self.lease.settings()
            },
            keeper: if self.lease.keeper_beside { agent::Keeper::Beside } else { agent::Keeper::Inside },
            keeper_period: self.lease.keeper_period.0,
            fence: match self.fence {
                Fence::None => agent::Fence::None,
                Fence::Wait => agent::Fence::Wait,
                Fence::Power => agent::Fence::Power,
                Fence::Token => agent::Fence::Token,
                Fence::DiskLock => agent::Fence::DiskLock,
                Fence::Preempt => agent::Fence::Preempt,
                Fence::PoisonPill => agent::Fence::PoisonPill,
            },
            fence_timeout: self.fence_timeout.0,
            storage: self.storage_settings(),
            slots: self.slots.as_ref().map_or(defaults.slots, |slots| agent::SlotSettings {
                every: slots.every.0,
                watchdog: slots.watchdog.0,
                message_wait: slots.message_wait.0,
            }),
            detector: match self.detector {
                Detector::Monitor => agent::Detector::Monitor,
                Detector::Heartbeat => agent::Detector::Heartbeat,
            },
            metadata: self
                .keys_pull_every
                .map_or(agent::Metadata::Push, |every| agent::Metadata::Pull(every.0)),
            writers: match self.writers {
                Writers::Primary => agent::Writers::Primary,
                Writers::Anywhere => agent::Writers::Anywhere,
            },
            versions: match self.versions {
                Versions::Vector => agent::Versions::Vector,
                Versions::Scalar => agent::Versions::Scalar,
            },
            election: match self.election {
                Election::Votes => agent::ElectionRule::Votes,
                Election::MonitorOrder => agent::ElectionRule::MonitorOrder,
            },
            watchdog: self.watchdog.map(|span| span.0),
            manual: self.manual,
            isolate_after: self.isolate_after.map(|span| span.0),
            heartbeat: self.heartbeat.settings(),
            log_rules: match self.log_rules {
                LogRules::Corrected => agent::LogRules::Corrected,
                LogRules::AsPrinted => agent::LogRules::AsPrinted,
            },
            consistency: match self.consistency {
                Consistency::Strong => agent::Consistency::Strong,
                Consistency::Eventual => agent::Consistency::Eventual,
                Consistency::Causal => agent::Consistency::Causal,
            },
            replay_per_second: self.replay_per_second,
            ..defaults
        }
    }
}

impl Config {
    fn storage_settings(&self) -> agent::Storage {
        let check = match self.disk_check {
            DiskCheck::Epoch => agent::DiskCheck::Epoch,
            DiskCheck::Registration => agent::DiskCheck::Registration,
            DiskCheck::Nothing => agent::DiskCheck::Nothing,
        };
        match self.storage {
            Storage::Own => agent::Storage::Own,
            Storage::Shared => agent::Storage::Shared(check),
        }
    }
}

/// Zone and region of the `at`-th node where each region has one.
fn three_regions(at: usize) -> (String, &'static str) {
    let region = ["one", "two", "three"][at % 3];
    (format!("{region}-1"), region)
}

impl Lease {
    fn settings(&self) -> agent::LeaseSettings {
        agent::LeaseSettings {
            ttl: self.ttl.0,
            renew_every: self.renew_every.0,
            rate_bound_ppm: self.rate_bound_ppm,
            margin: self.margin.0,
            anchor: match self.anchor {
                Anchor::Send => agent::Anchor::Send,
                Anchor::Receive => agent::Anchor::Receive,
                Anchor::Suspend => agent::Anchor::Suspend,
            },
            check: match self.check {
                Check::Ack => agent::LeaseCheck::Ack,
                Check::Start => agent::LeaseCheck::Start,
                Check::Timer => agent::LeaseCheck::Timer,
                Check::Off => agent::LeaseCheck::Off,
            },
            clock: match self.clock {
                LeaseClock::Monotonic => agent::LeaseClock::Monotonic,
                LeaseClock::Wall => agent::LeaseClock::Wall,
            },
            acquire_after: self.acquire_after.0,
        }
    }
}

impl From<Quirks> for ProtocolQuirks {
    fn from(quirks: Quirks) -> Self {
        ProtocolQuirks {
            lock_unasked: quirks.lock_unasked,
            local_terms: quirks.local_terms,
            cached_lock: quirks.cached_lock,
            smart_demotion: quirks.smart_demotion,
            paper_fence: quirks.paper_fence,
            stale_routes: quirks.stale_routes,
            unchecked_renewal: quirks.unchecked_renewal,
            kept_tail: quirks.kept_tail,
            retried_sync: quirks.retried_sync,
            first_alive: quirks.first_alive,
            silent_async: quirks.silent_async,
            no_renew_retry: quirks.no_renew_retry,
            kept_lock: quirks.kept_lock,
            unheard_failures: quirks.unheard_failures,
            any_parent: quirks.any_parent,
            archive_from_promotion: quirks.archive_from_promotion,
            expire_unlocked: quirks.expire_unlocked,
            marks_after_crash: quirks.marks_after_crash,
            old_identity: quirks.old_identity,
            blank_source: quirks.blank_source,
        }
    }
}
