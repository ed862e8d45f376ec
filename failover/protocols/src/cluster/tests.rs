//! Rules of a cluster node, driven one step at a time.

use super::bus::{Body, Flags, Header, NodeId, Packet};
use super::node::{ClusterNode, Ctx};
use super::settings::{Flavor, NodeSpec, Settings};
use super::slots::{SlotSet, even_split, slot_of_number};
use super::state::{Beat, Peer, Stamp, Table};
use super::{Cluster, Kind, Message, Timer};
use crate::contract::{
    DiskImage, Duration, Effect, Ipv4Addr, LocalTime, Node, Observation, Opened, SessionId, Shard,
    SocketAddrV4, Surroundings, WallTime, stream,
};
use crate::redis::data::Data;
use crate::redis::message::{Command, Error, Message as Redis, Reply};
use crate::redis::values::{Datum, Key};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

const PRIMARIES: u16 = 3;

fn address(node: u16, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, node as u8 + 1), port)
}

/// Three primaries, and a replica of each: nodes 0 to 2, and 3 to 5.
fn settings(flavor: Flavor) -> Settings {
    let ranges = even_split(PRIMARIES);
    let nodes = (0..2 * PRIMARIES).map(|at| {
        let shard = at % PRIMARIES;
        let primary = at < PRIMARIES;
        NodeSpec {
            client: address(at, 7000),
            bus: address(at, 17000),
            replica_of: (!primary).then_some(NodeId(shard)),
            slots: if primary {
                SlotSet::from_ranges(&[ranges[usize::from(shard)]])
            } else {
                SlotSet::empty()
            },
            config_epoch: if primary { u64::from(at) + 1 } else { 0 },
            shard: Shard(shard),
            no_failover: false,
        }
    });
    Settings::new(nodes.collect(), flavor)
}

/// A node with its surroundings.
struct Bench {
    node: ClusterNode,
    surroundings: Surroundings,
    effects: Vec<Effect<Cluster>>,
}

impl Bench {
    fn new(settings: Settings, me: u16) -> Bench {
        let mut bench = Bench {
            node: ClusterNode::new(Arc::new(settings), NodeId(me), true),
            surroundings: Surroundings {
                now: LocalTime(0),
                wall: WallTime(1_000_000_000),
                random: stream(1, 0, u32::from(me), 0),
                next_session: 100,
                next_token: 0,
                notes: false,
            },
            effects: Vec::new(),
        };
        bench.step(|node, cx| node.start(cx, &DiskImage::default()));
        let token = bench.synced();
        bench.step(|node, cx| node.on_synced(cx, token, Ok(())));
        bench
    }

    /// One handler; returns its effects.
    fn step(&mut self, handler: impl FnOnce(&mut ClusterNode, &mut Ctx<'_>)) -> &[Effect<Cluster>] {
        self.effects.clear();
        handler(&mut self.node, &mut Ctx::new(&mut self.surroundings, &mut self.effects));
        &self.effects
    }

    fn pass(&mut self, span: Duration) {
        self.surroundings.now = self.surroundings.now + span;
        self.surroundings.wall.0 += span.as_micros() as i64;
    }

    /// The sync that the last step asked for.
    fn synced(&self) -> crate::contract::Token {
        let token = self.effects.iter().find_map(|effect| match effect {
            Effect::Sync { token, .. } => Some(*token),
            _ => None,
        });
        token.expect("the step synced something")
    }

    /// Runs a cron, which dials all links, and opens them.
    fn link_all(&mut self) {
        let cron = self.step(|node, cx| node.on_timer(cx, Timer::Cron));
        let dialled: Vec<SessionId> = (cron.iter())
            .filter_map(|effect| match effect {
                Effect::Open { session, kind: Kind::Bus, .. } => Some(*session),
                _ => None,
            })
            .collect();
        for session in dialled {
            self.step(|node, cx| node.on_open(cx, session, Opened::Dialled));
        }
        self.acknowledge();
    }

    /// The peers' acknowledgements come in.
    fn acknowledge(&mut self) {
        for _ in 0..2 {
            self.pass(Duration::from_millis(100));
            for node in 0..2 * PRIMARIES {
                self.step(|this, cx| this.on_timer(cx, Timer::Nagle(NodeId(node))));
            }
        }
        self.pass(Duration::from_millis(100));
    }

    fn receive(&mut self, packet: Packet) -> &[Effect<Cluster>] {
        self.step(|node, cx| node.on_message(cx, SessionId(1), Message::Bus(Arc::new(packet))))
    }

    fn ask(&mut self, command: Command) -> Reply {
        let from = address(99, 40_000);
        let client = SessionId(2);
        self.step(|node, cx| node.on_open(cx, client, Opened::Accepted { kind: Kind::Client, from }));
        let effects =
            self.step(|node, cx| node.on_message(cx, client, Message::Redis(Redis::Command(command))));
        let reply = effects.iter().find_map(|effect| match effect {
            Effect::Send { message: Message::Redis(Redis::Reply(reply)), .. } => Some(reply.clone()),
            _ => None,
        });
        reply.expect("a command is answered")
    }
}

fn header(settings: &Settings, sender: u16, epoch: u64) -> Header {
    let spec = &settings.nodes[usize::from(sender)];
    let head = spec.replica_of.map_or(spec, |primary| &settings.nodes[primary.index()]);
    Header {
        sender: NodeId(sender),
        current_epoch: epoch,
        config_epoch: head.config_epoch,
        offset: 14,
        slots: head.slots.clone(),
        replica_of: spec.replica_of,
        flags: if spec.replica_of.is_none() { Flags::PRIMARY } else { Flags::REPLICA },
        state_ok: true,
        paused: false,
        force_ack: false,
        primary_failed: false,
    }
}

/// Node 3 asks for votes because somebody wants it to take over.
fn wanted(settings: &Settings, epoch: u64) -> Packet {
    Packet { header: Header { force_ack: true, ..header(settings, 3, epoch) }, body: Body::AuthRequest }
}

fn votes(effects: &[Effect<Cluster>]) -> usize {
    let is_vote = |message: &Message| matches!(message, Message::Bus(packet) if packet.body == Body::AuthAck);
    let found = effects.iter().filter(|effect| match effect {
        Effect::Send { message, .. } => is_vote(message),
        Effect::After { effect, .. } => matches!(&**effect, Effect::Send { message, .. } if is_vote(message)),
        _ => false,
    });
    found.count()
}

#[test]
fn a_vote_leaves_only_when_it_is_durable() {
    let settings = settings(Flavor::Redis7);
    let mut voter = Bench::new(settings.clone(), 1);
    voter.link_all();
    let effects = voter.receive(wanted(&settings, 4)).to_vec();
    assert_eq!(votes(&effects), 1);
    let replaced =
        effects.iter().position(|effect| matches!(effect, Effect::Replace { file: "nodes.conf", .. }));
    let sent = effects.iter().position(|effect| match effect {
        Effect::After { effect, .. } => matches!(**effect, Effect::Send { .. }),
        _ => false,
    });
    assert!(replaced.is_some() && replaced < sent, "the record comes before the vote that waits for it");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Send { message: Message::Bus(_), .. })));
}

#[test]
fn the_historical_vote_does_not_wait() {
    let mut settings = settings(Flavor::Redis7);
    settings.quirks.vote_before_save = true;
    let mut voter = Bench::new(settings.clone(), 1);
    voter.link_all();
    let effects = voter.receive(wanted(&settings, 4));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Send { message: Message::Bus(_), .. })));
}

#[test]
fn a_voter_votes_once_in_an_epoch() {
    let settings = settings(Flavor::Valkey9);
    let mut voter = Bench::new(settings.clone(), 1);
    voter.link_all();
    assert_eq!(votes(voter.receive(wanted(&settings, 4))), 1);
    assert_eq!(votes(voter.receive(wanted(&settings, 4))), 0);
    voter.acknowledge();
    assert_eq!(votes(voter.receive(wanted(&settings, 5))), 1, "Valkey 9 does not space votes");
}

#[test]
fn a_voter_of_redis_7_helps_a_shard_once_in_two_node_timeouts() {
    let settings = settings(Flavor::Redis7);
    let mut voter = Bench::new(settings.clone(), 1);
    voter.link_all();
    assert_eq!(votes(voter.receive(wanted(&settings, 4))), 1);
    assert_eq!(votes(voter.receive(wanted(&settings, 5))), 0);
    voter.pass(2 * settings.node_timeout);
    assert_eq!(votes(voter.receive(wanted(&settings, 6))), 1);
}

#[test]
fn nobody_votes_against_a_primary_that_is_up() {
    let settings = settings(Flavor::Redis7);
    let mut voter = Bench::new(settings.clone(), 1);
    voter.link_all();
    let request = Packet { header: header(&settings, 3, 4), body: Body::AuthRequest };
    assert_eq!(votes(voter.receive(request.clone())), 0);
    voter.receive(Packet { header: header(&settings, 2, 3), body: Body::Fail(NodeId(0)) });
    assert_eq!(votes(voter.receive(request)), 1);
}

#[test]
fn an_outdated_claim_gets_no_vote() {
    let settings = settings(Flavor::Redis7);
    let mut voter = Bench::new(settings.clone(), 1);
    voter.link_all();
    // Node 0 took a larger epoch for its slots than the replica's request names.
    let mut newer = header(&settings, 0, 7);
    newer.config_epoch = 7;
    voter.receive(Packet { header: newer, body: Body::Pong(Box::new([])) });
    assert_eq!(votes(voter.receive(wanted(&settings, 8))), 0);
}

#[test]
fn the_second_small_message_waits_for_the_acknowledgement() {
    let settings = settings(Flavor::Redis7);
    let mut replica = Bench::new(settings.clone(), 3);
    replica.link_all();
    let sent = |effects: &[Effect<Cluster>]| {
        effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Send { message: Message::Bus(_), .. }))
            .count()
    };
    let first = replica.step(|node, cx| node.announce_to_all(cx));
    assert_eq!(sent(first), 5);
    let second = replica.step(|node, cx| node.announce_to_all(cx)).to_vec();
    assert_eq!(sent(&second), 0);
    let held =
        second.iter().filter(|effect| matches!(effect, Effect::SetTimer { timer: Timer::Nagle(_), .. }));
    assert_eq!(held.count(), 5);
    let released = replica.step(|node, cx| node.on_timer(cx, Timer::Nagle(NodeId(1))));
    assert_eq!(sent(released), 1);
}

#[test]
fn a_key_of_another_shard_has_moved() {
    let mut node = Bench::new(settings(Flavor::Redis7), 0);
    let owner = |number: u32| {
        let slot = slot_of_number(number).0;
        even_split(PRIMARIES).partition_point(|&(_, last)| last < slot)
    };
    let foreign = (0..).find(|&number| owner(number) == 2).expect("some key is there");
    let own = (0..).find(|&number| owner(number) == 0).expect("some key is here");
    let moved = Reply::Error(Error::Moved { slot: slot_of_number(foreign).0, to: address(2, 7000) });
    assert_eq!(node.ask(Data::Get(Key::Numbered(foreign)).into()), moved);
    let write = Data::Set { key: Key::Numbered(own), value: Datum::number(5), condition: None };
    assert_eq!(node.ask(write.into()), Reply::Ok);
}

#[test]
fn a_primary_that_reaches_no_majority_stops_serving() {
    let settings = settings(Flavor::Redis7);
    let mut node = Bench::new(settings.clone(), 0);
    node.link_all();
    for _ in 0..400 {
        node.pass(Duration::from_millis(100));
        node.step(|node, cx| node.on_timer(cx, Timer::Cron));
    }
    let own = (0..).find(|&number| slot_of_number(number).0 < 5461).expect("some key is here");
    assert_eq!(node.ask(Data::Get(Key::Numbered(own)).into()), Reply::Error(Error::ClusterDown));
}

#[test]
fn a_primary_whose_last_slot_went_follows_the_winner() {
    let settings = settings(Flavor::Redis7);
    let mut old = Bench::new(settings.clone(), 0);
    old.link_all();
    let winner = Header {
        config_epoch: 9,
        current_epoch: 9,
        replica_of: None,
        flags: Flags::PRIMARY,
        ..header(&settings, 3, 9)
    };
    let effects = old.receive(Packet { header: winner, body: Body::Pong(Box::new([])) });
    let dials = |to: &crate::contract::Endpoint| *to == address(3, 7000).into();
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Open { to, kind: Kind::Client, .. } if dials(to)))
    );
    let refuses = |effect: &Effect<Cluster>| {
        matches!(effect, Effect::Observe { shard: Shard(0), fact: Observation::Writable(false) })
    };
    assert!(effects.iter().any(refuses), "it announces that it takes no more writes");
}

#[test]
fn of_two_equal_epochs_the_smaller_name_moves_on() {
    let settings = settings(Flavor::Redis7);
    for (me, other, moves) in [(0, 1, true), (1, 0, false)] {
        let mut node = Bench::new(settings.clone(), me);
        node.link_all();
        let epoch = u64::from(me) + 1;
        let mut same = header(&settings, other, 3);
        same.config_epoch = epoch.max(u64::from(other) + 1);
        if !moves {
            // Node 1 has epoch 2; node 0 claims it too.
            same.config_epoch = 2;
        } else {
            // Node 0 has epoch 1; node 1 claims it too.
            same.config_epoch = 1;
        }
        let effects = node.receive(Packet { header: same, body: Body::Pong(Box::new([])) });
        let bumped = effects.iter().any(
            |effect| matches!(effect, Effect::Observe { fact: Observation::Epoch(epoch), .. } if *epoch == 4),
        );
        assert_eq!(bumped, moves, "node {me}");
    }
}

#[test]
fn a_smaller_epoch_claims_nothing() {
    let settings = settings(Flavor::Redis7);
    let mut table = Table::created(&settings, NodeId(1));
    let all = SlotSet::from_ranges(&[(0, 16383)]);
    let claimed = table.claim(NodeId(0), 2, &all);
    // Node 0 takes nothing from node 1 (epoch 2) and node 2 (epoch 3).
    assert!(!claimed.changed);
    let claimed = table.claim(NodeId(0), 3, &all);
    assert!(claimed.changed && claimed.our_last_went);
    assert_eq!(table.peer(NodeId(0)).slots.len(), 5461 + 5461);
}

#[test]
fn a_table_survives_its_file() {
    let settings = settings(Flavor::Redis7);
    let mut table = Table::created(&settings, NodeId(1));
    table.claim(NodeId(0), 9, &SlotSet::from_ranges(&[(6000, 6001)]));
    table.last_vote_epoch = 8;
    table.current_epoch = 9;
    let saved = table.saved();
    let restored = Table::restored(&settings, NodeId(1), &saved, Stamp(1));
    assert_eq!(restored.saved(), saved);
    assert_eq!(restored.owner(super::slots::Slot(6000)), Some(NodeId(0)));
}

#[test]
fn a_node_knows_another_in_less_than_a_kibibyte() {
    // The table of slot owners is shared by all entries; with 100 nodes its share is small.
    let owners = 2 * super::slots::SLOTS / 100;
    let link_sessions = 64;
    let total = size_of::<Peer>() + size_of::<Beat>() + size_of::<u32>() + owners + link_sessions;
    assert!(total <= 1024, "{total} bytes");
}

#[test]
fn a_message_is_as_long_as_the_real_one() {
    let settings = settings(Flavor::Redis7);
    let fail = Packet { header: header(&settings, 0, 1), body: Body::Fail(NodeId(1)) };
    assert_eq!(fail.wire_size(), 2296);
    let ping = Packet { header: header(&settings, 0, 1), body: Body::Ping(Box::new([])) };
    assert_eq!(ping.wire_size(), 2256);
}
