//! The tokenizer programme: many texts, every character and every byte come back, streams never give half a character, and no file makes a panic.

use codex_core::Stream;
use codex_tokenize::{BpeTokenizer, StreamDecoder, Tokenizer, from_json, train};
use serde_json::{Value, json};

use crate::{bpe, bytes, config, excerpt};

/// A text of up to 40 characters of all kinds, decided by the seed and its number.
fn text(stream: &mut Stream) -> String {
    let kinds: [&[(u32, u32)]; 5] = [
        &[(0x20, 0x7E)],
        &[(0, 0x2FF)],
        &[(0x20, 0x20), (0x61, 0x63), (0x0A, 0x0D), (0x27, 0x27)],
        &[(0x300, 0xD7FF), (0xE000, 0xFFFF)],
        &[(0, 0xD7FF), (0xE000, 0x10_FFFF)],
    ];
    let ranges = kinds[stream.below(kinds.len() as u64) as usize];
    let length = stream.below(41);
    let character = |stream: &mut Stream| {
        let (first, last) = ranges[stream.below(ranges.len() as u64) as usize];
        char::from_u32(first + stream.below(u64::from(last - first) + 1) as u32).unwrap()
    };
    (0..length).map(|_| character(stream)).collect()
}

fn comes_back(tokenizer: &dyn Tokenizer, text: &str) {
    let ids = tokenizer.encode(text).unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    let mut decoder = StreamDecoder::new(tokenizer);
    let mut streamed = String::new();
    for id in ids {
        let part = decoder.push(id).unwrap();
        assert!(!part.contains(char::REPLACEMENT_CHARACTER) || text.contains(char::REPLACEMENT_CHARACTER), "{text:?}");
        streamed.push_str(&part);
    }
    streamed.push_str(&decoder.finish());
    assert_eq!(streamed, text);
}

fn sample(n: u64) {
    let tokenizers = [bpe(), bytes()];
    let mut stream = Stream::new(7, "tokenizer programme", 0);
    for i in 0..n {
        comes_back(&*tokenizers[(i % 2) as usize], &text(&mut stream));
    }
}

#[test]
fn a_million_texts_come_back() {
    sample(1_000_000);
}

#[test]
fn every_character_comes_back() {
    let all: Vec<char> = ('\0'..=char::MAX).collect();
    for tokenizer in [bpe(), bytes()] {
        for some in all.chunks(1 << 14) {
            let text: String = some.iter().collect();
            assert!(tokenizer.decode(&tokenizer.encode(&text).unwrap()).unwrap() == text);
        }
        for &c in all.iter().step_by(7) {
            let text = c.to_string();
            assert_eq!(tokenizer.decode(&tokenizer.encode(&text).unwrap()).unwrap(), text);
        }
    }
}

#[test]
fn every_byte_has_an_id_that_gives_it_back() {
    for tokenizer in [bpe(), bytes()] {
        let mut found: Vec<u8> = Vec::new();
        for id in (0..tokenizer.vocab_size() as u32).filter(|&id| tokenizer.token_bytes(id) == Some(1)) {
            found.extend(tokenizer.decode_bytes(&[id]).unwrap());
        }
        found.sort_unstable();
        assert_eq!(found, (0..=255).collect::<Vec<u8>>());
    }
}

/// Where each value of a file is, without the vocabulary's many.
fn places(value: &Value, at: &str, places: &mut Vec<String>) {
    places.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().take(12).for_each(|(key, value)| {
            self::places(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), places);
        }),
        Value::Array(list) => list.iter().take(3).enumerate().for_each(|(i, value)| self::places(value, &format!("{at}/{i}"), places)),
        _ => {}
    }
}

#[test]
fn a_file_with_any_value_replaced_is_read_or_refused() {
    let small = train(&config(270), std::iter::once(excerpt().as_str()), &mut |_| ()).unwrap();
    let file: Value = serde_json::from_str(small.to_json()).unwrap();
    let mut all = Vec::new();
    places(&file, "", &mut all);
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(4_294_967_295_u64),
        json!(1e300),
        json!(""),
        json!("字"),
        json!([]),
        json!({}),
        json!([["a", 1]]),
    ];
    let (mut refused, mut read) = (0, 0);
    for place in &all {
        for value in &values {
            let mut changed = file.clone();
            *changed.pointer_mut(place).unwrap() = value.clone();
            let text = changed.to_string();
            match (BpeTokenizer::from_json(&text), from_json(&text)) {
                (Ok(tokenizer), _) => {
                    comes_back(&tokenizer, "Emma's  été 字\n");
                    read += 1;
                }
                (Err(error), other) => {
                    assert!(!error.to_string().is_empty());
                    if let Ok(other) = other {
                        drop(other.encode("Emma's  été 字\n"));
                    }
                    refused += 1;
                }
            }
        }
    }
    assert!(all.len() > 40 && refused > 200 && read > 20, "{} places, {refused} refused, {read} read", all.len());
}
