//! What was asked of the system, and how fast it answered before anything went wrong.

use super::index::{Run, acknowledged_write};
use super::ms;
use crate::measure::Load;
use crate::record::{Outcome, Purpose, SimTime};
use crate::stats;

/// Counts the workload and takes the latencies of writes answered before the first fault.
pub(crate) fn measure(run: &Run) -> Load {
    let calm_until = run.fault_times().next().unwrap_or(run.records.end);
    let mut load = Load { messages: run.records.journal.messages_sent, ..Load::default() };
    let mut latencies = Vec::new();
    for operation in &run.records.history.operations {
        if operation.purpose != Purpose::Workload {
            continue;
        }
        load.operations += 1;
        match (&operation.outcome, operation.completed) {
            (Outcome::Ok(_), Some(completed)) => {
                load.ok += 1;
                if completed.at < calm_until && acknowledged_write(operation) {
                    latencies.push(SimTime(completed.at.0 - operation.invoked.at.0));
                }
            }
            (Outcome::Fail(_), _) => load.failed += 1,
            (Outcome::Ok(_) | Outcome::Info(_), _) => load.unknown += 1,
        }
    }
    let quantile = |latencies: &mut Vec<SimTime>, per_mille| {
        let rank = stats::rank(latencies.len(), per_mille)?;
        Some(ms(latencies.select_nth_unstable(rank).1.0))
    };
    load.write_p50_ms = quantile(&mut latencies, 500);
    load.write_p99_ms = quantile(&mut latencies, 990);
    load
}
