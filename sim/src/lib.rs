//! The simulated worlds, and everything that fills them.
//!
//! Read in this order: [`scenario`] is what a user writes; [`systems`] what can be drilled; [`faults`] what can go
//! wrong; [`world`] is what a run needs of a world, [`kernel`] the fast one; [`mod@run`] drives a world through a scenario
//! and judges what it left; [`trace`] proves that a run was the same run.

pub mod backends;
pub mod campaign;
mod children;
pub mod cli;
pub mod faults;
pub mod fuzz;
pub mod kernel;
pub mod nearest;
pub mod own;
pub mod papers;
pub mod run;
pub mod scenario;
pub mod systems;
pub mod testing;
pub mod trace;
pub mod view;
pub mod world;
