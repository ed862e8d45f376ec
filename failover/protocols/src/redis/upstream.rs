//! A replica's side of replication: the link to its primary.

use super::admin::Replconf;
use super::data::Data;
use super::info::LinkState;
use super::message::{Command, Error, Message, Reply, Snapshot, Stored};
use super::replication::History;
use super::server::{Gate, RedisSystem, Server};
use super::store::Store;
use super::values::{Addr, Key, Offset, ReplId};
use crate::contract::{Closed, Cx, Duration, LocalTime, SessionId};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// The link of a replica to its primary.
#[derive(Debug)]
pub(super) struct Upstream {
    /// Whom it follows.
    pub primary: Addr,
    /// The session, dialled or open.
    session: Option<SessionId>,
    stage: Stage,
    /// When the primary was heard last.
    pub heard_at: LocalTime,
    /// Since when the stream does not flow; none while it does.
    pub down_since: Option<LocalTime>,
    /// Ask the primary to hand over (the FAILOVER word of PSYNC).
    pub takes_over: bool,
    /// The stream came at least once, from this or an earlier primary: there is a position to go on from.
    pub was_synced: bool,
}

#[derive(Debug)]
enum Stage {
    /// Not dialled, or dialled in vain.
    Idle,
    Connecting,
    /// What the replies to come are replies to.
    Handshake(VecDeque<Step>),
    /// A full copy is on its way.
    Copying {
        id: ReplId,
        offset: Offset,
        keys: Vec<(Key, Stored)>,
        bytes: u64,
    },
    Connected,
    /// The primary refuses our position, and only an operator can help (Pika).
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Ping,
    Port,
    Capabilities,
    Psync,
}

impl Upstream {
    pub fn new(primary: Addr, now: LocalTime) -> Upstream {
        Upstream {
            primary,
            session: None,
            stage: Stage::Idle,
            heard_at: now,
            down_since: Some(now),
            takes_over: false,
            was_synced: false,
        }
    }

    pub fn state(&self) -> LinkState {
        match &self.stage {
            Stage::Idle | Stage::Refused => LinkState::Connect,
            Stage::Connecting => LinkState::Connecting,
            Stage::Handshake(_) => LinkState::Handshake,
            Stage::Copying { .. } => LinkState::Sync,
            Stage::Connected => LinkState::Connected,
        }
    }
}

impl Server {
    /// SLAVEOF: follow that node, or become a primary.
    pub fn follow<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, primary: Option<Addr>, gate: &impl Gate) {
        if core::mem::take(&mut self.protected) {
            self.loading = false;
            self.announce(cx);
        }
        match primary {
            Some(addr) if self.primary() == Some(addr) => {}
            Some(addr) => self.demote(cx, addr, gate),
            None if self.is_primary() => {}
            None => self.promote(cx),
        }
    }

    /// Takes a place in a history that was agreed before the process began: primary and replicas are in step.
    pub fn begin_in_step(&mut self, id: ReplId, offset: Offset) {
        self.history.adopt(id, offset);
        if let Some(upstream) = &mut self.upstream {
            upstream.was_synced = true;
        }
    }

    /// Forgets where it stands: its data are of no use to its new primary, which will send a full copy.
    pub fn forget_position<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        self.history = History::new(cx.random());
        self.history.keep_backlog();
        if let Some(upstream) = &mut self.upstream {
            upstream.was_synced = false;
        }
    }

    /// Becomes a primary: a new history that the old one's other replicas can go on with.
    pub fn promote<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        self.drop_link(cx);
        self.upstream = None;
        if !self.is_pika() {
            self.history.fork(cx.random());
            self.select_due = true;
        }
        self.drop_replicas(cx);
        self.announce(cx);
    }

    /// Becomes a replica of `primary`, and offers it its own position.
    pub fn demote<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, primary: Addr, gate: &impl Gate) {
        let was_synced = self.upstream.as_ref().is_none_or(|upstream| upstream.was_synced);
        self.drop_link(cx);
        self.history.keep_backlog();
        if self.settings.quirks.offset_excludes_pings {
            self.history.trim_pings();
        }
        self.upstream = Some(Upstream { was_synced, ..Upstream::new(primary, cx.now()) });
        self.drop_replicas(cx);
        self.unblock_waits(cx, gate);
        self.connect(cx);
        self.announce(cx);
    }

    /// Sub-replicas must ask again: our history has another name, or will be replaced.
    fn drop_replicas<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        for session in core::mem::take(&mut self.replicas) {
            self.drop_connection(cx, session);
        }
        self.count_good_replicas(cx);
    }

    /// Dials the primary, if there is one and no link to it.
    pub(super) fn connect<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        let Some(upstream) = &mut self.upstream else { return };
        if upstream.session.is_none() && !matches!(upstream.stage, Stage::Refused) {
            upstream.session = Some(cx.open(upstream.primary, S::DATA));
            upstream.stage = Stage::Connecting;
            upstream.heard_at = cx.now();
        }
    }

    /// Ends the link, if there is one. Position and data stay.
    pub(super) fn drop_link<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        let Some(upstream) = &mut self.upstream else { return };
        if let Some(session) = upstream.session.take() {
            cx.close(session);
        }
        upstream.stage = Stage::Idle;
        upstream.down_since.get_or_insert(cx.now());
    }

    pub(super) fn on_link_open<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, session: SessionId) {
        let Some(upstream) = self.link_with(session) else { return };
        upstream.stage = Stage::Handshake([Step::Ping].into());
        upstream.heard_at = cx.now();
        cx.send(session, Message::Command(Command::Ping).into());
    }

    /// A link that was up is dialled again at once; one that could not be opened waits for the next second.
    pub(super) fn on_link_closed<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        _: Closed,
    ) {
        let Some(upstream) = self.link_with(session) else { return };
        let was_up = matches!(upstream.stage, Stage::Connected);
        upstream.session = None;
        upstream.stage = Stage::Idle;
        upstream.down_since.get_or_insert(cx.now());
        if was_up {
            self.connect(cx);
        }
    }

    pub(super) fn on_link_reply<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        reply: Reply,
    ) {
        let port = self.me.port();
        let resume_from = (self.history.id, self.history.offset.plus(1));
        let Some(upstream) = self.link_with(session) else { return };
        upstream.heard_at = cx.now();
        let was_synced = upstream.was_synced;
        let takes_over = upstream.takes_over;
        let Stage::Handshake(steps) = &mut upstream.stage else { return };
        let Some(step) = steps.pop_front() else { return };
        match step {
            Step::Ping if reply.is_error() => self.give_up_link(cx),
            Step::Ping => {
                steps.extend([Step::Port, Step::Capabilities]);
                for replconf in [Replconf::ListeningPort(port), Replconf::Capabilities] {
                    cx.send(session, Message::Command(Command::Replconf(replconf)).into());
                }
            }
            Step::Port => {}
            Step::Capabilities => {
                steps.push_back(Step::Psync);
                let from = was_synced.then_some(resume_from);
                cx.send(session, Message::Command(Command::Psync { from, failover: takes_over }).into());
            }
            Step::Psync => self.on_psync_reply(cx, session, reply),
        }
    }

    fn on_psync_reply<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, session: SessionId, reply: Reply) {
        match reply {
            Reply::FullResync { id, offset } => {
                let Some(upstream) = self.link_with(session) else { return };
                upstream.stage = Stage::Copying { id, offset, keys: Vec::new(), bytes: 0 };
                self.hand_over_refused(cx);
            }
            Reply::Continue(id) => {
                let renamed = id != self.history.id;
                self.history.rename(id);
                if renamed {
                    self.drop_replicas(cx);
                }
                self.link_is_up(cx);
            }
            other => {
                self.give_up_link(cx);
                if let Reply::Error(Error::Other(why)) = other
                    && self.is_pika()
                    && let Some(upstream) = &mut self.upstream
                {
                    upstream.stage = Stage::Refused;
                    let at = self.history.offset.0;
                    cx.note(|| alloc::format!("replication is in error at {at}: {why}"));
                }
                self.hand_over_refused(cx);
            }
        }
    }

    /// The other side cannot serve us now; the next second tries again.
    fn give_up_link<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        self.drop_link(cx);
    }

    fn link_is_up<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        self.history.keep_backlog();
        let Some(upstream) = &mut self.upstream else { return };
        upstream.stage = Stage::Connected;
        upstream.down_since = None;
        upstream.was_synced = true;
        self.hand_over_done(cx);
        self.acknowledge(cx);
    }

    pub(super) fn on_snapshot<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        piece: Snapshot,
    ) {
        let piece_bytes = piece.wire_size() as u64;
        let Some(upstream) = self.link_with(session) else { return };
        upstream.heard_at = cx.now();
        let Stage::Copying { id, offset, keys, bytes } = &mut upstream.stage else { return };
        *bytes += piece_bytes;
        match piece {
            Snapshot::KeepAlive | Snapshot::Begin { .. } => {}
            Snapshot::Keys(part) => keys.extend(part.iter().cloned()),
            Snapshot::End { .. } => {
                let (id, offset, keys, bytes) = (*id, *offset, core::mem::take(keys), *bytes);
                self.load(cx, id, offset, keys, bytes);
            }
        }
    }

    /// The copy is complete: it takes the place of what was here.
    fn load<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        id: ReplId,
        offset: Offset,
        keys: Vec<(Key, Stored)>,
        bytes: u64,
    ) {
        if let Some(micros) = (bytes * 1_000_000).checked_div(self.settings.load_rate) {
            cx.busy(Duration::from_micros(micros));
        }
        self.store = Store::new(keys);
        self.history.adopt(id, offset);
        self.dirty = true;
        self.restart_log(cx);
        self.drop_replicas(cx);
        self.link_is_up(cx);
    }

    /// An entry of the stream. A command that only an extension knows is given back.
    pub(super) fn on_stream<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        command: Command,
        bytes: u32,
    ) -> Option<Command> {
        let upstream = self.link_with(session)?;
        upstream.heard_at = cx.now();
        if !matches!(upstream.stage, Stage::Connected) {
            return None;
        }
        // What moves no position at the sender moves none here, whatever its bytes on the wire: Pika's keepalives.
        let bytes = if self.counts(&command) { bytes } else { 0 };
        let mut unknown = None;
        match &command {
            Command::Data(data) => self.apply(cx, data),
            Command::Publish { channel, payload } => drop(self.deliver(cx, channel, payload)),
            // Its answer excludes the question: the offset moves below.
            Command::Replconf(Replconf::GetAck) => self.acknowledge(cx),
            Command::Cluster(_) => unknown = Some(command.clone()),
            _ => {}
        }
        self.relay(cx, command, bytes);
        unknown
    }

    fn apply<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, data: &Data) {
        drop(self.store.execute(data));
        self.log_write(cx, data);
    }

    /// Tells the primary how far we are.
    pub(super) fn acknowledge<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        let offset = self.history.offset;
        let Some(Upstream { session: Some(session), stage: Stage::Connected, .. }) = &self.upstream else {
            return;
        };
        cx.send(*session, Message::Command(Command::Replconf(Replconf::Ack(offset))).into());
    }

    /// The replica's part of the second's work.
    pub(super) fn upstream_cron<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        let timeout = self.settings.repl_timeout;
        let Some(upstream) = &self.upstream else { return };
        if upstream.session.is_some() && cx.now().since(upstream.heard_at) > timeout {
            self.drop_link(cx);
        }
        if !self.loading {
            self.connect(cx);
        }
        self.acknowledge(cx);
    }

    /// The link, if `session` is its session.
    fn link_with(&mut self, session: SessionId) -> Option<&mut Upstream> {
        self.upstream.as_mut().filter(|upstream| upstream.session == Some(session))
    }
}
