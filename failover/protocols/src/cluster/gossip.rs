//! Heartbeats, gossip, and the failure detector (Redis cluster specification, "Heartbeat and gossip messages" and
//! "Failure detection"; behaviour as in Redis 7.0 and Valkey 8 to 9 where they agree).
//!
//! Each node dials a link to each other node and pings on it: one node a second that it has not heard of for the
//! longest among five random ones, and any that it has not heard of for half the node timeout. A PING unanswered for
//! the node timeout makes its target *suspected* (PFAIL). Pings and pongs carry opinions about random other nodes and
//! all suspected ones; when a majority of the primaries has called a node suspected lately, it is *failed* (FAIL),
//! and whoever found that out tells all.

use super::bus::{Body, Entry, Flags, NodeId};
use super::node::{ClusterNode, Ctx, Save};
use super::state::Stamp;
use crate::contract::{Mark, Random, SessionId};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

/// Random nodes looked at for the ping of each second.
const RANDOM_PING_CANDIDATES: usize = 5;
/// Cron runs in a second.
const CRONS_A_SECOND: u64 = 10;
/// Fewest random entries of a gossip section, if there are so many nodes.
const GOSSIP_ENTRIES_MIN: usize = 3;
/// A gossip section tells of one in so many nodes: with four sections exchanged per pair in a report's validity,
/// 8/10 of the primaries' opinions arrive in time.
const GOSSIP_SHARE: usize = 10;
/// How far ahead of our clock a PONG time in gossip may be.
const GOSSIP_FUTURE_MS: i64 = 500;
/// A report, and the FAIL flag of a primary that still owns slots, lasts so many node timeouts.
const FAIL_VALIDITY_TIMEOUTS: i64 = 2;

impl ClusterNode {
    /// The heartbeat part of the cron.
    pub(super) fn heartbeat(&mut self, cx: &mut Ctx<'_>, now: Stamp) {
        self.dial_missing(cx, now);
        if self.crons.is_multiple_of(CRONS_A_SECOND) {
            self.ping_stalest_of_random(cx, now);
        }
        self.watch(cx, now);
    }

    fn dial_missing(&mut self, cx: &mut Ctx<'_>, now: Stamp) {
        for at in 0..self.table.beats.len() {
            if !self.table.beats[at].linked && at != self.table.me.index() {
                self.dial(cx, NodeId(at as u16), now);
            }
        }
    }

    fn ping_stalest_of_random(&mut self, cx: &mut Ctx<'_>, now: Stamp) {
        let last = self.table.beats.len() as u64 - 1;
        let mut stalest: Option<usize> = None;
        for _ in 0..RANDOM_PING_CANDIDATES {
            let at = cx.random().between(0, last) as usize;
            let beat = &self.table.beats[at];
            if at == self.table.me.index() || !beat.linked || beat.ping_sent.is_set() {
                continue;
            }
            if stalest.is_none_or(|stale| beat.pong_received < self.table.beats[stale].pong_received) {
                stalest = Some(at);
            }
        }
        if let Some(at) = stalest {
            self.ping(cx, NodeId(at as u16), now);
        }
    }

    /// Looks at each node: stale links are dropped, pings that are due are sent, silence becomes suspicion.
    fn watch(&mut self, cx: &mut Ctx<'_>, now: Stamp) {
        let timeout = self.settings.node_timeout_ms();
        // Counted before anybody is suspected anew: this cron's pings do not tell of that yet, the next ones do.
        self.suspects = self.table.beats.iter().filter(|beat| beat.flags.any(Flags::PFAIL)).count();
        for at in 0..self.table.beats.len() {
            if at == self.table.me.index() {
                continue;
            }
            let beat = self.table.beats[at];
            let node = NodeId(at as u16);
            if beat.ping_sent.is_set() {
                self.watch_unanswered(cx, node, now, timeout);
            } else if beat.linked
                && (now.since(beat.pong_received) > timeout / 2 || self.wants_my_offset(node))
            {
                self.ping(cx, node, now);
            }
        }
    }

    /// A PING to this node is unanswered. Its age alone does not count: any bytes from the node are a sign of life.
    fn watch_unanswered(&mut self, cx: &mut Ctx<'_>, node: NodeId, now: Stamp, timeout: i64) {
        let beat = self.table.beats[node.index()];
        let silence = now.since(beat.ping_sent).min(now.since(beat.data_received));
        if silence > timeout / 2 && beat.linked && now.since(self.table.peer(node).link.since) > timeout {
            // The connection may be the problem, not the node: dial again, and keep the age of the PING.
            self.drop_link(cx, node);
        }
        if self.wants_my_offset(node) && beat.linked {
            self.ping(cx, node, now);
        }
        if silence > timeout && !self.table.is_unwell(node) {
            self.table.flags_mut(node).set(Flags::PFAIL);
            self.todo.state = true;
            self.mark_about(cx, Mark::Suspected, node);
            cx.note(|| format!("suspects {}: no sign of life for {silence} ms", self.name(node)));
        }
    }

    /// Sends a PING and begins to wait for its PONG, if none is awaited.
    pub(super) fn ping(&mut self, cx: &mut Ctx<'_>, node: NodeId, now: Stamp) {
        let gossip = self.gossip_for(cx, node);
        self.table.beats[node.index()].ping_sent = now;
        self.send_link(cx, node, Body::Ping(gossip));
    }

    /// A link that we dialled is open: greet at once, but an older unanswered PING keeps its age.
    pub(super) fn greet(&mut self, cx: &mut Ctx<'_>, node: NodeId, now: Stamp) {
        let waiting_since = self.table.beats[node.index()].ping_sent;
        self.ping(cx, node, now);
        if waiting_since.is_set() {
            self.table.beats[node.index()].ping_sent = waiting_since;
        }
    }

    /// Sends a PONG unasked to all, so that they learn of our new role or slots.
    pub(super) fn announce_to_all(&mut self, cx: &mut Ctx<'_>) {
        for node in self.table.ids() {
            self.pong_unasked(cx, node);
        }
    }

    /// Sends a PONG unasked to the other replicas of our primary, so that they learn our offset.
    pub(super) fn announce_to_siblings(&mut self, cx: &mut Ctx<'_>) {
        let Some(primary) = self.table.my_primary() else { return };
        let siblings: Vec<NodeId> = self.table.replicas_of(primary).collect();
        for node in siblings {
            self.pong_unasked(cx, node);
        }
    }

    fn pong_unasked(&mut self, cx: &mut Ctx<'_>, node: NodeId) {
        if node != self.table.me && self.table.beats[node.index()].linked {
            let gossip = self.gossip_for(cx, node);
            self.send_link(cx, node, Body::Pong(gossip));
        }
    }

    /// Answers a PING on the link that it came by.
    pub(super) fn answer_ping(&mut self, cx: &mut Ctx<'_>, session: SessionId, from: NodeId) {
        let gossip = self.gossip_for(cx, from);
        self.send_session(cx, session, Body::Pong(gossip));
    }

    /// The gossip section of a message: random well nodes, then all suspected ones.
    fn gossip_for(&mut self, cx: &mut Ctx<'_>, to: NodeId) -> Box<[Entry]> {
        let nodes = self.table.beats.len();
        let others = nodes.saturating_sub(2);
        let wanted = GOSSIP_ENTRIES_MIN.max(nodes / GOSSIP_SHARE).min(others);
        let mut entries = Vec::with_capacity(wanted + self.suspects);
        self.gossip_round = self.gossip_round.wrapping_add(1);
        let me = self.table.me;
        for _ in 0..wanted * 3 {
            if entries.len() == wanted {
                break;
            }
            let node = NodeId(cx.random().between(0, nodes as u64 - 1) as u16);
            let beat = &self.table.beats[node.index()];
            let unknown = !beat.linked && self.table.peer(node).slots.is_empty();
            if node == me || node == to || beat.flags.any(Flags::PFAIL) || unknown {
                continue;
            }
            if self.picked[node.index()] == self.gossip_round {
                continue;
            }
            self.picked[node.index()] = self.gossip_round;
            entries.push(self.entry(node));
        }
        if self.suspects > 0 {
            let suspected = self.table.ids().filter(|&node| self.table.flags(node).any(Flags::PFAIL));
            entries.extend(suspected.take(self.suspects).map(|node| self.entry(node)));
        }
        entries.into_boxed_slice()
    }

    fn entry(&self, node: NodeId) -> Entry {
        let beat = &self.table.beats[node.index()];
        let seconds = |stamp: Stamp| (stamp.0 / 1000) as u32;
        Entry {
            node,
            flags: beat.flags,
            ping_sent: seconds(beat.ping_sent),
            pong_received: seconds(beat.pong_received),
        }
    }

    /// A PONG on the link that we dialled: the node is well.
    pub(super) fn on_pong(&mut self, cx: &mut Ctx<'_>, node: NodeId, now: Stamp) {
        let beat = &mut self.table.beats[node.index()];
        beat.pong_received = now;
        beat.ping_sent = Stamp::NEVER;
        if beat.flags.any(Flags::PFAIL) {
            beat.flags.clear(Flags::PFAIL);
            self.todo.state = true;
        } else if beat.flags.any(Flags::FAIL) {
            self.maybe_forgive(cx, node, now);
        }
    }

    /// A failed node answers. One without slots is forgiven at once. One with slots only after a while, if nobody
    /// was elected in its place: until then an election may be under way.
    fn maybe_forgive(&mut self, cx: &mut Ctx<'_>, node: NodeId, now: Stamp) {
        let failed_for = now.since(self.table.peer(node).fail_time);
        let slow = self.table.is_voter(node);
        if !slow || failed_for > FAIL_VALIDITY_TIMEOUTS * self.settings.node_timeout_ms() {
            self.table.flags_mut(node).clear(Flags::FAIL);
            self.todo.state = true;
            self.todo.save(Save::Write);
            cx.note(|| format!("{} is well again", self.name(node)));
        }
    }

    /// The opinions of another node.
    pub(super) fn on_gossip(&mut self, cx: &mut Ctx<'_>, sender: NodeId, entries: &[Entry], now: Stamp) {
        let counts = self.table.is_primary(sender);
        for entry in entries {
            let Some(beat) = self.table.beats.get(entry.node.index()) else { continue };
            let unwell = entry.flags.any(Flags::PFAIL.with(Flags::FAIL));
            if unwell {
                if counts && entry.node != self.table.me {
                    self.on_report(cx, sender, entry.node, now);
                }
                continue;
            }
            if counts && beat.reports > 0 {
                self.table.drop_report(entry.node, sender);
            }
            let beat = &mut self.table.beats[entry.node.index()];
            let pong = Stamp(i64::from(entry.pong_received) * 1000);
            // Somebody else heard of it: good enough, as long as nobody doubts it.
            if !beat.ping_sent.is_set()
                && beat.reports == 0
                && pong.0 <= now.0 + GOSSIP_FUTURE_MS
                && pong > beat.pong_received
            {
                beat.pong_received = pong;
            }
        }
    }

    fn on_report(&mut self, cx: &mut Ctx<'_>, by: NodeId, against: NodeId, now: Stamp) {
        if self.settings.rules.only_voters_report && !self.table.is_voter(by) {
            return;
        }
        self.table.add_report(against, by, now);
        self.maybe_fail(cx, against, now);
    }

    /// Marks a node failed if we suspect it ourselves and a majority of the primaries reported it lately.
    fn maybe_fail(&mut self, cx: &mut Ctx<'_>, node: NodeId, now: Stamp) {
        if !self.table.flags(node).any(Flags::PFAIL) || self.table.flags(node).any(Flags::FAIL) {
            return;
        }
        let validity = FAIL_VALIDITY_TIMEOUTS * self.settings.node_timeout_ms();
        let reports = self.table.fresh_reports(node, now, validity);
        let me = self.table.me;
        let counts = if self.settings.rules.only_voters_report {
            self.table.is_voter(me)
        } else {
            self.table.is_primary(me)
        };
        let own_word = usize::from(counts);
        if reports + own_word < self.table.quorum() {
            return;
        }
        self.set_failed(cx, node, now);
        // All that can be reached should know as we do; a replica helps too, or its voters would refuse it.
        if self.table.is_primary(self.table.me) || !self.settings.quirks.replica_keeps_fail_to_itself {
            self.broadcast(cx, Body::Fail(node));
        }
    }

    /// Another node knows of a majority against `node`: its word is enough.
    pub(super) fn on_fail(&mut self, cx: &mut Ctx<'_>, node: NodeId, now: Stamp) {
        if node.index() < self.table.peers.len()
            && node != self.table.me
            && !self.table.flags(node).any(Flags::FAIL)
        {
            self.set_failed(cx, node, now);
        }
    }

    fn set_failed(&mut self, cx: &mut Ctx<'_>, node: NodeId, now: Stamp) {
        let flags = self.table.flags_mut(node);
        flags.clear(Flags::PFAIL);
        flags.set(Flags::FAIL);
        self.table.peer_mut(node).fail_time = now;
        self.todo.state = true;
        self.todo.save(Save::Write);
        if self.settings.rules.best_ranked_at_once && self.table.my_primary() == Some(node) {
            self.todo.election = true;
        }
        self.mark_about(cx, Mark::Declared, node);
        cx.note(|| format!("marks {} failed", self.name(node)));
    }
}
