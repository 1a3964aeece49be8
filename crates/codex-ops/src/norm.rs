//! Normalisation of rows.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;
use codex_kernels::buffer::unset;
use codex_kernels::gemm::Precision;
use codex_kernels::norm::{Norm, NormGradient, NormKind, RowStatistic};
use codex_kernels::{Isa, bf16};

use crate::composite;
use crate::flex::{
    Number, Plain, Route, Storage, dense, elements, from_plain, from_tracked, matrix_dims, must, optional_parts, parts, plain, record,
    route, tensor_of, tracked,
};
use crate::profile::timed;

/// `(x - mean) / sqrt(mean square of that + epsilon) * weight + bias` of each row, where [`NormKind::Rms`] leaves the mean out.
///
/// # Shapes
/// `x` `[rows, width]`, `weight` and `bias` `[width]` -> `[rows, width]`
///
/// # Panics
/// Where shapes do not fit.
pub fn norm(precision: Precision, kind: NormKind, x: Tensor<2>, weight: Tensor<1>, bias: Option<Tensor<1>>, epsilon: f64) -> Tensor<2> {
    let storage = Storage::of(precision);
    match route(&x) {
        Route::Composite => composite::norm(kind, x, weight, bias, epsilon),
        Route::Plain => from_plain(forward(storage, kind, &plain(x), &plain(weight), bias.map(plain).as_ref(), epsilon).0),
        Route::Tracked => {
            let ((x, x_node), (weight, weight_node)) = (parts(tracked(x)), parts(tracked(weight)));
            let (bias, bias_node) = optional_parts(bias.map(tracked));
            from_tracked(record(NormBackward, [x_node, weight_node, bias_node], || {
                let (output, statistics) = forward(storage, kind, &x, &weight, bias.as_ref(), epsilon);
                (output, Saved { kind, x, weight, bias, epsilon, statistics })
            }))
        }
    }
}

fn kernel<'a>(kind: NormKind, weight: &'a Plain, bias: Option<&'a Plain>, epsilon: f64) -> Norm<'a> {
    Norm { kind, weight: elements(weight), bias: bias.map(elements), epsilon }
}

fn forward(storage: Storage, kind: NormKind, x: &Plain, weight: &Plain, bias: Option<&Plain>, epsilon: f64) -> (Plain, Vec<RowStatistic>) {
    let norm = kernel(kind, weight, bias, epsilon);
    match storage {
        Storage::F32 => apply::<f32>(norm, x),
        Storage::Bf16 => apply::<bf16>(norm, x),
    }
}

fn apply<T: Number>(norm: Norm<'_>, x: &Plain) -> (Plain, Vec<RowStatistic>) {
    let (rows, width) = matrix_dims(x);
    let mut output = unset::<T>(rows * width);
    let mut statistics = vec![RowStatistic::default(); rows];
    must("norm", timed("norm", || norm.forward(Isa::detect(), elements(x), &mut output, &mut statistics)));
    (tensor_of(output, [rows, width]), statistics)
}

#[derive(Clone, Debug)]
struct Saved {
    kind: NormKind,
    x: Plain,
    weight: Plain,
    bias: Option<Plain>,
    epsilon: f64,
    statistics: Vec<RowStatistic>,
}

#[derive(Debug)]
struct NormBackward;

impl Backward<Flex, 3> for NormBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = dense(gradients.consume::<Flex>(&ops.node));
        let Saved { kind, x, weight, bias, epsilon, statistics } = ops.state;
        let (rows, width) = matrix_dims(&x);
        let mut x_gradient = unset(rows * width);
        let mut weight_gradient = unset(width);
        let mut bias_gradient = bias.as_ref().map(|bias| vec![0.0; elements(bias).len()]);
        let parameters = NormGradient { weight: &mut weight_gradient, bias: bias_gradient.as_deref_mut() };
        let norm = kernel(kind, &weight, bias.as_ref(), epsilon);
        let (isa, x) = (Isa::detect(), elements(&x));
        let result = timed("norm: gradient", || match Storage::of_tensor(&gradient) {
            Storage::F32 => norm.backward(isa, x, &statistics, f32::read(&gradient), &mut x_gradient, parameters),
            Storage::Bf16 => norm.backward(isa, x, &statistics, bf16::read(&gradient), &mut x_gradient, parameters),
        });
        must("norm", result);
        let [x_node, weight_node, bias_node] = ops.parents;
        if let Some(node) = x_node {
            gradients.register::<Flex>(node.id, tensor_of(x_gradient, [rows, width]));
        }
        if let Some(node) = weight_node {
            gradients.register::<Flex>(node.id, tensor_of(weight_gradient, [width]));
        }
        if let (Some(node), Some(bias_gradient)) = (bias_node, bias_gradient) {
            gradients.register::<Flex>(node.id, tensor_of(bias_gradient, [width]));
        }
    }
}
