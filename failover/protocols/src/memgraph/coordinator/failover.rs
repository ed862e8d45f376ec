//! Failover: ask the instances how much they have, choose, and write the new MAIN into Raft in one entry.

use super::super::state::Mode;
use super::*;

/// An instance that answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    id: InstanceId,
    system_timestamp: u64,
    committed: u64,
}

impl Coordinator {
    /// Begins: every registered instance is asked, one after the other, the dead MAIN too (it may answer again).
    pub(super) fn try_failover(&mut self, cx: &mut Cx<'_, Memgraph>, owner: Owner) {
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
        match choose(&candidates) {
            Some(winner) => self.record_failover(cx, winner),
            None => self.failover_ended(cx, false),
        }
    }

    /// An instance told how much it has, or did not answer.
    pub(super) fn history_told(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        id: InstanceId,
        told: Option<(u64, u64)>,
    ) {
        let eligible = told.is_some_and(|(_, committed)| self.is_recent(committed));
        if let Some(Work { doing: Doing::Asking { candidates, .. }, .. }) = &mut self.work {
            if let (Some((system_timestamp, committed)), true) = (told, eligible) {
                candidates.push(Candidate { id, system_timestamp, committed });
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
        let delta = Delta {
            instances: Some(self.cluster.with_main(winner, uuid)),
            main_uuid: Some(uuid),
            ..Delta::default()
        };
        let ticket = self.ticket();
        let Some(work) = &mut self.work else { return };
        work.doing = Doing::Committing { winner, ticket };
        if self.raft.propose(cx, ticket, delta).is_err() {
            return self.failover_ended(cx, false);
        }
        self.after_raft(cx);
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
            self.swaps = self.cluster.instances.iter().map(|instance| instance.id).collect();
            self.suspected = false;
        }
        self.failover_ended(cx, done);
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
            (Some(Owner::Callback(_)) | None, _) => self.release(cx),
        }
    }
}

/// The most committed transactions win; among equals, the first by name. There is one database, so the points that
/// each database gives, and the sum over all of them, come to the same. Epochs are not compared.
fn choose(candidates: &[Candidate]) -> Option<InstanceId> {
    let newest = candidates.iter().map(|candidate| candidate.system_timestamp).max()?;
    let knows_all = |candidate: &&Candidate| candidate.system_timestamp == newest || newest == 0;
    let most = candidates.iter().filter(knows_all).map(|candidate| candidate.committed).max()?;
    candidates.iter().find(|candidate| candidate.committed >= most).map(|candidate| candidate.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: u16, committed: u64) -> Candidate {
        Candidate { id: InstanceId(id), system_timestamp: 0, committed }
    }

    #[test]
    fn the_most_committed_transactions_win_and_then_the_first_name() {
        assert_eq!(choose(&[]), None);
        assert_eq!(choose(&[candidate(1, 4), candidate(2, 9), candidate(3, 7)]), Some(InstanceId(2)));
        assert_eq!(choose(&[candidate(1, 4), candidate(2, 9), candidate(3, 9)]), Some(InstanceId(2)));
    }
}
