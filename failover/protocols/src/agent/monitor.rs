//! The health monitor: probes every data node over HTTP, judges the primary dead after some failures in a row, asks
//! the replicas whether they lost it too, and acts as the settings say.
//!
//! With the lease as the judge its word is only a hint (a key that operators and candidates can see); with power
//! fencing it has the victim switched off and then frees its key; as the only judge (no lease) it orders promotions.

use super::coordination::{Guard, Link, LinkEvent, Put, Transaction};
use super::message::{Body, Message, Order};
use super::settings::{AtPort, ElectionRule, Fence, HEALTH_PORT, NodeId, Settings};
use super::wal::{Position, Term};
use super::{Agent, Kind, Timer};
use crate::contract::*;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

/// What the monitor knows of one node.
#[derive(Debug, Default)]
struct Watched {
    probe: Option<SessionId>,
    failures: u32,
    successes: u32,
    /// Judged dead, and nothing good heard of it since.
    declared: bool,
    last: Option<(Role, Term, Position)>,
}

/// Asking the others about a node that was judged dead.
#[derive(Debug)]
struct Inquiry {
    node: NodeId,
    asked: BTreeMap<SessionId, NodeId>,
    /// Silence that each replica reports, and its log, in order of arrival.
    answers: alloc::vec::Vec<(NodeId, bool, Position)>,
}

/// The monitor.
pub struct Monitor {
    settings: Arc<Settings>,
    link: Link,
    nodes: BTreeMap<NodeId, Watched>,
    inquiry: Option<Inquiry>,
    fencing: Option<(SessionId, NodeId)>,
    /// The primary by our own orders, or as its health answer said.
    primary: Option<NodeId>,
    term: Term,
    orders: BTreeMap<SessionId, Order>,
}

impl Monitor {
    /// A monitor of all data nodes.
    pub fn new(settings: Arc<Settings>) -> Self {
        let link = Link::new(settings.cluster.coordination.clone(), 0, settings.coordination.request_timeout);
        let nodes = settings.cluster.nodes().map(|node| (node, Watched::default())).collect();
        Monitor {
            settings,
            link,
            nodes,
            inquiry: None,
            fencing: None,
            primary: None,
            term: Term(0),
            orders: BTreeMap::new(),
        }
    }

    fn address(&self, node: NodeId) -> SocketAddrV4 {
        self.settings.cluster.address(node).at_port(HEALTH_PORT)
    }

    fn probe(&mut self, cx: &mut Cx<'_, Agent>, node: NodeId) {
        cx.set_timer(Timer::Probe(node), self.settings.health.interval);
        cx.set_timer(Timer::ProbeLimit(node), self.settings.health.timeout);
        let session = cx.open(self.address(node), Kind::Health);
        if let Some(old) = self.watched(node).probe.replace(session) {
            cx.close(old);
        }
    }

    fn watched(&mut self, node: NodeId) -> &mut Watched {
        self.nodes.entry(node).or_default()
    }

    fn probed_by(&self, session: SessionId) -> Option<NodeId> {
        self.nodes.iter().find(|(_, watched)| watched.probe == Some(session)).map(|(node, _)| *node)
    }

    /// A probe ended.
    fn judge(&mut self, cx: &mut Cx<'_, Agent>, node: NodeId, good: bool) {
        cx.cancel_timer(Timer::ProbeLimit(node));
        if let Some(session) = self.watched(node).probe.take() {
            cx.close(session);
        }
        let health = self.settings.health;
        let primary = self.primary == Some(node);
        let about = Some(self.settings.cluster.address(node));
        let watched = self.watched(node);
        if good {
            watched.failures = 0;
            watched.successes += 1;
            if watched.successes >= health.recoveries {
                watched.declared = false;
            }
            return;
        }
        watched.successes = 0;
        watched.failures += 1;
        if watched.failures == 1 && primary {
            cx.mark(Mark::Suspected, about);
        }
        if watched.failures >= health.retries && primary && !watched.declared {
            self.inquire(cx, node);
        }
    }

    /// A second opinion: have the replicas lost it too?
    fn inquire(&mut self, cx: &mut Cx<'_, Agent>, node: NodeId) {
        if self.inquiry.is_some() {
            return;
        }
        let others = self.settings.cluster.nodes().filter(|other| *other != node);
        let mut asked = BTreeMap::new();
        for other in others {
            asked.insert(cx.open(self.address(other), Kind::Health), other);
        }
        self.inquiry = Some(Inquiry { node, asked, answers: alloc::vec::Vec::new() });
        cx.set_timer(Timer::Confirm, self.settings.health.timeout);
    }

    fn on_opinion(
        &mut self,
        cx: &mut Cx<'_, Agent>,
        session: SessionId,
        silence: Option<Duration>,
        last: Position,
    ) {
        // Two beats missed are doubt enough as a second signal: the probes are the first.
        let limit = self.settings.agent.heartbeat.interval * 2;
        let all = self.settings.cluster.data.len() - 1;
        let Some(inquiry) = &mut self.inquiry else { return };
        let Some(from) = inquiry.asked.remove(&session) else { return };
        inquiry.answers.push((from, silence.is_none_or(|span| span > limit), last));
        let done = inquiry.answers.len() == all;
        cx.close(session);
        if done {
            self.conclude(cx);
        }
    }

    /// All opinions are in, or the time for them is over.
    fn conclude(&mut self, cx: &mut Cx<'_, Agent>) {
        let Some(inquiry) = self.inquiry.take() else { return };
        cx.cancel_timer(Timer::Confirm);
        inquiry.asked.keys().for_each(|session| cx.close(*session));
        let lost = inquiry.answers.iter().filter(|(_, lost, _)| *lost).count();
        let heard = inquiry.answers.len() - lost;
        if self.settings.health.second_opinion && (lost == 0 || heard > 0) {
            return cx.note(|| {
                alloc::format!("node {} is not declared: {heard} replicas hear it", inquiry.node.0)
            });
        }
        self.declare(cx, &inquiry);
    }

    fn declare(&mut self, cx: &mut Cx<'_, Agent>, inquiry: &Inquiry) {
        let node = inquiry.node;
        self.watched(node).declared = true;
        cx.mark(Mark::Declared, Some(self.settings.cluster.address(node)));
        match (self.settings.agent.election, self.settings.agent.fence, self.settings.cluster.fencer) {
            (ElectionRule::MonitorOrder, Fence::Power, Some(fencer))
            | (ElectionRule::Votes, Fence::Power, Some(fencer)) => {
                let session = cx.open(fencer, Kind::Fence);
                self.fencing = Some((session, node));
            }
            (ElectionRule::MonitorOrder, _, _) => self.order_promotion(cx, inquiry),
            (ElectionRule::Votes, _, _) => {
                let puts = alloc::vec![Put::Suspect { node, term: self.term }];
                let transaction = Transaction { puts, ..Transaction::default() };
                self.link.ask(cx, Body::Transact(transaction));
            }
        }
    }

    /// The victim is off: its key may go before its lease is over.
    fn free_key(&mut self, cx: &mut Cx<'_, Agent>, node: NodeId) {
        cx.mark(Mark::Fenced, Some(self.settings.cluster.address(node)));
        let guards = alloc::vec![Guard::HolderIs(node)];
        let transaction = Transaction { guards, delete_leader: true, ..Transaction::default() };
        self.link.ask(cx, Body::Transact(transaction));
    }

    /// Without a lease the monitor's word is the law: the replica with the longest log, or, as some did, the first
    /// one that answered.
    fn order_promotion(&mut self, cx: &mut Cx<'_, Agent>, inquiry: &Inquiry) {
        let first = inquiry.answers.first();
        let longest = inquiry.answers.iter().max_by_key(|(node, _, last)| (*last, core::cmp::Reverse(*node)));
        let best = if self.settings.quirks.promotes_the_first_alive() { first } else { longest };
        let Some((best, ..)) = best.copied() else { return };
        let known = self.nodes.values().filter_map(|watched| watched.last.map(|(_, term, _)| term)).max();
        self.term = Term(known.unwrap_or_default().max(self.term).0 + 1);
        self.primary = Some(best);
        // The dead one is told when a probe finds it again.
        for node in self.settings.cluster.nodes().filter(|node| *node != inquiry.node) {
            let order = if node == best {
                Order::Promote { term: self.term }
            } else {
                Order::Follow { primary: best, term: self.term }
            };
            let session = cx.open(self.address(node), Kind::Health);
            self.orders.insert(session, order);
        }
    }

    fn on_health(
        &mut self,
        cx: &mut Cx<'_, Agent>,
        node: NodeId,
        role: Role,
        term: Term,
        last: Position,
        good: bool,
    ) {
        self.watched(node).last = Some((role, term, last));
        if role == Role::Primary && term >= self.term {
            (self.primary, self.term) = (Some(node), term);
        }
        // Who is back, or was primary of an older term, has not heard the news.
        if self.settings.agent.election == ElectionRule::MonitorOrder
            && let Some(primary) = self.primary.filter(|primary| *primary != node)
            && (role != Role::Replica || term < self.term)
        {
            let session = cx.open(self.address(node), Kind::Health);
            self.orders.insert(session, Order::Follow { primary, term: self.term });
        }
        self.judge(cx, node, good);
        // It answers, and its disk does not: it can still be asked to go.
        let retries = self.settings.health.retries;
        let watched = self.watched(node);
        let hangs = !good && watched.failures >= retries && !watched.declared;
        if hangs && self.primary == Some(node) {
            self.watched(node).declared = true;
            cx.mark(Mark::Declared, Some(self.settings.cluster.address(node)));
            let session = cx.open(self.address(node), Kind::Health);
            self.orders.insert(session, Order::Resign);
        }
    }
}

impl Node<Agent> for Monitor {
    fn start(&mut self, cx: &mut Cx<'_, Agent>, _disk: &DiskImage<Agent>) {
        self.link.start(cx);
        for node in self.settings.cluster.nodes() {
            let first = cx.random().duration(Duration::ZERO, self.settings.health.interval);
            cx.set_timer(Timer::Probe(node), first);
        }
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, opened: Opened<Kind>) {
        if matches!(opened, Opened::Accepted { .. }) {
            return;
        }
        if self.link.owns(session) {
            return self.link.on_open(cx);
        }
        if self.probed_by(session).is_some() {
            return cx.send(session, Message::Probe);
        }
        if let Some(order) = self.orders.remove(&session) {
            cx.send(session, Message::Order(order));
            return cx.close(session);
        }
        if let Some((_, node)) = self.fencing.filter(|(fencing, _)| *fencing == session) {
            return cx.send(session, Message::Fence { node });
        }
        if let Some(inquiry) = self.inquiry.as_ref().filter(|inquiry| inquiry.asked.contains_key(&session)) {
            cx.send(session, Message::SeenPrimary { node: inquiry.node });
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: Message) {
        match message {
            Message::Health { role, term, last, disk_keeps_up } => {
                if let Some(node) = self.probed_by(session) {
                    self.on_health(cx, node, role, term, last, disk_keeps_up);
                }
            }
            Message::LastContact { silence, last, .. } => self.on_opinion(cx, session, silence, last),
            Message::Fenced { node } => {
                if let Some((session, _)) = self.fencing.take() {
                    cx.close(session);
                    self.free_key(cx, node);
                }
            }
            Message::Coordination(message) => {
                if let Some(LinkEvent::Viewed { .. }) = self.link.on_message(cx, message)
                    && let Some(leader) = self.link.view().leader
                    && leader.term >= self.term
                {
                    (self.primary, self.term) = (Some(leader.holder), leader.term);
                }
            }
            _ => {}
        }
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, _why: Closed) {
        if self.link.owns(session) {
            return self.link.on_close(cx);
        }
        if let Some(node) = self.probed_by(session) {
            self.watched(node).probe = None;
            return self.judge(cx, node, false);
        }
        self.orders.remove(&session);
        if self.fencing.is_some_and(|(fencing, _)| fencing == session) {
            self.fencing = None;
        }
        if let Some(inquiry) = &mut self.inquiry {
            inquiry.asked.remove(&session);
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Agent>, timer: Timer) {
        match timer {
            Timer::Probe(node) => self.probe(cx, node),
            Timer::ProbeLimit(node) => self.judge(cx, node, false),
            Timer::Confirm => self.conclude(cx),
            Timer::Coordination => drop(self.link.on_timer(cx)),
            _ => {}
        }
    }
}
