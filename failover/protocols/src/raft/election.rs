//! Leader election: thesis §3.4, with PreVote (§9.6) and the rule that nobody unseats a leader that lives (§4.2.3).

use super::*;

impl<E: Embed> Raft<E> {
    /// No leader for an election timeout: ask, or stand at once.
    pub(super) fn on_election_timeout(&mut self, cx: &mut Cx<'_, E::System>) {
        if self.is_leader() {
            return;
        }
        if let Some(rest) = self.patience_left(cx.now()) {
            return cx.set_timer(E::timer(Timer::Election), rest);
        }
        self.rest(cx);
        if !self.members.contains(&self.me) {
            return;
        }
        let leader = self.leader.take();
        if self.config.pre_vote {
            self.events.push_back(Event::Suspecting { leader });
            self.ask_around(cx);
        } else {
            self.stand(cx, false);
        }
    }

    /// A leader spoke since the timer was set: what is left of the wait. To set the timer anew at every message would
    /// come to the same, at the price of a timer a message.
    fn patience_left(&self, now: LocalTime) -> Option<Duration> {
        let heard = self.heard.filter(|_| self.leader.is_some())?;
        self.patience.checked_sub(now.since(heard)).filter(|rest| !rest.is_zero())
    }

    /// Asks whether an election would be won, changing nothing for anyone. A member that was cut off comes back with
    /// the old term and disturbs nobody.
    fn ask_around(&mut self, cx: &mut Cx<'_, E::System>) {
        self.role = Role::PreCandidate { yes: BTreeSet::from([self.me]) };
        if self.quorum() == 1 {
            return self.stand(cx, false);
        }
        self.ask_all(cx);
    }

    /// Stands for election in the next term. The own vote must be durable before anybody is asked for theirs: the
    /// rest follows in [`Raft::campaign`].
    pub(super) fn stand(&mut self, cx: &mut Cx<'_, E::System>, transfer: bool) {
        self.term = Term(self.term.0 + 1);
        self.vote = Some(self.me);
        self.role = Role::Candidate { yes: BTreeSet::new(), transfer };
        self.leader = None;
        self.events.push_back(Event::Standing { term: self.term });
        self.save_vote(cx);
        self.rest(cx);
    }

    /// Our own vote is durable: it counts, and we ask for the others.
    pub(super) fn campaign(&mut self, cx: &mut Cx<'_, E::System>) {
        let Role::Candidate { yes, .. } = &mut self.role else { return };
        if self.vote == Some(self.me) && yes.insert(self.me) {
            self.ask_all(cx);
            self.count_votes(cx);
        }
    }

    fn ask_all(&mut self, cx: &mut Cx<'_, E::System>) {
        for peer in self.peers() {
            if self.links.ready(cx, peer) {
                self.ask_vote_of(cx, peer);
            }
        }
    }

    /// Sends the request that fits our role.
    pub(super) fn ask_vote_of(&mut self, cx: &mut Cx<'_, E::System>, peer: Member) {
        let (candidate, last) = (self.me, self.log.last());
        let message = match &self.role {
            Role::PreCandidate { .. } => Message::PreVote { term: Term(self.term.0 + 1), candidate, last },
            // Without our own vote in it, it is not durable yet.
            Role::Candidate { yes, .. } if yes.is_empty() => return,
            Role::Candidate { transfer, .. } => {
                Message::Vote { term: self.term, candidate, last, transfer: *transfer }
            }
            Role::Follower | Role::Leader(_) => return,
        };
        self.links.send(cx, peer, message);
    }

    /// Would we vote so? Only if the candidate's log is at least as complete as ours, and we ourselves miss the
    /// leader. Neither our term nor our timer changes.
    pub(super) fn on_pre_vote(
        &mut self,
        cx: &mut Cx<'_, E::System>,
        session: SessionId,
        term: Term,
        candidate: Member,
        last: Position,
    ) {
        let _ = candidate;
        let granted = term > self.term && last >= self.log.last() && !self.has_leader(cx);
        let term = if granted { term } else { self.term };
        self.reply(cx, session, Message::PreVoteReply { term, from: self.me, granted });
    }

    pub(super) fn on_pre_vote_reply(
        &mut self,
        cx: &mut Cx<'_, E::System>,
        term: Term,
        from: Member,
        granted: bool,
    ) {
        if !granted && term > self.term {
            return self.enter_term(cx, term);
        }
        let current = term == Term(self.term.0 + 1);
        let Role::PreCandidate { yes } = &mut self.role else { return };
        if granted && current {
            yes.insert(from);
            if self.is_quorum_of_yes() {
                self.stand(cx, false);
            }
        }
    }

    /// A vote is given at most once a term, and only to a log at least as complete as our own (thesis §3.6.1). It is
    /// durable before it is sent.
    pub(super) fn on_vote(
        &mut self,
        cx: &mut Cx<'_, E::System>,
        session: SessionId,
        term: Term,
        candidate: Member,
        last: Position,
        transfer: bool,
    ) {
        // Whoever hears a leader lets nobody unseat it, so that a member which does not hear it cannot (§4.2.3).
        if term > self.term && self.has_leader(cx) && !transfer {
            return;
        }
        if term > self.term {
            self.enter_term(cx, term);
        }
        let free = self.vote.is_none_or(|vote| vote == candidate);
        let granted = term == self.term && free && last >= self.log.last();
        if granted && self.vote.is_none() {
            self.vote = Some(candidate);
            self.save_vote(cx);
            self.rest(cx);
        }
        self.reply(cx, session, Message::VoteReply { term: self.term, from: self.me, granted });
    }

    pub(super) fn on_vote_reply(
        &mut self,
        cx: &mut Cx<'_, E::System>,
        term: Term,
        from: Member,
        granted: bool,
    ) {
        if term > self.term {
            return self.enter_term(cx, term);
        }
        let Role::Candidate { yes, .. } = &mut self.role else { return };
        if granted && term == self.term {
            yes.insert(from);
            self.count_votes(cx);
        }
    }

    fn count_votes(&mut self, cx: &mut Cx<'_, E::System>) {
        if self.is_quorum_of_yes() {
            self.lead(cx);
        }
    }

    /// Votes of members only; our own is needed too, which says that it is durable.
    fn is_quorum_of_yes(&self) -> bool {
        let (Role::PreCandidate { yes } | Role::Candidate { yes, .. }) = &self.role else { return false };
        let count = self.members.iter().filter(|member| yes.contains(member)).count();
        yes.contains(&self.me) && count >= self.quorum()
    }

    /// Won: begin with an entry of the own term, because only such an entry can be committed by counting (§3.6.2).
    fn lead(&mut self, cx: &mut Cx<'_, E::System>) {
        let now = cx.now();
        let next = self.log.last().index.next();
        let progress = self.peers().into_iter().map(|peer| (peer, Progress::new(next, now))).collect();
        self.role = Role::Leader(Lead {
            progress,
            first: next,
            ready: false,
            round: 0,
            reads: VecDeque::new(),
            proposals: VecDeque::new(),
        });
        self.leader = Some(self.me);
        self.events.push_back(Event::Elected { term: self.term });
        cx.cancel_timer(E::timer(Timer::Election));
        cx.set_timer(E::timer(Timer::Heartbeat), self.config.heartbeat);
        self.append_own(cx, Payload::Noop);
        self.replicate(cx);
    }

    /// The old leader asks us to stand now (§3.10).
    pub(super) fn on_timeout_now(&mut self, cx: &mut Cx<'_, E::System>, term: Term) {
        if term == self.term && matches!(self.role, Role::Follower) && self.members.contains(&self.me) {
            self.stand(cx, true);
        }
    }

    /// We lead, or heard a leader within the shortest election timeout.
    fn has_leader(&self, cx: &Cx<'_, E::System>) -> bool {
        let recent = |heard| cx.now().since(heard) < self.config.election_min;
        self.is_leader() || (self.leader.is_some() && self.heard.is_some_and(recent))
    }

    /// The other members.
    pub(super) fn peers(&self) -> Vec<Member> {
        self.members.iter().copied().filter(|member| *member != self.me).collect()
    }
}

impl Progress {
    pub(super) fn new(next: Index, now: LocalTime) -> Self {
        Progress {
            next,
            matched: Index(0),
            contact: now,
            waiting: None,
            round_sent: 0,
            commit_sent: Index(0),
            round_acked: 0,
        }
    }
}
