//! How often each word occurs, in memory.

use crate::pair_map::hash_bytes;

/// What a word takes in memory beside its bytes.
const WORD_COST: usize = 48;

/// Words, each with a count.
#[derive(Debug, Default)]
pub(crate) struct WordCounts {
    /// The word of each place, counted from 1; 0 where there is none. A word is looked for from the place that its hash names.
    places: Vec<u32>,
    words: Vec<Counted>,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    count: u64,
    start: u32,
    hash: u32,
    len: u32,
}

impl WordCounts {
    /// Counts a word so many times more.
    pub(crate) fn add(&mut self, word: &[u8], count: u64) {
        if self.words.len() * 2 >= self.places.len() {
            self.grow();
        }
        let hash = hash_bytes(word) as u32;
        let mask = self.places.len() - 1;
        let mut at = hash as usize & mask;
        while let Some(number) = self.places[at].checked_sub(1) {
            let known = &mut self.words[number as usize];
            if known.hash == hash && self.bytes[known.start as usize..][..known.len as usize] == *word {
                known.count = known.count.saturating_add(count);
                return;
            }
            at = (at + 1) & mask;
        }
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(word);
        self.words.push(Counted { count, start, hash, len: word.len() as u32 });
        self.places[at] = self.words.len() as u32;
    }

    /// Counts everything of another table in.
    pub(crate) fn add_all(&mut self, other: &Self) {
        for counted in &other.words {
            self.add(other.word(counted), counted.count);
        }
    }

    fn grow(&mut self) {
        self.places = vec![0; (self.places.len() * 2).max(1 << 10)];
        let mask = self.places.len() - 1;
        for (counted, number) in self.words.iter().zip(1..) {
            let mut at = counted.hash as usize & mask;
            while self.places[at] != 0 {
                at = (at + 1) & mask;
            }
            self.places[at] = number;
        }
    }

    fn word(&self, counted: &Counted) -> &[u8] {
        &self.bytes[counted.start as usize..][..counted.len as usize]
    }

    /// About how much memory the table takes, in bytes.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.len() + self.words.len() * WORD_COST
    }

    /// The words and counts, in the order of their bytes.
    pub(crate) fn sorted(&self) -> impl Iterator<Item = (&[u8], u64)> {
        let mut order: Vec<u32> = (0..self.words.len() as u32).collect();
        order.sort_unstable_by_key(|&n| self.word(&self.words[n as usize]));
        order.into_iter().map(|n| (self.word(&self.words[n as usize]), self.words[n as usize].count))
    }

    /// Forgets every word, and keeps the memory for the next ones.
    pub(crate) fn clear(&mut self) {
        self.places.fill(0);
        self.words.clear();
        self.bytes.clear();
    }
}

/// About how much memory a word of this length takes in a table, in bytes.
pub(crate) fn cost_of(len: usize) -> usize {
    len + WORD_COST
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn words_are_counted_and_sorted_by_their_bytes() {
        let (mut counts, mut other, mut reference) = (WordCounts::default(), WordCounts::default(), BTreeMap::<Vec<u8>, u64>::new());
        for i in 0..10_000_u64 {
            let word = format!("{}", i * i % 2311).into_bytes();
            *reference.entry(word.clone()).or_default() += i;
            if i % 3 == 0 { &mut other } else { &mut counts }.add(&word, i);
        }
        counts.add_all(&other);
        assert_eq!(
            counts.sorted().map(|(word, n)| (word.to_vec(), n)).collect::<Vec<_>>(),
            reference.clone().into_iter().collect::<Vec<_>>()
        );
        assert_eq!((counts.words.len(), counts.cost()), (reference.len(), reference.keys().map(|word| cost_of(word.len())).sum()));
        counts.clear();
        assert_eq!((counts.words.len(), counts.sorted().count()), (0, 0));
        counts.add(b"a", 1);
        counts.add(b"", 2);
        assert_eq!(counts.sorted().collect::<Vec<_>>(), [(b"".as_slice(), 2), (b"a".as_slice(), 1)]);
    }
}
