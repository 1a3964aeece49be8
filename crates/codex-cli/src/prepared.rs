//! From a configuration to a tokenizer and a token cache: what training, its dry run and evaluation on new text share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_core::{Digest, FileError, Hasher, files};
use codex_data::{
    DataConfig, DataError, KNOWN_FROM_BYTES, KnownChecksums, LEAKAGE_RUN, SourceChecksum, Sources, TokenCache, TrainingData,
    documents_digest, open_sources, train_texts,
};
use codex_safety::{SafetyConfig, Scanner};
use codex_tokenize::{CorpusRecord, LeftOut, TOKENIZER_FILE, Tokenizer, TokenizerConfig, TrainOptions, TrainProgress, Trained};
use codex_train::BaseModel;

use crate::corpus;
use crate::failure::CliError;
use crate::run_config::RunConfig;
use crate::stored_model::Base;
use crate::terminal::{Terminal, bytes};

/// Everything that training reads.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) checksums: Vec<SourceChecksum>,
    pub(crate) tokenizer: Arc<dyn Tokenizer>,
    pub(crate) data: Arc<TrainingData>,
    pub(crate) scanner: Scanner,
    /// What training begins with.
    pub(crate) base: Option<BaseModel>,
}

impl Prepared {
    /// Rows of the embedding: the tokenizer's ids, or as many as the base has, which may be more.
    pub(crate) fn vocab_size(&self) -> usize {
        self.base.as_ref().and_then(BaseModel::vocab_size).unwrap_or_else(|| self.tokenizer.vocab_size())
    }
}

/// Opens the sources, trains or loads the tokenizer, and tokenizes. Both results are kept in `cache_root` under the digest of what made them.
pub(crate) fn prepare(config: &RunConfig, base: Option<Base>, cache_root: &Path, terminal: &Terminal) -> Result<Prepared, CliError> {
    let sources = open_sources(&config.data, &corpus::builtins(&config.data)?)?;
    let checksums = sources.checksums()?;
    let scanner = Scanner::new(&config.safety)?;
    let tokenizer = match (&config.tokenizer.file, &base) {
        (Some(path), None) => codex_tokenize::load(path)?,
        (Some(path), Some(base)) => same_size(codex_tokenize::load(path)?, base, path)?,
        (None, Some(base)) => base.tokenizer()?,
        (None, None) => cached_tokenizer(config, &sources, &scanner, cache_root, terminal)?,
    };
    let data = training_data(config, tokenizer.as_ref(), &scanner, cache_root, terminal)?;
    check_leakage(config, &data, terminal)?;
    Ok(Prepared { checksums, tokenizer, data: Arc::new(data), scanner, base: base.map(|base| base.model) })
}

/// The token caches of all that a configuration names.
pub(crate) fn training_data(
    config: &RunConfig,
    tokenizer: &dyn Tokenizer,
    scanner: &Scanner,
    cache_root: &Path,
    terminal: &Terminal,
) -> Result<TrainingData, CliError> {
    TrainingData::assemble(&config.data, |data| {
        let sources = open_sources(data, &corpus::builtins(data)?)?;
        token_cache(data, &sources, tokenizer, (scanner, &config.safety), cache_root, terminal)
    })
}

/// Refuses data of whose validation too much is trained on, where that is asked for.
fn check_leakage(config: &RunConfig, data: &TrainingData, terminal: &Terminal) -> Result<(), CliError> {
    let max = config.data.max_leakage;
    if max >= 1.0 {
        return Ok(());
    }
    let leakage = data.leakage()?;
    let share = 100.0 * leakage.share();
    terminal.say(&format!("{share:.2} % of the validation's {} runs of {LEAKAGE_RUN} tokens stand in the training text too", leakage.runs));
    if leakage.share() <= max {
        return Ok(());
    }
    let named = leakage.documents.iter().take(3).map(|(origin, share)| format!("`{origin}` ({:.0} %)", 100.0 * share));
    let documents = named.collect::<Vec<_>>().join(", ");
    Err(DataError::Leakage { found: leakage.found, runs: leakage.runs, max, documents }.into())
}

/// A tokenizer in place of the base's: its ids must be rows of the same embedding.
fn same_size(tokenizer: Arc<dyn Tokenizer>, base: &Base, path: &Path) -> Result<Arc<dyn Tokenizer>, CliError> {
    let (found, expected) = (tokenizer.vocab_size(), base.tokenizer()?.vocab_size());
    if found == expected {
        return Ok(tokenizer);
    }
    let what = format!("`tokenizer.file` {} has {found} ids, and the base {expected}", path.display());
    Err(CliError::usage(what, "leave `tokenizer.file` out: the base brings its tokenizer"))
}

/// Digests of large sources that earlier starts have computed are known while the result lives.
pub(crate) fn known_checksums(cache_root: &Path) -> KnownChecksums {
    KnownChecksums::open(&cache_root.join("checksums.json"), KNOWN_FROM_BYTES)
}

/// Where caches are kept for a configuration.
pub(crate) fn cache_root(config: &RunConfig) -> PathBuf {
    config.data.cache_dir.clone().unwrap_or_else(|| config.run.folder.join(".cache"))
}

/// The token cache of these sources, with progress.
pub(crate) fn token_cache(
    data: &DataConfig,
    sources: &Sources,
    tokenizer: &dyn Tokenizer,
    (scanner, safety): (&Scanner, &SafetyConfig),
    cache_root: &Path,
    terminal: &Terminal,
) -> Result<TokenCache, CliError> {
    let mut has_bar = None;
    let safety = digest_of(safety, cache_root)?;
    let cache = codex_data::prepare(data, sources, tokenizer, scanner, safety, &cache_root.join("tokens"), &mut |progress| {
        let start = || terminal.start_bar(progress.bytes_total, 0, "tokenizing {bar:24} {percent} %  {msg}  ETA {eta}");
        if *has_bar.get_or_insert_with(start) {
            terminal.move_bar(progress.bytes_done, format!("{} documents, {} tokens", progress.documents, progress.tokens));
        }
    });
    terminal.end_bar();
    let cache = cache?;
    for note in cache.notes() {
        terminal.warn(note);
    }
    Ok(cache)
}

fn cached_tokenizer(
    config: &RunConfig,
    sources: &Sources,
    scanner: &Scanner,
    cache_root: &Path,
    terminal: &Terminal,
) -> Result<Arc<dyn Tokenizer>, CliError> {
    // By what is read, not by where it lies: the same texts in another folder have the same tokenizer.
    let safety = digest_of(&config.safety, cache_root)?;
    let documents = documents_digest(&config.data, sources, safety)?;
    let mut hasher = Hasher::new();
    hasher.field(b"codex tokenizer cache v2").field(digest_of(&config.tokenizer, cache_root)?.as_bytes()).field(documents.as_bytes());
    let folder = cache_root.join("tokenizers").join(hasher.finish().to_string());
    if folder.join(TOKENIZER_FILE).exists() {
        match codex_tokenize::load(&folder) {
            Ok(tokenizer) => return Ok(tokenizer),
            Err(error) => {
                terminal.warn(&format!("the cached tokenizer is not usable and is trained again: {error}"));
                files::remove_dir_all(&folder)?;
            }
        }
    }
    Ok(train_tokenizer(&config.tokenizer, &config.data, sources, scanner, &folder, terminal)?.tokenizer)
}

/// Text that is handed to a trainer at once, in bytes, and the most texts.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_TEXTS: usize = 1 << 16;

/// Trains a tokenizer on the training texts of these sources, which are read as they are needed, and saves it in `folder`.
pub(crate) fn train_tokenizer(
    config: &TokenizerConfig,
    data: &DataConfig,
    sources: &Sources,
    scanner: &Scanner,
    folder: &Path,
    terminal: &Terminal,
) -> Result<Trained, CliError> {
    // What it is trained on: the held-out sources are not among it.
    let (mut records, mut sizes) = (Vec::new(), Vec::new());
    for source in &sources.train {
        let of_source = source.checksums()?;
        sizes.push(of_source.iter().map(|file| file.bytes).sum::<u64>());
        records.extend(of_source.into_iter().map(|source| CorpusRecord { name: source.path, bytes: source.bytes, digest: source.blake3 }));
    }
    let size: u64 = sizes.iter().sum();
    terminal.say(&format!("training the tokenizer: {} ids at most, on {} of sources", config.vocab_size, bytes(size)));
    let mut trainer = codex_tokenize::trainer(config, &TrainOptions::default())?;
    let mut texts = train_texts(sources, data, scanner);
    let has_bar = terminal.start_bar(size, 0, "counting words {bar:24} {percent} %  {msg}  ETA {eta}");
    let (mut batch, mut waiting, mut n): (Vec<String>, _, _) = (Vec::new(), 0, 0_u64);
    loop {
        let text = texts.next().transpose()?;
        let is_last = text.is_none();
        if let Some(text) = text {
            waiting += text.len();
            n += 1;
            batch.push(text);
        }
        if waiting < BATCH_BYTES && batch.len() < BATCH_TEXTS && !is_last {
            continue;
        }
        trainer.add(&batch.iter().map(String::as_str).collect::<Vec<_>>())?;
        batch.clear();
        waiting = 0;
        if has_bar {
            terminal.move_bar(texts.documents().bytes_done(&sizes), format!("{n} texts"));
        }
        if is_last {
            break;
        }
    }
    terminal.end_bar();
    let trained = trainer.finish(&mut |progress| match progress {
        TrainProgress::Merging { words } => tracing::debug!(words, "merging"),
        TrainProgress::LeftOut(LeftOut { words, occurrences, below }) => terminal.warn(&format!(
            "there are more different words than fit into memory: {words} that occur less than {below} times, {occurrences} in all, do not shape the tokenizer"
        )),
        _ => {}
    })?;
    codex_tokenize::save(trained.tokenizer.as_ref(), config, &records, folder)?;
    Ok(trained)
}

fn digest_of<T: serde::Serialize>(value: &T, place: &Path) -> Result<Digest, CliError> {
    Ok(Digest::of_json(value).map_err(|error| FileError::new("describe", place, error.into()))?)
}
