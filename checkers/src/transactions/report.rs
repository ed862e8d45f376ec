//! Verdicts on transactions and what stands behind them.

use crate::linear::{Described, Overall};
use serde::Serialize;
use std::fmt::Write as _;

/// What a history keeps, from weak to strong. Each level implies those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Not even the order of writes is one.
    None,
    /// Writes of different transactions do not interleave (no G0).
    ReadUncommitted,
    /// What is read was committed and final (no G1).
    ReadCommitted,
    /// Every transaction reads from one snapshot.
    SnapshotIsolation,
    /// One order of all transactions explains every read.
    Serializable,
    /// One that keeps each client's own order.
    SessionSerializable,
    /// One that keeps real time.
    StrictSerializable,
}

impl Level {
    /// The level as people say it.
    pub fn name(self) -> &'static str {
        match self {
            Level::None => "nothing",
            Level::ReadUncommitted => "read uncommitted",
            Level::ReadCommitted => "read committed",
            Level::SnapshotIsolation => "snapshot isolation",
            Level::Serializable => "serializability",
            Level::SessionSerializable => "serializability in each client's order",
            Level::StrictSerializable => "strict serializability",
        }
    }
}

/// What went wrong, by name; the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Two reads of a list of which neither continues the other.
    DivergedLists,
    /// An element stands in a list twice.
    DuplicateAppend,
    /// Something was read that nobody wrote.
    Phantom,
    /// Something was read whose transaction certainly failed (G1a).
    AbortedRead,
    /// Something was read that its own transaction changed further (G1b).
    IntermediateRead,
    /// A transaction contradicts itself.
    Internal,
    /// Reads of all accounts with different totals.
    TornRead,
    /// Two writes of which each made the same state of the store.
    TwoWrites,
    /// An answer that does not show what the writes before it had left.
    WrongState,
    /// Writes in a circle (G0).
    WriteCycle,
    /// Writes and reads in a circle (G1c).
    CircularFlow,
    /// A circle with one missed write (G-single): read skew.
    ReadSkew,
    /// A circle of missed writes that do not follow each other: long fork.
    LongFork,
    /// A circle of missed writes (G2): write skew.
    WriteSkew,
    /// A circle that needs a client's own order.
    SessionOrder,
    /// A circle that needs real time: something completed was not seen by what began later.
    RealTime,
    /// No order explains all reads; a search proved it.
    NoOrder,
}

impl Class {
    /// The name as people say it.
    pub fn name(self) -> &'static str {
        match self {
            Class::DivergedLists => "diverged lists",
            Class::DuplicateAppend => "duplicate append",
            Class::Phantom => "phantom value",
            Class::AbortedRead => "aborted read (G1a)",
            Class::IntermediateRead => "intermediate read (G1b)",
            Class::Internal => "a transaction contradicts itself",
            Class::TornRead => "torn read",
            Class::TwoWrites => "two writes in one place",
            Class::WrongState => "an answer from another state",
            Class::WriteCycle => "write cycle (G0)",
            Class::CircularFlow => "circular information flow (G1c)",
            Class::ReadSkew => "read skew (G-single)",
            Class::LongFork => "long fork (G-nonadjacent)",
            Class::WriteSkew => "write skew (G2)",
            Class::SessionOrder => "a client's own order is broken",
            Class::RealTime => "real time is broken",
            Class::NoOrder => "no possible order",
        }
    }

    /// The strongest level that a history with this can keep.
    pub(super) fn leaves(self) -> Level {
        match self {
            Class::DivergedLists
            | Class::DuplicateAppend
            | Class::Phantom
            | Class::TwoWrites
            | Class::WriteCycle => Level::None,
            Class::AbortedRead
            | Class::IntermediateRead
            | Class::CircularFlow
            | Class::Internal
            | Class::WrongState => Level::ReadUncommitted,
            Class::ReadSkew | Class::LongFork | Class::TornRead => Level::ReadCommitted,
            Class::WriteSkew => Level::SnapshotIsolation,
            Class::SessionOrder => Level::Serializable,
            Class::RealTime | Class::NoOrder => Level::SessionSerializable,
        }
    }
}

/// A transaction of a contradiction.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The transaction.
    #[serde(flatten)]
    pub transaction: Described,
    /// Its part: in a circle, why it comes before the next one.
    pub part: String,
}

/// Something that cannot be.
#[derive(Clone, Debug, Serialize)]
pub struct Anomaly {
    /// What.
    pub class: Class,
    /// The same as people say it.
    pub name: &'static str,
    /// One sentence.
    pub summary: String,
    /// The transactions that prove it. Of a circle each comes before the next, and the last before the first.
    pub steps: Vec<Step>,
    /// Whether they are a circle.
    pub circle: bool,
}

/// What was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// All transactions.
    pub transactions: u64,
    /// Of these, acknowledged.
    pub committed: u64,
    /// Of these, failed.
    pub aborted: u64,
    /// Of these, of unknown outcome.
    pub unknown: u64,
    /// Objects.
    pub keys: u64,
    /// Steps of a search; 0 where none was needed.
    pub search_steps: u64,
}

/// The verdict on a history of transactions.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether it is strictly serializable.
    pub verdict: Overall,
    /// The strongest level that holds; `None`: not known.
    pub level: Option<Level>,
    /// What was found: the gravest first.
    pub anomalies: Vec<Anomaly>,
    /// Anything else worth knowing.
    pub notes: Vec<String>,
    /// Sums.
    pub statistics: Statistics,
}

/// How far a search came that found no verdict.
pub(super) fn undecided(steps: u64, furthest: Option<&Described>) -> String {
    let stopped =
        furthest.map_or(String::new(), |f| format!("; the furthest order found stopped at: {}", f.line()));
    format!("no verdict in {steps} steps{stopped}")
}

impl Report {
    /// The report as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has only string keys and finite numbers")
    }

    /// The report for a terminal.
    pub fn to_human(&self) -> String {
        let mut out = String::new();
        let s = &self.statistics;
        let _ = writeln!(
            out,
            "{} ({} transactions, {} keys: {} committed, {} failed, {} unknown)",
            self.word(),
            s.transactions,
            s.keys,
            s.committed,
            s.aborted,
            s.unknown
        );
        if let Some(level) = self.level {
            let _ = writeln!(out, "strongest level that holds: {}", level.name());
        }
        for note in &self.notes {
            let _ = writeln!(out, "{note}");
        }
        for anomaly in &self.anomalies {
            anomaly.write(&mut out);
        }
        out
    }

    fn word(&self) -> &'static str {
        match self.verdict {
            Overall::Holds => "strictly serializable",
            Overall::Violated => "NOT strictly serializable",
            Overall::Unknown => "unknown: the budget ended before a verdict",
        }
    }

    /// The report as one HTML page without scripts, the first contradiction drawn.
    pub fn to_html(&self, title: &str) -> String {
        super::graph::html(self, title, self.word())
    }
}

impl Anomaly {
    fn write(&self, out: &mut String) {
        let _ = writeln!(out, "\n{}\n  {}", self.name, self.summary);
        for (n, step) in (1..).zip(&self.steps) {
            let _ = writeln!(out, "  T{n}  {}\n      {}", step.transaction.line(), step.part);
        }
        if self.circle {
            let _ = writeln!(
                out,
                "  Each comes before the next, and the last before the first: a contradiction."
            );
        }
    }
}
