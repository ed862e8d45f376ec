//! A process of a drill: `firedrill node --drill`. It takes its orders from standard input and tells what happens on
//! standard output; it ends when its input does, and whatever happens to its parent.

use super::part::Part;
use super::wire::{Charge, Line, Order, monotonic};
use crate::kernel::Settings;
use crate::kernel::process::PURPOSE_PROTOCOL;
use crate::run::{Detail, kernel_settings};
use crate::scenario::Scenario;
use crate::systems::{SystemUnderTest, Visit, clients_of, set_network};
use crate::world::{Action, FaultId, Layout};
use firedrill_checkers::record::NodeIndex;
use firedrill_node::disk::{Disk, Folder};
use firedrill_node::driver::{self, Direction, Driver, Handle, Limits, Reports, Wire};
use firedrill_node::faulty_disk::FaultyDisk;
use firedrill_node::tls::{Tls, TlsNet};
use firedrill_protocols::contract::{
    ChildId, Observation, Orchestration, Outcome, RequestId, Shard, Signal, SocketAddrV4, System, stream,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// How often effects and the pulse are told.
const PULSE: Duration = Duration::from_millis(100);

/// A pulse so late means that the process was stopped.
const STOOD: u64 = 250_000;

/// Be a process of a drill, as `firedrill node --drill`: a node of the system of a scenario.
///
/// # Errors
/// The charge cannot be read, a port cannot be bound, or a folder not be made.
pub fn main() -> io::Result<()> {
    let charge = take_charge()?;
    let scenario: Scenario = serde_json::from_value(charge.cause.clone())?;
    struct Be<'a>(Charge, &'a Scenario);
    impl Visit for Be<'_> {
        type Out = io::Result<()>;
        fn visit<T: SystemUnderTest>(self, system: &T) -> io::Result<()> {
            let Be(charge, scenario) = self;
            let wire = system.wire().ok_or_else(|| io::Error::other("this system has no wire form"))?;
            let layout = system.layout(&clients_of(scenario));
            let detail = Detail { notes: charge.notes, ..Detail::default() };
            let settings = kernel_settings(scenario, &layout, charge.seed, &detail);
            be(charge, layout, &settings, wire)
        }
    }
    scenario.system.visit(Be(charge, &scenario))
}

/// Read who we are; from then on this process dies with its parent, and builds layouts of the addresses of its drill.
///
/// # Errors
/// It cannot be read.
pub fn take_charge() -> io::Result<Charge> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let mut first = String::new();
    io::stdin().lock().read_line(&mut first)?;
    let charge: Charge = serde_json::from_str(&first)?;
    set_network(charge.network);
    Ok(charge)
}

/// Lines on their way to the parent; a thread writes them, so that a full pipe does not stop the node.
#[derive(Clone)]
struct Mouth(std::sync::mpsc::Sender<Line>);

impl Mouth {
    fn new() -> (Mouth, std::thread::JoinHandle<()>) {
        let (sender, lines) = std::sync::mpsc::channel::<Line>();
        let writer = std::thread::spawn(move || {
            let mut out = io::stdout().lock();
            for line in lines {
                let Ok(text) = serde_json::to_string(&line) else { return };
                // The leading end of line: what the program may have printed without one is none of ours.
                if writeln!(out, "\n{text}").and_then(|()| out.flush()).is_err() {
                    return;
                }
            }
        });
        (Mouth(sender), writer)
    }

    fn say(&self, line: Line) {
        // Without a parent nobody listens, and the end of the input ends the process.
        let _ = self.0.send(line);
    }
}

struct Voice {
    mouth: Mouth,
    messages: Rc<Cell<u64>>,
}

impl<S: System> Reports<S> for Voice {
    fn complete(&mut self, _: RequestId, _: Outcome, _: Option<SocketAddrV4>) {}

    fn observe(&mut self, shard: Shard, fact: Observation) {
        self.mouth.say(Line::Observed { at: monotonic(), shard, fact: fact.into() });
    }

    fn orchestrate(&mut self, target: SocketAddrV4, action: Orchestration) {
        self.mouth.say(Line::Orchestrated { target, action });
    }

    fn run(&mut self, child: ChildId, program: &str, arguments: &[String]) {
        let (program, arguments) = (program.to_owned(), arguments.to_vec());
        self.mouth.say(Line::Ran { child, program, arguments });
    }

    fn kill_child(&mut self, child: ChildId) {
        self.mouth.say(Line::KilledChild(child));
    }

    fn received(&mut self, _: Direction, _: &S::Message) {
        self.messages.set(self.messages.get() + 1);
    }

    fn held(&mut self) {
        self.mouth.say(Line::Held);
    }
}

/// Be the process of this charge in this layout, until the parent or the node ends it.
///
/// # Errors
/// A port cannot be bound, or a folder not be made.
pub fn be<S: System>(
    charge: Charge,
    mut layout: Layout<S>,
    settings: &Settings,
    wire: Rc<dyn Wire<S>>,
) -> io::Result<()> {
    let node = NodeIndex(charge.node);
    let host = layout.processes[usize::from(node.0)].host;
    let ip = layout.hosts[usize::from(host.0)].ip;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut part = Part::new(&layout, settings, host, Some(node));
    part.tls = charge.tls.as_deref().map(Tls::new).transpose()?;
    charge.lost.iter().for_each(|lost| part.lose(*lost));
    charge.faults.iter().for_each(|(fault, action)| part.act(*fault, action));
    // What is on already acts on this incarnation too, and that is to be told.
    let faults = charge.faults.iter().map(|(fault, _)| (*fault, 0)).collect();
    let part = Rc::new(RefCell::new(part));
    let process = layout.processes.swap_remove(usize::from(node.0));
    let (mouth, writer) = Mouth::new();
    let messages = Rc::new(Cell::new(0));
    let setup = {
        let part = part.borrow();
        driver::Setup {
            net: TlsNet { tls: part.tls.clone() },
            wire,
            disk: Disk::new(FaultyDisk::new(
                Folder::new(&charge.data)?.with_synced_notes(),
                part.trouble.clone(),
            )),
            clock: part.clock.clone(),
            gate: part.gate().clone(),
            random: stream(charge.seed, PURPOSE_PROTOCOL, u32::from(node.0), charge.incarnation),
            source: Some(ip),
            ports: process.listens.iter().map(|(port, kind)| (SocketAddrV4::new(ip, *port), *kind)).collect(),
            resolver: part.resolver(),
            reports: Box::new(Voice { mouth: mouth.clone(), messages: messages.clone() }),
            notes: charge.notes,
            limits: Limits::default(),
        }
    };
    let (mut driver, handle) = Driver::new((process.make)(), setup);
    let mut orders = listen();
    let done = runtime.block_on(LocalSet::new().run_until(async move {
        driver.listen().await?;
        mouth.say(Line::Ready);
        while !matches!(orders.recv().await, Some(Order::Go) | None) {}
        let life = Life { part, handle, mouth, messages, faults };
        tokio::select! {
            biased;
            done = driver.run() => done.map(|_| ()),
            () = life.obey(&mut orders) => Ok(()),
        }
    }));
    drop(runtime);
    let _ = writer.join();
    done
}

/// Orders as they come, from a thread of their own; the channel closes with the input.
fn listen() -> mpsc::UnboundedReceiver<Order> {
    let (sender, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Some(order) = line.ok().and_then(|line| serde_json::from_str(&line).ok()) else { return };
            if sender.send(order).is_err() {
                return;
            }
        }
    });
    orders
}

struct Life<S: System> {
    part: Rc<RefCell<Part>>,
    handle: Handle<S>,
    mouth: Mouth,
    messages: Rc<Cell<u64>>,
    /// Faults with the effects that were told.
    faults: BTreeMap<FaultId, u64>,
}

impl<S: System> Life<S> {
    /// Obey until the input ends.
    async fn obey(mut self, orders: &mut mpsc::UnboundedReceiver<Order>) {
        let mut beat = monotonic();
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => return,
                },
                () = tokio::time::sleep(PULSE) => {}
            }
            let now = monotonic();
            if now - beat > STOOD {
                self.mouth.say(Line::Stood { micros: now - beat });
            }
            beat = now;
            self.tell_effects();
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Go => {}
            Order::Act(fault, action) => {
                self.faults.entry(fault).or_default();
                if let Action::Pause { hold_outputs: true, .. } = action {
                    self.handle.hold();
                }
                self.part.borrow_mut().act(fault, &action);
                if let Action::Suspend(host) = action
                    && host == self.part.borrow().host()
                {
                    self.mouth.say(Line::Standing);
                }
            }
            Order::Undo(fault) => self.part.borrow_mut().undo(fault),
            Order::Boot(host) => self.part.borrow_mut().boot(host),
            Order::Release => self.handle.release(),
            Order::Terminate => self.handle.signal(Signal::Terminate),
            Order::ChildEnded(child, ended) => self.handle.child_ended(child, ended),
        }
    }

    fn tell_effects(&mut self) {
        self.part.borrow_mut().steps = self.handle.steps();
        let part = self.part.borrow();
        for (fault, told) in &mut self.faults {
            let count = part.effects(*fault);
            if count != *told {
                *told = count;
                self.mouth.say(Line::Effects { fault: *fault, count });
            }
        }
        let messages = self.messages.get();
        self.mouth.say(Line::Messages(messages));
    }
}
