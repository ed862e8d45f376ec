//! The worlds that run the production driver: [`turmoil`], a simulated network of bytes. Both this and the kernel are
//! driven by the same harness, leave the same records, and are judged by the same meter.

mod choose;
mod links;
pub mod turmoil;

pub use choose::Backend;
