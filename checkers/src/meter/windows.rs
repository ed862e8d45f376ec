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
        let bins = bins(probes.iter(), first_fault, run.options.bin);
        list.extend(merge(run, shard, first_fault, &bins, calm));
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

fn bins<'p>(probes: impl Iterator<Item = &'p Probe>, origin: SimTime, width: SimTime) -> Vec<Bin> {
    let mut bins: Vec<Bin> = Vec::new();
    for probe in probes.filter(|probe| probe.invoked >= origin) {
        let index = (probe.invoked.0 - origin.0) / width.0.max(1);
        if bins.last().is_none_or(|bin| bin.index != index) {
            bins.push(Bin { index, share: Share::default() });
        }
        let share = &mut bins.last_mut().expect("a bin was just pushed").share;
        share.all += 1;
        share.good += u64::from(probe.good);
    }
    bins
}

fn merge(run: &Run, shard: usize, origin: SimTime, bins: &[Bin], calm: Share) -> Vec<BadWindow> {
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
            None => windows.push(BadWindow {
                shard: shard as u16,
                from,
                until,
                open,
                fault: attribute(run, from),
            }),
        }
    }
    windows
}

/// The fault to blame for something bad that begins at `from`.
pub(crate) fn attribute(run: &Run, from: SimTime) -> Option<usize> {
    let fault = run.fault_before(from)?;
    let healed = run.records.journal.faults[fault].healed.map_or(run.records.end, |healed| healed.at);
    (from.0 <= healed.0.saturating_add(run.options.horizon.0)).then_some(fault)
}

impl Windows {
    /// From its fault to the end of the last bad window, the longest of all faults and shards.
    pub fn stable(&self, run: &Run) -> Option<Span> {
        let faults = &run.records.journal.faults;
        let spans = self.list.iter().filter_map(|window| {
            let began = faults[window.fault?].began.at;
            Some(Span { ms: ms(window.until.0 - began.0), censored: window.open })
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
