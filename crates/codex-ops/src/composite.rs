//! The same operations made of burn's own: what runs on a backend without kernels, and what the kernels are compared with.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation};
use codex_kernels::Isa;
use codex_kernels::activation::Activation;
use codex_kernels::adafactor::SecondMoment;
use codex_kernels::attention::{AttentionShape, RotaryTable};
use codex_kernels::cross_entropy::LossSettings;
use codex_kernels::norm::NormKind;

use crate::adamw::{Moments, Update};
use crate::adapter::Adapter;
use crate::attention::AttentionPlan;
use crate::dropout::Mask;
use crate::embedding::Positions;
use crate::head::HeadWeight;
use crate::linear::Affine;
use crate::optimizers::{AdafactorStep, FirstOrder, Rule, Squares};

/// Stands for minus infinity where a position may not be seen: finite, so that no row becomes NaN.
const HIDDEN: f32 = -1.0e30;

/// See [`linear`](fn@crate::linear).
pub fn linear(x: Tensor<2>, affine: Affine, residual: Option<Tensor<2>>, mask: Option<Mask>) -> Tensor<2> {
    let mut y = x.matmul(affine.weight);
    if let Some(bias) = affine.bias {
        y = y + bias.unsqueeze::<2>();
    }
    if let Some(mask) = mask {
        y = mask.composite(y);
    }
    match residual {
        Some(residual) => y + residual,
        None => y,
    }
}

/// See [`norm`](fn@crate::norm).
pub fn norm(kind: NormKind, x: Tensor<2>, weight: Tensor<1>, bias: Option<Tensor<1>>, epsilon: f64) -> Tensor<2> {
    let centred = match kind {
        NormKind::Layer => x.clone() - x.mean_dim(1),
        NormKind::Rms => x,
    };
    let mean_square = centred.clone().square().mean_dim(1);
    let scaled = centred * mean_square.add_scalar(epsilon).sqrt().recip() * weight.unsqueeze::<2>();
    match bias {
        Some(bias) => scaled + bias.unsqueeze::<2>(),
        None => scaled,
    }
}

/// See [`feed_forward`](fn@crate::feed_forward).
pub fn feed_forward(activation: Activation, x: Tensor<2>, up: Affine, down: Affine, residual: Tensor<2>, mask: Option<Mask>) -> Tensor<2> {
    linear(activate(activation, linear(x, up, None, None)), down, Some(residual), mask)
}

/// See [`activate`](fn@crate::activation::activate).
pub fn activate(activation: Activation, widened: Tensor<2>) -> Tensor<2> {
    match activation {
        Activation::Swiglu => {
            let [rows, both] = widened.dims();
            let gate = widened.clone().slice([0..rows, 0..both / 2]);
            let value = widened.slice([0..rows, both / 2..both]);
            activation::silu(gate) * value
        }
        // Not burn's `gelu`, whose gradient is that of the tanh approximation.
        Activation::Gelu => widened.clone() * widened.mul_scalar(std::f64::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5),
        Activation::GeluTanh => activation::gelu_approximate(widened),
    }
}

/// See [`adapt`](fn@crate::adapter::adapt).
pub fn adapt(y: Tensor<2>, x: Tensor<2>, adapter: Adapter) -> Tensor<2> {
    let rows = y.dims()[0];
    let x = match adapter.mask {
        Some(mask) => mask.composite(x),
        None => x,
    };
    let delta = x.matmul(adapter.a).matmul(adapter.b).mul_scalar(adapter.scale);
    let columns = [0..rows, adapter.columns];
    let old = y.clone().slice(columns.clone());
    y.slice_assign(columns, old + delta)
}

/// See [`embedding`](fn@crate::embedding).
pub fn embedding(table: Tensor<2>, ids: &[u32], positions: Option<Positions<'_>>) -> Tensor<2> {
    let lookup = |table: Tensor<2>, ids: &[u32]| {
        let device = table.device();
        let indices: Tensor<1, Int> = Tensor::from_data(TensorData::new(signed(ids), [ids.len()]), &device);
        table.select(0, indices)
    };
    let tokens = lookup(table, ids);
    match positions {
        Some(positions) => tokens + lookup(positions.table, positions.ids),
        None => tokens,
    }
}

fn signed(ids: &[u32]) -> Vec<i32> {
    ids.iter().map(|&id| id as i32).collect()
}

/// Keys, after rotation, and values of the positions seen so far, `[batch, n_kv_heads, positions, head_dim]` each.
#[derive(Clone, Debug)]
pub struct KeysValues {
    keys: Tensor<4>,
    values: Tensor<4>,
}

impl KeysValues {
    /// Forgets all positions but the first `positions`.
    pub fn truncate(&mut self, positions: usize) {
        for tensor in [&mut self.keys, &mut self.values] {
            let [batch, heads, seen, head_dim] = tensor.dims();
            *tensor = tensor.clone().slice([0..batch, 0..heads, 0..positions.min(seen), 0..head_dim]);
        }
    }
}

/// See [`attention`](fn@crate::attention).
pub fn attention(qkv: &Tensor<2>, plan: &AttentionPlan) -> Tensor<2> {
    let device = qkv.device();
    let hidden = plan.hidden(&device).clone();
    attention_after(qkv, plan.shape(), plan.rotary(), &hidden, None).0
}

/// Attention of `time` new positions over those that are cached and themselves.
///
/// # Shapes
/// `qkv` `[batch x time, (n_heads + 2 n_kv_heads) x head_dim]`, `hidden` as [`hidden`] gives it -> `[batch x time, n_heads x head_dim]` and
/// the grown cache
pub fn attention_after(
    qkv: &Tensor<2>,
    shape: &AttentionShape,
    rotary: Option<&RotaryTable>,
    hidden: &Tensor<4, Bool>,
    cached: Option<KeysValues>,
) -> (Tensor<2>, KeysValues) {
    let &AttentionShape { batch, time, n_heads, n_kv_heads, head_dim, .. } = shape;
    let (q_width, kv_width, rows) = (n_heads * head_dim, n_kv_heads * head_dim, batch * time);
    let split = |from: usize, heads: usize| {
        let part = qkv.clone().slice([0..rows, from..from + heads * head_dim]);
        part.reshape([batch, time, heads, head_dim]).swap_dims(1, 2)
    };
    let mut queries = split(0, n_heads);
    let mut keys = split(q_width, n_kv_heads);
    let mut values = split(q_width + kv_width, n_kv_heads);
    if let Some(rotary) = rotary {
        let angles = Angles::new(rotary, time, &qkv.device());
        queries = angles.turn(queries);
        keys = angles.turn(keys);
    }
    if let Some(past) = cached {
        keys = Tensor::cat(vec![past.keys, keys], 2);
        values = Tensor::cat(vec![past.values, values], 2);
    }
    let seen = keys.dims()[2];
    let group = n_heads / n_kv_heads;
    // Each key head serves a group of query heads: the group becomes extra rows of one product.
    let scale = 1.0 / (head_dim as f32).sqrt();
    let queries = (queries * scale).reshape([batch, n_kv_heads, group * time, head_dim]);
    let scores = queries.matmul(keys.clone().swap_dims(2, 3)).reshape([batch, n_heads, time, seen]);
    let dims = scores.dims();
    let weights = activation::softmax(scores.mask_fill(hidden.clone().expand(dims), HIDDEN), 3);
    let mixed = weights.reshape([batch, n_kv_heads, group * time, seen]).matmul(values.clone());
    let joined = mixed.reshape([batch, n_heads, time, head_dim]).swap_dims(1, 2).reshape([rows, q_width]);
    (joined, KeysValues { keys, values })
}

/// Cosines and sines of the angles, `[positions, head_dim / 2]` each.
struct Angles {
    cos: Tensor<2>,
    sin: Tensor<2>,
}

impl Angles {
    fn new(table: &RotaryTable, time: usize, device: &Device) -> Self {
        let half = table.head_dim() / 2;
        let tensor = |values: &[f32]| Tensor::from_data(TensorData::new(values[..time * half].to_vec(), [time, half]), device);
        Self { cos: tensor(table.cosines()), sin: tensor(table.sines()) }
    }

    /// Turns each head by its position's angles, `[batch, heads, positions, head_dim]`.
    fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, heads, time, head_dim] = x.dims();
        let half = head_dim / 2;
        let first = x.clone().slice([0..batch, 0..heads, 0..time, 0..half]);
        let second = x.slice([0..batch, 0..heads, 0..time, half..head_dim]);
        let (cos, sin) = (self.cos.clone().unsqueeze::<4>(), self.sin.clone().unsqueeze::<4>());
        Tensor::cat(vec![first.clone() * cos.clone() - second.clone() * sin.clone(), second * cos + first * sin], 3)
    }
}

/// Which keys each query may not see: those after it, those before its window and, with `segments`, those of another document.
///
/// # Shapes
/// `segments` `[batch x time]` -> `[batch, 1, time, past + time]`; without segments `[1, 1, time, past + time]`
pub fn hidden(shape: &AttentionShape, past: usize, segments: Option<&[u32]>, device: &Device) -> Tensor<4, Bool> {
    let (time, window) = (shape.time, if shape.window == 0 { usize::MAX } else { shape.window });
    let batch = segments.map_or(1, |all| all.len() / time.max(1));
    let seen = past + time;
    let mut hidden = Vec::with_capacity(batch * time * seen);
    for row in 0..batch {
        for query in 0..time {
            for key in 0..seen {
                let later = key > past + query;
                let far = !later && past + query - key >= window;
                let apart = segments.is_some_and(|all| key >= past && all[row * time + query] != all[row * time + key - past]);
                hidden.push(later || far || apart);
            }
        }
    }
    Tensor::from_data(TensorData::new(hidden, [batch, 1, time, seen]), device)
}

/// See [`head_loss`](fn@crate::head_loss).
pub fn head_loss(x: Tensor<2>, weight: HeadWeight, ids: &[u32], weights: &[f32], settings: LossSettings) -> Tensor<1> {
    let (weight, is_tied) = weight.into_parts(&x.device());
    let scores = x.matmul(if is_tied { weight.transpose() } else { weight });
    let ([rows, vocab_size], device) = (scores.dims(), scores.device());
    let targets: Tensor<2, Int> = Tensor::from_data(TensorData::new(signed(ids), [rows, 1]), &device);
    let mask: Tensor<1> = Tensor::from_data(TensorData::new(weights.to_vec(), [rows]), &device);
    let log_probabilities = activation::log_softmax(scores.clone(), 1);
    let mut losses = log_probabilities.clone().gather(1, targets).reshape([rows]).neg();
    if settings.label_smoothing > 0.0 {
        let mean = log_probabilities.clone().mean_dim(1).reshape([rows]).neg();
        losses = losses.mul_scalar(1.0 - settings.label_smoothing) + mean.mul_scalar(settings.label_smoothing);
    }
    if settings.z_loss > 0.0 {
        let log_sum_exp = (scores - log_probabilities).slice([0..rows, 0..1.min(vocab_size)]).reshape([rows]);
        losses = losses + log_sum_exp.square().mul_scalar(settings.z_loss);
    }
    (losses * mask).sum()
}

/// See [`token_scores`](crate::head::token_scores); from the scores, `[rows, vocab_size]`.
pub fn token_scores(scores: Tensor<2>, ids: &[u32]) -> Result<Vec<(f32, bool)>, String> {
    let rows = scores.dims()[0];
    let best = scores.clone().argmax(1).reshape([rows]).try_into_data().map_err(|error| error.to_string())?;
    let targets: Tensor<2, Int> = Tensor::from_data(TensorData::new(signed(ids), [rows, 1]), &scores.device());
    let losses = activation::log_softmax(scores, 1).gather(1, targets).reshape([rows]).neg();
    let losses = losses.try_into_data().map_err(|error| error.to_string())?.convert::<f32>();
    let pairs = losses.iter::<f32>().zip(best.convert::<i64>().iter::<i64>().collect::<Vec<_>>());
    Ok(pairs.zip(ids).map(|((loss, best), &id)| (loss, best == i64::from(id))).collect())
}

/// See [`adamw`](fn@crate::adamw::adamw).
pub fn adamw(update: Update) -> (Tensor<1>, Moments) {
    let Update { step, parameter, moments, gradient } = update;
    let gradient = gradient.mul_scalar(step.gradient_scale);
    let first = moments.first.mul_scalar(step.beta1) + gradient.clone().mul_scalar(1.0 - step.beta1);
    let second = moments.second.mul_scalar(step.beta2) + gradient.square().mul_scalar(1.0 - step.beta2);
    let denominator = second.clone().div_scalar(step.correction2).sqrt().add_scalar(step.epsilon);
    let direction = first.clone().div(denominator).mul_scalar(step.learning_rate / step.correction1);
    let decayed = parameter.mul_scalar(1.0 - step.learning_rate * step.weight_decay);
    (decayed - direction, Moments { first, second })
}

/// See [`first_order`](fn@crate::optimizers::first_order).
pub fn first_order(update: FirstOrder) -> (Tensor<1>, Tensor<1>) {
    let FirstOrder { step, parameter, mean, gradient } = update;
    let gradient = gradient.mul_scalar(step.gradient_scale);
    let decayed = parameter.mul_scalar(1.0 - step.learning_rate * step.weight_decay);
    let (direction, mean) = match step.rule {
        Rule::Sgd { momentum, nesterov } => {
            let mean = mean.mul_scalar(momentum) + gradient.clone();
            (if nesterov { gradient + mean.clone().mul_scalar(momentum) } else { mean.clone() }, mean)
        }
        Rule::Lion { beta1, beta2 } => {
            let leaning = mean.clone().mul_scalar(beta1) + gradient.clone().mul_scalar(1.0 - beta1);
            (leaning.sign(), mean.mul_scalar(beta2) + gradient.mul_scalar(1.0 - beta2))
        }
    };
    (decayed - direction.mul_scalar(step.learning_rate), mean)
}

/// See [`adafactor`](fn@crate::optimizers::adafactor): on the host, since its sums decide the size of the step and a backend's own order of adding
/// is split by threads.
pub fn adafactor(
    step: &AdafactorStep,
    parameter: Tensor<1>,
    squares: Squares,
    gradient: Tensor<1>,
) -> Result<(Tensor<1>, Squares), String> {
    let device = parameter.device();
    let host = |tensor: Tensor<1>| -> Result<Vec<f32>, String> {
        let data = tensor.try_into_data().map_err(|error| error.to_string())?.convert::<f32>();
        data.try_into_vec::<f32>().map_err(|error| format!("{error:?}"))
    };
    let back = |values: Vec<f32>| {
        let n = values.len();
        Tensor::from_data(TensorData::new(values, [n]), &device)
    };
    let (mut parameter, gradient) = (host(parameter)?, host(gradient)?);
    let mut update =
        |moment: SecondMoment<'_>| step.update(Isa::Portable, &mut parameter, moment, &gradient).map_err(|error| error.to_string());
    let squares = match squares {
        Squares::Factored { rows, columns } => {
            let (mut rows, mut columns) = (host(rows)?, host(columns)?);
            update(SecondMoment::Factored { rows: &mut rows, columns: &mut columns })?;
            Squares::Factored { rows: back(rows), columns: back(columns) }
        }
        Squares::Whole(whole) => {
            let mut whole = host(whole)?;
            update(SecondMoment::Whole(&mut whole))?;
            Squares::Whole(back(whole))
        }
    };
    Ok((back(parameter), squares))
}

/// See [`sum_of_squares`](fn@crate::adamw::sum_of_squares): over fixed pieces, since a backend's own sum over millions of values is split by
/// threads, and its bits with it.
pub fn sum_of_squares(values: Tensor<1>) -> Result<f64, String> {
    const PIECE: usize = 1024;
    let n = values.dims()[0];
    let squares = values.square();
    let (n_pieces, rest) = (n / PIECE, n % PIECE);
    let mut sums = Vec::new();
    if n_pieces > 0 {
        let whole = squares.clone().slice(0..n_pieces * PIECE).reshape([n_pieces, PIECE]);
        sums.push(whole.sum_dim(1).reshape([n_pieces]));
    }
    if rest > 0 {
        sums.push(squares.slice(n_pieces * PIECE..n).sum());
    }
    let mut total = 0.0;
    for sums in sums {
        let data = sums.try_into_data().map_err(|error| error.to_string())?.convert::<f32>();
        total += data.iter::<f32>().map(f64::from).sum::<f64>();
    }
    Ok(total)
}
