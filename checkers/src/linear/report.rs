//! Verdicts and what stands behind them.

use serde::Serialize;
use std::fmt::Write as _;

/// What went wrong, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Two compare-and-sets succeeded from one value: two nodes decided at once.
    CasFork,
    /// An acknowledged write that no later operation shows, while an older value lives on.
    LostWrite,
    /// An acknowledged append that a later read does not show.
    LostAppend,
    /// Two reads of a list of which neither continues the other.
    DivergedLists,
    /// An element stands in a list twice although it was appended once.
    DuplicateAppend,
    /// A value was seen that certainly was not written.
    AbortedRead,
    /// A value was seen that nobody wrote.
    Phantom,
    /// A value was seen before its write was invoked.
    FutureRead,
    /// Compare-and-sets that each need another one's result.
    CasCycle,
    /// A value was seen after it had been replaced.
    StaleRead,
    /// A value went away and came back without being written again.
    FlipFlop,
    /// A list shows appends against the order in which they happened.
    ReorderedAppend,
    /// A compare-and-set was refused although the value it expected was there all the time.
    FalseMismatch,
    /// Versions went down along real time.
    VersionOrder,
    /// No order of the operations explains all results; a search proved it.
    NoOrder,
}

impl Class {
    /// The name as people say it.
    pub fn name(self) -> &'static str {
        match self {
            Class::CasFork => "compare-and-set fork",
            Class::LostWrite => "lost acknowledged write",
            Class::LostAppend => "lost acknowledged append",
            Class::DivergedLists => "diverged lists",
            Class::DuplicateAppend => "duplicate append",
            Class::AbortedRead => "aborted read",
            Class::Phantom => "phantom value",
            Class::FutureRead => "read from the future",
            Class::CasCycle => "cyclic compare-and-sets",
            Class::StaleRead => "stale read",
            Class::FlipFlop => "flip-flop read",
            Class::ReorderedAppend => "reordered append",
            Class::FalseMismatch => "false mismatch",
            Class::VersionOrder => "version order",
            Class::NoOrder => "no possible order",
        }
    }
}

/// A violation in terms of a lane: which operations, and why each matters.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    /// Its name.
    pub class: Class,
    /// At most six operations (indices into the lane) that cannot all be true, each with its part in it.
    pub core: Vec<(usize, String)>,
    /// One sentence.
    pub summary: String,
    /// How old what was seen was: from the completion of the first operation to the invocation of the second.
    pub staleness: Option<(usize, usize)>,
}

/// The answer for a key, or for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Overall {
    /// An order exists that explains every result.
    Holds,
    /// None does.
    Violated,
    /// The budget ended first. Never to be read as "holds".
    Unknown,
}

/// How a key was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Unique values: zones, linear time.
    Zones,
    /// Zones, and an order built around the refused compare-and-sets.
    Schedule,
    /// Repeated values, refuted without a search.
    Screen,
    /// The order is visible in what was read, linear time.
    Versions,
    /// General search.
    Search,
}

/// An operation as people read it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Described {
    /// The logical client.
    pub process: String,
    /// What it asked and got, such as `read 7` or `cas 3 -> 4 (unknown)`.
    pub text: String,
    /// When it was asked, in milliseconds of the history's clock, if it has one.
    pub invoked_ms: Option<f64>,
    /// When it was answered.
    pub completed_ms: Option<f64>,
    /// Line of the invocation in the file, for imported histories.
    pub line: Option<u64>,
    /// Line of the completion.
    pub completed_line: Option<u64>,
    /// Name or number of the node that answered, if known.
    pub node: Option<String>,
    /// How it ended.
    pub ending: Ending,
}

/// How an operation ended, as its client knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It took effect.
    Ok,
    /// It did not.
    Failed,
    /// Nobody knows.
    #[default]
    Unknown,
}

/// Who can say what an operation was. Rows are those of [`super::columns::Columns::row`].
pub trait Source {
    /// Describes these operations, in this order.
    fn describe(&self, rows: &[u32]) -> Vec<Described>;
}

/// An operation of a core.
#[derive(Clone, Debug, Serialize)]
pub struct CoreOperation {
    /// What it was.
    #[serde(flatten)]
    pub operation: Described,
    /// Its part in the contradiction.
    pub part: String,
    /// Which operation of the source.
    pub row: u32,
}

/// Why a key is not linearizable.
#[derive(Clone, Debug, Serialize)]
pub struct Evidence {
    /// What went wrong.
    pub class: Class,
    /// The same as people say it.
    pub name: &'static str,
    /// One sentence.
    pub summary: String,
    /// For how long the value that was seen had been out of date.
    pub staleness_ms: Option<f64>,
    /// Operations that cannot all be true: at most six where a linear rule decided.
    pub core: Vec<CoreOperation>,
    /// The core and what went on around it, in order of invocation: for the drawing.
    pub window: Vec<Described>,
}

/// The verdict on one key.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Linearizable.
    Holds,
    /// Not linearizable, and why.
    Violated(Box<Evidence>),
    /// Not decided.
    Unknown {
        /// Steps that were spent on it.
        budget_steps: u64,
        /// Whether it was given up because another key had been found violated.
        given_up: bool,
        /// The operation that was hardest to get past.
        furthest: Option<Described>,
    },
}

/// One key of a report.
#[derive(Clone, Debug, Serialize)]
pub struct KeyReport {
    /// The key.
    pub key: String,
    /// Operations that were checked.
    pub operations: u32,
    /// How.
    pub method: Method,
    /// Steps of the search, 0 where none was needed.
    pub steps: u64,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What was judged, by which means, at what price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Operations checked over all keys.
    pub operations: u64,
    /// Keys.
    pub keys: u32,
    /// Keys by verdict.
    pub holds: u32,
    /// Keys by verdict.
    pub violated: u32,
    /// Keys by verdict.
    pub unknown: u32,
    /// Keys that needed a search.
    pub searched: u32,
    /// Steps of all searches.
    pub steps: u64,
}

/// The verdict on a history.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Verdict over all keys: violated if any key is, else unknown if any is.
    pub verdict: Overall,
    /// Sums.
    pub statistics: Statistics,
    /// Every key, in the order of the history.
    pub keys: Vec<KeyReport>,
}

impl Report {
    /// Sums up the keys.
    pub(super) fn new(keys: Vec<KeyReport>) -> Report {
        let mut s = Statistics { keys: keys.len() as u32, ..Statistics::default() };
        for key in &keys {
            s.operations += u64::from(key.operations);
            s.steps += key.steps;
            s.searched += u32::from(key.method == Method::Search);
            match key.verdict {
                Verdict::Holds => s.holds += 1,
                Verdict::Violated(_) => s.violated += 1,
                Verdict::Unknown { .. } => s.unknown += 1,
            }
        }
        let verdict = match (s.violated, s.unknown) {
            (0, 0) => Overall::Holds,
            (0, _) => Overall::Unknown,
            _ => Overall::Violated,
        };
        Report { verdict, statistics: s, keys }
    }

    /// The violated key whose evidence weighs most: the gravest class, and the shortest core among equals.
    pub fn strongest(&self) -> Option<(&KeyReport, &Evidence)> {
        self.keys
            .iter()
            .filter_map(|k| match &k.verdict {
                Verdict::Violated(evidence) => Some((k, evidence.as_ref())),
                Verdict::Holds | Verdict::Unknown { .. } => None,
            })
            .min_by_key(|(_, e)| (e.class, e.core.len()))
    }

    /// The report as JSON. Keys that hold are only counted.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Short<'a> {
            verdict: Overall,
            statistics: Statistics,
            keys: Vec<&'a KeyReport>,
        }
        let keys = self.keys.iter().filter(|k| !matches!(k.verdict, Verdict::Holds)).collect();
        let short = Short { verdict: self.verdict, statistics: self.statistics, keys };
        serde_json::to_string_pretty(&short).expect("a report has only string keys and finite numbers")
    }

    /// The report for a terminal.
    pub fn to_human(&self) -> String {
        let s = &self.statistics;
        let mut out = String::new();
        let word = match self.verdict {
            Overall::Holds => "linearizable",
            Overall::Violated => "NOT linearizable",
            Overall::Unknown => "unknown: the budget ended before a verdict",
        };
        let keys = if s.keys == 1 { "key" } else { "keys" };
        let _ = writeln!(out, "{word} ({} operations on {} {keys})", s.operations, s.keys);
        if s.keys > 1 {
            let _ = writeln!(out, "keys: {} hold, {} violated, {} unknown", s.holds, s.violated, s.unknown);
        }
        if let Some((key, evidence)) = self.strongest() {
            evidence.write(&mut out, &key.key);
        } else if let Some((key, verdict)) = self.first_unknown() {
            write_unknown(&mut out, key, verdict);
        }
        out
    }

    /// The report as one HTML page without scripts: verdict, core in words, the window drawn.
    pub fn to_html(&self, title: &str) -> String {
        super::picture::html(self, title, &[], None)
    }

    fn first_unknown(&self) -> Option<(&KeyReport, &Verdict)> {
        let unknown = |k: &&KeyReport| matches!(k.verdict, Verdict::Unknown { .. });
        self.keys.iter().find(unknown).map(|k| (k, &k.verdict))
    }
}

fn write_unknown(out: &mut String, key: &KeyReport, verdict: &Verdict) {
    if let Verdict::Unknown { budget_steps, furthest, .. } = verdict {
        let _ = writeln!(out, "{}no verdict in {budget_steps} steps", prefix(&key.key));
        if let Some(furthest) = furthest {
            let _ = writeln!(out, "  the furthest order found stopped at: {}", furthest.line());
        }
    }
}

/// Which key; nothing for a history of one key without name.
fn prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("key \"{key}\": ") }
}

impl Evidence {
    fn write(&self, out: &mut String, key: &str) {
        let _ = writeln!(out, "\n{}{}", prefix(key), self.name);
        let _ = writeln!(out, "  {}", self.summary);
        if let Some(ms) = self.staleness_ms {
            let _ = writeln!(out, "  out of date for {ms:.3} ms");
        }
        for operation in &self.core {
            let _ = writeln!(out, "  - {}", operation.operation.line());
            let _ = writeln!(out, "      {}", operation.part);
        }
    }
}

impl Described {
    /// The operation in one line.
    pub fn line(&self) -> String {
        let mut line = format!("process {}: {}", self.process, self.text);
        if let Some(node) = &self.node {
            let _ = write!(line, " at {node}");
        }
        match (self.invoked_ms, self.completed_ms) {
            (Some(a), Some(b)) => _ = write!(line, "  [{a:.3} .. {b:.3} ms]"),
            (Some(a), None) => _ = write!(line, "  [{a:.3} ms .. open]"),
            _ => {}
        }
        match (self.line, self.completed_line) {
            (Some(a), Some(b)) => _ = write!(line, "  (lines {a} and {b})"),
            (Some(a), None) => _ = write!(line, "  (line {a})"),
            _ => {}
        }
        line
    }
}
