//! Taking a backup: block by block, with a saved session, so that an interruption costs only the last group.
//!
//! Nothing here talks to anybody: [`Copying`] says which block it wants next and what is to be put into the store, in
//! order. A process does it with messages ([`super::agent`]), a test at once ([`Copying::step`]).

use super::chain::log_bytes;
use super::{
    Backup, BackupId, Block, BlockNumber, BlockRef, Condition, Digest, Kind, Name, Object, Offer, Source,
    Store, digest_of,
};
use crate::agent::wal::{Entry, Lsn, Position, Term};
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

/// How a delta finds the blocks that changed since its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Finding {
    /// The position of a block's last change differs from the parent's (page LSNs).
    Position,
    /// Every block is read and its digest compared: always right, and reads all.
    Compare,
    /// The source marks what it changes. The marks do not survive a restart of the source, so one that began to mark
    /// after the parent's end must be read whole.
    Marks,
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
    /// How changed blocks are found.
    pub finding: Finding,
}

/// How far a backup has come; saved after each group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Session {
    /// What is being taken.
    pub plan: Plan,
    /// Term of the source.
    pub term: Term,
    /// Where it began.
    pub start: Position,
    /// The last block that is stored, and looked at.
    pub last_block: Option<BlockNumber>,
    /// Blocks it has stored itself, in order.
    pub stored: Vec<(BlockNumber, Lsn)>,
    /// Rolling digest over them.
    pub rolled: Digest,
}

/// Something to be put into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Under this name.
    pub name: Name,
    /// This.
    pub object: Object,
    /// If this holds.
    pub condition: Condition,
}

/// The end of a copy, as the source tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The position that a restore shall reach.
    pub stop: Position,
    /// The log from the start to it; none goes along with the naive form.
    pub log: Option<Arc<[Entry]>>,
    /// Digest of the source's state at its stop, for a later comparison, if the source gave one.
    pub state: Option<Digest>,
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

/// Begins a backup, and saves its session.
pub fn begin(store: &mut Store, source: &Source, plan: Plan) -> Copying {
    let (copying, put) = Copying::begin(store, &source.offer(store, plan.parent), plan);
    store.take(put);
    copying
}

/// Goes on with a saved session.
pub fn resume(store: &Store, source: &Source) -> Resume {
    let parent = store.session().and_then(|session| session.plan.parent);
    Copying::resume(store, &source.offer(store, parent))
}

impl Copying {
    /// Begins a backup of what the source offers. `store` needs the catalog only.
    pub fn begin(store: &Store, offer: &Offer, plan: Plan) -> (Copying, Put) {
        let session = Session {
            plan,
            term: offer.term,
            start: offer.applied,
            last_block: None,
            stored: Vec::new(),
            rolled: Digest::default(),
        };
        let copying = Copying::new(store, offer, session);
        let put = copying.saved();
        (copying, put)
    }

    /// Goes on with a saved session, if everything it rests on still holds: the parent, the term and history of the
    /// source, the log since its start, and, digest by digest, the blocks it says it stored. `store` needs the catalog,
    /// the session and those blocks.
    pub fn resume(store: &Store, offer: &Offer) -> Resume {
        let Some(session) = store.session() else { return Resume::Nothing };
        if session.plan.parent.is_some_and(|parent| store.backup(parent).is_none()) {
            return Resume::Restart("its parent is gone");
        }
        if session.plan.parent.is_some() && !offer.continues {
            return Resume::Restart("the source has another history than its parent");
        }
        if session.term != offer.term {
            return Resume::Restart("the source is in another term");
        }
        if session.start.lsn < offer.kept_from || session.start.lsn > offer.applied.lsn {
            return Resume::Restart("the log since its start is no longer kept");
        }
        let mut rolled = Digest::default();
        let mut copying = Copying::new(store, offer, session.clone());
        for (number, lsn) in &session.stored {
            let Some(block) = store.block(session.plan.id, *number, *lsn) else {
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

    fn new(store: &Store, offer: &Offer, session: Session) -> Self {
        let parent = session.plan.parent.and_then(|id| store.backup(id));
        let map = match session.plan.kind {
            Kind::Base => BTreeMap::new(),
            Kind::Delta | Kind::Checkpoint => parent.map(|parent| parent.blocks.clone()).unwrap_or_default(),
        };
        let mut copying = Copying { session, map, todo: Vec::new(), since_saved: 0, bytes: 0 };
        let ahead = offer.blocks.iter().filter(|(number, _)| Some(*number) > copying.session.last_block);
        copying.todo =
            ahead.filter(|block| copying.may_differ(offer, block)).map(|(number, _)| *number).rev().collect();
        copying
    }

    /// Whether a block has to be read.
    fn may_differ(&self, offer: &Offer, (number, lsn): &(BlockNumber, Lsn)) -> bool {
        let plan = self.session.plan;
        if plan.kind != Kind::Delta || plan.finding == Finding::Compare {
            return true;
        }
        let Some(known) = self.map.get(number) else { return true };
        match (plan.finding, &offer.marks) {
            (Finding::Marks, Some(marked)) => marked.contains(number),
            (Finding::Marks | Finding::Position | Finding::Compare, _) => known.lsn != *lsn,
        }
    }

    /// What is being taken.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The block to be read next; none: all are there, and the copy can be closed.
    pub fn wants(&self) -> Option<BlockNumber> {
        self.todo.last().copied()
    }

    /// Takes the wanted block as it is now; what is to be put, in order. The source goes on writing between two calls.
    pub fn take(&mut self, block: Option<&Arc<Block>>) -> Vec<Put> {
        let Some(number) = self.todo.pop() else { return Vec::new() };
        let mut puts = Vec::new();
        if let Some(block) = block.filter(|block| self.is_news(number, block)) {
            let name = Name::Block(self.session.plan.id, number, block.lsn);
            puts.push(Put { name, object: Object::Block(block.clone()), condition: Condition::Always });
            self.session.rolled = self.session.rolled.roll(number, block);
            self.session.stored.push((number, block.lsn));
            self.refer(number, block);
        }
        self.session.last_block = Some(number);
        self.since_saved += 1;
        if self.since_saved >= self.session.plan.group {
            self.since_saved = 0;
            puts.push(self.saved());
        }
        puts
    }

    fn is_news(&self, number: BlockNumber, block: &Block) -> bool {
        let plan = self.session.plan;
        match (plan.kind, plan.finding) {
            (Kind::Base | Kind::Checkpoint, _) => true,
            (Kind::Delta, Finding::Compare) => {
                self.map.get(&number).is_none_or(|known| known.digest != digest_of(block))
            }
            (Kind::Delta, Finding::Position | Finding::Marks) => {
                self.map.get(&number).is_none_or(|known| known.lsn != block.lsn)
            }
        }
    }

    fn refer(&mut self, number: BlockNumber, block: &Block) {
        let holder = self.session.plan.id;
        self.bytes += block.graph.size();
        self.map.insert(number, BlockRef { holder, lsn: block.lsn, digest: digest_of(block) });
    }

    fn saved(&self) -> Put {
        let object = Object::Session(self.session.clone());
        Put { name: Name::Session, object, condition: Condition::Always }
    }

    /// The last puts: the log from start to stop, then, last of all, the catalog entry. The session is to be deleted
    /// after them.
    pub fn close(mut self, ending: Ending) -> Vec<Put> {
        let id = self.session.plan.id;
        let mut puts = Vec::new();
        let log = ending.log.map(|entries| {
            self.bytes += log_bytes(&entries);
            let digest = digest_of(&&*entries);
            puts.push(Put {
                name: Name::Log(id),
                object: Object::Log(entries),
                condition: Condition::Always,
            });
            digest
        });
        let backup = Backup {
            id,
            kind: self.session.plan.kind,
            parent: self.session.plan.parent,
            term: self.session.term,
            start: self.session.start.lsn,
            stop: ending.stop.lsn,
            stop_term: ending.stop.term,
            blocks: self.map,
            rolled: self.session.rolled,
            log,
            state: ending.state,
            bytes: self.bytes,
        };
        let object = Object::Catalog(Arc::new(backup));
        puts.push(Put { name: Name::Catalog(id), object, condition: Condition::Absent });
        puts
    }

    /// Copies the next block at once; false when none is left.
    pub fn step(&mut self, store: &mut Store, source: &Source) -> bool {
        let Some(number) = self.wants() else { return false };
        self.take(source.block(number)).into_iter().for_each(|put| store.take(put));
        true
    }

    /// Closes the copy at once. `None`: the log is no longer kept, or somebody else published under this name; nothing
    /// is listed then.
    pub fn finish(self, store: &mut Store, source: &Source) -> Option<BackupId> {
        let plan = self.session.plan;
        let ending = match plan.snapshot {
            Snapshot::Consistent => {
                let entries = source.log(self.session.start.lsn, source.applied())?;
                let (stop, state) = (source.position(source.applied()), None);
                Ending { stop, log: Some(Arc::from(entries)), state }
            }
            Snapshot::Naive => Ending { stop: source.position(source.last()), log: None, state: None },
        };
        let mut published = true;
        for put in self.close(ending) {
            published &= store.put(put.name, put.object, put.condition).is_ok();
        }
        store.delete(Name::Session);
        published.then_some(plan.id)
    }
}
