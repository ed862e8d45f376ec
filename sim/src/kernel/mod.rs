//! The kernel: one event loop that is the whole world. Time is exact to the microsecond, nothing runs that was not
//! scheduled, and the order of events is a function of the seed.
//!
//! What it models, and how faults combine, stands in `docs/kernel.md`; [`network`], [`disk`] and [`clock`] hold the
//! rules for their part. This file moves events between them and the nodes.

mod clock;
mod disk;
mod handshake;
pub(crate) mod lateness;
pub(crate) mod network;
pub(crate) mod process;
mod queue;
mod session;
#[cfg(test)]
mod tests;

pub use lateness::Lateness;
pub use network::Latency;

use crate::children::Children;
use crate::trace::{StableHasher, TraceHash, Tracer};
use crate::world::{Action, ClockFault, Data, FaultId, Happening, HostIndex, Layout, Pair, Traffic, World};
use clock::Clock;
use disk::{Disk, SyncFate};
use firedrill_checkers::record::{Life, NodeIndex, SimTime};
use firedrill_protocols::contract::{
    ChildId, Closed, Cx, DiskError, Duration, Effect, Ended, Exhibit, Inspection, Node, Observation, Op,
    Opened, Orchestration, RequestId, SessionId, Signal, SocketAddrV4, System, Token, WallTime,
};
use lateness::{LateWakes, Wake};
use network::Network;
use process::Process;
use queue::Queue;
use session::{Conn, ConnId, Side};
use std::collections::BTreeMap;

/// Everything about the world that is not the system itself.
pub struct Settings {
    /// The run's seed.
    pub seed: u64,
    /// One-way latencies; the first is the default of all links between hosts.
    pub latencies: Vec<Latency>,
    /// Links that have another of them.
    pub links: Vec<(Pair, u16)>,
    /// One-way latency between processes of one host.
    pub loopback: Latency,
    /// Time a sync takes on a healthy disk.
    pub sync: Latency,
    /// Repetitions of a dial after which the interval begins to double, as Linux counts them (`tcp_syn_linear_timeouts`).
    pub syn_linear_timeouts: u8,
    /// Streams are encrypted, and certificates count for so long from the start; plain if not given.
    pub certificates: Option<Duration>,
    /// How late processes run that were woken; at once if not given.
    pub timer_lateness: Option<Lateness>,
    /// Record every message with its text (slow; for stories).
    pub record_messages: bool,
    /// Make the text of notes (for stories).
    pub notes: bool,
}

/// One thing that will happen.
enum Event<S: System> {
    /// An input reaches a process.
    Input { node: u16, incarnation: u32, input: Input<S> },
    /// A dial, its answer, or a repetition of it.
    Dial { conn: ConnId, attempt: u8, step: DialStep },
    /// A piece of an open stream reaches the other side.
    Arrive { conn: ConnId, to: Side, boot: u32, piece: Piece<S>, sent: u64 },
    /// A datagram reaches a port, whoever listens there by now.
    Datagram { to: u16, from: SocketAddrV4, message: S::Message },
    /// The sending side of a stalled stream tries again.
    Retransmit { conn: ConnId, from: Side },
    /// The network gives a stalled stream up.
    GiveUp { conn: ConnId, from: Side, since: u64 },
    /// A busy process is free again.
    Free { node: u16, incarnation: u32 },
    /// A delayed effect of a process that was busy in the middle of its step.
    Deferred { node: u16, incarnation: u32, effect: Effect<S> },
    /// A device finishes a sync.
    SyncDone { node: u16, incarnation: u32, token: Token, result: Result<(), DiskError> },
    /// A program that a process started may have ended.
    Children,
    /// A process starts.
    Start { node: u16 },
    /// The harness asked to be told.
    Alarm(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DialStep {
    /// The request reaches the listening host.
    Reaches,
    /// The answer reaches the dialling host.
    Answered { accepted: bool },
    /// The dialling process knows whether it and the other trust each other.
    Secured { trusted: bool },
    /// No answer yet: repeat.
    Again,
}

/// What travels on a stream.
enum Piece<S: System> {
    Message(S::Message),
    /// The sender closed.
    Fin,
    /// The sender does not know this stream.
    Rst,
}

/// What a process can be given.
enum Input<S: System> {
    Open(SessionId, Opened<S::Kind>),
    Message(SessionId, S::Message),
    Closed(SessionId, Closed),
    Timer(S::Timer, u64),
    Datagram(SocketAddrV4, S::Message),
    Request(RequestId, Op, Duration),
    Signal(Signal),
    /// A dialler that wants to agree on keys.
    Greeting(ConnId),
    ChildEnded(ChildId, Ended),
}

/// One machine.
struct Host {
    ip: firedrill_protocols::contract::Ipv4Addr,
    zone: String,
    clock: Clock,
    /// Powered and not suspended.
    running: bool,
    /// Counts power-ups: what a lost host had sent and not delivered is lost with it.
    boot: u32,
    suspended_by: Vec<FaultId>,
    drifts: Vec<(FaultId, i64)>,
    jumps: Vec<(FaultId, i64)>,
    clock_faults: Vec<FaultId>,
}

/// The world.
pub struct Kernel<S: System> {
    now: u64,
    queue: Queue<Event<S>>,
    hosts: Vec<Host>,
    processes: Vec<Process<S>>,
    conns: Vec<Conn<S>>,
    ports: BTreeMap<SocketAddrV4, (u16, S::Kind)>,
    names: crate::world::Names,
    children: Children,
    network: Network,
    loopback: Latency,
    sync: Latency,
    effects: Vec<u64>,
    happenings: Vec<Happening>,
    scratch: Vec<Effect<S>>,
    tracer: Tracer,
    messages: u64,
    traffic: Traffic,
    record_messages: bool,
    syn_linear_timeouts: u8,
    late_wakes: Option<LateWakes>,
    trust: Option<handshake::Trust>,
    seed: u64,
}

/// Codes of traced events.
mod code {
    pub(super) const OPEN: u32 = 1;
    pub(super) const MESSAGE: u32 = 2;
    pub(super) const CLOSED: u32 = 3;
    pub(super) const TIMER: u32 = 4;
    pub(super) const DATAGRAM: u32 = 5;
    pub(super) const REQUEST: u32 = 6;
    pub(super) const SIGNAL: u32 = 7;
    pub(super) const SYNCED: u32 = 8;
    pub(super) const START: u32 = 9;
    pub(super) const FAULT: u32 = 10;
    pub(super) const COMPLETED: u32 = 11;
    pub(super) const OBSERVED: u32 = 12;
    pub(super) const GREETING: u32 = 13;
    pub(super) const CHILD_ENDED: u32 = 14;
}

impl<S: System> Kernel<S> {
    /// A world in which nothing has happened yet.
    pub fn new(layout: Layout<S>, settings: Settings) -> Self {
        let mut network = Network::new(settings.seed, layout.hosts.len(), settings.latencies);
        for (pair, latency) in settings.links {
            network.set_latency(pair, latency);
        }
        let mut ports = BTreeMap::new();
        for (at, process) in layout.processes.iter().enumerate() {
            let ip = layout.hosts[usize::from(process.host.0)].ip;
            for (port, kind) in &process.listens {
                let other = ports.insert(SocketAddrV4::new(ip, *port), (at as u16, *kind));
                assert!(other.is_none(), "two processes listen on {ip}:{port}");
            }
        }
        let mut queue = Queue::new();
        let mut processes = Vec::new();
        for (at, process) in layout.processes.into_iter().enumerate() {
            queue.push(process.starts_at.0, Event::Start { node: at as u16 });
            let ip = layout.hosts[usize::from(process.host.0)].ip;
            processes.push(Process::new(process, ip, settings.seed, at as u32, settings.notes));
        }
        let hosts: Vec<Host> = layout.hosts.into_iter().map(Host::new).collect();
        let count = processes.len() as u32;
        let trust = settings.certificates.map(|valid| {
            let until = WallTime(clock::EPOCH_MICROS + valid.as_micros() as i64);
            handshake::Trust::new(hosts.len(), processes.len(), until)
        });
        let lateness = settings.timer_lateness.map(|lateness| LateWakes::new(lateness, settings.seed, count));
        Kernel {
            now: 0,
            queue,
            hosts,
            processes,
            conns: Vec::new(),
            ports,
            names: layout.names,
            children: Children::new(layout.programs),
            network,
            loopback: settings.loopback,
            sync: settings.sync,
            effects: Vec::new(),
            happenings: Vec::new(),
            scratch: Vec::new(),
            tracer: Tracer::new(),
            messages: 0,
            traffic: Traffic::default(),
            record_messages: settings.record_messages,
            syn_linear_timeouts: settings.syn_linear_timeouts,
            late_wakes: lateness,
            trust,
            seed: settings.seed,
        }
    }

    /// Keep the text of the events in this range, to compare two runs.
    pub fn keep_events(&mut self, range: std::ops::Range<u64>) {
        self.tracer.keep(range);
    }

    /// The kept events.
    pub fn kept_events(&self) -> &[String] {
        self.tracer.log().map_or(&[], |log| log.lines.as_slice())
    }

    fn handle(&mut self, event: Event<S>) {
        match event {
            Event::Input { node, incarnation, input } => self.input(node, incarnation, input),
            Event::Dial { conn, attempt, step } => self.dial_step(conn, attempt, step),
            Event::Arrive { conn, to, boot, piece, sent } => self.arrive(conn, to, boot, piece, sent),
            Event::Datagram { to, from, message } => {
                let process = &self.processes[usize::from(to)];
                if self.hosts[usize::from(process.host.0)].running {
                    self.input(to, process.incarnation, Input::Datagram(from, message));
                }
            }
            Event::Retransmit { conn, from } => self.retransmit(conn, from),
            Event::GiveUp { conn, from, since } => self.give_up(conn, from, since),
            Event::Free { node, incarnation } => {
                if self.processes[usize::from(node)].runs(incarnation) {
                    self.drain(node);
                }
            }
            Event::Deferred { node, incarnation, effect } => {
                if self.processes[usize::from(node)].runs(incarnation) {
                    self.execute(node, effect, 0);
                }
            }
            Event::SyncDone { node, incarnation, token, result } => {
                self.sync_done(node, incarnation, token, result);
            }
            Event::Children => self.bury_children(),
            Event::Start { node } => self.start(node, Data::Kept),
            Event::Alarm(tag) => self.happenings.push(Happening::Alarm(tag)),
        }
    }

    // ------------------------------------------------------------------------------------------------- processes

    fn start(&mut self, node: u16, data: Data) {
        let at = usize::from(node);
        if self.processes[at].is_up() {
            return;
        }
        if data == Data::Wiped {
            self.processes[at].disk.wipe();
        }
        let host = self.processes[at].host;
        self.boot(host);
        self.processes[at].begin(self.seed, u32::from(node));
        self.tracer.event(self.now, code::START, u32::from(node), 0, || {
            format!("{} starts", self.processes[at].name)
        });
        self.happenings.push(Happening::Life { node: NodeIndex(node), life: Life::Up });
        self.begin_refusing(node);
        let image = self.processes[at].disk.image();
        self.step(node, |machine, cx| machine.start(cx, &image));
    }

    fn boot(&mut self, host: HostIndex) {
        let machine = &mut self.hosts[usize::from(host.0)];
        if !machine.running && machine.suspended_by.is_empty() {
            machine.running = true;
            machine.clock.set_stopped(self.now, false);
            self.wake_streams_of(host);
        }
    }

    /// An input has reached the process; it handles it now, or when it can.
    fn input(&mut self, node: u16, incarnation: u32, input: Input<S>) {
        let process = &mut self.processes[usize::from(node)];
        if !process.runs(incarnation) {
            return;
        }
        if process.is_held() || process.busy_until > self.now {
            for fault in &process.paused_by {
                self.effects[fault.0 as usize] += 1;
            }
            process.inbox.push_back(input);
            return;
        }
        let late = self.wakes_late(node, &input);
        if late > 0 {
            let process = &mut self.processes[usize::from(node)];
            process.busy_until = self.now + late;
            process.inbox.push_back(input);
            return self.queue.push(self.now + late, Event::Free { node, incarnation });
        }
        self.take(node, input);
    }

    /// How long the machine lets a process wait that this input has woken.
    fn wakes_late(&mut self, node: u16, input: &Input<S>) -> u64 {
        let Some(late) = &mut self.late_wakes else { return 0 };
        let wake = match input {
            Input::Timer(timer, id) if self.processes[usize::from(node)].timers.is_set(*timer, *id) => {
                Wake::Timer
            }
            // A timer that was moved or cancelled wakes nobody.
            Input::Timer(..) => return 0,
            // The workload asks when a client's own sleep ends.
            Input::Request(..) => Wake::Timer,
            Input::Open(..)
            | Input::Message(..)
            | Input::Closed(..)
            | Input::Datagram(..)
            | Input::Greeting(_)
            | Input::ChildEnded(..)
            | Input::Signal(_) => Wake::Arrival,
        };
        late.draw(node, self.now, wake)
    }

    /// The process handles one input.
    fn take(&mut self, node: u16, input: Input<S>) {
        let at = usize::from(node);
        let who = u32::from(node);
        match input {
            Input::Open(session, opened) => {
                let content = StableHasher::digest(&session);
                self.trace(code::OPEN, who, content, || format!("{session:?} opens: {opened:?}"));
                self.step(node, |machine, cx| machine.on_open(cx, session, opened));
            }
            Input::Message(session, message) => {
                if !self.processes[at].sessions.is_open(session) {
                    return;
                }
                let content = StableHasher::digest(&(session, &message));
                self.trace(code::MESSAGE, who, content, || format!("{session:?} {message:?}"));
                self.step(node, |machine, cx| machine.on_message(cx, session, message));
            }
            Input::Closed(session, why) => {
                if !self.processes[at].sessions.forget(session) {
                    return;
                }
                let content = StableHasher::digest(&(session, why));
                self.trace(code::CLOSED, who, content, || format!("{session:?} ends: {why:?}"));
                self.step(node, |machine, cx| machine.on_close(cx, session, why));
            }
            Input::Timer(timer, id) => {
                if !self.processes[at].timers.fire(timer, id) {
                    return;
                }
                self.count_clock_reading(node);
                let content = StableHasher::digest(&timer);
                self.trace(code::TIMER, who, content, || format!("timer {timer:?}"));
                self.step(node, |machine, cx| machine.on_timer(cx, timer));
            }
            Input::Datagram(from, message) => {
                let content = StableHasher::digest(&(from, &message));
                self.trace(code::DATAGRAM, who, content, || format!("datagram from {from}: {message:?}"));
                self.step(node, |machine, cx| machine.on_datagram(cx, from, message));
            }
            Input::Request(request, op, deadline) => {
                let content = StableHasher::digest(&(request, &op));
                self.trace(code::REQUEST, who, content, || format!("asked {op:?}"));
                self.step(node, |machine, cx| machine.on_request(cx, request, op, deadline));
            }
            Input::ChildEnded(child, ended) => {
                let content = StableHasher::digest(&(child, ended));
                self.trace(code::CHILD_ENDED, who, content, || format!("{child:?} ended: {ended:?}"));
                self.step(node, |machine, cx| machine.on_child_ended(cx, child, ended));
            }
            Input::Signal(signal) => {
                self.trace(code::SIGNAL, who, 0, || format!("{signal:?}"));
                self.step(node, |machine, cx| machine.on_signal(cx, signal));
            }
            Input::Greeting(conn) => {
                self.trace(code::GREETING, who, 0, || "is greeted".to_owned());
                self.greeted(conn);
            }
        }
    }

    fn trace(&mut self, what: u32, who: u32, content: u64, text: impl FnOnce() -> String) {
        let processes = &self.processes;
        self.tracer
            .event(self.now, what, who, content, || format!("{} {}", processes[who as usize].name, text()));
    }

    /// One step: a handler, then everything it asked for.
    fn step(&mut self, node: u16, handler: impl FnOnce(&mut dyn Node<S>, &mut Cx<'_, S>)) {
        let at = usize::from(node);
        let clock = &self.hosts[usize::from(self.processes[at].host.0)].clock;
        let (now, wall) = (clock.local(self.now), clock.wall(self.now));
        let process = &mut self.processes[at];
        let Some(mut machine) = process.machine.take() else { return };
        process.surroundings.now = now;
        process.surroundings.wall = wall;
        let mut effects = std::mem::take(&mut self.scratch);
        handler(machine.as_mut(), &mut Cx::new(&mut process.surroundings, &mut effects));
        process.machine = Some(machine);
        if process.hold_next.is_some() && effects.iter().any(|effect| matches!(effect, Effect::Send { .. })) {
            self.hold(node, effects);
            return;
        }
        self.execute_all(node, &mut effects);
        effects.clear();
        self.scratch = effects;
    }

    /// The process was to stop between its decision and its sends: here it stops.
    fn hold(&mut self, node: u16, effects: Vec<Effect<S>>) {
        let process = &mut self.processes[usize::from(node)];
        let fault = process.hold_next.take().expect("the caller checked");
        process.paused_by.push(fault);
        process.held_effects = effects;
        self.effects[fault.0 as usize] += 1;
        self.happenings.push(Happening::Life { node: NodeIndex(node), life: Life::Paused });
    }

    fn execute_all(&mut self, node: u16, effects: &mut Vec<Effect<S>>) {
        let incarnation = self.processes[usize::from(node)].incarnation;
        let mut delay = 0;
        for effect in effects.drain(..) {
            if !self.processes[usize::from(node)].runs(incarnation) {
                break;
            }
            match effect {
                Effect::Busy { span } => {
                    delay += span.as_micros() as u64;
                    let process = &mut self.processes[usize::from(node)];
                    process.busy_until = self.now + delay;
                }
                effect => self.execute(node, effect, delay),
            }
        }
        if delay > 0 {
            // Behind the effects that waited: what came in meanwhile is handled after them.
            self.queue.push(self.now + delay, Event::Free { node, incarnation });
        }
    }

    /// Do one effect, `delay` from now.
    fn execute(&mut self, node: u16, effect: Effect<S>, delay: u64) {
        let at = usize::from(node);
        if delay > 0 && !matches!(effect, Effect::Open { .. }) {
            let incarnation = self.processes[at].incarnation;
            self.queue.push(self.now + delay, Event::Deferred { node, incarnation, effect });
            return;
        }
        match effect {
            Effect::Open { session, to, kind } => self.dial(node, session, to, kind, delay),
            Effect::Send { session, message } => self.send(node, session, Piece::Message(message)),
            Effect::Close { session } => self.close(node, session),
            Effect::Cast { to, message } => self.cast(node, to, message),
            Effect::SetTimer { timer, after } => self.set_timer(node, timer, after),
            Effect::CancelTimer { timer } => self.processes[at].timers.cancel(timer),
            Effect::Append { file, record } => {
                let full = self.processes[at].disk.append(file, record);
                self.count(full);
            }
            Effect::Truncate { file, records } => self.processes[at].disk.truncate(file, records),
            Effect::Replace { file, record } => {
                let full = self.processes[at].disk.replace(file, record);
                self.count(full);
            }
            Effect::Sync { file, token } => self.begin_sync(node, file, token),
            Effect::After { token, effect } => self.processes[at].waiting.push((token, *effect)),
            Effect::Complete { request, outcome, by } => {
                let content = StableHasher::digest(&(request, &outcome));
                self.trace(code::COMPLETED, u32::from(node), content, || format!("completes {outcome:?}"));
                self.happenings.push(Happening::Completed { node: NodeIndex(node), request, outcome, by });
            }
            Effect::Observe { shard, fact } => self.observe(node, shard, fact),
            Effect::Busy { .. } => unreachable!("handled by the caller: it delays the rest of the step"),
            Effect::Exit => self.end(node, Life::Exited),
            Effect::Orchestrate { target, action } => self.orchestrate(target, action),
            Effect::Run { child, program, arguments } => {
                let incarnation = self.processes[at].incarnation;
                let due =
                    self.children.run(NodeIndex(node), incarnation, child, &program, &arguments, self.now);
                self.queue.push(due, Event::Children);
            }
            Effect::KillChild { child } => {
                self.children.kill(NodeIndex(node), child, self.now);
                self.queue.push(self.now, Event::Children);
            }
        }
    }

    /// Programs whose time has come end: what they did is done, and whoever started them is told.
    fn bury_children(&mut self) {
        for over in self.children.take_due(self.now) {
            if let Some((name, ip)) = over.renames {
                self.names.everywhere(&name, crate::world::Resolution::Ip(ip));
            }
            self.input(over.node.0, over.incarnation, Input::ChildEnded(over.child, over.ended));
        }
    }

    fn observe(
        &mut self,
        node: u16,
        shard: firedrill_protocols::contract::Shard,
        fact: firedrill_protocols::contract::Observation,
    ) {
        use firedrill_protocols::contract::Observation;
        if !matches!(fact, Observation::Note(_)) {
            let content = observation_digest(shard, &fact);
            self.trace(code::OBSERVED, u32::from(node), content, || format!("announces {fact:?}"));
        }
        self.happenings.push(Happening::Observed { node: NodeIndex(node), shard, fact });
    }

    fn orchestrate(&mut self, target: SocketAddrV4, action: Orchestration) {
        let Some((node, _)) = self.ports.get(&target).copied() else { return };
        match action {
            Orchestration::Terminate => self.terminate(node),
            Orchestration::Kill => self.end(node, Life::Killed),
            Orchestration::Start => self.start(node, Data::Kept),
        }
    }

    fn terminate(&mut self, node: u16) {
        let incarnation = self.processes[usize::from(node)].incarnation;
        self.input(node, incarnation, Input::Signal(Signal::Terminate));
    }

    /// The process ends; its host closes its sockets, unless the host itself is gone.
    fn end(&mut self, node: u16, life: Life) {
        let at = usize::from(node);
        if !self.processes[at].is_up() {
            return;
        }
        let sessions = self.processes[at].end();
        if life != Life::HostLost {
            for (conn, side) in sessions {
                self.close_side(conn, side);
            }
        }
        self.happenings.push(Happening::Life { node: NodeIndex(node), life });
    }

    // ---------------------------------------------------------------------------------------------------- timers

    fn set_timer(&mut self, node: u16, timer: S::Timer, after: Duration) {
        let process = &mut self.processes[usize::from(node)];
        let clock = &self.hosts[usize::from(process.host.0)].clock;
        let due = clock.local(self.now) + after;
        let id = process.timers.set(timer, due);
        if let Some(at) = clock.when(due, self.now) {
            let incarnation = process.incarnation;
            self.queue.push(at, Event::Input { node, incarnation, input: Input::Timer(timer, id) });
        }
    }

    /// A host's clock changed its rate: all timers of its processes come due at another true time.
    fn reschedule_timers(&mut self, host: HostIndex) {
        for node in 0..self.processes.len() as u16 {
            let process = &mut self.processes[usize::from(node)];
            if process.host != host || !process.is_up() {
                continue;
            }
            let clock = &self.hosts[usize::from(host.0)].clock;
            let incarnation = process.incarnation;
            for (timer, due, id) in process.timers.renumber() {
                if let Some(at) = clock.when(due, self.now) {
                    self.queue.push(at, Event::Input { node, incarnation, input: Input::Timer(timer, id) });
                }
            }
        }
    }

    fn count_clock_reading(&mut self, node: u16) {
        let host = self.processes[usize::from(node)].host;
        for fault in &self.hosts[usize::from(host.0)].clock_faults {
            self.effects[fault.0 as usize] += 1;
        }
    }

    // ------------------------------------------------------------------------------------------------------ disk

    fn begin_sync(&mut self, node: u16, file: &'static str, token: Token) {
        let host = self.processes[usize::from(node)].host;
        let span = self.sync.draw_for(self.network.random(host));
        let process = &mut self.processes[usize::from(node)];
        let (fate, by) = process.disk.begin_sync(file, token);
        let incarnation = process.incarnation;
        if let SyncFate::Ends { extra, result } = fate {
            // One device serves one sync after the other.
            let at = process.disk_free_at.max(self.now) + span + extra;
            process.disk_free_at = at;
            self.queue.push(at, Event::SyncDone { node, incarnation, token, result });
        }
        for fault in by {
            self.effects[fault.0 as usize] += 1;
        }
    }

    fn sync_done(&mut self, node: u16, incarnation: u32, token: Token, result: Result<(), DiskError>) {
        let process = &mut self.processes[usize::from(node)];
        if !process.runs(incarnation) || !process.disk.end_sync(token, result) {
            return;
        }
        if process.is_held() {
            process.held_syncs.push((token, result));
            return;
        }
        self.synced(node, token, result);
    }

    /// The process learns of a sync: what waited for it leaves, or is forgotten.
    fn synced(&mut self, node: u16, token: Token, result: Result<(), DiskError>) {
        let waiting = &mut self.processes[usize::from(node)].waiting;
        let mut released = Vec::new();
        let mut i = 0;
        while i < waiting.len() {
            if waiting[i].0 == token { released.push(waiting.remove(i).1) } else { i += 1 }
        }
        self.trace(code::SYNCED, u32::from(node), token.0 << 1 | u64::from(result.is_err()), || {
            format!("{token:?} {result:?}")
        });
        if result.is_ok() {
            for effect in released {
                self.execute(node, effect, 0);
            }
        }
        self.step(node, |machine, cx| machine.on_synced(cx, token, result));
    }

    // ---------------------------------------------------------------------------------------------------- pauses

    /// The process runs again: first what it had decided before it stopped, then everything that waited for it.
    fn resume(&mut self, node: u16) {
        let process = &mut self.processes[usize::from(node)];
        let mut held = std::mem::take(&mut process.held_effects);
        let syncs = std::mem::take(&mut process.held_syncs);
        self.happenings.push(Happening::Life { node: NodeIndex(node), life: Life::Resumed });
        self.execute_all(node, &mut held);
        for (token, result) in syncs {
            self.synced(node, token, result);
        }
        self.drain(node);
    }

    fn drain(&mut self, node: u16) {
        loop {
            let process = &mut self.processes[usize::from(node)];
            if process.is_held() || process.busy_until > self.now {
                return;
            }
            let Some(input) = process.inbox.pop_front() else { return };
            self.take(node, input);
        }
    }

    fn pause(&mut self, fault: FaultId, node: u16, hold_outputs: bool) {
        let process = &mut self.processes[usize::from(node)];
        if !process.is_up() {
            return;
        }
        if hold_outputs {
            process.hold_next = Some(fault);
            return;
        }
        process.paused_by.push(fault);
        self.happenings.push(Happening::Life { node: NodeIndex(node), life: Life::Paused });
    }

    // ---------------------------------------------------------------------------------------------------- faults

    fn count(&mut self, fault: Option<FaultId>) {
        if let Some(fault) = fault {
            self.effects[fault.0 as usize] += 1;
        }
    }

    fn lose_host(&mut self, host: HostIndex) {
        let seed = self.seed;
        for node in 0..self.processes.len() as u16 {
            if self.processes[usize::from(node)].host == host {
                self.end(node, Life::HostLost);
                self.children.host_lost(NodeIndex(node));
                let process = &mut self.processes[usize::from(node)];
                let mut random = firedrill_protocols::contract::stream(
                    seed,
                    process::PURPOSE_DISK,
                    u32::from(node),
                    process.incarnation,
                );
                process.disk.power_lost(&mut random);
            }
        }
        let machine = &mut self.hosts[usize::from(host.0)];
        machine.running = false;
        machine.boot += 1;
    }

    fn suspend(&mut self, fault: FaultId, host: HostIndex) {
        let machine = &mut self.hosts[usize::from(host.0)];
        machine.suspended_by.push(fault);
        machine.running = false;
        machine.clock.set_stopped(self.now, true);
        for node in 0..self.processes.len() as u16 {
            let process = &mut self.processes[usize::from(node)];
            if process.host == host && process.is_up() {
                process.paused_by.push(fault);
                self.happenings.push(Happening::Life { node: NodeIndex(node), life: Life::Paused });
            }
        }
    }

    fn wake(&mut self, fault: FaultId, host: HostIndex) {
        let machine = &mut self.hosts[usize::from(host.0)];
        machine.suspended_by.retain(|id| *id != fault);
        if machine.suspended_by.is_empty() {
            machine.running = true;
            machine.clock.set_stopped(self.now, false);
            self.reschedule_timers(host);
            self.wake_streams_of(host);
        }
    }

    fn clock_fault(&mut self, fault: FaultId, host: HostIndex, kind: ClockFault) {
        let machine = &mut self.hosts[usize::from(host.0)];
        machine.clock_faults.push(fault);
        match kind {
            ClockFault::Jump(micros) => {
                machine.jumps.push((fault, micros));
                machine.clock.jump_wall(micros);
            }
            ClockFault::Drift(ppm) => {
                machine.drifts.push((fault, ppm));
                let drift = machine.clock.drift() + ppm;
                machine.clock.set_drift(self.now, drift);
                self.reschedule_timers(host);
            }
        }
    }

    fn heal_clock(&mut self, fault: FaultId, host: HostIndex) {
        let now = self.now;
        let machine = &mut self.hosts[usize::from(host.0)];
        machine.clock_faults.retain(|id| *id != fault);
        for (_, micros) in machine.jumps.extract_if(.., |(id, _)| *id == fault) {
            machine.clock.jump_wall(-micros);
        }
        let undone: i64 = machine.drifts.extract_if(.., |(id, _)| *id == fault).map(|(_, ppm)| ppm).sum();
        if undone != 0 {
            let drift = machine.clock.drift() - undone;
            machine.clock.set_drift(now, drift);
            self.reschedule_timers(host);
        }
    }

    fn heal_disk(&mut self, fault: FaultId, node: u16) {
        if !self.processes[usize::from(node)].disk.heal(fault) {
            return;
        }
        let incarnation = self.processes[usize::from(node)].incarnation;
        for token in self.processes[usize::from(node)].disk.waiting() {
            self.queue.push(self.now, Event::SyncDone { node, incarnation, token, result: Ok(()) });
        }
    }
}

impl Host {
    fn new(host: crate::world::Host) -> Self {
        Host {
            ip: host.ip,
            zone: host.zone,
            clock: Clock::new(),
            running: true,
            boot: 0,
            suspended_by: Vec::new(),
            drifts: Vec::new(),
            jumps: Vec::new(),
            clock_faults: Vec::new(),
        }
    }
}

/// A digest of a fact, without its text.
fn observation_digest(
    shard: firedrill_protocols::contract::Shard,
    fact: &firedrill_protocols::contract::Observation,
) -> u64 {
    use firedrill_protocols::contract::Observation as O;
    match fact {
        O::Role(role) => StableHasher::digest(&(shard, 1u8, role)),
        O::Epoch(epoch) => StableHasher::digest(&(shard, 2u8, epoch)),
        O::Writable(writable) => StableHasher::digest(&(shard, 3u8, writable)),
        O::Mark { mark, about } => StableHasher::digest(&(shard, 4u8, mark, about)),
        O::Gauge { name, value } => StableHasher::digest(&(shard, 5u8, name, value)),
        O::Note(_) => 0,
    }
}

impl<S: System> World for Kernel<S> {
    fn now(&self) -> SimTime {
        SimTime(self.now)
    }

    fn alarm(&mut self, at: SimTime, tag: u64) {
        self.queue.push(at.0.max(self.now), Event::Alarm(tag));
    }

    fn request(&mut self, client: NodeIndex, request: RequestId, op: Op, deadline: Duration) {
        let incarnation = self.processes[usize::from(client.0)].incarnation;
        self.input(client.0, incarnation, Input::Request(request, op, deadline));
    }

    fn act(&mut self, fault: FaultId, action: &Action) {
        let needed = fault.0 as usize + 1;
        if self.effects.len() < needed {
            self.effects.resize(needed, 0);
        }
        self.tracer.event(self.now, code::FAULT, fault.0, 0, || format!("{action:?}"));
        match action {
            Action::Kill(node) => {
                self.effects[fault.0 as usize] += u64::from(self.processes[usize::from(node.0)].is_up());
                self.end(node.0, Life::Killed);
            }
            Action::LoseHost(host) => {
                self.effects[fault.0 as usize] += u64::from(self.hosts[usize::from(host.0)].running);
                self.lose_host(*host);
            }
            Action::Start { node, data } => self.start(node.0, *data),
            Action::Pause { node, hold_outputs } => self.pause(fault, node.0, *hold_outputs),
            Action::Suspend(host) => self.suspend(fault, *host),
            Action::Block(pairs) => self.network.cut(fault, pairs.clone()),
            Action::Degrade(pairs, worse) => self.network.degrade(fault, pairs.clone(), *worse),
            Action::Clock(host, kind) => self.clock_fault(fault, *host, *kind),
            Action::Disk(node, kind) => self.processes[usize::from(node.0)].disk.inject(fault, *kind),
            Action::Terminate(node) => {
                self.effects[fault.0 as usize] += u64::from(self.processes[usize::from(node.0)].is_up());
                self.terminate(node.0);
            }
            Action::Certificates(host, change) => self.change_papers(fault, *host, *change),
            Action::Rename { zone, name, to } => {
                self.effects[fault.0 as usize] += 1;
                self.names.in_zone(zone, name, *to);
            }
        }
    }

    fn undo(&mut self, fault: FaultId) {
        self.tracer.event(self.now, code::FAULT, fault.0, 1, || "healed".to_owned());
        for host in 0..self.hosts.len() as u16 {
            self.heal_clock(fault, HostIndex(host));
            if self.hosts[usize::from(host)].suspended_by.contains(&fault) {
                self.wake(fault, HostIndex(host));
            }
        }
        if let Some(trust) = &mut self.trust {
            trust.undo(fault);
        }
        let pairs = self.network.heal(fault);
        self.wake_streams(&pairs);
        for node in 0..self.processes.len() as u16 {
            self.heal_disk(fault, node);
            let process = &mut self.processes[usize::from(node)];
            process.hold_next = process.hold_next.filter(|id| *id != fault);
            let was_held = process.is_held();
            process.paused_by.retain(|id| *id != fault);
            if was_held && !process.is_held() && process.is_up() {
                self.resume(node);
            }
        }
    }

    fn effects(&self, fault: FaultId) -> u64 {
        self.effects.get(fault.0 as usize).copied().unwrap_or(0)
    }

    fn advance(&mut self, happenings: &mut Vec<Happening>) -> bool {
        while self.happenings.is_empty() {
            let Some((at, event)) = self.queue.pop() else { return false };
            self.now = at;
            self.handle(event);
        }
        happenings.append(&mut self.happenings);
        true
    }

    fn inspect(&self, node: NodeIndex) -> Vec<Inspection> {
        self.processes[usize::from(node.0)]
            .machine
            .as_ref()
            .map_or_else(Vec::new, |machine| machine.inspect())
    }

    fn exhibits(&self, node: NodeIndex) -> Vec<Exhibit> {
        self.processes[usize::from(node.0)]
            .machine
            .as_ref()
            .map_or_else(Vec::new, |machine| machine.exhibits())
    }

    fn messages(&self) -> u64 {
        self.messages
    }

    fn traffic(&self) -> Option<Traffic> {
        Some(self.traffic)
    }

    fn trace(&self) -> Option<TraceHash> {
        Some(self.tracer.hash())
    }
}
