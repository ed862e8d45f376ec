//! `firedrill completions`: for the user's shell.

use super::{Cli, Exit, Failure};
use clap::CommandFactory;
use clap_complete::Shell;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which shell.
    shell: Shell,
}

pub(super) fn main(args: &Args) -> Result<Exit, Failure> {
    clap_complete::generate(args.shell, &mut Cli::command(), "firedrill", &mut std::io::stdout());
    Ok(Exit::Holds)
}
