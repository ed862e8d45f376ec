//! `firedrill bench`: how fast is it?

use super::{Cli, Exit, Failure, select};
use crate::backends::Backend;
use crate::campaign::{Job, line_of};
use firedrill_checkers::bench::Extent;
use std::io::Write;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Scenarios to time; none: one of each system.
    names: Vec<String>,
    /// Runs of each, of which the median counts.
    #[arg(long, default_value_t = 9)]
    runs: u64,
    /// The checkers instead, beside what Porcupine needs.
    #[arg(long)]
    checkers: bool,
    /// With `--checkers`: histories of 10^7 operations too.
    #[arg(long, requires = "checkers")]
    large: bool,
    /// With `--checkers`: this many random small histories of each kind against the definition.
    #[arg(long, requires = "checkers", default_value_t = 0, value_name = "COUNT")]
    proof: u64,
}

pub(super) fn main(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let mut out = std::io::stdout().lock();
    if args.checkers {
        let extent = Extent { large: args.large, proof: args.proof, only: None };
        let met = firedrill_checkers::bench::run(&mut out, &extent)?;
        return Ok(if met { Exit::Holds } else { Exit::Verdict(3) });
    }
    writeln!(out, "simulated seconds per CPU-second, judged (median of {} runs)", args.runs)?;
    for loaded in select::scenarios(cli, &args.names)? {
        let job = Job { loaded, seeds: Vec::new(), own_seeds: false, backend: Backend::Kernel };
        let mut rates: Vec<f64> = (1..=args.runs)
            .map(|seed| line_of(&job, seed))
            .map(|line| line.sim_seconds / line.cpu_seconds.unwrap_or(f64::NAN))
            .collect();
        rates.sort_by(f64::total_cmp);
        writeln!(out, "{:<48} {:>9.0}", job.loaded.scenario.name, rates[rates.len() / 2])?;
    }
    Ok(Exit::Holds)
}
