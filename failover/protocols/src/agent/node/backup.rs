//! The data node's side of backups: it offers its blocks, reads them out one by one, gives its log, and, when it has
//! lost everything, takes a restored state as the beginning of a new history.

use super::*;
use crate::agent::Job;
use crate::agent::backup::{BlockNumber, Blocks, Offer, SourceMessage};
use crate::graph::Change;

/// The period of a CPU quota (Linux CFS bandwidth control: 100 ms).
const QUOTA_PERIOD: Duration = Duration::from_millis(100);

/// What a data node keeps for backups.
#[derive(Default)]
pub(super) struct BackupSide {
    blocks: Blocks,
    /// The marks of changed blocks hold for everything behind this position: they begin with the process.
    pub marked_from: Option<Position>,
    /// Branches that were cut, each with the position it was cut after; for judges only.
    pub branches: Vec<(Lsn, Vec<Entry>)>,
    /// A restored state is being written; whoever brought it waits.
    seeding: Option<SessionId>,
    /// Blocks that are being read under a quota, each with the time that it still needs.
    reading: VecDeque<(SessionId, BlockNumber, Duration)>,
}

impl DataNode {
    pub(super) fn on_source(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: SourceMessage) {
        match message {
            SourceMessage::Open { parent } => self.offer_backup(cx, session, parent),
            SourceMessage::ReadBlock { number } => self.read_block(cx, session, number),
            SourceMessage::ReadLog { after, digest, most } => {
                self.read_log(cx, session, &after, digest, most);
            }
            SourceMessage::Seed { changes, of } => self.seed(cx, session, &changes, of),
            SourceMessage::Offer(_)
            | SourceMessage::Block { .. }
            | SourceMessage::Log { .. }
            | SourceMessage::Seeded { .. } => {}
        }
    }

    /// Only a node that follows or leads a history has something to offer: one that has lost everything would have its
    /// emptiness listed as the newest backup.
    fn serves_backups(&self) -> bool {
        let blank = self.waits_for_a_restore() && !self.settings.quirks.offers_its_emptiness();
        self.settings.backup.is_some() && !blank && matches!(self.state, State::Primary | State::Replica)
    }

    fn offer_backup(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, parent: Option<Position>) {
        if !self.serves_backups() {
            return cx.close(session);
        }
        self.backup.blocks.follow(&self.wal, self.commit);
        let blocks = self.backup.blocks.positions();
        // A process that has just started has seen no change: its marks are empty, and say so.
        let trusts = self.settings.quirks.trusts_marks_of_a_new_process();
        let from = *self.backup.marked_from.get_or_insert(self.backup.blocks.upto());
        let marks = parent.filter(|parent| trusts || parent.lsn >= from.lsn).map(|parent| {
            let seen = parent.lsn.max(from.lsn);
            blocks.iter().filter(|(_, lsn)| *lsn > seen).map(|(number, _)| *number).collect()
        });
        let offer = Offer {
            term: self.term,
            applied: self.backup.blocks.upto(),
            last: self.wal.last(),
            kept_from: Lsn(0),
            continues: parent.is_none_or(|parent| self.wal.matches(parent)),
            blocks,
            marks,
        };
        cx.send(session, Message::Source(SourceMessage::Offer(offer)));
    }

    /// Reading takes the disk's and the processor's time, from clients and heartbeats alike.
    fn read_block(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, number: BlockNumber) {
        if !self.serves_backups() {
            return cx.close(session);
        }
        let Some(backup) = &self.settings.backup else { return };
        let (cost, quota) = (backup.read_cost, backup.cpu_quota);
        match quota {
            None => {
                cx.busy(cost);
                self.give_block(cx, session, number);
            }
            Some(_) => {
                self.backup.reading.push_back((session, number, cost));
                if self.backup.reading.len() == 1 {
                    self.read_on(cx);
                }
            }
        }
    }

    fn give_block(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, number: BlockNumber) {
        self.backup.blocks.follow(&self.wal, self.commit);
        let block = self.backup.blocks.get(number).cloned();
        cx.send(session, Message::Source(SourceMessage::Block { number, block }));
    }

    /// Reads for one quota of the period; what is left waits for the next.
    pub(super) fn read_on(&mut self, cx: &mut Cx<'_, Agent>) {
        let Some(quota) = self.settings.backup.as_ref().and_then(|backup| backup.cpu_quota) else { return };
        let Some((session, number, left)) = self.backup.reading.pop_front() else { return };
        cx.busy(left.min(quota));
        if left > quota {
            self.backup.reading.push_front((session, number, left - quota));
        } else {
            self.give_block(cx, session, number);
        }
        if !self.backup.reading.is_empty() {
            cx.set_timer(Timer::Job(Job::Throttle), QUOTA_PERIOD);
        }
    }

    fn read_log(
        &mut self,
        cx: &mut Cx<'_, Agent>,
        session: SessionId,
        after: &[Position],
        digest: bool,
        most: u64,
    ) {
        if !self.serves_backups() {
            return cx.close(session);
        }
        let after = after.iter().copied().find(|at| self.wal.matches(*at) && at.lsn <= self.commit);
        let count = after.map_or(0, |after| self.commit.0 - after.lsn.0) as usize;
        let entries = after.map_or(&[][..], |after| self.wal.from(after.lsn.next(), count));
        let entries = beginning(entries, most);
        let entries: Arc<[Entry]> = Arc::from(entries);
        if digest {
            self.backup.blocks.follow(&self.wal, self.commit);
        }
        let at = |lsn: Lsn| self.wal.get(lsn).map_or(Position::default(), |entry| entry.position);
        let log = SourceMessage::Log {
            after,
            entries,
            term: self.term,
            applied: at(self.commit),
            last: self.wal.last(),
            promoted_after: at(Lsn(self.term_start.0.saturating_sub(1))),
            state: digest.then(|| self.backup.blocks.digest()),
        };
        cx.send(session, Message::Source(log));
    }

    /// Nobody leads and there was a history once: without a log of our own we must not begin another one.
    pub(super) fn waits_for_a_restore(&self) -> bool {
        let blank = self.wal.last() == Position::default();
        self.settings.backup.is_some() && blank && self.link.view().term > Term(0)
    }

    /// Takes a restored state. Its entries are of a term of their own, higher than any before, so that nothing of the
    /// lost history (old replicas, the archive, chains of backups) can be taken for this one.
    fn seed(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, changes: &[Change], of: Term) {
        if !self.waits_for_a_restore() || self.link.view().leader.is_some() {
            return cx.send(session, Message::Source(SourceMessage::Seeded { taken: false }));
        }
        self.term = Term(self.term.max(self.link.view().term).0 + 1);
        self.voted = None;
        self.save_meta(cx);
        let term = if self.settings.quirks.keeps_the_old_identity() { of } else { self.term };
        for change in changes {
            let position = Position { term, lsn: self.wal.last().lsn.next() };
            self.keep(cx, Entry { position, at: cx.wall(), content: Content::Change(change.clone()) });
        }
        cx.note(|| alloc::format!("takes a restored state of {} entries", changes.len()));
        self.flush(cx);
        self.backup.seeding = Some(session);
        self.announce(cx);
    }

    /// The log is durable up to here.
    pub(super) fn seeded_to(&mut self, cx: &mut Cx<'_, Agent>, upto: Lsn) {
        if upto >= self.wal.last().lsn
            && let Some(session) = self.backup.seeding.take()
        {
            cx.send(session, Message::Source(SourceMessage::Seeded { taken: true }));
            self.plan_to_stand(cx);
        }
    }

    /// For judges: the log as far as it passed the gate, and every branch that was cut.
    pub(super) fn logs_shown(&self) -> Vec<Exhibit> {
        if self.settings.backup.is_none() {
            return Vec::new();
        }
        let line = |entries: &[Entry]| Exhibit::Log(entries.iter().map(shown).collect());
        let mut all = alloc::vec![line(self.wal.from(Lsn(1), self.wal.last().lsn.0 as usize))];
        for (kept, branch) in &self.backup.branches {
            let mut whole = self.wal.from(Lsn(1), kept.0 as usize).to_vec();
            whole.extend(branch.iter().cloned());
            all.push(line(&whole));
        }
        all
    }
}

/// The first entries that have no more than `most` bytes together, but one at least.
fn beginning(entries: &[Entry], most: u64) -> &[Entry] {
    let mut bytes = 0;
    let fits = entries.iter().take_while(|entry| {
        bytes += u64::from(entry.length());
        bytes <= most
    });
    let count = fits.count().max(1);
    &entries[..count.min(entries.len())]
}

fn shown(entry: &Entry) -> (u64, Option<(Key, Value)>) {
    let element = match &entry.content {
        Content::Change(Change::Append { vertex, value, .. }) => {
            u32::try_from(vertex.0).ok().map(|key| (Key(key), *value))
        }
        Content::Change(_) | Content::TermStart { .. } | Content::Point(_) => None,
    };
    (entry.position.term.0, element)
}
