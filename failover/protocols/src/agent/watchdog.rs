//! A watchdog: a device beside the data process that resets it unless it is petted in time. The process pets it with
//! every renewal of its lease, so a primary that stops, or cannot renew, is reset before its lease is over, whatever its
//! own code believes (Patroni: the device fires at `ttl - safety_margin` after the last pet).
//!
//! It is part of the machine: it runs while the process is paused, and stops when the whole machine does.

use super::message::Message;
use super::settings::{NodeId, Settings};
use super::{Agent, Kind, Timer};
use crate::contract::*;
use alloc::sync::Arc;

/// How long a reset takes until the process is started again.
const RESET_TAKES: Duration = Duration::from_secs(5);

/// The watchdog of one data node.
pub struct Watchdog {
    settings: Arc<Settings>,
    node: NodeId,
    resetting: bool,
}

impl Watchdog {
    /// The watchdog beside `node`.
    pub fn new(settings: Arc<Settings>, node: NodeId) -> Self {
        Watchdog { settings, node, resetting: false }
    }
}

impl Node<Agent> for Watchdog {
    fn start(&mut self, _cx: &mut Cx<'_, Agent>, _disk: &DiskImage<Agent>) {}

    fn on_open(&mut self, _cx: &mut Cx<'_, Agent>, _session: SessionId, _opened: Opened<Kind>) {}

    fn on_message(&mut self, cx: &mut Cx<'_, Agent>, _session: SessionId, message: Message) {
        match (message, self.settings.agent.watchdog) {
            (Message::Pet { armed: true }, Some(limit)) if !self.resetting => {
                cx.set_timer(Timer::Power(self.node), limit);
            }
            (Message::Pet { armed: false }, _) if !self.resetting => cx.cancel_timer(Timer::Power(self.node)),
            _ => {}
        }
    }

    fn on_close(&mut self, _cx: &mut Cx<'_, Agent>, _session: SessionId, _why: Closed) {}

    fn on_timer(&mut self, cx: &mut Cx<'_, Agent>, _timer: Timer) {
        let target = self.settings.cluster.address(self.node);
        if self.resetting {
            self.resetting = false;
            return cx.orchestrate(target, Orchestration::Start);
        }
        cx.note(|| alloc::format!("node {} is reset", self.node.0));
        self.resetting = true;
        cx.orchestrate(target, Orchestration::Kill);
        cx.set_timer(Timer::Power(self.node), RESET_TAKES);
    }
}
