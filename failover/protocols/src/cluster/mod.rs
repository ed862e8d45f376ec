//! A Redis or Valkey cluster: sharded primaries with replicas that find failures by gossip, elect among themselves,
//! and hand over when they are told to end.
//!
//! Sources: the Redis cluster specification; the behaviour of Redis 7.0, Valkey 8.1 and 9.1; the issues and pull
//! requests that are named where a rule came from one. Assumed: crash-recovery nodes whose `nodes.conf` survives, an
//! asynchronous network, no bound on clocks. Promised: at most one winner of an epoch; one owner of a slot once
//! gossip has spread. *Not* promised: acknowledged writes survive a failover. Replication is asynchronous, and a
//! primary that is cut off goes on for about one node timeout.
//!
//! Read in this order: [`bus`] (messages), [`state`] (the table), [`gossip`] (who is down), [`election`] (who takes
//! over), [`configuration`] (how it spreads), [`manual`] and [`shutdown`] (planned changes), [`node`] (how it hangs
//! together), [`client`], [`orchestrator`], [`resharder`].
//!
//! Left out: MEET and the handshake of unknown nodes (a cluster starts as `redis-cli --cluster create` leaves it),
//! FORGET, changing addresses, hostnames, shard ids, sharded publish/subscribe.

pub mod bus;
pub mod client;
mod commands;
pub mod configuration;
mod data;
pub mod election;
pub mod gossip;
pub mod manual;
mod migration;
pub mod node;
pub mod orchestrator;
pub mod quirks;
pub mod resharder;
pub mod settings;
pub mod shutdown;
mod slot_copy;
pub mod slots;
pub mod state;
#[cfg(test)]
mod tests;

use crate::contract::System;
use crate::redis;
use alloc::sync::Arc;
use serde::{Deserialize, Serialize};

/// The system.
#[derive(Clone, Copy, Debug)]
pub struct Cluster;

/// What travels between processes.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum Message {
    /// On the client port: commands, replies, replication.
    Redis(redis::message::Message),
    /// On the bus port.
    Bus(Arc<bus::Packet>),
}

/// The ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Clients and replicas: RESP.
    Client,
    /// The cluster bus.
    Bus,
}

/// All timers of all roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Ten times a second: heartbeats, elections, endings.
    Cron,
    /// A timer of the data side.
    Data(redis::server::Timer),
    /// The peer's delayed acknowledgement on the link dialled to it is due.
    Nagle(bus::NodeId),
    /// A client's operation may have run out of time.
    Deadline,
    /// A client's refused operation may be tried again.
    Retry,
    /// A client's question for the slot map got no answer, or is due.
    Refresh,
    /// The resharding begins.
    Reshard,
    /// A step of a rolling restart.
    Orchestrate(orchestrator::Step),
}

/// What a node keeps on disk.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// `nodes.conf`.
    Nodes(state::Saved),
    /// The data side's.
    Data(redis::disk::Record),
}

impl System for Cluster {
    const NAME: &'static str = "cluster";
    type Message = Message;
    type Kind = Kind;
    type Timer = Timer;
    type Record = Record;

    fn wire_size(message: &Message) -> usize {
        match message {
            Message::Redis(message) => message.wire_size(),
            Message::Bus(packet) => packet.wire_size(),
        }
    }
}
