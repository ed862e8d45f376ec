//! Backups of a data node: chains of base, delta and checkpoint in an object store.
//!
//! A backup is a *fuzzy copy plus log*: blocks are copied one after another while writes go on, and every entry
//! between the start and the stop position goes along. A block carries the position of its last change, so a restore
//! replays each entry only onto blocks that do not have it yet (the rule of page LSNs, Mohan et al., ARIES, 1992).
//! Before its stop position is reached a restored copy is no state of anything, and is not given out.
//!
//! Each catalog entry has the whole block map with the backup that holds each block (as pgBackRest's manifests do), so
//! a chain is merged by reading, newest block first. The catalog entry is put last: what is listed is complete.
//!
//! The rules ([`chain`], [`copy`], [`restore`], [`source`], [`store`]) talk to nobody. The processes that follow them
//! with messages are the [`agent`] that takes backups and archives the log, the [`object_store`], and the [`restorer`];
//! the data node's side is `node/backup.rs`. [`link`] is how they reach the store and the source.

pub mod agent;
mod chain;
mod copy;
mod drill;
pub mod link;
mod message;
pub mod object_store;
pub mod rehearsal;
mod restore;
pub mod restorer;
pub mod schedule;
mod source;
mod store;

pub use chain::{Backup, BackupId, BlockRef, Digest, Kind, digest_of};
pub use copy::{Copying, Ending, Finding, Plan, Put, Resume, Session, Snapshot, begin, resume};
pub use drill::{Costs, Drill, drill, per};
pub use message::{SourceMessage, StoreAnswer, StoreAsk, StoreMessage, StoreRecord};
pub use restore::{
    Arrival, Level, Restored, Target, Unrestorable, arrival, expirable, newest, reach, restore, restore_to,
    retain, stamped_back, verify,
};
pub use source::{Block, BlockNumber, Blocks, Offer, Source, state_digest};
pub use store::{Condition, Name, Object, PutError, Store, Writer};

#[cfg(test)]
mod tests;
