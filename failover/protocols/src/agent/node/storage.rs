//! A data node whose log lies on the shared disk: it writes there under its lock, and before it serves it reads there
//! what its predecessor left.

use super::*;
use crate::agent::message::DiskMessage;
use crate::agent::settings::Storage;

/// Our way to the shared disk.
#[derive(Debug, Default)]
pub(super) struct DiskWay {
    session: Option<SessionId>,
    open: bool,
    /// Our key is registered, as far as we know.
    registered: bool,
    /// The lock is ours and all that the disk holds was read.
    owned: bool,
    /// The reset is in the predecessor's slot.
    poisoned: bool,
    /// An answer is awaited, and the timer for it runs.
    awaiting: bool,
    /// Writes up to here are on their way; the disk answers them in order.
    sent: Lsn,
    /// While taking over: what the disk holds was read up to here.
    read: Lsn,
}

/// Wait before the disk is dialled again.
const REDIAL: Duration = Duration::from_millis(500);

/// How long the disk may take for an answer before another way to it is tried.
const IO_LIMIT: Duration = Duration::from_secs(3);

/// Entries in one write at most.
const BATCH: usize = 512;

impl DataNode {
    pub(super) fn is_shared(&self) -> bool {
        self.settings.agent.storage != Storage::Own
    }

    pub(super) fn dial_disk(&mut self, cx: &mut Cx<'_, Agent>) {
        self.disk.session = self.settings.cluster.disk.map(|disk| cx.open(disk, Kind::Disk));
        self.disk.awaiting = false;
        if self.disk.session.is_some() {
            self.await_disk(cx);
        }
    }

    /// An answer is due; questions that follow it do not put it off.
    fn await_disk(&mut self, cx: &mut Cx<'_, Agent>) {
        if !self.disk.awaiting {
            self.disk.awaiting = true;
            cx.set_timer(Timer::Disk, IO_LIMIT);
        }
    }

    fn heard_disk(&mut self, cx: &mut Cx<'_, Agent>) {
        self.disk.awaiting = false;
        cx.cancel_timer(Timer::Disk);
    }

    /// The disk did not answer in time, or the way to it is gone: another way, and everything unanswered again.
    pub(super) fn redial_disk(&mut self, cx: &mut Cx<'_, Agent>) {
        if let Some(session) = self.disk.session.take() {
            cx.close(session);
        }
        self.disk.open = false;
        self.dial_disk(cx);
    }

    pub(super) fn is_disk(&self, session: SessionId) -> bool {
        self.disk.session == Some(session)
    }

    pub(super) fn say_to_disk(&mut self, cx: &mut Cx<'_, Agent>, message: DiskMessage) {
        let Some(session) = self.disk.session.filter(|_| self.disk.open) else { return };
        if !matches!(message, DiskMessage::Register { .. } | DiskMessage::Preempt { .. }) {
            self.await_disk(cx);
        }
        cx.send(session, Message::Disk(message));
    }

    /// A node that is not primary registers by itself; one that was preempted as primary must first follow its successor.
    pub(super) fn on_disk_open(&mut self, cx: &mut Cx<'_, Agent>) {
        self.disk.open = true;
        self.disk.sent = self.wal.flushed();
        self.heard_disk(cx);
        match self.state {
            State::Promoting if self.settings.agent.fence == Fence::PoisonPill && !self.disk.poisoned => {
                self.poison(cx);
            }
            State::Promoting if self.is_shared() && !self.disk.owned => self.take_over(cx),
            State::Joining | State::Replica | State::Candidate => self.register(cx),
            _ if self.is_shared() => self.write_to_disk(cx),
            _ => {}
        }
    }

    pub(super) fn on_disk_close(&mut self, cx: &mut Cx<'_, Agent>) {
        self.disk.session = None;
        self.disk.open = false;
        self.disk.awaiting = false;
        cx.set_timer(Timer::Disk, REDIAL);
    }

    pub(super) fn register(&mut self, cx: &mut Cx<'_, Agent>) {
        if self.is_shared() && self.disk.open && !self.disk.registered {
            self.disk.registered = true;
            self.say_to_disk(cx, DiskMessage::Register { node: self.me });
        }
    }

    /// The role is gone, and the lock with it.
    pub(super) fn leave_disk(&mut self) {
        self.disk.owned = false;
        self.disk.registered = false;
        self.disk.poisoned = false;
    }

    /// Gets the lock, and with it the sole right to write; then what the disk holds is read.
    pub(super) fn take_over(&mut self, cx: &mut Cx<'_, Agent>) {
        cx.set_timer(Timer::FenceLimit, self.settings.agent.fence_timeout);
        if self.settings.agent.fence == Fence::Preempt {
            for victim in self.to_fence.iter() {
                self.say_to_disk(cx, DiskMessage::Preempt { victim });
            }
        }
        self.say_to_disk(cx, DiskMessage::Lock { node: self.me, epoch: self.term });
    }

    /// Whether a promotion may go on: the disk is ours, or there is none.
    pub(super) fn owns_storage(&self) -> bool {
        !self.is_shared() || self.disk.owned
    }

    pub(super) fn on_disk(&mut self, cx: &mut Cx<'_, Agent>, message: DiskMessage) {
        self.heard_disk(cx);
        match message {
            DiskMessage::Locked { granted, epoch } => self.on_locked(cx, granted, epoch),
            DiskMessage::Blocks { previous, entries, last } => self.on_blocks(cx, previous, &entries, last),
            DiskMessage::Written { upto } if self.disk.owned => {
                self.wal.flushed_to(upto);
                self.advance(cx);
                if self.wal.flushed() < self.disk.sent {
                    self.await_disk(cx);
                }
            }
            DiskMessage::Conflict { epoch } if self.holds_role() => {
                cx.note(|| alloc::format!("the disk refuses us: its epoch is {}", epoch.0));
                self.give_back(cx);
                self.adopt_term(cx, epoch);
            }
            // With several victims the wait counts from the last one's slot.
            DiskMessage::Poisoned { .. } if self.state == State::Promoting => {
                self.disk.poisoned = true;
                cx.set_timer(Timer::Poison, self.settings.agent.slots.message_wait);
            }
            _ => {}
        }
    }

    fn on_locked(&mut self, cx: &mut Cx<'_, Agent>, granted: bool, epoch: Term) {
        if self.state != State::Promoting || self.disk.owned {
            return;
        }
        if !granted {
            cx.note(|| alloc::format!("the disk's lock is at epoch {}", epoch.0));
            self.fence_failed(cx);
            return self.adopt_term(cx, epoch);
        }
        if matches!(self.settings.agent.fence, Fence::DiskLock | Fence::Preempt) {
            self.mark_fenced(cx);
        }
        self.disk.read = self.wal.last().lsn;
        self.say_to_disk(cx, DiskMessage::Read { previous: self.wal.last() });
    }

    /// Part of what the disk holds. Our own copy came by replication: it may lack entries, or have some more that never
    /// reached the disk and were acknowledged to nobody.
    fn on_blocks(&mut self, cx: &mut Cx<'_, Agent>, previous: Position, entries: &[Entry], last: Position) {
        if self.state != State::Promoting || self.disk.owned {
            return;
        }
        if self.merge(cx, previous, entries).is_none() {
            return self.say_to_disk(cx, DiskMessage::Read { previous: Position::default() });
        }
        self.disk.read = Lsn(previous.lsn.0 + entries.len() as u64);
        if self.disk.read < last.lsn && !entries.is_empty() {
            let previous = entries.last().map_or(previous, |entry| entry.position);
            return self.say_to_disk(cx, DiskMessage::Read { previous });
        }
        if self.wal.last().lsn > self.disk.read {
            self.cut(cx, self.disk.read);
        }
        self.wal.flushed_to(self.disk.read);
        self.unsynced = false;
        self.disk.sent = self.disk.read;
        self.disk.owned = true;
        cx.cancel_timer(Timer::FenceLimit);
        self.promote(cx);
    }

    /// Writes what was not written yet. A replica's copy is a cache: it needs no disk.
    pub(super) fn write_to_disk(&mut self, cx: &mut Cx<'_, Agent>) {
        self.unsynced = false;
        if !self.holds_role() {
            return self.wal.flushed_to(self.wal.last().lsn);
        }
        if !self.disk.open || !self.disk.owned {
            return;
        }
        while self.disk.sent < self.wal.last().lsn {
            let entries: Arc<[Entry]> = Arc::from(self.wal.from(self.disk.sent.next(), BATCH));
            let Some(last) = entries.last().map(|entry| entry.position.lsn) else { return };
            self.disk.sent = last;
            self.say_to_disk(cx, DiskMessage::Write { node: self.me, epoch: self.term, entries });
        }
    }

    /// Writes the reset into the slots of all who may still serve.
    pub(super) fn poison(&mut self, cx: &mut Cx<'_, Agent>) {
        cx.set_timer(Timer::FenceLimit, self.settings.agent.fence_timeout);
        for victim in self.to_fence.iter() {
            self.say_to_disk(cx, DiskMessage::Poison { victim });
        }
    }

    /// The victim has read its slot, or its watchdog has acted.
    pub(super) fn on_poison_taken(&mut self, cx: &mut Cx<'_, Agent>) {
        if self.state != State::Promoting {
            return;
        }
        self.mark_fenced(cx);
        cx.cancel_timer(Timer::FenceLimit);
        self.promote(cx);
    }
}
