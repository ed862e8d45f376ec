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
    /// Take a lock.
    Acquire,
    /// Give it back.
    Release,
    /// Several steps at once.
    Txn,
    /// Move an amount between accounts.
    Transfer,
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
    /// The store's number for what was set or seen; 0: not told.
    pub version: u64,
}

impl Event<'_> {
    /// Nothing yet.
    pub fn new() -> Self {
        Event {
            offset: 0,
            process: 0,
            kind: Type::Invoke,
            function: Function::Read,
            key: Raw::Nil,
            value: Raw::Nil,
            value_at: 0,
            current: None,
            error: false,
            time: Raw::Nil,
            node: Raw::Nil,
            version: 0,
        }
    }
}

const TYPES: [&str; 4] = ["invoke", "ok", "fail", "info"];
const FUNCTIONS: [&str; 10] =
    ["read", "write", "cas", "append", "get", "put", "acquire", "release", "txn", "transfer"];

/// Which fields an event had; the rest of it goes straight into the event.
#[derive(Default)]
struct Seen<'a> {
    process: Process,
    kind: bool,
    /// A type we do not know and where it stands: likewise.
    strange: Option<(&'a [u8], usize)>,
    /// The operation's name and where it stands: a name we do not know matters only if a client used it.
    function: Option<(&'a [u8], usize)>,
}

#[derive(Default, PartialEq, Eq)]
enum Process {
    #[default]
    Missing,
    Client,
    Named,
}

impl<'a> Event<'a> {
    /// Forgets the event before.
    #[inline(always)]
    fn begin(&mut self, offset: usize) {
        self.offset = offset;
        self.key = Raw::Nil;
        self.value = Raw::Nil;
        self.value_at = offset;
        self.current = None;
        self.error = false;
        self.time = Raw::Nil;
        self.node = Raw::Nil;
        self.version = 0;
    }

    #[cold]
    fn set_version(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Problem> {
        let at = cursor.at;
        self.version = match cursor.value()? {
            Raw::Nil => 0,
            Raw::Int(version @ 0..) => version as u64,
            _ => return Err(Problem::new(at, "a version is a whole number from 1")),
        };
        Ok(())
    }

    #[inline(always)]
    fn set_process(&mut self, seen: &mut Seen<'a>, cursor: &mut Cursor<'a>) -> Result<(), Problem> {
        let at = cursor.at;
        seen.process = match cursor.value()? {
            Raw::Int(process) => {
                self.process = process;
                Process::Client
            }
            Raw::Word(word) if word.iter().all(|b| b"+-.0123456789eE".contains(b)) => {
                return Err(Problem::new(at, "a client's number is an integer of at most 18 digits"));
            }
            Raw::Word(_) | Raw::Text(_) => Process::Named,
            Raw::Nil | Raw::Vector(_) => return Err(Problem::new(at, "a process is a number or a name")),
        };
        Ok(())
    }

    #[inline(always)]
    fn set_type(&mut self, seen: &mut Seen<'a>, word: &'a [u8], at: usize) {
        self.kind = match word {
            b"invoke" => Type::Invoke,
            b"ok" => Type::Ok,
            b"fail" => Type::Fail,
            b"info" => Type::Info,
            other => {
                seen.strange = Some((other, at));
                Type::Info
            }
        };
        seen.kind = true;
    }

    /// Whether it is complete, and of a client.
    #[inline(always)]
    fn finish(&mut self, seen: &Seen<'a>) -> Result<bool, Problem> {
        match seen.process {
            Process::Client => {}
            Process::Named => return Ok(false),
            Process::Missing => return Err(Problem::new(self.offset, "an event without `process`")),
        }
        if let Some((word, at)) = seen.strange {
            return Err(Problem::unknown_word(at, "type", word, &TYPES));
        }
        if !seen.kind {
            return Err(Problem::new(self.offset, "an event without `type`"));
        }
        let Some((function, at)) = seen.function else {
            // Elle's own examples leave out that a vector of steps is a transaction.
            if let Raw::Vector([b'[', inside @ .., _]) = self.value
                && inside.trim_ascii_start().starts_with(b"[")
            {
                self.function = Function::Txn;
                return Ok(true);
            }
            return Err(Problem::new(self.offset, "an event without `f`"));
        };
        self.function = match function {
            b"read" => Function::Read,
            b"write" => Function::Write,
            b"cas" => Function::Cas,
            b"append" => Function::Append,
            b"get" => Function::Get,
            b"put" => Function::Put,
            b"acquire" => Function::Acquire,
            b"release" => Function::Release,
            b"txn" => Function::Txn,
            b"transfer" => Function::Transfer,
            other => return Err(Problem::unknown_word(at, "operation", other, &FUNCTIONS)),
        };
        Ok(true)
    }
}

/// The next event of a Jepsen or Knossos history in EDN, or of Porcupine's key-value logs: maps in any layout. False
/// at the end.
#[inline]
pub(super) fn edn<'a>(
    cursor: &mut Cursor<'a>,
    ignored: &mut u64,
    event: &mut Event<'a>,
) -> Result<bool, Problem> {
    loop {
        cursor.blanks();
        match cursor.peek() {
            b'{' => {}
            b'[' | b'(' | b']' | b')' => {
                cursor.at += 1;
                continue;
            }
            b'#' => {
                cursor.at += 1;
                if cursor.word() == b"_" {
                    cursor.blanks_and_comments();
                    cursor.value()?;
                }
                continue;
            }
            b';' => {
                cursor.blanks_and_comments();
                continue;
            }
            0 if cursor.is_done() => return Ok(false),
            _ => return Err(Problem::new(cursor.at, "expected an operation: a map in braces")),
        }
        if edn_map(cursor, event)? {
            return Ok(true);
        }
        *ignored += 1;
    }
}

#[inline]
fn edn_map<'a>(cursor: &mut Cursor<'a>, event: &mut Event<'a>) -> Result<bool, Problem> {
    event.begin(cursor.at);
    let mut seen = Seen::default();
    cursor.at += 1;
    loop {
        cursor.blanks();
        match cursor.peek() {
            b':' => {}
            b'}' => {
                cursor.at += 1;
                return event.finish(&seen);
            }
            b';' => {
                cursor.blanks_and_comments();
                continue;
            }
            0 if cursor.is_done() => return Err(Problem::new(event.offset, "a map that is never closed")),
            _ => return Err(Problem::new(cursor.at, "expected a field such as `:process`")),
        }
        let name = cursor.word();
        cursor.blanks();
        let at = cursor.at;
        match name {
            b":type" => {
                let word = keyword(cursor)?;
                event.set_type(&mut seen, word, at);
            }
            b":f" => seen.function = Some((keyword(cursor)?, at)),
            b":value" => {
                event.value = cursor.value()?;
                event.value_at = at;
            }
            b":process" => event.set_process(&mut seen, cursor)?,
            b":time" => event.time = cursor.value()?,
            b":key" => event.key = cursor.value()?,
            b":error" => event.error = cursor.value()? != Raw::Nil,
            b":node" => event.node = cursor.value()?,
            b":version" => event.set_version(cursor)?,
            _ => _ = cursor.value()?,
        }
    }
}

/// A keyword without its colon; a string will do as well. Anything else is no word that we know.
#[inline(always)]
fn keyword<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Problem> {
    if cursor.peek() == b':' {
        cursor.at += 1;
        return Ok(cursor.word());
    }
    let at = cursor.at;
    match cursor.value()? {
        Raw::Word(name) | Raw::Text(name) => Ok(name),
        _ => Ok(&cursor.text[at..cursor.at]),
    }
}

const FIELDS: [&str; 11] =
    ["process", "type", "f", "key", "value", "current", "time", "node", "version", "error", "index"];

/// The next event of our own JSON lines. False at the end.
#[inline]
pub(super) fn json<'a>(
    cursor: &mut Cursor<'a>,
    ignored: &mut u64,
    event: &mut Event<'a>,
) -> Result<bool, Problem> {
    loop {
        cursor.blanks();
        match cursor.peek() {
            b'{' => {}
            b'[' | b']' => {
                cursor.at += 1;
                continue;
            }
            0 if cursor.is_done() => return Ok(false),
            _ => return Err(Problem::new(cursor.at, "expected an operation: an object in braces")),
        }
        if json_object(cursor, event)? {
            return Ok(true);
        }
        *ignored += 1;
    }
}

#[inline]
fn json_object<'a>(cursor: &mut Cursor<'a>, event: &mut Event<'a>) -> Result<bool, Problem> {
    event.begin(cursor.at);
    let mut seen = Seen::default();
    cursor.at += 1;
    loop {
        cursor.blanks();
        match cursor.peek() {
            b'"' => {}
            b'}' => {
                cursor.at += 1;
                return event.finish(&seen);
            }
            0 if cursor.is_done() => {
                return Err(Problem::new(event.offset, "an object that is never closed"));
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
            b"process" => event.set_process(&mut seen, cursor)?,
            b"type" => {
                let word = quoted(cursor)?;
                event.set_type(&mut seen, word, at);
            }
            b"f" => seen.function = Some((quoted(cursor)?, at)),
            b"value" => {
                event.value = cursor.value()?;
                event.value_at = at;
            }
            b"key" => event.key = cursor.value()?,
            b"current" => event.current = Some(cursor.value()?),
            b"time" => event.time = cursor.value()?,
            b"node" => event.node = cursor.value()?,
            b"version" => event.set_version(cursor)?,
            b"error" => event.error = cursor.value()? != Raw::Nil,
            b"index" | b"op-index" => _ = cursor.value()?,
            other if is_misspelt(other) => {
                return Err(Problem::unknown_word(name_at, "field", other, &FIELDS));
            }
            _ => _ = cursor.value()?,
        }
    }
}

/// Whether a field's name is close to one that we know. Others, such as those that Jepsen's exports add, do no harm.
#[cold]
fn is_misspelt(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|name| super::nearest(name, &FIELDS).is_some())
}

#[inline(always)]
fn quoted<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Problem> {
    match cursor.peek() {
        b'"' => cursor.string(),
        _ => Err(Problem::new(cursor.at, "expected a word in quotes")),
    }
}

/// The next event of a log that Jepsen's console wrote, as Porcupine keeps them: lines
/// `INFO  jepsen.util - PROCESS TYPE FUNCTION VALUE`. Other lines are skipped. False at the end.
pub(super) fn jepsen_log<'a>(
    cursor: &mut Cursor<'a>,
    ignored: &mut u64,
    event: &mut Event<'a>,
) -> Result<bool, Problem> {
    while !cursor.is_done() {
        let start = cursor.at;
        let length = cursor.text[start..].iter().position(|&b| b == b'\n');
        let end = length.map_or(cursor.text.len(), |l| start + l);
        cursor.at = (end + 1).min(cursor.text.len());
        if log_line(&cursor.text[..end], start, event)? {
            return Ok(true);
        }
        *ignored += u64::from(end > start);
    }
    Ok(false)
}

/// A line of such a log, which is the end of `text` from `start` on; false if it is another line.
fn log_line<'a>(text: &'a [u8], start: usize, event: &mut Event<'a>) -> Result<bool, Problem> {
    event.begin(start);
    let mut seen = Seen::default();
    let mut cursor = Cursor { text, at: start };
    cursor.blanks();
    if cursor.word() != b"INFO" {
        return Ok(false);
    }
    cursor.blanks();
    cursor.word();
    cursor.blanks();
    if cursor.word() != b"-" {
        return Ok(false);
    }
    cursor.blanks();
    if !cursor.peek().is_ascii_digit() {
        return Ok(false);
    }
    event.set_process(&mut seen, &mut cursor)?;
    cursor.blanks();
    let at = cursor.at + 1;
    // A line of prose may begin with a number too.
    let [b':', kind @ ..] = cursor.word() else { return Ok(false) };
    event.set_type(&mut seen, kind, at);
    cursor.blanks();
    let at = cursor.at;
    let [b':', function @ ..] = cursor.word() else {
        return Err(Problem::new(at, "expected an operation such as `:read`"));
    };
    seen.function = Some((function, at + 1));
    cursor.blanks();
    event.value_at = cursor.at;
    event.value = cursor.value()?;
    event.finish(&seen)
}
