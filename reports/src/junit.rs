//! JUnit XML in the form that Jenkins reads and GitLab reads a part of: a suite per scenario, a case per expectation,
//! and a case per failing seed. Passing seeds have no case of their own: twenty thousand green ones help nobody.

use crate::Report;
use crate::result::{Campaign, ExpectationResult, FailureLine, ScenarioResult, ScenarioSummary, Verdict};
use crate::text::{count, escape, measured, number, percentile, percentile_label, printable};
use firedrill_checkers::expect::Verdict as Judgement;
use std::fmt::Write as _;
use std::io;

/// Failing seeds that get a case of their own; servers choke on thousands. The rest is counted in `system-out`.
pub const SEED_CASES_MAX: usize = 50;

/// The JUnit file.
pub struct Junit;

impl Report for Junit {
    fn write(&self, campaign: &Campaign, out: &mut dyn io::Write) -> io::Result<()> {
        let mut suites: Vec<Suite> = campaign.scenarios.iter().map(suite).collect();
        if campaign.exit() != 0 && suites.iter().all(|s| s.failures + s.errors == 0) {
            suites.push(stopped(campaign));
        }
        let sum = |of: fn(&Suite) -> usize| suites.iter().map(of).sum::<usize>();
        writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
        writeln!(
            out,
            r#"<testsuites name="firedrill" tests="{}" failures="{}" errors="{}">"#,
            sum(|s| s.tests),
            sum(|s| s.failures),
            sum(|s| s.errors)
        )?;
        for suite in &suites {
            out.write_all(suite.close().as_bytes())?;
        }
        writeln!(out, "</testsuites>")
    }
}

/// One `testsuite` being written.
struct Suite {
    name: String,
    time: Option<f64>,
    head: String,
    cases: String,
    tests: usize,
    failures: usize,
    errors: usize,
}

/// How a case ends other than well.
enum Bad<'a> {
    Failure { kind: &'a str, message: String, text: String },
    Error { kind: &'a str, message: String, text: String },
}

impl Suite {
    fn new(name: &str) -> Suite {
        Suite {
            name: name.to_owned(),
            time: None,
            head: String::new(),
            cases: String::new(),
            tests: 0,
            failures: 0,
            errors: 0,
        }
    }

    fn property(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.head, r#"      <property name="{}" value="{}"/>"#, escape(name), escape(value));
    }

    fn case(&mut self, name: &str, bad: Option<Bad<'_>>) {
        self.tests += 1;
        let class = format!("scenarios.{}", self.name.replace('/', "."));
        let _ = write!(self.cases, r#"    <testcase classname="{}" name="{}""#, escape(&class), escape(name));
        let (tag, kind, message, text) = match bad {
            None => {
                self.cases.push_str("/>\n");
                return;
            }
            Some(Bad::Failure { kind, message, text }) => ("failure", kind, message, text),
            Some(Bad::Error { kind, message, text }) => ("error", kind, message, text),
        };
        match tag {
            "failure" => self.failures += 1,
            _ => self.errors += 1,
        }
        let _ = writeln!(
            self.cases,
            ">\n      <{tag} type=\"{}\" message=\"{}\">{}</{tag}>\n    </testcase>",
            escape(kind),
            escape(&message),
            escape(&text)
        );
    }

    fn close(&self) -> String {
        let time = self.time.map_or(String::new(), |t| format!(" time=\"{t:.3}\""));
        let properties = if self.head.is_empty() {
            String::new()
        } else {
            format!("    <properties>\n{}    </properties>\n", self.head)
        };
        format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\"{time}>\n{properties}{}  </testsuite>\n",
            escape(&self.name),
            self.tests,
            self.failures,
            self.errors,
            self.cases
        )
    }
}

fn suite(result: &ScenarioResult) -> Suite {
    let s = &result.summary;
    let mut suite = Suite::new(&format!("{}@{}", s.name, s.backend));
    if s.backend.is_empty() || s.backend == "kernel" {
        suite.name.clone_from(&s.name);
    }
    suite.time = s.cpu_seconds;
    properties(s, &mut suite);
    let replay = s.failures.first();
    for expectation in &s.expectations {
        suite.case(&expectation.expect, complaint(expectation, replay));
    }
    for failure in s.failures.iter().take(SEED_CASES_MAX) {
        let text = format!("{}\n{}", printable(&failure.replay), details(failure));
        let message = format!("{} (seed {})", failure.what, failure.seed);
        suite.case(
            &format!("seed {}: {}", failure.seed, failure.what),
            Some(Bad::Failure { kind: &failure.what, message, text }),
        );
    }
    if s.verdict != Verdict::Ok && suite.failures + suite.errors == 0 {
        suite.case("verdict", Some(unexplained(s)));
    }
    let cut = s.failures_total.saturating_sub(s.failures.len().min(SEED_CASES_MAX) as u64);
    if cut > 0 {
        let text = format!("{} more failing seeds have no case of their own.", count(cut));
        let _ = writeln!(suite.cases, "    <system-out>{}</system-out>", escape(&text));
    }
    suite
}

fn properties(s: &ScenarioSummary, suite: &mut Suite) {
    suite.property("backend", &s.backend);
    suite.property("system", &s.system);
    suite.property("runs", &s.runs.to_string());
    suite.property("inert", &s.inert.to_string());
    suite.property("sim_seconds", &number(s.sim_seconds));
    suite.property("trace_hash", &s.trace_hash);
    suite.property("rto p50", &percentile(&s.rto_ms, "p50"));
    suite.property(&format!("rto {}", percentile_label(99, s.rto_ms.samples)), &percentile(&s.rto_ms, "p99"));
}

fn complaint<'a>(e: &'a ExpectationResult, replay: Option<&FailureLine>) -> Option<Bad<'a>> {
    let message = if e.text.is_empty() {
        format!("measured {}", measured(&e.expect, e.measured))
    } else {
        e.text.clone()
    };
    let text = replay.map_or(String::new(), |f| format!("{}\n", printable(&f.replay))) + &message;
    match e.verdict {
        Judgement::Ok => None,
        Judgement::Broken => Some(Bad::Failure { kind: "expectation", message, text }),
        Judgement::Inconclusive => Some(Bad::Error { kind: "inconclusive", message, text }),
    }
}

fn details(failure: &FailureLine) -> String {
    let capsule = failure.capsule.as_deref().unwrap_or("none written");
    format!("what: {}\nseed: {}\ncapsule: {}", printable(&failure.what), failure.seed, printable(capsule))
}

/// A verdict that no expectation and no seed explains (inert faults, two hashes for one seed) must not look green.
fn unexplained(s: &ScenarioSummary) -> Bad<'static> {
    let message = format!("{} (exit {})", s.verdict.phrase(), s.exit);
    let text = s.notes.iter().map(|n| printable(n)).collect::<Vec<_>>().join("\n");
    match s.verdict {
        Verdict::Inconclusive => Bad::Error { kind: "inconclusive", message, text },
        Verdict::Ok
        | Verdict::Regressed
        | Verdict::TargetMissed
        | Verdict::Stuck
        | Verdict::Safety
        | Verdict::CanaryMissed
        | Verdict::Nondeterministic => Bad::Failure { kind: s.verdict.word(), message, text },
    }
}

/// The campaign did not end well although every scenario did: nothing selected, interrupted.
fn stopped(campaign: &Campaign) -> Suite {
    let mut suite = Suite::new("campaign");
    let message = format!("the campaign ended with exit code {}", campaign.exit());
    let compared = campaign.comparison.as_ref().map_or(String::new(), |c| c.lines().join("\n"));
    let text = format!("{message}\n{compared}");
    suite.case("campaign", Some(Bad::Error { kind: "campaign", message, text }));
    suite
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Seed;
    use crate::sample;

    fn xml(campaign: &Campaign) -> String {
        let mut out = Vec::new();
        Junit.write(campaign, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_replay_command_comes_first_in_the_failure_text() {
        let text = xml(&sample::campaign(sample::Size::Small));
        let at = text.find("<failure type=\"split_brain").expect("a failing seed has a case");
        let body = &text[at..][text[at..].find('>').unwrap() + 1..];
        assert!(body.starts_with("firedrill replay "), "{body}");
    }

    #[test]
    fn at_most_fifty_seeds_get_a_case_and_the_rest_is_counted() {
        let mut campaign = sample::campaign(sample::Size::Small);
        let summary = &mut campaign.scenarios[0].summary;
        summary.verdict = Verdict::Safety;
        summary.failures = (0..80).map(|i| FailureLine { seed: Seed(i), ..FailureLine::default() }).collect();
        summary.failures_total = 200;
        let text = xml(&campaign);
        let first = &text[..text.find("</testsuite>").unwrap()];
        assert_eq!(first.matches("name=\"seed ").count(), SEED_CASES_MAX);
        assert!(first.contains("150 more failing seeds"));
    }

    #[test]
    fn a_bad_exit_code_is_never_green() {
        let mut campaign = Campaign { exit: Some(9), ..Campaign::default() };
        assert!(xml(&campaign).contains("errors=\"1\""));
        campaign.exit = None;
        let mut result = ScenarioResult::default();
        result.summary.verdict = Verdict::Nondeterministic;
        campaign.scenarios.push(result);
        assert!(xml(&campaign).contains("failures=\"1\""));
    }

    #[test]
    fn control_characters_do_not_reach_the_file() {
        let mut campaign = sample::campaign(sample::Size::Small);
        campaign.scenarios[0].summary.name = "a<b>\u{1}&\"'\u{1b}".into();
        let text = xml(&campaign);
        assert!(text.contains("a&lt;b&gt;\u{fffd}&amp;&quot;&#39;\u{fffd}"));
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    }
}
