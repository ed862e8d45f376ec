//! The gate: the one place that decides whether a write may be acknowledged.
//!
//! An entry passes when it is flushed here, replicated as the mode asks, the lease is valid *now*, and it belongs to
//! the current term. Everything that weakens it is a named setting or quirk.

use super::*;
use crate::agent::settings::{Consistency, Keeper, LeaseCheck, Replication};
use crate::agent::wal::point_number;

impl DataNode {
    /// How far entries may be acknowledged at this moment.
    fn open_to(&self, cx: &Cx<'_, Agent>) -> Lsn {
        let serving = matches!(self.state, State::Primary | State::Draining | State::Promoting);
        if !(serving || self.serves_in_isolation()) || !self.right_at_ack(cx) {
            return self.commit;
        }
        let here = self.wal.flushed();
        let reached = match self.settings.agent.replication {
            Replication::Async => here,
            Replication::Sync => self.reached_by_set(here),
            Replication::Quorum => here.min(self.reached_by_majority()),
        };
        // An entry of an older term passes only together with one of ours (Raft paper section 5.4.2).
        if reached < self.term_start { self.commit } else { reached.max(self.commit) }
    }

    /// Where every member of the synchronous set has arrived.
    fn reached_by_set(&self, here: Lsn) -> Lsn {
        if self.waited.is_empty() && self.settings.agent.sync_strict && self.state != State::Promoting {
            return self.commit;
        }
        let reached = |node| self.followers.values().filter(|f| f.node == node).map(|f| f.flushed).max();
        self.waited.iter().map(|node| reached(node).unwrap_or(Lsn(0))).fold(here, Lsn::min)
    }

    /// Where a majority of the data nodes, ourselves included, has arrived.
    fn reached_by_majority(&self) -> Lsn {
        let others = self.settings.cluster.data.len() - 1;
        let mut reached: Vec<Lsn> = self.followers.values().map(|follower| follower.flushed).collect();
        reached.resize(reached.len().max(others), Lsn(0));
        reached.sort_unstable_by(|a, b| b.cmp(a));
        self.settings.majority().checked_sub(2).map_or(Lsn(u64::MAX), |needed| reached[needed])
    }

    /// The lease at the moment of an acknowledgement.
    fn right_at_ack(&self, cx: &Cx<'_, Agent>) -> bool {
        match (self.settings.agent.keeper, self.settings.agent.lease.check) {
            (Keeper::Beside, _) | (_, LeaseCheck::Start | LeaseCheck::Timer | LeaseCheck::Off) => true,
            (Keeper::Inside, LeaseCheck::Ack) => {
                self.lease.valid(Clocks::of(cx)) || self.serves_in_isolation()
            }
        }
    }

    /// The lease when an operation begins.
    fn right_at_start(&self, cx: &Cx<'_, Agent>) -> bool {
        match (self.settings.agent.keeper, self.settings.agent.lease.check) {
            (Keeper::Beside, _) | (_, LeaseCheck::Timer | LeaseCheck::Off) => true,
            (Keeper::Inside, LeaseCheck::Ack | LeaseCheck::Start) => {
                self.lease.valid(Clocks::of(cx)) || self.serves_in_isolation()
            }
        }
    }

    /// Quirks that let an isolated node go on.
    pub(super) fn serves_in_isolation(&self) -> bool {
        let quirks = &self.settings.quirks;
        self.state == State::Isolated
            && (quirks.fences_itself_on_paper()
                || quirks.demotes_smartly()
                || (quirks.trusts_its_cached_lock() && !self.link.connected()))
    }

    /// Whether a write that arrives now would be acknowledged, as far as we know.
    pub(super) fn writable(&self, cx: &Cx<'_, Agent>) -> bool {
        (self.state == State::Primary && self.right_at_start(cx)) || self.serves_in_isolation()
    }

    /// Lets through what may pass, and answers it.
    pub(super) fn advance(&mut self, cx: &mut Cx<'_, Agent>) {
        let upto = self.open_to(cx);
        if upto > self.commit {
            let mut waiting = core::mem::take(&mut self.waiting);
            let term = self.term;
            let mut mismatches: Vec<(Lsn, graph::Refusal)> = Vec::new();
            self.apply_to(upto, |lsn, result| {
                if let Err(refusal) = result {
                    mismatches.push((lsn, refusal));
                }
            });
            while let Some(open) = waiting.front().copied().filter(|open| open.lsn <= upto) {
                waiting.pop_front();
                let refusal =
                    mismatches.iter().find(|(lsn, _)| *lsn == open.lsn).map(|(_, refusal)| *refusal);
                let result = Ok(refusal.map_or(Outcome::Done, outcome_of));
                let at = Position { term, lsn: open.lsn };
                cx.send(open.session, Message::Result { id: open.id, result, at });
            }
            self.waiting = waiting;
        }
        if self.state == State::Promoting && self.term_start > Lsn(0) && self.commit >= self.term_start {
            self.on_term_started(cx);
        }
    }

    /// A client's operation.
    pub(super) fn on_query(
        &mut self,
        cx: &mut Cx<'_, Agent>,
        session: SessionId,
        id: u64,
        op: Op,
        seen: Position,
    ) {
        let asks_by_name = matches!(op, Op::ReadAt { .. } | Op::Command { .. });
        if !asks_by_name && self.is_crowded_out(session) {
            self.turned_away += 1;
            cx.observe(Observation::Gauge { name: "turned_away", value: self.turned_away });
            let at = Position { term: self.term, lsn: self.commit };
            return cx.send(session, Message::Result { id, result: Err(Refusal::Crowded), at });
        }
        match op {
            Op::ReadAt { key, .. } => self.answer_read(cx, session, id, key),
            Op::Command { words, .. } => self.on_command(cx, session, id, &words),
            Op::Read { key } if self.may_read(cx, seen) => self.answer_read(cx, session, id, key),
            Op::Append { key, value, bytes } if self.writable(cx) => {
                let (vertex, property) = (key.into(), graph::ITEMS);
                let change = graph::Change::Append { vertex, property, value, bytes };
                self.write(cx, session, id, Content::Change(change));
            }
            Op::Write { key, value, bytes } if self.writable(cx) => {
                let (vertex, property) = (key.into(), graph::VALUE);
                let change = graph::Change::Set { vertex, property, value, bytes };
                self.write(cx, session, id, Content::Change(change));
            }
            Op::Cas { key, from, to } if self.writable(cx) => {
                let (vertex, property) = (key.into(), graph::VALUE);
                let change = graph::Change::Cas { vertex, property, from, to };
                self.write(cx, session, id, Content::Change(change));
            }
            Op::Read { .. } | Op::Append { .. } | Op::Write { .. } | Op::Cas { .. } => {
                self.refuse(cx, session, id);
            }
        }
    }

    /// Whether as many clients as may be served came before this one (Envoy: `max_connections` of a circuit breaker).
    fn is_crowded_out(&self, session: SessionId) -> bool {
        let limit = self.settings.routing.max_connections as usize;
        let clients = self.accepted.iter().filter(|(_, kind)| **kind == Kind::Client);
        limit > 0 && clients.take_while(|(other, _)| **other < session).count() >= limit
    }

    fn refuse(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, id: u64) {
        let refusal = match self.state {
            State::Primary | State::Isolated | State::Promoting | State::FailedDisk => Refusal::Unsafe,
            State::Joining
            | State::Replica
            | State::Candidate
            | State::Draining
            | State::Fenced
            | State::Rejoining => {
                let known =
                    self.link.view().leader.map(|leader| leader.holder).filter(|node| *node != self.me);
                Refusal::NotPrimary(known.or(self.ordered.map(|(node, _)| node)))
            }
        };
        let at = Position { term: self.term, lsn: self.commit };
        cx.send(session, Message::Result { id, result: Err(refusal), at });
    }

    /// Strong reads need the primary and its right now; the others need only what this node has.
    fn may_read(&self, cx: &Cx<'_, Agent>, seen: Position) -> bool {
        let serving = matches!(self.state, State::Primary | State::Replica);
        match self.settings.agent.consistency {
            Consistency::Strong => {
                (self.state == State::Primary && self.right_at_start(cx)) || self.serves_in_isolation()
            }
            Consistency::Eventual => serving,
            Consistency::Causal => serving && self.commit >= seen.lsn && self.term >= seen.term,
        }
    }

    fn answer_read(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, id: u64, key: Key) {
        let outcome = match self.graph.content(key.into(), graph::VALUE) {
            Some(graph::Content::One(value)) => Outcome::Value(Some(*value)),
            Some(graph::Content::Many(_)) | None => match self.graph.content(key.into(), graph::ITEMS) {
                Some(graph::Content::Many(_)) => {
                    Outcome::List(self.graph.shared_list(key.into(), graph::ITEMS))
                }
                Some(graph::Content::One(_)) | None => Outcome::Value(None),
            },
        };
        let at = Position { term: self.term, lsn: self.commit };
        cx.send(session, Message::Result { id, result: Ok(outcome), at });
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, id: u64, words: &str) {
        if let Some(name) = words.strip_prefix("mark ")
            && self.writable(cx)
        {
            // Answered like a write: a point that is not durable where it must be is none.
            let value = u64::from(point_number(name));
            cx.observe(Observation::Gauge { name: "restore_point", value });
            return self.write(cx, session, id, Content::Point(name.into()));
        }
        let text = match words {
            "resign" if self.state == State::Primary => {
                self.resign(cx);
                "resigned"
            }
            "resign" => "not primary",
            "promote" => {
                self.commanded = true;
                self.plan_to_stand(cx);
                "will stand when nobody leads"
            }
            _ => "unknown command",
        };
        let at = Position { term: self.term, lsn: self.commit };
        cx.send(session, Message::Result { id, result: Ok(Outcome::Text(text.into())), at });
    }

    /// A write enters the log: append, flush and replicate at the same time; the gate decides the rest.
    fn write(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, id: u64, content: Content) {
        if let (Some(rollout), true) = (&self.settings.rollout, self.version > 1) {
            cx.busy(rollout.write_cost);
        }
        let lsn = self.log(cx, content);
        self.waiting.push_back(Waiting { lsn, session, id });
        self.replicate(cx);
        self.advance(cx);
    }

    /// Appends an entry of our term.
    pub(super) fn log(&mut self, cx: &mut Cx<'_, Agent>, content: Content) -> Lsn {
        let position = Position { term: self.term, lsn: self.wal.last().lsn.next() };
        let entry = Entry { position, at: cx.wall(), content };
        self.keep(cx, entry);
        self.flush(cx);
        position.lsn
    }

    /// Adds an entry to the log, here and in the file.
    pub(super) fn keep(&mut self, cx: &mut Cx<'_, Agent>, entry: Entry) {
        if self.settings.agent.wal && !self.is_shared() {
            cx.append(WAL_FILE, Record::Wal(WalRecord::of(entry.clone())));
        }
        self.wal.append(entry);
        self.unsynced = true;
    }

    /// Asks for a sync of the log, unless one is under way: the next then carries all that came meanwhile.
    pub(super) fn flush(&mut self, cx: &mut Cx<'_, Agent>) {
        if self.is_shared() {
            return self.write_to_disk(cx);
        }
        let last = self.wal.last().lsn;
        if !self.settings.agent.wal {
            self.wal.flushed_to(last);
            self.unsynced = false;
            return;
        }
        let busy = self.syncs.iter().any(|(_, what, _)| matches!(what, Syncing::Log(_)));
        if self.unsynced && !busy {
            let token = cx.sync(WAL_FILE);
            self.syncs.push_back((token, Syncing::Log(last), cx.now()));
            self.unsynced = false;
        }
    }

    /// A sync succeeded.
    pub(super) fn durable(&mut self, cx: &mut Cx<'_, Agent>, what: Syncing) {
        match what {
            Syncing::Log(upto) => {
                self.wal.flushed_to(upto);
                self.flush(cx);
                self.acknowledge(cx);
                self.advance(cx);
                self.seeded_to(cx, upto);
            }
            Syncing::Meta => self.on_meta_durable(cx),
            Syncing::Other => {}
        }
    }

    /// Tries a failed sync again, and believes the second answer.
    pub(super) fn sync_again(&mut self, cx: &mut Cx<'_, Agent>, what: Syncing) {
        let file = match what {
            Syncing::Log(_) => WAL_FILE,
            Syncing::Meta => META_FILE,
            Syncing::Other => return,
        };
        let token = cx.sync(file);
        self.syncs.push_back((token, what, cx.now()));
    }

    /// A node without log saves its memory whole, every so often.
    pub(super) fn save_memory(&mut self, cx: &mut Cx<'_, Agent>) {
        cx.replace(MEMORY_FILE, Record::Memory(self.wal.from(Lsn(1), self.commit.0 as usize).to_vec()));
        let token = cx.sync(MEMORY_FILE);
        self.syncs.push_back((token, Syncing::Other, cx.now()));
        cx.set_timer(Timer::Save, self.settings.agent.snapshot_every);
    }
}

/// What a client is told of a change that the graph refused.
fn outcome_of(refusal: graph::Refusal) -> Outcome {
    match refusal {
        graph::Refusal::Mismatch(current) => Outcome::Mismatch(current),
        graph::Refusal::Exists
        | graph::Refusal::Missing
        | graph::Refusal::Insufficient
        | graph::Refusal::WrongType => Outcome::Fail(Failure::Rejected),
    }
}
