//! The data instance: holds the graph, and is MAIN or replica as the coordinators tell it.
//!
//! ```text
//!                      PromoteToMain(uuid): new epoch, replicas registered, then writing enabled
//!   REPLICA(uuid) ────────────────────────────────────────────────────────────────────▶ MAIN(uuid)
//!        ▲  SwapMainUuid: follow another                                                    │
//!        └──────────────── DemoteMainToReplica(uuid): waits for running writes ─────────────┘
//! ```
//!
//! A restarted MAIN is MAIN still, and takes no writes until the coordinators have confirmed it. A restarted replica
//! follows nobody until it is told whom.
//!
//! Here: life, and what both roles share. [`bolt`]: clients. [`management`]: the coordinators' calls. [`commit`]:
//! committing on MAIN. [`feeding`]: MAIN's replicas. [`following`]: the replica's side.

mod bolt;
mod commit;
mod feeding;
mod following;
mod management;

use super::message::{Bolt, Call, Message, ReplicaConfig, Return};
use super::metrics::{Metrics, Readiness};
use super::quirks::Quirks;
use super::state::Uuid;
use super::storage::{Committed, EpochId, Storage, StorageConfig};
use super::{Channel, Kind, Memgraph, Timer};
use crate::contract::*;
use crate::graph::Change;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use commit::Commits;
use feeding::ReplicaClient;
use management::Promotion;

/// What the client of a SYNC commit is told if a replica did not confirm. The transaction is committed in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncFailure {
    /// An error that says so (until v3.12).
    Error,
    /// Success with a notification (since August 2026).
    Warning,
}

/// Which error a write on something else than a writeable MAIN gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// A client error of Memgraph's own: drivers neither retry nor forget the server.
    Memgraph,
    /// Neo4j's `NotALeader`: they do both.
    Neo4j,
}

/// Settings of a data instance.
#[derive(Clone, Debug)]
pub struct InstanceConfig {
    /// Its storage.
    pub storage: StorageConfig,
    /// What a client hears of a SYNC replica that did not confirm.
    pub sync_failure: SyncFailure,
    /// What a client hears when it writes in the wrong place.
    pub error_code: ErrorCode,
    /// Work to replay one transaction in a recovery.
    pub replay_cost: Duration,
    /// Historical bugs.
    pub quirks: Quirks,
}

impl Default for InstanceConfig {
    fn default() -> Self {
        InstanceConfig {
            storage: StorageConfig::default(),
            sync_failure: SyncFailure::Warning,
            error_code: ErrorCode::Memgraph,
            replay_cost: Duration::from_micros(10),
            quirks: Quirks::default(),
        }
    }
}

/// MAIN's own state.
#[derive(Debug)]
struct Main {
    writing: bool,
    /// The coordinators have confirmed it since the process began.
    confirmed: bool,
    next_timestamp: u64,
    replicas: Vec<ReplicaClient>,
    commits: Commits,
    promotion: Option<Promotion>,
    /// A transaction that will never end holds on to its access.
    access_held: bool,
    /// A demotion that waits for running writes.
    demotion: Option<(SessionId, Uuid)>,
}

/// What the instance is.
#[derive(Debug)]
enum State {
    Main(Main),
    Replica {
        /// Prepared and not decided: one at a time.
        prepared: Option<Arc<Committed>>,
    },
}

/// A transaction that a client has begun: its changes so far.
type Open = Vec<Change>;

/// A data instance.
#[derive(Debug)]
pub struct Instance {
    config: InstanceConfig,
    storage: Storage,
    uuid: Uuid,
    state: State,
    open: BTreeMap<SessionId, Open>,
    /// As the coordinators told it.
    deltas_batch_progress_size: u64,
    /// As replica: when our MAIN was last heard, and how far it was then; unknown until it has said so.
    heard_main: Option<LocalTime>,
    main_timestamp: u64,
    /// As MAIN: replicas that were found on another branch, and started anew.
    resets: u64,
    /// A commit and a demotion wait for each other ([`Quirks::demotion_deadlocks`]).
    deadlocked: bool,
    announced: (Option<Role>, Option<bool>, Option<u64>),
}

impl Instance {
    /// An instance that has not started.
    pub fn new(config: InstanceConfig) -> Self {
        Instance {
            config,
            storage: Storage::default(),
            uuid: Uuid::default(),
            state: State::Replica { prepared: None },
            open: BTreeMap::new(),
            deltas_batch_progress_size: 100_000,
            heard_main: None,
            main_timestamp: u64::MAX,
            resets: 0,
            deadlocked: false,
            announced: (None, None, None),
        }
    }

    /// Its storage, for tests and tools.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    fn main(&mut self) -> Option<&mut Main> {
        match &mut self.state {
            State::Main(main) => Some(main),
            State::Replica { .. } => None,
        }
    }

    fn is_main(&self) -> bool {
        matches!(self.state, State::Main(_))
    }

    fn is_writable(&self) -> bool {
        matches!(&self.state, State::Main(main)
            if main.writing && main.demotion.is_none() && !self.deadlocked)
    }

    fn save(&self, cx: &mut Cx<'_, Memgraph>) {
        self.storage.save_identity(cx, !self.is_main(), self.uuid);
    }

    /// Tells the observers what changed.
    fn announce(&mut self, cx: &mut Cx<'_, Memgraph>) {
        let role = self.role();
        if self.announced.0.replace(role) != Some(role) {
            cx.observe(Observation::Role(role));
        }
        if self.announced.2.replace(self.uuid.number) != Some(self.uuid.number) {
            cx.observe(Observation::Epoch(self.uuid.number));
        }
        let writable = self.is_writable();
        if self.announced.1.replace(writable) != Some(writable) {
            cx.observe(Observation::Writable(writable));
        }
    }

    fn role(&self) -> Role {
        match &self.state {
            State::Main(main) if main.confirmed => Role::Primary,
            State::Main(_) => Role::Joining,
            State::Replica { .. } => Role::Replica,
        }
    }

    /// Becomes a replica of this MAIN, whatever it was. Writes that wait are aborted.
    fn become_replica(&mut self, cx: &mut Cx<'_, Memgraph>, uuid: Uuid) {
        self.abort_commits(cx);
        if let State::Main(main) = &mut self.state {
            main.replicas.iter_mut().for_each(|replica| replica.rpc.shut(cx));
            cx.cancel_timer(Timer::Heartbeat);
            cx.cancel_timer(Timer::Access);
        }
        self.state = State::Replica { prepared: None };
        self.follow(uuid);
        self.save(cx);
        self.announce(cx);
    }

    fn random_uuid(cx: &mut Cx<'_, Memgraph>) -> Uuid {
        Uuid { number: 0, random: cx.random().between(1, u64::MAX) }
    }
}

impl Main {
    fn new(next_timestamp: u64) -> Self {
        Main {
            writing: false,
            confirmed: false,
            next_timestamp,
            replicas: Vec::new(),
            commits: Commits::default(),
            promotion: None,
            access_held: false,
            demotion: None,
        }
    }

    fn replica(&mut self, session: SessionId) -> Option<usize> {
        self.replicas.iter().position(|replica| replica.rpc.has(session))
    }
}

impl Node<Memgraph> for Instance {
    fn start(&mut self, cx: &mut Cx<'_, Memgraph>, disk: &DiskImage<Memgraph>) {
        cx.observe(Observation::Gauge { name: "replica_resets", value: 0 });
        let (storage, identity) = Storage::recover(self.config.storage, disk);
        self.storage = storage;
        match identity {
            // Follows nobody until a coordinator says whom.
            Some(identity) if identity.is_replica => {
                self.uuid = Self::random_uuid(cx);
                self.state = State::Replica { prepared: None };
            }
            Some(identity) => {
                self.uuid = identity.uuid;
                self.state = State::Main(Main::new(self.storage.timestamp() + 1));
            }
            // A new instance is a MAIN of its own that takes no writes.
            None => {
                self.uuid = Self::random_uuid(cx);
                let epoch = EpochId(cx.random().between(1, u64::MAX));
                self.storage.begin_epoch(epoch);
                self.state = State::Main(Main::new(1));
                self.save(cx);
            }
        }
        self.announce(cx);
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, opened: Opened<Kind>) {
        match opened {
            Opened::Dialled => {
                if let Some(main) = self.main()
                    && let Some(at) = main.replica(session)
                {
                    main.replicas[at].rpc.opened(cx);
                }
            }
            // The replication server listens only while we are a replica.
            Opened::Accepted { kind: Kind::Replication, .. } if self.is_main() => cx.close(session),
            Opened::Accepted { .. } => {}
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, message: Message) {
        if self.deadlocked {
            return;
        }
        match message {
            Message::Bolt(bolt) => self.on_bolt(cx, session, bolt),
            Message::Call(call) => self.on_call(cx, session, call),
            Message::Return(answer) => self.on_return(cx, session, answer),
            Message::Get(path) => self.on_get(cx, session, &path),
            Message::Answer(_) | Message::Raft(_) | Message::Page { .. } => {}
        }
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, _: Closed) {
        self.open.remove(&session);
        if let Some(main) = self.main()
            && let Some(at) = main.replica(session)
        {
            let failed = main.replicas[at].rpc.failed(cx);
            self.on_replica_failed(cx, at, failed);
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Memgraph>, timer: Timer) {
        if self.deadlocked {
            return;
        }
        match timer {
            Timer::Heartbeat => self.on_heartbeat_timer(cx),
            Timer::Access => self.on_access_timeout(cx),
            Timer::Rpc(Channel::Replica(id)) => {
                if let Some(main) = self.main()
                    && let Some(at) = main.replicas.iter().position(|replica| replica.config.id == id)
                    && main.replicas[at].rpc.is_overdue(cx)
                {
                    let failed = main.replicas[at].rpc.failed(cx);
                    self.on_replica_failed(cx, at, failed);
                }
            }
            _ => {}
        }
    }

    fn inspect(&self) -> Vec<Inspection> {
        let (role, epoch, state) = (self.role(), self.uuid.number, self.storage.graph().elements());
        alloc::vec![Inspection { shard: Shard(0), role, epoch, state }]
    }
}

impl Instance {
    /// MAIN must have spoken so lately for a replica to be ready: three of its heartbeats.
    const HEARD_WITHIN: Duration = Duration::from_secs(3);

    /// Ready: a MAIN that takes writes, or a replica that has all that its MAIN had when it last spoke.
    fn readiness(&self, now: LocalTime) -> Readiness {
        let recent = self.heard_main.is_some_and(|heard| now.since(heard) <= Self::HEARD_WITHIN);
        let (role, lacks) = match &self.state {
            State::Main(_) if self.is_writable() => ("main", None),
            State::Main(_) => ("main", Some("takes no writes")),
            State::Replica { .. } if !recent => ("replica", Some("does not hear its main")),
            State::Replica { .. } if self.storage.timestamp() < self.main_timestamp => {
                ("replica", Some("is behind its main"))
            }
            State::Replica { .. } => ("replica", None),
        };
        Readiness { role, lacks }
    }

    fn on_get(&self, cx: &mut Cx<'_, Memgraph>, session: SessionId, path: &str) {
        let lags = self.lags();
        let behind = lags.iter().filter(|(_, lag)| *lag > 0).count() as u64;
        let gauges = [
            ("is_main", u64::from(self.is_main())),
            ("writable", u64::from(self.is_writable())),
            ("committed_transactions", self.storage.committed()),
            ("last_durable_timestamp", self.storage.timestamp()),
            ("vertex_count", self.storage.graph().vertex_count() as u64),
            ("edge_count", self.storage.graph().edge_count() as u64),
            ("replicas", lags.len() as u64),
            ("replicas_behind", behind),
            ("replica_resets", self.resets),
        ];
        Metrics::default().serve(cx, session, path, &self.readiness(cx.now()), &gauges);
    }

    /// Follows this MAIN from now on; how far it is, it has not said.
    fn follow(&mut self, uuid: Uuid) {
        if self.uuid != uuid {
            (self.heard_main, self.main_timestamp) = (None, u64::MAX);
        }
        self.uuid = uuid;
    }

    /// Our MAIN said how far it is.
    fn hear_main(&mut self, now: LocalTime, timestamp: u64) {
        (self.heard_main, self.main_timestamp) = (Some(now), timestamp);
    }

    fn on_return(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, answer: Return) {
        if let Some(main) = self.main()
            && let Some(at) = main.replica(session)
            && let Some(purpose) = main.replicas[at].rpc.answered(cx)
        {
            self.on_replica_answer(cx, at, purpose, answer);
        }
    }
}
