//! Two primaries at once, in four grades, per shard; a run's grade is that of its worst shard.
//!
//! | grade | two nodes ... | from |
//! |---|---|---|
//! | 1 | hold the role of primary at once | observations, process life |
//! | 2 | would acknowledge a write that arrives now, both | the same |
//! | 3 | did acknowledge one each in such an overlap, or the older primary after the newer one's first | history |
//! | 4 | and a write acknowledged in the overlap is off the surviving branch | history, final reads |
//!
//! A paused process holds its role but is not writable (see `timeline`). An acknowledgement proves something only if it
//! surely lies where it must: its operation was invoked inside the overlap, or after the other's first acknowledgement had
//! reached its client. A late packet alone is never called a split brain. What an isolated primary acknowledged before there
//! was a second one, and lost, is loss (`rpo`) and no divergence: there was one branch then.

use super::finals::Survival;
use super::index::{Run, acknowledged_write};
use super::ms;
use super::timeline::{Hold, Reign, ShardLine};
use crate::measure::SplitBrain;
use crate::record::{Instant, NodeIndex, SimTime};

/// Measures the overlaps of primaries.
pub(crate) fn measure(run: &Run) -> SplitBrain {
    let mut worst = SplitBrain::default();
    if run.timeline.shards.iter().all(|line| contenders(line) < 2) {
        return worst;
    }
    let acks = Acks::collect(run);
    for (shard, line) in run.timeline.shards.iter().enumerate() {
        let found = judge(shard, line, &acks);
        worst.grade = worst.grade.max(found.grade);
        worst.ms = worst.ms.max(found.ms);
        worst.divergent_writes += found.divergent_writes;
        worst.ack_window_ms = larger(worst.ack_window_ms, found.ack_window_ms);
    }
    worst
}

/// How many nodes were ever primary or writable.
fn contenders(line: &ShardLine) -> usize {
    let mut nodes: Vec<NodeIndex> = line.reigns.iter().map(|reign| reign.node).collect();
    nodes.extend(line.writable.iter().map(|hold| hold.node));
    nodes.sort_unstable();
    nodes.dedup();
    nodes.len()
}

fn larger(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

/// Acknowledged writes by shard and node, in order of invocation.
struct Acks {
    by_node: Vec<Vec<Vec<Ack>>>,
}

#[derive(Clone, Copy)]
struct Ack {
    operation: u32,
    invoked: SimTime,
    completed: Instant,
    lost: bool,
}

impl Acks {
    fn collect(run: &Run) -> Self {
        let nodes = run.records.topology.nodes.len();
        let mut by_node = vec![vec![Vec::new(); nodes]; run.shards];
        for (index, operation) in run.records.history.operations.iter().enumerate() {
            if let (Some(node), Some(completed), true) =
                (operation.answered_by, operation.completed, acknowledged_write(operation))
            {
                let (operation, invoked) = (index as u32, operation.invoked.at);
                let lost = run.survival[index] == Survival::Vanished;
                let shard = run.shard_of(&run.records.history.operations[index]);
                by_node[shard][node.0 as usize].push(Ack { operation, invoked, completed, lost });
            }
        }
        Acks { by_node }
    }

    /// Those of a node whose operation was invoked at `from` or later and before `until`.
    fn within(&self, shard: usize, node: NodeIndex, from: SimTime, until: SimTime) -> &[Ack] {
        let acks = &self.by_node[shard][node.0 as usize];
        let begin = acks.partition_point(|ack| ack.invoked < from);
        let end = acks.partition_point(|ack| ack.invoked < until);
        &acks[begin..end.max(begin)]
    }
}

fn judge(shard: usize, line: &ShardLine, acks: &Acks) -> SplitBrain {
    let reigns: Vec<Hold> =
        line.reigns.iter().map(|r| Hold { node: r.node, from: r.from, until: r.until }).collect();
    let roles = overlaps(&reigns);
    let writable = overlaps(&line.writable);
    let mut found = SplitBrain { grade: u8::from(!roles.is_empty()), ..SplitBrain::default() };
    if !writable.is_empty() {
        found.grade = 2;
        found.ms = ms(union(&writable));
    }
    let both_acked = writable.iter().any(|overlap| {
        let acked = |node| {
            let acks = acks.within(shard, node, overlap.from, overlap.until);
            acks.iter().any(|ack| ack.completed.at <= overlap.until)
        };
        acked(overlap.nodes.0) && acked(overlap.nodes.1)
    });
    found.ack_window_ms = ack_window(shard, line, acks);
    if both_acked || found.ack_window_ms.is_some() {
        found.grade = 3;
    }
    found.divergent_writes = divergent(shard, line, &writable, acks);
    if found.divergent_writes > 0 {
        found.grade = 4;
    }
    found
}

/// Two nodes at once.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Overlap {
    nodes: (NodeIndex, NodeIndex),
    from: SimTime,
    until: SimTime,
}

/// Every pair of holds of different nodes that share some time. The holds are sorted by their begin, so those that can
/// still overlap are few.
fn overlaps(holds: &[Hold]) -> Vec<Overlap> {
    let mut found = Vec::new();
    let mut open: Vec<Hold> = Vec::new();
    for hold in holds {
        open.retain(|earlier| earlier.until > hold.from);
        for earlier in open.iter().filter(|earlier| earlier.node != hold.node) {
            let until = earlier.until.min(hold.until);
            if hold.from < until {
                found.push(Overlap { nodes: (earlier.node, hold.node), from: hold.from, until });
            }
        }
        open.push(*hold);
    }
    found
}

/// The time that the overlaps cover together, in microseconds.
fn union(overlaps: &[Overlap]) -> u64 {
    let (mut covered, mut reached) = (0, SimTime(0));
    for overlap in overlaps {
        let from = overlap.from.max(reached);
        covered += overlap.until.0.saturating_sub(from.0);
        reached = reached.max(overlap.until);
    }
    covered
}

/// From the newer primary's first acknowledgement to the older one's last, if the older one acknowledged an
/// operation that was only invoked after the former. Newer is the higher epoch, or the later begin without epochs.
fn ack_window(shard: usize, line: &ShardLine, acks: &Acks) -> Option<f64> {
    let mut longest = None;
    for old in &line.reigns {
        for new in line.reigns.iter().filter(|new| new.node != old.node && is_newer(new, old)) {
            let firsts = acks.within(shard, new.node, new.from, new.until).iter().map(|ack| ack.completed);
            let Some(first) = firsts.min() else { continue };
            let after = SimTime(first.at.0 + 1).max(old.from);
            let late = acks.within(shard, old.node, after, old.until).iter().map(|ack| ack.completed);
            longest = larger(longest, late.max().map(|last| ms(last.at.0.saturating_sub(first.at.0))));
        }
    }
    longest
}

fn is_newer(new: &Reign, old: &Reign) -> bool {
    match (new.epoch, old.epoch) {
        (Some(new_epoch), Some(old_epoch)) if new_epoch != old_epoch => new_epoch > old_epoch,
        _ => new.from > old.from,
    }
}

/// Acknowledged writes off the surviving branch after the fork: lost ones that were invoked while another node was
/// writable too, or later by the same primary in the same go, where that other node acknowledged writes as well.
fn divergent(shard: usize, line: &ShardLine, overlaps: &[Overlap], acks: &Acks) -> u64 {
    let mut off_branch = Vec::new();
    for overlap in overlaps {
        for (node, other) in [overlap.nodes, (overlap.nodes.1, overlap.nodes.0)] {
            let until = line.writable.iter().filter(|hold| hold.node == node && hold.from <= overlap.from);
            let until = until.map(|hold| hold.until).max().unwrap_or(overlap.until);
            let theirs = acks.within(shard, other, overlap.from, SimTime(u64::MAX));
            if theirs.iter().any(|ack| !ack.lost) {
                let lost = acks.within(shard, node, overlap.from, until).iter().filter(|ack| ack.lost);
                off_branch.extend(lost.map(|ack| ack.operation));
            }
        }
    }
    off_branch.sort_unstable();
    off_branch.dedup();
    off_branch.len() as u64
}
