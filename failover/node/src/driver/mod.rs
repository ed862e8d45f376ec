//! The production driver: runs one [`Node`] over sockets, files and clocks.
//!
//! One task calls the node's handlers and executes their effects, in order, before the next handler; tasks of the
//! sessions only move bytes. All of them live on the node's own task set and end with it. Nothing here decides: when
//! to dial, what to answer and what to persist is the node's.
//!
//! Bounds: what a stalled peer costs is its outbox ([`Limits::outbox`]) and the bytes of one unfinished message; a
//! node that is behind stops reading.

mod clock;
mod codec;
mod gate;
mod net;
mod session;

pub use clock::Clock;
pub use codec::{BadInput, Codec, Framed, Frames, Side, Wire};
pub use gate::{Caster, Direction, Gate, Shaper};
pub use net::{Net, Opening, TokioNet, v4};

use crate::disk::{Disk, Storage};
use crate::tls::Refusal;
use bytes::BytesMut;
use firedrill_protocols::contract::*;
use session::{Outbox, Place, SessionEvent};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::rc::Rc;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

/// What a peer, or many of them, can cost at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes that may wait for one peer; when another message comes on top, the session ends. One message may
    /// exceed it by its own size, or no snapshot could ever be sent.
    pub outbox: usize,
    /// Bytes of one unfinished message.
    pub inbox: usize,
    /// Sessions at a time; further peers are turned away.
    pub sessions: usize,
    /// How long the network tries to connect: Linux gives up after 127 s (six retries of SYN, doubling from 1 s).
    pub connect: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { outbox: 8 << 20, inbox: 64 << 20, sessions: 10_000, connect: Duration::from_secs(127) }
    }
}

/// What a node tells the world: answers of client roles, facts, and orders to an orchestrator.
pub trait Reports<S: System> {
    /// A client role answered its workload.
    fn complete(&mut self, request: RequestId, outcome: Outcome, by: Option<SocketAddrV4>);
    /// A fact was announced.
    fn observe(&mut self, shard: Shard, fact: Observation);
    /// The node acts as the orchestrator of another process.
    fn orchestrate(&mut self, target: SocketAddrV4, action: Orchestration) {
        let _ = (target, action);
    }
    /// The node starts a program; whoever runs it tells its end by [`Handle::child_ended`].
    fn run(&mut self, child: ChildId, program: &str, arguments: &[String]) {
        let _ = (child, program, arguments);
    }
    /// The node kills one.
    fn kill_child(&mut self, child: ChildId) {
        let _ = child;
    }
    /// A message came; told before the node gets it.
    fn received(&mut self, link: Direction, message: &S::Message) {
        let _ = (link, message);
    }
    /// The node froze between a decision and the effects of it, as [`Handle::hold`] asked.
    fn held(&mut self) {}
}

/// What a host name means to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// This host.
    Host(Ipv4Addr),
    /// No such name.
    Unknown,
    /// An address that nothing answers, not even with a refusal.
    BlackHole,
    /// Nothing is said of it here: the network knows.
    AskNetwork,
}

/// Says what host names mean.
pub type Resolver = Box<dyn Fn(&str) -> Resolved>;

/// What the world asks of a node.
#[derive(Debug)]
enum Input {
    Request { request: RequestId, op: Op, deadline: Duration },
    Signal(Signal),
    ChildEnded(ChildId, Ended),
}

/// A node that its driver and those who look at it share.
type Shared<S> = Rc<RefCell<Box<dyn Node<S>>>>;

/// A grip on a running node. Clones hold the same node.
pub struct Handle<S: System> {
    inputs: mpsc::UnboundedSender<Input>,
    hold: Rc<Hold>,
    steps: Rc<Cell<u64>>,
    node: std::rc::Weak<RefCell<Box<dyn Node<S>>>>,
}

impl<S: System> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Handle {
            inputs: self.inputs.clone(),
            hold: self.hold.clone(),
            steps: self.steps.clone(),
            node: self.node.clone(),
        }
    }
}

impl<S: System> Handle<S> {
    /// Ask a client role for an operation. If the node is gone, nobody will answer.
    pub fn request(&self, request: RequestId, op: Op, deadline: Duration) {
        let _ = self.inputs.send(Input::Request { request, op, deadline });
    }

    /// Send a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = self.inputs.send(Input::Signal(signal));
    }

    /// A program that the node started has ended.
    pub fn child_ended(&self, child: ChildId, ended: Ended) {
        let _ = self.inputs.send(Input::ChildEnded(child, ended));
    }

    /// Look inside, for ground truth; empty if the node is gone.
    pub fn inspect(&self) -> Vec<Inspection> {
        self.node.upgrade().map_or_else(Vec::new, |node| node.borrow().inspect())
    }

    /// Steps the node has made: one for each input it was given.
    pub fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// Let the node freeze between its next decision to send and the effects of it, until [`Handle::release`].
    pub fn hold(&self) {
        self.hold.on.set(true);
    }

    /// Let held effects go.
    pub fn release(&self) {
        self.hold.on.set(false);
        self.hold.released.notify_waiters();
    }
}

/// Holds a step's effects back.
#[derive(Debug, Default)]
struct Hold {
    on: Cell<bool>,
    released: Notify,
}

impl Hold {
    async fn released(&self) {
        loop {
            let released = self.released.notified();
            if !self.on.get() {
                return;
            }
            released.await;
        }
    }
}

/// All that a node needs to run.
pub struct Setup<S: System, N: Net, D: Storage> {
    /// Its network.
    pub net: N,
    /// Its codecs.
    pub wire: Rc<dyn Wire<S>>,
    /// Its files.
    pub disk: Disk<S, D>,
    /// Its clocks.
    pub clock: Clock,
    /// The links as it sees them.
    pub gate: Gate,
    /// Its random stream.
    pub random: ChaCha8Rng,
    /// The address it dials from, where its host has several.
    pub source: Option<Ipv4Addr>,
    /// The ports it listens on, and what is spoken there.
    pub ports: Vec<(SocketAddrV4, S::Kind)>,
    /// What host names mean here.
    pub resolver: Resolver,
    /// Who hears its announcements.
    pub reports: Box<dyn Reports<S>>,
    /// Whether anyone reads notes.
    pub notes: bool,
    /// Bounds.
    pub limits: Limits,
}

/// A node ready to run: [`Driver::run`] is its process.
pub struct Driver<S: System, N: Net, D: Storage> {
    setup: Setup<S, N, D>,
    node: Shared<S>,
    surroundings: Surroundings,
    timers: Timers<S::Timer>,
    sessions: BTreeMap<SessionId, Session<S>>,
    /// Effects that wait for a sync, by its token.
    gated: BTreeMap<Token, Vec<Effect<S>>>,
    failed_tokens: BTreeSet<Token>,
    /// Events the driver itself caused, delivered before others.
    local: VecDeque<(SessionId, SessionEvent)>,
    tasks: JoinSet<()>,
    datagram_socket: Option<Rc<N::Datagrams>>,
    /// Peers with whom there is no trust, and why: each is said once, however often it comes.
    refused: BTreeSet<(Ipv4Addr, String)>,
    refusals: Refusals,
    channels: Channels<N>,
    inputs: mpsc::UnboundedReceiver<Input>,
    hold: Rc<Hold>,
    steps: Rc<Cell<u64>>,
    listening: bool,
    exiting: bool,
}

/// Steps after which the driver lets its sessions' tasks run, however much there is to do.
const STEPS_MAX: u64 = 64;

struct Session<S: System> {
    codec: Box<dyn Codec<S>>,
    inbox: BytesMut,
    outbox: Rc<Outbox>,
    outward: Direction,
    task: tokio::task::AbortHandle,
}

/// How often one side did not trust the other.
#[derive(Debug, Default)]
struct Refusals {
    by_us: u64,
    by_peers: u64,
}

/// A stream that a peer dialled, unless the peer is not trusted.
struct Accepted<N: Net> {
    port: usize,
    stream: io::Result<N::Stream>,
    from: SocketAddrV4,
}

/// A sync that ended.
type Synced = (Token, Result<(), DiskError>);

/// What the tasks of a node tell its driver. The bound of each channel is what makes a busy node slow its peers.
struct Channels<N: Net> {
    sessions: Pair<(SessionId, SessionEvent)>,
    accepted: Pair<Accepted<N>>,
    synced: Pair<Synced>,
    datagrams: Pair<(SocketAddrV4, Vec<u8>)>,
}

struct Pair<T> {
    sender: mpsc::Sender<T>,
    receiver: mpsc::Receiver<T>,
}

fn pair<T>(bound: usize) -> Pair<T> {
    let (sender, receiver) = mpsc::channel(bound);
    Pair { sender, receiver }
}

/// The next thing to happen.
enum Next<S: System, N: Net> {
    Timer(S::Timer),
    Session(SessionId, SessionEvent),
    Accepted(Accepted<N>),
    Synced(Synced),
    Datagram(SocketAddrV4, Vec<u8>),
    Input(Input),
}

/// How a node's process ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exited;

impl<S: System, N: Net, D: Storage> Driver<S, N, D> {
    /// A node and the grip on it. Nothing happens before [`Driver::run`].
    pub fn new(node: Box<dyn Node<S>>, setup: Setup<S, N, D>) -> (Self, Handle<S>) {
        let (sender, inputs) = mpsc::unbounded_channel();
        let hold = Rc::new(Hold::default());
        let steps = Rc::new(Cell::new(0));
        let node: Shared<S> = Rc::new(RefCell::new(node));
        let handle =
            Handle { inputs: sender, hold: hold.clone(), steps: steps.clone(), node: Rc::downgrade(&node) };
        let surroundings = Surroundings {
            now: LocalTime::default(),
            wall: WallTime::default(),
            random: setup.random.clone(),
            next_session: 0,
            next_token: 0,
            notes: setup.notes,
        };
        let channels =
            Channels { sessions: pair(64), accepted: pair(64), synced: pair(64), datagrams: pair(64) };
        let driver = Driver {
            setup,
            node,
            surroundings,
            timers: Timers::default(),
            sessions: BTreeMap::new(),
            gated: BTreeMap::new(),
            failed_tokens: BTreeSet::new(),
            local: VecDeque::new(),
            tasks: JoinSet::new(),
            datagram_socket: None,
            refused: BTreeSet::new(),
            refusals: Refusals::default(),
            channels,
            inputs,
            hold,
            steps,
            listening: false,
            exiting: false,
        };
        (driver, handle)
    }

    /// Run until the node exits. Must be polled inside a `LocalSet`; dropping the future kills the process.
    ///
    /// # Errors
    /// A port cannot be bound, or the disk cannot be read.
    pub async fn run(mut self) -> io::Result<Exited> {
        let image = self.setup.disk.load()?;
        if !self.listening {
            self.listen().await?;
        }
        if self.setup.net.round_trips() > 0 {
            let none = Observation::Gauge { name: "tls_refused", value: 0 };
            self.setup.reports.observe(Shard(0), none);
        }
        self.step(|node, cx| node.start(cx, &image)).await;
        drop(image);
        while !self.exiting {
            let next = self.next().await;
            self.handle(next).await;
        }
        self.leave().await;
        Ok(Exited)
    }

    /// Bind the ports before the node runs: who dials meanwhile waits. [`Driver::run`] does it otherwise.
    ///
    /// # Errors
    /// A port cannot be bound.
    pub async fn listen(&mut self) -> io::Result<()> {
        self.listening = true;
        for (port, &(addr, kind)) in self.setup.ports.iter().enumerate() {
            if self.setup.wire.takes_datagrams(kind) {
                let socket = Rc::new(self.setup.net.bind_datagrams(addr).await?);
                self.datagram_socket = Some(socket.clone());
                let received = self.channels.datagrams.sender.clone();
                self.tasks.spawn_local(receive_all(self.setup.net.clone(), socket, received));
                continue;
            }
            let listener = self.setup.net.bind(addr).await?;
            let door = Door {
                net: self.setup.net.clone(),
                port,
                clock: self.setup.clock.clone(),
                accepted: self.channels.accepted.sender.clone(),
            };
            self.tasks.spawn_local(accept_all(door, listener));
        }
        Ok(())
    }

    /// Due timers first, as they are the oldest; then what the driver caused; then the world, in a fixed order.
    async fn next(&mut self) -> Next<S, N> {
        if self.steps.get().is_multiple_of(STEPS_MAX) {
            tokio::task::yield_now().await;
        }
        if let Some(timer) = self.timers.pop_due(self.setup.clock.now()) {
            return Next::Timer(timer);
        }
        if let Some((session, event)) = self.local.pop_front() {
            return Next::Session(session, event);
        }
        loop {
            self.bury_tasks();
            let deadline = self.timers.next_deadline();
            let channels = &mut self.channels;
            tokio::select! {
                biased;
                Some(input) = self.inputs.recv() => return Next::Input(input),
                Some(synced) = channels.synced.receiver.recv() => return Next::Synced(synced),
                Some((session, event)) = channels.sessions.receiver.recv() => return Next::Session(session, event),
                Some(accepted) = channels.accepted.receiver.recv() => return Next::Accepted(accepted),
                Some((from, bytes)) = channels.datagrams.receiver.recv() => return Next::Datagram(from, bytes),
                () = sleep_until(&self.setup.clock, deadline) => {
                    if let Some(timer) = self.timers.pop_due(self.setup.clock.now()) {
                        return Next::Timer(timer);
                    }
                }
            }
        }
    }

    /// Finished session tasks are of no interest, they told what they had to tell; but a panic is ours.
    fn bury_tasks(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }

    async fn handle(&mut self, next: Next<S, N>) {
        match next {
            Next::Timer(timer) => self.step(|node, cx| node.on_timer(cx, timer)).await,
            Next::Session(session, event) => self.session_event(session, event).await,
            Next::Accepted(accepted) => self.accept(accepted).await,
            Next::Synced((token, result)) => self.synced(token, result).await,
            Next::Datagram(from, bytes) => {
                if let Some(message) = self.setup.wire.decode_datagram(&bytes) {
                    self.step(|node, cx| node.on_datagram(cx, from, message)).await;
                }
            }
            Next::Input(Input::Request { request, op, deadline }) => {
                self.step(|node, cx| node.on_request(cx, request, op, deadline)).await;
            }
            Next::Input(Input::Signal(signal)) => self.step(|node, cx| node.on_signal(cx, signal)).await,
            Next::Input(Input::ChildEnded(child, ended)) => {
                self.step(|node, cx| node.on_child_ended(cx, child, ended)).await;
            }
        }
    }

    /// Call one handler, then execute its effects in order.
    async fn step(&mut self, handler: impl FnOnce(&mut dyn Node<S>, &mut Cx<'_, S>)) {
        self.surroundings.now = self.setup.clock.now();
        self.surroundings.wall = self.setup.clock.wall();
        let mut effects = Vec::new();
        handler(&mut **self.node.borrow_mut(), &mut Cx::new(&mut self.surroundings, &mut effects));
        self.steps.set(self.steps.get() + 1);
        if self.hold.on.get() && effects.iter().any(|effect| matches!(effect, Effect::Send { .. })) {
            self.setup.reports.held();
            self.hold.released().await;
        }
        for effect in effects {
            if self.exiting {
                return;
            }
            self.execute(effect).await;
        }
    }

    async fn execute(&mut self, effect: Effect<S>) {
        match effect {
            Effect::Busy { span } => {
                let until = self.setup.clock.now() + span;
                self.setup.clock.sleep_until(until).await;
            }
            Effect::Cast { to, message } => self.cast(to, &message),
            Effect::After { token, effect } => self.execute_after(token, *effect),
            effect => self.execute_now(effect),
        }
    }

    /// The effects that take no time.
    fn execute_now(&mut self, effect: Effect<S>) {
        match effect {
            Effect::Open { session, to, kind } => self.open(session, to, kind),
            Effect::Send { session, message } => self.send(session, message),
            Effect::Close { session } => self.close(session),
            Effect::SetTimer { timer, after } => self.timers.set(timer, self.setup.clock.now() + after),
            Effect::CancelTimer { timer } => self.timers.cancel(timer),
            Effect::Append { file, record } => self.setup.disk.append(file, &record),
            Effect::Truncate { file, records } => self.setup.disk.truncate(file, records),
            Effect::Replace { file, record } => self.setup.disk.replace(file, &record),
            Effect::Sync { file, token } => self.sync(file, token),
            Effect::Complete { request, outcome, by } => self.setup.reports.complete(request, outcome, by),
            Effect::Observe { shard, fact } => self.setup.reports.observe(shard, fact),
            Effect::Orchestrate { target, action } => self.setup.reports.orchestrate(target, action),
            Effect::Run { child, program, arguments } => {
                self.setup.reports.run(child, &program, &arguments);
            }
            Effect::KillChild { child } => self.setup.reports.kill_child(child),
            Effect::Exit => self.exiting = true,
            Effect::Busy { .. } | Effect::Cast { .. } | Effect::After { .. } => {
                unreachable!("only a send, an answer or a fact can wait for a sync")
            }
        }
    }

    fn execute_after(&mut self, token: Token, effect: Effect<S>) {
        if let Some(waiting) = self.gated.get_mut(&token) {
            waiting.push(effect);
        } else if !self.failed_tokens.contains(&token) {
            self.execute_now(effect);
        }
    }

    // ------------------------------------------------------------------------------------------------- sessions

    fn open(&mut self, session: SessionId, to: Endpoint, kind: S::Kind) {
        let outbox = Rc::new(Outbox::default());
        let codec = self.setup.wire.codec(kind, Side::Dialled);
        let target = match to {
            Endpoint::Addr(addr) => Target::Addr(addr),
            Endpoint::Name(name, port) => match (self.setup.resolver)(&name) {
                Resolved::Host(host) => Target::Addr(SocketAddrV4::new(host, port)),
                Resolved::Unknown => Target::Nobody,
                Resolved::BlackHole => Target::BlackHole,
                Resolved::AskNetwork => Target::Name(name, port),
            },
        };
        let host = match &target {
            Target::Addr(addr) => *addr.ip(),
            Target::Name(..) | Target::Nobody | Target::BlackHole => Ipv4Addr::UNSPECIFIED,
        };
        let outward = (self.own_host(), host);
        let dial = Dial {
            net: self.setup.net.clone(),
            source: self.setup.source,
            target,
            limit: self.setup.limits.connect,
            clock: self.setup.clock.clone(),
        };
        let place = self.place(session, outward);
        let task = self.tasks.spawn_local(dial_and_serve(dial, outbox.clone(), place));
        self.sessions.insert(session, Session { codec, inbox: BytesMut::new(), outbox, outward, task });
    }

    /// The address that stands for this host on links.
    fn own_host(&self) -> Ipv4Addr {
        let first_port = || self.setup.ports.first().map(|(addr, _)| *addr.ip());
        self.setup.source.or_else(first_port).unwrap_or(Ipv4Addr::LOCALHOST)
    }

    fn place(&self, session: SessionId, outward: Direction) -> Place {
        Place {
            session,
            gate: self.setup.gate.clone(),
            outward,
            peer_boot: self.setup.gate.boot(outward.1),
            events: self.channels.sessions.sender.clone(),
        }
    }

    async fn accept(&mut self, accepted: Accepted<N>) {
        let Accepted { port, stream, from } = accepted;
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                // Of peers that just went away nothing is said.
                return Refusal::of(&error).into_iter().for_each(|why| self.count_refused(*from.ip(), &why));
            }
        };
        if self.sessions.len() >= self.setup.limits.sessions {
            return;
        }
        let kind = self.setup.ports[port].1;
        let session = SessionId(self.surroundings.next_session);
        self.surroundings.next_session += 1;
        let outward = (self.own_host(), *from.ip());
        let outbox = Rc::new(Outbox::default());
        let codec = self.setup.wire.codec(kind, Side::Accepted);
        let place = self.place(session, outward);
        let task = self.tasks.spawn_local(session::serve(stream, outbox.clone(), place));
        self.sessions.insert(session, Session { codec, inbox: BytesMut::new(), outbox, outward, task });
        self.step(|node, cx| node.on_open(cx, session, Opened::Accepted { kind, from })).await;
    }

    /// Say and count that a peer and we do not trust each other.
    fn count_refused(&mut self, peer: Ipv4Addr, why: &Refusal) {
        let reports = &mut self.setup.reports;
        if self.setup.notes && self.refused.insert((peer, why.to_string())) {
            reports.observe(Shard(0), Observation::Note(format!("TLS with {peer}: {why}")));
        }
        let (name, count) = match why {
            Refusal::ByPeer(_) => ("tls_refused_by_peers", &mut self.refusals.by_peers),
            _ => ("tls_refused", &mut self.refusals.by_us),
        };
        *count += 1;
        reports.observe(Shard(0), Observation::Gauge { name, value: *count });
    }

    fn send(&mut self, session: SessionId, message: S::Message) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        if state.outbox.waiting() > self.setup.limits.outbox {
            return self.lose(session, Closed::Reset);
        }
        let mut out = BytesMut::new();
        state.codec.encode(message, &mut out);
        push(state, &mut out);
    }

    /// Close in good order: what was sent still leaves.
    fn close(&mut self, session: SessionId) {
        if let Some(state) = self.sessions.remove(&session) {
            state.outbox.close();
        }
    }

    /// End a session at once and tell the node.
    fn lose(&mut self, session: SessionId, why: Closed) {
        if let Some(state) = self.sessions.get(&session) {
            state.task.abort();
            self.local.push_back((session, SessionEvent::Closed(why)));
        }
    }

    async fn session_event(&mut self, session: SessionId, event: SessionEvent) {
        if !self.sessions.contains_key(&session) {
            return;
        }
        match event {
            SessionEvent::Open => self.step(|node, cx| node.on_open(cx, session, Opened::Dialled)).await,
            SessionEvent::Data(bytes) => self.data(session, &bytes).await,
            SessionEvent::Refused(peer, why) => self.count_refused(peer, &why),
            SessionEvent::Closed(why) => {
                self.sessions.remove(&session);
                self.step(|node, cx| node.on_close(cx, session, why)).await;
            }
        }
    }

    /// Decode what there is, one step of the node for each message; a step may end the session.
    async fn data(&mut self, session: SessionId, bytes: &[u8]) {
        if let Some(state) = self.sessions.get_mut(&session) {
            state.inbox.extend_from_slice(bytes);
        }
        while let Some(state) = self.sessions.get_mut(&session) {
            let mut out = BytesMut::new();
            let decoded = state.codec.decode(&mut state.inbox, &mut out);
            push(state, &mut out);
            match decoded {
                Ok(Some(message)) => {
                    let link = (state.outward.1, state.outward.0);
                    self.setup.reports.received(link, &message);
                    self.step(|node, cx| node.on_message(cx, session, message)).await;
                    if self.exiting {
                        return;
                    }
                }
                Ok(None) if state.inbox.len() <= self.setup.limits.inbox => {
                    return;
                }
                Ok(None) | Err(_) => return self.hang_up(session),
            }
        }
    }

    /// The peer broke the protocol: what we have to say to that still leaves, then the session is over.
    fn hang_up(&mut self, session: SessionId) {
        if let Some(state) = self.sessions.get(&session) {
            state.outbox.close();
            self.local.push_back((session, SessionEvent::Closed(Closed::Reset)));
        }
    }

    /// A cut drops datagrams, a slow link keeps them for a while; in that time they depend on this process.
    fn cast(&mut self, to: SocketAddrV4, message: &S::Message) {
        let (Some(socket), Some(bytes)) = (&self.datagram_socket, self.setup.wire.encode_datagram(message))
        else {
            return;
        };
        let link = (self.own_host(), *to.ip());
        if !self.setup.gate.is_open(link) {
            return self.setup.gate.count(link);
        }
        for delay in self.setup.gate.copies(link, bytes.len()) {
            let (net, socket, bytes) = (self.setup.net.clone(), socket.clone(), bytes.clone());
            self.tasks.spawn_local(async move {
                tokio::time::sleep(delay).await;
                // A datagram that cannot be sent is a lost datagram.
                let _ = net.send_datagram(&socket, &bytes, to).await;
            });
        }
    }

    // ----------------------------------------------------------------------------------------------------- disk

    fn sync(&mut self, file: &'static str, token: Token) {
        self.gated.insert(token, Vec::new());
        let synced = self.setup.disk.sync(file);
        let done = self.channels.synced.sender.clone();
        self.tasks.spawn_local(async move {
            let result = synced.await;
            let _ = done.send((token, result)).await;
        });
    }

    async fn synced(&mut self, token: Token, result: Result<(), DiskError>) {
        let waiting = self.gated.remove(&token).unwrap_or_default();
        match result {
            Ok(()) => waiting.into_iter().for_each(|effect| self.execute_now(effect)),
            Err(_) => {
                self.failed_tokens.insert(token);
            }
        }
        self.step(|node, cx| node.on_synced(cx, token, result)).await;
    }

    /// The end in good order: peers get what was sent.
    async fn leave(mut self) {
        for state in self.sessions.values() {
            state.outbox.close();
        }
        self.sessions.clear();
        // Accepting and receiving never end by themselves; sessions do, within their linger time.
        self.channels.sessions.receiver.close();
        let linger = Duration::from_millis(500);
        let _ = tokio::time::timeout(linger, async { while self.tasks.join_next().await.is_some() {} }).await;
    }
}

/// Queue encoded bytes.
fn push<S: System>(state: &Session<S>, out: &mut BytesMut) {
    if !out.is_empty() {
        state.outbox.push(out);
    }
}

async fn sleep_until(clock: &Clock, deadline: Option<LocalTime>) {
    match deadline {
        Some(deadline) => clock.sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Where peers come in.
struct Door<N: Net> {
    net: N,
    port: usize,
    clock: Clock,
    accepted: mpsc::Sender<Accepted<N>>,
}

/// Peers whose trust is being established at a time; further ones wait in the host's queue.
const GREETINGS_MAX: usize = 256;
/// A peer that has not proved itself by then is let go.
const GREETING_MAX: Duration = Duration::from_secs(10);

async fn accept_all<N: Net>(door: Door<N>, listener: N::Listener) {
    let door = Rc::new(door);
    let mut greetings = JoinSet::new();
    loop {
        while greetings.try_join_next().is_some() {}
        if greetings.len() >= GREETINGS_MAX {
            greetings.join_next().await;
        }
        match door.net.accept(&listener).await {
            Ok((stream, from)) if door.net.round_trips() == 0 => {
                let accepted = Accepted { port: door.port, stream: Ok(stream), from };
                if door.accepted.send(accepted).await.is_err() {
                    return;
                }
            }
            // One that is slow to prove itself must not keep the others out.
            Ok((stream, from)) => drop(greetings.spawn_local(greet(door.clone(), stream, from))),
            // Out of descriptors, or a peer that gave up in the queue: both pass.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn greet<N: Net>(door: Rc<Door<N>>, stream: N::Stream, from: SocketAddrV4) {
    let opening = Opening { side: Side::Accepted, peer: from, wall: door.clock.wall() };
    let Ok(stream) = tokio::time::timeout(GREETING_MAX, door.net.secure(stream, opening)).await else {
        return;
    };
    // The driver is gone only when the node ends.
    let _ = door.accepted.send(Accepted { port: door.port, stream, from }).await;
}

async fn receive_all<N: Net>(
    net: N,
    socket: Rc<N::Datagrams>,
    received: mpsc::Sender<(SocketAddrV4, Vec<u8>)>,
) {
    let mut buffer = vec![0u8; 64 << 10];
    loop {
        match net.receive_datagram(&socket, &mut buffer).await {
            Ok((length, from)) => {
                if received.send((from, buffer[..length].to_vec())).await.is_err() {
                    return;
                }
            }
            // A refused datagram shows up here on Linux; it is as lost as any other.
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

struct Dial<N> {
    net: N,
    source: Option<Ipv4Addr>,
    target: Target,
    limit: Duration,
    clock: Clock,
}

/// Where a dial goes.
enum Target {
    Addr(SocketAddrV4),
    Name(std::sync::Arc<str>, u16),
    Nobody,
    BlackHole,
}

async fn dial_and_serve<N: Net>(dial: Dial<N>, outbox: Rc<Outbox>, mut place: Place) {
    let target = match dial.target {
        Target::Addr(addr) => Some(addr),
        Target::Name(name, port) => dial.net.resolve(&name, port).await,
        Target::Nobody => None,
        Target::BlackHole => {
            tokio::time::sleep(dial.limit).await;
            return place.tell(SessionEvent::Closed(Closed::Timeout)).await;
        }
    };
    let Some(target) = target else {
        return place.tell(SessionEvent::Closed(Closed::Unresolved)).await;
    };
    place.outward.1 = *target.ip();
    let back = (place.outward.1, place.outward.0);
    let connect = async {
        place.gate.pass_both(place.outward).await;
        tokio::time::sleep(place.gate.delay(place.outward, HANDSHAKE_BYTES)).await;
        let stream = dial.net.connect(dial.source, target).await;
        tokio::time::sleep(place.gate.delay(back, HANDSHAKE_BYTES)).await;
        // The answer, a refusal too, comes through the link.
        place.gate.pass(back).await;
        let stream = stream?;
        for _ in 0..dial.net.round_trips() {
            tokio::time::sleep(place.gate.delay(place.outward, HANDSHAKE_BYTES)).await;
            tokio::time::sleep(place.gate.delay(back, CERTIFICATE_BYTES)).await;
        }
        let opening = Opening { side: Side::Dialled, peer: target, wall: dial.clock.wall() };
        dial.net.secure(stream, opening).await
    };
    match tokio::time::timeout(dial.limit, connect).await {
        Ok(Ok(stream)) => {
            place.peer_boot = place.gate.boot(place.outward.1);
            place.tell(SessionEvent::Open).await;
            session::serve(stream, outbox, place).await;
        }
        Ok(Err(error)) => place.tell_failed(&error).await,
        Err(_) => place.tell(SessionEvent::Closed(Closed::Timeout)).await,
    }
}

/// Bytes of a packet that opens a connection.
const HANDSHAKE_BYTES: usize = 64;
/// Bytes of a server's answer with its certificate.
const CERTIFICATE_BYTES: usize = 1024;

/// The node's timers, in order of deadline and then of setting.
#[derive(Debug)]
struct Timers<T> {
    queue: BTreeMap<(LocalTime, u64), T>,
    places: BTreeMap<T, (LocalTime, u64)>,
    count: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Timers { queue: BTreeMap::new(), places: BTreeMap::new(), count: 0 }
    }
}

impl<T: Copy + Ord> Timers<T> {
    fn set(&mut self, timer: T, deadline: LocalTime) {
        self.cancel(timer);
        self.count += 1;
        self.queue.insert((deadline, self.count), timer);
        self.places.insert(timer, (deadline, self.count));
    }

    fn cancel(&mut self, timer: T) {
        if let Some(place) = self.places.remove(&timer) {
            self.queue.remove(&place);
        }
    }

    fn next_deadline(&self) -> Option<LocalTime> {
        self.queue.keys().next().map(|&(deadline, _)| deadline)
    }

    fn pop_due(&mut self, now: LocalTime) -> Option<T> {
        let (&(deadline, _), _) = self.queue.first_key_value()?;
        if deadline > now {
            return None;
        }
        let (_, timer) = self.queue.pop_first()?;
        self.places.remove(&timer);
        Some(timer)
    }
}
