//! A rolling update: every process is ended and started anew, one after the other, as a deployment controller does.
//!
//! The next one follows when the *gate* says that this one is back. Memgraph's Helm chart has gates that see open ports;
//! a port is open long before a replica has caught up or a MAIN takes writes. The gate [`Gate::Ready`] asks the node.

use super::message::Message;
use super::{Kind, METRICS_PORT, Memgraph, Timer};
use crate::contract::*;
use alloc::vec::Vec;

/// When a process counts as back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Its Bolt port accepts connections.
    Port,
    /// Its page `/ready` says so.
    Ready,
}

/// Settings of a rolling update.
#[derive(Clone, Debug)]
pub struct RolloutConfig {
    /// Client addresses of the processes, in this order.
    pub targets: Vec<SocketAddrV4>,
    /// When the first one is told to end, from our start.
    pub begins_after: Duration,
    /// From a process's end to its start.
    pub restart_after: Duration,
    /// What must be true before the next one.
    pub gate: Gate,
    /// From one probe to the next (`periodSeconds`).
    pub period: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    End,
    Start,
    Probe,
}

/// The role.
#[derive(Debug)]
pub struct Rollout {
    config: RolloutConfig,
    /// Which target.
    at: usize,
    step: Step,
    probe: Option<SessionId>,
}

impl Rollout {
    /// A rolling update that has not begun.
    pub fn new(config: RolloutConfig) -> Self {
        Rollout { config, at: 0, step: Step::End, probe: None }
    }

    fn target(&self) -> Option<SocketAddrV4> {
        self.config.targets.get(self.at).copied()
    }

    fn act(&mut self, cx: &mut Cx<'_, Memgraph>) {
        let Some(target) = self.target() else { return };
        match self.step {
            Step::End => {
                cx.note(|| alloc::format!("rollout: {target} is told to end"));
                cx.orchestrate(target, Orchestration::Terminate);
                self.then(cx, Step::Start, self.config.restart_after);
            }
            Step::Start => {
                cx.orchestrate(target, Orchestration::Start);
                self.then(cx, Step::Probe, self.config.period);
            }
            Step::Probe => self.ask(cx, target),
        }
    }

    fn then(&mut self, cx: &mut Cx<'_, Memgraph>, step: Step, after: Duration) {
        self.step = step;
        cx.set_timer(Timer::Rollout, after);
    }

    /// A probe that is still open when the next is due has failed.
    fn ask(&mut self, cx: &mut Cx<'_, Memgraph>, target: SocketAddrV4) {
        if let Some(old) = self.probe.take() {
            cx.close(old);
        }
        self.probe = Some(match self.config.gate {
            Gate::Port => cx.open(target, Kind::Bolt),
            Gate::Ready => cx.open(SocketAddrV4::new(*target.ip(), METRICS_PORT), Kind::Metrics),
        });
        self.then(cx, Step::Probe, self.config.period);
    }

    fn passed(&mut self, cx: &mut Cx<'_, Memgraph>) {
        self.at += 1;
        if self.target().is_some() {
            self.then(cx, Step::End, self.config.period);
        } else {
            cx.cancel_timer(Timer::Rollout);
        }
    }
}

impl Node<Memgraph> for Rollout {
    fn start(&mut self, cx: &mut Cx<'_, Memgraph>, _: &DiskImage<Memgraph>) {
        cx.set_timer(Timer::Rollout, self.config.begins_after);
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, _: Opened<Kind>) {
        if self.probe != Some(session) {
            return;
        }
        match self.config.gate {
            Gate::Port => {
                self.probe = None;
                cx.close(session);
                self.passed(cx);
            }
            Gate::Ready => cx.send(session, Message::Get("/ready".into())),
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId, message: Message) {
        if let Message::Page { status, .. } = message
            && self.probe == Some(session)
        {
            self.probe = None;
            cx.close(session);
            if status == 200 {
                self.passed(cx);
            }
        }
    }

    fn on_close(&mut self, _: &mut Cx<'_, Memgraph>, session: SessionId, _: Closed) {
        if self.probe == Some(session) {
            self.probe = None;
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Memgraph>, timer: Timer) {
        if timer == Timer::Rollout {
            self.act(cx);
        }
    }
}
