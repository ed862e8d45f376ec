//! The records of a run, and every judge of them. Knows no protocol: a history recorded anywhere can be judged here.
//!
//! Read in this order: [`record`] is what a run leaves behind; the other modules are pure functions of it.

pub mod backup;
pub mod bench;
pub mod expect;
pub mod import;
pub mod linear;
pub mod measure;
pub mod meter;
pub mod record;
pub mod sessions;
pub mod slo;
pub mod stats;
pub mod strikes;
pub mod transactions;
