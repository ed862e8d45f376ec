//! How fast the checkers are, and whether they are right: generated histories, a proof against the definition, and the
//! table that `bench` prints.

mod baseline;
pub mod generate;
pub mod proof;
pub mod rng;
pub mod strings;
mod table;

pub use table::{Extent, run};
