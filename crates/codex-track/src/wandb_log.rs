//! The log of an offline run of Weights & Biases, and the records in it. It knows nothing of runs and metrics.
//!
//! Seven bytes of header, and then the framing of LevelDB's log in blocks of 32 KiB counted from the file's start, with CRC-32 (IEEE) over the type and
//! the payload of a chunk. A record is a `wandb_internal.Record`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use codex_core::{FileError, files};

use crate::protobuf::{Fields, Message};

/// `:W&B`, the magic number 0xBEE1, and version 0.
pub(crate) const HEADER: [u8; 7] = *b":W&B\xe1\xbe\x00";
const BLOCK: u64 = 32 << 10;
const CHUNK_HEAD: u64 = 7;
/// A larger record is not one of ours.
const MAX_RECORD_BYTES: usize = 64 << 20;

/// A record as the chunks that it takes at a place of the file.
pub(crate) fn framed(mut at: u64, record: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(record.len() + 16);
    let mut rest = record;
    let mut is_first = true;
    loop {
        let left = BLOCK - at % BLOCK;
        if left < CHUNK_HEAD {
            bytes.resize(bytes.len() + left as usize, 0);
            at += left;
            continue;
        }
        let (payload, behind) = rest.split_at(rest.len().min((left - CHUNK_HEAD) as usize));
        let kind = match (is_first, behind.is_empty()) {
            (true, true) => 1,
            (true, false) => 2,
            (false, false) => 3,
            (false, true) => 4,
        };
        bytes.extend_from_slice(&crc(kind, payload).to_le_bytes());
        bytes.extend_from_slice(&(payload.len() as u16).to_le_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(payload);
        at += CHUNK_HEAD + payload.len() as u64;
        (rest, is_first) = (behind, false);
        if kind == 1 || kind == 4 {
            return bytes;
        }
    }
}

fn crc(kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(payload);
    hasher.finalize()
}

/// What a record holds, by the number of its field.
pub(crate) mod kind {
    pub(crate) const HISTORY: u32 = 2;
    pub(crate) const SUMMARY: u32 = 3;
    pub(crate) const CONFIG: u32 = 5;
    pub(crate) const RUN: u32 = 17;
    pub(crate) const EXIT: u32 = 18;
    pub(crate) const HEADER: u32 = 21;
    pub(crate) const FOOTER: u32 = 22;
}

/// A record of a kind, with its number in the file.
pub(crate) fn record(number: u64, kind: u32, content: &Message) -> Vec<u8> {
    Message::new().int(1, number).message(kind, content).into_bytes()
}

/// A key and its value as JSON.
pub(crate) fn item(key: &str, json: &str) -> Message {
    Message::new().text(1, key).text(16, json)
}

/// A record as it is compared.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Held {
    /// A row: its step, and keys with their values as JSON.
    Row {
        step: u64,
        items: Vec<(String, String)>,
    },
    Exit,
    Other,
}

impl Held {
    fn of(record: &[u8]) -> Self {
        if Fields::bytes(record, kind::EXIT).is_some() {
            return Self::Exit;
        }
        let Some(history) = Fields::bytes(record, kind::HISTORY) else { return Self::Other };
        let step = Fields::bytes(history, 2).and_then(|step| Fields::int(step, 1)).unwrap_or(0);
        let item = |(number, field)| match field {
            crate::protobuf::Field::Bytes(bytes) if number == 1 => {
                Some((Fields::text(bytes, 1)?.to_owned(), Fields::text(bytes, 16).unwrap_or_default().to_owned()))
            }
            _ => None,
        };
        Self::Row { step, items: Fields::of(history).filter_map(item).collect() }
    }
}

/// Reads the records of a file up to the first that is not whole.
#[derive(Debug)]
pub(crate) struct Records {
    reader: BufReader<File>,
    path: PathBuf,
    at: u64,
    /// The end of the last whole record; 0 where even the header is not.
    pub(crate) end: u64,
    /// How many records there are up to there.
    pub(crate) count: u64,
    /// Whether there is more behind it.
    pub(crate) is_damaged: bool,
}

impl Records {
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let mut records =
            Self { reader: BufReader::new(files::open(path)?), path: path.to_owned(), at: 0, end: 0, count: 0, is_damaged: false };
        if records.read(HEADER.len() as u64)? == HEADER {
            records.end = HEADER.len() as u64;
        } else {
            records.is_damaged = true;
        }
        Ok(records)
    }

    /// The next record and where it starts.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Held)>, FileError> {
        if self.is_damaged {
            return Ok(None);
        }
        let mut record = Vec::new();
        let mut is_first = true;
        loop {
            let left = BLOCK - self.at % BLOCK;
            if left < CHUNK_HEAD && self.read(left)?.len() as u64 != left {
                // Less than a block's end is there: a write that was cut off, unless it is nothing.
                self.is_damaged = self.at > self.end;
                return Ok(None);
            }
            let head = self.read(CHUNK_HEAD)?;
            if head.is_empty() && is_first {
                self.is_damaged = self.at > self.end;
                return Ok(None);
            }
            let Some((kind, crc_of, length)) = chunk_head(&head) else { break };
            let payload = self.read(length)?;
            let is_expected = if is_first { kind == 1 || kind == 2 } else { kind == 3 || kind == 4 };
            let fits = payload.len() as u64 == length && record.len() + payload.len() <= MAX_RECORD_BYTES;
            if !is_expected || !fits || crc(kind, &payload) != crc_of {
                break;
            }
            record.extend_from_slice(&payload);
            is_first = false;
            if kind == 1 || kind == 4 {
                let start = self.end;
                (self.end, self.count) = (self.at, self.count + 1);
                return Ok(Some((start, Held::of(&record))));
            }
        }
        self.is_damaged = true;
        Ok(None)
    }

    fn read(&mut self, n: u64) -> Result<Vec<u8>, FileError> {
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(n).read_to_end(&mut bytes);
        self.at += read.map_err(|source| FileError::new("read", &self.path, source))? as u64;
        Ok(bytes)
    }
}

/// The type, checksum and length of a chunk.
fn chunk_head(head: &[u8]) -> Option<(u8, u32, u64)> {
    let head: [u8; 7] = head.try_into().ok()?;
    let [a, b, c, d, low, high, kind] = head;
    Some((kind, u32::from_le_bytes([a, b, c, d]), u64::from(u16::from_le_bytes([low, high]))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(step: u64, text: &str) -> Vec<u8> {
        let history = Message::new().message(1, &item("text", text)).message(2, &Message::new().int(1, step));
        record(step, kind::HISTORY, &history)
    }

    fn all(path: &Path) -> (Vec<(u64, usize)>, u64, bool) {
        let mut records = Records::open(path).unwrap();
        let mut found = Vec::new();
        while let Some((_, held)) = records.next().unwrap() {
            if let Held::Row { step, items } = held {
                found.push((step, items[0].1.len()));
            }
        }
        (found, records.end, records.is_damaged)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn records_of_any_length_are_read_back_and_a_cut_loses_the_last(
            lengths in proptest::collection::vec(prop_oneof![0_usize..40, 32_700..32_800_usize, 60_000..70_000_usize], 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            let mut bytes = HEADER.to_vec();
            let mut ends = vec![7];
            for (step, length) in lengths.iter().enumerate() {
                bytes.extend(framed(bytes.len() as u64, &row(step as u64, &"x".repeat(*length))));
                ends.push(bytes.len() as u64);
            }
            files::write_atomic(&path, &bytes).unwrap();
            let expected: Vec<_> = lengths.iter().enumerate().map(|(step, length)| (step as u64, *length)).collect();
            prop_assert_eq!(all(&path), (expected.clone(), bytes.len() as u64, false));
            let at = cut.index(bytes.len());
            files::write_atomic(&path, &bytes[..at]).unwrap();
            let n = ends.iter().filter(|end| **end <= at as u64).count();
            let end = if n == 0 { 0 } else { ends[n - 1] };
            prop_assert_eq!(all(&path), (expected[..n.saturating_sub(1)].to_vec(), end, end < at as u64 || at < 7));
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x01;
            files::write_atomic(&path, &damaged).unwrap();
            prop_assert!(all(&path).1 <= at as u64 || BLOCK - at as u64 % BLOCK < CHUNK_HEAD);
        }
    }
}
