//! Folders that hold a split already, as mlx-lm and others lay them out: `train` with `valid` or `test`, each a file or a folder.
//!
//! Beside them may be a `README`, a `LICENSE` and files that are not read; with anything else it is a folder like any other.

use std::path::{Path, PathBuf};

use codex_core::files;

use crate::compressed::Compression;
use crate::error::DataError;
use crate::file_kind::FileKind;

/// A folder with files named after the splits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SplitFolder {
    name: String,
    pub(crate) train: PathBuf,
    pub(crate) valid: Option<PathBuf>,
    test: Option<PathBuf>,
}

impl SplitFolder {
    /// The folder at a path, if it is one of these: with one file or folder for each split and no other that is read.
    ///
    /// Without `valid` it is one where there is a `test`, which must not be trained on.
    pub(crate) fn of(path: &Path) -> Result<Option<Self>, DataError> {
        if !path.is_dir() {
            return Ok(None);
        }
        let (mut train, mut valid, mut test) = (None, None, None);
        for file in files::list_dir(path)? {
            let (_, name) = Compression::of(&file);
            if name.starts_with('.') {
                continue;
            }
            let is_folder = file.is_dir();
            if !is_folder && !FileKind::is_named(&file) {
                continue;
            }
            let stem = if is_folder { name } else { Path::new(&name).file_stem().unwrap_or_default().to_string_lossy().into_owned() };
            let place = match stem.as_str() {
                "readme" | "license" if !is_folder => continue,
                "train" => &mut train,
                "valid" | "validation" | "val" => &mut valid,
                "test" => &mut test,
                _ => return Ok(None),
            };
            if place.replace(file).is_some() {
                return Ok(None);
            }
        }
        let is_split = valid.is_some() || test.is_some();
        Ok(train.filter(|_| is_split).map(|train| Self { name: path.display().to_string(), train, valid, test }))
    }

    /// What is said of it.
    pub(crate) fn told(&self, holds_out: bool) -> String {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let how = if holds_out { "validated on" } else { "left out, because the configuration says what is validated on" };
        let valid = self.valid.as_ref().map(|valid| format!(", `{}` is {how}", name(valid))).unwrap_or_default();
        let test = self.test.as_ref().map(|test| format!(", `{}` is left out", name(test))).unwrap_or_default();
        format!("`{}`: `{}` is trained on{valid}{test}", self.name, name(&self.train))
    }
}
