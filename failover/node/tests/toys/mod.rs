//! Toy roles written against the contract, to find out how it reads: a pipelined key-value server with subscriptions,
//! a replication stream that resumes, a session with batches and resets, and a log on a troubled disk.
//!
//! They run unchanged in the kernel and under the driver. Each has a client role that is told to `go` and answers with
//! a transcript of what it saw, so that one text states the expected behaviour everywhere.

#![allow(dead_code, reason = "each test program uses a part of the toys")]

pub mod bolt;
pub mod pipeline;
pub mod stream;
pub mod wal;
