//! The rule by which a model is where the measurements are, and the statistics it needs.

use firedrill_protocols::contract::{Random, stream};

/// Below this many measured samples the range is compared and not the median.
const MEDIAN_MIN: usize = 8;
/// From this many on the 90th percentile is compared too.
const P90_MIN: usize = 15;
/// A 1st and a 99th percentile of the model are worth something from this many runs on.
const RANGE_RUNS_MIN: usize = 100;

/// What the rule says of a figure.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fit {
    Inside,
    Outside(String),
    /// The model was not run often enough for the rule.
    TooFewRuns,
}

/// Whether the model is where the measurements are; both sorted, neither empty.
///
/// The median must lie inside the 95 % bootstrap interval of the measured median, widened by 10 % or 10 ms, whichever is
/// more; the 90th percentile likewise with 15 % where there are 15 samples or more. Of fewer than 8 samples, the measured
/// range must lie inside the model's 1st to 99th percentile.
pub(super) fn fits(real: &[f64], model: &[f64]) -> Fit {
    if real.len() < MEDIAN_MIN {
        if model.len() < RANGE_RUNS_MIN {
            return Fit::TooFewRuns;
        }
        let (low, high) = (quantile(model, 10), quantile(model, 990));
        let inside = real[0] >= low && real[real.len() - 1] <= high;
        return if inside { Fit::Inside } else { Fit::Outside(format!("1-99 % is {low:.3}..{high:.3}")) };
    }
    let mut verdict = within("p50", median(model), interval(real, median), 0.10);
    if verdict == Fit::Inside && real.len() >= P90_MIN {
        verdict = within("p90", quantile(model, 900), interval(real, |sorted| quantile(sorted, 900)), 0.15);
    }
    verdict
}

fn within(what: &str, value: f64, (low, high): (f64, f64), share: f64) -> Fit {
    let widened = |bound: f64| (bound.abs() * share).max(0.010);
    let (low, high) = (low - widened(low), high + widened(high));
    if (low..=high).contains(&value) {
        Fit::Inside
    } else {
        Fit::Outside(format!("{what} not in {low:.3}..{high:.3}"))
    }
}

/// The 95 % bootstrap interval of a statistic: 2,000 resamples from a stream of their own.
fn interval(real: &[f64], statistic: impl Fn(&[f64]) -> f64) -> (f64, f64) {
    let mut random = stream(1, 32, 0, 0);
    let last = real.len() as u64 - 1;
    let mut statistics: Vec<f64> = (0..2_000)
        .map(|_| {
            let mut sample: Vec<f64> = real.iter().map(|_| real[random.between(0, last) as usize]).collect();
            sample.sort_by(f64::total_cmp);
            statistic(&sample)
        })
        .collect();
    statistics.sort_by(f64::total_cmp);
    (quantile(&statistics, 25), quantile(&statistics, 975))
}

/// A percentile of sorted values that are not empty, in thousandths.
pub(super) fn quantile(sorted: &[f64], per_mille: u32) -> f64 {
    let at = firedrill_checkers::stats::rank(sorted.len(), per_mille).unwrap_or(0);
    sorted[at.min(sorted.len() - 1)]
}

/// The median of sorted values that are not empty.
pub(super) fn median(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(n: u32, from: f64) -> Vec<f64> {
        (0..n).map(|i| from + 0.01 * f64::from(i)).collect()
    }

    #[test]
    fn a_model_that_is_twice_as_slow_does_not_fit() {
        let real = ramp(18, 2.2);
        assert_eq!(fits(&real, &real), Fit::Inside);
        let slow: Vec<f64> = real.iter().map(|value| value * 2.0).collect();
        assert!(matches!(fits(&real, &slow), Fit::Outside(_)));
    }

    #[test]
    fn the_90th_percentile_is_asked_for_from_fifteen_samples_on() {
        let tailed = |n: u32| {
            let mut model = ramp(n, 2.2);
            let from = model.len() * 8 / 10;
            model[from..].iter_mut().for_each(|value| *value += 5.0);
            model
        };
        assert_eq!(fits(&ramp(14, 2.2), &tailed(14)), Fit::Inside);
        assert!(matches!(fits(&ramp(20, 2.2), &tailed(20)), Fit::Outside(_)));
    }

    #[test]
    fn few_samples_must_lie_inside_the_model_and_the_model_must_have_run_often() {
        let model = ramp(100, 2.0);
        assert_eq!(fits(&[2.1, 2.5], &model), Fit::Inside);
        assert!(matches!(fits(&[1.1, 2.5], &model), Fit::Outside(_)));
        assert_eq!(fits(&[2.1, 2.5], &model[..99]), Fit::TooFewRuns);
    }

    #[test]
    fn times_before_the_fault_are_widened_outwards_too() {
        let real: Vec<f64> = (0..10).map(|i| -1.0 - 0.001 * f64::from(i)).collect();
        let model: Vec<f64> = real.iter().map(|value| value - 0.05).collect();
        assert_eq!(fits(&real, &model), Fit::Inside);
    }
}
