//! A tokenizer file that cannot be used is refused with the key that is wrong, whatever it holds; one in the GPT-2 layout is read.

use codex_core::{ExitClass, Failure};
use codex_tokenize::{BpeTokenizer, ByteTokenizer, TokenizeError, Tokenizer, load};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::bpe;

fn file() -> Value {
    serde_json::from_str(bpe().to_json()).unwrap()
}

/// The message for the file after this edit.
fn refused(edit: impl FnOnce(&mut Value)) -> String {
    let mut file = file();
    edit(&mut file);
    let error = BpeTokenizer::from_json(&file.to_string()).unwrap_err();
    assert_eq!(error.exit_class(), ExitClass::Integrity, "{error}");
    assert!(error.hint().is_some());
    error.to_string()
}

#[test]
fn each_part_that_cannot_be_used_is_named() {
    let set = |pointer: &'static str, value: Value| move |file: &mut Value| *file.pointer_mut(pointer).unwrap() = value;
    let cases: [(&str, String); 24] = [
        ("`version`: expected `1.0`, found `2.0`", refused(set("/version", json!("2.0")))),
        ("`normalizer`: expected `null`, found `NFKC`", refused(set("/normalizer", json!({"type": "NFKC"})))),
        ("`pre_tokenizer`: expected `ByteLevel`, found `Whitespace`", refused(set("/pre_tokenizer", json!({"type": "Whitespace"})))),
        ("`pre_tokenizer`: expected `ByteLevel`, found none", refused(set("/pre_tokenizer", json!(null)))),
        ("`pre_tokenizer.add_prefix_space`: expected `false`, found `true`", refused(set("/pre_tokenizer/add_prefix_space", json!(true)))),
        ("`pre_tokenizer.use_regex`: expected `true`, found `false`", refused(set("/pre_tokenizer/use_regex", json!(false)))),
        ("`pre_tokenizer.use_regex`: expected `true`, found another type", refused(set("/pre_tokenizer/use_regex", json!("x")))),
        ("`post_processor`: expected `null`, `ByteLevel`", refused(set("/post_processor", json!({"type": "BertProcessing"})))),
        ("`decoder`: expected `ByteLevel`, found none", refused(set("/decoder", json!(null)))),
        ("`model.type`: expected `BPE`, found `WordPiece`", refused(set("/model/type", json!("WordPiece")))),
        ("`model.type`: expected `BPE`, found `Unigram`", refused(set("/model", json!({"type": "Unigram", "vocab": [["a", -1.0]]})))),
        ("`model.dropout`: expected `null`", refused(set("/model/dropout", json!(0.1)))),
        ("`model.end_of_word_suffix`: expected `null`, found `</w>`", refused(set("/model/end_of_word_suffix", json!("</w>")))),
        ("`model.byte_fallback`: expected `false`", refused(set("/model/byte_fallback", json!(true)))),
        ("`model.vocab`: expected id 512 next, as ids have no gap, found 900", refused(set("/model/vocab", with_token("ĠĠĠĠĠ", 900)))),
        ("`model.vocab`: expected each id once, found 300", refused(set("/model/vocab", with_token("ĠĠĠĠĠ", 300)))),
        ("`model.vocab`: expected tokens of the byte alphabet, found `字`", refused(set("/model/vocab", with_token("字", 512)))),
        ("`model.vocab`: expected tokens of the byte alphabet, found ``", refused(set("/model/vocab", with_token("", 512)))),
        ("`model.vocab`: expected a token for byte 0 (`Ā`), found none", refused(swap_byte)),
        ("`model.merges[0]`: expected two tokens, found `ab`", refused(set("/model/merges", json!(["ab"])))),
        (
            "`model.merges[0]`: expected plain tokens of the vocabulary, joined and apart, found `qqq`",
            refused(set("/model/merges", json!(["qqq a"]))),
        ),
        (
            "`model.merges[0]`: expected plain tokens of the vocabulary, joined and apart, found `zq`",
            refused(set("/model/merges", json!([["z", "q"]]))),
        ),
        ("`model.merges[1]`: expected each pair once", refused(set("/model/merges", json!([["h", "e"], ["h", "e"]])))),
        ("`model.merges`: expected a list of merges, found none", refused(|f| drop(f["model"].as_object_mut().unwrap().remove("merges")))),
    ];
    for (expected, found) in cases {
        assert!(found.starts_with(&format!("`tokenizer.json`: {expected}")), "{found}\n{expected}");
    }
}

#[test]
fn special_tokens_that_would_change_text_are_refused() {
    let first = |key: &'static str, value: Value| move |file: &mut Value| file["added_tokens"][0][key] = value;
    for (expected, found) in [
        ("`added_tokens[0].special`: expected `true`", refused(first("special", json!(false)))),
        ("`added_tokens[0].lstrip`: expected `false`, found `true`", refused(first("lstrip", json!(true)))),
        ("`added_tokens[0].rstrip`: expected `false`, found `true`", refused(first("rstrip", json!(true)))),
        ("`added_tokens[0].single_word`: expected `false`, found `true`", refused(first("single_word", json!(true)))),
        ("`added_tokens[0].content`: expected some text, found none", refused(first("content", json!("")))),
        ("`added_tokens[1].content`: expected each token once, found `<|pad|>`", refused(first("content", json!("<|pad|>")))),
        ("`added_tokens`: expected id 0 for `<|endoftext|>`, as in the vocabulary, found 7", refused(first("id", json!(7)))),
        ("`added_tokens`: expected at least one special token", refused(|file| file["added_tokens"] = json!([]))),
        // A merge spells it: plain text would yield the special id.
        ("`model.merges[0]`: expected plain tokens of the vocabulary, joined and apart, found ", refused(make_first_merge_special)),
    ] {
        assert!(found.starts_with(&format!("`tokenizer.json`: {expected}")), "{found}");
    }
}

#[test]
fn what_is_not_the_json_of_a_tokenizer_is_refused_with_its_place() {
    let json = bpe().to_json().to_owned();
    let twice = json.replacen("\"!\": 2,", "\"!\": 2, \"!\": 2,", 1);
    assert_ne!(twice, json);
    assert!(BpeTokenizer::from_json(&twice).unwrap_err().to_string().contains("`model.vocab`: expected each token once, found `!`"));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let negative = json.replacen("\"!\": 2,", "\"!\": -2,", 1);
    let huge = json.replacen("\"!\": 2,", "\"!\": 99999999999,", 1);
    let cut = json[..json.len() / 2].to_owned();
    let version_twice = json.replacen("\"version\"", "\"version\": \"1.0\", \"version\"", 1);
    for text in
        ["", "[]", "{}", "null", "\u{0}", "{\"model\": 3}", "{\"model\": {\"vocab\": 3}}", &deep, &negative, &huge, &cut, &version_twice]
    {
        let error = BpeTokenizer::from_json(text).unwrap_err();
        assert!(matches!(error, TokenizeError::Json { .. }), "{error}");
        assert!(ByteTokenizer::from_json(text).is_err());
        assert_eq!(error.exit_class(), ExitClass::Integrity);
    }
}

#[test]
fn a_file_that_is_not_text_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    codex_core::files::write_atomic(&path, b"{\"a\": \"\xFF\"}").unwrap();
    let error = load(&path).unwrap_err();
    assert!(error.to_string().ends_with("`the file`: expected UTF-8, found an invalid byte at 7"), "{error}");
}

#[test]
fn the_layout_of_gpt2_is_read() {
    // As GPT-2's file has it: the special token last and in the vocabulary, merges as lines, empty affixes, offsets trimmed afterwards.
    let mut file = file();
    let vocab = file["model"]["vocab"].as_object().unwrap();
    let mut moved: serde_json::Map<String, Value> = vocab
        .iter()
        .filter(|(token, _)| !token.starts_with("<|"))
        .map(|(token, id)| (token.clone(), json!(id.as_u64().unwrap() - 2)))
        .collect();
    moved.insert("<|endoftext|>".to_owned(), json!(510));
    file["model"]["vocab"] = Value::Object(moved);
    file["model"]["unk_token"] = json!("<|endoftext|>");
    file["model"]["continuing_subword_prefix"] = json!("");
    file["model"]["end_of_word_suffix"] = json!("");
    for merge in file["model"]["merges"].as_array_mut().unwrap() {
        *merge = json!(format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()));
    }
    file["added_tokens"] = json!([{"id": 510, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": true}]);
    file["post_processor"] = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false});
    let tokenizer = BpeTokenizer::from_json(&file.to_string()).unwrap();
    assert_eq!((tokenizer.end_of_text(), tokenizer.pad(), tokenizer.vocab_size()), (510, 510, 511));
    let text = "Emma's <|endoftext|> 字";
    let ours: Vec<u32> = bpe().encode(text).unwrap().into_iter().map(|id| id - 2).collect();
    assert_eq!(tokenizer.encode(text).unwrap(), ours);
    assert_eq!(tokenizer.decode(&ours).unwrap(), text);
}

#[test]
fn special_tokens_may_stand_outside_the_models_vocabulary_and_words_may_be_taken_whole() {
    let mut file = file();
    let vocab = file["model"]["vocab"].as_object_mut().unwrap();
    vocab.remove("<|endoftext|>");
    vocab.remove("<|pad|>");
    vocab.insert("<|pad".to_owned(), json!(512));
    vocab.insert("PAD".to_owned(), json!(513));
    file["added_tokens"].as_array_mut().unwrap().push(json!({"id": 513, "content": "PAD", "special": true}));
    file["model"]["ignore_merges"] = json!(true);
    file["model"]["merges"] = json!([]);
    let tokenizer = BpeTokenizer::from_json(&file.to_string()).unwrap();
    assert_eq!((tokenizer.end_of_text(), tokenizer.pad(), tokenizer.vocab_size()), (0, 1, 514));
    // A word that spells a special token is not taken whole.
    assert_eq!(tokenizer.encode("PAD").unwrap(), ["P", "A", "D"].map(|letter| tokenizer.token_to_id(letter).unwrap()));
    assert_eq!(tokenizer.encode_with_special("PAD", &["PAD"]).unwrap(), [513]);
    // Without merges only whole words are tokens.
    let word = (258..512).filter_map(|id| tokenizer.id_to_token(id)).find(|token| token.chars().all(|c| c.is_ascii_alphabetic())).unwrap();
    assert_eq!(tokenizer.encode(&word).unwrap(), [tokenizer.token_to_id(&word).unwrap()]);
    assert_eq!(tokenizer.decode(&tokenizer.encode("<|endoftext|>").unwrap()).unwrap(), "<|endoftext|>");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        prop_assert!(BpeTokenizer::from_json(&text).is_err());
    }

    #[test]
    fn a_file_with_bytes_changed_is_read_or_refused(edits in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..128), 1..4)) {
        let mut bytes = bpe().to_json().as_bytes().to_vec();
        for (place, byte) in edits {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Ok(tokenizer) = BpeTokenizer::from_json(&text) {
            let sample = "Emma Woodhouse, 字🦀\n\n <|endoftext|>";
            prop_assert_eq!(tokenizer.decode(&tokenizer.encode(sample).unwrap()).unwrap(), sample);
        }
    }
}

fn with_token(token: &str, id: u32) -> Value {
    let mut vocab = file()["model"]["vocab"].clone();
    vocab[token] = json!(id);
    vocab
}

/// Byte 0 loses its token to another.
fn swap_byte(file: &mut Value) {
    let vocab = file["model"]["vocab"].as_object_mut().unwrap();
    let id = vocab.remove("Ā").unwrap();
    vocab.insert("ĠĠĠĠĠĠ".to_owned(), id);
}

/// The first merge's result is declared special.
fn make_first_merge_special(file: &mut Value) {
    let merge = &file["model"]["merges"][0];
    let content = format!("{}{}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap());
    let id = file["model"]["vocab"][&content].clone();
    file["added_tokens"].as_array_mut().unwrap().push(json!({"id": id, "content": content, "special": true}));
}
