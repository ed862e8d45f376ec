//! What a run would lose now, over its time: exposures that nodes announced, as steps, with the faults as lines.

use super::{Drawing, Scale, round_ticks, unit};
use crate::text::{bytes, number};
use firedrill_checkers::record::{Fact, Records};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 40.0;

/// Points drawn at most: each is the largest value of its part of the run.
const POINTS_MAX: usize = 400;

/// One exposure over the time of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Name of the gauge.
    pub gauge: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// Seconds and bytes, in order of time; a value holds until the next one.
    pub points: Vec<(f64, f64)>,
}

/// The exposures that are drawn.
const EXPOSURES: [(&str, &str); 2] = [
    ("rpo_exposure_bytes", "acknowledged and on no replica: what the loss of the primary would cost now"),
    (
        "backup_exposure_bytes",
        "committed and not in the archive: what the loss of all data nodes would cost now",
    ),
];

impl Series {
    /// The exposures of a run; those that nobody announced are left out.
    pub fn of(records: &Records) -> Vec<Series> {
        let series = EXPOSURES.map(|(gauge, meaning)| {
            let announced = records.observations.iter().filter_map(|o| match &o.fact {
                Fact::Gauge { name, value } if name == gauge => {
                    Some((o.instant.at.as_ms() / 1_000.0, *value))
                }
                _ => None,
            });
            Series { gauge, meaning, points: announced.collect() }
        });
        series.into_iter().filter(|series| series.points.len() > 1).collect()
    }

    /// The largest value, and the value that all but one in a hundred stay at or below.
    pub fn extremes(&self) -> (f64, f64) {
        let mut values: Vec<f64> = self.points.iter().map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        let at = (values.len() * 99).div_ceil(100).saturating_sub(1);
        (values.last().copied().unwrap_or(0.0), values.get(at).copied().unwrap_or(0.0))
    }

    /// In words, for the caption.
    pub fn words(&self) -> String {
        let (max, p99) = self.extremes();
        let size = |value: f64| bytes(value.max(0.0).round() as u64);
        format!("{}: at most {}, p99 {}; {}.", self.gauge, size(max), size(p99), self.meaning)
    }

    /// The drawing.
    pub fn draw(&self, id: &str, scenario: &str, records: &Records) -> String {
        let (max, _) = self.extremes();
        let ticks = round_ticks(max, 4);
        let end = (records.end.as_ms() / 1_000.0).max(1.0);
        let x = Scale::new((0.0, end), (LEFT, WIDTH - RIGHT));
        let y = Scale::new((0.0, ticks.last().copied().unwrap_or(1.0)), (HEIGHT - BOTTOM, TOP));
        let title = format!("{} of {scenario} over the run", self.gauge);
        let mut drawing = Drawing::new(id, &title, &self.words(), WIDTH, HEIGHT);
        for tick in &ticks {
            drawing.line("grid", (LEFT, y.at(*tick)), (WIDTH - RIGHT, y.at(*tick)));
            drawing.text("num end", LEFT - 6.0, y.at(*tick) + 4.0, &bytes(tick.round() as u64));
        }
        for tick in round_ticks(end, 8).into_iter().filter(|tick| *tick <= end) {
            drawing.text("num mid", x.at(tick), HEIGHT - BOTTOM + 16.0, &format!("{} s", number(tick)));
        }
        for fault in &records.journal.faults {
            let at = x.at(fault.began.at.as_ms() / 1_000.0);
            drawing.line("target", (at, TOP), (at, HEIGHT - BOTTOM));
        }
        drawing.path("curve", &self.steps(x, y, end));
        drawing.text(
            "axis mid",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 6.0,
            "time of the run; dashed: a fault strikes",
        );
        drawing.finish()
    }

    fn steps(&self, x: Scale, y: Scale, end: f64) -> String {
        let per_point = self.points.len().div_ceil(POINTS_MAX).max(1);
        let mut commands = String::new();
        let mut last = 0.0;
        for part in self.points.chunks(per_point) {
            let value = part.iter().map(|(_, value)| *value).fold(0.0, f64::max);
            let at = unit(x.at(part[0].0));
            if commands.is_empty() {
                commands = format!("M{at} {}", unit(y.at(value)));
            } else {
                commands.push_str(&format!("L{at} {}L{at} {}", unit(y.at(last)), unit(y.at(value))));
            }
            last = value;
        }
        commands + &format!("L{} {}", unit(x.at(end)), unit(y.at(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firedrill_checkers::record::{Instant, NodeIndex, Observation, Shard, SimTime};

    fn records(values: &[f64]) -> Records {
        let observation = |(at, value): (usize, &f64)| Observation {
            instant: Instant { at: SimTime(at as u64 * 1_000_000), seq: at as u64 },
            node: NodeIndex(0),
            shard: Shard(0),
            fact: Fact::Gauge { name: "rpo_exposure_bytes".to_owned(), value: *value },
        };
        Records {
            observations: values.iter().enumerate().map(observation).collect(),
            end: SimTime(values.len() as u64 * 1_000_000),
            ..Records::default()
        }
    }

    #[test]
    fn an_exposure_is_drawn_with_its_largest_value_in_words() {
        let records = records(&[0.0, 100.0, 20_480.0, 0.0]);
        let series = Series::of(&records);
        assert_eq!(series.len(), 1, "what nobody announced is not drawn");
        assert_eq!(series[0].extremes().0, 20_480.0);
        assert!(series[0].words().contains("at most 20.5 kB"), "{}", series[0].words());
        let svg = series[0].draw("e", "a <b>", &records);
        assert!(svg.contains("class=\"curve\"") && !svg.contains("<b>"), "{svg}");
    }

    #[test]
    fn many_values_are_thinned_and_the_largest_stays() {
        let mut values = vec![1.0; 5_000];
        values[3_210] = 9_999.0;
        let records = records(&values);
        let series = &Series::of(&records)[0];
        let (x, y) = (Scale::new((0.0, 1.0), (0.0, 1.0)), Scale::new((0.0, 9_999.0), (0.0, 1_000.0)));
        let steps = series.steps(x, y, 1.0);
        assert!(steps.matches('L').count() < 900 && steps.contains(" 1000"), "the peak is drawn");
    }
}
