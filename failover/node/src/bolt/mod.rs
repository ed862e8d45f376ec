//! Bolt 5.2, both sides of it, for the system `memgraph`; and 4.4 and 4.3 for clients that propose nothing newer.
//!
//! A connection begins with a handshake; then messages, each a PackStream structure in chunks. Pipelined pairs that
//! belong together are one message to a node: HELLO with LOGON (from 5.1 on: before that HELLO carries the credentials),
//! RUN with PULL. HELLO is answered here, LOGON by the node; so is RUN, and its result waits here until it is pulled.
//! After a FAILURE everything is answered IGNORED until RESET.

mod http;
pub mod packstream;
mod query;

use crate::driver::{BadInput, Codec, Framed, Side, Wire};
use bytes::{Buf, BufMut, BytesMut};
use firedrill_protocols::memgraph::message::{Answer, Bolt, Code, Message, Table, Why};
use firedrill_protocols::memgraph::state::Address;
use firedrill_protocols::memgraph::{Kind, Memgraph};
use http::Http;
use packstream::Value;
use std::collections::VecDeque;
use std::sync::Arc;

/// The wire of the system: Bolt for clients, and frames of our own where the real exchange has no public form.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemgraphWire;

impl Wire<Memgraph> for MemgraphWire {
    fn codec(&self, kind: Kind, side: Side) -> Box<dyn Codec<Memgraph>> {
        match (kind, side) {
            (Kind::Bolt, Side::Accepted) => Box::new(Server::default()),
            (Kind::Bolt, Side::Dialled) => Box::new(Client::default()),
            (Kind::Metrics, side) => Box::new(Http::new(side)),
            (Kind::Management | Kind::Replication | Kind::Coordinator, _) => {
                Box::new(Framed::<Message>::default())
            }
        }
    }
}

const MAGIC: [u8; 4] = [0x60, 0x60, 0xb0, 0x17];
/// 5.2, as the four bytes of an answer.
const VERSION: [u8; 4] = [0, 0, 2, 5];
/// What a server speaks, the newest first. Memgraph knows 1.0, 4.0 and 4.1 too, in which nobody asks for a table.
const VERSIONS: [[u8; 4]; 3] = [VERSION, [0, 0, 4, 4], [0, 0, 3, 4]];
/// Largest message in all its chunks.
const MESSAGE_MAX: usize = 16 << 20;
const CHUNK_MAX: usize = 0xffff;

mod tag {
    pub(super) const HELLO: u8 = 0x01;
    pub(super) const GOODBYE: u8 = 0x02;
    pub(super) const RESET: u8 = 0x0f;
    pub(super) const RUN: u8 = 0x10;
    pub(super) const BEGIN: u8 = 0x11;
    pub(super) const COMMIT: u8 = 0x12;
    pub(super) const ROLLBACK: u8 = 0x13;
    pub(super) const DISCARD: u8 = 0x2f;
    pub(super) const PULL: u8 = 0x3f;
    pub(super) const ROUTE: u8 = 0x66;
    pub(super) const LOGON: u8 = 0x6a;
    pub(super) const LOGOFF: u8 = 0x6b;
    pub(super) const SUCCESS: u8 = 0x70;
    pub(super) const RECORD: u8 = 0x71;
    pub(super) const IGNORED: u8 = 0x7e;
    pub(super) const FAILURE: u8 = 0x7f;
}

// ------------------------------------------------------------------------------------------------------- framing

/// Writes a message in chunks.
fn write_message(tag: u8, fields: Vec<Value>, out: &mut BytesMut) {
    let mut body = BytesMut::new();
    Value::Struct(tag, fields).write(&mut body);
    for chunk in body.chunks(CHUNK_MAX) {
        out.put_u16(chunk.len() as u16);
        out.put_slice(chunk);
    }
    out.put_u16(0);
}

/// Takes the next whole message off the input: its tag and fields. Empty chunks between messages are keep-alives.
fn read_message(input: &mut BytesMut) -> Result<Option<(u8, Vec<Value>)>, BadInput> {
    while input.first_chunk::<2>() == Some(&[0, 0]) {
        input.advance(2);
    }
    let Some(end) = end_of_message(input)? else { return Ok(None) };
    let mut framed = input.split_to(end);
    let mut body = Vec::with_capacity(end);
    loop {
        let size = usize::from(framed.get_u16());
        if size == 0 {
            break;
        }
        body.extend_from_slice(&framed.split_to(size));
    }
    match Value::read(&body)? {
        Value::Struct(tag, fields) => Ok(Some((tag, fields))),
        _ => Err(BadInput("a message is a structure")),
    }
}

/// Where the message that the input begins with ends, its end marker included.
fn end_of_message(input: &[u8]) -> Result<Option<usize>, BadInput> {
    let mut at = 0;
    loop {
        let Some(header) = input.get(at..at + 2) else { return Ok(None) };
        let size = usize::from(u16::from_be_bytes([header[0], header[1]]));
        at += 2 + size;
        if at > MESSAGE_MAX {
            return Err(BadInput("a message is larger than the bound"));
        }
        if size == 0 {
            return Ok(Some(at));
        }
    }
}

fn empty() -> Value {
    Value::Map(Vec::new())
}

// -------------------------------------------------------------------------------------------------------- server

/// What an answer of the node will be the answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Logon,
    /// HELLO with credentials, before 5.1.
    Hello,
    Route,
    /// The result is wanted already, or not yet, or not at all.
    Run(Option<Wanted>),
    Other,
}

/// What becomes of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Pulled,
    Discarded,
}

/// A result that nobody has asked for yet: its records, and what ends it.
#[derive(Debug)]
struct Held {
    records: BytesMut,
    end: BytesMut,
}

impl Held {
    fn write(&self, wanted: Wanted, out: &mut BytesMut) {
        if wanted == Wanted::Pulled {
            out.put_slice(&self.records);
        }
        out.put_slice(&self.end);
    }
}

/// The side that a client dialled.
#[derive(Debug, Default)]
struct Server {
    /// The version agreed on; none before the handshake.
    version: Option<[u8; 4]>,
    /// Requests that the node has not answered.
    asked: VecDeque<Asked>,
    /// The result of a RUN whose PULL is still to come.
    held: Option<Held>,
    failed: bool,
    /// Of which database a table was asked: drivers file it under the name that the answer repeats.
    database: Option<String>,
    /// GOODBYE was said: the client closes, and nothing more is read.
    over: bool,
}

impl Server {
    /// The handshake: four proposals of a version, the dearest first, each perhaps a range downwards; one of ours must
    /// be among them.
    fn greet(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<bool, BadInput> {
        let Some(hello) = input.first_chunk::<20>().copied() else { return Ok(false) };
        if hello[..4] != MAGIC {
            return Err(BadInput("this is not Bolt"));
        }
        input.advance(20);
        let newest = |offer: &[u8]| {
            let (range, minor, major) = (offer[1], offer[2], offer[3]);
            let offered = |version: &[u8; 4]| {
                major == version[3] && (minor.saturating_sub(range)..=minor).contains(&version[2])
            };
            VERSIONS.iter().copied().find(offered)
        };
        let Some(version) = hello[4..].chunks_exact(4).find_map(newest) else {
            out.put_u32(0);
            return Err(BadInput("no common version of Bolt"));
        };
        out.put_slice(&version);
        self.version = Some(version);
        Ok(true)
    }

    /// One message of the client: what the node is asked, or nothing if it is answered here.
    fn ask(
        &mut self,
        tag: u8,
        fields: &[Value],
        out: &mut BytesMut,
    ) -> Result<Option<(Asked, Bolt)>, BadInput> {
        if self.failed && tag != tag::RESET && tag != tag::GOODBYE {
            write_message(tag::IGNORED, vec![], out);
            return Ok(None);
        }
        Ok(match tag {
            tag::HELLO if self.version == Some(VERSION) => {
                write_message(tag::SUCCESS, vec![about_server()], out);
                None
            }
            tag::HELLO => Some((Asked::Hello, Bolt::Hello)),
            tag::LOGON => Some((Asked::Logon, Bolt::Hello)),
            tag::LOGOFF => {
                write_message(tag::SUCCESS, vec![empty()], out);
                None
            }
            tag::GOODBYE => {
                self.over = true;
                None
            }
            tag::RESET => {
                self.failed = false;
                self.held = None;
                Some((Asked::Other, Bolt::Reset))
            }
            tag::ROLLBACK => Some((Asked::Other, Bolt::Reset)),
            tag::COMMIT => Some((Asked::Other, Bolt::Commit)),
            tag::ROUTE => {
                let database = fields.get(2).and_then(|extra| extra.get("db").or(Some(extra)));
                self.database = database.and_then(Value::as_text).map(str::to_owned);
                Some((Asked::Route, Bolt::Route))
            }
            tag::BEGIN => {
                let mode = fields.first().and_then(|extra| extra.get("mode")).and_then(Value::as_text);
                Some((Asked::Other, Bolt::Begin { read: mode == Some("r") }))
            }
            tag::RUN => {
                let text = fields.first().and_then(Value::as_text).ok_or(BadInput("RUN without a query"))?;
                let query = query::parse(text, fields.get(1).unwrap_or(&Value::Null));
                self.held = None;
                Some((Asked::Run(None), Bolt::Run(query)))
            }
            tag::PULL | tag::DISCARD => {
                let wanted = if tag == tag::PULL { Wanted::Pulled } else { Wanted::Discarded };
                self.want(wanted, out)?;
                None
            }
            _ => return Err(BadInput("unknown message")),
        })
    }

    /// The client wants the result of its last RUN: it is here, or comes with the node's answer.
    fn want(&mut self, wanted: Wanted, out: &mut BytesMut) -> Result<(), BadInput> {
        if let Some(held) = self.held.take() {
            held.write(wanted, out);
            return Ok(());
        }
        match self.asked.back_mut() {
            Some(Asked::Run(asked @ None)) => {
                *asked = Some(wanted);
                Ok(())
            }
            _ => Err(BadInput("PULL without RUN")),
        }
    }

    /// Answers a RUN: the names of the columns now, the rest when it is wanted.
    fn answer_run(
        &mut self,
        columns: &[&str],
        record: Option<Value>,
        end: Value,
        wanted: Option<Wanted>,
        out: &mut BytesMut,
    ) {
        let columns = columns.iter().map(|name| Value::text(name)).collect();
        write_message(tag::SUCCESS, vec![Value::map([("fields", Value::List(columns))])], out);
        let mut held = Held { records: BytesMut::new(), end: BytesMut::new() };
        if let Some(record) = record {
            write_message(tag::RECORD, vec![record], &mut held.records);
        }
        write_message(tag::SUCCESS, vec![end], &mut held.end);
        match wanted {
            Some(wanted) => held.write(wanted, out),
            None => self.held = Some(held),
        }
    }

    /// Answers with a failure: from now on everything is ignored.
    fn answer_failure(&mut self, asked: Asked, code: Code, why: Why, out: &mut BytesMut) {
        self.failed = true;
        let (code, text) = query::failure(code, why);
        let failure = Value::map([("code", Value::text(code)), ("message", Value::Text(text))]);
        write_message(tag::FAILURE, vec![failure], out);
        if matches!(asked, Asked::Run(Some(_))) {
            write_message(tag::IGNORED, vec![], out);
        }
    }
}

/// What a server says of itself.
fn about_server() -> Value {
    Value::map([("server", Value::text("Firedrill/5.2")), ("connection_id", Value::text("bolt-1"))])
}

impl Codec<Memgraph> for Server {
    fn decode(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Message>, BadInput> {
        if self.over || self.version.is_none() && !self.greet(input, out)? {
            return Ok(None);
        }
        while let Some((tag, fields)) = read_message(input)? {
            if let Some((asked, bolt)) = self.ask(tag, &fields, out)? {
                self.asked.push_back(asked);
                return Ok(Some(Message::Bolt(bolt)));
            }
        }
        Ok(None)
    }

    fn encode(&mut self, message: Message, out: &mut BytesMut) {
        let (Message::Answer(answer), Some(asked)) = (message, self.asked.pop_front()) else { return };
        if let Answer::Failure { code, why } = answer {
            return self.answer_failure(asked, code, why, out);
        }
        match asked {
            Asked::Run(wanted) => {
                let (columns, record, end) = result_of(answer);
                self.answer_run(columns, record, end, wanted, out);
            }
            Asked::Hello => write_message(tag::SUCCESS, vec![about_server()], out),
            Asked::Logon | Asked::Route | Asked::Other => {
                let said = match answer {
                    Answer::Table(table) => {
                        Value::map([("rt", table_value(&table, self.database.as_deref()))])
                    }
                    answer => result_of(answer).2,
                };
                write_message(tag::SUCCESS, vec![said], out);
            }
        }
    }
}

/// An answer as a result: its columns, its record, and what its end says.
fn result_of(answer: Answer) -> (&'static [&'static str], Option<Value>, Value) {
    let int = |value: u64| Value::Int(value as i64);
    let list = |values: &[u64]| Value::List(values.iter().copied().map(int).collect());
    match answer {
        Answer::Success { warning: true } => {
            let note = Value::map([("code", Value::text(query::SYNC_WARNING))]);
            (&[], None, Value::map([("notifications", Value::List(vec![note]))]))
        }
        Answer::Success { warning: false } | Answer::Table(_) | Answer::Failure { .. } => {
            (&[], None, empty())
        }
        Answer::Value(value) => {
            let record = Value::List(vec![value.map_or(Value::Null, int), Value::Null]);
            (&query::COLUMNS, Some(record), empty())
        }
        Answer::List(values) => {
            (&query::COLUMNS, Some(Value::List(vec![Value::Null, list(&values)])), empty())
        }
        Answer::Audit { items, accounts } => {
            let account = |(id, balance): &(u64, u64)| list(&[*id, *balance]);
            let accounts = Value::List(accounts.iter().map(account).collect());
            (&["items", "accounts"], Some(Value::List(vec![list(&items), accounts])), empty())
        }
        Answer::Text(text) => (&["text"], Some(Value::List(vec![Value::Text(text)])), empty()),
    }
}

/// Tables live for 300 s, always.
fn table_value(table: &Table, database: Option<&str>) -> Value {
    let list = |servers: &[Address], role| {
        let addresses = servers.iter().map(|a| Value::Text(format!("{}:{}", a.host, a.port))).collect();
        Value::map([("addresses", Value::List(addresses)), ("role", Value::text(role))])
    };
    let lists = [(&table.writers, "WRITE"), (&table.readers, "READ"), (&table.routers, "ROUTE")];
    let servers = lists.iter().filter(|(servers, _)| !servers.is_empty());
    let servers = servers.map(|(servers, role)| list(servers, role)).collect();
    Value::map([
        ("ttl", Value::Int(300)),
        ("db", database.map_or(Value::Null, Value::text)),
        ("servers", Value::List(servers)),
    ])
}

fn table_of(value: &Value) -> Table {
    let mut table = Table::default();
    for list in value.get("servers").and_then(Value::as_list).unwrap_or(&[]) {
        let addresses = list.get("addresses").and_then(Value::as_list).unwrap_or(&[]);
        let addresses = addresses.iter().filter_map(Value::as_text).filter_map(address_of);
        match list.get("role").and_then(Value::as_text) {
            Some("WRITE") => table.writers = addresses.collect(),
            Some("READ") => table.readers = addresses.collect(),
            Some("ROUTE") => table.routers = addresses.collect(),
            _ => {}
        }
    }
    table
}

fn address_of(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    Some(Address::new(host, port.parse().ok()?))
}

// -------------------------------------------------------------------------------------------------------- client

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    /// HELLO and LOGON.
    Greeting,
    Route,
    /// RUN and PULL.
    Run,
    Other,
}

/// The side that dialled.
#[derive(Debug, Default)]
struct Client {
    greeted: bool,
    versioned: bool,
    awaits: VecDeque<Awaits>,
    /// The first half of the present pair has been answered.
    half: bool,
    /// What the RECORD said.
    record: Option<Answer>,
    /// The failure of the first half; its second half is IGNORED.
    failure: Option<Answer>,
}

impl Client {
    /// One message of the server; an answer, if it is the last for its request.
    fn hear(&mut self, tag: u8, fields: &[Value]) -> Result<Option<Answer>, BadInput> {
        let awaits = *self.awaits.front().ok_or(BadInput("an answer to nothing"))?;
        let pair = matches!(awaits, Awaits::Greeting | Awaits::Run);
        let first = fields.first().unwrap_or(&Value::Null);
        match tag {
            tag::RECORD => {
                self.record = first.as_list().map(answer_of);
                return Ok(None);
            }
            tag::FAILURE => {
                let text = |key| first.get(key).and_then(Value::as_text).unwrap_or_default();
                let (code, why) = query::failure_of(text("code"), text("message"));
                self.failure = Some(Answer::Failure { code, why });
            }
            tag::SUCCESS | tag::IGNORED => {}
            _ => return Err(BadInput("unknown answer")),
        }
        if pair && !self.half {
            self.half = true;
            return Ok(None);
        }
        self.half = false;
        self.awaits.pop_front();
        let plain = match first.get("rt") {
            Some(table) if awaits == Awaits::Route => Answer::Table(table_of(table)),
            _ => Answer::Success { warning: first.get("notifications").is_some() },
        };
        let record = self.record.take();
        Ok(Some(self.failure.take().or(record).unwrap_or(plain)))
    }
}

/// What a record says: a text, an audit, or a value and a list of which at most one is there.
fn answer_of(record: &[Value]) -> Answer {
    let number = |value: &Value| value.as_int().map_or(0, |int| int as u64);
    let numbers = |list: &[Value]| Arc::from(list.iter().map(number).collect::<Vec<_>>());
    match record {
        [Value::Text(text), ..] => Answer::Text(text.clone()),
        [Value::List(items), Value::List(accounts)] => {
            let account = |pair: &Value| match pair {
                Value::List(pair) if pair.len() == 2 => (number(&pair[0]), number(&pair[1])),
                _ => (0, 0),
            };
            Answer::Audit { items: numbers(items), accounts: accounts.iter().map(account).collect() }
        }
        [_, Value::List(list)] => Answer::List(numbers(list)),
        [Value::Int(int), ..] => Answer::Value(Some(*int as u64)),
        _ => Answer::Value(None),
    }
}

impl Codec<Memgraph> for Client {
    fn encode(&mut self, message: Message, out: &mut BytesMut) {
        let Message::Bolt(bolt) = message else { return };
        if !self.greeted {
            self.greeted = true;
            out.put_slice(&MAGIC);
            out.put_slice(&VERSION);
            out.put_slice(&[0; 12]);
        }
        let awaits = match bolt {
            Bolt::Hello => {
                let agent = Value::map([("user_agent", Value::text("firedrill"))]);
                write_message(tag::HELLO, vec![agent], out);
                write_message(tag::LOGON, vec![empty()], out);
                Awaits::Greeting
            }
            Bolt::Route => {
                let database = Value::map([("db", Value::text("memgraph"))]);
                write_message(tag::ROUTE, vec![empty(), Value::List(vec![]), database], out);
                Awaits::Route
            }
            Bolt::Begin { read } => {
                let mode = if read { Value::map([("mode", Value::text("r"))]) } else { empty() };
                write_message(tag::BEGIN, vec![mode], out);
                Awaits::Other
            }
            Bolt::Run(query) => {
                let (text, parameters) = query::write(&query);
                write_message(tag::RUN, vec![Value::Text(text), parameters, empty()], out);
                write_message(tag::PULL, vec![Value::map([("n", Value::Int(1000))])], out);
                Awaits::Run
            }
            Bolt::Commit => {
                write_message(tag::COMMIT, vec![], out);
                Awaits::Other
            }
            Bolt::Reset => {
                write_message(tag::RESET, vec![], out);
                Awaits::Other
            }
        };
        self.awaits.push_back(awaits);
    }

    fn decode(&mut self, input: &mut BytesMut, _out: &mut BytesMut) -> Result<Option<Message>, BadInput> {
        if !self.versioned {
            let Some(version) = input.first_chunk::<4>().copied() else { return Ok(None) };
            if version != VERSION {
                return Err(BadInput("the server does not speak Bolt 5.2"));
            }
            input.advance(4);
            self.versioned = true;
        }
        while let Some((tag, fields)) = read_message(input)? {
            if let Some(answer) = self.hear(tag, &fields)? {
                return Ok(Some(Message::Answer(answer)));
            }
        }
        Ok(None)
    }
}
