//! Several sources and several validation sets: what is read, in what order, and what decides the key of it all.

use codex_data::{
    Cutting, DataConfig, DataError, MemorySource, MixtureLoader, MixtureStage, Packing, SourceConfig, Split, StageConfig, TokenCache,
    TrainingData, WindowLoader, Windows, open_sources, prepare,
};
use codex_safety::{SafetyConfig, Scanner};
use codex_tokenize::{ByteTokenizer, TokenizerConfig};

use crate::cache::digest;

const WINDOWS: Windows = Windows {
    context_length: 8,
    seed: 3,
    cutting: Cutting { shuffle: true, isolate_documents: false, packing: Packing::Auto },
    windows_per_step: 4,
};

fn sources(named: &[(&str, f64)]) -> DataConfig {
    let source = |name: &str, weight| SourceConfig { paths: vec![format!("builtin:{name}")], weight };
    let sources = named.iter().map(|&(name, weight)| (name.to_owned(), source(name, weight))).collect();
    DataConfig { sources, validation_fraction: 0.2, ..DataConfig::default() }
}

fn builtins() -> Vec<MemorySource> {
    let documents = |name: &str, n: usize| (0..n).map(|i| format!("document {i} of {name}, which is not long")).collect::<Vec<_>>();
    ["letters", "words", "apart"].map(|name| MemorySource::from_documents(name, documents(name, 30))).to_vec()
}

fn assembled(config: &DataConfig, root: &std::path::Path, asked: &mut Vec<DataConfig>) -> Result<TrainingData, DataError> {
    let tokenizer = ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap();
    let scanner = Scanner::new(&SafetyConfig::default()).unwrap();
    TrainingData::assemble(config, |config| -> Result<TokenCache, DataError> {
        asked.push(config.clone());
        prepare(config, &open_sources(config, &builtins())?, &tokenizer, &scanner, digest(), root, &mut |_| {})
    })
}

#[test]
fn each_source_has_a_cache_and_each_set_a_name() {
    let root = tempfile::tempdir().unwrap();
    let mut asked = Vec::new();
    let mut config = sources(&[("letters", 3.0), ("words", 1.0)]);
    config.validation_sets = [("apart".to_owned(), vec!["builtin:apart".to_owned()])].into();
    let data = assembled(&config, root.path(), &mut asked).unwrap();
    assert!(!data.is_plain() && asked.len() == 3 && asked.iter().all(|config| config.sources.is_empty() && config.problems().is_empty()));
    let names: Vec<(&str, bool, Split)> = data.validation().iter().map(|set| (set.name.as_str(), set.is_main, set.split)).collect();
    assert_eq!(names, [("letters", true, Split::Validation), ("words", true, Split::Validation), ("apart", false, Split::Train)]);
    assert_eq!(config.named_sets(), ["letters", "words", "apart"]);
    assert_eq!(data.n_tokens(Split::Train), data.train_splits().iter().map(|split| split.n_tokens()).sum::<u64>());
    assert_eq!(data.splits(Split::Validation).len(), 2);
    // The whole of a set is measured.
    let whole = data.validation()[2].cache.manifest();
    assert_eq!((whole.splits.train.documents, whole.splits.validation.documents), (30, 0));
    // All files are in the record of what was read, and its manifests are found again in the order in which caches are asked for.
    let all = open_sources(&config, &builtins()).unwrap();
    assert_eq!(all.checksums().unwrap().len(), 3);
    let recorded = TrainingData::recorded(&data.record().unwrap());
    let keys: Vec<_> = recorded.iter().map(|manifest| manifest.key).collect();
    assert_eq!(keys, data.caches().iter().map(|cache| cache.key()).collect::<Vec<_>>());
    assert_eq!(data.safety().texts, 90);
}

#[test]
fn validation_files_hold_nothing_back_from_the_sources() {
    let root = tempfile::tempdir().unwrap();
    let mut config = sources(&[("letters", 1.0), ("words", 1.0)]);
    config.validation = vec!["builtin:apart".to_owned()];
    let data = assembled(&config, root.path(), &mut Vec::new()).unwrap();
    assert!(data.sources().iter().all(|source| source.cache.manifest().splits.train.documents == 30));
    assert_eq!(data.validation().len(), 1);
    assert_eq!((data.validation()[0].name.as_str(), data.validation()[0].is_main), ("", true));
    assert_eq!(config.named_sets(), [""; 0]);
}

#[test]
fn without_a_mixture_the_key_and_the_record_are_the_caches() {
    let root = tempfile::tempdir().unwrap();
    let config = DataConfig { train: vec!["builtin:letters".to_owned()], validation_fraction: 0.2, ..DataConfig::default() };
    let data = assembled(&config, root.path(), &mut Vec::new()).unwrap();
    let cache = &data.sources()[0].cache;
    assert!(data.is_plain());
    assert_eq!(data.key().unwrap(), cache.key());
    assert_eq!(data.record().unwrap(), serde_json::to_value(cache.manifest()).unwrap());
    assert_eq!(TrainingData::recorded(&data.record().unwrap())[0].key, cache.key());
    let loader = data.train_loader(&WINDOWS).unwrap();
    let expected = WindowLoader::new(cache.split(Split::Train), 8, 3, true, false).unwrap();
    assert_eq!(loader.batch(5, 7).unwrap(), expected.batch(5, 7).unwrap());
    assert_eq!((loader.windows_per_epoch(), loader.served(9)), (expected.windows_per_epoch(), vec![("", 9)]));
}

#[test]
fn weights_stages_and_sets_are_part_of_the_key() {
    let root = tempfile::tempdir().unwrap();
    let key = |config: &DataConfig| assembled(config, root.path(), &mut Vec::new()).unwrap().key().unwrap();
    let config = sources(&[("letters", 1.0), ("words", 1.0)]);
    let mut staged = config.clone();
    staged.stages = vec![StageConfig { from_step: 4, weights: [("words".to_owned(), 1.0)].into() }];
    let mut measured = config.clone();
    measured.validation_sets = [("apart".to_owned(), vec!["builtin:apart".to_owned()])].into();
    let keys = [key(&config), key(&sources(&[("letters", 1.0), ("words", 2.0)])), key(&staged), key(&measured)];
    for (i, key) in keys.iter().enumerate() {
        assert!(!keys[..i].contains(key), "{i}");
    }
    assert_eq!(key(&config), keys[0]);
}

#[test]
fn stages_go_on_where_the_ones_before_have_come_to() {
    let root = tempfile::tempdir().unwrap();
    let mut config = sources(&[("letters", 1.0), ("words", 0.0)]);
    let stage = |from_step, words| StageConfig { from_step, weights: [("letters".to_owned(), 1.0), ("words".to_owned(), words)].into() };
    config.stages = vec![stage(3, 1.0), stage(600, 0.0)];
    let data = assembled(&config, root.path(), &mut Vec::new()).unwrap();
    let loader = data.train_loader(&WINDOWS).unwrap();
    // 8 windows of one, then halves up to window 2396, then one again.
    assert_eq!(loader.served(8), [("letters", 8), ("words", 0)]);
    assert_eq!(loader.served(2396), [("letters", 8 + 1194), ("words", 1194)]);
    assert_eq!(loader.served(3000), [("letters", 8 + 1194 + 604), ("words", 1194)]);
    // Every window of every source is served in turn, epoch after epoch, and none is passed over.
    let mut seen = [0, 0];
    let each: Vec<WindowLoader> =
        data.sources().iter().map(|source| WindowLoader::new(source.cache.split(Split::Train), 8, 3, true, false).unwrap()).collect();
    for position in 0..2600 {
        let batch = loader.batch(position, 1).unwrap();
        let source = batch.documents[0].source;
        assert_eq!(batch.inputs, each[source].batch(seen[source], 1).unwrap().inputs, "{position}");
        seen[source] += 1;
        if position % 100 == 99 {
            assert_eq!(loader.served(position + 1), [("letters", seen[0]), ("words", seen[1])]);
        }
    }
    // A batch is what its windows are one by one, across the bounds of stages and blocks.
    let batch = loader.batch(2390, 12).unwrap();
    let apart: Vec<u32> = (2390..2402).flat_map(|position| loader.batch(position, 1).unwrap().targets).collect();
    assert_eq!((batch.n_rows, batch.context_length, batch.targets, batch.documents.len()), (12, 8, apart, 12));
}

#[test]
fn a_source_without_windows_is_named() {
    let root = tempfile::tempdir().unwrap();
    let mut config = sources(&[("letters", 1.0), ("words", 1.0)]);
    config.validation_fraction = 0.999_999;
    let data = assembled(&config, root.path(), &mut Vec::new());
    // Nothing to train on is found when the cache is made.
    let message = match data {
        Err(error) => error.to_string(),
        Ok(data) => data.train_loader(&WINDOWS).unwrap_err().to_string(),
    };
    assert!(message.contains("train"), "{message}");
    let plain = DataConfig { train: vec!["builtin:letters".to_owned()], ..DataConfig::default() };
    let data = assembled(&plain, root.path(), &mut Vec::new()).unwrap();
    let empty = WindowLoader::new(data.sources()[0].cache.split(Split::Validation), 8, 3, true, false).unwrap();
    let full = WindowLoader::new(data.sources()[0].cache.split(Split::Train), 8, 3, true, false).unwrap();
    let parts = vec![("none".to_owned(), empty), ("some".to_owned(), full)];
    let stage = |weight| MixtureStage { from: 0, weights: [("none".to_owned(), weight), ("some".to_owned(), 1.0)].into() };
    let error = MixtureLoader::new(parts.clone(), &[stage(1.0)]).unwrap_err();
    assert_eq!(error.to_string(), "data.sources.none: the source `none` has no training windows and a weight above 0");
    assert!(MixtureLoader::new(parts, &[stage(0.0)]).is_ok());
}

#[test]
fn what_is_trained_on_and_validated_on_is_found() {
    let root = tempfile::tempdir().unwrap();
    let text = |from: u32, n: u32| (from..from + n).map(|i| format!("w{i} ")).collect::<Vec<_>>().concat();
    let builtins = [
        MemorySource::from_documents("seen", [text(0, 40), text(100, 40)]),
        MemorySource::from_documents("held", [text(1000, 40), text(100, 20) + &text(2000, 20), "short".to_owned()]),
        MemorySource::from_documents("apart", [text(5000, 40)]),
    ];
    let tokenizer = ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap();
    let scanner = Scanner::new(&SafetyConfig::default()).unwrap();
    let leakage = |validation: &str| {
        let config = DataConfig {
            train: vec!["builtin:seen".to_owned()],
            validation: vec![format!("builtin:{validation}")],
            ..DataConfig::default()
        };
        let cache = |config: &DataConfig| -> Result<TokenCache, DataError> {
            prepare(config, &open_sources(config, &builtins)?, &tokenizer, &scanner, digest(), root.path(), &mut |_| {})
        };
        TrainingData::assemble(&config, cache).unwrap().leakage().unwrap()
    };
    let found = leakage("held");
    // Bytes are tokens here: all runs within the twenty words of 5 bytes that were seen, and the one that reaches into the next word's first letter.
    assert_eq!((found.runs, found.found), ((40 * 6 - 12) + (20 * 5 + 20 * 6 - 12), 100 - 12 + 1));
    assert_eq!((found.documents.len(), found.documents[0].0.line), (1, Some(2)));
    assert!((found.documents[0].1 - 89.0 / 208.0).abs() < 1e-12 && found.share() > 0.19);
    let apart = leakage("apart");
    assert_eq!((apart.found, apart.documents.len(), apart.share().to_bits()), (0, 0, 0.0_f64.to_bits()));
}
