//! What is written beside a token cache: what it was made from, what is in it, and the digests that show whether it is still that.
//!
//! `manifest.json` is `{"blake3": …, "manifest": {…}}`, the digest being that of the manifest's canonical JSON.

use std::collections::BTreeMap;
use std::path::Path;

use codex_core::{Digest, files};
use codex_tokenize::Tokenizer;
use codex_tokenize::chat::ChatTemplate;
use serde::{Deserialize, Serialize};

use crate::config::{DataConfig, OnBadRow, TrainOn};
use crate::error::DataError;
use crate::filter::FilterConfig;
use crate::pipeline::{Account, held_out_fraction};
use crate::source::{DataSource, SourceChecksum, Sources};
use crate::split::Split;
use crate::tokens::RECORD_BYTES;

/// The layout of the files; a reader of another layout finds nothing it knows.
pub const SCHEMA: &str = "codex/token-cache/3";

/// Raised by every change of the code that gives other tokens for the same recipe.
pub const PIPELINE_VERSION: u32 = 1;

pub(crate) const MANIFEST: &str = "manifest.json";

/// The largest manifest that is read.
const MAX_MANIFEST_BYTES: u64 = 1 << 30;

/// Everything that decides the tokens, and the paths of the sources for people, which decide nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// [`PIPELINE_VERSION`] of the program that made the cache.
    pub pipeline_version: u32,
    /// The digest of the tokenizer.
    pub tokenizer: Digest,
    /// How documents were chosen.
    pub params: RecipeParams,
    /// What was trained on, in order.
    pub train: Vec<RecipeSource>,
    /// What was validated on, in order.
    pub validation: Vec<RecipeSource>,
}

/// One file or built-in source of a recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeSource {
    /// How its bytes become documents: see [`DataSource::readings`].
    pub reading: String,
    /// Its path, size and digest.
    pub checksum: SourceChecksum,
}

/// What of a recipe decides the tokens: its digest is the cache's key.
#[derive(Serialize)]
struct KeyParts<'a> {
    pipeline_version: u32,
    tokenizer: Digest,
    params: &'a RecipeParams,
    train: Vec<(&'a str, u64, Digest)>,
    validation: Vec<(&'a str, u64, Digest)>,
}

/// The settings that decide the tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeParams {
    /// The JSONL field of the text.
    pub text_field: String,
    /// The names of the other fields, where they are called otherwise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// The share held out by hash; 0 when there were validation sources.
    pub validation_fraction: f64,
    /// The part of the training documents that was read, as `index/total`; absent where all were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// What bad rows did.
    pub on_bad_row: OnBadRow,
    /// The longest row, where one that is longer is skipped; where it is an error, no cache comes of it.
    pub max_row_bytes: Option<usize>,
    /// What leaves documents out, where something does.
    #[serde(default, skip_serializing_if = "FilterConfig::is_off")]
    pub filter: FilterConfig,
    /// The digest of the safety configuration.
    pub safety: Digest,
    /// How prompts and chats become tokens; absent where all rows are texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversations: Option<ConversationParams>,
}

/// The settings that decide the tokens of prompts and chats, and which are trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConversationParams {
    /// The digest of the chat template.
    pub chat_template: Digest,
    /// Which tokens are trained.
    pub train_on: TrainOn,
}

/// What a token cache holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheManifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// The digest of the recipe, and the name of the folder.
    pub key: Digest,
    /// What decides the tokens.
    pub recipe: Recipe,
    /// The number of ids of the tokenizer.
    pub vocab_size: usize,
    /// The bytes of a stored token: 2 or 4, little-endian.
    pub bytes_per_token: usize,
    /// The id after every document.
    pub end_of_text: u32,
    /// The id that fills the last window.
    pub pad: u32,
    /// Documents of both splits.
    pub num_records: u64,
    /// What happened to the documents on their way.
    pub account: Account,
    /// The content of each split.
    pub splits: Splits,
    /// The names that the documents' records refer to.
    pub origins: Vec<String>,
    /// The list of the documents that a filter has left out; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<ListManifest>,
}

/// A list of documents in a cache: one JSON object per line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListManifest {
    /// Its file.
    pub path: String,
    /// Its lines.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// The BLAKE3 of its bytes.
    pub blake3: Digest,
}

/// One entry for each split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Splits {
    /// What is trained on.
    pub train: SplitManifest,
    /// What is validated on.
    pub validation: SplitManifest,
}

/// The content of one split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitManifest {
    /// Documents.
    #[serde(rename = "count")]
    pub documents: u64,
    /// Tokens, with one end of text for each document.
    pub tokens: u64,
    /// The UTF-8 bytes of the documents as they were tokenized.
    pub text_bytes: u64,
    /// The files of the tokens.
    pub shards: Vec<ShardManifest>,
    /// The files of the documents' records.
    pub document_shards: Vec<ShardManifest>,
    /// The file of how often each id is a trained token; none where there is no document.
    pub counts: Vec<ShardManifest>,
    /// Which tokens are trained; absent where all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<MaskManifest>,
}

/// A file of items of one size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardManifest {
    /// Its name.
    pub path: String,
    /// Its items.
    pub count: u64,
    /// The BLAKE3 of its bytes.
    pub checksum: Digest,
    /// Of documents: the position after the last token of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_end: Option<u64>,
}

/// The files that say which tokens of a split are trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskManifest {
    /// Tokens that are trained.
    pub trained: u64,
    /// The files, a byte for each token.
    pub shards: Vec<ShardManifest>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    blake3: Digest,
    manifest: CacheManifest,
}

impl Recipe {
    /// The recipe of these sources, which are read once for their digests, and the bytes of each source.
    pub(crate) fn new(
        config: &DataConfig,
        sources: &Sources,
        tokenizer: Digest,
        safety: Digest,
        conversations: Option<ConversationParams>,
    ) -> Result<(Self, Vec<u64>), DataError> {
        let mut sizes = Vec::new();
        let mut checksums = |sources: &[Box<dyn DataSource>]| -> Result<Vec<RecipeSource>, DataError> {
            let mut all = Vec::new();
            for source in sources {
                let files = source.checksums()?;
                sizes.push(files.iter().map(|file| file.bytes).sum());
                let readings = source.readings().into_iter().map(Some).chain(std::iter::repeat(None));
                let with_reading = files.into_iter().zip(readings);
                all.extend(with_reading.map(|(checksum, reading)| {
                    let reading = reading.unwrap_or_else(|| format!("`{}`", source.name()));
                    RecipeSource { reading, checksum }
                }));
            }
            Ok(all)
        };
        let (train, validation) = (checksums(&sources.train)?, checksums(&sources.validation)?);
        let recipe = Self {
            pipeline_version: PIPELINE_VERSION,
            tokenizer,
            params: RecipeParams {
                text_field: config.text_field.clone(),
                fields: config.fields.clone(),
                validation_fraction: held_out_fraction(config, sources),
                shard: config.shard_of().filter(|(_, total)| *total > 1).map(|(index, total)| format!("{index}/{total}")),
                on_bad_row: config.on_bad_row,
                max_row_bytes: (config.on_bad_row == OnBadRow::Skip).then_some(config.max_row_bytes),
                filter: config.filter.clone(),
                safety,
                conversations,
            },
            train,
            validation,
        };
        Ok((recipe, sizes))
    }

    /// Every source, training first.
    pub fn sources(&self) -> impl Iterator<Item = &SourceChecksum> {
        self.train.iter().chain(&self.validation).map(|source| &source.checksum)
    }

    /// The key of the cache: how a path is spelled, or where a data folder is moved to, changes nothing.
    pub fn key(&self) -> Result<Digest, DataError> {
        let parts = KeyParts {
            pipeline_version: self.pipeline_version,
            tokenizer: self.tokenizer,
            params: &self.params,
            train: parts_of(&self.train),
            validation: parts_of(&self.validation),
        };
        Digest::of_json(&parts).map_err(|source| DataError::Manifest { source })
    }
}

fn parts_of(sources: &[RecipeSource]) -> Vec<(&str, u64, Digest)> {
    sources.iter().map(|source| (source.reading.as_str(), source.checksum.bytes, source.checksum.blake3)).collect()
}

/// The digest of all that decides the documents, so of a recipe without a tokenizer: what a tokenizer that is trained on them is kept under.
///
/// `safety` is the digest of the safety configuration. The sources are read once. All parts of a collection have the same, since they need one tokenizer.
pub fn documents_digest(config: &DataConfig, sources: &Sources, safety: Digest) -> Result<Digest, DataError> {
    let config = &config.unsharded();
    let conversations = chat_template(config, sources)?.map(|template| ConversationParams::new(config, &template));
    Recipe::new(config, sources, Digest::of_bytes(b"no tokenizer"), safety, conversations)?.0.key()
}

/// The template for chats, where there may be some.
pub(crate) fn chat_template(config: &DataConfig, sources: &Sources) -> Result<Option<ChatTemplate>, DataError> {
    if !sources.has_conversations() {
        return Ok(None);
    }
    let failed = |source| DataError::Template { name: config.chat_template.clone(), source: Box::new(source) };
    ChatTemplate::open(&config.chat_template).map(Some).map_err(failed)
}

impl ConversationParams {
    pub(crate) fn new(config: &DataConfig, template: &ChatTemplate) -> Self {
        Self { chat_template: template.digest(), train_on: config.train_on }
    }
}

impl CacheManifest {
    /// The entry of a split.
    pub fn split(&self, split: Split) -> &SplitManifest {
        match split {
            Split::Train => &self.splits.train,
            Split::Validation => &self.splits.validation,
        }
    }

    /// The bytes of its tokens, records and masks.
    pub(crate) fn data_bytes(&self) -> u64 {
        let of = |split: &SplitManifest| {
            let per_token = self.bytes_per_token as u64 + u64::from(split.mask.is_some());
            split.tokens.saturating_mul(per_token).saturating_add(split.documents.saturating_mul(RECORD_BYTES as u64))
        };
        Split::ALL.into_iter().map(|split| of(self.split(split))).fold(0, u64::saturating_add)
    }

    /// The digest of the tokenizer that made the tokens.
    pub fn tokenizer(&self) -> Digest {
        self.recipe.tokenizer
    }

    /// The checksum of every source, training first: what a run's `dataset_checksums.json` lists.
    pub fn sources(&self) -> Vec<SourceChecksum> {
        self.recipe.sources().cloned().collect()
    }

    /// The bytes of `manifest.json`.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, DataError> {
        let failed = |source| DataError::Manifest { source };
        let sealed = Sealed { blake3: Digest::of_json(self).map_err(failed)?, manifest: self.clone() };
        let mut json = serde_json::to_vec_pretty(&sealed).map_err(failed)?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads and checks the manifest of a cache's folder.
    pub(crate) fn read(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join(MANIFEST);
        let corrupt = |found: String| DataError::CorruptCache { path: path.clone(), found };
        let bytes = match files::read_bounded(&path, MAX_MANIFEST_BYTES) {
            Err(error) if error.is_not_found() => return Err(corrupt("it is missing".to_owned())),
            other => other?,
        };
        let sealed: Sealed = serde_json::from_slice(&bytes).map_err(|error| corrupt(format!("not a manifest: {error}")))?;
        let manifest = sealed.manifest;
        let expected = Digest::of_json(&manifest).map_err(|source| DataError::Manifest { source })?;
        if sealed.blake3 != expected || manifest.to_json()? != bytes {
            return Err(corrupt(format!("expected blake3 {expected}, found {}", sealed.blake3)));
        }
        let key = manifest.recipe.key()?;
        if manifest.schema != SCHEMA {
            return Err(corrupt(format!("expected schema `{SCHEMA}`, found `{}`", manifest.schema)));
        }
        if manifest.key != key {
            return Err(corrupt(format!("expected key {key}, found {}", manifest.key)));
        }
        Ok(manifest)
    }

    /// Whether this tokenizer made the tokens.
    pub fn is_of(&self, tokenizer: &dyn Tokenizer) -> bool {
        self.recipe.tokenizer == tokenizer.digest()
    }
}
