//! Stale reads: a read that misses a write acknowledged before it began. And dirty reads: a read that shows a write
//! which is not in the final state.
//!
//! Only writes that survive count: a read that misses a lost write is the loss over again, which `rpo` counts. The
//! staleness of a read is its age behind the first write that it misses. One sweep: reads in order of invocation,
//! acknowledgements in order of completion, per key the furthest write acknowledged so far.

use super::finals::{NOWHERE, Survival};
use super::index::{Run, acknowledged_write, by_clients};
use super::ms;
use crate::measure::ReadQuality;
use crate::record::{Action, Instant, Operation, Outcome, Returned};

/// Counts the stale reads of load and probes.
pub(crate) fn measure(run: &Run) -> ReadQuality {
    let operations = &run.records.history.operations;
    let mut acks = acknowledged(run);
    acks.sort_by_key(|(completed, _)| *completed);
    let mut acks = acks.into_iter().peekable();
    let mut frontier: Vec<Vec<Step>> = vec![Vec::new(); run.records.history.keys.len()];
    let mut quality = ReadQuality::default();
    for read in
        operations.iter().filter(|operation| operation.action == Action::Read && by_clients(operation))
    {
        while let Some((completed, write)) = acks.next_if(|(completed, _)| *completed < read.invoked) {
            advance(run, &mut frontier, completed, write);
        }
        quality.dirty += u64::from(shows_lost(run, read));
        if let Some(missed) = first_missed(run, &frontier[read.key.0 as usize], read) {
            quality.stale += 1;
            let age = ms(read.invoked.at.0.saturating_sub(missed.at.0));
            quality.staleness_max_ms = Some(quality.staleness_max_ms.map_or(age, |max| max.max(age)));
        }
    }
    quality
}

/// An acknowledgement that moved a key on: from then on reads must show at least this.
#[derive(Clone, Copy)]
struct Step {
    acknowledged: Instant,
    /// Lists: place in the spine. Registers: sequence number of the write's invocation.
    mark: u64,
}

fn acknowledged(run: &Run) -> Vec<(Instant, u32)> {
    let mut acks = Vec::new();
    for (index, operation) in run.records.history.operations.iter().enumerate() {
        if run.survival[index] != Survival::Vanished
            && acknowledged_write(operation)
            && let Some(completed) = operation.completed
        {
            acks.push((completed, index as u32));
        }
    }
    acks
}

fn advance(run: &Run, frontier: &mut [Vec<Step>], acknowledged: Instant, write: u32) {
    let operation = &run.records.history.operations[write as usize];
    let key = operation.key.0 as usize;
    let mark = match (run.finals.is_list[key], run.finals.position[write as usize]) {
        (true, NOWHERE) => return,
        (true, place) => u64::from(place),
        (false, _) => operation.invoked.seq,
    };
    if frontier[key].last().is_none_or(|step| step.mark < mark) {
        frontier[key].push(Step { acknowledged, mark });
    }
}

/// When the first write that the read misses was acknowledged; `None`: it misses nothing.
fn first_missed(run: &Run, steps: &[Step], read: &Operation) -> Option<Instant> {
    let Outcome::Ok(returned) = &read.outcome else { return None };
    let seen = match returned {
        Returned::List { shared, .. } => u64::from(*shared),
        Returned::Value(None) | Returned::Mismatch(None) => 0,
        Returned::Value(Some(value)) | Returned::Mismatch(Some(value)) => {
            newest_possible(run, read.key.0 as usize, *value)?
        }
        Returned::Done | Returned::Version(_) => return None,
    };
    let missed = steps.get(steps.partition_point(|step| step.mark < seen))?;
    Some(missed.acknowledged)
}

/// Whether a read showed a write that is not in the final state.
fn shows_lost(run: &Run, read: &Operation) -> bool {
    let Outcome::Ok(returned) = &read.outcome else { return false };
    let key = read.key.0 as usize;
    let lost = |value: u64| {
        let writers = &run.finals.writes[run.finals.writers(key, value)];
        writers.iter().any(|write| run.survival[write.operation as usize] == Survival::Vanished)
    };
    match returned {
        Returned::List { shared, tail } => {
            let spine = &run.records.history.keys[key].spine;
            let shown = (*shared as usize).min(spine.len());
            // What survives of the spine is a prefix, so its last element shown tells for all.
            spine[..shown].last().is_some_and(|value| lost(*value)) || tail.iter().any(|value| lost(*value))
        }
        Returned::Value(Some(value)) | Returned::Mismatch(Some(value)) => lost(*value),
        Returned::Value(None) | Returned::Mismatch(None) | Returned::Done | Returned::Version(_) => false,
    }
}

/// A register's value may be newer than every write invoked before its own write ended; `None`: it may be newer than
/// any.
fn newest_possible(run: &Run, key: usize, value: u64) -> Option<u64> {
    run.finals.written_until(run.records, key, value).flatten().map(|ended| ended.seq)
}
