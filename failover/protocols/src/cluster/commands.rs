//! What clients and operators ask of a cluster node: which keys are served here, and the CLUSTER commands.

use super::bus::{Flags, NodeId};
use super::node::{ClusterNode, Ctx, Save};
use super::settings::Settings;
use super::slots::{SLOTS, Slot, slot_of, slot_of_number};
use super::state::Table;
use crate::contract::SessionId;
use crate::redis::admin::{ClusterCommand, SlotState, TakeOver};
use crate::redis::connection::Connection;
use crate::redis::data::Data;
use crate::redis::message::{Command, Error, Reply, Shutdown};
use crate::redis::server::Gate;
use crate::redis::values::{Datum, Hex, Key, RunId};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

impl NodeId {
    /// The id as the 40 digits of the wire.
    pub fn run_id(self) -> RunId {
        let mut bytes = [0x1d; 20];
        bytes[..2].copy_from_slice(&self.0.to_be_bytes());
        RunId(Hex(bytes))
    }

    /// The node with these 40 digits.
    pub fn from_run_id(id: RunId) -> Option<NodeId> {
        let node = NodeId(u16::from_be_bytes([id.0.0[0], id.0.0[1]]));
        (node.run_id() == id).then_some(node)
    }
}

/// The slot of a key.
pub fn slot_of_key(key: &Key) -> Slot {
    match key {
        Key::Numbered(number) => slot_of_number(*number),
        Key::Named(bytes) => slot_of(bytes),
    }
}

/// Decides whether this node serves a command's keys, and says who does if not.
pub(super) struct SlotGate<'a> {
    pub table: &'a Table,
    pub settings: &'a Settings,
    /// The command's key is in a slot that is leaving, and is not here (any more).
    pub key_has_left: bool,
}

impl Gate for SlotGate<'_> {
    fn admit(&self, connection: &Connection, command: &Data) -> Result<(), Error> {
        let mut keys = command.keys().iter().map(slot_of_key);
        let Some(slot) = keys.next() else { return Ok(()) };
        if keys.any(|other| other != slot) {
            return Err(Error::CrossSlot);
        }
        let Some(owner) = self.table.owner(slot) else { return Err(Error::SlotNotServed) };
        if !self.table.state_ok && (command.is_write() || !self.settings.allow_reads_when_down) {
            return Err(Error::ClusterDown);
        }
        let me = self.table.me;
        if owner == me {
            // A slot that is leaving is served here as long as its keys are here; those that are not may have left.
            return match self.table.migrating.get(&slot) {
                Some(&to) if self.key_has_left => {
                    Err(Error::Ask { slot: slot.0, to: self.settings.nodes[to.index()].client })
                }
                _ => Ok(()),
            };
        }
        if self.table.importing.contains_key(&slot) && connection.asking {
            return Ok(());
        }
        let replica_read =
            connection.read_only && !command.is_write() && self.table.my_primary() == Some(owner);
        if replica_read {
            return Ok(());
        }
        Err(Error::Moved { slot: slot.0, to: self.settings.nodes[owner.index()].client })
    }
}

impl ClusterNode {
    /// An order in the replication stream: only FAILOVER means anything there.
    pub(super) fn on_stream_order(&mut self, cx: &mut Ctx<'_>, command: ClusterCommand) {
        let ClusterCommand::Failover { mode, only } = command else { return };
        if only.is_some_and(|id| id != self.table.me.run_id()) {
            return;
        }
        self.on_failover_order(cx, mode, only.is_none());
    }

    /// A command that a plain data node does not know. `None`: the answer comes later, or never.
    pub(super) fn on_cluster_command(
        &mut self,
        cx: &mut Ctx<'_>,
        session: SessionId,
        command: Command,
    ) -> Option<Reply> {
        let command = match command {
            Command::Cluster(command) => command,
            Command::Migrate { to, keys, timeout } => {
                return self.on_migrate(cx, session, to, keys, timeout);
            }
            Command::Shutdown(how) => return self.on_shutdown_command(cx, how),
            _ => return Some(Reply::Error(Error::Other("ERR unknown command".into()))),
        };
        Some(match command {
            ClusterCommand::Slots => self.slots_reply(),
            ClusterCommand::Shards => self.shards_reply(),
            ClusterCommand::Nodes => Reply::Text(self.nodes_text().into()),
            ClusterCommand::Info => Reply::Text(self.info_text().into()),
            ClusterCommand::MyId => Reply::Text(format!("{}", self.table.me.run_id().0).into()),
            ClusterCommand::GetKeysInSlot { slot, count } => {
                let keys = self.keys_in(Slot(slot)).take(count as usize);
                Reply::List(keys.map(|key| Datum::from_bytes(&key.to_bytes())).collect())
            }
            ClusterCommand::KeySlot(key) => Reply::Integer(i64::from(slot_of_key(&key).0)),
            ClusterCommand::Failover { mode, .. } => {
                let now = self.now(cx);
                match self.on_failover_command(cx, mode, now) {
                    Ok(()) => Reply::Ok,
                    Err(why) => Reply::Error(Error::Other(format!("ERR {why}").into())),
                }
            }
            ClusterCommand::Replicate(id) => self.on_replicate(cx, id),
            ClusterCommand::SetSlot { slot, state } => self.on_set_slot(cx, slot, state),
            ClusterCommand::BumpEpoch => {
                self.bump_epoch_alone();
                Reply::Simple(format!("BUMPED {}", self.table.peer(self.table.me).config_epoch).into())
            }
            ClusterCommand::Meet(_)
            | ClusterCommand::Forget(_)
            | ClusterCommand::AddSlots(..)
            | ClusterCommand::DelSlots(..)
            | ClusterCommand::Reset { .. } => {
                Reply::Error(Error::Other("ERR the membership of this cluster is fixed".into()))
            }
        })
    }

    fn on_shutdown_command(&mut self, cx: &mut Ctx<'_>, how: Shutdown) -> Option<Reply> {
        if how.abort {
            let aborted = self.abort_shutdown(cx);
            let none = || Reply::Error(Error::Other("ERR No shutdown in progress.".into()));
            return Some(if aborted { Reply::Ok } else { none() });
        }
        self.on_shutdown_asked(how.now, how.failover);
        // At once, not at the next cron; the connection ends with the process.
        let now = self.now(cx);
        self.handle_ending(cx, now);
        None
    }

    fn on_replicate(&mut self, cx: &mut Ctx<'_>, id: RunId) -> Reply {
        let known = NodeId::from_run_id(id).filter(|node| node.index() < self.table.peers.len());
        let Some(primary) = known.filter(|&node| node != self.table.me && self.table.is_primary(node)) else {
            return Reply::Error(Error::Other("ERR Unknown node, or not a primary".into()));
        };
        if self.table.is_voter(self.table.me) {
            return Reply::Error(Error::Other("ERR To set a primary the node must be empty".into()));
        }
        self.follow(cx, primary);
        self.todo.save(Save::Sync);
        Reply::Ok
    }

    /// SETSLOT: the steps of moving a slot; its keys move by MIGRATE.
    fn on_set_slot(&mut self, cx: &mut Ctx<'_>, slot: u16, state: SlotState) -> Reply {
        let known = |id| NodeId::from_run_id(id).filter(|node| node.index() < self.table.peers.len());
        let slot = Slot(slot);
        if usize::from(slot.0) >= SLOTS {
            return Reply::Error(Error::Other("ERR Invalid or out of range slot".into()));
        }
        let unknown = || Reply::Error(Error::Other("ERR I don't know about that node".into()));
        match state {
            SlotState::Stable => {
                self.table.migrating.remove(&slot);
                self.table.importing.remove(&slot);
            }
            SlotState::Migrating(id) => match known(id) {
                Some(to) => drop(self.table.migrating.insert(slot, to)),
                None => return unknown(),
            },
            SlotState::Importing(id) => match known(id) {
                Some(from) => drop(self.table.importing.insert(slot, from)),
                None => return unknown(),
            },
            SlotState::Node(id) => match known(id) {
                Some(owner) if self.gives_away_keys(slot, owner) => {
                    let text = "ERR Can't assign hashslot to a different node while I still hold keys for it";
                    return Reply::Error(Error::Other(text.into()));
                }
                Some(owner) => self.set_slot_owner(cx, slot, owner),
                None => return unknown(),
            },
        }
        self.todo.save(Save::Sync);
        Reply::Ok
    }

    fn gives_away_keys(&self, slot: Slot, owner: NodeId) -> bool {
        let me = self.table.me;
        self.table.owner(slot) == Some(me) && owner != me && self.keys_in(slot).next().is_some()
    }

    /// The importer takes a new epoch for its slot without asking anybody; the exporter forgets the migration.
    fn set_slot_owner(&mut self, cx: &mut Ctx<'_>, slot: Slot, owner: NodeId) {
        let me = self.table.me;
        let imported = self.table.importing.remove(&slot).is_some() && owner == me;
        let left = self.table.owner(slot) == Some(me) && owner != me;
        self.table.migrating.remove(&slot);
        self.table.assign(slot, Some(owner));
        if left && self.table.peer(me).slots.is_empty() && self.settings.allow_replica_migration {
            // Its last slot: it becomes a replica of the taker.
            self.follow(cx, owner);
        }
        if imported {
            self.bump_epoch_alone();
            self.announce_to_all(cx);
        }
    }

    fn slots_reply(&self) -> Reply {
        let mut entries = Vec::new();
        for id in self.table.ids().filter(|&id| self.table.is_voter(id)) {
            let replicas: Vec<NodeId> = self
                .table
                .replicas_of(id)
                .filter(|&replica| !self.table.flags(replica).any(Flags::FAIL))
                .collect();
            for (first, last) in self.table.peer(id).slots.ranges() {
                let mut entry =
                    vec![Reply::Integer(first.into()), Reply::Integer(last.into()), self.node_reply(id)];
                entry.extend(replicas.iter().map(|&replica| self.node_reply(replica)));
                entries.push(Reply::Array(entry));
            }
        }
        Reply::Array(entries)
    }

    fn node_reply(&self, id: NodeId) -> Reply {
        let address = self.settings.nodes[id.index()].client;
        Reply::Array(vec![
            Reply::Text(format!("{}", address.ip()).into()),
            Reply::Integer(address.port().into()),
            Reply::Text(format!("{}", id.run_id().0).into()),
            Reply::Array(Vec::new()),
        ])
    }

    fn shards_reply(&self) -> Reply {
        let text = |text: &str| Reply::Text(text.into());
        let shards = self.table.ids().filter(|&id| self.table.is_voter(id)).map(|primary| {
            let ranges = self.table.peer(primary).slots.ranges();
            let slots = ranges.iter().flat_map(|&(first, last)| [first, last]);
            let slots = slots.map(|slot| Reply::Integer(slot.into())).collect();
            let nodes = core::iter::once(primary).chain(self.table.replicas_of(primary));
            let nodes = nodes.map(|id| {
                let address = self.settings.nodes[id.index()].client;
                let failed = self.table.flags(id).any(Flags::FAIL);
                let offset = if id == self.table.me { self.my_offset() } else { self.table.peer(id).offset };
                Reply::Map(vec![
                    (text("id"), text(&format!("{}", id.run_id().0))),
                    (text("port"), Reply::Integer(address.port().into())),
                    (text("ip"), text(&format!("{}", address.ip()))),
                    (text("endpoint"), text(&format!("{}", address.ip()))),
                    (text("role"), text(if id == primary { "master" } else { "replica" })),
                    (text("replication-offset"), Reply::Integer(offset as i64)),
                    (text("health"), text(if failed { "failed" } else { "online" })),
                ])
            });
            let nodes = nodes.collect();
            Reply::Map(vec![(text("slots"), Reply::Array(slots)), (text("nodes"), Reply::Array(nodes))])
        });
        Reply::Array(shards.collect())
    }

    fn nodes_text(&self) -> String {
        self.table.ids().map(|id| self.node_line(id)).collect()
    }

    fn node_line(&self, id: NodeId) -> String {
        let (beat, peer) = (&self.table.beats[id.index()], self.table.peer(id));
        let spec = &self.settings.nodes[id.index()];
        let mut flags = String::from(if id == self.table.me { "myself," } else { "" });
        flags += if peer.replica_of.is_some() { "slave" } else { "master" };
        for (flag, word) in
            [(Flags::PFAIL, ",fail?"), (Flags::FAIL, ",fail"), (Flags::NO_FAILOVER, ",nofailover")]
        {
            flags += if beat.flags.any(flag) { word } else { "" };
        }
        let primary = peer.replica_of.map_or_else(|| "-".into(), |primary| format!("{}", primary.run_id().0));
        let link = if id == self.table.me || peer.link.open { "connected" } else { "disconnected" };
        let ranges = peer.slots.ranges();
        let slots: String = (ranges.iter())
            .map(|(first, last)| if first == last { format!(" {first}") } else { format!(" {first}-{last}") })
            .collect();
        format!(
            "{} {}@{} {flags} {primary} {} {} {} {link}{slots}\n",
            id.run_id().0,
            spec.client,
            spec.bus.port(),
            beat.ping_sent.0,
            beat.pong_received.0,
            peer.config_epoch,
        )
    }

    fn info_text(&self) -> String {
        let assigned: usize = self.table.ids().map(|id| self.table.peer(id).slots.len()).sum();
        format!(
            "cluster_state:{}\r\ncluster_slots_assigned:{assigned}\r\ncluster_slots_ok:{}\r\n\
             cluster_known_nodes:{}\r\ncluster_size:{}\r\ncluster_current_epoch:{}\r\ncluster_my_epoch:{}\r\n",
            if self.table.state_ok { "ok" } else { "fail" },
            self.table.covered(),
            self.table.peers.len(),
            self.table.size,
            self.table.current_epoch,
            self.table.peer(self.table.my_head()).config_epoch,
        )
    }

    /// A primary that ends tells us to take over.
    fn on_failover_order(&mut self, cx: &mut Ctx<'_>, mode: TakeOver, bare: bool) {
        let now = self.now(cx);
        match self.on_failover_command(cx, mode, now) {
            // The released form must win without the leaver; the form before it counted the leaver's word as a vote.
            Ok(()) => self.manual.primary_votes = bare,
            Err(why) => cx.note(|| format!("does not obey the order to take over: {why}")),
        }
    }
}
