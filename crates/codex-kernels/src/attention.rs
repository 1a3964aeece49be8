//! Fused causal self-attention in f32 on the processor: forward, backward and one decoding step.
//!
//! The scores exist one tile at a time and only the output and the log-sum-exp of each row are kept for the backward pass, which computes them
//! again. References: T. Dao et al., "FlashAttention" (2022); T. Dao, "FlashAttention-2" (2023).
//!
//! Results are the same bits at any number of threads: the grid of tasks depends on the shape only, and each element is computed in one task in
//! one order. A score that is not finite makes its row not finite, as in the composite of separate operations.

mod backward;
mod decode;
mod error;
mod exp;
mod forward;
mod rotary;
mod scratch;
mod shape;
mod source;
mod tile;
mod visible;

pub use backward::backward;
pub use decode::decode;
pub use error::AttentionError;
pub use forward::{forward, forward_from};
pub use rotary::RotaryTable;
pub use shape::AttentionShape;
