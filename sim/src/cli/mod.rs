//! The `firedrill` program: one file a command.

mod bench;
mod calibrate;
mod check;
mod completions;
mod doctor;
mod exit;
mod list;
mod log;
mod museum;
mod node;
mod replay;
mod report;
mod run;
mod select;
mod validate;
mod year;

pub use exit::{Exit, Failure};

use clap::{Parser, Subcommand};

/// Deterministic simulation testbed for high-availability protocols.
///
/// Drills failover code: runs scenarios over many seeds, measures recovery time by phase, lost writes and split-brain
/// as clients saw them, and replays any run by its seed.
#[derive(Debug, Parser)]
#[command(name = "firedrill", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    /// Folder of the scenarios that are named without a path.
    #[arg(long, global = true, env = "FIREDRILL_SCENARIOS", default_value = "scenarios", value_name = "DIR")]
    scenarios: std::path::PathBuf,
    /// Log on stderr, by simulated time and node: -v what nodes announce and faults, -vv what nodes note, -vvv messages.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  firedrill run                                      every scenario, its own seeds
  firedrill run sentinel --seeds 1..1000 --out out   one folder, more seeds, reports in out/
  firedrill replay sentinel/primary-crash --seed 17  the story of one run
  firedrill check history.jsonl --model register     judge a recorded history
Exit codes: 0 holds, 1 safety, 2 usage, 3 target missed, 4 no progress, 5 nondeterminism, 6 inconclusive, 7 regression,
  8 canary not caught, 9 nothing selected, 65 bad scenario or history, 66 missing input, 70 internal, 74 I/O, 130 interrupted";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios over seeds and judge them.
    Run(run::Args),
    /// Run one seed (or a capsule) again and tell its story.
    Replay(replay::Args),
    /// Write the reports of a stored campaign.
    Report(report::Args),
    /// Judge a recorded history: own, Jepsen and Porcupine formats.
    Check(check::Args),
    /// Name the scenarios.
    List(list::Args),
    /// Check scenario files.
    Validate(validate::Args),
    /// Print the JSON schema of scenario files.
    Schema,
    /// Prove the testbed itself: determinism, conformance, canary.
    Doctor(doctor::Args),
    /// Run the museum: every historical bug is caught, and clean with its remedy.
    Museum(museum::Args),
    /// Compare the model with measured failovers of real servers.
    Calibrate(calibrate::Args),
    /// Measure every promised number, beside its bar.
    Bench(bench::Args),
    /// Estimate a year's availability from the outages that scenarios show.
    Year(year::Args),
    /// Be a node: a data node or a sentinel on real sockets.
    Node(node::Args),
    /// Print completions for a shell.
    Completions(completions::Args),
}

/// Write a file that the user named.
fn write(path: &std::path::Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|source| Failure::Unwritable { path: path.to_owned(), source })
}

/// Run the program; its exit code.
pub fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    log::begin(cli.verbose);
    let result = match &cli.command {
        Command::Run(args) => run::main(&cli, args),
        Command::Replay(args) => replay::main(&cli, args),
        Command::Report(args) => report::main(args),
        Command::Check(args) => check::main(args),
        Command::List(args) => list::main(&cli, args),
        Command::Validate(args) => validate::main(&cli, args),
        Command::Schema => {
            print!("{}", crate::scenario::schema());
            Ok(Exit::Holds)
        }
        Command::Doctor(args) => doctor::main(&cli, args),
        Command::Museum(args) => museum::main(&cli, args),
        Command::Calibrate(args) => calibrate::main(&cli, args),
        Command::Bench(args) => bench::main(&cli, args),
        Command::Year(args) => year::main(&cli, args),
        Command::Node(args) => node::main(&cli, args),
        Command::Completions(args) => completions::main(args),
    };
    let code = match result {
        Ok(exit) => exit.code(),
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit().code()
        }
    };
    std::process::ExitCode::from(code)
}
