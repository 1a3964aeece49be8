//! Steps whose loss or gradient norm stands out: they are skipped, told, and after some in a row the run stops.

use serde::{Deserialize, Serialize};

use crate::step::{NoHooks, StepHooks as _, Unfit};

/// Steps before any is judged.
const WARMUP: u64 = 20;
/// Share of a new value in the running means: about the last fifty steps count.
const SHARE: f64 = 0.02;

/// Running means of what steps were, part of the trainer's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spikes {
    /// Steps that count in the means.
    pub observed: u64,
    /// The loss.
    pub loss: Running,
    /// The gradient norm before clipping.
    pub grad_norm: Running,
    /// Steps skipped since the last that was taken.
    pub in_a_row: u64,
    /// All steps skipped.
    pub skipped: u64,
}

/// A running mean and variance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Running {
    /// The mean.
    pub mean: f64,
    /// The variance.
    pub variance: f64,
}

impl Running {
    /// The value from which on a number is a spike.
    fn bound(&self, deviations: f64) -> f64 {
        self.mean + deviations * libm::sqrt(self.variance)
    }

    fn add(&mut self, value: f64, share: f64) {
        let off = value - self.mean;
        self.mean += share * off;
        self.variance = (1.0 - share) * (self.variance + share * off * off);
    }
}

impl Spikes {
    /// Whether a step is to be taken: where no spikes are looked for, any whose numbers are finite, and others end the run.
    pub(crate) fn judge(&mut self, deviations: f64, loss: f64, grad_norm: f64) -> Result<bool, Unfit> {
        if deviations > 0.0 { Ok(self.accept(deviations, loss, grad_norm)) } else { NoHooks.accept(loss, grad_norm) }
    }

    /// Whether a step is to be taken, of which note is made either way. A number that is not finite is never taken.
    fn accept(&mut self, deviations: f64, loss: f64, grad_norm: f64) -> bool {
        let is_finite = loss.is_finite() && grad_norm.is_finite();
        let stands_out = self.observed >= WARMUP && (loss > self.loss.bound(deviations) || grad_norm > self.grad_norm.bound(deviations));
        if !is_finite || stands_out {
            self.in_a_row += 1;
            self.skipped += 1;
            return false;
        }
        self.observed += 1;
        self.in_a_row = 0;
        let share = (1.0 / self.observed as f64).max(SHARE);
        self.loss.add(loss, share);
        self.grad_norm.add(grad_norm, share);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_out_is_skipped_and_leaves_the_means_alone() {
        let mut spikes = Spikes::default();
        for step in 0..60 {
            assert!(spikes.accept(6.0, 4.0 - 0.01 * f64::from(step) + 0.05 * f64::from(step % 3), 1.0 + 0.1 * f64::from(step % 2)));
        }
        let before = spikes;
        assert!(!spikes.accept(6.0, 9.0, 1.0) && !spikes.accept(6.0, 3.5, 40.0) && !spikes.accept(6.0, f64::NAN, 1.0));
        assert_eq!((spikes.in_a_row, spikes.skipped, spikes.loss, spikes.grad_norm), (3, 3, before.loss, before.grad_norm));
        assert!(spikes.accept(6.0, 3.5, 1.0) && spikes.in_a_row == 0);
        // Far below is no spike.
        assert!(spikes.accept(6.0, 0.1, 0.01));
    }

    #[test]
    fn the_first_steps_are_not_judged() {
        let mut spikes = Spikes::default();
        assert!((0..20).all(|step| spikes.accept(1.0, f64::from(step * step), 1.0)));
        assert!(!spikes.accept(1.0, 1e6, 1.0));
    }
}
