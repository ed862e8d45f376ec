//! Transfers between accounts, and reads of all of them: is there one order, in real time, that explains every read?
//!
//! No transfer changes the total, so two reads with different totals cannot both be: that takes one pass and needs no
//! search. Beyond it a search looks for an order of the transfers. Transfers commute, so what matters before a read is
//! only which of the open ones took effect.
//!
//! holds: `transfer 1 from a to b`, then `read {a 9, b 1}`. Violated: two reads `{a 9, b 1}` and `{a 9, b 0}`.

use super::report::{Anomaly, Class, Level, Report, Statistics, Step};
use super::{OPEN, Origin};
use crate::linear::model::{Call, Judgement, Model, check as search};
use crate::linear::{Described, Ending, Options, Overall};

/// A history of a bank.
#[derive(Clone, Debug, Default)]
pub struct Bank {
    /// Names of the accounts.
    pub accounts: Vec<String>,
    /// In order of invocation.
    pub operations: Vec<Operation>,
}

/// One operation of one client.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The client.
    pub process: i64,
    /// Position of the invocation among all events.
    pub invoked: u32,
    /// Position of the completion, or [`OPEN`].
    pub completed: u32,
    /// How it ended. Of an unknown one nobody knows whether it happened.
    pub ending: Ending,
    /// What it did.
    pub action: Action,
    /// Where it stands in its source.
    pub origin: Origin,
}

/// What is done with accounts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Moved an amount.
    Transfer {
        /// Account that gives.
        from: u32,
        /// Account that takes.
        to: u32,
        /// How much.
        amount: i64,
    },
    /// Saw the balances of all accounts; empty if the result is not known. An account that is not there has 0.
    Read(Vec<i64>),
}

/// The balances, as far as they are known: until the first read only what was moved.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Balances {
    Moved(Vec<i64>),
    Known(Vec<i64>),
}

struct Accounts {
    start: Balances,
}

impl Model for Accounts {
    type State = Balances;
    type Operation = Action;

    fn initial(&self) -> Balances {
        self.start.clone()
    }

    fn step(&self, state: &Balances, action: &Action) -> Option<Balances> {
        match (state, action) {
            (Balances::Known(held), Action::Read(seen)) => (held == seen).then(|| state.clone()),
            (Balances::Moved(_), Action::Read(seen)) => Some(Balances::Known(seen.clone())),
            (Balances::Known(held), Action::Transfer { .. }) => Some(Balances::Known(moved(held, action))),
            (Balances::Moved(so_far), Action::Transfer { .. }) => {
                Some(Balances::Moved(moved(so_far, action)))
            }
        }
    }

    fn observes(&self, action: &Action) -> bool {
        matches!((&self.start, action), (Balances::Known(_), Action::Read(_)))
    }
}

fn moved(balances: &[i64], action: &Action) -> Vec<i64> {
    let mut after = balances.to_vec();
    if let Action::Transfer { from, to, amount } = action {
        after[*from as usize] = after[*from as usize].wrapping_sub(*amount);
        after[*to as usize] = after[*to as usize].wrapping_add(*amount);
    }
    after
}

/// Judges a history of a bank.
pub fn check(bank: &Bank, options: &Options) -> Report {
    let statistics = bank.statistics();
    let mut notes = bank.notes();
    if let Some(torn) = bank.torn() {
        let anomalies = vec![torn];
        let level = Some(Class::TornRead.leaves());
        return Report { verdict: Overall::Violated, level, anomalies, notes, statistics };
    }
    let calls = bank.calls();
    let only: Vec<Call<Action>> = calls.iter().map(|(_, call)| call.clone()).collect();
    let found = search(&Accounts { start: bank.start() }, &only, None, options);
    let statistics = Statistics { search_steps: found.steps, ..statistics };
    let anomalies = match found.verdict {
        Overall::Violated => vec![bank.no_order(&calls, &found)],
        Overall::Holds | Overall::Unknown => Vec::new(),
    };
    if found.verdict == Overall::Unknown {
        let furthest = found.stuck.and_then(|at| calls.get(at)).map(|(i, _)| bank.describe(*i));
        notes.push(super::report::undecided(found.steps, furthest.as_ref()));
    }
    let level = (found.verdict == Overall::Holds).then_some(Level::StrictSerializable);
    Report { verdict: found.verdict, level, anomalies, notes, statistics }
}

impl Bank {
    fn statistics(&self) -> Statistics {
        let count = |ending: Ending| self.operations.iter().filter(|o| o.ending == ending).count() as u64;
        Statistics {
            transactions: self.operations.len() as u64,
            committed: count(Ending::Ok),
            aborted: count(Ending::Failed),
            unknown: count(Ending::Unknown),
            keys: self.accounts.len() as u64,
            search_steps: 0,
        }
    }

    /// Acknowledged reads: which operation, what it saw.
    fn reads(&self) -> impl Iterator<Item = (usize, &[i64])> {
        self.operations.iter().enumerate().filter_map(|(i, operation)| match &operation.action {
            Action::Read(seen) if operation.ending == Ending::Ok => Some((i, seen.as_slice())),
            _ => None,
        })
    }

    fn notes(&self) -> Vec<String> {
        let negative = self.reads().filter(|(_, seen)| seen.iter().any(|balance| *balance < 0)).count();
        let note = format!("{negative} reads show a negative balance (no violation in itself)");
        (negative > 0).then_some(note).into_iter().collect()
    }

    /// Two reads whose totals differ.
    fn torn(&self) -> Option<Anomaly> {
        let total = |seen: &[i64]| seen.iter().map(|b| i128::from(*b)).sum::<i128>();
        let (first, seen) = self.reads().next()?;
        let expected = total(seen);
        let (other, found) =
            self.reads().map(|(i, seen)| (i, total(seen))).find(|(_, sum)| *sum != expected)?;
        let step =
            |i: usize, sum: i128| Step { transaction: self.describe(i), part: format!("saw {sum} in all") };
        Some(Anomaly {
            class: Class::TornRead,
            name: Class::TornRead.name(),
            summary: "no transfer changes the total, and yet two reads show different ones".into(),
            steps: vec![step(first, expected), step(other, found)],
            circle: false,
        })
    }

    /// What is known of the beginning: a read that completed before any transfer began saw it.
    fn start(&self) -> Balances {
        let transfer = |o: &&Operation| matches!(o.action, Action::Transfer { .. });
        let first = self.operations.iter().filter(transfer).map(|o| o.invoked).min().unwrap_or(OPEN);
        match self.reads().find(|(i, _)| self.operations[*i].completed < first) {
            Some((_, seen)) => Balances::Known(seen.to_vec()),
            None => Balances::Moved(vec![0; self.accounts.len()]),
        }
    }

    /// What may have happened, with the operation each is.
    fn calls(&self) -> Vec<(usize, Call<Action>)> {
        let call = |(i, operation): (usize, &Operation)| {
            let is_read = matches!(operation.action, Action::Read(_));
            let completed = match operation.ending {
                Ending::Ok => Some(u64::from(operation.completed)),
                Ending::Unknown if !is_read => None,
                Ending::Unknown | Ending::Failed => return None,
            };
            let (action, invoked) = (operation.action.clone(), u64::from(operation.invoked));
            Some((i, Call { operation: action, invoked, completed }))
        };
        self.operations.iter().enumerate().filter_map(call).collect()
    }

    fn no_order(&self, calls: &[(usize, Call<Action>)], found: &Judgement) -> Anomaly {
        let stuck = found.stuck.and_then(|at| calls.get(at)).map(|(i, _)| Step {
            transaction: self.describe(*i),
            part: "no order of the transfers gets past this one".into(),
        });
        Anomaly {
            class: Class::NoOrder,
            name: Class::NoOrder.name(),
            summary:
                "every read shows the same total, and yet no order of the transfers explains all of them"
                    .into(),
            steps: stuck.into_iter().collect(),
            circle: false,
        }
    }

    fn describe(&self, i: usize) -> Described {
        let operation = &self.operations[i];
        let name = |account: u32| &self.accounts[account as usize];
        let text = match &operation.action {
            Action::Transfer { from, to, amount } => {
                format!("transfer {amount} from {} to {}", name(*from), name(*to))
            }
            Action::Read(seen) => {
                let all: Vec<String> =
                    self.accounts.iter().zip(seen).map(|(a, b)| format!("{a} {b}")).collect();
                format!("read {{{}}}", all.join(", "))
            }
        };
        Described {
            process: operation.process.to_string(),
            text,
            invoked_ms: operation.origin.invoked_ms,
            completed_ms: operation.origin.completed_ms.filter(|_| operation.ending != Ending::Unknown),
            line: operation.origin.line,
            completed_line: operation.origin.completed_line,
            node: None,
            ending: operation.ending,
        }
    }
}
