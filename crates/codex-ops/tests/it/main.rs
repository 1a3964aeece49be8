//! Each operation on the processor's kernels against the same made of burn's operations on another backend: outputs, gradients, threads.

#![expect(clippy::unwrap_used, reason = "a test's setup fails loudly")]

mod adamw;
mod optimizers;
mod harness;
mod operations;
