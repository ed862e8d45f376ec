//! The right to be primary: taking the lease, renewing it, noticing that it is over, giving it back.

use super::*;
use crate::agent::coordination::{Guard, Put, Transaction};
use crate::agent::message::Answer;
use crate::agent::settings::{Keeper, LeaseCheck};

impl DataNode {
    /// Every `renew_every`: the holder renews, the others read the keys, which also finds out a dead session.
    pub(super) fn renew(&mut self, cx: &mut Cx<'_, Agent>) {
        cx.set_timer(Timer::Renew, self.settings.agent.lease.renew_every);
        match self.lease_id {
            Some(lease) => {
                if self.link.has_open(|body| matches!(body, Body::KeepAlive { .. })) {
                    self.lease.suspended(Clocks::of(cx));
                }
                self.link.ask(cx, Body::KeepAlive { lease });
                self.publish_status(cx);
            }
            None => {
                self.link.ask(cx, Body::Get);
            }
        }
    }

    /// Reads the keys, where nobody tells of changes.
    pub(super) fn look(&mut self, cx: &mut Cx<'_, Agent>) {
        let Metadata::Pull(every) = self.settings.agent.metadata else { return };
        cx.set_timer(Timer::Look, every);
        if !self.link.has_open(|body| *body == Body::Get) {
            self.link.ask(cx, Body::Get);
        }
    }

    /// The primary's position goes beside its key: candidates compare themselves with it (Patroni's `status` key).
    fn publish_status(&mut self, cx: &mut Cx<'_, Agent>) {
        let status =
            |body: &Body| matches!(body, Body::Transact(t) if matches!(t.puts[..], [Put::Status { .. }]));
        if self.state != State::Primary || self.link.has_open(status) {
            return;
        }
        let puts = alloc::vec![Put::Status { bytes: self.wal.bytes() }];
        let guards = alloc::vec![Guard::HolderIs(self.me)];
        self.link.ask(cx, Body::Transact(Transaction { guards, puts, delete_leader: false }));
    }

    /// A new session to the coordination service: what may have been lost with the old one is said again.
    pub(super) fn on_link_open(&mut self, cx: &mut Cx<'_, Agent>) {
        let renewing = |body: &Body| matches!(body, Body::KeepAlive { .. });
        if let Some(lease) = self.lease_id
            && !self.link.has_open(renewing)
            && !self.settings.quirks.never_retries_a_renewal()
        {
            self.link.ask(cx, Body::KeepAlive { lease });
        }
    }

    /// The coordination service answered, or keys changed.
    pub(super) fn on_link_event(&mut self, cx: &mut Cx<'_, Agent>, event: LinkEvent) {
        let (sequence, body, asked_at, answer) = match event {
            LinkEvent::Viewed { confirmed } => return self.on_view(cx, confirmed),
            LinkEvent::Answered { sequence, body, asked_at, answer } => (sequence, body, asked_at, answer),
        };
        match (body, answer) {
            (Body::Grant { .. }, Answer::Granted { lease }) => self.on_granted(cx, sequence, lease, asked_at),
            (Body::KeepAlive { lease }, answer) if self.lease_id == Some(lease) => {
                self.on_renewal(cx, asked_at, &answer);
            }
            (Body::Transact(_), answer) => self.on_transaction(cx, sequence, &answer),
            (
                Body::Grant { .. } | Body::KeepAlive { .. } | Body::Revoke { .. } | Body::Get | Body::Watch,
                _,
            ) => {}
        }
    }

    fn on_renewal(&mut self, cx: &mut Cx<'_, Agent>, asked_at: Clocks, answer: &Answer) {
        match answer {
            Answer::Alive => {
                self.lease.granted(asked_at, Clocks::of(cx));
                self.arm_deadline(cx);
                self.pet(cx, true);
                self.renewals += 1;
                cx.observe(Observation::Gauge { name: "lease_renewals", value: self.renewals });
                if self.state == State::Isolated && self.lease.valid(Clocks::of(cx)) {
                    self.happen(cx, Event::RightRenewed);
                    self.advance(cx);
                }
            }
            // Where nobody looks at the lease, its end means nothing either.
            Answer::Gone if !self.lease.used() => self.lease_id = None,
            Answer::Gone if self.settings.agent.keeper == Keeper::Beside && self.holds_role() => {
                self.lease.lose();
                self.await_keeper(cx);
            }
            Answer::Gone => {
                cx.note(|| "the lease is gone".into());
                self.give_up(cx, Event::Overruled);
            }
            _ => {
                // Undecided or lost on the way. Another attempt counts from its own sending.
                if let Some(lease) = self.lease_id
                    && !self.settings.quirks.never_retries_a_renewal()
                {
                    self.link.ask(cx, Body::KeepAlive { lease });
                }
            }
        }
    }

    /// The timer that takes the role away when the lease runs out.
    pub(super) fn arm_deadline(&mut self, cx: &mut Cx<'_, Agent>) {
        if self.lease.used() {
            cx.set_timer(Timer::LeaseDeadline, self.lease.left(Clocks::of(cx)));
        }
    }

    pub(super) fn on_lease_deadline(&mut self, cx: &mut Cx<'_, Agent>) {
        if self.keeper_due {
            return self.keeper_looks(cx);
        }
        let left = self.lease.left(Clocks::of(cx));
        match (left.is_zero(), self.settings.agent.keeper) {
            (false, _) => self.arm_deadline(cx),
            (true, Keeper::Inside) => self.isolate(cx),
            (true, Keeper::Beside) => self.await_keeper(cx),
        }
    }

    /// A process beside us holds the session to the coordination service: what it knows reaches us at its next look, not
    /// at once.
    pub(super) fn await_keeper(&mut self, cx: &mut Cx<'_, Agent>) {
        if !self.keeper_due {
            self.keeper_due = true;
            let late = cx.random().duration(Duration::ZERO, self.settings.agent.keeper_period);
            cx.set_timer(Timer::LeaseDeadline, late);
        }
    }

    fn keeper_looks(&mut self, cx: &mut Cx<'_, Agent>) {
        self.keeper_due = false;
        let other = self.link.view().leader.filter(|leader| leader.holder != self.me);
        if other.is_some() || self.link.view().leader.is_none() && self.link.connected() {
            self.give_up(cx, Event::Overruled);
            self.happen(cx, Event::Joined);
            self.follow(cx);
        } else if self.lease.left(Clocks::of(cx)).is_zero() {
            self.isolate(cx);
        } else {
            self.arm_deadline(cx);
        }
    }

    /// Looks at the clock before anything else is done: a timer can be late, an acknowledgement must not be.
    pub(super) fn watch_right(&mut self, cx: &mut Cx<'_, Agent>) {
        let strict = self.settings.agent.lease.check == LeaseCheck::Ack
            && self.settings.agent.keeper == Keeper::Inside;
        if strict && self.state == State::Primary && !self.lease.valid(Clocks::of(cx)) {
            self.isolate(cx);
        }
    }

    /// No fresh lease: refuse from now on. Open operations may be on replicas already, so their fate is unknown.
    pub(super) fn isolate(&mut self, cx: &mut Cx<'_, Agent>) {
        if !self.happen(cx, Event::RightLapsed) || self.serves_in_isolation() {
            return;
        }
        self.drop_open_operations(cx);
    }

    pub(super) fn drop_open_operations(&mut self, cx: &mut Cx<'_, Agent>) {
        let at = Position { term: self.term, lsn: self.commit };
        for open in core::mem::take(&mut self.waiting) {
            cx.send(open.session, Message::Result { id: open.id, result: Err(Refusal::Unknown), at });
        }
    }

    /// Without contact to a majority of the data nodes the primary may be the one that is cut off.
    pub(super) fn watch_peers(&mut self, cx: &mut Cx<'_, Agent>) {
        let (Some(limit), State::Primary) = (self.settings.agent.isolate_after, self.state) else { return };
        let heard = |at: LocalTime| cx.now().since(at) < limit;
        let peers = self.contacts.iter().filter(|(_, contact)| heard(contact.at)).count();
        if peers + 1 < self.settings.majority() && self.promoted_at.is_some_and(|at| !heard(at)) {
            self.isolate(cx);
        }
    }

    /// Somebody else is primary, or nobody may be: everything that belongs to the role goes.
    pub(super) fn give_up(&mut self, cx: &mut Cx<'_, Agent>, event: Event) {
        self.lease.lose();
        self.lease_id = None;
        self.candidacy = None;
        if !self.happen(cx, event) {
            return;
        }
        self.pet(cx, false);
        self.keeper_due = false;
        self.leave_disk();
        cx.cancel_timer(Timer::Poison);
        cx.cancel_timer(Timer::LeaseDeadline);
        cx.cancel_timer(Timer::SyncWatch);
        cx.cancel_timer(Timer::FenceLimit);
        self.drop_open_operations(cx);
        self.term_start = Lsn(0);
        for session in core::mem::take(&mut self.followers).into_keys() {
            cx.close(session);
        }
    }

    /// Gives the role away in good order: what is open is finished, nothing new begins, then the key is given back.
    pub(super) fn resign(&mut self, cx: &mut Cx<'_, Agent>) {
        if self.state == State::FailedDisk || self.happen(cx, Event::Drain) {
            self.resigned_at = Some(cx.now());
            self.give_back(cx);
        }
    }

    /// Ends the lease at its grantor, and with it the key.
    pub(super) fn give_back(&mut self, cx: &mut Cx<'_, Agent>) {
        if let Some(lease) = self.lease_id.take() {
            self.link.ask(cx, Body::Revoke { lease });
        }
        self.last_holder = Some(self.me);
        let event = if self.state == State::Draining { Event::Drained } else { Event::Overruled };
        self.give_up(cx, event);
    }

    /// A disk that failed keeps no promise any more: the role goes to somebody else at once.
    pub(super) fn on_disk_failure(&mut self, cx: &mut Cx<'_, Agent>, error: DiskError) {
        cx.note(|| alloc::format!("the disk failed: {error:?}"));
        self.happen(cx, Event::DiskFailed);
        self.drop_open_operations(cx);
        if !self.settings.quirks.keeps_its_lock() {
            self.give_back(cx);
        }
    }
}
