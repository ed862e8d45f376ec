//! The form in which the checkers read a history: columns of small integers, grouped by key.
//!
//! Time is the position of an event within its key: invocations and completions are numbered 1, 2, 3, ... in the
//! order in which they happened, so "before" is a comparison of two numbers and a sweep over time needs no sort.
//! Position 0 is the instant at which the key got its start value.

use super::search::machine::Content;

/// A value as the columns know it. [`NIL`] is "no value"; an integer `v` below 2^31 - 1 is `v + 1`; everything else
/// gets a number from [`Interner`].
pub type Token = u32;

/// The token of "nothing there": what a key holds before its first write.
pub const NIL: Token = 0;

/// The completion position of an operation whose outcome nobody knows: it may take effect at any time after its
/// invocation, or never.
pub const OPEN: u32 = u32::MAX;

/// First token that stands for something other than a small integer.
const INTERNED: u32 = 1 << 31;

/// What an operation does, or what it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Saw the whole value `a`.
    Read,
    /// Set the value to `a`.
    Write,
    /// Saw `a` and replaced it by `b`.
    Cas,
    /// Saw that the value was not `a`: a compare-and-set that was refused without telling the value.
    NotEqual,
    /// Added `a` at the end.
    Append,
    /// Saw the list whose first `a` elements are those of the key's spine; `b` is 0, or 1 + the index in
    /// [`KeyMeta::tails`] of what followed.
    ReadList,
    /// A write of `a` that certainly did not happen. Kept only to name what went wrong when somebody saw it.
    Aborted,
}

/// What the operations of one key have in common.
#[derive(Clone, Debug, Default)]
pub struct KeyMeta {
    /// The key as the clients wrote it.
    pub name: String,
    /// Longest list any read has shown, for keys that hold lists.
    pub spine: Vec<Token>,
    /// Endings of reads that differ from the spine.
    pub tails: Vec<Vec<Token>>,
}

/// All operations that are to be checked, grouped by key.
#[derive(Debug, Default)]
pub struct Columns {
    /// The keys.
    pub keys: Vec<KeyMeta>,
    /// Key `k` owns the operations `start[k]..start[k + 1]`.
    pub start: Vec<u32>,
    /// Number of events of each key: its positions are `1..=events[k]`.
    pub events: Vec<u32>,
    /// Position of the invocation; increasing within a key.
    pub inv: Vec<u32>,
    /// Position of the completion, or [`OPEN`].
    pub ret: Vec<u32>,
    /// What each did.
    pub kind: Vec<Kind>,
    /// First argument.
    pub a: Vec<Token>,
    /// Second argument.
    pub b: Vec<Token>,
    /// The store's number for what was set or seen, 0 where it is not told; empty if it never is.
    pub version: Vec<u64>,
    /// Which operation of the source it is; empty if operation `i` of the columns is operation `i` of the source.
    pub row: Vec<u32>,
    /// What tokens stand for.
    pub values: Interner,
    /// Whether values are strings that start empty and grow, so that reads show what was put together.
    pub strings: bool,
}

/// The operations of one key.
#[derive(Clone, Copy, Debug)]
pub struct Lane<'a> {
    /// Name, spine, tails.
    pub meta: &'a KeyMeta,
    /// Positions are `1..=events`.
    pub events: u32,
    /// See [`Columns::inv`].
    pub inv: &'a [u32],
    /// See [`Columns::ret`].
    pub ret: &'a [u32],
    /// See [`Columns::kind`].
    pub kind: &'a [Kind],
    /// See [`Columns::a`].
    pub a: &'a [Token],
    /// See [`Columns::b`].
    pub b: &'a [Token],
    /// See [`Columns::version`].
    pub version: &'a [u64],
}

impl Lane<'_> {
    /// Number of operations.
    pub fn len(&self) -> usize {
        self.inv.len()
    }

    /// Whether the key has no operations.
    pub fn is_empty(&self) -> bool {
        self.inv.is_empty()
    }
}

impl Columns {
    /// The operations of key `k`.
    pub fn lane(&self, k: usize) -> Lane<'_> {
        let range = self.start[k] as usize..self.start[k + 1] as usize;
        Lane {
            meta: &self.keys[k],
            events: self.events[k],
            inv: &self.inv[range.clone()],
            ret: &self.ret[range.clone()],
            kind: &self.kind[range.clone()],
            a: &self.a[range.clone()],
            b: &self.b[range.clone()],
            version: self.version.get(range).unwrap_or(&[]),
        }
    }

    /// The operation of the source that is operation `i` of key `k`.
    pub fn row(&self, k: usize, i: usize) -> u32 {
        let at = self.start[k] as usize + i;
        self.row.get(at).copied().unwrap_or(at as u32)
    }

    /// The same history with one key only; `None` if there is no key of that name.
    pub fn only(mut self, key: &str) -> Option<Columns> {
        let k = self.keys.iter().position(|meta| meta.name == key)?;
        let range = self.start[k] as usize..self.start[k + 1] as usize;
        self.row = (0..range.len()).map(|i| self.row(k, i)).collect();
        self.keys = vec![self.keys.swap_remove(k)];
        self.events = vec![self.events[k]];
        self.start = vec![0, range.len() as u32];
        self.inv = self.inv[range.clone()].to_vec();
        self.ret = self.ret[range.clone()].to_vec();
        self.kind = self.kind[range.clone()].to_vec();
        self.a = self.a[range.clone()].to_vec();
        self.b = self.b[range.clone()].to_vec();
        self.version = self.version.get(range).unwrap_or(&[]).to_vec();
        Some(self)
    }

    /// Number of operations over all keys.
    pub fn len(&self) -> usize {
        self.inv.len()
    }

    /// Whether there is nothing to check.
    pub fn is_empty(&self) -> bool {
        self.inv.is_empty()
    }
}

/// One operation while it is collected.
#[derive(Clone, Copy, Debug)]
struct Row {
    key: u32,
    inv: u32,
    ret: u32,
    a: Token,
    b: Token,
    /// `None`: says nothing, so far.
    kind: Option<Kind>,
}

/// Collects operations in the order of their invocation and completions as they happen, for any number of keys.
#[derive(Debug, Default)]
pub struct Builder {
    keys: Vec<KeyMeta>,
    /// Per key: events so far, and operations that say something.
    counts: Vec<(u32, u32)>,
    rows: Vec<Row>,
    /// Operations whose version is known.
    versions: Vec<(u32, u64)>,
}

impl Builder {
    /// A builder with room for `operations` operations.
    pub fn with_capacity(operations: usize) -> Self {
        Builder { rows: Vec::with_capacity(operations), ..Builder::default() }
    }

    /// Adds a key; keys are numbered from 0.
    pub fn key(&mut self, meta: KeyMeta) -> u32 {
        self.keys.push(meta);
        self.counts.push((0, 0));
        (self.keys.len() - 1) as u32
    }

    /// What is known of a key.
    pub fn meta(&mut self, key: u32) -> &mut KeyMeta {
        &mut self.keys[key as usize]
    }

    /// Number of keys so far.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Number of operations so far.
    pub fn operations(&self) -> usize {
        self.rows.len()
    }

    /// Arguments of an operation.
    pub fn arguments(&self, operation: u32) -> (Token, Token) {
        let row = &self.rows[operation as usize];
        (row.a, row.b)
    }

    /// The key of an operation.
    pub fn key_of(&self, operation: u32) -> u32 {
        self.rows[operation as usize].key
    }

    /// An invocation. Until it is completed the operation's outcome is unknown; `kind: None` is an operation that
    /// says nothing unless it completes, such as a read.
    #[inline]
    pub fn invoke(&mut self, key: u32, kind: Option<Kind>, a: Token, b: Token) -> u32 {
        let count = &mut self.counts[key as usize];
        count.0 += 1;
        count.1 += u32::from(kind.is_some());
        self.rows.push(Row { key, inv: count.0, ret: OPEN, a, b, kind });
        (self.rows.len() - 1) as u32
    }

    /// The operation took effect before now.
    #[inline]
    pub fn complete(&mut self, operation: u32, kind: Kind, a: Token, b: Token) {
        let row = &mut self.rows[operation as usize];
        let count = &mut self.counts[row.key as usize];
        count.0 += 1;
        count.1 += u32::from(row.kind.is_none());
        *row = Row { ret: count.0, a, b, kind: Some(kind), ..*row };
    }

    /// The operation, of which all is known since its invocation, returned.
    #[inline]
    pub fn returned(&mut self, operation: u32) {
        let row = &mut self.rows[operation as usize];
        let count = &mut self.counts[row.key as usize];
        count.0 += 1;
        row.ret = count.0;
    }

    /// The store's number for what the operation set or saw, from 1.
    pub fn version(&mut self, operation: u32, version: u64) {
        self.versions.push((operation, version));
    }

    /// The operation certainly did not happen.
    #[inline]
    pub fn abort(&mut self, operation: u32) {
        let row = &mut self.rows[operation as usize];
        match row.kind {
            Some(Kind::Write | Kind::Append) => row.kind = Some(Kind::Aborted),
            Some(Kind::Cas) => {
                row.a = row.b;
                row.kind = Some(Kind::Aborted);
            }
            Some(Kind::Read | Kind::ReadList | Kind::NotEqual | Kind::Aborted) | None => {}
        }
    }

    /// Groups the operations by key and drops those that say nothing.
    pub fn finish(self) -> Columns {
        let mut start = Vec::with_capacity(self.keys.len() + 1);
        let mut said = 0;
        for count in &self.counts {
            start.push(said);
            said += count.1;
        }
        start.push(said);
        let events = self.counts.iter().map(|c| c.0).collect();
        let columns = if self.keys.len() == 1 {
            one_key(&self.rows, said as usize)
        } else {
            by_key(&self.rows, start.clone(), said as usize)
        };
        let version = if self.versions.is_empty() { Vec::new() } else { versions(&columns, &self.versions) };
        Columns { keys: self.keys, start, events, version, ..columns }
    }
}

/// The columns of one key: in order as they are. Rows are numbered only if something is dropped.
fn one_key(rows: &[Row], said: usize) -> Columns {
    let mut columns = Columns {
        inv: Vec::with_capacity(said),
        ret: Vec::with_capacity(said),
        kind: Vec::with_capacity(said),
        a: Vec::with_capacity(said),
        b: Vec::with_capacity(said),
        ..Columns::default()
    };
    for row in rows {
        if let Some(kind) = row.kind {
            columns.inv.push(row.inv);
            columns.ret.push(row.ret);
            columns.kind.push(kind);
            columns.a.push(row.a);
            columns.b.push(row.b);
        }
    }
    if said < rows.len() {
        columns.row = (0..).zip(rows).filter(|(_, row)| row.kind.is_some()).map(|(i, _)| i).collect();
    }
    columns
}

/// The columns of many keys; `next` is where each key's operations begin.
fn by_key(rows: &[Row], mut next: Vec<u32>, said: usize) -> Columns {
    let mut columns = Columns {
        inv: vec![0; said],
        ret: vec![0; said],
        kind: vec![Kind::Read; said],
        a: vec![0; said],
        b: vec![0; said],
        row: vec![0; said],
        ..Columns::default()
    };
    for (i, row) in rows.iter().enumerate() {
        let Some(kind) = row.kind else { continue };
        let slot = &mut next[row.key as usize];
        let at = *slot as usize;
        *slot += 1;
        columns.inv[at] = row.inv;
        columns.ret[at] = row.ret;
        columns.kind[at] = kind;
        columns.a[at] = row.a;
        columns.b[at] = row.b;
        columns.row[at] = i as u32;
    }
    columns
}

/// The column of versions.
fn versions(columns: &Columns, told: &[(u32, u64)]) -> Vec<u64> {
    let last =
        told.iter().map(|t| t.0).max().unwrap_or(0).max(columns.row.iter().copied().max().unwrap_or(0));
    let mut by_row = vec![0; (last as usize + 1).max(columns.len())];
    for &(row, version) in told {
        by_row[row as usize] = version;
    }
    match columns.row.as_slice() {
        [] => by_row[..columns.len()].to_vec(),
        rows => rows.iter().map(|row| by_row[*row as usize]).collect(),
    }
}

/// Gives tokens to values that are not small integers. Two values get one token exactly if they are equal.
#[derive(Debug, Default)]
pub struct Interner {
    /// Open addressing over `entries`; 0 is empty, else index + 1.
    table: Vec<u32>,
    entries: Vec<(u64, Interned)>,
    bytes: Vec<u8>,
    /// Content of each entry, where strings grow.
    contents: Vec<Content>,
}

#[derive(Debug)]
enum Interned {
    Integer(u64),
    Text { from: u32, to: u32 },
}

impl Interner {
    /// The token of an integer.
    #[inline]
    pub fn integer(&mut self, value: u64) -> Token {
        if value < u64::from(INTERNED - 1) { value as u32 + 1 } else { self.large(value) }
    }

    /// The token of a string.
    pub fn text(&mut self, value: &[u8]) -> Token {
        let hash = hash_bytes(value);
        if let Some(found) = self.find(hash, |bytes, e| match e {
            Interned::Text { from, to } => &bytes[*from as usize..*to as usize] == value,
            Interned::Integer(_) => false,
        }) {
            return found;
        }
        let from = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.insert(hash, Interned::Text { from, to: self.bytes.len() as u32 })
    }

    /// The bytes of a token that [`Interner::text`] gave out; empty for any other.
    pub fn bytes_of(&self, token: Token) -> &[u8] {
        match token.checked_sub(INTERNED).and_then(|i| self.entries.get(i as usize)) {
            Some((_, Interned::Text { from, to })) => &self.bytes[*from as usize..*to as usize],
            _ => &[],
        }
    }

    /// What a token stands for, for people.
    pub fn spell(&self, token: Token) -> String {
        match token.checked_sub(INTERNED).and_then(|i| self.entries.get(i as usize)) {
            Some((_, Interned::Integer(value))) => value.to_string(),
            Some((_, Interned::Text { .. })) => String::from_utf8_lossy(self.bytes_of(token)).into_owned(),
            None if token == NIL => "nil".into(),
            None => (token - 1).to_string(),
        }
    }

    /// Computes the content of every string now, for checkers that put strings together.
    pub fn know_contents(&mut self) {
        self.contents = (0..self.entries.len() as u32).map(|i| self.compute(INTERNED + i)).collect();
    }

    /// What a token stands for, as something that can be put together with others.
    pub(super) fn content(&self, token: Token) -> Content {
        let known = token.checked_sub(INTERNED).and_then(|i| self.contents.get(i as usize));
        known.copied().unwrap_or_else(|| self.compute(token))
    }

    fn compute(&self, token: Token) -> Content {
        match self.bytes_of(token) {
            [] => Content::of([u64::from(token) | 1 << 40].into_iter()),
            bytes => Content::of(bytes.iter().map(|&b| u64::from(b))),
        }
    }

    #[cold]
    fn large(&mut self, value: u64) -> Token {
        let hash = mix(value);
        self.find(hash, |_, e| matches!(e, Interned::Integer(v) if *v == value))
            .unwrap_or_else(|| self.insert(hash, Interned::Integer(value)))
    }

    fn find(&self, hash: u64, same: impl Fn(&[u8], &Interned) -> bool) -> Option<Token> {
        let mask = self.table.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        while self.table[at] != 0 {
            let index = self.table[at] - 1;
            let (h, entry) = &self.entries[index as usize];
            if *h == hash && same(&self.bytes, entry) {
                return Some(INTERNED + index);
            }
            at = (at + 1) & mask;
        }
        None
    }

    fn insert(&mut self, hash: u64, entry: Interned) -> Token {
        if self.table.len() < 2 * (self.entries.len() + 1) {
            self.grow();
        }
        self.entries.push((hash, entry));
        let index = self.entries.len() as u32;
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        while self.table[at] != 0 {
            at = (at + 1) & mask;
        }
        self.table[at] = index;
        INTERNED + index - 1
    }

    fn grow(&mut self) {
        let size = (self.table.len() * 2).max(64);
        self.table = vec![0; size];
        for (index, (hash, _)) in self.entries.iter().enumerate() {
            let mut at = *hash as usize & (size - 1);
            while self.table[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            self.table[at] = index as u32 + 1;
        }
    }
}

/// A well-mixed permutation of 64 bits (the finaliser of SplitMix64, Steele, Lea and Flood 2014).
#[inline]
pub(crate) fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A hash of a string, eight bytes at a time.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash ^ u64::from_le_bytes(word));
    }
    hash
}
