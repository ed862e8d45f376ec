//! What a node knows of the cluster: the table of nodes, who owns which slot, and the epochs.
//!
//! Rules here are pure: they change the table and say what follows. Times are milliseconds of the node's own wall
//! clock, as in the original, which never compares them with another node's but for the PONG times in gossip.

use super::bus::{Flags, NodeId, Packet};
use super::settings::{NodeSpec, Settings};
use super::slots::{SLOTS, Slot, SlotSet};
use crate::contract::{LocalTime, SessionId};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A moment of this node's wall clock, in milliseconds. Zero: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub i64);

impl Stamp {
    /// It has not happened.
    pub const NEVER: Stamp = Stamp(0);

    /// Whether it has happened.
    pub fn is_set(self) -> bool {
        self.0 != 0
    }

    /// Milliseconds since `earlier`; negative after a step of the clock.
    pub fn since(self, earlier: Stamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `ms` later.
    pub fn plus(self, ms: i64) -> Stamp {
        Stamp(self.0.saturating_add(ms))
    }
}

/// What the failure detector touches of a node at each cron and each gossip entry: small and together, because a
/// cluster of N nodes holds N x N of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beat {
    /// Since when we wait for a PONG; never: we wait for none.
    pub ping_sent: Stamp,
    /// The last PONG we got or believe in.
    pub pong_received: Stamp,
    /// The last bytes from the node.
    pub data_received: Stamp,
    /// Its flags.
    pub flags: Flags,
    /// How many failure reports stand against it.
    pub reports: u16,
    /// Whether a link was dialled.
    pub linked: bool,
}

/// A primary's word that a node does not answer.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Whose.
    pub by: NodeId,
    /// When last repeated.
    pub at: Stamp,
}

/// The link that we dialled to a node; the one it dialled to us is only ever answered on.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// The session, dialled or open.
    pub session: Option<SessionId>,
    /// Whether it is open.
    pub open: bool,
    /// When it was dialled.
    pub since: Stamp,
    /// Until when the peer may owe us an acknowledgement of small data in flight.
    pub unacked_until: LocalTime,
    /// What waits for the link to open or for that acknowledgement.
    pub held: Vec<Arc<Packet>>,
}

/// What is known of a node beside its [`Beat`].
#[derive(Clone, Debug)]
pub struct Peer {
    /// The epoch of its slots.
    pub config_epoch: u64,
    /// The slots it owns, as far as we know.
    pub slots: SlotSet,
    /// Its primary.
    pub replica_of: Option<NodeId>,
    /// Its replication offset as last heard.
    pub offset: u64,
    /// It is a replica that told us that its primary failed.
    pub primary_failed: bool,
    /// Since when it is marked failed.
    pub fail_time: Stamp,
    /// When we last voted for one of its replicas.
    pub voted_time: Stamp,
    /// Since when it has no good replica.
    pub orphaned_since: Stamp,
    /// Failure reports against it.
    pub reports: Vec<Report>,
    /// Our link to it.
    pub link: Link,
}

/// A node as its configuration file keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SavedNode {
    /// Its primary.
    pub replica_of: Option<NodeId>,
    /// Marked failed.
    pub failed: bool,
    /// The epoch of its slots.
    pub config_epoch: u64,
    /// Its slots.
    pub slots: Vec<(u16, u16)>,
}

/// `nodes.conf`: what a node must not forget.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Saved {
    /// The largest epoch seen.
    pub current_epoch: u64,
    /// The epoch of the last vote given.
    pub last_vote_epoch: u64,
    /// All nodes, by id.
    pub nodes: Vec<SavedNode>,
}

/// The cluster as one node sees it.
#[derive(Clone, Debug)]
pub struct Table {
    /// This node.
    pub me: NodeId,
    /// The failure detector's part, by node.
    pub beats: Vec<Beat>,
    /// The rest, by node.
    pub peers: Vec<Peer>,
    /// The largest epoch seen.
    pub current_epoch: u64,
    /// The epoch of our last vote.
    pub last_vote_epoch: u64,
    /// Primaries with slots: whose majority decides.
    pub size: usize,
    /// Whether the cluster is in service as far as we can tell.
    pub state_ok: bool,
    /// When we last saw ourselves among a minority.
    pub minority_at: Stamp,
    /// When the state was first judged since our start.
    pub first_judged: Stamp,
    /// Slots that are leaving us, and whereto.
    pub migrating: BTreeMap<Slot, NodeId>,
    /// Slots that are coming to us, and wherefrom.
    pub importing: BTreeMap<Slot, NodeId>,
    owners: Owners,
}

/// Who owns each slot. Nodes that agree since the cluster was created share one table: 32 KiB once, not once a node.
#[derive(Clone, Debug)]
pub struct Owners(Arc<[u16]>);

/// Nobody, in the compact table of slot owners.
const NOBODY: u16 = u16::MAX;

impl Owners {
    /// Nobody owns anything.
    pub fn none() -> Owners {
        Owners(Arc::from([NOBODY; SLOTS]))
    }

    /// The owners in a cluster as it was created.
    pub fn created(nodes: &[NodeSpec]) -> Owners {
        let mut owners = Owners::none();
        for (at, node) in nodes.iter().enumerate() {
            node.slots.iter().for_each(|slot| owners.set(slot, Some(NodeId(at as u16))));
        }
        owners
    }

    fn get(&self, slot: Slot) -> Option<NodeId> {
        let owner = self.0[usize::from(slot.0)];
        (owner != NOBODY).then_some(NodeId(owner))
    }

    fn set(&mut self, slot: Slot, owner: Option<NodeId>) {
        Arc::make_mut(&mut self.0)[usize::from(slot.0)] = owner.map_or(NOBODY, |owner| owner.0);
    }
}

/// What followed from a claim of slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// Some slot changed hands.
    pub changed: bool,
    /// Our own, or our primary's, last slot went to the claimant.
    pub our_last_went: bool,
    /// Slots that we lost while others remain ours: their keys must go.
    pub lost: Vec<Slot>,
}

impl Table {
    /// The table of a cluster as it was created.
    pub fn created(settings: &Settings, me: NodeId) -> Table {
        let mut table = Table::blank(me, settings.nodes.len());
        table.owners = settings.owners.clone();
        for (at, node) in settings.nodes.iter().enumerate() {
            table.enter(NodeId(at as u16), node.replica_of, node.config_epoch, &node.slots);
        }
        table.current_epoch = settings.nodes.iter().map(|node| node.config_epoch).max().unwrap_or(0);
        table.finish(settings)
    }

    /// The table that an earlier incarnation saved.
    pub fn restored(settings: &Settings, me: NodeId, saved: &Saved, now: Stamp) -> Table {
        let mut table = Table::blank(me, settings.nodes.len());
        for (at, node) in saved.nodes.iter().enumerate() {
            let slots = SlotSet::from_ranges(&node.slots);
            table.enter(NodeId(at as u16), node.replica_of, node.config_epoch, &slots);
            slots.iter().for_each(|slot| table.owners.set(slot, Some(NodeId(at as u16))));
            if node.failed && at != me.index() {
                table.beats[at].flags.set(Flags::FAIL);
                table.peers[at].fail_time = now;
            }
        }
        table.current_epoch = saved.current_epoch;
        table.last_vote_epoch = saved.last_vote_epoch;
        table.finish(settings)
    }

    fn blank(me: NodeId, nodes: usize) -> Table {
        assert!(me.index() < nodes, "a node must be one of the cluster");
        let peer = Peer {
            config_epoch: 0,
            slots: SlotSet::empty(),
            replica_of: None,
            offset: 0,
            primary_failed: false,
            fail_time: Stamp::NEVER,
            voted_time: Stamp::NEVER,
            orphaned_since: Stamp::NEVER,
            reports: Vec::new(),
            link: Link::default(),
        };
        Table {
            me,
            beats: vec![Beat::default(); nodes],
            peers: vec![peer; nodes],
            current_epoch: 0,
            last_vote_epoch: 0,
            size: 0,
            state_ok: false,
            minority_at: Stamp::NEVER,
            first_judged: Stamp::NEVER,
            migrating: BTreeMap::new(),
            importing: BTreeMap::new(),
            owners: Owners::none(),
        }
    }

    fn enter(&mut self, node: NodeId, replica_of: Option<NodeId>, config_epoch: u64, slots: &SlotSet) {
        self.set_role(node, replica_of);
        let peer = &mut self.peers[node.index()];
        peer.config_epoch = config_epoch;
        peer.slots = slots.clone();
    }

    fn finish(mut self, settings: &Settings) -> Table {
        for (at, node) in settings.nodes.iter().enumerate() {
            if node.no_failover {
                self.beats[at].flags.set(Flags::NO_FAILOVER);
            }
        }
        self.size = self.voters();
        self
    }

    /// What must be durable.
    pub fn saved(&self) -> Saved {
        let nodes = self.ids().map(|id| SavedNode {
            replica_of: self.peer(id).replica_of,
            failed: self.flags(id).any(Flags::FAIL),
            config_epoch: self.peer(id).config_epoch,
            slots: self.peer(id).slots.ranges(),
        });
        Saved {
            current_epoch: self.current_epoch,
            last_vote_epoch: self.last_vote_epoch,
            nodes: nodes.collect(),
        }
    }

    /// All nodes.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.peers.len() as u16).map(NodeId)
    }

    /// A node's entry.
    pub fn peer(&self, id: NodeId) -> &Peer {
        &self.peers[id.index()]
    }

    /// A node's entry, to change.
    pub fn peer_mut(&mut self, id: NodeId) -> &mut Peer {
        &mut self.peers[id.index()]
    }

    /// A node's flags.
    pub fn flags(&self, id: NodeId) -> Flags {
        self.beats[id.index()].flags
    }

    /// A node's flags, to change.
    pub fn flags_mut(&mut self, id: NodeId) -> &mut Flags {
        &mut self.beats[id.index()].flags
    }

    /// Whether it is a primary.
    pub fn is_primary(&self, id: NodeId) -> bool {
        self.flags(id).any(Flags::PRIMARY)
    }

    /// Whether its word counts in a majority: a primary with slots.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.is_primary(id) && !self.peer(id).slots.is_empty()
    }

    /// Whether it is suspected or failed here.
    pub fn is_unwell(&self, id: NodeId) -> bool {
        self.flags(id).any(Flags::PFAIL.with(Flags::FAIL))
    }

    /// Our primary, if we are a replica.
    pub fn my_primary(&self) -> Option<NodeId> {
        self.peer(self.me).replica_of
    }

    /// The node whose slots and configuration epoch we speak for: ourselves or our primary.
    pub fn my_head(&self) -> NodeId {
        self.my_primary().unwrap_or(self.me)
    }

    /// The replicas of a primary.
    pub fn replicas_of(&self, primary: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.ids().filter(move |&id| self.peer(id).replica_of == Some(primary))
    }

    /// Who owns a slot.
    pub fn owner(&self, slot: Slot) -> Option<NodeId> {
        self.owners.get(slot)
    }

    /// How many make a majority.
    pub fn quorum(&self) -> usize {
        self.size / 2 + 1
    }

    fn voters(&self) -> usize {
        self.ids().filter(|&id| self.is_voter(id)).count()
    }

    /// A node becomes a primary (`None`) or the replica of another.
    pub fn set_role(&mut self, id: NodeId, replica_of: Option<NodeId>) {
        self.peer_mut(id).replica_of = replica_of;
        let (is, was) = match replica_of {
            None => (Flags::PRIMARY, Flags::REPLICA),
            Some(_) => (Flags::REPLICA, Flags::PRIMARY),
        };
        let flags = self.flags_mut(id);
        flags.clear(was);
        flags.set(is);
        if is == Flags::PRIMARY {
            flags.set(Flags::MIGRATE_TO);
        }
    }

    /// Takes all slots from a node.
    pub fn strip_slots(&mut self, id: NodeId) {
        for slot in self.peer(id).slots.clone().iter() {
            self.owners.set(slot, None);
        }
        self.peer_mut(id).slots = SlotSet::empty();
    }

    /// Gives one slot to a node, or to nobody.
    pub fn assign(&mut self, slot: Slot, to: Option<NodeId>) {
        let moved = SlotSet::from_ranges(&[(slot.0, slot.0)]);
        self.transfer(&moved, to);
    }

    /// Gives these slots to a node, whoever had them.
    pub fn transfer(&mut self, slots: &SlotSet, to: Option<NodeId>) {
        let mut touched: Vec<NodeId> = to.into_iter().collect();
        for slot in slots.iter() {
            let owner = self.owner(slot);
            touched.extend(owner.filter(|owner| !touched.contains(owner)));
            self.owners.set(slot, to);
        }
        for id in touched {
            let peer = self.peer_mut(id);
            peer.slots = if Some(id) == to { peer.slots.with(slots) } else { peer.slots.without(slots) };
        }
    }

    /// A primary claims slots under an epoch: what is unowned or owned under a smaller epoch becomes its own.
    pub fn claim(&mut self, claimant: NodeId, epoch: u64, slots: &SlotSet) -> Claimed {
        let mut claimed = Claimed::default();
        if claimant == self.me {
            return claimed;
        }
        let head = self.my_head();
        let mut won: Vec<Slot> = Vec::new();
        let mut head_lost = false;
        for slot in slots.iter() {
            let yields = match self.owner(slot) {
                Some(owner) if owner == claimant => false,
                Some(owner) => self.peer(owner).config_epoch < epoch,
                None => true,
            };
            if yields {
                head_lost |= self.owner(slot) == Some(head);
                if self.owner(slot) == Some(self.me) {
                    claimed.lost.push(slot);
                }
                won.push(slot);
            }
        }
        if won.is_empty() {
            return claimed;
        }
        let ranges: Vec<(u16, u16)> = won.iter().map(|slot| (slot.0, slot.0)).collect();
        self.transfer(&SlotSet::from_ranges(&ranges), Some(claimant));
        if self.peer(claimant).slots == *slots {
            // Share the sender's set: the next header from it compares equal by pointer.
            self.peer_mut(claimant).slots = slots.clone();
        }
        claimed.changed = true;
        claimed.our_last_went = head_lost && self.peer(head).slots.is_empty();
        claimed
    }

    /// The first slot of `claim` that somebody else owns under a larger epoch than `epoch`.
    pub fn outdated_claim(&self, claimant: NodeId, epoch: u64, claim: &SlotSet) -> Option<NodeId> {
        let owners = claim.iter().filter_map(|slot| self.owner(slot));
        owners.filter(|&owner| owner != claimant).find(|&owner| self.peer(owner).config_epoch > epoch)
    }

    /// Slots that are owned, and not by a failed node.
    pub fn covered(&self) -> usize {
        let good = self.ids().filter(|&id| !self.flags(id).any(Flags::FAIL));
        good.map(|id| self.peer(id).slots.len()).sum()
    }

    /// Recounts the voters; returns how many of them we can reach, ourselves included.
    pub fn count_voters(&mut self) -> usize {
        self.size = self.voters();
        self.ids().filter(|&id| self.is_voter(id) && !self.is_unwell(id)).count()
    }

    /// Notes a primary's report against a node; true if it is a new one.
    pub fn add_report(&mut self, against: NodeId, by: NodeId, now: Stamp) -> bool {
        let reports = &mut self.peers[against.index()].reports;
        if let Some(report) = reports.iter_mut().find(|report| report.by == by) {
            report.at = now;
            return false;
        }
        reports.push(Report { by, at: now });
        self.beats[against.index()].reports = reports.len() as u16;
        true
    }

    /// A primary no longer reports a node.
    pub fn drop_report(&mut self, against: NodeId, by: NodeId) {
        let reports = &mut self.peers[against.index()].reports;
        reports.retain(|report| report.by != by);
        self.beats[against.index()].reports = reports.len() as u16;
    }

    /// Reports against a node that are not older than `validity` milliseconds; older ones are forgotten.
    pub fn fresh_reports(&mut self, against: NodeId, now: Stamp, validity: i64) -> usize {
        let reports = &mut self.peers[against.index()].reports;
        reports.retain(|report| now.since(report.at) <= validity);
        self.beats[against.index()].reports = reports.len() as u16;
        reports.len()
    }

    /// Largest epoch anywhere in the table.
    pub fn epoch_max(&self) -> u64 {
        self.peers.iter().map(|peer| peer.config_epoch).fold(self.current_epoch, u64::max)
    }
}
