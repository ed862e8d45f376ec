//! How a data node is configured. Defaults are those of Redis 7.0.

use super::info::Flavour;
use super::values::Addr;
use crate::contract::Duration;

/// Configuration of a data node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which server it is.
    pub flavour: Flavour,
    /// Whom it follows when it is started for the first time, or without its own data.
    pub follows: Option<Addr>,
    /// `replica-priority`: lower is promoted first, 0 never.
    pub priority: u32,
    /// `replica-announced`: sentinels may tell clients of it.
    pub announced: bool,
    /// `repl-timeout`: silence after which either side gives the link up.
    pub repl_timeout: Duration,
    /// `repl-ping-replica-period`.
    pub repl_ping_period: Duration,
    /// `repl-backlog-size` in bytes.
    pub backlog_bytes: u64,
    /// `repl-diskless-sync-delay`: how long a snapshot waits for more replicas.
    pub sync_delay: Duration,
    /// `min-replicas-to-write`; 0 for off.
    pub min_replicas: u32,
    /// `min-replicas-max-lag`, in whole seconds.
    pub min_replicas_max_lag: u64,
    /// What survives a restart.
    pub persistence: Persistence,
    /// On SIGTERM a primary hands over to a replica before it ends, and gives up after so long; zero: it just ends.
    pub hand_over_on_term: Duration,
    /// A hand-over (FAILOVER) asks the replicas for an acknowledgement and is content with what was there before it asked.
    /// The originals ask nobody and wait for an exact periodic one, up to a second; no release does this.
    pub asks_before_hand_over: bool,
    /// How long a data set takes to be read at start; the node answers LOADING meanwhile.
    pub load_time: Duration,
    /// Rate at which a snapshot is loaded, in bytes per second; 0 for at once.
    pub load_rate: u64,
    /// A primary raises an alarm when the replica that is furthest behind lacks more than so many bytes, looked at once a
    /// second; 0: the lag is neither told nor watched.
    pub lag_alert_bytes: u64,
    /// Pika only: time between a write to the store and its record in the log. A process that is killed in between keeps a
    /// write that no replica ever hears of. Zero: both are one step.
    pub log_gap: Duration,
    /// A primary whose process was restarted answers LOADING, to its replicas too, until a SLAVEOF tells it what it is now
    /// (proposed in redis #2087, never built).
    pub protected_restart: bool,
    /// Which historical faults it has.
    pub quirks: Quirks,
}

/// Whether and how data is kept on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// `save ""`, `appendonly no`: a restart begins empty. The configuration is kept nevertheless.
    None,
    /// Snapshots (RDB) every so often, if something changed, and at a shutdown in good order.
    Snapshots {
        /// How often.
        every: Duration,
    },
    /// An append-only file with `appendfsync everysec`.
    LogEverySecond,
    /// An append-only file with `appendfsync always`: a reply waits for the disk.
    LogAlways,
}

/// Historical faults of replication, off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// Redis 6.0.0 to 6.0.3 trimmed the PINGs at the end of the stream from the offset that a node claims when it
    /// begins to follow another ("meaningful offset"), although its own replicas had counted them: they are ahead of
    /// it, and need a full copy (redis #7306, #7314, #7143; removed in 6.0.4).
    pub offset_excludes_pings: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            flavour: Flavour::Redis,
            follows: None,
            priority: 100,
            announced: true,
            repl_timeout: Duration::from_secs(60),
            repl_ping_period: Duration::from_secs(10),
            backlog_bytes: 1 << 20,
            sync_delay: Duration::from_secs(5),
            min_replicas: 0,
            min_replicas_max_lag: 10,
            persistence: Persistence::None,
            hand_over_on_term: Duration::ZERO,
            asks_before_hand_over: false,
            load_time: Duration::ZERO,
            load_rate: 0,
            lag_alert_bytes: 0,
            log_gap: Duration::ZERO,
            protected_restart: false,
            quirks: Quirks::default(),
        }
    }
}
