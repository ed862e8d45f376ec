//! Failover protocols as deterministic state machines with effects.
//!
//! The same code serves real clients over TCP and runs as simulated nodes: it does no I/O, has no clock and no
//! randomness of its own, and everything it wants done it says through the context. [`contract`] is that agreement;
//! read it first. Each system is a folder that reads like its source; a new one is a folder and one line here.
#![no_std]
extern crate alloc;

pub mod agent;
pub mod cluster;
pub mod contract;
pub mod graph;
pub mod memgraph;
pub mod raft;
pub mod redis;
pub mod sentinel;
