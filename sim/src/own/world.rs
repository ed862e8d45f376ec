//! The world of own code: turmoil hosts whose processes are the user's futures. Time moves in ticks of a millisecond.

use super::client::Asked;
use super::env::{Board, Env, Files, code};
use crate::backends::agenda::Agenda;
use crate::backends::stops::Stops;
use crate::backends::turmoil::machine::{Command, Host, Machine, Program};
use crate::systems::OwnCode;
use crate::trace::{StableHasher, TraceHash, Tracer};
use crate::world::{Action, Data, FaultId, Happening, HostIndex, Layout, Pair, World};
use firedrill_checkers::record::{Life, NodeIndex, SimTime};
use firedrill_node::driver::Exited;
use firedrill_protocols::contract::{Inspection, Ipv4Addr, Op, RequestId, SocketAddrV4, stream};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc::{self, UnboundedSender};

const TICK: Duration = Duration::from_millis(1);
/// turmoil's default of 64 segments in flight would let a stopped process end the simulation.
const TCP_CAPACITY: usize = 4096;
/// Where every wall clock starts: 2026-01-01T00:00:00Z.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);
/// Purpose of the processes' random streams.
const PURPOSE_OWN: u16 = 40;

/// Makes the future of a process, once for each incarnation.
pub(super) enum Make {
    /// A server.
    Server(Rc<dyn Fn(Env) -> Program>),
    /// A client, which is handed operations.
    Client(Rc<dyn Fn(Env, mpsc::UnboundedReceiver<Asked>) -> Program>),
}

struct Process {
    name: Rc<str>,
    host: HostIndex,
    address: SocketAddrV4,
    is_client: bool,
    files: Files,
    incarnation: u32,
    up: bool,
    stops: Stops,
    asked: Option<UnboundedSender<Asked>>,
}

/// Directions between machines that are cut, and the most messages that were seen waiting in them.
struct Cut {
    fault: FaultId,
    ways: Vec<Way>,
    held: u64,
}

/// From one machine to another.
type Way = (IpAddr, IpAddr);

/// The link that a direction belongs to, as turmoil names it.
fn link_of((a, b): Way) -> Way {
    (a.min(b), a.max(b))
}

/// The world.
pub(super) struct OwnWorld {
    sim: turmoil::Sim<'static>,
    machines: Vec<Rc<Machine>>,
    ips: Vec<Ipv4Addr>,
    processes: Vec<Process>,
    servers: Rc<Vec<(String, SocketAddrV4)>>,
    make_server: Make,
    make_client: Make,
    board: Rc<RefCell<Board>>,
    agenda: Agenda,
    cuts: Vec<Cut>,
    /// Processes that were let go and have not run yet.
    thawed: Vec<(FaultId, usize)>,
    effects: BTreeMap<FaultId, u64>,
    now: u64,
    seed: u64,
}

impl OwnWorld {
    pub(super) fn new(layout: Layout<OwnCode>, seed: u64, make_server: Make, make_client: Make) -> Self {
        let mut sim = turmoil::Builder::new()
            .epoch(SystemTime::UNIX_EPOCH + EPOCH)
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(1 << 31))
            .min_message_latency(TICK)
            .max_message_latency(5 * TICK)
            .tcp_capacity(TCP_CAPACITY)
            .udp_capacity(TCP_CAPACITY)
            .build();
        let host = |host: &crate::world::Host| {
            let machine = Machine::new(None);
            let running = machine.clone();
            sim.host(host.ip, move || Host::new(running.clone()));
            machine
        };
        let machines = layout.hosts.iter().map(host).collect();
        let processes: Vec<Process> =
            (0..layout.processes.len()).map(|at| Process::new(&layout, NodeIndex(at as u16))).collect();
        let servers = processes.iter().filter(|process| !process.is_client);
        let servers = servers.map(|process| (process.name.to_string(), process.address)).collect();
        let mut world = OwnWorld {
            sim,
            machines,
            ips: layout.hosts.iter().map(|host| host.ip).collect(),
            processes,
            servers: Rc::new(servers),
            make_server,
            make_client,
            board: Rc::new(RefCell::new(Board { happenings: Vec::new(), tracer: Tracer::new() })),
            agenda: Agenda::default(),
            cuts: Vec::new(),
            thawed: Vec::new(),
            effects: BTreeMap::new(),
            now: 0,
            seed,
        };
        (0..world.processes.len()).for_each(|at| world.start(at, Data::Kept));
        world
    }

    fn start(&mut self, at: usize, data: Data) {
        if self.processes[at].up {
            return;
        }
        self.release(FaultId(u32::MAX - u32::from(self.processes[at].host.0)));
        let process = &mut self.processes[at];
        if data == Data::Wiped {
            process.files.borrow_mut().clear();
        }
        process.incarnation += 1;
        process.up = true;
        let env = Env {
            name: process.name.clone(),
            node: NodeIndex(at as u16),
            incarnation: process.incarnation,
            address: process.address,
            servers: self.servers.clone(),
            files: process.files.clone(),
            random: Rc::new(RefCell::new(stream(self.seed, PURPOSE_OWN, at as u32, process.incarnation))),
            board: self.board.clone(),
        };
        let make = if process.is_client { &self.make_client } else { &self.make_server };
        let program = match make {
            Make::Server(make) => make(env),
            Make::Client(make) => {
                let (asked, receiver) = mpsc::unbounded_channel();
                process.asked = Some(asked);
                make(env, receiver)
            }
        };
        self.machines[usize::from(process.host.0)].command(Command::Start(at, program));
        self.life(at, Life::Up);
    }

    fn end(&mut self, at: usize, life: Life) -> bool {
        let process = &mut self.processes[at];
        if !std::mem::take(&mut process.up) {
            return false;
        }
        process.stops = Stops::default();
        self.machines[usize::from(process.host.0)].command(Command::Kill(at));
        self.life(at, life);
        true
    }

    fn life(&mut self, at: usize, life: Life) {
        let text = format!("{life:?}");
        let content = StableHasher::digest(&text);
        self.board.borrow_mut().tracer.event(self.now, code::LIFE, at as u32, content, || text);
        self.agenda.note(self.now, Happening::Life { node: NodeIndex(at as u16), life });
    }

    /// A machine without power says nothing to anyone until it is started again.
    fn lose_host(&mut self, host: HostIndex) -> bool {
        let others = (0..self.ips.len() as u16).map(HostIndex).filter(|other| *other != host);
        let pairs: Vec<Pair> = others.flat_map(|other| [(host, other), (other, host)]).collect();
        self.cut(FaultId(u32::MAX - u32::from(host.0)), &pairs);
        let mut ended = false;
        for at in self.on(host) {
            ended |= self.end(at, Life::HostLost);
        }
        ended
    }

    fn on(&self, host: HostIndex) -> Vec<usize> {
        (0..self.processes.len()).filter(|at| self.processes[*at].host == host).collect()
    }

    /// Messages wait from now on: streams stall, nothing is lost, as a cut network looks to TCP. turmoil holds a link in
    /// both directions; what goes along the open one is let through by hand, tick by tick ([`Self::pass_by_hand`]).
    fn cut(&mut self, fault: FaultId, pairs: &[Pair]) {
        let ip = |host: HostIndex| IpAddr::from(self.ips[usize::from(host.0)]);
        let ways: Vec<Way> = pairs.iter().map(|(a, b)| (ip(*a), ip(*b))).collect();
        ways.iter().for_each(|(a, b)| self.sim.hold(*a, *b));
        self.cuts.push(Cut { fault, ways, held: 0 });
    }

    fn release(&mut self, fault: FaultId) {
        let over: Vec<Cut> = self.cuts.extract_if(.., |cut| cut.fault == fault).collect();
        for cut in over {
            *self.effects.entry(fault).or_default() += cut.held;
            for way in cut.ways {
                let still = |other: &Cut| other.ways.iter().any(|other| link_of(*other) == link_of(way));
                if !self.cuts.iter().any(still) {
                    self.sim.release(way.0, way.1);
                }
            }
        }
    }

    /// Count what waits in directions that are cut, and let pass what waits beside them.
    fn pass_by_hand(&mut self) {
        if self.cuts.is_empty() {
            return;
        }
        let closed: BTreeSet<Way> = self.cuts.iter().flat_map(|cut| cut.ways.iter().copied()).collect();
        let links: BTreeSet<Way> = closed.iter().copied().map(link_of).collect();
        let mut waiting: BTreeMap<Way, u64> = BTreeMap::new();
        self.sim.links(|all| {
            for link in all.filter(|link| links.contains(&link_of(link.pair()))) {
                for message in link {
                    let (from, to) = message.pair();
                    let way = (from.ip(), to.ip());
                    if closed.contains(&way) {
                        *waiting.entry(way).or_default() += 1;
                    } else {
                        message.deliver();
                    }
                }
            }
        });
        for cut in &mut self.cuts {
            let seen = cut.ways.iter().filter_map(|way| waiting.get(way)).sum();
            cut.held = cut.held.max(seen);
        }
    }

    fn pause(&mut self, fault: FaultId, at: usize) {
        let process = &mut self.processes[at];
        if !process.up {
            return;
        }
        process.stops.stop(fault);
        self.machines[usize::from(process.host.0)].command(Command::Freeze(at));
        self.life(at, Life::Paused);
    }

    fn resume(&mut self, fault: FaultId, at: usize) {
        let process = &mut self.processes[at];
        if process.stops.lift(fault).runs {
            self.machines[usize::from(process.host.0)].command(Command::Thaw(at));
            self.thawed.push((fault, at));
            self.life(at, Life::Resumed);
        }
    }

    fn tick(&mut self) {
        self.sim.step().unwrap_or_else(|error| panic!("own code ended the simulation: {error}"));
        self.now += TICK.as_micros() as u64;
        let told = std::mem::take(&mut self.board.borrow_mut().happenings);
        self.agenda.note_all(told.into_iter().map(|happening| (self.now, happening)));
        self.pass_by_hand();
        self.count_missed();
        let exited: Vec<usize> = self.machines.iter().flat_map(|machine| machine.take_exited()).collect();
        for at in exited {
            self.end(at, Life::Exited);
        }
    }
}

impl OwnWorld {
    /// A pause had an effect if a timer or an input of the process was late.
    fn count_missed(&mut self) {
        let thawed = std::mem::take(&mut self.thawed);
        let missed: Vec<usize> = self.machines.iter().flat_map(|machine| machine.take_missed()).collect();
        for (fault, _) in thawed.into_iter().filter(|(_, at)| missed.contains(at)) {
            *self.effects.entry(fault).or_default() += 1;
        }
    }
}

impl Process {
    fn new(layout: &Layout<OwnCode>, node: NodeIndex) -> Process {
        let process = &layout.processes[usize::from(node.0)];
        Process {
            name: process.name.as_str().into(),
            host: process.host,
            address: layout.address(node),
            is_client: process.listens.is_empty(),
            files: Files::default(),
            incarnation: 0,
            up: false,
            stops: Stops::default(),
            asked: None,
        }
    }
}

impl World for OwnWorld {
    fn now(&self) -> SimTime {
        SimTime(self.now)
    }

    fn alarm(&mut self, at: SimTime, tag: u64) {
        self.agenda.alarm(at, tag);
    }

    fn request(&mut self, client: NodeIndex, request: RequestId, op: Op, deadline: Duration) {
        let content = StableHasher::digest(&(request, &op));
        let who = u32::from(client.0);
        let text = || format!("asked {op:?}");
        self.board.borrow_mut().tracer.event(self.now, code::REQUEST, who, content, text);
        let process = &self.processes[usize::from(client.0)];
        if let Some(asked) = process.asked.as_ref().filter(|_| process.up) {
            // A client that ended by itself answers nothing: its operations stay open.
            let _ = asked.send(Asked { request, op, deadline });
        }
    }

    fn act(&mut self, fault: FaultId, action: &Action) {
        let text = format!("{action:?}");
        let content = StableHasher::digest(&text);
        self.board.borrow_mut().tracer.event(self.now, code::FAULT, fault.0, content, || text);
        let done = match action {
            Action::Kill(node) => self.end(usize::from(node.0), Life::Killed),
            Action::LoseHost(host) => self.lose_host(*host),
            Action::Start { node, data } => {
                self.start(usize::from(node.0), *data);
                false
            }
            Action::Pause { node, hold_outputs: false } => {
                self.pause(fault, usize::from(node.0));
                false
            }
            Action::Suspend(host) => {
                self.on(*host).into_iter().for_each(|at| self.pause(fault, at));
                false
            }
            Action::Block(pairs) => {
                self.cut(fault, pairs);
                false
            }
            // Reported as a fault without effect, which makes the run inconclusive.
            Action::Pause { .. }
            | Action::Degrade(..)
            | Action::Clock(..)
            | Action::Disk(..)
            | Action::Terminate(_)
            | Action::Certificates(..)
            | Action::Rename { .. } => false,
        };
        *self.effects.entry(fault).or_default() += u64::from(done);
    }

    fn undo(&mut self, fault: FaultId) {
        self.release(fault);
        (0..self.processes.len()).for_each(|at| self.resume(fault, at));
    }

    fn effects(&self, fault: FaultId) -> u64 {
        let cuts = self.cuts.iter().filter(|cut| cut.fault == fault).map(|cut| cut.held).sum::<u64>();
        self.effects.get(&fault).copied().unwrap_or(0) + cuts
    }

    fn advance(&mut self, happenings: &mut Vec<Happening>) -> bool {
        loop {
            if self.agenda.tell(happenings).is_some() {
                return true;
            }
            if let Some(tag) = self.agenda.due(self.now) {
                happenings.push(Happening::Alarm(tag));
                return true;
            }
            if self.agenda.next_alarm().is_none() {
                return false;
            }
            self.tick();
        }
    }

    fn inspect(&self, _: NodeIndex) -> Vec<Inspection> {
        Vec::new()
    }

    fn messages(&self) -> u64 {
        0
    }

    fn trace(&self) -> Option<TraceHash> {
        Some(self.board.borrow().tracer.hash())
    }
}

/// A process that ends by itself with an error says so where a test's output is read.
pub(super) fn ended(result: std::io::Result<()>, env: &Env) -> std::io::Result<Exited> {
    if let Err(error) = result {
        eprintln!("{} ended at its start {}: {error}", env.name(), env.incarnation());
    }
    Ok(Exited)
}
