//! Backups: a long chain restored and compared, and a year of nights.

use super::Failure;
use super::figure::{Bar, Table, median};
use firedrill_protocols::agent::backup::Level;
use firedrill_protocols::agent::backup::rehearsal::{Chain, year};
use std::io::Write;

const CHANGES: u64 = 100_000;
const LINKS: u32 = 20;
const REPEATS: u64 = 5;

pub(super) fn measure<W: Write>(table: &mut Table<W>) -> Result<(), Failure> {
    table.heading("backups")?;
    let drills: Vec<f64> = (1..=REPEATS).map(drill).collect();
    let what = format!("restore drill, {CHANGES} changes, chain of {LINKS}, compared");
    table.figure(&what, median(drills), "s of CPU", Bar::AtMost(1.0))?;
    let began = cpu_time::ThreadTime::now();
    let result = year(1);
    let seconds = began.elapsed().as_secs_f64();
    let what = format!(
        "a year of nights: {} resumed, {} rotten, {} proved, {} refused",
        result.resumed, result.rotten, result.proved, result.refused
    );
    table.figure(&what, seconds, "s of CPU", Bar::AtMost(10.0))?;
    table.figure("points restored to something wrong", f64::from(result.wrong), "", Bar::AtMost(0.0))?;
    Ok(())
}

/// Seconds of one drill: restore and proof, without the making of the chain. Not a number if it proves nothing.
fn drill(seed: u64) -> f64 {
    let chain = Chain::of(CHANGES, LINKS, seed);
    let began = cpu_time::ThreadTime::now();
    let level = chain.prove();
    let seconds = began.elapsed().as_secs_f64();
    if level == Ok(Level::Compared) { seconds } else { f64::NAN }
}
