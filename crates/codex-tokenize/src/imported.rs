//! What an import gives: the two files that another program would read.

use serde_json::{Map, Value, json};

use crate::error::TokenizeError;

/// The largest file of another format that is read, in bytes.
pub(crate) const MAX_IMPORT_BYTES: usize = 64 << 20;
/// The most tokens of another format.
pub(crate) const MAX_TOKENS: usize = 1 << 20;
/// The longest token of another format, in bytes.
pub(crate) const MAX_TOKEN_BYTES: usize = 512;

/// A tokenizer of another format as files of the Hugging Face layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The text of `tokenizer.json`.
    pub tokenizer_json: String,
    /// The text of `tokenizer_config.json`: which tokens begin, end and fill texts. Beside the other it tells [`load`](crate::load) so.
    pub tokenizer_config: String,
}

/// One token that is looked for before the model sees the text.
pub(crate) fn added_token(id: u32, content: &str, special: bool) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special,
    })
}

impl Imported {
    /// The files of these parts; `named` has texts by key, such as `eos_token`.
    pub(crate) fn new(parts: &Value, named: &[(&str, Option<String>)]) -> Result<Self, TokenizeError> {
        let failed = |error| TokenizeError::library("write the tokenizer", error);
        let mut file = Map::new();
        file.insert("version".to_owned(), json!("1.0"));
        for key in ["truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"] {
            file.insert(key.to_owned(), parts.get(key).cloned().unwrap_or(Value::Null));
        }
        let mut config = Map::new();
        config.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
        for (key, text) in named {
            if let Some(text) = text {
                config.insert((*key).to_owned(), json!(text));
            }
        }
        Ok(Self {
            tokenizer_json: serde_json::to_string(&file).map_err(failed)?,
            tokenizer_config: serde_json::to_string_pretty(&config).map_err(failed)?,
        })
    }
}
