//! The object store: a process that keeps whole objects under names. A put is answered when it is durable, or refused.
//!
//! What S3 and its kin promise is modelled (conditional put, read after write), and what they do not is not (no
//! transaction over two objects, no lock). Its time is bandwidth and a latency for each object.

use super::{
    BackupId, Kind as BackupKind, Name, Object, Store, StoreAnswer, StoreAsk, StoreMessage, StoreRecord, per,
    reach, restore, restore_to,
};
use crate::agent::message::Message;
use crate::agent::settings::{BackupSettings, Settings};
use crate::agent::wal::{Lsn, Position};
use crate::agent::{Agent, Kind, Record, Timer};
use crate::contract::*;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// File of the objects.
pub const OBJECT_FILE: &str = "objects";

/// A put or delete whose sync has not ended: what was under the name before.
#[derive(Debug)]
struct Unsynced {
    name: Name,
    before: Option<Object>,
    session: SessionId,
    id: u64,
    answer: StoreAnswer,
}

/// The process.
pub struct ObjectStore {
    settings: Arc<Settings>,
    objects: Store,
    syncs: BTreeMap<Token, Unsynced>,
    /// When each object became durable, and when it could be read, in the store's own count of events.
    durable: BTreeMap<Name, u64>,
    visible: BTreeMap<Name, u64>,
    events: u64,
    kinds: BTreeMap<SessionId, Kind>,
    /// Requests that the asker had no right to.
    forbidden: u64,
}

impl ObjectStore {
    /// An empty store.
    pub fn new(settings: Arc<Settings>) -> Self {
        ObjectStore {
            settings,
            objects: Store::default(),
            syncs: BTreeMap::new(),
            durable: BTreeMap::new(),
            visible: BTreeMap::new(),
            events: 0,
            kinds: BTreeMap::new(),
            forbidden: 0,
        }
    }

    fn backup(&self) -> &BackupSettings {
        self.settings.backup.as_ref().expect("a store is only built with backups")
    }

    fn event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    fn on_ask(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, id: u64, ask: StoreAsk) {
        if !self.allows(session, &ask) {
            self.forbidden += 1;
            cx.observe(Observation::Gauge { name: "backup_forbidden", value: self.forbidden });
            return answer(cx, session, id, StoreAnswer::Forbidden);
        }
        match ask {
            StoreAsk::Put { name, object, condition } => {
                cx.busy(self.time_for(&object));
                let before = self.objects.get(name).cloned();
                match self.objects.put(name, object.clone(), condition) {
                    Err(there) => answer(cx, session, id, StoreAnswer::Refused(there.0)),
                    Ok(()) => {
                        cx.append(OBJECT_FILE, Record::Store(StoreRecord::Put(name, object)));
                        self.sync(cx, Unsynced { name, before, session, id, answer: StoreAnswer::Stored });
                    }
                }
            }
            StoreAsk::Delete { name } => {
                let before = self.objects.get(name).cloned();
                self.objects.delete(name);
                cx.append(OBJECT_FILE, Record::Store(StoreRecord::Delete(name)));
                self.sync(cx, Unsynced { name, before, session, id, answer: StoreAnswer::Deleted });
            }
            StoreAsk::Get { name } => match self.objects.get(name).cloned() {
                Some(object) => {
                    cx.busy(self.time_for(&object));
                    answer(cx, session, id, StoreAnswer::Found(object));
                }
                None => answer(cx, session, id, StoreAnswer::Missing),
            },
            StoreAsk::List => answer(cx, session, id, StoreAnswer::Names(self.objects.names().into())),
        }
    }

    /// Least privilege: who restores may read, and hold a backup; nobody but the agent puts or deletes.
    fn allows(&self, session: SessionId, ask: &StoreAsk) -> bool {
        let restores = self.kinds.get(&session) == Some(&Kind::RestoreRead);
        match ask {
            StoreAsk::Get { .. } | StoreAsk::List => true,
            StoreAsk::Put { name, .. } | StoreAsk::Delete { name } => {
                !restores || matches!(name, Name::Hold(_)) || !self.settings.least_privilege
            }
        }
    }

    fn time_for(&self, object: &Object) -> Duration {
        self.backup().costs.object_latency + per(object.size(), self.backup().costs.bandwidth)
    }

    fn sync(&mut self, cx: &mut Cx<'_, Agent>, unsynced: Unsynced) {
        let event = self.event();
        self.visible.entry(unsynced.name).or_insert(event);
        let token = cx.sync(OBJECT_FILE);
        self.syncs.insert(token, unsynced);
    }

    /// An operator's command, or a fault of the medium: `rot block`, `rot log`, `lose block`, `misdirect`.
    fn on_command(&mut self, cx: &mut Cx<'_, Agent>, words: &str) -> String {
        let mut words = words.split(' ');
        let (verb, what) = (words.next().unwrap_or_default(), words.next().unwrap_or("block"));
        let of_kind = |name: &Name| match what {
            "log" => matches!(name, Name::Log(_)),
            "segment" => matches!(name, Name::Segment(..)),
            "newest" => matches!(name, Name::Block(id, ..) if self.newest() == Some(*id)),
            "base" => matches!(name, Name::Block(id, ..) if self.base() == Some(*id)),
            _ => matches!(name, Name::Block(..)),
        };
        let names: Vec<Name> = self.objects.names().into_iter().filter(of_kind).collect();
        if names.is_empty() {
            return "there is no such object".into();
        }
        let name = names[cx.random().between(0, names.len() as u64 - 1) as usize];
        let done = match verb {
            "rot" => self.objects.rot(name),
            "lose" => self.objects.delete(name),
            // A write that went to another place: this object holds what belongs to its neighbour.
            "misdirect" => {
                let at = names.iter().position(|other| *other == name).unwrap_or(0);
                self.objects.exchange(name, names[(at + 1) % names.len()])
            }
            _ => return "unknown command".into(),
        };
        alloc::format!("{verb} {name:?}: {}", if done { "done" } else { "nothing to do" })
    }

    fn newest(&self) -> Option<BackupId> {
        self.objects.catalog().next_back().map(|backup| backup.id)
    }

    fn base(&self) -> Option<BackupId> {
        self.objects.catalog().rev().find(|backup| backup.kind != BackupKind::Delta).map(|backup| backup.id)
    }

    /// When the last byte of a backup was durable; `None`: something of it never was.
    fn durable_at(&self, id: BackupId) -> Option<u64> {
        let backup = self.objects.backup(id)?;
        let blocks = backup.blocks.iter().filter(|(_, place)| place.holder == id);
        let blocks = blocks.map(|(number, place)| Name::Block(id, *number, place.lsn));
        let log = backup.log.map(|_| Name::Log(id));
        blocks.chain(log).try_fold(0, |last, name| Some(last.max(*self.durable.get(&name)?)))
    }
}

fn answer(cx: &mut Cx<'_, Agent>, session: SessionId, id: u64, answer: StoreAnswer) {
    cx.send(session, Message::Store(StoreMessage::Answer { id, answer }));
}

impl Node<Agent> for ObjectStore {
    fn start(&mut self, cx: &mut Cx<'_, Agent>, disk: &DiskImage<Agent>) {
        for record in disk.records(OBJECT_FILE) {
            match record {
                Record::Store(StoreRecord::Put(name, object)) => {
                    let put = super::Put {
                        name: *name,
                        object: object.clone(),
                        condition: super::Condition::Always,
                    };
                    self.objects.take(put);
                    let event = self.event();
                    self.durable.insert(*name, event);
                    self.visible.insert(*name, event);
                }
                Record::Store(StoreRecord::Delete(name)) => drop(self.objects.delete(*name)),
                _ => {}
            }
        }
        cx.note(|| alloc::format!("the store has {} objects", self.objects.names().len()));
    }

    fn on_open(&mut self, _cx: &mut Cx<'_, Agent>, session: SessionId, opened: Opened<Kind>) {
        if let Opened::Accepted { kind, .. } = opened {
            self.kinds.insert(session, kind);
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, message: Message) {
        match message {
            Message::Store(StoreMessage::Ask { id, ask }) => self.on_ask(cx, session, id, ask),
            Message::Query { id, op: Op::Command { words, .. }, .. } => {
                let text = self.on_command(cx, &words);
                cx.note(|| text.clone());
                let result = Ok(Outcome::Text(text));
                cx.send(session, Message::Result { id, result, at: Position::default() });
            }
            _ => {}
        }
    }

    fn on_close(&mut self, _cx: &mut Cx<'_, Agent>, session: SessionId, _why: Closed) {
        self.kinds.remove(&session);
    }

    fn on_timer(&mut self, _cx: &mut Cx<'_, Agent>, _timer: Timer) {}

    fn on_synced(&mut self, cx: &mut Cx<'_, Agent>, token: Token, result: Result<(), DiskError>) {
        let Some(unsynced) = self.syncs.remove(&token) else { return };
        let Unsynced { name, before, session, id, answer: good } = unsynced;
        let event = self.event();
        match result {
            Ok(()) => {
                // The same object again changes nothing: it has been durable since the first time.
                if before.is_none() || before.as_ref() != self.objects.get(name) {
                    self.durable.insert(name, event);
                }
                answer(cx, session, id, good);
            }
            // What the device did not take is not shown either. It may still be found on the disk after a restart, as
            // any failed request of an object store may have taken effect.
            Err(_) => {
                self.objects.restore_to(name, before);
                answer(cx, session, id, StoreAnswer::Failed);
            }
        }
    }

    fn exhibits(&self) -> Vec<Exhibit> {
        let mut all: Vec<Exhibit> = Vec::new();
        for backup in self.objects.catalog() {
            all.push(Exhibit::Backup(BackupShown {
                id: backup.id.0,
                parent: backup.parent.filter(|_| backup.kind == BackupKind::Delta).map(|id| id.0),
                term: backup.stop_term.0,
                start: backup.start.0,
                stop: backup.stop.0,
                bytes: backup.bytes,
                durable_at: self.durable_at(backup.id),
                listed_at: self.visible.get(&Name::Catalog(backup.id)).copied().unwrap_or(0),
            }));
            let shown = |target: Lsn, result: Result<super::Restored, super::Unrestorable>| {
                let (term, why) = match &result {
                    Ok(restored) => (restored.term.0, String::new()),
                    Err(why) => (backup.stop_term.0, alloc::format!("{why:?}")),
                };
                let state = result.ok().map(|restored| restored.elements());
                Exhibit::Restore(RestoreShown {
                    backup: backup.id.0,
                    term,
                    target: target.0,
                    order: 0,
                    state,
                    why,
                })
            };
            all.push(shown(backup.stop, restore(&self.objects, backup.id)));
            // Into the archive too: half way, and as far as it reaches.
            let last = reach(&self.objects, backup.end());
            for target in [Lsn(backup.stop.0.midpoint(last.0)), last] {
                if target > backup.stop {
                    all.push(shown(target, restore_to(&self.objects, backup.id, target)));
                }
            }
        }
        let piece =
            |(term, after, entries): (crate::agent::wal::Term, Lsn, &Arc<[crate::agent::wal::Entry]>)| {
                Exhibit::Piece { term: term.0, after: after.0, last: after.0 + entries.len() as u64 }
            };
        all.extend(self.objects.segments().map(piece));
        all
    }
}
