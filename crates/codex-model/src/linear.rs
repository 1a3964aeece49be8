//! An affine map of the last dimension.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use codex_kernels::Isa;
use codex_kernels::gemm::{Epilogue, GemmError, View, ViewMut, gemm};
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
    /// The lengths of its columns, where they stay as they are.
    #[module(skip)]
    lengths: Option<Vec<f32>>,
}

impl Linear {
    /// A layer of zeros; [`crate::parameters::initialize`] gives it values.
    pub fn zeros(inputs: usize, outputs: usize, bias: bool, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::zeros([inputs, outputs], device)),
            bias: bias.then(|| Param::from_tensor(Tensor::zeros([outputs], device))),
            adapters: Vec::new(),
            quantized: None,
            lengths: None,
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
        let is_stretched = self.is_stretched();
        // What is dropped is dropped of the adapters' part as well, and columns are stretched with it, so that is added first.
        let (at_once, after) = match residual {
            Some(residual) if is_stretched || residual.mask.is_some() => (None, Some(residual)),
            other => (other, None),
        };
        let mut y = self.product(precision, x.clone(), at_once);
        for LowRank { a, b, plan, dropout, .. } in &self.adapters {
            let mask = masks.mask_with(&plan.path(), plan.site.inputs, *dropout)?;
            let adapter = Adapter { a: a.val(), b: b.val(), scale: plan.scale, columns: plan.site.columns.clone(), mask };
            y = codex_ops::adapt(precision, y, x.clone(), adapter);
        }
        if is_stretched {
            y = self.stretch(y)?;
        }
        let Some(Residual { stream, mask }) = after else { return Ok(y) };
        // The product may be held in bf16, and the stream never is.
        let y = if y.dtype() == DType::F32 { y } else { y.cast(FloatDType::F32) };
        Ok(match mask {
            Some(mask) => codex_ops::dropout(y, mask) + stream,
            None => y + stream,
        })
    }

    /// Whether columns have a length of their own.
    fn is_stretched(&self) -> bool {
        self.adapters.iter().any(|adapter| adapter.magnitude.is_some())
    }

    /// Gives each column of the output, without its bias, the length that is trained for it. The length it has is a constant to the gradient, as the
    /// paper has it (section 4.3).
    fn stretch(&self, y: Tensor<2>) -> Result<Tensor<2>, ModelError> {
        let (stored, outputs) = (y.dtype(), y.dims()[1]);
        let lengths = match &self.lengths {
            Some(lengths) => lengths.clone(),
            None => self.lengths()?,
        };
        let factors = self.factors(&lengths, &y.device()).reshape([1, outputs]);
        let mut stretched = y.cast(FloatDType::F32) * factors.clone();
        if let Some(bias) = &self.bias {
            stretched = stretched + bias.val().reshape([1, outputs]) * (factors.neg() + 1.0);
        }
        Ok(if stored == DType::F32 { stretched } else { stretched.cast(stored) })
    }

    /// By what each column is multiplied: its trained length over the one it has, and one where it has no adapter.
    fn factors(&self, lengths: &[f32], device: &Device) -> Tensor<1> {
        let ones = |n: usize| Tensor::<1>::ones([n], device);
        let (mut pieces, mut at) = (Vec::new(), 0);
        for adapter in &self.adapters {
            let (Some(magnitude), columns) = (&adapter.magnitude, &adapter.plan.site.columns) else { continue };
            if columns.start > at {
                pieces.push(ones(columns.start - at));
            }
            let own = TensorData::new(lengths[columns.clone()].to_vec(), [columns.len()]);
            pieces.push(magnitude.val() / Tensor::from_data(own, device));
            at = columns.end;
        }
        if at < lengths.len() {
            pieces.push(ones(lengths.len() - at));
        }
        Tensor::cat(pieces, 0)
    }

    /// The length of each column of the weight with the products of its adapters in it, at least a tiny one.
    fn lengths(&self) -> Result<Vec<f32>, ModelError> {
        if self.quantized.is_some() {
            return Err(ModelError::BadInput { reason: "columns of weights of 8 bits have no trained lengths (DoRA)".to_owned() });
        }
        let mut weight = to_host("weight", self.weight.val().detach())?;
        let (inputs, outputs) = (weight.shape[0], weight.shape[1]);
        for adapter in self.adapters.iter().filter(|adapter| adapter.magnitude.is_some()) {
            let (a, b) = (to_host("a", adapter.a.val().detach())?, to_host("b", adapter.b.val().detach())?);
            let (rank, columns) = (adapter.plan.rank, adapter.plan.site.columns.clone());
            let mut product = vec![0.0; inputs * columns.len()];
            let failed = |error: GemmError| ModelError::BadInput { reason: error.to_string() };
            let (left, right) =
                (View::new(&a.values[..], inputs, rank).map_err(failed)?, View::new(&b.values[..], rank, columns.len()).map_err(failed)?);
            let out = ViewMut::new(&mut product, inputs, columns.len()).map_err(failed)?;
            gemm(Isa::detect(), Precision::F32, left, right, out, Epilogue::store()).map_err(failed)?;
            let scale = adapter.plan.scale as f32;
            for (row, added) in weight.values.chunks_exact_mut(outputs).zip(product.chunks_exact(columns.len().max(1))) {
                row[columns.clone()].iter_mut().zip(added).for_each(|(weight, added)| *weight += scale * added);
            }
        }
        let mut squares = vec![0.0_f64; outputs];
        for row in weight.values.chunks_exact(outputs.max(1)) {
            squares.iter_mut().zip(row).for_each(|(sum, weight)| *sum += f64::from(*weight) * f64::from(*weight));
        }
        // A column of zeros has no direction to stretch.
        Ok(squares.into_iter().map(|sum| (libm::sqrt(sum) as f32).max(f32::MIN_POSITIVE)).collect())
    }

    /// Gives the trained lengths those that the columns have, so that a fresh adapter changes nothing.
    pub(crate) fn measure(&mut self) -> Result<(), ModelError> {
        if !self.is_stretched() {
            return Ok(());
        }
        let lengths = self.lengths()?;
        for adapter in &mut self.adapters {
            let columns = adapter.plan.site.columns.clone();
            if let Some(magnitude) = adapter.magnitude.take() {
                let own = TensorData::new(lengths[columns.clone()].to_vec(), [columns.len()]);
                let value = Tensor::from_data(own, &magnitude.val().device());
                adapter.magnitude = Some(Param::from_tensor(value));
            }
        }
        Ok(())
    }

    /// The same for use alone: the lengths of its columns are computed once.
    pub(crate) fn settle(mut self) -> Result<Self, ModelError> {
        if self.is_stretched() {
            self.lengths = Some(self.lengths()?);
        }
        Ok(self)
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
        let ([inputs, outputs], device) = (weight.dims(), weight.device());
        for LowRank { a, b, plan, .. } in &self.adapters {
            let delta = a.val().matmul(b.val()).mul_scalar(plan.scale);
            let columns = [0..inputs, plan.site.columns.clone()];
            let old = weight.clone().slice(columns.clone());
            weight = weight.slice_assign(columns, old + delta);
        }
        if self.is_stretched() {
            weight = weight * self.factors(&self.lengths()?, &device).reshape([1, outputs]);
        }
        Ok(Self { weight: Param::initialized(self.weight.id, weight), adapters: Vec::new(), lengths: None, ..self })
    }
}
