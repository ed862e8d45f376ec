//! A data node that takes writes beside others that do the same.

use super::{Message, Update};
use crate::agent::settings::{AtPort, Consistency, NodeId, REPLICATION_PORT, Settings};
use crate::agent::versions::{Relation, VersionVector, Versioned};
use crate::agent::{Agent, Kind, Message as AgentMessage, Record, Timer};
use crate::contract::*;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// File of all writes that were applied.
pub(super) const UPDATES: &str = "updates";

/// How often a node asks a peer for what it lacks.
const GOSSIP: Duration = Duration::from_secs(1);

/// Writes in one answer at most.
const BATCH: usize = 256;

/// A node.
pub struct AnywhereNode {
    settings: Arc<Settings>,
    me: NodeId,
    data: BTreeMap<Key, Versioned>,
    /// What was applied, by origin.
    clock: VersionVector,
    /// All of it, by origin, in order.
    log: BTreeMap<NodeId, Vec<Update>>,
    /// Writes that came before something that their writer had seen.
    early: Vec<Update>,
    /// Our own sessions to peers, once open.
    peers: BTreeMap<NodeId, SessionId>,
    dialled: BTreeMap<SessionId, NodeId>,
    conflicts: u64,
}

impl AnywhereNode {
    /// A node of the cluster.
    pub fn new(settings: Arc<Settings>, me: NodeId) -> Self {
        AnywhereNode {
            settings,
            me,
            data: BTreeMap::new(),
            clock: VersionVector::default(),
            log: BTreeMap::new(),
            early: Vec::new(),
            peers: BTreeMap::new(),
            dialled: BTreeMap::new(),
            conflicts: 0,
        }
    }

    fn is_causal(&self) -> bool {
        self.settings.agent.consistency == Consistency::Causal
    }

    fn on_ask(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, id: u64, op: Op, seen: &VersionVector) {
        if let Op::ReadAt { key, .. } = op {
            return self.tell(cx, session, id, Some(self.content(key)));
        }
        if !self.clock.covers(seen) {
            return self.tell(cx, session, id, None);
        }
        match op {
            Op::Read { key } => self.tell(cx, session, id, Some(self.content(key))),
            Op::Append { key, value, bytes } => self.append(cx, session, id, key, value, bytes),
            Op::Write { .. } | Op::Cas { .. } | Op::Command { .. } | Op::ReadAt { .. } => {
                self.tell(cx, session, id, Some(Outcome::Fail(Failure::Rejected)));
            }
        }
    }

    fn content(&self, key: Key) -> Outcome {
        self.data
            .get(&key)
            .map_or(Outcome::Value(None), |versioned| Outcome::List(Arc::from(versioned.values())))
    }

    fn tell(&self, cx: &mut Cx<'_, Agent>, session: SessionId, id: u64, outcome: Option<Outcome>) {
        let told = Message::Told { id, outcome, seen: self.clock.clone() };
        cx.send(session, AgentMessage::Anywhere(told));
    }

    /// A client's write: in our state at once; acknowledged, and told to the others, when it is durable.
    fn append(
        &mut self,
        cx: &mut Cx<'_, Agent>,
        session: SessionId,
        id: u64,
        key: Key,
        value: Value,
        bytes: u32,
    ) {
        let after = self.clock.clone();
        let versioned = self.data.entry(key).or_default();
        versioned.append(self.me, value);
        let content = versioned.clone();
        self.clock.count(self.me);
        let update = Update { origin: self.me, number: self.clock.of(self.me), key, bytes, content, after };
        let token = self.keep(cx, update.clone());
        let told = Message::Told { id, outcome: Some(Outcome::Done), seen: self.clock.clone() };
        let mut door = cx.after(token).send(session, AgentMessage::Anywhere(told));
        let news = AgentMessage::Anywhere(Message::Updates([update].into()));
        for peer in self.peers.values() {
            door = door.send(*peer, news.clone());
        }
    }

    /// Into the log, here and on disk.
    fn keep(&mut self, cx: &mut Cx<'_, Agent>, update: Update) -> Token {
        cx.append(UPDATES, Record::Update(update.clone()));
        self.log.entry(update.origin).or_default().push(update);
        cx.sync(UPDATES)
    }

    /// Writes of others: each origin's in order; in causal mode also after what their writers had seen.
    pub(super) fn on_updates(&mut self, cx: &mut Cx<'_, Agent>, updates: &[Update]) {
        self.early.extend(updates.iter().cloned());
        loop {
            let known = &self.clock;
            self.early.retain(|update| update.number > known.of(update.origin));
            let Some(at) = self.early.iter().position(|update| self.is_due(update)) else { break };
            let update = self.early.swap_remove(at);
            self.apply(cx, update);
        }
        // What is far ahead comes again with the next digest.
        self.early.truncate(4 * BATCH);
    }

    fn is_due(&self, update: &Update) -> bool {
        let next = update.number == self.clock.of(update.origin) + 1;
        next && (!self.is_causal() || self.clock.covers(&update.after))
    }

    fn apply(&mut self, cx: &mut Cx<'_, Agent>, update: Update) {
        self.learn(&update);
        let conflicts = self.conflicts;
        if conflicts > 0 {
            cx.observe(Observation::Gauge { name: "conflicts", value: conflicts });
        }
        self.keep(cx, update);
    }

    /// Into the state.
    fn learn(&mut self, update: &Update) {
        let versioned = self.data.entry(update.key).or_default();
        self.conflicts += u64::from(versioned.relation(&update.content) == Relation::Concurrent);
        versioned.merge(&update.content, self.settings.agent.versions);
        self.clock.count(update.origin);
    }

    /// What a peer lacks, from every origin.
    fn on_digest(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, clock: &VersionVector) {
        let mut lacking: Vec<Update> = Vec::new();
        for (origin, updates) in &self.log {
            let known = clock.of(*origin) as usize;
            lacking.extend(updates.iter().skip(known).take(BATCH).cloned());
        }
        if !lacking.is_empty() {
            cx.send(session, AgentMessage::Anywhere(Message::Updates(lacking.into())));
        }
    }

    /// Asks a peer for what we lack; dials it first, if need be.
    fn gossip(&mut self, cx: &mut Cx<'_, Agent>, peer: NodeId) {
        cx.set_timer(Timer::Gossip(peer), GOSSIP);
        match self.peers.get(&peer) {
            Some(session) => {
                let digest = Message::Digest { from: self.me, clock: self.clock.clone() };
                cx.send(*session, AgentMessage::Anywhere(digest));
            }
            None if self.dialled.values().any(|dialled| *dialled == peer) => {}
            None => {
                let address = self.settings.cluster.address(peer).at_port(REPLICATION_PORT);
                self.dialled.insert(cx.open(address, Kind::Gossip), peer);
            }
        }
    }
}

impl Node<Agent> for AnywhereNode {
    fn start(&mut self, cx: &mut Cx<'_, Agent>, disk: &DiskImage<Agent>) {
        cx.observe(Observation::Role(Role::Joining));
        for record in disk.records(UPDATES) {
            if let Record::Update(update) = record {
                self.learn(update);
                self.log.entry(update.origin).or_default().push(update.clone());
            }
        }
        // Nobody leads: each is a copy that takes writes.
        cx.observe(Observation::Role(Role::Replica));
        cx.observe(Observation::Epoch(0));
        cx.observe(Observation::Writable(true));
        for peer in self.settings.cluster.nodes().filter(|node| *node != self.me) {
            let first = cx.random().duration(Duration::ZERO, GOSSIP / 2);
            cx.set_timer(Timer::Gossip(peer), first);
        }
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, opened: Opened<Kind>) {
        match (opened, self.dialled.get(&session).copied()) {
            (Opened::Dialled, Some(peer)) => {
                self.peers.insert(peer, session);
                self.gossip(cx, peer);
            }
            (Opened::Accepted { .. } | Opened::Dialled, _) => {}
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: AgentMessage) {
        let AgentMessage::Anywhere(message) = message else { return };
        match message {
            Message::Ask { id, op, seen } => self.on_ask(cx, session, id, op, &seen),
            Message::Digest { clock, .. } => self.on_digest(cx, session, &clock),
            Message::Updates(updates) => self.on_updates(cx, &updates),
            Message::Told { .. } => {}
        }
    }

    fn on_close(&mut self, _cx: &mut Cx<'_, Agent>, session: SessionId, _why: Closed) {
        if let Some(peer) = self.dialled.remove(&session) {
            self.peers.remove(&peer);
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Agent>, timer: Timer) {
        if let Timer::Gossip(peer) = timer {
            self.gossip(cx, peer);
        }
    }

    fn inspect(&self) -> Vec<Inspection> {
        let state = self.data.iter().map(|(key, versioned)| (*key, versioned.values().to_vec())).collect();
        alloc::vec![Inspection { shard: Shard(0), role: Role::Replica, epoch: 0, state }]
    }
}
