//! A tiktoken rank file as a `tokenizer.json` with the same ids.
//!
//! A rank file has a line for each token: its bytes in base64, a space, and its rank, which is its id. A text is cut by a pattern, a piece that is
//! a token is taken whole, and in any other the pair that makes the token of lowest rank is joined, again and again (tiktoken, `src/lib.rs`).
//! `xtask/parity/tokenizer_ids.py` compares ids with the real library.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tokenizers::models::bpe::Vocab;

use crate::alphabet::byte_to_char;
use crate::error::TokenizeError;
use crate::imported::{Imported, MAX_IMPORT_BYTES, MAX_TOKEN_BYTES, MAX_TOKENS, added_token};
use crate::pattern_cost;
use crate::tiktoken_schemes::{Cut, Scheme, registry};

/// The most looks at a pair that finding the merges may take; o200k, the largest real file, takes 30 million.
const MAX_WORK: usize = 1 << 29;

/// Makes a `tokenizer.json` of a rank file by the name of its encoding: `gpt2`, `r50k_base`, `p50k_base`, `p50k_edit`, `cl100k_base`, `o200k_base`,
/// `o200k_harmony`, `qwen2` or `llama3`. The name decides the pattern and the special tokens, which stand behind the ranks.
pub fn import_tiktoken(ranks: &[u8], encoding: &str) -> Result<Imported, TokenizeError> {
    let scheme = registry().resolve(encoding)?();
    let ranks = Ranks::parse(ranks)?;
    let special = scheme.special_tokens(&ranks.ids());
    convert(&ranks, &scheme.cut, &special, &scheme)
}

/// Makes a `tokenizer.json` of a rank file of another encoding: its pattern and its special tokens with their ids.
///
/// A possessive count such as `{1,3}+` in the pattern is written as a plain one, because other readers of the file take it for a repeated group.
pub fn import_tiktoken_with(ranks: &[u8], pattern: &str, special_tokens: &[(String, u32)]) -> Result<Imported, TokenizeError> {
    let cut = Cut::Pattern(pattern.replace("}+", "}"));
    let ranks = Ranks::parse(ranks)?;
    convert(&ranks, &cut, special_tokens, &Scheme::default())
}

fn wrong(place: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> TokenizeError {
    TokenizeError::Import { format: "tiktoken", place: place.into(), expected: expected.into(), found: found.into() }
}

/// The tokens by rank, each byte written as a letter of the byte alphabet.
struct Ranks {
    tokens: BTreeMap<u32, String>,
}

impl Ranks {
    fn parse(bytes: &[u8]) -> Result<Self, TokenizeError> {
        if bytes.len() > MAX_IMPORT_BYTES {
            return Err(wrong("the file", format!("at most {MAX_IMPORT_BYTES} bytes"), bytes.len().to_string()));
        }
        let mut tokens = BTreeMap::new();
        for (line, number) in bytes.split(|&byte| byte == b'\n').zip(1_usize..) {
            let line = line.trim_ascii_end();
            if line.is_empty() {
                continue;
            }
            let place = || format!("line {number}");
            let mut words = line.split(|&byte| byte == b' ');
            let (Some(text), Some(rank), None) = (words.next(), words.next(), words.next()) else {
                return Err(wrong(place(), "base64, a space and a rank", shown(line)));
            };
            let token = STANDARD.decode(text).map_err(|error| wrong(place(), "base64", error.to_string()))?;
            if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
                return Err(wrong(place(), format!("a token of 1 to {MAX_TOKEN_BYTES} bytes"), token.len().to_string()));
            }
            let rank: Option<u32> = std::str::from_utf8(rank).ok().and_then(|rank| rank.parse().ok());
            let rank = rank.filter(|&rank| (rank as usize) < MAX_TOKENS);
            let rank = rank.ok_or_else(|| wrong(place(), format!("a rank below {MAX_TOKENS}"), shown(line)))?;
            let token = token.into_iter().map(byte_to_char).collect();
            if tokens.insert(rank, token).is_some() {
                return Err(wrong(place(), "each rank once", rank.to_string()));
            }
        }
        Ok(Self { tokens })
    }

    fn ids(&self) -> Vec<u32> {
        self.tokens.keys().copied().collect()
    }

    /// The ranks by token; each must be there once, and each byte must have one.
    fn by_token(&self) -> Result<Vocab, TokenizeError> {
        let mut by_token = Vocab::default();
        for (&rank, token) in &self.tokens {
            if let Some(first) = by_token.insert(token.clone(), rank) {
                return Err(wrong(format!("rank {rank}"), "each token once", format!("that of rank {first}")));
            }
        }
        for byte in 0..=255 {
            if !by_token.contains_key(byte_to_char(byte).to_string().as_str()) {
                return Err(wrong("the file", format!("a token for byte {byte}"), "none"));
            }
        }
        Ok(by_token)
    }

    /// The pair each token is made of: what is left of its bytes when everything of a lower rank is joined. A token that is never made of two, or
    /// only by way of one of higher rank, has none; it is found where a whole piece spells it.
    fn merges(&self, by_token: &Vocab) -> Result<Vec<Value>, TokenizeError> {
        let (mut merges, mut work) = (Vec::new(), 0_usize);
        for (&rank, token) in &self.tokens {
            // Where each part starts, and the end.
            let mut cuts: Vec<usize> = token.char_indices().map(|(at, _)| at).chain([token.len()]).collect();
            while cuts.len() > 3 {
                work += cuts.len();
                if work > MAX_WORK {
                    return Err(wrong(format!("rank {rank}"), "tokens that are put together in bounded time", "more or longer ones"));
                }
                let pairs = (0..cuts.len() - 2).filter_map(|i| Some((*by_token.get(&token[cuts[i]..cuts[i + 2]])?, i)));
                match pairs.filter(|(joined, _)| *joined < rank).min() {
                    Some((_, i)) => drop(cuts.remove(i + 1)),
                    None => break,
                }
            }
            if let [_, middle, _] = cuts[..] {
                merges.push(json!([&token[..middle], &token[middle..]]));
            }
        }
        Ok(merges)
    }
}

fn convert(ranks: &Ranks, cut: &Cut, special: &[(String, u32)], scheme: &Scheme) -> Result<Imported, TokenizeError> {
    let by_token = ranks.by_token()?;
    let merges = ranks.merges(&by_token)?;
    for (i, (token, id)) in special.iter().enumerate() {
        let place = || format!("the special token {token:?}");
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return Err(wrong(place(), format!("1 to {MAX_TOKEN_BYTES} bytes"), token.len().to_string()));
        }
        if ranks.tokens.contains_key(id)
            || by_token.contains_key(token.as_str())
            || special[..i].iter().any(|(other, taken)| other == token || taken == id)
        {
            return Err(wrong(place(), "a name and an id of its own", id.to_string()));
        }
        if *id as usize >= 2 * MAX_TOKENS {
            return Err(wrong(place(), format!("an id below {}", 2 * MAX_TOKENS), id.to_string()));
        }
    }
    let byte_level =
        |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": use_regex});
    let pre_tokenizer = match cut {
        Cut::Gpt2 => byte_level(true),
        Cut::Pattern(pattern) => {
            let checked = pattern_cost::check(pattern);
            checked.map_err(|fault| wrong("the pattern", "one that is cheap on any text", fault.to_string()))?;
            let split = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": true});
            json!({"type": "Sequence", "pretokenizers": [split, byte_level(false)]})
        }
    };
    // The special tokens too: a reader that finds one there keeps its id, and numbers the others from the first that is free.
    let special_ids = special.iter().map(|(token, id)| (token.clone(), json!(id)));
    let vocab: Map<String, Value> = ranks.tokens.iter().map(|(rank, token)| (token.clone(), json!(rank))).chain(special_ids).collect();
    let added: Vec<Value> = special.iter().map(|(token, id)| added_token(*id, token, true)).collect();
    let parts = json!({
        "added_tokens": added,
        "normalizer": scheme.composes.then(|| json!({"type": "NFC"})),
        "pre_tokenizer": pre_tokenizer,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": true, "vocab": vocab, "merges": merges,
        },
    });
    let named = |name: Option<&str>| name.filter(|name| special.iter().any(|(token, _)| token == name)).map(str::to_owned);
    Imported::new(&parts, &[("bos_token", named(scheme.bos)), ("eos_token", named(scheme.eos)), ("pad_token", named(scheme.pad))])
}

/// The start of a line, for a message.
fn shown(line: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&line[..line.len().min(40)]))
}
