//! Reads an expectation, and says what is wrong with one that cannot be read: where, what is allowed there, and what
//! was probably meant.

use super::registry::{METRICS, Metric, Plain, Unit, find};
use super::{Aggregation, Expectation, KnownMetric, Operator, Subject};
use thiserror::Error;

/// Why an expectation cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what} at column {}{}{}", .position + 1, hint(.suggestion), list(.allowed))]
pub struct ParseError {
    /// What is wrong.
    pub what: String,
    /// Byte offset in the text where it begins.
    pub position: usize,
    /// Length in bytes of what is wrong.
    pub length: usize,
    /// What may stand there.
    pub allowed: Vec<String>,
    /// The nearest allowed thing.
    pub suggestion: Option<String>,
}

fn hint(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

fn list(allowed: &[String]) -> String {
    if allowed.is_empty() { String::new() } else { format!("; allowed: {}", allowed.join(", ")) }
}

/// Reads one expectation.
///
/// # Errors
/// Says where the text is wrong, what is allowed there and the nearest right name.
pub fn parse(text: &str) -> Result<Expectation, ParseError> {
    let mut words = Words { text, at: 0 };
    let mut name = words.name();
    let negated = name.is("not");
    if negated {
        name = words.name();
    }
    if name.text.is_empty() {
        let known = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
        return Err(wrong(&words.rest(), "expected the name of a metric", known, None));
    }
    let (subject, aggregation) = subject(name)?;
    let (operator, bound) = comparison(&mut words, name, &subject, negated)?;
    let rest = words.rest();
    if !rest.text.is_empty() {
        return Err(wrong(&rest, &format!("`{}` is too much", rest.text), Vec::new(), None));
    }
    let aggregation = aggregation.unwrap_or(match &subject {
        Subject::Known(metric) if metric.0.plain == Plain::Sum => Aggregation::Sum,
        Subject::Known(_) | Subject::Extra(_) => Aggregation::EachRun,
    });
    Ok(Expectation { text: text.trim().to_owned(), subject, aggregation, operator, bound })
}

/// The name of a metric with or without an aggregation.
fn subject(name: Word) -> Result<(Subject, Option<Aggregation>), ParseError> {
    let known = |name: &str| find(name).map(|metric| Subject::Known(KnownMetric(metric)));
    if let Some(subject) = known(name.text) {
        return Ok((subject, None));
    }
    let (stem, last) = name.text.rsplit_once('.').unwrap_or(("", name.text));
    if let Some(extra) = name.text.strip_prefix("extra.").filter(|extra| !extra.is_empty()) {
        let aggregated = extra.rsplit_once('.').and_then(|(stem, last)| Some((stem, aggregation(last)?)));
        let (extra, aggregation) = aggregated.map_or((extra, None), |(stem, found)| (stem, Some(found)));
        return Ok((Subject::Extra(extra.to_owned()), aggregation));
    }
    if let (Some(subject), Some(found)) = (known(stem), aggregation(last)) {
        return allowed_on(name, stem, subject, found);
    }
    // The fields of reports: `rpo.writes_max`.
    if let Some((stem, last)) = name.text.rsplit_once('_')
        && let (Some(subject), Some(found)) = (known(stem), aggregation(last))
    {
        return allowed_on(name, stem, subject, found);
    }
    let near_a_metric = nearest(name.text, names().into_iter()).is_some();
    if known(stem).is_some() && !near_a_metric {
        let at = Word { at: name.at + stem.len() + 1, text: last };
        let words: Vec<String> = AGGREGATIONS.iter().map(|(word, _)| (*word).to_owned()).collect();
        let nearest = nearest(last, words.iter().map(String::as_str));
        return Err(wrong(&at, &format!("unknown aggregation `{last}`"), words, nearest));
    }
    Err(unknown_metric(name))
}

/// Every name and alias.
fn names() -> Vec<&'static str> {
    METRICS.iter().flat_map(|metric: &Metric| metric.aliases.iter().copied().chain([metric.name])).collect()
}

/// A flag is yes or no in each run and has no percentile.
fn allowed_on(
    name: Word,
    stem: &str,
    subject: Subject,
    found: Aggregation,
) -> Result<(Subject, Option<Aggregation>), ParseError> {
    match &subject {
        Subject::Known(metric) if metric.0.unit == Unit::Flag => {
            let at = Word { at: name.at + stem.len(), text: &name.text[stem.len()..] };
            let what = format!("`{stem}` is yes or no and has no aggregation");
            Err(wrong(&at, &what, vec![stem.to_owned(), format!("not {stem}")], Some(stem.to_owned())))
        }
        Subject::Known(_) | Subject::Extra(_) => Ok((subject, Some(found))),
    }
}

fn unknown_metric(name: Word) -> ParseError {
    let known: Vec<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    let direct = nearest(name.text, names().into_iter());
    // `rtp.p99`: right but for the metric; the aggregation is kept in the suggestion.
    let aggregated = name.text.rsplit_once('.').filter(|(_, last)| aggregation(last).is_some());
    let aggregated =
        aggregated.and_then(|(stem, last)| Some(format!("{}.{last}", nearest(stem, names().into_iter())?)));
    wrong(&name, &format!("unknown metric `{}`", name.text), known, aggregated.or(direct))
}

const AGGREGATIONS: &[(&str, Aggregation)] = &[
    ("min", Aggregation::Min),
    ("max", Aggregation::Max),
    ("mean", Aggregation::Mean),
    ("sum", Aggregation::Sum),
    ("p50", Aggregation::Percentile(500)),
    ("p75", Aggregation::Percentile(750)),
    ("p90", Aggregation::Percentile(900)),
    ("p95", Aggregation::Percentile(950)),
    ("p99", Aggregation::Percentile(990)),
    ("p999", Aggregation::Percentile(999)),
];

fn aggregation(word: &str) -> Option<Aggregation> {
    AGGREGATIONS.iter().find(|(name, _)| *name == word).map(|(_, aggregation)| *aggregation)
}

const OPERATORS: &[(&str, Operator)] = &[
    ("<=", Operator::AtMost),
    ("<", Operator::Below),
    (">=", Operator::AtLeast),
    (">", Operator::Above),
    ("==", Operator::Equal),
    ("!=", Operator::Unequal),
];

/// Operator and value; a flag may stand alone.
fn comparison(
    words: &mut Words,
    name: Word,
    subject: &Subject,
    negated: bool,
) -> Result<(Operator, f64), ParseError> {
    let unit = match subject {
        Subject::Known(metric) => Some(metric.0.unit),
        Subject::Extra(_) => None,
    };
    if negated && unit != Some(Unit::Flag) {
        let flags =
            METRICS.iter().filter(|metric| metric.unit == Unit::Flag).map(|metric| metric.name.to_owned());
        return Err(wrong(&name, "`not` needs a metric that is yes or no", flags.collect(), None));
    }
    let symbol = words.symbol();
    if unit == Some(Unit::Flag) && (symbol.text.is_empty() || negated) {
        return match symbol.text {
            "" => Ok((Operator::Equal, f64::from(u8::from(!negated)))),
            _ => Err(wrong(&symbol, "`not` stands without a comparison", Vec::new(), None)),
        };
    }
    let Some((_, operator)) = OPERATORS.iter().find(|(name, _)| *name == symbol.text) else {
        let names: Vec<String> = OPERATORS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let meant = match symbol.text {
            "=" | "===" => Some("==".to_owned()),
            "=<" | "≤" => Some("<=".to_owned()),
            "=>" | "≥" => Some(">=".to_owned()),
            "<>" | "~=" | "≠" | "!" => Some("!=".to_owned()),
            _ => None,
        };
        let what = match symbol.text {
            "" => "expected a comparison".to_owned(),
            other => format!("unknown comparison `{other}`"),
        };
        return Err(wrong(&symbol, &what, names, meant));
    };
    Ok((*operator, value(words.word(), unit)?))
}

/// Factors to milliseconds.
const TIMES: &[(&str, f64)] =
    &[("us", 0.001), ("ms", 1.0), ("s", 1_000.0), ("m", 60_000.0), ("min", 60_000.0), ("h", 3_600_000.0)];
/// Factors to bytes.
const SIZES: &[(&str, f64)] = &[
    ("B", 1.0),
    ("kB", 1e3),
    ("KB", 1e3),
    ("KiB", 1024.0),
    ("MB", 1e6),
    ("MiB", 1_048_576.0),
    ("GB", 1e9),
    ("GiB", 1_073_741_824.0),
];

/// A number with the unit that the metric asks for; a zero needs none. A measure of one system's own takes any.
fn value(word: Word, unit: Option<Unit>) -> Result<f64, ParseError> {
    if unit == Some(Unit::Flag) {
        return match word.text {
            "true" | "1" => Ok(1.0),
            "false" | "0" => Ok(0.0),
            _ => Err(wrong(&word, "expected yes or no", vec!["true".to_owned(), "false".to_owned()], None)),
        };
    }
    let split = word.text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(word.text.len());
    let (digits, suffix) = word.text.split_at(split);
    let number: f64 = digits.parse().map_err(|_| {
        let what = if word.text.is_empty() {
            "expected a value".to_owned()
        } else {
            format!("`{}` is no number", word.text)
        };
        wrong(&word, &what, vec![example(unit).to_owned()], None)
    })?;
    let table: Vec<(&str, f64)> = match unit {
        Some(Unit::Time) => TIMES.to_vec(),
        Some(Unit::Bytes) => SIZES.to_vec(),
        Some(Unit::Count | Unit::Flag) => vec![],
        None => TIMES.iter().chain(SIZES).copied().collect(),
    };
    let bare = suffix.is_empty() && (number == 0.0 || matches!(unit, Some(Unit::Count) | None));
    let factor = table.iter().find(|(name, _)| *name == suffix).map(|(_, factor)| *factor);
    factor.or(bare.then_some(1.0)).map(|factor| number * factor).ok_or_else(|| {
        let names: Vec<String> = table.iter().map(|(name, _)| format!("{digits}{name}")).collect();
        let at = Word { at: word.at + split, text: suffix };
        let what = match suffix {
            "" => format!("`{digits}` needs a unit"),
            _ if table.is_empty() => format!("`{digits}` is a plain number here, not `{}`", word.text),
            _ => format!("unknown unit `{suffix}`"),
        };
        let caseless =
            table.iter().find(|(name, _)| name.eq_ignore_ascii_case(suffix)).map(|(name, _)| *name);
        let meant = caseless.map(|name| format!("{digits}{name}"));
        wrong(&at, &what, names, meant.or(table.is_empty().then(|| digits.to_owned())))
    })
}

fn example(unit: Option<Unit>) -> &'static str {
    match unit {
        Some(Unit::Time) => "a duration such as 12s or 250ms",
        Some(Unit::Bytes) => "a size such as 1024B or 64KiB",
        Some(Unit::Count) => "a number",
        Some(Unit::Flag) => "true or false",
        None => "a number, a duration or a size",
    }
}

/// A part of the text and where it begins.
#[derive(Clone, Copy, Debug)]
struct Word<'a> {
    at: usize,
    text: &'a str,
}

impl Word<'_> {
    fn is(&self, text: &str) -> bool {
        self.text == text
    }
}

struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    /// Takes what follows as long as `part_of` says so, after white space.
    fn take(&mut self, part_of: impl Fn(char) -> bool) -> Word<'a> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        let rest = &self.text[self.at..];
        let length = rest.find(|c: char| !part_of(c)).unwrap_or(rest.len());
        let word = Word { at: self.at, text: &rest[..length] };
        self.at += length;
        word
    }

    fn name(&mut self) -> Word<'a> {
        self.take(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'))
    }

    fn symbol(&mut self) -> Word<'a> {
        self.take(|c| !c.is_alphanumeric() && !c.is_whitespace() && !matches!(c, '_' | '.' | '-'))
    }

    fn word(&mut self) -> Word<'a> {
        self.take(|c| !c.is_whitespace())
    }

    fn rest(&mut self) -> Word<'a> {
        let mut word = self.take(|_| true);
        word.text = word.text.trim_end();
        word
    }
}

fn wrong(word: &Word, what: &str, allowed: Vec<String>, suggestion: Option<String>) -> ParseError {
    ParseError { what: what.to_owned(), position: word.at, length: word.text.len(), allowed, suggestion }
}

/// The name nearest to `text`, if one is near enough to have been meant: at most a third of its letters differ.
pub(crate) fn nearest<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    let lower = text.to_lowercase();
    let scored = names.map(|name| (distance(&lower, &name.to_lowercase()), name));
    let (edits, name) = scored.min_by_key(|(edits, _)| *edits)?;
    (edits <= (name.chars().count() / 3).max(1)).then(|| name.to_owned())
}

/// Edits from one word to the other: insertions, deletions, replacements, swaps of neighbours (optimal string
/// alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
