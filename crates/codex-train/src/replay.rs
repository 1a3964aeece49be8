//! Taking steps again that a run has taken, from one of its checkpoints, to compare what comes out.

use std::collections::BTreeSet;

use burn::tensor::Device;
use codex_checkpoint::{Loaded, tensor_file};
use codex_core::Digest;
use codex_model::parameters;

use crate::error::TrainError;
use crate::judge::Judge;
use crate::plan::RunPlan;
use crate::state::TrainState;
use crate::step::{Learner, StepSource};
use crate::train::restore;

/// A step that was taken again.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayedStep {
    /// The step.
    pub step: u64,
    /// Its loss.
    pub loss: f64,
    /// Its gradient norm before clipping.
    pub grad_norm: f64,
    /// The weights and what the optimizer keeps after it, where that was asked for.
    pub tensors: Option<TensorDigests>,
}

/// What the tensors of a checkpoint are known by: see [`codex_checkpoint::tensor_file::digest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorDigests {
    /// The model.
    pub weights: Digest,
    /// What the optimizer keeps.
    pub moments: Digest,
}

/// Takes the steps after a checkpoint again, as many as `n_steps` says and the plan has, and hands each to `each`, which answers whether to go on. Nothing
/// is written. The digests of the tensors are computed at the steps of `digests_at`.
///
/// # Errors
/// As [`train`](crate::train::train); a checkpoint of another plan.
pub fn replay(
    plan: &RunPlan,
    device: &Device,
    loaded: Loaded,
    n_steps: u64,
    digests_at: &BTreeSet<u64>,
    each: &mut dyn FnMut(&ReplayedStep) -> bool,
) -> Result<(), TrainError> {
    let loader = plan.train_loader()?;
    let (mut learner, mut state) = restore(plan, &device.clone().autodiff(), loaded)?;
    let source = StepSource { seed: plan.seed, config: &plan.train, loader: &loader };
    for _ in 0..n_steps.min(plan.train.steps - state.step.min(plan.train.steps)) {
        let (position, step) = (state.cursor.position, state.step + 1);
        let (moved, outcome) = learner.step(&source, position, step, &mut Judge::new(plan, &mut state))?;
        learner = moved;
        state.step += 1;
        state.cursor.position += plan.train.windows_per_step();
        let tensors = digests_at.contains(&state.step).then(|| digests(&learner, &state)).transpose()?;
        if !each(&ReplayedStep { step: state.step, loss: outcome.loss, grad_norm: outcome.grad_norm, tensors }) {
            break;
        }
    }
    Ok(())
}

fn digests(learner: &Learner, state: &TrainState) -> Result<TensorDigests, TrainError> {
    let wrong = |reason: String| TrainError::State { step: state.step, reason };
    let weights = tensor_file::digest(&parameters::collect_trained(&learner.evaluated())?).map_err(wrong)?;
    let moments = tensor_file::digest(&learner.optimizer.collect(&learner.model)?).map_err(wrong)?;
    Ok(TensorDigests { weights, moments })
}
