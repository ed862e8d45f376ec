//! How sentinels are configured, and what they write back into their configuration file.

use super::quirks::Quirks;
use crate::contract::{Duration, Shard};
use crate::redis::values::{Addr, RunId};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Configuration of a sentinel.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The groups it watches.
    pub groups: Vec<Group>,
    /// Which faults it has.
    pub quirks: Quirks,
}

/// `sentinel monitor` and the options of one group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: Arc<str>,
    /// The shard that it is to observers.
    pub shard: Shard,
    /// Its primary, when the sentinel is started for the first time.
    pub primary: Addr,
    /// How many sentinels must agree that the primary is down.
    pub quorum: u32,
    /// `down-after-milliseconds`.
    pub down_after: Duration,
    /// `failover-timeout`.
    pub failover_timeout: Duration,
    /// `parallel-syncs`.
    pub parallel_syncs: u32,
    /// `master-reboot-down-after-period`; zero for off.
    pub reboot_down_after: Duration,
    /// `notification-script`.
    pub notification_script: Option<Arc<str>>,
    /// `client-reconfig-script`.
    pub client_reconfig_script: Option<Arc<str>>,
}

impl Group {
    /// A group with the defaults of Redis 7.0.
    pub fn new(name: &str, primary: Addr, quorum: u32) -> Group {
        Group {
            name: name.into(),
            shard: Shard(0),
            primary,
            quorum,
            down_after: Duration::from_secs(30),
            failover_timeout: Duration::from_secs(180),
            parallel_syncs: 1,
            reboot_down_after: Duration::ZERO,
            notification_script: None,
            client_reconfig_script: None,
        }
    }
}

/// File of [`Saved`].
pub const CONFIG: &str = "sentinel.conf";

/// What a sentinel keeps: who it is, what it promised, and whom it knows. For whom it voted is not kept, only that it
/// did: after a restart it answers nobody's name for that epoch, so it cannot vote twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Saved {
    /// Its id.
    pub run_id: RunId,
    /// Its epoch.
    pub epoch: u64,
    /// Its groups.
    pub groups: Vec<SavedGroup>,
}

/// One group of [`Saved`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SavedGroup {
    /// Its name.
    pub name: String,
    /// Its options, as they were set last.
    pub options: SavedOptions,
    /// Its primary.
    pub primary: Addr,
    /// Epoch of that configuration.
    pub config_epoch: u64,
    /// Last epoch in which a vote was given.
    pub leader_epoch: u64,
    /// Known replicas.
    pub replicas: Vec<Addr>,
    /// Known peers.
    pub peers: Vec<(RunId, Addr)>,
}

/// The options of a group, times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SavedOptions {
    /// The quorum.
    pub quorum: u32,
    /// `down-after-milliseconds`.
    pub down_after: u64,
    /// `failover-timeout`.
    pub failover_timeout: u64,
    /// `parallel-syncs`.
    pub parallel_syncs: u32,
    /// `master-reboot-down-after-period`.
    pub reboot_down_after: u64,
    /// `notification-script`.
    pub notification_script: Option<String>,
    /// `client-reconfig-script`.
    pub client_reconfig_script: Option<String>,
}
