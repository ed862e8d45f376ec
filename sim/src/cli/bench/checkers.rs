//! The checkers, beside what Porcupine needs.

use super::figure::Table;
use super::{Args, Failure};
use firedrill_checkers::bench::Extent;
use std::io::Write;

pub(super) fn measure<W: Write>(args: &Args, table: &mut Table<W>) -> Result<(), Failure> {
    table.heading("checkers")?;
    let extent = Extent { large: args.large, proof: args.proof, only: None };
    let met = firedrill_checkers::bench::run(&mut table.out, &extent)?;
    table.judged(met);
    Ok(())
}
