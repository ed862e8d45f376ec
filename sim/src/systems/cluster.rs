//! The system `cluster`: a Redis or Valkey cluster of some shards, each a primary with replicas.
//!
//! Nodes are named `node-1`, `node-2`, ...: first the primaries of shard 0, 1, ..., then one replica of each shard,
//! then a second one of each, and so on. `extra_primaries` without slots come last.

use super::{Builder, Client, SystemUnderTest};
use crate::scenario::{Bytes, Span};
use crate::world::{HostIndex, Layout};
use firedrill_checkers::record::NodeClass;
use firedrill_node::cluster_bus::ClusterWire;
use firedrill_node::driver::Wire;
use firedrill_protocols::cluster::bus::NodeId;
use firedrill_protocols::cluster::client::{ClientSettings, ClusterClient, Round};
use firedrill_protocols::cluster::node::ClusterNode;
use firedrill_protocols::cluster::orchestrator::{Orchestrator, OrchestratorSettings};
use firedrill_protocols::cluster::quirks::Quirks;
use firedrill_protocols::cluster::resharder::{Resharder, ResharderSettings};
use firedrill_protocols::cluster::settings::{Flavor, HandOver, NodeSpec, Rules, Settings};
use firedrill_protocols::cluster::slots::{SlotSet, even_split, slot_of_number};
use firedrill_protocols::cluster::state::Owners;
use firedrill_protocols::cluster::{Cluster, Kind};
use firedrill_protocols::contract::{Key, Shard, SocketAddrV4};
use firedrill_protocols::redis::settings::{Persistence, Settings as DataSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

const PORT_CLIENT: u16 = 7000;
const PORT_BUS: u16 = 17000;

/// Settings of the system `cluster`. Defaults are those of the projects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How many shards.
    pub shards: u16,
    /// Replicas of each shard.
    pub replicas: u16,
    /// Primaries without slots, beside the shards.
    pub extra_primaries: u16,
    /// Replicas of shard 0 beyond those of the others.
    pub extra_replicas: u16,
    /// Whose rules: `redis7`, `valkey8` or `valkey9`.
    #[schemars(with = "String")]
    pub flavor: Flavor,
    /// Single rules that differ from the flavor's, by name.
    pub rules: RulesPatch,
    /// Historical faults, by name.
    #[schemars(with = "std::collections::BTreeMap<String, bool>")]
    pub quirks: Quirks,
    /// `cluster-node-timeout`.
    pub node_timeout: Span,
    /// `cluster-replica-validity-factor`; 0: any age.
    pub replica_validity_factor: u32,
    /// `cluster-migration-barrier`.
    pub migration_barrier: u32,
    /// `cluster-allow-replica-migration`.
    pub allow_replica_migration: bool,
    /// `cluster-require-full-coverage`.
    pub require_full_coverage: bool,
    /// `cluster-allow-reads-when-down`.
    pub allow_reads_when_down: bool,
    /// `cluster-manual-failover-timeout`.
    pub manual_failover_timeout: Span,
    /// Wait of the second small message on a bus link (Nagle's algorithm and the delayed acknowledgement).
    pub nagle_delay: Span,
    /// `cluster-config-save-behavior best-effort`.
    pub save_best_effort: bool,
    /// Names of nodes with `cluster-replica-no-failover yes`.
    pub no_failover: Vec<String>,
    /// What a primary does on SIGTERM: `none`, `notify`, `force` or `force-largest`.
    #[schemars(with = "String")]
    pub hand_over: HandOver,
    /// `shutdown-timeout`.
    pub shutdown_timeout: Span,
    /// No replication PING while writes are held back for a shutdown. No release does this.
    pub shutdown_blocks_ping: bool,
    /// Names of replicas whose version is too old for a hand-over.
    pub old_replicas: Vec<String>,
    /// `repl-ping-replica-period`.
    pub repl_ping_period: Span,
    /// `repl-timeout`.
    pub repl_timeout: Span,
    /// `repl-backlog-size`; the flavor's if not given.
    pub repl_backlog_size: Option<Bytes>,
    /// `repl-diskless-sync-delay`.
    pub repl_diskless_sync_delay: Span,
    /// `min-replicas-to-write`.
    pub min_replicas_to_write: u32,
    /// `min-replicas-max-lag`, in whole seconds.
    pub min_replicas_max_lag: Span,
    /// What of the data survives a restart.
    pub persistence: Keeping,
    /// What clients do.
    pub client: ClientConfig,
    /// An orchestrator that restarts nodes one after another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolling: Option<Rolling>,
    /// An operator's tool that moves slots, with their keys, under load. Keys of these slots count to the shard that gets
    /// them from the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reshard: Option<Reshard>,
}

/// What of the data survives a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keeping {
    /// Nothing.
    None,
    /// An append-only file, synced once a second.
    #[default]
    EverySecond,
    /// An append-only file, synced before each answer.
    Always,
}

/// Single rules that differ from the flavor's; the protocol's documentation says what each means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "each is the rule of the same name in the protocol's settings")]
pub struct RulesPatch {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_voters_report: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank_tie_break: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vote_spacing: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_on_lost_epoch: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manual_resets_election: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_at_once: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_election_delay: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_ranked_at_once: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safe_to_join: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal_updates: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_headers_ignored: Option<bool>,
}

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// Wait before a refused operation is tried again.
    pub retry_after: Span,
    /// Wait for an answer to CLUSTER SLOTS, connecting included.
    pub refresh_timeout: Span,
    /// Read from replicas.
    pub read_from_replicas: bool,
    /// No map of slots: the nodes of a shard are asked in turn, the next one after each error, once a `retry_after`. So do
    /// measuring loops.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub asks_in_turn: bool,
}

impl Default for ClientConfig {
    fn default() -> Self {
        let client = ClientSettings::default();
        ClientConfig {
            retry_after: Span(client.retry_after),
            refresh_timeout: Span(client.refresh_timeout),
            read_from_replicas: client.read_from_replicas,
            asks_in_turn: false,
        }
    }
}

/// A rolling restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rolling {
    /// Names of the nodes, in order.
    pub targets: Vec<String>,
    /// When the first one gets SIGTERM.
    pub begins_after: Span,
    /// From SIGTERM to SIGKILL; 0: SIGKILL at once.
    pub grace: Span,
    /// From the end of the grace to the start; without it, the node stays down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_after: Option<Span>,
    /// From one node to the next.
    pub every: Span,
    /// Readiness gate: how often a restarted node is asked whether it is ready; the next one follows when it is, whatever
    /// `every` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask_ready_every: Option<Span>,
}

/// Slots that move from one primary to another, as `redis-cli --cluster reshard` does it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reshard {
    /// Name of the primary that gives them.
    pub from: String,
    /// Name of the primary that takes them.
    pub to: String,
    /// The first slot.
    pub first: u16,
    /// The last slot.
    pub last: u16,
    /// When it begins.
    pub begins_after: Span,
    /// Keys of one MIGRATE.
    #[serde(default = "batch")]
    pub batch: u32,
}

fn batch() -> u32 {
    10
}

impl Default for Config {
    fn default() -> Self {
        let settings = Settings::new(Vec::new(), Flavor::default());
        Config {
            shards: 3,
            replicas: 1,
            extra_primaries: 0,
            extra_replicas: 0,
            flavor: Flavor::default(),
            rules: RulesPatch::default(),
            quirks: Quirks::default(),
            node_timeout: Span(settings.node_timeout),
            replica_validity_factor: settings.replica_validity_factor,
            migration_barrier: settings.migration_barrier,
            allow_replica_migration: settings.allow_replica_migration,
            require_full_coverage: settings.require_full_coverage,
            allow_reads_when_down: settings.allow_reads_when_down,
            manual_failover_timeout: Span(settings.manual_failover_timeout),
            nagle_delay: Span(settings.nagle_delay),
            save_best_effort: settings.save_best_effort,
            no_failover: Vec::new(),
            hand_over: settings.hand_over,
            shutdown_timeout: Span(settings.shutdown_timeout),
            shutdown_blocks_ping: settings.shutdown_blocks_ping,
            old_replicas: Vec::new(),
            repl_ping_period: Span(settings.data.repl_ping_period),
            repl_timeout: Span(settings.data.repl_timeout),
            repl_backlog_size: None,
            repl_diskless_sync_delay: Span(settings.data.sync_delay),
            min_replicas_to_write: settings.data.min_replicas,
            min_replicas_max_lag: Span::secs(settings.data.min_replicas_max_lag),
            persistence: Keeping::default(),
            client: ClientConfig::default(),
            rolling: None,
            reshard: None,
        }
    }
}

/// A node before it has an address.
struct Member {
    name: String,
    shard: u16,
    replica_of: Option<NodeId>,
    slots: SlotSet,
}

impl SystemUnderTest for Config {
    type System = Cluster;

    fn layout(&self, clients: &[Client]) -> Layout<Cluster> {
        let mut build = Builder::new();
        build.shards(self.shards);
        let members = self.members();
        let hosts: Vec<HostIndex> = (members.iter().enumerate())
            .map(|(at, member)| build.host(&member.name, &format!("zone-{}", self.zone(at, member)), "here"))
            .collect();
        let specs: Vec<NodeSpec> = (members.iter().zip(&hosts).enumerate())
            .map(|(at, (member, host))| NodeSpec {
                client: build.address(*host, PORT_CLIENT),
                bus: build.address(*host, PORT_BUS),
                replica_of: member.replica_of,
                slots: member.slots.clone(),
                config_epoch: if member.replica_of.is_none() { at as u64 + 1 } else { 0 },
                shard: Shard(member.shard),
                no_failover: self.no_failover.contains(&member.name),
            })
            .collect();
        let seeds: Vec<SocketAddrV4> = specs.iter().map(|spec| spec.client).collect();
        let settings = Arc::new(self.settings(specs, &members));
        for (at, (member, host)) in members.iter().zip(&hosts).enumerate() {
            let settings = settings.clone();
            let founding = Cell::new(true);
            let ports = [(PORT_CLIENT, Kind::Client), (PORT_BUS, Kind::Bus)];
            build.process(
                &member.name,
                NodeClass::Data,
                *host,
                &ports,
                Some(Shard(member.shard)),
                move || {
                    let id = NodeId(at as u16);
                    Box::new(ClusterNode::new(settings.clone(), id, founding.replace(false)))
                },
            );
        }
        self.orchestrate(&mut build, &members, &seeds);
        self.reshard(&mut build, &members, &seeds);
        let rounds = if self.client.asks_in_turn { self.rounds(&members, &seeds) } else { Vec::new() };
        let client_settings = Arc::new(ClientSettings {
            seeds,
            retry_after: self.client.retry_after.0,
            refresh_timeout: self.client.refresh_timeout.0,
            read_from_replicas: self.client.read_from_replicas,
            rounds,
        });
        for client in clients {
            let settings = client_settings.clone();
            build.client(client, "clients", "here", move || Box::new(ClusterClient::new(settings.clone())));
        }
        build.build()
    }

    fn shard_of(&self, key: Key) -> Shard {
        let slot = slot_of_number(key.0).0;
        if let Some(reshard) = self.reshard.as_ref().filter(|r| (r.first..=r.last).contains(&slot)) {
            let taker = self.members().into_iter().find(|member| member.name == reshard.to);
            return Shard(taker.map_or(0, |taker| taker.shard));
        }
        let ranges = even_split(self.shards);
        Shard(ranges.partition_point(|&(_, last)| last < slot) as u16)
    }

    fn wire(&self) -> Option<Rc<dyn Wire<Cluster>>> {
        Some(Rc::new(ClusterWire))
    }

    fn warmup(&self) -> Span {
        Span::secs(2)
    }
}

impl Config {
    /// Three zones; a shard's primary and replicas are in different ones.
    fn zone(&self, at: usize, member: &Member) -> usize {
        let round = at / usize::from(self.shards.max(1));
        (usize::from(member.shard) + round) % 3 + 1
    }

    fn members(&self) -> Vec<Member> {
        let mut members: Vec<Member> = Vec::new();
        let mut add = |shard: u16, replica_of: Option<u16>, slots: SlotSet| {
            let name = format!("node-{}", members.len() + 1);
            members.push(Member { name, shard, replica_of: replica_of.map(NodeId), slots });
        };
        for (shard, range) in even_split(self.shards).into_iter().enumerate() {
            add(shard as u16, None, SlotSet::from_ranges(&[range]));
        }
        for _ in 0..self.replicas {
            (0..self.shards).for_each(|shard| add(shard, Some(shard), SlotSet::empty()));
        }
        (0..self.extra_replicas).for_each(|_| add(0, Some(0), SlotSet::empty()));
        (0..self.extra_primaries).for_each(|_| add(0, None, SlotSet::empty()));
        members
    }

    /// The nodes of each shard, in their order.
    fn rounds(&self, members: &[Member], addresses: &[SocketAddrV4]) -> Vec<Round> {
        let of = |shard: usize| {
            let here =
                members.iter().zip(addresses).filter(move |(member, _)| usize::from(member.shard) == shard);
            here.map(|(_, &address)| address).collect()
        };
        let ranges = even_split(self.shards).into_iter().enumerate();
        ranges.map(|(shard, slots)| Round { slots, nodes: of(shard) }).collect()
    }

    fn settings(&self, specs: Vec<NodeSpec>, members: &[Member]) -> Settings {
        let defaults = Settings::new(Vec::new(), self.flavor);
        let named = |names: &[String]| -> Vec<NodeId> {
            let is = |at: &usize| names.contains(&members[*at].name);
            (0..members.len()).filter(is).map(|at| NodeId(at as u16)).collect()
        };
        Settings {
            owners: Owners::created(&specs),
            nodes: specs,
            rules: self.rules.apply(Rules::of(self.flavor)),
            quirks: self.quirks,
            node_timeout: self.node_timeout.0,
            replica_validity_factor: self.replica_validity_factor,
            migration_barrier: self.migration_barrier,
            allow_replica_migration: self.allow_replica_migration,
            require_full_coverage: self.require_full_coverage,
            allow_reads_when_down: self.allow_reads_when_down,
            manual_failover_timeout: self.manual_failover_timeout.0,
            nagle_delay: self.nagle_delay.0,
            save_best_effort: self.save_best_effort,
            hand_over: self.hand_over,
            shutdown_timeout: self.shutdown_timeout.0,
            shutdown_blocks_ping: self.shutdown_blocks_ping,
            old_replicas: named(&self.old_replicas),
            data: DataSettings {
                repl_ping_period: self.repl_ping_period.0,
                repl_timeout: self.repl_timeout.0,
                backlog_bytes: self.repl_backlog_size.map_or(defaults.data.backlog_bytes, |bytes| bytes.0),
                sync_delay: self.repl_diskless_sync_delay.0,
                min_replicas: self.min_replicas_to_write,
                min_replicas_max_lag: self.min_replicas_max_lag.0.as_secs(),
                persistence: match self.persistence {
                    Keeping::None => Persistence::None,
                    Keeping::EverySecond => Persistence::LogEverySecond,
                    Keeping::Always => Persistence::LogAlways,
                },
                ..defaults.data
            },
        }
    }

    fn orchestrate(&self, build: &mut Builder<Cluster>, members: &[Member], addresses: &[SocketAddrV4]) {
        let Some(rolling) = &self.rolling else { return };
        let address =
            |name: &String| members.iter().position(|member| member.name == *name).map(|at| addresses[at]);
        let settings = Arc::new(OrchestratorSettings {
            targets: rolling.targets.iter().filter_map(address).collect(),
            begins_after: rolling.begins_after.0,
            grace: rolling.grace.0,
            restart_after: rolling.restart_after.map(|span| span.0),
            every: rolling.every.0,
            ask_ready_every: rolling.ask_ready_every.map(|span| span.0),
        });
        let host = build.host("orchestrator", "control", "here");
        build.process("orchestrator", NodeClass::Service, host, &[], None, move || {
            Box::new(Orchestrator::new(settings.clone()))
        });
    }
}

impl Config {
    fn reshard(&self, build: &mut Builder<Cluster>, members: &[Member], addresses: &[SocketAddrV4]) {
        let Some(reshard) = &self.reshard else { return };
        let place = |name: &str| members.iter().position(|member| member.name == name);
        let (Some(from), Some(to)) = (place(&reshard.from), place(&reshard.to)) else { return };
        let is_other = |at: &usize| members[*at].replica_of.is_none() && *at != from && *at != to;
        let settings = Arc::new(ResharderSettings {
            slots: (reshard.first, reshard.last),
            from: (NodeId(from as u16), addresses[from]),
            to: (NodeId(to as u16), addresses[to]),
            others: (0..members.len()).filter(is_other).map(|at| addresses[at]).collect(),
            begins_after: reshard.begins_after.0,
            batch: reshard.batch,
            timeout: std::time::Duration::from_secs(1),
        });
        let host = build.host("resharder", "control", "here");
        build.process("resharder", NodeClass::Service, host, &[], None, move || {
            Box::new(Resharder::new(settings.clone()))
        });
    }
}

impl RulesPatch {
    fn apply(self, rules: Rules) -> Rules {
        Rules {
            only_voters_report: self.only_voters_report.unwrap_or(rules.only_voters_report),
            rank_tie_break: self.rank_tie_break.unwrap_or(rules.rank_tie_break),
            vote_spacing: self.vote_spacing.unwrap_or(rules.vote_spacing),
            retry_on_lost_epoch: self.retry_on_lost_epoch.unwrap_or(rules.retry_on_lost_epoch),
            manual_resets_election: self.manual_resets_election.unwrap_or(rules.manual_resets_election),
            force_at_once: self.force_at_once.unwrap_or(rules.force_at_once),
            short_election_delay: self.short_election_delay.unwrap_or(rules.short_election_delay),
            best_ranked_at_once: self.best_ranked_at_once.unwrap_or(rules.best_ranked_at_once),
            safe_to_join: self.safe_to_join.unwrap_or(rules.safe_to_join),
            refusal_updates: self.refusal_updates.unwrap_or(rules.refusal_updates),
            stale_headers_ignored: self.stale_headers_ignored.unwrap_or(rules.stale_headers_ignored),
        }
    }
}
