//! The recovery times of many runs in a few numbers. Times are milliseconds.

use crate::stats::Distribution;
use serde::{Deserialize, Serialize};

/// Percentiles of a duration, censored runs included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: f64,
    /// Runs that had not recovered when they ended.
    pub censored: u32,
    /// Runs in this distribution.
    pub samples: u32,
    /// Which of the figures fall into the censored runs and are lower bounds only (print them as "> T").
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lower_bounds: Vec<String>,
    /// Which of the percentiles have too few samples and are the maximum (print them as `p99 (max of 20)`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maxima: Vec<String>,
}

impl Percentiles {
    /// The percentiles of a distribution; `None`: it is empty.
    pub fn of(distribution: &Distribution) -> Option<Self> {
        let largest = distribution.max()?;
        let mut percentiles = Percentiles {
            max: largest.value,
            censored: distribution.censored() as u32,
            samples: distribution.len() as u32,
            ..Percentiles::default()
        };
        for (name, per_mille) in [("p50", 500), ("p90", 900), ("p95", 950), ("p99", 990)] {
            let quantile = distribution.quantile(per_mille)?;
            *percentiles.slot(name) = quantile.value;
            if quantile.censored {
                percentiles.lower_bounds.push(name.to_owned());
            }
            if quantile.maximum_of.is_some() {
                percentiles.maxima.push(name.to_owned());
            }
        }
        if largest.censored {
            percentiles.lower_bounds.push("max".to_owned());
        }
        Some(percentiles)
    }

    fn slot(&mut self, name: &str) -> &mut f64 {
        match name {
            "p50" => &mut self.p50,
            "p90" => &mut self.p90,
            "p95" => &mut self.p95,
            _ => &mut self.p99,
        }
    }
}
