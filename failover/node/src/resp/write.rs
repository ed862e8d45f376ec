//! Commands, replies and pushes as bytes, in RESP2 or RESP3.

use bytes::{BufMut, BytesMut};
use firedrill_protocols::redis::info::RoleReport;
use firedrill_protocols::redis::instances::InstanceReport;
use firedrill_protocols::redis::message::{Command, Payload, Push, Reply};
use firedrill_protocols::redis::values::{Addr, Datum, Hex, Key};
use firedrill_protocols::redis::words::Words;
use std::fmt::{self, Write};

/// Version of the protocol on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What every connection begins with.
    #[default]
    Resp2,
    /// After HELLO 3: maps, pushes and a null of its own.
    Resp3,
}

/// Append a command: an array of strings.
pub fn command(command: &Command, out: &mut BytesMut) {
    let mut body = WordWriter::default();
    command.each_word(&mut body);
    header(b'*', body.words, out);
    out.put_slice(&body.bytes);
}

/// Collects the words of a command, and counts them for the header before them.
#[derive(Default)]
struct WordWriter {
    words: usize,
    bytes: BytesMut,
}

impl Words for WordWriter {
    fn text(&mut self, text: &[u8]) {
        self.words += 1;
        bulk(text, &mut self.bytes);
    }

    fn number(&mut self, number: u64) {
        self.format(format_args!("{number}"));
    }

    fn datum(&mut self, datum: &Datum) {
        self.words += 1;
        write_datum(datum, &mut self.bytes);
    }

    fn key(&mut self, key: &Key) {
        self.text(&key.to_bytes());
    }

    fn hex(&mut self, hex: &Hex) {
        self.format(format_args!("{hex}"));
    }

    fn format(&mut self, parts: fmt::Arguments<'_>) {
        self.words += 1;
        bulk_display(parts, &mut self.bytes);
    }
}

/// Append a reply.
pub fn reply(reply: &Reply, protocol: Protocol, out: &mut BytesMut) {
    match reply {
        Reply::Ok => out.put_slice(b"+OK\r\n"),
        Reply::Pong => out.put_slice(b"+PONG\r\n"),
        Reply::Queued => out.put_slice(b"+QUEUED\r\n"),
        Reply::Simple(text) => line(b'+', format_args!("{text}"), out),
        Reply::Error(error) => line(b'-', format_args!("{error}"), out),
        Reply::Integer(number) => line(b':', format_args!("{number}"), out),
        Reply::Nil => null(b"$-1\r\n", protocol, out),
        Reply::NilArray => null(b"*-1\r\n", protocol, out),
        Reply::Bulk(datum) => write_datum(datum, out),
        Reply::List(elements) => {
            header(b'*', elements.len(), out);
            elements.iter().for_each(|element| write_datum(element, out));
        }
        Reply::Array(replies) => {
            header(b'*', replies.len(), out);
            replies.iter().for_each(|element| self::reply(element, protocol, out));
        }
        Reply::Text(text) => bulk(text.as_bytes(), out),
        Reply::Map(pairs) => {
            map_header(pairs.len(), protocol, out);
            for (name, value) in pairs {
                self::reply(name, protocol, out);
                self::reply(value, protocol, out);
            }
        }
        Reply::Info(info) => bulk_display(format_args!("{info}"), out),
        Reply::Role(role) => write_role(role, out),
        Reply::Hello(server) => {
            let fields = server.fields();
            map_header(fields.len(), protocol, out);
            for (name, value) in &fields {
                bulk(name.as_bytes(), out);
                self::reply(value, protocol, out);
            }
        }
        Reply::Address(addr) => {
            header(b'*', 2, out);
            write_ip(*addr, out);
            bulk_display(format_args!("{}", addr.port()), out);
        }
        Reply::Vote { down, leader, epoch } => {
            header(b'*', 3, out);
            line(b':', format_args!("{}", u8::from(*down)), out);
            match leader {
                Some(id) => bulk_display(format_args!("{}", id.0), out),
                None => bulk(b"*", out),
            }
            line(b':', format_args!("{epoch}"), out);
        }
        Reply::Instances(instances) => {
            header(b'*', instances.len(), out);
            instances.iter().for_each(|entry| instance(entry, protocol, out));
        }
        Reply::FullResync { id, offset } => line(b'+', format_args!("FULLRESYNC {} {}", id.0, offset.0), out),
        Reply::Continue(id) => line(b'+', format_args!("CONTINUE {}", id.0), out),
    }
}

/// Append one entry of SENTINEL MASTERS and its like; alone, it answers SENTINEL MASTER.
pub fn instance(instance: &InstanceReport, protocol: Protocol, out: &mut BytesMut) {
    let fields = instance.fields();
    map_header(fields.len(), protocol, out);
    for (name, value) in &fields {
        bulk(name.as_bytes(), out);
        bulk(value.as_bytes(), out);
    }
}

/// Append the answer to PING on a RESP2 connection that has subscriptions: there it looks like a push.
pub fn subscribed_pong(out: &mut BytesMut) {
    header(b'*', 2, out);
    bulk(b"pong", out);
    bulk(b"", out);
}

/// Append a push.
pub fn push(push: &Push, protocol: Protocol, out: &mut BytesMut) {
    let kind = match protocol {
        Protocol::Resp2 => b'*',
        Protocol::Resp3 => b'>',
    };
    match push {
        Push::Subscribed { channel, pattern, count } => {
            header(kind, 3, out);
            bulk(if *pattern { b"psubscribe" } else { b"subscribe" }, out);
            bulk(channel.name(), out);
            line(b':', format_args!("{count}"), out);
        }
        Push::Unsubscribed { channel, count } => {
            header(kind, 3, out);
            bulk(b"unsubscribe", out);
            match channel {
                Some(channel) => bulk(channel.name(), out),
                None => null(b"$-1\r\n", protocol, out),
            }
            line(b':', format_args!("{count}"), out);
        }
        Push::Published { pattern, channel, payload } => {
            match pattern {
                Some(pattern) => {
                    header(kind, 4, out);
                    bulk(b"pmessage", out);
                    bulk(pattern, out);
                }
                None => {
                    header(kind, 3, out);
                    bulk(b"message", out);
                }
            }
            bulk(channel.name(), out);
            match payload {
                Payload::Hello(greeting) => bulk_display(format_args!("{greeting}"), out),
                Payload::Text(text) => bulk(text, out),
            }
        }
    }
}

fn write_role(role: &RoleReport, out: &mut BytesMut) {
    match role {
        RoleReport::Primary { offset, replicas } => {
            header(b'*', 3, out);
            bulk(b"master", out);
            line(b':', format_args!("{}", offset.0), out);
            header(b'*', replicas.len(), out);
            for (addr, offset) in replicas {
                header(b'*', 3, out);
                write_ip(*addr, out);
                bulk_display(format_args!("{}", addr.port()), out);
                bulk_display(format_args!("{}", offset.0), out);
            }
        }
        RoleReport::Replica { primary, state, offset } => {
            header(b'*', 5, out);
            bulk(b"slave", out);
            write_ip(*primary, out);
            line(b':', format_args!("{}", primary.port()), out);
            bulk(state.word().as_bytes(), out);
            match offset {
                Some(offset) => line(b':', format_args!("{}", offset.0), out),
                None => line(b':', format_args!("-1"), out),
            }
        }
        RoleReport::Sentinel(names) => {
            header(b'*', 2, out);
            bulk(b"sentinel", out);
            header(b'*', names.len(), out);
            names.iter().for_each(|name| bulk(name.as_bytes(), out));
        }
    }
}

fn write_ip(addr: Addr, out: &mut BytesMut) {
    bulk_display(format_args!("{}", addr.ip()), out);
}

fn write_datum(datum: &Datum, out: &mut BytesMut) {
    match datum {
        Datum::Blob(bytes) => bulk(bytes, out),
        Datum::Number { value, bytes } => {
            let length = *bytes as usize;
            header(b'$', length, out);
            let end = out.len() + length;
            append(format_args!("{value}"), out);
            out.resize(end, b'.');
            out.put_slice(b"\r\n");
        }
    }
}

fn map_header(pairs: usize, protocol: Protocol, out: &mut BytesMut) {
    match protocol {
        Protocol::Resp2 => header(b'*', 2 * pairs, out),
        Protocol::Resp3 => header(b'%', pairs, out),
    }
}

fn null(resp2: &[u8], protocol: Protocol, out: &mut BytesMut) {
    match protocol {
        Protocol::Resp2 => out.put_slice(resp2),
        Protocol::Resp3 => out.put_slice(b"_\r\n"),
    }
}

pub(super) fn header(kind: u8, number: usize, out: &mut BytesMut) {
    line(kind, format_args!("{number}"), out);
}

pub(super) fn bulk(bytes: &[u8], out: &mut BytesMut) {
    header(b'$', bytes.len(), out);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

fn bulk_display(text: fmt::Arguments<'_>, out: &mut BytesMut) {
    let mut bytes = BytesMut::new();
    append(text, &mut bytes);
    bulk(&bytes, out);
}

/// A line of its own. Line ends within it would break the framing: they become blanks.
fn line(kind: u8, text: fmt::Arguments<'_>, out: &mut BytesMut) {
    out.put_u8(kind);
    let from = out.len();
    append(text, out);
    out[from..].iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
    out.put_slice(b"\r\n");
}

fn append(text: fmt::Arguments<'_>, out: &mut BytesMut) {
    out.write_fmt(text).expect("writing into memory does not fail");
}
