//! Taking a backup: block by block, with a saved session, so that an interruption costs only the last group.

use super::chain::log_bytes;
use super::{
    Backup, BackupId, Block, BlockNumber, BlockRef, Condition, Digest, Kind, Name, Object, Source, Store,
    digest_of,
};
use crate::agent::wal::{Lsn, Term};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// How the copy becomes a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Snapshot {
    /// The log from start to stop goes along.
    Consistent,
    /// As a published sample has it: the memory is copied, the queue of acknowledged changes is left out, and the
    /// label says the acknowledged position.
    Naive,
}

/// What is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Plan {
    /// Its name.
    pub id: BackupId,
    /// Its kind.
    pub kind: Kind,
    /// What it is built on.
    pub parent: Option<BackupId>,
    /// Blocks between two savings of the session.
    pub group: u32,
    /// How the copy becomes a state.
    pub snapshot: Snapshot,
}

/// How far a backup has come; saved after each group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Session {
    /// What is being taken.
    pub plan: Plan,
    /// Term of the source.
    pub term: Term,
    /// Where it began.
    pub start: Lsn,
    /// The last block that is stored, and looked at.
    pub last_block: Option<BlockNumber>,
    /// Blocks it has stored itself, in order.
    pub stored: Vec<BlockNumber>,
    /// Rolling digest over them.
    pub rolled: Digest,
}

/// A backup under way.
#[derive(Clone, Debug)]
pub struct Copying {
    session: Session,
    /// The parent's map, replaced block by block.
    map: BTreeMap<BlockNumber, BlockRef>,
    todo: Vec<BlockNumber>,
    since_saved: u32,
    bytes: u64,
}

/// What became of a saved session.
#[derive(Debug)]
pub enum Resume {
    /// It goes on behind its last block.
    Resumed(Copying),
    /// It cannot, for this reason; begin anew.
    Restart(&'static str),
    /// There is none.
    Nothing,
}

/// Begins a backup.
pub fn begin(store: &mut Store, source: &Source, plan: Plan) -> Copying {
    let session = Session {
        plan,
        term: source.term(),
        start: source.applied(),
        last_block: None,
        stored: Vec::new(),
        rolled: Digest::default(),
    };
    let copying = Copying::new(store, source, session);
    copying.save(store);
    copying
}

/// Goes on with a saved session, if everything it rests on still holds: the parent, the term, the log since its start,
/// and, digest by digest, the blocks it says it stored.
pub fn resume(store: &Store, source: &Source) -> Resume {
    let Some(session) = store.session() else { return Resume::Nothing };
    let parent_there = session.plan.parent.is_none_or(|parent| store.backup(parent).is_some());
    if !parent_there {
        return Resume::Restart("its parent is gone");
    }
    if session.term != source.term() {
        return Resume::Restart("the source is in another term");
    }
    if source.log(session.start, session.start).is_none() {
        return Resume::Restart("the log since its start is no longer kept");
    }
    let mut rolled = Digest::default();
    let mut copying = Copying::new(store, source, session.clone());
    for number in &session.stored {
        let Some(block) = store.block(session.plan.id, *number) else {
            return Resume::Restart("a stored block is missing");
        };
        rolled = rolled.roll(*number, block);
        copying.refer(*number, block);
    }
    if rolled != session.rolled {
        return Resume::Restart("the stored blocks are not what was stored");
    }
    Resume::Resumed(copying)
}

impl Copying {
    fn new(store: &Store, source: &Source, session: Session) -> Self {
        let parent = session.plan.parent.and_then(|id| store.backup(id));
        let map = match session.plan.kind {
            Kind::Base => BTreeMap::new(),
            Kind::Delta | Kind::Checkpoint => parent.map(|parent| parent.blocks.clone()).unwrap_or_default(),
        };
        let todo =
            source.numbers().into_iter().filter(|number| Some(*number) > session.last_block).rev().collect();
        Copying { session, map, todo, since_saved: 0, bytes: 0 }
    }

    /// Copies the next block; false when none is left. The source goes on writing between two calls.
    pub fn step(&mut self, store: &mut Store, source: &Source) -> bool {
        let Some(number) = self.todo.pop() else { return false };
        if let Some(block) = source.block(number) {
            self.take(store, number, block);
        }
        self.session.last_block = Some(number);
        self.since_saved += 1;
        if self.since_saved >= self.session.plan.group {
            self.since_saved = 0;
            self.save(store);
        }
        true
    }

    fn take(&mut self, store: &mut Store, number: BlockNumber, block: &Arc<Block>) {
        let known = self.map.get(&number).is_some_and(|known| known.lsn == block.lsn);
        let needed = match self.session.plan.kind {
            Kind::Base | Kind::Checkpoint => true,
            Kind::Delta => !known,
        };
        if !needed {
            return;
        }
        let name = Name::Block(self.session.plan.id, number);
        // A leftover of an attempt that was given up may lie there.
        let put = store.put(name, Object::Block(block.clone()), Condition::Always);
        assert!(put.is_ok(), "an unconditional put holds");
        self.session.rolled = self.session.rolled.roll(number, block);
        self.session.stored.push(number);
        self.refer(number, block);
    }

    fn refer(&mut self, number: BlockNumber, block: &Block) {
        let holder = self.session.plan.id;
        self.bytes += block.graph.size();
        self.map.insert(number, BlockRef { holder, lsn: block.lsn, digest: digest_of(block) });
    }

    fn save(&self, store: &mut Store) {
        let put = store.put(Name::Session, Object::Session(self.session.clone()), Condition::Always);
        assert!(put.is_ok(), "an unconditional put holds");
    }

    /// Stores the log from start to stop, then, last of all, the catalog entry. `None`: the log is no longer kept, or
    /// somebody else published under this name; nothing is listed then.
    pub fn finish(mut self, store: &mut Store, source: &Source) -> Option<BackupId> {
        let plan = self.session.plan;
        let (stop, log) = match plan.snapshot {
            Snapshot::Consistent => {
                let stop = source.applied();
                let entries = source.log(self.session.start, stop)?;
                self.bytes += log_bytes(entries);
                let digest = digest_of(&entries);
                store.put(Name::Log(plan.id), Object::Log(Arc::from(entries)), Condition::Always).ok()?;
                (stop, Some(digest))
            }
            Snapshot::Naive => (source.last(), None),
        };
        let backup = Backup {
            id: plan.id,
            kind: plan.kind,
            parent: plan.parent,
            term: self.session.term,
            start: self.session.start,
            stop,
            blocks: self.map,
            rolled: self.session.rolled,
            log,
            bytes: self.bytes,
        };
        let published =
            store.put(Name::Catalog(plan.id), Object::Catalog(Arc::new(backup)), Condition::Absent);
        store.delete(Name::Session);
        published.ok().map(|()| plan.id)
    }
}
