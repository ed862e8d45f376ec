//! Makes a violation that a search found small enough to read: leaves out what happened afterwards, then whole values
//! (their writes and all that saw them), then single observations, as long as no order appears. What remains is often
//! so plain that a linear rule gives it a name.
//!
//! Only such things are left out as could not have made an order impossible: from an order of the whole one gets an
//! order of the rest. So a write alone is never left out (that would make a phantom of its value), a compare-and-set
//! from a value that is left out stays as a plain write, and where refusals take part values stay too, because a
//! refusal may have needed them.

use super::columns::{KeyMeta, Kind, Lane, NIL, OPEN, Token};
use super::report::Finding;
use super::search::machine::Register;
use super::search::{Found, Problem, decide};
use super::{screen, zones};

/// Steps a trial may take; a trial that needs more counts as "an order may exist", and its value stays.
const TRIAL_STEPS: u64 = 20_000;

/// Trials at most.
const TRIALS_MAX: usize = 200;

/// Some of the operations of a lane.
#[derive(Clone, Debug)]
pub(super) struct Part {
    meta: KeyMeta,
    events: u32,
    inv: Vec<u32>,
    ret: Vec<u32>,
    kind: Vec<Kind>,
    a: Vec<Token>,
    b: Vec<Token>,
    /// Which operation of the whole each is.
    pub origin: Vec<usize>,
}

impl Part {
    /// The operations that `keep` wants, without the values that are `gone`; operations that complete after `end` are
    /// taken as unknown.
    fn of(lane: &Lane<'_>, end: u32, gone: &[Token], keep: impl Fn(usize) -> bool) -> Part {
        let mut part = Part {
            meta: KeyMeta::default(),
            events: lane.events,
            inv: Vec::new(),
            ret: Vec::new(),
            kind: Vec::new(),
            a: Vec::new(),
            b: Vec::new(),
            origin: Vec::new(),
        };
        for i in (0..lane.len()).filter(|&i| keep(i) && lane.inv[i] < end) {
            let over = lane.ret[i] <= end;
            if !over && matches!(lane.kind[i], Kind::Read | Kind::NotEqual) {
                continue;
            }
            let is_gone = |v: Token| v != NIL && gone.binary_search(&v).is_ok();
            let (kind, a, b) = match lane.kind[i] {
                Kind::Cas if is_gone(lane.b[i]) => continue,
                Kind::Cas if is_gone(lane.a[i]) => (Kind::Write, lane.b[i], NIL),
                _ if is_gone(lane.a[i]) => continue,
                kind => (kind, lane.a[i], lane.b[i]),
            };
            part.inv.push(lane.inv[i]);
            part.ret.push(if over { lane.ret[i] } else { OPEN });
            part.kind.push(kind);
            part.a.push(a);
            part.b.push(b);
            part.origin.push(i);
        }
        part
    }

    fn lane(&self) -> Lane<'_> {
        Lane {
            meta: &self.meta,
            events: self.events,
            inv: &self.inv,
            ret: &self.ret,
            version: &[],
            kind: &self.kind,
            a: &self.a,
            b: &self.b,
        }
    }

    /// What a linear rule says against these operations.
    fn refuted(&self) -> Option<Finding> {
        match zones::check(&self.lane(), &mut zones::Scratch::default()) {
            zones::Decision::Violated(finding) => Some(finding),
            zones::Decision::Repeated => screen::check(&self.lane()),
            zones::Decision::Holds | zones::Decision::Negatives => None,
        }
    }

    fn is_violated(&self) -> bool {
        let lane = self.lane();
        self.refuted().is_some() || {
            let problem = Problem::new(&lane, &Register);
            matches!(decide(&problem, &mut Register, TRIAL_STEPS, 0).found, Found::Nothing { .. })
        }
    }
}

/// A finding a linear rule makes on what is left, or what is left.
pub(super) enum Shrunk {
    /// A rule names it; indices are those of the whole lane.
    Named(Finding),
    /// These operations cannot all be true, and without any one value they could.
    Left(Vec<usize>),
}

/// Shrinks a violated register lane; `stuck` is the operation the search could not get past.
pub(super) fn shrink(lane: &Lane<'_>, stuck: usize) -> Shrunk {
    // What certainly happened convinces more than what was refused, and the past more than the future.
    let positive = |i: usize| lane.kind[i] != Kind::NotEqual;
    let ends = [lane.ret[stuck], OPEN - 1];
    let base = ends.into_iter().find(|&end| Part::of(lane, end, &[], positive).is_violated());
    let (part, end) = match base {
        Some(end) => (without_values(lane, end, positive), end),
        None => {
            let end = ends.into_iter().find(|&end| Part::of(lane, end, &[], |_| true).is_violated());
            let end = end.unwrap_or(OPEN - 1);
            (Part::of(lane, end, &[], |_| true), end)
        }
    };
    let part = without_observations(part, end);
    match part.refuted() {
        Some(finding) => Shrunk::Named(Finding {
            core: finding.core.into_iter().map(|(i, text)| (part.origin[i], text)).collect(),
            staleness: finding.staleness.map(|(a, b)| (part.origin[a], part.origin[b])),
            ..finding
        }),
        None => Shrunk::Left(part.origin),
    }
}

/// Leaves out as many values as can go: halves first, then quarters, and so on, since most have nothing to do with it.
fn without_values(lane: &Lane<'_>, end: u32, keep: impl Fn(usize) -> bool) -> Part {
    let mut part = Part::of(lane, end, &[], &keep);
    let mut gone: Vec<Token> = Vec::new();
    let mut values = values(&part.lane());
    let mut trials = 0;
    let mut chunk = values.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < values.len() && trials < TRIALS_MAX {
            trials += 1;
            let upto = (at + chunk).min(values.len());
            let mut without = gone.clone();
            without.extend(&values[at..upto]);
            without.sort_unstable();
            let smaller = Part::of(lane, end, &without, &keep);
            if smaller.is_violated() {
                part = smaller;
                gone = without;
                values.drain(at..upto);
            } else {
                at = upto;
            }
        }
        if chunk == 1 || trials >= TRIALS_MAX {
            return part;
        }
        chunk = chunk.div_ceil(2);
    }
}

/// Leaves out observations one by one, the latest first, as long as no order appears.
fn without_observations(mut part: Part, end: u32) -> Part {
    let observes = |kind: Kind| matches!(kind, Kind::Read | Kind::NotEqual);
    let mut at = part.origin.len();
    let mut trials = 0;
    while at > 0 && trials < TRIALS_MAX {
        at -= 1;
        if !observes(part.kind[at]) {
            continue;
        }
        trials += 1;
        let mut smaller = Part::of(&part.lane(), end, &[], |i| i != at);
        if smaller.is_violated() {
            smaller.origin.iter_mut().for_each(|i| *i = part.origin[*i]);
            part = smaller;
        }
    }
    part
}

/// Every value but the start value.
fn values(lane: &Lane<'_>) -> Vec<Token> {
    let mut values: Vec<Token> = lane.a.iter().chain(lane.b).copied().filter(|&v| v != NIL).collect();
    values.sort_unstable();
    values.dedup();
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::proof::{self, Answer, Flavour};
    use crate::bench::rng::Rng;

    #[test]
    fn leaving_out_a_value_never_makes_a_violation() {
        let mut rng = Rng::new(8);
        let mut tried = 0;
        for _ in 0..3_000 {
            let mut history = proof::draw(&mut rng, Flavour::Repeated);
            history.retain(|o| o.answer != Answer::Refused);
            if !proof::naive(&history) {
                continue;
            }
            let columns = proof::to_columns(&history, Flavour::Repeated);
            let lane = columns.lane(0);
            for value in values(&lane) {
                tried += 1;
                let part = Part::of(&lane, OPEN - 1, &[value], |_| true);
                assert!(!part.is_violated(), "without {value}: {history:#?}");
            }
        }
        assert!(tried > 1_000);
    }
}
