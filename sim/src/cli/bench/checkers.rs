//! The checkers, beside what Porcupine needs, and beside the runs that they judge.

use super::figure::{Bar, Table, median};
use super::{Args, Cli, Failure, speed};
use crate::run::{Detail, measure as judge, run};
use crate::scenario::Loaded;
use cpu_time::ThreadTime;
use firedrill_checkers::bench::Extent;
use std::io::Write;

/// Judging a run may take this share of the CPU time of run and judging together.
const SHARE_MAX: f64 = 20.0;

pub(super) fn measure<W: Write>(cli: &Cli, args: &Args, table: &mut Table<W>) -> Result<(), Failure> {
    table.heading(&format!(
        "judging as a share of a kernel run's CPU time, meter included (median of {} runs)",
        args.runs
    ))?;
    for name in speed::names() {
        let loaded = speed::one(cli, name)?;
        table.figure(name, share(&loaded, args.runs), "%", Bar::AtMost(SHARE_MAX))?;
    }
    table.heading("checkers")?;
    let extent = Extent { large: args.large, proof: args.proof, only: None };
    let met = firedrill_checkers::bench::run(&mut table.out, &extent)?;
    table.judged(met);
    Ok(())
}

/// Median over the seeds 1..=`runs`, in percent.
fn share(loaded: &Loaded, runs: u64) -> f64 {
    let one = |seed| {
        let began = ThreadTime::now();
        let outcome = run(&loaded.scenario, seed, &Detail::default());
        let ran = began.elapsed().as_secs_f64();
        judge(&loaded.scenario, &outcome.records);
        let both = began.elapsed().as_secs_f64();
        100.0 * (both - ran) / both
    };
    median((1..=runs).map(one).collect())
}
