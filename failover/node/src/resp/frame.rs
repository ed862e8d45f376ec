//! Bytes into frames, within bounds. The types of RESP3 are brought down to those of RESP2: a map is an array of names
//! and values, a set or push an array, a double or large number its text.
//!
//! The crate `redis-protocol` reads frames, but recurses once for each nested array, reads an unfinished frame again
//! from its start, and has no limits. So [`Scanner`] walks the bytes first: without recursion, each byte once however
//! slowly it comes, refusing what no real peer sends. Only a whole frame within the bounds is given to the crate.

use crate::driver::BadInput;
use bytes::{Bytes, BytesMut};
pub use redis_protocol::resp2::types::BytesFrame as Frame;
use redis_protocol::resp3::types::BytesFrame as Frame3;

/// Longest string: real data are far below; Redis's own bound is 512 MiB.
pub const STRING_MAX: usize = 64 << 20;

/// Longest line: Redis's bound for inline commands.
pub const LINE_MAX: usize = 64 << 10;

/// Elements of a frame, at all depths together: Redis's bound for the words of a command.
pub const ELEMENTS_MAX: usize = 1 << 20;

/// Arrays within arrays. CLUSTER SHARDS needs five.
const DEPTH_MAX: usize = 12;

/// How far an unfinished frame was looked at.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    /// Bytes known to be good.
    at: usize,
    /// Bytes after `at` known to hold no line end.
    searched: usize,
    /// Elements still missing in each open array, outermost first.
    open: Vec<usize>,
    elements: usize,
    /// Types of RESP3 are welcome.
    resp3: bool,
    /// Some were seen in this frame.
    seen_resp3: bool,
}

impl Scanner {
    /// For RESP2, or for both versions.
    pub fn new(resp3: bool) -> Scanner {
        Scanner { resp3, ..Scanner::default() }
    }

    /// Take one frame off `input` once it is whole.
    ///
    /// # Errors
    /// It is not RESP2, or beyond the bounds.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<(Frame, Bytes)>, BadInput> {
        let Some(length) = self.scan(input)? else { return Ok(None) };
        let seen_resp3 = self.seen_resp3;
        *self = Scanner::new(self.resp3);
        let bytes = input.split_to(length).freeze();
        let frame = if seen_resp3 { read_resp3(&bytes) } else { read_resp2(&bytes) };
        frame.map(|frame| Some((frame, bytes))).ok_or(BadInput("not a RESP frame"))
    }

    /// Length of the first frame, once it is whole.
    fn scan(&mut self, input: &[u8]) -> Result<Option<usize>, BadInput> {
        loop {
            match self.element(input)? {
                Element::Unfinished => return Ok(None),
                Element::Whole(end) => {
                    self.move_to(end);
                    if self.close_arrays() {
                        return Ok(Some(end));
                    }
                }
                Element::Array(end, length) => {
                    self.move_to(end);
                    self.open_array(length)?;
                }
            }
        }
    }

    fn move_to(&mut self, end: usize) {
        self.at = end;
        self.searched = 0;
    }

    /// An element is whole, and so is every array it was the last one of. True if nothing is open any more.
    fn close_arrays(&mut self) -> bool {
        while let Some(missing) = self.open.last_mut() {
            *missing -= 1;
            if *missing > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }

    fn open_array(&mut self, length: usize) -> Result<(), BadInput> {
        self.elements += length;
        if self.elements > ELEMENTS_MAX {
            return Err(BadInput("too many elements"));
        }
        if self.open.len() == DEPTH_MAX {
            return Err(BadInput("arrays nested too deep"));
        }
        self.open.push(length);
        Ok(())
    }

    /// The element that begins at `self.at`.
    fn element(&mut self, input: &[u8]) -> Result<Element, BadInput> {
        let Some(&kind) = input.get(self.at) else { return Ok(Element::Unfinished) };
        if !b"+-:$*".contains(&kind) {
            if !self.resp3 || !b"_#,(=!%~>".contains(&kind) {
                return Err(BadInput("unknown type of element"));
            }
            self.seen_resp3 = true;
        }
        let Some(line_end) = self.line_end(input)? else { return Ok(Element::Unfinished) };
        let line = &input[self.at + 1..line_end - 2];
        match kind {
            b'+' | b'-' | b'_' | b'#' | b',' | b'(' => Ok(Element::Whole(line_end)),
            b':' => number(line).map(|_| Element::Whole(line_end)),
            b'$' | b'=' | b'!' => match length(line, STRING_MAX)? {
                None => Ok(Element::Whole(line_end)),
                Some(length) => string(input, line_end + length),
            },
            _ => match length(line, ELEMENTS_MAX)? {
                None | Some(0) => Ok(Element::Whole(line_end)),
                Some(pairs) if kind == b'%' => Ok(Element::Array(line_end, 2 * pairs)),
                Some(length) => Ok(Element::Array(line_end, length)),
            },
        }
    }

    /// End of the line that begins at `self.at`, line end included.
    fn line_end(&mut self, input: &[u8]) -> Result<Option<usize>, BadInput> {
        let from = self.at + self.searched;
        match input[from..].iter().position(|&byte| byte == b'\n') {
            Some(place) => {
                let end = from + place + 1;
                if end - self.at < 3 || input[end - 2] != b'\r' {
                    return Err(BadInput("line without a carriage return"));
                }
                Ok(Some(end))
            }
            None if input.len() - self.at > LINE_MAX => Err(BadInput("line too long")),
            None => {
                self.searched = input.len() - self.at;
                Ok(None)
            }
        }
    }
}

fn read_resp2(bytes: &Bytes) -> Option<Frame> {
    match redis_protocol::resp2::decode::decode_bytes(bytes) {
        Ok(Some((frame, consumed))) if consumed == bytes.len() => Some(frame),
        _ => None,
    }
}

fn read_resp3(bytes: &Bytes) -> Option<Frame> {
    match redis_protocol::resp3::decode::complete::decode_bytes(bytes) {
        Ok(Some((frame, consumed))) if consumed == bytes.len() => Some(as_resp2(frame)),
        _ => None,
    }
}

fn as_resp2(frame: Frame3) -> Frame {
    let array = |elements: Vec<Frame3>| Frame::Array(elements.into_iter().map(as_resp2).collect());
    match frame {
        Frame3::SimpleString { data, .. } => Frame::SimpleString(data),
        Frame3::SimpleError { data, .. } => Frame::Error(data),
        Frame3::BlobError { data, .. } => Frame::Error(String::from_utf8_lossy(&data).as_ref().into()),
        Frame3::BlobString { data, .. }
        | Frame3::VerbatimString { data, .. }
        | Frame3::BigNumber { data, .. } => Frame::BulkString(data),
        Frame3::Number { data, .. } => Frame::Integer(data),
        Frame3::Boolean { data, .. } => Frame::Integer(i64::from(data)),
        Frame3::Double { data, .. } => Frame::BulkString(data.to_string().into()),
        Frame3::Array { data, .. } | Frame3::Push { data, .. } => array(data),
        Frame3::Set { data, .. } => Frame::Array(data.into_iter().map(as_resp2).collect()),
        Frame3::Map { data, .. } => Frame::Array(
            data.into_iter().flat_map(|(name, value)| [as_resp2(name), as_resp2(value)]).collect(),
        ),
        Frame3::Null | Frame3::Hello { .. } | Frame3::ChunkedString(_) => Frame::Null,
    }
}

/// What stands at a place of the input.
enum Element {
    /// Something that has not come whole yet.
    Unfinished,
    /// A whole element that ends here.
    Whole(usize),
    /// The header of an array that ends here, and how many elements follow.
    Array(usize, usize),
}

/// A string whose content ends at `content_end`.
fn string(input: &[u8], content_end: usize) -> Result<Element, BadInput> {
    match input.get(content_end..content_end + 2) {
        Some(b"\r\n") => Ok(Element::Whole(content_end + 2)),
        Some(_) => Err(BadInput("string without its line end")),
        None => Ok(Element::Unfinished),
    }
}

/// A length of at most `max`; `None` for -1.
fn length(line: &[u8], max: usize) -> Result<Option<usize>, BadInput> {
    match number(line)? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) if length <= max => Ok(Some(length)),
            _ => Err(BadInput("length out of bounds")),
        },
    }
}

fn number(line: &[u8]) -> Result<i64, BadInput> {
    let text = std::str::from_utf8(line).map_err(|_| BadInput("not a number"))?;
    text.parse().map_err(|_| BadInput("not a number"))
}

/// The bytes of a frame that is a string.
pub fn text_of(frame: &Frame) -> Option<&[u8]> {
    match frame {
        Frame::SimpleString(bytes) | Frame::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}
