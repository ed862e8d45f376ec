//! What the elected sentinel does (rules 6 to 10), and what every sentinel does about nodes whose role is not what the
//! configuration says.

use super::SentinelSystem;
use super::instance::{Instance, Repoint, Who};
use super::link::{Asked, PING_PERIOD, older};
use super::node::{Group, Sentinel, Stage};
use super::scripts::Caller;
use crate::contract::{Cx, Duration, Mark, Role, WallTime};
use crate::redis::message::{ClientType, Command};
use crate::redis::values::{Addr, RunId};
use alloc::format;
use alloc::vec::Vec;

/// An election ends without a winner after this, or after the failover timeout if that is shorter.
const ELECTION_MAX: Duration = Duration::from_secs(10);
/// A replica that was sent SLAVEOF and shows no progress for this long counts as done.
const REPOINT_MAX: Duration = Duration::from_secs(10);
/// How long a node that reports to be a primary is left alone: four hello periods, for a newer configuration to come.
const CONVERT_WAIT: Duration = Duration::from_secs(8);
/// INFO of a candidate may be this old while the primary is down: five INFO periods of a second each.
const INFO_AGE_MAX_URGENT: Duration = Duration::from_secs(5);
/// And this old otherwise: three periods of ten seconds.
const INFO_AGE_MAX: Duration = Duration::from_secs(30);
/// A candidate answered a PING in the last five periods.
const AVAILABLE_AGE_MAX: Duration = Duration::from_secs(5);

impl Sentinel {
    /// One step of the failover under way, if there is one. Each stage takes a tick at least.
    pub(super) fn failover_step(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize) {
        match self.groups[index].failover.stage {
            Stage::None | Stage::Switch => {}
            Stage::WaitStart => self.wait_for_election(cx, index),
            Stage::Select => self.select(cx, index),
            Stage::AskPrimary => self.ask_primary(cx, index),
            Stage::Promote => self.promote(cx, index),
            Stage::WaitPromotion => self.wait_for_promotion(cx, index),
            Stage::Repoint => self.repoint_next(cx, index),
        }
    }

    fn enter(&mut self, cx: &Cx<'_, SentinelSystem>, index: usize, stage: Stage) {
        let failover = &mut self.groups[index].failover;
        failover.stage = stage;
        failover.since = cx.wall();
    }

    fn stage_is_older(&self, cx: &Cx<'_, SentinelSystem>, index: usize, limit: Duration) -> bool {
        older(cx.wall(), Some(self.groups[index].failover.since), limit)
    }

    fn wait_for_election(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize) {
        let epoch = self.groups[index].failover.epoch;
        let leads = self.elected(cx, index, epoch) == Some(self.run_id);
        let group = &self.groups[index];
        if !leads && (!group.failover.forced || group.failover.coordinated) {
            let limit = ELECTION_MAX.min(group.limits.failover_timeout);
            if older(cx.wall(), group.failover.started_at, limit) {
                self.abort(cx, index, "-failover-abort-not-elected");
            }
            return;
        }
        let about = group.primary.addr;
        self.mark(cx, index, Mark::Elected, about);
        self.set_role(cx, Role::Leader);
        self.event_about(cx, "+elected-leader", index, Who::Primary);
        self.enter(cx, index, Stage::Select);
        self.event_about(cx, "+failover-state-select-slave", index, Who::Primary);
    }

    /// Rule 6: of the replicas that are well, the one with the lowest priority number, then the largest offset as of its
    /// last INFO, then the smallest id.
    fn select(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize) {
        let Some(addr) = self.groups[index].best_replica(cx.wall()) else {
            self.abort(cx, index, "-failover-abort-no-good-slave");
            return;
        };
        let group = &mut self.groups[index];
        group.failover.promoted = Some(addr);
        let next = if group.failover.coordinated { Stage::AskPrimary } else { Stage::Promote };
        self.event_about(cx, "+selected-slave", index, Who::Replica(addr));
        self.enter(cx, index, next);
        self.event_about(cx, "+failover-state-send-slaveof-noone", index, Who::Replica(addr));
    }

    /// The coordinated way (Valkey 9.0): the primary is told to pause writes and to hand over.
    fn ask_primary(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize) {
        let timeout = self.groups[index].limits.failover_timeout;
        let group = &mut self.groups[index];
        let Some(to) = group.failover.promoted else { return };
        let link = &mut group.primary.link;
        if !link.disconnected && link.commands.is_some() {
            let failover = Command::Failover { to: Some(to), force: false, timeout, abort: false };
            for command in [Command::Multi, Command::ClientPause(timeout), failover, Command::Exec] {
                link.send(cx, command, Asked::Other);
            }
            self.mark(cx, index, Mark::Promoting, to);
            self.enter(cx, index, Stage::WaitPromotion);
        } else if self.stage_is_older(cx, index, timeout) {
            self.abort(cx, index, "-failover-abort-slave-timeout");
        }
    }

    /// Rule 7: SLAVEOF NO ONE to the selected replica, as soon as it is connected.
    fn promote(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize) {
        let group = &mut self.groups[index];
        let limit = group.limits.failover_timeout;
        let Some(addr) = group.failover.promoted else { return };
        let Some(replica) = group.replicas.get_mut(&addr) else { return };
        if replica.link.disconnected || !send_replica_of(cx, replica, None) {
            if self.stage_is_older(cx, index, limit) {
                self.abort(cx, index, "-failover-abort-slave-timeout");
            }
            return;
        }
        self.mark(cx, index, Mark::Promoting, addr);
        self.enter(cx, index, Stage::WaitPromotion);
        self.event_about(cx, "+failover-state-wait-promotion", index, Who::Replica(addr));
    }

    /// Rule 8: wait until its INFO says that it is a primary. If that takes too long the failover is given up, although
    /// the node may well have been promoted; nobody takes that back but the rule for nodes in the wrong role.
    fn wait_for_promotion(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize) {
        if self.stage_is_older(cx, index, self.groups[index].limits.failover_timeout) {
            self.abort(cx, index, "-failover-abort-slave-timeout");
        }
    }

    /// A node that is listed as a replica says that it is a primary.
    pub(super) fn on_replica_is_primary(
        &mut self,
        cx: &mut Cx<'_, SentinelSystem>,
        index: usize,
        addr: Addr,
    ) {
        let failover = &self.groups[index].failover;
        if failover.promoted == Some(addr) {
            if failover.stage == Stage::WaitPromotion {
                self.on_promoted(cx, index, addr);
            }
            return;
        }
        self.convert_to_replica(cx, index, addr);
    }

    /// The promotion is known to have succeeded: the configuration of this failover's epoch is told to everybody.
    fn on_promoted(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, addr: Addr) {
        let group = &mut self.groups[index];
        group.config_epoch = group.failover.epoch;
        if group.failover.coordinated {
            // Nothing needs the old primary's clients to stay where they are.
            group.primary.link.send(cx, Command::ClientKill(ClientType::Normal), Asked::Other);
            group.primary.link.send(cx, Command::ClientKill(ClientType::Subscriber), Asked::Other);
        }
        let from = group.primary.addr;
        self.unsaved = true;
        self.mark(cx, index, Mark::Promoted, addr);
        self.enter(cx, index, Stage::Repoint);
        self.event_about(cx, "+promoted-slave", index, Who::Replica(addr));
        self.event_about(cx, "+failover-state-reconf-slaves", index, Who::Primary);
        self.reconfigure_clients(index, Caller::Leader, from, addr);
        self.greet_soon(cx, index);
    }

    /// Rule 9: point the other replicas at the new primary, a few at a time.
    fn repoint_next(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize) {
        let now = cx.wall();
        let group = &mut self.groups[index];
        let Some(promoted) = group.failover.promoted else { return };
        let under_way = |replica: &&Instance| matches!(replica.repoint, Repoint::Sent | Repoint::InProgress);
        let mut count = group.replicas.values().filter(under_way).count();
        let mut told = Vec::new();
        for (&addr, replica) in &mut group.replicas {
            if count >= group.limits.parallel_syncs as usize {
                break;
            }
            if addr == promoted || replica.repoint == Repoint::Done {
                continue;
            }
            if replica.repoint == Repoint::Sent && older(now, replica.repoint_sent_at, REPOINT_MAX) {
                replica.repoint = Repoint::Done;
                told.push(("-slave-reconf-sent-timeout", addr));
            }
            if replica.repoint != Repoint::None || replica.link.disconnected {
                continue;
            }
            if send_replica_of(cx, replica, Some(promoted)) {
                replica.repoint = Repoint::Sent;
                replica.repoint_sent_at = Some(now);
                count += 1;
                told.push(("+slave-reconf-sent", addr));
            }
        }
        told.into_iter().for_each(|(event, addr)| self.event_about(cx, event, index, Who::Replica(addr)));
        self.check_end(cx, index, promoted);
    }

    /// The failover ends when every reachable replica is done, or time is up; then the rest is told and left.
    fn check_end(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, promoted: Addr) {
        let limit = self.groups[index].limits.failover_timeout;
        let late = self.stage_is_older(cx, index, limit);
        let spares_promoted = !self.quirks.repoints_promoted_on_timeout;
        let group = &mut self.groups[index];
        if group.replicas.get(&promoted).is_none_or(|replica| replica.suspected) {
            return;
        }
        let waiting = |(addr, replica): (&Addr, &Instance)| {
            *addr != promoted && replica.repoint != Repoint::Done && !replica.suspected
        };
        if !late && group.replicas.iter().any(waiting) {
            return;
        }
        if late {
            for (&addr, replica) in &mut group.replicas {
                let spared = addr == promoted && spares_promoted;
                let told = matches!(replica.repoint, Repoint::Done | Repoint::Sent);
                if !spared
                    && !told
                    && !replica.link.disconnected
                    && send_replica_of(cx, replica, Some(promoted))
                {
                    replica.repoint = Repoint::Sent;
                }
            }
            self.event_about(cx, "+failover-end-for-timeout", index, Who::Primary);
        }
        self.event_about(cx, "+failover-end", index, Who::Primary);
        self.enter(cx, index, Stage::Switch);
    }

    /// Rule 10: the configuration of this sentinel itself changes last.
    pub(super) fn switch_to_promoted(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize) {
        let Some(promoted) = self.groups[index].failover.promoted else { return };
        self.switch(cx, index, promoted);
        self.mark(cx, index, Mark::Settled, promoted);
        self.set_role(cx, Role::Follower);
    }

    /// Another node is primary from now on: what was known of the group's nodes is forgotten, the old primary is listed
    /// as a replica, the peers stay.
    pub(super) fn switch(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, to: Addr) {
        let now = cx.wall();
        let forgets_peers = self.quirks.forgets_peers_on_switch;
        let group = &mut self.groups[index];
        let from = group.primary.addr;
        let mut replicas: Vec<Addr> = group.replicas.keys().copied().chain([from]).collect();
        replicas.retain(|addr| *addr != to);
        group.primary.link.close(cx);
        group.replicas.values_mut().for_each(|replica| replica.link.close(cx));
        group.primary = Instance::new(to, now, true);
        group.replicas = replicas.into_iter().map(|addr| (addr, Instance::new(addr, now, false))).collect();
        if forgets_peers {
            group.peers.values_mut().for_each(|peer| peer.link.close(cx));
            group.peers.clear();
        }
        group.leader = None;
        group.declared = false;
        group.failover.stage = Stage::None;
        group.failover.promoted = None;
        group.failover.forced = false;
        group.failover.coordinated = false;
        group.failover.started_at = None;
        let name = group.name.clone();
        self.unsaved = true;
        self.mark(cx, index, Mark::Routed, to);
        self.event(cx, "+switch-master", Some(index), move || {
            format!("{name} {} {} {} {}", from.ip(), from.port(), to.ip(), to.port())
        });
    }

    /// Gives a failover up. What was done stays done.
    pub(super) fn abort(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, why: &'static str) {
        let about = self.groups[index].primary.addr;
        let failover = &mut self.groups[index].failover;
        failover.stage = Stage::None;
        failover.promoted = None;
        failover.forced = false;
        failover.coordinated = false;
        failover.since = cx.wall();
        self.mark(cx, index, Mark::Aborted, about);
        self.set_role(cx, Role::Follower);
        self.event_about(cx, why, index, Who::Primary);
    }

    // --- nodes in the wrong role ---

    /// A node that should be a replica says it is a primary: an old primary that came back. It is left alone for a
    /// while, in case it is the primary of a configuration that has not arrived yet; then it is made a replica, and what
    /// it acknowledged meanwhile is lost. Any sentinel may do it.
    fn convert_to_replica(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, addr: Addr) {
        let now = cx.wall();
        let wait = if self.quirks.converts_at_once { Duration::ZERO } else { CONVERT_WAIT };
        let group = &mut self.groups[index];
        let primary = group.primary.addr;
        let sane = group.primary.is_sane_primary(now, group.declared);
        let Some(replica) = group.replicas.get_mut(&addr) else { return };
        let waited = wait.is_zero()
            || (replica.no_down_for(now, wait) && older(now, Some(replica.role_reported_since), wait));
        if sane && waited && send_replica_of(cx, replica, Some(primary)) {
            self.event_about(cx, "+convert-to-slave", index, Who::Replica(addr));
        }
    }

    /// A replica that follows is where it should be, or is on its way there, or is pointed there after a long wait.
    pub(super) fn on_replica_follows(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, addr: Addr) {
        let now = cx.wall();
        let group = &mut self.groups[index];
        let (primary, promoted) = (group.primary.addr, group.failover.promoted);
        let sane = group.primary.is_sane_primary(now, group.declared);
        let wait = group.limits.failover_timeout;
        let Some(replica) = group.replicas.get_mut(&addr) else { return };
        let mut told = Vec::new();
        if replica.follows != Some(primary)
            && sane
            && replica.no_down_for(now, wait)
            && older(now, Some(replica.follows_since), wait)
            && send_replica_of(cx, replica, Some(primary))
        {
            told.push("+fix-slave-config");
        }
        if replica.repoint == Repoint::Sent && promoted.is_some() && replica.follows == promoted {
            replica.repoint = Repoint::InProgress;
            told.push("+slave-reconf-inprog");
        }
        if replica.repoint == Repoint::InProgress && replica.link_up {
            replica.repoint = Repoint::Done;
            told.push("+slave-reconf-done");
        }
        told.into_iter().for_each(|event| self.event_about(cx, event, index, Who::Replica(addr)));
    }
}

impl Group {
    /// The replica to promote.
    pub(super) fn best_replica(&self, now: WallTime) -> Option<Addr> {
        let well = |replica: &&Instance| self.is_candidate(now, replica);
        let unknown_last = |id: Option<RunId>| (id.is_none(), id);
        let rank = |replica: &&Instance| {
            (replica.priority, core::cmp::Reverse(replica.offset), unknown_last(replica.run_id))
        };
        self.replicas.values().filter(well).min_by_key(rank).map(|replica| replica.addr)
    }

    fn is_candidate(&self, now: WallTime, replica: &Instance) -> bool {
        let suspected_for = match (self.primary.suspected, self.primary.suspected_since) {
            (true, Some(since)) => Duration::from_micros(now.micros_since(since).max(0) as u64),
            _ => Duration::ZERO,
        };
        let link_down_max = suspected_for + self.limits.down_after * 10;
        let info_age_max = if self.primary.suspected { INFO_AGE_MAX_URGENT } else { INFO_AGE_MAX };
        !replica.suspected
            && !replica.link.disconnected
            && !older(now, Some(replica.link.available_at), AVAILABLE_AGE_MAX)
            && replica.priority != 0
            && !older(now, replica.info_at, info_age_max)
            && replica.link_down <= link_down_max
    }
}

/// SLAVEOF as a transaction that also makes the role survive a restart, and cuts clients off so that they ask anew
/// where the primary is. Replies are not looked at.
fn send_replica_of(cx: &mut Cx<'_, SentinelSystem>, instance: &mut Instance, primary: Option<Addr>) -> bool {
    if instance.link.commands.is_none() {
        return false;
    }
    for command in [
        Command::Multi,
        Command::ReplicaOf(primary),
        Command::ConfigRewrite,
        Command::ClientKill(ClientType::Normal),
        Command::ClientKill(ClientType::Subscriber),
        Command::Exec,
    ] {
        instance.link.send(cx, command, Asked::Other);
    }
    true
}

const _: () = assert!(AVAILABLE_AGE_MAX.as_secs() == 5 * PING_PERIOD.as_secs());
