//! Inverted dropout of what is added to the residual stream, by a mask that nobody stores: see [`codex_kernels::dropout`].

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::{Device, Tensor, TensorData};
use codex_kernels::Isa;
use codex_kernels::dropout::Dropout;

use crate::flex::{Number as _, Plain, Route, Storage, dense, from_plain, from_tracked, parts, plain, record, route, stored_as, tracked};
use crate::profile::timed;

/// A mask, and which of its elements is the tensor's first: a part of a batch finds the masks that it has in the whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mask {
    /// The mask.
    pub dropout: Dropout,
    /// The element of the mask that the tensor begins with.
    pub first_element: u64,
}

/// What a layer's output is added to, and what is dropped of that output before.
#[derive(Clone, Debug)]
pub struct Residual {
    /// `[rows, width]`
    pub stream: Tensor<2>,
    /// `None` drops nothing.
    pub mask: Option<Mask>,
}

impl From<Tensor<2>> for Residual {
    fn from(stream: Tensor<2>) -> Self {
        Self { stream, mask: None }
    }
}

/// `x` with the dropped elements zero and the others divided by the probability of being kept.
///
/// # Shapes
/// `[rows, width]` -> `[rows, width]`
pub fn dropout(x: Tensor<2>, mask: Mask) -> Tensor<2> {
    match route(&x) {
        Route::Composite => mask.composite(x),
        Route::Plain => from_plain(mask.of(plain(x))),
        Route::Tracked => {
            let (x, node) = parts(tracked(x));
            from_tracked(record(DropoutBackward, [node], || (mask.of(x), mask)))
        }
    }
}

impl Mask {
    /// The masked elements, f32 whatever they were, in the same memory if nobody else holds it.
    pub(crate) fn of(&self, tensor: Plain) -> Plain {
        let mut tensor = stored_as(tensor, Storage::F32);
        timed("dropout", || self.dropout.apply(Isa::detect(), self.first_element, f32::write(&mut tensor)));
        tensor
    }

    /// The same made of burn's operations.
    pub(crate) fn composite<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let factors = self.factors(x.dims(), &x.device());
        x * factors
    }

    fn factors<const D: usize>(&self, shape: [usize; D], device: &Device) -> Tensor<D> {
        let kept = (1.0 / (1.0 - self.dropout.probability())) as f32;
        let factor = |index: u64| if self.dropout.keeps(self.first_element.wrapping_add(index)) { kept } else { 0.0 };
        let factors: Vec<f32> = (0..shape.iter().product::<usize>() as u64).map(factor).collect();
        Tensor::from_data(TensorData::new(factors, shape), device)
    }
}

/// The tensor, masked where there is a mask.
pub(crate) fn masked(mask: Option<Mask>, tensor: Plain) -> Plain {
    match mask {
        Some(mask) => mask.of(tensor),
        None => tensor,
    }
}

#[derive(Debug)]
struct DropoutBackward;

impl Backward<Flex, 1> for DropoutBackward {
    type State = Mask;

    fn backward(self, ops: Ops<Mask, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = dense(gradients.consume::<Flex>(&ops.node));
        if let [Some(node)] = ops.parents {
            gradients.register::<Flex>(node.id, ops.state.of(gradient));
        }
    }
}
