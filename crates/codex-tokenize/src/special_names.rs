//! Which token ends a text and which one pads a batch, as the files beside a `tokenizer.json` say: `tokenizer_config.json`,
//! `special_tokens_map.json` and `generation_config.json` of the Hugging Face layout (shared facts: transformers 5, `PreTrainedTokenizerBase`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::TokenizeError;
use crate::manifest::read_bounded;
use crate::tokenizer_json::malformed;

/// The files that are read, the first that names a token wins.
const FILES: [&str; 3] = ["tokenizer_config.json", "special_tokens_map.json", "generation_config.json"];
/// The tokens that can be named.
const ROLES: [&str; 7] = ["bos", "eos", "unk", "pad", "sep", "cls", "mask"];
/// Spellings that end a text, the first that a tokenizer has is taken when no file names one.
const KNOWN_EOS: [&str; 8] = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "<|eot_id|>", "[EOS]", "[SEP]"];
/// Spellings that pad a batch.
const KNOWN_PAD: [&str; 5] = ["<|pad|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<|padding|>"];

/// What the files name: `eos`, `bos`, ... with where it stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpecialNames {
    named: BTreeMap<&'static str, Named>,
}

#[derive(Clone, Debug)]
struct Named {
    path: PathBuf,
    key: String,
    token: Spelling,
}

#[derive(Clone, Debug)]
enum Spelling {
    Text(String),
    Id(u32),
}

impl SpecialNames {
    /// What the files in a folder say; all of them may be absent.
    pub(crate) fn beside(folder: &Path) -> Result<Self, TokenizeError> {
        let mut names = Self::default();
        for file in FILES {
            let path = folder.join(file);
            let bytes = match read_bounded(&path) {
                Ok(bytes) => bytes,
                Err(TokenizeError::File(error)) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            let value: Value =
                serde_json::from_slice(&bytes).map_err(|source| TokenizeError::json(&path, "tokenizer configuration", source))?;
            names.add(&value, &path)?;
        }
        Ok(names)
    }

    /// Takes what one file names and no earlier file did.
    fn add(&mut self, value: &Value, path: &Path) -> Result<(), TokenizeError> {
        for role in ROLES {
            let text_key = format!("{role}_token");
            let id_key = format!("{role}_token_id");
            let named = match (value.get(&text_key), value.get(&id_key)) {
                (Some(found), _) if !found.is_null() => {
                    let text =
                        spelled(found).ok_or_else(|| malformed(path, &text_key, "a text or an object with `content`", kind(found)))?;
                    Named { path: path.to_owned(), key: text_key, token: Spelling::Text(text.to_owned()) }
                }
                (_, Some(found)) if !found.is_null() => {
                    let first = found.as_array().map_or(Some(found), |list| list.first());
                    let id = first.and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
                    let id = id.ok_or_else(|| malformed(path, &id_key, "an id or a list of ids", kind(found)))?;
                    Named { path: path.to_owned(), key: id_key, token: Spelling::Id(id) }
                }
                _ => continue,
            };
            self.named.entry(role).or_insert(named);
        }
        Ok(())
    }

    /// The id that ends a text: the one named, else a known spelling. `id_of` and `has_id` ask the tokenizer.
    pub(crate) fn end_of_text(
        &self,
        id_of: &dyn Fn(&str) -> Option<u32>,
        has_id: &dyn Fn(u32) -> bool,
    ) -> Result<Option<u32>, TokenizeError> {
        Ok(self.resolve("eos", id_of, has_id)?.or_else(|| KNOWN_EOS.iter().find_map(|&known| id_of(known))))
    }

    /// The id that pads a batch: the one named, else a known spelling.
    pub(crate) fn pad(&self, id_of: &dyn Fn(&str) -> Option<u32>, has_id: &dyn Fn(u32) -> bool) -> Result<Option<u32>, TokenizeError> {
        Ok(self.resolve("pad", id_of, has_id)?.or_else(|| KNOWN_PAD.iter().find_map(|&known| id_of(known))))
    }

    /// The id of the token that is named for a role; a name that no token has is an error.
    pub(crate) fn resolve(
        &self,
        role: &str,
        id_of: &dyn Fn(&str) -> Option<u32>,
        has_id: &dyn Fn(u32) -> bool,
    ) -> Result<Option<u32>, TokenizeError> {
        let Some(named) = self.named.get(role) else { return Ok(None) };
        let (id, found) = match &named.token {
            Spelling::Text(text) => (id_of(text), format!("`{text}`")),
            Spelling::Id(id) => (has_id(*id).then_some(*id), id.to_string()),
        };
        id.map(Some).ok_or_else(|| malformed(&named.path, &named.key, "a token of the tokenizer", found))
    }
}

/// The texts that a `tokenizer_config.json` names, by key (`bos_token`), for a chat template.
pub(crate) fn token_texts(config: &Value) -> BTreeMap<String, String> {
    let texts = ROLES.iter().filter_map(|role| {
        let key = format!("{role}_token");
        let text = spelled(config.get(&key)?)?.to_owned();
        Some((key, text))
    });
    texts.collect()
}

/// A token written as a text, or as an added token with its `content`.
fn spelled(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "another number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id_of(token: &str) -> Option<u32> {
        ["<s>", "</s>", "<|im_end|>", "[PAD]"].iter().position(|known| *known == token).map(|id| id as u32)
    }

    fn found(files: &[Value]) -> Result<(Option<u32>, Option<u32>), TokenizeError> {
        let mut names = SpecialNames::default();
        for file in files {
            names.add(file, Path::new("c.json"))?;
        }
        let has_id = |id| id < 4;
        Ok((names.end_of_text(&id_of, &has_id)?, names.pad(&id_of, &has_id)?))
    }

    #[test]
    fn the_first_file_that_names_a_token_wins_and_a_known_spelling_comes_last() {
        assert_eq!(found(&[]).unwrap(), (Some(1), Some(3)));
        assert_eq!(found(&[json!({"eos_token": "<|im_end|>", "pad_token": null})]).unwrap(), (Some(2), Some(3)));
        assert_eq!(found(&[json!({"eos_token": {"content": "</s>"}}), json!({"eos_token": "<|im_end|>"})]).unwrap(), (Some(1), Some(3)));
        assert_eq!(found(&[json!({"eos_token_id": [2, 1], "pad_token_id": 0})]).unwrap(), (Some(2), Some(0)));
    }

    #[test]
    fn a_name_no_token_has_is_told_with_its_file_and_key() {
        for (file, message) in [
            (json!({"eos_token": "<nope>"}), "`c.json`: `eos_token`: expected a token of the tokenizer, found `<nope>`"),
            (json!({"eos_token_id": 9}), "`c.json`: `eos_token_id`: expected a token of the tokenizer, found 9"),
            (json!({"eos_token": 3}), "`c.json`: `eos_token`: expected a text or an object with `content`, found another number"),
            (json!({"pad_token_id": [-1]}), "`c.json`: `pad_token_id`: expected an id or a list of ids, found a list"),
        ] {
            assert_eq!(found(&[file]).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn texts_for_a_template_are_by_key() {
        let texts = token_texts(&json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": null, "other": 1}));
        assert_eq!(texts.into_iter().collect::<Vec<_>>(), [("bos_token".into(), "<s>".into()), ("eos_token".into(), "</s>".into())]);
    }
}
