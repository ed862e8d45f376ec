//! COMMAND: the table by which cluster clients find the keys of a command. The node knows nothing of it; the codec says
//! it in place of the node's answer.

use super::write::{bulk, header};
use bytes::{BufMut, Bytes, BytesMut};

/// Name, number of words (negative: at least), flags, and the places of the keys: first, last, step.
type Row = (&'static str, i64, &'static [&'static str], i64, i64, i64);

const READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write", "denyoom", "fast"];
const NO_KEYS: &[&str] = &["loading", "stale"];

/// The commands of data nodes, as Redis 7.0 describes them.
const TABLE: &[Row] = &[
    ("get", 2, READ, 1, 1, 1),
    ("set", -3, WRITE, 1, 1, 1),
    ("append", 3, WRITE, 1, 1, 1),
    ("incr", 2, WRITE, 1, 1, 1),
    ("decr", 2, WRITE, 1, 1, 1),
    ("incrby", 3, WRITE, 1, 1, 1),
    ("decrby", 3, WRITE, 1, 1, 1),
    ("del", -2, &["write"], 1, -1, 1),
    ("unlink", -2, &["write", "fast"], 1, -1, 1),
    ("exists", -2, READ, 1, -1, 1),
    ("rpush", -3, WRITE, 1, 1, 1),
    ("lrange", 4, &["readonly"], 1, 1, 1),
    ("llen", 2, READ, 1, 1, 1),
    ("strlen", 2, READ, 1, 1, 1),
    ("type", 2, READ, 1, 1, 1),
    ("flushall", -1, &["write"], 0, 0, 0),
    ("dbsize", 1, READ, 0, 0, 0),
    ("ping", -1, NO_KEYS, 0, 0, 0),
    ("hello", -1, NO_KEYS, 0, 0, 0),
    ("client", -2, NO_KEYS, 0, 0, 0),
    ("config", -2, NO_KEYS, 0, 0, 0),
    ("info", -1, NO_KEYS, 0, 0, 0),
    ("role", 1, NO_KEYS, 0, 0, 0),
    ("multi", 1, NO_KEYS, 0, 0, 0),
    ("exec", 1, NO_KEYS, 0, 0, 0),
    ("wait", 3, NO_KEYS, 0, 0, 0),
    ("replicaof", 3, NO_KEYS, 0, 0, 0),
    ("cluster", -2, NO_KEYS, 0, 0, 0),
    ("asking", 1, NO_KEYS, 0, 0, 0),
    ("readonly", 1, NO_KEYS, 0, 0, 0),
    ("readwrite", 1, NO_KEYS, 0, 0, 0),
    ("command", -1, NO_KEYS, 0, 0, 0),
];

/// A form of COMMAND.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The whole table.
    Table,
    /// How many commands there are.
    Count,
    /// Descriptions for people: there are none.
    Docs,
}

/// Whether these words ask for the table.
pub fn asked(words: &[Bytes]) -> Option<Asked> {
    let is = |word: &Bytes, name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    match words {
        [command] if is(command, "COMMAND") => Some(Asked::Table),
        [command, sub] if is(command, "COMMAND") && is(sub, "COUNT") => Some(Asked::Count),
        [command, sub, ..] if is(command, "COMMAND") && is(sub, "DOCS") => Some(Asked::Docs),
        _ => None,
    }
}

/// Say what was asked for.
pub fn write(asked: Asked, out: &mut BytesMut) {
    match asked {
        Asked::Table => {
            header(b'*', TABLE.len(), out);
            TABLE.iter().for_each(|row| write_row(row, out));
        }
        Asked::Count => integer(TABLE.len() as i64, out),
        Asked::Docs => header(b'*', 0, out),
    }
}

/// Ten elements, as since Redis 7.0; categories, tips, key specifications and subcommands are empty.
fn write_row(&(name, arity, flags, first, last, step): &Row, out: &mut BytesMut) {
    header(b'*', 10, out);
    bulk(name.as_bytes(), out);
    integer(arity, out);
    header(b'*', flags.len(), out);
    for flag in flags {
        out.put_slice(format!("+{flag}\r\n").as_bytes());
    }
    [first, last, step].into_iter().for_each(|place| integer(place, out));
    (0..4).for_each(|_| header(b'*', 0, out));
}

fn integer(number: i64, out: &mut BytesMut) {
    out.put_slice(format!(":{number}\r\n").as_bytes());
}
