//! Failover: ask the instances how much they have, choose, and write the new MAIN into Raft in one entry.

use super::super::state::Mode;
use super::super::storage::EpochId;
use super::*;

/// An instance that answered.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    id: InstanceId,
    told: Histories,
}

/// How much an instance has.
#[derive(Clone, Debug)]
pub(super) struct Histories {
    pub(super) system_timestamp: u64,
    pub(super) committed: u64,
    pub(super) timestamp: u64,
    /// Epochs with the last timestamp in each, the current one last.
    pub(super) epochs: Vec<(EpochId, u64)>,
}

impl Coordinator {
    /// Begins: every registered instance is asked, one after the other, the dead MAIN too (it may answer again).
    pub(super) fn try_failover(&mut self, cx: &mut Cx<'_, Memgraph>, owner: Owner) {
        self.failover_began = cx.now();
        self.work = Some(Work { owner, doing: Doing::Asking { next: 0, candidates: Vec::new() } });
        self.ask_next(cx);
    }

    fn ask_next(&mut self, cx: &mut Cx<'_, Memgraph>) {
        let sync_only = self.cluster.settings.sync_failover_only;
        let Some(Work { doing: Doing::Asking { next, candidates }, .. }) = &mut self.work else { return };
        while let Some(instance) = self.cluster.instances.get(*next) {
            *next += 1;
            if sync_only && instance.mode == Mode::Async {
                continue;
            }
            if let Some(connector) = self.connectors.get_mut(&instance.id) {
                return connector.rpc.call(cx, Purpose::Histories, Call::GetDatabaseHistories);
            }
        }
        let candidates = core::mem::take(candidates);
        let asked = cx.now().since(self.failover_began);
        self.metrics.add("get_histories_microseconds", asked.as_micros() as u64);
        match choose(self.config.choice, &candidates) {
            Some(winner) if self.config.locked => {
                let alive: Vec<InstanceId> = candidates.iter().map(|candidate| candidate.id).collect();
                self.begin_locked(cx, winner, &alive);
            }
            Some(winner) => self.record_failover(cx, winner),
            None => {
                self.metrics.add("no_alive_instance_failed_failovers", 1);
                self.failover_ended(cx, false);
            }
        }
    }

    /// An instance told how much it has, or did not answer.
    pub(super) fn history_told(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        id: InstanceId,
        told: Option<Histories>,
    ) {
        let eligible = told.as_ref().is_some_and(|told| self.is_recent(told.committed));
        if let Some(Work { doing: Doing::Asking { candidates, .. }, .. }) = &mut self.work {
            if let (Some(told), true) = (told, eligible) {
                candidates.push(Candidate { id, told });
            }
            self.ask_next(cx);
        }
    }

    /// Not further behind MAIN, as we last heard of it, than the setting allows.
    fn is_recent(&self, committed: u64) -> bool {
        let limit = self.cluster.settings.max_failover_replica_lag;
        let lag = |main: u64| {
            if self.config.quirks.unsigned_lag {
                main.wrapping_sub(committed)
            } else {
                main.saturating_sub(committed)
            }
        };
        self.main_committed.is_none_or(|main| lag(main) <= limit)
    }

    /// One entry: the winner, the others, and a new uuid. No instance is told anything: their next pings will show
    /// what they need.
    fn record_failover(&mut self, cx: &mut Cx<'_, Memgraph>, winner: InstanceId) {
        let uuid = self.new_uuid(cx);
        let delta =
            Delta { instances: Some(self.appoint(winner, uuid)), main_uuid: Some(uuid), ..Delta::default() };
        let ticket = self.ticket();
        let Some(work) = &mut self.work else { return };
        work.doing = Doing::Committing { winner, ticket };
        if self.raft.propose(cx, ticket, delta).is_err() {
            return self.failover_ended(cx, false);
        }
        self.after_raft(cx);
    }

    /// The instances with a new MAIN among them.
    fn appoint(&self, winner: InstanceId, uuid: Uuid) -> Vec<DataInstance> {
        let mut instances = self.cluster.with_main(winner, uuid);
        if self.config.quirks.main_by_status_only {
            for (instance, before) in instances.iter_mut().zip(&self.cluster.instances) {
                let alive = self.connectors.get(&before.id).is_some_and(|connector| connector.alive);
                if before.status == super::super::state::Status::Main && !alive {
                    *instance = before.clone();
                }
            }
        }
        instances
    }

    /// A uuid that nobody had before.
    pub(super) fn new_uuid(&self, cx: &mut Cx<'_, Memgraph>) -> Uuid {
        let number = self.raft.term().0 << 32 | self.raft.last().index.next().0;
        Uuid { number, random: cx.random().between(1, u64::MAX) }
    }

    /// The entry is committed; or it may be later, and counts as failed.
    pub(super) fn failover_recorded(&mut self, cx: &mut Cx<'_, Memgraph>, winner: InstanceId, done: bool) {
        if done {
            cx.mark(Mark::Elected, self.observed(winner));
            self.failover_settled(cx);
        } else {
            self.metrics.add("raft_failed_failovers", 1);
            self.failover_ended(cx, false);
        }
    }

    /// Raft says who is MAIN.
    pub(super) fn failover_settled(&mut self, cx: &mut Cx<'_, Memgraph>) {
        let took = cx.now().since(self.failover_began);
        self.metrics.add("successful_failovers", 1);
        self.metrics.add("data_failover_microseconds", took.as_micros() as u64);
        self.swaps = self.cluster.instances.iter().map(|instance| instance.id).collect();
        self.suspected = false;
        self.failover_ended(cx, true);
    }

    fn failover_ended(&mut self, cx: &mut Cx<'_, Memgraph>, done: bool) {
        if !done {
            cx.mark(Mark::Aborted, None);
        }
        match (self.work.as_ref().map(|work| work.owner), done) {
            (Some(Owner::Reconcile), true) => {
                self.work = None;
                self.ready(cx);
            }
            (Some(Owner::Reconcile), false) => {
                self.work = None;
                self.reconcile_failed(cx);
            }
            (Some(Owner::Callback(_) | Owner::Query) | None, _) => self.release(cx),
        }
    }
}

/// The winner; among equals, the first by name. There is one database, so the points that each database gives, and the
/// sum over all of them, come to the same.
fn choose(choice: Choice, candidates: &[Candidate]) -> Option<InstanceId> {
    let newest = candidates.iter().map(|candidate| candidate.told.system_timestamp).max()?;
    let knows_all = |candidate: &&Candidate| candidate.told.system_timestamp == newest;
    let amount: fn(&Histories) -> u64 = match choice {
        Choice::Commits => |told| told.committed,
        Choice::Timestamps => |told| told.timestamp,
        Choice::Epochs => return choose_by_epochs(candidates),
        Choice::FirstAlive => return candidates.first().map(|candidate| candidate.id),
    };
    let most = candidates.iter().filter(knows_all).map(|candidate| amount(&candidate.told)).max()?;
    candidates.iter().find(|candidate| amount(&candidate.told) >= most).map(|candidate| candidate.id)
}

/// One candidate after the other: its epochs are walked from the newest back, and the largest timestamp so far is kept
/// with its epoch, until an epoch that the best so far is in too.
fn choose_by_epochs(candidates: &[Candidate]) -> Option<InstanceId> {
    let mut best: Option<(InstanceId, EpochId, u64)> = None;
    for candidate in candidates {
        for (epoch, timestamp) in candidate.told.epochs.iter().rev() {
            let (common, larger) = match best {
                Some((_, best_epoch, best_timestamp)) => (best_epoch == *epoch, *timestamp > best_timestamp),
                None => (true, true),
            };
            if larger {
                best = Some((candidate.id, *epoch, *timestamp));
            }
            if common {
                break;
            }
        }
    }
    best.map(|(id, ..)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn candidate(id: u16, committed: u64) -> Candidate {
        let epochs = vec![(EpochId(1), committed)];
        Candidate {
            id: InstanceId(id),
            told: Histories { system_timestamp: 0, committed, timestamp: committed, epochs },
        }
    }

    #[test]
    fn the_most_committed_transactions_win_and_then_the_first_name() {
        for choice in [Choice::Commits, Choice::Timestamps, Choice::Epochs] {
            assert_eq!(choose(choice, &[]), None);
            let three = [candidate(1, 4), candidate(2, 9), candidate(3, 7)];
            assert_eq!(choose(choice, &three), Some(InstanceId(2)), "{choice:?}");
            let equal = [candidate(1, 4), candidate(2, 9), candidate(3, 9)];
            assert_eq!(choose(choice, &equal), Some(InstanceId(2)), "{choice:?}");
        }
    }

    #[test]
    fn the_first_alive_wins_whatever_it_has() {
        assert_eq!(choose(Choice::FirstAlive, &[candidate(2, 1), candidate(3, 9)]), Some(InstanceId(2)));
    }

    #[test]
    fn commits_and_timestamps_differ_after_a_reset_of_the_numbering() {
        let mut fewer = candidate(2, 5);
        fewer.told.timestamp = 50;
        let more = candidate(3, 9);
        let both = [fewer, more];
        assert_eq!(choose(Choice::Commits, &both), Some(InstanceId(3)));
        assert_eq!(choose(Choice::Timestamps, &both), Some(InstanceId(2)));
    }

    #[test]
    fn epochs_are_walked_back_to_a_common_one() {
        let mut newer = candidate(2, 8);
        newer.told.epochs = vec![(EpochId(1), 6), (EpochId(2), 8)];
        let older = candidate(1, 7);
        assert_eq!(choose(Choice::Epochs, &[older.clone(), newer.clone()]), Some(InstanceId(2)));
        let longer = candidate(1, 12);
        assert_eq!(choose(Choice::Epochs, &[newer, longer]), Some(InstanceId(1)), "the largest timestamp");
    }
}
