//! What the coordinators' Raft replicates: who the instances are, which one is MAIN, and the cluster's settings.

use crate::contract::Endpoint;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A data instance, `instance_1`, `instance_2`, ... Their order is the order of names and of registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId(pub u16);

/// Identity of a MAIN: a fencing token for replicas. Random; whoever makes it also numbers it, for drawings and the
/// meter only, because the real one has no order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Uuid {
    /// Order of its making, as Raft's term and index; zero for those that no coordinator made. No rule reads it.
    pub number: u64,
    /// What makes it unique.
    pub random: u64,
}

/// A host name and port, as an operator writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// A name that the resolver of a zone knows, or not.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// The address `host:port`.
    pub fn new(host: &str, port: u16) -> Self {
        Address { host: String::from(host), port }
    }

    /// Where to dial.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Name(Arc::from(self.host.as_str()), self.port)
    }
}

/// How a replica is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// MAIN waits for it, and commits even if it fails.
    Sync,
    /// MAIN does not wait.
    Async,
    /// MAIN commits only if it agreed (two phases).
    StrictSync,
}

/// What Raft says an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Takes writes.
    Main,
    /// Follows.
    Replica,
}

/// A registered data instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DataInstance {
    /// Which.
    pub id: InstanceId,
    /// Its management server, by its internal name.
    pub management: Address,
    /// Its replication server, by its internal name.
    pub replication: Address,
    /// Its Bolt server, by the name that clients are given.
    pub bolt: Address,
    /// How it is fed as a replica.
    pub mode: Mode,
    /// What it is.
    pub status: Status,
    /// The MAIN that it follows, or is.
    pub uuid: Uuid,
}

/// A coordinator, as clients are told of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CoordinatorInstance {
    /// Its number.
    pub id: u16,
    /// Its Bolt server, by the name that clients are given.
    pub bolt: Address,
}

/// The cluster's settings, with Memgraph's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// MAIN is offered for reads too.
    pub enabled_reads_on_main: bool,
    /// ASYNC replicas are no candidates.
    pub sync_failover_only: bool,
    /// A candidate may lack at most so many transactions of MAIN, as far as the leader knows.
    pub max_failover_replica_lag: u64,
    /// A replica that lacks more is not offered for reads.
    pub max_replica_read_lag: u64,
    /// MAIN is dead after so many seconds without an answer, once a ping fails.
    pub instance_down_timeout_sec: u64,
    /// Seconds between pings.
    pub instance_health_check_frequency_sec: u64,
    /// MAIN takes no writes.
    pub global_read_only: bool,
    /// A replica tells MAIN of its progress after so many changes. Without effect here: no transaction has as many.
    pub deltas_batch_progress_size: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            enabled_reads_on_main: false,
            sync_failover_only: true,
            max_failover_replica_lag: u64::MAX,
            max_replica_read_lag: u64::MAX,
            instance_down_timeout_sec: 5,
            instance_health_check_frequency_sec: 1,
            global_read_only: false,
            deltas_batch_progress_size: 100_000,
        }
    }
}

/// The state that all coordinators share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterState {
    /// The data instances, in order of names.
    pub instances: Vec<DataInstance>,
    /// The coordinators.
    pub coordinators: Vec<CoordinatorInstance>,
    /// The uuid of the current MAIN.
    pub main_uuid: Uuid,
    /// The settings.
    pub settings: Settings,
    /// A failover of the design up to v2.20 is under way, or has stopped half way.
    pub lock_open: bool,
}

/// One Raft entry: what it has replaces what was, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Delta {
    /// The data instances.
    pub instances: Option<Vec<DataInstance>>,
    /// The coordinators.
    pub coordinators: Option<Vec<CoordinatorInstance>>,
    /// The uuid of the current MAIN.
    pub main_uuid: Option<Uuid>,
    /// The settings.
    pub settings: Option<Settings>,
    /// OPEN_LOCK and CLOSE_LOCK of the design up to v2.20.
    pub lock_open: Option<bool>,
}

impl Delta {
    /// Bytes of its JSON, roughly: that is how it is stored and sent.
    pub fn size(&self) -> usize {
        let instances = self.instances.as_ref().map_or(0, |list| 420 * list.len());
        let coordinators = self.coordinators.as_ref().map_or(0, |list| 90 * list.len());
        let uuid = if self.main_uuid.is_some() { 60 } else { 0 };
        2 + instances + coordinators + uuid + if self.settings.is_some() { 310 } else { 0 }
    }
}

impl ClusterState {
    /// Takes over a committed entry.
    pub fn apply(&mut self, delta: Delta) {
        if let Some(instances) = delta.instances {
            self.instances = instances;
        }
        if let Some(coordinators) = delta.coordinators {
            self.coordinators = coordinators;
        }
        if let Some(uuid) = delta.main_uuid {
            self.main_uuid = uuid;
        }
        if let Some(settings) = delta.settings {
            self.settings = settings;
        }
        if let Some(open) = delta.lock_open {
            self.lock_open = open;
        }
    }

    /// An instance.
    pub fn instance(&self, id: InstanceId) -> Option<&DataInstance> {
        self.instances.iter().find(|instance| instance.id == id)
    }

    /// The current MAIN: status and uuid must both say so.
    pub fn main(&self) -> Option<&DataInstance> {
        self.instances.iter().find(|instance| self.is_main(instance.id))
    }

    /// Whether the instance is the current MAIN.
    pub fn is_main(&self, id: InstanceId) -> bool {
        self.instance(id)
            .is_some_and(|instance| instance.status == Status::Main && instance.uuid == self.main_uuid)
    }

    /// How many are the current MAIN: never more than one.
    pub fn main_count(&self) -> usize {
        self.instances.iter().filter(|instance| self.is_main(instance.id)).count()
    }

    /// The instances as they are after `winner` became MAIN under `uuid`.
    pub fn with_main(&self, winner: InstanceId, uuid: Uuid) -> Vec<DataInstance> {
        let appoint = |instance: &DataInstance| DataInstance {
            status: if instance.id == winner { Status::Main } else { Status::Replica },
            uuid,
            ..instance.clone()
        };
        self.instances.iter().map(appoint).collect()
    }
}
