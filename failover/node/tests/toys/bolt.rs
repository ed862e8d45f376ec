//! Bolt-like: a statement yields records that the client pulls in batches; a failure makes the server ignore what was
//! pipelined behind it, until the client resets the session.

use firedrill_protocols::contract::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug)]
pub struct Bolt;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    Run { rows: u32 },
    Fail,
    Pull { count: u32 },
    Reset,
    Record(u32),
    Success { has_more: bool },
    Failure,
    Ignored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Bolt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {}

impl System for Bolt {
    const NAME: &'static str = "toy-bolt";
    type Message = Message;
    type Kind = Kind;
    type Timer = Timer;
    type Record = ();

    fn wire_size(_message: &Message) -> usize {
        12
    }
}

/// The state of one session of the server.
#[derive(Debug)]
enum State {
    Ready,
    Streaming { next: u32, rows: u32 },
    Failed,
}

/// The server.
#[derive(Debug, Default)]
pub struct Server {
    sessions: BTreeMap<SessionId, State>,
}

impl Node<Bolt> for Server {
    fn start(&mut self, _cx: &mut Cx<'_, Bolt>, _disk: &DiskImage<Bolt>) {}

    fn on_open(&mut self, _cx: &mut Cx<'_, Bolt>, session: SessionId, _opened: Opened<Kind>) {
        self.sessions.insert(session, State::Ready);
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Bolt>, session: SessionId, message: Message) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        match (&mut *state, message) {
            (_, Message::Reset) => {
                *state = State::Ready;
                cx.send(session, Message::Success { has_more: false });
            }
            (State::Failed, _) => cx.send(session, Message::Ignored),
            (State::Ready, Message::Run { rows }) => {
                *state = State::Streaming { next: 0, rows };
                cx.send(session, Message::Success { has_more: rows > 0 });
            }
            (State::Streaming { next, rows }, Message::Pull { count }) => {
                let end = (*next + count).min(*rows);
                for row in *next..end {
                    cx.send(session, Message::Record(row));
                }
                *next = end;
                let has_more = end < *rows;
                cx.send(session, Message::Success { has_more });
                if !has_more {
                    *state = State::Ready;
                }
            }
            _ => {
                *state = State::Failed;
                cx.send(session, Message::Failure);
            }
        }
    }

    fn on_close(&mut self, _cx: &mut Cx<'_, Bolt>, session: SessionId, _why: Closed) {
        self.sessions.remove(&session);
    }

    fn on_timer(&mut self, _cx: &mut Cx<'_, Bolt>, timer: Timer) {
        match timer {}
    }
}

/// Pipelines everything at once and writes down the answers.
#[derive(Debug)]
pub struct Client {
    server: SocketAddrV4,
    request: Option<RequestId>,
    transcript: Vec<String>,
}

/// What must come back for what [`Client`] sends.
pub const EXPECTED: &str = "Success { has_more: true }, Record(0), Record(1), Success { has_more: true }, Record(2), \
     Success { has_more: false }, Failure, Ignored, Ignored, Success { has_more: false }, \
     Success { has_more: true }, Success { has_more: false }, Failure";

/// The number of answers in [`EXPECTED`].
const ANSWERS: usize = 13;

impl Client {
    pub fn new(server: SocketAddrV4) -> Self {
        Client { server, request: None, transcript: Vec::new() }
    }
}

impl Node<Bolt> for Client {
    fn start(&mut self, _cx: &mut Cx<'_, Bolt>, _disk: &DiskImage<Bolt>) {}

    fn on_request(&mut self, cx: &mut Cx<'_, Bolt>, request: RequestId, _op: Op, _deadline: Duration) {
        self.request = Some(request);
        cx.open(self.server, Kind::Bolt);
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Bolt>, session: SessionId, _opened: Opened<Kind>) {
        let statement = [Message::Run { rows: 3 }, Message::Pull { count: 2 }, Message::Pull { count: 2 }];
        let failure = [Message::Fail, Message::Run { rows: 1 }, Message::Pull { count: 1 }, Message::Reset];
        // A reset in the middle of a result: what was not pulled is gone.
        let abandoned = [Message::Run { rows: 5 }, Message::Reset, Message::Pull { count: 5 }];
        for message in statement.into_iter().chain(failure).chain(abandoned) {
            cx.send(session, message);
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Bolt>, _session: SessionId, message: Message) {
        self.transcript.push(format!("{message:?}"));
        if self.transcript.len() == ANSWERS
            && let Some(request) = self.request.take()
        {
            cx.complete(request, Outcome::Text(self.transcript.join(", ")), Some(self.server));
        }
    }

    fn on_close(&mut self, _cx: &mut Cx<'_, Bolt>, _session: SessionId, _why: Closed) {}

    fn on_timer(&mut self, _cx: &mut Cx<'_, Bolt>, timer: Timer) {
        match timer {}
    }
}
