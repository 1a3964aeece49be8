//! What went into a run and what came out of it, each by its digest, so that a model can be followed back to the bytes that made it.

use std::path::{Path, PathBuf};

use codex_core::{Digest, Timestamp, files};
use serde::{Deserialize, Serialize};

use crate::error::TrackError;
use crate::run_dir::{RunDir, read_json_at, write_json_at};
use crate::run_manifest::ARTIFACTS;

/// The inputs and outputs of a run, as `run.json` has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunGraph {
    /// What determined it.
    pub inputs: Vec<GraphNode>,
    /// What it made, once it has ended.
    pub outputs: Vec<GraphNode>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GraphNode {
    /// What it is.
    pub kind: NodeKind,
    /// Its name or path, as a person knows it.
    pub name: String,
    /// The BLAKE3 of its bytes; of its name, where it is no file.
    pub digest: Digest,
}

/// What is in a run graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A file of text.
    Data,
    /// The tokens that were made of it.
    Tokens,
    /// The tokenizer.
    Tokenizer,
    /// The weights that training began with.
    Base,
    /// The resolved configuration.
    Configuration,
    /// The program's file.
    Program,
    /// The locked dependencies that it was built with.
    Dependencies,
    /// The compiler that built it.
    Toolchain,
    /// The device and the instructions that its kernels use.
    Device,
    /// A checkpoint, by its manifest.
    Checkpoint,
}

impl GraphNode {
    /// A part that is known by its digest.
    pub fn new(kind: NodeKind, name: impl Into<String>, digest: Digest) -> Self {
        Self { kind, name: name.into(), digest }
    }

    /// A part that is its name.
    pub fn named(kind: NodeKind, name: impl Into<String>) -> Self {
        let name = name.into();
        let digest = Digest::of_bytes(name.as_bytes());
        Self { kind, name, digest }
    }
}

impl RunGraph {
    /// The inputs of a kind.
    pub fn inputs_of(&self, kind: NodeKind) -> impl Iterator<Item = &GraphNode> {
        self.inputs.iter().filter(move |node| node.kind == kind)
    }
}

/// The schema of an export's record.
const SCHEMA: u32 = 1;
/// Where the records are, below a run's folder; its manifest does not list them.
const FOLDER: &str = "exports";
/// The largest folder of them that is read.
const MOST_RECORDS: usize = 4096;

/// The record of a model that was written for other programs, kept in the folder of the run that it is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportRecord {
    /// The version of this format: 1.
    pub schema: u32,
    /// `hf`, `gguf` or `peft`.
    pub format: String,
    /// Where it was written, whole.
    pub path: PathBuf,
    /// The step whose weights it has.
    pub step: u64,
    /// The digest of that checkpoint's manifest.
    pub checkpoint: Digest,
    /// The digest of the weights in f32, adapters added where it is a whole model.
    pub weights: Digest,
    /// Its files.
    pub files: Vec<ExportFile>,
    /// When, RFC 3339 in UTC.
    pub written: String,
}

/// A file of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportFile {
    /// Its name in the folder, or the file's own.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The digest of its bytes.
    pub blake3: Digest,
}

impl ExportFile {
    /// The plain files of a folder by name, or the file itself.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn all_of(path: &Path) -> Result<Vec<Self>, TrackError> {
        let of = |path: &Path| -> Result<Self, TrackError> {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(Self { name, bytes: files::size(path)?, blake3: Digest::of_file(path)? })
        };
        if !path.is_dir() {
            return Ok(vec![of(path)?]);
        }
        let mut all = Vec::new();
        for file in files::list_dir(path)?.into_iter().filter(|path| files::is_plain_file(path)) {
            all.push(of(&file)?);
        }
        Ok(all)
    }
}

impl ExportRecord {
    /// The record of an export that has just been written.
    ///
    /// # Errors
    /// Files of it that cannot be read.
    pub fn of(format: &str, path: &Path, (step, checkpoint): (u64, Digest), weights: Digest, now: Timestamp) -> Result<Self, TrackError> {
        let files = ExportFile::all_of(path)?;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self { schema: SCHEMA, format: format.to_owned(), path, step, checkpoint, weights, files, written: now.to_rfc3339() })
    }

    /// Keeps the record in its run's folder, under the digest of its files: written twice it is there once.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn keep(&self, run: &RunDir) -> Result<PathBuf, TrackError> {
        let all = Digest::of_json(&(&self.path, &self.files));
        let key = all.map_err(|source| TrackError::Encode { path: run.path().to_owned(), source })?;
        let folder = run.path().join(ARTIFACTS).join(FOLDER);
        files::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.json", key.short()));
        write_json_at(&path, self)?;
        Ok(path)
    }

    /// The records of a run, in order of their names, each with its path.
    ///
    /// # Errors
    /// A folder or a record that cannot be read.
    pub fn all_of(run: &RunDir) -> Result<Vec<(PathBuf, Self)>, TrackError> {
        let folder = run.path().join(ARTIFACTS).join(FOLDER);
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        for path in
            files::list_dir(&folder)?.into_iter().filter(|path| path.extension().is_some_and(|end| end == "json")).take(MOST_RECORDS)
        {
            let record: Self = read_json_at(&path)?;
            if record.schema != SCHEMA {
                return Err(TrackError::Schema { path, expected: SCHEMA, found: record.schema });
            }
            all.push((path, record));
        }
        Ok(all)
    }

    /// Whether files with these digests are this export: every file with weights among them is.
    pub fn is_of(&self, files: &[ExportFile]) -> bool {
        let has_weights = |file: &&ExportFile| {
            let end = Path::new(&file.name).extension().unwrap_or_default();
            end == "safetensors" || end.eq_ignore_ascii_case("gguf")
        };
        let mut weights = files.iter().filter(has_weights).peekable();
        weights.peek().is_some() && weights.all(|file| self.files.iter().any(|known| known.blake3 == file.blake3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_known_by_its_weights_wherever_it_lies() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::open(root.path()).unwrap();
        let write = |folder: &str, name: &str, bytes: &[u8]| {
            files::create_dir_all(&root.path().join(folder)).unwrap();
            files::write_atomic(&root.path().join(folder).join(name), bytes).unwrap();
        };
        write("a", "model.safetensors", b"weights");
        write("a", "config.json", b"{}");
        let digest = Digest::of_bytes(b"x");
        let record = ExportRecord::of("hf", &root.path().join("a"), (3, digest), digest, Timestamp(0)).unwrap();
        assert_eq!(ExportRecord::all_of(&run).unwrap(), []);
        let path = record.keep(&run).unwrap();
        assert_eq!(record.keep(&run).unwrap(), path);
        assert_eq!(ExportRecord::all_of(&run).unwrap(), [(path, record.clone())]);
        let of = |folder: &str| record.is_of(&ExportFile::all_of(&root.path().join(folder)).unwrap());
        write("moved", "renamed.safetensors", b"weights");
        write("other", "model.safetensors", b"other");
        write("none", "config.json", b"{}");
        assert_eq!((of("a"), of("moved"), of("other"), of("none")), (true, true, false, false));
        assert!(record.is_of(&ExportFile::all_of(&root.path().join("a/model.safetensors")).unwrap()));
    }
}
