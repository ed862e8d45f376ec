//! Append-only lists with unique elements: every read shows the order, so position in the list is a version, and the
//! check is linear in the length of what was read.
//!
//! A read of length `n` and the append that made the list `n` long form cluster `n`; clusters are in a known order, so
//! the history is linearizable exactly if no operation of a cluster completes before one of an earlier cluster is
//! invoked. Acknowledged appends that no read shows come after everything that was read, in any order among
//! themselves; unknown ones that no read shows never happened. An append that was told the length of the list it made
//! must stand at that place.
//!
//! ```text
//! holds:   append x |---|                violated (lost append):  append x |---|
//!          read           |---| [x]                               read           |---| []
//! ```

use super::columns::{Kind, Lane, NIL, OPEN, Token};
use super::explain::Core;
use super::report::{Class, Finding};
use super::zones::Decision;

/// One length of the list: who made it, who saw it, when.
#[derive(Clone, Copy)]
struct Version {
    append: Option<usize>,
    /// Completed first.
    first: Option<usize>,
    /// Invoked last.
    last: Option<usize>,
}

impl Version {
    const NONE: Version = Version { append: None, first: None, last: None };

    fn join(&mut self, lane: &Lane<'_>, i: usize) {
        if lane.ret[i] != OPEN && self.first.is_none_or(|f| lane.ret[i] < lane.ret[f]) {
            self.first = Some(i);
        }
        if self.last.is_none_or(|l| lane.inv[i] > lane.inv[l]) {
            self.last = Some(i);
        }
    }
}

/// Decides a key whose operations are appends and reads of the whole list.
pub(super) fn check(lane: &Lane<'_>) -> Decision {
    if !(0..lane.len()).all(|i| fits(lane, i)) {
        return Decision::Repeated;
    }
    let index = match Positions::of(lane) {
        Ok(index) => index,
        Err(decision) => return decision,
    };
    match judge(lane, &index) {
        Some(finding) => Decision::Violated(finding),
        None => Decision::Holds,
    }
}

/// Whether the operation is one on a list. A read of nothing is one of the empty list.
pub(super) fn fits(lane: &Lane<'_>, i: usize) -> bool {
    match lane.kind[i] {
        Kind::Append | Kind::ReadList | Kind::Aborted => true,
        Kind::Read => lane.a[i] == NIL,
        Kind::Write | Kind::Cas | Kind::NotEqual => false,
    }
}

fn judge(lane: &Lane<'_>, index: &Positions) -> Option<Finding> {
    if let Some(i) = (0..lane.len()).find(|&i| lane.kind[i] == Kind::ReadList && lane.b[i] != 0) {
        return Some(diverged(lane, i));
    }
    let mut versions = vec![Version::NONE; lane.meta.spine.len() + 1];
    let mut unseen = Vec::new();
    for i in 0..lane.len() {
        match lane.kind[i] {
            Kind::Append => match index.position(lane.a[i]) {
                Some(at) => versions[at].append = Some(i),
                None if lane.ret[i] != OPEN => unseen.push(i),
                None => continue,
            },
            Kind::ReadList | Kind::Read => versions[lane.a[i] as usize].join(lane, i),
            _ => {}
        }
    }
    for (n, version) in versions.iter_mut().enumerate().skip(1) {
        let Some(append) = version.append else { return Some(unwritten(lane, n)) };
        if let Some(read) = version.first.filter(|&r| lane.ret[r] < lane.inv[append]) {
            return Some(from_future(read, append));
        }
        version.join(lane, append);
    }
    in_order(lane, &versions, &unseen).or_else(|| as_told(lane, index))
}

/// Stores that answer an append with the length of the list it made: that is the element's place, whether a read shows
/// it or not, and no two have the same.
fn as_told(lane: &Lane<'_>, index: &Positions) -> Option<Finding> {
    let told = |i: &usize| lane.kind[*i] == Kind::Append && lane.version.get(*i).is_some_and(|v| *v > 0);
    let mut places: Vec<(u64, usize)> = (0..lane.len()).filter(told).map(|i| (lane.version[i], i)).collect();
    places.sort_unstable();
    let mut latest: Option<(u64, usize)> = None;
    for &(place, i) in &places {
        let shown = index.position(lane.a[i]).map(|at| at as u64);
        if shown.is_some_and(|at| at != place) || (shown.is_none() && place <= lane.meta.spine.len() as u64) {
            return Some(misplaced(lane, i, shown));
        }
        if let Some((before, other)) = latest {
            if before == place {
                return Some(two_in_one_place(i, other, place));
            }
            if lane.ret[i] < lane.inv[other] {
                return Some(against_time((place, i), (before, other)));
            }
        }
        if latest.is_none_or(|(_, other)| lane.inv[i] > lane.inv[other]) {
            latest = Some((place, i));
        }
    }
    None
}

fn misplaced(lane: &Lane<'_>, append: usize, shown: Option<u64>) -> Finding {
    let place = lane.version[append];
    let read = |length: u64| {
        (0..lane.len()).find(|&i| lane.kind[i] == Kind::ReadList && u64::from(lane.a[i]) >= length)
    };
    let mut core = Core::default();
    core.add(Some(append), &format!("was told that it is element {place}"));
    match shown {
        Some(at) => core.add(read(at), &format!("shows it at place {at}")),
        None => core.add(read(place), &format!("shows another element at place {place}")),
    }
    core.finding(
        Class::VersionOrder,
        "an append was acknowledged for a place at which the list has another element",
    )
}

fn two_in_one_place(one: usize, two: usize, place: u64) -> Finding {
    let mut core = Core::default();
    core.add(Some(two), &format!("was told that it is element {place}"));
    core.add(Some(one), "was told the same");
    core.finding(Class::VersionOrder, "two appends were acknowledged for the same place")
}

fn against_time((place, i): (u64, usize), (before, other): (u64, usize)) -> Finding {
    let mut core = Core::default();
    core.add(Some(i), &format!("was acknowledged as element {place}"));
    core.add(Some(other), &format!("began after that, and was acknowledged as element {before}"));
    core.finding(Class::VersionOrder, "a later append was acknowledged for an earlier place")
}

/// Walks the versions in order and meets the first operation that came too late.
fn in_order(lane: &Lane<'_>, versions: &[Version], unseen: &[usize]) -> Option<Finding> {
    let mut latest: Option<(usize, usize)> = None; // (invoked last so far, its version)
    for (n, version) in versions.iter().enumerate() {
        if let (Some(first), Some((late, old))) = (version.first, latest)
            && lane.ret[first] < lane.inv[late]
        {
            return Some(stale(lane, versions, (first, n), (late, old)));
        }
        if let Some(last) = version.last
            && latest.is_none_or(|(l, _)| lane.inv[last] > lane.inv[l])
        {
            latest = Some((last, n));
        }
    }
    let (late, _) = latest?;
    let lost = unseen.iter().copied().find(|&i| lane.ret[i] < lane.inv[late])?;
    let mut core = Core::default();
    core.add(Some(lost), "was acknowledged");
    if lane.kind[late] != Kind::Append {
        core.add(Some(late), "began after that and does not show it");
    } else {
        core.add(Some(late), "began after that, and reads show it in a list without the other");
    }
    Some(core.finding(Class::LostAppend, "an acknowledged append is missing from what was read later"))
}

/// `first` shows or made version `n` and completed before `late`, which belongs to the older version `old`, began.
fn stale(
    lane: &Lane<'_>,
    versions: &[Version],
    (first, n): (usize, usize),
    (late, old): (usize, usize),
) -> Finding {
    let mut core = Core::default();
    core.add(versions[n].append, &format!("added element {n}"));
    core.add(Some(first), &format!("completed when the list had {n} elements"));
    if lane.kind[late] == Kind::Append {
        core.add(Some(late), &format!("began after that, and yet its element stands at place {old}"));
        return core.finding(Class::ReorderedAppend, "a later append stands before an earlier one");
    }
    core.add(Some(late), &format!("began after that and saw only {old} elements"));
    let seen = (0..lane.len()).any(|i| lane.kind[i] == Kind::ReadList && lane.a[i] as usize >= n);
    let acked_only = versions[n].append == Some(first);
    let class = if acked_only && !seen { Class::LostAppend } else { Class::StaleRead };
    let mut finding = core.finding(class, "a read shows a list that had grown before it began");
    finding.staleness = Some((first, late));
    finding
}

fn diverged(lane: &Lane<'_>, read: usize) -> Finding {
    let shared = lane.a[read];
    let other =
        (0..lane.len()).find(|&i| lane.kind[i] == Kind::ReadList && lane.b[i] == 0 && lane.a[i] > shared);
    let mut core = Core::default();
    core.add(other, "shows one list");
    core.add(Some(read), &format!("shows another: the same up to element {shared}, then different"));
    core.finding(Class::DivergedLists, "two reads show lists of which neither continues the other")
}

fn unwritten(lane: &Lane<'_>, n: usize) -> Finding {
    let element = lane.meta.spine[n - 1];
    let aborted = (0..lane.len()).find(|&i| lane.kind[i] == Kind::Aborted && lane.a[i] == element);
    let read = (0..lane.len()).find(|&i| lane.kind[i] == Kind::ReadList && lane.a[i] as usize >= n);
    let mut core = Core::default();
    core.add(aborted, "would have added the element, but certainly failed");
    core.add(read, &format!("shows it at place {n}"));
    match aborted {
        Some(_) => core.finding(Class::AbortedRead, "an element was seen whose append certainly failed"),
        None => core.finding(Class::Phantom, "an element was seen that nobody appended"),
    }
}

fn from_future(read: usize, append: usize) -> Finding {
    let mut core = Core::default();
    core.add(Some(read), "shows the element");
    core.add(Some(append), "is the only one that adds it, and began later");
    core.finding(Class::FutureRead, "an element was seen before anybody asked to append it")
}

/// Where each element stands in the spine.
struct Positions {
    /// (element, position), sorted.
    sorted: Vec<(Token, u32)>,
}

impl Positions {
    /// # Errors
    /// A decision, if an element stands in the list twice, or was appended twice.
    fn of(lane: &Lane<'_>) -> Result<Positions, Decision> {
        let mut appended: Vec<Token> = Vec::new();
        for (kind, a) in lane.kind.iter().zip(lane.a) {
            if *kind == Kind::Append {
                appended.push(*a);
            }
        }
        let count = appended.len();
        appended.sort_unstable();
        appended.dedup();
        if appended.len() < count {
            return Err(Decision::Repeated);
        }
        let mut sorted: Vec<(Token, u32)> = (1..).zip(&lane.meta.spine).map(|(n, t)| (*t, n)).collect();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|p| p[0].0 == p[1].0) {
            return Err(Decision::Violated(duplicate(lane, pair[0], pair[1])));
        }
        Ok(Positions { sorted })
    }

    fn position(&self, element: Token) -> Option<usize> {
        self.sorted.binary_search_by_key(&element, |e| e.0).ok().map(|i| self.sorted[i].1 as usize)
    }
}

fn duplicate(lane: &Lane<'_>, one: (Token, u32), two: (Token, u32)) -> Finding {
    let append = (0..lane.len()).find(|&i| lane.kind[i] == Kind::Append && lane.a[i] == one.0);
    let read = (0..lane.len()).find(|&i| lane.kind[i] == Kind::ReadList && lane.a[i] >= two.1);
    let mut core = Core::default();
    core.add(append, "adds the element, once");
    core.add(read, &format!("shows it at places {} and {}", one.1, two.1));
    core.finding(Class::DuplicateAppend, "an element stands in the list twice although it was appended once")
}
