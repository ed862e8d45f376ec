//! Snapshots as bytes: the RDB format, as much of it as strings and lists need.
//!
//! We write version 9 with plain strings and lists, which every Redis since 5.0 and every Valkey reads. We read also
//! what they write: integers and LZF-compressed strings, lists as quicklists of ziplists or listpacks, expiry times
//! (which are not kept: the roles have no expiry) and the fields we have no use for.
//!
//! Sources: the RDB file format as documented by its readers (opcodes, length and string encodings), the ziplist and
//! listpack encodings, Marc Lehmann's LZF format, and the CRC-64/Redis parameters (polynomial 0xad93d23594c935a9,
//! reflected).

use crate::driver::BadInput;
use bytes::{Buf, BufMut, BytesMut};
use firedrill_protocols::redis::message::Stored;
use firedrill_protocols::redis::values::{Datum, Key};

const MAGIC: &[u8] = b"REDIS0009";

const TYPE_STRING: u8 = 0;
const TYPE_LIST: u8 = 1;
const TYPE_LIST_ZIPLIST: u8 = 10;
const TYPE_QUICKLIST: u8 = 14;
const TYPE_QUICKLIST_2: u8 = 18;
const FUNCTION: u8 = 245;
const IDLE: u8 = 248;
const FREQUENCY: u8 = 249;
const AUX: u8 = 250;
const RESIZE: u8 = 251;
const EXPIRE_MS: u8 = 252;
const EXPIRE_S: u8 = 253;
const SELECT: u8 = 254;
const END: u8 = 255;

/// Largest string we take: as on the wire.
const STRING_MAX: u64 = super::frame::STRING_MAX as u64;

/// Most elements of one list.
const LIST_MAX: u64 = 1 << 24;

// ----------------------------------------------------------------------------------------------------------- writing

/// Writes one snapshot.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    checksum: u64,
}

impl Writer {
    /// The beginning.
    pub fn begin(&mut self, out: &mut BytesMut) {
        *self = Writer::default();
        self.put(MAGIC, out);
    }

    /// One key.
    pub fn key(&mut self, key: &Key, stored: &Stored, out: &mut BytesMut) {
        let mut entry = BytesMut::new();
        match stored {
            Stored::Text(datum) => {
                entry.put_u8(TYPE_STRING);
                put_string(&key.to_bytes(), &mut entry);
                put_string(&datum.to_bytes(), &mut entry);
            }
            Stored::List(elements) => {
                entry.put_u8(TYPE_LIST);
                put_string(&key.to_bytes(), &mut entry);
                put_length(elements.len(), &mut entry);
                elements.iter().for_each(|element| put_string(&element.to_bytes(), &mut entry));
            }
        }
        self.put(&entry, out);
    }

    /// The end, with the checksum.
    pub fn end(&mut self, out: &mut BytesMut) {
        self.put(&[END], out);
        out.put_u64_le(self.checksum);
    }

    fn put(&mut self, bytes: &[u8], out: &mut BytesMut) {
        self.checksum = crc64(self.checksum, bytes);
        out.put_slice(bytes);
    }
}

fn put_length(length: usize, out: &mut BytesMut) {
    match length {
        0..64 => out.put_u8(length as u8),
        64..16384 => out.put_u16(0x4000 | length as u16),
        _ => {
            out.put_u8(0x80);
            out.put_u32(u32::try_from(length).expect("strings and lists are bounded far below 2^32"));
        }
    }
}

fn put_string(bytes: &[u8], out: &mut BytesMut) {
    put_length(bytes.len(), out);
    out.put_slice(bytes);
}

// ----------------------------------------------------------------------------------------------------------- reading

/// Reads one snapshot as it comes in pieces.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    begun: bool,
    checksum: u64,
}

/// What came next in a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A key with its value.
    Key(Key, Stored),
    /// Something without meaning for us.
    Skipped,
    /// The end.
    End,
}

/// Why an entry could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// It is not all there.
    Unfinished,
    /// It is wrong, or beyond us.
    Bad(&'static str),
}

impl Reader {
    /// Take the next entry off `input`, once it is whole.
    ///
    /// # Errors
    /// It is not RDB, damaged, or holds types of values that we do not have.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Entry>, BadInput> {
        if !self.begun {
            return self.header(input);
        }
        let mut cursor = Cursor { bytes: input, at: 0 };
        let entry = match read_entry(&mut cursor) {
            Ok(entry) => entry,
            Err(Stop::Unfinished) => return Ok(None),
            Err(Stop::Bad(why)) => return Err(BadInput(why)),
        };
        let consumed = cursor.at;
        if entry == Entry::End {
            return self.end(consumed, input);
        }
        self.checksum = crc64(self.checksum, &input[..consumed]);
        input.advance(consumed);
        Ok(Some(entry))
    }

    fn header(&mut self, input: &mut BytesMut) -> Result<Option<Entry>, BadInput> {
        if input.len() < MAGIC.len() {
            return Ok(None);
        }
        if &input[..5] != b"REDIS" && &input[..6] != b"VALKEY" {
            return Err(BadInput("snapshot without its magic"));
        }
        self.checksum = crc64(0, &input[..MAGIC.len()]);
        input.advance(MAGIC.len());
        self.begun = true;
        Ok(Some(Entry::Skipped))
    }

    /// The end, at `consumed`, and the checksum behind it. Zero means that the writer made none.
    fn end(&mut self, consumed: usize, input: &mut BytesMut) -> Result<Option<Entry>, BadInput> {
        let Some(checksum) = input.get(consumed..consumed + 8) else { return Ok(None) };
        let stated = u64::from_le_bytes(checksum.try_into().expect("eight bytes"));
        let computed = crc64(self.checksum, &input[..consumed]);
        if stated != 0 && stated != computed {
            return Err(BadInput("snapshot does not match its checksum"));
        }
        input.advance(consumed + 8);
        Ok(Some(Entry::End))
    }
}

fn read_entry(cursor: &mut Cursor<'_>) -> Result<Entry, Stop> {
    match cursor.byte()? {
        kind @ (TYPE_STRING | TYPE_LIST | TYPE_LIST_ZIPLIST | TYPE_QUICKLIST | TYPE_QUICKLIST_2) => {
            let key = Key::from_bytes(&cursor.string()?);
            Ok(Entry::Key(key, read_value(kind, cursor)?))
        }
        AUX => cursor.string().and_then(|_| cursor.string()).map(|_| Entry::Skipped),
        RESIZE => cursor.length().and_then(|_| cursor.length()).map(|_| Entry::Skipped),
        SELECT => match cursor.length()? {
            0 => Ok(Entry::Skipped),
            _ => Err(Stop::Bad("keys in a database other than 0")),
        },
        EXPIRE_MS => cursor.take(8).map(|_| Entry::Skipped),
        EXPIRE_S => cursor.take(4).map(|_| Entry::Skipped),
        IDLE => cursor.length().map(|_| Entry::Skipped),
        FREQUENCY => cursor.byte().map(|_| Entry::Skipped),
        FUNCTION => cursor.string().map(|_| Entry::Skipped),
        END => Ok(Entry::End),
        _ => Err(Stop::Bad("a type of value that is neither string nor list")),
    }
}

fn read_value(kind: u8, cursor: &mut Cursor<'_>) -> Result<Stored, Stop> {
    if kind == TYPE_STRING {
        return cursor.string().map(|bytes| Stored::Text(Datum::from_bytes(&bytes)));
    }
    let mut elements = Vec::new();
    if kind == TYPE_LIST_ZIPLIST {
        ziplist(&cursor.string()?, &mut elements)?;
        return Ok(Stored::List(elements.into()));
    }
    let count = cursor.length()?;
    if count > LIST_MAX {
        return Err(Stop::Bad("list too long"));
    }
    for _ in 0..count {
        match kind {
            TYPE_LIST => elements.push(Datum::from_bytes(&cursor.string()?)),
            TYPE_QUICKLIST => ziplist(&cursor.string()?, &mut elements)?,
            // Container 1 is one large element, 2 a listpack.
            _ => match cursor.length()? {
                1 => elements.push(Datum::from_bytes(&cursor.string()?)),
                2 => listpack(&cursor.string()?, &mut elements)?,
                _ => return Err(Stop::Bad("unknown container of list elements")),
            },
        }
    }
    Ok(Stored::List(elements.into()))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let end = self.at.checked_add(count).ok_or(Stop::Bad("length out of bounds"))?;
        let taken = self.bytes.get(self.at..end).ok_or(Stop::Unfinished)?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn length(&mut self) -> Result<u64, Stop> {
        match self.length_or_encoding()? {
            Length::Plain(length) => Ok(length),
            Length::Encoded(_) => Err(Stop::Bad("an encoding where a length must be")),
        }
    }

    /// The two top bits say how long the length is; `11` that a string follows in a special encoding.
    fn length_or_encoding(&mut self) -> Result<Length, Stop> {
        let first = self.byte()?;
        let rest = u64::from(first & 0x3f);
        Ok(match first >> 6 {
            0 => Length::Plain(rest),
            1 => Length::Plain(rest << 8 | u64::from(self.byte()?)),
            2 if first == 0x80 => Length::Plain(self.big_endian(4)?),
            2 if first == 0x81 => Length::Plain(self.big_endian(8)?),
            2 => return Err(Stop::Bad("unknown form of length")),
            _ => Length::Encoded(first & 0x3f),
        })
    }

    fn big_endian(&mut self, bytes: usize) -> Result<u64, Stop> {
        Ok(self.take(bytes)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn string(&mut self) -> Result<Vec<u8>, Stop> {
        match self.length_or_encoding()? {
            Length::Plain(length) => self.bounded(length).map(<[u8]>::to_vec),
            Length::Encoded(encoding @ 0..=2) => {
                let number = little_endian(self.take(1 << encoding)?);
                Ok(number.to_string().into_bytes())
            }
            Length::Encoded(3) => {
                let (compressed, whole) = (self.length()?, self.length()?);
                if whole > STRING_MAX {
                    return Err(Stop::Bad("string too long"));
                }
                decompress(self.bounded(compressed)?, whole as usize)
            }
            Length::Encoded(_) => Err(Stop::Bad("unknown encoding of a string")),
        }
    }

    fn bounded(&mut self, length: u64) -> Result<&'a [u8], Stop> {
        if length > STRING_MAX {
            return Err(Stop::Bad("string too long"));
        }
        self.take(length as usize)
    }
}

enum Length {
    Plain(u64),
    Encoded(u8),
}

/// A signed number in 1 to 8 bytes, lowest first.
fn little_endian(bytes: &[u8]) -> i64 {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let unused = 64 - 8 * bytes.len() as u32;
    i64::from_le_bytes(wide) << unused >> unused
}

/// LZF: a control byte below 32 begins a run of literals; any other is a reference back, its length in the top three
/// bits (7: one more byte), its distance in the rest and the next byte.
fn decompress(mut bytes: &[u8], whole: usize) -> Result<Vec<u8>, Stop> {
    const SHORT: Stop = Stop::Bad("compressed string cut short");
    let mut out: Vec<u8> = Vec::with_capacity(whole.min(1 << 20));
    let byte = |bytes: &mut &[u8]| match bytes.split_first() {
        Some((&first, rest)) => {
            *bytes = rest;
            Ok(usize::from(first))
        }
        None => Err(SHORT),
    };
    while !bytes.is_empty() {
        let control = byte(&mut bytes)?;
        if control < 32 {
            let (literals, rest) = bytes.split_at_checked(control + 1).ok_or(SHORT)?;
            out.extend_from_slice(literals);
            bytes = rest;
        } else {
            let length = match control >> 5 {
                7 => byte(&mut bytes)? + 9,
                length => length + 2,
            };
            let distance = ((control & 31) << 8) + byte(&mut bytes)? + 1;
            let from = out.len().checked_sub(distance).ok_or(Stop::Bad("reference before the string"))?;
            // Byte by byte: source and target may overlap.
            (from..from + length).for_each(|place| out.push(out[place]));
        }
        if out.len() > whole {
            return Err(Stop::Bad("compressed string longer than stated"));
        }
    }
    if out.len() == whole { Ok(out) } else { Err(SHORT) }
}

/// The elements of a ziplist: a header of ten bytes, then for each element the length of the one before, its encoding
/// and its bytes; 255 ends it.
fn ziplist(bytes: &[u8], elements: &mut Vec<Datum>) -> Result<(), Stop> {
    let mut cursor = Cursor { bytes, at: 10 };
    let inside = |result: Result<(), Stop>| result.map_err(|_| Stop::Bad("damaged ziplist"));
    inside((|| loop {
        let previous = cursor.byte()?;
        if previous == 255 {
            return Ok(());
        }
        if previous == 254 {
            cursor.take(4)?;
        }
        let first = cursor.byte()?;
        let rest = u64::from(first & 0x3f);
        let text = match first {
            0x00..=0x3f => cursor.bounded(rest)?.to_vec(),
            0x40..=0x7f => {
                let length = rest << 8 | u64::from(cursor.byte()?);
                cursor.bounded(length)?.to_vec()
            }
            0x80..=0xbf => {
                let length = cursor.big_endian(4)?;
                cursor.bounded(length)?.to_vec()
            }
            0xc0 => number(cursor.take(2)?),
            0xd0 => number(cursor.take(4)?),
            0xe0 => number(cursor.take(8)?),
            0xf0 => number(cursor.take(3)?),
            0xfe => number(cursor.take(1)?),
            0xf1..=0xfd => (i64::from(first & 0x0f) - 1).to_string().into_bytes(),
            _ => return Err(Stop::Bad("damaged ziplist")),
        };
        elements.push(Datum::from_bytes(&text));
    })())
}

/// The elements of a listpack: a header of six bytes, then for each its encoding, its bytes, and its length read
/// backwards; 255 ends it.
fn listpack(bytes: &[u8], elements: &mut Vec<Datum>) -> Result<(), Stop> {
    let mut cursor = Cursor { bytes, at: 6 };
    let inside = |result: Result<(), Stop>| result.map_err(|_| Stop::Bad("damaged listpack"));
    inside((|| loop {
        let begin = cursor.at;
        let first = cursor.byte()?;
        let text = match first {
            0x00..=0x7f => first.to_string().into_bytes(),
            0x80..=0xbf => cursor.bounded(u64::from(first & 0x3f))?.to_vec(),
            0xc0..=0xdf => {
                let raw = i64::from(first & 0x1f) << 8 | i64::from(cursor.byte()?);
                (raw << 51 >> 51).to_string().into_bytes()
            }
            0xe0..=0xef => {
                let length = u64::from(first & 0x0f) << 8 | u64::from(cursor.byte()?);
                cursor.bounded(length)?.to_vec()
            }
            0xf0 => {
                let length = little_endian(cursor.take(4)?) as u32;
                cursor.bounded(u64::from(length))?.to_vec()
            }
            0xf1 => number(cursor.take(2)?),
            0xf2 => number(cursor.take(3)?),
            0xf3 => number(cursor.take(4)?),
            0xf4 => number(cursor.take(8)?),
            255 => return Ok(()),
            _ => return Err(Stop::Bad("damaged listpack")),
        };
        elements.push(Datum::from_bytes(&text));
        cursor.take(backward_length(cursor.at - begin))?;
    })())
}

fn number(bytes: &[u8]) -> Vec<u8> {
    little_endian(bytes).to_string().into_bytes()
}

/// Bytes in which a listpack writes the length of an element behind it: seven bits each.
fn backward_length(length: usize) -> usize {
    match length {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        2_097_152..=268_435_455 => 4,
        _ => 5,
    }
}

/// CRC-64/Redis: reflected, polynomial 0xad93d23594c935a9, no initial and final inversion.
fn crc64(checksum: u64, bytes: &[u8]) -> u64 {
    const TABLE: [u64; 256] = crc64_table();
    bytes.iter().fold(checksum, |checksum, &byte| TABLE[usize::from(checksum as u8 ^ byte)] ^ (checksum >> 8))
}

const fn crc64_table() -> [u64; 256] {
    let polynomial = 0xad93_d235_94c9_35a9_u64.reverse_bits();
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u64;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ polynomial } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8]) -> Result<Vec<(Key, Stored)>, BadInput> {
        let mut reader = Reader::default();
        let mut input = BytesMut::from(bytes);
        let mut keys = Vec::new();
        loop {
            match reader.next(&mut input)? {
                Some(Entry::Key(key, stored)) => keys.push((key, stored)),
                Some(Entry::Skipped) => {}
                Some(Entry::End) => return Ok(keys),
                None => return Err(BadInput("unfinished")),
            }
        }
    }

    fn sample() -> Vec<(Key, Stored)> {
        let list = (0..100).map(|value| Datum::padded(value, 70)).collect();
        vec![
            (Key::Numbered(1), Stored::Text(Datum::number(42))),
            (Key::from_bytes(b"name"), Stored::Text(Datum::from_bytes(&[7; 20_000]))),
            (Key::Numbered(2), Stored::List(list)),
        ]
    }

    fn written() -> BytesMut {
        let (mut writer, mut out) = (Writer::default(), BytesMut::new());
        writer.begin(&mut out);
        sample().iter().for_each(|(key, stored)| writer.key(key, stored, &mut out));
        writer.end(&mut out);
        out
    }

    #[test]
    fn what_was_written_reads_back_and_damage_is_found() {
        assert_eq!(read_all(&written()), Ok(sample()));
        let mut damaged = written();
        let place = damaged.len() - 30;
        damaged[place] ^= 1;
        assert!(read_all(&damaged).is_err());
        let cut = written();
        assert_eq!(read_all(&cut[..cut.len() - 1]), Err(BadInput("unfinished")));
    }

    #[test]
    fn the_checksum_is_crc64_redis() {
        assert_eq!(crc64(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn compressed_strings_unfold() {
        // Eleven times "ab": two literals, then a reference two back over twenty bytes.
        let compressed = [1, b'a', b'b', 7 << 5, 11, 1];
        assert_eq!(decompress(&compressed, 22).expect("valid"), b"ab".repeat(11));
        assert!(decompress(&compressed, 21).is_err());
        assert!(decompress(&[0x20, 5], 3).is_err(), "a reference before the beginning");
    }

    #[test]
    fn packed_lists_unfold() {
        let mut listpack_bytes = vec![0; 6];
        // 5; "hi"; -3 in 13 bits; 1000 in 16.
        listpack_bytes.extend([5, 1, 0x82, b'h', b'i', 3, 0xdf, 0xfd, 2, 0xf1, 0xe8, 3, 3, 255]);
        let mut elements = Vec::new();
        listpack(&listpack_bytes, &mut elements).expect("valid");
        let texts: Vec<Vec<u8>> = elements.iter().map(Datum::to_bytes).collect();
        assert_eq!(texts, [&b"5"[..], b"hi", b"-3", b"1000"]);

        let mut ziplist_bytes = vec![0; 10];
        ziplist_bytes.extend([0, 2, b'h', b'i', 4, 0xf6, 2, 0xfe, 0x85, 3, 0xc0, 0xe8, 3, 255]);
        let mut elements = Vec::new();
        ziplist(&ziplist_bytes, &mut elements).expect("valid");
        let texts: Vec<Vec<u8>> = elements.iter().map(Datum::to_bytes).collect();
        assert_eq!(texts, [&b"hi"[..], b"5", b"-123", b"1000"]);
    }
}
