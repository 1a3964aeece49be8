//! Where documents come from: the trait, and the sources that a configuration names.
//!
//! A source only reads. Splitting, safety and what a bad row does are decided in [`crate::pipeline`].

use std::path::Path;

use codex_core::{Digest, files, suggest};
use codex_safety::Scanner;
use serde::{Deserialize, Serialize};

use crate::config::DataConfig;
use crate::conversation::FieldNames;
use crate::description::SourceDescription;
use crate::document::Document;
use crate::error::DataError;
use crate::file_kind::{FileFormat, FileKind};
use crate::folder::FolderSource;
use crate::input::Input;
use crate::known;
use crate::memory::{BUILTIN, MemorySource};
use crate::rows::RowSource;
use crate::split_folder::SplitFolder;
use crate::standard_input::{STANDARD_INPUT, copied};
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

    /// How each of its files is read, and the fields of the first `max_rows` rows of each. Names of fields are shown as `scanner` lets them.
    #[expect(unused_variables, reason = "a source without rows of fields has nothing to look at")]
    fn describe(&self, max_rows: u64, scanner: &Scanner) -> Result<Vec<SourceDescription>, DataError> {
        Ok(vec![SourceDescription::new(self.name(), "its own")])
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

    /// How each file is read, and the fields of the first `max_rows` rows of each, for a person to look at before anything is trained.
    ///
    /// Names of fields are text of their author, so they are shown as `scanner` lets them.
    pub fn describe(&self, max_rows: u64, scanner: &Scanner) -> Result<Vec<SourceDescription>, DataError> {
        let mut all = Vec::new();
        for source in self.all() {
            all.extend(source.describe(max_rows, scanner)?);
        }
        Ok(all)
    }

    /// What the sources say about how they are read.
    pub fn notes(&self) -> Vec<String> {
        self.said.iter().cloned().chain(self.all().flat_map(DataSource::notes)).collect()
    }
}

/// The most files of a source whose notes are told one by one.
const TOLD_NOTES: usize = 20;

/// The notes of many files, shortened.
pub(crate) fn told_notes(files: &[Box<dyn DataSource>], name: &str) -> Vec<String> {
    let mut notes: Vec<String> = files.iter().flat_map(|file| file.notes()).take(TOLD_NOTES + 1).collect();
    if notes.len() > TOLD_NOTES {
        let others = files.iter().map(|file| file.notes().len()).sum::<usize>() - TOLD_NOTES;
        notes.truncate(TOLD_NOTES);
        notes.push(format!("`{name}`: {others} more files are not read as their names say"));
    }
    notes
}

/// Opens what `config.train` and `config.validation` name: files by their extension and first bytes, folders, patterns, `-` for standard input, and
/// `builtins` by `builtin:NAME`.
///
/// Standard input is read to its end by the first call that names it, and never again in this process: later calls find the same bytes.
///
/// The first problem of the configuration, or the first name that leads nowhere, is the error.
pub fn open_sources(config: &DataConfig, builtins: &[MemorySource]) -> Result<Sources, DataError> {
    if let Some((key, problem)) = config.problems().into_iter().next() {
        return Err(DataError::Config { key, problem });
    }
    check_standard_input(config)?;
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
        sources.train.push(open_path(&folder.train, config)?);
        if let Some(valid) = folder.valid.as_ref().filter(|_| holds_out) {
            sources.validation.push(open_path(valid, config)?);
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
    if name == STANDARD_INPUT {
        return open_input(Input::Standard(copied()?), config);
    }
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

/// Refuses standard input under two names: all of it would be in both.
fn check_standard_input(config: &DataConfig) -> Result<(), DataError> {
    let of_sources = config.sources.iter().map(|(name, source)| (format!("sources.{name}"), &source.paths));
    let of_sets = config.validation_sets.iter().map(|(name, paths)| (format!("validation_sets.{name}"), paths));
    let all = [("train".to_owned(), &config.train), ("validation".to_owned(), &config.validation)];
    let mut first: Option<String> = None;
    for (key, paths) in all.into_iter().chain(of_sources).chain(of_sets) {
        for _ in paths.iter().filter(|path| *path == STANDARD_INPUT) {
            let Some(other) = &first else {
                first = Some(key.clone());
                continue;
            };
            let problem = format!("`-` is standard input, which `data.{other}` names already; write it to a file to read it twice");
            return Err(DataError::Config { key, problem });
        }
    }
    Ok(())
}

/// The extensions that are read, as messages list them.
#[cfg(feature = "parquet")]
pub(crate) const EXTENSIONS: &str =
    "`.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.txt`, `.md`, each also with `.gz` or `.zst`, and `.parquet`";

/// The extensions that are read, as messages list them.
#[cfg(not(feature = "parquet"))]
pub(crate) const EXTENSIONS: &str = "`.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.txt`, `.md`, each also with `.gz` or `.zst`";

/// The source for a file or a folder.
fn open_path(path: &Path, config: &DataConfig) -> Result<Box<dyn DataSource>, DataError> {
    if path.is_dir() { Ok(Box::new(FolderSource::open(path, config)?)) } else { open_file(path, config) }
}

/// The source for a file.
pub(crate) fn open_file(path: &Path, config: &DataConfig) -> Result<Box<dyn DataSource>, DataError> {
    open_input(Input::File(path.to_owned()), config)
}

fn open_input(input: Input, config: &DataConfig) -> Result<Box<dyn DataSource>, DataError> {
    let names = FieldNames::of(config);
    let kind = FileKind::look(&input, &names)?;
    Ok(match kind.format {
        FileFormat::Text => Box::new(TextSource::of_kind(input, kind, config.max_row_bytes)),
        FileFormat::Rows(format) => Box::new(RowSource::of_kind(input, kind, format, names, config.max_row_bytes).with_rows(config.rows)),
    })
}
