//! UTF-16 as UTF-8, piece by piece (RFC 2781; The Unicode Standard, 3.9).
//!
//! Half of a surrogate pair comes out as the three bytes that its code point would have. They are no UTF-8, so whoever reads the text finds
//! them with their line and column, as any other bad byte.

use std::io::{self, BufRead, ErrorKind, Read};

/// A reader of UTF-8 from UTF-16 without its byte order mark.
#[derive(Debug)]
pub(crate) struct Utf16<R> {
    reader: R,
    is_big_endian: bool,
    /// The first byte of a unit whose second is still to come.
    half_unit: Option<u8>,
    /// The first unit of a pair whose second is still to come.
    high: Option<u16>,
    /// Text that nobody has read, from `at` on.
    text: Vec<u8>,
    at: usize,
}

/// Why a text has no end: its last unit has one byte.
#[derive(Debug, thiserror::Error)]
#[error("it ends within a character")]
pub(crate) struct CutUnit;

impl<R: BufRead> Utf16<R> {
    pub(crate) fn new(reader: R, is_big_endian: bool) -> Self {
        Self { reader, is_big_endian, half_unit: None, high: None, text: Vec::new(), at: 0 }
    }

    /// Decodes what is in the reader's buffer; false at the end.
    fn refill(&mut self) -> io::Result<bool> {
        self.text.clear();
        self.at = 0;
        let available = match self.reader.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            other => other?,
        };
        let n = available.len();
        if n == 0 {
            if self.half_unit.take().is_some() {
                return Err(io::Error::new(ErrorKind::InvalidData, CutUnit));
            }
            let Some(high) = self.high.take() else { return Ok(false) };
            push(&mut self.text, u32::from(high));
            return Ok(true);
        }
        for &second in available {
            let Some(first) = self.half_unit.take() else {
                self.half_unit = Some(second);
                continue;
            };
            let unit = if self.is_big_endian { u16::from_be_bytes([first, second]) } else { u16::from_le_bytes([first, second]) };
            match (self.high.take(), unit) {
                (Some(high), 0xDC00..=0xDFFF) => {
                    push(&mut self.text, 0x1_0000 + (u32::from(high - 0xD800) << 10) + u32::from(unit - 0xDC00));
                }
                (lone, _) => {
                    if let Some(lone) = lone {
                        push(&mut self.text, u32::from(lone));
                    }
                    if matches!(unit, 0xD800..=0xDBFF) { self.high = Some(unit) } else { push(&mut self.text, u32::from(unit)) }
                }
            }
        }
        self.reader.consume(n);
        Ok(true)
    }
}

impl<R: BufRead> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.text.len() {
            if buffer.is_empty() || !self.refill()? {
                return Ok(0);
            }
        }
        let n = buffer.len().min(self.text.len() - self.at);
        buffer[..n].copy_from_slice(&self.text[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// Writes a code point as UTF-8 does, surrogates among them.
fn push(text: &mut Vec<u8>, code: u32) {
    if let Some(character) = char::from_u32(code) {
        text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        let low = |shift: u32| 0x80 | (code >> shift & 0x3F) as u8;
        text.extend([0xE0 | (code >> 12) as u8, low(6), low(0)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(units: &[u16], is_big_endian: bool, buffer: usize) -> Vec<u8> {
        let bytes: Vec<u8> = units.iter().flat_map(|unit| if is_big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect();
        let mut text = Vec::new();
        Utf16::new(io::BufReader::with_capacity(buffer, bytes.as_slice()), is_big_endian).read_to_end(&mut text).unwrap();
        text
    }

    #[test]
    fn lone_surrogates_are_no_utf_8_and_their_neighbours_stay() {
        for buffer in [1, 2, 3, 64] {
            assert_eq!(read(&[0x61, 0xD83D, 0xDE00, 0xE9], false, buffer), "a😀é".as_bytes());
            assert_eq!(read(&[0xD800, 0x61], true, buffer), b"\xED\xA0\x80a");
            assert_eq!(read(&[0xDC00, 0x61], true, buffer), b"\xED\xB0\x80a");
            assert_eq!(read(&[0xD83D, 0xD83D, 0xDE00], true, buffer), b"\xED\xA0\xBD\xF0\x9F\x98\x80");
            assert_eq!(read(&[0x61, 0xDBFF], false, buffer), b"a\xED\xAF\xBF");
        }
        let mut text = Vec::new();
        let error = Utf16::new(&b"a\0b"[..], false).read_to_end(&mut text).unwrap_err();
        assert!(error.to_string() == "it ends within a character" && text == b"a");
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(text in ".{0,40}", units in prop::collection::vec(any::<u16>(), 0..40), is_big: bool, buffer in 1_usize..9) {
            let of_text: Vec<u16> = text.encode_utf16().collect();
            prop_assert_eq!(read(&of_text, is_big, buffer), text.as_bytes());
            let found = read(&units, is_big, buffer);
            prop_assert_eq!(String::from_utf8(found).ok(), String::from_utf16(&units).ok());
        }
    }
}
