//! A client: asks a router for the primary, talks to the primary, and goes back to the router when that fails.
//!
//! What it reports is what it can know: refused, or never sent, is certainly without effect; sent and unanswered is
//! unknown. Only what was certainly without effect is tried again, and only before its deadline. A new primary gets
//! what comes from now on; what is open at the old one is still waited for, up to its deadline.
//!
//! Reads go to the primary (*strong*), or to a replica near by: *eventual* takes what it has, *causal* shows it the
//! position that this client has seen (the session token) and goes to the primary if the replica is not so far.

use super::message::{Message, Refusal, Route};
use super::settings::{Consistency, NodeId, Settings};
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
    /// The session it was sent on.
    sent: Option<SessionId>,
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
    /// Sessions to primaries of the past on which something is still open.
    lingering: BTreeMap<SessionId, NodeId>,
    /// The replica that reads go to, where they need not go to the primary.
    reader: Option<(SessionId, NodeId)>,
    reader_open: bool,
    next_reader: usize,
    reads: VecDeque<u64>,
    reader_heard: LocalTime,
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
    /// The breaker is half open: this operation tries whether the service is back, all others are refused.
    trial: Option<u64>,
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
            lingering: BTreeMap::new(),
            reader: None,
            reader_open: false,
            next_reader: number,
            reads: VecDeque::new(),
            reader_heard: LocalTime(0),
            open: BTreeMap::new(),
            queue: VecDeque::new(),
            direct: BTreeMap::new(),
            waiting: false,
            deadline_set: false,
            heard: LocalTime(0),
            seen: Position::default(),
            errors: 0,
            breaker: None,
            trial: None,
        }
    }

    // --------------------------------------------------------------------------------------------------- operations

    fn finish(&mut self, cx: &mut Cx<'_, Agent>, id: u64, outcome: Outcome, by: Option<SocketAddrV4>) {
        if self.open.remove(&id).is_some() {
            self.count_error(cx, id, &outcome);
            cx.complete(RequestId(id), outcome, by);
        }
    }

    /// Errors in a row open the breaker. When its time is over one operation goes through: its error opens the breaker
    /// again, its success closes it (the half-open state of Nygard, Release It!, 2007).
    fn count_error(&mut self, cx: &Cx<'_, Agent>, id: u64, outcome: &Outcome) {
        let limit = self.settings.routing.breaker_errors;
        let trial = self.trial.take_if(|trial| *trial == id).is_some();
        match outcome {
            Outcome::Fail(Failure::Limited) => {}
            Outcome::Fail(_) | Outcome::Unknown(_) => {
                self.errors += 1;
                if limit > 0 && (self.errors >= limit || trial) {
                    self.breaker = Some(cx.now() + self.settings.routing.breaker_open);
                    self.errors = 0;
                }
            }
            Outcome::Done
            | Outcome::Version(_)
            | Outcome::Value(_)
            | Outcome::List(_)
            | Outcome::Audit { .. }
            | Outcome::Mismatch(_)
            | Outcome::Text(_) => {
                self.errors = 0;
                self.breaker = None;
            }
        }
    }

    /// Sends what waits, if there is somebody to send it to.
    fn pump(&mut self, cx: &mut Cx<'_, Agent>) {
        let Some((session, _)) = self.primary.filter(|_| self.primary_open) else { return };
        // The silence is that of the oldest question: a new one must not begin it anew, or a client that asks often enough
        // would stay for ever on a session whose peer is gone without a word.
        let waits = self.open.values().any(|open| open.sent == Some(session));
        if !waits && !self.queue.is_empty() {
            cx.set_timer(Timer::Silence, self.settings.routing.silence);
        }
        while let Some(id) = self.queue.pop_front() {
            let Some(open) = self.open.get_mut(&id) else { continue };
            open.sent = Some(session);
            cx.send(session, Message::Query { id, op: open.op.clone(), seen: self.seen });
        }
    }

    /// Ends what is due: sent and unanswered is unknown, the rest had no effect.
    fn expire(&mut self, cx: &mut Cx<'_, Agent>) {
        let now = cx.now();
        let due: alloc::vec::Vec<u64> =
            self.open.iter().filter(|(_, open)| open.deadline <= now).map(|(id, _)| *id).collect();
        for id in due {
            let Some(open) = self.open.get(&id) else { continue };
            let outcome = if open.sent.is_some() {
                Outcome::Unknown(Failure::Timeout)
            } else {
                Outcome::Fail(open.refused)
            };
            self.finish(cx, id, outcome, None);
        }
        self.queue.retain(|id| self.open.contains_key(id));
        self.reads.retain(|id| self.open.contains_key(id));
        self.sweep(cx);
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
        session: SessionId,
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
            Err(_) if self.reader.is_some_and(|(reader, _)| reader == session) => self.read_elsewhere(cx, id),
            Err(Refusal::Unknown) => self.finish(cx, id, Outcome::Unknown(Failure::Unsafe), address),
            Err(Refusal::Crowded) => self.finish(cx, id, Outcome::Fail(Failure::Limited), address),
            Err(Refusal::Unsafe) => self.again(cx, session, id, Failure::Unsafe, None),
            Err(Refusal::NotPrimary(hint)) => self.again(cx, session, id, Failure::NotPrimary, hint),
        }
        self.sweep(cx);
    }

    /// It had no effect: try elsewhere, after a while, while there is time.
    fn again(
        &mut self,
        cx: &mut Cx<'_, Agent>,
        session: SessionId,
        id: u64,
        why: Failure,
        hint: Option<NodeId>,
    ) {
        if let Some(open) = self.open.get_mut(&id) {
            open.sent = None;
            open.refused = why;
            self.queue.push_back(id);
        }
        // What is open at another node stays open there.
        if self.primary.is_none_or(|(primary, _)| primary != session) {
            return self.pump(cx);
        }
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

    // -------------------------------------------------------------------------------------------- reads at a replica

    /// Whether this operation may go to a replica.
    fn goes_near(&self, op: &Op) -> bool {
        let near = self.settings.agent.consistency != Consistency::Strong;
        near && matches!(op, Op::Read { .. })
    }

    fn dial_reader(&mut self, cx: &mut Cx<'_, Agent>) {
        if self.reader.is_none() {
            let node = NodeId((self.next_reader % self.settings.cluster.data.len()) as u8 + 1);
            self.reader = Some((cx.open(self.settings.cluster.address(node), Kind::Client), node));
            self.reader_open = false;
            self.reader_heard = cx.now();
            cx.set_timer(Timer::ReaderSilence, self.settings.routing.silence);
        }
    }

    fn pump_reads(&mut self, cx: &mut Cx<'_, Agent>) {
        let Some((session, _)) = self.reader.filter(|_| self.reader_open) else { return };
        while let Some(id) = self.reads.pop_front() {
            let Some(open) = self.open.get_mut(&id) else { continue };
            open.sent = Some(session);
            cx.send(session, Message::Query { id, op: open.op.clone(), seen: self.seen });
            cx.set_timer(Timer::ReaderSilence, self.settings.routing.silence);
        }
    }

    /// The replica cannot answer: it has not seen what we have, or has no state to show. The primary can.
    fn read_elsewhere(&mut self, cx: &mut Cx<'_, Agent>, id: u64) {
        if let Some(open) = self.open.get_mut(&id) {
            open.sent = None;
            self.queue.push_back(id);
            self.dial_primary(cx);
            self.pump(cx);
        }
    }

    /// The replica is gone or silent. A read changes nothing: it is asked again, at the next node.
    fn leave_reader(&mut self, cx: &mut Cx<'_, Agent>) {
        let Some((session, _)) = self.reader.take() else { return };
        cx.close(session);
        self.next_reader += 1;
        for (id, open) in &mut self.open {
            if open.sent == Some(session) {
                open.sent = None;
                self.reads.push_back(*id);
            }
        }
        cx.set_timer(Timer::ReaderSilence, self.settings.routing.back_off);
    }

    fn on_reader_silence(&mut self, cx: &mut Cx<'_, Agent>) {
        let Some((session, _)) = self.reader else {
            self.dial_reader(cx);
            return;
        };
        let limit = self.settings.routing.silence;
        let outstanding = !self.reader_open || self.open.values().any(|open| open.sent == Some(session));
        if outstanding && cx.now().since(self.reader_heard) >= limit {
            self.leave_reader(cx);
        } else if outstanding {
            cx.set_timer(Timer::ReaderSilence, limit);
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
            (Some((session, node)), Some(primary)) if newer && node != primary => {
                self.lingering.insert(session, node);
                self.primary = None;
                self.primary_open = false;
                self.sweep(cx);
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
        self.primary_open = false;
        if let Some((session, _)) = self.primary.take() {
            cx.close(session);
            self.lose_sent(cx, session, why);
        }
    }

    fn lose_sent(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, why: Failure) {
        let on_it = |open: &Open| open.sent == Some(session);
        let sent: alloc::vec::Vec<u64> =
            self.open.iter().filter(|(_, open)| on_it(open)).map(|(id, _)| *id).collect();
        sent.into_iter().for_each(|id| self.finish(cx, id, Outcome::Unknown(why), None));
    }

    /// Ends sessions to primaries of the past on which nothing is open any more.
    fn sweep(&mut self, cx: &mut Cx<'_, Agent>) {
        if self.lingering.is_empty() {
            return;
        }
        let open = &self.open;
        self.lingering.retain(|session, _| {
            let busy = open.values().any(|open| open.sent == Some(*session));
            if !busy {
                cx.close(*session);
            }
            busy
        });
    }

    /// Nothing heard for a while: the router may know more, and if it does not, a new session may work.
    fn on_silence(&mut self, cx: &mut Cx<'_, Agent>) {
        let outstanding = self
            .primary
            .is_some_and(|(session, _)| self.open.values().any(|open| open.sent == Some(session)));
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

    /// The node at the other end of a session; it was heard just now.
    fn on_session(&mut self, cx: &Cx<'_, Agent>, session: SessionId) -> Option<NodeId> {
        if let Some((_, node)) = self.primary.filter(|(primary, _)| *primary == session) {
            self.heard = cx.now();
            return Some(node);
        }
        if let Some((_, node)) = self.reader.filter(|(reader, _)| *reader == session) {
            self.reader_heard = cx.now();
            return Some(node);
        }
        let direct = self.direct.get(&session).and_then(|d| self.settings.cluster.node_at(d.node));
        self.lingering.get(&session).copied().or(direct)
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
            open.sent = Some(session);
            cx.send(session, Message::Query { id, op: open.op.clone(), seen: Position::default() });
        }
    }

    /// A connection to a named node is for what is asked now: a node that dies silently would keep it open for ever.
    fn leave_idle(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId) {
        let used = self.open.values().any(|open| open.sent == Some(session));
        if !used && self.direct.get(&session).is_some_and(|direct| direct.queue.is_empty()) {
            self.direct.remove(&session);
            cx.close(session);
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
            .map(|(id, open)| (*id, open.sent.is_some()))
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
        if self.reader.is_some_and(|(reader, _)| reader == session) {
            self.reader_open = true;
            self.reader_heard = cx.now();
            return self.pump_reads(cx);
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
                let by = self.on_session(cx, session);
                if result.is_ok() {
                    self.seen = self.seen.max(at);
                }
                self.on_result(cx, session, id, result, by);
                self.leave_idle(cx, session);
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
            self.lose_sent(cx, session, Failure::Disconnected);
            self.ask_router(cx);
            return self.wait(cx);
        }
        if self.lingering.remove(&session).is_some() {
            return self.lose_sent(cx, session, Failure::Disconnected);
        }
        if self.reader.is_some_and(|(reader, _)| reader == session) {
            return self.leave_reader(cx);
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
            Timer::ReaderSilence => self.on_reader_silence(cx),
            _ => {}
        }
    }

    fn on_request(&mut self, cx: &mut Cx<'_, Agent>, request: RequestId, op: Op, deadline: Duration) {
        let id = request.0;
        let directly = matches!(op, Op::ReadAt { .. } | Op::Command { .. });
        if let (Some(until), false) = (self.breaker, directly) {
            if cx.now() < until || self.trial.is_some() {
                return cx.complete(request, Outcome::Fail(Failure::Limited), None);
            }
            self.trial = Some(id);
        }
        let named = match &op {
            Op::ReadAt { node, .. } | Op::Command { node, .. } => Some(*node),
            Op::Read { .. } | Op::Append { .. } | Op::Write { .. } | Op::Cas { .. } => None,
        };
        let near = self.goes_near(&op);
        let open = Open { op, deadline: cx.now() + deadline, sent: None, refused: Failure::NoRoute };
        self.open.insert(id, open);
        match named {
            Some(node) => self.ask_directly(cx, id, node),
            None if near => {
                self.reads.push_back(id);
                self.dial_reader(cx);
                self.pump_reads(cx);
            }
            None => {
                self.queue.push_back(id);
                self.dial_primary(cx);
                self.pump(cx);
            }
        }
        self.arm_deadline(cx);
    }
}
