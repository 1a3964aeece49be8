//! Which parameters are trained how: learning rates and weight decays by name, and what the optimizer keeps of each.

use std::collections::{BTreeMap, BTreeSet};

use codex_model::ModelError;
use codex_model::parameters::decays;

use crate::config::{OptimizerKind, TrainConfig};

/// What an optimizer keeps of a parameter, and how it updates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// AdamW: two moments.
    Moments,
    /// Gradient descent or Lion: a mean of the gradient.
    Mean,
    /// Muon: a mean of the gradient, made orthogonal.
    Orthogonal,
    /// Adafactor: the second moment, as rows and columns where it is a matrix.
    Squares,
}

/// The role of a parameter. Muon is for the matrices of the blocks; embeddings, the head and vectors take AdamW's steps beside it.
pub(crate) fn role(config: &TrainConfig, path: &str, shape: &[usize]) -> Role {
    match config.optimizer {
        OptimizerKind::Sgd | OptimizerKind::Lion => Role::Mean,
        OptimizerKind::Adafactor => Role::Squares,
        OptimizerKind::Muon if shape.len() == 2 && path.starts_with("blocks.") => Role::Orthogonal,
        OptimizerKind::Muon | OptimizerKind::Adamw => Role::Moments,
    }
}

impl TrainConfig {
    /// Factor of the learning rate of a parameter.
    pub fn learning_rate_factor(&self, path: &str) -> f64 {
        longest(&self.learning_rate_pattern, path).unwrap_or(1.0)
    }

    /// Weight decay of a parameter: that of a pattern, or else that of all matrices; vectors have none.
    pub fn weight_decay_of(&self, path: &str, shape: &[usize]) -> f64 {
        let default = if decays(shape) { self.weight_decay } else { 0.0 };
        longest(&self.weight_decay_pattern, path).unwrap_or(default)
    }

    /// Whether each pattern names a parameter that is trained.
    ///
    /// # Errors
    /// The first that names none, with names that there are.
    pub fn check_patterns(&self, shapes: &BTreeMap<String, Vec<usize>>) -> Result<(), ModelError> {
        for (key, pattern) in [("learning_rate_pattern", &self.learning_rate_pattern), ("weight_decay_pattern", &self.weight_decay_pattern)]
        {
            if let Some(name) = pattern.keys().find(|name| !shapes.keys().any(|path| is_part(name, path))) {
                let names: BTreeSet<&str> = shapes.keys().map(|path| layer_of(path)).collect();
                let names = names.into_iter().collect::<Vec<_>>().join("`, `");
                let message = format!(
                    "nothing that is trained has `{name}` as a whole part of its path; there are `{names}`, `weight`, `bias`, and blocks such as `blocks.0`"
                );
                return Err(ModelError::Config { key: format!("train.{key}"), message });
            }
        }
        Ok(())
    }

    /// Bytes that the optimizer keeps of a parameter.
    pub(crate) fn optimizer_bytes(&self, path: &str, shape: &[usize]) -> u64 {
        let n: u64 = shape.iter().map(|&length| length as u64).product();
        let kept = match (role(self, path, shape), shape) {
            (Role::Moments, _) => 2 * n,
            (Role::Squares, [rows, columns]) => (rows + columns) as u64,
            _ => n,
        };
        4 * (kept + if self.ema_decay > 0.0 { n } else { 0 })
    }
}

/// The layer of a path, whichever block it is in.
fn layer_of(path: &str) -> &str {
    let within = path.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')).map_or(path, |(_, layer)| layer);
    [".weight", ".bias"].iter().find_map(|end| within.strip_suffix(end)).unwrap_or(within)
}

/// The value of the longest name that is part of a path: the most particular.
fn longest(pattern: &BTreeMap<String, f64>, path: &str) -> Option<f64> {
    let matching = pattern.iter().filter(|(name, _)| is_part(name, path));
    matching.max_by_key(|(name, _)| name.len()).map(|(_, value)| *value)
}

/// Whether a name such as `embedding`, `attention.qkv` or `bias` is one or more whole parts of a path.
fn is_part(name: &str, path: &str) -> bool {
    !name.is_empty() && format!(".{path}.").contains(&format!(".{name}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_parts_and_the_longest_wins() {
        assert!(
            is_part("attention.qkv", "blocks.0.attention.qkv.weight") && is_part("embedding", "embedding") && !is_part("bed", "embedding")
        );
        let mut config = TrainConfig { weight_decay: 0.1, ..TrainConfig::default() };
        config.learning_rate_pattern = BTreeMap::from([("blocks".to_owned(), 0.5), ("blocks.1".to_owned(), 0.25)]);
        config.weight_decay_pattern = BTreeMap::from([("embedding".to_owned(), 0.0), ("bias".to_owned(), 0.01)]);
        let factor = |path| config.learning_rate_factor(path);
        assert_eq!((factor("embedding"), factor("blocks.0.a"), factor("blocks.1.a"), factor("blocks.10.a")), (1.0, 0.5, 0.25, 0.5));
        let decay = |path, shape: &[usize]| config.weight_decay_of(path, shape);
        assert_eq!(
            (decay("embedding", &[2, 2]), decay("head.weight", &[2, 2]), decay("a.bias", &[2]), decay("norm.weight", &[2])),
            (0.0, 0.1, 0.01, 0.0)
        );
        let shapes = BTreeMap::from([("embedding".to_owned(), vec![2, 2]), ("blocks.1.bias".to_owned(), vec![2])]);
        assert!(config.check_patterns(&shapes).is_ok());
        config.weight_decay_pattern.insert("head".to_owned(), 0.0);
        let error = config.check_patterns(&shapes).unwrap_err().to_string();
        assert!(
            error.starts_with("`train.weight_decay_pattern`: ") && error.contains("`head`") && error.contains("`embedding`"),
            "{error}"
        );
        let layers = ["blocks.12.attention.qkv.weight", "final_norm.bias", "embedding"].map(layer_of);
        assert_eq!(layers, ["attention.qkv", "final_norm", "embedding"]);
    }
}
