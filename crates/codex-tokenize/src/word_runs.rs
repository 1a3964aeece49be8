//! Words and counts on the disk, where they do not fit into memory: sorted runs, and the merge of them.
//!
//! A run is a list of words in the order of their bytes: the length as two bytes, the word, the count as eight, all little-endian; behind the last
//! one a length of 65,535 and a checksum of eight bytes. A run is only ever read by the process that wrote it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use codex_core::folder::{DraftFile, FolderDraft};
use codex_core::{FileError, files};

use crate::error::TokenizeError;
use crate::pair_map::{hash_bytes, mix};

/// The length that says there is no further word.
const END: u16 = u16::MAX;
/// How many runs are open at once; more are first merged to one.
const MAX_RUNS: usize = 64;

/// Takes a word and its count.
pub(crate) type EachWord<'a> = dyn FnMut(&[u8], u64) -> Result<(), TokenizeError> + 'a;

/// Runs in a temporary folder, which goes away with them.
#[derive(Debug)]
pub(crate) struct WordRuns {
    folder: FolderDraft,
    runs: Vec<PathBuf>,
    n_written: usize,
}

impl WordRuns {
    /// No runs, in a new folder within this one.
    pub(crate) fn create(parent: &Path) -> Result<Self, TokenizeError> {
        let folder = FolderDraft::create(&parent.join("tokenizer-words"))?;
        Ok(Self { folder, runs: Vec::new(), n_written: 0 })
    }

    /// Writes a run of words in the order of their bytes.
    pub(crate) fn write<'w>(&mut self, words: impl Iterator<Item = (&'w [u8], u64)>) -> Result<(), TokenizeError> {
        if self.runs.len() >= MAX_RUNS {
            let mut run = self.start()?;
            self.each(&mut |word, count| run.push(word, count))?;
            let path = run.finish()?;
            for old in std::mem::replace(&mut self.runs, vec![path]) {
                files::remove_file(&old)?;
            }
        }
        let mut run = self.start()?;
        for (word, count) in words {
            run.push(word, count)?;
        }
        let path = run.finish()?;
        self.runs.push(path);
        Ok(())
    }

    fn start(&mut self) -> Result<RunWriter, TokenizeError> {
        self.n_written += 1;
        let name = format!("run-{}", self.n_written);
        Ok(RunWriter { file: self.folder.create_file(&name)?, path: self.folder.path().join(name), checksum: 0, record: Vec::new() })
    }

    /// Calls `see` with each word of all runs, in the order of their bytes, with the sum of its counts.
    pub(crate) fn each(&self, see: &mut EachWord) -> Result<(), TokenizeError> {
        let mut readers = self.runs.iter().map(|path| RunReader::open(path)).collect::<Result<Vec<_>, _>>()?;
        let mut heap = BinaryHeap::new();
        for (reader, n) in readers.iter_mut().zip(0_usize..) {
            if let Some((word, count)) = reader.next()? {
                heap.push(Reverse((word, n, count)));
            }
        }
        let mut current: Option<(Vec<u8>, u64)> = None;
        while let Some(Reverse((word, n, count))) = heap.pop() {
            if let Some((next, count)) = readers[n].next()? {
                heap.push(Reverse((next, n, count)));
            }
            match &mut current {
                Some((known, sum)) if *known == word => *sum = sum.saturating_add(count),
                _ => {
                    if let Some((known, sum)) = current.replace((word, count)) {
                        see(&known, sum)?;
                    }
                }
            }
        }
        current.map_or(Ok(()), |(word, count)| see(&word, count))
    }
}

/// A run that is being written.
struct RunWriter {
    file: DraftFile,
    path: PathBuf,
    checksum: u64,
    record: Vec<u8>,
}

impl RunWriter {
    fn push(&mut self, word: &[u8], count: u64) -> Result<(), TokenizeError> {
        self.record.clear();
        self.record.extend_from_slice(&(word.len() as u16).to_le_bytes());
        self.record.extend_from_slice(word);
        self.record.extend_from_slice(&count.to_le_bytes());
        self.checksum = sum(self.checksum, word, count);
        self.write()
    }

    fn write(&mut self) -> Result<(), TokenizeError> {
        self.file.write_all(&self.record).map_err(|source| self.file.failed(source).into())
    }

    fn finish(mut self) -> Result<PathBuf, TokenizeError> {
        self.record.clear();
        self.record.extend_from_slice(&END.to_le_bytes());
        self.record.extend_from_slice(&self.checksum.to_le_bytes());
        self.write()?;
        self.file.flush().map_err(|source| self.file.failed(source))?;
        Ok(self.path)
    }
}

/// A run that is being read, which checks itself.
struct RunReader {
    file: BufReader<File>,
    path: PathBuf,
    checksum: u64,
    last: Option<Vec<u8>>,
}

impl RunReader {
    fn open(path: &Path) -> Result<Self, TokenizeError> {
        Ok(Self { file: BufReader::new(files::open(path)?), path: path.to_owned(), checksum: 0, last: None })
    }

    /// The next word and its count; `None` behind the last.
    fn next(&mut self) -> Result<Option<(Vec<u8>, u64)>, TokenizeError> {
        let mut length = [0; 2];
        self.read(&mut length)?;
        let length = u16::from_le_bytes(length);
        let mut number = [0; 8];
        if length == END {
            self.read(&mut number)?;
            return if u64::from_le_bytes(number) == self.checksum {
                Ok(None)
            } else {
                Err(self.damaged("its words are not those written"))
            };
        }
        let mut word = vec![0; length as usize];
        self.read(&mut word)?;
        self.read(&mut number)?;
        let count = u64::from_le_bytes(number);
        self.checksum = sum(self.checksum, &word, count);
        if self.last.as_ref().is_some_and(|last| *last >= word) {
            return Err(self.damaged("its words are not in order"));
        }
        self.last = Some(word.clone());
        Ok(Some((word, count)))
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), TokenizeError> {
        self.file.read_exact(bytes).map_err(|source| match source.kind() {
            ErrorKind::UnexpectedEof => self.damaged("it ends too early"),
            _ => FileError::new("read", &self.path, source).into(),
        })
    }

    fn damaged(&self, problem: &'static str) -> TokenizeError {
        TokenizeError::SpillDamaged { path: self.path.clone(), problem }
    }
}

fn sum(before: u64, word: &[u8], count: u64) -> u64 {
    mix(before ^ hash_bytes(word).rotate_left(17) ^ count, 0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(runs: &WordRuns) -> Result<Vec<(String, u64)>, TokenizeError> {
        let mut all = Vec::new();
        runs.each(&mut |word, count| {
            all.push((String::from_utf8_lossy(word).into_owned(), count));
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn runs_are_merged_in_order_and_counts_added() {
        let dir = tempfile::tempdir().unwrap();
        let mut runs = WordRuns::create(dir.path()).unwrap();
        assert_eq!(all(&runs).unwrap(), []);
        runs.write([(b"a".as_slice(), 1), (b"ab", 2), (b"c", 3)].into_iter()).unwrap();
        runs.write(std::iter::empty()).unwrap();
        runs.write([(b"ab".as_slice(), 5), (b"b", u64::MAX)].into_iter()).unwrap();
        let expected = [("a".to_owned(), 1), ("ab".to_owned(), 7), ("b".to_owned(), u64::MAX), ("c".to_owned(), 3)];
        assert_eq!(all(&runs).unwrap(), expected);
        assert_eq!(all(&runs).unwrap(), expected);
        assert_eq!(files::list_dir(dir.path()).unwrap().len(), 1);
        drop(runs);
        assert!(files::list_dir(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn many_runs_become_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut runs = WordRuns::create(dir.path()).unwrap();
        for n in 0..3 * MAX_RUNS as u64 {
            let own = format!("word{n:04}");
            runs.write([(b"all".as_slice(), 1), (own.as_bytes(), n)].into_iter()).unwrap();
            assert!(runs.runs.len() <= MAX_RUNS);
        }
        let found = all(&runs).unwrap();
        assert_eq!((found.len(), found[0].1, found[5].1), (1 + 3 * MAX_RUNS, 3 * MAX_RUNS as u64, 4));
    }

    #[test]
    fn a_damaged_run_is_an_error_wherever_it_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let mut runs = WordRuns::create(dir.path()).unwrap();
        runs.write([(b"a".as_slice(), 1), (b"bc", 300), (b"d", 3)].into_iter()).unwrap();
        let path = runs.runs[0].clone();
        let good = files::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            files::write_atomic(&path, &bad).unwrap();
            assert!(matches!(all(&runs), Err(TokenizeError::SpillDamaged { .. })), "byte {at}");
            files::write_atomic(&path, &good[..at]).unwrap();
            assert!(matches!(all(&runs), Err(TokenizeError::SpillDamaged { .. })), "cut at {at}");
        }
        files::remove_file(&path).unwrap();
        assert!(matches!(all(&runs), Err(TokenizeError::File(_))));
    }
}
