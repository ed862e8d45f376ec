//! Moving the log: replicas dial their primary, show how far they are, and take what follows; the synchronous set.

use super::election::SYNC_LOOK;
use super::*;
use crate::agent::coordination::{Guard, Put, SyncSet, Transaction};
use crate::agent::settings::{LogRules, REPLICATION_PORT, Replication};

/// A replica, as its primary sees it.
#[derive(Debug)]
pub(super) struct Follower {
    pub node: NodeId,
    /// Sent up to here.
    sent: Lsn,
    /// Durable there up to here.
    pub flushed: Lsn,
    /// Its log was found to match; nothing is sent before.
    matched: bool,
    heard: LocalTime,
    told_commit: Lsn,
}

/// A replica's way to its primary.
#[derive(Debug)]
pub(super) enum Upstream {
    None,
    Dialling { session: SessionId, node: NodeId },
    Following { session: SessionId, node: NodeId, heard: LocalTime },
}

/// Entries in one message at most.
const BATCH: usize = 512;

/// Wait before a replica dials its primary again.
const REDIAL: Duration = Duration::from_millis(500);

impl DataNode {
    /// The primary that a replica should follow.
    fn primary_to_follow(&self) -> Option<NodeId> {
        let by_key = self.link.view().leader.map(|leader| leader.holder);
        let by_order = self.ordered.map(|(node, _)| node);
        by_key.or(by_order).filter(|node| *node != self.me && !self.holds_role())
    }

    /// Dials the primary, unless we are there already.
    pub(super) fn follow(&mut self, cx: &mut Cx<'_, Agent>) {
        let Some(primary) = self.primary_to_follow() else { return };
        match &self.upstream {
            Upstream::Dialling { node, .. } if *node == primary => {}
            // A stream that fell silent for two beats too many may be dead without a word.
            Upstream::Following { node, heard, .. }
                if *node == primary && cx.now().since(*heard) < self.stream_limit() => {}
            Upstream::None | Upstream::Dialling { .. } | Upstream::Following { .. } => {
                self.stop_following(cx);
                let address = self.settings.cluster.address(primary).at_port(REPLICATION_PORT);
                let session = cx.open(address, Kind::Replication);
                self.upstream = Upstream::Dialling { session, node: primary };
            }
        }
        cx.set_timer(Timer::Follow, self.stream_limit());
    }

    fn stream_limit(&self) -> Duration {
        self.settings.agent.heartbeat.interval * (self.settings.agent.heartbeat.missed + 1)
    }

    pub(super) fn stop_following(&mut self, cx: &mut Cx<'_, Agent>) {
        match core::mem::replace(&mut self.upstream, Upstream::None) {
            Upstream::Dialling { session, .. } | Upstream::Following { session, .. } => cx.close(session),
            Upstream::None => {}
        }
    }

    pub(super) fn on_upstream_open(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId) {
        let Upstream::Dialling { session: ours, node } = self.upstream else { return };
        if ours != session {
            return;
        }
        self.upstream = Upstream::Following { session, node, heard: cx.now() };
        self.matched = Lsn(0);
        // The log of a node that was primary may hold a branch of its own.
        if self.state == State::Fenced {
            self.happen(cx, Event::Compare);
        }
        let (node, term, last) = (self.me, self.term, self.wal.last());
        cx.send(session, Message::Peer(PeerMessage::Follow { node, term, last }));
    }

    pub(super) fn on_upstream_close(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId) {
        match self.upstream {
            Upstream::Dialling { session: ours, .. } | Upstream::Following { session: ours, .. }
                if ours == session =>
            {
                self.upstream = Upstream::None;
                cx.set_timer(Timer::Follow, REDIAL);
            }
            Upstream::None | Upstream::Dialling { .. } | Upstream::Following { .. } => {}
        }
    }

    pub(super) fn on_peer(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: PeerMessage) {
        match message {
            PeerMessage::Follow { node, term, last } => self.on_follow(cx, session, node, term, last),
            PeerMessage::Differs { hint } => self.on_differs(cx, session, hint),
            PeerMessage::Append { term, previous, entries, commit } => {
                self.on_append(cx, session, term, previous, &entries, commit);
            }
            PeerMessage::AppendAck { term, flushed } => self.on_append_ack(cx, session, term, flushed),
            PeerMessage::Stale { term } => self.on_stale(cx, term),
            PeerMessage::VoteRequest { term, candidate, last } => {
                self.on_vote_request(cx, session, term, candidate, last);
            }
            PeerMessage::Vote { term, from, granted, last } => self.on_vote(cx, term, from, granted, last),
        }
    }

    // ------------------------------------------------------------------------------------------- the primary's side

    /// A replica shows an entry: if we have it, everything behind it follows; if not, it shall try an earlier one.
    fn on_follow(
        &mut self,
        cx: &mut Cx<'_, Agent>,
        session: SessionId,
        node: NodeId,
        term: Term,
        last: Position,
    ) {
        if !matches!(self.state, State::Primary | State::Promoting) {
            return cx.close(session);
        }
        if term > self.term {
            return self.on_stale(cx, term);
        }
        let as_printed = self.settings.agent.log_rules == LogRules::AsPrinted;
        if !self.wal.matches(last) && !as_printed {
            let hint = self.wal.fork_hint(last);
            return cx.send(session, Message::Peer(PeerMessage::Differs { hint }));
        }
        self.followers.retain(|_, follower| follower.node != node);
        let follower = Follower {
            node,
            sent: last.lsn.min(self.wal.last().lsn),
            flushed: Lsn(0),
            matched: true,
            heard: cx.now(),
            told_commit: Lsn(0),
        };
        self.followers.insert(session, follower);
        self.replicate_to(cx, session, true);
    }

    /// Sends new entries to every replica.
    pub(super) fn replicate(&mut self, cx: &mut Cx<'_, Agent>) {
        let (term, commit, last) = (self.term, self.commit, self.wal.last().lsn);
        // All replicas that are one entry behind, which is nearly always, share one message.
        let mut shared: Option<(Lsn, Arc<[Entry]>)> = None;
        for (session, follower) in &mut self.followers {
            if follower.sent >= last {
                continue;
            }
            let entries = match &shared {
                Some((from, entries)) if *from == follower.sent => entries.clone(),
                Some(_) | None => Arc::from(self.wal.from(follower.sent.next(), BATCH)),
            };
            shared = Some((follower.sent, entries.clone()));
            let previous = position_at(&self.wal, follower.sent);
            follower.sent = Lsn(follower.sent.0 + entries.len() as u64);
            follower.told_commit = commit;
            cx.send(*session, Message::Peer(PeerMessage::Append { term, previous, entries, commit }));
        }
    }

    fn replicate_to(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, even_nothing: bool) {
        let (term, commit) = (self.term, self.commit);
        let Some(follower) = self.followers.get_mut(&session).filter(|follower| follower.matched) else {
            return;
        };
        let entries: Arc<[Entry]> = Arc::from(self.wal.from(follower.sent.next(), BATCH));
        if entries.is_empty() && !even_nothing {
            return;
        }
        let previous = position_at(&self.wal, follower.sent);
        follower.sent = Lsn(follower.sent.0 + entries.len() as u64);
        follower.told_commit = commit;
        cx.send(session, Message::Peer(PeerMessage::Append { term, previous, entries, commit }));
    }

    /// Replicas that heard nothing new are told how far the gate is open; it is also the stream's sign of life.
    pub(super) fn tell_commit(&mut self, cx: &mut Cx<'_, Agent>) {
        let sessions: Vec<SessionId> = self.followers.keys().copied().collect();
        sessions.into_iter().for_each(|session| self.replicate_to(cx, session, true));
        self.tell_exposure(cx);
    }

    /// Acknowledged and not yet on any replica: what would be lost now.
    fn tell_exposure(&mut self, cx: &mut Cx<'_, Agent>) {
        if self.state != State::Primary {
            return;
        }
        let safe = self.followers.values().map(|follower| follower.flushed).max().unwrap_or(Lsn(0));
        let ahead = (self.commit.0.saturating_sub(safe.0)) as usize;
        let bytes: u64 =
            self.wal.from(safe.next(), ahead).iter().map(|entry| u64::from(entry.length())).sum();
        if bytes != self.exposure_told {
            self.exposure_told = bytes;
            cx.observe(Observation::Gauge { name: "rpo_exposure_bytes", value: bytes });
            cx.observe(Observation::Gauge { name: "rpo_exposure_writes", value: ahead as u64 });
        }
    }

    fn on_append_ack(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, term: Term, flushed: Lsn) {
        if term > self.term {
            return self.on_stale(cx, term);
        }
        let last = self.wal.last().lsn;
        let Some(follower) = self.followers.get_mut(&session) else { return };
        assert!(flushed <= follower.sent, "a replica never acknowledges beyond what it was sent");
        follower.flushed = follower.flushed.max(flushed);
        follower.heard = cx.now();
        let level = follower.flushed == last;
        if follower.sent < last {
            self.replicate_to(cx, session, false);
        }
        self.advance(cx);
        if level && !self.settled && self.state == State::Primary {
            self.settled = true;
            cx.mark(Mark::Settled, Some(self.settings.cluster.address(self.me)));
        }
    }

    /// Somebody takes part in a later term than ours.
    fn on_stale(&mut self, cx: &mut Cx<'_, Agent>, term: Term) {
        if term <= self.term {
            return;
        }
        if self.holds_role() && self.settings.agent.log_rules == LogRules::Corrected {
            cx.note(|| alloc::format!("overruled by term {}", term.0));
            self.give_back(cx);
        }
        self.adopt_term(cx, term);
    }

    // ------------------------------------------------------------------------------------------- the replica's side

    fn on_differs(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, hint: Position) {
        let last = if self.wal.matches(hint) {
            hint
        } else {
            self.wal.fork_hint(Position { lsn: hint.lsn.next(), ..hint })
        };
        if let Upstream::Following { session: ours, heard, .. } = &mut self.upstream
            && *ours == session
        {
            *heard = cx.now();
            let (node, term) = (self.me, self.term);
            cx.send(session, Message::Peer(PeerMessage::Follow { node, term, last }));
        }
    }

    fn on_append(
        &mut self,
        cx: &mut Cx<'_, Agent>,
        session: SessionId,
        term: Term,
        previous: Position,
        entries: &[Entry],
        commit: Lsn,
    ) {
        if self.settings.agent.log_rules == LogRules::AsPrinted {
            return self.on_append_as_printed(cx, term, entries, commit);
        }
        // A primary of a lower term may be alive behind a slow link: nothing of it counts any more.
        if term < self.term {
            return cx.send(session, Message::Peer(PeerMessage::Stale { term: self.term }));
        }
        self.adopt_term(cx, term);
        let holds_role = self.holds_role();
        let Upstream::Following { session: ours, heard, .. } = &mut self.upstream else { return };
        if *ours != session || holds_role {
            return;
        }
        *heard = cx.now();
        let before = self.wal.last().lsn;
        let Some(merged) = self.merge(cx, previous, entries) else {
            let (node, last) = (self.me, self.wal.last());
            return cx.send(session, Message::Peer(PeerMessage::Follow { node, term, last }));
        };
        self.happen(cx, Event::Matched);
        self.register(cx);
        // Nothing behind the last entry that was compared may count, here or at the primary.
        let upto = Lsn(previous.lsn.0 + entries.len() as u64);
        self.matched = self.matched.max(upto);
        self.apply_to(commit.min(upto), |_, _| {});
        let news = merged < self.wal.last().lsn || before != self.wal.last().lsn;
        self.flush(cx);
        if !news || !self.settings.agent.wal || self.is_shared() {
            self.acknowledge(cx);
        }
    }

    /// Takes entries over; what they overrule is cut, kept apart for the operator, and taken out of the graph.
    pub(super) fn merge(
        &mut self,
        cx: &mut Cx<'_, Agent>,
        previous: Position,
        entries: &[Entry],
    ) -> Option<Lsn> {
        if !self.wal.matches(previous) {
            return None;
        }
        let differs = entries.iter().position(|entry| !self.wal.matches(entry.position));
        let kept = match differs {
            Some(first) => Lsn(entries[first].position.lsn.0 - 1),
            None => self.wal.last().lsn,
        };
        if kept < self.wal.last().lsn {
            self.cut(cx, kept);
        }
        let news = entries.iter().filter(|entry| entry.position.lsn > kept).cloned().collect::<Vec<_>>();
        news.into_iter().for_each(|entry| self.keep(cx, entry));
        Some(kept)
    }

    pub(super) fn cut(&mut self, cx: &mut Cx<'_, Agent>, kept: Lsn) {
        let branch = self.wal.cut_after(kept);
        if self.settings.backup.is_some() {
            self.backup.branches.push((kept, branch.clone()));
        }
        cx.note(|| alloc::format!("cuts {} entries after {}", branch.len(), kept.0));
        if self.settings.agent.wal && !self.is_shared() {
            cx.truncate(WAL_FILE, kept.0 as usize);
            cx.append(BRANCH_FILE, Record::Branch(branch));
            // A sync that is under way was asked for before the cut: it says nothing of what comes now.
            for (_, what, _) in &mut self.syncs {
                if let Syncing::Log(upto) = what {
                    *upto = (*upto).min(kept);
                }
            }
        }
        self.unsynced = true;
        self.matched = self.matched.min(kept);
        if self.commit > kept && self.settings.quirks.keeps_its_tail() {
            self.commit = kept;
        } else if self.commit > kept {
            self.rebuild_to(kept);
        }
    }

    /// The published sample: any term is taken, the own one is never raised, a higher one than the own throws the
    /// whole log away, and nothing compares the entry before.
    fn on_append_as_printed(&mut self, cx: &mut Cx<'_, Agent>, term: Term, entries: &[Entry], commit: Lsn) {
        if let Upstream::Following { heard, .. } = &mut self.upstream {
            *heard = cx.now();
        }
        for entry in entries {
            if term > self.term && entry.position.lsn <= self.wal.last().lsn {
                self.cut(cx, Lsn(entry.position.lsn.0 - 1));
            }
            if entry.position.lsn == self.wal.last().lsn.next() && entry.position.term >= self.wal.last().term
            {
                self.keep(cx, entry.clone());
            }
        }
        self.matched = entries.last().map_or(self.matched, |entry| entry.position.lsn);
        self.happen(cx, Event::Matched);
        self.apply_to(commit.min(self.wal.last().lsn), |_, _| {});
        self.flush(cx);
        self.acknowledge(cx);
    }

    /// Tells the primary how far our log is durable.
    pub(super) fn acknowledge(&mut self, cx: &mut Cx<'_, Agent>) {
        if let Upstream::Following { session, .. } = self.upstream
            && matches!(self.state, State::Replica)
        {
            let ack =
                PeerMessage::AppendAck { term: self.term, flushed: self.wal.flushed().min(self.matched) };
            cx.send(session, Message::Peer(ack));
        }
    }

    // ------------------------------------------------------------------------------------------ the synchronous set

    /// Looks at the set: a silent member goes, a replica that has caught up comes.
    ///
    /// The order makes it safe (Patroni's rule): a node comes first into what we wait for and then into the key, and
    /// goes first from the key and then from what we wait for. So whom the coordination service would promote is
    /// always among those we wait for.
    pub(super) fn watch_sync_set(&mut self, cx: &mut Cx<'_, Agent>) {
        if self.state != State::Primary || self.settings.agent.replication != Replication::Sync {
            return;
        }
        cx.set_timer(Timer::SyncWatch, SYNC_LOOK);
        let (now, limit) = (cx.now(), self.settings.agent.sync_timeout);
        let alive = |f: &&Follower| now.since(f.heard) < limit;
        let silent =
            self.waited.iter().find(|node| !self.followers.values().filter(alive).any(|f| f.node == *node));
        if let Some(node) = silent {
            if self.settings.quirks.falls_back_to_async() {
                self.waited = self.waited.without(node);
                return self.advance(cx);
            }
            return self.change_set(cx, self.waited.without(node));
        }
        // A pause in traffic makes no gap: whoever has all but the last moment's entries has caught up.
        let close = Lsn(self.wal.last().lsn.0.saturating_sub(64));
        let level = |f: &&Follower| f.flushed >= close && !self.waited.contains(f.node);
        let comes = self.followers.values().filter(alive).find(level).map(|follower| follower.node);
        if let Some(node) = comes.filter(|_| self.waited.len() < self.settings.agent.sync_members)
            && self.set_change.is_none()
        {
            self.waited = self.waited.with(node);
            self.change_set(cx, self.waited);
        }
    }

    fn change_set(&mut self, cx: &mut Cx<'_, Agent>, members: NodeSet) {
        if self.set_change.is_some() {
            return;
        }
        let puts = alloc::vec![Put::Sync(SyncSet { primary: self.me, members })];
        let guards = alloc::vec![Guard::HolderIs(self.me)];
        let ask = self.link.ask(cx, Body::Transact(Transaction { guards, puts, delete_leader: false }));
        self.set_change = Some((ask, members));
    }

    pub(super) fn on_set_changed(&mut self, cx: &mut Cx<'_, Agent>, done: bool) {
        let Some((_, members)) = self.set_change.take() else { return };
        if done && members.is_subset(self.waited) {
            self.waited = members;
            self.advance(cx);
        }
    }
}

fn position_at(wal: &Wal, lsn: Lsn) -> Position {
    Position { term: wal.term_at(lsn).unwrap_or_default(), lsn }
}
