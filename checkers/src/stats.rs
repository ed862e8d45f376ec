//! Numbers over many runs: exact order statistics, how sure they are, and nothing that depends on a platform's
//! floating-point library (only IEEE addition, multiplication, division and square root are used).

use serde::{Deserialize, Serialize};

/// One run's figure. A censored figure is a lower bound: the true value is larger than `value`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The figure.
    pub value: f64,
    /// It had not ended when the run did.
    pub censored: bool,
}

impl Sample {
    /// A figure that is known exactly.
    pub fn exact(value: f64) -> Self {
        Sample { value, censored: false }
    }
}

/// A percentile, and how it was come by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile {
    /// The figure; a lower bound if `censored`.
    pub value: f64,
    /// It falls into the runs that never recovered: the true percentile is larger.
    pub censored: bool,
    /// There were too few samples for this percentile: it is the maximum of this many.
    pub maximum_of: Option<usize>,
}

/// Samples in order, ready for percentiles. Censored samples come after all others, for all that is known of them is
/// that they are larger than seen; none is ever dropped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    sorted: Vec<Sample>,
}

impl FromIterator<Sample> for Distribution {
    fn from_iter<I: IntoIterator<Item = Sample>>(samples: I) -> Self {
        let mut sorted: Vec<Sample> = samples.into_iter().filter(|sample| !sample.value.is_nan()).collect();
        sorted.sort_by(|a, b| a.censored.cmp(&b.censored).then(a.value.total_cmp(&b.value)));
        Distribution { sorted }
    }
}

impl Distribution {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The samples in order.
    pub fn sorted(&self) -> &[Sample] {
        &self.sorted
    }

    /// Number of samples that are lower bounds.
    pub fn censored(&self) -> usize {
        self.sorted.iter().filter(|sample| sample.censored).count()
    }

    /// The percentile `per_mille / 10`, an order statistic by nearest rank: the smallest sample that at least this share
    /// of all samples does not exceed. With fewer samples than [`samples_needed`] it is the maximum. `None`: no samples.
    pub fn quantile(&self, per_mille: u32) -> Option<Quantile> {
        let enough = self.len() >= samples_needed(per_mille);
        let rank = if enough { rank(self.len(), per_mille)? } else { self.len().checked_sub(1)? };
        let Sample { value, censored } = self.sorted[rank];
        Some(Quantile { value, censored, maximum_of: (!enough).then_some(self.len()) })
    }

    /// The smallest sample.
    pub fn min(&self) -> Option<Sample> {
        self.sorted.first().copied()
    }

    /// The largest sample.
    pub fn max(&self) -> Option<Sample> {
        self.sorted.last().copied()
    }

    /// The mean; a lower bound if any sample is one.
    pub fn mean(&self) -> Option<Sample> {
        let sum: f64 = self.sorted.iter().map(|sample| sample.value).sum();
        let censored = self.censored() > 0;
        (!self.is_empty()).then(|| Sample { value: sum / self.len() as f64, censored })
    }

    /// An interval that contains the true percentile with 95 % confidence whatever the distribution: two order
    /// statistics (David and Nagaraja, Order Statistics, §7.1). An end is `None` where there are too few samples for it.
    pub fn interval(&self, per_mille: u32) -> (Option<Sample>, Option<Sample>) {
        let (below, above) = interval_ranks(self.len(), per_mille);
        (below.map(|rank| self.sorted[rank]), above.map(|rank| self.sorted[rank]))
    }
}

/// The index of a percentile among `n` sorted samples, by nearest rank.
pub fn rank(n: usize, per_mille: u32) -> Option<usize> {
    let per_mille = per_mille.min(1000) as usize;
    n.checked_sub(1).map(|last| (n * per_mille).div_ceil(1000).saturating_sub(1).min(last))
}

/// How many samples it takes before the largest of them exceeds the percentile with 95 % confidence: the smallest `n`
/// with `q^n <= 0.05`, so 299 for p99 and 59 for p95. The median is an exception and needs one: nobody reads it as a
/// bound.
pub fn samples_needed(per_mille: u32) -> usize {
    if per_mille <= 500 {
        return 1;
    }
    if per_mille >= 1000 {
        return usize::MAX;
    }
    let share = f64::from(per_mille) / 1000.0;
    let (mut n, mut all_below) = (0, 1.0);
    while all_below > 0.05 {
        all_below *= share;
        n += 1;
    }
    n
}

/// Indices of the two order statistics around a percentile that enclose it with 95 % confidence. The number of samples
/// below the percentile is binomial; each tail gets at most 2.5 %.
fn interval_ranks(n: usize, per_mille: u32) -> (Option<usize>, Option<usize>) {
    let chances = binomial(n, f64::from(per_mille.min(1000)) / 1000.0);
    let mut tail = 0.0;
    let mut below = None;
    for (k, chance) in chances.iter().enumerate().take(n) {
        tail += chance;
        if tail > 0.025 {
            break;
        }
        below = Some(k);
    }
    tail = 0.0;
    let mut above = None;
    for (k, chance) in chances.iter().enumerate().skip(1).rev() {
        tail += chance;
        if tail > 0.025 {
            break;
        }
        above = Some(k - 1);
    }
    (below, above)
}

/// The binomial distribution, from its mode outwards so that nothing underflows that matters.
fn binomial(n: usize, p: f64) -> Vec<f64> {
    let mut weights = vec![0.0; n + 1];
    let mode = (((n + 1) as f64 * p) as usize).min(n);
    weights[mode] = 1.0;
    let odds = p / (1.0 - p);
    if odds.is_finite() && odds > 0.0 {
        for k in mode + 1..=n {
            weights[k] = weights[k - 1] * ((n - k + 1) as f64 / k as f64) * odds;
        }
        for k in (0..mode).rev() {
            weights[k] = weights[k + 1] * ((k + 1) as f64 / (n - k) as f64) / odds;
        }
    }
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// A rate with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Events seen.
    pub events: u64,
    /// Trials.
    pub trials: u64,
    /// Lower end of the interval, 0 to 1.
    pub low: f64,
    /// Upper end of the interval, 0 to 1.
    pub high: f64,
}

impl Rate {
    /// Wilson's score interval (1927), which behaves at few trials; without any event the upper end is the rule of three,
    /// `3 / trials`, the value that zero events still allow with 95 % confidence.
    pub fn new(events: u64, trials: u64) -> Self {
        const Z: f64 = 1.959_963_984_540_054;
        if trials == 0 {
            return Rate { events, trials, low: 0.0, high: 1.0 };
        }
        let n = trials as f64;
        let share = events as f64 / n;
        if events == 0 {
            return Rate { events, trials, low: 0.0, high: f64::min(1.0, 3.0 / n) };
        }
        let centre = share + Z * Z / (2.0 * n);
        let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        let (low, high) = ((centre - spread) / scale, (centre + spread) / scale);
        Rate { events, trials, low: low.max(0.0), high: high.min(1.0) }
    }

    /// As reports say it: `0 of 300 (below 1.00 % at 95 %)` or `3 of 300 (0.34 % to 2.90 % at 95 %)`.
    pub fn words(&self) -> String {
        let Rate { events, trials, low, high } = self;
        if *events == 0 {
            return format!("0 of {trials} (below {:.2} % at 95 %)", high * 100.0);
        }
        format!("{events} of {trials} ({:.2} % to {:.2} % at 95 %)", low * 100.0, high * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upto(n: usize) -> Distribution {
        (1..=n).map(|value| Sample::exact(value as f64)).collect()
    }

    #[test]
    fn a_percentile_needs_as_many_samples_as_its_tail_is_rare() {
        assert_eq!([950, 990, 999].map(samples_needed), [59, 299, 2995]);
        assert_eq!(samples_needed(900), 29);
        assert_eq!(samples_needed(500), 1);
    }

    #[test]
    fn with_too_few_samples_a_percentile_is_the_maximum_and_says_so() {
        let p99 = upto(20).quantile(990);
        assert_eq!(p99, Some(Quantile { value: 20.0, censored: false, maximum_of: Some(20) }));
        let p99 = upto(300).quantile(990);
        assert_eq!(p99, Some(Quantile { value: 297.0, censored: false, maximum_of: None }));
    }

    #[test]
    fn nearest_rank_needs_no_rounding() {
        assert_eq!(rank(0, 500), None);
        assert_eq!(
            [1, 2, 3, 100, 101].map(|n| rank(n, 500)),
            [Some(0), Some(0), Some(1), Some(49), Some(50)]
        );
        assert_eq!(rank(1000, 990), Some(989));
        assert_eq!(rank(7, 1000), Some(6));
    }

    #[test]
    fn censored_samples_stay_and_are_larger_than_all_others() {
        let mut samples: Vec<Sample> =
            (1..=98).map(|value| Sample::exact(f64::from(value) * 100.0)).collect();
        samples.extend([Sample { value: 5.0, censored: true }; 2]);
        let distribution: Distribution = samples.into_iter().collect();
        assert_eq!(distribution.censored(), 2);
        assert_eq!(distribution.quantile(950).map(|p95| p95.censored), Some(false));
        assert_eq!(distribution.max(), Some(Sample { value: 5.0, censored: true }));
    }

    #[test]
    fn the_interval_of_the_median_is_the_textbook_one() {
        // For n = 20 the 6th and 15th order statistics enclose the median with 95.9 %; for 100 the 40th and 61st.
        assert_eq!(upto(20).interval(500), (Some(Sample::exact(6.0)), Some(Sample::exact(15.0))));
        assert_eq!(upto(100).interval(500), (Some(Sample::exact(40.0)), Some(Sample::exact(61.0))));
    }

    #[test]
    fn a_percentile_near_the_end_has_an_open_interval() {
        let (below, above) = upto(100).interval(990);
        assert!(below.is_some());
        assert_eq!(above, None, "no sample of 100 is surely above the 99th percentile");
        assert!(upto(2000).interval(990).1.is_some());
    }

    #[test]
    fn nothing_seen_is_not_nothing_possible() {
        assert_eq!(Rate::new(0, 300).words(), "0 of 300 (below 1.00 % at 95 %)");
        assert_eq!(Rate::new(3, 300).words(), "3 of 300 (0.34 % to 2.90 % at 95 %)");
        assert_eq!(Rate::new(0, 0).high, 1.0);
    }
}
