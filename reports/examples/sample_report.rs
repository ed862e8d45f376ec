//! Writes a report of made-up runs, to look at: `cargo run -p firedrill-reports --example sample_report [FILE]`.

use firedrill_reports::compare::compare;
use firedrill_reports::result::RunLine;
use firedrill_reports::{Report, html::Html, human::Human, sample, text::Style};
use std::io::Write;

fn main() -> std::io::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "report.html".to_owned());
    let mut campaign = sample::campaign(sample::Size::Full);
    let now: Vec<RunLine> = campaign.scenarios.iter().flat_map(|s| s.lines.clone()).collect();
    campaign.comparison = Some(compare(&slower(&now), &now));
    let mut page = std::io::BufWriter::new(std::fs::File::create(&path)?);
    Html.write(&campaign, &mut page)?;
    page.flush()?;
    Human { style: Style::Plain }.write(&campaign, &mut std::io::stdout())
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
