//! A data node: keeps the graph and its log, and is primary or replica.
//!
//! The files of this folder: [`gate`] decides what may be acknowledged and nothing else does; [`rights`] keeps the
//! lease and what follows from losing it; [`election`] stands, votes and promotes; [`replication`] moves the log;
//! [`storage`] keeps it on a shared disk, if there is one.

mod backup;
mod election;
mod gate;
mod replication;
mod rights;
mod storage;
#[cfg(test)]
mod tests;

use super::coordination::{Leader, LeaseId, Link, LinkEvent, NodeSet, Revision};
use super::lease::{Clocks, Lease};
use super::message::{Body, Message, Order, PeerMessage, Refusal};
use super::settings::{
    AtPort, Detector, Fence, HEARTBEAT_PORT, Keeper, LeaseCheck, Metadata, NodeId, PEER_PORT, Probe,
    Settings, WATCHDOG_PORT,
};
use super::states::{self, Event, State};
use super::wal::{Content, Entry, Lsn, Position, Recovered, Term, Wal, WalRecord};
use super::{Agent, Job, Kind, Record, Timer, verbs};
use crate::contract::*;
use crate::graph::{self, Graph};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use backup::BackupSide;
use election::Candidacy;
use replication::{Follower, Upstream};
use storage::DiskWay;

/// File of the log.
pub const WAL_FILE: &str = "wal";
/// File of the term and vote.
pub const META_FILE: &str = "meta";
/// File of branches that were cut.
pub const BRANCH_FILE: &str = "branch";
/// File of a node without log.
pub const MEMORY_FILE: &str = "memory";

/// An operation that waits for its entry to pass the gate.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    lsn: Lsn,
    session: SessionId,
    id: u64,
}

/// What a sync will make durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syncing {
    Log(Lsn),
    Meta,
    Other,
}

/// What was heard of a peer.
#[derive(Clone, Copy, Debug)]
struct Contact {
    at: LocalTime,
    stamp: u64,
}

/// A data node.
pub struct DataNode {
    settings: Arc<Settings>,
    me: NodeId,
    state: State,
    term: Term,
    voted: Option<NodeId>,
    wal: Wal,
    /// Everything up to here passed the primary's gate, as far as we know, and is in the graph.
    commit: Lsn,
    graph: Graph,
    scratch: graph::Transaction,
    /// Syncs under way, oldest first.
    syncs: VecDeque<(Token, Syncing, LocalTime)>,
    /// Something was appended after the newest sync of the log was asked for.
    unsynced: bool,
    link: Link,
    lease: Lease,
    lease_id: Option<LeaseId>,
    /// The last holder of the right.
    last_holder: Option<NodeId>,
    /// Who may have served since somebody last said that its promotion was finished: all of them are fenced before
    /// another one serves. A holder that gave its promotion up is no reason to forget the primary before it.
    may_serve: NodeSet,
    /// Who is still to be fenced for our own promotion.
    to_fence: NodeSet,
    /// When a quorum last confirmed what we know of the keys.
    confirmed_at: Option<LocalTime>,
    /// When the right was last seen free.
    free_since: Option<LocalTime>,
    candidacy: Option<Candidacy>,
    promoted_at: Option<LocalTime>,
    /// When we gave the role away in good order.
    resigned_at: Option<LocalTime>,
    /// When we shall stand, if we shall.
    stand_due: Option<LocalTime>,
    /// First entry of our own term.
    term_start: Lsn,
    /// Sync mode: whom we wait for; never less than what the coordination service may promote.
    waited: NodeSet,
    /// Sync mode: a change of the set is on its way.
    set_change: Option<(u64, NodeSet)>,
    topology_ask: Option<u64>,
    settled: bool,
    followers: BTreeMap<SessionId, Follower>,
    upstream: Upstream,
    /// As a replica: our log was compared with the primary's up to here.
    matched: Lsn,
    /// Revision at which we took the key, older views do not show it; and the service's restorations until then.
    won_at: (u32, Revision),
    /// A keeper beside the process knows what ends the role and will say so at its next look.
    keeper_due: bool,
    /// The primary by order of the monitor, where nobody holds a lease.
    ordered: Option<(NodeId, Term)>,
    waiting: VecDeque<Waiting>,
    contacts: BTreeMap<NodeId, Contact>,
    stamp: u64,
    fence_session: Option<SessionId>,
    /// A silent primary that a majority of heartbeats has given up and that is being switched off.
    hunted: Option<NodeId>,
    disk: DiskWay,
    watchdog: Option<SessionId>,
    announced: (Role, Term, bool),
    exposure_told: u64,
    backup: BackupSide,
    /// The ports that sessions of peers came in on.
    accepted: BTreeMap<SessionId, Kind>,
    denied: u64,
    /// Operations of clients that were too many.
    turned_away: u64,
    /// Renewals of its lease, for what they cost.
    renewals: u64,
    /// An operator said that this node shall be primary.
    commanded: bool,
    /// Version of the configuration.
    version: u32,
}

impl DataNode {
    /// A node of the cluster.
    pub fn new(settings: Arc<Settings>, me: NodeId) -> Self {
        let link = Link::new(
            settings.cluster.coordination.clone(),
            usize::from(me.0) - 1,
            settings.coordination.request_timeout,
        )
        .waiting(settings.coordination.proposals);
        let link = match settings.agent.metadata {
            Metadata::Push => link,
            Metadata::Pull(_) => link.unwatched(),
        };
        DataNode {
            lease: Lease::new(settings.agent.lease),
            link,
            settings,
            me,
            state: State::Joining,
            term: Term(0),
            voted: None,
            wal: Wal::default(),
            commit: Lsn(0),
            graph: Graph::new(),
            scratch: graph::Transaction::default(),
            syncs: VecDeque::new(),
            unsynced: false,
            lease_id: None,
            last_holder: None,
            may_serve: NodeSet::default(),
            to_fence: NodeSet::default(),
            confirmed_at: None,
            free_since: None,
            candidacy: None,
            promoted_at: None,
            resigned_at: None,
            stand_due: None,
            term_start: Lsn(0),
            waited: NodeSet::default(),
            set_change: None,
            topology_ask: None,
            settled: false,
            followers: BTreeMap::new(),
            upstream: Upstream::None,
            matched: Lsn(0),
            won_at: (0, Revision(0)),
            keeper_due: false,
            ordered: None,
            waiting: VecDeque::new(),
            contacts: BTreeMap::new(),
            stamp: 0,
            fence_session: None,
            hunted: None,
            disk: DiskWay::default(),
            watchdog: None,
            announced: (Role::Joining, Term(0), false),
            exposure_told: 0,
            backup: BackupSide::default(),
            accepted: BTreeMap::new(),
            denied: 0,
            turned_away: 0,
            renewals: 0,
            commanded: false,
            version: 1,
        }
    }

    /// Moves by the table of states, if the event applies.
    fn happen(&mut self, cx: &mut Cx<'_, Agent>, event: Event) -> bool {
        let Some(to) = states::next(self.state, event) else { return false };
        if to != self.state {
            cx.note(|| alloc::format!("{:?} -> {to:?} ({event:?}, term {})", self.state, self.term.0));
            self.state = to;
        }
        self.announce(cx);
        true
    }

    /// Tells role, term and readiness when they change.
    fn announce(&mut self, cx: &mut Cx<'_, Agent>) {
        let now = (self.role(), self.term, self.writable(cx));
        let before = core::mem::replace(&mut self.announced, now);
        if now.0 != before.0 {
            cx.observe(Observation::Role(now.0));
        }
        if now.1 != before.1 {
            cx.observe(Observation::Epoch(now.1.0));
        }
        if now.2 != before.2 {
            cx.observe(Observation::Writable(now.2));
        }
    }

    fn role(&self) -> Role {
        match self.state {
            State::Joining | State::Rejoining => Role::Joining,
            State::Replica => Role::Replica,
            State::Candidate | State::Promoting => Role::Candidate,
            State::Primary | State::Draining => Role::Primary,
            State::Isolated if self.serves_in_isolation() => Role::Primary,
            State::Isolated | State::Fenced | State::FailedDisk => Role::Fenced,
        }
    }

    /// Reads the disk. A log that cannot be trusted stops the node; a torn tail is cut.
    fn recover(&mut self, cx: &mut Cx<'_, Agent>, disk: &DiskImage<Agent>) {
        if let Some(Record::Meta { term, voted }) = disk.last(META_FILE) {
            (self.term, self.voted) = (*term, *voted);
        }
        let records = disk.records(WAL_FILE).iter().filter_map(|record| match record {
            Record::Wal(record) => Some(record.clone()),
            Record::Meta { .. }
            | Record::Branch(_)
            | Record::Memory(_)
            | Record::Raft(_)
            | Record::Block(_)
            | Record::Reservations(_)
            | Record::Update(_)
            | Record::Store(_)
            | Record::Handed(_) => None,
        });
        let (wal, found) = Wal::recover(records);
        self.wal = wal;
        if let Some(Record::Memory(entries)) = disk.last(MEMORY_FILE) {
            entries.iter().for_each(|entry| self.wal.append(entry.clone()));
        }
        self.term = self.term.max(self.wal.last().term);
        self.backup.marked_from = Some(self.wal.last());
        match found {
            Recovered::Whole => {}
            Recovered::TornTail { kept } => cx.truncate(WAL_FILE, kept),
            Recovered::Corrupt { at } => {
                cx.note(|| alloc::format!("the log is corrupt at record {at}"));
                self.happen(cx, Event::DiskFailed);
            }
        }
    }

    /// The keys changed, or were seen for the first time: everything that follows from them.
    fn on_view(&mut self, cx: &mut Cx<'_, Agent>, confirmed: bool) {
        let view = self.link.view();
        if confirmed {
            self.confirmed_at = Some(cx.now());
        }
        if view.leader.is_some() {
            self.free_since = None;
        }
        self.remember_who_may_serve();
        match view.leader {
            Some(leader) if leader.holder == self.me => self.on_own_key(cx, leader),
            Some(leader) => self.on_other_leader(cx, leader),
            None => self.on_no_leader(cx, confirmed),
        }
    }

    fn remember_who_may_serve(&mut self) {
        let view = self.link.view();
        let finished = |leader: Leader| view.topology == Some((leader.holder, leader.term));
        match (view.leader, view.topology) {
            (Some(leader), _) if finished(leader) => {
                self.may_serve = NodeSet::default().with(leader.holder);
            }
            (Some(leader), _) => self.may_serve = self.may_serve.with(leader.holder),
            (None, Some((primary, _))) if self.may_serve.is_empty() => {
                self.may_serve = self.may_serve.with(primary);
            }
            (None, _) => {}
        }
    }

    fn on_other_leader(&mut self, cx: &mut Cx<'_, Agent>, leader: Leader) {
        self.last_holder = Some(leader.holder);
        cx.cancel_timer(Timer::Stand);
        self.stand_due = None;
        if leader.term < self.term && self.holds_role() && !self.settings.quirks.counts_terms_locally() {
            return;
        }
        if self.holds_role() && self.settings.agent.keeper == Keeper::Beside {
            return self.await_keeper(cx);
        }
        self.give_up(cx, Event::Overruled);
        self.happen(cx, Event::Joined);
        self.follow(cx);
    }

    fn on_no_leader(&mut self, cx: &mut Cx<'_, Agent>, confirmed: bool) {
        let without_lease = self.settings.agent.lease.check == LeaseCheck::Off && self.holds_role();
        let known = (self.link.restorations(), self.link.view().revision);
        if without_lease || known < self.won_at {
            return;
        }
        if self.state == State::Primary || self.state == State::Isolated {
            if self.settings.agent.keeper == Keeper::Beside {
                return self.await_keeper(cx);
            }
            self.give_up(cx, Event::Overruled);
        }
        self.happen(cx, Event::Joined);
        // A member that lags behind may not know of a primary that everybody else knows.
        if !confirmed {
            if !self.link.has_open(|body| *body == Body::Get) {
                self.link.ask(cx, Body::Get);
            }
            return;
        }
        if self.free_since.is_none() {
            self.free_since = Some(cx.now());
            if let Some(holder) = self.last_holder.filter(|holder| *holder != self.me) {
                cx.mark(Mark::Declared, Some(self.settings.cluster.address(holder)));
            }
        }
        self.plan_to_stand(cx);
    }

    /// Tells the watchdog that the right was renewed, or is over.
    fn pet(&mut self, cx: &mut Cx<'_, Agent>, armed: bool) {
        if let Some(session) = self.watchdog {
            cx.send(session, Message::Pet { armed });
        }
    }

    fn holds_role(&self) -> bool {
        matches!(self.state, State::Primary | State::Promoting | State::Draining | State::Isolated)
    }

    /// An order of the monitor, where roles follow its word and not a lease.
    fn on_order(&mut self, cx: &mut Cx<'_, Agent>, order: Order) {
        match order {
            Order::Resign => self.resign(cx),
            Order::Promote { term } if term > self.term => self.promote_by_order(cx, term),
            Order::Follow { primary, term } if term >= self.term && primary != self.me => {
                self.ordered = Some((primary, term));
                self.give_up(cx, Event::Overruled);
                self.happen(cx, Event::Joined);
                self.follow(cx);
            }
            Order::Configure { version } => self.version = version,
            Order::Promote { .. } | Order::Follow { .. } => {}
        }
    }

    fn on_probe(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId) {
        let limit = self.settings.health.timeout;
        let hangs = self.syncs.front().is_some_and(|(_, _, since)| cx.now().since(*since) > limit);
        let disk_keeps_up = match self.settings.health.probe {
            Probe::Http => true,
            Probe::Write => !hangs && self.state != State::FailedDisk,
        };
        let (role, term, last) = (self.role(), self.term, self.wal.last());
        cx.send(session, Message::Health { role, term, last, disk_keeps_up });
    }

    fn on_seen_primary(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, node: NodeId) {
        let stream = match &self.upstream {
            Upstream::Following { node: to, heard, .. } if *to == node => Some(*heard),
            Upstream::None | Upstream::Dialling { .. } | Upstream::Following { .. } => None,
        };
        let beat = self.contacts.get(&node).map(|contact| contact.at);
        let silence = stream.max(beat).map(|at| cx.now().since(at));
        cx.send(session, Message::LastContact { node, silence, last: self.wal.last() });
    }

    /// Says that we live, and moves the commit position of idle replicas.
    fn beat(&mut self, cx: &mut Cx<'_, Agent>) {
        self.stamp += 1;
        let primary = self.holds_role();
        let beat = Message::Heartbeat {
            from: self.me,
            stamp: self.stamp,
            term: self.term,
            last: self.wal.last(),
            primary,
        };
        for node in self.settings.cluster.nodes().filter(|node| *node != self.me) {
            cx.cast(self.settings.cluster.address(node).at_port(HEARTBEAT_PORT), beat.clone());
        }
        self.tell_commit(cx);
        self.watch_peers(cx);
        cx.set_timer(Timer::Heartbeat, self.settings.agent.heartbeat.interval);
    }

    fn on_heartbeat(&mut self, cx: &mut Cx<'_, Agent>, from: NodeId, stamp: u64) {
        let contact = Contact { at: cx.now(), stamp };
        let known = self.contacts.entry(from).or_insert(contact);
        // A restarted node counts from one again; a beat that is only a little behind was overtaken.
        if stamp > known.stamp || stamp + 100 < known.stamp {
            *known = contact;
        }
        let leads = self.link.view().leader.is_some_and(|leader| leader.holder == from);
        if self.settings.agent.detector == Detector::Heartbeat && leads {
            cx.set_timer(Timer::PrimarySilent, self.settings.agent.heartbeat.limit());
        }
    }

    /// The primary's heartbeats have stopped. If a majority of the data nodes still hears each other, the lowest of them
    /// has it switched off, and its key goes before its lease is over.
    fn on_primary_silent(&mut self, cx: &mut Cx<'_, Agent>) {
        let Some(leader) = self.link.view().leader.filter(|leader| leader.holder != self.me) else { return };
        let limit = self.settings.agent.heartbeat.limit();
        let fresh = |(node, contact): (&NodeId, &Contact)| {
            (cx.now().since(contact.at) < limit && *node != leader.holder).then_some(*node)
        };
        let living: Vec<NodeId> = self.contacts.iter().filter_map(fresh).collect();
        let Some(fencer) = self.settings.cluster.fencer else { return };
        // Asked again as long as the key is there: the first attempt may have failed.
        cx.set_timer(Timer::PrimarySilent, limit);
        if living.len() + 1 < self.settings.majority() || living.iter().any(|node| *node < self.me) {
            return;
        }
        let about = Some(self.settings.cluster.address(leader.holder));
        cx.mark(Mark::Suspected, about);
        cx.mark(Mark::Declared, about);
        if let Some(old) = self.fence_session.take() {
            cx.close(old);
        }
        self.hunted = Some(leader.holder);
        self.fence_session = Some(cx.open(fencer, Kind::Fence));
    }

    /// Whether a session that a peer dialled may carry this message.
    fn may_say(&self, session: SessionId, message: &Message) -> bool {
        let kind = self.accepted.get(&session).filter(|_| self.settings.least_privilege);
        kind.is_none_or(|kind| verbs::permits(*kind, message))
    }

    fn deny(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: &Message) {
        self.denied += 1;
        cx.note(|| alloc::format!("denied: {message:?}"));
        cx.observe(Observation::Gauge { name: "denied", value: self.denied });
        self.accepted.remove(&session);
        cx.close(session);
    }

    fn save_meta(&mut self, cx: &mut Cx<'_, Agent>) -> Token {
        cx.replace(META_FILE, Record::Meta { term: self.term, voted: self.voted });
        let token = cx.sync(META_FILE);
        self.syncs.push_back((token, Syncing::Meta, cx.now()));
        token
    }

    /// A term that somebody else leads or votes in.
    fn adopt_term(&mut self, cx: &mut Cx<'_, Agent>, term: Term) {
        if term > self.term {
            self.term = term;
            self.voted = None;
            self.save_meta(cx);
            self.announce(cx);
        }
    }

    /// Entries up to `upto` enter the graph, and their operations are answered.
    fn apply_to(&mut self, upto: Lsn, mut answer: impl FnMut(Lsn, Result<(), graph::Refusal>)) {
        while self.commit < upto {
            let lsn = self.commit.next();
            let Some(entry) = self.wal.get(lsn) else { break };
            let result = match &entry.content {
                Content::TermStart { .. } | Content::Point(_) => Ok(()),
                Content::Change(change) => {
                    self.scratch.changes.clear();
                    self.scratch.changes.push(change.clone());
                    self.graph.apply(&self.scratch)
                }
            };
            self.commit = lsn;
            answer(lsn, result);
        }
    }

    /// The graph as of `upto`, made anew: the log was cut below what had been applied.
    fn rebuild_to(&mut self, upto: Lsn) {
        self.graph = Graph::new();
        self.commit = Lsn(0);
        self.apply_to(upto, |_, _| {});
    }
}

impl Node<Agent> for DataNode {
    fn start(&mut self, cx: &mut Cx<'_, Agent>, disk: &DiskImage<Agent>) {
        cx.observe(Observation::Role(Role::Joining));
        cx.observe(Observation::Writable(false));
        self.recover(cx, disk);
        cx.observe(Observation::Epoch(self.term.0));
        self.announced = (self.role(), self.term, false);
        self.link.start(cx);
        if self.settings.agent.watchdog.is_some() {
            let address = self.settings.cluster.address(self.me).at_port(WATCHDOG_PORT);
            self.watchdog = Some(cx.open(address, Kind::Watchdog));
        }
        // Beats of different nodes must not march in step.
        let first = cx.random().duration(Duration::ZERO, self.settings.agent.heartbeat.interval);
        cx.set_timer(Timer::Heartbeat, first);
        let first = cx.random().duration(Duration::ZERO, self.settings.agent.lease.renew_every);
        cx.set_timer(Timer::Renew, first);
        if !self.settings.agent.wal {
            cx.set_timer(Timer::Save, self.settings.agent.snapshot_every);
        }
        if let Metadata::Pull(every) = self.settings.agent.metadata {
            let first = cx.random().duration(Duration::ZERO, every);
            cx.set_timer(Timer::Look, first);
        }
        self.dial_disk(cx);
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, opened: Opened<Kind>) {
        match opened {
            Opened::Accepted { kind, .. } => drop(self.accepted.insert(session, kind)),
            Opened::Dialled if self.link.owns(session) => {
                self.link.on_open(cx);
                self.on_link_open(cx);
            }
            Opened::Dialled if self.is_disk(session) => self.on_disk_open(cx),
            Opened::Dialled if self.fence_session == Some(session) => self.order_fence(cx, session),
            Opened::Dialled => {
                self.on_upstream_open(cx, session);
                self.on_ballot_open(cx, session);
            }
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: Message) {
        self.watch_right(cx);
        if !self.may_say(session, &message) {
            return self.deny(cx, session, &message);
        }
        match message {
            Message::Query { id, op, seen } => self.on_query(cx, session, id, op, seen),
            Message::Peer(message) => self.on_peer(cx, session, message),
            Message::Coordination(message) => {
                if let Some(event) = self.link.on_message(cx, message) {
                    self.on_link_event(cx, event);
                }
            }
            Message::Probe => self.on_probe(cx, session),
            Message::SeenPrimary { node } => self.on_seen_primary(cx, session, node),
            Message::Order(order) => self.on_order(cx, order),
            Message::Fenced { node } => self.on_fenced(cx, node),
            Message::Disk(message) => self.on_disk(cx, message),
            Message::Source(message) => self.on_source(cx, session, message),
            Message::Result { .. }
            | Message::Heartbeat { .. }
            | Message::Health { .. }
            | Message::LastContact { .. }
            | Message::Raft(_)
            | Message::WhereIsPrimary
            | Message::Route(_)
            | Message::Fence { .. }
            | Message::Anywhere(_)
            | Message::Store(_)
            | Message::Pet { .. } => {}
        }
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, _why: Closed) {
        self.watch_right(cx);
        self.accepted.remove(&session);
        if self.link.owns(session) {
            return self.link.on_close(cx);
        }
        if self.fence_session == Some(session) {
            self.fence_session = None;
            self.hunted = None;
            return self.fence_failed(cx);
        }
        if self.is_disk(session) {
            return self.on_disk_close(cx);
        }
        self.on_upstream_close(cx, session);
        self.on_ballot_close(cx, session);
        self.followers.remove(&session);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Agent>, timer: Timer) {
        self.watch_right(cx);
        match timer {
            Timer::Renew => self.renew(cx),
            Timer::LeaseDeadline => self.on_lease_deadline(cx),
            Timer::Stand => self.stand(cx),
            Timer::VoteWindow => self.count(cx, true),
            Timer::Heartbeat => self.beat(cx),
            Timer::Follow => self.follow(cx),
            Timer::FenceLimit => self.fence_failed(cx),
            Timer::SyncWatch => self.watch_sync_set(cx),
            Timer::Save => self.save_memory(cx),
            Timer::Coordination => {
                if let Some(event) = self.link.on_timer(cx) {
                    self.on_link_event(cx, event);
                }
            }
            Timer::PrimarySilent => self.on_primary_silent(cx),
            Timer::Poison => self.on_poison_taken(cx),
            Timer::Disk => self.redial_disk(cx),
            Timer::Look => self.look(cx),
            Timer::Job(Job::Throttle) => self.read_on(cx),
            _ => {}
        }
    }

    fn on_synced(&mut self, cx: &mut Cx<'_, Agent>, token: Token, result: Result<(), DiskError>) {
        self.watch_right(cx);
        let Some(at) = self.syncs.iter().position(|(t, ..)| *t == token) else { return };
        let Some((_, what, _)) = self.syncs.remove(at) else { return };
        match result {
            Ok(()) => self.durable(cx, what),
            Err(_) if self.settings.quirks.retries_a_failed_sync() => self.sync_again(cx, what),
            Err(error) => self.on_disk_failure(cx, error),
        }
    }

    fn on_datagram(&mut self, cx: &mut Cx<'_, Agent>, _from: SocketAddrV4, message: Message) {
        if let Message::Heartbeat { from, stamp, .. } = message {
            self.on_heartbeat(cx, from, stamp);
        }
    }

    fn on_signal(&mut self, cx: &mut Cx<'_, Agent>, signal: Signal) {
        let Signal::Terminate = signal;
        self.resign(cx);
        cx.exit();
    }

    fn exhibits(&self) -> Vec<Exhibit> {
        self.logs_shown()
    }

    fn inspect(&self) -> Vec<Inspection> {
        let state = self.graph.elements();
        alloc::vec![Inspection { shard: Shard(0), role: self.role(), epoch: self.term.0, state }]
    }
}
