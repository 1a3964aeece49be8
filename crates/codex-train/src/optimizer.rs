//! AdamW with decoupled weight decay, and the gradients it takes: summed over micro-batches, scaled by target tokens, clipped by their
//! global norm.
//!
//! References: I. Loshchilov and F. Hutter, "Decoupled weight decay regularization" (2019); R. Pascanu et al. (2013) for clipping.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use codex_core::{HostTensor, TensorMap};
use codex_model::parameters::{decays, shapes, to_host};
use codex_model::{Decoder, ModelError};

use crate::config::TrainConfig;

/// Gradients by path, each flattened.
#[derive(Debug, Default)]
pub struct GradientSum {
    by_path: BTreeMap<String, Tensor<1>>,
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
        let squares: Vec<Tensor<1>> = self.by_path.values().flat_map(|gradient| sums_of_squares(gradient.clone())).collect();
        if squares.is_empty() {
            return Ok(0.0);
        }
        let squares = to_host("gradient norms", Tensor::cat(squares, 0))?;
        let norm = factor * libm::sqrt(squares.values.iter().map(|&square| f64::from(square)).sum());
        let shrink = if clip_norm > 0.0 && norm > clip_norm { clip_norm / norm } else { 1.0 };
        for gradient in self.by_path.values_mut() {
            *gradient = gradient.clone().mul_scalar(factor * shrink);
        }
        Ok(norm)
    }
}

/// Sums of squares over fixed pieces, which the caller adds in their order: a backend's own sum over millions of values is split by threads,
/// and its bits with it.
fn sums_of_squares(gradient: Tensor<1>) -> Vec<Tensor<1>> {
    const PIECE: usize = 1024;
    let n = gradient.dims()[0];
    let squares = gradient.square();
    let (n_pieces, rest) = (n / PIECE, n % PIECE);
    let mut sums = Vec::new();
    if n_pieces > 0 {
        let whole = squares.clone().slice(0..n_pieces * PIECE).reshape([n_pieces, PIECE]);
        sums.push(whole.sum_dim(1).reshape([n_pieces]));
    }
    if rest > 0 {
        sums.push(squares.slice(n_pieces * PIECE..n).sum());
    }
    sums
}

impl GradientSum {
    /// The gradients on the host, each flattened, by path.
    pub fn to_host(&self) -> Result<BTreeMap<String, Vec<f32>>, ModelError> {
        self.by_path.iter().map(|(path, gradient)| Ok((path.clone(), to_host(path, gradient.clone())?.values))).collect()
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

#[derive(Clone, Debug)]
struct Moments {
    first: Tensor<1>,
    second: Tensor<1>,
}

impl AdamW {
    /// Moments of zero for each parameter of the model.
    pub fn new(model: &Decoder, device: &Device) -> Self {
        let zeros = |shape: &[usize]| Tensor::zeros([shape.iter().product::<usize>()], device);
        let start = |(path, shape): (String, Vec<usize>)| (path, Moments { first: zeros(&shape), second: zeros(&shape) });
        Self { moments: shapes(model.config(), model.vocab_size()).into_iter().map(start).collect() }
    }

    /// The moments as host tensors named `m.<path>` and `v.<path>`.
    pub fn collect(&self, model: &Decoder) -> Result<TensorMap, ModelError> {
        let shapes = shapes(model.config(), model.vocab_size());
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
        let shapes = shapes(model.config(), model.vocab_size());
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
    pub fn step(&mut self, model: Decoder, gradients: &GradientSum, config: &TrainConfig, learning_rate: f64, step: u64) -> Decoder {
        let exponent = step as f64;
        let mut update = Update {
            path: Vec::new(),
            moments: &mut self.moments,
            gradients,
            config,
            learning_rate,
            correction1: 1.0 - libm::pow(config.beta1, exponent),
            correction2: 1.0 - libm::pow(config.beta2, exponent),
        };
        model.map(&mut update)
    }
}

fn flat(path: &str, shape: &[usize], tensor: &HostTensor, device: &Device) -> Result<Tensor<1>, ModelError> {
    if tensor.shape != shape {
        return Err(ModelError::WrongShape { path: path.to_owned(), expected: shape.to_vec(), found: tensor.shape.clone() });
    }
    Ok(Tensor::from_data(TensorData::new(tensor.values.clone(), [tensor.values.len()]), device))
}

struct Update<'a> {
    path: Vec<String>,
    moments: &'a mut BTreeMap<String, Moments>,
    gradients: &'a GradientSum,
    config: &'a TrainConfig,
    learning_rate: f64,
    correction1: f64,
    correction2: f64,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let (Some(gradient), Some(moments)) = (self.gradients.by_path.get(&path), self.moments.get_mut(&path)) else { return param };
        let (id, tensor, mapper) = param.consume();
        let shape = tensor.dims();
        let c = self.config;
        let first = moments.first.clone().mul_scalar(c.beta1) + gradient.clone().mul_scalar(1.0 - c.beta1);
        let second = moments.second.clone().mul_scalar(c.beta2) + gradient.clone().square().mul_scalar(1.0 - c.beta2);
        let denominator = second.clone().div_scalar(self.correction2).sqrt().add_scalar(c.epsilon);
        let direction = first.clone().div(denominator).mul_scalar(self.learning_rate / self.correction1);
        let flat = tensor.inner().reshape([shape.iter().product::<usize>()]);
        let decayed = if decays(&shape) { flat.mul_scalar(1.0 - self.learning_rate * c.weight_decay) } else { flat };
        let updated = (decayed - direction).reshape(shape);
        *moments = Moments { first, second };
        Param::from_mapped_value(id, Tensor::from_inner(updated).require_grad(), mapper)
    }
}
