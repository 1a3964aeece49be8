//! Times products with quantized matrices beside a plain read of as many bytes, and prints gigabytes per second of each.
//!
//! `quantized_bandwidth [INPUTS OUTPUTS MATRICES THREADS [PATH]]`: the matrices are used in turns, so that together they can exceed the caches.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people at a terminal")]
#![expect(clippy::disallowed_types, reason = "it measures time, and codex_core is out of reach")]

use std::hint::black_box;
use std::time::Instant;

use codex_kernels::Isa;
use codex_kernels::gemm::{Epilogue, Precision, View, ViewMut, gemm};
use codex_kernels::quantized::{QuantizedMatrix, multiply, multiply_transposed};
use rayon::prelude::*;

/// Turns of each measurement at least, and how long more are added; the fastest counts.
const ROUNDS: usize = 3;
const SECONDS: f64 = 0.4;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<usize> = arguments.iter().filter_map(|text| text.parse().ok()).collect();
    let &[inputs, outputs, n_matrices, threads] = numbers.first_chunk().unwrap_or(&[4096, 4096, 8, 2]);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    let values: Vec<f32> = (0..inputs * outputs).map(|i| (i * 7919 % 2003) as f32 / 1001.5 - 1.0).collect();
    let matrices: Vec<QuantizedMatrix> =
        (0..n_matrices).map(|_| QuantizedMatrix::quantize(Isa::detect(), &values, inputs, outputs).unwrap()).collect();
    let bytes = matrices[0].bytes();
    println!("{n_matrices} of {inputs} x {outputs}, {} MB each, {threads} threads", bytes / 1_000_000);

    let plain: Vec<Vec<u64>> = matrices.iter().map(|_| vec![1; bytes / 8]).collect();
    let read = best_seconds(&plain, |words| {
        let sum_of = |words: &[u64]| {
            let mut sums = [0_u64; 16];
            for words in words.as_chunks::<16>().0 {
                sums.iter_mut().zip(words).for_each(|(sum, word)| *sum ^= word);
            }
            sums.iter().sum::<u64>()
        };
        black_box(words.par_chunks(1 << 15).with_max_len(1).map(sum_of).max());
    });
    println!("{:<28} {:>7.1} GB/s", "plain read", bytes as f64 / read / 1e9);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available() && arguments.get(4).is_none_or(|name| name == isa.name())) {
        for rows in [1, 2, 4, 8, 16, 17, 32, 48, 64, 256] {
            let (x, mut out) = (vec![0.5; rows * inputs], vec![0.0; rows * outputs]);
            let seconds = best_seconds(&matrices, |matrix| multiply(isa, &x, matrix, None, &mut out).unwrap());
            show(&format!("{} {rows} rows", isa.name()), seconds, bytes, read);
            let seconds = best_seconds(&matrices[..1], |_| {
                let (x, w) = (View::new(&x, rows, inputs).unwrap(), View::new(&values, inputs, outputs).unwrap());
                gemm(isa, Precision::F32, x, w, ViewMut::new(&mut out, rows, outputs).unwrap(), Epilogue::store()).unwrap();
            });
            show("    in f32", seconds, bytes, read);
        }
        let (gradient, mut out) = (vec![0.5; 256 * outputs], vec![0.0; 256 * inputs]);
        let seconds = best_seconds(&matrices, |matrix| multiply_transposed(isa, &gradient, matrix, &mut out).unwrap());
        show(&format!("{} transposed 256 rows", isa.name()), seconds, bytes, read);
    }
}

fn show(what: &str, seconds: f64, bytes: usize, read: f64) {
    println!("{what:<28} {:>7.1} GB/s  {:>5.0} %  {:>9.1} us", bytes as f64 / seconds / 1e9, 100.0 * read / seconds, seconds * 1e6);
}

/// Seconds for one item, in the fastest of some rounds over all.
fn best_seconds<T>(items: &[T], mut work: impl FnMut(&T)) -> f64 {
    let (mut best, mut total, mut rounds) = (f64::INFINITY, 0.0, 0);
    while rounds < ROUNDS || total < SECONDS {
        let start = Instant::now();
        items.iter().for_each(&mut work);
        let seconds = start.elapsed().as_secs_f64();
        (best, total, rounds) = (best.min(seconds / items.len() as f64), total + seconds, rounds + 1);
    }
    best
}
