//! Frames into replies and pushes. What a reply means depends on the command it answers.

use super::command::{parse_addr, payload_on};
use super::frame::{Frame, text_of};
use firedrill_protocols::redis::admin::{ClusterCommand, SentinelCommand};
use firedrill_protocols::redis::data::Data;
use firedrill_protocols::redis::info::{
    AttachedReplica, Flavour, Follows, Info, Link, LinkState, RoleReport,
};
use firedrill_protocols::redis::instances::{Detail, Flags, InstanceReport};
use firedrill_protocols::redis::message::{Channel, Command, Error, Mode, Push, Reply, Server};
use firedrill_protocols::redis::values::{Addr, Datum, Hex, Offset, ReplId, RunId};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

/// How the answer to a command is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// By the type of its frame; strings are values.
    Data,
    /// A list of values.
    List,
    /// By the type of its frame; strings are text.
    Text,
    /// INFO.
    Info,
    /// ROLE.
    Role,
    /// HELLO.
    Hello,
    /// EXEC, whose null is that of an array in both versions.
    Exec,
    /// An address.
    Address,
    /// A vote.
    Vote,
    /// Entries of SENTINEL MASTERS and its like.
    Instances(Instances),
    /// The table of commands; only on the accepting side.
    Commands(super::table::Asked),
    /// FULLRESYNC or CONTINUE; then the connection is a replication link.
    Psync,
}

/// What kind of entries come, and whether as one entry or a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instances {
    /// `SENTINEL MASTERS`.
    Primaries,
    /// `SENTINEL MASTER`: one entry that is not in a list.
    OnePrimary,
    /// `SENTINEL REPLICAS`.
    Replicas,
    /// `SENTINEL SENTINELS`.
    Sentinels,
}

/// How the reply to `command` is read; `None` if it has none.
pub fn expected(command: &Command) -> Option<Expected> {
    Some(match command {
        Command::Data(Data::Range { .. }) => Expected::List,
        Command::Cluster(ClusterCommand::GetKeysInSlot { .. }) => Expected::List,
        Command::Data(_) => Expected::Data,
        Command::Info => Expected::Info,
        Command::Role => Expected::Role,
        Command::Hello(_) => Expected::Hello,
        Command::Exec => Expected::Exec,
        Command::Psync { .. } => Expected::Psync,
        Command::Sentinel(command) => sentinel_expected(command),
        // Answered by pushes, one for each channel.
        Command::Subscribe(_) | Command::PatternSubscribe(_) | Command::Unsubscribe => return None,
        Command::Replconf(replconf) if is_silent(replconf) => return None,
        _ => Expected::Text,
    })
}

fn is_silent(replconf: &firedrill_protocols::redis::admin::Replconf) -> bool {
    use firedrill_protocols::redis::admin::Replconf;
    matches!(replconf, Replconf::Ack(_) | Replconf::GetAck)
}

fn sentinel_expected(command: &SentinelCommand) -> Expected {
    match command {
        SentinelCommand::Primaries => Expected::Instances(Instances::Primaries),
        SentinelCommand::Primary(_) => Expected::Instances(Instances::OnePrimary),
        SentinelCommand::Replicas(_) => Expected::Instances(Instances::Replicas),
        SentinelCommand::Sentinels(_) => Expected::Instances(Instances::Sentinels),
        SentinelCommand::PrimaryAddr(_) => Expected::Address,
        SentinelCommand::IsPrimaryDown { .. } => Expected::Vote,
        SentinelCommand::Failover { .. }
        | SentinelCommand::CheckQuorum(_)
        | SentinelCommand::MyId
        | SentinelCommand::Monitor { .. }
        | SentinelCommand::Remove(_)
        | SentinelCommand::Set { .. }
        | SentinelCommand::Reset(_)
        | SentinelCommand::FlushConfig => Expected::Text,
    }
}

/// The reply in a frame. What does not look as expected (an error, QUEUED, a server of another kind) is read by its
/// type.
pub fn reply(frame: &Frame, is_array: bool, expected: Expected) -> Reply {
    special(frame, expected).unwrap_or_else(|| plain(frame, is_array, expected == Expected::Data))
}

fn special(frame: &Frame, expected: Expected) -> Option<Reply> {
    match expected {
        Expected::Data | Expected::Text | Expected::Commands(_) => None,
        Expected::List => {
            let Frame::Array(elements) = frame else { return None };
            let data: Option<Vec<Datum>> =
                elements.iter().map(|element| text_of(element).map(Datum::from_bytes)).collect();
            Some(Reply::List(data?.into()))
        }
        Expected::Info => {
            let Frame::BulkString(text) = frame else { return None };
            info(std::str::from_utf8(text).ok()?).map(|info| Reply::Info(Box::new(info)))
        }
        Expected::Hello => hello(frame).map(Reply::Hello),
        Expected::Exec => matches!(frame, Frame::Null).then_some(Reply::NilArray),
        Expected::Role => role(frame).map(|role| Reply::Role(Box::new(role))),
        Expected::Address => match frame {
            Frame::Array(words) => match &words[..] {
                [host, port] => Some(Reply::Address(parse_addr(text_of(host)?, text_of(port)?)?)),
                _ => None,
            },
            Frame::Null => Some(Reply::NilArray),
            _ => None,
        },
        Expected::Vote => vote(frame),
        Expected::Instances(kind) => instances(frame, kind).map(|list| Reply::Instances(Arc::new(list))),
        Expected::Psync => {
            let Frame::SimpleString(text) = frame else { return None };
            psync(std::str::from_utf8(text).ok()?)
        }
    }
}

fn plain(frame: &Frame, is_array: bool, data: bool) -> Reply {
    match frame {
        Frame::SimpleString(text) => match &**text {
            b"OK" => Reply::Ok,
            b"PONG" => Reply::Pong,
            b"QUEUED" => Reply::Queued,
            other => Reply::Simple(String::from_utf8_lossy(other).into()),
        },
        Frame::Error(text) => Reply::Error(error(text)),
        Frame::Integer(number) => Reply::Integer(*number),
        Frame::Null if is_array => Reply::NilArray,
        Frame::Null => Reply::Nil,
        Frame::BulkString(bytes) if data => Reply::Bulk(Datum::from_bytes(bytes)),
        Frame::BulkString(bytes) => Reply::Text(String::from_utf8_lossy(bytes).into()),
        Frame::Array(elements) => {
            Reply::Array(elements.iter().map(|element| plain(element, false, data)).collect())
        }
    }
}

/// The error in a text, by its first words.
fn error(text: &str) -> Error {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let slot = |make: fn(u16, Addr) -> Error| {
        let (slot, to) = rest.split_once(' ')?;
        Some(make(slot.parse().ok()?, to.parse().ok()?))
    };
    let known = match word {
        "READONLY" => Some(Error::ReadOnly),
        "ERR" if rest.starts_with("READONLY") => Some(Error::PikaReadOnly),
        "ERR" if rest.starts_with("No such master") || rest.starts_with("No such primary") => {
            Some(Error::NoSuchGroup)
        }
        "NOREPLICAS" => Some(Error::NoReplicas),
        "LOADING" => Some(Error::Loading),
        "MASTERDOWN" => Some(Error::PrimaryDown),
        "UNBLOCKED" => Some(Error::Unblocked),
        "REDIRECT" => rest.parse().ok().map(Error::Redirect),
        "MOVED" => slot(|slot, to| Error::Moved { slot, to }),
        "ASK" => slot(|slot, to| Error::Ask { slot, to }),
        "CLUSTERDOWN" if rest.starts_with("Hash slot not served") => Some(Error::SlotNotServed),
        "CLUSTERDOWN" => Some(Error::ClusterDown),
        "TRYAGAIN" => Some(Error::TryAgain),
        "CROSSSLOT" => Some(Error::CrossSlot),
        "WRONGTYPE" => Some(Error::WrongType),
        "EXECABORT" => Some(Error::ExecAbort),
        "INPROG" => Some(Error::InProgress),
        "NOGOODSLAVE" => Some(Error::NoGoodReplica),
        "NOMASTERLINK" => Some(Error::NoPrimaryLink),
        _ => None,
    };
    known.unwrap_or_else(|| Error::Other(text.into()))
}

fn psync(text: &str) -> Option<Reply> {
    let mut words = text.split(' ');
    match (words.next()?, words.next(), words.next()) {
        ("FULLRESYNC", Some(id), Some(offset)) => {
            Some(Reply::FullResync { id: ReplId(hex(id)?), offset: Offset(offset.parse().ok()?) })
        }
        ("CONTINUE", Some(id), None) => Some(Reply::Continue(ReplId(hex(id)?))),
        _ => None,
    }
}

fn vote(frame: &Frame) -> Option<Reply> {
    let Frame::Array(words) = frame else { return None };
    let [Frame::Integer(down), leader, Frame::Integer(epoch)] = &words[..] else { return None };
    let leader = match text_of(leader)? {
        b"*" => None,
        id => Some(RunId(Hex::parse(id)?)),
    };
    Some(Reply::Vote { down: *down != 0, leader, epoch: u64::try_from(*epoch).ok()? })
}

// -------------------------------------------------------------------------------------------------------------- INFO

/// Lines of `name:value`.
struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn of_lines(text: &'a str) -> Self {
        Fields(text.lines().filter_map(|line| line.split_once(':')).collect())
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).copied()
    }

    fn get<T: FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.text(name) == Some(value)
    }

    fn hex(&self, name: &str) -> Option<Hex> {
        self.text(name).and_then(hex)
    }

    fn addr(&self, host: &str, port: &str) -> Option<Addr> {
        parse_addr(self.text(host)?.as_bytes(), self.text(port)?.as_bytes())
    }
}

fn hex(text: &str) -> Option<Hex> {
    Hex::parse(text.as_bytes())
}

fn info(text: &str) -> Option<Info> {
    let fields = Fields::of_lines(text);
    let role = fields.text("role")?;
    let follows = role.contains("slave").then(|| follows(&fields)).flatten();
    Some(Info {
        flavour: if fields.text("pika_version").is_some() {
            Flavour::Pika
        } else if fields.text("valkey_version").is_some() {
            Flavour::Valkey
        } else {
            Flavour::Redis
        },
        run_id: RunId(fields.hex("run_id")?),
        loading: fields.is("loading", "1"),
        // A replica whose primary is a name, or not yet known, still is a replica.
        follows: match (role.contains("slave"), follows) {
            (true, None) => return None,
            (_, follows) => follows,
        },
        priority: fields.get("slave_priority").unwrap_or(100),
        announced: !fields.is("replica_announced", "0"),
        replicas: attached(&fields),
        id: ReplId(fields.hex("master_replid").unwrap_or_default()),
        id2: ReplId(fields.hex("master_replid2").unwrap_or_default()),
        offset: Offset(fields.get("master_repl_offset").unwrap_or(0)),
        second_offset: fields.get::<u64>("second_repl_offset").map(Offset),
        failover: fields.text("master_failover_state").is_some_and(|state| state != "no-failover"),
    })
}

fn hello(frame: &Frame) -> Option<Server> {
    let Frame::Array(words) = frame else { return None };
    let value =
        |name: &[u8]| words.chunks_exact(2).find(|pair| text_of(&pair[0]) == Some(name)).map(|pair| &pair[1]);
    let number = |name: &[u8]| match value(name) {
        Some(Frame::Integer(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    Some(Server {
        protocol: u8::try_from(number(b"proto")?).ok()?,
        mode: match text_of(value(b"mode")?)? {
            b"standalone" => Mode::Standalone,
            b"sentinel" => Mode::Sentinel,
            b"cluster" => Mode::Cluster,
            _ => return None,
        },
        replica: text_of(value(b"role")?)? != b"master",
        connection: number(b"id")?,
    })
}

fn follows(fields: &Fields<'_>) -> Option<Follows> {
    let link = if fields.is("master_link_status", "up") {
        Link::Up
    } else {
        Link::Down {
            syncing: fields.is("master_sync_in_progress", "1"),
            since: fields.get("master_link_down_since_seconds"),
        }
    };
    Some(Follows {
        primary: fields.addr("master_host", "master_port")?,
        link,
        offset: Offset(fields.get("slave_repl_offset").unwrap_or(0)),
    })
}

/// `slave0:ip=127.0.0.1,port=7001,state=online,offset=14,lag=0`, and so on.
fn attached(fields: &Fields<'_>) -> Vec<AttachedReplica> {
    let replica = |text: &str| {
        let fields = Fields(text.split(',').filter_map(|part| part.split_once('=')).collect());
        Some(AttachedReplica {
            addr: fields.addr("ip", "port")?,
            online: fields.is("state", "online"),
            offset: Offset(fields.get("offset")?),
            lag: fields.get("lag").unwrap_or(0),
        })
    };
    (0..).map_while(|number| fields.text(&format!("slave{number}"))).filter_map(replica).collect()
}

fn role(frame: &Frame) -> Option<RoleReport> {
    let Frame::Array(parts) = frame else { return None };
    match (text_of(parts.first()?)?, &parts[1..]) {
        (b"master", [Frame::Integer(offset), Frame::Array(replicas)]) => Some(RoleReport::Primary {
            offset: Offset(u64::try_from(*offset).ok()?),
            replicas: replicas.iter().map(role_replica).collect::<Option<_>>()?,
        }),
        (b"slave", [host, Frame::Integer(port), state, Frame::Integer(offset)]) => {
            Some(RoleReport::Replica {
                primary: parse_addr(text_of(host)?, port.to_string().as_bytes())?,
                state: link_state(text_of(state)?)?,
                offset: u64::try_from(*offset).ok().map(Offset),
            })
        }
        (b"sentinel", [Frame::Array(names)]) => {
            let names = names.iter().map(|name| Some(String::from_utf8_lossy(text_of(name)?).into()));
            Some(RoleReport::Sentinel(names.collect::<Option<_>>()?))
        }
        _ => None,
    }
}

fn role_replica(frame: &Frame) -> Option<(Addr, Offset)> {
    let Frame::Array(parts) = frame else { return None };
    let [host, port, offset] = &parts[..] else { return None };
    let offset = std::str::from_utf8(text_of(offset)?).ok()?.parse().ok()?;
    Some((parse_addr(text_of(host)?, text_of(port)?)?, Offset(offset)))
}

fn link_state(word: &[u8]) -> Option<LinkState> {
    Some(match word {
        b"none" | b"connect" => LinkState::Connect,
        b"connecting" => LinkState::Connecting,
        b"handshake" => LinkState::Handshake,
        b"sync" => LinkState::Sync,
        b"connected" => LinkState::Connected,
        _ => return None,
    })
}

// --------------------------------------------------------------------------------------------------------- instances

fn instances(frame: &Frame, kind: Instances) -> Option<Vec<InstanceReport>> {
    let Frame::Array(entries) = frame else { return None };
    if kind == Instances::OnePrimary {
        return Some(vec![instance(entries, kind)?]);
    }
    entries
        .iter()
        .map(|entry| match entry {
            Frame::Array(words) => instance(words, kind),
            _ => None,
        })
        .collect()
}

fn instance(words: &[Frame], kind: Instances) -> Option<InstanceReport> {
    let texts: Option<Vec<&str>> =
        words.iter().map(|word| std::str::from_utf8(text_of(word)?).ok()).collect();
    let fields = Fields(texts?.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
    let number = |name: &str| fields.get(name).unwrap_or(0);
    let detail = match kind {
        Instances::Primaries | Instances::OnePrimary => Detail::Primary {
            info_refresh: number("info-refresh"),
            reports_primary: !fields.is("role-reported", "slave"),
            role_reported_time: number("role-reported-time"),
            config_epoch: number("config-epoch"),
            replicas: number("num-slaves"),
            sentinels: number("num-other-sentinels"),
            quorum: number("quorum"),
            failover_timeout: number("failover-timeout"),
            parallel_syncs: number("parallel-syncs"),
        },
        Instances::Replicas => Detail::Replica {
            info_refresh: number("info-refresh"),
            reports_primary: fields.is("role-reported", "master"),
            role_reported_time: number("role-reported-time"),
            link_down: number("master-link-down-time"),
            link_up: fields.is("master-link-status", "ok"),
            primary: fields.addr("master-host", "master-port"),
            priority: number("slave-priority"),
            offset: Offset(number("slave-repl-offset")),
            announced: !fields.is("replica-announced", "0"),
        },
        Instances::Sentinels => Detail::Sentinel {
            last_hello: number("last-hello-message"),
            voted_leader: fields.hex("voted-leader").map(RunId),
            voted_leader_epoch: number("voted-leader-epoch"),
        },
    };
    Some(InstanceReport {
        name: fields.text("name")?.into(),
        addr: fields.addr("ip", "port")?,
        run_id: fields.hex("runid").map(RunId),
        flags: Flags::parse(fields.text("flags")?),
        last_ping_sent: number("last-ping-sent"),
        last_ok_ping_reply: number("last-ok-ping-reply"),
        last_ping_reply: number("last-ping-reply"),
        suspected_for: fields.get("s-down-time"),
        down_after: number("down-after-milliseconds"),
        detail,
    })
}

// ------------------------------------------------------------------------------------------------------------ pushes

/// The push in a frame, if it is one: subscribers get pushes and, between them, hardly anything else.
pub fn push(frame: &Frame) -> Option<Push> {
    let Frame::Array(parts) = frame else { return None };
    let text = |index: usize| parts.get(index).and_then(text_of);
    let count = || match parts.get(2) {
        Some(Frame::Integer(count)) => u32::try_from(*count).ok(),
        _ => None,
    };
    match (text(0)?, parts.len()) {
        (kind @ (b"subscribe" | b"psubscribe"), 3) => Some(Push::Subscribed {
            channel: Channel::from_bytes(text(1)?),
            pattern: kind == b"psubscribe",
            count: count()?,
        }),
        (b"unsubscribe" | b"punsubscribe", 3) => {
            Some(Push::Unsubscribed { channel: text(1).map(Channel::from_bytes), count: count()? })
        }
        (b"message", 3) => {
            let channel = Channel::from_bytes(text(1)?);
            Some(Push::Published { pattern: None, payload: payload_on(&channel, text(2)?), channel })
        }
        (b"pmessage", 4) => {
            let channel = Channel::from_bytes(text(2)?);
            let pattern = Some(text(1)?.into());
            Some(Push::Published { pattern, payload: payload_on(&channel, text(3)?), channel })
        }
        _ => None,
    }
}
