//! The record of a run goes to the same checkers as an imported history.

use firedrill_checkers::linear::{self, Class, Options, Overall};
use firedrill_checkers::record::{
    Action, Failure, History, Instant, KeyIndex, KeyInfo, NodeIndex, Operation, Outcome, Purpose, Returned,
    SimTime,
};

fn at(ms: u64) -> Instant {
    Instant { at: SimTime(ms * 1_000), seq: ms }
}

fn operation(process: u32, action: Action, from: u64, to: u64, outcome: Outcome) -> Operation {
    Operation {
        process,
        client: NodeIndex(process as u16),
        purpose: Purpose::Workload,
        key: KeyIndex(0),
        action,
        bytes: 8,
        invoked: at(from),
        completed: Some(at(to)),
        outcome,
        answered_by: Some(NodeIndex(1)),
    }
}

fn done() -> Outcome {
    Outcome::Ok(Returned::Done)
}

fn value(v: u64) -> Outcome {
    Outcome::Ok(Returned::Value(Some(v)))
}

fn list(shared: u32, tail: &[u64]) -> Outcome {
    Outcome::Ok(Returned::List { shared, tail: tail.to_vec() })
}

fn history(spine: &[u64], operations: Vec<Operation>) -> History {
    History {
        keys: vec![KeyInfo { name: "x".into(), spine: spine.to_vec(), ..KeyInfo::default() }],
        operations,
    }
}

fn check(history: &History) -> linear::Report {
    linear::check_history(history, &Options::default())
}

#[test]
fn a_register_run_that_holds_and_one_that_does_not() {
    let base = vec![
        operation(0, Action::Write(1 << 40), 1, 3, done()),
        operation(0, Action::Write((1 << 40) + 7), 4, 6, done()),
        operation(1, Action::Read, 7, 9, value((1 << 40) + 7)),
    ];
    assert_eq!(check(&history(&[], base.clone())).verdict, Overall::Holds);
    let mut stale = base;
    stale[2].outcome = value(1 << 40);
    let report = check(&history(&[], stale));
    let (key, evidence) = report.strongest().expect("violated");
    assert_eq!((key.key.as_str(), evidence.class), ("x", Class::LostWrite));
    assert_eq!(evidence.staleness_ms, Some(1.0));
}

#[test]
fn completions_out_of_order_are_put_in_order() {
    let operations = vec![
        operation(0, Action::Write(1), 1, 20, done()),
        operation(1, Action::Write(2), 2, 5, done()),
        operation(2, Action::Read, 6, 7, value(2)),
        operation(3, Action::Read, 8, 9, value(1)),
    ];
    assert_eq!(check(&history(&[], operations)).verdict, Overall::Holds);
}

#[test]
fn a_list_run_that_loses_an_acknowledged_append() {
    let run = |seen| {
        history(
            &[1, 2],
            vec![
                operation(0, Action::Append(1), 1, 2, done()),
                operation(0, Action::Append(2), 3, 4, Outcome::Info(Failure::Timeout)),
                operation(0, Action::Append(3), 5, 6, done()),
                operation(1, Action::Read, 7, 8, list(seen, &[])),
            ],
        )
    };
    assert_eq!(check(&run(2)).strongest().expect("3 is missing").1.class, Class::LostAppend);
    let mut good = run(2);
    good.operations[2].completed = Some(at(9));
    assert_eq!(check(&good).verdict, Overall::Holds);
}

#[test]
fn a_read_that_diverges_from_the_spine() {
    let run = history(
        &[1, 2],
        vec![
            operation(0, Action::Append(1), 1, 9, done()),
            operation(1, Action::Append(2), 2, 9, done()),
            operation(2, Action::Read, 3, 4, list(2, &[])),
            operation(3, Action::Read, 5, 6, list(1, &[7])),
        ],
    );
    assert_eq!(check(&run).strongest().expect("diverged").1.class, Class::DivergedLists);
}

#[test]
fn probes_and_final_reads_are_not_judged() {
    let mut run = history(&[], vec![operation(0, Action::Read, 1, 2, value(77))]);
    assert_eq!(check(&run).verdict, Overall::Violated);
    run.operations[0].purpose = Purpose::FinalRead { node: NodeIndex(1) };
    assert_eq!(check(&run).verdict, Overall::Holds);
}

#[test]
fn a_refused_cas_that_tells_the_value_is_a_read() {
    let run = |told| {
        history(
            &[],
            vec![
                operation(0, Action::Write(1), 1, 2, done()),
                operation(
                    0,
                    Action::Cas { from: Some(9), to: 3 },
                    3,
                    4,
                    Outcome::Ok(Returned::Mismatch(told)),
                ),
            ],
        )
    };
    assert_eq!(check(&run(Some(1))).verdict, Overall::Holds);
    assert_eq!(check(&run(None)).verdict, Overall::Violated);
}

#[test]
fn threads_do_not_change_the_report() {
    let mut all = History::default();
    for k in 0..40 {
        all.keys.push(KeyInfo { name: format!("key-{k}"), ..KeyInfo::default() });
    }
    for n in 0..400u64 {
        let mut o = operation(0, Action::Write(1 + n / 80), 2 * n + 1, 2 * n + 2, done());
        o.key = KeyIndex((n % 40) as u32);
        all.operations.push(o);
    }
    let one = linear::check_history(&all, &Options::default());
    let four = linear::check_history(&all, &Options { threads: 4, ..Options::default() });
    assert_eq!(one.to_json(), four.to_json());
    assert_eq!(one.statistics.searched, 40);
}

#[test]
fn operations_in_any_order_are_put_in_order() {
    let mut run = history(
        &[],
        vec![
            operation(0, Action::Write(1), 1, 3, done()),
            operation(2, Action::Read, 4, 5, Outcome::Info(Failure::Timeout)),
            operation(0, Action::Write(2), 6, 8, done()),
            operation(1, Action::Read, 9, 10, value(1)),
        ],
    );
    let straight = check(&run);
    run.operations.reverse();
    let reversed = check(&run);
    let (_, one) = straight.strongest().expect("a lost write");
    let (_, other) = reversed.strongest().expect("a lost write");
    assert_eq!(one.class, other.class);
    let texts = |e: &linear::Evidence| e.core.iter().map(|c| c.operation.text.clone()).collect::<Vec<_>>();
    assert_eq!(texts(one), texts(other));
    assert_eq!(texts(one), ["write 1", "write 2", "read 1"]);
}
