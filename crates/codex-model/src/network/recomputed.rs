//! Loss and gradients with little memory: of each block only the input is kept, and what its backward pass needs is computed again (T. Chen et al.,
//! "Training deep nets with sublinear memory cost", 2016).

use burn::module::Module;
use burn::tensor::{Gradients, Tensor};

use super::Decoder;
use crate::error::ModelError;
use crate::loss::{LossSum, Targets};
use crate::network::WindowBatch;

/// Whose gradients a backward pass has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientsOf {
    /// Of the final norm and the head, which may be the embedding; the embedding's own come later.
    Head,
    /// Of the block of this number.
    Block(usize),
    /// Of the embedding and learned positions.
    Embedding,
}

impl Decoder {
    /// The same loss as [`loss`](Self::loss), and the same gradients, which are handed to `take` part by part, from the head down to the embedding. Each
    /// block is computed twice, so it takes about a third longer; what is kept is the residual stream before each block, and all of one block.
    ///
    /// The sum that is returned cannot be differentiated.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    pub fn loss_by_block(
        &self,
        windows: &WindowBatch<'_>,
        targets: Targets<'_>,
        take: &mut dyn FnMut(GradientsOf, &mut Gradients),
    ) -> Result<LossSum, ModelError> {
        self.check_targets(windows, targets)?;
        let pass = self.pass(windows)?;
        let still = self.valid();
        let embedded = pass.embedded(self)?;
        let mut inputs = vec![embedded.clone().inner()];
        for index in 0..self.blocks.len() {
            let input = inputs.last().cloned().unwrap_or_else(|| embedded.clone().inner());
            inputs.push(pass.block(&still, index, input)?);
        }
        drop(still);
        // Each part begins with a leaf of its own, whose gradient is what the part before it is differentiated by.
        let mut gradient = None;
        let leaf = |inputs: &mut Vec<Tensor<2>>| inputs.pop().map(|input| Tensor::from_inner(input).require_grad());
        let mut loss = None;
        if let Some(leaf) = leaf(&mut inputs) {
            let LossSum { sum, count } = self.head_loss(self.final_norm.forward(self.precision, leaf.clone()), targets);
            let mut found = sum.backward();
            take(GradientsOf::Head, &mut found);
            gradient = leaf.grad_remove(&mut found);
            loss = Some(LossSum { sum: sum.detach(), count });
        }
        for index in (0..self.blocks.len()).rev() {
            let (Some(leaf), Some(of_output)) = (leaf(&mut inputs), gradient.take()) else { break };
            let mut found = along(pass.block(self, index, leaf.clone())?, of_output).backward();
            take(GradientsOf::Block(index), &mut found);
            gradient = leaf.grad_remove(&mut found);
        }
        if let Some(of_output) = gradient
            && embedded.is_tracked()
        {
            take(GradientsOf::Embedding, &mut along(embedded, of_output).backward());
        }
        loss.ok_or_else(|| ModelError::BadInput { reason: "there is nothing to differentiate".to_owned() })
    }
}

/// A number whose gradient by `output` is `gradient`.
fn along(output: Tensor<2>, gradient: Tensor<2>) -> Tensor<1> {
    (output * Tensor::from_inner(gradient)).sum()
}
