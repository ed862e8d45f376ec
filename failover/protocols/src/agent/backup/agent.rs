//! The backup agent: takes backups by its schedule, goes on with what was interrupted, expires old chains, and archives
//! the log meanwhile.
//!
//! A run is: claim the right to write → read the catalog and the unfinished session → ask the source for an offer →
//! prove what an interrupted run has stored → copy block by block → the log → the catalog entry → expire. Whatever
//! breaks it (the source, the store, the agent itself) leads back to the beginning; the session in the store remembers
//! how far it had come.

mod archive;

use super::link::{SourceEvent, SourceLink, StoreLink};
use super::schedule::Guard;
use super::*;
use crate::agent::message::Message;
use crate::agent::settings::{BackupSettings, Settings};
use crate::agent::wal::Position;
use crate::agent::{Agent, Job, Kind as Wire, Timer};
use crate::contract::*;
use alloc::sync::Arc;
use alloc::vec::Vec;
use archive::Archive;

/// How long the right to write lasts; renewed at a third (litestream: 30 s).
/// Whether a backup is being copied.
const RUNNING: &str = "backup_running";
const WRITER_FOR: Duration = Duration::from_secs(30);

/// When a killed process is started again (kubelet: the first back-off is 10 s).
const RESTARTED_AFTER: Duration = Duration::from_secs(10);

/// What a killed process no longer waits for.
const TIMERS: [Job; 7] =
    [Job::Schedule, Job::Again, Job::Throttle, Job::Writer, Job::Archive, Job::StoreLook, Job::SourceLook];

/// Wait before a run that broke begins again.
const AGAIN: Duration = Duration::from_secs(2);

/// Where a run stands.
#[derive(Debug)]
enum Phase {
    Idle,
    /// The right to write is read, then taken.
    Claiming,
    /// The names are asked for, then the catalog and the session.
    Reading,
    /// The source is asked for an offer.
    Opening(Plan),
    /// The blocks of an interrupted session are read back.
    Proving(Offer),
    /// A block or the log is asked for, or what came of it is being put.
    Copying(Copying),
    /// All is put but the catalog entry.
    Closing(Put),
    /// The catalog entry is being put.
    Publishing(BackupId),
    /// The names are asked for once more: restores that began meanwhile hold what they read.
    Holding,
    /// The session and old chains are being deleted.
    Expiring,
}

/// The process.
pub struct BackupAgent {
    settings: Arc<Settings>,
    number: u8,
    store: StoreLink,
    source: SourceLink,
    archive: Archive,
    phase: Phase,
    guard: Guard,
    /// The catalog, the session, and what is being proved.
    mirror: Store,
    /// Our right to write, as it is in the store.
    writer: Option<Writer>,
    /// A fresh backup is wanted, not only the end of an unfinished one.
    fresh: bool,
    /// The token bucket is empty until its timer comes.
    throttled: bool,
    /// Bytes of the backup that is being published.
    published: u64,
    restarts: u64,
    resumed: u64,
    /// How often it was killed for its memory.
    killed: u64,
    /// Killed, and not started again yet.
    down: bool,
}

impl BackupAgent {
    /// Agent number `number`, from 1.
    pub fn new(settings: Arc<Settings>, number: u8) -> Self {
        let backup = settings.backup.clone().expect("an agent is only built with backups");
        let mut store = StoreLink::new(backup.store, Wire::Store);
        store.heeds_failures = !settings.quirks.ignores_failed_puts();
        BackupAgent {
            source: SourceLink::new(settings.clone(), backup.source),
            archive: Archive::new(settings.clone(), &backup),
            settings,
            number,
            store,
            phase: Phase::Idle,
            guard: Guard::default(),
            mirror: Store::default(),
            writer: None,
            fresh: false,
            throttled: false,
            published: 0,
            restarts: 0,
            resumed: 0,
            killed: 0,
            down: false,
        }
    }

    /// The process begins, or begins again.
    fn begin_life(&mut self, cx: &mut Cx<'_, Agent>) {
        let first = self.backup().schedule.until_next(cx.wall());
        cx.set_timer(Timer::Job(Job::Schedule), first);
        self.archive.start(cx);
        // What was interrupted when this process ended is gone on with at once, whatever the hour.
        if self.guard.due(self.backup().overlap) {
            self.begin(cx);
        }
    }

    /// A piece of log came. With what else this process holds it must stay below the limit of its container; the kernel
    /// ends a process that does not, and the supervisor starts it again: all that it had in memory is gone.
    fn weigh(&mut self, cx: &mut Cx<'_, Agent>, message: &Message) {
        let Some(limit) = self.backup().memory_limit else { return };
        let came = match message {
            Message::Source(SourceMessage::Log { entries, .. }) => chain::log_bytes(entries),
            _ => return,
        };
        let held = came + self.store.held() + self.archive.held();
        cx.observe(Observation::Gauge { name: "backup_memory_bytes", value: held });
        if held <= limit {
            return;
        }
        cx.note(|| alloc::format!("killed: {held} bytes are more than the limit of {limit}"));
        self.store.hang_up(cx);
        self.source.hang_up(cx);
        self.archive.hang_up(cx);
        TIMERS.into_iter().for_each(|job| cx.cancel_timer(Timer::Job(job)));
        let killed = self.killed + 1;
        *self = BackupAgent { killed, down: true, ..BackupAgent::new(self.settings.clone(), self.number) };
        cx.observe(Observation::Gauge { name: "backup_killed", value: killed });
        cx.set_timer(Timer::Job(Job::Restart), RESTARTED_AFTER);
    }

    fn backup(&self) -> &BackupSettings {
        self.settings.backup.as_ref().expect("an agent is only built with backups")
    }

    // ------------------------------------------------------------------------------------------------------ the run

    /// The schedule says that a backup is due.
    fn due(&mut self, cx: &mut Cx<'_, Agent>) {
        let overlap = self.backup().overlap;
        if self.guard.due(overlap) {
            self.fresh = true;
            return self.begin(cx);
        }
        cx.note(|| "a backup is due and the one before it has not ended".into());
        cx.observe(Observation::Gauge { name: "backup_skipped", value: u64::from(self.guard.skipped) });
    }

    fn begin(&mut self, cx: &mut Cx<'_, Agent>) {
        self.store.forget();
        self.mirror = Store::default();
        if self.backup().writer_lease {
            self.phase = Phase::Claiming;
            self.store.ask(cx, StoreAsk::Get { name: Name::Writer });
        } else {
            self.read(cx);
        }
    }

    fn read(&mut self, cx: &mut Cx<'_, Agent>) {
        self.phase = Phase::Reading;
        self.store.ask(cx, StoreAsk::List);
    }

    /// Something that the run rests on is gone: from the beginning, after a while.
    fn broke(&mut self, cx: &mut Cx<'_, Agent>, why: &'static str) {
        cx.note(|| alloc::format!("the run breaks off: {why}"));
        cx.observe(Observation::Gauge { name: RUNNING, value: 0 });
        self.store.forget();
        self.phase = Phase::Idle;
        cx.set_timer(Timer::Job(Job::Again), AGAIN);
    }

    fn ended(&mut self, cx: &mut Cx<'_, Agent>) {
        cx.observe(Observation::Gauge { name: RUNNING, value: 0 });
        self.phase = Phase::Idle;
        self.mirror = Store::default();
        self.release(cx);
        self.fresh = self.guard.ended();
        if self.fresh {
            self.begin(cx);
        }
    }

    // ------------------------------------------------------------------------------------------ one writer at a time

    /// What is known of the right to write: take it if it is free, over, or ours.
    fn claim(&mut self, cx: &mut Cx<'_, Agent>, there: Option<Writer>) {
        let now = cx.wall().0;
        if let Some(writer) = there.filter(|writer| writer.holder != self.number && writer.until > now) {
            cx.note(|| alloc::format!("agent {} writes; this run does not take place", writer.holder));
            self.phase = Phase::Idle;
            self.fresh = self.guard.ended();
            return;
        }
        let until = now + WRITER_FOR.as_micros() as i64;
        let writer = Writer {
            holder: self.number,
            generation: there.map_or(1, |writer| writer.generation + 1),
            until,
        };
        let condition =
            there.map_or(Condition::Absent, |there| Condition::Tag(digest_of(&Object::Writer(there))));
        self.put(cx, Put { name: Name::Writer, object: Object::Writer(writer), condition });
        self.writer = Some(writer);
        cx.set_timer(Timer::Job(Job::Writer), WRITER_FOR / 3);
    }

    fn renew(&mut self, cx: &mut Cx<'_, Agent>) {
        if let (Some(writer), false) = (self.writer, matches!(self.phase, Phase::Idle)) {
            self.claim(cx, Some(writer));
        }
    }

    fn release(&mut self, cx: &mut Cx<'_, Agent>) {
        let Some(writer) = self.writer.take() else { return };
        cx.cancel_timer(Timer::Job(Job::Writer));
        let object = Object::Writer(Writer { until: 0, ..writer });
        let condition = Condition::Tag(digest_of(&Object::Writer(writer)));
        self.put(cx, Put { name: Name::Writer, object, condition });
    }

    // ------------------------------------------------------------------------------------------------------ planning

    /// Catalog and session are here: go on with the session, or begin a new backup.
    fn plan(&mut self, cx: &mut Cx<'_, Agent>) {
        let plan = match self.mirror.session() {
            Some(session) => session.plan,
            None if self.fresh => self.next_plan(),
            None => return self.ended(cx),
        };
        let parent = plan.parent.and_then(|id| self.mirror.backup(id)).map(|backup| backup.end());
        self.phase = Phase::Opening(plan);
        self.source.ask(cx, SourceMessage::Open { parent });
    }

    fn next_plan(&self) -> Plan {
        let backup = self.backup();
        let newest = self.mirror.catalog().next_back().map(|newest| newest.id);
        let number = newest.map_or(0, |id| id.0) + 1;
        let due = |every: u32| every > 0 && (number - 1).is_multiple_of(every);
        let kind = match newest {
            None => Kind::Base,
            Some(_) if due(backup.base_every) => Kind::Base,
            Some(_) if due(backup.checkpoint_every) => Kind::Checkpoint,
            Some(_) => Kind::Delta,
        };
        Plan {
            id: BackupId(number),
            kind,
            parent: newest.filter(|_| kind != Kind::Base),
            group: backup.group,
            snapshot: backup.snapshot,
            finding: backup.finding,
        }
    }

    fn on_offer(&mut self, cx: &mut Cx<'_, Agent>, mut offer: Offer) {
        let Phase::Opening(plan) = core::mem::replace(&mut self.phase, Phase::Idle) else { return };
        if self.settings.quirks.trusts_any_parent() {
            offer.continues = true;
        }
        if let Some(session) = self.mirror.session().cloned() {
            for (number, lsn) in &session.stored {
                self.store.ask(cx, StoreAsk::Get { name: Name::Block(plan.id, *number, *lsn) });
            }
            self.phase = Phase::Proving(offer);
            return self.go_on(cx);
        }
        let plan = match offer.continues {
            true => plan,
            // The source has another history than the chain: a delta cannot rest on it.
            false => Plan { kind: Kind::Base, parent: None, ..plan },
        };
        let (copying, saved) = Copying::begin(&self.mirror, &offer, plan);
        cx.note(|| alloc::format!("backup {} begins: {:?} at {:?}", plan.id.0, plan.kind, offer.applied));
        cx.observe(Observation::Gauge { name: RUNNING, value: 1 });
        self.phase = Phase::Copying(copying);
        self.put(cx, saved);
    }

    /// The blocks of the interrupted run are here.
    fn proved(&mut self, cx: &mut Cx<'_, Agent>, offer: Offer) {
        match Copying::resume(&self.mirror, &offer) {
            Resume::Resumed(copying) => {
                self.resumed += 1;
                cx.note(|| alloc::format!("goes on behind {:?}", copying.session().last_block));
                cx.observe(Observation::Gauge { name: "backup_resumed", value: self.resumed });
                cx.observe(Observation::Gauge { name: RUNNING, value: 1 });
                self.phase = Phase::Copying(copying);
                self.copy(cx);
            }
            Resume::Restart(why) => {
                self.restarts += 1;
                cx.note(|| alloc::format!("begins anew: {why}"));
                cx.observe(Observation::Gauge { name: "backup_restarted", value: self.restarts });
                self.mirror.delete(Name::Session);
                self.fresh = true;
                self.plan(cx);
            }
            Resume::Nothing => self.plan(cx),
        }
    }

    // ------------------------------------------------------------------------------------------------------- copying

    fn put(&mut self, cx: &mut Cx<'_, Agent>, put: Put) {
        let Put { name, object, condition } = put;
        self.store.ask(cx, StoreAsk::Put { name, object, condition });
    }

    /// The next block, or, when all are there, the log.
    fn copy(&mut self, cx: &mut Cx<'_, Agent>) {
        let Phase::Copying(copying) = &self.phase else { return };
        match copying.wants() {
            Some(number) => self.source.ask(cx, SourceMessage::ReadBlock { number }),
            None => {
                let after = alloc::vec![copying.session().start];
                self.source.ask(cx, SourceMessage::ReadLog { after, digest: true, most: u64::MAX });
            }
        }
    }

    fn on_block(&mut self, cx: &mut Cx<'_, Agent>, number: BlockNumber, block: Option<Arc<Block>>) {
        let Phase::Copying(copying) = &mut self.phase else { return };
        if copying.wants() != Some(number) {
            return;
        }
        let puts = copying.take(block.as_ref());
        let bytes: u64 = block.iter().map(|block| block.graph.size()).sum();
        puts.into_iter().for_each(|put| self.put(cx, put));
        if let Some(rate) = self.backup().bandwidth {
            self.throttled = true;
            cx.set_timer(Timer::Job(Job::Throttle), per(bytes.max(1), rate));
        }
        self.go_on(cx);
    }

    fn on_log(&mut self, cx: &mut Cx<'_, Agent>, ending: Ending, known: bool) {
        let Phase::Copying(copying) = core::mem::replace(&mut self.phase, Phase::Idle) else { return };
        if !known {
            return self.broke(cx, "the source no longer has the position where the copy began");
        }
        let mut puts = copying.close(ending);
        let Some(catalog) = puts.pop() else { return };
        puts.into_iter().for_each(|put| self.put(cx, put));
        self.phase = Phase::Closing(catalog);
        self.go_on(cx);
    }

    /// Nothing is unanswered: the next step.
    fn go_on(&mut self, cx: &mut Cx<'_, Agent>) {
        let waits = !self.store.idle() && self.store.heeds_failures;
        if waits || self.throttled {
            return;
        }
        match core::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Claiming => self.read(cx),
            Phase::Reading => self.plan(cx),
            Phase::Proving(offer) => self.proved(cx, offer),
            Phase::Copying(copying) => {
                self.phase = Phase::Copying(copying);
                self.copy(cx);
            }
            Phase::Closing(catalog) => {
                if let Object::Catalog(backup) = &catalog.object {
                    self.phase = Phase::Publishing(backup.id);
                    self.published = backup.bytes;
                }
                self.mirror.take(catalog.clone());
                self.put(cx, catalog);
            }
            Phase::Publishing(id) => {
                cx.note(|| alloc::format!("backup {} is listed", id.0));
                cx.observe(Observation::Gauge { name: "backup_listed", value: u64::from(id.0) });
                cx.observe(Observation::Gauge { name: "backup_bytes", value: self.published });
                self.phase = Phase::Holding;
                for id in self.mirror.held() {
                    self.mirror.delete(Name::Hold(id));
                }
                self.store.ask(cx, StoreAsk::List);
            }
            Phase::Holding => self.expire(cx),
            Phase::Expiring => self.ended(cx),
            other @ (Phase::Idle | Phase::Opening(_)) => self.phase = other,
        }
    }

    /// Deletes the session, then what retention no longer keeps: catalog entries first, children before parents.
    fn expire(&mut self, cx: &mut Cx<'_, Agent>) {
        self.phase = Phase::Expiring;
        self.mirror.delete(Name::Session);
        self.store.ask(cx, StoreAsk::Delete { name: Name::Session });
        if self.settings.quirks.expires_what_is_being_read() {
            for id in self.mirror.held() {
                self.mirror.delete(Name::Hold(id));
            }
        }
        let expired = expirable(&self.mirror, self.backup().keep_chains);
        for id in expired.iter().rev() {
            cx.note(|| alloc::format!("backup {} expires", id.0));
            self.store.ask(cx, StoreAsk::Delete { name: Name::Catalog(*id) });
        }
        for backup in expired.iter().filter_map(|id| self.mirror.backup(*id).cloned()) {
            let own = backup.blocks.iter().filter(|(_, place)| place.holder == backup.id);
            for (number, place) in own {
                self.store.ask(cx, StoreAsk::Delete { name: Name::Block(backup.id, *number, place.lsn) });
            }
            self.store.ask(cx, StoreAsk::Delete { name: Name::Log(backup.id) });
        }
    }

    // ------------------------------------------------------------------------------------------------------- answers

    fn on_store(&mut self, cx: &mut Cx<'_, Agent>, ask: &StoreAsk, answer: StoreAnswer) {
        match (ask, answer) {
            (StoreAsk::Get { name: Name::Writer }, StoreAnswer::Found(Object::Writer(writer))) => {
                self.claim(cx, Some(writer));
            }
            (StoreAsk::Get { name: Name::Writer }, StoreAnswer::Missing) => self.claim(cx, None),
            // Another writer, and not our own put whose answer was lost.
            (StoreAsk::Put { name: Name::Writer, object, .. }, StoreAnswer::Refused(there))
                if there != Some(digest_of(object)) && self.writer.is_some() =>
            {
                self.writer = None;
                return self.broke(cx, "another agent has the right to write");
            }
            (StoreAsk::Put { name: Name::Writer, .. }, StoreAnswer::Refused(_)) => {}
            (StoreAsk::List, StoreAnswer::Names(names)) => {
                let reading = matches!(self.phase, Phase::Reading);
                for name in names.iter() {
                    match name {
                        Name::Hold(_) => {
                            let object = Object::Position(Position::default());
                            self.mirror.take(Put { name: *name, object, condition: Condition::Always });
                        }
                        Name::Catalog(_) | Name::Session if reading => {
                            self.store.ask(cx, StoreAsk::Get { name: *name });
                        }
                        _ => {}
                    }
                }
            }
            (StoreAsk::Get { name }, StoreAnswer::Found(object)) => {
                self.mirror.take(Put { name: *name, object, condition: Condition::Always });
            }
            (StoreAsk::Put { name: Name::Catalog(id), object, .. }, StoreAnswer::Refused(there))
                if there != Some(digest_of(object)) =>
            {
                cx.note(|| alloc::format!("backup {} is listed by somebody else", id.0));
                self.store.ask(cx, StoreAsk::Delete { name: Name::Session });
                return self.broke(cx, "somebody else published under this name");
            }
            (_, StoreAnswer::Forbidden) => return self.broke(cx, "forbidden"),
            _ => {}
        }
        self.go_on(cx);
    }

    fn on_source(&mut self, cx: &mut Cx<'_, Agent>, event: SourceEvent) {
        match event {
            SourceEvent::Nothing => {}
            SourceEvent::Lost => {
                if matches!(self.phase, Phase::Opening(_) | Phase::Copying(_)) {
                    self.broke(cx, "the source is gone or changed");
                }
            }
            SourceEvent::Answer(SourceMessage::Offer(offer)) => self.on_offer(cx, offer),
            SourceEvent::Answer(SourceMessage::Block { number, block }) => self.on_block(cx, number, block),
            SourceEvent::Answer(SourceMessage::Log { after, entries, applied, last, state, .. }) => {
                let ending = match self.backup().snapshot {
                    Snapshot::Consistent => Ending { stop: applied, log: Some(entries), state },
                    Snapshot::Naive => Ending { stop: last.max(applied), log: None, state: None },
                };
                self.on_log(cx, ending, after.is_some());
            }
            SourceEvent::Answer(_) => {}
        }
    }
}

impl Node<Agent> for BackupAgent {
    fn start(&mut self, cx: &mut Cx<'_, Agent>, _disk: &DiskImage<Agent>) {
        if self.backup().memory_limit.is_some() {
            cx.observe(Observation::Gauge { name: "backup_killed", value: 0 });
        }
        self.begin_life(cx);
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, _opened: Opened<Wire>) {
        if self.store.owns(session) {
            self.store.on_open(cx);
        } else if self.source.owns(session) {
            self.source.on_open(cx, session);
        } else {
            self.archive.on_open(cx, session);
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: Message) {
        self.weigh(cx, &message);
        if self.down {
            return;
        }
        match message {
            Message::Store(StoreMessage::Answer { id, answer }) if self.store.owns(session) => {
                if let Some((ask, answer)) = self.store.on_answer(cx, id, answer) {
                    self.on_store(cx, &ask, answer);
                }
            }
            Message::Source(message) if self.source.owns(session) => {
                let event = self.source.on_message(message);
                self.on_source(cx, event);
            }
            Message::Route(route) if self.source.owns(session) => {
                let event = self.source.on_route(cx, route);
                self.on_source(cx, event);
            }
            message => self.archive.on_message(cx, session, message),
        }
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, _why: Closed) {
        if self.store.owns(session) {
            self.store.on_close();
        } else if self.source.owns(session) {
            let event = self.source.on_close(session);
            self.on_source(cx, event);
        } else {
            self.archive.on_close(session);
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Agent>, timer: Timer) {
        let Timer::Job(job) = timer else { return };
        match job {
            Job::Schedule => {
                let next = self.backup().schedule.until_next(cx.wall());
                cx.set_timer(Timer::Job(Job::Schedule), next);
                self.due(cx);
            }
            Job::Again => {
                if matches!(self.phase, Phase::Idle) {
                    self.begin(cx);
                }
            }
            Job::Throttle => {
                self.throttled = false;
                self.go_on(cx);
            }
            Job::Writer => self.renew(cx),
            Job::Archive => self.archive.tick(cx),
            Job::StoreLook => {
                self.store.look(cx);
                self.archive.look_at_store(cx);
            }
            Job::SourceLook => {
                let event = self.source.look(cx);
                self.on_source(cx, event);
                self.archive.look_at_source(cx);
            }
            Job::Restart => {
                self.down = false;
                self.begin_life(cx);
            }
            Job::Drill | Job::Prepare => {}
        }
    }
}
