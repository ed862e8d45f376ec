//! An imported history as the record of a run, for judges that look at clients: who did what after what.

use super::assemble::{Processes, as_pair, spell, token};
use super::error::Problem;
use super::events::{Event, Function, Type};
use super::scan::{Raw, elements, pair};
use super::{Format, each};
use crate::linear::columns::{Interner, NIL, Token};
use crate::record::{
    Action, Failure, History, Instant, KeyIndex, KeyInfo, NodeIndex, Operation, Outcome, Purpose, Returned,
    SimTime, Value,
};
use std::collections::BTreeMap;

/// The operations of a text that was read once, keys in the order of their first use. Values are numbered.
pub(super) fn record(text: &[u8], format: Format, lists: bool) -> History {
    let mut recorder = Recorder { lists, ..Recorder::default() };
    // What cannot be read was an error when it was read first.
    let _ = each(text, format, &mut 0, |event| recorder.event(event));
    recorder.history
}

#[derive(Default)]
struct Recorder {
    history: History,
    lists: bool,
    values: Interner,
    keys: BTreeMap<String, u32>,
    clients: BTreeMap<i64, u32>,
    processes: Processes,
    now: Instant,
}

impl Recorder {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Problem> {
        let next = self.history.operations.len() as u32;
        let Some(open) = self.processes.follow(event, next)? else { return Ok(()) };
        self.now.seq += 1;
        if let Raw::Int(ns) = event.time {
            // The order of lines decides.
            self.now.at = self.now.at.max(SimTime((ns / 1_000).max(0) as u64));
        }
        let value = match (open.independent, event.value) {
            (true, Raw::Vector(vector)) => pair(vector).map_or(Raw::Nil, |pair| pair.1),
            (_, value) => value,
        };
        if event.kind == Type::Invoke {
            let key = match (open.independent, event.value) {
                (true, Raw::Vector(vector)) => pair(vector).map_or(Raw::Nil, |pair| pair.0),
                _ => event.key,
            };
            self.invoke(event, key, value);
            return Ok(());
        }
        let operation = open.operation as usize;
        self.history.operations[operation].outcome = match (event.kind, event.current) {
            (Type::Ok, _) => Outcome::Ok(self.returned(operation, event.function, value)),
            (Type::Fail, Some(current)) => Outcome::Ok(Returned::Mismatch(self.value(current))),
            (Type::Fail, None) => Outcome::Fail(Failure::Other),
            (Type::Info | Type::Invoke, _) => return Ok(()),
        };
        self.history.operations[operation].completed = Some(self.now);
        Ok(())
    }

    fn invoke(&mut self, event: &Event<'_>, key: Raw<'_>, value: Raw<'_>) {
        let name = if key == Raw::Nil { String::new() } else { spell(key) };
        let next = self.history.keys.len() as u32;
        let key = *self.keys.entry(name.clone()).or_insert(next);
        if key == next {
            self.history.keys.push(KeyInfo { name, ..KeyInfo::default() });
        }
        let clients = self.clients.len() as u32;
        let process = *self.clients.entry(event.process).or_insert(clients);
        let action = match event.function {
            Function::Write | Function::Put => Action::Write(self.value(value).unwrap_or(0)),
            Function::Append => Action::Append(self.value(value).unwrap_or(0)),
            Function::Cas => {
                let (from, to) = as_pair(value).unwrap_or((Raw::Nil, Raw::Nil));
                Action::Cas { from: self.value(from), to: self.value(to).unwrap_or(0) }
            }
            _ => Action::Read,
        };
        self.history.operations.push(Operation {
            process,
            client: NodeIndex(0),
            purpose: Purpose::Workload,
            key: KeyIndex(key),
            action,
            bytes: 0,
            invoked: self.now,
            completed: None,
            outcome: Outcome::Info(Failure::Timeout),
            answered_by: None,
        });
    }

    fn returned(&mut self, operation: usize, function: Function, value: Raw<'_>) -> Returned {
        match (function, value) {
            (Function::Read, Raw::Vector(list)) if self.lists => self.list(operation, list),
            (Function::Read, _) if self.lists => Returned::List { shared: 0, tail: Vec::new() },
            (Function::Read | Function::Get, value) => Returned::Value(self.value(value)),
            _ => Returned::Done,
        }
    }

    fn list(&mut self, operation: usize, list: &[u8]) -> Returned {
        let key = self.history.operations[operation].key.0 as usize;
        let (mut shared, mut tail) = (0, Vec::new());
        for element in elements(list) {
            let value = u64::from(token(&mut self.values, element));
            let spine = &mut self.history.keys[key].spine;
            if !tail.is_empty() || spine.get(shared).is_some_and(|known| *known != value) {
                tail.push(value);
                continue;
            }
            if shared == spine.len() {
                spine.push(value);
            }
            shared += 1;
        }
        Returned::List { shared: shared as u32, tail }
    }

    fn value(&mut self, raw: Raw<'_>) -> Option<Value> {
        let token: Token = token(&mut self.values, raw);
        (token != NIL).then_some(u64::from(token))
    }
}
