//! The shared disk: one log that every data node can reach, a lock with an epoch, registrations, and a slot per node.
//!
//! A disk is blocks: an entry goes to the block of its position, and whatever was there is gone. What keeps two writers
//! apart is the check before a write ([`DiskCheck`]): the epoch of the writer's lock (a fencing token that the storage
//! itself compares), or its registration (SCSI-3 persistent reservations, *write exclusive, registrants only*: SPC-4
//! section 5.13). Lock and registrations are durable before they are confirmed, so they hold over a loss of power.

use super::coordination::NodeSet;
use super::message::{DiskMessage, Message};
use super::settings::{DiskCheck, NodeId, Settings, Storage};
use super::wal::{Entry, Lsn, Position, Term};
use super::{Agent, Kind, Record, Timer};
use crate::contract::*;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// File of the blocks.
const BLOCKS: &str = "blocks";
/// File of lock, registrations and slots.
const RESERVATIONS: &str = "reservations";

/// Blocks in one answer at most.
const BATCH: usize = 512;

/// Lock, registrations and slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Reservations {
    /// Highest epoch that was granted.
    epoch: Term,
    /// To whom.
    holder: Option<NodeId>,
    registered: NodeSet,
    /// Slots with a reset in them.
    poisoned: NodeSet,
}

/// The disk.
pub struct SharedDisk {
    settings: Arc<Settings>,
    blocks: BTreeMap<Lsn, Entry>,
    reservations: Reservations,
}

impl SharedDisk {
    /// An empty disk.
    pub fn new(settings: Arc<Settings>) -> Self {
        SharedDisk { settings, blocks: BTreeMap::new(), reservations: Reservations::default() }
    }

    /// The last entry.
    fn last(&self) -> Position {
        self.blocks.last_key_value().map_or(Position::default(), |(_, entry)| entry.position)
    }

    fn may_write(&self, node: NodeId, epoch: Term) -> bool {
        match self.settings.agent.storage {
            Storage::Shared(DiskCheck::Epoch) => {
                epoch == self.reservations.epoch && self.reservations.holder == Some(node)
            }
            Storage::Shared(DiskCheck::Registration) => self.reservations.registered.contains(node),
            Storage::Shared(DiskCheck::Nothing) | Storage::Own => true,
        }
    }

    /// The lock goes to a higher epoch, or stays with who has it.
    fn lock(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, node: NodeId, epoch: Term) {
        let known = &mut self.reservations;
        let granted = epoch > known.epoch || (epoch == known.epoch && known.holder == Some(node));
        if granted {
            (known.epoch, known.holder) = (epoch, Some(node));
        }
        let answer = DiskMessage::Locked { granted, epoch: known.epoch };
        self.keep_then(cx, session, answer);
    }

    fn write(
        &mut self,
        cx: &mut Cx<'_, Agent>,
        session: SessionId,
        node: NodeId,
        epoch: Term,
        entries: &[Entry],
    ) {
        let Some(last) = entries.last().map(|entry| entry.position.lsn) else { return };
        if !self.may_write(node, epoch) {
            let epoch = self.reservations.epoch;
            cx.note(|| alloc::format!("refuses a write of node {} under epoch {}", node.0, epoch.0));
            return cx.send(session, Message::Disk(DiskMessage::Conflict { epoch }));
        }
        for entry in entries {
            self.blocks.insert(entry.position.lsn, entry.clone());
            cx.append(BLOCKS, Record::Block(entry.clone()));
        }
        let token = cx.sync(BLOCKS);
        cx.after(token).send(session, Message::Disk(DiskMessage::Written { upto: last }));
    }

    /// What follows an entry; if the block holds something else, everything.
    fn read(&self, previous: Position) -> DiskMessage {
        let held = self.blocks.get(&previous.lsn).map(|entry| entry.position);
        let previous = if held == Some(previous) { previous } else { Position::default() };
        let after = self.blocks.range(previous.lsn.next()..).take(BATCH);
        let entries: Vec<Entry> = after.map(|(_, entry)| entry.clone()).collect();
        DiskMessage::Blocks { previous, entries: entries.into(), last: self.last() }
    }

    /// Answers once lock, registrations and slots are durable.
    fn keep_then(&self, cx: &mut Cx<'_, Agent>, session: SessionId, answer: DiskMessage) {
        let record = Record::Reservations(self.reservations.clone());
        cx.persist(RESERVATIONS, record).send(session, Message::Disk(answer));
    }

    fn keep(&self, cx: &mut Cx<'_, Agent>) {
        cx.replace(RESERVATIONS, Record::Reservations(self.reservations.clone()));
        cx.sync(RESERVATIONS);
    }

    fn on_disk_message(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: DiskMessage) {
        match message {
            DiskMessage::Register { node } => {
                self.reservations.registered = self.reservations.registered.with(node);
                self.keep(cx);
            }
            DiskMessage::Lock { node, epoch } => self.lock(cx, session, node, epoch),
            DiskMessage::Preempt { victim } => {
                self.reservations.registered = self.reservations.registered.without(victim);
                cx.note(|| alloc::format!("node {} is registered no more", victim.0));
                self.keep(cx);
            }
            DiskMessage::Write { node, epoch, entries } => self.write(cx, session, node, epoch, &entries),
            DiskMessage::Read { previous } => {
                let answer = self.read(previous);
                cx.send(session, Message::Disk(answer));
            }
            DiskMessage::Poison { victim } => {
                self.reservations.poisoned = self.reservations.poisoned.with(victim);
                self.keep_then(cx, session, DiskMessage::Poisoned { victim });
            }
            DiskMessage::Slot { node } => {
                let reset = self.reservations.poisoned.contains(node);
                cx.send(session, Message::Disk(DiskMessage::SlotHolds { reset }));
            }
            DiskMessage::ClearSlot { node } => {
                self.reservations.poisoned = self.reservations.poisoned.without(node);
                self.keep(cx);
            }
            DiskMessage::Locked { .. }
            | DiskMessage::Written { .. }
            | DiskMessage::Conflict { .. }
            | DiskMessage::Blocks { .. }
            | DiskMessage::Poisoned { .. }
            | DiskMessage::SlotHolds { .. } => {}
        }
    }
}

impl Node<Agent> for SharedDisk {
    fn start(&mut self, _cx: &mut Cx<'_, Agent>, disk: &DiskImage<Agent>) {
        if let Some(Record::Reservations(found)) = disk.last(RESERVATIONS) {
            self.reservations = found.clone();
        }
        for record in disk.records(BLOCKS) {
            if let Record::Block(entry) = record {
                self.blocks.insert(entry.position.lsn, entry.clone());
            }
        }
    }

    fn on_open(&mut self, _cx: &mut Cx<'_, Agent>, _session: SessionId, _opened: Opened<Kind>) {}

    fn on_message(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: Message) {
        if let Message::Disk(message) = message {
            self.on_disk_message(cx, session, message);
        }
    }

    fn on_close(&mut self, _cx: &mut Cx<'_, Agent>, _session: SessionId, _why: Closed) {}

    fn on_timer(&mut self, _cx: &mut Cx<'_, Agent>, _timer: Timer) {}
}

#[cfg(test)]
mod tests {
    use super::super::settings::Cluster;
    use super::super::wal::Content;
    use super::*;

    struct Bench {
        disk: SharedDisk,
        surroundings: Surroundings,
        effects: Vec<Effect<Agent>>,
    }

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    fn entry(term: u64, lsn: u64) -> Entry {
        let position = Position { term: Term(term), lsn: Lsn(lsn) };
        Entry { position, at: WallTime(0), content: Content::TermStart { by: ONE } }
    }

    impl Bench {
        fn new(check: DiskCheck) -> Self {
            let mut settings = Settings::new(Cluster::default());
            settings.agent.storage = Storage::Shared(check);
            let surroundings = Surroundings {
                now: LocalTime(0),
                wall: WallTime(0),
                random: stream(1, 1, 1, 1),
                next_session: 1,
                next_token: 1,
                notes: false,
            };
            Bench { disk: SharedDisk::new(Arc::new(settings)), surroundings, effects: Vec::new() }
        }

        /// The answers to a message, at once or when durable.
        fn say(&mut self, message: DiskMessage) -> Vec<DiskMessage> {
            self.effects.clear();
            let mut cx = Cx::new(&mut self.surroundings, &mut self.effects);
            self.disk.on_message(&mut cx, SessionId(5), Message::Disk(message));
            let answer = |effect: &Effect<Agent>| match effect {
                Effect::Send { message: Message::Disk(answer), .. } => Some(answer.clone()),
                Effect::After { effect, .. } => match &**effect {
                    Effect::Send { message: Message::Disk(answer), .. } => Some(answer.clone()),
                    _ => None,
                },
                _ => None,
            };
            self.effects.iter().filter_map(answer).collect()
        }

        fn write(&mut self, node: NodeId, term: u64, lsn: u64) -> Vec<DiskMessage> {
            self.say(DiskMessage::Write { node, epoch: Term(term), entries: [entry(term, lsn)].into() })
        }
    }

    #[test]
    fn a_writer_whose_epoch_is_over_is_refused_by_the_disk_itself() {
        let mut bench = Bench::new(DiskCheck::Epoch);
        assert_eq!(
            bench.say(DiskMessage::Lock { node: ONE, epoch: Term(1) }),
            [DiskMessage::Locked { granted: true, epoch: Term(1) }]
        );
        assert_eq!(bench.write(ONE, 1, 1), [DiskMessage::Written { upto: Lsn(1) }]);
        bench.say(DiskMessage::Lock { node: TWO, epoch: Term(2) });
        assert_eq!(bench.write(ONE, 1, 2), [DiskMessage::Conflict { epoch: Term(2) }]);
        assert_eq!(bench.disk.last(), entry(1, 1).position);
        assert_eq!(
            bench.say(DiskMessage::Lock { node: ONE, epoch: Term(2) }),
            [DiskMessage::Locked { granted: false, epoch: Term(2) }],
            "one holder an epoch"
        );
    }

    #[test]
    fn the_lock_survives_a_loss_of_power() {
        let mut bench = Bench::new(DiskCheck::Epoch);
        bench.say(DiskMessage::Lock { node: TWO, epoch: Term(7) });
        let kept = bench.effects.iter().find_map(|effect| match effect {
            Effect::Replace { record, .. } => Some(record.clone()),
            _ => None,
        });
        let mut files = BTreeMap::new();
        files.insert(RESERVATIONS, alloc::vec![kept.expect("it was kept")]);
        let mut again = Bench::new(DiskCheck::Epoch);
        let mut cx = Cx::new(&mut again.surroundings, &mut again.effects);
        again.disk.start(&mut cx, &DiskImage::new(files));
        assert_eq!(again.write(ONE, 6, 1), [DiskMessage::Conflict { epoch: Term(7) }]);
    }

    #[test]
    fn a_preempted_node_cannot_write_until_it_registers_again() {
        let mut bench = Bench::new(DiskCheck::Registration);
        bench.say(DiskMessage::Register { node: ONE });
        assert_eq!(bench.write(ONE, 1, 1), [DiskMessage::Written { upto: Lsn(1) }]);
        bench.say(DiskMessage::Preempt { victim: ONE });
        assert_eq!(bench.write(ONE, 1, 2), [DiskMessage::Conflict { epoch: Term(0) }]);
        bench.say(DiskMessage::Register { node: ONE });
        assert_eq!(bench.write(ONE, 1, 2), [DiskMessage::Written { upto: Lsn(2) }]);
    }

    #[test]
    fn a_disk_that_checks_nothing_lets_two_writers_overwrite_each_other() {
        let mut bench = Bench::new(DiskCheck::Nothing);
        bench.write(ONE, 1, 1);
        bench.write(TWO, 2, 1);
        assert_eq!(bench.disk.last(), entry(2, 1).position, "what node 1 was told is written is gone");
    }

    #[test]
    fn a_reader_whose_last_entry_is_not_on_the_disk_gets_everything() {
        let mut bench = Bench::new(DiskCheck::Nothing);
        bench.write(ONE, 1, 1);
        bench.write(ONE, 1, 2);
        let from = |read: Vec<DiskMessage>| match &read[..] {
            [DiskMessage::Blocks { previous, entries, .. }] => (previous.lsn, entries.len()),
            other => panic!("{other:?}"),
        };
        assert_eq!(from(bench.say(DiskMessage::Read { previous: entry(1, 1).position })), (Lsn(1), 1));
        assert_eq!(from(bench.say(DiskMessage::Read { previous: entry(9, 1).position })), (Lsn(0), 2));
    }

    #[test]
    fn a_slot_holds_its_reset_until_it_is_emptied() {
        let mut bench = Bench::new(DiskCheck::Epoch);
        assert_eq!(bench.say(DiskMessage::Slot { node: ONE }), [DiskMessage::SlotHolds { reset: false }]);
        bench.say(DiskMessage::Poison { victim: ONE });
        assert_eq!(bench.say(DiskMessage::Slot { node: ONE }), [DiskMessage::SlotHolds { reset: true }]);
        bench.say(DiskMessage::ClearSlot { node: ONE });
        assert_eq!(bench.say(DiskMessage::Slot { node: ONE }), [DiskMessage::SlotHolds { reset: false }]);
    }
}
