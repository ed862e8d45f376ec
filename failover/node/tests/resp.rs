//! RESP on the wire: the bytes that real clients and servers send and expect, both sides against each other, and
//! input that nobody should send.

use bytes::BytesMut;
use firedrill_node::driver::{BadInput, Codec, Side};
use firedrill_node::resp::Resp;
use firedrill_protocols::contract::{Duration, Random, System, stream};
use firedrill_protocols::redis::admin::{Replconf, SentinelCommand};
use firedrill_protocols::redis::data::Data;
use firedrill_protocols::redis::info::*;
use firedrill_protocols::redis::instances::*;
use firedrill_protocols::redis::message::*;
use firedrill_protocols::redis::values::*;
use std::sync::Arc;

struct Redis;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Nothing {}

impl System for Redis {
    const NAME: &'static str = "redis";
    type Message = Message;
    type Kind = Nothing;
    type Timer = Nothing;
    type Record = ();

    fn wire_size(message: &Message) -> usize {
        message.wire_size()
    }
}

/// One end of a connection.
struct End {
    codec: Box<dyn Codec<Redis>>,
    input: BytesMut,
    /// What the codec wrote by itself.
    own: BytesMut,
}

impl End {
    fn new(side: Side) -> End {
        End { codec: Box::new(Resp::new(side)), input: BytesMut::new(), own: BytesMut::new() }
    }

    fn say(&mut self, message: impl Into<Message>) -> String {
        let mut out = BytesMut::new();
        self.codec.encode(message.into(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn hear(&mut self, bytes: impl AsRef<[u8]>) -> Result<Vec<Message>, BadInput> {
        self.input.extend_from_slice(bytes.as_ref());
        let mut messages = Vec::new();
        while let Some(message) = self.codec.decode(&mut self.input, &mut self.own)? {
            messages.push(message);
        }
        Ok(messages)
    }
}

fn server() -> End {
    End::new(Side::Accepted)
}

fn client() -> End {
    End::new(Side::Dialled)
}

fn addr(port: u16) -> Addr {
    Addr::new([127, 0, 0, 1].into(), port)
}

fn id(byte: u8) -> Hex {
    Hex([byte; 20])
}

fn get(key: u32) -> Command {
    Command::Data(Data::Get(Key::Numbered(key)))
}

#[test]
fn commands_are_read_in_capitals_or_not_and_as_people_type_them() {
    let mut server = server();
    let set = |value: &[u8]| {
        Message::Command(Command::Data(Data::Set {
            key: Key::Numbered(1),
            value: Datum::from_bytes(value),
            condition: None,
        }))
    };
    assert_eq!(server.hear("*3\r\n$3\r\nsEt\r\n$2\r\nk1\r\n$1\r\n5\r\n"), Ok(vec![set(b"5")]));
    assert_eq!(server.hear("set k1 \"a b\"\r\nSET k1 7\n"), Ok(vec![set(b"a b"), set(b"7")]));
    assert_eq!(server.hear("\r\n*0\r\n*-1\r\nPING\r\n"), Ok(vec![Command::Ping.into()]));
    let words = |text: &str| text.split(' ').map(|word| word.as_bytes().into()).collect();
    assert_eq!(
        server.hear("CLIENT SETINFO LIB-NAME redis-py\r\n"),
        Ok(vec![Command::Other(words("CLIENT SETINFO LIB-NAME redis-py")).into()])
    );
    assert_eq!(
        server.hear("SET k1 5 EX 10\r\n"),
        Ok(vec![Command::Other(words("SET k1 5 EX 10")).into()]),
        "an option that we do not have is not dropped"
    );
}

#[test]
fn sentinel_answers_have_the_bytes_that_clients_know() {
    let mut sentinel = server();
    assert_eq!(sentinel.say(Reply::Address(addr(27000))), "*2\r\n$9\r\n127.0.0.1\r\n$5\r\n27000\r\n");
    assert_eq!(sentinel.say(Reply::NilArray), "*-1\r\n");
    assert_eq!(
        sentinel.say(Reply::Vote { down: false, leader: None, epoch: 0 }),
        "*3\r\n:0\r\n$1\r\n*\r\n:0\r\n"
    );
    assert_eq!(
        sentinel.say(Reply::Role(Box::new(RoleReport::Sentinel(vec!["mymaster".into()])))),
        "*2\r\n$8\r\nsentinel\r\n*1\r\n$8\r\nmymaster\r\n"
    );
    let channel = Channel::Named(b"*"[..].into());
    assert_eq!(
        sentinel.say(Message::Push(Push::Subscribed { channel, pattern: true, count: 1 })),
        "*3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:1\r\n"
    );
    let published = Push::Published {
        pattern: Some(b"*"[..].into()),
        channel: Channel::Switch,
        payload: Payload::Text(b"mymaster 127.0.0.1 27000 127.0.0.1 27002"[..].into()),
    };
    assert_eq!(
        sentinel.say(Message::Push(published)),
        "*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$14\r\n+switch-master\r\n$40\r\nmymaster 127.0.0.1 27000 127.0.0.1 27002\r\n"
    );
    assert_eq!(sentinel.say(Reply::Pong), "*2\r\n$4\r\npong\r\n$0\r\n\r\n", "PING of a subscriber");
}

#[test]
fn the_entry_of_one_group_is_not_a_list_of_entries() {
    let (mut client, mut sentinel) = (client(), server());
    let asked = client.say(Command::Sentinel(SentinelCommand::Primary("mymaster".into())));
    let heard = sentinel.hear(asked);
    assert!(heard.is_ok_and(|heard| heard.len() == 1));
    let reply = Reply::Instances(Arc::new(vec![primary_entry()]));
    let answer = sentinel.say(reply.clone());
    assert!(answer.starts_with("*40\r\n$4\r\nname\r\n$8\r\nmymaster\r\n"), "{answer}");
    assert_eq!(client.hear(answer), Ok(vec![reply.into()]));
}

#[test]
fn hello_three_changes_maps_pushes_and_nulls() {
    let mut server = server();
    let greeted =
        |protocol| Reply::Hello(Server { protocol, mode: Mode::Sentinel, replica: false, connection: 3 });
    assert!(server.say(greeted(2)).starts_with("*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n"));
    assert!(server.say(greeted(3)).starts_with("%7\r\n$6\r\nserver\r\n"));
    assert_eq!(server.say(Reply::Nil), "_\r\n");
    assert_eq!(server.say(Reply::NilArray), "_\r\n");
    let pairs = vec![(Reply::Text("a".into()), Reply::Integer(-1))];
    assert_eq!(server.say(Reply::Map(pairs)), "%1\r\n$1\r\na\r\n:-1\r\n");
    let channel = Channel::Named(b"c"[..].into());
    assert_eq!(
        server.say(Message::Push(Push::Subscribed { channel, pattern: false, count: 1 })),
        ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
    );
    assert_eq!(server.say(Reply::Pong), "+PONG\r\n");
    assert_eq!(server.say(Reply::Instances(Arc::new(vec![primary_entry()])))[..8], *"*1\r\n%20\r");
}

#[test]
fn a_line_cannot_smuggle_another_line() {
    let error = Error::Other("ERR bad\r\n+OK".into());
    assert_eq!(server().say(Reply::Error(error)), "-ERR bad  +OK\r\n");
}

fn primary_entry() -> InstanceReport {
    InstanceReport {
        name: "mymaster".into(),
        addr: addr(27000),
        run_id: Some(RunId(id(3))),
        flags: Flags::default().with(Flag::Primary, true),
        last_ping_sent: 0,
        last_ok_ping_reply: 130,
        last_ping_reply: 130,
        suspected_for: None,
        down_after: 1000,
        detail: Detail::Primary {
            info_refresh: 700,
            reports_primary: true,
            role_reported_time: 9000,
            config_epoch: 2,
            replicas: 2,
            sentinels: 2,
            quorum: 2,
            failover_timeout: 6000,
            parallel_syncs: 1,
        },
    }
}

fn replica_entry() -> InstanceReport {
    let detail = Detail::Replica {
        info_refresh: 700,
        reports_primary: false,
        role_reported_time: 9000,
        link_down: 0,
        link_up: true,
        primary: Some(addr(27000)),
        priority: 100,
        offset: Offset(4711),
        announced: true,
    };
    let flags = Flags::default().with(Flag::Replica, true).with(Flag::Suspected, true);
    InstanceReport {
        name: "127.0.0.1:27001".into(),
        addr: addr(27001),
        flags,
        suspected_for: Some(17),
        detail,
        ..primary_entry()
    }
}

fn replica_info() -> Info {
    Info {
        flavour: Flavour::Redis,
        run_id: RunId(id(1)),
        loading: false,
        follows: Some(Follows {
            primary: addr(27000),
            link: Link::Down { syncing: true, since: Some(12) },
            offset: Offset(99),
        }),
        priority: 50,
        announced: true,
        replicas: Vec::new(),
        id: ReplId(id(5)),
        id2: ReplId(id(0)),
        offset: Offset(99),
        second_offset: None,
        failover: false,
    }
}

fn primary_info() -> Info {
    let replica = AttachedReplica { addr: addr(27001), online: true, offset: Offset(90), lag: 1 };
    let waiting = AttachedReplica { addr: addr(27002), online: false, offset: Offset(0), lag: 0 };
    Info {
        follows: None,
        replicas: vec![replica, waiting],
        second_offset: Some(Offset(80)),
        priority: 100,
        ..replica_info()
    }
}

/// Commands with the replies they may get.
fn exchanges() -> Vec<(Command, Reply)> {
    let primaries = SentinelCommand::Primaries;
    let replicas = SentinelCommand::Replicas("mymaster".into());
    let asked = SentinelCommand::IsPrimaryDown { addr: addr(27000), epoch: 4, candidate: Some(RunId(id(9))) };
    let list = Data::Range { key: Key::Numbered(3), start: 0, stop: -1 };
    let elements = vec![Datum::number(1), Datum::padded(2, 64), Datum::from_bytes(b"x y")].into();
    let role = RoleReport::Primary { offset: Offset(7), replicas: vec![(addr(27001), Offset(6))] };
    let state = LinkState::Connected;
    let replica_role = RoleReport::Replica { primary: addr(27000), state, offset: Some(Offset(6)) };
    let push = Data::Push { key: Key::Numbered(3), value: Datum::number(4), more: Box::new([]) };
    vec![
        (Command::Ping, Reply::Pong),
        (Command::Ping, Reply::Error(Error::Loading)),
        (get(1), Reply::Nil),
        (get(1), Reply::Bulk(Datum::padded(17, 32))),
        (push.clone().into(), Reply::Integer(5)),
        (push.clone().into(), Reply::Error(Error::ReadOnly)),
        (push.clone().into(), Reply::Error(Error::PikaReadOnly)),
        (Command::ClientCapaRedirect, Reply::Ok),
        (push.clone().into(), Reply::Error(Error::Redirect(addr(27001)))),
        (push.into(), Reply::Error(Error::Moved { slot: 12182, to: addr(27102) })),
        (list.clone().into(), Reply::List(elements)),
        (list.into(), Reply::List(Default::default())),
        (Command::Info, Reply::Info(Box::new(replica_info()))),
        (Command::Info, Reply::Info(Box::new(primary_info()))),
        (Command::Role, Reply::Role(Box::new(role))),
        (Command::Role, Reply::Role(Box::new(replica_role))),
        (Command::Multi, Reply::Ok),
        (Command::ReplicaOf(Some(addr(27002))), Reply::Queued),
        (Command::ClientKill(ClientType::Subscriber), Reply::Queued),
        (Command::Exec, Reply::Array(vec![Reply::Ok, Reply::Integer(3)])),
        (Command::Exec, Reply::NilArray),
        (Command::Sentinel(primaries), Reply::Instances(Arc::new(vec![primary_entry()]))),
        (Command::Sentinel(replicas), Reply::Instances(Arc::new(vec![replica_entry(), replica_entry()]))),
        (Command::Sentinel(SentinelCommand::PrimaryAddr("m".into())), Reply::Address(addr(27001))),
        (Command::Sentinel(SentinelCommand::PrimaryAddr("n".into())), Reply::NilArray),
        (Command::Sentinel(asked.clone()), Reply::Vote { down: true, leader: Some(RunId(id(9))), epoch: 4 }),
        (Command::Sentinel(asked), Reply::Vote { down: false, leader: None, epoch: 0 }),
        (Command::Wait { replicas: 1, timeout: Duration::from_millis(500) }, Reply::Integer(1)),
        (Command::ConfigRewrite, Reply::Error(Error::Other("ERR no configuration file".into()))),
    ]
}

#[test]
fn both_sides_understand_each_other_however_the_bytes_are_cut() {
    for piece in [1, 7, 4096] {
        let (mut client, mut server) = (client(), server());
        let (mut there, mut back) = (String::new(), String::new());
        for (command, reply) in exchanges() {
            let bytes = client.say(command.clone());
            assert_eq!(bytes.len(), command.wire_size(), "{command:?}");
            there += &bytes;
            let bytes = server.say(reply.clone());
            assert_eq!(bytes.len(), reply.wire_size(), "{reply:?}");
            back += &bytes;
        }
        let hear = |end: &mut End, bytes: &str| -> Vec<Message> {
            bytes.as_bytes().chunks(piece).flat_map(|part| end.hear(part).expect("well-formed")).collect()
        };
        let commands: Vec<Message> = exchanges().into_iter().map(|(command, _)| command.into()).collect();
        let replies: Vec<Message> = exchanges().into_iter().map(|(_, reply)| reply.into()).collect();
        assert_eq!(hear(&mut server, &there), commands);
        assert_eq!(hear(&mut client, &back), replies);
    }
}

#[test]
fn a_client_that_asked_for_version_three_understands_it() {
    let (mut client, mut server) = (client(), server());
    let hello = Reply::Hello(Server { protocol: 3, mode: Mode::Standalone, replica: true, connection: 7 });
    let (command, mut bytes) = (Command::Hello(Some(3)), server.say(hello.clone()));
    client.say(command);
    assert!(bytes.starts_with("%7\r\n"));
    let mut replies = vec![Message::Reply(hello)];
    for (command, reply) in exchanges() {
        client.say(command);
        bytes += &server.say(reply.clone());
        replies.push(reply.into());
    }
    bytes += ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n";
    let heard: Vec<Message> =
        bytes.as_bytes().chunks(5).flat_map(|part| client.hear(part).expect("well-formed")).collect();
    assert_eq!(heard, replies);
    assert!(
        server.hear("%1\r\n$1\r\na\r\n$1\r\nb\r\n").is_ok_and(|heard| heard.len() == 5),
        "typed, not RESP3"
    );
    assert!(server.hear("*1\r\n%1\r\n").is_err(), "commands are arrays of strings");
}

#[test]
fn subscribers_hear_pushes_between_replies() {
    let greeting = Greeting {
        addr: addr(26379),
        run_id: RunId(id(4)),
        epoch: 3,
        name: "mymaster".into(),
        primary: addr(27000),
        config_epoch: 2,
    };
    let pushes = [
        Push::Subscribed { channel: Channel::Hello, pattern: false, count: 1 },
        Push::Published {
            pattern: None,
            channel: Channel::Hello,
            payload: Payload::Hello(Arc::new(greeting)),
        },
        Push::Unsubscribed { channel: None, count: 0 },
    ];
    let (mut client, mut server) = (client(), server());
    client.say(Command::Subscribe(vec![Channel::Hello]));
    for push in pushes {
        let bytes = server.say(Message::Push(push.clone()));
        assert_eq!(client.hear(bytes), Ok(vec![Message::Push(push)]));
    }
}

#[test]
fn a_snapshot_and_the_stream_behind_it_come_over_in_order() {
    let mark = ReplId(id(0xab));
    let keys: Arc<[(Key, Stored)]> = [
        (Key::Numbered(1), Stored::Text(Datum::number(5))),
        (Key::Numbered(2), Stored::List((0..300).map(Datum::number).collect())),
    ]
    .into();
    let write = Data::Push { key: Key::Numbered(2), value: Datum::number(300), more: Box::new([]) };
    let messages = [
        Message::Snapshot(Snapshot::KeepAlive),
        Message::Reply(Reply::FullResync { id: ReplId(id(7)), offset: Offset(100) }),
        Message::Snapshot(Snapshot::KeepAlive),
        Message::Snapshot(Snapshot::Begin { mark }),
        Message::Snapshot(Snapshot::Keys(keys)),
        Message::Snapshot(Snapshot::End { mark }),
        Message::stream(Command::Select(0)),
        Message::stream(write.into()),
        Message::stream(Command::Ping),
        Message::stream(Command::Replconf(Replconf::GetAck)),
    ];
    let (mut replica, mut primary) = (client(), server());
    let psync = Command::Psync { from: None, failover: false };
    let asked = replica.say(psync.clone());
    assert_eq!(asked, "*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n");
    assert_eq!(primary.hear(asked), Ok(vec![psync.into()]));
    let mut bytes = BytesMut::new();
    messages.iter().for_each(|message| primary.codec.encode(message.clone(), &mut bytes));
    for piece in [3, 4096] {
        let mut replica = client();
        replica.say(Command::Psync { from: None, failover: false });
        let heard: Vec<Message> =
            bytes.chunks(piece).flat_map(|part| replica.hear(part).expect("well-formed")).collect();
        let merged = merge_keys(heard);
        assert_eq!(merged, messages, "in pieces of {piece}");
    }
    let ack = Command::Replconf(Replconf::Ack(Offset(200)));
    let bytes = replica.say(ack.clone());
    assert_eq!(primary.hear(bytes), Ok(vec![ack.into()]));
}

/// Pieces of a snapshot's keys as one: how they were cut depends on how the bytes came.
fn merge_keys(messages: Vec<Message>) -> Vec<Message> {
    let mut merged: Vec<Message> = Vec::new();
    for message in messages {
        match (merged.last_mut(), message) {
            (Some(Message::Snapshot(Snapshot::Keys(all))), Message::Snapshot(Snapshot::Keys(more))) => {
                *all = all.iter().chain(more.iter()).cloned().collect();
            }
            (_, message) => merged.push(message),
        }
    }
    merged
}

#[test]
fn a_snapshot_with_its_length_in_front_is_read_too() {
    // As a Redis with repl-diskless-sync off sends it: "foo" = "bar", no mark behind.
    let mut replica = client();
    replica.say(Command::Psync { from: None, failover: false });
    let mut bytes = format!("+FULLRESYNC {} 1\r\n$33\r\n", id(2)).into_bytes();
    bytes.extend(b"REDIS0011\xfe\x00\xfb\x01\x00\x00\x03foo\x03bar\xff");
    bytes.extend([0; 8]);
    bytes.extend(b"*1\r\n$4\r\nPING\r\n");
    let heard = replica.hear(bytes).expect("well-formed");
    let keys = vec![(Key::from_bytes(b"foo"), Stored::Text(Datum::from_bytes(b"bar")))];
    assert_eq!(heard[2..3], [Message::Snapshot(Snapshot::Keys(keys.into()))]);
    assert_eq!(heard[3], Message::Snapshot(Snapshot::End { mark: ReplId::default() }));
    assert_eq!(heard[4], Message::stream(Command::Ping));
}

#[test]
fn what_no_peer_should_send_is_an_error_and_costs_little() {
    let nested = "*1\r\n".repeat(100_000);
    let long_line = "x".repeat(70_000);
    for input in [
        "*1\r\n:5\r\n",
        "*2\r\n$4\r\nPING\r\nxx",
        "*1\r\n$-5\r\n",
        "*99999999999999999999\r\n",
        "*2000000\r\n",
        "$5\r\nhello\r\n*1\r\n+x\r\n",
        "*1\r\n$70000000000\r\n",
        "*1\r\n$4\r\nPINGxx",
        "SET \"k\r\n",
        &nested,
        &long_line,
    ] {
        let mut server = server();
        let heard = server.hear(input);
        let first_line_is_a_command = input.starts_with("$5");
        assert!(heard.is_err(), "{:?}: {heard:?}", &input[..input.len().min(20)]);
        assert!(server.own.starts_with(b"-ERR Protocol error") || first_line_is_a_command);
    }
    let mut patient = server();
    assert_eq!(
        patient.hear("*3\r\n$3\r\nSET\r\n$2\r\nk1\r\n$5000"),
        Ok(vec![]),
        "half a command is waited for"
    );
    assert!(client().hear("+OK\r\n").is_err(), "an answer to nothing");
    let mut server = server();
    for byte in "*1\r\n$100000\r\n".bytes().chain(std::iter::repeat_n(b'a', 100_000)).chain(*b"\r\n") {
        server.hear([byte]).expect("slow, but right");
    }
    assert!(server.input.is_empty(), "the command came through");
}

/// Inputs of the small fuzz runs; `FIREDRILL_FUZZ` asks for more.
fn fuzz_inputs() -> u64 {
    std::env::var("FIREDRILL_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(5_000)
}

/// Well-formed traffic in both directions, to be damaged.
fn seeds() -> Vec<(Side, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (command, reply) in exchanges() {
        let (mut client, mut server) = (client(), server());
        seeds.push((Side::Accepted, client.say(command).into_bytes()));
        seeds.push((Side::Dialled, server.say(reply.clone()).into_bytes()));
        server.say(Reply::Hello(Server { protocol: 3, mode: Mode::Sentinel, replica: false, connection: 1 }));
        seeds.push((Side::Dialled, server.say(reply).into_bytes()));
    }
    let mut snapshot = BytesMut::new();
    let mark = ReplId(id(1));
    let keys = vec![(Key::Numbered(1), Stored::List((0..40).map(Datum::number).collect()))];
    for message in [
        Message::Reply(Reply::FullResync { id: mark, offset: Offset(1) }),
        Message::Snapshot(Snapshot::Begin { mark }),
        Message::Snapshot(Snapshot::Keys(keys.into())),
        Message::Snapshot(Snapshot::End { mark }),
        Message::stream(Command::Ping),
    ] {
        server().codec.encode(message, &mut snapshot);
    }
    seeds.push((Side::Dialled, snapshot.to_vec()));
    seeds
}

#[test]
fn damaged_and_random_input_never_panics_and_never_piles_up() {
    let mut random = stream(11, 1, 1, 1);
    let seeds = seeds();
    for _ in 0..fuzz_inputs() {
        let (side, bytes) = &seeds[random.between(0, seeds.len() as u64 - 1) as usize];
        let mut bytes = bytes.clone();
        for _ in 0..random.between(0, 4) {
            damage(&mut bytes, &mut random);
        }
        let mut end = End::new(*side);
        if *side == Side::Dialled {
            let (command, _) = exchanges().swap_remove(random.between(0, 26) as usize);
            end.say(Command::Psync { from: None, failover: false });
            end.say(command);
        }
        let piece = random.between(1, 64) as usize;
        let failed = bytes.chunks(piece).any(|part| end.hear(part).is_err());
        assert!(failed || end.input.len() <= bytes.len());
    }
}

fn damage(bytes: &mut Vec<u8>, random: &mut impl Random) {
    let place = random.between(0, (bytes.len() as u64).saturating_sub(1)) as usize;
    match random.between(0, 3) {
        _ if bytes.is_empty() => bytes.push(random.between(0, 255) as u8),
        0 => bytes[place] = random.between(0, 255) as u8,
        1 => bytes[place] = b"*$+-:\r\n0159"[random.between(0, 10) as usize],
        2 => {
            bytes.remove(place);
        }
        _ => bytes.truncate(place),
    }
}
