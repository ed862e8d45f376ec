//! Transactions over several objects: strict serializability, and what still holds where it does not.
//!
//! Four kinds of history, told by their operations:
//! - **lists** ([`lists`]): transactions append unique elements to lists and read whole lists. What was read shows the
//!   order of all writes, so the question is one of a graph: who must come before whom. The idea is Elle's (Kingsbury
//!   and Alvaro, "Elle: inferring isolation anomalies from experimental observations", VLDB 2020), the names of the
//!   cycles are Adya's (PhD thesis, MIT 1999). Linear in the size of the history.
//! - **bank** ([`bank`]): transfers between accounts and reads of all of them. The total never changes, which takes one
//!   pass; beyond it a search within a budget looks for an order of the transfers that explains every read.
//! - **registers** ([`registers`]): transactions write and read single values. No order shows, so this is a search too.
//! - **store** ([`store`]): a key-value store that tells the revision of the whole with every answer, such as etcd. One
//!   walk along the revisions.
//!
//! A transaction whose outcome is unknown happened exactly if somebody saw something of it; otherwise it is left out,
//! which loses nothing.

pub mod bank;
mod graph;
pub mod lists;
pub mod registers;
mod report;
pub mod store;

pub use report::{Anomaly, Class, Level, Report, Statistics, Step as CycleStep};

use crate::linear::columns::{Interner, Token};
use crate::linear::{Described, Ending, Options};

/// The completion of a transaction whose outcome nobody knows.
pub const OPEN: u32 = u32::MAX;

/// A history of transactions on named objects.
#[derive(Debug, Default)]
pub struct History {
    /// The objects.
    pub keys: Vec<Key>,
    /// In order of invocation.
    pub transactions: Vec<Transaction>,
    /// What tokens stand for.
    pub values: Interner,
    /// Events so far: positions are `1..=events`.
    pub events: u32,
}

/// One object.
#[derive(Clone, Debug, Default)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// The longest list that was read.
    pub spine: Vec<Token>,
}

/// One transaction of one client.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The client: its transactions follow one another.
    pub process: i64,
    /// Position of the invocation among all events.
    pub invoked: u32,
    /// Position of the completion, or [`OPEN`].
    pub completed: u32,
    /// How it ended, as its client knows.
    pub ending: Ending,
    /// What it did, in order. Of a transaction that did not complete reads tell nothing.
    pub steps: Vec<Step>,
    /// Clock readings and lines, where there are any.
    pub origin: Origin,
}

/// Where a transaction stands in its source.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin {
    /// Milliseconds.
    pub invoked_ms: Option<f64>,
    /// Milliseconds.
    pub completed_ms: Option<f64>,
    /// Line of the invocation.
    pub line: Option<u64>,
    /// Line of the completion.
    pub completed_line: Option<u64>,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Added an element to a list.
    Append {
        /// Which list.
        key: u32,
        /// The element.
        value: Token,
    },
    /// Read a list.
    List {
        /// Which list.
        key: u32,
        /// Elements in common with [`Key::spine`].
        shared: u32,
        /// What follows them: not empty only if this read and a longer one contradict each other.
        tail: Vec<Token>,
    },
    /// Set a register.
    Write {
        /// Which register.
        key: u32,
        /// The value.
        value: Token,
    },
    /// Read a register.
    Value {
        /// Which register.
        key: u32,
        /// What was there.
        value: Token,
    },
    /// Was to read; what it saw is not known.
    Unread {
        /// Which object.
        key: u32,
    },
}

impl History {
    /// Adds an object; objects are numbered from 0.
    pub fn key(&mut self, name: &str) -> u32 {
        self.keys.push(Key { name: name.to_owned(), spine: Vec::new() });
        (self.keys.len() - 1) as u32
    }

    /// A transaction begins; its number.
    pub fn invoke(&mut self, process: i64, steps: Vec<Step>) -> usize {
        self.events += 1;
        self.transactions.push(Transaction {
            process,
            invoked: self.events,
            completed: OPEN,
            ending: Ending::Unknown,
            steps,
            origin: Origin::default(),
        });
        self.transactions.len() - 1
    }

    /// It committed, and this is what it did and saw.
    pub fn commit(&mut self, transaction: usize, steps: Vec<Step>) {
        self.end(transaction, Ending::Ok);
        self.transactions[transaction].steps = steps;
    }

    /// It certainly did not happen.
    pub fn abort(&mut self, transaction: usize) {
        self.end(transaction, Ending::Failed);
    }

    fn end(&mut self, transaction: usize, ending: Ending) {
        self.events += 1;
        let transaction = &mut self.transactions[transaction];
        transaction.completed = self.events;
        transaction.ending = ending;
    }

    /// The read of a list, beside the longest one seen so far.
    pub fn list(&mut self, key: u32, elements: impl Iterator<Item = Token>) -> Step {
        let spine = &mut self.keys[key as usize].spine;
        let (mut shared, mut tail) = (0, Vec::new());
        for element in elements {
            if !tail.is_empty() {
                tail.push(element);
            } else if shared == spine.len() {
                spine.push(element);
                shared += 1;
            } else if spine[shared] == element {
                shared += 1;
            } else {
                tail.push(element);
            }
        }
        Step::List { key, shared: shared as u32, tail }
    }

    /// A transaction in words.
    pub(crate) fn describe(&self, transaction: usize) -> Described {
        let t = &self.transactions[transaction];
        let steps: Vec<String> = t.steps.iter().map(|step| self.spell(step)).collect();
        let ending = match t.ending {
            Ending::Ok => "",
            Ending::Failed => " (failed)",
            Ending::Unknown => " (unknown outcome)",
        };
        Described {
            process: t.process.to_string(),
            text: format!("{}{ending}", steps.join(", ")),
            invoked_ms: t.origin.invoked_ms,
            completed_ms: t.origin.completed_ms.filter(|_| t.ending != Ending::Unknown),
            line: t.origin.line,
            completed_line: t.origin.completed_line,
            node: None,
            ending: t.ending,
        }
    }

    fn spell(&self, step: &Step) -> String {
        let name = |key: &u32| &self.keys[*key as usize].name;
        match step {
            Step::Append { key, value } => format!("append {} to {}", self.value(*value), name(key)),
            Step::Write { key, value } => format!("write {} to {}", self.value(*value), name(key)),
            Step::Value { key, value } => format!("read {} = {}", name(key), self.value(*value)),
            Step::Unread { key } => format!("read {} (result unknown)", name(key)),
            Step::List { key, shared, tail } => {
                let spine = &self.keys[*key as usize].spine[..*shared as usize];
                let all: Vec<Token> = spine.iter().chain(tail).copied().collect();
                let last: Vec<String> =
                    all.iter().rev().take(ELEMENTS_SHOWN).rev().map(|v| self.value(*v)).collect();
                let dots = if all.len() > ELEMENTS_SHOWN { ".. " } else { "" };
                format!("read {} = [{dots}{}]", name(key), last.join(" "))
            }
        }
    }

    /// A value in words.
    pub(crate) fn value(&self, token: Token) -> String {
        self.values.spell(token)
    }
}

/// Elements of a list that are spelled out: the last ones.
const ELEMENTS_SHOWN: usize = 8;

/// Judges a history of transactions, whatever they work on.
pub fn check(history: &History, options: &Options) -> Report {
    let registers = |step: &Step| matches!(step, Step::Write { .. } | Step::Value { .. });
    match history.transactions.iter().flat_map(|t| &t.steps).any(registers) {
        true => registers::check(history, options),
        false => lists::check(history),
    }
}
