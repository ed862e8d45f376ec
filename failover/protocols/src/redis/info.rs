//! What a data node tells of itself: INFO and ROLE.

use super::message::{address_size, integer_size};
use super::values::{Addr, Offset, ReplId, RunId, digits};
use super::words::{bulk, header};
use crate::contract::Duration;
use alloc::vec::Vec;
use core::fmt;

/// The part of INFO that somebody reads. `Display` is its text on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Info {
    /// Which server, because their texts differ.
    pub flavour: Flavour,
    /// The process's id.
    pub run_id: RunId,
    /// `loading:1`: the data set is being read.
    pub loading: bool,
    /// Whom it follows; none for a primary.
    pub follows: Option<Follows>,
    /// Its priority for promotion; 0 for never.
    pub priority: u32,
    /// Sentinels may tell clients of it.
    pub announced: bool,
    /// The replicas attached to it.
    pub replicas: Vec<AttachedReplica>,
    /// Its history.
    pub id: ReplId,
    /// The history it had before it was promoted.
    pub id2: ReplId,
    /// Its position.
    pub offset: Offset,
    /// Up to where the earlier history counts; none without one (`-1`).
    pub second_offset: Option<Offset>,
    /// A failover by the FAILOVER command: `no-failover`, or under way.
    pub failover: bool,
}

/// Kinds of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flavour {
    /// Redis 7.0.
    Redis,
    /// Valkey 9.1.
    Valkey,
    /// Pika 4.0: another store, the same words, fewer of them.
    Pika,
}

/// Replica's view of its link to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Follows {
    /// Whom.
    pub primary: Addr,
    /// Whether the stream flows.
    pub link: Link,
    /// Its processed offset.
    pub offset: Offset,
}

/// State of a replica's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// The stream flows.
    Up,
    /// It does not.
    Down {
        /// A snapshot is being received.
        syncing: bool,
        /// Since how long, in whole seconds; none if it never was up, which the wire writes as -1.
        since: Option<u64>,
    },
}

/// A primary's view of one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttachedReplica {
    /// Its client address.
    pub addr: Addr,
    /// It has its snapshot and follows the stream.
    pub online: bool,
    /// What it acknowledged last.
    pub offset: Offset,
    /// When it did, in whole seconds ago.
    pub lag: u64,
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flavour {
            Flavour::Redis => write!(f, "# Server\r\nredis_version:7.0.15\r\n")?,
            Flavour::Valkey => write!(f, "# Server\r\nredis_version:7.2.4\r\nvalkey_version:9.1.2\r\n")?,
            Flavour::Pika => write!(f, "# Server\r\npika_version:4.0.1\r\n")?,
        }
        write!(f, "run_id:{}\r\n", self.run_id.0)?;
        write!(f, "\r\n# Persistence\r\nloading:{}\r\n\r\n# Replication\r\n", u8::from(self.loading))?;
        match &self.follows {
            None => write!(f, "role:master\r\n")?,
            Some(follows) => self.write_follows(f, follows)?,
        }
        write!(f, "connected_slaves:{}\r\n", self.replicas.len())?;
        for (number, replica) in self.replicas.iter().enumerate() {
            let AttachedReplica { addr, online, offset, lag } = replica;
            let state = if *online { "online" } else { "wait_bgsave" };
            write!(f, "slave{number}:ip={},port={},", addr.ip(), addr.port())?;
            write!(f, "state={state},offset={},lag={lag}\r\n", offset.0)?;
        }
        if self.flavour != Flavour::Pika {
            self.write_history(f)?;
        }
        Ok(())
    }
}

impl Info {
    fn write_follows(&self, f: &mut fmt::Formatter<'_>, follows: &Follows) -> fmt::Result {
        let pika = self.flavour == Flavour::Pika;
        // A Pika replica with replicas of its own says so in its role.
        let role = if pika && !self.replicas.is_empty() { "master&&slave" } else { "slave" };
        let primary = follows.primary;
        write!(f, "role:{role}\r\nmaster_host:{}\r\nmaster_port:{}\r\n", primary.ip(), primary.port())?;
        match follows.link {
            Link::Up => write!(f, "master_link_status:up\r\nmaster_sync_in_progress:0\r\n")?,
            Link::Down { syncing, since } => {
                write!(f, "master_link_status:down\r\nmaster_sync_in_progress:{}\r\n", u8::from(syncing))?;
                match since {
                    // Pika does not tell it.
                    _ if pika => {}
                    Some(seconds) => write!(f, "master_link_down_since_seconds:{seconds}\r\n")?,
                    None => write!(f, "master_link_down_since_seconds:-1\r\n")?,
                }
            }
        }
        write!(f, "slave_repl_offset:{}\r\nslave_priority:{}\r\n", follows.offset.0, self.priority)?;
        write!(f, "slave_read_only:1\r\nreplica_announced:{}\r\n", u8::from(self.announced))
    }

    fn write_history(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.failover { "failover-in-progress" } else { "no-failover" };
        write!(f, "master_failover_state:{state}\r\n")?;
        write!(f, "master_replid:{}\r\nmaster_replid2:{}\r\n", self.id.0, self.id2.0)?;
        write!(f, "master_repl_offset:{}\r\nsecond_repl_offset:", self.offset.0)?;
        match self.second_offset {
            Some(offset) => write!(f, "{}\r\n", offset.0),
            None => write!(f, "-1\r\n"),
        }
    }
}

/// ROLE.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RoleReport {
    /// `master`.
    Primary {
        /// Its position.
        offset: Offset,
        /// Its online replicas and what they acknowledged.
        replicas: Vec<(Addr, Offset)>,
    },
    /// `slave`.
    Replica {
        /// Whom it follows.
        primary: Addr,
        /// State of the link.
        state: LinkState,
        /// Its position; none before a first sync (`-1`).
        offset: Option<Offset>,
    },
    /// `sentinel`, with the names of its groups.
    Sentinel(Vec<alloc::sync::Arc<str>>),
}

/// States of a replica's link as ROLE names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkState {
    /// `none` or `connect`: it will dial.
    Connect,
    /// `connecting`.
    Connecting,
    /// `handshake`.
    Handshake,
    /// `sync`: a snapshot is being received.
    Sync,
    /// `connected`: the stream flows.
    Connected,
}

impl LinkState {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            LinkState::Connect => "connect",
            LinkState::Connecting => "connecting",
            LinkState::Handshake => "handshake",
            LinkState::Sync => "sync",
            LinkState::Connected => "connected",
        }
    }
}

impl RoleReport {
    pub(super) fn wire_size(&self) -> usize {
        match self {
            RoleReport::Primary { offset, replicas } => {
                let replica = |(addr, offset): &(Addr, Offset)| {
                    header(3) + address_size(*addr) + bulk(digits(offset.0))
                };
                let sizes: usize = replicas.iter().map(replica).sum();
                header(3) + bulk(6) + integer_size(offset.0 as i64) + header(replicas.len()) + sizes
            }
            RoleReport::Replica { primary, state, offset } => {
                let ip = address_size(*primary) - bulk(digits(u64::from(primary.port())));
                let port = integer_size(i64::from(primary.port()));
                let offset = integer_size(offset.map_or(-1, |offset| offset.0 as i64));
                header(5) + bulk(5) + ip + port + bulk(state.word().len()) + offset
            }
            RoleReport::Sentinel(names) => {
                header(2)
                    + bulk(8)
                    + header(names.len())
                    + names.iter().map(|name| bulk(name.len())).sum::<usize>()
            }
        }
    }
}

/// Whole seconds, as INFO writes spans.
pub fn seconds(span: Duration) -> u64 {
    span.as_secs()
}
