//! The meter: what a run cost its clients, as plain numbers. One pure function of the [`Records`], so that a stored
//! run can be measured again and a run over real sockets is measured by the same code.
//!
//! What is measured where:
//!
//! | module | question |
//! |---|---|
//! | `rto` | how long were clients without a good write (and read), per shard and side of a cut |
//! | `windows` | when was the service bad, and until when |
//! | `phases` | into which steps does one recovery fall |
//! | `rpo` | which acknowledged writes are missing at the end, and why |
//! | `split_brain` | were there two primaries, and did it do harm |
//! | `quality` | were the failovers right |
//! | `reads` | were reads older than they may be |
//! | `load` | how much was asked and how fast was the answer |
//! | [`twin`] | what would the same run have been without the fault |
//!
//! Definitions that hold everywhere: a write is *acknowledged* if its client was told that it took effect; it
//! *survives* if it is in the authoritative final state; a probe is *good* if it was acknowledged within
//! [`MeterOptions::deadline`] and, being a write, survives. Acknowledgements of a primary whose writes are lost
//! therefore do not end an outage. Everything is computed in whole microseconds; milliseconds are for printing.

pub(crate) mod finals;
pub(crate) mod index;
pub(crate) mod load;
pub(crate) mod phases;
pub(crate) mod quality;
pub(crate) mod reads;
pub(crate) mod rpo;
pub(crate) mod rto;
pub(crate) mod split_brain;
pub(crate) mod timeline;
pub mod twin;
pub mod windows;

#[cfg(test)]
mod builder;
#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;

use crate::measure::{Linearizability, Measurement};
use crate::record::{Fact, Operation, Records, SimTime};
use index::Run;
use rto::Probes;
use std::collections::BTreeMap;

/// What the meter must be told. All durations are in [`SimTime`].
#[derive(Clone, Debug, PartialEq)]
pub struct MeterOptions {
    /// A probe that is acknowledged later than this is as bad as one that is not. Default 500 ms. For a planned switch
    /// it must be well under the gap one wants to see.
    pub deadline: SimTime,
    /// A bin is bad if its share of good probes is below this part of the calm share, in thousandths. Default 990.
    pub theta_per_mille: u32,
    /// Width of the bins of bad windows. Default 100 ms.
    pub bin: SimTime,
    /// Bad bins closer together than this are one bad window. Default 1 s.
    pub merge: SimTime,
    /// How long before the first fault the background is read off. Default 10 s.
    pub calm: SimTime,
    /// Bad windows that begin later than this after the heal are not blamed on the fault. Default 30 s.
    pub horizon: SimTime,
    /// How long after its cut ends a client still counts as cut off (it reconnects, backs off, ...). Default 5 s.
    pub rejoin: SimTime,
    /// A shard without good writes for this long, with a candidate alive and no promotion, missed a failover.
    /// Default 30 s.
    pub missed_after: SimTime,
    /// Two promotions of a shard within this time are a flap. Default 60 s.
    pub flap_window: SimTime,
    /// Which operations are the probes.
    pub basis: Basis,
}

impl Default for MeterOptions {
    fn default() -> Self {
        MeterOptions {
            deadline: SimTime(500_000),
            theta_per_mille: 990,
            bin: SimTime(100_000),
            merge: SimTime(1_000_000),
            calm: SimTime(10_000_000),
            horizon: SimTime(30_000_000),
            rejoin: SimTime(5_000_000),
            missed_after: SimTime(30_000_000),
            flap_window: SimTime(60_000_000),
            basis: Basis::Probes,
        }
    }
}

/// Which operations the recovery time is read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Basis {
    /// The open-loop probes: their schedule does not wait for answers, so an outage cannot hide.
    #[default]
    Probes,
    /// The workload itself, for histories without probes. A closed-loop client stops asking while it is blocked and so
    /// under-reports (co-ordinated omission): such figures are lower bounds.
    Workload,
}

/// Measures one run. The linearizability verdict is left at `NotChecked`: it is another judge's.
pub fn measure(records: &Records, options: &MeterOptions) -> Measurement {
    let run = Run::new(records, options);
    let probes = rto::Probes::collect(&run);
    let windows = windows::all(&run, &probes);
    let (rto, headline) = rto::measure(&run, &probes, &windows);
    let (load, cost) = load::measure(&run);
    Measurement {
        strikes: crate::strikes::strikes(records),
        rpo: rpo::measure(&run, &headline),
        split_brain: split_brain::measure(&run),
        failover: quality::measure(&run, &windows),
        reads: reads::measure(&run),
        load,
        cost,
        service: crate::slo::Service::of(records, options),
        backup: crate::backup::judge(records),
        linearizable: Linearizability::NotChecked,
        sessions: None,
        converged: run.finals.converged(&run).map(|same| same && probes.serving_at_end()),
        stuck: probes.stuck(run.last_heal()),
        faults: records.journal.faults.len() as u32,
        faults_effective: records.journal.faults.iter().filter(|fault| fault.effects > 0).count() as u32,
        truth_agrees: run.finals.agrees_with_truth(&run),
        extra: gauge_maxima(records),
        rto,
    }
}

/// The acknowledged writes, of load and probes, that are missing from the authoritative final state, in the order of their
/// keys; `None` if the final state is not known.
pub fn lost_writes<'a>(records: &'a Records, options: &'a MeterOptions) -> Option<Vec<&'a Operation>> {
    rpo::lost_writes(&Run::new(records, options))
}

/// When each write probe was asked, and whether it was acknowledged within the deadline; in order of invocation.
pub(crate) fn write_probes(
    records: &Records,
    options: &MeterOptions,
) -> impl Iterator<Item = (SimTime, bool)> {
    let mut probes: Vec<(SimTime, bool)> = Probes::collect(&Run::new(records, options))
        .writes
        .concat()
        .into_iter()
        .map(|probe| (probe.invoked, probe.acked))
        .collect();
    probes.sort_by_key(|(at, _)| *at);
    probes.into_iter()
}

/// The largest value of every gauge, by its name.
fn gauge_maxima(records: &Records) -> BTreeMap<String, f64> {
    let mut maxima = BTreeMap::new();
    for observation in &records.observations {
        if let Fact::Gauge { name, value } = &observation.fact {
            match maxima.get_mut(name) {
                None => drop(maxima.insert(name.clone(), *value)),
                Some(max) => *max = f64::max(*max, *value),
            }
        }
    }
    maxima
}

/// Microseconds as the milliseconds of reports.
pub(crate) fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}
