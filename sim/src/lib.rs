//! The simulated worlds, and everything that fills them.
//!
//! Read in this order: [`world`] is what a run needs of a world; [`kernel`] is the fast one; [`trace`] proves that a
//! run was the same run.

pub mod kernel;
pub mod trace;
pub mod world;
