//! Negative observations on a register with unique values: a compare-and-set was refused, so the value was not what it
//! expected, and nobody said what it was instead.
//!
//! No polynomial rule is known for these, so this is a pair of tactics; what they leave open goes to the search.
//! 1. If the refused operation lies inside its value's forward zone, the value was there all the time: violation.
//! 2. Otherwise an order is built from the zones in which every value begins as late as it can, and is mended from left
//!    to right: where a refusal finds its value still there, the next value is made to begin earlier, or a later one is
//!    moved forward, or an unknown write that nobody saw is put to use. If that succeeds the order is a proof.

use super::columns::{Kind, Lane, OPEN};
use super::explain::Core;
use super::report::{Class, Finding};
use super::zones::{NONE, Scratch};

/// What the tactics found.
pub(super) enum Negatives {
    /// An order exists.
    Holds,
    /// None does.
    Violated(Finding),
    /// Neither was shown.
    Open,
}

/// How many later blocks are considered when one has to be moved forward.
const REACH: usize = 128;

/// Judges the refusals of a key that [`super::zones::check`] has found linearizable without them.
pub(super) fn check(lane: &Lane<'_>, scratch: &Scratch) -> Negatives {
    if let Some(finding) = refuted(lane, scratch) {
        return Negatives::Violated(finding);
    }
    for early in [false, true] {
        if Schedule::new(lane, scratch, early).is_some_and(|mut s| s.mend()) {
            return Negatives::Holds;
        }
    }
    Negatives::Open
}

/// A refusal inside the forward zone of the value it expected.
fn refuted(lane: &Lane<'_>, scratch: &Scratch) -> Option<Finding> {
    let dense = scratch.dense(lane);
    let refused = (0..lane.len()).find(|&i| {
        let cell = &scratch.cells[dense.a(i)];
        lane.kind[i] == Kind::NotEqual && cell.f < lane.inv[i] && lane.ret[i] < cell.s
    })?;
    let value = dense.a(refused);
    let sees = |i: usize| match lane.kind[i] {
        Kind::Read | Kind::Write => dense.a(i) == value,
        Kind::Cas => dense.a(i) == value || dense.b(i) == value,
        _ => false,
    };
    let before = (0..lane.len()).find(|&i| sees(i) && lane.ret[i] < lane.inv[refused]);
    let after = (0..lane.len()).rev().find(|&i| sees(i) && lane.inv[i] > lane.ret[refused]);
    let mut core = Core::default();
    core.add(scratch.cells[value].writer().filter(|_| value != 0), "sets the value, once");
    core.add(before, "shows that it was there before");
    core.add(Some(refused), "was refused because it was not there");
    core.add(after, "shows that it was there afterwards");
    Some(core.finding(Class::FalseMismatch, "a compare-and-set was refused although its value was there"))
}

/// One value in the order.
#[derive(Clone, Copy)]
struct Place {
    value: u32,
    f: u32,
    s: u32,
    /// Invocation of its write.
    written: u32,
    /// Whether it must directly follow the place before.
    chained: bool,
}

/// An order of all values, mended from left to right. A value begins in a *gap*: gap `g` lies between positions `g` and
/// `g + 1`. Several things may happen in one gap, in any order.
struct Schedule<'a> {
    lane: &'a Lane<'a>,
    places: Vec<Place>,
    /// Latest gap in which each place may begin.
    latest: Vec<u32>,
    /// Refusals of each value: (value, inv, ret), sorted.
    refusals: Vec<(u32, u32, u32)>,
    /// Unknown writes nobody saw: when invoked; sorted; each can be used once.
    spare_writes: Vec<u32>,
    spares_used: usize,
    /// Unknown compare-and-sets nobody saw: (expected value, inv), sorted.
    spare_cas: Vec<(u32, u32)>,
}

impl<'a> Schedule<'a> {
    fn new(lane: &'a Lane<'a>, scratch: &Scratch, early: bool) -> Option<Self> {
        let dense = scratch.dense(lane);
        let cells = &scratch.cells;
        let mut schedule = Schedule {
            lane,
            places: in_order(lane, scratch, early),
            latest: Vec::new(),
            refusals: Vec::new(),
            spare_writes: Vec::new(),
            spares_used: 0,
            spare_cas: Vec::new(),
        };
        let mut refused = vec![false; cells.len()];
        for i in 0..lane.len() {
            let value = dense.a(i);
            if lane.kind[i] == Kind::NotEqual {
                refused[value] = true;
                // A value that was never in force refutes nobody.
                if cells[value].seen() {
                    schedule.refusals.push((value as u32, lane.inv[i], lane.ret[i]));
                }
            }
        }
        for i in (0..lane.len()).filter(|&i| lane.ret[i] == OPEN) {
            match lane.kind[i] {
                Kind::Write if !cells[dense.a(i)].seen() && !refused[dense.a(i)] => {
                    schedule.spare_writes.push(lane.inv[i]);
                }
                Kind::Cas if !cells[dense.b(i)].seen() && !refused[dense.b(i)] => {
                    schedule.spare_cas.push((dense.a(i) as u32, lane.inv[i]));
                }
                _ => {}
            }
        }
        schedule.refusals.sort_unstable();
        schedule.spare_cas.sort_unstable();
        schedule.latest = latest(&schedule.places);
        schedule.is_order().then_some(schedule)
    }

    /// Whether every value can begin at its latest: after all that must come before it.
    fn is_order(&self) -> bool {
        let mut before = 0;
        self.places.iter().zip(&self.latest).all(|(place, &latest)| {
            let ok = before.max(place.written) <= latest;
            before = before.max(place.s);
            ok
        })
    }

    /// Gives every refusal a place; false if that failed.
    fn mend(&mut self) -> bool {
        let mut begins = 0;
        // Invocations that precede the end of the value at hand.
        let mut before = 0;
        for j in 0..self.places.len() {
            let place = self.places[j];
            before = before.max(place.s);
            begins = if j == 0 { 0 } else { self.latest[j].max(begins) };
            let Some(deadline) = self.deadline(place.value, begins, j == 0) else { continue };
            let next = self.latest.get(j + 1).copied();
            if next.is_some_and(|n| n <= deadline) {
                continue;
            }
            if before > deadline || !self.end_by(j, (before, begins), deadline, place.value) {
                return false;
            }
        }
        true
    }

    /// The last gap in which the value, which begins in gap `begins`, may end so that all its refusals are right.
    fn deadline(&self, value: u32, begins: u32, initial: bool) -> Option<u32> {
        let from = self.refusals.partition_point(|r| r.0 < value);
        let own = self.refusals[from..].iter().take_while(|r| r.0 == value);
        own.filter(|r| initial || r.1 > begins).map(|r| r.2 - 1).min()
    }

    /// Makes the value at place `j` end at the latest in gap `deadline`.
    fn end_by(&mut self, j: usize, from: (u32, u32), deadline: u32, value: u32) -> bool {
        if let Some(next) = self.places.get(j + 1) {
            if next.written <= deadline {
                self.latest[j + 1] = deadline;
                return true;
            }
            if next.chained {
                return false;
            }
        }
        self.pull_forward(j, from, deadline)
            || self.use_spare_cas(value, deadline)
            || self.use_spare_write(deadline)
    }

    /// Moves a later block to directly after place `j`. `from` is the last invocation that must come before what
    /// follows `j`, and the gap in which `j` begins.
    fn pull_forward(&mut self, j: usize, from: (u32, u32), deadline: u32) -> bool {
        // First completion among the places that would be overtaken.
        let mut overtaken = OPEN;
        let mut start = j + 1;
        while start < self.places.len() && start <= j + REACH {
            let end = self.block_end(start);
            let block = &self.places[start..end];
            let last_seen = block.iter().map(|p| p.s).max().unwrap_or(0);
            let possible = start > j + 1
                && block[0].written <= deadline
                && last_seen < overtaken
                && self.fits(j, (start, end), from, deadline);
            if possible {
                self.places[j + 1..end].rotate_right(end - start);
                self.relax(j + 1, end);
                self.latest[j + 1] = self.latest[j + 1].min(deadline);
                return true;
            }
            overtaken = block.iter().map(|p| p.f).min().unwrap_or(OPEN).min(overtaken);
            start = end;
        }
        false
    }

    /// Whether the places are still an order once `start..end` stands behind place `j`.
    fn fits(&self, j: usize, (start, end): (usize, usize), from: (u32, u32), deadline: u32) -> bool {
        let moved = &self.places[start..end];
        let passed = &self.places[j + 1..start];
        let (mut before, mut gap) = from;
        for (n, place) in moved.iter().chain(passed).enumerate() {
            let begins = before.max(place.written).max(gap);
            if begins >= place.f || (n == 0 && begins > deadline) {
                return false;
            }
            gap = begins;
            before = before.max(place.s);
        }
        let next = self.places.get(end).zip(self.latest.get(end));
        next.is_none_or(|(next, &latest)| before.max(next.written).max(gap) <= latest)
    }

    /// First place after the chain that begins at `start`.
    fn block_end(&self, start: usize) -> usize {
        let rest = &self.places[start + 1..];
        start + 1 + rest.iter().take_while(|p| p.chained).count()
    }

    /// Computes the latest beginnings of `from..to` again.
    fn relax(&mut self, from: usize, to: usize) {
        let mut bound = self.latest.get(to).copied().unwrap_or(self.lane.events);
        for k in (from..to).rev() {
            bound = bound.min(self.places[k].f - 1);
            self.latest[k] = bound;
        }
    }

    fn use_spare_cas(&mut self, value: u32, deadline: u32) -> bool {
        let at = self.spare_cas.partition_point(|s| s.0 < value);
        self.spare_cas.get(at).is_some_and(|&(v, inv)| v == value && inv <= deadline)
    }

    /// Spare writes are interchangeable, so the one invoked first is used first.
    fn use_spare_write(&mut self, deadline: u32) -> bool {
        let free = self.spare_writes.get(self.spares_used).is_some_and(|&inv| inv <= deadline);
        self.spares_used += usize::from(free);
        free
    }
}

/// The latest gap in which each place may begin: before its own first completion and no later than what follows.
fn latest(places: &[Place]) -> Vec<u32> {
    let mut bound = OPEN;
    let mut latest: Vec<u32> = places
        .iter()
        .rev()
        .map(|place| {
            bound = bound.min(place.f.saturating_sub(1));
            bound
        })
        .collect();
    latest.reverse();
    latest
}

/// All values in force at some time, chain by chain, in an order that the zones allow. A block with a forward zone
/// stands at its beginning; one with a backward zone at the latest (or earliest) instant outside all forward zones.
fn in_order(lane: &Lane<'_>, scratch: &Scratch, early: bool) -> Vec<Place> {
    let dense = scratch.dense(lane);
    let cells = &scratch.cells;
    let heads: Vec<(u32, u32, usize)> = (0..cells.len())
        .filter(|&v| cells[v].seen() && !cells[v].by_cas())
        .map(|v| {
            let (f, s) = scratch.blocks.get(v).copied().unwrap_or((cells[v].f, cells[v].s));
            (f, s, v)
        })
        .collect();
    let mut forward: Vec<(u32, u32)> = heads.iter().filter(|h| h.0 < h.1).map(|h| (h.0, h.1)).collect();
    forward.sort_unstable();
    let covering = |at: u32| {
        let n = forward.partition_point(|z| z.0 < at);
        n.checked_sub(1).map(|n| forward[n]).filter(|z| at < z.1)
    };
    let mut keyed: Vec<(u32, u8, u32, usize)> = heads
        .into_iter()
        .map(|(f, s, v)| {
            if v == 0 {
                return (0, 0, 0, v);
            }
            let (at, rank) = match (f < s, early) {
                (true, _) => (f, 1),
                (false, false) => covering(f).map_or((f, 0), |z| (z.0, 0)),
                (false, true) => covering(s).map_or((s, 0), |z| (z.1, 2)),
            };
            (at, rank, f, v)
        })
        .collect();
    keyed.sort_unstable();
    let mut places = Vec::with_capacity(keyed.len());
    for (_, _, _, head) in keyed {
        let mut v = head;
        loop {
            let cell = &cells[v];
            let written = if v == 0 { 0 } else { cell.writer().map_or(0, |w| lane.inv[w]) };
            places.push(Place { value: v as u32, f: cell.f, s: cell.s, written, chained: v != head });
            if cell.next == NONE {
                break;
            }
            v = dense.b(cell.next as usize);
        }
    }
    places
}
