//! Registers whose store numbers its versions and tells the number with its answers: linear time but for one sort, and
//! values may repeat.
//!
//! Whoever set or saw one version forms a cluster, and the clusters are in a known order, so the history is linearizable
//! exactly if no operation of a cluster completes before one of an earlier cluster is invoked. Numbers may have gaps. A
//! write of unknown outcome got the version that a read shows with its value; if several may have got it, the one
//! invoked first, which leaves the others the most room. A compare-and-set met the version before its own.
//!
//! ```text
//! holds:   write a -> v1 |---|              violated:  write a -> v1 |---|
//!          write b -> v2      |---|                    write b -> v2      |---|
//!          read  b    v2          |---|                read  a    v1          |---|   v1 after v2
//! ```

use super::columns::{Kind, Lane, NIL, OPEN, Token};
use super::explain::Core;
use super::report::{Class, Finding};
use super::zones::Decision;
use std::collections::BTreeMap;

/// One version.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    version: u64,
    value: Token,
    write: Option<usize>,
    /// Completed first.
    first: Option<usize>,
    /// Invoked last.
    last: Option<usize>,
}

/// Decides a key all of whose answers have a version; `None` if one has not, or if it is not that simple.
pub(super) fn check(lane: &Lane<'_>) -> Option<Decision> {
    let told = told(lane)?;
    let mut clusters = match gather(lane, &told)? {
        Ok(clusters) => clusters,
        Err(finding) => return Some(Decision::Violated(finding)),
    };
    let left = match find_unknown(lane, &mut clusters) {
        Ok(left) => left,
        Err(finding) => return Some(Decision::Violated(finding)),
    };
    if let Some((cas, broken)) = wrong_predecessor(lane, &clusters) {
        // A write that nobody saw may stand between, and which unknown one got a version was a guess.
        let certain = !left && lane.ret[cas] != OPEN;
        return certain.then_some(Decision::Violated(broken));
    }
    Some(match in_order(lane, &clusters) {
        Some(finding) => Decision::Violated(finding),
        None => Decision::Holds,
    })
}

/// The version of each operation, 0 for those that have none and need none.
fn told(lane: &Lane<'_>) -> Option<Vec<u64>> {
    // Where values do not repeat, a read has the version of the write it saw.
    let mut by_value: BTreeMap<Token, Option<u64>> = BTreeMap::new();
    for i in 0..lane.len() {
        if let Some(value) = sets(lane, i) {
            let version = lane.version[i];
            by_value
                .entry(value)
                .and_modify(|known| *known = None)
                .or_insert((version > 0).then_some(version));
        }
    }
    let version = |i: usize| match (lane.kind[i], lane.version[i]) {
        (Kind::Aborted, _) => Some(0),
        (Kind::Append | Kind::ReadList | Kind::NotEqual, _) => None,
        (Kind::Write | Kind::Cas, version) if lane.ret[i] == OPEN || version > 0 => Some(version),
        (Kind::Write | Kind::Cas, _) => None,
        (Kind::Read, 0) if lane.a[i] == NIL => Some(0),
        (Kind::Read, 0) => by_value.get(&lane.a[i]).copied().flatten(),
        (Kind::Read, version) => Some(version),
    };
    // Somebody may take away what was there; a read of nothing would then have a version too.
    let emptied = (0..lane.len()).any(|i| sets(lane, i) == Some(NIL));
    if emptied { None } else { (0..lane.len()).map(version).collect() }
}

/// The value the operation puts in place, if it did or may have happened.
fn sets(lane: &Lane<'_>, i: usize) -> Option<Token> {
    match lane.kind[i] {
        Kind::Write => Some(lane.a[i]),
        Kind::Cas => Some(lane.b[i]),
        _ => None,
    }
}

/// The versions in order, each with who set and saw it. The inner error is a version that two have, or that has two
/// values.
fn gather(lane: &Lane<'_>, told: &[u64]) -> Option<Result<Vec<Cluster>, Finding>> {
    let known = |i: &usize| lane.kind[*i] != Kind::Aborted && lane.ret[*i] != OPEN;
    let mut rows: Vec<usize> = (0..lane.len()).filter(known).collect();
    rows.sort_by_key(|&i| (told[i], lane.kind[i] == Kind::Read, i));
    let mut clusters: Vec<Cluster> =
        vec![Cluster { version: 0, value: NIL, write: None, first: None, last: None }];
    for i in rows {
        let (writes, value) = (lane.kind[i] != Kind::Read, sets(lane, i).unwrap_or(lane.a[i]));
        if clusters.last()?.version != told[i] {
            clusters.push(Cluster { version: told[i], value, write: None, first: None, last: None });
        }
        let cluster = clusters.last_mut()?;
        if writes && let Some(other) = cluster.write {
            return Some(Err(twice(other, i, told[i])));
        }
        if cluster.value != value {
            return Some(Err(two_values(cluster.write.or(cluster.first), i, told[i])));
        }
        cluster.write = cluster.write.or(writes.then_some(i));
        cluster.join(lane, i);
    }
    Some(Ok(clusters))
}

impl Cluster {
    fn join(&mut self, lane: &Lane<'_>, i: usize) {
        if lane.ret[i] != OPEN && self.first.is_none_or(|f| lane.ret[i] < lane.ret[f]) {
            self.first = Some(i);
        }
        if self.last.is_none_or(|l| lane.inv[i] > lane.inv[l]) {
            self.last = Some(i);
        }
    }
}

/// Versions that were seen and that no acknowledged write got: each gets one of unknown outcome. Tells whether some of
/// these are left.
fn find_unknown(lane: &Lane<'_>, clusters: &mut [Cluster]) -> Result<bool, Finding> {
    let mut unknown: BTreeMap<Token, Vec<usize>> = BTreeMap::new();
    for i in (0..lane.len()).rev().filter(|&i| lane.ret[i] == OPEN) {
        if let Some(value) = sets(lane, i) {
            unknown.entry(value).or_default().push(i);
        }
    }
    for cluster in clusters.iter_mut().skip(1).filter(|c| c.write.is_none()) {
        let seen = cluster.first.expect("a version without a write is known from a read");
        let Some(write) = unknown.get_mut(&cluster.value).and_then(Vec::pop) else {
            return Err(unwritten(lane, seen, cluster.value));
        };
        cluster.write = Some(write);
        cluster.join(lane, write);
    }
    for cluster in clusters.iter().skip(1) {
        let (first, write) = (cluster.first, cluster.write.expect("each has its write by now"));
        if let Some(read) = first.filter(|&read| lane.ret[read] < lane.inv[write]) {
            let mut core = Core::default();
            core.add(Some(read), "saw the version");
            core.add(Some(write), "is the first that can have made it, and began later");
            return Err(
                core.finding(Class::FutureRead, "a version was seen before anybody asked to write it")
            );
        }
    }
    Ok(unknown.values().any(|left| !left.is_empty()))
}

/// A compare-and-set that did not meet the version before its own.
fn wrong_predecessor(lane: &Lane<'_>, clusters: &[Cluster]) -> Option<(usize, Finding)> {
    let pair = clusters.windows(2).find(|pair| {
        let cas = pair[1].write.filter(|&i| lane.kind[i] == Kind::Cas);
        cas.is_some_and(|i| lane.a[i] != pair[0].value)
    })?;
    let mut core = Core::default();
    core.add(pair[0].write, &format!("made version {}", pair[0].version));
    let next = pair[1].version;
    core.add(pair[1].write, &format!("made the next version that anybody knows, {next}, from another value"));
    const SUMMARY: &str = "a compare-and-set met a value that was not the version before its own";
    Some((pair[1].write?, core.finding(Class::VersionOrder, SUMMARY)))
}

/// Walks the versions in order and meets the first operation that came too late.
fn in_order(lane: &Lane<'_>, clusters: &[Cluster]) -> Option<Finding> {
    let mut latest: Option<(usize, u64)> = None;
    for cluster in clusters {
        if let (Some(first), Some((late, old))) = (cluster.first, latest)
            && lane.ret[first] < lane.inv[late]
        {
            return Some(backwards(lane, cluster, first, (late, old)));
        }
        if let Some(last) = cluster.last
            && latest.is_none_or(|(l, _)| lane.inv[last] > lane.inv[l])
        {
            latest = Some((last, cluster.version));
        }
    }
    None
}

fn backwards(lane: &Lane<'_>, newer: &Cluster, first: usize, (late, old): (usize, u64)) -> Finding {
    let mut core = Core::default();
    core.add(newer.write, &format!("made version {}", newer.version));
    core.add(Some(first), &format!("completed first of those that made or saw version {}", newer.version));
    if lane.kind[late] == Kind::Read {
        core.add(Some(late), &format!("began after that and saw version {old}"));
        let mut finding =
            core.finding(Class::StaleRead, "a read shows a version that had been replaced before it began");
        finding.staleness = Some((first, late));
        return finding;
    }
    core.add(Some(late), &format!("began after that, and yet got version {old}"));
    core.finding(
        Class::VersionOrder,
        "versions go down along real time: a later write got an earlier version",
    )
}

fn twice(one: usize, two: usize, version: u64) -> Finding {
    let mut core = Core::default();
    core.add(Some(one), &format!("was acknowledged as version {version}"));
    core.add(Some(two), "and so was this one");
    core.finding(Class::VersionOrder, "two acknowledged writes got the same version")
}

fn two_values(one: Option<usize>, two: usize, version: u64) -> Finding {
    let mut core = Core::default();
    core.add(one, &format!("shows version {version} with one value"));
    core.add(Some(two), "shows it with another");
    core.finding(Class::VersionOrder, "one version has two values")
}

fn unwritten(lane: &Lane<'_>, read: usize, value: Token) -> Finding {
    let aborted = (0..lane.len()).find(|&i| lane.kind[i] == Kind::Aborted && lane.a[i] == value);
    let mut core = Core::default();
    core.add(aborted, "would have set the value, but certainly failed");
    core.add(Some(read), "shows it as a version that no acknowledged write got");
    match aborted {
        Some(_) => core.finding(Class::AbortedRead, "a value was seen whose write certainly failed"),
        None => core.finding(Class::Phantom, "a version was seen that nobody wrote"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::{Builder, Columns, KeyMeta};
    use super::*;
    use crate::bench::rng::Rng;

    /// An operation with what its store did: `(kind, a, b, version, invoked, completed)`.
    type Told = (Kind, Token, Token, u64, u32, u32);

    /// A store that numbers its versions with gaps, values from three, under random interleaving; one answer in two
    /// histories is changed afterwards.
    fn draw(rng: &mut Rng) -> Vec<Told> {
        let total = 3 + rng.below(5) as usize;
        let (mut value, mut version, mut now) = (NIL, 0, 0);
        let mut history: Vec<Told> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        while history.len() < total || !open.is_empty() {
            if history.len() < total && (open.len() < 3 && rng.percent(60) || open.is_empty()) {
                now += 1;
                let new = 1 + rng.below(3) as Token;
                let told = match rng.below(3) {
                    0 => (Kind::Read, NIL, NIL, 0, now, OPEN),
                    1 => (Kind::Write, new, NIL, 0, now, OPEN),
                    _ => (Kind::Cas, rng.below(4) as Token, new, 0, now, OPEN),
                };
                open.push(history.len());
                history.push(told);
                continue;
            }
            let i = open.swap_remove(rng.below(open.len() as u64) as usize);
            let unknown = rng.percent(25);
            let (kind, a, b, ..) = history[i];
            match kind {
                Kind::Read => (history[i].1, history[i].3) = (value, version),
                Kind::Cas if value != a => {
                    (history[i].0, history[i].1, history[i].3) = (Kind::Read, value, version)
                }
                _ if unknown && rng.percent(50) => {}
                _ => {
                    version += 1 + rng.below(2);
                    value = if kind == Kind::Cas { b } else { a };
                    history[i].3 = version;
                }
            }
            now += 1;
            match unknown {
                // A read that nobody knows of is no part of a history; here it is answered.
                true if history[i].0 != Kind::Read => history[i].3 = 0,
                _ => history[i].5 = now,
            }
        }
        if rng.percent(50) {
            let i = rng.below(history.len() as u64) as usize;
            if history[i].5 != OPEN && history[i].3 > 0 {
                history[i].3 = 1 + rng.below(version + 1);
            }
        }
        history
    }

    fn columns(history: &[Told]) -> Columns {
        let mut builder = Builder::default();
        let key = builder.key(KeyMeta::default());
        let mut events: Vec<(u32, usize)> = Vec::new();
        for (i, told) in history.iter().enumerate() {
            events.push((told.4, i));
            events.extend((told.5 != OPEN).then_some((told.5, i)));
        }
        events.sort_unstable();
        for (at, i) in events {
            let (kind, a, b, version, invoked, _) = history[i];
            if at == invoked {
                assert_eq!(builder.invoke(key, Some(kind), a, b), i as u32);
                builder.version(i as u32, version);
            } else {
                builder.complete(i as u32, kind, a, b);
            }
        }
        builder.finish()
    }

    /// By trying every order: values and versions as the answers tell them, versions rising with each write.
    fn naive(history: &[Told], placed: u32, value: Token, version: u64) -> bool {
        let missing = |i: &usize| placed & (1 << i) == 0;
        let deadline = (0..history.len()).filter(missing).map(|i| history[i].5).min().unwrap_or(OPEN);
        if deadline == OPEN && (0..history.len()).filter(missing).all(|i| history[i].5 == OPEN) {
            return true;
        }
        (0..history.len()).filter(missing).filter(|&i| history[i].4 < deadline).any(|i| {
            let (kind, a, b, told, _, ret) = history[i];
            let rest = |value, version| naive(history, placed | 1 << i, value, version);
            match kind {
                Kind::Read => a == value && told == version && rest(value, version),
                _ if kind == Kind::Cas && a != value => false,
                _ => {
                    let value = if kind == Kind::Cas { b } else { a };
                    match ret {
                        // Which version it got is open, but it rises.
                        OPEN => (version + 1..=20).any(|version| rest(value, version)),
                        _ => told > version && rest(value, told),
                    }
                }
            }
        })
    }

    #[test]
    fn versions_that_a_store_tells_agree_with_the_definition() {
        let mut rng = Rng::new(70);
        let mut tally = [0; 3];
        for _ in 0..6_000 {
            let history = draw(&mut rng);
            let columns = columns(&history);
            let found = match check(&columns.lane(0)) {
                Some(Decision::Holds) => 1,
                Some(Decision::Violated(_)) => 0,
                _ => 2,
            };
            tally[found] += 1;
            if found < 2 {
                assert_eq!(found == 1, naive(&history, 0, NIL, 0), "{history:?}");
            }
        }
        assert!(tally[0] > 500 && tally[1] > 1_000 && tally[2] < 1_000, "{tally:?}");
    }
}
