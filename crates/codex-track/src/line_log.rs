//! Files of lines that are only appended to: one write is whole lines, a torn last line is taken off, no reader trusts an unfinished one.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use codex_core::{FileError, files};

/// A longer line is counted as bad and never held in memory.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// An open file of lines.
#[derive(Debug)]
pub(crate) struct LineLog {
    file: File,
    path: PathBuf,
}

impl LineLog {
    /// Opens or creates the file, after taking off a torn last line.
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        repair(path)?;
        let file = files::open_append(path)?;
        // A new file survives a power loss only when its folder's entry does.
        files::sync_dir(files::parent(path))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Opens or creates a file that is no text, which is whole as it is.
    pub(crate) fn create(path: &Path) -> Result<Self, FileError> {
        let file = files::open_append(path)?;
        files::sync_dir(files::parent(path))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Opens or creates a file that others may append to. It is never shortened: a last line without an end, which may be another's and still be
    /// written, is ended instead.
    pub(crate) fn open_shared(path: &Path) -> Result<Self, FileError> {
        let mut log = Self { file: files::open_append(path)?, path: path.to_owned() };
        files::sync_dir(files::parent(path))?;
        if !ends_a_line(path)? {
            log.append(b"\n")?;
        }
        Ok(log)
    }

    /// Appends whole lines in one write. After an error the log must not be written to again.
    pub(crate) fn append(&mut self, lines: &[u8]) -> Result<(), FileError> {
        self.file.write_all(lines).map_err(|source| FileError::new("append to", &self.path, source))
    }

    /// Flushes to the disk.
    pub(crate) fn sync(&mut self) -> Result<(), FileError> {
        self.file.sync_data().map_err(|source| FileError::new("sync", &self.path, source))
    }
}

/// One line of a file, or what stands in its place.
pub(crate) enum Line<'a> {
    /// A finished line, without its end.
    Whole(&'a [u8]),
    /// A finished line that is too long to be one of ours.
    TooLong,
    /// The last line, without an end: a write that was cut off.
    Torn,
}

fn ends_a_line(path: &Path) -> Result<bool, FileError> {
    let mut last = [b'\n'];
    let mut file = files::open(path)?;
    if files::size(path)? > 0 {
        let read = file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last));
        read.map_err(|source| FileError::new("read", path, source))?;
    }
    Ok(last == *b"\n")
}

/// Visits each line of a file in order.
pub(crate) fn for_each_line(path: &Path, mut visit: impl FnMut(Line<'_>)) -> Result<(), FileError> {
    for_each_line_at(path, |_, line| visit(line))
}

/// Like [`for_each_line`], with the position of the line in the file. That of a line that is too long is of no use.
fn for_each_line_at(path: &Path, mut visit: impl FnMut(u64, Line<'_>)) -> Result<(), FileError> {
    let mut at = 0;
    let mut reader = BufReader::new(files::open(path)?);
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        line.clear();
        let n = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(|source| FileError::new("read", path, source))?;
        match line.strip_suffix(b"\n") {
            Some(_) if too_long => {
                too_long = false;
                visit(at, Line::TooLong);
            }
            Some(whole) => visit(at, Line::Whole(whole)),
            None if n as u64 == MAX_LINE_BYTES => too_long = true,
            None => {
                if n > 0 || too_long {
                    visit(at, Line::Torn);
                }
                return Ok(());
            }
        }
        at += n as u64;
    }
}

/// Like [`for_each_line`]; an absent file has no lines.
pub(crate) fn for_each_line_if_any(path: &Path, visit: impl FnMut(Line<'_>)) -> Result<(), FileError> {
    match for_each_line(path, visit) {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Takes a torn last line off a file; an absent file is whole.
pub(crate) fn repair(path: &Path) -> Result<(), FileError> {
    let mut whole_bytes = 0_u64;
    let mut end = 0_u64;
    let mut reader = match files::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error),
    };
    loop {
        let chunk = reader.fill_buf().map_err(|source| FileError::new("read", path, source))?;
        if chunk.is_empty() {
            break;
        }
        if let Some(at) = chunk.iter().rposition(|&byte| byte == b'\n') {
            whole_bytes = end + at as u64 + 1;
        }
        let n = chunk.len();
        end += n as u64;
        reader.consume(n);
    }
    if end > whole_bytes { files::truncate(path, whole_bytes) } else { Ok(()) }
}

/// Rewrites a file atomically with only the finished lines that `keep` accepts. Without anything to drop, the file is left alone.
pub(crate) fn retain(path: &Path, mut keep: impl FnMut(&[u8]) -> bool) -> Result<(), FileError> {
    let mut kept = Vec::new();
    let mut dropped = false;
    for_each_line_if_any(path, |line| match line {
        Line::Whole(whole) if keep(whole) => {
            kept.extend_from_slice(whole);
            kept.push(b'\n');
        }
        _ => dropped = true,
    })?;
    if dropped { files::write_atomic(path, &kept) } else { Ok(()) }
}

/// Takes out the finished lines that `is_gone` accepts where they are: empty lines stand in their place. The file keeps its length and its
/// identity, so what others append meanwhile stays; an absent file has no lines.
pub(crate) fn blank(path: &Path, mut is_gone: impl FnMut(&[u8]) -> bool) -> Result<(), FileError> {
    let mut gone = Vec::new();
    let seen = for_each_line_at(path, |at, line| match line {
        Line::Whole(whole) if is_gone(whole) => gone.push(at..at + whole.len() as u64),
        _ => {}
    });
    match seen {
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => blank_at(path, &gone),
    }
}

/// Overwrites parts of a file with line ends.
pub(crate) fn blank_at(path: &Path, gone: &[Range<u64>]) -> Result<(), FileError> {
    if gone.is_empty() {
        return Ok(());
    }
    let mut file = files::open_in_place(path)?;
    for part in gone {
        let ends = vec![b'\n'; (part.end - part.start) as usize];
        let written = file.seek(SeekFrom::Start(part.start)).and_then(|_| file.write_all(&ends));
        written.map_err(|source| FileError::new("write", path, source))?;
    }
    file.sync_data().map_err(|source| FileError::new("sync", path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for_each_line_if_any(path, |line| {
            found.push(match line {
                Line::Whole(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Line::TooLong => "<too long>".to_owned(),
                Line::Torn => "<torn>".to_owned(),
            });
        })
        .unwrap();
        found
    }

    #[test]
    fn a_torn_tail_is_seen_and_taken_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert!(lines(&path).is_empty());
        files::write_atomic(&path, b"one\n\ntwo\nthr").unwrap();
        assert_eq!(lines(&path), ["one", "", "two", "<torn>"]);
        let mut log = LineLog::open(&path).unwrap();
        log.append(b"four\n").unwrap();
        log.sync().unwrap();
        assert_eq!(lines(&path), ["one", "", "two", "four"]);
        files::write_atomic(&path, b"never ended").unwrap();
        repair(&path).unwrap();
        assert_eq!(files::size(&path).unwrap(), 0);
        assert!(LineLog::open(dir.path()).is_err());
    }

    #[test]
    fn a_line_without_end_in_sight_is_not_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut bytes = vec![b'x'; MAX_LINE_BYTES as usize + 10];
        bytes.extend_from_slice(b"\nshort\n");
        files::write_atomic(&path, &bytes).unwrap();
        assert_eq!(lines(&path), ["<too long>", "short"]);
    }

    #[test]
    fn a_shared_file_keeps_its_length_and_its_torn_tail() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        blank(&path, |_| true).unwrap();
        assert!(!files::is_plain_file(&path));
        let mut bytes = b"one\ntwo\n".to_vec();
        bytes.extend(vec![b'x'; MAX_LINE_BYTES as usize + 10]);
        bytes.extend_from_slice(b"\ntwo\nthr");
        files::write_atomic(&path, &bytes).unwrap();
        blank(&path, |line| line == b"two").unwrap();
        assert_eq!(files::size(&path).unwrap(), bytes.len() as u64);
        assert_eq!(lines(&path), ["one", "", "", "", "", "<too long>", "", "", "", "", "<torn>"]);
        LineLog::open_shared(&path).unwrap().append(b"four\n").unwrap();
        LineLog::open_shared(&path).unwrap();
        assert_eq!(lines(&path)[9..], ["", "thr", "four"]);
    }

    #[test]
    fn retain_keeps_the_wanted_lines_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        retain(&path, |_| true).unwrap();
        assert!(!files::is_plain_file(&path));
        files::write_atomic(&path, b"a\nb\nc\nd").unwrap();
        retain(&path, |line| line != b"b").unwrap();
        assert_eq!(files::read(&path).unwrap(), b"a\nc\n");
    }
}
