//! An affine map of the last dimension.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use codex_ops::{Adapter, Affine, Precision, QuantizedWeight, Residual, linear_quantized};

use crate::adapter::LowRank;
use crate::dropout::Masks;
use crate::error::ModelError;
use crate::parameters::to_host;

/// `y = x W + b` with `W` of shape `[inputs, outputs]`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[inputs, outputs]`; empty where the weight is held in 8 bits.
    pub weight: Param<Tensor<2>>,
    /// `[outputs]`, if the layer has a bias.
    pub bias: Option<Param<Tensor<1>>>,
    /// Low-rank additions to some of its columns.
    pub adapters: Vec<LowRank>,
    #[module(skip)]
    quantized: Option<QuantizedWeight>,
}

impl Linear {
    /// A layer of zeros; [`crate::parameters::initialize`] gives it values.
    pub fn zeros(inputs: usize, outputs: usize, bias: bool, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::zeros([inputs, outputs], device)),
            bias: bias.then(|| Param::from_tensor(Tensor::zeros([outputs], device))),
            adapters: Vec::new(),
            quantized: None,
        }
    }

    /// The layer with its weight in 8 bits, which takes no gradient and is no parameter any more.
    pub(crate) fn quantize(self) -> Result<Self, ModelError> {
        let weight = self.weight.val();
        let ([inputs, outputs], device) = (weight.dims(), weight.device());
        let values = to_host("weight", weight)?.values;
        let quantized = QuantizedWeight::new(&values, inputs, outputs).map_err(|reason| ModelError::BadInput { reason })?;
        Ok(Self { weight: Param::from_tensor(Tensor::zeros([0, 0], &device)), quantized: Some(quantized), ..self })
    }

    /// The weight in 8 bits, if it is held so.
    pub fn quantized(&self) -> Option<&QuantizedWeight> {
        self.quantized.as_ref()
    }

    /// The parameters as an operand.
    pub fn affine(&self) -> Affine {
        Affine { weight: self.weight.val(), bias: self.bias.as_ref().map(Param::val) }
    }

    /// # Shapes
    /// `x` `[rows, inputs]`, the residual stream `[rows, outputs]` -> `[rows, outputs]`
    pub(crate) fn forward(
        &self,
        precision: Precision,
        x: Tensor<2>,
        residual: Option<Residual>,
        masks: &Masks,
    ) -> Result<Tensor<2>, ModelError> {
        if self.adapters.is_empty() {
            return Ok(self.product(precision, x, residual));
        }
        // What is dropped is dropped of the adapters' part as well, so that is added first.
        let (at_once, after) = match residual {
            Some(Residual { stream, mask: Some(mask) }) => (None, Some((stream, mask))),
            other => (other, None),
        };
        let mut y = self.product(precision, x.clone(), at_once);
        for LowRank { a, b, plan, dropout } in &self.adapters {
            let mask = masks.mask_with(&plan.path(), plan.site.inputs, *dropout)?;
            let adapter = Adapter { a: a.val(), b: b.val(), scale: plan.scale, columns: plan.site.columns.clone(), mask };
            y = codex_ops::adapt(precision, y, x.clone(), adapter);
        }
        Ok(match after {
            Some((stream, mask)) => codex_ops::dropout(y, mask) + stream,
            None => y,
        })
    }

    fn product(&self, precision: Precision, x: Tensor<2>, residual: Option<Residual>) -> Tensor<2> {
        match &self.quantized {
            Some(weight) => linear_quantized(precision, x, weight, self.bias.as_ref().map(Param::val), residual),
            None => codex_ops::linear(precision, x, self.affine(), residual),
        }
    }

    /// Whether it is more than a weight in f32.
    pub(crate) fn is_plain(&self) -> bool {
        self.adapters.is_empty() && self.quantized.is_none()
    }

    /// The layer with what its adapters add in the weight itself.
    pub(crate) fn merge(self) -> Result<Self, ModelError> {
        if self.adapters.is_empty() {
            return Ok(self);
        }
        if self.quantized.is_some() {
            return Err(ModelError::BadInput { reason: "adapters cannot be merged into weights of 8 bits".to_owned() });
        }
        let mut weight = self.weight.val();
        let inputs = weight.dims()[0];
        for LowRank { a, b, plan, .. } in &self.adapters {
            let delta = a.val().matmul(b.val()).mul_scalar(plan.scale);
            let columns = [0..inputs, plan.site.columns.clone()];
            let old = weight.clone().slice(columns.clone());
            weight = weight.slice_assign(columns, old + delta);
        }
        Ok(Self { weight: Param::initialized(self.weight.id, weight), adapters: Vec::new(), ..self })
    }
}
