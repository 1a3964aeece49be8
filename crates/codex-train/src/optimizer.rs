//! AdamW with decoupled weight decay, and the gradients it takes: summed over micro-batches, scaled by target tokens, clipped by their
//! global norm.
//!
//! References: I. Loshchilov and F. Hutter, "Decoupled weight decay regularization" (2019); R. Pascanu et al. (2013) for clipping.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use codex_core::{HostTensor, TensorMap};
use codex_model::parameters::{decays, to_host};
use codex_model::{Decoder, ModelError};
use codex_ops::adamw::{AdamWStep, Moments, Update, adamw, sum_of_squares};

use crate::config::TrainConfig;

/// Gradients by path, each flattened, and one factor for all of them.
#[derive(Debug)]
pub struct GradientSum {
    by_path: BTreeMap<String, Tensor<1>>,
    /// What every gradient is still to be multiplied by: the optimizer does it as it reads them.
    factor: f64,
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

/// AdamW's two moments for every parameter, flattened, by path.
#[derive(Debug)]
pub struct AdamW {
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// Moments of zero for each parameter that is trained.
    pub fn new(model: &Decoder, device: &Device) -> Self {
        let zeros = |shape: &[usize]| Tensor::zeros([shape.iter().product::<usize>()], device);
        let start = |(path, shape): (String, Vec<usize>)| (path, Moments { first: zeros(&shape), second: zeros(&shape) });
        Self { moments: model.trained_shapes().into_iter().map(start).collect() }
    }

    /// The moments, sharing their memory where it is the host's, as host tensors named `m.<path>` and `v.<path>`.
    pub fn collect(&self, model: &Decoder) -> Result<TensorMap, ModelError> {
        let shapes = model.trained_shapes();
        let mut tensors = TensorMap::new();
        for (path, moments) in &self.moments {
            for (name, tensor) in [("m", &moments.first), ("v", &moments.second)] {
                let mut host = to_host(path, tensor.clone())?;
                if let Some(shape) = shapes.get(path) {
                    host.shape.clone_from(shape);
                }
                tensors.insert(format!("{name}.{path}"), host);
            }
        }
        Ok(tensors)
    }

    /// The optimizer whose moments were [collected](Self::collect); names and shapes are checked.
    pub fn restore(model: &Decoder, tensors: &TensorMap, device: &Device) -> Result<Self, ModelError> {
        let shapes = model.trained_shapes();
        if let Some((path, tensor)) = tensors.iter().find(|(name, _)| !name.get(2..).is_some_and(|path| shapes.contains_key(path))) {
            return Err(ModelError::LeftOverTensor { path: path.clone(), found: tensor.shape.clone() });
        }
        let mut moments = BTreeMap::new();
        for (path, shape) in shapes {
            let read = |name: &str| {
                let key = format!("{name}.{path}");
                let tensor = tensors.get(&key).ok_or_else(|| ModelError::MissingTensor { path: key.clone(), expected: shape.clone() })?;
                flat(&key, &shape, tensor, device)
            };
            let both = Moments { first: read("m")?, second: read("v")? };
            moments.insert(path, both);
        }
        Ok(Self { moments })
    }

    /// One update of every parameter by its gradient. `step` counts from 1.
    pub fn step(&mut self, model: Decoder, gradients: GradientSum, config: &TrainConfig, learning_rate: f64, step: u64) -> Decoder {
        let exponent = step as f64;
        let step = AdamWStep {
            learning_rate,
            beta1: config.beta1,
            beta2: config.beta2,
            epsilon: config.epsilon,
            weight_decay: config.weight_decay,
            correction1: 1.0 - libm::pow(config.beta1, exponent),
            correction2: 1.0 - libm::pow(config.beta2, exponent),
            gradient_scale: gradients.factor,
        };
        // The parameters leave the model while they are written, so that nobody else holds their memory; what has no gradient stays.
        let mut taking =
            TakeParameters { path: Vec::new(), moments: &mut self.moments, gradients: gradients.by_path, step, taken: Vec::new() };
        let model = model.map(&mut taking);
        let (paths, updates): (Vec<String>, Vec<Update>) = taking.taken.into_iter().unzip();
        let mut updated = BTreeMap::new();
        for (path, (parameter, moments)) in paths.into_iter().zip(adamw(updates)) {
            updated.insert(path.clone(), parameter);
            self.moments.insert(path, moments);
        }
        let shapes = model.trained_shapes();
        model.map(&mut PutParameters { path: Vec::new(), updated, shapes })
    }
}

fn flat(path: &str, shape: &[usize], tensor: &HostTensor, device: &Device) -> Result<Tensor<1>, ModelError> {
    if tensor.shape != shape {
        return Err(ModelError::WrongShape { path: path.to_owned(), expected: shape.to_vec(), found: tensor.shape.clone() });
    }
    Ok(Tensor::from_data(TensorData::new(tensor.values.to_vec(), [tensor.values.len()]), device))
}

/// Takes every parameter that has a gradient out of a model, and leaves an empty tensor in its place.
struct TakeParameters<'a> {
    path: Vec<String>,
    moments: &'a mut BTreeMap<String, Moments>,
    gradients: BTreeMap<String, Tensor<1>>,
    step: AdamWStep,
    taken: Vec<(String, Update)>,
}

impl ModuleMapper for TakeParameters<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let Some(moments) = self.moments.remove(&path) else { return param };
        let Some(gradient) = self.gradients.remove(&path) else {
            self.moments.insert(path, moments);
            return param;
        };
        let (id, tensor, mapper) = param.consume();
        let (shape, device) = (tensor.dims(), tensor.device());
        let weight_decay = if decays(&shape) { self.step.weight_decay } else { 0.0 };
        let parameter = tensor.inner().reshape([shape.iter().product::<usize>()]);
        self.taken.push((path, Update { step: AdamWStep { weight_decay, ..self.step }, parameter, moments, gradient }));
        Param::from_mapped_value(id, Tensor::zeros([0; D], &device), mapper)
    }
}

/// Puts the updated parameters where they were.
struct PutParameters {
    path: Vec<String>,
    updated: BTreeMap<String, Tensor<1>>,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl ModuleMapper for PutParameters {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let Some((parameter, shape)) = self.updated.remove(&path).zip(self.shapes.get(&path)) else { return param };
        let mut dims = [0; D];
        dims.copy_from_slice(shape);
        let (id, _, mapper) = param.consume();
        Param::from_mapped_value(id, Tensor::from_inner(parameter.reshape(dims)).require_grad(), mapper)
    }
}
