//! Simulated seconds per CPU-second, records kept and judged.

use super::figure::{Bar, Table, median};
use super::{Args, Cli, Failure};
use crate::backends::Backend;
use crate::campaign::{Job, line_of};
use crate::cli::select;
use crate::scenario::{Loaded, load_text};
use serde_json::{Value, json};
use std::io::Write;

/// One scenario of each system with its bar: four clients at 200 operations a second in total.
const SYSTEMS: [(&str, f64); 5] = [
    ("sentinel/primary-crash", 2_000.0),
    ("cluster/primary-killed", 1_500.0),
    ("memgraph/main-killed", 1_500.0),
    ("raft/leader-killed", f64::NAN),
    ("agent/primary-crash-sync", 1_000.0),
];

/// These scenarios' names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SYSTEMS.into_iter().map(|system| system.0)
}

/// The same cluster for ten minutes without faults, with one operation and one probe.
const IDLE: (&str, f64) = ("sentinel/primary-crash", 10_000.0);

/// The smallest system on turmoil, where a fixed tick costs most of the time.
const TURMOIL: (&str, f64) = ("sentinel/primary-crash", 80.0);

pub(super) fn measure<W: Write>(cli: &Cli, args: &Args, table: &mut Table<W>) -> Result<(), Failure> {
    table.heading(&format!("simulated seconds per CPU-second, judged (median of {} runs)", args.runs))?;
    if !args.scenario.is_empty() {
        for loaded in select::scenarios(cli, &args.scenario)? {
            let name = loaded.scenario.name.clone();
            table.figure(&name, rate(loaded, Backend::Kernel, args.runs), "x real time", Bar::None)?;
        }
        return Ok(());
    }
    for (name, bar) in SYSTEMS {
        let bar = if bar.is_nan() { Bar::None } else { Bar::AtLeast(bar) };
        let loaded = one(cli, name)?;
        table.figure(name, rate(loaded, Backend::Kernel, args.runs), "x real time", bar)?;
    }
    let idle = without_load(&one(cli, IDLE.0)?)?;
    let what = format!("{}, idle", IDLE.0);
    table.figure(&what, rate(idle, Backend::Kernel, args.runs), "x real time", Bar::AtLeast(IDLE.1))?;
    let what = format!("{}, on turmoil", TURMOIL.0);
    let turmoil = rate(one(cli, TURMOIL.0)?, Backend::Turmoil, args.runs.min(3));
    table.figure(&what, turmoil, "x real time", Bar::AtLeast(TURMOIL.1))?;
    Ok(())
}

/// The scenario of a name.
pub(super) fn one(cli: &Cli, name: &str) -> Result<Loaded, Failure> {
    Ok(select::scenarios(cli, &[name.to_owned()])?.remove(0))
}

/// Median of simulated seconds per CPU-second over the seeds 1..=`runs`.
pub(super) fn rate(loaded: Loaded, backend: Backend, runs: u64) -> f64 {
    let job = Job { loaded, seeds: Vec::new(), own_seeds: false, backend };
    let rates = (1..=runs).map(|seed| line_of(&job, seed));
    median(rates.map(|line| line.sim_seconds / line.cpu_seconds.unwrap_or(f64::NAN)).collect())
}

fn without_load(loaded: &Loaded) -> Result<Loaded, Failure> {
    let mut text: Value = serde_json::from_str(&loaded.text).expect("it was parsed before");
    text["workload"]["append"]["clients"] = json!(1);
    text["workload"]["append"]["rate"] = json!("0.001/s");
    text["probe"]["every"] = json!("1h");
    text["duration"] = json!("600s");
    text["faults"] = json!([]);
    text["expect"] = json!([]);
    Ok(load_text(&text.to_string(), &loaded.path)?)
}
