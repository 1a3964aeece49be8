//! From the bytes of a word to its ids: the pair of the earliest merge is joined, the leftmost first, until no merge fits.
//!
//! Reference: R. Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016), algorithm 1.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::pair_map::PairMap;

/// Up to this length a word's pairs are looked through for each merge; beyond it a heap has them in order.
const SHORT: usize = 48;
/// The rank of a pair that no merge joins.
const NEVER: u32 = u32::MAX;
/// No neighbour.
const NONE: u32 = u32::MAX;

/// The merges of a tokenizer.
#[derive(Debug)]
pub(crate) struct Merges {
    /// The id of each byte.
    byte_ids: [u32; 256],
    /// The rank of each pair that is joined.
    ranks: PairMap,
    /// The id that the merge of each rank makes.
    made: Vec<u32>,
}

/// What one word needs while it is merged, kept to be used again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    ids: Vec<u32>,
    ranks: Vec<u32>,
    before: Vec<u32>,
    after: Vec<u32>,
    heap: BinaryHeap<Reverse<(u32, u32, u32)>>,
}

impl Merges {
    /// The merges in order, each as the pair and the id it makes.
    pub(crate) fn new(byte_ids: &[u32; 256], merges: &[((u32, u32), u32)]) -> Self {
        let mut ranks = PairMap::with_capacity(merges.len());
        for (&(pair, _), rank) in merges.iter().zip(0..) {
            ranks.get_or_insert(pair, rank);
        }
        Self { byte_ids: *byte_ids, ranks, made: merges.iter().map(|(_, id)| *id).collect() }
    }

    /// Appends the ids of a word.
    pub(crate) fn encode(&self, word: &[u8], scratch: &mut Scratch, out: &mut Vec<u32>) {
        if let [byte] = word {
            out.push(self.byte_ids[*byte as usize]);
        } else if word.len() <= SHORT {
            self.encode_short(word, scratch, out);
        } else {
            self.encode_long(word, scratch, out);
        }
    }

    fn rank(&self, left: u32, right: u32) -> u32 {
        self.ranks.get((left, right)).unwrap_or(NEVER)
    }

    /// Looks for the earliest merge among all pairs, again and again: time grows with the square of the length.
    fn encode_short(&self, word: &[u8], scratch: &mut Scratch, out: &mut Vec<u32>) {
        let Scratch { ids, ranks, .. } = scratch;
        ids.clear();
        ids.extend(word.iter().map(|&byte| self.byte_ids[byte as usize]));
        // The rank of each id with the next one.
        ranks.clear();
        ranks.extend(ids.windows(2).map(|pair| self.rank(pair[0], pair[1])));
        while let Some((at, rank)) = ranks.iter().copied().enumerate().min_by_key(|&(at, rank)| (rank, at))
            && rank != NEVER
        {
            ids[at] = self.made[rank as usize];
            ids.remove(at + 1);
            ranks.remove(at);
            if at > 0 {
                ranks[at - 1] = self.rank(ids[at - 1], ids[at]);
            }
            if at < ranks.len() {
                ranks[at] = self.rank(ids[at], ids[at + 1]);
            }
        }
        out.extend_from_slice(ids);
    }

    /// Takes the earliest merge from a heap, in which a pair that is no more is passed over: time grows hardly faster than the length.
    fn encode_long(&self, word: &[u8], scratch: &mut Scratch, out: &mut Vec<u32>) {
        let Scratch { ids, before, after, heap, .. } = scratch;
        let n = word.len() as u32;
        ids.clear();
        ids.extend(word.iter().map(|&byte| self.byte_ids[byte as usize]));
        before.clear();
        before.extend((0..n).map(|at| at.checked_sub(1).unwrap_or(NONE)));
        after.clear();
        after.extend((1..=n).map(|at| if at == n { NONE } else { at }));
        heap.clear();
        let first = ids.windows(2).zip(0..).map(|(pair, at)| Reverse((self.rank(pair[0], pair[1]), at, at + 1)));
        heap.extend(first.filter(|Reverse((rank, ..))| *rank != NEVER));
        while let Some(Reverse((rank, at, next))) = heap.pop() {
            // Old when either id was joined with another since: the rank is then another, or the neighbour is.
            let (left, right) = (at as usize, next as usize);
            if after[left] != next || self.rank(ids[left], ids[right]) != rank {
                continue;
            }
            ids[left] = self.made[rank as usize];
            let behind = after[right];
            after[left] = behind;
            // It has no neighbour any more, so that what is in the heap for it is old.
            after[right] = NONE;
            let mut offer = |at: u32, next: u32| {
                let rank = self.rank(ids[at as usize], ids[next as usize]);
                if rank != NEVER {
                    heap.push(Reverse((rank, at, next)));
                }
            };
            if behind != NONE {
                before[behind as usize] = at;
                offer(at, behind);
            }
            if before[left] != NONE {
                offer(before[left], at);
            }
        }
        let mut at = 0;
        while at != NONE {
            out.push(ids[at as usize]);
            at = after[at as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> [u32; 256] {
        std::array::from_fn(|byte| byte as u32)
    }

    fn encode(merges: &Merges, word: &str) -> (Vec<u32>, Vec<u32>) {
        let (mut scratch, mut short, mut long) = (Scratch::default(), Vec::new(), Vec::new());
        merges.encode_short(word.as_bytes(), &mut scratch, &mut short);
        merges.encode_long(word.as_bytes(), &mut scratch, &mut long);
        (short, long)
    }

    #[test]
    fn the_earliest_merge_goes_first_and_the_leftmost_of_it() {
        let [a, b, c] = [97, 98, 99];
        let merges = Merges::new(&bytes(), &[((b, c), 256), ((a, b), 257), ((a, 256), 258), ((257, c), 258), ((a, a), 259)]);
        for (word, ids) in [
            ("abc", vec![258]),
            ("ab", vec![257]),
            ("abab", vec![257, 257]),
            ("aaa", vec![259, a]),
            ("aaaabc", vec![259, a, 258]),
            ("xy", vec![120, 121]),
        ] {
            assert_eq!(encode(&merges, word), (ids.clone(), ids), "{word}");
        }
    }

    proptest! {
        #[test]
        fn both_ways_give_the_same_ids(
            word in "[abc]{1,60}",
            pairs in prop::collection::btree_set((97_u32..103, 97_u32..103), 0..20),
        ) {
            // Ids 100 to 102 stand for what merges make, so that merges build on merges.
            let merges: Vec<((u32, u32), u32)> = pairs.into_iter().zip((100..103).cycle()).collect();
            let (short, long) = encode(&Merges::new(&bytes(), &merges), &word);
            prop_assert_eq!(short, long);
        }
    }
}
