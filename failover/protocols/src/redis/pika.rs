//! What Pika does otherwise than Redis, as its behaviour under Sentinel shows (Pika 4.0, pikiwidb).
//!
//! Replication goes by a log of writes on disk and a position in it; nothing names the history a position belongs to.
//! A primary that is asked to go on from a position looks only whether it has that position and whether a record
//! begins there. A node that wrote past a failover is thus taken back with its own writes in place of the others'
//! (pikiwidb #893), or stays in an error state, because it is ahead, until an operator forces a copy (#909, #998).

use super::info::Flavour;
use super::message::{Command, Error, Reply};
use super::server::Server;
use super::values::{Addr, Hex, Offset, ReplId, RunId};

/// The one id that all nodes of a group share.
const GROUP: ReplId = ReplId(Hex([0x50; 20]));

impl Server {
    /// Whether this node is a Pika.
    pub(super) fn is_pika(&self) -> bool {
        self.settings.flavour == Flavour::Pika
    }

    /// A Pika process keeps its id over restarts, belongs to the group's only history, and always writes its log.
    pub(super) fn begin_as_pika(&mut self) {
        let mut id = [0x50; 20];
        id[..4].copy_from_slice(&self.me.ip().octets());
        id[4..6].copy_from_slice(&self.me.port().to_be_bytes());
        self.run_id = RunId(Hex(id));
        self.history.id = GROUP;
        self.history.keep_backlog();
    }

    /// Only writes are in its log; published messages and pings do not move the position.
    pub(super) fn counts(&self, command: &Command) -> bool {
        !self.is_pika() || matches!(command, Command::Data(_))
    }

    /// Why a replica cannot go on from `wanted`, though no full copy will be offered: it is ahead, or no record begins
    /// there.
    pub(super) fn refuses_position(&self, wanted: Offset) -> Option<Reply> {
        let first = self.history.backlog.as_ref().map_or(Offset(1), |backlog| backlog.first());
        let refused = |text: &str| Some(Reply::Error(Error::Other(text.into())));
        if !self.is_pika() || wanted < first {
            None
        } else if wanted > self.history.offset.plus(1) {
            refused("ERR the position is larger than mine")
        } else {
            refused("ERR no record begins at the position")
        }
    }

    /// SLAVEOF is refused while replicas are attached.
    pub(super) fn refuses_to_follow(&self, primary: Option<Addr>) -> bool {
        self.is_pika() && primary.is_some() && !self.replicas.is_empty()
    }
}
