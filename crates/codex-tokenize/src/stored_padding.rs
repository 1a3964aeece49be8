//! What a `tokenizer.json` stores about filling and cutting texts: its `padding` and `truncation`, in the form of Hugging Face.
//!
//! Reference: tokenizers 0.23, `PaddingParams` and `TruncationParams`. The settings never change what [`encode`](Tokenizer::encode) gives; they are
//! kept as they are in the file, and read when a batch is made without settings of its own.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::batch::{Batch, PadTo, Padding, Side, encode_padded};
use crate::error::TokenizeError;
use crate::manifest::TOKENIZER_FILE;
use crate::tokenizer::Tokenizer;
use crate::tokenizer_json::{RawFile, kind_of, malformed};

#[derive(Deserialize)]
struct Stored {
    padding: Option<Value>,
    truncation: Option<Value>,
}

#[derive(Deserialize)]
struct StoredPadding {
    strategy: StoredStrategy,
    #[serde(default)]
    direction: Side,
    pad_to_multiple_of: Option<usize>,
    pad_id: u32,
}

#[derive(Deserialize)]
enum StoredStrategy {
    BatchLongest,
    Fixed(usize),
}

#[derive(Deserialize)]
struct StoredTruncation {
    #[serde(default)]
    direction: Side,
    max_length: usize,
    strategy: String,
    #[serde(default)]
    stride: usize,
}

/// The settings in a tokenizer's file; `None` when it has neither `padding` nor `truncation`.
///
/// With only `truncation`, rows are filled to the longest with [`Tokenizer::pad`]. The `stride` of what is cut off and the type id of padding have no
/// use here, as neither is returned. Settings that cannot be honoured are an error with their key: a `pad_id` without a token, the strategy
/// `OnlySecond`, which is for pairs of texts, and a `stride` that is not below `max_length`, which Hugging Face refuses.
pub fn stored_padding(tokenizer: &dyn Tokenizer) -> Result<Option<Padding>, TokenizeError> {
    let path = Path::new(TOKENIZER_FILE);
    let text = tokenizer.to_json().trim_start_matches('\u{FEFF}');
    let stored: Stored = serde_json::from_str(text).map_err(|source| TokenizeError::json(path, "tokenizer", source))?;
    if stored.padding.is_none() && stored.truncation.is_none() {
        return Ok(None);
    }
    let mut padding = Padding::default();
    if let Some(value) = &stored.padding {
        let found: StoredPadding = settings("padding", value, path)?;
        if tokenizer.id_to_token(found.pad_id).is_none() {
            return Err(malformed(path, "padding.pad_id", "the id of a token", found.pad_id.to_string()));
        }
        padding.to = match found.strategy {
            StoredStrategy::BatchLongest => PadTo::Longest,
            StoredStrategy::Fixed(length) => PadTo::Length(length),
        };
        padding.side = found.direction;
        padding.multiple_of = found.pad_to_multiple_of.filter(|&multiple| multiple > 0);
        padding.pad_id = Some(found.pad_id);
    }
    if let Some(value) = &stored.truncation {
        let found: StoredTruncation = settings("truncation", value, path)?;
        if !matches!(found.strategy.as_str(), "LongestFirst" | "OnlyFirst") {
            let expected = "`LongestFirst` or `OnlyFirst`, as texts are encoded one by one";
            return Err(malformed(path, "truncation.strategy", expected, format!("`{}`", found.strategy)));
        }
        if found.stride > 0 && found.stride >= found.max_length {
            let expected = format!("a number below `max_length` {}", found.max_length);
            return Err(malformed(path, "truncation.stride", &expected, found.stride.to_string()));
        }
        padding.max_length = Some(found.max_length);
        padding.truncate = true;
        padding.truncate_side = found.direction;
    }
    Ok(Some(padding))
}

/// [`encode_padded`] with these settings, else with those of the tokenizer's file, else with the default.
pub fn encode_padded_or_stored(tokenizer: &dyn Tokenizer, texts: &[&str], padding: Option<&Padding>) -> Result<Batch, TokenizeError> {
    match padding {
        Some(padding) => encode_padded(tokenizer, texts, padding),
        None => encode_padded(tokenizer, texts, &stored_padding(tokenizer)?.unwrap_or_default()),
    }
}

/// A tokenizer's file with these settings in place of its own, and every other byte as it is; `None` takes the settings out.
///
/// With [`PadTo::MaxLength`] rows are filled to `max_length`. A `max_length` without `truncate` cannot be stored and is an error.
pub fn with_stored_padding(tokenizer: &dyn Tokenizer, padding: Option<&Padding>) -> Result<String, TokenizeError> {
    let problem = |key: &str, message: &str| TokenizeError::Config { problems: vec![(key.to_owned(), message.to_owned())] };
    let (mut stored, mut truncation) = (Value::Null, Value::Null);
    if let Some(padding) = padding {
        let strategy = match (padding.to, padding.max_length) {
            (PadTo::Longest, _) => json!("BatchLongest"),
            (PadTo::Length(length), _) | (PadTo::MaxLength, Some(length)) => json!({ "Fixed": length }),
            (PadTo::MaxLength, None) => return Err(problem("max_length", "expected a length, as rows are padded to it, found none")),
        };
        let pad_id = padding.pad_id.unwrap_or_else(|| tokenizer.pad());
        let Some(pad_token) = tokenizer.id_to_token(pad_id) else {
            return Err(TokenizeError::UnknownId { id: pad_id, vocab_size: tokenizer.vocab_size() });
        };
        stored = json!({
            "strategy": strategy, "direction": padding.side, "pad_to_multiple_of": padding.multiple_of, "pad_id": pad_id, "pad_type_id": 0,
            "pad_token": pad_token,
        });
        match (padding.max_length, padding.truncate) {
            (Some(max_length), true) => {
                truncation = json!({"direction": padding.truncate_side, "max_length": max_length, "strategy": "LongestFirst", "stride": 0});
            }
            (Some(_), false) if padding.to != PadTo::MaxLength => {
                return Err(problem("truncate", "expected `true`, as the file says only where texts are cut, found `false`"));
            }
            _ => {}
        }
    }
    let text = replaced(tokenizer.to_json(), "truncation", &truncation.to_string())?;
    replaced(&text, "padding", &stored.to_string())
}

fn settings<T: for<'de> Deserialize<'de>>(key: &str, value: &Value, path: &Path) -> Result<T, TokenizeError> {
    if !value.is_object() {
        return Err(malformed(path, key, "settings as Hugging Face writes them", kind_of(value)));
    }
    T::deserialize(value).map_err(|error| malformed(path, key, "settings as Hugging Face writes them", error.to_string()))
}

/// The text of a file with the value of one of its keys replaced; the key is put first when the file has it not.
fn replaced(text: &str, key: &str, value: &str) -> Result<String, TokenizeError> {
    RawFile::parse(text, Path::new(TOKENIZER_FILE))?;
    let (place, put) = if let Some(place) = place_of_value(text, key) {
        (place, value.to_owned())
    } else {
        let behind_brace = text.find('{').map_or(0, |at| at + 1);
        (behind_brace..behind_brace, format!("\"{key}\":{value},"))
    };
    Ok(format!("{}{put}{}", &text[..place.start], &text[place.end..]))
}

/// Where the value of a key of the outermost object stands in the text of valid JSON.
fn place_of_value(text: &str, key: &str) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    // The last text at the outermost level, and where the value of the key begins.
    let (mut last_text, mut value): (&str, Option<usize>) = ("", None);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let start = at + 1;
                at = start;
                while *bytes.get(at)? != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                if depth == 1 && value.is_none() {
                    last_text = &text[start..at];
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' | b',' => {
                if depth == 1
                    && let Some(start) = value
                {
                    let found = &text[start..at];
                    let from = start + (found.len() - found.trim_start().len());
                    return Some(from..from + found.trim().len());
                }
                depth -= usize::from(bytes[at] != b',');
            }
            b':' if depth == 1 && value.is_none() && last_text == key => value = Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use tokenizers::{PaddingDirection, PaddingParams, PaddingStrategy, TruncationDirection, TruncationParams, TruncationStrategy};

    use super::*;
    use crate::byte::ByteTokenizer;
    use crate::config::TokenizerConfig;

    fn bytes() -> ByteTokenizer {
        ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap()
    }

    fn stored(padding: &str, truncation: &str) -> Result<Option<Padding>, TokenizeError> {
        let json = replaced(bytes().to_json(), "padding", padding).and_then(|json| replaced(&json, "truncation", truncation)).unwrap();
        stored_padding(&ByteTokenizer::from_json(&json).unwrap())
    }

    #[test]
    fn settings_are_stored_and_read_back_and_other_bytes_stay() {
        let tokenizer = bytes();
        assert_eq!(stored_padding(&tokenizer).unwrap(), None);
        let padding = Padding {
            to: PadTo::Length(8),
            max_length: Some(5),
            truncate: true,
            side: Side::Left,
            truncate_side: Side::Left,
            multiple_of: Some(4),
            pad_id: Some(7),
        };
        let json = with_stored_padding(&tokenizer, Some(&padding)).unwrap();
        let with = ByteTokenizer::from_json(&json).unwrap();
        assert_eq!(stored_padding(&with).unwrap(), Some(padding.clone()));
        assert_ne!(with.digest(), tokenizer.digest());
        // Without them it is the first file again, byte for byte, whatever the order of the keys.
        assert_eq!(with_stored_padding(&with, None).unwrap(), tokenizer.to_json());
        let absent = r#"{"model": {"padding": 1, "a": ["}", "\"padding\":"]}}"#;
        assert_eq!(place_of_value(absent, "padding"), None);
        assert_eq!(place_of_value(r#"{"x": ["padding"], "padding" : {"a": [1, 2]} }"#, "padding"), Some(31..44));
        assert_eq!(place_of_value(r#"{"x": "padding", "padding":null}"#, "padding"), Some(27..31));
    }

    #[test]
    fn what_cannot_be_honoured_is_told_with_its_key() {
        let good =
            r#"{"strategy":"BatchLongest","direction":"Right","pad_to_multiple_of":null,"pad_id":1,"pad_type_id":0,"pad_token":"<|pad|>"}"#;
        assert_eq!(stored(good, "null").unwrap(), Some(Padding { pad_id: Some(1), ..Padding::default() }));
        let cut = r#"{"max_length":4,"strategy":"LongestFirst","stride":0}"#;
        assert_eq!(stored("null", cut).unwrap(), Some(Padding { max_length: Some(4), truncate: true, ..Padding::default() }));
        for (padding, truncation, message) in [
            ("3", "null", "`tokenizer.json`: `padding`: expected settings as Hugging Face writes them, found `3`"),
            ("{}", "null", "`tokenizer.json`: `padding`: expected settings as Hugging Face writes them, found missing field"),
            (&good.replace("Right", "Up"), "null", "`tokenizer.json`: `padding`: expected settings as"),
            (&good.replace(":1,", ":-1,"), "null", "`tokenizer.json`: `padding`: expected settings as"),
            (&good.replace(":1,", ":900,"), "null", "`tokenizer.json`: `padding.pad_id`: expected the id of a token, found 900"),
            ("null", "[]", "`tokenizer.json`: `truncation`: expected settings as"),
            ("null", &cut.replace("LongestFirst", "OnlySecond"), "`tokenizer.json`: `truncation.strategy`: expected `LongestFirst` or"),
            ("null", &cut.replace(":0}", ":4}"), "`tokenizer.json`: `truncation.stride`: expected a number below `max_length` 4, found 4"),
        ] {
            let error = stored(padding, truncation).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let no_length = Padding { to: PadTo::MaxLength, ..Padding::default() };
        let uncut = Padding { max_length: Some(3), ..Padding::default() };
        let no_token = Padding { pad_id: Some(900), ..Padding::default() };
        for padding in [no_length, uncut, no_token] {
            assert!(with_stored_padding(&bytes(), Some(&padding)).is_err());
        }
    }

    /// The library, which reads the same file, is the reference: ids of the batch, and the mask.
    #[test]
    fn batches_are_those_of_the_library() {
        let texts = ["abcdef", "", "x", "some longer text"];
        for (pad_left, cut_left, multiple_of, fixed, max_length) in [
            (false, false, None, None, None),
            (true, true, Some(4), None, Some(5)),
            (true, false, None, Some(20), None),
            (false, true, Some(3), Some(7), Some(7)),
            (false, false, Some(8), None, Some(3)),
        ] {
            let params = PaddingParams {
                strategy: fixed.map_or(PaddingStrategy::BatchLongest, PaddingStrategy::Fixed),
                direction: if pad_left { PaddingDirection::Left } else { PaddingDirection::Right },
                pad_to_multiple_of: multiple_of,
                pad_id: 1,
                pad_type_id: 0,
                pad_token: "<|pad|>".to_owned(),
            };
            let cut = max_length.map(|max_length| TruncationParams {
                direction: if cut_left { TruncationDirection::Left } else { TruncationDirection::Right },
                max_length,
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
            });
            let mut library: tokenizers::Tokenizer = bytes().to_json().parse().unwrap();
            library.with_padding(Some(params)).with_truncation(cut).unwrap();
            let ours = crate::from_json(&library.to_string(true).unwrap()).unwrap();
            let batch = encode_padded_or_stored(&*ours, &texts, None).unwrap();
            let expected = library.encode_batch(texts.to_vec(), false).unwrap();
            let ids: Vec<u32> = expected.iter().flat_map(|row| row.get_ids().to_vec()).collect();
            let mask: Vec<bool> = expected.iter().flat_map(|row| row.get_attention_mask().to_vec()).map(|mark| mark == 1).collect();
            assert_eq!((batch.ids.clone(), batch.mask()), (ids, mask));
            let explicit = encode_padded_or_stored(&*ours, &texts, Some(&Padding::default())).unwrap();
            assert_eq!(explicit.width, 16);
        }
    }
}
