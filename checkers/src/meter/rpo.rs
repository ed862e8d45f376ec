//! Loss: acknowledged writes that are missing from the authoritative final state.
//!
//! Computed from the history and the final reads alone. Probes count like any other write: their clients were told
//! that the data is safe. Writes of unknown outcome never count as lost; writes reported as failed that are there all the
//! same are *phantoms*. A retried append keeps its value: two acknowledgements of it count once, two copies of it in
//! the final state are a duplicate. A register hides what a later write covered, so its loss is the visible part only.

use super::finals::{Survival, WriteRef};
use super::index::{Run, acknowledged_write};
use super::ms;
use super::rto::Headline;
use super::timeline::ShardLine;
use crate::measure::{LossCauses, Rpo, RpoChoice};
use crate::record::{NodeIndex, Operation, Outcome, SimTime};

/// A write that was acknowledged and is gone.
struct Lost<'a> {
    shard: usize,
    operation: &'a Operation,
    acknowledged: SimTime,
}

/// Measures the loss.
pub(crate) fn measure(run: &Run, headline: &Headline) -> Rpo {
    let mut rpo = Rpo {
        duplicates: run.finals.duplicates,
        visible_only: run.finals.writes.iter().any(|write| !run.finals.is_list[write.key as usize]),
        unresolved: unresolved(run),
        ..Rpo::default()
    };
    let lost = tally(run, &mut rpo);
    if !(0..run.shards).all(|shard| run.finals.known(run.records, shard)) {
        return rpo;
    }
    rpo.writes = Some(lost.len() as u64);
    rpo.visible_writes = rpo.writes;
    rpo.bytes = Some(lost.iter().map(|lost| u64::from(lost.operation.bytes)).sum());
    rpo.time_ms = Some(0.0);
    for lost in &lost {
        *cause(run, lost, &mut rpo.causes) += 1;
    }
    let (first, last) =
        (lost.iter().map(|lost| lost.acknowledged).min(), lost.iter().map(|lost| lost.acknowledged).max());
    if let (Some(first), Some(last), Some(fault)) = (first, last, headline.fault_at) {
        rpo.time_ms = Some(ms(fault.0.saturating_sub(first.0)));
        rpo.age_ms = headline.writable_at.map(|writable| ms(writable.0.saturating_sub(first.0)));
        rpo.post_ms = (last > fault).then(|| ms(last.0 - fault.0));
    }
    rpo
}

/// The lost writes; `None` if some final state is not known.
pub(crate) fn lost_writes<'a>(run: &Run<'a>) -> Option<Vec<&'a Operation>> {
    let known = (0..run.shards).all(|shard| run.finals.known(run.records, shard));
    known.then(|| tally(run, &mut Rpo::default()).into_iter().map(|lost| lost.operation).collect())
}

/// Goes through all writes, retries of one append together: counts the unknown and the phantom ones, returns the lost.
fn tally<'a>(run: &Run<'a>, rpo: &mut Rpo) -> Vec<Lost<'a>> {
    let mut lost = Vec::new();
    let lists = |write: &WriteRef| run.finals.is_list[write.key as usize];
    let same = |a: &WriteRef, b: &WriteRef| (a.key, a.value) == (b.key, b.value) && lists(a);
    for attempts in run.finals.writes.chunk_by(same) {
        let operations =
            || attempts.iter().map(|write| &run.records.history.operations[write.operation as usize]);
        let fate = run.survival[attempts[0].operation as usize];
        let acked = operations().filter(|operation| acknowledged_write(operation));
        let acked = acked.filter_map(|operation| Some((operation.completed?, operation)));
        if let Some((completed, operation)) = acked.min_by_key(|(completed, _)| *completed) {
            // A retry that came too late for the final read must not hide the loss of the first attempt, nor make one.
            let gone =
                attempts.iter().any(|write| run.survival[write.operation as usize] == Survival::Vanished);
            if gone && fate != Survival::Survived {
                lost.push(Lost { shard: run.shard_of(operation), operation, acknowledged: completed.at });
            }
            continue;
        }
        let unknown = !operations().all(failed);
        match (unknown, fate) {
            (true, Survival::Survived) => rpo.unknown_survived += 1,
            (true, Survival::Vanished) => rpo.unknown_vanished += 1,
            (false, Survival::Survived) => rpo.phantom_writes += 1,
            _ => {}
        }
    }
    lost
}

fn failed(operation: &Operation) -> bool {
    matches!(operation.outcome, Outcome::Fail(_))
}

/// The counter of the cause of one loss. What decides is the next change of primary after the acknowledgement: it lost
/// what its predecessor had not replicated. If the acknowledging node had been replaced before the write was even
/// sent, or had it acknowledged after the fault that got it replaced, it was a stale primary. Without a
/// change of primary the surviving line itself lost the write: a restart without its data, a lying disk, a merge.
fn cause<'c>(run: &Run, lost: &Lost, causes: &'c mut LossCauses) -> &'c mut u64 {
    let line = &run.timeline.shards[lost.shard];
    if lost.operation.answered_by.is_some_and(|node| replaced_before(line, node, lost.operation.invoked.at)) {
        return &mut causes.stale_primary;
    }
    let next = line.promotions.iter().find(|promotion| promotion.at >= lost.operation.invoked.at);
    match next.map(|promotion| run.fault_before(promotion.at)) {
        None => &mut causes.other,
        Some(None) => &mut causes.unreplicated,
        Some(Some(fault)) if lost.acknowledged <= run.records.journal.faults[fault].began.at => {
            &mut causes.unreplicated
        }
        Some(Some(_)) => &mut causes.stale_primary,
    }
}

/// Whether another node was the last to be promoted before `at`, in a shard where somebody was.
fn replaced_before(line: &ShardLine, node: NodeIndex, at: SimTime) -> bool {
    let latest = line.promotions.iter().take_while(|promotion| promotion.at < at).last();
    latest.is_some_and(|promotion| promotion.node != node)
}

/// The loss under each choice, where two primaries survived.
fn unresolved(run: &Run) -> Vec<RpoChoice> {
    let mut choices = Vec::new();
    for (shard, authority) in run.finals.authority.iter().enumerate() {
        for node in &authority.rivals {
            let (writes, bytes) = run.finals.loss_on(run.records, shard, *node);
            let node = run.records.topology.nodes[node.0 as usize].name.clone();
            choices.push(RpoChoice { node, writes, bytes });
        }
    }
    choices
}
