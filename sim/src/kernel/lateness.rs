//! How late processes run on a machine with other work, when a timer or a message has woken them.
//!
//! Such a machine is not equally busy all the time: the measure of it is the overshoot of a sleep, taken per second. In
//! each second of the run it is log-normal; its median is always the same, its 99th percentile is drawn for the second,
//! log-normal too, and nothing is later than the largest that was ever measured. All processes share the seconds, as
//! processes of one machine do.
//!
//! A sleep oversleeps for two reasons: the timer is coarse, which makes up the median, and the processor is busy with
//! others, which makes up what is beyond it. Only the second holds up a process that a message wakes. How busy the
//! machine is was sampled by sleeps of 5 ms; so a process that is woken more often is held up no more often than that.

use super::network::inverse_normal;
use firedrill_protocols::contract::stream;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use std::time::Duration;

/// Of the numbers that no protocol has: the streams of the seconds, and those of the processes.
const PURPOSE_SECOND: u16 = 33;
const PURPOSE_TIMER: u16 = 34;
const SECOND_MICROS: u64 = 1_000_000;
/// From one sample of the machine to the next.
const SAMPLE_MICROS: u64 = 5_000;
/// Quantiles of the standard normal distribution.
const Z95: f64 = 1.644_853_626_951_472_7;
const Z99: f64 = 2.326_347_874_040_841;
/// Draws are quantiles from a table of so many.
const QUANTILES: u32 = 4_096;

/// The distribution, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Lateness {
    median: f64,
    /// Median over the seconds of the 99th percentile of a second.
    p99: f64,
    /// Spread of its logarithm.
    spread: f64,
    max: u64,
}

impl Lateness {
    /// From the median of all overshoots, the median and 95th percentile of what 99 % of a second's stay below, and the
    /// largest of all.
    pub fn new(p50: Duration, p99: Duration, p99_p95: Duration, max: Duration) -> Self {
        let micros = |span: Duration| span.as_micros().max(1) as f64;
        let spread = libm::log(micros(p99_p95) / micros(p99)).max(0.0) / Z95;
        Lateness { median: micros(p50), p99: micros(p99), spread, max: max.as_micros() as u64 }
    }
}

/// What wakes a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The end of a sleep.
    Timer,
    /// Something that came from outside.
    Arrival,
}

/// Draws of a run.
pub(crate) struct LateWakes {
    lateness: Lateness,
    seed: u64,
    /// The second drawn last, and its spread.
    second: Option<(u64, f64)>,
    streams: Vec<ChaCha8Rng>,
    /// When the machine may next hold up each process.
    next_sample: Vec<u64>,
}

impl LateWakes {
    pub(crate) fn new(lateness: Lateness, seed: u64, processes: u32) -> Self {
        let streams = (0..processes).map(|node| stream(seed, PURPOSE_TIMER, node, 0)).collect();
        let next_sample = vec![0; processes as usize];
        LateWakes { lateness, seed, second: None, streams, next_sample }
    }

    /// How many microseconds late this process runs that was woken at `at`.
    pub(crate) fn draw(&mut self, node: u16, at: u64, wake: Wake) -> u64 {
        let late = self.sample(usize::from(node), at);
        match wake {
            Wake::Timer => late,
            Wake::Arrival => late.saturating_sub(self.lateness.median as u64),
        }
    }

    fn sample(&mut self, node: usize, at: u64) -> u64 {
        if at < self.next_sample[node] {
            return self.lateness.median as u64;
        }
        let spread = self.spread_at(at / SECOND_MICROS);
        let z = normal(&mut self.streams[node]);
        let late = ((self.lateness.median * libm::exp(spread * z)) as u64).min(self.lateness.max);
        self.next_sample[node] = at + late + SAMPLE_MICROS;
        late
    }

    fn spread_at(&mut self, second: u64) -> f64 {
        if let Some((drawn, spread)) = self.second
            && drawn == second
        {
            return spread;
        }
        let z = normal(&mut stream(self.seed, PURPOSE_SECOND, second as u32, 0));
        let p99 = self.lateness.p99 * libm::exp(self.lateness.spread * z);
        let spread = libm::log(p99 / self.lateness.median).max(0.0) / Z99;
        self.second = Some((second, spread));
        spread
    }
}

fn normal(random: &mut ChaCha8Rng) -> f64 {
    inverse_normal((f64::from(random.next_u32() % QUANTILES) + 0.5) / f64::from(QUANTILES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(mut values: Vec<u64>) -> Vec<u64> {
        values.sort_unstable();
        values
    }

    #[test]
    fn seconds_have_the_percentiles_that_were_asked_for() {
        let span = Duration::from_micros;
        let lateness = Lateness::new(span(80), span(1_810), span(29_000), span(324_000));
        let mut wakes = LateWakes::new(lateness, 7, 1);
        let (mut medians, mut tails) = (Vec::new(), Vec::new());
        for second in 0..400 {
            let at = second * SECOND_MICROS;
            // As the machine was measured: by one process that sleeps for 5 ms again and again.
            let draws = sorted(
                (0..400)
                    .map(|_| {
                        wakes.next_sample[0] = 0;
                        wakes.draw(0, at, Wake::Timer)
                    })
                    .collect(),
            );
            assert!(draws[399] <= 324_000, "later than ever measured");
            medians.push(draws[200]);
            tails.push(draws[396]);
        }
        let (medians, tails) = (sorted(medians), sorted(tails));
        assert!((70..90).contains(&medians[200]), "median {}", medians[200]);
        assert!((1_200..2_600).contains(&tails[200]), "median of the 99th percentiles {}", tails[200]);
        assert!((15_000..60_000).contains(&tails[380]), "their 95th percentile {}", tails[380]);
    }

    #[test]
    fn who_is_woken_all_the_time_is_held_up_no_more_often_than_the_machine_was_sampled() {
        let span = Duration::from_micros;
        let mut wakes =
            LateWakes::new(Lateness::new(span(80), span(90_000), span(90_000), span(324_000)), 1, 1);
        let held_up = (0..1_000_000).step_by(10).filter(|at| wakes.draw(0, *at, Wake::Arrival) > 0).count();
        assert!((1..=200).contains(&held_up), "{held_up} times in a second");
    }

    #[test]
    fn without_a_spread_every_timer_is_late_by_the_median() {
        let span = Duration::from_micros(50);
        let mut wakes = LateWakes::new(Lateness::new(span, span, span, span), 1, 2);
        assert!((0..100).all(|at| wakes.draw(1, at * 1_000_000, Wake::Timer) == 50));
        assert!((0..100).all(|at| wakes.draw(1, at * 1_000_000, Wake::Arrival) == 0));
    }
}
