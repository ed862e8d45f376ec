//! The FAILOVER command: a primary hands over to one of its replicas without losing a write (Redis 6.2 and later).
//!
//! The primary pauses writes and waits until the replica has acknowledged everything. Then it becomes its replica
//! and says so in its PSYNC, upon which the other side promotes itself. If that does not happen in time, the primary
//! takes its role back, which is only safe if the other side never got the word.

use super::message::{Error, Reply};
use super::server::{Gate, RedisSystem, Server, Timer};
use super::upstream::Upstream;
use super::values::{Addr, Offset, ReplId};
use crate::contract::{Cx, Duration, LocalTime, SessionId};

/// How often the primary looks whether the replica has everything, beside at each acknowledgement.
const STEP: Duration = Duration::from_millis(100);

/// A hand-over under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandOver {
    /// To whom; to the first that has everything if none.
    to: Option<Addr>,
    /// Hand over even if it has not everything by the deadline.
    force: bool,
    deadline: Option<LocalTime>,
    /// A replica that has acknowledged this much may take over; the whole history if not said.
    enough: Option<Offset>,
    /// We have become its replica and wait for it to take over.
    offered: bool,
}

impl Server {
    pub(super) fn failover_command<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        to: Option<Addr>,
        force: bool,
        timeout: Duration,
        abort: bool,
        gate: &impl Gate,
    ) -> Reply {
        let refuse = |text: &str| Reply::Error(Error::Other(text.into()));
        if abort {
            if self.hand_over.is_none() {
                return refuse("ERR No failover in progress.");
            }
            self.abort_hand_over(cx, gate);
            return Reply::Ok;
        }
        if self.hand_over.is_some() {
            return refuse("ERR FAILOVER already in progress.");
        }
        if !self.is_primary() {
            return refuse("ERR FAILOVER is not valid when server is a replica.");
        }
        if !self.attached().any(|(_, _, attached)| to.is_none_or(|to| to == attached.addr)) {
            return refuse("ERR FAILOVER target HOST and PORT is not a replica.");
        }
        let deadline = (!timeout.is_zero()).then(|| cx.now() + timeout);
        let offset = self.history.offset;
        let nobody_is_equal = self.attached().all(|(_, _, attached)| attached.acked != offset);
        // Who answers the question has processed all before it, and the question too.
        let enough = (self.settings.asks_before_hand_over && nobody_is_equal).then_some(offset);
        self.hand_over = Some(HandOver { to, force, deadline, enough, offered: false });
        // Without end: it ends with the hand-over.
        self.pause_writes(cx, cx.now() + Duration::from_secs(u32::MAX.into()));
        if enough.is_some() {
            self.ask_acknowledgements(cx);
        }
        cx.set_timer(Timer::HandOver.into(), Duration::ZERO);
        Reply::Ok
    }

    /// Hands over to the first replica that has everything, as FAILOVER does; false if there is nobody, or no need.
    pub fn begin_hand_over<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, timeout: Duration) -> bool {
        self.is_primary()
            && !self.failover_command(cx, None, false, timeout, false, &super::server::Open).is_error()
    }

    /// Whether a hand-over is under way.
    pub fn hands_over(&self) -> bool {
        self.hand_over.is_some()
    }

    /// Looks whether the replica has everything, or time is up.
    pub(super) fn hand_over_step<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, gate: &impl Gate) {
        let Some(hand_over) = self.hand_over else { return };
        cx.set_timer(Timer::HandOver.into(), STEP);
        let late = hand_over.deadline.is_some_and(|deadline| deadline <= cx.now());
        if hand_over.offered {
            if late && !hand_over.force {
                self.abort_hand_over(cx, gate);
            }
            return;
        }
        let has_everything = |acked: Offset| match hand_over.enough {
            Some(enough) => acked >= enough,
            None => acked == self.history.offset,
        };
        let ready = self
            .attached()
            .find(|(_, _, attached)| {
                hand_over.to.is_none_or(|to| to == attached.addr) && has_everything(attached.acked)
            })
            .map(|(_, _, attached)| attached.addr);
        match (ready, late && hand_over.force, late) {
            (Some(addr), _, _) => self.offer(cx, addr, gate),
            (None, true, _) if hand_over.to.is_some() => {
                hand_over.to.into_iter().for_each(|addr| self.offer(cx, addr, gate));
            }
            (None, _, true) => self.abort_hand_over(cx, gate),
            (None, _, false) => {}
        }
    }

    /// Becomes the replica of `addr` and asks it to take over.
    fn offer<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, addr: Addr, gate: &impl Gate) {
        if let Some(hand_over) = &mut self.hand_over {
            hand_over.offered = true;
        }
        self.demote(cx, addr, gate);
        if let Some(upstream) = &mut self.upstream {
            upstream.takes_over = true;
        }
    }

    /// The other side was asked to take over by its primary.
    pub(super) fn on_psync_failover<S: RedisSystem>(
        &mut self,
        cx: &mut Cx<'_, S>,
        session: SessionId,
        from: Option<(ReplId, Offset)>,
    ) {
        let ours =
            from.is_some_and(|(id, wanted)| id == self.history.id && wanted == self.history.offset.plus(1));
        if !ours && self.is_primary() {
            let text = "ERR PSYNC FAILOVER replid must match my replid.";
            self.reply(cx, session, Reply::Error(Error::Other(text.into())));
            return;
        }
        if !self.is_primary() {
            // Promotion drops this node's replicas, but this session is not one yet.
            self.promote(cx);
        }
        self.attach(cx, session, from);
    }

    /// The stream flows from the node we handed over to.
    pub(super) fn hand_over_done<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        if self.hand_over.take().is_some() {
            cx.cancel_timer(Timer::HandOver.into());
            // What waited is executed as a replica, at the timer: it needs the caller's gate.
            cx.set_timer(Timer::PauseEnds.into(), Duration::ZERO);
        }
        self.clear_offer();
    }

    /// The other side answered otherwise than by going on: we are its replica, or it is gone; the pause ends.
    pub(super) fn hand_over_refused<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>) {
        self.hand_over_done(cx);
    }

    fn abort_hand_over<S: RedisSystem>(&mut self, cx: &mut Cx<'_, S>, gate: &impl Gate) {
        let Some(hand_over) = self.hand_over.take() else { return };
        cx.cancel_timer(Timer::HandOver.into());
        if hand_over.offered {
            self.drop_link(cx);
            self.upstream = None;
        }
        self.unpause(cx, gate);
        self.announce(cx);
    }

    fn clear_offer(&mut self) {
        if let Some(Upstream { takes_over, .. }) = &mut self.upstream {
            *takes_over = false;
        }
    }
}
