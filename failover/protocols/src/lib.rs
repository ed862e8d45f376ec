//! Failover protocols as deterministic state machines.
#![no_std]
extern crate alloc;
