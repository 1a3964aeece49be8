//! Fused operations of a decoder-only language model on burn tensors.
//!
//! Each is a function of tensors that takes part in burn's differentiation. On the Flex backend, which is the processor, it runs
//! [codex_kernels] with a backward pass of its own and keeps no more for it than that needs; on every other backend it is made of burn's
//! operations ([`composite`]), which is also what it is tested against. Nothing here chooses a device, draws a number or reads a file.
//!
//! Like burn's own operations these panic where shapes do not fit: a caller checks what it lets in.

pub mod linear;
pub mod quantized;
pub mod adapter;
pub mod norm;
pub mod attention;
pub mod cached;
pub mod activation;
pub mod feed_forward;
pub mod dropout;
pub mod embedding;
pub mod head;
pub mod adamw;
pub mod optimizers;

pub mod composite;
pub mod profile;

mod flex;
mod products;

pub use activation::activate;
pub use adapter::{Adapter, adapt};
pub use attention::{AttentionPlan, attention};
pub use cached::{CachedPlan, KeysValues, Span, attention_cached};
pub use dropout::{Mask, Residual, dropout};
pub use embedding::embedding;
pub use feed_forward::feed_forward;
pub use flex::{SharedMemory, composite_only, shared_memory};
pub use head::{HeadWeight, head_loss};
pub use linear::{Affine, linear};
pub use norm::norm;
pub use quantized::{QuantizedWeight, linear_quantized};

pub use codex_kernels::activation::Activation;
pub use codex_kernels::cross_entropy::LossSettings;
pub use codex_kernels::dropout::Dropout;
pub use codex_kernels::gemm::Precision;
pub use codex_kernels::norm::NormKind;
