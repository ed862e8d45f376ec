//! Restoring: a process that fetches the newest state that the store can give, proves it, and, if it is ordered to,
//! makes it the beginning of a new history on a data node that has lost everything.
//!
//! Without an order it drills: the same restore, onto a machine of its own, by a schedule. A drill ends with how far
//! the state was proved, and how long it took from the order on.

use super::link::StoreLink;
use super::*;
use crate::agent::message::Message;
use crate::agent::settings::{AtPort, BackupSettings, NodeId, SEED_PORT, Settings};
use crate::agent::wal::{Lsn, Position, point_number};
use crate::agent::{Agent, Job, Kind as Wire, Timer};
use crate::contract::*;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Objects that are asked for at a time.
const IN_FLIGHT: usize = 4;

/// How often the catalog is read before an order is given up.
const ATTEMPTS: u32 = 3;

/// What was ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Order {
    /// Into this data node; `None`: a drill.
    into: Option<NodeId>,
    /// Where it is to arrive.
    target: Target,
}

impl Order {
    const DRILL: Order = Order { into: None, target: Target::Newest };

    /// `restore`, then any of `into NODE`, `to LSN`, `back SECONDS`, `point NAME`, `immediate`.
    fn parse(words: &str, now: WallTime) -> Option<Order> {
        let mut words = words.split(' ');
        let mut order = Order::DRILL;
        if words.next() != Some("restore") {
            return None;
        }
        while let Some(what) = words.next() {
            match what {
                "into" => order.into = Some(NodeId(words.next()?.parse().ok()?)),
                "to" => order.target = Target::Position(Lsn(words.next()?.parse().ok()?)),
                "back" => {
                    let seconds: i64 = words.next()?.strip_suffix('s')?.parse().ok()?;
                    order.target = Target::Time(WallTime(now.0 - seconds * 1_000_000));
                }
                "point" => order.target = Target::Point(words.next()?.into()),
                "immediate" => order.target = Target::BackupEnd,
                _ => return None,
            }
        }
        Some(order)
    }
}

#[derive(Debug)]
enum Phase {
    Idle,
    /// Somebody decides, and a machine is found.
    Preparing,
    /// Names, catalog and archive are read.
    Reading,
    /// The objects of one backup are fetched.
    Fetching(BackupId),
    /// The state is handed to a data node.
    Seeding(SessionId, SourceMessage),
}

/// The process.
pub struct Restorer {
    settings: Arc<Settings>,
    store: StoreLink,
    phase: Phase,
    order: Order,
    /// Its target, as it was found in the archive.
    arrival: Arrival,
    ordered_at: LocalTime,
    mirror: Store,
    /// Objects to be fetched and not asked for yet.
    wanted: Vec<Name>,
    /// Backups not tried yet, oldest first.
    left: Vec<BackupId>,
    /// The best so far, where a newer backup lies on an overruled branch.
    best: Option<Restored>,
    broken: u64,
    /// How often the catalog was read for this order.
    attempts: u32,
    number: u32,
    shown: Vec<Exhibit>,
}

impl Restorer {
    /// A restorer.
    pub fn new(settings: Arc<Settings>) -> Self {
        let backup = settings.backup.clone().expect("a restorer is only built with backups");
        Restorer {
            settings,
            store: StoreLink::new(
                backup.store.at_port(crate::agent::settings::RESTORE_PORT),
                Wire::RestoreRead,
            ),
            phase: Phase::Idle,
            order: Order::DRILL,
            arrival: Arrival::Furthest,
            ordered_at: LocalTime(0),
            mirror: Store::default(),
            wanted: Vec::new(),
            left: Vec::new(),
            best: None,
            broken: 0,
            attempts: 0,
            number: 0,
            shown: Vec::new(),
        }
    }

    fn backup(&self) -> &BackupSettings {
        self.settings.backup.as_ref().expect("a restorer is only built with backups")
    }

    fn begin(&mut self, cx: &mut Cx<'_, Agent>, order: Order) -> bool {
        if !matches!(self.phase, Phase::Idle) {
            return false;
        }
        self.number += 1;
        cx.note(|| alloc::format!("restore {} is ordered: {order:?}", self.number));
        cx.observe(Observation::Gauge { name: "restore_ordered", value: u64::from(self.number) });
        match &order.target {
            Target::Time(time) => {
                let back = (cx.wall().0 - time.0) / 1_000;
                cx.observe(Observation::Gauge { name: "restore_back_ms", value: back as u64 });
            }
            Target::Point(name) => {
                let value = u64::from(point_number(name));
                cx.observe(Observation::Gauge { name: "restore_to_point", value });
            }
            Target::Newest | Target::BackupEnd | Target::Position(_) => {}
        }
        (self.order, self.ordered_at, self.broken, self.best) = (order, cx.now(), 0, None);
        self.attempts = 0;
        self.phase = Phase::Preparing;
        cx.set_timer(Timer::Job(Job::Prepare), self.backup().costs.prepare);
        true
    }

    fn read(&mut self, cx: &mut Cx<'_, Agent>) {
        self.attempts += 1;
        self.wanted.clear();
        self.mirror = Store::default();
        self.phase = Phase::Reading;
        self.store.ask(cx, StoreAsk::List);
    }

    /// Everything asked for is here.
    fn go_on(&mut self, cx: &mut Cx<'_, Agent>) {
        self.ask_for_more(cx);
        if !self.store.idle() {
            return;
        }
        match self.phase {
            Phase::Reading => {
                self.left = self.mirror.catalog().map(|backup| backup.id).collect();
                self.find(cx);
            }
            Phase::Fetching(id) => self.fetched(cx, id),
            Phase::Idle | Phase::Preparing | Phase::Seeding(..) => {}
        }
    }

    /// Looks for the target in the archive: what is not there is not restored, rather than something near it.
    fn find(&mut self, cx: &mut Cx<'_, Agent>) {
        match arrival(&self.mirror, &self.order.target) {
            Ok(arrival) => {
                self.arrival = arrival;
                if let (Target::Time(time), Arrival::At(lsn)) = (&self.order.target, arrival) {
                    let value = stamped_back(&self.mirror, lsn, *time);
                    cx.observe(Observation::Gauge { name: "restore_stamped_back", value });
                }
            }
            Err(why) => {
                cx.note(|| alloc::format!("the target is not in the archive: {why:?}"));
                self.left.clear();
            }
        }
        self.fetch(cx);
    }

    /// Fetches the newest backup that was not tried, and holds it so that nobody expires it meanwhile.
    fn fetch(&mut self, cx: &mut Cx<'_, Agent>) {
        let Some(id) = self.left.pop() else { return self.done(cx) };
        let Some(backup) = self.mirror.backup(id).cloned() else { return self.done(cx) };
        self.phase = Phase::Fetching(id);
        let (name, object) = (Name::Hold(id), Object::Position(backup.end()));
        self.store.ask(cx, StoreAsk::Put { name, object, condition: Condition::Always });
        let block =
            |(number, place): (&BlockNumber, &BlockRef)| Name::Block(place.holder, *number, place.lsn);
        self.wanted = backup.blocks.iter().map(block).chain(backup.log.map(|_| Name::Log(id))).collect();
    }

    /// Asks for some of the objects at a time: what is asked for must fit into memory.
    fn ask_for_more(&mut self, cx: &mut Cx<'_, Agent>) {
        while self.store.open_requests() < IN_FLIGHT
            && let Some(name) = self.wanted.pop()
        {
            self.store.ask(cx, StoreAsk::Get { name });
        }
    }

    fn fetched(&mut self, cx: &mut Cx<'_, Agent>, id: BackupId) {
        self.store.ask(cx, StoreAsk::Delete { name: Name::Hold(id) });
        let Some(end) = self.mirror.backup(id).map(|backup| backup.end()) else { return self.done(cx) };
        let target = match self.arrival {
            Arrival::Furthest => reach(&self.mirror, end),
            Arrival::BackupEnd => end.lsn,
            Arrival::At(lsn) => lsn,
        };
        match restore_to(&self.mirror, id, target) {
            Ok(restored) => {
                let overruled =
                    self.mirror.history().get(&end.lsn).is_some_and(|entry| entry.position != end);
                if self.best.as_ref().is_none_or(|best| restored.end() > best.end()) {
                    self.best = Some(restored);
                }
                if overruled { self.fetch(cx) } else { self.done(cx) }
            }
            // It is newer than what is wanted, an older one may do.
            Err(Unrestorable::TooEarly) => self.fetch(cx),
            Err(why) => {
                self.broken += 1;
                cx.note(|| alloc::format!("backup {} cannot be restored: {why:?}", id.0));
                self.fetch(cx);
            }
        }
    }

    /// No backup is left to try, or the best is found.
    fn done(&mut self, cx: &mut Cx<'_, Agent>) {
        self.phase = Phase::Idle;
        cx.observe(Observation::Gauge { name: "restore_broken_backups", value: self.broken });
        let Some(restored) = self.best.take() else {
            // The catalog may have changed while we read: what it listed then may have been expired.
            if self.attempts < ATTEMPTS {
                return self.read(cx);
            }
            cx.note(|| "nothing can be restored".into());
            cx.observe(Observation::Gauge { name: "restore_failed", value: u64::from(self.number) });
            return self.show(None);
        };
        // Replay and proof take their time on this machine.
        let work = self.backup().costs.replay(restored.replayed, restored.size());
        let level = self.level(&restored);
        let took = cx.now().since(self.ordered_at) + work;
        cx.busy(work);
        cx.note(|| alloc::format!("restored backup {} to {:?}: {level:?}", restored.from.0, restored.end()));
        cx.observe(Observation::Gauge { name: "restore_rto_ms", value: took.as_millis() as u64 });
        cx.observe(Observation::Gauge { name: "restore_chain", value: self.chain(restored.from) });
        cx.observe(Observation::Gauge { name: "restore_level", value: level as u64 });
        if let Some(node) = self.order.into {
            let changes: Vec<_> = restored.blocks.values().flat_map(|block| block.graph.changes()).collect();
            let address = self.settings.cluster.address(node).at_port(SEED_PORT);
            let session = cx.open(address, Wire::Seed);
            let seed = SourceMessage::Seed { changes: changes.into(), of: restored.term };
            self.phase = Phase::Seeding(session, seed);
        }
        self.show(Some(restored));
    }

    /// How far the state is proved: to be compared, the source must have told the digest of its own.
    fn level(&self, restored: &Restored) -> Level {
        let told = self
            .mirror
            .backup(restored.from)
            .and_then(|backup| backup.state.map(|state| (backup.stop, state)));
        let alone = restore(&self.mirror, restored.from).map(|restored| restored.digest());
        match (told, alone) {
            (Some((_, told)), Ok(digest)) if told == digest => Level::Compared,
            _ => Level::Restored,
        }
    }

    /// Links of the chain that the backup's blocks lie in.
    fn chain(&self, id: BackupId) -> u64 {
        let mut holders: Vec<BackupId> = self
            .mirror
            .backup(id)
            .map(|backup| backup.blocks.values().map(|place| place.holder).collect())
            .unwrap_or_default();
        holders.sort_unstable();
        holders.dedup();
        holders.len() as u64
    }

    fn show(&mut self, restored: Option<Restored>) {
        let shown = RestoreShown {
            backup: restored.as_ref().map_or(0, |restored| restored.from.0),
            term: restored.as_ref().map_or(0, |restored| restored.term.0),
            target: restored.as_ref().map_or(0, |restored| restored.at.0),
            order: self.number,
            why: if restored.is_some() { String::new() } else { "nothing can be restored".into() },
            state: restored.map(|restored| restored.elements()),
        };
        self.shown.push(Exhibit::Restore(shown));
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Agent>, words: &str) -> &'static str {
        let Some(order) = Order::parse(words, cx.wall()) else { return "unknown command" };
        if self.begin(cx, order) { "ordered" } else { "a restore is under way" }
    }

    fn on_store(&mut self, cx: &mut Cx<'_, Agent>, ask: &StoreAsk, answer: StoreAnswer) {
        match (ask, answer) {
            (StoreAsk::List, StoreAnswer::Names(names)) => {
                // From here on the restore sees nothing new: this is the moment that its loss is counted from.
                cx.observe(Observation::Gauge { name: "restore_reads", value: u64::from(self.number) });
                for name in names.iter().filter(|name| matches!(name, Name::Catalog(_) | Name::Segment(..))) {
                    self.store.ask(cx, StoreAsk::Get { name: *name });
                }
            }
            (StoreAsk::Get { name }, StoreAnswer::Found(object)) => {
                self.mirror.take(Put { name: *name, object, condition: Condition::Always });
            }
            _ => {}
        }
        self.go_on(cx);
    }

    fn drill_later(&self, cx: &mut Cx<'_, Agent>) {
        if let Some(every) = self.backup().drill_every {
            cx.set_timer(Timer::Job(Job::Drill), every);
        }
    }
}

impl Node<Agent> for Restorer {
    fn start(&mut self, cx: &mut Cx<'_, Agent>, _disk: &DiskImage<Agent>) {
        self.drill_later(cx);
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, _opened: Opened<Wire>) {
        if self.store.owns(session) {
            return self.store.on_open(cx);
        }
        if let Phase::Seeding(ours, seed) = &self.phase
            && *ours == session
        {
            cx.send(session, Message::Source(seed.clone()));
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: Message) {
        match message {
            Message::Store(StoreMessage::Answer { id, answer }) if self.store.owns(session) => {
                if let Some((ask, answer)) = self.store.on_answer(cx, id, answer) {
                    self.on_store(cx, &ask, answer);
                }
            }
            Message::Source(SourceMessage::Seeded { taken }) => {
                cx.note(|| {
                    alloc::format!("the data node {} the state", if taken { "has" } else { "refused" })
                });
                cx.observe(Observation::Gauge { name: "restore_seeded", value: u64::from(taken) });
                cx.close(session);
                self.phase = Phase::Idle;
            }
            Message::Query { id, op: Op::Command { words, .. }, .. } => {
                let text = self.on_command(cx, &words);
                let result = Ok(Outcome::Text(text.into()));
                cx.send(session, Message::Result { id, result, at: Position::default() });
            }
            _ => {}
        }
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, _why: Closed) {
        if self.store.owns(session) {
            return self.store.on_close();
        }
        // The data node is not there (yet): the order stands.
        if let Phase::Seeding(ours, _) = &self.phase
            && *ours == session
        {
            cx.set_timer(Timer::Job(Job::Again), Duration::from_secs(1));
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Agent>, timer: Timer) {
        match timer {
            Timer::Job(Job::Drill) => {
                self.begin(cx, Order::DRILL);
                self.drill_later(cx);
            }
            Timer::Job(Job::Prepare) => self.read(cx),
            Timer::Job(Job::StoreLook) => self.store.look(cx),
            Timer::Job(Job::Again) => {
                if let (Phase::Seeding(session, _), Some(node)) = (&mut self.phase, self.order.into) {
                    let address = self.settings.cluster.address(node).at_port(SEED_PORT);
                    *session = cx.open(address, Wire::Seed);
                }
            }
            _ => {}
        }
    }

    fn exhibits(&self) -> Vec<Exhibit> {
        self.shown.clone()
    }
}
