//! The rules that watch a run are right as soon as they speak, and where they promise it they miss nothing.

use firedrill_checkers::bench::proof::{self, Answer, Asked, Flavour, Small};
use firedrill_checkers::bench::rng::Rng;
use firedrill_checkers::linear::online::{Early, Watch};
use firedrill_checkers::record::{
    Action, Failure, History, Instant, KeyIndex, KeyInfo, NodeIndex, Operation, Outcome, Purpose, Returned,
    SimTime,
};

fn at(position: u32) -> Instant {
    Instant { at: SimTime(position.into()), seq: position.into() }
}

/// Plays a small history as a run, and returns what the watch said first.
fn watch(small: &Small, lists: bool) -> Option<Early> {
    let mut history = History { keys: vec![KeyInfo::default()], operations: Vec::new() };
    let mut watch = Watch::default();
    let mut events: Vec<(u32, usize, bool)> = Vec::new();
    for (i, o) in small.iter().enumerate() {
        events.push((o.inv, i, false));
        events.extend(o.ret.map(|ret| (ret, i, true)));
    }
    events.sort_unstable();
    for (position, i, is_return) in events {
        if !is_return {
            history.operations.push(operation(small, i));
            watch.invoked(&history.operations[i]);
            continue;
        }
        let outcome = outcome(&mut history.keys[0].spine, &small[i].answer, lists);
        history.operations[i].outcome = match (small[i].asked, outcome) {
            (Asked::Cas(..), Outcome::Ok(Returned::Value(told))) => Outcome::Ok(Returned::Mismatch(told)),
            (_, outcome) => outcome,
        };
        history.operations[i].completed = Some(at(position));
        let early = watch.completed(&history, i);
        if early.is_some() {
            return early;
        }
    }
    None
}

fn operation(small: &Small, i: usize) -> Operation {
    Operation {
        process: i as u32,
        client: NodeIndex(0),
        purpose: Purpose::Workload,
        key: KeyIndex(0),
        action: match small[i].asked {
            Asked::Read => Action::Read,
            Asked::Write(v) => Action::Write(v.into()),
            Asked::Append(v) => Action::Append(v.into()),
            Asked::Cas(from, to) => Action::Cas { from: (from > 0).then_some(from.into()), to: to.into() },
        },
        bytes: 0,
        invoked: at(small[i].inv),
        completed: None,
        outcome: Outcome::Info(Failure::Timeout),
        answered_by: None,
    }
}

/// The answer as a run records it: a list as what it shares with the longest seen so far, which grows.
fn outcome(spine: &mut Vec<u64>, answer: &Answer, lists: bool) -> Outcome {
    match answer {
        Answer::Done => Outcome::Ok(Returned::Done),
        Answer::Refused | Answer::Failed => Outcome::Fail(Failure::Rejected),
        Answer::Saw(seen) if lists => {
            let seen: Vec<u64> = seen.iter().map(|&v| v.into()).collect();
            let shared = seen.iter().zip(spine.iter()).take_while(|(a, b)| a == b).count();
            if shared == spine.len() {
                spine.clone_from(&seen);
                return Outcome::Ok(Returned::List { shared: seen.len() as u32, tail: Vec::new() });
            }
            Outcome::Ok(Returned::List { shared: shared as u32, tail: seen[shared..].to_vec() })
        }
        Answer::Saw(seen) => Outcome::Ok(Returned::Value(seen.first().map(|&v| v.into()))),
    }
}

fn agrees(flavour: Flavour, seed: u64) -> [u32; 2] {
    let mut rng = Rng::new(seed);
    let mut seen = [0, 0];
    for _ in 0..10_000 {
        let small = proof::draw(&mut rng, flavour);
        let early = watch(&small, flavour == Flavour::List);
        let holds = proof::naive(&small);
        assert!(early.is_none() || !holds, "false alarm: {early:?} {small:#?}");
        seen[usize::from(holds)] += 1;
        if early.is_none() && flavour != Flavour::UniqueCas {
            assert!(holds, "missed: {small:#?}");
        }
    }
    seen
}

#[test]
fn registers_with_unique_values() {
    let seen = agrees(Flavour::Unique, 50);
    assert!(seen[0] > 1_000 && seen[1] > 1_000);
}

#[test]
fn lists() {
    let seen = agrees(Flavour::List, 51);
    assert!(seen[0] > 1_000 && seen[1] > 1_000);
}

#[test]
fn compare_and_set_never_raises_a_false_alarm() {
    agrees(Flavour::UniqueCas, 52);
}
