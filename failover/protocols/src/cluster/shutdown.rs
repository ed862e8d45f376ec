//! Ending in good order, and handing over while doing so.
//!
//! SIGTERM is seen by the next cron. A primary that may wait first holds writes back until its replicas have
//! everything, then ends. With a hand-over it does more:
//!
//! - *Notify* (first proposal of valkey #939): it asks its best replica to run an ordinary manual failover and waits
//!   until it has been replaced.
//! - *Force* (valkey #1091, released as `shutdown-on-sigterm failover` in 9.0): when its replicas are equal it puts
//!   `CLUSTER FAILOVER FORCE REPLICAID id` into the replication stream and ends without waiting for the outcome.
//!
//! The GETACK that asks replicas for their offset makes the stream longer than the answer says, so equality is
//! usually seen only at the next periodic acknowledgement: up to a second of held writes.

use super::Kind;
use super::bus::NodeId;
use super::node::{ClusterNode, Ctx, Save};
use super::settings::{HandOver, millis};
use super::state::Stamp;
use crate::contract::{Mark, SessionId};
use crate::redis::admin::{ClusterCommand, TakeOver};
use crate::redis::message::Command;
use alloc::format;

/// An order for another node, for which we dialled its client port.
#[derive(Clone, Debug)]
pub struct Errand {
    /// The session.
    pub session: SessionId,
    /// What to say when it is open.
    pub order: Command,
}

/// An ending under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// None.
    #[default]
    No,
    /// The signal came; the next cron will see it.
    Asked {
        /// Do not wait for replicas.
        now: bool,
    },
    /// Writes are held back until the replicas are equal, or until then.
    Draining {
        /// When to end whatever the replicas have.
        deadline: Stamp,
    },
    /// A replica was asked to take over; wait for it, but not longer than that.
    Notified {
        /// When to end without it.
        deadline: Stamp,
    },
}

impl Ending {
    /// Whether writes are held back for it.
    pub fn holds_writes(self) -> bool {
        matches!(self, Ending::Draining { .. })
    }
}

impl ClusterNode {
    /// SIGTERM, or SHUTDOWN: `now` means without waiting for replicas.
    pub(super) fn on_shutdown_asked(&mut self, now: bool, hand_over: bool) {
        if self.ending == Ending::No {
            self.ending = Ending::Asked { now };
            if hand_over && self.hand_over == HandOver::None {
                self.hand_over = HandOver::Force;
            }
        }
    }

    /// `SHUTDOWN ABORT`.
    pub(super) fn abort_shutdown(&mut self, cx: &mut Ctx<'_>) -> bool {
        let was = core::mem::take(&mut self.ending);
        if was == Ending::No {
            return false;
        }
        self.resume_writes(cx);
        true
    }

    /// The cron's part of an ending.
    pub(super) fn handle_ending(&mut self, cx: &mut Ctx<'_>, now: Stamp) {
        match self.ending {
            Ending::No => {}
            Ending::Asked { now: at_once } => self.begin_ending(cx, now, at_once),
            Ending::Draining { deadline } => {
                if self.replicas_are_equal() || now >= deadline {
                    self.finish_ending(cx);
                }
            }
            Ending::Notified { deadline } => {
                let replaced = !self.table.is_primary(self.table.me);
                if replaced || now >= deadline {
                    self.end(cx);
                }
            }
        }
    }

    fn begin_ending(&mut self, cx: &mut Ctx<'_>, now: Stamp, at_once: bool) {
        let timeout = if at_once { 0 } else { millis(self.settings.shutdown_timeout) };
        let primary = self.table.is_primary(self.table.me);
        let deadline = now.plus(timeout);
        if primary && self.hand_over == HandOver::Notify {
            return self.notify_best_replica(cx, deadline);
        }
        if !primary || timeout == 0 || !self.has_replicas() || self.replicas_are_equal() {
            return self.finish_ending(cx);
        }
        cx.note(|| format!("ends: holds writes back until its replicas have offset {}", self.my_offset()));
        self.ending = Ending::Draining { deadline };
        self.pause_writes(cx, None);
        self.server.ask_acknowledgements(cx);
    }

    /// The last steps: whoever may take over is told, then the process ends.
    fn finish_ending(&mut self, cx: &mut Ctx<'_>) {
        let me = self.table.me;
        let voter = self.table.is_voter(me);
        match self.hand_over {
            HandOver::Force if voter => self.hand_over_by_stream(cx),
            HandOver::ForceLargest if voter => self.hand_over_to_largest(cx),
            HandOver::Force | HandOver::ForceLargest | HandOver::Notify | HandOver::None => {}
        }
        self.end(cx);
    }

    /// As released: the last listed replica that is exactly equal, told through the stream that all replicas read.
    fn hand_over_by_stream(&mut self, cx: &mut Ctx<'_>) {
        let offset = self.my_offset();
        let old = &self.settings.old_replicas;
        if self.attached_replicas().any(|(id, _)| old.contains(&id)) {
            cx.note(|| "a replica is too old for a hand-over: none".into());
            return;
        }
        let candidate = self.attached_replicas().filter(|&(_, acked)| acked == offset).last();
        let Some((candidate, _)) = candidate else {
            cx.note(|| format!("no replica has offset {offset}: no hand-over"));
            self.mark_about(cx, Mark::Aborted, self.table.me);
            return;
        };
        cx.note(|| format!("hands over to {} by force", self.name(candidate)));
        let order = ClusterCommand::Failover { mode: TakeOver::Force, only: Some(candidate.run_id()) };
        self.server.feed(cx, Command::Cluster(order));
    }

    /// Before the release: the largest acknowledged offset, told on that replica's own connection.
    fn hand_over_to_largest(&mut self, cx: &mut Ctx<'_>) {
        let best = self.best_replica();
        let Some(candidate) = best else {
            cx.note(|| "no replica is attached: no hand-over".into());
            self.mark_about(cx, Mark::Aborted, self.table.me);
            return;
        };
        cx.note(|| format!("hands over to {} by force, whatever it has", self.name(candidate)));
        let order = ClusterCommand::Failover { mode: TakeOver::Force, only: None };
        self.tell_replica(cx, candidate, Command::Cluster(order));
    }

    /// The replica does the work; we only wait.
    fn notify_best_replica(&mut self, cx: &mut Ctx<'_>, deadline: Stamp) {
        let Some(candidate) = self.best_replica() else {
            cx.note(|| "no replica is attached: no hand-over".into());
            return self.end(cx);
        };
        cx.note(|| format!("asks {} to take over", self.name(candidate)));
        self.ending = Ending::Notified { deadline };
        // As a client: in the replication stream the order itself would move the offset that must be met.
        let order = ClusterCommand::Failover { mode: TakeOver::Agreed, only: None };
        let address = self.settings.nodes[candidate.index()].client;
        self.errand =
            Some(Errand { session: cx.open(address, Kind::Client), order: Command::Cluster(order) });
    }

    /// The attached replica with the largest acknowledged offset; the last listed of equals.
    fn best_replica(&self) -> Option<NodeId> {
        self.attached_replicas().max_by_key(|&(_, acked)| acked).map(|(id, _)| id)
    }

    fn end(&mut self, cx: &mut Ctx<'_>) {
        self.todo.save(Save::Write);
        self.save_now(cx);
        cx.note(|| "ends".into());
        cx.exit();
    }
}
