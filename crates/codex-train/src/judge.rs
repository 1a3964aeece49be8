//! Which steps are taken: by the spike guard and, with products in f16, the scaling of the loss. Both are part of the trainer's state.

use codex_model::Precision;

use crate::loss_scale::LossScale;
use crate::plan::RunPlan;
use crate::spikes::Spikes;
use crate::state::TrainState;
use crate::step::{StepHooks, Unfit};

/// Says which steps are taken.
pub(crate) struct Judge<'s> {
    deviations: f64,
    spikes: &'s mut Spikes,
    scale: Option<&'s mut LossScale>,
    /// Whether the last step overflowed.
    pub(crate) has_overflowed: bool,
}

impl<'s> Judge<'s> {
    pub(crate) fn new(plan: &RunPlan, state: &'s mut TrainState) -> Self {
        if plan.train.precision == Precision::F16 {
            state.loss_scale.get_or_insert(LossScale::new(plan.train.loss_scale));
        }
        let TrainState { spikes, loss_scale, .. } = state;
        Self { deviations: plan.train.spike_deviations, spikes, scale: loss_scale.as_mut(), has_overflowed: false }
    }
}

impl StepHooks for Judge<'_> {
    fn accept(&mut self, loss: f64, grad_norm: f64) -> Result<bool, Unfit> {
        if let Some(scale) = &mut self.scale
            && !scale.judge(grad_norm)?
        {
            self.has_overflowed = true;
            return Ok(false);
        }
        self.spikes.judge(self.deviations, loss, grad_norm)
    }

    fn loss_scale(&self) -> Option<f64> {
        self.scale.as_ref().map(|scale| scale.factor)
    }
}
