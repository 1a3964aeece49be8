//! `run.manifest.json`: every file of a finished run with its digest, written last. Checkpoints list their own files; here each is its manifest.

use std::collections::BTreeMap;
use std::path::Path;

use codex_core::{Digest, files};
use serde::{Deserialize, Serialize};

use crate::annotation;
use crate::error::TrackError;
use crate::run_dir::RunDir;

/// The file's name.
pub const FILE: &str = "run.manifest.json";
/// The version of the format.
const SCHEMA: u32 = 1;
/// How deep folders are followed.
const MAX_DEPTH: usize = 8;
/// The folder of what is made with a run's model after the run, which is no part of the run.
pub const ARTIFACTS: &str = "artifacts";
/// The files that stand for a checkpoint's folder.
const CHECKPOINT_FILES: [&str; 2] = ["manifest.json", "manifest.blake3"];

/// `run.manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunManifest {
    /// The version of this format: 1.
    pub schema: u32,
    /// The files by their path in the run folder, with `/`.
    pub files: BTreeMap<String, RunFile>,
}

/// One file of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// Its size.
    pub bytes: u64,
    /// The digest of its content.
    pub blake3: Digest,
}

/// A file that is not what the manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deviation {
    /// Its path in the run folder.
    pub path: String,
    /// What the manifest says; `None` when it does not list the file.
    pub expected: Option<Digest>,
    /// What is there; `None` when the file is gone.
    pub found: Option<Digest>,
}

impl RunManifest {
    /// The files of a run as they are.
    pub fn of(run: &RunDir) -> Result<Self, TrackError> {
        let mut all = BTreeMap::new();
        collect(run.path(), "", MAX_DEPTH, &mut all)?;
        Ok(Self { schema: SCHEMA, files: all })
    }

    /// Lists the files of a run and publishes the list in it.
    pub fn write(run: &RunDir) -> Result<Self, TrackError> {
        let manifest = Self::of(run)?;
        run.write_json(FILE, &manifest)?;
        Ok(manifest)
    }

    /// Takes the list away, because the run is about to change.
    pub fn remove(run: &RunDir) -> Result<(), TrackError> {
        Ok(files::remove_file(&run.path().join(FILE))?)
    }

    /// The list in a run folder; `None` when the run is going on or was killed.
    pub fn read(run: &RunDir) -> Result<Option<Self>, TrackError> {
        let path = run.path().join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let manifest: Self = run.read_json(FILE)?;
        if manifest.schema != SCHEMA {
            return Err(TrackError::Schema { path, expected: SCHEMA, found: manifest.schema });
        }
        Ok(Some(manifest))
    }

    /// What has changed since the list was made, by path; empty when nothing has.
    pub fn deviations(&self, run: &RunDir) -> Result<Vec<Deviation>, TrackError> {
        let found = Self::of(run)?;
        let mut paths: Vec<&String> = self.files.keys().chain(found.files.keys()).collect();
        paths.sort();
        paths.dedup();
        let digest = |manifest: &Self, path: &String| manifest.files.get(path).map(|file| file.blake3);
        let deviation = |path: &String| Deviation { path: path.clone(), expected: digest(self, path), found: digest(&found, path) };
        Ok(paths.into_iter().map(deviation).filter(|deviation| deviation.expected != deviation.found).collect())
    }
}

fn collect(folder: &Path, prefix: &str, depth: usize, into: &mut BTreeMap<String, RunFile>) -> Result<(), TrackError> {
    let is_checkpoint = prefix.rsplit('/').nth(1).is_some_and(|name| name.starts_with("step-"));
    for path in files::list_dir(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Locks and drafts come and go; they hold nothing.
        let is_no_part = prefix.is_empty() && [FILE, ARTIFACTS, annotation::FILE].contains(&name.as_str());
        if name.starts_with('.') || name.contains(".tmp-") || is_no_part {
            continue;
        }
        if files::is_plain_file(&path) {
            if !is_checkpoint || CHECKPOINT_FILES.contains(&name.as_str()) {
                into.insert(format!("{prefix}{name}"), RunFile { bytes: files::size(&path)?, blake3: Digest::of_file(&path)? });
            }
        } else if depth > 0 && path.is_dir() && !path.is_symlink() {
            collect(&path, &format!("{prefix}{name}/"), depth - 1, into)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(names: &[&str]) -> (tempfile::TempDir, RunDir) {
        let root = tempfile::tempdir().unwrap();
        for name in names {
            let path = root.path().join(name);
            files::create_dir_all(files::parent(&path)).unwrap();
            files::write_atomic(&path, name.as_bytes()).unwrap();
        }
        let run = RunDir::open(root.path()).unwrap();
        (root, run)
    }

    #[test]
    fn it_lists_what_a_run_holds_and_checkpoints_by_their_manifests() {
        let checkpoint = "checkpoints/step-00000004/manifest.json";
        let (_root, run) = run_with(&[
            "run.json",
            ".lock",
            "x.tmp-1-2",
            "artifacts/infer/x.json",
            checkpoint,
            "checkpoints/step-00000004/model.safetensors",
            "checkpoints/latest.json",
        ]);
        let manifest = RunManifest::write(&run).unwrap();
        assert_eq!(manifest.files.keys().collect::<Vec<_>>(), ["checkpoints/latest.json", checkpoint, "run.json"]);
        assert_eq!(manifest.files["run.json"], RunFile { bytes: 8, blake3: Digest::of_bytes(b"run.json") });
        assert_eq!(RunManifest::read(&run).unwrap(), Some(manifest));
        RunManifest::remove(&run).unwrap();
        assert_eq!(RunManifest::read(&run).unwrap(), None);
    }

    #[test]
    fn it_names_what_changed_came_and_went() {
        let (root, run) = run_with(&["a", "b", "c"]);
        let manifest = RunManifest::write(&run).unwrap();
        assert_eq!(manifest.deviations(&run).unwrap(), []);
        files::write_atomic(&root.path().join("a"), b"A").unwrap();
        files::remove_file(&root.path().join("b")).unwrap();
        files::write_atomic(&root.path().join("d"), b"d").unwrap();
        let digest = |text: &str| Some(Digest::of_bytes(text.as_bytes()));
        let expected = [("a", digest("a"), digest("A")), ("b", digest("b"), None), ("d", None, digest("d"))];
        let expected = expected.map(|(path, expected, found)| Deviation { path: path.to_owned(), expected, found });
        assert_eq!(manifest.deviations(&run).unwrap(), expected);
    }

    #[test]
    fn a_list_of_another_version_is_refused() {
        let (_root, run) = run_with(&["a"]);
        run.write_json(FILE, &RunManifest { schema: 2, files: BTreeMap::new() }).unwrap();
        assert!(matches!(RunManifest::read(&run), Err(TrackError::Schema { expected: 1, found: 2, .. })));
    }
}
