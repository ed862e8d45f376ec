//! Sentinel: a group of arbiters that watches Redis-like data nodes and promotes a replica when a primary fails, after
//! the behaviour of Redis 7.0 (`sentinel.c`) and its documentation, "High availability with Redis Sentinel".
//!
//! A quorum of sentinels agrees that the primary is down, a majority elects one of them to act, and it acts by the
//! commands any operator could give. There is no lease and no fence: a primary that is merely unreachable goes on
//! acknowledging writes, and they are lost when it is made a replica later. What the protocol promises is that all
//! sentinels end with the configuration of the highest epoch; what it does not promise the scenarios state.
//!
//! Roles: [`DataNode`] (primary or replica), [`Sentinel`](node::Sentinel), and [`Client`](client::Client), which finds
//! the primary through the sentinels; where there are several groups, a [`Router`] is a client of each.

pub mod client;
pub mod data_node;
mod election;
mod failover;
mod greeting;
mod instance;
mod link;
pub mod node;
mod operator;
pub mod quirks;
mod router;
mod scripts;
pub mod settings;
#[cfg(test)]
mod tests;

pub use client::Client;
pub use data_node::DataNode;
pub use node::Sentinel;
pub use router::Router;

use crate::contract::System;
use crate::redis;
use crate::redis::message::Message;
use crate::redis::server::RedisSystem;
use serde::{Deserialize, Serialize};

/// The system: a replicated Redis under sentinels.
#[derive(Debug)]
pub enum SentinelSystem {}

impl System for SentinelSystem {
    const NAME: &'static str = "sentinel";
    type Message = Message;
    type Kind = Kind;
    type Timer = Timer;
    type Record = Record;

    fn wire_size(message: &Message) -> usize {
        message.wire_size()
    }
}

impl RedisSystem for SentinelSystem {
    const DATA: Kind = Kind::Data;

    fn record(record: &Record) -> Option<&redis::disk::Record> {
        match record {
            Record::Data(record) => Some(record),
            Record::Sentinel(_) => None,
        }
    }
}

/// Ports of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// RESP to a data node: clients, sentinels, replicas.
    Data,
    /// RESP to a sentinel.
    Sentinel,
}

/// Timers of all roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A data node's.
    Data(redis::server::Timer),
    /// A sentinel's: everything but replies happens on it.
    Tick,
    /// A client's, of the group with this number.
    Client(u16, client::Timer),
}

impl From<redis::server::Timer> for Timer {
    fn from(timer: redis::server::Timer) -> Timer {
        Timer::Data(timer)
    }
}

/// What nodes keep on disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// A data node's.
    Data(redis::disk::Record),
    /// A sentinel's configuration file.
    Sentinel(settings::Saved),
}

impl From<redis::disk::Record> for Record {
    fn from(record: redis::disk::Record) -> Record {
        Record::Data(record)
    }
}
