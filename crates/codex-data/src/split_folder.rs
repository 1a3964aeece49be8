//! Folders that hold a split already, as mlx-lm and others lay them out: `train`, `valid` and perhaps `test`, and nothing else.

use std::path::{Path, PathBuf};

use codex_core::files;

use crate::compressed::Compression;
use crate::error::DataError;

/// A folder with files named after the splits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SplitFolder {
    name: String,
    pub(crate) train: PathBuf,
    pub(crate) valid: PathBuf,
    test: Option<PathBuf>,
}

impl SplitFolder {
    /// The folder at a path, if it is one of these: with one file for each split and no other that does not begin with a dot.
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
            let stem = Path::new(&name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let place = match stem.as_str() {
                "train" => &mut train,
                "valid" | "validation" | "val" => &mut valid,
                "test" => &mut test,
                _ => return Ok(None),
            };
            if !file.is_file() || place.replace(file).is_some() {
                return Ok(None);
            }
        }
        Ok(train.zip(valid).map(|(train, valid)| Self { name: path.display().to_string(), train, valid, test }))
    }

    /// What is said of it.
    pub(crate) fn told(&self, holds_out: bool) -> String {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let valid = if holds_out { "validated on" } else { "left out, because the configuration says what is validated on" };
        let test = self.test.as_ref().map(|test| format!(", `{}` is left out", name(test))).unwrap_or_default();
        format!("`{}`: `{}` is trained on, `{}` is {valid}{test}", self.name, name(&self.train), name(&self.valid))
    }
}
