//! Names violations and finds the few operations that prove them. Runs only after a rule has failed, so it may take a
//! pass over the key for each question.

use super::columns::{Kind, Lane, OPEN};
use super::report::{Class, Finding};
use super::zones::Scratch;

/// The operations that set or saw a value, and the two that bound its zone.
struct Cluster {
    write: Option<usize>,
    /// Completed first.
    first: Option<usize>,
    /// Invoked last.
    last: Option<usize>,
    members: Vec<usize>,
}

/// The cluster of one value.
fn cluster(lane: &Lane<'_>, scratch: &Scratch, value: usize) -> Cluster {
    let dense = scratch.dense(lane);
    let mut members = Vec::new();
    for i in 0..lane.len() {
        let belongs = match lane.kind[i] {
            Kind::Read | Kind::Write => dense.a(i) == value,
            Kind::Cas => {
                let happened = lane.ret[i] != OPEN || scratch.cells[dense.a(i)].next == i as u32;
                happened && (dense.a(i) == value || dense.b(i) == value)
            }
            Kind::NotEqual | Kind::Aborted | Kind::Append | Kind::ReadList => false,
        };
        if belongs {
            members.push(i);
        }
    }
    let write = scratch.cells[value].writer().filter(|_| value != 0);
    bounds(lane, value == 0, write, members)
}

/// The clusters of a chain as one.
fn block(lane: &Lane<'_>, scratch: &Scratch, head: usize) -> Cluster {
    let mut whole = cluster(lane, scratch, head);
    let mut value = head;
    while scratch.cells[value].next != super::zones::NONE {
        value = scratch.dense(lane).b(scratch.cells[value].next as usize);
        whole.members.extend(cluster(lane, scratch, value).members);
    }
    whole.members.sort_unstable();
    whole.members.dedup();
    bounds(lane, head == 0, whole.write, whole.members)
}

fn bounds(lane: &Lane<'_>, initial: bool, write: Option<usize>, members: Vec<usize>) -> Cluster {
    let first = members.iter().copied().min_by_key(|&i| lane.ret[i]).filter(|_| !initial);
    let last = members.iter().copied().max_by_key(|&i| lane.inv[i]);
    Cluster { write, first, last, members }
}

/// Two blocks of which each must come before the other.
pub(super) fn overlap(lane: &Lane<'_>, scratch: &Scratch, a: usize, b: usize) -> Finding {
    contradiction(lane, block(lane, scratch, a), block(lane, scratch, b))
}

/// Two values of one chain of compare-and-sets, the earlier of which was seen too late.
pub(super) fn chain_order(lane: &Lane<'_>, scratch: &Scratch, earlier: usize, later: usize) -> Finding {
    let mut finding = contradiction(lane, cluster(lane, scratch, earlier), cluster(lane, scratch, later));
    finding.summary.push_str("; compare-and-sets lead from the one value to the other");
    finding
}

/// Sorts the two into older and newer by their writes, and tells what became of the newer.
fn contradiction(lane: &Lane<'_>, a: Cluster, b: Cluster) -> Finding {
    let written = |c: &Cluster| c.write.map_or(0, |w| lane.inv[w]);
    let (old, new) = if written(&a) <= written(&b) { (a, b) } else { (b, a) };
    let (class, summary) = name(lane, &old, &new);
    let stale = old.last.expect("a value in conflict has been seen");
    let mut core = Core::default();
    core.add(old.write, "sets the older value");
    core.add(old.first, "completed first of those that set or saw the older value");
    core.add(new.write, "sets the newer value");
    core.add(
        new.first,
        "completed first of those that set or saw the newer value, so it was there from then on",
    );
    core.add(new.last, "still met the newer value");
    core.add(Some(stale), "met the older value although the newer one had been there before it began");
    let staleness = new.first.map(|first| (first, stale));
    Finding { class, core: core.operations, summary, staleness }
}

fn name(lane: &Lane<'_>, old: &Cluster, new: &Cluster) -> (Class, String) {
    let only_written = new.members.iter().all(|&i| Some(i) == new.write);
    let acked = new.write.is_some_and(|w| lane.ret[w] != OPEN);
    let in_order = match (old.write, new.write) {
        (None, _) => true,
        (Some(a), Some(b)) => lane.ret[a] < lane.inv[b],
        (Some(_), None) => false,
    };
    if only_written && acked {
        let text =
            "a write was acknowledged, no operation ever met its value, and later ones met an older one";
        (Class::LostWrite, text.into())
    } else if in_order {
        (Class::StaleRead, "an operation met a value that had been replaced before it began".into())
    } else {
        (Class::FlipFlop, "two values took turns although each was written once".into())
    }
}

/// A value was seen before its write was invoked.
pub(super) fn future(lane: &Lane<'_>, scratch: &Scratch, value: usize) -> Finding {
    let c = cluster(lane, scratch, value);
    let mut core = Core::default();
    core.add(c.first, "met the value");
    core.add(c.write, "is the only one that sets it, and began later");
    core.finding(Class::FutureRead, "a value was seen before anybody asked to write it")
}

/// A value nobody wrote, or whose write certainly failed.
pub(super) fn phantom(lane: &Lane<'_>, scratch: &Scratch, value: usize) -> Finding {
    let dense = scratch.dense(lane);
    let c = cluster(lane, scratch, value);
    let aborted = (0..lane.len()).find(|&i| lane.kind[i] == Kind::Aborted && dense.a(i) == value);
    let mut core = Core::default();
    core.add(aborted, "would have set the value, but certainly failed");
    core.add(c.first.or(c.last), "met the value");
    match aborted {
        Some(_) => core.finding(Class::AbortedRead, "a value was seen whose only write certainly failed"),
        None => core.finding(Class::Phantom, "a value was seen that nobody wrote"),
    }
}

/// Two compare-and-sets from one value.
pub(super) fn fork(lane: &Lane<'_>, scratch: &Scratch, first: u32, second: u32) -> Finding {
    let dense = scratch.dense(lane);
    let mut core = Core::default();
    core.add(scratch.cells[dense.a(first as usize)].writer(), "set the value, once");
    for cas in [first, second] {
        core.add(Some(cas as usize), "replaced it");
        if lane.ret[cas as usize] == OPEN {
            let seen = cluster(lane, scratch, dense.b(cas as usize)).members;
            core.add(seen.into_iter().find(|&i| i != cas as usize), "shows that the one before happened");
        }
    }
    core.finding(Class::CasFork, "two compare-and-sets replaced one and the same value")
}

/// Values that came from compare-and-sets only, round in a circle.
pub(super) fn cycle(lane: &Lane<'_>, scratch: &Scratch) -> Finding {
    let dense = scratch.dense(lane);
    let cells = &scratch.cells;
    // From any value that no chain reaches, going back n times ends inside the circle.
    let mut reached = vec![false; cells.len()];
    for head in (0..cells.len()).filter(|&v| cells[v].seen() && !cells[v].by_cas()) {
        let mut v = head;
        loop {
            reached[v] = true;
            if cells[v].next == super::zones::NONE {
                break;
            }
            v = dense.b(cells[v].next as usize);
        }
    }
    let mut v = (0..cells.len()).find(|&v| cells[v].seen() && !reached[v]).expect("called for a circle");
    for _ in 0..cells.len() {
        v = dense.a(cells[v].writer().expect("values of a circle are written"));
    }
    let start = v;
    let mut core = Core::default();
    loop {
        let writer = cells[v].writer().expect("values of a circle are written");
        if core.operations.len() < CORE_MAX {
            core.add(Some(writer), "needs the value that the next one sets");
        }
        v = dense.a(writer);
        if v == start {
            break;
        }
    }
    core.finding(Class::CasCycle, "compare-and-sets each needed the result of another")
}

/// Operations in a core; more than this nobody checks by hand.
pub(super) const CORE_MAX: usize = 6;

/// Collects the operations of a core; one that plays two parts stays one operation.
#[derive(Default)]
pub(super) struct Core {
    operations: Vec<(usize, String)>,
}

impl Core {
    /// Adds an operation with its part.
    pub fn add(&mut self, operation: Option<usize>, part: &str) {
        let Some(i) = operation else { return };
        match self.operations.iter_mut().find(|(j, _)| *j == i) {
            Some((_, text)) => {
                text.push_str("; ");
                text.push_str(part);
            }
            None => self.operations.push((i, part.to_owned())),
        }
    }

    /// The finding these operations prove.
    pub fn finding(self, class: Class, summary: &str) -> Finding {
        Finding { class, core: self.operations, summary: summary.into(), staleness: None }
    }
}
