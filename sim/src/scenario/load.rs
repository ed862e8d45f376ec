//! Reading scenarios: every error says what, where and how to mend it.

use super::{Scenario, Span};
use crate::nearest::nearest;
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::Path;

/// A scenario and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The scenario.
    pub scenario: Scenario,
    /// Its file, as it was named.
    pub path: String,
    /// Its text, for reports and capsules.
    pub text: String,
}

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}\n  help: `firedrill list` names the scenarios that are there")]
    Missing {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a valid scenario.
    #[error("{0}")]
    Bad(Box<Diagnosis>),
}

/// What is wrong, where, and how to mend it.
#[derive(Debug)]
pub struct Diagnosis {
    /// File name.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The place inside the document, as `faults[1].crash.at`.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub help: Option<String>,
    /// The text of the line.
    pub excerpt: String,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}:{}: {}", self.path, self.line, self.column, self.what)?;
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(f, "  {margin} |")?;
        writeln!(f, "  {number} | {}", self.excerpt)?;
        writeln!(f, "  {margin} | {}^", " ".repeat(self.column.saturating_sub(1)))?;
        write!(f, "  {margin} = at {}", if self.place.is_empty() { "the top" } else { &self.place })?;
        match &self.help {
            Some(help) => write!(f, "\n  {margin} = help: {help}"),
            None => Ok(()),
        }
    }
}

/// Read and check a scenario file.
///
/// # Errors
/// The file cannot be read, is not JSON, does not have the form, or makes no sense.
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    let shown = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|source| LoadError::Missing { path: shown.clone(), source })?;
    load_text(&text, &shown)
}

/// Check the text of a scenario.
///
/// # Errors
/// As [`load`], but for reading.
pub fn load_text(text: &str, path: &str) -> Result<Loaded, LoadError> {
    let scenario: Scenario = parse(text, path)?;
    let loaded = Loaded { scenario, path: path.to_owned(), text: text.to_owned() };
    check(&loaded)?;
    Ok(loaded)
}

/// Parse JSON into a type, with the place of an error.
///
/// # Errors
/// The text is not JSON or does not have the type's form.
pub fn parse<T: DeserializeOwned>(text: &str, path: &str) -> Result<T, LoadError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let place = error.path().to_string();
        let inner = error.into_inner();
        let (line, column) = (inner.line().max(1), inner.column().max(1));
        let message = inner.to_string();
        let what = message.split(" at line ").next().unwrap_or(&message).to_owned();
        bad(path, text, line, column, place, help_for(&what), what)
    })?;
    deserializer.end().map_err(|error| {
        let what = "something follows the end of the scenario".to_owned();
        bad(path, text, error.line(), error.column(), String::new(), None, what)
    })?;
    Ok(parsed)
}

fn bad(
    path: &str,
    text: &str,
    line: usize,
    column: usize,
    place: String,
    help: Option<String>,
    what: String,
) -> LoadError {
    let excerpt = text.lines().nth(line.saturating_sub(1)).unwrap_or("").to_owned();
    let place = if place == "." { String::new() } else { place };
    LoadError::Bad(Box::new(Diagnosis { path: path.to_owned(), line, column, place, what, help, excerpt }))
}

/// From "unknown field `x`, expected one of `a`, `b`": the nearest right name.
fn help_for(what: &str) -> Option<String> {
    if !what.starts_with("unknown") {
        return None;
    }
    let mut names = what.split('`').skip(1).step_by(2);
    let wrong = names.next()?;
    let allowed: Vec<&str> = names.collect();
    nearest(wrong, allowed.iter().copied()).map(|name| format!("did you mean `{name}`?"))
}

/// What the form alone cannot say: targets exist, expectations name metrics, times lie in order.
fn check(loaded: &Loaded) -> Result<(), LoadError> {
    let scenario = &loaded.scenario;
    let complain = |place: String, needle: &str, what: String, help: Option<String>| {
        let (line, column) = locate(&loaded.text, needle);
        bad(&loaded.path, &loaded.text, line, column, place, help, what)
    };
    if scenario.version != 1 {
        let what =
            format!("version {} of the format is not known; this program reads version 1", scenario.version);
        return Err(complain("version".to_owned(), "\"version\"", what, None));
    }
    if scenario.duration < Span::secs(1) {
        let what = "a run of less than a second shows nothing".to_owned();
        return Err(complain("duration".to_owned(), "\"duration\"", what, None));
    }
    if scenario.heal_at() > scenario.duration {
        let what = format!("faults heal at {}, after the end at {}", scenario.heal_at(), scenario.duration);
        return Err(complain("heal_at".to_owned(), "\"heal_at\"", what, None));
    }
    let load = scenario.workload.load();
    if load.clients == 0 || load.clients > 1_000 {
        let what = "a workload has between 1 and 1000 clients".to_owned();
        return Err(complain("workload".to_owned(), "\"clients\"", what, None));
    }
    check_expectations(scenario, &complain)?;
    check_targets(scenario, &complain)
}

/// Makes an error: the place in the document, a text to find its line by, what is wrong, how to mend it.
type Complain<'a> = dyn Fn(String, &str, String, Option<String>) -> LoadError + 'a;

fn check_expectations(scenario: &Scenario, complain: &Complain<'_>) -> Result<(), LoadError> {
    for (list, name) in [(&scenario.expect, "expect"), (&scenario.caught_by, "caught_by")] {
        for (at, text) in list.iter().enumerate() {
            if let Err(error) = firedrill_checkers::expect::parse(text) {
                let place = format!("{name}[{at}]");
                return Err(complain(place, &format!("\"{text}\""), error.to_string(), None));
            }
        }
    }
    Ok(())
}

fn check_targets(scenario: &Scenario, complain: &Complain<'_>) -> Result<(), LoadError> {
    let view = crate::systems::view_of(scenario);
    if let Some(shard) = scenario.workload.load().shard.filter(|shard| *shard >= view.shards()) {
        let what = format!("there is no shard {shard}: the system has {}, counted from 0", view.shards());
        return Err(complain("workload".to_owned(), "\"shard\"", what, None));
    }
    for (at, fault) in scenario.faults.iter().enumerate() {
        if let super::At::Time(time) | super::At::Range(_, time) = fault.at()
            && *time > scenario.heal_at()
        {
            let what =
                format!("this fault strikes at {time}, after all faults heal at {}", scenario.heal_at());
            let help = Some("move the fault, or set a later `heal_at`".to_owned());
            return Err(complain(format!("faults[{at}].{}", fault.kind()), &format!("\"{time}"), what, help));
        }
        if matches!(fault, crate::faults::Fault::Certificates(_)) && scenario.network.tls.is_none() {
            let what = "there are no certificates: streams are plain".to_owned();
            let help = Some("say `\"tls\": {}` in `network`".to_owned());
            return Err(complain(format!("faults[{at}].certificates"), "\"certificates\"", what, help));
        }
        for word in fault.words() {
            if !view.knows(word) {
                let known = view.known_words();
                let help = match nearest(word, known.iter().map(String::as_str)) {
                    Some(name) => format!("did you mean `{name}`? `firedrill list --words` names them all"),
                    None => format!("known are: {}", known.join(", ")),
                };
                let what = format!("`{word}` is no target of this system");
                let place = format!("faults[{at}].{}", fault.kind());
                return Err(complain(place, &format!("\"{word}\""), what, Some(help)));
            }
        }
    }
    Ok(())
}

/// Line and column of the first place where a text occurs.
fn locate(text: &str, needle: &str) -> (usize, usize) {
    let Some(at) = text.find(needle) else { return (1, 1) };
    let line = text[..at].matches('\n').count() + 1;
    let column = at - text[..at].rfind('\n').map_or(0, |newline| newline + 1) + 1;
    (line, column)
}

/// The JSON schema of the scenario file.
pub fn schema() -> String {
    let generator = schemars::generate::SchemaSettings::draft07().into_generator();
    let schema = generator.into_root_schema_for::<Scenario>();
    serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n"
}
