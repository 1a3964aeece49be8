//! The gradients of a step: summed over micro-batches, scaled by target tokens, clipped by their global norm (R. Pascanu et al., 2013).

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use codex_model::parameters::to_host;
use codex_model::{Decoder, ModelError};
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

struct Take<'a> {
    path: Vec<String>,
    gradients: &'a mut Gradients,
    into: &'a mut BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for Take<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = param.val().grad_remove(self.gradients) else { return };
        let n = gradient.shape().num_elements();
        let gradient = gradient.reshape([n]);
        let path = self.path.join(".");
        let summed = match self.into.remove(&path) {
            Some(before) => before + gradient,
            None => gradient,
        };
        self.into.insert(path, summed);
    }
}
