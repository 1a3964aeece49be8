//! Ids as the real libraries give them: `xtask/parity/tokenizer_ids.py` made the files and compared more texts than are here.

use std::sync::Arc;

use codex_tokenize::{HfTokenizer, StreamDecoder, Tokenizer, import_sentencepiece, import_tiktoken, load, save, validate};
use serde_json::Value;

pub(crate) fn golden(path: &str) -> Vec<u8> {
    codex_core::files::read(&std::path::absolute("tests/golden").unwrap().join(path)).unwrap()
}

/// A tokenizer of the golden folder, by the name it has in `ids.json`.
pub(crate) fn tokenizer(name: &str) -> Arc<dyn Tokenizer> {
    let (from, kind) = name.split_once('/').unwrap();
    let imported = match from {
        "hugging_face" => {
            let path = std::path::absolute(format!("tests/golden/{name}.json")).unwrap();
            return load(&path).unwrap();
        }
        "sentencepiece" => import_sentencepiece(&golden(&format!("{name}.model"))).unwrap(),
        _ => import_tiktoken(&golden("tiktoken/small.tiktoken"), kind).unwrap(),
    };
    // Read as a user would: from a folder with both files.
    let dir = tempfile::tempdir().unwrap();
    codex_core::files::write_atomic(&dir.path().join("tokenizer.json"), imported.tokenizer_json.as_bytes()).unwrap();
    codex_core::files::write_atomic(&dir.path().join("tokenizer_config.json"), imported.tokenizer_config.as_bytes()).unwrap();
    load(dir.path()).unwrap()
}

pub(crate) fn names() -> Vec<String> {
    let ids: Value = serde_json::from_slice(&golden("ids.json")).unwrap();
    ids["tokenizers"].as_object().unwrap().keys().cloned().collect()
}

/// 2,000 lines of two novels.
fn lines() -> Vec<String> {
    let mut lines = Vec::new();
    for name in ["train/emma.txt", "validation/persuasion.txt"] {
        let path = std::path::absolute("../../fixtures/corpus").unwrap().join(name);
        let text = codex_core::files::read_to_string(&path).unwrap();
        lines.extend(text.split('\n').filter(|line| !line.is_empty()).take(1000).map(str::to_owned));
    }
    lines
}

/// FNV-1a over the ids of some texts, each ended by a mark, as the script has it.
fn digest(rows: &[Vec<u32>]) -> String {
    let mut state = 0xCBF2_9CE4_8422_2325_u64;
    for number in rows.iter().flat_map(|row| row.iter().copied().chain([u32::MAX])) {
        for byte in number.to_le_bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
        }
    }
    format!("{state:016x}")
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn ids_are_those_of_the_real_libraries() {
    let ids: Value = serde_json::from_slice(&golden("ids.json")).unwrap();
    let lines = lines();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(lines.len(), 2000);
    let mut compared = 0;
    for (name, expected) in ids["tokenizers"].as_object().unwrap() {
        let tokenizer = tokenizer(name);
        let found = tokenizer.encode_batch(&lines).unwrap();
        for (i, (rows, digest_expected)) in found.chunks(100).zip(expected["lines"].as_array().unwrap()).enumerate() {
            assert_eq!(Some(digest(rows).as_str()), digest_expected.as_str(), "{name}: lines from {}", i * 100);
        }
        let special = tokenizer.special_tokens();
        let special: Vec<&str> = special.iter().map(String::as_str).collect();
        for (text, row) in ids["odd"].as_array().unwrap().iter().zip(expected["odd"].as_array().unwrap()) {
            // What differs on purpose is left out.
            if row.is_null() {
                continue;
            }
            let text = text.as_str().unwrap();
            let plain = numbers(&row[0]);
            assert_eq!(tokenizer.encode(text).unwrap(), plain, "{name}: {text:?}");
            if !name.starts_with("sentencepiece") {
                assert_eq!(tokenizer.encode_with_special(text, &special).unwrap(), numbers(&row[1]), "{name}: {text:?}");
            }
            if let Some(decoded) = row[2].as_str() {
                assert_eq!(tokenizer.decode(&plain).unwrap(), decoded, "{name}: {text:?}");
            }
            compared += 1;
        }
    }
    assert!(compared > 21 * 35, "{compared}");
}

#[test]
fn a_stream_joined_is_the_decoded_whole() {
    for name in names() {
        let tokenizer = tokenizer(&name);
        for text in ["It was a fine day; she said:\n\n  \"naïve café 字 🦀🧑‍🚀\"", " a ", "字", "\u{2581}x  y"] {
            let ids = tokenizer.encode(text).unwrap();
            let mut stream = StreamDecoder::new(&*tokenizer);
            let mut joined = String::new();
            for id in &ids {
                let part = stream.push(*id).unwrap();
                assert!(!part.contains('\u{FFFD}') || tokenizer.decode(&ids).unwrap().contains('\u{FFFD}'), "{name}: {part:?}");
                joined.push_str(&part);
            }
            joined.push_str(&stream.finish());
            assert_eq!(joined, tokenizer.decode(&ids).unwrap(), "{name}: {text:?}");
        }
    }
}

#[test]
fn plain_text_yields_no_special_token_but_the_unknown_one() {
    for name in names() {
        let tokenizer = tokenizer(&name);
        let unknown = ["<unk>", "[UNK]"].iter().find_map(|token| tokenizer.token_to_id(token));
        for special in tokenizer.special_tokens() {
            let ids = tokenizer.encode(&format!("a {special} b{special}")).unwrap();
            // CLIP's end of a text is also what it does not know.
            assert!(
                name.ends_with("clip") || !ids.iter().any(|&id| tokenizer.is_special(id) && Some(id) != unknown),
                "{name}: {special}: {ids:?}"
            );
            let id = tokenizer.token_to_id(&special).unwrap();
            assert!(tokenizer.encode_with_special(&format!("a {special} b"), &[&special]).unwrap().contains(&id), "{name}: {special}");
            assert_eq!((tokenizer.token_bytes(id), tokenizer.is_special(id)), (Some(0), true));
        }
        assert!(
            tokenizer
                .encode_with_special("a", &["<nothing>"])
                .unwrap_err()
                .to_string()
                .starts_with("unknown special token `<nothing>`; known: ")
        );
    }
}

#[test]
fn lengths_of_tokens_add_up_to_the_text_behind_its_first_token() {
    let text = "It was a fine day, and naïve café 字 would do; 1234.";
    for name in [
        "sentencepiece/bpe-bytes",
        "sentencepiece/unigram-bytes",
        "hugging_face/llama3",
        "hugging_face/qwen2",
        "hugging_face/gemma",
        "tiktoken/cl100k_base",
    ] {
        let tokenizer = tokenizer(name);
        let ids = tokenizer.encode(text).unwrap();
        let bytes: usize = ids.iter().map(|&id| tokenizer.token_bytes(id).unwrap()).sum();
        // SentencePiece counts the space it puts in front.
        let expected = text.len() + usize::from(name.starts_with("sentencepiece"));
        assert_eq!(bytes, expected, "{name}");
    }
    let bert = tokenizer("hugging_face/bert");
    assert_eq!(bert.token_bytes(bert.token_to_id("##s").unwrap()), Some(1));
    assert_eq!(bert.token_bytes(bert.vocab_size() as u32), None);
}

#[test]
fn a_tokenizer_says_whether_texts_come_back_and_is_saved_as_it_was() {
    for name in names() {
        let tokenizer = tokenizer(&name);
        let house = ["tiktoken/gpt2", "tiktoken/p50k_edit"].contains(&name.as_str());
        assert_eq!(tokenizer.is_lossless(), house, "{name}");
        if house {
            assert!(validate(&*tokenizer, ["a  b\r\n 字🦀"]).unwrap().is_ok());
        }
    }
    let tokenizer = tokenizer("sentencepiece/bpe");
    let dir = tempfile::tempdir().unwrap();
    let manifest = save(&*tokenizer, &codex_tokenize::TokenizerConfig::default(), &[], &dir.path().join("t")).unwrap();
    assert_eq!(manifest.vocab_size, 600);
    assert_eq!(load(&dir.path().join("t")).unwrap().digest(), tokenizer.digest());
}

#[test]
fn the_end_of_a_text_is_what_the_files_beside_say() {
    let imported = import_sentencepiece(&golden("sentencepiece/bpe.model")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| codex_core::files::write_atomic(&dir.path().join(name), text.as_bytes()).unwrap();
    write("tokenizer.json", &imported.tokenizer_json);
    let ends = || load(dir.path()).map(|tokenizer| (tokenizer.end_of_text(), tokenizer.pad()));
    assert_eq!(ends().unwrap(), (2, 2));
    write("generation_config.json", r#"{"eos_token_id": [1, 2], "pad_token_id": 0}"#);
    assert_eq!(ends().unwrap(), (1, 0));
    write("special_tokens_map.json", r#"{"eos_token": {"content": "<sep>"}}"#);
    assert_eq!(ends().unwrap(), (3, 0));
    write("tokenizer_config.json", r#"{"eos_token": "</s>", "bos_token": "<s>"}"#);
    assert_eq!(ends().unwrap(), (2, 0));
    let tokenizer = HfTokenizer::load(dir.path()).unwrap();
    assert_eq!((tokenizer.begin_of_text(), tokenizer.unknown()), (Some(1), Some(0)));
    write("tokenizer_config.json", r#"{"eos_token": "<nothing>"}"#);
    let told = ends().unwrap_err().to_string();
    assert!(told.ends_with("tokenizer_config.json`: `eos_token`: expected a token of the tokenizer, found `<nothing>`"), "{told}");
}

#[test]
fn a_house_tokenizer_takes_its_end_from_the_file_beside_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("t");
    save(&*crate::bpe(), &crate::config(512), &[], &folder).unwrap();
    assert_eq!(load(&folder).unwrap().end_of_text(), 0);
    codex_core::files::write_atomic(&folder.join("tokenizer_config.json"), br#"{"eos_token": "<|pad|>", "pad_token": "<|endoftext|>"}"#)
        .unwrap();
    let tokenizer = load(&folder).unwrap();
    assert_eq!((tokenizer.end_of_text(), tokenizer.pad(), tokenizer.is_lossless()), (1, 0, true));
}
