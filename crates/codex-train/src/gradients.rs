//! The gradients of a step: summed over micro-batches, scaled by target tokens, clipped by their global norm (R. Pascanu et al., 2013).

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use codex_model::parameters::to_host;
use codex_model::{Decoder, GradientsOf, LossSum, ModelError, Targets, WindowBatch};
use codex_ops::adamw::sum_of_squares;

/// Gradients by path, each flattened, and one factor for all of them.
#[derive(Debug)]
pub struct GradientSum {
    pub(crate) by_path: BTreeMap<String, Tensor<1>>,
    /// What every gradient is still to be multiplied by: the optimizer does it as it reads them.
    pub(crate) factor: f64,
}

impl Default for GradientSum {
    fn default() -> Self {
        Self { by_path: BTreeMap::new(), factor: 1.0 }
    }
}

impl GradientSum {
    /// Adds the gradients of one backward pass.
    pub fn add(&mut self, model: &Decoder, gradients: &mut Gradients) {
        let mut take = Take { path: Vec::new(), gradients, into: &mut self.by_path };
        model.visit(&mut take);
    }

    /// Adds the gradients of the loss of these windows, computed with one block's activations at a time; returns the loss.
    ///
    /// # Errors
    /// As [`Decoder::loss_by_block`].
    pub fn add_by_block(&mut self, model: &Decoder, windows: &WindowBatch<'_>, targets: Targets<'_>) -> Result<LossSum, ModelError> {
        // An embedding that is the head too has two gradients, which are added to each other before they are to those of other passes, as in one pass.
        let mut ends = Self::default();
        let loss = model.loss_by_block(windows, targets, &mut |of, found| match of {
            GradientsOf::Block(_) => self.add(model, found),
            GradientsOf::Head | GradientsOf::Embedding => ends.add(model, found),
        })?;
        for (path, gradient) in ends.by_path {
            put(&mut self.by_path, path, gradient);
        }
        Ok(loss)
    }

    /// Multiplies every gradient by `factor` and then, if their global norm exceeds `clip_norm` and that is not 0, scales them down to it.
    /// Returns the norm before clipping.
    pub fn scale_and_clip(&mut self, factor: f64, clip_norm: f64) -> Result<f64, ModelError> {
        let mut total = 0.0;
        for (path, gradient) in &self.by_path {
            let readback = |reason| ModelError::Readback { what: format!("gradient of {path}"), reason };
            total += sum_of_squares(gradient.clone()).map_err(readback)?;
        }
        let norm = factor * libm::sqrt(total);
        let shrink = if clip_norm > 0.0 && norm > clip_norm { clip_norm / norm } else { 1.0 };
        self.factor = factor * shrink;
        Ok(norm)
    }

    /// The gradients on the host, each flattened, by path.
    pub fn to_host(&self) -> Result<BTreeMap<String, Vec<f32>>, ModelError> {
        let scaled = |(path, gradient): (&String, &Tensor<1>)| {
            let values = to_host(path, gradient.clone())?.values;
            Ok((path.clone(), values.iter().map(|value| value * self.factor as f32).collect()))
        };
        self.by_path.iter().map(scaled).collect()
    }
}

/// Adds a gradient to what is there of its path.
fn put(all: &mut BTreeMap<String, Tensor<1>>, path: String, gradient: Tensor<1>) {
    let summed = match all.remove(&path) {
        Some(before) => before + gradient,
        None => gradient,
    };
    all.insert(path, summed);
}

struct Take<'a> {
    path: Vec<String>,
    gradients: &'a mut Gradients,
    into: &'a mut BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for Take<'_> {
    codex_model::follows_path!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = param.val().grad_remove(self.gradients) else { return };
        let n = gradient.shape().num_elements();
        let gradient = gradient.reshape([n]);
        let path = self.path.join(".");
        put(self.into, path, gradient);
    }
}
