//! Bad windows: when the service was not as good as before the fault, and until when.
//!
//! Probes are put into bins of equal width by the time of their invocation, counted from the first fault. A bin is bad
//! if its share of good probes is below theta times the share in the calm window before the fault; bad bins close to each
//! other are one window. A bin without probes says nothing, and a series of bad probes no longer than any in the calm
//! window is background. A window belongs to the latest fault begun before it,
//! unless it begins later than the horizon after that fault healed.

use super::index::Run;
use super::ms;
use super::rto::{Probe, Probes, excuse_background};
use crate::measure::Span;
use crate::record::SimTime;

/// A time in which a shard served badly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BadWindow {
    /// The shard.
    pub shard: u16,
    /// Begin of its first bad bin.
    pub from: SimTime,
    /// End of its last bad bin.
    pub until: SimTime,
    /// It had not ended when the probes did.
    pub open: bool,
    /// The fault it is attributed to: index in the journal.
    pub fault: Option<usize>,
}

impl BadWindow {
    fn length(&self) -> u64 {
        self.until.0 - self.from.0
    }
}

/// The bad windows of all shards.
#[derive(Clone, Debug, Default)]
pub(crate) struct Windows {
    pub list: Vec<BadWindow>,
}

/// The bad windows of a run, for drawings: the measure itself keeps only their sums.
pub fn bad_windows(records: &crate::record::Records, options: &super::MeterOptions) -> Vec<BadWindow> {
    let run = Run::new(records, options);
    all(&run, &Probes::collect(&run)).list
}

/// Finds the bad windows of every shard.
pub(crate) fn all(run: &Run, probes: &Probes) -> Windows {
    let Some(first_fault) = run.fault_times().next() else { return Windows::default() };
    let mut list = Vec::new();
    for (shard, probes) in probes.writes.iter().enumerate() {
        let mut probes: Vec<Probe> = probes.iter().filter(|probe| !probe.cut_side).copied().collect();
        excuse_background(run, &mut probes);
        let calm = calm_share(run, probes.iter(), first_fault);
        let bins = bins(&probes, first_fault, run.options.bin);
        let blame = |bin: &Bin| bin.first_bad.and_then(|first| attribute(run, &probes, first));
        list.extend(merge(run, shard, first_fault, &bins, calm, &blame));
    }
    Windows { list }
}

/// Good probes and all probes.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    good: u64,
    all: u64,
}

/// A bin that has probes.
struct Bin {
    index: u64,
    share: Share,
    /// Its first bad probe.
    first_bad: Option<usize>,
}

fn calm_share<'p>(run: &Run, probes: impl Iterator<Item = &'p Probe>, fault: SimTime) -> Share {
    let from = SimTime(fault.0.saturating_sub(run.options.calm.0));
    let mut calm = Share::default();
    for probe in probes.skip_while(|probe| !probe.acked) {
        if probe.invoked >= from && probe.completed < fault {
            calm.all += 1;
            calm.good += u64::from(probe.acked);
        }
    }
    // Nothing known of the time before the fault: perfect service is expected.
    if calm.all == 0 { Share { good: 1, all: 1 } } else { calm }
}

fn bins(probes: &[Probe], origin: SimTime, width: SimTime) -> Vec<Bin> {
    let mut bins: Vec<Bin> = Vec::new();
    for (at, probe) in probes.iter().enumerate().filter(|(_, probe)| probe.invoked >= origin) {
        let index = (probe.invoked.0 - origin.0) / width.0.max(1);
        if bins.last().is_none_or(|bin| bin.index != index) {
            bins.push(Bin { index, share: Share::default(), first_bad: None });
        }
        let bin = bins.last_mut().expect("a bin was just pushed");
        bin.share.all += 1;
        bin.share.good += u64::from(probe.good);
        if !probe.good {
            bin.first_bad.get_or_insert(at);
        }
    }
    bins
}

fn merge(
    run: &Run,
    shard: usize,
    origin: SimTime,
    bins: &[Bin],
    calm: Share,
    blame: &dyn Fn(&Bin) -> Option<usize>,
) -> Vec<BadWindow> {
    let theta = u64::from(run.options.theta_per_mille);
    let is_bad = |share: Share| share.good * calm.all * 1000 < theta * calm.good * share.all;
    let start = |index: u64| SimTime(origin.0 + index * run.options.bin.0.max(1));
    let last = bins.last().map_or(0, |bin| bin.index);
    let mut windows: Vec<BadWindow> = Vec::new();
    for bin in bins.iter().filter(|bin| is_bad(bin.share)) {
        let (from, open) = (start(bin.index), bin.index == last);
        let until = start(bin.index + 1).min(run.records.end.max(from));
        match windows.last_mut().filter(|window| from.0 - window.until.0 < run.options.merge.0) {
            Some(window) => (window.until, window.open) = (until, open),
            None => windows.push(BadWindow { shard: shard as u16, from, until, open, fault: blame(bin) }),
        }
    }
    windows
}

/// The fault to blame for bad service that begins with this probe: the latest one begun before it was sent. But a probe
/// that was under way when a later fault struck is that fault's victim, if service had gone on under the earlier one.
pub(crate) fn attribute(run: &Run, probes: &[Probe], first_bad: usize) -> Option<usize> {
    let probe = &probes[first_bad];
    let from = probe.invoked;
    let earlier = run.fault_before(from)?;
    let began = run.records.journal.faults[earlier].began.at;
    let served = probes[..first_bad].last().is_some_and(|before| before.good && before.invoked >= began);
    let over =
        probes[first_bad..].iter().find(|probe| probe.good).map_or(probe.completed, |good| good.completed);
    let fault = if served { run.fault_before(probe.completed.min(over))? } else { earlier };
    let healed = run.records.journal.faults[fault].healed.map_or(run.records.end, |healed| healed.at);
    (from.0 <= healed.0.saturating_add(run.options.horizon.0)).then_some(fault)
}

impl Windows {
    /// From its fault to the end of the last bad window, the longest of all faults and shards.
    pub fn stable(&self, run: &Run) -> Option<Span> {
        let faults = &run.records.journal.faults;
        let spans = self.list.iter().filter_map(|window| {
            let began = faults[window.fault?].began.at;
            // The bin of a probe that the fault caught in flight may end before the fault.
            Some(Span { ms: ms(window.until.0.saturating_sub(began.0)), censored: window.open })
        });
        let worst = spans.reduce(|a, b| if (b.censored, b.ms) > (a.censored, a.ms) { b } else { a });
        Some(worst.unwrap_or(Span { ms: 0.0, censored: false }))
    }

    /// The sum of the bad windows of the worst shard, in microseconds.
    pub fn total(&self) -> u64 {
        let by_shard = self.list.chunk_by(|a, b| a.shard == b.shard);
        by_shard.map(|windows| windows.iter().map(BadWindow::length).sum()).max().unwrap_or(0)
    }

    /// The longest window, in microseconds.
    pub fn longest(&self) -> u64 {
        self.list.iter().map(BadWindow::length).max().unwrap_or(0)
    }
}
