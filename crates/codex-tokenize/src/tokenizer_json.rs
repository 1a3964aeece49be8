//! The Hugging Face `tokenizer.json`: writing ours, and reading any that is byte-level BPE in the GPT-2 layout. Every other layout is read in
//! `hf_file`.
//!
//! Everything is checked here before the library sees it, because the library panics on, or silently repairs, much of what a file can say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, ModelWrapper, PreTokenizerWrapper};

use crate::alphabet::byte_to_char;
use crate::error::TokenizeError;
use crate::special_names::SpecialNames;
use crate::vocabulary::{Entry, Vocabulary};

/// What a valid file says.
#[derive(Debug)]
pub(crate) struct TokenizerFile {
    /// The tokens in id order.
    pub(crate) entries: Vec<Entry>,
    /// The first special token's id.
    pub(crate) end_of_text: u32,
    /// The second special token's id; the first's when there is no second.
    pub(crate) pad: u32,
    /// The pairs that become one token, the first first.
    pub(crate) merges: Vec<(String, String)>,
    /// Whether a word that is a token is taken whole, whatever the merges make of it.
    pub(crate) ignore_merges: bool,
    /// The id of byte 0, when the bytes' ids are in byte order.
    pub(crate) byte_base: Option<u32>,
}

/// The pre-tokenizer and decoder of every tokenizer here: no space is added, words are split by GPT-2's pattern.
pub(crate) fn byte_level() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

/// The file of a trained byte-level model; `special_tokens` are in its vocabulary.
pub(crate) fn write(model: BPE, special_tokens: &[String]) -> Result<String, TokenizeError> {
    write_parts(model, byte_level(), Some(byte_level()), special_tokens)
}

/// The file of these parts; `special_tokens` are in the model's vocabulary.
pub(crate) fn write_parts(
    model: impl Into<ModelWrapper>,
    pre_tokenizer: impl Into<PreTokenizerWrapper>,
    decoder: Option<ByteLevel>,
    special_tokens: &[String],
) -> Result<String, TokenizeError> {
    let failed = |error| TokenizeError::library("write a tokenizer", error);
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer)).with_decoder(decoder);
    let special = special_tokens.iter().map(|token| AddedToken::from(token.as_str(), true));
    tokenizer.add_special_tokens(special).map_err(failed)?;
    tokenizer.to_string(true).map_err(failed)
}

/// A file that is JSON but not usable, with the key that is wrong.
pub(crate) fn malformed(path: &Path, key: &str, expected: &str, found: impl Into<String>) -> TokenizeError {
    TokenizeError::Malformed { path: path.to_owned(), key: key.to_owned(), expected: expected.to_owned(), found: found.into() }
}

impl TokenizerFile {
    /// Reads and checks a file's text; `path` is for the messages.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, TokenizeError> {
        let raw = RawFile::parse(text, path)?;
        check_pipeline(&raw, path)?;
        let model = raw.model;
        check_model(&model, path)?;
        let Some(RawVocab::Map(vocab)) = model.vocab else {
            return Err(malformed(path, "model.vocab", "a map from token to id", "none"));
        };
        let special = special_tokens(raw.added_tokens.unwrap_or_default(), path)?;
        let mut special_ids: Vec<u32> = special.values().copied().collect();
        special_ids.sort_unstable();
        let (end_of_text, pad) = match special_ids[..] {
            [] => return Err(malformed(path, "added_tokens", "at least one special token, to end a text", "none")),
            [only] => (only, only),
            [first, second, ..] => (first, second),
        };
        let entries = entries(vocab, &special, path)?;
        let ids: BTreeMap<&str, u32> = (0..).zip(&entries).filter(|(_, e)| !e.special).map(|(id, e)| (e.token.as_str(), id)).collect();
        let byte_base = byte_base(&ids, path)?;
        let merges = merges(model.merges, &ids, path)?;
        Ok(Self { entries, end_of_text, pad, merges, ignore_merges: model.ignore_merges.unwrap_or(false), byte_base })
    }

    /// Whether this is the byte tokenizer: the bytes in order, no merges, nothing else but special tokens.
    pub(crate) fn is_bytes(&self) -> bool {
        self.byte_base.is_some() && self.merges.is_empty() && self.entries.iter().filter(|entry| !entry.special).count() == 256
    }

    /// Takes the special tokens that files beside it name for the end of a text and for filling a batch.
    pub(crate) fn name_special(&mut self, names: &SpecialNames) -> Result<(), TokenizeError> {
        let id_of = |token: &str| (0..).zip(&self.entries).find(|(_, entry)| entry.special && entry.token == token).map(|(id, _)| id);
        let has_id = |id: u32| self.entries.get(id as usize).is_some_and(|entry| entry.special);
        let named = (names.resolve("eos", &id_of, &has_id)?, names.resolve("pad", &id_of, &has_id)?);
        self.end_of_text = named.0.unwrap_or(self.end_of_text);
        self.pad = named.1.unwrap_or(self.pad);
        Ok(())
    }

    /// The ids of this file, which has the text `json`.
    pub(crate) fn into_vocabulary(self, json: String) -> Vocabulary {
        Vocabulary::new(self.entries, self.end_of_text, self.pad, json)
    }
}

/// The parts around the model: each that would change the text or the ids is refused.
fn check_pipeline(raw: &RawFile, path: &Path) -> Result<(), TokenizeError> {
    if raw.version.as_deref() != Some("1.0") {
        return Err(malformed(path, "version", "`1.0`", raw.version.as_deref().map_or("none".to_owned(), quoted)));
    }
    // Of `truncation` and `padding` batches are made, which `stored_padding` reads; encoding has neither.
    if let Some(value) = &raw.normalizer {
        return Err(malformed(path, "normalizer", "`null`", kind_of(value)));
    }
    let pre_tokenizer = raw.pre_tokenizer.as_ref();
    if type_of(pre_tokenizer) != Some("ByteLevel") {
        return Err(malformed(path, "pre_tokenizer", "`ByteLevel`", pre_tokenizer.map_or("none".to_owned(), kind_of)));
    }
    for (key, expected, absent) in [("add_prefix_space", false, true), ("use_regex", true, true)] {
        let found = pre_tokenizer.and_then(|value| value.get(key)).map_or(Some(absent), Value::as_bool);
        if found != Some(expected) {
            let told = found.map_or("another type".to_owned(), |flag| format!("`{flag}`"));
            return Err(malformed(path, &format!("pre_tokenizer.{key}"), &format!("`{expected}`"), told));
        }
    }
    // Without added special tokens a post-processor changes offsets only, and this crate has none of either.
    if let Some(value) = &raw.post_processor
        && !matches!(type_of(Some(value)), Some("ByteLevel" | "TemplateProcessing"))
    {
        return Err(malformed(path, "post_processor", "`null`, `ByteLevel` or `TemplateProcessing`", kind_of(value)));
    }
    if type_of(raw.decoder.as_ref()) != Some("ByteLevel") {
        return Err(malformed(path, "decoder", "`ByteLevel`", raw.decoder.as_ref().map_or("none".to_owned(), kind_of)));
    }
    Ok(())
}

fn check_model(model: &RawModel, path: &Path) -> Result<(), TokenizeError> {
    if model.kind.as_deref() != Some("BPE") {
        return Err(malformed(path, "model.type", "`BPE`", model.kind.as_deref().map_or("none".to_owned(), quoted)));
    }
    if let Some(dropout) = model.dropout.filter(|&dropout| dropout.to_bits() != 0) {
        return Err(malformed(path, "model.dropout", "`null`, as encoding must not be random", format!("`{dropout}`")));
    }
    for (key, value) in [("continuing_subword_prefix", &model.continuing_subword_prefix), ("end_of_word_suffix", &model.end_of_word_suffix)]
    {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            return Err(malformed(path, &format!("model.{key}"), "`null`", quoted(value)));
        }
    }
    if model.byte_fallback == Some(true) {
        return Err(malformed(path, "model.byte_fallback", "`false`", "`true`"));
    }
    Ok(())
}

/// The special tokens by their text.
fn special_tokens(added: Vec<RawAdded>, path: &Path) -> Result<BTreeMap<String, u32>, TokenizeError> {
    let mut special = BTreeMap::new();
    for (i, token) in added.into_iter().enumerate() {
        let key = |name: &str| format!("added_tokens[{i}].{name}");
        if token.content.is_empty() {
            return Err(malformed(path, &key("content"), "some text", "none"));
        }
        if !token.special {
            return Err(malformed(
                path,
                &key("special"),
                "`true`, as a token that is added for plain text changes how text is cut",
                "`false`",
            ));
        }
        for (name, flag) in [("lstrip", token.lstrip), ("rstrip", token.rstrip), ("single_word", token.single_word)] {
            if flag {
                return Err(malformed(path, &key(name), "`false`", "`true`"));
            }
        }
        let content = quoted(&token.content);
        if special.insert(token.content, token.id).is_some() {
            return Err(malformed(path, &key("content"), "each token once", content));
        }
    }
    Ok(special)
}

/// All tokens in id order: those of the model and the special ones, ids from 0 without a gap.
fn entries(vocab: Vec<(String, u32)>, special: &BTreeMap<String, u32>, path: &Path) -> Result<Vec<Entry>, TokenizeError> {
    let mut by_token = BTreeMap::new();
    for (token, id) in vocab {
        if let Some(&declared) = special.get(&token)
            && declared != id
        {
            return Err(malformed(
                path,
                "added_tokens",
                &format!("id {id} for {}, as in the vocabulary", quoted(&token)),
                declared.to_string(),
            ));
        }
        let told = quoted(&token);
        if by_token.insert(token, id).is_some() {
            return Err(malformed(path, "model.vocab", "each token once", told));
        }
    }
    by_token.extend(special.iter().map(|(token, id)| (token.clone(), *id)));
    let mut by_id = BTreeMap::new();
    for (token, id) in by_token {
        let entry = if special.contains_key(&token) { Some(Entry::special(&token)) } else { Entry::plain(&token) };
        let entry = entry.ok_or_else(|| malformed(path, "model.vocab", "tokens of the byte alphabet", quoted(&token)))?;
        if let Some(other) = by_id.insert(id, entry) {
            return Err(malformed(
                path,
                "model.vocab",
                "each id once",
                format!("{id} for {} and {}", quoted(&other.token), quoted(&token)),
            ));
        }
    }
    if let Some((expected, (&found, _))) = (0..).zip(&by_id).find(|(expected, (id, _))| expected != *id) {
        return Err(malformed(path, "model.vocab", &format!("id {expected} next, as ids have no gap"), found.to_string()));
    }
    Ok(by_id.into_values().collect())
}

/// Checks that each byte has a token; gives the id of byte 0 when the bytes' ids are in byte order.
fn byte_base(ids: &BTreeMap<&str, u32>, path: &Path) -> Result<Option<u32>, TokenizeError> {
    let mut found = Vec::with_capacity(256);
    for byte in 0..=255 {
        let token = byte_to_char(byte).to_string();
        let id = ids.get(token.as_str()).copied();
        found.push(id.ok_or_else(|| malformed(path, "model.vocab", &format!("a token for byte {byte} ({})", quoted(&token)), "none"))?);
    }
    let base = found[0];
    Ok((base..).zip(&found).all(|(expected, id)| expected == *id).then_some(base))
}

/// The merges, each of which must join two plain tokens into a third.
fn merges(raw: Option<Vec<RawMerge>>, ids: &BTreeMap<&str, u32>, path: &Path) -> Result<Vec<(String, String)>, TokenizeError> {
    let raw = raw.ok_or_else(|| malformed(path, "model.merges", "a list of merges", "none"))?;
    let mut merges = Vec::with_capacity(raw.len());
    let mut seen = BTreeSet::new();
    for (i, merge) in raw.into_iter().enumerate() {
        let key = format!("model.merges[{i}]");
        let (left, right) = match merge {
            RawMerge::Pair(left, right) => (left, right),
            RawMerge::Line(line) => match line.split_once(' ') {
                Some((left, right)) => (left.to_owned(), right.to_owned()),
                None => return Err(malformed(path, &key, "two tokens", quoted(&line))),
            },
        };
        for token in [&left, &right, &format!("{left}{right}")] {
            if !ids.contains_key(token.as_str()) {
                return Err(malformed(path, &key, "plain tokens of the vocabulary, joined and apart", quoted(token)));
            }
        }
        if !seen.insert((ids.get(left.as_str()).copied(), ids.get(right.as_str()).copied())) {
            return Err(malformed(path, &key, "each pair once", format!("`{left} {right}` again")));
        }
        merges.push((left, right));
    }
    Ok(merges)
}

/// A text in back quotes, cut when it is long.
pub(crate) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(48).collect();
    if shown.len() < text.len() { format!("`{shown}…`") } else { format!("`{shown}`") }
}

pub(crate) fn type_of(value: Option<&Value>) -> Option<&str> {
    value?.get("type")?.as_str()
}

/// How a part of the file is called in a message.
pub(crate) fn kind_of(value: &Value) -> String {
    type_of(Some(value)).map_or_else(|| quoted(&value.to_string()), quoted)
}

#[derive(Deserialize)]
pub(crate) struct RawFile {
    pub(crate) version: Option<String>,
    pub(crate) added_tokens: Option<Vec<RawAdded>>,
    pub(crate) normalizer: Option<Value>,
    pub(crate) pre_tokenizer: Option<Value>,
    pub(crate) post_processor: Option<Value>,
    pub(crate) decoder: Option<Value>,
    pub(crate) model: RawModel,
}

#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "these are the file's keys")]
pub(crate) struct RawAdded {
    pub(crate) id: u32,
    pub(crate) content: String,
    #[serde(default)]
    pub(crate) single_word: bool,
    #[serde(default)]
    pub(crate) lstrip: bool,
    #[serde(default)]
    pub(crate) rstrip: bool,
    #[serde(default)]
    pub(crate) special: bool,
    pub(crate) normalized: Option<bool>,
}

impl RawFile {
    /// The file's text as it is, unchecked.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, TokenizeError> {
        serde_json::from_str(text.trim_start_matches('\u{FEFF}')).map_err(|source| TokenizeError::json(path, "tokenizer", source))
    }
}

#[derive(Deserialize)]
pub(crate) struct RawModel {
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) dropout: Option<f32>,
    pub(crate) continuing_subword_prefix: Option<String>,
    pub(crate) end_of_word_suffix: Option<String>,
    pub(crate) byte_fallback: Option<bool>,
    pub(crate) ignore_merges: Option<bool>,
    pub(crate) vocab: Option<RawVocab>,
    pub(crate) merges: Option<Vec<RawMerge>>,
    pub(crate) fuse_unk: Option<bool>,
    pub(crate) unk_token: Option<String>,
    pub(crate) unk_id: Option<usize>,
    pub(crate) max_input_chars_per_word: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum RawMerge {
    Pair(String, String),
    Line(String),
}

/// A vocabulary with every entry the file has, those that repeat a key too.
pub(crate) enum RawVocab {
    Map(Vec<(String, u32)>),
    /// The pieces and scores of a Unigram model, by id.
    List(Vec<(String, f64)>),
}

impl<'de> Deserialize<'de> for RawVocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawVocab;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from token to id, or a list of tokens and scores")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawVocab, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(RawVocab::Map(entries))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawVocab, A::Error> {
                let mut pieces = Vec::new();
                while let Some(piece) = list.next_element()? {
                    pieces.push(piece);
                }
                Ok(RawVocab::List(pieces))
            }
        }
        deserializer.deserialize_any(Entries)
    }
}
