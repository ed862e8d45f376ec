//! How long a report over many stored runs takes: reading, judging again, and the page.

use super::figure::{Bar, Table};
use super::{Cli, Failure};
use crate::backends::Backend;
use crate::campaign::{Job, Store, line_of};
use crate::cli::{report, run::Format};
use firedrill_reports::result::{RunLine, Seed};
use std::io::Write;

const RUNS: u64 = 20_000;
const SECONDS: f64 = 5.0;
const SCENARIO: &str = "sentinel/primary-crash";

pub(super) fn measure<W: Write>(cli: &Cli, table: &mut Table<W>) -> Result<(), Failure> {
    table.heading("reports")?;
    let folder = std::env::temp_dir().join(format!("firedrill-bench-{}", std::process::id()));
    let measured = store_runs(cli, &folder).and_then(|()| make_report(&folder));
    std::fs::remove_dir_all(&folder)?;
    let what = format!("{RUNS} stored runs to a page");
    table.figure(&what, measured?, "s of CPU", Bar::AtMost(SECONDS))?;
    Ok(())
}

/// A folder as a campaign leaves it. A few runs are made, and stored again under other seeds.
fn store_runs(cli: &Cli, folder: &std::path::Path) -> Result<(), Failure> {
    let loaded = super::speed::one(cli, SCENARIO)?;
    let job = Job { loaded, seeds: (1..=RUNS).collect(), own_seeds: false, backend: Backend::Kernel };
    let made: Vec<RunLine> = (1..=10).map(|seed| line_of(&job, seed)).collect();
    let (mut store, _) = Store::open(folder, std::slice::from_ref(&job), false)?;
    for seed in 1..=RUNS {
        store.append(&RunLine { seed: Seed(seed), ..made[seed as usize % made.len()].clone() })?;
    }
    Ok(())
}

fn make_report(folder: &std::path::Path) -> Result<f64, Failure> {
    let began = cpu_time::ThreadTime::now();
    let campaign = report::stored_campaign(folder)?;
    let read: usize = campaign.scenarios.iter().map(|scenario| scenario.lines.len()).sum();
    if read as u64 != RUNS {
        return Err(Failure::BadInput(format!("{read} of {RUNS} stored runs were read back")));
    }
    Format::Html.write(&campaign, &mut std::io::sink())?;
    Ok(began.elapsed().as_secs_f64())
}
