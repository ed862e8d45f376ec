//! The orchestrator: restarts the cluster's processes one after another, as a deployment does in a rolling update.
//! Each gets SIGTERM, after the grace period SIGKILL if it has not ended by then, and is started again; the next one
//! follows after a pause, or, behind a readiness gate, when the one before it is ready: a replica in step with its
//! primary, or a primary, that sees the cluster in service.

use super::node::Ctx;
use super::{Cluster, Kind, Message, Timer};
use crate::contract::{Closed, DiskImage, Duration, Node, Opened, Orchestration, SessionId, SocketAddrV4};
use crate::redis::admin::ClusterCommand;
use crate::redis::info::{LinkState, RoleReport};
use crate::redis::message::{Command, Message as Redis, Reply};
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
    /// Readiness gate: how often a restarted process is asked whether it is ready; the next one follows when it is, `every`
    /// or not. None: nobody asks.
    pub ask_ready_every: Option<Duration>,
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
    /// Ask it whether it is ready.
    AskReady(u16),
}

/// A readiness probe under way: what the process has said so far.
#[derive(Clone, Copy, Debug)]
struct Asked {
    session: SessionId,
    target: u16,
    in_service: bool,
    in_step: bool,
}

/// The orchestrator role.
#[derive(Debug)]
pub struct Orchestrator {
    settings: Arc<OrchestratorSettings>,
    asked: Option<Asked>,
}

impl Orchestrator {
    /// An orchestrator of these processes.
    pub fn new(settings: Arc<OrchestratorSettings>) -> Orchestrator {
        Orchestrator { settings, asked: None }
    }

    /// Goes on with the next process, if there is one.
    fn next(&self, cx: &mut Ctx<'_>, target: u16, after: Duration) {
        if usize::from(target) + 1 < self.settings.targets.len() {
            cx.set_timer(Timer::Orchestrate(Step::Terminate(target + 1)), after);
        }
    }

    fn ask_ready(&mut self, cx: &mut Ctx<'_>, target: u16, period: Duration) {
        if let Some(old) = self.asked.take() {
            cx.close(old.session);
        }
        let Some(&address) = self.settings.targets.get(usize::from(target)) else { return };
        let session = cx.open(address, Kind::Client);
        self.asked = Some(Asked { session, target, in_service: false, in_step: false });
        // No answer, or no good one, within the period: ask again.
        cx.set_timer(Timer::Orchestrate(Step::AskReady(target)), period);
    }

    fn on_answer(&mut self, cx: &mut Ctx<'_>, reply: &Reply) {
        let Some(asked) = &mut self.asked else { return };
        match reply {
            Reply::Text(info) => asked.in_service = info.contains("cluster_state:ok"),
            Reply::Role(role) => {
                asked.in_step = match role.as_ref() {
                    RoleReport::Primary { .. } => true,
                    RoleReport::Replica { state, .. } => *state == LinkState::Connected,
                    RoleReport::Sentinel(_) => false,
                }
            }
            _ => {}
        }
        let Asked { session, target, in_service, in_step } = *asked;
        if in_service && in_step {
            self.asked = None;
            cx.close(session);
            cx.cancel_timer(Timer::Orchestrate(Step::AskReady(target)));
            cx.note(|| format!("{} is ready", self.settings.targets[usize::from(target)]));
            self.next(cx, target, Duration::ZERO);
        }
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
                if self.settings.ask_ready_every.is_none() {
                    self.next(cx, target, self.settings.every);
                }
            }
            Step::Kill(target) => {
                // A process that ended in time is not there any more: nothing happens to it.
                self.act(cx, target, Orchestration::Kill);
                if let Some(pause) = self.settings.restart_after {
                    cx.set_timer(Timer::Orchestrate(Step::Start(target)), pause);
                }
            }
            Step::Start(target) => {
                self.act(cx, target, Orchestration::Start);
                if let Some(period) = self.settings.ask_ready_every {
                    cx.set_timer(Timer::Orchestrate(Step::AskReady(target)), period);
                }
            }
            Step::AskReady(target) => {
                if let Some(period) = self.settings.ask_ready_every {
                    self.ask_ready(cx, target, period);
                }
            }
        }
    }

    fn on_open(&mut self, cx: &mut Ctx<'_>, session: SessionId, _opened: Opened<Kind>) {
        for question in [Command::Cluster(ClusterCommand::Info), Command::Role] {
            cx.send(session, Message::Redis(question.into()));
        }
    }

    fn on_message(&mut self, cx: &mut Ctx<'_>, _session: SessionId, message: Message) {
        if let Message::Redis(Redis::Reply(reply)) = message {
            self.on_answer(cx, &reply);
        }
    }

    fn on_close(&mut self, _cx: &mut Ctx<'_>, session: SessionId, _why: Closed) {
        // It is asked again when the period is over.
        self.asked.take_if(|asked| asked.session == session);
    }
}
