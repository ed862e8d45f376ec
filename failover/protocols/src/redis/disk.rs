//! What a data node keeps on disk: its configuration, and maybe its data.

use super::data::Data;
use super::message::Stored;
use super::values::{Addr, Key, Offset, ReplId};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The configuration as rewritten at run time.
pub const CONFIG: &str = "redis.conf";
/// The last snapshot.
pub const SNAPSHOT: &str = "dump.rdb";
/// Writes since the start of the log.
pub const LOG: &str = "appendonly.aof";

/// The last write to the store of a Pika, which is made before its record in the log.
pub const APPLIED: &str = "db";

/// A record of one of these files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// Whom to follow after a restart (CONFIG REWRITE).
    Config {
        /// Whom; none for a primary.
        follows: Option<Addr>,
    },
    /// The whole data set.
    Snapshot {
        /// The history it belongs to.
        id: ReplId,
        /// Where in it.
        offset: Offset,
        /// The keys.
        keys: Vec<(Key, Stored)>,
    },
    /// One write.
    Write(Data),
    /// A write to the store, and the position of the log before it.
    Applied {
        /// The position.
        offset: Offset,
        /// The write.
        data: Data,
    },
}
