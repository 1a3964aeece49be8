//! Which elements dropout drops: a pure function of the seed, the place in the network, the step and the window, so that a resumed run, any
//! number of threads and a batch in other pieces drop the same.

use codex_core::Stream;
use codex_ops::{Dropout, Mask};

use crate::error::ModelError;

/// The masks of one forward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutDraws {
    /// The run's seed.
    pub seed: u64,
    /// The optimizer step.
    pub step: u64,
    /// Which window of the step the pass begins with.
    pub first_window: u64,
    /// Probability of dropping an element, 0 up to, but not, 1.
    pub probability: f64,
}

impl DropoutDraws {
    /// The mask of a place such as `blocks.0.attention`, where each window has `per_window` elements; `None` when nothing is dropped.
    pub(crate) fn mask(&self, place: &str, per_window: usize) -> Result<Option<Mask>, ModelError> {
        if self.probability <= 0.0 {
            return Ok(None);
        }
        let key = Stream::key(self.seed, &format!("dropout:{place}"));
        let dropout = Dropout::new(key, self.step, self.probability).map_err(|error| ModelError::BadInput { reason: error.to_string() })?;
        Ok(Some(Mask { dropout, first_element: self.first_window.wrapping_mul(per_window as u64) }))
    }
}
