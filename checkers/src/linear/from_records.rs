//! From the record of a run to columns: no text in between.

use super::columns::{Builder, Columns, Interner, KeyMeta, Kind, NIL, Token};
use crate::record::{Action, History, Operation, Outcome, Purpose, Returned};

/// The workload's operations, by key. Final reads are not part of the check, and probes have their own meter.
///
/// # Panics
/// If the operations do not stand in the order of their invocation, which is how runs are recorded.
pub(super) fn columns(history: &History) -> Columns {
    let mut values = Interner::default();
    let mut builder = Builder::with_capacity(history.operations.len());
    for key in &history.keys {
        let spine = key.spine.iter().map(|&v| values.integer(v)).collect();
        builder.key(KeyMeta { name: key.name.clone(), spine, tails: Vec::new() });
    }
    let mut open: Vec<Pending> = Vec::new();
    let mut last = (0, 0);
    for (row, operation) in history.operations.iter().enumerate() {
        let now = (operation.invoked.at.0, operation.invoked.seq);
        assert!(
            last <= now,
            "a history lists its operations in order of invocation; operation {row} is late"
        );
        last = now;
        while let Some(&(at, done)) = open.last().filter(|p| p.0 <= now) {
            open.pop();
            debug_assert!(at <= now, "only what is over is taken");
            complete(&mut builder, &mut values, &history.operations[done as usize], done);
        }
        let counts = operation.purpose == Purpose::Workload;
        let (kind, a, b) = asked(operation, &mut values);
        builder.invoke(operation.key.0, kind.filter(|_| counts), a, b);
        if let (true, Some(completed)) = (counts && tells(operation), operation.completed) {
            let pending = ((completed.at.0, completed.seq), row as u32);
            let place = open.partition_point(|p| p.0 > pending.0);
            open.insert(place, pending);
        }
    }
    while let Some((_, done)) = open.pop() {
        complete(&mut builder, &mut values, &history.operations[done as usize], done);
    }
    let mut columns = builder.finish();
    columns.values = values;
    columns
}

/// A completion that is still to come: when, and of which operation. Kept sorted, the next at the end: there are as
/// many as operations in flight, so shifting them costs less than a heap.
type Pending = ((u64, u64), u32);

/// Whether the completion says anything: unknown outcomes do not.
fn tells(operation: &Operation) -> bool {
    !matches!(operation.outcome, Outcome::Info(_))
}

/// What is known at the invocation. A read says nothing until it returns.
fn asked(operation: &Operation, values: &mut Interner) -> (Option<Kind>, Token, Token) {
    match operation.action {
        Action::Read => (None, NIL, NIL),
        Action::Append(v) => (Some(Kind::Append), values.integer(v), NIL),
        Action::Write(v) => (Some(Kind::Write), values.integer(v), NIL),
        Action::Cas { from, to } => {
            (Some(Kind::Cas), from.map_or(NIL, |v| values.integer(v)), values.integer(to))
        }
    }
}

fn complete(builder: &mut Builder, values: &mut Interner, operation: &Operation, index: u32) {
    let mut token = |v: &Option<u64>| v.map_or(NIL, |v| values.integer(v));
    let returned = match &operation.outcome {
        Outcome::Ok(returned) => returned,
        Outcome::Fail(_) => return builder.abort(index),
        Outcome::Info(_) => return,
    };
    match (&operation.action, returned) {
        (Action::Read, Returned::Value(v)) | (_, Returned::Mismatch(v)) => {
            let seen = token(v);
            builder.complete(index, Kind::Read, seen, NIL);
        }
        (Action::Read, Returned::List { shared, tail }) => {
            let mut diverging = 0;
            if !tail.is_empty() {
                let tail = tail.iter().map(|&v| values.integer(v)).collect();
                let tails = &mut builder.meta(operation.key.0).tails;
                tails.push(tail);
                diverging = tails.len() as u32;
            }
            builder.complete(index, Kind::ReadList, *shared, diverging);
        }
        (Action::Read, Returned::Done | Returned::Version(_)) => {}
        (Action::Append(v), _) => builder.complete(index, Kind::Append, values.integer(*v), NIL),
        (Action::Write(v), _) => builder.complete(index, Kind::Write, values.integer(*v), NIL),
        (Action::Cas { from, to }, _) => {
            let (from, to) = (token(from), values.integer(*to));
            builder.complete(index, Kind::Cas, from, to);
        }
    }
}
