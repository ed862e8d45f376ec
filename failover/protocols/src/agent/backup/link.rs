//! How backup processes reach the object store and the data node that they read from.

use super::{SourceMessage, StoreAnswer, StoreAsk, StoreMessage};
use crate::agent::message::{Message, Route};
use crate::agent::settings::{AtPort, BACKUP_PORT, NodeId, Settings, SourceChoice};
use crate::agent::{Agent, Job, Kind, Timer};
use crate::contract::*;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// How long an answer may take before the session is taken for dead.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a link looks for answers that are late, and tries again what failed.
const LOOK: Duration = Duration::from_secs(1);

/// A client of the object store: what was asked and not answered is asked again, on a new session if need be. All
/// requests can be repeated: puts are on a condition or give the same object.
#[derive(Debug)]
pub struct StoreLink {
    address: SocketAddrV4,
    kind: Kind,
    session: Option<SessionId>,
    open: bool,
    next: u64,
    waiting: BTreeMap<u64, StoreAsk>,
    heard: LocalTime,
    looking: bool,
    /// Failed puts are tried again; off: nobody listens to the answer.
    pub heeds_failures: bool,
    failed: Vec<u64>,
}

impl StoreLink {
    /// A link to the store at `address`.
    pub fn new(address: SocketAddrV4, kind: Kind) -> Self {
        StoreLink {
            address,
            kind,
            session: None,
            open: false,
            next: 0,
            waiting: BTreeMap::new(),
            heard: LocalTime(0),
            looking: false,
            heeds_failures: true,
            failed: Vec::new(),
        }
    }

    /// How many requests are unanswered.
    pub fn open_requests(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of what waits to be stored.
    pub fn held(&self) -> u64 {
        let size = |ask: &StoreAsk| match ask {
            StoreAsk::Put { object, .. } => object.size(),
            StoreAsk::Get { .. } | StoreAsk::List | StoreAsk::Delete { .. } => 0,
        };
        self.waiting.values().map(size).sum()
    }

    /// Closes the session.
    pub fn hang_up(&mut self, cx: &mut Cx<'_, Agent>) {
        if let Some(session) = self.session.take() {
            cx.close(session);
        }
    }

    /// Nothing is unanswered.
    pub fn idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets what is unanswered.
    pub fn forget(&mut self) {
        self.waiting.clear();
        self.failed.clear();
    }

    /// Asks; the answer comes with this number.
    pub fn ask(&mut self, cx: &mut Cx<'_, Agent>, ask: StoreAsk) -> u64 {
        self.next += 1;
        let id = self.next;
        if self.waiting.is_empty() {
            self.heard = cx.now();
        }
        self.waiting.insert(id, ask.clone());
        match self.session {
            Some(session) if self.open => {
                cx.send(session, Message::Store(StoreMessage::Ask { id, ask }));
            }
            Some(_) => {}
            None => self.dial(cx),
        }
        if !core::mem::replace(&mut self.looking, true) {
            cx.set_timer(Timer::Job(Job::StoreLook), LOOK);
        }
        id
    }

    fn dial(&mut self, cx: &mut Cx<'_, Agent>) {
        self.session = Some(cx.open(self.address, self.kind));
        self.open = false;
        self.heard = cx.now();
    }

    /// Whether the session is this link's.
    pub fn owns(&self, session: SessionId) -> bool {
        self.session == Some(session)
    }

    /// The session is open: everything unanswered is asked.
    pub fn on_open(&mut self, cx: &mut Cx<'_, Agent>) {
        self.open = true;
        self.failed.clear();
        let Some(session) = self.session else { return };
        for (id, ask) in &self.waiting {
            cx.send(session, Message::Store(StoreMessage::Ask { id: *id, ask: ask.clone() }));
        }
    }

    /// The session ended; a new one is dialled at the next look.
    pub fn on_close(&mut self) {
        self.session = None;
        self.open = false;
    }

    /// An answer: what was asked, and it. `None`: it is not final, or nobody waits for it.
    pub fn on_answer(
        &mut self,
        cx: &mut Cx<'_, Agent>,
        id: u64,
        answer: StoreAnswer,
    ) -> Option<(StoreAsk, StoreAnswer)> {
        self.heard = cx.now();
        if answer == StoreAnswer::Failed && self.heeds_failures {
            self.failed.push(id);
            return None;
        }
        self.waiting.remove(&id).map(|ask| (ask, answer))
    }

    /// The time to look has come.
    pub fn look(&mut self, cx: &mut Cx<'_, Agent>) {
        self.looking = !self.waiting.is_empty();
        if !self.looking {
            return;
        }
        cx.set_timer(Timer::Job(Job::StoreLook), LOOK);
        match self.session {
            None => self.dial(cx),
            // A cut network says nothing.
            Some(session) if cx.now().since(self.heard) > PATIENCE => {
                cx.close(session);
                self.dial(cx);
            }
            Some(session) if self.open => {
                for id in core::mem::take(&mut self.failed) {
                    if let Some(ask) = self.waiting.get(&id) {
                        cx.send(session, Message::Store(StoreMessage::Ask { id, ask: ask.clone() }));
                    }
                }
            }
            Some(_) => {}
        }
    }
}

/// The way to the data node that is read: its place is asked of a router, as clients do.
#[derive(Debug)]
pub struct SourceLink {
    settings: Arc<Settings>,
    choice: SourceChoice,
    router: Option<SessionId>,
    next_router: usize,
    session: Option<SessionId>,
    open: bool,
    node: Option<NodeId>,
    /// What was asked and not answered.
    pending: Option<(SourceMessage, LocalTime)>,
}

/// What a source link has to say.
#[derive(Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// Nothing that matters to its owner.
    Nothing,
    /// The answer to what was asked.
    Answer(SourceMessage),
    /// The source is gone or changed; what was asked is forgotten.
    Lost,
}

impl SourceLink {
    /// A link that is not connected.
    pub fn new(settings: Arc<Settings>, choice: SourceChoice) -> Self {
        SourceLink {
            settings,
            choice,
            router: None,
            next_router: 0,
            session: None,
            open: false,
            node: None,
            pending: None,
        }
    }

    /// Closes the sessions.
    pub fn hang_up(&mut self, cx: &mut Cx<'_, Agent>) {
        [self.session.take(), self.router.take()].into_iter().flatten().for_each(|session| cx.close(session));
    }

    /// Asks the source, once it is found.
    pub fn ask(&mut self, cx: &mut Cx<'_, Agent>, message: SourceMessage) {
        self.pending = Some((message.clone(), cx.now()));
        match self.session {
            Some(session) if self.open => cx.send(session, Message::Source(message)),
            Some(_) => {}
            None => self.find(cx),
        }
        cx.set_timer(Timer::Job(Job::SourceLook), LOOK);
    }

    fn find(&mut self, cx: &mut Cx<'_, Agent>) {
        match self.router {
            Some(session) => cx.send(session, Message::WhereIsPrimary),
            None => {
                let routers = &self.settings.cluster.routers;
                let at = self.next_router % routers.len().max(1);
                self.router = routers.get(at).map(|address| cx.open(*address, Kind::Route));
            }
        }
    }

    /// Whether the session is one of this link's.
    pub fn owns(&self, session: SessionId) -> bool {
        self.session == Some(session) || self.router == Some(session)
    }

    /// One of its sessions is open.
    pub fn on_open(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId) {
        if self.router == Some(session) {
            return cx.send(session, Message::WhereIsPrimary);
        }
        self.open = true;
        if let Some((message, asked)) = &mut self.pending {
            *asked = cx.now();
            cx.send(session, Message::Source(message.clone()));
        }
    }

    /// A router told a route.
    pub fn on_route(&mut self, cx: &mut Cx<'_, Agent>, route: Route) -> SourceEvent {
        let Some(primary) = route.primary else { return SourceEvent::Nothing };
        let count = self.settings.cluster.data.len() as u8;
        let node = match self.choice {
            SourceChoice::Primary => primary,
            SourceChoice::Replica => NodeId(primary.0 % count + 1),
        };
        if self.node == Some(node) && self.session.is_some() {
            return SourceEvent::Nothing;
        }
        let was_connected = self.session.is_some();
        if let Some(session) = self.session.take() {
            cx.close(session);
        }
        self.node = Some(node);
        self.open = false;
        if was_connected {
            self.pending = None;
            return SourceEvent::Lost;
        }
        if self.pending.is_some() {
            let address = self.settings.cluster.address(node).at_port(BACKUP_PORT);
            self.session = Some(cx.open(address, Kind::Backup));
        }
        SourceEvent::Nothing
    }

    /// The source answered.
    pub fn on_message(&mut self, message: SourceMessage) -> SourceEvent {
        if self.pending.take().is_none() {
            return SourceEvent::Nothing;
        }
        SourceEvent::Answer(message)
    }

    /// One of its sessions ended.
    pub fn on_close(&mut self, session: SessionId) -> SourceEvent {
        if self.router == Some(session) {
            self.router = None;
            self.next_router += 1;
            return SourceEvent::Nothing;
        }
        self.session = None;
        self.open = false;
        if self.pending.take().is_some() { SourceEvent::Lost } else { SourceEvent::Nothing }
    }

    /// The time to look has come: a source that does not answer is given up.
    pub fn look(&mut self, cx: &mut Cx<'_, Agent>) -> SourceEvent {
        let Some((_, asked)) = &self.pending else { return SourceEvent::Nothing };
        if cx.now().since(*asked) > PATIENCE {
            self.pending = None;
            for session in [self.session.take(), self.router.take()].into_iter().flatten() {
                cx.close(session);
            }
            (self.open, self.next_router) = (false, self.next_router + 1);
            return SourceEvent::Lost;
        }
        if self.session.is_none() {
            self.find(cx);
        }
        cx.set_timer(Timer::Job(Job::SourceLook), LOOK);
        SourceEvent::Nothing
    }
}
