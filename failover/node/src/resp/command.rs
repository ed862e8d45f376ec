//! Words of a command into the command they say.

use bytes::Bytes;
use firedrill_protocols::contract::Duration;
use firedrill_protocols::redis::admin::{ClusterCommand, Replconf, SentinelCommand, SlotState, TakeOver};
use firedrill_protocols::redis::data::{Data, SetIf, Test};
use firedrill_protocols::redis::message::{Channel, ClientType, Command, Greeting, Payload, Shutdown};
use firedrill_protocols::redis::values::{Addr, Datum, Hex, Key, Offset, ReplId, RunId};
use std::str::FromStr;
use std::sync::Arc;

/// The command that these words say; [`Command::Other`] if we have no name for it, or it is said wrongly.
pub fn parse(words: &[Bytes]) -> Command {
    known(words).unwrap_or_else(|| Command::Other(words.iter().map(|word| (&**word).into()).collect()))
}

/// Upper-case form of a word that names something.
fn name(word: &[u8]) -> String {
    String::from_utf8_lossy(word).to_ascii_uppercase()
}

fn known(words: &[Bytes]) -> Option<Command> {
    let (first, rest) = words.split_first()?;
    let command = match (name(first).as_str(), rest) {
        ("PING", []) => Command::Ping,
        ("HELLO", []) => Command::Hello(None),
        ("HELLO", [version, ..]) => Command::Hello(Some(parse_number(version)?)),
        ("CLIENT", [sub, rest @ ..]) => client(&name(sub), rest)?,
        ("CONFIG", [sub]) if name(sub) == "REWRITE" => Command::ConfigRewrite,
        ("INFO", _) => Command::Info,
        ("ROLE", []) => Command::Role,
        ("MULTI", []) => Command::Multi,
        ("EXEC", []) => Command::Exec,
        ("DISCARD", []) => Command::Discard,
        ("SUBSCRIBE", [_, ..]) => {
            Command::Subscribe(rest.iter().map(|word| Channel::from_bytes(word)).collect())
        }
        ("PSUBSCRIBE", [_, ..]) => {
            Command::PatternSubscribe(rest.iter().map(|word| (&**word).into()).collect())
        }
        ("UNSUBSCRIBE" | "PUNSUBSCRIBE", []) => Command::Unsubscribe,
        ("PUBLISH", [channel, payload]) => publish(channel, payload),
        ("SLAVEOF" | "REPLICAOF", [host, port]) => replica_of(host, port)?,
        ("REPLCONF", rest) => Command::Replconf(replconf(rest)?),
        ("PSYNC", [id, offset, rest @ ..]) => psync(id, offset, rest)?,
        ("WAIT", [replicas, timeout]) => {
            Command::Wait { replicas: parse_number(replicas)?, timeout: parse_millis(timeout)? }
        }
        ("FAILOVER", rest) => failover(rest)?,
        ("SELECT", [database]) => Command::Select(parse_number(database)?),
        ("SHUTDOWN", rest) => Command::Shutdown(shutdown(rest)?),
        ("SENTINEL", [sub, rest @ ..]) => Command::Sentinel(sentinel(&name(sub), rest)?),
        ("CLUSTER", [sub, rest @ ..]) => Command::Cluster(cluster(&name(sub), rest)?),
        ("MIGRATE", [host, port, one, _, timeout, rest @ ..]) if one.is_empty() => {
            let [keys, rest @ ..] = rest else { return None };
            (name(keys) == "KEYS").then_some(())?;
            let keys = rest.iter().map(|key| Key::from_bytes(key)).collect();
            Command::Migrate { to: parse_addr(host, port)?, keys, timeout: parse_millis(timeout)? }
        }
        ("ASKING", []) => Command::Asking,
        ("READONLY", []) => Command::ReadOnly,
        ("READWRITE", []) => Command::ReadWrite,
        ("RESET", []) => Command::Reset,
        ("QUIT", _) => Command::Quit,
        (first, rest) => Command::Data(data(first, rest)?),
    };
    Some(command)
}

fn client(sub: &str, rest: &[Bytes]) -> Option<Command> {
    match (sub, rest) {
        ("SETNAME", [name]) => Some(Command::ClientSetName((&**name).into())),
        ("KILL", [word, kind]) if name(word) == "TYPE" => {
            let kind = match name(kind).as_str() {
                "NORMAL" => ClientType::Normal,
                "PUBSUB" => ClientType::Subscriber,
                "SLAVE" | "REPLICA" => ClientType::Replica,
                "MASTER" | "PRIMARY" => ClientType::Primary,
                _ => return None,
            };
            Some(Command::ClientKill(kind))
        }
        // Without a mode, or with ALL, every command would wait; the roles know only waiting writes.
        ("PAUSE", [timeout, rest @ ..]) if rest.len() <= 1 => {
            Some(Command::ClientPause(parse_millis(timeout)?))
        }
        ("CAPA", [capability]) if name(capability) == "REDIRECT" => Some(Command::ClientCapaRedirect),
        ("UNPAUSE", []) => Some(Command::ClientUnpause),
        _ => None,
    }
}

fn publish(channel: &[u8], payload: &[u8]) -> Command {
    let channel = Channel::from_bytes(channel);
    Command::Publish { payload: payload_on(&channel, payload), channel }
}

/// What was published: a greeting, if it is one and stands where greetings stand.
pub fn payload_on(channel: &Channel, payload: &[u8]) -> Payload {
    let greeting = match channel {
        Channel::Hello => std::str::from_utf8(payload).ok().and_then(Greeting::parse),
        Channel::Switch | Channel::Named(_) => None,
    };
    match greeting {
        // Only if it is written as we would: what is passed on must have the same bytes.
        Some(greeting) if greeting.to_string().as_bytes() == payload => Payload::Hello(Arc::new(greeting)),
        _ => Payload::Text(payload.into()),
    }
}

fn replica_of(host: &[u8], port: &[u8]) -> Option<Command> {
    if name(host) == "NO" && name(port) == "ONE" {
        return Some(Command::ReplicaOf(None));
    }
    Some(Command::ReplicaOf(Some(parse_addr(host, port)?)))
}

fn replconf(rest: &[Bytes]) -> Option<Replconf> {
    let (sub, rest) = rest.split_first()?;
    match (name(sub).as_str(), rest) {
        ("LISTENING-PORT", [port]) => Some(Replconf::ListeningPort(parse_number(port)?)),
        ("CAPA", [_, ..]) => Some(Replconf::Capabilities),
        // Redis 7.2 and later add the offset that is safe on disk.
        ("ACK", [offset, ..]) => Some(Replconf::Ack(Offset(parse_number(offset)?))),
        ("GETACK", [_]) => Some(Replconf::GetAck),
        ("VERSION", [version]) => Some(Replconf::Version(parse_text(version)?)),
        ("SET-CLUSTER-NODE-ID", [id]) => Some(Replconf::ClusterNodeId(RunId(Hex::parse(id)?))),
        _ => None,
    }
}

fn psync(id: &[u8], offset: &[u8], rest: &[Bytes]) -> Option<Command> {
    let failover = match rest {
        [] => false,
        [word] if name(word) == "FAILOVER" => true,
        _ => return None,
    };
    let from = match (id, offset) {
        (b"?", _) => None,
        _ => Some((ReplId(Hex::parse(id)?), Offset(parse_number(offset)?))),
    };
    Some(Command::Psync { from, failover })
}

fn failover(mut rest: &[Bytes]) -> Option<Command> {
    let (mut to, mut force, mut timeout, mut abort) = (None, false, Duration::ZERO, false);
    while let Some((word, after)) = rest.split_first() {
        rest = after;
        match (name(word).as_str(), rest) {
            ("TO", [host, port, after @ ..]) => {
                to = Some(parse_addr(host, port)?);
                rest = after;
            }
            ("TIMEOUT", [millis, after @ ..]) => {
                timeout = parse_millis(millis)?;
                rest = after;
            }
            ("FORCE", _) => force = true,
            ("ABORT", _) => abort = true,
            _ => return None,
        }
    }
    Some(Command::Failover { to, force, timeout, abort })
}

fn shutdown(rest: &[Bytes]) -> Option<Shutdown> {
    rest.iter().try_fold(Shutdown::default(), |how, word| match name(word).as_str() {
        "NOW" => Some(Shutdown { now: true, ..how }),
        "FORCE" => Some(Shutdown { force: true, ..how }),
        "FAILOVER" => Some(Shutdown { failover: true, ..how }),
        "NOSAVE" => Some(Shutdown { no_save: true, ..how }),
        "SAVE" => Some(how),
        "ABORT" => Some(Shutdown { abort: true, ..how }),
        _ => None,
    })
}

fn sentinel(sub: &str, rest: &[Bytes]) -> Option<SentinelCommand> {
    let command = match (sub, rest) {
        // Valkey adds a spelling with PRIMARY to each word with MASTER.
        ("MASTERS" | "PRIMARIES", []) => SentinelCommand::Primaries,
        ("MASTER" | "PRIMARY", [name]) => SentinelCommand::Primary(parse_text(name)?),
        ("SLAVES" | "REPLICAS", [name]) => SentinelCommand::Replicas(parse_text(name)?),
        ("SENTINELS", [name]) => SentinelCommand::Sentinels(parse_text(name)?),
        ("GET-MASTER-ADDR-BY-NAME" | "GET-PRIMARY-ADDR-BY-NAME", [name]) => {
            SentinelCommand::PrimaryAddr(parse_text(name)?)
        }
        ("IS-MASTER-DOWN-BY-ADDR" | "IS-PRIMARY-DOWN-BY-ADDR", [host, port, epoch, candidate]) => {
            SentinelCommand::IsPrimaryDown {
                addr: parse_addr(host, port)?,
                epoch: parse_number(epoch)?,
                candidate: match &**candidate {
                    b"*" => None,
                    id => Some(RunId(Hex::parse(id)?)),
                },
            }
        }
        ("FAILOVER", [group]) => SentinelCommand::Failover { name: parse_text(group)?, coordinated: false },
        ("FAILOVER", [group, word]) if name(word) == "COORDINATED" => {
            SentinelCommand::Failover { name: parse_text(group)?, coordinated: true }
        }
        ("CKQUORUM", [name]) => SentinelCommand::CheckQuorum(parse_text(name)?),
        ("MYID", []) => SentinelCommand::MyId,
        ("MONITOR", [group, host, port, quorum]) => SentinelCommand::Monitor {
            name: parse_text(group)?,
            primary: parse_addr(host, port)?,
            quorum: parse_number(quorum)?,
        },
        ("REMOVE", [name]) => SentinelCommand::Remove(parse_text(name)?),
        ("SET", [group, option, value]) => SentinelCommand::Set {
            name: parse_text(group)?,
            option: parse_text(option)?,
            value: parse_text(value)?,
        },
        ("RESET", [pattern]) => SentinelCommand::Reset(parse_text(pattern)?),
        ("FLUSHCONFIG", []) => SentinelCommand::FlushConfig,
        _ => return None,
    };
    Some(command)
}

fn cluster(sub: &str, rest: &[Bytes]) -> Option<ClusterCommand> {
    let id = |word: &[u8]| Hex::parse(word).map(RunId);
    let command = match (sub, rest) {
        ("SLOTS", []) => ClusterCommand::Slots,
        ("SHARDS", []) => ClusterCommand::Shards,
        ("NODES", []) => ClusterCommand::Nodes,
        ("INFO", []) => ClusterCommand::Info,
        ("MYID", []) => ClusterCommand::MyId,
        ("GETKEYSINSLOT", [slot, count]) => {
            ClusterCommand::GetKeysInSlot { slot: parse_number(slot)?, count: parse_number(count)? }
        }
        ("KEYSLOT", [key]) => ClusterCommand::KeySlot(Key::from_bytes(key)),
        ("FAILOVER", rest) => cluster_failover(rest)?,
        ("MEET", [host, port]) => ClusterCommand::Meet(parse_addr(host, port)?),
        ("FORGET", [node]) => ClusterCommand::Forget(id(node)?),
        ("REPLICATE", [node]) => ClusterCommand::Replicate(id(node)?),
        ("ADDSLOTSRANGE", [first, last]) => {
            ClusterCommand::AddSlots(parse_number(first)?, parse_number(last)?)
        }
        ("DELSLOTSRANGE", [first, last]) => {
            ClusterCommand::DelSlots(parse_number(first)?, parse_number(last)?)
        }
        ("SETSLOT", [slot, state, rest @ ..]) => {
            let state = match (name(state).as_str(), rest) {
                ("MIGRATING", [node]) => SlotState::Migrating(id(node)?),
                ("IMPORTING", [node]) => SlotState::Importing(id(node)?),
                ("STABLE", []) => SlotState::Stable,
                ("NODE", [node]) => SlotState::Node(id(node)?),
                _ => return None,
            };
            ClusterCommand::SetSlot { slot: parse_number(slot)?, state }
        }
        ("BUMPEPOCH", []) => ClusterCommand::BumpEpoch,
        ("RESET", []) => ClusterCommand::Reset { hard: false },
        ("RESET", [how]) => ClusterCommand::Reset { hard: name(how) == "HARD" },
        _ => return None,
    };
    Some(command)
}

fn cluster_failover(mut rest: &[Bytes]) -> Option<ClusterCommand> {
    let (mut mode, mut only) = (TakeOver::Agreed, None);
    while let Some((word, after)) = rest.split_first() {
        rest = after;
        match (name(word).as_str(), rest) {
            ("FORCE", _) => mode = TakeOver::Force,
            ("TAKEOVER", _) => mode = TakeOver::Unelected,
            ("REPLICAID", [id, after @ ..]) => {
                only = Some(RunId(Hex::parse(id)?));
                rest = after;
            }
            _ => return None,
        }
    }
    Some(ClusterCommand::Failover { mode, only })
}

fn data(first: &str, rest: &[Bytes]) -> Option<Data> {
    let key = |word: &[u8]| Key::from_bytes(word);
    let incr = |word: &[u8], by: i64| Data::IncrBy { key: Key::from_bytes(word), by };
    let data = match (first, rest) {
        ("GET", [word]) => Data::Get(key(word)),
        ("SET", [word, value, options @ ..]) => {
            Data::Set { key: key(word), value: Datum::from_bytes(value), condition: set_options(options)? }
        }
        ("SETNX", _) => return None,
        ("APPEND", [word, value]) => Data::Append { key: key(word), value: Datum::from_bytes(value) },
        ("INCR", [word]) => incr(word, 1),
        ("DECR", [word]) => incr(word, -1),
        ("INCRBY", [word, by]) => incr(word, parse_number(by)?),
        ("DECRBY", [word, by]) => incr(word, parse_number::<i64>(by)?.checked_neg()?),
        ("DEL" | "UNLINK", [_, ..]) => Data::Del(rest.iter().map(|word| key(word)).collect()),
        ("EXISTS", [_, ..]) => Data::Exists(rest.iter().map(|word| key(word)).collect()),
        ("RPUSH", [word, value, more @ ..]) => Data::Push {
            key: key(word),
            value: Datum::from_bytes(value),
            more: more.iter().map(|value| Datum::from_bytes(value)).collect(),
        },
        ("LRANGE", [word, start, stop]) => {
            Data::Range { key: key(word), start: parse_number(start)?, stop: parse_number(stop)? }
        }
        ("LLEN", [word]) => Data::Len(key(word)),
        ("STRLEN", [word]) => Data::StrLen(key(word)),
        ("TYPE", [word]) => Data::Type(key(word)),
        ("FLUSHALL", [] | [_]) => Data::FlushAll,
        ("DBSIZE", []) => Data::DbSize,
        _ => return None,
    };
    Some(data)
}

/// The condition of a SET; the outer `None` for options we do not have (expiry, ...), which must not be dropped
/// silently.
fn set_options(mut rest: &[Bytes]) -> Option<Option<Box<SetIf>>> {
    let (mut test, mut get) = (Test::Always, false);
    while let Some((word, after)) = rest.split_first() {
        rest = after;
        match (name(word).as_str(), rest) {
            ("NX", _) => test = Test::Absent,
            ("XX", _) => test = Test::Present,
            ("IFEQ", [value, after @ ..]) => {
                test = Test::Equals(Datum::from_bytes(value));
                rest = after;
            }
            ("GET", _) => get = true,
            _ => return None,
        }
    }
    let plain = test == Test::Always && !get;
    Some((!plain).then(|| Box::new(SetIf { test, get })))
}

fn parse_number<T: FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn parse_millis(word: &[u8]) -> Option<Duration> {
    parse_number(word).map(Duration::from_millis)
}

fn parse_text(word: &[u8]) -> Option<Arc<str>> {
    std::str::from_utf8(word).ok().map(Arc::from)
}

/// An address in two words. `localhost` is the one name that needs no resolver.
pub fn parse_addr(host: &[u8], port: &[u8]) -> Option<Addr> {
    let host = match host {
        b"localhost" => std::net::Ipv4Addr::LOCALHOST,
        _ => parse_number(host)?,
    };
    Some(Addr::new(host, parse_number(port)?))
}

/// The words of an inline command: separated by blanks, quoted where they contain some. `None` if quotes do not match.
pub fn inline_words(line: &[u8]) -> Option<Vec<Bytes>> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    while let Some(&first) = rest.first() {
        let (word, after) = match first {
            b'"' | b'\'' => quoted(&rest[1..], first)?,
            _ => {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                (Bytes::copy_from_slice(&rest[..end]), &rest[end..])
            }
        };
        words.push(word);
        rest = after.trim_ascii_start();
    }
    Some(words)
}

/// A quoted word and what follows it. In double quotes a backslash takes the next byte as it is, but for `\n`, `\r`
/// and `\t`.
fn quoted(line: &[u8], quote: u8) -> Option<(Bytes, &[u8])> {
    let mut word = Vec::new();
    let mut at = 0;
    loop {
        let byte = *line.get(at)?;
        at += 1;
        if byte == quote {
            break;
        }
        if byte == b'\\' && quote == b'"' {
            word.push(match *line.get(at)? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                other => other,
            });
            at += 1;
        } else {
            word.push(byte);
        }
    }
    // A quote must end its word.
    let after = &line[at..];
    after.first().is_none_or(u8::is_ascii_whitespace).then(|| (word.into(), after))
}
