//! The sentinel process. Everything but the handling of replies and hellos is driven by one timer, whose frequency is
//! drawn anew at each tick so that sentinels do not act in step.
//!
//! The rules in their order, and where they stand:
//!
//! 1. suspect (`s_down`): [`Instance::looks_down`](super::instance);
//! 2. declare (`o_down`), 3. start, 4. vote, 5. count: `election.rs`;
//! 6. select, 7. promote, 8. wait for the promotion, 9. repoint the others, 10. switch: `failover.rs`;
//!    hellos and configuration epochs: `greeting.rs`.
//!
//! All times are the wall clock's, as in the original: a jump of it is noticed by the timer, and the sentinel stops
//! acting for a while (TILT).
//!
//! The configuration file is written and synced before anything else is done, as the original does: the process
//! stands still meanwhile. A file that cannot be written is only worth a warning there, and here.

use super::instance::{Instance, Limits, Name, Who};
use super::link::{Asked, PING_PERIOD, older};
use super::quirks::Quirks;
use super::scripts::{Scripts, is_warning};
use super::settings::{self, CONFIG, Saved, SavedGroup, Settings};
use super::{Record, SentinelSystem, Timer};
use crate::contract::*;
use crate::redis::connection::matches_pattern;
use crate::redis::info::Info;
use crate::redis::message::{Channel, Command, Error, Message, Payload, Push, Reply};
use crate::redis::values::{Addr, Hex, RunId};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Slowest and fastest frequency of the timer, per second.
const HZ: core::ops::RangeInclusive<u64> = 10..=19;
/// Two ticks further apart than this, or in the wrong order, mean that the process or its clock cannot be trusted.
const TILT_TRIGGER: Duration = Duration::from_secs(2);
/// For how long, after the last such event.
const TILT_PERIOD: Duration = Duration::from_secs(30);

/// A sentinel.
#[derive(Debug)]
pub struct Sentinel {
    pub(super) me: Addr,
    pub(super) run_id: RunId,
    /// The highest epoch it has heard of.
    pub(super) epoch: u64,
    pub(super) groups: Vec<Group>,
    pub(super) quirks: Quirks,
    settings: Settings,
    pub(super) clients: BTreeMap<SessionId, Subscriber>,
    tilt_since: Option<WallTime>,
    previous_tick: Option<WallTime>,
    /// Something that must be on disk has changed in this step.
    pub(super) unsaved: bool,
    /// The sync that the process stands still for.
    saving: Option<Token>,
    /// Replies that wait for it.
    held_replies: Vec<(SessionId, Reply)>,
    /// What came in meanwhile.
    held_inputs: VecDeque<Input>,
    role: Role,
    pub(super) scripts: Scripts,
}

/// One group of a primary and its replicas, as this sentinel sees it.
#[derive(Debug)]
pub(super) struct Group {
    pub name: Name,
    /// The shard that it is to observers.
    pub shard: Shard,
    pub limits: Limits,
    pub primary: Instance,
    pub replicas: BTreeMap<Addr, Instance>,
    /// Every other sentinel ever heard of: all of them count for a majority, dead or alive.
    pub peers: BTreeMap<RunId, Instance>,
    /// Epoch of the configuration: the largest wins.
    pub config_epoch: u64,
    /// For whom this sentinel voted last.
    pub leader: Option<RunId>,
    /// And in which epoch.
    pub leader_epoch: u64,
    /// A quorum agrees that the primary is down (`o_down`).
    pub declared: bool,
    pub failover: Failover,
}

/// A failover that this sentinel runs, or tries to.
#[derive(Debug)]
pub(super) struct Failover {
    pub stage: Stage,
    /// The epoch it was started in.
    pub epoch: u64,
    /// When the stage was entered.
    pub since: WallTime,
    /// Start of the last attempt here, or vote for another's: no new attempt for twice the failover timeout.
    pub started_at: Option<WallTime>,
    /// The replica that is to become primary.
    pub promoted: Option<Addr>,
    /// An operator asked for it: no declaration, no election.
    pub forced: bool,
    /// Through the primary, without loss (Valkey 9.0).
    pub coordinated: bool,
}

/// Stages of a failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    None,
    WaitStart,
    Select,
    /// The primary is asked to hand over (coordinated only).
    AskPrimary,
    Promote,
    WaitPromotion,
    Repoint,
    Switch,
}

/// A connection that somebody dialled.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub channels: Vec<Channel>,
    pub patterns: Vec<Arc<[u8]>>,
    pub protocol: u8,
}

#[derive(Debug)]
enum Input {
    Open(SessionId, Opened<super::Kind>),
    Message(SessionId, Message),
    Close(SessionId),
    Tick,
}

impl Sentinel {
    /// A sentinel before its start.
    pub fn new(settings: Settings, me: Addr) -> Sentinel {
        Sentinel {
            me,
            run_id: RunId::default(),
            epoch: 0,
            groups: Vec::new(),
            quirks: settings.quirks,
            settings,
            clients: BTreeMap::new(),
            tilt_since: None,
            previous_tick: None,
            unsaved: false,
            saving: None,
            held_replies: Vec::new(),
            held_inputs: VecDeque::new(),
            role: Role::Follower,
            scripts: Scripts::default(),
        }
    }

    // --- the timer ---

    fn tick(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        self.check_tilt(cx);
        for index in 0..self.groups.len() {
            self.handle_group(cx, index);
        }
        self.run_scripts(cx);
        let hz =
            if self.quirks.steady_timer { *HZ.start() } else { cx.random().between(*HZ.start(), *HZ.end()) };
        cx.set_timer(Timer::Tick, Duration::from_millis(1000 / hz));
    }

    /// A tick that comes much too late, or before the last one, says that this process cannot judge time.
    fn check_tilt(&mut self, cx: &mut Cx<'_, SentinelSystem>) {
        let now = cx.wall();
        if let Some(previous) = self.previous_tick.replace(now)
            && (now.micros_since(previous) < 0 || older(now, Some(previous), TILT_TRIGGER))
        {
            self.tilt_since = Some(now);
            self.event(cx, "+tilt", None, || "#tilt mode entered".into());
        }
    }

    /// Whether it refrains from acting.
    pub(super) fn is_tilted(&self) -> bool {
        self.tilt_since.is_some()
    }

    /// The acting half of a tick is left out in TILT; the first tick after its end acts again.
    fn acts(&mut self, cx: &mut Cx<'_, SentinelSystem>) -> bool {
        let Some(since) = self.tilt_since else { return true };
        if !older(cx.wall(), Some(since), TILT_PERIOD) {
            return false;
        }
        self.tilt_since = None;
        self.event(cx, "-tilt", None, || "#tilt mode exited".into());
        true
    }

    fn handle_group(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize) {
        self.handle_instance(cx, index, Who::Primary);
        if self.acts(cx) {
            self.check_declared(cx, index);
            let forced = self.start_failover_if_needed(cx, index);
            if forced {
                self.ask_peers(cx, index, true);
            }
            self.failover_step(cx, index);
            self.ask_peers(cx, index, false);
        }
        // Ids are copied out: handling one may not add or remove another, but the borrow is of the whole sentinel.
        let replicas: Vec<Addr> = self.groups[index].replicas.keys().copied().collect();
        replicas.into_iter().for_each(|addr| self.handle_instance(cx, index, Who::Replica(addr)));
        let peers: Vec<RunId> = self.groups[index].peers.keys().copied().collect();
        peers.into_iter().for_each(|id| self.handle_instance(cx, index, Who::Peer(id)));
        if self.groups[index].failover.stage == Stage::Switch {
            self.switch_to_promoted(cx, index);
        }
    }

    /// What every watched node gets at a tick: a connection, questions, and judgement.
    fn handle_instance(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, who: Who) {
        self.talk_to(cx, index, who);
        if self.acts(cx) {
            self.check_suspected(cx, index, who);
        }
    }

    fn talk_to(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, who: Who) {
        let now = cx.wall();
        let in_trouble = self.groups[index].in_trouble();
        let ping_period = self.groups[index].limits.down_after.min(PING_PERIOD);
        let Some(instance) = self.groups[index].get_mut(who) else { return };
        instance.reconnect(cx, who);
        if instance.link.disconnected || instance.link.is_clogged() {
            return;
        }
        if !matches!(who, Who::Peer(_)) && instance.info_due(now, who, in_trouble) {
            instance.link.send(cx, Command::Info, Asked::Info);
        }
        if instance.link.ping_due(now, ping_period) {
            instance.link.ping(cx);
        }
        self.greet_if_due(cx, index, who);
    }

    fn check_suspected(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, who: Who) {
        let now = cx.wall();
        let group = &mut self.groups[index];
        let Some(instance) = group.get(who) else { return };
        let down = instance.looks_down(now, &group.limits, who);
        let down_after = group.limits.down_after;
        let Some(instance) = group.get_mut(who) else { return };
        instance.link.close_silent(cx, down_after);
        if down == instance.suspected {
            return;
        }
        instance.suspected = down;
        if down {
            instance.suspected_since = Some(now);
        }
        let addr = instance.addr;
        if down && who == Who::Primary {
            self.mark(cx, index, Mark::Suspected, addr);
        }
        self.event_about(cx, if down { "+sdown" } else { "-sdown" }, index, who);
    }

    // --- replies ---

    fn on_reply(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, who: Who, reply: Reply) {
        let now = cx.wall();
        let Some(instance) = self.groups[index].get_mut(who) else { return };
        match (instance.link.pending.pop_front(), reply) {
            (Some(Asked::Ping), reply) => {
                let pong = reply == Reply::Pong;
                if pong || matches!(reply, Reply::Error(Error::Loading | Error::PrimaryDown)) {
                    instance.link.available_at = now;
                    instance.link.unanswered_since = None;
                }
                if pong {
                    instance.rebooted_at = None;
                }
                instance.link.pong_at = now;
            }
            (Some(Asked::Info), Reply::Info(info)) => self.on_info(cx, index, who, &info),
            (Some(Asked::Publish), reply) if !reply.is_error() => instance.published_at = Some(now),
            (Some(Asked::Vote), Reply::Vote { down, leader, epoch }) => {
                instance.answered_at = Some(now);
                instance.says_down = down;
                if let Some(leader) = leader {
                    instance.vote = Some(super::instance::Vote { leader, epoch });
                }
            }
            // Replies to SLAVEOF and its transaction are not looked at: INFO tells what became of it.
            (Some(Asked::Other | Asked::Info | Asked::Publish | Asked::Vote) | None, _) => {}
        }
    }

    fn on_info(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, who: Who, info: &Info) {
        let now = cx.wall();
        let reboot_watched = !self.groups[index].limits.reboot_down_after.is_zero();
        let Some(instance) = self.groups[index].get_mut(who) else { return };
        let rebooted = instance.run_id.is_some_and(|id| id != info.run_id);
        instance.run_id = Some(info.run_id);
        if rebooted && reboot_watched {
            instance.rebooted_at = Some(now);
        }
        let reported_primary = instance.reports_primary;
        instance.take_info(now, info);
        if rebooted {
            self.event_about(cx, "+reboot", index, who);
        }
        if who == Who::Primary {
            for replica in &info.replicas {
                self.add_replica(cx, index, replica.addr);
            }
        }
        let reports_primary = info.follows.is_none();
        if reports_primary != reported_primary {
            let expected = reports_primary == (who == Who::Primary);
            self.event_about(cx, if expected { "+role-change" } else { "-role-change" }, index, who);
        }
        // What follows acts on other nodes.
        if self.is_tilted() {
            return;
        }
        if let Who::Replica(addr) = who {
            if reports_primary {
                self.on_replica_is_primary(cx, index, addr);
            } else {
                self.on_replica_follows(cx, index, addr);
            }
        }
    }

    pub(super) fn add_replica(&mut self, cx: &mut Cx<'_, SentinelSystem>, index: usize, addr: Addr) {
        let now = cx.wall();
        let group = &mut self.groups[index];
        if addr == group.primary.addr || group.replicas.contains_key(&addr) {
            return;
        }
        group.replicas.insert(addr, Instance::new(addr, now, false));
        self.unsaved = true;
        self.event_about(cx, "+slave", index, Who::Replica(addr));
    }

    // --- events ---

    /// A step of the failover of a group.
    pub(super) fn mark(&self, cx: &mut Cx<'_, SentinelSystem>, index: usize, mark: Mark, about: Addr) {
        cx.observe_shard(self.groups[index].shard, Observation::Mark { mark, about: Some(about) });
    }

    /// Tells subscribers, the story, and, if a group is concerned, its notification script.
    pub(super) fn event(
        &mut self,
        cx: &mut Cx<'_, SentinelSystem>,
        name: &'static str,
        group: Option<usize>,
        text: impl FnOnce() -> String + Clone,
    ) {
        if let Some(index) = group.filter(|_| is_warning(name)) {
            self.notify(index, name, text.clone());
        }
        let note = text.clone();
        cx.note(|| format!("{name} {}", note()));
        if self.clients.values().all(|client| client.channels.is_empty() && client.patterns.is_empty()) {
            return;
        }
        let channel = Channel::from_bytes(name.as_bytes());
        let payload = Payload::Text(text().into_bytes().into());
        for (&session, client) in &self.clients {
            let pattern = client.patterns.iter().find(|pattern| matches_pattern(pattern, channel.name()));
            if client.channels.contains(&channel) || pattern.is_some() {
                let pattern = pattern.cloned();
                let push = Push::Published { pattern, channel: channel.clone(), payload: payload.clone() };
                cx.send(session, Message::Push(push));
            }
        }
    }

    /// The same about a watched node, in the words of the original.
    pub(super) fn event_about(
        &mut self,
        cx: &mut Cx<'_, SentinelSystem>,
        name: &'static str,
        index: usize,
        who: Who,
    ) {
        let group = &self.groups[index];
        let Some(instance) = group.get(who) else { return };
        let (addr, primary, group_name) = (instance.addr, group.primary.addr, group.name.clone());
        self.event(cx, name, Some(index), move || match who {
            Who::Primary => format!("master {group_name} {} {}", addr.ip(), addr.port()),
            Who::Replica(_) | Who::Peer(_) => {
                let kind = if matches!(who, Who::Replica(_)) { "slave" } else { "sentinel" };
                let (ip, port) = (addr.ip(), addr.port());
                let of = format!("@ {group_name} {} {}", primary.ip(), primary.port());
                match who {
                    Who::Peer(id) => format!("{kind} {} {ip} {port} {of}", id.0),
                    _ => format!("{kind} {addr} {ip} {port} {of}"),
                }
            }
        });
    }

    pub(super) fn set_role(&mut self, cx: &mut Cx<'_, SentinelSystem>, role: Role) {
        if self.role != role {
            self.role = role;
            cx.observe(Observation::Role(role));
        }
    }

    // --- inputs ---

    /// Answers; if this step must be saved first, the answer waits for it.
    pub(super) fn reply(&mut self, cx: &mut Cx<'_, SentinelSystem>, session: SessionId, reply: Reply) {
        if self.unsaved && !self.quirks.votes_before_saving {
            self.held_replies.push((session, reply));
        } else {
            cx.send(session, Message::Reply(reply));
        }
    }

    fn input(&mut self, cx: &mut Cx<'_, SentinelSystem>, input: Input) {
        if self.saving.is_some() {
            self.held_inputs.push_back(input);
            return;
        }
        match input {
            Input::Open(session, opened) => self.opened(session, opened),
            Input::Message(session, message) => self.message(cx, session, message),
            Input::Close(session) => self.closed(session),
            Input::Tick => self.tick(cx),
        }
        if core::mem::take(&mut self.unsaved) {
            let record = Record::Sentinel(self.saved());
            self.saving = Some(cx.persist(CONFIG, record).token());
        }
    }

    /// What we dialled needs nothing: everything was written when it was dialled.
    fn opened(&mut self, session: SessionId, opened: Opened<super::Kind>) {
        if let Opened::Accepted { .. } = opened {
            let client = Subscriber { channels: Vec::new(), patterns: Vec::new(), protocol: 2 };
            self.clients.insert(session, client);
        }
    }

    fn message(&mut self, cx: &mut Cx<'_, SentinelSystem>, session: SessionId, message: Message) {
        match message {
            Message::Command(command) if self.clients.contains_key(&session) => {
                self.on_command(cx, session, command)
            }
            Message::Reply(reply) => {
                if let Some((index, who, true)) = self.find(session) {
                    self.on_reply(cx, index, who, reply);
                }
            }
            Message::Push(push) => {
                if let Some((index, who, false)) = self.find(session) {
                    self.on_push(cx, index, who, push);
                }
            }
            Message::Command(_) | Message::Snapshot(_) | Message::Stream { .. } => {}
        }
    }

    fn closed(&mut self, session: SessionId) {
        if self.clients.remove(&session).is_some() {
            return;
        }
        if let Some((index, who, _)) = self.find(session)
            && let Some(instance) = self.groups[index].get_mut(who)
        {
            instance.on_close(session);
        }
    }

    /// Whose connection it is, and whether it is the one for commands.
    fn find(&self, session: SessionId) -> Option<(usize, Who, bool)> {
        let is = |instance: &Instance| {
            let commands = instance.link.commands == Some(session);
            (commands || instance.link.hellos == Some(session)).then_some(commands)
        };
        self.groups.iter().enumerate().find_map(|(index, group)| {
            let primary = is(&group.primary).map(|commands| (index, Who::Primary, commands));
            primary
                .or_else(|| {
                    let of =
                        |(addr, replica): (&Addr, _)| is(replica).map(|c| (index, Who::Replica(*addr), c));
                    group.replicas.iter().find_map(of)
                })
                .or_else(|| {
                    let of = |(id, peer): (&RunId, _)| is(peer).map(|c| (index, Who::Peer(*id), c));
                    group.peers.iter().find_map(of)
                })
        })
    }

    // --- the configuration file ---

    fn saved(&self) -> Saved {
        let group = |group: &Group| SavedGroup {
            name: String::from(&*group.name),
            options: group.limits.saved(),
            primary: group.primary.addr,
            config_epoch: group.config_epoch,
            leader_epoch: group.leader_epoch,
            replicas: group.replicas.keys().copied().collect(),
            peers: group.peers.iter().map(|(id, peer)| (*id, peer.addr)).collect(),
        };
        Saved { run_id: self.run_id, epoch: self.epoch, groups: self.groups.iter().map(group).collect() }
    }

    /// The file is the whole configuration: a group that was removed at run time stays away, an added one is back.
    fn restore(&mut self, now: WallTime, saved: &Saved) {
        self.run_id = saved.run_id;
        self.epoch = saved.epoch;
        let restored = |group: &SavedGroup| {
            let shard = self.shard_of(&group.name);
            Group { shard, ..Group::restored(group, now) }
        };
        self.groups = saved.groups.iter().map(restored).collect();
    }

    /// The shard that observers know a group as; the first one for a group that is not in the settings.
    pub(super) fn shard_of(&self, name: &str) -> Shard {
        let configured = self.settings.groups.iter().find(|group| *group.name == *name);
        configured.map_or(Shard(0), |group| group.shard)
    }
}

impl Group {
    pub fn new(settings: &settings::Group, now: WallTime) -> Group {
        let limits = Limits::new(settings);
        Group {
            shard: settings.shard,
            ..Group::watching(settings.name.clone(), limits, settings.primary, now)
        }
    }

    /// A group as the configuration file has it.
    fn restored(saved: &SavedGroup, now: WallTime) -> Group {
        let limits = Limits::restored(&saved.options);
        let mut group = Group::watching(saved.name.as_str().into(), limits, saved.primary, now);
        group.config_epoch = saved.config_epoch;
        group.leader_epoch = saved.leader_epoch;
        let replica = |addr: &Addr| (*addr, Instance::new(*addr, now, false));
        group.replicas = saved.replicas.iter().map(replica).collect();
        group.peers = saved.peers.iter().map(|(id, addr)| (*id, Group::peer(*id, *addr, now))).collect();
        group
    }

    /// A group of which only the primary is known.
    fn watching(name: Name, limits: Limits, primary: Addr, now: WallTime) -> Group {
        Group {
            name,
            shard: Shard(0),
            limits,
            primary: Instance::new(primary, now, true),
            replicas: BTreeMap::new(),
            peers: BTreeMap::new(),
            config_epoch: 0,
            leader: None,
            leader_epoch: 0,
            declared: false,
            failover: Failover {
                stage: Stage::None,
                epoch: 0,
                since: now,
                started_at: None,
                promoted: None,
                forced: false,
                coordinated: false,
            },
        }
    }

    /// Another sentinel.
    pub fn peer(id: RunId, addr: Addr, now: WallTime) -> Instance {
        Instance { run_id: Some(id), ..Instance::new(addr, now, false) }
    }

    /// Declared down, or failing over.
    pub fn in_trouble(&self) -> bool {
        self.declared || self.failover.stage != Stage::None
    }

    /// Who clients are told is primary: the promoted replica as soon as it is known to be one.
    pub fn current_primary(&self) -> Addr {
        match self.failover.promoted {
            Some(promoted) if self.failover.stage >= Stage::Repoint => promoted,
            _ => self.primary.addr,
        }
    }

    pub fn get_mut(&mut self, who: Who) -> Option<&mut Instance> {
        match who {
            Who::Primary => Some(&mut self.primary),
            Who::Replica(addr) => self.replicas.get_mut(&addr),
            Who::Peer(id) => self.peers.get_mut(&id),
        }
    }

    pub fn get(&self, who: Who) -> Option<&Instance> {
        match who {
            Who::Primary => Some(&self.primary),
            Who::Replica(addr) => self.replicas.get(&addr),
            Who::Peer(id) => self.peers.get(&id),
        }
    }
}

impl Node<SentinelSystem> for Sentinel {
    fn start(&mut self, cx: &mut Cx<'_, SentinelSystem>, disk: &DiskImage<SentinelSystem>) {
        let now = cx.wall();
        self.groups = self.settings.groups.iter().map(|group| Group::new(group, now)).collect();
        match disk.last(CONFIG) {
            Some(Record::Sentinel(saved)) => self.restore(now, saved),
            _ => {
                self.run_id = RunId(Hex::random(cx.random()));
                cx.persist(CONFIG, Record::Sentinel(self.saved()));
            }
        }
        cx.observe(Observation::Role(Role::Follower));
        cx.observe(Observation::Epoch(self.epoch));
        // Processes are not started at the same instant: each has its own phase.
        let phase = cx.random().duration(Duration::ZERO, Duration::from_millis(1000 / HZ.start()));
        cx.set_timer(Timer::Tick, phase);
    }

    fn on_open(&mut self, cx: &mut Cx<'_, SentinelSystem>, session: SessionId, opened: Opened<super::Kind>) {
        self.input(cx, Input::Open(session, opened));
    }

    fn on_message(&mut self, cx: &mut Cx<'_, SentinelSystem>, session: SessionId, message: Message) {
        self.input(cx, Input::Message(session, message));
    }

    fn on_close(&mut self, cx: &mut Cx<'_, SentinelSystem>, session: SessionId, _: Closed) {
        self.input(cx, Input::Close(session));
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, SentinelSystem>, _: Timer) {
        self.input(cx, Input::Tick);
    }

    fn on_child_ended(&mut self, _: &mut Cx<'_, SentinelSystem>, child: ChildId, ended: Ended) {
        self.scripts.on_ended(child, ended);
    }

    fn on_synced(&mut self, cx: &mut Cx<'_, SentinelSystem>, token: Token, result: Result<(), DiskError>) {
        if self.saving != Some(token) {
            return;
        }
        self.saving = None;
        if let Err(error) = result {
            cx.note(|| format!("warning: the configuration file was not saved: {error:?}"));
        }
        for (session, reply) in core::mem::take(&mut self.held_replies) {
            cx.send(session, Message::Reply(reply));
        }
        while self.saving.is_none() {
            let Some(input) = self.held_inputs.pop_front() else { return };
            self.input(cx, input);
        }
    }
}
