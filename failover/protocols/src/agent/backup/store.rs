//! The object store: whole objects under names, put on a condition, as S3 and its kin offer it.

use super::chain::log_bytes;
use super::{Backup, BackupId, Block, BlockNumber, Digest, Put, Session, digest_of};
use crate::agent::wal::{Entry, Lsn, Position, Term};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// An object's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Name {
    /// A block of a backup, as of its last change: a name never has two contents, so a put that arrives late, after it
    /// was given up and repeated, does no harm.
    Block(BackupId, BlockNumber, Lsn),
    /// The log of a backup from its start to its stop.
    Log(BackupId),
    /// A piece of the archive: term, and the position before its first entry. Two primaries that archive at the same
    /// time cannot overwrite each other, because their terms differ.
    Segment(Term, Lsn),
    /// How far an unfinished backup has come.
    Session,
    /// A catalog entry; put last.
    Catalog(BackupId),
    /// Who may write to the repository.
    Writer,
    /// A restore reads this backup: it must not be expired.
    Hold(BackupId),
    /// A position that somebody gave a name to.
    Point(u32),
}

/// The right to write to a repository: one holder at a time, by conditional puts (as litestream's lease file).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Writer {
    /// Who; agents are numbered from 1.
    pub holder: u8,
    /// Counts holders.
    pub generation: u64,
    /// Until when, in microseconds of the holder's wall clock.
    pub until: i64,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Object {
    /// A block.
    Block(Arc<Block>),
    /// A piece of log.
    Log(Arc<[Entry]>),
    /// An unfinished backup.
    Session(Session),
    /// A catalog entry.
    Catalog(Arc<Backup>),
    /// The right to write.
    Writer(Writer),
    /// A position: of a named point, or where a restore that holds a backup wants to arrive.
    Position(Position),
}

impl Object {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Object::Block(block) => 8 + block.graph.size(),
            Object::Log(entries) => log_bytes(entries),
            Object::Session(session) => 64 + 4 * session.stored.len() as u64,
            Object::Catalog(backup) => 96 + 24 * backup.blocks.len() as u64,
            Object::Writer(_) => 17,
            Object::Position(_) => 16,
        }
    }
}

/// What must hold for a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Condition {
    /// There is no such object (`If-None-Match: *`).
    Absent,
    /// The object is the one with this tag (`If-Match`).
    Tag(Digest),
    /// None.
    Always,
}

/// The condition did not hold; the tag of what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

    /// Puts what a test or a mirror wants there, whatever is there.
    pub fn take(&mut self, put: Put) {
        self.objects.insert(put.name, put.object);
    }

    /// An object.
    pub fn get(&self, name: Name) -> Option<&Object> {
        self.objects.get(&name)
    }

    /// A block.
    pub fn block(&self, holder: BackupId, number: BlockNumber, lsn: Lsn) -> Option<&Arc<Block>> {
        match self.get(Name::Block(holder, number, lsn))? {
            Object::Block(block) => Some(block),
            _ => None,
        }
    }

    /// A piece of log.
    pub fn log(&self, name: Name) -> Option<&Arc<[Entry]>> {
        match self.get(name)? {
            Object::Log(entries) => Some(entries),
            _ => None,
        }
    }

    /// A catalog entry.
    pub fn backup(&self, id: BackupId) -> Option<&Arc<Backup>> {
        match self.get(Name::Catalog(id))? {
            Object::Catalog(backup) => Some(backup),
            _ => None,
        }
    }

    /// The unfinished backup, if there is one.
    pub fn session(&self) -> Option<&Session> {
        match self.get(Name::Session)? {
            Object::Session(session) => Some(session),
            _ => None,
        }
    }

    /// The catalog, oldest first.
    pub fn catalog(&self) -> impl DoubleEndedIterator<Item = &Arc<Backup>> {
        let all = Name::Catalog(BackupId(0))..=Name::Catalog(BackupId(u32::MAX));
        self.objects.range(all).filter_map(|(_, object)| match object {
            Object::Catalog(backup) => Some(backup),
            _ => None,
        })
    }

    /// Archived pieces: term, position before the first entry, entries; in order of terms, then of positions.
    pub fn segments(&self) -> impl Iterator<Item = (Term, Lsn, &Arc<[Entry]>)> {
        let all = Name::Segment(Term(0), Lsn(0))..=Name::Segment(Term(u64::MAX), Lsn(u64::MAX));
        self.objects.range(all).filter_map(|(name, object)| match (name, object) {
            (Name::Segment(term, after), Object::Log(entries)) => Some((*term, *after, entries)),
            _ => None,
        })
    }

    /// The archived log as its newest term tells it: a piece of a higher term overrules everything of lower ones
    /// behind its beginning.
    pub fn history(&self) -> BTreeMap<Lsn, &Entry> {
        let mut history = BTreeMap::new();
        let mut newest = Term(0);
        for (term, after, entries) in self.segments() {
            if term > newest {
                newest = term;
                history.split_off(&after.next());
            }
            history.extend(entries.iter().map(|entry| (entry.position.lsn, entry)));
        }
        history
    }

    /// Backups that restores under way read.
    pub fn held(&self) -> Vec<BackupId> {
        let all = Name::Hold(BackupId(0))..=Name::Hold(BackupId(u32::MAX));
        self.objects
            .range(all)
            .filter_map(|(name, _)| match name {
                Name::Hold(id) => Some(*id),
                _ => None,
            })
            .collect()
    }

    /// Puts back what was under a name.
    pub fn restore_to(&mut self, name: Name, before: Option<Object>) {
        match before {
            Some(object) => drop(self.objects.insert(name, object)),
            None => drop(self.objects.remove(&name)),
        }
    }

    /// Exchanges two objects under their names; whether both are there.
    pub fn exchange(&mut self, one: Name, other: Name) -> bool {
        let (Some(a), Some(b)) = (self.objects.get(&one).cloned(), self.objects.get(&other).cloned()) else {
            return false;
        };
        self.objects.insert(one, b);
        self.objects.insert(other, a);
        one != other
    }

    /// Removes an object.
    pub fn delete(&mut self, name: Name) -> bool {
        self.objects.remove(&name).is_some()
    }

    /// Everything of one backup but its catalog entry.
    pub fn delete_contents(&mut self, id: BackupId) {
        let blocks =
            Name::Block(id, BlockNumber(0), Lsn(0))..=Name::Block(id, BlockNumber(u32::MAX), Lsn(u64::MAX));
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

    /// Bit rot: a block or a piece of log changes without anybody writing it. Whether there was one.
    pub fn rot(&mut self, name: Name) -> bool {
        match self.objects.get_mut(&name) {
            Some(Object::Block(block)) => {
                Arc::make_mut(block).lsn.0 ^= 1 << 40;
                true
            }
            Some(Object::Log(entries)) if !entries.is_empty() => {
                let mut rotten = entries.to_vec();
                rotten[0].position.term.0 ^= 1 << 40;
                *entries = rotten.into();
                true
            }
            _ => false,
        }
    }
}
