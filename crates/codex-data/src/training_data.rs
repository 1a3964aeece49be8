//! What a run reads: the sources that it is trained on, with their weights, and the sets that it is validated on.
//!
//! Each source and each set has a token cache of its own, so that another weight or another set makes nothing again.

use std::collections::BTreeMap;
use std::sync::Arc;

use codex_core::Digest;
use codex_safety::Tally;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::cache::TokenCache;
use crate::config::DataConfig;
use crate::error::DataError;
use crate::manifest::CacheManifest;
use crate::memory::BUILTIN;
use crate::mixture::{MixtureLoader, MixtureStage};
use crate::mixture_config::StageConfig;
use crate::split::Split;
use crate::tokens::TokenSplit;
use crate::window::{Cutting, WindowLoader};

/// The schema of the record of several sources or sets.
const MIXTURE: &str = "codex mixture v1";

/// The tokens of a run.
#[derive(Clone, Debug)]
pub struct TrainingData {
    sources: Vec<TrainSource>,
    stages: Vec<StageConfig>,
    validation: Vec<ValidationSet>,
}

/// What is trained on.
#[derive(Clone, Debug)]
pub struct TrainSource {
    /// Its name; empty where there is no mixture.
    pub name: String,
    /// Its weight before the first stage.
    pub weight: f64,
    /// Its tokens, those of the training split.
    pub cache: Arc<TokenCache>,
}

/// What is validated on.
#[derive(Clone, Debug)]
pub struct ValidationSet {
    /// Its name in metrics; empty for the only one.
    pub name: String,
    /// Whether it is part of the validation that picks the best checkpoint.
    pub is_main: bool,
    /// Its tokens.
    pub cache: Arc<TokenCache>,
    /// Those of this split.
    pub split: Split,
}

/// How windows are cut and ordered.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Inputs of a window.
    pub context_length: usize,
    /// Seed of the order.
    pub seed: u64,
    /// The rest of what decides them; validation is never shuffled.
    pub cutting: Cutting,
    /// Windows of an optimizer step, in which stages are counted.
    pub windows_per_step: u64,
}

impl From<TokenCache> for TrainingData {
    fn from(cache: TokenCache) -> Self {
        Self::alone(cache, Split::Validation)
    }
}

impl TrainingData {
    /// The whole of a cache that was made without a split, to be measured on.
    pub fn measured(cache: TokenCache) -> Self {
        Self::alone(cache, Split::Train)
    }

    /// One cache, measured on this split of it.
    fn alone(cache: TokenCache, split: Split) -> Self {
        let cache = Arc::new(cache);
        let validation = ValidationSet { name: String::new(), is_main: true, cache: Arc::clone(&cache), split };
        Self { sources: vec![TrainSource { name: String::new(), weight: 1.0, cache }], stages: Vec::new(), validation: vec![validation] }
    }

    /// The data that a configuration names; `cache_of` makes or finds the cache of a configuration without mixture and sets.
    pub fn assemble<E>(config: &DataConfig, mut cache_of: impl FnMut(&DataConfig) -> Result<TokenCache, E>) -> Result<Self, E> {
        let mut all = if config.sources.is_empty() {
            Self::from(cache_of(&config.of_paths(&config.train, &config.validation))?)
        } else {
            let mut sources = Vec::new();
            for (name, source) in &config.sources {
                let mut of_source = config.of_paths(&source.paths, &[]);
                if !config.validation.is_empty() {
                    of_source.validation_fraction = 0.0;
                }
                sources.push(TrainSource { name: name.clone(), weight: source.weight, cache: Arc::new(cache_of(&of_source)?) });
            }
            let mut validation = Vec::new();
            if config.validation.is_empty() {
                let held_out = |source: &&TrainSource| source.cache.split(Split::Validation).n_tokens() > 1;
                validation.extend(sources.iter().filter(held_out).map(|source| ValidationSet {
                    name: source.name.clone(),
                    is_main: true,
                    cache: Arc::clone(&source.cache),
                    split: Split::Validation,
                }));
            } else {
                validation.push(whole(String::new(), true, cache_of(&config.whole(&config.validation))?));
            }
            Self { sources, stages: config.stages.clone(), validation }
        };
        for (name, paths) in &config.validation_sets {
            all.validation.push(whole(name.clone(), false, cache_of(&config.whole(paths))?));
        }
        Ok(all)
    }

    /// What is trained on.
    pub fn sources(&self) -> &[TrainSource] {
        &self.sources
    }

    /// The stages, after the first.
    pub fn stages(&self) -> &[StageConfig] {
        &self.stages
    }

    /// What is validated on.
    pub fn validation(&self) -> &[ValidationSet] {
        &self.validation
    }

    /// Whether there are several sources or sets, each with its name.
    pub fn is_plain(&self) -> bool {
        matches!((self.sources.as_slice(), self.validation.as_slice()), ([source], [_]) if source.name.is_empty())
    }

    /// The digest of all that decides what a run reads: the cache's own key where there is but one.
    pub fn key(&self) -> Result<Digest, DataError> {
        match self.sources.as_slice() {
            [only] if self.is_plain() => Ok(only.cache.key()),
            _ => Digest::of_json(&self.described(|cache| json!(cache.key()))).map_err(|source| DataError::Manifest { source }),
        }
    }

    /// Sources with their weights, stages and sets, each cache as `of` has it.
    fn described(&self, of: impl Fn(&TokenCache) -> Value) -> Value {
        let source = |source: &TrainSource| json!({ "name": source.name, "weight": source.weight, "cache": of(&source.cache) });
        let set = |set: &ValidationSet| json!({ "name": set.name, "main": set.is_main, "split": set.split, "cache": of(&set.cache) });
        json!({
            "schema": MIXTURE,
            "sources": self.sources.iter().map(source).collect::<Vec<_>>(),
            "stages": self.stages,
            "validation": self.validation.iter().map(set).collect::<Vec<_>>(),
        })
    }

    /// What the record of a run says: the cache's manifest where there is but one, and otherwise the key and the manifest of each.
    ///
    /// # Errors
    /// A number that JSON cannot hold.
    pub fn record(&self) -> Result<Value, DataError> {
        let manifest = |cache: &TokenCache| json!(cache.manifest());
        Ok(match self.sources.as_slice() {
            [only] if self.is_plain() => manifest(&only.cache),
            _ => {
                let mut record = self.described(manifest);
                record["key"] = json!(self.key()?);
                record
            }
        })
    }

    /// The manifests in the record of a run, in the order in which [`assemble`](Self::assemble) asks for caches; none where it is no such record.
    pub fn recorded(record: &Value) -> Vec<CacheManifest> {
        let manifest = |value: &Value| CacheManifest::deserialize(value).ok();
        if record["schema"] != json!(MIXTURE) {
            return manifest(record).into_iter().collect();
        }
        let parts = |part: &str| record[part].as_array().into_iter().flatten();
        // A held-out part is in its source's cache.
        let of_their_own = parts("validation").filter(|set| set["split"] == json!(Split::Train));
        parts("sources").chain(of_their_own).filter_map(|part| manifest(&part["cache"])).collect()
    }

    /// Whether some tokens of the training are not trained.
    pub fn is_masked(&self) -> bool {
        self.sources.iter().any(|source| source.cache.is_masked())
    }

    /// Every cache once, sources first.
    pub fn caches(&self) -> Vec<&TokenCache> {
        let mut caches: Vec<&TokenCache> = Vec::new();
        let all = self.sources.iter().map(|source| &source.cache).chain(self.validation.iter().map(|set| &set.cache));
        for cache in all {
            if caches.iter().all(|other| other.key() != cache.key()) {
                caches.push(cache);
            }
        }
        caches
    }

    /// The manifest of each, for what they have come to.
    pub fn manifests(&self) -> Vec<&CacheManifest> {
        self.caches().into_iter().map(TokenCache::manifest).collect()
    }

    /// The training tokens of each source.
    pub fn train_splits(&self) -> Vec<&TokenSplit> {
        self.sources.iter().map(|source| source.cache.split(Split::Train)).collect()
    }

    /// The windows of the training splits in the order of training.
    ///
    /// # Errors
    /// A source without windows that has a weight.
    pub fn train_loader(&self, windows: &Windows) -> Result<MixtureLoader, DataError> {
        let &Windows { context_length, seed, cutting, windows_per_step } = windows;
        let cutting = Cutting { isolate_documents: cutting.isolate_documents || self.is_masked(), ..cutting };
        let loader = |source: &TrainSource| WindowLoader::packed(source.cache.split(Split::Train), context_length, seed, cutting);
        if let [only] = self.sources.as_slice()
            && only.name.is_empty()
        {
            return Ok(loader(only)?.into());
        }
        let first = MixtureStage { from: 0, weights: self.sources.iter().map(|source| (source.name.clone(), source.weight)).collect() };
        let later = self.stages.iter().map(|stage| MixtureStage {
            from: stage.from_step.saturating_sub(1).saturating_mul(windows_per_step),
            weights: stage.weights.clone(),
        });
        let stages: Vec<MixtureStage> = std::iter::once(first).chain(later).collect();
        let parts = self.sources.iter().map(|source| Ok((source.name.clone(), loader(source)?)));
        MixtureLoader::new(parts.collect::<Result<_, DataError>>()?, &stages)
    }

    /// The windows of each validation set, in the order of the text.
    pub fn validation_loaders(&self, windows: &Windows) -> Result<Vec<(&ValidationSet, WindowLoader)>, DataError> {
        let loader = |set: &ValidationSet| {
            let split = set.cache.split(set.split);
            WindowLoader::packed(split, windows.context_length, windows.seed, Cutting { shuffle: false, ..windows.cutting })
        };
        self.validation.iter().map(|set| Ok((set, loader(set)?))).collect()
    }

    /// The tokens of a split: of all sources, or of all sets.
    pub fn n_tokens(&self, split: Split) -> u64 {
        self.splits(split).iter().map(|split| split.n_tokens()).sum()
    }

    /// The tokens of a split: those of each source, or of each set that is part of the main validation.
    pub fn splits(&self, split: Split) -> Vec<&TokenSplit> {
        match split {
            Split::Train => self.train_splits(),
            Split::Validation => self.validation.iter().filter(|set| set.is_main).map(|set| set.cache.split(set.split)).collect(),
        }
    }

    /// What the safety rules did to the texts of all caches.
    pub fn safety(&self) -> Tally {
        let mut sum = Tally::default();
        for manifest in self.manifests() {
            sum.merge(&manifest.account.safety);
        }
        sum
    }
}

fn whole(name: String, is_main: bool, cache: TokenCache) -> ValidationSet {
    ValidationSet { name, is_main, cache: Arc::new(cache), split: Split::Train }
}

impl DataConfig {
    /// The same for these paths, without mixture and sets.
    fn of_paths(&self, train: &[String], validation: &[String]) -> Self {
        Self {
            train: train.to_vec(),
            validation: validation.to_vec(),
            sources: BTreeMap::new(),
            stages: Vec::new(),
            validation_sets: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// The same for these paths, with nothing held out.
    fn whole(&self, paths: &[String]) -> Self {
        Self { validation_fraction: 0.0, ..self.of_paths(paths, &[]) }
    }

    /// Whether a source that is compiled into the program is named.
    pub fn names_builtins(&self) -> bool {
        let all = [self.train_paths(), self.validation.clone(), self.paths_of_sets()];
        all.iter().flatten().any(|path| path.starts_with(BUILTIN))
    }

    /// Every path that training reads: `train`, or those of the sources.
    pub(crate) fn train_paths(&self) -> Vec<String> {
        if self.sources.is_empty() { self.train.clone() } else { distinct(self.sources.values().flat_map(|source| &source.paths)) }
    }

    /// The names under which validation sets are measured.
    pub fn named_sets(&self) -> Vec<&str> {
        let held_out = self.sources.keys().filter(|_| self.validation.is_empty() && self.validation_fraction > 0.0);
        held_out.chain(self.validation_sets.keys()).map(String::as_str).collect()
    }

    /// Every path of a validation set that is not among `validation`.
    pub(crate) fn paths_of_sets(&self) -> Vec<String> {
        distinct(self.validation_sets.values().flatten().filter(|path| !self.validation.contains(path)))
    }
}

fn distinct<'a>(paths: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for path in paths {
        if !all.contains(path) {
            all.push(path.clone());
        }
    }
    all
}
