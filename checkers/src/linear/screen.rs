//! Registers whose values repeat: what can be refuted in linear time before any search.
//!
//! An operation that saw the value `v` at `[inv, ret]` needs a write of `v` that was invoked before `ret` and had not
//! surely been replaced before `inv`: no write of another value may lie wholly between the two. If every write of `v`
//! fails that, the history is not linearizable, whatever else is in it. The reverse does not hold, so "nothing found"
//! sends the key to the search.

use super::columns::{Kind, Lane, NIL, OPEN, Token};
use super::explain::Core;
use super::report::{Class, Finding};
use std::collections::BTreeMap;

/// A violation that shows without a search.
pub(super) fn check(lane: &Lane<'_>) -> Option<Finding> {
    let events = events(lane);
    let mut screen = Screen { lane, writes: BTreeMap::new(), barriers: [None; 2] };
    let mut barrier_at: Vec<[Option<Barrier>; 2]> = vec![[None; 2]; lane.len()];
    for event in events {
        let (i, is_return) = ((event >> 1) as usize, event & 1 == 1);
        if !is_return {
            barrier_at[i] = screen.barriers;
            if let Some(value) = sets(lane, i) {
                screen.begun(value, i);
            }
            continue;
        }
        let finding = sees(lane, i).and_then(|value| screen.judge(i, value, barrier_at[i]));
        if finding.is_some() {
            return finding;
        }
        if let Some(value) = sets(lane, i) {
            screen.replaced(value, i);
        }
    }
    None
}

/// All events in order: operation, and whether it is its completion.
fn events(lane: &Lane<'_>) -> Vec<u32> {
    let mut at = vec![u32::MAX; lane.events as usize + 1];
    for i in 0..lane.len() {
        at[lane.inv[i] as usize] = (i as u32) << 1;
        if lane.ret[i] != OPEN {
            at[lane.ret[i] as usize] = (i as u32) << 1 | 1;
        }
    }
    at.retain(|&e| e != u32::MAX);
    at
}

/// The value the operation puts in place. A compare-and-set from a value to itself only meets it.
fn sets(lane: &Lane<'_>, i: usize) -> Option<Token> {
    match lane.kind[i] {
        Kind::Write => Some(lane.a[i]),
        Kind::Cas if lane.a[i] != lane.b[i] => Some(lane.b[i]),
        _ => None,
    }
}

fn sees(lane: &Lane<'_>, i: usize) -> Option<Token> {
    matches!(lane.kind[i], Kind::Read | Kind::Cas).then(|| lane.a[i])
}

/// A completed write: who, what, when it began.
type Barrier = (usize, Token, u32);

struct Screen<'a> {
    lane: &'a Lane<'a>,
    /// For each value, of its writes invoked so far the one that completes last.
    writes: BTreeMap<Token, usize>,
    /// Of the writes completed so far the one that began last, and the one of another value that began last.
    barriers: [Option<Barrier>; 2],
}

impl Screen<'_> {
    fn begun(&mut self, value: Token, i: usize) {
        let latest = self.writes.entry(value).or_insert(i);
        if self.lane.ret[i] > self.lane.ret[*latest] {
            *latest = i;
        }
    }

    fn replaced(&mut self, value: Token, i: usize) {
        let new = (i, value, self.lane.inv[i]);
        let later = |slot: &Option<Barrier>| slot.is_none_or(|b| b.2 < new.2);
        match self.barriers {
            [Some(first), _] if first.1 == value => {
                self.barriers[0] = Some(if first.2 < new.2 { new } else { first });
            }
            [first, _] if later(&self.barriers[0]) => self.barriers = [Some(new), first],
            [_, second] if later(&second) => self.barriers[1] = Some(new),
            _ => {}
        }
    }

    /// Whether the operation could see the value, given what had been replaced when it began.
    fn judge(&self, i: usize, value: Token, barriers: [Option<Barrier>; 2]) -> Option<Finding> {
        let barrier = barriers.into_iter().flatten().find(|b| b.1 != value);
        let write = self.writes.get(&value).copied();
        match (write, barrier) {
            (None, None) if value == NIL => None,
            (None, _) if value != NIL => Some(self.unwritten(i, value)),
            (Some(w), Some(b)) if self.lane.ret[w] < b.2 => Some(self.stale(i, Some(w), b)),
            (None, Some(b)) => Some(self.stale(i, None, b)),
            _ => None,
        }
    }

    fn stale(&self, i: usize, write: Option<usize>, barrier: Barrier) -> Finding {
        let mut core = Core::default();
        core.add(write, "sets the older value, the last to do so before it was seen");
        core.add(Some(barrier.0), "replaced it: began after that write had completed");
        core.add(Some(i), "met the older value although it began after the other write had completed");
        let mut finding =
            core.finding(Class::StaleRead, "an operation met a value that had been replaced before it began");
        finding.staleness = Some((barrier.0, i));
        finding
    }

    fn unwritten(&self, i: usize, value: Token) -> Finding {
        let lane = self.lane;
        let writer =
            |kind: Kind| (0..lane.len()).find(|&w| w != i && lane.kind[w] == kind && is(lane, w, value));
        let mut core = Core::default();
        core.add(Some(i), "met the value");
        if let Some(later) = writer(Kind::Write).or(writer(Kind::Cas)) {
            core.add(Some(later), "is the first to set it, and began later");
            return core.finding(Class::FutureRead, "a value was seen before anybody asked to write it");
        }
        match writer(Kind::Aborted) {
            Some(aborted) => {
                core.add(Some(aborted), "would have set the value, but certainly failed");
                core.finding(Class::AbortedRead, "a value was seen whose only write certainly failed")
            }
            None => core.finding(Class::Phantom, "a value was seen that nobody wrote"),
        }
    }
}

fn is(lane: &Lane<'_>, w: usize, value: Token) -> bool {
    sets(lane, w).unwrap_or(lane.a[w]) == value
}
