//! Registers whose written values are unique: linear time, whatever the number of unknown outcomes.
//!
//! The idea is of Gibbons and Korach ("Testing shared memories", SIAM J. Computing 26(4), 1997), in the form of zones
//! (Golab, Li, Shah, "Analyzing consistency properties for fun and profit", PODC 2011). All operations that set or saw
//! one value are its *cluster*; `f` is the first completion in it, `s` the last invocation. If `f < s` the value was
//! surely in force all through `[f, s]` (a forward zone); else one instant inside `[s, f]` is enough (a backward zone).
//!
//! ```text
//! holds:     w1 |----|                    violated:  w1 |----|
//!            w2        |-----|                       w2        |----|
//!            r=1          |------|                   r=1                |----|   f(1) < s(2) and f(2) < s(1)
//! ```
//!
//! The history is linearizable exactly if no two clusters `A`, `B` have `f(A) < s(B)` and `f(B) < s(A)`.
//! Ours on top of that:
//! - an unknown write counts if somebody saw its value, and never happened otherwise; an unknown read says nothing;
//! - a compare-and-set from `a` to `b` is the last member of `a`'s cluster and the write of `b`'s, so clusters form
//!   chains, and a chain behaves like one cluster once its inside is in order;
//! - an unknown compare-and-set happened exactly if its value was seen, by a read or by another that happened.
//!
//! Events are numbered in order of time, so one sweep over positions does it: no sort, 16 bytes a value and 4 an event.

use super::columns::{Kind, Lane, NIL, OPEN, Token, mix};
use super::explain;
use super::report::Finding;

/// No operation, no value.
pub(super) const NONE: u32 = u32::MAX;

/// Set in [`Cell::writer`] if the writer is a compare-and-set.
const BY_CAS: u32 = 1 << 31;

/// What is known of one value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    /// First completion in the cluster; [`OPEN`] if nobody has surely seen the value.
    pub f: u32,
    /// Last invocation in the cluster.
    pub s: u32,
    /// The operation that wrote it, or [`NONE`].
    writer: u32,
    /// The compare-and-set that replaced it, or [`NONE`].
    pub next: u32,
}

impl Cell {
    const EMPTY: Cell = Cell { f: OPEN, s: 0, writer: NONE, next: NONE };

    /// The operation that wrote the value, if any did.
    pub fn writer(&self) -> Option<usize> {
        (self.writer != NONE).then_some((self.writer & !BY_CAS) as usize)
    }

    /// Whether the value came from a compare-and-set.
    pub fn by_cas(&self) -> bool {
        self.writer != NONE && self.writer & BY_CAS != 0
    }

    /// Whether the value was in force at some time, as far as anybody can tell.
    pub fn seen(&self) -> bool {
        self.f != OPEN || self.next != NONE
    }
}

/// What the rules can say of a key.
#[derive(Debug)]
pub(super) enum Decision {
    /// There is an order.
    Holds,
    /// There is none.
    Violated(Finding),
    /// Linearizable but for its negative observations ([`Kind::NotEqual`]), which these rules do not read.
    Negatives,
    /// Not for these rules: a value was written twice, or the key is no register.
    Repeated,
}

/// Buffers that are used again from key to key.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub cells: Vec<Cell>,
    at: Vec<u32>,
    /// Chains as blocks, by the value at their head; used only where there is a compare-and-set.
    pub blocks: Vec<(u32, u32)>,
    unknown_cas: Vec<u32>,
    table: Vec<(Token, u32)>,
    a: Vec<Token>,
    b: Vec<Token>,
    /// Token of dense value 1, if values are tokens less a constant.
    base: Token,
    remapped: bool,
}

impl Scratch {
    /// The lane with values numbered densely: 0 is [`NIL`].
    pub fn dense<'a>(&'a self, lane: &Lane<'a>) -> Dense<'a> {
        if self.remapped {
            Dense { a: &self.a, b: &self.b, base: 1 }
        } else {
            Dense { a: lane.a, b: lane.b, base: self.base }
        }
    }
}

/// Arguments as dense numbers.
#[derive(Clone, Copy)]
pub(super) struct Dense<'a> {
    a: &'a [Token],
    b: &'a [Token],
    base: Token,
}

impl Dense<'_> {
    /// First argument of operation `i`.
    #[inline]
    pub fn a(&self, i: usize) -> usize {
        self.a[i].saturating_sub(self.base - 1) as usize
    }

    /// Second argument of operation `i`.
    #[inline]
    pub fn b(&self, i: usize) -> usize {
        self.b[i].saturating_sub(self.base - 1) as usize
    }
}

/// Decides a key by the rules above.
pub(super) fn check(lane: &Lane<'_>, scratch: &mut Scratch) -> Decision {
    number_values(lane, scratch);
    let mut negatives = false;
    let mut forks = None;
    match collect(lane, scratch, &mut negatives, &mut forks) {
        Collected::Repeated => return Decision::Repeated,
        Collected::Future(value) => return Decision::Violated(explain::future(lane, scratch, value)),
        Collected::Clusters { cas } => {
            if let Some((first, second)) = forks.or_else(|| settle_unknown_cas(lane, scratch)) {
                return Decision::Violated(explain::fork(lane, scratch, first, second));
            }
            if let Some(value) = phantom(scratch) {
                return Decision::Violated(explain::phantom(lane, scratch, value));
            }
            let conflict = if cas { chains(lane, scratch) } else { singles(lane, scratch) };
            if let Some(finding) = conflict {
                return Decision::Violated(finding);
            }
        }
    }
    if negatives { Decision::Negatives } else { Decision::Holds }
}

/// Chooses how values become indices of [`Scratch::cells`], and clears the cells.
fn number_values(lane: &Lane<'_>, scratch: &mut Scratch) {
    // NIL wraps around to the largest number, so that the minimum leaves it out.
    let (mut low, mut high) = (u32::MAX, 0);
    for (&a, &b) in lane.a.iter().zip(lane.b) {
        low = low.min(a.wrapping_sub(1)).min(b.wrapping_sub(1));
        high = high.max(a).max(b);
    }
    let span = if low == u32::MAX { 0 } else { (high - low) as usize };
    scratch.remapped = span > 2 * lane.len() + 64;
    scratch.base = if low == u32::MAX { 1 } else { low + 1 };
    let values = if scratch.remapped { remap(lane, scratch) } else { span + 1 };
    scratch.cells.clear();
    scratch.cells.resize(values, Cell::EMPTY);
    scratch.cells[0] = Cell { f: 0, ..Cell::EMPTY };
}

/// Numbers the values of the key in order of appearance; returns how many there are.
fn remap(lane: &Lane<'_>, scratch: &mut Scratch) -> usize {
    let size = (4 * lane.len()).next_power_of_two();
    scratch.table.clear();
    scratch.table.resize(size, (NIL, 0));
    let table = &mut scratch.table;
    let mut values = 1;
    let mut number = |token: Token| {
        if token == NIL {
            return NIL;
        }
        let mut at = mix(u64::from(token)) as usize & (size - 1);
        loop {
            let (found, dense) = table[at];
            if found == token {
                return dense;
            }
            if found == NIL {
                table[at] = (token, values);
                values += 1;
                return values - 1;
            }
            at = (at + 1) & (size - 1);
        }
    };
    scratch.a.clear();
    scratch.b.clear();
    for (&a, &b) in lane.a.iter().zip(lane.b) {
        scratch.a.push(number(a));
        scratch.b.push(number(b));
    }
    values as usize
}

enum Collected {
    Repeated,
    /// A read of this value completed before its write was invoked.
    Future(usize),
    Clusters {
        cas: bool,
    },
}

/// One pass over the operations: every value's cluster.
fn collect(
    lane: &Lane<'_>,
    scratch: &mut Scratch,
    negatives: &mut bool,
    fork: &mut Option<(u32, u32)>,
) -> Collected {
    let mut cells = std::mem::take(&mut scratch.cells);
    let mut unknown_cas = std::mem::take(&mut scratch.unknown_cas);
    unknown_cas.clear();
    let dense = scratch.dense(lane);
    let mut future = None;
    let mut cas = false;
    let mut repeated = false;
    for i in 0..lane.len() {
        let (inv, ret) = (lane.inv[i], lane.ret[i]);
        match lane.kind[i] {
            // One path for both: which of them comes next cannot be foreseen, and a wrong guess costs more than this.
            kind @ (Kind::Read | Kind::Write) => {
                let (value, writes) = (dense.a(i), kind == Kind::Write);
                let cell = &mut cells[value];
                repeated |= writes & ((value == 0) | (cell.writer != NONE));
                if writes & (cell.f < inv) {
                    future = Some(value);
                }
                cell.writer = if writes { i as u32 } else { cell.writer };
                see(cell, inv, ret);
            }
            Kind::Cas => {
                cas = true;
                let (from, to) = (dense.a(i), dense.b(i));
                repeated |= to == 0 || from == to;
                write(&mut cells[to], i as u32 | BY_CAS, inv, ret, &mut repeated, || future = Some(to));
                if ret == OPEN {
                    unknown_cas.push(i as u32);
                } else {
                    let cell = &mut cells[from];
                    see(cell, inv, ret);
                    if cell.next != NONE && fork.is_none() {
                        *fork = Some((cell.next, i as u32));
                    }
                    cell.next = i as u32;
                }
            }
            Kind::NotEqual => *negatives = true,
            Kind::Aborted => {}
            Kind::Append | Kind::ReadList => repeated = true,
        }
        if repeated {
            break;
        }
    }
    scratch.cells = cells;
    scratch.unknown_cas = unknown_cas;
    match future {
        _ if repeated => Collected::Repeated,
        Some(value) => Collected::Future(value),
        None => Collected::Clusters { cas },
    }
}

#[inline]
fn see(cell: &mut Cell, inv: u32, ret: u32) {
    cell.f = cell.f.min(ret);
    cell.s = cell.s.max(inv);
}

/// The write of a value joins its cluster. Reads of it that were invoked earlier are there already.
#[inline]
fn write(cell: &mut Cell, writer: u32, inv: u32, ret: u32, repeated: &mut bool, future: impl FnOnce()) {
    if cell.writer != NONE {
        *repeated = true;
    }
    if cell.f < inv {
        future();
    }
    cell.writer = writer;
    see(cell, inv, ret);
}

/// Unknown compare-and-sets that somebody saw did happen; those that nobody saw are forgotten. Returns a fork, if that
/// makes two successes from one value.
fn settle_unknown_cas(lane: &Lane<'_>, scratch: &mut Scratch) -> Option<(u32, u32)> {
    let mut cells = std::mem::take(&mut scratch.cells);
    let dense = scratch.dense(lane);
    let mut fork = None;
    let mut work: Vec<u32> =
        scratch.unknown_cas.iter().copied().filter(|&i| cells[dense.b(i as usize)].seen()).collect();
    while let Some(i) = work.pop() {
        let from = &mut cells[dense.a(i as usize)];
        let known = from.seen();
        if from.next != NONE && from.next != i {
            fork = fork.or(Some((from.next.min(i), from.next.max(i))));
        }
        from.next = i;
        from.s = from.s.max(lane.inv[i as usize]);
        if !known && from.by_cas() {
            work.extend(from.writer().map(|w| w as u32));
        }
    }
    scratch.cells = cells;
    fork
}

/// A value that was seen and that nobody wrote.
fn phantom(scratch: &Scratch) -> Option<usize> {
    (1..scratch.cells.len()).find(|&v| scratch.cells[v].seen() && scratch.cells[v].writer == NONE)
}

/// No compare-and-set: every cluster stands alone.
fn singles(lane: &Lane<'_>, scratch: &mut Scratch) -> Option<Finding> {
    scratch.blocks.clear();
    let at = fresh(&mut scratch.at, lane.events);
    for (v, cell) in scratch.cells.iter().enumerate() {
        if cell.f != OPEN {
            at[cell.f as usize] = v as u32;
        }
    }
    let cells = &scratch.cells;
    let (a, b) = sweep(&scratch.at, |v| (cells[v].f, cells[v].s))?;
    Some(explain::overlap(lane, scratch, a, b))
}

/// With compare-and-set: the inside of each chain first, then chains against each other.
fn chains(lane: &Lane<'_>, scratch: &mut Scratch) -> Option<Finding> {
    let cells = std::mem::take(&mut scratch.cells);
    let mut blocks = std::mem::take(&mut scratch.blocks);
    blocks.clear();
    blocks.resize(cells.len(), (OPEN, 0));
    let mut at = std::mem::take(&mut scratch.at);
    fresh(&mut at, lane.events);
    let mut inside = None;
    let mut in_chains = 0;
    for head in 0..cells.len() {
        if cells[head].seen() && !cells[head].by_cas() {
            let (block, conflict, length) = walk(&cells, head, scratch.dense(lane));
            inside = inside.or(conflict);
            in_chains += length;
            blocks[head] = block;
            at[block.0 as usize] = head as u32;
        }
    }
    let seen = cells.iter().filter(|c| c.seen()).count();
    scratch.cells = cells;
    scratch.blocks = blocks;
    scratch.at = at;
    if let Some((earlier, later)) = inside {
        return Some(explain::chain_order(lane, scratch, earlier, later));
    }
    if in_chains < seen {
        return Some(explain::cycle(lane, scratch));
    }
    let (a, b) = sweep(&scratch.at, |v| scratch.blocks[v])?;
    Some(explain::overlap(lane, scratch, a, b))
}

/// Follows a chain from its head: its `(f, s)`, two of its values that are in the wrong order, its length.
fn walk(cells: &[Cell], head: usize, dense: Dense<'_>) -> ((u32, u32), Option<(usize, usize)>, usize) {
    let (mut f, mut s, mut last) = (OPEN, 0, head);
    let mut conflict = None;
    let mut length = 0;
    let mut v = head;
    loop {
        let cell = &cells[v];
        length += 1;
        if cell.f < s && conflict.is_none() {
            conflict = Some((last, v));
        }
        if cell.s > s {
            (s, last) = (cell.s, v);
        }
        f = f.min(cell.f);
        if cell.next == NONE {
            return ((f, s), conflict, length);
        }
        v = dense.b(cell.next as usize);
    }
}

/// Two blocks that must each come before the other. Blocks arrive in order of `f`; at any time at most one forward
/// zone is open, because two that overlap are already a violation.
fn sweep(at: &[u32], zone: impl Fn(usize) -> (u32, u32)) -> Option<(usize, usize)> {
    let (mut open, mut open_f, mut open_s) = (0, 0, 0);
    for &v in at {
        if v == NONE {
            continue;
        }
        let (f, s) = zone(v as usize);
        if open_s > f && open_f < s && open != v as usize {
            return Some((open, v as usize));
        }
        if s > f && s > open_s {
            (open, open_f, open_s) = (v as usize, f, s);
        }
    }
    None
}

fn fresh(at: &mut Vec<u32>, events: u32) -> &mut [u32] {
    at.clear();
    at.resize(events as usize + 1, NONE);
    at
}
