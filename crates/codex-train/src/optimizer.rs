//! The optimizers: AdamW (I. Loshchilov and F. Hutter, 2019), gradient descent with momentum, Lion (X. Chen et al., 2023), Adafactor (N. Shazeer and
//! M. Stern, 2018) and Muon (K. Jordan et al., 2024), all with decoupled weight decay; and the running mean of weights (B. Polyak, 1992).

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use codex_core::{HostTensor, TensorMap};
use codex_model::parameters::to_host;
use codex_model::{Decoder, ModelError};
use codex_ops::adamw::{AdamWStep, Moments, Update, adamw};
use codex_ops::optimizers::{AdafactorStep, FirstOrder, FirstOrderStep, Rule, Squares, adafactor, blend, first_order, orthogonal};

use crate::config::{OptimizerKind, TrainConfig};
use crate::flat::{Taken, put, take, weights_of};
use crate::gradients::GradientSum;
use crate::groups::{Role, role};

/// What an optimizer keeps of every parameter that is trained, flattened, by path; and the running mean of the weights, where one is kept.
#[derive(Debug)]
pub struct Optimizer {
    slots: BTreeMap<String, Slot>,
    average: BTreeMap<String, Tensor<1>>,
}

/// What is kept of one parameter.
#[derive(Debug)]
enum Slot {
    /// AdamW's two moments.
    Moments(Moments),
    /// A running mean of the gradient.
    Mean(Tensor<1>),
    /// Adafactor's second moment.
    Squares(Squares),
}

/// Names of the tensors of a slot, in a checkpoint.
fn names(slot: &Slot) -> Vec<(&'static str, &Tensor<1>)> {
    match slot {
        Slot::Moments(moments) => vec![("m", &moments.first), ("v", &moments.second)],
        Slot::Mean(mean) => vec![("m", mean)],
        Slot::Squares(Squares::Factored { rows, columns }) => vec![("r", rows), ("c", columns)],
        Slot::Squares(Squares::Whole(whole)) => vec![("v", whole)],
    }
}

/// The name of the weights themselves, where a checkpoint holds their running mean as the model.
const WEIGHTS: &str = "w";

impl Optimizer {
    /// Before the first step: zeros for each parameter that is trained, and the weights themselves as their mean.
    ///
    /// # Errors
    /// A pattern of the configuration that names no parameter.
    pub fn new(model: &Decoder, config: &TrainConfig, device: &Device) -> Result<Self, ModelError> {
        let shapes = model.trained_shapes();
        config.check_patterns(&shapes)?;
        let mut zeros = |_: &str, _: &str, length: usize| Ok(Tensor::zeros([length], device));
        let slots = slots(&shapes, config, &mut zeros)?;
        let average = if config.ema_decay > 0.0 { weights_of(model, &shapes) } else { BTreeMap::new() };
        Ok(Self { slots, average })
    }

    /// What it keeps, sharing memory where that is the host's, as host tensors: `m.<path>` and so on, and `w.<path>` for the weights where a mean of
    /// them is kept.
    pub fn collect(&self, model: &Decoder) -> Result<TensorMap, ModelError> {
        let shapes = model.trained_shapes();
        let mut tensors = TensorMap::new();
        let mut add = |name: &str, path: &str, tensor: &Tensor<1>| {
            let mut host = to_host(path, tensor.clone())?;
            if let Some(shape) =
                shapes.get(path).filter(|shape| shape.iter().product::<usize>() == host.values.len() && name != "r" && name != "c")
            {
                host.shape.clone_from(shape);
            }
            tensors.insert(format!("{name}.{path}"), host);
            Ok::<(), ModelError>(())
        };
        for (path, slot) in &self.slots {
            for (name, tensor) in names(slot) {
                add(name, path, tensor)?;
            }
        }
        if !self.average.is_empty() {
            for (path, tensor) in &weights_of(model, &shapes) {
                add(WEIGHTS, path, tensor)?;
            }
        }
        Ok(tensors)
    }

    /// The optimizer whose tensors were [collected](Self::collect), and its model; names and shapes are checked. `model` has the weights that the
    /// checkpoint says.
    pub fn restore(model: Decoder, tensors: &TensorMap, config: &TrainConfig, device: &Device) -> Result<(Decoder, Self), ModelError> {
        let shapes = model.trained_shapes();
        let mut n_read = 0;
        let mut read = |name: &str, path: &str, length: usize| {
            let key = format!("{name}.{path}");
            let whole = shapes.get(path).filter(|shape| name != "r" && name != "c" && shape.iter().product::<usize>() == length);
            let shape = whole.cloned().unwrap_or_else(|| vec![length]);
            let tensor = tensors.get(&key).ok_or_else(|| ModelError::MissingTensor { path: key.clone(), expected: shape.clone() })?;
            n_read += 1;
            flat(&key, &shape, tensor, device)
        };
        let slots = slots(&shapes, config, &mut read)?;
        let (mut average, mut weights) = (BTreeMap::new(), BTreeMap::new());
        if config.ema_decay > 0.0 {
            average = weights_of(&model, &shapes);
            for (path, shape) in &shapes {
                weights.insert(path.clone(), read(WEIGHTS, path, shape.iter().product())?);
            }
        }
        if n_read != tensors.len() {
            let known: Vec<String> =
                slots.iter().flat_map(|(path, slot)| names(slot).into_iter().map(move |(name, _)| format!("{name}.{path}"))).collect();
            let is_known = |key: &String| known.contains(key) || key.strip_prefix("w.").is_some_and(|path| weights.contains_key(path));
            if let Some((path, tensor)) = tensors.iter().find(|(key, _)| !is_known(key)) {
                return Err(ModelError::LeftOverTensor { path: path.clone(), found: tensor.shape.clone() });
            }
        }
        let model = if weights.is_empty() { model } else { put(model, weights) };
        Ok((model, Self { slots, average }))
    }

    /// The model with the running mean of its weights in their place, if one is kept: what is evaluated and handed on.
    #[must_use]
    pub fn averaged(&self, model: Decoder) -> Decoder {
        if self.average.is_empty() { model } else { put(model, self.average.clone()) }
    }

    /// One update of every parameter by its gradient. `step` counts from 1.
    ///
    /// # Errors
    /// What a device says when its memory cannot be read.
    pub fn step(
        &mut self,
        model: Decoder,
        gradients: GradientSum,
        config: &TrainConfig,
        learning_rate: f64,
        step: u64,
    ) -> Result<Decoder, ModelError> {
        let numbers = Numbers { config, learning_rate, step, scale: gradients.factor };
        let (model, taken) = take(model, gradients.by_path);
        let (mut in_adamw, mut in_first_order, mut updated) = (Vec::new(), Vec::new(), BTreeMap::new());
        for Taken { path, shape, parameter, gradient } in taken {
            match self.slots.remove(&path) {
                Some(Slot::Moments(moments)) => {
                    in_adamw.push((path.clone(), Update { step: numbers.adamw(&path, &shape), parameter, moments, gradient }));
                }
                Some(Slot::Mean(mean)) if role(config, &path, &shape) == Role::Orthogonal => {
                    let (parameter, mean) = numbers.muon(&model, (&path, &shape), parameter, mean, gradient)?;
                    self.slots.insert(path.clone(), Slot::Mean(mean));
                    updated.insert(path, parameter);
                }
                Some(Slot::Mean(mean)) => {
                    in_first_order.push((path.clone(), FirstOrder { step: numbers.first_order(&path, &shape), parameter, mean, gradient }));
                }
                Some(Slot::Squares(squares)) => {
                    let readback = |reason| ModelError::Readback { what: path.clone(), reason };
                    let (parameter, squares) =
                        adafactor(&numbers.adafactor(&path, &shape), parameter, squares, gradient).map_err(readback)?;
                    self.slots.insert(path.clone(), Slot::Squares(squares));
                    updated.insert(path, parameter);
                }
                None => {
                    updated.insert(path, parameter);
                }
            }
        }
        let (paths, updates): (Vec<String>, Vec<Update>) = in_adamw.into_iter().unzip();
        for (path, (parameter, moments)) in paths.into_iter().zip(adamw(updates)) {
            updated.insert(path.clone(), parameter);
            self.slots.insert(path, Slot::Moments(moments));
        }
        let (paths, updates): (Vec<String>, Vec<FirstOrder>) = in_first_order.into_iter().unzip();
        for (path, (parameter, mean)) in paths.into_iter().zip(first_order(updates)) {
            updated.insert(path.clone(), parameter);
            self.slots.insert(path, Slot::Mean(mean));
        }
        if !self.average.is_empty() {
            let (paths, pairs): (Vec<String>, Vec<_>) = std::mem::take(&mut self.average)
                .into_iter()
                .map(|(path, average)| {
                    let now = updated.get(&path).cloned().unwrap_or_else(|| average.clone());
                    (path, (average, now))
                })
                .unzip();
            self.average = paths.into_iter().zip(blend(config.ema_decay, pairs)).collect();
        }
        Ok(put(model, updated))
    }
}

/// The numbers of a step.
struct Numbers<'c> {
    config: &'c TrainConfig,
    learning_rate: f64,
    step: u64,
    scale: f64,
}

impl Numbers<'_> {
    fn rate(&self, path: &str) -> f64 {
        self.learning_rate * self.config.learning_rate_factor(path)
    }

    fn adamw(&self, path: &str, shape: &[usize]) -> AdamWStep {
        let (config, exponent) = (self.config, self.step as f64);
        AdamWStep {
            learning_rate: self.rate(path),
            beta1: config.beta1,
            beta2: config.beta2,
            epsilon: config.epsilon,
            weight_decay: config.weight_decay_of(path, shape),
            correction1: 1.0 - libm::pow(config.beta1, exponent),
            correction2: 1.0 - libm::pow(config.beta2, exponent),
            gradient_scale: self.scale,
        }
    }

    fn first_order(&self, path: &str, shape: &[usize]) -> FirstOrderStep {
        let config = self.config;
        let rule = match config.optimizer {
            OptimizerKind::Lion => Rule::Lion { beta1: config.beta1, beta2: config.beta2 },
            _ => Rule::Sgd { momentum: config.momentum, nesterov: config.nesterov },
        };
        FirstOrderStep {
            rule,
            learning_rate: self.rate(path),
            weight_decay: config.weight_decay_of(path, shape),
            gradient_scale: self.scale,
        }
    }

    fn adafactor(&self, path: &str, shape: &[usize]) -> AdafactorStep {
        AdafactorStep {
            learning_rate: self.rate(path),
            weight_decay: self.config.weight_decay_of(path, shape),
            gradient_scale: self.scale,
            step: self.step,
        }
    }

    /// The mean of the gradient made orthogonal, matrix by matrix where a layer holds several, and as large as a step of AdamW's would be.
    fn muon(
        &self,
        model: &Decoder,
        (path, shape): (&str, &[usize]),
        parameter: Tensor<1>,
        mean: Tensor<1>,
        gradient: Tensor<1>,
    ) -> Result<(Tensor<1>, Tensor<1>), ModelError> {
        let [rows, columns] = [shape[0], shape[1]];
        let momentum = self.config.momentum;
        let gradient = gradient.mul_scalar(self.scale);
        let mean = mean.mul_scalar(momentum) + gradient.clone().mul_scalar(1.0 - momentum);
        let direction =
            if self.config.nesterov { gradient.mul_scalar(1.0 - momentum) + mean.clone().mul_scalar(momentum) } else { mean.clone() };
        let direction = direction.reshape([rows, columns]);
        let mut parts = Vec::new();
        for part in model.matrices_of(path, columns) {
            let width = part.len();
            let of_part = direction.clone().slice([0..rows, part]);
            let readback = |reason| ModelError::Readback { what: format!("gradient of {path}"), reason };
            let size = MUON_SIZE * libm::sqrt(rows.max(width) as f64);
            parts.push(orthogonal(of_part).map_err(readback)?.mul_scalar(size));
        }
        let rate = self.rate(path);
        let decayed = parameter.mul_scalar(1.0 - rate * self.config.weight_decay_of(path, shape));
        Ok((decayed - Tensor::cat(parts, 1).reshape([rows * columns]).mul_scalar(rate), mean))
    }
}

/// Root mean square of an update of Muon's over its learning rate, as AdamW's is about (J. Liu et al., "Muon is scalable for LLM training", 2025).
const MUON_SIZE: f64 = 0.2;

/// What each parameter takes, its tensors made by `tensor` from their name, the path and their length.
fn slots(
    shapes: &BTreeMap<String, Vec<usize>>,
    config: &TrainConfig,
    tensor: &mut dyn FnMut(&str, &str, usize) -> Result<Tensor<1>, ModelError>,
) -> Result<BTreeMap<String, Slot>, ModelError> {
    let mut slots = BTreeMap::new();
    for (path, shape) in shapes {
        let n = shape.iter().product();
        let slot = match role(config, path, shape) {
            Role::Moments => Slot::Moments(Moments { first: tensor("m", path, n)?, second: tensor("v", path, n)? }),
            Role::Mean | Role::Orthogonal => Slot::Mean(tensor("m", path, n)?),
            Role::Squares => Slot::Squares(match shape[..] {
                [rows, columns] => Squares::Factored { rows: tensor("r", path, rows)?, columns: tensor("c", path, columns)? },
                _ => Squares::Whole(tensor("v", path, n)?),
            }),
        };
        slots.insert(path.clone(), slot);
    }
    Ok(slots)
}

fn flat(path: &str, shape: &[usize], tensor: &HostTensor, device: &Device) -> Result<Tensor<1>, ModelError> {
    if tensor.shape != shape {
        return Err(ModelError::WrongShape { path: path.to_owned(), expected: shape.to_vec(), found: tensor.shape.clone() });
    }
    Ok(Tensor::from_data(TensorData::new(tensor.values.to_vec(), [tensor.values.len()]), device))
}
