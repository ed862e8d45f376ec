//! What a ready leader does about the result of a ping: makes the instance what Raft says it is.

use super::super::message::ReplicaConfig;
use super::*;

impl Coordinator {
    /// The callback of a ping, with the lock in hand.
    pub(super) fn callback(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        id: InstanceId,
        result: Option<InstanceState>,
    ) {
        self.work = Some(Work { owner: Owner::Callback(id), doing: Doing::Steps(VecDeque::new()) });
        if self.status != Status::LeaderReady {
            return self.release(cx);
        }
        match result {
            Some(state) => self.on_success(cx, id, &state),
            None => self.on_failure(cx, id),
        }
    }

    /// No answer. MAIN is dead when it has been silent for the whole time; that is looked at only when a ping fails.
    fn on_failure(&mut self, cx: &mut Cx<'_, Memgraph>, id: InstanceId) {
        let limit = Duration::from_secs(self.cluster.settings.instance_down_timeout_sec);
        let is_main = self.cluster.is_main(id);
        let Some(connector) = self.connectors.get_mut(&id) else { return self.release(cx) };
        connector.alive = cx.now().since(connector.last_response) < limit;
        let alive = connector.alive;
        if is_main && !self.suspected {
            self.suspected = true;
            cx.mark(Mark::Suspected, self.observed(id));
        }
        if is_main && !alive {
            cx.mark(Mark::Declared, self.observed(id));
            return self.try_failover(cx, Owner::Callback(id));
        }
        self.release(cx);
    }

    fn on_success(&mut self, cx: &mut Cx<'_, Memgraph>, id: InstanceId, state: &InstanceState) {
        let is_main = self.cluster.is_main(id);
        if let Some(connector) = self.connectors.get_mut(&id) {
            connector.alive = true;
            connector.last_response = cx.now();
        }
        let steps = if is_main {
            self.suspected = false;
            self.steps_for_main(id, state)
        } else {
            self.steps_for_replica(id, state)
        };
        self.work =
            Some(Work { owner: Owner::Callback(id), doing: Doing::Steps(steps.into_iter().collect()) });
        self.next_step(cx);
    }

    /// What the current MAIN needs: its replicas as Raft has them, and to be MAIN, writeable, under the right uuid.
    fn steps_for_main(&mut self, id: InstanceId, state: &InstanceState) -> Vec<Step> {
        let uuid = self.cluster.main_uuid;
        if !state.is_replica {
            self.main_committed = Some(state.committed);
            self.lags = state.replicas.iter().copied().collect();
        }
        let quirks = self.config.quirks;
        let writes = state.writing_enabled || self.cluster.settings.global_read_only;
        let stale = state.uuid != uuid && !quirks.promote_by_role_only;
        let mute = !writes && !quirks.separate_writing_rpc;
        if state.is_replica || mute || stale {
            return self.promotion(id);
        }
        let mut steps = if quirks.rpc_before_raft { Vec::new() } else { self.replica_differences(id, state) };
        let read_only = self.cluster.settings.global_read_only;
        if state.writing_enabled && read_only || self.has_other_batches(state) {
            steps.push(self.update_config(id, read_only));
        }
        steps
    }

    fn has_other_batches(&self, state: &InstanceState) -> bool {
        state.deltas_batch_progress_size != self.cluster.settings.deltas_batch_progress_size
    }

    fn update_config(&self, to: InstanceId, disable_writing: bool) -> Step {
        let deltas_batch_progress_size = self.cluster.settings.deltas_batch_progress_size;
        Step { to, call: Call::UpdateConfig { deltas_batch_progress_size, disable_writing } }
    }

    fn promotion(&self, id: InstanceId) -> Vec<Step> {
        let others = self.cluster.instances.iter().filter(|instance| instance.id != id);
        let promote = Call::PromoteToMain {
            uuid: self.cluster.main_uuid,
            replicas: others.map(ReplicaConfig::of).collect(),
            writing_enabled: !self.cluster.settings.global_read_only,
        };
        let mut steps = alloc::vec![Step { to: id, call: promote }];
        if self.config.quirks.separate_writing_rpc {
            steps.push(Step { to: id, call: Call::EnableWriting });
        }
        steps
    }

    fn replica_differences(&self, id: InstanceId, state: &InstanceState) -> Vec<Step> {
        let uuid = self.cluster.main_uuid;
        let feeds = |id: InstanceId| state.replicas.iter().any(|(replica, _)| *replica == id);
        let registered = self.cluster.instances.iter().filter(|instance| instance.id != id);
        let missing = registered
            .filter(|instance| !feeds(instance.id))
            .map(|instance| Call::RegisterReplicaOnMain { uuid, replica: ReplicaConfig::of(instance) });
        let unknown = state.replicas.iter().map(|(replica, _)| *replica);
        let unknown = unknown.filter(|replica| self.cluster.instance(*replica).is_none());
        let unknown = unknown.map(|replica| Call::UnregisterReplica { uuid, replica });
        missing.chain(unknown).map(|call| Step { to: id, call }).collect()
    }

    /// What everybody else needs: to be a replica, and to follow the current MAIN.
    fn steps_for_replica(&mut self, id: InstanceId, state: &InstanceState) -> Vec<Step> {
        let uuid = self.cluster.main_uuid;
        let mut steps = Vec::new();
        if !state.is_replica {
            steps.push(Step { to: id, call: Call::DemoteMainToReplica { uuid } });
        }
        let differs = state.uuid != uuid;
        let swap = if self.config.quirks.swap_uuid_once { self.swaps.remove(&id) } else { differs };
        // A demotion brings the uuid with it, except on an instance that was a replica already.
        if swap && state.is_replica {
            steps.push(Step { to: id, call: Call::SwapMainUuid { uuid } });
        }
        if self.has_other_batches(state) {
            steps.push(self.update_config(id, self.cluster.settings.global_read_only));
        }
        steps
    }

    // -------------------------------------------------------------------------------------------------------- steps

    /// Makes the next call of the callback, or releases the lock.
    pub(super) fn next_step(&mut self, cx: &mut Cx<'_, Memgraph>) {
        let Some(Work { doing: Doing::Steps(steps), .. }) = &self.work else { return };
        let Some(step) = steps.front().cloned() else { return self.release(cx) };
        if matches!(step.call, Call::PromoteToMain { .. }) {
            cx.mark(Mark::Promoting, self.observed(step.to));
        }
        match self.connectors.get_mut(&step.to) {
            Some(connector) => connector.rpc.call(cx, Purpose::Step, step.call),
            None => self.release(cx),
        }
    }

    /// A call of the callback ended. A promotion that failed means another failover; any other failure ends the
    /// callback: the next ping begins anew.
    pub(super) fn step_done(&mut self, cx: &mut Cx<'_, Memgraph>, success: bool) {
        if matches!(&self.work, Some(Work { doing: Doing::Acts { .. }, .. })) {
            return self.act_done(cx, success);
        }
        let Some(Work { owner, doing: Doing::Steps(steps) }) = &mut self.work else { return };
        let owner = *owner;
        let Some(step) = steps.pop_front() else { return };
        let promotes = matches!(step.call, Call::PromoteToMain { .. });
        let demotes = matches!(step.call, Call::DemoteMainToReplica { .. });
        let to = self.observed(step.to);
        match (promotes, success) {
            (true, false) => {
                cx.mark(Mark::Aborted, to);
                self.try_failover(cx, owner);
            }
            (false, false) if demotes && self.config.quirks.failed_demotion_reconciles => {
                self.status = Status::LeaderNotReady;
                self.reconcile(cx);
            }
            (false, false) => {
                if let Some((asker, _)) = self.told_first.take() {
                    self.answer_text(cx, asker, Err("the instance did not do it".into()));
                }
                self.release(cx);
            }
            (true, true) => {
                cx.mark(Mark::Promoted, to);
                self.next_step(cx);
            }
            (false, true) => self.next_step(cx),
        }
    }

    /// What observers call an instance.
    pub(super) fn observed(&self, id: InstanceId) -> Option<SocketAddrV4> {
        self.config.observed_as.get(&id).copied()
    }
}

impl ReplicaConfig {
    pub(super) fn of(instance: &DataInstance) -> Self {
        ReplicaConfig { id: instance.id, address: instance.replication.clone(), mode: instance.mode }
    }
}
