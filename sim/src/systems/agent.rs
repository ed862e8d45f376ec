//! The system `agent`: a replicated graph under a lease, with its coordination service, monitor, router and, where
//! asked for, power switch; in one region, or in two regions with a witness in a third.

use super::{Builder, Client, SystemUnderTest};
use crate::scenario::{Bytes, Span};
use crate::world::Layout;
use firedrill_checkers::record::NodeClass;
use firedrill_node::driver::{Frames, Wire};
use firedrill_protocols::agent::quirks::Quirks as ProtocolQuirks;
use firedrill_protocols::agent::settings as agent;
use firedrill_protocols::agent::settings::{
    CLIENT_PORT, COORDINATION_PORT, FENCE_PORT, HEALTH_PORT, HEARTBEAT_PORT, MONITOR_PORT, PEER_PORT,
    RAFT_PORT, REPLICATION_PORT, ROUTE_PORT, WATCHDOG_PORT,
};
use firedrill_protocols::agent::{Agent, Kind, NodeId, Settings};
use firedrill_protocols::agent::{client, coordination, fencer, monitor, node, router, watchdog};
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
    /// A watchdog beside each data node resets it when the lease was not renewed for this long; `null`: none.
    pub watchdog: Option<Span>,
    /// Who decides about promotions.
    pub election: Election,
    /// A primary without contact to a majority of the data nodes for this long refuses writes; `null`: not looked at.
    pub isolate_after: Option<Span>,
    /// Heartbeats between data nodes.
    pub heartbeat: Heartbeat,
    /// Health checks of the monitor; the default is 5 s / 2 s / 3.
    pub health: Health,
    /// The rules of the log.
    pub log_rules: LogRules,
    /// Where reads are answered.
    pub consistency: Consistency,
    /// Entries that a new primary replays per second.
    pub replay_per_second: u64,
    /// Leases of the coordination service keep their remaining time over a change of its leader.
    pub lease_checkpoint: bool,
    /// Routers are told of a new primary at once; with `pull_every` they ask at that interval instead.
    pub route_pull_every: Option<Span>,
    /// Consecutive errors that open a client's circuit breaker; `0`: no breaker.
    pub breaker_errors: u32,
    /// How long the breaker stays open.
    pub breaker_open: Span,
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
            watchdog: None,
            election: Election::Votes,
            isolate_after: None,
            heartbeat: Heartbeat::default(),
            health: Health::default(),
            log_rules: LogRules::Corrected,
            consistency: Consistency::Strong,
            replay_per_second: agent.replay_per_second,
            lease_checkpoint: false,
            route_pull_every: None,
            breaker_errors: 0,
            breaker_open: Span::secs(30),
            quirks: Quirks::default(),
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
}

impl Default for Heartbeat {
    fn default() -> Self {
        let beat = agent::HeartbeatSettings::default();
        Heartbeat { interval: Span(beat.interval), missed: beat.missed }
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
}

/// The machines of a layout.
struct Machines {
    agents: Vec<crate::world::HostIndex>,
    coordinators: Vec<crate::world::HostIndex>,
    monitor: crate::world::HostIndex,
    routers: Vec<crate::world::HostIndex>,
    fencer: Option<crate::world::HostIndex>,
}

impl SystemUnderTest for Config {
    type System = Agent;

    fn layout(&self, clients: &[Client]) -> Layout<Agent> {
        let mut build = Builder::new();
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
        let region = match self.place {
            Place::OneRegion => "here",
            Place::TwoRegions => "users",
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
    /// Region and zone of the `at`-th of `count` nodes.
    fn place_of(&self, at: usize, count: usize) -> (String, &'static str) {
        match self.place {
            Place::OneRegion => (format!("zone-{}", at + 1), "here"),
            Place::TwoRegions if at + 1 < count.max(2) => (format!("one-{}", at + 1), "one"),
            Place::TwoRegions => ("two-1".to_owned(), "two"),
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
                    (Place::OneRegion, _) => (format!("zone-{}", at + 1), "here"),
                };
                build.host(&self.coordinator_name(at), &zone, region)
            })
            .collect();
        // The monitor looks from outside of both data regions.
        let (zone, region) = match self.place {
            Place::OneRegion => ("zone-1", "here"),
            Place::TwoRegions => ("three-1", "three"),
        };
        let monitor = build.host("monitor", zone, region);
        let region = if self.place == Place::TwoRegions { "users" } else { region };
        let routers =
            (1..=self.routers).map(|at| build.host(&format!("router-{at}"), zone, region)).collect();
        let fencer = (self.fence == Fence::Power).then(|| build.host("fencer", zone, region));
        Machines { agents, coordinators, monitor, routers, fencer }
    }

    fn coordinator_name(&self, at: usize) -> String {
        match (self.place, at) {
            (Place::TwoRegions, 2) => "witness".to_owned(),
            (Place::TwoRegions | Place::OneRegion, at) => format!("coord-{}", at + 1),
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
        };
        let defaults = Settings::new(cluster);
        Settings {
            agent: self.agent_settings(defaults.agent.clone()),
            coordination: agent::CoordinationSettings {
                lease_checkpoint: self.lease_checkpoint,
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
                breaker_errors: self.breaker_errors,
                breaker_open: self.breaker_open.0,
                ..defaults.routing
            },
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
            lease: self.lease.settings(),
            keeper: if self.lease.keeper_beside { agent::Keeper::Beside } else { agent::Keeper::Inside },
            keeper_period: self.lease.keeper_period.0,
            fence: match self.fence {
                Fence::None => agent::Fence::None,
                Fence::Wait => agent::Fence::Wait,
                Fence::Power => agent::Fence::Power,
                Fence::Token => agent::Fence::Token,
            },
            election: match self.election {
                Election::Votes => agent::ElectionRule::Votes,
                Election::MonitorOrder => agent::ElectionRule::MonitorOrder,
            },
            watchdog: self.watchdog.map(|span| span.0),
            isolate_after: self.isolate_after.map(|span| span.0),
            heartbeat: agent::HeartbeatSettings {
                interval: self.heartbeat.interval.0,
                missed: self.heartbeat.missed,
            },
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
        }
    }
}
