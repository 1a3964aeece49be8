//! The sizes of a call, and their check.

use crate::attention::error::{AttentionError, check_length};
use crate::attention::rotary::RotaryTable;

/// Sizes of one attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Sequences.
    pub batch: usize,
    /// Positions of each sequence; when decoding, positions in the cache, the new one with them.
    pub time: usize,
    /// Query heads, a multiple of `n_kv_heads`: query head `h` uses key head `h / (n_heads / n_kv_heads)`.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// How many positions a query sees, its own with them; 0 for all.
    pub window: usize,
}

/// Lengths that a checked shape has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    pub(crate) qkv: usize,
    pub(crate) out: usize,
    pub(crate) keys: usize,
    pub(crate) log_sum_exp: usize,
    pub(crate) positions: usize,
}

impl AttentionShape {
    /// Query heads to one key head.
    pub(crate) fn group(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    /// Width of the queries, and of the output, in one row.
    pub(crate) fn q_width(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Width of the keys, and of the values, in one row.
    pub(crate) fn kv_width(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Width of a row of the fused buffer.
    pub(crate) fn qkv_width(&self) -> usize {
        self.q_width() + 2 * self.kv_width()
    }

    /// What turns a product of query and key into a score.
    pub(crate) fn score_scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// Checks the numbers themselves: after it no product of them overflows.
    pub(crate) fn lengths(&self) -> Result<Lengths, AttentionError> {
        if self.head_dim == 0 {
            return Err(AttentionError::NoHeadDim);
        }
        if self.n_heads == 0 || self.n_kv_heads == 0 || !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return Err(AttentionError::Heads { n_heads: self.n_heads, n_kv_heads: self.n_kv_heads });
        }
        self.products().ok_or(AttentionError::TooLarge)
    }

    fn products(&self) -> Option<Lengths> {
        // Positions are compared as `u32` inside a tile, and rounding up to whole tiles must not overflow either.
        let too_long = self.time > (u32::MAX / 2) as usize || self.head_dim > (u32::MAX / 2) as usize;
        let positions = self.batch.checked_mul(self.time)?;
        let heads = self.n_kv_heads.checked_mul(2)?.checked_add(self.n_heads)?;
        let qkv = positions.checked_mul(heads.checked_mul(self.head_dim)?)?;
        (!too_long).then_some(Lengths {
            qkv,
            out: positions * self.q_width(),
            keys: positions * self.kv_width(),
            log_sum_exp: positions * self.n_heads,
            positions,
        })
    }

    /// Checks what forward and backward share.
    pub(crate) fn check_inputs<T>(
        &self,
        qkv: &[T],
        rope: Option<&RotaryTable>,
        segments: Option<&[u32]>,
    ) -> Result<Lengths, AttentionError> {
        let lengths = self.lengths()?;
        check_length("qkv", lengths.qkv, qkv.len())?;
        if let Some(segments) = segments {
            check_length("segments", lengths.positions, segments.len())?;
        }
        if let Some(rope) = rope {
            rope.check(self.time, self.head_dim)?;
        }
        Ok(lengths)
    }
}
