//! AdamW with decoupled weight decay (I. Loshchilov and F. Hutter, 2019) in one pass over a flat parameter, and the sum of squares that
//! clipping by the global norm (R. Pascanu et al., 2013) needs.

use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use rayon::slice::ParallelSlice as _;

use crate::error::{RowsError, check_length};
use crate::grid::TASK_ELEMENTS;
use crate::isa::{Isa, Kernel, run};
use crate::lanes::fold_sum;

/// The numbers of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay; 0 for a parameter that does not decay.
    pub weight_decay: f64,
    /// `1 - beta1^step`, where steps count from 1.
    pub correction1: f64,
    /// `1 - beta2^step`.
    pub correction2: f64,
    /// Factor of the gradient: one over the number of target tokens, times what clipping leaves.
    pub gradient_scale: f64,
}

/// A parameter and its two moments, each flat and of one length.
#[derive(Debug)]
pub struct ParameterState<'a> {
    /// The weights.
    pub parameter: &'a mut [f32],
    /// Running mean of the gradient.
    pub first_moment: &'a mut [f32],
    /// Running mean of the squared gradient.
    pub second_moment: &'a mut [f32],
}

impl AdamWStep {
    /// Updates a parameter and its moments:
    ///
    /// `g = gradient_scale * gradient`, `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2`,
    /// `p = p (1 - learning_rate * weight_decay) - learning_rate / correction1 * m / (sqrt(v / correction2) + epsilon)`.
    ///
    /// Each operation is rounded by itself, in the order of the tensor operations that the formula is otherwise made of, so the result has the
    /// same bits on every path.
    pub fn update(&self, isa: Isa, state: ParameterState<'_>, gradient: &[f32]) -> Result<(), RowsError> {
        update_all(isa, vec![ParameterUpdate { step: *self, state, gradient }])
    }

    fn factors(&self) -> Factors {
        Factors {
            gradient_scale: self.gradient_scale as f32,
            keep1: self.beta1 as f32,
            take1: (1.0 - self.beta1) as f32,
            keep2: self.beta2 as f32,
            take2: (1.0 - self.beta2) as f32,
            correction2: self.correction2 as f32,
            epsilon: self.epsilon as f32,
            step_size: (self.learning_rate / self.correction1) as f32,
            decay: (1.0 - self.learning_rate * self.weight_decay) as f32,
        }
    }
}

/// The update of one parameter.
#[derive(Debug)]
pub struct ParameterUpdate<'a> {
    /// Its numbers.
    pub step: AdamWStep,
    /// What is updated.
    pub state: ParameterState<'a>,
    /// Its gradient, of the same length.
    pub gradient: &'a [f32],
}

/// Updates every parameter in one pass; see [`AdamWStep::update`] for the formula. All lengths are checked before anything is written.
pub fn update_all(isa: Isa, parameters: Vec<ParameterUpdate<'_>>) -> Result<(), RowsError> {
    let operation = "AdamW";
    for ParameterUpdate { state, gradient, .. } in &parameters {
        let n = state.parameter.len();
        check_length(operation, "gradient", n, gradient.len())?;
        check_length(operation, "first_moment", n, state.first_moment.len())?;
        check_length(operation, "second_moment", n, state.second_moment.len())?;
    }
    let mut tasks = Vec::new();
    for ParameterUpdate { step, state, gradient } in parameters {
        let factors = step.factors();
        let ParameterState { parameter, first_moment, second_moment } = state;
        let moments = first_moment.chunks_mut(TASK_ELEMENTS).zip(second_moment.chunks_mut(TASK_ELEMENTS));
        let chunks = parameter.chunks_mut(TASK_ELEMENTS).zip(moments).zip(gradient.chunks(TASK_ELEMENTS));
        tasks.extend(chunks.map(|((parameter, (first_moment, second_moment)), gradient)| Update {
            factors,
            state: ParameterState { parameter, first_moment, second_moment },
            gradient,
        }));
    }
    tasks.into_par_iter().for_each(|task| run(isa, task));
    Ok(())
}

/// The sum of squares in f64: fixed runs of elements, each over fixed accumulators, and then pairs of runs, pairs of pairs and so on.
pub fn sum_of_squares(isa: Isa, values: &[f32]) -> f64 {
    let partials = values.par_chunks(TASK_ELEMENTS).map(|values| run(isa, Squares { values }));
    let mut partials: Vec<f64> = partials.collect();
    while partials.len() > 1 {
        partials = partials.chunks(2).map(|pair| pair.iter().sum()).collect();
    }
    partials.first().copied().unwrap_or(0.0)
}

#[derive(Clone, Copy)]
struct Factors {
    gradient_scale: f32,
    keep1: f32,
    take1: f32,
    keep2: f32,
    take2: f32,
    correction2: f32,
    epsilon: f32,
    step_size: f32,
    decay: f32,
}

struct Update<'a> {
    factors: Factors,
    state: ParameterState<'a>,
    gradient: &'a [f32],
}

impl Kernel for Update<'_> {
    type Output = ();

    // No fused multiply-add here: memory bounds the speed, and without it every path gives the same bits.
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let f = self.factors;
        let ParameterState { parameter, first_moment, second_moment } = self.state;
        let moments = first_moment.iter_mut().zip(second_moment);
        for ((parameter, (first, second)), &gradient) in parameter.iter_mut().zip(moments).zip(self.gradient) {
            let gradient = gradient * f.gradient_scale;
            *first = *first * f.keep1 + gradient * f.take1;
            *second = *second * f.keep2 + gradient * gradient * f.take2;
            let denominator = (*second / f.correction2).sqrt() + f.epsilon;
            *parameter = *parameter * f.decay - *first / denominator * f.step_size;
        }
    }
}

struct Squares<'a> {
    values: &'a [f32],
}

/// Accumulators of the sum of squares.
const SQUARE_LANES: usize = 16;

impl Kernel for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> f64 {
        let (chunks, rest) = self.values.as_chunks::<SQUARE_LANES>();
        let mut lanes = [0.0; SQUARE_LANES];
        // The square of an f32 is exact in f64, so one rounding or two give the same bits.
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(value) * f64::from(value);
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(value) * f64::from(value);
        }
        fold_sum(lanes)
    }
}
