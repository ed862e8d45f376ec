//! Which seeds to run: `1..300` (both ends included), `7`, `3,9,0x1f`, `random:50`, `@file`, a 40-digit commit hash.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// A set of seeds, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds(String);

/// Why seeds cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SeedsError {
    /// The text is not one of the forms.
    #[error("`{0}` is not a set of seeds; write 1..300, 7, 3,9,0x1f, random:50 or @FILE")]
    Form(String),
    /// A file of seeds cannot be read.
    #[error("cannot read seeds from {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Too many.
    #[error("`{0}` are more than 100 million seeds")]
    TooMany(String),
}

const SEEDS_MAX: u64 = 100_000_000;

impl Seeds {
    /// Seeds by their text, checked for form.
    ///
    /// # Errors
    /// The text is not one of the forms.
    pub fn new(text: &str) -> Result<Self, SeedsError> {
        let seeds = Seeds(text.to_owned());
        if !text.starts_with('@') {
            seeds.list(0)?;
        }
        Ok(seeds)
    }

    /// The seeds, in order. `entropy` decides what `random:` draws.
    ///
    /// # Errors
    /// The text is not one of the forms, or names a file that cannot be read.
    pub fn list(&self, entropy: u64) -> Result<Vec<u64>, SeedsError> {
        let mut seeds = Vec::new();
        if let Some(path) = self.0.strip_prefix('@') {
            let text = std::fs::read_to_string(path)
                .map_err(|source| SeedsError::File { path: path.to_owned(), source })?;
            for line in text.split_whitespace() {
                self.part(line, entropy, &mut seeds)?;
            }
        } else {
            for part in self.0.split(',') {
                self.part(part.trim(), entropy, &mut seeds)?;
            }
        }
        Ok(seeds)
    }

    fn part(&self, part: &str, entropy: u64, seeds: &mut Vec<u64>) -> Result<(), SeedsError> {
        let form = || SeedsError::Form(self.0.clone());
        let (first, count) = if let Some(count) = part.strip_prefix("random:") {
            let count: u64 = count.parse().map_err(|_| form())?;
            let mut random = firedrill_protocols::contract::stream(entropy, 9, 0, 0);
            use rand_core::Rng;
            if count <= SEEDS_MAX {
                seeds.extend((0..count).map(|_| random.next_u64() >> 11));
                return Ok(());
            }
            (0, count)
        } else if let Some((from, to)) = part.split_once("..") {
            let (from, to) = (number(from).ok_or_else(form)?, number(to).ok_or_else(form)?);
            if from > to {
                return Err(form());
            }
            (from, (to - from).saturating_add(1))
        } else {
            (number(part).ok_or_else(form)?, 1)
        };
        if count > SEEDS_MAX {
            return Err(SeedsError::TooMany(self.0.clone()));
        }
        seeds.extend((0..count).map(|i| first + i));
        Ok(())
    }
}

/// A seed: decimal, `0x..`, or a commit hash of which the first 64 bits count.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok();
    }
    if text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return u64::from_str_radix(&text[..16], 16).ok();
    }
    text.parse().ok()
}

impl fmt::Display for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Seeds {
    type Err = SeedsError;
    fn from_str(text: &str) -> Result<Self, SeedsError> {
        Seeds::new(text)
    }
}

impl<'de> Deserialize<'de> for Seeds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Seeds::new(&text).map_err(serde::de::Error::custom)
    }
}

impl Serialize for Seeds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl JsonSchema for Seeds {
    fn schema_name() -> Cow<'static, str> {
        "Seeds".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "Seeds: 1..300, 7, 3,9,0x1f, random:50 or @FILE." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<u64> {
        Seeds::new(text).expect(text).list(1).expect(text)
    }

    #[test]
    fn seeds_are_ranges_lists_and_hashes() {
        assert_eq!(list("1..3"), [1, 2, 3]);
        assert_eq!(list("7, 0x10,9..10"), [7, 16, 9, 10]);
        assert_eq!(list("00000000000000ff000000000000000000000000"), [255]);
        assert_eq!(list("random:3").len(), 3);
        assert_eq!(list("random:3"), list("random:3"), "one entropy, one draw");
        for text in ["", "a", "3..1", "1..", "random:x", "1..99999999999"] {
            assert!(Seeds::new(text).is_err(), "{text}");
        }
    }
}
