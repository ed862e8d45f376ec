//! The general search, for keys that the linear rules do not decide: repeated values, refused compare-and-sets that did
//! not tell the value, strings that grow, models of the user.
//!
//! Two exact searches, because they are good at opposite things: [`depth`] (Wing and Gong 1993 with Lowe's memory of
//! configurations, "Testing for linearizability", 2017) finds an order fast where there is one; [`breadth`] (Lowe's
//! just-in-time linearization) proves fast that there is none. In front of the second stand a narrow beam, which can only
//! say yes, and a relaxation, which can only say no. All count steps, so a budget means the same on every machine.
//!
//! An operation with unknown outcome never completes, so it would stay open for ever. Operations with the same effect
//! are therefore one *class*, of which only the number used is kept: which of them was used makes no difference, and
//! the one invoked first serves best.

pub(super) mod breadth;
pub(super) mod depth;
pub(super) mod machine;
mod table;

use super::columns::{Kind, Lane, OPEN, Token};
use machine::Machine;

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is an order.
    Order,
    /// There is none; the operation that no order could get past.
    Nothing {
        /// Index into the lane, if there is one operation to point at.
        stuck: usize,
    },
    /// The budget or the memory is used up; the operation that was hardest to get past.
    Exhausted {
        /// Index into the lane.
        furthest: usize,
    },
}

/// A search's answer and price.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// The answer.
    pub found: Found,
    /// Configurations visited.
    pub steps: u64,
}

/// One operation as the searches see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// What it does.
    pub kind: Kind,
    /// First argument.
    pub a: Token,
    /// Second argument.
    pub b: Token,
}

/// Unknown operations with one effect, by time of invocation.
#[derive(Clone, Debug)]
pub(super) struct Class {
    /// The effect.
    pub step: Step,
    /// When each was invoked.
    pub inv: Vec<u32>,
    /// Which operation of the lane each is.
    pub origin: Vec<u32>,
}

/// A key made ready for searching.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    /// Operations with a known outcome, in order of invocation.
    pub steps: Vec<Step>,
    /// Their invocations.
    pub inv: Vec<u32>,
    /// Their completions.
    pub ret: Vec<u32>,
    /// Which operation of the lane each is.
    pub origin: Vec<u32>,
    /// The others.
    pub classes: Vec<Class>,
    /// Positions are `1..=events`.
    pub events: u32,
}

impl Problem {
    /// Splits a lane into known operations and classes of unknown ones. Unknown operations that cannot change anything
    /// are left out.
    pub fn new(lane: &Lane<'_>, machine: &impl Machine) -> Problem {
        let mut problem = Problem {
            steps: Vec::new(),
            inv: Vec::new(),
            ret: Vec::new(),
            origin: Vec::new(),
            classes: Vec::new(),
            events: lane.events,
        };
        let mut unknown = Vec::new();
        for i in 0..lane.len() {
            let step = Step { kind: lane.kind[i], a: lane.a[i], b: lane.b[i] };
            if step.kind == Kind::Aborted {
                continue;
            }
            if lane.ret[i] != OPEN {
                problem.steps.push(step);
                problem.inv.push(lane.inv[i]);
                problem.ret.push(lane.ret[i]);
                problem.origin.push(i as u32);
            } else if !machine.observes(step) && machine.could_matter(step) {
                unknown.push((step, lane.inv[i], i as u32));
            }
        }
        problem.classes = classes(unknown);
        problem
    }
}

fn classes(mut unknown: Vec<(Step, u32, u32)>) -> Vec<Class> {
    unknown.sort_by_key(|(s, inv, _)| (s.kind as u8, s.a, s.b, *inv));
    let mut classes: Vec<Class> = Vec::new();
    for (step, inv, origin) in unknown {
        match classes.last_mut() {
            Some(c) if (c.step.kind, c.step.a, c.step.b) == (step.kind, step.a, step.b) => {
                c.inv.push(inv);
                c.origin.push(origin);
            }
            _ => classes.push(Class { step, inv: vec![inv], origin: vec![origin] }),
        }
    }
    classes
}

/// All tiers on one key, each with this budget of steps. `attempt` counts how often the key was given up before.
pub(super) fn decide(problem: &Problem, machine: &mut impl Machine, budget: u64, attempt: u32) -> Answer {
    let deep = depth::search(problem, machine, budget.saturating_mul(DEPTH_SHARE), attempt);
    let mut steps = deep.steps;
    let mut best = deep;
    let width = BEAM_FIRST << attempt.min(BEAM_DOUBLINGS);
    let tiers = [
        (breadth::Mode::Beam { width }, budget.saturating_mul(BEAM_SHARE)),
        (breadth::Mode::Relaxed, budget),
        (breadth::Mode::Full, budget),
    ];
    for (mode, budget) in tiers {
        if !matches!(best.found, Found::Exhausted { .. }) {
            break;
        }
        let Some(wide) = breadth::search(problem, machine, budget, mode) else { continue };
        steps += wide.steps;
        if !matches!(wide.found, Found::Exhausted { .. }) {
            best = wide;
        }
    }
    Answer { found: best.found, steps }
}

/// Configurations the beam of a first attempt keeps. Narrow beams that fail do so early and cheaply.
const BEAM_FIRST: usize = 8;

/// Each attempt's beam is twice as wide as the one before, up to 512.
const BEAM_DOUBLINGS: u32 = 6;

/// The search for an order gets more than its share: most histories have one.
const DEPTH_SHARE: u64 = 4;

/// A beam needs more steps than the budget it stands beside, because it walks through the whole history with all it
/// keeps; its width bounds it.
const BEAM_SHARE: u64 = 16;
