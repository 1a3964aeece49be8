//! The unigram model: the loss of knowing how often each token occurs and nothing else. A language model that does not beat it has
//! learnt nothing about order.

use codex_data::TokenSplit;

use crate::error::EvalError;
use crate::evaluate::{EvalWindows, each_target};
use crate::metrics::{EvalTotals, Metrics};

/// The unigram model of the training splits' trained tokens, with add-one smoothing, evaluated on the same target tokens as the model.
pub fn unigram(train: &[&TokenSplit], windows: &[EvalWindows<'_>], token_bytes: &[usize]) -> Result<Metrics, EvalError> {
    let mut counts = vec![0; token_bytes.len()];
    for split in train {
        counts.iter_mut().zip(split.counts(token_bytes.len())?).for_each(|(sum, count)| *sum += count);
    }
    let mut totals = EvalTotals::default();
    for windows in windows {
        add_unigram(&counts, windows, token_bytes, &mut totals)?;
    }
    let name = || windows.first().map_or_else(String::new, |windows| windows.name.to_owned());
    totals.metrics().ok_or_else(|| EvalError::Empty { split: name() })
}

fn add_unigram(counts: &[u64], windows: &EvalWindows<'_>, token_bytes: &[usize], totals: &mut EvalTotals) -> Result<(), EvalError> {
    let total: u64 = counts.iter().sum::<u64>() + counts.len() as u64;
    let nll: Vec<f64> = counts.iter().map(|&count| -libm::log((count + 1) as f64 / total as f64)).collect();
    let best = counts.iter().enumerate().max_by_key(|&(id, count)| (*count, std::cmp::Reverse(id))).map(|(id, _)| id as u32);
    each_target(windows, |batch| {
        for (&target, &weight) in batch.targets.iter().zip(&batch.weights) {
            if weight > 0.0 {
                let id = target as usize;
                totals.add(nll.get(id).copied().unwrap_or(f64::INFINITY), best == Some(target), token_bytes.get(id).copied().unwrap_or(0));
            }
        }
        Ok(())
    })
}
