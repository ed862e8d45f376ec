//! Were the failovers right?
//!
//! - A failover is *false* if the old primary ran, and answered a majority of the shard's clients in time, through the
//!   whole detection window: from the first suspicion (failing that, the verdict) to the verdict (failing that, the
//!   promotion). A planned switch is never false.
//! - A failover is *needless* if the fault it answers had healed before the verdict.
//! - A failover is *missed* if a shard had no good service for longer than an option says although a candidate ran all that time
//!   and nobody was promoted.
//! - A *flap* is a promotion that follows another one of the same shard within an option's window.

use super::index::{Run, acknowledged_write, by_clients};
use super::timeline::{Promotion, ShardLine};
use super::windows::{BadWindow, Windows};
use crate::measure::FailoverQuality;
use crate::record::{Mark, NodeClass, NodeIndex, SimTime};
use std::collections::BTreeMap;

/// Counts the failovers and what was wrong with them.
pub(crate) fn measure(run: &Run, windows: &Windows) -> FailoverQuality {
    let begin = run.records.history.operations.iter().find(|operation| by_clients(operation));
    let begin = begin.map_or(SimTime(0), |operation| operation.invoked.at);
    let mut quality = FailoverQuality::default();
    for (shard, line) in run.timeline.shards.iter().enumerate() {
        let promotions: Vec<&Promotion> = line.promotions.iter().filter(|p| p.at >= begin).collect();
        quality.count += promotions.len() as u32;
        let flap = |two: &&[&Promotion]| two[1].at.0 - two[0].at.0 <= run.options.flap_window.0;
        quality.flaps += promotions.windows(2).filter(flap).count() as u32;
        quality.false_failovers += promotions.iter().filter(|p| is_false(run, shard, line, p)).count() as u32;
        quality.needless += promotions.iter().filter(|p| is_needless(run, line, p)).count() as u32;
        let aborted = line.marks.iter().filter(|mark| mark.mark == Mark::Aborted && mark.at >= begin);
        quality.aborted += aborted.count() as u32;
    }
    quality.missed = windows.list.iter().filter(|window| is_missed(run, window)).count() as u32;
    quality
}

fn is_false(run: &Run, shard: usize, line: &ShardLine, promotion: &Promotion) -> bool {
    let fault = run.fault_before(promotion.at).map(|fault| &run.records.journal.faults[fault]);
    if fault.is_some_and(|fault| fault.planned) {
        return false;
    }
    let (from, until) = detection_window(run, line, promotion);
    run.timeline.ran_throughout(promotion.from, from, until)
        && serves_majority(run, shard, promotion.from, from, until)
}

/// Whether the fault that it answers had healed before the verdict: the fault was shorter than the detection.
fn is_needless(run: &Run, line: &ShardLine, promotion: &Promotion) -> bool {
    let fault = run.fault_before(promotion.at).map(|fault| &run.records.journal.faults[fault]);
    let Some(fault) = fault.filter(|fault| !fault.planned) else { return false };
    let (_, verdict) = detection_window(run, line, promotion);
    fault.healed.is_some_and(|healed| healed.at <= verdict)
}

/// From suspicion to verdict, and at least the time that a client would wait for an answer before the verdict.
fn detection_window(run: &Run, line: &ShardLine, promotion: &Promotion) -> (SimTime, SimTime) {
    let earlier = line.promotions.iter().rev().find(|other| other.at < promotion.at).map(|other| other.at);
    let fault = run.fault_before(promotion.at).map(|fault| run.records.journal.faults[fault].began.at);
    let after = earlier.max(fault);
    let first = |wanted: Mark| {
        let mut marks = line.marks.iter().filter(|mark| {
            mark.mark == wanted
                && mark.at <= promotion.at
                && mark.about.is_none_or(|about| about == promotion.from)
        });
        marks.find(|mark| after.is_none_or(|after| mark.at >= after)).map(|mark| mark.at)
    };
    let until = first(Mark::Declared).unwrap_or(promotion.at);
    let from = first(Mark::Suspected).or(first(Mark::Declared)).or(fault).unwrap_or(until);
    (from.min(SimTime(until.0.saturating_sub(run.options.deadline.0))), until)
}

/// Whether `node` answered more than half of the shard's clients in time, always, in that time. A client that waits for
/// an answer, or backs off, asks nothing: it is judged by the writes that were open then, or failing that by its last
/// one before.
fn serves_majority(run: &Run, shard: usize, node: NodeIndex, from: SimTime, until: SimTime) -> bool {
    let mut clients: BTreeMap<NodeIndex, Served> = BTreeMap::new();
    for operation in
        run.records.history.operations.iter().take_while(|operation| operation.invoked.at < until)
    {
        if !(operation.is_write() && by_clients(operation) && run.shard_of(operation) == shard) {
            continue;
        }
        let done = operation.completed.map(|completed| completed.at);
        let in_time = done.is_some_and(|done| done.0 <= operation.invoked.at.0 + run.options.deadline.0);
        let by_it = operation.answered_by.is_none_or(|answerer| answerer == node);
        let well = in_time && by_it && acknowledged_write(operation);
        let client = clients.entry(operation.client).or_default();
        if done.is_none_or(|done| done >= from) {
            client.within = Some(client.within.unwrap_or(true) && well);
        } else {
            client.before = well;
        }
    }
    clients.values().filter(|client| client.within.unwrap_or(client.before)).count() * 2 > clients.len()
}

/// How a client fared.
#[derive(Default)]
struct Served {
    /// Its last write before the window was answered well.
    before: bool,
    /// All its writes that were open in the window were; `None`: there were none.
    within: Option<bool>,
}

fn is_missed(run: &Run, window: &BadWindow) -> bool {
    let line = &run.timeline.shards[window.shard as usize];
    let promoted = line.promotions.iter().any(|p| p.at >= window.from && p.at <= window.until);
    let nodes = run.records.topology.nodes.iter().enumerate();
    let mut candidates = nodes.filter(|(_, node)| {
        node.class == NodeClass::Data && node.shard.is_none_or(|shard| shard.0 == window.shard)
    });
    let primary = line.reigns.iter().rev().find(|reign| reign.from <= window.from).map(|reign| reign.node);
    window.until.0 - window.from.0 > run.options.missed_after.0
        && !promoted
        && candidates.any(|(index, _)| {
            let node = NodeIndex(index as u16);
            Some(node) != primary && run.timeline.ran_throughout(node, window.from, window.until)
        })
}
