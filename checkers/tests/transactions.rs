//! Transactions: against a search that tries all orders, one planted contradiction of each kind, and imports.

use firedrill_checkers::bench::rng::Rng;
use firedrill_checkers::import::{self, Transactional};
use firedrill_checkers::linear::{self, Ending, Overall};
use firedrill_checkers::transactions::bank::{self, Action, Bank};
use firedrill_checkers::transactions::store::{
    self, Answer, Comparison, Entry, Found, Range, Request, Step as StoreStep, Store,
};
use firedrill_checkers::transactions::{Class, History, Level, OPEN, Report, Step, check};
use std::collections::BTreeMap;

/// What a small transaction does: lists are `a` and `b`, values are numbers.
#[derive(Clone, Debug)]
enum Does {
    Append(usize, u32),
    Read(usize, Vec<u32>),
}

#[derive(Clone, Debug)]
struct Small {
    process: i64,
    invoked: u32,
    completed: u32,
    ending: Ending,
    steps: Vec<Does>,
}

/// The history as the checkers read it: events in order of their positions.
fn history(small: &[Small]) -> History {
    let mut history = History::default();
    history.key("a");
    history.key("b");
    let mut events: Vec<(u32, bool, usize)> = Vec::new();
    for (t, s) in small.iter().enumerate() {
        events.push((s.invoked, false, t));
        if s.ending != Ending::Unknown {
            events.push((s.completed, true, t));
        }
    }
    events.sort_unstable();
    let mut number = BTreeMap::new();
    for (_, is_end, t) in events {
        let steps = |history: &mut History, done: bool| -> Vec<Step> {
            let step = |s: &Does| match s {
                Does::Append(key, v) => Step::Append { key: *key as u32, value: v + 1 },
                Does::Read(key, seen) if done => history.list(*key as u32, seen.iter().map(|v| v + 1)),
                Does::Read(key, _) => Step::Unread { key: *key as u32 },
            };
            small[t].steps.iter().map(step).collect()
        };
        match (is_end, small[t].ending) {
            (false, _) => {
                let steps = steps(&mut history, false);
                number.insert(t, history.invoke(small[t].process, steps));
            }
            (true, Ending::Failed) => history.abort(number[&t]),
            (true, _) => {
                let steps = steps(&mut history, true);
                history.commit(number[&t], steps);
            }
        }
    }
    history
}

/// Which order must be kept.
#[derive(Clone, Copy, PartialEq)]
enum Keep {
    Nothing,
    Sessions,
    Time,
}

/// Whether some order of all that completed, and some of what is unknown, explains every read.
fn naive(small: &[Small], keep: Keep, placed: u32, lists: &[Vec<u32>; 2]) -> bool {
    let needed = |t: usize| small[t].ending == Ending::Ok && placed & 1 << t == 0;
    if !(0..small.len()).any(needed) {
        return true;
    }
    for t in (0..small.len()).filter(|&t| placed & 1 << t == 0 && small[t].ending != Ending::Failed) {
        let earlier = |o: usize| match keep {
            Keep::Nothing => false,
            Keep::Sessions => small[o].process == small[t].process && small[o].completed < small[t].invoked,
            Keep::Time => small[o].completed < small[t].invoked,
        };
        if (0..small.len()).any(|o| needed(o) && earlier(o)) {
            continue;
        }
        let mut after = lists.clone();
        let agrees = small[t].steps.iter().all(|step| match step {
            Does::Append(key, v) => {
                after[*key].push(*v);
                true
            }
            Does::Read(key, seen) => small[t].ending == Ending::Unknown || after[*key] == *seen,
        });
        if agrees && naive(small, keep, placed | 1 << t, &after) {
            return true;
        }
    }
    false
}

/// Transactions of three clients that overlap, most of them right.
fn draw(rng: &mut Rng) -> Vec<Small> {
    let mut small: Vec<Small> = Vec::new();
    let (mut open, mut now, mut value) = ([None::<usize>; 3], 0, 0);
    let mut lists = [Vec::new(), Vec::new()];
    let count = 2 + rng.below(4) as usize;
    let mut process = [0, 1, 2];
    while small.len() < count || open.iter().any(Option::is_some) {
        let client = rng.below(3) as usize;
        now += 1;
        match open[client].take() {
            None if small.len() < count => {
                let steps = (0..1 + rng.below(3)).map(|_| {
                    value += 1;
                    let key = rng.below(2) as usize;
                    if rng.percent(50) { Does::Append(key, value) } else { Does::Read(key, Vec::new()) }
                });
                let steps = steps.collect();
                open[client] = Some(small.len());
                let (process, ending) = (process[client], Ending::Unknown);
                small.push(Small { process, invoked: now, completed: OPEN, ending, steps });
            }
            None => {}
            Some(t) => {
                let fate = rng.below(10);
                small[t].ending = [Ending::Unknown, Ending::Failed, Ending::Ok][fate.min(2) as usize];
                if fate != 1 && !(fate == 0 && rng.percent(50)) {
                    for step in &mut small[t].steps {
                        match step {
                            Does::Append(key, v) => lists[*key].push(*v),
                            Does::Read(key, seen) => seen.clone_from(&lists[*key]),
                        }
                    }
                }
                match fate {
                    0 => process[client] += 3,
                    _ => small[t].completed = now,
                }
            }
        }
    }
    if rng.percent(60) {
        for _ in 0..1 + rng.below(2) {
            corrupt(rng, &mut small);
        }
    }
    small
}

fn corrupt(rng: &mut Rng, small: &mut [Small]) {
    let t = rng.below(small.len() as u64) as usize;
    let completed = small[t].ending == Ending::Ok;
    let at = rng.below(small[t].steps.len() as u64) as usize;
    let fresh = 1 + rng.below(8) as u32;
    match &mut small[t].steps[at] {
        Does::Read(_, seen) if completed => match rng.below(5) {
            0..3 => _ = seen.pop(),
            3 if seen.len() > 1 => seen.swap(0, 1),
            _ if !seen.contains(&fresh) => seen.push(fresh),
            _ => {}
        },
        _ if completed && rng.percent(20) => small[t].ending = Ending::Failed,
        _ => {}
    }
}

#[test]
fn lists_agree_with_the_definition_on_random_histories() {
    let mut rng = Rng::new(70);
    let mut levels: BTreeMap<Level, u32> = BTreeMap::new();
    for _ in 0..30_000 {
        let small = draw(&mut rng);
        let report = check(&history(&small), &linear::Options::default());
        let level = report.level.expect("no element is appended twice");
        let start = [Vec::new(), Vec::new()];
        let told = [Level::StrictSerializable, Level::SessionSerializable, Level::Serializable];
        for (keep, asked) in [Keep::Time, Keep::Sessions, Keep::Nothing].into_iter().zip(told) {
            let expected = naive(&small, keep, 0, &start);
            assert_eq!(level >= asked, expected, "{asked:?}\n{small:#?}\n{}", report.to_human());
        }
        assert_eq!(report.verdict == Overall::Holds, level == Level::StrictSerializable, "{small:#?}");
        assert!(report.verdict == Overall::Holds || !report.anomalies.is_empty(), "{small:#?}");
        assert!(report.anomalies.iter().all(|a| !a.steps.is_empty()), "{}", report.to_human());
        *levels.entry(level).or_default() += 1;
    }
    assert!(levels.len() == 7 && levels.values().all(|n| *n > 10), "every level must occur: {levels:?}");
}

fn parse(lines: &str) -> import::ImportedHistory {
    import::parse("h", lines.as_bytes().to_vec(), &import::Options::default()).expect("a history")
}

fn judge(lines: &str) -> Report {
    parse(lines).transactions.expect("transactions").check(&linear::Options::default())
}

/// Transactions one after another in time (`|` between), each `process steps`, each step `a+1` or `a=1.2`.
fn planted(text: &str) -> Report {
    let mut out = String::new();
    for transaction in text.split('|') {
        let mut words = transaction.split_whitespace();
        let process = words.next().expect("a process");
        let (kind, process) = match process.strip_prefix('x') {
            Some(process) => ("fail", process),
            None => ("ok", process),
        };
        let steps: Vec<String> = words.map(step).collect();
        let steps = steps.join(" ");
        out.push_str(&format!("{{:process {process}, :type :invoke, :f :txn, :value [{steps}]}}\n"));
        out.push_str(&format!("{{:process {process}, :type :{kind}, :f :txn, :value [{steps}]}}\n"));
    }
    judge(&out)
}

fn step(word: &str) -> String {
    let (key, value) = word.split_at(1);
    match value.split_at(1) {
        ("+", v) => format!("[:append :{key} {v}]"),
        (_, list) => format!("[:r :{key} [{}]]", list.replace('.', " ")),
    }
}

fn finds(text: &str, class: Class, level: Level) {
    let report = planted(text);
    assert_eq!(report.verdict, Overall::Violated, "{text}\n{}", report.to_human());
    assert_eq!(report.anomalies[0].class, class, "{text}\n{}", report.to_human());
    assert_eq!(report.level, Some(level), "{text}\n{}", report.to_human());
    let page = report.to_html("planted");
    assert!(page.contains(report.anomalies[0].name) || page.contains("&"), "{page}");
    assert!(report.anomalies[0].steps.iter().all(|s| s.transaction.line.is_some()), "{}", report.to_human());
}

#[test]
fn one_contradiction_of_each_kind() {
    assert_eq!(planted("0 a+1 b+1 | 1 a=1 b=1 | 2 a+2 a=1.2").verdict, Overall::Holds);
    finds("0 a+1 | 1 a=1 | 2 a=", Class::RealTime, Level::SessionSerializable);
    finds("0 a+1 | 0 a=", Class::SessionOrder, Level::Serializable);
    finds("0 a+1 b= | 1 b+1 a= | 2 a=1 b=1", Class::WriteSkew, Level::SnapshotIsolation);
    finds("0 a+1 | 1 b+1 | 2 a=1 b= | 3 a= b=1", Class::LongFork, Level::ReadCommitted);
    finds("0 a+1 b+1 | 1 a=1 b=", Class::ReadSkew, Level::ReadCommitted);
    finds("0 a+1 b=1 | 1 b+1 a=1", Class::CircularFlow, Level::ReadUncommitted);
    finds("0 a+1 b+1 | 1 a+2 b+2 | 2 a=1.2 b=2.1", Class::WriteCycle, Level::None);
    finds("0 a+1 a+2 | 1 a=1", Class::IntermediateRead, Level::ReadUncommitted);
    finds("x0 a+1 | 1 a=1", Class::AbortedRead, Level::ReadUncommitted);
    finds("0 a+1 | 1 a=1.9", Class::Phantom, Level::None);
    finds("0 a+1 | 1 a=1.1", Class::DuplicateAppend, Level::None);
    finds("0 a+1 | 1 a+2 | 2 a=1.2 | 3 a=2", Class::DivergedLists, Level::None);
    finds("0 a+1 | 1 a=1 a=", Class::Internal, Level::ReadUncommitted);
}

#[test]
fn circles_are_told_in_words() {
    let report = planted("0 a+1 b= | 1 b+1 a= | 2 a=1 b=1");
    let text = report.to_human();
    assert!(text.contains("strongest level that holds: snapshot isolation"), "{text}");
    assert!(text.contains("read :b without the 1 that the next one appended"), "{text}");
    assert!(text.contains("a contradiction"), "{text}");
    assert!(report.to_html("t").contains("marker-end"), "the circle is drawn");
}

#[test]
fn an_element_appended_twice_leaves_the_verdict_open() {
    let report = planted("0 a+1 | 1 a+1 | 2 a=1");
    assert_eq!((report.verdict, report.level), (Overall::Unknown, None));
}

#[test]
fn registers_in_transactions_are_searched() {
    let lines = "{:process 0, :type :invoke, :f :txn, :value [[:w :x 1] [:w :y 1]]}\n\
                 {:process 0, :type :ok, :f :txn, :value [[:w :x 1] [:w :y 1]]}\n\
                 {:process 1, :type :invoke, :f :txn, :value [[:r :x nil] [:r :y nil]]}\n\
                 {:process 1, :type :ok, :f :txn, :value [[:r :x 1] [:r :y SEEN]]}\n";
    assert_eq!(judge(&lines.replace("SEEN", "1")).verdict, Overall::Holds);
    assert_eq!(judge(&lines.replace("SEEN", "2")).verdict, Overall::Violated);
}

/// A history of a bank: two clients, three accounts, some operations unknown; now and then a read is falsified.
fn draw_bank(rng: &mut Rng) -> Bank {
    let mut bank = Bank { accounts: vec!["0".into(), "1".into(), "2".into()], operations: Vec::new() };
    let (mut open, mut now, mut held) = ([None::<usize>; 3], 0, vec![5_i64, 5, 5]);
    let count = 3 + rng.below(5) as usize;
    while bank.operations.len() < count || open.iter().any(Option::is_some) {
        let client = rng.below(3) as usize;
        now += 1;
        match open[client].take() {
            None if bank.operations.len() < count => {
                let action = if rng.percent(50) {
                    Action::Read(Vec::new())
                } else {
                    let (from, to) = (rng.below(3) as u32, rng.below(3) as u32);
                    Action::Transfer { from, to, amount: 1 + rng.below(2) as i64 }
                };
                open[client] = Some(bank.operations.len());
                bank.operations.push(bank::Operation {
                    process: client as i64,
                    invoked: now,
                    completed: OPEN,
                    ending: Ending::Unknown,
                    action,
                    origin: Default::default(),
                });
            }
            None => {}
            Some(i) => {
                let known = rng.percent(80);
                let operation = &mut bank.operations[i];
                if known {
                    (operation.ending, operation.completed) = (Ending::Ok, now);
                }
                match &mut operation.action {
                    Action::Read(seen) => seen.clone_from(&held),
                    Action::Transfer { from, to, amount } if known || rng.percent(50) => {
                        held[*from as usize] -= *amount;
                        held[*to as usize] += *amount;
                    }
                    Action::Transfer { .. } => {}
                }
            }
        }
    }
    let at = rng.below(count as u64) as usize;
    if let Action::Read(seen) = &mut bank.operations[at].action
        && rng.percent(50)
    {
        let (from, to) = (rng.below(3) as usize, rng.below(3) as usize);
        seen[from] -= 1;
        seen[to] += i64::from(!rng.percent(20));
    }
    bank
}

/// Whether some order explains every read; what was there at first is not known.
fn naive_bank(bank: &Bank, placed: u32, start: &Option<Vec<i64>>, moved: &[i64]) -> bool {
    let all = &bank.operations;
    let needed = |i: usize| all[i].ending == Ending::Ok && placed & 1 << i == 0;
    if !(0..all.len()).any(needed) {
        return true;
    }
    for i in (0..all.len()).filter(|&i| placed & 1 << i == 0) {
        if (0..all.len()).any(|o| needed(o) && all[o].completed < all[i].invoked) {
            continue;
        }
        let (mut start, mut moved) = (start.clone(), moved.to_vec());
        match &all[i].action {
            Action::Transfer { from, to, amount } => {
                moved[*from as usize] -= amount;
                moved[*to as usize] += amount;
            }
            Action::Read(_) if all[i].ending == Ending::Unknown => {}
            Action::Read(seen) => {
                let first: Vec<i64> = seen.iter().zip(&moved).map(|(s, m)| s - m).collect();
                if *start.get_or_insert_with(|| first.clone()) != first {
                    continue;
                }
            }
        }
        if naive_bank(bank, placed | 1 << i, &start, &moved) {
            return true;
        }
    }
    false
}

#[test]
fn banks_agree_with_the_definition_on_random_histories() {
    let mut rng = Rng::new(71);
    let mut seen = [0, 0];
    for _ in 0..5_000 {
        let bank = draw_bank(&mut rng);
        let report = bank::check(&bank, &linear::Options::default());
        let expected = naive_bank(&bank, 0, &None, &[0; 3]);
        assert_eq!(report.verdict == Overall::Holds, expected, "{bank:#?}\n{}", report.to_human());
        assert_ne!(report.verdict, Overall::Unknown);
        seen[usize::from(expected)] += 1;
    }
    assert!(seen[0] > 300 && seen[1] > 300, "{seen:?}");
}

#[test]
fn a_bank_is_read_from_json_and_edn() {
    let json = r#"{"process":0,"type":"invoke","f":"read"}
{"process":0,"type":"ok","f":"read","value":{"a":10,"b":0}}
{"process":0,"type":"invoke","f":"transfer","value":{"from":"a","to":"b","amount":3}}
{"process":0,"type":"ok","f":"transfer","value":{"from":"a","to":"b","amount":3}}
{"process":1,"type":"invoke","f":"read"}
{"process":1,"type":"ok","f":"read","value":{"a":7,"b":3}}
"#;
    let class = |text: &str| judge(text).anomalies.first().map(|a| a.class);
    assert!(matches!(parse(json).transactions, Some(Transactional::Bank(_))));
    assert_eq!((judge(json).verdict, class(json)), (Overall::Holds, None));
    assert_eq!(class(&json.replace(":7", ":8")), Some(Class::TornRead));
    assert_eq!(class(&json.replace("\"a\":7,\"b\":3", "\"a\":10,\"b\":0")), Some(Class::NoOrder));
    let edn = "{:process 0, :type :invoke, :f :transfer, :value {:from 6, :to 1, :amount 1}}\n\
               {:process 0, :type :fail, :f :transfer, :value {:from 6, :to 1, :amount 1}}\n\
               {:process 0, :type :invoke, :f :read}\n{:process 0, :type :ok, :f :read, :value {6 1, 1 -1}}\n";
    assert_eq!(judge(edn).verdict, Overall::Holds);
    assert!(judge(edn).to_human().contains("negative balance"));
}

#[test]
fn errors_say_where() {
    let error = |text: &str| {
        import::parse("h", text.as_bytes().to_vec(), &import::Options::default())
            .expect_err("wrong")
            .to_string()
    };
    let text = error("{:process 0, :type :invoke, :f :txn, :value [[:apend 1 2]]}");
    assert!(text.starts_with("h:1:45: step `apend` is unknown"), "{text}");
    let text = error("{:process 0, :type :invoke, :f :transfer, :value 7}");
    assert!(text.starts_with("h:1:50: a transfer is"), "{text}");
    let text = error(
        "{:process 0, :type :invoke, :f :txn, :value [[:append 1 2]]}\n{:process 0, :type :ok, :f :txn, :value []}",
    );
    assert!(text.starts_with("h:2:41: not the steps"), "{text}");
}

/// A store that numbers its states, under random interleaving: puts, deletes, compare-and-sets, reads of one key and of
/// all; some outcomes stay unknown. With each read, the answer it would have got before the last change.
fn draw_store(rng: &mut Rng) -> (Store, Vec<(usize, Answer)>) {
    let mut states: Vec<BTreeMap<String, (String, i64)>> = vec![BTreeMap::new(); 2];
    let mut store = Store::default();
    let mut older = Vec::new();
    let (mut open, mut now): (Vec<usize>, u32) = (Vec::new(), 0);
    let total = 4 + rng.below(10) as usize;
    while store.operations.len() < total || !open.is_empty() {
        if store.operations.len() < total && (open.is_empty() || open.len() < 3 && rng.percent(60)) {
            now += 1;
            let n = store.operations.len();
            let key = ["a", "b", "c"][rng.below(3) as usize].to_owned();
            let one = Range { start: key.clone(), ..Range::default() };
            let all = Range { start: "a".into(), end: "d".into(), ..Range::default() };
            let put = StoreStep::Put { key: key.clone(), value: n.to_string(), lease: 0 };
            let revision = 1 + rng.below(states.len() as u64) as i64;
            let (comparisons, then, otherwise) = match rng.below(6) {
                0 | 1 => (vec![], vec![put], vec![]),
                2 => (vec![], vec![StoreStep::Delete { key }], vec![]),
                3 => {
                    let comparison = Comparison { key, revision: revision.max(2) % 9, version: 0 };
                    (vec![comparison], vec![put], vec![StoreStep::Range(one)])
                }
                4 => (vec![], vec![StoreStep::Range(one)], vec![]),
                _ => (vec![], vec![StoreStep::Range(all)], vec![]),
            };
            open.push(n);
            store.operations.push(store::Operation {
                process: n as i64,
                invoked: now,
                completed: OPEN,
                request: Request::Transaction { comparisons, then, otherwise },
                answer: None,
                origin: Default::default(),
            });
            continue;
        }
        let i = open.swap_remove(rng.below(open.len() as u64) as usize);
        let unknown = rng.percent(20);
        if unknown && rng.percent(50) {
            continue;
        }
        let request = store.operations[i].request.clone();
        let before = (states.len() >= 3).then(|| answer(&request, &mut states[..states.len() - 1].to_vec()));
        let answer = answer(&request, &mut states);
        now += 1;
        if !unknown {
            store.operations[i].completed = now;
            let reads = matches!(&request, Request::Transaction { then, .. } if matches!(then[0], StoreStep::Range(_)));
            older.extend(before.filter(|_| reads).map(|before| (i, before)));
            store.operations[i].answer = Some(answer);
        }
    }
    // Reads of unknown outcome say nothing.
    (store, older)
}

/// What the store answers; the states are by revision.
fn answer(request: &Request, states: &mut Vec<BTreeMap<String, (String, i64)>>) -> Answer {
    let Request::Transaction { comparisons, then, otherwise } = request else {
        panic!("only these are drawn")
    };
    let mut state = states.last().expect("it has a first state").clone();
    let next = states.len() as i64;
    let met = |c: &Comparison| state.get(&c.key).map_or(0, |held| held.1) == c.revision;
    let failure = !comparisons.iter().all(met);
    let mut changed = false;
    let mut found = Vec::new();
    for step in if failure { otherwise } else { then } {
        let mut one = Found::default();
        match step {
            StoreStep::Put { key, value, .. } => {
                state.insert(key.clone(), (value.clone(), next));
                changed = true;
            }
            StoreStep::Delete { key } => {
                one.deleted = i64::from(state.remove(key).is_some());
                changed |= one.deleted > 0;
            }
            StoreStep::Range(range) => {
                let within = |key: &str| match range.end.as_str() {
                    "" => key == range.start,
                    end => range.start.as_str() <= key && key < end,
                };
                let entry = |(key, (value, revision)): (&String, &(String, i64))| Entry {
                    key: key.clone(),
                    value: value.clone(),
                    revision: *revision,
                };
                one.entries = state.iter().filter(|(key, _)| within(key)).map(entry).collect();
                one.count = one.entries.len() as i64;
            }
        }
        found.push(one);
    }
    if changed {
        states.push(state);
    }
    Answer { revision: states.len() as i64 - 1, failure, found }
}

#[test]
fn stores_that_number_their_states_raise_no_false_alarm_and_old_answers_are_found() {
    let mut rng = Rng::new(80);
    let mut planted = 0;
    for _ in 0..5_000 {
        let (store, older) = draw_store(&mut rng);
        let report = store::check(&store);
        assert_eq!(report.verdict, Overall::Holds, "{}\n{store:#?}", report.to_human());
        for (i, before) in older {
            // It was replaced before the read began, by a write that everybody knows of.
            let replaced = store.operations.iter().any(|o| {
                o.completed < store.operations[i].invoked
                    && o.answer.as_ref().is_some_and(|a| a.revision > before.revision)
            });
            if replaced {
                let mut wrong = store.clone();
                wrong.operations[i].answer = Some(before);
                assert_eq!(store::check(&wrong).verdict, Overall::Violated, "{i} {wrong:#?}");
                planted += 1;
            }
        }
    }
    assert!(planted > 1_000, "{planted}");
}
