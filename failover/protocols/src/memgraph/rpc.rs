//! An RPC client as Memgraph has it: one connection, one request at a time, a lock around it; any failure closes the
//! connection.

use super::message::{Call, Forwarded, Message};
use super::{Channel, Kind, Memgraph, Timer};
use crate::contract::{Cx, Duration, Endpoint, LocalTime, SessionId};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// A connection that does not open within this time has failed. A dead process refuses at once; a black hole does not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time a server has to answer a request.
pub(super) fn timeout(call: &Call) -> Duration {
    Duration::from_secs(match call {
        Call::StateCheck | Call::FrequentHeartbeat => 5,
        Call::PrepareCommit { .. } | Call::SystemRecovery { .. } => 30,
        Call::Recover { snapshot: Some(_), .. } => 60,
        Call::Recover { snapshot: None, .. } => 30,
        Call::Forward(Forwarded::Admin(words)) => patience_for(words),
        Call::GetDatabaseHistories
        | Call::PromoteToMain { .. }
        | Call::DemoteMainToReplica { .. }
        | Call::SwapMainUuid { .. }
        | Call::RegisterReplicaOnMain { .. }
        | Call::UnregisterReplica { .. }
        | Call::UpdateConfig { .. }
        | Call::EnableWriting
        | Call::ResetData
        | Call::Forward(_)
        | Call::Heartbeat { .. }
        | Call::FinalizeCommit { .. } => 10,
    })
}

/// Time that a leader has for a query that a follower hands on: some of them wait for instances in turn.
fn patience_for(words: &str) -> u64 {
    let upper = words.to_ascii_uppercase();
    match upper.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["SET", "INSTANCE", ..] | ["FORCE", ..] => 60,
        ["REGISTER", ..] => 30,
        ["DEMOTE" | "UNREGISTER", ..] => 20,
        _ => 10,
    }
}

/// An RPC client. `T` says what a request was for.
#[derive(Debug)]
pub(super) struct Rpc<T> {
    channel: Channel,
    to: Endpoint,
    kind: Kind,
    session: Option<(SessionId, bool)>,
    current: Option<(T, Call)>,
    /// Others that wait for the lock.
    waiting: VecDeque<(T, Call)>,
    /// When the present request, or the dial for it, has taken too long.
    due: Option<LocalTime>,
    /// When the timer will fire: not later than `due`. It is not cancelled with each answer; see [`Rpc::is_overdue`].
    armed: Option<LocalTime>,
}

impl<T: Copy> Rpc<T> {
    /// A client that has not connected yet.
    pub fn new(channel: Channel, to: Endpoint, kind: Kind) -> Self {
        Rpc {
            channel,
            to,
            kind,
            session: None,
            current: None,
            waiting: VecDeque::new(),
            due: None,
            armed: None,
        }
    }

    /// A request is in flight.
    pub fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    /// The request in flight.
    pub fn current(&self) -> Option<&Call> {
        self.current.as_ref().map(|(_, call)| call)
    }

    /// This client has that session.
    pub fn has(&self, session: SessionId) -> bool {
        self.session.is_some_and(|(own, _)| own == session)
    }

    /// Asks, now or when the lock is free. The answer comes by [`Rpc::answered`], or [`Rpc::failed`].
    pub fn call(&mut self, cx: &mut Cx<'_, Memgraph>, tag: T, call: Call) {
        if self.is_busy() {
            self.waiting.push_back((tag, call));
        } else {
            self.begin(cx, tag, call);
        }
    }

    /// The session is open: the request leaves.
    pub fn opened(&mut self, cx: &mut Cx<'_, Memgraph>) {
        if let Some((session, up)) = &mut self.session {
            *up = true;
            let session = *session;
            self.transmit(cx, session);
        }
    }

    /// The answer is here: what was it for? The next request begins.
    pub fn answered(&mut self, cx: &mut Cx<'_, Memgraph>) -> Option<T> {
        let (tag, _) = self.current.take()?;
        self.due = None;
        self.next(cx);
        Some(tag)
    }

    /// The connection ended, or time is over: what failed? The next request begins, with a new connection.
    pub fn failed(&mut self, cx: &mut Cx<'_, Memgraph>) -> Option<T> {
        if let Some((session, _)) = self.session.take() {
            cx.close(session);
        }
        self.due = None;
        let failed = self.current.take();
        self.next(cx);
        failed.map(|(tag, _)| tag)
    }

    /// Gives everything up.
    pub fn shut(&mut self, cx: &mut Cx<'_, Memgraph>) {
        if let Some((session, _)) = self.session.take() {
            cx.close(session);
        }
        cx.cancel_timer(Timer::Rpc(self.channel));
        (self.due, self.armed) = (None, None);
        self.current = None;
        self.waiting.clear();
    }

    /// The timer fired: has the present request taken too long? If not, the timer is set for what is left of its time.
    pub fn is_overdue(&mut self, cx: &mut Cx<'_, Memgraph>) -> bool {
        self.armed = None;
        match self.due {
            Some(due) if due > cx.now() => {
                self.watch(cx, due.since(cx.now()));
                false
            }
            due => due.is_some(),
        }
    }

    fn watch(&mut self, cx: &mut Cx<'_, Memgraph>, span: Duration) {
        let due = cx.now() + span;
        self.due = Some(due);
        if self.armed.is_none_or(|armed| armed > due) {
            self.armed = Some(due);
            cx.set_timer(Timer::Rpc(self.channel), span);
        }
    }

    fn next(&mut self, cx: &mut Cx<'_, Memgraph>) {
        if let Some((tag, call)) = self.waiting.pop_front() {
            self.begin(cx, tag, call);
        }
    }

    fn begin(&mut self, cx: &mut Cx<'_, Memgraph>, tag: T, call: Call) {
        self.current = Some((tag, call));
        match self.session {
            Some((session, true)) => self.transmit(cx, session),
            Some((_, false)) => {}
            None => {
                let session = cx.open(self.to.clone(), self.kind);
                self.session = Some((session, false));
                self.watch(cx, CONNECT_TIMEOUT);
            }
        }
    }

    fn transmit(&mut self, cx: &mut Cx<'_, Memgraph>, session: SessionId) {
        let Some((_, call)) = &self.current else { return };
        let (limit, call) = (timeout(call), call.clone());
        self.watch(cx, limit);
        cx.send(session, Message::Call(call));
    }
}
