//! A client with a routing driver: asks a coordinator where to go, keeps the answer, and follows when it fails.
//!
//! The rules are those of the official Python driver 6.4 (and 5.28 where they differ), as measured against a server
//! that speaks Bolt 5.2: what is fresh, in which order routers are asked, what removes a server from the table, what
//! is tried again. A table is good for 300 s. Each operation is a unit of work of its own: writes are managed
//! transactions (BEGIN, RUN, COMMIT), reads auto-commit.

use super::message::{Answer, Bolt, Code, Message, Query, Table, Why};
use super::state::Address;
use super::{Kind, Memgraph, Timer};
use crate::contract::*;
use crate::graph::{Change, ITEMS, Refusal, Transaction, VALUE, Vertex};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Which driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// 6.4: a name that does not resolve is an error that is tried again.
    V6,
    /// 5.28: it is an error of the program.
    V5,
}

/// Where reads go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// To MAIN, as writes do.
    Main,
    /// To what the table offers for reads.
    Replicas,
}

/// What a server that did not answer before an operation's deadline is to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// A broken one, to be removed from the table, as a driver does when *its* timeout ends first.
    Broken,
    /// Nothing: the program gave up, and the driver learned nothing from it.
    Ignored,
}

/// A bank beside the lists: an element is appended in the same transaction that moves an amount from one account to
/// another. Whoever reads must find accounts that sum up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bank {
    /// How many accounts, at least two.
    pub accounts: u64,
    /// What each begins with.
    pub balance: u64,
}

impl Bank {
    /// Vertices of accounts: beyond those that the workload's keys are.
    const FIRST: u64 = 1 << 40;
    const AMOUNT_MAX: u64 = 10;

    /// The payment that goes with a value: numbers of who pays and who is paid, and how much.
    pub fn transfer(self, value: Value) -> (u64, u64, u64) {
        let from = value % self.accounts;
        let to = (from + 1 + value / self.accounts % (self.accounts - 1)) % self.accounts;
        (from, to, 1 + value % Self::AMOUNT_MAX)
    }

    fn payment(self, value: Value) -> [Change; 3] {
        let (from, to, amount) = self.transfer(value);
        let (from, to) = (Vertex(Self::FIRST + from), Vertex(Self::FIRST + to));
        let open = |vertex| Change::Open { vertex, amount: self.balance };
        [open(from), open(to), Change::Transfer { from, to, amount }]
    }

    fn sums_up(self, accounts: &[(u64, Value)]) -> bool {
        accounts.iter().map(|account| u128::from(account.1)).sum::<u128>()
            == accounts.len() as u128 * u128::from(self.balance)
    }
}

/// Settings of a client.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The coordinator in its URI.
    pub seed: Address,
    /// The driver.
    pub driver: Driver,
    /// Where reads go.
    pub reads: Reads,
    /// Sessions name their database: tables are then kept until they expire. Without, every session asks anew.
    pub database: bool,
    /// What the deadline of an operation says about the server.
    pub silence: Silence,
    /// A table is good for so long.
    pub ttl: Duration,
    /// A connection must open within this time (`connection_timeout`).
    pub connect_timeout: Duration,
    /// A router must answer within this time (`connection_acquisition_timeout`).
    pub answer_timeout: Duration,
    /// Units of work are tried again for so long after their first failure.
    pub retry_time: Duration,
    /// An alert fires when no refresh of the table has succeeded for so long since the first that failed.
    pub alert_after: Duration,
    /// Each append is a payment too, and each read audits the bank.
    pub bank: Option<Bank>,
    /// What observers call the servers, by every name they have.
    pub known_as: BTreeMap<Address, SocketAddrV4>,
}

impl ClientConfig {
    /// The driver's defaults.
    pub fn new(seed: Address) -> Self {
        ClientConfig {
            seed,
            driver: Driver::V6,
            reads: Reads::Main,
            database: true,
            silence: Silence::Broken,
            ttl: Duration::from_secs(300),
            connect_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(60),
            retry_time: Duration::from_secs(30),
            alert_after: Duration::from_secs(15),
            bank: None,
            known_as: BTreeMap::new(),
        }
    }
}

/// First pause before a unit of work is tried again; doubled each time, with 20 % of jitter.
const BACKOFF: Duration = Duration::from_secs(1);

/// Whom a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// A server by the name in a table.
    Named(Address),
    /// A node by its address: operators and final reads.
    Node(SocketAddrV4),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Opening: the dial, then HELLO.
    Opening(For),
    /// A ROUTE is under way.
    Routing,
    /// It works for this operation.
    Working(RequestId),
    /// RESET is under way after a failure.
    Resetting,
    Idle,
}

/// Whom a new connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Table,
    Operation(RequestId),
}

#[derive(Debug)]
struct Connection {
    target: Target,
    usage: Use,
}

/// Where an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waits for a routing table.
    Routing,
    /// Waits for its connection.
    Connecting,
    /// BEGIN is sent.
    Beginning,
    /// RUN is sent.
    Running,
    /// COMMIT is sent: from here on nobody can say that it had no effect.
    Committing,
    /// Will be tried again.
    Pausing,
}

#[derive(Debug)]
struct Operation {
    op: Op,
    phase: Phase,
    connection: Option<SessionId>,
    /// A table was asked for since this session began.
    routed: bool,
    first_failure: Option<LocalTime>,
    pause: Duration,
    /// Why the last attempt failed.
    failure: Failure,
    /// An attempt may have taken effect already, and was tried again all the same.
    doubtful: bool,
}

#[derive(Debug)]
struct Held {
    table: Table,
    expires: LocalTime,
}

/// Asking routers, one after the other, for a table.
#[derive(Debug)]
struct Refresh {
    routers: Vec<Address>,
    connection: Option<SessionId>,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    table: Option<Held>,
    refresh: Option<Refresh>,
    connections: BTreeMap<SessionId, Connection>,
    operations: BTreeMap<RequestId, Operation>,
    /// Decides the order of routers, for the life of this process.
    salt: u64,
    writer: Option<Address>,
    failed_refreshes: u64,
    /// When the first refresh failed of those that failed since the last success.
    failing_since: Option<LocalTime>,
    alerted: bool,
    /// Audits that did not sum up.
    wrong_totals: u64,
}

impl Client {
    /// A client that has not started.
    pub fn new(config: ClientConfig) -> Self {
        Client {
            config,
            table: None,
            refresh: None,
            connections: BTreeMap::new(),
            operations: BTreeMap::new(),
            salt: 0,
            writer: None,
            failed_refreshes: 0,
            failing_since: None,
            alerted: false,
            wrong_totals: 0,
        }
    }

    // --------------------------------------------------------------------------------------------------- operations

    /// Begins a unit of work, or begins it again.
    fn attempt(&mut self, cx: &mut Cx<'_, Memgraph>, request: RequestId) {
        let Some(operation) = self.operations.get(&request) else { return };
        if let Op::ReadAt { node, .. } | Op::Command { node, .. } = &operation.op {
            let node = *node;
            return self.acquire(cx, request, Target::Node(node));
        }
        let writes = self.is_for_main(&operation.op);
        let must_route = !self.config.database && !operation.routed;
        if must_route || !self.is_fresh(cx.now(), writes) {
            return self.wait_for_table(cx, request);
        }
        match self.choose(cx, writes) {
            Some(server) => self.acquire(cx, request, Target::Named(server)),
            None => self.retry(cx, request, Failure::NoRoute),
        }
    }

    fn is_for_main(&self, op: &Op) -> bool {
        op.is_write() || self.config.reads == Reads::Main
    }

    /// A table can be used if it has not expired and has routers and a server of the wanted kind.
    fn is_fresh(&self, now: LocalTime, writes: bool) -> bool {
        self.table.as_ref().is_some_and(|held| {
            let servers = if writes { &held.table.writers } else { &held.table.readers };
            now < held.expires && !held.table.routers.is_empty() && !servers.is_empty()
        })
    }

    fn choose(&self, cx: &mut Cx<'_, Memgraph>, writes: bool) -> Option<Address> {
        let table = &self.table.as_ref()?.table;
        let servers = if writes { &table.writers } else { &table.readers };
        let last = servers.len().checked_sub(1)?;
        servers.get(cx.random().between(0, last as u64) as usize).cloned()
    }

    /// Takes an idle connection, or opens one.
    fn acquire(&mut self, cx: &mut Cx<'_, Memgraph>, request: RequestId, target: Target) {
        let idle = self.connections.iter().find(|(_, c)| c.usage == Use::Idle && c.target == target);
        let idle = idle.map(|(session, _)| *session);
        let session = match idle {
            Some(session) => session,
            None => self.open(cx, target, For::Operation(request)),
        };
        if let Some(operation) = self.operations.get_mut(&request) {
            operation.connection = Some(session);
            operation.phase = Phase::Connecting;
        }
        if idle.is_some() {
            self.begin(cx, session, request);
        }
    }

    fn open(&mut self, cx: &mut Cx<'_, Memgraph>, target: Target, why: For) -> SessionId {
        let session = match &target {
            Target::Named(address) => cx.open(address.endpoint(), Kind::Bolt),
            Target::Node(address) => cx.open(*address, Kind::Bolt),
        };
        self.connections.insert(session, Connection { target, usage: Use::Opening(why) });
        cx.set_timer(Timer::Connection(session), self.config.connect_timeout);
        session
    }

    /// First message of a unit of work on its connection.
    fn begin(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, request: RequestId) {
        let Some(connection) = self.connections.get_mut(&session) else { return };
        let Some(operation) = self.operations.get_mut(&request) else { return };
        connection.usage = Use::Working(request);
        let (phase, bolt) = match &operation.op {
            op if op.is_write() => (Phase::Beginning, Bolt::Begin { read: false }),
            op => (Phase::Running, Bolt::Run(query(op, self.config.bank))),
        };
        operation.phase = phase;
        cx.send(session, Message::Bolt(bolt));
    }

    /// A server answered an operation.
    fn on_progress(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        session: SessionId,
        request: RequestId,
        answer: Answer,
    ) {
        let Some(operation) = self.operations.get_mut(&request) else { return };
        match (operation.phase, answer) {
            (_, Answer::Failure { code, why }) => self.on_failure(cx, session, request, code, why),
            (Phase::Beginning, _) => {
                operation.phase = Phase::Running;
                cx.send(session, Message::Bolt(Bolt::Run(query(&operation.op, self.config.bank))));
            }
            (Phase::Running, Answer::Success { .. }) if operation.op.is_write() => {
                operation.phase = Phase::Committing;
                cx.send(session, Message::Bolt(Bolt::Commit));
            }
            (Phase::Running, Answer::Value(found)) if operation.op.is_write() => {
                self.finish(cx, request, Outcome::Mismatch(found));
                self.reset(cx, session);
            }
            (Phase::Committing, _) => self.finish(cx, request, Outcome::Done),
            (Phase::Running, Answer::Value(value)) => self.finish(cx, request, Outcome::Value(value)),
            (Phase::Running, Answer::List(values)) => self.finish(cx, request, Outcome::List(values)),
            (Phase::Running, Answer::Audit { items, accounts }) => {
                self.audit(cx, &accounts);
                let numbered =
                    |(vertex, balance): &(u64, Value)| (vertex.saturating_sub(Bank::FIRST), *balance);
                let accounts = accounts.iter().map(numbered).collect();
                self.finish(cx, request, Outcome::Audit { list: items, accounts });
            }
            (Phase::Running, Answer::Text(text)) => self.finish(cx, request, Outcome::Text(text)),
            (Phase::Running | Phase::Routing | Phase::Connecting | Phase::Pausing, _) => {}
        }
    }

    fn audit(&mut self, cx: &mut Cx<'_, Memgraph>, accounts: &[(u64, Value)]) {
        if self.config.bank.is_some_and(|bank| !bank.sums_up(accounts)) {
            self.wrong_totals += 1;
            cx.note(|| alloc::format!("memgraph: wrong total in {accounts:?}"));
            cx.observe(Observation::Gauge { name: "wrong_totals", value: self.wrong_totals });
        }
    }

    /// What the class of a failure means to the driver.
    fn on_failure(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        session: SessionId,
        request: RequestId,
        code: Code,
        why: Why,
    ) {
        let target = self.connections.get(&session).map(|connection| connection.target.clone());
        let committing =
            self.operations.get(&request).is_some_and(|operation| operation.phase == Phase::Committing);
        self.reset(cx, session);
        match code {
            Code::Client => {
                let outcome = outcome_of(why);
                self.finish(cx, request, outcome);
            }
            Code::Transient => {
                if let Some(operation) = self.operations.get_mut(&request) {
                    operation.doubtful |= committing && why == Why::SyncReplica;
                }
                self.retry(cx, request, failure_of(why));
            }
            Code::NotALeader => {
                if let (Some(held), Some(Target::Named(address))) = (&mut self.table, target) {
                    held.table.writers.retain(|writer| *writer != address);
                }
                self.retry(cx, request, failure_of(why));
            }
        }
    }

    /// The unit of work runs again, after a pause, unless it was tried for long enough.
    fn retry(&mut self, cx: &mut Cx<'_, Memgraph>, request: RequestId, failure: Failure) {
        let now = cx.now();
        let Some(operation) = self.operations.get_mut(&request) else { return };
        let first = *operation.first_failure.get_or_insert(now);
        operation.failure = failure;
        operation.connection = None;
        operation.phase = Phase::Pausing;
        if now.since(first) >= self.config.retry_time {
            return self.give_up(cx, request, failure);
        }
        let pause = operation.pause;
        operation.pause = pause * 2;
        let jittered = cx.random().duration(pause * 4 / 5, pause * 6 / 5);
        cx.set_timer(Timer::Backoff(request), jittered);
    }

    fn give_up(&mut self, cx: &mut Cx<'_, Memgraph>, request: RequestId, failure: Failure) {
        let doubtful = self.operations.get(&request).is_some_and(|operation| operation.doubtful);
        let outcome = if doubtful { Outcome::Unknown(failure) } else { Outcome::Fail(failure) };
        self.finish(cx, request, outcome);
    }

    fn finish(&mut self, cx: &mut Cx<'_, Memgraph>, request: RequestId, outcome: Outcome) {
        let Some(operation) = self.operations.remove(&request) else { return };
        let connection = operation.connection.and_then(|session| self.connections.get_mut(&session));
        let mut by = None;
        if let Some(connection) = connection {
            by = match &connection.target {
                Target::Named(address) => self.config.known_as.get(address).copied(),
                Target::Node(address) => Some(*address),
            };
            if connection.usage == Use::Working(request) {
                connection.usage = Use::Idle;
            }
        }
        cx.cancel_timer(Timer::Deadline(request));
        cx.cancel_timer(Timer::Backoff(request));
        cx.complete(request, outcome, by);
    }

    fn reset(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId) {
        if let Some(connection) = self.connections.get_mut(&session) {
            connection.usage = Use::Resetting;
            cx.send(session, Message::Bolt(Bolt::Reset));
        }
    }

    /// An operation's time is over. Before COMMIT was sent, closing the connection rolls it back for certain.
    fn on_deadline(&mut self, cx: &mut Cx<'_, Memgraph>, request: RequestId) {
        let Some(operation) = self.operations.get(&request) else { return };
        let (phase, connection) = (operation.phase, operation.connection);
        let waits =
            matches!(phase, Phase::Connecting | Phase::Beginning | Phase::Running | Phase::Committing);
        let failure = if waits { Failure::Timeout } else { operation.failure };
        if let Some(session) = connection.filter(|_| waits) {
            let dropped = self.drop_connection(cx, session);
            if let (Some(Target::Named(address)), Silence::Broken) = (dropped, self.config.silence) {
                self.deactivate(&address);
            }
        }
        if phase == Phase::Committing {
            self.finish(cx, request, Outcome::Unknown(failure));
        } else {
            self.give_up(cx, request, failure);
        }
    }

    fn drop_connection(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId) -> Option<Target> {
        let connection = self.connections.remove(&session)?;
        cx.cancel_timer(Timer::Connection(session));
        cx.close(session);
        Some(connection.target)
    }

    // ------------------------------------------------------------------------------------------------ routing table

    /// A server that cannot be reached leaves the table, whatever it was there for.
    fn deactivate(&mut self, address: &Address) {
        if let Some(held) = &mut self.table {
            held.table.routers.retain(|server| server != address);
            held.table.readers.retain(|server| server != address);
            held.table.writers.retain(|server| server != address);
        }
    }

    fn wait_for_table(&mut self, cx: &mut Cx<'_, Memgraph>, request: RequestId) {
        if let Some(operation) = self.operations.get_mut(&request) {
            operation.phase = Phase::Routing;
            operation.routed = true;
        }
        if self.refresh.is_none() {
            // Taken from the end.
            let mut routers = self.routers_in_order();
            routers.reverse();
            self.refresh = Some(Refresh { routers, connection: None });
            self.ask_next_router(cx);
        }
    }

    /// The routers of the table in this process's order, and the seed last; but first if the table has no writer.
    fn routers_in_order(&self) -> Vec<Address> {
        let seed = &self.config.seed;
        let table = self.table.as_ref().map(|held| &held.table);
        let mut routers: Vec<Address> = table.map_or(Vec::new(), |table| table.routers.clone());
        routers.retain(|router| router != seed);
        routers.sort_by_key(|router| self.place_of(router));
        routers.dedup();
        let seed_first = table.is_none_or(|table| table.writers.is_empty());
        routers.insert(if seed_first { 0 } else { routers.len() }, seed.clone());
        routers
    }

    /// Where an address stands in this process's order: drivers keep routers in a hash set.
    fn place_of(&self, address: &Address) -> u64 {
        let bytes = address.host.bytes().chain(address.port.to_le_bytes());
        bytes.fold(self.salt, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    }

    fn ask_next_router(&mut self, cx: &mut Cx<'_, Memgraph>) {
        let Some(refresh) = &mut self.refresh else { return };
        refresh.connection = None;
        let Some(router) = refresh.routers.pop() else { return self.refresh_failed(cx) };
        let target = Target::Named(router);
        let idle = self.connections.iter().find(|(_, c)| c.usage == Use::Idle && c.target == target);
        let session = match idle.map(|(session, _)| *session) {
            Some(session) => {
                self.ask_table(cx, session);
                session
            }
            None => self.open(cx, target, For::Table),
        };
        if let Some(refresh) = &mut self.refresh {
            refresh.connection = Some(session);
        }
    }

    fn ask_table(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId) {
        if let Some(connection) = self.connections.get_mut(&session) {
            connection.usage = Use::Routing;
            cx.set_timer(Timer::Connection(session), self.config.answer_timeout);
            cx.send(session, Message::Bolt(Bolt::Route));
        }
    }

    fn on_table(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, answer: Answer) {
        cx.cancel_timer(Timer::Connection(session));
        match answer {
            // Without routers or readers a table is refused, even if all we want is to write.
            Answer::Table(table) if !table.routers.is_empty() && !table.readers.is_empty() => {
                self.set_idle(session);
                self.accept_table(cx, table);
            }
            Answer::Failure { .. } => {
                self.reset(cx, session);
                self.ask_next_router(cx);
            }
            _ => {
                self.set_idle(session);
                self.ask_next_router(cx);
            }
        }
    }

    fn set_idle(&mut self, session: SessionId) {
        if let Some(connection) = self.connections.get_mut(&session) {
            connection.usage = Use::Idle;
        }
    }

    fn accept_table(&mut self, cx: &mut Cx<'_, Memgraph>, table: Table) {
        if let Some(writer) = table.writers.first()
            && self.writer.as_ref() != Some(writer)
        {
            if self.writer.is_some() {
                cx.mark(Mark::Routed, self.config.known_as.get(writer).copied());
            }
            self.writer = Some(writer.clone());
        }
        self.table = Some(Held { table, expires: cx.now() + self.config.ttl });
        self.refresh = None;
        (self.failing_since, self.alerted) = (None, false);
        self.for_all_waiting(cx, |client, cx, request| {
            let operation = client.operations.get(&request);
            let writes = operation.is_some_and(|operation| client.is_for_main(&operation.op));
            // Fresh or not by now: the unit of work takes what the table has.
            match client.choose(cx, writes) {
                Some(server) => client.acquire(cx, request, Target::Named(server)),
                None => client.retry(cx, request, Failure::NoRoute),
            }
        });
    }

    /// No router gave a table.
    fn refresh_failed(&mut self, cx: &mut Cx<'_, Memgraph>) {
        self.end_failed_refresh(cx);
        self.for_all_waiting(cx, |client, cx, request| client.retry(cx, request, Failure::NoRoute));
    }

    /// The whole operation fails with the refresh, and is not tried again.
    fn refresh_aborted(&mut self, cx: &mut Cx<'_, Memgraph>) {
        self.end_failed_refresh(cx);
        self.for_all_waiting(cx, |client, cx, request| client.give_up(cx, request, Failure::NoRoute));
    }

    fn end_failed_refresh(&mut self, cx: &mut Cx<'_, Memgraph>) {
        self.refresh = None;
        self.failed_refreshes += 1;
        let value = self.failed_refreshes;
        cx.observe(Observation::Gauge { name: "routing_refreshes_failed", value });
        let failing = cx.now().since(*self.failing_since.get_or_insert(cx.now()));
        if failing >= self.config.alert_after && !self.alerted {
            self.alerted = true;
            cx.observe(Observation::Gauge { name: "routing_alert_ms", value: failing.as_millis() as u64 });
        }
    }

    fn for_all_waiting(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        act: impl Fn(&mut Self, &mut Cx<'_, Memgraph>, RequestId),
    ) {
        let waiting = self.operations.iter().filter(|(_, operation)| operation.phase == Phase::Routing);
        let waiting: Vec<RequestId> = waiting.map(|(request, _)| *request).collect();
        for request in waiting {
            act(self, cx, request);
        }
    }

    // --------------------------------------------------------------------------------------------------- connections

    /// A connection ended, or did not open in time.
    fn lose(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, why: Closed) {
        let Some(connection) = self.connections.remove(&session) else { return };
        cx.cancel_timer(Timer::Connection(session));
        let failure = match why {
            Closed::Refused | Closed::Timeout => Failure::Unreachable,
            Closed::Unresolved => Failure::NoRoute,
            Closed::Reset | Closed::Eof => Failure::Disconnected,
        };
        match connection.usage {
            Use::Opening(For::Table) | Use::Routing => self.lose_router(cx, &connection.target, why),
            Use::Opening(For::Operation(request)) | Use::Working(request) => {
                if let Target::Named(address) = &connection.target {
                    self.deactivate(address);
                }
                self.lose_work(cx, request, why, failure);
            }
            Use::Resetting | Use::Idle => {}
        }
    }

    fn lose_router(&mut self, cx: &mut Cx<'_, Memgraph>, target: &Target, why: Closed) {
        match (why, self.config.driver) {
            // A name that does not resolve ends the refresh; the name stays in the table.
            (Closed::Unresolved, Driver::V6) => self.refresh_failed(cx),
            (Closed::Unresolved, Driver::V5) => self.refresh_aborted(cx),
            _ => {
                if let Target::Named(address) = target {
                    self.deactivate(address);
                }
                self.ask_next_router(cx);
            }
        }
    }

    fn lose_work(&mut self, cx: &mut Cx<'_, Memgraph>, request: RequestId, why: Closed, failure: Failure) {
        let Some(operation) = self.operations.get(&request) else { return };
        match (operation.phase, why, self.config.driver) {
            // The driver does not try again what it may have committed.
            (Phase::Committing, ..) => self.finish(cx, request, Outcome::Unknown(failure)),
            (_, Closed::Unresolved, Driver::V5) => self.give_up(cx, request, failure),
            // A connection that does not open costs no pause: the next server of the table is tried at once.
            (Phase::Connecting, ..) => self.attempt_elsewhere(cx, request, failure),
            _ => self.retry(cx, request, failure),
        }
    }

    fn attempt_elsewhere(&mut self, cx: &mut Cx<'_, Memgraph>, request: RequestId, failure: Failure) {
        let op = self.operations.get(&request).map(|operation| &operation.op);
        let routed = op.filter(|op| !matches!(op, Op::ReadAt { .. } | Op::Command { .. }));
        let writes = routed.map(|op| self.is_for_main(op));
        match writes.and_then(|writes| self.choose(cx, writes)) {
            Some(server) => self.acquire(cx, request, Target::Named(server)),
            None => self.retry(cx, request, failure),
        }
    }

    /// A dial, or a router, took too long.
    fn on_connection_timeout(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId) {
        let routing = self.connections.get(&session).is_some_and(|c| c.usage == Use::Routing);
        cx.close(session);
        if routing {
            // It accepted us and says nothing: the driver waits as long as it may, and then gives up altogether.
            self.connections.remove(&session);
            self.refresh_aborted(cx);
        } else {
            self.lose(cx, session, Closed::Timeout);
        }
    }
}

impl Node<Memgraph> for Client {
    fn start(&mut self, cx: &mut Cx<'_, Memgraph>, _: &DiskImage<Memgraph>) {
        self.salt = cx.random().between(1, u64::MAX);
        cx.observe(Observation::Gauge { name: "routing_refreshes_failed", value: 0 });
        if self.config.bank.is_some() {
            cx.observe(Observation::Gauge { name: "wrong_totals", value: 0 });
        }
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, _: Opened<Kind>) {
        if self.connections.contains_key(&session) {
            cx.send(session, Message::Bolt(Bolt::Hello));
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, message: Message) {
        let Message::Answer(answer) = message else { return };
        let Some(usage) = self.connections.get(&session).map(|connection| connection.usage) else { return };
        match usage {
            Use::Opening(For::Table) => self.ask_table(cx, session),
            Use::Opening(For::Operation(request)) => {
                cx.cancel_timer(Timer::Connection(session));
                self.set_idle(session);
                self.begin(cx, session, request);
            }
            Use::Routing => self.on_table(cx, session, answer),
            Use::Working(request) => self.on_progress(cx, session, request, answer),
            Use::Resetting => self.set_idle(session),
            Use::Idle => {}
        }
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, why: Closed) {
        self.lose(cx, session, why);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Memgraph>, timer: Timer) {
        match timer {
            Timer::Deadline(request) => self.on_deadline(cx, request),
            Timer::Backoff(request) => self.attempt(cx, request),
            Timer::Connection(session) => self.on_connection_timeout(cx, session),
            _ => {}
        }
    }

    fn on_request(&mut self, cx: &mut Cx<'_, Memgraph>, request: RequestId, op: Op, deadline: Duration) {
        let operation = Operation {
            op,
            phase: Phase::Routing,
            connection: None,
            routed: false,
            first_failure: None,
            pause: BACKOFF,
            failure: Failure::NoRoute,
            doubtful: false,
        };
        self.operations.insert(request, operation);
        cx.set_timer(Timer::Deadline(request), deadline);
        self.attempt(cx, request);
    }
}

/// The query of an operation.
fn query(op: &Op, bank: Option<Bank>) -> Query {
    let change = |change| Query::Change(Transaction::of(change));
    match op {
        Op::Read { key } | Op::ReadAt { key, .. } if bank.is_some() => Query::Audit((*key).into()),
        Op::Read { key } | Op::ReadAt { key, .. } => Query::Read((*key).into()),
        Op::Append { key, value, bytes } => {
            let append =
                Change::Append { vertex: (*key).into(), property: ITEMS, value: *value, bytes: *bytes };
            let payment = bank.map(|bank| bank.payment(*value)).into_iter().flatten();
            Query::Change(Transaction { changes: payment.chain([append]).collect() })
        }
        Op::Write { key, value, bytes } => {
            change(Change::Set { vertex: (*key).into(), property: VALUE, value: *value, bytes: *bytes })
        }
        Op::Cas { key, from, to } => {
            change(Change::Cas { vertex: (*key).into(), property: VALUE, from: *from, to: *to })
        }
        Op::Command { words, .. } => Query::Admin(words.clone()),
    }
}

fn failure_of(why: Why) -> Failure {
    match why {
        Why::WriteOnReplica | Why::WritesForbidden | Why::NotMainAnymore => Failure::NotPrimary,
        Why::SyncReplica | Why::StrictReplica => Failure::Unsafe,
        Why::Refused(_) => Failure::Rejected,
        Why::WrongServer => Failure::NoRoute,
        Why::Administration => Failure::Other,
    }
}

/// What a final failure says about the operation. A SYNC replica that failed to confirm means that it *is* committed
/// on MAIN: not acknowledged, and not without effect.
fn outcome_of(why: Why) -> Outcome {
    match why {
        Why::SyncReplica => Outcome::Unknown(Failure::Unsafe),
        Why::Refused(Refusal::Mismatch(found)) => Outcome::Mismatch(found),
        _ => Outcome::Fail(failure_of(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payments_are_between_two_accounts_and_keep_the_total() {
        let bank = Bank { accounts: 5, balance: 1_000 };
        let mut graph = crate::graph::Graph::new();
        for value in 0..200 {
            let [.., transfer] = bank.payment(value);
            assert!(matches!(transfer, Change::Transfer { from, to, .. } if from != to), "{transfer:?}");
            graph.apply(&Transaction { changes: bank.payment(value).to_vec() }).unwrap();
        }
        let mut accounts: Vec<(u64, Value)> =
            graph.accounts().map(|(vertex, balance)| (vertex.0, balance)).collect();
        assert!(bank.sums_up(&accounts));
        accounts[0].1 -= 1;
        assert!(!bank.sums_up(&accounts), "money is lost");
    }
}
