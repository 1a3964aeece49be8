//! Runs one kernel so many times on one thread: what `cargo xtask bench kernels` counts the instructions of.
//!
//! `kernel_counts` lists the kernels; `kernel_counts NAME N` runs one N times.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program that a benchmark runs")]

use std::hint::black_box;

use codex_kernels::Isa;
use codex_kernels::activation::{self, Activation};
use codex_kernels::adamw::{AdamWStep, ParameterState, sum_of_squares};
use codex_kernels::attention::{self, AttentionShape, RotaryTable};
use codex_kernels::cross_entropy::{LossSettings, Targets, loss_and_gradient};
use codex_kernels::embedding::{Lookup, gather, scatter_add};
use codex_kernels::gemm::{Epilogue, Precision, View, ViewMut, gemm};
use codex_kernels::norm::{Norm, NormGradient, NormKind, RowStatistic};
use codex_kernels::quantized::{QuantizedMatrix, multiply};

const ROWS: usize = 256;
const WIDTH: usize = 384;
const VOCAB: usize = 1024;

/// A kernel, ready to run again and again.
type Kernel = Box<dyn FnMut()>;

/// A name, and how the kernel is made ready.
type Named = (&'static str, fn() -> Kernel);

/// What can be counted.
const KERNELS: [Named; 18] = [
    ("product f32 256x384x384", || product(Precision::F32, ROWS, false, false)),
    ("product f32 256x384x384, right transposed", || product(Precision::F32, ROWS, false, true)),
    ("product f32 384x256x384, left transposed", || product(Precision::F32, WIDTH, true, false)),
    ("product bf16 256x384x384", || product(Precision::Bf16, ROWS, false, false)),
    ("product f32 1x384x384", || product(Precision::F32, 1, false, false)),
    ("product 8-bit 1x384x384", || quantized_product(1)),
    ("product 8-bit 8x384x384", || quantized_product(8)),
    ("attention 4 heads of 64, 256 positions", || attend(false)),
    ("attention gradient, the same", || attend(true)),
    ("attention, one position after 255", decode),
    ("norm 256x384", || norm(false)),
    ("norm gradient 256x384", || norm(true)),
    ("SwiGLU 256x384", || activate(false)),
    ("SwiGLU gradient 256x384", || activate(true)),
    ("loss and gradient 256x1024", loss),
    ("embedding 256 of 1024x384", || embed(false)),
    ("embedding gradient, the same", || embed(true)),
    ("AdamW and norm of 100,000", adamw),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, times] = arguments.as_slice() else {
        return KERNELS.iter().for_each(|(name, _)| println!("{name}"));
    };
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
    let (_, make) = KERNELS.iter().find(|(known, _)| known == name).unwrap();
    let mut kernel = make();
    for _ in 0..times.parse::<u32>().unwrap() {
        kernel();
    }
}

/// `n` numbers between -1 and 1.
fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7919 % 2003) as f32 / 1001.5 - 1.0).collect()
}

fn product(precision: Precision, rows: usize, left_transposed: bool, right_transposed: bool) -> Kernel {
    let inner = if left_transposed { ROWS } else { WIDTH };
    let (a, b, mut out) = (numbers(rows * inner), numbers(inner * WIDTH), vec![0.0; rows * WIDTH]);
    Box::new(move || {
        let a = if left_transposed { View::new(&a, inner, rows).unwrap().transposed() } else { View::new(&a, rows, inner).unwrap() };
        let b = if right_transposed { View::new(&b, WIDTH, inner).unwrap().transposed() } else { View::new(&b, inner, WIDTH).unwrap() };
        gemm(Isa::detect(), precision, a, b, ViewMut::new(&mut out, rows, WIDTH).unwrap(), Epilogue::store()).unwrap();
        black_box(&out);
    })
}

fn quantized_product(rows: usize) -> Kernel {
    let (x, mut out) = (numbers(rows * WIDTH), vec![0.0; rows * WIDTH]);
    let weights = QuantizedMatrix::quantize(Isa::detect(), &numbers(WIDTH * WIDTH), WIDTH, WIDTH).unwrap();
    Box::new(move || {
        multiply(Isa::detect(), &x, &weights, None, &mut out).unwrap();
        black_box(&out);
    })
}

const HEADS: AttentionShape = AttentionShape { batch: 1, time: ROWS, n_heads: 4, n_kv_heads: 4, head_dim: 64, window: 0 };

fn attend(with_gradient: bool) -> Kernel {
    let (n, width) = (ROWS * 3 * 256, 256);
    let (qkv, gradient) = (numbers(n), numbers(ROWS * width));
    let rotary = RotaryTable::new(0, ROWS, 64, 1e4).unwrap();
    let (mut out, mut sums, mut of_qkv) = (vec![0.0; ROWS * width], vec![0.0; ROWS * 4], vec![0.0; n]);
    attention::forward(Isa::detect(), &HEADS, &qkv, Some(&rotary), None, &mut out, &mut sums).unwrap();
    Box::new(move || {
        let isa = Isa::detect();
        if with_gradient {
            attention::backward(isa, &HEADS, &qkv, Some(&rotary), None, &out, &sums, &gradient, &mut of_qkv).unwrap();
        } else {
            attention::forward(isa, &HEADS, &qkv, Some(&rotary), None, &mut out, &mut sums).unwrap();
        }
        black_box((&out, &of_qkv));
    })
}

fn decode() -> Kernel {
    let (query, cache, mut out) = (numbers(256), numbers(ROWS * 256), vec![0.0; 256]);
    Box::new(move || {
        attention::decode(Isa::detect(), &HEADS, &query, &cache, &cache, &mut out).unwrap();
        black_box(&out);
    })
}

fn norm(with_gradient: bool) -> Kernel {
    let (x, weight) = (numbers(ROWS * WIDTH), numbers(WIDTH));
    let (mut out, mut statistics) = (vec![0.0_f32; ROWS * WIDTH], vec![RowStatistic::default(); ROWS]);
    let (gradient, mut of_weight) = (numbers(ROWS * WIDTH), vec![0.0; WIDTH]);
    Box::new(move || {
        let norm = Norm { kind: NormKind::Rms, weight: &weight, bias: None, epsilon: 1e-5 };
        if with_gradient {
            let parameters = NormGradient { weight: &mut of_weight, bias: None };
            norm.backward(Isa::detect(), &x, &statistics, &gradient, &mut out, parameters).unwrap();
        } else {
            norm.forward(Isa::detect(), &x, &mut out, &mut statistics).unwrap();
        }
        black_box(&out);
    })
}

fn activate(with_gradient: bool) -> Kernel {
    let (mut pre, mut out) = (numbers(ROWS * 2 * WIDTH), numbers(ROWS * WIDTH));
    Box::new(move || {
        if with_gradient {
            activation::backward(Isa::detect(), Activation::Swiglu, WIDTH, &mut pre, &mut out).unwrap();
        } else {
            activation::forward(Isa::detect(), Activation::Swiglu, WIDTH, &pre, &mut out).unwrap();
        }
        black_box((&pre, &out));
    })
}

fn ids() -> Vec<u32> {
    (0..ROWS).map(|i| (i * 37 % VOCAB) as u32).collect()
}

fn loss() -> Kernel {
    let (mut scores, ids, weights) = (numbers(ROWS * VOCAB), ids(), vec![1.0; ROWS]);
    Box::new(move || {
        let targets = Targets { ids: &ids, weights: &weights };
        black_box(loss_and_gradient(Isa::detect(), &mut scores, VOCAB, targets, LossSettings::default()).unwrap());
    })
}

fn embed(with_gradient: bool) -> Kernel {
    let (mut table, mut rows, ids) = (numbers(VOCAB * WIDTH), numbers(ROWS * WIDTH), ids());
    Box::new(move || {
        if with_gradient {
            scatter_add(Isa::detect(), WIDTH, &ids, &rows, &mut table).unwrap();
        } else {
            gather(Isa::detect(), WIDTH, Lookup { table: &table, ids: &ids }, None, &mut rows).unwrap();
        }
        black_box((&table, &rows));
    })
}

fn adamw() -> Kernel {
    const N: usize = 100_000;
    let (mut parameter, mut first, mut second, gradient) = (numbers(N), vec![0.0; N], vec![0.0; N], numbers(N));
    let step = AdamWStep {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        correction1: 0.1,
        correction2: 0.05,
        gradient_scale: 1.0,
    };
    Box::new(move || {
        black_box(sum_of_squares(Isa::detect(), &gradient));
        let state = ParameterState { parameter: &mut parameter, first_moment: &mut first, second_moment: &mut second };
        step.update(Isa::detect(), state, &gradient).unwrap();
        black_box(&parameter);
    })
}
