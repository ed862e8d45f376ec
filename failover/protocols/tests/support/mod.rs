//! A tiny world for tests of protocols: perfect links of one millisecond, cuts that hold what is sent, crashes, and a
//! disk whose syncs take a tenth of a millisecond. The simulator proper lives elsewhere; this one fits in a screen or
//! three, so that golden traces depend on the protocol alone.
#![allow(dead_code)]

use firedrill_protocols::contract::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub const LATENCY: u64 = 1_000;
pub const SYNC: u64 = 100;

enum Event<S: System> {
    Arrive { to: usize, session: SessionId, message: S::Message },
    Dialled { from: usize, session: SessionId, to: usize, kind: S::Kind },
    Opened { node: usize, session: SessionId },
    Closed { node: usize, session: SessionId, why: Closed },
    Timer { node: usize, timer: S::Timer, generation: u64 },
    Synced { node: usize, token: Token, file: &'static str },
}

type Files<S> = BTreeMap<&'static str, Vec<<S as System>::Record>>;

struct Process<S: System> {
    make: Box<dyn Fn() -> Box<dyn Node<S>>>,
    node: Option<Box<dyn Node<S>>>,
    surroundings: Surroundings,
    incarnation: u32,
    files: Files<S>,
    durable: Files<S>,
    after: BTreeMap<Token, Vec<Effect<S>>>,
    timers: BTreeMap<S::Timer, u64>,
    addresses: Vec<(SocketAddrV4, S::Kind)>,
}

pub struct World<S: System> {
    pub now: u64,
    seq: u64,
    queue: BTreeMap<(u64, u64), (usize, Event<S>)>,
    processes: Vec<Process<S>>,
    /// Both ends of each open session.
    peers: BTreeMap<(usize, SessionId), (usize, SessionId)>,
    cut: BTreeSet<usize>,
    held: VecDeque<(usize, usize, Event<S>)>,
    pub sent: Vec<(u64, usize, usize, S::Message)>,
    pub facts: Vec<(u64, usize, Observation)>,
    pub outcomes: Vec<(u64, RequestId, Outcome)>,
    next_request: u64,
    /// Host names.
    pub names: BTreeMap<String, Ipv4Addr>,
}

impl<S: System> World<S> {
    pub fn new() -> Self {
        World {
            now: 0,
            seq: 0,
            queue: BTreeMap::new(),
            processes: Vec::new(),
            peers: BTreeMap::new(),
            cut: BTreeSet::new(),
            held: VecDeque::new(),
            sent: Vec::new(),
            facts: Vec::new(),
            outcomes: Vec::new(),
            next_request: 1,
            names: BTreeMap::new(),
        }
    }

    pub fn add(
        &mut self,
        addresses: Vec<(SocketAddrV4, S::Kind)>,
        make: impl Fn() -> Box<dyn Node<S>> + 'static,
    ) -> usize {
        let surroundings = Surroundings {
            now: LocalTime(0),
            wall: WallTime(0),
            random: stream(1, 1, self.processes.len() as u32, 0),
            next_session: 1,
            next_token: 1,
            notes: false,
        };
        self.processes.push(Process {
            make: Box::new(make),
            node: None,
            surroundings,
            incarnation: 0,
            files: BTreeMap::new(),
            durable: BTreeMap::new(),
            after: BTreeMap::new(),
            timers: BTreeMap::new(),
            addresses,
        });
        self.start(self.processes.len() - 1);
        self.processes.len() - 1
    }

    pub fn start(&mut self, node: usize) {
        let process = &mut self.processes[node];
        process.incarnation += 1;
        process.surroundings.random = stream(1, 1, node as u32, process.incarnation);
        process.node = Some((process.make)());
        process.after.clear();
        let disk = DiskImage::new(process.files.clone());
        self.step(node, |n, cx| n.start(cx, &disk));
    }

    /// Ends a process; `host`: what was not synced goes too.
    pub fn crash(&mut self, node: usize, host: bool) {
        let process = &mut self.processes[node];
        process.node = None;
        process.timers.clear();
        if host {
            process.files = process.durable.clone();
        }
        let mine: Vec<_> =
            self.peers.iter().filter(|((n, _), _)| *n == node).map(|(a, b)| (*a, *b)).collect();
        for (near, (peer, session)) in mine {
            self.peers.remove(&near);
            self.peers.remove(&(peer, session));
            self.post(LATENCY, node, peer, Event::Closed { node: peer, session, why: Closed::Reset });
        }
    }

    pub fn is_up(&self, node: usize) -> bool {
        self.processes[node].node.is_some()
    }

    pub fn inspect(&self, node: usize) -> Vec<Inspection> {
        self.processes[node].node.as_ref().map_or(Vec::new(), |n| n.inspect())
    }

    pub fn cut(&mut self, node: usize) {
        self.cut.insert(node);
    }

    pub fn heal(&mut self, node: usize) {
        self.cut.remove(&node);
        for (from, to, event) in std::mem::take(&mut self.held) {
            self.post(LATENCY, from, to, event);
        }
    }

    pub fn ask(&mut self, node: usize, op: Op, deadline: Duration) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.step(node, |n, cx| n.on_request(cx, request, op, deadline));
        request
    }

    pub fn outcome(&self, request: RequestId) -> Option<&Outcome> {
        self.outcomes.iter().find(|(_, r, _)| *r == request).map(|(_, _, outcome)| outcome)
    }

    /// Runs until an operation is answered.
    pub fn answer(&mut self, request: RequestId) -> Outcome {
        while self.outcome(request).is_none() {
            assert!(self.advance(u64::MAX), "nothing left to do and no answer to {request:?}");
        }
        self.outcome(request).cloned().unwrap()
    }

    pub fn run(&mut self, span: Duration) {
        let until = self.now + span.as_micros() as u64;
        while self.advance(until) {}
        self.now = until;
    }

    /// One event; `false` if none is due by `until`.
    fn advance(&mut self, until: u64) -> bool {
        match self.queue.first_key_value() {
            Some(((at, _), _)) if *at <= until => {}
            _ => return false,
        }
        let ((at, _), (from, event)) = self.queue.pop_first().unwrap();
        self.now = at;
        self.deliver(from, event);
        true
    }

    fn deliver(&mut self, from: usize, event: Event<S>) {
        let to = match &event {
            Event::Arrive { to, .. } | Event::Dialled { to, .. } => *to,
            Event::Opened { node, .. }
            | Event::Closed { node, .. }
            | Event::Timer { node, .. }
            | Event::Synced { node, .. } => *node,
        };
        if from != to && (self.cut.contains(&from) || self.cut.contains(&to)) {
            return self.held.push_back((from, to, event));
        }
        match event {
            Event::Arrive { to, session, message } => {
                if self.peers.contains_key(&(to, session)) {
                    self.step(to, |n, cx| n.on_message(cx, session, message));
                }
            }
            Event::Dialled { from, session, to, kind } => self.accept(from, session, to, kind),
            Event::Opened { node, session } => {
                self.step(node, |n, cx| n.on_open(cx, session, Opened::Dialled))
            }
            Event::Closed { node, session, why } => self.step(node, |n, cx| n.on_close(cx, session, why)),
            Event::Timer { node, timer, generation } => {
                if self.processes[node].timers.get(&timer) == Some(&generation) {
                    self.processes[node].timers.remove(&timer);
                    self.step(node, |n, cx| n.on_timer(cx, timer));
                }
            }
            Event::Synced { node, token, file } => {
                let process = &mut self.processes[node];
                let content = process.files.get(file).cloned().unwrap_or_default();
                process.durable.insert(file, content);
                let after = process.after.remove(&token).unwrap_or_default();
                self.execute(node, after);
                self.step(node, |n, cx| n.on_synced(cx, token, Ok(())));
            }
        }
    }

    fn accept(&mut self, from: usize, dialled: SessionId, to: usize, kind: S::Kind) {
        if !self.is_up(to) {
            let refused = Event::Closed { node: from, session: dialled, why: Closed::Refused };
            return self.post(LATENCY, to, from, refused);
        }
        let process = &mut self.processes[to];
        let accepted = SessionId(process.surroundings.next_session);
        process.surroundings.next_session += 1;
        self.peers.insert((from, dialled), (to, accepted));
        self.peers.insert((to, accepted), (from, dialled));
        self.post(LATENCY, to, from, Event::Opened { node: from, session: dialled });
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 40_000 + from as u16);
        self.step(to, |n, cx| n.on_open(cx, accepted, Opened::Accepted { kind, from: address }));
    }

    fn step(&mut self, node: usize, handler: impl FnOnce(&mut Box<dyn Node<S>>, &mut Cx<'_, S>)) {
        let process = &mut self.processes[node];
        process.surroundings.now = LocalTime(self.now);
        let mut effects = Vec::new();
        if let Some(n) = &mut process.node {
            handler(n, &mut Cx::new(&mut process.surroundings, &mut effects));
        }
        self.execute(node, effects);
    }

    fn execute(&mut self, node: usize, effects: Vec<Effect<S>>) {
        for effect in effects {
            self.perform(node, effect);
        }
    }

    fn perform(&mut self, node: usize, effect: Effect<S>) {
        let process = &mut self.processes[node];
        match effect {
            Effect::Open { session, to, kind } => {
                let address = match to {
                    Endpoint::Addr(address) => address,
                    Endpoint::Name(name, port) => match self.names.get(&*name) {
                        Some(ip) => SocketAddrV4::new(*ip, port),
                        None => {
                            let why = Closed::Unresolved;
                            return self.post(LATENCY, node, node, Event::Closed { node, session, why });
                        }
                    },
                };
                let listens = |p: &Process<S>| p.addresses.contains(&(address, kind));
                let to = self.processes.iter().position(listens).expect("somebody has that address");
                self.post(LATENCY, node, to, Event::Dialled { from: node, session, to, kind });
            }
            Effect::Send { session, message } => {
                if let Some((to, far)) = self.peers.get(&(node, session)).copied() {
                    self.sent.push((self.now, node, to, message.clone()));
                    self.post(LATENCY, node, to, Event::Arrive { to, session: far, message });
                }
            }
            Effect::Close { session } => {
                if let Some((to, far)) = self.peers.remove(&(node, session)) {
                    self.peers.remove(&(to, far));
                    self.post(LATENCY, node, to, Event::Closed { node: to, session: far, why: Closed::Eof });
                }
            }
            Effect::SetTimer { timer, after } => {
                let generation = self.seq;
                process.timers.insert(timer, generation);
                let event = Event::Timer { node, timer, generation };
                self.post(after.as_micros() as u64, node, node, event);
            }
            Effect::CancelTimer { timer } => {
                process.timers.remove(&timer);
            }
            Effect::Append { file, record } => process.files.entry(file).or_default().push(record),
            Effect::Truncate { file, records } => process.files.entry(file).or_default().truncate(records),
            Effect::Replace { file, record } => {
                process.files.insert(file, vec![record]);
            }
            Effect::Sync { file, token } => self.post(SYNC, node, node, Event::Synced { node, token, file }),
            Effect::After { token, effect } => process.after.entry(token).or_default().push(*effect),
            Effect::Complete { request, outcome, .. } => self.outcomes.push((self.now, request, outcome)),
            Effect::Observe { fact, .. } => self.facts.push((self.now, node, fact)),
            Effect::Exit => self.crash(node, false),
            Effect::Busy { .. }
            | Effect::Cast { .. }
            | Effect::Orchestrate { .. }
            | Effect::Run { .. }
            | Effect::KillChild { .. } => {}
        }
    }

    fn post(&mut self, after: u64, from: usize, _to: usize, event: Event<S>) {
        self.seq += 1;
        self.queue.insert((self.now + after, self.seq), (from, event));
    }
}
