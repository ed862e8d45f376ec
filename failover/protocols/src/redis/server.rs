//! A data node: connections, commands, roles. Sentinel's data node is this and nothing else; a cluster node puts its
//! slots in front of it through [`Gate`].
//!
//! Within a step replicas are fed before the client is answered, as a single-threaded server with one active client
//! does: a killed process has never answered what it has not also handed to the kernel for its replicas. A host that
//! dies takes both along.

use super::connection::{Attached, Blocked, Connection, Stage};
use super::data::Data;
use super::disk::{APPLIED, CONFIG, LOG, Record, SNAPSHOT};
use super::info::{AttachedReplica, Flavour, Follows, Info, Link, LinkState, RoleReport};
use super::message::{
    Channel, ClientType, Command, Error, Message, Mode, Payload, Push, Reply, Server as Greeted,
};
use super::replication::History;
use super::settings::{Persistence, Settings};
use super::store::{Change, Store};
use super::upstream::Upstream;
use super::values::{Addr, Hex, Key, Offset, RunId};
use crate::contract::{
    Closed, Cx, DiskImage, Duration, Inspection, LocalTime, Observation, Opened, Random, Role, SessionId,
    Shard, System, Token,
};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A system whose data nodes are Redis-like: how the shared parts use its sessions, timers and disk.
pub trait RedisSystem: System<Message: From<Message>, Timer: From<Timer>, Record: From<Record>> {
    /// Kind of a session to a data node's client port.
    const DATA: Self::Kind;

    /// Our part of a record that was read back.
    fn record(record: &Self::Record) -> Option<&Record>;
}

/// Timers of a data node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Once a second: acknowledgements, pings, silence, replicas that count.
    Cron,
    /// The data set has been read.
    Loaded,
    /// A pause of writes ends.
    PauseEnds,
    /// A WAIT may have waited long enough.
    WaitEnds,
    /// Ten times a second while a FAILOVER command runs.
    HandOver,
}

/// Period of [`Timer::Cron`].
pub const CRON: Duration = Duration::from_secs(1);

/// Decides whether a command may touch its keys here. Sentinel's data nodes admit all.
pub trait Gate {
    /// Refuses, or admits.
    fn admit(&self, connection: &Connection, command: &Data) -> Result<(), Error>;

    /// Shard of this node, for what it announces.
    fn shard(&self) -> Shard {
        Shard(0)
    }
}

/// Admits everything.
#[derive(Clone, Copy, Debug)]
pub struct Open;

impl Gate for Open {
    fn admit(&self, _: &Connection, _: &Data) -> Result<(), Error> {
        Ok(())
    }
}

/// A data node.
#[derive(Debug)]
pub struct Server {
    /// Its configuration.
    pub settings: Settings,
    /// Its client address.
    pub me: Addr,
    /// Its process.
    pub run_id: RunId,
    /// Announced facts are about this shard.
    pub shard: Shard,
    /// What HELLO says.
    pub mode: Mode,
    /// Its keys.
    pub store: Store,
    /// Where it stands.
    pub history: History,
    /// The link to its primary; none for a primary.
    pub(super) upstream: Option<Upstream>,
    pub(super) connections: BTreeMap<SessionId, Connection>,
    /// Sessions of attached replicas, in the order in which they came.
    pub(super) replicas: Vec<SessionId>,
    /// Replicas that count for `min-replicas-to-write`.
    pub(super) good_replicas: u32,
    /// Connections that are blocked.
    pub(super) blocked: Vec<SessionId>,
    pub(super) loading: bool,
    /// It was a primary before its process ended, and serves nothing until somebody tells it what it is now.
    pub(super) protected: bool,
    /// Writes wait until then.
    pub(super) paused_until: Option<LocalTime>,
    pub(super) hand_over: Option<super::hand_over::HandOver>,
    /// SELECT must be sent before the next write in the stream.
    pub(super) select_due: bool,
    /// Something outside this server forbids writes (a cluster out of service): they are announced as refused.
    pub barred: bool,
    /// No PING may enter the stream: somebody waits for an exact offset.
    pub hold_pings: bool,
    pub(super) last_ping_at: LocalTime,
    pub(super) dirty: bool,
    pub(super) saved_at: LocalTime,
    /// Full copies sent so far by this process.
    pub(super) full_copies: u64,
    /// The lag alarm is on, and how often it went on.
    pub(super) lag_alarm: (bool, u64),
    announced: Option<(Role, bool)>,
}

impl Server {
    /// A node before its start.
    pub fn new(settings: Settings, me: Addr, mode: Mode) -> Server {
        let no_history = History { id: Default::default(), offset: Offset(0), earlier: None, backlog: None };
        Server {
            settings,
            me,
            run_id: RunId::default(),
            shard: Shard(0),
            mode,
            store: Store::default(),
            history: no_history,
            upstream: None,
            connections: BTreeMap::new(),
            replicas: Vec::new(),
            good_replicas: 0,
            blocked: Vec::new(),
            loading: false,
            protected: false,
            paused_until: None,
            hand_over: None,
            select_due: true,
            barred: false,
            hold_pings: false,
            last_ping_at: LocalTime::default(),
            dirty: false,
            saved_at: LocalTime::default(),
            full_copies: 0,
            lag_alarm: (false, 0),
            announced: None,
        }
    }

    /// The process begins with what its disk kept.
    pub fn start<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, disk: &DiskImage<S>) {
        self.run_id = RunId(Hex::random(cx.random()));
        self.history = History::new(cx.random());
        if self.is_pika() {
            self.begin_as_pika();
        }
        self.last_ping_at = cx.now();
        self.saved_at = cx.now();
        let known = match disk.last(CONFIG).and_then(S::record) {
            Some(Record::Config { follows }) => Some(*follows),
            _ => None,
        };
        let follows = known.unwrap_or(self.settings.follows);
        let continues = self.restore(cx, disk, follows.is_some());
        self.loading = !self.settings.load_time.is_zero() && !self.store.is_empty();
        if self.loading {
            cx.set_timer(Timer::Loaded.into(), self.settings.load_time);
        }
        self.protected = self.settings.protected_restart && known == Some(None);
        self.loading |= self.protected;
        // Processes are not started at the same instant: each has its own phase.
        let phase = cx.random().duration(Duration::ZERO, CRON);
        cx.set_timer(Timer::Cron.into(), phase);
        self.upstream = follows.map(|primary| Upstream::new(primary, cx.now()));
        if let Some(upstream) = &mut self.upstream {
            upstream.was_synced = continues;
        }
        if !self.loading {
            self.connect(cx);
        }
        if self.settings.protected_restart && known.is_none() {
            // So that the next life knows that it is not the first.
            self.rewrite_config(cx);
        }
        self.announce(cx);
    }

    /// Reads the data back; true if with a position in a history. A primary that finds a snapshot begins a new history
    /// that goes on from it; a replica stands where the snapshot stood (Redis 7.0). A log of Redis has no history in it;
    /// Pika's is its history.
    fn restore<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, disk: &DiskImage<S>, replica: bool) -> bool {
        match self.settings.persistence {
            Persistence::None => false,
            Persistence::Snapshots { .. } => {
                let Some(Record::Snapshot { id, offset, keys }) = disk.last(SNAPSHOT).and_then(S::record)
                else {
                    return false;
                };
                self.store = Store::new(keys.iter().cloned());
                self.history.adopt(*id, *offset);
                if !replica {
                    self.history.fork(cx.random());
                }
                true
            }
            Persistence::LogEverySecond | Persistence::LogAlways => {
                for record in disk.records(LOG) {
                    match S::record(record) {
                        Some(Record::Write(data)) => self.replay(data),
                        Some(Record::Snapshot { id, offset, keys }) => {
                            self.store = Store::new(keys.iter().cloned());
                            if self.is_pika() {
                                self.history.adopt(*id, *offset);
                            }
                        }
                        Some(Record::Config { .. } | Record::Applied { .. }) | None => {}
                    }
                }
                // What the store was given and the log was not: it is there, and no position tells of it.
                if let Some(Record::Applied { offset, data }) = disk.last(APPLIED).and_then(S::record)
                    && *offset == self.history.offset
                {
                    drop(self.store.execute(data));
                }
                self.is_pika() && self.history.offset > Offset(0)
            }
        }
    }

    fn replay(&mut self, data: &Data) {
        drop(self.store.execute(data));
        if self.is_pika() {
            let command = Command::Data(data.clone());
            let bytes = command.wire_size() as u32;
            self.history.record(command, bytes, self.settings.backlog_bytes);
        }
    }

    /// Whether it follows nobody.
    pub fn is_primary(&self) -> bool {
        self.upstream.is_none()
    }

    /// Whom it follows.
    pub fn primary(&self) -> Option<Addr> {
        self.upstream.as_ref().map(|upstream| upstream.primary)
    }

    /// State of the link to its primary, as ROLE names it.
    pub fn link_state(&self) -> Option<LinkState> {
        self.upstream.as_ref().map(|upstream| upstream.state())
    }

    /// Since when the link to the primary is down; `None` if it is up, or there is none.
    pub fn link_down_since(&self) -> Option<LocalTime> {
        self.upstream.as_ref().and_then(|upstream| upstream.down_since)
    }

    /// When the primary was last heard, if there is one.
    pub fn primary_heard_at(&self) -> Option<LocalTime> {
        self.upstream.as_ref().map(|upstream| upstream.heard_at)
    }

    /// The attached replicas, with their sessions, in the order in which they came.
    pub fn attached(&self) -> impl Iterator<Item = (SessionId, &Connection, &Attached)> {
        self.replicas.iter().filter_map(|session| {
            let connection = self.connections.get(session)?;
            Some((*session, connection, connection.attached.as_ref()?))
        })
    }

    /// The connection with this session, if a peer dialled it.
    pub fn connection(&self, session: SessionId) -> Option<&Connection> {
        self.connections.get(&session)
    }

    /// A look inside, for ground truth.
    pub fn inspect(&self, epoch: u64) -> Inspection {
        let role = if self.is_primary() { Role::Primary } else { Role::Replica };
        Inspection { shard: self.shard, role, epoch, state: self.store.inspect() }
    }

    /// A session is open.
    pub fn on_open<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        opened: Opened<S::Kind>,
    ) {
        match opened {
            Opened::Accepted { from, .. } => drop(self.connections.insert(session, Connection::new(from))),
            Opened::Dialled => self.on_link_open(cx, session),
        }
    }

    /// A session ended.
    pub fn on_close<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, session: SessionId, why: Closed) {
        if self.connections.contains_key(&session) {
            self.forget(cx, session);
        } else {
            self.on_link_closed(cx, session, why);
        }
    }

    /// A message came. A command that a plain data node does not know is given back: the caller answers it with
    /// [`Server::reply`].
    pub fn on_message<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        message: Message,
        gate: &impl Gate,
    ) -> Option<Command> {
        match message {
            Message::Command(command) => return self.on_command(cx, session, command, gate),
            Message::Reply(reply) => self.on_link_reply(cx, session, reply),
            Message::Snapshot(piece) => self.on_snapshot(cx, session, piece),
            Message::Stream { command, bytes } => return self.on_stream(cx, session, command, bytes),
            // Data nodes subscribe to nothing.
            Message::Push(_) => {}
        }
        None
    }

    /// A timer came due.
    pub fn on_timer<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, timer: Timer, gate: &impl Gate) {
        match timer {
            Timer::Cron => self.cron(cx),
            Timer::Loaded => {
                self.loading = self.protected;
                self.connect(cx);
                self.announce(cx);
            }
            Timer::PauseEnds => self.unpause(cx, gate),
            Timer::WaitEnds => self.check_waits(cx, gate),
            Timer::HandOver => self.hand_over_step(cx, gate),
        }
    }

    /// Answers a command.
    pub fn reply<S: RedisSystem>(&self, cx: &mut Cx<'_, S>, session: SessionId, reply: Reply) {
        cx.send(session, Message::Reply(reply).into());
    }

    fn on_command<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        command: Command,
        gate: &impl Gate,
    ) -> Option<Command> {
        let connection = self.connections.get_mut(&session)?;
        if connection.blocked.is_some() {
            // Acknowledgements are read even so: a replica's link is never blocked.
            connection.waiting.push_back(command);
            return None;
        }
        if connection.queue.is_some() && !matches!(command, Command::Exec | Command::Discard | Command::Multi)
        {
            let reply = self.enqueue(session, command, gate);
            self.reply(cx, session, reply);
            return None;
        }
        if let Command::Data(data) = command {
            self.on_data(cx, session, data, gate);
            return None;
        }
        if self.loading && !allowed_while_loading(&command) {
            self.reply(cx, session, Reply::Error(Error::Loading));
            return None;
        }
        match command {
            Command::Exec => self.exec(cx, session, gate),
            Command::Multi => self.multi(cx, session),
            Command::Discard => {
                self.connections.get_mut(&session)?.queue = None;
                self.reply(cx, session, Reply::Ok);
            }
            Command::Subscribe(channels) => self.subscribe(cx, session, channels),
            Command::PatternSubscribe(patterns) => self.subscribe_patterns(cx, session, patterns),
            Command::Unsubscribe => self.unsubscribe(cx, session),
            Command::Replconf(replconf) => self.on_replconf(cx, session, replconf, gate),
            Command::Psync { from, failover } => self.on_psync(cx, session, from, failover),
            Command::Wait { replicas, timeout } => self.wait(cx, session, replicas, timeout, gate),
            Command::Quit => {
                self.reply(cx, session, Reply::Ok);
                self.drop_connection(cx, session);
            }
            other => match self.simple(cx, session, other, gate) {
                Ok(reply) => self.reply(cx, session, reply),
                Err(unknown) => return Some(unknown),
            },
        }
        None
    }

    /// Commands with one reply, which may also be queued in a transaction; `Err` is one that is not ours.
    fn simple<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        command: Command,
        gate: &impl Gate,
    ) -> Result<Reply, Command> {
        match command {
            Command::Data(data) => Ok(self.execute(cx, session, data, gate)),
            Command::Ping => Ok(Reply::Pong),
            other => self
                .about_this_connection(session, other)
                .or_else(|other| self.about_the_server(cx, session, other, gate))
                .or_else(|other| self.about_replication(cx, session, other, gate)),
        }
    }

    /// What a client says of the connection it speaks on.
    fn about_this_connection(&mut self, session: SessionId, command: Command) -> Result<Reply, Command> {
        Ok(match command {
            Command::Hello(protocol) => self.hello(session, protocol.unwrap_or(2)),
            Command::ClientSetName(_) | Command::Select(_) => Reply::Ok,
            Command::ClientCapaRedirect if self.settings.flavour != Flavour::Valkey => {
                Reply::Error(Error::Other("ERR unknown subcommand".into()))
            }
            Command::ClientCapaRedirect => self.flag(session, |connection| connection.redirects = true),
            Command::Asking => self.flag(session, |connection| connection.asking = true),
            Command::ReadOnly => self.flag(session, |connection| connection.read_only = true),
            Command::ReadWrite => self.flag(session, |connection| connection.read_only = false),
            Command::Reset => {
                self.flag(session, |connection| *connection = Connection::new(connection.from));
                Reply::Simple("RESET".into())
            }
            other => return Err(other),
        })
    }

    fn hello(&mut self, session: SessionId, protocol: u8) -> Reply {
        if let Some(connection) = self.connections.get_mut(&session) {
            connection.protocol = protocol;
        }
        let replica = !self.is_primary();
        Reply::Hello(Greeted { protocol, mode: self.mode, replica, connection: session.0 })
    }

    /// What concerns the process and its other connections.
    fn about_the_server<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        command: Command,
        gate: &impl Gate,
    ) -> Result<Reply, Command> {
        match command {
            Command::Info => return Ok(Reply::Info(Box::new(self.info(cx)))),
            Command::ClientKill(kind) => return Ok(Reply::Integer(self.kill(cx, kind, session) as i64)),
            Command::Publish { channel, payload } => {
                return Ok(Reply::Integer(self.publish(cx, channel, payload) as i64));
            }
            Command::ClientPause(span) => {
                let until = cx.now() + span;
                self.pause_writes(cx, until);
            }
            Command::ClientUnpause => self.unpause(cx, gate),
            Command::ConfigRewrite => self.rewrite_config(cx),
            other => return Err(other),
        }
        Ok(Reply::Ok)
    }

    /// Who follows whom, and how far.
    fn about_replication<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        command: Command,
        gate: &impl Gate,
    ) -> Result<Reply, Command> {
        Ok(match command {
            Command::Role => Reply::Role(Box::new(self.role())),
            Command::ReplicaOf(primary) if self.refuses_to_follow(primary) => {
                Reply::Error(Error::Other("ERR The server is already master of others".into()))
            }
            Command::ReplicaOf(primary) => {
                self.follow(cx, primary, gate);
                Reply::Ok
            }
            Command::Failover { to, force, timeout, abort } => {
                self.failover_command(cx, to, force, timeout, abort, gate)
            }
            // WAIT never blocks in a transaction.
            Command::Wait { .. } => {
                let offset = self.connection(session).map_or(Offset(0), |connection| connection.last_write);
                Reply::Integer(i64::from(self.acknowledged(offset)))
            }
            other => return Err(other),
        })
    }

    fn flag(&mut self, session: SessionId, set: impl FnOnce(&mut Connection)) -> Reply {
        self.connections.get_mut(&session).map(set);
        Reply::Ok
    }

    // --- keys ---

    fn on_data<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        data: Data,
        gate: &impl Gate,
    ) {
        // While a hand-over is decided, clients that could be redirected wait for the outcome.
        let undecided = self.hand_over.is_some() && self.redirects(session);
        if self.paused_until.is_some() && data.is_write() && (self.is_primary() || undecided) {
            self.block(session, Blocked::Pause, Some(Command::Data(data)));
            return;
        }
        let synced = self.settings.persistence == Persistence::LogAlways && data.is_write();
        let reply = self.execute(cx, session, data, gate);
        if synced && !reply.is_error() {
            let token = cx.sync(LOG);
            cx.after(token).send(session, Message::Reply(reply).into());
        } else {
            self.reply(cx, session, reply);
        }
    }

    /// Executes a client's command, and feeds the replicas before the caller answers.
    fn execute<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        data: Data,
        gate: &impl Gate,
    ) -> Reply {
        if self.loading {
            return Reply::Error(Error::Loading);
        }
        if let Some(connection) = self.connections.get_mut(&session) {
            let admitted = gate.admit(connection, &data);
            connection.asking = false;
            if let Err(error) = admitted {
                return Reply::Error(error);
            }
        }
        if let Some(primary) = self.primary()
            && self.redirects(session)
            && (data.is_write() || self.connection(session).is_some_and(|connection| !connection.read_only))
        {
            return Reply::Error(Error::Redirect(primary));
        }
        if data.is_write()
            && let Some(error) = self.refuses_writes()
        {
            return Reply::Error(error);
        }
        let executed = self.store.execute(&data);
        match executed.change {
            Change::None => return executed.reply,
            Change::Same => self.propagate(cx, data),
            Change::As(other) => self.propagate(cx, other),
        }
        if let Some(connection) = self.connections.get_mut(&session) {
            connection.last_write = self.history.offset;
        }
        executed.reply
    }

    fn redirects(&self, session: SessionId) -> bool {
        self.connection(session).is_some_and(|connection| connection.redirects)
    }

    fn propagate<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, data: Data) {
        if self.is_pika() && !self.settings.log_gap.is_zero() {
            let applied = Record::Applied { offset: self.history.offset, data: data.clone() };
            cx.replace(APPLIED, applied.into());
            cx.busy(self.settings.log_gap);
        }
        self.log_write(cx, &data);
        if core::mem::take(&mut self.select_due) {
            self.feed(cx, Command::Select(0));
        }
        self.feed(cx, Command::Data(data));
    }

    /// Removes keys that are elsewhere now, here and at the replicas.
    pub fn remove<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, keys: Vec<Key>) {
        let gone = Data::Del(keys);
        if self.store.execute(&gone).change != Change::None {
            self.propagate(cx, gone);
        }
    }

    pub(super) fn log_write<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, data: &Data) {
        self.dirty = true;
        if matches!(self.settings.persistence, Persistence::LogAlways | Persistence::LogEverySecond) {
            cx.append(LOG, Record::Write(data.clone()).into());
        }
    }

    /// Why a write that arrives now would be refused.
    fn refuses_writes(&self) -> Option<Error> {
        let required = self.settings.min_replicas;
        match self.is_primary() {
            false if self.settings.flavour == Flavour::Pika => Some(Error::PikaReadOnly),
            false => Some(Error::ReadOnly),
            true if self.good_replicas < required => Some(Error::NoReplicas),
            true => None,
        }
    }

    // --- transactions ---

    fn multi<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, session: SessionId) {
        let Some(connection) = self.connections.get_mut(&session) else { return };
        let reply = match &connection.queue {
            Some(_) => Reply::Error(Error::Other("ERR MULTI calls can not be nested".into())),
            None => {
                connection.queue = Some(Vec::new());
                connection.queue_failed = false;
                Reply::Ok
            }
        };
        self.reply(cx, session, reply);
    }

    fn enqueue(&mut self, session: SessionId, command: Command, gate: &impl Gate) -> Reply {
        let refusal = match &command {
            Command::Data(data) if self.loading && data.is_write() => Some(Error::Loading),
            Command::Data(data) if data.is_write() => self.refuses_writes(),
            _ => None,
        };
        let Some(connection) = self.connections.get_mut(&session) else { return Reply::Queued };
        let admitted = match &command {
            Command::Data(data) => gate.admit(connection, data).err(),
            _ => None,
        };
        if let Some(error) = refusal.or(admitted) {
            connection.queue_failed = true;
            return Reply::Error(error);
        }
        if let Some(queue) = &mut connection.queue {
            queue.push(command);
        }
        Reply::Queued
    }

    fn exec<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, session: SessionId, gate: &impl Gate) {
        let paused = self.paused_until.is_some() && self.is_primary();
        let Some(connection) = self.connections.get_mut(&session) else { return };
        let Some(queue) = connection.queue.take() else {
            self.reply(cx, session, Reply::Error(Error::Other("ERR EXEC without MULTI".into())));
            return;
        };
        if core::mem::take(&mut connection.queue_failed) {
            self.reply(cx, session, Reply::Error(Error::ExecAbort));
            return;
        }
        let writes = queue.iter().any(|command| matches!(command, Command::Data(data) if data.is_write()));
        if writes && paused {
            connection.queue = Some(queue);
            self.block(session, Blocked::Pause, Some(Command::Exec));
            return;
        }
        let mut replies = Vec::with_capacity(queue.len());
        for command in queue {
            let unknown = |_| Reply::Error(Error::Other("ERR not allowed in a transaction".into()));
            replies.push(self.simple(cx, session, command, gate).unwrap_or_else(unknown));
        }
        self.reply(cx, session, Reply::Array(replies));
    }

    // --- publish and subscribe ---

    fn subscribe<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, session: SessionId, channels: Vec<Channel>) {
        let Some(connection) = self.connections.get_mut(&session) else { return };
        for channel in channels {
            if !connection.channels.contains(&channel) {
                connection.channels.push(channel.clone());
            }
            let count = connection.subscriptions() as u32;
            let push = Push::Subscribed { channel, pattern: false, count };
            cx.send(session, Message::Push(push).into());
        }
    }

    fn subscribe_patterns<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        patterns: Vec<Arc<[u8]>>,
    ) {
        let Some(connection) = self.connections.get_mut(&session) else { return };
        for pattern in patterns {
            if !connection.patterns.contains(&pattern) {
                connection.patterns.push(pattern.clone());
            }
            let count = connection.subscriptions() as u32;
            let push = Push::Subscribed { channel: Channel::Named(pattern), pattern: true, count };
            cx.send(session, Message::Push(push).into());
        }
    }

    fn unsubscribe<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, session: SessionId) {
        let Some(connection) = self.connections.get_mut(&session) else { return };
        let mut channels = core::mem::take(&mut connection.channels).into_iter();
        let mut channel = channels.next();
        loop {
            let count = (channels.len() + connection.patterns.len()) as u32;
            cx.send(session, Message::Push(Push::Unsubscribed { channel, count }).into());
            channel = channels.next();
            if channel.is_none() {
                return;
            }
        }
    }

    /// Publishes to the subscribers here, and through the stream to those of the replicas.
    fn publish<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, channel: Channel, payload: Payload) -> usize {
        let heard = self.deliver(cx, &channel, &payload);
        if self.is_primary() {
            self.feed(cx, Command::Publish { channel, payload });
        }
        heard
    }

    pub(super) fn deliver<S: RedisSystem>(
        &self,
        cx: &mut Cx<'_, S>,
        channel: &Channel,
        payload: &Payload,
    ) -> usize {
        let mut heard = 0;
        for (&session, connection) in &self.connections {
            if connection.subscriptions() == 0 {
                continue;
            }
            if let Some(pattern) = connection.hears(channel) {
                let push = Push::Published { pattern, channel: channel.clone(), payload: payload.clone() };
                cx.send(session, Message::Push(push).into());
                heard += 1;
            }
        }
        heard
    }

    // --- connections ---

    /// CLIENT KILL TYPE, which spares the one who asks.
    pub fn kill<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, kind: ClientType, asker: SessionId) -> usize {
        let victims: Vec<SessionId> = self
            .connections
            .iter()
            .filter(|&(&session, connection)| session != asker && connection.kind() == kind)
            .map(|(&session, _)| session)
            .collect();
        victims.iter().for_each(|&session| self.drop_connection(cx, session));
        if kind == ClientType::Primary {
            self.drop_link(cx);
        }
        victims.len()
    }

    /// Closes a connection and forgets it.
    pub(super) fn drop_connection<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, session: SessionId) {
        cx.close(session);
        self.forget(cx, session);
    }

    fn forget<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, session: SessionId) {
        self.connections.remove(&session);
        self.blocked.retain(|&blocked| blocked != session);
        let before = self.replicas.len();
        self.replicas.retain(|&replica| replica != session);
        if self.replicas.len() < before {
            self.count_good_replicas(cx);
        }
    }

    /// Makes a connection's commands wait, beginning with `command`.
    pub(super) fn block(&mut self, session: SessionId, why: Blocked, command: Option<Command>) {
        let Some(connection) = self.connections.get_mut(&session) else { return };
        connection.blocked = Some(why);
        connection.waiting.extend(command);
        self.blocked.push(session);
    }

    /// Executes what waited on a connection that is blocked no more.
    pub(super) fn resume<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        gate: &impl Gate,
    ) {
        self.blocked.retain(|&blocked| blocked != session);
        let Some(connection) = self.connections.get_mut(&session) else { return };
        connection.blocked = None;
        let waiting = core::mem::take(&mut connection.waiting);
        for command in waiting {
            let unknown = self.on_command(cx, session, command, gate);
            if unknown.is_some() {
                // Nothing that only an extension knows is worth waiting for.
                self.reply(cx, session, Reply::Error(Error::Unblocked));
            }
        }
    }

    // --- pauses ---

    /// Lets writes wait until then.
    pub fn pause_writes<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, until: LocalTime) {
        let until = self.paused_until.map_or(until, |current| current.max(until));
        self.paused_until = Some(until);
        cx.set_timer(Timer::PauseEnds.into(), until.since(cx.now()));
        self.announce(cx);
    }

    /// Whether writes wait.
    pub fn is_paused(&self) -> bool {
        self.paused_until.is_some()
    }

    /// Ends a pause: what waited is executed now, as what this node is now.
    pub fn unpause<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, gate: &impl Gate) {
        if self.paused_until.take().is_none() {
            return;
        }
        cx.cancel_timer(Timer::PauseEnds.into());
        let paused = |session: &SessionId| {
            self.connections.get(session).is_some_and(|connection| connection.blocked == Some(Blocked::Pause))
        };
        let sessions: Vec<SessionId> = self.blocked.iter().copied().filter(paused).collect();
        sessions.into_iter().for_each(|session| self.resume(cx, session, gate));
        self.announce(cx);
    }

    // --- what it tells of itself ---

    /// What it announces is about another shard from now on.
    pub fn move_to_shard<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, shard: Shard) {
        self.shard = shard;
        self.announced = None;
        self.announce(cx);
    }

    /// Announces role and writability where they changed.
    pub fn announce<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        let role = match (self.loading, self.is_primary()) {
            (true, _) => Role::Joining,
            (false, true) => Role::Primary,
            (false, false) => Role::Replica,
        };
        let free = !self.barred && self.paused_until.is_none();
        let writable = role == Role::Primary && free && self.refuses_writes().is_none();
        let before = self.announced.replace((role, writable));
        if before.is_none_or(|(old, _)| old != role) {
            cx.observe_shard(self.shard, Observation::Role(role));
        }
        if before.is_none_or(|(_, old)| old != writable) {
            cx.observe_shard(self.shard, Observation::Writable(writable));
        }
    }

    /// INFO.
    pub fn info<S: RedisSystem>(&self, cx: &Cx<'_, S>) -> Info {
        let now_second = cx.wall().seconds();
        let replicas = self.attached().map(|(_, _, attached)| AttachedReplica {
            addr: attached.addr,
            online: attached.stage == Stage::Online,
            offset: attached.acked,
            lag: u64::try_from(now_second - attached.acked_second).unwrap_or(0),
        });
        Info {
            flavour: self.settings.flavour,
            run_id: self.run_id,
            loading: self.loading,
            follows: self.upstream.as_ref().map(|upstream| Follows {
                primary: upstream.primary,
                link: self.link(upstream, cx.now()),
                offset: self.history.offset,
            }),
            priority: self.settings.priority,
            announced: self.settings.announced,
            replicas: replicas.collect(),
            id: self.history.id,
            id2: self.history.earlier.map_or(Default::default(), |(id, _)| id),
            offset: self.history.offset,
            second_offset: self.history.earlier.map(|(_, offset)| offset),
            failover: self.hand_over.is_some(),
        }
    }

    fn link(&self, upstream: &Upstream, now: LocalTime) -> Link {
        match upstream.state() {
            LinkState::Connected => Link::Up,
            state => Link::Down {
                syncing: state == LinkState::Sync,
                // Pika does not tell it.
                since: upstream
                    .down_since
                    .filter(|_| !self.is_pika())
                    .map(|since| now.since(since).as_secs()),
            },
        }
    }

    fn role(&self) -> RoleReport {
        match &self.upstream {
            None => RoleReport::Primary {
                offset: self.history.offset,
                replicas: self
                    .attached()
                    .filter(|(_, _, attached)| attached.stage == Stage::Online)
                    .map(|(_, _, attached)| (attached.addr, attached.acked))
                    .collect(),
            },
            Some(upstream) => RoleReport::Replica {
                primary: upstream.primary,
                state: upstream.state(),
                offset: Some(self.history.offset),
            },
        }
    }

    // --- disk ---

    /// CONFIG REWRITE: whom it follows survives a restart.
    pub fn rewrite_config<S: RedisSystem>(&self, cx: &mut Cx<'_, S>) {
        cx.replace(CONFIG, Record::Config { follows: self.primary() }.into());
        cx.sync(CONFIG);
    }

    /// Writes a snapshot and makes it durable.
    pub fn save<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) -> Token {
        let keys = self.store.entries().map(|(key, stored)| (key.clone(), stored.clone())).collect();
        let record = Record::Snapshot { id: self.history.id, offset: self.history.offset, keys };
        self.dirty = false;
        self.saved_at = cx.now();
        cx.replace(SNAPSHOT, record.into());
        cx.sync(SNAPSHOT)
    }

    /// The periodic part of persistence.
    pub(super) fn persist<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        match self.settings.persistence {
            Persistence::Snapshots { every } if self.dirty && cx.now().since(self.saved_at) >= every => {
                self.save(cx);
            }
            Persistence::LogEverySecond if self.dirty => {
                self.dirty = false;
                cx.sync(LOG);
            }
            Persistence::None
            | Persistence::Snapshots { .. }
            | Persistence::LogEverySecond
            | Persistence::LogAlways => {}
        }
    }

    /// A full copy arrived: a log begins anew with it.
    pub(super) fn restart_log<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        if matches!(self.settings.persistence, Persistence::LogAlways | Persistence::LogEverySecond) {
            let keys = self.store.entries().map(|(key, stored)| (key.clone(), stored.clone())).collect();
            let record = Record::Snapshot { id: self.history.id, offset: self.history.offset, keys };
            cx.replace(LOG, record.into());
            cx.sync(LOG);
        }
    }
}

fn allowed_while_loading(command: &Command) -> bool {
    match command {
        Command::Info
        | Command::Role
        | Command::Hello(_)
        | Command::ClientSetName(_)
        | Command::ClientCapaRedirect
        | Command::ClientKill(_)
        | Command::ConfigRewrite
        | Command::Multi
        | Command::Exec
        | Command::Discard
        | Command::ReplicaOf(_)
        | Command::Replconf(_)
        | Command::Subscribe(_)
        | Command::PatternSubscribe(_)
        | Command::Unsubscribe
        | Command::Publish { .. }
        | Command::Shutdown(_)
        | Command::Select(_)
        | Command::Cluster(_)
        | Command::Sentinel(_)
        | Command::Reset
        | Command::Quit => true,
        Command::Data(_)
        | Command::Ping
        | Command::ClientPause(_)
        | Command::ClientUnpause
        | Command::Psync { .. }
        | Command::Wait { .. }
        | Command::Failover { .. }
        | Command::Asking
        | Command::Migrate { .. }
        | Command::ReadOnly
        | Command::ReadWrite
        | Command::Other(_) => false,
    }
}
