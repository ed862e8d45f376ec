//! Numbers and names as people read them, and the escaping every output format needs.

use crate::result::RtoSummary;
use firedrill_checkers::expect::registry::{Unit, find};
use firedrill_checkers::expect::{Subject, parse};
use firedrill_checkers::stats::samples_needed;

/// Printed wherever there is no figure. A report never shows 0 for something that was not measured.
pub const NOT_MEASURED: &str = "not measured";

/// Colours of a terminal; the caller decides (terminal or pipe, `NO_COLOR`, `--color`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// No escape codes.
    #[default]
    Plain,
    /// ANSI colours, always beside a word that says the same.
    Colour,
}

impl Style {
    /// Text in green.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Text in bold red.
    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Text in yellow.
    pub fn unsure(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Text that stands back.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Text that stands out.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Style::Plain => text.to_owned(),
            Style::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// A time in milliseconds with the unit that suits its size.
pub fn ms(value: f64) -> String {
    if !value.is_finite() {
        return NOT_MEASURED.to_owned();
    }
    let size = value.abs();
    // Limits lie half a printed digit below the next unit, so that no value is printed as `1000 ms`.
    if size == 0.0 {
        "0 ms".to_owned()
    } else if size < 9.995 {
        format!("{value:.2} ms")
    } else if size < 999.5 {
        format!("{value:.0} ms")
    } else if size < 9_995.0 {
        format!("{:.2} s", value / 1_000.0)
    } else if size < 119_950.0 {
        format!("{:.1} s", value / 1_000.0)
    } else {
        let seconds = (value / 1_000.0).round() as i64;
        format!("{} min {:02} s", seconds / 60, seconds.abs() % 60)
    }
}

/// A time that may not have been measured.
pub fn ms_or(value: Option<f64>) -> String {
    value.map_or_else(|| NOT_MEASURED.to_owned(), ms)
}

/// A time of the run, in seconds with milliseconds.
pub fn clock(at: firedrill_checkers::record::SimTime) -> String {
    format!("{}.{:03}s", at.0 / 1_000_000, at.0 / 1_000 % 1_000)
}

/// A count with thousands separated by commas.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count that may not have been measured.
pub fn count_or(value: Option<u64>) -> String {
    value.map_or_else(|| NOT_MEASURED.to_owned(), count)
}

/// A count and its noun, in the plural where it belongs.
pub fn plural(value: u64, noun: &str) -> String {
    let ending = if value == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(value))
}

/// A size in bytes.
pub fn bytes(value: u64) -> String {
    match value {
        0..10_000 => format!("{} B", count(value)),
        10_000..10_000_000 => format!("{:.1} kB", value as f64 / 1e3),
        _ => format!("{:.1} MB", value as f64 / 1e6),
    }
}

/// A ratio (0 to 1) as a percentage with as many digits as a small one needs.
pub fn percent(ratio: f64) -> String {
    let value = ratio * 100.0;
    match value {
        _ if !value.is_finite() => NOT_MEASURED.to_owned(),
        _ if value >= 9.95 || value == 0.0 => format!("{value:.0} %"),
        _ if value >= 0.095 => format!("{value:.1} %"),
        _ if value >= 0.0095 => format!("{value:.2} %"),
        _ => "< 0.01 %".to_owned(),
    }
}

/// One figure of a recovery time by its name: `7.41 s`, `> 70 s` where it falls on runs that never recovered, or that
/// nothing was measured.
pub fn percentile(rto: &RtoSummary, name: &str) -> String {
    let value = match name {
        "p50" => rto.p50,
        "p90" => rto.p90,
        "p95" => rto.p95,
        "p99" => rto.p99,
        _ => rto.max,
    };
    match value {
        Some(value) if rto.is_lower_bound(name) => format!("> {}", ms(value)),
        value => ms_or(value),
    }
}

/// `p99`, or `p99 (max of 20)` where there are too few samples for it.
pub fn percentile_label(percent: u32, samples: u64) -> String {
    if samples > 0 && samples < samples_needed(percent * 10) as u64 {
        format!("p{percent} (max of {})", count(samples))
    } else {
        format!("p{percent}")
    }
}

/// Text for HTML, SVG and XML, inside elements and inside quoted attributes. Characters that XML cannot hold become
/// U+FFFD, so that a strange name can be seen but not break a parser.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(c),
            '\u{0}'..'\u{20}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    out
}

/// Text for a terminal or a log: control characters (escape codes among them) become visible.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A name as an anchor inside a page: unique as long as `index` is.
pub fn anchor(index: usize, name: &str) -> String {
    let slug: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(60)
        .collect();
    format!("s{index}-{slug}")
}

/// A value of an expectation's metric in its unit. What is no expectation of this program is shown as a number.
pub fn measured(expect: &str, value: Option<f64>) -> String {
    let unit = parse(expect).ok().and_then(|e| match e.subject {
        Subject::Known(metric) => Some(metric.0.unit),
        Subject::Extra(_) => None,
    });
    in_unit(unit.unwrap_or(Unit::Count), value)
}

/// A value of a metric of the registry, by its name.
pub fn of_metric(name: &str, value: f64) -> String {
    in_unit(find(name).map_or(Unit::Count, |metric| metric.unit), Some(value))
}

fn in_unit(unit: Unit, value: Option<f64>) -> String {
    match (unit, value.filter(|v| v.is_finite())) {
        (_, None) => NOT_MEASURED.to_owned(),
        (Unit::Time, Some(value)) => ms(value),
        (Unit::Bytes, Some(value)) if value >= 0.0 => bytes(value.round() as u64),
        (Unit::Flag, Some(value)) => if value == 1.0 { "yes" } else { "no" }.to_owned(),
        (Unit::Count | Unit::Bytes, Some(value)) => number(value),
    }
}

/// A number with at most three decimals and no trailing zeros.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return NOT_MEASURED.to_owned();
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_take_the_unit_that_suits_them() {
        let shown: Vec<String> =
            [0.0, 0.25, 12.4, 999.4, 999.6, 7412.0, 61_000.0, 125_000.0, f64::NAN].map(ms).to_vec();
        let expected = [
            "0 ms",
            "0.25 ms",
            "12 ms",
            "999 ms",
            "1.00 s",
            "7.41 s",
            "61.0 s",
            "2 min 05 s",
            "not measured",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!(
            [0, 999, 1000, 20_000, 1_234_567].map(count),
            ["0", "999", "1,000", "20,000", "1,234,567"]
        );
    }

    #[test]
    fn escaped_text_cannot_leave_its_place() {
        assert_eq!(
            escape("<a href=\"x\">&'\u{1b}\u{0}"),
            "&lt;a href=&quot;x&quot;&gt;&amp;&#39;\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn a_censored_percentile_is_larger_than_the_time_watched() {
        let lower_bounds = vec!["p99".to_owned()];
        let rto = RtoSummary { p99: Some(70_000.0), lower_bounds, ..RtoSummary::default() };
        assert_eq!(percentile(&rto, "p99"), "> 70.0 s");
        assert_eq!(percentile(&rto, "p50"), NOT_MEASURED);
    }

    #[test]
    fn a_percentile_without_enough_samples_says_that_it_is_the_maximum() {
        assert_eq!(percentile_label(99, 298), "p99 (max of 298)");
        assert_eq!(percentile_label(99, 299), "p99");
    }

    #[test]
    fn values_are_shown_in_the_unit_of_their_metric() {
        assert_eq!(measured("rto.p99 <= 12s", Some(7_412.0)), "7.41 s");
        assert_eq!(measured("split_brain.grade <= 1", Some(3.0)), "3");
        assert_eq!(measured("linearizable", Some(0.0)), "no");
        assert_eq!(measured("rto.p99 <= 12s", None), NOT_MEASURED);
        assert_eq!(of_metric("rpo.bytes", 64.0), "64 B");
    }
}
