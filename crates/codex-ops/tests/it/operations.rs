//! Outputs and gradients of the differentiable operations.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use codex_kernels::attention::{AttentionShape, RotaryTable};
use codex_ops::embedding::Positions;
use codex_ops::{
    Activation, Adapter, Affine, AttentionPlan, CachedPlan, Dropout, HeadWeight, LossSettings, Mask, NormKind, Precision, QuantizedWeight,
    Residual, Span, activate, adapt, attention, attention_cached, composite_only, dropout, embedding, feed_forward, head::token_scores,
    head_loss, linear, linear_quantized, norm,
};

use crate::harness::{Found, Leaf, assert_agree, at_any_threads, differentiate, leaf, reference};

/// Rounding of f32, and of bf16: a difference beside the root mean square of a tensor.
const F32: f32 = 1e-5;
const BF16: f32 = 4e-2;

/// Runs a case on kernels in both precisions, at any number of threads, and on the composite.
fn check(what: &str, case: impl Fn(Precision, &Device) -> Found + Sync) {
    let expected = case(Precision::F32, &reference().autodiff());
    // The same of burn's operations on the kernels' own backend: a second opinion about both.
    let on_flex = composite_only(|| case(Precision::F32, &Device::flex().autodiff()));
    assert_agree(&format!("{what}, composite on flex"), &on_flex, &expected, F32);
    for (precision, tolerance) in [(Precision::F32, F32), (Precision::Bf16, BF16)] {
        let found = at_any_threads(what, || case(precision, &Device::flex().autodiff()));
        assert_agree(&format!("{what}, {precision:?}"), &found, &expected, tolerance);
    }
    // Without a graph the output is the same to the bit.
    let plain = at_any_threads(what, || case(Precision::F32, &Device::flex().autodiff()));
    assert_agree(what, &plain, &expected, F32);
}

fn affine(seed: u64, inputs: usize, outputs: usize, bias: bool, device: &Device) -> (Affine, Vec<(&'static str, Leaf)>) {
    let weight = leaf(seed, [inputs, outputs], device);
    let bias = bias.then(|| leaf(seed + 1, [outputs], device));
    let mut leaves = vec![("weight", Leaf::Matrix(weight.clone()))];
    leaves.extend(bias.clone().map(|bias| ("bias", Leaf::Vector(bias))));
    (Affine { weight, bias }, leaves)
}

#[test]
fn linear_layers_agree() {
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 5, 7), (17, 33, 9), (64, 48, 96)] {
        for (bias, with_residual) in [(false, false), (true, false), (true, true), (false, true)] {
            check(&format!("linear {rows} x {inputs} x {outputs}"), |precision, device| {
                let x = leaf(1, [rows, inputs], device);
                let residual = with_residual.then(|| leaf(2, [rows, outputs], device));
                let (affine, mut leaves) = affine(3, inputs, outputs, bias, device);
                leaves.push(("x", Leaf::Matrix(x.clone())));
                leaves.extend(residual.clone().map(|residual| ("residual", Leaf::Matrix(residual))));
                differentiate(&linear(precision, x, affine, residual.map(Residual::from)), &leaves)
            });
        }
    }
}

#[test]
fn norms_agree() {
    for (rows, width) in [(1, 3), (3, 5), (40, 33), (70, 64)] {
        for kind in [NormKind::Rms, NormKind::Layer] {
            check(&format!("norm {kind:?} {rows} x {width}"), |precision, device| {
                let (x, weight) = (leaf(1, [rows, width], device), leaf(2, [width], device));
                let bias = (kind == NormKind::Layer).then(|| leaf(3, [width], device));
                let mut leaves = vec![("x", Leaf::Matrix(x.clone())), ("weight", Leaf::Vector(weight.clone()))];
                leaves.extend(bias.clone().map(|bias| ("bias", Leaf::Vector(bias))));
                differentiate(&norm(precision, kind, x, weight, bias, 1e-2), &leaves)
            });
        }
    }
}

#[test]
fn feed_forward_layers_agree() {
    for activation in [Activation::Swiglu, Activation::Gelu, Activation::GeluTanh] {
        for (rows, width, inner, bias) in [(1, 3, 5, true), (19, 16, 40, false), (33, 24, 17, true)] {
            check(&format!("{activation:?} {rows} x {width} x {inner}"), |precision, device| {
                let (x, residual) = (leaf(1, [rows, width], device), leaf(2, [rows, width], device));
                let (up, mut leaves) = affine(3, width, activation.widened(inner), bias, device);
                let (down, more) = affine(5, inner, width, bias, device);
                leaves.extend(more);
                leaves.extend([("x", Leaf::Matrix(x.clone())), ("residual", Leaf::Matrix(residual.clone()))]);
                differentiate(&feed_forward(precision, activation, x, up, down, residual.into()), &leaves)
            });
        }
    }
}

/// A mask that does not begin with its first element.
fn mask() -> Mask {
    Mask { dropout: Dropout::new([3, 5], 7, 0.3).unwrap(), first_element: 1001 }
}

#[test]
fn masked_layers_agree() {
    for (rows, width) in [(2, 3), (5, 7), (33, 48)] {
        check(&format!("dropout {rows} x {width}"), |precision, device| {
            let x = leaf(1, [rows, width], device);
            // A product brings the input into the precision's storage.
            let input = linear(precision, x.clone(), Affine { weight: Tensor::eye(width, device), bias: None }, None);
            differentiate(&dropout(input, mask()), &[("x", Leaf::Matrix(x))])
        });
        check(&format!("masked linear {rows} x {width}"), |precision, device| {
            let (x, stream) = (leaf(1, [rows, width], device), leaf(2, [rows, 9], device));
            let (affine, mut leaves) = affine(3, width, 9, true, device);
            leaves.extend([("x", Leaf::Matrix(x.clone())), ("stream", Leaf::Matrix(stream.clone()))]);
            differentiate(&linear(precision, x, affine, Some(Residual { stream, mask: Some(mask()) })), &leaves)
        });
        check(&format!("masked feed-forward {rows} x {width}"), |precision, device| {
            let (x, stream) = (leaf(1, [rows, width], device), leaf(2, [rows, width], device));
            let (up, mut leaves) = affine(3, width, 22, true, device);
            let (down, more) = affine(5, 11, width, true, device);
            leaves.extend(more);
            leaves.extend([("x", Leaf::Matrix(x.clone())), ("stream", Leaf::Matrix(stream.clone()))]);
            differentiate(&feed_forward(precision, Activation::Swiglu, x, up, down, Residual { stream, mask: Some(mask()) }), &leaves)
        });
    }
}

#[test]
fn masks_of_parts_are_the_parts_of_the_mask() {
    let device = Device::flex();
    let x: Tensor<2> = Tensor::ones([40, 6], &device);
    let whole = crate::harness::values(dropout(x.clone(), mask()));
    let part = Mask { first_element: mask().first_element + 25 * 6, ..mask() };
    assert_eq!(crate::harness::values(dropout(x.slice([25..40, 0..6]), part)), whole[25 * 6..]);
}

#[test]
fn layers_with_8_bit_weights_agree() {
    // More rows than are multiplied directly, and fewer; the composite multiplies by the same numbers in f32.
    for (rows, inputs, outputs) in [(2, 3, 5), (40, 70, 33)] {
        let weight = QuantizedWeight::new(&crate::harness::numbers(5, inputs * outputs), inputs, outputs).unwrap();
        for mask in [None, Some(mask())] {
            check(&format!("8-bit linear {rows} x {inputs} x {outputs}"), |precision, device| {
                let (x, stream) = (leaf(1, [rows, inputs], device), leaf(2, [rows, outputs], device));
                let bias = leaf(3, [outputs], device);
                let leaves =
                    [("x", Leaf::Matrix(x.clone())), ("stream", Leaf::Matrix(stream.clone())), ("bias", Leaf::Vector(bias.clone()))];
                // A product brings the input into the precision's storage.
                let input = linear(precision, x, Affine { weight: Tensor::eye(inputs, device), bias: None }, None);
                differentiate(&linear_quantized(precision, input, &weight, Some(bias), Some(Residual { stream, mask })), &leaves)
            });
        }
        let head = |device: &Device| {
            let x: Tensor<2> = leaf(1, [rows, inputs], device);
            let ids: Vec<u32> = (0..rows as u32).map(|row| row * 7 % outputs as u32).collect();
            let scores = token_scores(Precision::F32, x, HeadWeight::Quantized(weight.clone()), &ids).unwrap();
            vec![("losses", scores.iter().map(|(loss, _)| *loss).collect::<Vec<f32>>())]
        };
        assert_agree("8-bit head", &head(&Device::flex()), &head(&reference()), F32);
    }
    assert!(QuantizedWeight::new(&[f32::NAN], 1, 1).is_err());
}

#[test]
fn activations_by_themselves_agree() {
    for activation in [Activation::Swiglu, Activation::Gelu, Activation::GeluTanh] {
        for (rows, inner) in [(1, 1), (7, 33)] {
            check(&format!("{activation:?} {rows} x {inner}"), |precision, device| {
                let x = leaf(1, [rows, activation.widened(inner)], device);
                let identity = Affine { weight: Tensor::eye(activation.widened(inner), device), bias: None };
                differentiate(&activate(activation, linear(precision, x.clone(), identity, None)), &[("x", Leaf::Matrix(x))])
            });
        }
    }
}

#[test]
fn adapters_agree() {
    for (rows, inputs, rank, outputs, columns) in [(1, 1, 1, 1, 0..1), (5, 7, 2, 9, 3..7), (33, 16, 4, 48, 32..48)] {
        for mask in [None, Some(mask())] {
            for with_residual in [false, true] {
                check(&format!("adapter {rows} x {inputs} x {rank} x {outputs}, {columns:?}"), |precision, device| {
                    let (x, a) = (leaf(1, [rows, inputs], device), leaf(2, [inputs, rank], device));
                    let b = leaf(3, [rank, columns.len()], device);
                    let stream = leaf(4, [rows, outputs], device);
                    let (affine, mut leaves) = affine(5, inputs, outputs, true, device);
                    let residual = with_residual.then(|| Residual::from(stream.clone()));
                    let y = linear(precision, x.clone(), affine, residual);
                    leaves.extend([("x", Leaf::Matrix(x.clone())), ("a", Leaf::Matrix(a.clone())), ("b", Leaf::Matrix(b.clone()))]);
                    let adapter = Adapter { a, b, scale: 1.7, columns: columns.clone(), mask };
                    differentiate(&adapt(precision, y, x, adapter), &leaves)
                });
            }
        }
    }
}

#[test]
fn an_adapter_leaves_memory_that_somebody_else_holds_alone() {
    let device = Device::flex();
    let (y, x): (Tensor<2>, Tensor<2>) = (leaf(1, [3, 4], &device), leaf(2, [3, 2], &device));
    let (kept, before) = (y.clone(), crate::harness::values(y.clone()));
    let adapter = Adapter { a: leaf(3, [2, 1], &device), b: leaf(4, [1, 2], &device), scale: 1.0, columns: 1..3, mask: None };
    let adapted = crate::harness::values(adapt(Precision::F32, y, x, adapter));
    assert_eq!(crate::harness::values(kept), before);
    let same = |column: usize| (0..3).all(|row| adapted[row * 4 + column].to_bits() == before[row * 4 + column].to_bits());
    assert_eq!([same(0), same(1), same(2), same(3)], [true, false, false, true]);
}

#[test]
fn attention_agrees() {
    let shapes = [(1, 1, 1, 1, 2, 0), (2, 7, 2, 1, 6, 0), (1, 40, 4, 2, 8, 5), (3, 19, 3, 3, 10, 0), (1, 70, 2, 2, 16, 33)];
    for (batch, time, n_heads, n_kv_heads, head_dim, window) in shapes {
        let shape = AttentionShape { batch, time, n_heads, n_kv_heads, head_dim, window };
        let documents: Vec<u32> = (0..batch * time).map(|position| (position % time / 6) as u32).collect();
        for segments in [None, Some(&documents[..])] {
            for rotary in [None, Some(Arc::new(RotaryTable::new(0, time, head_dim, 1e4).unwrap()))] {
                check(&format!("{shape:?}"), |precision, device| {
                    let qkv = leaf(1, [batch * time, (n_heads + 2 * n_kv_heads) * head_dim], device);
                    let plan = AttentionPlan::new(shape, rotary.clone(), segments);
                    // A product with the identity brings the input into the precision's storage.
                    let identity = Tensor::eye(qkv.dims()[1], device);
                    let input = linear(precision, qkv.clone(), Affine { weight: identity, bias: None }, None);
                    differentiate(&attention(input, &plan), &[("qkv", Leaf::Matrix(qkv))])
                });
            }
        }
    }
}

#[test]
fn embeddings_agree() {
    let ids = [3, 0, 3, 4, 3, 1];
    let position_ids = [0, 1, 2, 0, 1, 2];
    for with_positions in [false, true] {
        check("embedding", |_, device| {
            let (table, positions) = (leaf(1, [5, 7], device), leaf(2, [4, 7], device));
            let mut leaves = vec![("table", Leaf::Matrix(table.clone()))];
            let lookup = with_positions.then(|| {
                leaves.push(("positions", Leaf::Matrix(positions.clone())));
                Positions { table: positions.clone(), ids: &position_ids }
            });
            differentiate(&embedding(table, &ids, lookup), &leaves)
        });
    }
}

#[test]
fn losses_agree() {
    // More rows than one chunk has.
    for (rows, width, vocab_size) in [(1, 3, 2), (9, 5, 17), (1100, 8, 31)] {
        let ids: Vec<u32> = (0..rows).map(|row| (row * 7 % vocab_size) as u32).collect();
        let weights: Vec<f32> = (0..rows).map(|row| [1.0, 0.0, 0.5][row % 3]).collect();
        for settings in [LossSettings::default(), LossSettings { label_smoothing: 0.1, z_loss: 1e-2 }] {
            for is_tied in [false, true] {
                check(&format!("loss of {rows} x {width} x {vocab_size}"), |precision, device| {
                    let x = leaf(1, [rows, width], device);
                    let weight = leaf(2, if is_tied { [vocab_size, width] } else { [width, vocab_size] }, device);
                    let leaves = [("x", Leaf::Matrix(x.clone())), ("weight", Leaf::Matrix(weight.clone()))];
                    let weight = if is_tied { HeadWeight::Tied(weight) } else { HeadWeight::Own(weight) };
                    differentiate(&head_loss(precision, x, weight, &ids, &weights, settings), &leaves)
                });
            }
        }
    }
}

#[test]
fn a_graph_changes_no_bit_of_the_output() {
    let run = |device: &Device| {
        let (up, _) = affine(3, 16, 40, true, device);
        let (down, _) = affine(5, 20, 16, true, device);
        let x = norm(Precision::F32, NormKind::Rms, leaf(1, [33, 16], device), leaf(2, [16], device), None, 1e-5);
        crate::harness::values(feed_forward(Precision::F32, Activation::Swiglu, x, up, down, leaf::<2>(7, [33, 16], device).into()))
    };
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(run(&Device::flex())), bits(run(&Device::flex().autodiff())));
}

#[test]
fn a_view_with_gaps_is_read_as_what_it_shows() {
    // A column range of a wider matrix, and a transpose: neither starts at the beginning of its memory nor lies without gaps.
    let device = Device::flex();
    let wide: Tensor<2> = leaf(1, [9, 20], &device);
    let weight: Tensor<2> = leaf(2, [5, 8], &device).transpose();
    let part = wide.clone().slice([2..9, 3..11]);
    let copy = |tensor: Tensor<2>| Tensor::<2>::from_data(tensor.into_data(), &device);
    let of = |x: Tensor<2>, weight: Tensor<2>| crate::harness::values(linear(Precision::F32, x, Affine { weight, bias: None }, None));
    assert_eq!(of(part.clone(), weight.clone()), of(copy(part), copy(weight)));
}

#[test]
fn a_cache_of_another_backend_is_refused() {
    let shape = AttentionShape { batch: 1, time: 1, n_heads: 2, n_kv_heads: 1, head_dim: 4, window: 0 };
    let devices = [Device::flex(), reference()];
    for (here, there) in [(0, 1), (1, 0)] {
        let read = |device: usize, past: usize, cached| {
            let span = Span { time: 1, past, rotary: None };
            attention_cached(leaf(1, [1, 16], &devices[device]), &CachedPlan::new(shape, vec![span], Precision::F32), vec![cached])
        };
        let cached = read(there, 0, None).1.remove(0);
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read(here, 1, Some(cached)).0)).unwrap_err();
        assert_eq!(refused.downcast_ref::<String>().unwrap(), "attention: the cache is of another backend than the new positions");
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused_in_words() {
    let device = Device::flex();
    let multiply = || {
        let affine = Affine { weight: leaf(1, [4, 3], &device), bias: None };
        linear(Precision::F32, leaf(2, [2, 5], &device), affine, None)
    };
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(multiply)).unwrap_err();
    let message = refused.downcast_ref::<String>().unwrap();
    assert_eq!(message, "product: cannot multiply (2, 5) by (4, 3) into (2, 3) (rows, columns)");
}
