//! Expectations: what a scenario promises, in one line each, judged over its runs.
//!
//! ```text
//! metric[.aggregation] operator value          rto.p99 <= 12s
//! flag                                         linearizable
//! not flag                                     not linearizable
//! ```
//!
//! The metrics are the explicit list in [`registry`]. Aggregations are `min`, `max`, `mean`, `sum` and `p50`, `p90`, `p95`,
//! `p99`, `p999`; a metric may also be written as reports name it (`rpo.writes_max`). **Without an aggregation an
//! expectation is about each run**: `<=` and `<` are thus judged on the largest run, `>=` and `>` on the smallest, `==` and
//! `!=` on all of them. Durations and byte counts have units.
//!
//! ```
//! use firedrill_checkers::expect::{Expectation, Verdict};
//! use firedrill_checkers::measure::{Measurement, Span};
//!
//! let expectation: Expectation = "rto.max <= 12s".parse().unwrap();
//! let mut run = Measurement::default();
//! run.rto.first = Some(Span { ms: 13_250.0, censored: false });
//! let judged = expectation.judge(&[run]);
//! assert_eq!(judged.verdict, Verdict::Broken);
//! assert_eq!(judged.measured, Some(13_250.0));
//! ```

pub mod aggregate;
mod judge;
mod parse;
pub mod registry;

#[cfg(test)]
mod tests;

pub use judge::{Judged, Verdict};
pub use parse::{ParseError, parse};

use crate::measure::Measurement;
use crate::stats::Sample;
use registry::Metric;
use serde::{Deserialize, Serialize};

/// One expectation of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expectation {
    /// As it was written.
    pub text: String,
    /// What is measured.
    pub subject: Subject,
    /// Over the runs.
    pub aggregation: Aggregation,
    /// How it compares.
    pub operator: Operator,
    /// With what, in the metric's unit (milliseconds, bytes, number; a flag is 0 or 1).
    pub bound: f64,
}

/// What an expectation is about.
#[derive(Clone, Copy, Debug)]
pub struct KnownMetric(pub &'static Metric);

impl PartialEq for KnownMetric {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

/// What an expectation is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// A metric of the registry.
    Known(KnownMetric),
    /// A measure that belongs to one system, by its name in [`Measurement::extra`].
    Extra(String),
}

impl Subject {
    /// The figure of one run; `None`: not measured there.
    pub fn read(&self, measurement: &Measurement) -> Option<Sample> {
        match self {
            Subject::Known(metric) => (metric.0.read)(measurement),
            Subject::Extra(name) => measurement.extra.get(name).map(|value| Sample::exact(*value)),
        }
    }
}

/// How the figures of many runs become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// It must hold in each run.
    EachRun,
    /// The smallest run.
    Min,
    /// The largest run.
    Max,
    /// The mean of the runs.
    Mean,
    /// The sum of the runs.
    Sum,
    /// The percentile, in thousandths.
    Percentile(u32),
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<=`
    AtMost,
    /// `<`
    Below,
    /// `>=`
    AtLeast,
    /// `>`
    Above,
    /// `==`
    Equal,
    /// `!=`
    Unequal,
}

/// Why a broken expectation matters; the program's exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitClass {
    /// Data is lost, split or wrong although that was excluded.
    Safety,
    /// A target is missed; the data is safe.
    Target,
    /// The system did not come back after everything was healed.
    NoProgress,
}

impl ExitClass {
    /// The exit code of the program.
    pub fn code(self) -> u8 {
        match self {
            ExitClass::Safety => 1,
            ExitClass::Target => 3,
            ExitClass::NoProgress => 4,
        }
    }
}

impl Expectation {
    /// The class of exit if it is broken.
    pub fn class(&self) -> ExitClass {
        use registry::Gravity;
        match &self.subject {
            Subject::Extra(_) => ExitClass::Target,
            Subject::Known(metric) => match metric.0.gravity {
                Gravity::Safety => ExitClass::Safety,
                Gravity::Target => ExitClass::Target,
                Gravity::NoProgress => ExitClass::NoProgress,
                Gravity::SafetyIfForbidden if self.forbids_any() => ExitClass::Safety,
                Gravity::SafetyIfForbidden => ExitClass::Target,
            },
        }
    }

    /// Whether not a single one is allowed, as by `== 0` or `< 1`.
    fn forbids_any(&self) -> bool {
        match self.operator {
            Operator::Equal | Operator::AtMost => self.bound == 0.0,
            Operator::Below => self.bound <= 1.0,
            Operator::AtLeast | Operator::Above | Operator::Unequal => false,
        }
    }
}

impl std::fmt::Display for Expectation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for Expectation {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse(text)
    }
}

impl TryFrom<String> for Expectation {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        parse(&text)
    }
}

impl From<Expectation> for String {
    fn from(expectation: Expectation) -> String {
        expectation.text
    }
}
