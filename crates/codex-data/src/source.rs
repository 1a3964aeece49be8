//! Where documents come from: the trait, and the sources that a configuration names.
//!
//! A source only reads. Splitting, safety and what a bad row does are decided in [`crate::pipeline`].

use std::path::Path;

use codex_core::{Digest, files, suggest};
use serde::{Deserialize, Serialize};

use crate::compressed::Compression;
use crate::config::DataConfig;
use crate::document::Document;
use crate::error::DataError;
use crate::folder::FolderSource;
use crate::known;
use crate::memory::{BUILTIN, MemorySource};
use crate::row_stream::RowFormat;
use crate::rows::RowSource;
use crate::split_folder::SplitFolder;
use crate::text::TextSource;

/// An iterator over documents. After a [`DataError::BadRow`] it goes on with the next row; after any other error it ends.
pub type Documents<'a> = Box<dyn Iterator<Item = Result<Document, DataError>> + Send + 'a>;

/// Something that yields the same documents in the same order each time it is asked.
pub trait DataSource: Send + Sync {
    /// The path or name, as messages show it.
    fn name(&self) -> &str;

    /// The size and digest of all its bytes; for a folder, those of its [`checksums`](Self::checksums) together.
    fn checksum(&self) -> Result<SourceChecksum, DataError>;

    /// The size and digest of each file, in reading order.
    fn checksums(&self) -> Result<Vec<SourceChecksum>, DataError> {
        Ok(vec![self.checksum()?])
    }

    /// How the bytes of each of its [`checksums`](Self::checksums) become documents, in the same order.
    ///
    /// With the bytes this decides the tokens, so it is part of the token cache's key: sources that read equal bytes alike say the same.
    /// Where fewer are given than there are checksums, the source's name stands for the others.
    fn readings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether some of its documents may be prompts or chats, so that how those become tokens decides the token cache's key.
    fn has_conversations(&self) -> bool {
        false
    }

    /// Its documents, from the first.
    fn documents(&self) -> Result<Documents<'_>, DataError>;

    /// What the user should know about how the source is read, such as files that are passed over.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The size and digest of one file or built-in source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceChecksum {
    /// The path as it was named, or `builtin:NAME`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// The BLAKE3 of its bytes.
    pub blake3: Digest,
}

impl SourceChecksum {
    pub(crate) fn of_file(path: &Path) -> Result<Self, DataError> {
        Ok(Self { path: path.display().to_string(), bytes: files::size(path)?, blake3: known::digest_of(path)? })
    }
}

/// The sources that a configuration names.
#[derive(Default)]
pub struct Sources {
    /// Those to train on. A share of their documents is held out when `validation` is empty and the configuration says so.
    pub train: Vec<Box<dyn DataSource>>,
    /// Those to validate on.
    pub validation: Vec<Box<dyn DataSource>>,
    /// Those that are measured by themselves, of all validation sets.
    pub sets: Vec<Box<dyn DataSource>>,
    /// What the user should know about how names were understood.
    pub said: Vec<String>,
}

impl Sources {
    fn all(&self) -> impl Iterator<Item = &dyn DataSource> {
        self.train.iter().chain(&self.validation).chain(&self.sets).map(AsRef::as_ref)
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |sources: &[Box<dyn DataSource>]| sources.iter().map(|source| source.name().to_owned()).collect::<Vec<_>>();
        f.debug_struct("Sources")
            .field("train", &names(&self.train))
            .field("validation", &names(&self.validation))
            .field("sets", &names(&self.sets))
            .field("said", &self.said)
            .finish()
    }
}

impl Sources {
    /// The checksum of every file, training sources first, in reading order.
    pub fn checksums(&self) -> Result<Vec<SourceChecksum>, DataError> {
        let mut checksums = Vec::new();
        for source in self.all() {
            checksums.extend(source.checksums()?);
        }
        Ok(checksums)
    }

    /// Whether some documents may be prompts or chats.
    pub(crate) fn has_conversations(&self) -> bool {
        self.all().any(DataSource::has_conversations)
    }

    /// What the sources say about how they are read.
    pub fn notes(&self) -> Vec<String> {
        self.said.iter().cloned().chain(self.all().flat_map(DataSource::notes)).collect()
    }
}

/// Opens what `config.train` and `config.validation` name: files by their extension, folders, and `builtins` by `builtin:NAME`.
///
/// The first problem of the configuration, or the first name that leads nowhere, is the error.
pub fn open_sources(config: &DataConfig, builtins: &[MemorySource]) -> Result<Sources, DataError> {
    if let Some((key, problem)) = config.problems().into_iter().next() {
        return Err(DataError::Config { key, problem });
    }
    let open_all = |key: &'static str, names: &[String]| -> Result<Vec<Box<dyn DataSource>>, DataError> {
        names.iter().map(|name| open_source(config, builtins, key, name)).collect()
    };
    let holds_out = config.validation.is_empty() && config.validation_fraction <= 0.0;
    let key = if config.sources.is_empty() { "train" } else { "sources" };
    let mut sources = Sources {
        validation: open_all("validation", &config.validation)?,
        sets: open_all("validation_sets", &config.paths_of_sets())?,
        ..Sources::default()
    };
    for name in config.train_paths() {
        let Some(folder) = SplitFolder::of(Path::new(&name))? else {
            sources.train.push(open_source(config, builtins, key, &name)?);
            continue;
        };
        sources.train.push(open_file(&folder.train, config)?);
        if holds_out {
            sources.validation.push(open_file(&folder.valid, config)?);
        }
        sources.said.push(folder.told(holds_out));
    }
    Ok(sources)
}

fn open_source(config: &DataConfig, builtins: &[MemorySource], key: &'static str, name: &str) -> Result<Box<dyn DataSource>, DataError> {
    if let Some(wanted) = name.strip_prefix(BUILTIN) {
        let known = || builtins.iter().map(MemorySource::bare_name);
        return match builtins.iter().find(|source| source.bare_name() == wanted) {
            Some(source) => Ok(Box::new(source.clone())),
            None => Err(DataError::UnknownBuiltin {
                name: wanted.to_owned(),
                known: known().map(str::to_owned).collect(),
                nearest: suggest::nearest(wanted, known()).map(str::to_owned),
            }),
        };
    }
    let path = Path::new(name);
    if path.is_dir() {
        Ok(Box::new(FolderSource::open(path, config)?))
    } else if path.is_file() {
        open_file(path, config)
    } else if !path.exists() && name.contains(['*', '?', '[']) {
        Ok(Box::new(FolderSource::of_pattern(name, config, key)?))
    } else if path.exists() {
        Err(DataError::NotAFile { path: name.to_owned() })
    } else {
        Err(DataError::Missing { path: name.to_owned(), key })
    }
}

/// The extensions that are read, as messages list them.
pub(crate) const EXTENSIONS: &str = "`.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.txt`, `.md`, each also with `.gz` or `.zst`";

/// The source for a file, by its extension.
pub(crate) fn open_file(path: &Path, config: &DataConfig) -> Result<Box<dyn DataSource>, DataError> {
    let (_, name) = Compression::of(path);
    let extension = Path::new(&name).extension().unwrap_or_default().to_string_lossy().into_owned();
    match extension.as_str() {
        "txt" | "md" => Ok(Box::new(TextSource::new(path, config.max_row_bytes))),
        rows if RowFormat::of_extension(rows).is_some() => {
            Ok(Box::new(RowSource::new(path, &config.text_field, config.max_row_bytes).configured(config)))
        }
        _ => Err(DataError::Extension { path: path.display().to_string(), found: extension, expected: EXTENSIONS.to_owned() }),
    }
}

/// What the first bytes of a file say it is, when that is not UTF-8 text.
pub(crate) fn foreign_encoding(start: &[u8]) -> Option<&'static str> {
    match start {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => Some("UTF-32"),
        [0xFF, 0xFE, ..] => Some("UTF-16 (little-endian)"),
        [0xFE, 0xFF, ..] => Some("UTF-16 (big-endian)"),
        [a, 0, b, 0, ..] if *a != 0 && *b != 0 => Some("UTF-16 (little-endian, without a byte order mark)"),
        [0, a, 0, b, ..] if *a != 0 && *b != 0 => Some("UTF-16 (big-endian, without a byte order mark)"),
        [0x1F, 0x8B, ..] => Some("compressed with gzip"),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => Some("compressed with zstd"),
        _ => None,
    }
}

/// UTF-8's byte order mark; it is passed over at the start of a file.
pub(crate) const UTF8_BOM: &[u8] = b"\xEF\xBB\xBF";
