//! One run, indexed once for all measures.

use super::MeterOptions;
use super::finals::{Finals, Survival};
use super::timeline::Timeline;
use crate::record::{Action, Operation, Outcome, Purpose, Records, Returned, SimTime};

/// The records of a run and what every measure needs of them.
pub(crate) struct Run<'a> {
    pub records: &'a Records,
    pub options: &'a MeterOptions,
    /// Number of shards, at least 1.
    pub shards: usize,
    pub timeline: Timeline,
    pub finals: Finals,
    /// What became of each operation, by its index in the history.
    pub survival: Vec<Survival>,
}

impl<'a> Run<'a> {
    pub fn new(records: &'a Records, options: &'a MeterOptions) -> Self {
        let shards = shard_count(records);
        let timeline = Timeline::new(records, shards);
        let (finals, survival) = Finals::new(records, shards, &timeline);
        Run { records, options, shards, timeline, finals, survival }
    }

    /// The shard of an operation.
    pub fn shard_of(&self, operation: &Operation) -> usize {
        self.records.history.keys[operation.key.0 as usize].shard.0 as usize
    }

    /// When each fault began, in order.
    pub fn fault_times(&self) -> impl Iterator<Item = SimTime> + '_ {
        self.records.journal.faults.iter().map(|fault| fault.began.at)
    }

    /// The latest fault begun at or before `at`.
    pub fn fault_before(&self, at: SimTime) -> Option<usize> {
        self.fault_times().take_while(|began| *began <= at).count().checked_sub(1)
    }

    /// When the last fault healed; the beginning of the quiet tail if one never did; the start without faults.
    pub fn last_heal(&self) -> SimTime {
        let heals = self.records.journal.faults.iter().map(|fault| match fault.healed {
            Some(healed) => healed.at,
            None => self.records.healed,
        });
        heals.max().unwrap_or_default()
    }
}

/// As many shards as the topology names, and at least as many as the records use.
fn shard_count(records: &Records) -> usize {
    let used = records.history.keys.iter().map(|key| key.shard.0);
    let seen = records.observations.iter().map(|said| said.shard.0);
    let most = used.chain(seen).max().map_or(1, |last| last as usize + 1);
    most.max(records.topology.shards as usize)
}

/// An acknowledged write: the client was told that it took effect. Deletes and compare-and-sets count; a
/// compare-and-set that found another value changed nothing and is no write.
pub(crate) fn acknowledged_write(operation: &Operation) -> bool {
    operation.is_write()
        && matches!(&operation.outcome, Outcome::Ok(returned) if !matches!(returned, Returned::Mismatch(_)))
}

/// The value a write would leave.
pub(crate) fn written_value(action: Action) -> Option<u64> {
    match action {
        Action::Read => None,
        Action::Append(value) | Action::Write(value) => Some(value),
        Action::Cas { to, .. } => Some(to),
    }
}

/// Load and probes, not the reads of the end.
pub(crate) fn by_clients(operation: &Operation) -> bool {
    match operation.purpose {
        Purpose::Workload | Purpose::Probe => true,
        Purpose::FinalRead { .. } => false,
    }
}
