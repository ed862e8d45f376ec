//! The small range of the overview: median, 99th percentile, maximum and target of one scenario, on an axis that all
//! rows share, so that the eye compares them.

use super::{Drawing, Scale};
use crate::headline::over_target;
use crate::result::RtoSummary;
use crate::text::{ms, percentile, percentile_label};

const WIDTH: f64 = 190.0;
const HEIGHT: f64 = 22.0;
const MIDDLE: f64 = 11.0;

/// The largest figure of all rows, which ends the shared axis.
pub fn axis_end<'a>(all: impl Iterator<Item = &'a RtoSummary>) -> f64 {
    let figures = all.flat_map(|rto| [rto.max, rto.p99, rto.target]);
    figures.flatten().filter(|value| value.is_finite()).fold(1.0, f64::max)
}

/// The range of one scenario.
pub fn range(id: &str, rto: &RtoSummary, end: f64) -> String {
    let scale = Scale::new((0.0, end), (4.0, WIDTH - 8.0));
    let p99 = percentile_label(99, rto.samples);
    let words = format!("p50 {}, {p99} {}.", percentile(rto, "p50"), percentile(rto, "p99"));
    let mut drawing = Drawing::new(id, "Recovery time", &words, WIDTH, HEIGHT);
    drawing.line("grid", (4.0, MIDDLE), (WIDTH - 8.0, MIDDLE));
    if rto.samples > 0 {
        bar(&mut drawing, rto, &scale);
    }
    if let Some(target) = rto.target {
        let x = scale.at(target);
        drawing.line("target", (x, 1.0), (x, HEIGHT - 1.0));
        drawing.describe(&format!(
            "Target {}{}.",
            ms(target),
            if over_target(rto) { ", missed" } else { "" }
        ));
    }
    drawing.finish()
}

fn bar(drawing: &mut Drawing, rto: &RtoSummary, scale: &Scale) {
    let (start, p99) = (scale.at(rto.p50.unwrap_or(0.0)), scale.at(rto.p99.unwrap_or(0.0)));
    drawing.rect("bar", start, MIDDLE - 4.0, p99 - start, 8.0);
    if rto.censored == 0 {
        drawing.line("whisker", (p99, MIDDLE), (scale.at(rto.max.unwrap_or(0.0)), MIDDLE));
    } else {
        // An arrow to the right: some runs never recovered, the maximum is not known.
        let (tip, back) = (WIDTH - 1.0, WIDTH - 9.0);
        drawing.line("whisker", (p99, MIDDLE), (tip, MIDDLE));
        drawing.line("whisker", (back, MIDDLE - 5.0), (tip, MIDDLE));
        drawing.line("whisker", (back, MIDDLE + 5.0), (tip, MIDDLE));
    }
    drawing.dot("point", start, MIDDLE, 3.5);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_without_maximum_ends_in_an_arrow() {
        let open = RtoSummary { samples: 9, p50: Some(5.0), censored: 1, ..RtoSummary::default() };
        let closed = RtoSummary { max: Some(60.0), p99: Some(50.0), censored: 0, ..open.clone() };
        let arrows = |rto: &RtoSummary| range("r", rto, 70.0).matches("whisker").count();
        assert_eq!((arrows(&open), arrows(&closed)), (3, 1));
    }

    #[test]
    fn the_axis_holds_every_figure_and_ignores_what_is_none() {
        let rto =
            RtoSummary { p99: Some(5.0), target: Some(12.0), max: Some(f64::NAN), ..RtoSummary::default() };
        assert_eq!(axis_end([&rto].into_iter()), 12.0);
    }
}
