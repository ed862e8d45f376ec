//! The world on turmoil 0.7: the production driver with its codecs over a simulated TCP, at a tick of one millisecond.
//!
//! turmoil gives hosts, virtual time and byte streams. What it lacks, or gets wrong for our purpose, is done above
//! it: a process is a task set inside its host ([`machine`]), so that it can be stopped, killed and restarted while
//! its host goes on refusing connections; cuts hold streams at the driver's gate instead of dropping segments, which
//! turmoil would never send again; latencies are drawn by the kernel's own distribution and rounded to the tick.
//! Machines whose processes listen nowhere (the clients) share one turmoil host, because each host costs time in
//! each tick.

pub(crate) mod machine;
mod net;

use super::agenda::Agenda;
use super::links::Links;
use super::stops::Stops;
use super::troubles::{ClockFaults, DiskFaults};
use crate::children::Children;
use crate::kernel::Settings;
use crate::kernel::lateness::LateWakes;
use crate::kernel::network::Network;
use crate::kernel::process::{PURPOSE_DISK, PURPOSE_PROTOCOL};
use crate::run::{Detail, Outcome, Setup, drive, kernel_settings};
use crate::scenario::Scenario;
use crate::systems::{SystemUnderTest, Visit, clients_of};
use crate::trace::{StableHasher, TraceHash, Tracer};
use crate::world::{
    Action, ClockFault, Data, DiskFault, Factory, FaultId, Happening, HostIndex, Layout, Names, Resolution,
    World,
};
use firedrill_checkers::record::{Life, NodeIndex, SimTime};
use firedrill_node::disk::Disk;
use firedrill_node::driver::{self, Clock, Direction, Driver, Handle, Limits, Reports, Resolved, Wire};
use firedrill_node::memory_disk::MemoryDisk;
use firedrill_protocols::contract::{
    ChildId, Inspection, LocalTime, Observation, Op, Orchestration, RequestId, Shard, Signal, SocketAddrV4,
    System, WallTime, stream,
};
use machine::{Command, Host, Machine};
use net::{Sources, TurmoilNet};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// The tick: everything happens at its multiples.
const TICK: Duration = Duration::from_millis(1);
const TICK_MICROS: u64 = 1_000;

/// Segments a stream may have in flight before its writer waits. turmoil's default of 64 would let a stopped process
/// end the simulation.
const TCP_CAPACITY: usize = 4096;

/// Where every wall clock starts, as in the kernel: 2026-01-01T00:00:00Z.
const EPOCH_MICROS: i64 = 1_767_225_600_000_000;

/// Run one seed of a scenario on turmoil; `None` if its system has no wire form.
pub fn run(scenario: &Scenario, seed: u64, detail: &Detail) -> Option<Outcome> {
    struct Go<'a>(&'a Scenario, u64, &'a Detail);
    impl Visit for Go<'_> {
        type Out = Option<Outcome>;
        fn visit<T: SystemUnderTest>(self, system: &T) -> Option<Outcome> {
            let Go(scenario, seed, detail) = self;
            let wire = system.wire()?;
            let layout = system.layout(&clients_of(scenario));
            let setup = Setup::new(scenario, system, &layout).watched(detail.watch);
            let settings = kernel_settings(scenario, &layout, seed, detail);
            let mut world = Turmoil::new(layout, settings, wire);
            if !detail.events.is_empty() {
                world.board.borrow_mut().tracer.keep(detail.events.clone());
            }
            let records = drive(scenario, setup, &mut world, seed);
            let board = world.board.borrow();
            let events = board.tracer.log().map_or_else(Vec::new, |log| log.lines.clone());
            Some(Outcome { records, trace: board.tracer.hash(), events, starved: None })
        }
    }
    scenario.system.visit(Go(scenario, seed, detail))
}

/// A drawn span as a delay at the gate: turmoil's own millisecond is taken off, the rest rounded to the tick.
fn beyond_the_tick(span_us: u64) -> Duration {
    Duration::from_micros((span_us + TICK_MICROS / 2) / TICK_MICROS * TICK_MICROS).saturating_sub(TICK)
}

/// Time in the middle of a tick.
fn time_inside() -> u64 {
    turmoil::sim_elapsed().map_or(0, |elapsed| elapsed.as_micros() as u64)
}

/// What a process asks of the world.
enum Order {
    Orchestrate(SocketAddrV4, Orchestration),
    Run { node: NodeIndex, child: ChildId, program: String, arguments: Vec<String> },
    KillChild { node: NodeIndex, child: ChildId },
}

/// What nodes tell, in order.
struct Board {
    happenings: Vec<(u64, Happening)>,
    orders: Vec<Order>,
    held: Vec<NodeIndex>,
    messages: u64,
    record_messages: bool,
    tracer: Tracer,
    /// Who has which address, to name senders.
    names: BTreeMap<std::net::Ipv4Addr, NodeIndex>,
}

/// Codes of traced events.
mod code {
    pub(super) const MESSAGE: u32 = 2;
    pub(super) const REQUEST: u32 = 6;
    pub(super) const START: u32 = 9;
    pub(super) const FAULT: u32 = 10;
    pub(super) const COMPLETED: u32 = 11;
    pub(super) const OBSERVED: u32 = 12;
}

/// One node's voice on the board.
struct Voice {
    board: Rc<RefCell<Board>>,
    node: NodeIndex,
}

impl Voice {
    fn say(&self, what: u32, content: u64, text: impl FnOnce() -> String, happening: Option<Happening>) {
        let at = time_inside();
        let mut board = self.board.borrow_mut();
        board.tracer.event(at, what, u32::from(self.node.0), content, text);
        board.happenings.extend(happening.map(|happening| (at, happening)));
    }
}

impl<S: System> Reports<S> for Voice {
    fn complete(
        &mut self,
        request: RequestId,
        outcome: firedrill_protocols::contract::Outcome,
        by: Option<SocketAddrV4>,
    ) {
        let content = StableHasher::digest(&(request, &outcome));
        let text = format!("{outcome:?}");
        let happening = Happening::Completed { node: self.node, request, outcome, by };
        self.say(code::COMPLETED, content, || text, Some(happening));
    }

    fn observe(&mut self, shard: Shard, fact: Observation) {
        let text = format!("{fact:?}");
        let content = match &fact {
            Observation::Note(_) => 0,
            _ => StableHasher::digest(&(shard, &text)),
        };
        let happening = Happening::Observed { node: self.node, shard, fact };
        self.say(code::OBSERVED, content, || text, Some(happening));
    }

    fn orchestrate(&mut self, target: SocketAddrV4, action: Orchestration) {
        self.board.borrow_mut().orders.push(Order::Orchestrate(target, action));
    }

    fn run(&mut self, child: ChildId, program: &str, arguments: &[String]) {
        let (program, arguments) = (program.to_owned(), arguments.to_vec());
        let order = Order::Run { node: self.node, child, program, arguments };
        self.board.borrow_mut().orders.push(order);
    }

    fn kill_child(&mut self, child: ChildId) {
        self.board.borrow_mut().orders.push(Order::KillChild { node: self.node, child });
    }

    fn received(&mut self, link: Direction, message: &S::Message) {
        let content = StableHasher::digest(&(link, message));
        self.board.borrow_mut().messages += 1;
        let recorded = self.board.borrow().record_messages;
        let from = self.board.borrow().names.get(&link.0).copied();
        let happening = from.filter(|_| recorded).map(|from| Happening::Message {
            sent: SimTime(time_inside()),
            from,
            to: self.node,
            label: format!("{message:?}"),
        });
        self.say(code::MESSAGE, content, || format!("{message:?}"), happening);
    }

    fn held(&mut self) {
        self.board.borrow_mut().held.push(self.node);
    }
}

struct Process<S: System> {
    host: HostIndex,
    listens: Vec<(u16, S::Kind)>,
    starts_at: SimTime,
    make: Factory<S>,
    disk: MemoryDisk,
    disk_faults: DiskFaults,
    handle: Option<Handle<S>>,
    incarnation: u32,
    stops: Stops,
    /// Steps of its earlier incarnations.
    steps_before: u64,
}

struct Place {
    zone: String,
    machine: Rc<Machine>,
    clock: Clock,
    /// Lost its power, and has not been started again.
    lost: bool,
    suspended: Vec<(FaultId, u64)>,
    clock_faults: ClockFaults,
}

/// Faults of the world itself are numbered from here: a lost host is cut off until it is up.
const OWN_FAULTS: u32 = 1 << 30;

/// The world.
pub struct Turmoil<S: System> {
    sim: turmoil::Sim<'static>,
    now: u64,
    /// True time of the sim, in microseconds.
    ticked: u64,
    agenda: Agenda,
    board: Rc<RefCell<Board>>,
    places: Vec<Place>,
    processes: Vec<Process<S>>,
    ports: BTreeMap<SocketAddrV4, u16>,
    links: Links,
    names: Rc<RefCell<Names>>,
    children: Children,
    sources: Rc<Sources>,
    wire: Rc<dyn Wire<S>>,
    effects: BTreeMap<FaultId, u64>,
    /// Processes that were let go, with their steps before: what they do at once was late.
    thawed: Vec<(FaultId, u16, u64)>,
    starts: Vec<u16>,
    seed: u64,
    notes: bool,
}

impl<S: System> Turmoil<S> {
    /// A world in which nothing has happened yet.
    pub fn new(layout: Layout<S>, settings: Settings, wire: Rc<dyn Wire<S>>) -> Self {
        let mut sim = turmoil::Builder::new()
            .epoch(SystemTime::UNIX_EPOCH + Duration::from_micros(EPOCH_MICROS as u64))
            .rng_seed(settings.seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(1 << 31))
            .min_message_latency(TICK)
            .max_message_latency(TICK)
            .tcp_capacity(TCP_CAPACITY)
            .udp_capacity(TCP_CAPACITY)
            .build();
        let mut network = Network::new(settings.seed, layout.hosts.len(), settings.latencies);
        for (pair, latency) in settings.links {
            network.set_latency(pair, latency);
        }
        let ips = layout.hosts.iter().map(|host| host.ip).collect();
        let count = layout.processes.len() as u32;
        let lateness = settings.timer_lateness.map(|late| LateWakes::new(late, settings.seed, count));
        let places = places(&layout, &mut sim, lateness.map(|late| Rc::new(RefCell::new(late))));
        let names = layout.hosts.iter().map(|host| host.ip);
        let by_ip = |ip| layout.processes.iter().position(|p| layout.hosts[usize::from(p.host.0)].ip == ip);
        let names = names.filter_map(|ip| Some((ip, NodeIndex(by_ip(ip)? as u16)))).collect();
        let board = Board {
            happenings: Vec::new(),
            orders: Vec::new(),
            held: Vec::new(),
            messages: 0,
            record_messages: settings.record_messages,
            tracer: Tracer::new(),
            names,
        };
        let mut ports = BTreeMap::new();
        for (at, process) in layout.processes.iter().enumerate() {
            let ip = layout.hosts[usize::from(process.host.0)].ip;
            for (port, _) in &process.listens {
                ports.insert(SocketAddrV4::new(ip, *port), at as u16);
            }
        }
        let processes: Vec<Process<S>> = layout
            .processes
            .into_iter()
            .enumerate()
            .map(|(at, process)| Process::new(process, settings.seed, at as u32, &settings.sync))
            .collect();
        let mut world = Turmoil {
            sim,
            now: 0,
            ticked: 0,
            agenda: Agenda::default(),
            board: Rc::new(RefCell::new(board)),
            places,
            processes,
            ports,
            links: Links::new(network, ips, beyond_the_tick, time_inside),
            names: Rc::new(RefCell::new(layout.names)),
            children: Children::new(layout.programs),
            sources: Rc::default(),
            wire,
            effects: BTreeMap::new(),
            thawed: Vec::new(),
            starts: Vec::new(),
            seed: settings.seed,
            notes: settings.notes,
        };
        world.schedule_starts();
        world
    }

    fn schedule_starts(&mut self) {
        let mut starts: Vec<(SimTime, u16)> =
            self.processes.iter().enumerate().map(|(at, process)| (process.starts_at, at as u16)).collect();
        starts.sort_by_key(|(at, _)| *at);
        self.starts = starts.into_iter().rev().map(|(_, node)| node).collect();
    }

    // ------------------------------------------------------------------------------------------------- processes

    fn process(&mut self, node: u16) -> &mut Process<S> {
        &mut self.processes[usize::from(node)]
    }

    fn place_of(&self, node: u16) -> &Place {
        &self.places[usize::from(self.processes[usize::from(node)].host.0)]
    }

    fn life(&mut self, node: u16, life: Life) {
        self.agenda.note(self.now, Happening::Life { node: NodeIndex(node), life });
    }

    fn start(&mut self, node: u16, data: Data) {
        if self.process(node).handle.is_some() {
            return;
        }
        if data == Data::Wiped {
            self.process(node).disk.wipe();
        }
        self.boot(self.processes[usize::from(node)].host);
        let (driver, handle) = self.driver(node);
        self.process(node).handle = Some(handle);
        let program = Box::pin(driver.run());
        self.place_of(node).machine.command(Command::Start(usize::from(node), program));
        self.board.borrow_mut().tracer.event(self.now, code::START, u32::from(node), 0, || "starts".into());
        self.life(node, Life::Up);
    }

    /// The next incarnation of a process.
    fn driver(&mut self, node: u16) -> (Driver<S, TurmoilNet, MemoryDisk>, Handle<S>) {
        let at = usize::from(node);
        self.processes[at].incarnation += 1;
        let process = &self.processes[at];
        let place = self.place_of(node);
        let (names, zone) = (self.names.clone(), place.zone.clone());
        let ip = self.links.ip(process.host);
        let listens = process.listens.iter().map(|(port, kind)| (SocketAddrV4::new(ip, *port), *kind));
        let setup = driver::Setup {
            net: TurmoilNet { machine: place.machine.clone(), sources: self.sources.clone() },
            wire: self.wire.clone(),
            disk: Disk::new(process.disk.clone()),
            clock: place.clock.clone(),
            gate: self.links.gate().clone(),
            random: stream(self.seed, PURPOSE_PROTOCOL, u32::from(node), process.incarnation),
            source: Some(ip),
            ports: listens.collect(),
            resolver: Box::new(move |name| match names.borrow().resolve(&zone, name) {
                Resolution::Ip(ip) => Resolved::Host(ip),
                Resolution::Unknown => Resolved::Unknown,
                Resolution::BlackHole => Resolved::BlackHole,
            }),
            reports: Box::new(Voice { board: self.board.clone(), node: NodeIndex(node) }),
            notes: self.notes,
            limits: Limits::default(),
        };
        Driver::new((process.make)(), setup)
    }

    fn boot(&mut self, host: HostIndex) {
        let place = &mut self.places[usize::from(host.0)];
        if std::mem::take(&mut place.lost) {
            self.links.undo(FaultId(OWN_FAULTS + u32::from(host.0)));
        }
    }

    /// The process ends.
    fn end(&mut self, node: u16, life: Life) -> bool {
        let process = self.process(node);
        let Some(handle) = process.handle.take() else { return false };
        process.steps_before += handle.steps();
        process.stops = Stops::default();
        process.disk.process_ended();
        self.place_of(node).machine.command(Command::Kill(usize::from(node)));
        self.life(node, life);
        true
    }

    fn terminate(&mut self, node: u16) {
        if let Some(handle) = &self.process(node).handle {
            handle.signal(Signal::Terminate);
        }
    }

    fn lose_host(&mut self, host: HostIndex) -> bool {
        let own = FaultId(OWN_FAULTS + u32::from(host.0));
        let pairs = self.links.pairs_of(host);
        self.links.cut(own, &pairs);
        self.links.gate().lose_host(self.links.ip(host));
        let was_up = !std::mem::replace(&mut self.places[usize::from(host.0)].lost, true);
        for node in 0..self.processes.len() as u16 {
            if self.process(node).host == host {
                self.end(node, Life::HostLost);
                self.children.host_lost(NodeIndex(node));
                let mut random =
                    stream(self.seed, PURPOSE_DISK, u32::from(node), self.process(node).incarnation);
                self.process(node).disk.lose_power(&mut random);
            }
        }
        was_up
    }

    // ---------------------------------------------------------------------------------------------------- pauses

    fn pause(&mut self, fault: FaultId, node: u16, hold_outputs: bool) {
        let process = self.process(node);
        let Some(handle) = &process.handle else { return };
        if hold_outputs {
            handle.hold();
            process.stops.hold_next(fault);
        } else {
            self.stop(fault, node);
        }
    }

    fn stop(&mut self, fault: FaultId, node: u16) {
        if self.process(node).handle.is_none() {
            return;
        }
        self.process(node).stops.stop(fault);
        self.place_of(node).machine.command(Command::Freeze(usize::from(node)));
        self.life(node, Life::Paused);
    }

    /// A process froze between a decision and its sends, as it was asked to.
    fn held(&mut self, node: u16) {
        let Some(fault) = self.process(node).stops.held() else { return };
        *self.effects.entry(fault).or_default() += 1;
        self.stop(fault, node);
    }

    fn resume(&mut self, fault: FaultId, node: u16) {
        let process = self.process(node);
        let lifted = process.stops.lift(fault);
        let Some(handle) = process.handle.clone() else { return };
        if lifted.release {
            handle.release();
        }
        if !lifted.runs {
            return;
        }
        self.thawed.push((fault, node, handle.steps()));
        self.place_of(node).machine.command(Command::Thaw(usize::from(node)));
        self.life(node, Life::Resumed);
    }

    fn suspend(&mut self, fault: FaultId, host: HostIndex) {
        let pairs = self.links.pairs_of(host);
        self.links.cut(fault, &pairs);
        let now = self.now;
        self.places[usize::from(host.0)].suspended.push((fault, now));
        for node in self.nodes_on(host) {
            self.stop(fault, node);
        }
    }

    fn wake(&mut self, fault: FaultId, host: HostIndex) {
        let now = self.now;
        let place = &mut self.places[usize::from(host.0)];
        let Some(at) = place.suspended.iter().position(|(by, _)| *by == fault) else { return };
        let (_, since) = place.suspended.remove(at);
        let gap = Duration::from_micros(now.saturating_sub(since));
        place.machine.command(Command::Lose(place.clock.clone(), gap));
    }

    fn nodes_on(&self, host: HostIndex) -> Vec<u16> {
        (0..self.processes.len() as u16)
            .filter(|node| self.processes[usize::from(*node)].host == host)
            .collect()
    }

    // -------------------------------------------------------------------------------------------- clocks and disks

    fn steps_on(&self, host: HostIndex) -> u64 {
        let steps = |node: u16| {
            let process = &self.processes[usize::from(node)];
            process.steps_before + process.handle.as_ref().map_or(0, Handle::steps)
        };
        self.nodes_on(host).into_iter().map(steps).sum()
    }

    fn clock_fault(&mut self, fault: FaultId, host: HostIndex, kind: ClockFault) {
        let steps = self.steps_on(host);
        let place = &mut self.places[usize::from(host.0)];
        place.clock_faults.begin(fault, kind, steps);
        match kind {
            ClockFault::Jump(micros) => place.machine.command(Command::Jump(place.clock.clone(), micros)),
            ClockFault::Drift(_) => place.set_drift(),
        }
    }

    fn heal_clock(&mut self, fault: FaultId, host: HostIndex) {
        let steps = self.steps_on(host);
        let place = &mut self.places[usize::from(host.0)];
        *self.effects.entry(fault).or_default() += place.clock_faults.readings(fault, steps);
        for kind in place.clock_faults.end(fault) {
            match kind {
                ClockFault::Jump(micros) => {
                    place.machine.command(Command::Jump(place.clock.clone(), -micros));
                }
                ClockFault::Drift(_) => place.set_drift(),
            }
        }
    }

    // ---------------------------------------------------------------------------------------------------- ticks

    /// Let one tick pass, and do what processes asked of the world in it.
    fn tick(&mut self) {
        self.start_due();
        self.sim.step().unwrap_or_else(|error| panic!("turmoil: {error}"));
        self.ticked += TICK_MICROS;
        let happened = std::mem::take(&mut self.board.borrow_mut().happenings);
        self.agenda.note_all(happened);
        self.now = self.ticked;
        let (orders, held) = {
            let mut board = self.board.borrow_mut();
            (std::mem::take(&mut board.orders), std::mem::take(&mut board.held))
        };
        held.into_iter().for_each(|node| self.held(node.0));
        orders.into_iter().for_each(|order| self.order(order));
        self.bury_children();
        self.count_thawed();
        self.bury_exited();
    }

    fn start_due(&mut self) {
        while let Some(&node) = self.starts.last()
            && self.process(node).starts_at.0 <= self.ticked
        {
            self.starts.pop();
            self.start(node, Data::Kept);
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Orchestrate(target, action) => self.orchestrate(target, action),
            Order::Run { node, child, program, arguments } => {
                let incarnation = self.process(node.0).incarnation;
                self.children.run(node, incarnation, child, &program, &arguments, self.ticked);
            }
            Order::KillChild { node, child } => self.children.kill(node, child, self.ticked),
        }
    }

    fn bury_children(&mut self) {
        for over in self.children.take_due(self.ticked) {
            if let Some((name, ip)) = over.renames {
                self.names.borrow_mut().everywhere(&name, Resolution::Ip(ip));
            }
            let process = self.process(over.node.0);
            if let (true, Some(handle)) = (process.incarnation == over.incarnation, &process.handle) {
                handle.child_ended(over.child, over.ended);
            }
        }
    }

    fn orchestrate(&mut self, target: SocketAddrV4, action: Orchestration) {
        let Some(&node) = self.ports.get(&target) else { return };
        match action {
            Orchestration::Terminate => self.terminate(node),
            Orchestration::Kill => {
                self.end(node, Life::Killed);
            }
            Orchestration::Start => self.start(node, Data::Kept),
        }
    }

    fn count_thawed(&mut self) {
        for (fault, node, before) in std::mem::take(&mut self.thawed) {
            let steps = self.process(node).handle.as_ref().map_or(before, Handle::steps);
            *self.effects.entry(fault).or_default() += steps.saturating_sub(before);
        }
    }

    fn bury_exited(&mut self) {
        let mut machines: Vec<Rc<Machine>> = self.places.iter().map(|place| place.machine.clone()).collect();
        machines.dedup_by(|a, b| Rc::ptr_eq(a, b));
        for machine in machines {
            for node in machine.take_exited() {
                self.end(node as u16, Life::Exited);
            }
        }
    }
}

impl Place {
    /// The sum of all drifts that are on.
    fn set_drift(&self) {
        self.machine.command(Command::Drift(self.clock.clone(), self.clock_faults.drift()));
    }
}

impl<S: System> Process<S> {
    fn new(
        process: crate::world::Process<S>,
        seed: u64,
        node: u32,
        sync: &crate::kernel::Latency,
    ) -> Process<S> {
        let disk = MemoryDisk::default();
        let (sync, mut random) = (sync.clone(), stream(seed, PURPOSE_DISK, node, 1 << 20));
        disk.set_sync_time(Box::new(move || Duration::from_micros(sync.draw_for(&mut random))));
        Process {
            host: process.host,
            listens: process.listens,
            starts_at: process.starts_at,
            make: process.make,
            disk,
            disk_faults: DiskFaults::default(),
            handle: None,
            incarnation: 0,
            stops: Stops::default(),
            steps_before: 0,
        }
    }

    fn inject(&mut self, fault: FaultId, kind: DiskFault) {
        self.disk_faults.begin(fault, kind, self.disk.troubled());
        self.disk.set(|state| self.disk_faults.apply(state, Some(kind)));
    }

    /// Undo a disk fault; what it did.
    fn heal(&mut self, fault: FaultId) -> u64 {
        let done = self.disk_faults.end(fault, self.disk.troubled());
        if done.is_some() {
            self.disk.set(|state| self.disk_faults.apply(state, None));
        }
        done.unwrap_or(0)
    }

    fn disk_effects(&self, fault: FaultId) -> u64 {
        self.disk_faults.effects(fault, self.disk.troubled())
    }
}

/// The machines on turmoil hosts: one host each, and one for all that listen nowhere.
fn places<S: System>(
    layout: &Layout<S>,
    sim: &mut turmoil::Sim<'static>,
    lateness: Option<Rc<RefCell<LateWakes>>>,
) -> Vec<Place> {
    let mut silent: Option<Rc<Machine>> = None;
    let listens = |host: HostIndex| {
        layout.processes.iter().any(|process| process.host == host && !process.listens.is_empty())
    };
    let mut place = |(at, host): (usize, &crate::world::Host)| {
        let shared = silent.clone().filter(|_| !listens(HostIndex(at as u16)));
        let machine = shared.unwrap_or_else(|| {
            let machine = Machine::new(lateness.clone());
            let running = machine.clone();
            sim.host(host.ip, move || Host::new(running.clone()));
            if !listens(HostIndex(at as u16)) {
                silent = Some(machine.clone());
            }
            machine
        });
        Place {
            zone: host.zone.clone(),
            machine,
            clock: Clock::new(LocalTime(0), WallTime(EPOCH_MICROS)),
            lost: false,
            suspended: Vec::new(),
            clock_faults: ClockFaults::default(),
        }
    };
    layout.hosts.iter().enumerate().map(&mut place).collect()
}

impl<S: System> World for Turmoil<S> {
    fn now(&self) -> SimTime {
        SimTime(self.now)
    }

    fn alarm(&mut self, at: SimTime, tag: u64) {
        self.agenda.alarm(at, tag);
    }

    fn request(&mut self, client: NodeIndex, request: RequestId, op: Op, deadline: Duration) {
        let content = StableHasher::digest(&(request, &op));
        let (now, who) = (self.now, u32::from(client.0));
        self.board.borrow_mut().tracer.event(now, code::REQUEST, who, content, || format!("asked {op:?}"));
        if let Some(handle) = &self.process(client.0).handle {
            handle.request(request, op, deadline);
        }
    }

    fn act(&mut self, fault: FaultId, action: &Action) {
        self.board.borrow_mut().tracer.event(self.now, code::FAULT, fault.0, 0, || format!("{action:?}"));
        let done = match action {
            Action::Kill(node) => self.end(node.0, Life::Killed),
            Action::LoseHost(host) => self.lose_host(*host),
            Action::Start { node, data } => {
                self.start(node.0, *data);
                false
            }
            Action::Pause { node, hold_outputs } => {
                self.pause(fault, node.0, *hold_outputs);
                false
            }
            Action::Suspend(host) => {
                self.suspend(fault, *host);
                false
            }
            Action::Block(pairs) => {
                self.links.cut(fault, pairs);
                false
            }
            Action::Degrade(pairs, worse) => {
                self.links.degrade(fault, pairs, *worse);
                false
            }
            Action::Clock(host, kind) => {
                self.clock_fault(fault, *host, *kind);
                false
            }
            Action::Disk(node, kind) => {
                self.process(node.0).inject(fault, *kind);
                false
            }
            Action::Terminate(node) => {
                self.terminate(node.0);
                self.process(node.0).handle.is_some()
            }
            // Scenarios with certificates are skipped here.
            Action::Certificates(..) => false,
            Action::Rename { zone, name, to } => {
                self.names.borrow_mut().in_zone(zone, name, *to);
                true
            }
        };
        *self.effects.entry(fault).or_default() += u64::from(done);
    }

    fn undo(&mut self, fault: FaultId) {
        self.board.borrow_mut().tracer.event(self.now, code::FAULT, fault.0, 1, || "healed".into());
        self.links.undo(fault);
        for host in (0..self.places.len() as u16).map(HostIndex) {
            self.heal_clock(fault, host);
            self.wake(fault, host);
        }
        for node in 0..self.processes.len() as u16 {
            let troubled = self.process(node).heal(fault);
            *self.effects.entry(fault).or_default() += troubled;
            self.resume(fault, node);
        }
    }

    fn effects(&self, fault: FaultId) -> u64 {
        let disks: u64 = self.processes.iter().map(|process| process.disk_effects(fault)).sum();
        let readings = (0..self.places.len() as u16).map(HostIndex).map(|host| {
            let steps = self.steps_on(host);
            self.places[usize::from(host.0)].clock_faults.readings(fault, steps)
        });
        let done = self.effects.get(&fault).copied().unwrap_or(0);
        done + self.links.effects(fault) + disks + readings.sum::<u64>()
    }

    fn advance(&mut self, happenings: &mut Vec<Happening>) -> bool {
        loop {
            if let Some(at) = self.agenda.tell(happenings) {
                self.now = at;
                return true;
            }
            self.now = self.ticked;
            if let Some(tag) = self.agenda.due(self.ticked) {
                happenings.push(Happening::Alarm(tag));
                return true;
            }
            if self.agenda.next_alarm().is_none() {
                return false;
            }
            self.tick();
        }
    }

    fn inspect(&self, node: NodeIndex) -> Vec<Inspection> {
        self.processes[usize::from(node.0)].handle.as_ref().map_or_else(Vec::new, Handle::inspect)
    }

    fn messages(&self) -> u64 {
        self.board.borrow().messages
    }

    fn trace(&self) -> Option<TraceHash> {
        Some(self.board.borrow().tracer.hash())
    }
}
