//! What a loss is: a sum and a count, never a mean that hides how much it is of.

use burn::tensor::Tensor;

pub use codex_ops::LossSettings;

/// A summed loss and how many target tokens it is of.
#[derive(Clone, Debug)]
pub struct LossSum {
    /// Sum of weight x negative log-likelihood in nats, one element, differentiable.
    pub sum: Tensor<1>,
    /// Sum of the weights.
    pub count: f64,
}

/// What positions are measured against.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// `[n_rows x time]` token ids.
    pub ids: &'a [u32],
    /// `[n_rows x time]`; 0 leaves a position out. The mask is by position, so a target that equals the padding or end-of-text id still
    /// counts where its weight says so.
    pub weights: &'a [f32],
    /// What the loss adds to plain cross-entropy.
    pub settings: LossSettings,
}
