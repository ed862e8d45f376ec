//! Judges of backups: pure functions of what was written, what a catalog lists, and what restores gave.
//!
//! `S(x)` is the state after the first `x` entries of the log. The rules, with the numbers that verdicts carry:
//!
//! - B1 a backup restores to `S(stop)`; B2 a restore to `x` gives `S(x)` inside the promised window and refuses outside;
//! - B3 every acknowledged write up to the position is in it, and nothing of a branch that was rolled back;
//! - B4 a chain is closed: parents are listed and positions abut; B5 the archive has no gap inside the window;
//! - B6 a resumed backup equals an uninterrupted one; B7 expiry never shrinks the promised window or orphans a delta;
//! - B8 nothing is listed before its last byte is durable.

mod run;

pub use run::{Backups, BrokenRule, Catalogued, Evidence, LogEntry, Piece, Shown, judge};

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Its position, from 1.
    pub lsn: u64,
    /// The key it appends to.
    pub key: u32,
    /// The element, unique.
    pub value: u64,
    /// A client was told that it took effect.
    pub acknowledged: bool,
    /// It is on the branch that survived.
    pub survived: bool,
}

/// A catalog entry, as judges need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name.
    pub id: u32,
    /// The backup it rests on; `None`: on nothing.
    pub parent: Option<u32>,
    /// Where its copy began.
    pub start: u64,
    /// The position that it promises.
    pub stop: u64,
    /// Sequence number at which its last byte was durable.
    pub durable_at: u64,
    /// Sequence number at which it was listed.
    pub listed_at: u64,
}

/// What a restore gave: keys with their elements in order.
pub type State = BTreeMap<u32, Vec<u64>>;

/// One restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// From which backup.
    pub backup: u32,
    /// To which position.
    pub target: u64,
    /// What it gave; `None`: it refused.
    pub state: Option<State>,
}

/// A rule that does not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// The rule, as `B1`.
    pub rule: &'static str,
    /// The backup.
    pub backup: u32,
    /// What is wrong, in one line.
    pub why: String,
}

fn broken(rule: &'static str, backup: u32, why: String) -> Broken {
    Broken { rule, backup, why }
}

/// `S(upto)`, made from the surviving entries.
pub fn state_at(log: &[Write], upto: u64) -> State {
    let mut state = State::new();
    for write in log.iter().filter(|write| write.survived && write.lsn <= upto) {
        state.entry(write.key).or_default().push(write.value);
    }
    state
}

/// B1 and B2: each restore gives exactly the state of its target, and refuses only outside the promised window.
/// `window` is the last position that the archive reaches.
pub fn restores(log: &[Write], catalog: &[Listed], window: u64, made: &[Restore]) -> Vec<Broken> {
    let mut wrong = Vec::new();
    for restore in made {
        let Some(backup) = catalog.iter().find(|listed| listed.id == restore.backup) else { continue };
        let rule = if restore.target == backup.stop { "B1" } else { "B2" };
        let promised = (backup.stop..=window.max(backup.stop)).contains(&restore.target);
        match &restore.state {
            None if promised => {
                wrong.push(broken(
                    rule,
                    backup.id,
                    format!("refused position {} that it promises", restore.target),
                ));
            }
            Some(_) if !promised => {
                wrong.push(broken(
                    rule,
                    backup.id,
                    format!("gave position {} outside its window", restore.target),
                ));
            }
            Some(state) if *state != state_at(log, restore.target) => {
                wrong.push(broken(rule, backup.id, difference(state, &state_at(log, restore.target))));
            }
            Some(_) | None => {}
        }
    }
    wrong
}

fn difference(got: &State, wanted: &State) -> String {
    let keys: BTreeSet<u32> = got.keys().chain(wanted.keys()).copied().collect();
    let none = Vec::new();
    let at = keys.into_iter().find(|key| got.get(key).unwrap_or(&none) != wanted.get(key).unwrap_or(&none));
    let Some(key) = at else { return "the states differ in empty keys".to_owned() };
    let (got, wanted) = (got.get(&key).unwrap_or(&none), wanted.get(&key).unwrap_or(&none));
    format!("key {key} has {} elements where {} belong", got.len(), wanted.len())
}

/// B3: the writes that a restore lacks though they were acknowledged by its position, and those it has though they
/// were rolled back.
pub fn drift(log: &[Write], restore: &Restore) -> Vec<Broken> {
    let Some(state) = &restore.state else { return Vec::new() };
    let present: BTreeSet<u64> = state.values().flatten().copied().collect();
    let mut wrong = Vec::new();
    let missing = log
        .iter()
        .filter(|write| write.acknowledged && write.survived && write.lsn <= restore.target)
        .filter(|write| !present.contains(&write.value))
        .count();
    if missing > 0 {
        wrong.push(broken("B3", restore.backup, format!("{missing} acknowledged writes are missing")));
    }
    let ghosts = log.iter().filter(|write| !write.survived && present.contains(&write.value)).count();
    if ghosts > 0 {
        wrong.push(broken("B3", restore.backup, format!("{ghosts} writes of a branch that was rolled back")));
    }
    wrong
}

/// B4: every parent is listed, and each delta begins where its parent's promise ends or before.
pub fn chains(catalog: &[Listed]) -> Vec<Broken> {
    let mut wrong = Vec::new();
    for listed in catalog {
        let Some(parent) = listed.parent else { continue };
        match catalog.iter().find(|other| other.id == parent) {
            None => wrong.push(broken("B4", listed.id, format!("its parent {parent} is not listed"))),
            Some(parent) if parent.stop > listed.stop => {
                wrong.push(broken("B4", listed.id, format!("it ends before its parent {}", parent.id)));
            }
            Some(_) => {}
        }
    }
    wrong
}

/// B5: archived pieces, as (position before the first entry, position of the last), leave no gap from `from` to `to`.
/// The first gap, if there is one.
pub fn archive_gap(pieces: &[(u64, u64)], from: u64, to: u64) -> Option<(u64, u64)> {
    let mut sorted = pieces.to_vec();
    sorted.sort_unstable();
    let mut reached = from;
    for (after, last) in sorted {
        if reached >= to {
            break;
        }
        if after > reached {
            return Some((reached, after.min(to)));
        }
        reached = reached.max(last);
    }
    (reached < to).then_some((reached, to))
}

/// B6: the state of a resumed backup against that of one that was never interrupted, for the same position.
pub fn resumed(id: u32, resumed: &State, uninterrupted: &State) -> Option<Broken> {
    (resumed != uninterrupted).then(|| broken("B6", id, difference(resumed, uninterrupted)))
}

/// B7: after an expiry, what is listed is closed, and the oldest position that was promised to be kept is covered.
pub fn expiry(before: &[Listed], after: &[Listed], keep_from: u64) -> Vec<Broken> {
    let mut wrong = chains(after);
    wrong.iter_mut().for_each(|broken| broken.rule = "B7");
    let covers = |catalog: &[Listed]| catalog.iter().any(|listed| listed.stop <= keep_from);
    if covers(before) && !covers(after) {
        let why = format!("no backup at or before position {keep_from} is left");
        wrong.push(broken("B7", after.first().map_or(0, |listed| listed.id), why));
    }
    wrong
}

/// B8: nothing is listed before it is durable.
pub fn listings(catalog: &[Listed]) -> Vec<Broken> {
    catalog
        .iter()
        .filter(|listed| listed.listed_at < listed.durable_at)
        .map(|listed| {
            let why = format!("listed at {}, durable at {}", listed.listed_at, listed.durable_at);
            broken("B8", listed.id, why)
        })
        .collect()
}

/// What a disaster at position `failed_at` would cost with these backups: entries and bytes behind the newest position
/// that can be restored.
pub fn exposure(log: &[Write], restorable: u64, bytes_each: u64) -> (u64, u64) {
    let lost =
        log.iter().filter(|write| write.acknowledged && write.survived && write.lsn > restorable).count()
            as u64;
    (lost, lost * bytes_each)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(count: u64) -> Vec<Write> {
        (1..=count)
            .map(|lsn| Write {
                lsn,
                key: (lsn % 3) as u32,
                value: 100 + lsn,
                acknowledged: true,
                survived: true,
            })
            .collect()
    }

    fn listed(id: u32, parent: Option<u32>, stop: u64) -> Listed {
        Listed {
            id,
            parent,
            start: stop - 1,
            stop,
            durable_at: u64::from(id) * 10,
            listed_at: u64::from(id) * 10 + 1,
        }
    }

    fn restore(log: &[Write], backup: u32, target: u64) -> Restore {
        Restore { backup, target, state: Some(state_at(log, target)) }
    }

    #[test]
    fn good_restores_hold_and_each_planted_fault_is_named() {
        let (log, catalog) = (log(30), [listed(1, None, 10), listed(2, Some(1), 20)]);
        let good = [restore(&log, 1, 10), restore(&log, 2, 20), restore(&log, 1, 25)];
        assert_eq!(restores(&log, &catalog, 30, &good), []);
        let mut short = restore(&log, 1, 10);
        short.state.as_mut().and_then(|state| state.get_mut(&1)).expect("key 1").pop();
        let refused = Restore { state: None, ..restore(&log, 1, 25) };
        let beyond = restore(&log, 2, 31);
        let rules: Vec<_> = restores(&log, &catalog, 30, &[short, refused, beyond])
            .into_iter()
            .map(|b| (b.rule, b.backup))
            .collect();
        assert_eq!(rules, [("B1", 1), ("B2", 1), ("B2", 2)]);
    }

    #[test]
    fn drift_counts_missing_acknowledged_writes_and_writes_that_were_rolled_back() {
        let mut log = log(10);
        let early = Restore { target: 10, ..restore(&log, 1, 7) };
        assert_eq!(drift(&log, &early)[0].why, "3 acknowledged writes are missing");
        assert_eq!(drift(&log, &restore(&log, 1, 10)), []);
        let with_ghost = restore(&log, 1, 10);
        log[9].survived = false;
        assert_eq!(drift(&log, &with_ghost)[0].why, "1 writes of a branch that was rolled back");
        log[8].acknowledged = false;
        assert_eq!(drift(&log, &restore(&log, 1, 8)).len(), 0, "unknown outcomes are nobody's loss");
    }

    #[test]
    fn a_missing_parent_an_early_listing_and_an_orphaning_expiry_are_found() {
        let whole = vec![listed(1, None, 10), listed(2, Some(1), 20), listed(3, Some(2), 30)];
        assert_eq!((chains(&whole), listings(&whole)), (vec![], vec![]));
        assert_eq!(chains(&whole[1..])[0].rule, "B4");
        let mut early = whole.clone();
        early[2].listed_at = 29;
        assert_eq!(listings(&early)[0].backup, 3);
        assert_eq!(expiry(&whole, &whole, 15), []);
        let orphaned = expiry(&whole, &whole[1..], 15);
        assert_eq!(orphaned.iter().map(|b| b.rule).collect::<Vec<_>>(), ["B7", "B7"]);
    }

    #[test]
    fn the_first_gap_of_an_archive_is_found_wherever_pieces_overlap() {
        assert_eq!(archive_gap(&[(0, 10), (5, 20), (20, 30)], 0, 30), None);
        assert_eq!(archive_gap(&[(20, 30), (0, 10)], 0, 30), Some((10, 20)));
        assert_eq!(archive_gap(&[(0, 10)], 0, 30), Some((10, 30)));
        assert_eq!(archive_gap(&[], 5, 5), None);
    }

    #[test]
    fn a_resumed_backup_that_misses_an_element_is_not_equal() {
        let log = log(9);
        let whole = state_at(&log, 9);
        assert_eq!(resumed(1, &whole, &whole), None);
        assert_eq!(resumed(1, &state_at(&log, 8), &whole).map(|b| b.rule), Some("B6"));
    }

    #[test]
    fn exposure_is_what_lies_behind_the_newest_restorable_position() {
        assert_eq!(exposure(&log(10), 7, 64), (3, 192));
    }
}
