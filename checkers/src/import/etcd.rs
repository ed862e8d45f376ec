//! The operations that etcd's robustness tests save: in a folder `client-N` for each client a file `operations.json`, one
//! JSON object after the other, on one line or on many:
//!
//! ```text
//! {"ClientId": 3,
//!  "Input": {"Type": "txn", "Txn": {"Conditions": null, "OperationsOnSuccess": [
//!      {"Type": "put-operation", "Put": {"Key": "key7", "Value": {"Value": "3", "Hash": 0}, "LeaseID": 0}}], ...}},
//!  "Call": 2105921, "Output": {"Txn": {"Failure": false, "Results": [...]}, "Revision": 4, "Error": ""}, "Return": 2912797}
//! ```
//!
//! `Call` and `Return` are nanoseconds of one clock for all clients. The fields are those of Porcupine's `Operation` and
//! of the requests and responses in `tests/robustness/model` of etcd 3.5 to 3.7 (Apache-2.0), in its older form
//! (`PartialResponse`) and its newer one (`Persisted`). Other fields, such as `Metadata`, are skipped. `watch.json` and
//! the write-ahead log beside these files are not read, so what they tell of unknown outcomes is not used: such a write
//! may have happened or not.

use super::error::Problem;
use crate::transactions::store::{Answer, Comparison, Entry, Found, Operation, Range, Request, Step, Store};
use crate::transactions::{OPEN, Origin};
use serde::Deserialize;

/// Whether a text begins like one of these files: its first field is the client.
pub(super) fn is_one(text: &[u8]) -> bool {
    let inside = text.trim_ascii_start().strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
    inside.is_some_and(|text| text.starts_with(b"\"ClientId\"") || text.starts_with(b"\"ClientID\""))
}

/// No store has come so far.
const REVISION_MAX: i64 = 1 << 53;

/// Collects the files of all clients.
#[derive(Debug, Default)]
pub(super) struct Reports {
    read: Vec<Read>,
    ignored: u64,
}

/// An operation and its two instants.
#[derive(Debug)]
struct Read {
    call: i64,
    /// `None`: it may have taken effect later than its client stopped waiting.
    end: Option<i64>,
    operation: Operation,
}

impl Reports {
    /// Reads the file of one client.
    pub fn file(&mut self, text: &[u8]) -> Result<(), Problem> {
        let mut lines = serde_json::Deserializer::from_slice(text).into_iter::<Line>();
        loop {
            let before = lines.byte_offset();
            let start = before + text[before..].iter().take_while(|b| b.is_ascii_whitespace()).count();
            let Some(line) = lines.next() else { return Ok(()) };
            let line = line.map_err(|error| Problem::new(offset(text, &error), words(&error)))?;
            if line.end < line.call {
                return Err(Problem::new(start, "an operation whose `Return` is before its `Call`"));
            }
            self.line(line, super::line_of(text, start), start)?;
        }
    }

    fn line(&mut self, line: Line, number: u64, offset: usize) -> Result<(), Problem> {
        let Some(request) = line.input.request().map_err(|text| Problem::new(offset, text))? else {
            self.ignored += 1;
            return Ok(());
        };
        let reads_only = match &request {
            Request::Transaction { then, otherwise, .. } => {
                then.iter().chain(otherwise).all(|step| matches!(step, Step::Range(_)))
            }
            Request::LeaseGrant | Request::LeaseRevoke { .. } => false,
        };
        if line.output.revision.max(line.output.persisted_revision) > REVISION_MAX {
            return Err(Problem::new(offset, "a `Revision` beyond 2^53"));
        }
        let compares =
            matches!(&request, Request::Transaction { comparisons, .. } if !comparisons.is_empty());
        let answer = line.output.answer(compares);
        let end = (answer.is_some() && !line.output.is_partial()).then_some(line.end);
        // Refused, or a read of which nothing is known.
        if !line.output.client_error.is_empty() || (answer.is_none() && reads_only) {
            self.ignored += 1;
            return Ok(());
        }
        let ms = |ns: i64| Some(ns as f64 / 1e6);
        let origin = Origin {
            invoked_ms: ms(line.call),
            completed_ms: end.and_then(ms),
            line: Some(number),
            completed_line: None,
        };
        self.read.push(Read {
            call: line.call,
            end,
            operation: Operation {
                process: line.client_id,
                invoked: 0,
                completed: OPEN,
                request,
                answer,
                origin,
            },
        });
        Ok(())
    }

    /// All operations in order of time. Of two events at one time an invocation is the first: they overlap.
    pub fn finish(mut self) -> Store {
        self.read.sort_by_key(|read| (read.call, read.operation.process));
        let mut events: Vec<(i64, bool, usize)> = Vec::new();
        for (i, read) in self.read.iter().enumerate() {
            events.push((read.call, false, i));
            events.extend(read.end.map(|end| (end, true, i)));
        }
        events.sort_unstable();
        for (position, (_, is_end, i)) in (1..).zip(events) {
            let operation = &mut self.read[i].operation;
            let place = if is_end { &mut operation.completed } else { &mut operation.invoked };
            *place = position;
        }
        let operations = self.read.into_iter().map(|read| read.operation).collect();
        Store { operations, ignored: self.ignored }
    }
}

/// Where in the text an error is: it tells line and column.
fn offset(text: &[u8], error: &serde_json::Error) -> usize {
    let line = text.split_inclusive(|b| *b == b'\n').take(error.line().saturating_sub(1));
    let before: usize = line.map(<[u8]>::len).sum();
    (before + error.column().saturating_sub(1)).min(text.len())
}

/// The error without line and column, which stand in front.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    #[serde(alias = "ClientID")]
    client_id: i64,
    input: Input,
    call: i64,
    output: Output,
    #[serde(rename = "Return")]
    end: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    #[serde(rename = "Type")]
    kind: Kind,
    range: Option<RangeIn>,
    txn: Option<TxnIn>,
    lease_revoke: Option<LeaseIn>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    Range,
    Txn,
    LeaseGrant,
    LeaseRevoke,
    Defragment,
    Compact,
}

#[derive(Deserialize)]
struct LeaseIn {
    #[serde(rename = "LeaseID")]
    lease: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RangeIn {
    start: String,
    end: String,
    limit: i64,
    revision: i64,
    keys_only: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TxnIn {
    conditions: Option<Vec<ConditionIn>>,
    operations_on_success: Option<Vec<StepIn>>,
    operations_on_failure: Option<Vec<StepIn>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConditionIn {
    key: String,
    #[serde(default)]
    expected_revision: i64,
    #[serde(default)]
    expected_version: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StepIn {
    #[serde(rename = "Type")]
    kind: StepKind,
    #[serde(default)]
    range: RangeIn,
    #[serde(default)]
    put: PutIn,
    #[serde(default)]
    delete: DeleteIn,
}

#[derive(Clone, Copy, Deserialize)]
enum StepKind {
    #[serde(rename = "range-operation")]
    Range,
    #[serde(rename = "put-operation")]
    Put,
    #[serde(rename = "delete-operation")]
    Delete,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct PutIn {
    key: String,
    value: ValueIn,
    #[serde(rename = "LeaseID")]
    lease: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DeleteIn {
    key: String,
}

/// A short value as it is, a long one by its hash.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ValueIn {
    value: String,
    hash: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Output {
    txn: Option<TxnOut>,
    range: Option<FoundOut>,
    revision: i64,
    client_error: String,
    error: String,
    partial_response: bool,
    persisted: bool,
    persisted_revision: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TxnOut {
    failure: bool,
    results: Option<Vec<FoundOut>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct FoundOut {
    #[serde(rename = "KVs")]
    entries: Option<Vec<EntryOut>>,
    count: i64,
    deleted: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct EntryOut {
    key: String,
    value: ValueIn,
    mod_revision: i64,
}

impl Input {
    /// `None`: it says nothing of the store's contents.
    fn request(&self) -> Result<Option<Request>, &'static str> {
        Ok(Some(match self.kind {
            Kind::Range => {
                let range = self.range.as_ref().ok_or("a `range` without its `Range`")?;
                let then = vec![Step::Range(range.range())];
                Request::Transaction { comparisons: Vec::new(), then, otherwise: Vec::new() }
            }
            Kind::Txn => self.txn.as_ref().ok_or("a `txn` without its `Txn`")?.request(),
            Kind::LeaseGrant => Request::LeaseGrant,
            Kind::LeaseRevoke => {
                let lease =
                    self.lease_revoke.as_ref().ok_or("a `leaseRevoke` without its `LeaseRevoke`")?.lease;
                Request::LeaseRevoke { lease }
            }
            Kind::Defragment | Kind::Compact => return Ok(None),
        }))
    }
}

impl RangeIn {
    fn range(&self) -> Range {
        Range {
            start: self.start.clone(),
            end: self.end.clone(),
            limit: self.limit,
            revision: self.revision,
            keys_only: self.keys_only,
        }
    }
}

impl TxnIn {
    fn request(&self) -> Request {
        let steps = |steps: &Option<Vec<StepIn>>| steps.iter().flatten().map(StepIn::step).collect();
        let comparison = |c: &ConditionIn| Comparison {
            key: c.key.clone(),
            revision: c.expected_revision,
            version: c.expected_version,
        };
        Request::Transaction {
            comparisons: self.conditions.iter().flatten().map(comparison).collect(),
            then: steps(&self.operations_on_success),
            otherwise: steps(&self.operations_on_failure),
        }
    }
}

impl StepIn {
    fn step(&self) -> Step {
        match self.kind {
            StepKind::Range => Step::Range(self.range.range()),
            StepKind::Put => {
                Step::Put { key: self.put.key.clone(), value: self.put.value.text(), lease: self.put.lease }
            }
            StepKind::Delete => Step::Delete { key: self.delete.key.clone() },
        }
    }
}

impl ValueIn {
    fn text(&self) -> String {
        if self.hash == 0 { self.value.clone() } else { format!("hash {}", self.hash) }
    }
}

impl Output {
    /// Whether it is known from elsewhere that it happened, but not what it found.
    fn is_partial(&self) -> bool {
        self.persisted || self.partial_response
    }

    /// `None`: nobody knows whether it happened, or what.
    fn answer(&self, compares: bool) -> Option<Answer> {
        if self.is_partial() {
            let revision = if self.persisted { self.persisted_revision } else { self.revision };
            return (revision > 0 && !compares).then(|| Answer { revision, ..Answer::default() });
        }
        if !self.error.is_empty() || self.revision <= 0 {
            return None;
        }
        let found = match (&self.txn, &self.range) {
            (Some(txn), _) => txn.results.iter().flatten().map(FoundOut::found).collect(),
            (None, Some(range)) => vec![range.found()],
            (None, None) => Vec::new(),
        };
        let failure = self.txn.as_ref().is_some_and(|txn| txn.failure);
        Some(Answer { revision: self.revision, failure, found })
    }
}

impl FoundOut {
    fn found(&self) -> Found {
        let entry =
            |e: &EntryOut| Entry { key: e.key.clone(), value: e.value.text(), revision: e.mod_revision };
        Found {
            entries: self.entries.iter().flatten().map(entry).collect(),
            count: self.count,
            deleted: self.deleted,
        }
    }
}
