//! The four answers every reader wants first: did it hold, how long were clients out, what was lost, how sure are
//! we. The same words head the page, the pull-request comment and the terminal.

use crate::compare::Change;
use crate::result::{Campaign, PhaseSummary, RpoSummary, RtoSummary, ScenarioSummary, Verdict};
use crate::text::{bytes, count, ms, percent, percentile, percentile_label, plural};

/// One question with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The question.
    pub question: &'static str,
    /// The answer in a few words.
    pub short: String,
    /// What stands behind it, one sentence per line.
    pub lines: Vec<String>,
    /// How the answer reads: decides colour and sign.
    pub mood: Mood,
}

/// Whether an answer is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As wanted.
    Good,
    /// Against a promise or target.
    Bad,
    /// Not enough evidence.
    Unsure,
    /// A figure without a judgement.
    Plain,
}

/// How a verdict reads.
pub fn mood(verdict: Verdict) -> Mood {
    match verdict {
        Verdict::Ok => Mood::Good,
        Verdict::Inconclusive => Mood::Unsure,
        Verdict::Regressed
        | Verdict::TargetMissed
        | Verdict::Stuck
        | Verdict::Safety
        | Verdict::CanaryMissed
        | Verdict::Nondeterministic => Mood::Bad,
    }
}

/// What was asked for and what became of it, of a scenario that states how much may be lost.
pub fn asked_for(s: &ScenarioSummary) -> Option<String> {
    let (asked, lost) = (s.loss_target?, s.rpo.bytes_max?);
    let word = |kept| if kept { "met" } else { "missed" };
    let mut out = match s.rto_ms.target {
        Some(target) => format!("Asked for: recovery in {} ({})", ms(target), word(!over_target(&s.rto_ms))),
        None => "Asked for: recovery in no given time".to_owned(),
    };
    out.push_str(&format!(
        ", at most {} lost ({}: up to {} in a run)",
        bytes(asked),
        word(lost <= asked),
        bytes(lost)
    ));
    Some(out)
}

/// The four answers.
pub fn answers(campaign: &Campaign) -> [Answer; 4] {
    let scenarios: Vec<&ScenarioSummary> = campaign.scenarios.iter().map(|s| &s.summary).collect();
    [held(campaign, &scenarios), outage(&scenarios), lost(&scenarios), sure(&scenarios)]
}

/// Number of scenarios per verdict, worst first, leaving out what did not occur.
pub fn tally(scenarios: &[&ScenarioSummary]) -> Vec<(Verdict, u64)> {
    let of = |verdict| (verdict, scenarios.iter().filter(|s| s.verdict == verdict).count() as u64);
    Verdict::BY_WEIGHT.iter().rev().map(|verdict| of(*verdict)).filter(|(_, n)| *n > 0).collect()
}

fn held(campaign: &Campaign, scenarios: &[&ScenarioSummary]) -> Answer {
    let total = scenarios.len() as u64;
    let ok = scenarios.iter().filter(|s| s.verdict == Verdict::Ok).count() as u64;
    let verdict = campaign.verdict();
    let regressed = campaign.comparison.as_ref().is_some_and(|c| c.verdict == Change::Regressed);
    let short = match (total, mood(verdict)) {
        (0, _) => "Nothing was run".to_owned(),
        (_, Mood::Good) if regressed => "All hold, but worse than the baseline".to_owned(),
        (_, Mood::Good) => format!("Yes: {} of {} hold", count(ok), plural(total, "scenario")),
        (_, Mood::Unsure) => format!("Not shown: {} of {} hold", count(ok), plural(total, "scenario")),
        (_, Mood::Bad | Mood::Plain) => format!("No: {} of {} hold", count(ok), plural(total, "scenario")),
    };
    let mut lines: Vec<String> = tally(scenarios)
        .into_iter()
        .filter(|(verdict, _)| *verdict != Verdict::Ok)
        .map(|(verdict, n)| format!("{} {}: {}", count(n), verdict.phrase(), names(scenarios, verdict)))
        .collect();
    if let Some(comparison) = &campaign.comparison {
        lines.push(format!("Against the baseline: {}.", comparison.verdict.phrase()));
    }
    if campaign.partial {
        lines.push("Stopped before its end: this is what was done until then.".to_owned());
    }
    let mood = match verdict {
        _ if total == 0 => Mood::Unsure,
        Verdict::Ok if regressed => Mood::Bad,
        Verdict::Ok if campaign.partial => Mood::Unsure,
        verdict => mood(verdict),
    };
    Answer { question: "Did it hold?", short, lines, mood }
}

fn names(scenarios: &[&ScenarioSummary], verdict: Verdict) -> String {
    let all: Vec<&str> = scenarios.iter().filter(|s| s.verdict == verdict).map(|s| s.name.as_str()).collect();
    let shown = all.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    if all.len() > 3 { format!("{shown} and {} more", all.len() - 3) } else { shown }
}

// --------------------------------------------------------------------------------------------------------- outage

fn outage(scenarios: &[&ScenarioSummary]) -> Answer {
    let question = "How long were clients out?";
    let Some(worst) = slowest(scenarios) else {
        return Answer { question, short: "Not measured".to_owned(), lines: vec![], mood: Mood::Unsure };
    };
    let rto = &worst.rto_ms;
    let mut lines = vec![format!(
        "{} of {}, the slowest scenario; its median is {}.",
        percentile_label(99, rto.samples),
        worst.name,
        percentile(rto, "p50")
    )];
    if let Some((name, phase)) = longest_phase(worst)
        && let Some(share) = phase.share
    {
        lines.push(format!("Most of it in {name}: {} of that scenario's recovery time.", percent(share)));
    }
    let over = scenarios.iter().filter(|s| over_target(&s.rto_ms)).count() as u64;
    let targets = scenarios.iter().filter(|s| s.rto_ms.target.is_some()).count() as u64;
    lines.push(match (targets, over) {
        (0, _) => "No scenario sets a recovery target.".to_owned(),
        (_, 0) => format!("{} with a recovery target, all within it at p99.", plural(targets, "scenario")),
        _ => format!(
            "{} of {} with a recovery target miss it at p99.",
            count(over),
            plural(targets, "scenario")
        ),
    });
    let censored: u64 = scenarios.iter().map(|s| s.rto_ms.censored).sum();
    if censored > 0 {
        lines.push(format!(
            "{} never recovered; they count as longer than any other.",
            plural(censored, "run")
        ));
    }
    let mood = if over > 0 {
        Mood::Bad
    } else if targets > 0 && censored == 0 {
        Mood::Good
    } else {
        Mood::Plain
    };
    Answer {
        question,
        short: format!("Up to {}", percentile(rto, "p99")).replace("Up to >", "More than"),
        lines,
        mood,
    }
}

fn slowest<'a>(scenarios: &[&'a ScenarioSummary]) -> Option<&'a ScenarioSummary> {
    // A lower bound counts as more than any exact figure.
    let key = |s: &ScenarioSummary| (s.rto_ms.is_lower_bound("p99"), s.rto_ms.p99.unwrap_or(0.0));
    let measured = scenarios.iter().copied().filter(|s| s.rto_ms.samples > 0);
    // The first of equals, so that the order of scenarios and not of comparisons decides.
    measured.fold(None, |best: Option<&ScenarioSummary>, s| match best {
        Some(best) if key(best) >= key(s) => Some(best),
        _ => Some(s),
    })
}

/// The phase with the largest share of the recovery time.
pub fn longest_phase(scenario: &ScenarioSummary) -> Option<(&'static str, PhaseSummary)> {
    let named = scenario.phases_ms.named();
    let share = |phase: &PhaseSummary| phase.share.unwrap_or(-1.0);
    named.into_iter().filter_map(|(name, _, phase)| phase.map(|phase| (name, phase))).fold(
        None,
        |best: Option<(&'static str, PhaseSummary)>, next| match best {
            Some(best) if share(&best.1) >= share(&next.1) => Some(best),
            _ => Some(next),
        },
    )
}

/// Whether the 99th percentile is known to be above the scenario's target.
pub fn over_target(rto: &RtoSummary) -> bool {
    let over =
        |(target, p99): (f64, f64)| if rto.is_lower_bound("p99") { p99 >= target } else { p99 > target };
    rto.target.zip(rto.p99).is_some_and(over)
}

// ----------------------------------------------------------------------------------------------------------- loss

fn lost(scenarios: &[&ScenarioSummary]) -> Answer {
    let runs: u64 = scenarios.iter().map(|s| s.runs).sum();
    let with_loss: u64 = scenarios.iter().map(|s| s.rpo.runs_with_loss).sum();
    let known = scenarios.iter().any(|s| s.rpo.writes_max.is_some());
    let worst = scenarios.iter().max_by_key(|s| s.rpo.writes_max.unwrap_or(0));
    let short = match worst.and_then(|s| s.rpo.writes_max) {
        _ if !known => "Not measured".to_owned(),
        Some(writes) if writes > 0 => format!("Up to {} a run", plural(writes, "write")),
        _ => "No acknowledged write".to_owned(),
    };
    let mut lines = Vec::new();
    if let Some(worst) = worst.filter(|_| with_loss > 0) {
        lines.push(format!(
            "Acknowledged writes were lost in {} of {}; most in {} ({}).",
            count(with_loss),
            plural(runs, "run"),
            worst.name,
            loss_age(&worst.rpo)
        ));
    } else if known {
        lines.push(format!("Every acknowledged write of {} was there at the end.", plural(runs, "run")));
    }
    lines.push(split_brain_line(scenarios, runs));
    let mood = if !known {
        Mood::Unsure
    } else if scenarios.iter().any(|s| s.verdict == Verdict::Safety) {
        Mood::Bad
    } else if with_loss == 0 {
        Mood::Good
    } else {
        Mood::Plain
    };
    if with_loss > 0 && mood == Mood::Plain {
        lines.push("All of it within what the scenarios allow.".to_owned());
    }
    Answer { question: "What was lost?", short, lines, mood }
}

/// From when the lost writes were, counted from the fault.
pub fn loss_age(rpo: &RpoSummary) -> String {
    let before = rpo
        .time_ms_max
        .filter(|age| *age > 0.0)
        .map(|age| format!("the oldest {} before the fault", ms(age)));
    let after = rpo.post_ms_max.filter(|age| *age > 0.0).map(|age| format!("the last {} after it", ms(age)));
    match (before, after) {
        (Some(before), Some(after)) => format!("{before}, {after}"),
        (Some(before), None) => before,
        (None, Some(after)) => format!("acknowledged after the fault, {after}"),
        (None, None) => "their age was not measured".to_owned(),
    }
}

fn split_brain_line(scenarios: &[&ScenarioSummary], runs: u64) -> String {
    let split: u64 = scenarios.iter().map(|s| s.split_brain.runs).sum();
    if split == 0 {
        return format!("Never two writable primaries in {}.", plural(runs, "run"));
    }
    let longest = scenarios.iter().map(|s| s.split_brain.ms_max).fold(0.0, f64::max);
    let divergent = scenarios.iter().map(|s| s.split_brain.divergent_writes_max).max().unwrap_or(0);
    format!(
        "Two writable primaries in {}, for up to {}, with up to {}.",
        plural(split, "run"),
        ms(longest),
        plural(divergent, "divergent write")
    )
}

// ------------------------------------------------------------------------------------------------------- evidence

fn sure(scenarios: &[&ScenarioSummary]) -> Answer {
    let runs: u64 = scenarios.iter().map(|s| s.runs).sum();
    let inert: u64 = scenarios.iter().map(|s| s.inert).sum();
    let injected: u64 = scenarios.iter().map(|s| s.faults.injected).sum();
    let effective: u64 = scenarios.iter().map(|s| s.faults.effective).sum();
    let mut lines = vec![format!(
        "{} of {} injected had a proven effect; {} inert.",
        count(effective),
        plural(injected, "fault"),
        plural(inert, "run"),
    )];
    if let Some(smallest) = scenarios.iter().map(|s| s.runs).filter(|runs| *runs > 0).min() {
        lines.push(format!(
            "A failure that no run showed has a chance below {} per run (95 %; {} in the smallest scenario).",
            percent(rule_of_three(smallest)),
            plural(smallest, "run"),
        ));
    }
    let short_of_p99 =
        scenarios.iter().filter(|s| s.rto_ms.samples > 0 && s.rto_ms.samples < 299).count() as u64;
    if short_of_p99 > 0 {
        lines.push(format!(
            "{} with fewer than 299 samples: their p99 is the maximum.",
            plural(short_of_p99, "scenario")
        ));
    }
    let unknown: u64 = scenarios.iter().map(|s| s.linearizable.unknown).sum();
    if unknown > 0 {
        lines.push(format!("The linearizability checker ran out of budget in {}.", plural(unknown, "run")));
    }
    let mood = if runs == 0 || inert > 0 || unknown > 0 { Mood::Unsure } else { Mood::Plain };
    Answer { question: "How sure are we?", short: plural(runs, "run"), lines, mood }
}

/// Upper bound, at 95 %, of the probability of something that none of `runs` runs showed.
pub fn rule_of_three(runs: u64) -> f64 {
    if runs == 0 { 1.0 } else { (3.0 / runs as f64).min(1.0) }
}

#[cfg(test)]
mod asked {
    use super::*;

    #[test]
    fn a_loss_target_is_called_met_or_missed_beside_the_recovery_target() {
        let mut s = ScenarioSummary { loss_target: Some(1024), ..ScenarioSummary::default() };
        assert_eq!(asked_for(&s), None, "nothing measured");
        s.rpo.bytes_max = Some(1024);
        s.rto_ms.target = Some(45_000.0);
        assert!(
            asked_for(&s).is_some_and(|text| text.contains("45.0 s (met)") && text.contains("(met: up to 1"))
        );
        s.rpo.bytes_max = Some(500_000);
        assert!(asked_for(&s).is_some_and(|text| text.contains("(missed: up to ")));
        s.loss_target = None;
        assert_eq!(asked_for(&s), None, "nothing asked for");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn an_empty_campaign_claims_nothing() {
        let answers = answers(&Campaign::default());
        assert_eq!(answers[0].short, "Nothing was run");
        assert!(answers.iter().all(|a| a.mood != Mood::Good));
    }

    #[test]
    fn a_broken_promise_is_named_with_its_scenario() {
        let campaign = sample::campaign(sample::Size::Small);
        let held = &answers(&campaign)[0];
        assert_eq!(held.mood, Mood::Bad);
        assert!(held.lines[0].contains("safety broken: sentinel/primary-cut-off"), "{:?}", held.lines);
    }

    #[test]
    fn worse_than_the_baseline_is_no_good_news_though_all_hold() {
        let mut campaign = sample::campaign(sample::Size::Small);
        campaign.scenarios.truncate(1);
        assert_eq!(answers(&campaign)[0].mood, Mood::Good);
        campaign.comparison =
            Some(crate::compare::Comparison { verdict: Change::Regressed, ..Default::default() });
        assert_eq!(answers(&campaign)[0].mood, Mood::Bad);
    }

    #[test]
    fn the_slowest_scenario_is_one_that_never_recovered() {
        let mut a = ScenarioSummary { name: "a".into(), ..ScenarioSummary::default() };
        a.rto_ms = RtoSummary { samples: 300, p99: Some(1e6), ..RtoSummary::default() };
        let mut b = ScenarioSummary { name: "b".into(), ..ScenarioSummary::default() };
        b.rto_ms = RtoSummary { samples: 300, p99: Some(70.0), ..RtoSummary::default() };
        b.rto_ms.lower_bounds = vec!["p99".into()];
        assert_eq!(slowest(&[&a, &b]).map(|s| s.name.as_str()), Some("b"));
    }
}
