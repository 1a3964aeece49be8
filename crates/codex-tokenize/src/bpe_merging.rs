//! Which pairs become tokens: the one that occurs most is joined everywhere, again and again.
//!
//! References: R. Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016), algorithm 1. The merges are those of the
//! tokenizers library's `BpeTrainer`, byte for byte, with its answers to what the algorithm leaves open: ties go to the pair of lower ids; the count
//! of a pair that was joined stays as it was and grows when the pair is made again; a token that is made of two pairs keeps its first id.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use tokenizers::models::bpe::{BPE, Vocab};

use crate::alphabet::byte_to_char;
use crate::config::TokenizerConfig;
use crate::error::TokenizeError;
use crate::pair_map::PairMap;
use crate::word_counter::WordList;

type Pair = (u32, u32);

/// No list.
const NONE: u32 = u32::MAX;

/// The words of a corpus as ids, and where each pair is.
struct Merging {
    /// The ids of all words, one behind the other.
    ids: Vec<u32>,
    words: Vec<Word>,
    /// The number of each pair.
    numbers: PairMap,
    pairs: Vec<PairState>,
    /// The words of each list, in ascending order.
    lists: Vec<Vec<u32>>,
    /// The pairs with an open list.
    open: Vec<u32>,
    queue: BinaryHeap<Queued>,
}

/// A word's ids are the first of the room it had.
struct Word {
    start: usize,
    len: u32,
    count: i64,
}

struct PairState {
    pair: Pair,
    /// How often it occurs, and did when it was joined.
    count: i64,
    /// The list that words with it are put into.
    list: u32,
}

/// A pair in the queue with words that hold it: the most frequent first, then the lower ids, then the older list.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Queued {
    count: i64,
    pair: Reverse<Pair>,
    list: Reverse<u32>,
    number: u32,
}

/// The model that these words give; `each_merge` is called with the number of ids now and then.
pub(crate) fn merge_words(words: &WordList, config: &TokenizerConfig, each_merge: &mut dyn FnMut(usize)) -> Result<BPE, TokenizeError> {
    let mut ids: BTreeMap<String, u32> = BTreeMap::new();
    let mut tokens: Vec<String> = Vec::new();
    let mut alphabet: Vec<char> = (0..=255).map(byte_to_char).collect();
    alphabet.sort_unstable();
    for token in config.special_tokens.iter().cloned().chain(alphabet.into_iter().map(String::from)) {
        ids.entry(token.clone()).or_insert_with(|| {
            tokens.push(token);
            tokens.len() as u32 - 1
        });
    }
    let byte_ids: Vec<u32> =
        (0..=255).map(|byte| ids.get(byte_to_char(byte).encode_utf8(&mut [0; 4]) as &str).copied().unwrap_or_default()).collect();

    let mut merging = Merging::new(words, &byte_ids);
    let mut merges: Vec<Pair> = Vec::new();
    while ids.len() < config.vocab_size {
        let Some(mut top) = merging.queue.pop() else { break };
        let now = merging.pairs[top.number as usize].count;
        if top.count != now {
            top.count = now;
            merging.queue.push(top);
            continue;
        }
        if top.count < 1 || config.min_frequency > top.count as u64 {
            break;
        }
        let Reverse(pair) = top.pair;
        let token = format!("{}{}", tokens[pair.0 as usize], tokens[pair.1 as usize]);
        let made = *ids.entry(token.clone()).or_insert_with(|| {
            tokens.push(token);
            tokens.len() as u32 - 1
        });
        merges.push(pair);
        merging.join(pair, made, top.list.0);
        if merges.len().is_multiple_of(128) {
            each_merge(tokens.len());
        }
    }

    // Of a pair that was joined twice, the last counts.
    let mut seen = BTreeSet::new();
    let mut kept: Vec<Pair> = merges.into_iter().rev().filter(|pair| seen.insert(*pair)).collect();
    kept.reverse();
    let name = |id: u32| tokens[id as usize].clone();
    let merges = kept.into_iter().map(|(left, right)| (name(left), name(right))).collect();
    let vocab: Vocab = tokens.iter().cloned().zip(0..).collect();
    let model = BPE::builder().vocab_and_merges(vocab, merges).build();
    model.map_err(|error| TokenizeError::library("train a tokenizer", error))
}

impl Merging {
    fn new(words: &WordList, byte_ids: &[u32]) -> Self {
        let mut merging = Self {
            ids: Vec::new(),
            words: Vec::with_capacity(words.len()),
            numbers: PairMap::with_capacity(1 << 14),
            pairs: Vec::new(),
            lists: Vec::new(),
            open: Vec::new(),
            queue: BinaryHeap::new(),
        };
        for ((word, count), n) in words.iter().zip(0..) {
            let start = merging.ids.len();
            merging.ids.extend(word.iter().map(|&byte| byte_ids[byte as usize]));
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            merging.words.push(Word { start, len: word.len() as u32, count });
            for at in start + 1..merging.ids.len() {
                merging.more((merging.ids[at - 1], merging.ids[at]), count, n);
            }
        }
        merging.close_lists();
        merging
    }

    /// A pair occurs more often, by what one word counts.
    fn more(&mut self, pair: Pair, count: i64, word: u32) {
        let new = self.pairs.len() as u32;
        let number = self.numbers.get_or_insert(pair, new);
        if number == new {
            self.pairs.push(PairState { pair, count: 0, list: NONE });
        }
        let state = &mut self.pairs[number as usize];
        state.count = state.count.saturating_add(count);
        if state.list == NONE {
            state.list = self.lists.len() as u32;
            self.lists.push(Vec::new());
            self.open.push(number);
        }
        let list = &mut self.lists[state.list as usize];
        if list.last() != Some(&word) {
            list.push(word);
        }
    }

    /// A pair occurs less often.
    fn less(&mut self, pair: Pair, count: i64) {
        if let Some(number) = self.numbers.get(pair) {
            let state = &mut self.pairs[number as usize];
            state.count = state.count.saturating_sub(count);
        }
    }

    /// Queues the pairs that words were listed for.
    fn close_lists(&mut self) {
        for number in std::mem::take(&mut self.open) {
            let state = &mut self.pairs[number as usize];
            let list = std::mem::replace(&mut state.list, NONE);
            if state.count > 0 {
                self.queue.push(Queued { count: state.count, pair: Reverse(state.pair), list: Reverse(list), number });
            } else {
                self.lists[list as usize] = Vec::new();
            }
        }
    }

    /// Joins a pair to one id in the words of a list.
    fn join(&mut self, pair: Pair, made: u32, list: u32) {
        for n in std::mem::take(&mut self.lists[list as usize]) {
            self.join_in(n, pair, made);
        }
        self.close_lists();
    }

    fn join_in(&mut self, n: u32, (left, right): Pair, made: u32) {
        let Word { start, len, count } = self.words[n as usize];
        let end = start + len as usize;
        // What was looked at is written from the start on; what comes is read ahead of it.
        let (mut read, mut written) = (start, start);
        while read < end {
            let id = self.ids[read];
            if id != left || read + 1 == end || self.ids[read + 1] != right {
                self.ids[written] = id;
                (read, written) = (read + 1, written + 1);
                continue;
            }
            if written > start {
                let before = self.ids[written - 1];
                self.less((before, left), count);
                self.more((before, made), count, n);
            }
            self.ids[written] = made;
            (read, written) = (read + 2, written + 1);
            if read < end {
                let behind = self.ids[read];
                self.less((right, behind), count);
                self.more((made, behind), count, n);
            }
        }
        self.words[n as usize].len = (written - start) as u32;
    }
}
