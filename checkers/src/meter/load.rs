//! What was asked of the system, how fast it answered before anything went wrong, and what that cost.

use super::index::{Run, acknowledged_write, by_clients};
use super::ms;
use crate::measure::{Cost, Load};
use crate::record::{Operation, Outcome, Purpose};
use crate::stats;

/// Counts the workload and takes the latencies of writes answered before the first fault.
pub(crate) fn measure(run: &Run) -> (Load, Cost) {
    let journal = &run.records.journal;
    let calm_until = run.fault_times().next().unwrap_or(run.records.end);
    let mut load = Load { messages: journal.messages_sent, ..Load::default() };
    let (mut latencies, mut writes, mut payload) = (Vec::new(), 0, 0);
    for operation in run.records.history.operations.iter().filter(|operation| by_clients(operation)) {
        let acked = acknowledged_write(operation);
        writes += u64::from(acked);
        payload += if acked { u64::from(operation.bytes) } else { 0 };
        if operation.purpose != Purpose::Workload {
            continue;
        }
        count(&mut load, operation);
        if let Some(completed) = operation.completed.filter(|completed| acked && completed.at < calm_until) {
            latencies.push(completed.at.0.saturating_sub(operation.invoked.at.0));
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
    };
    (load, cost)
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
