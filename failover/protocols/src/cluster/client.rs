//! The cluster client: keeps a map of slots, follows MOVED and ASK, and asks for a new map when something does not
//! fit (Redis cluster specification, "Redirection and resharding", "Client connections and redirection handling").
//!
//! It behaves as common libraries do: one connection to each node, answers matched by position; a refused connection,
//! a reset or a silence makes it fetch the map again from another node. What certainly did not take effect is tried
//! again until the operation's deadline; a write that was sent and not answered is never sent twice.

use super::bus::NodeId;
use super::node::Ctx;
use super::slots::{Slot, slot_of_number};
use super::{Cluster, Kind, Message, Timer};
use crate::contract::{
    Closed, DiskImage, Duration, Failure, Key, LocalTime, Node, Op, Opened, Outcome, Random, RequestId,
    SessionId, SocketAddrV4,
};
use crate::redis::admin::{ClusterCommand, SlotState, TakeOver};
use crate::redis::data::{Data, SetIf, Test};
use crate::redis::message::{Command, Error, Reply, Shutdown};
use crate::redis::values::Datum;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// Redirections that one operation follows before it gives up its present attempt.
const REDIRECTIONS_MAX: u8 = 5;

/// What a client is given to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// Nodes to ask for the map first.
    pub seeds: Vec<SocketAddrV4>,
    /// Wait before an operation that was refused is tried again.
    pub retry_after: Duration,
    /// How long to wait for a map, connecting included.
    pub refresh_timeout: Duration,
    /// Reads go to a replica of the slot, if it has one.
    pub read_from_replicas: bool,
    /// If not empty, the client keeps no map and follows nobody: it asks the nodes of a shard in turn, the next one after
    /// each error, once a `retry_after`. So do measuring loops.
    pub rounds: Vec<Round>,
}

/// A run of slots and the nodes that may serve it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// The first slot and the last.
    pub slots: (u16, u16),
    /// In the order in which they are asked; not empty.
    pub nodes: Vec<SocketAddrV4>,
}

impl Default for ClientSettings {
    fn default() -> Self {
        ClientSettings {
            seeds: Vec::new(),
            retry_after: Duration::from_millis(20),
            refresh_timeout: Duration::from_millis(250),
            read_from_replicas: false,
            rounds: Vec::new(),
        }
    }
}

/// A run of slots and who serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    first: u16,
    last: u16,
    primary: SocketAddrV4,
    replicas: Vec<SocketAddrV4>,
}

/// What an answer of a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// An operation.
    Request(RequestId),
    /// The map.
    Map,
    /// Nothing that matters: READONLY, ASKING, or an operation that was answered meanwhile.
    Nothing,
}

#[derive(Debug)]
struct Connection {
    session: SessionId,
    open: bool,
    /// READONLY was sent.
    read_only: bool,
    /// Commands that wait for it to open.
    unsent: Vec<Command>,
    awaited: VecDeque<Awaited>,
}

/// What kind of value a key holds, as far as the client knows: a read must name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shape {
    #[default]
    List,
    Register,
}

/// An operation that is not answered yet.
#[derive(Debug)]
struct Pending {
    op: Op,
    /// Where its present attempt went, if it has one.
    at: Option<SocketAddrV4>,
    /// Where its last attempt went.
    tried: Option<SocketAddrV4>,
    /// A command that may have taken effect is on its way.
    sent: bool,
    redirections: u8,
    /// A read found that the key holds the other kind of value.
    reshaped: bool,
    /// Why the last attempt failed.
    last: Failure,
}

impl Pending {
    /// The key whose slot decides where it goes.
    fn op_key(&self) -> Option<Key> {
        match self.op {
            Op::Read { key } | Op::Append { key, .. } | Op::Write { key, .. } | Op::Cas { key, .. } => {
                Some(key)
            }
            Op::ReadAt { .. } | Op::Command { .. } => None,
        }
    }
}

/// The client role.
#[derive(Debug)]
pub struct ClusterClient {
    settings: Arc<ClientSettings>,
    routes: Vec<Route>,
    /// Corrections by MOVED since the last map.
    moved: BTreeMap<Slot, SocketAddrV4>,
    connections: BTreeMap<SocketAddrV4, Connection>,
    addresses: BTreeMap<SessionId, SocketAddrV4>,
    pending: BTreeMap<RequestId, Pending>,
    /// Deadlines in order.
    deadlines: VecDeque<(LocalTime, RequestId)>,
    /// Operations that wait to be tried again, with the time for it.
    waiting: VecDeque<(LocalTime, RequestId)>,
    /// Whom we asked for the map, and since when.
    refreshing: Option<(SocketAddrV4, LocalTime)>,
    /// When a map was asked for last, and whether the next question only waits for its time.
    asked_at: Option<LocalTime>,
    refresh_due: bool,
    /// The next seed to ask.
    next_seed: usize,
    /// Whose turn it is in each round.
    turns: Vec<usize>,
    /// Kinds of value by key, and the kind written last: the guess for other keys.
    shapes: BTreeMap<Key, Shape>,
    usual_shape: Shape,
}

impl ClusterClient {
    /// A client with these settings.
    pub fn new(settings: Arc<ClientSettings>) -> ClusterClient {
        assert!(!settings.seeds.is_empty(), "a client needs a node to ask");
        ClusterClient {
            turns: vec![0; settings.rounds.len()],
            settings,
            routes: Vec::new(),
            moved: BTreeMap::new(),
            connections: BTreeMap::new(),
            addresses: BTreeMap::new(),
            pending: BTreeMap::new(),
            deadlines: VecDeque::new(),
            waiting: VecDeque::new(),
            refreshing: None,
            asked_at: None,
            refresh_due: false,
            next_seed: 0,
            shapes: BTreeMap::new(),
            usual_shape: Shape::List,
        }
    }

    // ------------------------------------------------------------------------------------------------- the slot map

    /// Asks the next node for the map, unless one is asked already. Not more often than operations are tried again: a
    /// cluster that is down gives the same map each time.
    fn refresh(&mut self, cx: &mut Ctx<'_>) {
        if self.refreshing.is_some() || self.refresh_due || self.keeps_no_map() {
            return;
        }
        let pause = self.settings.retry_after;
        if let Some(asked_at) = self.asked_at.filter(|&asked_at| cx.now().since(asked_at) < pause) {
            self.refresh_due = true;
            return cx.set_timer(Timer::Refresh, pause.saturating_sub(cx.now().since(asked_at)));
        }
        self.asked_at = Some(cx.now());
        let addr = self.settings.seeds[self.next_seed % self.settings.seeds.len()];
        self.next_seed += 1;
        self.refreshing = Some((addr, cx.now()));
        cx.set_timer(Timer::Refresh, self.settings.refresh_timeout);
        self.send(cx, addr, Command::Cluster(ClusterCommand::Slots), Awaited::Map);
    }

    /// The node that was asked for the map did not give it.
    fn refresh_failed(&mut self, cx: &mut Ctx<'_>) {
        self.refreshing = None;
        self.refresh_due = true;
        cx.set_timer(Timer::Refresh, self.settings.retry_after);
    }

    fn on_map(&mut self, cx: &mut Ctx<'_>, reply: &Reply) {
        cx.cancel_timer(Timer::Refresh);
        self.refreshing = None;
        let Some(routes) = read_map(reply) else {
            return self.refresh_failed(cx);
        };
        self.routes = routes;
        self.moved.clear();
        self.retry_rerouted(cx);
    }

    fn keeps_no_map(&self) -> bool {
        !self.settings.rounds.is_empty()
    }

    /// A client without a map had an error of this node: the next one's turn.
    fn turn_away(&mut self, from: SocketAddrV4) {
        for (round, turn) in self.settings.rounds.iter().zip(&mut self.turns) {
            if round.nodes[*turn] == from {
                *turn = (*turn + 1) % round.nodes.len();
            }
        }
    }

    fn route(&self, cx: &mut Ctx<'_>, slot: Slot, read: bool) -> Option<SocketAddrV4> {
        let rounds = self.settings.rounds.iter().zip(&self.turns);
        for (round, &turn) in rounds {
            if (round.slots.0..=round.slots.1).contains(&slot.0) {
                return Some(round.nodes[turn]);
            }
        }
        let at = self.routes.partition_point(|route| route.last < slot.0);
        let route = self.routes.get(at).filter(|route| route.first <= slot.0);
        if let Some(route) = route
            && read
            && self.settings.read_from_replicas
            && !route.replicas.is_empty()
        {
            let pick = cx.random().between(0, route.replicas.len() as u64 - 1) as usize;
            return Some(route.replicas[pick]);
        }
        self.moved.get(&slot).copied().or_else(|| route.map(|route| route.primary))
    }

    // -------------------------------------------------------------------------------------------------- connections

    /// Sends a command to a node, dialling it if need be.
    fn send(&mut self, cx: &mut Ctx<'_>, addr: SocketAddrV4, command: Command, awaited: Awaited) {
        let connection = self.connections.entry(addr).or_insert_with(|| {
            let session = cx.open(addr, Kind::Client);
            self.addresses.insert(session, addr);
            Connection {
                session,
                open: false,
                read_only: false,
                unsent: Vec::new(),
                awaited: VecDeque::new(),
            }
        });
        connection.awaited.push_back(awaited);
        if connection.open {
            cx.send(connection.session, Message::Redis(command.into()));
        } else {
            connection.unsent.push(command);
        }
    }

    fn drop_connection(&mut self, addr: SocketAddrV4) -> Option<Connection> {
        let connection = self.connections.remove(&addr)?;
        self.addresses.remove(&connection.session);
        Some(connection)
    }

    /// A connection is gone: what was not sent is tried again, what was sent is unknown.
    fn on_lost(&mut self, cx: &mut Ctx<'_>, addr: SocketAddrV4, why: Failure) {
        let Some(connection) = self.drop_connection(addr) else { return };
        let never_open = !connection.open;
        self.turn_away(addr);
        for awaited in connection.awaited {
            match awaited {
                Awaited::Nothing => {}
                Awaited::Map => self.refresh_failed(cx),
                Awaited::Request(request) if never_open && self.may_ask_the_next(request) => {
                    self.attempt_next(cx, request);
                }
                Awaited::Request(request) if never_open => self.postpone(cx, request, why),
                Awaited::Request(request) => self.on_unanswered(cx, request, why),
            }
        }
        self.moved.retain(|_, to| *to != addr);
        self.refresh(cx);
    }

    /// Nobody was asked yet in this turn: a client without a map goes on to the next node, once round.
    fn may_ask_the_next(&self, request: RequestId) -> bool {
        let asked = self.pending.get(&request).map_or(REDIRECTIONS_MAX, |pending| pending.redirections);
        self.keeps_no_map() && asked == 0
    }

    fn attempt_next(&mut self, cx: &mut Ctx<'_>, request: RequestId) {
        self.attempt(cx, request);
        if let Some(pending) = self.pending.get_mut(&request) {
            pending.redirections = 1;
        }
    }

    /// The answer to a command that was sent will not come.
    fn on_unanswered(&mut self, cx: &mut Ctx<'_>, request: RequestId, why: Failure) {
        let Some(pending) = self.pending.get(&request) else { return };
        match pending.op {
            Op::Read { .. } | Op::ReadAt { .. } => self.postpone(cx, request, why),
            _ => self.complete(cx, request, Outcome::Unknown(why), None),
        }
    }

    // --------------------------------------------------------------------------------------------------- operations

    fn attempt(&mut self, cx: &mut Ctx<'_>, request: RequestId) {
        let Some(pending) = self.pending.get_mut(&request) else { return };
        pending.redirections = 0;
        let (key, read) = match &pending.op {
            Op::Read { key } => (*key, true),
            Op::Append { key, .. } | Op::Write { key, .. } | Op::Cas { key, .. } => (*key, false),
            Op::ReadAt { node, .. } | Op::Command { node, .. } => {
                let node = *node;
                return self.attempt_at(cx, request, node, false);
            }
        };
        match self.route(cx, slot_of_number(key.0), read) {
            Some(addr) => self.attempt_at(cx, request, addr, false),
            None => {
                self.refresh(cx);
                self.postpone(cx, request, Failure::NoRoute);
            }
        }
    }

    fn attempt_at(&mut self, cx: &mut Ctx<'_>, request: RequestId, addr: SocketAddrV4, asking: bool) {
        let Some(pending) = self.pending.get_mut(&request) else { return };
        pending.at = Some(addr);
        pending.tried = Some(addr);
        pending.sent = true;
        let from_replica = match pending.op {
            Op::ReadAt { .. } => true,
            Op::Read { .. } => self.settings.read_from_replicas,
            _ => false,
        };
        let shape = match pending.op {
            Op::Read { key } | Op::ReadAt { key, .. } => *self.shapes.get(&key).unwrap_or(&self.usual_shape),
            _ => Shape::List,
        };
        let Some(command) = command_of(&pending.op, shape) else {
            return self.complete(cx, request, Outcome::Fail(Failure::Rejected), None);
        };
        if from_replica && !self.connections.get(&addr).is_some_and(|connection| connection.read_only) {
            self.send(cx, addr, Command::ReadOnly, Awaited::Nothing);
            if let Some(connection) = self.connections.get_mut(&addr) {
                connection.read_only = true;
            }
        }
        if asking {
            self.send(cx, addr, Command::Asking, Awaited::Nothing);
        }
        self.send(cx, addr, command, Awaited::Request(request));
    }

    /// The attempt certainly had no effect: try again a little later.
    fn postpone(&mut self, cx: &mut Ctx<'_>, request: RequestId, why: Failure) {
        let Some(pending) = self.pending.get_mut(&request) else { return };
        pending.at = None;
        pending.sent = false;
        pending.last = why;
        let at = cx.now() + self.settings.retry_after;
        if self.waiting.is_empty() {
            cx.set_timer(Timer::Retry, self.settings.retry_after);
        }
        self.waiting.push_back((at, request));
    }

    /// Tries again at once what the new map sends elsewhere.
    fn retry_rerouted(&mut self, cx: &mut Ctx<'_>) {
        let waiting: Vec<(LocalTime, RequestId)> = self.waiting.drain(..).collect();
        for (at, request) in waiting {
            let Some(pending) = self.pending.get(&request) else { continue };
            let tried = pending.tried;
            let now_at = pending.op_key().and_then(|key| self.route(cx, slot_of_number(key.0), false));
            if now_at.is_some() && now_at != tried {
                self.attempt(cx, request);
            } else {
                self.waiting.push_back((at, request));
            }
        }
    }

    /// Tries again what has waited long enough.
    fn retry_waiting(&mut self, cx: &mut Ctx<'_>) {
        let mut due = Vec::new();
        while let Some(&(at, request)) = self.waiting.front() {
            if at > cx.now() {
                cx.set_timer(Timer::Retry, at.since(cx.now()));
                break;
            }
            self.waiting.pop_front();
            due.push(request);
        }
        for request in due {
            self.attempt(cx, request);
        }
    }

    fn on_reply(&mut self, cx: &mut Ctx<'_>, addr: SocketAddrV4, request: RequestId, reply: Reply) {
        let Some(pending) = self.pending.get_mut(&request) else { return };
        let fixed = matches!(pending.op, Op::ReadAt { .. } | Op::Command { .. });
        match reply {
            Reply::Error(Error::Moved { slot, to }) if !fixed => {
                pending.redirections += 1;
                let again = pending.redirections <= REDIRECTIONS_MAX;
                self.moved.insert(Slot(slot), to);
                if self.keeps_no_map() {
                    self.turn_away(addr);
                    return self.postpone(cx, request, Failure::NotPrimary);
                }
                self.refresh(cx);
                if again {
                    self.attempt_at(cx, request, to, false);
                } else {
                    self.postpone(cx, request, Failure::NotPrimary);
                }
            }
            Reply::Error(Error::Ask { to, .. }) if !fixed => self.attempt_at(cx, request, to, true),
            Reply::Error(Error::WrongType) if !pending.reshaped && !pending.op.is_write() => {
                pending.reshaped = true;
                self.reshape(request);
                self.attempt_at(cx, request, addr, false);
            }
            Reply::Error(error) => match refusal(&error) {
                Refusal::Later(why) if !fixed => {
                    self.turn_away(addr);
                    self.refresh(cx);
                    self.postpone(cx, request, why);
                }
                Refusal::Later(why) | Refusal::Never(why) => {
                    self.complete(cx, request, Outcome::Fail(why), Some(addr));
                }
            },
            reply => {
                let outcome = outcome_of(&pending.op, reply);
                self.complete(cx, request, outcome, Some(addr));
            }
        }
    }

    /// A read named the wrong kind of value.
    fn reshape(&mut self, request: RequestId) {
        let Some(Op::Read { key } | Op::ReadAt { key, .. }) = self.pending.get(&request).map(|p| &p.op)
        else {
            return;
        };
        let shape = match self.shapes.get(key).unwrap_or(&self.usual_shape) {
            Shape::List => Shape::Register,
            Shape::Register => Shape::List,
        };
        self.shapes.insert(*key, shape);
    }

    /// A write says what kind of value its key holds.
    fn learn_shape(&mut self, op: &Op) {
        let (key, shape) = match op {
            Op::Append { key, .. } => (*key, Shape::List),
            Op::Write { key, .. } | Op::Cas { key, .. } => (*key, Shape::Register),
            Op::Read { .. } | Op::ReadAt { .. } | Op::Command { .. } => return,
        };
        self.usual_shape = shape;
        self.shapes.entry(key).or_insert(shape);
    }

    fn complete(&mut self, cx: &mut Ctx<'_>, request: RequestId, outcome: Outcome, by: Option<SocketAddrV4>) {
        if self.pending.remove(&request).is_some() {
            cx.complete(request, outcome, by);
        }
    }

    /// Answers what has no more time, and looks at the next deadline then.
    fn expire(&mut self, cx: &mut Ctx<'_>) {
        while let Some(&(deadline, request)) = self.deadlines.front() {
            if !self.pending.contains_key(&request) {
                self.deadlines.pop_front();
                continue;
            }
            if deadline > cx.now() {
                return cx.set_timer(Timer::Deadline, deadline.since(cx.now()));
            }
            self.deadlines.pop_front();
            self.on_timeout(cx, request);
        }
    }

    fn on_timeout(&mut self, cx: &mut Ctx<'_>, request: RequestId) {
        let Some(pending) = self.pending.get(&request) else { return };
        let outcome = match (pending.sent, &pending.op) {
            (true, Op::Read { .. } | Op::ReadAt { .. }) => Outcome::Fail(Failure::Timeout),
            (true, _) => Outcome::Unknown(Failure::Timeout),
            (false, _) => Outcome::Fail(pending.last),
        };
        // A command that still waits for its connection was not sent at all.
        let unsent = pending.at.and_then(|addr| self.connections.get(&addr)).is_some_and(|link| !link.open);
        let outcome = if unsent { Outcome::Fail(Failure::Unreachable) } else { outcome };
        let at = pending.at;
        self.waiting.retain(|&(_, waiting)| waiting != request);
        self.complete(cx, request, outcome, None);
        if let Some(addr) = at {
            self.turn_away(addr);
            self.abandon(cx, addr, request);
            self.refresh(cx);
        }
    }

    /// Nobody waits for this answer any more. A connection of which nothing else is awaited is closed: who knows
    /// whether it works.
    fn abandon(&mut self, cx: &mut Ctx<'_>, addr: SocketAddrV4, request: RequestId) {
        let Some(connection) = self.connections.get_mut(&addr) else { return };
        if let Some(at) = connection.awaited.iter().position(|&awaited| awaited == Awaited::Request(request))
        {
            connection.awaited[at] = Awaited::Nothing;
        }
        if connection.awaited.iter().all(|&awaited| awaited == Awaited::Nothing) {
            cx.close(connection.session);
            self.drop_connection(addr);
        }
    }
}

impl Node<Cluster> for ClusterClient {
    fn start(&mut self, cx: &mut Ctx<'_>, _disk: &DiskImage<Cluster>) {
        let last = self.settings.seeds.len() as u64 - 1;
        self.next_seed = cx.random().between(0, last) as usize;
        self.refresh(cx);
    }

    fn on_open(&mut self, cx: &mut Ctx<'_>, session: SessionId, _opened: Opened<Kind>) {
        let Some(addr) = self.addresses.get(&session) else { return };
        let Some(connection) = self.connections.get_mut(addr) else { return };
        connection.open = true;
        for command in core::mem::take(&mut connection.unsent) {
            cx.send(session, Message::Redis(command.into()));
        }
    }

    fn on_message(&mut self, cx: &mut Ctx<'_>, session: SessionId, message: Message) {
        let Some(&addr) = self.addresses.get(&session) else { return };
        let Message::Redis(crate::redis::message::Message::Reply(reply)) = message else { return };
        let awaited = self.connections.get_mut(&addr).and_then(|connection| connection.awaited.pop_front());
        match awaited {
            Some(Awaited::Request(request)) => self.on_reply(cx, addr, request, reply),
            Some(Awaited::Map) if self.refreshing.is_some_and(|(asked, _)| asked == addr) => {
                self.on_map(cx, &reply);
            }
            Some(Awaited::Map | Awaited::Nothing) | None => {}
        }
    }

    fn on_close(&mut self, cx: &mut Ctx<'_>, session: SessionId, why: Closed) {
        let Some(&addr) = self.addresses.get(&session) else { return };
        let why = match why {
            Closed::Refused | Closed::Unresolved => Failure::Unreachable,
            Closed::Reset | Closed::Eof => Failure::Disconnected,
            Closed::Timeout => Failure::Timeout,
        };
        self.on_lost(cx, addr, why);
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, timer: Timer) {
        match timer {
            Timer::Deadline => self.expire(cx),
            Timer::Retry => self.retry_waiting(cx),
            Timer::Refresh if self.refresh_due => {
                self.refresh_due = false;
                self.asked_at = None;
                self.refresh(cx);
            }
            Timer::Refresh => match self.refreshing.take() {
                // The node that we asked is silent: its connection is of no use either.
                Some((addr, _)) => {
                    if let Some(connection) = self.connections.get(&addr) {
                        cx.close(connection.session);
                        self.on_lost(cx, addr, Failure::Timeout);
                    }
                    self.refresh(cx);
                }
                None => self.refresh(cx),
            },
            Timer::Cron | Timer::Data(_) | Timer::Nagle(_) | Timer::Reshard | Timer::Orchestrate(_) => {}
        }
    }

    fn on_request(&mut self, cx: &mut Ctx<'_>, request: RequestId, op: Op, deadline: Duration) {
        let at = cx.now() + deadline;
        self.learn_shape(&op);
        let last = Failure::NoRoute;
        let pending =
            Pending { op, at: None, tried: None, sent: false, redirections: 0, reshaped: false, last };
        self.pending.insert(request, pending);
        if self.deadlines.is_empty() {
            cx.set_timer(Timer::Deadline, deadline);
        }
        let position = self.deadlines.partition_point(|&(other, _)| other <= at);
        if position == 0 && !self.deadlines.is_empty() {
            cx.set_timer(Timer::Deadline, deadline);
        }
        self.deadlines.insert(position, (at, request));
        self.attempt(cx, request);
    }
}

/// Reads `CLUSTER SLOTS`; nothing if it is no such answer, or covers nothing.
fn read_map(reply: &Reply) -> Option<Vec<Route>> {
    let Reply::Array(entries) = reply else { return None };
    let mut routes: Vec<Route> = entries.iter().filter_map(read_route).collect();
    routes.sort_by_key(|route| route.first);
    (!routes.is_empty()).then_some(routes)
}

fn read_route(entry: &Reply) -> Option<Route> {
    let Reply::Array(parts) = entry else { return None };
    let [Reply::Integer(first), Reply::Integer(last), primary, replicas @ ..] = parts.as_slice() else {
        return None;
    };
    Some(Route {
        first: u16::try_from(*first).ok()?,
        last: u16::try_from(*last).ok()?,
        primary: read_node(primary)?,
        replicas: replicas.iter().filter_map(read_node).collect(),
    })
}

fn read_node(node: &Reply) -> Option<SocketAddrV4> {
    let Reply::Array(parts) = node else { return None };
    let [ip, Reply::Integer(port), ..] = parts.as_slice() else { return None };
    let ip = match ip {
        Reply::Text(text) => text.parse().ok()?,
        Reply::Bulk(datum) => core::str::from_utf8(&datum.to_bytes()).ok()?.parse().ok()?,
        _ => return None,
    };
    Some(SocketAddrV4::new(ip, u16::try_from(*port).ok()?))
}

/// What an error means for the operation.
enum Refusal {
    /// Not now: it can be tried again.
    Later(Failure),
    /// Never.
    Never(Failure),
}

fn refusal(error: &Error) -> Refusal {
    match error {
        Error::Moved { .. } | Error::Ask { .. } | Error::ReadOnly => Refusal::Later(Failure::NotPrimary),
        Error::ClusterDown | Error::SlotNotServed | Error::Loading | Error::PrimaryDown | Error::TryAgain => {
            Refusal::Later(Failure::Unavailable)
        }
        Error::Unblocked => Refusal::Later(Failure::NotPrimary),
        Error::NoReplicas => Refusal::Never(Failure::Unsafe),
        Error::CrossSlot | Error::WrongType | Error::NotAnInteger => Refusal::Never(Failure::Rejected),
        _ => Refusal::Never(Failure::Other),
    }
}

/// An operation of the workload as a command; none if the words of an operator's command are unknown.
fn command_of(op: &Op, shape: Shape) -> Option<Command> {
    let data = match *op {
        Op::Read { key } | Op::ReadAt { key, .. } => match shape {
            Shape::List => Data::Range { key: key.into(), start: 0, stop: -1 },
            Shape::Register => Data::Get(key.into()),
        },
        Op::Append { key, value, bytes } => {
            Data::Push { key: key.into(), value: Datum::padded(value, bytes), more: Box::new([]) }
        }
        Op::Write { key, value, bytes } => {
            Data::Set { key: key.into(), value: Datum::padded(value, bytes), condition: None }
        }
        Op::Cas { key, from, to } => {
            let test = from.map_or(Test::Absent, |value| Test::Equals(Datum::number(value)));
            let condition = Some(Box::new(SetIf { test, get: true }));
            Data::Set { key: key.into(), value: Datum::number(to), condition }
        }
        Op::Command { ref words, .. } => return operator_command(words),
    };
    Some(data.into())
}

/// An operator's words as a command.
fn operator_command(words: &str) -> Option<Command> {
    let words: Vec<String> = words.split_whitespace().map(str::to_ascii_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let failover = |mode| Command::Cluster(ClusterCommand::Failover { mode, only: None });
    Some(match words[..] {
        ["cluster", "failover"] => failover(TakeOver::Agreed),
        ["cluster", "failover", "force"] => failover(TakeOver::Force),
        ["cluster", "failover", "takeover"] => failover(TakeOver::Unelected),
        ["cluster", "bumpepoch"] => Command::Cluster(ClusterCommand::BumpEpoch),
        ["cluster", "nodes"] => Command::Cluster(ClusterCommand::Nodes),
        ["cluster", "info"] => Command::Cluster(ClusterCommand::Info),
        ["cluster", "setslot", slot, "node", node] => {
            let state = SlotState::Node(NodeId(node.parse().ok()?).run_id());
            Command::Cluster(ClusterCommand::SetSlot { slot: slot.parse().ok()?, state })
        }
        ["cluster", "setslot", slot, "importing", node] => {
            let state = SlotState::Importing(NodeId(node.parse().ok()?).run_id());
            Command::Cluster(ClusterCommand::SetSlot { slot: slot.parse().ok()?, state })
        }
        ["cluster", "setslot", slot, "migrating", node] => {
            let state = SlotState::Migrating(NodeId(node.parse().ok()?).run_id());
            Command::Cluster(ClusterCommand::SetSlot { slot: slot.parse().ok()?, state })
        }
        ["cluster", "setslot", slot, "stable"] => {
            Command::Cluster(ClusterCommand::SetSlot { slot: slot.parse().ok()?, state: SlotState::Stable })
        }
        ["cluster", "replicate", node] => {
            Command::Cluster(ClusterCommand::Replicate(NodeId(node.parse().ok()?).run_id()))
        }
        ["shutdown", ref how @ ..] => Command::Shutdown(Shutdown {
            now: how.contains(&"now"),
            force: how.contains(&"force"),
            failover: how.contains(&"failover"),
            no_save: how.contains(&"nosave"),
            abort: how.contains(&"abort"),
        }),
        ["ping"] => Command::Ping,
        ["info"] => Command::Info,
        ["role"] => Command::Role,
        _ => return None,
    })
}

/// What a reply means for the operation.
fn outcome_of(op: &Op, reply: Reply) -> Outcome {
    match (op, reply) {
        (Op::Append { .. }, Reply::Integer(length)) => Outcome::Version(length.unsigned_abs()),
        (Op::Write { .. }, Reply::Ok) => Outcome::Done,
        (Op::Cas { from, .. }, Reply::Nil) if from.is_some() => Outcome::Mismatch(None),
        (Op::Cas { .. }, Reply::Nil) => Outcome::Done,
        (Op::Cas { from, .. }, Reply::Bulk(found)) if found.value() == *from => Outcome::Done,
        (Op::Cas { .. }, Reply::Bulk(found)) => Outcome::Mismatch(found.value()),
        (_, Reply::List(elements)) => Outcome::List(elements.values()),
        (_, Reply::Bulk(datum)) => Outcome::Value(datum.value()),
        (_, Reply::Nil) => Outcome::Value(None),
        (_, Reply::Text(text)) => Outcome::Text(text.as_ref().into()),
        (_, Reply::Simple(text)) => Outcome::Text(text.into()),
        (_, Reply::Ok) => Outcome::Text("OK".into()),
        (_, other) => Outcome::Text(format!("{other:?}")),
    }
}
