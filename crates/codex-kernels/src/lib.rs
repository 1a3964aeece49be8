//! Fused operations of a language model in f32 on the processor: products, attention, normalisation, activations, loss, AdamW, embedding, dropout.
//!
//! Each works on plain slices, checks every length at its entry and returns a typed error where one does not fit. Work is cut into tasks whose size
//! follows from the shapes alone, each number is reduced inside one task in a fixed order, and partial sums are added in task order: the result has the
//! same bits at any number of threads on one [`Isa`]. It knows no tensor, no model and no file.

pub mod gemm;
pub mod quantized;
pub mod attention;

pub mod norm;
pub mod columns;
pub mod activation;
pub mod cross_entropy;
pub mod embedding;
pub mod dropout;
pub mod adamw;
pub mod first_order;
pub mod adafactor;

pub mod exponential;
pub mod convert;
pub mod element;
#[expect(unsafe_code, reason = "memory that is not filled before it is written")]
pub mod buffer;
#[expect(unsafe_code, reason = "an allocator")]
pub mod pool;

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[expect(unsafe_code, reason = "LLVM takes the sums of a tile apart, and mixes the widening of integers with sums that follow it")]
#[expect(clippy::unused_self, reason = "a token is a proof, not data")]
mod avx2;
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[expect(unsafe_code, reason = "LLVM makes neither these tiles nor bf16 instructions from arrays")]
#[expect(clippy::unused_self, reason = "a token is a proof, not data")]
mod avx512;
mod awake;
mod error;
mod grid;
#[expect(unsafe_code, reason = "a function compiled for more instructions is called once the processor is known to have them")]
mod isa;
mod lanes;
mod philox;

pub use awake::Awake;
pub use error::RowsError;
pub use half::bf16;
pub use isa::Isa;
