//! What is backed up: a graph in blocks, and the log that made it.

use crate::agent::wal::{Content, Entry, Lsn, Position, Term};
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
        Content::TermStart { .. } => return None,
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

/// A data node as the backup sees it: a log, and blocks that follow it, maybe some way behind.
#[derive(Clone, Debug, Default)]
pub struct Source {
    entries: Vec<Entry>,
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
        let position = Position { term: self.term, lsn };
        self.entries.push(Entry { position, content: Content::Change(change) });
        lsn
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

    /// A block as it is now.
    pub fn block(&self, number: BlockNumber) -> Option<&Arc<Block>> {
        self.blocks.get(&number)
    }

    /// The blocks there are now, in order.
    pub fn numbers(&self) -> Vec<BlockNumber> {
        self.blocks.keys().copied().collect()
    }
}
