//! What survived: the authoritative final state, from the final reads of every node, and each write's fate in it.
//!
//! The authoritative node of a shard is the surviving primary with the highest epoch, if observations tell; otherwise
//! the node that most other final reads agree with (ties: the longer state, then the lower index). Ground truth is
//! never used to find it, only to confirm it. A write that was still open, or completed, after its key's final read
//! began can have come too late for that read: its absence proves nothing.

use super::index::{Run, acknowledged_write, written_value};
use super::timeline::Timeline;
use crate::record::{
    Action, GroundTruth, Instant, KeyIndex, NodeClass, NodeIndex, Operation, Outcome, Purpose, Records,
    Returned, Role, Value,
};

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survival {
    /// Not a write, or a write without effect.
    NotAWrite,
    /// The final state does not tell.
    Unknown,
    /// It is in the final state, or a later surviving write replaced it.
    Survived,
    /// It is not there.
    Vanished,
}

/// The final reads and what follows from them.
pub(crate) struct Finals {
    /// Per key: the last acknowledged final read of each node, as an index into the history; sorted by node.
    reads: Vec<Vec<(NodeIndex, u32)>>,
    /// Nodes that somebody tried to read at the end.
    asked: Vec<bool>,
    /// Per shard.
    pub authority: Vec<Authority>,
    /// Every write, sorted by key and value.
    pub writes: Vec<WriteRef>,
    /// Per key: its part of `writes`.
    pub ranges: Vec<(u32, u32)>,
    /// Per key: whether it holds a list.
    pub is_list: Vec<bool>,
    /// Per operation: its place in its key's spine, if it is there.
    pub position: Vec<u32>,
    /// Elements found more than once in an authoritative list.
    pub duplicates: u64,
}

/// No place in the spine.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// A write of the history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteRef {
    pub key: u32,
    pub value: Value,
    pub operation: u32,
}

/// Whose final state counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Authority {
    /// `None`: no node of the shard answered a final read.
    pub node: Option<NodeIndex>,
    /// Two primaries survived unmerged: all of them.
    pub rivals: Vec<NodeIndex>,
}

impl Finals {
    pub fn new(records: &Records, shards: usize, timeline: &Timeline) -> (Finals, Vec<Survival>) {
        let keys = records.history.keys.len();
        let mut finals = Finals {
            reads: vec![Vec::new(); keys],
            asked: vec![false; records.topology.nodes.len()],
            authority: Vec::new(),
            writes: Vec::new(),
            ranges: vec![(0, 0); keys],
            is_list: vec![false; keys],
            position: vec![NOWHERE; records.history.operations.len()],
            duplicates: 0,
        };
        finals.gather(records);
        finals.authority = (0..shards).map(|shard| finals.choose(records, shard, timeline)).collect();
        let survival = finals.fates(records);
        (finals, survival)
    }

    /// One pass over the history: the final reads, and every write.
    fn gather(&mut self, records: &Records) {
        for (index, operation) in records.history.operations.iter().enumerate() {
            if let Purpose::FinalRead { node } = operation.purpose {
                self.asked[node.0 as usize] = true;
                if operation.outcome.is_ok() {
                    let reads = &mut self.reads[operation.key.0 as usize];
                    match reads.iter_mut().find(|(reader, _)| *reader == node) {
                        Some(entry) => entry.1 = index as u32,
                        None => reads.push((node, index as u32)),
                    }
                }
            } else if let Some(value) = written_value(operation.action) {
                let key = operation.key.0;
                self.is_list[key as usize] |= matches!(operation.action, Action::Append(_));
                self.writes.push(WriteRef { key, value, operation: index as u32 });
            }
        }
        // Nearly sorted already: keys come one after the other and values count up.
        self.writes.sort_by_key(|write| (write.key, write.value));
        let mut start = 0;
        for same_key in self.writes.chunk_by(|a, b| a.key == b.key) {
            let end = start + same_key.len() as u32;
            self.ranges[same_key[0].key as usize] = (start, end);
            start = end;
        }
    }

    /// The node whose final state counts for a shard.
    fn choose(&self, records: &Records, shard: usize, timeline: &Timeline) -> Authority {
        let standing = self.standing(records, shard);
        let mut primaries: Vec<(u64, NodeIndex)> = Vec::new();
        for reign in timeline.shards[shard].reigns.iter().filter(|reign| reign.survives) {
            if standing.iter().any(|entry| entry.node == reign.node) {
                primaries.push((reign.epoch.unwrap_or(0), reign.node));
            }
        }
        let rank =
            |node: NodeIndex| standing.iter().position(|entry| entry.node == node).unwrap_or(usize::MAX);
        primaries.sort_by_key(|(epoch, node)| (std::cmp::Reverse(*epoch), rank(*node)));
        let node =
            primaries.first().map(|(_, node)| *node).or_else(|| standing.first().map(|entry| entry.node));
        let rivals = if primaries.len() > 1 {
            primaries.into_iter().map(|(_, node)| node).collect()
        } else {
            Vec::new()
        };
        Authority { node, rivals }
    }

    /// The nodes that answered final reads of a shard, the most agreed-with first.
    fn standing(&self, records: &Records, shard: usize) -> Vec<Standing> {
        let mut standing: Vec<Standing> = Vec::new();
        for (key, reads) in self.reads.iter().enumerate() {
            if records.history.keys[key].shard.0 as usize != shard {
                continue;
            }
            for (node, read) in reads {
                let mine = returned(records, *read);
                let agree = reads
                    .iter()
                    .filter(|(other, theirs)| other != node && returned(records, *theirs) == mine);
                let (agree, elements) = (agree.count() as u64, length(mine));
                match standing.iter_mut().find(|entry| entry.node == *node) {
                    Some(entry) => {
                        entry.agree += agree;
                        entry.elements += elements;
                    }
                    None => standing.push(Standing { node: *node, agree, elements }),
                }
            }
        }
        standing.sort_by_key(|entry| {
            (std::cmp::Reverse(entry.agree), std::cmp::Reverse(entry.elements), entry.node)
        });
        standing
    }

    /// The fate of every operation.
    fn fates(&mut self, records: &Records) -> Vec<Survival> {
        let mut fates = vec![Survival::NotAWrite; records.history.operations.len()];
        for write in &self.writes {
            if may_have_effect(&records.history.operations[write.operation as usize]) {
                fates[write.operation as usize] = Survival::Unknown;
            }
        }
        for key in 0..self.ranges.len() {
            let node = self.authority[records.history.keys[key].shard.0 as usize].node;
            let read = node.and_then(|node| self.read_of(key, node));
            if self.is_list[key] {
                self.list_fates(records, key, read, &mut fates);
            } else if let Some(read) = read {
                self.register_fates(records, key, read, &mut fates);
            }
        }
        fates
    }

    /// The last acknowledged final read of a key on a node.
    fn read_of(&self, key: usize, node: NodeIndex) -> Option<u32> {
        self.reads[key].iter().find(|(reader, _)| *reader == node).map(|(_, read)| *read)
    }

    /// The writes of a key.
    pub fn writes_of(&self, key: usize) -> &[WriteRef] {
        let (start, end) = self.ranges[key];
        &self.writes[start as usize..end as usize]
    }

    /// The writes of a key that would leave `value`: more than one if a write was retried.
    pub fn writers(&self, key: usize, value: Value) -> std::ops::Range<usize> {
        let (start, end) = self.ranges[key];
        let writes = &self.writes[start as usize..end as usize];
        let from = start as usize + writes.partition_point(|write| write.value < value);
        let until =
            (from..end as usize).find(|index| self.writes[*index].value != value).unwrap_or(end as usize);
        from..until
    }

    fn list_fates(&mut self, records: &Records, key: usize, read: Option<u32>, fates: &mut [Survival]) {
        let spine = &records.history.keys[key].spine;
        let (shared, tail): (usize, &[Value]) = match read.map(|read| returned(records, read)) {
            Some(Returned::List { shared, tail }) => (*shared as usize, tail),
            _ => (0, &[]),
        };
        let spine_then_tail =
            spine.iter().enumerate().map(|(place, value)| (place < shared, place as u32, *value));
        for (final_state, place, value) in
            spine_then_tail.chain(tail.iter().map(|value| (true, NOWHERE, *value)))
        {
            for index in self.writers(key, value) {
                let operation = self.writes[index].operation as usize;
                if place != NOWHERE && self.position[operation] == NOWHERE {
                    self.position[operation] = place;
                }
                if final_state {
                    self.duplicates +=
                        u64::from(fates[operation] == Survival::Survived && self.is_first(index));
                    fates[operation] = Survival::Survived;
                }
            }
        }
        let Some(read) = read else { return };
        let asked_at = records.history.operations[read as usize].invoked;
        for write in self.writes_of(key) {
            let fate = &mut fates[write.operation as usize];
            if *fate != Survival::Survived
                && in_time(&records.history.operations[write.operation as usize], asked_at)
            {
                *fate = Survival::Vanished;
            }
        }
    }

    /// Whether no write of the same key and value comes before this one: a retry counts once.
    fn is_first(&self, index: usize) -> bool {
        let write = self.writes[index];
        index == 0 || (self.writes[index - 1].key, self.writes[index - 1].value) != (write.key, write.value)
    }

    /// A register shows its last value only. An acknowledged write is certainly gone if the final value was written by
    /// an operation that had ended before it began, or by nobody; a write of unknown outcome is never certainly gone.
    fn register_fates(&self, records: &Records, key: usize, read: u32, fates: &mut [Survival]) {
        let operations = &records.history.operations;
        let asked_at = operations[read as usize].invoked;
        let last = value_of(returned(records, read));
        let last_ended = last.and_then(|value| self.written_until(records, key, value));
        for write in self.writes_of(key) {
            let operation = &operations[write.operation as usize];
            let replaced = match last_ended {
                Some(Some(ended)) => ended < operation.invoked,
                Some(None) => false,
                None => true,
            };
            let fate = &mut fates[write.operation as usize];
            if *fate == Survival::NotAWrite {
                continue;
            } else if Some(write.value) == last {
                *fate = Survival::Survived;
            } else if acknowledged_write(operation) && in_time(operation, asked_at) {
                *fate = if replaced { Survival::Vanished } else { Survival::Survived };
            }
        }
    }

    /// When the last operation ended that can have written a register's value: `Some(None)` if one may still be open,
    /// `None` if nobody wrote it. One that was reported as failed is believed unless it is the only one.
    pub fn written_until(&self, records: &Records, key: usize, value: Value) -> Option<Option<Instant>> {
        let writers = self.writes[self.writers(key, value)].iter();
        let writers = writers.map(|write| &records.history.operations[write.operation as usize]);
        let able = writers.filter(|operation| may_have_effect(operation));
        let failed = |operation: &&Operation| matches!(operation.outcome, Outcome::Fail(_));
        let latest = |a: Option<Instant>, b: Option<Instant>| a.zip(b).map(|(a, b)| a.max(b));
        let believed = able.clone().filter(|operation| !failed(operation));
        believed
            .map(|operation| operation.completed)
            .reduce(latest)
            .or_else(|| able.map(|operation| operation.completed).reduce(latest))
    }

    /// Whether the state is known of every key of a shard that has an acknowledged write.
    pub fn known(&self, records: &Records, shard: usize) -> bool {
        let Some(node) = self.authority[shard].node else {
            return !self.writes.iter().any(|write| self.is_acked(records, shard, write));
        };
        let unread = (0..self.ranges.len()).filter(|key| self.read_of(*key, node).is_none());
        unread
            .into_iter()
            .all(|key| !self.writes_of(key).iter().any(|write| self.is_acked(records, shard, write)))
    }

    fn is_acked(&self, records: &Records, shard: usize, write: &WriteRef) -> bool {
        records.history.keys[write.key as usize].shard.0 as usize == shard
            && acknowledged_write(&records.history.operations[write.operation as usize])
    }

    /// Acknowledged writes missing from the final reads of one node: their number and payload.
    pub fn loss_on(&self, records: &Records, shard: usize, node: NodeIndex) -> (u64, u64) {
        let (mut writes, mut bytes) = (0, 0);
        for key in 0..self.ranges.len() {
            let Some(read) = self.read_of(key, node) else { continue };
            if records.history.keys[key].shard.0 as usize != shard || !self.is_list[key] {
                continue;
            }
            let asked_at = records.history.operations[read as usize].invoked;
            let mut held = elements(records, key, read);
            held.sort_unstable();
            for id in self.writes_of(key).chunk_by(|a, b| a.value == b.value) {
                let acked = id.iter().map(|write| &records.history.operations[write.operation as usize]);
                let acked =
                    acked.filter(|operation| acknowledged_write(operation)).min_by_key(|op| op.completed);
                let Some(operation) = acked else { continue };
                if in_time(operation, asked_at) && held.binary_search(&id[0].value).is_err() {
                    writes += 1;
                    bytes += u64::from(operation.bytes);
                }
            }
        }
        (writes, bytes)
    }

    /// Whether all nodes of every shard show the same final state; `None`: nobody read it.
    pub fn converged(&self, run: &Run) -> Option<bool> {
        if !self.asked.contains(&true) {
            return None;
        }
        let nodes = 0..run.records.topology.nodes.len();
        let silent = nodes.map(|node| NodeIndex(node as u16)).any(|node| {
            let data = run.records.topology.nodes[node.0 as usize].class == NodeClass::Data;
            let answered = self.reads.iter().any(|reads| reads.iter().any(|(reader, _)| *reader == node));
            data && self.asked[node.0 as usize] && !answered && run.timeline.up_at_end(node)
        });
        let same = |reads: &Vec<(NodeIndex, u32)>| {
            reads
                .windows(2)
                .all(|two| same_state(returned(run.records, two[0].1), returned(run.records, two[1].1)))
        };
        Some(!silent && self.reads.iter().all(same))
    }

    /// Whether the simulator's own knowledge gives every write the same fate; `None`: there is none, or nothing to
    /// compare.
    pub fn agrees_with_truth(&self, run: &Run) -> Option<bool> {
        let truth = run.records.truth.as_ref()?;
        let mut compared = false;
        for shard in 0..run.shards {
            let Some(node) = true_primary(truth, shard) else { continue };
            let mut state: Vec<(KeyIndex, &[Value])> =
                truth.nodes[node].state.iter().map(|(key, values)| (*key, values.as_slice())).collect();
            state.sort_by_key(|(key, _)| *key);
            for key in (0..self.ranges.len()).filter(|key| self.shard_is(run.records, *key, shard)) {
                let found = state.binary_search_by_key(&(key as u32), |(key, _)| key.0);
                let values = found.map_or(&[][..], |index| state[index].1);
                match self.same_fates(run, key, values) {
                    Some(true) => compared = true,
                    Some(false) => return Some(false),
                    None => {}
                }
            }
        }
        compared.then_some(true)
    }

    fn shard_is(&self, records: &Records, key: usize, shard: usize) -> bool {
        records.history.keys[key].shard.0 as usize == shard
    }

    /// Compares one key; `None`: the meter does not know it.
    fn same_fates(&self, run: &Run, key: usize, values: &[Value]) -> Option<bool> {
        let node = self.authority[run.records.history.keys[key].shard.0 as usize].node?;
        let read = self.read_of(key, node)?;
        if !self.is_list[key] {
            return Some(value_of(returned(run.records, read)) == values.last().copied());
        }
        let mut held = values.to_vec();
        held.sort_unstable();
        Some(self.writes_of(key).iter().all(|write| match run.survival[write.operation as usize] {
            Survival::Survived => held.binary_search(&write.value).is_ok(),
            Survival::Vanished => held.binary_search(&write.value).is_err(),
            Survival::NotAWrite | Survival::Unknown => true,
        }))
    }
}

/// How well a node's final reads stand.
struct Standing {
    node: NodeIndex,
    agree: u64,
    elements: u64,
}

/// Whether an operation is a write that may have changed something: all but compare-and-sets that found another value.
fn may_have_effect(operation: &Operation) -> bool {
    operation.is_write() && !matches!(operation.outcome, Outcome::Ok(Returned::Mismatch(_)))
}

/// Whether a write can be expected in a read that began at `asked_at`.
fn in_time(operation: &Operation, asked_at: Instant) -> bool {
    match (&operation.outcome, operation.completed) {
        (Outcome::Ok(_), Some(completed)) => completed < asked_at,
        (Outcome::Ok(_), None) => false,
        (Outcome::Fail(_) | Outcome::Info(_), _) => operation.invoked < asked_at,
    }
}

/// The node with the highest epoch among those that are primary at the end.
fn true_primary(truth: &GroundTruth, shard: usize) -> Option<usize> {
    let primaries = truth.nodes.iter().enumerate();
    let primaries =
        primaries.filter(|(_, node)| node.shard.0 as usize == shard && node.role == Role::Primary);
    primaries.max_by_key(|(_, node)| (node.epoch, std::cmp::Reverse(node.node))).map(|(index, _)| index)
}

fn returned(records: &Records, read: u32) -> &Returned {
    match &records.history.operations[read as usize].outcome {
        Outcome::Ok(returned) => returned,
        Outcome::Fail(_) | Outcome::Info(_) => &Returned::Value(None),
    }
}

/// Whether two final reads show the same state; a missing key is an empty list.
fn same_state(a: &Returned, b: &Returned) -> bool {
    a == b || (length(a) == 0 && length(b) == 0)
}

fn length(returned: &Returned) -> u64 {
    match returned {
        Returned::List { shared, tail } => u64::from(*shared) + tail.len() as u64,
        Returned::Value(value) | Returned::Mismatch(value) => u64::from(value.is_some()),
        Returned::Done | Returned::Version(_) => 0,
    }
}

fn value_of(returned: &Returned) -> Option<Value> {
    match returned {
        Returned::Value(value) | Returned::Mismatch(value) => *value,
        Returned::List { .. } | Returned::Done | Returned::Version(_) => None,
    }
}

/// The elements of a list read.
fn elements(records: &Records, key: usize, read: u32) -> Vec<Value> {
    match returned(records, read) {
        Returned::List { shared, tail } => {
            let spine = &records.history.keys[key].spine;
            spine.iter().take(*shared as usize).chain(tail).copied().collect()
        }
        Returned::Value(value) | Returned::Mismatch(value) => value.iter().copied().collect(),
        Returned::Done | Returned::Version(_) => Vec::new(),
    }
}
