//! One history for each class of violation, and its twin that holds: a checker that cannot fail says nothing.
//!
//! Histories are written as events in order: `>0 write 1` is the invocation by process 0, `<0` its acknowledgement
//! (`<0 read 1` with a result), `x0` its certain failure, `?0` its unknown outcome.

use firedrill_checkers::import::{self, Options};
use firedrill_checkers::linear::{self, Class, Overall, Report, Verdict};

fn judge(events: &str) -> Report {
    let history = import::parse("planted", json(events).into_bytes(), &Options::default()).expect("valid");
    linear::check_imported(&history, &linear::Options::default())
}

/// The events as JSON lines, one microsecond apart.
fn json(events: &str) -> String {
    let mut out = String::new();
    let mut open: Vec<(String, String)> = vec![Default::default(); 10];
    for (n, event) in events.split(';').map(str::trim).enumerate() {
        let mut words = event[1..].split_whitespace();
        let process: usize = words.next().expect("a process").parse().expect("a number");
        let f = words.next().map(str::to_owned);
        let value = words.collect::<Vec<_>>().join(" ");
        let kind = match event.as_bytes()[0] {
            b'>' => {
                open[process] = (f.clone().expect("an operation"), value.clone());
                "invoke"
            }
            b'<' => "ok",
            b'x' => "fail",
            b'?' => "info",
            other => panic!("unknown mark {other}"),
        };
        let value = if f.is_some() { value } else { open[process].1.clone() };
        let value = if value.is_empty() { "null".to_owned() } else { value };
        out.push_str(&format!(
            "{{\"process\":{process},\"type\":\"{kind}\",\"f\":\"{}\",\"value\":{value},\"time\":{}}}\n",
            open[process].0,
            n * 1_000_000
        ));
    }
    out
}

fn violates(events: &str, class: Class) {
    let report = judge(events);
    assert_eq!(report.verdict, Overall::Violated, "{events}\n{}", report.to_human());
    let (_, evidence) = report.strongest().expect("a violation has evidence");
    assert_eq!(evidence.class, class, "{events}\n{}", report.to_human());
    let most = if class == Class::NoOrder { 13 } else { 6 };
    assert!((1..=most).contains(&evidence.core.len()), "a core of at most {most}: {}", report.to_human());
    let page = report.to_html("planted");
    assert!(page.len() < 200_000 && page.matches("<rect").count() >= evidence.core.len(), "{page}");
    assert!(report.to_human().contains(class.name()));
    assert!(evidence.core.iter().all(|c| c.operation.line.is_some() && !c.operation.text.is_empty()));
}

fn holds(events: &str) {
    let report = judge(events);
    assert_eq!(report.verdict, Overall::Holds, "{events}\n{}", report.to_human());
}

#[test]
fn a_stale_read() {
    violates(">0 write 1; <0; >0 write 2; <0; >1 read; <1 read 2; >1 read; <1 read 1", Class::StaleRead);
    holds(">0 write 1; <0; >0 write 2; >1 read; <1 read 1; <0; >1 read; <1 read 2");
}

#[test]
fn a_stale_read_says_for_how_long() {
    let report = judge(">0 write 1; <0; >0 write 2; <0; >1 read; <1 read 2; >1 read; <1 read 1");
    let (_, evidence) = report.strongest().expect("violated");
    assert_eq!(evidence.staleness_ms, Some(3.0), "acknowledged at 3 ms, read from 6 ms on");
}

#[test]
fn a_lost_acknowledged_write() {
    violates(">0 write 1; <0; >0 write 2; <0; >1 read; <1 read 1", Class::LostWrite);
    holds(">0 write 1; <0; >0 write 2; ?0; >1 read; <1 read 1");
}

#[test]
fn a_flip_flop_read() {
    let flip = ">0 write 1; >1 write 2; >2 read; <2 read 1; >2 read; <2 read 2; >2 read; <2 read 1; <0; <1";
    violates(flip, Class::FlipFlop);
    holds(">0 write 1; >1 write 2; >2 read; <2 read 1; >2 read; <2 read 2; >2 read; <2 read 2; <0; <1");
}

#[test]
fn a_phantom_value() {
    violates(">0 write 1; <0; >0 read; <0 read 7", Class::Phantom);
    holds(">0 write 7; ?0; >0 read; <0 read 7");
}

#[test]
fn an_aborted_read() {
    violates(">0 write 1; x0; >0 read; <0 read 1", Class::AbortedRead);
    holds(">0 write 1; x0; >0 read; <0 read");
}

#[test]
fn a_read_from_the_future() {
    violates(">0 read; <0 read 1; >1 write 1; <1", Class::FutureRead);
    holds(">0 read; >1 write 1; <0 read 1; <1");
}

#[test]
fn a_compare_and_set_fork() {
    let base = ">0 write 1; <0; >0 cas [1, 2]; >1 cas [1, 3]; <0; ";
    violates(&format!("{base}<1"), Class::CasFork);
    holds(&format!("{base}x1"));
    // An unknown one counts as soon as its value is seen.
    violates(&format!("{base}?1; >2 read; <2 read 3"), Class::CasFork);
    holds(&format!("{base}?1; >2 read; <2 read 2"));
}

#[test]
fn cyclic_compare_and_sets() {
    violates(">0 cas [1, 2]; >1 cas [2, 1]; <0; <1", Class::CasCycle);
}

#[test]
fn a_false_mismatch() {
    let base = ">0 write 1; <0; >1 read; <1 read 1; >2 cas [1, 5]; x2; ";
    violates(&format!("{base}>1 read; <1 read 1"), Class::FalseMismatch);
    violates(&format!("{base}>3 write 6; <3"), Class::FalseMismatch);
    let open = ">0 write 1; <0; >3 write 6; >1 read; <1 read 1; >2 cas [1, 5]; x2; <3";
    holds(open);
}

#[test]
fn repeated_values_that_were_replaced() {
    violates(">0 write 1; <0; >0 write 2; <0; >0 write 1; <0; >0 read; <0 read 2", Class::StaleRead);
    holds(">0 write 1; <0; >0 write 2; <0; >0 write 1; <0; >0 read; <0 read 1");
    violates(">0 write 1; <0; >0 write 1; <0; >0 read; <0 read 7", Class::Phantom);
    violates(">0 write 1; <0; >0 write 1; <0; >0 write 7; x0; >0 read; <0 read 7", Class::AbortedRead);
    violates(">0 write 1; <0; >0 write 1; <0; >0 read; <0 read 7; >1 write 7; <1", Class::FutureRead);
}

/// Three writes are open while their values take turns: 1 was written twice, 2 once.
const TURNS: &str = ">0 write 1; >1 write 2; >3 write 1; >2 read; <2 read 2; >2 read; <2 read 1; \
                     >2 read; <2 read LAST; <0; <1; <3";

#[test]
fn no_order_with_repeated_values() {
    violates(&TURNS.replace("LAST", "2"), Class::NoOrder);
    holds(&TURNS.replace("LAST", "1"));
}

#[test]
fn what_a_search_refutes_is_shrunk_until_a_rule_names_it() {
    // The value 3 is there only to repeat; without it the values are unique.
    let repeats = ">5 write 3; <5; >5 write 3; <5; ";
    let turns = ">0 write 1; >1 write 2; >2 read; <2 read 1; >2 read; <2 read 2; >2 read; <2 read 1; <0; <1";
    violates(&format!("{repeats}{turns}"), Class::FlipFlop);
}

#[test]
fn a_lost_append() {
    violates(">0 append 1; <0; >0 append 2; <0; >1 read; <1 read [1]", Class::LostAppend);
    holds(">0 append 1; <0; >0 append 2; >1 read; <1 read [1]; <0");
}

#[test]
fn a_lost_append_between_others() {
    violates(">0 append 1; <0; >0 append 2; <0; >1 read; <1 read [2]", Class::LostAppend);
}

#[test]
fn diverged_lists() {
    let base = ">0 append 1; >1 append 2; >2 read; <2 read [1, 2]; >3 read; ";
    violates(&format!("{base}<3 read [2, 1]; <0; <1"), Class::DivergedLists);
    holds(&format!("{base}<3 read [1, 2]; <0; <1"));
}

#[test]
fn a_duplicate_append() {
    violates(">0 append 1; <0; >1 read; <1 read [1, 1]", Class::DuplicateAppend);
}

#[test]
fn a_reordered_append() {
    violates(">0 append 1; <0; >0 append 2; <0; >1 read; <1 read [2, 1]", Class::ReorderedAppend);
    holds(">0 append 1; >1 append 2; <0; <1; >2 read; <2 read [2, 1]");
}

#[test]
fn a_stale_list() {
    let base = ">0 append 1; <0; >1 read; <1 read [1]; >1 read; ";
    violates(&format!("{base}<1 read []"), Class::StaleRead);
    holds(&format!("{base}<1 read [1]"));
}

#[test]
fn a_list_with_a_foreign_element() {
    violates(">0 append 1; <0; >1 read; <1 read [1, 9]", Class::Phantom);
    violates(">0 append 1; x0; >1 read; <1 read [1]", Class::AbortedRead);
    violates(">1 read; <1 read [1]; >0 append 1; <0", Class::FutureRead);
}

#[test]
fn strings_that_do_not_add_up() {
    violates(r#">0 append "a"; <0; >0 append "b"; <0; >1 get; <1 get "ba""#, Class::ReorderedAppend);
    violates(
        r#">0 append "a"; <0; >0 append "b"; >1 append "c"; <0; <1; >1 get; <1 get "ab"; >1 get; <1 get "ac""#,
        Class::DivergedLists,
    );
    violates(r#">0 put "a"; <0; >0 append "b"; <0; >1 get; <1 get "a""#, Class::LostWrite);
    violates(r#">0 put "a"; <0; >0 append "b"; x0; >1 get; <1 get "ab""#, Class::AbortedRead);
    violates(r#">0 append "a"; >1 put "b"; <0; <1; >1 get; <1 get "ab""#, Class::Phantom);
    violates(r#">0 append "a"; <0; >1 get; <1 get "aa""#, Class::DuplicateAppend);
    violates(r#">0 append "a"; <0; >0 append "ab"; <0; >1 get; <1 get "aba""#, Class::NoOrder);
    holds(r#">0 append "a"; >1 append "b"; <0; <1; >1 get; <1 get "ba""#);
    holds(r#">0 append "a"; ?0; >1 put "b"; <1; >1 get; <1 get "ba""#);
}

#[test]
fn unknown_is_never_holds() {
    let history = TURNS.replace("LAST", "1");
    let history = import::parse("planted", json(&history).into_bytes(), &Options::default()).expect("valid");
    let options = linear::Options { budget_steps: 0, ..linear::Options::default() };
    let report = linear::check_imported(&history, &options);
    assert_eq!(report.verdict, Overall::Unknown);
    assert!(matches!(report.keys[0].verdict, Verdict::Unknown { given_up: false, .. }));
    assert!(report.to_human().starts_with("unknown"), "{}", report.to_human());
}
