//! The words of a catalog: backups, their block maps, digests.

use super::{Block, BlockNumber};
use crate::agent::wal::{Entry, Fnv, Lsn, Position, Term};
use alloc::collections::BTreeMap;
use core::hash::{Hash, Hasher};

/// A backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct BackupId(pub u32);

/// What a backup is built on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    /// All blocks; the beginning of a chain.
    Base,
    /// The blocks that changed since its parent.
    Delta,
    /// All blocks again, inside a chain: what comes after it rests on nothing before it.
    Checkpoint,
}

/// Tells contents apart. 64 bits are enough between the faults of a simulation; a real store wants a strong hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Digest(pub u64);

/// The digest of a value.
pub fn digest_of(value: &impl Hash) -> Digest {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    value.hash(&mut hasher);
    Digest(hasher.finish())
}

impl Digest {
    /// The digest of everything so far and one block more: `h(i) = H(h(i-1), i, block)`. A missing, exchanged or
    /// truncated block changes every digest behind it.
    pub fn roll(self, number: BlockNumber, block: &Block) -> Digest {
        digest_of(&(self, number, digest_of(block)))
    }
}

/// Where a block of a backup lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct BlockRef {
    /// The backup that stored it: this one or an ancestor.
    pub holder: BackupId,
    /// Its last change when it was copied.
    pub lsn: Lsn,
    /// Its digest.
    pub digest: Digest,
}

/// A catalog entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Backup {
    /// Its name.
    pub id: BackupId,
    /// What it is built on.
    pub kind: Kind,
    /// The backup before it in its chain.
    pub parent: Option<BackupId>,
    /// Term of the source.
    pub term: Term,
    /// Everything up to here was in the blocks when the copy began.
    pub start: Lsn,
    /// The position that a restore reaches.
    pub stop: Lsn,
    /// Term of the entry there: with it the position says which history it is of.
    pub stop_term: Term,
    /// All blocks of the state, wherever they lie.
    pub blocks: BTreeMap<BlockNumber, BlockRef>,
    /// Rolling digest of the blocks that this backup stored itself, in order.
    pub rolled: Digest,
    /// Digest of the log from start to stop; `None`: no log goes along (the naive form).
    pub log: Option<Digest>,
    /// Digest of the source's state at the stop, if the source told it: what a restore is compared with.
    pub state: Option<Digest>,
    /// Bytes that it stored.
    pub bytes: u64,
}

impl Backup {
    /// Where a restore arrives.
    pub fn end(&self) -> Position {
        Position { term: self.stop_term, lsn: self.stop }
    }
}

/// Bytes of a piece of log.
pub(super) fn log_bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| u64::from(entry.length())).sum()
}
