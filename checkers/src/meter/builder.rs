//! Synthetic runs for the meter's own tests: an oracle that knows what it plants.
//!
//! The default cast: `a`, `b`, `c` hold the data of shard 0, `client` sends load, `probe` probes; `a` is primary from the
//! start. A test says what happens and when, in milliseconds, and what the meter must then find.

use super::{MeterOptions, measure};
use crate::measure::Measurement;
use crate::record::*;

pub(super) const A: NodeIndex = NodeIndex(0);
pub(super) const B: NodeIndex = NodeIndex(1);
pub(super) const C: NodeIndex = NodeIndex(2);
pub(super) const CLIENT: NodeIndex = NodeIndex(3);
pub(super) const PROBE: NodeIndex = NodeIndex(4);

/// A run in the making.
pub(super) struct Story {
    pub records: Records,
    seq: u64,
    value: Value,
}

pub(super) fn at(ms: u64) -> SimTime {
    SimTime(ms * 1_000)
}

impl Story {
    /// A run of `end` milliseconds with one shard.
    pub fn new(end: u64) -> Self {
        let mut story = Story { records: Records::default(), seq: 0, value: 0 };
        for (name, class) in [
            ("a", NodeClass::Data),
            ("b", NodeClass::Data),
            ("c", NodeClass::Data),
            ("client", NodeClass::Client),
            ("probe", NodeClass::Probe),
        ] {
            story.node(name, class, (class == NodeClass::Data).then_some(Shard(0)));
        }
        story.records.topology.shards = 1;
        story.records.end = at(end);
        story.records.healed = at(end);
        story.role(0, A, Role::Primary);
        story.writable(0, A, true);
        story
    }

    pub fn node(&mut self, name: &str, class: NodeClass, shard: Option<Shard>) -> NodeIndex {
        let nodes = &mut self.records.topology.nodes;
        let place = |part: &str| format!("{part}-{name}");
        nodes.push(NodeInfo {
            name: name.to_owned(),
            class,
            host: place("host"),
            zone: place("zone"),
            region: "region".to_owned(),
            shard,
        });
        NodeIndex(nodes.len() as u16 - 1)
    }

    pub fn instant(&mut self, ms: u64) -> Instant {
        self.seq += 1;
        Instant { at: at(ms), seq: self.seq }
    }

    // ------------------------------------------------------------------------------------------------- observations

    fn observe(&mut self, ms: u64, node: NodeIndex, fact: Fact) {
        let instant = self.instant(ms);
        self.records.observations.push(Observation { instant, node, shard: Shard(0), fact });
    }

    pub fn role(&mut self, ms: u64, node: NodeIndex, role: Role) {
        self.observe(ms, node, Fact::Role(role));
    }

    pub fn writable(&mut self, ms: u64, node: NodeIndex, writable: bool) {
        self.observe(ms, node, Fact::Writable(writable));
    }

    pub fn epoch(&mut self, ms: u64, node: NodeIndex, epoch: u64) {
        self.observe(ms, node, Fact::Epoch(epoch));
    }

    pub fn gauge(&mut self, ms: u64, node: NodeIndex, name: &str, value: f64) {
        self.observe(ms, node, Fact::Gauge { name: name.to_owned(), value });
    }

    pub fn mark(&mut self, ms: u64, mark: Mark, about: NodeIndex) {
        self.observe(ms, about, Fact::Mark { mark, about: Some(about) });
    }

    /// `node` becomes primary and writable, and is known to.
    pub fn promote(&mut self, ms: u64, node: NodeIndex) {
        self.role(ms, node, Role::Primary);
        self.writable(ms, node, true);
        self.mark(ms, Mark::Writable, node);
        self.mark(ms, Mark::Promoted, node);
    }

    pub fn demote(&mut self, ms: u64, node: NodeIndex) {
        self.writable(ms, node, false);
        self.role(ms, node, Role::Replica);
    }

    // ------------------------------------------------------------------------------------------------------ journal

    pub fn life(&mut self, ms: u64, node: NodeIndex, life: Life) {
        let instant = self.instant(ms);
        self.records.journal.life.push(LifeEvent { instant, node, life });
    }

    pub fn fault(&mut self, ms: u64, kind: &str, target: NodeIndex) -> &mut FaultRecord {
        let began = self.instant(ms);
        self.records.journal.faults.push(FaultRecord {
            kind: kind.to_owned(),
            label: format!("{kind} of {}", target.0),
            targets: vec![target],
            began,
            healed: None,
            effects: 1,
            planned: false,
        });
        self.records.journal.faults.last_mut().unwrap()
    }

    /// The process of `node` is killed.
    pub fn kill(&mut self, ms: u64, node: NodeIndex) {
        self.fault(ms, "crash", node);
        self.life(ms, node, Life::Killed);
    }

    pub fn cut_client(&mut self, client: NodeIndex, from: u64, until: u64) {
        self.records.cut_clients.push(CutClient { client, from: at(from), until: at(until) });
    }

    // ------------------------------------------------------------------------------------------------------ history

    pub fn key(&mut self, name: &str, shard: u16) -> KeyIndex {
        let keys = &mut self.records.history.keys;
        let known = keys.iter().position(|key| key.name == name);
        let index = known.unwrap_or_else(|| {
            keys.push(KeyInfo { name: name.to_owned(), shard: Shard(shard), spine: Vec::new() });
            keys.len() - 1
        });
        KeyIndex(index as u32)
    }

    pub fn operation(
        &mut self,
        purpose: Purpose,
        key: KeyIndex,
        action: Action,
        asked: u64,
    ) -> &mut Operation {
        let client = if purpose == Purpose::Workload { CLIENT } else { PROBE };
        let invoked = self.instant(asked);
        self.records.history.operations.push(Operation {
            process: u32::from(client.0),
            client,
            purpose,
            key,
            action,
            bytes: 0,
            invoked,
            completed: None,
            outcome: Outcome::Info(Failure::Timeout),
            answered_by: None,
        });
        self.records.history.operations.last_mut().unwrap()
    }

    /// An append of a new value, with no answer yet.
    pub fn append(&mut self, purpose: Purpose, key: &str, asked: u64) -> &mut Operation {
        self.value += 1;
        let (key, value) = (self.key(key, 0), self.value);
        self.operation(purpose, key, Action::Append(value), asked)
    }

    /// An append of load with 10 bytes that `node` acknowledged.
    pub fn acked(&mut self, asked: u64, answered: u64, node: NodeIndex) -> Value {
        let value = self.value + 1;
        let completed = Some(self.instant(answered));
        let operation = self.append(Purpose::Workload, "load", asked);
        operation.bytes = 10;
        operation.completed = completed;
        operation.outcome = Outcome::Ok(Returned::Done);
        operation.answered_by = Some(node);
        value
    }

    /// A probe, answered by `node` or by nobody.
    pub fn probe(&mut self, asked: u64, answered: Option<u64>, node: NodeIndex) -> &mut Operation {
        let completed = answered.map(|answered| self.instant(answered));
        let operation = self.append(Purpose::Probe, "probe", asked);
        operation.completed = completed;
        operation.answered_by = completed.map(|_| node);
        if completed.is_some() {
            operation.outcome = Outcome::Ok(Returned::Done);
        }
        operation
    }

    /// Probes every `every` ms in `[from, until)`, each answered by `node` after 1 ms.
    pub fn good_probes(&mut self, from: u64, until: u64, every: u64, node: NodeIndex) {
        for ms in (from..until).step_by(every as usize) {
            self.probe(ms, Some(ms + 1), node);
        }
    }

    /// Probes every `every` ms in `[from, until)` that nobody answers.
    pub fn bad_probes(&mut self, from: u64, until: u64, every: u64) {
        for ms in (from..until).step_by(every as usize) {
            self.probe(ms, None, A);
        }
    }

    /// A final read of `key` on `node` that shows exactly `values`.
    pub fn final_read(&mut self, key: &str, node: NodeIndex, values: &[Value]) {
        let key = self.key(key, 0);
        let returned = self.list(key, values);
        let end = self.records.end.0 / 1_000;
        let completed = Some(Instant { at: at(end), seq: u64::MAX });
        let operation = self.operation(Purpose::FinalRead { node }, key, Action::Read, end);
        operation.completed = completed;
        operation.answered_by = Some(node);
        operation.outcome = Outcome::Ok(returned);
    }

    /// A list as reads return it, against the key's spine.
    pub fn list(&mut self, key: KeyIndex, values: &[Value]) -> Returned {
        let spine = &mut self.records.history.keys[key.0 as usize].spine;
        let shared = spine.iter().zip(values).take_while(|(a, b)| a == b).count();
        if shared == spine.len() {
            spine.extend(&values[shared..]);
            return Returned::List { shared: values.len() as u32, tail: Vec::new() };
        }
        Returned::List { shared: shared as u32, tail: values[shared..].to_vec() }
    }

    /// Final reads of every key on `nodes`: all appended values but `without`.
    pub fn survives_all_but(&mut self, nodes: &[NodeIndex], without: &[Value]) {
        for key in 0..self.records.history.keys.len() {
            let name = self.records.history.keys[key].name.clone();
            let values = self.values_of(key, without);
            nodes.iter().for_each(|node| self.final_read(&name, *node, &values));
        }
    }

    /// The values that somebody was told are in `key`, in order.
    pub fn values_of(&self, key: usize, without: &[Value]) -> Vec<Value> {
        let mut values: Vec<Value> = Vec::new();
        for operation in &self.records.history.operations {
            if let (true, Action::Append(value), true) =
                (operation.key.0 as usize == key, operation.action, operation.outcome.is_ok())
                && !without.contains(&value)
                && !values.contains(&value)
            {
                values.push(value);
            }
        }
        values
    }

    /// Sorts everything by time, as a recorder would have left it, and measures it.
    pub fn measure(mut self) -> Measurement {
        self.sort();
        measure(&self.records, &MeterOptions::default())
    }

    pub fn measure_with(mut self, options: &MeterOptions) -> Measurement {
        self.sort();
        measure(&self.records, options)
    }

    pub fn sort(&mut self) {
        self.records.history.operations.sort_by_key(|operation| operation.invoked);
        self.records.observations.sort_by_key(|observation| observation.instant);
        self.records.journal.life.sort_by_key(|event| event.instant);
        self.records.journal.faults.sort_by_key(|fault| fault.began);
    }
}

/// The delays of a recovery, by phase, in milliseconds.
#[derive(Clone, Copy)]
pub(super) struct Delays {
    pub detect: u64,
    pub elect: u64,
    pub fence: u64,
    pub promote: u64,
    pub redirect: u64,
}

/// `a` is killed at 10 s; `b` takes over with exactly these delays; a probe is sent every 10 ms, and the first one that `b`
/// answers is answered exactly when the phases end.
pub(super) fn oracle(delays: Delays) -> Story {
    let mut story = Story::new(60_000);
    let fault = 10_000;
    story.good_probes(0, fault, 10, A);
    story.kill(fault, A);
    story.mark(fault + delays.detect / 2, Mark::Suspected, A);
    let declared = fault + delays.detect;
    let elected = declared + delays.elect;
    let fenced = elected + delays.fence;
    let writable = fenced + delays.promote;
    let served = writable + delays.redirect;
    story.mark(declared, Mark::Declared, A);
    story.mark(elected, Mark::Elected, B);
    story.mark(fenced, Mark::Fenced, A);
    story.promote(writable, B);
    let last_bad = served - 1 - (served - 1) % 10;
    story.bad_probes(fault, last_bad, 10);
    story.probe(last_bad, Some(served), B);
    story.good_probes(last_bad + 10, 50_000, 10, B);
    story.survives_all_but(&[B, C], &[]);
    story
}
