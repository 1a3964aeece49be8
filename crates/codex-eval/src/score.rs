//! How likely a model finds the tokens of sequences of any length, many in one forward pass.

use codex_model::{Decoder, WindowBatch, parameters};

use crate::error::EvalError;
use crate::metrics::EvalTotals;

/// Most scores that are read back at once, where all of a vocabulary are: 256 MiB of f32.
const MAX_SCORES: usize = 64 << 20;

/// Token ids, the last of which are scored, each from all before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The ids: one more than the model's context at most.
    pub ids: Vec<u32>,
    /// How many of the first are only given; one at least.
    pub n_given: usize,
}

/// What a model found of one sequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SequenceScore {
    /// Sums over its scored tokens.
    pub totals: EvalTotals,
    /// Of each scored token the probability of the most likely one, and whether it was that; empty where it was not asked for.
    pub confidences: Vec<(f64, bool)>,
}

/// How sequences are scored.
#[derive(Clone, Copy, Debug)]
pub struct Scoring<'a> {
    /// Sequences per forward pass.
    pub batch_size: usize,
    /// The bytes of text that each token id stands for.
    pub token_bytes: &'a [usize],
    /// Whether [`SequenceScore::confidences`] are wanted, which takes another pass.
    pub with_confidences: bool,
}

/// Scores each sequence; the results are in their order. `tick` is told how many are done and answers whether to go on.
///
/// Sequences of like length go together; shorter ones are filled up behind, which no token before sees.
///
/// # Errors
/// What the model refuses, and [`EvalError::Interrupted`].
pub fn score(
    model: &Decoder,
    sequences: &[Sequence],
    scoring: Scoring<'_>,
    tick: &mut dyn FnMut(u64) -> bool,
) -> Result<Vec<SequenceScore>, EvalError> {
    let mut found = vec![SequenceScore::default(); sequences.len()];
    // Without two ids there is nothing to score.
    let mut order: Vec<usize> = (0..sequences.len()).filter(|&idx| sequences[idx].ids.len() > sequences[idx].n_given.max(1)).collect();
    let mut done = (sequences.len() - order.len()) as u64;
    order.sort_by_key(|&idx| (std::cmp::Reverse(sequences[idx].ids.len()), idx));
    for group in order.chunks(scoring.batch_size.max(1)) {
        let batch = Batch::new(group.iter().map(|&idx| &sequences[idx]));
        let scores = model.token_scores(&batch.windows(), &batch.targets)?;
        for (&idx, scores) in group.iter().zip(scores.chunks_exact(batch.time)) {
            let Sequence { ids, n_given } = &sequences[idx];
            for place in (*n_given).max(1)..ids.len() {
                let (nll, is_likeliest) = scores[place - 1];
                let n_bytes = scoring.token_bytes.get(ids[place] as usize).copied().unwrap_or(0);
                found[idx].totals.add(f64::from(nll), is_likeliest, n_bytes);
            }
        }
        if scoring.with_confidences {
            confidences(model, sequences, group, &mut found)?;
        }
        done += group.len() as u64;
        if !tick(done) {
            return Err(EvalError::Interrupted { done, all: sequences.len() as u64 });
        }
    }
    Ok(found)
}

/// Fills in the confidences of a group, in as many passes as their scores need.
fn confidences(model: &Decoder, sequences: &[Sequence], group: &[usize], found: &mut [SequenceScore]) -> Result<(), EvalError> {
    let vocab_size = model.vocab_size();
    let longest = group.iter().map(|&idx| sequences[idx].ids.len()).max().unwrap_or(1);
    for part in group.chunks((MAX_SCORES / (longest * vocab_size)).max(1)) {
        let batch = Batch::new(part.iter().map(|&idx| &sequences[idx]));
        let scores = parameters::to_host("scores", model.forward(&batch.windows())?)?.values;
        for (&idx, rows) in part.iter().zip(scores.chunks_exact(batch.time * vocab_size)) {
            let Sequence { ids, n_given } = &sequences[idx];
            let places = (*n_given).max(1)..ids.len();
            let rows = rows.chunks_exact(vocab_size).skip(places.start - 1);
            found[idx].confidences.extend(places.zip(rows).map(|(place, scores)| confidence(scores, ids[place])));
        }
    }
    Ok(())
}

/// The probability of the most likely token, and whether the target is that one: the first of equals.
fn confidence(scores: &[f32], target: u32) -> (f64, bool) {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &score) in scores.iter().enumerate() {
        if score > best.1 {
            best = (id, score);
        }
    }
    let sum: f64 = scores.iter().map(|&score| libm::exp(f64::from(score) - f64::from(best.1))).sum();
    (1.0 / sum, best.0 == target as usize)
}

/// Sequences side by side.
struct Batch {
    time: usize,
    inputs: Vec<u32>,
    targets: Vec<u32>,
}

impl Batch {
    fn new<'s>(sequences: impl Iterator<Item = &'s Sequence> + Clone) -> Self {
        let time = sequences.clone().map(|sequence| sequence.ids.len() - 1).max().unwrap_or(0);
        let mut batch = Self { time, inputs: Vec::new(), targets: Vec::new() };
        for Sequence { ids, .. } in sequences {
            let fill = std::iter::repeat_n(0, time + 1 - ids.len());
            batch.inputs.extend(ids[..ids.len() - 1].iter().copied().chain(fill.clone()));
            batch.targets.extend(ids[1..].iter().copied().chain(fill));
        }
        batch
    }

    fn windows(&self) -> WindowBatch<'_> {
        WindowBatch { n_rows: self.inputs.len() / self.time.max(1), inputs: &self.inputs, segments: None, dropout: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use codex_model::ModelConfig;

    fn model() -> Decoder {
        let config = ModelConfig {
            d_model: 16,
            n_layers: 2,
            n_heads: 2,
            n_kv_heads: 2,
            context_length: 12,
            init_std: 0.5,
            ..ModelConfig::default()
        };
        Decoder::init(&config, 20, 3, &Device::flex()).unwrap()
    }

    fn sequences() -> Vec<Sequence> {
        let ids = |n: u32| (0..n).map(|i| (i * 7 + n) % 20).collect::<Vec<u32>>();
        vec![
            Sequence { ids: ids(3), n_given: 1 },
            Sequence { ids: ids(13), n_given: 9 },
            Sequence { ids: ids(1), n_given: 1 },
            Sequence { ids: ids(6), n_given: 2 },
        ]
    }

    #[test]
    fn scores_are_those_of_the_models_own_logits_whatever_stands_beside() {
        let (model, bytes) = (model(), [2_usize; 20]);
        let all = |batch_size| {
            let scoring = Scoring { batch_size, token_bytes: &bytes, with_confidences: true };
            score(&model, &sequences(), scoring, &mut |_| true).unwrap()
        };
        let found = all(4);
        for (sequence, found) in sequences().iter().zip(&found) {
            let (mut nll, mut confidences) = (0.0, Vec::new());
            for place in sequence.n_given..sequence.ids.len() {
                let inputs = &sequence.ids[..place];
                let logits = model.forward(&WindowBatch { n_rows: 1, inputs, segments: None, dropout: None }).unwrap();
                let logits = parameters::to_host("logits", logits).unwrap().values;
                let exps: Vec<f64> = logits[(place - 1) * 20..].iter().map(|&score| f64::from(score).exp()).collect();
                let sum: f64 = exps.iter().sum();
                nll -= (exps[sequence.ids[place] as usize] / sum).ln();
                let most = exps.iter().copied().fold(0.0, f64::max);
                confidences.push((most / sum, exps[sequence.ids[place] as usize] >= most));
            }
            assert!((found.totals.nll - nll).abs() < 1e-5, "{found:?} {nll}");
            assert_eq!(found.totals.tokens as usize, sequence.ids.len() - sequence.n_given);
            assert_eq!(found.totals.bytes, 2 * found.totals.tokens);
            assert_eq!(found.confidences.iter().filter(|(_, right)| *right).count() as u64, found.totals.correct);
            assert_eq!(found.confidences.len(), confidences.len());
            for ((a, right), (b, is_right)) in found.confidences.iter().zip(confidences) {
                assert!((a - b).abs() < 1e-6 && *right == is_right);
            }
        }
        for (a, b) in all(1).iter().zip(&found) {
            assert!((a.totals.nll - b.totals.nll).abs() < 1e-5);
        }
    }

    #[test]
    fn whoever_asks_for_no_more_gets_no_more() {
        let scoring = Scoring { batch_size: 1, token_bytes: &[], with_confidences: false };
        let error = score(&model(), &sequences(), scoring, &mut |_| false).unwrap_err();
        assert!(matches!(error, EvalError::Interrupted { done: 2, all: 4 }), "{error}");
        assert!(score(&model(), &[], scoring, &mut |_| true).unwrap().is_empty());
    }
}
