//! The ids of words that were encoded before: a text has few different words, and most of them often.
//!
//! A cache only remembers what encoding gives; it is emptied when it is full, so its size is bounded and it never changes a result.

use std::sync::{Mutex, PoisonError};

use crate::merges::Scratch;
use crate::pair_map::hash_bytes;

/// How many words a cache holds at most.
const MAX_WORDS: usize = 1 << 15;
/// How many bytes of words, and how many ids, a cache holds at most.
const MAX_CONTENT: usize = 1 << 19;
/// The longest word that is kept, in bytes.
const LONGEST: usize = 64;
/// How many caches a tokenizer keeps while nobody encodes.
const MAX_IDLE: usize = 64;

/// The ids of some words, and what encoding another takes.
#[derive(Debug)]
pub(crate) struct WordCache {
    /// The word of each place, counted from 1; 0 where there is none. A word is looked for from the place that its hash names.
    places: Vec<u32>,
    words: Vec<Known>,
    bytes: Vec<u8>,
    ids: Vec<u32>,
    pub(crate) scratch: Scratch,
}

/// A word and its ids, as places in the lists of both.
#[derive(Clone, Copy, Debug)]
struct Known {
    hash: u32,
    bytes: u32,
    ids: u32,
    n_bytes: u16,
    n_ids: u16,
}

impl Default for WordCache {
    fn default() -> Self {
        Self { places: vec![0; MAX_WORDS * 2], words: Vec::new(), bytes: Vec::new(), ids: Vec::new(), scratch: Scratch::default() }
    }
}

impl WordCache {
    /// Appends the ids of a word: those that are known, else what `encode` appends.
    pub(crate) fn encode(&mut self, word: &[u8], out: &mut Vec<u32>, encode: impl FnOnce(&mut Scratch, &mut Vec<u32>)) {
        if word.len() > LONGEST {
            return encode(&mut self.scratch, out);
        }
        let hash = hash_bytes(word);
        let first = (hash as usize) & (self.places.len() - 1);
        let (mut at, short_hash) = (first, (hash >> 32) as u32);
        while let Some(number) = self.places[at].checked_sub(1) {
            let known = self.words[number as usize];
            if known.hash == short_hash && self.bytes[known.bytes as usize..][..known.n_bytes as usize] == *word {
                out.extend_from_slice(&self.ids[known.ids as usize..][..known.n_ids as usize]);
                return;
            }
            at = (at + 1) & (self.places.len() - 1);
        }
        let from = out.len();
        encode(&mut self.scratch, out);
        let ids = &out[from..];
        if self.words.len() >= MAX_WORDS || self.bytes.len() + word.len() > MAX_CONTENT || self.ids.len() + ids.len() > MAX_CONTENT {
            self.places.fill(0);
            self.words.clear();
            self.bytes.clear();
            self.ids.clear();
            at = first;
        }
        let (bytes, first_id) = (self.bytes.len() as u32, self.ids.len() as u32);
        self.bytes.extend_from_slice(word);
        self.ids.extend_from_slice(ids);
        // A word of `LONGEST` bytes has no more ids than that.
        self.words.push(Known { hash: short_hash, bytes, ids: first_id, n_bytes: word.len() as u16, n_ids: ids.len() as u16 });
        self.places[at] = self.words.len() as u32;
    }
}

/// The caches that nobody uses at the moment: each thread takes one for a stretch of text and brings it back, so none waits for another.
#[derive(Debug, Default)]
pub(crate) struct IdleCaches {
    idle: Mutex<Vec<WordCache>>,
}

impl IdleCaches {
    /// Lends a cache to `work`.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut WordCache) -> T) -> T {
        let taken = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut cache = taken.unwrap_or_default();
        let done = work(&mut cache);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(cache);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_word_is_not_encoded_again_and_a_full_cache_begins_anew() {
        let mut cache = WordCache::default();
        let mut encoded = 0;
        let mut ask = |cache: &mut WordCache, n: u32| {
            let mut out = vec![7];
            cache.encode(format!("word{n}").as_bytes(), &mut out, |_, out| {
                encoded += 1;
                out.extend([n, n + 1]);
            });
            assert_eq!(out, [7, n, n + 1]);
            encoded
        };
        assert_eq!((ask(&mut cache, 1), ask(&mut cache, 2), ask(&mut cache, 1), ask(&mut cache, 2)), (1, 2, 2, 2));
        for n in 0..2 * MAX_WORDS as u32 {
            ask(&mut cache, n);
            assert!(cache.words.len() <= MAX_WORDS && cache.bytes.len() <= MAX_CONTENT && cache.ids.len() <= MAX_CONTENT);
        }
        let before = ask(&mut cache, 1);
        assert!(before > MAX_WORDS);
        assert_eq!(ask(&mut cache, 1), before);
    }

    #[test]
    fn long_words_are_not_kept() {
        let mut cache = WordCache::default();
        cache.encode(&[b'a'; LONGEST + 1], &mut Vec::new(), |_, _| ());
        assert!(cache.words.is_empty());
    }

    #[test]
    fn a_cache_comes_back() {
        let caches = IdleCaches::default();
        caches.with(|cache| cache.encode(b"ab", &mut Vec::new(), |_, out| out.push(1)));
        let mut out = Vec::new();
        caches.with(|cache| cache.encode(b"ab", &mut out, |_, _| unreachable!("it is known")));
        assert_eq!((out, caches.idle.lock().unwrap().len()), (vec![1], 1));
    }
}
