//! The messages of the cluster bus: the binary protocol that the nodes speak with each other on the client port plus
//! 10000. Each has the header of the real `clusterMsg`; sizes are those of Redis 7.0 and Valkey 8 to 9.

use super::slots::SlotSet;
use alloc::boxed::Box;
use core::hash::{Hash, Hasher};
use serde::{Deserialize, Serialize};

/// Bytes of the fixed part of a message: identity, epochs, offset, slot bitmap, addresses.
const HEADER_BYTES: usize = 2256;
/// Bytes of one gossip entry.
const ENTRY_BYTES: usize = 104;
/// Bytes of a node's name.
const NAME_BYTES: usize = 40;
/// Bytes of an UPDATE: epoch, name, slot bitmap.
const UPDATE_BYTES: usize = 8 + NAME_BYTES + 2048;

/// A cluster node: stands for its 40-digit name, and its order is the order of the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u16);

impl NodeId {
    /// As an index of a table of all nodes.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What is said of a node.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flags(u16);

impl Flags {
    /// It is a primary.
    pub const PRIMARY: Flags = Flags(1);
    /// It is a replica.
    pub const REPLICA: Flags = Flags(2);
    /// Suspected: not reachable from here.
    pub const PFAIL: Flags = Flags(4);
    /// Failed: a majority of primaries cannot reach it.
    pub const FAIL: Flags = Flags(8);
    /// It does not want to be promoted automatically.
    pub const NO_FAILOVER: Flags = Flags(16);
    /// Its replica set may receive a replica from a better covered one.
    pub const MIGRATE_TO: Flags = Flags(32);

    /// Whether any of `flags` is set.
    pub fn any(self, flags: Flags) -> bool {
        self.0 & flags.0 != 0
    }

    /// Adds `flags`.
    pub fn set(&mut self, flags: Flags) {
        self.0 |= flags.0;
    }

    /// Takes `flags` away.
    pub fn clear(&mut self, flags: Flags) {
        self.0 &= !flags.0;
    }

    /// Both.
    pub const fn with(self, flags: Flags) -> Flags {
        Flags(self.0 | flags.0)
    }

    /// As a number for the wire.
    pub fn bits(self) -> u16 {
        self.0
    }

    /// From the wire; bits we do not know are dropped.
    pub fn from_bits(bits: u16) -> Flags {
        Flags(bits & 63)
    }
}

impl core::fmt::Debug for Flags {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let names = [
            (Flags::PRIMARY, "primary"),
            (Flags::REPLICA, "replica"),
            (Flags::PFAIL, "fail?"),
            (Flags::FAIL, "fail"),
            (Flags::NO_FAILOVER, "nofailover"),
        ];
        let mut comma = "";
        for (_, name) in names.iter().filter(|(flag, _)| self.any(*flag)) {
            write!(f, "{comma}{name}")?;
            comma = ",";
        }
        Ok(())
    }
}

/// Head of every message: the sender's view of itself. A replica gives its primary's slots and configuration epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Who speaks.
    pub sender: NodeId,
    /// The largest epoch the sender has seen.
    pub current_epoch: u64,
    /// The epoch under which the slots are claimed.
    pub config_epoch: u64,
    /// Replication offset: produced (primary) or processed (replica).
    pub offset: u64,
    /// The slots claimed.
    pub slots: SlotSet,
    /// The sender's primary; `None`: it is a primary.
    pub replica_of: Option<NodeId>,
    /// The sender's flags.
    pub flags: Flags,
    /// Whether the cluster is in service as the sender sees it.
    pub state_ok: bool,
    /// The sender holds writes back for a manual failover: its offset is final.
    pub paused: bool,
    /// Vote although the primary is alive: the failover is wanted.
    pub force_ack: bool,
    /// The sender, a replica, sees its primary failed (Valkey 9).
    pub primary_failed: bool,
}

/// What the sender says about a third node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// About whom.
    pub node: NodeId,
    /// The sender's opinion.
    pub flags: Flags,
    /// When the sender last began to wait for its PONG, in seconds of the sender's wall clock; 0: it waits for none.
    pub ping_sent: u32,
    /// When the sender last heard its PONG, in seconds of the sender's wall clock.
    pub pong_received: u32,
}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(
            u64::from(self.node.0) << 48 | u64::from(self.flags.0) << 32 | u64::from(self.pong_received),
        );
        state.write_u32(self.ping_sent);
    }
}

/// The kinds of message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Heartbeat on a dialled link, at least one a second to somebody and each half node timeout to everybody.
    /// Answered with a PONG on the same link.
    Ping(Box<[Entry]>),
    /// Answer to a PING; also sent unasked when the sender's role or slots have changed.
    Pong(Box<[Entry]>),
    /// The named node is marked failed by a majority: receivers mark it at once.
    Fail(NodeId),
    /// A replica asks all primaries for their vote in the header's current epoch.
    AuthRequest,
    /// The sender's only vote in the header's current epoch.
    AuthAck,
    /// To a node that claims slots under an outdated epoch: who owns them now.
    Update {
        /// The owner.
        node: NodeId,
        /// Its configuration epoch.
        config_epoch: u64,
        /// Its slots.
        slots: SlotSet,
    },
    /// A replica asks its primary to hold writes back for a manual failover.
    ManualStart,
}

/// One message of the bus.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// The sender's view of itself.
    pub header: Header,
    /// The rest.
    pub body: Body,
}

impl Packet {
    /// Bytes on the wire.
    pub fn wire_size(&self) -> usize {
        HEADER_BYTES
            + match &self.body {
                Body::Ping(gossip) | Body::Pong(gossip) => gossip.len() * ENTRY_BYTES,
                Body::Fail(_) => NAME_BYTES,
                Body::Update { .. } => UPDATE_BYTES,
                Body::AuthRequest | Body::AuthAck | Body::ManualStart => 0,
            }
    }
}
