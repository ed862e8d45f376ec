//! The coordination service: a store of a few keys and leases, replicated by Raft.
//!
//! Behaviour follows etcd (v3.5): any member takes a request and passes it to the leader; a member without a leader
//! sends its clients away; leases are measured by the leader alone, on its own monotonic clock, and looked through
//! every 500 ms; after a change of leader every lease begins anew with its full time plus an election timeout, unless
//! checkpoints are on. One difference: a renewal goes through the log, where etcd has its leader confirm itself to a
//! quorum. Both cost one round to a quorum and both forbid a deposed leader to renew.
//!
//! How long a lease lasts and what follows its end can also be as in Consul or in ZooKeeper
//! ([`LeaseSemantics`](super::settings::LeaseSemantics)).

mod link;
mod state;

pub use link::{Link, LinkEvent};
pub use state::{
    Action, Applied, Change, Command, Guard, Leader, LeaseId, LeaseState, NodeSet, Put, Revision, Store,
    SyncSet, Transaction, View,
};

use super::message::{Answer, Ask, Body, CoordinationMessage, Message};
use super::settings::{LeaseSemantics, Settings};
use super::{Agent, Kind, Record, Timer};
use crate::contract::*;
use crate::raft::{self, Embed, Event, Member, Raft};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// How Raft travels in this system.
#[derive(Debug)]
pub enum Group {}

impl Embed for Group {
    type System = Agent;
    type Command = Command;
    type State = ();
    const KIND: Kind = Kind::Raft;
    fn message(message: raft::Message<Command, ()>) -> Message {
        Message::Raft(message)
    }
    fn timer(timer: raft::Timer) -> Timer {
        Timer::Raft(timer)
    }
    fn record(record: raft::Record<Command, ()>) -> Record {
        Record::Raft(record)
    }
    fn unwrap(record: &Record) -> Option<&raft::Record<Command, ()>> {
        match record {
            Record::Raft(record) => Some(record),
            Record::Wal(_)
            | Record::Meta { .. }
            | Record::Branch(_)
            | Record::Memory(_)
            | Record::Block(_)
            | Record::Reservations(_)
            | Record::Update(_)
            | Record::Store(_)
            | Record::Handed(_) => None,
        }
    }
}

/// The times of the group: etcd's 100 ms heartbeat and 1 s election timeout.
pub fn raft_config() -> raft::Config {
    raft::Config {
        heartbeat: Duration::from_millis(100),
        election_min: Duration::from_millis(1_000),
        election_max: Duration::from_millis(2_000),
        leadership_expiry: Some(Duration::from_millis(1_000)),
        pre_vote: true,
        request_timeout: Duration::from_millis(2_000),
        response_limit: Duration::from_millis(1_000),
        batch_max: 64,
        stores_group: true,
    }
}

/// A request whose answer is owed: to whom, and its name.
#[derive(Clone, Copy, Debug)]
struct Owed {
    session: SessionId,
    client: u64,
    sequence: u64,
}

/// The way to the leader for requests of our own clients.
struct Forward {
    session: SessionId,
    open: bool,
    waiting: Vec<Ask>,
}

/// One member.
pub struct Coordinator {
    settings: Arc<Settings>,
    raft: Raft<Group>,
    store: Store,
    /// When each lease ends on our clock; only the leader's opinion counts.
    ends: BTreeMap<LeaseId, LocalTime>,
    clients: BTreeSet<SessionId>,
    watchers: BTreeSet<SessionId>,
    tickets: BTreeMap<u64, Owed>,
    next_ticket: u64,
    forward: Option<Forward>,
    forwarded: Vec<Owed>,
    last_answer: Answer,
    /// Nobody gets the leader's key before this moment of our clock; only the leader's opinion counts.
    locked_until: Option<LocalTime>,
}

impl Coordinator {
    /// Member number `me` (from 0) of the settings' list; `peers` are the addresses of the Raft ports in that order.
    pub fn new(settings: Arc<Settings>, me: usize, peers: &[SocketAddrV4]) -> Self {
        let addresses = peers.iter().enumerate().map(|(i, addr)| (Member(i as u16), Endpoint::from(*addr)));
        let founders = (0..peers.len() as u16).map(Member).collect();
        Coordinator {
            raft: Raft::new(raft_config(), Member(me as u16), founders, addresses.collect()),
            settings,
            store: Store::default(),
            ends: BTreeMap::new(),
            clients: BTreeSet::new(),
            watchers: BTreeSet::new(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            forward: None,
            forwarded: Vec::new(),
            last_answer: Answer::Ambiguous,
            locked_until: None,
        }
    }

    /// Takes out what happened in Raft. Called after each of its handlers.
    fn after_raft(&mut self, cx: &mut Cx<'_, Agent>) {
        while let Some(event) = self.raft.next_event() {
            match event {
                Event::Apply { command, .. } => self.apply(cx, &command),
                Event::Restore { .. } => {}
                Event::Committed { ticket } => {
                    let answer = self.last_answer.clone();
                    self.settle(cx, ticket, answer);
                }
                Event::Ambiguous { ticket } => self.settle(cx, ticket, Answer::Ambiguous),
                Event::Readable { ticket } => {
                    let view = self.store.view();
                    self.settle(cx, ticket, Answer::View(view));
                }
                Event::Elected { term } => {
                    cx.observe(Observation::Role(Role::Leader));
                    cx.note(|| alloc::format!("leads the coordination service in term {}", term.0));
                }
                Event::Leading { .. } => self.begin_to_lead(cx),
                Event::Following { leader, .. } => self.follow(cx, leader),
                Event::Suspecting { .. } | Event::Standing { .. } => {}
            }
        }
    }

    fn apply(&mut self, cx: &mut Cx<'_, Agent>, command: &Command) {
        let applied = self.store.apply(command);
        match (&command.action, &applied.answer) {
            (Action::Grant { .. }, Answer::Granted { lease }) | (Action::Renew { lease }, Answer::Alive) => {
                self.begin_lease(cx, *lease, Duration::ZERO);
            }
            (Action::Revoke { lease, renewals }, Answer::Revoked) => {
                self.ends.remove(lease);
                let delay = self.settings.coordination.semantics.lock_delay();
                if renewals.is_some() && !delay.is_zero() {
                    self.locked_until = Some(cx.now() + delay);
                }
            }
            (Action::Transact(transaction), Answer::Committed { .. }) => self.check_health(cx, transaction),
            (
                Action::Grant { .. } | Action::Renew { .. } | Action::Revoke { .. } | Action::Transact(_),
                _,
            ) => {}
        }
        self.last_answer = applied.answer;
        if let Some(changed) = applied.changed {
            for watcher in &self.watchers {
                let message = CoordinationMessage::Changed(changed.clone());
                cx.send(*watcher, Message::Coordination(message));
            }
        }
    }

    /// Where sessions are bound to health checks, the session of a node that was called dead ends at once.
    fn check_health(&mut self, cx: &mut Cx<'_, Agent>, transaction: &Transaction) {
        let LeaseSemantics::Consul { health_checks: true, .. } = self.settings.coordination.semantics else {
            return;
        };
        let Some(leader) = self.store.view().leader.filter(|_| self.raft.is_leader()) else { return };
        let dead = |put: &Put| matches!(put, Put::Suspect { node, .. } if *node == leader.holder);
        if let Some(state) = self.store.leases().get(&leader.lease).copied()
            && transaction.puts.iter().any(dead)
        {
            let action = Action::Revoke { lease: leader.lease, renewals: Some(state.renewals) };
            self.propose(cx, None, Command { client: 0, sequence: 0, action });
        }
    }

    /// A lease's time begins now, on our clock.
    fn begin_lease(&mut self, cx: &Cx<'_, Agent>, lease: LeaseId, extra: Duration) {
        if let Some(state) = self.store.leases().get(&lease) {
            let span = self.settings.coordination.semantics.span(state.ttl, cx.now());
            self.ends.insert(lease, cx.now() + span + extra);
        }
    }

    /// Whether a transaction wants the leader's key while its lock is still delayed.
    fn is_too_early(&self, cx: &Cx<'_, Agent>, transaction: &Transaction) -> bool {
        let takes_key = transaction.puts.iter().any(|put| matches!(put, Put::Leader(_)));
        takes_key && self.locked_until.is_some_and(|until| cx.now() < until)
    }

    /// What the old leader knew of the leases' remaining time is gone with it: all begin anew, unless members keep
    /// what they saw themselves.
    fn begin_to_lead(&mut self, cx: &mut Cx<'_, Agent>) {
        if !self.settings.coordination.lease_checkpoint {
            let leases: Vec<_> = self.store.leases().keys().copied().collect();
            leases.into_iter().for_each(|lease| self.begin_lease(cx, lease, raft_config().election_max));
        }
        cx.set_timer(Timer::Expiry, self.settings.coordination.expiry_scan);
    }

    fn follow(&mut self, cx: &mut Cx<'_, Agent>, leader: Option<Member>) {
        cx.observe(Observation::Role(Role::Follower));
        cx.cancel_timer(Timer::Expiry);
        self.drop_forward(cx);
        match leader {
            Some(_) => cx.cancel_timer(Timer::NoLeader),
            None => cx.set_timer(Timer::NoLeader, raft_config().election_max),
        }
    }

    /// Ends leases that are over. The log may hold a renewal that we have not applied yet: the expiry names the number
    /// of renewals it knows, and yields to any other.
    fn scan(&mut self, cx: &mut Cx<'_, Agent>) {
        if !self.raft.is_leader() {
            return;
        }
        let now = cx.now();
        let over: Vec<_> =
            self.ends.iter().filter(|(_, end)| **end <= now).map(|(lease, _)| *lease).collect();
        for lease in over {
            let Some(state) = self.store.leases().get(&lease).copied() else {
                self.ends.remove(&lease);
                continue;
            };
            let action = Action::Revoke { lease, renewals: Some(state.renewals) };
            self.propose(cx, None, Command { client: 0, sequence: 0, action });
        }
        cx.set_timer(Timer::Expiry, self.settings.coordination.expiry_scan);
    }

    fn propose(&mut self, cx: &mut Cx<'_, Agent>, owed: Option<Owed>, command: Command) {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        match (self.raft.propose(cx, ticket, command), owed) {
            (Ok(_), Some(owed)) => {
                self.tickets.insert(ticket, owed);
            }
            (Ok(_), None) => {}
            (Err(_), Some(owed)) => self.reply(cx, owed, Answer::Ambiguous),
            (Err(_), None) => {}
        }
    }

    fn settle(&mut self, cx: &mut Cx<'_, Agent>, ticket: u64, answer: Answer) {
        if let Some(owed) = self.tickets.remove(&ticket) {
            self.reply(cx, owed, answer);
        }
    }

    fn reply(&mut self, cx: &mut Cx<'_, Agent>, owed: Owed, answer: Answer) {
        let Owed { session, client, sequence } = owed;
        if self.clients.contains(&session) {
            cx.send(session, Message::Coordination(CoordinationMessage::Reply { client, sequence, answer }));
        }
    }

    /// A request, from a client or passed on by another member.
    fn take(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, ask: Ask, forwarded: bool) {
        let owed = Owed { session, client: ask.client, sequence: ask.sequence };
        if matches!(ask.body, Body::Watch) {
            self.watchers.insert(session);
            let view = self.store.view();
            return self.reply(cx, owed, Answer::View(view));
        }
        if let Body::KeepAlive { lease } = ask.body
            && self.settings.quirks.renews_unchecked()
        {
            let known = self.store.leases().contains_key(&lease);
            self.begin_lease(cx, lease, Duration::ZERO);
            return self.reply(cx, owed, if known { Answer::Alive } else { Answer::Gone });
        }
        if self.raft.is_leader() {
            return self.lead(cx, owed, ask);
        }
        match self.raft.leader() {
            Some(leader) if !forwarded => self.pass_on(cx, leader, owed, ask),
            _ => self.reply(cx, owed, Answer::Ambiguous),
        }
    }

    fn lead(&mut self, cx: &mut Cx<'_, Agent>, owed: Owed, ask: Ask) {
        let action = match ask.body {
            Body::Grant { ttl } => Action::Grant { ttl },
            Body::KeepAlive { lease } => Action::Renew { lease },
            Body::Revoke { lease } => Action::Revoke { lease, renewals: None },
            Body::Transact(transaction) if self.is_too_early(cx, &transaction) => {
                return self.reply(cx, owed, Answer::Refused);
            }
            Body::Transact(transaction) => Action::Transact(transaction),
            Body::Get | Body::Watch => {
                self.next_ticket += 1;
                self.tickets.insert(self.next_ticket, owed);
                if self.raft.read(cx, self.next_ticket).is_err() {
                    self.settle(cx, self.next_ticket, Answer::Ambiguous);
                }
                return;
            }
        };
        self.propose(cx, Some(owed), Command { client: ask.client, sequence: ask.sequence, action });
    }

    fn pass_on(&mut self, cx: &mut Cx<'_, Agent>, leader: Member, owed: Owed, ask: Ask) {
        self.forwarded.push(owed);
        match &mut self.forward {
            Some(forward) if forward.open => {
                cx.send(forward.session, Message::Coordination(CoordinationMessage::Forwarded(ask)));
            }
            Some(forward) => forward.waiting.push(ask),
            None => {
                let address = self.settings.cluster.coordination[usize::from(leader.0)];
                let session = cx.open(address, Kind::Coordination);
                self.forward = Some(Forward { session, open: false, waiting: alloc::vec![ask] });
            }
        }
    }

    /// The way to the leader is gone; nobody knows what became of what was passed on.
    fn drop_forward(&mut self, cx: &mut Cx<'_, Agent>) {
        if let Some(forward) = self.forward.take() {
            cx.close(forward.session);
        }
        for owed in core::mem::take(&mut self.forwarded) {
            self.reply(cx, owed, Answer::Ambiguous);
        }
    }

    fn is_forward(&self, session: SessionId) -> bool {
        self.forward.as_ref().is_some_and(|forward| forward.session == session)
    }
}

impl Node<Agent> for Coordinator {
    fn start(&mut self, cx: &mut Cx<'_, Agent>, disk: &DiskImage<Agent>) {
        self.raft.start(cx, disk);
        self.after_raft(cx);
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, opened: Opened<Kind>) {
        match opened {
            Opened::Accepted { kind: Kind::Coordination, .. } => {
                self.clients.insert(session);
            }
            Opened::Accepted { .. } => {}
            Opened::Dialled if self.is_forward(session) => {
                let Some(forward) = &mut self.forward else { return };
                forward.open = true;
                for ask in core::mem::take(&mut forward.waiting) {
                    cx.send(session, Message::Coordination(CoordinationMessage::Forwarded(ask)));
                }
            }
            Opened::Dialled => {
                self.raft.on_open(cx, session);
                self.after_raft(cx);
            }
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: Message) {
        match message {
            Message::Raft(message) => {
                self.raft.on_message(cx, session, message);
            }
            Message::Coordination(CoordinationMessage::Request(ask)) => self.take(cx, session, ask, false),
            Message::Coordination(CoordinationMessage::Forwarded(ask)) => self.take(cx, session, ask, true),
            Message::Coordination(CoordinationMessage::Reply { client, sequence, answer }) => {
                let ours = |owed: &Owed| owed.client == client && owed.sequence == sequence;
                if let Some(at) = self.forwarded.iter().position(ours) {
                    let owed = self.forwarded.remove(at);
                    self.reply(cx, owed, answer);
                }
            }
            _ => {}
        }
        self.after_raft(cx);
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, _why: Closed) {
        self.clients.remove(&session);
        self.watchers.remove(&session);
        if self.is_forward(session) {
            self.drop_forward(cx);
        }
        self.raft.on_close(cx, session);
        self.after_raft(cx);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Agent>, timer: Timer) {
        match timer {
            Timer::Raft(timer) => self.raft.on_timer(cx, timer),
            Timer::Expiry => self.scan(cx),
            // A member that has no leader tells its clients nothing: they are better served elsewhere.
            Timer::NoLeader => {
                for session in core::mem::take(&mut self.clients) {
                    cx.close(session);
                }
                self.watchers.clear();
            }
            _ => {}
        }
        self.after_raft(cx);
    }

    fn on_synced(&mut self, cx: &mut Cx<'_, Agent>, token: Token, result: Result<(), DiskError>) {
        self.raft.on_synced(cx, token, result);
        self.after_raft(cx);
    }
}

/// Factory form for registries.
pub fn coordinator(settings: Arc<Settings>, me: usize, peers: &[SocketAddrV4]) -> Box<dyn Node<Agent>> {
    Box::new(Coordinator::new(settings, me, peers))
}
