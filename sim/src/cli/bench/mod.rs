//! `firedrill bench`: every number the project promises, measured here and now beside its bar. One file a section.

mod backups;
mod checkers;
mod figure;
mod fuzz;
mod gossip;
mod memory;
mod node;
mod reports;
mod speed;
mod tls;

use super::{Cli, Exit, Failure};
use clap::ValueEnum;
use figure::Table;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to measure; none: everything.
    #[arg(value_enum)]
    sections: Vec<Section>,
    /// Runs of each figure of `speed`, of which the median counts.
    #[arg(long, default_value_t = 9)]
    runs: u64,
    /// `speed`: these scenarios in place of one a system.
    #[arg(long, value_name = "SCENARIO")]
    scenario: Vec<String>,
    /// `checkers`: histories of 10^7 operations too.
    #[arg(long)]
    large: bool,
    /// `checkers`: this many random small histories of each kind against the definition.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    proof: u64,
    /// `fuzz`: inputs for each parser.
    #[arg(long, default_value_t = 1_000_000, value_name = "COUNT")]
    inputs: u64,
}

/// A group of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// Simulated seconds per CPU-second: each system under load, judged, and an idle one.
    Speed,
    /// Peak memory of a thousand runs.
    Memory,
    /// A report over twenty thousand stored runs.
    Reports,
    /// The cluster bus: speed and memory from 6 to 200 nodes.
    Gossip,
    /// The checkers beside Porcupine.
    Checkers,
    /// A restore drill over a long chain, and a year of nightly backups.
    Backups,
    /// What peers can make a node of real sockets keep.
    Node,
    /// What TLS costs a connection and a failover.
    Tls,
    /// Damaged input for every parser.
    Fuzz,
}

pub(super) fn main(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let sections = if args.sections.is_empty() { Section::value_variants() } else { &args.sections };
    let mut table = Table::new(std::io::stdout());
    for section in sections {
        match section {
            Section::Speed => speed::measure(cli, args, &mut table)?,
            Section::Memory => memory::measure(cli, &mut table)?,
            Section::Reports => reports::measure(cli, &mut table)?,
            Section::Gossip => gossip::measure(cli, &mut table)?,
            Section::Checkers => checkers::measure(cli, args, &mut table)?,
            Section::Backups => backups::measure(&mut table)?,
            Section::Node => node::measure(&mut table)?,
            Section::Tls => tls::measure(cli, &mut table)?,
            Section::Fuzz => fuzz::measure(args.inputs, &mut table)?,
        }
    }
    Ok(if table.met() { Exit::Holds } else { Exit::Verdict(3) })
}
