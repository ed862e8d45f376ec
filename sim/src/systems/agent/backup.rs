//! Backups in the system `agent`: an object store, one or two backup agents, and a restorer, each on a machine of its
//! own.

use crate::scenario::{Bytes, Span};
use crate::systems::Builder;
use crate::world::HostIndex;
use firedrill_checkers::record::NodeClass;
use firedrill_protocols::agent::backup::agent::BackupAgent;
use firedrill_protocols::agent::backup::object_store::ObjectStore;
use firedrill_protocols::agent::backup::restorer::Restorer;
use firedrill_protocols::agent::backup::schedule;
use firedrill_protocols::agent::backup::{self as protocol, Costs};
use firedrill_protocols::agent::cdc_reader::CdcReader;
use firedrill_protocols::agent::settings::{
    BackupSettings, OPERATOR_PORT, RESTORE_PORT, STORE_PORT, SourceChoice,
};
use firedrill_protocols::agent::{Agent, Kind, Settings};
use firedrill_protocols::contract::SocketAddrV4;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Backups: chains of base, delta and checkpoint in an object store, an archive of the log, and restores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Backup {
    /// Backup agents; with two, both follow the schedule.
    pub agents: u8,
    /// From one backup to the next.
    pub every: Span,
    /// Once a day at this time after midnight (`2h` is two o'clock) instead; a run begins at midnight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily_at: Option<Span>,
    /// What happens when a backup is due and the one before has not ended.
    pub overlap: Overlap,
    /// Which data node is read.
    pub source: Source,
    /// How the copy becomes a state.
    pub snapshot: Snapshot,
    /// How changed blocks are found.
    pub finding: Finding,
    /// Every so many backups one is a base; `0`: only the first.
    pub base_every: u32,
    /// Every so many backups one is a checkpoint; `0`: none.
    pub checkpoint_every: u32,
    /// Blocks between two savings of the session.
    pub group: u32,
    /// Chains that are kept.
    pub keep_chains: u32,
    /// How often the log is archived; `null`: not at all.
    pub archive_every: Option<Span>,
    /// More waiting bytes than this are dropped and called archived; `null`: they wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_queue_max: Option<Bytes>,
    /// Bytes a second that a copy may take; `null`: all it can get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bytes>,
    /// Time of the source's process that reading one block takes.
    pub read_cost: Span,
    /// A reader of changes follows the log as well.
    pub cdc: bool,
    /// How much of each 100 ms the source may spend on reading; `null`: as long as it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<Span>,
    /// Bytes that a backup agent may hold; beyond, it is killed and started again after 10 s. `null`: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<Bytes>,
    /// Bytes of log that are archived at a time; `null`: all that there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_piece: Option<Bytes>,
    /// An agent writes only while it holds the repository's lease.
    pub writer_lease: bool,
    /// How often a restore is drilled; `null`: on order only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill_every: Option<Span>,
    /// Until somebody has decided to restore, and a machine is there.
    pub prepare: Span,
    /// From a request to the store to the first byte.
    pub object_latency: Span,
    /// Bytes a second from and to the store.
    pub store_bandwidth: Bytes,
    /// Entries that a restore replays in a second.
    pub replay_per_second: u64,
}

impl Default for Backup {
    fn default() -> Self {
        let settings = BackupSettings::new(SocketAddrV4::new([0, 0, 0, 0].into(), 0));
        Backup {
            agents: 1,
            every: Span::secs(20),
            daily_at: None,
            overlap: Overlap::Skip,
            source: Source::Primary,
            snapshot: Snapshot::Consistent,
            finding: Finding::Position,
            base_every: settings.base_every,
            checkpoint_every: settings.checkpoint_every,
            group: settings.group,
            keep_chains: settings.keep_chains as u32,
            archive_every: settings.archive_every.map(Span),
            archive_queue_max: None,
            bandwidth: None,
            read_cost: Span(settings.read_cost),
            cdc: false,
            cpu_quota: None,
            memory_limit: None,
            archive_piece: None,
            writer_lease: settings.writer_lease,
            drill_every: None,
            prepare: Span(settings.costs.prepare),
            object_latency: Span(settings.costs.object_latency),
            store_bandwidth: Bytes(settings.costs.bandwidth),
            replay_per_second: settings.costs.replay_per_second,
        }
    }
}

/// What happens when a backup is due and the one before has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is left out and counted.
    Skip,
    /// It begins when the other has ended.
    Queue,
}

/// Which data node is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The primary.
    Primary,
    /// A replica.
    Replica,
}

/// How the copy becomes a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Snapshot {
    /// The log from its start to its stop goes along.
    Consistent,
    /// As a published sample has it: the queue is left out, and the label says the end of the log.
    Naive,
}

/// How changed blocks are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// By the position of their last change.
    Position,
    /// By reading all of them.
    Compare,
    /// By marks that the source keeps in memory.
    Marks,
}

/// The machines.
pub(super) struct Machines {
    pub(super) store: HostIndex,
    agents: Vec<HostIndex>,
    restorer: HostIndex,
    cdc: Option<HostIndex>,
}

impl Backup {
    pub(super) fn machines(&self, build: &mut Builder<Agent>, zone: &str, region: &str) -> Machines {
        Machines {
            store: build.host("store", zone, region),
            agents: (1..=self.agents).map(|at| build.host(&format!("backup-{at}"), zone, region)).collect(),
            restorer: build.host("restorer", zone, region),
            cdc: self.cdc.then(|| build.host("cdc", zone, region)),
        }
    }

    pub(super) fn processes(
        &self,
        build: &mut Builder<Agent>,
        machines: &Machines,
        settings: &Arc<Settings>,
    ) {
        let shared = settings.clone();
        let ports =
            [(OPERATOR_PORT, Kind::Client), (STORE_PORT, Kind::Store), (RESTORE_PORT, Kind::RestoreRead)];
        build.process("store", NodeClass::Service, machines.store, &ports, None, move || {
            Box::new(ObjectStore::new(shared.clone()))
        });
        for (at, host) in machines.agents.iter().enumerate() {
            let shared = settings.clone();
            let name = format!("backup-{}", at + 1);
            build.process(&name, NodeClass::Service, *host, &[], None, move || {
                Box::new(BackupAgent::new(shared.clone(), at as u8 + 1))
            });
        }
        if let Some(host) = machines.cdc {
            let shared = settings.clone();
            build.process("cdc", NodeClass::Service, host, &[], None, move || {
                Box::new(CdcReader::new(shared.clone()))
            });
        }
        let shared = settings.clone();
        let ports = [(OPERATOR_PORT, Kind::Client)];
        build.process("restorer", NodeClass::Service, machines.restorer, &ports, None, move || {
            Box::new(Restorer::new(shared.clone()))
        });
    }

    pub(super) fn settings(&self, store: SocketAddrV4) -> BackupSettings {
        let defaults = BackupSettings::new(store);
        BackupSettings {
            schedule: match self.daily_at {
                Some(at) => schedule::Schedule::Daily(at.0),
                None => schedule::Schedule::Every(self.every.0),
            },
            overlap: match self.overlap {
                Overlap::Skip => schedule::Overlap::Skip,
                Overlap::Queue => schedule::Overlap::Queue,
            },
            source: match self.source {
                Source::Primary => SourceChoice::Primary,
                Source::Replica => SourceChoice::Replica,
            },
            snapshot: match self.snapshot {
                Snapshot::Consistent => protocol::Snapshot::Consistent,
                Snapshot::Naive => protocol::Snapshot::Naive,
            },
            finding: match self.finding {
                Finding::Position => protocol::Finding::Position,
                Finding::Compare => protocol::Finding::Compare,
                Finding::Marks => protocol::Finding::Marks,
            },
            base_every: self.base_every,
            checkpoint_every: self.checkpoint_every,
            group: self.group,
            keep_chains: self.keep_chains as usize,
            archive_every: self.archive_every.map(|every| every.0),
            archive_queue_max: self.archive_queue_max.map(|max| max.0),
            bandwidth: self.bandwidth.map(|rate| rate.0),
            read_cost: self.read_cost.0,
            cpu_quota: self.cpu_quota.map(|quota| quota.0),
            memory_limit: self.memory_limit.map(|limit| limit.0),
            archive_piece: self.archive_piece.map(|piece| piece.0),
            writer_lease: self.writer_lease,
            drill_every: self.drill_every.map(|every| every.0),
            costs: Costs {
                prepare: self.prepare.0,
                object_latency: self.object_latency.0,
                bandwidth: self.store_bandwidth.0,
                replay_per_second: self.replay_per_second,
                ..defaults.costs
            },
            ..defaults
        }
    }
}
