//! Any other object: say what its operations do, and the general search judges its histories.
//!
//! ```
//! use firedrill_checkers::linear::Overall;
//! use firedrill_checkers::linear::model::{Call, Model, check};
//!
//! /// A lock: who holds it.
//! struct Lock;
//!
//! #[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
//! enum Operation { Acquired(u8), Released(u8) }
//!
//! impl Model for Lock {
//!     type State = Option<u8>;
//!     type Operation = Operation;
//!
//!     fn initial(&self) -> Option<u8> { None }
//!
//!     fn step(&self, holder: &Option<u8>, operation: &Operation) -> Option<Option<u8>> {
//!         match (holder, operation) {
//!             (None, Operation::Acquired(client)) => Some(Some(*client)),
//!             (Some(holder), Operation::Released(client)) if holder == client => Some(None),
//!             _ => None,
//!         }
//!     }
//! }
//!
//! let twice = [
//!     Call { operation: Operation::Acquired(1), invoked: 1, completed: Some(2) },
//!     Call { operation: Operation::Acquired(2), invoked: 3, completed: Some(4) },
//! ];
//! assert_eq!(check(&Lock, &twice, None, &Default::default()).verdict, Overall::Violated);
//! ```

use super::columns::{Kind, OPEN};
use super::search::machine::Machine;
use super::search::{Class, Found, Problem, Step, decide, depth};
use super::{Options, Overall};
use std::collections::BTreeMap;

/// A sequential object.
pub trait Model {
    /// Its state; equal states are recognised, so a search does not go through one twice.
    type State: Clone + Ord;
    /// An operation with its result. One of unknown outcome is an operation too: with whatever it does if it happens.
    type Operation: Ord;

    /// The state before the first operation.
    fn initial(&self) -> Self::State;

    /// The state afterwards, or `None` if the operation cannot have this result in this state.
    fn step(&self, state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;

    /// Whether the operation never changes any state, such as a read. Saying so makes the search faster.
    fn observes(&self, _operation: &Self::Operation) -> bool {
        false
    }

    /// The independent part of the object that the operation is about, such as its key. Parts are judged apart from
    /// each other, each from the initial state on.
    fn part(&self, _operation: &Self::Operation) -> u64 {
        0
    }
}

/// One operation of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<O> {
    /// What was asked and answered.
    pub operation: O,
    /// When it was asked. At equal times an invocation comes before a completion.
    pub invoked: u64,
    /// When it was answered; `None`: the outcome is unknown, it may happen at any later time, or never.
    pub completed: Option<u64>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Overall,
    /// For `Holds`, if the search found it: an order of the calls. Parts stand one behind another.
    pub order: Option<Vec<usize>>,
    /// Otherwise the call that no order got past.
    pub stuck: Option<usize>,
    /// Steps of the search.
    pub steps: u64,
}

/// Judges a history of this model. `hint` is an order that the system itself claims, such as that of its commit log: if
/// it explains everything the verdict needs no search, and no trust in the system either; if not it says nothing.
pub fn check<M: Model>(
    model: &M,
    calls: &[Call<M::Operation>],
    hint: Option<&[usize]>,
    options: &Options,
) -> Judgement {
    if let Some(hint) = hint.filter(|hint| explains(model, calls, hint)) {
        return Judgement { verdict: Overall::Holds, order: Some(hint.to_vec()), stuck: None, steps: 0 };
    }
    let mut parts: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (i, call) in calls.iter().enumerate() {
        parts.entry(model.part(&call.operation)).or_default().push(i);
    }
    let mut judgement = Judgement { verdict: Overall::Holds, order: Some(Vec::new()), stuck: None, steps: 0 };
    let mut left = options.budget_steps;
    for part in parts.values() {
        let one = check_part(model, calls, part, left);
        judgement.steps += one.steps;
        left = left.saturating_sub(one.steps);
        let steps = judgement.steps;
        match one.verdict {
            Overall::Violated => return Judgement { steps, ..one },
            Overall::Unknown => judgement = Judgement { steps, ..one },
            Overall::Holds => {
                judgement.order = judgement.order.zip(one.order).map(|(all, more)| [all, more].concat());
            }
        }
    }
    judgement
}

/// Whether this order explains every result and, within each part, respects real time.
pub fn explains<M: Model>(model: &M, calls: &[Call<M::Operation>], order: &[usize]) -> bool {
    let mut missing: Vec<bool> = calls.iter().map(|c| c.completed.is_some()).collect();
    let mut placed = vec![false; calls.len()];
    // Of each part its state, and the latest invocation so far.
    let mut parts: BTreeMap<u64, (M::State, u64)> = BTreeMap::new();
    for &i in order {
        let Some(call) = calls.get(i) else { return false };
        let part = model.part(&call.operation);
        let (state, latest) = parts.entry(part).or_insert_with(|| (model.initial(), 0));
        if placed[i] || call.completed.is_some_and(|completed| completed < *latest) {
            return false;
        }
        placed[i] = true;
        missing[i] = false;
        *latest = call.invoked.max(*latest);
        match model.step(state, &call.operation) {
            Some(after) => *state = after,
            None => return false,
        }
    }
    !missing.contains(&true)
}

fn check_part<M: Model>(model: &M, calls: &[Call<M::Operation>], part: &[usize], budget: u64) -> Judgement {
    let problem = problem(model, calls, part);
    let mut machine = Stepper {
        model,
        calls,
        states: Vec::new(),
        numbers: BTreeMap::new(),
        after: BTreeMap::new(),
        full: false,
    };
    machine.number(model.initial());
    let mut steps = 0;
    let mut each = 1 << 10;
    let mut attempt = 0;
    let mut stuck = None;
    while steps < budget {
        let answer = decide(&problem, &mut machine, each.min(budget - steps), attempt);
        steps += answer.steps;
        match answer.found {
            Found::Order => {
                let order = depth::order(&problem, &mut machine, budget);
                let order = order.map(|order| order.into_iter().map(|i| i as usize).collect());
                return Judgement { verdict: Overall::Holds, order, stuck: None, steps };
            }
            // States were left out for want of room, so nothing is proved, and more steps would change nothing.
            Found::Nothing { stuck } if machine.full => {
                return Judgement { verdict: Overall::Unknown, order: None, stuck: Some(stuck), steps };
            }
            Found::Nothing { stuck } => {
                return Judgement { verdict: Overall::Violated, order: None, stuck: Some(stuck), steps };
            }
            Found::Exhausted { furthest } => stuck = Some(furthest),
        }
        each *= 4;
        attempt += 1;
    }
    Judgement { verdict: Overall::Unknown, order: None, stuck, steps }
}

/// The calls of a part, with positions for times and classes for unknown operations that are equal.
fn problem<M: Model>(model: &M, calls: &[Call<M::Operation>], part: &[usize]) -> Problem {
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for &i in part {
        events.push((calls[i].invoked, false, i));
        events.extend(calls[i].completed.map(|at| (at, true, i)));
    }
    events.sort_unstable();
    let mut position = BTreeMap::new();
    for (at, &(_, end, i)) in (1..).zip(&events) {
        position.insert((i, end), at);
    }
    let mut by_invocation = part.to_vec();
    by_invocation.sort_by_key(|&i| position[&(i, false)]);
    let mut problem = Problem {
        steps: Vec::new(),
        inv: Vec::new(),
        ret: Vec::new(),
        origin: Vec::new(),
        classes: Vec::new(),
        events: events.len() as u32,
    };
    let mut classes: BTreeMap<&M::Operation, Class> = BTreeMap::new();
    for i in by_invocation {
        let step = Step { kind: Kind::Append, a: i as u32, b: OPEN };
        let inv = position[&(i, false)];
        match position.get(&(i, true)) {
            Some(&ret) => {
                problem.steps.push(step);
                problem.inv.push(inv);
                problem.ret.push(ret);
                problem.origin.push(i as u32);
            }
            None if model.observes(&calls[i].operation) => {}
            None => {
                let empty = || Class { step, inv: Vec::new(), origin: Vec::new() };
                let class = classes.entry(&calls[i].operation).or_insert_with(empty);
                class.inv.push(inv);
                class.origin.push(i as u32);
            }
        }
    }
    problem.classes = classes.into_values().collect();
    problem
}

/// A user's model as a machine: states are numbered, steps remembered.
struct Stepper<'a, M: Model> {
    model: &'a M,
    calls: &'a [Call<M::Operation>],
    states: Vec<M::State>,
    numbers: BTreeMap<M::State, u32>,
    after: BTreeMap<(u32, u32), Option<u32>>,
    /// Whether a state was left out for want of room.
    full: bool,
}

/// States that are kept, and steps that are remembered, at most: some hundred megabytes for states of a hundred bytes.
const STATES_MAX: usize = 1 << 20;

impl<M: Model> Stepper<'_, M> {
    fn number(&mut self, state: M::State) -> u32 {
        let next = self.states.len() as u32;
        let number = *self.numbers.entry(state.clone()).or_insert(next);
        if number == next {
            self.states.push(state);
        }
        number
    }
}

impl<M: Model> Machine for Stepper<'_, M> {
    fn initial(&self) -> u32 {
        0
    }

    fn step(&mut self, state: u32, step: Step) -> Option<u32> {
        if let Some(known) = self.after.get(&(state, step.a)) {
            return *known;
        }
        let operation = &self.calls[step.a as usize].operation;
        let after = self.model.step(&self.states[state as usize], operation);
        let after = after.and_then(|state| {
            let room = self.states.len() < STATES_MAX || self.numbers.contains_key(&state);
            self.full |= !room;
            room.then(|| self.number(state))
        });
        if self.after.len() >= 4 * STATES_MAX {
            self.after.clear();
        }
        self.after.insert((state, step.a), after);
        after
    }

    fn observes(&self, step: Step) -> bool {
        self.model.observes(&self.calls[step.a as usize].operation)
    }
}
