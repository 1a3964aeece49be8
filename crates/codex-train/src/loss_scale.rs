//! Loss scaling: with products in f16, small gradients would round to zero, so the loss is multiplied before the backward pass and the gradients are divided
//! after it (P. Micikevicius et al., "Mixed precision training", 2018).

use serde::{Deserialize, Serialize};

use crate::step::Unfit;

/// Steps without an overflow after which the factor is doubled.
const GROWS_AFTER: u64 = 2000;
/// The least factor: below it, what overflows is not the scaling's doing.
const LEAST: f64 = 1.0 / 65_536.0;
/// The largest.
const MOST: f64 = 16_777_216.0;

/// The factor, part of the trainer's state.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    /// The factor, a power of two where it began as one.
    pub factor: f64,
    /// Steps since the last overflow or change.
    pub good_steps: u64,
    /// Steps that were skipped for it.
    pub skipped: u64,
}

impl LossScale {
    /// Beginning with a factor.
    pub fn new(factor: f64) -> Self {
        Self { factor, good_steps: 0, skipped: 0 }
    }

    /// Whether a step with this gradient norm is to be taken; one that overflowed is not, and halves the factor.
    ///
    /// # Errors
    /// It overflows with the least factor too.
    pub(crate) fn judge(&mut self, grad_norm: f64) -> Result<bool, Unfit> {
        if grad_norm.is_finite() {
            self.good_steps += 1;
            if self.good_steps == GROWS_AFTER {
                (self.factor, self.good_steps) = ((2.0 * self.factor).min(MOST), 0);
            }
            return Ok(true);
        }
        if self.factor <= LEAST {
            return Err(Unfit { what: "gradient norm", value: grad_norm });
        }
        (self.factor, self.good_steps, self.skipped) = (0.5 * self.factor, 0, self.skipped + 1);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_at_an_overflow_and_doubles_after_long_without() {
        let mut scale = LossScale::new(65_536.0);
        assert_eq!(scale.judge(f64::INFINITY), Ok(false));
        assert_eq!(scale, LossScale { factor: 32_768.0, good_steps: 0, skipped: 1 });
        for _ in 0..GROWS_AFTER - 1 {
            assert_eq!(scale.judge(1.0), Ok(true));
        }
        assert_eq!((scale.factor.to_bits(), scale.good_steps), (32_768.0_f64.to_bits(), GROWS_AFTER - 1));
        assert_eq!(scale.judge(1.0), Ok(true));
        assert_eq!((scale.factor.to_bits(), scale.good_steps), (65_536.0_f64.to_bits(), 0));
        let mut scale = LossScale::new(LEAST);
        assert!(scale.judge(f64::NAN).is_err());
        let mut scale = LossScale { good_steps: GROWS_AFTER - 1, ..LossScale::new(MOST) };
        assert_eq!((scale.judge(1.0), scale.factor.to_bits()), (Ok(true), MOST.to_bits()));
    }
}
