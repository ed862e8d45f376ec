//! The object store: whole objects under names, put on a condition, as S3 and its kin offer it.

use super::{Backup, BackupId, Block, BlockNumber, Digest, Session, digest_of};
use crate::agent::wal::{Entry, Lsn, Term};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// An object's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// A block of a backup.
    Block(BackupId, BlockNumber),
    /// The log of a backup from its start to its stop.
    Log(BackupId),
    /// A piece of the archive: term, and the position before its first entry. Two primaries that archive at the same
    /// time cannot overwrite each other, because their terms differ.
    Segment(Term, Lsn),
    /// How far an unfinished backup has come.
    Session,
    /// A catalog entry; put last.
    Catalog(BackupId),
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    /// A block.
    Block(Arc<Block>),
    /// A piece of log.
    Log(Arc<[Entry]>),
    /// An unfinished backup.
    Session(Session),
    /// A catalog entry.
    Catalog(Arc<Backup>),
}

/// What must hold for a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is no such object (`If-None-Match: *`).
    Absent,
    /// The object is the one with this tag (`If-Match`).
    Tag(Digest),
    /// None.
    Always,
}

/// The condition did not hold; the tag of what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutError(pub Option<Digest>);

/// The store.
#[derive(Clone, Debug, Default)]
pub struct Store {
    objects: BTreeMap<Name, Object>,
}

impl Store {
    /// Puts an object if the condition holds.
    ///
    /// # Errors
    /// The condition does not hold.
    pub fn put(&mut self, name: Name, object: Object, condition: Condition) -> Result<(), PutError> {
        let there = match condition {
            Condition::Always => None,
            Condition::Absent | Condition::Tag(_) => self.objects.get(&name).map(digest_of),
        };
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => there.is_none(),
            Condition::Tag(tag) => there == Some(tag),
        };
        if !holds {
            return Err(PutError(there));
        }
        self.objects.insert(name, object);
        Ok(())
    }

    /// An object.
    pub fn get(&self, name: Name) -> Option<&Object> {
        self.objects.get(&name)
    }

    /// A block.
    pub fn block(&self, holder: BackupId, number: BlockNumber) -> Option<&Arc<Block>> {
        match self.get(Name::Block(holder, number))? {
            Object::Block(block) => Some(block),
            Object::Log(_) | Object::Session(_) | Object::Catalog(_) => None,
        }
    }

    /// A piece of log.
    pub fn log(&self, name: Name) -> Option<&Arc<[Entry]>> {
        match self.get(name)? {
            Object::Log(entries) => Some(entries),
            Object::Block(_) | Object::Session(_) | Object::Catalog(_) => None,
        }
    }

    /// A catalog entry.
    pub fn backup(&self, id: BackupId) -> Option<&Arc<Backup>> {
        match self.get(Name::Catalog(id))? {
            Object::Catalog(backup) => Some(backup),
            Object::Block(_) | Object::Session(_) | Object::Log(_) => None,
        }
    }

    /// The unfinished backup, if there is one.
    pub fn session(&self) -> Option<&Session> {
        match self.get(Name::Session)? {
            Object::Session(session) => Some(session),
            Object::Block(_) | Object::Log(_) | Object::Catalog(_) => None,
        }
    }

    /// The catalog, oldest first.
    pub fn catalog(&self) -> impl DoubleEndedIterator<Item = &Arc<Backup>> {
        let all = Name::Catalog(BackupId(0))..=Name::Catalog(BackupId(u32::MAX));
        self.objects.range(all).filter_map(|(_, object)| match object {
            Object::Catalog(backup) => Some(backup),
            Object::Block(_) | Object::Log(_) | Object::Session(_) => None,
        })
    }

    /// Archived pieces of one term, in order.
    pub fn segments(&self, term: Term) -> impl Iterator<Item = (Lsn, &Arc<[Entry]>)> {
        let all = Name::Segment(term, Lsn(0))..=Name::Segment(term, Lsn(u64::MAX));
        self.objects.range(all).filter_map(|(name, object)| match (name, object) {
            (Name::Segment(_, after), Object::Log(entries)) => Some((*after, entries)),
            _ => None,
        })
    }

    /// Removes an object.
    pub fn delete(&mut self, name: Name) -> bool {
        self.objects.remove(&name).is_some()
    }

    /// Everything of one backup but its catalog entry.
    pub fn delete_contents(&mut self, id: BackupId) {
        let blocks = Name::Block(id, BlockNumber(0))..=Name::Block(id, BlockNumber(u32::MAX));
        let names: Vec<Name> = self.objects.range(blocks).map(|(name, _)| *name).collect();
        names.into_iter().for_each(|name| {
            self.objects.remove(&name);
        });
        self.objects.remove(&Name::Log(id));
    }

    /// Names of all objects: for faults that strike one of them.
    pub fn names(&self) -> Vec<Name> {
        self.objects.keys().copied().collect()
    }

    /// Bit rot: a block changes without anybody writing it. Whether there was such a block.
    pub fn rot(&mut self, name: Name) -> bool {
        match self.objects.get_mut(&name) {
            Some(Object::Block(block)) => {
                Arc::make_mut(block).lsn.0 ^= 1 << 40;
                true
            }
            Some(Object::Log(_) | Object::Session(_) | Object::Catalog(_)) | None => false,
        }
    }
}
