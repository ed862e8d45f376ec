//! The backups of one run: what the simulator was shown, judged by the rules of this folder, and what a disaster would
//! have cost.

use super::{
    Broken, Listed, Restore, State, Write, archive_gap, broken, chains, difference, drift, state_at,
};
use crate::record::{Fact, Records, SimTime};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a run showed of its backups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Logs that data nodes had at some moment, without those that are the beginning of another one.
    pub logs: Vec<Vec<LogEntry>>,
    /// What the store listed at the end.
    pub catalog: Vec<Catalogued>,
    /// Pieces of the archive at the end.
    pub pieces: Vec<Piece>,
    /// Restores: of every restorable point at the end, and those that were ordered.
    pub restores: Vec<Shown>,
}

/// One entry of a log; its position is its place, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Its term.
    pub term: u64,
    /// The key and the element that it appends.
    pub element: Option<(u32, u64)>,
}

/// A catalog entry with what surrounds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogued {
    /// The entry.
    pub listed: Listed,
    /// Term of the log's entry at its stop.
    pub term: u64,
    /// Bytes that it stored.
    pub bytes: u64,
    /// Something of it never was durable.
    pub never_durable: bool,
}

/// A piece of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The term it is filed under.
    pub term: u64,
    /// The position before its first entry.
    pub after: u64,
    /// The position of its last entry.
    pub last: u64,
}

/// A restore with what surrounds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// It.
    pub restore: Restore,
    /// Term of the entry at its target.
    pub term: u64,
    /// The order that it fulfils; 0: a judge's own.
    pub order: u32,
    /// Why it refused.
    pub why: String,
}

impl Evidence {
    /// Adds a log, unless it is known. A log that goes on from a known one takes its place.
    pub fn add_log(&mut self, log: Vec<LogEntry>) {
        if self.logs.iter().any(|known| known.starts_with(&log)) {
            return;
        }
        self.logs.retain(|known| !log.starts_with(known));
        self.logs.push(log);
    }

    /// The log that has an entry of this term at this position: terms and positions name one history (Raft paper,
    /// section 5.3, the log matching property).
    fn log_with(&self, term: u64, position: u64) -> Option<&Vec<LogEntry>> {
        let at = position.checked_sub(1)? as usize;
        self.logs.iter().find(|log| log.get(at).is_some_and(|entry| entry.term == term))
    }

    /// The log of the newest history.
    fn newest_log(&self) -> Option<&Vec<LogEntry>> {
        self.logs.iter().max_by_key(|log| (log.last().map(|entry| entry.term), log.len()))
    }
}

/// What the judges say of a run's backups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backups {
    /// Rules that do not hold; at most twenty are kept.
    pub broken: Vec<BrokenRule>,
    /// How many in all.
    pub broken_total: u64,
    /// Backups that are listed at the end.
    pub listed: u64,
    /// Points (backups, and positions of the archive behind them) that a restore gave.
    pub restorable: u64,
    /// Points that it refused.
    pub refused: u64,
    /// Bytes that the listed backups stored.
    pub bytes: u64,
    /// Restores that were ordered and gave a state.
    pub restored: u64,
    /// Longest time from the order to the restored and proved state.
    pub restore_rto_ms: Option<f64>,
    /// Most acknowledged writes that a restored state lacks, of those acknowledged when it looked into the store.
    pub restore_rpo_writes: Option<u64>,
    /// Their payload.
    pub restore_rpo_bytes: Option<u64>,
    /// Lowest level that a restore was proved to: 2 restored, 3 compared with the source's digest.
    pub restore_level: Option<u64>,
    /// Acknowledged writes that a disaster at the end would cost.
    pub disaster_writes: Option<u64>,
    /// Their payload.
    pub disaster_bytes: Option<u64>,
}

/// A broken rule, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenRule {
    /// The rule, as `B1`.
    pub rule: String,
    /// The backup.
    pub backup: u32,
    /// What is wrong.
    pub why: String,
}

impl From<&Broken> for BrokenRule {
    fn from(broken: &Broken) -> Self {
        BrokenRule { rule: broken.rule.to_owned(), backup: broken.backup, why: broken.why.clone() }
    }
}

/// Broken rules that are kept of one run.
const KEPT: usize = 20;

/// Judges the backups of a run; `None`: it has none.
pub fn judge(records: &Records) -> Option<Backups> {
    let evidence = records.backups.as_ref()?;
    let acknowledged = Acknowledged::of(records);
    let mut wrong = chains(&listed_of(evidence));
    wrong.extend(listings(evidence));
    wrong.extend(gaps(evidence));
    let mut measured = Backups { listed: evidence.catalog.len() as u64, ..Backups::default() };
    measured.bytes = evidence.catalog.iter().map(|entry| entry.bytes).sum();
    for shown in evidence.restores.iter().filter(|shown| shown.order == 0) {
        match &shown.restore.state {
            Some(_) => measured.restorable += 1,
            None => measured.refused += 1,
        }
    }
    for shown in &evidence.restores {
        wrong.extend(compare(evidence, &acknowledged, shown));
    }
    wrong.extend(moments(records, evidence));
    measured.broken_total = wrong.len() as u64;
    measured.broken = wrong.iter().take(KEPT).map(BrokenRule::from).collect();
    orders(records, evidence, &acknowledged, &mut measured);
    Some(measured)
}

fn listed_of(evidence: &Evidence) -> Vec<Listed> {
    evidence.catalog.iter().map(|entry| entry.listed.clone()).collect()
}

/// B8, also where something was never durable at all.
fn listings(evidence: &Evidence) -> Vec<Broken> {
    let mut wrong = super::listings(&listed_of(evidence));
    let never = evidence.catalog.iter().filter(|entry| entry.never_durable);
    wrong.extend(never.map(|entry| {
        broken("B8", entry.listed.id, "listed, and something of it never was durable".to_owned())
    }));
    wrong
}

/// B5 for the newest history, from its oldest backup on. Pieces of a history that a restore has replaced do not count.
fn gaps(evidence: &Evidence) -> Vec<Broken> {
    let first_term = evidence.newest_log().and_then(|log| log.first()).map_or(0, |entry| entry.term);
    let of_history = |term: u64| term >= first_term;
    let pieces: Vec<(u64, u64)> =
        evidence.pieces.iter().filter(|p| of_history(p.term)).map(|p| (p.after, p.last)).collect();
    let from =
        evidence.catalog.iter().filter(|entry| of_history(entry.term)).map(|entry| entry.listed.stop).min();
    let to = pieces.iter().map(|(_, last)| *last).max();
    let (Some(from), Some(to)) = (from, to) else { return Vec::new() };
    let gap = archive_gap(&pieces, from, to.max(from));
    gap.map(|(from, to)| broken("B5", 0, format!("the archive has nothing from {from} to {to}")))
        .into_iter()
        .collect()
}

/// B1 to B3 for one restore that gave a state.
fn compare(evidence: &Evidence, acknowledged: &Acknowledged, shown: &Shown) -> Vec<Broken> {
    let (Some(state), target) = (&shown.restore.state, shown.restore.target) else { return Vec::new() };
    let backup = shown.restore.backup;
    if target == 0 && state.values().all(Vec::is_empty) {
        return Vec::new();
    }
    let Some(log) = evidence.log_with(shown.term, target) else {
        let why = format!("its position {target} of term {} is in nobody's log", shown.term);
        return vec![broken("B3", backup, why)];
    };
    let writes = acknowledged.writes(log);
    let at_stop =
        evidence.catalog.iter().any(|entry| entry.listed.id == backup && entry.listed.stop == target);
    let mut wrong = drift(&writes, &shown.restore);
    let right = state_at(&writes, target);
    if wrong.is_empty() && *state != right {
        wrong.push(broken(if at_stop { "B1" } else { "B2" }, backup, difference(state, &right)));
    }
    wrong
}

/// What clients were told.
struct Acknowledged {
    /// By element: when, and its payload.
    by_element: BTreeMap<u64, (SimTime, u64)>,
}

impl Acknowledged {
    fn of(records: &Records) -> Self {
        let told = records.history.operations.iter().filter(|op| op.is_write() && op.outcome.is_ok());
        let by_element = told.filter_map(|op| match (op.action, op.completed) {
            (crate::record::Action::Append(value), Some(at)) => Some((value, (at.at, u64::from(op.bytes)))),
            _ => None,
        });
        Acknowledged { by_element: by_element.collect() }
    }

    fn writes(&self, log: &[LogEntry]) -> Vec<Write> {
        let write = |(at, entry): (usize, &LogEntry)| {
            let (key, value) = entry.element?;
            let acknowledged = self.by_element.contains_key(&value);
            Some(Write { lsn: at as u64 + 1, key, value, acknowledged, survived: true })
        };
        log.iter().enumerate().filter_map(write).collect()
    }

    /// Writes acknowledged until `upto` that a state lacks, and their payload.
    fn missing(&self, state: &State, upto: SimTime) -> (u64, u64) {
        let present: BTreeSet<u64> = state.values().flatten().copied().collect();
        let lost = self.by_element.iter().filter(|(value, (at, _))| *at <= upto && !present.contains(value));
        lost.fold((0, 0), |(writes, bytes), (_, (_, payload))| (writes + 1, bytes + payload))
    }
}

/// B2 for restores to a time or to a named point, without believing the stamps of the log: what clients were told before
/// that moment is in the state, if it is in the history at all, and nothing is that was only asked for later.
fn moments(records: &Records, evidence: &Evidence) -> Vec<Broken> {
    let mut wrong = Vec::new();
    for (order, moment) in moments_asked_for(records) {
        let Some(shown) = evidence.restores.iter().find(|shown| shown.order == order) else { continue };
        let (Some(state), Some(log)) =
            (&shown.restore.state, evidence.log_with(shown.term, shown.restore.target))
        else {
            continue;
        };
        let present: BTreeSet<u64> = state.values().flatten().copied().collect();
        let in_history: BTreeSet<u64> =
            log.iter().filter_map(|entry| entry.element).map(|(_, value)| value).collect();
        let (mut lacks, mut has) = (0, 0);
        for op in &records.history.operations {
            let crate::record::Action::Append(value) = op.action else { continue };
            let told = op.outcome.is_ok() && op.completed.is_some_and(|done| done.at < moment);
            lacks += u64::from(told && in_history.contains(&value) && !present.contains(&value));
            has += u64::from(op.invoked.at > moment && present.contains(&value));
        }
        if lacks + has > 0 {
            let why = format!(
                "restored to {moment:?}: {lacks} writes acknowledged before it are missing, {has} asked for after it are there"
            );
            wrong.push(broken("B2", shown.restore.backup, why));
        }
    }
    wrong
}

/// By order: the moment that it asks for.
fn moments_asked_for(records: &Records) -> BTreeMap<u32, SimTime> {
    let (mut asked, mut points) = (BTreeMap::new(), BTreeMap::new());
    let mut order = 0;
    for observation in &records.observations {
        let Fact::Gauge { name, value } = &observation.fact else { continue };
        let (at, number) = (observation.instant.at, *value as u32);
        match name.as_str() {
            "restore_ordered" => order = number,
            "restore_back_ms" => {
                asked.insert(order, SimTime(at.0.saturating_sub(*value as u64 * 1_000)));
            }
            "restore_point" => drop(points.insert(number, at)),
            "restore_to_point" => asked.extend(points.get(&number).map(|at| (order, *at))),
            _ => {}
        }
    }
    asked
}

/// The restores that were ordered, and the disaster that did not come.
fn orders(records: &Records, evidence: &Evidence, acknowledged: &Acknowledged, measured: &mut Backups) {
    // A restore that found its backup expired reads the list again: what it lacks counts from the last time.
    let mut reads: BTreeMap<u32, SimTime> = BTreeMap::new();
    for observation in &records.observations {
        let Fact::Gauge { name, value } = &observation.fact else { continue };
        match name.as_str() {
            "restore_rto_ms" => {
                measured.restore_rto_ms = Some(measured.restore_rto_ms.unwrap_or(0.0).max(*value));
            }
            "restore_level" => {
                let level = *value as u64;
                measured.restore_level = Some(measured.restore_level.unwrap_or(level).min(level));
            }
            "restore_reads" => drop(reads.insert(*value as u32, observation.instant.at)),
            _ => {}
        }
    }
    for (order, at) in reads {
        let given = evidence.restores.iter().find(|shown| shown.order == order);
        let Some(state) = given.and_then(|shown| shown.restore.state.as_ref()) else { continue };
        let (writes, bytes) = acknowledged.missing(state, at);
        measured.restored += 1;
        measured.restore_rpo_writes = measured.restore_rpo_writes.max(Some(writes));
        measured.restore_rpo_bytes = measured.restore_rpo_bytes.max(Some(bytes));
    }
    let own = evidence.restores.iter().filter(|shown| shown.order == 0 && shown.restore.state.is_some());
    if let Some(newest) = own.max_by_key(|shown| (shown.term, shown.restore.target))
        && let Some(state) = &newest.restore.state
    {
        let (writes, bytes) = acknowledged.missing(state, records.end);
        (measured.disaster_writes, measured.disaster_bytes) = (Some(writes), Some(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        Action, Instant, KeyIndex, NodeIndex, Observation, Operation, Outcome, Purpose, Returned, Shard,
    };

    fn instant(ms: u64) -> Instant {
        Instant { at: SimTime(ms * 1_000), seq: ms }
    }

    fn acknowledged_append(value: u64, ms: u64) -> Operation {
        Operation {
            process: 0,
            client: NodeIndex(0),
            purpose: Purpose::Workload,
            key: KeyIndex(0),
            action: Action::Append(value),
            bytes: 64,
            invoked: instant(ms),
            completed: Some(instant(ms + 1)),
            outcome: Outcome::Ok(Returned::Done),
            answered_by: None,
        }
    }

    fn log(terms: &[u64]) -> Vec<LogEntry> {
        let entry = |(at, term): (usize, &u64)| LogEntry {
            term: *term,
            element: Some((at as u32 % 2, term * 1_000 + at as u64 + 1)),
        };
        terms.iter().enumerate().map(entry).collect()
    }

    fn shown(log: &[LogEntry], term: u64, target: u64) -> Shown {
        let mut state = State::new();
        for (key, value) in log[..target as usize].iter().filter_map(|entry| entry.element) {
            state.entry(key).or_default().push(value);
        }
        let restore = Restore { backup: 1, target, state: Some(state) };
        Shown { restore, term, order: 0, why: String::new() }
    }

    fn evidence() -> Evidence {
        let mut evidence = Evidence::default();
        evidence.add_log(log(&[1, 1, 1, 1]));
        evidence.add_log(log(&[1, 1]));
        evidence.add_log(log(&[1, 1, 2, 2, 2]));
        let listed = Listed { id: 1, parent: None, start: 1, stop: 2, durable_at: 5, listed_at: 6 };
        evidence.catalog.push(Catalogued { listed, term: 1, bytes: 10, never_durable: false });
        evidence
    }

    #[test]
    fn a_restore_is_compared_with_the_history_that_it_names() {
        let evidence = evidence();
        assert_eq!(evidence.logs.len(), 2, "a beginning of a known log is not another one");
        let nobody = Acknowledged { by_element: BTreeMap::new() };
        let old = shown(&log(&[1, 1, 1, 1]), 1, 4);
        let new = shown(&log(&[1, 1, 2, 2, 2]), 2, 4);
        assert_eq!(compare(&evidence, &nobody, &old), [], "the overruled branch is a history of its own");
        assert_eq!(compare(&evidence, &nobody, &new), []);
        let mixed = Shown { term: 2, ..old.clone() };
        assert_eq!(compare(&evidence, &nobody, &mixed).len(), 1, "two branches in one state");
        let nowhere = Shown { term: 3, ..old };
        assert_eq!(compare(&evidence, &nobody, &nowhere)[0].rule, "B3");
    }

    #[test]
    fn a_restore_to_a_moment_is_held_against_what_clients_were_told_by_then() {
        let mut records = Records::default();
        // Two writes before the moment (at 1 s and 2 s), one after it (at 4 s); it is 3 s, asked for at 5 s.
        for (value, ms) in [(1_001, 1_000), (1_002, 2_000), (1_003, 4_000)] {
            records.history.operations.push(acknowledged_append(value, ms));
        }
        for (name, value) in [("restore_ordered", 1.0), ("restore_back_ms", 2_000.0)] {
            let fact = Fact::Gauge { name: name.to_owned(), value };
            let (node, shard) = (NodeIndex(0), Shard(0));
            records.observations.push(Observation { instant: instant(5_000), node, shard, fact });
        }
        let mut evidence = Evidence::default();
        evidence.add_log(log(&[1, 1, 1]));
        for (target, wrong) in [(1, 1), (2, 0), (3, 1)] {
            evidence.restores = vec![Shown { order: 1, ..shown(&log(&[1, 1, 1]), 1, target) }];
            assert_eq!(moments(&records, &evidence).len(), wrong, "up to {target}");
        }
    }

    #[test]
    fn a_missing_acknowledged_write_is_drift_and_a_gap_and_an_early_listing_are_found() {
        let mut evidence = evidence();
        let acknowledged = Acknowledged { by_element: BTreeMap::from([(1_002, (SimTime(1), 64))]) };
        let mut short = shown(&log(&[1, 1]), 1, 2);
        short.restore.state = Some(State::from([(0, vec![1_001])]));
        assert_eq!(compare(&evidence, &acknowledged, &short)[0].why, "1 acknowledged writes are missing");
        assert_eq!(acknowledged.missing(&State::new(), SimTime(1)), (1, 64));
        assert_eq!(acknowledged.missing(&State::new(), SimTime(0)), (0, 0), "not acknowledged by then");
        evidence.pieces = vec![Piece { term: 1, after: 0, last: 2 }, Piece { term: 2, after: 3, last: 5 }];
        assert_eq!(gaps(&evidence)[0].why, "the archive has nothing from 2 to 3");
        evidence.catalog[0].never_durable = true;
        assert_eq!(listings(&evidence)[0].rule, "B8");
    }
}
