//! The records of a TensorBoard event file, and the events in them. It knows nothing of runs and metrics.
//!
//! A record is its length as u64, the masked CRC-32C of those 8 bytes as u32, the event, and the masked CRC-32C of the event; little endian. Events
//! are `tensorflow.Event` messages: wall time (1), step (2), file version (3), summary (5), session log (7).

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use codex_core::{FileError, files};

use crate::protobuf::{Field, Fields, Message};

/// A larger event is not one of ours.
const MAX_EVENT_BYTES: u64 = 64 << 20;
/// What a file begins with.
const FILE_VERSION: &str = "brain.Event:2";

const EXPERIMENT: &str = "_hparams_/experiment";
const SESSION_START: &str = "_hparams_/session_start_info";
const SESSION_END: &str = "_hparams_/session_end_info";

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// An event as a record.
fn record(event: Message) -> Vec<u8> {
    let event = event.into_bytes();
    let length = (event.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length).to_le_bytes(), &event, &masked_crc(&event).to_le_bytes()].concat()
}

fn event(wall: f64, step: u64) -> Message {
    Message::new().double(1, wall).int(2, step)
}

/// What a file begins with: its version, and that a session starts whose first step is `step`. Readers drop what earlier files have from there on.
pub(crate) fn beginning(wall: f64, step: u64) -> Vec<u8> {
    let source = Message::new().text(1, "codex");
    let version = Message::new().double(1, wall).text(3, FILE_VERSION).message(10, &source);
    let start = event(wall, step).message(7, &Message::new().int(1, 1));
    [record(version), record(start)].concat()
}

fn summary(wall: f64, step: u64, value: &Message) -> Vec<u8> {
    record(event(wall, step).message(5, &Message::new().message(1, value)))
}

pub(crate) fn scalar(wall: f64, step: u64, tag: &str, value: f32) -> Vec<u8> {
    summary(wall, step, &Message::new().text(1, tag).float(2, value))
}

/// A text, as a string tensor of one element for the plugin `text`.
pub(crate) fn text(wall: f64, step: u64, tag: &str, text: &str) -> Vec<u8> {
    let shape = Message::new().message(2, &Message::new().int(1, 1));
    let tensor = Message::new().int(1, 7).message(2, &shape).text(8, text);
    let plugin = Message::new().text(1, "text");
    let metadata = Message::new().message(1, &plugin).int(4, 2);
    summary(wall, step, &Message::new().text(1, tag).message(8, &tensor).message(9, &metadata))
}

/// A value of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Hyperparameter {
    Number(f64),
    Text(String),
    Truth(bool),
}

fn hparams(wall: f64, tag: &str, content: Message) -> Vec<u8> {
    let plugin = Message::new().text(1, "hparams").bytes(2, &content.into_bytes());
    summary(wall, 0, &Message::new().text(1, tag).message(9, &Message::new().message(1, &plugin)))
}

/// What the HParams plugin needs to list a run: the configuration, and the tags of the metrics that it shows beside it.
pub(crate) fn hyperparameters(wall: f64, values: &[(String, Hyperparameter)], metrics: &[String]) -> Vec<u8> {
    let mut experiment = Message::new().double(3, wall).text(6, "codex");
    let mut start = Message::new();
    for (name, value) in values {
        // The kind: 1 text, 2 truth, 3 number; that of the value itself is a `google.protobuf.Value`.
        let (kind, held) = match value {
            Hyperparameter::Text(text) => (1, Message::new().text(3, text)),
            Hyperparameter::Truth(truth) => (2, Message::new().int(4, u64::from(*truth))),
            Hyperparameter::Number(number) => (3, Message::new().double(2, *number)),
        };
        experiment = experiment.message(4, &Message::new().text(1, name).int(4, kind));
        start = start.message(1, &Message::new().text(1, name).message(2, &held));
    }
    for metric in metrics {
        experiment = experiment.message(5, &Message::new().message(1, &Message::new().text(2, metric)));
    }
    let experiment = Message::new().int(1, 0).message(2, &experiment);
    let start = Message::new().int(1, 0).message(3, &start.double(5, wall));
    [hparams(wall, EXPERIMENT, experiment), hparams(wall, SESSION_START, start)].concat()
}

/// How the run ended, for the HParams plugin.
pub(crate) fn session_end(wall: f64, is_success: bool) -> Vec<u8> {
    let end = Message::new().int(1, if is_success { 1 } else { 2 }).double(2, wall);
    hparams(wall, SESSION_END, Message::new().int(1, 0).message(4, &end))
}

/// An event, as far as it is compared.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Held {
    Scalar { step: u64, tag: String, value: f32 },
    Text { step: u64, tag: String },
    End,
    Other,
}

impl Held {
    fn of(event: &[u8]) -> Self {
        let step = Fields::int(event, 2).unwrap_or(0);
        let Some(value) = Fields::bytes(event, 5).and_then(|summary| Fields::bytes(summary, 1)) else { return Self::Other };
        let tag = Fields::text(value, 1).unwrap_or_default().to_owned();
        match Fields::last(value, 2) {
            Some(Field::Float(value)) => Self::Scalar { step, tag, value },
            _ if tag == SESSION_END => Self::End,
            _ if Fields::last(value, 8).is_some() => Self::Text { step, tag },
            _ => Self::Other,
        }
    }
}

/// Reads the events of a file up to the first record that is not whole.
#[derive(Debug)]
pub(crate) struct Events {
    reader: BufReader<File>,
    path: PathBuf,
    /// The end of the last whole record.
    pub(crate) end: u64,
    /// Whether there is more behind it, which no reader gets to.
    pub(crate) is_damaged: bool,
}

impl Events {
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        Ok(Self { reader: BufReader::new(files::open(path)?), path: path.to_owned(), end: 0, is_damaged: false })
    }

    /// The next event and where its record starts.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Held)>, FileError> {
        let mut head = Vec::with_capacity(12);
        self.read(12, &mut head)?;
        if head.is_empty() {
            return Ok(None);
        }
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let length = number(head.get(..8).unwrap_or_default());
        let is_head = head.len() == 12 && u64::from(masked_crc(&head[..8])) == number(&head[8..]);
        let mut body = Vec::new();
        if is_head && length <= MAX_EVENT_BYTES {
            self.read(length + 4, &mut body)?;
            if body.len() as u64 == length + 4 {
                let (event, crc) = body.split_at(length as usize);
                if u64::from(masked_crc(event)) == number(crc) {
                    let start = self.end;
                    self.end += 12 + length + 4;
                    return Ok(Some((start, Held::of(event))));
                }
            }
        }
        self.is_damaged = true;
        Ok(None)
    }

    fn read(&mut self, n: u64, into: &mut Vec<u8>) -> Result<(), FileError> {
        let read = self.reader.by_ref().take(n).read_to_end(into);
        read.map(drop).map_err(|source| FileError::new("read", &self.path, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_the_bytes_that_tensorboard_reads() {
        // Made with `tensorboard.compat.tensorflow_stub.pywrap_tensorflow.masked_crc32c`.
        assert_eq!(masked_crc(&24_u64.to_le_bytes()), 0x224b_7fa3);
        assert_eq!(masked_crc(b""), 0xa282_ead8);
        let bytes = scalar(1.5, 3, "train/loss", 2.5);
        assert_eq!(bytes.len() as u64, 16 + u64::from(bytes[0]));
    }

    #[test]
    fn what_is_written_is_read_up_to_the_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let values = [("a".to_owned(), Hyperparameter::Number(1.0)), ("b".to_owned(), Hyperparameter::Truth(true))];
        let parts = [
            beginning(1.0, 5),
            hyperparameters(1.0, &values, &["train/loss".to_owned()]),
            scalar(1.5, 5, "train/loss", f32::INFINITY),
            text(1.5, 5, "sample", "it was"),
            session_end(2.0, true),
        ];
        let bytes = parts.concat();
        files::write_atomic(&path, &bytes).unwrap();
        let all = |path: &Path| {
            let mut events = Events::open(path).unwrap();
            let mut found = Vec::new();
            while let Some((_, held)) = events.next().unwrap() {
                found.push(held);
            }
            (found, events.end, events.is_damaged)
        };
        let scalar = Held::Scalar { step: 5, tag: "train/loss".to_owned(), value: f32::INFINITY };
        let text = Held::Text { step: 5, tag: "sample".to_owned() };
        let expected = [Held::Other, Held::Other, Held::Other, Held::Other, scalar, text, Held::End];
        assert_eq!(all(&path), (expected.to_vec(), bytes.len() as u64, false));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            files::write_atomic(&path, &damaged).unwrap();
            let (found, end, is_damaged) = all(&path);
            assert!(is_damaged && end <= at as u64 && found == expected[..found.len()], "byte {at}");
            files::write_atomic(&path, &bytes[..at]).unwrap();
            let (found, end, is_damaged) = all(&path);
            assert!(is_damaged == (end < at as u64) && found == expected[..found.len()], "cut at {at}");
        }
    }
}
