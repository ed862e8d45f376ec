//! From the record of a run to columns: no text in between.

use super::columns::{Builder, Columns, Interner, KeyMeta, Kind, NIL, Token};
use crate::record::{Action, History, Instant, Operation, Outcome, Purpose, Returned};
use std::collections::VecDeque;

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
    let mut open = InFlight::default();
    let mut last = 0;
    for (row, index) in order.enumerate() {
        let operation = &history.operations[index];
        let now = moment(operation.invoked);
        if now < last {
            return None;
        }
        last = now;
        while let Some(done) = open.next(now) {
            builder.returned(done);
        }
        let said = said(operation, &mut values, &mut builder);
        builder.invoke(operation.key.0, said.kind, said.a, said.b);
        if let Outcome::Ok(Returned::Version(version)) = operation.outcome {
            builder.version(row as u32, version);
        }
        if let (true, Some(completed)) = (said.returns, operation.completed) {
            open.push(moment(completed), row as u32);
        }
    }
    while let Some(done) = open.next(u128::MAX) {
        builder.returned(done);
    }
    let mut columns = builder.finish();
    columns.values = values;
    Some(columns)
}

/// An instant as one number.
#[inline]
fn moment(instant: Instant) -> u128 {
    u128::from(instant.at.0) << 64 | u128::from(instant.seq)
}

/// Completions that are still to come: when, and of which operation, the next one first. There are as many as
/// operations in flight, and a new one mostly completes last, so sorting it in from behind costs less than a heap.
#[derive(Default)]
struct InFlight(VecDeque<(u128, u32)>);

impl InFlight {
    #[inline]
    fn push(&mut self, at: u128, operation: u32) {
        self.0.push_back((at, operation));
        let mut place = self.0.len() - 1;
        while place > 0 && self.0[place - 1].0 > at {
            self.0.swap(place - 1, place);
            place -= 1;
        }
    }

    /// The next operation that completes up to then.
    #[inline]
    fn next(&mut self, until: u128) -> Option<u32> {
        self.0.front().filter(|first| first.0 <= until)?;
        self.0.pop_front().map(|first| first.1)
    }
}

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
