//! A restore drill: what a disaster now would cost, measured by a restore and a model of time.

use super::{BackupId, Level, Source, Store, Unrestorable, newest, verify};
use crate::agent::wal::Lsn;
use crate::contract::{Duration, Key, Value};
use alloc::vec::Vec;

/// How fast the parts of a restore are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Until somebody has decided to restore, and a machine is there.
    pub prepare: Duration,
    /// Bytes a second from the store.
    pub bandwidth: u64,
    /// From the request for an object to its first byte.
    pub object_latency: Duration,
    /// Entries replayed in a second.
    pub replay_per_second: u64,
    /// Bytes verified in a second.
    pub verify_per_second: u64,
}

impl Default for Costs {
    fn default() -> Self {
        Costs {
            prepare: Duration::from_secs(60),
            bandwidth: 100 << 20,
            object_latency: Duration::from_millis(20),
            replay_per_second: 50_000,
            verify_per_second: 500 << 20,
        }
    }
}

impl Costs {
    /// Time to fetch so many objects of so many bytes together.
    pub fn fetch(&self, objects: u64, bytes: u64) -> Duration {
        self.object_latency * objects as u32 + per(bytes, self.bandwidth)
    }

    /// Time to replay so many entries and to verify so many bytes.
    pub fn replay(&self, entries: u64, bytes: u64) -> Duration {
        per(entries, self.replay_per_second) + per(bytes, self.verify_per_second)
    }
}

/// So much at so much a second.
pub fn per(amount: u64, rate: u64) -> Duration {
    Duration::from_micros(amount.saturating_mul(1_000_000) / rate.max(1))
}

/// The result of a drill.
#[derive(Clone, Debug, PartialEq)]
pub struct Drill {
    /// What was restored.
    pub from: BackupId,
    /// The position that it reached, with the archive.
    pub reached: Lsn,
    /// Newer backups that could not be restored.
    pub broken: usize,
    /// Links of the chain, the backup itself included.
    pub chain: usize,
    /// How far it was proved.
    pub level: Level,
    /// Decide, fetch, replay, verify.
    pub rto: Duration,
    /// Acknowledged entries behind the position.
    pub rpo_writes: u64,
    /// Their bytes.
    pub rpo_bytes: u64,
}

/// Restores the newest state there is, as if the source were gone now, and compares it with the source's log.
///
/// # Errors
/// Nothing can be restored.
pub fn drill(
    store: &Store,
    source: &Source,
    costs: &Costs,
    state_at: impl Fn(Lsn) -> Vec<(Key, Vec<Value>)>,
) -> Result<Drill, Unrestorable> {
    let (reached, broken) = newest(store).ok_or(Unrestorable::Unlisted)?;
    let backup = store.backup(reached.from).ok_or(Unrestorable::Unlisted)?;
    let equal = reached.elements() == state_at(reached.at);
    let level = match verify(store, backup.id, Level::Compared, |_| equal) {
        Ok(level) => level,
        Err((level, _)) => level.unwrap_or(Level::Listed),
    };
    let bytes = reached.size();
    let rto = costs.prepare + costs.fetch(reached.fetched, bytes) + costs.replay(reached.replayed, bytes);
    let lost = &source.entries()[reached.at.0 as usize..];
    let mut holders: Vec<BackupId> = backup.blocks.values().map(|place| place.holder).collect();
    holders.sort_unstable();
    holders.dedup();
    Ok(Drill {
        from: backup.id,
        reached: reached.at,
        broken,
        chain: holders.len(),
        level,
        rto,
        rpo_writes: lost.len() as u64,
        rpo_bytes: super::chain::log_bytes(lost),
    })
}
