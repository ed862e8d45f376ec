//! Events to operations: who had what open, which key, what was learned.

use super::Model;
use super::error::Problem;
use super::events::{Event, Function, Type};
use super::scan::{Raw, elements, pair};
use crate::linear::columns::{Builder, Columns, Interner, KeyMeta, Kind, NIL, Token};
use std::collections::BTreeMap;

/// Processes with numbers below this are found by index.
const DIRECT: i64 = 1 << 22;

/// No operation is open, no key is known.
const NONE: u32 = u32::MAX;

/// What a process has open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    /// The operation, by number of its invocation.
    pub operation: u32,
    function: Function,
    /// Whether its value is `[key value]`.
    pub independent: bool,
}

/// The open operation of each process.
#[derive(Debug, Default)]
pub(super) struct Processes {
    direct: Vec<Option<Open>>,
    others: BTreeMap<i64, Open>,
}

impl Processes {
    #[inline]
    fn slot(&mut self, process: i64) -> &mut Option<Open> {
        let at = process as usize;
        if at >= self.direct.len() {
            self.direct.resize((at + 1).max(2 * self.direct.len()), None);
        }
        &mut self.direct[at]
    }

    #[inline]
    fn take(&mut self, process: i64) -> Option<Open> {
        if (0..DIRECT).contains(&process) { self.slot(process).take() } else { self.others.remove(&process) }
    }

    #[inline]
    fn put(&mut self, process: i64, open: Open) -> Option<Open> {
        if (0..DIRECT).contains(&process) {
            self.slot(process).replace(open)
        } else {
            self.others.insert(process, open)
        }
    }

    /// Follows an event: the operation it invokes or ends. An unknown outcome that nobody asked for is `None`.
    ///
    /// # Errors
    /// A completion without invocation, or an invocation while another is open.
    #[inline]
    pub fn follow(&mut self, event: &Event<'_>, next: u32) -> Result<Option<Open>, Problem> {
        if event.kind == Type::Invoke {
            let independent = is_independent(event);
            let open = Open { operation: next, function: event.function, independent };
            return match self.put(event.process, open) {
                None => Ok(Some(open)),
                Some(_) => Err(Problem::new(
                    event.offset,
                    format!("process {} invokes an operation while it has another open", event.process),
                )),
            };
        }
        match self.take(event.process) {
            Some(open) if open.function == event.function => Ok(Some(open)),
            Some(open) => Err(Problem::new(
                event.offset,
                format!(
                    "process {} completes a {:?} but had invoked a {:?}",
                    event.process, event.function, open.function
                ),
            )),
            None if event.kind == Type::Info => Ok(None),
            None => Err(Problem::new(
                event.offset,
                format!("process {} completes an operation that it did not invoke", event.process),
            )),
        }
    }
}

/// Whether the value of an invocation is `[key value]`, as Jepsen's independent generators write it.
fn is_independent(event: &Event<'_>) -> bool {
    let Raw::Vector(vector) = event.value else { return false };
    match event.function {
        Function::Cas => matches!(pair(vector), Some((_, Raw::Vector(_)))),
        _ => pair(vector).is_some(),
    }
}

/// Collects a history.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    builder: Builder,
    values: Interner,
    /// Keys by token, small integers by index.
    key_names: Interner,
    keys: Vec<u32>,
    other_keys: BTreeMap<Token, u32>,
    processes: Processes,
    /// What keys hold; unknown only where it makes no difference.
    model: Option<Model>,
    /// Whether a compare-and-set that failed without a reason says that the value was another.
    refusals_tell: bool,
    /// Unknown outcomes that nobody asked for.
    pub infos_ignored: u64,
    /// Failed compare-and-sets that were taken as not having happened, and no more.
    pub refusals_ignored: u64,
}

impl Assembler {
    /// For a text of this length and a model, if it is known.
    pub fn new(bytes: usize, model: Option<Model>, refusals_tell: bool) -> Self {
        // Two events of about 80 bytes make an operation; memory that is not written to costs nothing.
        let builder = Builder::with_capacity(bytes / 160);
        Assembler { builder, model, refusals_tell, ..Assembler::default() }
    }

    /// Number of operations so far.
    pub fn operations(&self) -> usize {
        self.builder.operations()
    }

    /// Takes one event.
    #[inline]
    pub fn event(&mut self, event: &Event<'_>) -> Result<(), Problem> {
        let Some(open) = self.processes.follow(event, self.builder.operations() as u32)? else {
            self.infos_ignored += 1;
            return Ok(());
        };
        if event.version > 0 && event.kind != Type::Invoke {
            self.builder.version(open.operation, event.version);
        }
        match event.kind {
            Type::Invoke => self.invoke(event, open),
            Type::Ok => self.ok(event, open),
            Type::Fail => self.fail(event, open),
            Type::Info => Ok(()),
        }
    }

    /// Everything as columns.
    pub fn finish(self) -> (Columns, Option<Model>) {
        let mut columns = self.builder.finish();
        columns.values = self.values;
        columns.strings = self.model == Some(Model::Kv);
        if columns.strings {
            columns.values.know_contents();
        }
        (columns, self.model)
    }

    #[inline]
    fn invoke(&mut self, event: &Event<'_>, open: Open) -> Result<(), Problem> {
        self.fits(event)?;
        let (key, value) = self.split(event, open.independent)?;
        let key = self.key(key, event)?;
        let (kind, a, b) = match event.function {
            Function::Read | Function::Get => (None, NIL, NIL),
            Function::Write | Function::Put => (Some(Kind::Write), self.token(value), NIL),
            Function::Append => (Some(Kind::Append), self.token(value), NIL),
            // A lock is a register that holds nothing or "held".
            Function::Acquire => (Some(Kind::Cas), NIL, self.values.integer(0)),
            Function::Release => (Some(Kind::Cas), self.values.integer(0), NIL),
            Function::Txn | Function::Transfer => {
                return Err(Problem::new(event.offset, "transactions among operations on single keys"));
            }
            Function::Cas => {
                let Some((from, to)) = as_pair(value) else {
                    return Err(Problem::new(event.value_at, "a cas needs a pair: expected and new value"));
                };
                (Some(Kind::Cas), self.token(from), self.token(to))
            }
        };
        self.builder.invoke(key, kind, a, b);
        Ok(())
    }

    #[inline]
    fn ok(&mut self, event: &Event<'_>, open: Open) -> Result<(), Problem> {
        let operation = open.operation;
        let (a, b) = self.builder.arguments(operation);
        match event.function {
            Function::Write | Function::Put => self.builder.complete(operation, Kind::Write, a, b),
            Function::Append => self.builder.complete(operation, Kind::Append, a, b),
            Function::Cas | Function::Acquire | Function::Release => {
                self.builder.complete(operation, Kind::Cas, a, b);
            }
            Function::Txn | Function::Transfer => {}
            Function::Read | Function::Get => {
                let (_, value) = self.split(event, open.independent)?;
                if self.model == Some(Model::Append) {
                    return self.list(event, operation, value);
                }
                let seen = self.token(value);
                self.builder.complete(operation, Kind::Read, seen, NIL);
            }
        }
        Ok(())
    }

    /// A definite failure. A refused compare-and-set is an observation: the value was not the expected one, or, if the
    /// event tells it, was another. With a reason (`error`) it says nothing but that it did not happen.
    fn fail(&mut self, event: &Event<'_>, open: Open) -> Result<(), Problem> {
        let operation = open.operation;
        let refused = self.refusals_tell
            && event.function == Function::Cas
            && !event.error
            && !matches!(event.value, Raw::Word(_) | Raw::Text(_));
        match event.current {
            Some(current) if event.function == Function::Cas => {
                let seen = self.token(current);
                self.builder.complete(operation, Kind::Read, seen, NIL);
            }
            _ if refused => {
                let (a, _) = self.builder.arguments(operation);
                self.builder.complete(operation, Kind::NotEqual, a, NIL);
            }
            _ => {
                self.refusals_ignored += u64::from(event.function == Function::Cas && !self.refusals_tell);
                self.builder.abort(operation);
            }
        }
        Ok(())
    }

    /// A read of a whole list: how much of it is the longest list so far, and what follows.
    fn list(&mut self, event: &Event<'_>, operation: u32, value: Raw<'_>) -> Result<(), Problem> {
        let vector = match value {
            Raw::Vector(vector) => vector,
            Raw::Nil => b"[]",
            _ => return Err(Problem::new(event.value_at, "a read of a list returns a vector")),
        };
        let key = self.builder.key_of(operation);
        let mut shared = 0;
        let mut tail = Vec::new();
        for element in elements(vector) {
            let token = token(&mut self.values, element);
            let spine = &mut self.builder.meta(key).spine;
            if !tail.is_empty() {
                tail.push(token);
            } else if shared == spine.len() {
                spine.push(token);
                shared += 1;
            } else if spine[shared] == token {
                shared += 1;
            } else {
                tail.push(token);
            }
        }
        let mut diverging = 0;
        if !tail.is_empty() {
            let tails = &mut self.builder.meta(key).tails;
            tails.push(tail);
            diverging = tails.len() as u32;
        }
        self.builder.complete(operation, Kind::ReadList, shared as u32, diverging);
        Ok(())
    }

    /// Refuses operations that the model does not have.
    #[inline]
    fn fits(&self, event: &Event<'_>) -> Result<(), Problem> {
        let allowed: &[&str] = match (self.model, event.function) {
            (Some(Model::Register), Function::Read | Function::Write | Function::Cas)
            | (Some(Model::Mutex), Function::Acquire | Function::Release)
            | (Some(Model::Append), Function::Read | Function::Append)
            | (Some(Model::Kv), Function::Get | Function::Put | Function::Append)
            | (None, _) => return Ok(()),
            (Some(Model::Register), _) => &["read", "write", "cas"],
            (Some(Model::Append), _) => &["read", "append"],
            (Some(Model::Kv), _) => &["get", "put", "append"],
            (Some(Model::Mutex), _) => &["acquire", "release"],
            (Some(Model::Transactions | Model::Bank), _) => &["txn", "transfer", "read"],
        };
        let function = format!("{:?}", event.function).to_lowercase();
        Err(Problem::unknown_word(event.offset, "for this model the operation", function.as_bytes(), allowed))
    }

    /// Key and value of an event.
    #[inline]
    fn split<'a>(&self, event: &Event<'a>, independent: bool) -> Result<(Raw<'a>, Raw<'a>), Problem> {
        if !independent {
            return Ok((event.key, event.value));
        }
        match event.value {
            Raw::Vector(vector) => pair(vector),
            _ => None,
        }
        .ok_or_else(|| {
            Problem::new(event.value_at, "its invocation had a value `[key value]`, so this needs one")
        })
    }

    #[inline]
    fn token(&mut self, raw: Raw<'_>) -> Token {
        token(&mut self.values, raw)
    }

    /// The number of a key.
    #[inline]
    fn key(&mut self, raw: Raw<'_>, event: &Event<'_>) -> Result<u32, Problem> {
        if matches!(raw, Raw::Vector(_)) {
            return Err(Problem::new(event.value_at, "a key is a number or a word"));
        }
        let token = match raw {
            Raw::Text(text) => match small(text) {
                Some(number) => self.key_names.integer(number),
                None => self.key_names.text(text),
            },
            other => token(&mut self.key_names, other),
        };
        if i64::from(token) < DIRECT {
            if self.keys.len() <= token as usize {
                self.keys.resize(token as usize + 1, NONE);
            }
            let known = self.keys[token as usize];
            if known != NONE {
                return Ok(known);
            }
        } else if let Some(&known) = self.other_keys.get(&token) {
            return Ok(known);
        }
        let key = self.builder.key(KeyMeta {
            name: if raw == Raw::Nil { String::new() } else { spell(raw) },
            ..KeyMeta::default()
        });
        if i64::from(token) < DIRECT {
            self.keys[token as usize] = key;
        } else {
            self.other_keys.insert(token, key);
        }
        Ok(key)
    }
}

/// A text of a few digits, as a number, so that such keys are found by index.
#[inline]
fn small(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 6 || (text[0] == b'0' && text.len() > 1) {
        return None;
    }
    text.iter().try_fold(0, |n, &b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
}

/// The token of a value. The empty string is nothing: it is what strings start as.
#[inline]
pub(super) fn token(values: &mut Interner, raw: Raw<'_>) -> Token {
    match raw {
        Raw::Nil => NIL,
        Raw::Int(value) if value >= 0 => values.integer(value as u64),
        Raw::Int(value) => values.text(value.to_string().as_bytes()),
        Raw::Text([]) => NIL,
        Raw::Text(text) if text.contains(&b'\\') => values.text(&unescaped(text)),
        Raw::Word(word @ [b'0'..=b'9' | b'-', ..]) => decimal(values, word),
        Raw::Text(text) | Raw::Word(text) | Raw::Vector(text) => values.text(text),
    }
}

/// A string without its escapes, so that a character is the same however it is written. What is no escape of JSON
/// stays as it is.
#[cold]
fn unescaped(text: &[u8]) -> Vec<u8> {
    let quoted = [b"\"", text, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).map_or_else(|_| text.to_vec(), String::into_bytes)
}

/// A number with a point or an exponent: 1.5 and 1.50 are one value. Longer ones than a float can tell apart, and what
/// only begins like a number, are compared as they are written.
#[cold]
fn decimal(values: &mut Interner, word: &[u8]) -> Token {
    let digits = word.iter().filter(|b| b.is_ascii_digit()).count();
    let number = std::str::from_utf8(word).ok().filter(|_| digits <= 15).and_then(|w| w.parse::<f64>().ok());
    match number {
        Some(number) if number.is_finite() => values.text(format!("{number:?}").as_bytes()),
        _ => values.text(word),
    }
}

pub(super) fn as_pair(raw: Raw<'_>) -> Option<(Raw<'_>, Raw<'_>)> {
    match raw {
        Raw::Vector(vector) => pair(vector),
        _ => None,
    }
}

/// A value for people.
pub(super) fn spell(raw: Raw<'_>) -> String {
    match raw {
        Raw::Nil => "nil".into(),
        Raw::Text([]) => "\"\"".into(),
        Raw::Int(value) => value.to_string(),
        Raw::Text(text) | Raw::Word(text) | Raw::Vector(text) => String::from_utf8_lossy(text).into_owned(),
    }
}
