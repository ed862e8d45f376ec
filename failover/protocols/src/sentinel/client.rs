//! A client that finds the primary through the sentinels, as the Redis documentation asks of clients ("Guidelines for
//! Redis clients with support for Redis Sentinel"): ask the sentinels in order, connect, and ask again whenever a
//! connection breaks or the node turns out to be no primary.
//!
//! Client libraries differ in what they ask and in when they ask again; [`Policy`] has their differences. Operations
//! are sent at once when there is a connection, else they wait for one until their deadline. What was sent and not
//! answered is of unknown outcome.

use super::{Kind, SentinelSystem};
use crate::contract::*;
use crate::redis::admin::SentinelCommand;
use crate::redis::data::{Data, SetIf, Test};
use crate::redis::info::RoleReport;
use crate::redis::instances::Flag;
use crate::redis::message::{Channel, Command, Error, Message, Push, Reply};
use crate::redis::values::{Addr, Datum};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// How a client library follows a failover.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What it asks the sentinels.
    pub discovery: Discovery,
    /// The data nodes it has in its own configuration, for [`Discovery::AnyNode`].
    pub nodes: Vec<Addr>,
    /// The host name for [`Discovery::Name`].
    pub name: Arc<str>,
    /// It asks the sentinels again after any error of the connection; else it dials the old address again
    /// (redis-py #3560: a retry loop stuck on the old primary).
    pub resolves_on_error: bool,
    /// A READONLY error makes it drop the connection and ask again; else it stays on a node that was demoted.
    pub resolves_on_read_only: bool,
    /// It says CLIENT CAPA redirect, and goes where a demoted node sends it (Valkey 8.0).
    pub follows_redirects: bool,
    /// It subscribes to `+switch-master` and leaves the old primary when it hears of a new one.
    pub subscribes: bool,
    /// Pause between two attempts to find the primary.
    pub retry: Duration,
    /// How long a sentinel or a dial may keep it waiting.
    pub connect_timeout: Duration,
    /// After each write, WAIT for so many replicas, for so long; fewer leave the outcome unknown.
    pub wait: Option<(u32, Duration)>,
}

/// Ways to find the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// SENTINEL MASTERS, and an entry that is not said to be down; the role is not asked (redis-py 8.1).
    Entries,
    /// The same, and ROLE must say primary (redis-rs 0.32).
    EntriesAndRole,
    /// SENTINEL get-master-addr-by-name, and ROLE must say primary, as the guidelines say.
    AddressAndRole,
    /// None: the address in the configuration, for ever. A client without Sentinel.
    Fixed(Addr),
    /// Nobody: a host name in the configuration, resolved at each dial. Whoever fails over lets it mean the new primary
    /// (a client-reconfig script). The client does not learn which node answers.
    Name,
    /// No sentinel either: of the nodes in the configuration, in their order, the first whose ROLE says primary. Proxies
    /// that check the role do so.
    AnyNode,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            discovery: Discovery::Entries,
            nodes: Vec::new(),
            name: Arc::from(""),
            resolves_on_error: true,
            resolves_on_read_only: true,
            follows_redirects: false,
            subscribes: false,
            retry: Duration::from_millis(100),
            connect_timeout: Duration::from_secs(1),
            wait: None,
        }
    }
}

/// The port of data nodes that are found by name.
const PORT: u16 = 6379;

/// Stands for answers that nobody waits for.
const NOBODYS: RequestId = RequestId(u64::MAX);

/// Timers of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The earliest deadline of an operation.
    Deadline,
    /// Try again to find the primary.
    Retry,
    /// A sentinel or a dial has kept us waiting for too long.
    Patience,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    sentinels: Vec<Addr>,
    group: Arc<str>,
    /// Number of the group, where a process is a client of several.
    number: u16,
    policy: Policy,
    route: Route,
    /// Index of the sentinel that is asked.
    asked: usize,
    /// Connections to sentinels; they are kept.
    connections: BTreeMap<Addr, SessionId>,
    /// Where the primary was found last.
    known: Option<Addr>,
    operations: BTreeMap<RequestId, Operation>,
    /// Operations that wait for a connection.
    waiting: VecDeque<RequestId>,
    /// Connections to nodes that an operation named.
    direct: BTreeMap<Addr, Direct>,
    deadline_set: Option<LocalTime>,
    /// A demoted node sent us there; we go when it has answered everything.
    redirected: Option<Addr>,
    /// Keys hold strings, as far as seen; else lists.
    strings: bool,
}

/// The way to the primary.
#[derive(Debug)]
enum Route {
    /// There is none, and nothing is done about it before the retry timer or the next operation.
    None,
    /// A sentinel is being asked.
    Asking,
    /// The primary is dialled, or asked who it is.
    Connecting { session: SessionId, addr: Option<Addr> },
    /// Operations go there.
    Open { session: SessionId, addr: Option<Addr>, sent: VecDeque<Sent> },
}

/// A connection to a node that an operation named.
#[derive(Debug)]
struct Direct {
    session: SessionId,
    sent: VecDeque<RequestId>,
}

/// What a reply of the primary will be the reply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Operation(RequestId),
    /// The write before a WAIT.
    Write(RequestId),
    Wait(RequestId),
}

#[derive(Debug)]
struct Operation {
    op: Op,
    deadline: LocalTime,
    sent: bool,
}

impl Client {
    /// A client before its start.
    pub fn new(sentinels: Vec<Addr>, group: Arc<str>, policy: Policy) -> Client {
        Client {
            sentinels,
            group,
            number: 0,
            policy,
            route: Route::None,
            asked: 0,
            connections: BTreeMap::new(),
            known: None,
            operations: BTreeMap::new(),
            waiting: VecDeque::new(),
            direct: BTreeMap::new(),
            deadline_set: None,
            redirected: None,
            strings: false,
        }
    }

    /// The same as one of several in a process.
    pub(super) fn numbered(mut self, number: u16) -> Client {
        self.number = number;
        self
    }

    fn timer(&self, timer: Timer) -> super::Timer {
        super::Timer::Client(self.number, timer)
    }

    /// Whether it dialled this session, or is in it.
    pub(super) fn owns(&self, session: SessionId) -> bool {
        self.route_session() == Some(session)
            || self.sentinel_with(session).is_some()
            || self.direct_with(session).is_some()
    }

    // --- finding the primary ---

    /// Begins to look for the primary, if nothing is under way.
    fn resolve(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        if !matches!(self.route, Route::None) {
            return;
        }
        let stuck = !self.policy.resolves_on_error;
        match (self.policy.discovery, self.known) {
            (Discovery::Fixed(addr), _) => self.dial(cx, addr),
            (Discovery::Name, _) => self.dial_name(cx),
            (Discovery::AnyNode, _) => {
                self.asked = 0;
                self.dial_candidate(cx);
            }
            (_, Some(addr)) if stuck => self.dial(cx, addr),
            _ => {
                self.asked = 0;
                self.ask(cx);
            }
        }
    }

    /// Asks the sentinel whose turn it is.
    fn ask(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        let Some(addr) = self.sentinels.get(self.asked).copied() else {
            self.rest(cx);
            return;
        };
        self.route = Route::Asking;
        let session = self.sentinel_session(cx, addr);
        let question = match self.policy.discovery {
            Discovery::AddressAndRole => SentinelCommand::PrimaryAddr(self.group.clone()),
            Discovery::Entries
            | Discovery::EntriesAndRole
            | Discovery::Fixed(_)
            | Discovery::Name
            | Discovery::AnyNode => SentinelCommand::Primaries,
        };
        cx.send(session, Message::Command(Command::Sentinel(question)));
        self.be_patient(cx);
    }

    fn sentinel_session(&mut self, cx: &mut Cx<'_, SentinelSystem>, addr: Addr) -> SessionId {
        if let Some(session) = self.connections.get(&addr) {
            return *session;
        }
        let session = cx.open(addr, Kind::Sentinel);
        self.connections.insert(addr, session);
        if self.policy.subscribes {
            cx.send(session, Message::Command(Command::Subscribe([Channel::Switch].into())));
        }
        session
    }

    /// The sentinel was of no use: the next one is asked.
    fn ask_next(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        self.asked += 1;
        self.ask(cx);
    }

    /// A sentinel's answer.
    fn on_answer(&mut self, cx: &mut Cx<'_, SentinelSystem>, addr: Addr, reply: Reply) {
        if !matches!(self.route, Route::Asking) || self.sentinels.get(self.asked) != Some(&addr) {
            return;
        }
        let found = match reply {
            Reply::Address(addr) => Some(addr),
            Reply::Instances(entries) => {
                let down = |flags: crate::redis::instances::Flags| {
                    flags.has(Flag::Suspected) || flags.has(Flag::Declared)
                };
                let entry = entries.iter().find(|entry| entry.name == self.group);
                entry.filter(|entry| !down(entry.flags)).map(|entry| entry.addr)
            }
            _ => None,
        };
        match found {
            Some(addr) => {
                // The one that knew is asked first next time.
                self.sentinels.swap(0, self.asked);
                self.dial(cx, addr);
            }
            None => self.ask_next(cx),
        }
    }

    /// Dials the configured node whose turn it is.
    fn dial_candidate(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        match self.policy.nodes.get(self.asked).copied() {
            Some(addr) => self.dial(cx, addr),
            None => self.rest(cx),
        }
    }

    /// The node that was dialled is of no use: the next one is tried, or the sentinels are asked again later.
    fn give_up_dial(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        if self.policy.discovery == Discovery::AnyNode {
            self.asked += 1;
            self.dial_candidate(cx);
        } else {
            self.rest(cx);
        }
    }

    fn dial(&mut self, cx: &mut Cx<'_, SentinelSystem>, addr: Addr) {
        let session = cx.open(addr, Kind::Data);
        self.introduce(cx, session, Some(addr));
    }

    fn dial_name(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        let session = cx.open(Endpoint::Name(self.policy.name.clone(), PORT), Kind::Data);
        self.introduce(cx, session, None);
    }

    /// Begins a connection to what may be the primary; `addr`: where it leads, if that is known.
    fn introduce(&mut self, cx: &mut Cx<'_, SentinelSystem>, session: SessionId, addr: Option<Addr>) {
        let question = match self.policy.discovery {
            Discovery::Entries | Discovery::Fixed(_) | Discovery::Name => Command::Hello(Some(3)),
            Discovery::EntriesAndRole | Discovery::AddressAndRole | Discovery::AnyNode => Command::Role,
        };
        cx.send(session, Message::Command(question));
        if self.policy.follows_redirects {
            cx.send(session, Message::Command(Command::ClientCapaRedirect));
        }
        self.redirected = None;
        self.known = addr;
        self.route = Route::Connecting { session, addr };
        self.be_patient(cx);
    }

    /// What the node said of itself.
    fn on_introduction(&mut self, cx: &mut Cx<'_, SentinelSystem>, reply: Reply) {
        let Route::Connecting { session, addr } = self.route else { return };
        let wrong_role = matches!(&reply, Reply::Role(role) if !matches!(**role, RoleReport::Primary { .. }));
        if wrong_role || matches!(reply, Reply::Error(Error::Loading)) {
            self.lose_route(cx);
            self.give_up_dial(cx);
            return;
        }
        cx.cancel_timer(self.timer(Timer::Patience));
        let answers_to_come = usize::from(self.policy.follows_redirects);
        let sent = core::iter::repeat_n(Sent::Operation(NOBODYS), answers_to_come).collect();
        self.route = Route::Open { session, addr, sent };
        for request in core::mem::take(&mut self.waiting) {
            self.send(cx, request);
        }
    }

    /// Nothing can be done now; the retry timer tries again while operations wait.
    fn rest(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        self.route = Route::None;
        cx.cancel_timer(self.timer(Timer::Patience));
        if !self.waiting.is_empty() {
            cx.set_timer(self.timer(Timer::Retry), self.policy.retry);
        }
    }

    fn be_patient(&self, cx: &mut Cx<'_, SentinelSystem>) {
        cx.set_timer(self.timer(Timer::Patience), self.policy.connect_timeout);
    }

    /// The sentinel or the node that we wait for is silent.
    fn on_impatience(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        match self.route {
            Route::Asking => {
                let addr = self.sentinels.get(self.asked);
                if let Some(session) = addr.and_then(|addr| self.connections.remove(addr)) {
                    cx.close(session);
                }
                self.ask_next(cx);
            }
            Route::Connecting { .. } => {
                self.lose_route(cx);
                self.give_up_dial(cx);
            }
            Route::None | Route::Open { .. } => {}
        }
    }

    /// Leaves the primary: what was sent and not answered may have been executed or not.
    fn lose_route(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        let route = core::mem::replace(&mut self.route, Route::None);
        match route {
            Route::None | Route::Asking => self.route = route,
            Route::Connecting { session, .. } => cx.close(session),
            Route::Open { session, sent, addr } => {
                cx.close(session);
                self.redirected = None;
                self.give_up_sent(cx, sent, addr);
            }
        }
    }

    fn give_up_sent(&mut self, cx: &mut Cx<'_, SentinelSystem>, sent: VecDeque<Sent>, addr: Option<Addr>) {
        for sent in sent {
            let request = match sent {
                Sent::Operation(request) | Sent::Wait(request) => request,
                // Its WAIT follows.
                Sent::Write(_) => continue,
            };
            self.finish(cx, request, Outcome::Unknown(Failure::Disconnected), addr);
        }
    }

    // --- operations ---

    /// Sends an operation to the primary.
    fn send(&mut self, cx: &mut Cx<'_, SentinelSystem>, request: RequestId) {
        let Route::Open { session, sent, .. } = &mut self.route else { return };
        let Some(operation) = self.operations.get_mut(&request) else { return };
        let Some(command) = command_of(&operation.op, self.strings) else { return };
        operation.sent = true;
        cx.send(*session, Message::Command(command));
        match self.policy.wait {
            Some((replicas, timeout)) if operation.op.is_write() => {
                cx.send(*session, Message::Command(Command::Wait { replicas, timeout }));
                sent.extend([Sent::Write(request), Sent::Wait(request)]);
            }
            _ => sent.push_back(Sent::Operation(request)),
        }
    }

    fn on_reply(&mut self, cx: &mut Cx<'_, SentinelSystem>, reply: Reply) {
        let Route::Open { sent, addr, .. } = &mut self.route else { return };
        let addr = *addr;
        match sent.pop_front() {
            Some(Sent::Operation(request)) => {
                self.on_result(cx, request, reply, addr);
                self.follow_redirection(cx);
            }
            Some(Sent::Write(request)) if reply.is_error() => {
                // Not executed; the answer to WAIT says nothing any more.
                if let Some(Sent::Wait(waiting)) = sent.front().copied()
                    && waiting == request
                {
                    sent[0] = Sent::Operation(NOBODYS);
                }
                self.on_result(cx, request, reply, addr);
            }
            Some(Sent::Write(_)) => {}
            Some(Sent::Wait(request)) => {
                let wanted = self.policy.wait.map_or(0, |(replicas, _)| i64::from(replicas));
                let outcome = match reply {
                    Reply::Integer(count) if count >= wanted => Outcome::Done,
                    Reply::Integer(_) => Outcome::Unknown(Failure::Unsafe),
                    _ => Outcome::Unknown(Failure::Other),
                };
                self.finish(cx, request, outcome, addr);
            }
            None => {}
        }
    }

    fn on_result(
        &mut self,
        cx: &mut Cx<'_, SentinelSystem>,
        request: RequestId,
        reply: Reply,
        addr: Option<Addr>,
    ) {
        let Some(operation) = self.operations.get(&request) else { return };
        if reply == Reply::Error(Error::WrongType) && !self.strings && matches!(operation.op, Op::Read { .. })
        {
            self.strings = true;
            self.send(cx, request);
            return;
        }
        if let Reply::Error(Error::Redirect(to)) = reply {
            // Certainly not executed: it goes there with whatever is asked meanwhile.
            self.redirected = Some(to);
            self.waiting.push_back(request);
            if let Some(operation) = self.operations.get_mut(&request) {
                operation.sent = false;
            }
            return;
        }
        // Client libraries take LOADING for an error of the connection; Pika's refusal is not in their READONLY class.
        let leave = match reply {
            Reply::Error(Error::ReadOnly) => self.policy.resolves_on_read_only,
            Reply::Error(Error::Loading) => self.policy.resolves_on_error,
            _ => false,
        };
        let outcome = outcome_of(&operation.op, reply);
        self.finish(cx, request, outcome, addr);
        if leave {
            // The old address is known to be wrong, even to a client that would dial it again.
            self.known = None;
            self.lose_route(cx);
            self.resolve_if_wanted(cx);
        }
    }

    /// Goes where a demoted node sent us, once it owes no answer any more.
    fn follow_redirection(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        let Route::Open { sent, .. } = &self.route else { return };
        if let Some(to) = self.redirected.filter(|_| sent.is_empty()) {
            // Its address is known; the sentinels may not know it yet.
            self.lose_route(cx);
            self.dial(cx, to);
        }
    }

    fn resolve_if_wanted(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        if !self.waiting.is_empty() {
            self.resolve(cx);
        }
    }

    fn finish(
        &mut self,
        cx: &mut Cx<'_, SentinelSystem>,
        request: RequestId,
        outcome: Outcome,
        by: Option<Addr>,
    ) {
        if self.operations.remove(&request).is_some() {
            cx.complete(request, outcome, by);
        }
    }

    /// The earliest deadlines have passed.
    fn on_deadline(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        let now = cx.now();
        self.deadline_set = None;
        let late: Vec<RequestId> = self
            .operations
            .iter()
            .filter(|(_, operation)| operation.deadline <= now)
            .map(|(request, _)| *request)
            .collect();
        let mut was_sent = false;
        for request in late {
            self.waiting.retain(|waiting| *waiting != request);
            let Some(operation) = self.operations.get(&request) else { continue };
            was_sent |= operation.sent && to_primary(&operation.op);
            let outcome = match operation.sent {
                true => Outcome::Unknown(Failure::Timeout),
                false => Outcome::Fail(Failure::NoRoute),
            };
            self.finish(cx, request, outcome, None);
        }
        if was_sent {
            // A connection that does not answer in time is given up, as client libraries do.
            self.lose_route(cx);
            self.resolve_if_wanted(cx);
        }
        self.arm_deadline(cx);
    }

    fn arm_deadline(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        let Some(next) = self.operations.values().map(|operation| operation.deadline).min() else { return };
        if self.deadline_set.is_none_or(|set| next < set) {
            self.deadline_set = Some(next);
            cx.set_timer(self.timer(Timer::Deadline), next.since(cx.now()));
        }
    }

    // --- nodes that an operation names ---

    fn send_direct(
        &mut self,
        cx: &mut Cx<'_, SentinelSystem>,
        request: RequestId,
        node: Addr,
        command: Command,
    ) {
        let kind = if self.sentinels.contains(&node) { Kind::Sentinel } else { Kind::Data };
        let direct = self
            .direct
            .entry(node)
            .or_insert_with(|| Direct { session: cx.open(node, kind), sent: VecDeque::new() });
        direct.sent.push_back(request);
        cx.send(direct.session, Message::Command(command));
        if let Some(operation) = self.operations.get_mut(&request) {
            operation.sent = true;
        }
    }

    fn on_direct_reply(&mut self, cx: &mut Cx<'_, SentinelSystem>, node: Addr, reply: Reply) {
        let Some(request) = self.direct.get_mut(&node).and_then(|direct| direct.sent.pop_front()) else {
            return;
        };
        let Some(operation) = self.operations.get(&request) else { return };
        if let Op::ReadAt { key, .. } = operation.op
            && reply == Reply::Error(Error::WrongType)
        {
            let other = read(key, !self.strings);
            self.strings = !self.strings;
            self.send_direct(cx, request, node, other);
            return;
        }
        let outcome = outcome_of(&operation.op, reply);
        self.finish(cx, request, outcome, Some(node));
    }

    fn on_direct_closed(&mut self, cx: &mut Cx<'_, SentinelSystem>, node: Addr, why: Closed) {
        let Some(direct) = self.direct.remove(&node) else { return };
        let outcome = match why {
            Closed::Refused | Closed::Unresolved => Outcome::Fail(Failure::Unreachable),
            Closed::Reset | Closed::Eof | Closed::Timeout => Outcome::Unknown(Failure::Disconnected),
        };
        for request in direct.sent {
            self.finish(cx, request, outcome.clone(), Some(node));
        }
    }

    // --- sessions ---

    fn route_session(&self) -> Option<SessionId> {
        match &self.route {
            Route::None | Route::Asking => None,
            Route::Connecting { session, .. } | Route::Open { session, .. } => Some(*session),
        }
    }

    fn sentinel_with(&self, session: SessionId) -> Option<Addr> {
        self.connections.iter().find(|(_, open)| **open == session).map(|(addr, _)| *addr)
    }

    fn direct_with(&self, session: SessionId) -> Option<Addr> {
        self.direct.iter().find(|(_, direct)| direct.session == session).map(|(addr, _)| *addr)
    }

    /// A sentinel tells of a switch: the old primary is left at once.
    fn on_switch(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        if matches!(self.route, Route::Open { .. }) {
            self.lose_route(cx);
            self.resolve(cx);
        }
    }
}

impl Node<SentinelSystem> for Client {
    fn start(&mut self, _: &mut Cx<'_, SentinelSystem>, _: &DiskImage<SentinelSystem>) {}

    fn on_open(&mut self, _: &mut Cx<'_, SentinelSystem>, _: SessionId, _: Opened<Kind>) {}

    fn on_message(&mut self, cx: &mut Cx<'_, SentinelSystem>, session: SessionId, message: Message) {
        let on_route = self.route_session() == Some(session);
        match message {
            Message::Reply(reply) if on_route => match self.route {
                Route::Open { .. } => self.on_reply(cx, reply),
                _ => self.on_introduction(cx, reply),
            },
            Message::Reply(reply) => {
                if let Some(addr) = self.sentinel_with(session) {
                    self.on_answer(cx, addr, reply);
                } else if let Some(node) = self.direct_with(session) {
                    self.on_direct_reply(cx, node, reply);
                }
            }
            Message::Push(Push::Published { channel: Channel::Switch, .. }) => self.on_switch(cx),
            Message::Push(_) | Message::Command(_) | Message::Snapshot(_) | Message::Stream { .. } => {}
        }
    }

    fn on_close(&mut self, cx: &mut Cx<'_, SentinelSystem>, session: SessionId, why: Closed) {
        if self.route_session() == Some(session) {
            let dialling = matches!(self.route, Route::Connecting { .. });
            let route = core::mem::replace(&mut self.route, Route::None);
            self.redirected = None;
            if let Route::Open { sent, addr, .. } = route {
                self.give_up_sent(cx, sent, addr);
            }
            match dialling {
                true => self.give_up_dial(cx),
                false => self.resolve_if_wanted(cx),
            }
        } else if let Some(addr) = self.sentinel_with(session) {
            self.connections.remove(&addr);
            if matches!(self.route, Route::Asking) && self.sentinels.get(self.asked) == Some(&addr) {
                self.ask_next(cx);
            }
        } else if let Some(node) = self.direct_with(session) {
            self.on_direct_closed(cx, node, why);
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, SentinelSystem>, timer: super::Timer) {
        match timer {
            super::Timer::Client(_, Timer::Deadline) => self.on_deadline(cx),
            super::Timer::Client(_, Timer::Retry) => self.resolve_if_wanted(cx),
            super::Timer::Client(_, Timer::Patience) => self.on_impatience(cx),
            super::Timer::Data(_) | super::Timer::Tick => {}
        }
    }

    fn on_request(
        &mut self,
        cx: &mut Cx<'_, SentinelSystem>,
        request: RequestId,
        op: Op,
        deadline: Duration,
    ) {
        let deadline = cx.now() + deadline;
        self.strings |= matches!(op, Op::Write { .. } | Op::Cas { .. });
        let direct = match &op {
            Op::ReadAt { node, key } => Some((*node, Some(read(*key, self.strings)))),
            Op::Command { node, words } => Some((*node, words_to_command(words))),
            Op::Read { .. } | Op::Append { .. } | Op::Write { .. } | Op::Cas { .. } => None,
        };
        self.operations.insert(request, Operation { op, deadline, sent: false });
        self.arm_deadline(cx);
        match direct {
            Some((node, Some(command))) => self.send_direct(cx, request, node, command),
            Some((_, None)) => self.finish(cx, request, Outcome::Fail(Failure::Rejected), None),
            None if matches!(self.route, Route::Open { .. }) && self.redirected.is_none() => {
                self.send(cx, request);
            }
            None => {
                self.waiting.push_back(request);
                self.resolve(cx);
            }
        }
    }
}

fn to_primary(op: &Op) -> bool {
    !matches!(op, Op::ReadAt { .. } | Op::Command { .. })
}

fn read(key: Key, strings: bool) -> Command {
    Command::Data(match strings {
        true => Data::Get(key.into()),
        false => Data::Range { key: key.into(), start: 0, stop: -1 },
    })
}

/// The command for an operation on the primary. Registers are written without padding, so that a value can be
/// compared with another client's.
fn command_of(op: &Op, strings: bool) -> Option<Command> {
    let data = match op {
        Op::Read { key } => return Some(read(*key, strings)),
        Op::Append { key, value, bytes } => {
            Data::Push { key: (*key).into(), value: Datum::padded(*value, *bytes), more: Box::new([]) }
        }
        Op::Write { key, value, .. } => {
            Data::Set { key: (*key).into(), value: Datum::number(*value), condition: None }
        }
        Op::Cas { key, from, to } => {
            let test = from.map_or(Test::Absent, |from| Test::Equals(Datum::number(from)));
            let condition = Some(Box::new(SetIf { test, get: true }));
            Data::Set { key: (*key).into(), value: Datum::number(*to), condition }
        }
        Op::ReadAt { .. } | Op::Command { .. } => return None,
    };
    Some(Command::Data(data))
}

/// What a reply means to the operation.
fn outcome_of(op: &Op, reply: Reply) -> Outcome {
    match (op, reply) {
        (_, Reply::Error(error)) => failure_of(op, &error),
        (Op::Command { .. }, reply) => Outcome::Text(alloc::format!("{reply:?}")),
        (Op::Cas { from, .. }, reply @ (Reply::Bulk(_) | Reply::Nil)) => {
            let found = value_of(&reply);
            if found == *from { Outcome::Done } else { Outcome::Mismatch(found) }
        }
        (Op::Read { .. } | Op::ReadAt { .. }, Reply::List(elements)) if elements.is_empty() => {
            Outcome::Value(None)
        }
        (Op::Read { .. } | Op::ReadAt { .. }, Reply::List(elements)) => Outcome::List(elements.values()),
        (Op::Read { .. } | Op::ReadAt { .. }, reply @ (Reply::Bulk(_) | Reply::Nil)) => {
            Outcome::Value(value_of(&reply))
        }
        (Op::Append { .. } | Op::Write { .. }, Reply::Integer(_) | Reply::Ok) => Outcome::Done,
        (_, _) => Outcome::Unknown(Failure::Other),
    }
}

fn value_of(reply: &Reply) -> Option<Value> {
    match reply {
        Reply::Bulk(datum) => datum.value(),
        _ => None,
    }
}

/// Every error reply says that the command was not executed.
fn failure_of(op: &Op, error: &Error) -> Outcome {
    if let Op::Command { .. } = op {
        return Outcome::Text(alloc::format!("{error}"));
    }
    Outcome::Fail(match error {
        Error::ReadOnly | Error::PikaReadOnly | Error::Redirect(_) => Failure::NotPrimary,
        Error::NoReplicas => Failure::Unsafe,
        Error::Loading | Error::PrimaryDown | Error::ClusterDown | Error::SlotNotServed => {
            Failure::Unavailable
        }
        _ => Failure::Rejected,
    })
}

/// An operator's words as a command.
fn words_to_command(words: &str) -> Option<Command> {
    let lower = words.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split_whitespace().collect();
    let addr = |ip: &str, port: &str| Some(Addr::new(ip.parse().ok()?, port.parse().ok()?));
    Some(match parts[..] {
        ["slaveof" | "replicaof", "no", "one"] => Command::ReplicaOf(None),
        ["slaveof" | "replicaof", ip, port] => Command::ReplicaOf(Some(addr(ip, port)?)),
        ["config", "rewrite"] => Command::ConfigRewrite,
        ["client", "pause", millis] => Command::ClientPause(Duration::from_millis(millis.parse().ok()?)),
        ["client", "unpause"] => Command::ClientUnpause,
        ["failover"] => Command::Failover { to: None, force: false, timeout: Duration::ZERO, abort: false },
        ["failover", "timeout", millis] => {
            let timeout = Duration::from_millis(millis.parse().ok()?);
            Command::Failover { to: None, force: false, timeout, abort: false }
        }
        ["failover", "abort"] => {
            Command::Failover { to: None, force: false, timeout: Duration::ZERO, abort: true }
        }
        ["shutdown"] => Command::Shutdown(Default::default()),
        ["info"] => Command::Info,
        ["role"] => Command::Role,
        ["sentinel", ref rest @ ..] => Command::Sentinel(match *rest {
            ["failover", name] => SentinelCommand::Failover { name: name.into(), coordinated: false },
            ["failover", name, "coordinated"] => {
                SentinelCommand::Failover { name: name.into(), coordinated: true }
            }
            ["reset", pattern] => SentinelCommand::Reset(pattern.into()),
            ["remove", name] => SentinelCommand::Remove(name.into()),
            ["ckquorum", name] => SentinelCommand::CheckQuorum(name.into()),
            ["flushconfig"] => SentinelCommand::FlushConfig,
            ["set", name, option, value] => {
                SentinelCommand::Set { name: name.into(), option: option.into(), value: value.into() }
            }
            ["monitor", name, ip, port, quorum] => SentinelCommand::Monitor {
                name: name.into(),
                primary: addr(ip, port)?,
                quorum: quorum.parse().ok()?,
            },
            _ => return None,
        }),
        _ => return None,
    })
}
