//! Watches a data node's slot on the shared disk, from a process beside it: a reset in the slot (the *poison pill*)
//! resets the host, and so does its watchdog when the slot could not be read for too long. So whoever wrote the pill may
//! count on the reset once `message_wait` has passed, whether the victim still reached the disk or not (sbd(8):
//! `msgwait` is twice the watchdog timeout).

use super::message::{DiskMessage, Message};
use super::settings::{NodeId, Settings};
use super::{Agent, Kind, Timer};
use crate::contract::*;
use alloc::sync::Arc;

/// How long a reset takes until the data process is started again.
const RESET_TAKES: Duration = Duration::from_secs(5);

/// Wait before the disk is dialled again.
const REDIAL: Duration = Duration::from_millis(500);

/// How long the disk may take for an answer before another way to it is tried (sbd: IO timeout 3 s).
const IO_LIMIT: Duration = Duration::from_secs(3);

/// The watcher of one slot.
pub struct SlotWatch {
    settings: Arc<Settings>,
    node: NodeId,
    session: Option<SessionId>,
    open: bool,
    /// When the read that is unanswered was asked for.
    asked: Option<LocalTime>,
    resetting: bool,
}

impl SlotWatch {
    /// The watcher beside `node`.
    pub fn new(settings: Arc<Settings>, node: NodeId) -> Self {
        SlotWatch { settings, node, session: None, open: false, asked: None, resetting: false }
    }

    fn dial(&mut self, cx: &mut Cx<'_, Agent>) {
        if let Some(old) = self.session.take() {
            cx.close(old);
        }
        self.open = false;
        self.asked = Some(cx.now());
        self.session = self.settings.cluster.disk.map(|disk| cx.open(disk, Kind::Disk));
    }

    fn pet(&self, cx: &mut Cx<'_, Agent>) {
        if !self.resetting {
            cx.set_timer(Timer::SlotLimit, self.settings.agent.slots.watchdog);
        }
    }

    fn reset(&mut self, cx: &mut Cx<'_, Agent>, why: &str) {
        if self.resetting {
            return;
        }
        cx.note(|| alloc::format!("node {} is reset: {why}", self.node.0));
        self.resetting = true;
        cx.cancel_timer(Timer::SlotLimit);
        cx.orchestrate(self.settings.cluster.address(self.node), Orchestration::Kill);
        cx.set_timer(Timer::Power(self.node), RESET_TAKES);
    }
}

impl Node<Agent> for SlotWatch {
    fn start(&mut self, cx: &mut Cx<'_, Agent>, _disk: &DiskImage<Agent>) {
        self.dial(cx);
        self.pet(cx);
        cx.set_timer(Timer::Slot, self.settings.agent.slots.every);
    }

    fn on_open(&mut self, _cx: &mut Cx<'_, Agent>, session: SessionId, _opened: Opened<Kind>) {
        if self.session == Some(session) {
            self.open = true;
            self.asked = None;
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: Message) {
        let Message::Disk(DiskMessage::SlotHolds { reset }) = message else { return };
        self.asked = None;
        self.pet(cx);
        if reset {
            cx.send(session, Message::Disk(DiskMessage::ClearSlot { node: self.node }));
            self.reset(cx, "its slot says so");
        }
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, _why: Closed) {
        if self.session == Some(session) {
            self.session = None;
            self.open = false;
            cx.set_timer(Timer::Disk, REDIAL);
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Agent>, timer: Timer) {
        match timer {
            Timer::Slot => {
                cx.set_timer(Timer::Slot, self.settings.agent.slots.every);
                if self.asked.is_some_and(|at| cx.now().since(at) >= IO_LIMIT) {
                    return self.dial(cx);
                }
                if let Some(session) = self.session.filter(|_| self.open) {
                    self.asked = self.asked.or(Some(cx.now()));
                    cx.send(session, Message::Disk(DiskMessage::Slot { node: self.node }));
                }
            }
            Timer::SlotLimit => self.reset(cx, "its slot could not be read"),
            Timer::Disk if self.session.is_none() => self.dial(cx),
            Timer::Power(_) => {
                self.resetting = false;
                self.pet(cx);
                cx.orchestrate(self.settings.cluster.address(self.node), Orchestration::Start);
            }
            _ => {}
        }
    }
}
