//! What every world promises to failover code: one table of links, sessions, disks, crashes and pauses, each row a
//! short play of two puppets with an exact outcome, on every world that can be given puppets.
//!
//! The kernel plays on typed messages, turmoil under the production driver over its simulated TCP.

use firedrill::backends::turmoil::Turmoil;
use firedrill::kernel::{Kernel, Latency, Settings};
use firedrill::world::*;
use firedrill_checkers::record::{Life, NodeClass, NodeIndex, SimTime};
use firedrill_node::driver::{Codec, Framed, Side, Wire};
use firedrill_protocols::contract::{
    Closed, Cx, DiskError, DiskImage, Endpoint, Ipv4Addr, Node, Observation, Opened, SessionId, Signal,
    SocketAddrV4, System, Token,
};
use std::rc::Rc;
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

struct Frames;

impl Wire<Puppets> for Frames {
    fn codec(&self, _: u8, _: Side) -> Box<dyn Codec<Puppets>> {
        Box::new(Framed::default())
    }
}

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
    Ipv4Addr::new(10, 1, 0, host)
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
        listens: vec![(7, 0)],
        shard: None,
        starts_at: SimTime(0),
        make: Box::new(move || Box::new(Puppet(script))),
    });
    Layout {
        hosts: vec![host(0), host(1)],
        processes: processes.collect(),
        names: Names::default(),
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
        record_messages: false,
        notes: true,
    }
}

/// A world with two puppets on it, and what they said.
struct Stage {
    world: Box<dyn World>,
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

/// A promise: what the puppets do, what is done to them, what they must have said.
struct Row {
    promise: &'static str,
    a: Script,
    b: Script,
    play: fn(&mut Stage),
    a_says: &'static [&'static str],
    b_says: &'static [&'static str],
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

fn both_ways() -> Action {
    Action::Block(vec![(HOST_A, HOST_B), (HOST_B, HOST_A)])
}

const ROWS: &[Row] = &[
    Row {
        promise: "messages of a session arrive in the order they were sent, both ways",
        a: sends_three,
        b: echoes,
        play: |stage| stage.until(100),
        a_says: &["start []", "dialled 0", "one! on 0", "two! on 0", "three! on 0"],
        b_says: &["start []", "accepted 0", "one on 0", "two on 0", "three on 0"],
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
        a_says: &["start []", "dialled 0"],
        b_says: &["start []", "accepted 0", "last on 0", "Eof 0"],
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
        a_says: &["start []", "Refused 0", "timer 1", "Unresolved 1"],
        b_says: &["start []"],
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
        a_says: &["start []", "dialled 0", "Eof 0", "timer 1", "Refused 1", "timer 1", "dialled 2"],
        b_says: &["start []", "accepted 0", "<Killed>", "start []", "accepted 0"],
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
        a_says: &["start []", "dialled 0", "timer 1", "Reset 0"],
        b_says: &["start []", "accepted 0", "<HostLost>", "start []"],
    },
    Row {
        promise: "a dial to a host without power waits until it has power",
        a: |cue, cx| match cue {
            "start []" => cx.set_timer(1, Duration::from_secs(1)),
            "timer 1" => dial_b(cx),
            _ => {}
        },
        b: nothing,
        play: |stage| {
            stage.until(500);
            stage.act(1, Action::LoseHost(HOST_B));
            stage.until(3000);
            stage.start(B, Data::Kept);
            stage.until(20_000);
        },
        a_says: &["start []", "timer 1", "dialled 0"],
        b_says: &["start []", "<HostLost>", "start []", "accepted 0"],
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
        },
        a_says: &[
            "start []",
            "dialled 0",
            "timer 1",
            "timer 2",
            "timer 3",
            "timer 4",
            "timer 5",
            "timer 6",
            "timer 7",
            "timer 8",
            "timer 9",
            "timer 10",
        ],
        b_says: &[
            "start []",
            "accepted 0",
            "1 on 0",
            "2 on 0",
            "3 on 0",
            "4 on 0",
            "5 on 0",
            "6 on 0",
            "7 on 0",
            "8 on 0",
            "9 on 0",
            "10 on 0",
        ],
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
        a_says: &["start []", "dialled 0", "timer 1", "ahoy on 0"],
        b_says: &["start []", "accepted 0", "timer 2"],
    },
    Row {
        promise: "a dial behind a cut opens after the heal",
        a: |cue, cx| match cue {
            "start []" => cx.set_timer(1, Duration::from_secs(1)),
            "timer 1" => dial_b(cx),
            _ => {}
        },
        b: nothing,
        play: |stage| {
            stage.until(500);
            stage.act(1, both_ways());
            stage.until(3000);
            assert_eq!(stage.said[0].len(), 2, "nothing is said behind a cut");
            stage.undo(1);
            stage.until(20_000);
        },
        a_says: &["start []", "timer 1", "dialled 0"],
        b_says: &["start []", "accepted 0"],
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
        a_says: &["start []", "dialled 0", "Eof 0"],
        b_says: &["start []", "accepted 0", "<Killed>"],
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
            assert!((1500..1510).contains(&stage.when(B, "5 on 0")));
        },
        a_says: &[
            "start []",
            "dialled 0",
            "timer 1",
            "timer 2",
            "timer 3",
            "timer 4",
            "timer 5",
            "timer 6",
            "timer 7",
            "timer 8",
            "timer 9",
            "timer 10",
        ],
        b_says: &[
            "start []",
            "accepted 0",
            "1 on 0",
            "2 on 0",
            "<Paused>",
            "<Resumed>",
            "3 on 0",
            "4 on 0",
            "5 on 0",
            "6 on 0",
            "7 on 0",
            "8 on 0",
            "9 on 0",
            "10 on 0",
        ],
    },
    Row {
        promise: "the host of a stopped process accepts for it",
        a: |cue, cx| match cue {
            "start []" => cx.set_timer(1, Duration::from_secs(1)),
            "timer 1" => dial_b(cx),
            _ => {}
        },
        b: nothing,
        play: |stage| {
            stage.until(500);
            stage.act(1, Action::Pause { node: B, hold_outputs: false });
            stage.until(3000);
            assert!(stage.when(A, "dialled 0") < 1100);
            stage.undo(1);
            stage.until(3500);
        },
        a_says: &["start []", "timer 1", "dialled 0"],
        b_says: &["start []", "<Paused>", "<Resumed>", "accepted 0"],
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
            assert!((6000..6005).contains(&stage.when(A, "timer 3")));
        },
        a_says: &["start []", "timer 1", "<Paused>", "<Resumed>", "timer 2", "timer 3"],
        b_says: &["start []"],
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
            assert!((2000..2010).contains(&stage.when(B, "3 on 0")), "what it had decided leaves first");
        },
        a_says: &["start []", "dialled 0", "timer 1", "timer 2", "<Paused>", "<Resumed>", "timer 3"],
        b_says: &["start []", "accepted 0", "1 on 0", "2 on 0", "3 on 0"],
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
            assert!((6995..7005).contains(&stage.when(A, "timer 1")));
        },
        a_says: &["start []", "<Paused>", "<Resumed>", "timer 1"],
        b_says: &["start []"],
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
            assert!((10_990..=11_010).contains(&stage.when(A, "timer 2")), "{}", stage.when(A, "timer 2"));
        },
        a_says: &["start []", "timer 1", "timer 2"],
        b_says: &["start []"],
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
            stage.until(1501);
        },
        a_says: &[
            "start []",
            "synced Ok(())",
            "<Killed>",
            "start [1, 2]",
            "<HostLost>",
            "<Killed>",
            "start []",
        ],
        b_says: &["start []"],
    },
    Row {
        promise: "what is said after a sync leaves when it has succeeded; other work goes on while it is stuck",
        a: |cue, cx| match cue {
            "start []" => {
                dial_b(cx);
            }
            "dialled 0" => cx.set_timer(1, Duration::from_secs(1)),
            "timer 1" => {
                cx.persist(FILE, 1).send(SessionId(0), "durable".into());
                cx.send(SessionId(0), "at once".into());
            }
            _ => {}
        },
        b: nothing,
        play: |stage| {
            stage.until(500);
            stage.act(1, Action::Disk(A, DiskFault::Stuck));
            stage.until(5000);
            stage.undo(1);
            stage.until(5500);
            assert!(stage.when(B, "durable on 0") >= 5000);
        },
        a_says: &["start []", "dialled 0", "timer 1", "synced Ok(())"],
        b_says: &["start []", "accepted 0", "at once on 0", "durable on 0"],
    },
    Row {
        promise: "what is said after a sync is forgotten if it fails",
        a: |cue, cx| match cue {
            "start []" => {
                dial_b(cx);
            }
            "dialled 0" => cx.set_timer(1, Duration::from_secs(1)),
            "timer 1" => {
                cx.persist(FILE, 1).send(SessionId(0), "durable".into());
            }
            _ => {}
        },
        b: nothing,
        play: |stage| {
            stage.until(500);
            stage.act(1, Action::Disk(A, DiskFault::Fail { once: true }));
            stage.until(5000);
        },
        a_says: &["start []", "dialled 0", "timer 1", "synced Err(Failed)"],
        b_says: &["start []", "accepted 0"],
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
        a_says: &["start []", "timer 1", "synced Err(Full)", "<Killed>", "start []"],
        b_says: &["start []"],
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
        a_says: &["start []", "dialled 0", "Eof 0"],
        b_says: &["start []", "accepted 0", "signal", "<Exited>"],
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
            assert!((1000..1020).contains(&stage.when(B, "two on 0")));
        },
        a_says: &["start []", "dialled 0"],
        b_says: &["start []", "accepted 0", "one on 0", "two on 0", "three on 0"],
    },
];

/// Play every row in worlds that `make` gives; the rows that were broken.
fn play_all(make: impl Fn(Layout<Puppets>) -> Box<dyn World>) -> Vec<String> {
    let mut broken = Vec::new();
    for row in ROWS {
        let mut stage = Stage { world: make(layout([row.a, row.b])), said: Default::default() };
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (row.play)(&mut stage)));
        let cues = |said: &[(u64, String)]| said.iter().map(|(_, cue)| cue.clone()).collect::<Vec<_>>();
        let (a, b) = (cues(&stage.said[0]), cues(&stage.said[1]));
        if played.is_err() || a != row.a_says || b != row.b_says {
            broken.push(format!(
                "{}\n  a said {a:?}\n  not    {:?}\n  b said {b:?}\n  not    {:?}",
                row.promise, row.a_says, row.b_says
            ));
        }
    }
    broken
}

#[test]
fn the_kernel_keeps_every_promise() {
    let broken = play_all(|layout| Box::new(Kernel::new(layout, settings())));
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn turmoil_keeps_every_promise() {
    let broken = play_all(|layout| Box::new(Turmoil::new(layout, settings(), Rc::new(Frames))));
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_table_of_faults_and_backends_in_the_docs_is_the_programs_own() {
    let docs = include_str!("../../docs/backends.md");
    let table = firedrill::backends::abilities::markdown();
    assert!(docs.contains(&table), "docs/backends.md must hold this table:\n{table}");
}
