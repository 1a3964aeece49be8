//! The parts of a `tokenizer.json` around its model: each is checked, so that no file makes the library panic or a text grow without bound.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokenizers::{DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper};

use crate::charsmap;
use crate::error::TokenizeError;
use crate::guard::guarded;
use crate::pattern_cost;
use crate::tokenizer_json::{kind_of, malformed, quoted, type_of};

/// The most parts a sequence may have, those of sequences within it counted in.
const MAX_PARTS: usize = 64;
/// The most bytes that one byte of text may become in a pre-tokenizer or a decoder.
const MAX_GROWTH: usize = 64;
/// The longest text a part may put in, in bytes.
const MAX_CONTENT_BYTES: usize = 1024;

/// A normaliser and what it can do to a text's length.
#[derive(Debug)]
pub(crate) struct NormalizerPart {
    /// The library's part.
    pub(crate) part: NormalizerWrapper,
    /// The most bytes that one byte becomes.
    pub(crate) growth: usize,
    /// Bytes that are added to a text as a whole.
    pub(crate) added: usize,
}

/// The normalisers of a file, in order; a sequence is its parts.
pub(crate) fn normalizers(value: Option<&Value>, path: &Path) -> Result<Vec<NormalizerPart>, TokenizeError> {
    let mut parts = Vec::new();
    for (key, part) in flat(value, "normalizer", "normalizers", path)? {
        let (growth, added) = normalizer_growth(part, &key, path)?;
        parts.push(NormalizerPart { part: component(part, &key, path)?, growth, added });
    }
    Ok(parts)
}

/// The pre-tokenizer of a file.
pub(crate) fn pre_tokenizer(value: Option<&Value>, path: &Path) -> Result<Option<PreTokenizerWrapper>, TokenizeError> {
    let mut growth = 1_usize;
    for (key, part) in flat(value, "pre_tokenizer", "pretokenizers", path)? {
        match type_of(Some(part)) {
            Some("Split") => check_pattern(part, &key, path)?,
            // The marker, of 4 bytes at most, for a space, and one more before the word.
            Some("Metaspace") => growth = growth.saturating_mul(8),
            Some("ByteLevel") => growth = growth.saturating_mul(4),
            Some("FixedLength") if part.get("length").and_then(Value::as_u64) == Some(0) => {
                return Err(malformed(path, &format!("{key}.length"), "at least 1", "0"));
            }
            _ => {}
        }
    }
    check_growth(growth, "pre_tokenizer", path)?;
    value.map(|value| component(value, "pre_tokenizer", path)).transpose()
}

/// The decoder of a file.
pub(crate) fn decoder(value: Option<&Value>, path: &Path) -> Result<Option<DecoderWrapper>, TokenizeError> {
    let (mut growth, mut may_be_empty) = (1_usize, false);
    for (key, part) in flat(value, "decoder", "decoders", path)? {
        match type_of(Some(part)) {
            Some("Replace") => growth = growth.saturating_mul(replace_growth(part, &key, path)?),
            // The library reads before the first character of a token that is shorter.
            Some("Strip") if part.get("stop").and_then(Value::as_u64) != Some(0) => {
                let found = part.get("stop").map_or("none".to_owned(), Value::to_string);
                return Err(malformed(path, &format!("{key}.stop"), "`0`", found));
            }
            Some("CTC") => may_be_empty = true,
            Some("BPEDecoder") if may_be_empty => {
                return Err(malformed(path, &key, "no `BPEDecoder` after `CTC`, which can leave it nothing", "`BPEDecoder`"));
            }
            _ => {}
        }
    }
    check_growth(growth, "decoder", path)?;
    value.map(|value| component(value, "decoder", path)).transpose()
}

/// The parts of a possible sequence with their keys, sequences within it opened.
fn flat<'v>(value: Option<&'v Value>, key: &str, list: &str, path: &Path) -> Result<Vec<(String, &'v Value)>, TokenizeError> {
    let mut parts = Vec::new();
    let mut open: Vec<(String, &Value)> = value.map(|value| (key.to_owned(), value)).into_iter().collect();
    while let Some((key, value)) = open.pop() {
        if type_of(Some(value)) == Some("Sequence") {
            let inner_key = format!("{key}.{list}");
            let Some(inner) = value.get(list).and_then(Value::as_array) else {
                return Err(malformed(path, &inner_key, "a list", value.get(list).map_or("none".to_owned(), kind_of)));
            };
            open.extend(inner.iter().enumerate().rev().map(|(i, part)| (format!("{inner_key}[{i}]"), part)));
        } else if type_of(Some(value)).is_none() {
            return Err(malformed(path, &format!("{key}.type"), "the name of a part", "none"));
        } else {
            parts.push((key, value));
        }
        if parts.len() + open.len() > MAX_PARTS {
            return Err(malformed(path, key_of(key_root(list)), &format!("at most {MAX_PARTS} parts"), "more"));
        }
    }
    Ok(parts)
}

fn key_root(list: &str) -> &str {
    list.strip_suffix('s').unwrap_or(list)
}

fn key_of(root: &str) -> &str {
    if root == "pretokenizer" { "pre_tokenizer" } else { root }
}

/// The library's part for what the file says.
fn component<T: DeserializeOwned>(value: &Value, key: &str, path: &Path) -> Result<T, TokenizeError> {
    // From text, as some of the library's parts read borrowed strings only.
    let text = value.to_string();
    guarded("read a part of the tokenizer", || {
        serde_json::from_str(&text).map_err(|error| {
            let told: String = error.to_string().chars().take(200).collect();
            malformed(path, key, "a part that the tokenizers library knows", format!("{} ({told})", kind_of(value)))
        })
    })?
}

/// How much a normaliser can lengthen a text: a factor, and bytes added once.
fn normalizer_growth(part: &Value, key: &str, path: &Path) -> Result<(usize, usize), TokenizeError> {
    Ok(match type_of(Some(part)).unwrap_or_default() {
        "Replace" => (replace_growth(part, key, path)?, MAX_CONTENT_BYTES),
        "Prepend" => (1, content(part, "prepend", key, path)?.len()),
        "Precompiled" => {
            let key = format!("{key}.precompiled_charsmap");
            let text = part.get("precompiled_charsmap").and_then(Value::as_str);
            let text = text.ok_or_else(|| malformed(path, &key, "a text in base64", "none"))?;
            let map = STANDARD.decode(text).map_err(|error| malformed(path, &key, "a text in base64", error.to_string()))?;
            let growth = charsmap::check(&map).map_err(|fault| malformed(path, &key, "a character map", fault.to_string()))?;
            (growth, 0)
        }
        // U+FDFA has 3 bytes and becomes 33.
        "NFKC" | "NFKD" => (11, 0),
        "BertNormalizer" | "Bert" => (9, 0),
        "NFC" | "NFD" | "Lowercase" => (3, 0),
        "ByteLevel" => (2, 0),
        _ => (1, 0),
    })
}

/// The most bytes that one byte becomes by a replacement.
fn replace_growth(part: &Value, key: &str, path: &Path) -> Result<usize, TokenizeError> {
    let content = content(part, "content", key, path)?.len();
    check_pattern(part, key, path)?;
    let text = part.get("pattern").and_then(|pattern| pattern.get("String")).and_then(Value::as_str);
    // An expression can match nothing, before every character.
    Ok(text.map_or(1 + content, |text| content.div_ceil(text.len())).max(1))
}

/// A text that a part puts in.
fn content<'v>(part: &'v Value, name: &str, key: &str, path: &Path) -> Result<&'v str, TokenizeError> {
    let key = format!("{key}.{name}");
    let text = part.get(name).and_then(Value::as_str).ok_or_else(|| malformed(path, &key, "a text", "none"))?;
    if text.len() > MAX_CONTENT_BYTES {
        return Err(malformed(path, &key, &format!("at most {MAX_CONTENT_BYTES} bytes"), text.len().to_string()));
    }
    Ok(text)
}

/// A pattern that matches something and is cheap.
fn check_pattern(part: &Value, key: &str, path: &Path) -> Result<(), TokenizeError> {
    let key = format!("{key}.pattern");
    let pattern = part.get("pattern");
    if let Some(text) = pattern.and_then(|pattern| pattern.get("String")).and_then(Value::as_str) {
        if text.is_empty() || text.len() > MAX_CONTENT_BYTES {
            return Err(malformed(path, &key, &format!("a text of 1 to {MAX_CONTENT_BYTES} bytes"), text.len().to_string()));
        }
        return Ok(());
    }
    let regex = pattern.and_then(|pattern| pattern.get("Regex")).and_then(Value::as_str);
    let regex = regex.ok_or_else(|| malformed(path, &key, "`String` or `Regex` with a text", "neither"))?;
    pattern_cost::check(regex)
        .map_err(|fault| malformed(path, &key, "a pattern that is cheap on any text", format!("{} {fault}", quoted(regex))))
}

fn check_growth(growth: usize, key: &str, path: &Path) -> Result<(), TokenizeError> {
    if growth > MAX_GROWTH {
        return Err(malformed(path, key, &format!("parts that make at most {MAX_GROWTH} bytes of one"), growth.to_string()));
    }
    Ok(())
}
