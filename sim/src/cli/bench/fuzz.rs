//! Damaged input for every parser that reads what others wrote. A parser that panics ends the program.

use super::Failure;
use super::figure::{Bar, Table};
use crate::fuzz::{TARGETS, feed};
use std::io::Write;

pub(super) fn measure<W: Write>(inputs: u64, table: &mut Table<W>) -> Result<(), Failure> {
    table.heading(&format!("damaged inputs, {inputs} for each parser; the rest was refused"))?;
    for target in TARGETS {
        let accepted = feed(target, inputs, 1);
        table.figure(target.name, accepted as f64, "accepted", Bar::None)?;
    }
    Ok(())
}
