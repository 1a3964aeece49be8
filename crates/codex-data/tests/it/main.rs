//! From files to batches, through the public interface only.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails; clippy knows `#[test]` functions only, not what they call")]

mod bounds;
mod cache;
mod conversations;
mod detection;
mod filters;
#[cfg(test)]
mod fixtures;
mod foreign;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod kill;
mod mixtures;
mod mutations;
mod parquet;
mod parts;
mod safety;
mod shards;
mod sources;
mod standard_input;
mod windows;

use std::path::{Path, PathBuf};

use codex_core::{Digest, files};
use codex_data::{DataConfig, DataError, MemorySource, TokenCache, open_sources, prepare};
use codex_safety::{SafetyConfig, Scanner};
use codex_tokenize::{ByteTokenizer, TokenizerConfig};

/// A folder of data, a cache beside it, and everything that a preparation needs.
struct Place {
    dir: tempfile::TempDir,
    tokenizer: ByteTokenizer,
    scanner: Scanner,
    builtins: Vec<MemorySource>,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            tokenizer: ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap(),
            scanner: Scanner::new(&SafetyConfig::default()).unwrap(),
            builtins: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        files::create_dir_all(files::parent(&path)).unwrap();
        files::write_atomic(&path, text.as_ref()).unwrap();
        path.display().to_string()
    }

    /// The files of a configuration that trains on these paths.
    fn config(&self, train: &[&str]) -> DataConfig {
        let train = train.iter().map(|name| if name.contains(':') { (*name).to_owned() } else { self.path(name).display().to_string() });
        DataConfig { train: train.collect(), ..DataConfig::default() }
    }

    fn cache_root(&self) -> PathBuf {
        self.path("cache")
    }

    fn prepare(&self, config: &DataConfig) -> Result<TokenCache, DataError> {
        self.prepare_in(config, &self.cache_root())
    }

    fn prepare_in(&self, config: &DataConfig, root: &Path) -> Result<TokenCache, DataError> {
        let sources = open_sources(config, &self.builtins)?;
        let safety_digest = Digest::of_bytes(b"safety");
        prepare(config, &sources, &self.tokenizer, &self.scanner, safety_digest, root, &mut |_| {})
    }

    /// The message with the folder's path shortened to `D`.
    fn told(&self, message: &(impl ToString + ?Sized)) -> String {
        message.to_string().replace(&self.dir.path().display().to_string(), "D")
    }
}

/// Every file of a cache's folder with its bytes.
fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    files::list_dir(folder).unwrap().iter().map(|path| (name(path), files::read(path).unwrap())).collect()
}
