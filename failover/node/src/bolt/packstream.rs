//! PackStream version 1: the values inside Bolt messages. Decoding is bounded: in depth by [`DEPTH_MAX`], in size by
//! the bytes that are there.

use crate::driver::BadInput;
use bytes::{BufMut, BytesMut};

/// Lists, maps and structures within each other at most.
const DEPTH_MAX: u8 = 16;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Value>),
    /// A map, in the order of its sender.
    Map(Vec<(String, Value)>),
    /// A structure: its tag and fields. Messages are structures.
    Struct(u8, Vec<Value>),
}

impl Value {
    /// A text.
    pub fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    /// A map.
    pub fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
        Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// An entry of a map; `None` for anything else too.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// An integer.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// A text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A list.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    /// Appends the value's bytes, in the shortest form.
    pub fn write(&self, out: &mut BytesMut) {
        match self {
            Value::Null => out.put_u8(0xc0),
            Value::Bool(false) => out.put_u8(0xc2),
            Value::Bool(true) => out.put_u8(0xc3),
            Value::Float(float) => {
                out.put_u8(0xc1);
                out.put_f64(*float);
            }
            Value::Int(int) => write_int(*int, out),
            Value::Text(text) => {
                write_size(text.len(), Some(0x80), [0xd0, 0xd1, 0xd2], out);
                out.put_slice(text.as_bytes());
            }
            Value::Bytes(bytes) => {
                write_size(bytes.len(), None, [0xcc, 0xcd, 0xce], out);
                out.put_slice(bytes);
            }
            Value::List(list) => {
                write_size(list.len(), Some(0x90), [0xd4, 0xd5, 0xd6], out);
                list.iter().for_each(|value| value.write(out));
            }
            Value::Map(entries) => {
                write_size(entries.len(), Some(0xa0), [0xd8, 0xd9, 0xda], out);
                for (key, value) in entries {
                    Value::text(key).write(out);
                    value.write(out);
                }
            }
            Value::Struct(tag, fields) => {
                assert!(fields.len() < 16, "a structure has at most fifteen fields");
                out.put_u8(0xb0 | fields.len() as u8);
                out.put_u8(*tag);
                fields.iter().for_each(|value| value.write(out));
            }
        }
    }

    /// The value that these bytes are, all of them.
    ///
    /// # Errors
    /// They are not a value, or more than one.
    pub fn read(bytes: &[u8]) -> Result<Value, BadInput> {
        let mut reader = Reader { bytes, depth: 0 };
        let value = reader.value()?;
        if reader.bytes.is_empty() { Ok(value) } else { Err(BadInput("bytes after the end of a value")) }
    }
}

fn write_int(int: i64, out: &mut BytesMut) {
    if (-16..=127).contains(&int) {
        out.put_i8(int as i8);
    } else if let Ok(int) = i8::try_from(int) {
        out.put_u8(0xc8);
        out.put_i8(int);
    } else if let Ok(int) = i16::try_from(int) {
        out.put_u8(0xc9);
        out.put_i16(int);
    } else if let Ok(int) = i32::try_from(int) {
        out.put_u8(0xca);
        out.put_i32(int);
    } else {
        out.put_u8(0xcb);
        out.put_i64(int);
    }
}

/// A size: in the marker itself if it is small and the type has such markers, else in one, two or four bytes.
fn write_size(size: usize, tiny: Option<u8>, markers: [u8; 3], out: &mut BytesMut) {
    match (tiny, size) {
        (Some(marker), 0..16) => out.put_u8(marker | size as u8),
        (_, 0..0x100) => {
            out.put_u8(markers[0]);
            out.put_u8(size as u8);
        }
        (_, 0x100..0x1_0000) => {
            out.put_u8(markers[1]);
            out.put_u16(size as u16);
        }
        _ => {
            out.put_u8(markers[2]);
            out.put_u32(u32::try_from(size).expect("values are far smaller than four gigabytes"));
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    depth: u8,
}

const SHORT: BadInput = BadInput("a value ends too early");

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BadInput> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(SHORT)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadInput> {
        Ok(self.take(N)?.try_into().expect("just taken"))
    }

    fn byte(&mut self) -> Result<u8, BadInput> {
        Ok(self.array::<1>()?[0])
    }

    /// A size that follows its marker, in one, two or four bytes.
    fn size(&mut self, width: u8) -> Result<usize, BadInput> {
        Ok(match width {
            0 => usize::from(self.byte()?),
            1 => usize::from(u16::from_be_bytes(self.array()?)),
            _ => u32::from_be_bytes(self.array()?) as usize,
        })
    }

    fn value(&mut self) -> Result<Value, BadInput> {
        let marker = self.byte()?;
        Ok(match marker {
            0x00..=0x7f | 0xf0..=0xff => Value::Int(i64::from(marker as i8)),
            0x80..=0x8f => self.text(usize::from(marker & 15))?,
            0x90..=0x9f => self.list(usize::from(marker & 15))?,
            0xa0..=0xaf => self.map(usize::from(marker & 15))?,
            0xb0..=0xbf => {
                let tag = self.byte()?;
                Value::Struct(tag, self.values(usize::from(marker & 15))?)
            }
            0xc0 => Value::Null,
            0xc1 => Value::Float(f64::from_be_bytes(self.array()?)),
            0xc2 => Value::Bool(false),
            0xc3 => Value::Bool(true),
            0xc8 => Value::Int(i64::from(i8::from_be_bytes(self.array()?))),
            0xc9 => Value::Int(i64::from(i16::from_be_bytes(self.array()?))),
            0xca => Value::Int(i64::from(i32::from_be_bytes(self.array()?))),
            0xcb => Value::Int(i64::from_be_bytes(self.array()?)),
            0xcc..=0xce => {
                let size = self.size(marker - 0xcc)?;
                Value::Bytes(self.take(size)?.to_vec())
            }
            0xd0..=0xd2 => {
                let size = self.size(marker - 0xd0)?;
                self.text(size)?
            }
            0xd4..=0xd6 => {
                let size = self.size(marker - 0xd4)?;
                self.list(size)?
            }
            0xd8..=0xda => {
                let size = self.size(marker - 0xd8)?;
                self.map(size)?
            }
            _ => return Err(BadInput("unknown marker of a value")),
        })
    }

    fn text(&mut self, size: usize) -> Result<Value, BadInput> {
        let bytes = self.take(size)?;
        let text = std::str::from_utf8(bytes).map_err(|_| BadInput("a text is not UTF-8"))?;
        Ok(Value::text(text))
    }

    fn list(&mut self, size: usize) -> Result<Value, BadInput> {
        Ok(Value::List(self.values(size)?))
    }

    /// So many values. Each takes a byte at least, so a size beyond what is left is refused before any room is made.
    fn values(&mut self, size: usize) -> Result<Vec<Value>, BadInput> {
        self.enter(size)?;
        let values = (0..size).map(|_| self.value()).collect::<Result<_, _>>()?;
        self.depth -= 1;
        Ok(values)
    }

    fn map(&mut self, size: usize) -> Result<Value, BadInput> {
        self.enter(size)?;
        let mut entries = Vec::new();
        for _ in 0..size {
            let Value::Text(key) = self.value()? else { return Err(BadInput("a key is not a text")) };
            entries.push((key, self.value()?));
        }
        self.depth -= 1;
        Ok(Value::Map(entries))
    }

    fn enter(&mut self, size: usize) -> Result<(), BadInput> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(BadInput("values are nested too deeply"));
        }
        if size > self.bytes.len() { Err(SHORT) } else { Ok(()) }
    }
}
