//! Cross-entropy over the positions that count, as a sum and a count, never as a mean that hides how much it is of.

use burn::tensor::{Int, Tensor, TensorData, activation};

use crate::error::ModelError;

/// A summed loss and how many target tokens it is of.
#[derive(Clone, Debug)]
pub struct LossSum {
    /// Sum of weight x negative log-likelihood in nats, one element, differentiable.
    pub sum: Tensor<1>,
    /// Sum of the weights.
    pub count: f64,
}

/// The loss of `logits` against `targets` at the positions whose weight is not zero.
///
/// The mask is by position, so a target that equals the padding or end-of-text id still counts where its weight says so.
///
/// # Shapes
/// `logits` `[rows, vocab_size]`, `targets` and `weights` `[rows]`
pub fn cross_entropy(logits: Tensor<2>, targets: &[u32], weights: &[f32]) -> Result<LossSum, ModelError> {
    let count = weights.iter().map(|&weight| f64::from(weight)).sum();
    let device = logits.device();
    let mask: Tensor<1> = Tensor::from_data(TensorData::new(weights.to_vec(), [weights.len()]), &device);
    let picked = picked_log_probabilities(logits, targets, weights)?;
    Ok(LossSum { sum: (picked * mask).sum().neg(), count })
}

/// For each position the negative log-likelihood of its target in nats, and whether the target is the most likely token.
///
/// # Shapes
/// `logits` `[rows, vocab_size]`, `targets` `[rows]` -> `[rows]` of (nll, correct)
pub fn token_scores(logits: Tensor<2>, targets: &[u32]) -> Result<Vec<(f32, bool)>, ModelError> {
    let best = logits.clone().argmax(1).reshape([targets.len()]);
    let picked = picked_log_probabilities(logits, targets, &vec![1.0; targets.len()])?;
    let nll = crate::parameters::to_host("token losses", picked)?.values;
    let wrong = |reason: String| ModelError::Readback { what: "most likely tokens".to_owned(), reason };
    let best = best.try_into_data().map_err(|error| wrong(error.to_string()))?.convert::<i64>();
    let best = best.try_into_vec::<i64>().map_err(|error| wrong(format!("{error:?}")))?;
    Ok(nll.iter().zip(best).zip(targets).map(|((&log_p, id), &target)| (-log_p, id == i64::from(target))).collect())
}

fn picked_log_probabilities(logits: Tensor<2>, targets: &[u32], weights: &[f32]) -> Result<Tensor<1>, ModelError> {
    let [rows, vocab_size] = logits.dims();
    if targets.len() != rows || weights.len() != rows {
        let reason = format!("{rows} rows of logits, {} targets and {} weights", targets.len(), weights.len());
        return Err(ModelError::BadInput { reason });
    }
    if let Some(position) = targets.iter().position(|&id| id as usize >= vocab_size) {
        return Err(ModelError::TokenOutOfRange { id: targets[position], position, vocab_size });
    }
    let ids: Vec<i32> = targets.iter().map(|&id| id as i32).collect();
    let indices: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids, [rows, 1]), &logits.device());
    Ok(activation::log_softmax(logits, 1).gather(1, indices).reshape([rows]))
}
