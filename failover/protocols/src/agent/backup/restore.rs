//! Restoring, verifying, expiring.

use super::source::block_of;
use super::{Backup, BackupId, Block, BlockNumber, Kind, Name, Store, digest_of};
use crate::agent::wal::{Entry, Lsn};
use crate::contract::{Key, Value};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A restored state.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    /// What it was restored from.
    pub from: BackupId,
    /// The position it is the state of.
    pub at: Lsn,
    /// Its blocks.
    pub blocks: BTreeMap<BlockNumber, Arc<Block>>,
    /// Blocks fetched.
    pub fetched: u64,
    /// Entries replayed.
    pub replayed: u64,
}

impl Restored {
    /// Each key with its elements, in order of keys.
    pub fn elements(&self) -> Vec<(Key, Vec<Value>)> {
        let mut all: Vec<_> = self.blocks.values().flat_map(|block| block.graph.elements()).collect();
        all.sort_by_key(|(key, _)| *key);
        all
    }
}

/// Why nothing can be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrestorable {
    /// Not in the catalog.
    Unlisted,
    /// A backup that it rests on is not in the catalog.
    ParentMissing(BackupId),
    /// A block is not there.
    BlockMissing(BackupId, BlockNumber),
    /// A block is not what was stored.
    BlockCorrupt(BackupId, BlockNumber),
    /// The log that makes the copy a state is not there, or not what was stored.
    LogBroken(BackupId),
    /// The archive has a gap behind this position.
    ArchiveGap(Lsn),
    /// The position lies before the backup's own.
    TooEarly,
}

/// How far a backup is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The catalog is closed and every object is there.
    Listed,
    /// Every digest is right.
    Digest,
    /// A restore came to its end.
    Restored,
    /// And what it gave is the state of its position.
    Compared,
}

/// The state of a backup's stop position.
///
/// # Errors
/// Something that it needs is missing or broken: nothing is given out then.
pub fn restore(store: &Store, id: BackupId) -> Result<Restored, Unrestorable> {
    let backup = store.backup(id).ok_or(Unrestorable::Unlisted)?;
    ancestors(store, backup)?;
    let mut blocks = BTreeMap::new();
    for (number, place) in &backup.blocks {
        let missing = Unrestorable::BlockMissing(place.holder, *number);
        let block = store.block(place.holder, *number).ok_or(missing)?;
        if digest_of(&**block) != place.digest {
            return Err(Unrestorable::BlockCorrupt(place.holder, *number));
        }
        blocks.insert(*number, block.clone());
    }
    let mut restored =
        Restored { from: id, at: backup.stop, fetched: blocks.len() as u64, blocks, replayed: 0 };
    if let Some(digest) = backup.log {
        let entries = store.log(Name::Log(id)).filter(|entries| digest_of(&&***entries) == digest);
        replay(&mut restored, entries.ok_or(Unrestorable::LogBroken(id))?);
    }
    Ok(restored)
}

/// The state of a later position: the backup, then the archive. The archive must reach it without a gap.
///
/// # Errors
/// As [`restore`]; or the position lies before the backup's, or the archive has a gap.
pub fn restore_to(store: &Store, id: BackupId, target: Lsn) -> Result<Restored, Unrestorable> {
    let mut restored = restore(store, id)?;
    if target < restored.at {
        return Err(Unrestorable::TooEarly);
    }
    let term = store.backup(id).ok_or(Unrestorable::Unlisted)?.term;
    for (after, entries) in store.segments(term) {
        let end = Lsn(after.0 + entries.len() as u64);
        if end <= restored.at || restored.at >= target {
            continue;
        }
        if after > restored.at {
            return Err(Unrestorable::ArchiveGap(restored.at));
        }
        let from = (restored.at.0 - after.0) as usize;
        let upto = ((target.0 - after.0) as usize).min(entries.len());
        replay(&mut restored, &entries[from..upto]);
        restored.at = Lsn(after.0 + upto as u64);
    }
    if restored.at < target { Err(Unrestorable::ArchiveGap(restored.at)) } else { Ok(restored) }
}

fn replay(restored: &mut Restored, entries: &[Entry]) {
    for entry in entries {
        if let Some(number) = block_of(&entry.content) {
            let block = restored.blocks.entry(number).or_default();
            if block.lsn < entry.position.lsn {
                Arc::make_mut(block).redo(entry);
                restored.replayed += 1;
            }
        }
    }
}

/// The chain below a backup must be listed, whole.
fn ancestors(store: &Store, backup: &Backup) -> Result<Vec<BackupId>, Unrestorable> {
    let mut chain = Vec::new();
    let mut at = backup.parent.filter(|_| backup.kind == Kind::Delta);
    while let Some(id) = at {
        let parent = store.backup(id).ok_or(Unrestorable::ParentMissing(id))?;
        chain.push(id);
        at = parent.parent.filter(|_| parent.kind == Kind::Delta);
    }
    Ok(chain)
}

/// How far a backup can be proved by what is in the store; `compare` is asked last, with the restored state.
///
/// # Errors
/// The level that was reached, if any, and what stopped it.
pub fn verify(
    store: &Store,
    id: BackupId,
    wanted: Level,
    compare: impl FnOnce(&Restored) -> bool,
) -> Result<Level, (Option<Level>, Unrestorable)> {
    let backup = store.backup(id).ok_or((None, Unrestorable::Unlisted))?;
    ancestors(store, backup).map_err(|why| (None, why))?;
    for (number, place) in &backup.blocks {
        if store.block(place.holder, *number).is_none() {
            return Err((None, Unrestorable::BlockMissing(place.holder, *number)));
        }
    }
    if backup.log.is_some() && store.log(Name::Log(id)).is_none() {
        return Err((None, Unrestorable::LogBroken(id)));
    }
    if wanted == Level::Listed {
        return Ok(Level::Listed);
    }
    // Digests are checked where the blocks are read: a restore is the proof of both.
    let restored = restore(store, id).map_err(|why| (Some(Level::Listed), why))?;
    match wanted {
        Level::Listed | Level::Digest => Ok(Level::Digest),
        Level::Restored => Ok(Level::Restored),
        Level::Compared if compare(&restored) => Ok(Level::Compared),
        Level::Compared => Ok(Level::Restored),
    }
}

/// The newest backup that can be restored, and how many newer ones cannot: one bad point does not sink the chain.
pub fn newest_restorable(store: &Store) -> Option<(Restored, usize)> {
    let mut lost = 0;
    for backup in store.catalog().rev() {
        match restore(store, backup.id) {
            Ok(restored) => return Some((restored, lost)),
            Err(_) => lost += 1,
        }
    }
    None
}

/// Expires all but the newest `chains` chains. A chain goes as a whole, never below the unfinished backup's parent,
/// and the catalog entries go first, children before parents, so that what is listed can be restored at every step.
/// Gives what was expired.
pub fn retain(store: &mut Store, chains: usize) -> Vec<BackupId> {
    let all: Vec<Arc<Backup>> = store.catalog().cloned().collect();
    let roots: Vec<BackupId> = all.iter().filter(|b| b.kind != Kind::Delta).map(|b| b.id).collect();
    let Some(oldest_kept) = roots.len().checked_sub(chains.max(1)).and_then(|at| roots.get(at)).copied()
    else {
        return Vec::new();
    };
    let mut needed: BTreeSet<BackupId> = all.iter().map(|b| b.id).filter(|id| *id >= oldest_kept).collect();
    let parents: Vec<BackupId> =
        store.session().and_then(|session| session.plan.parent).into_iter().collect();
    for id in needed.clone().into_iter().chain(parents) {
        let Some(backup) = store.backup(id) else { continue };
        needed.insert(id);
        needed.extend(backup.blocks.values().map(|place| place.holder));
        needed.extend(ancestors(store, backup).unwrap_or_default());
    }
    let expired: Vec<BackupId> = all.iter().map(|b| b.id).filter(|id| !needed.contains(id)).collect();
    for id in expired.iter().rev() {
        store.delete(Name::Catalog(*id));
    }
    expired.iter().for_each(|id| store.delete_contents(*id));
    expired
}
