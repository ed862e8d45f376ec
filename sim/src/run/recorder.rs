//! Writes the records of a run as it happens.

use crate::view::View;
use crate::world::World;
use firedrill_checkers::record::{
    Action, Audit, CutClient, Fact, Failure, FaultRecord, History, Instant, KeyIndex, KeyInfo, Life,
    LifeEvent, Mark, MessageRecord, NodeIndex, Observation, Operation, Outcome, Purpose, Records, Returned,
    Role, Shard, SimTime,
};
use firedrill_protocols::contract as node;

/// The records so far.
pub(super) struct Recorder {
    records: Records,
    seq: u64,
}

impl Recorder {
    pub(super) fn new(topology: firedrill_checkers::record::Topology) -> Self {
        Recorder { records: Records { topology, ..Records::default() }, seq: 0 }
    }

    fn stamp(&mut self, at: SimTime) -> Instant {
        self.seq += 1;
        Instant { at, seq: self.seq }
    }

    /// A key that has not been used before.
    pub(super) fn new_key(&mut self, prefix: char, shard_of: impl Fn(node::Key) -> node::Shard) -> KeyIndex {
        let keys = &mut self.records.history.keys;
        let key = KeyIndex(keys.len() as u32);
        let shard = Shard(shard_of(node::Key(key.0)).0);
        keys.push(KeyInfo { name: format!("{prefix}{}", key.0), shard, spine: Vec::new() });
        key
    }

    /// The shard of a key.
    pub(super) fn shard(&self, key: KeyIndex) -> Shard {
        self.records.history.keys[key.0 as usize].shard
    }

    /// A client asks; the number of the operation.
    pub(super) fn invoke(&mut self, at: SimTime, asked: Asked) -> usize {
        let invoked = self.stamp(at);
        self.records.history.operations.push(Operation {
            process: asked.process,
            client: asked.client,
            purpose: asked.purpose,
            key: asked.key,
            action: asked.action,
            bytes: asked.bytes,
            invoked,
            completed: None,
            outcome: Outcome::Info(Failure::Timeout),
            answered_by: None,
        });
        self.records.history.operations.len() - 1
    }

    /// The client has its answer.
    pub(super) fn complete(
        &mut self,
        at: SimTime,
        operation: usize,
        outcome: node::Outcome,
        by: Option<NodeIndex>,
    ) {
        let completed = self.stamp(at);
        if let node::Outcome::Audit { accounts, .. } = &outcome {
            self.records.audits.push(Audit { operation: operation as u32, accounts: accounts.to_vec() });
        }
        let History { keys, operations } = &mut self.records.history;
        let operation = &mut operations[operation];
        operation.completed = Some(completed);
        operation.answered_by = by;
        operation.outcome = outcome_of(outcome, &mut keys[operation.key.0 as usize]);
    }

    /// The open operations of a client that died with their answers.
    pub(super) fn operation(&self, at: usize) -> &Operation {
        &self.records.history.operations[at]
    }

    pub(super) fn observe(
        &mut self,
        at: SimTime,
        node: NodeIndex,
        shard: node::Shard,
        fact: node::Observation,
        view: &View,
    ) {
        let instant = self.stamp(at);
        let fact = fact_of(fact, view);
        self.log_fact(at, node, &fact);
        self.records.observations.push(Observation { instant, node, shard: Shard(shard.0), fact });
    }

    fn log_fact(&self, at: SimTime, node: NodeIndex, fact: &Fact) {
        let (micros, node) = (at.0, self.name(node));
        match fact {
            Fact::Note(text) => tracing::debug!(micros, node, "{text}"),
            Fact::Mark { mark, about: Some(about) } => {
                tracing::info!(micros, node, "{mark:?} {}", self.name(*about));
            }
            fact => tracing::info!(micros, node, "{fact:?}"),
        }
    }

    fn name(&self, node: NodeIndex) -> &str {
        &self.records.topology.nodes[usize::from(node.0)].name
    }

    pub(super) fn life(&mut self, at: SimTime, node: NodeIndex, life: Life) {
        let instant = self.stamp(at);
        tracing::info!(micros = at.0, node = self.name(node), "{life:?}");
        self.records.journal.life.push(LifeEvent { instant, node, life });
    }

    pub(super) fn message(
        &mut self,
        at: SimTime,
        sent: SimTime,
        from: NodeIndex,
        to: NodeIndex,
        label: String,
    ) {
        let delivered = self.stamp(at);
        tracing::trace!(micros = at.0, node = self.name(to), "from {}: {label}", self.name(from));
        let sent = Instant { at: sent, seq: delivered.seq };
        let message = MessageRecord { sent, delivered: Some(delivered), from, to, label };
        self.records.journal.messages.push(message);
    }

    /// A fault strikes; its number among the records.
    pub(super) fn fault(
        &mut self,
        at: SimTime,
        kind: &str,
        label: String,
        targets: Vec<NodeIndex>,
        planned: bool,
    ) -> usize {
        let began = self.stamp(at);
        tracing::info!(micros = at.0, "FAULT {label}");
        self.records.journal.faults.push(FaultRecord {
            kind: kind.to_owned(),
            label,
            targets,
            began,
            healed: None,
            effects: 0,
            planned,
        });
        self.records.journal.faults.len() - 1
    }

    pub(super) fn healed(&mut self, at: SimTime, fault: usize) {
        let instant = self.stamp(at);
        let fault = &mut self.records.journal.faults[fault];
        tracing::info!(micros = at.0, "HEALED {}", fault.label);
        fault.healed.get_or_insert(instant);
    }

    pub(super) fn set_effects(&mut self, fault: usize, effects: u64) {
        self.records.journal.faults[fault].effects = effects;
    }

    pub(super) fn cut_client(&mut self, client: NodeIndex, from: SimTime, until: SimTime) {
        self.records.cut_clients.push(CutClient { client, from, until });
    }

    pub(super) fn history(&self) -> &History {
        &self.records.history
    }

    /// The finished records.
    pub(super) fn finish(mut self, end: SimTime, healed: SimTime, world: &dyn World) -> Records {
        self.records.end = end;
        self.records.healed = healed;
        let journal = &mut self.records.journal;
        journal.messages_sent = world.messages();
        journal.bytes_sent = world.traffic().map(|traffic| traffic.sent);
        journal.bytes_replicated = world.traffic().map(|traffic| traffic.replicated);
        self.records
    }

    /// What was seen of backups, if there are any.
    pub(super) fn set_backups(&mut self, seen: firedrill_checkers::backup::Evidence) {
        self.records.backups = (!seen.catalog.is_empty() || !seen.logs.is_empty()).then_some(seen);
    }

    pub(super) fn set_truth(&mut self, truth: firedrill_checkers::record::GroundTruth) {
        self.records.truth = Some(truth);
    }
}

/// What a client asks.
pub(super) struct Asked {
    pub(super) process: u32,
    pub(super) client: NodeIndex,
    pub(super) purpose: Purpose,
    pub(super) key: KeyIndex,
    pub(super) action: Action,
    pub(super) bytes: u32,
}

fn outcome_of(outcome: node::Outcome, key: &mut KeyInfo) -> Outcome {
    match outcome {
        node::Outcome::Done | node::Outcome::Text(_) => Outcome::Ok(Returned::Done),
        node::Outcome::Version(version) => Outcome::Ok(Returned::Version(version)),
        node::Outcome::Value(value) => Outcome::Ok(Returned::Value(value)),
        node::Outcome::List(list) | node::Outcome::Audit { list, .. } => Outcome::Ok(list_of(&list, key)),
        node::Outcome::Mismatch(found) => Outcome::Ok(Returned::Mismatch(found)),
        node::Outcome::Fail(why) => Outcome::Fail(failure_of(why)),
        node::Outcome::Unknown(why) => Outcome::Info(failure_of(why)),
    }
}

/// A list as what it shares with the longest list read before; a longer one becomes the new spine.
fn list_of(list: &[u64], key: &mut KeyInfo) -> Returned {
    let shared = list.iter().zip(&key.spine).take_while(|(a, b)| a == b).count();
    if shared == key.spine.len() {
        key.spine.extend_from_slice(&list[shared..]);
        return Returned::List { shared: list.len() as u32, tail: Vec::new() };
    }
    Returned::List { shared: shared as u32, tail: list[shared..].to_vec() }
}

fn failure_of(failure: node::Failure) -> Failure {
    match failure {
        node::Failure::Timeout => Failure::Timeout,
        node::Failure::Unreachable => Failure::Unreachable,
        node::Failure::Disconnected => Failure::Disconnected,
        node::Failure::NotPrimary => Failure::NotPrimary,
        node::Failure::Unsafe => Failure::Unsafe,
        node::Failure::Unavailable => Failure::Unavailable,
        node::Failure::NoRoute => Failure::NoRoute,
        node::Failure::Limited => Failure::Limited,
        node::Failure::Rejected => Failure::Rejected,
        node::Failure::Other => Failure::Other,
    }
}

fn fact_of(fact: node::Observation, view: &View) -> Fact {
    match fact {
        node::Observation::Role(role) => Fact::Role(role_of(role)),
        node::Observation::Epoch(epoch) => Fact::Epoch(epoch),
        node::Observation::Writable(writable) => Fact::Writable(writable),
        node::Observation::Mark { mark, about } => {
            Fact::Mark { mark: mark_of(mark), about: about.and_then(|address| view.node_at(address)) }
        }
        node::Observation::Gauge { name, value } => {
            Fact::Gauge { name: name.to_owned(), value: value as f64 }
        }
        node::Observation::Note(text) => Fact::Note(text),
    }
}

/// A role in the records' words.
pub(super) fn role_of(role: node::Role) -> Role {
    match role {
        node::Role::Primary => Role::Primary,
        node::Role::Replica => Role::Replica,
        node::Role::Candidate => Role::Candidate,
        node::Role::Leader => Role::Leader,
        node::Role::Follower => Role::Follower,
        node::Role::Fenced => Role::Fenced,
        node::Role::Joining => Role::Joining,
    }
}

fn mark_of(mark: node::Mark) -> Mark {
    match mark {
        node::Mark::Suspected => Mark::Suspected,
        node::Mark::Declared => Mark::Declared,
        node::Mark::Elected => Mark::Elected,
        node::Mark::Fenced => Mark::Fenced,
        node::Mark::Promoting => Mark::Promoting,
        node::Mark::Promoted => Mark::Promoted,
        node::Mark::Routed => Mark::Routed,
        node::Mark::Settled => Mark::Settled,
        node::Mark::Aborted => Mark::Aborted,
    }
}

/// The event that a fault can wait for, as scenarios name it.
pub(super) fn event_name(fact: &node::Observation) -> Option<&'static str> {
    Some(match fact {
        node::Observation::Writable(true) => "writable",
        node::Observation::Mark { mark, .. } => match mark {
            node::Mark::Suspected => "suspected",
            node::Mark::Declared => "declared",
            node::Mark::Elected => "elected",
            node::Mark::Fenced => "fenced",
            node::Mark::Promoting => "promoting",
            node::Mark::Promoted => "promoted",
            node::Mark::Routed => "routed",
            node::Mark::Settled => "settled",
            node::Mark::Aborted => "aborted",
        },
        _ => return None,
    })
}
