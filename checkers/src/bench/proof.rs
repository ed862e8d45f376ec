//! The checkers against the definition: random small histories, judged by trying every order there is.
//!
//! The permutation search below shares nothing with the checkers but the form of its input. It is exponential and
//! simple: place any operation that may come next, go on, take it back.

use super::rng::Rng;
use crate::linear::columns::{Builder, Columns, KeyMeta, Kind, NIL, OPEN, Token};
use crate::linear::{self, Options, Overall};
use crate::record::{
    Action, Failure, History, Instant, KeyIndex, KeyInfo, NodeIndex, Operation, Outcome, Purpose, Returned,
    SimTime,
};

/// What kind of history to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Register, unique values, reads and writes.
    Unique,
    /// The same with compare-and-set; a refused one tells the value.
    UniqueCas,
    /// The same, but a refused one tells nothing.
    UniqueNegative,
    /// Register with few values, so that they repeat.
    Repeated,
    /// Append-only list, unique elements.
    List,
    /// Append-only list whose elements repeat.
    RepeatedList,
    /// String with get, put and append.
    Strings,
    /// The same with pieces that differ.
    UniqueStrings,
}

impl Flavour {
    /// All of them.
    pub const ALL: [Flavour; 8] = [
        Flavour::Unique,
        Flavour::UniqueCas,
        Flavour::UniqueNegative,
        Flavour::Repeated,
        Flavour::List,
        Flavour::RepeatedList,
        Flavour::Strings,
        Flavour::UniqueStrings,
    ];

    fn unique(self) -> bool {
        !matches!(self, Flavour::Repeated | Flavour::RepeatedList | Flavour::Strings)
    }

    fn strings(self) -> bool {
        matches!(self, Flavour::Strings | Flavour::UniqueStrings)
    }

    fn list(self) -> bool {
        matches!(self, Flavour::List | Flavour::RepeatedList)
    }
}

/// An operation of a small history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmallOperation {
    /// What was asked.
    pub asked: Asked,
    /// When; positions 1, 2, 3, ...
    pub inv: u32,
    /// When it was answered; `None`: the outcome is unknown.
    pub ret: Option<u32>,
    /// What was answered.
    pub answer: Answer,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The whole value.
    Read,
    /// Set it.
    Write(u32),
    /// Set it to the second if it is the first; 0 is "nothing there".
    Cas(u32, u32),
    /// Add at the end.
    Append(u32),
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done, or nothing known.
    Done,
    /// The value: a register holds at most one element.
    Saw(Vec<u32>),
    /// Refused; the value was something else.
    Refused,
    /// It certainly did not happen.
    Failed,
}

/// A small history of one key.
pub type Small = Vec<SmallOperation>;

/// Draws a history. Most come from a correct object; in about a third an answer is falsified afterwards.
pub fn draw(rng: &mut Rng, flavour: Flavour) -> Small {
    let clients = 2 + rng.below(4) as usize;
    let total = 4 + rng.below(9) as usize;
    let unknown = [0, 10, 30, 60][rng.below(4) as usize];
    let mut history = simulate(rng, flavour, clients, total, unknown);
    if rng.percent(45) {
        falsify(rng, flavour, &mut history);
    }
    history
}

/// A correct object under random interleaving. Each operation takes effect once, somewhere while it is open; unknown
/// ones take effect at any later time, or never.
fn simulate(rng: &mut Rng, flavour: Flavour, clients: usize, total: usize, unknown: u64) -> Small {
    let mut history: Small = Vec::new();
    let mut busy: Vec<Option<usize>> = vec![None; clients];
    let mut applied: Vec<bool> = Vec::new();
    let mut lost: Vec<usize> = Vec::new();
    let mut state: Vec<u32> = Vec::new();
    let mut now = 0;
    loop {
        let done = history.len() >= total;
        if done && busy.iter().all(Option::is_none) {
            return history;
        }
        if !lost.is_empty() && rng.percent(15) {
            let late = lost.swap_remove(rng.below(lost.len() as u64) as usize);
            apply(&mut history[late], &mut state, flavour);
        }
        let client = rng.below(clients as u64) as usize;
        match busy[client] {
            None if done => {}
            None => {
                now += 1;
                let asked = ask(rng, flavour, history.len() as u32 + 1);
                busy[client] = Some(history.len());
                history.push(SmallOperation { asked, inv: now, ret: None, answer: Answer::Done });
                applied.push(false);
            }
            Some(op) if !applied[op] && rng.percent(60) => {
                applied[op] = true;
                apply(&mut history[op], &mut state, flavour);
            }
            Some(op) => {
                busy[client] = None;
                if rng.percent(unknown) {
                    history[op].answer = Answer::Done;
                    if !applied[op] {
                        lost.push(op);
                    }
                    continue;
                }
                if !applied[op] && history[op].asked != Asked::Read && rng.percent(10) {
                    history[op].answer = Answer::Failed;
                } else if !applied[op] {
                    apply(&mut history[op], &mut state, flavour);
                }
                now += 1;
                history[op].ret = Some(now);
            }
        }
    }
}

fn ask(rng: &mut Rng, flavour: Flavour, fresh: u32) -> Asked {
    let value = if flavour.unique() { fresh } else { 1 + rng.below(3) as u32 };
    let other = rng.below(if flavour.unique() { u64::from(fresh) } else { 4 }) as u32;
    match (flavour, rng.below(10)) {
        (_, 0..4) => Asked::Read,
        (Flavour::List | Flavour::RepeatedList, _) => Asked::Append(value),
        (Flavour::Strings | Flavour::UniqueStrings, 4..8) => Asked::Append(value),
        (Flavour::UniqueCas | Flavour::UniqueNegative | Flavour::Repeated, 4..7) => Asked::Cas(other, value),
        _ => Asked::Write(value),
    }
}

/// Takes effect now, and notes the answer.
fn apply(operation: &mut SmallOperation, state: &mut Vec<u32>, flavour: Flavour) {
    operation.answer = match operation.asked {
        Asked::Read => Answer::Saw(state.clone()),
        Asked::Write(v) => {
            *state = vec![v];
            Answer::Done
        }
        Asked::Append(v) => {
            state.push(v);
            Answer::Done
        }
        Asked::Cas(from, to) if state.first().copied().unwrap_or(0) == from => {
            *state = vec![to];
            Answer::Done
        }
        Asked::Cas(..) if flavour == Flavour::UniqueCas => Answer::Saw(state.clone()),
        Asked::Cas(..) => Answer::Refused,
    };
}

/// Changes one answer to one that another read might have got.
fn falsify(rng: &mut Rng, flavour: Flavour, history: &mut Small) {
    let i = rng.below(history.len() as u64) as usize;
    let values = history.len() as u32;
    let any = |rng: &mut Rng| 1 + rng.below(if flavour.unique() { u64::from(values) } else { 3 }) as u32;
    let operation = &mut history[i];
    match (&mut operation.answer, operation.asked) {
        (Answer::Saw(seen), Asked::Read) if flavour.list() || flavour.strings() => match rng.below(3) {
            0 => _ = seen.pop(),
            1 if seen.len() > 1 => seen.swap(0, 1),
            _ => seen.push(any(rng)),
        },
        (Answer::Saw(seen), _) => *seen = if rng.percent(15) { Vec::new() } else { vec![any(rng)] },
        (answer @ Answer::Refused, _) => *answer = Answer::Done,
        (answer @ Answer::Done, Asked::Cas(..)) if flavour != Flavour::UniqueCas => *answer = Answer::Refused,
        (answer @ Answer::Done, Asked::Write(_) | Asked::Append(_)) if operation.ret.is_some() => {
            *answer = Answer::Failed;
        }
        _ => {}
    }
}

/// Whether any order explains every answer, by trying them all.
pub fn naive(history: &Small) -> bool {
    let needed: Vec<&SmallOperation> = history
        .iter()
        .filter(|o| o.answer != Answer::Failed && (o.ret.is_some() || o.asked != Asked::Read))
        .collect();
    place_rest(&needed, 0, &[])
}

fn place_rest(history: &[&SmallOperation], placed: u64, state: &[u32]) -> bool {
    let missing = |i: &usize| placed & (1 << i) == 0;
    let deadline = (0..history.len()).filter(missing).filter_map(|i| history[i].ret).min();
    let Some(deadline) = deadline else { return true };
    for i in (0..history.len()).filter(missing).filter(|&i| history[i].inv < deadline) {
        if let Some(after) = outcome(history[i], state)
            && place_rest(history, placed | 1 << i, &after)
        {
            return true;
        }
    }
    false
}

/// The state after the operation, if its answer is right in this state.
fn outcome(operation: &SmallOperation, state: &[u32]) -> Option<Vec<u32>> {
    let known = operation.ret.is_some();
    match (operation.asked, &operation.answer) {
        (Asked::Read, Answer::Saw(seen)) => (seen == state).then(|| state.to_vec()),
        (Asked::Read, _) => Some(state.to_vec()),
        (Asked::Write(v), _) => Some(vec![v]),
        (Asked::Append(v), _) => Some(state.iter().copied().chain([v]).collect()),
        (Asked::Cas(from, to), answer) => {
            let holds = state.first().copied().unwrap_or(0) == from;
            match answer {
                Answer::Saw(seen) if known => (seen == state).then(|| state.to_vec()),
                Answer::Refused if known => (!holds).then(|| state.to_vec()),
                _ => holds.then(|| vec![to]),
            }
        }
    }
}

/// The same history as columns.
pub fn to_columns(history: &Small, flavour: Flavour) -> Columns {
    let mut builder = Builder::default();
    let mut columns_values = crate::linear::columns::Interner::default();
    let spine = if flavour.list() { longest(history) } else { Vec::new() };
    let key = builder.key(KeyMeta {
        name: "k".into(),
        spine: spine.iter().map(|v| v + 1).collect(),
        tails: vec![],
    });
    let mut events: Vec<(u32, usize, bool)> = Vec::new();
    for (i, operation) in history.iter().enumerate() {
        events.push((operation.inv, i, false));
        events.extend(operation.ret.map(|ret| (ret, i, true)));
    }
    events.sort_unstable();
    for (_, i, is_return) in events {
        let operation = &history[i];
        let mut text = |seen: &[u32]| -> Token {
            match (flavour, seen) {
                (_, []) => NIL,
                (f, _) if f.strings() => columns_values.text(&spell(seen)),
                _ => seen[0] + 1,
            }
        };
        let (kind, a, b) = match operation.asked {
            Asked::Read => (Kind::Read, NIL, NIL),
            Asked::Write(v) => (Kind::Write, text(&[v]), NIL),
            Asked::Append(v) => (Kind::Append, text(&[v]), NIL),
            Asked::Cas(from, to) => (Kind::Cas, if from == 0 { NIL } else { from + 1 }, to + 1),
        };
        if !is_return {
            builder.invoke(key, (kind != Kind::Read).then_some(kind), a, b);
            continue;
        }
        match &operation.answer {
            Answer::Done => builder.complete(i as u32, kind, a, b),
            Answer::Failed => builder.abort(i as u32),
            Answer::Refused => builder.complete(i as u32, Kind::NotEqual, a, NIL),
            Answer::Saw(seen) if flavour.list() => {
                let shared = seen.iter().zip(&spine).take_while(|(x, y)| x == y).count();
                let tail: Vec<Token> = seen[shared..].iter().map(|v| v + 1).collect();
                let mut diverging = 0;
                if !tail.is_empty() {
                    builder.meta(key).tails.push(tail);
                    diverging = builder.meta(key).tails.len() as u32;
                }
                builder.complete(i as u32, Kind::ReadList, shared as u32, diverging);
            }
            Answer::Saw(seen) => {
                let seen = text(seen);
                builder.complete(i as u32, Kind::Read, seen, NIL);
            }
        }
    }
    let mut columns = builder.finish();
    columns.values = columns_values;
    columns.strings = flavour.strings();
    debug_assert!(columns.ret.iter().all(|&r| r == OPEN || r <= columns.events[0]));
    columns
}

/// Small histories as the record of one run, a key each, one after the other in time; `None` if the record of a run
/// cannot say it: strings, and refusals that tell nothing and yet mean something.
pub fn to_record(histories: &[&Small], flavour: Flavour) -> Option<History> {
    let mut record = History::default();
    let mut now = 0;
    for (k, history) in histories.iter().enumerate() {
        if flavour.strings() || history.iter().any(|o| o.answer == Answer::Refused) {
            return None;
        }
        let value = |v: u32| u64::from(v) + 100 * k as u64;
        let spine: Vec<u64> =
            if flavour.list() { longest(history).into_iter().map(value).collect() } else { Vec::new() };
        let at = |position: u32| Instant {
            at: SimTime(now + u64::from(position)),
            seq: now + u64::from(position),
        };
        for o in history.iter() {
            let seen = |seen: &[u32]| match flavour.list() {
                false => seen.first().copied().map(value),
                true => unreachable!("a list is not told by one value"),
            };
            let outcome = match (&o.answer, o.asked) {
                _ if o.ret.is_none() => Outcome::Info(Failure::Timeout),
                (Answer::Failed | Answer::Refused, _) => Outcome::Fail(Failure::NotPrimary),
                (Answer::Saw(list), _) if flavour.list() => {
                    let list: Vec<u64> = list.iter().copied().map(value).collect();
                    let shared = list.iter().zip(&spine).take_while(|(x, y)| x == y).count();
                    Outcome::Ok(Returned::List { shared: shared as u32, tail: list[shared..].to_vec() })
                }
                (Answer::Saw(value), Asked::Read) => Outcome::Ok(Returned::Value(seen(value))),
                (Answer::Saw(value), _) => Outcome::Ok(Returned::Mismatch(seen(value))),
                (Answer::Done, _) => Outcome::Ok(Returned::Done),
            };
            record.operations.push(Operation {
                process: 0,
                client: NodeIndex(0),
                purpose: Purpose::Workload,
                key: KeyIndex(k as u32),
                action: match o.asked {
                    Asked::Read => Action::Read,
                    Asked::Write(v) => Action::Write(value(v)),
                    Asked::Append(v) => Action::Append(value(v)),
                    Asked::Cas(from, to) => {
                        Action::Cas { from: (from != 0).then(|| value(from)), to: value(to) }
                    }
                },
                bytes: 0,
                invoked: at(o.inv),
                completed: o.ret.map(at),
                outcome,
                answered_by: None,
            });
        }
        now += 1_000;
        record.keys.push(KeyInfo { name: k.to_string(), spine, ..KeyInfo::default() });
    }
    Some(record)
}

fn spell(seen: &[u32]) -> Vec<u8> {
    seen.iter().map(|&v| b'a' + v as u8).collect()
}

fn longest(history: &Small) -> Vec<u32> {
    let mut longest: Vec<u32> = Vec::new();
    for operation in history {
        if let Answer::Saw(seen) = &operation.answer
            && operation.ret.is_some()
            && seen.len() > longest.len()
        {
            longest.clone_from(seen);
        }
    }
    longest
}

/// What a proof run met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Histories that are linearizable.
    pub holds: u64,
    /// Histories that are not.
    pub violated: u64,
}

/// Judges `count` histories of this flavour both ways; and each, with the one before it on a second key, as the record
/// of a run.
///
/// # Errors
/// The first history on which the two disagree.
pub fn compare(flavour: Flavour, seed: u64, count: u64) -> Result<Tally, Box<(Small, Overall)>> {
    let mut rng = Rng::new(seed);
    let mut tally = Tally::default();
    let options = Options::default();
    let verdict = |holds: bool| if holds { Overall::Holds } else { Overall::Violated };
    let (mut before, mut before_holds) = (Small::new(), true);
    for _ in 0..count {
        let history = draw(&mut rng, flavour);
        let expected = naive(&history);
        let found = linear::verdict(&to_columns(&history, flavour), &options);
        if found != verdict(expected) {
            return Err(Box::new((history, found)));
        }
        if let Some(record) = to_record(&[&before, &history], flavour) {
            let found = linear::verdict_of(&record, &options);
            if found != verdict(expected && before_holds) {
                return Err(Box::new((history, found)));
            }
        }
        (before, before_holds) = (history, expected);
        if expected {
            tally.holds += 1;
        } else {
            tally.violated += 1;
        }
    }
    Ok(tally)
}
