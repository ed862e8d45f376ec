//! One run: a scenario and a seed become records, and the records a measurement.

mod accounts;
mod agenda;
mod backups;
mod harness;
mod judge;
mod load;
mod recorder;

pub(crate) use harness::kernel_settings;
pub use harness::{Detail, Outcome, Setup, drive, run};
pub use judge::{measure, meter_options};

/// Purpose numbers of the harness's random streams (the world has its own).
mod purpose {
    /// Drawing fault times and targets.
    pub(super) const FAULTS: u16 = 16;
    /// What each client asks, and when.
    pub(super) const LOAD: u16 = 17;
}
