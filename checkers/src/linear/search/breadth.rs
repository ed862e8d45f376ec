//! Breadth-first search over events: all configurations that are still possible after each completion.
//!
//! A configuration is the state, the open operations that were placed already (a bit each) and how many of each class
//! of unknown operations were used. Operations are placed only when a completion forces it. Of two configurations that
//! differ only in what they used, the thriftier one can do whatever the other can, so the other is dropped.

use super::super::columns::mix;
use super::machine::Machine;
use super::table::Fingerprints;
use super::{Answer, Found, Problem, Step};
use std::collections::VecDeque;

/// Operations open at once, at most.
const OPEN_MAX: usize = 128;

/// Classes of unknown operations, at most; beyond this the search does not apply.
const CLASSES_MAX: usize = 32;

/// Configurations a beam looks at for each that it keeps: those that took the fewest operations to reach.
const LOOK: usize = 4;

/// Configurations met on the way past one completion, at most: about 400 MB with those that wait.
const ALIVE_MAX: usize = 1 << 21;

/// Which part of the truth is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Mode {
    /// Everything.
    Full,
    /// Keep few configurations, the thriftiest: can prove that there is an order, not that there is none.
    Beam {
        /// How many.
        width: usize,
    },
    /// Unknown operations are never used up: can prove that there is no order, not that there is one.
    Relaxed,
}

/// Searches in this mode, up to this number of steps; `None` if the problem has too many classes or too many operations
/// open at once.
pub(in super::super) fn search(
    problem: &Problem,
    machine: &mut impl Machine,
    budget: u64,
    mode: Mode,
) -> Option<Answer> {
    let countable = problem.classes.iter().all(|c| c.inv.len() <= usize::from(u8::MAX));
    if mode != Mode::Relaxed && (problem.classes.len() > CLASSES_MAX || !countable) {
        return None;
    }
    let owner = owners(problem);
    let mut breadth = Breadth { problem, machine, mode, open: Vec::new(), open_mask: 0, steps: 0, budget };
    breadth.run(&owner)
}

/// Which event stands at each position.
fn owners(problem: &Problem) -> Vec<Option<(u32, bool)>> {
    let mut owner = vec![None; problem.events as usize + 1];
    for (i, (&inv, &ret)) in problem.inv.iter().zip(&problem.ret).enumerate() {
        owner[inv as usize] = Some((i as u32, false));
        owner[ret as usize] = Some((i as u32, true));
    }
    owner
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Configuration {
    state: u32,
    placed: u128,
    used: [u8; CLASSES_MAX],
}

impl Configuration {
    fn cost(&self) -> u32 {
        self.used.iter().map(|&u| u32::from(u)).sum()
    }

    fn fingerprint(&self) -> u128 {
        let mut low = mix(u64::from(self.state));
        let mut high = mix(!u64::from(self.state));
        let mut add = |word: u64| {
            low = mix(low ^ word);
            high = mix(high.rotate_left(23) ^ word.wrapping_mul(0xE703_7ED1_A0B4_28DB));
        };
        add(self.placed as u64);
        add((self.placed >> 64) as u64);
        for chunk in self.used.chunks_exact(8) {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            add(u64::from_le_bytes(word));
        }
        u128::from(high) << 64 | u128::from(low)
    }

    /// Whether this can do all that `other`, in the same state with the same operations placed, can do.
    fn dominates(&self, other: &Configuration) -> bool {
        self.used.iter().zip(&other.used).all(|(a, b)| a <= b)
    }
}

struct Breadth<'a, M> {
    problem: &'a Problem,
    machine: &'a mut M,
    mode: Mode,
    /// Operation in each slot.
    open: Vec<u32>,
    /// Slots in use.
    open_mask: u128,
    steps: u64,
    budget: u64,
}

impl<M: Machine> Breadth<'_, M> {
    fn run(&mut self, owner: &[Option<(u32, bool)>]) -> Option<Answer> {
        let start = Configuration { state: self.machine.initial(), placed: 0, used: [0; CLASSES_MAX] };
        let mut alive = vec![start];
        let mut slot_of = vec![0u8; self.problem.steps.len()];
        for (position, event) in owner.iter().enumerate() {
            let Some((op, is_return)) = *event else { continue };
            if !is_return {
                slot_of[op as usize] = self.take_slot(op)?;
                continue;
            }
            let slot = slot_of[op as usize];
            let origin = self.problem.origin[op as usize] as usize;
            let Some(next) = self.complete(alive, slot, position as u32) else {
                return Some(self.answer(Found::Exhausted { furthest: origin }));
            };
            if next.is_empty() {
                let found = match self.mode {
                    Mode::Full | Mode::Relaxed => Found::Nothing { stuck: origin },
                    Mode::Beam { .. } => Found::Exhausted { furthest: origin },
                };
                return Some(self.answer(found));
            }
            alive = next;
            self.open_mask &= !(1 << slot);
        }
        let found = match self.mode {
            Mode::Full | Mode::Beam { .. } => Found::Order,
            Mode::Relaxed => Found::Exhausted { furthest: 0 },
        };
        Some(self.answer(found))
    }

    fn answer(&self, found: Found) -> Answer {
        Answer { found, steps: self.steps }
    }

    fn take_slot(&mut self, op: u32) -> Option<u8> {
        let slot = (!self.open_mask).trailing_zeros() as usize;
        if slot >= OPEN_MAX {
            return None;
        }
        if slot == self.open.len() {
            self.open.push(op);
        }
        self.open[slot] = op;
        self.open_mask |= 1 << slot;
        Some(slot as u8)
    }

    /// All configurations in which the operation in `slot`, which completes at `position`, has been placed; `None` if
    /// the budget ends first.
    fn complete(&mut self, alive: Vec<Configuration>, slot: u8, position: u32) -> Option<Vec<Configuration>> {
        let wanted = 1u128 << slot;
        let mut visited = Fingerprints::new();
        let mut done = Vec::new();
        let mut work = VecDeque::new();
        for configuration in alive {
            self.reach(configuration, wanted, &mut work, &mut done, &mut visited);
        }
        let mut blocked = Vec::new();
        while let Some(configuration) = work.pop_front() {
            if matches!(self.mode, Mode::Beam { width } if done.len() >= LOOK * width) {
                break;
            }
            self.steps += 1;
            if self.steps > self.budget || visited.len() > ALIVE_MAX {
                return None;
            }
            blocked.clear();
            let mut candidates = self.open_mask & !configuration.placed;
            while candidates != 0 {
                let at = candidates.trailing_zeros();
                candidates &= candidates - 1;
                let step = self.problem.steps[self.open[at as usize] as usize];
                match self.machine.step(configuration.state, step) {
                    None => blocked.push(step),
                    Some(_) if self.machine.observes(step) => {}
                    Some(state) => {
                        let placed = configuration.placed | 1 << at;
                        let next = Configuration { state, placed, ..configuration };
                        self.reach(next, wanted, &mut work, &mut done, &mut visited);
                    }
                }
            }
            self.use_classes(
                &configuration,
                position,
                wanted,
                &mut blocked,
                &mut work,
                &mut done,
                &mut visited,
            );
        }
        Some(self.thin(done))
    }

    #[expect(clippy::too_many_arguments, reason = "the buffers of one loop, split off for reading")]
    fn use_classes(
        &mut self,
        from: &Configuration,
        position: u32,
        wanted: u128,
        blocked: &mut Vec<Step>,
        work: &mut VecDeque<Configuration>,
        done: &mut Vec<Configuration>,
        visited: &mut Fingerprints,
    ) {
        let classes = &self.problem.classes;
        let counted = self.mode != Mode::Relaxed;
        let available = |c: usize| {
            let used = if counted { usize::from(from.used[c]) } else { 0 };
            classes[c].inv.get(used).is_some_and(|&inv| inv < position)
        };
        for (c, class) in classes.iter().enumerate() {
            if available(c) && self.machine.step(from.state, class.step).is_none() {
                blocked.push(class.step);
            }
        }
        for (c, class) in classes.iter().enumerate() {
            if !available(c) || !self.machine.could_help(from.state, class.step, blocked) {
                continue;
            }
            if let Some(state) = self.machine.step(from.state, class.step) {
                let mut next = Configuration { state, ..*from };
                if counted {
                    next.used[c] += 1;
                }
                self.reach(next, wanted, work, done, visited);
            }
        }
    }

    /// Places what is eager, and files the configuration: as done if the wanted operation is placed, else as work.
    fn reach(
        &mut self,
        mut configuration: Configuration,
        wanted: u128,
        work: &mut VecDeque<Configuration>,
        done: &mut Vec<Configuration>,
        visited: &mut Fingerprints,
    ) {
        let mut candidates = self.open_mask & !configuration.placed;
        while candidates != 0 {
            let at = candidates.trailing_zeros();
            candidates &= candidates - 1;
            let step = self.problem.steps[self.open[at as usize] as usize];
            if self.machine.observes(step) && self.machine.step(configuration.state, step).is_some() {
                configuration.placed |= 1 << at;
            }
        }
        if !visited.insert(configuration.fingerprint()) {
            return;
        }
        if configuration.placed & wanted != 0 {
            configuration.placed &= !wanted;
            done.push(configuration);
        } else {
            work.push_back(configuration);
        }
    }

    /// Drops what is dominated; a beam also drops all but the thriftiest.
    fn thin(&self, mut all: Vec<Configuration>) -> Vec<Configuration> {
        all.sort_unstable_by_key(|c| (c.state, c.placed, c.cost(), c.used));
        let mut kept: Vec<Configuration> = Vec::with_capacity(all.len());
        let mut group = 0;
        for configuration in all {
            let same = |k: &Configuration| k.state == configuration.state && k.placed == configuration.placed;
            if kept.get(group).is_none_or(|k| !same(k)) {
                group = kept.len();
            }
            if !kept[group..].iter().any(|k| k.dominates(&configuration)) {
                kept.push(configuration);
            }
        }
        if let Mode::Beam { width } = self.mode {
            kept.sort_unstable_by_key(|c| (c.cost(), c.state, c.placed, c.used));
            kept.truncate(width);
        }
        kept
    }
}
