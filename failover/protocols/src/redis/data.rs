//! Commands on the key space.

use super::values::{Datum, Key};
use super::words::{Words, signed, when};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// A command on the key space.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Data {
    /// GET.
    Get(Key),
    /// SET.
    Set {
        /// Which key.
        key: Key,
        /// To what.
        value: Datum,
        /// Under which condition; boxed, because most have none.
        condition: Option<Box<SetIf>>,
    },
    /// APPEND to a string.
    Append {
        /// Which key.
        key: Key,
        /// What.
        value: Datum,
    },
    /// INCRBY; INCR, DECR and DECRBY in this form too.
    IncrBy {
        /// Which key.
        key: Key,
        /// By how much.
        by: i64,
    },
    /// DEL.
    Del(Vec<Key>),
    /// EXISTS.
    Exists(Vec<Key>),
    /// RPUSH.
    Push {
        /// Which list.
        key: Key,
        /// The first element, which most commands have only.
        value: Datum,
        /// Further elements.
        more: Box<[Datum]>,
    },
    /// LRANGE.
    Range {
        /// Which list.
        key: Key,
        /// First index; negative counts from the end.
        start: i64,
        /// Last index, included.
        stop: i64,
    },
    /// LLEN.
    Len(Key),
    /// STRLEN.
    StrLen(Key),
    /// TYPE.
    Type(Key),
    /// FLUSHALL.
    FlushAll,
    /// DBSIZE.
    DbSize,
}

/// Condition of a SET that answers with the value it found (the words NX or IFEQ, and GET; IFEQ since Valkey 8.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct SetIf {
    /// What must hold.
    pub test: Test,
    /// Answer with the value found (GET) in place of OK or nil.
    pub get: bool,
}

/// What a conditional SET asks of the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Test {
    /// Nothing.
    Always,
    /// NX: it does not exist.
    Absent,
    /// XX: it exists.
    Present,
    /// IFEQ: it holds this.
    Equals(Datum),
}

impl Data {
    /// Whether a replica without permission to write refuses it.
    pub fn is_write(&self) -> bool {
        match self {
            Data::Get(_)
            | Data::Exists(_)
            | Data::Range { .. }
            | Data::Len(_)
            | Data::StrLen(_)
            | Data::Type(_)
            | Data::DbSize => false,
            Data::Set { .. }
            | Data::Append { .. }
            | Data::IncrBy { .. }
            | Data::Del(_)
            | Data::Push { .. }
            | Data::FlushAll => true,
        }
    }

    /// The keys it names.
    pub fn keys(&self) -> &[Key] {
        match self {
            Data::Get(key) | Data::Len(key) | Data::StrLen(key) | Data::Type(key) => {
                core::slice::from_ref(key)
            }
            Data::Set { key, .. }
            | Data::Append { key, .. }
            | Data::IncrBy { key, .. }
            | Data::Push { key, .. }
            | Data::Range { key, .. } => core::slice::from_ref(key),
            Data::Del(keys) | Data::Exists(keys) => keys,
            Data::FlushAll | Data::DbSize => &[],
        }
    }

    pub(super) fn each_word(&self, out: &mut impl Words) {
        match self {
            Data::Get(key) => named(out, b"GET", key),
            Data::Set { key, value, condition } => {
                named(out, b"SET", key);
                out.datum(value);
                if let Some(condition) = condition {
                    condition.each_word(out);
                }
            }
            Data::Append { key, value } => {
                named(out, b"APPEND", key);
                out.datum(value);
            }
            Data::IncrBy { key, by } => {
                named(out, b"INCRBY", key);
                signed(out, *by);
            }
            Data::Del(keys) => {
                out.text(b"DEL");
                keys.iter().for_each(|key| out.key(key));
            }
            Data::Exists(keys) => {
                out.text(b"EXISTS");
                keys.iter().for_each(|key| out.key(key));
            }
            Data::Push { key, value, more } => {
                named(out, b"RPUSH", key);
                out.datum(value);
                more.iter().for_each(|value| out.datum(value));
            }
            Data::Range { key, start, stop } => {
                named(out, b"LRANGE", key);
                signed(out, *start);
                signed(out, *stop);
            }
            Data::Len(key) => named(out, b"LLEN", key),
            Data::StrLen(key) => named(out, b"STRLEN", key),
            Data::Type(key) => named(out, b"TYPE", key),
            Data::FlushAll => out.text(b"FLUSHALL"),
            Data::DbSize => out.text(b"DBSIZE"),
        }
    }
}

impl SetIf {
    pub(super) fn each_word(&self, out: &mut impl Words) {
        match &self.test {
            Test::Always => {}
            Test::Absent => out.text(b"NX"),
            Test::Present => out.text(b"XX"),
            Test::Equals(value) => {
                out.text(b"IFEQ");
                out.datum(value);
            }
        }
        when(self.get, out, b"GET");
    }
}

fn named(out: &mut impl Words, name: &[u8], key: &Key) {
    out.text(name);
    out.key(key);
}
