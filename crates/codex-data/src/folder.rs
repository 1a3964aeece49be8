//! A folder: every file in it and below that can be read, in the order of their names; or the files of a pattern.
//!
//! Files with other extensions are counted in a note; names that start with a dot are left out.

use std::path::{Path, PathBuf};

use codex_core::{FileError, Hasher, files};
use codex_safety::Scanner;

use crate::config::DataConfig;
use crate::description::SourceDescription;
use crate::error::DataError;
use crate::file_kind::FileKind;
use crate::source::{DataSource, Documents, EXTENSIONS, SourceChecksum, open_file, told_notes};

/// The most files that a pattern may match.
const MAX_MATCHES: usize = 1 << 20;
/// The deepest nesting that is searched.
const MAX_DEPTH: usize = 32;

/// The files of a folder, as they were when it was opened.
pub struct FolderSource {
    name: String,
    files: Vec<Box<dyn DataSource>>,
    passed_over: u64,
}

impl std::fmt::Debug for FolderSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FolderSource").field("name", &self.name).field("files", &self.files.len()).finish_non_exhaustive()
    }
}

impl FolderSource {
    /// Finds the folder's files; one without any is an error.
    pub fn open(path: &Path, config: &DataConfig) -> Result<Self, DataError> {
        let mut source = Self { name: path.display().to_string(), files: Vec::new(), passed_over: 0 };
        source.search(path, config, 0)?;
        if source.files.is_empty() {
            return Err(DataError::EmptyFolder { path: source.name, expected: EXTENSIONS.to_owned() });
        }
        Ok(source)
    }

    /// The files that a pattern of a shell matches, in the order of their names: `*`, `?`, `[…]`, and `**` for any depth.
    pub(crate) fn of_pattern(pattern: &str, config: &DataConfig, key: &'static str) -> Result<Self, DataError> {
        let wrong = |problem: String| DataError::Config { key: key.to_owned(), problem: format!("`{pattern}`: {problem}") };
        let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::default() };
        let mut source = Self { name: pattern.to_owned(), files: Vec::new(), passed_over: 0 };
        for found in glob::glob_with(pattern, options).map_err(|error| wrong(error.to_string()))?.take(MAX_MATCHES + 1) {
            let path = found.map_err(|error| {
                let path = error.path().to_owned();
                FileError::new("list", &path, error.into())
            })?;
            if source.files.len() as u64 + source.passed_over == MAX_MATCHES as u64 {
                return Err(wrong(format!("it matches more than {MAX_MATCHES} files")));
            }
            source.add(&path, config)?;
        }
        if source.files.is_empty() {
            return Err(DataError::Missing { path: source.name, key });
        }
        Ok(source)
    }

    fn search(&mut self, folder: &Path, config: &DataConfig, depth: usize) -> Result<(), DataError> {
        if depth > MAX_DEPTH {
            return Err(DataError::TooDeep { path: folder.display().to_string(), max: MAX_DEPTH });
        }
        let is_hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        for path in files::list_dir(folder)?.into_iter().filter(|path| !is_hidden(path)) {
            if path.is_dir() {
                self.search(&path, config, depth + 1)?;
            } else {
                self.add(&path, config)?;
            }
        }
        Ok(())
    }

    /// Adds a file whose name says that it is read. Of many files nobody looked at each, so the content of others is not asked.
    fn add(&mut self, path: &Path, config: &DataConfig) -> Result<(), DataError> {
        if FileKind::is_named(path) && path.is_file() {
            self.files.push(open_file(path, config)?);
        } else {
            self.passed_over += 1;
        }
        Ok(())
    }
}

impl DataSource for FolderSource {
    fn name(&self) -> &str {
        &self.name
    }

    /// The digest of each file's path below the folder and digest, in reading order.
    fn checksum(&self) -> Result<SourceChecksum, DataError> {
        let (mut hasher, mut bytes) = (Hasher::new(), 0);
        for file in self.checksums()? {
            let below = file.path.strip_prefix(&self.name).unwrap_or(&file.path);
            hasher.field(below.as_bytes()).field(file.blake3.as_bytes());
            bytes += file.bytes;
        }
        Ok(SourceChecksum { path: self.name.clone(), bytes, blake3: hasher.finish() })
    }

    fn checksums(&self) -> Result<Vec<SourceChecksum>, DataError> {
        self.files.iter().map(|file| file.checksum()).collect()
    }

    fn readings(&self) -> Vec<String> {
        self.files.iter().flat_map(|file| file.readings()).collect()
    }

    fn has_conversations(&self) -> bool {
        self.files.iter().any(|file| file.has_conversations())
    }

    fn documents(&self) -> Result<Documents<'_>, DataError> {
        Ok(Box::new(self.files.iter().flat_map(|file| file.documents().unwrap_or_else(|error| Box::new(std::iter::once(Err(error)))))))
    }

    fn notes(&self) -> Vec<String> {
        let note = || format!("`{}`: {} files that do not end in {EXTENSIONS} are passed over", self.name, self.passed_over);
        let passed_over = (self.passed_over > 0).then(note);
        passed_over.into_iter().chain(told_notes(&self.files, &self.name)).collect()
    }

    fn describe(&self, max_rows: u64, scanner: &Scanner) -> Result<Vec<SourceDescription>, DataError> {
        let mut all = Vec::new();
        for file in &self.files {
            all.extend(file.describe(max_rows, scanner)?);
        }
        Ok(all)
    }
}
