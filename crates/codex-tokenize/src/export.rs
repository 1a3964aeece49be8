//! A tokenizer as the files that other programs read: a folder of the Hugging Face layout, and a tiktoken rank file.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use codex_core::LockedDraft;
use serde_json::{Map, Value, json};

use crate::error::TokenizeError;
use crate::manifest::TOKENIZER_FILE;
use crate::tiktoken::import_tiktoken;
use crate::tokenizer::Tokenizer;
use crate::tokenizer_json::{RawFile, TokenizerFile, malformed, quoted};

/// Writes `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json` into a new folder, which appears whole; one that exists is an error.
/// Gives the paths back.
///
/// `chat_template` is the text of a template that goes with it. What transformers does to decoded text by itself is turned off, so that it gives
/// back the text that was encoded.
pub fn export_hugging_face(tokenizer: &dyn Tokenizer, chat_template: Option<&str>, folder: &Path) -> Result<Vec<PathBuf>, TokenizeError> {
    let raw = RawFile::parse(tokenizer.to_json(), Path::new(TOKENIZER_FILE))?;
    let unknown = raw.model.unk_token.filter(|token| tokenizer.token_to_id(token).is_some());
    let mut named = Map::new();
    for (key, token) in [
        ("eos_token", tokenizer.id_to_token(tokenizer.end_of_text())),
        ("pad_token", tokenizer.id_to_token(tokenizer.pad())),
        ("unk_token", unknown),
    ] {
        if let Some(token) = token {
            named.insert(key.to_owned(), json!(token));
        }
    }
    let mut config = named.clone();
    config.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
    config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
    if let Some(template) = chat_template {
        config.insert("chat_template".to_owned(), json!(template));
    }
    let draft = LockedDraft::create(folder)?;
    draft.write(TOKENIZER_FILE, tokenizer.to_json().as_bytes())?;
    for (name, map) in [("tokenizer_config.json", config), ("special_tokens_map.json", named)] {
        let text = serde_json::to_string_pretty(&map).map_err(|error| TokenizeError::library("write the tokenizer", error))?;
        draft.write(name, format!("{text}\n").as_bytes())?;
    }
    let folder = draft.publish()?;
    Ok([TOKENIZER_FILE, "tokenizer_config.json", "special_tokens_map.json"].map(|name| folder.join(name)).into())
}

/// The tiktoken rank file of a byte-level BPE tokenizer: a line for each plain token with its bytes in base64, a space and its id.
///
/// [`import_tiktoken`] with the encoding `gpt2` reads it back to the same ids of any text without special tokens, which the file does not hold. That
/// is checked: a tokenizer whose merges a rank file cannot say, because their order is not that of the ids, is an error.
pub fn tiktoken_ranks(tokenizer: &dyn Tokenizer) -> Result<String, TokenizeError> {
    let path = Path::new(TOKENIZER_FILE);
    let file = TokenizerFile::parse(tokenizer.to_json(), path)?;
    let plain = file.entries.iter().zip(0..).filter(|(entry, _)| !entry.special);
    let lines: Vec<String> = plain.clone().map(|(entry, id): (_, u32)| format!("{} {id}\n", STANDARD.encode(&entry.bytes))).collect();
    let ranks = lines.concat();
    let again: Value = serde_json::from_str(&import_tiktoken(ranks.as_bytes(), "gpt2")?.tokenizer_json)
        .map_err(|source| TokenizeError::json(path, "tokenizer", source))?;
    let pair = |merge: &Value| Some((merge.get(0)?.as_str()?.to_owned(), merge.get(1)?.as_str()?.to_owned()));
    let said: Vec<(String, String)> = again["model"]["merges"].as_array().into_iter().flatten().filter_map(pair).collect();
    if said != file.merges {
        let other = said.iter().zip(&file.merges).position(|(one, other)| one != other).unwrap_or(said.len().min(file.merges.len()));
        let found = file.merges.get(other).map_or("none".to_owned(), |(left, right)| quoted(&format!("{left} {right}")));
        return Err(malformed(path, &format!("model.merges[{other}]"), "merges in the order of the ids they make", found));
    }
    // A rank file takes a piece that is a token whole; without that a token that no merge makes is never found.
    let n_merged = plain.filter(|(entry, _)| entry.bytes.len() > 1).count();
    if !file.ignore_merges && n_merged != file.merges.len() {
        let found = format!("{} merges for {n_merged} tokens", file.merges.len());
        return Err(malformed(path, "model.merges", "a merge for each token of several bytes", found));
    }
    Ok(ranks)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use codex_core::files;

    use super::*;
    use crate::config::{TokenizerConfig, TokenizerKind};
    use crate::{from_json, load, train};

    fn trained(kind: TokenizerKind) -> Arc<dyn Tokenizer> {
        let text = "the cat sat on the mat, and the other cat's hat\n\n  was aaaa 1234 by the door  ".repeat(3);
        let config = TokenizerConfig { kind, vocab_size: 300, ..TokenizerConfig::default() };
        train(&config, std::iter::once(text.as_str()), &mut |_| ()).unwrap()
    }

    #[test]
    fn a_folder_is_read_back_and_says_which_tokens_are_for_what() {
        let dir = tempfile::tempdir().unwrap();
        for kind in [TokenizerKind::Bpe, TokenizerKind::Byte, TokenizerKind::WordLevel] {
            let (tokenizer, folder) = (trained(kind), dir.path().join(kind.name()));
            let paths = export_hugging_face(&*tokenizer, Some("{{ x }}"), &folder).unwrap();
            assert!(paths.iter().all(|path| files::is_plain_file(path)));
            let again = load(&folder).unwrap();
            assert_eq!((again.digest(), again.end_of_text(), again.pad()), (tokenizer.digest(), tokenizer.end_of_text(), tokenizer.pad()));
            let read = |name: &str| serde_json::from_str::<Value>(&files::read_to_string(&folder.join(name)).unwrap()).unwrap();
            assert_eq!(read("tokenizer_config.json")["chat_template"], "{{ x }}");
            assert_eq!(read("special_tokens_map.json")["eos_token"], "<|endoftext|>");
            assert_eq!(read("special_tokens_map.json").get("unk_token").is_some(), kind == TokenizerKind::WordLevel);
            assert!(matches!(export_hugging_face(&*tokenizer, None, &folder), Err(TokenizeError::File(_))));
        }
    }

    #[test]
    fn ranks_are_read_back_to_the_same_ids() {
        let tokenizer = trained(TokenizerKind::Bpe);
        let ranks = tiktoken_ranks(&*tokenizer).unwrap();
        assert!(ranks.starts_with("IQ== 2\nIg== 3\n"), "{ranks}");
        let again = from_json(&import_tiktoken(ranks.as_bytes(), "gpt2").unwrap().tokenizer_json).unwrap();
        for text in ["the cat's hat", "aaaaaaa  \n\n 12345 é字🦀", "zzz the  theother", ""] {
            assert_eq!(again.encode(text).unwrap(), tokenizer.encode(text).unwrap(), "{text}");
        }
    }

    #[test]
    fn what_a_rank_file_cannot_say_is_refused() {
        assert!(matches!(tiktoken_ranks(&*trained(TokenizerKind::WordLevel)), Err(TokenizeError::Malformed { .. })));
        let mut file: Value = serde_json::from_str(trained(TokenizerKind::Bpe).to_json()).unwrap();
        file["model"]["merges"].as_array_mut().unwrap().swap(0, 1);
        let error = tiktoken_ranks(&*from_json(&file.to_string()).unwrap()).unwrap_err().to_string();
        assert!(error.contains("`model.merges[0]`: expected merges in the order of the ids they make"), "{error}");
    }
}
