//! The story of one run in numbered lines: faults, role changes, steps of the failover, first bad and first good
//! probe, violations, in order. What `replay` prints.

use crate::lanes::{failure_word, lanes, node_name, role_word};
use crate::result::ViolationAt;
use crate::text::{clock, ms, printable};
use firedrill_checkers::measure::Measurement;
use firedrill_checkers::record::{
    Fact, Instant, Life, Mark, NodeIndex, Operation, Outcome, Purpose, Records, Role, SimTime,
};
use std::collections::BTreeMap;

/// Lines of a story that is not verbose: what fits on a screen.
pub const LINES_MAX: usize = 30;

/// How much a line matters; the least of them go first when a story is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// What led to the state before the first fault; told only on request.
    Background,
    /// Notes, epochs of bystanders, followers' roles.
    Detail,
    /// Role changes and steps that are repeated or undone.
    Step,
    /// A failover's first step of each kind, and changes of the primary.
    Turn,
    /// Faults, heals, probes, violations: never left out.
    Key,
}

/// One line of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: SimTime,
    /// What happened.
    pub text: String,
    /// How much it matters.
    pub weight: Weight,
    order: (SimTime, u64),
}

/// A story: its lines in order, and how many were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    /// The lines.
    pub lines: Vec<Line>,
    /// Events that were left out to keep it short.
    pub left_out: usize,
}

/// Tells a run. `violations` are moments that a judge knows; an overlap of two writable primaries is told anyway.
pub fn story(
    records: &Records,
    measured: Option<&Measurement>,
    violations: &[ViolationAt],
    verbose: bool,
) -> Story {
    let first_fault = records.journal.faults.iter().map(|fault| fault.began).min();
    let mut teller = Teller { records, first_fault, lines: Vec::new() };
    teller.start();
    teller.faults();
    teller.life();
    teller.observations();
    teller.conflicts();
    teller.probes(measured);
    for violation in violations {
        teller.add(after_all(violation.at), Weight::Key, format!("VIOLATION  {}", violation.what));
    }
    let mut lines = teller.lines;
    lines.sort_by(|a, b| (a.order, &a.text).cmp(&(b.order, &b.text)));
    if verbose { Story { lines, left_out: 0 } } else { shortened(lines) }
}

/// A position behind every event of the same time.
fn after_all(at: SimTime) -> Instant {
    Instant { at, seq: u64::MAX }
}

/// Leaves out the lightest lines, the latest of them first, until the story fits a screen.
fn shortened(mut lines: Vec<Line>) -> Story {
    let total = lines.len();
    lines.retain(|line| line.weight > Weight::Background);
    for weight in [Weight::Detail, Weight::Step, Weight::Turn] {
        while lines.len() > LINES_MAX
            && let Some(at) = lines.iter().rposition(|line| line.weight == weight)
        {
            lines.remove(at);
        }
    }
    // Hundreds of faults (a flapping link) are all keys: the beginning is told, the number of the rest too.
    lines.truncate(LINES_MAX);
    Story { left_out: total - lines.len(), lines }
}

impl Story {
    /// The story as numbered text, one event per line.
    pub fn to_text(&self) -> String {
        let width = self.lines.len().to_string().len().max(2);
        let times: Vec<String> = self.lines.iter().map(|line| clock(line.at)).collect();
        let wide = times.iter().map(String::len).max().unwrap_or(0);
        let mut out = String::new();
        for (number, (line, time)) in self.lines.iter().zip(&times).enumerate() {
            out.push_str(&format!("{:>width$}  {time:>wide$}  {}\n", number + 1, printable(&line.text)));
        }
        if self.left_out > 0 {
            out.push_str(&format!(
                "{:>width$}  {} lesser events left out (--all tells them)\n",
                "..", self.left_out
            ));
        }
        out
    }
}

struct Teller<'a> {
    records: &'a Records,
    first_fault: Option<Instant>,
    lines: Vec<Line>,
}

impl Teller<'_> {
    fn add(&mut self, instant: Instant, weight: Weight, text: String) {
        self.lines.push(Line { at: instant.at, text, weight, order: (instant.at, instant.seq) });
    }

    fn name(&self, node: NodeIndex) -> String {
        node_name(self.records, node)
    }

    /// The roles just before the first fault, or the first ones where there is none, in one line.
    fn start(&mut self) {
        let mut roles: BTreeMap<(NodeIndex, u16), Role> = BTreeMap::new();
        let mut at = None;
        for o in &self.records.observations {
            let Fact::Role(role) = o.fact else { continue };
            at = at.or(Some(o.instant));
            match self.first_fault {
                Some(fault) if o.instant < fault => drop(roles.insert((o.node, o.shard.0), role)),
                Some(_) => {}
                None => drop(roles.entry((o.node, o.shard.0)).or_insert(role)),
            }
        }
        let mut by_role: BTreeMap<Role, Vec<String>> = BTreeMap::new();
        for ((node, _), role) in &roles {
            by_role.entry(*role).or_default().push(self.name(*node));
        }
        let words: Vec<String> = by_role
            .iter()
            .map(|(role, names)| format!("{} {}", role_word(*role), names.join(", ")))
            .collect();
        // Told at the moment of the fault, whose own line sorts behind it.
        let told_at = self.first_fault.map(|fault| Instant { at: fault.at, seq: 0 }).or(at);
        if let Some(told_at) = told_at.filter(|_| !words.is_empty()) {
            self.add(told_at, Weight::Key, words.join("; "));
        }
    }

    /// How much an event of a node weighs: before the first fault it is background.
    fn weight(&self, instant: Instant, weight: Weight) -> Weight {
        let before = self.first_fault.is_some_and(|fault| instant < fault);
        if before { Weight::Background } else { weight }
    }

    fn faults(&mut self) {
        for fault in &self.records.journal.faults {
            let kind = if fault.planned { "ACTION" } else { "FAULT" };
            let proof = if fault.effects == 0 { "  (no effect: inert)" } else { "" };
            self.add(fault.began, Weight::Key, format!("{kind}  {}{proof}", fault.label));
            if let Some(healed) = fault.healed {
                self.add(healed, Weight::Key, format!("HEALED  {}", fault.label));
            }
        }
    }

    /// Process life, where no fault has told it already: a fault and its effect on its target share their moment.
    fn life(&mut self) {
        for event in &self.records.journal.life {
            if event.instant.at == SimTime(0) || self.told_by_fault(event.instant.at, event.node) {
                continue;
            }
            let what = match event.life {
                Life::Up => "is up again",
                Life::Exited => "exits by itself",
                Life::Killed => "is killed",
                Life::HostLost => "goes down with its host",
                Life::Paused => "stands still",
                Life::Resumed => "runs again",
                Life::Isolated => "is cut off",
                Life::Rejoined => "is no longer cut off",
            };
            self.add(event.instant, Weight::Turn, format!("{} {what}", self.name(event.node)));
        }
    }

    fn told_by_fault(&self, at: SimTime, node: NodeIndex) -> bool {
        self.records.journal.faults.iter().any(|fault| {
            (fault.began.at == at || fault.healed.is_some_and(|healed| healed.at == at))
                && fault.targets.contains(&node)
        })
    }

    fn observations(&mut self) {
        let mut seen_marks: BTreeMap<(Mark, Option<NodeIndex>), u32> = BTreeMap::new();
        let mut epochs: BTreeMap<NodeIndex, u64> = BTreeMap::new();
        let mut roles: BTreeMap<(NodeIndex, u16), Role> = BTreeMap::new();
        let mut writable: BTreeMap<(NodeIndex, u16), bool> = BTreeMap::new();
        let mut primaries: BTreeMap<u16, NodeIndex> = BTreeMap::new();
        for o in &self.records.observations {
            let name = self.name(o.node);
            match &o.fact {
                Fact::Role(role) => {
                    let before = roles.insert((o.node, o.shard.0), *role);
                    // A change of primaries that no fault explains is part of the story.
                    let new_primary = *role == Role::Primary
                        && primaries.insert(o.shard.0, o.node).is_some_and(|old| old != o.node);
                    if before.is_some() && before != Some(*role) {
                        let usual = if *role == Role::Primary { Weight::Turn } else { Weight::Step };
                        let weight = if new_primary { usual } else { self.weight(o.instant, usual) };
                        let epoch = epochs.get(&o.node).map_or(String::new(), |e| format!(" (epoch {e})"));
                        self.add(o.instant, weight, format!("{name} is {}{epoch}", role_word(*role)));
                    }
                }
                Fact::Epoch(epoch) => {
                    let before = epochs.insert(o.node, *epoch);
                    if before.is_some() && before != Some(*epoch) {
                        self.add(
                            o.instant,
                            self.weight(o.instant, Weight::Detail),
                            format!("{name} acts under epoch {epoch}"),
                        );
                    }
                }
                Fact::Mark { mark, about } => {
                    let times = seen_marks.entry((*mark, *about)).or_default();
                    *times += 1;
                    let usual = if *times == 1 { Weight::Turn } else { Weight::Step };
                    let runs_failover =
                        *mark == Mark::Elected && seen_marks.contains_key(&(Mark::Declared, *about));
                    let text = match about.filter(|_| runs_failover) {
                        Some(lost) => format!("{name} is elected to run the failover of {}", self.name(lost)),
                        None => self.mark(&name, *mark, *about),
                    };
                    self.add(o.instant, self.weight(o.instant, usual), text);
                }
                Fact::Writable(now) => {
                    let before = writable.insert((o.node, o.shard.0), *now);
                    let new = before != Some(*now) && (before.is_some() || *now);
                    if new && o.instant.at > SimTime(0) {
                        let word =
                            if *now { "would acknowledge writes" } else { "acknowledges no more writes" };
                        self.add(o.instant, self.weight(o.instant, Weight::Step), format!("{name} {word}"));
                    }
                }
                Fact::Note(note) => {
                    self.add(o.instant, self.weight(o.instant, Weight::Detail), format!("{name}: {note}"))
                }
                Fact::Gauge { .. } => {}
            }
        }
    }

    fn mark(&self, name: &str, mark: Mark, about: Option<NodeIndex>) -> String {
        let whom = about.map_or("the primary".to_owned(), |node| self.name(node));
        let own = whom == name;
        match mark {
            Mark::Suspected => format!("{name} suspects {whom}"),
            Mark::Declared => format!("{name} declares {whom} down"),
            Mark::Elected if own => format!("{name} is elected to run the failover"),
            Mark::Elected => format!("{name} sees {whom} elected"),
            Mark::Fenced => format!("{name} knows {whom} fenced"),
            Mark::Promoting if own => format!("{name} promotes itself"),
            Mark::Promoting => format!("{name} promotes {whom}"),
            Mark::Promoted => format!("{name} sees {whom} promoted"),
            Mark::Writable => format!("{name} is writable as the new primary"),
            Mark::Routed => format!("{name} sends clients to {whom}"),
            Mark::Settled => format!("{name} sees the failover settled"),
            Mark::Aborted => format!("{name} gives the failover up"),
        }
    }

    fn conflicts(&mut self) {
        for conflict in lanes(self.records).conflicts {
            let from = after_all(conflict.from);
            let length = ms((conflict.until.0 - conflict.from.0) as f64 / 1_000.0);
            self.add(from, Weight::Key, format!("TWO PRIMARIES would acknowledge writes, for {length}"));
            if conflict.until < self.records.end {
                self.add(
                    after_all(conflict.until),
                    Weight::Key,
                    "only one primary is writable again".to_owned(),
                );
            }
        }
    }

    /// The first bad write probe after the fault, and the good one that ends the outage. The meter's own figure
    /// decides which one that is, because an acknowledged write may still have been lost.
    fn probes(&mut self, measured: Option<&Measurement>) {
        let records = self.records;
        let Some(fault) = crate::lanes::outage_fault(records, measured) else { return };
        let probes =
            || records.history.operations.iter().filter(|o| o.purpose == Purpose::Probe && o.is_write());
        let Some(bad) = probes().find(|o| o.invoked.at >= fault && !o.outcome.is_ok()) else { return };
        let completed = bad.completed.unwrap_or(bad.invoked);
        self.add(completed, Weight::Key, format!("first bad probe: {}", self.outcome(bad)));
        let first = measured.and_then(|m| m.rto.first);
        if first.is_some_and(|span| span.censored) {
            return self.add(after_all(records.end), Weight::Key, "no good probe until the end".to_owned());
        }
        let from = first.map_or(bad.invoked.at, |span| SimTime(fault.0 + (span.ms * 1_000.0).round() as u64));
        let good = probes().filter(|o| o.invoked > bad.invoked && o.outcome.is_ok());
        let done = good.filter_map(|o| o.completed.map(|c| (c, o))).filter(|(c, _)| c.at >= from);
        if let Some((completed, good)) = done.min_by_key(|(completed, _)| *completed) {
            let out = ms((completed.at.0 - fault.0) as f64 / 1_000.0);
            let text = format!("first good probe: {}, {out} after the fault", self.outcome(good));
            self.add(completed, Weight::Key, text);
        }
    }

    fn outcome(&self, operation: &Operation) -> String {
        let what = match &operation.outcome {
            Outcome::Ok(_) => "acknowledged".to_owned(),
            Outcome::Fail(why) => format!("failed, {}", failure_word(*why)),
            Outcome::Info(why) => format!("outcome unknown, {}", failure_word(*why)),
        };
        match operation.answered_by {
            Some(node) => format!("{} {what} by {}", self.name(operation.client), self.name(node)),
            None => format!("{} {what}", self.name(operation.client)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn told(scenario: usize, verbose: bool) -> Story {
        let campaign = sample::campaign(sample::Size::Small);
        let run = &campaign.scenarios[scenario].stored[0];
        story(&run.records, Some(&run.measurement), &run.violations, verbose)
    }

    #[test]
    fn a_crash_is_told_in_order() {
        let text = told(0, false).to_text();
        let steps = [
            "FAULT  data-1: process killed",
            "first bad probe",
            "sentinel-1 suspects data-1",
            "sentinel-2 declares data-1 down",
            "sentinel-2 is elected",
            "sentinel-2 promotes data-2",
            "data-2 is primary",
            "first good probe",
            "HEALED",
        ];
        let at: Vec<Option<usize>> = steps.iter().map(|step| text.find(step)).collect();
        assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{at:?}\n{text}");
        assert!(text.starts_with(" 1  20.400s  primary data-1; replica data-2, data-3; "), "{text}");
    }

    #[test]
    fn two_primaries_and_the_violation_are_never_left_out() {
        let text = told(1, false).to_text();
        assert!(text.contains("TWO PRIMARIES would acknowledge writes, for 14.6 s"), "{text}");
        assert!(text.contains("VIOLATION  data-1 acknowledges"), "{text}");
    }

    #[test]
    fn a_long_story_is_cut_to_a_screen_and_says_so() {
        let mut campaign = sample::campaign(sample::Size::Small);
        let records = &mut campaign.scenarios[0].stored[0].records;
        let note = records.observations[0].clone();
        for i in 0..500 {
            let mut note = note.clone();
            note.instant.at = SimTime(30_000_000);
            note.fact = Fact::Note(format!("note {i}"));
            records.observations.push(note);
        }
        let (short, long) = (story(records, None, &[], false), story(records, None, &[], true));
        assert_eq!(short.lines.len(), LINES_MAX);
        assert_eq!(short.left_out + LINES_MAX, long.lines.len());
        assert!(short.to_text().contains("FAULT") && short.to_text().contains("lesser events left out"));
    }

    #[test]
    fn what_led_to_the_first_state_is_background_but_a_change_of_primaries_is_not() {
        let mut campaign = sample::campaign(sample::Size::Small);
        let records = &mut campaign.scenarios[0].stored[0].records;
        let mut early = records.observations[0].clone();
        // At the start data-1 is primary; the failover of the run itself comes much later.
        for (i, (node, role)) in
            [(1, Role::Primary), (1, Role::Replica), (0, Role::Primary)].into_iter().enumerate()
        {
            early.instant = Instant { at: SimTime(1_000 * (i as u64 + 1)), seq: 0 };
            early.node = NodeIndex(node);
            early.fact = Fact::Role(role);
            records.observations.insert(9 + i, early.clone());
        }
        let text = story(records, None, &[], false).to_text();
        assert!(text.contains("0.001s  data-2 is primary") && !text.contains("0.002s"), "{text}");
    }

    #[test]
    fn a_run_without_anything_is_an_empty_story() {
        assert_eq!(story(&Records::default(), None, &[], false).to_text(), "");
    }
}
