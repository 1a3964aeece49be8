//! What attention keeps of a sequence that is read piece by piece.

use codex_ops::{KeysValues, Precision};

/// What attention has seen of one sequence.
#[derive(Clone, Debug)]
pub struct KvCache {
    pub(crate) layers: Vec<KeysValues>,
    pub(crate) len: usize,
    pub(crate) storage: Precision,
}

impl KvCache {
    /// An empty cache whose numbers are stored as f32, or in half the memory as bf16.
    pub fn new(storage: crate::config::Precision) -> Self {
        Self { layers: Vec::new(), len: 0, storage: storage.into() }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.layers.clear();
        self.len = 0;
    }

    /// Forgets all positions but the first `len`; does nothing where it holds no more.
    pub fn truncate(&mut self, len: usize) {
        if len == 0 {
            self.clear();
        } else if len < self.len {
            self.layers.iter_mut().for_each(|layer| layer.truncate(len));
            self.len = len;
        }
    }

    /// How many positions it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
