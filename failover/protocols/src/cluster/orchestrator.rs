//! The orchestrator: restarts the cluster's processes one after another, as a deployment does in a rolling update.
//! Each gets SIGTERM, after the grace period SIGKILL if it has not ended by then, and is started again; the next one
//! follows after a pause.

use super::node::Ctx;
use super::{Cluster, Kind, Message, Timer};
use crate::contract::{Closed, DiskImage, Duration, Node, Opened, Orchestration, SessionId, SocketAddrV4};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What to restart, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrchestratorSettings {
    /// Client addresses of the processes, in the order of their restarts.
    pub targets: Vec<SocketAddrV4>,
    /// When the first one is told to end.
    pub begins_after: Duration,
    /// From SIGTERM to SIGKILL; zero: no SIGTERM, the process is killed at once.
    pub grace: Duration,
    /// From the end of a process's grace to its start; none: it stays down.
    pub restart_after: Option<Duration>,
    /// From one process's SIGTERM to the next one's, at least its grace and restart.
    pub every: Duration,
}

/// A step of the restart of one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// SIGTERM.
    Terminate(u16),
    /// SIGKILL, for a process that is still there.
    Kill(u16),
    /// Start it again.
    Start(u16),
}

/// The orchestrator role.
#[derive(Debug)]
pub struct Orchestrator {
    settings: Arc<OrchestratorSettings>,
}

impl Orchestrator {
    /// An orchestrator of these processes.
    pub fn new(settings: Arc<OrchestratorSettings>) -> Orchestrator {
        Orchestrator { settings }
    }

    fn act(&self, cx: &mut Ctx<'_>, target: u16, action: Orchestration) {
        let Some(&address) = self.settings.targets.get(usize::from(target)) else { return };
        cx.note(|| format!("{action:?} {address}"));
        cx.orchestrate(address, action);
    }
}

impl Node<Cluster> for Orchestrator {
    fn start(&mut self, cx: &mut Ctx<'_>, _disk: &DiskImage<Cluster>) {
        cx.set_timer(Timer::Orchestrate(Step::Terminate(0)), self.settings.begins_after);
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, timer: Timer) {
        let Timer::Orchestrate(step) = timer else { return };
        match step {
            Step::Terminate(target) => {
                if !self.settings.grace.is_zero() {
                    self.act(cx, target, Orchestration::Terminate);
                }
                cx.set_timer(Timer::Orchestrate(Step::Kill(target)), self.settings.grace);
                if usize::from(target) + 1 < self.settings.targets.len() {
                    cx.set_timer(Timer::Orchestrate(Step::Terminate(target + 1)), self.settings.every);
                }
            }
            Step::Kill(target) => {
                // A process that ended in time is not there any more: nothing happens to it.
                self.act(cx, target, Orchestration::Kill);
                if let Some(pause) = self.settings.restart_after {
                    cx.set_timer(Timer::Orchestrate(Step::Start(target)), pause);
                }
            }
            Step::Start(target) => self.act(cx, target, Orchestration::Start),
        }
    }

    fn on_open(&mut self, _cx: &mut Ctx<'_>, _session: SessionId, _opened: Opened<Kind>) {}

    fn on_message(&mut self, _cx: &mut Ctx<'_>, _session: SessionId, _message: Message) {}

    fn on_close(&mut self, _cx: &mut Ctx<'_>, _session: SessionId, _why: Closed) {}
}
