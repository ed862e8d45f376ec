//! A turmoil host: an operating system that runs the processes of one or more machines.
//!
//! Each process is a task set of its own, polled only while the process runs: so it can be stopped, with everything it
//! has spawned, and it dies with everything it has spawned. Each has a waker of its own: so it is known whether something
//! woke it while it was stopped, and a busy machine can let it wait. What the world asks for between two ticks is a list
//! of commands that the host works off first in the next one, because clocks and sockets belong to the host's runtime.

use crate::kernel::lateness::{LateWakes, Wake};
use firedrill_node::driver::{Clock, Exited};
use firedrill_protocols::contract::Duration;
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::Sleep;

/// A process's future, not yet polled.
pub(crate) type Program = Pin<Box<dyn Future<Output = io::Result<Exited>>>>;

/// What the world asks of a host.
pub(crate) enum Command {
    /// Run a program as the process of this number.
    Start(usize, Program),
    /// End a process.
    Kill(usize),
    /// Stop polling it.
    Freeze(usize),
    /// Poll it again.
    Thaw(usize),
    /// Let a clock run at this rate.
    Drift(Clock, i64),
    /// A clock stood still for so long.
    Lose(Clock, Duration),
    /// Move a wall clock.
    Jump(Clock, i64),
}

/// What the host and the world share.
pub(crate) struct Machine {
    commands: RefCell<Vec<Command>>,
    waker: RefCell<Option<Waker>>,
    /// Tasks of the operating system itself.
    system: RefCell<LocalSet>,
    exited: RefCell<Vec<usize>>,
    /// Processes that went on, and that something had woken while they were stopped.
    missed: RefCell<Vec<usize>>,
    /// How late the machine lets them run; shared by all machines.
    lateness: Option<Rc<RefCell<LateWakes>>>,
}

impl Machine {
    pub(crate) fn new(lateness: Option<Rc<RefCell<LateWakes>>>) -> Rc<Machine> {
        Rc::new(Machine {
            commands: RefCell::default(),
            waker: RefCell::default(),
            system: RefCell::new(LocalSet::new()),
            exited: RefCell::default(),
            missed: RefCell::default(),
            lateness,
        })
    }

    /// Ask for something.
    pub(crate) fn command(&self, command: Command) {
        self.commands.borrow_mut().push(command);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// A task that no process takes along when it stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.system.borrow().spawn_local(task);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Processes that ended by themselves since the last call.
    pub(crate) fn take_exited(&self) -> Vec<usize> {
        std::mem::take(&mut self.exited.borrow_mut())
    }

    /// Processes that went on since the last call with a timer or an input that was late because they had been stopped.
    pub(crate) fn take_missed(&self) -> Vec<usize> {
        std::mem::take(&mut self.missed.borrow_mut())
    }

    /// How long a process has to wait that was just woken, in whole ticks.
    fn wait_of(&self, number: usize) -> Option<Pin<Box<Sleep>>> {
        let mut lateness = self.lateness.as_ref()?.borrow_mut();
        let now = turmoil::sim_elapsed()?.as_micros() as u64;
        let late_ms = (lateness.draw(number as u16, now, Wake::Timer) + 500) / 1000;
        (late_ms > 0).then(|| Box::pin(tokio::time::sleep(std::time::Duration::from_millis(late_ms))))
    }
}

struct Running {
    number: usize,
    tasks: LocalSet,
    main: JoinHandle<io::Result<Exited>>,
    frozen: bool,
    bell: Arc<Bell>,
    /// The machine is busy with others.
    waits: Option<Pin<Box<Sleep>>>,
}

/// The waker of a process: it remembers, and wakes the host.
struct Bell {
    rung: AtomicBool,
    host: Waker,
}

impl std::task::Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Relaxed);
        self.host.wake_by_ref();
    }
}

/// The host's main future: it never ends.
pub(crate) struct Host {
    machine: Rc<Machine>,
    processes: Vec<Running>,
}

impl Host {
    pub(crate) fn new(machine: Rc<Machine>) -> Host {
        Host { machine, processes: Vec::new() }
    }

    fn work_off(&mut self, command: Command, host: &Waker) {
        match command {
            Command::Start(number, program) => {
                let tasks = LocalSet::new();
                let main = tasks.spawn_local(program);
                let bell = Arc::new(Bell { rung: AtomicBool::new(true), host: host.clone() });
                self.processes.push(Running { number, tasks, main, frozen: false, bell, waits: None });
            }
            Command::Kill(number) => self.processes.retain(|process| process.number != number),
            Command::Freeze(number) => self.set_frozen(number, true),
            Command::Thaw(number) => self.set_frozen(number, false),
            Command::Drift(clock, ppm) => clock.set_drift(ppm),
            Command::Lose(clock, gap) => clock.lose(gap),
            Command::Jump(clock, micros) => clock.jump_wall(micros),
        }
    }

    fn set_frozen(&mut self, number: usize, frozen: bool) {
        for process in self.processes.iter_mut().filter(|process| process.number == number) {
            let missed = process.bell.rung.load(Ordering::Relaxed);
            if process.frozen && !frozen && missed {
                self.machine.missed.borrow_mut().push(number);
            }
            process.frozen = frozen;
        }
    }

    /// Whether something has woken a process and the machine has found time for it.
    fn may_run(process: &mut Running, machine: &Machine, cx: &mut Context<'_>) -> bool {
        if process.waits.is_none() {
            if !process.bell.rung.swap(false, Ordering::Relaxed) {
                return false;
            }
            process.waits = machine.wait_of(process.number);
        }
        if process.waits.as_mut().is_some_and(|waits| waits.as_mut().poll(cx).is_pending()) {
            return false;
        }
        // What rang meanwhile is seen to now.
        if process.waits.take().is_some() {
            process.bell.rung.store(false, Ordering::Relaxed);
        }
        true
    }

    /// Poll a process; whether it goes on.
    fn poll_process(process: &mut Running, machine: &Machine, cx: &mut Context<'_>) -> bool {
        if process.frozen || !Host::may_run(process, machine, cx) {
            return true;
        }
        let waker = process.bell.clone().into();
        if Pin::new(&mut process.tasks).poll(&mut Context::from_waker(&waker)).is_pending() {
            return true;
        }
        match Pin::new(&mut process.main).poll(cx) {
            Poll::Ready(Ok(Ok(Exited))) => machine.exited.borrow_mut().push(process.number),
            Poll::Ready(Ok(Err(error))) => panic!("a process could not start: {error}"),
            Poll::Ready(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Poll::Ready(Err(_)) | Poll::Pending => unreachable!("all tasks of the process have ended"),
        }
        false
    }
}

impl Future for Host {
    type Output = turmoil::Result;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<turmoil::Result> {
        *self.machine.waker.borrow_mut() = Some(cx.waker().clone());
        let commands = std::mem::take(&mut *self.machine.commands.borrow_mut());
        commands.into_iter().for_each(|command| self.work_off(command, cx.waker()));
        let machine = self.machine.clone();
        let _ = Pin::new(&mut *machine.system.borrow_mut()).poll(cx);
        self.processes.retain_mut(|process| Host::poll_process(process, &machine, cx));
        // A program may have asked the system for something meanwhile; a LocalSet that gets a task wakes nobody if
        // it was never polled with it.
        let _ = Pin::new(&mut *machine.system.borrow_mut()).poll(cx);
        Poll::Pending
    }
}
