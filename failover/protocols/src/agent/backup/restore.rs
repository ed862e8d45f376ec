//! Restoring, verifying, expiring.

use super::source::block_of;
use super::{Backup, BackupId, Block, BlockNumber, Digest, Kind, Name, Store, digest_of, state_digest};
use crate::agent::wal::{Content, Entry, Lsn, Position, Term};
use crate::contract::{Key, Value, WallTime};
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
    /// Term of the entry there.
    pub term: Term,
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

    /// The position with its term.
    pub fn end(&self) -> Position {
        Position { term: self.term, lsn: self.at }
    }

    /// The digest of the state, to be compared with the source's.
    pub fn digest(&self) -> Digest {
        state_digest(self.blocks.values())
    }

    /// Bytes of the state.
    pub fn size(&self) -> u64 {
        self.blocks.values().map(|block| block.graph.size()).sum()
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
    /// The backup ends on a branch that the archive's newest history has overruled.
    OtherHistory,
    /// The archive has no point of this name.
    NoSuchPoint,
    /// The archive begins after this time, or does not reach it: nobody can say what the state was.
    TimeNotArchived,
}

/// Where a restore is to arrive (PostgreSQL: `recovery_target`, `_lsn`, `_time`, `_name`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// As far as the archive reaches.
    Newest,
    /// At the end of the backup itself: the archive is left alone.
    BackupEnd,
    /// At this position.
    Position(Lsn),
    /// Before the first entry that was written later than this.
    Time(WallTime),
    /// At the point of this name; at the latest one, if it was given more than once.
    Point(Arc<str>),
}

/// A target that is found in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// As far as the archive reaches behind the backup.
    Furthest,
    /// At the backup's end.
    BackupEnd,
    /// At this position, and nowhere else.
    At(Lsn),
}

/// Finds a target. A time is found by the stamps of the entries; where a new primary's clock was behind, later entries may
/// be stamped earlier ([`stamped_back`] counts them), and the position decides, as recovery stops at the first later one.
/// A time that the archive does not reach is refused: what was written before it may be missing.
///
/// # Errors
/// The archive does not have it.
pub fn arrival(store: &Store, target: &Target) -> Result<Arrival, Unrestorable> {
    let history = store.history();
    match target {
        Target::Newest => Ok(Arrival::Furthest),
        Target::BackupEnd => Ok(Arrival::BackupEnd),
        Target::Position(lsn) => Ok(Arrival::At(*lsn)),
        Target::Time(time) => {
            let later = history.values().find(|entry| entry.at > *time).map(|entry| entry.position.lsn);
            match (history.keys().next(), later) {
                (Some(first), Some(later)) if later > *first => Ok(Arrival::At(Lsn(later.0 - 1))),
                _ => Err(Unrestorable::TimeNotArchived),
            }
        }
        Target::Point(name) => {
            let named = |entry: &&&Entry| matches!(&entry.content, Content::Point(other) if other == name);
            let found = history.values().rev().find(named).map(|entry| Arrival::At(entry.position.lsn));
            found.ok_or(Unrestorable::NoSuchPoint)
        }
    }
}

/// Entries behind a position that are stamped no later than `time`: clocks of primaries differed.
pub fn stamped_back(store: &Store, at: Lsn, time: WallTime) -> u64 {
    let history = store.history();
    history.range(at.next()..).filter(|(_, entry)| entry.at <= time).count() as u64
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
        let block = store.block(place.holder, *number, place.lsn).ok_or(missing)?;
        if digest_of(&**block) != place.digest {
            return Err(Unrestorable::BlockCorrupt(place.holder, *number));
        }
        blocks.insert(*number, block.clone());
    }
    let mut restored = Restored {
        from: id,
        at: backup.stop,
        term: backup.stop_term,
        fetched: blocks.len() as u64,
        blocks,
        replayed: 0,
    };
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
    if target == restored.at {
        return Ok(restored);
    }
    let history = store.history();
    if history.get(&restored.at).is_some_and(|entry| entry.position != restored.end()) {
        return Err(Unrestorable::OtherHistory);
    }
    while restored.at < target {
        let next = history.get(&restored.at.next()).filter(|entry| entry.position.term >= restored.term);
        let entry = next.ok_or(Unrestorable::ArchiveGap(restored.at))?;
        replay(&mut restored, core::slice::from_ref(*entry));
        (restored.at, restored.term) = (entry.position.lsn, entry.position.term);
    }
    Ok(restored)
}

/// The last position that the archive reaches from `from` without a gap; `from` itself if it reaches no further.
pub fn reach(store: &Store, from: Position) -> Lsn {
    let history = store.history();
    if history.get(&from.lsn).is_some_and(|entry| entry.position != from) {
        return from.lsn;
    }
    let mut at = from.lsn;
    while history.contains_key(&at.next()) {
        at = at.next();
    }
    at
}

/// The newest state there is: the backup, with the archive behind it, that arrives furthest; the newer backup where two
/// arrive at the same place. Also how many backups could not be restored. One bad point does not sink the chain.
pub fn newest(store: &Store) -> Option<(Restored, usize)> {
    let (mut best, mut broken): (Option<Restored>, usize) = (None, 0);
    for backup in store.catalog().rev() {
        let upto = reach(store, backup.end());
        // Older ones arrive no further, unless the newer one is on another history.
        if best.as_ref().is_some_and(|best| best.at >= upto && best.term >= backup.stop_term) {
            continue;
        }
        match restore_to(store, backup.id, upto) {
            Ok(restored) if best.as_ref().is_none_or(|best| restored.end() > best.end()) => {
                best = Some(restored)
            }
            Ok(_) => {}
            Err(_) => broken += 1,
        }
    }
    best.map(|best| (best, broken))
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
        if store.block(place.holder, *number, place.lsn).is_none() {
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

/// Expires all but the newest `chains` chains. A chain goes as a whole, never below the unfinished backup's parent,
/// and the catalog entries go first, children before parents, so that what is listed can be restored at every step.
/// Gives what was expired.
pub fn retain(store: &mut Store, chains: usize) -> Vec<BackupId> {
    let expired = expirable(store, chains);
    for id in expired.iter().rev() {
        store.delete(Name::Catalog(*id));
    }
    expired.iter().for_each(|id| store.delete_contents(*id));
    expired
}

/// What may be expired now, oldest first: nothing that a kept backup, the unfinished one or a restore under way needs.
pub fn expirable(store: &Store, chains: usize) -> Vec<BackupId> {
    let all: Vec<Arc<Backup>> = store.catalog().cloned().collect();
    let roots: Vec<BackupId> = all.iter().filter(|b| b.kind != Kind::Delta).map(|b| b.id).collect();
    let Some(oldest_kept) = roots.len().checked_sub(chains.max(1)).and_then(|at| roots.get(at)).copied()
    else {
        return Vec::new();
    };
    let mut needed: BTreeSet<BackupId> = all.iter().map(|b| b.id).filter(|id| *id >= oldest_kept).collect();
    let parent = store.session().and_then(|session| session.plan.parent);
    for id in needed.clone().into_iter().chain(parent).chain(store.held()) {
        let Some(backup) = store.backup(id) else { continue };
        needed.insert(id);
        needed.extend(backup.blocks.values().map(|place| place.holder));
        needed.extend(ancestors(store, backup).unwrap_or_default());
    }
    all.iter().map(|b| b.id).filter(|id| !needed.contains(id)).collect()
}
