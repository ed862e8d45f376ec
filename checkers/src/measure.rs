//! What the judges say of one run: plain numbers and verdicts, one value per run, small enough to keep for every seed.
//!
//! Times are milliseconds of true time, as numbers. `None` means *not measured* or *does not exist*; it is never 0.

use crate::linear::levels::Levels;
use serde::{Deserialize, Serialize};

/// Everything measured in one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Recovery as clients saw it.
    pub rto: Rto,
    /// Loss of acknowledged writes.
    pub rpo: Rpo,
    /// Two primaries at once.
    pub split_brain: SplitBrain,
    /// Number and quality of the failovers.
    pub failover: FailoverQuality,
    /// Reads that were older than they may be.
    pub reads: ReadQuality,
    /// Load the run offered, and how it fared.
    pub load: Load,
    /// What the service costs in messages and bytes.
    #[serde(default)]
    pub cost: Cost,
    /// What alert rules and service level agreements say of it; `None`: every probe was good, or there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<crate::slo::Service>,
    /// Backups and restores; `None`: the system has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<crate::backup::Backups>,
    /// Whether the history is linearizable.
    pub linearizable: Linearizability,
    /// Session guarantees and causal order; `None`: nobody asked.
    #[serde(default)]
    pub sessions: Option<crate::sessions::Sessions>,
    /// After the quiet tail: all replicas of each shard hold the same data, and writes are served again.
    pub converged: Option<bool>,
    /// The system never served a good write probe again after its last fault healed.
    pub stuck: bool,
    /// Injected faults.
    pub faults: u32,
    /// Faults with a proven effect.
    pub faults_effective: u32,
    /// The faults in the order in which they struck.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strikes: Vec<crate::strikes::Strike>,
    /// The meter's figures from the history agree with the simulator's ground truth; `None`: no ground truth.
    pub truth_agrees: Option<bool>,
    /// Measures that belong to one system, by name (write gap of a hand-over, restore time, ...).
    pub extra: std::collections::BTreeMap<String, f64>,
}

impl Measurement {
    /// Whether some injected fault had no effect, so that the run did not try what the scenario asks for. Such runs are
    /// counted and left out of percentiles; what they show about safety still counts.
    pub fn inert(&self) -> bool {
        self.faults_effective < self.faults
    }
}

/// A span that may not have ended before the run did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Its length in milliseconds; if `censored`, the length seen so far.
    pub ms: f64,
    /// It had not ended when the run did: the true value is larger.
    pub censored: bool,
}

/// Recovery time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rto {
    /// From the fault to the first good write after the first bad one; worst shard; clients not on the cut side.
    /// `Some(0)` with `outage == false` where no probe failed. `None`: no fault, or nothing to see it with.
    pub first: Option<Span>,
    /// Whether any probe failed at all.
    pub outage: bool,
    /// From the fault to the end of the last bad window.
    pub stable: Option<Span>,
    /// The same as `first` for read probes.
    pub read: Option<Span>,
    /// The same as `first` for clients on the cut side.
    pub cut_side: Option<Span>,
    /// Sum of all bad windows.
    pub unavail_total: Option<f64>,
    /// The longest single gap between two good writes after the fault (the figure of a planned switch); without a fault,
    /// of the whole run (the figure of a rolling restart).
    pub write_gap: Option<Span>,
    /// The phases of `first`; they sum exactly to it.
    pub phases: Phases,
    /// Why there is no figure, if there is none.
    pub not_observable: Option<String>,
    /// The longest bad window.
    #[serde(default)]
    pub unavail_max: Option<f64>,
    /// `first` of every shard, weighted by the writes that clients sent to it; equals `first` with one shard.
    #[serde(default)]
    pub weighted_mean: Option<Span>,
    /// Mean distance between two probes of the worst shard: the figures are good to about this much.
    #[serde(default)]
    pub resolution_ms: Option<f64>,
    /// The fault that `first` is counted from: its index in the journal. `None`: no fault.
    #[serde(default)]
    pub fault: Option<u32>,
    /// Other faults that began while the outage of `first` lasted; the outage stays with the fault before it.
    #[serde(default)]
    pub overlapping_faults: u32,
}

/// The contiguous phases of one recovery, in milliseconds. A phase the protocol does not have is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Phases {
    /// Fault until the deciding node or group judged the primary dead.
    pub detect: Option<f64>,
    /// Until the right to fail over was won.
    pub elect: Option<f64>,
    /// Until the old primary was known to be harmless.
    pub fence: Option<f64>,
    /// Until the new primary would acknowledge a write.
    pub promote: Option<f64>,
    /// Until a client's write was acknowledged.
    pub redirect: Option<f64>,
}

impl Phases {
    /// The sum of the phases in whole microseconds, the unit the meter works in; `None` where there is no phase.
    pub fn total_us(&self) -> Option<u64> {
        let phases = [self.detect, self.elect, self.fence, self.promote, self.redirect];
        phases.into_iter().flatten().map(|ms| (ms * 1_000.0).round() as u64).reduce(|sum, us| sum + us)
    }
}

/// Loss of acknowledged writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rpo {
    /// Acknowledged writes that are missing from the authoritative final state. `None`: the final state is not known.
    pub writes: Option<u64>,
    /// Their payload.
    pub bytes: Option<u64>,
    /// Age, at the fault, of the oldest lost write; 0 where all were acknowledged after the fault.
    pub time_ms: Option<f64>,
    /// Age of the oldest lost write when the new primary became writable.
    pub age_ms: Option<f64>,
    /// Last acknowledgement of a lost write, counted from the fault: how long a stale primary went on.
    pub post_ms: Option<f64>,
    /// The lost writes that a final read can miss (for registers: not overwritten by a surviving later write).
    pub visible_writes: Option<u64>,
    /// Lost writes by cause.
    pub causes: LossCauses,
    /// Writes of unknown outcome that survived.
    pub unknown_survived: u64,
    /// Writes of unknown outcome that did not.
    pub unknown_vanished: u64,
    /// Writes reported as failed that are in the final state all the same.
    pub phantom_writes: u64,
    /// A register workload shows only the loss that is visible.
    pub visible_only: bool,
    /// Writes found more than once in the final state: a retry was applied twice.
    #[serde(default)]
    pub duplicates: u64,
    /// Two primaries of one shard survived unmerged: the loss, were each of them the authoritative one.
    #[serde(default)]
    pub unresolved: Vec<RpoChoice>,
}

/// The loss of one shard under one choice of its authoritative node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RpoChoice {
    /// Name of the node taken as authoritative.
    pub node: String,
    /// Acknowledged writes missing from its final state.
    pub writes: u64,
    /// Their payload.
    pub bytes: u64,
}

/// Why acknowledged writes were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossCauses {
    /// Acknowledged before the fault by the primary of that time, not replicated when it died.
    pub unreplicated: u64,
    /// Acknowledged after the fault by a primary that was already doomed.
    pub stale_primary: u64,
    /// Acknowledged by the surviving line of primaries and lost all the same.
    pub other: u64,
}

/// Two primaries at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SplitBrain {
    /// 0 none, 1 two roles, 2 two writable, 3 both acknowledged, 4 their histories diverged.
    pub grade: u8,
    /// Time at grade 2 or above.
    pub ms: f64,
    /// Acknowledged writes off the surviving branch.
    pub divergent_writes: u64,
    /// From the first acknowledgement of the new primary to the last of the old one, where positive.
    pub ack_window_ms: Option<f64>,
}

/// How many failovers there were and whether they were right.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FailoverQuality {
    /// Promotions after the start of the workload.
    pub count: u32,
    /// Promotions although the old primary was alive and could serve its clients.
    pub false_failovers: u32,
    /// No promotion although the shard was not writable for long and a candidate was alive.
    pub missed: u32,
    /// More than one promotion of a shard within the flap window.
    pub flaps: u32,
    /// Failovers that were begun and given up.
    pub aborted: u32,
    /// Failovers for a fault that had healed before the primary was judged dead.
    #[serde(default)]
    pub needless: u32,
}

/// Reads that were older than they may be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReadQuality {
    /// Reads that missed a write acknowledged before they began.
    pub stale: u64,
    /// Largest age of such a read.
    pub staleness_max_ms: Option<f64>,
    /// Reads that showed a write which is not in the final state: somebody acted on data that is gone.
    #[serde(default)]
    pub dirty: u64,
}

/// Load offered and how it fared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Operations invoked by the workload.
    pub operations: u64,
    /// Of these, acknowledged.
    pub ok: u64,
    /// Of these, certainly failed.
    pub failed: u64,
    /// Of these, with unknown outcome.
    pub unknown: u64,
    /// Median latency of acknowledged writes in the calm window before the first fault.
    pub write_p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub write_p99_ms: Option<f64>,
    /// Messages sent between nodes.
    pub messages: u64,
    /// Operations that were not acknowledged, by what the client was told: refusals by a limit or a breaker are failures
    /// too, and can be told apart here.
    #[serde(default)]
    pub refusals: std::collections::BTreeMap<crate::record::Failure, u64>,
}

/// What the service costs, over the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Messages sent, clients' included, per acknowledged write.
    pub messages_per_write: Option<f64>,
    /// Bytes sent, clients' included, per acknowledged write.
    pub bytes_per_write: Option<f64>,
    /// Bytes between data nodes per payload byte of acknowledged writes.
    pub write_amplification: Option<f64>,
    /// 99.9th percentile of the latency of writes acknowledged before the first fault; needs 1,000 of them.
    pub write_p999_ms: Option<f64>,
    /// 99th percentile of the latency of writes that were asked while a backup was copied, and acknowledged before the first
    /// fault; needs 100 of them.
    #[serde(default)]
    pub write_p99_in_backup_ms: Option<f64>,
    /// Renewals of leases per second of the run, from when the first one was announced.
    #[serde(default)]
    pub renewals_per_second: Option<f64>,
}

/// Verdict over the whole history of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Linearizability {
    /// Nobody asked.
    #[default]
    NotChecked,
    /// Every key has a linearization.
    Holds,
    /// Some key has none: which one, and why, in one line.
    Violated {
        /// Name of the key.
        key: String,
        /// Class and core in words.
        why: String,
        /// What holds all the same; `None`: nobody asked, or too much to grade.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        levels: Option<Box<Levels>>,
    },
    /// The budget ended first.
    Unknown {
        /// How far it came.
        why: String,
    },
}
