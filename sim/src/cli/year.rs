//! `firedrill year`: what a year of the drilled failures gives, at an assumed rate of each, against an objective.

use super::{Cli, Exit, Failure, select};
use crate::run::{Detail, measure, run};
use crate::scenario::{Loaded, Seeds};
use firedrill_checkers::measure::Measurement;
use firedrill_checkers::slo::{Objective, YEAR, YearEstimate};

/// Arguments of `year`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Scenarios, each with the number of such failures a year if it is not that of --failures: `memgraph/main-killed=6`.
    #[arg(required = true, value_parser = rated)]
    names: Vec<Rated>,
    /// Failures a year of each scenario without a number of its own.
    #[arg(long, default_value_t = 12.0, value_name = "NUMBER")]
    failures: f64,
    /// Percent of the year in which writes must be served.
    #[arg(long, default_value_t = 99.99, value_name = "PERCENT")]
    objective: f64,
    /// Seeds instead of each scenario's own.
    #[arg(long)]
    seeds: Option<Seeds>,
}

/// A scenario and how often a year it happens.
#[derive(Clone, Debug, PartialEq)]
struct Rated {
    name: String,
    failures: Option<f64>,
}

fn rated(text: &str) -> Result<Rated, String> {
    let Some((name, number)) = text.rsplit_once('=') else {
        return Ok(Rated { name: text.to_owned(), failures: None });
    };
    let failures: f64 = number.parse().map_err(|e| format!("{number}: {e}"))?;
    if failures.is_finite() && failures >= 0.0 {
        Ok(Rated { name: name.to_owned(), failures: Some(failures) })
    } else {
        Err(format!("{number} failures a year"))
    }
}

/// Prints an estimate a scenario, their sum, and whether the objective allows it. Failures are taken not to overlap, and
/// to be like the drilled ones; nothing else is taken to fail. Exit 3: the objective is missed; 6: nothing was measured.
pub(super) fn main(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    let mut outage_s = 0.0;
    let mut best = false;
    for Rated { name, failures } in &args.names {
        for loaded in select::scenarios(cli, std::slice::from_ref(name))? {
            let name = &loaded.scenario.name;
            let runs = measured(&loaded, args.seeds.as_ref())?;
            let Some(estimate) = YearEstimate::new(&runs, failures.unwrap_or(args.failures)) else {
                println!("{name:<44} no recovery was measured");
                return Ok(Exit::Verdict(6));
            };
            println!("{name:<44} {}", estimate.words());
            outage_s += estimate.outage_s_per_year;
            best |= estimate.at_best;
        }
    }
    let good_per_million = (args.objective * 10_000.0).round().clamp(0.0, 1_000_000.0) as u32;
    let allowed_s = Objective { good_per_million, period: YEAR }.budget().0 as f64 / 1e6;
    let available = 100.0 * (1.0 - outage_s / (YEAR.0 as f64 / 1e6)).max(0.0);
    let holds = outage_s <= allowed_s && !best;
    let (bound, verdict) = (if best { " or more" } else { "" }, if holds { "holds" } else { "is missed" });
    println!(
        "together {:.1} min a year without writes{bound}, {available:.5} % available; {} % allows {:.1} min: it {verdict}",
        outage_s / 60.0,
        args.objective,
        allowed_s / 60.0
    );
    Ok(if holds { Exit::Holds } else { Exit::Verdict(3) })
}

fn measured(loaded: &Loaded, seeds: Option<&Seeds>) -> Result<Vec<Measurement>, Failure> {
    let scenario = &loaded.scenario;
    let seeds = seeds.unwrap_or(&scenario.seeds).list(0)?;
    let one = |seed: &u64| measure(scenario, &run(scenario, *seed, &Detail::default()).records);
    Ok(seeds.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_a_number() {
        let of = |name: &str, failures| Ok(Rated { name: name.to_owned(), failures });
        assert_eq!(rated("memgraph/main-killed"), of("memgraph/main-killed", None));
        assert_eq!(rated("memgraph/main-killed=0.5"), of("memgraph/main-killed", Some(0.5)));
        assert!(rated("memgraph/main-killed=-1").is_err() && rated("memgraph=often").is_err());
    }
}
