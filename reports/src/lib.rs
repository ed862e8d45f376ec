//! Records and verdicts rendered for people and machines.
//!
//! Reports are pure functions of a [`result::Campaign`]: no clock, no environment, no terminal detection. Equal
//! campaigns give equal bytes. Each format is one small file behind [`Report`]:
//!
//! ```
//! use firedrill_reports::{Report, html::Html, json::Json, sample};
//!
//! let campaign = sample::campaign(sample::Size::Small);
//! let mut page = Vec::new();
//! Html.write(&campaign, &mut page)?;
//! assert!(page.starts_with(b"<!doctype html>"));
//!
//! let mut summary = Vec::new();
//! Json.write(&campaign, &mut summary)?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Read in this order: [`result`] is what a campaign holds, [`mod@summarise`] makes a scenario's figures from its runs,
//! [`headline`] answers the four questions every reader has, [`lanes`] lays one run out for drawing and telling.

pub mod compare;
pub mod headline;
pub mod hgrm;
pub mod html;
pub mod human;
pub mod json;
pub mod junit;
pub mod lanes;
pub mod markdown;
pub mod result;
pub mod sample;
pub mod side_by_side;
pub mod story;
pub mod summarise;
pub mod svg;
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
