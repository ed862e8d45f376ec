//! Events to transactions: micro-operations, transfers, reads of all accounts.

use super::assemble::{Processes, spell, token};
use super::error::Problem;
use super::events::{Event, Function, Type};
use super::scan::{Cursor, Raw, elements};
use crate::linear::Ending;
use crate::linear::columns::NIL;
use crate::transactions::bank::{Action, Bank, Operation};
use crate::transactions::{History, OPEN, Origin, Step};
use std::collections::BTreeMap;

/// Counts lines as events go by.
#[derive(Debug, Default)]
struct Lines {
    offset: usize,
    line: u64,
}

impl Lines {
    fn of(&mut self, text: &[u8], offset: usize) -> u64 {
        let passed = text.get(self.offset..offset).unwrap_or(&[]);
        self.line += passed.iter().filter(|&&b| b == b'\n').count() as u64;
        self.offset = offset.max(self.offset);
        self.line + 1
    }
}

fn ms(time: Raw<'_>) -> Option<f64> {
    match time {
        Raw::Int(ns) => Some(ns as f64 / 1e6),
        _ => None,
    }
}

/// Collects transactions on lists or registers.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    pub history: History,
    keys: BTreeMap<String, u32>,
    processes: Processes,
    lines: Lines,
    pub infos_ignored: u64,
    /// What the steps so far work on.
    lists: bool,
    registers: bool,
}

impl Transactions {
    pub fn event(&mut self, event: &Event<'_>, text: &[u8]) -> Result<(), Problem> {
        let line = self.lines.of(text, event.offset);
        let next = self.history.transactions.len() as u32;
        let Some(open) = self.processes.follow(event, next)? else {
            self.infos_ignored += 1;
            return Ok(());
        };
        let at = open.operation as usize;
        match event.kind {
            Type::Invoke => {
                let steps = self.steps(event, false)?;
                self.history.invoke(event.process, steps);
                let origin = &mut self.history.transactions[at].origin;
                *origin = Origin { invoked_ms: ms(event.time), line: Some(line), ..Origin::default() };
                return Ok(());
            }
            Type::Ok => {
                let steps = self.steps(event, true)?;
                if steps.len() != self.history.transactions[at].steps.len() {
                    return Err(Problem::new(event.value_at, "not the steps that its invocation named"));
                }
                self.history.commit(at, steps);
            }
            Type::Fail => self.history.abort(at),
            Type::Info => {}
        }
        let origin = &mut self.history.transactions[at].origin;
        (origin.completed_ms, origin.completed_line) = (ms(event.time), Some(line));
        Ok(())
    }

    fn key(&mut self, raw: Raw<'_>) -> u32 {
        let name = spell(raw);
        if let Some(&key) = self.keys.get(&name) {
            return key;
        }
        let key = self.history.key(&name);
        self.keys.insert(name, key);
        key
    }

    /// The steps of a transaction: `[[:append 1 2] [:r 1 [2]]]`.
    fn steps(&mut self, event: &Event<'_>, done: bool) -> Result<Vec<Step>, Problem> {
        let wrong = || {
            Problem::new(
                event.value_at,
                "a transaction is a vector of steps such as `[:append key value]`, `[:w key value]`, `[:r key nil]`",
            )
        };
        let Raw::Vector(vector) = event.value else { return Err(wrong()) };
        let mut steps = Vec::new();
        for step in elements(vector) {
            let Raw::Vector(step) = step else { return Err(wrong()) };
            let mut parts = elements(step);
            let (Some(Raw::Word(f) | Raw::Text(f)), Some(key)) = (parts.next(), parts.next()) else {
                return Err(wrong());
            };
            let value = parts.next().unwrap_or(Raw::Nil);
            let key = self.key(key);
            steps.push(match f.strip_prefix(b":").unwrap_or(f) {
                b"append" => {
                    self.lists = true;
                    Step::Append { key, value: token(&mut self.history.values, value) }
                }
                b"w" | b"write" => {
                    self.registers = true;
                    Step::Write { key, value: token(&mut self.history.values, value) }
                }
                b"r" | b"read" if done => self.read(key, value),
                b"r" | b"read" => Step::Unread { key },
                other => {
                    return Err(Problem::unknown_word(event.value_at, "step", other, &["append", "w", "r"]));
                }
            });
        }
        if self.lists && self.registers {
            return Err(Problem::new(event.value_at, "lists and registers in one history; they need two"));
        }
        Ok(steps)
    }

    fn read(&mut self, key: u32, value: Raw<'_>) -> Step {
        match value {
            Raw::Vector(list) => {
                self.lists = true;
                let tokens: Vec<_> = elements(list).map(|e| token(&mut self.history.values, e)).collect();
                self.history.list(key, tokens.into_iter())
            }
            // Nothing: an empty list, or a register without value. Which of the two the end tells.
            Raw::Nil => Step::Value { key, value: NIL },
            value => {
                self.registers = true;
                Step::Value { key, value: token(&mut self.history.values, value) }
            }
        }
    }

    pub fn finish(mut self) -> History {
        if !self.registers {
            for step in self.history.transactions.iter_mut().flat_map(|t| &mut t.steps) {
                if let Step::Value { key, value: NIL } = *step {
                    *step = Step::List { key, shared: 0, tail: Vec::new() };
                }
            }
        }
        self.history
    }
}

/// Collects the history of a bank.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    bank: Bank,
    names: BTreeMap<String, u32>,
    processes: Processes,
    lines: Lines,
    events: u32,
    pub infos_ignored: u64,
}

impl Accounts {
    pub fn event(&mut self, event: &Event<'_>, text: &[u8]) -> Result<(), Problem> {
        let line = self.lines.of(text, event.offset);
        let Some(open) = self.processes.follow(event, self.bank.operations.len() as u32)? else {
            self.infos_ignored += 1;
            return Ok(());
        };
        self.events += 1;
        let at = open.operation as usize;
        if event.kind == Type::Invoke {
            let action = match event.function {
                Function::Transfer => self.transfer(event)?,
                Function::Read => Action::Read(Vec::new()),
                _ => return Err(Problem::new(event.offset, "a bank knows `transfer` and `read`")),
            };
            let origin = Origin { invoked_ms: ms(event.time), line: Some(line), ..Origin::default() };
            self.bank.operations.push(Operation {
                process: event.process,
                invoked: self.events,
                completed: OPEN,
                ending: Ending::Unknown,
                action,
                origin,
            });
            return Ok(());
        }
        if (event.kind, event.function) == (Type::Ok, Function::Read) {
            let seen = self.balances(event)?;
            self.bank.operations[at].action = Action::Read(seen);
        }
        let operation = &mut self.bank.operations[at];
        (operation.origin.completed_ms, operation.origin.completed_line) = (ms(event.time), Some(line));
        match event.kind {
            Type::Info | Type::Invoke => return Ok(()),
            Type::Ok => operation.ending = Ending::Ok,
            Type::Fail => operation.ending = Ending::Failed,
        }
        operation.completed = self.events;
        Ok(())
    }

    fn account(&mut self, name: String) -> u32 {
        let next = self.bank.accounts.len() as u32;
        let account = *self.names.entry(name.clone()).or_insert(next);
        if account == next {
            self.bank.accounts.push(name);
        }
        account
    }

    fn transfer(&mut self, event: &Event<'_>) -> Result<Action, Problem> {
        let wrong =
            || Problem::new(event.value_at, "a transfer is `{:from account, :to account, :amount number}`");
        let (mut from, mut to, mut amount) = (None, None, None);
        for (name, value) in entries(event.value).ok_or_else(wrong)? {
            match spell(name).trim_start_matches(':') {
                "from" => from = Some(self.account(spell(value))),
                "to" => to = Some(self.account(spell(value))),
                "amount" => amount = integer(value),
                _ => {}
            }
        }
        match (from, to, amount) {
            (Some(from), Some(to), Some(amount)) => Ok(Action::Transfer { from, to, amount }),
            _ => Err(wrong()),
        }
    }

    fn balances(&mut self, event: &Event<'_>) -> Result<Vec<i64>, Problem> {
        let wrong =
            || Problem::new(event.value_at, "a read of a bank is a map from accounts to whole numbers");
        let mut seen = vec![0; self.bank.accounts.len()];
        for (name, value) in entries(event.value).ok_or_else(wrong)? {
            let account = self.account(spell(name)) as usize;
            seen.resize(seen.len().max(account + 1), 0);
            seen[account] = match value {
                Raw::Nil => 0,
                value => integer(value).ok_or_else(wrong)?,
            };
        }
        Ok(seen)
    }

    pub fn finish(mut self) -> Bank {
        let accounts = self.bank.accounts.len();
        for operation in &mut self.bank.operations {
            if let (Action::Read(seen), Ending::Ok) = (&mut operation.action, operation.ending) {
                seen.resize(accounts, 0);
            }
        }
        self.bank
    }
}

fn integer(raw: Raw<'_>) -> Option<i64> {
    match raw {
        Raw::Int(value) => Some(value),
        _ => None,
    }
}

/// The entries of a map, EDN or JSON.
fn entries<'a>(raw: Raw<'a>) -> Option<Vec<(Raw<'a>, Raw<'a>)>> {
    let Raw::Word([b'{', inside @ .., b'}']) = raw else { return None };
    let mut cursor = Cursor::new(inside);
    let mut entries = Vec::new();
    loop {
        cursor.blanks();
        if cursor.is_done() {
            return Some(entries);
        }
        let name = cursor.value().ok()?;
        cursor.blanks();
        if matches!(name, Raw::Text(_)) && cursor.peek() == b':' {
            cursor.at += 1;
            cursor.blanks();
        }
        entries.push((name, cursor.value().ok()?));
    }
}
