//! Running a model over windows of held-out text.

use codex_data::{HostBatch, WindowLoader};
use codex_model::{Decoder, WindowBatch};

use crate::error::EvalError;
use crate::metrics::{EvalTotals, Metrics};

/// Which windows an evaluation reads, in order.
#[derive(Clone, Copy, Debug)]
pub struct EvalWindows<'w> {
    /// The name of the split, for messages.
    pub name: &'w str,
    /// An unshuffled loader of the split.
    pub loader: &'w WindowLoader,
    /// Most windows to read; 0 reads all.
    pub max_windows: u64,
    /// Windows per forward pass; it changes the speed, not which windows are read.
    pub batch_size: usize,
}

/// Evaluates the model on each target of the windows that counts.
///
/// `token_bytes` is the number of bytes of text each token id stands for. `tick` is told the windows done and to do after each batch,
/// and answers whether to go on; [`EvalError::Interrupted`] when not.
pub fn evaluate(
    model: &Decoder,
    windows: &EvalWindows<'_>,
    token_bytes: &[usize],
    tick: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Metrics, EvalError> {
    totals(model, windows, token_bytes, tick)?.finite(windows.name)
}

/// The sums of [`evaluate`], to be added to those of other windows.
pub fn totals(
    model: &Decoder,
    windows: &EvalWindows<'_>,
    token_bytes: &[usize],
    tick: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<EvalTotals, EvalError> {
    let mut totals = EvalTotals::default();
    let all = windows.n_windows();
    let mut done = 0;
    each_target(windows, |batch| {
        let segments = windows.loader.isolates().then_some(batch.segments.as_slice());
        let windows = WindowBatch { n_rows: batch.n_rows, inputs: &batch.inputs, segments, dropout: None };
        let scores = model.token_scores(&windows, &batch.targets)?;
        for ((nll, correct), (&target, &weight)) in scores.into_iter().zip(batch.targets.iter().zip(&batch.weights)) {
            if weight > 0.0 {
                totals.add(f64::from(nll), correct, token_bytes.get(target as usize).copied().unwrap_or(0));
            }
        }
        done += batch.n_rows as u64;
        if tick(done, all) { Ok(()) } else { Err(EvalError::Interrupted { done, all }) }
    })?;
    Ok(totals)
}

impl EvalWindows<'_> {
    /// How many windows will be read.
    pub fn n_windows(&self) -> u64 {
        let all = self.loader.windows_per_epoch();
        if self.max_windows == 0 { all } else { all.min(self.max_windows) }
    }
}

pub(crate) fn each_target(windows: &EvalWindows<'_>, mut visit: impl FnMut(&HostBatch) -> Result<(), EvalError>) -> Result<(), EvalError> {
    let end = windows.n_windows();
    let mut position = 0;
    while position < end {
        let n_rows = (windows.batch_size.max(1) as u64).min(end - position);
        visit(&windows.loader.batch(position, n_rows as usize)?)?;
        position += n_rows;
    }
    Ok(())
}
