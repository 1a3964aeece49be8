//! The `[data]` table of a configuration file: what to read, how to split it and how to cut it into windows.
//!
//! It names things only; [`crate::open_sources`] finds out whether they exist.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conversation::RENAMED;
use crate::filter::FilterConfig;
use crate::mixture_config::{self, SourceConfig, StageConfig};
use crate::packing::Packing;
use crate::window::Cutting;

/// What the configuration says about data.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Files or folders to train on, in this order. `builtin:NAME` is a source compiled into the program.
    pub train: Vec<String>,
    /// Files or folders to validate on, like `train`. When it is given, all of `train` is trained on.
    pub validation: Vec<String>,
    /// In place of `train`: sources by name, each with its paths and its weight.
    pub sources: BTreeMap<String, SourceConfig>,
    /// Other weights of the sources from a step on, in order.
    pub stages: Vec<StageConfig>,
    /// Files or folders by name that are measured too, each by itself.
    pub validation_sets: BTreeMap<String, Vec<String>>,
    /// The share of documents, chosen by the hash of their text, that is held out for validation when `validation` is empty.
    pub validation_fraction: f64,
    /// The field of a JSONL row that holds the text.
    pub text_field: String,
    /// What the fields `prompt`, `completion`, `messages` and `tools` are called in the rows, where they have other names.
    pub fields: BTreeMap<String, String>,
    /// What a JSONL row is.
    pub rows: RowKind,
    /// What makes a text of a chat: a template that ships, a template file or a model folder.
    pub chat_template: String,
    /// Which tokens of a prompt or a chat are trained.
    pub train_on: TrainOn,
    /// The largest share of prompts and chats that train nothing; they are left out, and more of them stop the run.
    pub max_empty_rows: f64,
    /// Which documents are left out.
    pub filter: FilterConfig,
    /// The largest share of the validation's runs of 13 tokens that the training text may have too; 1 does not look.
    pub max_leakage: f64,
    /// What a row or text file that cannot be used does.
    pub on_bad_row: OnBadRow,
    /// Where token caches are kept; the embedding program chooses a place when it is absent.
    pub cache_dir: Option<PathBuf>,
    /// The longest JSONL line and the longest text file that is read, in bytes.
    pub max_row_bytes: usize,
    /// The part of the training documents that is read, as `index/total` with indices from 0: a document is in the part that the hash of its text says.
    pub shard: String,
    /// The most tokens in a file of a cache; it decides no token.
    pub shard_tokens: u64,
    /// Whether each epoch visits its windows in another order.
    pub shuffle: bool,
    /// Whether attention may not cross document boundaries. It never does where some tokens are not trained or windows are made of documents.
    pub isolate_documents: bool,
    /// How documents become windows.
    pub packing: Packing,
}

/// What a JSONL row is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RowKind {
    /// A text in files whose first row has the text field; in others each row is what its fields say.
    #[default]
    Auto,
    /// A text.
    Text,
    /// A `prompt` and its `completion`.
    Prompt,
    /// The `messages` of a chat, and perhaps its `tools`.
    Chat,
}

/// Which tokens of a prompt or a chat are trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrainOn {
    /// What the assistant says, completions among it, with its end.
    #[default]
    Assistant,
    /// All, as in plain text.
    All,
}

/// What a row or text file that cannot be used does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnBadRow {
    /// It ends the reading with its place and reason.
    #[default]
    Error,
    /// It is counted and listed in the cache's manifest.
    Skip,
}

/// The largest `max_row_bytes`: one row is held in memory as a whole.
const MAX_ROW_BYTES_LIMIT: usize = 1 << 30;

/// The part that is all.
const WHOLE: &str = "0/1";
/// The most parts.
const MAX_SHARDS: u64 = 1 << 16;

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            validation: Vec::new(),
            sources: BTreeMap::new(),
            stages: Vec::new(),
            validation_sets: BTreeMap::new(),
            validation_fraction: 0.0,
            text_field: "text".to_owned(),
            fields: BTreeMap::new(),
            rows: RowKind::Auto,
            chat_template: "chatml".to_owned(),
            train_on: TrainOn::Assistant,
            max_empty_rows: 0.5,
            filter: FilterConfig::default(),
            max_leakage: 1.0,
            on_bad_row: OnBadRow::Error,
            cache_dir: None,
            max_row_bytes: 16 << 20,
            shard: WHOLE.to_owned(),
            shard_tokens: 1 << 24,
            shuffle: true,
            isolate_documents: false,
            packing: Packing::Auto,
        }
    }
}

impl DataConfig {
    /// The index and the number of parts of [`shard`](Self::shard); `None` where it is no such thing.
    pub(crate) fn shard_of(&self) -> Option<(u64, u64)> {
        let (index, total) = self.shard.split_once('/')?;
        let (index, total): (u64, u64) = (index.parse().ok()?, total.parse().ok()?);
        (index < total && total <= MAX_SHARDS).then_some((index, total))
    }

    /// The same without parts.
    pub(crate) fn unsharded(&self) -> Self {
        Self { shard: WHOLE.to_owned(), ..self.clone() }
    }

    /// How windows are cut and ordered.
    pub fn cutting(&self) -> Cutting {
        Cutting { shuffle: self.shuffle, isolate_documents: self.isolate_documents, packing: self.packing }
    }

    /// Every problem, as (key, what is wrong with it); empty when there is none.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut tell = |key: &str, problem: String| problems.push((key.to_owned(), problem));
        if self.train.is_empty() && self.sources.is_empty() {
            tell("train", "expected at least one file, folder or `builtin:` source, found an empty list".to_owned());
        }
        for (key, paths) in [("train", &self.train), ("validation", &self.validation)] {
            if paths.iter().any(|path| path.trim().is_empty()) {
                tell(key, "expected paths, found an empty one".to_owned());
            }
        }
        for path in &self.validation {
            if self.train.contains(path) {
                tell("validation", format!("`{path}` is in `train` too, so its loss would say nothing about unseen text"));
            }
        }
        for (key, problem) in mixture_config::problems(self) {
            tell(&key, problem);
        }
        if !(0.0..1.0).contains(&self.validation_fraction) {
            tell("validation_fraction", format!("expected a number from 0 to below 1, found `{}`", self.validation_fraction));
        }
        for (key, problem) in self.filter.problems() {
            tell(&format!("filter.{key}"), problem);
        }
        for (field, name) in &self.fields {
            if !RENAMED.contains(&field.as_str()) || name.is_empty() {
                let expected = RENAMED.join("`, `");
                tell("fields", format!("expected names for `{expected}`, found `{field}` = `{name}`"));
            }
        }
        if self.text_field.is_empty() {
            tell("text_field", "expected the name of a field, found an empty one".to_owned());
        }
        if self.chat_template.trim().is_empty() {
            tell("chat_template", "expected the name of a template or a path, found an empty one".to_owned());
        }
        if !(0.0..=1.0).contains(&self.max_leakage) {
            tell("max_leakage", format!("expected a number from 0 to 1, found `{}`", self.max_leakage));
        }
        if !(0.0..=1.0).contains(&self.max_empty_rows) {
            tell("max_empty_rows", format!("expected a number from 0 to 1, found `{}`", self.max_empty_rows));
        }
        if self.shard_of().is_none() {
            tell("shard", format!("expected `index/total` with an index below the total, at most {MAX_SHARDS}, found `{}`", self.shard));
        }
        if self.shard_tokens == 0 {
            tell("shard_tokens", "expected at least 1, found 0".to_owned());
        }
        if !(1..=MAX_ROW_BYTES_LIMIT).contains(&self.max_row_bytes) {
            tell("max_row_bytes", format!("expected 1 to {MAX_ROW_BYTES_LIMIT} bytes, found `{}`", self.max_row_bytes));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_lacks_only_a_source() {
        let problems = DataConfig::default().problems();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].0, "train");
        let config = DataConfig { train: vec!["a.txt".to_owned()], ..DataConfig::default() };
        assert_eq!(config.problems(), []);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let config = DataConfig {
            train: vec!["a".to_owned(), " ".to_owned()],
            validation: vec!["a".to_owned()],
            validation_fraction: f64::NAN,
            text_field: String::new(),
            chat_template: " ".to_owned(),
            max_empty_rows: f64::NAN,
            max_row_bytes: 0,
            ..DataConfig::default()
        };
        let keys: Vec<String> = config.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["train", "validation", "validation_fraction", "text_field", "chat_template", "max_empty_rows", "max_row_bytes"]);
        for fraction in [1.0, -0.1, f64::INFINITY] {
            let config = DataConfig { train: vec!["a".to_owned()], validation_fraction: fraction, ..DataConfig::default() };
            assert_eq!(config.problems().len(), 1, "{fraction}");
        }
    }

    #[test]
    fn unknown_keys_are_refused_and_absent_ones_have_defaults() {
        let config: DataConfig = serde_json::from_str(r#"{"train": ["x.jsonl"], "on_bad_row": "skip"}"#).unwrap();
        assert_eq!(config, DataConfig { train: vec!["x.jsonl".to_owned()], on_bad_row: OnBadRow::Skip, ..DataConfig::default() });
        let config: DataConfig = serde_json::from_str(r#"{"rows": "chat", "train_on": "all"}"#).unwrap();
        assert_eq!((config.rows, config.train_on), (RowKind::Chat, TrainOn::All));
        assert!(serde_json::from_str::<DataConfig>(r#"{"rows": "messages"}"#).is_err());
        assert!(serde_json::from_str::<DataConfig>(r#"{"trian": []}"#).unwrap_err().to_string().contains("trian"));
    }
}
