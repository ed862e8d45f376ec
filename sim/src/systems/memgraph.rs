//! The system `memgraph`: coordinators, data instances, and clients that route by Bolt tables.

use super::{Builder, Client, SystemUnderTest};
use crate::scenario::Span;
use crate::world::{HostIndex, Layout, Resolution};
use firedrill_checkers::record::NodeClass;
use firedrill_node::bolt::MemgraphWire;
use firedrill_node::driver::Wire;
use firedrill_protocols::contract::{Endpoint, Shard, SocketAddrV4};
use firedrill_protocols::memgraph::client::{self, ClientConfig};
use firedrill_protocols::memgraph::coordinator::{self, Coordinator, CoordinatorConfig};
use firedrill_protocols::memgraph::instance::{self, Instance, InstanceConfig};
use firedrill_protocols::memgraph::quirks::Quirks;
use firedrill_protocols::memgraph::rollout::{self, Rollout, RolloutConfig};
use firedrill_protocols::memgraph::state::{
    Address, ClusterState, CoordinatorInstance, DataInstance, InstanceId, Mode, Settings, Status, Uuid,
};
use firedrill_protocols::memgraph::storage::StorageConfig;
use firedrill_protocols::memgraph::{
    BOLT_PORT, COORDINATOR_PORT, Kind, MANAGEMENT_PORT, METRICS_PORT, Memgraph, REPLICATION_PORT,
};
use firedrill_protocols::raft::{self, Member};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Settings of the system `memgraph`. Defaults are Memgraph's, and the drivers'.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How many coordinators.
    pub coordinators: u16,
    /// How each data instance is fed as a replica; one entry an instance. The first becomes MAIN.
    pub instances: Vec<Replication>,
    /// The last so many instances run, but are not registered yet.
    pub unregistered: u16,
    /// The last so many coordinators run, but are not members yet.
    pub spare_coordinators: u16,
    /// How a failover chooses the new MAIN.
    pub choice: Choice,
    /// The design of v2.16 to v2.20: a failover is a list of calls and Raft entries under a lock.
    pub locked_failover: bool,
    /// One region for each coordinator and instance with the same number, instead of one for all.
    pub regions: bool,
    /// The cluster's settings.
    pub settings: ClusterSettings,
    /// Raft between the coordinators.
    pub raft: RaftSettings,
    /// What a client hears when a SYNC replica did not confirm its transaction.
    pub sync_failure: SyncFailure,
    /// What a client hears when it writes to something else than a writeable MAIN.
    pub error_code: ErrorCode,
    /// A transaction log is made durable after so many transactions.
    pub wal_flush_every: u32,
    /// A snapshot is written, and the log before it dropped, after so many transactions; 0: never.
    pub snapshot_every: u32,
    /// The routing clients.
    pub client: ClientSettings,
    /// Names and zones.
    pub names: NameSettings,
    /// Zones that may not dial each other: network policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Policy>,
    /// A deployment restarts every process, one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdate>,
    /// Each append moves money between accounts too, and each read audits them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bank: Option<Bank>,
    /// Historical bugs that are back, by their names.
    pub quirks: Vec<Quirk>,
}

/// How a failover chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Since v3.6: the most committed transactions.
    Commits,
    /// v3.2 to v3.5: the largest last durable timestamp.
    Timestamps,
    /// v2.16 to v3.1: by histories of epochs.
    Epochs,
    /// v2.15: the first that is alive.
    FirstAlive,
}

/// A network policy: who dials a name there gets nowhere. The names concerned resolve for the one zone to a
/// firewall; processes that dial addresses (the operator) are not concerned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Zone of those who dial: `clients`, `outside`, `zone-1`, ...
    pub from: String,
    /// Who is dialled: a node, or all of a zone (`zone-1` has the first coordinator and the first instance).
    pub to: String,
    /// What they get.
    pub how: Denial,
}

/// What a denied dial gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Denial {
    /// A refusal at once.
    Reject,
    /// Nothing.
    BlackHole,
}

/// A rolling update: replicas first, the first instance last, then the coordinators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RollingUpdate {
    /// When the first process is told to end.
    pub at: Span,
    /// From a process's end to its start: a new pod is scheduled, its image pulled.
    pub restart_after: Span,
    /// What must be true of it before the next one.
    pub gate: Gate,
    /// From one probe to the next.
    pub period: Span,
}

/// When a restarted process counts as back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Its Bolt port is open, as the Helm chart's probes have it.
    Port,
    /// It says that it does the work of its role.
    Ready,
}

/// Accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bank {
    /// How many, at least two.
    pub accounts: u64,
    /// What each begins with.
    pub balance: u64,
}

/// How a replica is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Replication {
    /// MAIN waits for it, and commits even if it fails.
    Sync,
    /// MAIN does not wait.
    Async,
    /// MAIN commits only if it agreed.
    StrictSync,
}

/// The settings that coordinators replicate, by Memgraph's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterSettings {
    /// MAIN is offered for reads too.
    pub enabled_reads_on_main: bool,
    /// ASYNC replicas are no candidates in a failover.
    pub sync_failover_only: bool,
    /// A candidate may lack at most so many transactions.
    pub max_failover_replica_lag: Option<u64>,
    /// A replica that lacks more transactions is not offered for reads.
    pub max_replica_read_lag: Option<u64>,
    /// MAIN is dead after so many seconds without an answer.
    pub instance_down_timeout_sec: u64,
    /// Seconds between pings.
    pub instance_health_check_frequency_sec: u64,
    /// MAIN takes no writes.
    pub global_read_only: bool,
    /// A replica tells of its progress after so many changes.
    pub deltas_batch_progress_size: u64,
}

/// Raft between the coordinators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RaftSettings {
    /// Interval of a leader's heartbeats.
    pub heartbeat: Span,
    /// Shortest election timeout.
    pub election_min: Span,
    /// Longest election timeout.
    pub election_max: Span,
    /// A leader that hears no quorum for this long steps down.
    pub leadership_expiry: Span,
}

/// What a client hears when a SYNC replica did not confirm. The transaction is committed on MAIN in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncFailure {
    /// An error, until v3.12.
    Error,
    /// Success with a notification, since.
    Warning,
}

/// What a write on the wrong server gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// A client error of Memgraph's own: drivers neither retry nor look for the new MAIN.
    Memgraph,
    /// Neo4j's `NotALeader`: they do both.
    Neo4j,
}

/// The routing clients. Defaults are those of the Python driver 6.4, but for its timeouts: 30 s to connect and 60 s
/// for a router's answer suit no drill of an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientSettings {
    /// Which driver.
    pub driver: Driver,
    /// Where reads go.
    pub reads: Reads,
    /// Sessions name their database; if not, each operation begins by asking for a table.
    pub database: bool,
    /// What a server that was silent until an operation's deadline is.
    pub silence: Silence,
    /// How long a table is good.
    pub ttl: Span,
    /// A connection must open within this time.
    pub connect_timeout: Span,
    /// A router must answer within this time.
    pub answer_timeout: Span,
    /// Units of work are tried again for so long.
    pub retry_time: Span,
    /// A client's alert fires when refreshes of its table have failed for so long.
    pub alert_after: Span,
}

/// Which driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// 6.4.
    V6,
    /// 5.28.
    V5,
}

/// Where reads go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reads {
    /// To MAIN.
    Main,
    /// To what the table offers for reads.
    Replicas,
}

/// What a silent server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// Broken: removed from the table.
    Broken,
    /// Nothing: the driver learns nothing from the program's impatience.
    Ignored,
}

/// Names and zones. Every node has an internal name (`data-1.internal`), known in all zones of the cluster, and an
/// external one (`data-1.example.com`), known everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NameSettings {
    /// Clients are in the zone `outside`, which internal names mean nothing to.
    pub clients_outside: bool,
    /// What an internal name is in the zone `outside`.
    pub internal_outside: Hidden,
    /// How data instances are registered for clients.
    pub instances: Advertised,
    /// How coordinators are registered for clients.
    pub coordinators: Advertised,
    /// Where a coordinator's own entry in the table comes from.
    pub self_bolt_address: SelfBoltAddress,
}

/// What a name is where it has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hidden {
    /// It does not resolve.
    Unknown,
    /// It resolves to an address that nothing answers.
    BlackHole,
}

/// By which name clients are sent to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Advertised {
    /// The internal one.
    Internal,
    /// The external one.
    External,
    /// One for all (coordinators only): a load balancer's, which sends everybody to `coordinator-1` until the name is
    /// given another meaning.
    LoadBalancer,
}

/// Where a coordinator's own entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SelfBoltAddress {
    /// From its registration, since v3.0.
    Registered,
    /// Up to v2.22 (issue 2528): the first coordinator publishes the name that its Raft peers know it by.
    Hostname,
}

macro_rules! quirks {
    ($($variant:ident $field:ident $text:literal),* $(,)?) => {
        /// A historical bug; sources are in the documentation of the protocol's `quirks` module.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Quirk {
            $(#[doc = $text] $variant,)*
        }

        fn quirks_of(list: &[Quirk]) -> Quirks {
            let mut quirks = Quirks::default();
            for quirk in list {
                match quirk {
                    $(Quirk::$variant => quirks.$field = true,)*
                }
            }
            quirks
        }
    };
}

quirks! {
    UnfencedReplicas unfenced_replicas "Replicas take what any MAIN sends.",
    MainByStatusOnly main_by_status_only "A failover leaves the dead MAIN its status; tables count statuses.",
    ConcurrentChangesTwice concurrent_changes_twice "A change of concurrent transactions is encoded twice.",
    EpochsWithoutChanges epochs_without_changes "Epochs without changes enter the history.",
    FailedDemotionReconciles failed_demotion_reconciles "A failed demotion reconciles the whole cluster.",
    DemotionDeadlocks demotion_deadlocks "A demotion and a commit wait for each other.",
    GroupForgotten group_forgotten "A coordinator that restarts is alone in its group.",
    RecoveryGoesOn recovery_goes_on "A recovery goes on after a step that failed.",
    RecoveryEndsUnlocked recovery_ends_unlocked "A recovery ends without the lock that commits hold.",
    DemotionDoesNotWait demotion_does_not_wait "A demotion does not wait for the transaction being committed.",
    RpcBeforeRaft rpc_before_raft "UNREGISTER INSTANCE tells MAIN first and writes Raft's entry then.",
    LeaderAddedAgain leader_added_again "ADD COORDINATOR adds the leader a second time.",
    GroupNotStored group_not_stored "A coordinator that restarts after a change of the group ends.",
    FinalizeUnknownSucceeds finalize_unknown_succeeds "A decision on an unknown transaction succeeds.",
    PromoteByRoleOnly promote_by_role_only "An instance that is MAIN already keeps an old uuid.",
    DeposedLeaderActs deposed_leader_acts "A deposed leader goes on acting.",
    SwapUuidOnce swap_uuid_once "Replicas are told whom to follow once, and never again.",
    NoLeaderExpiry no_leader_expiry "An isolated leader stays leader.",
    ReconcileBeforeApply reconcile_before_apply "A new leader acts before it has applied older entries.",
    SeparateResetRpc separate_reset_rpc "A diverged instance is emptied first and fed later.",
    PromoteTimestampNotAdvanced promote_timestamp_not_advanced "A new MAIN uses its last timestamp again.",
    SyncFailureTransient sync_failure_transient "A committed transaction is reported as a transient error.",
    ReconcileWithoutMain reconcile_without_main "A new leader that finds no MAIN leaves it so.",
    SeparateWritingRpc separate_writing_rpc "Writing is enabled by a call of its own.",
    PromoteNotIdempotent promote_not_idempotent "Promoting a MAIN fails.",
    RegistrationFailsPromotion registration_fails_promotion "An unreachable replica fails the promotion.",
    PreparedSurvivesPromotion prepared_survives_promotion "A prepared transaction survives a promotion.",
    RouteFromOwnCopy route_from_own_copy "Followers answer ROUTE from an old copy.",
    UnsignedLag unsigned_lag "A replica ahead of MAIN has an enormous lag.",
}

impl Default for Config {
    fn default() -> Self {
        Config {
            coordinators: 3,
            instances: vec![Replication::Sync; 3],
            unregistered: 0,
            spare_coordinators: 0,
            choice: Choice::Commits,
            locked_failover: false,
            regions: false,
            settings: ClusterSettings::default(),
            raft: RaftSettings::default(),
            sync_failure: SyncFailure::Warning,
            error_code: ErrorCode::Memgraph,
            wal_flush_every: StorageConfig::default().wal_flush_every,
            snapshot_every: 0,
            client: ClientSettings::default(),
            names: NameSettings::default(),
            policies: Vec::new(),
            rolling_update: None,
            bank: None,
            quirks: Vec::new(),
        }
    }
}

impl Default for ClusterSettings {
    fn default() -> Self {
        let settings = Settings::default();
        ClusterSettings {
            enabled_reads_on_main: settings.enabled_reads_on_main,
            sync_failover_only: settings.sync_failover_only,
            max_failover_replica_lag: None,
            max_replica_read_lag: None,
            instance_down_timeout_sec: settings.instance_down_timeout_sec,
            instance_health_check_frequency_sec: settings.instance_health_check_frequency_sec,
            global_read_only: settings.global_read_only,
            deltas_batch_progress_size: settings.deltas_batch_progress_size,
        }
    }
}

impl Default for RollingUpdate {
    fn default() -> Self {
        RollingUpdate {
            at: Span::secs(20),
            restart_after: Span::secs(2),
            gate: Gate::Ready,
            period: Span::secs(1),
        }
    }
}

impl Default for Bank {
    fn default() -> Self {
        Bank { accounts: 8, balance: 1_000_000 }
    }
}

impl Default for RaftSettings {
    fn default() -> Self {
        let raft = raft::Config::default();
        RaftSettings {
            heartbeat: Span(raft.heartbeat),
            election_min: Span(raft.election_min),
            election_max: Span(raft.election_max),
            leadership_expiry: Span(raft.leadership_expiry.unwrap_or_default()),
        }
    }
}

impl Default for ClientSettings {
    fn default() -> Self {
        let driver = ClientConfig::new(Address::default());
        ClientSettings {
            driver: Driver::V6,
            reads: Reads::Main,
            database: true,
            silence: Silence::Broken,
            ttl: Span(driver.ttl),
            connect_timeout: Span::secs(1),
            answer_timeout: Span::secs(2),
            retry_time: Span(driver.retry_time),
            alert_after: Span(driver.alert_after),
        }
    }
}

impl Default for NameSettings {
    fn default() -> Self {
        NameSettings {
            clients_outside: false,
            internal_outside: Hidden::Unknown,
            instances: Advertised::External,
            coordinators: Advertised::External,
            self_bolt_address: SelfBoltAddress::Registered,
        }
    }
}

const OUTSIDE: &str = "outside";

/// The machines, by the numbers of coordinators and instances.
struct Machines {
    coordinators: Vec<HostIndex>,
    instances: Vec<HostIndex>,
}

impl SystemUnderTest for Config {
    type System = Memgraph;

    fn layout(&self, clients: &[Client]) -> Layout<Memgraph> {
        let mut build = Builder::new();
        let machines = self.machines(&mut build);
        self.name_machines(&mut build, &machines);
        for (at, host) in machines.coordinators.iter().enumerate() {
            let config = self.coordinator(&build, &machines, at as u16 + 1);
            let ports = [
                (BOLT_PORT, Kind::Bolt),
                (MANAGEMENT_PORT, Kind::Management),
                (COORDINATOR_PORT, Kind::Coordinator),
                (METRICS_PORT, Kind::Metrics),
            ];
            let name = coordinator_name(at);
            build.process(&name, NodeClass::Arbiter, *host, &ports, None, move || {
                Box::new(Coordinator::new(config.clone()))
            });
        }
        for (at, host) in machines.instances.iter().enumerate() {
            let config = self.instance();
            let ports = [
                (BOLT_PORT, Kind::Bolt),
                (MANAGEMENT_PORT, Kind::Management),
                (REPLICATION_PORT, Kind::Replication),
                (METRICS_PORT, Kind::Metrics),
            ];
            let name = instance_name(at);
            build.process(&name, NodeClass::Data, *host, &ports, Some(Shard(0)), move || {
                Box::new(Instance::new(config.clone()))
            });
        }
        self.rollout(&mut build, &machines);
        let zone = if self.names.clients_outside { OUTSIDE } else { "clients" };
        for (at, client) in clients.iter().enumerate() {
            let config = self.client(&build, &machines, at);
            build.client(client, zone, "here", move || Box::new(client::Client::new(config.clone())));
        }
        build.build()
    }

    fn wire(&self) -> Option<Rc<dyn Wire<Memgraph>>> {
        Some(Rc::new(MemgraphWire))
    }

    /// An election, the first pings, and the promotion of the first MAIN.
    fn warmup(&self) -> Span {
        Span::secs(8)
    }

    fn quiesce(&self) -> Span {
        Span::secs(5)
    }
}

fn coordinator_name(at: usize) -> String {
    format!("coordinator-{}", at + 1)
}

fn instance_name(at: usize) -> String {
    format!("data-{}", at + 1)
}

fn zone_name(at: usize) -> String {
    format!("zone-{}", at + 1)
}

fn internal(name: &str) -> String {
    format!("{name}.internal")
}

fn external(name: &str) -> String {
    format!("{name}.example.com")
}

impl Config {
    fn machines(&self, build: &mut Builder<Memgraph>) -> Machines {
        let region = |at: usize| if self.regions { format!("region-{}", at + 1) } else { "here".to_owned() };
        let mut host = |name: String, at: usize| build.host(&name, &zone_name(at), &region(at));
        Machines {
            coordinators: (0..usize::from(self.coordinators))
                .map(|at| host(coordinator_name(at), at))
                .collect(),
            instances: (0..self.instances.len()).map(|at| host(instance_name(at), at)).collect(),
        }
    }

    fn name_machines(&self, build: &mut Builder<Memgraph>, machines: &Machines) {
        let coordinators =
            machines.coordinators.iter().enumerate().map(|(at, host)| (coordinator_name(at), at, *host));
        let instances =
            machines.instances.iter().enumerate().map(|(at, host)| (instance_name(at), at, *host));
        let firewall = self.firewall(build);
        for (name, at, host) in coordinators.chain(instances).collect::<Vec<_>>() {
            let ip = Resolution::Ip(*build.address(host, BOLT_PORT).ip());
            let hidden = match self.names.internal_outside {
                Hidden::Unknown => Resolution::Unknown,
                Hidden::BlackHole => Resolution::BlackHole,
            };
            build.names().everywhere(&internal(&name), ip);
            build.names().everywhere(&external(&name), ip);
            build.names().in_zone(OUTSIDE, &internal(&name), hidden);
            for policy in self.policies.iter().filter(|policy| [&zone_name(at), &name].contains(&&policy.to))
            {
                let denied = match policy.how {
                    Denial::Reject => firewall.unwrap_or(Resolution::BlackHole),
                    Denial::BlackHole => Resolution::BlackHole,
                };
                build.names().in_zone(&policy.from, &internal(&name), denied);
                build.names().in_zone(&policy.from, &external(&name), denied);
            }
        }
        if let Some(first) = machines.coordinators.first() {
            let ip = Resolution::Ip(*build.address(*first, BOLT_PORT).ip());
            build.names().everywhere(&external("coordinators"), ip);
        }
    }

    /// A machine where nothing listens: it refuses in the name of those behind it.
    fn firewall(&self, build: &mut Builder<Memgraph>) -> Option<Resolution> {
        let rejects = self.policies.iter().any(|policy| policy.how == Denial::Reject);
        rejects.then(|| {
            let host = build.host("firewall", "firewall", "here");
            Resolution::Ip(*build.address(host, BOLT_PORT).ip())
        })
    }

    fn coordinator(&self, build: &Builder<Memgraph>, machines: &Machines, number: u16) -> CoordinatorConfig {
        let servers = |port: u16| -> BTreeMap<Member, Endpoint> {
            let member = |at: usize| {
                (Member(at as u16 + 1), Address::new(&internal(&coordinator_name(at)), port).endpoint())
            };
            (0..machines.coordinators.len()).map(member).collect()
        };
        let observed = machines.instances.iter().enumerate();
        CoordinatorConfig {
            me: Member(number),
            raft: self.raft(),
            founders: (1..=self.founders()).map(Member).collect(),
            raft_servers: servers(COORDINATOR_PORT),
            management_servers: servers(MANAGEMENT_PORT),
            initial: self.initial_state(),
            directory: self.directory(),
            coordinators: self.coordinator_instances(self.coordinators),
            locked: self.locked_failover,
            choice: match self.choice {
                Choice::Commits => coordinator::Choice::Commits,
                Choice::Timestamps => coordinator::Choice::Timestamps,
                Choice::Epochs => coordinator::Choice::Epochs,
                Choice::FirstAlive => coordinator::Choice::FirstAlive,
            },
            observed_as: observed
                .map(|(at, host)| (InstanceId(at as u16 + 1), build.address(*host, BOLT_PORT)))
                .collect(),
            quirks: quirks_of(&self.quirks),
        }
    }

    fn raft(&self) -> raft::Config {
        raft::Config {
            heartbeat: self.raft.heartbeat.0,
            election_min: self.raft.election_min.0,
            election_max: self.raft.election_max.0,
            leadership_expiry: Some(self.raft.leadership_expiry.0),
            ..raft::Config::default()
        }
    }

    /// As after the usual setup: coordinators added, instances registered, the first set to MAIN.
    fn initial_state(&self) -> ClusterState {
        let uuid = Uuid { number: 1, random: 1 };
        let mut instances = self.directory();
        instances.truncate(self.instances.len().saturating_sub(usize::from(self.unregistered)));
        if let Some(first) = instances.first_mut() {
            first.status = Status::Main;
        }
        instances.iter_mut().for_each(|instance| instance.uuid = uuid);
        ClusterState {
            instances,
            coordinators: self.coordinator_instances(self.founders()),
            main_uuid: uuid,
            settings: self.settings.settings(),
            lock_open: false,
        }
    }

    /// How many coordinators are members from the beginning.
    fn founders(&self) -> u16 {
        self.coordinators.saturating_sub(self.spare_coordinators)
    }

    /// The first `count` coordinators as clients are told of them.
    fn coordinator_instances(&self, count: u16) -> Vec<CoordinatorInstance> {
        let instance = |at: usize| {
            let by_hostname = at == 0 && self.names.self_bolt_address == SelfBoltAddress::Hostname;
            let advertised = if by_hostname { Advertised::Internal } else { self.names.coordinators };
            CoordinatorInstance { id: at as u16 + 1, bolt: bolt(&coordinator_name(at), advertised) }
        };
        (0..usize::from(count)).map(instance).collect()
    }

    /// The process that restarts all others, if there is a rolling update.
    fn rollout(&self, build: &mut Builder<Memgraph>, machines: &Machines) {
        let Some(update) = self.rolling_update else { return };
        let instances = machines.instances.iter().rev();
        let order = instances.chain(&machines.coordinators);
        let config = RolloutConfig {
            targets: order.map(|host| build.address(*host, BOLT_PORT)).collect(),
            begins_after: update.at.0,
            restart_after: update.restart_after.0,
            gate: match update.gate {
                Gate::Port => rollout::Gate::Port,
                Gate::Ready => rollout::Gate::Ready,
            },
            period: update.period.0,
        };
        let host = build.host("rollout", "zone-1", if self.regions { "region-1" } else { "here" });
        build.process("rollout", NodeClass::Service, host, &[], None, move || {
            Box::new(Rollout::new(config.clone()))
        });
    }

    fn directory(&self) -> Vec<DataInstance> {
        let instance = |(at, mode): (usize, &Replication)| {
            let name = instance_name(at);
            DataInstance {
                id: InstanceId(at as u16 + 1),
                management: Address::new(&internal(&name), MANAGEMENT_PORT),
                replication: Address::new(&internal(&name), REPLICATION_PORT),
                bolt: bolt(&name, self.names.instances),
                mode: match mode {
                    Replication::Sync => Mode::Sync,
                    Replication::Async => Mode::Async,
                    Replication::StrictSync => Mode::StrictSync,
                },
                status: Status::Replica,
                uuid: Uuid::default(),
            }
        };
        self.instances.iter().enumerate().map(instance).collect()
    }

    fn instance(&self) -> InstanceConfig {
        InstanceConfig {
            storage: StorageConfig {
                wal_flush_every: self.wal_flush_every,
                snapshot_every: self.snapshot_every,
                empty_epochs: self.quirks.contains(&Quirk::EpochsWithoutChanges),
            },
            sync_failure: match self.sync_failure {
                SyncFailure::Error => instance::SyncFailure::Error,
                SyncFailure::Warning => instance::SyncFailure::Warning,
            },
            error_code: match self.error_code {
                ErrorCode::Memgraph => instance::ErrorCode::Memgraph,
                ErrorCode::Neo4j => instance::ErrorCode::Neo4j,
            },
            quirks: quirks_of(&self.quirks),
            ..InstanceConfig::default()
        }
    }

    /// The payments that go with appends, if there is a bank.
    pub fn payments(&self) -> Option<client::Bank> {
        let bank = self.bank?;
        Some(client::Bank { accounts: bank.accounts.max(2), balance: bank.balance })
    }

    fn client(&self, build: &Builder<Memgraph>, machines: &Machines, at: usize) -> ClientConfig {
        let seed = at % usize::from(self.founders().max(1));
        let settings = &self.client;
        ClientConfig {
            seed: match self.names.coordinators {
                Advertised::LoadBalancer => bolt("", Advertised::LoadBalancer),
                Advertised::Internal | Advertised::External => {
                    bolt(&coordinator_name(seed), Advertised::External)
                }
            },
            driver: match settings.driver {
                Driver::V6 => client::Driver::V6,
                Driver::V5 => client::Driver::V5,
            },
            reads: match settings.reads {
                Reads::Main => client::Reads::Main,
                Reads::Replicas => client::Reads::Replicas,
            },
            database: settings.database,
            silence: match settings.silence {
                Silence::Broken => client::Silence::Broken,
                Silence::Ignored => client::Silence::Ignored,
            },
            ttl: settings.ttl.0,
            connect_timeout: settings.connect_timeout.0,
            answer_timeout: settings.answer_timeout.0,
            retry_time: settings.retry_time.0,
            alert_after: settings.alert_after.0,
            bank: self.payments(),
            known_as: known_as(build, machines),
        }
    }
}

impl ClusterSettings {
    fn settings(&self) -> Settings {
        Settings {
            enabled_reads_on_main: self.enabled_reads_on_main,
            sync_failover_only: self.sync_failover_only,
            max_failover_replica_lag: self.max_failover_replica_lag.unwrap_or(u64::MAX),
            max_replica_read_lag: self.max_replica_read_lag.unwrap_or(u64::MAX),
            instance_down_timeout_sec: self.instance_down_timeout_sec,
            instance_health_check_frequency_sec: self.instance_health_check_frequency_sec,
            global_read_only: self.global_read_only,
            deltas_batch_progress_size: self.deltas_batch_progress_size,
        }
    }
}

fn bolt(name: &str, advertised: Advertised) -> Address {
    match advertised {
        Advertised::Internal => Address::new(&internal(name), BOLT_PORT),
        Advertised::External => Address::new(&external(name), BOLT_PORT),
        Advertised::LoadBalancer => Address::new(&external("coordinators"), BOLT_PORT),
    }
}

/// Every name of every data instance, and the address that observers call it by.
fn known_as(build: &Builder<Memgraph>, machines: &Machines) -> BTreeMap<Address, SocketAddrV4> {
    let mut known = BTreeMap::new();
    for (at, host) in machines.instances.iter().enumerate() {
        for advertised in [Advertised::Internal, Advertised::External] {
            known.insert(bolt(&instance_name(at), advertised), build.address(*host, BOLT_PORT));
        }
    }
    known
}
