//! RESP, the protocol of Redis, Valkey and Pika, as data nodes, sentinels and their clients speak it.
//!
//! [`Resp`] is one connection. The side that was dialled reads commands (arrays of strings, or inline as people type
//! them) and writes replies in RESP2 or, after HELLO 3, in RESP3. The side that dials remembers its unanswered
//! commands, as the meaning of a reply depends on them, and reads both versions. After PSYNC a connection carries a
//! snapshot ([`rdb`]) and then the replication stream.
//!
//! Sources: the RESP2 and RESP3 specifications of the Redis documentation; the replication handshake and the texts of
//! INFO, ROLE and SENTINEL as Redis 7.0 and Valkey 9.1 send them.

pub mod command;
pub mod frame;
pub mod rdb;
pub mod reply;
pub mod table;
pub mod write;

use crate::driver::{BadInput, Codec, Side, Wire};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use firedrill_protocols::contract::System;
use firedrill_protocols::redis::message::{Message, Push, Reply, Snapshot};
use firedrill_protocols::redis::values::{Hex, ReplId};
use frame::{Frame, LINE_MAX, Scanner};
use reply::{Expected, Instances};
use std::collections::VecDeque;
use write::Protocol;

/// Keys of a snapshot that are handed over as one message.
const KEYS_PER_MESSAGE: usize = 128;

/// The codec of one RESP connection.
#[derive(Clone, Debug)]
pub struct Resp {
    side: Side,
    scanner: Scanner,
    /// Bytes of an unfinished inline command known to hold no line end.
    searched: usize,
    protocol: Protocol,
    /// Channels and patterns the connection listens to, as far as its pushes told.
    subscriptions: u32,
    /// The commands without a reply yet, oldest first, by the form their reply has.
    unanswered: VecDeque<Expected>,
    link: Link,
    writer: rdb::Writer,
    reader: rdb::Reader,
}

/// What a connection has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// Commands and replies.
    None,
    /// We wait for the header of a snapshot.
    Header,
    /// A snapshot is coming, with the mark that ends it; none if it ends by itself.
    Snapshot(Option<ReplId>),
    /// The snapshot is over but for its mark.
    Mark(ReplId),
    /// The replication stream.
    Stream,
}

impl Resp {
    /// A new connection.
    pub fn new(side: Side) -> Self {
        Resp {
            side,
            scanner: Scanner::new(side == Side::Dialled),
            searched: 0,
            protocol: Protocol::default(),
            subscriptions: 0,
            unanswered: VecDeque::new(),
            link: Link::None,
            writer: rdb::Writer::default(),
            reader: rdb::Reader::default(),
        }
    }

    /// Version of the protocol that we write.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    // --------------------------------------------------------------------------------------------------- writing

    fn write(&mut self, message: &Message, out: &mut BytesMut) {
        match message {
            Message::Command(command) => {
                write::command(command, out);
                if self.side == Side::Dialled && self.link == Link::None {
                    self.unanswered.extend(reply::expected(command));
                }
            }
            Message::Reply(reply) => self.write_reply(reply, out),
            Message::Push(push) => {
                if let Push::Subscribed { count, .. } | Push::Unsubscribed { count, .. } = push {
                    self.subscriptions = *count;
                }
                write::push(push, self.protocol, out);
            }
            Message::Snapshot(piece) => self.write_snapshot(piece, out),
            Message::Stream { command, .. } => write::command(command, out),
        }
    }

    fn write_reply(&mut self, reply: &Reply, out: &mut BytesMut) {
        // On the accepting side, too, the form of a reply may depend on its command.
        let asked = self.unanswered.pop_front();
        if let Some(Expected::Commands(asked)) = asked {
            return table::write(asked, out);
        }
        if let Reply::Hello(server) = reply {
            self.protocol = if server.protocol >= 3 { Protocol::Resp3 } else { Protocol::Resp2 };
        }
        let subscribed = self.subscriptions > 0 && self.protocol == Protocol::Resp2;
        match reply {
            Reply::Instances(list) if asked == Some(Expected::Instances(Instances::OnePrimary)) => {
                list.iter().for_each(|instance| write::instance(instance, self.protocol, out));
            }
            Reply::Pong if subscribed => write::subscribed_pong(out),
            _ => write::reply(reply, self.protocol, out),
        }
    }

    fn write_snapshot(&mut self, piece: &Snapshot, out: &mut BytesMut) {
        match piece {
            Snapshot::KeepAlive => out.put_u8(b'\n'),
            Snapshot::Begin { mark } => {
                out.put_slice(format!("$EOF:{}\r\n", mark.0).as_bytes());
                self.writer.begin(out);
            }
            Snapshot::Keys(keys) => {
                keys.iter().for_each(|(key, stored)| self.writer.key(key, stored, out));
            }
            Snapshot::End { mark } => {
                self.writer.end(out);
                out.put_slice(mark.0.to_string().as_bytes());
            }
        }
    }

    // --------------------------------------------------------------------------------------------------- reading

    fn read(&mut self, input: &mut BytesMut) -> Result<Option<Message>, BadInput> {
        match (self.side, self.link) {
            (Side::Accepted, _) => self.read_command(input),
            (Side::Dialled, Link::None) => self.read_reply(input),
            (Side::Dialled, Link::Header) => self.read_snapshot_header(input),
            (Side::Dialled, Link::Snapshot(mark)) => self.read_snapshot(mark, input),
            (Side::Dialled, Link::Mark(mark)) => self.read_mark(mark, input),
            (Side::Dialled, Link::Stream) => self.read_stream(input),
        }
    }

    fn read_command(&mut self, input: &mut BytesMut) -> Result<Option<Message>, BadInput> {
        loop {
            let words = match input.first() {
                None => return Ok(None),
                Some(b'*') => self.scanner.next(input)?.map(|(frame, _)| words_of(frame)).transpose()?,
                Some(_) => self.inline(input)?,
            };
            match words {
                None => return Ok(None),
                // An empty line, or an array of nothing: people press Enter.
                Some(words) if words.is_empty() => {}
                Some(words) => {
                    let command = command::parse(&words);
                    let table = table::asked(&words).map(Expected::Commands);
                    self.unanswered.extend(table.or_else(|| reply::expected(&command)));
                    return Ok(Some(Message::Command(command)));
                }
            }
        }
    }

    /// A command as people type it.
    fn inline(&mut self, input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, BadInput> {
        match input[self.searched..].iter().position(|&byte| byte == b'\n') {
            None if input.len() > LINE_MAX => Err(BadInput("too big inline request")),
            None => {
                self.searched = input.len();
                Ok(None)
            }
            Some(place) => {
                let line = input.split_to(self.searched + place + 1);
                self.searched = 0;
                command::inline_words(&line).map(Some).ok_or(BadInput("unbalanced quotes in request"))
            }
        }
    }

    fn read_reply(&mut self, input: &mut BytesMut) -> Result<Option<Message>, BadInput> {
        // While a primary prepares a snapshot it sends line ends before the reply to PSYNC.
        if input.first() == Some(&b'\n') {
            input.advance(1);
            return Ok(Some(Message::Snapshot(Snapshot::KeepAlive)));
        }
        let (frame, first) = loop {
            let first = input.first().copied();
            let Some((frame, _)) = self.scanner.next(input)? else { return Ok(None) };
            match reply::push(&frame) {
                Some(push) => return Ok(Some(Message::Push(push))),
                // Pushes that we did not ask for mean nothing to us.
                None if first == Some(b'>') => {}
                None => break (frame, first),
            }
        };
        let is_array = first == Some(b'*');
        let expected = self.unanswered.pop_front().ok_or(BadInput("a reply that nobody asked for"))?;
        let reply = reply::reply(&frame, is_array, expected);
        match reply {
            Reply::FullResync { .. } => self.link = Link::Header,
            Reply::Continue(_) => self.link = Link::Stream,
            _ => {}
        }
        Ok(Some(Message::Reply(reply)))
    }

    /// `$EOF:` and a mark, or `$` and a length; line ends before it keep the link alive.
    fn read_snapshot_header(&mut self, input: &mut BytesMut) -> Result<Option<Message>, BadInput> {
        if input.first() == Some(&b'\n') {
            input.advance(1);
            return Ok(Some(Message::Snapshot(Snapshot::KeepAlive)));
        }
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
            return if input.len() > 64 { Err(BadInput("snapshot without a header")) } else { Ok(None) };
        };
        let line = input.split_to(end + 1);
        let line = line.strip_suffix(b"\r\n").ok_or(BadInput("snapshot header without its line end"))?;
        let mark = match line.strip_prefix(b"$EOF:") {
            Some(mark) => Some(ReplId(Hex::parse(mark).ok_or(BadInput("snapshot mark"))?)),
            None if line.starts_with(b"$") && line[1..].iter().all(u8::is_ascii_digit) => None,
            None => return Err(BadInput("snapshot header")),
        };
        self.link = Link::Snapshot(mark);
        self.reader = rdb::Reader::default();
        Ok(Some(Message::Snapshot(Snapshot::Begin { mark: mark.unwrap_or_default() })))
    }

    fn read_snapshot(
        &mut self,
        mark: Option<ReplId>,
        input: &mut BytesMut,
    ) -> Result<Option<Message>, BadInput> {
        let mut keys = Vec::new();
        while keys.len() < KEYS_PER_MESSAGE {
            match self.reader.next(input)? {
                Some(rdb::Entry::Key(key, stored)) => keys.push((key, stored)),
                Some(rdb::Entry::Skipped) => {}
                Some(rdb::Entry::End) => {
                    self.link = Link::Mark(mark.unwrap_or_default());
                    break;
                }
                None => break,
            }
        }
        if !keys.is_empty() {
            return Ok(Some(Message::Snapshot(Snapshot::Keys(keys.into()))));
        }
        match self.link {
            Link::Mark(mark) => self.read_mark(mark, input),
            _ => Ok(None),
        }
    }

    /// The mark behind a snapshot; there is none (and the mark is zero) if the snapshot came with its length.
    fn read_mark(&mut self, mark: ReplId, input: &mut BytesMut) -> Result<Option<Message>, BadInput> {
        if mark != ReplId::default() {
            let expected = mark.0.to_string();
            if input.len() < expected.len() {
                return Ok(None);
            }
            if input.split_to(expected.len()) != expected.as_bytes() {
                return Err(BadInput("snapshot ends without its mark"));
            }
        }
        self.link = Link::Stream;
        Ok(Some(Message::Snapshot(Snapshot::End { mark })))
    }

    fn read_stream(&mut self, input: &mut BytesMut) -> Result<Option<Message>, BadInput> {
        while input.first() == Some(&b'\n') {
            input.advance(1);
        }
        let Some((frame, bytes)) = self.scanner.next(input)? else { return Ok(None) };
        let command = command::parse(&words_of(frame)?);
        let bytes = u32::try_from(bytes.len()).map_err(|_| BadInput("command too long"))?;
        Ok(Some(Message::Stream { command, bytes }))
    }
}

/// The strings of a command.
fn words_of(frame: Frame) -> Result<Vec<Bytes>, BadInput> {
    let elements = match frame {
        Frame::Array(elements) => elements,
        Frame::Null => return Ok(Vec::new()),
        _ => return Err(BadInput("a command is an array")),
    };
    let word = |element| match element {
        Frame::BulkString(bytes) => Ok(bytes),
        _ => Err(BadInput("expected '$' before each word")),
    };
    elements.into_iter().map(word).collect()
}

impl<S: System<Message = Message>> Codec<S> for Resp {
    fn encode(&mut self, message: Message, out: &mut BytesMut) {
        self.write(&message, out);
    }

    fn decode(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Message>, BadInput> {
        let message = self.read(input);
        if let (Err(error), Side::Accepted) = (&message, self.side) {
            out.put_slice(format!("-ERR Protocol error: {}\r\n", error.0).as_bytes());
        }
        message
    }
}

/// All sessions of a system speak RESP.
#[derive(Clone, Copy, Debug, Default)]
pub struct RespWire;

impl<S: System<Message = Message>> Wire<S> for RespWire {
    fn codec(&self, _kind: S::Kind, side: Side) -> Box<dyn Codec<S>> {
        Box::new(Resp::new(side))
    }
}
