//! Damaged input for every parser that reads what others wrote: the wire forms, the disk, and the files of users.
//!
//! Each target is fed well-formed samples that have been damaged, and sometimes plain noise. It must refuse or accept;
//! it must not panic, hang, or keep more than it was given. `sim/tests/fuzz.rs` feeds each a little, `firedrill bench
//! fuzz` a million inputs.

use crate::campaign::Capsule;
use crate::scenario::{load_text, parse};
use bytes::BytesMut;
use firedrill_checkers::import;
use firedrill_node::bolt::MemgraphWire;
use firedrill_node::bolt::packstream::Value;
use firedrill_node::cluster_bus::ClusterWire;
use firedrill_node::disk::{read_records, write_record};
use firedrill_node::driver::{Codec, Framed, Side, Wire};
use firedrill_node::resp::Resp;
use firedrill_protocols::cluster::bus::{Body, Entry, Flags, Header, NodeId, Packet};
use firedrill_protocols::cluster::slots::SlotSet;
use firedrill_protocols::cluster::{self, Cluster};
use firedrill_protocols::contract::{Random, System, stream};
use firedrill_protocols::graph::Vertex;
use firedrill_protocols::memgraph::message::{Answer, Bolt, Message as Graph, Query, Table};
use firedrill_protocols::memgraph::{Kind, Memgraph};
use firedrill_protocols::raft::service::Service;
use firedrill_protocols::redis::message::{Command, Message as Redis, Reply, Snapshot, Stored};
use firedrill_protocols::redis::values::{Datum, Hex, Key, Offset, ReplId};
use firedrill_protocols::sentinel::SentinelSystem;
use std::sync::Arc;

/// A parser.
#[derive(Clone, Copy)]
pub struct Target {
    /// What it reads.
    pub name: &'static str,
    samples: fn() -> Vec<Vec<u8>>,
    /// Reads; whether it accepted all of it.
    eat: fn(&[u8]) -> bool,
}

/// Every parser.
pub const TARGETS: &[Target] = &[
    Target { name: "RESP, commands", samples: commands, eat: |bytes| eat_resp(Side::Accepted, &[], bytes) },
    Target {
        name: "RESP, replies",
        samples: replies,
        eat: |bytes| eat_resp(Side::Dialled, &[const { Command::Role }; 8], bytes),
    },
    Target { name: "RESP, snapshot and stream", samples: replication, eat: eat_replication },
    Target { name: "Bolt, server", samples: bolt_requests, eat: |bytes| eat_bolt(Side::Accepted, bytes) },
    Target { name: "Bolt, client", samples: bolt_answers, eat: |bytes| eat_bolt(Side::Dialled, bytes) },
    Target { name: "PackStream", samples: packed, eat: |bytes| Value::read(bytes).is_ok() },
    Target { name: "cluster bus", samples: packets, eat: eat_packets },
    Target { name: "frames", samples: || vec![vec![0, 0, 0, 2, 0, 1]], eat: eat_frames },
    Target { name: "disk records", samples: records, eat: eat_records },
    Target { name: "scenario", samples: scenarios, eat: eat_scenario },
    Target { name: "capsule", samples: capsules, eat: eat_capsule },
    Target { name: "history", samples: histories, eat: eat_history },
];

impl Target {
    /// Whether it accepts at least one of its samples as it is.
    pub fn accepts_a_sample(&self) -> bool {
        (self.samples)().iter().any(|sample| (self.eat)(sample))
    }
}

/// Feed a target so many inputs; how many it accepted.
///
/// # Panics
/// The target does, or it keeps what it cannot use.
pub fn feed(target: &Target, inputs: u64, seed: u64) -> u64 {
    let samples = (target.samples)();
    let mut random = stream(seed, 1, 1, 1);
    (0..inputs).map(|_| u64::from((target.eat)(&damaged(&samples, &mut random)))).sum()
}

/// A sample with a few things done to it, or noise.
fn damaged(samples: &[Vec<u8>], random: &mut impl Random) -> Vec<u8> {
    let one = |random: &mut dyn FnMut(u64) -> usize| samples[random(samples.len() as u64 - 1)].clone();
    let mut draw = |max: u64| random.between(0, max) as usize;
    if draw(31) == 0 {
        return (0..draw(64)).map(|_| draw(255) as u8).collect();
    }
    let mut bytes = one(&mut draw);
    for _ in 0..draw(5) {
        if bytes.is_empty() {
            break;
        }
        let place = draw(bytes.len() as u64 - 1);
        match draw(6) {
            0 => bytes[place] = draw(255) as u8,
            1 => bytes[place] ^= 1 << draw(7),
            2 => bytes.truncate(place),
            3 => drop(bytes.drain(place..(place + 1 + draw(8)).min(bytes.len()))),
            4 => {
                let copied = bytes[place..(place + 1 + draw(16)).min(bytes.len())].to_vec();
                bytes.splice(place..place, copied);
            }
            // A number that is out of all bounds.
            5 => bytes[place] = if bytes[place].is_ascii_digit() { b'9' } else { 0xff },
            _ => {
                let other = one(&mut draw);
                bytes.truncate(place);
                bytes.extend_from_slice(&other[draw(other.len() as u64)..]);
            }
        }
    }
    bytes
}

/// Decode in one piece until nothing more comes.
fn eat_all<S: System>(codec: &mut dyn Codec<S>, bytes: &[u8]) -> bool {
    let (mut input, mut out) = (BytesMut::from(bytes), BytesMut::new());
    loop {
        match codec.decode(&mut input, &mut out) {
            Ok(Some(_)) => {}
            Ok(None) => {
                assert!(input.len() <= bytes.len(), "it keeps more than it was given");
                return input.is_empty();
            }
            Err(_) => return false,
        }
    }
}

fn eat_resp(side: Side, asked: &[Command], bytes: &[u8]) -> bool {
    let mut codec = Resp::new(side);
    for command in asked {
        Codec::<SentinelSystem>::encode(&mut codec, Redis::Command(command.clone()), &mut BytesMut::new());
    }
    eat_all::<SentinelSystem>(&mut codec, bytes)
}

fn eat_replication(bytes: &[u8]) -> bool {
    eat_resp(Side::Dialled, &[Command::Psync { from: None, failover: false }], bytes)
}

fn eat_bolt(side: Side, bytes: &[u8]) -> bool {
    let mut codec = MemgraphWire.codec(Kind::Bolt, side);
    if side == Side::Dialled {
        // What the sample answers.
        let begin = Bolt::Begin { read: true };
        for bolt in [Bolt::Hello, Bolt::Route, begin, Bolt::Run(Query::Read(Vertex(1)))] {
            codec.encode(Graph::Bolt(bolt), &mut BytesMut::new());
        }
    }
    eat_all::<Memgraph>(&mut *codec, bytes)
}

fn eat_packets(bytes: &[u8]) -> bool {
    eat_all::<Cluster>(&mut *ClusterWire.codec(cluster::Kind::Bus, Side::Accepted), bytes)
}

fn eat_frames(bytes: &[u8]) -> bool {
    eat_all::<Service>(&mut Framed::default(), bytes)
}

fn eat_records(bytes: &[u8]) -> bool {
    !read_records(bytes).is_empty()
}

fn eat_scenario(bytes: &[u8]) -> bool {
    load_text(&String::from_utf8_lossy(bytes), "fuzz.json").is_ok()
}

fn eat_capsule(bytes: &[u8]) -> bool {
    parse::<Capsule>(&String::from_utf8_lossy(bytes), "fuzz.json").is_ok()
}

fn eat_history(bytes: &[u8]) -> bool {
    import::parse("fuzz", bytes.to_vec(), &import::Options::default()).is_ok()
}

// ------------------------------------------------------------------------------------------------------- samples

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn commands() -> Vec<Vec<u8>> {
    texts(&[
        "PING\r\nSET \"a key\" 'value'\r\n",
        "*3\r\n$3\r\nSET\r\n$2\r\nk1\r\n$5\r\nhello\r\n*2\r\n$3\r\nGET\r\n$2\r\nk1\r\n",
        "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*1\r\n$5\r\nMULTI\r\n*4\r\n$5\r\nRPUSH\r\n$1\r\nk\r\n$1\r\n1\r\n$1\r\n2\r\n*1\r\n$4\r\nEXEC\r\n",
        "*5\r\n$8\r\nSENTINEL\r\n$22\r\nis-master-down-by-addr\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n$1\r\n1\r\n*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n",
        "*3\r\n$7\r\nCLUSTER\r\n$8\r\nFAILOVER\r\n$5\r\nFORCE\r\n*1\r\n$7\r\nCOMMAND\r\n",
    ])
}

fn replies() -> Vec<Vec<u8>> {
    texts(&[
        "+OK\r\n-READONLY no\r\n:12\r\n$5\r\nhello\r\n$-1\r\n*-1\r\n",
        "*3\r\n$6\r\nmaster\r\n:120\r\n*1\r\n*3\r\n$9\r\n127.0.0.1\r\n$4\r\n6380\r\n$3\r\n119\r\n",
        "%2\r\n$4\r\nname\r\n$8\r\nmymaster\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n_\r\n#t\r\n,1.5\r\n(12345678901234567890\r\n",
        ">3\r\n$7\r\nmessage\r\n$18\r\n__sentinel__:hello\r\n$9\r\n127.0.0.1\r\n~1\r\n:1\r\n=7\r\ntxt:abc\r\n",
        "*2\r\n*2\r\n:0\r\n:5460\r\n*1\r\n*1\r\n*0\r\n",
    ])
}

fn replication() -> Vec<Vec<u8>> {
    let mut codec = Resp::new(Side::Accepted);
    let mut out = BytesMut::new();
    let mark = ReplId(Hex::parse(&[b'a'; 40]).expect("forty digits"));
    let keys = vec![
        (Key::Numbered(1), Stored::List((0..40).map(Datum::number).collect())),
        (Key::Numbered(2), Stored::List((0..3).map(Datum::number).collect())),
    ];
    for message in [
        Redis::Reply(Reply::FullResync { id: mark, offset: Offset(1) }),
        Redis::Snapshot(Snapshot::KeepAlive),
        Redis::Snapshot(Snapshot::Begin { mark }),
        Redis::Snapshot(Snapshot::Keys(keys.into())),
        Redis::Snapshot(Snapshot::End { mark }),
        Redis::stream(Command::Ping),
    ] {
        Codec::<SentinelSystem>::encode(&mut codec, message, &mut out);
    }
    vec![out.to_vec()]
}

fn bolt_requests() -> Vec<Vec<u8>> {
    let mut codec = MemgraphWire.codec(Kind::Bolt, Side::Dialled);
    let mut out = BytesMut::new();
    for bolt in [
        Bolt::Hello,
        Bolt::Route,
        Bolt::Begin { read: true },
        Bolt::Run(Query::Read(Vertex(7))),
        Bolt::Commit,
    ] {
        codec.encode(Graph::Bolt(bolt), &mut out);
    }
    vec![out.to_vec()]
}

fn bolt_answers() -> Vec<Vec<u8>> {
    let mut codec = MemgraphWire.codec(Kind::Bolt, Side::Accepted);
    let (mut input, mut out) = (BytesMut::from(&bolt_requests()[0][..]), BytesMut::new());
    while let Ok(Some(_)) = codec.decode(&mut input, &mut out) {}
    for answer in [
        Answer::Success { warning: false },
        Answer::Table(Table::default()),
        Answer::Success { warning: true },
        Answer::List(Arc::from([1, 2, 3])),
    ] {
        codec.encode(Graph::Answer(answer), &mut out);
    }
    vec![out.to_vec()]
}

fn packed() -> Vec<Vec<u8>> {
    let list = Value::List(vec![Value::Int(-200), Value::Text("text".repeat(80)), Value::Null]);
    let mut out = BytesMut::new();
    Value::Struct(0x10, vec![Value::map([("key", list), ("n", Value::Int(1 << 40))])]).write(&mut out);
    vec![out.to_vec()]
}

fn packets() -> Vec<Vec<u8>> {
    let header = Header {
        sender: NodeId(1),
        current_epoch: 3,
        config_epoch: 2,
        offset: 99,
        slots: SlotSet::from_ranges(&[(0, 5460)]),
        replica_of: None,
        flags: Flags::PRIMARY,
        state_ok: true,
        paused: false,
        force_ack: false,
        primary_failed: false,
    };
    let entry = Entry { node: NodeId(2), flags: Flags::REPLICA, ping_sent: 0, pong_received: 9 };
    let bodies = [
        Body::Ping(Box::new([entry, entry])),
        Body::Fail(NodeId(2)),
        Body::AuthRequest,
        Body::Update { node: NodeId(3), config_epoch: 4, slots: SlotSet::empty() },
    ];
    let sample = |body| {
        let packet = Packet { header: header.clone(), body };
        let mut out = BytesMut::new();
        let mut codec = ClusterWire.codec(cluster::Kind::Bus, Side::Dialled);
        codec.encode(cluster::Message::Bus(Arc::new(packet)), &mut out);
        out.to_vec()
    };
    bodies.into_iter().map(sample).collect()
}

fn records() -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    for length in [0u8, 3, 40] {
        write_record(&vec![length; usize::from(length)], &mut bytes);
    }
    vec![bytes]
}

const SCENARIO: &str = include_str!("../../scenarios/canary/early-ack.json");

fn scenarios() -> Vec<Vec<u8>> {
    texts(&[SCENARIO, include_str!("../../scenarios/sentinel/two-failovers-in-a-row.json")])
}

fn capsules() -> Vec<Vec<u8>> {
    vec![
        format!(
            r#"{{ "capsule": 1, "engine": "00", "scenario": {SCENARIO}, "seed": "7", "backend": "kernel",
            "trace_hash": "00ff", "checkpoints": ["0a"], "events": 3, "faults": [], "violations": ["rto.max <= 1s"] }}"#
        )
        .into_bytes(),
    ]
}

fn histories() -> Vec<Vec<u8>> {
    texts(&[
        "{:process 0, :type :invoke, :f :write, :value 3}\n{:process 0, :type :ok, :f :write, :value 3}\n\
         {:process 1, :type :invoke, :f :cas, :value [3 4]}\n{:process 1, :type :info, :f :cas, :value [3 4]}\n",
        "[{:process 0 :type :invoke :f :txn :value [[:append 5 1] [:r 5 nil]] :index 0 :time 12}\n\
         {:process 0 :type :ok :f :txn :value [[:append 5 1] [:r 5 [1]]] :index 1 :time 15}]",
        "INFO jepsen.util - 0 :invoke :read nil\nINFO jepsen.util - 0 :ok :read 4\n",
        "{\"client\":1,\"op\":\"write\",\"key\":\"k\",\"value\":1,\"at\":1,\"end\":2}\n",
    ])
}
