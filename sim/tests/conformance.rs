//! What every world promises to failover code: one table of links, sessions, disks, crashes and pauses, each row a
//! short play of two puppets with an exact outcome, on every world that can be given puppets.
//!
//! The kernel plays on typed messages, turmoil under the production driver over its simulated TCP, tcp with real
//! processes: this program itself, started once more as a puppet.

use firedrill::backends::tcp::{self, Tcp};
use firedrill::backends::turmoil::Turmoil;
use firedrill::kernel::{Kernel, Latency, Settings};
use firedrill::world::*;
use firedrill_checkers::record::{Life, NodeClass, NodeIndex, SimTime};
use firedrill_node::driver::Frames;
use firedrill_protocols::contract::{
    Closed, Cx, DiskError, DiskImage, Endpoint, Ipv4Addr, Node, Observation, Opened, SessionId, Signal,
    SocketAddrV4, System, Token,
};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

struct Puppets;

impl System for Puppets {
    const NAME: &'static str = "puppets";
    type Message = String;
    type Kind = u8;
    type Timer = u8;
    type Record = u32;

    fn wire_size(message: &String) -> usize {
        4 + message.len()
    }
}

/// What is spoken on port 8; on port 7 there are sessions.
const DATAGRAMS: u8 = 1;

const FRAMES: Frames<u8> = Frames { datagrams: Some(DATAGRAMS) };

/// What a puppet does on a cue.
type Script = fn(&str, &mut Cx<'_, Puppets>);

/// Says aloud what it is given, and does what its script says.
struct Puppet(Script);

impl Puppet {
    fn hears(&self, cx: &mut Cx<'_, Puppets>, cue: String) {
        cx.observe(Observation::Note(cue.clone()));
        (self.0)(&cue, cx);
    }
}

impl Node<Puppets> for Puppet {
    fn start(&mut self, cx: &mut Cx<'_, Puppets>, disk: &DiskImage<Puppets>) {
        let records = disk.records(FILE).to_vec();
        self.hears(cx, format!("start {records:?}"));
    }
    fn on_open(&mut self, cx: &mut Cx<'_, Puppets>, session: SessionId, opened: Opened<u8>) {
        let how = if opened == Opened::Dialled { "dialled" } else { "accepted" };
        self.hears(cx, format!("{how} {}", session.0));
    }
    fn on_message(&mut self, cx: &mut Cx<'_, Puppets>, session: SessionId, message: String) {
        self.hears(cx, format!("{message} on {}", session.0));
    }
    fn on_close(&mut self, cx: &mut Cx<'_, Puppets>, session: SessionId, why: Closed) {
        self.hears(cx, format!("{why:?} {}", session.0));
    }
    fn on_datagram(&mut self, cx: &mut Cx<'_, Puppets>, _: SocketAddrV4, message: String) {
        self.hears(cx, format!("datagram {message}"));
    }
    fn on_timer(&mut self, cx: &mut Cx<'_, Puppets>, timer: u8) {
        self.hears(cx, format!("timer {timer}"));
    }
    fn on_synced(&mut self, cx: &mut Cx<'_, Puppets>, _: Token, result: Result<(), DiskError>) {
        self.hears(cx, format!("synced {result:?}"));
    }
    fn on_signal(&mut self, cx: &mut Cx<'_, Puppets>, _: Signal) {
        self.hears(cx, "signal".to_owned());
        cx.exit();
    }
}

const A: NodeIndex = NodeIndex(0);
const B: NodeIndex = NodeIndex(1);
const HOST_A: HostIndex = HostIndex(0);
const HOST_B: HostIndex = HostIndex(1);
const FILE: &str = "log";

fn ip(host: u8) -> Ipv4Addr {
    let [a, b] = firedrill::systems::network();
    Ipv4Addr::new(a, b, 0, host)
}

fn address_of_b() -> SocketAddrV4 {
    SocketAddrV4::new(ip(1), 7)
}

fn dial_b(cx: &mut Cx<'_, Puppets>) {
    cx.open(address_of_b(), 0);
}

fn layout(scripts: [Script; 2]) -> Layout<Puppets> {
    let host = |at: u8| Host { name: format!("host-{at}"), zone: "z".into(), region: "r".into(), ip: ip(at) };
    let processes = scripts.into_iter().enumerate().map(|(at, script)| Process {
        name: format!("puppet-{at}"),
        class: NodeClass::Data,
        host: HostIndex(at as u16),
        listens: vec![(7, 0), (8, DATAGRAMS)],
        shard: None,
        starts_at: SimTime(0),
        make: Box::new(move || Box::new(Puppet(script))),
    });
    Layout {
        hosts: vec![host(0), host(1)],
        processes: processes.collect(),
        names: Names::default(),
        programs: Default::default(),
        shards: 1,
    }
}

fn settings() -> Settings {
    Settings {
        seed: 3,
        latencies: vec![Latency::constant(Duration::from_millis(1))],
        links: Vec::new(),
        loopback: Latency::constant(Duration::from_micros(20)),
        sync: Latency::constant(Duration::from_millis(2)),
        syn_linear_timeouts: 0,
        certificates: None,
        timer_lateness: None,
        record_messages: false,
        notes: true,
    }
}

/// A world with two puppets on it, and what they said.
struct Stage {
    world: Box<dyn World>,
    /// Time is the machine's own: things may be late.
    real: bool,
    said: [Vec<(u64, String)>; 2],
}

impl Stage {
    /// Let time pass until so many milliseconds after the beginning.
    fn until(&mut self, ms: u64) {
        self.world.alarm(SimTime(ms * 1000), 0);
        let mut happenings = Vec::new();
        loop {
            assert!(self.world.advance(&mut happenings), "an alarm is due");
            for happening in happenings.drain(..) {
                let at = self.world.now().0 / 1000;
                match happening {
                    Happening::Alarm(_) => return,
                    Happening::Observed { node, fact: Observation::Note(cue), .. } => {
                        self.said[usize::from(node.0)].push((at, cue));
                    }
                    Happening::Life { node, life } if life != Life::Up => {
                        self.said[usize::from(node.0)].push((at, format!("<{life:?}>")));
                    }
                    _ => {}
                }
            }
        }
    }

    fn act(&mut self, fault: u32, action: Action) {
        self.world.act(FaultId(fault), &action);
    }

    fn undo(&mut self, fault: u32) {
        self.world.undo(FaultId(fault));
    }

    fn kill(&mut self, node: NodeIndex) {
        self.act(90, Action::Kill(node));
    }

    fn start(&mut self, node: NodeIndex, data: Data) {
        self.act(90, Action::Start { node, data });
    }

    /// When a puppet said this for the first time, in milliseconds.
    fn when(&self, node: NodeIndex, cue: &str) -> u64 {
        let said = &self.said[usize::from(node.0)];
        said.iter().find(|(_, other)| other == cue).unwrap_or_else(|| panic!("no {cue:?} in {said:?}")).0
    }
}

impl Stage {
    /// A puppet said this at this time, in milliseconds. Real machines are late when they are busy, but never early.
    fn said_at(&self, node: NodeIndex, cue: &str, span: std::ops::Range<u64>) {
        let at = self.when(node, cue);
        assert!(at >= span.start && (self.real || at < span.end), "{cue} at {at} ms, not in {span:?}");
    }
}

/// A promise: what the puppets do, what is done to them, what they must have said.
struct Row {
    promise: &'static str,
    a: Script,
    b: Script,
    play: fn(&mut Stage),
    /// Cues apart by `;`; `timer 1..3` stands for three of them.
    a_says: &'static str,
    b_says: &'static str,
}

fn nothing(_: &str, _: &mut Cx<'_, Puppets>) {}

/// Dials at the start and sends three messages.
fn sends_three(cue: &str, cx: &mut Cx<'_, Puppets>) {
    match cue {
        "start []" => dial_b(cx),
        "dialled 0" => ["one", "two", "three"].iter().for_each(|text| cx.send(SessionId(0), (*text).into())),
        _ => {}
    }
}

/// Dials a second after the start.
fn dials_after_a_second(cue: &str, cx: &mut Cx<'_, Puppets>) {
    match cue {
        "start []" => cx.set_timer(1, Duration::from_secs(1)),
        "timer 1" => dial_b(cx),
        _ => {}
    }
}

/// Dials at the start, and a second later persists a record and says "durable" once that is done; `aside` is said at once.
fn persists(cue: &str, cx: &mut Cx<'_, Puppets>, aside: Option<&str>) {
    match cue {
        "start []" => dial_b(cx),
        "dialled 0" => cx.set_timer(1, Duration::from_secs(1)),
        "timer 1" => {
            cx.persist(FILE, 1).send(SessionId(0), "durable".into());
            aside.into_iter().for_each(|text| cx.send(SessionId(0), text.into()));
        }
        _ => {}
    }
}

/// Answers every message.
fn echoes(cue: &str, cx: &mut Cx<'_, Puppets>) {
    if let Some((text, session)) = cue.split_once(" on ") {
        cx.send(SessionId(session.parse().expect("a number")), format!("{text}!"));
    }
}

/// Dials at the start, and again each time a second after the session ended.
fn redials(cue: &str, cx: &mut Cx<'_, Puppets>) {
    match cue {
        "start []" | "timer 1" => dial_b(cx),
        _ if cue.starts_with("Eof") || cue.starts_with("Re") => cx.set_timer(1, Duration::from_secs(1)),
        _ => {}
    }
}

/// Dials at the start and sends its number every 100 ms from then on, ten times.
fn ticks(cue: &str, cx: &mut Cx<'_, Puppets>) {
    match cue {
        "start []" => {
            dial_b(cx);
        }
        "dialled 0" => cx.set_timer(1, Duration::from_millis(100)),
        "timer 10" => cx.send(SessionId(0), "10".into()),
        _ => {
            if let Some(number) = cue.strip_prefix("timer ").and_then(|text| text.parse::<u8>().ok()) {
                cx.send(SessionId(0), number.to_string());
                cx.set_timer(number + 1, Duration::from_millis(100));
            }
        }
    }
}

/// Casts its number to the other every 100 ms, six times.
fn casts(cue: &str, cx: &mut Cx<'_, Puppets>) {
    let number = if cue == "start []" {
        Some(0)
    } else {
        cue.strip_prefix("timer ").and_then(|text| text.parse().ok())
    };
    let Some(number) = number else { return };
    if number > 0 {
        cx.cast(SocketAddrV4::new(ip(1), 8), number.to_string());
    }
    if number < 6 {
        cx.set_timer(number + 1, Duration::from_millis(100));
    }
}

fn both_ways() -> Action {
    Action::Block(vec![(HOST_A, HOST_B), (HOST_B, HOST_A)])
}

const ROWS: &[Row] = &[
    Row {
        promise: "messages of a session arrive in the order they were sent, both ways",
        a: sends_three,
        b: echoes,
        play: |stage| stage.until(100),
        a_says: "start []; dialled 0; one! on 0; two! on 0; three! on 0",
        b_says: "start []; accepted 0; one on 0; two on 0; three on 0",
    },
    Row {
        promise: "a closed session ends behind everything that was sent before, and its closer hears no more of it",
        a: |cue, cx| match cue {
            "start []" => dial_b(cx),
            "dialled 0" => {
                cx.send(SessionId(0), "last".into());
                cx.close(SessionId(0));
            }
            _ => {}
        },
        b: echoes,
        play: |stage| stage.until(500),
        a_says: "start []; dialled 0",
        b_says: "start []; accepted 0; last on 0; Eof 0",
    },
    Row {
        promise: "a port that nobody listens on refuses, a name that nobody knows is unresolved",
        a: |cue, cx| {
            if cue == "start []" {
                cx.open(SocketAddrV4::new(ip(1), 9), 0);
                cx.set_timer(1, Duration::from_millis(500));
            } else if cue == "timer 1" {
                cx.open(Endpoint::Name("nobody".into(), 7), 0);
            }
        },
        b: nothing,
        play: |stage| stage.until(1000),
        a_says: "start []; Refused 0; timer 1; Unresolved 1",
        b_says: "start []",
    },
    Row {
        promise: "a killed process ends its sessions; until it is started again its host refuses for it",
        a: redials,
        b: nothing,
        play: |stage| {
            stage.until(500);
            stage.kill(B);
            stage.until(2000);
            stage.start(B, Data::Kept);
            stage.until(3000);
        },
        a_says: "start []; dialled 0; Eof 0; timer 1; Refused 1; timer 1; dialled 2",
        b_says: "start []; accepted 0; <Killed>; start []; accepted 0",
    },
    Row {
        promise: "a host that loses power says nothing; when it is up again it knows nothing of its sessions",
        a: |cue, cx| match cue {
            "start []" => {
                dial_b(cx);
                cx.set_timer(1, Duration::from_secs(20));
            }
            "timer 1" => cx.send(SessionId(0), "still there?".into()),
            _ => {}
        },
        b: echoes,
        play: |stage| {
            stage.until(500);
            stage.act(1, Action::LoseHost(HOST_B));
            stage.until(15_000);
            stage.start(B, Data::Kept);
            stage.until(25_000);
        },
        a_says: "start []; dialled 0; timer 1; Reset 0",
        b_says: "start []; accepted 0; <HostLost>; start []",
    },
    Row {
        promise: "a dial to a host without power waits until it has power",
        a: dials_after_a_second,
        b: nothing,
        play: |stage| {
            stage.until(500);
            stage.act(1, Action::LoseHost(HOST_B));
            stage.until(3000);
            stage.start(B, Data::Kept);
            stage.until(20_000);
        },
        a_says: "start []; timer 1; dialled 0",
        b_says: "start []; <HostLost>; start []; accepted 0",
    },
    Row {
        promise: "behind a cut messages wait; after the heal they arrive in order on the same session",
        a: ticks,
        b: nothing,
        play: |stage| {
            stage.until(450);
            stage.act(1, both_ways());
            stage.until(2000);
            assert!(stage.said[1].iter().all(|(_, cue)| cue != "5 on 0"), "the cut holds");
            stage.undo(1);
            stage.until(10_000);
            // It was sent at 0.5 s; TCP tries after 0.2, 0.4, 0.8 and 1.6 s more.
            stage.said_at(B, "5 on 0", 3495..3515);
        },
        a_says: "start []; dialled 0; timer 1..10",
        b_says: "start []; accepted 0; 1..10 on 0",
    },
    Row {
        promise: "a one-way cut stops one way only",
        a: |cue, cx| match cue {
            "start []" => dial_b(cx),
            "dialled 0" => cx.set_timer(1, Duration::from_secs(1)),
            "timer 1" => cx.send(SessionId(0), "hello".into()),
            _ => {}
        },
        b: |cue, cx| match cue {
            "accepted 0" => cx.set_timer(2, Duration::from_secs(1)),
            "timer 2" => cx.send(SessionId(0), "ahoy".into()),
            _ => {}
        },
        play: |stage| {
            stage.until(500);
            stage.act(1, Action::Block(vec![(HOST_A, HOST_B)]));
            stage.until(5000);
        },
        a_says: "start []; dialled 0; timer 1; ahoy on 0",
        b_says: "start []; accepted 0; timer 2",
    },
    Row {
        promise: "a dial behind a cut opens after the heal",
        a: dials_after_a_second,
        b: nothing,
        play: |stage| {
            stage.until(500);
            stage.act(1, both_ways());
            stage.until(3000);
            assert_eq!(stage.said[0].len(), 2, "nothing is said behind a cut");
            stage.undo(1);
            stage.until(20_000);
        },
        a_says: "start []; timer 1; dialled 0",
        b_says: "start []; accepted 0",
    },
    Row {
        promise: "the end of a process stays behind a cut until it heals",
        a: |cue, cx| {
            if cue == "start []" {
                dial_b(cx);
            }
        },
        b: nothing,
        play: |stage| {
            stage.until(500);
            stage.act(1, both_ways());
            stage.kill(B);
            stage.until(5000);
            assert_eq!(stage.said[0].len(), 2, "nothing is said behind a cut");
            stage.undo(1);
            stage.until(10_000);
        },
        a_says: "start []; dialled 0; Eof 0",
        b_says: "start []; accepted 0; <Killed>",
    },
    Row {
        promise: "a stopped process handles nothing; its sessions stay, and what came waits in order",
        a: ticks,
        b: nothing,
        play: |stage| {
            stage.until(250);
            stage.act(1, Action::Pause { node: B, hold_outputs: false });
            stage.until(1500);
            stage.undo(1);
            stage.until(1600);
            stage.said_at(B, "5 on 0", 1500..1510);
        },
        a_says: "start []; dialled 0; timer 1..10",
        b_says: "start []; accepted 0; 1 on 0; 2 on 0; <Paused>; <Resumed>; 3..10 on 0",
    },
    Row {
        promise: "the host of a stopped process accepts for it",
        a: dials_after_a_second,
        b: nothing,
        play: |stage| {
            stage.until(500);
            stage.act(1, Action::Pause { node: B, hold_outputs: false });
            stage.until(3000);
            stage.said_at(A, "dialled 0", 1000..1100);
            assert_eq!(stage.said[1].len(), 2, "the stopped process says nothing");
            stage.undo(1);
            stage.until(3500);
        },
        a_says: "start []; timer 1; dialled 0",
        b_says: "start []; <Paused>; <Resumed>; accepted 0",
    },
    Row {
        promise: "the timers of a stopped process fire at once when it goes on, once each",
        a: |cue, cx| {
            if cue == "start []" {
                (1..=3).for_each(|timer| cx.set_timer(timer, Duration::from_secs(timer.into())));
            }
        },
        b: nothing,
        play: |stage| {
            stage.until(1500);
            stage.act(1, Action::Pause { node: A, hold_outputs: false });
            stage.until(6000);
            stage.undo(1);
            stage.until(6500);
            stage.said_at(A, "timer 3", 6000..6005);
        },
        a_says: "start []; timer 1; <Paused>; <Resumed>; timer 2; timer 3",
        b_says: "start []",
    },
    Row {
        promise: "a process that is to stop before its sends stops at its next step that sends, and sends later",
        a: ticks,
        b: nothing,
        play: |stage| {
            stage.until(250);
            stage.act(1, Action::Pause { node: A, hold_outputs: true });
            stage.until(2000);
            assert!(stage.world.effects(FaultId(1)) > 0, "it was held");
            stage.undo(1);
            stage.until(2050);
            stage.said_at(B, "3 on 0", 2000..2010);
        },
        a_says: "start []; dialled 0; timer 1; timer 2; <Paused>; <Resumed>; timer 3",
        b_says: "start []; accepted 0; 1..3 on 0",
    },
    Row {
        promise: "a suspended machine's clock stands still",
        a: |cue, cx| {
            if cue == "start []" {
                cx.set_timer(1, Duration::from_secs(2));
            }
        },
        b: nothing,
        play: |stage| {
            stage.until(1000);
            stage.act(1, Action::Suspend(HOST_A));
            stage.until(6000);
            stage.undo(1);
            stage.until(9000);
            stage.said_at(A, "timer 1", 6995..7005);
        },
        a_says: "start []; <Paused>; <Resumed>; timer 1",
        b_says: "start []",
    },
    Row {
        promise: "a fast clock's timers come early",
        a: |cue, cx| match cue {
            "start []" => cx.set_timer(1, Duration::from_secs(1)),
            "timer 1" => cx.set_timer(2, Duration::from_secs(11)),
            _ => {}
        },
        b: nothing,
        play: |stage| {
            stage.until(500);
            stage.until(1000);
            stage.act(1, Action::Clock(HOST_A, ClockFault::Drift(100_000)));
            stage.until(20_000);
            stage.said_at(A, "timer 2", 10_990..11_010);
        },
        a_says: "start []; timer 1; timer 2",
        b_says: "start []",
    },
    Row {
        promise: "written data survive the process; synced data survive the host; a wiped disk is empty",
        a: |cue, cx| match cue {
            "start []" => {
                cx.append(FILE, 1);
                cx.sync(FILE);
            }
            "synced Ok(())" => cx.append(FILE, 2),
            _ => {}
        },
        b: nothing,
        play: |stage| {
            stage.until(500);
            stage.kill(A);
            stage.start(A, Data::Kept);
            stage.until(1000);
            stage.act(1, Action::LoseHost(HOST_A));
            stage.start(A, Data::Kept);
            stage.until(1500);
            let last = stage.said[0].pop().expect("it started").1;
            assert!(["start [1]", "start [1, 2]"].contains(&&*last), "{last}");
            stage.kill(A);
            stage.start(A, Data::Wiped);
            stage.until(2000);
        },
        a_says: "start []; synced Ok(()); <Killed>; start [1, 2]; <HostLost>; <Killed>; start []; synced Ok(())",
        b_says: "start []",
    },
    Row {
        promise: "what is said after a sync leaves when it has succeeded; other work goes on while it is stuck",
        a: |cue, cx| persists(cue, cx, Some("at once")),
        b: nothing,
        play: |stage| {
            stage.until(500);
            stage.act(1, Action::Disk(A, DiskFault::Stuck));
            stage.until(5000);
            stage.undo(1);
            stage.until(5500);
            stage.said_at(B, "durable on 0", 5000..5500);
        },
        a_says: "start []; dialled 0; timer 1; synced Ok(())",
        b_says: "start []; accepted 0; at once on 0; durable on 0",
    },
    Row {
        promise: "what is said after a sync is forgotten if it fails",
        a: |cue, cx| persists(cue, cx, None),
        b: nothing,
        play: |stage| {
            stage.until(500);
            stage.act(1, Action::Disk(A, DiskFault::Fail { once: true }));
            stage.until(5000);
        },
        a_says: "start []; dialled 0; timer 1; synced Err(Failed)",
        b_says: "start []; accepted 0",
    },
    Row {
        promise: "a full disk says so at the sync and stores nothing new",
        a: |cue, cx| match cue {
            "start []" => cx.set_timer(1, Duration::from_secs(1)),
            "timer 1" => {
                cx.append(FILE, 1);
                cx.sync(FILE);
            }
            _ => {}
        },
        b: nothing,
        play: |stage| {
            stage.until(500);
            stage.act(1, Action::Disk(A, DiskFault::Full));
            stage.until(2000);
            stage.kill(A);
            stage.start(A, Data::Kept);
            stage.until(2100);
        },
        a_says: "start []; timer 1; synced Err(Full); <Killed>; start []",
        b_says: "start []",
    },
    Row {
        promise: "a process that is asked to end hears of it, and its peers hear its end",
        a: redials,
        b: nothing,
        play: |stage| {
            stage.until(500);
            stage.act(1, Action::Terminate(B));
            stage.until(1200);
        },
        a_says: "start []; dialled 0; Eof 0",
        b_says: "start []; accepted 0; signal; <Exited>",
    },
    Row {
        promise: "a busy process handles nothing else, and the rest of its step waits",
        a: sends_three,
        b: |cue, cx| {
            if cue == "one on 0" {
                cx.busy(Duration::from_secs(1));
            }
        },
        play: |stage| {
            stage.until(3000);
            stage.said_at(B, "two on 0", 1000..1020);
        },
        a_says: "start []; dialled 0",
        b_says: "start []; accepted 0; one on 0; two on 0; three on 0",
    },
    Row {
        promise: "a datagram needs no session; a cut drops it, and it is not sent again",
        a: casts,
        b: nothing,
        play: |stage| {
            stage.until(250);
            stage.act(1, both_ways());
            stage.until(450);
            assert!(stage.world.effects(FaultId(1)) > 0, "it stopped datagrams");
            stage.undo(1);
            stage.until(1000);
        },
        a_says: "start []; timer 1..6",
        b_says: "start []; datagram 1; datagram 2; datagram 5; datagram 6",
    },
    Row {
        promise: "a lossy link loses datagrams, a doubling one doubles them",
        a: casts,
        b: nothing,
        play: |stage| {
            stage.until(250);
            let lossy = Degradation { loss_ppm: 1_000_000, ..Degradation::default() };
            stage.act(1, Action::Degrade(vec![(HOST_A, HOST_B)], lossy));
            stage.until(450);
            stage.undo(1);
            let doubling = Degradation { duplicate_ppm: 1_000_000, ..Degradation::default() };
            stage.act(2, Action::Degrade(vec![(HOST_A, HOST_B)], doubling));
            stage.until(1000);
        },
        a_says: "start []; timer 1..6",
        b_says: "start []; datagram 1; datagram 2; datagram 5; datagram 5; datagram 6; datagram 6",
    },
    Row {
        promise: "a slow link delays what is sent over it, one way",
        a: |cue, cx| match cue {
            "start []" => {
                dial_b(cx);
                cx.set_timer(1, Duration::from_secs(1));
            }
            "timer 1" => cx.send(SessionId(0), "ping".into()),
            _ => {}
        },
        b: echoes,
        play: |stage| {
            stage.until(500);
            let slow = Degradation { delay: Duration::from_millis(300), ..Degradation::default() };
            stage.act(1, Action::Degrade(vec![(HOST_A, HOST_B)], slow));
            stage.until(3000);
            stage.said_at(B, "ping on 0", 1300..1310);
            stage.said_at(A, "ping! on 0", 1300..1310);
            assert!(stage.world.effects(FaultId(1)) > 0, "it delayed something");
        },
        a_says: "start []; dialled 0; timer 1; ping! on 0",
        b_says: "start []; accepted 0; ping on 0",
    },
    Row {
        promise: "what was sent over a slow link arrives although its sender was killed, and behind it the sender's end",
        a: |cue, cx| match cue {
            "start []" => {
                dial_b(cx);
                cx.set_timer(1, Duration::from_secs(1));
            }
            "timer 1" => cx.send(SessionId(0), "last words".into()),
            _ => {}
        },
        b: nothing,
        play: |stage| {
            stage.until(500);
            let slow = Degradation { delay: Duration::from_millis(900), ..Degradation::default() };
            stage.act(1, Action::Degrade(vec![(HOST_A, HOST_B)], slow));
            stage.until(1400);
            stage.kill(A);
            stage.until(4000);
            stage.said_at(B, "last words on 0", 1900..1910);
            stage.said_at(B, "Eof 0", 2300..2310);
        },
        a_says: "start []; dialled 0; timer 1; <Killed>",
        b_says: "start []; accepted 0; last words on 0; Eof 0",
    },
];

/// Every cue of a row's shorthand.
fn spelled_out(says: &str) -> Vec<String> {
    let cue = |cue: &str| match cue.split(' ').find_map(|word| Some((word, word.split_once("..")?))) {
        Some((word, (first, last))) => {
            let number = |text: &str| text.parse::<u32>().expect("a number");
            let each = |number: u32| cue.replace(word, &number.to_string());
            (number(first)..=number(last)).map(each).collect()
        }
        None => vec![cue.to_owned()],
    };
    says.split("; ").flat_map(cue).collect()
}

/// Play a row; what was broken.
fn play(row: &Row, world: Box<dyn World>, real: bool) -> Option<String> {
    let mut stage = Stage { world, real, said: Default::default() };
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (row.play)(&mut stage)));
    let cues = |said: &[(u64, String)]| said.iter().map(|(_, cue)| cue.clone()).collect::<Vec<_>>();
    let (a, b) = (cues(&stage.said[0]), cues(&stage.said[1]));
    (played.is_err() || a != spelled_out(row.a_says) || b != spelled_out(row.b_says)).then(|| {
        format!(
            "{}\n  a said {a:?}\n  not    {:?}\n  b said {b:?}\n  not    {:?}",
            row.promise, row.a_says, row.b_says
        )
    })
}

/// Play every row in worlds that `make` gives; the rows that were broken.
fn play_all(make: impl Fn(Layout<Puppets>) -> Box<dyn World>) -> Vec<String> {
    ROWS.iter().filter_map(|row| play(row, make(layout([row.a, row.b])), false)).collect()
}

#[test]
fn the_kernel_keeps_every_promise() {
    let broken = play_all(|layout| Box::new(Kernel::new(layout, settings())));
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn turmoil_keeps_every_promise() {
    let broken = play_all(|layout| Box::new(Turmoil::new(layout, settings(), Rc::new(FRAMES))));
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A row on real processes. The machine may be so busy that things happen in another order than the times of the row
/// want: a promise is broken if it is broken three times.
fn play_for_real(at: usize) -> Option<String> {
    let row = &ROWS[at];
    let attempt = || {
        let network = tcp::Network::take().expect("a free network");
        firedrill::systems::set_network(network.bytes());
        let child = tcp::Child {
            program: std::env::current_exe().expect("a running program has a file"),
            arguments: ["--ignored", "--exact", "puppet", "--nocapture"].map(str::to_owned).to_vec(),
            cause: at.into(),
            network,
        };
        let world = Tcp::new(layout([row.a, row.b]), &settings(), Rc::new(FRAMES), child);
        play(row, Box::new(world.expect("processes can be started")), true)
    };
    attempt().and_then(|_| attempt()).and_then(|_| attempt())
}

#[test]
fn real_processes_keep_every_promise() {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut broken = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= ROWS.len() {
                return broken;
            }
            broken.extend(play_for_real(at));
        }
    };
    let broken: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..10).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("the plays end")).collect()
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Not a test: the process of a puppet, started by the one above.
#[test]
#[ignore = "started by real_processes_keep_every_promise"]
fn puppet() {
    // Without a charge this is somebody who runs all ignored tests.
    let Ok(charge) = tcp::take_charge() else { return };
    let row = &ROWS[charge.cause.as_u64().expect("the number of a row") as usize];
    tcp::be(charge, layout([row.a, row.b]), &settings(), Rc::new(FRAMES)).expect("the puppet plays");
}

/// What `docs/backends.md` must hold between its marks, made from the program and this suite.
fn generated() -> [(&'static str, String); 2] {
    let promises = ROWS.iter().map(|row| format!("- {}\n", row.promise)).collect();
    [("faults", firedrill::backends::abilities::markdown()), ("promises", promises)]
}

#[test]
fn the_tables_in_the_docs_are_the_programs_own() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/backends.md");
    let docs = std::fs::read_to_string(path).expect("the page is there");
    let mut fresh = docs.clone();
    for (name, text) in generated() {
        let (begin, end) = (format!("<!-- {name} -->\n\n"), format!("\n<!-- end of {name} -->"));
        let from = fresh.find(&begin).expect("the mark is there") + begin.len();
        let to = from + fresh[from..].find(&end).expect("the mark is there");
        fresh.replace_range(from..to, &text);
    }
    if std::env::var_os("FIREDRILL_WRITE_DOCS").is_some() {
        std::fs::write(path, &fresh).expect("the page can be written");
    }
    assert!(
        docs == fresh,
        "docs/backends.md is out of date: run this test with FIREDRILL_WRITE_DOCS=1, then again"
    );
}
