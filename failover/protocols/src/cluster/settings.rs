//! What an operator can set, and which version's rules apply.

use super::bus::NodeId;
use super::quirks::Quirks;
use super::slots::SlotSet;
use super::state::Owners;
use crate::contract::{Duration, Shard, SocketAddrV4};
use crate::redis;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Whose rules the nodes follow where versions differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flavor {
    /// Redis 7.0.
    #[default]
    Redis7,
    /// Valkey 8.1.
    Valkey8,
    /// Valkey 9.1.
    Valkey9,
}

/// The rules in which versions differ, one switch each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Only primaries with slots count as reporters of a failure (valkey #634, 8.0).
    pub only_voters_report: bool,
    /// Of replicas with equal offsets the one with the smaller name ranks first (valkey #762, 8.0).
    pub rank_tie_break: bool,
    /// A voter helps the replicas of one primary at most once per two node timeouts (removed by valkey #1305, #1356).
    pub vote_spacing: bool,
    /// A candidate that sees another win its epoch starts over at once (valkey #1009).
    pub retry_on_lost_epoch: bool,
    /// A manual failover forgets an automatic election that is under way (valkey 8.1).
    pub manual_resets_election: bool,
    /// A forced manual failover starts in the event that asks for it (valkey 9); before, at the next cron.
    pub force_at_once: bool,
    /// Election delays scale with the node timeout, and grow with the rank of the failed primary among the failed
    /// primaries and for replicas without data (valkey #1018, 9.0).
    pub short_election_delay: bool,
    /// A replica that certainly ranks first stands at once and asks for votes even of those that do not know of the
    /// failure yet (valkey #2227, 9.1).
    pub best_ranked_at_once: bool,
    /// A restarted primary votes only when it is sure of the cluster's state (valkey 9.1).
    pub safe_to_join: bool,
    /// A voter that refuses for an outdated claim tells the candidate who owns the slots (valkey 9.1).
    pub refusal_updates: bool,
    /// Role and slots in a header whose configuration epoch is older than what is known of its sender are ignored
    /// (valkey #1777, #2811, #3084).
    pub stale_headers_ignored: bool,
}

impl Rules {
    /// The rules of a version.
    pub fn of(flavor: Flavor) -> Rules {
        let (since8, since9) = (flavor != Flavor::Redis7, flavor == Flavor::Valkey9);
        Rules {
            only_voters_report: since8,
            rank_tie_break: since8,
            vote_spacing: !since8,
            retry_on_lost_epoch: since8,
            manual_resets_election: since8,
            force_at_once: since9,
            short_election_delay: since9,
            best_ranked_at_once: since9,
            safe_to_join: since9,
            refusal_updates: since9,
            stale_headers_ignored: since9,
        }
    }
}

/// What a primary does when it is told to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandOver {
    /// Nothing: waits for its replicas, then ends; the failure detector must find out.
    #[default]
    None,
    /// It asks the best replica to take over by an ordinary manual failover and waits for it (valkey #939).
    Notify,
    /// It holds writes back until its replicas are equal, tells one of them to take over, and ends
    /// (valkey #1091 as shipped in 9.0: `shutdown-on-sigterm failover`).
    Force,
    /// The reviewed form of [`HandOver::Force`] before its release: the replica with the largest acknowledged offset,
    /// equal or not, told on its own connection.
    ForceLargest,
}

/// One node as the cluster was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// Where clients and replicas dial.
    pub client: SocketAddrV4,
    /// Where other nodes dial.
    pub bus: SocketAddrV4,
    /// Its primary; `None`: it is one.
    pub replica_of: Option<NodeId>,
    /// Its slots at the start, if it is a primary.
    pub slots: SlotSet,
    /// Its configuration epoch at the start; primaries get different ones.
    pub config_epoch: u64,
    /// Shard it belongs to at the start, as observations name it.
    pub shard: Shard,
    /// It never stands for an automatic election.
    pub no_failover: bool,
}

/// A cluster's settings; the same at all of its nodes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The nodes; a [`NodeId`] is an index into them.
    pub nodes: Vec<NodeSpec>,
    /// Who owns which slot at the start: [`Owners::created`] of the nodes.
    pub owners: Owners,
    /// The versions' rules.
    pub rules: Rules,
    /// Historical faults.
    pub quirks: Quirks,
    /// `cluster-node-timeout`: silence until a node is suspected.
    pub node_timeout: Duration,
    /// `cluster-replica-validity-factor`: how many node timeouts old a replica's data may be; 0: any age.
    pub replica_validity_factor: u32,
    /// `cluster-migration-barrier`: good replicas a primary must keep when one leaves for an orphan.
    pub migration_barrier: u32,
    /// `cluster-allow-replica-migration`.
    pub allow_replica_migration: bool,
    /// `cluster-require-full-coverage`: serve nothing while any slot is uncovered.
    pub require_full_coverage: bool,
    /// `cluster-allow-reads-when-down`.
    pub allow_reads_when_down: bool,
    /// `cluster-manual-failover-timeout`.
    pub manual_failover_timeout: Duration,
    /// How long the second small message on a dialled link waits for the peer's delayed acknowledgement (Nagle's
    /// algorithm is on there). Zero where a real kernel does it.
    pub nagle_delay: Duration,
    /// A node goes on when its configuration file cannot be saved (`cluster-config-save-behavior best-effort`,
    /// valkey #1032); otherwise it ends.
    pub save_best_effort: bool,
    /// What a primary does on SIGTERM.
    pub hand_over: HandOver,
    /// `shutdown-timeout`: how long an ending primary waits for its replicas; zero: not at all.
    pub shutdown_timeout: Duration,
    /// The replication stream gets no PING while writes are held back for a shutdown. No release does this.
    pub shutdown_blocks_ping: bool,
    /// Replicas too old to understand a hand-over; the primary gives up if one is attached.
    pub old_replicas: Vec<NodeId>,
    /// The data side: replication, persistence.
    pub data: redis::settings::Settings,
}

impl Settings {
    /// Defaults of the projects for these nodes under a version's rules.
    pub fn new(nodes: Vec<NodeSpec>, flavor: Flavor) -> Settings {
        let data = redis::settings::Settings {
            backlog_bytes: if flavor == Flavor::Redis7 { 1 << 20 } else { 10 << 20 },
            ..Default::default()
        };
        Settings {
            owners: Owners::created(&nodes),
            nodes,
            rules: Rules::of(flavor),
            quirks: Quirks::default(),
            node_timeout: Duration::from_secs(15),
            replica_validity_factor: 10,
            migration_barrier: 1,
            allow_replica_migration: true,
            require_full_coverage: true,
            allow_reads_when_down: false,
            manual_failover_timeout: Duration::from_secs(5),
            nagle_delay: Duration::from_millis(40),
            save_best_effort: false,
            hand_over: HandOver::None,
            shutdown_timeout: Duration::from_secs(10),
            shutdown_blocks_ping: false,
            old_replicas: Vec::new(),
            data,
        }
    }

    /// The node that listens for clients at `addr`.
    pub fn node_at(&self, addr: SocketAddrV4) -> Option<NodeId> {
        let at = self.nodes.iter().position(|node| node.client == addr)?;
        Some(NodeId(at as u16))
    }

    /// Node timeout in the milliseconds that node code counts in.
    pub(super) fn node_timeout_ms(&self) -> i64 {
        millis(self.node_timeout)
    }
}

/// Whole milliseconds of a setting.
pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
