//! What a sentinel tells of the nodes it watches: the entries of SENTINEL MASTERS, REPLICAS and SENTINELS.

use super::values::{Addr, Offset, RunId};
use super::words::{bulk, header};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One node as a sentinel sees it. Times are milliseconds ago. [`InstanceReport::fields`] are its names on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InstanceReport {
    /// Group name for a primary, `ip:port` for a replica, id for a sentinel.
    pub name: Arc<str>,
    /// Its address.
    pub addr: Addr,
    /// Its id, if known.
    pub run_id: Option<RunId>,
    /// What is said of it.
    pub flags: Flags,
    /// The last PING that waits for an answer, or zero.
    pub last_ping_sent: u64,
    /// The last acceptable answer.
    pub last_ok_ping_reply: u64,
    /// The last answer.
    pub last_ping_reply: u64,
    /// Since when it is suspected, if it is.
    pub suspected_for: Option<u64>,
    /// How long it must be silent to be suspected.
    pub down_after: u64,
    /// The rest, by kind of node.
    pub detail: Detail,
}

/// What differs between kinds of node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Detail {
    /// A primary.
    Primary {
        /// The last INFO.
        info_refresh: u64,
        /// Whether it says of itself that it is a primary.
        reports_primary: bool,
        /// Since when it says so.
        role_reported_time: u64,
        /// Epoch of its configuration.
        config_epoch: u64,
        /// Known replicas.
        replicas: u64,
        /// Known peers.
        sentinels: u64,
        /// How many must agree that it is down.
        quorum: u64,
        /// Limit of a failover.
        failover_timeout: u64,
        /// How many replicas are repointed at a time.
        parallel_syncs: u64,
    },
    /// A replica.
    Replica {
        /// The last INFO.
        info_refresh: u64,
        /// Whether it says of itself that it is a primary.
        reports_primary: bool,
        /// Since when it says so.
        role_reported_time: u64,
        /// How long its link is down.
        link_down: u64,
        /// Whether its link is up.
        link_up: bool,
        /// Whom it follows, as far as it told.
        primary: Option<Addr>,
        /// Its priority.
        priority: u64,
        /// Its offset at the last INFO.
        offset: Offset,
        /// Whether clients may be told of it.
        announced: bool,
    },
    /// A peer.
    Sentinel {
        /// The last hello.
        last_hello: u64,
        /// For whom it voted last.
        voted_leader: Option<RunId>,
        /// In which epoch.
        voted_leader_epoch: u64,
    },
}

/// A set of [`Flag`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u16);

/// What can be said of a watched node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flag {
    /// `master`.
    Primary,
    /// `slave`.
    Replica,
    /// `sentinel`.
    Sentinel,
    /// `s_down`: suspected by this sentinel.
    Suspected,
    /// `o_down`: a quorum agreed.
    Declared,
    /// `disconnected`.
    Disconnected,
    /// `failover_in_progress`.
    FailoverInProgress,
    /// `promoted`.
    Promoted,
    /// `reconf_sent`.
    RepointSent,
    /// `reconf_inprog`.
    RepointInProgress,
    /// `reconf_done`.
    RepointDone,
    /// `force_failover`.
    Forced,
}

impl Flag {
    /// All, in the order of the wire.
    pub const ALL: [Flag; 12] = [
        Flag::Suspected,
        Flag::Declared,
        Flag::Primary,
        Flag::Replica,
        Flag::Sentinel,
        Flag::Disconnected,
        Flag::FailoverInProgress,
        Flag::Promoted,
        Flag::RepointSent,
        Flag::RepointInProgress,
        Flag::RepointDone,
        Flag::Forced,
    ];

    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Flag::Primary => "master",
            Flag::Replica => "slave",
            Flag::Sentinel => "sentinel",
            Flag::Suspected => "s_down",
            Flag::Declared => "o_down",
            Flag::Disconnected => "disconnected",
            Flag::FailoverInProgress => "failover_in_progress",
            Flag::Promoted => "promoted",
            Flag::RepointSent => "reconf_sent",
            Flag::RepointInProgress => "reconf_inprog",
            Flag::RepointDone => "reconf_done",
            Flag::Forced => "force_failover",
        }
    }
}

impl Flags {
    /// Adds one if `said`.
    pub fn with(self, flag: Flag, said: bool) -> Flags {
        Flags(self.0 | u16::from(said) << flag as u16)
    }

    /// Whether it is in the set.
    pub fn has(self, flag: Flag) -> bool {
        self.0 >> (flag as u16) & 1 == 1
    }

    /// The comma-separated words; words we do not know are left out when read back.
    pub fn text(self) -> String {
        let words: Vec<&str> = Flag::ALL.into_iter().filter(|&flag| self.has(flag)).map(Flag::word).collect();
        words.join(",")
    }

    /// Reads comma-separated words.
    pub fn parse(text: &str) -> Flags {
        let known = |word: &str| Flag::ALL.into_iter().find(|flag| flag.word() == word);
        text.split(',').filter_map(known).fold(Flags::default(), |flags, flag| flags.with(flag, true))
    }
}

impl InstanceReport {
    /// Names and values in the order of the wire.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let id = |id: Option<RunId>| id.map_or(String::new(), |id| id.0.to_string());
        let mut fields = Vec::with_capacity(24);
        let mut field = |name, value: String| fields.push((name, value));
        field("name", self.name.to_string());
        field("ip", self.addr.ip().to_string());
        field("port", self.addr.port().to_string());
        field("runid", id(self.run_id));
        field("flags", self.flags.text());
        field("link-pending-commands", "0".into());
        field("link-refcount", "1".into());
        field("last-ping-sent", self.last_ping_sent.to_string());
        field("last-ok-ping-reply", self.last_ok_ping_reply.to_string());
        field("last-ping-reply", self.last_ping_reply.to_string());
        if let Some(time) = self.suspected_for {
            field("s-down-time", time.to_string());
        }
        field("down-after-milliseconds", self.down_after.to_string());
        let role = |primary: bool| String::from(if primary { "master" } else { "slave" });
        match &self.detail {
            Detail::Primary {
                info_refresh,
                reports_primary,
                role_reported_time,
                config_epoch,
                replicas,
                sentinels,
                quorum,
                failover_timeout,
                parallel_syncs,
            } => {
                field("info-refresh", info_refresh.to_string());
                field("role-reported", role(*reports_primary));
                field("role-reported-time", role_reported_time.to_string());
                field("config-epoch", config_epoch.to_string());
                field("num-slaves", replicas.to_string());
                field("num-other-sentinels", sentinels.to_string());
                field("quorum", quorum.to_string());
                field("failover-timeout", failover_timeout.to_string());
                field("parallel-syncs", parallel_syncs.to_string());
            }
            Detail::Replica {
                info_refresh,
                reports_primary,
                role_reported_time,
                link_down,
                link_up,
                primary,
                priority,
                offset,
                announced,
            } => {
                field("info-refresh", info_refresh.to_string());
                field("role-reported", role(*reports_primary));
                field("role-reported-time", role_reported_time.to_string());
                field("master-link-down-time", link_down.to_string());
                field("master-link-status", if *link_up { "ok".into() } else { "err".into() });
                field("master-host", primary.map_or("?".into(), |addr| addr.ip().to_string()));
                field("master-port", primary.map_or("0".into(), |addr| addr.port().to_string()));
                field("slave-priority", priority.to_string());
                field("slave-repl-offset", offset.0.to_string());
                field("replica-announced", u8::from(*announced).to_string());
            }
            Detail::Sentinel { last_hello, voted_leader, voted_leader_epoch } => {
                field("last-hello-message", last_hello.to_string());
                field("voted-leader", voted_leader.map_or("?".into(), |id| id.0.to_string()));
                field("voted-leader-epoch", voted_leader_epoch.to_string());
            }
        }
        fields
    }

    pub(super) fn wire_size(&self) -> usize {
        let fields = self.fields();
        let size = |(name, value): &(&str, String)| bulk(name.len()) + bulk(value.len());
        header(2 * fields.len()) + fields.iter().map(size).sum::<usize>()
    }
}
