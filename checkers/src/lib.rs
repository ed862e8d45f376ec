//! The records of a run, and every judge of them. Knows no protocol: a history recorded anywhere can be judged here.
//!
//! Read in this order: [`record`] is what a run leaves behind; the other modules are pure functions of it.
//!
//! As a library alone: [`import`] reads recorded histories, [`linear`] and [`transactions`] judge them.
//!
//! ```
//! use firedrill_checkers::import;
//! use firedrill_checkers::linear::{self, Options, Overall};
//!
//! let text = r#"{"process": 0, "type": "invoke", "f": "write", "value": 1}
//! {"process": 0, "type": "ok", "f": "write", "value": 1}
//! {"process": 1, "type": "invoke", "f": "read"}
//! {"process": 1, "type": "ok", "f": "read", "value": null}
//! "#;
//! let history = import::parse("a history", text.into(), &import::Options::default()).expect("four events");
//! let report = linear::check_imported(&history, &Options::default());
//! assert_eq!(report.verdict, Overall::Violated);
//! let (_, evidence) = report.strongest().expect("a violation has evidence");
//! assert_eq!(evidence.name, "lost acknowledged write");
//! ```

/// The page on histories; its example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/checkers.md")]
pub struct Page;

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
