//! RESP-like: pipelined commands answered in order, one session turned into a subscription, and an operator who kills
//! the clients of one type.

use firedrill_protocols::contract::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub struct Pipeline;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    Set(String, u64),
    Get(String),
    Subscribe(String),
    Publish(String, String),
    /// Close all sessions that are (or are not) subscribed, but the one that asks.
    ClientKill {
        subscribed: bool,
    },
    Ok,
    Value(Option<u64>),
    Count(usize),
    Push(String, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Client,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {}

impl System for Pipeline {
    const NAME: &'static str = "toy-pipeline";
    type Message = Message;
    type Kind = Kind;
    type Timer = Timer;
    type Record = ();

    fn wire_size(message: &Message) -> usize {
        16 + match message {
            Message::Set(key, _) | Message::Get(key) | Message::Subscribe(key) => key.len(),
            Message::Publish(channel, text) | Message::Push(channel, text) => channel.len() + text.len(),
            _ => 0,
        }
    }
}

/// The server.
#[derive(Debug, Default)]
pub struct Server {
    data: BTreeMap<String, u64>,
    /// Every open session with the channels it listens to.
    sessions: BTreeMap<SessionId, BTreeSet<String>>,
}

impl Server {
    fn publish(&mut self, cx: &mut Cx<'_, Pipeline>, channel: &str, text: &str) -> usize {
        let subscribers = self.sessions.iter().filter(|(_, channels)| channels.contains(channel));
        let mut count = 0;
        for (&session, _) in subscribers {
            cx.send(session, Message::Push(channel.to_owned(), text.to_owned()));
            count += 1;
        }
        count
    }

    fn kill(&mut self, cx: &mut Cx<'_, Pipeline>, asking: SessionId, subscribed: bool) -> usize {
        let killed: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|&(&session, channels)| session != asking && channels.is_empty() != subscribed)
            .map(|(&session, _)| session)
            .collect();
        for &session in &killed {
            self.sessions.remove(&session);
            cx.close(session);
        }
        killed.len()
    }
}

impl Node<Pipeline> for Server {
    fn start(&mut self, _cx: &mut Cx<'_, Pipeline>, _disk: &DiskImage<Pipeline>) {}

    fn on_open(&mut self, _cx: &mut Cx<'_, Pipeline>, session: SessionId, _opened: Opened<Kind>) {
        self.sessions.insert(session, BTreeSet::new());
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Pipeline>, session: SessionId, message: Message) {
        let answer = match message {
            Message::Set(key, value) => {
                self.data.insert(key, value);
                Message::Ok
            }
            Message::Get(key) => Message::Value(self.data.get(&key).copied()),
            Message::Subscribe(channel) => {
                let channels = self.sessions.entry(session).or_default();
                channels.insert(channel);
                Message::Count(channels.len())
            }
            Message::Publish(channel, text) => Message::Count(self.publish(cx, &channel, &text)),
            Message::ClientKill { subscribed } => Message::Count(self.kill(cx, session, subscribed)),
            Message::Ok | Message::Value(_) | Message::Count(_) | Message::Push(..) => {
                return cx.close(session);
            }
        };
        cx.send(session, answer);
    }

    fn on_close(&mut self, _cx: &mut Cx<'_, Pipeline>, session: SessionId, _why: Closed) {
        self.sessions.remove(&session);
    }

    fn on_timer(&mut self, _cx: &mut Cx<'_, Pipeline>, timer: Timer) {
        match timer {}
    }
}

/// Opens a subscription, a bystander and a session for commands; pipelines on the last; ends with two kills.
#[derive(Debug)]
pub struct Client {
    server: SocketAddrV4,
    names: BTreeMap<SessionId, &'static str>,
    request: Option<RequestId>,
    commands: Option<SessionId>,
    transcript: Vec<String>,
}

/// What the client must have seen: answers in the order of the commands, the push before the answer of the command
/// that caused it is known elsewhere, and both kills as an end of the stream after everything sent before it.
pub const TRANSCRIPT: &[&str] = &[
    "subscriber: Count(1)",
    "commands: Ok",
    "commands: Ok",
    "commands: Value(Some(2))",
    "commands: Value(None)",
    "commands: Count(1)",
    "subscriber: Push(\"news\", \"hello\")",
    "bystander: Eof",
    "commands: Count(1)",
    "subscriber: Eof",
    "commands: Count(1)",
];

impl Client {
    pub fn new(server: SocketAddrV4) -> Self {
        Client { server, names: BTreeMap::new(), request: None, commands: None, transcript: Vec::new() }
    }

    fn open(&mut self, cx: &mut Cx<'_, Pipeline>, name: &'static str) -> SessionId {
        let session = cx.open(self.server, Kind::Client);
        self.names.insert(session, name);
        session
    }

    fn saw(&mut self, cx: &mut Cx<'_, Pipeline>, session: SessionId, what: String) {
        let name = self.names.get(&session).copied().unwrap_or("nobody");
        self.transcript.push(format!("{name}: {what}"));
        if self.transcript.len() == TRANSCRIPT.len() {
            // Three sessions race; within each the order is what counts.
            let mut lines = self.transcript.clone();
            lines.sort_by_key(|line| line.split(':').next().map(str::to_owned));
            if let Some(request) = self.request.take() {
                cx.complete(request, Outcome::Text(lines.join("\n")), Some(self.server));
            }
        }
    }
}

/// The expected transcript, grouped by session.
pub fn expected() -> String {
    let mut lines: Vec<&str> = TRANSCRIPT.to_vec();
    lines.sort_by_key(|line| line.split(':').next());
    lines.join("\n")
}

impl Node<Pipeline> for Client {
    fn start(&mut self, _cx: &mut Cx<'_, Pipeline>, _disk: &DiskImage<Pipeline>) {}

    fn on_request(&mut self, cx: &mut Cx<'_, Pipeline>, request: RequestId, _op: Op, _deadline: Duration) {
        self.request = Some(request);
        self.open(cx, "bystander");
        self.open(cx, "subscriber");
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Pipeline>, session: SessionId, _opened: Opened<Kind>) {
        match self.names[&session] {
            "subscriber" => cx.send(session, Message::Subscribe("news".into())),
            "commands" => {
                self.commands = Some(session);
                cx.send(session, Message::Set("a".into(), 1));
                cx.send(session, Message::Set("a".into(), 2));
                cx.send(session, Message::Get("a".into()));
                cx.send(session, Message::Get("b".into()));
                cx.send(session, Message::Publish("news".into(), "hello".into()));
            }
            _ => {}
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Pipeline>, session: SessionId, message: Message) {
        match &message {
            Message::Count(1) if self.names[&session] == "subscriber" => {
                self.open(cx, "commands");
            }
            Message::Push(..) => {
                let commands = self.commands.expect("pushes come after the commands");
                cx.send(commands, Message::ClientKill { subscribed: false });
                cx.send(commands, Message::ClientKill { subscribed: true });
            }
            _ => {}
        }
        self.saw(cx, session, format!("{message:?}"));
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Pipeline>, session: SessionId, why: Closed) {
        self.saw(cx, session, format!("{why:?}"));
    }

    fn on_timer(&mut self, _cx: &mut Cx<'_, Pipeline>, timer: Timer) {
        match timer {}
    }
}
