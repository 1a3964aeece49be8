//! Inverted dropout (N. Srivastava et al., 2014) whose mask is not stored: whether an element is kept is a pure function of a key, a position
//! in the stream of masks and the element's index, so forward, backward and a resumed run find the same mask, in pieces of any size.

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use crate::error::{RowsError, check_setting};
use crate::grid::TASK_ELEMENTS;
use crate::isa::{Isa, Kernel, run};
use crate::philox::philox;

/// Counters whose words are made together; element `i` of a group of 64 takes word `i / 16` of counter `i % 16`, so that a vector holds one
/// word of neighbouring counters and nothing is transposed.
const COUNTERS: usize = 16;
const GROUP: usize = 4 * COUNTERS;

/// A mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The stream's key.
    pub key: [u32; 2],
    /// Which mask of the stream: a number that no other layer and step of the run uses.
    pub position: u64,
    probability: f64,
}

impl Dropout {
    /// A mask that drops each element with a probability of 0 up to, but not, 1.
    pub fn new(key: [u32; 2], position: u64, probability: f64) -> Result<Self, RowsError> {
        check_setting("dropout", "probability", "0 up to, but not, 1", probability, (0.0..1.0).contains(&probability))?;
        Ok(Self { key, position, probability })
    }

    /// Probability of dropping an element.
    pub fn probability(&self) -> f64 {
        self.probability
    }

    /// Whether an element is kept: whether its random word is not below `probability * 2^32`.
    pub fn keeps(&self, element_idx: u64) -> bool {
        let within = element_idx % GROUP as u64;
        let counter = element_idx / GROUP as u64 * COUNTERS as u64 + within % COUNTERS as u64;
        let words = philox(self.counter(counter), self.key);
        words[(within / COUNTERS as u64) as usize] >= self.threshold()
    }

    /// Multiplies the kept ones of `values` by `1 / (1 - probability)` and sets the others to 0, where the first of `values` is element
    /// `first_element` of the tensor. It is both the forward pass on the input and the backward pass on the gradient.
    pub fn apply(&self, isa: Isa, first_element: u64, values: &mut [f32]) {
        values.par_chunks_mut(TASK_ELEMENTS).enumerate().for_each(|(task, values)| {
            let first_element = first_element.wrapping_add((task * TASK_ELEMENTS) as u64);
            run(isa, Apply { dropout: self, first_element, values });
        });
    }

    #[inline(always)]
    fn threshold(&self) -> u32 {
        (self.probability * 4_294_967_296.0) as u32
    }

    #[inline(always)]
    fn counter(&self, counter: u64) -> [u32; 4] {
        [counter as u32, (counter >> 32) as u32, self.position as u32, (self.position >> 32) as u32]
    }

    /// The random words of a group of elements.
    #[inline(always)]
    fn words(&self, group: u64) -> [u32; GROUP] {
        let first = self.counter(group.wrapping_mul(COUNTERS as u64));
        let mut words = [[0; COUNTERS]; 4];
        let [words0, words1, words2, words3] = &mut words;
        let rows = words0.iter_mut().zip(words1).zip(words2).zip(words3).zip(0_u32..);
        for ((((word0, word1), word2), word3), index) in rows {
            // The first counter of a group is a multiple of 16, so nothing carries.
            let counter = [first[0] | index, first[1], first[2], first[3]];
            [*word0, *word1, *word2, *word3] = philox(counter, self.key);
        }
        let mut flat = [0; GROUP];
        for (flat, words) in flat.chunks_exact_mut(COUNTERS).zip(&words) {
            flat.copy_from_slice(words);
        }
        flat
    }
}

struct Apply<'a> {
    dropout: &'a Dropout,
    first_element: u64,
    values: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let threshold = self.dropout.threshold();
        let scale = (1.0 / (1.0 - self.dropout.probability)) as f32;
        let offset = (self.first_element % GROUP as u64) as usize;
        let mut group = self.first_element / GROUP as u64;
        let n_head = if offset == 0 { 0 } else { self.values.len().min(GROUP - offset) };
        let (head, body) = self.values.split_at_mut(n_head);
        if n_head > 0 {
            mask(head, &self.dropout.words(group)[offset..], threshold, scale);
            group = group.wrapping_add(1);
        }
        let (groups, tail) = body.as_chunks_mut::<GROUP>();
        for values in groups {
            mask(values, &self.dropout.words(group), threshold, scale);
            group = group.wrapping_add(1);
        }
        if !tail.is_empty() {
            mask(tail, &self.dropout.words(group), threshold, scale);
        }
    }
}

/// Keeps the values whose word is not below the threshold.
#[inline(always)]
fn mask(values: &mut [f32], words: &[u32], threshold: u32, scale: f32) {
    for (value, &word) in values.iter_mut().zip(words) {
        *value = if word >= threshold { *value * scale } else { 0.0 };
    }
}
