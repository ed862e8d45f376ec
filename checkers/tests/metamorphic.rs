//! Changes that can only make an order easier to find: what held must hold afterwards, and what is violated afterwards
//! was violated before.

use firedrill_checkers::bench::proof::{self, Answer, Asked, Flavour, Small};
use firedrill_checkers::bench::rng::Rng;
use firedrill_checkers::linear::{self, Options, Overall};

fn verdict(history: &Small, flavour: Flavour) -> Overall {
    linear::verdict(&proof::to_columns(history, flavour), &Options::default())
}

/// Applies the change to many histories and compares.
fn keeps_what_holds(seed: u64, change: impl Fn(&mut Rng, &mut Small) -> bool) {
    for (seed, flavour) in (seed..).zip(Flavour::ALL) {
        let mut rng = Rng::new(seed);
        let mut changed = 0;
        for _ in 0..3_000 {
            let before = proof::draw(&mut rng, flavour);
            let mut after = before.clone();
            if !change(&mut rng, &mut after) {
                continue;
            }
            changed += 1;
            if verdict(&before, flavour) == Overall::Holds {
                assert_eq!(verdict(&after, flavour), Overall::Holds, "{flavour:?}\n{before:#?}\n{after:#?}");
            }
        }
        assert!(changed > 1_000, "{flavour:?}: {changed}");
    }
}

fn any(rng: &mut Rng, history: &Small) -> usize {
    rng.below(history.len() as u64) as usize
}

#[test]
fn leaving_out_a_read() {
    keeps_what_holds(60, |rng, history| {
        let i = any(rng, history);
        let is_read = history[i].asked == Asked::Read;
        if is_read {
            history[i].answer = Answer::Failed;
        }
        is_read
    });
}

#[test]
fn making_an_outcome_unknown() {
    keeps_what_holds(70, |rng, history| {
        let i = any(rng, history);
        let known = history[i].ret.is_some() && matches!(history[i].answer, Answer::Done | Answer::Saw(_));
        if known {
            history[i].ret = None;
            history[i].answer = Answer::Done;
        }
        known
    });
}

#[test]
fn letting_an_operation_last_longer() {
    keeps_what_holds(80, |rng, history| {
        let i = any(rng, history);
        let Some(ret) = history[i].ret else { return false };
        // The event that follows: if it is an invocation the two change places, else nothing is widened.
        let Some(next) = history.iter().position(|o| o.inv == ret + 1) else { return false };
        history[i].ret = Some(ret + 1);
        history[next].inv = ret;
        true
    });
}
