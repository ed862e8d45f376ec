//! Data nodes talk to each other without a network between: what is sent arrives at once, in order.

use super::data::Data;
use super::disk::{CONFIG, LOG, Record};
use super::info::Flavour;
use super::message::{Channel, ClientType, Command, Error, Message, Mode, Payload, Push, Reply};
use super::server::{Open, RedisSystem, Server, Timer};
use super::settings::{Persistence, Settings};
use super::values::{Addr, Datum, Key, Offset};
use crate::contract::*;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

#[derive(Debug)]
enum Toy {}

impl System for Toy {
    const NAME: &'static str = "toy";
    type Message = Message;
    type Kind = ();
    type Timer = Timer;
    type Record = Record;

    fn wire_size(message: &Message) -> usize {
        message.wire_size()
    }
}

impl RedisSystem for Toy {
    const DATA: () = ();

    fn record(record: &Record) -> Option<&Record> {
        Some(record)
    }
}

/// A client is number [`CLIENT`] and keeps what it gets.
const CLIENT: usize = 99;

type End = (usize, SessionId);

struct Net {
    now: u64,
    nodes: Vec<Server>,
    surroundings: Vec<Surroundings>,
    disks: Vec<BTreeMap<&'static str, Vec<Record>>>,
    ends: BTreeMap<End, End>,
    timers: BTreeMap<(usize, Timer), u64>,
    messages: VecDeque<(End, Message)>,
    heard: Vec<Message>,
    next_client: u64,
}

fn addr(node: usize) -> Addr {
    Addr::new([10, 0, 0, node as u8].into(), 6379)
}

impl Net {
    /// Node 0 is the primary of the others.
    fn new(nodes: usize, configure: impl Fn(&mut Settings)) -> Net {
        let mut net = Net {
            now: 1_000_000,
            nodes: Vec::new(),
            surroundings: Vec::new(),
            disks: alloc::vec![BTreeMap::new(); nodes],
            ends: BTreeMap::new(),
            timers: BTreeMap::new(),
            messages: VecDeque::new(),
            heard: Vec::new(),
            next_client: 0,
        };
        for node in 0..nodes {
            let follows = (node > 0).then_some(addr(0));
            let mut settings = Settings { follows, sync_delay: Duration::ZERO, ..Settings::default() };
            configure(&mut settings);
            net.nodes.push(Server::new(settings, addr(node), Mode::Standalone));
            net.surroundings.push(Surroundings {
                now: LocalTime(0),
                wall: WallTime(0),
                random: stream(1, 0, node as u32, 0),
                next_session: 1,
                next_token: 1,
                notes: false,
            });
        }
        for node in 0..nodes {
            net.start(node);
        }
        net.run(3);
        net
    }

    fn start(&mut self, node: usize) {
        let disk = DiskImage::new(self.disks[node].clone());
        self.step(node, |server, cx| server.start(cx, &disk));
    }

    /// The process dies and comes back with what its disk kept.
    fn restart(&mut self, node: usize) {
        let ends: Vec<(End, End)> =
            self.ends.iter().map(|(a, b)| (*a, *b)).filter(|(a, _)| a.0 == node).collect();
        self.timers.retain(|(owner, _), _| *owner != node);
        let settings = self.nodes[node].settings.clone();
        self.nodes[node] = Server::new(settings, addr(node), Mode::Standalone);
        for (mine, theirs) in ends {
            self.ends.remove(&mine);
            self.ends.remove(&theirs);
            if theirs.0 != CLIENT {
                self.step(theirs.0, |server, cx| server.on_close(cx, theirs.1, Closed::Eof));
            }
        }
        self.start(node);
    }

    /// Lets this many seconds pass.
    fn run(&mut self, seconds: u64) {
        let end = self.now + seconds * 1_000_000;
        loop {
            self.deliver();
            let next =
                self.timers.iter().min_by_key(|(key, due)| (**due, **key)).map(|(key, due)| (*key, *due));
            match next {
                Some(((node, timer), due)) if due <= end => {
                    self.timers.remove(&(node, timer));
                    self.now = self.now.max(due);
                    self.step(node, |server, cx| server.on_timer(cx, timer, &Open));
                }
                _ => break self.now = end,
            }
        }
    }

    fn deliver(&mut self) {
        while let Some(((node, session), message)) = self.messages.pop_front() {
            if node == CLIENT {
                self.heard.push(message);
            } else {
                self.step(node, |server, cx| drop(server.on_message(cx, session, message, &Open)));
            }
        }
    }

    fn step(&mut self, node: usize, handler: impl FnOnce(&mut Server, &mut Cx<'_, Toy>)) {
        let surroundings = &mut self.surroundings[node];
        surroundings.now = LocalTime(self.now);
        surroundings.wall = WallTime(self.now as i64);
        let mut effects = Vec::new();
        handler(&mut self.nodes[node], &mut Cx::new(surroundings, &mut effects));
        effects.into_iter().for_each(|effect| self.execute(node, effect));
    }

    fn execute(&mut self, node: usize, effect: Effect<Toy>) {
        match effect {
            Effect::Open { session, to: Endpoint::Addr(to), .. } => {
                let peer = usize::from(to.ip().octets()[3]);
                let theirs = SessionId(self.surroundings[peer].next_session);
                self.surroundings[peer].next_session += 1;
                self.ends.insert((node, session), (peer, theirs));
                self.ends.insert((peer, theirs), (node, session));
                let opened = Opened::Accepted { kind: (), from: addr(node) };
                self.step(peer, |server, cx| server.on_open(cx, theirs, opened));
                self.step(node, |server, cx| server.on_open(cx, session, Opened::Dialled));
            }
            Effect::Send { session, message } => {
                if let Some(end) = self.ends.get(&(node, session)) {
                    self.messages.push_back((*end, message));
                }
            }
            Effect::Close { session } => {
                let Some(end) = self.ends.remove(&(node, session)) else { return };
                self.ends.remove(&end);
                if end.0 != CLIENT {
                    self.step(end.0, |server, cx| server.on_close(cx, end.1, Closed::Eof));
                }
            }
            Effect::SetTimer { timer, after } => {
                self.timers.insert((node, timer), self.now + after.as_micros() as u64);
            }
            Effect::CancelTimer { timer } => drop(self.timers.remove(&(node, timer))),
            Effect::Replace { file, record } => drop(self.disks[node].insert(file, Vec::from([record]))),
            Effect::Append { file, record } => self.disks[node].entry(file).or_default().push(record),
            Effect::Sync { .. } | Effect::Observe { .. } | Effect::Busy { .. } => {}
            other => panic!("not expected of a data node: {other:?}"),
        }
    }

    /// A client's connection to `node`.
    fn client(&mut self, node: usize) -> SessionId {
        let theirs = SessionId(self.surroundings[node].next_session);
        self.surroundings[node].next_session += 1;
        self.next_client += 1;
        let mine = (CLIENT, SessionId(self.next_client));
        self.ends.insert(mine, (node, theirs));
        self.ends.insert((node, theirs), mine);
        let opened = Opened::Accepted { kind: (), from: addr(CLIENT) };
        self.step(node, |server, cx| server.on_open(cx, theirs, opened));
        theirs
    }

    /// What the client hears after this command, all messages that it caused included.
    fn say(&mut self, node: usize, session: SessionId, command: Command) -> Vec<Message> {
        self.heard.clear();
        self.messages.push_back(((node, session), Message::Command(command)));
        self.deliver();
        core::mem::take(&mut self.heard)
    }

    fn ask(&mut self, node: usize, command: impl Into<Command>) -> Reply {
        let session = self.client(node);
        match self.say(node, session, command.into()).pop() {
            Some(Message::Reply(reply)) => reply,
            other => panic!("no reply: {other:?}"),
        }
    }
}

fn set(key: u32, value: u64) -> Command {
    Command::Data(Data::Set { key: Key::Numbered(key), value: Datum::number(value), condition: None })
}

fn get(key: u32) -> Command {
    Command::Data(Data::Get(Key::Numbered(key)))
}

fn value(value: u64) -> Reply {
    Reply::Bulk(Datum::number(value))
}

#[test]
fn replicas_follow_and_refuse_writes() {
    let mut net = Net::new(3, |_| {});
    assert_eq!(net.ask(0, set(1, 5)), Reply::Ok);
    for node in 0..3 {
        assert_eq!(net.ask(node, get(1)), value(5));
        assert_eq!(net.nodes[node].history.offset, net.nodes[0].history.offset);
    }
    assert_eq!(net.ask(1, set(1, 6)), Reply::Error(Error::ReadOnly));
    assert_eq!(net.ask(0, get(1)), value(5));
}

#[test]
fn a_replica_that_comes_late_gets_a_copy_and_then_the_stream() {
    let mut net = Net::new(1, |_| {});
    for key in 0..200 {
        net.ask(0, set(key, u64::from(key)));
    }
    assert_eq!(net.nodes[0].history.offset, Offset(0), "without replicas nothing is counted");
    let mut net = Net::new(2, |_| {});
    net.ask(0, set(1, 5));
    net.restart(1);
    net.ask(0, set(2, 6));
    net.run(1);
    assert_eq!((net.ask(1, get(1)), net.ask(1, get(2))), (value(5), value(6)));
}

#[test]
fn after_a_promotion_the_others_go_on_without_a_copy() {
    let mut net = Net::new(3, |_| {});
    net.ask(0, set(1, 5));
    assert_eq!(net.ask(1, Command::ReplicaOf(None)), Reply::Ok);
    let old = net.nodes[0].history.id;
    assert_eq!(net.nodes[1].history.earlier.map(|(id, _)| id), Some(old));
    net.ask(2, Command::ReplicaOf(Some(addr(1))));
    net.run(1);
    assert_eq!(net.nodes[2].history.id, net.nodes[1].history.id);
    assert_eq!(net.nodes[2].history.earlier, net.nodes[1].history.earlier, "renamed, not copied");
    assert_eq!(net.ask(1, set(1, 6)), Reply::Ok);
    assert_eq!(net.ask(2, get(1)), value(6));
}

#[test]
fn what_an_old_primary_wrote_past_the_fork_is_thrown_away() {
    let mut net = Net::new(3, |_| {});
    net.ask(0, set(1, 5));
    net.ask(1, Command::ReplicaOf(None));
    net.ask(0, set(1, 7));
    net.ask(1, set(2, 8));
    assert_eq!(net.ask(0, get(1)), value(7), "the old primary does not know");
    net.ask(0, Command::ReplicaOf(Some(addr(1))));
    net.run(1);
    assert_eq!((net.ask(0, get(1)), net.ask(0, get(2))), (value(5), value(8)));
    assert_eq!(net.nodes[0].history.earlier, None, "a full copy");
}

#[test]
fn an_old_primary_without_writes_goes_on_without_a_copy() {
    let mut net = Net::new(2, |_| {});
    net.ask(0, set(1, 5));
    net.ask(1, Command::ReplicaOf(None));
    net.ask(0, Command::ReplicaOf(Some(addr(1))));
    net.run(1);
    assert!(net.nodes[0].history.earlier.is_some());
    net.ask(1, set(1, 6));
    assert_eq!(net.ask(0, get(1)), value(6));
}

#[test]
fn a_primary_that_restarts_empty_empties_its_replicas() {
    let mut net = Net::new(2, |_| {});
    net.ask(0, set(1, 5));
    net.restart(0);
    net.run(3);
    assert_eq!(net.ask(1, get(1)), Reply::Nil);
}

#[test]
fn with_a_log_a_primary_restarts_with_its_writes() {
    let mut net = Net::new(2, |settings| settings.persistence = Persistence::LogEverySecond);
    net.ask(0, set(1, 5));
    net.restart(0);
    net.run(3);
    assert_eq!((net.ask(0, get(1)), net.ask(1, get(1))), (value(5), value(5)));
}

#[test]
fn a_snapshot_keeps_the_history_over_a_restart() {
    let every = Duration::from_secs(1);
    let mut net = Net::new(2, |settings| settings.persistence = Persistence::Snapshots { every });
    net.ask(0, set(1, 5));
    net.run(3);
    let old = net.nodes[0].history.id;
    net.restart(0);
    assert_eq!(net.nodes[0].history.earlier.map(|(id, _)| id), Some(old));
    assert_eq!(net.ask(0, get(1)), value(5));
}

#[test]
fn a_role_survives_a_restart_only_if_the_configuration_was_rewritten() {
    let mut net = Net::new(3, |_| {});
    net.ask(1, Command::ReplicaOf(None));
    net.restart(1);
    assert_eq!(net.nodes[1].primary(), Some(addr(0)));
    net.ask(1, Command::ReplicaOf(None));
    net.ask(1, Command::ConfigRewrite);
    assert!(net.disks[1].contains_key(CONFIG));
    net.restart(1);
    assert!(net.nodes[1].is_primary());
}

#[test]
fn too_few_replicas_stop_writes() {
    let mut net = Net::new(2, |settings| {
        settings.min_replicas = 1;
        settings.min_replicas_max_lag = 2;
    });
    assert_eq!(net.ask(0, set(1, 5)), Reply::Ok);
    // The replica's host falls silent.
    net.timers.retain(|(node, _), _| *node != 1);
    net.run(2);
    assert_eq!(net.ask(0, set(1, 6)), Reply::Ok, "lag is allowed for two seconds");
    net.run(2);
    assert_eq!(net.ask(0, set(1, 7)), Reply::Error(Error::NoReplicas));
    assert_eq!(net.ask(0, get(1)), value(6));
}

#[test]
fn wait_tells_how_many_replicas_have_the_write() {
    let mut net = Net::new(3, |_| {});
    let session = net.client(0);
    net.say(0, session, set(1, 5));
    let wait = |replicas, millis| Command::Wait { replicas, timeout: Duration::from_millis(millis) };
    assert_eq!(net.say(0, session, wait(2, 0)), [Message::Reply(Reply::Integer(2))]);
    net.say(0, session, set(1, 6));
    assert_eq!(net.say(0, session, wait(3, 500)), []);
    net.run(1);
    assert_eq!(net.heard, [Message::Reply(Reply::Integer(2))]);
}

#[test]
fn a_waiting_client_is_told_when_its_primary_is_demoted() {
    let mut net = Net::new(2, |_| {});
    let waiting = net.client(0);
    net.say(0, waiting, set(1, 5));
    assert_eq!(net.say(0, waiting, Command::Wait { replicas: 9, timeout: Duration::ZERO }), []);
    let operator = net.client(0);
    let heard = net.say(0, operator, Command::ReplicaOf(Some(addr(1))));
    assert_eq!(heard, [Message::Reply(Reply::Error(Error::Unblocked)), Message::Reply(Reply::Ok)]);
}

#[test]
fn a_transaction_is_executed_in_one_go() {
    let mut net = Net::new(2, |_| {});
    let session = net.client(1);
    let other = net.client(1);
    assert_eq!(net.say(1, session, Command::Multi), [Message::Reply(Reply::Ok)]);
    for command in [
        Command::ReplicaOf(None),
        Command::ConfigRewrite,
        Command::ClientKill(ClientType::Normal),
        Command::ClientKill(ClientType::Subscriber),
    ] {
        assert_eq!(net.say(1, session, command), [Message::Reply(Reply::Queued)]);
    }
    assert!(!net.nodes[1].is_primary());
    let replies = [Reply::Ok, Reply::Ok, Reply::Integer(1), Reply::Integer(0)];
    assert_eq!(net.say(1, session, Command::Exec), [Message::Reply(Reply::Array(replies.into()))]);
    assert!(net.nodes[1].is_primary());
    assert!(!net.ends.contains_key(&(1, other)), "other clients were cut");
    assert!(net.ends.contains_key(&(1, session)));
}

#[test]
fn what_is_published_on_a_primary_is_heard_at_its_replicas() {
    let mut net = Net::new(2, |_| {});
    let (subscriber, deaf) = (net.client(1), net.client(1));
    net.say(1, subscriber, Command::Subscribe([Channel::Hello].into()));
    net.say(1, deaf, Command::Subscribe([Channel::Named(b"news"[..].into())].into()));
    let before = net.nodes[0].history.offset;
    let payload = Payload::Text(b"hi"[..].into());
    let publish = Command::Publish { channel: Channel::Hello, payload: payload.clone() };
    let size = publish.wire_size() as u64;
    let publisher = net.client(0);
    let push = Push::Published { pattern: None, channel: Channel::Hello, payload };
    let heard = net.say(0, publisher, publish);
    assert_eq!(
        heard,
        [Message::Reply(Reply::Integer(0)), Message::Push(push)],
        "nobody listens at the primary"
    );
    assert_eq!(net.nodes[0].history.offset, before.plus(size), "it counts");
    assert_eq!(net.nodes[1].history.offset, before.plus(size));
}

#[test]
fn writes_wait_while_paused_and_are_refused_if_the_role_changed() {
    let mut net = Net::new(2, |_| {});
    let session = net.client(0);
    net.ask(0, Command::ClientPause(Duration::from_secs(1)));
    assert_eq!(net.say(0, session, set(1, 5)), []);
    assert_eq!(net.ask(0, get(1)), Reply::Nil, "reads go on");
    net.run(2);
    assert_eq!(net.heard, [Message::Reply(Reply::Ok)]);
    net.ask(0, Command::ClientPause(Duration::from_secs(1)));
    net.say(0, session, set(1, 6));
    net.ask(0, Command::ReplicaOf(Some(addr(1))));
    net.heard.clear();
    net.run(2);
    assert_eq!(net.heard, [Message::Reply(Reply::Error(Error::ReadOnly))]);
}

#[test]
fn the_failover_command_hands_over_without_loss() {
    let mut net = Net::new(3, |_| {});
    let session = net.client(0);
    net.say(0, session, set(1, 5));
    let failover =
        Command::Failover { to: Some(addr(1)), force: false, timeout: Duration::from_secs(5), abort: false };
    assert_eq!(net.ask(0, failover), Reply::Ok);
    net.run(2);
    assert!(net.nodes[1].is_primary());
    assert_eq!(net.nodes[0].primary(), Some(addr(1)));
    assert_eq!(net.ask(1, set(1, 6)), Reply::Ok);
    assert_eq!(net.ask(0, get(1)), value(6));
    assert!(!net.nodes[0].is_paused());
    assert_eq!(net.say(0, session, set(1, 7)), [Message::Reply(Reply::Error(Error::ReadOnly))]);
}

#[test]
fn a_hand_over_to_a_silent_replica_is_given_up() {
    let mut net = Net::new(2, |_| {});
    let session = net.client(0);
    net.say(0, session, set(1, 5));
    // The replica hears nothing and says nothing.
    let lost: Vec<End> = net.ends.keys().copied().filter(|end| end.0 == 1).collect();
    for end in lost {
        let peer = net.ends.remove(&end).unwrap();
        net.ends.remove(&peer);
    }
    net.say(0, session, set(1, 6));
    let failover =
        Command::Failover { to: None, force: false, timeout: Duration::from_secs(1), abort: false };
    assert_eq!(net.ask(0, failover), Reply::Ok);
    assert_eq!(net.say(0, session, set(1, 7)), [], "paused");
    net.run(2);
    assert!(net.nodes[0].is_primary() && !net.nodes[0].is_paused());
    assert_eq!(net.heard, [Message::Reply(Reply::Ok)], "the paused write goes on");
}

#[test]
fn a_pika_killed_between_store_and_log_keeps_a_write_that_no_replica_hears_of() {
    let pika = |settings: &mut Settings| {
        settings.flavour = Flavour::Pika;
        settings.persistence = Persistence::LogEverySecond;
        settings.log_gap = Duration::from_millis(2);
    };
    let mut net = Net::new(2, pika);
    assert_eq!(net.ask(0, set(1, 10)), Reply::Ok);
    assert_eq!(net.ask(0, set(2, 20)), Reply::Ok);
    net.restart(0);
    net.run(3);
    assert_eq!((net.ask(0, get(2)), net.ask(1, get(2))), (value(20), value(20)), "both steps were made");
    // The next write is made to the store, and the process dies before the log has it.
    let position = net.nodes[0].history.offset;
    assert_eq!(net.ask(0, set(2, 21)), Reply::Ok);
    drop(net.disks[0].get_mut(LOG).expect("a log").pop());
    net.nodes[1].store.execute(&Data::Set {
        key: Key::Numbered(2),
        value: Datum::number(20),
        condition: None,
    });
    net.restart(0);
    assert_eq!(net.nodes[0].history.offset, position, "its position does not tell of it");
    assert_eq!((net.ask(0, get(2)), net.ask(1, get(2))), (value(21), value(20)));
}

#[test]
fn the_alarm_of_a_lagging_replica_goes_on_once_each_time_the_limit_is_passed() {
    let mut net = Net::new(2, |settings| settings.lag_alert_bytes = 500);
    let offset = net.nodes[0].history.offset;
    let mut lag_is = |bytes: u64| {
        net.step(0, |server, cx| {
            server.history.offset = offset.plus(bytes);
            server.watch_lag(cx);
        });
        net.nodes[0].lag_alarm
    };
    let acked = 200;
    assert_eq!(lag_is(acked), (false, 0));
    assert_eq!(lag_is(2_000), (true, 1));
    assert_eq!(lag_is(3_000), (true, 1));
    assert_eq!(lag_is(0), (false, 1));
    assert_eq!(lag_is(2_000), (true, 2));
}

#[test]
fn a_protected_primary_serves_nobody_after_a_restart_until_it_is_told_what_it_is() {
    let mut net = Net::new(2, |settings| settings.protected_restart = true);
    assert_eq!(net.ask(0, set(1, 5)), Reply::Ok, "its first start is no restart");
    net.run(1);
    net.restart(0);
    net.run(5);
    assert_eq!(net.ask(0, set(1, 6)), Reply::Error(Error::Loading));
    assert_eq!(net.ask(1, get(1)), value(5), "its emptiness was not copied");
    assert_eq!(net.ask(1, Command::ReplicaOf(None)), Reply::Ok);
    assert_eq!(net.ask(0, Command::ReplicaOf(Some(addr(1)))), Reply::Ok);
    net.run(5);
    assert_eq!(net.ask(0, get(1)), value(5));
}
