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

/// The draws of a pass over windows of one length; without draws nothing is dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Masks {
    pub(crate) draws: Option<DropoutDraws>,
    pub(crate) time: usize,
}

impl Masks {
    /// No masks.
    pub(crate) const NONE: Self = Self { draws: None, time: 0 };

    /// The mask of a place such as `blocks.0.attention`, where each position has `width` elements; `None` when nothing is dropped.
    pub(crate) fn mask(&self, place: &str, width: usize) -> Result<Option<Mask>, ModelError> {
        self.mask_with(place, width, self.draws.map_or(0.0, |draws| draws.probability))
    }

    /// The same with a probability of its own.
    pub(crate) fn mask_with(&self, place: &str, width: usize, probability: f64) -> Result<Option<Mask>, ModelError> {
        let Some(draws) = self.draws.filter(|_| probability > 0.0) else { return Ok(None) };
        let key = Stream::key(draws.seed, &format!("dropout:{place}"));
        let dropout = Dropout::new(key, draws.step, probability).map_err(|error| ModelError::BadInput { reason: error.to_string() })?;
        let per_window = (self.time * width) as u64;
        Ok(Some(Mask { dropout, first_element: draws.first_window.wrapping_mul(per_window) }))
    }
}
