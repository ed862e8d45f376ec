//! A primary's side of replication: feeding replicas, counting acknowledgements.

use super::admin::Replconf;
use super::connection::{Attached, Blocked, Stage};
use super::info::LinkState;
use super::message::{Command, Error, Message, Reply, Snapshot, Stored};
use super::server::{CRON, Gate, RedisSystem, Server, Timer};
use super::values::{Addr, Hex, Key, Offset, ReplId};
use crate::contract::{Cx, Duration, Observation, SessionId};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Keys in one piece of a snapshot: large enough to be cheap, small enough that other traffic gets in between.
const SNAPSHOT_KEYS: usize = 64;

impl Server {
    /// Appends an entry to the stream: counted, kept, and sent to every replica that has its snapshot.
    pub fn feed<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, command: Command) {
        if self.history.backlog.is_none() || !self.counts(&command) {
            // Without replicas, now or before, there is no stream and nothing is counted.
            return;
        }
        let bytes = command.wire_size() as u32;
        self.relay(cx, command, bytes);
    }

    /// The same for an entry whose size on the wire is known.
    pub(super) fn relay<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, command: Command, bytes: u32) {
        for session in &self.replicas {
            let stage =
                self.connections.get(session).and_then(|connection| connection.attached).map(|a| a.stage);
            if matches!(stage, Some(Stage::Online | Stage::Loading)) {
                cx.send(*session, Message::Stream { command: command.clone(), bytes }.into());
            }
        }
        if bytes > 0 {
            self.history.record(command, bytes, self.settings.backlog_bytes);
        }
    }

    pub(super) fn on_replconf<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        replconf: Replconf,
        gate: &impl Gate,
    ) {
        let Some(connection) = self.connections.get_mut(&session) else { return };
        match replconf {
            Replconf::Ack(offset) => return self.on_ack(cx, session, offset, gate),
            Replconf::ListeningPort(port) => connection.listening_port = Some(port),
            Replconf::ClusterNodeId(id) => connection.cluster_node = Some(id),
            Replconf::Capabilities | Replconf::Version(_) | Replconf::GetAck => {}
        }
        self.reply(cx, session, Reply::Ok);
    }

    /// PSYNC: the stream from where the replica stands, if it is in the backlog; else a full copy.
    pub(super) fn on_psync<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        from: Option<(ReplId, Offset)>,
        failover: bool,
    ) {
        if failover {
            return self.on_psync_failover(cx, session, from);
        }
        if self.link_state().is_some_and(|state| state != LinkState::Connected) {
            self.reply(cx, session, Reply::Error(Error::NoPrimaryLink));
            return;
        }
        self.attach(cx, session, from);
    }

    /// Makes the connection a replica's link and answers its PSYNC.
    pub(super) fn attach<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        from: Option<(ReplId, Offset)>,
    ) {
        let (now, second) = (cx.now(), cx.wall().seconds());
        let Some(connection) = self.connections.get_mut(&session) else { return };
        let port = connection.listening_port.unwrap_or(connection.from.port());
        let mut attached = Attached {
            addr: Addr::new(*connection.from.ip(), port),
            stage: Stage::WaitsForSnapshot,
            acked: Offset(0),
            acked_at: now,
            acked_second: second,
            asked_at: now,
        };
        let missing: Option<Vec<(Command, u32)>> = from
            .and_then(|(id, wanted)| self.history.resume(id, wanted))
            .map(|entries| entries.cloned().collect());
        if let Some(entries) = missing {
            attached.stage = Stage::Online;
            cx.send(session, Message::Reply(Reply::Continue(self.history.id)).into());
            for (command, bytes) in entries {
                cx.send(session, Message::Stream { command, bytes }.into());
            }
        }
        let refused = from
            .filter(|_| attached.stage == Stage::WaitsForSnapshot)
            .and_then(|(_, wanted)| self.refuses_position(wanted));
        if let Some(refusal) = refused {
            self.reply(cx, session, refusal);
            return;
        }
        let Some(connection) = self.connections.get_mut(&session) else { return };
        connection.attached = Some(attached);
        if !self.replicas.contains(&session) {
            self.replicas.push(session);
        }
        self.count_good_replicas(cx);
        if attached.stage == Stage::WaitsForSnapshot {
            if self.history.backlog.is_none() {
                self.history.begin(cx.random());
            }
            if self.settings.sync_delay.is_zero() {
                self.send_snapshots(cx);
            }
        }
    }

    /// One snapshot for all replicas that wait for one.
    fn send_snapshots<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        let pieces = self.snapshot();
        let mark = ReplId(Hex::random(cx.random()));
        self.select_due = !self.is_pika();
        for session in &self.replicas {
            let Some(attached) = self.connections.get_mut(session).and_then(|c| c.attached.as_mut()) else {
                continue;
            };
            if attached.stage != Stage::WaitsForSnapshot {
                continue;
            }
            attached.stage = Stage::Loading;
            let full = Reply::FullResync { id: self.history.id, offset: self.history.offset };
            cx.send(*session, Message::Reply(full).into());
            cx.send(*session, Message::Snapshot(Snapshot::Begin { mark }).into());
            for piece in &pieces {
                cx.send(*session, Message::Snapshot(Snapshot::Keys(piece.clone())).into());
            }
            cx.send(*session, Message::Snapshot(Snapshot::End { mark }).into());
            self.full_copies += 1;
        }
        let copies = Observation::Gauge { name: "full_copies", value: self.full_copies };
        cx.observe_shard(self.shard, copies);
    }

    fn snapshot(&self) -> Vec<Arc<[(Key, Stored)]>> {
        let keys: Vec<(Key, Stored)> =
            self.store.entries().map(|(key, stored)| (key.clone(), stored.clone())).collect();
        keys.chunks(SNAPSHOT_KEYS).map(Arc::from).collect()
    }

    fn on_ack<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        offset: Offset,
        gate: &impl Gate,
    ) {
        let (now, second) = (cx.now(), cx.wall().seconds());
        let Some(attached) = self.connections.get_mut(&session).and_then(|c| c.attached.as_mut()) else {
            return;
        };
        attached.acked = attached.acked.max(offset);
        attached.acked_at = now;
        attached.acked_second = second;
        if attached.stage == Stage::Loading {
            attached.stage = Stage::Online;
            self.count_good_replicas(cx);
        }
        if !self.blocked.is_empty() {
            self.check_waits(cx, gate);
        }
        if self.hand_over.is_some() {
            self.hand_over_step(cx, gate);
        }
    }

    /// The second's work.
    pub(super) fn cron<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        cx.set_timer(Timer::Cron.into(), CRON);
        self.upstream_cron(cx);
        self.ping_replicas(cx);
        self.drop_silent_replicas(cx);
        self.begin_due_snapshots(cx);
        self.count_good_replicas(cx);
        self.watch_lag(cx);
        self.persist(cx);
    }

    /// How far the last of the attached replicas is behind, by what it acknowledged, and the alarm on it.
    pub(super) fn watch_lag<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        let limit = self.settings.lag_alert_bytes;
        if limit == 0 || !self.is_primary() {
            return;
        }
        let behind = |attached: &Attached| self.history.offset.0.saturating_sub(attached.acked.0);
        let lag = self.attached().map(|(_, _, attached)| behind(attached)).max().unwrap_or(0);
        cx.observe_shard(self.shard, Observation::Gauge { name: "replication_lag_bytes", value: lag });
        let (was_on, count) = self.lag_alarm;
        self.lag_alarm = (lag > limit, count + u64::from(lag > limit && !was_on));
        if self.lag_alarm.1 > count {
            let value = self.lag_alarm.1;
            cx.observe_shard(self.shard, Observation::Gauge { name: "replication_lag_alerts", value });
            cx.note(|| alloc::format!("alarm: a replica lacks {lag} bytes"));
        }
    }

    /// A primary says PING in the stream, unless it is paused for a hand-over whose end is an equality of offsets.
    fn ping_replicas<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        let due = cx.now().since(self.last_ping_at) >= self.settings.repl_ping_period;
        let held = self.hold_pings || self.hand_over.is_some();
        if !due || !self.is_primary() || self.replicas.is_empty() || held {
            return;
        }
        self.last_ping_at = cx.now();
        if self.is_pika() {
            // Its keepalives are no part of the log.
            self.relay(cx, Command::Ping, 0);
        } else {
            self.feed(cx, Command::Ping);
        }
    }

    fn drop_silent_replicas<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        let (now, timeout) = (cx.now(), self.settings.repl_timeout);
        let silent =
            |attached: &Attached| attached.stage == Stage::Online && now.since(attached.acked_at) > timeout;
        let sessions: Vec<SessionId> = self
            .attached()
            .filter(|(_, _, attached)| silent(attached))
            .map(|(session, _, _)| session)
            .collect();
        sessions.into_iter().for_each(|session| self.drop_connection(cx, session));
    }

    fn begin_due_snapshots<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        let (now, delay) = (cx.now(), self.settings.sync_delay);
        let due = self.attached().any(|(_, _, attached)| {
            attached.stage == Stage::WaitsForSnapshot && now.since(attached.asked_at) >= delay
        });
        if due {
            self.send_snapshots(cx);
        }
    }

    /// Counts the replicas that are close enough for `min-replicas-to-write`: in whole seconds of the wall clock.
    pub(super) fn count_good_replicas<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        if self.settings.min_replicas == 0 {
            return;
        }
        let (second, max_lag) = (cx.wall().seconds(), self.settings.min_replicas_max_lag);
        let good = |attached: &Attached| {
            attached.stage == Stage::Online && second - attached.acked_second <= max_lag as i64
        };
        self.good_replicas = self.attached().filter(|(_, _, attached)| good(attached)).count() as u32;
        self.announce(cx);
    }

    // --- WAIT ---

    /// How many online replicas acknowledged `offset`.
    pub fn acknowledged(&self, offset: Offset) -> u32 {
        let has = |attached: &Attached| attached.stage == Stage::Online && attached.acked >= offset;
        self.attached().filter(|(_, _, attached)| has(attached)).count() as u32
    }

    /// Asks all replicas to acknowledge now.
    pub fn ask_acknowledgements<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        self.feed(cx, Command::Replconf(Replconf::GetAck));
    }

    pub(super) fn wait<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        replicas: u32,
        timeout: Duration,
        gate: &impl Gate,
    ) {
        let Some(connection) = self.connections.get(&session) else { return };
        let offset = connection.last_write;
        if !self.is_primary() {
            let text = "ERR WAIT cannot be used with replica instances.";
            self.reply(cx, session, Reply::Error(Error::Other(text.into())));
            return;
        }
        let deadline = (!timeout.is_zero()).then(|| cx.now() + timeout);
        self.block(session, Blocked::Acknowledgements { replicas, offset, deadline }, None);
        if self.acknowledged(offset) < replicas {
            self.ask_acknowledgements(cx);
        }
        self.check_waits(cx, gate);
    }

    /// Answers the WAITs that have enough acknowledgements or have waited long enough.
    pub(super) fn check_waits<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, gate: &impl Gate) {
        let mut next = None;
        for session in self.blocked.clone() {
            let blocked = self.connections.get(&session).and_then(|connection| connection.blocked);
            let Some(Blocked::Acknowledgements { replicas, offset, deadline }) = blocked else { continue };
            let count = self.acknowledged(offset);
            if count >= replicas || deadline.is_some_and(|deadline| deadline <= cx.now()) {
                self.reply(cx, session, Reply::Integer(i64::from(count)));
                self.resume(cx, session, gate);
            } else {
                next = deadline.into_iter().chain(next).min();
            }
        }
        if let Some(deadline) = next {
            cx.set_timer(Timer::WaitEnds.into(), deadline.since(cx.now()));
        }
    }

    /// A demoted primary answers its WAITs with an error.
    pub(super) fn unblock_waits<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, gate: &impl Gate) {
        for session in self.blocked.clone() {
            let blocked = self.connections.get(&session).and_then(|connection| connection.blocked);
            if matches!(blocked, Some(Blocked::Acknowledgements { .. })) {
                self.reply(cx, session, Reply::Error(Error::Unblocked));
                self.resume(cx, session, gate);
            }
        }
    }
}
