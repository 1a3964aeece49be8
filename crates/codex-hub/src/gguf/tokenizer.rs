//! A Hugging Face `tokenizer.json` as the keys of a GGUF file.
//!
//! llama.cpp knows three kinds of what a decoder-only model comes with: `gpt2`, byte-level BPE with a list of merges and the name of a pattern; `llama`,
//! pieces of SentencePiece that are joined by score; and `t5`, pieces that are likeliest together. A file of any other layout is refused.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::keys::FORMAT;
use super::value::GgufValue;
use super::{byte_level, pieces};
use crate::error::HubError;

/// What a message calls the file.
pub(super) const FILE: &str = "tokenizer.json";

/// The tokenizer of a file.
#[derive(Debug, Default)]
pub(crate) struct Vocabulary {
    /// Its keys.
    pub(crate) keys: Vec<(String, GgufValue)>,
    /// The name of the pattern that cuts a text, where there is one.
    pub(crate) pre: Option<&'static str>,
    /// Where llama.cpp makes other ids of a text than the tokenizer does.
    pub(crate) notes: Vec<String>,
}

/// The tokens with a task, by id.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SpecialIds {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) pad: Option<u32>,
}

/// llama.cpp's kinds of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// A token with its id.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) id: u32,
    pub(super) text: String,
    pub(super) kind: TokenKind,
    pub(super) score: f32,
}

/// What one of the kinds makes of the model.
pub(super) struct Tokens {
    /// `gpt2`, `llama` or `t5`.
    pub(super) model: &'static str,
    pub(super) pre: &'static str,
    pub(super) tokens: Vec<Token>,
    /// The merges, of `gpt2`.
    pub(super) merges: Option<Vec<String>>,
    /// Whether a text gets a space in front, of the others.
    pub(super) has_space_prefix: Option<bool>,
    pub(super) unknown: Option<u32>,
    pub(super) notes: Vec<String>,
}

/// The parts of a `tokenizer.json`.
pub(super) struct Parts<'a> {
    pub(super) model: &'a Map<String, Value>,
    pub(super) normalizers: Vec<&'a Value>,
    pub(super) pre_tokenizers: Vec<&'a Value>,
    /// The added tokens: id, text, and whether it is special.
    pub(super) added: Vec<(u32, &'a str, bool)>,
    processors: Vec<&'a Value>,
    strips: bool,
}

/// The keys of a tokenizer for an embedding of `rows`; without one, those of its ids alone.
pub(crate) fn vocabulary(json: Option<&str>, rows: usize, given: SpecialIds, chat_template: Option<&str>) -> Result<Vocabulary, HubError> {
    let mut all = match json {
        None => without(given),
        Some(json) => with(json, rows, given)?,
    };
    if let Some(template) = chat_template.filter(|template| !template.is_empty()) {
        all.keys.push(("tokenizer.chat_template".to_owned(), GgufValue::text(template)));
    }
    for id in [given.bos, given.eos, given.pad].into_iter().flatten() {
        if id as usize >= rows {
            return Err(refused(format!("a token with a task has the id {id}, and the embedding has {rows} rows")));
        }
    }
    Ok(all)
}

fn without(given: SpecialIds) -> Vocabulary {
    let mut keys = vec![("tokenizer.ggml.model".to_owned(), GgufValue::text("none"))];
    keys.extend(special(given, None));
    Vocabulary { keys, notes: vec!["there is no tokenizer in the file: programs take and give ids".to_owned()], ..Vocabulary::default() }
}

fn with(json: &str, rows: usize, given: SpecialIds) -> Result<Vocabulary, HubError> {
    let root: Value = serde_json::from_str(json).map_err(|error| HubError::json(Path::new(FILE), "tokenizer", &error))?;
    let parts = Parts::of(&root)?;
    let Tokens { model, pre, tokens, merges, has_space_prefix, unknown, mut notes } = match parts.kind()? {
        Kind::ByteLevel => byte_level::tokens(&parts)?,
        Kind::Pieces => pieces::tokens(&parts)?,
    };
    if parts.strips {
        notes.push("some added tokens take the white space beside them, which llama.cpp leaves to the text".to_owned());
    }
    let table = table(tokens, rows)?;
    let (before, after) = parts.around()?;
    let ids = SpecialIds { bos: agreed(given.bos, before, "begin")?, eos: agreed(given.eos, after, "end")?, pad: given.pad };
    let mut keys = Vec::new();
    let mut put = |key: &str, value: GgufValue| keys.push((format!("tokenizer.ggml.{key}"), value));
    put("model", GgufValue::text(model));
    put("pre", GgufValue::text(pre));
    put("token_type", GgufValue::ints(&table.iter().map(|token| token.kind as i32).collect::<Vec<_>>()));
    if model != "gpt2" {
        put("scores", GgufValue::floats(&table.iter().map(|token| token.score).collect::<Vec<_>>()));
    }
    put("tokens", GgufValue::Texts(table.into_iter().map(|token| token.text).collect()));
    if let Some(merges) = merges {
        put("merges", GgufValue::Texts(merges));
    }
    if let Some(has_space_prefix) = has_space_prefix {
        put("add_space_prefix", GgufValue::Bool(has_space_prefix));
        put("remove_extra_whitespaces", GgufValue::Bool(false));
    }
    put("add_bos_token", GgufValue::Bool(before.is_some()));
    put("add_eos_token", GgufValue::Bool(after.is_some()));
    keys.extend(special(ids, unknown));
    Ok(Vocabulary { keys, pre: Some(pre), notes })
}

fn special(ids: SpecialIds, unknown: Option<u32>) -> impl Iterator<Item = (String, GgufValue)> {
    let all = [("bos", ids.bos), ("eos", ids.eos), ("unknown", unknown), ("padding", ids.pad)];
    all.into_iter().filter_map(|(name, id)| Some((format!("tokenizer.ggml.{name}_token_id"), GgufValue::U32(id?))))
}

/// A token that the post-processor puts around a text must be the one that the model names for that.
fn agreed(given: Option<u32>, around: Option<u32>, what: &str) -> Result<Option<u32>, HubError> {
    match (given, around) {
        (Some(given), Some(around)) if given != around => {
            let reason = format!("its post-processor lets token {around} {what} a text, and the model names token {given} for that");
            Err(refused(reason))
        }
        _ => Ok(given.or(around)),
    }
}

/// The tokens in the order of their ids, one for each row of the embedding.
fn table(tokens: Vec<Token>, rows: usize) -> Result<Vec<Token>, HubError> {
    let mut slots: Vec<Option<Token>> = vec![None; rows];
    let mut texts = BTreeSet::new();
    for token in tokens {
        if !texts.insert(token.text.clone()) {
            return Err(refused(format!("two of its ids have the token {:?}", short(&token.text))));
        }
        let n = token.id;
        let slot = slots.get_mut(n as usize);
        let slot = slot.ok_or_else(|| refused(format!("it has a token of id {n}, and the embedding has {rows} rows")))?;
        if let Some(other) = slot {
            return Err(refused(format!("the tokens {:?} and {:?} have the id {n}", short(&other.text), short(&token.text))));
        }
        *slot = Some(token);
    }
    let filled = slots.into_iter().enumerate().map(|(id, slot)| {
        slot.unwrap_or_else(|| {
            // Rows that no text leads to; llama.cpp wants a name of its own for each.
            let mut text = format!("[PAD{id}]");
            while !texts.insert(text.clone()) {
                text.push('_');
            }
            Token { id: id as u32, text, kind: TokenKind::Unused, score: -10_000.0 }
        })
    });
    Ok(filled.collect())
}

enum Kind {
    ByteLevel,
    Pieces,
}

impl<'a> Parts<'a> {
    fn of(root: &'a Value) -> Result<Self, HubError> {
        let model = root.get("model").and_then(Value::as_object);
        let model = model.ok_or_else(|| malformed("model", "an object", "none"))?;
        let mut added = Vec::new();
        let mut strips = false;
        for (i, token) in root.get("added_tokens").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let id = token.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
            let text = token.get("content").and_then(Value::as_str);
            let flag = |key: &str| token.get(key).and_then(Value::as_bool).unwrap_or(false);
            let (Some(id), Some(text)) = (id, text) else {
                return Err(malformed(&format!("added_tokens.{i}"), "a token with `id` and `content`", "another value"));
            };
            strips |= flag("lstrip") || flag("rstrip") || flag("single_word");
            added.push((id, text, flag("special")));
        }
        let list = |key: &str, inner: &str| flattened(root.get(key), inner);
        Ok(Self {
            model,
            normalizers: list("normalizer", "normalizers"),
            pre_tokenizers: list("pre_tokenizer", "pretokenizers"),
            processors: list("post_processor", "processors"),
            added,
            strips,
        })
    }

    fn kind(&self) -> Result<Kind, HubError> {
        let is_byte_level = self.pre_tokenizers.iter().any(|value| type_of(value) == "ByteLevel");
        let kind = self.model.get("type").and_then(Value::as_str);
        match kind.or(self.model.contains_key("merges").then_some("BPE")).unwrap_or("none") {
            "BPE" if is_byte_level => Ok(Kind::ByteLevel),
            "BPE" | "Unigram" if !is_byte_level => Ok(Kind::Pieces),
            other => {
                let shown = short(other);
                Err(refused(format!("its model is `{shown}`, and llama.cpp has byte-level BPE and the pieces of SentencePiece")))
            }
        }
    }

    /// The ids that the post-processor puts before and behind a text.
    fn around(&self) -> Result<(Option<u32>, Option<u32>), HubError> {
        let (mut before, mut after) = (None, None);
        for processor in &self.processors {
            match type_of(processor) {
                "ByteLevel" => continue,
                "TemplateProcessing" => {}
                other => return Err(refused(format!("its post-processor is `{}`", short(other)))),
            }
            let mut is_behind = false;
            for piece in processor.get("single").and_then(Value::as_array).into_iter().flatten() {
                let Some(name) = piece.get("SpecialToken").and_then(|token| token.get("id")).and_then(Value::as_str) else {
                    is_behind = true;
                    continue;
                };
                let ids = processor.get("special_tokens").and_then(|all| all.get(name)).and_then(|token| token.get("ids"));
                let id = match ids.and_then(Value::as_array).map(Vec::as_slice) {
                    Some([id]) => id.as_u64().and_then(|id| u32::try_from(id).ok()),
                    _ => None,
                };
                let id =
                    id.ok_or_else(|| malformed("post_processor.special_tokens", "one id for each token of `single`", "another value"))?;
                let place = if is_behind { &mut after } else { &mut before };
                if place.replace(id).is_some() {
                    return Err(refused("its post-processor puts more than one token on a side of a text".to_owned()));
                }
            }
        }
        Ok((before, after))
    }

    /// The tokens of `model.vocab` by id, where that is a map.
    pub(super) fn vocab_map(&self) -> Result<Vec<(u32, &'a str)>, HubError> {
        let map = self.model.get("vocab").and_then(Value::as_object);
        let map = map.ok_or_else(|| malformed("model.vocab", "a map from token to id", "none"))?;
        let mut all = Vec::with_capacity(map.len());
        for (text, id) in map {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            all.push((id.ok_or_else(|| malformed(&format!("model.vocab.{}", short(text)), "an id", "another value"))?, text.as_str()));
        }
        all.sort_unstable();
        Ok(all)
    }

    /// The pairs of `model.merges`, which are texts with a space or lists of two.
    pub(super) fn merges(&self) -> Result<Vec<(&'a str, &'a str)>, HubError> {
        let list = self.model.get("merges").and_then(Value::as_array);
        let list = list.ok_or_else(|| malformed("model.merges", "a list", "none"))?;
        let pair = |(i, merge): (usize, &'a Value)| {
            let found = match merge {
                Value::String(text) => text.split_once(' '),
                Value::Array(two) => match two.as_slice() {
                    [first, second] => first.as_str().zip(second.as_str()),
                    _ => None,
                },
                _ => None,
            };
            found.ok_or_else(|| malformed(&format!("model.merges.{i}"), "two tokens", "another value"))
        };
        list.iter().enumerate().map(pair).collect()
    }

    /// Refuses options of the model that llama.cpp has not.
    pub(super) fn only_plain(&self) -> Result<(), HubError> {
        for key in ["dropout", "continuing_subword_prefix", "end_of_word_suffix"] {
            let is_off = match self.model.get(key) {
                None | Some(Value::Null) => true,
                Some(Value::String(text)) => text.is_empty(),
                Some(value) => value.as_f64() == Some(0.0),
            };
            if !is_off {
                return Err(refused(format!("`model.{key}` is set")));
            }
        }
        Ok(())
    }
}

/// The parts of a pipeline: none, one, or those of a sequence, which may hold sequences.
fn flattened<'a>(value: Option<&'a Value>, inner: &str) -> Vec<&'a Value> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(value) if type_of(value) == "Sequence" => {
            let list = value.get(inner).and_then(Value::as_array);
            list.into_iter().flatten().flat_map(|part| flattened(Some(part), inner)).collect()
        }
        Some(value) => vec![value],
    }
}

pub(super) fn type_of(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or("none")
}

pub(super) fn refused(reason: String) -> HubError {
    HubError::TokenizerNotRepresentable { format: FORMAT, reason }
}

pub(super) fn malformed(key: &str, expected: &str, found: &str) -> HubError {
    HubError::malformed(Path::new(FILE), key, expected, found)
}

pub(super) fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
