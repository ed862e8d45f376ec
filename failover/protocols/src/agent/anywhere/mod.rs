//! A cluster without primary: every data node takes reads and writes, tells the others, and copies merge.
//!
//! It stays available on both sides of a cut, and pays with consistency (the *AP* choice). What it can still promise
//! depends on two settings:
//!
//! - **How copies tell newer from older** ([`Versions`](super::settings::Versions)): with version vectors a write that
//!   knew the other covers it, and two writes that did not know of each other are both kept; with one integer the larger
//!   wins and an acknowledged write is gone, without any crash.
//! - **What a client is shown** ([`Consistency`](super::settings::Consistency)): *eventual* is whatever the node has.
//!   *Causal* lets a node apply a write only after everything that its writer had seen (causal delivery: Birman,
//!   Schiper and Stephenson 1991), and gives every client a session token, a vector of what it has seen, that a node must
//!   cover before it answers (session guarantees by version vectors: Terry et al. 1994, section 4). There is no strong
//!   mode here: asked for, it is served as *eventual*.
//!
//! Lists only: registers and compare-and-set are refused.

mod client;
mod node;
#[cfg(test)]
mod tests;

pub use client::AnywhereClient;
pub use node::AnywhereNode;

use super::message::{op_bytes, outcome_bytes};
use super::settings::NodeId;
use super::versions::{VersionVector, Versioned};
use crate::contract::*;
use alloc::sync::Arc;

/// One write, as its node made it: the whole new content of the key, with its version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Update {
    /// Where it was taken.
    pub origin: NodeId,
    /// Its number there, from 1.
    pub number: u64,
    /// Which key.
    pub key: Key,
    /// Payload bytes that it stands for.
    pub bytes: u32,
    /// The content.
    pub content: Versioned,
    /// What its node had applied before.
    pub after: VersionVector,
}

/// What the nodes and clients of such a cluster say.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Message {
    /// A client asks.
    Ask {
        /// The client's number for it.
        id: u64,
        /// What it wants.
        op: Op,
        /// Its session token: the node must have seen this much. Empty: no matter.
        seen: VersionVector,
    },
    /// A node answers.
    Told {
        /// As in the question.
        id: u64,
        /// What came of it; `None`: the node has not seen what the client has, and did nothing.
        outcome: Option<Outcome>,
        /// What the node has seen.
        seen: VersionVector,
    },
    /// What a node has applied, by origin; the answer is what it lacks.
    Digest {
        /// Who.
        from: NodeId,
        /// How far, by origin.
        clock: VersionVector,
    },
    /// Writes, each origin's in order.
    Updates(Arc<[Update]>),
}

impl Message {
    /// Bytes on the wire; a vector has 9 bytes for each node.
    pub fn bytes(&self) -> usize {
        match self {
            Message::Ask { op, seen, .. } => 24 + op_bytes(op) + 9 * seen.len(),
            Message::Told { outcome, seen, .. } => {
                24 + outcome.as_ref().map_or(1, outcome_bytes) + 9 * seen.len()
            }
            Message::Digest { clock, .. } => 16 + 9 * clock.len(),
            Message::Updates(updates) => 16 + updates.iter().map(Update::bytes_on_wire).sum::<usize>(),
        }
    }
}

impl Update {
    fn bytes_on_wire(&self) -> usize {
        32 + self.bytes as usize + 8 * self.content.values().len() + 9 * self.after.len()
    }
}
