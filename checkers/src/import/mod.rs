//! Histories recorded elsewhere. The format is recognised by the first bytes; files are mapped, not copied.
//!
//! # Our own: JSON lines
//! One object an event, in order of time:
//! ```text
//! {"process": 0, "type": "invoke", "f": "write", "key": "x", "value": 5, "time": 1200000}
//! {"process": 0, "type": "ok", "f": "write", "key": "x", "value": 5, "time": 1900000}
//! ```
//! | field | meaning |
//! |---|---|
//! | `process` | number of the client; one operation at a time. A name instead of a number: not a client, skipped |
//! | `type` | `invoke`, `ok` (took effect), `fail` (certainly did not), `info` (nobody knows) |
//! | `f` | `read`, `write`, `cas` (register); `read`, `append` (list); `get`, `put`, `append` (string); `acquire`, `release` (lock) |
//! | `key` | number or string; without it there is one key. Only that of the invocation is read |
//! | `value` | argument, or what was read: null, number, string; `[from, to]` for `cas`; an array for a list |
//! | `current` | for a refused `cas`, what was there: it makes checking linear |
//! | `time` | nanoseconds, for the report; the order of lines decides |
//! | `node` | who answered, for the report |
//! | `version` | at the completion: the number the store gave this state of the key, from 1. With it values may repeat |
//! | `index` | number of the event; not read |
//! | `error` | reason of a failure. A `cas` that failed *without* one was refused because the value was another |
//!
//! A field that looks like a misspelling of one of these is refused, others are skipped. An `ok` or `fail` without invocation is an error; an `info` without one is counted and
//! ignored.
//!
//! # Jepsen and Knossos: EDN
//! A vector or a bare sequence of maps `{:process 0, :type :invoke, :f :read, :value nil}`, fields in any order, others
//! ignored. Operations of a `:nemesis` or any named process are skipped. Values `[key value]` at the invocation are
//! independent keys. A failed compare-and-set did not happen and says nothing else, as Knossos takes it: whoever refused
//! it may have been behind ([`Options::refusals_tell`] reads more into it).
//!
//! # Transactions
//! `f` is `txn` and the value a vector of steps: `[["append", "x", 1], ["r", "y", null]]` (lists) or
//! `[["w", "x", 1], ["r", "y", null]]` (registers), with what was read in its place at the completion; Elle's histories
//! in EDN or JSON. A bank has `transfer` (`{"from": 0, "to": 1, "amount": 5}`) and `read`, which returns a map of all
//! accounts. They are judged by [`crate::transactions`].
//!
//! # etcd's robustness tests
//! A report's folder, with the `operations.json` of each client below it, or one of these files. They are judged by
//! [`crate::transactions::store`]: etcd tells the revision of the whole store with every answer.
//!
//! # Porcupine
//! Its Jepsen logs (`INFO  jepsen.util - 3 :invoke :cas [1 2]`) and its key-value logs (EDN maps with `:key`).

mod assemble;
mod error;
mod etcd;
mod events;
mod record;
mod scan;
mod transactions;

pub use error::{ImportError, nearest};

use crate::linear::columns::Columns;
use crate::linear::{Described, Ending, Source};
use assemble::{Assembler, Processes, spell};
use error::{Problem, line_of};
use events::{Event, Function, Type};
use memmap2::Mmap;
use scan::{Cursor, Raw};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// One value: read, write, cas.
    Register,
    /// A list: read, append.
    Append,
    /// A string: get, put, append.
    Kv,
    /// A lock: acquire, release.
    Mutex,
    /// Lists or registers, several in one transaction.
    Transactions,
    /// Accounts: transfer, and read of all.
    Bank,
}

impl Model {
    /// The names of the models.
    pub const NAMES: [&'static str; 6] = ["register", "append", "kv", "mutex", "txn", "bank"];

    /// The model of this name.
    pub fn from_name(name: &str) -> Option<Model> {
        match name {
            "register" => Some(Model::Register),
            "append" => Some(Model::Append),
            "kv" => Some(Model::Kv),
            "mutex" => Some(Model::Mutex),
            "txn" => Some(Model::Transactions),
            "bank" => Some(Model::Bank),
            _ => None,
        }
    }
}

/// How a history is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Our own.
    JsonLines,
    /// Jepsen, Knossos, Porcupine's key-value logs.
    Edn,
    /// Jepsen's console log, as Porcupine keeps it.
    JepsenLog,
    /// The operations that etcd's robustness tests save.
    EtcdRobustness,
}

/// How to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The model, if it is not to be taken from the operations.
    pub model: Option<Model>,
    /// Whether a compare-and-set that failed without a reason says that the value was another. If not given it is as
    /// the format means it: yes in our own lines and in Porcupine's logs; no in EDN, where Jepsen and Knossos take a
    /// failure as "did not happen" and nothing else.
    pub refusals_tell: Option<bool>,
}

/// A history from a file, ready to be checked.
#[derive(Debug)]
pub struct ImportedHistory {
    /// The operations.
    pub columns: Columns,
    /// Instead of these, if it is one of transactions.
    pub transactions: Option<Transactional>,
    /// How it was written.
    pub format: Format,
    /// What its keys hold, if the operations tell.
    pub model: Option<Model>,
    /// Number of invocations.
    pub operations: u64,
    /// Unknown outcomes without invocation.
    pub infos_ignored: u64,
    /// Failed compare-and-sets that were taken as not having happened, and no more ([`Options::refusals_tell`]).
    pub refusals_ignored: u64,
    /// Lines or events of others than clients.
    pub events_ignored: u64,
    text: Text,
}

/// A history of transactions.
#[derive(Debug)]
pub enum Transactional {
    /// On lists or registers.
    Objects(crate::transactions::History),
    /// On accounts.
    Bank(crate::transactions::bank::Bank),
    /// On a store that numbers its states.
    Store(crate::transactions::store::Store),
}

impl Transactional {
    /// Judges it.
    pub fn check(&self, options: &crate::linear::Options) -> crate::transactions::Report {
        match self {
            Transactional::Objects(history) => crate::transactions::check(history, options),
            Transactional::Bank(bank) => crate::transactions::bank::check(bank, options),
            Transactional::Store(store) => crate::transactions::store::check(store),
        }
    }
}

/// The text stays at hand: evidence is looked up in it.
#[derive(Debug)]
enum Text {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Text {
    fn bytes(&self) -> &[u8] {
        match self {
            Text::Mapped(map) => map,
            Text::Owned(bytes) => bytes,
        }
    }
}

/// Reads a history file.
///
/// # Errors
/// If it cannot be read, is in no known format, or is not a history.
pub fn open(path: &Path, options: &Options) -> Result<ImportedHistory, ImportError> {
    let io = |source| ImportError::Io { path: path.to_owned(), source };
    if path.is_dir() {
        return folder(path, options);
    }
    let file = File::open(path).map_err(io)?;
    let name = path.display().to_string();
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() || metadata.len() == 0 {
        return piped(file, &metadata, path, options);
    }
    // SAFETY: the map is read only. Should another program change the file meanwhile, the bytes read are arbitrary; all
    // reads are bounds-checked, and the result is an error message or a verdict on what was read.
    #[expect(unsafe_code, reason = "the only way to map a file")]
    let map = unsafe { Mmap::map(&file) };
    let text = match map {
        Ok(map) => Text::Mapped(map),
        Err(_) => Text::Owned(std::fs::read(path).map_err(io)?),
    };
    read(&name, text, options)
}

/// Reads a report of etcd's robustness tests: what its clients saved.
fn folder(path: &Path, options: &Options) -> Result<ImportedHistory, ImportError> {
    let io = |source| ImportError::Io { path: path.to_owned(), source };
    let mut files = vec![path.join("operations.json")];
    for entry in std::fs::read_dir(path).map_err(io)? {
        files.push(entry.map_err(io)?.path().join("operations.json"));
    }
    files.retain(|file| file.is_file());
    files.sort();
    if files.is_empty() {
        return Err(io(std::io::Error::other(
            "a folder in which no client of etcd's robustness tests has left its `client-N/operations.json`",
        )));
    }
    let mut reports = etcd::Reports::default();
    for file in files {
        let text = std::fs::read(&file).map_err(|source| ImportError::Io { path: file.clone(), source })?;
        let name = file.display().to_string();
        reports.file(&text).map_err(|problem| problem.locate(&name, &text))?;
    }
    store(&path.display().to_string(), reports, options)
}

/// What was read of such tests, as a history.
fn store(name: &str, reports: etcd::Reports, options: &Options) -> Result<ImportedHistory, ImportError> {
    if let Some(model) = options.model {
        let problem = format!("etcd's operations are judged as a store, not as {model:?}");
        return Err(ImportError::Empty { name: name.to_owned(), problem });
    }
    let store = reports.finish();
    if store.operations.is_empty() {
        return Err(empty(name));
    }
    Ok(ImportedHistory {
        columns: Columns::default(),
        operations: store.operations.len() as u64,
        events_ignored: store.ignored,
        transactions: Some(Transactional::Store(store)),
        format: Format::EtcdRobustness,
        model: None,
        infos_ignored: 0,
        refusals_ignored: 0,
        text: Text::Owned(Vec::new()),
    })
}

/// Reads what cannot be mapped: a pipe, or a file whose length the system does not tell.
fn piped(
    mut file: File,
    metadata: &std::fs::Metadata,
    path: &Path,
    options: &Options,
) -> Result<ImportedHistory, ImportError> {
    let io = |source| ImportError::Io { path: path.to_owned(), source };
    if metadata.is_dir() || is_device(metadata) {
        return Err(io(std::io::Error::other("neither a file nor a pipe")));
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(io)?;
    parse(&path.display().to_string(), text, options)
}

/// Devices may have no end.
#[cfg(unix)]
fn is_device(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_char_device() || metadata.file_type().is_block_device()
}

#[cfg(not(unix))]
fn is_device(_metadata: &std::fs::Metadata) -> bool {
    false
}

/// Reads a history from memory.
///
/// # Errors
/// As [`open`].
pub fn parse(name: &str, text: Vec<u8>, options: &Options) -> Result<ImportedHistory, ImportError> {
    if text.is_empty() {
        return Err(empty(name));
    }
    read(name, Text::Owned(text), options)
}

fn empty(name: &str) -> ImportError {
    ImportError::Empty { name: name.to_owned(), problem: "no operations in it: nothing to check".into() }
}

fn read(name: &str, text: Text, options: &Options) -> Result<ImportedHistory, ImportError> {
    let bytes = text.bytes();
    let format = recognise(bytes).map_err(|p| p.locate(name, bytes))?;
    if format == Format::EtcdRobustness {
        let mut reports = etcd::Reports::default();
        reports.file(bytes).map_err(|p| p.locate(name, bytes))?;
        return store(name, reports, options);
    }
    let model = options.model.or_else(|| guess(bytes, format));
    if let Some(model @ (Model::Transactions | Model::Bank)) = model {
        return read_transactions(name, text, format, model);
    }
    let refusals_tell = options.refusals_tell.unwrap_or(format != Format::Edn);
    let mut assembler = Assembler::new(bytes.len(), model, refusals_tell);
    let mut ignored = 0;
    let result = each(bytes, format, &mut ignored, |event| assembler.event(event));
    result.map_err(|p| p.locate(name, bytes))?;
    let operations = assembler.operations() as u64;
    if operations == 0 {
        return Err(empty(name));
    }
    let (infos_ignored, refusals_ignored) = (assembler.infos_ignored, assembler.refusals_ignored);
    let (columns, model) = assembler.finish();
    Ok(ImportedHistory {
        columns,
        transactions: None,
        format,
        model,
        operations,
        infos_ignored,
        refusals_ignored,
        events_ignored: ignored,
        text,
    })
}

/// The same for transactions.
fn read_transactions(
    name: &str,
    text: Text,
    format: Format,
    model: Model,
) -> Result<ImportedHistory, ImportError> {
    let bytes = text.bytes();
    let mut ignored = 0;
    let (result, operations, infos_ignored, transactions) = match model {
        Model::Bank => {
            let mut accounts = transactions::Accounts::default();
            let result = each(bytes, format, &mut ignored, |event| accounts.event(event, bytes));
            let infos = accounts.infos_ignored;
            let bank = accounts.finish();
            (result, bank.operations.len(), infos, Transactional::Bank(bank))
        }
        _ => {
            let mut assembler = transactions::Transactions::default();
            let result = each(bytes, format, &mut ignored, |event| assembler.event(event, bytes));
            let infos = assembler.infos_ignored;
            let history = assembler.finish();
            (result, history.transactions.len(), infos, Transactional::Objects(history))
        }
    };
    result.map_err(|p| p.locate(name, bytes))?;
    if operations == 0 {
        return Err(empty(name));
    }
    Ok(ImportedHistory {
        columns: Columns::default(),
        transactions: Some(transactions),
        format,
        model: Some(model),
        operations: operations as u64,
        infos_ignored,
        refusals_ignored: 0,
        events_ignored: ignored,
        text,
    })
}

/// Tells the format by the first bytes.
fn recognise(text: &[u8]) -> Result<Format, Problem> {
    if let Some(what) = packed(text) {
        return Err(Problem::new(0, format!("not text but {what}; unpack it first")));
    }
    if etcd::is_one(text) {
        return Ok(Format::EtcdRobustness);
    }
    let mut cursor = Cursor::new(text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text));
    cursor.blanks_and_comments();
    while matches!(cursor.peek(), b'[' | b'(') {
        cursor.at += 1;
        cursor.blanks_and_comments();
    }
    let brace = cursor.peek() == b'{';
    if brace {
        cursor.at += 1;
        cursor.blanks();
    }
    // A console's log may begin with whatever was printed before the first operation.
    let beginning = &text[..text.len().min(LOG_BEGINS_WITHIN)];
    let is_log = || beginning.windows(14).any(|w| w == b"jepsen.util - ");
    match cursor.peek() {
        b'"' if brace => Ok(Format::JsonLines),
        b':' if brace => Ok(Format::Edn),
        b'#' => Ok(Format::Edn),
        _ if is_log() => Ok(Format::JepsenLog),
        _ => Err(Problem::new(
            cursor.at,
            "not a history: expected JSON lines (`{\"process\": ...}`), EDN (`{:process ...}`) or a Jepsen log \
             (`INFO  jepsen.util - 0 :invoke :read nil`)",
        )),
    }
}

/// The first operation of a log stands within so many bytes.
const LOG_BEGINS_WITHIN: usize = 1 << 16;

/// What the first bytes say of a file that is not text.
fn packed(text: &[u8]) -> Option<&'static str> {
    const PACKED: [(&[u8], &str); 6] = [
        (b"\x1F\x8B", "gzip"),
        (b"\x28\xB5\x2F\xFD", "zstd"),
        (b"PK\x03\x04", "zip"),
        (b"\xFD7zXZ", "xz"),
        (b"\xFF\xFE", "UTF-16"),
        (b"\xFE\xFF", "UTF-16"),
    ];
    PACKED.iter().find(|(magic, _)| text.starts_with(magic)).map(|(_, what)| *what)
}

/// The model that the first telling operations have: `append` goes with `read` as well as with `get`.
fn guess(text: &[u8], format: Format) -> Option<Model> {
    let mut model = None;
    let (mut reads, mut appends) = (false, false);
    // An error ends the scan; here it means that enough is known. True errors are met again when reading.
    let _ = each(text, format, &mut 0, |event| {
        match event.function {
            Function::Get | Function::Put => model = Some(Model::Kv),
            Function::Write | Function::Cas => model = Some(Model::Register),
            Function::Acquire | Function::Release => model = Some(Model::Mutex),
            Function::Txn => model = Some(Model::Transactions),
            Function::Transfer => model = Some(Model::Bank),
            Function::Read if matches!(event.value, Raw::Word([b'{', ..])) => model = Some(Model::Bank),
            Function::Read => reads = true,
            Function::Append => appends = true,
        }
        if reads && appends {
            model = Some(Model::Append);
        }
        match model {
            Some(_) => Err(Problem::new(0, "")),
            None => Ok(()),
        }
    });
    model.or(reads.then_some(Model::Register)).or(appends.then_some(Model::Append))
}

/// Feeds every event of a text to `sink`.
fn each<'a>(
    text: &'a [u8],
    format: Format,
    ignored: &mut u64,
    mut sink: impl FnMut(&Event<'a>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut cursor = Cursor::new(text);
    if text.starts_with(b"\xEF\xBB\xBF") {
        cursor.at = 3;
    }
    let mut event = Event::new();
    match format {
        Format::JsonLines => {
            while events::json(&mut cursor, ignored, &mut event)? {
                sink(&event)?;
            }
        }
        Format::Edn => {
            while events::edn(&mut cursor, ignored, &mut event)? {
                sink(&event)?;
            }
        }
        // Operations, not events: read by [`etcd`].
        Format::EtcdRobustness => {}
        Format::JepsenLog => {
            while events::jepsen_log(&mut cursor, ignored, &mut event)? {
                sink(&event)?;
            }
        }
    }
    Ok(())
}

impl ImportedHistory {
    /// What holds of a history that is not linearizable: [`crate::linear::levels::grade`] for the same operations.
    /// `None` for models that are not graded, and for histories that are too large for it. `report` must be that on the whole history.
    pub fn levels(&self, report: &crate::linear::Report) -> Option<crate::linear::levels::Levels> {
        let lists = match self.model? {
            Model::Register => false,
            Model::Append => true,
            Model::Kv | Model::Mutex | Model::Transactions | Model::Bank => return None,
        };
        let history = record::record(self.text.bytes(), self.format, lists);
        let levels = crate::linear::levels::is_affordable(&history);
        (levels && history.keys.len() == report.keys.len())
            .then(|| crate::linear::levels::grade(&history, report))
    }
}

impl Source for ImportedHistory {
    /// Reads the file again and picks the operations out: nothing of the text is kept for operations that are no
    /// evidence.
    fn describe(&self, rows: &[u32]) -> Vec<Described> {
        let text = self.text.bytes();
        let mut described = vec![Described::default(); rows.len()];
        let mut processes = Processes::default();
        let mut next = 0;
        let result = each(text, self.format, &mut 0, |event| {
            let Some(open) = processes.follow(event, next)? else { return Ok(()) };
            next += u32::from(event.kind == Type::Invoke);
            for (n, _) in rows.iter().enumerate().filter(|(_, r)| **r == open.operation) {
                note(&mut described[n], event, text);
            }
            Ok(())
        });
        debug_assert!(result.is_ok(), "a text that was read once can be read again");
        described
    }
}

/// Adds what an event says of an operation.
fn note(described: &mut Described, event: &Event<'_>, text: &[u8]) {
    let ms = match event.time {
        Raw::Int(ns) => Some(ns as f64 / 1e6),
        _ => None,
    };
    let line = Some(line_of(text, event.offset));
    let function = format!("{:?}", event.function).to_lowercase();
    match event.kind {
        Type::Invoke => {
            described.process = event.process.to_string();
            described.invoked_ms = ms;
            described.line = line;
            let argument = match event.value {
                Raw::Nil => String::new(),
                value => format!(" {}", spell(value)),
            };
            described.text = format!("{function}{argument} (never completed)");
        }
        kind => {
            described.completed_line = line;
            if kind != Type::Info {
                described.completed_ms = ms;
            }
            if !matches!(event.node, Raw::Nil) {
                described.node = Some(spell(event.node));
            }
            described.ending = match kind {
                Type::Ok => Ending::Ok,
                Type::Fail => Ending::Failed,
                Type::Info | Type::Invoke => Ending::Unknown,
            };
            let invoked = described.text.trim_end_matches(" (never completed)");
            described.text = match (kind, event.function) {
                (Type::Info, _) => format!("{invoked} (unknown outcome)"),
                (Type::Fail, _) => format!("{invoked} (failed)"),
                (_, Function::Read | Function::Get) => format!("{function} {}", spell(event.value)),
                _ => invoked.to_owned(),
            };
        }
    }
}
