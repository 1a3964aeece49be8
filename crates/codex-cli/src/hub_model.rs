//! Models of other programs as models of ours: the weights from codex-hub, the tokenizer from the files beside them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_core::files;
use codex_hub::{Imported, PeftAdapter, import_folder, peft, read_adapter};
use codex_tokenize::{TOKENIZER_FILE, Tokenizer, import_sentencepiece};

use crate::failure::CliError;
use crate::stored_model::{self, Found};

/// A SentencePiece model, as some families bring it.
const SENTENCEPIECE_FILE: &str = "tokenizer.model";
/// The largest of them that is read, in bytes.
const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

/// The model of a Hugging Face folder.
pub(crate) fn find(folder: &Path) -> Result<Found, CliError> {
    let Imported { config, weights, .. } = import_folder(folder)?;
    let tokenizer = tokenizer(folder)?;
    if let Some(tokenizer) = &tokenizer
        && tokenizer.vocab_size() > config.vocab_size
    {
        let reason = format!("its tokenizer has {} ids, and its embedding {} rows", tokenizer.vocab_size(), config.vocab_size);
        return Err(CliError::Integrity { path: folder.to_owned(), reason, hint: "tokenizer and weights must be of one model" });
    }
    Ok(Found::of_folder(folder, config.model, weights, tokenizer))
}

/// The adapter of a folder of peft, on the base that is named or that its files name.
pub(crate) fn find_adapter(folder: &Path, base: Option<&Path>) -> Result<Found, CliError> {
    let base = match (base, peft::base_name(folder)?) {
        (Some(base), _) => base.to_owned(),
        (None, Some(name)) if !name.is_empty() => PathBuf::from(name),
        (None, _) => {
            let what = format!("`{}` does not say what its adapters are on", folder.display());
            return Err(CliError::usage(what, "name the model: `--base MODEL`"));
        }
    };
    let base = stored_model::base(&base)?;
    let rows = base.model.vocab_size().unwrap_or(0);
    let PeftAdapter { adapter, weights, base_digest, .. } = read_adapter(folder, &base.config, rows)?;
    if let Some(expected) = base_digest.filter(|expected| *expected != base.model.digest().to_string()) {
        let reason = format!("its adapters are of a base with digest {expected}, and this one has {}", base.model.digest());
        return Err(CliError::Integrity {
            path: folder.to_owned(),
            reason,
            hint: "name the base that they were trained on: `--base MODEL`",
        });
    }
    Ok(Found::of_adapter(folder, base, weights, adapter))
}

/// The tokenizer of a folder, if it brings one.
pub(crate) fn tokenizer(folder: &Path) -> Result<Option<Arc<dyn Tokenizer>>, CliError> {
    if folder.join(TOKENIZER_FILE).exists() {
        return Ok(Some(codex_tokenize::load(folder)?));
    }
    let path = folder.join(SENTENCEPIECE_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let imported = import_sentencepiece(&files::read_bounded(&path, MAX_TOKENIZER_BYTES)?)?;
    // Beside the files that name its special tokens it is one like any other.
    let scratch = tempfile::tempdir().map_err(|source| CliError::Output { source })?;
    for (name, text) in [(TOKENIZER_FILE, &imported.tokenizer_json), ("tokenizer_config.json", &imported.tokenizer_config)] {
        files::write_atomic(&scratch.path().join(name), text.as_bytes())?;
    }
    Ok(Some(codex_tokenize::load(scratch.path())?))
}
