//! Sums over target tokens, and the metrics that follow from them.

use serde::{Deserialize, Serialize};

use crate::error::EvalError;

/// What an evaluation adds up, in f64 and in the order of the windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvalTotals {
    /// Sum of negative log-likelihoods in nats.
    pub nll: f64,
    /// Target tokens.
    pub tokens: u64,
    /// Bytes of text that the target tokens stand for.
    pub bytes: u64,
    /// Targets that were the most likely token.
    pub correct: u64,
}

/// The metrics of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Mean negative log-likelihood per target token, in nats.
    pub loss: f64,
    /// exp(loss); infinite where that is beyond a double.
    #[serde(deserialize_with = "null_is_infinite")]
    pub perplexity: f64,
    /// Nats over ln 2 x bytes of text: comparable between tokenizers. Infinite where the targets stand for no byte.
    #[serde(deserialize_with = "null_is_infinite")]
    pub bits_per_byte: f64,
    /// Share of targets that were the most likely token, 0 to 1.
    pub token_accuracy: f64,
    /// How many target tokens this is of.
    pub n_tokens: u64,
}

impl EvalTotals {
    /// Adds one target.
    pub fn add(&mut self, nll: f64, correct: bool, bytes: usize) {
        self.nll += nll;
        self.tokens += 1;
        self.bytes += bytes as u64;
        self.correct += u64::from(correct);
    }

    /// Adds the sums of other windows.
    pub fn merge(&mut self, other: &Self) {
        self.nll += other.nll;
        self.tokens += other.tokens;
        self.bytes += other.bytes;
        self.correct += other.correct;
    }

    /// The metrics of the split of this name.
    ///
    /// # Errors
    /// Nothing was added, or the loss is no number.
    pub fn finite(&self, split: &str) -> Result<Metrics, EvalError> {
        let metrics = self.metrics().ok_or_else(|| EvalError::Empty { split: split.to_owned() })?;
        if metrics.loss.is_finite() { Ok(metrics) } else { Err(EvalError::NotFinite { split: split.to_owned(), value: metrics.loss }) }
    }

    /// The metrics, or `None` when nothing was added.
    pub fn metrics(&self) -> Option<Metrics> {
        if self.tokens == 0 {
            return None;
        }
        let loss = self.nll / self.tokens as f64;
        Some(Metrics {
            loss,
            perplexity: libm::exp(loss),
            bits_per_byte: if self.bytes == 0 { f64::INFINITY } else { self.nll / (std::f64::consts::LN_2 * self.bytes as f64) },
            token_accuracy: self.correct as f64 / self.tokens as f64,
            n_tokens: self.tokens,
        })
    }
}

impl Metrics {
    /// Name and value of each metric, for writers.
    pub fn named(&self) -> [(&'static str, f64); 4] {
        [
            ("loss", self.loss),
            ("perplexity", self.perplexity),
            ("bits_per_byte", self.bits_per_byte),
            ("token_accuracy", self.token_accuracy),
        ]
    }
}

/// JSON has no infinity and writes `null` for it.
fn null_is_infinite<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_a_double_reads_back() {
        let mut totals = EvalTotals::default();
        totals.add(800.0, false, 0);
        let metrics = totals.metrics().unwrap();
        assert_eq!((metrics.perplexity, metrics.bits_per_byte), (f64::INFINITY, f64::INFINITY));
        let text = serde_json::to_string(&metrics).unwrap();
        assert_eq!(serde_json::from_str::<Metrics>(&text).unwrap(), metrics, "{text}");
    }

    #[test]
    fn metrics_follow_from_the_sums() {
        assert_eq!(EvalTotals::default().metrics(), None);
        let mut totals = EvalTotals::default();
        totals.add(std::f64::consts::LN_2, true, 1);
        totals.add(3.0 * std::f64::consts::LN_2, false, 3);
        let metrics = totals.metrics().unwrap();
        assert!((metrics.loss - 2.0 * std::f64::consts::LN_2).abs() < 1e-12);
        assert!((metrics.perplexity - 4.0).abs() < 1e-12);
        assert!((metrics.bits_per_byte - 1.0).abs() < 1e-12);
        assert!((metrics.token_accuracy - 0.5).abs() < 1e-12);
        assert_eq!((metrics.n_tokens, metrics.named()[0].0), (2, "loss"));
    }
}
