//! What was asked of the system, how fast it answered before anything went wrong, and what that cost.

use super::index::{Run, acknowledged_write, by_clients};
use super::ms;
use crate::measure::{Cost, Load};
use crate::record::{Fact, NodeIndex, Operation, Outcome, Purpose, Records, SimTime};
use crate::stats;

/// Counts the workload and takes the latencies of writes answered before the first fault.
pub(crate) fn measure(run: &Run) -> (Load, Cost) {
    let journal = &run.records.journal;
    let calm_until = run.fault_times().next().unwrap_or(run.records.end);
    let mut load = Load { messages: journal.messages_sent, ..Load::default() };
    let copying = backups(run.records);
    let (mut latencies, mut in_backup, mut writes, mut payload) = (Vec::new(), Vec::new(), 0, 0);
    for operation in run.records.history.operations.iter().filter(|operation| by_clients(operation)) {
        let acked = acknowledged_write(operation);
        writes += u64::from(acked);
        payload += if acked { u64::from(operation.bytes) } else { 0 };
        if operation.purpose != Purpose::Workload {
            continue;
        }
        count(&mut load, operation);
        if let Some(completed) = operation.completed.filter(|completed| acked && completed.at < calm_until) {
            let asked = operation.invoked.at;
            latencies.push(completed.at.0.saturating_sub(asked.0));
            if copying.iter().any(|(from, until)| (*from..*until).contains(&asked)) {
                in_backup.push(completed.at.0.saturating_sub(asked.0));
            }
        }
    }
    load.write_p50_ms = quantile(&mut latencies, 500);
    load.write_p99_ms = quantile(&mut latencies, 990);
    let per = |amount: u64, of: u64| (of > 0).then(|| amount as f64 / of as f64);
    let cost = Cost {
        messages_per_write: (journal.messages_sent > 0).then(|| per(journal.messages_sent, writes)).flatten(),
        bytes_per_write: journal.bytes_sent.and_then(|bytes| per(bytes, writes)),
        write_amplification: journal.bytes_replicated.and_then(|bytes| per(bytes, payload)),
        write_p999_ms: quantile(&mut latencies, 999).filter(|_| latencies.len() >= 1_000),
        write_p99_in_backup_ms: quantile(&mut in_backup, 990).filter(|_| in_backup.len() >= 100),
        renewals_per_second: renewals(run.records),
    };
    (load, cost)
}

/// Gauge of a process that copies a backup: 1 from its first block to its end, then 0.
const BACKUP_RUNNING: &str = "backup_running";
/// Gauge of a lease's holder, announced at each renewal: how many there were.
const LEASE_RENEWALS: &str = "lease_renewals";

/// When backups were copied.
fn backups(records: &Records) -> Vec<(SimTime, SimTime)> {
    let mut open: Vec<(NodeIndex, SimTime)> = Vec::new();
    let mut spans = Vec::new();
    for seen in &records.observations {
        let Fact::Gauge { name, value } = &seen.fact else { continue };
        if name != BACKUP_RUNNING {
            continue;
        }
        let ended = open.extract_if(.., |(node, _)| *node == seen.node);
        spans.extend(ended.map(|(_, from)| (from, seen.instant.at)));
        if *value > 0.0 {
            open.push((seen.node, seen.instant.at));
        }
    }
    spans.extend(open.into_iter().map(|(_, from)| (from, records.end)));
    spans
}

/// Every announcement is one renewal: the counter begins anew with each process.
fn renewals(records: &Records) -> Option<f64> {
    let mut renewals = records
        .observations
        .iter()
        .filter(|seen| matches!(&seen.fact, Fact::Gauge { name, .. } if name == LEASE_RENEWALS));
    let first = renewals.next()?.instant.at;
    let later = renewals.count();
    let seconds = records.end.0.saturating_sub(first.0) as f64 / 1e6;
    (seconds > 0.0).then(|| later as f64 / seconds)
}

fn count(load: &mut Load, operation: &Operation) {
    load.operations += 1;
    match (&operation.outcome, operation.completed) {
        (Outcome::Ok(_), Some(_)) => load.ok += 1,
        (Outcome::Ok(_), None) => load.unknown += 1,
        (Outcome::Fail(failure), _) => {
            load.failed += 1;
            *load.refusals.entry(*failure).or_default() += 1;
        }
        (Outcome::Info(failure), _) => {
            load.unknown += 1;
            *load.refusals.entry(*failure).or_default() += 1;
        }
    }
}

fn quantile(latencies: &mut [u64], per_mille: u32) -> Option<f64> {
    let rank = stats::rank(latencies.len(), per_mille)?;
    Some(ms(*latencies.select_nth_unstable(rank).1))
}
