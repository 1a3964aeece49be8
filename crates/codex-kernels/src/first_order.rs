//! Optimizers that keep one running mean: stochastic gradient descent with momentum (B. Polyak, 1964; Y. Nesterov, 1983) and Lion (X. Chen et al.,
//! "Symbolic discovery of optimization algorithms", 2023), both with decoupled weight decay; and the running mean of weights.

use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use crate::error::{RowsError, check_length};
use crate::grid::TASK_ELEMENTS;
use crate::isa::{Isa, Kernel, run};

/// What is made of a gradient and its running mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// `m = momentum m + g`; the direction is `m`, or `g + momentum m` where it looks ahead.
    Sgd {
        /// What is kept of the mean.
        momentum: f64,
        /// Whether it looks ahead (Nesterov).
        nesterov: bool,
    },
    /// The direction is the sign of `beta1 m + (1 - beta1) g`; then `m = beta2 m + (1 - beta2) g`.
    Lion {
        /// What the direction keeps of the mean.
        beta1: f64,
        /// What the mean keeps of itself.
        beta2: f64,
    },
}

/// The numbers of one update: `g = gradient_scale * gradient`, `p = p (1 - learning_rate * weight_decay) - learning_rate * direction`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FirstOrderStep {
    /// How the direction is found.
    pub rule: Rule,
    /// Step size.
    pub learning_rate: f64,
    /// Decoupled weight decay; 0 for a parameter that does not decay.
    pub weight_decay: f64,
    /// Factor of the gradient.
    pub gradient_scale: f64,
}

/// The update of one parameter; all three are of one length.
#[derive(Debug)]
pub struct FirstOrderUpdate<'a> {
    /// Its numbers.
    pub step: FirstOrderStep,
    /// The weights.
    pub parameter: &'a mut [f32],
    /// Running mean of the gradient.
    pub mean: &'a mut [f32],
    /// The gradient.
    pub gradient: &'a [f32],
}

/// Updates every parameter in one pass. All lengths are checked before anything is written. Each operation is rounded by itself, so the result has
/// the same bits on every path.
pub fn update_all(isa: Isa, updates: Vec<FirstOrderUpdate<'_>>) -> Result<(), RowsError> {
    for FirstOrderUpdate { parameter, mean, gradient, .. } in &updates {
        check_length("first-order update", "mean", parameter.len(), mean.len())?;
        check_length("first-order update", "gradient", parameter.len(), gradient.len())?;
    }
    let mut tasks = Vec::new();
    for FirstOrderUpdate { step, parameter, mean, gradient } in updates {
        let chunks = parameter.chunks_mut(TASK_ELEMENTS).zip(mean.chunks_mut(TASK_ELEMENTS)).zip(gradient.chunks(TASK_ELEMENTS));
        tasks.extend(chunks.map(|((parameter, mean), gradient)| FirstOrderUpdate { step, parameter, mean, gradient }));
    }
    tasks.into_par_iter().for_each(|task| run(isa, task));
    Ok(())
}

impl Kernel for FirstOrderUpdate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self { step, parameter, mean, gradient } = self;
        let (scale, rate) = (step.gradient_scale as f32, step.learning_rate as f32);
        let decay = (1.0 - step.learning_rate * step.weight_decay) as f32;
        let all = parameter.iter_mut().zip(mean).zip(gradient);
        match step.rule {
            Rule::Sgd { momentum, nesterov } => {
                let (momentum, ahead) = (momentum as f32, if nesterov { 1.0 } else { 0.0 });
                for ((parameter, mean), &gradient) in all {
                    let gradient = gradient * scale;
                    *mean = *mean * momentum + gradient;
                    // Looking ahead or not without a branch: `m`, or `g + momentum m`.
                    let direction = *mean + ahead * (gradient + *mean * momentum - *mean);
                    *parameter = *parameter * decay - direction * rate;
                }
            }
            Rule::Lion { beta1, beta2 } => {
                let (keep1, take1, keep2, take2) = (beta1 as f32, (1.0 - beta1) as f32, beta2 as f32, (1.0 - beta2) as f32);
                for ((parameter, mean), &gradient) in all {
                    let gradient = gradient * scale;
                    let leaning = *mean * keep1 + gradient * take1;
                    let direction = if leaning > 0.0 {
                        1.0
                    } else if leaning < 0.0 {
                        -1.0
                    } else {
                        0.0
                    };
                    *parameter = *parameter * decay - direction * rate;
                    *mean = *mean * keep2 + gradient * take2;
                }
            }
        }
    }
}

/// Moves a running mean of weights: `average = keep * average + (1 - keep) * values`.
pub fn blend_all(isa: Isa, keep: f64, pairs: Vec<(&mut [f32], &[f32])>) -> Result<(), RowsError> {
    for (average, values) in &pairs {
        check_length("running mean", "values", average.len(), values.len())?;
    }
    let mut tasks = Vec::new();
    for (average, values) in pairs {
        let chunks = average.chunks_mut(TASK_ELEMENTS).zip(values.chunks(TASK_ELEMENTS));
        tasks.extend(chunks.map(|(average, values)| Blend { keep: keep as f32, take: (1.0 - keep) as f32, average, values }));
    }
    tasks.into_par_iter().for_each(|task| run(isa, task));
    Ok(())
}

struct Blend<'a> {
    keep: f32,
    take: f32,
    average: &'a mut [f32],
    values: &'a [f32],
}

impl Kernel for Blend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self { keep, take, average, values } = self;
        for (average, &value) in average.iter_mut().zip(values) {
            *average = *average * keep + value * take;
        }
    }
}
