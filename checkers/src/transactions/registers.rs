//! Transactions that write and read single values of several registers. Reads do not show the order of writes, so an
//! order is searched for, within a budget. What registers hold at first is not known: the first read of one that was not
//! written to tells.

use super::report::{Anomaly, Class, Level, Report, Statistics, Step as CycleStep};
use super::{History, Step};
use crate::linear::columns::Token;
use crate::linear::model::{Call, Model, check as search};
use crate::linear::{Ending, Options, Overall};

struct Registers {
    count: usize,
}

impl Model for Registers {
    /// What each holds, if that is known.
    type State = Vec<Option<Token>>;
    type Operation = Vec<Access>;

    fn initial(&self) -> Self::State {
        vec![None; self.count]
    }

    fn step(&self, state: &Self::State, accesses: &Vec<Access>) -> Option<Self::State> {
        let mut after = state.clone();
        for access in accesses {
            let held = &mut after[access.key as usize];
            match (access.writes, *held) {
                (false, Some(held)) if held != access.value => return None,
                _ => *held = Some(access.value),
            }
        }
        Some(after)
    }
}

/// A write or read of one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Access {
    key: u32,
    value: Token,
    writes: bool,
}

/// Judges a history of writes and reads of registers.
pub fn check(history: &History, options: &Options) -> Report {
    let mut calls = Vec::new();
    let mut rows = Vec::new();
    for (t, transaction) in history.transactions.iter().enumerate() {
        let access = |step: &Step| match step {
            Step::Write { key, value } => Some(Access { key: *key, value: *value, writes: true }),
            Step::Value { key, value } => Some(Access { key: *key, value: *value, writes: false }),
            Step::Append { .. } | Step::List { .. } | Step::Unread { .. } => None,
        };
        let known = transaction.ending == Ending::Ok;
        let operation: Vec<Access> =
            transaction.steps.iter().filter_map(access).filter(|a| known || a.writes).collect();
        if transaction.ending == Ending::Failed || operation.is_empty() {
            continue;
        }
        let completed = known.then_some(u64::from(transaction.completed));
        calls.push(Call { operation, invoked: u64::from(transaction.invoked), completed });
        rows.push(t);
    }
    let found = search(&Registers { count: history.keys.len() }, &calls, None, options);
    let stuck = found.stuck.filter(|_| found.verdict == Overall::Violated).map(|at| Anomaly {
        class: Class::NoOrder,
        name: Class::NoOrder.name(),
        summary: "a search found that no order of the transactions explains all reads".into(),
        steps: vec![CycleStep {
            transaction: history.describe(rows[at]),
            part: "no order of the transactions gets past this one".into(),
        }],
        circle: false,
    });
    let furthest = found.stuck.map(|at| history.describe(rows[at]));
    let undecided = super::report::undecided(found.steps, furthest.as_ref());
    Report {
        verdict: found.verdict,
        level: (found.verdict == Overall::Holds).then_some(Level::StrictSerializable),
        anomalies: stuck.into_iter().collect(),
        notes: (found.verdict == Overall::Unknown).then_some(undecided).into_iter().collect(),
        statistics: Statistics { search_steps: found.steps, ..super::lists::statistics(history) },
    }
}
