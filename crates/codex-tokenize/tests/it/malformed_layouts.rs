//! A tokenizer of another layout or format that cannot be used is refused with the place that is wrong, whatever it holds, in bounded time.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use codex_core::{ExitClass, Failure};
use codex_tokenize::{HfTokenizer, Tokenizer, import_sentencepiece, import_tiktoken, import_tiktoken_with};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::golden_ids::golden;

fn file(name: &str) -> Value {
    serde_json::from_slice(&golden(&format!("hugging_face/{name}.json"))).unwrap()
}

/// The message for a golden file after an edit.
fn refused(name: &str, edit: impl FnOnce(&mut Value)) -> String {
    let mut file = file(name);
    edit(&mut file);
    let error = HfTokenizer::from_json(&file.to_string()).unwrap_err();
    assert_eq!(error.exit_class(), ExitClass::Integrity, "{error}");
    assert!(error.hint().is_some());
    error.to_string()
}

fn set(pointer: &'static str, value: Value) -> impl FnOnce(&mut Value) {
    move |file: &mut Value| *file.pointer_mut(pointer).unwrap() = value
}

/// A sequence within a sequence, so often.
fn nested(list: &str, depth: usize) -> Value {
    (0..depth)
        .fold(json!({"type": "Strip", "strip_left": true, "strip_right": true}), |inner, _| json!({"type": "Sequence", list: [inner]}))
}

#[test]
fn each_part_of_a_layout_that_cannot_be_used_is_named() {
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let cases = [
        ("`version`: expected `1.0`, found `2.0`", refused("qwen2", set("/version", json!("2.0")))),
        ("`normalizer.type`: expected the name of a part, found none", refused("qwen2", set("/normalizer", json!({"x": 1})))),
        (
            "`normalizer`: expected a part that the tokenizers library knows, found `Unheard`",
            refused("qwen2", set("/normalizer", json!({"type": "Unheard"}))),
        ),
        ("`normalizer.normalizers`: expected a list, found none", refused("qwen2", set("/normalizer", json!({"type": "Sequence"})))),
        (
            "`normalizer`: expected at most 64 parts, found more",
            refused("qwen2", set("/normalizer", json!({"type": "Sequence", "normalizers": vec![json!({"type": "NFC"}); 65]}))),
        ),
        (
            "`normalizer.pattern`: expected a text of 1 to 1024 bytes, found 0",
            refused("qwen2", set("/normalizer", replace(json!({"String": ""}), "x"))),
        ),
        ("`normalizer.pattern`: expected `String` or `Regex` with a text", refused("qwen2", set("/normalizer", replace(json!({}), "x")))),
        (
            "`normalizer.pattern`: expected a pattern that is cheap on any text, found `(` a pattern that cannot be compiled",
            refused("qwen2", set("/normalizer", replace(json!({"Regex": "("}), "x"))),
        ),
        (
            "`pre_tokenizer.pattern`: expected a pattern that is cheap on any text, found `(?:a+)+(?!a|x|\\0)b`",
            refused(
                "qwen2",
                set(
                    "/pre_tokenizer",
                    json!({"type": "Split", "pattern": {"Regex": "(?:a+)+(?!a|x|\\0)b"}, "behavior": "Isolated", "invert": false}),
                ),
            ),
        ),
        (
            "`normalizer.content`: expected at most 1024 bytes, found 2000",
            refused("qwen2", set("/normalizer", replace(json!({"String": "a"}), &"b".repeat(2000)))),
        ),
        (
            "`normalizer.precompiled_charsmap`: expected a text in base64",
            refused("qwen2", set("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "!"}))),
        ),
        (
            "`normalizer.precompiled_charsmap`: expected a character map, found a step to unit 1 of 1",
            refused("qwen2", set("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAA="}))),
        ),
        (
            "`pre_tokenizer`: expected parts that make at most 64 bytes of one, found 512",
            refused(
                "llama",
                set(
                    "/pre_tokenizer",
                    json!({"type": "Sequence", "pretokenizers": vec![json!({"type": "Metaspace", "replacement": "▁"}); 3]}),
                ),
            ),
        ),
        (
            "`pre_tokenizer.length`: expected at least 1, found 0",
            refused("words", set("/pre_tokenizer", json!({"type": "FixedLength", "length": 0}))),
        ),
        (
            "`decoder.decoders[0].stop`: expected `0`, found 1",
            refused(
                "llama",
                set("/decoder", json!({"type": "Sequence", "decoders": [{"type": "Strip", "content": "x", "start": 0, "stop": 1}]})),
            ),
        ),
        (
            "`decoder.decoders[1]`: expected no `BPEDecoder` after `CTC`",
            refused(
                "llama",
                set(
                    "/decoder",
                    json!({"type": "Sequence", "decoders": [{"type": "CTC", "pad_token": "a", "word_delimiter_token": "b", "cleanup": true}, {"type": "BPEDecoder", "suffix": "c"}]}),
                ),
            ),
        ),
    ];
    all_start(&cases);
}

#[test]
fn each_part_of_a_model_that_cannot_be_used_is_named() {
    let cases = [
        (
            "`model.type`: expected `BPE`, `Unigram`, `WordPiece` or `WordLevel`, found `Guess`",
            refused("qwen2", set("/model/type", json!("Guess"))),
        ),
        ("`model.vocab`: expected a map from token to id, found a list", refused("qwen2", set("/model/vocab", json!([["a", 0.0]])))),
        ("`model.vocab`: expected a list of tokens and scores, found a map", refused("albert", set("/model/vocab", json!({"a": 0})))),
        ("`model.vocab`: expected each id once, found 449 for `zzz` and ", refused("qwen2", insert("zzz", 449))),
        ("`model.vocab`: expected at most 4096 unused ids, found 9546 below 9999", refused("qwen2", insert("zzz", 9999))),
        ("`model.vocab`: expected ids below 2097152, found 4294967295", refused("qwen2", insert("zzz", u32::MAX))),
        (
            "`model.vocab`: expected tokens of at most 512 bytes, found 100000 in ",
            refused("albert", |file| file["model"]["vocab"][9][0] = json!("a".repeat(100_000))),
        ),
        ("`model.unk_id`: expected an id below 450, found 450", refused("albert", set("/model/unk_id", json!(450)))),
        ("`model.unk_token`: expected a token of the vocabulary, found `??`", refused("bert", set("/model/unk_token", json!("??")))),
        (
            "`model.max_input_chars_per_word`: expected at most 256, found 1000000",
            refused("bert", set("/model/max_input_chars_per_word", json!(1_000_000))),
        ),
        (
            "`model.dropout`: expected `null`, as encoding must not be random, found `0.5`",
            refused("llama", set("/model/dropout", json!(0.5))),
        ),
        (
            "`model.merges[0]`: expected tokens of the vocabulary, joined and apart, found `qqq`",
            refused("llama", set("/model/merges/0", json!(["qqq", "a"]))),
        ),
        ("`model.merges[0]`: expected two tokens, found `abc`", refused("llama", set("/model/merges/0", json!("abc")))),
        (
            "`model.merges[0]`: expected a second token that starts with `##`",
            refused("llama", set("/model/continuing_subword_prefix", json!("##"))),
        ),
        (
            "`added_tokens[1].content`: expected each token once, found `<unk>`",
            refused("llama", set("/added_tokens/1/content", json!("<unk>"))),
        ),
        ("`added_tokens[0].content`: expected 1 to 512 bytes, found 0", refused("llama", set("/added_tokens/0/content", json!("")))),
        ("`added_tokens`: expected id 0 for `<unk>`, as in the vocabulary, found 7", refused("llama", set("/added_tokens/0/id", json!(7)))),
        (
            "`added_tokens`: expected a token that ends a text (name it as `eos_token` in `tokenizer_config.json`), found none",
            refused("llama3", set("/added_tokens", json!([]))),
        ),
    ];
    all_start(&cases);
}

fn all_start(cases: &[(&str, String)]) {
    for (expected, found) in cases {
        assert!(found.starts_with(&format!("`tokenizer.json`: {expected}")), "{found}\n{expected}");
    }
}

/// An edit that adds a token.
fn insert(token: &'static str, id: u32) -> impl FnOnce(&mut Value) {
    move |file: &mut Value| drop(file["model"]["vocab"].as_object_mut().unwrap().insert(token.to_owned(), json!(id)))
}

#[test]
fn a_file_that_nests_without_end_is_refused_and_one_that_nests_a_little_is_read() {
    let mut file = file("qwen2");
    file["normalizer"] = nested("normalizers", 20);
    assert!(HfTokenizer::from_json(&file.to_string()).is_ok());
    file["normalizer"] = nested("normalizers", 200);
    let told = HfTokenizer::from_json(&file.to_string()).unwrap_err().to_string();
    assert!(told.contains("recursion limit exceeded"), "{told}");
}

#[test]
fn a_text_that_would_grow_without_bound_is_an_error() {
    let mut file = file("qwen2");
    let grow = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(64)});
    file["normalizer"] = json!({"type": "Sequence", "normalizers": vec![grow; 10]});
    let tokenizer = HfTokenizer::from_json(&file.to_string()).unwrap();
    let error = tokenizer.encode("a").unwrap_err();
    assert!(error.to_string().starts_with("a text of 1 bytes is longer than this tokenizer takes at once"), "{error}");
    assert_eq!((error.exit_class(), error.hint().is_some()), (ExitClass::Data, true));
    assert_eq!(tokenizer.encode("b").unwrap().len(), 1);
    let long = "b".repeat(17 << 20);
    assert!(tokenizer.encode(&long).unwrap_err().to_string().ends_with("takes at once, 16777216"));
}

#[test]
fn settings_for_batches_in_a_file_change_nothing() {
    let mut file = file("bert");
    assert!(!file["truncation"].is_null() && !file["padding"].is_null() && !file["post_processor"].is_null());
    let text = "one two three four five six seven eight nine ten";
    let with = HfTokenizer::from_json(&file.to_string()).unwrap().encode(text).unwrap();
    for key in ["truncation", "padding", "post_processor"] {
        file[key] = Value::Null;
    }
    assert_eq!(HfTokenizer::from_json(&file.to_string()).unwrap().encode(text).unwrap(), with);
    assert!(with.len() > 8);
}

/// A field of a protocol buffer with bytes in it.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut made = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        made.push(length as u8 | 0x80);
        length >>= 7;
    }
    made.push(length as u8);
    made.extend(bytes);
    made
}

/// A piece of a model.
fn piece(text: &str, kind: u8) -> Vec<u8> {
    let mut message = field(1, text.as_bytes());
    message.extend([2 << 3 | 5, 0, 0, 0, 0, 3 << 3, kind]);
    field(1, &message)
}

#[test]
fn a_sentencepiece_model_that_cannot_be_read_is_refused_with_its_place() {
    let unknown = piece("<unk>", 2);
    let model = |parts: &[Vec<u8>]| parts.concat();
    let score = |bytes: [u8; 4]| [field(1, b"x"), vec![2 << 3 | 5], bytes.to_vec()].concat();
    let bad_map = field(3, &field(2, &[4, 0, 0, 0, 0, 0, 0, 0]));
    let cases: [(&str, Vec<u8>); 20] = [
        ("the file: expected pieces, found none", vec![]),
        ("byte 0 of the file: expected a protocol buffer, found a length beyond the end", vec![10, 200, 1, 0]),
        ("byte 0 of the file: expected a protocol buffer, found a length beyond the end", [vec![10], vec![255; 9], vec![1]].concat()),
        ("byte 0 of the file: expected a protocol buffer, found an end within a number", vec![8]),
        ("byte 0 of the file: expected a protocol buffer, found a kind of field that does not exist", b"\x0bnot a model".to_vec()),
        ("field 1 of the file: expected a message, found a number", vec![8, 1]),
        (
            "byte 0 of piece 1: expected a protocol buffer, found a length beyond the end",
            model(&[unknown.clone(), field(1, &[10, 9, b'a'])]),
        ),
        ("piece 1: expected UTF-8, found an invalid byte at 1", model(&[unknown.clone(), field(1, &field(1, b"a\xFF"))])),
        ("the text of piece 1: expected 1 to 512 bytes, found 0", model(&[unknown.clone(), piece("", 1)])),
        ("the text of piece 1: expected 1 to 512 bytes, found 9999", model(&[unknown.clone(), piece(&"a".repeat(9999), 1)])),
        ("the type of piece 1: expected 1 to 6, found 9", model(&[unknown.clone(), piece("a", 9)])),
        ("field 3 of piece 1: expected its own kind, found another", model(&[unknown.clone(), field(1, &field(3, b"a"))])),
        ("piece 2: expected each text once, found that of piece 1, \"a\"", model(&[unknown.clone(), piece("a", 1), piece("a", 1)])),
        ("the pieces: expected one unknown token, found 0", model(&[piece("a", 1)])),
        ("the pieces: expected one unknown token, found 2", model(&[unknown.clone(), piece("b", 2)])),
        ("the score of piece 1: expected a number, found NaN", model(&[unknown.clone(), field(1, &score([0, 0, 0xC0, 0x7F]))])),
        ("the model type: expected 1 (Unigram) or 2 (BPE), found 4 (characters)", model(&[unknown.clone(), field(2, &[3 << 3, 4])])),
        (
            "the trainer's settings: expected a space before its word, found a space behind it",
            model(&[unknown.clone(), field(2, &[0xC0, 1, 1])]),
        ),
        ("the pieces: expected 256 of bytes, as the trainer's settings say, found 0", model(&[unknown.clone(), field(2, &[0x98, 2, 1])])),
        (
            "the normaliser's character map: expected one that leads nowhere outside itself, found a step to unit 1 of 1",
            model(&[unknown, bad_map]),
        ),
    ];
    for (expected, bytes) in cases {
        let error = import_sentencepiece(&bytes).unwrap_err();
        assert_eq!(error.to_string(), format!("not a SentencePiece tokenizer: {expected}"));
        assert_eq!((error.exit_class(), error.hint().is_some()), (ExitClass::Integrity, true));
    }
}

#[test]
fn a_rank_file_that_cannot_be_read_is_refused_with_its_line() {
    let ranks = golden("tiktoken/small.tiktoken");
    let lines = String::from_utf8(ranks).unwrap();
    let with = |line: &str| format!("{lines}{line}\n").into_bytes();
    let cases: [(&str, Vec<u8>); 9] = [
        ("line 701: expected base64, found Invalid symbol 33, offset 0.", with("!!!! 900")),
        ("line 701: expected base64, a space and a rank, found \"YQ==\"", with("YQ==")),
        ("line 701: expected base64, a space and a rank, found \"YQ== 1 2\"", with("YQ== 1 2")),
        ("line 701: expected a rank below 1048576, found \"YQ== -1\"", with("YQ== -1")),
        ("line 701: expected a rank below 1048576, found \"YQ== 99999999999\"", with("YQ== 99999999999")),
        ("line 701: expected each rank once, found 3", with("YWFhYWFhYWFhYWFhYWFhYQ== 3")),
        ("rank 900: expected each token once, found that of rank ", with("YQ== 900")),
        ("line 701: expected a token of 1 to 512 bytes, found 600", with(&format!("{} 900", "YWFh".repeat(200)))),
        ("the file: expected a token for byte ", lines.lines().skip(1).collect::<Vec<_>>().join("\n").into_bytes()),
    ];
    for (expected, bytes) in cases {
        let error = import_tiktoken(&bytes, "cl100k_base").unwrap_err();
        assert!(error.to_string().starts_with(&format!("not a tiktoken tokenizer: {expected}")), "{error}");
        assert_eq!(error.exit_class(), ExitClass::Integrity);
    }
    assert!(
        import_tiktoken(lines.as_bytes(), "cl100k").unwrap_err().to_string().starts_with("unknown tiktoken encoding `cl100k`; known: ")
    );
    let special = |token: &str, id| import_tiktoken_with(lines.as_bytes(), r"\w+|\W", &[(token.to_owned(), id)]);
    assert!(
        special("<s>", 3).unwrap_err().to_string().contains("the special token \"<s>\": expected a name and an id of its own, found 3")
    );
    assert!(special("<s>", u32::MAX).unwrap_err().to_string().contains("expected an id below"));
    assert!(
        import_tiktoken_with(lines.as_bytes(), "(", &[])
            .unwrap_err()
            .to_string()
            .contains("the pattern: expected one that is cheap on any text")
    );
    let made =
        import_tiktoken_with(lines.as_bytes(), r"\p{N}{1,3}+|\p{L}++|.", &[("<s>".to_owned(), 700), ("<|endoftext|>".to_owned(), 701)])
            .unwrap();
    let tokenizer = HfTokenizer::from_json(&made.tokenizer_json).unwrap();
    assert_eq!(tokenizer.decode(&tokenizer.encode_with_special("a1234<s>", &["<s>"]).unwrap()).unwrap(), "a1234<s>");
    assert_eq!((tokenizer.end_of_text(), tokenizer.token_to_id("<s>")), (701, Some(700)));
}

#[test]
fn ranks_that_take_long_to_put_together_are_refused() {
    // 256 bytes, then every run of one letter: each is put together from all of the shorter ones.
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    for letter in 0..60_u8 {
        tokens.extend((2..=500).map(|length| vec![letter; length]));
    }
    let lines = |tokens: &[Vec<u8>]| {
        let lines = tokens.iter().zip(0..).map(|(token, rank)| format!("{} {rank}", STANDARD.encode(token)));
        lines.collect::<Vec<_>>().join("\n")
    };
    let error = import_tiktoken(lines(&tokens).as_bytes(), "gpt2").unwrap_err();
    assert!(error.to_string().contains("expected tokens that are put together in bounded time"), "{error}");
    // In this order nothing is joined in any, and one look at each is enough.
    tokens.reverse();
    assert!(import_tiktoken(lines(&tokens).as_bytes(), "gpt2").is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_imported_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(import_sentencepiece(&bytes).is_err());
        prop_assert!(import_tiktoken(&bytes, "gpt2").is_err());
    }

    #[test]
    fn a_model_with_bytes_changed_is_imported_and_used_or_refused(
        which in 0_usize..4,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let name = ["bpe", "bpe-bytes", "unigram", "unigram-bytes"][which];
        let mut bytes = golden(&format!("sentencepiece/{name}.model"));
        for (place, byte) in edits {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(imported) = import_sentencepiece(&bytes)
            && let Ok(tokenizer) = HfTokenizer::from_json(&imported.tokenizer_json)
        {
            let ids = tokenizer.encode("Emma Woodhouse, 字🦀ﬁ\u{a0}\n\n </s>");
            prop_assert!(ids.is_err() || tokenizer.decode(&ids.unwrap()).is_ok());
        }
    }

    #[test]
    fn a_layout_with_bytes_changed_is_used_or_refused(
        which in 0_usize..10,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 32_u8..127), 1..4),
    ) {
        let name = ["albert", "bert", "clip", "gemma", "llama", "llama3", "qwen2", "roberta", "smollm", "words"][which];
        let mut bytes = golden(&format!("hugging_face/{name}.json"));
        // The parts stand before the vocabulary, and are where most can go wrong.
        let parts = bytes.windows(8).position(|window| window == b"\"vocab\":").unwrap();
        for (place, byte) in edits {
            let at = place.index(parts);
            bytes[at] = byte;
        }
        if let Ok(tokenizer) = HfTokenizer::from_json(&String::from_utf8_lossy(&bytes)) {
            let ids = tokenizer.encode("Emma Woodhouse, 字🦀ﬁ\u{a0}\n\n </s>");
            prop_assert!(ids.is_err() || tokenizer.decode(&ids.unwrap()).is_ok());
        }
    }
}
