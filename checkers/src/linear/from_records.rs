//! From the record of a run to columns: no text in between.

use super::columns::{Builder, Columns, Interner, KeyMeta, Kind, NIL, Token};
use crate::record::{Action, History, Operation, Outcome, Purpose, Returned};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The workload's operations, by key. Final reads are not part of the check, and probes have their own meter.
pub(super) fn columns(history: &History) -> Columns {
    let mut values = Interner::default();
    let mut builder = Builder::with_capacity(history.operations.len());
    for key in &history.keys {
        let spine = key.spine.iter().map(|&v| values.integer(v)).collect();
        builder.key(KeyMeta { name: key.name.clone(), spine, tails: Vec::new() });
    }
    let lists = lists(history);
    let mut open: BinaryHeap<Reverse<(u64, u64, u32)>> = BinaryHeap::new();
    for (row, operation) in in_order(history) {
        let now = (operation.invoked.at.0, operation.invoked.seq);
        while let Some(&Reverse((at, seq, done))) = open.peek() {
            if (at, seq) > now {
                break;
            }
            open.pop();
            complete(&mut builder, &mut values, &history.operations[done as usize], done, &lists);
        }
        let (kind, a, b) = asked(operation, &mut values);
        let index = builder.invoke(operation.key.0, kind.filter(|_| counts(operation)), a, b);
        debug_assert_eq!(index as usize, row, "rows are indices into the history");
        if let (true, Some(completed)) = (counts(operation) && tells(operation), operation.completed) {
            open.push(Reverse((completed.at.0, completed.seq, index)));
        }
    }
    while let Some(Reverse((_, _, done))) = open.pop() {
        complete(&mut builder, &mut values, &history.operations[done as usize], done, &lists);
    }
    let mut columns = builder.finish();
    columns.values = values;
    columns
}

/// The operations in order of invocation, which is how they are recorded.
fn in_order(history: &History) -> impl Iterator<Item = (usize, &Operation)> {
    assert!(
        history.operations.is_sorted_by_key(|o| o.invoked),
        "a history lists its operations in order of invocation"
    );
    history.operations.iter().enumerate()
}

/// Which keys hold lists.
fn lists(history: &History) -> Vec<bool> {
    let mut lists: Vec<bool> = history.keys.iter().map(|k| !k.spine.is_empty()).collect();
    for operation in &history.operations {
        if matches!(operation.action, Action::Append(_)) {
            lists[operation.key.0 as usize] = true;
        }
    }
    lists
}

fn counts(operation: &Operation) -> bool {
    operation.purpose == Purpose::Workload
}

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

fn complete(builder: &mut Builder, values: &mut Interner, operation: &Operation, index: u32, lists: &[bool]) {
    let mut token = |v: &Option<u64>| v.map_or(NIL, |v| values.integer(v));
    let returned = match &operation.outcome {
        Outcome::Ok(returned) => returned,
        Outcome::Fail(_) => return builder.abort(index),
        Outcome::Info(_) => return,
    };
    let is_list = lists[operation.key.0 as usize];
    match (&operation.action, returned) {
        (Action::Read, Returned::Value(None)) if is_list => builder.complete(index, Kind::ReadList, 0, 0),
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
