//! The worlds that run the production driver: [`turmoil`], a simulated network of bytes, and [`tcp`], real processes on
//! real sockets. All worlds are driven by the same harness, leave the same records, and are judged by the same meter.

pub mod abilities;
pub(crate) mod agenda;
mod choose;
mod links;
pub(crate) mod stops;
pub mod tcp;
mod troubles;
pub mod turmoil;

pub use choose::Backend;
