//! The workload: what each client asks, and when. Clients are given requests and never see a node's inside.

use super::purpose;
use super::recorder::{Asked, Recorder};
use crate::scenario::{Load, Workload};
use firedrill_checkers::record::{Action, KeyIndex, NodeIndex, Outcome, Purpose, Returned, SimTime, Value};
use firedrill_protocols::contract::{Key, Random, Shard, stream};
use rand_chacha::ChaCha8Rng;

/// A list retires after so many appends, drawn for each key, so that reads stay short and keys do not age together.
const RETIRE_AFTER_MIN: u64 = 32;
const RETIRE_AFTER_MAX: u64 = 128;

/// One client of the workload.
struct Worker {
    node: NodeIndex,
    process: u32,
    random: ChaCha8Rng,
    /// The operation it waits for.
    open: Option<usize>,
    /// The value each register held when it last looked, for compare-and-set.
    seen: Vec<(KeyIndex, Option<Value>)>,
}

/// A key in use, and how many appends it still takes.
struct Slot {
    key: KeyIndex,
    appends_left: u64,
}

/// The whole workload.
pub(super) struct Generator {
    kind: Workload,
    workers: Vec<Worker>,
    slots: Vec<Slot>,
    random: ChaCha8Rng,
    next_value: Value,
    interval: u64,
}

impl Generator {
    pub(super) fn new(kind: &Workload, clients: &[NodeIndex], seed: u64) -> Self {
        let workers = clients.iter().enumerate().map(|(at, node)| Worker {
            node: *node,
            process: at as u32,
            random: stream(seed, purpose::LOAD, at as u32 + 1, 0),
            open: None,
            seen: Vec::new(),
        });
        let load = kind.load();
        Generator {
            kind: kind.clone(),
            workers: workers.collect(),
            slots: Vec::new(),
            random: stream(seed, purpose::LOAD, 0, 0),
            next_value: 1,
            interval: load.rate.interval().as_micros() as u64 * load.clients as u64,
        }
    }

    fn load(&self) -> &Load {
        self.kind.load()
    }

    /// The first turn of each client after `start`: evenly spread.
    pub(super) fn first_turns(&self, start: SimTime) -> Vec<SimTime> {
        let n = self.workers.len() as u64;
        (0..n).map(|i| SimTime(start.0 + self.interval * i / n)).collect()
    }

    /// The next turn of a client: about one interval later, so that clients do not keep step.
    pub(super) fn next_turn(&mut self, worker: usize, now: SimTime) -> SimTime {
        let span = self.workers[worker].random.between(self.interval / 2, self.interval * 3 / 2);
        SimTime(now.0 + span.max(1))
    }

    /// A value that nobody has written.
    pub(super) fn fresh_value(&mut self) -> Value {
        self.next_value += 1;
        self.next_value - 1
    }

    /// It is a client's turn: what it asks, unless it still waits for an answer.
    pub(super) fn turn(
        &mut self,
        worker: usize,
        recorder: &mut Recorder,
        shard_of: &dyn Fn(Key) -> Shard,
    ) -> Option<Asked> {
        if self.workers[worker].open.is_some() {
            return None;
        }
        self.fill_slots(recorder, shard_of);
        let (reads, cas, bytes) = (self.load().reads.ppm, self.load().cas.ppm, self.load().value.0 as u32);
        let (is_read, is_cas, slot) = {
            let slots = self.slots.len() as u64;
            let random = &mut self.workers[worker].random;
            (
                random.chance(reads.into(), 1_000_000),
                random.chance(cas.into(), 1_000_000),
                random.between(0, slots - 1) as usize,
            )
        };
        let key = self.slots[slot].key;
        let action = match (&self.kind, is_read) {
            (_, true) => Action::Read,
            (Workload::Append(_), false) => {
                self.slots[slot].appends_left -= 1;
                Action::Append(self.fresh_value())
            }
            (Workload::Register(_), false) if is_cas => {
                let from = self.workers[worker].seen.iter().find(|(k, _)| *k == key).and_then(|(_, v)| *v);
                Action::Cas { from, to: self.fresh_value() }
            }
            (Workload::Register(_), false) => Action::Write(self.fresh_value()),
        };
        let client = &self.workers[worker];
        Some(Asked {
            process: client.process,
            client: client.node,
            purpose: Purpose::Workload,
            key,
            bytes: if matches!(action, Action::Read) { 0 } else { bytes },
            action,
        })
    }

    fn fill_slots(&mut self, recorder: &mut Recorder, shard_of: &dyn Fn(Key) -> Shard) {
        let keys = self.load().keys.max(1) as usize;
        self.slots.retain(|slot| slot.appends_left > 0);
        while self.slots.len() < keys {
            let appends_left = self.random.between(RETIRE_AFTER_MIN, RETIRE_AFTER_MAX);
            let wanted = self.load().shard;
            let key = loop {
                let key = recorder.new_key('k', shard_of);
                if wanted.is_none_or(|shard| recorder.shard(key).0 == shard) {
                    break key;
                }
            };
            self.slots.push(Slot { key, appends_left });
        }
    }

    /// The client's operation is on its way.
    pub(super) fn opened(&mut self, worker: usize, operation: usize) {
        self.workers[worker].open = Some(operation);
    }

    /// The client has its answer.
    pub(super) fn closed(&mut self, worker: usize, key: KeyIndex, action: Action, outcome: &Outcome) {
        let client = &mut self.workers[worker];
        client.open = None;
        if let Outcome::Info(_) = outcome {
            // A process whose operation is unknown does not come back: the client goes on under a fresh number.
            client.process += 1_000;
        }
        let value = match (outcome, action) {
            (Outcome::Ok(Returned::Value(value) | Returned::Mismatch(value)), _) => *value,
            (Outcome::Ok(_), Action::Write(value) | Action::Cas { to: value, .. }) => Some(value),
            _ => return,
        };
        client.seen.retain(|(other, _)| *other != key);
        client.seen.push((key, value));
    }

    /// The client of a workload operation.
    pub(super) fn worker_of(&self, node: NodeIndex) -> Option<usize> {
        self.workers.iter().position(|worker| worker.node == node)
    }

    pub(super) fn is_register(&self) -> bool {
        matches!(self.kind, Workload::Register(_))
    }
}

/// The open-loop probes of one probe node.
pub(super) struct Prober {
    pub(super) node: NodeIndex,
    slots: Vec<Slot>,
    ticks: u64,
}

impl Prober {
    pub(super) fn new(node: NodeIndex) -> Self {
        Prober { node, slots: Vec::new(), ticks: 0 }
    }

    /// What is asked at this tick: one write to each shard, and at every second tick one read of it.
    pub(super) fn tick(
        &mut self,
        process: u32,
        shards: u16,
        recorder: &mut Recorder,
        generator: &mut Generator,
        shard_of: &dyn Fn(Key) -> Shard,
    ) -> Vec<Asked> {
        self.ticks += 1;
        let bytes = generator.load().value.0 as u32;
        let mut asked = Vec::new();
        for shard in 0..shards {
            let key = self.key(shard, recorder, shard_of);
            let value = generator.fresh_value();
            let write = if generator.is_register() { Action::Write(value) } else { Action::Append(value) };
            let base = |action, bytes| Asked {
                process: process + u32::from(shard),
                client: self.node,
                purpose: Purpose::Probe,
                key,
                action,
                bytes,
            };
            asked.push(base(write, bytes));
            if self.ticks.is_multiple_of(2) {
                asked.push(base(Action::Read, 0));
            }
        }
        asked
    }

    /// The present key of a shard; a new one when the old has taken enough.
    fn key(&mut self, shard: u16, recorder: &mut Recorder, shard_of: &dyn Fn(Key) -> Shard) -> KeyIndex {
        let at = usize::from(shard);
        if let Some(slot) = self.slots.get_mut(at)
            && slot.appends_left > 0
        {
            slot.appends_left -= 1;
            return slot.key;
        }
        let key = loop {
            let key = recorder.new_key('p', shard_of);
            if recorder.shard(key).0 == shard {
                break key;
            }
        };
        let slot = Slot { key, appends_left: RETIRE_AFTER_MAX };
        if at < self.slots.len() {
            self.slots[at] = slot;
        } else {
            self.slots.push(slot);
        }
        key
    }
}
