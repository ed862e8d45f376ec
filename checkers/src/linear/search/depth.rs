//! Depth-first search for an order.
//!
//! A configuration is the set of operations placed so far, the number used of each class of unknown ones, and the state.
//! Operations that have not been placed stand in a linked list of their events in order of time; those invoked before
//! the first completion in the list may come next. Placing one takes its two events out, going back puts them in again.
//! Configurations that were met before are not entered twice; they are remembered by a 128-bit fingerprint, kept up to
//! date in constant time a step.
//!
//! An operation that cannot change the state (a read, a refused compare-and-set) is placed as soon as it is possible and
//! never reconsidered: whatever order could follow without it can follow with it. This is *not* true of a write of the
//! value that is already there, which an order may need later.

use super::super::columns::mix;
use super::machine::Machine;
use super::{Answer, Found, Problem, Step};

/// Configurations remembered at most: half a gigabyte with the table's slack.
const MEMORY_MAX: usize = 1 << 23;

/// Moves listed at once, over all frames, at most: a quarter of a gigabyte.
const MOVES_MAX: usize = 1 << 26;

/// Looking at so many operations that may come next costs a step, so that a step is about as dear however many clients
/// there are.
const LOOKS_A_STEP: u64 = 8;

/// Set in an event's owner if it is the completion.
const RETURN: u32 = 1 << 31;

/// Set in a move if it uses a class of unknown operations.
const CLASS: u32 = 1 << 31;

/// The move of the root, which placed nothing.
const ROOT: u32 = u32::MAX;

/// Searches for an order, up to this number of steps. Each attempt tries operations in another order: a search that
/// took a wrong turn early may need ages to come back to it, and starting again is cheaper.
pub(in super::super) fn search(
    problem: &Problem,
    machine: &mut impl Machine,
    budget: u64,
    attempt: u32,
) -> Answer {
    Depth::new(problem, machine, attempt).run(budget)
}

/// An order, if one is found within this number of steps: operations of the lane, unknown ones that did not happen left
/// out.
pub(in super::super) fn order(
    problem: &Problem,
    machine: &mut impl Machine,
    budget: u64,
) -> Option<Vec<u32>> {
    let mut left = budget;
    for attempt in 0.. {
        let mut depth = Depth::new(problem, machine, attempt);
        let answer = depth.run_on(left.min(1 << (12 + 2 * attempt.min(20))));
        match answer.found {
            Found::Order => return Some(depth.placed_order()),
            Found::Nothing { .. } => return None,
            Found::Exhausted { .. } => left = left.saturating_sub(answer.steps),
        }
        if left == 0 {
            return None;
        }
    }
    None
}

/// How far, in events, an operation may be moved in the order of trying by an attempt after the first.
const SHUFFLE: u64 = 32;

/// How many events ahead the next read is looked for.
const LOOK_AHEAD: usize = 256;

struct Frame {
    /// What was placed to get here: an operation, a class, or nothing.
    entered_by: u32,
    /// The state before that.
    before: u32,
    /// How many eager operations had been placed before that.
    eager_from: u32,
    /// Where its moves begin.
    moves_from: u32,
    /// The next move to try.
    cursor: u32,
}

struct Depth<'a, M> {
    problem: &'a Problem,
    machine: &'a mut M,
    /// Linked list over positions; 0 is the head, `end` the tail.
    next: Vec<u32>,
    prev: Vec<u32>,
    owner: Vec<u32>,
    end: u32,
    used: Vec<u32>,
    state: u32,
    fingerprint: u128,
    visited: super::table::Fingerprints,
    frames: Vec<Frame>,
    eager: Vec<u32>,
    attempt: u32,
    /// What each frame may do next, frame by frame.
    moves: Vec<u32>,
    /// (rank, move): a buffer.
    ranked: Vec<(u64, u32)>,
    /// Operations that are open and cannot come next; a buffer.
    blocked: Vec<Step>,
    placed: usize,
    furthest: (usize, u32),
    /// Operations looked at that have not been paid for in steps.
    looks: u64,
}

impl<'a, M: Machine> Depth<'a, M> {
    fn new(problem: &'a Problem, machine: &'a mut M, attempt: u32) -> Self {
        let end = problem.events + 1;
        let mut owner = vec![u32::MAX; end as usize + 1];
        for (i, (&inv, &ret)) in problem.inv.iter().zip(&problem.ret).enumerate() {
            owner[inv as usize] = i as u32;
            owner[ret as usize] = i as u32 | RETURN;
        }
        let (mut next, mut prev) = (vec![0; end as usize + 1], vec![0; end as usize + 1]);
        let mut last = 0;
        for at in 1..=end {
            if at == end || owner[at as usize] != u32::MAX {
                next[last as usize] = at;
                prev[at as usize] = last;
                last = at;
            }
        }
        let state = machine.initial();
        Depth {
            problem,
            machine,
            next,
            prev,
            owner,
            end,
            used: vec![0; problem.classes.len()],
            state,
            fingerprint: state_print(state),
            visited: super::table::Fingerprints::new(),
            frames: Vec::new(),
            eager: Vec::new(),
            attempt,
            moves: Vec::new(),
            ranked: Vec::new(),
            blocked: Vec::new(),
            placed: 0,
            furthest: (0, 0),
            looks: 0,
        }
    }

    fn run(mut self, budget: u64) -> Answer {
        self.run_on(budget)
    }

    /// What was placed so far, in order.
    fn placed_order(&self) -> Vec<u32> {
        let mut used = vec![0; self.problem.classes.len()];
        let mut order = Vec::with_capacity(self.placed);
        for (n, frame) in self.frames.iter().enumerate() {
            match frame.entered_by {
                ROOT => {}
                c if c & CLASS != 0 => {
                    let class = (c & !CLASS) as usize;
                    order.push(self.problem.classes[class].origin[used[class]]);
                    used[class] += 1;
                }
                op => order.push(self.problem.origin[op as usize]),
            }
            let until = self.frames.get(n + 1).map_or(self.eager.len(), |next| next.eager_from as usize);
            let eager = &self.eager[frame.eager_from as usize..until];
            order.extend(eager.iter().map(|&op| self.problem.origin[op as usize]));
        }
        order
    }

    fn run_on(&mut self, budget: u64) -> Answer {
        let mut steps = 0;
        self.enter(ROOT, self.state);
        loop {
            if self.next[0] == self.end {
                return Answer { found: Found::Order, steps };
            }
            steps += 1 + std::mem::take(&mut self.looks) / LOOKS_A_STEP;
            let full = self.visited.len() >= MEMORY_MAX || self.moves.len() >= MOVES_MAX;
            if steps > budget || full {
                return Answer { found: Found::Exhausted { furthest: self.stuck() }, steps };
            }
            if !self.advance() && !self.retreat() {
                return Answer { found: Found::Nothing { stuck: self.stuck() }, steps };
            }
        }
    }

    fn stuck(&self) -> usize {
        self.problem.origin.get(self.furthest.1 as usize).map_or(0, |&o| o as usize)
    }

    /// Goes to the next configuration that can be reached from the top frame and is new.
    fn advance(&mut self) -> bool {
        let top = self.frames.len() - 1;
        while self.frames[top].cursor < self.moves.len() as u32 {
            let next = self.moves[self.frames[top].cursor as usize];
            self.frames[top].cursor += 1;
            let before = self.state;
            let step = self.step_of(next);
            let after = self.machine.step(before, step).expect("only possible moves are listed");
            match next & CLASS {
                0 => self.place(next),
                _ => self.count((next & !CLASS) as usize, 1),
            }
            self.set_state(after);
            if self.enter(next, before) {
                return true;
            }
        }
        false
    }

    fn step_of(&self, next: u32) -> Step {
        match next & CLASS {
            0 => self.problem.steps[next as usize],
            _ => self.problem.classes[(next & !CLASS) as usize].step,
        }
    }

    /// Lists what may come next, the most promising first: the operation that completes first, what makes it possible,
    /// then by time of completion, unknown operations last.
    fn list_moves(&mut self) {
        self.blocked.clear();
        self.ranked.clear();
        let bound = self.first_return();
        if bound == self.end {
            return;
        }
        let urgent = self.owner[bound as usize] & !RETURN;
        self.note(urgent);
        let goal = self.problem.steps[urgent as usize];
        let read = self.next_read();
        let mut at = self.next[0];
        while at != bound {
            let op = self.owner[at as usize];
            at = self.next[at as usize];
            self.looks += 1;
            let step = self.problem.steps[op as usize];
            if read.is_some_and(|read| !self.machine.may_lead_to(self.state, step, read)) {
                continue;
            }
            let Some(after) = self.machine.step(self.state, step) else {
                self.blocked.push(step);
                continue;
            };
            if self.machine.observes(step) {
                continue;
            }
            let helps = op == urgent || self.machine.step(after, goal).is_some();
            let rank = u64::from(op != urgent) + u64::from(!helps);
            self.ranked.push((rank << 40 | self.preference(op), op));
        }
        self.list_classes(bound, goal, read);
        self.ranked.sort_unstable();
        self.moves.extend(self.ranked.iter().map(|r| r.1));
    }

    /// Operations with the smallest are tried first.
    fn preference(&self, op: u32) -> u64 {
        let ret = u64::from(self.problem.ret[op as usize]);
        match self.attempt {
            0 => ret,
            n => ret + mix(u64::from(op) | u64::from(n) << 32) % SHUFFLE,
        }
    }

    /// The first observation to complete, if nothing that replaces the state can come before it: until then the state
    /// only grows, so every step must lead there.
    fn next_read(&self) -> Option<Step> {
        if !M::GUIDED {
            return None;
        }
        let mut at = self.next[0];
        for _ in 0..LOOK_AHEAD {
            let owner = *self.owner.get(at as usize).filter(|_| at != self.end)?;
            let step = self.problem.steps[(owner & !RETURN) as usize];
            match owner & RETURN {
                0 if self.machine.replaces(step) => return None,
                RETURN if self.machine.observes(step) => {
                    let replaced = |c: usize| {
                        self.machine.replaces(self.problem.classes[c].step) && self.available(c, at)
                    };
                    return (!(0..self.used.len()).any(replaced)).then_some(step);
                }
                _ => at = self.next[at as usize],
            }
        }
        None
    }

    /// The same for unknown operations.
    fn list_classes(&mut self, bound: u32, goal: Step, read: Option<Step>) {
        self.looks += self.used.len() as u64;
        for c in 0..self.used.len() {
            let step = self.problem.classes[c].step;
            if self.available(c, bound) && self.machine.step(self.state, step).is_none() {
                self.blocked.push(step);
            }
        }
        for c in 0..self.used.len() {
            let step = self.problem.classes[c].step;
            if !self.available(c, bound) || !self.machine.could_help(self.state, step, &self.blocked) {
                continue;
            }
            if read.is_some_and(|read| !self.machine.may_lead_to(self.state, step, read)) {
                continue;
            }
            if let Some(after) = self.machine.step(self.state, step) {
                let helps = self.machine.step(after, goal).is_some();
                let rank = if helps { 1 << 40 | u64::from(u32::MAX) } else { 3 << 40 };
                self.ranked.push((rank, CLASS | c as u32));
            }
        }
    }

    /// Takes back the top frame; false if it was the root.
    fn retreat(&mut self) -> bool {
        let frame = self.frames.pop().expect("the root is never popped twice");
        self.moves.truncate(frame.moves_from as usize);
        self.undo(frame.entered_by, frame.before, frame.eager_from);
        !self.frames.is_empty()
    }

    /// Places what is eager after a move and pushes the frame, or takes the move back if the configuration is known.
    fn enter(&mut self, entered_by: u32, before: u32) -> bool {
        let eager_from = self.eager.len() as u32;
        self.place_eager();
        if !self.visited.insert(self.fingerprint) {
            self.undo(entered_by, before, eager_from);
            return false;
        }
        let moves_from = self.moves.len() as u32;
        self.list_moves();
        self.frames.push(Frame { entered_by, before, eager_from, moves_from, cursor: moves_from });
        true
    }

    fn undo(&mut self, entered_by: u32, before: u32, eager_from: u32) {
        while self.eager.len() > eager_from as usize {
            let op = self.eager.pop().expect("just counted");
            self.unplace(op);
        }
        self.set_state(before);
        match entered_by {
            ROOT => {}
            c if c & CLASS != 0 => self.count((c & !CLASS) as usize, -1),
            op => self.unplace(op),
        }
    }

    fn place_eager(&mut self) {
        let mut at = self.next[0];
        while at != self.end && self.owner[at as usize] & RETURN == 0 {
            let op = self.owner[at as usize];
            let step = self.problem.steps[op as usize];
            let following = self.next[at as usize];
            if self.machine.observes(step) && self.machine.step(self.state, step).is_some() {
                // Its completion may be what follows.
                let skip = following == self.problem.ret[op as usize];
                let after = if skip { self.next[following as usize] } else { following };
                self.place(op);
                self.eager.push(op);
                at = after;
            } else {
                at = following;
            }
        }
    }

    fn place(&mut self, op: u32) {
        for at in [self.problem.inv[op as usize], self.problem.ret[op as usize]] {
            let (p, n) = (self.prev[at as usize], self.next[at as usize]);
            self.next[p as usize] = n;
            self.prev[n as usize] = p;
        }
        self.fingerprint ^= operation_print(op);
        self.placed += 1;
    }

    fn unplace(&mut self, op: u32) {
        for at in [self.problem.ret[op as usize], self.problem.inv[op as usize]] {
            let (p, n) = (self.prev[at as usize], self.next[at as usize]);
            self.next[p as usize] = at;
            self.prev[n as usize] = at;
        }
        self.fingerprint ^= operation_print(op);
        self.placed -= 1;
    }

    fn count(&mut self, class: usize, by: i32) {
        self.fingerprint ^= class_print(class, self.used[class]);
        self.used[class] = self.used[class].wrapping_add_signed(by);
        self.fingerprint ^= class_print(class, self.used[class]);
    }

    fn set_state(&mut self, state: u32) {
        self.fingerprint ^= state_print(self.state) ^ state_print(state);
        self.state = state;
    }

    fn note(&mut self, op: u32) {
        if self.placed >= self.furthest.0 {
            self.furthest = (self.placed, op);
        }
    }

    fn first_return(&self) -> u32 {
        let mut at = self.next[0];
        while at != self.end && self.owner[at as usize] & RETURN == 0 {
            at = self.next[at as usize];
        }
        at
    }

    fn available(&self, class: usize, bound: u32) -> bool {
        self.problem.classes[class].inv.get(self.used[class] as usize).is_some_and(|&inv| inv < bound)
    }
}

fn print(kind: u64, value: u64) -> u128 {
    let low = mix(value ^ (kind << 56));
    let high = mix(value.rotate_left(32) ^ (kind + 7).wrapping_mul(0xA076_1D64_78BD_642F));
    u128::from(high) << 64 | u128::from(low)
}

fn operation_print(op: u32) -> u128 {
    print(1, u64::from(op))
}

fn state_print(state: u32) -> u128 {
    print(2, u64::from(state))
}

fn class_print(class: usize, used: u32) -> u128 {
    if used == 0 { 0 } else { print(3, (class as u64) << 32 | u64::from(used)) }
}
