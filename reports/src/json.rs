//! Machine-readable results: the summary as one JSON object, the runs as one JSON line each, and the way back.

use crate::Report;
use crate::result::{Campaign, RunLine};
use std::fmt;
use std::io::{self, BufRead};

/// The summary: what `--format json` prints, and nothing else.
pub struct Json;

impl Report for Json {
    fn write(&self, campaign: &Campaign, out: &mut dyn io::Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, &campaign.summary())?;
        out.write_all(b"\n")
    }
}

/// One line per run, in the order of the campaign: for SQL tools, `jq`, and this program's own `report`.
pub struct JsonLines;

impl Report for JsonLines {
    fn write(&self, campaign: &Campaign, out: &mut dyn io::Write) -> io::Result<()> {
        campaign.scenarios.iter().flat_map(|s| &s.lines).try_for_each(|line| write_line(line, out))
    }
}

/// Writes one run as one line.
///
/// # Errors
/// Those of `out`.
pub fn write_line(line: &RunLine, out: &mut dyn io::Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// Why stored runs could not be read.
#[derive(Debug)]
pub struct ReadError {
    /// Line of the file, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for ReadError {}

/// What stored runs gave.
#[derive(Debug, Default)]
pub struct ReadLines {
    /// The runs in the order of the file.
    pub lines: Vec<RunLine>,
    /// The last line was cut short, as a process that is killed while writing leaves it; it was left out.
    pub torn: bool,
}

/// Reads stored runs. A last line without an end and without sense is what a kill leaves behind: it is reported, not
/// an error.
///
/// # Errors
/// The first line that is no run, or that could not be read.
pub fn read_lines(mut input: impl BufRead) -> Result<ReadLines, ReadError> {
    let mut read = ReadLines::default();
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        let size =
            input.read_until(b'\n', &mut text).map_err(|e| ReadError { line: number, why: e.to_string() })?;
        if size == 0 {
            break;
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(&text) {
            Ok(line) => read.lines.push(line),
            Err(_) if text.last() != Some(&b'\n') => read.torn = true,
            Err(e) => return Err(ReadError { line: number, why: e.to_string() }),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn runs_survive_the_way_out_and_back() {
        let campaign = sample::campaign(sample::Size::Small);
        let mut stored = Vec::new();
        JsonLines.write(&campaign, &mut stored).unwrap();
        let back = read_lines(stored.as_slice()).unwrap();
        let original: Vec<RunLine> = campaign.scenarios.iter().flat_map(|s| s.lines.clone()).collect();
        assert_eq!(back.lines, original);
        assert!(!back.torn);
    }

    #[test]
    fn a_line_torn_by_a_kill_is_left_out_and_told() {
        let campaign = sample::campaign(sample::Size::Small);
        let mut stored = Vec::new();
        JsonLines.write(&campaign, &mut stored).unwrap();
        let lines = stored.iter().filter(|b| **b == b'\n').count();
        stored.truncate(stored.len() - 40);
        let back = read_lines(stored.as_slice()).unwrap();
        assert_eq!((back.lines.len(), back.torn), (lines - 1, true));
    }

    #[test]
    fn nonsense_in_the_middle_is_an_error_with_its_line() {
        let campaign = sample::campaign(sample::Size::Small);
        let mut stored = Vec::new();
        write_line(&campaign.scenarios[0].lines[0], &mut stored).unwrap();
        stored.extend_from_slice(b"{\"scenario\": 7}\n{}\n");
        assert_eq!(read_lines(stored.as_slice()).unwrap_err().line, 2);
    }

    #[test]
    fn seeds_are_strings_and_keep_all_64_bits() {
        let line = RunLine { seed: crate::result::Seed(u64::MAX), ..RunLine::default() };
        let text = serde_json::to_string(&line).unwrap();
        assert!(text.contains("\"seed\":\"18446744073709551615\""), "{text}");
        assert_eq!(serde_json::from_str::<RunLine>(&text).unwrap(), line);
        assert!(serde_json::from_str::<crate::result::Seed>("\"-1\"").is_err());
    }
}
