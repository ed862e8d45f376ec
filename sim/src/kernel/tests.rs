//! What the kernel promises, each promise a short test with an exact outcome.

use super::*;
use crate::world::{Degradation, DiskFault, Host as HostInfo, Names, Process as ProcessInfo, Resolution};
use firedrill_checkers::record::NodeClass;
use firedrill_protocols::contract::{DiskImage, Endpoint, Ipv4Addr, Observation, Outcome, Shard};
use std::cell::RefCell;
use std::rc::Rc;

/// A system of one role that writes down everything it is given and does what it is told.
pub(crate) struct Toy;

impl System for Toy {
    const NAME: &'static str = "toy";
    type Message = &'static str;
    type Kind = u8;
    type Timer = u8;
    type Record = u32;
    fn wire_size(message: &&'static str) -> usize {
        message.len()
    }
}

type Log = Rc<RefCell<Vec<(u64, String)>>>;
/// What a toy does on a named cue.
type Script = Rc<dyn Fn(&str, &mut Cx<'_, Toy>)>;

struct Puppet {
    log: Log,
    script: Script,
}

impl Puppet {
    fn hears(&self, cx: &mut Cx<'_, Toy>, cue: String) {
        self.log.borrow_mut().push((cx.now().0, cue.clone()));
        (self.script)(&cue, cx);
    }
}

impl Node<Toy> for Puppet {
    fn start(&mut self, cx: &mut Cx<'_, Toy>, disk: &DiskImage<Toy>) {
        let records: Vec<u32> = disk.records("wal").to_vec();
        self.hears(cx, format!("start {records:?}"));
    }
    fn on_open(&mut self, cx: &mut Cx<'_, Toy>, session: SessionId, opened: Opened<u8>) {
        let how = if opened == Opened::Dialled { "dialled" } else { "accepted" };
        self.hears(cx, format!("open {} {how}", session.0));
    }
    fn on_message(&mut self, cx: &mut Cx<'_, Toy>, session: SessionId, message: &'static str) {
        self.hears(cx, format!("message {} {message}", session.0));
    }
    fn on_close(&mut self, cx: &mut Cx<'_, Toy>, session: SessionId, why: Closed) {
        self.hears(cx, format!("close {} {why:?}", session.0));
    }
    fn on_timer(&mut self, cx: &mut Cx<'_, Toy>, timer: u8) {
        self.hears(cx, format!("timer {timer}"));
    }
    fn on_synced(&mut self, cx: &mut Cx<'_, Toy>, token: Token, result: Result<(), DiskError>) {
        self.hears(cx, format!("synced {} {result:?}", token.0));
    }
    fn on_datagram(&mut self, cx: &mut Cx<'_, Toy>, _: SocketAddrV4, message: &'static str) {
        self.hears(cx, format!("datagram {message}"));
    }
    fn on_signal(&mut self, cx: &mut Cx<'_, Toy>, _: Signal) {
        self.hears(cx, "signal".to_owned());
        cx.exit();
    }
}

const A: NodeIndex = NodeIndex(0);
const B: NodeIndex = NodeIndex(1);
const MS: u64 = 1_000;
const S: u64 = 1_000_000;

fn ip(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, host)
}

fn address_of_b() -> SocketAddrV4 {
    SocketAddrV4::new(ip(2), 7)
}

/// A world of two puppets on two hosts, links of exactly 1 ms, syncs of exactly 2 ms.
struct Stage {
    kernel: Kernel<Toy>,
    logs: [Log; 2],
}

impl Stage {
    fn new(
        a: impl Fn(&str, &mut Cx<'_, Toy>) + 'static,
        b: impl Fn(&str, &mut Cx<'_, Toy>) + 'static,
    ) -> Self {
        let logs: [Log; 2] = Default::default();
        let scripts: [Script; 2] = [Rc::new(a), Rc::new(b)];
        let processes = ["a", "b"].iter().enumerate().map(|(i, name)| {
            let (log, script) = (logs[i].clone(), scripts[i].clone());
            ProcessInfo {
                name: (*name).to_owned(),
                class: NodeClass::Data,
                host: HostIndex(i as u16),
                listens: vec![(7, 0)],
                shard: None,
                starts_at: SimTime(0),
                make: Box::new(move || Box::new(Puppet { log: log.clone(), script: script.clone() })),
            }
        });
        let host = |i: u8| HostInfo {
            name: format!("host-{i}"),
            zone: "z".to_owned(),
            region: "r".to_owned(),
            ip: ip(i),
        };
        let mut names = Names::default();
        names.everywhere("hole", Resolution::BlackHole);
        names.everywhere("b", Resolution::Ip(ip(2)));
        let layout = Layout {
            hosts: vec![host(1), host(2)],
            processes: processes.collect(),
            names,
            programs: Default::default(),
            shards: 1,
        };
        let settings = Settings {
            seed: 1,
            latencies: vec![Latency::constant(Duration::from_millis(1))],
            links: Vec::new(),
            loopback: Latency::constant(Duration::from_micros(20)),
            sync: Latency::constant(Duration::from_millis(2)),
            syn_linear_timeouts: 0,
            certificates: None,
            timer_lateness: None,
            record_messages: false,
            notes: false,
        };
        Stage { kernel: Kernel::new(layout, settings), logs }
    }

    /// Let time pass until `at`, in microseconds.
    fn until(&mut self, at: u64) {
        self.kernel.alarm(SimTime(at), 0);
        let mut happenings = Vec::new();
        loop {
            happenings.clear();
            assert!(self.kernel.advance(&mut happenings));
            if happenings.iter().any(|happening| matches!(happening, Happening::Alarm(0))) {
                return;
            }
        }
    }

    fn act(&mut self, fault: u32, action: Action) {
        self.kernel.act(FaultId(fault), &action);
    }

    fn heard(&self, node: NodeIndex) -> Vec<String> {
        self.logs[usize::from(node.0)].borrow().iter().map(|(_, cue)| cue.clone()).collect()
    }

    /// When a node heard this, on its own clock.
    fn when(&self, node: NodeIndex, cue: &str) -> u64 {
        let log = self.logs[usize::from(node.0)].borrow();
        log.iter().find(|(_, heard)| heard == cue).unwrap_or_else(|| panic!("never heard {cue}: {log:?}")).0
    }
}

fn silent(_: &str, _: &mut Cx<'_, Toy>) {}

/// Dials B at the start and sends one word every 100 ms.
fn talker(cue: &str, cx: &mut Cx<'_, Toy>) {
    if cue.starts_with("start") {
        cx.open(address_of_b(), 0);
    }
    if cue.starts_with("open") {
        cx.set_timer(1, Duration::ZERO);
    }
    if cue == "timer 1" {
        cx.send(SessionId(0), "word");
        cx.set_timer(1, Duration::from_millis(100));
    }
}

fn words(stage: &Stage) -> usize {
    stage.heard(B).iter().filter(|cue| cue.contains("word")).count()
}

#[test]
fn a_dial_takes_a_round_trip_and_a_message_one_way() {
    let mut stage = Stage::new(talker, silent);
    stage.until(50 * MS);
    assert_eq!(stage.when(B, "open 0 accepted"), MS);
    assert_eq!(stage.when(A, "open 0 dialled"), 2 * MS);
    assert_eq!(stage.when(B, "message 0 word"), 3 * MS);
}

#[test]
fn a_dead_process_refuses_and_a_dead_host_is_silent() {
    let dial = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue == "timer 9" {
            cx.open(address_of_b(), 0);
        } else if cue.starts_with("start") {
            cx.set_timer(9, Duration::from_millis(10));
        }
    };
    let mut stage = Stage::new(dial, silent);
    stage.until(5 * MS);
    stage.act(0, Action::Kill(B));
    stage.until(S);
    assert_eq!(stage.when(A, "close 0 Refused"), 12 * MS);

    let mut stage = Stage::new(dial, silent);
    stage.until(5 * MS);
    stage.act(0, Action::LoseHost(HostIndex(1)));
    stage.until(100 * S);
    assert_eq!(stage.heard(A).len(), 2, "start and timer only: {:?}", stage.heard(A));
    stage.until(200 * S);
    assert_eq!(stage.when(A, "close 0 Timeout"), 10 * MS + 127 * S);
}

#[test]
fn a_dial_is_repeated_each_second_first_where_the_settings_say_so() {
    let dial = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue.starts_with("start") {
            cx.open(address_of_b(), 0);
        }
    };
    // With four linear timeouts: after 1, 2, 3, 4, 5, 7, 11, 19 s; without: after 1, 3, 7, 15 s.
    for (linear, lost_until, opened) in [(4, 8 * S, 11 * S), (4, 4_500 * MS, 5 * S), (0, 8 * S, 15 * S)] {
        let mut stage = Stage::new(dial, silent);
        stage.kernel.syn_linear_timeouts = linear;
        stage.act(0, Action::Block(vec![(HostIndex(0), HostIndex(1))]));
        stage.until(lost_until);
        stage.kernel.undo(FaultId(0));
        stage.until(30 * S);
        assert_eq!(stage.when(A, "open 0 dialled"), opened + 2 * MS);
    }
}

#[test]
fn timers_of_a_busy_machine_come_late_and_never_early() {
    let clock = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue.starts_with("start") || cue == "timer 1" {
            cx.set_timer(1, Duration::from_millis(10));
        }
    };
    let mut stage = Stage::new(clock, silent);
    let late = Duration::from_micros(250);
    stage.kernel.late_wakes = Some(LateWakes::new(Lateness::new(late, late, late, late), 1, 2));
    stage.until(S);
    let times: Vec<u64> = stage.logs[0].borrow().iter().map(|(at, _)| *at).collect();
    assert!(times.len() > 90 && times.windows(2).all(|two| two[1] - two[0] == 10 * MS + 250));
}

#[test]
fn a_process_that_the_machine_lets_wait_handles_what_came_meanwhile_in_order() {
    const WORDS: [&str; 5] = ["a", "b", "c", "d", "e"];
    let speaks = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue.starts_with("start") {
            cx.open(address_of_b(), 0);
        } else if cue.starts_with("open") {
            WORDS.into_iter().for_each(|word| cx.send(SessionId(0), word));
        }
    };
    let span = Duration::from_micros;
    let busy = Lateness::new(span(1), span(90_000), span(90_000), span(300_000));
    let mut waited = 0;
    for seed in 1..=60 {
        let mut stage = Stage::new(speaks, silent);
        stage.kernel.late_wakes = Some(LateWakes::new(busy, seed, 2));
        stage.until(30 * S);
        let heard = stage.heard(B);
        let words: Vec<&str> = heard.iter().filter_map(|cue| cue.strip_prefix("message 0 ")).collect();
        assert_eq!(words, WORDS, "nothing is lost and nothing overtakes");
        waited = waited.max(stage.when(B, "message 0 e"));
    }
    assert!(waited > 5 * MS, "some of them had to wait: {waited}");
}

#[test]
fn a_name_is_resolved_in_the_zone_of_the_dialler() {
    let dial = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue.starts_with("start") {
            for name in ["nowhere", "hole", "b"] {
                cx.open(Endpoint::Name(name.into(), 7), 0);
            }
        }
    };
    let mut stage = Stage::new(dial, silent);
    stage.until(S);
    assert_eq!(stage.heard(A)[1..], ["close 0 Unresolved", "open 2 dialled"]);
}

#[test]
fn a_killed_process_closes_its_streams_behind_what_it_had_sent() {
    let mut stage = Stage::new(talker, silent);
    stage.until(2 * MS + 500);
    stage.act(0, Action::Kill(A));
    stage.until(S);
    assert_eq!(stage.heard(B)[1..], ["open 0 accepted", "message 0 word", "close 0 Eof"]);
}

#[test]
fn what_a_lost_host_had_in_flight_is_lost_with_it() {
    let mut stage = Stage::new(talker, silent);
    stage.until(2 * MS + 500);
    stage.act(0, Action::LoseHost(HostIndex(0)));
    stage.until(S);
    assert_eq!(stage.heard(B)[1..], ["open 0 accepted"]);
}

#[test]
fn a_host_that_is_back_does_not_know_the_old_streams() {
    let mut stage = Stage::new(talker, silent);
    stage.until(50 * MS);
    stage.act(0, Action::LoseHost(HostIndex(1)));
    stage.until(500 * MS);
    stage.act(1, Action::Start { node: B, data: Data::Kept });
    stage.until(5 * S);
    assert_eq!(stage.heard(A).last().map(String::as_str), Some("timer 1"));
    assert!(stage.heard(A).contains(&"close 0 Reset".to_owned()), "{:?}", stage.heard(A));
}

#[test]
fn a_cut_says_nothing_and_the_stream_goes_on_after_the_heal_whole_and_in_order() {
    let mut stage = Stage::new(talker, silent);
    stage.until(50 * MS);
    stage.act(0, Action::Block(vec![(HostIndex(0), HostIndex(1))]));
    stage.until(1_050 * MS);
    assert_eq!(words(&stage), 1);
    assert!(stage.kernel.effects(FaultId(0)) >= 10, "every stopped piece is an effect");
    stage.kernel.undo(FaultId(0));
    stage.until(3 * S);
    // The first piece stalled at 102 ms; TCP tries after 0.2, 0.4, 0.8 s: at 1,502 ms.
    let log = stage.logs[1].borrow();
    let after_heal = log.iter().find(|(at, cue)| *at > 1_050 * MS && cue.contains("word"));
    assert_eq!(after_heal.map(|(at, _)| *at), Some(1_503 * MS));
    drop(log);
    assert_eq!(words(&stage), 30, "nothing was lost");
}

#[test]
fn a_one_way_cut_lets_the_other_way_through() {
    let echo = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue.contains("word") {
            cx.send(SessionId(0), "echo");
        }
    };
    let mut stage = Stage::new(talker, echo);
    stage.until(50 * MS);
    stage.act(0, Action::Block(vec![(HostIndex(1), HostIndex(0))]));
    stage.until(S);
    assert!(words(&stage) >= 9);
    assert_eq!(stage.heard(A).iter().filter(|cue| cue.contains("echo")).count(), 1);
}

#[test]
fn a_paused_process_gets_everything_late_and_its_clock_has_run() {
    let ticker = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue.starts_with("start") {
            cx.set_timer(2, Duration::from_millis(100));
        }
    };
    let mut stage = Stage::new(talker, ticker);
    stage.until(50 * MS);
    stage.act(0, Action::Pause { node: B, hold_outputs: false });
    stage.until(S);
    assert_eq!(words(&stage), 1);
    stage.kernel.undo(FaultId(0));
    assert_eq!(words(&stage), 10, "all at once");
    assert_eq!(stage.when(B, "timer 2"), S, "the late timer fires at resumption");
}

#[test]
fn a_suspended_host_has_clocks_that_stand_still() {
    let ticker = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue.starts_with("start") {
            cx.set_timer(2, Duration::from_millis(100));
        }
    };
    let mut stage = Stage::new(silent, ticker);
    stage.until(50 * MS);
    stage.act(0, Action::Suspend(HostIndex(1)));
    stage.until(5 * S);
    assert_eq!(stage.heard(B).len(), 1);
    stage.kernel.undo(FaultId(0));
    stage.until(5 * S + 49 * MS);
    assert_eq!(stage.heard(B).len(), 1);
    stage.until(5 * S + 51 * MS);
    assert_eq!(stage.when(B, "timer 2"), 100 * MS, "on its own clock it was on time");
}

#[test]
fn held_outputs_leave_at_resumption_before_anything_else() {
    let answer = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue.contains("word") {
            cx.send(SessionId(0), "decided");
        }
    };
    let mut stage = Stage::new(talker, answer);
    stage.until(50 * MS);
    stage.act(0, Action::Pause { node: B, hold_outputs: true });
    stage.until(S);
    assert_eq!(words(&stage), 2, "it handled one more word and stopped before it answered");
    let answers = |stage: &Stage| stage.heard(A).iter().filter(|cue| cue.contains("decided")).count();
    assert_eq!(answers(&stage), 1);
    stage.kernel.undo(FaultId(0));
    stage.until(S + 1_500);
    assert_eq!(answers(&stage), 10);
}

#[test]
fn timers_run_on_the_drifting_clock() {
    let ticker = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue.starts_with("start") {
            cx.set_timer(2, Duration::from_secs(10));
        }
    };
    let mut stage = Stage::new(ticker, silent);
    stage.until(0);
    stage.act(0, Action::Clock(HostIndex(0), ClockFault::Drift(100_000)));
    stage.until(9_090 * MS);
    assert_eq!(stage.heard(A).len(), 1);
    stage.until(9_091 * MS);
    assert_eq!(stage.heard(A).len(), 2, "10 s at +10 % are over after 9.0909 s");
    assert!(stage.kernel.effects(FaultId(0)) > 0);
}

#[test]
fn what_waits_for_a_sync_leaves_when_it_is_durable_and_never_if_it_fails() {
    let writer = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue.starts_with("open") {
            cx.persist("wal", 1).send(SessionId(0), "durable");
        }
    };
    let dialler = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue.starts_with("start") {
            cx.open(address_of_b(), 0);
        }
    };
    let mut stage = Stage::new(dialler, writer);
    stage.until(S);
    assert_eq!(stage.when(A, "message 0 durable"), MS + 2 * MS + MS);

    let mut stage = Stage::new(dialler, writer);
    stage.act(0, Action::Disk(B, DiskFault::Fail { once: true }));
    stage.until(S);
    assert_eq!(stage.heard(B).last().map(String::as_str), Some("synced 0 Err(Failed)"));
    assert!(!stage.heard(A).iter().any(|cue| cue.contains("durable")));
}

#[test]
fn a_stuck_disk_delays_only_what_waits_for_it() {
    let writer = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue.starts_with("open") {
            cx.persist("wal", 1).send(SessionId(0), "durable");
            cx.send(SessionId(0), "hasty");
        }
    };
    let dialler = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue.starts_with("start") {
            cx.open(address_of_b(), 0);
        }
    };
    let mut stage = Stage::new(dialler, writer);
    stage.act(0, Action::Disk(B, DiskFault::Stuck));
    stage.until(S);
    assert!(stage.heard(A).contains(&"message 0 hasty".to_owned()));
    assert!(!stage.heard(A).contains(&"message 0 durable".to_owned()));
    stage.kernel.undo(FaultId(0));
    stage.until(2 * S);
    assert!(stage.heard(A).contains(&"message 0 durable".to_owned()));
}

#[test]
fn a_busy_process_answers_when_it_is_done() {
    let worker = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue.starts_with("open") {
            cx.send(SessionId(0), "before");
            cx.busy(Duration::from_millis(500));
            cx.send(SessionId(0), "after");
        }
    };
    let mut stage = Stage::new(talker, worker);
    stage.until(S);
    assert_eq!(stage.when(A, "message 0 before"), 2 * MS);
    assert_eq!(stage.when(A, "message 0 after"), 502 * MS);
    assert!(stage.logs[1].borrow().iter().all(|(at, cue)| !cue.contains("word") || *at >= 501 * MS));
}

#[test]
fn what_comes_in_while_a_process_is_busy_is_answered_after_what_it_was_busy_with() {
    let asker = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue.starts_with("start") {
            cx.open(address_of_b(), 0);
        } else if cue.starts_with("open") {
            cx.send(SessionId(0), "slow?");
            cx.send(SessionId(0), "quick?");
        }
    };
    let worker = |cue: &str, cx: &mut Cx<'_, Toy>| match cue {
        "message 0 slow?" => {
            cx.busy(Duration::from_millis(5));
            cx.send(SessionId(0), "slow");
        }
        "message 0 quick?" => cx.send(SessionId(0), "quick"),
        _ => {}
    };
    let mut stage = Stage::new(asker, worker);
    stage.until(S);
    assert_eq!(stage.heard(A)[2..], ["message 0 slow", "message 0 quick"]);
}

#[test]
fn sigterm_lets_a_process_leave_in_good_order() {
    let mut stage = Stage::new(talker, silent);
    stage.until(50 * MS);
    stage.act(0, Action::Terminate(B));
    stage.until(S);
    assert_eq!(stage.heard(B).last().map(String::as_str), Some("signal"));
    assert!(stage.heard(A).contains(&"close 0 Eof".to_owned()));
}

#[test]
fn a_slow_link_delays_and_counts_every_message() {
    let mut stage = Stage::new(talker, silent);
    stage.until(50 * MS);
    let slow = Degradation { delay: Duration::from_millis(500), ..Degradation::default() };
    stage.act(0, Action::Degrade(vec![(HostIndex(0), HostIndex(1))], slow));
    stage.until(600 * MS);
    assert_eq!(words(&stage), 1);
    stage.until(650 * MS);
    assert_eq!(words(&stage), 2, "sent at 102 ms, there at 603 ms");
    assert_eq!(stage.kernel.effects(FaultId(0)), 6);
}

#[test]
fn datagrams_are_dropped_by_a_cut_and_not_sent_again() {
    let caster = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue.starts_with("start") || cue == "timer 3" {
            cx.cast(address_of_b(), "beat");
            cx.set_timer(3, Duration::from_millis(100));
        }
    };
    let mut stage = Stage::new(caster, silent);
    stage.until(450 * MS);
    stage.act(0, Action::Block(vec![(HostIndex(0), HostIndex(1))]));
    stage.until(950 * MS);
    stage.kernel.undo(FaultId(0));
    stage.until(1_450 * MS);
    let beats = stage.heard(B).iter().filter(|cue| cue.contains("beat")).count();
    assert_eq!(beats, 5 + 5, "at 0..400 and 1000..1400 ms");
    assert_eq!(stage.kernel.effects(FaultId(0)), 5);
}

#[test]
fn requests_are_answered_through_happenings() {
    let answer = |cue: &str, cx: &mut Cx<'_, Toy>| {
        if cue.starts_with("start") {
            cx.complete(RequestId(5), Outcome::Done, None);
            cx.observe_shard(Shard(2), Observation::Epoch(7));
        }
    };
    let mut stage = Stage::new(answer, silent);
    let mut happenings = Vec::new();
    stage.kernel.advance(&mut happenings);
    assert!(matches!(happenings[1], Happening::Completed { request: RequestId(5), .. }), "{happenings:?}");
    assert!(matches!(happenings[2], Happening::Observed { shard: Shard(2), .. }));
}

#[test]
fn one_seed_is_one_trace() {
    let run = || {
        let mut stage = Stage::new(talker, silent);
        stage.until(10 * S);
        stage.kernel.trace().expect("the kernel traces")
    };
    assert_eq!(run(), run());
    assert!(run().events > 100);
}
