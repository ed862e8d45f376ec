//! What a data node knows of one connection.

use super::message::{Channel, ClientType, Command};
use super::values::{Addr, Offset, RunId};
use crate::contract::LocalTime;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One connection that a peer dialled.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The peer's host; its port says nothing.
    pub from: Addr,
    /// Commands queued by MULTI, if it was said.
    pub(super) queue: Option<Vec<Command>>,
    /// A queued command was refused: EXEC will be too.
    pub(super) queue_failed: bool,
    /// Subscriptions by name.
    pub(super) channels: Vec<Channel>,
    /// Subscriptions by pattern.
    pub(super) patterns: Vec<Arc<[u8]>>,
    /// Why commands wait.
    pub(super) blocked: Option<Blocked>,
    /// Commands that came while blocked.
    pub(super) waiting: VecDeque<Command>,
    /// Position in the history after this connection's last write.
    pub(super) last_write: Offset,
    /// The peer told the port at which it listens: it is a replica that shakes hands.
    pub(super) listening_port: Option<u16>,
    /// The peer's id in its cluster, if it told.
    pub cluster_node: Option<RunId>,
    /// The connection feeds a replica.
    pub(super) attached: Option<Attached>,
    /// ASKING was said; it holds for one command.
    pub asking: bool,
    /// READONLY was said.
    pub read_only: bool,
    /// The client follows redirections.
    pub redirects: bool,
    /// RESP version.
    pub protocol: u8,
}

/// Why a connection's commands wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    /// WAIT.
    Acknowledgements {
        /// How many replicas must have it.
        replicas: u32,
        /// Have what.
        offset: Offset,
        /// Until when; never if none.
        deadline: Option<LocalTime>,
    },
    /// A write while writes are paused.
    Pause,
}

/// A primary's view of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The replica's client address.
    pub addr: Addr,
    /// How far it is.
    pub stage: Stage,
    /// What it acknowledged last.
    pub acked: Offset,
    /// When it did.
    pub(super) acked_at: LocalTime,
    /// The same, by the wall clock in whole seconds, in which lag is measured.
    pub(super) acked_second: i64,
    /// When it asked for a snapshot.
    pub(super) asked_at: LocalTime,
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for a snapshot to be begun.
    WaitsForSnapshot,
    /// The snapshot was sent; its first acknowledgement will tell that it is loaded.
    Loading,
    /// It follows the stream.
    Online,
}

impl Connection {
    /// A new connection from that host.
    pub(super) fn new(from: Addr) -> Connection {
        Connection {
            from,
            queue: None,
            queue_failed: false,
            channels: Vec::new(),
            patterns: Vec::new(),
            blocked: None,
            waiting: VecDeque::new(),
            last_write: Offset(0),
            listening_port: None,
            cluster_node: None,
            attached: None,
            asking: false,
            read_only: false,
            redirects: false,
            protocol: 2,
        }
    }

    /// The replica at the other end, if it is one.
    pub fn replica(&self) -> Option<&Attached> {
        self.attached.as_ref()
    }

    /// What CLIENT KILL takes it for.
    pub(super) fn kind(&self) -> ClientType {
        match &self.attached {
            Some(_) => ClientType::Replica,
            None if self.subscriptions() > 0 => ClientType::Subscriber,
            None => ClientType::Normal,
        }
    }

    pub(super) fn subscriptions(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// Whether something published there is for this connection, and by which pattern.
    pub(super) fn hears(&self, channel: &Channel) -> Option<Option<Arc<[u8]>>> {
        if self.channels.contains(channel) {
            return Some(None);
        }
        let pattern = self.patterns.iter().find(|pattern| matches_pattern(pattern, channel.name()))?;
        Some(Some(pattern.clone()))
    }
}

/// Whether a name matches a pattern of `*`, `?` and plain bytes.
pub fn matches_pattern(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.first(), name.first()) {
        (None, rest) => rest.is_none(),
        (Some(b'*'), _) => (0..=name.len()).any(|skip| matches_pattern(&pattern[1..], &name[skip..])),
        (Some(_), None) => false,
        (Some(&byte), Some(&other)) => {
            (byte == b'?' || byte == other) && matches_pattern(&pattern[1..], &name[1..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches_pattern;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, matches) in [
            ("*", "", true),
            ("*", "+switch-master", true),
            ("+switch-*", "+switch-master", true),
            ("+s?itch-master", "+switch-master", true),
            ("+switch", "+switch-master", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
        ] {
            assert_eq!(matches_pattern(pattern.as_bytes(), name.as_bytes()), matches, "{pattern} {name}");
        }
    }
}
