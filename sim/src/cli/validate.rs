//! `firedrill validate`: are these scenarios valid?

use super::{Cli, Exit, Failure, select};

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Scenarios, folders, files or patterns; none: all but the museum.
    names: Vec<String>,
    /// Print each scenario in its full form, defaults filled in.
    #[arg(long)]
    print: bool,
}

pub(super) fn main(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let loaded = select::scenarios(cli, &args.names)?;
    for scenario in &loaded {
        scenario.scenario.remedied()?;
        if args.print {
            println!("{}", serde_json::to_string_pretty(&scenario.scenario).expect("a scenario is JSON"));
        } else {
            println!("{}: valid", scenario.path);
            if let Some(warning) = crate::campaign::coarse_probe(&scenario.scenario) {
                eprintln!("{}: warning: {warning}", scenario.path);
            }
        }
    }
    Ok(Exit::Holds)
}
