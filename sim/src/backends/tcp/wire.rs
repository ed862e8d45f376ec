//! What the world and the processes of a drill say to each other: one JSON line each, over pipes.

use crate::world::{Action, FaultId, HostIndex};
use firedrill_node::disk::constant;
use firedrill_protocols::contract::{
    ChildId, Ended, Mark, Observation, Orchestration, Role, Shard, SocketAddrV4,
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The first line to a process: who it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Charge {
    /// What its program makes the layout from: for `firedrill node --drill` the scenario.
    pub cause: serde_json::Value,
    /// First two bytes of all addresses.
    pub network: [u8; 2],
    pub(super) node: u16,
    pub(super) seed: u64,
    pub(super) incarnation: u32,
    /// Folder of its data.
    pub(super) data: PathBuf,
    pub(super) notes: bool,
    /// Faults that are on already.
    pub(super) faults: Vec<(FaultId, Action)>,
    /// Hosts that are down.
    pub(super) lost: Vec<HostIndex>,
    /// Folder of its host's certificates.
    pub(super) tls: Option<PathBuf>,
}

/// Later lines to a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Begin.
    Go,
    /// A fault; each process does what concerns it.
    Act(FaultId, Action),
    /// The fault is over.
    Undo(FaultId),
    /// A host was started again.
    Boot(HostIndex),
    /// What was held may go.
    Release,
    /// SIGTERM, in order with the rest.
    Terminate,
    /// A program that it started has ended.
    ChildEnded(ChildId, Ended),
}

/// Lines from a process. Times are CLOCK_MONOTONIC in microseconds, which all processes of a machine share.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Line {
    /// It could begin.
    Ready,
    Observed {
        at: u64,
        shard: Shard,
        fact: Fact,
    },
    /// Its clocks stand, as those of a suspended machine: it may be stopped.
    Standing,
    /// It froze before its sends.
    Held,
    Orchestrated {
        target: SocketAddrV4,
        action: Orchestration,
    },
    /// It starts a program.
    Ran {
        child: ChildId,
        program: String,
        arguments: Vec<String>,
    },
    /// It kills one.
    KilledChild(ChildId),
    /// Effects of a fault in this process so far.
    Effects {
        fault: FaultId,
        count: u64,
    },
    /// Its timers stood still for so long: it was stopped.
    Stood {
        micros: u64,
    },
    /// Messages received so far.
    Messages(u64),
}

/// An [`Observation`] that can be written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Fact {
    Role(Role),
    Epoch(u64),
    Writable(bool),
    Mark { mark: Mark, about: Option<SocketAddrV4> },
    Gauge { name: String, value: u64 },
    Note(String),
}

impl From<Observation> for Fact {
    fn from(observation: Observation) -> Fact {
        match observation {
            Observation::Role(role) => Fact::Role(role),
            Observation::Epoch(epoch) => Fact::Epoch(epoch),
            Observation::Writable(writable) => Fact::Writable(writable),
            Observation::Mark { mark, about } => Fact::Mark { mark, about },
            Observation::Gauge { name, value } => Fact::Gauge { name: name.to_owned(), value },
            Observation::Note(text) => Fact::Note(text),
        }
    }
}

impl From<Fact> for Observation {
    fn from(fact: Fact) -> Observation {
        match fact {
            Fact::Role(role) => Observation::Role(role),
            Fact::Epoch(epoch) => Observation::Epoch(epoch),
            Fact::Writable(writable) => Observation::Writable(writable),
            Fact::Mark { mark, about } => Observation::Mark { mark, about },
            Fact::Gauge { name, value } => Observation::Gauge { name: constant(&name), value },
            Fact::Note(text) => Observation::Note(text),
        }
    }
}

/// CLOCK_MONOTONIC in microseconds.
pub(super) fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}
