//! What is backed up: a graph in blocks, and the log that made it.

use super::{BackupId, Digest, Store, digest_of};
use crate::agent::wal::{Content, Entry, Lsn, Position, Term, Wal};
use crate::contract::WallTime;
use crate::graph::{Change, Graph, Transaction, Vertex};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A block's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct BlockNumber(pub u32);

/// Vertices in one block.
const VERTICES: u64 = 16;

/// Part of the graph, as of its last change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Block {
    /// The last change in it.
    pub lsn: Lsn,
    /// Its vertices.
    pub graph: Graph,
}

/// The block that a change is in; `None`: it touches no single vertex.
pub(super) fn block_of(content: &Content) -> Option<BlockNumber> {
    let vertex: Vertex = match content {
        Content::TermStart { .. } | Content::Point(_) => return None,
        Content::Change(change) => match change {
            Change::CreateVertex { vertex }
            | Change::RemoveVertex { vertex }
            | Change::Set { vertex, .. }
            | Change::Append { vertex, .. }
            | Change::Open { vertex, .. }
            | Change::Cas { vertex, .. } => *vertex,
            Change::CreateEdge { .. } | Change::RemoveEdge { .. } | Change::Transfer { .. } => return None,
        },
    };
    Some(BlockNumber((vertex.0 / VERTICES) as u32))
}

impl Block {
    /// Applies an entry, unless the block has it already.
    pub(super) fn redo(&mut self, entry: &Entry) {
        if entry.position.lsn <= self.lsn {
            return;
        }
        if let Content::Change(change) = &entry.content {
            // A change that the graph refuses changes nothing, here as there.
            let _ = self.graph.apply(&Transaction::of(change.clone()));
        }
        self.lsn = entry.position.lsn;
    }
}

/// What a source tells a backup before the copy begins.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Offer {
    /// Its term.
    pub term: Term,
    /// Everything up to here is in its blocks.
    pub applied: Position,
    /// The end of its log: what is behind `applied` waits in the queue.
    pub last: Position,
    /// Its log before this position is no longer kept.
    pub kept_from: Lsn,
    /// Its log has the position at which the parent backup ends. If not, the source has another history, and no delta
    /// can rest on that parent.
    pub continues: bool,
    /// Its blocks, each with the position of its last change.
    pub blocks: Vec<(BlockNumber, Lsn)>,
    /// The blocks that it marked as changed since the parent's end; `None`: it cannot tell, or has not marked so long.
    pub marks: Option<Vec<BlockNumber>>,
}

/// The digest of a state: all keys with their elements, whatever blocks they lie in.
pub fn state_digest<'a>(blocks: impl Iterator<Item = &'a Arc<Block>>) -> Digest {
    let mut all: Vec<_> = blocks.flat_map(|block| block.graph.elements()).collect();
    all.sort_by_key(|(key, _)| *key);
    digest_of(&all)
}

/// The blocks of a data node's state, made from its log when a backup asks, and kept up from then on.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    upto: Position,
    blocks: BTreeMap<BlockNumber, Arc<Block>>,
}

impl Blocks {
    /// Takes entries in up to `commit`; begins anew if the log was cut below what is in.
    pub fn follow(&mut self, wal: &Wal, commit: Lsn) {
        if !wal.matches(self.upto) {
            *self = Blocks::default();
        }
        let count = commit.0.saturating_sub(self.upto.lsn.0) as usize;
        for entry in wal.from(self.upto.lsn.next(), count) {
            if let Some(number) = block_of(&entry.content) {
                Arc::make_mut(self.blocks.entry(number).or_default()).redo(entry);
            }
            self.upto = entry.position;
        }
    }

    /// What is in.
    pub fn upto(&self) -> Position {
        self.upto
    }

    /// A block.
    pub fn get(&self, number: BlockNumber) -> Option<&Arc<Block>> {
        self.blocks.get(&number)
    }

    /// Every block with the position of its last change.
    pub fn positions(&self) -> Vec<(BlockNumber, Lsn)> {
        self.blocks.iter().map(|(number, block)| (*number, block.lsn)).collect()
    }

    /// The digest of the state.
    pub fn digest(&self) -> Digest {
        state_digest(self.blocks.values())
    }
}

/// A data node as the backup sees it: a log, and blocks that follow it, maybe some way behind.
#[derive(Clone, Debug, Default)]
pub struct Source {
    entries: Vec<Entry>,
    clock: WallTime,
    term: Term,
    /// Everything up to here is in the blocks; what was acknowledged behind it waits in the queue.
    applied: Lsn,
    blocks: BTreeMap<BlockNumber, Arc<Block>>,
    /// The log before this position is no longer kept.
    kept_from: Lsn,
}

impl Source {
    /// Adds an acknowledged change to the log; it enters the blocks with [`Source::apply_to`].
    pub fn write(&mut self, change: Change) -> Lsn {
        let lsn = self.last().next();
        self.add(Content::Change(change));
        lsn
    }

    /// Names the position that comes next.
    pub fn mark(&mut self, name: &str) -> Lsn {
        self.add(Content::Point(name.into()));
        self.last()
    }

    fn add(&mut self, content: Content) {
        let position = Position { term: self.term, lsn: self.last().next() };
        self.entries.push(Entry { position, at: self.clock, content });
    }

    /// From now on what is written is stamped with this time.
    pub fn set_clock(&mut self, now: WallTime) {
        self.clock = now;
    }

    /// A new primary's term.
    pub fn enter_term(&mut self, term: Term) {
        self.term = term;
    }

    /// The term.
    pub fn term(&self) -> Term {
        self.term
    }

    /// The last acknowledged position.
    pub fn last(&self) -> Lsn {
        Lsn(self.entries.len() as u64)
    }

    /// What is in the blocks.
    pub fn applied(&self) -> Lsn {
        self.applied
    }

    /// The log, whole.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Entries behind `after` up to `upto`; `None`: they are no longer kept.
    pub fn log(&self, after: Lsn, upto: Lsn) -> Option<&[Entry]> {
        (after >= self.kept_from).then(|| &self.entries[after.0 as usize..upto.0 as usize])
    }

    /// Forgets the log up to here, as a data node recycles its segments.
    pub fn recycle(&mut self, upto: Lsn) {
        self.kept_from = self.kept_from.max(upto);
    }

    /// Takes entries from the queue into the blocks.
    pub fn apply_to(&mut self, upto: Lsn) {
        while self.applied < upto.min(self.last()) {
            let entry = &self.entries[self.applied.0 as usize];
            if let Some(number) = block_of(&entry.content) {
                Arc::make_mut(self.blocks.entry(number).or_default()).redo(entry);
            }
            self.applied = entry.position.lsn;
        }
    }

    /// The entry's position at `lsn`.
    pub fn position(&self, lsn: Lsn) -> Position {
        let before = (lsn.0 as usize).checked_sub(1);
        before.and_then(|at| self.entries.get(at)).map_or(Position::default(), |entry| entry.position)
    }

    /// What it offers to a backup on top of `parent`.
    pub fn offer(&self, store: &Store, parent: Option<BackupId>) -> Offer {
        let end = parent.and_then(|id| store.backup(id)).map(|backup| backup.end());
        Offer {
            term: self.term,
            applied: self.position(self.applied),
            last: self.position(self.last()),
            kept_from: self.kept_from,
            continues: end.is_none_or(|end| self.position(end.lsn) == end),
            blocks: self.blocks.iter().map(|(number, block)| (*number, block.lsn)).collect(),
            marks: None,
        }
    }

    /// A block as it is now.
    pub fn block(&self, number: BlockNumber) -> Option<&Arc<Block>> {
        self.blocks.get(&number)
    }
}
