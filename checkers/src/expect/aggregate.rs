//! All runs of a scenario in a few numbers: the fields of the program's JSON output. Times are milliseconds; `None` (null)
//! is *not measured*, never 0.
//!
//! Percentiles of phases do not add up to a percentile of the recovery time: the run with the slowest detection need
//! not be the one with the slowest election. Within one run they do add up.

use crate::measure::{Linearizability, Measurement};
use crate::stats::{Distribution, Sample};
use serde::{Deserialize, Serialize};

/// The runs of one scenario, summed up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    /// Number of runs.
    pub runs: u32,
    /// Of these, runs with a fault that had no effect; they are left out of `rto_ms`, `phases_ms` and `failovers`.
    pub inert: u32,
    /// Recovery time; `None`: measured in no run.
    pub rto_ms: Option<Percentiles>,
    /// The phases of recovery.
    pub phases_ms: PhasePercentiles,
    /// Loss of acknowledged writes.
    pub rpo: LossMaxima,
    /// Two primaries.
    pub split_brain: SplitBrainMaxima,
    /// Linearizability verdicts; `None`: nobody asked.
    pub linearizable: Option<LinearizableCounts>,
    /// Faults of all runs.
    pub faults: FaultCounts,
    /// Promotions in a run.
    pub failovers: FailoverRange,
    /// Runs that never served again after the last heal.
    pub stuck: u32,
    /// Runs that did not converge, where it is known.
    pub not_converged: u32,
    /// Runs in which the meter and the simulator's ground truth disagree: an error of the program.
    pub truth_disagreements: u32,
}

/// Percentiles of a duration, censored runs included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: f64,
    /// Runs that had not recovered when they ended.
    pub censored: u32,
    /// Runs in this distribution.
    pub samples: u32,
    /// Which of the figures fall into the censored runs and are lower bounds only (print them as "> T").
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lower_bounds: Vec<String>,
    /// Which of the percentiles have too few samples and are the maximum (print them as `p99 (max of 20)`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maxima: Vec<String>,
}

/// Percentiles of the phases; a phase that the system does not have is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhasePercentiles {
    /// Until the verdict.
    pub detect: Option<PhasePercentile>,
    /// Until the won election.
    pub elect: Option<PhasePercentile>,
    /// Until the old primary is harmless.
    pub fence: Option<PhasePercentile>,
    /// Until the new primary is writable.
    pub promote: Option<PhasePercentile>,
    /// Until a client's write is acknowledged.
    pub redirect: Option<PhasePercentile>,
}

/// Two percentiles of a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhasePercentile {
    /// Median.
    pub p50: f64,
    /// 99th percentile; the maximum with fewer than 299 samples.
    pub p99: f64,
}

/// The worst loss.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossMaxima {
    /// Most writes lost in a run; `None`: no run knows its final state.
    pub writes_max: Option<u64>,
    /// Most bytes.
    pub bytes_max: Option<u64>,
    /// Oldest loss at the fault.
    pub time_ms_max: Option<f64>,
    /// Runs that lost an acknowledged write.
    pub runs_with_loss: u32,
    /// Runs whose final state is not known.
    pub runs_unknown: u32,
}

/// The worst split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SplitBrainMaxima {
    /// Highest grade.
    pub grade_max: u8,
    /// Longest time at grade 2 or above.
    pub ms_max: f64,
    /// Most divergent writes.
    pub divergent_writes_max: u64,
    /// Runs at grade 2 or above: two nodes would have acknowledged a write at the same time.
    pub runs: u32,
}

/// How many histories are linearizable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinearizableCounts {
    /// Proven to be.
    pub holds: u32,
    /// Proven not to be.
    pub violated: u32,
    /// The checker's budget ended first.
    pub unknown: u32,
}

/// Faults of all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultCounts {
    /// Injected.
    pub injected: u32,
    /// With a proven effect.
    pub effective: u32,
}

/// Promotions in a run; `None`: no runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverRange {
    /// Fewest.
    pub min: Option<u32>,
    /// Most.
    pub max: Option<u32>,
}

impl Aggregate {
    /// Sums up the runs of a scenario.
    pub fn of(runs: &[Measurement]) -> Self {
        let effective = || runs.iter().filter(|run| !run.inert());
        let recovery = effective().filter_map(|run| run.rto.first);
        let recovery = recovery.map(|span| Sample { value: span.ms, censored: span.censored }).collect();
        Aggregate {
            runs: runs.len() as u32,
            inert: runs.iter().filter(|run| run.inert()).count() as u32,
            rto_ms: Percentiles::of(&recovery),
            phases_ms: PhasePercentiles {
                detect: phase(effective().map(|run| run.rto.phases.detect)),
                elect: phase(effective().map(|run| run.rto.phases.elect)),
                fence: phase(effective().map(|run| run.rto.phases.fence)),
                promote: phase(effective().map(|run| run.rto.phases.promote)),
                redirect: phase(effective().map(|run| run.rto.phases.redirect)),
            },
            rpo: LossMaxima::of(runs),
            split_brain: SplitBrainMaxima::of(runs),
            linearizable: LinearizableCounts::of(runs),
            faults: FaultCounts {
                injected: runs.iter().map(|run| run.faults).sum(),
                effective: runs.iter().map(|run| run.faults_effective).sum(),
            },
            failovers: FailoverRange {
                min: effective().map(|run| run.failover.count).min(),
                max: effective().map(|run| run.failover.count).max(),
            },
            stuck: count(runs, |run| run.stuck),
            not_converged: count(runs, |run| run.converged == Some(false)),
            truth_disagreements: count(runs, |run| run.truth_agrees == Some(false)),
        }
    }
}

impl Percentiles {
    /// The percentiles of a distribution; `None`: it is empty.
    pub fn of(distribution: &Distribution) -> Option<Self> {
        let largest = distribution.max()?;
        let mut percentiles = Percentiles {
            max: largest.value,
            censored: distribution.censored() as u32,
            samples: distribution.len() as u32,
            ..Percentiles::default()
        };
        for (name, per_mille) in [("p50", 500), ("p90", 900), ("p95", 950), ("p99", 990)] {
            let quantile = distribution.quantile(per_mille)?;
            *percentiles.slot(name) = quantile.value;
            if quantile.censored {
                percentiles.lower_bounds.push(name.to_owned());
            }
            if quantile.maximum_of.is_some() {
                percentiles.maxima.push(name.to_owned());
            }
        }
        if largest.censored {
            percentiles.lower_bounds.push("max".to_owned());
        }
        Some(percentiles)
    }

    fn slot(&mut self, name: &str) -> &mut f64 {
        match name {
            "p50" => &mut self.p50,
            "p90" => &mut self.p90,
            "p95" => &mut self.p95,
            _ => &mut self.p99,
        }
    }
}

impl LossMaxima {
    fn of(runs: &[Measurement]) -> Self {
        LossMaxima {
            writes_max: runs.iter().filter_map(|run| run.rpo.writes).max(),
            bytes_max: runs.iter().filter_map(|run| run.rpo.bytes).max(),
            time_ms_max: runs.iter().filter_map(|run| run.rpo.time_ms).reduce(f64::max),
            runs_with_loss: count(runs, |run| run.rpo.writes.is_some_and(|writes| writes > 0)),
            runs_unknown: count(runs, |run| run.rpo.writes.is_none()),
        }
    }
}

impl SplitBrainMaxima {
    fn of(runs: &[Measurement]) -> Self {
        SplitBrainMaxima {
            grade_max: runs.iter().map(|run| run.split_brain.grade).max().unwrap_or(0),
            ms_max: runs.iter().map(|run| run.split_brain.ms).fold(0.0, f64::max),
            divergent_writes_max: runs.iter().map(|run| run.split_brain.divergent_writes).max().unwrap_or(0),
            runs: count(runs, |run| run.split_brain.grade >= 2),
        }
    }
}

impl LinearizableCounts {
    fn of(runs: &[Measurement]) -> Option<Self> {
        let mut counts = LinearizableCounts::default();
        for run in runs {
            match run.linearizable {
                Linearizability::NotChecked => {}
                Linearizability::Holds => counts.holds += 1,
                Linearizability::Violated { .. } => counts.violated += 1,
                Linearizability::Unknown { .. } => counts.unknown += 1,
            }
        }
        (counts != LinearizableCounts::default()).then_some(counts)
    }
}

fn phase(figures: impl Iterator<Item = Option<f64>>) -> Option<PhasePercentile> {
    let distribution: Distribution = figures.flatten().map(Sample::exact).collect();
    Some(PhasePercentile { p50: distribution.quantile(500)?.value, p99: distribution.quantile(990)?.value })
}

fn count(runs: &[Measurement], holds: impl Fn(&Measurement) -> bool) -> u32 {
    runs.iter().filter(|run| holds(run)).count() as u32
}
