//! The distribution of recovery times as a percentile curve: the axis stretches towards 100 %, so that the tail, which
//! is what a target is about, gets the room.

use super::{Drawing, Scale, round_ticks, unit};
use crate::hgrm::histogram_of;
use crate::text::{count, ms, percentile_label, plural};
use firedrill_checkers::stats::{Distribution, Sample};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 44.0;

/// Steps per halving of what is left to 100 %; bounds the number of points whatever the number of runs.
const TICKS_PER_HALF: u32 = 16;

/// The curve, with the target as a line and runs that never recovered as a hatched end.
pub fn distribution(id: &str, name: &str, times: &Distribution, target: Option<f64>) -> String {
    let known: Vec<f64> = times.sorted().iter().filter(|s| !s.censored).map(|s| s.value).collect();
    let mut chart = Chart::new(id, name, times, target);
    chart.axes();
    if !times.is_empty() {
        chart.curve(&known);
        chart.censored(times, known.len());
        chart.points(times);
    }
    chart.target(target);
    chart.drawing.finish()
}

struct Chart {
    drawing: Drawing,
    x: Scale,
    y: Scale,
    ticks: Vec<f64>,
    samples: usize,
}

/// How far along the axis a share of the runs lies: the logarithm of 1/(1 - share).
fn stretch(share: f64) -> f64 {
    -(1.0 - share).max(1e-9).log10()
}

impl Chart {
    fn new(id: &str, name: &str, times: &Distribution, target: Option<f64>) -> Chart {
        let samples = times.len();
        let highest = times.sorted().iter().map(|s| s.value).fold(target.unwrap_or(0.0), f64::max);
        let ticks = round_ticks(highest, 5);
        let top = ticks.last().copied().unwrap_or(1.0);
        let title = format!("Distribution of the recovery time of {name}");
        let mut drawing =
            Drawing::new(id, &title, &format!("{}.", plural(samples as u64, "run")), WIDTH, HEIGHT);
        for per_mille in [500, 900, 990] {
            if let Some(q) = times.quantile(per_mille) {
                let more = if q.censored { "more than " } else { "" };
                let label = percentile_label(per_mille / 10, samples as u64);
                drawing.describe(&format!("{label} {more}{}.", ms(q.value)));
            }
        }
        // Half a run beyond the last one, so that the maximum has a place on the axis.
        let end = stretch(1.0 - 0.5 / samples.max(5) as f64);
        Chart {
            drawing,
            x: Scale::new((0.0, end), (LEFT, WIDTH - RIGHT)),
            y: Scale::new((0.0, top), (HEIGHT - BOTTOM, TOP)),
            ticks,
            samples,
        }
    }

    fn axes(&mut self) {
        for tick in self.ticks.clone() {
            let y = self.y.at(tick);
            self.drawing.line("grid", (LEFT, y), (WIDTH - RIGHT, y));
            self.drawing.text("num end", LEFT - 6.0, y + 4.0, &ms(tick));
        }
        let named = [
            (0.0, "0 %"),
            (0.5, "50 %"),
            (0.9, "90 %"),
            (0.99, "99 %"),
            (0.999, "99.9 %"),
            (0.9999, "99.99 %"),
        ];
        let last = 1.0 - 0.5 / self.samples.max(5) as f64;
        for (share, label) in named.into_iter().filter(|(share, _)| *share <= last) {
            let x = self.x.at(stretch(share));
            self.drawing.line("grid", (x, TOP), (x, HEIGHT - BOTTOM));
            self.drawing.text("num mid", x, HEIGHT - BOTTOM + 16.0, label);
        }
        let (middle, foot) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 8.0);
        self.drawing.text("axis mid", middle, foot, "share of runs that recovered within the time shown");
    }

    fn curve(&mut self, known: &[f64]) {
        let histogram = histogram_of(known);
        let part = known.len() as f64 / self.samples as f64;
        let last = 1.0 - 0.5 / self.samples.max(5) as f64;
        let mut commands = String::new();
        for step in histogram.iter_quantiles(TICKS_PER_HALF) {
            let share = (step.quantile_iterated_to() * part).min(last);
            let value = step.value_iterated_to() as f64 / 1_000.0;
            commands.push(if commands.is_empty() { 'M' } else { 'L' });
            commands.push_str(&format!("{} {}", unit(self.x.at(stretch(share))), unit(self.y.at(value))));
        }
        self.drawing.path("curve", &commands);
    }

    fn censored(&mut self, times: &Distribution, known: usize) {
        let censored = times.censored() as u64;
        if censored == 0 {
            return;
        }
        let x = self.x.at(stretch(known as f64 / self.samples as f64));
        let (width, height) = (WIDTH - RIGHT - x, HEIGHT - BOTTOM - TOP);
        let words = format!("{} never recovered", plural(censored, "run"));
        self.drawing.rect_titled("hatch-never", (x, TOP), (width, height), &words);
        self.drawing.text("note end", WIDTH - RIGHT - 4.0, TOP + 14.0, &words);
        self.drawing.describe(&format!("{words}."));
    }

    fn points(&mut self, times: &Distribution) {
        let last = 1.0 - 0.5 / self.samples.max(5) as f64;
        let marked = [(0.5, times.quantile(500).map(|q| q.value), "p50".to_owned(), false)];
        let end = times.max().filter(|s| !s.censored).map(|s| s.value);
        let p99 = times.quantile(990).filter(|q| !q.censored && q.maximum_of.is_none()).map(|q| q.value);
        let tail = [
            (0.99, p99, "p99".to_owned(), true),
            (last, end, format!("max of {}", count(self.samples as u64)), true),
        ];
        for (share, value, label, left) in marked.into_iter().chain(tail) {
            let Some(value) = value else { continue };
            let (x, y) = (self.x.at(stretch(share)), self.y.at(value));
            self.drawing.dot("point", x, y, 3.5);
            let (class, dx) = if left { ("label end", -7.0) } else { ("label", 7.0) };
            let dy = if left { -7.0 } else { 16.0 };
            self.drawing.text(class, x + dx, y + dy, &format!("{label} {}", ms(value)));
        }
    }

    fn target(&mut self, target: Option<f64>) {
        let Some(target) = target else { return };
        let y = self.y.at(target);
        self.drawing.line("target", (LEFT, y), (WIDTH - RIGHT, y));
        self.drawing.text("target-label", LEFT + 6.0, y - 5.0, &format!("target {}", ms(target)));
        self.drawing.describe(&format!("The target is {}.", ms(target)));
    }
}

/// Recovery times from plain numbers, for tests and callers without measurements.
pub fn times(values: impl IntoIterator<Item = f64>) -> Distribution {
    values.into_iter().map(Sample::exact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_points_does_not_grow_with_the_number_of_runs() {
        let few = distribution("d", "s", &times((0..1_000).map(f64::from)), None);
        let many = distribution("d", "s", &times((0..100_000).map(f64::from)), None);
        assert!(many.len() < few.len() * 2, "{} {}", few.len(), many.len());
    }

    #[test]
    fn runs_without_recovery_are_hatched_and_told() {
        let samples = (1..=20).map(|i| Sample { value: f64::from(i), censored: i > 18 });
        let svg = distribution("d", "s", &samples.collect(), Some(12.0));
        assert!(svg.contains("hatch-never") && svg.contains("2 runs never recovered"), "{svg}");
        assert!(svg.contains("p99 (max of 20) more than"), "{svg}");
    }

    #[test]
    fn no_runs_are_an_empty_chart() {
        let svg = distribution("d", "s", &Distribution::default(), None);
        assert!(svg.contains("0 runs") && !svg.contains("class=\"curve\""));
    }
}
