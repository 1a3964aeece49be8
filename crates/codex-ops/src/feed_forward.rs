//! The position-wise layer of a block, with its residual: of the inner activations only those before the non-linearity are kept.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;
use codex_kernels::activation::{self, Activation};
use codex_kernels::buffer::unset;
use codex_kernels::gemm::{Epilogue, Precision};
use codex_kernels::{Isa, bf16};

use crate::composite;
use crate::dropout::{Mask, Residual, masked};
use crate::flex::{
    Number, Plain, Route, Storage, dense, from_plain, from_tracked, matrix_dims, must, optional_parts, parts, plain, record, route,
    tensor_of, tracked,
};
use crate::linear::Affine;
use crate::products::{added, bias_gradient, product, sum, view};
use crate::profile::timed;

/// `y = activation(x W_up + b_up) W_down + b_down + residual`, where the residual's mask drops elements of what is added to it.
///
/// # Shapes
/// `x` and the residual stream `[rows, width]`, `up` `[width, inner]`, or `[width, 2 x inner]` with the gate first for SwiGLU, `down` `[inner, width]`
/// -> `[rows, width]`
///
/// # Panics
/// Where shapes do not fit.
pub fn feed_forward(precision: Precision, activation: Activation, x: Tensor<2>, up: Affine, down: Affine, residual: Residual) -> Tensor<2> {
    let Residual { stream: residual, mask } = residual;
    let layer = Layer { precision, activation, mask };
    match route(&x) {
        Route::Composite => composite::feed_forward(activation, x, up, down, residual, mask),
        Route::Plain => {
            let up = (plain(up.weight), up.bias.map(plain));
            let down = (plain(down.weight), down.bias.map(plain));
            from_plain(layer.forward(&plain(x), (&up.0, up.1.as_ref()), (&down.0, down.1.as_ref()), &plain(residual)).0)
        }
        Route::Tracked => {
            let (x, x_node) = parts(tracked(x));
            let ((up, up_node), (up_bias, up_bias_node)) = (parts(tracked(up.weight)), optional_parts(up.bias.map(tracked)));
            let ((down, down_node), (down_bias, down_bias_node)) = (parts(tracked(down.weight)), optional_parts(down.bias.map(tracked)));
            let (residual, residual_node) = parts(tracked(residual));
            let nodes = [x_node, up_node, up_bias_node, down_node, down_bias_node, residual_node];
            from_tracked(record(FeedForwardBackward, nodes, || {
                let (output, pre) = layer.forward(&x, (&up, up_bias.as_ref()), (&down, down_bias.as_ref()), &residual);
                (output, Saved { layer, x, up, down, pre })
            }))
        }
    }
}

/// A weight and its bias.
type AffineParts<'a> = (&'a Plain, Option<&'a Plain>);

/// What the layer is besides its parameters.
#[derive(Clone, Copy, Debug)]
struct Layer {
    precision: Precision,
    activation: Activation,
    mask: Option<Mask>,
}

impl Layer {
    /// The output and the pre-activation.
    fn forward(self, x: &Plain, up: AffineParts<'_>, down: AffineParts<'_>, residual: &Plain) -> (Plain, Plain) {
        let storage = Storage::of(self.precision);
        let pre = product("feed-forward: product up", self.precision, storage, view(x), view(up.0), added(up.1, None));
        let active = match storage {
            Storage::F32 => self.activate::<f32>(&pre, down.0),
            Storage::Bf16 => self.activate::<bf16>(&pre, down.0),
        };
        let down = |residual| {
            product("feed-forward: product down", self.precision, Storage::F32, view(&active), view(down.0), added(down.1, residual))
        };
        let y = match self.mask {
            None => down(Some(residual)),
            Some(mask) => sum(mask.of(down(None)), Some(residual)),
        };
        (y, pre)
    }

    fn activate<T: Number>(self, pre: &Plain, down: &Plain) -> Plain {
        let (rows, inner) = (matrix_dims(pre).0, matrix_dims(down).0);
        let mut active = unset(rows * inner);
        let result = timed("activation", || activation::forward(Isa::detect(), self.activation, inner, T::read(pre), &mut active));
        must("feed-forward", result);
        tensor_of(active, [rows, inner])
    }

    /// Replaces the pre-activation by its gradient, and the gradient of the activation by the activation.
    fn differentiate<T: Number>(self, inner: usize, pre: &mut Plain, active: &mut Plain) {
        let result =
            timed("activation: gradient", || activation::backward(Isa::detect(), self.activation, inner, T::write(pre), T::write(active)));
        must("feed-forward", result);
    }
}

#[derive(Clone, Debug)]
struct Saved {
    layer: Layer,
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
        let Saved { layer, x, up, down, mut pre } = ops.state;
        let [x_node, up_node, up_bias_node, down_node, down_bias_node, residual_node] = ops.parents;
        let (precision, storage, inner) = (layer.precision, Storage::of_tensor(&pre), matrix_dims(&down).0);
        let of_residual = residual_node.map(|node| (node, gradient.clone()));
        let gradient = masked(layer.mask, gradient);
        // First the gradient of the activation, then, in the same memory, the activation itself.
        let mut active = product(
            "feed-forward: gradient of the activation",
            precision,
            storage,
            view(&gradient),
            view(&down).transposed(),
            Epilogue::store(),
        );
        match storage {
            Storage::F32 => layer.differentiate::<f32>(inner, &mut pre, &mut active),
            Storage::Bf16 => layer.differentiate::<bf16>(inner, &mut pre, &mut active),
        }
        if let Some(node) = down_node {
            let of_down = product(
                "feed-forward: gradient of down",
                precision,
                Storage::F32,
                view(&active).transposed(),
                view(&gradient),
                Epilogue::store(),
            );
            gradients.register::<Flex>(node.id, of_down);
        }
        drop(active);
        if let Some(node) = down_bias_node {
            gradients.register::<Flex>(node.id, bias_gradient(&gradient));
        }
        if let Some((node, of_residual)) = of_residual {
            gradients.register::<Flex>(node.id, of_residual);
        }
        if let Some(node) = up_node {
            let of_up =
                product("feed-forward: gradient of up", precision, Storage::F32, view(&x).transposed(), view(&pre), Epilogue::store());
            gradients.register::<Flex>(node.id, of_up);
        }
        if let Some(node) = up_bias_node {
            gradients.register::<Flex>(node.id, bias_gradient(&pre));
        }
        if let Some(node) = x_node {
            let of_x = product(
                "feed-forward: gradient of the input",
                precision,
                Storage::of_tensor(&x),
                view(&pre),
                view(&up).transposed(),
                Epilogue::store(),
            );
            gradients.register::<Flex>(node.id, of_x);
        }
    }
}
