//! A small store on Raft: a system of its own, and the example of how Raft is embedded.
//!
//! Three to five servers replicate a graph; clients ask whichever server they believe to lead and follow its hints.
//! Writes are proposals, reads are confirmed by a quorum (thesis §6.4), so the store is linearizable. A client never
//! repeats a write that it sent: without an answer its outcome is unknown (thesis §6.3 is the alternative).

use super::quirks::Quirks;
use super::{Config, Embed, Event, Member, Raft};
use crate::contract::*;
use crate::graph::{Change, Content, Graph, ITEMS, Refusal, Transaction, VALUE, Vertex};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The system `raft`.
#[derive(Debug)]
pub struct Service;

/// How Raft is embedded in it.
#[derive(Debug)]
pub struct Embedding;

/// A message of the store.
#[derive(Clone, Debug, PartialEq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Message {
    /// Between servers.
    Raft(super::Message<Arc<Transaction>, Graph>),
    /// A client asks.
    Request {
        /// Comes back in the reply.
        id: u64,
        /// What for.
        request: Request,
    },
    /// A server answers.
    Reply {
        /// Of the request.
        id: u64,
        /// The answer.
        reply: Reply,
    },
}

/// What clients ask for.
#[derive(Clone, Debug, PartialEq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Request {
    /// Change the graph.
    Change(Transaction),
    /// Read a vertex, linearizably.
    Read(Vertex),
    /// Read a vertex of this server's own graph, as it is.
    Peek(Vertex),
    /// Write a snapshot of the state machine.
    Snapshot,
    /// Hand leadership to somebody else.
    Transfer,
    /// Change the group to these members.
    Members(Vec<Member>),
}

/// What servers answer.
#[derive(Clone, Debug, PartialEq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Reply {
    /// Done.
    Done,
    /// The graph refused it; it changed nothing.
    Refused(Refusal),
    /// A register; `None`: no such key.
    Value(Option<Value>),
    /// A list.
    List(Arc<[Value]>),
    /// We do not lead; this one may.
    NotLeader(Option<Member>),
    /// Nobody knows whether it will take effect.
    Ambiguous,
}

/// The kinds of session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Between servers.
    Peer,
    /// From a client.
    Client,
}

/// The timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Raft's.
    Raft(super::Timer),
    /// An operation's time is over.
    Deadline(RequestId),
    /// Try again what found no leader.
    Retry,
}

type Record = super::Record<Arc<Transaction>, Graph>;

impl System for Service {
    const NAME: &'static str = "raft";
    type Message = Message;
    type Kind = Kind;
    type Timer = Timer;
    type Record = Record;

    fn wire_size(message: &Message) -> usize {
        match message {
            Message::Raft(m) => m.wire_size(|transaction| transaction.size(), |graph| graph.size() as usize),
            Message::Request { request: Request::Change(transaction), .. } => 9 + transaction.size(),
            Message::Request { .. } => 17,
            Message::Reply { reply: Reply::List(values), .. } => 13 + 8 * values.len(),
            Message::Reply { .. } => 18,
        }
    }
}

impl Embed for Embedding {
    type System = Service;
    type Command = Arc<Transaction>;
    type State = Graph;
    const KIND: Kind = Kind::Peer;

    fn message(message: super::Message<Arc<Transaction>, Graph>) -> Message {
        Message::Raft(message)
    }
    fn timer(timer: super::Timer) -> Timer {
        Timer::Raft(timer)
    }
    fn record(record: Record) -> Record {
        record
    }
    fn unwrap(record: &Record) -> Option<&Record> {
        Some(record)
    }
}

/// Settings of a server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Raft's own.
    pub raft: Config,
    /// Who we are.
    pub me: Member,
    /// The group at the beginning.
    pub founders: Vec<Member>,
    /// Where members listen for members.
    pub peers: BTreeMap<Member, SocketAddrV4>,
    /// Where members listen for clients.
    pub clients: BTreeMap<Member, SocketAddrV4>,
    /// Take a snapshot whenever the log has grown by this many entries; `None`: never.
    pub snapshot_every: Option<u64>,
    /// Planted bugs.
    pub quirks: Quirks,
}

/// A server.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    raft: Raft<Embedding>,
    graph: Graph,
    /// Outcome of the command applied last.
    applied: Result<(), Refusal>,
    /// Who waits for which ticket.
    waiting: BTreeMap<u64, Waiting>,
    next_ticket: u64,
    /// As announced.
    role: Option<Role>,
    writable: Option<bool>,
}

#[derive(Debug)]
struct Waiting {
    session: SessionId,
    id: u64,
    /// For reads.
    vertex: Option<Vertex>,
}

impl Server {
    /// A server that has not started.
    pub fn new(config: ServerConfig) -> Self {
        let addresses = config.peers.iter().map(|(member, addr)| (*member, Endpoint::Addr(*addr))).collect();
        Server {
            raft: Raft::new(config.raft.clone(), config.me, config.founders.clone(), addresses),
            config,
            graph: Graph::new(),
            applied: Ok(()),
            waiting: BTreeMap::new(),
            next_ticket: 0,
            role: None,
            writable: None,
        }
    }

    /// Its part in the group, for tests and tools.
    pub fn raft(&self) -> &Raft<Embedding> {
        &self.raft
    }

    /// Its graph, for tests and tools.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    fn on_request(&mut self, cx: &mut Cx<'_, Service>, session: SessionId, id: u64, request: Request) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let mut waiting = Waiting { session, id, vertex: None };
        let is_change = matches!(request, Request::Change(_));
        let accepted = match request {
            Request::Change(transaction) => self.raft.propose(cx, ticket, Arc::new(transaction)).map(|_| ()),
            Request::Read(vertex) => {
                waiting.vertex = Some(vertex);
                self.raft.read(cx, ticket)
            }
            Request::Members(members) => self.raft.change_members(cx, ticket, members).map(|_| ()),
            Request::Peek(vertex) => return self.reply(cx, &waiting, self.look(vertex)),
            Request::Snapshot => {
                self.raft.take_snapshot(cx, self.graph.clone());
                return self.reply(cx, &waiting, Reply::Done);
            }
            Request::Transfer => {
                let reply = match self.raft.transfer(cx) {
                    Ok(_) => Reply::Done,
                    Err(refusal) => Reply::NotLeader(refusal.leader),
                };
                return self.reply(cx, &waiting, reply);
            }
        };
        match accepted {
            Ok(()) if is_change && self.config.quirks.answers_early() => {
                self.reply(cx, &waiting, Reply::Done)
            }
            Ok(()) => {
                self.waiting.insert(ticket, waiting);
            }
            Err(refusal) => self.reply(cx, &waiting, Reply::NotLeader(refusal.leader)),
        }
    }

    fn look(&self, vertex: Vertex) -> Reply {
        match (self.graph.content(vertex, ITEMS), self.graph.value(vertex, VALUE)) {
            (Some(Content::Many(values)), _) => Reply::List(Arc::from(values.as_slice())),
            (_, value) => Reply::Value(value),
        }
    }

    fn reply(&self, cx: &mut Cx<'_, Service>, to: &Waiting, reply: Reply) {
        cx.send(to.session, Message::Reply { id: to.id, reply });
    }

    /// Acts on what happened in Raft.
    fn after_raft(&mut self, cx: &mut Cx<'_, Service>) {
        while let Some(event) = self.raft.next_event() {
            match event {
                Event::Apply { command, .. } => self.applied = self.graph.apply(&command),
                Event::Restore { state, .. } => self.graph = state,
                Event::Committed { ticket } => {
                    let reply = self.applied.map_or_else(Reply::Refused, |()| Reply::Done);
                    self.answer(cx, ticket, reply);
                    // A later answer without a command of its own (a change of members) is no refusal.
                    self.applied = Ok(());
                }
                Event::Readable { ticket } => {
                    let vertex = self.waiting.get(&ticket).and_then(|waiting| waiting.vertex);
                    let reply = vertex.map_or(Reply::Done, |vertex| self.look(vertex));
                    self.answer(cx, ticket, reply);
                }
                Event::Ambiguous { ticket } => self.answer(cx, ticket, Reply::Ambiguous),
                Event::Suspecting { leader } => {
                    let about = leader.and_then(|leader| self.config.clients.get(&leader).copied());
                    cx.mark(Mark::Suspected, about);
                    self.announce(cx, Role::Candidate);
                }
                Event::Standing { .. } => {
                    cx.mark(Mark::Declared, None);
                    self.announce(cx, Role::Candidate);
                }
                Event::Elected { .. } => {
                    cx.mark(Mark::Elected, self.address());
                    self.announce(cx, Role::Primary);
                }
                Event::Leading { .. } => {
                    cx.mark(Mark::Promoted, self.address());
                    self.announce_writable(cx, true);
                }
                Event::Following { .. } => self.announce(cx, Role::Replica),
            }
        }
        if self.config.snapshot_every.is_some_and(|every| self.raft.entries_since_snapshot() >= every) {
            self.raft.take_snapshot(cx, self.graph.clone());
        }
    }

    fn answer(&mut self, cx: &mut Cx<'_, Service>, ticket: u64, reply: Reply) {
        if let Some(waiting) = self.waiting.remove(&ticket) {
            self.reply(cx, &waiting, reply);
        }
    }

    fn address(&self) -> Option<SocketAddrV4> {
        self.config.clients.get(&self.config.me).copied()
    }

    fn announce(&mut self, cx: &mut Cx<'_, Service>, role: Role) {
        if role != Role::Primary {
            self.announce_writable(cx, false);
        }
        if self.role.replace(role) != Some(role) {
            cx.observe(Observation::Role(role));
        }
        cx.observe(Observation::Epoch(self.raft.term().0));
    }

    fn announce_writable(&mut self, cx: &mut Cx<'_, Service>, writable: bool) {
        if self.writable.replace(writable) != Some(writable) {
            cx.observe(Observation::Writable(writable));
        }
    }
}

impl Node<Service> for Server {
    fn start(&mut self, cx: &mut Cx<'_, Service>, disk: &DiskImage<Service>) {
        self.raft.start(cx, disk);
        self.after_raft(cx);
        self.announce(cx, Role::Replica);
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Service>, session: SessionId, _: Opened<Kind>) {
        self.raft.on_open(cx, session);
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Service>, session: SessionId, message: Message) {
        match message {
            Message::Raft(message) => self.raft.on_message(cx, session, message),
            Message::Request { id, request } => self.on_request(cx, session, id, request),
            Message::Reply { .. } => {}
        }
        self.after_raft(cx);
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Service>, session: SessionId, _: Closed) {
        self.raft.on_close(cx, session);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Service>, timer: Timer) {
        if let Timer::Raft(timer) = timer {
            self.raft.on_timer(cx, timer);
            self.after_raft(cx);
        }
    }

    fn on_synced(&mut self, cx: &mut Cx<'_, Service>, token: Token, result: Result<(), DiskError>) {
        self.raft.on_synced(cx, token, result);
        self.after_raft(cx);
    }

    fn inspect(&self) -> Vec<Inspection> {
        let role = if self.raft.is_leader() { Role::Primary } else { Role::Replica };
        let (epoch, state) = (self.raft.term().0, self.graph.elements());
        alloc::vec![Inspection { shard: Shard(0), role, epoch, state }]
    }
}

/// A client of the store.
#[derive(Debug)]
pub struct Client {
    servers: Vec<(Member, SocketAddrV4)>,
    /// Index of the server that we believe to lead.
    guess: usize,
    sessions: BTreeMap<SocketAddrV4, Session>,
    open: BTreeMap<RequestId, Pending>,
    /// Pause before another server is tried when nobody leads.
    retry_after: Duration,
    /// The pause has begun.
    retrying: bool,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    up: bool,
}

/// An operation on its way.
#[derive(Debug)]
struct Pending {
    request: Request,
    /// The server it was sent to; `None`: not sent, or certainly without effect there.
    sent: Option<SocketAddrV4>,
    /// It is for this server alone.
    only: Option<SocketAddrV4>,
    /// It waits for a pause to end.
    paused: bool,
}

impl Client {
    /// A client of these servers.
    pub fn new(servers: Vec<(Member, SocketAddrV4)>) -> Self {
        Client {
            servers,
            guess: 0,
            sessions: BTreeMap::new(),
            open: BTreeMap::new(),
            retry_after: Duration::from_millis(50),
            retrying: false,
        }
    }

    /// Sends an operation to its server, or dials first.
    fn attempt(&mut self, cx: &mut Cx<'_, Service>, request: RequestId) {
        let guess = self.servers[self.guess].1;
        let Some(pending) = self.open.get_mut(&request) else { return };
        let server = pending.only.unwrap_or(guess);
        pending.paused = false;
        match self.sessions.get(&server) {
            Some(session) if session.up => {
                pending.sent = Some(server);
                cx.send(session.id, Message::Request { id: request.0, request: pending.request.clone() });
            }
            Some(_) => {}
            None => {
                let id = cx.open(server, Kind::Client);
                self.sessions.insert(server, Session { id, up: false });
            }
        }
    }

    /// Tries again soon, elsewhere if there was no hint.
    fn pause(&mut self, cx: &mut Cx<'_, Service>, request: RequestId) {
        if let Some(pending) = self.open.get_mut(&request) {
            pending.sent = None;
            pending.paused = true;
            // Setting it again would move it: under load it would never come.
            if !self.retrying {
                self.retrying = true;
                cx.set_timer(Timer::Retry, self.retry_after);
            }
        }
    }

    fn suspect(&mut self, server: SocketAddrV4) {
        if self.servers[self.guess].1 == server {
            self.guess = (self.guess + 1) % self.servers.len();
        }
    }

    fn on_reply(&mut self, cx: &mut Cx<'_, Service>, server: SocketAddrV4, request: RequestId, reply: Reply) {
        let outcome = match reply {
            Reply::Done => Outcome::Done,
            Reply::Refused(Refusal::Mismatch(found)) => Outcome::Mismatch(found),
            Reply::Refused(_) => Outcome::Fail(Failure::Rejected),
            Reply::Value(value) => Outcome::Value(value),
            Reply::List(values) => Outcome::List(values),
            Reply::NotLeader(leader) => return self.redirect(cx, server, request, leader),
            Reply::Ambiguous => Outcome::Unknown(Failure::Unavailable),
        };
        self.finish(cx, request, outcome, Some(server));
    }

    fn redirect(
        &mut self,
        cx: &mut Cx<'_, Service>,
        server: SocketAddrV4,
        request: RequestId,
        leader: Option<Member>,
    ) {
        let hinted = self.servers.iter().position(|(member, _)| Some(*member) == leader);
        match hinted {
            Some(at) if self.servers[at].1 != server => {
                self.guess = at;
                if let Some(pending) = self.open.get_mut(&request) {
                    pending.sent = None;
                }
                self.attempt(cx, request);
            }
            _ => {
                self.suspect(server);
                self.pause(cx, request);
            }
        }
    }

    fn finish(
        &mut self,
        cx: &mut Cx<'_, Service>,
        request: RequestId,
        outcome: Outcome,
        by: Option<SocketAddrV4>,
    ) {
        if self.open.remove(&request).is_some() {
            cx.cancel_timer(Timer::Deadline(request));
            cx.complete(request, outcome, by);
        }
    }

    /// A session ended: what was sent on it may have taken effect; reads and unsent writes go elsewhere.
    fn lose(&mut self, cx: &mut Cx<'_, Service>, server: SocketAddrV4, why: Closed) {
        self.sessions.remove(&server);
        self.suspect(server);
        let touched =
            |pending: &Pending| pending.sent == Some(server) || pending.sent.is_none() && !pending.paused;
        let touched: Vec<RequestId> =
            self.open.iter().filter(|(_, pending)| touched(pending)).map(|(request, _)| *request).collect();
        for request in touched {
            let Some(pending) = self.open.get(&request) else { continue };
            let reads = matches!(pending.request, Request::Read(_) | Request::Peek(_));
            if pending.sent.is_none() || reads {
                self.pause(cx, request);
            } else {
                let failure = if why == Closed::Timeout { Failure::Timeout } else { Failure::Disconnected };
                self.finish(cx, request, Outcome::Unknown(failure), None);
            }
        }
    }

    fn server_of(&self, session: SessionId) -> Option<SocketAddrV4> {
        self.sessions.iter().find(|(_, s)| s.id == session).map(|(server, _)| *server)
    }
}

impl Node<Service> for Client {
    fn start(&mut self, cx: &mut Cx<'_, Service>, _: &DiskImage<Service>) {
        self.guess = cx.random().between(0, self.servers.len() as u64 - 1) as usize;
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Service>, session: SessionId, _: Opened<Kind>) {
        let Some(server) = self.server_of(session) else { return };
        if let Some(session) = self.sessions.get_mut(&server) {
            session.up = true;
        }
        let unsent = self.open.iter().filter(|(_, pending)| pending.sent.is_none() && !pending.paused);
        let unsent: Vec<RequestId> = unsent.map(|(request, _)| *request).collect();
        for request in unsent {
            self.attempt(cx, request);
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Service>, session: SessionId, message: Message) {
        if let (Message::Reply { id, reply }, Some(server)) = (message, self.server_of(session)) {
            self.on_reply(cx, server, RequestId(id), reply);
        }
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Service>, session: SessionId, why: Closed) {
        if let Some(server) = self.server_of(session) {
            self.lose(cx, server, why);
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Service>, timer: Timer) {
        match timer {
            Timer::Retry => {
                self.retrying = false;
                let paused = self.open.iter().filter(|(_, pending)| pending.paused);
                let paused: Vec<RequestId> = paused.map(|(request, _)| *request).collect();
                for request in paused {
                    self.attempt(cx, request);
                }
            }
            Timer::Deadline(request) => {
                let Some(pending) = self.open.get(&request) else { return };
                let reads = matches!(pending.request, Request::Read(_) | Request::Peek(_));
                let outcome = match pending.sent {
                    Some(_) if !reads => Outcome::Unknown(Failure::Timeout),
                    Some(_) => Outcome::Fail(Failure::Timeout),
                    None => Outcome::Fail(Failure::Unreachable),
                };
                // One that never left says nothing about a server, unless it waited for the dial.
                let waited = (!pending.paused).then_some(self.servers[self.guess].1);
                let silent = pending.sent.or(pending.only).or(waited);
                self.finish(cx, request, outcome, None);
                // A server that does not answer may be cut off, or lead no more without knowing: ask another one.
                let Some(silent) = silent else { return };
                self.suspect(silent);
                if let Some(session) = self.sessions.get(&silent)
                    && !session.up
                {
                    cx.close(session.id);
                    self.sessions.remove(&silent);
                }
            }
            Timer::Raft(_) => {}
        }
    }

    fn on_request(&mut self, cx: &mut Cx<'_, Service>, request: RequestId, op: Op, deadline: Duration) {
        let mut only = None;
        let asked = match op {
            Op::Read { key } => Request::Read(key.into()),
            Op::ReadAt { node, key } => {
                only = Some(node);
                Request::Peek(key.into())
            }
            Op::Append { key, value, bytes } => {
                let change = Change::Append { vertex: key.into(), property: ITEMS, value, bytes };
                Request::Change(Transaction::of(change))
            }
            Op::Write { key, value, bytes } => {
                let change = Change::Set { vertex: key.into(), property: VALUE, value, bytes };
                Request::Change(Transaction::of(change))
            }
            Op::Cas { key, from, to } => Request::Change(Transaction::of(Change::Cas {
                vertex: key.into(),
                property: VALUE,
                from,
                to,
            })),
            Op::Command { node, words } => match command(&words) {
                Ok(asked) => {
                    only = Some(node);
                    asked
                }
                Err(text) => return cx.complete(request, Outcome::Text(text), None),
            },
        };
        self.open.insert(request, Pending { request: asked, sent: None, only, paused: false });
        cx.set_timer(Timer::Deadline(request), deadline);
        self.attempt(cx, request);
    }
}

/// An operator's words: `snapshot`, `transfer`, `members 1 2 3`.
fn command(words: &str) -> Result<Request, String> {
    let mut words = words.split_whitespace();
    match words.next() {
        Some("snapshot") => Ok(Request::Snapshot),
        Some("transfer") => Ok(Request::Transfer),
        Some("members") => {
            let members = words.map(|word| word.parse().map(Member)).collect::<Result<Vec<_>, _>>();
            members.map(Request::Members).map_err(|e| format!("members: {e}"))
        }
        _ => Err("known commands: snapshot, transfer, members ID...".to_string()),
    }
}
