//! A sentinel's two connections to a watched node: one for commands, one for the hellos that others publish there.
//!
//! Commands are written without waiting for the connection to be up, and a PING that waits for its answer keeps its
//! time over reconnections: that is why a dead process is noticed after `down-after` plus at most one tick.

use super::{Kind, SentinelSystem};
use crate::contract::{Cx, Duration, SessionId, WallTime};
use crate::redis::message::{Channel, Command, Message};
use crate::redis::values::Addr;
use alloc::collections::VecDeque;

/// Periods of a link (Redis 7.0, `sentinel.c`).
pub const PING_PERIOD: Duration = Duration::from_secs(1);
/// Commands that may wait for replies before periodic ones are skipped.
const PENDING_MAX: usize = 100;
/// A link younger than this is not closed for silence.
const RECONNECT_PERIOD_MIN: Duration = Duration::from_secs(15);
/// Silence on the hello channel after which it is dialled anew: three periods of two seconds.
const HELLO_SILENCE_MAX: Duration = Duration::from_secs(6);

/// What a reply will be the reply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Ping,
    Info,
    Publish,
    Vote,
    /// Nobody looks at it.
    Other,
}

/// Both connections.
#[derive(Debug)]
pub(super) struct Link {
    pub commands: Option<SessionId>,
    commands_since: WallTime,
    pub hellos: Option<SessionId>,
    hellos_since: WallTime,
    /// Last sign of life on the hello channel.
    pub hello_heard_at: WallTime,
    /// Something was closed since the last dial.
    pub disconnected: bool,
    pub pending: VecDeque<Asked>,
    /// The last PING.
    pub ping_at: Option<WallTime>,
    /// The first PING that was not answered; it survives reconnections.
    pub unanswered_since: Option<WallTime>,
    /// The last acceptable answer to a PING.
    pub available_at: WallTime,
    /// The last answer of any kind to a PING.
    pub pong_at: WallTime,
    dialled_at: Option<WallTime>,
}

impl Link {
    /// A link that has never been up. Its silence counts from now.
    pub fn new(now: WallTime) -> Link {
        Link {
            commands: None,
            commands_since: now,
            hellos: None,
            hellos_since: now,
            hello_heard_at: now,
            disconnected: true,
            pending: VecDeque::new(),
            ping_at: None,
            unanswered_since: Some(now),
            available_at: now,
            pong_at: now,
            dialled_at: None,
        }
    }

    /// Dials what is closed, at most once a ping period; a PING goes first.
    pub fn reconnect(&mut self, cx: &mut Cx<'_, SentinelSystem>, addr: Addr, kind: Kind) -> bool {
        let now = cx.wall();
        if !self.disconnected || !older(now, self.dialled_at, PING_PERIOD) {
            return false;
        }
        self.dialled_at = Some(now);
        if self.commands.is_none() {
            self.pending.clear();
            self.commands = Some(cx.open(addr, kind));
            self.commands_since = now;
            self.send(cx, Command::ClientSetName(b"sentinel-cmd"[..].into()), Asked::Other);
            self.ping(cx);
        }
        if kind == Kind::Data && self.hellos.is_none() {
            let session = cx.open(addr, kind);
            self.hellos = Some(session);
            self.hellos_since = now;
            self.hello_heard_at = now;
            cx.send(session, Message::Command(Command::ClientSetName(b"sentinel-pubsub"[..].into())));
            cx.send(session, Message::Command(Command::Subscribe([Channel::Hello].into())));
        }
        self.disconnected = false;
        true
    }

    /// Sends a command, if there is a connection to send it on.
    pub fn send(&mut self, cx: &mut Cx<'_, SentinelSystem>, command: Command, asked: Asked) -> bool {
        let Some(session) = self.commands else { return false };
        cx.send(session, Message::Command(command));
        self.pending.push_back(asked);
        true
    }

    pub fn ping(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        let now = cx.wall();
        if self.send(cx, Command::Ping, Asked::Ping) {
            self.ping_at = Some(now);
            self.unanswered_since.get_or_insert(now);
        }
    }

    /// Whether another PING is due: no answer for `period`, and none sent in the last half of it.
    pub fn ping_due(&self, now: WallTime, period: Duration) -> bool {
        older(now, Some(self.pong_at), period) && older(now, self.ping_at, period / 2)
    }

    /// Whether so many replies are owed that periodic commands are skipped.
    pub fn is_clogged(&self) -> bool {
        self.pending.len() >= PENDING_MAX
    }

    /// A connection of ours ended. True if it was one.
    pub fn on_close(&mut self, session: SessionId) -> bool {
        if self.commands == Some(session) {
            self.commands = None;
            self.pending.clear();
        } else if self.hellos == Some(session) {
            self.hellos = None;
        } else {
            return false;
        }
        self.disconnected = true;
        true
    }

    /// Closes connections that have been silent for long, so that they are dialled anew.
    pub fn close_silent(&mut self, cx: &mut Cx<'_, SentinelSystem>, down_after: Duration) {
        let now = cx.wall();
        let half = down_after / 2;
        let silent = self.unanswered_since.is_some_and(|since| older(now, Some(since), half))
            && older(now, Some(self.pong_at), half);
        if silent && older(now, Some(self.commands_since), RECONNECT_PERIOD_MIN) {
            self.close_commands(cx);
        }
        if self.hellos.is_some()
            && older(now, Some(self.hellos_since), RECONNECT_PERIOD_MIN)
            && older(now, Some(self.hello_heard_at), HELLO_SILENCE_MAX)
        {
            self.close_hellos(cx);
        }
    }

    /// Closes both connections.
    pub fn close(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        self.close_commands(cx);
        self.close_hellos(cx);
    }

    fn close_commands(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        if let Some(session) = self.commands.take() {
            cx.close(session);
            self.pending.clear();
            self.disconnected = true;
        }
    }

    fn close_hellos(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        if let Some(session) = self.hellos.take() {
            cx.close(session);
            self.disconnected = true;
        }
    }
}

/// Whether more than `span` has passed since `then`; a moment that never was is older than anything.
pub(super) fn older(now: WallTime, then: Option<WallTime>, span: Duration) -> bool {
    let Some(then) = then else { return true };
    now.micros_since(then) > i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
