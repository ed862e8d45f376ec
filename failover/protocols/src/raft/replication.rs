//! Log replication and commitment: thesis §3.5 and §3.6; leadership expiry §6.2; reads §6.4.

use super::*;

impl<E: Embed> Raft<E> {
    /// Puts a command into the log, as leader. `ticket` comes back in [`Event::Committed`] or [`Event::Ambiguous`].
    ///
    /// # Errors
    /// We do not lead, or are handing leadership over: the command certainly takes no effect.
    pub fn propose(
        &mut self,
        cx: &mut Cx<'_, E::System>,
        ticket: u64,
        command: E::Command,
    ) -> Result<Index, NotLeader> {
        self.propose_payload(cx, ticket, Payload::Command(command))
    }

    /// Asks to read, as leader: [`Event::Readable`] follows when a quorum has confirmed that we still lead, and the
    /// state machine holds everything committed before this call (thesis §6.4).
    ///
    /// # Errors
    /// We do not lead.
    pub fn read(&mut self, cx: &mut Cx<'_, E::System>, ticket: u64) -> Result<(), NotLeader> {
        let (commit, deadline) = (self.commit, cx.now() + self.config.request_timeout);
        let Role::Leader(lead) = &mut self.role else { return Err(NotLeader { leader: self.leader }) };
        lead.round += 1;
        // Until our own first entry is committed we do not know what else is (§6.4, step 1).
        let index = commit.max(lead.first);
        lead.reads.push_back(Read { ticket, round: lead.round, index, deadline });
        self.watch_requests(cx);
        self.replicate(cx);
        self.release_reads();
        Ok(())
    }

    pub(super) fn propose_payload(
        &mut self,
        cx: &mut Cx<'_, E::System>,
        ticket: u64,
        payload: Payload<E::Command>,
    ) -> Result<Index, NotLeader> {
        if !self.is_leader() {
            return Err(NotLeader { leader: self.leader });
        }
        let index = self.append_own(cx, payload);
        let deadline = cx.now() + self.config.request_timeout;
        if let Role::Leader(lead) = &mut self.role {
            lead.proposals.push_back(Proposal { ticket, index, deadline });
        }
        self.watch_requests(cx);
        self.replicate(cx);
        Ok(index)
    }

    /// A leader adds an entry to its own log; it counts itself only once that is durable (thesis §10.2.1).
    pub(super) fn append_own(&mut self, cx: &mut Cx<'_, E::System>, payload: Payload<E::Command>) -> Index {
        let at = Position { term: self.term, index: self.log.last().index.next() };
        let regroups = matches!(payload, Payload::Members(_));
        self.log.push::<E>(cx, Entry { at, payload });
        self.sync_log(cx);
        if regroups {
            self.regroup(cx);
        }
        at.index
    }

    /// Sends to every peer that waits for nothing.
    pub(super) fn replicate(&mut self, cx: &mut Cx<'_, E::System>) {
        for peer in self.peers() {
            if self.links.ready(cx, peer) {
                self.replicate_to(cx, peer);
            }
        }
    }

    /// Sends what the peer lacks, or nothing but a beat; not while it owes an answer.
    pub(super) fn replicate_to(&mut self, cx: &mut Cx<'_, E::System>, peer: Member) {
        let Role::Leader(lead) = &mut self.role else { return };
        let round = lead.round;
        let Some(progress) = lead.progress.get_mut(&peer) else { return };
        if progress.waiting.is_some() {
            return;
        }
        progress.waiting = Some(cx.now());
        progress.round_sent = round;
        progress.commit_sent = self.commit;
        let before = progress.next.before();
        let message = match (self.log.term_at(before), &self.snapshot) {
            (None, Some(snapshot)) => {
                Message::Install { term: self.term, leader: self.me, snapshot: snapshot.clone() }
            }
            (term, _) => Message::Append {
                term: self.term,
                leader: self.me,
                previous: Position { term: term.unwrap_or_default(), index: before },
                entries: self.log.after(before, self.config.batch_max).to_vec(),
                commit: self.commit,
                round,
            },
        };
        self.links.send(cx, peer, message);
    }

    /// The leader's beat: step down without a quorum, drop who owes an answer for too long, speak to all.
    pub(super) fn on_heartbeat(&mut self, cx: &mut Cx<'_, E::System>) {
        if !self.is_leader() {
            return;
        }
        if self.is_expired(cx.now()) {
            cx.note(|| alloc::format!("raft: member {} hears no quorum and steps down", self.me.0));
            return self.step_down(cx, None);
        }
        cx.set_timer(E::timer(Timer::Heartbeat), self.config.heartbeat);
        self.drop_silent(cx);
        self.replicate(cx);
    }

    /// No quorum, ourselves included, answered within the expiry.
    fn is_expired(&self, now: LocalTime) -> bool {
        let (Role::Leader(lead), Some(expiry)) = (&self.role, self.config.leadership_expiry) else {
            return false;
        };
        let fresh = |member: &&Member| {
            **member == self.me
                || lead.progress.get(*member).is_some_and(|progress| now.since(progress.contact) < expiry)
        };
        self.members.iter().filter(fresh).count() < self.quorum()
    }

    /// Closes sessions whose peer owes an answer: its connection may be dead without anyone having said so.
    fn drop_silent(&mut self, cx: &mut Cx<'_, E::System>) {
        let limit = self.config.response_limit;
        let Role::Leader(lead) = &mut self.role else { return };
        for (peer, progress) in &mut lead.progress {
            if progress.waiting.is_some_and(|since| cx.now().since(since) >= limit) {
                progress.waiting = None;
                self.links.drop(cx, *peer);
            }
        }
    }

    /// The receiver's rules of AppendEntries (thesis figure 3.1).
    pub(super) fn on_append(
        &mut self,
        cx: &mut Cx<'_, E::System>,
        term: Term,
        leader: Member,
        previous: Position,
        entries: Vec<Entry<E::Command>>,
        commit: Index,
    ) -> Result<Index, Conflict> {
        // Rule 1. The reply's term tells the old leader why.
        if term < self.term {
            return Err(Conflict { maybe: Index(0) });
        }
        self.hear_leader(cx, term, leader);
        if self.detached {
            // Answered when the snapshot is durable; the leader then goes on behind it.
            return Err(Conflict { maybe: self.log.base().index });
        }
        let (previous, entries) = self.skip_covered(previous, entries);
        // Rule 2.
        if let Some(conflict) = self.conflict_at(previous) {
            return Err(conflict);
        }
        let last = entries.last().map_or(previous.index, |entry| entry.at.index);
        self.merge(cx, entries);
        // Rule 5: never beyond what this message proved to be in our log.
        self.commit_to(commit.min(last));
        Ok(last)
    }

    /// A valid leader spoke: follow it, and wait anew (see [`Raft::on_election_timeout`]).
    pub(super) fn hear_leader(&mut self, cx: &mut Cx<'_, E::System>, term: Term, leader: Member) {
        assert!(
            term > self.term || !self.is_leader(),
            "two leaders in term {}: {} and {}",
            term.0,
            leader.0,
            self.me.0
        );
        if term > self.term {
            self.enter_term(cx, term);
        }
        self.heard = Some(cx.now());
        if self.leader != Some(leader) || !matches!(self.role, Role::Follower) {
            self.step_down(cx, Some(leader));
        }
    }

    /// What our snapshot covers is committed and needs no comparison.
    fn skip_covered(
        &self,
        previous: Position,
        mut entries: Vec<Entry<E::Command>>,
    ) -> (Position, Vec<Entry<E::Command>>) {
        let base = self.log.base();
        if previous.index >= base.index {
            return (previous, entries);
        }
        entries.retain(|entry| entry.at.index > base.index);
        (base, entries)
    }

    fn conflict_at(&self, previous: Position) -> Option<Conflict> {
        match self.log.term_at(previous.index) {
            Some(term) if term == previous.term => None,
            Some(_) => Some(Conflict { maybe: self.log.before_term_of(previous.index) }),
            None => Some(Conflict { maybe: self.log.last().index }),
        }
    }

    /// Rules 3 and 4: from the first entry that differs in term, ours are not the leader's and go; equal ones stay,
    /// because a late message must not cut off what a newer one brought.
    fn merge(&mut self, cx: &mut Cx<'_, E::System>, entries: Vec<Entry<E::Command>>) {
        let known =
            entries.iter().take_while(|entry| self.log.term_at(entry.at.index) == Some(entry.at.term));
        let skip = known.count();
        let Some(first) = entries.get(skip) else { return };
        let keep = first.at.index.before();
        assert!(keep >= self.commit, "a committed entry is never removed");
        let mut regroups = keep < self.log.last().index;
        self.forget_after(cx, keep);
        for entry in entries.into_iter().skip(skip) {
            regroups |= matches!(entry.payload, Payload::Members(_));
            self.log.push::<E>(cx, entry);
        }
        self.sync_log(cx);
        // The search goes back through the whole log: only if it can find something else.
        if regroups {
            self.recall_members();
        }
    }

    fn forget_after(&mut self, cx: &mut Cx<'_, E::System>, keep: Index) {
        self.log.truncate::<E>(cx, keep);
        self.durable = self.durable.min(keep);
        for (_, syncing) in &mut self.syncs {
            if let Syncing::Log(last) = syncing {
                *last = (*last).min(keep);
            }
        }
    }

    /// A follower answered: take note, and go on with what it lacks.
    pub(super) fn on_append_reply(
        &mut self,
        cx: &mut Cx<'_, E::System>,
        term: Term,
        from: Member,
        result: Result<Index, Conflict>,
        round: u64,
    ) {
        if term > self.term {
            return self.enter_term(cx, term);
        }
        let now = cx.now();
        let last = self.log.last().index;
        let Role::Leader(lead) = &mut self.role else { return };
        let Some(progress) = lead.progress.get_mut(&from) else { return };
        if term < self.term {
            return;
        }
        progress.contact = now;
        progress.waiting = None;
        progress.round_acked = progress.round_acked.max(round);
        match result {
            Ok(matched) => {
                progress.matched = progress.matched.max(matched);
                progress.next = progress.next.max(matched.next());
            }
            // Never below what it has proved to hold: this may be a late reply.
            Err(conflict) => {
                progress.next =
                    conflict.maybe.next().min(progress.next.before()).max(progress.matched.next());
            }
        }
        self.advance_commit(cx);
        self.release_reads();
        if self.lacks_news(from, last) && self.links.ready(cx, from) {
            self.replicate_to(cx, from);
        }
    }

    /// The peer lacks entries, the newest commit index, or a round of confirmation.
    fn lacks_news(&self, peer: Member, last: Index) -> bool {
        let Role::Leader(lead) = &self.role else { return false };
        let Some(progress) = lead.progress.get(&peer) else { return false };
        progress.next <= last || progress.commit_sent < self.commit || progress.round_sent < lead.round
    }

    /// Commits what a quorum holds durably, but only by an entry of the own term: an older one on a quorum can still
    /// be overwritten (thesis §3.6.2, figure 3.7).
    pub(super) fn advance_commit(&mut self, cx: &mut Cx<'_, E::System>) {
        let Role::Leader(lead) = &self.role else { return };
        let held = |member: &Member| match lead.progress.get(member) {
            Some(progress) => progress.matched,
            None => self.durable,
        };
        let mut held: Vec<Index> = self.members.iter().map(held).collect();
        held.sort_unstable_by(|a, b| b.cmp(a));
        let Some(&index) = held.get(self.quorum() - 1) else { return };
        if index > self.commit && self.log.term_at(index) == Some(self.term) {
            self.commit_to(index);
            self.lead_on(cx);
        }
    }

    /// Hands newly committed entries to the state machine.
    pub(super) fn commit_to(&mut self, index: Index) {
        self.commit = self.commit.max(index);
        while self.applied < self.commit {
            self.applied = self.applied.next();
            let entry = self.log.get(self.applied).expect("committed entries are in the log");
            if let Payload::Command(command) = &entry.payload {
                self.events.push_back(Event::Apply { at: entry.at, command: command.clone() });
            }
            self.answer_proposal(self.applied);
        }
    }

    /// The proposer of this entry, if it is ours and still waits, has its answer.
    fn answer_proposal(&mut self, index: Index) {
        let Role::Leader(lead) = &mut self.role else { return };
        if lead.proposals.front().is_some_and(|proposal| proposal.index == index) {
            let ticket = lead.proposals.pop_front().map_or(0, |proposal| proposal.ticket);
            self.events.push_back(Event::Committed { ticket });
        }
    }

    /// After a commit, as leader: announce readiness, answer reads, tell the others soon.
    fn lead_on(&mut self, cx: &mut Cx<'_, E::System>) {
        let (commit, term) = (self.commit, self.term);
        let Role::Leader(lead) = &mut self.role else { return };
        if !lead.ready && commit >= lead.first {
            lead.ready = true;
            self.events.push_back(Event::Leading { term });
        }
        self.release_reads();
        self.leave_if_removed(cx);
        self.replicate(cx);
    }

    /// Reads whose round a quorum confirmed and whose index is applied.
    pub(super) fn release_reads(&mut self) {
        let (quorum, me) = (self.quorum(), self.me);
        let Role::Leader(lead) = &mut self.role else { return };
        while let Some(read) = lead.reads.front() {
            let confirms = |member: &&Member| {
                **member == me || lead.progress.get(*member).is_some_and(|p| p.round_acked >= read.round)
            };
            let confirmed = self.members.iter().filter(confirms).count() >= quorum;
            if !confirmed || self.applied < read.index {
                return;
            }
            self.events.push_back(Event::Readable { ticket: read.ticket });
            lead.reads.pop_front();
        }
    }

    /// Keeps the request timer at the oldest deadline.
    fn watch_requests(&mut self, cx: &mut Cx<'_, E::System>) {
        let Role::Leader(lead) = &self.role else { return };
        let proposal = lead.proposals.front().map(|proposal| proposal.deadline);
        let read = lead.reads.front().map(|read| read.deadline);
        if let Some(deadline) = proposal.into_iter().chain(read).min() {
            cx.set_timer(E::timer(Timer::Request), deadline.since(cx.now()));
        }
    }

    /// Gives up on what waited too long. The entries stay in the log, so their fate is open.
    pub(super) fn on_request_timeout(&mut self, cx: &mut Cx<'_, E::System>) {
        let now = cx.now();
        let Role::Leader(lead) = &mut self.role else { return };
        while lead.proposals.front().is_some_and(|proposal| proposal.deadline <= now) {
            let ticket = lead.proposals.pop_front().map_or(0, |proposal| proposal.ticket);
            self.events.push_back(Event::Ambiguous { ticket });
        }
        while lead.reads.front().is_some_and(|read| read.deadline <= now) {
            let ticket = lead.reads.pop_front().map_or(0, |read| read.ticket);
            self.events.push_back(Event::Ambiguous { ticket });
        }
        self.watch_requests(cx);
    }
}
