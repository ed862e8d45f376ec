//! A data instance's storage: the graph, its log of committed transactions, and the epochs under which they came.

use super::Record;
use super::state::Uuid;
use super::{Memgraph, storage};
use crate::contract::{Cx, DiskImage};
use crate::graph::{Graph, Transaction};
use alloc::sync::Arc;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

const IDENTITY_FILE: &str = "identity";
const WAL_FILE: &str = "wal";
const SNAPSHOT_FILE: &str = "snapshot";
/// Older entries of the history are forgotten.
const HISTORY_MAX: usize = 1000;

/// An epoch: the time between two promotions. Every promoted MAIN draws a new one at random.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EpochId(pub u64);

/// A committed transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Committed {
    /// Its commit timestamp.
    pub timestamp: u64,
    /// The epoch it was committed in.
    pub epoch: EpochId,
    /// What it did.
    pub transaction: Transaction,
}

/// A graph as of some timestamp, with everything needed to go on from there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StoredGraph {
    /// The graph.
    pub graph: Graph,
    /// Timestamp of the last transaction in it.
    pub timestamp: u64,
    /// Number of transactions in it.
    pub committed: u64,
    /// Epoch of the last transaction in it.
    pub epoch: EpochId,
    /// Epochs before that, each with the last timestamp in it.
    pub history: Vec<(EpochId, u64)>,
}

/// What an instance knows of itself across restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// It was a replica.
    pub is_replica: bool,
    /// Its uuid as MAIN, or the one it follows.
    pub uuid: Uuid,
    /// Its current epoch.
    pub epoch: EpochId,
    /// Earlier epochs, each with the last timestamp in it.
    pub history: Vec<(EpochId, u64)>,
}

/// How the storage is set up.
#[derive(Clone, Copy, Debug)]
pub struct StorageConfig {
    /// The log is made durable after this many transactions (`storage-wal-file-flush-every-n-tx`).
    pub wal_flush_every: u32,
    /// A snapshot is written after this many transactions, and the log before it is dropped; 0: never.
    pub snapshot_every: u32,
    /// Epochs in which nothing was committed enter the history too ([`super::quirks::Quirks::epochs_without_changes`]).
    pub empty_epochs: bool,
}

impl Default for StorageConfig {
    fn default() -> Self {
        StorageConfig { wal_flush_every: 100_000, snapshot_every: 0, empty_epochs: false }
    }
}

/// What is in an instance's storage.
#[derive(Debug, Default)]
pub struct Storage {
    config: StorageConfig,
    graph: Graph,
    /// Committed transactions after `base`.
    log: Vec<Arc<Committed>>,
    /// The newest snapshot, if there is one: what came before the log.
    base: Option<Arc<StoredGraph>>,
    /// Last durable timestamp: of the last transaction.
    timestamp: u64,
    /// Number of committed transactions.
    committed: u64,
    /// The current epoch.
    epoch: EpochId,
    /// Epoch of the last transaction.
    last_epoch: EpochId,
    history: Vec<(EpochId, u64)>,
    unsynced: u32,
}

impl Storage {
    /// Storage as it lies on disk, and who the instance was.
    pub fn recover(config: StorageConfig, disk: &DiskImage<Memgraph>) -> (Self, Option<Identity>) {
        let mut storage = Storage { config, ..Storage::default() };
        if let Some(Record::Snapshot(stored)) = disk.last(SNAPSHOT_FILE) {
            storage.load(stored.clone());
        }
        for record in disk.records(WAL_FILE) {
            if let Record::Committed(committed) = record
                && committed.timestamp > storage.timestamp
            {
                storage.replay(committed.clone());
            }
        }
        let identity = disk.last(IDENTITY_FILE).and_then(|record| match record {
            Record::Identity(identity) => Some(identity.clone()),
            _ => None,
        });
        if let Some(identity) = &identity {
            storage.epoch = identity.epoch;
            storage.history = identity.history.clone();
        }
        (storage, identity)
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Timestamp of the last transaction.
    pub fn timestamp(&self) -> u64 {
        self.timestamp
    }

    /// Number of committed transactions.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Number of committed transactions up to a timestamp, which the log must reach back to.
    pub fn committed_until(&self, timestamp: u64) -> u64 {
        let until = self.log.partition_point(|committed| committed.timestamp <= timestamp);
        self.committed - (self.log.len() - until) as u64
    }

    /// The current epoch.
    pub fn epoch(&self) -> EpochId {
        self.epoch
    }

    /// Earlier epochs, each with the last timestamp in it, and the current one.
    pub fn epochs(&self) -> Vec<(EpochId, u64)> {
        let mut epochs = self.history.clone();
        epochs.push((self.epoch, self.timestamp));
        epochs
    }

    /// Epoch of the last transaction.
    pub fn last_epoch(&self) -> EpochId {
        self.last_epoch
    }

    /// The last timestamp in an earlier epoch.
    pub fn end_of(&self, epoch: EpochId) -> Option<u64> {
        self.history.iter().rev().find(|(earlier, _)| *earlier == epoch).map(|(_, timestamp)| *timestamp)
    }

    /// Writes who the instance is.
    pub fn save_identity(&self, cx: &mut Cx<'_, Memgraph>, is_replica: bool, uuid: Uuid) {
        let identity = Identity { is_replica, uuid, epoch: self.epoch, history: self.history.clone() };
        cx.replace(IDENTITY_FILE, Record::Identity(identity));
        cx.sync(IDENTITY_FILE);
    }

    /// A new epoch begins; the old one enters the history, unless nothing was committed since the last entry.
    pub fn begin_epoch(&mut self, epoch: EpochId) {
        let moved = self.history.last().is_none_or(|(_, timestamp)| *timestamp != self.timestamp);
        if (moved || self.config.empty_epochs) && self.epoch != epoch {
            self.history.push((self.epoch, self.timestamp));
            if self.history.len() > HISTORY_MAX {
                self.history.remove(0);
            }
        }
        self.epoch = epoch;
    }

    /// Commits a transaction: graph, log, and disk.
    pub fn commit(&mut self, cx: &mut Cx<'_, Memgraph>, committed: Arc<Committed>) {
        cx.append(WAL_FILE, Record::Committed(committed.clone()));
        self.replay(committed);
        self.unsynced += 1;
        if self.unsynced >= self.config.wal_flush_every {
            self.unsynced = 0;
            cx.sync(WAL_FILE);
        }
        if self.config.snapshot_every > 0 && self.log.len() >= self.config.snapshot_every as usize {
            self.take_snapshot(cx);
        }
    }

    /// The transactions after a timestamp; `None` if the log does not reach back to it.
    pub fn log_after(&self, timestamp: u64) -> Option<Vec<Arc<Committed>>> {
        let begin = self.base.as_ref().map_or(0, |base| base.timestamp);
        if timestamp < begin {
            return None;
        }
        let from = self.log.partition_point(|committed| committed.timestamp <= timestamp);
        Some(self.log[from..].to_vec())
    }

    /// The newest snapshot, and all of the log.
    pub fn everything(&self) -> (Option<Arc<StoredGraph>>, Vec<Arc<Committed>>) {
        (self.base.clone(), self.log.clone())
    }

    /// Drops all data. The real instance keeps the files in a directory `.old`; nobody reads them again.
    pub fn reset(&mut self, cx: &mut Cx<'_, Memgraph>) {
        cx.truncate(WAL_FILE, 0);
        cx.replace(SNAPSHOT_FILE, Record::Snapshot(Arc::new(StoredGraph::default())));
        cx.sync(SNAPSHOT_FILE);
        *self = Storage { config: self.config, epoch: self.epoch, ..Storage::default() };
    }

    /// Takes over a snapshot in place of everything.
    pub fn install(&mut self, cx: &mut Cx<'_, Memgraph>, stored: Arc<StoredGraph>) {
        cx.truncate(WAL_FILE, 0);
        cx.replace(SNAPSHOT_FILE, Record::Snapshot(stored.clone()));
        cx.sync(SNAPSHOT_FILE);
        self.load(stored);
    }

    fn take_snapshot(&mut self, cx: &mut Cx<'_, Memgraph>) {
        let stored = Arc::new(storage::StoredGraph {
            graph: self.graph.clone(),
            timestamp: self.timestamp,
            committed: self.committed,
            epoch: self.last_epoch,
            history: self.history.clone(),
        });
        cx.replace(SNAPSHOT_FILE, Record::Snapshot(stored.clone()));
        cx.sync(SNAPSHOT_FILE);
        cx.truncate(WAL_FILE, 0);
        self.base = Some(stored);
        self.log.clear();
    }

    fn load(&mut self, stored: Arc<StoredGraph>) {
        self.graph = stored.graph.clone();
        self.timestamp = stored.timestamp;
        self.committed = stored.committed;
        self.epoch = stored.epoch;
        self.last_epoch = stored.epoch;
        self.history = stored.history.clone();
        self.log.clear();
        self.base = Some(stored);
    }

    fn replay(&mut self, committed: Arc<Committed>) {
        // Judged on MAIN before it was committed, and in the same order here.
        let applied = self.graph.apply(&committed.transaction);
        debug_assert!(applied.is_ok(), "replicas apply what MAIN committed: {applied:?}");
        if committed.epoch != self.epoch {
            self.begin_epoch(committed.epoch);
        }
        self.timestamp = committed.timestamp;
        self.last_epoch = committed.epoch;
        self.committed += 1;
        self.log.push(committed);
    }
}
