//! The output head and its loss, some rows at a time: the scores of all positions never exist together.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps as _;
use burn::tensor::{Device, Tensor};
use codex_kernels::Isa;
use codex_kernels::buffer::unset;
use codex_kernels::cross_entropy::{self, LossSettings, Targets, loss, loss_and_gradient};
use codex_kernels::gemm::{Epilogue, Precision, View};

use crate::composite;
use crate::flex::{
    Plain, Route, Storage, dense, elements, from_plain, from_tracked, matrix_dims, must, parts, plain, route, tensor_of, tracked,
};
use crate::products::{Buffer, elements_of, multiply, product, view, view_of};
use crate::profile::timed;
use crate::quantized::{QuantizedWeight, linear_quantized};

/// Rows whose scores exist at once.
const CHUNK: usize = 512;

/// The weight of the output head.
#[derive(Clone, Debug)]
pub enum HeadWeight {
    /// Its own, `[width, vocab_size]`.
    Own(Tensor<2>),
    /// The embedding's table, `[vocab_size, width]`.
    Tied(Tensor<2>),
    /// Either of them in 8 bits, `[width, vocab_size]`, without a gradient.
    Quantized(QuantizedWeight),
}

impl HeadWeight {
    /// The tensor, and whether it is used transposed.
    pub(crate) fn into_parts(self, device: &Device) -> (Tensor<2>, bool) {
        match self {
            Self::Own(weight) => (weight, false),
            Self::Tied(weight) => (weight, true),
            Self::Quantized(weight) => (weight.dequantize(device), false),
        }
    }
}

/// The summed cross-entropy of `x W` against `ids`, each row times its weight; see [`codex_kernels::cross_entropy`] for the formula.
///
/// The gradient is computed with the loss, since one follows from the other in the same pass over the scores.
///
/// # Shapes
/// `x` `[rows, width]`, `ids` and `weights` `[rows]` -> one element
///
/// # Panics
/// Where shapes do not fit or an id names no token.
pub fn head_loss(
    precision: Precision,
    x: Tensor<2>,
    weight: HeadWeight,
    ids: &[u32],
    weights: &[f32],
    settings: LossSettings,
) -> Tensor<1> {
    let (targets, device) = (Targets { ids, weights }, x.device());
    match route(&x) {
        Route::Composite => composite::head_loss(x, weight, ids, weights, settings),
        Route::Plain => {
            let (weight, is_tied) = weight.into_parts(&device);
            let head = Head { precision, x: &plain(x), weight: &plain(weight), is_tied };
            from_plain(one_element(head.loss(targets, settings)))
        }
        Route::Tracked => {
            let (weight, is_tied) = weight.into_parts(&device);
            let ((x, x_node), (weight, weight_node)) = (parts(tracked(x)), parts(tracked(weight)));
            let head = Head { precision, x: &x, weight: &weight, is_tied };
            let output = match HeadBackward.prepare::<NoCheckpointing>([x_node, weight_node]).compute_bound().stateful() {
                OpsKind::Tracked(prepared) => {
                    let (sum, saved) = head.loss_and_gradients(targets, settings);
                    prepared.finish(saved, one_element(sum))
                }
                OpsKind::UnTracked(prepared) => prepared.finish(one_element(head.loss(targets, settings))),
            };
            from_tracked(output)
        }
    }
}

/// The scores of every token after each row: `x W`.
///
/// # Shapes
/// `x` `[rows, width]` -> `[rows, vocab_size]`
///
/// # Panics
/// Where shapes do not fit.
pub fn head_scores(precision: Precision, x: Tensor<2>, weight: HeadWeight) -> Tensor<2> {
    if let HeadWeight::Quantized(weight) = &weight {
        return linear_quantized(Precision::F32, x, weight, None, None);
    }
    let device = x.device();
    let (weight, is_tied) = weight.into_parts(&device);
    match route(&x) {
        Route::Plain => {
            let (x, weight) = (plain(x), plain(weight));
            let head = Head { precision, x: &x, weight: &weight, is_tied };
            from_plain(product("head: product", precision, Storage::F32, view(&x), head.weight(), Epilogue::store()))
        }
        _ => x.matmul(if is_tied { weight.transpose() } else { weight }),
    }
}

/// For each row the negative log-likelihood of its target in nats, and whether the target is the first of the most likely tokens.
///
/// # Shapes
/// `x` `[rows, width]`, `ids` `[rows]` -> `[rows]`
///
/// # Errors
/// What a backend says when its memory cannot be read.
///
/// # Panics
/// Where shapes do not fit or an id names no token.
pub fn token_scores(precision: Precision, x: Tensor<2>, weight: HeadWeight, ids: &[u32]) -> Result<Vec<(f32, bool)>, String> {
    if route(&x) != Route::Plain {
        return composite::token_scores(head_scores(precision, x, weight), ids);
    }
    if let HeadWeight::Quantized(weight) = &weight {
        let (mut found, width) = (Vec::with_capacity(ids.len()), x.dims()[1]);
        for (first, ids) in (0..).step_by(CHUNK).zip(ids.chunks(CHUNK)) {
            let rows = x.clone().slice([first..first + ids.len(), 0..width]);
            let scores = plain(linear_quantized(Precision::F32, rows, weight, None, None));
            found.extend(must("token scores", cross_entropy::token_scores(Isa::detect(), elements(&scores), weight.dims()[1], ids)));
        }
        return Ok(found);
    }
    let device = x.device();
    let (weight, is_tied) = weight.into_parts(&device);
    let (x, weight) = (plain(x), plain(weight));
    let head = Head { precision, x: &x, weight: &weight, is_tied };
    let weight = head.weight();
    let mut scores = unset(CHUNK.min(ids.len()) * weight.cols());
    let mut found = Vec::with_capacity(ids.len());
    for chunk in head.chunks(Targets { ids, weights: &vec![1.0; ids.len()] }) {
        let scores = &mut scores[..chunk.x.rows() * weight.cols()];
        multiply("head: product", precision, chunk.x, weight, &mut *scores, Epilogue::store());
        found.extend(must("token scores", cross_entropy::token_scores(Isa::detect(), scores, weight.cols(), chunk.targets.ids)));
    }
    Ok(found)
}

fn one_element(sum: f64) -> Plain {
    tensor_of(vec![sum as f32], [1])
}

/// The operands.
#[derive(Clone, Copy)]
struct Head<'a> {
    precision: Precision,
    x: &'a Plain,
    weight: &'a Plain,
    is_tied: bool,
}

/// Some rows of the operands.
struct Chunk<'a> {
    first: usize,
    x: View<'a>,
    targets: Targets<'a>,
}

impl<'a> Head<'a> {
    /// `[width, vocab_size]`
    fn weight(&self) -> View<'a> {
        if self.is_tied { view(self.weight).transposed() } else { view(self.weight) }
    }

    fn chunks(&self, targets: Targets<'a>) -> impl Iterator<Item = Chunk<'a>> {
        let (rows, width) = matrix_dims(self.x);
        let x = elements_of(self.x);
        (0..rows).step_by(CHUNK).map(move |first| {
            let end = (first + CHUNK).min(rows);
            let targets = Targets { ids: &targets.ids[first..end], weights: &targets.weights[first..end] };
            Chunk { first, x: view_of(x.range(first * width..end * width), end - first, width), targets }
        })
    }

    fn loss(&self, targets: Targets<'_>, settings: LossSettings) -> f64 {
        let weight = self.weight();
        let mut scores = unset(CHUNK.min(matrix_dims(self.x).0) * weight.cols());
        let mut sum = 0.0;
        for chunk in self.chunks(targets) {
            let scores = &mut scores[..chunk.x.rows() * weight.cols()];
            multiply("head: product", self.precision, chunk.x, weight, &mut *scores, Epilogue::store());
            sum += must("loss", loss(Isa::detect(), scores, weight.cols(), chunk.targets, settings));
        }
        sum
    }

    fn loss_and_gradients(&self, targets: Targets<'_>, settings: LossSettings) -> (f64, Saved) {
        let weight = self.weight();
        let ((rows, width), vocab_size) = (matrix_dims(self.x), weight.cols());
        let mut scores = unset(CHUNK.min(rows) * vocab_size);
        let mut x_gradient = Buffer::new(Storage::of_tensor(self.x), rows * width);
        // The first chunk writes it; without one there is nothing.
        let mut weight_gradient = if rows == 0 { vec![0.0; width * vocab_size] } else { unset(width * vocab_size) };
        let mut sum = 0.0;
        for chunk in self.chunks(targets) {
            let n = chunk.x.rows();
            let scores = &mut scores[..n * vocab_size];
            multiply("head: product", self.precision, chunk.x, weight, &mut *scores, Epilogue::store());
            sum += must("loss", timed("loss", || loss_and_gradient(Isa::detect(), scores, vocab_size, chunk.targets, settings)));
            let scores = view_of(&*scores, n, vocab_size);
            let of_rows = x_gradient.range(chunk.first * width, n * width);
            multiply("head: gradient of the input", self.precision, scores, weight.transposed(), of_rows, Epilogue::store());
            let epilogue = if chunk.first == 0 { Epilogue::store() } else { Epilogue::accumulate() };
            if self.is_tied {
                multiply("head: gradient of the weight", self.precision, scores.transposed(), chunk.x, &mut weight_gradient, epilogue);
            } else {
                multiply("head: gradient of the weight", self.precision, chunk.x.transposed(), scores, &mut weight_gradient, epilogue);
            }
        }
        let shape = matrix_dims(self.weight);
        (sum, Saved { x: x_gradient.into_tensor([rows, width]), weight: tensor_of(weight_gradient, [shape.0, shape.1]) })
    }
}

/// The gradients of the loss.
#[derive(Clone, Debug)]
struct Saved {
    x: Plain,
    weight: Plain,
}

#[derive(Debug)]
struct HeadBackward;

impl Backward<Flex, 2> for HeadBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = dense(gradients.consume::<Flex>(&ops.node));
        let factor = elements(&gradient).first().copied().unwrap_or(1.0);
        let scaled = |tensor: Plain| {
            if factor.to_bits() == 1.0_f32.to_bits() { tensor } else { Flex::float_mul_scalar(tensor, f64::from(factor).into()) }
        };
        let [x_node, weight_node] = ops.parents;
        if let Some(node) = x_node {
            gradients.register::<Flex>(node.id, scaled(ops.state.x));
        }
        if let Some(node) = weight_node {
            gradients.register::<Flex>(node.id, scaled(ops.state.weight));
        }
    }
}
