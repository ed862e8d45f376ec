//! Models of the user's own, and orders on demand.

use firedrill_checkers::bench::proof::{self, Answer, Asked, Flavour, SmallOperation};
use firedrill_checkers::bench::rng::Rng;
use firedrill_checkers::linear::model::{Call, Model, check, explains};
use firedrill_checkers::linear::{self, Options, Overall};

/// A register as a model, to be compared with the built-in one.
struct Register;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Read(u32),
    Write(u32),
    Cas(u32, u32),
    Refused(u32),
}

impl Model for Register {
    type State = u32;
    type Operation = Operation;

    fn initial(&self) -> u32 {
        0
    }

    fn step(&self, state: &u32, operation: &Operation) -> Option<u32> {
        match *operation {
            Operation::Read(v) => (*state == v).then_some(*state),
            Operation::Write(v) => Some(v),
            Operation::Cas(from, to) => (*state == from).then_some(to),
            Operation::Refused(from) => (*state != from).then_some(*state),
        }
    }

    fn observes(&self, operation: &Operation) -> bool {
        matches!(operation, Operation::Read(_) | Operation::Refused(_))
    }
}

fn calls(history: &[SmallOperation]) -> Vec<Call<Operation>> {
    let said = history.iter().filter(|o| o.answer != Answer::Failed);
    said.filter_map(|o| {
        let operation = match (o.asked, &o.answer) {
            (Asked::Read, Answer::Saw(seen)) => Operation::Read(seen.first().copied().unwrap_or(0)),
            (Asked::Write(v), _) => Operation::Write(v),
            (Asked::Cas(from, _), Answer::Refused) if o.ret.is_some() => Operation::Refused(from),
            (Asked::Cas(from, to), _) => Operation::Cas(from, to),
            _ => return None,
        };
        let unknown_read = o.ret.is_none() && o.asked == Asked::Read;
        (!unknown_read).then_some(Call { operation, invoked: o.inv.into(), completed: o.ret.map(u64::from) })
    })
    .collect()
}

#[test]
fn a_model_of_a_register_agrees_with_the_definition_and_gives_orders() {
    let mut rng = Rng::new(20);
    let mut verdicts = [0, 0];
    for _ in 0..5_000 {
        let history = proof::draw(&mut rng, Flavour::Repeated);
        let calls = calls(&history);
        let judgement = check(&Register, &calls, None, &Options::default());
        let expected = proof::naive(&history);
        assert_eq!(judgement.verdict == Overall::Holds, expected, "{history:#?}");
        if expected {
            let order = judgement.order.expect("an order of a small history is found");
            assert!(explains(&Register, &calls, &order), "{order:?} {history:#?}");
        }
        verdicts[usize::from(expected)] += 1;
    }
    assert!(verdicts[0] > 500 && verdicts[1] > 500);
}

#[test]
fn an_order_that_the_system_claims_is_verified_not_trusted() {
    let call = |operation, invoked, completed| Call { operation, invoked, completed: Some(completed) };
    let history =
        [call(Operation::Write(1), 1, 4), call(Operation::Write(2), 2, 3), call(Operation::Read(1), 5, 6)];
    assert!(explains(&Register, &history, &[1, 0, 2]));
    assert!(!explains(&Register, &history, &[0, 1, 2]), "the read would see 2");
    assert!(!explains(&Register, &history, &[1, 0]), "the read is missing");
    assert!(!explains(&Register, &history, &[2, 1, 0]), "the read began after both writes");
    let with = |hint: &[usize]| check(&Register, &history, Some(hint), &Options::default());
    assert_eq!((with(&[1, 0, 2]).verdict, with(&[1, 0, 2]).steps), (Overall::Holds, 0));
    assert_eq!(with(&[0, 1, 2]).verdict, Overall::Holds, "a wrong hint costs a search, no verdict");
}

#[test]
fn orders_on_demand_are_orders() {
    let mut rng = Rng::new(21);
    let mut found = 0;
    for _ in 0..2_000 {
        let history = proof::draw(&mut rng, Flavour::UniqueNegative);
        let columns = proof::to_columns(&history, Flavour::UniqueNegative);
        let order = linear::order(&columns, 0, &Options::default());
        assert_eq!(order.is_some(), proof::naive(&history));
        let Some(order) = order else { continue };
        found += 1;
        let all: Vec<Call<Operation>> = history.iter().flat_map(|o| calls(std::slice::from_ref(o))).collect();
        // Rows count all operations of the history; calls only those that say something.
        let said: Vec<usize> =
            (0..history.len()).filter(|&i| !calls(std::slice::from_ref(&history[i])).is_empty()).collect();
        let order: Vec<usize> =
            order.iter().map(|r| said.binary_search(&(*r as usize)).expect("it says something")).collect();
        assert!(explains(&Register, &all, &order), "{order:?} {history:#?}");
    }
    assert!(found > 500);
}
