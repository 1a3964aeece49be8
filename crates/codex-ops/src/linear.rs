//! An affine map of the last dimension, with what is added to it.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;
use codex_kernels::gemm::{Epilogue, Precision};

use crate::composite;
use crate::dropout::{Mask, Residual, masked};
use crate::flex::{Plain, Route, Storage, dense, from_plain, from_tracked, optional_parts, parts, plain, record, route, tracked};
use crate::products::{added, bias_gradient, product, sum, view};

/// Weight and bias of an affine map.
#[derive(Clone, Debug)]
pub struct Affine {
    /// `[inputs, outputs]`
    pub weight: Tensor<2>,
    /// `[outputs]`
    pub bias: Option<Tensor<1>>,
}

/// `y = x W + b + residual`, where a residual's mask drops elements of `x W + b`.
///
/// # Shapes
/// `x` `[rows, inputs]`, the residual stream `[rows, outputs]` -> `[rows, outputs]`
///
/// # Panics
/// Where shapes do not fit.
pub fn linear(precision: Precision, x: Tensor<2>, affine: Affine, residual: Option<Residual>) -> Tensor<2> {
    let (residual, mask) = residual.map_or((None, None), |residual| (Some(residual.stream), residual.mask));
    match route(&x) {
        Route::Composite => composite::linear(x, affine, residual, mask),
        Route::Plain => {
            let (bias, residual) = (affine.bias.map(plain), residual.map(plain));
            from_plain(forward(precision, &plain(x), &plain(affine.weight), bias.as_ref(), residual.as_ref(), mask))
        }
        Route::Tracked => {
            let ((x, x_node), (weight, weight_node)) = (parts(tracked(x)), parts(tracked(affine.weight)));
            let (bias, bias_node) = optional_parts(affine.bias.map(tracked));
            let (residual, residual_node) = optional_parts(residual.map(tracked));
            from_tracked(record(LinearBackward, [x_node, weight_node, bias_node, residual_node], || {
                (forward(precision, &x, &weight, bias.as_ref(), residual.as_ref(), mask), Saved { precision, mask, x, weight })
            }))
        }
    }
}

/// What is added to the residual stream is f32 as that is.
fn forward(precision: Precision, x: &Plain, weight: &Plain, bias: Option<&Plain>, residual: Option<&Plain>, mask: Option<Mask>) -> Plain {
    let storage = if residual.is_some() { Storage::F32 } else { Storage::of(precision) };
    let Some(mask) = mask else {
        return product("linear: product", precision, storage, view(x), view(weight), added(bias, residual));
    };
    let y = mask.of(product("linear: product", precision, storage, view(x), view(weight), added(bias, None)));
    sum(y, residual)
}

#[derive(Clone, Debug)]
struct Saved {
    precision: Precision,
    mask: Option<Mask>,
    x: Plain,
    weight: Plain,
}

#[derive(Debug)]
struct LinearBackward;

impl Backward<Flex, 4> for LinearBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 4>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = dense(gradients.consume::<Flex>(&ops.node));
        let Saved { precision, mask, x, weight } = ops.state;
        let [x_node, weight_node, bias_node, residual_node] = ops.parents;
        // The residual stream's gradient passes as it is; the layer's own is masked as its output was.
        let of_residual = residual_node.map(|node| (node, gradient.clone()));
        let gradient = masked(mask, gradient);
        if let Some(node) = x_node {
            gradients.register::<Flex>(
                node.id,
                product(
                    "linear: gradient of the input",
                    precision,
                    Storage::of_tensor(&x),
                    view(&gradient),
                    view(&weight).transposed(),
                    Epilogue::store(),
                ),
            );
        }
        if let Some(node) = weight_node {
            gradients.register::<Flex>(
                node.id,
                product(
                    "linear: gradient of the weight",
                    precision,
                    Storage::F32,
                    view(&x).transposed(),
                    view(&gradient),
                    Epilogue::store(),
                ),
            );
        }
        if let Some(node) = bias_node {
            gradients.register::<Flex>(node.id, bias_gradient(&gradient));
        }
        if let Some((node, of_residual)) = of_residual {
            gradients.register::<Flex>(node.id, of_residual);
        }
    }
}
