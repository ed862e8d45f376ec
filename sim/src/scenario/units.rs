//! Quantities as people write them in scenarios: a number with its unit. Bare numbers are refused, because nobody
//! remembers whether they were seconds or milliseconds.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// A length of time: `"500ms"`, `"1.5s"`, `"2m"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A rate: `"200/s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many in a thousand seconds.
    pub per_1000s: u64,
}

/// A number of bytes: `"256B"`, `"64KiB"`, `"1MiB"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A chance: `"0.1%"`, `"50ppm"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chance {
    /// Parts per million.
    pub ppm: u32,
}

impl Span {
    /// Whole seconds.
    pub const fn secs(seconds: u64) -> Self {
        Span(Duration::from_secs(seconds))
    }

    /// Whole milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Span(Duration::from_millis(millis))
    }

    /// In microseconds.
    pub fn micros(self) -> u64 {
        self.0.as_micros() as u64
    }
}

impl Rate {
    /// The time between two.
    pub fn interval(self) -> Duration {
        Duration::from_micros(1_000_000_000 / self.per_1000s.max(1))
    }
}

/// Units of time in microseconds, longest name first so that `ms` is not read as `m`.
const TIME_UNITS: [(&str, u64); 7] = [
    ("ms", 1_000),
    ("us", 1),
    ("µs", 1),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
];
const BYTE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// `text` as a decimal number of one of `units`, in the smallest unit. At most six decimals.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, scale) =
        units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?.trim_end(), *scale)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 6 || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let micro: u64 = format!("{fraction:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(scale.checked_mul(micro)? / 1_000_000)
}

impl std::str::FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        quantity(text, &TIME_UNITS).map(|micros| Span(Duration::from_micros(micros))).ok_or_else(|| {
            format!("`{text}` is not a length of time; write a number with a unit: us, ms, s, m, h or d, as in \"500ms\"")
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros() as u64;
        let units: [(&str, u64); 5] =
            [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];
        if micros == 0 {
            return f.write_str("0s");
        }
        let (unit, scale) =
            units.iter().find(|(_, scale)| micros.is_multiple_of(*scale)).expect("1 divides all");
        write!(f, "{}{unit}", micros / scale)
    }
}

impl std::str::FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let number = text.strip_suffix("/s")?;
            quantity(&format!("{number}x"), &[("x", 1_000)]).filter(|rate| *rate > 0)
        };
        parse()
            .map(|per_1000s| Rate { per_1000s })
            .ok_or_else(|| format!("`{text}` is not a rate; write it per second, as in \"200/s\""))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.per_1000s / 1_000, self.per_1000s % 1_000);
        match part {
            0 => write!(f, "{whole}/s"),
            _ => write!(f, "{whole}.{part:03}/s"),
        }
    }
}

impl std::str::FromStr for Bytes {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        quantity(text, &BYTE_UNITS)
            .map(Bytes)
            .ok_or_else(|| format!("`{text}` is not a size; write B, KiB, MiB or GiB, as in \"256B\""))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = BYTE_UNITS.iter().find(|(_, scale)| self.0.is_multiple_of(*scale) && self.0 > 0);
        let (unit, scale) = unit.unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / scale)
    }
}

impl std::str::FromStr for Chance {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        quantity(text, &[("%", 10_000), ("ppm", 1)])
            .filter(|ppm| *ppm <= 1_000_000)
            .map(|ppm| Chance { ppm: ppm as u32 })
            .ok_or_else(|| format!("`{text}` is not a chance; write % or ppm, as in \"0.1%\""))
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ppm", self.ppm)
    }
}

/// Read from and written as text, in the form `FromStr` and `Display` agree on.
macro_rules! as_text {
    ($type:ident, $expecting:literal, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $expecting })
            }
        }
    };
}

as_text!(
    Span,
    "a length of time with its unit, as \"500ms\", \"20s\" or \"2m\"",
    r"^[0-9]+(\.[0-9]+)?(us|µs|ms|s|m|h|d)$"
);
as_text!(Rate, "a rate per second, as \"200/s\"", r"^[0-9]+(\.[0-9]+)?/s$");
as_text!(Bytes, "a size with its unit, as \"256B\" or \"64KiB\"", r"^[0-9]+(\.[0-9]+)?(B|KiB|MiB|GiB)$");
as_text!(Chance, "a chance, as \"0.1%\" or \"50ppm\"", r"^[0-9]+(\.[0-9]+)?(%|ppm)$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_with_their_unit_and_written_back() {
        for (text, micros) in [("500ms", 500_000), ("1.5s", 1_500_000), ("2m", 120_000_000), ("7us", 7)] {
            assert_eq!(text.parse::<Span>().map(Span::micros), Ok(micros), "{text}");
        }
        for text in ["5", "s", "-1s", "1.s5", "1e3s", "", "5 parsecs", "1.1234567s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        assert_eq!("90s".parse::<Span>().expect("valid").to_string(), "90s");
        assert_eq!("1500ms".parse::<Span>().expect("valid").to_string(), "1500ms");
    }

    #[test]
    fn rates_sizes_and_chances_keep_their_units() {
        assert_eq!("200/s".parse::<Rate>().expect("valid").interval(), Duration::from_millis(5));
        assert_eq!("0.5/s".parse::<Rate>().expect("valid").interval(), Duration::from_secs(2));
        assert_eq!("64KiB".parse::<Bytes>(), Ok(Bytes(65_536)));
        assert_eq!("0.1%".parse::<Chance>(), Ok(Chance { ppm: 1_000 }));
        assert!("200".parse::<Rate>().is_err() && "0/s".parse::<Rate>().is_err());
        assert!("101%".parse::<Chance>().is_err());
    }
}
