//! What can be wrong with a history file, said so that it can be mended.

use std::fmt;
use std::path::PathBuf;

/// Why a history could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file could not be opened or mapped.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file was read, and something in it is not a history.
    #[error("{name}:{line}:{column}: {problem}")]
    Content {
        /// File name, as given.
        name: String,
        /// Line, from 1.
        line: u64,
        /// Column in bytes, from 1.
        column: u64,
        /// What is wrong, what is allowed, what was probably meant.
        problem: String,
    },
    /// There is nothing to check.
    #[error("{name}: {problem}")]
    Empty {
        /// File name, as given.
        name: String,
        /// What was looked for.
        problem: String,
    },
}

/// Something wrong at an offset of the text.
#[derive(Debug)]
pub(super) struct Problem {
    /// Byte at which it shows.
    pub offset: usize,
    text: Box<str>,
}

impl Problem {
    /// A problem in words.
    #[cold]
    pub fn new(offset: usize, text: impl fmt::Display) -> Problem {
        Problem { offset, text: text.to_string().into() }
    }

    /// A word that is not one of those allowed here.
    #[cold]
    pub fn unknown_word(offset: usize, what: &str, found: &[u8], allowed: &[&str]) -> Problem {
        let found = String::from_utf8_lossy(found);
        let mut text = format!("{what} `{found}` is unknown; allowed: {}", allowed.join(", "));
        if let Some(near) = nearest(&found, allowed) {
            text.push_str(&format!("; did you mean `{near}`?"));
        }
        Problem { offset, text: text.into() }
    }

    /// The same with line and column.
    pub fn locate(self, name: &str, text: &[u8]) -> ImportError {
        let before = &text[..self.offset.min(text.len())];
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        ImportError::Content {
            name: name.to_owned(),
            line: line_of(text, self.offset),
            column: (before.len() - line_start) as u64 + 1,
            problem: self.text.into(),
        }
    }
}

/// The line a byte stands on, from 1.
pub(super) fn line_of(text: &[u8], offset: usize) -> u64 {
    text[..offset.min(text.len())].iter().filter(|&&b| b == b'\n').count() as u64 + 1
}

/// The allowed word that is nearest to the one found, if it is near at all: at most a third of it wrong.
pub fn nearest<'a>(found: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let near = allowed.iter().map(|a| (distance(found.as_bytes(), a.as_bytes()), *a)).min()?;
    (near.0 * 3 <= found.len().max(near.1.len()) + 1).then_some(near.1)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words (Damerau-Levenshtein, restricted).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let width = b.len() + 1;
    let mut table = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i * width + j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replace = table[(i - 1) * width + j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let one_less = table[(i - 1) * width + j].min(table[i * width + j - 1]) + 1;
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let swap = if swapped { table[(i - 2) * width + j - 2] + 1 } else { usize::MAX };
                replace.min(one_less).min(swap)
            };
        }
    }
    table[a.len() * width + b.len()]
}
