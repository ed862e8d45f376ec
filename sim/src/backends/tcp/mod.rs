//! The world of real processes: every node but the clients is a `firedrill node` of its own on loopback addresses,
//! killed by SIGKILL, stopped by SIGSTOP, cut off by the gate of its own driver. Clients run here, in the world's
//! process, under the same driver. Nothing is simulated but the faults of links, clocks and disks.
//!
//! Time is CLOCK_MONOTONIC; runs are not deterministic. Children die with this process: by a death signal, and because
//! their input ends.

mod alone;
mod part;
mod process;
mod registry;
mod wire;

pub use alone::{be_alone, processes};
pub use process::{be, main as process_main, take_charge};
pub use wire::Charge;

use super::agenda::Agenda;
use super::stops::Stops;
use crate::children::Children;
use crate::kernel::Settings;
use crate::kernel::process::PURPOSE_PROTOCOL;
use crate::run::{Detail, Outcome, Setup, drive, kernel_settings};
use crate::scenario::Scenario;
use crate::systems::{SystemUnderTest, Visit, clients_of, set_network};
use crate::trace::TraceHash;
use crate::world::{Action, Data, FaultId, Happening, HostIndex, Layout, Resolution, World};
use firedrill_checkers::record::{Life, NodeIndex, SimTime};
use firedrill_node::disk::{Disk, Folder};
use firedrill_node::driver::{self, Driver, Handle, Limits, Reports, Wire};
use firedrill_node::memory_disk::MemoryDisk;
use firedrill_node::tls::{Tls, TlsNet};
use firedrill_protocols::contract::{
    Inspection, Ipv4Addr, Observation, Op, Orchestration, RequestId, Shard, SocketAddrV4, System, WallTime,
    stream,
};
use part::{Part, wall_now};
use registry::Registry;
use rustix::process::{Pid, Signal, kill_process};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{ChildStdin, Command, Stdio};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};
use wire::{Line, Order, monotonic};

/// A machine that lets a process stand still for longer, though nobody has stopped it, has a part in the result: the run is
/// no evidence of times. Half of the shortest silence that the systems here suspect a node for.
const STALL_MAX: Duration = Duration::from_millis(500);

/// Run one seed of a scenario with real processes of `program`; `None` if its system has no wire form.
///
/// # Errors
/// A process cannot be started, or does not become ready.
pub fn run(scenario: &Scenario, seed: u64, detail: &Detail, program: &Path) -> io::Result<Option<Outcome>> {
    struct Go<'a>(&'a Scenario, u64, &'a Detail, &'a Path);
    impl Visit for Go<'_> {
        type Out = io::Result<Option<Outcome>>;
        fn visit<T: SystemUnderTest>(self, system: &T) -> Self::Out {
            let Go(scenario, seed, detail, program) = self;
            let Some(wire) = system.wire() else { return Ok(None) };
            let network = Network::take()?;
            set_network(network.bytes());
            let layout = system.layout(&clients_of(scenario));
            let setup = Setup::new(scenario, system, &layout).watched(detail.watch);
            let settings = kernel_settings(scenario, &layout, seed, detail);
            let child = Child {
                program: program.to_owned(),
                arguments: vec!["node".to_owned(), "--drill".to_owned()],
                cause: serde_json::to_value(scenario).map_err(io::Error::other)?,
                network,
            };
            let mut world = Tcp::new(layout, &settings, wire, child)?;
            let mut records = drive(scenario, setup, &mut world, seed);
            records.truth = None;
            let starved = Some(world.stall).filter(|stall| *stall > STALL_MAX);
            if let Some(stall) = starved {
                let name = &scenario.name;
                eprintln!(
                    "{name}, seed {seed}: no evidence, the machine let a process stand still for {stall:.1?} (fewer --jobs help)"
                );
            }
            Ok(Some(Outcome { records, trace: TraceHash::default(), events: Vec::new(), starved }))
        }
    }
    let outcome = scenario.system.visit(Go(scenario, seed, detail, program));
    set_network([10, 1]);
    outcome
}

/// The program that nodes run as: it must call [`take_charge`] and [`be`] on the same layout.
#[derive(Debug)]
pub struct Child {
    /// Its file.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What it makes the layout from.
    pub cause: serde_json::Value,
    /// The layout's addresses.
    pub network: Network,
}

/// A network of loopback addresses, 127.N.0.0/16, that nobody else has while this lives: its last address is bound.
#[derive(Debug)]
pub struct Network {
    bytes: [u8; 2],
    _held: TcpListener,
}

impl Network {
    /// Take one that is free.
    ///
    /// # Errors
    /// All are taken.
    pub fn take() -> io::Result<Network> {
        let first = std::process::id() as u8;
        for step in 0..=u8::MAX {
            let bytes = [127, first.wrapping_add(step).max(1)];
            if let Ok(held) = TcpListener::bind((Ipv4Addr::new(127, bytes[1], 255, 254), 1 << 15)) {
                return Ok(Network { bytes, _held: held });
            }
        }
        Err(io::Error::other("more than 250 drills run on this machine"))
    }

    /// The first two bytes of its addresses.
    pub fn bytes(&self) -> [u8; 2] {
        self.bytes
    }
}

/// What comes from outside the world's own thread.
enum News {
    Line(u16, u32, Line),
    /// The output of a child has ended.
    Ended(u16, u32),
}

struct Process<S: System> {
    host: HostIndex,
    make: crate::world::Factory<S>,
    /// It runs in a child; clients do not.
    real: bool,
    address: SocketAddrV4,
    starts_at: SimTime,
    incarnation: u32,
    child: Option<Running>,
    client: Option<Client<S>>,
    stops: Stops,
    messages: u64,
}

/// A client: it runs here, and can be stopped with all its tasks like a process.
struct Client<S: System> {
    handle: Handle<S>,
    task: JoinHandle<()>,
    freezer: Rc<Freezer>,
}

/// Whether a client is stopped.
#[derive(Default)]
struct Freezer {
    frozen: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Freezer {
    fn set(&self, frozen: bool) {
        self.frozen.set(frozen);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// A client's tasks, which are polled only while it runs.
struct Freezable {
    tasks: LocalSet,
    freezer: Rc<Freezer>,
}

impl Future for Freezable {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        *self.freezer.waker.borrow_mut() = Some(cx.waker().clone());
        if self.freezer.frozen.get() {
            return Poll::Pending;
        }
        Pin::new(&mut self.tasks).poll(cx)
    }
}

struct Running {
    child: std::process::Child,
    orders: ChildStdin,
}

/// What clients tell.
type Told = Rc<RefCell<Vec<(u64, Happening)>>>;

/// What processes that live here order of others: clients, and those that restart others without being called themselves.
type Orders = Rc<RefCell<Vec<(SocketAddrV4, Orchestration)>>>;

struct Voice {
    node: NodeIndex,
    told: Told,
    orders: Orders,
}

impl<S: System> Reports<S> for Voice {
    fn orchestrate(&mut self, target: SocketAddrV4, action: Orchestration) {
        self.orders.borrow_mut().push((target, action));
    }

    fn complete(
        &mut self,
        request: RequestId,
        outcome: firedrill_protocols::contract::Outcome,
        by: Option<SocketAddrV4>,
    ) {
        let happening = Happening::Completed { node: self.node, request, outcome, by };
        self.told.borrow_mut().push((monotonic(), happening));
    }

    fn observe(&mut self, shard: Shard, fact: Observation) {
        let happening = Happening::Observed { node: self.node, shard, fact };
        self.told.borrow_mut().push((monotonic(), happening));
    }
}

/// The world.
pub struct Tcp<S: System> {
    runtime: tokio::runtime::Runtime,
    tasks: LocalSet,
    /// CLOCK_MONOTONIC at the beginning.
    began: u64,
    now: u64,
    agenda: Agenda,
    told: Told,
    orders: Orders,
    news: mpsc::UnboundedReceiver<News>,
    sender: mpsc::UnboundedSender<News>,
    processes: Vec<Process<S>>,
    parts: Vec<Part>,
    /// The certificates, where streams are encrypted.
    registry: Option<Registry>,
    names: BTreeMap<SocketAddrV4, u16>,
    zones: BTreeSet<String>,
    children: Children,
    wire: Rc<dyn Wire<S>>,
    charge: Charge,
    program: PathBuf,
    arguments: Vec<String>,
    _network: Network,
    folder: PathBuf,
    faults: Vec<(FaultId, Action)>,
    lost: Vec<HostIndex>,
    /// Effects that children told, by fault and process; a process that ended keeps its last word.
    effects: BTreeMap<(FaultId, u16, u32), u64>,
    own_effects: BTreeMap<FaultId, u64>,
    thawed: Vec<(FaultId, u16)>,
    /// Longest time that a process, or the clients here, stood still though nobody had stopped them: the machine was busy.
    stall: Duration,
}

impl<S: System> Tcp<S> {
    /// A world whose processes are up and have just begun.
    ///
    /// # Errors
    /// A process cannot be started, or does not become ready.
    pub fn new(
        layout: Layout<S>,
        settings: &Settings,
        wire: Rc<dyn Wire<S>>,
        child: Child,
    ) -> io::Result<Self> {
        let charge = Charge {
            cause: child.cause,
            node: 0,
            seed: settings.seed,
            incarnation: 0,
            data: PathBuf::new(),
            network: child.network.bytes(),
            notes: settings.notes,
            faults: Vec::new(),
            lost: Vec::new(),
            tls: None,
        };
        let [a, b] = charge.network;
        let folder = std::env::temp_dir().join(format!("firedrill-{}-{a}.{b}", std::process::id()));
        let hosts = (0..layout.hosts.len() as u16).map(HostIndex);
        let mut parts: Vec<Part> = hosts.map(|host| Part::new(&layout, settings, host, None)).collect();
        let registry = match settings.certificates {
            Some(valid) => {
                let ips = layout.hosts.iter().map(|host| host.ip).collect();
                Some(Registry::new(folder.join("tls"), ips, WallTime(wall_now()), valid)?)
            }
            None => None,
        };
        if let Some(registry) = &registry {
            for part in &mut parts {
                part.tls = Some(Tls::new(&registry.folder(part.host()))?);
            }
        }
        let mut names = BTreeMap::new();
        for (at, process) in layout.processes.iter().enumerate() {
            let ip = layout.hosts[usize::from(process.host.0)].ip;
            for (port, _) in &process.listens {
                names.insert(SocketAddrV4::new(ip, *port), at as u16);
            }
        }
        let addresses: Vec<SocketAddrV4> =
            (0..layout.processes.len() as u16).map(|at| layout.address(NodeIndex(at))).collect();
        let zones = layout.hosts.iter().map(|host| host.zone.clone()).collect();
        let processes = layout.processes.into_iter().zip(addresses).map(|(process, address)| Process {
            host: process.host,
            make: process.make,
            real: !process.listens.is_empty(),
            address,
            starts_at: process.starts_at,
            incarnation: 0,
            child: None,
            client: None,
            stops: Stops::default(),
            messages: 0,
        });
        let (sender, news) = mpsc::unbounded_channel();
        let mut world = Tcp {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            tasks: LocalSet::new(),
            began: monotonic(),
            now: 0,
            agenda: Agenda::default(),
            told: Told::default(),
            orders: Orders::default(),
            news,
            sender,
            processes: processes.collect(),
            parts,
            registry,
            names,
            zones,
            children: Children::new(layout.programs),
            wire,
            charge,
            program: child.program,
            arguments: child.arguments,
            _network: child.network,
            folder,
            faults: Vec::new(),
            lost: Vec::new(),
            effects: BTreeMap::new(),
            own_effects: BTreeMap::new(),
            thawed: Vec::new(),
            stall: Duration::ZERO,
        };
        world.begin()?;
        Ok(world)
    }

    /// Start everything that runs from the start; time begins when all are ready.
    fn begin(&mut self) -> io::Result<()> {
        let first: Vec<u16> = (0..self.processes.len() as u16)
            .filter(|node| self.processes[usize::from(*node)].starts_at.0 == 0)
            .collect();
        for node in &first {
            self.spawn(*node)?;
        }
        let mut waiting = first.iter().filter(|node| self.processes[usize::from(**node)].real).count();
        while waiting > 0 {
            let news = self
                .runtime
                .block_on(async { tokio::time::timeout(Duration::from_secs(20), self.news.recv()).await });
            match news {
                Ok(Some(News::Line(_, _, Line::Ready))) => waiting -= 1,
                Ok(Some(News::Ended(node, _))) => {
                    return Err(io::Error::other(format!("process {node} ended before it was ready")));
                }
                Ok(_) => {}
                Err(_) => return Err(io::Error::other("the processes did not become ready within 20 s")),
            }
        }
        self.began = monotonic();
        for node in first {
            self.order(node, &Order::Go);
            self.life(node, Life::Up);
        }
        for node in 0..self.processes.len() as u16 {
            let starts_at = self.processes[usize::from(node)].starts_at;
            if starts_at.0 > 0 {
                self.alarm(starts_at, LATER_START | u64::from(node));
            }
        }
        Ok(())
    }

    fn data(&self, node: u16) -> PathBuf {
        self.folder.join(format!("node-{node}"))
    }

    /// Bring a process up, if it is down.
    fn spawn(&mut self, node: u16) -> io::Result<()> {
        let process = &mut self.processes[usize::from(node)];
        if process.child.is_some() || process.client.is_some() {
            return Ok(());
        }
        process.incarnation += 1;
        if process.real { self.spawn_child(node) } else { self.spawn_client(node) }
    }

    fn spawn_child(&mut self, node: u16) -> io::Result<()> {
        let incarnation = self.processes[usize::from(node)].incarnation;
        let data = self.data(node);
        let host = self.processes[usize::from(node)].host;
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut orders = child.stdin.take().expect("it is piped");
        let output = child.stdout.take().expect("it is piped");
        let charge = Charge {
            node,
            incarnation,
            data,
            faults: self.faults.clone(),
            lost: self.lost.clone(),
            tls: self.registry.as_ref().map(|registry| registry.folder(host)),
            ..self.charge.clone()
        };
        writeln!(orders, "{}", serde_json::to_string(&charge).map_err(io::Error::other)?)?;
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { break };
                let Ok(line) = serde_json::from_str(&line) else { continue };
                if sender.send(News::Line(node, incarnation, line)).is_err() {
                    return;
                }
            }
            let _ = sender.send(News::Ended(node, incarnation));
        });
        self.processes[usize::from(node)].child = Some(Running { child, orders });
        Ok(())
    }

    fn spawn_client(&mut self, node: u16) -> io::Result<()> {
        let process = &self.processes[usize::from(node)];
        let part = &self.parts[usize::from(process.host.0)];
        let setup = driver::Setup {
            net: TlsNet { tls: part.tls.clone() },
            wire: self.wire.clone(),
            disk: Disk::new(MemoryDisk::default()),
            clock: part.clock.clone(),
            gate: part.gate().clone(),
            random: stream(self.charge.seed, PURPOSE_PROTOCOL, u32::from(node), process.incarnation),
            source: Some(*process.address.ip()),
            ports: Vec::new(),
            resolver: part.resolver(),
            reports: Box::new(Voice {
                node: NodeIndex(node),
                told: self.told.clone(),
                orders: self.orders.clone(),
            }),
            notes: self.charge.notes,
            limits: Limits::default(),
        };
        let (driver, handle) = Driver::new((process.make)(), setup);
        let tasks = LocalSet::new();
        // A client has no ports and no files: nothing can keep it from running.
        tasks.spawn_local(driver.run());
        let freezer = Rc::new(Freezer::default());
        let task = self.tasks.spawn_local(Freezable { tasks, freezer: freezer.clone() });
        self.processes[usize::from(node)].client = Some(Client { handle, task, freezer });
        Ok(())
    }

    fn order(&mut self, node: u16, order: &Order) {
        let Some(running) = &mut self.processes[usize::from(node)].child else { return };
        let text = serde_json::to_string(order).expect("orders are JSON");
        // A process that has just died takes no orders; its end is told by its output.
        let _ = writeln!(running.orders, "{text}");
    }

    fn order_all(&mut self, order: &Order) {
        (0..self.processes.len() as u16).for_each(|node| self.order(node, order));
    }

    fn is_up(&self, node: u16) -> bool {
        let process = &self.processes[usize::from(node)];
        process.child.is_some() || process.client.is_some()
    }

    fn signal(&self, node: u16, signal: Signal) {
        let running = self.processes[usize::from(node)].child.as_ref();
        if let Some(pid) = running.and_then(|running| Pid::from_raw(running.child.id() as i32)) {
            // It may have ended meanwhile; it is not waited for yet, so the number is still its own.
            let _ = kill_process(pid, signal);
        }
    }

    fn life(&mut self, node: u16, life: Life) {
        self.agenda.note(self.now, Happening::Life { node: NodeIndex(node), life });
    }

    fn end(&mut self, node: u16, life: Life) -> bool {
        if !self.is_up(node) {
            return false;
        }
        let process = &mut self.processes[usize::from(node)];
        process.stops = Stops::default();
        if let Some(mut running) = process.child.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
        if let Some(client) = process.client.take() {
            client.task.abort();
        }
        self.life(node, life);
        true
    }

    fn start(&mut self, node: u16, data: Data) {
        if self.is_up(node) {
            return;
        }
        if data == Data::Wiped {
            let _ = std::fs::remove_dir_all(self.data(node));
        }
        if let Err(error) = self.spawn(node) {
            panic!("a process could not be started: {error}");
        }
        if self.processes[usize::from(node)].client.is_some() {
            self.boot(node);
        }
        self.order(node, &Order::Go);
        self.life(node, Life::Up);
    }

    /// A process is up: if its host had lost power, the others may see it again.
    fn boot(&mut self, node: u16) {
        let host = self.processes[usize::from(node)].host;
        if let Some(at) = self.lost.iter().position(|lost| *lost == host) {
            self.lost.remove(at);
            self.order_all(&Order::Boot(host));
            self.parts.iter_mut().for_each(|part| part.boot(host));
        }
    }

    fn lose_host(&mut self, host: HostIndex) -> bool {
        let was_up = !self.lost.contains(&host);
        self.order_all(&Order::Act(FaultId(u32::MAX), Action::LoseHost(host)));
        self.parts.iter_mut().for_each(|part| part.act(FaultId(u32::MAX), &Action::LoseHost(host)));
        // The others must have closed their gates before the dying sockets speak.
        std::thread::park_timeout(Duration::from_millis(5));
        self.lost.push(host);
        for node in self.nodes_on(host) {
            self.end(node, Life::HostLost);
            self.children.host_lost(NodeIndex(node));
            let _ = Folder::lose_unsynced(&self.data(node));
        }
        was_up
    }

    fn nodes_on(&self, host: HostIndex) -> Vec<u16> {
        let all = 0..self.processes.len() as u16;
        all.filter(|node| self.processes[usize::from(*node)].host == host).collect()
    }

    // ---------------------------------------------------------------------------------------------------- pauses

    fn stop(&mut self, fault: FaultId, node: u16) {
        if !self.is_up(node) {
            return;
        }
        self.signal(node, Signal::STOP);
        if let Some(client) = &self.processes[usize::from(node)].client {
            client.freezer.set(true);
        }
        self.processes[usize::from(node)].stops.stop(fault);
        self.life(node, Life::Paused);
    }

    fn resume(&mut self, fault: FaultId, node: u16) {
        let lifted = self.processes[usize::from(node)].stops.lift(fault);
        if lifted.release {
            self.order(node, &Order::Release);
        }
        if !lifted.runs {
            return;
        }
        if let Some(client) = &self.processes[usize::from(node)].client {
            client.freezer.set(false);
            *self.own_effects.entry(fault).or_default() += 1;
            return self.life(node, Life::Resumed);
        }
        self.thawed.push((fault, node));
        self.signal(node, Signal::CONT);
        self.life(node, Life::Resumed);
    }

    fn held(&mut self, node: u16) {
        let Some(fault) = self.processes[usize::from(node)].stops.held() else { return };
        *self.own_effects.entry(fault).or_default() += 1;
        self.stop(fault, node);
    }

    /// Let the clocks of a machine stand, then stop its processes: so that no timer fires when they go on.
    fn suspend(&mut self, fault: FaultId, host: HostIndex) {
        self.spread(fault, &Action::Suspend(host));
        for node in self.nodes_on(host) {
            if self.processes[usize::from(node)].child.is_some() {
                self.await_standing(node);
            }
            self.stop(fault, node);
        }
    }

    fn await_standing(&mut self, node: u16) {
        let patience = Duration::from_secs(1);
        loop {
            let news =
                self.runtime.block_on(async { tokio::time::timeout(patience, self.news.recv()).await });
            match news {
                Ok(Some(News::Line(by, _, Line::Standing))) if by == node => return,
                Ok(Some(news)) => self.hear(news),
                // It has died, or is stopped already.
                Ok(None) | Err(_) => return,
            }
        }
    }

    // ------------------------------------------------------------------------------------------------------ news

    fn since_began(&self, at: u64) -> u64 {
        at.saturating_sub(self.began)
    }

    fn hear(&mut self, news: News) {
        let (node, incarnation) = match &news {
            News::Line(node, incarnation, _) | News::Ended(node, incarnation) => (*node, *incarnation),
        };
        let current = self.processes[usize::from(node)].incarnation == incarnation && self.is_up(node);
        match news {
            News::Ended(..) if current => {
                self.now = self.since_began(monotonic());
                self.end(node, Life::Exited);
            }
            News::Line(_, _, Line::Effects { fault, count }) => {
                self.effects.insert((fault, node, incarnation), count);
            }
            News::Line(_, _, Line::Observed { at, shard, fact }) => {
                let at = self.since_began(at);
                let node = NodeIndex(node);
                self.agenda.note(at, Happening::Observed { node, shard, fact: fact.into() });
            }
            News::Line(_, _, line) if current => self.hear_line(node, line),
            News::Line(..) | News::Ended(..) => {}
        }
    }

    fn hear_line(&mut self, node: u16, line: Line) {
        match line {
            Line::Held => self.held(node),
            Line::Orchestrated { target, action } => self.orchestrate(target, action),
            Line::Ran { child, program, arguments } => {
                let incarnation = self.processes[usize::from(node)].incarnation;
                let due =
                    self.children.run(NodeIndex(node), incarnation, child, &program, &arguments, self.now);
                self.alarm(SimTime(due), CHILDREN);
            }
            Line::KilledChild(child) => {
                self.children.kill(NodeIndex(node), child, self.now);
                self.bury_children();
            }
            Line::Stood { micros } => {
                let mut was_stopped = false;
                for (fault, _) in self.thawed.extract_if(.., |(_, thawed)| *thawed == node) {
                    *self.own_effects.entry(fault).or_default() += 1;
                    was_stopped = true;
                }
                if !was_stopped {
                    self.stall = self.stall.max(Duration::from_micros(micros));
                }
            }
            Line::Messages(count) => self.processes[usize::from(node)].messages = count,
            Line::Ready => self.boot(node),
            Line::Standing | Line::Observed { .. } | Line::Effects { .. } => {}
        }
    }

    fn bury_children(&mut self) {
        for over in self.children.take_due(self.now) {
            if let Some((name, ip)) = over.renames {
                for zone in self.zones.clone() {
                    let (name, to) = (name.clone(), Resolution::Ip(ip));
                    self.spread(OWN_RENAME, &Action::Rename { zone, name, to });
                }
            }
            let node = usize::from(over.node.0);
            if self.processes[node].incarnation == over.incarnation {
                self.order(over.node.0, &Order::ChildEnded(over.child, over.ended));
            }
        }
    }

    fn orchestrate(&mut self, target: SocketAddrV4, action: Orchestration) {
        let Some(&node) = self.names.get(&target) else { return };
        match action {
            Orchestration::Terminate => self.order(node, &Order::Terminate),
            Orchestration::Kill => {
                self.end(node, Life::Killed);
            }
            Orchestration::Start => self.start(node, Data::Kept),
        }
    }

    /// Let the clients run until something is heard or `until` has come.
    fn wait(&mut self, until: u64) {
        let (began, told, orders) = (self.began, self.told.clone(), self.orders.clone());
        let (news, stall) = (&mut self.news, &mut self.stall);
        let heard = self.runtime.block_on(self.tasks.run_until(async move {
            loop {
                let left = (began + until).saturating_sub(monotonic());
                if left == 0 || !told.borrow().is_empty() || !orders.borrow().is_empty() {
                    return None;
                }
                // Clients tell without waking us: look every millisecond.
                let (nap, slept) = (Duration::from_micros(left.min(1_000)), monotonic());
                if let Ok(Some(news)) = tokio::time::timeout(nap, news.recv()).await {
                    return Some(news);
                }
                *stall = (*stall).max(Duration::from_micros(monotonic() - slept).saturating_sub(nap));
            }
        }));
        self.now = self.since_began(monotonic());
        heard.into_iter().for_each(|news| self.hear(news));
        while let Ok(news) = self.news.try_recv() {
            self.hear(news);
        }
        let orders = self.orders.take();
        orders.into_iter().for_each(|(target, action)| self.orchestrate(target, action));
        let began = self.began;
        let told = self.told.borrow_mut().drain(..).collect::<Vec<_>>();
        let told = told.into_iter().map(|(at, happening)| (at.saturating_sub(began), happening));
        self.agenda.note_all(told);
    }
}

/// An operator's words name addresses as a scenario knows them, in 10.1.0.0/16: here they are in the drill's own network.
fn moved(op: Op, [a, b]: [u8; 2]) -> Op {
    match op {
        Op::Command { node, words } => {
            let in_drill = |word: &str| match word.strip_prefix("10.1.") {
                Some(host) => format!("{a}.{b}.{host}"),
                None => word.to_owned(),
            };
            let words: Vec<String> = words.split(' ').map(in_drill).collect();
            Op::Command { node, words: words.join(" ") }
        }
        op => op,
    }
}

/// Tags of our own alarms: a process that starts later.
const LATER_START: u64 = 1 << 63;
/// A program that a process started may have ended.
const CHILDREN: u64 = 1 << 62;
/// Names that programs changed; no fault, and never undone.
const OWN_RENAME: FaultId = FaultId(u32::MAX - 1);

impl<S: System> World for Tcp<S> {
    fn now(&self) -> SimTime {
        SimTime(self.now)
    }

    fn alarm(&mut self, at: SimTime, tag: u64) {
        self.agenda.alarm(at, tag);
    }

    fn request(&mut self, client: NodeIndex, request: RequestId, op: Op, deadline: Duration) {
        if let Some(client) = &self.processes[usize::from(client.0)].client {
            client.handle.request(request, moved(op, self.charge.network), deadline);
        }
    }

    fn act(&mut self, fault: FaultId, action: &Action) {
        self.now = self.since_began(monotonic());
        let done = match action {
            Action::Kill(node) => self.end(node.0, Life::Killed),
            Action::LoseHost(host) => self.lose_host(*host),
            Action::Start { node, data } => {
                self.start(node.0, *data);
                false
            }
            Action::Pause { node, hold_outputs: false } => {
                self.stop(fault, node.0);
                false
            }
            Action::Pause { node, hold_outputs: true } => {
                self.processes[usize::from(node.0)].stops.hold_next(fault);
                self.order(node.0, &Order::Act(fault, action.clone()));
                false
            }
            Action::Suspend(host) => {
                self.suspend(fault, *host);
                false
            }
            Action::Terminate(node) => {
                self.order(node.0, &Order::Terminate);
                self.is_up(node.0)
            }
            Action::Rename { .. } => {
                self.spread(fault, action);
                true
            }
            Action::Certificates(host, change) => {
                // The files first: every handshake that is counted from then on has seen them.
                if let Some(registry) = &mut self.registry {
                    registry.change(fault, *host, *change).expect("our folder takes certificates");
                }
                self.spread(fault, action);
                false
            }
            Action::Block(_) | Action::Degrade(..) | Action::Clock(..) | Action::Disk(..) => {
                self.spread(fault, action);
                false
            }
        };
        *self.own_effects.entry(fault).or_default() += u64::from(done);
    }

    fn undo(&mut self, fault: FaultId) {
        self.now = self.since_began(monotonic());
        self.faults.retain(|(by, _)| *by != fault);
        if let Some(registry) = &mut self.registry {
            registry.undo(fault).expect("our folder takes certificates");
        }
        self.order_all(&Order::Undo(fault));
        self.parts.iter_mut().for_each(|part| part.undo(fault));
        (0..self.processes.len() as u16).for_each(|node| self.resume(fault, node));
    }

    fn effects(&self, fault: FaultId) -> u64 {
        let told: u64 =
            self.effects.iter().filter(|((by, ..), _)| *by == fault).map(|(_, count)| count).sum();
        let here: u64 = self.parts.iter().map(|part| part.effects(fault)).sum();
        told + here + self.own_effects.get(&fault).copied().unwrap_or(0)
    }

    fn advance(&mut self, happenings: &mut Vec<Happening>) -> bool {
        loop {
            if let Some(at) = self.agenda.tell(happenings) {
                self.now = self.now.max(at);
                return true;
            }
            let Some(next) = self.agenda.next_alarm() else { return false };
            let now = self.since_began(monotonic());
            if let Some(tag) = self.agenda.due(now) {
                self.now = now;
                if tag & LATER_START != 0 {
                    self.start((tag & 0xffff) as u16, Data::Kept);
                    continue;
                }
                if tag & CHILDREN != 0 {
                    self.bury_children();
                    continue;
                }
                happenings.push(Happening::Alarm(tag));
                return true;
            }
            self.wait(next);
        }
    }

    fn inspect(&self, _: NodeIndex) -> Vec<Inspection> {
        // Nobody looks inside a real process: what it holds is read as a client reads it.
        Vec::new()
    }

    fn messages(&self) -> u64 {
        self.processes.iter().map(|process| process.messages).sum()
    }

    fn trace(&self) -> Option<TraceHash> {
        None
    }
}

impl<S: System> Tcp<S> {
    /// Tell everybody of a fault; each does what concerns it.
    fn spread(&mut self, fault: FaultId, action: &Action) {
        self.faults.push((fault, action.clone()));
        self.order_all(&Order::Act(fault, action.clone()));
        self.parts.iter_mut().for_each(|part| part.act(fault, action));
    }
}

impl<S: System> Drop for Tcp<S> {
    fn drop(&mut self) {
        for process in &mut self.processes {
            if let Some(mut running) = process.child.take() {
                let _ = running.child.kill();
                let _ = running.child.wait();
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_words_name_addresses_of_the_drill() {
        let node = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        let command = |words: &str| Op::Command { node, words: words.into() };
        let words = "sentinel monitor mymaster 10.1.0.0 6379 2";
        assert_eq!(moved(command(words), [127, 9]), command("sentinel monitor mymaster 127.9.0.0 6379 2"));
    }
}
