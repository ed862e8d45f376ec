//! The exchanges of RESP connections, typed: what a data node, a sentinel and their clients say to each other, with
//! only the fields that the real commands and replies have.
//!
//! A connection carries [`Message::Command`]s one way and [`Message::Reply`]s the other, in order; a subscriber gets
//! [`Message::Push`]es between them. After PSYNC the connection is a replication link: the primary sends
//! [`Message::Snapshot`] pieces and [`Message::Stream`] entries, the replica only `REPLCONF ACK`.
//!
//! The names in this file are ours; [`Command::each_word`] and the `Display` forms say how each is spelled on the wire.

use super::admin::{ClusterCommand, Replconf, SentinelCommand};
use super::data::Data;
use super::elements::Elements;
use super::info::{Info, RoleReport};
use super::instances::InstanceReport;
use super::values::{Addr, Datum, Key, Offset, ReplId, RunId, digits, ip_len};
use super::words::{Size, Words, bulk, formatted_len, header, millis, texts, when};
use crate::contract::Duration;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// One exchange on a RESP connection.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum Message {
    /// Client to server.
    Command(Command),
    /// Server to client, in the order of the commands.
    Reply(Reply),
    /// Server to subscriber, unasked.
    Push(Push),
    /// Primary to replica, after FULLRESYNC: a piece of the data set.
    Snapshot(Snapshot),
    /// Primary to replica: an entry of the replication stream.
    Stream {
        /// What to execute.
        command: Command,
        /// Bytes it took on the wire, which is what offsets count. A peer may spell a command other than we would.
        bytes: u32,
    },
}

impl Message {
    /// A stream entry as we spell it.
    pub fn stream(command: Command) -> Message {
        let bytes = command.wire_size() as u32;
        Message::Stream { command, bytes }
    }

    /// Bytes on the wire (RESP2).
    pub fn wire_size(&self) -> usize {
        match self {
            Message::Command(command) => command.wire_size(),
            Message::Reply(reply) => reply.wire_size(),
            Message::Push(push) => push.wire_size(),
            Message::Snapshot(piece) => piece.wire_size(),
            Message::Stream { bytes, .. } => *bytes as usize,
        }
    }
}

impl From<Command> for Message {
    fn from(command: Command) -> Message {
        Message::Command(command)
    }
}

impl From<Reply> for Message {
    fn from(reply: Reply) -> Message {
        Message::Reply(reply)
    }
}

/// A command.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum Command {
    /// Reads or changes keys.
    Data(Data),
    /// PING. Also an entry of the replication stream.
    Ping,
    /// HELLO with the protocol version, or without.
    Hello(Option<u8>),
    /// CLIENT SETNAME, which sentinels send on each link.
    ClientSetName(Arc<[u8]>),
    /// CLIENT CAPA redirect: the client follows [`Error::Redirect`] (Valkey 8.0).
    ClientCapaRedirect,
    /// CLIENT KILL TYPE: ends connections.
    ClientKill(ClientType),
    /// CLIENT PAUSE .. WRITE: writes wait.
    ClientPause(Duration),
    /// CLIENT UNPAUSE.
    ClientUnpause,
    /// CONFIG REWRITE: the role as it is now survives a restart.
    ConfigRewrite,
    /// INFO, all of its sections.
    Info,
    /// ROLE.
    Role,
    /// MULTI: what follows is queued.
    Multi,
    /// EXEC: the queue is executed in one go.
    Exec,
    /// DISCARD.
    Discard,
    /// SUBSCRIBE.
    Subscribe(Vec<Channel>),
    /// PSUBSCRIBE.
    PatternSubscribe(Vec<Arc<[u8]>>),
    /// UNSUBSCRIBE from all.
    Unsubscribe,
    /// PUBLISH. Also an entry of the replication stream.
    Publish {
        /// Where.
        channel: Channel,
        /// What.
        payload: Payload,
    },
    /// SLAVEOF / REPLICAOF: follow that node, or none.
    ReplicaOf(Option<Addr>),
    /// REPLCONF.
    Replconf(Replconf),
    /// PSYNC.
    Psync {
        /// The history and its first byte that is missing (own offset + 1); `None` for `? -1`.
        from: Option<(ReplId, Offset)>,
        /// The FAILOVER word: take over from me.
        failover: bool,
    },
    /// WAIT: block until so many replicas have what this connection wrote.
    Wait {
        /// How many.
        replicas: u32,
        /// Or until this passed; zero for ever.
        timeout: Duration,
    },
    /// FAILOVER, the primary's own command.
    Failover {
        /// The replica that shall take over; any if none.
        to: Option<Addr>,
        /// Take over although it has not everything when the timeout passed.
        force: bool,
        /// Give up after; zero for never.
        timeout: Duration,
        /// Stop one that is under way.
        abort: bool,
    },
    /// SELECT of a database; the replication stream begins with it.
    Select(u32),
    /// SHUTDOWN.
    Shutdown(Shutdown),
    /// To a sentinel.
    Sentinel(SentinelCommand),
    /// To a cluster node.
    Cluster(ClusterCommand),
    /// MIGRATE: copy these keys to that node, and drop them here.
    Migrate {
        /// Whereto.
        to: Addr,
        /// Which keys.
        keys: Vec<Key>,
        /// How long it may take.
        timeout: Duration,
    },
    /// ASKING: the next command may enter a slot that is being imported.
    Asking,
    /// READONLY: this connection may read on a cluster replica.
    ReadOnly,
    /// READWRITE: takes READONLY back.
    ReadWrite,
    /// RESET: as a new connection.
    Reset,
    /// QUIT.
    Quit,
    /// Words we have no name for; only real clients send them.
    Other(Vec<Arc<[u8]>>),
}

impl Command {
    /// The words of this command on the wire, in order.
    pub fn each_word(&self, out: &mut impl Words) {
        texts(out, self.name());
        self.arguments(out);
    }

    /// The words that every form of a command begins with; none where its family names them itself.
    fn name(&self) -> &'static [&'static [u8]] {
        match self {
            Command::Data(_)
            | Command::Replconf(_)
            | Command::Shutdown(_)
            | Command::Sentinel(_)
            | Command::Cluster(_)
            | Command::Other(_) => &[],
            // The connection.
            Command::Ping => &[b"PING"],
            Command::Hello(_) => &[b"HELLO"],
            Command::ClientSetName(_) => &[b"CLIENT", b"SETNAME"],
            Command::ClientCapaRedirect => &[b"CLIENT", b"CAPA", b"redirect"],
            Command::Select(_) => &[b"SELECT"],
            Command::Asking => &[b"ASKING"],
            Command::ReadOnly => &[b"READONLY"],
            Command::ReadWrite => &[b"READWRITE"],
            Command::Reset => &[b"RESET"],
            Command::Quit => &[b"QUIT"],
            // Transactions and publishing.
            Command::Multi => &[b"MULTI"],
            Command::Exec => &[b"EXEC"],
            Command::Discard => &[b"DISCARD"],
            Command::Subscribe(_) => &[b"SUBSCRIBE"],
            Command::PatternSubscribe(_) => &[b"PSUBSCRIBE"],
            Command::Unsubscribe => &[b"UNSUBSCRIBE"],
            Command::Publish { .. } => &[b"PUBLISH"],
            // The server and its other connections.
            Command::Info => &[b"INFO"],
            Command::Role => &[b"ROLE"],
            Command::ClientKill(_) => &[b"CLIENT", b"KILL", b"TYPE"],
            Command::ClientPause(_) => &[b"CLIENT", b"PAUSE"],
            Command::ClientUnpause => &[b"CLIENT", b"UNPAUSE"],
            Command::ConfigRewrite => &[b"CONFIG", b"REWRITE"],
            // Replication.
            Command::ReplicaOf(_) => &[b"SLAVEOF"],
            Command::Psync { .. } => &[b"PSYNC"],
            Command::Wait { .. } => &[b"WAIT"],
            Command::Failover { .. } => &[b"FAILOVER"],
            Command::Migrate { .. } => &[b"MIGRATE"],
        }
    }

    /// The words after the name.
    fn arguments(&self, out: &mut impl Words) {
        match self {
            Command::Data(data) => data.each_word(out),
            Command::Replconf(replconf) => replconf.each_word(out),
            Command::Shutdown(how) => how.each_word(out),
            Command::Sentinel(command) => command.each_word(out),
            Command::Cluster(command) => command.each_word(out),
            Command::Other(words) => words.iter().for_each(|word| out.text(word)),
            Command::Hello(protocol) => protocol.iter().for_each(|&version| out.number(u64::from(version))),
            Command::ClientSetName(name) => out.text(name),
            Command::Select(database) => out.number(u64::from(*database)),
            Command::Subscribe(channels) => channels.iter().for_each(|channel| out.text(channel.name())),
            Command::PatternSubscribe(patterns) => patterns.iter().for_each(|pattern| out.text(pattern)),
            Command::Publish { channel, payload } => {
                out.text(channel.name());
                payload.word(out);
            }
            Command::ClientKill(kind) => out.text(kind.word()),
            Command::ClientPause(span) => {
                out.number(millis(*span));
                out.text(b"WRITE");
            }
            Command::Wait { replicas, timeout } => {
                out.number(u64::from(*replicas));
                out.number(millis(*timeout));
            }
            Command::ReplicaOf(Some(addr)) => out.addr(*addr),
            Command::ReplicaOf(None) => texts(out, &[b"NO", b"ONE"]),
            Command::Psync { from, failover } => psync_words(out, *from, *failover),
            Command::Failover { to, force, timeout, abort } => {
                failover_words(out, *to, *force, *timeout, *abort);
            }
            Command::Migrate { to, keys, timeout } => migrate_words(out, *to, keys, *timeout),
            _ => {}
        }
    }

    /// Bytes on the wire.
    pub fn wire_size(&self) -> usize {
        let mut size = Size::default();
        self.each_word(&mut size);
        size.total()
    }
}

/// The position a replica asks for: its history and the next byte of it, or nothing.
fn psync_words(out: &mut impl Words, from: Option<(ReplId, Offset)>, failover: bool) {
    match from {
        Some((id, offset)) => {
            out.hex(&id.0);
            out.number(offset.0);
        }
        None => texts(out, &[b"?", b"-1"]),
    }
    when(failover, out, b"FAILOVER");
}

fn failover_words(out: &mut impl Words, to: Option<Addr>, force: bool, timeout: Duration, abort: bool) {
    if let Some(addr) = to {
        out.text(b"TO");
        out.addr(addr);
    }
    when(force, out, b"FORCE");
    when(abort, out, b"ABORT");
    if !timeout.is_zero() {
        out.text(b"TIMEOUT");
        out.number(millis(timeout));
    }
}

/// Several keys are named after an empty one.
fn migrate_words(out: &mut impl Words, to: Addr, keys: &[Key], timeout: Duration) {
    out.addr(to);
    texts(out, &[b"", b"0"]);
    out.number(millis(timeout));
    out.text(b"KEYS");
    keys.iter().for_each(|key| out.key(key));
}

impl From<Data> for Command {
    fn from(data: Data) -> Command {
        Command::Data(data)
    }
}

/// Kinds of connection that CLIENT KILL tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientType {
    /// Clients that are nothing else.
    Normal,
    /// Subscribers.
    Subscriber,
    /// Links to replicas.
    Replica,
    /// The link to the primary.
    Primary,
}

impl ClientType {
    fn word(self) -> &'static [u8] {
        match self {
            ClientType::Normal => b"normal",
            ClientType::Subscriber => b"pubsub",
            ClientType::Replica => b"slave",
            ClientType::Primary => b"master",
        }
    }
}

/// How to shut down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shutdown {
    /// NOW: do not wait for replicas.
    pub now: bool,
    /// FORCE: whatever goes wrong while saving.
    pub force: bool,
    /// FAILOVER: hand over to a replica (Valkey 9.0, clusters).
    pub failover: bool,
    /// NOSAVE.
    pub no_save: bool,
    /// ABORT: stop one that is under way.
    pub abort: bool,
}

impl Shutdown {
    fn each_word(self, out: &mut impl Words) {
        out.text(b"SHUTDOWN");
        when(self.no_save, out, b"NOSAVE");
        when(self.now, out, b"NOW");
        when(self.force, out, b"FORCE");
        when(self.failover, out, b"FAILOVER");
        when(self.abort, out, b"ABORT");
    }
}

/// A pub/sub channel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// `__sentinel__:hello`, by which sentinels find each other and spread configurations.
    Hello,
    /// `+switch-master`, by which sentinels tell clients of a new primary.
    Switch,
    /// Any other.
    Named(Arc<[u8]>),
}

impl Channel {
    /// The channel with this name.
    pub fn from_bytes(name: &[u8]) -> Channel {
        match name {
            b"__sentinel__:hello" => Channel::Hello,
            b"+switch-master" => Channel::Switch,
            _ => Channel::Named(name.into()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        match self {
            Channel::Hello => b"__sentinel__:hello",
            Channel::Switch => b"+switch-master",
            Channel::Named(name) => name,
        }
    }
}

/// What is published.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// A sentinel's hello.
    Hello(Arc<Greeting>),
    /// Any other text.
    Text(Arc<[u8]>),
}

impl Payload {
    /// How many bytes.
    pub fn len(&self) -> usize {
        match self {
            Payload::Hello(greeting) => greeting.len(),
            Payload::Text(text) => text.len(),
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn word(&self, out: &mut impl Words) {
        match self {
            Payload::Hello(greeting) => out.greeting(greeting),
            Payload::Text(text) => out.text(text),
        }
    }
}

/// What a sentinel says of itself and of the primary it watches, in one hello. `Display` is its text on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Greeting {
    /// The sentinel's address.
    pub addr: Addr,
    /// The sentinel's id.
    pub run_id: RunId,
    /// Its current epoch.
    pub epoch: u64,
    /// Name of the group.
    pub name: Arc<str>,
    /// Who is primary.
    pub primary: Addr,
    /// Under which configuration epoch.
    pub config_epoch: u64,
}

impl fmt::Display for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Greeting { addr, run_id, epoch, name, primary, config_epoch } = self;
        write!(f, "{},{},{},{epoch},{name},", addr.ip(), addr.port(), run_id.0)?;
        write!(f, "{},{},{config_epoch}", primary.ip(), primary.port())
    }
}

impl Greeting {
    /// Bytes of its text: hellos are frequent, so they are counted without being written.
    pub(super) fn len(&self) -> usize {
        let addr = |addr: Addr| ip_len(addr) + 1 + digits(u64::from(addr.port()));
        let Greeting { epoch, name, config_epoch, .. } = self;
        addr(self.addr) + addr(self.primary) + 40 + name.len() + digits(*epoch) + digits(*config_epoch) + 5
    }

    /// Reads the text of a hello.
    pub fn parse(text: &str) -> Option<Greeting> {
        let parts: Vec<&str> = text.split(',').collect();
        let [ip, port, run_id, epoch, name, primary_ip, primary_port, config_epoch] = parts[..] else {
            return None;
        };
        Some(Greeting {
            addr: Addr::new(ip.parse().ok()?, port.parse().ok()?),
            run_id: RunId(super::values::Hex::parse(run_id.as_bytes())?),
            epoch: epoch.parse().ok()?,
            name: name.into(),
            primary: Addr::new(primary_ip.parse().ok()?, primary_port.parse().ok()?),
            config_epoch: config_epoch.parse().ok()?,
        })
    }
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum Reply {
    /// `+OK`.
    Ok,
    /// `+PONG`.
    Pong,
    /// `+QUEUED`, within MULTI.
    Queued,
    /// Another simple string.
    Simple(Box<str>),
    /// An error.
    Error(Error),
    /// An integer.
    Integer(i64),
    /// No value (`$-1`).
    Nil,
    /// No array (`*-1`): an EXEC that was not executed, an unknown group.
    NilArray,
    /// A string value.
    Bulk(Datum),
    /// A list of values.
    List(Elements),
    /// Replies of a transaction, or any other array.
    Array(Vec<Reply>),
    /// Text of any length (CLUSTER NODES, the INFO of a sentinel, ...).
    Text(Arc<str>),
    /// Names with values: a map in RESP3, a flat array in RESP2.
    Map(Vec<(Reply, Reply)>),
    /// INFO of a data node.
    Info(Box<Info>),
    /// ROLE of a data node.
    Role(Box<RoleReport>),
    /// HELLO.
    Hello(Server),
    /// An address as two strings: `SENTINEL get-master-addr-by-name`.
    Address(Addr),
    /// `SENTINEL is-master-down-by-addr`.
    Vote {
        /// The sentinel sees that primary down.
        down: bool,
        /// For whom it voted; `*` if nobody.
        leader: Option<RunId>,
        /// In which epoch; 0 if in none.
        epoch: u64,
    },
    /// `SENTINEL MASTERS`, `REPLICAS`, `SENTINELS`.
    Instances(Arc<Vec<InstanceReport>>),
    /// `+FULLRESYNC`: a snapshot follows.
    FullResync {
        /// The history.
        id: ReplId,
        /// Where in it the snapshot was taken.
        offset: Offset,
    },
    /// `+CONTINUE`: the stream follows from where the replica asked.
    Continue(ReplId),
}

impl Reply {
    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }

    /// Bytes on the wire (RESP2).
    pub fn wire_size(&self) -> usize {
        match self {
            Reply::Ok | Reply::Nil | Reply::NilArray => 5,
            Reply::Pong => 7,
            Reply::Queued => 9,
            Reply::Simple(text) => 3 + text.len(),
            Reply::Error(error) => 3 + formatted_len(format_args!("{error}")),
            Reply::Integer(number) => integer_size(*number),
            Reply::Bulk(datum) => bulk(datum.len()),
            Reply::List(elements) => header(elements.len()) + elements.wire_size(),
            Reply::Array(replies) => {
                header(replies.len()) + replies.iter().map(Reply::wire_size).sum::<usize>()
            }
            Reply::Text(text) => bulk(text.len()),
            Reply::Map(pairs) => {
                let size = |(name, value): &(Reply, Reply)| name.wire_size() + value.wire_size();
                header(2 * pairs.len()) + pairs.iter().map(size).sum::<usize>()
            }
            Reply::Info(info) => bulk(formatted_len(format_args!("{info}"))),
            Reply::Role(role) => role.wire_size(),
            Reply::Hello(server) => server.wire_size(),
            Reply::Address(addr) => header(2) + address_size(*addr),
            Reply::Vote { leader, epoch, .. } => {
                header(3) + 4 + bulk(if leader.is_some() { 40 } else { 1 }) + integer_size(*epoch as i64)
            }
            Reply::Instances(instances) => {
                header(instances.len()) + instances.iter().map(InstanceReport::wire_size).sum::<usize>()
            }
            Reply::FullResync { offset, .. } => 3 + 11 + 40 + 1 + digits(offset.0),
            Reply::Continue(_) => 3 + 9 + 40,
        }
    }
}

/// Bytes of `:n\r\n`.
pub(super) fn integer_size(number: i64) -> usize {
    3 + digits(number.unsigned_abs()) + usize::from(number < 0)
}

/// Bytes of an address as two bulk strings.
pub(super) fn address_size(addr: Addr) -> usize {
    bulk(ip_len(addr)) + bulk(digits(u64::from(addr.port())))
}

/// An error reply. `Display` is its text on the wire, after the `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// A write to a replica.
    ReadOnly,
    /// The same as Pika says it, which clients do not take for a READONLY error.
    PikaReadOnly,
    /// `min-replicas-to-write` is not met.
    NoReplicas,
    /// The data set is being loaded.
    Loading,
    /// A replica without its primary that may not serve old data.
    PrimaryDown,
    /// A blocked command ended because the role changed.
    Unblocked,
    /// To a client that can follow it, from a replica outside a cluster: its primary is there (Valkey 8.0, valkey #325).
    Redirect(Addr),
    /// The slot lives there.
    Moved {
        /// Which slot.
        slot: u16,
        /// Who has it.
        to: Addr,
    },
    /// The slot is moving there; ask once, after ASKING.
    Ask {
        /// Which slot.
        slot: u16,
        /// Who is importing it.
        to: Addr,
    },
    /// The cluster is not in service.
    ClusterDown,
    /// Nobody serves the slot.
    SlotNotServed,
    /// Not all keys have arrived yet.
    TryAgain,
    /// Keys of more than one slot.
    CrossSlot,
    /// The key holds another type.
    WrongType,
    /// The string is no integer, or would overflow.
    NotAnInteger,
    /// EXEC of a queue that had an error.
    ExecAbort,
    /// SENTINEL of an unknown group.
    NoSuchGroup,
    /// SENTINEL FAILOVER while one is under way.
    InProgress,
    /// SENTINEL FAILOVER without a replica to promote.
    NoGoodReplica,
    /// A replica that attaches before it has data of its own (`-NOMASTERLINK`).
    NoPrimaryLink,
    /// Any other, with its first word.
    Other(Arc<str>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Error::ReadOnly => "READONLY You can't write against a read only replica.",
            Error::PikaReadOnly => "ERR READONLY You can't write against a read only replica.",
            Error::NoReplicas => "NOREPLICAS Not enough good replicas to write.",
            Error::Loading => "LOADING the data set is being read into memory",
            Error::PrimaryDown => {
                "MASTERDOWN the link with the primary is down and stale data may not be served"
            }
            Error::Unblocked => "UNBLOCKED the role of this node changed while the command was blocked",
            Error::Redirect(to) => return write!(f, "REDIRECT {to}"),
            Error::Moved { slot, to } => return write!(f, "MOVED {slot} {to}"),
            Error::Ask { slot, to } => return write!(f, "ASK {slot} {to}"),
            Error::ClusterDown => "CLUSTERDOWN The cluster is down",
            Error::SlotNotServed => "CLUSTERDOWN Hash slot not served",
            Error::TryAgain => "TRYAGAIN not all keys of this command are here yet",
            Error::CrossSlot => "CROSSSLOT the keys of this command are in more than one slot",
            Error::WrongType => "WRONGTYPE the key holds a value of another type",
            Error::NotAnInteger => "ERR the value is not an integer or out of range",
            Error::ExecAbort => "EXECABORT the transaction was dropped for an earlier error",
            Error::NoSuchGroup => "ERR No such master with that name",
            Error::InProgress => "INPROG a failover is already under way",
            Error::NoGoodReplica => "NOGOODSLAVE no suitable replica to promote",
            Error::NoPrimaryLink => "NOMASTERLINK can't sync while not connected with the primary",
            Error::Other(text) => text,
        };
        f.write_str(text)
    }
}

/// What HELLO tells about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// RESP version from now on.
    pub protocol: u8,
    /// What kind of server.
    pub mode: Mode,
    /// Whether it is a replica.
    pub replica: bool,
    /// Number of the connection.
    pub connection: u64,
}

/// Kinds of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// A data node on its own or under sentinels.
    Standalone,
    /// A sentinel.
    Sentinel,
    /// A cluster node.
    Cluster,
}

impl Server {
    /// Names and values as a map.
    pub fn fields(&self) -> [(&'static str, Reply); 7] {
        let mode = match self.mode {
            Mode::Standalone => "standalone",
            Mode::Sentinel => "sentinel",
            Mode::Cluster => "cluster",
        };
        let text = |text: &str| Reply::Text(text.into());
        [
            ("server", text("redis")),
            ("version", text("7.0.15")),
            ("proto", Reply::Integer(i64::from(self.protocol))),
            ("id", Reply::Integer(self.connection as i64)),
            ("mode", text(mode)),
            ("role", text(if self.replica { "replica" } else { "master" })),
            ("modules", Reply::Array(Vec::new())),
        ]
    }

    fn wire_size(&self) -> usize {
        let fields = self.fields();
        header(2 * fields.len())
            + fields.iter().map(|(name, value)| bulk(name.len()) + value.wire_size()).sum::<usize>()
    }
}

/// What a subscriber gets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Push {
    /// SUBSCRIBE took effect.
    Subscribed {
        /// Which channel or pattern.
        channel: Channel,
        /// It is a pattern.
        pattern: bool,
        /// How many this connection has now.
        count: u32,
    },
    /// UNSUBSCRIBE took effect.
    Unsubscribed {
        /// Which channel; none if there was none.
        channel: Option<Channel>,
        /// How many are left.
        count: u32,
    },
    /// Something was published.
    Published {
        /// By which of our patterns we hear it; none for a subscription by name.
        pattern: Option<Arc<[u8]>>,
        /// Where.
        channel: Channel,
        /// What.
        payload: Payload,
    },
}

impl Push {
    fn wire_size(&self) -> usize {
        match self {
            Push::Subscribed { channel, pattern, count } => {
                let word = if *pattern { 10 } else { 9 };
                header(3) + bulk(word) + bulk(channel.name().len()) + integer_size(i64::from(*count))
            }
            Push::Unsubscribed { channel, count } => {
                let name = channel.as_ref().map_or(5, |channel| bulk(channel.name().len()));
                header(3) + bulk(11) + name + integer_size(i64::from(*count))
            }
            Push::Published { pattern, channel, payload } => {
                let (words, kind) = match pattern {
                    Some(pattern) => (4, bulk(8) + bulk(pattern.len())),
                    None => (3, bulk(7)),
                };
                header(words) + kind + bulk(channel.name().len()) + bulk(payload.len())
            }
        }
    }
}

/// A piece of a snapshot transfer, in the form of a stream whose end is marked (`$EOF:`, diskless).
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum Snapshot {
    /// A newline, so that the link is not taken for dead while the snapshot is being made.
    KeepAlive,
    /// The transfer begins.
    Begin {
        /// The mark that will end it.
        mark: ReplId,
    },
    /// Keys with their values.
    Keys(Arc<[(Key, Stored)]>),
    /// It is complete: checksum and mark.
    End {
        /// The mark of the beginning.
        mark: ReplId,
    },
}

impl Snapshot {
    pub(super) fn wire_size(&self) -> usize {
        match self {
            Snapshot::KeepAlive => 1,
            // `$EOF:`, the mark, a line end; then the nine bytes of magic and version.
            Snapshot::Begin { .. } => 5 + 40 + 2 + 9,
            Snapshot::Keys(keys) => {
                keys.iter().map(|(key, stored)| 1 + lengthy(key.len()) + stored.size()).sum()
            }
            // The end opcode, a checksum of eight bytes, the mark.
            Snapshot::End { .. } => 1 + 8 + 40,
        }
    }
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Stored {
    /// A string.
    Text(Datum),
    /// A list.
    List(Elements),
}

impl Stored {
    fn size(&self) -> usize {
        match self {
            Stored::Text(datum) => lengthy(datum.len()),
            Stored::List(elements) => {
                5 + elements.iter().map(|element| lengthy(element.len())).sum::<usize>()
            }
        }
    }
}

/// Bytes of a string in a snapshot: its length in 1, 2 or 5 bytes, then itself.
fn lengthy(len: usize) -> usize {
    len + match len {
        0..64 => 1,
        64..16384 => 2,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::super::values::Hex;
    use super::*;

    fn addr(port: u16) -> Addr {
        Addr::new([127, 0, 0, 1].into(), port)
    }

    #[test]
    fn sizes_are_those_of_the_wire() {
        assert_eq!(Command::Ping.wire_size(), "*1\r\n$4\r\nPING\r\n".len());
        let set =
            Command::Data(Data::Set { key: Key::Numbered(17), value: Datum::padded(5, 4), condition: None });
        assert_eq!(set.wire_size(), "*3\r\n$3\r\nSET\r\n$3\r\nk17\r\n$4\r\n5...\r\n".len());
        let none = Command::ReplicaOf(None);
        assert_eq!(none.wire_size(), "*3\r\n$7\r\nSLAVEOF\r\n$2\r\nNO\r\n$3\r\nONE\r\n".len());
        let address = Reply::Address(addr(27000));
        assert_eq!(address.wire_size(), "*2\r\n$9\r\n127.0.0.1\r\n$5\r\n27000\r\n".len());
        let vote = Reply::Vote { down: false, leader: None, epoch: 0 };
        assert_eq!(vote.wire_size(), "*3\r\n:0\r\n$1\r\n*\r\n:0\r\n".len());
        assert_eq!(Reply::Integer(-12).wire_size(), ":-12\r\n".len());
        let push = Push::Published {
            pattern: None,
            channel: Channel::Switch,
            payload: Payload::Text(b"hi"[..].into()),
        };
        assert_eq!(push.wire_size(), "*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$2\r\nhi\r\n".len());
    }

    #[test]
    fn a_hello_reads_back_as_it_was_said() {
        let greeting = Greeting {
            addr: addr(26379),
            run_id: RunId(Hex([7; 20])),
            epoch: 3,
            name: "mymaster".into(),
            primary: addr(27000),
            config_epoch: 2,
        };
        let text = alloc::format!("{greeting}");
        assert_eq!(greeting.len(), text.len());
        assert_eq!(Greeting::parse(&text), Some(greeting));
        assert_eq!(Greeting::parse("127.0.0.1,26379"), None);
    }

    #[test]
    fn messages_are_small_enough_to_copy() {
        assert!(size_of::<Command>() <= 80, "{}", size_of::<Command>());
        assert!(size_of::<Message>() <= 88, "{}", size_of::<Message>());
    }
}
