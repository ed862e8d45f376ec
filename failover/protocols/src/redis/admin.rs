//! Commands of the machinery: replication handshakes, sentinels, cluster nodes.

use super::values::{Addr, Offset, RunId};
use super::words::{Words, texts, when};
use alloc::sync::Arc;

/// REPLCONF.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Replconf {
    /// The port under which the replica itself can be reached.
    ListeningPort(u16),
    /// What the replica understands: `eof` and `psync2`.
    Capabilities,
    /// The replica's processed offset, sent each second and when asked. Not answered.
    Ack(Offset),
    /// In the stream: acknowledge now.
    GetAck,
    /// The replica's version, since Valkey 8.1.
    Version(Arc<str>),
    /// The replica's id in its cluster, since Valkey 9.0.
    ClusterNodeId(RunId),
}

impl Replconf {
    pub(super) fn each_word(&self, out: &mut impl Words) {
        out.text(b"REPLCONF");
        match self {
            Replconf::ListeningPort(port) => {
                out.text(b"listening-port");
                out.number(u64::from(*port));
            }
            Replconf::Capabilities => texts(out, &[b"capa", b"eof", b"capa", b"psync2"]),
            Replconf::Ack(offset) => {
                out.text(b"ACK");
                out.number(offset.0);
            }
            Replconf::GetAck => texts(out, &[b"GETACK", b"*"]),
            Replconf::Version(version) => texts(out, &[b"version", version.as_bytes()]),
            Replconf::ClusterNodeId(id) => {
                out.text(b"set-cluster-node-id");
                out.hex(&id.0);
            }
        }
    }
}

/// SENTINEL, sent to a sentinel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SentinelCommand {
    /// MASTERS: the primary of each group.
    Primaries,
    /// MASTER: the primary of one group.
    Primary(Arc<str>),
    /// REPLICAS.
    Replicas(Arc<str>),
    /// SENTINELS: the peers.
    Sentinels(Arc<str>),
    /// GET-MASTER-ADDR-BY-NAME.
    PrimaryAddr(Arc<str>),
    /// IS-MASTER-DOWN-BY-ADDR, between sentinels: a question, and a request for a vote if it names a candidate.
    IsPrimaryDown {
        /// Which primary.
        addr: Addr,
        /// The asker's epoch.
        epoch: u64,
        /// The asker's id, if it asks for a vote.
        candidate: Option<RunId>,
    },
    /// FAILOVER, without being asked by a failure.
    Failover {
        /// Which group.
        name: Arc<str>,
        /// COORDINATED: through the primary, without loss (Valkey 9.0).
        coordinated: bool,
    },
    /// CKQUORUM.
    CheckQuorum(Arc<str>),
    /// MYID.
    MyId,
    /// MONITOR: watch one more group.
    Monitor {
        /// Its name.
        name: Arc<str>,
        /// Its primary.
        primary: Addr,
        /// How many sentinels must agree that it is down.
        quorum: u32,
    },
    /// REMOVE a group.
    Remove(Arc<str>),
    /// SET an option of a group.
    Set {
        /// Which group.
        name: Arc<str>,
        /// Which option, as in the configuration file.
        option: Arc<str>,
        /// Its new value.
        value: Arc<str>,
    },
    /// RESET: forget replicas, peers and state of the groups whose name matches.
    Reset(Arc<str>),
    /// FLUSHCONFIG.
    FlushConfig,
}

impl SentinelCommand {
    pub(super) fn each_word(&self, out: &mut impl Words) {
        out.text(b"SENTINEL");
        let mut named = |word: &[u8], name: &str| texts(out, &[word, name.as_bytes()]);
        match self {
            SentinelCommand::Primaries => out.text(b"MASTERS"),
            SentinelCommand::Primary(name) => named(b"MASTER", name),
            SentinelCommand::Replicas(name) => named(b"SLAVES", name),
            SentinelCommand::Sentinels(name) => named(b"SENTINELS", name),
            SentinelCommand::PrimaryAddr(name) => named(b"get-master-addr-by-name", name),
            SentinelCommand::IsPrimaryDown { addr, epoch, candidate } => {
                out.text(b"is-master-down-by-addr");
                out.addr(*addr);
                out.number(*epoch);
                match candidate {
                    Some(id) => out.hex(&id.0),
                    None => out.text(b"*"),
                }
            }
            SentinelCommand::Failover { name, coordinated } => {
                named(b"FAILOVER", name);
                when(*coordinated, out, b"COORDINATED");
            }
            SentinelCommand::CheckQuorum(name) => named(b"CKQUORUM", name),
            SentinelCommand::MyId => out.text(b"MYID"),
            SentinelCommand::Monitor { name, primary, quorum } => {
                named(b"MONITOR", name);
                out.addr(*primary);
                out.number(u64::from(*quorum));
            }
            SentinelCommand::Remove(name) => named(b"REMOVE", name),
            SentinelCommand::Set { name, option, value } => {
                texts(out, &[b"SET", name.as_bytes(), option.as_bytes(), value.as_bytes()])
            }
            SentinelCommand::Reset(pattern) => named(b"RESET", pattern),
            SentinelCommand::FlushConfig => out.text(b"FLUSHCONFIG"),
        }
    }
}

/// CLUSTER, sent to a cluster node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClusterCommand {
    /// SLOTS.
    Slots,
    /// SHARDS.
    Shards,
    /// NODES.
    Nodes,
    /// INFO.
    Info,
    /// MYID.
    MyId,
    /// KEYSLOT.
    KeySlot(super::values::Key),
    /// GETKEYSINSLOT: so many keys of a slot that are here.
    GetKeysInSlot {
        /// Which slot.
        slot: u16,
        /// At most so many.
        count: u32,
    },
    /// FAILOVER, to a replica.
    Failover {
        /// How.
        mode: TakeOver,
        /// REPLICAID: only this replica acts on it; it comes through the replication stream (Valkey 9.0).
        only: Option<RunId>,
    },
    /// MEET.
    Meet(Addr),
    /// FORGET.
    Forget(RunId),
    /// REPLICATE: become a replica of that node.
    Replicate(RunId),
    /// ADDSLOTSRANGE, both ends included.
    AddSlots(u16, u16),
    /// DELSLOTSRANGE, both ends included.
    DelSlots(u16, u16),
    /// SETSLOT.
    SetSlot {
        /// Which slot.
        slot: u16,
        /// What about it.
        state: SlotState,
    },
    /// BUMPEPOCH.
    BumpEpoch,
    /// RESET.
    Reset {
        /// HARD: also a new id and epoch 0.
        hard: bool,
    },
}

/// How a replica takes over by CLUSTER FAILOVER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TakeOver {
    /// In agreement with its primary: nothing is lost.
    Agreed,
    /// FORCE: without the primary, but elected.
    Force,
    /// TAKEOVER: without anybody.
    Unelected,
}

/// What SETSLOT says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlotState {
    /// MIGRATING to that node.
    Migrating(RunId),
    /// IMPORTING from that node.
    Importing(RunId),
    /// STABLE: neither.
    Stable,
    /// NODE: that node owns it.
    Node(RunId),
}

impl ClusterCommand {
    pub(super) fn each_word(&self, out: &mut impl Words) {
        out.text(b"CLUSTER");
        match self {
            ClusterCommand::Slots => out.text(b"SLOTS"),
            ClusterCommand::Shards => out.text(b"SHARDS"),
            ClusterCommand::Nodes => out.text(b"NODES"),
            ClusterCommand::Info => out.text(b"INFO"),
            ClusterCommand::MyId => out.text(b"MYID"),
            ClusterCommand::KeySlot(key) => {
                out.text(b"KEYSLOT");
                out.key(key);
            }
            ClusterCommand::GetKeysInSlot { slot, count } => {
                out.text(b"GETKEYSINSLOT");
                out.number(u64::from(*slot));
                out.number(u64::from(*count));
            }
            ClusterCommand::Failover { mode, only } => {
                out.text(b"FAILOVER");
                match mode {
                    TakeOver::Agreed => {}
                    TakeOver::Force => out.text(b"FORCE"),
                    TakeOver::Unelected => out.text(b"TAKEOVER"),
                }
                if let Some(id) = only {
                    out.text(b"REPLICAID");
                    out.hex(&id.0);
                }
            }
            ClusterCommand::Meet(addr) => {
                out.text(b"MEET");
                out.addr(*addr);
            }
            ClusterCommand::Forget(id) => {
                out.text(b"FORGET");
                out.hex(&id.0);
            }
            ClusterCommand::Replicate(id) => {
                out.text(b"REPLICATE");
                out.hex(&id.0);
            }
            ClusterCommand::AddSlots(first, last) => slots(out, b"ADDSLOTSRANGE", *first, *last),
            ClusterCommand::DelSlots(first, last) => slots(out, b"DELSLOTSRANGE", *first, *last),
            ClusterCommand::SetSlot { slot, state } => {
                out.text(b"SETSLOT");
                out.number(u64::from(*slot));
                state.each_word(out);
            }
            ClusterCommand::BumpEpoch => out.text(b"BUMPEPOCH"),
            ClusterCommand::Reset { hard } => {
                out.text(b"RESET");
                when(*hard, out, b"HARD");
            }
        }
    }
}

impl SlotState {
    fn each_word(self, out: &mut impl Words) {
        let (word, id): (&[u8], _) = match self {
            SlotState::Migrating(id) => (b"MIGRATING", Some(id)),
            SlotState::Importing(id) => (b"IMPORTING", Some(id)),
            SlotState::Stable => (b"STABLE", None),
            SlotState::Node(id) => (b"NODE", Some(id)),
        };
        out.text(word);
        if let Some(id) = id {
            out.hex(&id.0);
        }
    }
}

fn slots(out: &mut impl Words, name: &[u8], first: u16, last: u16) {
    out.text(name);
    out.number(u64::from(first));
    out.number(u64::from(last));
}
