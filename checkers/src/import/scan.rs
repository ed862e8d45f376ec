//! Reading bytes: words, numbers, strings, nested values. Nothing is copied.

use super::error::Problem;

/// A value as it stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Raw<'a> {
    /// `nil`, `null`, or not there.
    Nil,
    /// A number that fits.
    Int(i64),
    /// The inside of a string, escapes as they are.
    Text(&'a [u8]),
    /// A keyword, a symbol, a number that does not fit, a map: anything compared byte by byte.
    Word(&'a [u8]),
    /// A vector, brackets included; where it starts.
    Vector(&'a [u8]),
}

/// A place in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    /// The whole text.
    pub text: &'a [u8],
    /// Next byte.
    pub at: usize,
}

/// Bytes that end a word.
const DELIMITER: [bool; 256] = {
    let mut table = [false; 256];
    let set = b" \t\r\n,}{][)(\"";
    let mut i = 0;
    while i < set.len() {
        table[set[i] as usize] = true;
        i += 1;
    }
    table
};

/// Bytes between values.
const BLANK: [bool; 256] = {
    let mut table = [false; 256];
    let set = b" \t\r\n,";
    let mut i = 0;
    while i < set.len() {
        table[set[i] as usize] = true;
        i += 1;
    }
    table
};

impl<'a> Cursor<'a> {
    /// At the beginning.
    pub fn new(text: &'a [u8]) -> Self {
        Cursor { text, at: 0 }
    }

    /// The next byte, 0 at the end.
    #[inline(always)]
    pub fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    /// Whether everything is read.
    #[inline(always)]
    pub fn is_done(&self) -> bool {
        self.at >= self.text.len()
    }

    /// Skips blanks and commas.
    #[inline(always)]
    pub fn blanks(&mut self) {
        while BLANK[self.peek() as usize] {
            self.at += 1;
        }
    }

    /// Skips blanks, commas and comments to the end of the line.
    pub fn blanks_and_comments(&mut self) {
        self.blanks();
        while self.peek() == b';' {
            while !self.is_done() && self.peek() != b'\n' {
                self.at += 1;
            }
            self.blanks();
        }
    }

    /// Everything up to the next delimiter.
    #[inline(always)]
    pub fn word(&mut self) -> &'a [u8] {
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|&byte| DELIMITER[byte as usize]).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// The inside of a string; the cursor stands on the opening quote.
    #[inline]
    pub fn string(&mut self) -> Result<&'a [u8], Problem> {
        let start = self.at;
        self.at += 1;
        let from = self.at;
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok(&self.text[from..self.at - 1]);
                }
                b'\\' => self.at += 2,
                b'\n' => break,
                _ => self.at += 1,
            }
        }
        Err(Problem::new(start, "a string that does not end on its line"))
    }

    /// Any value.
    #[inline]
    pub fn value(&mut self) -> Result<Raw<'a>, Problem> {
        match self.peek() {
            b'0'..=b'9' | b'-' => Ok(self.number()),
            b'"' => Ok(Raw::Text(self.string()?)),
            b'[' | b'(' => Ok(Raw::Vector(self.nested()?)),
            b'{' => Ok(Raw::Word(self.nested()?)),
            b'#' => self.tagged(),
            b'}' | b']' | b')' => Err(Problem::new(self.at, "a value is missing here")),
            0 if self.is_done() => Err(Problem::new(self.at, "the text ends where a value should be")),
            _ => Ok(match self.word() {
                b"nil" | b"null" => Raw::Nil,
                word => Raw::Word(word),
            }),
        }
    }

    /// A number; one that does not fit, or is no integer, is a word.
    #[inline]
    fn number(&mut self) -> Raw<'a> {
        let from = self.at;
        let negative = self.peek() == b'-';
        self.at += usize::from(negative);
        let rest = &self.text[self.at..];
        let mut value: i64 = 0;
        let mut digits = 0;
        for &byte in rest {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            value = value.wrapping_mul(10).wrapping_add(i64::from(digit));
            digits += 1;
        }
        self.at += digits;
        let fits = (1..=18).contains(&digits);
        if fits && (self.is_done() || DELIMITER[self.peek() as usize]) {
            return Raw::Int(if negative { -value } else { value });
        }
        self.word();
        Raw::Word(&self.text[from..self.at])
    }

    /// `#tag value`, `#{set}`, `#"regex"`: the whole of it as a word.
    fn tagged(&mut self) -> Result<Raw<'a>, Problem> {
        let from = self.at;
        self.at += 1;
        self.word();
        self.blanks();
        if matches!(self.peek(), b'{' | b'[' | b'(' | b'"') {
            self.value()?;
        }
        Ok(Raw::Word(&self.text[from..self.at]))
    }

    /// Something in brackets, brackets included.
    pub fn nested(&mut self) -> Result<&'a [u8], Problem> {
        let from = self.at;
        let mut depth = 0;
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'[' | b'{' | b'(' => depth += 1,
                b']' | b'}' | b')' => depth -= 1,
                // A character of EDN, such as `\}`.
                b'\\' => self.at += 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(&self.text[from..self.at]);
            }
        }
        Err(Problem::new(from, "a bracket that is never closed"))
    }
}

/// The elements of a vector.
pub(super) struct Elements<'a>(Cursor<'a>);

/// The elements of a vector, brackets included in `vector`.
pub(super) fn elements(vector: &[u8]) -> Elements<'_> {
    Elements(Cursor::new(&vector[1..vector.len() - 1]))
}

impl<'a> Iterator for Elements<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        self.0.blanks();
        if self.0.is_done() {
            return None;
        }
        // A vector was scanned to its end once, so the only values that fail here are impossible.
        self.0.value().ok()
    }
}

/// The two elements of a pair.
pub(super) fn pair(vector: &[u8]) -> Option<(Raw<'_>, Raw<'_>)> {
    let mut elements = elements(vector);
    let pair = (elements.next()?, elements.next()?);
    elements.next().is_none().then_some(pair)
}
