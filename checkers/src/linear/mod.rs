//! Linearizability of a history, key by key.
//!
//! A history is linearizable if every operation can be given one instant between its invocation and its completion such
//! that, in the order of these instants, every result is what a single correct object would have returned. Keys are
//! judged apart from each other, which loses nothing (Herlihy and Wing 1990: linearizability is local).
//!
//! For each key the cheapest sufficient method is chosen:
//! 1. [`zones`]: registers whose written values are unique, compare-and-set and unknown outcomes included: linear time;
//! 2. [`versions`]: append-only lists with unique elements: linear time; [`strings`]: the same for strings that are put
//!    and appended to, if their pieces differ; [`numbered`]: registers whose store tells its version numbers, whether
//!    values repeat or not;
//! 3. [`negative`]: unique values and refused compare-and-sets that did not tell the value: two tactics, then search;
//! 4. [`screen`]: values that repeat: what can be refuted in linear time;
//! 5. [`search`]: everything else, within a budget of steps that keys share fairly: every key that needs a search gets a
//!    small allotment first, then four times as much, so that a hopeless key does not starve an easy one.
//!
//! The verdict is [`Overall::Holds`], [`Overall::Violated`] with a few operations that prove it, or
//! [`Overall::Unknown`] with the budget spent. It depends on the history and the options, never on time or threads.

pub mod columns;
mod direct;
mod explain;
mod from_records;
pub mod levels;
pub mod model;
mod negative;
mod numbered;
pub mod online;
pub mod picture;
mod report;
mod screen;
mod search;
mod shrink;
mod source;
mod strings;
mod versions;
mod zones;

pub use report::{
    Class, CoreOperation, Described, Ending, Evidence, KeyReport, Method, Overall, Report, Source,
    Statistics, Verdict,
};

use crate::import::ImportedHistory;
use crate::record::{History, Records};
use columns::{Columns, Kind, Lane};
use report::Finding;
use search::machine::{Content, Growing, Register};
use search::{Found, Problem};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How to check.
#[derive(Clone, Debug)]
pub struct Options {
    /// Steps all searches of a history may take together. The linear rules cost no steps.
    pub budget_steps: u64,
    /// Threads to spread the keys over. The verdict does not depend on it.
    pub threads: usize,
}

impl Default for Options {
    /// 50 million steps, one thread: seconds for dozens of clients, a minute or two where ten thousand are open at once.
    fn default() -> Self {
        Options { budget_steps: 50_000_000, threads: 1 }
    }
}

/// Judges the workload's operations of a run.
///
/// ```
/// use firedrill_checkers::{linear, record::History};
/// let report = linear::check_history(&History::default(), &linear::Options::default());
/// assert_eq!(report.verdict, linear::Overall::Holds);
/// ```
pub fn check_history(history: &History, options: &Options) -> Report {
    check_columns(&from_records::columns(history), history, options)
}

/// The same for one who knows the run's nodes by name.
pub fn check_run(records: &Records, options: &Options) -> Report {
    check_columns(&from_records::columns(&records.history), records, options)
}

/// Judges a history that was recorded elsewhere.
pub fn check_imported(history: &ImportedHistory, options: &Options) -> Report {
    check_columns(&history.columns, history, options)
}

/// The workload's operations of a run as columns, for those who check more than once.
pub fn columns_of(history: &History) -> Columns {
    from_records::columns(history)
}

/// Judges columns; `source` tells what the operations were, should some of them be evidence.
pub fn check_columns(columns: &Columns, source: &dyn Source, options: &Options) -> Report {
    let outcomes = decide(columns, options);
    let keys =
        outcomes.into_iter().enumerate().map(|(k, outcome)| outcome.report(columns, k, source)).collect();
    Report::new(keys)
}

/// The verdict alone on a run, sooner than by way of columns where it is that nothing is wrong.
///
/// Takes the numbers of events ([`crate::record::Instant::seq`]) as the order of time.
pub fn verdict_of(history: &History, options: &Options) -> Overall {
    if direct::holds(history) { Overall::Holds } else { verdict(&columns_of(history), options) }
}

/// The verdict alone.
pub fn verdict(columns: &Columns, options: &Options) -> Overall {
    let outcomes = decide(columns, options);
    let any = |f: fn(&State) -> bool| outcomes.iter().any(|o| f(&o.state));
    if any(State::is_violated) {
        Overall::Violated
    } else if any(|s| matches!(s, State::Unknown { .. })) {
        Overall::Unknown
    } else {
        Overall::Holds
    }
}

/// An order of the key's operations that explains every result, as rows of the source; unknown operations that did not
/// happen are left out. `None` if there is none, or none was found within the budget.
pub fn order(columns: &Columns, k: usize, options: &Options) -> Option<Vec<u32>> {
    let lane = columns.lane(k);
    let found = if columns.strings || lists(columns, &lane) {
        let (problem, mut machine) = growing(columns, &lane);
        search::depth::order(&problem, &mut machine, options.budget_steps)
    } else {
        search::depth::order(&Problem::new(&lane, &Register), &mut Register, options.budget_steps)
    };
    found.map(|order| order.into_iter().map(|i| columns.row(k, i as usize)).collect())
}

/// What is known of a key while it is being decided.
#[derive(Debug)]
struct Outcome {
    state: State,
    method: Method,
    steps: u64,
}

#[derive(Debug)]
enum State {
    Holds,
    Violated(Finding),
    /// A search proved it; what is behind it is found out when somebody wants to know.
    NoOrder {
        stuck: usize,
    },
    Unknown {
        furthest: Option<usize>,
        given_up: bool,
    },
}

impl State {
    fn is_violated(&self) -> bool {
        matches!(self, State::Violated(_) | State::NoOrder { .. })
    }
}

impl Outcome {
    fn linear(state: State, method: Method) -> Outcome {
        Outcome { state, method, steps: 0 }
    }

    fn report(self, columns: &Columns, k: usize, source: &dyn Source) -> KeyReport {
        let row = |i: usize| columns.row(k, i);
        let verdict = match self.state {
            State::Holds => Verdict::Holds,
            State::Violated(finding) => Verdict::Violated(Box::new(evidence(columns, k, finding, source))),
            State::NoOrder { stuck } => {
                let finding = no_order(columns, &columns.lane(k), stuck);
                Verdict::Violated(Box::new(evidence(columns, k, finding, source)))
            }
            State::Unknown { furthest, given_up } => Verdict::Unknown {
                budget_steps: self.steps,
                given_up,
                furthest: furthest.and_then(|i| source.describe(&[row(i)]).pop()),
            },
        };
        KeyReport {
            key: columns.keys[k].name.clone(),
            operations: columns.lane(k).len() as u32,
            method: self.method,
            steps: self.steps,
            verdict,
        }
    }
}

fn evidence(columns: &Columns, k: usize, finding: Finding, source: &dyn Source) -> Evidence {
    let nearby = nearby(&columns.lane(k), &finding);
    let indices = finding.core.iter().map(|c| c.0).chain(nearby.iter().copied());
    let rows: Vec<u32> = indices.map(|i| columns.row(k, i)).collect();
    let mut described = source.describe(&rows);
    let window = described.split_off(finding.core.len());
    let at = |i: usize| finding.core.iter().position(|c| c.0 == i).map(|n| &described[n]);
    let staleness_ms = finding.staleness.and_then(|(from, to)| {
        let (from, to) = (at(from)?.completed_ms?, at(to)?.invoked_ms?);
        Some(to - from)
    });
    let core = rows
        .iter()
        .zip(&described)
        .zip(finding.core)
        .map(|((&row, operation), (_, part))| CoreOperation { operation: operation.clone(), part, row })
        .collect();
    Evidence {
        class: finding.class,
        name: finding.class.name(),
        summary: finding.summary,
        staleness_ms,
        core,
        window,
    }
}

/// Operations drawn around a violation, at most.
const NEARBY_MAX: usize = 60;

/// The core, and the operations that were open or began shortly before its last one ended, in order of invocation.
fn nearby(lane: &Lane<'_>, finding: &Finding) -> Vec<usize> {
    let core = |i: &usize| finding.core.iter().any(|c| c.0 == *i);
    let over = |i: usize| if lane.ret[i] == columns::OPEN { lane.inv[i] } else { lane.ret[i] };
    let end = finding.core.iter().map(|c| over(c.0)).max().unwrap_or(0);
    let start = finding.core.iter().map(|c| lane.inv[c.0]).min().unwrap_or(0);
    let between = |i: &usize| !core(i) && lane.inv[*i] < end && lane.ret[*i] > start;
    let room = NEARBY_MAX.saturating_sub(finding.core.len());
    let mut nearby: Vec<usize> = (0..lane.len()).rev().filter(between).take(room).collect();
    nearby.extend(finding.core.iter().map(|c| c.0));
    nearby.sort_unstable();
    nearby
}

/// Decides all keys: by the linear rules first, then by search in rounds.
fn decide(columns: &Columns, options: &Options) -> Vec<Outcome> {
    let keys: Vec<usize> = (0..columns.keys.len()).collect();
    let mut outcomes = spread(&keys, options.threads, zones::Scratch::default, |scratch, k| {
        linear(columns, &columns.lane(k), scratch)
    });
    let mut open: Vec<usize> =
        keys.into_iter().filter(|&k| matches!(outcomes[k].state, State::Unknown { .. })).collect();
    open.sort_by_key(|&k| (columns.lane(k).len(), k));
    rounds(columns, options, open, &mut outcomes);
    outcomes
}

/// Steps every key gets in the first round.
const FIRST_ROUND_STEPS: u64 = 1 << 10;

/// Searches the open keys with growing budgets until all are decided, one is violated, or the budget is spent.
fn rounds(columns: &Columns, options: &Options, mut open: Vec<usize>, outcomes: &mut [Outcome]) {
    let mut left = options.budget_steps;
    let mut each = FIRST_ROUND_STEPS;
    let mut attempt = 0;
    let mut violated = outcomes.iter().any(|o| o.state.is_violated());
    while !open.is_empty() && left > 0 && !violated {
        let allotment = each.min(left / open.len() as u64).max(1);
        // An order of n operations takes n steps to write down, so less would be wasted.
        let with_length = |k: usize| allotment + (2 * columns.lane(k).len() as u64).min(left);
        let results =
            spread(&open, options.threads, || (), |(), k| searched(columns, k, with_length(k), attempt));
        let mut still_open = Vec::new();
        for (&k, mut outcome) in open.iter().zip(results) {
            left = left.saturating_sub(outcome.steps);
            outcome.steps += outcomes[k].steps;
            violated |= outcome.state.is_violated();
            if matches!(outcome.state, State::Unknown { .. }) {
                still_open.push(k);
            }
            outcomes[k] = outcome;
        }
        open = still_open;
        each = each.saturating_mul(4);
        attempt += 1;
    }
    for k in open {
        if let State::Unknown { given_up, .. } = &mut outcomes[k].state {
            *given_up = violated;
        }
    }
}

/// What the rules that need no search say of a key. `Unknown` sends it to the search.
fn linear(columns: &Columns, lane: &Lane<'_>, scratch: &mut zones::Scratch) -> Outcome {
    let unknown = State::Unknown { furthest: None, given_up: false };
    if lists(columns, lane) {
        return match versions::check(lane) {
            zones::Decision::Holds => Outcome::linear(State::Holds, Method::Versions),
            zones::Decision::Violated(finding) => Outcome::linear(State::Violated(finding), Method::Versions),
            zones::Decision::Negatives | zones::Decision::Repeated => {
                Outcome::linear(unknown, Method::Search)
            }
        };
    }
    if columns.strings {
        return match strings::check(lane, &columns.values, scratch) {
            zones::Decision::Holds => Outcome::linear(State::Holds, Method::Zones),
            zones::Decision::Violated(finding) => Outcome::linear(State::Violated(finding), Method::Zones),
            zones::Decision::Negatives | zones::Decision::Repeated => {
                Outcome::linear(unknown, Method::Search)
            }
        };
    }
    if !lane.version.is_empty()
        && let Some(decision) = numbered::check(lane)
    {
        return Outcome::linear(by_numbers(decision, lane, scratch), Method::Versions);
    }
    match zones::check(lane, scratch) {
        zones::Decision::Holds => Outcome::linear(State::Holds, Method::Zones),
        zones::Decision::Violated(finding) => Outcome::linear(State::Violated(finding), Method::Zones),
        zones::Decision::Repeated => match screen::check(lane) {
            Some(finding) => Outcome::linear(State::Violated(finding), Method::Screen),
            None => Outcome::linear(unknown, Method::Search),
        },
        zones::Decision::Negatives => match negative::check(lane, scratch) {
            negative::Negatives::Holds => Outcome::linear(State::Holds, Method::Schedule),
            negative::Negatives::Violated(finding) => {
                Outcome::linear(State::Violated(finding), Method::Schedule)
            }
            negative::Negatives::Open => Outcome::linear(unknown, Method::Search),
        },
    }
}

/// A verdict by the store's own numbers; a violation by the finer name it has if it shows without them.
fn by_numbers(decision: zones::Decision, lane: &Lane<'_>, scratch: &mut zones::Scratch) -> State {
    let zones::Decision::Violated(finding) = decision else { return State::Holds };
    match zones::check(lane, scratch) {
        zones::Decision::Violated(plain) => State::Violated(plain),
        _ => State::Violated(finding),
    }
}

/// Whether the key holds a list: its reads tell the whole list, element by element.
fn lists(columns: &Columns, lane: &Lane<'_>) -> bool {
    !columns.strings && lane.kind.iter().any(|k| matches!(k, Kind::Append | Kind::ReadList))
}

/// A search of one key with a budget.
fn searched(columns: &Columns, k: usize, budget: u64, attempt: u32) -> Outcome {
    let lane = columns.lane(k);
    let answer = if columns.strings || lane.kind.iter().any(|k| matches!(k, Kind::Append | Kind::ReadList)) {
        let (problem, mut machine) = growing(columns, &lane);
        search::decide(&problem, &mut machine, budget, attempt)
    } else {
        search::decide(&Problem::new(&lane, &Register), &mut Register, budget, attempt)
    };
    let state = match answer.found {
        Found::Order => State::Holds,
        Found::Nothing { stuck } => State::NoOrder { stuck },
        Found::Exhausted { furthest } => State::Unknown { furthest: Some(furthest), given_up: false },
    };
    Outcome { state, method: Method::Search, steps: answer.steps }
}

/// A string or list as a problem: every argument by its content.
fn growing<'a>(columns: &'a Columns, lane: &Lane<'_>) -> (Problem, Growing<'a>) {
    let mut reads = Vec::new();
    for i in (0..lane.len()).filter(|&i| lane.kind[i] == Kind::ReadList) {
        let shared = &lane.meta.spine[..lane.a[i] as usize];
        let tail = lane.b[i].checked_sub(1).map_or(&[][..], |t| &lane.meta.tails[t as usize]);
        let elements = shared.iter().chain(tail).map(|&t| u64::from(t) | 1 << 40);
        reads.push((i, Content::of(elements)));
    }
    let machine = Growing::new(&columns.values, reads.iter().map(|r| r.1).collect());
    let mut problem = Problem::new(lane, &machine);
    for (step, &origin) in problem.steps.iter_mut().zip(&problem.origin) {
        if step.kind == Kind::ReadList {
            let number = reads.partition_point(|r| r.0 < origin as usize);
            *step = search::Step { a: number as u32, b: 0, ..*step };
        }
    }
    (problem, machine)
}

/// The finding of a search: as small as it can be made.
fn no_order(columns: &Columns, lane: &Lane<'_>, stuck: usize) -> Finding {
    const SUMMARY: &str = "a search found that no order of the operations explains all results";
    let mut core = explain::Core::default();
    if columns.strings || lists(columns, lane) {
        core.add(Some(stuck), "no order of the operations gets past this one");
        let before = (0..lane.len()).rev().filter(|&i| lane.ret[i] < lane.inv[stuck]);
        for i in before.take(explain::CORE_MAX - 1) {
            core.add(Some(i), "completed shortly before");
        }
        return core.finding(Class::NoOrder, SUMMARY);
    }
    let left = match shrink::shrink(lane, stuck) {
        shrink::Shrunk::Named(finding) => return finding,
        shrink::Shrunk::Left(left) => left,
    };
    let needed = left.len();
    for &i in left.iter().take(LEFT_MAX) {
        core.add(Some(i), &format!("one of {needed} operations that cannot all be true"));
    }
    if left.iter().any(|&i| lane.kind[i] == Kind::NotEqual) {
        return core
            .finding(Class::FalseMismatch, "no order puts another value in place when this was refused");
    }
    core.finding(Class::NoOrder, SUMMARY)
}

/// Operations shown of a violation that only a search can prove.
const LEFT_MAX: usize = 12;

/// Runs `work` on every item, on several threads if wanted; results stand in the order of the items.
fn spread<S, T: Send>(
    items: &[usize],
    threads: usize,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> T + Sync,
) -> Vec<T> {
    if threads <= 1 || items.len() <= 1 {
        let mut own = scratch();
        return items.iter().map(|&item| work(&mut own, item)).collect();
    }
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                let mut own = scratch();
                let mut done = Vec::new();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&item) = items.get(at) else { break };
                    done.push((at, work(&mut own, item)));
                }
                results.lock().expect("no worker panics while it holds the lock").extend(done);
            });
        }
    });
    let mut results = results.into_inner().expect("no worker panics while it holds the lock");
    results.sort_unstable_by_key(|r| r.0);
    results.into_iter().map(|r| r.1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::proof::{self, Flavour};
    use crate::bench::rng::Rng;

    /// The rules in front of the search leave little for it to refute, so here it stands alone.
    #[test]
    fn the_searches_alone_agree_with_the_definition() {
        let flavours = [Flavour::Repeated, Flavour::UniqueNegative, Flavour::List, Flavour::Strings];
        for (seed, flavour) in (100..).zip(flavours) {
            let mut rng = Rng::new(seed);
            for attempt in 0..2_500 {
                let history = proof::draw(&mut rng, flavour);
                let columns = proof::to_columns(&history, flavour);
                // The first attempts are given so little that every tier has its turn.
                let budget = [1, 3, 10, 1_000_000][attempt as usize % 4];
                let outcome = searched(&columns, 0, budget, attempt % 3);
                match outcome.state {
                    State::Holds => assert!(proof::naive(&history), "{flavour:?} {history:#?}"),
                    State::Violated(_) | State::NoOrder { .. } => {
                        assert!(!proof::naive(&history), "{flavour:?} {history:#?}")
                    }
                    State::Unknown { .. } => assert!(budget < 1_000_000, "{flavour:?} {history:#?}"),
                }
            }
        }
    }
}
