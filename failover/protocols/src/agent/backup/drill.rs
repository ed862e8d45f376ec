//! A restore drill: what a disaster now would cost, measured by a restore and a model of time.

use super::{BackupId, Level, Source, Store, Unrestorable, newest_restorable, restore_to, verify};
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
    let (restored, broken) = newest_restorable(store).ok_or(Unrestorable::Unlisted)?;
    let backup = store.backup(restored.from).ok_or(Unrestorable::Unlisted)?;
    let archived =
        store.segments(backup.term).map(|(after, entries)| Lsn(after.0 + entries.len() as u64)).max();
    let mut reached = restored;
    if let Some(target) = archived.filter(|target| *target > reached.at) {
        // An archive with a gap gives what lies before it.
        match restore_to(store, backup.id, target) {
            Ok(further) => reached = further,
            Err(Unrestorable::ArchiveGap(at)) if at > reached.at => {
                reached = restore_to(store, backup.id, at)?
            }
            Err(_) => {}
        }
    }
    let equal = reached.elements() == state_at(reached.at);
    let level = match verify(store, backup.id, Level::Compared, |_| equal) {
        Ok(level) => level,
        Err((level, _)) => level.unwrap_or(Level::Listed),
    };
    let bytes: u64 = reached.blocks.values().map(|block| block.graph.size()).sum();
    let per = |amount: u64, rate: u64| Duration::from_micros(amount.saturating_mul(1_000_000) / rate.max(1));
    let rto = costs.prepare
        + costs.object_latency * reached.fetched as u32
        + per(bytes, costs.bandwidth)
        + per(reached.replayed, costs.replay_per_second)
        + per(bytes, costs.verify_per_second);
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
