//! A process that has got hold of the backup agent's and a client's certificates, and tries what they must not do:
//! take the primary's role away, write to the log, bring a state, delete backups.

use super::backup::{BackupId, Name, SourceMessage, StoreAsk, StoreMessage};
use super::message::{Message, Order, PeerMessage};
use super::settings::{AtPort, BACKUP_PORT, NodeId, RESTORE_PORT, Settings};
use super::wal::{Position, Term};
use super::{Agent, Job, Kind, Timer};
use crate::contract::*;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

/// A term that nobody has reached.
const HIGH: Term = Term(1_000);

/// How often it tries everything.
const EVERY: Duration = Duration::from_secs(5);

/// The process.
pub struct Intruder {
    settings: Arc<Settings>,
    /// What is tried on which session.
    attempts: BTreeMap<SessionId, Message>,
}

impl Intruder {
    /// One that knows the cluster.
    pub fn new(settings: Arc<Settings>) -> Self {
        Intruder { settings, attempts: BTreeMap::new() }
    }

    fn try_everything(&mut self, cx: &mut Cx<'_, Agent>) {
        let append = PeerMessage::Append {
            term: HIGH,
            previous: Position::default(),
            entries: [].into(),
            commit: super::wal::Lsn(0),
        };
        let verbs = [
            Message::Order(Order::Resign),
            Message::Order(Order::Follow { primary: NodeId(1), term: HIGH }),
            Message::Source(SourceMessage::Seed { changes: [].into(), of: Term(1) }),
            Message::Peer(append),
        ];
        for node in self.settings.cluster.nodes() {
            let address = self.settings.cluster.address(node);
            for verb in &verbs {
                let session = cx.open(address.at_port(BACKUP_PORT), Kind::Backup);
                self.attempts.insert(session, verb.clone());
                let session = cx.open(address, Kind::Client);
                self.attempts.insert(session, verb.clone());
            }
        }
        if let Some(backup) = &self.settings.backup {
            let session = cx.open(backup.store.at_port(RESTORE_PORT), Kind::RestoreRead);
            let ask = StoreAsk::Delete { name: Name::Catalog(BackupId(1)) };
            self.attempts.insert(session, Message::Store(StoreMessage::Ask { id: 1, ask }));
        }
        cx.set_timer(Timer::Job(Job::Schedule), EVERY);
    }
}

impl Node<Agent> for Intruder {
    fn start(&mut self, cx: &mut Cx<'_, Agent>, _disk: &DiskImage<Agent>) {
        cx.set_timer(Timer::Job(Job::Schedule), EVERY);
    }

    fn on_open(&mut self, cx: &mut Cx<'_, Agent>, session: SessionId, _opened: Opened<Kind>) {
        if let Some(message) = self.attempts.remove(&session) {
            cx.send(session, message);
        }
    }

    fn on_message(&mut self, _cx: &mut Cx<'_, Agent>, _session: SessionId, _message: Message) {}

    fn on_close(&mut self, _cx: &mut Cx<'_, Agent>, session: SessionId, _why: Closed) {
        self.attempts.remove(&session);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Agent>, _timer: Timer) {
        self.try_everything(cx);
    }
}
