//! Counting the words of any amount of text in bounded memory, on several threads.
//!
//! The counts are sums, so they depend neither on the order of the texts nor on the number of threads. When memory is full the words so far go to
//! the disk as a sorted run; at the end the runs are merged. Only if more different words remain than are kept, the rarest are left out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokenizers::parallelism::{MaybeParallelIterator, current_num_threads};

use crate::error::TokenizeError;
use crate::piece::pieces;
use crate::word_counts::{WordCounts, cost_of};
use crate::word_runs::{EachWord, WordRuns};

/// How much memory the words of a training may take, and where they go beyond it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainOptions {
    /// The folder in which words are put while memory is full; that of the system for temporary files when absent. What is written there is removed
    /// again, whether or not the training succeeds.
    pub spill_folder: Option<PathBuf>,
    /// How much memory the words may take while they are counted, in bytes; 128 MiB, which is about two million words.
    pub count_bytes: usize,
    /// How much memory the words may take that are trained on, in bytes; the rarest beyond it are left out. 128 MiB.
    pub keep_bytes: usize,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self { spill_folder: None, count_bytes: 128 << 20, keep_bytes: 128 << 20 }
    }
}

/// The words that a training left out because there were too many different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LeftOut {
    /// How many different words.
    pub words: u64,
    /// How often they occur in all.
    pub occurrences: u64,
    /// Each of them occurs less often than this, and each word that was kept as often or more.
    pub below: u64,
}

/// The most tables that are counted into at once.
const MAX_TABLES: usize = 64;
/// How much text is counted before the tables' memory is looked at again, in bytes.
const ROUND: usize = 16 << 20;

/// The most memory a table may take, in bytes.
const MAX_TABLE_BYTES: usize = 2 << 30;

/// Puts the words of a stretch of text into a table.
pub(crate) type CountPiece = fn(&str, &mut WordCounts) -> Result<(), TokenizeError>;

/// Counts words.
pub(crate) struct WordCounter {
    count: CountPiece,
    options: TrainOptions,
    tables: Vec<WordCounts>,
    runs: Option<WordRuns>,
    pub(crate) texts: u64,
    pub(crate) bytes: u64,
}

/// The words of a corpus in the order of their bytes, with their counts.
#[derive(Debug, Default)]
pub(crate) struct WordList {
    bytes: Vec<u8>,
    /// Where each word ends, and its count.
    words: Vec<(u32, u64)>,
    pub(crate) left_out: Option<LeftOut>,
}

impl WordList {
    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        let starts = std::iter::once(0).chain(self.words.iter().map(|(end, _)| *end));
        starts.zip(&self.words).map(|(start, &(end, count))| (&self.bytes[start as usize..end as usize], count))
    }

    fn push(&mut self, word: &[u8], count: u64) {
        self.bytes.extend_from_slice(word);
        self.words.push((self.bytes.len() as u32, count));
    }
}

impl WordCounter {
    pub(crate) fn new(count: CountPiece, options: &TrainOptions) -> Self {
        let n = current_num_threads().clamp(1, MAX_TABLES);
        let tables = std::iter::repeat_with(WordCounts::default).take(n).collect();
        // Places within the tables are 32 bits wide.
        let most = |bytes: usize| bytes.min(MAX_TABLE_BYTES);
        let options = TrainOptions { count_bytes: most(options.count_bytes), keep_bytes: most(options.keep_bytes), ..options.clone() };
        Self { count, options, tables, runs: None, texts: 0, bytes: 0 }
    }

    /// Counts the words of some texts.
    pub(crate) fn add(&mut self, texts: &[&str]) -> Result<(), TokenizeError> {
        let (mut round, mut bytes) = (Vec::new(), 0);
        for text in texts {
            self.texts += 1;
            self.bytes += text.len() as u64;
            for piece in pieces(text) {
                round.push(piece);
                bytes += piece.len();
                if bytes >= ROUND {
                    self.count_round(&round)?;
                    (round, bytes) = (Vec::new(), 0);
                }
            }
        }
        self.count_round(&round)
    }

    fn count_round(&mut self, round: &[&str]) -> Result<(), TokenizeError> {
        let (next, count) = (AtomicUsize::new(0), self.count);
        let work = |table: &mut WordCounts| -> Result<(), TokenizeError> {
            while let Some(piece) = round.get(next.fetch_add(1, Ordering::Relaxed)) {
                count(piece, table)?;
            }
            Ok(())
        };
        let tables: Vec<&mut WordCounts> = self.tables.iter_mut().collect();
        tables.into_maybe_par_iter().map(work).collect::<Result<Vec<()>, TokenizeError>>()?;
        let cost: usize = self.tables.iter().map(WordCounts::cost).sum();
        if cost > self.options.count_bytes {
            self.join_tables();
            // The same words of several threads are one now. Below half there is room to go on.
            if self.tables[0].cost() > self.options.count_bytes / 2 {
                self.spill()?;
            }
        }
        Ok(())
    }

    /// Puts all words into the first table.
    fn join_tables(&mut self) {
        if let Some((first, others)) = self.tables.split_first_mut() {
            for other in others {
                first.add_all(other);
                other.clear();
            }
        }
    }

    /// Writes the first table to the disk and empties it.
    fn spill(&mut self) -> Result<(), TokenizeError> {
        let runs = if let Some(runs) = &mut self.runs {
            runs
        } else {
            let folder = self.options.spill_folder.clone().unwrap_or_else(std::env::temp_dir);
            self.runs.insert(WordRuns::create(&folder)?)
        };
        runs.write(self.tables[0].sorted())?;
        self.tables[0].clear();
        Ok(())
    }

    /// All words, or those that are kept.
    pub(crate) fn finish(mut self) -> Result<WordList, TokenizeError> {
        self.join_tables();
        if self.runs.is_some() {
            self.spill()?;
            self.tables.clear();
        }
        // How many words there are of each count, and what they cost.
        let mut by_count: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let mut total = 0_u64;
        self.each(&mut |word, count| {
            let entry = by_count.entry(count).or_default();
            *entry = (entry.0 + 1, entry.1 + cost_of(word.len()) as u64);
            total += cost_of(word.len()) as u64;
            Ok(())
        })?;
        let (mut below, mut left_out) = (0, None);
        for (&count, &(words, cost)) in &by_count {
            if total <= self.options.keep_bytes as u64 {
                break;
            }
            total -= cost;
            below = count + 1;
            let so_far = left_out.get_or_insert(LeftOut { words: 0, occurrences: 0, below });
            *so_far =
                LeftOut { words: so_far.words + words, occurrences: so_far.occurrences.saturating_add(words.saturating_mul(count)), below };
        }
        let mut list = WordList { left_out, ..WordList::default() };
        self.each(&mut |word, count| {
            if count >= below {
                list.push(word, count);
            }
            Ok(())
        })?;
        Ok(list)
    }

    /// Each word that was counted, in the order of their bytes; the tables are joined.
    fn each(&self, see: &mut EachWord) -> Result<(), TokenizeError> {
        match &self.runs {
            Some(runs) => runs.each(see),
            None => self.tables[0].sorted().try_for_each(|(word, count)| see(word, count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use codex_core::files;
    use proptest::prelude::*;

    use super::*;

    /// Words between spaces.
    #[expect(clippy::unnecessary_wraps, reason = "it is a `CountPiece`, and another one can fail")]
    fn by_spaces(piece: &str, counts: &mut WordCounts) -> Result<(), TokenizeError> {
        piece.split(' ').filter(|word| !word.is_empty()).for_each(|word| counts.add(word.as_bytes(), 1));
        Ok(())
    }

    fn counted(texts: &[&str], batch: usize, options: &TrainOptions) -> (Vec<(String, u64)>, Option<LeftOut>, bool) {
        let mut counter = WordCounter::new(by_spaces, options);
        for batch in texts.chunks(batch) {
            counter.add(batch).unwrap();
        }
        let spilled = counter.runs.is_some();
        let list = counter.finish().unwrap();
        (list.iter().map(|(word, n)| (String::from_utf8_lossy(word).into_owned(), n)).collect(), list.left_out, spilled)
    }

    #[test]
    fn what_goes_to_the_disk_changes_nothing_and_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let texts: Vec<String> = (0..400).map(|n| format!("w{} w{} all", n % 97, n * n % 131)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let options = TrainOptions { spill_folder: Some(dir.path().to_owned()), ..TrainOptions::default() };
        let (whole, left_out, spilled) = counted(&texts, 1000, &options);
        assert!(!spilled && left_out.is_none() && whole.len() > 97);
        assert_eq!(whole[0], ("all".to_owned(), 400));
        let reversed: Vec<&str> = texts.iter().rev().copied().collect();
        for count_bytes in [0, 300, 3000] {
            for (texts, batch) in [(&texts, 1), (&texts, 7), (&reversed, 50)] {
                let small = TrainOptions { count_bytes, ..options.clone() };
                let (found, left_out, spilled) = counted(texts, batch, &small);
                assert!(spilled && left_out.is_none(), "{count_bytes}");
                assert_eq!(found, whole);
            }
        }
        assert!(files::list_dir(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn the_rarest_are_left_out_and_told() {
        let texts = ["a a a b b c c d e", "a b f"];
        let keep = |words: usize| TrainOptions { keep_bytes: words * cost_of(1), ..TrainOptions::default() };
        let (found, left_out, _) = counted(&texts, 9, &keep(6));
        assert_eq!((found.len(), left_out), (6, None));
        for n in [3, 4, 5] {
            let (found, left_out, _) = counted(&texts, 9, &keep(n));
            assert_eq!(found, [("a".to_owned(), 4), ("b".to_owned(), 3), ("c".to_owned(), 2)]);
            assert_eq!(left_out, Some(LeftOut { words: 3, occurrences: 3, below: 2 }));
        }
        assert_eq!(counted(&texts, 9, &keep(0)).1, Some(LeftOut { words: 6, occurrences: 12, below: 5 }));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        files::write_atomic(&file, b"").unwrap();
        let options = TrainOptions { spill_folder: Some(file), count_bytes: 0, ..TrainOptions::default() };
        assert!(matches!(WordCounter::new(by_spaces, &options).add(&["a"]), Err(TokenizeError::File(_))));
    }

    proptest! {
        #[test]
        fn borders_order_and_limits_change_nothing(
            mut texts in prop::collection::vec("[ab ]{0,12}", 0..30), batch in 1_usize..9, count_bytes in 0_usize..600, keep in 0_usize..12,
        ) {
            let keep_bytes = keep * cost_of(3);
            let one = TrainOptions { keep_bytes, ..TrainOptions::default() };
            let other = TrainOptions { count_bytes, ..one.clone() };
            let first = counted(&texts.iter().map(String::as_str).collect::<Vec<_>>(), 1000, &one);
            texts.sort();
            let second = counted(&texts.iter().map(String::as_str).collect::<Vec<_>>(), batch, &other);
            prop_assert_eq!((first.0, first.1), (second.0, second.1));
        }
    }
}
