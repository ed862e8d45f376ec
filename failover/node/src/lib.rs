//! Runs a failover protocol as a real process.
//!
//! [`driver`] executes a node's effects over sockets, files and clocks; [`disk`] is the record format of its files.

pub mod disk;
pub mod driver;
pub mod faulty_disk;
pub mod memory_disk;
pub mod process;
pub mod resp;
