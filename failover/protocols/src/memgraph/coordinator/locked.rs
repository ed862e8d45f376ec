//! The design of v2.16 to v2.20: a failover is a list of calls and Raft entries between OPEN_LOCK and CLOSE_LOCK.
//!
//! ```text
//!   OPEN_LOCK; for each replica that is alive: SwapMainUuid, its new uuid; PromoteToMain; the new uuid; the new MAIN;
//!   CLOSE_LOCK; EnableWriting
//! ```
//!
//! Whatever fails leaves the lock open, and a leader that finds it open resets the cluster: everybody who answers is
//! demoted and given a fresh uuid, one of them is promoted, and the lock is closed. Since v2.21 (PR 2430) a failover is
//! one entry and everything else follows from pings.
//!
//! Simplified: the reset asks for histories where the real one pings first and asks then; who did not answer is
//! demoted by its next ping, as always, without an entry of its own about that.

use super::*;

/// One act of the list.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Something is written into Raft.
    Enter(Delta),
    /// An instance is told something.
    Tell(Step),
}

impl Coordinator {
    /// Begins the list of a failover, or of a reset if an earlier list has stopped half way.
    pub(super) fn begin_locked(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        winner: InstanceId,
        alive: &[InstanceId],
    ) {
        let uuid = self.new_uuid(cx);
        cx.mark(Mark::Elected, self.observed(winner));
        let acts = if self.cluster.lock_open {
            self.reset_list(winner, alive, uuid)
        } else {
            self.failover_list(winner, alive, uuid)
        };
        if let Some(work) = &mut self.work {
            work.doing = Doing::Acts { acts, winner, ticket: None };
        }
        self.next_act(cx);
    }

    fn failover_list(&self, winner: InstanceId, alive: &[InstanceId], uuid: Uuid) -> VecDeque<Act> {
        let mut acts = VecDeque::from([Act::Enter(lock(true))]);
        let mut instances = self.cluster.instances.clone();
        for id in alive.iter().copied().filter(|id| *id != winner && !self.cluster.is_main(*id)) {
            acts.push_back(Act::Tell(Step { to: id, call: Call::SwapMainUuid { uuid } }));
            instances.iter_mut().filter(|instance| instance.id == id).for_each(|i| i.uuid = uuid);
            acts.push_back(Act::Enter(Delta { instances: Some(instances.clone()), ..Delta::default() }));
        }
        acts.extend(self.crown(winner, uuid));
        acts
    }

    fn reset_list(&self, winner: InstanceId, alive: &[InstanceId], uuid: Uuid) -> VecDeque<Act> {
        let demote = |id: &InstanceId| Act::Tell(Step { to: *id, call: Call::DemoteMainToReplica { uuid } });
        // Whoever was a replica already has kept the uuid that it followed.
        let swap = |id: &InstanceId| Act::Tell(Step { to: *id, call: Call::SwapMainUuid { uuid } });
        let mut acts: VecDeque<Act> = alive.iter().flat_map(|id| [demote(id), swap(id)]).collect();
        acts.extend(self.crown(winner, uuid));
        acts
    }

    /// The end of either list.
    fn crown(&self, winner: InstanceId, uuid: Uuid) -> [Act; 5] {
        let others = self.cluster.instances.iter().filter(|instance| instance.id != winner);
        let replicas = others.map(super::super::message::ReplicaConfig::of).collect();
        let promote = Call::PromoteToMain { uuid, replicas, writing_enabled: false };
        let instances = Some(self.cluster.with_main(winner, uuid));
        [
            Act::Tell(Step { to: winner, call: promote }),
            Act::Enter(Delta { main_uuid: Some(uuid), ..Delta::default() }),
            Act::Enter(Delta { instances, ..Delta::default() }),
            Act::Enter(lock(false)),
            Act::Tell(Step { to: winner, call: Call::EnableWriting }),
        ]
    }

    fn next_act(&mut self, cx: &mut Cx<'_, Memgraph>) {
        let Some(Work { doing: Doing::Acts { acts, winner, .. }, .. }) = &mut self.work else { return };
        let winner = *winner;
        match acts.pop_front() {
            None => {
                cx.mark(Mark::Promoted, self.observed(winner));
                self.failover_settled(cx);
            }
            Some(Act::Tell(step)) => {
                if matches!(step.call, Call::PromoteToMain { .. }) {
                    cx.mark(Mark::Promoting, self.observed(step.to));
                }
                match self.connectors.get_mut(&step.to) {
                    Some(connector) => connector.rpc.call(cx, Purpose::Step, step.call),
                    None => self.act_done(cx, false),
                }
            }
            Some(Act::Enter(delta)) => self.enter(cx, delta),
        }
    }

    fn enter(&mut self, cx: &mut Cx<'_, Memgraph>, delta: Delta) {
        let entered = self.ticket();
        if let Some(Work { doing: Doing::Acts { ticket, .. }, .. }) = &mut self.work {
            *ticket = Some(entered);
        }
        if self.raft.propose(cx, entered, delta).is_err() {
            return self.act_done(cx, false);
        }
        self.after_raft(cx);
    }

    /// An act ended. One that failed leaves the lock open: everything is reset, later.
    pub(super) fn act_done(&mut self, cx: &mut Cx<'_, Memgraph>, success: bool) {
        if success {
            return self.next_act(cx);
        }
        cx.note(|| "memgraph: the failover stopped half way, and the lock is open".into());
        cx.mark(Mark::Aborted, None);
        self.metrics.add("raft_failed_failovers", 1);
        self.stop_pings(cx);
        if self.raft.is_leader() {
            self.status = Status::LeaderNotReady;
            self.reconcile_failed(cx);
        }
    }
}

fn lock(open: bool) -> Delta {
    Delta { lock_open: Some(open), ..Delta::default() }
}
