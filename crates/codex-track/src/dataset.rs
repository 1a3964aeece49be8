//! `dataset_checksums.json`: the bytes a run was trained on, and what has changed since another run. The hashing is done where data are read.

use std::collections::BTreeMap;

use codex_core::Digest;
use serde::{Deserialize, Serialize};

use crate::error::TrackError;
use crate::run_dir::RunDir;

/// The file's name.
pub const FILE: &str = "dataset_checksums.json";

/// `dataset_checksums.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetChecksums {
    /// The version of this format: 1.
    pub schema: u32,
    /// The files, sorted by path.
    pub sources: Vec<SourceChecksum>,
}

/// One file of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceChecksum {
    /// The path as it was configured.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// The digest of its content.
    pub blake3: Digest,
}

/// A file that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// The path.
    pub path: String,
    /// Its digest before; `None` when it is new.
    pub was: Option<Digest>,
    /// Its digest; `None` when it is gone.
    pub is: Option<Digest>,
}

impl DatasetChecksums {
    /// The checksums of these files.
    pub fn new(mut sources: Vec<SourceChecksum>) -> Self {
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        Self { schema: 1, sources }
    }

    /// The checksums in a run folder.
    pub fn read(run: &RunDir) -> Result<Self, TrackError> {
        run.read_json(FILE)
    }

    /// Publishes the checksums in a run folder.
    pub fn write(&self, run: &RunDir) -> Result<(), TrackError> {
        run.write_json(FILE, self)
    }

    /// What changed from `previous` to `current`, by path; empty when nothing did.
    pub fn drift(previous: &Self, current: &Self) -> Vec<Drift> {
        let by_path = |checksums: &Self| -> BTreeMap<String, Digest> {
            checksums.sources.iter().map(|source| (source.path.clone(), source.blake3)).collect()
        };
        let (was, is) = (by_path(previous), by_path(current));
        let mut paths: Vec<&String> = was.keys().chain(is.keys()).collect();
        paths.sort();
        paths.dedup();
        let drift = |path: &String| Drift { path: path.clone(), was: was.get(path).copied(), is: is.get(path).copied() };
        paths.into_iter().map(drift).filter(|drift| drift.was != drift.is).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, content: &str) -> SourceChecksum {
        SourceChecksum { path: path.to_owned(), bytes: content.len() as u64, blake3: Digest::of_bytes(content.as_bytes()) }
    }

    #[test]
    fn drift_names_what_changed_came_and_went() {
        let before = DatasetChecksums::new(vec![source("c", "1"), source("a", "1"), source("b", "1")]);
        let after = DatasetChecksums::new(vec![source("a", "1"), source("b", "2"), source("d", "1")]);
        let (one, two) = (Some(Digest::of_bytes(b"1")), Some(Digest::of_bytes(b"2")));
        let expected = [("b", one, two), ("c", one, None), ("d", None, one)];
        let expected = expected.map(|(path, was, is)| Drift { path: path.to_owned(), was, is });
        assert_eq!(DatasetChecksums::drift(&before, &after), expected);
        assert!(DatasetChecksums::drift(&after, &after).is_empty());
    }

    #[test]
    fn checksums_read_back_sorted() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::open(root.path()).unwrap();
        let checksums = DatasetChecksums::new(vec![source("b", "2"), source("a", "1")]);
        checksums.write(&run).unwrap();
        assert_eq!(DatasetChecksums::read(&run).unwrap(), checksums);
        assert_eq!(checksums.sources[0].path, "a");
    }
}
