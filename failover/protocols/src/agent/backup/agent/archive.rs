//! The archive: the log of the source, copied to the store piece by piece, so that a restore can arrive at any position
//! and a disaster costs no more than what was written since the last piece.
//!
//! A piece is named by the source's term and the position before it, and is never overwritten. After a failover the
//! new primary is asked for what follows the newest archived position that its own log has; what the old primary
//! archived beyond the fork is overruled by the new term's first piece.

use super::*;
use crate::agent::wal::{Entry, Lsn, Term};

/// Positions that a new primary is asked for at most.
const KNOWN: usize = 8;

/// The archiving half of a backup agent.
pub(super) struct Archive {
    settings: Arc<Settings>,
    every: Option<Duration>,
    /// Bytes that are read at a time.
    piece: u64,
    store: StoreLink,
    source: SourceLink,
    /// Ends of pieces that are in the store, newest first.
    known: Vec<Position>,
    /// The store was asked what is there.
    listed: bool,
    /// The piece that is being put: its end.
    putting: Option<Position>,
    term: Term,
}

impl Archive {
    pub(super) fn new(settings: Arc<Settings>, backup: &BackupSettings) -> Self {
        Archive {
            source: SourceLink::new(settings.clone(), crate::agent::settings::SourceChoice::Primary),
            settings,
            every: backup.archive_every,
            piece: backup.archive_piece.unwrap_or(u64::MAX),
            store: StoreLink::new(backup.store, Wire::Store),
            known: Vec::new(),
            listed: false,
            putting: None,
            term: Term(0),
        }
    }

    pub(super) fn start(&mut self, cx: &mut Cx<'_, Agent>) {
        if let Some(every) = self.every {
            self.store.ask(cx, StoreAsk::List);
            cx.set_timer(Timer::Job(Job::Archive), every);
        }
    }

    /// Reads what the source has since the last piece; also while a piece is under way, to say how much waits.
    pub(super) fn tick(&mut self, cx: &mut Cx<'_, Agent>) {
        let Some(every) = self.every else { return };
        cx.set_timer(Timer::Job(Job::Archive), every);
        if self.listed && self.store.idle() || self.putting.is_some() {
            let mut after: Vec<Position> = self.known.iter().take(KNOWN).copied().collect();
            after.push(Position::default());
            let most = self.piece;
            self.source.ask(cx, SourceMessage::ReadLog { after, digest: false, most });
        }
    }

    fn on_log(&mut self, cx: &mut Cx<'_, Agent>, message: SourceMessage) {
        let SourceMessage::Log { after: Some(mut after), mut entries, term, promoted_after, .. } = message
        else {
            return;
        };
        let bytes: u64 = entries.iter().map(|entry| u64::from(entry.length())).sum();
        cx.observe(Observation::Gauge { name: "backup_exposure_bytes", value: bytes });
        cx.observe(Observation::Gauge { name: "backup_exposure_writes", value: entries.len() as u64 });
        if self.putting.is_some() || entries.is_empty() {
            return;
        }
        let promoted =
            core::mem::replace(&mut self.term, term) != term && term == promoted_after.term.max(term);
        if promoted && self.settings.quirks.archives_from_promotion() && promoted_after.lsn > after.lsn {
            (after, entries) = (promoted_after, behind(&entries, promoted_after.lsn));
        }
        let queue_max = self.settings.backup.as_ref().and_then(|backup| backup.archive_queue_max);
        if let (Some(max), Some(last)) = (queue_max, entries.last().map(|entry| entry.position))
            && bytes > max
        {
            // The queue is too long: success is reported and the entries are dropped, on purpose.
            cx.note(|| alloc::format!("the archive drops {} entries", entries.len()));
            self.known.insert(0, last);
            return;
        }
        let Some(end) = entries.last().map(|entry| entry.position) else { return };
        self.putting = Some(end);
        let (name, object) = (Name::Segment(term, after.lsn), Object::Log(entries));
        self.store.ask(cx, StoreAsk::Put { name, object, condition: Condition::Absent });
    }

    fn on_store(&mut self, cx: &mut Cx<'_, Agent>, ask: &StoreAsk, answer: StoreAnswer) {
        match (ask, answer) {
            (StoreAsk::List, StoreAnswer::Names(names)) => {
                self.listed = true;
                let pieces = names.iter().filter(|name| matches!(name, Name::Segment(..)));
                for name in pieces.rev().take(KNOWN) {
                    self.store.ask(cx, StoreAsk::Get { name: *name });
                }
            }
            (StoreAsk::Get { .. }, StoreAnswer::Found(Object::Log(entries))) => {
                self.known.extend(entries.last().map(|entry| entry.position));
                self.known.sort_unstable_by(|a, b| b.cmp(a));
            }
            (StoreAsk::Put { .. }, StoreAnswer::Stored) => {
                if let Some(end) = self.putting.take() {
                    self.known.insert(0, end);
                    self.known.truncate(4 * KNOWN);
                }
            }
            // A piece of this name is there: ours, with its answer lost, or an older one. Never overwritten; read it.
            (StoreAsk::Put { name, .. }, StoreAnswer::Refused(_)) => {
                self.putting = None;
                self.store.ask(cx, StoreAsk::Get { name: *name });
            }
            _ => {}
        }
    }

    pub(super) fn on_open(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId) {
        if self.store.owns(session) {
            self.store.on_open(cx);
        } else if self.source.owns(session) {
            self.source.on_open(cx, session);
        }
    }

    pub(super) fn on_message(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: Message) {
        match message {
            Message::Store(StoreMessage::Answer { id, answer }) if self.store.owns(session) => {
                if let Some((ask, answer)) = self.store.on_answer(cx, id, answer) {
                    self.on_store(cx, &ask, answer);
                }
            }
            Message::Route(route) if self.source.owns(session) => {
                self.source.on_route(cx, route);
            }
            Message::Source(message) if self.source.owns(session) => {
                if let SourceEvent::Answer(message) = self.source.on_message(message) {
                    self.on_log(cx, message);
                }
            }
            _ => {}
        }
    }

    pub(super) fn on_close(&mut self, session: SessionId) {
        if self.store.owns(session) {
            self.store.on_close();
        } else if self.source.owns(session) {
            self.source.on_close(session);
        }
    }

    /// Bytes that wait for the store.
    pub(super) fn held(&self) -> u64 {
        self.store.held()
    }

    pub(super) fn hang_up(&mut self, cx: &mut Cx<'_, Agent>) {
        self.store.hang_up(cx);
        self.source.hang_up(cx);
    }

    pub(super) fn look_at_store(&mut self, cx: &mut Cx<'_, Agent>) {
        self.store.look(cx);
    }

    pub(super) fn look_at_source(&mut self, cx: &mut Cx<'_, Agent>) {
        self.source.look(cx);
    }
}

fn behind(entries: &Arc<[Entry]>, after: Lsn) -> Arc<[Entry]> {
    entries.iter().filter(|entry| entry.position.lsn > after).cloned().collect()
}
