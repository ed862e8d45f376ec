//! What still holds where linearizability does not.

use firedrill_checkers::bench::rng::Rng;
use firedrill_checkers::import;
use firedrill_checkers::linear::levels::{Level, Levels, Sessions, grade};
use firedrill_checkers::linear::{self, Options};
use firedrill_checkers::record::{
    Action, Failure, History, Instant, KeyIndex, KeyInfo, NodeIndex, Operation, Outcome, Purpose, Returned,
    SimTime,
};

/// What a client does, one after another in time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Append(u64),
    /// An append of unknown outcome.
    Unknown(u64),
    /// A read of the list's first elements, this many.
    Read(u32),
}

use Does::{Append, Read, Unknown};

/// Client, key, what.
type Step = (u32, u32, Does);

/// A history of lists: the spines, and (client, key, what) in order; operation `n` lasts from `10 n` to `10 n + 5` ms.
fn history(spines: &[&[u64]], steps: &[Step]) -> History {
    let keys = spines.iter().enumerate().map(|(k, spine)| KeyInfo {
        name: format!("k{k}"),
        spine: spine.to_vec(),
        ..KeyInfo::default()
    });
    let at = |ms: usize| Instant { at: SimTime(1_000 * ms as u64), seq: ms as u64 };
    let operations = steps.iter().enumerate().map(|(n, &(process, key, does))| Operation {
        process,
        client: NodeIndex(process as u16),
        purpose: Purpose::Workload,
        key: KeyIndex(key),
        action: match does {
            Append(v) | Unknown(v) => Action::Append(v),
            Read(_) => Action::Read,
        },
        bytes: 0,
        invoked: at(10 * n),
        completed: Some(at(10 * n + 5)),
        outcome: match does {
            Append(_) => Outcome::Ok(Returned::Done),
            Unknown(_) => Outcome::Info(Failure::Timeout),
            Read(shared) => Outcome::Ok(Returned::List { shared, tail: Vec::new() }),
        },
        answered_by: None,
    });
    History { keys: keys.collect(), operations: operations.collect() }
}

fn levels(history: &History) -> Levels {
    grade(history, &linear::check_history(history, &Options::default()))
}

#[test]
fn a_history_that_is_linearizable() {
    let levels = levels(&history(&[&[1]], &[(0, 0, Append(1)), (1, 0, Read(1))]));
    assert_eq!((levels.level, levels.keys.len()), (Level::Linearizable, 0));
}

#[test]
fn a_stale_read_of_another_client_is_still_sequential() {
    let levels = levels(&history(&[&[1]], &[(0, 0, Append(1)), (1, 0, Read(0)), (1, 0, Read(1))]));
    assert_eq!(levels.level, Level::Sequential);
    assert_eq!((levels.staleness.reads, levels.staleness.versions_max, levels.staleness.ms_max), (1, 1, 5.0));
}

#[test]
fn two_clients_that_see_two_keys_in_opposite_orders_are_causal_but_not_sequential() {
    let steps = [
        (0, 0, Append(1)),
        (1, 1, Append(2)),
        (2, 0, Read(1)),
        (2, 1, Read(0)),
        (3, 1, Read(1)),
        (3, 0, Read(0)),
    ];
    assert_eq!(levels(&history(&[&[1], &[2]], &steps)).level, Level::Causal);
}

#[test]
fn an_answer_seen_without_its_question_breaks_causality_only() {
    // Client 1 reads the question and answers on another key; client 2 sees the answer and not the question.
    let steps = [(0, 0, Append(1)), (1, 0, Read(1)), (1, 1, Append(2)), (2, 1, Read(1)), (2, 0, Read(0))];
    let levels = levels(&history(&[&[1], &[2]], &steps));
    assert_eq!((levels.level, levels.causal_violations), (Level::Sessions, 1));
    assert_eq!(levels.sessions, Sessions::default());
}

#[test]
fn each_session_guarantee_is_missed_when_it_is_broken() {
    let sessions = |spine: &[u64], steps: &[Step]| {
        let levels = levels(&history(&[spine], steps));
        assert_eq!(levels.level, Level::Ordered, "{steps:?}");
        levels.sessions
    };
    let none = Sessions::default();
    let own = sessions(&[1], &[(0, 0, Append(1)), (0, 0, Read(0)), (1, 0, Read(1))]);
    assert_eq!(own, Sessions { read_your_writes: 1, ..none });
    let back = sessions(&[1], &[(0, 0, Append(1)), (1, 0, Read(1)), (1, 0, Read(0))]);
    assert_eq!(back, Sessions { monotonic_reads: 1, ..none });
    let swapped = sessions(&[2, 1], &[(0, 0, Append(1)), (0, 0, Append(2)), (1, 0, Read(2))]);
    assert_eq!(swapped, Sessions { monotonic_writes: 1, ..none });
    let before = sessions(&[2, 1], &[(0, 0, Append(1)), (1, 0, Read(2)), (1, 0, Append(2)), (2, 0, Read(2))]);
    assert_eq!(before, Sessions { writes_follow_reads: 1, ..none });
}

#[test]
fn an_acknowledged_append_that_its_client_never_sees_again() {
    let levels = levels(&history(&[&[]], &[(0, 0, Append(1)), (0, 0, Read(0))]));
    assert_eq!((levels.level, levels.sessions.read_your_writes), (Level::Ordered, 1));
}

#[test]
fn lists_without_one_order_have_no_level() {
    let mut contradicting =
        history(&[&[1, 2]], &[(0, 0, Append(1)), (1, 0, Append(2)), (2, 0, Read(2)), (3, 0, Read(0))]);
    contradicting.operations[3].outcome = Outcome::Ok(Returned::List { shared: 0, tail: vec![2, 1] });
    assert_eq!(levels(&contradicting).level, Level::None);
}

#[test]
fn final_reads_tell_whether_the_replicas_agree() {
    let mut run = history(&[&[1]], &[(0, 0, Append(1)), (8, 0, Read(1)), (9, 0, Read(1))]);
    assert_eq!(levels(&run).diverged_keys, None);
    for n in [1, 2] {
        run.operations[n].purpose = Purpose::FinalRead { node: NodeIndex(n as u16) };
    }
    assert_eq!(levels(&run).diverged_keys, Some(0));
    run.operations[2].outcome = Outcome::Ok(Returned::List { shared: 0, tail: Vec::new() });
    assert_eq!(levels(&run).diverged_keys, Some(1));
}

/// One order of everything that keeps each client's own, by trying them all.
fn naive_sequential(
    history: &History,
    steps: &[Step],
    done: &mut Vec<usize>,
    lists: &mut [Vec<u64>],
) -> bool {
    let known = |n: &usize| !matches!(steps[*n].2, Unknown(_));
    if (0..steps.len()).filter(known).all(|n| done.contains(&n)) {
        return history.keys.iter().zip(lists).all(|(key, list)| list.starts_with(&key.spine));
    }
    for n in 0..steps.len() {
        let (client, key, does) = steps[n];
        let earlier = (0..n).filter(|m| steps[*m].0 == client && known(m)).all(|m| done.contains(&m));
        if done.contains(&n) || !earlier {
            continue;
        }
        let list = &mut lists[key as usize];
        let before = list.len();
        match does {
            Read(length)
                if list.len() as u32 == length && history.keys[key as usize].spine.starts_with(list) => {}
            Read(_) => continue,
            Append(v) | Unknown(v) => list.push(v),
        }
        done.push(n);
        let found = naive_sequential(history, steps, done, lists);
        done.pop();
        lists[key as usize].truncate(before);
        if found {
            return true;
        }
    }
    false
}

#[test]
fn sequential_agrees_with_the_definition_on_random_histories() {
    let mut rng = Rng::new(30);
    let mut seen = [0, 0];
    for _ in 0..4_000 {
        let (steps, spines) = draw(&mut rng);
        let spines: Vec<&[u64]> = spines.iter().map(Vec::as_slice).collect();
        let history = history(&spines, &steps);
        let expected = naive_sequential(&history, &steps, &mut Vec::new(), &mut [Vec::new(), Vec::new()]);
        let level = levels(&history).level;
        assert_eq!(level >= Level::Sequential, expected, "{level:?} {spines:?} {steps:?}");
        seen[usize::from(expected)] += 1;
    }
    assert!(seen[0] > 300 && seen[1] > 300, "{seen:?}");
}

/// Steps of three clients on two keys, and an order for each key's elements of which reads saw the first ones.
fn draw(rng: &mut Rng) -> (Vec<Step>, [Vec<u64>; 2]) {
    let mut steps = Vec::new();
    let mut spines = [Vec::new(), Vec::new()];
    for v in 0..2 + rng.below(5) {
        let (client, key) = (rng.below(3) as u32, rng.below(2) as u32);
        let spine: &mut Vec<u64> = &mut spines[key as usize];
        let does = match rng.below(10) {
            0..4 => Read(rng.below(spine.len() as u64 + 1) as u32),
            4 => Unknown(v),
            _ => Append(v),
        };
        if matches!(does, Append(_) | Unknown(_)) {
            let place =
                if rng.percent(75) { spine.len() } else { rng.below(spine.len() as u64 + 1) as usize };
            spine.insert(place, v);
        }
        steps.push((client, key, does));
    }
    // The spine is what the longest read saw.
    for (key, spine) in spines.iter_mut().enumerate() {
        let lengths = steps.iter().filter(|s| s.1 as usize == key).filter_map(|s| match s.2 {
            Read(length) => Some(length as usize),
            Append(_) | Unknown(_) => None,
        });
        spine.truncate(lengths.max().unwrap_or(0));
    }
    (steps, spines)
}

/// Operations one after another: `client key=value` reads, `client key+value` writes.
fn registers(text: &str) -> Levels {
    let mut lines = String::new();
    for operation in text.split('|').map(str::trim) {
        let (client, what) = operation.split_once(' ').expect("client and operation");
        let (f, key, value) = match (what.split_once('='), what.split_once('+')) {
            (Some((key, value)), _) => ("read", key, value),
            (_, Some((key, value))) => ("write", key, value),
            _ => panic!("{operation}"),
        };
        for (kind, value) in [("invoke", if f == "read" { "null" } else { value }), ("ok", value)] {
            lines.push_str(&format!(
                r#"{{"process":{client},"type":"{kind}","f":"{f}","key":"{key}","value":{value}}}"#
            ));
            lines.push('\n');
        }
    }
    let history = import::parse("h", lines.into_bytes(), &import::Options::default()).expect("a history");
    let report = linear::check_imported(&history, &Options::default());
    history.levels(&report).expect("registers are graded")
}

#[test]
fn registers_are_graded_by_what_clients_must_have_known_of() {
    let graded = |text: &str| {
        let levels = registers(text);
        (levels.level, levels.sessions, levels.causal_violations)
    };
    let none = Sessions::default();
    assert_eq!(graded("0 x+1 | 1 x=1"), (Level::Linearizable, none, 0));
    assert_eq!(graded("0 x+1 | 0 x+2 | 1 x=1"), (Level::Sequential, none, 0));
    // Two clients that see two writes of one register in opposite orders.
    let opposite = "0 x+1 | 1 x+2 | 2 x=1 | 2 x=2 | 3 x=2 | 3 x=1";
    assert_eq!(graded(opposite), (Level::Causal, none, 0));
    let own = Sessions { read_your_writes: 1, ..none };
    assert_eq!(graded("0 x+1 | 0 x+2 | 0 x=1"), (Level::Ordered, own, 0));
    assert_eq!(graded("0 x+1 | 0 x=null"), (Level::Ordered, own, 0));
    let back = Sessions { monotonic_reads: 1, ..none };
    assert_eq!(graded("0 x+1 | 0 x+2 | 1 x=2 | 1 x=1"), (Level::Ordered, back, 0));
    assert_eq!(graded("0 x+1 | 0 x+2 | 0 y+3 | 1 y=3 | 1 x=1"), (Level::Sessions, none, 1));
    assert_eq!(graded("0 x+1 | 1 x=7").0, Level::None);
    let repeated = registers("0 x+1 | 0 x+2 | 0 x+1 | 0 x=2");
    assert_eq!((repeated.not_graded, repeated.keys.len()), (1, 0));
    assert!(registers("0 x+1 | 0 x+2 | 0 x=1").words().contains("broken: read your writes 1 x"));
}

#[test]
fn imported_lists_are_graded_like_those_of_a_run() {
    let text = r#"{"process":0,"type":"invoke","f":"append","value":1,"time":1000000}
{"process":0,"type":"ok","f":"append","value":1,"time":2000000}
{"process":1,"type":"invoke","f":"read","time":7000000}
{"process":1,"type":"ok","f":"read","value":[],"time":8000000}
{"process":1,"type":"invoke","f":"read","time":9000000}
{"process":1,"type":"ok","f":"read","value":[1],"time":9500000}
"#;
    let history =
        import::parse("h", text.as_bytes().to_vec(), &import::Options::default()).expect("a history");
    let levels = history.levels(&linear::check_imported(&history, &Options::default())).expect("a list");
    assert_eq!((levels.level, levels.staleness.reads, levels.staleness.ms_max), (Level::Sequential, 1, 5.0));
    assert!(levels.words().starts_with("strongest level that holds: sequential consistency; 1 stale reads"));
}

/// A small history of two registers: client, key, what it found or else what it wrote.
type RegisterStep = (usize, usize, Option<u64>, Option<u64>);

/// One order that keeps each client's own, by trying them all.
fn naive_registers(steps: &[RegisterStep], done: &mut Vec<usize>, held: &mut [u64; 2]) -> bool {
    if done.len() == steps.len() {
        return true;
    }
    for (n, (client, key, finds, sets)) in steps.iter().enumerate() {
        let earlier = (0..n).filter(|m| steps[*m].0 == *client).all(|m| done.contains(&m));
        if done.contains(&n) || !earlier || finds.is_some_and(|finds| held[*key] != finds) {
            continue;
        }
        let before = held[*key];
        held[*key] = sets.unwrap_or(before);
        done.push(n);
        let found = naive_registers(steps, done, held);
        done.pop();
        held[*key] = before;
        if found {
            return true;
        }
    }
    false
}

#[test]
fn one_order_of_registers_agrees_with_the_definition_on_random_histories() {
    let mut rng = Rng::new(31);
    let (mut seen, mut missed) = ([0, 0], 0);
    for _ in 0..4_000 {
        let mut steps: Vec<RegisterStep> = Vec::new();
        let mut written = [vec![0], vec![0]];
        for n in 0..5 + rng.below(4) {
            let (client, key) = (rng.below(3) as usize, rng.below(2) as usize);
            if rng.percent(50) {
                written[key].push(n + 1);
                steps.push((client, key, None, Some(n + 1)));
            } else {
                // Mostly one of the last two values, so that about half of the histories have an order.
                let from = if rng.percent(75) { written[key].len().saturating_sub(2) } else { 0 };
                let at = from + rng.below((written[key].len() - from) as u64) as usize;
                steps.push((client, key, Some(written[key][at]), None));
            }
        }
        let words = steps.iter().map(|(client, key, finds, sets)| {
            let key = ["x", "y"][*key];
            match (finds, sets) {
                (Some(0), _) => format!("{client} {key}=null"),
                (Some(found), _) => format!("{client} {key}={found}"),
                (_, Some(set)) => format!("{client} {key}+{set}"),
                (None, None) => unreachable!("each does one of the two"),
            }
        });
        let text = words.collect::<Vec<_>>().join(" | ");
        let expected = naive_registers(&steps, &mut Vec::new(), &mut [0, 0]);
        let found = registers(&text).level >= Level::Sequential;
        assert!(!found || expected, "there is no such order: {text}");
        seen[usize::from(expected)] += 1;
        missed += u64::from(expected && !found);
    }
    assert!(seen[0] > 300 && seen[1] > 300 && missed * 8 < seen[1], "{seen:?}, {missed} not found");
}
