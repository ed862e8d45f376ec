//! What coordinators tell an instance to be. None of these calls carries a term: a late one from a deposed leader is
//! obeyed.

use super::super::message::InstanceState;
use super::*;

/// A promotion on its way: replicas are registered one after the other.
#[derive(Debug)]
pub(super) struct Promotion {
    from: SessionId,
    /// Replicas up to here are registered.
    next: usize,
    writing: bool,
}

impl Instance {
    pub(super) fn on_call(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, call: Call) {
        let answer = match call {
            Call::StateCheck => Return::State(self.describe()),
            Call::GetDatabaseHistories => Return::Histories {
                system_timestamp: 0,
                committed: self.storage.committed(),
                timestamp: self.storage.timestamp(),
                epochs: self.storage.epochs(),
            },
            Call::PromoteToMain { uuid, replicas, writing_enabled } => {
                return self.promote(cx, session, uuid, replicas, writing_enabled);
            }
            Call::DemoteMainToReplica { uuid } => return self.demote(cx, session, uuid),
            Call::SwapMainUuid { uuid } => Return::Success(self.swap_uuid(cx, uuid)),
            Call::RegisterReplicaOnMain { uuid, replica } => {
                return self.register(cx, session, uuid, replica);
            }
            Call::UnregisterReplica { uuid, replica } => Return::Success(self.unregister(cx, uuid, replica)),
            Call::UpdateConfig { deltas_batch_progress_size, disable_writing } => {
                self.deltas_batch_progress_size = deltas_batch_progress_size;
                Return::Success(!self.is_main() || !disable_writing || self.set_writing(cx, false))
            }
            Call::EnableWriting => Return::Success(self.set_writing(cx, true)),
            Call::ResetData => {
                self.storage.reset(cx);
                Return::Success(true)
            }
            Call::FrequentHeartbeat => {
                self.heard_main = self.heard_main.map(|_| cx.now());
                Return::Success(true)
            }
            Call::SystemRecovery { uuid } => Return::Success(self.follows(uuid) && !self.is_main()),
            Call::Heartbeat { uuid, timestamp, .. } => self.on_heartbeat(cx.now(), uuid, timestamp),
            Call::PrepareCommit { uuid, previous, two_phase, committed } => {
                Return::Success(self.on_prepare(cx, uuid, previous, two_phase, committed))
            }
            Call::FinalizeCommit { uuid, timestamp, commit } => {
                Return::Success(self.on_finalize(cx, uuid, timestamp, commit))
            }
            Call::Recover { uuid, reset, snapshot, log } => {
                Return::Recovered(self.on_recover(cx, uuid, reset, snapshot, log))
            }
            Call::Forward(_) => Return::Success(false),
        };
        cx.send(session, Message::Return(answer));
    }

    fn describe(&self) -> InstanceState {
        InstanceState {
            is_replica: !self.is_main(),
            uuid: self.uuid,
            writing_enabled: matches!(&self.state, State::Main(main) if main.writing),
            deltas_batch_progress_size: self.deltas_batch_progress_size,
            committed: self.storage.committed(),
            replicas: self.lags(),
        }
    }

    /// Becomes MAIN under `uuid`, or MAIN anew. Refused while the replication state is in use. Replicas that do not
    /// answer are registered all the same.
    fn promote(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        from: SessionId,
        uuid: Uuid,
        replicas: Vec<ReplicaConfig>,
        writing: bool,
    ) {
        // An instance that no coordinator ever promoted is MAIN only in name.
        let again = self.is_main() && self.uuid.number > 0;
        if self.is_replication_busy() || again && self.config.quirks.promote_not_idempotent {
            return cx.send(from, Message::Return(Return::Success(false)));
        }
        let prepared = match &mut self.state {
            State::Main(main) => {
                main.replicas.iter_mut().for_each(|replica| replica.rpc.shut(cx));
                None
            }
            State::Replica { prepared } => prepared.take(),
        };
        let epoch = EpochId(cx.random().between(1, u64::MAX));
        self.storage.begin_epoch(epoch);
        self.uuid = uuid;
        let advance = u64::from(!self.config.quirks.promote_timestamp_not_advanced);
        let mut main = Main::new((self.storage.timestamp() + advance).max(1));
        main.confirmed = true;
        // A transaction that was prepared and not decided is aborted with the replica's state.
        main.access_held = prepared.is_some() && self.config.quirks.prepared_survives_promotion;
        main.replicas = replicas.into_iter().map(ReplicaClient::new).collect();
        main.promotion = Some(Promotion { from, next: 0, writing });
        self.state = State::Main(main);
        self.save(cx);
        self.announce(cx);
        cx.set_timer(Timer::Heartbeat, Duration::from_secs(1));
        self.register_next(cx);
    }

    /// Something holds the lock of the replication state.
    fn is_replication_busy(&self) -> bool {
        matches!(&self.state, State::Main(main)
            if main.commits.is_busy() || main.promotion.is_some() || main.demotion.is_some())
    }

    fn register_next(&mut self, cx: &mut Cx<'_, Memgraph>) {
        let Some(main) = self.main() else { return };
        let Some(promotion) = &mut main.promotion else { return };
        let at = promotion.next;
        if at < main.replicas.len() {
            promotion.next += 1;
            self.introduce(cx, at);
        } else {
            self.end_promotion(cx, true);
        }
    }

    fn end_promotion(&mut self, cx: &mut Cx<'_, Memgraph>, success: bool) {
        let separate = self.config.quirks.separate_writing_rpc;
        let Some(main) = self.main() else { return };
        let Some(promotion) = main.promotion.take() else { return };
        main.writing = success && promotion.writing && !separate;
        cx.send(promotion.from, Message::Return(Return::Success(success)));
        self.announce(cx);
    }

    /// A replica answered its registration, or could not be reached.
    pub(super) fn registered(&mut self, cx: &mut Cx<'_, Memgraph>, at: usize, reached: bool) {
        let strict = self.config.quirks.registration_fails_promotion;
        let Some(main) = self.main() else { return };
        if let Some(registrar) = main.replicas[at].registrar.take() {
            cx.send(registrar, Message::Return(Return::Success(true)));
        } else if main.promotion.as_ref().is_some_and(|promotion| promotion.next == at + 1) {
            if !reached && strict {
                self.end_promotion(cx, false);
            } else {
                self.register_next(cx);
            }
        }
    }

    /// Becomes a replica of `uuid`. Already one: nothing changes, not even whom it follows.
    fn demote(&mut self, cx: &mut Cx<'_, Memgraph>, from: SessionId, uuid: Uuid) {
        match &self.state {
            State::Replica { .. } => cx.send(from, Message::Return(Return::Success(true))),
            State::Main(main) if main.promotion.is_some() || main.demotion.is_some() => {
                cx.send(from, Message::Return(Return::Success(false)));
            }
            State::Main(main) if main.commits.is_busy() && self.config.quirks.demotion_deadlocks => {
                self.deadlocked = true;
                self.announce(cx);
            }
            State::Main(_) => self.demote_when_free(cx, from, uuid),
        }
    }

    fn swap_uuid(&mut self, cx: &mut Cx<'_, Memgraph>, uuid: Uuid) -> bool {
        if self.is_main() {
            return false;
        }
        self.follow(uuid);
        self.save(cx);
        self.announce(cx);
        true
    }

    fn register(&mut self, cx: &mut Cx<'_, Memgraph>, from: SessionId, uuid: Uuid, config: ReplicaConfig) {
        let own = self.uuid == uuid;
        let main = self.main().filter(|main| own && main.promotion.is_none());
        let Some(main) = main else {
            return cx.send(from, Message::Return(Return::Success(false)));
        };
        main.replicas.retain(|replica| replica.config.id != config.id);
        let mut replica = ReplicaClient::new(config);
        replica.registrar = Some(from);
        main.replicas.push(replica);
        let at = main.replicas.len() - 1;
        self.introduce(cx, at);
    }

    fn unregister(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        uuid: Uuid,
        id: super::super::state::InstanceId,
    ) -> bool {
        let own = self.uuid == uuid;
        let Some(main) = self.main().filter(|main| own && main.promotion.is_none()) else { return false };
        let Some(at) = main.replicas.iter().position(|replica| replica.config.id == id) else { return false };
        // What waits for it has failed.
        let failed = main.replicas[at].rpc.failed(cx);
        self.on_replica_failed(cx, at, failed);
        self.leave_out(cx, id);
        if let Some(main) = self.main() {
            main.replicas[at].rpc.shut(cx);
            main.replicas.remove(at);
        }
        true
    }

    fn set_writing(&mut self, cx: &mut Cx<'_, Memgraph>, writing: bool) -> bool {
        let Some(main) = self.main() else { return false };
        main.writing = writing;
        self.announce(cx);
        true
    }
}
