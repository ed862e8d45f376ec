//! Committing on MAIN: one transaction after the other, each with its replicas.
//!
//! SYNC: MAIN waits for every replica, then commits whatever they said. STRICT_SYNC: MAIN commits only if every replica
//! prepared the transaction, and tells them; a failure to tell is nobody's error. ASYNC: MAIN does not wait.
//!
//! The streams to SYNC and STRICT_SYNC replicas are all begun, and finished one after the other: a commit takes the sum of
//! their round trips, and each that is silent costs its own thirty seconds. What is one message here, the transaction, leaves
//! with the end of its stream.

use super::super::message::{Answer, Why};
use super::super::state::{InstanceId, Mode};
use super::feeding::{Purpose, ReplicaState};
use super::*;
use crate::graph::Transaction;
use alloc::collections::VecDeque;

/// Running writes have so long to end before a demotion gives up.
const ACCESS_TIMEOUT: Duration = Duration::from_secs(2);

/// The transactions that clients want committed.
#[derive(Debug, Default)]
pub(super) struct Commits {
    current: Option<InFlight>,
    waiting: VecDeque<(SessionId, Transaction)>,
}

/// The transaction that is being committed.
#[derive(Debug)]
struct InFlight {
    client: SessionId,
    committed: Arc<Committed>,
    /// The timestamp it follows.
    previous: u64,
    /// Decided in two phases.
    strict: bool,
    /// Replicas that have not answered the current phase; in the first, only the first of them has been asked.
    waits: VecDeque<InstanceId>,
    /// As the streams carry it.
    encoded: Arc<Committed>,
    /// A replica that had to confirm did not.
    failed: bool,
    /// Second phase: the decision is being told.
    decided: bool,
}

impl InFlight {
    fn prepare(&self, uuid: Uuid, two_phase: bool) -> Call {
        Call::PrepareCommit { uuid, previous: self.previous, two_phase, committed: self.encoded.clone() }
    }
}

impl Commits {
    /// Something is being committed.
    pub(super) fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    /// A transaction that MAIN will commit whatever its replicas say, and that some of them may have already.
    pub(super) fn is_certain(&self) -> bool {
        self.current.as_ref().is_some_and(|current| !current.strict)
    }
}

impl Instance {
    /// A client wants this committed: now, or after those that came first.
    pub(super) fn commit(&mut self, cx: &mut Cx<'_, Memgraph>, client: SessionId, transaction: Transaction) {
        match &mut self.state {
            State::Main(main) => {
                main.commits.waiting.push_back((client, transaction));
                self.next_commit(cx);
            }
            State::Replica { .. } => self.answer_failure(cx, client, Why::WriteOnReplica),
        }
    }

    /// Begins transactions until one of them has to wait for a replica.
    fn next_commit(&mut self, cx: &mut Cx<'_, Memgraph>) {
        loop {
            if self.demote_if_free(cx) {
                return;
            }
            let Some(main) = self.main() else { return };
            if main.commits.is_busy() {
                return;
            }
            let Some((client, transaction)) = main.commits.waiting.pop_front() else { return };
            self.begin_commit(cx, client, transaction);
        }
    }

    fn begin_commit(&mut self, cx: &mut Cx<'_, Memgraph>, client: SessionId, transaction: Transaction) {
        if let Some(why) = self.why_not_writable() {
            return self.answer_failure(cx, client, why);
        }
        if let Err(refusal) = self.storage.graph().check(&transaction) {
            return self.answer_failure(cx, client, Why::Refused(refusal));
        }
        let twice = self.config.quirks.concurrent_changes_twice;
        let (epoch, previous) = (self.storage.epoch(), self.storage.timestamp());
        let Some(main) = self.main() else { return };
        let committed = Arc::new(Committed { timestamp: main.next_timestamp, epoch, transaction });
        main.next_timestamp += 1;
        let strict = main.replicas.iter().any(|replica| replica.config.mode == Mode::StrictSync);
        let encoded = match twice && !main.commits.waiting.is_empty() {
            true => with_last_change_twice(&committed),
            false => committed.clone(),
        };
        let (waits, failed, decided) = (VecDeque::new(), false, false);
        main.commits.current =
            Some(InFlight { client, committed, previous, strict, waits, encoded, failed, decided });
        self.ship(cx, strict);
        self.conclude(cx);
    }

    /// Begins the stream to every replica that takes part in this phase. With a STRICT_SYNC replica, ASYNC ones are
    /// fed after the decision.
    fn ship(&mut self, cx: &mut Cx<'_, Memgraph>, two_phase: bool) {
        let uuid = self.uuid;
        let Some(main) = self.main() else { return };
        let Some(current) = &mut main.commits.current else { return };
        let mut check = Vec::new();
        for (at, replica) in main.replicas.iter_mut().enumerate() {
            let mode = replica.config.mode;
            if two_phase != (mode == Mode::StrictSync) {
                continue;
            }
            // An ASYNC stream tries the lock for 50 ms at most; whatever holds it takes a round trip or more.
            let free = mode != Mode::Async || !replica.rpc.is_busy();
            if replica.state == ReplicaState::Ready && free {
                replica.state = ReplicaState::Replicating;
                if mode == Mode::Async {
                    replica.rpc.call(
                        cx,
                        Purpose::Prepare(current.committed.timestamp),
                        current.prepare(uuid, false),
                    );
                } else {
                    current.waits.push_back(replica.config.id);
                }
                continue;
            }
            if mode == Mode::Async && matches!(replica.state, ReplicaState::Ready | ReplicaState::Replicating)
            {
                replica.state = ReplicaState::MaybeBehind;
            }
            current.failed |= mode != Mode::Async;
            check.push(at);
        }
        self.finish_next_stream(cx);
        for at in check {
            self.check_replica(cx, at);
        }
    }

    /// Finishes the stream to the next replica that MAIN waits for.
    fn finish_next_stream(&mut self, cx: &mut Cx<'_, Memgraph>) {
        let uuid = self.uuid;
        let Some(main) = self.main() else { return };
        let Some(current) = &main.commits.current else { return };
        let next = current.waits.front().filter(|_| !current.decided);
        if let Some(replica) =
            next.and_then(|id| main.replicas.iter_mut().find(|replica| replica.config.id == *id))
        {
            let call = current.prepare(uuid, current.strict);
            replica.rpc.call(cx, Purpose::Prepare(current.committed.timestamp), call);
        }
    }

    /// A replica answered, or failed to.
    pub(super) fn on_prepared(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        at: usize,
        timestamp: u64,
        confirmed: bool,
    ) {
        // An ASYNC replica answers when MAIN has committed already, a SYNC one before.
        let pending = u64::from(timestamp > self.storage.timestamp());
        let known = self.storage.committed_until(timestamp) + pending;
        let Some(main) = self.main() else { return };
        let replica = &mut main.replicas[at];
        if confirmed && replica.config.mode != Mode::StrictSync {
            replica.known_committed = known;
            if replica.state == ReplicaState::Replicating {
                replica.state = ReplicaState::Ready;
            }
        } else if !confirmed {
            replica.state = ReplicaState::MaybeBehind;
        }
        let id = replica.config.id;
        if let Some(current) = &mut main.commits.current
            && current.committed.timestamp == timestamp
            && !current.decided
            && current.waits.front() == Some(&id)
        {
            current.waits.pop_front();
            current.failed |= !confirmed;
            self.finish_next_stream(cx);
            self.conclude(cx);
            self.next_commit(cx);
        }
    }

    /// A replica is unregistered: what waits for it has failed.
    pub(super) fn leave_out(&mut self, cx: &mut Cx<'_, Memgraph>, id: InstanceId) {
        let Some(main) = self.main() else { return };
        let Some(current) = &mut main.commits.current else { return };
        if !current.waits.contains(&id) {
            return;
        }
        let first = current.waits.front() == Some(&id);
        current.waits.retain(|waits| *waits != id);
        current.failed |= !current.decided;
        if first {
            self.finish_next_stream(cx);
        }
        self.conclude(cx);
        self.next_commit(cx);
    }

    /// A STRICT_SYNC replica heard the decision, or did not. If not, nobody is told: the client hears of success, and
    /// the replica is fed again later.
    pub(super) fn on_finalized(&mut self, cx: &mut Cx<'_, Memgraph>, at: usize, timestamp: u64, done: bool) {
        let known = self.storage.committed();
        let Some(main) = self.main() else { return };
        let replica = &mut main.replicas[at];
        if replica.state == ReplicaState::Replicating {
            replica.state = if done { ReplicaState::Ready } else { ReplicaState::MaybeBehind };
            replica.known_committed = if done { known } else { replica.known_committed };
        }
        let id = replica.config.id;
        if let Some(current) = &mut main.commits.current
            && current.decided
            && current.committed.timestamp == timestamp
        {
            current.waits.retain(|waits| *waits != id);
            self.conclude(cx);
            self.next_commit(cx);
        }
    }

    /// Goes on when nobody is waited for.
    fn conclude(&mut self, cx: &mut Cx<'_, Memgraph>) {
        let Some(main) = self.main() else { return };
        let Some(current) = &main.commits.current else { return };
        if !current.waits.is_empty() {
            return;
        }
        match (current.strict, current.decided, current.failed) {
            (false, ..) => {
                self.commit_locally(cx);
                self.finish(cx);
            }
            (true, false, false) => {
                self.commit_locally(cx);
                self.decide(cx, true);
            }
            (true, false, true) => self.decide(cx, false),
            (true, true, _) => self.finish(cx),
        }
    }

    fn commit_locally(&mut self, cx: &mut Cx<'_, Memgraph>) {
        let committed = match &self.state {
            State::Main(main) => main.commits.current.as_ref().map(|current| current.committed.clone()),
            State::Replica { .. } => None,
        };
        if let Some(committed) = committed {
            self.storage.commit(cx, committed);
        }
    }

    /// Tells every replica that prepared it.
    fn decide(&mut self, cx: &mut Cx<'_, Memgraph>, commit: bool) {
        let uuid = self.uuid;
        let Some(main) = self.main() else { return };
        let Some(current) = &mut main.commits.current else { return };
        current.decided = true;
        let timestamp = current.committed.timestamp;
        for replica in &mut main.replicas {
            if replica.config.mode == Mode::StrictSync && replica.state == ReplicaState::Replicating {
                let call = Call::FinalizeCommit { uuid, timestamp, commit };
                replica.rpc.call(cx, Purpose::Finalize(timestamp), call);
                current.waits.push_back(replica.config.id);
            }
        }
        if commit {
            self.ship(cx, false);
        }
        self.conclude(cx);
    }

    /// Answers the client.
    fn finish(&mut self, cx: &mut Cx<'_, Memgraph>) {
        let Some(main) = self.main() else { return };
        let Some(current) = main.commits.current.take() else { return };
        self.settle_waiting();
        match (current.failed, current.strict, self.config.sync_failure) {
            (true, true, _) => self.answer_failure(cx, current.client, Why::StrictReplica),
            (true, false, SyncFailure::Error) => self.answer_failure(cx, current.client, Why::SyncReplica),
            (true, false, SyncFailure::Warning) if self.config.quirks.sync_failure_transient => {
                self.answer_failure(cx, current.client, Why::SyncReplica);
            }
            (warning, ..) => cx.send(current.client, Message::Answer(Answer::Success { warning })),
        }
    }

    fn answer_failure(&mut self, cx: &mut Cx<'_, Memgraph>, client: SessionId, why: Why) {
        let answer = self.failure(why);
        cx.send(client, Message::Answer(answer));
    }

    /// The instance is no longer MAIN: what was not begun is aborted, what was begun is left to its replicas.
    pub(super) fn abort_commits(&mut self, cx: &mut Cx<'_, Memgraph>) {
        let Some(main) = self.main() else { return };
        let commits = core::mem::take(&mut main.commits);
        let current = commits.current.map(|current| current.client);
        let waiting = commits.waiting.into_iter().map(|(client, _)| client);
        for client in current.into_iter().chain(waiting) {
            self.answer_failure(cx, client, Why::NotMainAnymore);
        }
    }

    // --------------------------------------------------------------------------------------------------- demotion

    /// Waits for what is being committed, for a while.
    pub(super) fn demote_when_free(&mut self, cx: &mut Cx<'_, Memgraph>, from: SessionId, uuid: Uuid) {
        let Some(main) = self.main() else { return };
        main.demotion = Some((from, uuid));
        cx.set_timer(Timer::Access, ACCESS_TIMEOUT);
        self.announce(cx);
        self.demote_if_free(cx);
    }

    fn demote_if_free(&mut self, cx: &mut Cx<'_, Memgraph>) -> bool {
        let hasty = self.config.quirks.demotion_does_not_wait;
        let Some(main) = self.main() else { return false };
        let free = !main.commits.is_busy() || hasty;
        if !free || main.access_held {
            return false;
        }
        let Some((from, uuid)) = main.demotion.take() else { return false };
        self.become_replica(cx, uuid);
        cx.send(from, Message::Return(Return::Success(true)));
        true
    }

    /// A write would not end: the demotion fails, and will be tried again.
    pub(super) fn on_access_timeout(&mut self, cx: &mut Cx<'_, Memgraph>) {
        let Some(main) = self.main() else { return };
        if let Some((from, _)) = main.demotion.take() {
            cx.send(from, Message::Return(Return::Success(false)));
            self.announce(cx);
            self.next_commit(cx);
        }
    }
}

fn with_last_change_twice(committed: &Committed) -> Arc<Committed> {
    let mut twice = committed.clone();
    twice.transaction.changes.extend(committed.transaction.changes.last().cloned());
    Arc::new(twice)
}
