//! What an outage means to an operator: how much of an error budget it uses, which alerts it fires and when, and what
//! availability a year of such failures gives.
//!
//! All of it is arithmetic in simulated time: a drill of ninety seconds can be asked whether a rule over an hour would have
//! fired, by taking the time around it as calm.

use crate::measure::Measurement;
use crate::meter::MeterOptions;
use crate::record::{Purpose, Records, SimTime};
use crate::stats::Sample;
use serde::{Deserialize, Serialize};

/// The share of requests that must be good over a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objective {
    /// Good requests per million: 999,500 for 99.95 %.
    pub good_per_million: u32,
    /// The period it is promised for.
    pub period: SimTime,
}

/// Thirty days, the usual period.
pub const MONTH: SimTime = SimTime(30 * 24 * 3_600 * 1_000_000);

/// A year of 365 days.
pub const YEAR: SimTime = SimTime(365 * 24 * 3_600 * 1_000_000);

impl Objective {
    /// Bad requests per million that the objective allows.
    fn bad_per_million(&self) -> u64 {
        1_000_000 - u64::from(self.good_per_million.min(1_000_000))
    }

    /// The total outage that the objective allows in its period.
    pub fn budget(&self) -> SimTime {
        SimTime((u128::from(self.period.0) * u128::from(self.bad_per_million()) / 1_000_000) as u64)
    }

    /// The part of the budget that an outage uses; 1 is all of it. `None`: the objective allows no outage at all.
    pub fn used_by(&self, outage: SimTime) -> Option<f64> {
        let budget = self.budget().0;
        (budget > 0).then(|| outage.0 as f64 / budget as f64)
    }

    /// How many outages of this length the budget holds; `None`: any number, for the outage has no length.
    pub fn outages_allowed(&self, outage: SimTime) -> Option<u64> {
        self.budget().0.checked_div(outage.0)
    }

    /// As reports say it: `28.0 s uses 2.16 % of the 99.95 % budget of 30 days (21.6 min); 46 such outages use it up`.
    pub fn words(&self, outage: SimTime) -> String {
        let percent = f64::from(self.good_per_million) / 10_000.0;
        let days = self.period.0 / 86_400_000_000;
        let objective = format!("the {percent} % budget of {days} days");
        match (self.used_by(outage), self.outages_allowed(outage)) {
            (None, _) => format!("{objective} allows no outage"),
            (_, None) => format!("no outage: nothing of {objective} is used"),
            (Some(used), Some(allowed)) => format!(
                "{} uses {:.2} % of {objective} ({}); {allowed} such outages fit",
                span(outage),
                used * 100.0,
                span(self.budget())
            ),
        }
    }
}

/// A duration as people say it.
fn span(duration: SimTime) -> String {
    let seconds = duration.0 as f64 / 1e6;
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7_200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.2} h", s / 3_600.0),
    }
}

/// One request and whether it was good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it was asked.
    pub at: SimTime,
    /// Whether it was answered well and in time.
    pub good: bool,
}

/// The write probes of a run, as alert rules see them: by their answers, for no rule knows yet which writes will
/// survive. Cut-off clients are included.
pub fn requests(records: &Records, options: &MeterOptions) -> Vec<Request> {
    crate::meter::write_probes(records, options).map(|(at, good)| Request { at, good }).collect()
}

/// The same requests with calm service before and after, at their own mean rate, so that a short drill can be asked about
/// rules with long windows. The time is shifted: the run begins at `before`.
pub fn among_calm(requests: &[Request], before: SimTime, after: SimTime) -> Vec<Request> {
    let (Some(first), Some(last)) = (requests.first(), requests.last()) else { return Vec::new() };
    let gap = ((last.at.0 - first.at.0) / (requests.len() as u64 - 1).max(1)).max(1);
    let calm = |at: u64| Request { at: SimTime(at), good: true };
    let begin = before.0 % gap;
    let shift = |request: &Request| Request { at: SimTime(request.at.0 - first.at.0 + before.0), ..*request };
    let end = last.at.0 - first.at.0 + before.0;
    let lead = (begin..before.0).step_by(gap as usize).map(calm);
    let tail = (end + gap..=end + after.0).step_by(gap as usize).map(calm);
    lead.chain(requests.iter().map(shift)).chain(tail).collect()
}

/// A rule that pages somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertRule {
    /// The share of bad requests over `window` has been above `bad_per_million` for `hold` without a break.
    Ratio {
        /// The sliding window.
        window: SimTime,
        /// Bad requests per million.
        bad_per_million: u32,
        /// How long it must last.
        hold: SimTime,
    },
    /// The budget is burnt more than `tenths / 10` times too fast, over both windows (Google, The Site Reliability
    /// Workbook, chapter 5).
    BurnRate {
        /// What is burnt.
        objective: Objective,
        /// Tenths of the factor: 144 for 14.4.
        tenths: u32,
        /// The window that proves significance.
        long: SimTime,
        /// The window that proves that it still goes on.
        short: SimTime,
    },
}

impl AlertRule {
    /// When the rule first fires, evaluated at every multiple of `every`; `None`: never while there are requests.
    pub fn fires_at(&self, requests: &[Request], every: SimTime) -> Option<SimTime> {
        let end = requests.last()?.at;
        let mut true_since = None;
        let mut windows = self.windows(requests);
        for step in 0..=end.0 / every.0.max(1) {
            let now = SimTime(step * every.0.max(1));
            if !self.holds(&mut windows, now) {
                true_since = None;
                continue;
            }
            let since: SimTime = *true_since.get_or_insert(now);
            if now.0 - since.0 >= self.hold().0 {
                return Some(now);
            }
        }
        None
    }

    fn hold(&self) -> SimTime {
        match self {
            AlertRule::Ratio { hold, .. } => *hold,
            AlertRule::BurnRate { .. } => SimTime(0),
        }
    }

    fn windows<'r>(&self, requests: &'r [Request]) -> Vec<Sliding<'r>> {
        let windows = match self {
            AlertRule::Ratio { window, .. } => vec![*window],
            AlertRule::BurnRate { long, short, .. } => vec![*long, *short],
        };
        windows.into_iter().map(|window| Sliding::new(requests, window)).collect()
    }

    fn holds(&self, windows: &mut [Sliding<'_>], now: SimTime) -> bool {
        // bad / all > limit, in whole numbers: the limit is a share in units of a tenth of a millionth.
        let limit = match self {
            AlertRule::Ratio { bad_per_million, .. } => u64::from(*bad_per_million) * 10,
            AlertRule::BurnRate { objective, tenths, .. } => u64::from(*tenths) * objective.bad_per_million(),
        };
        let above = |sliding: &mut Sliding<'_>| {
            let (bad, all) = sliding.upto(now);
            u128::from(bad) * 10_000_000 > u128::from(limit) * u128::from(all)
        };
        windows.iter_mut().all(above)
    }
}

/// Counts over a window that moves forward.
struct Sliding<'r> {
    requests: &'r [Request],
    window: SimTime,
    begin: usize,
    end: usize,
    bad: u64,
}

impl<'r> Sliding<'r> {
    fn new(requests: &'r [Request], window: SimTime) -> Self {
        Sliding { requests, window, begin: 0, end: 0, bad: 0 }
    }

    /// Bad and all requests in `(now - window, now]`.
    fn upto(&mut self, now: SimTime) -> (u64, u64) {
        while let Some(request) = self.requests.get(self.end).filter(|request| request.at <= now) {
            self.bad += u64::from(!request.good);
            self.end += 1;
        }
        while self.begin < self.end && self.requests[self.begin].at.0 + self.window.0 <= now.0 {
            self.bad -= u64::from(!self.requests[self.begin].good);
            self.begin += 1;
        }
        (self.bad, (self.end - self.begin) as u64)
    }
}

/// The largest share of bad requests in any window that ends with a request; what an objective "per hour" is held
/// against. `None`: no requests.
pub fn worst_share(requests: &[Request], window: SimTime) -> Option<f64> {
    let mut sliding = Sliding::new(requests, window);
    let shares = requests.iter().map(|request| {
        let (bad, all) = sliding.upto(request.at);
        bad as f64 / all.max(1) as f64
    });
    shares.reduce(f64::max)
}

/// What the usual rules and agreements say of one run, taken as the only bad minutes of some calm hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// From the first bad request until the rule "more than 1 % of 5 minutes bad, for 10 minutes" fires; `None`: never.
    pub ratio_after_ms: Option<f64>,
    /// From the first bad request until a burn rate of 14.4 over an hour and five minutes fires; `None`: never.
    pub burn_rate_after_ms: Option<f64>,
    /// The part of the budget of 99.95 % in 30 days that the bad requests use.
    pub budget_used: f64,
    /// Largest share of bad requests in an hour; agreed is 0.1 %.
    pub hour_bad_share: f64,
    /// Largest mean latency of acknowledged operations in a minute; agreed are 200 ms.
    pub minute_latency_ms: f64,
}

/// The availability that is promised for a month.
const PROMISED: Objective = Objective { good_per_million: 999_500, period: MONTH };

/// How often rules are evaluated (Prometheus: `evaluation_interval`, commonly 15 s).
const EVALUATED_EVERY: SimTime = SimTime(15_000_000);

const HOUR: SimTime = SimTime(3_600_000_000);

impl Service {
    /// Of a run; `None`: no request was bad.
    pub fn of(records: &Records, options: &MeterOptions) -> Option<Service> {
        let run = requests(records, options);
        let (first, bad) = (run.first()?.at, run.iter().find(|request| !request.good)?.at);
        let all = among_calm(&run, HOUR, HOUR);
        let begins = SimTime(bad.0 - first.0 + HOUR.0);
        let after = |rule: AlertRule| {
            let fires = rule.fires_at(&all, EVALUATED_EVERY)?;
            Some(SimTime(fires.0.saturating_sub(begins.0)).as_ms())
        };
        let minutes = |minutes: u64| SimTime(minutes * 60_000_000);
        let ratio = AlertRule::Ratio { window: minutes(5), bad_per_million: 10_000, hold: minutes(10) };
        let burn = AlertRule::BurnRate { objective: PROMISED, tenths: 144, long: HOUR, short: minutes(5) };
        let length = run.last()?.at.0 - first.0;
        let bad_count = run.iter().filter(|request| !request.good).count() as u64;
        let outage = SimTime((u128::from(length) * u128::from(bad_count) / run.len() as u128) as u64);
        Some(Service {
            ratio_after_ms: after(ratio),
            burn_rate_after_ms: after(burn),
            budget_used: PROMISED.used_by(outage).unwrap_or(0.0),
            hour_bad_share: worst_share(&all, HOUR).unwrap_or(0.0),
            minute_latency_ms: worst_minute(records),
        })
    }
}

/// The largest mean latency of acknowledged operations of the workload in any minute of the run.
fn worst_minute(records: &Records) -> f64 {
    let mut minutes: std::collections::BTreeMap<u64, (u64, u64)> = std::collections::BTreeMap::new();
    for op in records.history.operations.iter().filter(|op| op.purpose == Purpose::Workload) {
        if let (true, Some(completed)) = (op.outcome.is_ok(), op.completed) {
            let sum = minutes.entry(op.invoked.at.0 / 60_000_000).or_default();
            sum.0 += completed.at.0.saturating_sub(op.invoked.at.0);
            sum.1 += 1;
        }
    }
    let means = minutes.values().map(|(total, count)| *total as f64 / *count as f64 / 1_000.0);
    means.fold(0.0, f64::max)
}

/// What a year of such failures gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct YearEstimate {
    /// Failures a year, as assumed by the asker.
    pub failures_per_year: f64,
    /// Mean outage of one failure in milliseconds.
    pub outage_ms: f64,
    /// Expected outage in a year, in seconds.
    pub outage_s_per_year: f64,
    /// The share of the year in which writes are served.
    pub availability: f64,
    /// Some runs never recovered: the truth is worse.
    pub at_best: bool,
}

impl YearEstimate {
    /// From the recovery times of many runs of one failure and its assumed rate. The failures are taken to be like the
    /// drilled one and not to overlap. `None`: nothing was measured.
    pub fn new(runs: &[Measurement], failures_per_year: f64) -> Option<Self> {
        let spans = runs.iter().filter(|run| !run.inert()).filter_map(|run| run.rto.first);
        let samples: Vec<Sample> =
            spans.map(|span| Sample { value: span.ms, censored: span.censored }).collect();
        let mean = samples.iter().copied().collect::<crate::stats::Distribution>().mean()?;
        let outage_s_per_year = (mean.value / 1_000.0 * failures_per_year).min(YEAR.0 as f64 / 1e6);
        Some(YearEstimate {
            failures_per_year,
            outage_ms: mean.value,
            outage_s_per_year,
            availability: 1.0 - outage_s_per_year / (YEAR.0 as f64 / 1e6),
            at_best: mean.censored,
        })
    }

    /// As reports say it: `12 failures a year of 7.0 s each: 84.0 s without writes, 99.99973 % available`.
    pub fn words(&self) -> String {
        let each = span(SimTime((self.outage_ms * 1_000.0) as u64));
        let total = span(SimTime((self.outage_s_per_year * 1e6) as u64));
        let best = if self.at_best { ", at best" } else { "" };
        format!(
            "{} failures a year of {each} each: {total} without writes, {:.5} % available{best}",
            self.failures_per_year,
            self.availability * 100.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Span;

    fn seconds(seconds: u64) -> SimTime {
        SimTime(seconds * 1_000_000)
    }

    const SLO: Objective = Objective { good_per_million: 999_500, period: MONTH };

    /// Ten requests a second, all bad for `tenths` of a second in the midst of calm.
    fn outage(tenths: u64) -> Vec<Request> {
        let request = |n: u64| Request { at: SimTime(n * 100_000), good: n >= tenths };
        let run: Vec<Request> = (0..tenths + 10).map(request).collect();
        among_calm(&run, seconds(3_600), seconds(3_600))
    }

    #[test]
    fn the_budgets_are_the_well_known_ones() {
        let budget = |good_per_million| Objective { good_per_million, period: MONTH }.budget().0 as f64 / 1e6;
        assert_eq!([999_000, 999_500, 999_900, 999_990].map(budget), [2_592.0, 1_296.0, 259.2, 25.92]);
        let tight = Objective { good_per_million: 999_900, period: MONTH };
        assert_eq!(tight.outages_allowed(seconds(28)), Some(9));
        assert_eq!(tight.outages_allowed(seconds(45)), Some(5));
        assert_eq!(tight.outages_allowed(seconds(0)), None);
    }

    #[test]
    fn an_outage_is_told_in_words() {
        assert_eq!(
            SLO.words(seconds(28)),
            "28.0 s uses 2.16 % of the 99.95 % budget of 30 days (21.6 min); 46 such outages fit"
        );
        let perfect = Objective { good_per_million: 1_000_000, period: MONTH };
        assert_eq!(perfect.words(seconds(28)), "the 100 % budget of 30 days allows no outage");
        assert_eq!(perfect.used_by(seconds(28)), None);
    }

    #[test]
    fn a_ratio_rule_with_a_hold_does_not_see_short_outages() {
        // Above 1 % of 5 minutes from 3 s into the outage until 297 s after its end: 10 minutes take 306 s of outage.
        let rule = AlertRule::Ratio { window: seconds(300), bad_per_million: 10_000, hold: seconds(600) };
        assert_eq!(rule.fires_at(&outage(450), seconds(1)), None);
        assert_eq!(rule.fires_at(&outage(3_040), seconds(1)), None);
        let fired = rule.fires_at(&outage(3_100), seconds(1)).expect("fires");
        assert_eq!(fired.0 / 1_000_000 - 3_600, 603);
    }

    #[test]
    fn a_burn_rate_rule_sees_what_the_budget_cannot_bear() {
        // 14.4 times 0.05 % of an hour are 25.92 s.
        let rule =
            AlertRule::BurnRate { objective: SLO, tenths: 144, long: seconds(3_600), short: seconds(300) };
        assert_eq!(rule.fires_at(&outage(259), seconds(1)), None);
        let fired = rule.fires_at(&outage(280), seconds(1)).expect("a failover of 28 s pages");
        assert_eq!(fired.0 / 1_000_000 - 3_600, 26);
    }

    #[test]
    fn calm_around_a_run_keeps_its_rate_and_its_order() {
        let run = [Request { at: seconds(5), good: false }, Request { at: seconds(7), good: true }];
        let calm = among_calm(&run, seconds(10), seconds(4));
        let times: Vec<u64> = calm.iter().map(|request| request.at.0 / 1_000_000).collect();
        assert_eq!(times, [0, 2, 4, 6, 8, 10, 12, 14, 16]);
        assert_eq!(calm.iter().filter(|request| !request.good).count(), 1);
        assert_eq!(among_calm(&[], seconds(1), seconds(1)), []);
    }

    #[test]
    fn the_worst_window_is_found_wherever_it_lies() {
        let requests = outage(280);
        assert_eq!(worst_share(&requests, seconds(28)), Some(1.0));
        let per_hour = worst_share(&requests, seconds(3_600)).unwrap();
        assert!((per_hour - 28.0 / 3_600.0).abs() < 1e-9, "28 s are 0.78 % of an hour: {per_hour}");
        assert_eq!(worst_share(&[], seconds(1)), None);
    }

    #[test]
    fn a_year_is_estimated_from_the_mean_outage_and_never_recovering_makes_it_a_best_case() {
        let run = |ms: f64, censored: bool| {
            let mut run = Measurement { faults: 1, faults_effective: 1, ..Measurement::default() };
            run.rto.first = Some(Span { ms, censored });
            run
        };
        let year = YearEstimate::new(&[run(6_000.0, false), run(8_000.0, false)], 12.0).unwrap();
        assert_eq!((year.outage_ms, year.outage_s_per_year, year.at_best), (7_000.0, 84.0, false));
        assert_eq!(
            year.words(),
            "12 failures a year of 7.0 s each: 84.0 s without writes, 99.99973 % available"
        );
        assert!(YearEstimate::new(&[run(6_000.0, true)], 12.0).unwrap().at_best);
        assert_eq!(YearEstimate::new(&[], 12.0), None);
    }
}
