//! The context that each handler is given: all of a node's surroundings.

use super::*;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::net::SocketAddrV4;

/// What the runner tells a node at each step, and keeps between steps.
#[derive(Debug)]
pub struct Surroundings {
    /// The node's monotonic clock at this step.
    pub now: LocalTime,
    /// The node's wall clock at this step.
    pub wall: WallTime,
    /// The node's random stream.
    pub random: ChaCha8Rng,
    /// Next session number; the runner draws from it too, for sessions that peers dial.
    pub next_session: u64,
    /// Next sync token; programs that are started draw their numbers from it too.
    pub next_token: u64,
    /// Whether anyone reads notes; if not, their text is never made.
    pub notes: bool,
}

/// The context of one step: it reads the node's surroundings and collects effects.
pub struct Cx<'a, S: System> {
    surroundings: &'a mut Surroundings,
    effects: &'a mut Vec<Effect<S>>,
}

impl<'a, S: System> Cx<'a, S> {
    /// A context for one step.
    pub fn new(surroundings: &'a mut Surroundings, effects: &'a mut Vec<Effect<S>>) -> Self {
        Cx { surroundings, effects }
    }

    /// The node's monotonic clock.
    pub fn now(&self) -> LocalTime {
        self.surroundings.now
    }

    /// The node's wall clock.
    pub fn wall(&self) -> WallTime {
        self.surroundings.wall
    }

    /// The node's own random stream.
    pub fn random(&mut self) -> &mut ChaCha8Rng {
        &mut self.surroundings.random
    }

    /// Dial. The answer is `on_open` or `on_close` of the session returned here.
    pub fn open(&mut self, to: impl Into<Endpoint>, kind: S::Kind) -> SessionId {
        let session = SessionId(self.surroundings.next_session);
        self.surroundings.next_session += 1;
        self.effects.push(Effect::Open { session, to: to.into(), kind });
        session
    }

    /// Queue a message.
    pub fn send(&mut self, session: SessionId, message: S::Message) {
        self.effects.push(Effect::Send { session, message });
    }

    /// Send one datagram: it may be lost, doubled, overtaken.
    pub fn cast(&mut self, to: SocketAddrV4, message: S::Message) {
        self.effects.push(Effect::Cast { to, message });
    }

    /// End a session; `on_close` will not be called for it.
    pub fn close(&mut self, session: SessionId) {
        self.effects.push(Effect::Close { session });
    }

    /// Set or move a timer, `after` from now on the monotonic clock.
    pub fn set_timer(&mut self, timer: S::Timer, after: Duration) {
        self.effects.push(Effect::SetTimer { timer, after });
    }

    /// Forget a timer, set or not.
    pub fn cancel_timer(&mut self, timer: S::Timer) {
        self.effects.push(Effect::CancelTimer { timer });
    }

    /// Add a record to a file. Durable only after a [`Cx::sync`].
    pub fn append(&mut self, file: &'static str, record: S::Record) {
        self.effects.push(Effect::Append { file, record });
    }

    /// Keep the first `records` records of a file.
    pub fn truncate(&mut self, file: &'static str, records: usize) {
        self.effects.push(Effect::Truncate { file, records });
    }

    /// Put one record in the place of a file's content, atomically. Durable only after a [`Cx::sync`].
    pub fn replace(&mut self, file: &'static str, record: S::Record) {
        self.effects.push(Effect::Replace { file, record });
    }

    /// Make a file durable; `on_synced` tells the result.
    pub fn sync(&mut self, file: &'static str) -> Token {
        let token = Token(self.surroundings.next_token);
        self.surroundings.next_token += 1;
        self.effects.push(Effect::Sync { file, token });
        token
    }

    /// What follows leaves only once `token` is durable.
    pub fn after(&mut self, token: Token) -> After<'_, 'a, S> {
        After { cx: self, token }
    }

    /// Persist, then send: replaces the file, syncs it, and gives the door through which the answer may leave.
    pub fn persist(&mut self, file: &'static str, record: S::Record) -> After<'_, 'a, S> {
        self.replace(file, record);
        let token = self.sync(file);
        self.after(token)
    }

    /// Answer the workload; `by` is the node whose word it is.
    pub fn complete(&mut self, request: RequestId, outcome: Outcome, by: Option<SocketAddrV4>) {
        self.effects.push(Effect::Complete { request, outcome, by });
    }

    /// Announce a fact about shard 0.
    pub fn observe(&mut self, fact: Observation) {
        self.observe_shard(Shard(0), fact);
    }

    /// Announce a fact about a shard.
    pub fn observe_shard(&mut self, shard: Shard, fact: Observation) {
        self.effects.push(Effect::Observe { shard, fact });
    }

    /// Announce a step of a failover of shard 0.
    pub fn mark(&mut self, mark: Mark, about: Option<SocketAddrV4>) {
        self.observe(Observation::Mark { mark, about });
    }

    /// Tell the story; the text is made only if someone reads it.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if self.surroundings.notes {
            self.observe(Observation::Note(text()));
        }
    }

    /// Be at work for a while: later effects of this step and later inputs wait.
    pub fn busy(&mut self, span: Duration) {
        self.effects.push(Effect::Busy { span });
    }

    /// End the process in good order.
    pub fn exit(&mut self) {
        self.effects.push(Effect::Exit);
    }

    /// Act as the orchestrator of another process.
    pub fn orchestrate(&mut self, target: SocketAddrV4, action: Orchestration) {
        self.effects.push(Effect::Orchestrate { target, action });
    }

    /// Start a program on this host; `on_child_ended` tells how it ended.
    pub fn run(&mut self, program: Arc<str>, arguments: Arc<[String]>) -> ChildId {
        let child = ChildId(self.surroundings.next_token);
        self.surroundings.next_token += 1;
        self.effects.push(Effect::Run { child, program, arguments });
        child
    }

    /// End a program at once; its end is told as any other.
    pub fn kill_child(&mut self, child: ChildId) {
        self.effects.push(Effect::KillChild { child });
    }
}

/// The door behind a sync: what is said here leaves when the data is durable, and never if the sync fails.
pub struct After<'c, 'a, S: System> {
    cx: &'c mut Cx<'a, S>,
    token: Token,
}

impl<S: System> After<'_, '_, S> {
    /// Send once durable.
    pub fn send(self, session: SessionId, message: S::Message) -> Self {
        self.then(Effect::Send { session, message })
    }

    /// Answer the workload once durable.
    pub fn complete(self, request: RequestId, outcome: Outcome, by: Option<SocketAddrV4>) -> Self {
        self.then(Effect::Complete { request, outcome, by })
    }

    /// Announce once durable.
    pub fn observe(self, shard: Shard, fact: Observation) -> Self {
        self.then(Effect::Observe { shard, fact })
    }

    /// The sync this door waits for.
    pub fn token(&self) -> Token {
        self.token
    }

    fn then(self, effect: Effect<S>) -> Self {
        self.cx.effects.push(Effect::After { token: self.token, effect: Box::new(effect) });
        self
    }
}
