//! Snapshots (thesis §5), one-member changes of the group (§4.1) and leadership transfer (§3.10).

use super::*;

impl<E: Embed> Raft<E> {
    /// The host hands over its state as of everything applied so far; older entries are dropped once it is durable.
    pub fn take_snapshot(&mut self, cx: &mut Cx<'_, E::System>, state: E::State) {
        let Some(term) = self.log.term_at(self.applied) else { return };
        if self.entries_since_snapshot() == 0 {
            return;
        }
        let at = Position { term, index: self.applied };
        let members = self.members_at(self.applied);
        self.keep_snapshot(cx, Arc::new(Snapshot { at, members, state }));
    }

    /// Entries applied since the newest snapshot.
    pub fn entries_since_snapshot(&self) -> u64 {
        self.applied.0 - self.snapshot.as_ref().map_or(0, |snapshot| snapshot.at.index.0)
    }

    /// Adds or removes one member, as leader. Two changes at once could make two majorities without a common member,
    /// so the last change must be committed first, and so must an entry of our own term (§4.1).
    ///
    /// # Errors
    /// We do not lead, or another change is under way, or the new group differs by more than one member.
    pub fn change_members(
        &mut self,
        cx: &mut Cx<'_, E::System>,
        ticket: u64,
        members: Vec<Member>,
    ) -> Result<Index, NotLeader> {
        let refusal = NotLeader { leader: self.leader };
        let ready = matches!(&self.role, Role::Leader(lead) if lead.ready);
        let added = members.iter().filter(|member| !self.members.contains(member)).count();
        let removed = self.members.iter().filter(|member| !members.contains(member)).count();
        if !ready || self.is_regrouping() || added + removed != 1 || members.is_empty() {
            return Err(refusal);
        }
        self.propose_payload(cx, ticket, Payload::Members(members))
    }

    /// Hands leadership to the most advanced peer: it stops accepting proposals, and the peer stands at once (§3.10).
    ///
    /// # Errors
    /// We do not lead, or there is nobody else.
    pub fn transfer(&mut self, cx: &mut Cx<'_, E::System>) -> Result<Member, NotLeader> {
        let (term, last) = (self.term, self.log.last().index);
        let Role::Leader(lead) = &mut self.role else { return Err(NotLeader { leader: self.leader }) };
        // Only somebody with the whole log can win.
        let whole = lead.progress.iter().filter(|(_, progress)| progress.matched == last);
        let Some(heir) =
            whole.max_by_key(|(peer, p)| (p.contact, core::cmp::Reverse(**peer))).map(|(peer, _)| *peer)
        else {
            return Err(NotLeader { leader: None });
        };
        self.links.send(cx, heir, Message::TimeoutNow { term });
        // We accept nothing more. If the heir fails, an election timeout later somebody else stands.
        self.step_down(cx, None);
        Ok(heir)
    }

    /// A leader's snapshot replaces what we have, unless we have more (§5.3).
    pub(super) fn on_install(
        &mut self,
        cx: &mut Cx<'_, E::System>,
        session: SessionId,
        term: Term,
        leader: Member,
        snapshot: Arc<Snapshot<E::State>>,
    ) {
        let mut result = Err(Conflict { maybe: Index(0) });
        if term >= self.term {
            self.hear_leader(cx, term, leader);
            let at = snapshot.at;
            if at.index > self.commit {
                self.adopt(cx, snapshot);
            }
            result = Ok(at.index);
        }
        let reply = Message::AppendReply { term: self.term, from: self.me, result, round: 0 };
        self.reply(cx, session, reply);
    }

    fn adopt(&mut self, cx: &mut Cx<'_, E::System>, snapshot: Arc<Snapshot<E::State>>) {
        let at = snapshot.at;
        self.events.push_back(Event::Restore { at, state: snapshot.state.clone() });
        (self.commit, self.applied) = (at.index, at.index);
        let keep = self.log.term_at(at.index) == Some(at.term);
        if !keep {
            // In memory at once, on disk when the snapshot is durable: see `compact_log`.
            self.detached = true;
            self.log.drop_until(at);
            self.durable = at.index;
            for (_, syncing) in &mut self.syncs {
                if let Syncing::Log(last) = syncing {
                    *last = (*last).min(at.index);
                }
            }
        }
        self.keep_snapshot(cx, snapshot);
        self.recall_members();
    }

    fn keep_snapshot(&mut self, cx: &mut Cx<'_, E::System>, snapshot: Arc<Snapshot<E::State>>) {
        cx.replace(SNAPSHOT_FILE, E::record(Record::Snapshot(snapshot.clone())));
        let token = cx.sync(SNAPSHOT_FILE);
        self.snapshot = Some(snapshot);
        self.syncs.push((token, Syncing::Snapshot));
    }

    /// The newest snapshot is durable: the log may begin there.
    pub(super) fn compact_log(&mut self, cx: &mut Cx<'_, E::System>) {
        let Some(at) = self.snapshot.as_ref().map(|snapshot| snapshot.at) else { return };
        // A later snapshot is still being written: its own sync will do it.
        if self.syncs.iter().any(|(_, syncing)| matches!(syncing, Syncing::Snapshot)) {
            return;
        }
        self.log.drop_until(at);
        self.log.rewrite::<E>(cx);
        self.detached = false;
        self.sync_log(cx);
    }

    /// At a start: the state of the snapshot, and the part of the log that follows it.
    pub(super) fn recover_snapshot(&mut self, cx: &mut Cx<'_, E::System>, snapshot: Arc<Snapshot<E::State>>) {
        let at = snapshot.at;
        if self.log.drop_until(at) {
            self.log.rewrite::<E>(cx);
            self.sync_log(cx);
        }
        (self.commit, self.applied) = (at.index, at.index);
        self.events.push_back(Event::Restore { at, state: snapshot.state.clone() });
        self.snapshot = Some(snapshot);
    }

    /// The group is what the newest entry about it says, committed or not (§4.1).
    pub(super) fn recall_members(&mut self) {
        if self.alone {
            self.members = alloc::vec![self.me];
            return;
        }
        let snapshot = self.snapshot.as_ref().map(|snapshot| snapshot.members.as_slice());
        let members = self.log.members().or(snapshot).unwrap_or(&self.founders);
        if members != self.members {
            self.members = members.to_vec();
        }
    }

    /// The group changed while we lead: follow the progress of exactly its members.
    pub(super) fn regroup(&mut self, cx: &mut Cx<'_, E::System>) {
        self.recall_members();
        let peers = self.peers();
        let (now, next) = (cx.now(), self.log.last().index.next());
        let Role::Leader(lead) = &mut self.role else { return };
        lead.progress.retain(|member, _| peers.contains(member));
        for peer in peers {
            lead.progress.entry(peer).or_insert_with(|| Progress::new(next, now));
        }
    }

    /// A leader that is no longer a member leaves once that is committed (§4.2.2).
    pub(super) fn leave_if_removed(&mut self, cx: &mut Cx<'_, E::System>) {
        if !self.members.contains(&self.me) && !self.is_regrouping() {
            self.step_down(cx, None);
        }
    }

    /// A change of the group is in the log and not committed.
    fn is_regrouping(&self) -> bool {
        let uncommitted = self.log.after(self.commit, usize::MAX >> 1);
        uncommitted.iter().any(|entry| matches!(entry.payload, Payload::Members(_)))
    }

    /// The group as of an entry.
    fn members_at(&self, index: Index) -> Vec<Member> {
        let base = self.snapshot.as_ref().map_or(&self.founders, |snapshot| &snapshot.members);
        let upto = (index.0 - self.log.base().index.0) as usize;
        let entries = self.log.after(self.log.base().index, upto).iter().rev();
        let newest = entries.filter_map(|entry| match &entry.payload {
            Payload::Members(members) => Some(members),
            Payload::Noop | Payload::Command(_) => None,
        });
        newest.into_iter().next().unwrap_or(base).clone()
    }
}
