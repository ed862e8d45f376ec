//! Recovery time, read from open-loop probes.
//!
//! For one fault and one shard: let `b` be the first bad write probe invoked at or after the fault. Then
//! `rto = (completion of the first good probe invoked after b) - (begin of the fault)`; 0 and no outage if there is
//! no `b`; censored if no good probe follows. The clock starts at the fault even if acknowledgements before it turn
//! out to be lost. A run's figure is its worst: over shards, and over faults if there are several. An outage belongs
//! to the latest fault begun before it, if it begins no later than a horizon after that fault healed; what begins while it lasts (a cascade, a second fault) does not restart it.
//!
//! ```text
//! probes   + + + + x x x x x x + + +      rto = F..A
//!                F                A       F fault, x bad (b is the first x), A completion of the first + after b
//! ```
//!
//! Clients on the cut side of a fault do not count (they have `cut_side`), nor do they until some time after their cut
//! ended. Background errors are not blamed on the fault: where probes already failed in the calm window before it, only a
//! longer series of bad probes than any there is an outage.

use super::finals::Survival;
use super::index::{Run, acknowledged_write};
use super::phases;
use super::windows::{self, Windows};
use super::{Basis, ms};
use crate::measure::{Rto, Span};
use crate::record::{NodeIndex, Operation, Purpose, SimTime};

/// A probe, judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub client: NodeIndex,
    pub invoked: SimTime,
    pub completed: SimTime,
    /// Acknowledged within the deadline.
    pub acked: bool,
    /// Acknowledged within the deadline and, being a write, surviving.
    pub good: bool,
    /// Its client was cut off while it was open.
    pub cut: bool,
    /// Its client had been cut off before or while it was open, and until some time after.
    pub cut_side: bool,
    pub answered_by: Option<NodeIndex>,
}

/// The probes of a run by shard, in order of invocation.
pub(crate) struct Probes {
    pub writes: Vec<Vec<Probe>>,
    pub reads: Vec<Vec<Probe>>,
    /// Writes that clients sent, by shard: its weight.
    traffic: Vec<u64>,
}

/// Where the headline figure comes from: other measures refer to the same fault.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Headline {
    pub fault_at: Option<SimTime>,
    /// When the surviving primary became writable.
    pub writable_at: Option<SimTime>,
}

/// One outage of one shard.
#[derive(Clone, Copy, Debug)]
struct Outage {
    shard: usize,
    fault: usize,
    fault_at: SimTime,
    /// The probe that ended it; `None`: it never ended.
    ended_by: Option<Probe>,
    /// Until when there were probes to see the end with.
    seen_until: SimTime,
}

impl Outage {
    fn us(&self) -> u64 {
        let end = self.ended_by.map_or(self.seen_until, |probe| probe.completed);
        end.0.saturating_sub(self.fault_at.0)
    }

    fn span(&self) -> Span {
        Span { ms: ms(self.us()), censored: self.ended_by.is_none() }
    }

    /// Longer is worse, and never ended is worst.
    fn badness(&self) -> (bool, u64) {
        (self.ended_by.is_none(), self.us())
    }
}

impl Probes {
    pub fn collect(run: &Run) -> Self {
        let purpose = match run.options.basis {
            Basis::Probes => Purpose::Probe,
            Basis::Workload => Purpose::Workload,
        };
        let mut probes = Probes {
            writes: vec![Vec::new(); run.shards],
            reads: vec![Vec::new(); run.shards],
            traffic: vec![0; run.shards],
        };
        for (index, operation) in run.records.history.operations.iter().enumerate() {
            let shard = run.shard_of(operation);
            probes.traffic[shard] +=
                u64::from(operation.is_write() && operation.purpose == Purpose::Workload);
            if operation.purpose == purpose {
                let probe = judge(run, index, operation);
                let side = if operation.is_write() { &mut probes.writes } else { &mut probes.reads };
                side[shard].push(probe);
            }
        }
        probes
    }

    /// Whether every shard that was probed served its last write probe.
    pub fn serving_at_end(&self) -> bool {
        self.writes.iter().all(|probes| probes.last().is_none_or(|probe| probe.good))
    }

    /// Whether some shard was probed after `healed` and never well.
    pub fn stuck(&self, healed: SimTime) -> bool {
        self.writes.iter().any(|probes| {
            let mut after = probes.iter().filter(|probe| probe.invoked >= healed).peekable();
            after.peek().is_some() && !after.any(|probe| probe.good)
        })
    }
}

fn judge(run: &Run, index: usize, operation: &Operation) -> Probe {
    let deadline = SimTime(operation.invoked.at.0 + run.options.deadline.0);
    let done = operation.completed.map(|completed| completed.at);
    let took_effect =
        if operation.is_write() { acknowledged_write(operation) } else { operation.outcome.is_ok() };
    let acked = took_effect && done.is_some_and(|done| done <= deadline);
    let completed = done.unwrap_or(deadline).min(run.records.end.max(operation.invoked.at));
    let mut probe = Probe {
        client: operation.client,
        invoked: operation.invoked.at,
        completed,
        acked,
        good: acked && run.survival[index] != Survival::Vanished,
        cut: false,
        cut_side: false,
        answered_by: operation.answered_by,
    };
    for cut in run.records.cut_clients.iter().filter(|cut| cut.client == operation.client) {
        let rejoined = SimTime(cut.until.0.saturating_add(run.options.rejoin.0));
        probe.cut |= probe.invoked < cut.until && completed > cut.from;
        probe.cut_side |= probe.invoked < rejoined && completed > cut.from;
    }
    probe
}

/// Measures recovery, and says which fault the figure is counted from.
pub(crate) fn measure(run: &Run, probes: &Probes, windows: &Windows) -> (Rto, Headline) {
    let Some(first_fault) = run.fault_times().next() else {
        // Work that is part of the system's life, such as a rolling restart, still shows as a gap.
        let rto = Rto { write_gap: write_gap(probes, SimTime(0)), ..Rto::default() };
        return (rto, Headline::default());
    };
    let seen_from = |side: fn(&Probe) -> bool| {
        probes.writes.iter().flatten().any(|probe| probe.invoked >= first_fault && side(probe))
    };
    let mut rto = Rto {
        read: worst_of(run, &probes.reads, |probe| !probe.cut_side).figure,
        cut_side: cut_side(run, probes),
        fault: Some(0),
        ..Rto::default()
    };
    let mut headline = Headline { fault_at: Some(first_fault), writable_at: None };
    if !seen_from(|probe| !probe.cut_side) {
        let idle = !seen_from(|_| true);
        let why =
            if idle { "no write was tried after the fault" } else { "every client was on the cut side" };
        rto.not_observable = Some(why.to_owned());
        return (rto, headline);
    }
    let found = worst_of(run, &probes.writes, |probe| !probe.cut_side);
    rto.first = found.figure;
    rto.stable = windows.stable(run).map(|stable| no_shorter_than(stable, rto.first));
    rto.unavail_total = Some(ms(windows.total()));
    rto.unavail_max = Some(ms(windows.longest()));
    rto.write_gap = write_gap(probes, first_fault);
    rto.weighted_mean = weighted_mean(&probes.traffic, &found.by_shard);
    rto.resolution_ms = resolution(probes, found.outage.map(|outage| outage.shard));
    if let Some(outage) = found.outage {
        rto.outage = true;
        rto.fault = Some(outage.fault as u32);
        let end = SimTime(outage.fault_at.0 + outage.us());
        let began_inside = run.fault_times().filter(|began| *began > outage.fault_at && *began < end);
        rto.overlapping_faults = began_inside.count() as u32;
        headline.fault_at = Some(outage.fault_at);
        if let Some(good) = outage.ended_by {
            let line = &run.timeline.shards[outage.shard];
            let split = phases::split(line, outage.fault_at, good.completed, good.answered_by);
            rto.phases = split.phases;
            headline.writable_at = split.writable_at;
        }
    }
    (rto, headline)
}

/// Windows end with the last bad *invocation*; the good answer that ends the outage may come up to a deadline later, and
/// service is not stable before it is back.
fn no_shorter_than(stable: Span, first: Option<Span>) -> Span {
    match first {
        Some(first) if !stable.censored && first.ms > stable.ms => first,
        Some(_) | None => stable,
    }
}

/// The outages of all shards, and the worst of them.
struct Found {
    figure: Option<Span>,
    outage: Option<Outage>,
    /// Worst of each shard that was probed; 0 without an outage.
    by_shard: Vec<Option<Span>>,
}

fn worst_of(run: &Run, shards: &[Vec<Probe>], counts: fn(&Probe) -> bool) -> Found {
    let faults: Vec<SimTime> = run.fault_times().collect();
    let mut found = Found { figure: None, outage: None, by_shard: Vec::new() };
    for (shard, probes) in shards.iter().enumerate() {
        let mut probes: Vec<Probe> = probes.iter().filter(|probe| counts(probe)).copied().collect();
        excuse_background(run, &mut probes);
        let outages = outages(run, &faults, shard, &probes);
        let observed = faults.first().is_some_and(|first| probes.iter().any(|probe| probe.invoked >= *first));
        let worst = outages.into_iter().reduce(|a, b| if b.badness() > a.badness() { b } else { a });
        let nothing = Span { ms: 0.0, censored: false };
        found.by_shard.push(observed.then(|| worst.map_or(nothing, |outage| outage.span())));
        let is_worse = worst.is_some_and(|new| found.outage.is_none_or(|old| new.badness() > old.badness()));
        found.outage = if is_worse { worst } else { found.outage };
    }
    let observed = found.by_shard.iter().any(Option::is_some);
    found.figure =
        observed.then(|| found.outage.map_or(Span { ms: 0.0, censored: false }, |outage| outage.span()));
    found
}

/// The first outage after each fault.
fn outages(run: &Run, faults: &[SimTime], shard: usize, probes: &[Probe]) -> Vec<Outage> {
    let mut found: Vec<Outage> = Vec::new();
    let Some(first_fault) = faults.first() else { return found };
    let seen_until = probes.iter().map(|probe| probe.completed).max().unwrap_or_default();
    let mut next = probes.partition_point(|probe| probe.invoked < *first_fault);
    while let Some(first) = probes[next..].iter().position(|probe| !probe.good).map(|skip| next + skip) {
        let end = probes[first..].iter().position(|probe| probe.good).map(|skip| first + skip);
        next = end.unwrap_or(probes.len());
        let Some(fault) = windows::attribute(run, probes, first) else { continue };
        if found.iter().all(|outage| outage.fault != fault) {
            let ended_by = end.map(|end| probes[end]);
            found.push(Outage { shard, fault, fault_at: faults[fault], ended_by, seen_until });
        }
    }
    found
}

/// Takes every series of bad probes after the first fault that is no longer than the longest one in the calm window
/// for what it is: background. They count as good.
pub(crate) fn excuse_background(run: &Run, probes: &mut [Probe]) {
    let background = background(run, probes);
    let Some(fault) = run.fault_times().next().filter(|_| background > 0) else { return };
    let after = probes.partition_point(|probe| probe.invoked < fault);
    for series in probes[after..].chunk_by_mut(|a, b| a.good == b.good) {
        if series.len() <= background {
            series.iter_mut().for_each(|probe| probe.good = true);
        }
    }
}

/// The longest series of unacknowledged probes in the calm window, from the first probe that ever was acknowledged.
fn background(run: &Run, probes: &[Probe]) -> usize {
    let Some(fault) = run.fault_times().next() else { return 0 };
    let from = SimTime(fault.0.saturating_sub(run.options.calm.0));
    let answered = probes.iter().skip_while(|probe| !probe.acked);
    let calm = answered.filter(|probe| probe.invoked >= from && probe.completed < fault);
    let (mut series, mut longest) = (0, 0);
    for probe in calm {
        series = if probe.acked { 0 } else { series + 1 };
        longest = longest.max(series);
    }
    longest
}

/// The same figure for the clients that a cut held off, from the fault to their own first good write.
fn cut_side(run: &Run, probes: &Probes) -> Option<Span> {
    let is_cut = |probe: &Probe| run.records.cut_clients.iter().any(|cut| cut.client == probe.client);
    let theirs: Vec<Vec<Probe>> = probes
        .writes
        .iter()
        .map(|shard| shard.iter().filter(|probe| is_cut(probe)).copied().collect())
        .collect();
    worst_of(run, &theirs, |_| true).figure
}

/// The longest time between two good writes that follow each other, the later of them after `fault`.
fn write_gap(probes: &Probes, fault: SimTime) -> Option<Span> {
    let gaps = probes.writes.iter().filter_map(|shard| shard_gap(shard, fault));
    gaps.reduce(|a, b| if (b.censored, b.ms) > (a.censored, a.ms) { b } else { a })
}

fn shard_gap(probes: &[Probe], fault: SimTime) -> Option<Span> {
    let counted = || probes.iter().filter(|probe| !probe.cut_side);
    let mut good: Vec<SimTime> = counted().filter(|probe| probe.good).map(|probe| probe.completed).collect();
    good.sort_unstable();
    let longest = good.windows(2).filter(|two| two[1] >= fault).map(|two| two[1].0 - two[0].0).max();
    let last = counted().next_back().filter(|probe| !probe.good && probe.completed >= fault);
    let open = last.zip(good.last()).map(|(probe, good)| probe.completed.0.saturating_sub(good.0));
    match (longest, open) {
        (longest, Some(open)) if open >= longest.unwrap_or(0) => Some(Span { ms: ms(open), censored: true }),
        (longest, _) => longest.map(|gap| Span { ms: ms(gap), censored: false }),
    }
}

/// The mean over shards, weighted by the writes sent to each; all alike if there was no workload.
fn weighted_mean(traffic: &[u64], by_shard: &[Option<Span>]) -> Option<Span> {
    let idle = traffic.iter().all(|writes| *writes == 0);
    let weight = |shard: usize| if idle { 1 } else { traffic[shard] };
    let seen: Vec<(u64, Span)> =
        by_shard.iter().enumerate().filter_map(|(shard, span)| Some((weight(shard), (*span)?))).collect();
    let total: u64 = seen.iter().map(|(weight, _)| weight).sum();
    let sum: f64 = seen.iter().map(|(weight, span)| *weight as f64 * span.ms).sum();
    let censored = seen.iter().any(|(weight, span)| *weight > 0 && span.censored);
    (total > 0).then(|| Span { ms: sum / total as f64, censored })
}

/// The mean distance of the probes of a shard (the one in question, else the most sparsely probed).
fn resolution(probes: &Probes, shard: Option<usize>) -> Option<f64> {
    let distance = |probes: &Vec<Probe>| {
        let (first, last) = probes.first().zip(probes.last())?;
        let gaps = probes.len().checked_sub(1).filter(|gaps| *gaps > 0)?;
        Some((last.invoked.0 - first.invoked.0) / gaps as u64)
    };
    match shard {
        Some(shard) => distance(&probes.writes[shard]).map(ms),
        None => probes.writes.iter().filter_map(distance).max().map(ms),
    }
}
