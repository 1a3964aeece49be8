//! Parameters by path: their shapes, their initial values, and their way to and from the host.
//!
//! A path such as `blocks.0.attention.qkv.weight` is a parameter's identity everywhere: in streams, optimizer state and files. burn's own
//! parameter ids are random, so each is replaced by a hash of its path.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use codex_core::{Digest, HostTensor, Stream, TensorMap, Values};
use codex_ops::shared_memory;

use crate::config::{Activation, Bias, ModelConfig, NormKind, PositionKind};
use crate::error::ModelError;
use crate::network::Decoder;

/// The methods by which a `ModuleVisitor` or a `ModuleMapper` with a `path: Vec<String>` keeps it: the names of the modules that it is in.
#[macro_export]
macro_rules! follows_path {
    () => {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }
    };
}

/// The path and shape of every parameter of a network, without building it.
pub fn shapes(config: &ModelConfig, vocab_size: usize) -> BTreeMap<String, Vec<usize>> {
    let mut all = BTreeMap::new();
    let d = config.d_model;
    let mut linear = |path: String, inputs: usize, outputs: usize, bias: bool| {
        all.insert(format!("{path}.weight"), vec![inputs, outputs]);
        if bias {
            all.insert(format!("{path}.bias"), vec![outputs]);
        }
    };
    let head_dim = config.head_dim();
    let inner = config.feed_forward_width();
    let widened = if config.activation == Activation::Swiglu { 2 * inner } else { inner };
    for i in 0..config.n_layers {
        linear(format!("blocks.{i}.attention.qkv"), d, (config.n_heads + 2 * config.n_kv_heads) * head_dim, config.bias != Bias::None);
        linear(format!("blocks.{i}.attention.output"), config.n_heads * head_dim, d, config.bias == Bias::All);
        linear(format!("blocks.{i}.feed_forward.up"), d, widened, config.bias == Bias::All);
        linear(format!("blocks.{i}.feed_forward.down"), inner, d, config.bias == Bias::All);
    }
    if !config.tie_embeddings {
        linear("head".to_owned(), d, vocab_size, false);
    }
    let mut norm = |path: String| {
        all.insert(format!("{path}.weight"), vec![d]);
        if config.norm == NormKind::Layer {
            all.insert(format!("{path}.bias"), vec![d]);
        }
    };
    for i in 0..config.n_layers {
        norm(format!("blocks.{i}.attention_norm"));
        norm(format!("blocks.{i}.feed_forward_norm"));
    }
    norm("final_norm".to_owned());
    if config.qk_norm {
        let of_heads = |i| ["query", "key"].map(|of| format!("blocks.{i}.attention.{of}_norm.weight"));
        all.extend((0..config.n_layers).flat_map(of_heads).map(|path| (path, vec![head_dim])));
    }
    all.insert("embedding".to_owned(), vec![vocab_size, d]);
    if config.positions == PositionKind::Learned {
        all.insert("positions".to_owned(), vec![config.context_length, d]);
    }
    all
}

/// Whether weight decay applies to a parameter: matrices decay; biases, normalisation weights and other vectors do not.
pub fn decays(shape: &[usize]) -> bool {
    shape.len() >= 2
}

/// Gives each parameter the id that is the hash of its path.
pub fn name_by_path(model: Decoder) -> Decoder {
    model.map(&mut ByPath::new(|_: &str, _: &[usize]| None))
}

/// Draws the first matrix of each adapter, names all, and leaves only what is trained open to gradients.
pub(crate) fn initialize_adapters(model: Decoder, seed: u64) -> Decoder {
    let trained = model.trained_shapes();
    let values = |path: &str, shape: &[usize]| {
        let is_first = path.contains(".adapters.") && path.rsplit('.').next() == Some("a");
        is_first.then(|| {
            let bound = 1.0 / libm::sqrt(shape[0] as f64);
            let mut stream = Stream::new(seed, &format!("init:{path}"), 0);
            (0..shape.iter().product()).map(|_| ((2.0 * stream.uniform() - 1.0) * bound) as f32).collect()
        })
    };
    freeze(model.map(&mut ByPath::new(values)), &trained)
}

/// Closes every parameter that is not among `trained` to gradients.
fn freeze(model: Decoder, trained: &BTreeMap<String, Vec<usize>>) -> Decoder {
    model.map(&mut Freeze { path: Vec::new(), trained })
}

/// Fills each parameter from the stream of (seed, its path).
pub fn initialize(model: Decoder, seed: u64) -> Decoder {
    let config = model.config().clone();
    model.map(&mut ByPath::new(move |path: &str, shape: &[usize]| Some(initial_values(path, shape, &config, seed))))
}

/// Replaces every parameter by the tensor of its path. Names and shapes are checked before anything is replaced; values that nobody else holds
/// are taken, not copied.
pub fn load(model: Decoder, mut tensors: TensorMap) -> Result<Decoder, ModelError> {
    check(&shapes(model.config(), model.vocab_size()), &tensors)?;
    Ok(model.map(&mut ByPath::new(|path: &str, _: &[usize]| tensors.remove(path).map(|tensor| tensor.values.into_vec()))))
}

/// Replaces every parameter that has a tensor by it; names and shapes have been checked.
pub(crate) fn filled<M: Module>(model: M, tensors: &TensorMap) -> M {
    model.map(&mut ByPath::new(|path: &str, _: &[usize]| tensors.get(path).map(|tensor| tensor.values.to_vec())))
}

/// Replaces what is trained of a network by the tensors of their paths. Names and shapes are checked before anything is replaced.
pub fn load_trained(model: Decoder, tensors: &TensorMap) -> Result<Decoder, ModelError> {
    let trained = model.trained_shapes();
    check(&trained, tensors)?;
    let values = |path: &str, _: &[usize]| tensors.get(path).map(|tensor| tensor.values.to_vec());
    Ok(freeze(model.map(&mut ByPath::new(values)), &trained))
}

/// What is trained of a network on the host, as [`to_host`] has it.
pub fn collect_trained(model: &Decoder) -> Result<TensorMap, ModelError> {
    let trained = model.trained_shapes();
    let mut tensors = collect(model)?;
    tensors.retain(|path, _| trained.contains_key(path));
    Ok(tensors)
}

/// Every parameter on the host, as [`to_host`] has it.
pub fn collect<M: Module>(model: &M) -> Result<TensorMap, ModelError> {
    let mut visitor = Collect { path: Vec::new(), tensors: BTreeMap::new(), failure: None };
    model.visit(&mut visitor);
    match visitor.failure {
        Some(error) => Err(error),
        None => Ok(visitor.tensors),
    }
}

/// A tensor's values on the host, in row-major order: its own memory where that is the host's, without a copy, else what is read back.
pub fn to_host<const D: usize>(what: &str, tensor: Tensor<D>) -> Result<HostTensor, ModelError> {
    let shape = tensor.dims().to_vec();
    let wrong = |reason: String| ModelError::Readback { what: what.to_owned(), reason };
    if let Some(memory) = shared_memory(tensor.clone()) {
        return HostTensor::new(shape, Values::shared(Arc::new(memory))).ok_or_else(|| wrong(LYING.to_owned()));
    }
    let data = tensor.try_into_data().map_err(|error| wrong(error.to_string()))?;
    let values = data.convert::<f32>().try_into_vec::<f32>().map_err(|error| wrong(format!("{error:?}")))?;
    HostTensor::new(shape, values).ok_or_else(|| wrong(LYING.to_owned()))
}

/// Whether the tensors are exactly those that are expected.
pub(crate) fn check(expected: &BTreeMap<String, Vec<usize>>, tensors: &TensorMap) -> Result<(), ModelError> {
    for (path, shape) in expected {
        let tensor = tensors.get(path).ok_or_else(|| ModelError::MissingTensor { path: path.clone(), expected: shape.clone() })?;
        if tensor.shape != *shape {
            return Err(ModelError::WrongShape { path: path.clone(), expected: shape.clone(), found: tensor.shape.clone() });
        }
    }
    match tensors.iter().find(|(path, _)| !expected.contains_key(*path)) {
        Some((path, tensor)) => Err(ModelError::LeftOverTensor { path: path.clone(), found: tensor.shape.clone() }),
        None => Ok(()),
    }
}

const LYING: &str = "the number of values is not the shape's";

fn initial_values(path: &str, shape: &[usize], config: &ModelConfig, seed: u64) -> Vec<f32> {
    let n = shape.iter().product();
    if !decays(shape) {
        let is_norm_weight = path.ends_with("norm.weight");
        return vec![if is_norm_weight { 1.0 } else { 0.0 }; n];
    }
    let is_residual = path.ends_with("attention.output.weight") || path.ends_with("feed_forward.down.weight");
    let std = if is_residual { config.init_std / libm::sqrt(2.0 * config.n_layers as f64) } else { config.init_std };
    let mut stream = Stream::new(seed, &format!("init:{path}"), 0);
    (0..n).map(|_| (stream.normal() * std) as f32).collect()
}

/// Maps each parameter to new values chosen by its path and shape, or leaves them; the id becomes the path's hash either way.
struct ByPath<F> {
    path: Vec<String>,
    values: F,
}

impl<F: FnMut(&str, &[usize]) -> Option<Vec<f32>>> ByPath<F> {
    fn new(values: F) -> Self {
        Self { path: Vec::new(), values }
    }
}

impl<F: FnMut(&str, &[usize]) -> Option<Vec<f32>>> ModuleMapper for ByPath<F> {
    follows_path!();

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let (_, tensor, _) = param.consume();
        let shape = tensor.dims();
        let tensor = match (self.values)(&path, &shape) {
            Some(values) => Tensor::from_data(TensorData::new(values, shape), &tensor.device()),
            None => tensor,
        };
        let fresh = Param::from_tensor(tensor);
        let (_, tensor, mapper) = fresh.consume();
        Param::from_mapped_value(id_of(&path), tensor, mapper)
    }
}

/// Closes what is not trained to gradients.
struct Freeze<'t> {
    path: Vec<String>,
    trained: &'t BTreeMap<String, Vec<usize>>,
}

impl ModuleMapper for Freeze<'_> {
    follows_path!();

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.trained.contains_key(&self.path.join(".")) {
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        Param::from_mapped_value(id, tensor.detach().set_require_grad(false), mapper)
    }
}

fn id_of(path: &str) -> ParamId {
    let digest = Digest::of_bytes(path.as_bytes());
    let bytes = digest.as_bytes();
    ParamId::from(u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]))
}

struct Collect {
    path: Vec<String>,
    tensors: TensorMap,
    failure: Option<ModelError>,
}

impl ModuleVisitor for Collect {
    follows_path!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        match to_host(&path, param.val().detach()) {
            Ok(tensor) => drop(self.tensors.insert(path, tensor)),
            Err(error) => self.failure = Some(error),
        }
    }
}
