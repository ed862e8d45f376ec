//! MAIN's replicas: what it knows of each, heartbeats, and bringing those up that lag or differ.

use super::super::message::ReplicaConfig;
use super::super::rpc::Rpc;
use super::super::state::Mode;
use super::super::storage::StoredGraph;
use super::*;
use alloc::collections::VecDeque;
use alloc::string::String;

/// MAIN pings its replicas so often.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// So many failures in a row make a replica's state unknown.
const MISSES_MAX: u8 = 3;

/// What MAIN knows of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplicaState {
    /// In sync.
    Ready,
    /// A transaction is on its way.
    Replicating,
    /// Unknown: the next heartbeat or commit has a look.
    MaybeBehind,
    /// It is being sent what it lacks.
    Recovery,
}

/// What a request to a replica is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Is it there?
    Beat,
    /// How far is it?
    Check,
    /// First step of registering it: databases and users.
    Introduce,
    /// Second step: how far is it?
    Register,
    /// The transaction with this timestamp.
    Prepare(u64),
    /// The decision on it.
    Finalize(u64),
    /// What it lacks.
    Recover,
}

/// A replica, as MAIN sees it.
#[derive(Debug)]
pub(super) struct ReplicaClient {
    pub(super) config: ReplicaConfig,
    pub(super) state: ReplicaState,
    pub(super) rpc: Rpc<Purpose>,
    /// Transactions that it is known to have.
    pub(super) known_committed: u64,
    misses: u8,
    /// It was in sync up to here while a transaction was being committed: what that means is seen when it has ended.
    settling: Option<u64>,
    /// What is left of its recovery.
    steps: VecDeque<Call>,
    /// Who asked for its registration, if that was not a promotion.
    pub(super) registrar: Option<SessionId>,
}

impl ReplicaClient {
    pub(super) fn new(config: ReplicaConfig) -> Self {
        let (channel, endpoint) = (Channel::Replica(config.id), config.address.endpoint());
        ReplicaClient {
            rpc: Rpc::new(channel, endpoint, Kind::Replication),
            config,
            state: ReplicaState::MaybeBehind,
            known_committed: 0,
            misses: 0,
            settling: None,
            steps: VecDeque::new(),
            registrar: None,
        }
    }
}

impl Instance {
    pub(super) fn on_heartbeat_timer(&mut self, cx: &mut Cx<'_, Memgraph>) {
        let Some(main) = self.main() else { return };
        // A stream that was begun holds the connection, also before its end is sent.
        let free = |replica: &&mut ReplicaClient| {
            !replica.rpc.is_busy() && replica.state != ReplicaState::Replicating
        };
        for replica in main.replicas.iter_mut().filter(free) {
            replica.rpc.call(cx, Purpose::Beat, Call::FrequentHeartbeat);
        }
        cx.set_timer(Timer::Heartbeat, HEARTBEAT);
    }

    /// Asks a replica of unknown state how far it is, unless its connection is in use.
    pub(super) fn check_replica(&mut self, cx: &mut Cx<'_, Memgraph>, at: usize) {
        let call = self.heartbeat_call();
        let Some(main) = self.main() else { return };
        let replica = &mut main.replicas[at];
        if replica.state == ReplicaState::MaybeBehind && !replica.rpc.is_busy() {
            replica.rpc.call(cx, Purpose::Check, call);
        }
    }

    fn heartbeat_call(&self) -> Call {
        Call::Heartbeat { uuid: self.uuid, epoch: self.storage.epoch(), timestamp: self.storage.timestamp() }
    }

    pub(super) fn introduce(&mut self, cx: &mut Cx<'_, Memgraph>, at: usize) {
        let uuid = self.uuid;
        let Some(main) = self.main() else { return };
        main.replicas[at].rpc.call(cx, Purpose::Introduce, Call::SystemRecovery { uuid });
    }

    pub(super) fn on_replica_answer(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        at: usize,
        purpose: Purpose,
        answer: Return,
    ) {
        match (purpose, answer) {
            (Purpose::Prepare(timestamp), Return::Success(yes)) => self.on_prepared(cx, at, timestamp, yes),
            (Purpose::Finalize(timestamp), Return::Success(yes)) => self.on_finalized(cx, at, timestamp, yes),
            (Purpose::Beat, _) => {
                if let Some(main) = self.main() {
                    main.replicas[at].misses = 0;
                }
                self.check_replica(cx, at);
            }
            (Purpose::Introduce, _) => self.ask_for_registration(cx, at),
            // Settled meanwhile.
            (Purpose::Check, _) if !self.is_doubtful(at) => {}
            (Purpose::Check, Return::Heartbeat { ok, timestamp, epoch, committed }) => {
                self.judge(cx, at, ok, timestamp, epoch, committed);
            }
            (Purpose::Register, Return::Heartbeat { ok, timestamp, epoch, committed }) => {
                self.judge(cx, at, ok, timestamp, epoch, committed);
                self.registered(cx, at, true);
            }
            (Purpose::Recover, Return::Recovered(Some(timestamp))) => {
                if !self.next_recovery_step(cx, at) {
                    self.recovered(cx, at, timestamp);
                }
            }
            (Purpose::Recover, _) => self.recovery_failed(cx, at),
            (Purpose::Prepare(_) | Purpose::Finalize(_) | Purpose::Check | Purpose::Register, _) => {}
        }
    }

    pub(super) fn on_replica_failed(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        at: usize,
        purpose: Option<Purpose>,
    ) {
        match purpose {
            None => {}
            Some(Purpose::Prepare(timestamp)) => self.on_prepared(cx, at, timestamp, false),
            Some(Purpose::Finalize(timestamp)) => self.on_finalized(cx, at, timestamp, false),
            Some(Purpose::Beat) => self.miss(at),
            Some(Purpose::Check) => self.doubt(at),
            Some(Purpose::Recover) => self.recovery_failed(cx, at),
            // Each step of a registration connects anew: a black hole costs the connection timeout twice.
            Some(Purpose::Introduce) => self.ask_for_registration(cx, at),
            Some(Purpose::Register) => {
                self.doubt(at);
                self.registered(cx, at, false);
            }
        }
    }

    fn ask_for_registration(&mut self, cx: &mut Cx<'_, Memgraph>, at: usize) {
        let call = self.heartbeat_call();
        if let Some(main) = self.main() {
            main.replicas[at].rpc.call(cx, Purpose::Register, call);
        }
    }

    fn miss(&mut self, at: usize) {
        let Some(main) = self.main() else { return };
        let replica = &mut main.replicas[at];
        replica.misses = replica.misses.saturating_add(1);
        if replica.misses >= MISSES_MAX && replica.state == ReplicaState::Ready {
            replica.state = ReplicaState::MaybeBehind;
        }
    }

    fn doubt(&mut self, at: usize) {
        if let Some(main) = self.main() {
            main.replicas[at].state = ReplicaState::MaybeBehind;
        }
    }

    /// A replica told how far it is. It is on a branch if it has transactions of an epoch that is not ours, beyond
    /// where that epoch ended for us: then it starts from nothing.
    fn judge(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        at: usize,
        ok: bool,
        timestamp: u64,
        epoch: EpochId,
        committed: u64,
    ) {
        if !ok {
            return self.doubt(at);
        }
        if let Some(main) = self.main() {
            main.replicas[at].known_committed = committed;
        }
        let foreign = epoch != self.storage.epoch() && timestamp != 0;
        if foreign && self.storage.end_of(epoch).is_none_or(|end| end < timestamp) {
            cx.note(|| alloc::format!("memgraph: replica {at} is on another branch and starts anew"));
            self.resets += 1;
            cx.observe(Observation::Gauge { name: "replica_resets", value: self.resets });
            return self.recover(cx, at, None);
        }
        if timestamp >= self.storage.timestamp() {
            return self.settle(at, timestamp);
        }
        self.recover(cx, at, Some(timestamp));
    }

    /// Sends what the replica lacks after a timestamp, or everything.
    fn recover(&mut self, cx: &mut Cx<'_, Memgraph>, at: usize, from: Option<u64>) {
        let separate = from.is_none() && self.config.quirks.separate_reset_rpc;
        let steps = match from.and_then(|from| self.storage.log_after(from)) {
            Some(log) => self.recovery_steps(false, None, log),
            // Emptied now; what follows needs another round.
            None if separate => self.recovery_steps(true, None, Vec::new()),
            None => {
                let (snapshot, log) = self.storage.everything();
                self.recovery_steps(true, snapshot, log)
            }
        };
        let Some(main) = self.main() else { return };
        let replica = &mut main.replicas[at];
        replica.state = ReplicaState::Recovery;
        replica.steps = steps;
        self.next_recovery_step(cx, at);
    }

    /// The requests of a recovery: the snapshot, the WAL files of earlier epochs, the current WAL. The first one says
    /// whether the replica drops what it has. (The real MAIN closes a WAL file when it is large, too.)
    fn recovery_steps(
        &self,
        reset: bool,
        snapshot: Option<Arc<StoredGraph>>,
        mut log: Vec<Arc<Committed>>,
    ) -> VecDeque<Call> {
        let (uuid, epoch) = (self.uuid, self.storage.epoch());
        let current = log.split_off(log.partition_point(|committed| committed.epoch != epoch));
        let parts =
            [(snapshot.is_some(), Vec::new()), (!log.is_empty(), log), (!current.is_empty(), current)];
        let wanted = parts.into_iter().filter(|(wanted, _)| *wanted).map(|(_, log)| log);
        let (mut reset, mut snapshot) = (reset, snapshot);
        let mut step =
            |log| Call::Recover { uuid, reset: core::mem::take(&mut reset), snapshot: snapshot.take(), log };
        let steps: VecDeque<Call> = wanted.map(&mut step).collect();
        if steps.is_empty() { VecDeque::from([step(Vec::new())]) } else { steps }
    }

    /// Sends the next request of the replica's recovery, if there is one.
    fn next_recovery_step(&mut self, cx: &mut Cx<'_, Memgraph>, at: usize) -> bool {
        let Some(main) = self.main() else { return false };
        let replica = &mut main.replicas[at];
        let Some(step) = replica.steps.pop_front() else { return false };
        replica.rpc.call(cx, Purpose::Recover, step);
        true
    }

    /// A step failed: the rest would leave a hole.
    fn recovery_failed(&mut self, cx: &mut Cx<'_, Memgraph>, at: usize) {
        if self.config.quirks.recovery_goes_on && self.next_recovery_step(cx, at) {
            return;
        }
        if let Some(main) = self.main() {
            main.replicas[at].steps.clear();
        }
        self.doubt(at);
    }

    /// The replica took what we sent: is that all by now?
    fn recovered(&mut self, cx: &mut Cx<'_, Memgraph>, at: usize, timestamp: u64) {
        if timestamp >= self.storage.timestamp() {
            self.settle(at, timestamp);
        } else {
            self.doubt(at);
        }
        let committed = self.storage.committed();
        if let Some(main) = self.main() {
            main.replicas[at].known_committed = committed;
        }
        self.check_replica(cx, at);
    }

    /// In sync; but while a transaction is being committed that the replica was not sent, that is seen at its end: the
    /// real MAIN takes the lock that commits hold.
    fn settle(&mut self, at: usize, timestamp: u64) {
        let unlocked = self.config.quirks.recovery_ends_unlocked;
        let Some(main) = self.main() else { return };
        let busy = main.commits.is_busy() && !unlocked;
        let replica = &mut main.replicas[at];
        replica.misses = 0;
        replica.settling = busy.then_some(timestamp);
        replica.state = if busy { ReplicaState::MaybeBehind } else { ReplicaState::Ready };
    }

    /// A commit has ended: replicas that waited for that are in sync, if they lack nothing now.
    pub(super) fn settle_waiting(&mut self) {
        let own = self.storage.timestamp();
        let Some(main) = self.main() else { return };
        for replica in &mut main.replicas {
            let settled = replica.settling.take().is_some_and(|timestamp| timestamp >= own);
            if settled && replica.state == ReplicaState::MaybeBehind {
                replica.state = ReplicaState::Ready;
            }
        }
    }

    fn is_doubtful(&self, at: usize) -> bool {
        matches!(&self.state, State::Main(main) if main.replicas[at].state == ReplicaState::MaybeBehind)
    }

    /// How many transactions each replica lacks, as far as we know.
    pub(super) fn lags(&self) -> Vec<(super::super::state::InstanceId, i64)> {
        let State::Main(main) = &self.state else { return Vec::new() };
        let own = self.storage.committed() as i64 + i64::from(main.commits.is_certain());
        main.replicas
            .iter()
            .map(|replica| (replica.config.id, own - replica.known_committed as i64))
            .collect()
    }

    /// Each replica: name, replication server, mode, state, and how many transactions it lacks.
    pub(super) fn show_replicas(&self) -> String {
        let State::Main(main) = &self.state else { return String::new() };
        let line = |(replica, (_, lag)): (&ReplicaClient, (_, i64))| {
            let ReplicaConfig { id, address, mode } = &replica.config;
            let (state, server) = (replica.state, alloc::format!("{}:{}", address.host, address.port));
            alloc::format!("instance_{} {server} {mode:?} {state:?} {lag}\n", id.0)
        };
        main.replicas.iter().zip(self.lags()).map(line).collect()
    }

    /// Whether any replica is fed by two phases.
    pub fn is_strict(&self) -> bool {
        match &self.state {
            State::Main(main) => main.replicas.iter().any(|replica| replica.config.mode == Mode::StrictSync),
            State::Replica { .. } => false,
        }
    }
}
