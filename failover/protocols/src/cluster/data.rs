//! Where the bus side of a node meets its data side, which is the same data node as in Sentinel deployments
//! ([`crate::redis::server`]): offsets, roles, held writes, orders in the replication stream.

use super::bus::{Flags, NodeId};
use super::commands::SlotGate;
use super::node::{ClusterNode, Ctx, Save};
use super::settings::Settings;
use super::slots::Slot;
use super::{Cluster, Kind, Message, Record, Timer};
use crate::contract::{Duration, LocalTime, SessionId};
use crate::redis::connection::Stage;
use crate::redis::data::Data;
use crate::redis::disk;
use crate::redis::info::LinkState;
use crate::redis::message::{Command, Message as Redis, Mode, Reply};
use crate::redis::server::{RedisSystem, Server, Timer as DataTimer};
use crate::redis::values::{Hex, Key, Offset, ReplId};
use alloc::format;
use alloc::vec::Vec;

/// Offset of a cluster as it was created: its replicas are in step, and one PING was sent.
const CREATED_OFFSET: Offset = Offset(14);
/// A pause that ends with what it is for.
const WITHOUT_END: Duration = Duration::from_secs(1 << 30);

impl RedisSystem for Cluster {
    const DATA: Kind = Kind::Client;

    fn record(record: &Record) -> Option<&disk::Record> {
        match record {
            Record::Data(record) => Some(record),
            Record::Nodes(_) => None,
        }
    }
}

impl From<Redis> for Message {
    fn from(message: Redis) -> Message {
        Message::Redis(message)
    }
}

impl From<DataTimer> for Timer {
    fn from(timer: DataTimer) -> Timer {
        Timer::Data(timer)
    }
}

impl From<disk::Record> for Record {
    fn from(record: disk::Record) -> Record {
        Record::Data(record)
    }
}

/// The data side of a node before its start.
pub(super) fn server(settings: &Settings, me: NodeId) -> Server {
    Server::new(settings.data.clone(), settings.nodes[me.index()].client, Mode::Cluster)
}

/// The history of a shard that has been in step since before the run: all its nodes name it alike.
pub(super) fn created_history(head: NodeId) -> (ReplId, Offset) {
    let mut id = [0xc1; 20];
    id[..2].copy_from_slice(&head.0.to_be_bytes());
    (ReplId(Hex(id)), CREATED_OFFSET)
}

impl ClusterNode {
    /// Produced (primary) or processed (replica) offset.
    pub(super) fn my_offset(&self) -> u64 {
        self.server.history.offset.0
    }

    /// Seconds since our primary was last heard of, or since the link to it is down.
    pub(super) fn data_age_seconds(&self, now: LocalTime) -> i64 {
        let seconds = |time: LocalTime| (time.0 / 1_000_000) as i64;
        let since = self.server.link_down_since().or(self.server.primary_heard_at()).unwrap_or(now);
        seconds(now) - seconds(since)
    }

    /// Whether we are in step with our primary.
    pub(super) fn data_link_is_up(&self) -> bool {
        self.server.link_state() == Some(LinkState::Connected)
    }

    /// Replicas that get our stream, with the offset they acknowledged, in the order they came.
    pub(super) fn attached_replicas(&self) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        let online = self.server.attached().filter(|(_, _, attached)| attached.stage == Stage::Online);
        online.filter_map(|(_, _, attached)| Some((self.settings.node_at(attached.addr)?, attached.acked.0)))
    }

    /// Whether any replica is attached.
    pub(super) fn has_replicas(&self) -> bool {
        self.server.attached().next().is_some()
    }

    /// Whether every attached replica has acknowledged everything.
    pub(super) fn replicas_are_equal(&self) -> bool {
        let offset = self.server.history.offset;
        self.server
            .attached()
            .all(|(_, _, attached)| attached.stage == Stage::Online && attached.acked == offset)
    }

    /// Sends something to one replica only, past the history.
    pub(super) fn tell_replica(&mut self, cx: &mut Ctx<'_>, node: NodeId, command: Command) {
        let address = self.settings.nodes[node.index()].client;
        let found = self.server.attached().find(|(_, _, attached)| attached.addr == address);
        if let Some((session, _, _)) = found {
            cx.send(session, Redis::stream(command).into());
        }
    }

    /// Becomes, or stays, a replica: of this node from now on.
    pub(super) fn follow(&mut self, cx: &mut Ctx<'_>, primary: NodeId) {
        let me = self.table.me;
        if primary == me || self.table.my_primary() == Some(primary) {
            return;
        }
        let shard = self.shard_of(primary);
        self.table.strip_slots(me);
        self.table.set_role(me, Some(primary));
        self.table.flags_mut(me).clear(Flags::MIGRATE_TO);
        self.reset_manual(cx);
        let address = self.settings.nodes[primary.index()].client;
        let gate = SlotGate { table: &self.table, settings: &self.settings, key_has_left: false };
        self.server.follow(cx, Some(address), &gate);
        if shard != self.shard {
            self.refresh_shard(cx);
            if !self.settings.quirks.cached_offset_counts {
                // What we have belongs to another shard: it says nothing about our place in this one.
                self.server.forget_position(cx);
            }
        }
        self.todo.save(Save::Write);
        cx.note(|| format!("follows {}", self.name(primary)));
        // Writes that were held back are told where to go.
        self.resume_writes(cx);
    }

    /// Drops the keys of slots that went to somebody else.
    pub(super) fn drop_slots(&mut self, lost: &[Slot]) {
        let gone: Vec<Key> = lost.iter().flat_map(|&slot| self.keys_in(slot)).collect();
        if !gone.is_empty() {
            self.server.store.execute(&Data::Del(gone));
        }
    }

    /// Says which shard it serves, if it is another one now. Who moved may have been heard of before whose slots they are.
    pub(super) fn refresh_shard(&mut self, cx: &mut Ctx<'_>) {
        let shard = self.shard_of(self.table.me);
        if shard != self.shard {
            self.shard = shard;
            self.server.move_to_shard(cx, shard);
        }
    }

    /// The keys of a slot that are here.
    pub(super) fn keys_in(&self, slot: Slot) -> impl Iterator<Item = Key> + '_ {
        let keys = self.server.store.entries().map(|(key, _)| key);
        keys.filter(move |key| super::commands::slot_of_key(key) == slot).cloned()
    }

    /// Holds writes back until then, or without end.
    pub(super) fn pause_writes(&mut self, cx: &mut Ctx<'_>, span: Option<Duration>) {
        let until = cx.now() + span.unwrap_or(WITHOUT_END);
        self.server.pause_writes(cx, until);
        self.hold_pings();
    }

    /// The replication PING moves the offset: while somebody waits for an exact one, none may be sent.
    pub(super) fn hold_pings(&mut self) {
        let manual = self.manual.replica.is_some() && !self.settings.quirks.pings_in_manual_pause;
        let ending = self.ending.holds_writes() && self.settings.shutdown_blocks_ping;
        self.server.hold_pings = manual || ending;
    }

    /// Executes what was held back, as if it came now.
    pub(super) fn resume_writes(&mut self, cx: &mut Ctx<'_>) {
        self.hold_pings();
        let gate = SlotGate { table: &self.table, settings: &self.settings, key_has_left: false };
        self.server.unpause(cx, &gate);
    }

    fn names_a_key_that_left(&mut self, message: &Redis) -> bool {
        let Redis::Command(Command::Data(data)) = message else { return false };
        let Some(key) = data.keys().first() else { return false };
        let leaving = self.table.migrating.contains_key(&super::commands::slot_of_key(key));
        leaving && self.server.store.stored(key).is_none()
    }

    /// A message on the client port: of a client, of a replica, or of our primary.
    pub(super) fn on_redis(&mut self, cx: &mut Ctx<'_>, session: SessionId, message: Redis) {
        if let Some(errand) = self.errand.as_ref().filter(|errand| errand.session == session) {
            let refused = matches!(&message, Redis::Reply(Reply::Error(_)));
            cx.note(|| format!("{:?} was answered: refused {refused}", errand.order));
            return;
        }
        if self.copies_on(session) {
            if let Redis::Reply(reply) = &message {
                self.on_copy_answer(cx, reply);
            }
            return;
        }
        let Some(message) = self.hold_while_copying(session, message) else { return };
        let streamed = matches!(message, Redis::Stream { .. });
        let key_has_left = !self.table.migrating.is_empty() && self.names_a_key_that_left(&message);
        let gate = SlotGate { table: &self.table, settings: &self.settings, key_has_left };
        let unknown = self.server.on_message(cx, session, message, &gate);
        if streamed {
            // A manual failover that waits for these bytes sees them at the next cron.
            if let Some(Command::Cluster(command)) = unknown {
                self.on_stream_order(cx, command);
            }
        } else if let Some(command) = unknown {
            let reply = self.on_cluster_command(cx, session, command);
            if let Some(reply) = reply {
                self.reply_when_saved(cx, session, reply);
            }
        }
    }
}
