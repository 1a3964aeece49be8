//! What the first bytes of a file say they are: UTF-8, UTF-16 with a byte order mark, or no text at all.

use std::io::{BufRead, BufReader, Cursor, Read};

use crate::compressed::BUFFER_BYTES;
use crate::utf16::Utf16;

/// How characters are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// UTF-8; a byte order mark before it is passed over.
    Utf8 { has_mark: bool },
    /// UTF-16 with its byte order mark.
    Utf16 { is_big_endian: bool },
}

/// UTF-8's byte order mark.
const UTF8_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How many bytes are looked at.
const LOOKED_AT: u64 = 16;

impl Encoding {
    /// As descriptions have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Utf8 { has_mark: false } => "UTF-8",
            Self::Utf8 { has_mark: true } => "UTF-8 with a byte order mark",
            Self::Utf16 { is_big_endian: false } => "UTF-16LE",
            Self::Utf16 { is_big_endian: true } => "UTF-16BE",
        }
    }

    /// What the first bytes say, or what else they are.
    pub(crate) fn of_bytes(start: &[u8]) -> Result<Self, &'static str> {
        if let Some(found) = foreign(start) {
            return Err(found);
        }
        Ok(match start {
            [0xFF, 0xFE, ..] => Self::Utf16 { is_big_endian: false },
            [0xFE, 0xFF, ..] => Self::Utf16 { is_big_endian: true },
            _ => Self::Utf8 { has_mark: start.starts_with(UTF8_MARK) },
        })
    }

    fn mark_bytes(self) -> usize {
        match self {
            Self::Utf8 { has_mark } => {
                if has_mark {
                    UTF8_MARK.len()
                } else {
                    0
                }
            }
            Self::Utf16 { .. } => 2,
        }
    }

    /// The beginning of a text as UTF-8, without its byte order mark. A character that is cut at the end is left out.
    pub(crate) fn decoded_start(self, start: &[u8]) -> Vec<u8> {
        let start = start.get(self.mark_bytes()..).unwrap_or_default();
        let Self::Utf16 { is_big_endian } = self else { return start.to_vec() };
        let mut text = Vec::new();
        // What is cut is at the end, and what was before it is there.
        let _cut = Utf16::new(start, is_big_endian).read_to_end(&mut text);
        text
    }
}

/// A reader of UTF-8, without a byte order mark, from one of bytes; or what the bytes are otherwise.
pub(crate) fn decoded(mut reader: Box<dyn BufRead + Send>) -> std::io::Result<Result<Box<dyn BufRead + Send>, &'static str>> {
    let mut start = Vec::new();
    reader.by_ref().take(LOOKED_AT).read_to_end(&mut start)?;
    let encoding = match Encoding::of_bytes(&start) {
        Ok(encoding) => encoding,
        Err(found) => return Ok(Err(found)),
    };
    start.drain(..encoding.mark_bytes());
    let whole = Cursor::new(start).chain(reader);
    Ok(Ok(match encoding {
        Encoding::Utf8 { .. } => Box::new(whole),
        Encoding::Utf16 { is_big_endian } => Box::new(BufReader::with_capacity(BUFFER_BYTES, Utf16::new(whole, is_big_endian))),
    }))
}

/// What the first bytes of a file say it is, when that is no text that can be read.
fn foreign(start: &[u8]) -> Option<&'static str> {
    Some(match start {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => "UTF-32",
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => return None,
        [a, 0, b, 0, ..] if *a != 0 && *b != 0 => "UTF-16 (little-endian, without a byte order mark)",
        [0, a, 0, b, ..] if *a != 0 && *b != 0 => "UTF-16 (big-endian, without a byte order mark)",
        [0x1F, 0x8B, ..] => "compressed with gzip",
        [0x28, 0xB5, 0x2F, 0xFD, ..] => "compressed with zstd",
        [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => "compressed with xz",
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, ..] => "compressed with bzip2",
        [0x04, 0x22, 0x4D, 0x18, ..] => "compressed with lz4",
        [b'P', b'K', 3, 4, ..] => "a zip archive, as Office documents are too",
        [b'7', b'z', 0xBC, 0xAF, ..] => "a 7z archive",
        [b'P', b'A', b'R', b'1', 0x15, ..] => PARQUET,
        [b'A', b'R', b'R', b'O', b'W', b'1', 0, 0, ..] => "an Arrow file",
        [b'%', b'P', b'D', b'F', b'-', ..] => "a PDF document",
        [0x89, b'P', b'N', b'G', ..] => "a PNG picture",
        [0xFF, 0xD8, 0xFF, ..] => "a JPEG picture",
        [0x7F, b'E', b'L', b'F', ..] => "a program",
        _ if start.starts_with(b"SQLite format 3\0") => "an SQLite database",
        _ => return None,
    })
}

/// What a Parquet file is called.
pub(crate) const PARQUET: &str = "a Parquet file";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &'static [u8]) -> Result<String, &'static str> {
        let mut text = String::new();
        decoded(Box::new(bytes)).unwrap().map(|mut reader| reader.read_to_string(&mut text).map(|_| text).unwrap())
    }

    #[test]
    fn a_mark_is_passed_over_and_says_how_the_rest_is_read() {
        assert_eq!(read(b""), Ok(String::new()));
        assert_eq!(read(b"a"), Ok("a".to_owned()));
        assert_eq!(read(b"\xEF\xBB\xBFa longer text than is looked at"), Ok("a longer text than is looked at".to_owned()));
        assert_eq!(read(b"\xEF\xBB\xBF\xEF\xBB\xBFa"), Ok("\u{feff}a".to_owned()));
        assert_eq!(read(b"\xFF\xFEa\0\xE9\0"), Ok("aé".to_owned()));
        assert_eq!(read(b"\xFE\xFF\0a\0\xE9"), Ok("aé".to_owned()));
        assert_eq!(read(b"\xFF\xFE"), Ok(String::new()));
        for bytes in [&b"\xFF\xFEa\0\xE9\0"[..], b"\xFF\xFEa\0\xE9\0x", b"\xFE\xFF\0a\0\xE9", "\u{feff}aé".as_bytes()] {
            assert_eq!(Encoding::of_bytes(bytes).unwrap().decoded_start(bytes), "aé".as_bytes());
        }
        assert_eq!(Encoding::Utf16 { is_big_endian: true }.name(), "UTF-16BE");
    }

    #[test]
    fn what_is_no_text_is_named() {
        let table: [(&'static [u8], &str); 12] = [
            (b"\xFF\xFE\0\0", "UTF-32"),
            (b"\0\0\xFE\xFF", "UTF-32"),
            (b"{\0\"\0", "UTF-16 (little-endian, without a byte order mark)"),
            (b"\0{\0\"", "UTF-16 (big-endian, without a byte order mark)"),
            (b"\x1F\x8B\x08", "compressed with gzip"),
            (b"\x28\xB5\x2F\xFD", "compressed with zstd"),
            (b"\xFD7zXZ\0", "compressed with xz"),
            (b"BZh91AY&SY", "compressed with bzip2"),
            (b"%PDF-1.7", "a PDF document"),
            (b"PK\x03\x04", "a zip archive, as Office documents are too"),
            (b"PAR1\x15\x04", PARQUET),
            (b"SQLite format 3\0", "an SQLite database"),
        ];
        for (bytes, found) in table {
            assert_eq!(read(bytes), Err(found));
        }
        for text in ["PAR1 is a name", "%PDF", "BZh9 said", "ARROW1", "7z"] {
            assert_eq!(read(text.as_bytes()), Ok(text.to_owned()));
        }
    }
}
