//! How the cluster's configuration spreads: what follows from the header of any message, who owns which slot, when
//! the cluster is in service, and how two primaries with one epoch part (Redis cluster specification, "Hash slots
//! configuration propagation", "UPDATE messages", "configEpoch conflicts resolution algorithm").

use super::bus::{Body, Flags, Header, NodeId};
use super::node::{ClusterNode, Ctx, Save};
use super::slots::{SLOTS, SlotSet};
use super::state::Stamp;
use crate::contract::Mark;
use alloc::format;

/// A primary that starts while the cluster is not in service waits this long before it believes that it is.
const WRITABLE_DELAY_MS: i64 = 2000;
/// Bounds of the time that a primary waits after it was in a minority; between them it is the node timeout.
const REJOIN_DELAY_MS: (i64, i64) = (500, 5000);

impl ClusterNode {
    /// What every message says of its sender: epochs and offset.
    pub(super) fn on_header(&mut self, header: &Header, now: Stamp) {
        let sender = header.sender;
        self.table.beats[sender.index()].data_received = now;
        self.table.current_epoch = self.table.current_epoch.max(header.current_epoch);
        if header.config_epoch > self.table.peer(sender).config_epoch {
            self.table.peer_mut(sender).config_epoch = header.config_epoch;
            self.todo.save(Save::Write);
            let outrun = self.election.sent && header.config_epoch >= self.election.epoch;
            if self.settings.rules.retry_on_lost_epoch && outrun {
                // Somebody won our epoch: start over at once rather than after the retry time.
                self.election.auth_time = Stamp::NEVER;
                self.election.sent = false;
            }
        }
        let peer = self.table.peer_mut(sender);
        peer.offset = header.offset;
        peer.primary_failed = header.primary_failed;
        if header.paused && self.table.my_primary() == Some(sender) {
            self.on_final_offset(header.offset);
        }
    }

    /// What heartbeats say of their sender: role and slots.
    pub(super) fn on_claims(&mut self, cx: &mut Ctx<'_>, header: &Header) {
        let sender = header.sender;
        if self.settings.rules.stale_headers_ignored && self.is_stale(header) {
            return;
        }
        self.learn_role(cx, sender, header.replica_of);
        if self.table.flags(sender).any(Flags::NO_FAILOVER) != header.flags.any(Flags::NO_FAILOVER) {
            let flags = self.table.flags_mut(sender);
            flags.clear(Flags::NO_FAILOVER);
            flags.set(if header.flags.any(Flags::NO_FAILOVER) {
                Flags::NO_FAILOVER
            } else {
                Flags::default()
            });
        }
        let head = header.replica_of.unwrap_or(sender);
        if head.index() < self.table.peers.len() && self.table.peer(head).slots != header.slots {
            if head == sender {
                self.on_claim(cx, sender, header.config_epoch, &header.slots);
            }
            if let Some(owner) = self.table.outdated_claim(sender, header.config_epoch, &header.slots) {
                self.send_update(cx, sender, owner);
            }
        }
        let me = self.table.me;
        let both_primaries = self.table.is_primary(sender) && self.table.is_primary(me);
        if both_primaries && header.config_epoch == self.table.peer(me).config_epoch {
            self.resolve_collision(cx, sender);
        }
    }

    /// A header from before a change that we know of already: it took the slower of the two links.
    fn is_stale(&self, header: &Header) -> bool {
        let known = self.table.peer(header.sender);
        header.replica_of.is_none() && header.config_epoch < known.config_epoch
            || header.replica_of != known.replica_of
                && header.replica_of.is_some_and(|head| {
                    head.index() < self.table.peers.len()
                        && header.config_epoch < self.table.peer(head).config_epoch
                })
    }

    fn learn_role(&mut self, cx: &mut Ctx<'_>, sender: NodeId, replica_of: Option<NodeId>) {
        if self.table.peer(sender).replica_of == replica_of {
            return;
        }
        if replica_of.is_some_and(|head| head.index() >= self.table.peers.len() || head == sender) {
            return;
        }
        if replica_of.is_some() && self.table.is_primary(sender) {
            self.table.strip_slots(sender);
        }
        self.table.set_role(sender, replica_of);
        self.todo.save(Save::Write);
        self.todo.state = true;
        cx.note(|| match replica_of {
            Some(head) => format!("sees {} as a replica of {}", self.name(sender), self.name(head)),
            None => format!("sees {} as a primary", self.name(sender)),
        });
        self.leave_sub_replica(cx);
    }

    /// Our primary became a replica of another node: follow that one instead.
    fn leave_sub_replica(&mut self, cx: &mut Ctx<'_>) {
        let Some(primary) = self.table.my_primary() else { return };
        let Some(grand) = self.table.peer(primary).replica_of else { return };
        if grand != self.table.me {
            self.follow(cx, grand);
        }
    }

    /// A primary claims slots.
    pub(super) fn on_claim(&mut self, cx: &mut Ctx<'_>, claimant: NodeId, epoch: u64, slots: &SlotSet) {
        let claimed = self.table.claim(claimant, epoch, slots);
        if !claimed.changed {
            return;
        }
        self.todo.save(Save::Sync);
        self.todo.state = true;
        self.mark_about(cx, Mark::Routed, claimant);
        if claimed.our_last_went && self.may_follow(claimant, slots) {
            cx.note(|| format!("{} took over all slots: follows it", self.name(claimant)));
            self.follow(cx, claimant);
        } else if !claimed.lost.is_empty() && self.table.is_primary(self.table.me) {
            self.drop_slots(&claimed.lost);
        }
    }

    /// Whether losing the last slot makes us a replica of the winner: always if replicas may migrate, else only if it
    /// took our place and nothing more.
    fn may_follow(&self, winner: NodeId, claim: &SlotSet) -> bool {
        self.settings.allow_replica_migration || self.table.peer(winner).slots == *claim
    }

    /// The owner of some slots tells it to a node that claims them under an older epoch.
    pub(super) fn send_update(&mut self, cx: &mut Ctx<'_>, to: NodeId, owner: NodeId) {
        let peer = self.table.peer(owner);
        let body = Body::Update { node: owner, config_epoch: peer.config_epoch, slots: peer.slots.clone() };
        self.send_link(cx, to, body);
    }

    /// We, or our view of somebody, are out of date.
    pub(super) fn on_update(&mut self, cx: &mut Ctx<'_>, node: NodeId, epoch: u64, slots: &SlotSet) {
        if node.index() >= self.table.peers.len() || self.table.peer(node).config_epoch >= epoch {
            return;
        }
        if !self.table.is_primary(node) {
            self.table.set_role(node, None);
        }
        self.table.peer_mut(node).config_epoch = epoch;
        self.todo.save(Save::Write);
        self.on_claim(cx, node, epoch, slots);
    }

    /// Two primaries with one configuration epoch: the one with the smaller name takes a new one, alone.
    fn resolve_collision(&mut self, cx: &mut Ctx<'_>, other: NodeId) {
        let me = self.table.me;
        if other <= me || self.settings.quirks.epoch_collisions_stay {
            return;
        }
        self.table.current_epoch += 1;
        self.table.peer_mut(me).config_epoch = self.table.current_epoch;
        self.todo.save(Save::Sync);
        cx.note(|| format!("epoch collides with {}: takes {}", self.name(other), self.table.current_epoch));
    }

    /// Judges whether the cluster is in service: every slot has an owner that has not failed, and we reach a majority
    /// of the primaries. Back in service only after a delay, so that what happened meanwhile can reach us first.
    pub(super) fn update_state(&mut self, cx: &mut Ctx<'_>, now: Stamp) {
        if !self.table.first_judged.is_set() {
            self.table.first_judged = now;
        }
        let primary = self.table.is_primary(self.table.me);
        let just_started = now.since(self.table.first_judged) < WRITABLE_DELAY_MS;
        if primary && !self.table.state_ok && just_started && !self.born_in_service {
            self.todo.state = true;
            return;
        }
        let reachable = self.table.count_voters();
        let uncovered = self.settings.require_full_coverage && self.table.covered() < SLOTS;
        let minority = reachable < self.table.quorum();
        if minority {
            self.table.minority_at = now;
        }
        let ok = !uncovered && !minority;
        if ok == self.table.state_ok {
            return;
        }
        let (least, most) = REJOIN_DELAY_MS;
        let rejoin = self.settings.node_timeout_ms().clamp(least, most);
        if ok && primary && self.table.minority_at.is_set() && now.since(self.table.minority_at) < rejoin {
            return;
        }
        self.table.state_ok = ok;
        cx.note(|| format!("cluster state is now {}", if ok { "ok" } else { "fail" }));
    }

    /// Whether our word in an election is informed: not right after a start out of service.
    pub(super) fn is_safe_to_join(&self, now: Stamp) -> bool {
        self.table.state_ok || now.since(self.table.first_judged) >= WRITABLE_DELAY_MS
    }
}
