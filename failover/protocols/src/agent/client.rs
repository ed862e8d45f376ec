//! A client: asks a router for the primary, talks to the primary, and goes back to the router when that fails.
//!
//! What it reports is what it can know: refused, or never sent, is certainly without effect; sent and unanswered is
//! unknown. Only what was certainly without effect is tried again, and only before its deadline.

use super::message::{Message, Refusal, Route};
use super::settings::{NodeId, Settings};
use super::wal::Position;
use super::{Agent, Kind, Timer};
use crate::contract::*;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;

/// An operation that is not finished.
#[derive(Clone, Debug)]
struct Open {
    op: Op,
    deadline: LocalTime,
    sent: bool,
    /// Why the last attempt failed without effect.
    refused: Failure,
}

/// A session to one named node, for final reads and commands.
#[derive(Debug)]
struct Direct {
    node: SocketAddrV4,
    open: bool,
    queue: VecDeque<u64>,
}

/// A client.
pub struct Client {
    settings: Arc<Settings>,
    number: usize,
    router: Option<SessionId>,
    router_open: bool,
    next_router: usize,
    route: Route,
    /// A node that another one named; used until the router says something newer.
    hint: Option<NodeId>,
    primary: Option<(SessionId, NodeId)>,
    primary_open: bool,
    open: BTreeMap<u64, Open>,
    queue: VecDeque<u64>,
    direct: BTreeMap<SessionId, Direct>,
    back_off: Duration,
    waiting: bool,
    deadline_set: bool,
    heard: LocalTime,
    seen: Position,
    /// Errors in a row, and until when the breaker is open.
    errors: u32,
    breaker: Option<LocalTime>,
}

impl Client {
    /// Client number `number`.
    pub fn new(settings: Arc<Settings>, number: usize) -> Self {
        Client {
            back_off: settings.routing.back_off,
            settings,
            number,
            router: None,
            router_open: false,
            next_router: number,
            route: Route::default(),
            hint: None,
            primary: None,
            primary_open: false,
            open: BTreeMap::new(),
            queue: VecDeque::new(),
            direct: BTreeMap::new(),
            waiting: false,
            deadline_set: false,
            heard: LocalTime(0),
            seen: Position::default(),
            errors: 0,
            breaker: None,
        }
    }

    // --------------------------------------------------------------------------------------------------- operations

    fn finish(&mut self, cx: &mut Cx<'_, Agent>, id: u64, outcome: Outcome, by: Option<SocketAddrV4>) {
        if self.open.remove(&id).is_some() {
            self.count_error(cx, &outcome);
            cx.complete(RequestId(id), outcome, by);
        }
    }

    fn count_error(&mut self, cx: &Cx<'_, Agent>, outcome: &Outcome) {
        let limit = self.settings.routing.breaker_errors;
        match outcome {
            Outcome::Fail(Failure::Limited) => {}
            Outcome::Fail(_) | Outcome::Unknown(_) => {
                self.errors += 1;
                if limit > 0 && self.errors >= limit {
                    self.breaker = Some(cx.now() + self.settings.routing.breaker_open);
                    self.errors = 0;
                }
            }
            Outcome::Done
            | Outcome::Version(_)
            | Outcome::Value(_)
            | Outcome::List(_)
            | Outcome::Mismatch(_)
            | Outcome::Text(_) => self.errors = 0,
        }
    }

    /// Sends what waits, if there is somebody to send it to.
    fn pump(&mut self, cx: &mut Cx<'_, Agent>) {
        let Some((session, _)) = self.primary.filter(|_| self.primary_open) else { return };
        while let Some(id) = self.queue.pop_front() {
            let Some(open) = self.open.get_mut(&id) else { continue };
            open.sent = true;
            cx.send(session, Message::Query { id, op: open.op.clone(), seen: self.seen });
            cx.set_timer(Timer::Silence, self.settings.routing.silence);
        }
    }

    /// Ends what is due: sent and unanswered is unknown, the rest had no effect.
    fn expire(&mut self, cx: &mut Cx<'_, Agent>) {
        let now = cx.now();
        let due: alloc::vec::Vec<u64> =
            self.open.iter().filter(|(_, open)| open.deadline <= now).map(|(id, _)| *id).collect();
        for id in due {
            let Some(open) = self.open.get(&id) else { continue };
            let outcome =
                if open.sent { Outcome::Unknown(Failure::Timeout) } else { Outcome::Fail(open.refused) };
            self.finish(cx, id, outcome, None);
        }
        self.queue.retain(|id| self.open.contains_key(id));
        self.deadline_set = false;
        self.arm_deadline(cx);
    }

    fn arm_deadline(&mut self, cx: &mut Cx<'_, Agent>) {
        if self.deadline_set {
            return;
        }
        if let Some(first) = self.open.values().map(|open| open.deadline).min() {
            self.deadline_set = true;
            cx.set_timer(Timer::Deadline, first.since(cx.now()));
        }
    }

    fn on_result(
        &mut self,
        cx: &mut Cx<'_, Agent>,
        id: u64,
        result: Result<Outcome, Refusal>,
        by: Option<NodeId>,
    ) {
        let address = by.map(|node| self.settings.cluster.address(node));
        match result {
            Ok(outcome) => {
                self.back_off = self.settings.routing.back_off;
                self.finish(cx, id, outcome, address);
            }
            Err(Refusal::Unknown) => self.finish(cx, id, Outcome::Unknown(Failure::Unsafe), address),
            Err(Refusal::Unsafe) => self.again(cx, id, Failure::Unsafe, None),
            Err(Refusal::NotPrimary(hint)) => self.again(cx, id, Failure::NotPrimary, hint),
        }
    }

    /// It had no effect: try elsewhere, after a while, while there is time.
    fn again(&mut self, cx: &mut Cx<'_, Agent>, id: u64, why: Failure, hint: Option<NodeId>) {
        if let Some(open) = self.open.get_mut(&id) {
            open.sent = false;
            open.refused = why;
            self.queue.push_back(id);
        }
        // Leave the node; what else is open there stays unknown only if it was sent.
        if self.primary.is_some_and(|(_, node)| Some(node) != hint) && why == Failure::NotPrimary {
            self.leave_primary(cx, Failure::Disconnected);
        }
        match hint {
            Some(node) => {
                self.hint = Some(node);
                self.dial_primary(cx);
            }
            None => self.wait(cx),
        }
    }

    // ----------------------------------------------------------------------------------------------------- sessions

    /// Waits before the next attempt; twice as long each time.
    fn wait(&mut self, cx: &mut Cx<'_, Agent>) {
        if self.waiting {
            return;
        }
        self.waiting = true;
        let jitter = cx.random().duration(Duration::ZERO, self.back_off / 4);
        cx.set_timer(Timer::BackOff, self.back_off + jitter);
        self.back_off = (self.back_off * 2).min(self.settings.routing.back_off_max);
    }

    fn ask_router(&mut self, cx: &mut Cx<'_, Agent>) {
        match self.router {
            Some(session) if self.router_open => cx.send(session, Message::WhereIsPrimary),
            Some(_) => {}
            None => {
                let routers = &self.settings.cluster.routers;
                if let Some(address) = routers.get(self.next_router % routers.len().max(1)).copied() {
                    self.router = Some(cx.open(address, Kind::Route));
                }
            }
        }
    }

    fn on_route(&mut self, cx: &mut Cx<'_, Agent>, route: Route) {
        let any = self.settings.quirks.routes_without_generation() && route.primary.is_some();
        let newer = route.term > self.route.term || any;
        if newer || self.route.primary.is_none() {
            self.hint = None;
            self.route = route;
        }
        match (self.primary, self.route.primary) {
            (Some((_, node)), Some(primary)) if newer && node != primary => {
                self.leave_primary(cx, Failure::Disconnected);
                self.dial_primary(cx);
            }
            (None, Some(_)) => self.dial_primary(cx),
            (_, None) => self.wait(cx),
            (Some(_), Some(_)) => {}
        }
    }

    fn dial_primary(&mut self, cx: &mut Cx<'_, Agent>) {
        if self.primary.is_some() {
            return;
        }
        match self.hint.take().or(self.route.primary) {
            Some(node) => {
                let session = cx.open(self.settings.cluster.address(node), Kind::Client);
                self.primary = Some((session, node));
                self.primary_open = false;
                self.heard = cx.now();
                cx.set_timer(Timer::Silence, self.settings.routing.silence);
            }
            None => self.ask_router(cx),
        }
    }

    /// Gives the session up: what was sent on it may have taken effect.
    fn leave_primary(&mut self, cx: &mut Cx<'_, Agent>, why: Failure) {
        if let Some((session, _)) = self.primary.take() {
            cx.close(session);
        }
        self.primary_open = false;
        self.lose_sent(cx, why);
    }

    fn lose_sent(&mut self, cx: &mut Cx<'_, Agent>, why: Failure) {
        let directly = |op: &Op| matches!(op, Op::ReadAt { .. } | Op::Command { .. });
        let sent: alloc::vec::Vec<u64> = self
            .open
            .iter()
            .filter(|(_, open)| open.sent && !directly(&open.op))
            .map(|(id, _)| *id)
            .collect();
        sent.into_iter().for_each(|id| self.finish(cx, id, Outcome::Unknown(why), None));
    }

    /// Nothing heard for a while: the router may know more, and if it does not, a new session may work.
    fn on_silence(&mut self, cx: &mut Cx<'_, Agent>) {
        let outstanding = self.open.values().any(|open| open.sent);
        let silent = cx.now().since(self.heard) >= self.settings.routing.silence;
        if self.primary.is_some() && (outstanding || !self.primary_open) {
            if silent {
                self.leave_primary(cx, Failure::Timeout);
                self.ask_router(cx);
                self.wait(cx);
            } else {
                cx.set_timer(Timer::Silence, self.settings.routing.silence);
            }
        }
    }

    // --------------------------------------------------------------------------------------------- one named node

    fn ask_directly(&mut self, cx: &mut Cx<'_, Agent>, id: u64, node: SocketAddrV4) {
        let known = self.direct.iter_mut().find(|(_, direct)| direct.node == node);
        match known {
            Some((session, direct)) if direct.open => {
                let session = *session;
                self.send_directly(cx, session, id);
            }
            Some((_, direct)) => direct.queue.push_back(id),
            None => {
                let session = cx.open(node, Kind::Client);
                self.direct.insert(session, Direct { node, open: false, queue: VecDeque::from([id]) });
            }
        }
    }

    fn send_directly(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, id: u64) {
        if let Some(open) = self.open.get_mut(&id) {
            open.sent = true;
            cx.send(session, Message::Query { id, op: open.op.clone(), seen: Position::default() });
        }
    }

    fn on_direct_close(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId) {
        let Some(direct) = self.direct.remove(&session) else { return };
        let to_node = |op: &Op| match op {
            Op::ReadAt { node, .. } | Op::Command { node, .. } => *node == direct.node,
            Op::Read { .. } | Op::Append { .. } | Op::Write { .. } | Op::Cas { .. } => false,
        };
        let lost: alloc::vec::Vec<(u64, bool)> = self
            .open
            .iter()
            .filter(|(_, open)| to_node(&open.op))
            .map(|(id, open)| (*id, open.sent))
            .collect();
        for (id, sent) in lost {
            let outcome = if sent {
                Outcome::Unknown(Failure::Disconnected)
            } else {
                Outcome::Fail(Failure::Unreachable)
            };
            self.finish(cx, id, outcome, None);
        }
    }
}

impl Node<Agent> for Client {
    fn start(&mut self, cx: &mut Cx<'_, Agent>, _disk: &DiskImage<Agent>) {
        cx.note(|| alloc::format!("client {} starts", self.number));
        self.ask_router(cx);
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, _opened: Opened<Kind>) {
        if self.router == Some(session) {
            self.router_open = true;
            return self.ask_router(cx);
        }
        if self.primary.is_some_and(|(primary, _)| primary == session) {
            self.primary_open = true;
            self.heard = cx.now();
            return self.pump(cx);
        }
        if let Some(direct) = self.direct.get_mut(&session) {
            direct.open = true;
            for id in core::mem::take(&mut direct.queue) {
                self.send_directly(cx, session, id);
            }
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: Message) {
        match message {
            Message::Route(route) => self.on_route(cx, route),
            Message::Result { id, result, at } => {
                self.heard = cx.now();
                let by = match self.primary.filter(|(primary, _)| *primary == session) {
                    Some((_, node)) => Some(node),
                    None => self.direct.get(&session).and_then(|d| self.settings.cluster.node_at(d.node)),
                };
                if result.is_ok() {
                    self.seen = self.seen.max(at);
                }
                self.on_result(cx, id, result, by);
            }
            _ => {}
        }
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, _why: Closed) {
        if self.router == Some(session) {
            self.router = None;
            self.router_open = false;
            self.next_router += 1;
            return self.wait(cx);
        }
        if self.primary.is_some_and(|(primary, _)| primary == session) {
            self.primary = None;
            self.primary_open = false;
            self.lose_sent(cx, Failure::Disconnected);
            self.ask_router(cx);
            return self.wait(cx);
        }
        self.on_direct_close(cx, session);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Agent>, timer: Timer) {
        match timer {
            Timer::Deadline => self.expire(cx),
            Timer::BackOff => {
                self.waiting = false;
                if self.primary.is_none() {
                    self.ask_router(cx);
                    self.dial_primary(cx);
                }
                self.pump(cx);
            }
            Timer::Silence => self.on_silence(cx),
            _ => {}
        }
    }

    fn on_request(&mut self, cx: &mut Cx<'_, Agent>, request: RequestId, op: Op, deadline: Duration) {
        let id = request.0;
        if self.breaker.is_some_and(|until| cx.now() < until) && !matches!(op, Op::ReadAt { .. }) {
            return cx.complete(request, Outcome::Fail(Failure::Limited), None);
        }
        self.breaker = None;
        let named = match &op {
            Op::ReadAt { node, .. } | Op::Command { node, .. } => Some(*node),
            Op::Read { .. } | Op::Append { .. } | Op::Write { .. } | Op::Cas { .. } => None,
        };
        let open = Open { op, deadline: cx.now() + deadline, sent: false, refused: Failure::NoRoute };
        self.open.insert(id, open);
        match named {
            Some(node) => self.ask_directly(cx, id, node),
            None => {
                self.queue.push_back(id);
                self.dial_primary(cx);
                self.pump(cx);
            }
        }
        self.arm_deadline(cx);
    }
}
