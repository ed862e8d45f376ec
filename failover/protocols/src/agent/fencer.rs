//! The power switch: turns a data node's host off and says so. Its answer is what makes a fence a fence
//! (Pacemaker: no promotion before the fencing device has confirmed).

use super::message::Message;
use super::settings::{NodeId, Settings};
use super::{Agent, Kind, Timer};
use crate::contract::*;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Time that a board needs to cut the power and be sure of it.
pub const OFF_TAKES: Duration = Duration::from_secs(2);

/// How long a host stays off before it is started again.
pub const OFF_FOR: Duration = Duration::from_secs(30);

/// The switch.
pub struct Fencer {
    settings: Arc<Settings>,
    /// Who waits for the end of a job.
    waiting: BTreeMap<NodeId, Vec<SessionId>>,
    /// Nodes that are off and will be started again.
    off: BTreeMap<NodeId, LocalTime>,
}

impl Fencer {
    /// A switch for all data nodes.
    pub fn new(settings: Arc<Settings>) -> Self {
        Fencer { settings, waiting: BTreeMap::new(), off: BTreeMap::new() }
    }

    fn off(&mut self, cx: &mut Cx<'_, Agent>, node: NodeId) {
        cx.orchestrate(self.settings.cluster.address(node), Orchestration::Kill);
        cx.note(|| alloc::format!("node {} is off", node.0));
        for session in self.waiting.remove(&node).unwrap_or_default() {
            cx.send(session, Message::Fenced { node });
        }
        self.off.insert(node, cx.now());
        cx.set_timer(Timer::Power(node), OFF_FOR);
    }
}

impl Node<Agent> for Fencer {
    fn start(&mut self, _cx: &mut Cx<'_, Agent>, _disk: &DiskImage<Agent>) {}

    fn on_open(&mut self, _cx: &mut Cx<'_, Agent>, _session: SessionId, _opened: Opened<Kind>) {}

    fn on_message(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: Message) {
        let Message::Fence { node } = message else { return };
        if self.off.contains_key(&node) {
            return cx.send(session, Message::Fenced { node });
        }
        let first = !self.waiting.contains_key(&node);
        self.waiting.entry(node).or_default().push(session);
        if first {
            cx.set_timer(Timer::Power(node), OFF_TAKES);
        }
    }

    fn on_close(&mut self, _cx: &mut Cx<'_, Agent>, session: SessionId, _why: Closed) {
        self.waiting.values_mut().for_each(|sessions| sessions.retain(|waiting| *waiting != session));
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Agent>, timer: Timer) {
        let Timer::Power(node) = timer else { return };
        match self.off.remove(&node) {
            None => self.off(cx, node),
            Some(_) => cx.orchestrate(self.settings.cluster.address(node), Orchestration::Start),
        }
    }
}
