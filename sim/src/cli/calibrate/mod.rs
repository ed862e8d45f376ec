//! `firedrill calibrate`: does the model predict the real thing? Scenarios tagged `set:ID`, wherever they stand, reproduce
//! the settings of a measured set; every figure that the set has is compared with the same figure of the model's runs.

mod figures;
mod fit;

use super::{Cli, Exit, Failure, select};
use crate::backends::Backend;
use crate::run::{Detail, meter_options};
use crate::scenario::{Loaded, Seeds};
use figures::Run;
use firedrill_checkers::meter::lost_writes;
use fit::{Fit, fits, median, quantile};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The measurements, as they are in the repository.
const MEASURED: &str = include_str!("../../../calibration/redis.json");
/// Where scenarios stand that are there for nothing else.
const FOLDER: &str = "calibration";

/// Arguments of `calibrate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Scenarios tagged `set:ID`; none: all that there are.
    names: Vec<String>,
    /// Seeds of the event loop.
    #[arg(long, default_value = "1..300")]
    seeds: Seeds,
    /// Seeds of turmoil, which is slower.
    #[arg(long, default_value = "1..20")]
    turmoil: Seeds,
    /// Leave turmoil out.
    #[arg(long, conflicts_with = "turmoil")]
    kernel_only: bool,
    /// Other measurements, in the form of `sim/calibration/redis.json`.
    #[arg(long, value_name = "FILE")]
    measured: Option<PathBuf>,
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

/// The values of each figure, sorted.
type Values = BTreeMap<String, Vec<f64>>;

impl Set {
    fn values(&self) -> Values {
        let numbers = |sample: &BTreeMap<String, serde_json::Value>| {
            sample.iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect()
        };
        gather(self.samples.iter().map(|sample| figures::with_phases(numbers(sample))))
    }
}

fn gather(runs: impl Iterator<Item = BTreeMap<String, f64>>) -> Values {
    let mut values = Values::new();
    for (name, value) in runs.flatten() {
        values.entry(name).or_default().push(value);
    }
    values.values_mut().for_each(|values| values.sort_by(f64::total_cmp));
    values
}

pub(super) fn main(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let measured = measurements(args)?;
    let mut backends = vec![(Backend::Kernel, &args.seeds)];
    if !args.kernel_only {
        backends.push((Backend::Turmoil, &args.turmoil));
    }
    head(&backends);
    let mut tally = Tally::default();
    for loaded in tagged(cli, args)? {
        let Some(set) = set_of(&measured, &loaded) else {
            eprintln!("{}: no such set was measured", loaded.scenario.name);
            continue;
        };
        tally.reproduced.insert(&set.id);
        let models: Vec<Option<Values>> = backends
            .iter()
            .map(|(backend, seeds)| model(*backend, seeds, &loaded))
            .collect::<Result<_, _>>()?;
        compare(set, &models, &mut tally);
    }
    let left = measured.sets.iter().filter(|set| !tally.reproduced.contains(set.id.as_str()));
    left.for_each(|set| println!("not reproduced by any scenario: {}", set.id));
    println!("{} of {} figures where the measurements are", tally.inside, tally.judged);
    if tally.judged == 0 {
        return Err(Failure::Nothing("a measured set".to_owned()));
    }
    Ok(if tally.inside == tally.judged { Exit::Holds } else { Exit::Verdict(3) })
}

fn measurements(args: &Args) -> Result<Measured, Failure> {
    let Some(path) = &args.measured else {
        return Ok(serde_json::from_str(MEASURED).expect("the committed measurements are JSON"));
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Missing(format!("{}: {error}", path.display())))?;
    serde_json::from_str(&text).map_err(|error| Failure::Missing(format!("{}: {error}", path.display())))
}

/// The scenarios that reproduce a measured set.
fn tagged(cli: &Cli, args: &Args) -> Result<Vec<Loaded>, Failure> {
    let mut loaded = match args.names.is_empty() {
        true => select::scenarios(cli, &[FOLDER.to_owned()])?,
        false => select::scenarios(cli, &args.names)?,
    };
    if args.names.is_empty() {
        loaded.extend(select::scenarios(cli, &[])?);
    }
    loaded.retain(|loaded| set_tag(loaded).is_some());
    Ok(loaded)
}

fn set_tag(loaded: &Loaded) -> Option<&str> {
    loaded.scenario.tags.iter().find_map(|tag| tag.strip_prefix("set:"))
}

fn set_of<'a>(measured: &'a Measured, loaded: &Loaded) -> Option<&'a Set> {
    let id = set_tag(loaded)?;
    measured.sets.iter().find(|set| set.id == id)
}

/// Every figure over all seeds; `None` if the scenario cannot be run there.
fn model(backend: Backend, seeds: &Seeds, loaded: &Loaded) -> Result<Option<Values>, Failure> {
    let scenario = &loaded.scenario;
    if let Err(why) = backend.supports(scenario) {
        eprintln!("{}: not on {}, {why}", scenario.name, backend.name());
        return Ok(None);
    }
    let options = meter_options(scenario);
    let (seeds, next) = (seeds.list(0)?, AtomicUsize::new(0));
    let work = || {
        let mut runs = Vec::new();
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = backend.run(scenario, *seed, &Detail::default());
            let lost = lost_writes(&outcome.records, &options);
            runs.push(Run { records: &outcome.records, lost }.figures());
        }
        runs
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let runs: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    Ok(Some(gather(runs.into_iter())))
}

/// What was found over all sets.
#[derive(Default)]
struct Tally<'a> {
    judged: usize,
    inside: usize,
    reproduced: BTreeSet<&'a str>,
}

/// Judges and shows every figure that was measured and that the model has.
fn compare(set: &Set, models: &[Option<Values>], tally: &mut Tally<'_>) {
    let real = set.values();
    for name in figures::names() {
        let Some(real) = real.get(&name) else { continue };
        let of_figure = |model: &Option<Values>| model.as_ref().and_then(|model| model.get(&name)).cloned();
        let models: Vec<Option<Vec<f64>>> = models.iter().map(of_figure).collect();
        if models.iter().all(Option::is_none) {
            continue;
        }
        let fits: Vec<Option<Fit>> =
            models.iter().map(|model| model.as_ref().map(|model| fits(real, model))).collect();
        for fit in fits.iter().flatten().filter(|fit| **fit != Fit::TooFewRuns) {
            tally.judged += 1;
            tally.inside += usize::from(*fit == Fit::Inside);
        }
        show(&set.id, &name, real, &models, &fits);
    }
}

fn head(backends: &[(Backend, &Seeds)]) {
    print!("{:<44} {:<42} {:>3} {:>9} {:>9}", "set", "figure", "n", "real p50", "p90");
    for (backend, _) in backends {
        print!("  {:>9} {:>9}  {:<8}", format!("{} p50", &backend.name()[..4]), "p90", "");
    }
    println!();
}

fn show(set: &str, figure: &str, real: &[f64], models: &[Option<Vec<f64>>], fits: &[Option<Fit>]) {
    print!("{set:<44.44} {figure:<42} {:>3} {:>9.3} {:>9.3}", real.len(), median(real), quantile(real, 900));
    let mut reasons = String::new();
    for (model, fit) in models.iter().zip(fits) {
        let Some((model, fit)) = model.as_ref().zip(fit.as_ref()) else {
            print!("  {:>9} {:>9}  {:<8}", "-", "-", "");
            continue;
        };
        let verdict = match fit {
            Fit::Inside => "inside",
            Fit::Outside(why) => {
                reasons = format!("{reasons}  {why}");
                "OUTSIDE"
            }
            Fit::TooFewRuns => "few runs",
        };
        print!("  {:>9.3} {:>9.3}  {verdict:<8}", median(model), quantile(model, 900));
    }
    println!("{reasons}");
}
