//! Agreement among sentinels: is the primary down, and who acts (rules 2 to 5).

use super::SentinelSystem;
use super::instance::{Vote, Who};
use super::link::{Asked, older};
use super::node::{Sentinel, Stage};
use crate::contract::{Cx, Duration, Mark, Observation, Random, Role};
use crate::redis::admin::SentinelCommand;
use crate::redis::message::{Command, Reply};
use crate::redis::values::{Addr, RunId};
use alloc::collections::BTreeMap;
use alloc::format;

/// A peer is asked at most this often.
const ASK_PERIOD: Duration = Duration::from_secs(1);
/// An answer older than this is forgotten: five periods.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(5);
/// Drawn up to this and added to the start of an attempt, so that the next attempts of two sentinels part.
const DESYNC_MAX: Duration = Duration::from_secs(1);

impl Sentinel {
    /// Rule 2: declared down (`o_down`) while this sentinel suspects it and enough peers, asked in the last seconds, do
    /// too. Nobody is bound by it: it is this sentinel's count of other opinions.
    pub(super) fn check_declared(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize) {
        let group = &mut self.groups[index];
        let agreeing = 1 + group.peers.values().filter(|peer| peer.says_down).count();
        let declared = group.primary.suspected && agreeing >= group.limits.quorum as usize;
        if declared == group.declared {
            return;
        }
        group.declared = declared;
        let addr = group.primary.addr;
        if declared {
            self.mark(cx, index, Mark::Declared, addr);
        }
        self.event_about(cx, if declared { "+odown" } else { "-odown" }, index, Who::Primary);
    }

    /// Rule 3: a declared primary is failed over, unless an attempt is under way or one began, here or by a leader this
    /// sentinel voted for, less than twice the failover timeout ago.
    pub(super) fn start_failover_if_needed(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize) -> bool {
        let group = &self.groups[index];
        let pause = group.limits.failover_timeout * 2;
        if !group.declared || group.failover.stage != Stage::None {
            return false;
        }
        if group.failover.started_at.is_some_and(|at| cx.wall().micros_since(at) < pause.as_micros() as i64) {
            return false;
        }
        self.start_failover(cx, index, false);
        true
    }

    /// Opens a new epoch and stands for election in it.
    pub(super) fn start_failover(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, forced: bool) {
        let now = cx.wall();
        let desync = cx.random().duration(Duration::ZERO, DESYNC_MAX);
        self.epoch += 1;
        let failover = &mut self.groups[index].failover;
        failover.stage = Stage::WaitStart;
        failover.epoch = self.epoch;
        failover.started_at = Some(later(now, desync));
        failover.since = now;
        failover.forced = forced;
        self.unsaved = true;
        self.set_role(cx, Role::Candidate);
        cx.observe(Observation::Epoch(self.epoch));
        let epoch = self.epoch;
        self.event(cx, "+new-epoch", Some(index), move || format!("{epoch}"));
        self.event_about(cx, "+try-failover", index, Who::Primary);
    }

    /// Asks the peers what they think of the primary, and for their vote once a failover was started.
    pub(super) fn ask_peers(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, at_once: bool) {
        let now = cx.wall();
        let (epoch, run_id) = (self.epoch, self.run_id);
        let group = &mut self.groups[index];
        let candidate = (group.failover.stage != Stage::None).then_some(run_id);
        // A coordinated failover needs votes although nobody suspects the primary.
        let wanted = group.primary.suspected || group.failover.coordinated;
        let addr = group.primary.addr;
        for peer in group.peers.values_mut() {
            if older(now, peer.answered_at, ANSWER_AGE_MAX) {
                peer.says_down = false;
                peer.vote = None;
            }
            let due = at_once || older(now, peer.answered_at, ASK_PERIOD);
            if wanted && !peer.link.disconnected && due && !peer.link.is_clogged() {
                let question = SentinelCommand::IsPrimaryDown { addr, epoch, candidate };
                peer.link.send(cx, Command::Sentinel(question), Asked::Vote);
            }
        }
    }

    /// A peer asks. In TILT nothing is said to be down, but votes are given.
    pub(super) fn on_is_primary_down(
        &mut self,
        cx: &mut Cx<'_, SentinelSystem>,
        addr: Addr,
        epoch: u64,
        candidate: Option<RunId>,
    ) -> Reply {
        let Some(index) = self.groups.iter().position(|group| group.primary.addr == addr) else {
            return Reply::Vote { down: false, leader: None, epoch: 0 };
        };
        let down = self.groups[index].primary.suspected && !self.is_tilted();
        let vote = match candidate {
            Some(candidate) => self.vote(cx, index, epoch, candidate),
            None => Vote { leader: RunId::default(), epoch: 0 },
        };
        let leader = (vote.leader != RunId::default()).then_some(vote.leader);
        Reply::Vote { down, leader, epoch: vote.epoch }
    }

    /// Rule 4: one vote in an epoch, to the first who asks, saved before it is told. The voter need not think that the
    /// primary is down. Whoever votes for another leaves that one the time of two failover timeouts.
    fn vote(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, epoch: u64, candidate: RunId) -> Vote {
        self.see_epoch(cx, index, epoch);
        let now = cx.wall();
        let group = &mut self.groups[index];
        let free = group.leader_epoch < epoch || self.quirks.votes_twice;
        if free && self.epoch <= epoch {
            group.leader = Some(candidate);
            group.leader_epoch = self.epoch;
            self.unsaved = true;
            if candidate != self.run_id && !self.quirks.votes_without_lockout {
                let desync = cx.random().duration(Duration::ZERO, DESYNC_MAX);
                group.failover.started_at = Some(later(now, desync));
            }
            let text = format_vote(candidate, self.epoch);
            self.event(cx, "+vote-for-leader", Some(index), text);
        }
        let group = &self.groups[index];
        Vote { leader: group.leader.unwrap_or_default(), epoch: group.leader_epoch }
    }

    /// An epoch larger than ours was heard of, on account of this group.
    pub(super) fn see_epoch(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, epoch: u64) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.unsaved = true;
            cx.observe(Observation::Epoch(epoch));
            self.event(cx, "+new-epoch", Some(index), move || format!("{epoch}"));
        }
    }

    /// Rule 5: the leader of `epoch` has the votes of a majority of all sentinels ever heard of, and of a quorum. Votes
    /// of peers count only while their epoch is the newest this sentinel knows, so another group's failover can make
    /// them worthless.
    pub(super) fn elected(
        &mut self,
        cx: &mut Cx<'_, SentinelSystem>,
        index: usize,
        epoch: u64,
    ) -> Option<RunId> {
        let group = &self.groups[index];
        let voters = 1 + group.peers.len();
        let quorum = group.limits.quorum as usize;
        let mut votes: BTreeMap<RunId, usize> = BTreeMap::new();
        for vote in group.peers.values().filter_map(|peer| peer.vote) {
            if vote.epoch == self.epoch {
                *votes.entry(vote.leader).or_default() += 1;
            }
        }
        let front = front_runner(&votes);
        // A vote that is still free goes to the front runner, or to ourselves.
        let mine = self.vote(cx, index, epoch, front.map_or(self.run_id, |(id, _)| id));
        if mine.leader != RunId::default() && mine.epoch == epoch {
            *votes.entry(mine.leader).or_default() += 1;
        }
        let (leader, count) = front_runner(&votes)?;
        (count > voters / 2 && count >= quorum).then_some(leader)
    }
}

/// Who has the most votes; of equals the one with the smaller id.
fn front_runner(votes: &BTreeMap<RunId, usize>) -> Option<(RunId, usize)> {
    votes
        .iter()
        .map(|(id, count)| (*id, *count))
        .reduce(|best, next| if next.1 > best.1 { next } else { best })
}

fn later(now: crate::contract::WallTime, span: Duration) -> crate::contract::WallTime {
    crate::contract::WallTime(now.0 + span.as_micros() as i64)
}

fn format_vote(candidate: RunId, epoch: u64) -> impl FnOnce() -> alloc::string::String + Clone {
    move || format!("{} {epoch}", candidate.0)
}
