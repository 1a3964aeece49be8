//! Choosing the next token from its scores.

use codex_core::Stream;
use serde::{Deserialize, Serialize};

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingConfig {
    /// Divides the scores; 0 takes the most likely token.
    pub temperature: f64,
    /// Only the k most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// The smallest set of tokens that reaches this probability (A. Holtzman et al., 2019); 1 keeps all.
    pub top_p: f64,
    /// Seed of the draws.
    pub seed: u64,
    /// Most tokens to generate.
    pub max_new_tokens: usize,
    /// Generation ends before any of these texts.
    pub stop: Vec<String>,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 0, top_p: 0.95, seed: 0, max_new_tokens: 100, stop: Vec::new() }
    }
}

impl SamplingConfig {
    /// Everything that is wrong with the values, as (key, message).
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            found.push(("temperature".to_owned(), format!("expected 0 or more, found {}", self.temperature)));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            found.push(("top_p".to_owned(), format!("expected more than 0 and at most 1, found {}", self.top_p)));
        }
        if self.stop.iter().any(String::is_empty) {
            found.push(("stop".to_owned(), "a stop text cannot be empty".to_owned()));
        }
        found
    }
}

/// The chosen token for the draw number `position`: a pure function of the scores, the configuration and the position.
///
/// Ties go to the lower id. Scores that are not numbers are never chosen, unless there is nothing else (then 0 is returned).
pub fn choose(scores: &[f32], config: &SamplingConfig, position: u64) -> u32 {
    let mut order: Vec<u32> = (0..scores.len() as u32).filter(|&id| !scores[id as usize].is_nan()).collect();
    let descending = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    if config.temperature <= 0.0 {
        return order.into_iter().min_by(descending).unwrap_or(0);
    }
    order.sort_unstable_by(descending);
    if config.top_k > 0 {
        order.truncate(config.top_k);
    }
    let Some(&first) = order.first() else { return 0 };
    let highest = f64::from(scores[first as usize]);
    let weights: Vec<f64> = order.iter().map(|&id| libm::exp((f64::from(scores[id as usize]) - highest) / config.temperature)).collect();
    let total: f64 = weights.iter().sum();
    // The nucleus keeps the token that crosses the threshold.
    let mut kept = weights.len();
    let mut sum = 0.0;
    for (i, weight) in weights.iter().enumerate() {
        sum += weight;
        if sum >= config.top_p * total {
            kept = i + 1;
            break;
        }
    }
    let mass: f64 = weights[..kept].iter().sum();
    let mut left = Stream::new(config.seed, "generate", position).uniform() * mass;
    for (i, weight) in weights[..kept].iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return order[i];
        }
    }
    order[kept - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(temperature: f64, top_k: usize, top_p: f64) -> SamplingConfig {
        SamplingConfig { temperature, top_k, top_p, ..SamplingConfig::default() }
    }

    #[test]
    fn greedy_takes_the_highest_and_the_lower_id_of_a_tie() {
        assert_eq!(choose(&[0.0, 3.0, 3.0, f32::NAN], &config(0.0, 0, 1.0), 0), 1);
        assert_eq!(choose(&[f32::NAN], &config(0.0, 0, 1.0), 0), 0);
        assert_eq!(choose(&[f32::NAN], &config(1.0, 0, 1.0), 0), 0);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let scores = [0.0, (2.0_f32).ln(), (5.0_f32).ln()];
        let mut counts = [0_u32; 3];
        for position in 0..8000 {
            counts[choose(&scores, &config(1.0, 0, 1.0), position) as usize] += 1;
        }
        for (count, expected) in counts.iter().zip([1000.0, 2000.0, 5000.0]) {
            assert!((f64::from(*count) - expected).abs() < 150.0, "{counts:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let scores = [0.0, 1.0, 2.0, 3.0];
        let drawn = |config: &SamplingConfig| (0..500).map(|i| choose(&scores, config, i)).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(drawn(&config(1.0, 2, 1.0)).into_iter().collect::<Vec<_>>(), [2, 3]);
        // Probabilities are .032 .087 .237 .644: two tokens reach 0.7, the second crossing it.
        assert_eq!(drawn(&config(1.0, 0, 0.7)).into_iter().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(drawn(&config(1.0, 0, 1.0)).len(), 4);
    }

    #[test]
    fn wrong_values_are_all_told() {
        let bad = SamplingConfig { temperature: -1.0, top_p: 0.0, stop: vec![String::new()], ..SamplingConfig::default() };
        assert_eq!(bad.problems().len(), 3);
        assert!(SamplingConfig::default().problems().is_empty());
    }
}
