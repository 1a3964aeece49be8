//! Causal self-attention straight from the fused queries, keys and values.

use std::cell::OnceCell;
use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::{Bool, Device, Tensor};
use codex_kernels::attention::{AttentionShape, RotaryTable, backward, forward};
use codex_kernels::buffer::unset;
use codex_kernels::{Isa, bf16};

use crate::composite;
use crate::flex::{
    Number, Plain, Route, Storage, dense, from_plain, from_tracked, must, parts, plain, record, route, stored_as, tensor_of, tracked,
};
use crate::profile::timed;

/// What all blocks of one forward pass share: sizes, positions, documents.
#[derive(Debug)]
pub struct AttentionPlan {
    shape: AttentionShape,
    rotary: Option<Arc<RotaryTable>>,
    segments: Option<Arc<[u32]>>,
    /// Made when a backend without a kernel asks for it, once for all blocks.
    hidden: OnceCell<Tensor<4, Bool>>,
}

impl AttentionPlan {
    /// A plan for windows of equal length whose positions turn queries and keys by `rotary`, and whose documents, one number for each
    /// position, are kept apart.
    ///
    /// # Shapes
    /// `segments` `[batch x time]`
    pub fn new(shape: AttentionShape, rotary: Option<Arc<RotaryTable>>, segments: Option<&[u32]>) -> Self {
        Self { shape, rotary, segments: segments.map(Arc::from), hidden: OnceCell::new() }
    }

    /// The sizes.
    pub fn shape(&self) -> &AttentionShape {
        &self.shape
    }

    /// The angles of the positions.
    pub fn rotary(&self) -> Option<&RotaryTable> {
        self.rotary.as_deref()
    }

    /// Which keys each query may not see, `[batch or 1, 1, time, time]`.
    pub(crate) fn hidden(&self, device: &Device) -> &Tensor<4, Bool> {
        self.hidden.get_or_init(|| composite::hidden(&self.shape, 0, self.segments.as_deref(), device))
    }
}

/// `softmax(q k^T / sqrt(head_dim)) v` over the keys that each query sees: those at and before its position, of its document and window.
///
/// # Shapes
/// `qkv` `[batch x time, (n_heads + 2 n_kv_heads) x head_dim]` -> `[batch x time, n_heads x head_dim]`
///
/// # Panics
/// Where shapes do not fit.
pub fn attention(qkv: Tensor<2>, plan: &AttentionPlan) -> Tensor<2> {
    match route(&qkv) {
        Route::Composite => composite::attention(&qkv, plan),
        Route::Plain => from_plain(run(&plain(qkv), plan).0),
        Route::Tracked => {
            let (qkv, node) = parts(tracked(qkv));
            from_tracked(record(AttentionBackward, [node], || {
                let (output, log_sum_exp) = run(&qkv, plan);
                let (shape, rotary, segments) = (plan.shape, plan.rotary.clone(), plan.segments.clone());
                let saved = Saved { shape, rotary, segments, qkv, output: output.clone(), log_sum_exp };
                (output, saved)
            }))
        }
    }
}

fn run(qkv: &Plain, plan: &AttentionPlan) -> (Plain, Vec<f32>) {
    match Storage::of_tensor(qkv) {
        Storage::F32 => attend::<f32>(qkv, plan),
        Storage::Bf16 => attend::<bf16>(qkv, plan),
    }
}

/// The output, stored as the input is, and the log-sum-exp of each row.
fn attend<T: Number>(qkv: &Plain, plan: &AttentionPlan) -> (Plain, Vec<f32>) {
    let shape = &plan.shape;
    let positions = shape.batch * shape.time;
    let mut output = unset(positions * shape.n_heads * shape.head_dim);
    let mut log_sum_exp = unset(positions * shape.n_heads);
    let (rotary, segments) = (plan.rotary(), plan.segments.as_deref());
    let result = timed("attention", || forward(Isa::detect(), shape, T::read(qkv), rotary, segments, &mut output, &mut log_sum_exp));
    must("attention", result);
    (tensor_of(output, [positions, shape.n_heads * shape.head_dim]), log_sum_exp)
}

#[derive(Clone, Debug)]
struct Saved {
    shape: AttentionShape,
    rotary: Option<Arc<RotaryTable>>,
    segments: Option<Arc<[u32]>>,
    qkv: Plain,
    output: Plain,
    log_sum_exp: Vec<f32>,
}

#[derive(Debug)]
struct AttentionBackward;

impl Backward<Flex, 1> for AttentionBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = dense(gradients.consume::<Flex>(&ops.node));
        let [Some(node)] = ops.parents else { return };
        let storage = Storage::of_tensor(&ops.state.qkv);
        let gradient = stored_as(gradient, storage);
        let gradient = match storage {
            Storage::F32 => ops.state.gradient::<f32>(&gradient),
            Storage::Bf16 => ops.state.gradient::<bf16>(&gradient),
        };
        gradients.register::<Flex>(node.id, gradient);
    }
}

impl Saved {
    /// The gradient of the input from that of the output, stored alike.
    fn gradient<T: Number>(&self, of_output: &Plain) -> Plain {
        let shape = &self.shape;
        let width = (shape.n_heads + 2 * shape.n_kv_heads) * shape.head_dim;
        let positions = shape.batch * shape.time;
        let mut of_qkv = unset(positions * width);
        let (rotary, segments) = (self.rotary.as_deref(), self.segments.as_deref());
        let (qkv, output, of_output) = (T::read(&self.qkv), T::read(&self.output), T::read(of_output));
        let isa = Isa::detect();
        let result =
            timed("attention: gradient", || backward(isa, shape, qkv, rotary, segments, output, &self.log_sum_exp, of_output, &mut of_qkv));
        must("attention", result);
        tensor_of(of_qkv, [positions, width])
    }
}
