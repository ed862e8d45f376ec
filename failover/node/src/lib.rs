//! Runs a failover protocol as a real process.
//!
//! Read in this order: [`driver`] executes a node's effects over sockets, files and clocks; [`resp`] is the wire form of
//! Redis-like systems; [`disk`] is the record format of a node's files, [`memory_disk`] and [`faulty_disk`] are disks
//! for drills; [`tls`] keeps strangers out, and [`certificates`] mints what it reads; [`process`] puts it all together as `firedrill node`.

pub mod bolt;
pub mod certificates;
pub mod cluster_bus;
pub mod disk;
pub mod driver;
pub mod faulty_disk;
pub mod memory_disk;
pub mod process;
pub mod resp;
pub mod tls;
