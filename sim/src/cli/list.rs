//! `firedrill list`: the scenarios by name.

use super::{Cli, Exit, Failure, select};
use serde::Serialize;

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Scenarios, folders or patterns; none: all but the museum.
    names: Vec<String>,
    /// Plain text instead of JSON.
    #[arg(long)]
    plain: bool,
    /// The words that faults can name targets by.
    #[arg(long)]
    words: bool,
    /// The metrics that expectations can name.
    #[arg(long)]
    metrics: bool,
}

#[derive(Serialize)]
struct Listing {
    scenarios: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    path: String,
    system: String,
    tags: Vec<String>,
    story: String,
}

pub(super) fn main(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    if args.words {
        for (word, meaning) in crate::view::WORDS {
            println!("{word:<12} {meaning}");
        }
        return Ok(Exit::Holds);
    }
    if args.metrics {
        for metric in firedrill_checkers::expect::registry::METRICS {
            println!("{:<34} {}", metric.name, metric.meaning);
        }
        return Ok(Exit::Holds);
    }
    let scenarios = select::scenarios(cli, &args.names)?.into_iter().map(|loaded| Entry {
        name: loaded.scenario.name,
        path: loaded.path,
        system: loaded.scenario.system.name().to_owned(),
        tags: loaded.scenario.tags,
        story: loaded.scenario.story,
    });
    let listing = Listing { scenarios: scenarios.collect() };
    if args.plain {
        for entry in &listing.scenarios {
            println!("{:<44} {}", entry.name, entry.story);
        }
    } else {
        println!("{}", serde_json::to_string_pretty(&listing).expect("a listing is JSON"));
    }
    Ok(Exit::Holds)
}
