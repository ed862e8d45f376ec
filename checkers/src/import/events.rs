//! One event a time, from each of the formats.

use super::error::Problem;
use super::scan::{Cursor, Raw};

/// What happened to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Asked.
    Invoke,
    /// Took effect.
    Ok,
    /// Did not take effect.
    Fail,
    /// Nobody knows.
    Info,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    /// Whole value of a register or list.
    Read,
    /// Set a register.
    Write,
    /// Compare and set.
    Cas,
    /// Add at the end.
    Append,
    /// Whole string.
    Get,
    /// Set the string.
    Put,
}

/// One line of a history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event<'a> {
    /// Where it starts.
    pub offset: usize,
    /// Who.
    pub process: i64,
    /// What happened.
    pub kind: Type,
    /// What was asked.
    pub function: Function,
    /// The key, where it is a field of its own.
    pub key: Raw<'a>,
    /// Argument or result.
    pub value: Raw<'a>,
    /// Where `value` stands.
    pub value_at: usize,
    /// For a refused compare-and-set: what was there.
    pub current: Option<Raw<'a>>,
    /// Whether a reason was given for a failure.
    pub error: bool,
    /// Clock reading in nanoseconds.
    pub time: Raw<'a>,
    /// Who answered.
    pub node: Raw<'a>,
}

const TYPES: [&str; 4] = ["invoke", "ok", "fail", "info"];
const FUNCTIONS: [&str; 6] = ["read", "write", "cas", "append", "get", "put"];

fn kind_of(word: &[u8], offset: usize) -> Result<Type, Problem> {
    match word {
        b"invoke" => Ok(Type::Invoke),
        b"ok" => Ok(Type::Ok),
        b"fail" => Ok(Type::Fail),
        b"info" => Ok(Type::Info),
        other => Err(Problem::unknown_word(offset, "type", other, &TYPES)),
    }
}

fn function_of(word: &[u8], offset: usize) -> Result<Function, Problem> {
    match word {
        b"read" => Ok(Function::Read),
        b"write" => Ok(Function::Write),
        b"cas" => Ok(Function::Cas),
        b"append" => Ok(Function::Append),
        b"get" => Ok(Function::Get),
        b"put" => Ok(Function::Put),
        other => Err(Problem::unknown_word(offset, "operation", other, &FUNCTIONS)),
    }
}

/// The fields of an event while they are collected.
struct Fields<'a> {
    offset: usize,
    process: Option<Raw<'a>>,
    process_at: usize,
    kind: Option<(&'a [u8], usize)>,
    function: Option<(&'a [u8], usize)>,
    event: Event<'a>,
}

impl<'a> Fields<'a> {
    #[inline]
    fn new(offset: usize) -> Self {
        let event = Event {
            offset,
            process: 0,
            kind: Type::Invoke,
            function: Function::Read,
            key: Raw::Nil,
            value: Raw::Nil,
            value_at: offset,
            current: None,
            error: false,
            time: Raw::Nil,
            node: Raw::Nil,
        };
        Fields { offset, process: None, process_at: offset, kind: None, function: None, event }
    }

    /// The event, or `None` if it is not of a client.
    #[inline]
    fn finish(mut self) -> Result<Option<Event<'a>>, Problem> {
        match self.process {
            Some(Raw::Int(process)) => self.event.process = process,
            Some(Raw::Word(_) | Raw::Text(_)) => return Ok(None),
            Some(_) => return Err(Problem::new(self.process_at, "a process is a number or a name")),
            None => return Err(Problem::new(self.offset, "an event without `process`")),
        }
        let missing = |what: &str| Problem::new(self.offset, format!("an event without `{what}`"));
        let (kind, at) = self.kind.ok_or_else(|| missing("type"))?;
        self.event.kind = kind_of(kind, at)?;
        let (function, at) = self.function.ok_or_else(|| missing("f"))?;
        self.event.function = function_of(function, at)?;
        Ok(Some(self.event))
    }
}

/// The next event of a Jepsen or Knossos history in EDN, or of Porcupine's key-value logs: maps in any layout.
/// `Ok(None)` at the end.
#[inline]
pub(super) fn edn<'a>(cursor: &mut Cursor<'a>, ignored: &mut u64) -> Result<Option<Event<'a>>, Problem> {
    loop {
        cursor.blanks_and_comments();
        match cursor.peek() {
            b'{' => {}
            b'[' | b'(' | b']' | b')' => {
                cursor.at += 1;
                continue;
            }
            b'#' => {
                cursor.at += 1;
                cursor.word();
                continue;
            }
            0 if cursor.is_done() => return Ok(None),
            _ => return Err(Problem::new(cursor.at, "expected an operation: a map in braces")),
        }
        match edn_map(cursor)? {
            Some(event) => return Ok(Some(event)),
            None => *ignored += 1,
        }
    }
}

#[inline]
fn edn_map<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Event<'a>>, Problem> {
    let mut fields = Fields::new(cursor.at);
    cursor.at += 1;
    loop {
        cursor.blanks();
        match cursor.peek() {
            b':' => {}
            b'}' => {
                cursor.at += 1;
                return fields.finish();
            }
            0 if cursor.is_done() => {
                return Err(Problem::new(fields.offset, "a map that is never closed"));
            }
            _ => return Err(Problem::new(cursor.at, "expected a field such as `:process`")),
        }
        let name = cursor.word();
        cursor.blanks();
        let at = cursor.at;
        match name {
            b":process" => {
                fields.process = Some(cursor.value()?);
                fields.process_at = at;
            }
            b":type" => fields.kind = Some((keyword(cursor)?, at)),
            b":f" => fields.function = Some((keyword(cursor)?, at)),
            b":value" => {
                fields.event.value = cursor.value()?;
                fields.event.value_at = at;
            }
            b":key" => fields.event.key = cursor.value()?,
            b":time" => fields.event.time = cursor.value()?,
            b":error" => fields.event.error = cursor.value()? != Raw::Nil,
            b":node" => fields.event.node = cursor.value()?,
            _ => _ = cursor.value()?,
        }
    }
}

/// A keyword without its colon; a string will do as well.
#[inline]
fn keyword<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Problem> {
    let at = cursor.at;
    match cursor.value()? {
        Raw::Word([b':', name @ ..]) => Ok(name),
        Raw::Word(name) | Raw::Text(name) => Ok(name),
        _ => Err(Problem::new(at, "expected a keyword")),
    }
}

const FIELDS: [&str; 9] = ["process", "type", "f", "key", "value", "current", "time", "node", "error"];

/// The next event of our own JSON lines. `Ok(None)` at the end.
#[inline]
pub(super) fn json<'a>(cursor: &mut Cursor<'a>, ignored: &mut u64) -> Result<Option<Event<'a>>, Problem> {
    loop {
        cursor.blanks();
        match cursor.peek() {
            b'{' => {}
            b'[' | b']' => {
                cursor.at += 1;
                continue;
            }
            0 if cursor.is_done() => return Ok(None),
            _ => return Err(Problem::new(cursor.at, "expected an operation: an object in braces")),
        }
        match json_object(cursor)? {
            Some(event) => return Ok(Some(event)),
            None => *ignored += 1,
        }
    }
}

#[inline]
fn json_object<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Event<'a>>, Problem> {
    let mut fields = Fields::new(cursor.at);
    cursor.at += 1;
    loop {
        cursor.blanks();
        match cursor.peek() {
            b'"' => {}
            b'}' => {
                cursor.at += 1;
                return fields.finish();
            }
            0 if cursor.is_done() => {
                return Err(Problem::new(fields.offset, "an object that is never closed"));
            }
            _ => return Err(Problem::new(cursor.at, "expected a field name in quotes")),
        }
        let name_at = cursor.at + 1;
        let name = cursor.string()?;
        cursor.blanks();
        if cursor.peek() != b':' {
            return Err(Problem::new(cursor.at, "expected `:` after the field's name"));
        }
        cursor.at += 1;
        cursor.blanks();
        let at = cursor.at;
        match name {
            b"process" => {
                fields.process = Some(cursor.value()?);
                fields.process_at = at;
            }
            b"type" => fields.kind = Some((name_of(cursor)?, at)),
            b"f" => fields.function = Some((name_of(cursor)?, at)),
            b"value" => {
                fields.event.value = cursor.value()?;
                fields.event.value_at = at;
            }
            b"key" => fields.event.key = cursor.value()?,
            b"current" => fields.event.current = Some(cursor.value()?),
            b"time" => fields.event.time = cursor.value()?,
            b"node" => fields.event.node = cursor.value()?,
            b"error" => fields.event.error = cursor.value()? != Raw::Nil,
            other => return Err(Problem::unknown_word(name_at, "field", other, &FIELDS)),
        }
    }
}

#[inline]
fn name_of<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Problem> {
    let at = cursor.at;
    match cursor.value()? {
        Raw::Text(name) => Ok(name),
        _ => Err(Problem::new(at, "expected a word in quotes")),
    }
}

/// The next event of a log that Jepsen's console wrote, as Porcupine keeps them: lines
/// `INFO  jepsen.util - PROCESS TYPE FUNCTION VALUE`. Other lines are skipped. `Ok(None)` at the end.
pub(super) fn jepsen_log<'a>(
    cursor: &mut Cursor<'a>,
    ignored: &mut u64,
) -> Result<Option<Event<'a>>, Problem> {
    while !cursor.is_done() {
        let start = cursor.at;
        let length = cursor.text[start..].iter().position(|&b| b == b'\n');
        let end = length.map_or(cursor.text.len(), |l| start + l);
        let event = log_line(&cursor.text[..end], start)?;
        cursor.at = (end + 1).min(cursor.text.len());
        if event.is_some() {
            return Ok(event);
        }
        *ignored += u64::from(end > start);
    }
    Ok(None)
}

/// A line of such a log, which is the end of `text` from `start` on.
fn log_line(text: &[u8], start: usize) -> Result<Option<Event<'_>>, Problem> {
    let mut cursor = Cursor { text, at: start };
    cursor.blanks();
    if cursor.word() != b"INFO" {
        return Ok(None);
    }
    cursor.blanks();
    cursor.word();
    cursor.blanks();
    if cursor.word() != b"-" {
        return Ok(None);
    }
    cursor.blanks();
    if !cursor.peek().is_ascii_digit() {
        return Ok(None);
    }
    let Raw::Int(process) = cursor.value()? else { return Ok(None) };
    let mut fields = Fields::new(start);
    fields.process = Some(Raw::Int(process));
    cursor.blanks();
    let at = cursor.at;
    // A line of prose may begin with a number too.
    let [b':', kind @ ..] = cursor.word() else { return Ok(None) };
    fields.kind = Some((kind, at + 1));
    cursor.blanks();
    let at = cursor.at;
    let [b':', function @ ..] = cursor.word() else {
        return Err(Problem::new(at, "expected an operation such as `:read`"));
    };
    fields.function = Some((function, at + 1));
    cursor.blanks();
    fields.event.value_at = cursor.at;
    fields.event.value = cursor.value()?;
    fields.finish()
}
