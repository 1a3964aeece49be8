//! `out = a * b` of f32 and bf16 matrices with sums in f32, and with what follows it (bias, residual, accumulation) folded in.
//!
//! The three products of a linear layer need no copy: `Y = X W`, `dX = dY W^T` and `dW = X^T dY` differ only in which
//! [`View`] is [`transposed`](View::transposed). The blocking is that of Goto and van de Geijn, "Anatomy of High-Performance
//! Matrix Multiplication" (2008), with one packed copy of `b` shared by all tasks.
//!
//! # Precision
//! Operands, residual and output may each be of f32 or of bf16; a [`Precision`] says how the terms are multiplied. With [`Precision::Bf16`]
//! both operands are rounded to bf16 while they are packed, and [`Isa::Avx512Bf16`](crate::Isa::Avx512Bf16) multiplies them in pairs: twice the
//! speed of f32. Its instructions take subnormal numbers as zero; the other paths keep them.
//!
//! # Same bits
//! An element of the product is, on one [`Isa`](crate::Isa) and with one [`Precision`], a function of its row of `a`, its column of `b` and `k` alone: its terms are added
//! in the order of `k`, within blocks whose length only `k` decides, and then block by block. So neither the number of threads,
//! nor the number of rows beside it, nor its place in the output changes a bit: a token decoded alone equals that token in a batch.

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod avx2;
mod elements;
mod matrix;
#[expect(unsafe_code, reason = "LLVM does not find the shuffles of a transposition")]
mod pack;
mod plan;
mod product;
mod thin;
mod tile;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod wide;

pub use elements::{Elements, ElementsMut, Precision};
pub use matrix::{Epilogue, GemmError, View, ViewMut};
pub use product::gemm;

pub(crate) use pack::Scratch;
pub(crate) use plan::{k_block, parts};
