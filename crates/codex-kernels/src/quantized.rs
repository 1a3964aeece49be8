//! Weights in 8 bits: a quarter of the memory of f32 and of what a token that is decoded alone has to read, with inputs and sums in f32.
//!
//! The numbers are those of GGUF's Q8_0 (`quantize_row_q8_0_ref` of ggml): 32 neighbours along the summed dimension share a scale, the largest
//! magnitude among them divided by 127 and rounded to f16, and each is the nearest multiple of the scale before that rounding.
//!
//! # Same bits
//! A product has, on one [`Isa`](crate::Isa), the bits of [`gemm`](crate::gemm::gemm) on the [dequantized](QuantizedMatrix::dequantize) matrix: eight
//! bits times the eleven of a scale are exact in f32, and the terms are added in the order of that product. So neither the number of threads
//! nor the rows beside a row change it.

mod error;
mod lanes;
mod matrix;
mod product;
mod thin;

pub use error::QuantizedError;
pub use matrix::QuantizedMatrix;
pub use product::{multiply, multiply_transposed};
