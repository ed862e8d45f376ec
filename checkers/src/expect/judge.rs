//! Judges an expectation over the runs of a scenario.

use super::registry::{Absent, Unit};
use super::{Aggregation, ExitClass, Expectation, Operator, Subject};
use crate::measure::Measurement;
use crate::stats::{Distribution, Sample};
use serde::{Deserialize, Serialize};

/// What became of an expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds.
    Ok,
    /// The runs cannot say whether it holds.
    Inconclusive,
    /// It does not hold.
    Broken,
}

/// An expectation, judged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// Whether it holds.
    pub verdict: Verdict,
    /// The figure it was judged by, in the metric's unit. `None`: measured in no run.
    pub measured: Option<f64>,
    /// The figure is a lower bound: the run ended before its true value was known.
    pub censored: bool,
    /// The class of exit that a broken expectation asks for; `None` unless broken.
    pub class: Option<ExitClass>,
    /// The run that comes out worst, as an index into the runs given.
    pub worst_run: Option<usize>,
    /// One line for people.
    pub text: String,
}

/// The figures of the runs that count.
struct Figures {
    /// Run and figure.
    found: Vec<(usize, Sample)>,
    /// Runs that count and do not have it.
    absent: usize,
}

impl Expectation {
    /// Judges it over all runs of a scenario. Runs with an inert fault do not count, except where safety is concerned: a
    /// violation is one however it came about.
    pub fn judge(&self, runs: &[Measurement]) -> Judged {
        let figures = self.figures(runs);
        let Some(worst) = self.worst(&figures) else {
            let text = format!("{}: not measured in any of {}", self.text, plural(figures.absent, "run"));
            return Judged {
                verdict: Verdict::Inconclusive,
                measured: None,
                censored: false,
                class: None,
                worst_run: None,
                text,
            };
        };
        let (sample, label) = self.aggregate(&figures, worst.1);
        let mut verdict = match self.aggregation {
            Aggregation::EachRun => figures.found.iter().map(|(_, sample)| self.compare(*sample)).max(),
            _ => Some(self.compare(sample)),
        };
        if verdict == Some(Verdict::Ok) && figures.absent > 0 && self.absent() == Absent::Inconclusive {
            verdict = Some(Verdict::Inconclusive);
        }
        let verdict = verdict.unwrap_or(Verdict::Inconclusive);
        Judged {
            verdict,
            measured: Some(sample.value),
            censored: sample.censored,
            class: (verdict == Verdict::Broken).then(|| self.class()),
            worst_run: Some(worst.0),
            text: self.words(&figures, sample, &label),
        }
    }

    /// The class of exit if this run alone breaks the expectation whatever the other runs are: that makes it a failing
    /// seed. A run above the bound of a percentile or a mean is none, and neither is one below what only the largest
    /// has to reach.
    pub fn broken_by(&self, run: &Measurement) -> Option<ExitClass> {
        let upper = matches!(self.operator, Operator::AtMost | Operator::Below | Operator::Equal);
        let lower = matches!(self.operator, Operator::AtLeast | Operator::Above);
        let alone = match self.aggregation {
            Aggregation::EachRun => true,
            // Figures are never negative, so a sum is at least its largest part.
            Aggregation::Max | Aggregation::Sum => upper && self.exceeds(run),
            Aggregation::Min => lower,
            Aggregation::Mean | Aggregation::Percentile(_) => false,
        };
        alone.then(|| self.judge(std::slice::from_ref(run)).class).flatten()
    }

    /// Whether the run lies above the bound, so that no other run can make good for it.
    fn exceeds(&self, run: &Measurement) -> bool {
        self.subject.read(run).is_some_and(|sample| sample.value >= self.bound)
    }

    fn figures(&self, runs: &[Measurement]) -> Figures {
        let everything = self.class() == ExitClass::Safety;
        let mut figures = Figures { found: Vec::new(), absent: 0 };
        for (index, run) in runs.iter().enumerate().filter(|(_, run)| everything || !run.inert()) {
            match self.subject.read(run) {
                Some(sample) => figures.found.push((index, sample)),
                None => figures.absent += 1,
            }
        }
        figures
    }

    /// The run furthest on the wrong side, the first of equals.
    fn worst(&self, figures: &Figures) -> Option<(usize, Sample)> {
        let away = |(_, sample): &(usize, Sample)| match self.operator {
            Operator::AtMost | Operator::Below => (sample.censored, sample.value),
            Operator::AtLeast | Operator::Above => (!sample.censored, -sample.value),
            Operator::Equal => (sample.censored, (sample.value - self.bound).abs()),
            Operator::Unequal => (!sample.censored, -(sample.value - self.bound).abs()),
        };
        let worse = |a: (usize, Sample), b: (usize, Sample)| if away(&b) > away(&a) { b } else { a };
        figures.found.iter().copied().reduce(worse)
    }

    /// The one figure to judge by, and how it came about.
    fn aggregate(&self, figures: &Figures, worst: Sample) -> (Sample, String) {
        let distribution: Distribution = figures.found.iter().map(|(_, sample)| *sample).collect();
        let (sample, label) = match self.aggregation {
            Aggregation::EachRun => (Some(worst), String::new()),
            Aggregation::Min => (distribution.min(), String::new()),
            Aggregation::Max => (distribution.max(), String::new()),
            Aggregation::Mean => (distribution.mean(), String::new()),
            Aggregation::Sum => {
                let sum = distribution.sorted().iter().map(|sample| sample.value).sum();
                (Some(Sample { value: sum, censored: distribution.censored() > 0 }), String::new())
            }
            Aggregation::Percentile(per_mille) => {
                let quantile = distribution.quantile(per_mille);
                let label = quantile.and_then(|quantile| quantile.maximum_of);
                let label = label.map(|n| format!(", {} (max of {n})", percentile_name(per_mille)));
                let sample = quantile.map(|q| Sample { value: q.value, censored: q.censored });
                (sample, label.unwrap_or_default())
            }
        };
        (sample.unwrap_or(worst), label)
    }

    /// Whether a figure keeps the expectation. Of a censored one only a lower bound is known: it can break an upper limit
    /// or keep a lower one, but below the limit it says nothing.
    fn compare(&self, sample: Sample) -> Verdict {
        let Sample { value, censored } = sample;
        let holds = match self.operator {
            Operator::AtMost => value <= self.bound,
            Operator::Below => value < self.bound,
            Operator::AtLeast => value >= self.bound,
            Operator::Above => value > self.bound,
            Operator::Equal => value == self.bound,
            Operator::Unequal => value != self.bound,
        };
        if censored {
            let reached = value >= self.bound;
            return match self.operator {
                _ if !reached => Verdict::Inconclusive,
                Operator::AtMost | Operator::Below | Operator::Equal => Verdict::Broken,
                Operator::AtLeast | Operator::Above | Operator::Unequal => Verdict::Ok,
            };
        }
        if holds { Verdict::Ok } else { Verdict::Broken }
    }

    fn absent(&self) -> Absent {
        match &self.subject {
            Subject::Known(metric) => metric.0.absent,
            Subject::Extra(_) => Absent::LeftOut,
        }
    }

    fn words(&self, figures: &Figures, sample: Sample, label: &str) -> String {
        let unit = match &self.subject {
            Subject::Known(metric) => metric.0.unit,
            Subject::Extra(_) => Unit::Count,
        };
        let figure = figure(sample, unit);
        let runs = plural(figures.found.len(), "run");
        let absent = match figures.absent {
            0 => String::new(),
            absent => format!(", not measured in {}", plural(absent, "run")),
        };
        format!("{}: {figure} in {runs}{label}{absent}", self.text)
    }
}

/// A figure with its unit, as people read it.
pub fn figure(sample: Sample, unit: Unit) -> String {
    let above = if sample.censored { "> " } else { "" };
    let value = sample.value;
    match unit {
        Unit::Time if value >= 1_000.0 => format!("{above}{:.3} s", value / 1_000.0),
        Unit::Time => format!("{above}{value:.3} ms"),
        Unit::Bytes => format!("{above}{value} B"),
        Unit::Count => format!("{above}{value}"),
        Unit::Flag => if value == 1.0 { "yes" } else { "no" }.to_owned(),
    }
}

/// `p99` for 990, `p999` for 999.
pub fn percentile_name(per_mille: u32) -> String {
    if per_mille.is_multiple_of(10) { format!("p{}", per_mille / 10) } else { format!("p{per_mille}") }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
