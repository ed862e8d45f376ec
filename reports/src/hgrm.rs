//! HdrHistogram percentile text (`.hgrm`): what the plotters of latency people read.

use crate::Report;
use crate::result::{Campaign, ScenarioResult};
use crate::summarise::recovery_times;
use hdrhistogram::Histogram;
use std::io;

/// Longest recovery time a histogram holds: a day in microseconds. Longer ones count as a day.
const LONGEST_US: u64 = 24 * 3_600 * 1_000_000;

/// Three digits: an error below one in a thousand.
const DIGITS: u8 = 3;

/// Steps per halving of what is left to 100 %, as the original tools print.
const TICKS_PER_HALF: u32 = 5;

/// The recovery times of all scenarios, one block after the other. Plotters want one series a file: write those with
/// [`write_scenario`].
pub struct Hgrm;

impl Report for Hgrm {
    fn write(&self, campaign: &Campaign, out: &mut dyn io::Write) -> io::Result<()> {
        for scenario in &campaign.scenarios {
            let name = crate::text::printable(&scenario.summary.name);
            writeln!(
                out,
                "#[Scenario = {name}, backend = {}]",
                crate::text::printable(&scenario.summary.backend)
            )?;
            write_scenario(scenario, out)?;
            writeln!(out)?;
        }
        Ok(())
    }
}

/// Recovery times in microseconds of every run that is not inert. A run that never recovered is entered with the
/// time it was watched and counted in `censored`: its true time is longer.
pub fn recovery_histogram(scenario: &ScenarioResult) -> (Histogram<u64>, u64) {
    let lines = scenario.lines.iter().filter(|line| !line.inert);
    let times = recovery_times(lines.map(|line| &line.measurement));
    let values: Vec<f64> = times.sorted().iter().map(|time| time.value).collect();
    (histogram_of(&values), times.censored() as u64)
}

/// A histogram, in microseconds, of times in milliseconds.
pub fn histogram_of(times_ms: &[f64]) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, LONGEST_US, DIGITS)
        .expect("the bounds and digits are constants within its limits");
    for time in times_ms {
        // Saturating: what is longer than the histogram holds is entered as the longest it holds.
        histogram.saturating_record((time * 1_000.0).round() as u64);
    }
    histogram
}

/// Writes one scenario's recovery times in milliseconds.
///
/// # Errors
/// Those of `out`.
pub fn write_scenario(scenario: &ScenarioResult, out: &mut dyn io::Write) -> io::Result<()> {
    let (histogram, censored) = recovery_histogram(scenario);
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / 1_000.0, step.quantile_iterated_to());
        if quantile < 1.0 {
            writeln!(out, "{value:>12.3} {quantile:>14.12} {total:>10} {:>14.2}", 1.0 / (1.0 - quantile))?;
        } else {
            writeln!(out, "{value:>12.3} {quantile:>14.12} {total:>10}")?;
        }
    }
    let (mean, deviation) = (histogram.mean() / 1_000.0, histogram.stdev() / 1_000.0);
    writeln!(out, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]")?;
    let max = histogram.max() as f64 / 1_000.0;
    writeln!(out, "#[Max     = {max:>12.3}, Total count    = {:>12}]", histogram.len())?;
    writeln!(out, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", histogram.buckets(), 2048)?;
    if censored > 0 {
        writeln!(
            out,
            "#[Censored = {censored}: runs that never recovered, entered with the time they were watched]"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn the_last_line_of_the_table_holds_every_run_and_the_maximum() {
        let campaign = sample::campaign(sample::Size::Small);
        let scenario = &campaign.scenarios[0];
        let mut out = Vec::new();
        write_scenario(scenario, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let last = text.lines().rfind(|l| !l.starts_with('#')).unwrap();
        let cells: Vec<&str> = last.split_whitespace().collect();
        assert_eq!(cells[1..], ["1.000000000000", &scenario.summary.rto_ms.samples.to_string()]);
        let max: f64 = cells[0].parse().unwrap();
        let true_max = scenario.summary.rto_ms.max.unwrap();
        assert!((max - true_max).abs() / true_max < 0.001, "{max} {true_max}");
    }

    #[test]
    fn a_scenario_without_runs_is_an_empty_table() {
        let mut out = Vec::new();
        write_scenario(&ScenarioResult::default(), &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("Total count    =            0"));
    }
}
