//! The feed-forward layer's non-linearity by itself, for a layer whose matrices carry adapters.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;
use codex_kernels::activation::{self, Activation};
use codex_kernels::buffer::unset;
use codex_kernels::{Isa, bf16};

use crate::composite;
use crate::flex::{
    Number, Plain, Route, Storage, dense, from_plain, from_tracked, matrix_dims, must, parts, plain, record, route, stored_as, tensor_of,
    tracked,
};
use crate::profile::timed;

/// `activation(pre)`, stored as `pre` is.
///
/// # Shapes
/// `pre` `[rows, inner]`, or `[rows, 2 x inner]` with the gate first for SwiGLU -> `[rows, inner]`
///
/// # Panics
/// Where shapes do not fit.
pub fn activate(activation: Activation, pre: Tensor<2>) -> Tensor<2> {
    match route(&pre) {
        Route::Composite => composite::activate(activation, pre),
        Route::Plain => from_plain(forward(activation, &plain(pre))),
        Route::Tracked => {
            let (pre, node) = parts(tracked(pre));
            from_tracked(record(ActivationBackward, [node], || (forward(activation, &pre), Saved { activation, pre })))
        }
    }
}

fn forward(activation: Activation, pre: &Plain) -> Plain {
    match Storage::of_tensor(pre) {
        Storage::F32 => run::<f32>(activation, pre),
        Storage::Bf16 => run::<bf16>(activation, pre),
    }
}

fn run<T: Number>(activation: Activation, pre: &Plain) -> Plain {
    let (rows, inner) = inner_dims(activation, pre);
    let mut active = unset(rows * inner);
    must("activation", timed("activation", || activation::forward(Isa::detect(), activation, inner, T::read(pre), &mut active)));
    tensor_of(active, [rows, inner])
}

/// Rows and the width after the activation.
fn inner_dims(activation: Activation, pre: &Plain) -> (usize, usize) {
    let (rows, width) = matrix_dims(pre);
    (rows, width / activation.widened(1))
}

#[derive(Clone, Debug)]
struct Saved {
    activation: Activation,
    pre: Plain,
}

#[derive(Debug)]
struct ActivationBackward;

impl Backward<Flex, 1> for ActivationBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = dense(gradients.consume::<Flex>(&ops.node));
        let Saved { activation, pre } = ops.state;
        let [Some(node)] = ops.parents else { return };
        let storage = Storage::of_tensor(&pre);
        let gradient = stored_as(gradient, storage);
        let of_pre = match storage {
            Storage::F32 => differentiate::<f32>(activation, pre, gradient),
            Storage::Bf16 => differentiate::<bf16>(activation, pre, gradient),
        };
        gradients.register::<Flex>(node.id, of_pre);
    }
}

/// The gradient of the pre-activation, in its memory.
fn differentiate<T: Number>(activation: Activation, mut pre: Plain, mut gradient: Plain) -> Plain {
    let inner = inner_dims(activation, &pre).1;
    let result = timed("activation: gradient", || {
        activation::backward(Isa::detect(), activation, inner, T::write(&mut pre), T::write(&mut gradient))
    });
    must("activation", result);
    pre
}
