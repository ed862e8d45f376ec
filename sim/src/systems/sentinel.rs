//! The system `sentinel`: one primary with replicas, watched by sentinels (Redis 7.0, Valkey 9.1).

use super::{Builder, Client, SystemUnderTest};
use crate::scenario::{Bytes, Span};
use crate::world::{HostIndex, Layout, Program, Resolution};
use firedrill_checkers::record::NodeClass;
use firedrill_node::driver::Wire;
use firedrill_node::resp::RespWire;
use firedrill_protocols::contract::{Key, Shard, SocketAddrV4};
use firedrill_protocols::redis::info::Flavour;
use firedrill_protocols::redis::settings::{self as data, Persistence};
use firedrill_protocols::sentinel::client::{Discovery, Policy};
use firedrill_protocols::sentinel::quirks::Quirks;
use firedrill_protocols::sentinel::settings::{Group, Settings};
use firedrill_protocols::sentinel::{self, DataNode, Kind, Router, Sentinel, SentinelSystem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::time::Duration;

const PORT_DATA: u16 = 6379;
const PORT_SENTINEL: u16 = 26379;
const GROUP: &str = "mymaster";
const NOTIFY: &str = "/etc/redis/notify";
const RECONFIGURE: &str = "/etc/redis/reconfigure-clients";
/// Arguments of the client-reconfig script: the group's name, the caller's role, the state, the old address and port, the
/// new address and port. Clients that find a primary by name use the group's.
const NAME_AND_NEW_ADDRESS: (usize, usize) = (0, 5);
/// Pika says something to its replicas each two seconds, and drops those that are silent for twenty.
const PIKA_KEEPALIVE: Duration = Duration::from_secs(2);
const PIKA_SILENCE_MAX: Duration = Duration::from_secs(20);

/// Settings of the system `sentinel`. Defaults are those of Redis 7.0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How many replicas.
    pub replicas: u16,
    /// How many sentinels.
    pub sentinels: u16,
    /// How many sentinels must agree that the primary is down. The default is a majority of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quorum: Option<u32>,
    /// `down-after-milliseconds`.
    pub down_after: Span,
    /// `failover-timeout`.
    pub failover_timeout: Span,
    /// `parallel-syncs`.
    pub parallel_syncs: u32,
    /// `master-reboot-down-after-period`; zero for off.
    pub reboot_down_after: Span,
    /// Sentinels run on machines of their own, or with the data nodes.
    pub placement: Placement,
    /// When the sentinels are started; the data nodes are at zero.
    pub sentinels_start: Span,
    /// How many groups, of one primary and its replicas each, these sentinels watch. Group `n` is shard `n - 1`; the
    /// first is called `mymaster`, the others `mymaster-2` and so on. A key belongs to one group.
    pub groups: u16,
    /// `notification-script`, told each event of the level "warning".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification_script: Option<Script>,
    /// `client-reconfig-script`, told each change of a primary's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_reconfig_script: Option<Script>,
    /// The data nodes.
    pub data: DataNodes,
    /// The clients.
    pub client: Clients,
    /// Historical faults that the sentinels have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quirks: Vec<Quirk>,
}

/// What a script of the operator does. Each sentinel runs its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// How long it runs.
    pub takes: Span,
    /// Its exit codes, run by run; the last one holds for all later runs. 1: it is run again after 30 s, then 60 s, and so
    /// on; 2 and more: it is not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exits: Vec<u8>,
    /// Client-reconfig script: when it ends with 0, the host name `mymaster` means the new primary's address, for clients
    /// that find the primary by name.
    pub moves_name: bool,
}

/// Where sentinels run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Each on a machine of its own.
    #[default]
    Own,
    /// The first on the machine of the first data node, and so on.
    WithData,
}

/// Settings of the data nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataNodes {
    /// Which server.
    pub store: Store,
    /// `min-replicas-to-write`; 0 for off.
    pub min_replicas: u32,
    /// `min-replicas-max-lag`, in whole seconds.
    pub min_replicas_max_lag: Span,
    /// `replica-priority` of each node in order; 100 for those not named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<u32>,
    /// What survives a restart.
    pub persistence: Keep,
    /// On SIGTERM a primary hands over to a replica before it ends, and gives up after so long; 0: it just ends.
    pub hand_over_on_term: Span,
    /// A hand-over asks replicas for an acknowledgement instead of waiting for their next one. No release does this.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub asks_before_hand_over: bool,
    /// How long a data set takes to be read at start; LOADING meanwhile.
    pub load_time: Span,
    /// `repl-timeout`.
    pub repl_timeout: Span,
    /// `repl-diskless-sync-delay`.
    pub sync_delay: Span,
    /// `repl-backlog-size`.
    pub backlog: Bytes,
    /// An alarm when a replica lacks more than so much, looked at each second; 0: nobody looks.
    pub lag_alert: Bytes,
    /// Pika: time between a write to the store and its record in the log.
    pub log_gap: Span,
    /// A primary whose process was restarted answers LOADING, to its replicas too, until it is told what it is (a proposal).
    pub protected_restart: bool,
    /// Historical faults that the data nodes have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quirks: Vec<DataQuirk>,
}

/// Servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// Redis 7.0.
    #[default]
    Redis,
    /// Valkey 9.1.
    Valkey,
    /// Pika 4.0: the words of Redis, a store and replication of its own.
    Pika,
}

/// What survives a restart of a data node. Its role does in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// Snapshots every minute.
    Snapshots,
    /// A log, synced each second.
    #[default]
    LogEverySecond,
    /// A log, synced before each reply.
    LogAlways,
}

/// How clients follow a failover.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Clients {
    /// What they ask the sentinels.
    pub finds_primary_by: FindsBy,
    /// They ask again after a broken connection.
    pub resolves_on_error: bool,
    /// They ask again after a READONLY error.
    pub resolves_on_read_only: bool,
    /// They say CLIENT CAPA redirect and go where a demoted node sends them (Valkey 8.0).
    pub follows_redirects: bool,
    /// They listen for `+switch-master`.
    pub subscribes: bool,
    /// Pause between attempts to find the primary.
    pub retry: Span,
    /// Patience with a sentinel or a dial.
    pub connect_timeout: Span,
    /// After each write they WAIT for so many replicas.
    pub wait_replicas: u32,
    /// For so long.
    pub wait_timeout: Span,
}

/// What clients ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindsBy {
    /// SENTINEL MASTERS, as redis-py.
    #[default]
    Entries,
    /// SENTINEL MASTERS, then ROLE, as redis-rs.
    EntriesAndRole,
    /// SENTINEL get-master-addr-by-name, then ROLE, as the guidelines for clients say.
    AddressAndRole,
    /// Nothing: the first data node for ever.
    Nothing,
    /// Nothing: the host name `mymaster`, which a client-reconfig script moves.
    Name,
    /// No sentinel: ROLE of each data node in turn, as proxies that check it.
    AnyNode,
}

/// Historical faults of sentinels, and the canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quirk {
    /// The timer's frequency is not redrawn.
    SteadyTimer,
    /// Peers are forgotten at a switch.
    ForgetsPeersOnSwitch,
    /// An unexpected primary is made a replica at once.
    ConvertsAtOnce,
    /// A late failover sends SLAVEOF to the promoted node too.
    RepointsPromotedOnTimeout,
    /// A vote does not block the voter's own attempts.
    VotesWithoutLockout,
    /// A vote is told before it is saved.
    VotesBeforeSaving,
    /// A vote is given to everyone who asks.
    VotesTwice,
}

/// Historical faults of data nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataQuirk {
    /// Positions leave the PINGs at the end of the stream out.
    OffsetExcludesPings,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            replicas: 2,
            sentinels: 3,
            quorum: None,
            down_after: Span::secs(30),
            failover_timeout: Span::secs(180),
            parallel_syncs: 1,
            reboot_down_after: Span::default(),
            placement: Placement::default(),
            sentinels_start: Span::default(),
            groups: 1,
            notification_script: None,
            client_reconfig_script: None,
            data: DataNodes::default(),
            client: Clients::default(),
            quirks: Vec::new(),
        }
    }
}

impl Default for DataNodes {
    fn default() -> Self {
        let redis = data::Settings::default();
        DataNodes {
            store: Store::default(),
            min_replicas: redis.min_replicas,
            min_replicas_max_lag: Span::secs(redis.min_replicas_max_lag),
            priorities: Vec::new(),
            persistence: Keep::default(),
            hand_over_on_term: Span(redis.hand_over_on_term),
            asks_before_hand_over: redis.asks_before_hand_over,
            load_time: Span(redis.load_time),
            repl_timeout: Span(redis.repl_timeout),
            sync_delay: Span(redis.sync_delay),
            backlog: Bytes(redis.backlog_bytes),
            lag_alert: Bytes(redis.lag_alert_bytes),
            log_gap: Span(redis.log_gap),
            protected_restart: redis.protected_restart,
            quirks: Vec::new(),
        }
    }
}

impl Default for Clients {
    fn default() -> Self {
        let policy = Policy::default();
        Clients {
            finds_primary_by: FindsBy::default(),
            resolves_on_error: policy.resolves_on_error,
            resolves_on_read_only: policy.resolves_on_read_only,
            follows_redirects: policy.follows_redirects,
            subscribes: policy.subscribes,
            retry: Span(policy.retry),
            connect_timeout: Span(policy.connect_timeout),
            wait_replicas: 0,
            wait_timeout: Span::millis(100),
        }
    }
}

impl SystemUnderTest for Config {
    type System = SentinelSystem;

    fn layout(&self, clients: &[Client]) -> Layout<SentinelSystem> {
        let mut build = Builder::new();
        build.shards(self.groups());
        let data_hosts: Vec<HostIndex> = (1..=self.nodes_of_a_group() * self.groups())
            .map(|i| build.host(&format!("data-{i}"), &format!("zone-{i}"), "here"))
            .collect();
        let sentinel_hosts: Vec<HostIndex> = (1..=self.sentinels)
            .map(|i| match (self.placement, data_hosts.get(usize::from(i - 1))) {
                (Placement::WithData, Some(host)) => *host,
                _ => build.host(&format!("sentinel-{i}"), &format!("zone-{i}"), "here"),
            })
            .collect();
        let nodes: Vec<SocketAddrV4> =
            data_hosts.iter().map(|host| build.address(*host, PORT_DATA)).collect();
        let groups: Vec<&[SocketAddrV4]> = nodes.chunks(self.nodes_of_a_group().into()).collect();
        self.add_data_nodes(&mut build, &data_hosts, &groups);
        let primaries: Vec<SocketAddrV4> = groups.iter().map(|nodes| nodes[0]).collect();
        let settings = self.sentinel(&primaries);
        let mut sentinels = Vec::new();
        for (at, host) in sentinel_hosts.iter().enumerate() {
            let (settings, me) = (settings.clone(), build.address(*host, PORT_SENTINEL));
            sentinels.push(me);
            let (name, ports) = (format!("sentinel-{}", at + 1), [(PORT_SENTINEL, Kind::Sentinel)]);
            build.process(&name, NodeClass::Arbiter, *host, &ports, None, move || {
                Box::new(Sentinel::new(settings.clone(), me))
            });
            build.starts_at(self.sentinels_start);
        }
        self.add_programs(&mut build, &primaries);
        let policies: Vec<Policy> =
            groups.iter().zip(0..).map(|(nodes, group)| self.policy(nodes, group)).collect();
        for (at, client) in clients.iter().enumerate() {
            // Each client's list begins with another sentinel, as a careful operator would configure it.
            let mut order = sentinels.clone();
            order.rotate_left(at % sentinels.len().max(1));
            let policies = policies.clone();
            build.client(client, "clients", "here", move || {
                let client = |(group, policy): (usize, &Policy)| {
                    sentinel::Client::new(order.clone(), group_name(group as u16).into(), policy.clone())
                };
                Box::new(Router::new(policies.iter().enumerate().map(client).collect()))
            });
        }
        build.build()
    }

    fn shard_of(&self, key: Key) -> Shard {
        Router::group_of(key, self.groups())
    }

    fn wire(&self) -> Option<Rc<dyn Wire<SentinelSystem>>> {
        Some(Rc::new(RespWire))
    }

    fn warmup(&self) -> Span {
        // Replicas attach after the delay of the first snapshot; sentinels find each other within two hellos.
        Span(
            self.sentinels_start.0
                + self.data.sync_delay.0.max(Duration::from_secs(4))
                + Duration::from_secs(2),
        )
    }
}

/// The name of a group, counted from 0.
fn group_name(group: u16) -> String {
    match group {
        0 => GROUP.to_owned(),
        _ => format!("{GROUP}-{}", group + 1),
    }
}

impl Config {
    fn groups(&self) -> u16 {
        self.groups.max(1)
    }

    fn nodes_of_a_group(&self) -> u16 {
        self.replicas + 1
    }

    fn add_data_nodes(
        &self,
        build: &mut Builder<SentinelSystem>,
        hosts: &[HostIndex],
        groups: &[&[SocketAddrV4]],
    ) {
        for (at, host) in hosts.iter().enumerate() {
            let (group, place) =
                (at / usize::from(self.nodes_of_a_group()), at % usize::from(self.nodes_of_a_group()));
            let settings = self.data_node((place > 0).then_some(groups[group][0]), place);
            let (me, shard) = (groups[group][place], Shard(group as u16));
            let (name, ports) = (format!("data-{}", at + 1), [(PORT_DATA, Kind::Data)]);
            build.process(&name, NodeClass::Data, *host, &ports, Some(shard), move || {
                Box::new(DataNode::new(settings.clone(), me).of_shard(shard))
            });
        }
    }

    fn add_programs(&self, build: &mut Builder<SentinelSystem>, primaries: &[SocketAddrV4]) {
        for (primary, group) in primaries.iter().zip(0..) {
            build.names().everywhere(&group_name(group), Resolution::Ip(*primary.ip()));
        }
        for (path, script) in
            [(NOTIFY, &self.notification_script), (RECONFIGURE, &self.client_reconfig_script)]
        {
            if let Some(script) = script {
                let renames = script.moves_name.then_some(NAME_AND_NEW_ADDRESS);
                build.program(path, Program { takes: script.takes.0, exits: script.exits.clone(), renames });
            }
        }
    }

    fn data_node(&self, follows: Option<SocketAddrV4>, at: usize) -> data::Settings {
        let nodes = &self.data;
        let pika = nodes.store == Store::Pika;
        data::Settings {
            flavour: match nodes.store {
                Store::Redis => Flavour::Redis,
                Store::Valkey => Flavour::Valkey,
                Store::Pika => Flavour::Pika,
            },
            follows,
            priority: nodes.priorities.get(at).copied().unwrap_or(100),
            repl_timeout: if pika { PIKA_SILENCE_MAX } else { nodes.repl_timeout.0 },
            repl_ping_period: if pika { PIKA_KEEPALIVE } else { data::Settings::default().repl_ping_period },
            backlog_bytes: nodes.backlog.0,
            sync_delay: nodes.sync_delay.0,
            min_replicas: nodes.min_replicas,
            min_replicas_max_lag: nodes.min_replicas_max_lag.0.as_secs(),
            persistence: match nodes.persistence {
                Keep::Nothing => Persistence::None,
                Keep::Snapshots => Persistence::Snapshots { every: Duration::from_secs(60) },
                Keep::LogEverySecond => Persistence::LogEverySecond,
                Keep::LogAlways => Persistence::LogAlways,
            },
            hand_over_on_term: nodes.hand_over_on_term.0,
            asks_before_hand_over: nodes.asks_before_hand_over,
            load_time: nodes.load_time.0,
            lag_alert_bytes: nodes.lag_alert.0,
            log_gap: nodes.log_gap.0,
            protected_restart: nodes.protected_restart,
            quirks: data::Quirks {
                offset_excludes_pings: nodes.quirks.contains(&DataQuirk::OffsetExcludesPings),
            },
            ..data::Settings::default()
        }
    }

    fn sentinel(&self, primaries: &[SocketAddrV4]) -> Settings {
        let quorum = self.quorum.unwrap_or(u32::from(self.sentinels) / 2 + 1);
        let group = |(primary, number): (&SocketAddrV4, u16)| Group {
            shard: Shard(number),
            notification_script: self.notification_script.as_ref().map(|_| NOTIFY.into()),
            client_reconfig_script: self.client_reconfig_script.as_ref().map(|_| RECONFIGURE.into()),
            down_after: self.down_after.0,
            failover_timeout: self.failover_timeout.0,
            parallel_syncs: self.parallel_syncs,
            reboot_down_after: self.reboot_down_after.0,
            ..Group::new(&group_name(number), *primary, quorum)
        };
        let has = |quirk| self.quirks.contains(&quirk);
        let quirks = Quirks {
            steady_timer: has(Quirk::SteadyTimer),
            forgets_peers_on_switch: has(Quirk::ForgetsPeersOnSwitch),
            converts_at_once: has(Quirk::ConvertsAtOnce),
            repoints_promoted_on_timeout: has(Quirk::RepointsPromotedOnTimeout),
            votes_without_lockout: has(Quirk::VotesWithoutLockout),
            votes_before_saving: has(Quirk::VotesBeforeSaving),
            votes_twice: has(Quirk::VotesTwice),
        };
        Settings { groups: primaries.iter().zip(0..).map(group).collect(), quirks }
    }

    fn policy(&self, nodes: &[SocketAddrV4], group: u16) -> Policy {
        let client = &self.client;
        Policy {
            discovery: match client.finds_primary_by {
                FindsBy::Entries => Discovery::Entries,
                FindsBy::EntriesAndRole => Discovery::EntriesAndRole,
                FindsBy::AddressAndRole => Discovery::AddressAndRole,
                FindsBy::Nothing => Discovery::Fixed(nodes[0]),
                FindsBy::Name => Discovery::Name,
                FindsBy::AnyNode => Discovery::AnyNode,
            },
            nodes: nodes.to_vec(),
            name: group_name(group).into(),
            resolves_on_error: client.resolves_on_error,
            resolves_on_read_only: client.resolves_on_read_only,
            follows_redirects: client.follows_redirects,
            subscribes: client.subscribes,
            retry: client.retry.0,
            connect_timeout: client.connect_timeout.0,
            wait: (client.wait_replicas > 0).then_some((client.wait_replicas, client.wait_timeout.0)),
        }
    }
}
