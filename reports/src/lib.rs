//! Records and verdicts rendered for people and machines.
//!
//! Reports are pure functions of a [`result::Campaign`]: no clock, no environment, no terminal detection. Equal
//! campaigns give equal bytes. Each format is one small file behind [`Report`]:
//!
//! Read in this order: [`result`] is what a campaign holds, [`mod@summarise`] makes a scenario's figures from its runs,
//! [`headline`] answers the four questions every reader has, [`lanes`] lays one run out for drawing and telling.

pub mod compare;
pub mod headline;
pub mod hgrm;
pub mod human;
pub mod json;
pub mod junit;
pub mod lanes;
pub mod markdown;
pub mod result;
pub mod sample;
pub mod story;
pub mod summarise;
pub mod text;
pub mod trace;

use result::Campaign;
use std::io;

/// A format that a campaign can be written in.
pub trait Report {
    /// Writes the whole report.
    ///
    /// # Errors
    /// Only those of `out`.
    fn write(&self, campaign: &Campaign, out: &mut dyn io::Write) -> io::Result<()>;
}
