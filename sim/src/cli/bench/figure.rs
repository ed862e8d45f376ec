//! A measured figure beside its bar.

use std::io::{self, Write};

/// What a figure must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bar {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
    /// Nothing is promised.
    None,
}

impl Bar {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Bar::AtLeast(bar) => value >= bar,
            Bar::AtMost(bar) => value <= bar,
            Bar::None => true,
        }
    }

    fn text(self) -> String {
        match self {
            Bar::AtLeast(bar) => format!(">= {bar}"),
            Bar::AtMost(bar) => format!("<= {bar}"),
            Bar::None => String::new(),
        }
    }
}

/// Prints figures as they come, and knows whether every bar was met.
pub(super) struct Table<W> {
    pub(super) out: W,
    met: bool,
}

impl<W: Write> Table<W> {
    pub(super) fn new(out: W) -> Self {
        Table { out, met: true }
    }

    /// Begin a section.
    pub(super) fn heading(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "\n{text}")
    }

    /// Print one figure. A figure that is not a number misses its bar.
    pub(super) fn figure(&mut self, what: &str, value: f64, unit: &str, bar: Bar) -> io::Result<()> {
        let met = bar.is_met_by(value);
        self.met &= met;
        let word = match (bar, met) {
            (Bar::None, _) => "",
            (_, true) => "met",
            (_, false) => "MISSED",
        };
        let shown = if value.abs() < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") };
        let line = format!("  {what:<52} {shown:>9} {unit:<12} {:<9} {word}", bar.text());
        writeln!(self.out, "{}", line.trim_end())?;
        self.out.flush()
    }

    /// A section that prints its own table says whether it met its bars.
    pub(super) fn judged(&mut self, met: bool) {
        self.met &= met;
    }

    /// Whether every bar was met.
    pub(super) fn met(&self) -> bool {
        self.met
    }
}

/// The middle of some values; not a number if there are none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_bar_is_said_and_kept() {
        let mut table = Table::new(Vec::new());
        table.figure("fast", 12.0, "x", Bar::AtLeast(10.0)).unwrap();
        assert!(table.met());
        table.figure("heavy", 12.0, "MiB", Bar::AtMost(10.0)).unwrap();
        assert!(!table.met());
        assert!(String::from_utf8(table.out).unwrap().ends_with("<= 10     MISSED\n"));
    }

    #[test]
    fn no_number_meets_no_bar() {
        let mut table = Table::new(Vec::new());
        table.figure("nothing measured", median(Vec::new()), "x", Bar::AtLeast(0.0)).unwrap();
        assert!(!table.met());
    }
}
