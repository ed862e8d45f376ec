//! Paired differences against a baseline: one dot a pair on an axis of "now less baseline", zero in view.

use super::{Drawing, Scale, round_step};
use crate::compare::MetricComparison;
use crate::text::{count, plural};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 86.0;
const LEFT: f64 = 10.0;
const RIGHT: f64 = 10.0;
const AXIS: f64 = 56.0;

/// Rows of dots above the axis; more dots at one place lie over each other.
const ROWS: usize = 6;

/// The strip of one metric.
pub fn pairs(id: &str, metric: &MetricComparison) -> String {
    let title = format!("Paired differences of {}", metric.metric);
    let words = format!(
        "{}: {} worse, {} better.",
        plural(metric.pairs, "pair"),
        count(metric.worse),
        count(metric.better)
    );
    let mut drawing = Drawing::new(id, &title, &words, WIDTH, HEIGHT);
    let low = metric.differences.iter().copied().fold(0.0, f64::min);
    let high = metric.differences.iter().copied().fold(0.0, f64::max);
    let margin = ((high - low) * 0.05).max(1.0);
    let scale = Scale::new((low - margin, high + margin), (LEFT, WIDTH - RIGHT));
    drawing.line("axis-line", (LEFT, AXIS), (WIDTH - RIGHT, AXIS));
    axis(&mut drawing, metric, &scale, (low, high));
    dots(&mut drawing, metric, &scale);
    drawing.line("target", (scale.at(0.0), 4.0), (scale.at(0.0), AXIS));
    drawing.text("note", LEFT, HEIGHT - 4.0, "◂ better");
    drawing.text("note end", WIDTH - RIGHT, HEIGHT - 4.0, "worse ▸");
    drawing.finish()
}

fn axis(drawing: &mut Drawing, metric: &MetricComparison, scale: &Scale, (low, high): (f64, f64)) {
    let step = round_step(high - low, 6);
    let first = (low / step).ceil() as i64;
    for i in (first..first + 12).map(|i| i as f64 * step).take_while(|tick| *tick <= high) {
        let sign = if i > 0.0 { "+" } else { "" };
        drawing.text("num mid", scale.at(i), AXIS + 16.0, &format!("{sign}{}", metric.show(i)));
    }
}

fn dots(drawing: &mut Drawing, metric: &MetricComparison, scale: &Scale) {
    let mut heights = std::collections::BTreeMap::new();
    for difference in &metric.differences {
        let x = scale.at(*difference);
        let row: &mut usize = heights.entry((x / 6.0) as i64).or_default();
        drawing.dot("pair", x, AXIS - 5.0 - (*row % ROWS) as f64 * 8.0, 3.0);
        *row += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_a_dot_and_zero_is_in_view() {
        let metric =
            MetricComparison { differences: vec![500.0, 700.0, 900.0], ..MetricComparison::default() };
        let svg = pairs("p", &metric);
        assert_eq!(svg.matches("class=\"pair\"").count(), 3);
        assert!(svg.contains("class=\"target\""));
    }
}
