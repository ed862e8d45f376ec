//! A cluster node: sessions, cron, and the order of things within a step.
//!
//! Rules flag what is to be done (`todo`); it is done before the step ends, as the original does before it sleeps. A
//! step that changes an epoch or a vote has all its messages wait until `nodes.conf` is durable.

use super::bus::{Body, Flags, Header, NodeId, Packet};
use super::election::Election;
use super::manual::Manual;
use super::settings::{HandOver, NodeSpec, Settings};
use super::shutdown::{Ending, Errand};
use super::slot_copy::KeyCopy;
use super::state::{Link, Stamp, Table};
use super::{Cluster, Kind, Message, Record, Timer, data};
use crate::contract::{
    Closed, Cx, DiskError, DiskImage, Duration, Inspection, Mark, Node, Observation, Opened, Random, Role,
    SessionId, Shard, Signal, Token,
};
use crate::redis::message::Reply;
use crate::redis::server::{Server, Timer as DataTimer};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// The context of a step of any role of a cluster.
pub type Ctx<'a> = Cx<'a, Cluster>;

/// `nodes.conf`.
const NODES_FILE: &str = "nodes.conf";
/// Period of the cron.
const CRON: Duration = Duration::from_millis(100);
/// The original's event loop sleeps in whole milliseconds, rounded up (`ae.c` over `epoll_wait`), and counts the next
/// period from where it woke: each cron is up to this late, and the lateness adds up. It decides, for example, that what is
/// due after half the node timeout is done by the fifth cron of 100 ms and not by the sixth.
const CRON_LATE: Duration = Duration::from_millis(1);
/// Messages that may wait for a link to open; beyond it the link is as good as dead.
const HELD_MAX: usize = 64;

/// How a change of the table is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Save {
    /// Nothing changed.
    #[default]
    None,
    /// Written: survives the process.
    Write,
    /// Synced before anything of this step leaves.
    Sync,
}

/// What is to be done before the step ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Todo {
    pub manual: bool,
    pub election: bool,
    pub state: bool,
    save: Save,
}

impl Todo {
    /// Asks for a save of at least this kind.
    pub fn save(&mut self, how: Save) {
        self.save = self.save.max(how);
    }
}

/// The cluster node role.
#[derive(Debug)]
pub struct ClusterNode {
    pub(super) settings: Arc<Settings>,
    pub(super) table: Table,
    pub(super) server: Server,
    pub(super) election: Election,
    pub(super) manual: Manual,
    pub(super) ending: Ending,
    pub(super) hand_over: HandOver,
    pub(super) errand: Option<Errand>,
    pub(super) copying: Option<KeyCopy>,
    pub(super) todo: Todo,
    /// Our shard, as observations name it.
    pub(super) shard: Shard,
    /// Cron runs since the start.
    pub(super) crons: u64,
    /// Suspected nodes at the last cron.
    pub(super) suspects: usize,
    /// Counts gossip sections; `picked` holds for each node the last one it was picked for.
    pub(super) gossip_round: u32,
    pub(super) picked: Vec<u32>,
    /// The cluster was in service when the run began.
    pub(super) born_in_service: bool,
    dialled: BTreeMap<SessionId, NodeId>,
    /// Messages of this step that wait for its save.
    outbox: Vec<(SessionId, Message)>,
    /// The sync that later messages must not overtake.
    saving: Option<Token>,
    announced_epoch: Option<u64>,
}

impl ClusterNode {
    /// The node `me` of a cluster, before its start. `founding`: this is the first incarnation, of a cluster that has
    /// been in service since before the run. A later one that finds no `nodes.conf` starts with the file of the
    /// foundation, as an operator would restore it, and without the cluster's trust.
    pub fn new(settings: Arc<Settings>, me: NodeId, founding: bool) -> ClusterNode {
        ClusterNode {
            table: Table::created(&settings, me),
            server: data::server(&settings, me),
            election: Election::default(),
            manual: Manual::default(),
            ending: Ending::No,
            hand_over: settings.hand_over,
            errand: None,
            copying: None,
            todo: Todo::default(),
            shard: settings.nodes[me.index()].shard,
            crons: 0,
            suspects: 0,
            gossip_round: 0,
            picked: vec![0; settings.nodes.len()],
            born_in_service: founding,
            dialled: BTreeMap::new(),
            outbox: Vec::new(),
            saving: None,
            announced_epoch: None,
            settings,
        }
    }

    // ------------------------------------------------------------------------------------------------------ helpers

    /// This node's wall clock in milliseconds; never the value that means "never".
    pub(super) fn now(&self, cx: &Ctx<'_>) -> Stamp {
        Stamp((cx.wall().0.div_euclid(1000)).max(1))
    }

    /// A node's name in stories.
    pub(super) fn name(&self, id: NodeId) -> String {
        format!("{}", self.settings.nodes[id.index()].client)
    }

    /// The shard that a node belongs to.
    pub(super) fn shard_of(&self, id: NodeId) -> Shard {
        let head = self.table.peer(id).replica_of.unwrap_or(id);
        // After a failover the slots say it; some of them may have moved from another shard.
        let slots = &self.table.peer(head).slots;
        let share = |spec: &&NodeSpec| spec.slots.common(slots);
        let created = self.settings.nodes.iter().filter(|spec| share(spec) > 0);
        let most = created.reduce(|most, spec| if share(&spec) > share(&most) { spec } else { most });
        most.unwrap_or(&self.settings.nodes[head.index()]).shard
    }

    /// Announces a step of a failover that concerns a node.
    pub(super) fn mark_about(&self, cx: &mut Ctx<'_>, mark: Mark, about: NodeId) {
        let relevant = match mark {
            Mark::Suspected | Mark::Declared => self.table.is_voter(about),
            _ => true,
        };
        if relevant {
            let about_addr = self.settings.nodes[about.index()].client;
            let fact = Observation::Mark { mark, about: Some(about_addr) };
            cx.observe_shard(self.shard_of(about), fact);
        }
    }

    /// Announces epoch, role and writability where they changed.
    fn announce(&mut self, cx: &mut Ctx<'_>) {
        let epoch = self.table.peer(self.table.my_head()).config_epoch;
        if self.announced_epoch.replace(epoch) != Some(epoch) {
            cx.observe_shard(self.shard, Observation::Epoch(epoch));
        }
        let barred = !self.table.state_ok || !self.table.is_voter(self.table.me);
        if self.server.barred != barred {
            self.server.barred = barred;
            self.server.announce(cx);
        }
    }

    // -------------------------------------------------------------------------------------------------------- links

    /// Dials the bus port of a node.
    pub(super) fn dial(&mut self, cx: &mut Ctx<'_>, node: NodeId, now: Stamp) {
        let session = cx.open(self.settings.nodes[node.index()].bus, Kind::Bus);
        self.dialled.insert(session, node);
        self.table.peer_mut(node).link = Link { session: Some(session), since: now, ..Link::default() };
        self.table.beats[node.index()].linked = true;
    }

    /// Gives up the link that we dialled to a node; the cron dials again.
    pub(super) fn drop_link(&mut self, cx: &mut Ctx<'_>, node: NodeId) {
        if let Some(session) = self.table.peer(node).link.session {
            cx.close(session);
            self.forget_link(session, node);
        }
    }

    fn forget_link(&mut self, session: SessionId, node: NodeId) {
        self.dialled.remove(&session);
        self.table.peer_mut(node).link = Link::default();
        self.table.beats[node.index()].linked = false;
    }

    fn header(&self, force_ack: bool) -> Header {
        let me = self.table.me;
        let head = self.table.peer(self.table.my_head());
        let replica_of = self.table.my_primary();
        Header {
            sender: me,
            current_epoch: self.table.current_epoch,
            config_epoch: head.config_epoch,
            offset: self.my_offset(),
            slots: head.slots.clone(),
            replica_of,
            flags: self.table.flags(me),
            state_ok: self.table.state_ok,
            paused: self.manual.replica.is_some(),
            force_ack,
            primary_failed: replica_of.is_some_and(|primary| self.table.flags(primary).any(Flags::FAIL)),
        }
    }

    /// Sends on a session that a peer dialled: its acknowledgements are not delayed against us.
    pub(super) fn send_session(&mut self, cx: &mut Ctx<'_>, session: SessionId, body: Body) {
        let packet = Arc::new(Packet { header: self.header(false), body });
        self.transmit(cx, session, packet);
    }

    /// Sends on the link that we dialled to a node.
    pub(super) fn send_link(&mut self, cx: &mut Ctx<'_>, node: NodeId, body: Body) {
        let packet = Arc::new(Packet { header: self.header(false), body });
        self.queue(cx, node, packet);
    }

    /// Sends to all nodes that we have a link to.
    pub(super) fn broadcast(&mut self, cx: &mut Ctx<'_>, body: Body) {
        self.broadcast_with(cx, body, false);
    }

    /// The same, maybe with the mark that the failover is wanted.
    pub(super) fn broadcast_with(&mut self, cx: &mut Ctx<'_>, body: Body, force_ack: bool) {
        let packet = Arc::new(Packet { header: self.header(force_ack), body });
        for node in self.table.ids() {
            self.queue(cx, node, packet.clone());
        }
    }

    /// Hands a message to the link of a node. A link that is not open yet keeps it; so does one whose peer still owes
    /// an acknowledgement, because Nagle's algorithm is on.
    fn queue(&mut self, cx: &mut Ctx<'_>, node: NodeId, packet: Arc<Packet>) {
        let delay = self.settings.nagle_delay;
        let now = cx.now();
        let link = &mut self.table.peer_mut(node).link;
        let Some(session) = link.session else { return };
        let waits_for_ack = !delay.is_zero() && now < link.unacked_until;
        if !link.open || waits_for_ack || !link.held.is_empty() {
            if link.held.is_empty() && link.open {
                cx.set_timer(Timer::Nagle(node), link.unacked_until.since(now));
            }
            if link.held.len() < HELD_MAX {
                link.held.push(packet);
            }
            return;
        }
        link.unacked_until = now + delay;
        self.transmit(cx, session, packet);
    }

    /// The peer's acknowledgement came, with data or by its timer: what was held leaves.
    fn release(&mut self, cx: &mut Ctx<'_>, node: NodeId) {
        let link = &mut self.table.peer_mut(node).link;
        link.unacked_until = Default::default();
        let Some(session) = link.session.filter(|_| link.open && !link.held.is_empty()) else { return };
        link.unacked_until = cx.now() + self.settings.nagle_delay;
        for packet in core::mem::take(&mut link.held) {
            self.transmit(cx, session, packet);
        }
    }

    fn transmit(&mut self, cx: &mut Ctx<'_>, session: SessionId, packet: Arc<Packet>) {
        self.send_when_saved(cx, session, Message::Bus(packet));
    }

    /// Sends what may not be said before `nodes.conf` is durable.
    fn send_when_saved(&mut self, cx: &mut Ctx<'_>, session: SessionId, message: Message) {
        if self.todo.save == Save::Sync {
            self.outbox.push((session, message));
        } else if let Some(token) = self.saving {
            cx.after(token).send(session, message);
        } else {
            cx.send(session, message);
        }
    }

    /// Answers a command of the machinery: after the save that it asked for, as the original does. A reply that saves
    /// nothing does not wait for a save under way: the replies to data commands on its session do not either.
    pub(super) fn reply_when_saved(&mut self, cx: &mut Ctx<'_>, session: SessionId, reply: Reply) {
        if self.todo.save == Save::Sync {
            self.outbox.push((session, Message::Redis(reply.into())));
        } else {
            self.server.reply(cx, session, reply);
        }
    }

    // ------------------------------------------------------------------------------------------- the end of a step

    /// Does what the step's rules asked for.
    fn before_sleep(&mut self, cx: &mut Ctx<'_>) {
        let now = self.now(cx);
        let (manual, election) = (self.todo.manual, self.todo.election);
        self.todo.manual = false;
        self.todo.election = false;
        if manual {
            self.handle_manual(cx);
        }
        if manual || election {
            self.handle_election(cx, now);
        }
        if core::mem::take(&mut self.todo.election) {
            // The original asks for another pass; what it has just sent wakes its loop for it at once.
            self.handle_election(cx, now);
        }
        if core::mem::take(&mut self.todo.state) {
            self.update_state(cx, now);
            self.refresh_shard(cx);
        }
        self.save_now(cx);
        self.announce(cx);
    }

    /// Writes `nodes.conf` if something changed, and lets the step's messages go when they may.
    pub(super) fn save_now(&mut self, cx: &mut Ctx<'_>) {
        let how = core::mem::take(&mut self.todo.save);
        if how == Save::None {
            return;
        }
        cx.replace(NODES_FILE, Record::Nodes(self.table.saved()));
        if how == Save::Sync {
            let token = cx.sync(NODES_FILE);
            // A node that goes on without its file does not wait for it either.
            self.saving = (!self.settings.save_best_effort).then_some(token);
        }
        for (session, message) in core::mem::take(&mut self.outbox) {
            self.send_when_saved(cx, session, message);
        }
    }

    fn cron(&mut self, cx: &mut Ctx<'_>) {
        let late = cx.random().duration(Duration::ZERO, CRON_LATE);
        cx.set_timer(Timer::Cron, CRON + late);
        let now = self.now(cx);
        self.heartbeat(cx, now);
        self.crons += 1;
        self.expire_manual(cx, now);
        self.expire_copy(cx);
        if self.table.my_primary().is_some() {
            self.handle_manual(cx);
            self.handle_election(cx, now);
            self.maybe_migrate(cx, now);
        }
        if !self.table.state_ok {
            self.todo.state = true;
        }
        self.handle_ending(cx, now);
    }

    fn on_packet(&mut self, cx: &mut Ctx<'_>, session: SessionId, packet: &Packet) {
        let header = &packet.header;
        let sender = header.sender;
        if sender.index() >= self.table.peers.len() || sender == self.table.me {
            return;
        }
        let now = self.now(cx);
        let dialled = self.table.peer(sender).link.session == Some(session);
        if dialled {
            self.release(cx, sender);
        }
        self.on_header(header, now);
        match &packet.body {
            Body::Ping(gossip) => {
                self.answer_ping(cx, session, sender);
                self.on_claims(cx, header);
                self.on_gossip(cx, sender, gossip, now);
            }
            Body::Pong(gossip) => {
                if dialled {
                    self.on_pong(cx, sender, now);
                }
                self.on_claims(cx, header);
                self.on_gossip(cx, sender, gossip, now);
            }
            Body::Fail(node) => self.on_fail(cx, *node, now),
            Body::AuthRequest => self.on_vote_request(cx, header, now),
            Body::AuthAck => self.on_vote(sender, header.current_epoch),
            Body::Update { node, config_epoch, slots } => self.on_update(cx, *node, *config_epoch, slots),
            Body::ManualStart => self.on_manual_start(cx, sender, now),
        }
    }
}

impl Node<Cluster> for ClusterNode {
    fn start(&mut self, cx: &mut Ctx<'_>, disk: &DiskImage<Cluster>) {
        let now = self.now(cx);
        let me = self.table.me;
        if let Some(Record::Nodes(saved)) = disk.last(NODES_FILE) {
            self.table = Table::restored(&self.settings, me, saved, now);
            self.born_in_service = false;
        }
        self.table.state_ok = self.born_in_service;
        for beat in &mut self.table.beats {
            beat.pong_received = now;
            beat.data_received = now;
        }
        self.shard = self.shard_of(me);
        self.server.shard = self.shard;
        self.server.barred = !self.table.state_ok || !self.table.is_voter(me);
        self.server.settings.follows =
            self.table.my_primary().map(|primary| self.settings.nodes[primary.index()].client);
        self.server.start(cx, disk);
        if self.born_in_service {
            let (id, offset) = data::created_history(self.table.my_head());
            self.server.begin_in_step(id, offset);
        }
        // Every process has phases of its own.
        let cron = cx.random().duration(Duration::ZERO, CRON);
        cx.set_timer(Timer::Cron, cron);
        let replication = cx.random().duration(Duration::ZERO, crate::redis::server::CRON);
        cx.set_timer(Timer::Data(DataTimer::Cron), replication);
        self.todo.state = true;
        self.todo.save(Save::Sync);
        self.before_sleep(cx);
    }

    fn on_open(&mut self, cx: &mut Ctx<'_>, session: SessionId, opened: Opened<Kind>) {
        match opened {
            Opened::Accepted { kind: Kind::Bus, .. } => {}
            Opened::Accepted { kind: Kind::Client, .. } => self.server.on_open(cx, session, opened),
            Opened::Dialled => {
                if let Some(&node) = self.dialled.get(&session) {
                    self.table.peer_mut(node).link.open = true;
                    self.release(cx, node);
                    let now = self.now(cx);
                    self.greet(cx, node, now);
                } else if self.copies_on(session) {
                    self.on_copy_open(cx);
                } else if let Some(errand) = self.errand.as_ref().filter(|errand| errand.session == session) {
                    let order = crate::redis::message::Message::Command(errand.order.clone());
                    cx.send(session, Message::Redis(order));
                } else {
                    self.server.on_open(cx, session, opened);
                }
            }
        }
        self.before_sleep(cx);
    }

    fn on_message(&mut self, cx: &mut Ctx<'_>, session: SessionId, message: Message) {
        match message {
            Message::Bus(packet) => self.on_packet(cx, session, &packet),
            Message::Redis(message) => self.on_redis(cx, session, message),
        }
        self.before_sleep(cx);
    }

    fn on_close(&mut self, cx: &mut Ctx<'_>, session: SessionId, why: Closed) {
        if let Some(&node) = self.dialled.get(&session) {
            self.forget_link(session, node);
        } else if self.copies_on(session) {
            self.end_copy(cx, false);
        } else if self.errand.as_ref().is_none_or(|errand| errand.session != session) {
            self.server.on_close(cx, session, why);
        }
        self.before_sleep(cx);
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_>, timer: Timer) {
        match timer {
            Timer::Cron => self.cron(cx),
            Timer::Data(timer) => {
                let gate = super::commands::SlotGate {
                    table: &self.table,
                    settings: &self.settings,
                    key_has_left: false,
                };
                self.server.on_timer(cx, timer, &gate);
            }
            Timer::Nagle(node) => self.release(cx, node),
            Timer::Deadline | Timer::Retry | Timer::Refresh | Timer::Reshard | Timer::Orchestrate(_) => {}
        }
        self.before_sleep(cx);
    }

    fn on_synced(&mut self, cx: &mut Ctx<'_>, token: Token, result: Result<(), DiskError>) {
        if self.saving == Some(token) {
            self.saving = None;
            if let Err(error) = result {
                // Its word on disk is what it may say: without it the process ends.
                cx.note(|| format!("cannot save nodes.conf ({error:?}): ends"));
                cx.exit();
            }
        }
    }

    fn on_signal(&mut self, cx: &mut Ctx<'_>, signal: Signal) {
        let Signal::Terminate = signal;
        cx.note(|| "SIGTERM".into());
        self.on_shutdown_asked(false, false);
    }

    fn inspect(&self) -> Vec<Inspection> {
        let role = if self.table.is_primary(self.table.me) { Role::Primary } else { Role::Replica };
        let epoch = self.table.peer(self.table.my_head()).config_epoch;
        vec![Inspection { shard: self.shard, role, epoch, state: self.server.store.inspect() }]
    }
}
