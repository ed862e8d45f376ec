//! Historical faults of cluster code that no setting, version or schedule brings back. Each is one switch, off by
//! default, asked at the guard it weakens.

/// Which historical faults are present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quirks {
    /// A replica that moves to another shard keeps the offset of its former primary's history until it has
    /// synchronised, gossips it, and wins elections with it (valkey-io/valkey #885).
    pub cached_offset_counts: bool,
    /// Two primaries with equal configuration epochs leave it at that (redis/redis #1799: owners that never agree).
    pub epoch_collisions_stay: bool,
    /// A replica that is the first to see a majority against its primary keeps it to itself; the voters still think
    /// the primary is up and refuse (redis/redis #7395).
    pub replica_keeps_fail_to_itself: bool,
    /// A primary goes on holding writes back until its own time limit although the manual failover is over
    /// (redis/redis #9618).
    pub pause_outlives_failover: bool,
    /// The replication stream still gets its periodic PING while writes are held back for a manual failover, so that
    /// the replica passes the offset it waits for (redis/redis #4027, #6029).
    pub pings_in_manual_pause: bool,
    /// A vote leaves without waiting for its record to be durable (the order that the node configuration file's
    /// write-before-send exists for; see also valkey-io/valkey #1032).
    pub vote_before_save: bool,
}
