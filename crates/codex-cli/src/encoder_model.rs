//! Encoders of other programs, with their tokenizer and the tokens that a text stands between.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_core::files;
use codex_hub::{ImportedEncoder, import_encoder, is_encoder_folder, is_model_folder};
use codex_tokenize::Tokenizer;
use serde_json::Value;

use crate::failure::CliError;
use crate::hub_model;
use crate::model_place::Places;

/// The file that names a tokenizer's special tokens.
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The largest of them that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 16 << 20;
/// What sentence-transformers adds to a folder.
const MODULES_FILE: &str = "modules.json";

/// An encoder as it lies on the disk.
pub(crate) struct FoundEncoder {
    pub(crate) imported: ImportedEncoder,
    pub(crate) path: PathBuf,
    tokenizer: Option<Arc<dyn Tokenizer>>,
}

/// The tokens that a text stands between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) first: u32,
    pub(crate) last: u32,
}

impl Frame {
    /// The ids of a text between its two tokens, cut to `max_tokens` where they are more; and whether they were.
    pub(crate) fn around(self, mut ids: Vec<u32>, max_tokens: usize) -> (Vec<u32>, bool) {
        let room = max_tokens.saturating_sub(2);
        let is_cut = ids.len() > room;
        ids.truncate(room);
        ids.insert(0, self.first);
        ids.push(self.last);
        (ids, is_cut)
    }
}

/// The encoder of a folder or a name, or nothing where that is another kind of model.
pub(crate) fn find_if_encoder(path: &Path) -> Result<Option<FoundEncoder>, CliError> {
    // Where there is nothing, whoever looks for another kind of model says so.
    match Places::here().resolve(path) {
        Ok(place) if is_encoder_folder(&place.path) => read(place.path).map(Some),
        _ => Ok(None),
    }
}

/// The encoder of a folder or a name.
pub(crate) fn find(path: &Path) -> Result<FoundEncoder, CliError> {
    let path = Places::here().resolve(path)?.path;
    if !is_model_folder(&path) && !path.join(MODULES_FILE).exists() {
        let what = format!("`{}` is no folder of an encoder: it has neither `config.json` nor `{MODULES_FILE}`", path.display());
        return Err(CliError::usage(what, "name a folder such as that of all-MiniLM-L6-v2"));
    }
    read(path)
}

fn read(path: PathBuf) -> Result<FoundEncoder, CliError> {
    let imported = import_encoder(&path)?;
    let tokenizer = hub_model::tokenizer(&imported.folder)?;
    if let Some(tokenizer) = &tokenizer
        && tokenizer.vocab_size() > imported.config.vocab_size
    {
        let reason = format!("its tokenizer has {} ids, and its embedding {} rows", tokenizer.vocab_size(), imported.config.vocab_size);
        return Err(CliError::Integrity { path, reason, hint: "tokenizer and weights must be of one model" });
    }
    Ok(FoundEncoder { imported, path, tokenizer })
}

impl FoundEncoder {
    /// Its tokenizer, if it has one.
    pub(crate) fn known_tokenizer(&self) -> Option<Arc<dyn Tokenizer>> {
        self.tokenizer.clone()
    }

    /// Its tokenizer and the tokens that a text stands between.
    pub(crate) fn tokenizer(&self) -> Result<(Arc<dyn Tokenizer>, Frame), CliError> {
        let folder = &self.imported.folder;
        let tokenizer = self.known_tokenizer().ok_or_else(|| CliError::NoTokenizer { path: folder.clone() })?;
        let path = folder.join(TOKENIZER_CONFIG);
        let config: Value = if path.exists() {
            let wrong = |error: serde_json::Error| CliError::Unreadable { place: path.display().to_string(), reason: error.to_string() };
            serde_json::from_slice(&files::read_bounded(&path, MAX_CONFIG_BYTES)?).map_err(wrong)?
        } else {
            Value::Null
        };
        let id_of = |key: &str, usual: &str, what: &str| {
            let named = config.get(key).and_then(|named| named.as_str().or_else(|| named.get("content")?.as_str()));
            let name = named.unwrap_or(usual);
            tokenizer.token_to_id(name).ok_or_else(|| CliError::Integrity {
                path: folder.clone(),
                reason: format!("its tokenizer has no token `{}`, which {what} a text", name.chars().take(60).collect::<String>()),
                hint: "`cls_token` and `sep_token` in `tokenizer_config.json` name the two tokens of its `tokenizer.json`",
            })
        };
        let frame = Frame { first: id_of("cls_token", "[CLS]", "begins")?, last: id_of("sep_token", "[SEP]", "ends")? };
        Ok((tokenizer, frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stands_between_two_tokens_and_loses_its_end() {
        let frame = Frame { first: 101, last: 102 };
        assert_eq!(frame.around(vec![1, 2, 3], 5), (vec![101, 1, 2, 3, 102], false));
        assert_eq!(frame.around(vec![1, 2, 3], 4), (vec![101, 1, 2, 102], true));
        assert_eq!(frame.around(Vec::new(), 4), (vec![101, 102], false));
    }
}
