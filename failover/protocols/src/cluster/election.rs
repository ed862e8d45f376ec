//! Replica election (Redis cluster specification, "Replica election and promotion"): when the replicas of a failed
//! primary stand, how voters vote, and what the winner does.
//!
//! No two nodes may win the same epoch: a voter gives one vote an epoch and has it on disk before it leaves, and a
//! win needs a majority of the primaries with slots, the failed one counted.

use super::bus::{Body, Flags, Header, NodeId};
use super::node::{ClusterNode, Ctx, Save};
use super::settings::millis;
use super::state::Stamp;
use crate::contract::{LocalTime, Mark, Random};
use alloc::format;

/// Fixed and random part of a candidate's delay before Valkey 9, and the cost of a rank.
const DELAY_MS: i64 = 500;
const RANK_DELAY_MS: i64 = 1000;
/// From Valkey 9 the delay is a share of the node timeout, up to [`DELAY_MS`].
const SHORT_DELAY_SHARE: i64 = 30;
/// From Valkey 9 a replica that has no data yet waits longer: it must not win while a better one is on its way.
const NO_DATA_DELAY_MS: i64 = 500;
/// Least time for an election to be won in.
const AUTH_TIMEOUT_MIN_MS: i64 = 2000;
/// A voter helps the replicas of one primary at most once per so many node timeouts, where that rule exists.
const VOTE_SPACING_TIMEOUTS: i64 = 2;

/// A replica's candidacy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Election {
    /// When to ask for votes; never: no election was planned.
    pub auth_time: Stamp,
    /// Votes were asked for.
    pub sent: bool,
    /// Votes received.
    pub votes: usize,
    /// The epoch they are for.
    pub epoch: u64,
    /// Own rank among the replicas when the delay was computed.
    pub rank: u64,
    /// Rank of our primary among the failed ones.
    pub primary_rank: u64,
    /// We ask for votes even of those who see our primary alive.
    pub force_ack: bool,
}

impl ClusterNode {
    /// The election part of the cron; also called when something it waits for has happened.
    pub(super) fn handle_election(&mut self, cx: &mut Ctx<'_>, now: Stamp) {
        let Some(primary) = self.table.my_primary() else { return };
        if !self.may_stand(cx, primary) {
            return;
        }
        let timeout = (2 * self.settings.node_timeout_ms()).max(AUTH_TIMEOUT_MIN_MS);
        let age = now.since(self.election.auth_time);
        if age > 2 * timeout {
            return self.plan_election(cx, primary, now);
        }
        if !self.election.sent && !self.manual.is_running() {
            self.watch_rank(cx, primary);
        }
        if now < self.election.auth_time {
            if !self.stands_at_once(primary) || self.election.sent {
                return;
            }
            self.election.auth_time = now;
            self.election.force_ack = true;
        }
        if age > timeout {
            return;
        }
        if !self.election.sent {
            self.ask_for_votes(cx);
        } else if self.election.votes >= self.table.quorum() {
            self.win(cx, now);
        }
    }

    /// Whether we may ask for votes at all: our primary failed, or somebody wants the switch.
    fn may_stand(&self, cx: &Ctx<'_>, primary: NodeId) -> bool {
        let wanted = self.manual.is_running() && self.manual.can_start;
        let failed = self.table.flags(primary).any(Flags::FAIL);
        let willing = wanted || !self.table.flags(self.table.me).any(Flags::NO_FAILOVER);
        (failed || wanted)
            && willing
            && !self.table.peer(primary).slots.is_empty()
            && (wanted || self.data_is_young_enough(cx.now()))
    }

    /// Data older than `validity factor` node timeouts is too old to be worth serving. Seconds resolution.
    fn data_is_young_enough(&self, now: LocalTime) -> bool {
        let factor = i64::from(self.settings.replica_validity_factor);
        let timeout = self.settings.node_timeout_ms();
        let mut age = self.data_age_seconds(now) * 1000;
        if age > timeout {
            // The time until the failure was known is not the replica's fault.
            age -= timeout;
        }
        factor == 0 || age <= millis(self.settings.data.repl_ping_period) + factor * timeout
    }

    /// Sets the time to ask for votes, later for replicas with less data, and tells the siblings our offset so that
    /// their ranks are right.
    fn plan_election(&mut self, cx: &mut Ctx<'_>, primary: NodeId, now: Stamp) {
        if self.election.sent {
            cx.note(|| format!("gives up the election of epoch {}", self.election.epoch));
            self.mark_about(cx, Mark::Aborted, self.table.me);
        }
        let rank = self.rank(primary);
        let primary_rank = self.failed_primary_rank(primary);
        let delay = self.election_delay(cx, rank, primary_rank);
        self.election = Election { auth_time: now.plus(delay), rank, primary_rank, ..Election::default() };
        self.todo.election = true;
        if self.manual.is_running() {
            self.election = Election { auth_time: now, force_ack: true, ..Election::default() };
        } else if self.stands_at_once(primary) {
            self.election.auth_time = now;
            self.election.force_ack = true;
        }
        cx.note(|| {
            let wait = self.election.auth_time.since(now);
            format!("stands for election in {wait} ms (rank {rank}, offset {})", self.my_offset())
        });
        self.announce_to_siblings(cx);
        if self.election.auth_time == now && self.settings.rules.best_ranked_at_once {
            // Valkey 9 goes on in the same pass.
            self.ask_for_votes(cx);
        }
    }

    fn election_delay(&self, cx: &mut Ctx<'_>, rank: u64, primary_rank: u64) -> i64 {
        if !self.settings.rules.short_election_delay {
            let random = cx.random().between(0, DELAY_MS as u64 - 1) as i64;
            return DELAY_MS + random + rank as i64 * RANK_DELAY_MS;
        }
        let unit = (self.settings.node_timeout_ms() / SHORT_DELAY_SHARE).clamp(1, DELAY_MS);
        let random = cx.random().between(0, unit as u64 - 1) as i64;
        let no_data = if self.my_offset() == 0 { NO_DATA_DELAY_MS } else { 0 };
        unit + random + 2 * unit * rank as i64 + no_data + unit * primary_rank as i64
    }

    /// A sibling turned out to have more data, or another primary failed too: wait longer.
    fn watch_rank(&mut self, cx: &mut Ctx<'_>, primary: NodeId) {
        let rank = self.rank(primary);
        if rank > self.election.rank {
            let unit = if self.settings.rules.short_election_delay {
                2 * (self.settings.node_timeout_ms() / SHORT_DELAY_SHARE).clamp(1, DELAY_MS)
            } else {
                RANK_DELAY_MS
            };
            let more = (rank - self.election.rank) as i64 * unit;
            self.election.auth_time = self.election.auth_time.plus(more);
            self.election.rank = rank;
            cx.note(|| format!("rank is now {rank}: waits {more} ms longer"));
        }
        let primary_rank = self.failed_primary_rank(primary);
        if self.settings.rules.short_election_delay && primary_rank > self.election.primary_rank {
            let unit = (self.settings.node_timeout_ms() / SHORT_DELAY_SHARE).clamp(1, DELAY_MS);
            let more = (primary_rank - self.election.primary_rank) as i64 * unit;
            self.election.auth_time = self.election.auth_time.plus(more);
            self.election.primary_rank = primary_rank;
        }
    }

    /// How many siblings have more data (or, where that rule exists, as much and a smaller name).
    fn rank(&self, primary: NodeId) -> u64 {
        let (mine, me) = (self.my_offset(), self.table.me);
        let better = |&id: &NodeId| {
            let theirs = self.table.peer(id).offset;
            let tie = self.settings.rules.rank_tie_break && theirs == mine && id < me;
            id != me && !self.table.flags(id).any(Flags::NO_FAILOVER) && (theirs > mine || tie)
        };
        self.table.replicas_of(primary).filter(better).count() as u64
    }

    /// How many failed primaries come before ours: their elections go first, so that two shards do not ask for votes
    /// in the same epoch.
    fn failed_primary_rank(&self, primary: NodeId) -> u64 {
        let failed = |&id: &NodeId| self.table.is_voter(id) && self.table.flags(id).any(Flags::FAIL);
        self.table.ids().filter(|&id| id < primary).filter(failed).count() as u64
    }

    /// Whether nobody can rank before us: we have data, ours is the first failed shard, and all siblings know of the
    /// failure, so that their offsets will not grow any more.
    fn stands_at_once(&self, primary: NodeId) -> bool {
        let knows = |id: NodeId| id == self.table.me || self.table.peer(id).primary_failed;
        self.settings.rules.best_ranked_at_once
            && self.my_offset() != 0
            && self.rank(primary) == 0
            && self.failed_primary_rank(primary) == 0
            && self.table.flags(primary).any(Flags::FAIL)
            && self.table.replicas_of(primary).all(knows)
    }

    fn ask_for_votes(&mut self, cx: &mut Ctx<'_>) {
        self.table.current_epoch += 1;
        self.election.epoch = self.table.current_epoch;
        self.election.sent = true;
        self.election.votes = usize::from(self.manual.primary_votes);
        self.todo.save(Save::Sync);
        self.todo.state = true;
        let force = self.manual.is_running() || self.election.force_ack;
        self.broadcast_with(cx, Body::AuthRequest, force);
        cx.note(|| format!("asks for votes in epoch {}", self.election.epoch));
    }

    /// A vote: it counts if its voter has slots and knows of our epoch.
    pub(super) fn on_vote(&mut self, sender: NodeId, epoch: u64) {
        if self.table.is_voter(sender) && self.election.sent && epoch >= self.election.epoch {
            self.election.votes += 1;
            self.todo.election = true;
        }
    }

    /// A majority is ours.
    fn win(&mut self, cx: &mut Ctx<'_>, now: Stamp) {
        let Some(primary) = self.table.my_primary() else { return };
        self.mark_about(cx, Mark::Elected, self.table.me);
        cx.note(|| format!("won epoch {} with {} votes", self.election.epoch, self.election.votes));
        let me = self.table.me;
        if self.table.peer(me).config_epoch < self.election.epoch {
            self.table.peer_mut(me).config_epoch = self.election.epoch;
        }
        self.replace_primary(cx, primary, now);
    }

    /// Takes the place of our primary: role, slots, and the announcement to all.
    pub(super) fn replace_primary(&mut self, cx: &mut Ctx<'_>, primary: NodeId, now: Stamp) {
        let me = self.table.me;
        self.mark_about(cx, Mark::Promoting, me);
        self.table.set_role(me, None);
        let slots = self.table.peer(primary).slots.clone();
        self.table.transfer(&slots, Some(me));
        self.server.promote(cx);
        self.update_state(cx, now);
        self.todo.save(Save::Sync);
        self.mark_about(cx, Mark::Promoted, me);
        self.announce_to_all(cx);
        self.reset_manual(cx);
        self.election = Election::default();
    }

    /// A replica asks for our vote.
    pub(super) fn on_vote_request(&mut self, cx: &mut Ctx<'_>, request: &Header, now: Stamp) {
        if let Err(why) = self.judge_vote_request(cx, request, now) {
            cx.note(|| {
                format!("no vote for {} in epoch {}: {why}", self.name(request.sender), request.current_epoch)
            });
            return;
        }
        if let Some(primary) = self.table.peer(request.sender).replica_of {
            self.table.peer_mut(primary).voted_time = now;
        }
        self.table.last_vote_epoch = self.table.current_epoch;
        let durable = !self.settings.quirks.vote_before_save;
        self.todo.save(if durable { Save::Sync } else { Save::Write });
        self.send_link(cx, request.sender, Body::AuthAck);
        cx.note(|| format!("votes for {} in epoch {}", self.name(request.sender), self.table.current_epoch));
    }

    /// The rules of a vote. The voter does not compare offsets.
    fn judge_vote_request(
        &mut self,
        cx: &mut Ctx<'_>,
        request: &Header,
        now: Stamp,
    ) -> Result<(), &'static str> {
        if !self.table.is_voter(self.table.me) {
            return Err("it has no vote");
        }
        if self.settings.rules.safe_to_join && !self.is_safe_to_join(now) {
            return Err("it has just started");
        }
        if request.current_epoch < self.table.current_epoch {
            return Err("the epoch is over");
        }
        if self.table.last_vote_epoch == self.table.current_epoch {
            return Err("it has voted in this epoch");
        }
        let Some(primary) = self.table.peer(request.sender).replica_of else {
            return Err("the candidate is a primary");
        };
        if !self.table.flags(primary).any(Flags::FAIL) && !request.force_ack {
            return Err("the primary is up");
        }
        let spacing = VOTE_SPACING_TIMEOUTS * self.settings.node_timeout_ms();
        let voted = self.table.peer(primary).voted_time;
        if self.settings.rules.vote_spacing && voted.is_set() && now.since(voted) < spacing {
            return Err("it voted for this shard a short time ago");
        }
        match self.table.outdated_claim(request.sender, request.config_epoch, &request.slots) {
            None => Ok(()),
            Some(owner) => {
                if self.settings.rules.refusal_updates {
                    self.send_update(cx, request.sender, owner);
                }
                Err("the slots have a newer owner")
            }
        }
    }
}
