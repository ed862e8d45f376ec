//! Every metric that an expectation can name. A new measure is one line here.

use crate::measure::{Linearizability, Measurement, Span};
use crate::stats::Sample;

/// A metric of a run.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// As expectations write it.
    pub name: &'static str,
    /// Other names for the same, such as the fields of the JSON output.
    pub aliases: &'static [&'static str],
    /// What it counts.
    pub unit: Unit,
    /// One line for people.
    pub meaning: &'static str,
    /// What breaking an expectation of it means.
    pub gravity: Gravity,
    /// What it means that a run does not have it.
    pub absent: Absent,
    /// How an expectation without an aggregation is meant.
    pub plain: Plain,
    /// Reads it off a run.
    pub read: fn(&Measurement) -> Option<Sample>,
}

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds; written with `us`, `ms`, `s`, `m` or `h`.
    Time,
    /// Bytes; written with `B`, `kB`, `KiB`, `MB`, `MiB`, `GB` or `GiB`.
    Bytes,
    /// A plain number.
    Count,
    /// Yes or no.
    Flag,
}

/// What breaking an expectation means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gravity {
    /// Always a matter of safety.
    Safety,
    /// A matter of safety if the expectation forbids any (`rpo.writes == 0`), a target if it sets a threshold.
    SafetyIfForbidden,
    /// A target.
    Target,
    /// The system did not come back.
    NoProgress,
}

/// What it means that a run does not have a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// There was nothing to measure: the run is left out.
    LeftOut,
    /// Nobody can say whether the expectation holds in that run: at best inconclusive.
    Inconclusive,
}

/// How an expectation without an aggregation is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// It must hold in each run.
    EachRun,
    /// It is about the sum over the runs: a number of runs.
    Sum,
}

use Absent::{Inconclusive, LeftOut};
use Gravity::{NoProgress, Safety, SafetyIfForbidden, Target};
use Plain::{EachRun, Sum};
use Unit::{Bytes, Count, Flag, Time};

/// The list.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    metric("rto", &["rto.first", "rto_ms"], Time, Target, Inconclusive, EachRun, |m| span(m.rto.first),
        "fault to the first good write after the first bad one, worst shard, clients not on the cut side"),
    metric("rto.stable", &[], Time, Target, Inconclusive, EachRun, |m| span(m.rto.stable),
        "fault to the end of the last bad window"),
    metric("rto.read", &[], Time, Target, LeftOut, EachRun, |m| span(m.rto.read),
        "the same as rto for reads"),
    metric("rto.cut_side", &[], Time, Target, LeftOut, EachRun, |m| span(m.rto.cut_side),
        "the same as rto for clients on the cut side"),
    metric("rto.write_gap", &["write_gap"], Time, Target, Inconclusive, EachRun, |m| span(m.rto.write_gap),
        "longest gap between two good writes around or after the fault: the figure of a planned switch"),
    metric("rto.unavail_total", &["unavail_total"], Time, Target, Inconclusive, EachRun, |m| exact(m.rto.unavail_total),
        "sum of all bad windows of the worst shard"),
    metric("rto.unavail_max", &["unavail_max"], Time, Target, Inconclusive, EachRun, |m| exact(m.rto.unavail_max),
        "longest bad window"),
    metric("rto.weighted_mean", &[], Time, Target, Inconclusive, EachRun, |m| span(m.rto.weighted_mean),
        "rto of every shard, weighted by its traffic"),
    metric("rto.resolution", &[], Time, Target, LeftOut, EachRun, |m| exact(m.rto.resolution_ms),
        "mean distance of the probes: the figures are good to about this much"),
    metric("rto.censored", &[], Count, Target, LeftOut, Sum, |m| count(m.rto.first.is_some_and(|s| s.censored)),
        "number of runs that had not recovered when they ended"),
    metric("rto.outage", &["outage"], Flag, Target, LeftOut, EachRun, |m| count(m.rto.outage),
        "some write probe failed after the fault"),
    metric("phases.detect", &[], Time, Target, LeftOut, EachRun, |m| exact(m.rto.phases.detect),
        "fault to the verdict that the primary is dead"),
    metric("phases.elect", &[], Time, Target, LeftOut, EachRun, |m| exact(m.rto.phases.elect),
        "verdict to the won election"),
    metric("phases.fence", &[], Time, Target, LeftOut, EachRun, |m| exact(m.rto.phases.fence),
        "election to the old primary being known harmless"),
    metric("phases.promote", &[], Time, Target, LeftOut, EachRun, |m| exact(m.rto.phases.promote),
        "until the new primary would acknowledge a write"),
    metric("phases.redirect", &[], Time, Target, LeftOut, EachRun, |m| exact(m.rto.phases.redirect),
        "until a client's write was acknowledged"),
    metric("rpo.writes", &[], Count, SafetyIfForbidden, Inconclusive, EachRun, |m| number(m.rpo.writes),
        "acknowledged writes missing from the authoritative final state"),
    metric("rpo.bytes", &[], Bytes, SafetyIfForbidden, Inconclusive, EachRun, |m| number(m.rpo.bytes),
        "their payload"),
    metric("rpo.time", &["rpo.time_ms"], Time, SafetyIfForbidden, Inconclusive, EachRun, |m| exact(m.rpo.time_ms),
        "age of the oldest lost write at the fault"),
    metric("rpo.age", &["rpo.age_ms"], Time, Target, LeftOut, EachRun, |m| exact(m.rpo.age_ms),
        "age of the oldest lost write when the new primary became writable"),
    metric("rpo.post", &["rpo.post_ms"], Time, Target, LeftOut, EachRun, |m| exact(m.rpo.post_ms),
        "fault to the last acknowledgement of a lost write: how long a stale primary went on"),
    metric("rpo.visible_writes", &[], Count, SafetyIfForbidden, Inconclusive, EachRun, |m| number(m.rpo.visible_writes),
        "lost writes that a final read can miss"),
    metric("rpo.unreplicated", &[], Count, SafetyIfForbidden, LeftOut, EachRun, |m| lost(m, m.rpo.causes.unreplicated),
        "writes lost because they were acknowledged before the fault and not replicated"),
    metric("rpo.stale_primary", &[], Count, SafetyIfForbidden, LeftOut, EachRun, |m| lost(m, m.rpo.causes.stale_primary),
        "writes lost because a doomed primary acknowledged them after the fault"),
    metric("rpo.other", &[], Count, SafetyIfForbidden, LeftOut, EachRun, |m| lost(m, m.rpo.causes.other),
        "writes that the surviving line of primaries acknowledged and lost"),
    metric("rpo.unknown_survived", &[], Count, Target, LeftOut, EachRun, |m| number(Some(m.rpo.unknown_survived)),
        "writes of unknown outcome that took effect"),
    metric("rpo.unknown_vanished", &[], Count, Target, LeftOut, EachRun, |m| number(Some(m.rpo.unknown_vanished)),
        "writes of unknown outcome that did not"),
    metric("rpo.phantom_writes", &["phantom_writes"], Count, SafetyIfForbidden, LeftOut, EachRun,
        |m| number(Some(m.rpo.phantom_writes)), "writes reported as failed that took effect all the same"),
    metric("rpo.duplicates", &["duplicates"], Count, SafetyIfForbidden, LeftOut, EachRun,
        |m| number(Some(m.rpo.duplicates)), "writes that were applied twice"),
    metric("rpo.runs_with_loss", &[], Count, SafetyIfForbidden, Inconclusive, Sum,
        |m| count(m.rpo.writes? > 0), "number of runs that lost an acknowledged write"),
    metric("split_brain.grade", &[], Count, Safety, LeftOut, EachRun, |m| number(Some(u64::from(m.split_brain.grade))),
        "0 none, 1 two roles, 2 two writable, 3 both acknowledged, 4 diverged"),
    metric("split_brain.ms", &["split_brain.time"], Time, Safety, LeftOut, EachRun, |m| exact(Some(m.split_brain.ms)),
        "time with two writable primaries"),
    metric("split_brain.divergent_writes", &[], Count, Safety, LeftOut, EachRun,
        |m| number(Some(m.split_brain.divergent_writes)), "acknowledged writes off the surviving branch"),
    metric("split_brain.ack_window", &["split_brain.ack_window_ms"], Time, Safety, LeftOut, EachRun,
        |m| exact(m.split_brain.ack_window_ms), "the new primary's first acknowledgement to the old one's last"),
    metric("split_brain.runs", &[], Count, Safety, LeftOut, Sum, |m| count(m.split_brain.grade >= 2),
        "number of runs with two writable primaries"),
    metric("failovers", &["failover.count", "failovers.count"], Count, Target, LeftOut, EachRun,
        |m| number(Some(u64::from(m.failover.count))), "promotions"),
    metric("false_failovers", &["failovers.false"], Count, Target, LeftOut, EachRun,
        |m| number(Some(u64::from(m.failover.false_failovers))), "promotions although the primary could serve"),
    metric("missed_failovers", &["failovers.missed"], Count, Target, LeftOut, EachRun,
        |m| number(Some(u64::from(m.failover.missed))), "long outages with a candidate alive and no promotion"),
    metric("needless_failovers", &["failovers.needless"], Count, Target, LeftOut, EachRun,
        |m| number(Some(u64::from(m.failover.needless))), "failovers for a fault that had healed before the verdict"),
    metric("flaps", &["failovers.flaps"], Count, Target, LeftOut, EachRun, |m| number(Some(u64::from(m.failover.flaps))),
        "promotions shortly after another one of the same shard"),
    metric("aborted_failovers", &["failovers.aborted"], Count, Target, LeftOut, EachRun,
        |m| number(Some(u64::from(m.failover.aborted))), "failovers begun and given up"),
    metric("reads.stale", &["stale_reads"], Count, SafetyIfForbidden, LeftOut, EachRun,
        |m| number(Some(m.reads.stale)), "reads that missed a write acknowledged before they began"),
    metric("reads.staleness", &["reads.staleness_ms"], Time, Target, LeftOut, EachRun,
        |m| exact(m.reads.staleness_max_ms), "largest age of such a read"),
    metric("reads.dirty", &["dirty_reads"], Count, SafetyIfForbidden, LeftOut, EachRun, |m| number(Some(m.reads.dirty)),
        "reads that showed a write which is not in the final state"),
    metric("sessions.read_your_writes", &[], Count, SafetyIfForbidden, Inconclusive, EachRun,
        |m| number(m.sessions.map(|s| s.read_your_writes)), "reads that missed an acknowledged append of their own client"),
    metric("sessions.monotonic_reads", &[], Count, SafetyIfForbidden, Inconclusive, EachRun,
        |m| number(m.sessions.map(|s| s.monotonic_reads)), "reads that missed what their client had seen before"),
    metric("sessions.causal", &[], Count, SafetyIfForbidden, Inconclusive, EachRun,
        |m| number(m.sessions.map(|s| s.causal)), "reads that missed something that their client could know of"),
    metric("linearizable", &[], Flag, Safety, Inconclusive, EachRun, linearizable,
        "every key's history has a linearization"),
    metric("converged", &[], Flag, NoProgress, Inconclusive, EachRun, |m| m.converged.and_then(count),
        "after the quiet tail all replicas hold the same data and writes are served"),
    metric("stuck", &[], Count, NoProgress, LeftOut, Sum, |m| count(m.stuck),
        "number of runs in which no good write was served after the last heal"),
    metric("load.operations", &["operations"], Count, Target, LeftOut, EachRun, |m| number(Some(m.load.operations)),
        "operations invoked by the workload"),
    metric("load.ok", &[], Count, Target, LeftOut, EachRun, |m| number(Some(m.load.ok)),
        "of these, acknowledged"),
    metric("load.failed", &[], Count, Target, LeftOut, EachRun, |m| number(Some(m.load.failed)),
        "of these, certainly failed"),
    metric("load.unknown", &[], Count, Target, LeftOut, EachRun, |m| number(Some(m.load.unknown)),
        "of these, of unknown outcome"),
    metric("load.write_p50", &["load.write_p50_ms"], Time, Target, LeftOut, EachRun, |m| exact(m.load.write_p50_ms),
        "median write latency before the first fault"),
    metric("load.write_p99", &["load.write_p99_ms"], Time, Target, LeftOut, EachRun, |m| exact(m.load.write_p99_ms),
        "99th percentile of the same"),
    metric("load.messages", &["messages"], Count, Target, LeftOut, EachRun, |m| number(Some(m.load.messages)),
        "messages sent between nodes"),
    metric("cost.messages_per_write", &[], Count, Target, LeftOut, EachRun, |m| exact(m.cost.messages_per_write),
        "messages sent per acknowledged write"),
    metric("cost.bytes_per_write", &[], Bytes, Target, LeftOut, EachRun, |m| exact(m.cost.bytes_per_write),
        "bytes sent per acknowledged write"),
    metric("cost.write_amplification", &[], Count, Target, LeftOut, EachRun, |m| exact(m.cost.write_amplification),
        "bytes between data nodes per payload byte of acknowledged writes"),
    metric("cost.write_p999", &["cost.write_p999_ms"], Time, Target, LeftOut, EachRun, |m| exact(m.cost.write_p999_ms),
        "99.9th percentile of write latency before the first fault"),
    metric("cost.write_p99_in_backup", &["cost.write_p99_in_backup_ms"], Time, Target, LeftOut, EachRun,
        |m| exact(m.cost.write_p99_in_backup_ms),
        "99th percentile of write latency while a backup was copied, before the first fault"),
    metric("cost.renewals_per_second", &[], Count, Target, LeftOut, EachRun, |m| exact(m.cost.renewals_per_second),
        "renewals of leases per second"),
    metric("alerts.ratio", &[], Count, Target, LeftOut, EachRun, |m| of_service(m, |s| s.ratio_after_ms.map_or(0.0, |_| 1.0)),
        "1: the rule `more than 1 % of 5 minutes bad, for 10 minutes` fires, the run in the midst of calm hours"),
    metric("alerts.burn_rate", &[], Count, Target, LeftOut, EachRun,
        |m| of_service(m, |s| s.burn_rate_after_ms.map_or(0.0, |_| 1.0)),
        "1: a burn rate of 14.4 over an hour and five minutes of 99.95 % fires"),
    metric("alerts.burn_rate_after", &[], Time, Target, LeftOut, EachRun,
        |m| exact(m.service.as_ref().and_then(|s| s.burn_rate_after_ms)), "first bad request to that alert"),
    metric("slo.budget_used", &[], Count, Target, LeftOut, EachRun, |m| of_service(m, |s| s.budget_used),
        "share of the 99.95 % budget of 30 days that the bad requests use; 1 is all of it"),
    metric("slo.hour_bad_share", &[], Count, Target, LeftOut, EachRun, |m| of_service(m, |s| s.hour_bad_share),
        "largest share of bad requests in an hour, the run in the midst of calm hours"),
    metric("slo.minute_latency", &[], Time, Target, LeftOut, EachRun, |m| of_service(m, |s| s.minute_latency_ms),
        "largest mean latency of acknowledged operations in a minute"),
    metric("backup.broken", &[], Count, SafetyIfForbidden, Inconclusive, EachRun, |m| of_backup(m, |b| Some(b.broken_total)),
        "rules of backups that do not hold: wrong states, open chains, gaps, early listings"),
    metric("backup.listed", &[], Count, Target, LeftOut, EachRun, |m| of_backup(m, |b| Some(b.listed)),
        "backups listed at the end"),
    metric("backup.restorable", &[], Count, Target, LeftOut, EachRun, |m| of_backup(m, |b| Some(b.restorable)),
        "points that were restored and compared at the end"),
    metric("backup.refused", &[], Count, Target, LeftOut, EachRun, |m| of_backup(m, |b| Some(b.refused)),
        "points that a restore refused at the end"),
    metric("backup.restored", &[], Count, Target, LeftOut, EachRun, |m| of_backup(m, |b| Some(b.restored)),
        "ordered restores that gave a state"),
    metric("backup.restore_level", &[], Count, Target, LeftOut, EachRun, |m| of_backup(m, |b| b.restore_level),
        "how far the worst restore was proved: 2 restored, 3 compared with the source's digest"),
    metric("backup.restore_rto", &["backup.restore_rto_ms"], Time, Target, LeftOut, EachRun,
        |m| exact(m.backup.as_ref().and_then(|backup| backup.restore_rto_ms)), "order to the restored and proved state"),
    metric("backup.restore_rpo_writes", &[], Count, Target, LeftOut, EachRun, |m| of_backup(m, |b| b.restore_rpo_writes),
        "writes acknowledged at the order that the restored state lacks"),
    metric("backup.restore_rpo_bytes", &[], Bytes, Target, LeftOut, EachRun, |m| of_backup(m, |b| b.restore_rpo_bytes),
        "their payload"),
    metric("backup.disaster_writes", &[], Count, Target, LeftOut, EachRun, |m| of_backup(m, |b| b.disaster_writes),
        "acknowledged writes that a disaster at the end would cost"),
    metric("backup.disaster_bytes", &[], Bytes, Target, LeftOut, EachRun, |m| of_backup(m, |b| b.disaster_bytes),
        "their payload"),
    metric("faults.injected", &["faults"], Count, Target, LeftOut, EachRun, |m| number(Some(u64::from(m.faults))),
        "faults injected"),
    metric("faults.effective", &[], Count, Target, LeftOut, EachRun, |m| number(Some(u64::from(m.faults_effective))),
        "faults with a proven effect"),
];

#[expect(clippy::too_many_arguments, reason = "one line of the list above, in the order of its columns")]
const fn metric(
    name: &'static str,
    aliases: &'static [&'static str],
    unit: Unit,
    gravity: Gravity,
    absent: Absent,
    plain: Plain,
    read: fn(&Measurement) -> Option<Sample>,
    meaning: &'static str,
) -> Metric {
    Metric { name, aliases, unit, meaning, gravity, absent, plain, read }
}

/// Finds a metric by its name or an alias.
pub fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name || metric.aliases.contains(&name))
}

fn span(span: Option<Span>) -> Option<Sample> {
    span.map(|span| Sample { value: span.ms, censored: span.censored })
}

fn exact(value: Option<f64>) -> Option<Sample> {
    value.map(Sample::exact)
}

fn number(value: Option<u64>) -> Option<Sample> {
    value.map(|value| Sample::exact(value as f64))
}

fn of_service(measurement: &Measurement, read: impl Fn(&crate::slo::Service) -> f64) -> Option<Sample> {
    exact(measurement.service.as_ref().map(read))
}

fn of_backup(
    measurement: &Measurement,
    read: impl Fn(&crate::backup::Backups) -> Option<u64>,
) -> Option<Sample> {
    number(measurement.backup.as_ref().and_then(read))
}

fn count(holds: bool) -> Option<Sample> {
    Some(Sample::exact(f64::from(u8::from(holds))))
}

/// A cause of loss can be told only where the loss is known.
fn lost(measurement: &Measurement, writes: u64) -> Option<Sample> {
    measurement.rpo.writes.map(|_| Sample::exact(writes as f64))
}

fn linearizable(measurement: &Measurement) -> Option<Sample> {
    match measurement.linearizable {
        Linearizability::Holds => count(true),
        Linearizability::Violated { .. } => count(false),
        Linearizability::NotChecked | Linearizability::Unknown { .. } => None,
    }
}
