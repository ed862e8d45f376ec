//! Writes a report of made-up runs, to look at or to measure:
//! `cargo run -p firedrill-reports --example sample_report [FILE [RUNS]]`.
//!
//! The runs go out to JSON lines and back first, as they do when a stored campaign is reported.

use firedrill_reports::compare::compare;
use firedrill_reports::json::{JsonLines, read_lines};
use firedrill_reports::result::RunLine;
use firedrill_reports::{Report, html::Html, human::Human, sample, text::Style};
use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "report.html".to_owned());
    let size = match arguments.next() {
        Some(runs) => sample::Size::Runs(runs.parse()?),
        None => sample::Size::Full,
    };
    let mut campaign = sample::campaign(size);
    let mut stored = Vec::new();
    JsonLines.write(&campaign, &mut stored)?;
    let now = read_lines(stored.as_slice())?.lines;
    campaign.comparison = Some(compare(&slower(&now), &now));
    let mut page = std::io::BufWriter::new(std::fs::File::create(&path)?);
    Html.write(&campaign, &mut page)?;
    page.flush()?;
    Human { style: Style::Plain }.write(&campaign, &mut std::io::stdout())?;
    Ok(())
}

/// A baseline in which every run of the first scenario took a little longer.
fn slower(lines: &[RunLine]) -> Vec<RunLine> {
    let mut lines = lines.to_vec();
    for line in lines.iter_mut().filter(|line| line.scenario == "sentinel/primary-crash") {
        if let Some(first) = &mut line.measurement.rto.first {
            first.ms += 300.0 + (line.seed.0 % 40) as f64 * 20.0;
        }
    }
    lines
}
