//! Small values of the wire: keys, data, ids. Each is the same bytes as on a real connection, in a cheap form.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

use crate::contract::{ChaCha8Rng, Random};

/// A node's client address.
pub type Addr = core::net::SocketAddrV4;

/// A key. `k` and a decimal number, as workloads use, is kept as the number; [`Key::from_bytes`] makes that canonical.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// `k17`.
    Numbered(u32),
    /// Any other bytes.
    Named(Arc<[u8]>),
}

impl Key {
    /// The key with these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Key {
        let number = bytes.strip_prefix(b"k").and_then(parse_decimal).map(u32::try_from);
        match number {
            Some(Ok(number)) => Key::Numbered(number),
            _ => Key::Named(bytes.into()),
        }
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Key::Numbered(number) => alloc::format!("k{number}").into_bytes(),
            Key::Named(bytes) => bytes.to_vec(),
        }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        match self {
            Key::Numbered(number) => 1 + digits(u64::from(*number)),
            Key::Named(bytes) => bytes.len(),
        }
    }

    /// Whether it is the empty key, which is a key like any other.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<crate::contract::Key> for Key {
    fn from(key: crate::contract::Key) -> Key {
        Key::Numbered(key.0)
    }
}

/// A string value or list element. A decimal number followed by nothing but dots, as workloads write to stand for a
/// payload of a certain size, is kept as the number and the size; [`Datum::from_bytes`] makes that canonical.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Datum {
    /// `value` in decimal, then dots up to `bytes` bytes.
    Number {
        /// The number.
        value: u64,
        /// Length with the dots; at least the number's digits.
        bytes: u32,
    },
    /// Any other bytes.
    Blob(Arc<[u8]>),
}

impl Datum {
    /// A number without padding.
    pub fn number(value: u64) -> Datum {
        Datum::padded(value, 0)
    }

    /// A number that stands for a payload of `bytes` bytes, or as many as its digits need.
    pub fn padded(value: u64, bytes: u32) -> Datum {
        Datum::Number { value, bytes: bytes.max(digits(value) as u32) }
    }

    /// The value with these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Datum {
        let end = bytes.iter().rposition(|&byte| byte != b'.').map_or(0, |last| last + 1);
        match (parse_decimal(&bytes[..end]), u32::try_from(bytes.len())) {
            (Some(value), Ok(bytes)) => Datum::Number { value, bytes },
            _ => Datum::Blob(bytes.into()),
        }
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Datum::Number { value, bytes } => {
                let mut text = alloc::format!("{value}").into_bytes();
                text.resize(*bytes as usize, b'.');
                text
            }
            Datum::Blob(bytes) => bytes.to_vec(),
        }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        match self {
            Datum::Number { bytes, .. } => *bytes as usize,
            Datum::Blob(bytes) => bytes.len(),
        }
    }

    /// Whether it is the empty string.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The workload value it stands for, whatever its padding.
    pub fn value(&self) -> Option<u64> {
        match self {
            Datum::Number { value, .. } => Some(*value),
            Datum::Blob(_) => None,
        }
    }

    /// The integer that INCR sees: a decimal number without padding, or a negative one.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Datum::Number { value, bytes } if digits(*value) == *bytes as usize => i64::try_from(*value).ok(),
            Datum::Number { .. } => None,
            Datum::Blob(bytes) => {
                let value = i64::try_from(parse_decimal(bytes.strip_prefix(b"-")?)?).ok()?;
                (value != 0).then_some(-value)
            }
        }
    }
}

impl From<i64> for Datum {
    fn from(value: i64) -> Datum {
        match u64::try_from(value) {
            Ok(value) => Datum::number(value),
            Err(_) => Datum::Blob(alloc::format!("{value}").into_bytes().into()),
        }
    }
}

impl fmt::Debug for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Datum::Number { value, .. } => write!(f, "{value}"),
            Datum::Blob(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
        }
    }
}

/// Twenty bytes, written as 40 hexadecimal digits: the form of all ids here.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hex(pub [u8; 20]);

impl Hex {
    /// A new one.
    pub fn random(random: &mut ChaCha8Rng) -> Hex {
        let mut bytes = [0; 20];
        for byte in &mut bytes {
            *byte = random.between(0, 255) as u8;
        }
        Hex(bytes)
    }

    /// Reads 40 hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<Hex> {
        let mut bytes = [0; 20];
        if text.len() != 40 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Some(Hex(bytes))
    }
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Four bytes tell ids apart in a story.
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Id of a process of a data node or sentinel; a cluster node's id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunId(pub Hex);

/// Id of a replication history. All zero: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplId(pub Hex);

/// Position in a replication history, in bytes of its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Offset(pub u64);

impl Offset {
    /// The position `bytes` later.
    pub fn plus(self, bytes: u64) -> Offset {
        Offset(self.0 + bytes)
    }
}

/// Number of decimal digits.
pub fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Bytes of an address' host, in dotted decimal.
pub fn ip_len(addr: Addr) -> usize {
    3 + addr.ip().octets().iter().map(|octet| digits(u64::from(*octet))).sum::<usize>()
}

/// A decimal number as we write it: no sign, no leading zero.
pub fn parse_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || (text.len() > 1 && text[0] == b'0') {
        return None;
    }
    text.iter().try_fold(0u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_bytes() {
        for text in ["k0", "k17", "k007", "k", "", "k4294967296", "name"] {
            let key = Key::from_bytes(text.as_bytes());
            assert_eq!(key.to_bytes(), text.as_bytes());
            assert_eq!(key.len(), text.len());
        }
        assert_eq!(Key::from_bytes(b"k17"), Key::Numbered(17));
        assert!(matches!(Key::from_bytes(b"k017"), Key::Named(_)));
    }

    #[test]
    fn data_keep_their_bytes() {
        for text in ["0", "17", "17...", "", "...", "017", "1.5", "-3", "18446744073709551616", "abc"] {
            let datum = Datum::from_bytes(text.as_bytes());
            assert_eq!(datum.to_bytes(), text.as_bytes());
            assert_eq!(datum.len(), text.len());
        }
        assert_eq!(Datum::from_bytes(b"17..."), Datum::padded(17, 5));
    }

    #[test]
    fn only_plain_numbers_are_integers() {
        assert_eq!(Datum::from_bytes(b"17").integer(), Some(17));
        assert_eq!(Datum::from_bytes(b"-17").integer(), Some(-17));
        assert_eq!(Datum::from_bytes(b"17.").integer(), None);
        assert_eq!(Datum::from_bytes(b"-0").integer(), None);
    }

    #[test]
    fn ids_are_forty_digits() {
        let id = Hex([0xab; 20]);
        assert_eq!(Hex::parse(alloc::format!("{id}").as_bytes()), Some(id));
        assert_eq!(Hex::parse(b"ab"), None);
    }
}
