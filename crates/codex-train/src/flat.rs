//! Parameters out of a model and back, each flat, by path: what an optimizer works on.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;
use codex_model::Decoder;

/// The parameters that are trained, flattened, without gradients, sharing their memory.
pub(crate) fn weights_of(model: &Decoder, shapes: &BTreeMap<String, Vec<usize>>) -> BTreeMap<String, Tensor<1>> {
    let mut found = Weights { path: Vec::new(), shapes, found: BTreeMap::new() };
    model.visit(&mut found);
    found.found
}

struct Weights<'s> {
    path: Vec<String>,
    shapes: &'s BTreeMap<String, Vec<usize>>,
    found: BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for Weights<'_> {
    codex_model::follows_path!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        if self.shapes.contains_key(&path) {
            let tensor = param.val();
            let n = tensor.shape().num_elements();
            let tensor = if tensor.device().is_autodiff() { tensor.inner() } else { tensor };
            self.found.insert(path, tensor.reshape([n]));
        }
    }
}

/// A parameter out of its model.
pub(crate) struct Taken {
    pub(crate) path: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) parameter: Tensor<1>,
    pub(crate) gradient: Tensor<1>,
}

/// Takes every parameter that has a gradient out of a model, and leaves an empty tensor in its place: while it is written, nobody else holds its
/// memory. What has no gradient stays.
pub(crate) fn take(model: Decoder, gradients: BTreeMap<String, Tensor<1>>) -> (Decoder, Vec<Taken>) {
    let mut taking = TakeParameters { path: Vec::new(), gradients, taken: Vec::new() };
    let model = model.map(&mut taking);
    (model, taking.taken)
}

struct TakeParameters {
    path: Vec<String>,
    gradients: BTreeMap<String, Tensor<1>>,
    taken: Vec<Taken>,
}

impl ModuleMapper for TakeParameters {
    codex_model::follows_path!();

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let Some(gradient) = self.gradients.remove(&path) else { return param };
        let (id, tensor, mapper) = param.consume();
        let (shape, device) = (tensor.dims(), tensor.device());
        let parameter = tensor.inner().reshape([shape.iter().product::<usize>()]);
        self.taken.push(Taken { path, shape: shape.to_vec(), parameter, gradient });
        Param::from_mapped_value(id, Tensor::zeros([0; D], &device), mapper)
    }
}

/// Puts flat parameters in the places of their paths.
pub(crate) fn put(model: Decoder, parameters: BTreeMap<String, Tensor<1>>) -> Decoder {
    let shapes = model.trained_shapes();
    model.map(&mut PutParameters { path: Vec::new(), parameters, shapes })
}

struct PutParameters {
    path: Vec<String>,
    parameters: BTreeMap<String, Tensor<1>>,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl ModuleMapper for PutParameters {
    codex_model::follows_path!();

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let Some((parameter, shape)) = self.parameters.remove(&path).zip(self.shapes.get(&path)) else { return param };
        let mut dims = [0; D];
        dims.copy_from_slice(shape);
        let (id, _, mapper) = param.consume();
        Param::from_mapped_value(id, Tensor::from_inner(parameter.reshape(dims)).require_grad(), mapper)
    }
}
