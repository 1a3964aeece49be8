//! Cross-entropy of a chunk of logits, with its gradient written over them.
//!
//! For a row with logits `x`, target `t`, weight `w`, `lse = log(sum of e^x)`, label smoothing `s` over `V` tokens (C. Szegedy et al., 2016) and
//! z-loss `z` (A. Chowdhery et al., "PaLM", 2022):
//!
//! `loss = w * ((1 - s) * (lse - x[t]) + s * mean(lse - x) + z * lse^2)`
//!
//! `d loss / d x[v] = w * ((1 + 2 z lse) * e^(x[v] - lse) - s / V - (1 - s) [v = t])`

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use crate::error::{RowsError, check_ids, check_length, check_setting, count_rows};
use crate::exponential::exp_of_negative;
use crate::grid::rows_per_task;
use crate::isa::{Isa, Kernel, fma, run};
use crate::lanes::{maximum, sum_by};

/// What the loss adds to plain cross-entropy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSettings {
    /// Share of the target that is spread evenly over the vocabulary, 0 to 1.
    pub label_smoothing: f64,
    /// Factor of the squared log-sum-exp.
    pub z_loss: f64,
}

/// What the rows of logits are measured against.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// `[rows]`, each below the vocabulary's size, also where its weight is 0.
    pub ids: &'a [u32],
    /// `[rows]`; a row of weight 0 adds nothing, whatever its logits are.
    pub weights: &'a [f32],
}

/// Elements whose exponentials are summed in f32 before the sum goes on in f64.
const BLOCK: usize = 512;

/// The summed loss, each row's in f64, added in row order. 0 for no rows.
///
/// # Shapes
/// `logits` `[rows, vocab_size]`
pub fn loss(isa: Isa, logits: &[f32], vocab_size: usize, targets: Targets<'_>, settings: LossSettings) -> Result<f64, RowsError> {
    check(logits.len(), vocab_size, targets, settings)?;
    let n = rows_per_task(vocab_size);
    let mut losses = vec![0.0; targets.ids.len()];
    let tasks = logits.par_chunks(n * vocab_size).zip(targets.ids.par_chunks(n)).zip(targets.weights.par_chunks(n));
    tasks.zip(losses.par_chunks_mut(n)).for_each(|(((logits, ids), weights), losses)| {
        run(isa, Loss { logits, vocab_size, targets: Targets { ids, weights }, settings, losses });
    });
    Ok(losses.iter().sum())
}

/// The same sum to the bit, and `logits` replaced by its gradient. Scale the weights to scale both.
///
/// # Shapes
/// `logits` `[rows, vocab_size]`
pub fn loss_and_gradient(
    isa: Isa,
    logits: &mut [f32],
    vocab_size: usize,
    targets: Targets<'_>,
    settings: LossSettings,
) -> Result<f64, RowsError> {
    check(logits.len(), vocab_size, targets, settings)?;
    let n = rows_per_task(vocab_size);
    let mut losses = vec![0.0; targets.ids.len()];
    let tasks = logits.par_chunks_mut(n * vocab_size).zip(targets.ids.par_chunks(n)).zip(targets.weights.par_chunks(n));
    tasks.zip(losses.par_chunks_mut(n)).for_each(|(((logits, ids), weights), losses)| {
        run(isa, LossAndGradient { logits, vocab_size, targets: Targets { ids, weights }, settings, losses });
    });
    Ok(losses.iter().sum())
}

/// For each row the negative log-likelihood of its target in nats, and whether the target is the first of the most likely tokens.
///
/// # Shapes
/// `logits` `[rows, vocab_size]`, `ids` `[rows]` -> `[rows]`
pub fn token_scores(isa: Isa, logits: &[f32], vocab_size: usize, ids: &[u32]) -> Result<Vec<(f32, bool)>, RowsError> {
    let operation = "token scores";
    let n_rows = count_rows(operation, "logits", vocab_size, logits.len())?;
    check_length(operation, "ids", n_rows, ids.len())?;
    check_ids(operation, ids, vocab_size)?;
    let scores = logits.par_chunks(vocab_size).zip(ids.par_iter()).with_min_len(rows_per_task(vocab_size));
    Ok(scores.map(|(row, &id)| run(isa, Score { row, target: id as usize })).collect())
}

fn check(n_logits: usize, vocab_size: usize, targets: Targets<'_>, settings: LossSettings) -> Result<(), RowsError> {
    let operation = "cross-entropy";
    let n_rows = count_rows(operation, "logits", vocab_size, n_logits)?;
    check_length(operation, "ids", n_rows, targets.ids.len())?;
    check_length(operation, "weights", n_rows, targets.weights.len())?;
    check_ids(operation, targets.ids, vocab_size)?;
    let LossSettings { label_smoothing, z_loss } = settings;
    check_setting(operation, "label_smoothing", "0 to 1", label_smoothing, (0.0..=1.0).contains(&label_smoothing))?;
    check_setting(operation, "z_loss", "a finite number, at least 0", z_loss, z_loss.is_finite() && z_loss >= 0.0)
}

/// What one pass over a row finds.
#[derive(Clone, Copy)]
struct RowSums {
    maximum: f32,
    /// Sum of `e^(x - maximum)`.
    exponentials: f64,
    /// Sum of `maximum - x`, where smoothing asks for it.
    distances: f64,
}

impl RowSums {
    fn log_sum_exp(&self) -> f64 {
        f64::from(self.maximum) + libm::log(self.exponentials)
    }

    /// The loss of the row.
    fn loss(&self, target_logit: f32, vocab_size: usize, weight: f32, settings: LossSettings) -> f64 {
        let LossSettings { label_smoothing, z_loss } = settings;
        let log_sum = libm::log(self.exponentials);
        let mut loss = f64::from(self.maximum) - f64::from(target_logit) + log_sum;
        if label_smoothing > 0.0 {
            let mean = self.distances / vocab_size as f64 + log_sum;
            loss = (1.0 - label_smoothing) * loss + label_smoothing * mean;
        }
        if z_loss > 0.0 {
            loss += z_loss * self.log_sum_exp() * self.log_sum_exp();
        }
        f64::from(weight) * loss
    }
}

/// Sums of a row; `block` receives each block's exponentials as (start, values).
#[inline(always)]
fn row_sums<const FMA: bool>(row: &[f32], with_distances: bool) -> RowSums {
    let maximum = maximum(row);
    let mut sums = RowSums { maximum, exponentials: 0.0, distances: 0.0 };
    let mut scratch = [0.0; BLOCK];
    for block in row.chunks(BLOCK) {
        if with_distances {
            sums.distances += f64::from(sum_by(block, |sum, x| sum + (maximum - x)));
        }
        let scratch = &mut scratch[..block.len()];
        for (e, &x) in scratch.iter_mut().zip(block) {
            *e = exp_of_negative::<FMA>(x - maximum);
        }
        sums.exponentials += f64::from(sum_by(scratch, |sum, e| sum + e));
    }
    sums
}

/// The same sums; the exponentials stay in the row.
#[inline(always)]
fn row_sums_in_place<const FMA: bool>(row: &mut [f32], with_distances: bool) -> RowSums {
    let maximum = maximum(row);
    let mut sums = RowSums { maximum, exponentials: 0.0, distances: 0.0 };
    for block in row.chunks_mut(BLOCK) {
        if with_distances {
            sums.distances += f64::from(sum_by(block, |sum, x| sum + (maximum - x)));
        }
        for x in block.iter_mut() {
            *x = exp_of_negative::<FMA>(*x - maximum);
        }
        sums.exponentials += f64::from(sum_by(block, |sum, e| sum + e));
    }
    sums
}

struct Loss<'a> {
    logits: &'a [f32],
    vocab_size: usize,
    targets: Targets<'a>,
    settings: LossSettings,
    losses: &'a mut [f64],
}

impl Kernel for Loss<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let rows = self.logits.chunks_exact(self.vocab_size).zip(self.targets.ids).zip(self.targets.weights);
        for (((row, &id), &weight), loss) in rows.zip(self.losses) {
            if weight != 0.0 {
                let sums = row_sums::<FMA>(row, self.settings.label_smoothing > 0.0);
                *loss = sums.loss(row[id as usize], self.vocab_size, weight, self.settings);
            }
        }
    }
}

struct LossAndGradient<'a> {
    logits: &'a mut [f32],
    vocab_size: usize,
    targets: Targets<'a>,
    settings: LossSettings,
    losses: &'a mut [f64],
}

impl Kernel for LossAndGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let LossSettings { label_smoothing, z_loss } = self.settings;
        let rows = self.logits.chunks_exact_mut(self.vocab_size).zip(self.targets.ids).zip(self.targets.weights);
        for (((row, &id), &weight), loss) in rows.zip(self.losses) {
            if weight == 0.0 {
                row.fill(0.0);
                continue;
            }
            let target_logit = row[id as usize];
            let sums = row_sums_in_place::<FMA>(row, label_smoothing > 0.0);
            *loss = sums.loss(target_logit, self.vocab_size, weight, self.settings);

            let pull = if z_loss > 0.0 { 1.0 + 2.0 * z_loss * sums.log_sum_exp() } else { 1.0 };
            let scale = f64::from(weight) * pull / sums.exponentials;
            let spread = -f64::from(weight) * label_smoothing / self.vocab_size as f64;
            // The target's share is near 1 in a trained model; in f64 the difference to 1 keeps its digits.
            let at_target = f64::from(row[id as usize]) * scale + spread - f64::from(weight) * (1.0 - label_smoothing);
            let (factor, offset) = (scale as f32, spread as f32);
            for value in row.iter_mut() {
                *value = fma::<FMA>(*value, factor, offset);
            }
            row[id as usize] = at_target as f32;
        }
    }
}

struct Score<'a> {
    row: &'a [f32],
    target: usize,
}

impl Kernel for Score<'_> {
    type Output = (f32, bool);

    #[inline(always)]
    fn run<const FMA: bool>(self) -> (f32, bool) {
        let sums = row_sums::<FMA>(self.row, false);
        let logit = self.row[self.target];
        let nll = sums.loss(logit, self.row.len(), 1.0, LossSettings::default()) as f32;
        let is_argmax = !nll.is_nan() && logit >= sums.maximum && self.row[..self.target].iter().all(|&earlier| earlier < logit);
        (nll, is_argmax)
    }
}
