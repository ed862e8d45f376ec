//! What the parts of a backup system say to each other.

use super::{Block, BlockNumber, Condition, Digest, Name, Object, Offer};
use crate::agent::wal::{Entry, Position};
use crate::graph::Change;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// To and from the object store (HTTP, as S3 is spoken).
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum StoreMessage {
    /// A request; `id` comes back with the answer.
    Ask {
        /// The asker's number for it.
        id: u64,
        /// What.
        ask: StoreAsk,
    },
    /// The answer.
    Answer {
        /// As in the request.
        id: u64,
        /// What came of it.
        answer: StoreAnswer,
    },
}

/// What can be asked of the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum StoreAsk {
    /// Put an object if the condition holds.
    Put {
        /// Under this name.
        name: Name,
        /// This.
        object: Object,
        /// If this holds.
        condition: Condition,
    },
    /// An object.
    Get {
        /// Which.
        name: Name,
    },
    /// The names of all objects.
    List,
    /// Remove an object.
    Delete {
        /// Which.
        name: Name,
    },
}

/// What the store answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum StoreAnswer {
    /// The object is durable.
    Stored,
    /// The condition does not hold; the tag of what is there.
    Refused(Option<Digest>),
    /// The store could not make it durable (HTTP 500, 507): nothing is known to be stored.
    Failed,
    /// The asker may not do this (HTTP 403).
    Forbidden,
    /// The object.
    Found(Object),
    /// There is none.
    Missing,
    /// The names.
    Names(Arc<[Name]>),
    /// It is removed.
    Deleted,
}

/// Between a backup process and a data node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum SourceMessage {
    /// A backup is to begin, on top of one that ends at `parent`.
    Open {
        /// End of the parent backup.
        parent: Option<Position>,
    },
    /// The data node answers.
    Offer(Offer),
    /// A block, as it is now.
    ReadBlock {
        /// Which.
        number: BlockNumber,
    },
    /// The block; `None`: there is none.
    Block {
        /// Which.
        number: BlockNumber,
        /// It.
        block: Option<Arc<Block>>,
    },
    /// What passed the gate behind the first of these positions that is in the log.
    ReadLog {
        /// Newest first.
        after: Vec<Position>,
        /// Also the digest of the state at its end.
        digest: bool,
        /// No more bytes of it than this, but one entry at least.
        most: u64,
    },
    /// The log; `after` is `None` if none of the positions is in it.
    Log {
        /// The position before the first entry.
        after: Option<Position>,
        /// The entries.
        entries: Arc<[Entry]>,
        /// The source's term.
        term: crate::agent::wal::Term,
        /// Where the entries end: everything up to here passed the gate.
        applied: Position,
        /// The end of the source's log.
        last: Position,
        /// First position of the source's own term, less one, if it is primary.
        promoted_after: Position,
        /// Digest of the state at `applied`.
        state: Option<Digest>,
    },
    /// Make a restored state the beginning of a new history. Only a node without any log does it.
    Seed {
        /// The state, as changes that make it.
        changes: Arc<[Change]>,
        /// Term that the state was of.
        of: crate::agent::wal::Term,
    },
    /// The state is durable, in a log of its own term; or the node refused.
    Seeded {
        /// Whether it took it.
        taken: bool,
    },
}

/// A record of the store's disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum StoreRecord {
    /// An object was put.
    Put(Name, Object),
    /// An object was removed.
    Delete(Name),
}

impl StoreMessage {
    /// Bytes on the wire: some 200 for the headers of an HTTP exchange, and the object.
    pub fn bytes(&self) -> usize {
        200 + match self {
            StoreMessage::Ask { ask: StoreAsk::Put { object, .. }, .. }
            | StoreMessage::Answer { answer: StoreAnswer::Found(object), .. } => object.size() as usize,
            StoreMessage::Answer { answer: StoreAnswer::Names(names), .. } => 24 * names.len(),
            StoreMessage::Ask { .. } | StoreMessage::Answer { .. } => 0,
        }
    }
}

impl SourceMessage {
    /// Bytes on the wire.
    pub fn bytes(&self) -> usize {
        8 + match self {
            SourceMessage::Offer(offer) => 64 + 12 * offer.blocks.len(),
            SourceMessage::Block { block, .. } => {
                12 + block.as_ref().map_or(0, |block| block.graph.size() as usize)
            }
            SourceMessage::Log { entries, .. } => {
                64 + entries.iter().map(|entry| entry.length() as usize).sum::<usize>()
            }
            SourceMessage::Seed { changes, .. } => changes.iter().map(Change::size).sum(),
            SourceMessage::ReadLog { after, .. } => 10 + 16 * after.len(),
            SourceMessage::Open { .. } | SourceMessage::ReadBlock { .. } | SourceMessage::Seeded { .. } => 17,
        }
    }
}
