//! What a workload asks of a client role, and what the client knows afterwards.

use alloc::string::String;
use alloc::sync::Arc;
use core::net::SocketAddrV4;

/// A key of the workload. Each system says how it spells it on the wire (`k17`, vertex 17, ...).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Key(pub u32);

/// A value or list element. Workloads write each value once, so that a read names the write it saw.
pub type Value = u64;

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Op {
    /// The whole value of a key, from wherever the client's policy reads.
    Read {
        /// Which key.
        key: Key,
    },
    /// Add one element to a list.
    Append {
        /// Which key.
        key: Key,
        /// The element.
        value: Value,
        /// Payload bytes it stands for.
        bytes: u32,
    },
    /// Set a register.
    Write {
        /// Which key.
        key: Key,
        /// The value.
        value: Value,
        /// Payload bytes it stands for.
        bytes: u32,
    },
    /// Set a register to `to` if it holds `from`.
    Cas {
        /// Which key.
        key: Key,
        /// Expected value; `None`: the key must not exist.
        from: Option<Value>,
        /// New value.
        to: Value,
    },
    /// Read a key from one named node, whatever its role and whatever it may serve: the final reads of a run.
    ReadAt {
        /// That node's client address.
        node: SocketAddrV4,
        /// Which key.
        key: Key,
    },
    /// An operator's command to one named node, in the system's own words (`sentinel failover mymaster`).
    Command {
        /// That node's address for such commands.
        node: SocketAddrV4,
        /// The words.
        words: String,
    },
}

impl Op {
    /// Whether it changes data.
    pub fn is_write(&self) -> bool {
        matches!(self, Op::Append { .. } | Op::Write { .. } | Op::Cas { .. })
    }
}

/// What the client knows of its operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Outcome {
    /// A write was acknowledged.
    Done,
    /// A write was acknowledged with its position in the key's order.
    Version(u64),
    /// A register's value; `None`: no such key.
    Value(Option<Value>),
    /// A list, oldest element first.
    List(Arc<[Value]>),
    /// A list, and every account with its balance, from one snapshot.
    Audit {
        /// The list, oldest element first.
        list: Arc<[Value]>,
        /// Number and balance of each account there is.
        accounts: Arc<[(u64, Value)]>,
    },
    /// A compare-and-set found this instead and changed nothing.
    Mismatch(Option<Value>),
    /// An operator's command was answered.
    Text(String),
    /// It certainly did not take effect.
    Fail(Failure),
    /// It may have taken effect, may yet, or never will.
    Unknown(Failure),
}

/// Classes of failure, as clients tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Failure {
    /// No answer before the deadline.
    Timeout,
    /// Connection refused, or nobody to connect to.
    Unreachable,
    /// The connection ended while the operation was open.
    Disconnected,
    /// The server is not the primary.
    NotPrimary,
    /// The server refuses writes for lack of replicas, lease or quorum.
    Unsafe,
    /// The server or cluster is not in service.
    Unavailable,
    /// The client could not find out where to go.
    NoRoute,
    /// A limit or breaker refused it.
    Limited,
    /// The store's rules refused it.
    Rejected,
    /// Any other error.
    Other,
}
