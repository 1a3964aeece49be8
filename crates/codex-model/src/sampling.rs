//! Choosing the next token from its scores.

use codex_core::Stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingConfig {
    /// Divides the scores; 0 takes the most likely token.
    pub temperature: f64,
    /// Only the k most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// The smallest set of tokens that reaches this probability (A. Holtzman et al., 2019); 1 keeps all.
    pub top_p: f64,
    /// Only tokens with at least this share of the most likely one's probability (M. Nguyen et al., "Min-p", 2024); 0 keeps all.
    pub min_p: f64,
    /// Scores of tokens that were read or generated are divided by it where they are positive and multiplied where they are negative
    /// (N. Keskar et al., "CTRL", 2019); 1 changes nothing.
    pub repetition_penalty: f64,
    /// Seed of the draws.
    pub seed: u64,
    /// Most tokens to generate.
    pub max_new_tokens: usize,
    /// Generation ends before any of these texts.
    pub stop: Vec<String>,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 0,
            top_p: 0.95,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
            max_new_tokens: 100,
            stop: Vec::new(),
        }
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
        if !(0.0..=1.0).contains(&self.min_p) {
            found.push(("min_p".to_owned(), format!("expected 0 to 1, found {}", self.min_p)));
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            found.push(("repetition_penalty".to_owned(), format!("expected a positive number, found {}", self.repetition_penalty)));
        }
        if self.stop.iter().any(String::is_empty) {
            found.push(("stop".to_owned(), "a stop text cannot be empty".to_owned()));
        }
        found
    }
}

/// The chosen token for the draw number `position` after `read`: a pure function of the scores, what was read, the configuration and the position.
///
/// Ties go to the lower id. Scores that are not numbers are never chosen, unless there is nothing else (then 0 is returned).
pub fn choose(scores: &[f32], read: &[u32], config: &SamplingConfig, position: u64) -> u32 {
    let penalized = penalized(scores, read, config.repetition_penalty);
    let scores = penalized.as_deref().unwrap_or(scores);
    let Some(first) = most_likely(scores) else { return 0 };
    if config.temperature <= 0.0 {
        return first;
    }
    let mut order: Vec<u32> = (0..scores.len() as u32).filter(|&id| !scores[id as usize].is_nan()).collect();
    let descending = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    if config.top_k > 0 && config.top_k < order.len() {
        order.select_nth_unstable_by(config.top_k - 1, descending);
        order.truncate(config.top_k);
    }
    let highest = f64::from(scores[first as usize]);
    let weight = |id: u32| libm::exp((f64::from(scores[id as usize]) - highest) / config.temperature);
    let total: f64 = order.iter().map(|&id| weight(id)).sum();
    // Only the beginning of the order is needed, mostly: it is sorted in growing pieces until it holds what is kept.
    let mut n_sorted = 0;
    let (mut kept, mut mass) = (0, 0.0);
    'pieces: for piece in [256, 4096, usize::MAX] {
        let to = piece.min(order.len());
        let rest = &mut order[n_sorted..];
        if to < n_sorted + rest.len() {
            rest.select_nth_unstable_by(to - n_sorted - 1, descending);
        }
        rest[..to - n_sorted].sort_unstable_by(descending);
        n_sorted = to;
        while kept < n_sorted {
            let next = weight(order[kept]);
            // The nucleus keeps the token that crosses the threshold; the most likely token's weight is 1.
            if kept > 0 && (mass >= config.top_p * total || next < config.min_p) {
                break 'pieces;
            }
            mass += next;
            kept += 1;
        }
        if n_sorted == order.len() {
            break;
        }
    }
    let mut left = Stream::new(config.seed, "generate", position).uniform() * mass;
    for &id in &order[..kept] {
        left -= weight(id);
        if left < 0.0 {
            return id;
        }
    }
    order[kept - 1]
}

/// The token with the highest score, the lower id of a tie; `None` where no score is a number.
fn most_likely(scores: &[f32]) -> Option<u32> {
    let mut best: Option<(u32, f32)> = None;
    for (id, &score) in scores.iter().enumerate().filter(|(_, score)| !score.is_nan()) {
        if best.is_none_or(|(_, highest)| score.total_cmp(&highest).is_gt()) {
            best = Some((id as u32, score));
        }
    }
    best.map(|(id, _)| id)
}

/// The scores with those of tokens in `read` made less likely; `None` where nothing changes.
fn penalized(scores: &[f32], read: &[u32], penalty: f64) -> Option<Vec<f32>> {
    if (penalty - 1.0).abs() < f64::EPSILON {
        return None;
    }
    let mut penalized = scores.to_vec();
    for &id in read {
        // From the score itself, so that a token counts once however often it was read.
        if let (Some(to), Some(&score)) = (penalized.get_mut(id as usize), scores.get(id as usize)) {
            let score = f64::from(score);
            *to = (if score > 0.0 { score / penalty } else { score * penalty }) as f32;
        }
    }
    Some(penalized)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(temperature: f64, top_k: usize, top_p: f64) -> SamplingConfig {
        SamplingConfig { temperature, top_k, top_p, ..SamplingConfig::default() }
    }

    #[test]
    fn greedy_takes_the_highest_and_the_lower_id_of_a_tie() {
        assert_eq!(choose(&[0.0, 3.0, 3.0, f32::NAN], &[], &config(0.0, 0, 1.0), 0), 1);
        assert_eq!(choose(&[f32::NAN], &[], &config(0.0, 0, 1.0), 0), 0);
        assert_eq!(choose(&[f32::NAN], &[], &config(1.0, 0, 1.0), 0), 0);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let scores = [0.0, (2.0_f32).ln(), (5.0_f32).ln()];
        let mut counts = [0_u32; 3];
        for position in 0..8000 {
            counts[choose(&scores, &[], &config(1.0, 0, 1.0), position) as usize] += 1;
        }
        for (count, expected) in counts.iter().zip([1000.0, 2000.0, 5000.0]) {
            assert!((f64::from(*count) - expected).abs() < 150.0, "{counts:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let scores = [0.0, 1.0, 2.0, 3.0];
        let drawn = |config: &SamplingConfig| (0..500).map(|i| choose(&scores, &[], config, i)).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(drawn(&config(1.0, 2, 1.0)).into_iter().collect::<Vec<_>>(), [2, 3]);
        // Probabilities are .032 .087 .237 .644: two tokens reach 0.7, the second crossing it.
        assert_eq!(drawn(&config(1.0, 0, 0.7)).into_iter().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(drawn(&config(1.0, 0, 1.0)).len(), 4);
    }

    /// The same by sorting everything.
    fn by_sorting(scores: &[f32], config: &SamplingConfig, position: u64) -> u32 {
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
        let highest = f64::from(scores[order[0] as usize]);
        let weights: Vec<f64> =
            order.iter().map(|&id| libm::exp((f64::from(scores[id as usize]) - highest) / config.temperature)).collect();
        let total: f64 = (0..scores.len()).map(|id| libm::exp((f64::from(scores[id]) - highest) / config.temperature)).sum();
        let (mut kept, mut mass) = (0, 0.0);
        while kept < order.len() && (kept == 0 || mass < config.top_p * total && weights[kept] >= config.min_p) {
            mass += weights[kept];
            kept += 1;
        }
        let mut left = Stream::new(config.seed, "generate", position).uniform() * mass;
        for (id, weight) in order.iter().zip(&weights).take(kept) {
            left -= weight;
            if left < 0.0 {
                return *id;
            }
        }
        order[kept - 1]
    }

    #[test]
    fn sorting_only_the_beginning_gives_the_same_token() {
        let mut stream = Stream::new(3, "scores", 0);
        let scores: Vec<f32> = (0..9000).map(|_| (2.0 * stream.normal()) as f32).collect();
        for (top_p, min_p, temperature) in [(0.3, 0.0, 1.0), (0.95, 0.0, 1.5), (1.0, 0.0, 1.0), (1.0, 0.05, 1.0), (0.999, 0.001, 2.0)] {
            let config = SamplingConfig { temperature, top_p, min_p, ..SamplingConfig::default() };
            for position in 0..40 {
                assert_eq!(choose(&scores, &[], &config, position), by_sorting(&scores, &config, position), "{config:?}");
            }
        }
    }

    #[test]
    fn min_p_keeps_what_is_likely_beside_the_most_likely() {
        let scores = [0.0, 1.0, 2.0, 3.0];
        let config = SamplingConfig { temperature: 1.0, top_p: 1.0, min_p: 0.2, ..SamplingConfig::default() };
        let drawn: std::collections::BTreeSet<u32> = (0..500).map(|i| choose(&scores, &[], &config, i)).collect();
        // e^-1 is more than 0.2 and e^-2 is not.
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn what_was_read_becomes_less_likely_once() {
        let config = SamplingConfig { temperature: 0.0, repetition_penalty: 2.0, ..SamplingConfig::default() };
        assert_eq!(choose(&[3.0, 2.0, 1.0], &[], &config, 0), 0);
        assert_eq!(choose(&[3.0, 2.0, 1.0], &[0], &config, 0), 1);
        assert_eq!(choose(&[3.9, 1.9, 1.0], &[0, 0, 0], &config, 0), 0, "3.9 / 2 is still the most");
        assert_eq!(choose(&[-1.0, -1.5, -9.0], &[0, 77], &config, 0), 1, "-1 x 2 is less than -1.5, and an unknown id is nothing");
    }

    #[test]
    fn wrong_values_are_all_told() {
        let bad = SamplingConfig {
            temperature: -1.0,
            top_p: 0.0,
            min_p: 2.0,
            repetition_penalty: 0.0,
            stop: vec![String::new()],
            ..SamplingConfig::default()
        };
        assert_eq!(bad.problems().len(), 5);
        assert!(SamplingConfig::default().problems().is_empty());
    }
}
