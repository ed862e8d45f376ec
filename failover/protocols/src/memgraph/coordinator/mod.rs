//! The coordinator: a member of the Raft group; as its leader it watches the data instances and decides.
//!
//! ```text
//!   FOLLOWER ──── Raft: leading ────▶ LEADER_NOT_READY ──── reconciled ────▶ LEADER_READY
//!      ▲                                     │  ▲                                │
//!      └──────── Raft: following ────────────┴──┴── FORCE RESET CLUSTER STATE ───┘
//! ```
//!
//! A ready leader pings every data instance once a second. What the answer shows and what Raft says are compared in a
//! *callback*, under one lock for the whole coordinator: [`callback`] holds the rules, [`failover`] the choice of a new
//! MAIN, [`admin`] the queries of operators and the routing table.

mod admin;
mod callback;
mod failover;
mod locked;

use super::message::{Call, Forwarded, InstanceState, Message, Return};
use super::metrics::{Metrics, Readiness};
use super::quirks::Quirks;
use super::rpc::Rpc;
use super::state::{ClusterState, CoordinatorInstance, DataInstance, Delta, InstanceId, Uuid};
use super::{Channel, Kind, Memgraph, Record, Timer};
use crate::contract::*;
use crate::raft::{self, Embed, Event, Member, Raft};
use admin::{Asker, Then};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use failover::Candidate;
use locked::Act;

/// A callback waits so long for the lock, then skips its turn.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// Raft takes a snapshot after so many entries.
const SNAPSHOT_EVERY: u64 = 5;
/// Reconciliation that fails is tried again after this, doubled each time up to the limit.
const RECONCILE_BACKOFF: Duration = Duration::from_secs(1);
const RECONCILE_BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What a coordinator counts from its start.
const COUNTERS: [&str; 6] = [
    "become_leader",
    "become_leader_success",
    "failed_to_become_leader",
    "no_alive_instance_failed_failovers",
    "raft_failed_failovers",
    "successful_failovers",
];

/// How Raft is embedded.
#[derive(Debug)]
pub struct Embedding;

impl Embed for Embedding {
    type System = Memgraph;
    type Command = Delta;
    type State = ClusterState;
    const KIND: Kind = Kind::Coordinator;

    fn message(message: raft::Message<Delta, ClusterState>) -> Message {
        Message::Raft(Box::new(message))
    }
    fn timer(timer: raft::Timer) -> Timer {
        Timer::Raft(timer)
    }
    fn record(record: raft::Record<Delta, ClusterState>) -> Record {
        Record::Raft(Box::new(record))
    }
    fn unwrap(record: &Record) -> Option<&raft::Record<Delta, ClusterState>> {
        match record {
            Record::Raft(record) => Some(record),
            Record::Identity(_) | Record::Committed(_) | Record::Snapshot(_) => None,
        }
    }
}

/// Settings of a coordinator.
#[derive(Clone, Debug)]
pub struct CoordinatorConfig {
    /// Who we are.
    pub me: Member,
    /// Raft's times.
    pub raft: raft::Config,
    /// The group at the beginning.
    pub founders: Vec<Member>,
    /// Raft servers of all who may ever be members, by internal names.
    pub raft_servers: BTreeMap<Member, Endpoint>,
    /// Management servers of the same.
    pub management_servers: BTreeMap<Member, Endpoint>,
    /// The state that an operator has set up: coordinators added, instances registered, one of them set to MAIN.
    pub initial: ClusterState,
    /// Every data instance that may ever be registered.
    pub directory: Vec<DataInstance>,
    /// Every coordinator that may ever be added.
    pub coordinators: Vec<CoordinatorInstance>,
    /// How a new MAIN is chosen.
    pub choice: Choice,
    /// The design of v2.16 to v2.20: see [`locked`].
    pub locked: bool,
    /// What observers call the data instances.
    pub observed_as: BTreeMap<InstanceId, SocketAddrV4>,
    /// Historical bugs.
    pub quirks: Quirks,
}

/// How the winner of a failover is chosen among those that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Since v3.6 (PR 3219): the most committed transactions.
    Commits,
    /// v3.2 to v3.5 (PR 2812): the largest last durable timestamp.
    Timestamps,
    /// v2.16 to v3.1: histories of epochs, from the newest back to one that both know; the largest timestamp on the way.
    Epochs,
    /// v2.15: the first that is alive.
    FirstAlive,
}

/// What a coordinator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Raft has another leader, or none.
    Follower,
    /// Leads, and does not act yet.
    LeaderNotReady,
    /// Leads and acts.
    LeaderReady,
}

/// What a leader remembers of a data instance: nothing of it is replicated.
#[derive(Debug)]
struct Connector {
    rpc: Rpc<Purpose>,
    alive: bool,
    last_response: LocalTime,
    ping_began: LocalTime,
    /// The result of a ping that waits for the lock.
    waiting: Option<Option<InstanceState>>,
}

/// What an RPC to a data instance is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Ping,
    Step,
    Histories,
}

/// Who holds the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The callback of this instance's ping.
    Callback(InstanceId),
    /// Reconciliation of a new leader.
    Reconcile,
    /// A query that tells an instance first ([`Quirks::rpc_before_raft`]).
    Query,
}

/// An RPC that a callback makes.
#[derive(Clone, Debug)]
struct Step {
    to: InstanceId,
    call: Call,
}

/// What is done under the lock.
#[derive(Debug)]
struct Work {
    owner: Owner,
    doing: Doing,
}

#[derive(Debug)]
enum Doing {
    /// One RPC after the other.
    Steps(VecDeque<Step>),
    /// Asking the instances, in order, how much they have.
    Asking { next: usize, candidates: Vec<Candidate> },
    /// The new MAIN is being written into Raft.
    Committing { winner: InstanceId, ticket: u64 },
    /// Calls and entries of the old design, one after the other; the entry that is awaited.
    Acts { acts: VecDeque<Act>, winner: InstanceId, ticket: Option<u64> },
}

/// A coordinator.
#[derive(Debug)]
pub struct Coordinator {
    config: CoordinatorConfig,
    raft: Raft<Embedding>,
    cluster: ClusterState,
    status: Status,
    connectors: BTreeMap<InstanceId, Connector>,
    work: Option<Work>,
    /// Callbacks that wait for the lock, in order.
    queue: VecDeque<InstanceId>,
    backoff: Duration,
    /// MAIN's committed transactions as of its last ping; unknown to a new leader.
    main_committed: Option<u64>,
    /// Transactions that replicas lack, as MAIN last told.
    lags: BTreeMap<InstanceId, i64>,
    /// Replicas still to be told of a new uuid ([`Quirks::swap_uuid_once`]).
    swaps: BTreeSet<InstanceId>,
    /// MAIN was suspected already.
    suspected: bool,
    /// Where requests are forwarded to, and who waits for the answers.
    leader_rpc: Option<(Member, Rpc<u64>)>,
    forwards: BTreeMap<u64, (Asker, Forwarded)>,
    /// The query whose instance is being told, and the entry that follows.
    told_first: Option<(Asker, Delta)>,
    /// Queries that wait for their Raft entry.
    proposals: BTreeMap<u64, (Asker, Then)>,
    /// When the failover under way began.
    failover_began: LocalTime,
    metrics: Metrics,
    next_ticket: u64,
    announced: Option<Role>,
    announced_term: u64,
}

impl Coordinator {
    /// A coordinator that has not started.
    pub fn new(config: CoordinatorConfig) -> Self {
        let raft_config = raft::Config {
            leadership_expiry: config.raft.leadership_expiry.filter(|_| !config.quirks.no_leader_expiry),
            stores_group: !config.quirks.group_forgotten,
            ..config.raft.clone()
        };
        Coordinator {
            raft: Raft::new(raft_config, config.me, config.founders.clone(), config.raft_servers.clone()),
            cluster: config.initial.clone(),
            config,
            status: Status::Follower,
            connectors: BTreeMap::new(),
            work: None,
            queue: VecDeque::new(),
            backoff: RECONCILE_BACKOFF,
            main_committed: None,
            lags: BTreeMap::new(),
            swaps: BTreeSet::new(),
            suspected: false,
            leader_rpc: None,
            forwards: BTreeMap::new(),
            told_first: None,
            proposals: BTreeMap::new(),
            failover_began: LocalTime(0),
            metrics: Metrics::of(&COUNTERS),
            next_ticket: 0,
            announced: None,
            announced_term: 0,
        }
    }

    /// The state that Raft replicates, for tests and tools.
    pub fn cluster(&self) -> &ClusterState {
        &self.cluster
    }

    /// What it is.
    pub fn status(&self) -> Status {
        self.status
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn announce(&mut self, cx: &mut Cx<'_, Memgraph>, role: Role) {
        if self.announced.replace(role) != Some(role) {
            cx.observe(Observation::Role(role));
        }
        let term = self.raft.term().0;
        if self.announced_term != term {
            self.announced_term = term;
            cx.observe(Observation::Epoch(term));
        }
    }

    // ------------------------------------------------------------------------------------------------------- Raft

    fn after_raft(&mut self, cx: &mut Cx<'_, Memgraph>) {
        while let Some(event) = self.raft.next_event() {
            match event {
                Event::Apply { command, .. } => self.cluster.apply(command),
                Event::Restore { state, .. } => self.cluster = state,
                Event::Committed { ticket } => self.on_proposal(cx, ticket, true),
                Event::Ambiguous { ticket } => self.on_proposal(cx, ticket, false),
                Event::Elected { .. } => {
                    self.metrics.add("become_leader", 1);
                    self.announce(cx, Role::Leader);
                    self.status = Status::LeaderNotReady;
                    if self.config.quirks.reconcile_before_apply {
                        self.reconcile(cx);
                    }
                }
                Event::Leading { .. } => {
                    if self.status == Status::LeaderNotReady {
                        self.reconcile(cx);
                    }
                }
                Event::Suspecting { .. } | Event::Standing { .. } => self.announce(cx, Role::Candidate),
                Event::Following { .. } => {
                    self.announce(cx, Role::Follower);
                    self.resign(cx);
                }
                Event::Readable { .. } => {}
            }
        }
        if self.raft.entries_since_snapshot() >= SNAPSHOT_EVERY {
            self.raft.take_snapshot(cx, self.cluster.clone());
        }
    }

    /// An entry of ours was committed, or nobody knows whether it will be: then it counts as failed, though it may
    /// take effect later.
    fn on_proposal(&mut self, cx: &mut Cx<'_, Memgraph>, ticket: u64, committed: bool) {
        if let Some((asker, then)) = self.proposals.remove(&ticket) {
            return self.answer_proposal(cx, asker, then, committed);
        }
        if let Some(Work { doing: Doing::Committing { winner, ticket: awaited }, .. }) = &self.work
            && *awaited == ticket
        {
            let winner = *winner;
            return self.failover_recorded(cx, winner, committed);
        }
        if let Some(Work { doing: Doing::Acts { ticket: Some(awaited), .. }, .. }) = &self.work
            && *awaited == ticket
        {
            self.act_done(cx, committed);
        }
    }

    /// No longer leader: stop pinging and forget what only a leader knows.
    fn resign(&mut self, cx: &mut Cx<'_, Memgraph>) {
        if self.status == Status::LeaderReady && self.config.quirks.deposed_leader_acts {
            return;
        }
        self.status = Status::Follower;
        self.stop_pings(cx);
        cx.cancel_timer(Timer::Reconcile);
    }

    fn stop_pings(&mut self, cx: &mut Cx<'_, Memgraph>) {
        for (id, connector) in &mut self.connectors {
            connector.rpc.shut(cx);
            cx.cancel_timer(Timer::Ping(*id));
            cx.cancel_timer(Timer::Lock(*id));
        }
        self.connectors.clear();
        self.work = None;
        self.told_first = None;
        self.queue.clear();
        self.main_committed = None;
        self.lags.clear();
    }

    // ---------------------------------------------------------------------------------------------------- reconcile

    /// A new leader compares the state with itself before it acts on it: exactly one MAIN is what it should find.
    fn reconcile(&mut self, cx: &mut Cx<'_, Memgraph>) {
        self.stop_pings(cx);
        self.make_connectors(cx);
        match self.cluster.main_count() {
            _ if self.cluster.lock_open => self.try_failover(cx, Owner::Reconcile),
            0 if self.cluster.instances.is_empty() || self.config.quirks.reconcile_without_main => {
                self.ready(cx);
            }
            0 => self.try_failover(cx, Owner::Reconcile),
            1 => self.ready(cx),
            // Impossible by the rules of Raft entries; the real one aborts too.
            _ => cx.exit(),
        }
    }

    fn make_connectors(&mut self, cx: &mut Cx<'_, Memgraph>) {
        for instance in &self.cluster.instances {
            let connector = Connector::new(cx.now(), instance);
            self.connectors.entry(instance.id).or_insert(connector);
        }
    }

    /// From now on pings and callbacks.
    fn ready(&mut self, cx: &mut Cx<'_, Memgraph>) {
        self.metrics.add("become_leader_success", 1);
        self.status = Status::LeaderReady;
        self.backoff = RECONCILE_BACKOFF;
        self.suspected = false;
        let ids: Vec<InstanceId> = self.connectors.keys().copied().collect();
        for id in ids {
            self.ping(cx, id);
        }
    }

    fn reconcile_failed(&mut self, cx: &mut Cx<'_, Memgraph>) {
        self.metrics.add("failed_to_become_leader", 1);
        cx.set_timer(Timer::Reconcile, self.backoff);
        self.backoff = (self.backoff * 2).min(RECONCILE_BACKOFF_MAX);
    }

    // -------------------------------------------------------------------------------------------------------- pings

    fn ping(&mut self, cx: &mut Cx<'_, Memgraph>, id: InstanceId) {
        if let Some(connector) = self.connectors.get_mut(&id) {
            connector.ping_began = cx.now();
            connector.rpc.call(cx, Purpose::Ping, Call::StateCheck);
        }
    }

    /// The next ping, a period after the last began.
    fn schedule_ping(&mut self, cx: &mut Cx<'_, Memgraph>, id: InstanceId) {
        let period = Duration::from_secs(self.cluster.settings.instance_health_check_frequency_sec.max(1));
        if let Some(connector) = self.connectors.get(&id) {
            let due = connector.ping_began + period;
            cx.set_timer(Timer::Ping(id), due.since(cx.now()));
        }
    }

    fn on_rpc_answer(&mut self, cx: &mut Cx<'_, Memgraph>, id: InstanceId, purpose: Purpose, answer: Return) {
        match (purpose, answer) {
            (Purpose::Ping, Return::State(state)) => self.ping_result(cx, id, Some(state)),
            (Purpose::Ping, _) => self.ping_result(cx, id, None),
            (Purpose::Step, answer) => self.step_done(cx, answer == Return::Success(true)),
            (Purpose::Histories, Return::Histories { system_timestamp, committed, timestamp, epochs }) => {
                let told = failover::Histories { system_timestamp, committed, timestamp, epochs };
                self.history_told(cx, id, Some(told));
            }
            (Purpose::Histories, _) => self.history_told(cx, id, None),
        }
    }

    fn on_rpc_failure(&mut self, cx: &mut Cx<'_, Memgraph>, id: InstanceId, purpose: Option<Purpose>) {
        match purpose {
            None => {}
            Some(Purpose::Ping) => self.ping_result(cx, id, None),
            Some(Purpose::Step) => self.step_done(cx, false),
            Some(Purpose::Histories) => self.history_told(cx, id, None),
        }
    }

    /// A ping ended: its callback runs when it has the lock.
    fn ping_result(&mut self, cx: &mut Cx<'_, Memgraph>, id: InstanceId, result: Option<InstanceState>) {
        if self.work.is_none() {
            return self.callback(cx, id, result);
        }
        if let Some(connector) = self.connectors.get_mut(&id) {
            connector.waiting = Some(result);
            self.queue.push_back(id);
            cx.set_timer(Timer::Lock(id), LOCK_TIMEOUT);
        }
    }

    fn lock_timed_out(&mut self, cx: &mut Cx<'_, Memgraph>, id: InstanceId) {
        self.queue.retain(|waits| *waits != id);
        if let Some(connector) = self.connectors.get_mut(&id)
            && connector.waiting.take().is_some()
        {
            self.schedule_ping(cx, id);
        }
    }

    /// The holder of the lock is done.
    fn release(&mut self, cx: &mut Cx<'_, Memgraph>) {
        match self.work.take().map(|work| work.owner) {
            Some(Owner::Callback(id)) => self.schedule_ping(cx, id),
            Some(Owner::Query) => self.write_what_was_told(cx),
            Some(Owner::Reconcile) | None => {}
        }
        while self.work.is_none() {
            let Some(id) = self.queue.pop_front() else { return };
            cx.cancel_timer(Timer::Lock(id));
            let waiting = self.connectors.get_mut(&id).and_then(|connector| connector.waiting.take());
            if let Some(result) = waiting {
                self.callback(cx, id, result);
            }
        }
    }

    fn connector_of(&self, session: SessionId) -> Option<InstanceId> {
        self.connectors.iter().find(|(_, connector)| connector.rpc.has(session)).map(|(id, _)| *id)
    }
}

impl Connector {
    fn new(now: LocalTime, instance: &DataInstance) -> Self {
        Connector {
            rpc: Rpc::new(Channel::Instance(instance.id), instance.management.endpoint(), Kind::Management),
            alive: true,
            last_response: now,
            ping_began: now,
            waiting: None,
        }
    }
}

impl Node<Memgraph> for Coordinator {
    fn start(&mut self, cx: &mut Cx<'_, Memgraph>, disk: &DiskImage<Memgraph>) {
        self.raft.start(cx, disk);
        if self.config.quirks.group_not_stored && self.raft.members() != self.config.founders {
            cx.note(|| "memgraph: the stored group cannot be read".into());
            return cx.exit();
        }
        self.after_raft(cx);
        self.announce(cx, Role::Follower);
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, opened: Opened<Kind>) {
        if opened != Opened::Dialled {
            return;
        }
        if self.raft.owns(session) {
            self.raft.on_open(cx, session);
        } else if let Some(id) = self.connector_of(session) {
            if let Some(connector) = self.connectors.get_mut(&id) {
                connector.rpc.opened(cx);
            }
        } else if let Some((_, rpc)) = &mut self.leader_rpc
            && rpc.has(session)
        {
            rpc.opened(cx);
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, message: Message) {
        match message {
            Message::Raft(message) => {
                self.raft.on_message(cx, session, *message);
                self.after_raft(cx);
            }
            Message::Return(answer) => self.on_answer(cx, session, answer),
            Message::Bolt(bolt) => self.on_bolt(cx, session, bolt),
            Message::Call(Call::Forward(asked)) => self.on_forwarded(cx, session, asked),
            Message::Call(_) => cx.send(session, Message::Return(Return::Success(false))),
            Message::Get(path) => self.on_get(cx, session, &path),
            Message::Answer(_) | Message::Page { .. } => {}
        }
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, _: Closed) {
        if self.raft.owns(session) {
            return self.raft.on_close(cx, session);
        }
        if let Some(id) = self.connector_of(session) {
            return self.rpc_failed(cx, id);
        }
        if let Some((_, rpc)) = &mut self.leader_rpc
            && rpc.has(session)
        {
            let failed = rpc.failed(cx);
            self.forward_failed(cx, failed);
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Memgraph>, timer: Timer) {
        match timer {
            Timer::Raft(timer) => {
                self.raft.on_timer(cx, timer);
                self.after_raft(cx);
            }
            Timer::Ping(id) => self.ping(cx, id),
            Timer::Lock(id) => self.lock_timed_out(cx, id),
            Timer::Rpc(Channel::Instance(id)) => {
                let connector = self.connectors.get_mut(&id);
                if connector.is_some_and(|connector| connector.rpc.is_overdue(cx)) {
                    self.rpc_failed(cx, id);
                }
            }
            Timer::Rpc(Channel::Leader) => {
                if let Some((_, rpc)) = &mut self.leader_rpc
                    && rpc.is_overdue(cx)
                {
                    let failed = rpc.failed(cx);
                    self.forward_failed(cx, failed);
                }
            }
            Timer::Reconcile if self.status == Status::LeaderNotReady => self.reconcile(cx),
            _ => {}
        }
    }

    fn on_synced(&mut self, cx: &mut Cx<'_, Memgraph>, token: Token, result: Result<(), DiskError>) {
        self.raft.on_synced(cx, token, result);
        self.after_raft(cx);
    }
}

impl Coordinator {
    /// The connection to an instance ended, or its time is over.
    fn rpc_failed(&mut self, cx: &mut Cx<'_, Memgraph>, id: InstanceId) {
        let Some(connector) = self.connectors.get_mut(&id) else { return };
        if let Some(call) = connector.rpc.current() {
            self.metrics.rpc(call, false);
        }
        let failed = connector.rpc.failed(cx);
        self.on_rpc_failure(cx, id, failed);
    }

    /// Ready: there is a leader, and if that is us, it acts.
    fn on_get(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, path: &str) {
        let (role, lacks) = match (self.status, self.raft.is_leader(), self.raft.leader()) {
            (Status::LeaderReady, true, _) => ("leader", None),
            (_, true, _) => ("leader", Some("not ready")),
            (_, false, Some(_)) => ("follower", None),
            (_, false, None) => ("follower", Some("no leader")),
        };
        let up = |up: bool| self.connectors.values().filter(|connector| connector.alive == up).count() as u64;
        let gauges = [
            ("is_leader", u64::from(self.raft.is_leader())),
            ("raft_term", self.raft.term().0),
            ("coordinators", self.cluster.coordinators.len() as u64),
            ("instances", self.cluster.instances.len() as u64),
            ("instances_up", up(true)),
            ("instances_down", up(false)),
        ];
        self.metrics.serve(cx, session, path, &Readiness { role, lacks }, &gauges);
    }

    fn on_answer(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, answer: Return) {
        if let Some(id) = self.connector_of(session) {
            let Some(connector) = self.connectors.get_mut(&id) else { return };
            if let Some(call) = connector.rpc.current() {
                self.metrics.rpc(call, answer != Return::Success(false));
            }
            if let Some(purpose) = connector.rpc.answered(cx) {
                self.on_rpc_answer(cx, id, purpose, answer);
            }
        } else if let Some((_, rpc)) = &mut self.leader_rpc
            && rpc.has(session)
            && let Some(ticket) = rpc.answered(cx)
        {
            self.forward_answered(cx, ticket, answer);
        }
    }
}
