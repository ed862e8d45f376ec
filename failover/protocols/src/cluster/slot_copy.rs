//! MIGRATE: a node copies keys of a slot that is leaving it to the node that imports the slot, and drops them when that
//! node has them (Redis cluster specification, "Live reconfiguration of hash slots"; behaviour of Redis 7.0).
//!
//! The original is blocked meanwhile: what comes on the client port waits until the copy is done, so that no client sees
//! a key on both nodes. (The bus of the original waits too; here it goes on: a copy takes a round trip.) The values
//! travel as the commands that make them, each after an ASKING, in place of RESTORE with its serialised payload.

use super::Kind;
use super::Message;
use super::node::{ClusterNode, Ctx};
use crate::contract::{Duration, LocalTime, SessionId, SocketAddrV4};
use crate::redis::data::Data;
use crate::redis::message::{Command, Error, Message as Redis, Reply, Stored};
use crate::redis::values::Key;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// A copy under way.
#[derive(Debug)]
pub(super) struct KeyCopy {
    /// The connection to the importing node.
    pub session: SessionId,
    /// Who waits for the answer to MIGRATE.
    asker: SessionId,
    keys: Vec<Key>,
    /// Answers of the importing node that are still to come.
    awaited: usize,
    /// When the copy is given up.
    deadline: LocalTime,
    /// What came on the client port meanwhile, in order.
    held: Vec<(SessionId, Redis)>,
}

impl ClusterNode {
    /// MIGRATE: the answer, if it can be given at once.
    pub(super) fn on_migrate(
        &mut self,
        cx: &mut Ctx<'_>,
        asker: SessionId,
        to: SocketAddrV4,
        mut keys: Vec<Key>,
        timeout: Duration,
    ) -> Option<Reply> {
        if self.server.is_paused() || !self.server.is_primary() {
            return Some(Reply::Error(Error::TryAgain));
        }
        keys.retain(|key| self.server.store.stored(key).is_some());
        if keys.is_empty() {
            return Some(Reply::Simple("NOKEY".into()));
        }
        let session = cx.open(to, Kind::Client);
        let deadline = cx.now() + timeout;
        self.copying = Some(KeyCopy { session, asker, keys, awaited: 0, deadline, held: Vec::new() });
        None
    }

    /// Whether this session carries the copy under way.
    pub(super) fn copies_on(&self, session: SessionId) -> bool {
        self.copying.as_ref().is_some_and(|copy| copy.session == session)
    }

    /// The connection to the importing node is open: all keys leave at once.
    pub(super) fn on_copy_open(&mut self, cx: &mut Ctx<'_>) {
        let Some(copy) = &mut self.copying else { return };
        for key in &copy.keys {
            let Some(stored) = self.server.store.stored(key) else { continue };
            for command in [Command::Asking, Command::Data(making(key, stored))] {
                cx.send(copy.session, Message::Redis(command.into()));
                copy.awaited += 1;
            }
        }
    }

    /// The importing node answers one command of the copy.
    pub(super) fn on_copy_answer(&mut self, cx: &mut Ctx<'_>, reply: &Reply) {
        let Some(copy) = &mut self.copying else { return };
        copy.awaited -= 1;
        if reply.is_error() {
            self.end_copy(cx, false);
        } else if copy.awaited == 0 {
            self.end_copy(cx, true);
        }
    }

    /// The cron's part: a copy that takes too long is given up. The importing node may have some of the keys by then.
    pub(super) fn expire_copy(&mut self, cx: &mut Ctx<'_>) {
        if self.copying.as_ref().is_some_and(|copy| copy.deadline <= cx.now()) {
            self.end_copy(cx, false);
        }
    }

    /// Holds back what comes on the client port while keys are copied; gives back what need not wait.
    pub(super) fn hold_while_copying(&mut self, session: SessionId, message: Redis) -> Option<Redis> {
        match &mut self.copying {
            Some(copy) => {
                copy.held.push((session, message));
                None
            }
            None => Some(message),
        }
    }

    /// Drops the keys if they arrived, answers, and goes on with what waited.
    pub(super) fn end_copy(&mut self, cx: &mut Ctx<'_>, arrived: bool) {
        let Some(copy) = self.copying.take() else { return };
        cx.close(copy.session);
        let reply = if arrived {
            self.server.remove(cx, copy.keys);
            Reply::Ok
        } else {
            Reply::Error(Error::Other("IOERR error or timeout reading to target instance".into()))
        };
        self.server.reply(cx, copy.asker, reply);
        for (session, message) in copy.held {
            self.on_redis(cx, session, message);
        }
    }
}

/// The command that makes a key what it is here.
fn making(key: &Key, stored: &Stored) -> Data {
    let key = key.clone();
    match stored {
        Stored::Text(value) => Data::Set { key, value: value.clone(), condition: None },
        Stored::List(elements) => {
            let mut elements = elements.iter().cloned();
            let value = elements.next().expect("no empty list is kept");
            Data::Push { key, value, more: elements.collect::<Vec<_>>().into_boxed_slice() as Box<_> }
        }
    }
}
