//! The position-wise layer of a block, with its residual: of the inner activations only those before the non-linearity are kept.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;
use codex_kernels::Isa;
use codex_kernels::activation::{self, Activation};
use codex_kernels::gemm::Epilogue;

use crate::composite;
use crate::flex::{
    Plain, Route, dense, elements, from_plain, from_tracked, matrix_dims, must, optional_parts, parts, plain, record, route, tracked,
};
use crate::linear::Affine;
use crate::products::{added, bias_gradient, multiply, product, view, view_of};

/// `y = activation(x W_up + b_up) W_down + b_down + residual`.
///
/// # Shapes
/// `x` and `residual` `[rows, width]`, `up` `[width, inner]`, or `[width, 2 x inner]` with the gate first for SwiGLU, `down` `[inner, width]`
/// -> `[rows, width]`
///
/// # Panics
/// Where shapes do not fit.
pub fn feed_forward(activation: Activation, x: Tensor<2>, up: Affine, down: Affine, residual: Tensor<2>) -> Tensor<2> {
    match route(&x) {
        Route::Composite => composite::feed_forward(activation, x, up, down, residual),
        Route::Plain => {
            let up = (plain(up.weight), up.bias.map(plain));
            let down = (plain(down.weight), down.bias.map(plain));
            from_plain(forward(activation, &plain(x), (&up.0, up.1.as_ref()), (&down.0, down.1.as_ref()), &plain(residual)).0)
        }
        Route::Tracked => {
            let (x, x_node) = parts(tracked(x));
            let ((up, up_node), (up_bias, up_bias_node)) = (parts(tracked(up.weight)), optional_parts(up.bias.map(tracked)));
            let ((down, down_node), (down_bias, down_bias_node)) = (parts(tracked(down.weight)), optional_parts(down.bias.map(tracked)));
            let (residual, residual_node) = parts(tracked(residual));
            let nodes = [x_node, up_node, up_bias_node, down_node, down_bias_node, residual_node];
            from_tracked(record(FeedForwardBackward, nodes, || {
                let (output, pre) = forward(activation, &x, (&up, up_bias.as_ref()), (&down, down_bias.as_ref()), &residual);
                (output, Saved { activation, x, up, down, pre })
            }))
        }
    }
}

/// A weight and its bias.
type AffineParts<'a> = (&'a Plain, Option<&'a Plain>);

/// The output and the pre-activation.
fn forward(activation: Activation, x: &Plain, up: AffineParts<'_>, down: AffineParts<'_>, residual: &Plain) -> (Plain, Plain) {
    let pre = product(view(x), view(up.0), added(up.1, None));
    let (rows, inner) = (matrix_dims(x).0, matrix_dims(down.0).0);
    let mut active = vec![0.0; rows * inner];
    must("feed-forward", activation::forward(Isa::detect(), activation, inner, elements(&pre), &mut active));
    (product(view_of(&active, rows, inner), view(down.0), added(down.1, Some(residual))), pre)
}

#[derive(Clone, Debug)]
struct Saved {
    activation: Activation,
    x: Plain,
    up: Plain,
    down: Plain,
    pre: Plain,
}

#[derive(Debug)]
struct FeedForwardBackward;

impl Backward<Flex, 6> for FeedForwardBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 6>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = dense(gradients.consume::<Flex>(&ops.node));
        let Saved { activation, x, up, down, mut pre } = ops.state;
        let [x_node, up_node, up_bias_node, down_node, down_bias_node, residual_node] = ops.parents;
        let ((rows, width), inner) = (matrix_dims(&gradient), matrix_dims(&down).0);
        // First the gradient of the activation, then, in the same memory, the activation itself.
        let mut active = vec![0.0; rows * inner];
        multiply(view(&gradient), view(&down).transposed(), &mut active, Epilogue::store());
        must("feed-forward", activation::backward(Isa::detect(), activation, inner, pre.storage_mut(), &mut active));
        if let Some(node) = down_node {
            let active = view_of(&active, rows, inner).transposed();
            gradients.register::<Flex>(node.id, product(active, view(&gradient), Epilogue::store()));
        }
        drop(active);
        if let Some(node) = down_bias_node {
            gradients.register::<Flex>(node.id, bias_gradient(elements(&gradient), width));
        }
        if let Some(node) = residual_node {
            gradients.register::<Flex>(node.id, gradient);
        }
        if let Some(node) = up_node {
            gradients.register::<Flex>(node.id, product(view(&x).transposed(), view(&pre), Epilogue::store()));
        }
        if let Some(node) = up_bias_node {
            gradients.register::<Flex>(node.id, bias_gradient(elements(&pre), matrix_dims(&pre).1));
        }
        if let Some(node) = x_node {
            gradients.register::<Flex>(node.id, product(view(&pre), view(&up).transposed(), Epilogue::store()));
        }
    }
}
