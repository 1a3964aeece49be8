//! What a caller can get wrong.

/// A call that was refused before any output was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttentionError {
    /// A head has no dimensions.
    #[error("`head_dim` is 0")]
    NoHeadDim,
    /// The query heads do not form equal groups, one for each key head.
    #[error("`n_heads` is {n_heads}, which is not a positive multiple of `n_kv_heads`, {n_kv_heads}")]
    Heads {
        /// Query heads.
        n_heads: usize,
        /// Key and value heads.
        n_kv_heads: usize,
    },
    /// Rotary positions turn dimensions in pairs.
    #[error("rotary positions need an even `head_dim`, found {head_dim}")]
    OddHeadDim {
        /// Width of a head.
        head_dim: usize,
    },
    /// The rotary table was made for heads of another width.
    #[error("the rotary table is for `head_dim` {found}, the heads have {expected}")]
    RotaryHeadDim {
        /// Width of the heads.
        expected: usize,
        /// Width that the table serves.
        found: usize,
    },
    /// The rotary table ends before the sequence does.
    #[error("the rotary table has {found} positions, {expected} are needed")]
    RotaryPositions {
        /// Positions needed.
        expected: usize,
        /// Positions in the table.
        found: usize,
    },
    /// A buffer is not as long as the shape says.
    #[error("`{buffer}` has {found} elements, expected {expected}")]
    Length {
        /// Name of the argument.
        buffer: &'static str,
        /// Elements that the shape asks for.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// A decoding step has no position to attend to.
    #[error("`time` is 0: a decoding step needs at least its own position in the cache")]
    NoPositions,
    /// The sizes multiply to more than an index can hold.
    #[error("the shape has more elements than can be indexed")]
    TooLarge,
}

/// Checks one buffer's length.
pub(crate) fn check_length(buffer: &'static str, expected: usize, found: usize) -> Result<(), AttentionError> {
    if expected == found { Ok(()) } else { Err(AttentionError::Length { buffer, expected, found }) }
}
