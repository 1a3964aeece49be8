//! A sequence being read by a model, one piece after another: with a key/value cache, or by the full forward pass each time.

use std::fmt::Debug;

use crate::cache::KvCache;
use crate::config::Precision;
use crate::error::ModelError;
use crate::network::{Decoder, WindowBatch};
use crate::parameters::to_host;

/// Something that has read some tokens and can say what may come next.
pub trait Session: Debug {
    /// Reads `ids` after all it has read before and returns the scores of the next token, `[vocab_size]`.
    fn feed(&mut self, ids: &[u32]) -> Result<Vec<f32>, ModelError>;

    /// Reads a text from its beginning, whatever was read before, and returns the scores of the next token, `[vocab_size]`.
    fn begin(&mut self, ids: &[u32]) -> Result<Vec<f32>, ModelError> {
        self.reset();
        self.feed(ids)
    }

    /// How many positions it has read since the last reset.
    fn len(&self) -> usize;

    /// Whether it has read nothing since the last reset.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything.
    fn reset(&mut self);

    /// Most positions it can hold.
    fn context_length(&self) -> usize;
}

/// Reads with a key/value cache: each token is computed once.
///
/// A text that [begins](Session::begin) as the one before it did is not read again so far: its scores have the bits that a new session gives. What
/// was generated after a text is read again when it comes back as a part of the next one, for one token alone is rounded otherwise than several.
#[derive(Debug)]
pub struct CachedSession<'m> {
    model: &'m Decoder,
    cache: KvCache,
    /// The text it began with, which is the beginning of what the cache holds.
    text: Vec<u32>,
    n_reused: usize,
}

impl<'m> CachedSession<'m> {
    /// A session that has read nothing.
    pub fn new(model: &'m Decoder) -> Self {
        Self::with_cache(model, Precision::F32)
    }

    /// The same, with keys and values stored in this precision.
    pub fn with_cache(model: &'m Decoder, storage: Precision) -> Self {
        Self { model, cache: KvCache::new(storage), text: Vec::new(), n_reused: 0 }
    }

    /// How many positions the last text had in common with the one before it and were not read again.
    pub fn n_reused(&self) -> usize {
        self.n_reused
    }

    /// How much of the cache a new text can go on from.
    fn reusable(&self, ids: &[u32]) -> usize {
        let same = self.text.iter().zip(ids).take_while(|(a, b)| a == b).count();
        // Two tokens at least are read: one alone would be read as a generated one is.
        let same = same.min(ids.len().saturating_sub(2));
        if self.model.turns_alike(self.text.len(), ids.len()) { same } else { 0 }
    }
}

impl Session for CachedSession<'_> {
    fn feed(&mut self, ids: &[u32]) -> Result<Vec<f32>, ModelError> {
        Ok(to_host("scores", self.model.forward_cached(ids, &mut self.cache)?)?.values.into_vec())
    }

    fn begin(&mut self, ids: &[u32]) -> Result<Vec<f32>, ModelError> {
        self.n_reused = self.reusable(ids);
        self.cache.truncate(self.n_reused);
        self.text.clear();
        let scores = self.feed(&ids[self.n_reused..]);
        match scores {
            Ok(_) => self.text.extend_from_slice(ids),
            Err(_) => self.reset(),
        }
        scores
    }

    fn len(&self) -> usize {
        self.cache.len()
    }

    fn reset(&mut self) {
        self.cache.clear();
        self.text.clear();
        self.n_reused = 0;
    }

    fn context_length(&self) -> usize {
        self.model.config().context_length
    }
}

/// Reads by running the whole sequence through the model each time: slow, and what the cache is compared with.
#[derive(Debug)]
pub struct FullSession<'m> {
    model: &'m Decoder,
    read: Vec<u32>,
}

impl<'m> FullSession<'m> {
    /// A session that has read nothing.
    pub fn new(model: &'m Decoder) -> Self {
        Self { model, read: Vec::new() }
    }
}

impl Session for FullSession<'_> {
    fn feed(&mut self, ids: &[u32]) -> Result<Vec<f32>, ModelError> {
        let read = [self.read.as_slice(), ids].concat();
        let logits = self.model.forward(&WindowBatch { n_rows: 1, inputs: &read, segments: None, dropout: None })?;
        self.read = read;
        let [time, vocab_size] = logits.dims();
        Ok(to_host("scores", logits.slice([time - 1..time, 0..vocab_size]))?.values.into_vec())
    }

    fn len(&self) -> usize {
        self.read.len()
    }

    fn reset(&mut self) {
        self.read.clear();
    }

    fn context_length(&self) -> usize {
        self.model.config().context_length
    }
}
