//! The twin: the same seed without the fault. What goes wrong there too is not the fault's doing.
//!
//! Probes are open-loop, so each probe of the run has its counterpart in the twin: same client, same shard, same kind,
//! same invocation. A bad probe whose counterpart is bad as well says nothing about the fault and is excused.

use super::index::Run;
use super::rto::{self, Probe, Probes};
use super::{MeterOptions, measure, windows};
use crate::measure::{Measurement, Rto};
use crate::record::Records;
use serde::{Deserialize, Serialize};

/// A run beside its twin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TwinComparison {
    /// Recovery with the probes left out that fail without the fault as well.
    pub rto: Rto,
    /// Write and read probes of the run that have a counterpart in the twin.
    pub probes_paired: u64,
    /// Of these, bad in both: background, not the fault.
    pub probes_excused: u64,
    /// Of these, bad only without the fault: the two runs differ by more than the fault, or it hid an error.
    pub probes_mended: u64,
    /// Median write latency of the twin over the whole run, in milliseconds: what the service costs without a fault.
    pub write_p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub write_p99_ms: Option<f64>,
    /// What the twin did although nothing was wrong: each line is a fault of the system or of the drill.
    pub unprovoked: Vec<String>,
}

/// Compares a run with its twin.
pub fn compare(records: &Records, twin: &Records, options: &MeterOptions) -> TwinComparison {
    let (run, other) = (Run::new(records, options), Run::new(twin, options));
    let (mut probes, counterparts) = (Probes::collect(&run), Probes::collect(&other));
    let mut comparison = TwinComparison::default();
    for (mine, theirs) in
        [(&mut probes.writes, &counterparts.writes), (&mut probes.reads, &counterparts.reads)]
    {
        for (mine, theirs) in mine.iter_mut().zip(theirs) {
            excuse(mine, theirs, &mut comparison);
        }
    }
    let windows = windows::all(&run, &probes);
    comparison.rto = rto::measure(&run, &probes, &windows).0;
    let measured = measure(twin, options);
    comparison.write_p50_ms = measured.load.write_p50_ms;
    comparison.write_p99_ms = measured.load.write_p99_ms;
    comparison.unprovoked = unprovoked(&measured);
    comparison
}

/// Takes out the probes that are bad in both runs, and counts.
fn excuse(mine: &mut Vec<Probe>, theirs: &[Probe], comparison: &mut TwinComparison) {
    let mut twins: Vec<(Key, bool)> = theirs.iter().map(|probe| (key(probe), probe.good)).collect();
    twins.sort_by_key(|(key, _)| *key);
    mine.retain(|probe| {
        let Ok(found) = twins.binary_search_by_key(&key(probe), |(key, _)| *key) else { return true };
        comparison.probes_paired += 1;
        let excused = !probe.good && !twins[found].1;
        comparison.probes_excused += u64::from(excused);
        comparison.probes_mended += u64::from(probe.good && !twins[found].1);
        !excused
    });
}

type Key = (crate::record::SimTime, crate::record::NodeIndex);

fn key(probe: &Probe) -> Key {
    (probe.invoked, probe.client)
}

/// What a run without a fault must not show.
fn unprovoked(twin: &Measurement) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |count: u64, what: &str| {
        if count > 0 {
            found.push(format!("{what}: {count}"));
        }
    };
    say(u64::from(twin.faults), "faults in the twin");
    say(u64::from(twin.failover.count), "failovers without a fault");
    say(twin.rpo.writes.unwrap_or(0), "acknowledged writes lost without a fault");
    say(u64::from(twin.split_brain.grade), "grade of a split brain without a fault");
    say(u64::from(twin.converged == Some(false)), "runs that did not converge without a fault");
    say(u64::from(twin.stuck), "runs that never served without a fault");
    found
}
