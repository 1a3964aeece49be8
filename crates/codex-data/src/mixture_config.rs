//! The parts of the `[data]` table about several sources: `sources`, `stages` and `validation_sets`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::DataConfig;

/// One source of a mixture.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Its files or folders, like `data.train`.
    pub paths: Vec<String>,
    /// Its weight beside the others.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

/// Other weights from a step on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct StageConfig {
    /// The optimizer step, counted from 1, from which on they are in force.
    pub from_step: u64,
    /// The weights; a source that is not named keeps none.
    pub weights: BTreeMap<String, f64>,
}

/// Most sources, stages and validation sets.
const MOST: usize = 256;

/// What is wrong with them, as (key, what is wrong with it).
pub(crate) fn problems(config: &DataConfig) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut tell = |key: String, problem: String| problems.push((key, problem));
    let DataConfig { train, sources, stages, validation_sets, .. } = config;
    if !sources.is_empty() && !train.is_empty() {
        tell("train".to_owned(), "there are `sources` too: set `data.train = []`, or leave them out".to_owned());
    }
    for (key, n) in [("sources", sources.len()), ("stages", stages.len()), ("validation_sets", validation_sets.len())] {
        if n > MOST {
            tell(key.to_owned(), format!("expected at most {MOST}, found {n}"));
        }
    }
    for name in sources.keys().chain(validation_sets.keys()).filter(|name| !is_name(name)) {
        let key = if sources.contains_key(name) { "sources" } else { "validation_sets" };
        tell(key.to_owned(), format!("expected names of 1 to 64 letters, digits, `-` and `_`, found `{name}`"));
    }
    for name in validation_sets.keys().filter(|name| sources.contains_key(*name)) {
        tell(format!("validation_sets.{name}"), "a source has this name, and its held-out part is measured under it".to_owned());
    }
    let paths = sources.iter().map(|(name, source)| ("sources", name, &source.paths));
    for (key, name, paths) in paths.chain(validation_sets.iter().map(|(name, paths)| ("validation_sets", name, paths))) {
        if paths.is_empty() || paths.iter().any(|path| path.trim().is_empty()) {
            tell(format!("{key}.{name}"), "expected at least one path, and none that is empty".to_owned());
        }
    }
    let weights_are_fine = |weights: &[f64]| {
        let total: f64 = weights.iter().sum();
        weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0) && total > 0.0 && total.is_finite()
    };
    if !sources.is_empty() && !weights_are_fine(&sources.values().map(|source| source.weight).collect::<Vec<_>>()) {
        tell("sources".to_owned(), "expected weights of 0 or more, one of them above 0".to_owned());
    }
    if !stages.is_empty() && sources.is_empty() {
        tell("stages".to_owned(), "they give weights to `sources`, and there are none".to_owned());
    }
    let mut before = 1;
    for (i, stage) in stages.iter().enumerate() {
        let key = || format!("stages.{i}");
        if stage.from_step <= before {
            tell(key(), format!("expected a `from_step` above {before}, found {}", stage.from_step));
        }
        before = before.max(stage.from_step);
        if let Some(name) = stage.weights.keys().find(|name| !sources.contains_key(*name)) {
            let known = sources.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            tell(key(), format!("there is no source `{name}`; there are: {known}"));
        } else if !weights_are_fine(&stage.weights.values().copied().collect::<Vec<_>>()) {
            tell(key(), "expected weights of 0 or more, one of them above 0".to_owned());
        }
    }
    let seen = train.iter().chain(sources.values().flat_map(|source| &source.paths));
    for path in seen {
        if let Some((name, _)) = validation_sets.iter().find(|(_, paths)| paths.contains(path)) {
            tell(format!("validation_sets.{name}"), format!("`{path}` is trained on too, so its loss would say nothing about unseen text"));
        }
        if !sources.is_empty() && config.validation.contains(path) {
            tell("validation".to_owned(), format!("`{path}` is in a source too, so its loss would say nothing about unseen text"));
        }
    }
    problems
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let config: DataConfig = serde_json::from_str(text).unwrap();
        config.problems().into_iter().map(|(key, problem)| format!("{key}: {problem}")).collect()
    }

    #[test]
    fn a_mixture_is_a_table_of_sources() {
        let fine = r#"{"sources": {"a": {"paths": ["a.txt"], "weight": 3}, "b": {"paths": ["b.txt"]}},
            "stages": [{"from_step": 5, "weights": {"b": 1}}], "validation_sets": {"c": ["c.txt"]}}"#;
        assert_eq!(told(fine), [""; 0]);
        let config: DataConfig = serde_json::from_str(fine).unwrap();
        assert_eq!((config.sources["a"].weight.to_bits(), config.sources["b"].weight.to_bits()), (3.0_f64.to_bits(), 1.0_f64.to_bits()));
    }

    #[test]
    fn everything_that_is_wrong_is_told() {
        let wrong = r#"{"train": ["x"], "validation": ["b.txt"],
            "sources": {"a b": {"paths": []}, "b": {"paths": ["b.txt"], "weight": -1}},
            "stages": [{"from_step": 1, "weights": {"c": 1}}, {"from_step": 1, "weights": {"b": 0}}],
            "validation_sets": {"b": ["x"], "é": [" "]}}"#;
        assert_eq!(
            told(wrong),
            [
                "train: there are `sources` too: set `data.train = []`, or leave them out",
                "sources: expected names of 1 to 64 letters, digits, `-` and `_`, found `a b`",
                "validation_sets: expected names of 1 to 64 letters, digits, `-` and `_`, found `é`",
                "validation_sets.b: a source has this name, and its held-out part is measured under it",
                "sources.a b: expected at least one path, and none that is empty",
                "validation_sets.é: expected at least one path, and none that is empty",
                "sources: expected weights of 0 or more, one of them above 0",
                "stages.0: expected a `from_step` above 1, found 1",
                "stages.0: there is no source `c`; there are: a b, b",
                "stages.1: expected a `from_step` above 1, found 1",
                "stages.1: expected weights of 0 or more, one of them above 0",
                "validation_sets.b: `x` is trained on too, so its loss would say nothing about unseen text",
                "validation: `b.txt` is in a source too, so its loss would say nothing about unseen text",
            ]
        );
        assert_eq!(told(r#"{"train": ["x"], "stages": []}"#), [""; 0]);
        let lonely = r#"{"train": ["x"], "stages": [{"from_step": 2, "weights": {}}]}"#;
        assert_eq!(told(lonely)[0], "stages: they give weights to `sources`, and there are none");
    }
}
