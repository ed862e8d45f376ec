//! A client of a cluster without primary: it asks any node, each time another one, as a load balancer would have it.
//! In causal mode it carries a session token: the vector of all that it has seen.

use super::Message;
use crate::agent::settings::{Consistency, NodeId, Settings};
use crate::agent::versions::VersionVector;
use crate::agent::{Agent, Kind, Message as AgentMessage, Timer};
use crate::contract::*;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Wait before a node that closed or refused is dialled again, and before an operation is tried again that no node was
/// ready for.
const BACK_OFF: Duration = Duration::from_millis(20);

struct Way {
    node: NodeId,
    open: bool,
    /// Something sent here was not answered in time, and nothing was heard since.
    silent: bool,
}

struct Open {
    op: Op,
    deadline: LocalTime,
    sent: Option<SessionId>,
    /// Nodes that were not ready for it.
    behind: Vec<NodeId>,
}

/// A client.
pub struct AnywhereClient {
    settings: Arc<Settings>,
    ways: BTreeMap<SessionId, Way>,
    open: BTreeMap<u64, Open>,
    /// The session token.
    seen: VersionVector,
}

impl AnywhereClient {
    /// A client.
    pub fn new(settings: Arc<Settings>) -> Self {
        AnywhereClient {
            settings,
            ways: BTreeMap::new(),
            open: BTreeMap::new(),
            seen: VersionVector::default(),
        }
    }

    fn dial_missing(&mut self, cx: &mut Cx<'_, Agent>) {
        for node in self.settings.cluster.nodes() {
            if self.ways.values().all(|way| way.node != node) {
                let session = cx.open(self.settings.cluster.address(node), Kind::Client);
                self.ways.insert(session, Way { node, open: false, silent: false });
            }
        }
    }

    /// A node for an operation: the one that it names, else one drawn from those that answer.
    fn choose(&self, cx: &mut Cx<'_, Agent>, open: &Open) -> Option<SessionId> {
        let named = match &open.op {
            Op::ReadAt { node, .. } | Op::Command { node, .. } => self.settings.cluster.node_at(*node),
            Op::Read { .. } | Op::Append { .. } | Op::Write { .. } | Op::Cas { .. } => None,
        };
        let ready = |way: &Way| match named {
            Some(node) => way.open && way.node == node,
            None => way.open && !way.silent && !open.behind.contains(&way.node),
        };
        let ready: Vec<SessionId> =
            self.ways.iter().filter(|(_, way)| ready(way)).map(|(session, _)| *session).collect();
        let last = (ready.len() as u64).checked_sub(1)?;
        Some(ready[cx.random().between(0, last) as usize])
    }

    /// Sends what can be sent.
    fn pump(&mut self, cx: &mut Cx<'_, Agent>) {
        let waiting: Vec<u64> =
            self.open.iter().filter(|(_, open)| open.sent.is_none()).map(|(id, _)| *id).collect();
        for id in waiting {
            let Some(session) = self.open.get(&id).and_then(|open| self.choose(cx, open)) else {
                cx.set_timer(Timer::BackOff, BACK_OFF);
                continue;
            };
            let Some(open) = self.open.get_mut(&id) else { continue };
            open.sent = Some(session);
            let causal = self.settings.agent.consistency == Consistency::Causal;
            let seen = if causal { self.seen.clone() } else { VersionVector::default() };
            cx.send(session, AgentMessage::Anywhere(Message::Ask { id, op: open.op.clone(), seen }));
        }
    }

    fn finish(&mut self, cx: &mut Cx<'_, Agent>, id: u64, outcome: Outcome, by: Option<NodeId>) {
        if self.open.remove(&id).is_some() {
            cx.complete(RequestId(id), outcome, by.map(|node| self.settings.cluster.address(node)));
        }
    }

    fn expire(&mut self, cx: &mut Cx<'_, Agent>) {
        let now = cx.now();
        let due: Vec<(u64, Option<SessionId>)> = self
            .open
            .iter()
            .filter(|(_, open)| open.deadline <= now)
            .map(|(id, open)| (*id, open.sent))
            .collect();
        for (id, sent) in due {
            if let Some(way) = sent.and_then(|session| self.ways.get_mut(&session)) {
                way.silent = true;
            }
            let outcome = match sent {
                Some(_) => Outcome::Unknown(Failure::Timeout),
                None => Outcome::Fail(Failure::NoRoute),
            };
            self.finish(cx, id, outcome, None);
        }
        // With nobody left, everybody is tried again.
        if self.ways.values().all(|way| way.silent || !way.open) {
            self.ways.values_mut().for_each(|way| way.silent = false);
        }
        self.arm(cx);
    }

    fn arm(&self, cx: &mut Cx<'_, Agent>) {
        if let Some(first) = self.open.values().map(|open| open.deadline).min() {
            cx.set_timer(Timer::Deadline, first.since(cx.now()));
        }
    }

    fn on_told(
        &mut self,
        cx: &mut Cx<'_, Agent>,
        session: SessionId,
        id: u64,
        outcome: Option<Outcome>,
        seen: &VersionVector,
    ) {
        let Some(way) = self.ways.get_mut(&session) else { return };
        way.silent = false;
        let node = way.node;
        match outcome {
            Some(outcome) => {
                let final_read = self.open.get(&id).is_some_and(|open| matches!(open.op, Op::ReadAt { .. }));
                if !final_read {
                    self.seen.join(seen);
                }
                self.finish(cx, id, outcome, Some(node));
            }
            None => {
                if let Some(open) = self.open.get_mut(&id) {
                    open.sent = None;
                    open.behind.push(node);
                    self.pump(cx);
                }
            }
        }
    }
}

impl Node<Agent> for AnywhereClient {
    fn start(&mut self, cx: &mut Cx<'_, Agent>, _disk: &DiskImage<Agent>) {
        self.dial_missing(cx);
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, _opened: Opened<Kind>) {
        if let Some(way) = self.ways.get_mut(&session) {
            way.open = true;
        }
        self.pump(cx);
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: AgentMessage) {
        if let AgentMessage::Anywhere(Message::Told { id, outcome, seen }) = message {
            self.on_told(cx, session, id, outcome, &seen);
        }
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, _why: Closed) {
        let Some(way) = self.ways.remove(&session) else { return };
        let lost: Vec<u64> =
            self.open.iter().filter(|(_, open)| open.sent == Some(session)).map(|(id, _)| *id).collect();
        for id in lost {
            self.finish(cx, id, Outcome::Unknown(Failure::Disconnected), Some(way.node));
        }
        cx.set_timer(Timer::BackOff, BACK_OFF);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Agent>, timer: Timer) {
        match timer {
            Timer::Deadline => self.expire(cx),
            Timer::BackOff => {
                // Who was behind may have caught up.
                self.open.values_mut().for_each(|open| open.behind.clear());
                self.dial_missing(cx);
                self.pump(cx);
            }
            _ => {}
        }
    }

    fn on_request(&mut self, cx: &mut Cx<'_, Agent>, request: RequestId, op: Op, deadline: Duration) {
        let open = Open { op, deadline: cx.now() + deadline, sent: None, behind: Vec::new() };
        self.open.insert(request.0, open);
        self.dial_missing(cx);
        self.pump(cx);
        self.arm(cx);
    }
}
