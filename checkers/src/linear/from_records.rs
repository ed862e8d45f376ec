//! From the record of a run to columns: no text in between.

use super::columns::{Builder, Columns, Interner, KeyMeta, Kind, NIL, Token};
use crate::record::{Action, History, Operation, Outcome, Purpose, Returned};

/// The workload's operations, by key.
pub(super) fn columns(history: &History) -> Columns {
    collect(history, 0..history.operations.len()).unwrap_or_else(|| {
        // Runs list their operations in order of invocation; one put together from several recorders may not.
        let mut order: Vec<usize> = (0..history.operations.len()).collect();
        order.sort_by_key(|&i| history.operations[i].invoked);
        let mut columns = collect(history, order.iter().copied()).expect("just sorted");
        columns.row =
            (0..columns.len()).map(|i| order[columns.row.get(i).map_or(i, |&r| r as usize)] as u32).collect();
        columns
    })
}

/// The same for operations in this order; `None` if it is not that of their invocation.
fn collect(history: &History, order: impl Iterator<Item = usize>) -> Option<Columns> {
    let mut values = Interner::default();
    let mut builder = Builder::with_capacity(history.operations.len());
    for key in &history.keys {
        let spine = key.spine.iter().map(|&v| values.integer(v)).collect();
        builder.key(KeyMeta { name: key.name.clone(), spine, tails: Vec::new() });
    }
    let mut open: Vec<Pending> = Vec::new();
    let mut last = (0, 0);
    for (row, index) in order.enumerate() {
        let operation = &history.operations[index];
        let now = (operation.invoked.at.0, operation.invoked.seq);
        if now < last {
            return None;
        }
        last = now;
        while open.last().is_some_and(|p| p.0 <= now) {
            builder.returned(open.pop().expect("just seen").1);
        }
        let said = said(operation, &mut values, &mut builder);
        builder.invoke(operation.key.0, said.kind, said.a, said.b);
        if let (true, Some(completed)) = (said.returns, operation.completed) {
            let pending = ((completed.at.0, completed.seq), row as u32);
            let place = open.partition_point(|p| p.0 > pending.0);
            open.insert(place, pending);
        }
    }
    while let Some((_, done)) = open.pop() {
        builder.returned(done);
    }
    let mut columns = builder.finish();
    columns.values = values;
    Some(columns)
}

/// A completion that is still to come: when, and of which operation. Kept sorted, the next at the end: there are as
/// many as operations in flight, so shifting them costs less than a heap.
type Pending = ((u64, u64), u32);

/// What an operation says.
struct Said {
    kind: Option<Kind>,
    a: Token,
    b: Token,
    /// Whether its completion is a bound: what is unknown, or did not happen, has none.
    returns: bool,
}

const NOTHING: Said = Said { kind: None, a: NIL, b: NIL, returns: false };

/// Final reads are no part of the check, and probes have keys and a judge of their own.
fn said(operation: &Operation, values: &mut Interner, builder: &mut Builder) -> Said {
    if operation.purpose != Purpose::Workload {
        return NOTHING;
    }
    match &operation.outcome {
        Outcome::Ok(returned) => answered(operation, returned, values, builder),
        Outcome::Fail(_) => match operation.action {
            Action::Read => NOTHING,
            Action::Append(v) | Action::Write(v) | Action::Cas { to: v, .. } => {
                Said { kind: Some(Kind::Aborted), a: values.integer(v), ..NOTHING }
            }
        },
        Outcome::Info(_) => asked(operation, values),
    }
}

/// What is known of an operation that may or may not have happened. A read of unknown outcome says nothing.
fn asked(operation: &Operation, values: &mut Interner) -> Said {
    let (kind, a, b) = match operation.action {
        Action::Read => return NOTHING,
        Action::Append(v) => (Kind::Append, values.integer(v), NIL),
        Action::Write(v) => (Kind::Write, values.integer(v), NIL),
        Action::Cas { from, to } => (Kind::Cas, from.map_or(NIL, |v| values.integer(v)), values.integer(to)),
    };
    Said { kind: Some(kind), a, b, returns: false }
}

fn answered(
    operation: &Operation,
    returned: &Returned,
    values: &mut Interner,
    builder: &mut Builder,
) -> Said {
    let saw = |kind, a, b| Said { kind: Some(kind), a, b, returns: true };
    match (operation.action, returned) {
        (Action::Read, Returned::Value(v)) | (_, Returned::Mismatch(v)) => {
            saw(Kind::Read, v.map_or(NIL, |v| values.integer(v)), NIL)
        }
        (Action::Read, Returned::List { shared, tail }) => {
            let mut diverging = 0;
            if !tail.is_empty() {
                let tail = tail.iter().map(|&v| values.integer(v)).collect();
                let tails = &mut builder.meta(operation.key.0).tails;
                tails.push(tail);
                diverging = tails.len() as u32;
            }
            saw(Kind::ReadList, *shared, diverging)
        }
        (Action::Read, Returned::Done | Returned::Version(_)) => NOTHING,
        (Action::Append(_) | Action::Write(_) | Action::Cas { .. }, _) => {
            Said { returns: true, ..asked(operation, values) }
        }
    }
}
