//! The worlds that run the production driver: [`turmoil`], a simulated network of bytes, and [`tcp`], real processes on
//! real sockets. All worlds are driven by the same harness, leave the same records, and are judged by the same meter.

pub mod abilities;
mod choose;
mod links;
pub mod tcp;
pub mod turmoil;

pub use choose::Backend;
