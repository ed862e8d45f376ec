//! Commands as the words of a RESP array: one list of words a command serves the codec that writes them and the
//! count of bytes that offsets and bandwidth need.

use super::message::Greeting;
use super::values::{Addr, Datum, Hex, Key, digits, ip_len};
use crate::contract::Duration;
use core::fmt;

/// Takes the words of a command in order.
pub trait Words {
    /// A word of these bytes.
    fn text(&mut self, text: &[u8]);

    /// A decimal number.
    fn number(&mut self, number: u64);

    /// A value.
    fn datum(&mut self, datum: &Datum);

    /// A key.
    fn key(&mut self, key: &Key);

    /// An id as 40 digits.
    fn hex(&mut self, hex: &Hex);

    /// A word made of several parts.
    fn format(&mut self, parts: fmt::Arguments<'_>);

    /// A sentinel's hello.
    fn greeting(&mut self, greeting: &Greeting) {
        self.format(format_args!("{greeting}"));
    }

    /// Two words: the address and the port.
    fn addr(&mut self, addr: Addr) {
        self.format(format_args!("{}", addr.ip()));
        self.number(u64::from(addr.port()));
    }
}

/// Counts the bytes of a RESP array of bulk strings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    words: usize,
    bytes: usize,
}

impl Size {
    /// Bytes so far, with the array's header.
    pub fn total(self) -> usize {
        header(self.words) + self.bytes
    }

    fn word(&mut self, len: usize) {
        self.words += 1;
        self.bytes += bulk(len);
    }
}

impl Words for Size {
    fn text(&mut self, text: &[u8]) {
        self.word(text.len());
    }

    fn number(&mut self, number: u64) {
        self.word(digits(number));
    }

    fn datum(&mut self, datum: &Datum) {
        self.word(datum.len());
    }

    fn key(&mut self, key: &Key) {
        self.word(key.len());
    }

    fn hex(&mut self, _: &Hex) {
        self.word(40);
    }

    fn greeting(&mut self, greeting: &Greeting) {
        self.word(greeting.len());
    }

    fn addr(&mut self, addr: Addr) {
        self.word(ip_len(addr));
        self.number(u64::from(addr.port()));
    }

    fn format(&mut self, parts: fmt::Arguments<'_>) {
        self.word(formatted_len(parts));
    }
}

/// Bytes of `*n\r\n` or `:n\r\n`.
pub fn header(number: usize) -> usize {
    3 + digits(number as u64)
}

/// Bytes of a bulk string with `len` bytes of content.
pub fn bulk(len: usize) -> usize {
    header(len) + len + 2
}

/// Bytes that formatting would give.
pub fn formatted_len(parts: fmt::Arguments<'_>) -> usize {
    struct Count(usize);
    impl fmt::Write for Count {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 += text.len();
            Ok(())
        }
    }
    let mut count = Count(0);
    let written = fmt::write(&mut count, parts);
    assert!(written.is_ok(), "our Display implementations do not fail");
    count.0
}

/// Several plain words.
pub(super) fn texts(out: &mut impl Words, words: &[&[u8]]) {
    words.iter().for_each(|word| out.text(word));
}

/// A word, if it is said.
pub(super) fn when(said: bool, out: &mut impl Words, word: &[u8]) {
    if said {
        out.text(word);
    }
}

/// A number that may be negative.
pub(super) fn signed(out: &mut impl Words, number: i64) {
    match u64::try_from(number) {
        Ok(number) => out.number(number),
        Err(_) => out.format(format_args!("{number}")),
    }
}

/// Whole milliseconds, as times are written on the wire.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
