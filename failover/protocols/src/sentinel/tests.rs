//! Rules of the sentinel, one at a time: a node is driven by hand and asked what it wants done.

use super::instance::Limits;
use super::node::Sentinel;
use super::quirks::Quirks;
use super::settings::{CONFIG, Group, Saved, SavedGroup, Settings};
use super::{Kind, Record, SentinelSystem, Timer};
use crate::contract::*;
use crate::redis::admin::SentinelCommand;
use crate::redis::info::{AttachedReplica, Flavour, Follows, Info, Link};
use crate::redis::message::{Channel, Command, Greeting, Message, Payload, Push, Reply};
use crate::redis::values::{Addr, Hex, Offset, RunId};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A sentinel, its clocks, and the connections it dialled.
struct Bench {
    node: Sentinel,
    surroundings: Surroundings,
    effects: Vec<Effect<SentinelSystem>>,
    dialled: BTreeMap<SessionId, Addr>,
    marks: Vec<(Mark, Option<Addr>)>,
    saved: Vec<Saved>,
    /// Programs that were started, with their arguments.
    started: Vec<(ChildId, Vec<String>)>,
    killed: Vec<ChildId>,
}

fn data(node: u8) -> Addr {
    Addr::new([10, 0, 0, node].into(), 6379)
}

fn sentinel(node: u8) -> Addr {
    Addr::new([10, 0, 1, node].into(), 26379)
}

fn id(byte: u8) -> RunId {
    RunId(Hex([byte; 20]))
}

fn settings() -> Settings {
    let group = Group {
        down_after: Duration::from_secs(1),
        failover_timeout: Duration::from_secs(6),
        ..Group::new("mymaster", data(1), 2)
    };
    Settings { groups: [group].into(), quirks: Quirks::default() }
}

/// A file in which the group is known: replicas 2 and 3, peers 2 and 3.
fn known() -> Saved {
    let group = SavedGroup {
        options: Limits::new(&settings().groups[0]).saved(),
        name: String::from("mymaster"),
        primary: data(1),
        config_epoch: 0,
        leader_epoch: 0,
        replicas: [data(2), data(3)].into(),
        peers: [(id(2), sentinel(2)), (id(3), sentinel(3))].into(),
    };
    Saved { run_id: id(1), epoch: 0, groups: [group].into() }
}

impl Bench {
    fn new(settings: Settings, saved: Option<Saved>) -> Bench {
        let mut bench = Bench {
            node: Sentinel::new(settings, sentinel(1)),
            surroundings: Surroundings {
                now: LocalTime(0),
                wall: WallTime(1_000_000_000),
                random: stream(1, 0, 0, 0),
                next_session: 1,
                next_token: 1,
                notes: false,
            },
            effects: Vec::new(),
            dialled: BTreeMap::new(),
            marks: Vec::new(),
            saved: Vec::new(),
            started: Vec::new(),
            killed: Vec::new(),
        };
        let record = saved.map(|saved| (CONFIG, Vec::from([Record::Sentinel(saved)])));
        let disk = DiskImage::new(record.into_iter().collect());
        bench.step(|node, cx| node.start(cx, &disk));
        bench
    }

    /// What the step wants sent, with the receiver. Syncs end at once.
    fn step(
        &mut self,
        handler: impl FnOnce(&mut Sentinel, &mut Cx<'_, SentinelSystem>),
    ) -> Vec<(SessionId, Message)> {
        handler(&mut self.node, &mut Cx::new(&mut self.surroundings, &mut self.effects));
        let mut sent = Vec::new();
        while !self.effects.is_empty() {
            for effect in core::mem::take(&mut self.effects) {
                match effect {
                    Effect::Open { session, to: Endpoint::Addr(to), .. } => {
                        self.dialled.insert(session, to);
                    }
                    Effect::Send { session, message } => sent.push((session, message)),
                    Effect::Replace { record: Record::Sentinel(saved), .. } => self.saved.push(saved),
                    Effect::Sync { token, .. } => {
                        let cx = &mut Cx::new(&mut self.surroundings, &mut self.effects);
                        self.node.on_synced(cx, token, Ok(()));
                    }
                    Effect::Run { child, program, arguments } => {
                        let words = [String::from(&*program)].into_iter().chain(arguments.iter().cloned());
                        self.started.push((child, words.collect()));
                    }
                    Effect::KillChild { child } => self.killed.push(child),
                    Effect::Observe { fact: Observation::Mark { mark, about }, .. } => {
                        self.marks.push((mark, about))
                    }
                    _ => {}
                }
            }
        }
        sent
    }

    fn wait(&mut self, millis: u64) {
        self.surroundings.now.0 += millis * 1000;
        self.surroundings.wall.0 += millis as i64 * 1000;
    }

    /// One tick, `millis` after the last. Who is in `alive` answers everything; INFO is answered by `info`.
    fn tick(&mut self, millis: u64, alive: &[Addr], info: &impl Fn(Addr) -> Info) -> Vec<(Addr, Command)> {
        self.wait(millis);
        let mut sent: VecDeque<_> = self.step(|node, cx| node.on_timer(cx, Timer::Tick)).into();
        let mut said = Vec::new();
        while let Some((session, message)) = sent.pop_front() {
            let (Message::Command(command), Some(&to)) = (message, self.dialled.get(&session)) else {
                continue;
            };
            if alive.contains(&to)
                && let Some(reply) = answer(&command, to, info)
            {
                sent.extend(self.step(|node, cx| node.on_message(cx, session, Message::Reply(reply))));
            }
            said.push((to, command));
        }
        said
    }

    /// Ticks for so long; all that was said.
    fn run(&mut self, millis: u64, alive: &[Addr], info: &impl Fn(Addr) -> Info) -> Vec<(Addr, Command)> {
        (0..millis / 80).flat_map(|_| self.tick(80, alive, info)).collect()
    }

    /// A question from a peer or client, and the answer.
    fn ask(&mut self, command: Command) -> Reply {
        let session = SessionId(self.surroundings.next_session);
        self.surroundings.next_session += 1;
        let opened = Opened::Accepted { kind: Kind::Sentinel, from: sentinel(9) };
        self.step(|node, cx| node.on_open(cx, session, opened));
        let sent = self.step(|node, cx| node.on_message(cx, session, Message::Command(command)));
        let reply = sent.into_iter().find_map(|(to, message)| match message {
            Message::Reply(reply) if to == session => Some(reply),
            _ => None,
        });
        reply.expect("an answer")
    }

    fn vote(&mut self, epoch: u64, candidate: Option<RunId>) -> Reply {
        self.ask(Command::Sentinel(SentinelCommand::IsPrimaryDown { addr: data(1), epoch, candidate }))
    }

    fn hello(&mut self, from: u8, primary: Addr, config_epoch: u64) {
        let greeting = Greeting {
            addr: sentinel(from),
            run_id: id(from),
            epoch: config_epoch,
            name: "mymaster".into(),
            primary,
            config_epoch,
        };
        let payload = Payload::Hello(Arc::new(greeting));
        self.ask(Command::Publish { channel: Channel::Hello, payload });
    }

    fn primary_addr(&mut self) -> Reply {
        self.ask(Command::Sentinel(SentinelCommand::PrimaryAddr("mymaster".into())))
    }

    fn has_mark(&self, wanted: Mark) -> bool {
        self.marks.iter().any(|(mark, _)| *mark == wanted)
    }
}

fn answer(command: &Command, to: Addr, info: &impl Fn(Addr) -> Info) -> Option<Reply> {
    Some(match command {
        Command::Ping => Reply::Pong,
        Command::Info => Reply::Info(Box::new(info(to))),
        Command::Publish { .. } => Reply::Integer(1),
        Command::Sentinel(SentinelCommand::IsPrimaryDown { candidate, epoch, .. }) => Reply::Vote {
            down: true,
            leader: *candidate,
            epoch: if candidate.is_some() { *epoch } else { 0 },
        },
        _ => Reply::Ok,
    })
}

fn info(follows: Option<Addr>, offset: u64) -> Info {
    Info {
        flavour: Flavour::Redis,
        run_id: id(9),
        loading: false,
        follows: follows.map(|primary| Follows { primary, link: Link::Up, offset: Offset(offset) }),
        priority: 100,
        announced: true,
        replicas: Vec::new(),
        id: Default::default(),
        id2: Default::default(),
        offset: Offset(offset),
        second_offset: None,
        failover: false,
    }
}

/// Replica 3 is ahead of replica 2.
fn healthy(node: Addr) -> Info {
    match node {
        node if node == data(1) => info(None, 500),
        node => info(Some(data(1)), u64::from(node.ip().octets()[3]) * 100),
    }
}

fn all() -> [Addr; 5] {
    [data(1), data(2), data(3), sentinel(2), sentinel(3)]
}

const SURVIVORS: [Addr; 4] = [
    Addr::new(Ipv4Addr::new(10, 0, 0, 2), 6379),
    Addr::new(Ipv4Addr::new(10, 0, 0, 3), 6379),
    Addr::new(Ipv4Addr::new(10, 0, 1, 2), 26379),
    Addr::new(Ipv4Addr::new(10, 0, 1, 3), 26379),
];

fn promotions(said: &[(Addr, Command)]) -> Vec<Addr> {
    let promoted = |(to, command): &(Addr, Command)| (*command == Command::ReplicaOf(None)).then_some(*to);
    said.iter().filter_map(promoted).collect()
}

#[test]
fn a_vote_is_saved_before_it_is_told_and_given_once_in_an_epoch() {
    let mut bench = Bench::new(settings(), Some(known()));
    assert_eq!(bench.vote(3, Some(id(2))), Reply::Vote { down: false, leader: Some(id(2)), epoch: 3 });
    let saved = bench.saved.last().expect("saved");
    assert_eq!((saved.epoch, saved.groups[0].leader_epoch), (3, 3));
    assert_eq!(bench.vote(3, Some(id(3))), Reply::Vote { down: false, leader: Some(id(2)), epoch: 3 });
    assert_eq!(bench.vote(4, Some(id(3))), Reply::Vote { down: false, leader: Some(id(3)), epoch: 4 });
}

#[test]
fn while_the_disk_is_busy_a_vote_is_neither_told_nor_given_again() {
    let mut bench = Bench::new(settings(), Some(known()));
    let session = SessionId(77);
    let opened = Opened::Accepted { kind: Kind::Sentinel, from: sentinel(9) };
    let question = |candidate| {
        let question = SentinelCommand::IsPrimaryDown { addr: data(1), epoch: 3, candidate: Some(candidate) };
        Message::Command(Command::Sentinel(question))
    };
    let Bench { node, surroundings, effects, .. } = &mut bench;
    let cx = &mut Cx::new(surroundings, effects);
    node.on_open(cx, session, opened);
    node.on_message(cx, session, question(id(2)));
    node.on_message(cx, session, question(id(3)));
    let token = effects.iter().find_map(|effect| match effect {
        Effect::Sync { token, .. } => Some(*token),
        _ => None,
    });
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Send { .. })), "{effects:?}");
    effects.clear();
    node.on_synced(&mut Cx::new(surroundings, effects), token.expect("a sync"), Ok(()));
    let leaders: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { message: Message::Reply(Reply::Vote { leader, .. }), .. } => Some(*leader),
            _ => None,
        })
        .collect();
    assert_eq!(leaders, [Some(id(2)), Some(id(2))]);
}

#[test]
fn after_a_restart_in_the_same_epoch_nobody_gets_a_second_vote() {
    let mut saved = known();
    saved.epoch = 3;
    saved.groups[0].leader_epoch = 3;
    let mut bench = Bench::new(settings(), Some(saved));
    assert_eq!(bench.vote(3, Some(id(3))), Reply::Vote { down: false, leader: None, epoch: 3 });
}

#[test]
fn the_canary_votes_twice() {
    let mut settings = settings();
    settings.quirks.votes_twice = true;
    let mut bench = Bench::new(settings, Some(known()));
    bench.vote(3, Some(id(2)));
    assert_eq!(bench.vote(3, Some(id(3))), Reply::Vote { down: false, leader: Some(id(3)), epoch: 3 });
}

#[test]
fn a_dead_primary_is_suspected_declared_and_replaced_by_the_replica_with_the_largest_offset() {
    let mut bench = Bench::new(settings(), Some(known()));
    bench.run(3000, &all(), &healthy);
    assert!(!bench.has_mark(Mark::Suspected));
    bench.run(1000, &SURVIVORS, &healthy);
    assert!(!bench.has_mark(Mark::Suspected), "not before down-after has passed");
    let said = bench.run(2200, &SURVIVORS, &healthy);
    for mark in [Mark::Suspected, Mark::Declared, Mark::Elected] {
        assert!(bench.has_mark(mark), "{mark:?} in {:?}", bench.marks);
    }
    assert_eq!(promotions(&said), [data(3)]);
    assert!(bench.marks.contains(&(Mark::Promoting, Some(data(3)))));
    assert_eq!(bench.primary_addr(), Reply::Address(data(1)), "clients are told only when it is known");
    let promoted = |node| if node == data(3) { info(None, 300) } else { healthy(node) };
    bench.run(1200, &SURVIVORS, &promoted);
    assert_eq!(bench.primary_addr(), Reply::Address(data(3)));
    assert!(bench.marks.contains(&(Mark::Promoted, Some(data(3)))));
}

#[test]
fn priority_goes_before_offset_and_zero_is_never_promoted() {
    let mut bench = Bench::new(settings(), Some(known()));
    let told = |node| match node {
        node if node == data(3) => Info { priority: 0, ..healthy(node) },
        node => healthy(node),
    };
    bench.run(3000, &all(), &told);
    let said = bench.run(3000, &SURVIVORS, &told);
    assert_eq!(promotions(&said), [data(2)]);
}

#[test]
fn without_a_quorum_of_opinions_nobody_stands_for_election() {
    let mut bench = Bench::new(settings(), Some(known()));
    bench.run(3000, &all(), &healthy);
    let said = bench.run(8000, &[data(2), data(3)], &healthy);
    assert!(bench.has_mark(Mark::Suspected) && !bench.has_mark(Mark::Declared));
    assert_eq!(promotions(&said), []);
}

#[test]
fn sentinels_that_are_gone_still_count_for_the_majority() {
    let mut saved = known();
    saved.groups[0].peers.extend([(id(4), sentinel(4)), (id(5), sentinel(5)), (id(6), sentinel(6))]);
    let mut bench = Bench::new(settings(), Some(saved));
    bench.run(3000, &all(), &healthy);
    // Two peers agree: enough for the quorum of two, and with our own three votes of the four that six need.
    let said = bench.run(12_000, &SURVIVORS, &healthy);
    assert!(
        bench.has_mark(Mark::Declared) && bench.has_mark(Mark::Aborted) && !bench.has_mark(Mark::Elected)
    );
    assert_eq!(promotions(&said), []);
}

#[test]
fn a_sentinel_that_voted_for_another_leaves_it_twice_the_failover_timeout() {
    let mut bench = Bench::new(settings(), Some(known()));
    bench.run(3000, &all(), &healthy);
    bench.run(1040, &SURVIVORS, &healthy);
    bench.vote(1, Some(id(2)));
    let said = bench.run(11_000, &SURVIVORS, &healthy);
    assert_eq!(promotions(&said), []);
    let said = bench.run(4_000, &SURVIVORS, &healthy);
    assert_eq!(promotions(&said), [data(3)]);
}

#[test]
fn the_configuration_with_the_largest_epoch_wins_and_of_equals_the_first() {
    let mut bench = Bench::new(settings(), Some(known()));
    bench.hello(2, data(2), 5);
    assert_eq!(bench.primary_addr(), Reply::Address(data(2)));
    bench.hello(3, data(3), 5);
    assert_eq!(bench.primary_addr(), Reply::Address(data(2)));
    bench.hello(3, data(3), 4);
    assert_eq!(bench.primary_addr(), Reply::Address(data(2)));
    bench.hello(3, data(3), 6);
    assert_eq!(bench.primary_addr(), Reply::Address(data(3)));
    assert_eq!(bench.saved.last().map(|saved| saved.groups[0].config_epoch), Some(6));
}

#[test]
fn an_old_primary_that_comes_back_is_left_alone_for_eight_seconds_and_then_made_a_replica() {
    let mut bench = Bench::new(settings(), Some(known()));
    bench.hello(2, data(2), 5);
    let two_primaries = |node| match node {
        node if node == data(3) => info(Some(data(2)), 300),
        _ => info(None, 300),
    };
    let converted = |said: &[(Addr, Command)]| said.contains(&(data(1), Command::ReplicaOf(Some(data(2)))));
    let said = bench.run(8000, &all(), &two_primaries);
    assert!(!converted(&said));
    let said = bench.run(4000, &all(), &two_primaries);
    assert!(converted(&said), "at its second INFO");
}

#[test]
fn a_late_timer_means_tilt_in_which_votes_are_given_but_nothing_is_judged() {
    let mut bench = Bench::new(settings(), Some(known()));
    bench.run(3000, &all(), &healthy);
    bench.tick(2500, &SURVIVORS, &healthy);
    bench.run(20_000, &SURVIVORS, &healthy);
    assert!(!bench.has_mark(Mark::Suspected));
    assert!(matches!(bench.vote(1, None), Reply::Vote { down: false, .. }));
    assert_eq!(bench.vote(1, Some(id(2))), Reply::Vote { down: false, leader: Some(id(2)), epoch: 1 });
    bench.run(12_000, &SURVIVORS, &healthy);
    assert!(bench.has_mark(Mark::Suspected), "thirty seconds later");
}

#[test]
fn replicas_are_found_in_the_info_of_the_primary_and_peers_by_their_hellos() {
    let mut bench = Bench::new(settings(), None);
    let replica = |node| AttachedReplica { addr: data(node), online: true, offset: Offset(0), lag: 0 };
    let told = |_| Info { replicas: [replica(2), replica(3)].into(), ..info(None, 0) };
    bench.run(500, &[data(1)], &told);
    bench.hello(2, data(1), 0);
    let Reply::Instances(replicas) =
        bench.ask(Command::Sentinel(SentinelCommand::Replicas("mymaster".into())))
    else {
        panic!("a list");
    };
    assert_eq!(replicas.iter().map(|replica| replica.addr).collect::<Vec<_>>(), [data(2), data(3)]);
    let saved = bench.saved.last().expect("saved");
    assert_eq!(saved.groups[0].peers, [(id(2), sentinel(2))]);
}

#[test]
fn a_subscriber_hears_of_a_switch() {
    let mut bench = Bench::new(settings(), Some(known()));
    let session = SessionId(500);
    let opened = Opened::Accepted { kind: Kind::Sentinel, from: sentinel(9) };
    bench.step(|node, cx| node.on_open(cx, session, opened));
    let subscribe = Message::Command(Command::Subscribe([Channel::Switch].into()));
    bench.step(|node, cx| node.on_message(cx, session, subscribe));
    let greeting = Greeting {
        addr: sentinel(2),
        run_id: id(2),
        epoch: 5,
        name: "mymaster".into(),
        primary: data(2),
        config_epoch: 5,
    };
    let hello = Command::Publish { channel: Channel::Hello, payload: Payload::Hello(Arc::new(greeting)) };
    let sent = bench.step(|node, cx| node.on_message(cx, session, Message::Command(hello)));
    let text = b"mymaster 10.0.0.1 6379 10.0.0.2 6379";
    let payload = Payload::Text(text[..].into());
    let push = Push::Published { pattern: None, channel: Channel::Switch, payload };
    assert!(sent.contains(&(session, Message::Push(push))), "{sent:?}");
}

#[test]
fn groups_set_removed_and_added_at_run_time_are_so_after_a_restart() {
    let mut bench = Bench::new(settings(), Some(known()));
    let mut sentinel_says = |command| bench.ask(Command::Sentinel(command));
    let set = |option: &str, value: &str| SentinelCommand::Set {
        name: "mymaster".into(),
        option: option.into(),
        value: value.into(),
    };
    assert_eq!(sentinel_says(set("down-after-milliseconds", "3000")), Reply::Ok);
    assert_eq!(sentinel_says(set("quorum", "3")), Reply::Ok);
    assert!(sentinel_says(set("quorum", "0")).is_error());
    assert!(sentinel_says(set("no-such-option", "1")).is_error());
    let file = bench.saved.last().expect("a change is saved").clone();
    let options = &file.groups[0].options;
    assert_eq!((options.down_after, options.quorum, options.failover_timeout), (3_000, 3, 6_000));

    let mut bench = Bench::new(settings(), Some(file));
    bench.run(2_500, &SURVIVORS, &healthy);
    assert!(!bench.has_mark(Mark::Suspected), "the file's down-after counts, not the first one");
    bench.run(1_500, &SURVIVORS, &healthy);
    assert!(bench.has_mark(Mark::Suspected));
    let other = |quorum| SentinelCommand::Monitor { name: "other".into(), primary: data(7), quorum };
    assert!(bench.ask(Command::Sentinel(other(0))).is_error());
    assert_eq!(bench.ask(Command::Sentinel(other(2))), Reply::Ok);
    assert!(bench.ask(Command::Sentinel(other(2))).is_error(), "there is one of that name");
    assert_eq!(bench.ask(Command::Sentinel(SentinelCommand::Remove("mymaster".into()))), Reply::Ok);

    let file = bench.saved.last().cloned();
    let mut bench = Bench::new(settings(), file);
    assert_eq!(bench.primary_addr(), Reply::NilArray, "what was removed stays away");
    let addr = bench.ask(Command::Sentinel(SentinelCommand::PrimaryAddr("other".into())));
    assert_eq!(addr, Reply::Address(data(7)));
}

#[test]
fn a_reset_forgets_sentinels_that_are_gone_and_what_is_left_is_a_majority_again() {
    let mut bench = Bench::new(settings(), Some(known()));
    let quorum =
        |bench: &mut Bench| bench.ask(Command::Sentinel(SentinelCommand::CheckQuorum("mymaster".into())));
    bench.run(3_000, &[data(1), data(2), data(3)], &healthy);
    assert!(quorum(&mut bench).is_error(), "both peers are silent");
    assert_eq!(bench.ask(Command::Sentinel(SentinelCommand::Reset("my*".into()))), Reply::Integer(1));
    assert_eq!(bench.ask(Command::Sentinel(SentinelCommand::Reset("other".into()))), Reply::Integer(0));
    bench.hello(4, data(1), 0);
    bench.run(500, &[data(1), data(2), data(3), sentinel(4)], &healthy);
    assert!(!quorum(&mut bench).is_error(), "two of two");
}

// --- scripts ---

/// A sentinel whose file names a notification script.
fn notified() -> Bench {
    let mut saved = known();
    saved.groups[0].options.notification_script = Some("/notify".into());
    Bench::new(settings(), Some(saved))
}

/// A sentinel whose file names a client-reconfig script.
fn scripted() -> Bench {
    let mut saved = known();
    saved.groups[0].options.client_reconfig_script = Some("/reconfigure".into());
    Bench::new(settings(), Some(saved))
}

impl Bench {
    fn ended(&mut self, child: ChildId, ended: Ended) {
        self.step(|node, cx| node.on_child_ended(cx, child, ended));
    }

    /// Runs of one script since the last look.
    fn take_started(&mut self, path: &str) -> Vec<(ChildId, Vec<String>)> {
        self.started.extract_if(.., |(_, words)| words[0] == path).collect()
    }

    /// Lets a hello move the primary, so that the reconfig script is started; its first run.
    fn moved(&mut self) -> ChildId {
        self.hello(2, data(2), 1);
        self.tick(80, &[], &healthy);
        self.take_started("/reconfigure")[0].0
    }
}

#[test]
fn the_notification_script_is_told_warnings_and_no_notices() {
    let mut bench = notified();
    bench.run(3000, &all(), &healthy);
    assert_eq!(bench.started, [], "nothing has happened but notices");
    bench.run(3200, &SURVIVORS, &healthy);
    let events: Vec<_> =
        bench.take_started("/notify").into_iter().map(|(_, words)| words[1].clone()).collect();
    let first = ["+sdown", "+odown", "+new-epoch", "+try-failover", "+vote-for-leader"];
    assert_eq!(events[..5], first.map(String::from), "{events:?}");
    assert!(events.contains(&"+selected-slave".into()));
    assert!(!events.contains(&"+failover-state-wait-promotion".into()), "that is a notice");
}

#[test]
fn the_leader_calls_the_reconfig_script_when_the_promotion_is_known() {
    let mut bench = scripted();
    bench.run(3000, &all(), &healthy);
    bench.run(3200, &SURVIVORS, &healthy);
    assert_eq!(bench.take_started("/reconfigure"), []);
    let promoted = |node| if node == data(3) { info(None, 300) } else { healthy(node) };
    bench.run(1200, &SURVIVORS, &promoted);
    let words = bench.take_started("/reconfigure").remove(0).1;
    let wanted = ["/reconfigure", "mymaster", "leader", "start", "10.0.0.1", "6379", "10.0.0.3", "6379"];
    assert_eq!(words, wanted.map(String::from));
}

#[test]
fn the_others_call_it_when_the_configuration_reaches_them() {
    let mut bench = scripted();
    bench.hello(2, data(2), 1);
    bench.tick(80, &[], &healthy);
    let words = bench.take_started("/reconfigure").remove(0).1;
    let wanted = ["/reconfigure", "mymaster", "observer", "start", "10.0.0.1", "6379", "10.0.0.2", "6379"];
    assert_eq!(words, wanted.map(String::from));
}

#[test]
fn one_or_a_signal_is_tried_again_with_a_doubling_pause_ten_times_in_all() {
    let mut bench = scripted();
    let mut child = bench.moved();
    for run in 1..10u32 {
        bench.ended(child, if run % 2 == 0 { Ended::Code(1) } else { Ended::Signal(9) });
        bench.tick(80, &[], &healthy);
        let pause = 30_000 * 2u64.pow(run - 1);
        bench.tick(pause - 1, &[], &healthy);
        assert_eq!(bench.take_started("/reconfigure"), [], "too early for run {}", run + 1);
        bench.tick(2, &[], &healthy);
        child = bench.take_started("/reconfigure").remove(0).0;
    }
    bench.ended(child, Ended::Code(1));
    bench.tick(80, &[], &healthy);
    bench.tick(86_400_000, &[], &healthy);
    assert_eq!(bench.take_started("/reconfigure"), [], "ten runs are enough");
}

#[test]
fn zero_is_done_and_two_is_not_tried_again() {
    for code in [0, 2, 127] {
        let mut bench = scripted();
        let child = bench.moved();
        bench.ended(child, Ended::Code(code));
        bench.tick(80, &[], &healthy);
        bench.tick(3_600_000, &[], &healthy);
        assert_eq!(bench.take_started("/reconfigure"), [], "{code}");
    }
}

#[test]
fn what_runs_for_more_than_a_minute_is_killed_and_tried_again() {
    let mut bench = scripted();
    let child = bench.moved();
    bench.tick(59_900, &[], &healthy);
    assert_eq!(bench.killed, []);
    bench.tick(200, &[], &healthy);
    assert_eq!(bench.killed, [child]);
    bench.ended(child, Ended::Signal(9));
    bench.tick(80, &[], &healthy);
    bench.tick(30_001, &[], &healthy);
    assert_eq!(bench.take_started("/reconfigure").len(), 1);
}

#[test]
fn sixteen_run_at_a_time_and_of_more_than_256_the_oldest_that_waits_is_dropped() {
    let mut bench = scripted();
    for epoch in 1..=300u64 {
        bench.hello(2, data(2 + (epoch % 2) as u8), epoch);
    }
    bench.tick(80, &[], &healthy);
    assert_eq!(bench.started.len(), 16);
    let mut runs = 0;
    while !bench.started.is_empty() {
        for (child, _) in core::mem::take(&mut bench.started) {
            runs += 1;
            bench.ended(child, Ended::Code(0));
        }
        bench.tick(80, &[], &healthy);
        // What has ended is looked at by one tick, and makes room for the next.
        bench.tick(80, &[], &healthy);
    }
    assert_eq!(runs, 256);
}

#[test]
fn scripts_are_kept_in_the_file_and_cannot_be_set_at_run_time() {
    let mut bench = scripted();
    let set = |option: &str| SentinelCommand::Set {
        name: "mymaster".into(),
        option: option.into(),
        value: "/bin/sh".into(),
    };
    for option in ["notification-script", "client-reconfig-script"] {
        assert!(bench.ask(Command::Sentinel(set(option))).is_error());
    }
    bench.hello(2, data(2), 1);
    let options = &bench.saved.last().expect("the new epoch was saved").groups[0].options;
    assert_eq!(options.client_reconfig_script.as_deref(), Some("/reconfigure"));
}

// --- several groups ---

fn two_groups() -> Settings {
    let mut settings = settings();
    let first = settings.groups[0].clone();
    let second = Group { shard: Shard(1), primary: data(11), name: "other".into(), ..first };
    settings.groups.push(second);
    settings
}

#[test]
fn groups_are_voted_on_apart_in_epochs_that_they_share() {
    let mut bench = Bench::new(two_groups(), None);
    let vote = |addr, epoch, candidate| {
        Command::Sentinel(SentinelCommand::IsPrimaryDown { addr, epoch, candidate: Some(candidate) })
    };
    let told = |leader, epoch| Reply::Vote { down: false, leader: Some(leader), epoch };
    assert_eq!(bench.ask(vote(data(1), 3, id(2))), told(id(2), 3));
    assert_eq!(bench.ask(vote(data(11), 3, id(3))), told(id(3), 3), "another group, another vote");
    assert_eq!(bench.ask(vote(data(11), 3, id(2))), told(id(3), 3));
    assert_eq!(bench.ask(vote(data(11), 4, id(2))), told(id(2), 4));
    let Reply::Vote { leader, .. } = bench.ask(vote(data(1), 3, id(3))) else { panic!("no vote") };
    assert_eq!(leader, Some(id(2)), "the first group's epoch has passed without an election of its own");
}

#[test]
fn the_death_of_one_primary_marks_its_own_shard_only() {
    let mut bench = Bench::new(two_groups(), None);
    let info = |node: Addr| info(None, u64::from(node.ip().octets()[3]));
    bench.run(1500, &[data(1), data(11)], &info);
    bench.run(2400, &[data(1)], &info);
    assert_eq!(bench.marks, [(Mark::Suspected, Some(data(11)))]);
}
