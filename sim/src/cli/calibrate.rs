//! `firedrill calibrate`: does the model predict the real thing? Scenarios tagged `set:ID` reproduce the settings of a
//! measured set; their recovery times and steps are compared with the measured ones.

use super::{Cli, Exit, Failure, select};
use crate::backends::Backend;
use crate::run::{Detail, measure};
use crate::scenario::{Loaded, Seeds};
use firedrill_checkers::measure::Measurement;
use firedrill_checkers::record::{Fact, Life, Mark, Records, Role, SimTime};
use firedrill_protocols::contract::{Random, stream};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The measurements, as they are in the repository.
const MEASURED: &str = include_str!("../../calibration/redis.json");

/// Arguments of `calibrate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Calibration scenarios; none: all of them.
    names: Vec<String>,
    /// Seeds instead of each scenario's own.
    #[arg(long)]
    seeds: Option<Seeds>,
    /// Where the model runs.
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,
}

#[derive(Deserialize)]
struct Measured {
    sets: Vec<Set>,
}

#[derive(Deserialize)]
struct Set {
    id: String,
    samples: Vec<BTreeMap<String, serde_json::Value>>,
}

impl Set {
    /// The samples of a figure, as numbers.
    fn figure(&self, name: &str) -> Vec<f64> {
        let mut values: Vec<f64> = self
            .samples
            .iter()
            .filter_map(|sample| sample.get(name))
            .filter_map(serde_json::Value::as_f64)
            .collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

/// One figure: its name in the measurements, and how a run of the model gives it (in seconds, or a number).
type Figure = (&'static str, fn(&Run<'_>) -> Option<f64>);

/// A run of the model.
struct Run<'a> {
    records: &'a Records,
    measurement: &'a Measurement,
}

/// Every figure that is compared.
const FIGURES: [Figure; 13] = [
    ("rto_s", |run| run.recovery()),
    ("rto_majority_side_s", |run| run.recovery()),
    ("t_first_sdown_s", |run| run.mark(Mark::Suspected)),
    ("t_odown_s", |run| run.mark(Mark::Declared)),
    ("t_elected_s", |run| run.mark(Mark::Elected)),
    ("t_slaveof_noone_s", |run| run.mark(Mark::Promoting)),
    ("t_promoted_s", |run| run.mark(Mark::Promoted)),
    ("t_failover_end_s", |run| run.mark(Mark::Settled)),
    ("old_primary_demoted_s", |run| run.demoted(run.struck()?)),
    ("old_primary_demoted_after_return_s", |run| run.demoted(run.returned()?)),
    ("demoted_after_heal_s", |run| run.demoted(run.returned()?)),
    ("lost_acked", |run| run.measurement.rpo.writes.map(|writes| writes as f64)),
    ("a_lost_acked", |run| run.measurement.rpo.writes.map(|writes| writes as f64)),
];

impl Run<'_> {
    /// Seconds until the first good write.
    fn recovery(&self) -> Option<f64> {
        self.measurement.rto.first.filter(|span| !span.censored).map(|span| span.ms / 1_000.0)
    }

    fn struck(&self) -> Option<SimTime> {
        self.records.journal.faults.first().map(|fault| fault.began.at)
    }

    /// When the old primary was back: its fault healed, or it was started again.
    fn returned(&self) -> Option<SimTime> {
        let fault = self.records.journal.faults.first()?;
        let started = self.records.journal.life.iter().find(|event| {
            event.life == Life::Up && event.instant.at > fault.began.at && fault.targets.contains(&event.node)
        });
        started.map(|event| event.instant.at).or(fault.healed.map(|healed| healed.at))
    }

    /// Seconds from the fault to the first step of this kind.
    fn mark(&self, wanted: Mark) -> Option<f64> {
        let struck = self.struck()?;
        let is = |fact: &Fact| matches!(fact, Fact::Mark { mark, .. } if *mark == wanted);
        let step = self.records.observations.iter().find(|o| o.instant.at >= struck && is(&o.fact))?;
        Some(seconds(struck, step.instant.at))
    }

    /// Seconds from then until the old primary follows.
    fn demoted(&self, since: SimTime) -> Option<f64> {
        let old = self.records.observations.iter().rfind(|o| {
            o.instant.at < self.struck().unwrap_or_default() && o.fact == Fact::Role(Role::Primary)
        })?;
        let follows = |o: &&firedrill_checkers::record::Observation| {
            o.node == old.node && o.instant.at > since && o.fact == Fact::Role(Role::Replica)
        };
        Some(seconds(since, self.records.observations.iter().find(follows)?.instant.at))
    }
}

fn seconds(from: SimTime, to: SimTime) -> f64 {
    (to.0 - from.0) as f64 / 1e6
}

pub(super) fn main(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let measured: Measured = serde_json::from_str(MEASURED).expect("the committed measurements are JSON");
    let names = if args.names.is_empty() { vec!["calibration".to_owned()] } else { args.names.clone() };
    println!(
        "{:<52} {:<34} {:>4} {:>9} {:>9}  {:>9} {:>9}",
        "set", "figure", "n", "real p50", "real p90", "p50", "p90"
    );
    let (mut judged, mut inside) = (0, 0);
    for loaded in select::scenarios(cli, &names)? {
        let Some(set) = set_of(&measured, &loaded) else { continue };
        if let Err(why) = args.backend.supports(&loaded.scenario) {
            eprintln!("{}: skipped, {why}", loaded.scenario.name);
            continue;
        }
        for (figure, model) in model(args, &loaded)? {
            let real = set.figure(figure);
            if real.is_empty() || model.is_empty() {
                continue;
            }
            let fits = fits(&real, &model);
            judged += 1;
            inside += usize::from(fits.is_ok());
            show(&set.id, figure, &real, &model, &fits);
        }
    }
    println!("{inside} of {judged} figures inside the measured interval ({} backend)", args.backend.name());
    if judged == 0 {
        return Err(Failure::Nothing("a measured set".to_owned()));
    }
    Ok(if inside == judged { Exit::Holds } else { Exit::Verdict(3) })
}

fn set_of<'a>(measured: &'a Measured, loaded: &Loaded) -> Option<&'a Set> {
    let id = loaded.scenario.tags.iter().find_map(|tag| tag.strip_prefix("set:"))?;
    measured.sets.iter().find(|set| set.id == id)
}

/// Every figure over all seeds.
fn model(args: &Args, loaded: &Loaded) -> Result<Vec<(&'static str, Vec<f64>)>, Failure> {
    let seeds = args.seeds.as_ref().unwrap_or(&loaded.scenario.seeds).list(0)?;
    let mut values: Vec<Vec<f64>> = FIGURES.iter().map(|_| Vec::new()).collect();
    for seed in seeds {
        let outcome = args.backend.run(&loaded.scenario, seed, &Detail::default());
        let measurement = measure(&loaded.scenario, &outcome.records);
        let run = Run { records: &outcome.records, measurement: &measurement };
        for ((_, of), values) in FIGURES.iter().zip(&mut values) {
            values.extend(of(&run));
        }
    }
    values.iter_mut().for_each(|values| values.sort_by(f64::total_cmp));
    Ok(FIGURES.iter().map(|(name, _)| *name).zip(values).collect())
}

fn quantile(sorted: &[f64], per_mille: u32) -> f64 {
    let at = firedrill_checkers::stats::rank(sorted.len(), per_mille).unwrap_or(0);
    sorted[at.min(sorted.len() - 1)]
}

fn median(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0
}

/// Whether the model is where the measurements are.
///
/// The median must lie inside the 95 % bootstrap interval of the measured median, widened by 10 % or 10 ms, whichever is
/// more; the 90th percentile likewise with 15 % where there are 15 samples or more. Of fewer than 8 samples, the measured
/// range must lie inside the model's 1st to 99th percentile.
fn fits(real: &[f64], model: &[f64]) -> Result<(), String> {
    if real.len() < 8 {
        let (low, high) = (quantile(model, 10), quantile(model, 990));
        let inside = real[0] >= low && real[real.len() - 1] <= high;
        return if inside { Ok(()) } else { Err(format!("the model's 1-99 % is {low:.3}..{high:.3}")) };
    }
    within("median", median(model), interval(real, median), 0.10)?;
    if real.len() >= 15 {
        within("p90", quantile(model, 900), interval(real, |sorted| quantile(sorted, 900)), 0.15)?;
    }
    Ok(())
}

fn within(what: &str, value: f64, (low, high): (f64, f64), share: f64) -> Result<(), String> {
    let (low, high) = (low - (low * share).max(0.010), high + (high * share).max(0.010));
    if (low..=high).contains(&value) { Ok(()) } else { Err(format!("{what} outside {low:.3}..{high:.3}")) }
}

/// The 95 % bootstrap interval of a statistic: 2,000 resamples from a stream of their own.
fn interval(real: &[f64], statistic: impl Fn(&[f64]) -> f64) -> (f64, f64) {
    let mut random = stream(1, 32, 0, 0);
    let last = real.len() as u64 - 1;
    let mut statistics: Vec<f64> = (0..2_000)
        .map(|_| {
            let mut sample: Vec<f64> = real.iter().map(|_| real[random.between(0, last) as usize]).collect();
            sample.sort_by(f64::total_cmp);
            statistic(&sample)
        })
        .collect();
    statistics.sort_by(f64::total_cmp);
    (quantile(&statistics, 25), quantile(&statistics, 975))
}

fn show(set: &str, figure: &str, real: &[f64], model: &[f64], fits: &Result<(), String>) {
    let verdict = match fits {
        Ok(()) => "inside".to_owned(),
        Err(why) => format!("OUTSIDE: {why}"),
    };
    println!(
        "{set:<52.52} {figure:<34} {:>4} {:>9.3} {:>9.3}  {:>9.3} {:>9.3}  {verdict}",
        real.len(),
        median(real),
        quantile(real, 900),
        median(model),
        quantile(model, 900),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_is_twice_as_slow_does_not_fit() {
        let real: Vec<f64> = (0..18).map(|i| 2.2 + 0.01 * f64::from(i)).collect();
        assert!(fits(&real, &real).is_ok());
        let slow: Vec<f64> = real.iter().map(|value| value * 2.0).collect();
        assert!(fits(&real, &slow).is_err());
    }

    #[test]
    fn few_samples_must_lie_inside_the_model() {
        let model: Vec<f64> = (0..100).map(|i| 2.0 + 0.01 * f64::from(i)).collect();
        assert!(fits(&[2.1, 2.5], &model).is_ok());
        assert!(fits(&[1.1, 2.5], &model).is_err());
    }
}
