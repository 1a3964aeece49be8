//! An affine map of the last dimension, with what is added to it.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;
use codex_kernels::gemm::Epilogue;

use crate::composite;
use crate::flex::{Plain, Route, dense, elements, from_plain, from_tracked, matrix_dims, optional_parts, parts, plain, record, route, tracked};
use crate::products::{added, bias_gradient, product, view};

/// Weight and bias of an affine map.
#[derive(Clone, Debug)]
pub struct Affine {
    /// `[inputs, outputs]`
    pub weight: Tensor<2>,
    /// `[outputs]`
    pub bias: Option<Tensor<1>>,
}

/// `y = x W + b + residual`.
///
/// # Shapes
/// `x` `[rows, inputs]`, `residual` `[rows, outputs]` -> `[rows, outputs]`
///
/// # Panics
/// Where shapes do not fit.
pub fn linear(x: Tensor<2>, affine: Affine, residual: Option<Tensor<2>>) -> Tensor<2> {
    match route(&x) {
        Route::Composite => composite::linear(x, affine, residual),
        Route::Plain => {
            let (bias, residual) = (affine.bias.map(plain), residual.map(plain));
            from_plain(product(view(&plain(x)), view(&plain(affine.weight)), added(bias.as_ref(), residual.as_ref())))
        }
        Route::Tracked => {
            let ((x, x_node), (weight, weight_node)) = (parts(tracked(x)), parts(tracked(affine.weight)));
            let (bias, bias_node) = optional_parts(affine.bias.map(tracked));
            let (residual, residual_node) = optional_parts(residual.map(tracked));
            from_tracked(record(LinearBackward, [x_node, weight_node, bias_node, residual_node], || {
                (product(view(&x), view(&weight), added(bias.as_ref(), residual.as_ref())), (x, weight))
            }))
        }
    }
}

#[derive(Debug)]
struct LinearBackward;

impl Backward<Flex, 4> for LinearBackward {
    /// Input and weight.
    type State = (Plain, Plain);

    fn backward(self, ops: Ops<Self::State, 4>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = dense(gradients.consume::<Flex>(&ops.node));
        let (x, weight) = ops.state;
        let [x_node, weight_node, bias_node, residual_node] = ops.parents;
        if let Some(node) = x_node {
            gradients.register::<Flex>(node.id, product(view(&gradient), view(&weight).transposed(), Epilogue::store()));
        }
        if let Some(node) = weight_node {
            gradients.register::<Flex>(node.id, product(view(&x).transposed(), view(&gradient), Epilogue::store()));
        }
        if let Some(node) = bias_node {
            gradients.register::<Flex>(node.id, bias_gradient(elements(&gradient), matrix_dims(&gradient).1));
        }
        if let Some(node) = residual_node {
            gradients.register::<Flex>(node.id, gradient);
        }
    }
}
