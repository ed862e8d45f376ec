//! Phase bars: for each phase of recovery its median as a thick bar and its 99th percentile as a thin one.

use super::{Drawing, Scale, round_ticks};
use crate::result::PhasesSummary;
use crate::text::{ms, ms_or, percent, percentile_label};

const WIDTH: f64 = 560.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 168.0;
const ROW: f64 = 34.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 26.0;

/// The bars; phases that the protocol lacks keep their row and say so.
pub fn phases(id: &str, name: &str, phases: &PhasesSummary, samples: u64) -> String {
    let rows = phases.named();
    let highest = rows.iter().filter_map(|(_, _, p)| p.and_then(|p| p.p99)).fold(0.0, f64::max);
    let ticks = round_ticks(highest, 4);
    let scale = Scale::new((0.0, ticks.last().copied().unwrap_or(1.0)), (LEFT, WIDTH - RIGHT));
    let height = TOP + BOTTOM + ROW * rows.len() as f64;
    let title = format!("Phases of recovery of {name}");
    let mut drawing = Drawing::new(id, &title, "Median and 99th percentile of each phase.", WIDTH, height);
    for tick in &ticks {
        let x = scale.at(*tick);
        drawing.line("grid", (x, TOP), (x, height - BOTTOM));
        drawing.text("num mid", x, height - 8.0, &ms(*tick));
    }
    let p99 = percentile_label(99, samples);
    for (i, (phase, meaning, figures)) in rows.into_iter().enumerate() {
        let y = TOP + ROW * i as f64;
        drawing.text("label end", LEFT - 8.0, y + 20.0, phase);
        let Some(figures) = figures else {
            drawing.text("note", LEFT + 6.0, y + 20.0, "no such phase measured");
            continue;
        };
        let width = |value: Option<f64>| value.map_or(0.0, |v| scale.at(v) - LEFT);
        let tail = width(figures.p99);
        drawing.rect_titled("bar-tail", (LEFT, y + 13.0), (tail, 8.0), &format!("{meaning}: {p99}"));
        drawing.rect_titled(
            "bar",
            (LEFT, y + 6.0),
            (width(figures.p50), 22.0),
            &format!("{meaning}: median"),
        );
        drawing.line("bar-end", (LEFT + tail, y + 8.0), (LEFT + tail, y + 26.0));
        let share = figures.share.map_or(String::new(), |share| format!(" · {}", percent(share)));
        let words = format!("{} / {}{share}", ms_or(figures.p50), ms_or(figures.p99));
        drawing.text("label", WIDTH - RIGHT + 10.0, y + 20.0, &words);
        drawing.describe(&format!(
            "{phase}: median {}, {p99} {}{share}.",
            ms_or(figures.p50),
            ms_or(figures.p99)
        ));
    }
    drawing.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::PhaseSummary;

    #[test]
    fn a_phase_that_nobody_measured_has_no_bar() {
        let detect = Some(PhaseSummary { p50: Some(5_000.0), p99: Some(6_000.0), share: Some(1.0) });
        let svg = phases("p", "s", &PhasesSummary { detect, ..PhasesSummary::default() }, 300);
        assert_eq!(svg.matches("class=\"bar\"").count(), 1);
        assert_eq!(svg.matches("no such phase measured").count(), 4);
        assert!(svg.contains("detect: median 5.00 s, p99 6.00 s · 100 %."), "{svg}");
    }
}
