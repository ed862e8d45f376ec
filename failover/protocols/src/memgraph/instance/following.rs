//! The replica's side of replication. Everything carries the uuid of the MAIN that sent it; what another MAIN sends
//! than the one we follow is refused.

use super::super::storage::StoredGraph;
use super::*;

impl Instance {
    /// Whether we take what this MAIN sends.
    pub(super) fn follows(&self, uuid: Uuid) -> bool {
        self.uuid == uuid || self.config.quirks.unfenced_replicas
    }

    pub(super) fn on_heartbeat(&mut self, now: LocalTime, uuid: Uuid, timestamp: u64) -> Return {
        if self.follows(uuid) {
            self.hear_main(now, timestamp);
        }
        let every_epoch = self.config.quirks.epochs_without_changes;
        Return::Heartbeat {
            ok: self.follows(uuid),
            timestamp: self.storage.timestamp(),
            epoch: if every_epoch { self.storage.epoch() } else { self.storage.last_epoch() },
            committed: self.storage.committed(),
        }
    }

    /// A transaction of our MAIN. A gap before it is refused: MAIN will look how far we are, and send what is missing.
    pub(super) fn on_prepare(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        uuid: Uuid,
        previous: u64,
        two_phase: bool,
        committed: Arc<Committed>,
    ) -> bool {
        if !self.follows(uuid) {
            return false;
        }
        if self.is_main() {
            return false;
        }
        self.hear_main(cx.now(), committed.timestamp);
        let State::Replica { prepared } = &mut self.state else { return false };
        // Whatever was prepared before is not going to be decided any more.
        *prepared = None;
        if committed.epoch != self.storage.epoch() {
            self.storage.begin_epoch(committed.epoch);
            self.save(cx);
        }
        if previous > self.storage.timestamp() {
            return false;
        }
        if committed.timestamp <= self.storage.timestamp() {
            return true;
        }
        if two_phase {
            self.state = State::Replica { prepared: Some(committed) };
        } else {
            self.storage.commit(cx, committed);
        }
        true
    }

    /// The decision on the prepared transaction.
    pub(super) fn on_finalize(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        uuid: Uuid,
        timestamp: u64,
        commit: bool,
    ) -> bool {
        if !self.follows(uuid) {
            return false;
        }
        let State::Replica { prepared } = &mut self.state else { return false };
        match prepared.take() {
            Some(committed) if committed.timestamp == timestamp => {
                if commit {
                    self.storage.commit(cx, committed);
                }
                true
            }
            other => {
                *prepared = other;
                !commit || self.config.quirks.finalize_unknown_succeeds
            }
        }
    }

    /// MAIN sends what we lack, or everything.
    pub(super) fn on_recover(
        &mut self,
        cx: &mut Cx<'_, Memgraph>,
        uuid: Uuid,
        reset: bool,
        snapshot: Option<Arc<StoredGraph>>,
        log: Vec<Arc<Committed>>,
    ) -> Option<u64> {
        if !self.follows(uuid) || self.is_main() {
            return None;
        }
        self.state = State::Replica { prepared: None };
        match snapshot {
            Some(stored) => self.storage.install(cx, stored),
            None if reset => self.storage.reset(cx),
            None => {}
        }
        let count = log.len() as u32;
        for committed in log {
            if committed.timestamp > self.storage.timestamp() {
                self.storage.commit(cx, committed);
            }
        }
        self.save(cx);
        cx.busy(self.config.replay_cost * count);
        Some(self.storage.timestamp())
    }
}
