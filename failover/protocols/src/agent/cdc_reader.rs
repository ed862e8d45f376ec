//! Change data capture as a process: follows the committed log of the primary from a saved position and hands every change
//! on. The position is saved with what was handed on, in one record, so that a restart repeats nothing and skips nothing.
//!
//! After a failover the new primary's log is asked for the newest saved position that it has. If the last one is not
//! in it (an asynchronous primary's tail was overruled), what was handed on since the fork is taken back.

use super::backup::SourceMessage;
use super::backup::link::{SourceEvent, SourceLink};
use super::cdc::Reader;
use super::message::Message;
use super::settings::{Settings, SourceChoice};
use super::wal::{Content, Entry, Lsn, Position};
use super::{Agent, Job, Kind, Record, Timer};
use crate::contract::*;
use crate::graph::Change;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// File of what was handed on.
pub const SINK_FILE: &str = "sink";

/// From one reading to the next.
const EVERY: Duration = Duration::from_millis(500);

/// Older positions that a new primary is asked for, at doubling distances.
const KNOWN: u32 = 16;

/// The process.
pub struct CdcReader {
    source: SourceLink,
    reader: Reader,
    /// What was handed on, in order: the sink.
    sink: Vec<Entry>,
    /// Waits for the disk: what is being saved.
    saving: bool,
    taken_back: u64,
}

impl CdcReader {
    /// A reader of the primary.
    pub fn new(settings: Arc<Settings>) -> Self {
        CdcReader {
            source: SourceLink::new(settings, SourceChoice::Primary),
            reader: Reader::default(),
            sink: Vec::new(),
            saving: false,
            taken_back: 0,
        }
    }

    /// Saved positions, newest first, further and further apart, down to the beginning.
    fn known(&self) -> Vec<Position> {
        let steps = (0..KNOWN).map(|power| (1usize << power) - 1);
        let at = |back: usize| self.sink.len().checked_sub(1 + back).map(|at| self.sink[at].position);
        steps.filter_map(at).chain([Position::default()]).collect()
    }

    fn on_log(&mut self, cx: &mut Cx<'_, Agent>, message: SourceMessage) {
        let SourceMessage::Log { after: Some(after), entries, .. } = message else { return };
        if self.saving {
            return;
        }
        if after != self.reader.position() {
            self.take_back(cx, after);
        }
        let news = self.reader.take(&entries);
        cx.observe(Observation::Gauge { name: "cdc_gaps", value: self.reader.counters.gaps });
        cx.observe(Observation::Gauge { name: "cdc_duplicates", value: self.reader.counters.duplicates });
        cx.observe(Observation::Gauge { name: "cdc_delivered", value: self.sink.len() as u64 });
        if news.is_empty() {
            return;
        }
        for entry in &news {
            cx.append(SINK_FILE, Record::Handed(entry.clone()));
        }
        self.sink.extend(news);
        cx.sync(SINK_FILE);
        self.saving = true;
    }

    /// The source's history forked behind `kept`: what was handed on since is taken back.
    fn take_back(&mut self, cx: &mut Cx<'_, Agent>, kept: Position) {
        let keep = self.sink.iter().take_while(|entry| entry.position.lsn <= kept.lsn).count();
        self.taken_back += (self.sink.len() - keep) as u64;
        self.sink.truncate(keep);
        cx.truncate(SINK_FILE, keep);
        cx.observe(Observation::Gauge { name: "cdc_taken_back", value: self.taken_back });
        let counters = self.reader.counters;
        self.reader = Reader::resume(kept);
        self.reader.counters = counters;
    }
}

impl Node<Agent> for CdcReader {
    fn start(&mut self, cx: &mut Cx<'_, Agent>, disk: &DiskImage<Agent>) {
        let handed = disk.records(SINK_FILE).iter().filter_map(|record| match record {
            Record::Handed(entry) => Some(entry.clone()),
            _ => None,
        });
        self.sink = handed.collect();
        self.reader = Reader::resume(self.sink.last().map_or(Position::default(), |entry| entry.position));
        cx.set_timer(Timer::Job(Job::Schedule), EVERY);
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, _opened: Opened<Kind>) {
        if self.source.owns(session) {
            self.source.on_open(cx, session);
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: Message) {
        match message {
            Message::Source(message) if self.source.owns(session) => {
                if let SourceEvent::Answer(message) = self.source.on_message(message) {
                    self.on_log(cx, message);
                }
            }
            Message::Route(route) if self.source.owns(session) => {
                self.source.on_route(cx, route);
            }
            _ => {}
        }
    }

    fn on_close(&mut self, _cx: &mut Cx<'_, Agent>, session: SessionId, _why: Closed) {
        if self.source.owns(session) {
            self.source.on_close(session);
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Agent>, timer: Timer) {
        match timer {
            Timer::Job(Job::Schedule) => {
                if !self.saving {
                    let message =
                        SourceMessage::ReadLog { after: self.known(), digest: false, most: u64::MAX };
                    self.source.ask(cx, message);
                }
                cx.set_timer(Timer::Job(Job::Schedule), EVERY);
            }
            Timer::Job(Job::SourceLook) => drop(self.source.look(cx)),
            _ => {}
        }
    }

    fn on_synced(&mut self, cx: &mut Cx<'_, Agent>, _token: Token, result: Result<(), DiskError>) {
        self.saving = false;
        if result.is_err() {
            // What the sink holds for certain is known only after reading it anew.
            cx.exit();
        }
    }

    fn exhibits(&self) -> Vec<Exhibit> {
        let mut state: BTreeMap<Key, Vec<Value>> = BTreeMap::new();
        for entry in &self.sink {
            if let Content::Change(Change::Append { vertex, value, .. }) = &entry.content
                && let Ok(key) = u32::try_from(vertex.0)
            {
                state.entry(Key(key)).or_default().push(*value);
            }
        }
        let end = self.sink.last().map_or(Position::default(), |entry| entry.position);
        let Position { term, lsn: Lsn(target) } = end;
        alloc::vec![Exhibit::Restore(RestoreShown {
            backup: 0,
            term: term.0,
            target,
            order: 0,
            state: Some(state.into_iter().collect()),
            why: alloc::string::String::new(),
        })]
    }
}
