//! Standing, voting, fencing, promoting.
//!
//! The order is: lease free -> random wait -> votes of the peers (nobody who answers is ahead) -> the key, by
//! comparison (nobody else, no term reused) -> fence -> replay -> first entry of the term through the gate -> serve.
//! A vote is durable before it is sent and raises the lowest term that the voter accepts entries of.

use super::*;
use crate::agent::coordination::{Guard, Put, SyncSet, Transaction};
use crate::agent::message::Answer;
use crate::agent::settings::{ElectionRule, LeaseCheck, Replication};

/// Our own candidacy.
#[derive(Debug)]
pub(super) struct Candidacy {
    pub term: Term,
    own_vote_durable: bool,
    /// Sessions to the peers that were asked.
    ballots: BTreeMap<SessionId, NodeId>,
    granted: NodeSet,
    answered: NodeSet,
    refused: bool,
    /// The lease under which the key will be taken: its request, then its name and when it was asked for.
    grant: Option<u64>,
    lease: Option<(LeaseId, Clocks)>,
    /// The transaction for the key.
    key: Option<u64>,
}

impl DataNode {
    /// The right is free: stand after a random wait, so that not all stand at once.
    pub(super) fn plan_to_stand(&mut self, cx: &mut Cx<'_, Agent>) {
        let fit = matches!(self.state, State::Replica | State::Fenced | State::Rejoining);
        let by_votes = self.settings.agent.election == ElectionRule::Votes;
        // Under the monitor's orders only the very first primary finds itself.
        if !fit
            || !(by_votes || self.term == Term(0))
            || self.waits_for_a_restore()
            || self.waits_for_a_word()
        {
            return;
        }
        let (low, high) = self.settings.agent.stand_wait;
        let first = self.settings.agent.first_primary.filter(|_| self.term == Term(0));
        let behind = if first.is_some_and(|node| node != self.me) { HEAD_START } else { Duration::ZERO };
        // Whoever has just given the role away lets the others have it.
        let resigned = self.resigned_at.is_some_and(|at| cx.now().since(at) < HEAD_START);
        let behind = if resigned { HEAD_START } else { behind };
        let wait = cx.random().duration(low, high) + behind + self.settings.agent.lease.acquire_after;
        // Seeing once more that the right is free must not put off what was planned when it became free.
        if self.stand_due.is_none_or(|due| due <= cx.now()) {
            self.stand_in(cx, wait);
        }
    }

    /// Where failovers are an operator's business.
    fn waits_for_a_word(&self) -> bool {
        self.settings.agent.manual && !self.commanded && self.link.view().term > Term(0)
    }

    fn stand_in(&mut self, cx: &mut Cx<'_, Agent>, wait: Duration) {
        self.stand_due = Some(cx.now() + wait);
        cx.set_timer(Timer::Stand, wait);
    }

    /// Asks the peers, and for a lease, at the same time.
    pub(super) fn stand(&mut self, cx: &mut Cx<'_, Agent>) {
        let cooling = self.promoted_at.is_some_and(|at| cx.now().since(at) < self.settings.agent.cool_down);
        let lost = self.link.view().leader.is_some() || !self.link.connected();
        if lost || cooling || !self.may_be_promoted() {
            return self.stand_in(cx, RETRY);
        }
        if self.knows_too_little(cx) {
            self.link.ask(cx, Body::Get);
            return self.stand_in(cx, RETRY / 4);
        }
        if !self.happen(cx, Event::Stand) {
            return;
        }
        cx.mark(Mark::Suspected, self.last_holder.map(|node| self.settings.cluster.address(node)));
        self.term = self.next_term();
        self.voted = Some(self.me);
        self.save_meta(cx);
        let grant = self.link.ask(cx, Body::Grant { ttl: self.settings.agent.lease.ttl });
        let mut ballots = BTreeMap::new();
        for node in self.settings.cluster.nodes().filter(|node| *node != self.me) {
            ballots.insert(cx.open(self.settings.cluster.address(node).at_port(PEER_PORT), Kind::Peer), node);
        }
        self.candidacy = Some(Candidacy {
            term: self.term,
            own_vote_durable: false,
            ballots,
            granted: NodeSet::default(),
            answered: NodeSet::default(),
            refused: false,
            grant: Some(grant),
            lease: None,
            key: None,
        });
        cx.set_timer(Timer::VoteWindow, self.settings.agent.vote_window);
        self.announce(cx);
    }

    /// Where nobody tells of changes, what we know may be old: a candidate looks once more before it disturbs anybody.
    fn knows_too_little(&self, cx: &Cx<'_, Agent>) -> bool {
        let pulled = matches!(self.settings.agent.metadata, Metadata::Pull(_));
        pulled && self.confirmed_at.is_none_or(|at| cx.now().since(at) >= RETRY)
    }

    fn next_term(&self) -> Term {
        if self.settings.quirks.counts_terms_locally() {
            return Term(self.wal.last().term.0 + 1);
        }
        Term(self.term.max(self.link.view().term).0 + 1)
    }

    /// What the coordination service says about who may be promoted.
    fn may_be_promoted(&self) -> bool {
        let view = self.link.view();
        // Whoever gets the shared disk gets everything that was acknowledged.
        if self.is_shared() {
            return true;
        }
        match self.settings.agent.replication {
            Replication::Async => self.wal.bytes() + self.settings.agent.lag_max_bytes >= view.status,
            Replication::Quorum => true,
            Replication::Sync => {
                view.sync.is_none_or(|set| set.primary == self.me || set.members.contains(self.me))
            }
        }
    }

    /// In sync mode the set says who has everything that was acknowledged (on a shared disk: everybody). Another replica may have entries more than
    /// that one: nobody was told of them.
    fn has_all_by_the_set(&self, candidate: NodeId) -> bool {
        let named = |set: SyncSet| set.primary == candidate || set.members.contains(candidate);
        self.is_shared()
            || self.settings.agent.replication == Replication::Sync
                && self.link.view().sync.is_some_and(named)
    }

    /// A session to a peer is open: ask it.
    pub(super) fn on_ballot_open(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId) {
        let (me, last) = (self.me, self.wal.last());
        let Some(candidacy) = self.candidacy.as_ref().filter(|c| c.ballots.contains_key(&session)) else {
            return;
        };
        let request = PeerMessage::VoteRequest { term: candidacy.term, candidate: me, last };
        cx.send(session, Message::Peer(request));
    }

    /// A peer is not there: it counts as silent.
    pub(super) fn on_ballot_close(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId) {
        let Some(node) = self.candidacy.as_mut().and_then(|c| c.ballots.remove(&session)) else { return };
        if let Some(candidacy) = &mut self.candidacy {
            candidacy.answered = candidacy.answered.with(node);
        }
        self.count(cx, false);
    }

    /// Would we have that one as primary? Not while we know of a primary, not twice in a term, not if our log is
    /// ahead of its own.
    pub(super) fn on_vote_request(
        &mut self,
        cx: &mut Cx<'_, Agent>,
        session: SessionId,
        term: Term,
        candidate: NodeId,
        last: Position,
    ) {
        let occupied = self.link.view().leader.is_some() || self.holds_role();
        let free =
            term > self.term || (term == self.term && self.voted.is_none_or(|voted| voted == candidate));
        let granted = !occupied && free && (last >= self.wal.last() || self.has_all_by_the_set(candidate));
        let (from, last) = (self.me, self.wal.last());
        if !granted {
            // Its term counts all the same, or a node with a longer log would stand for ever in terms that are over.
            if !occupied && term > self.term {
                self.step_back(cx);
                self.adopt_term(cx, term);
            }
            let vote = PeerMessage::Vote { term: self.term, from, granted, last };
            return cx.send(session, Message::Peer(vote));
        }
        if self.state == State::Candidate && term > self.term {
            self.step_back(cx);
        }
        (self.term, self.voted) = (term, Some(candidate));
        let token = self.save_meta(cx);
        let vote = PeerMessage::Vote { term, from, granted, last };
        cx.after(token).send(session, Message::Peer(vote));
        // Whoever got our vote gets time to use it.
        self.stand_in(cx, self.settings.agent.vote_window + self.settings.agent.cool_down);
        self.announce(cx);
    }

    /// A peer's answer.
    pub(super) fn on_vote(
        &mut self,
        cx: &mut Cx<'_, Agent>,
        term: Term,
        from: NodeId,
        granted: bool,
        last: Position,
    ) {
        let ahead = last > self.wal.last();
        if term > self.term {
            self.adopt_term(cx, term);
        }
        let Some(candidacy) = &mut self.candidacy else { return };
        candidacy.answered = candidacy.answered.with(from);
        if granted && term == candidacy.term {
            candidacy.granted = candidacy.granted.with(from);
        } else if ahead || term > candidacy.term || !granted {
            candidacy.refused = true;
        }
        self.count(cx, false);
    }

    pub(super) fn on_meta_durable(&mut self, cx: &mut Cx<'_, Agent>) {
        let term = self.term;
        if let Some(candidacy) = self.candidacy.as_mut().filter(|c| c.term == term) {
            candidacy.own_vote_durable = true;
            self.count(cx, false);
        }
    }

    pub(super) fn on_granted(
        &mut self,
        cx: &mut Cx<'_, Agent>,
        sequence: u64,
        lease: LeaseId,
        asked_at: Clocks,
    ) {
        match self.candidacy.as_mut().filter(|candidacy| candidacy.grant == Some(sequence)) {
            Some(candidacy) => {
                candidacy.lease = Some((lease, asked_at));
                self.count(cx, false);
            }
            // Too late: nobody will use it.
            None => {
                self.link.ask(cx, Body::Revoke { lease });
            }
        }
    }

    /// Enough to take the key, too little ever, or wait.
    pub(super) fn count(&mut self, cx: &mut Cx<'_, Agent>, window_over: bool) {
        let others = self.settings.cluster.data.len() - 1;
        let unasked = self.settings.quirks.takes_a_free_lock_unasked();
        let Some(candidacy) = &self.candidacy else { return };
        if candidacy.key.is_some() {
            return;
        }
        let everybody = candidacy.answered.len() == others;
        let votes = 1 + candidacy.granted.len();
        let enough = match self.settings.agent.replication {
            Replication::Quorum => votes >= self.settings.majority(),
            Replication::Async | Replication::Sync => everybody || window_over,
        };
        if candidacy.refused && !unasked {
            return self.beaten(cx);
        }
        if (enough || unasked)
            && candidacy.own_vote_durable
            && let Some((lease, _)) = candidacy.lease
        {
            return self.take_key(cx, lease);
        }
        if window_over {
            self.beaten(cx);
        }
    }

    fn take_key(&mut self, cx: &mut Cx<'_, Agent>, lease: LeaseId) {
        let leader = Leader { holder: self.me, term: self.term, lease };
        let mut guards = alloc::vec![Guard::NoLeader];
        if !self.settings.quirks.counts_terms_locally() {
            guards.push(Guard::TermBelow(self.term));
        }
        let mut puts = alloc::vec![Put::Leader(leader), Put::Term(self.term)];
        if self.settings.agent.replication == Replication::Sync {
            // From now on nobody but us has all: whoever we do not wait for must not be promoted.
            puts.push(Put::Sync(SyncSet { primary: self.me, members: NodeSet::default() }));
        }
        let key = self.link.ask(cx, Body::Transact(Transaction { guards, puts, delete_leader: false }));
        if let Some(candidacy) = &mut self.candidacy {
            candidacy.key = Some(key);
        }
    }

    /// Lost, or too few answered: try again later.
    fn beaten(&mut self, cx: &mut Cx<'_, Agent>) {
        self.step_back(cx);
        let wait = cx.random().duration(RETRY, RETRY * 2);
        self.stand_in(cx, wait);
    }

    fn step_back(&mut self, cx: &mut Cx<'_, Agent>) {
        let Some(candidacy) = self.candidacy.take() else { return };
        candidacy.ballots.into_keys().for_each(|session| cx.close(session));
        if let Some((lease, _)) = candidacy.lease {
            self.link.ask(cx, Body::Revoke { lease });
        }
        cx.cancel_timer(Timer::VoteWindow);
        self.happen(cx, Event::Beaten);
    }

    /// The answer to one of our transactions.
    pub(super) fn on_transaction(&mut self, cx: &mut Cx<'_, Agent>, sequence: u64, answer: &Answer) {
        let won = matches!(answer, Answer::Committed { .. });
        if self.candidacy.as_ref().is_some_and(|candidacy| candidacy.key == Some(sequence)) {
            if !won {
                return self.beaten(cx);
            }
            if let Answer::Committed { revision } = answer {
                self.won_at = (self.link.restorations(), *revision);
            }
            let Some(candidacy) = self.candidacy.take() else { return };
            candidacy.ballots.into_keys().for_each(|session| cx.close(session));
            // Whoever voted for our term serves in no older one.
            let others = self.may_serve.without(self.me);
            self.to_fence = candidacy.granted.iter().fold(others, NodeSet::without);
            if let Some((lease, asked_at)) = candidacy.lease {
                self.won(cx, lease, asked_at);
            }
        } else if self.topology_ask == Some(sequence) {
            self.topology_ask = None;
            if won && self.state == State::Primary {
                cx.mark(Mark::Routed, Some(self.settings.cluster.address(self.me)));
            }
        } else if self.set_change.is_some_and(|(asked, _)| asked == sequence) {
            self.on_set_changed(cx, won);
        }
    }

    fn won(&mut self, cx: &mut Cx<'_, Agent>, lease: LeaseId, asked_at: Clocks) {
        cx.cancel_timer(Timer::VoteWindow);
        self.lease_id = Some(lease);
        self.lease.granted(asked_at, Clocks::of(cx));
        self.arm_deadline(cx);
        self.pet(cx, true);
        if self.happen(cx, Event::HoldsKey) {
            cx.mark(Mark::Elected, Some(self.settings.cluster.address(self.me)));
            self.fence(cx);
        }
    }

    /// The leader's key names us. After a restart that is our own old right: the lease may live, our knowledge of it
    /// does not, so it is given back and won anew.
    pub(super) fn on_own_key(&mut self, cx: &mut Cx<'_, Agent>, leader: Leader) {
        let unknown = self.lease_id != Some(leader.lease)
            && self.candidacy.as_ref().is_none_or(|c| c.lease.is_none_or(|(lease, _)| lease != leader.lease));
        if unknown && self.state != State::FailedDisk {
            self.last_holder = Some(self.me);
            self.happen(cx, Event::Joined);
            let revoking = |body: &Body| matches!(body, Body::Revoke { .. });
            if !self.link.has_open(revoking) {
                self.link.ask(cx, Body::Revoke { lease: leader.lease });
            }
        }
    }

    /// Makes whoever may still serve harmless, by the policy.
    fn fence(&mut self, cx: &mut Cx<'_, Agent>) {
        match (self.settings.agent.fence, self.to_fence.is_empty(), self.settings.cluster.fencer) {
            (Fence::Power, false, Some(fencer)) => {
                self.fence_session = Some(cx.open(fencer, Kind::Fence));
                cx.set_timer(Timer::FenceLimit, self.settings.agent.fence_timeout);
            }
            (Fence::PoisonPill, false, _) => self.poison(cx),
            // The lease was over before the key was free; a vote of a majority refuses the old term's entries.
            (Fence::Wait | Fence::Token, _, _) => {
                self.mark_fenced(cx);
                self.promote(cx);
            }
            // The disk fences when its lock is taken.
            (Fence::None | Fence::Power | Fence::DiskLock | Fence::Preempt | Fence::PoisonPill, _, _) => {
                self.promote(cx);
            }
        }
    }

    /// All that had to be fenced are.
    pub(super) fn mark_fenced(&mut self, cx: &mut Cx<'_, Agent>) {
        for node in core::mem::take(&mut self.to_fence).iter() {
            cx.mark(Mark::Fenced, Some(self.settings.cluster.address(node)));
        }
    }

    pub(super) fn order_fence(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId) {
        let victims = self.to_fence.iter();
        for node in self.hunted.into_iter().chain(victims) {
            cx.send(session, Message::Fence { node });
        }
    }

    /// The hunted primary is off: its key may go before its lease is over.
    fn free_key(&mut self, cx: &mut Cx<'_, Agent>, node: NodeId) {
        if let Some(session) = self.fence_session.take() {
            cx.close(session);
        }
        cx.mark(Mark::Fenced, Some(self.settings.cluster.address(node)));
        let guards = alloc::vec![Guard::HolderIs(node)];
        self.link
            .ask(cx, Body::Transact(Transaction { guards, delete_leader: true, ..Transaction::default() }));
    }

    pub(super) fn on_fenced(&mut self, cx: &mut Cx<'_, Agent>, node: NodeId) {
        if self.hunted == Some(node) {
            self.hunted = None;
            return self.free_key(cx, node);
        }
        if self.state != State::Promoting || !self.to_fence.contains(node) {
            return;
        }
        self.to_fence = self.to_fence.without(node);
        cx.mark(Mark::Fenced, Some(self.settings.cluster.address(node)));
        if !self.to_fence.is_empty() {
            return;
        }
        if let Some(session) = self.fence_session.take() {
            cx.close(session);
        }
        cx.cancel_timer(Timer::FenceLimit);
        self.promote(cx);
    }

    /// Without a fence there is no promotion: two primaries are worse than none.
    pub(super) fn fence_failed(&mut self, cx: &mut Cx<'_, Agent>) {
        if self.state != State::Promoting {
            return;
        }
        cx.mark(Mark::Aborted, Some(self.settings.cluster.address(self.me)));
        if let Some(lease) = self.lease_id.take() {
            self.link.ask(cx, Body::Revoke { lease });
        }
        self.give_up(cx, Event::PromotionFailed);
    }

    /// Replays what the log holds, then writes the first entry of the term.
    pub(super) fn promote(&mut self, cx: &mut Cx<'_, Agent>) {
        if !self.owns_storage() {
            return self.take_over(cx);
        }
        cx.mark(Mark::Promoting, Some(self.settings.cluster.address(self.me)));
        self.stop_following(cx);
        let entries = self.wal.last().lsn.0 - self.commit.0;
        let span = Duration::from_micros(entries * 1_000_000 / self.settings.agent.replay_per_second.max(1));
        if !span.is_zero() {
            cx.busy(span);
        }
        self.apply_to(self.wal.last().lsn, |_, _| {});
        self.promoted_at = Some(cx.now());
        self.waited = NodeSet::default();
        self.set_change = None;
        self.settled = false;
        self.term_start = self.wal.last().lsn.next();
        self.log(cx, Content::TermStart { by: self.me });
        self.replicate(cx);
        self.advance(cx);
    }

    /// The first entry of our term passed the gate: serve, and tell the routers.
    pub(super) fn on_term_started(&mut self, cx: &mut Cx<'_, Agent>) {
        if !self.happen(cx, Event::TermStarted) {
            return;
        }
        cx.mark(Mark::Promoted, Some(self.settings.cluster.address(self.me)));
        self.commanded = false;
        if self.settings.agent.replication == Replication::Sync {
            cx.set_timer(Timer::SyncWatch, SYNC_LOOK);
        }
        let puts = alloc::vec![Put::Topology { primary: self.me, term: self.term }];
        let guards = match self.settings.agent.election {
            ElectionRule::Votes => alloc::vec![Guard::HolderIs(self.me)],
            ElectionRule::MonitorOrder => Vec::new(),
        };
        let ask = self.link.ask(cx, Body::Transact(Transaction { guards, puts, delete_leader: false }));
        self.topology_ask = Some(ask);
    }

    /// The monitor's word makes us primary: no votes, no key.
    pub(super) fn promote_by_order(&mut self, cx: &mut Cx<'_, Agent>, term: Term) {
        if self.settings.agent.lease.check != LeaseCheck::Off || !self.happen(cx, Event::HoldsKey) {
            return;
        }
        self.term = term;
        self.voted = Some(self.me);
        self.save_meta(cx);
        cx.mark(Mark::Elected, Some(self.settings.cluster.address(self.me)));
        self.promote(cx);
    }
}

/// Wait before a candidate that was beaten, or may not stand yet, looks again.
const RETRY: Duration = Duration::from_millis(500);

/// What the others leave to the node that shall be the first primary.
const HEAD_START: Duration = Duration::from_secs(3);

/// How often a primary in sync mode looks at its set.
pub(super) const SYNC_LOOK: Duration = Duration::from_millis(500);
