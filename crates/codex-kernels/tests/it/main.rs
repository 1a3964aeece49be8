//! The kernels against formulas in f64, at odd sizes, on every path of this machine and at several numbers of threads.
#![expect(clippy::float_cmp, reason = "that bits are equal is what many of these tests are about")]

#[cfg(test)]
mod activation;
#[cfg(test)]
mod adamw;
#[cfg(test)]
mod attention;
#[cfg(test)]
mod attention_reference;
#[cfg(test)]
mod check;
mod columns;
#[cfg(test)]
mod convert;
#[cfg(test)]
mod cross_entropy;
#[cfg(test)]
mod dropout;
#[cfg(test)]
mod embedding;
#[cfg(test)]
mod exponential;
#[cfg(test)]
mod gemm;
mod halves;
#[cfg(test)]
mod lengths;
#[cfg(test)]
mod norm;
#[cfg(test)]
mod quantized;
