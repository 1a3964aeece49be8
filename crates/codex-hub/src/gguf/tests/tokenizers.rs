//! What becomes of a `tokenizer.json`, and which layouts are refused.

use serde_json::{Value, json};

use crate::error::HubError;
use crate::gguf::tokenizer::{SpecialIds, Vocabulary, vocabulary};
use crate::gguf::value::GgufValue;

const GIVEN: SpecialIds = SpecialIds { bos: None, eos: Some(258), pad: None };

/// The characters that stand for bytes, in the order of the bytes.
fn alphabet() -> Vec<String> {
    let mut next = 256;
    let own = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let of = |byte: u32| {
        let code = if own(byte) { byte } else { next };
        next += u32::from(!own(byte));
        char::from_u32(code).unwrap().to_string()
    };
    (0..256).map(of).collect()
}

/// A file of 260 ids: the bytes, two merges, one special and one other added token.
pub(super) fn byte_level() -> Value {
    let mut vocab: serde_json::Map<String, Value> = alphabet().into_iter().zip(0..).map(|(text, id)| (text, json!(id))).collect();
    vocab.insert("he".to_owned(), json!(256));
    vocab.insert("Ġt".to_owned(), json!(257));
    json!({
        "version": "1.0",
        "added_tokens": [
            {"id": 258, "content": "<|endoftext|>", "special": true},
            {"id": 259, "content": "<tool>", "special": false},
        ],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "merges": ["h e", ["Ġ", "t"]], "vocab": vocab},
    })
}

/// A file in the layout of Llama 2: 3 special tokens, the bytes, and six pieces.
fn pieces() -> Value {
    let mut vocab: serde_json::Map<String, Value> = (0..256).map(|byte| (format!("<0x{byte:02X}>"), json!(3 + byte))).collect();
    for (text, id) in [("<unk>", 0), ("<s>", 1), ("</s>", 2), ("▁", 259), ("a", 260), ("b", 261), ("ab", 262), ("▁a", 263), ("▁ab", 264)]
    {
        vocab.insert(text.to_owned(), json!(id));
    }
    let added = ["<unk>", "<s>", "</s>"];
    let added: Vec<Value> = (0..).zip(added).map(|(id, text): (u32, _)| json!({"id": id, "content": text, "special": true})).collect();
    json!({
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "model": {
            "type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "vocab": vocab,
            "merges": ["a b", "▁ a", "▁ ab", "▁a b"],
        },
    })
}

fn unigram() -> Value {
    let mut list: Vec<Value> = vec![json!(["<unk>", 0.0]), json!(["<s>", 0.0]), json!(["</s>", 0.0])];
    list.extend((0..256).map(|byte| json!([format!("<0x{byte:02X}>"), 0.0])));
    list.extend([json!(["▁", -2.0]), json!(["a", -3.5]), json!(["▁a", -1.25])]);
    json!({
        "added_tokens": [{"id": 1, "content": "<s>", "special": true}, {"id": 2, "content": "</s>", "special": true}],
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": true},
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": true, "vocab": list},
    })
}

/// The value at a path of keys, to be changed.
fn part<'a>(value: &'a mut Value, pointer: &str) -> &'a mut Value {
    value.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}"))
}

fn changed(mut value: Value, pointer: &str, to: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match part(&mut value, parent) {
        Value::Object(map) => drop(map.insert(key.to_owned(), to)),
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = to,
        other => panic!("{other}"),
    }
    value
}

fn made(value: &Value, rows: usize, given: SpecialIds) -> Result<Vocabulary, HubError> {
    vocabulary(Some(&value.to_string()), rows, given, None)
}

fn get<'a>(vocabulary: &'a Vocabulary, key: &str) -> Option<&'a GgufValue> {
    vocabulary.keys.iter().find(|(name, _)| name.strip_prefix("tokenizer.") == Some(key)).map(|(_, value)| value)
}

fn texts<'a>(vocabulary: &'a Vocabulary, key: &str) -> &'a [String] {
    match get(vocabulary, key) {
        Some(GgufValue::Texts(texts)) => texts,
        other => panic!("{key}: {other:?}"),
    }
}

fn numbers(vocabulary: &Vocabulary, key: &str) -> Vec<i32> {
    match get(vocabulary, key) {
        Some(GgufValue::Numbers { bytes, .. }) => bytes.chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect(),
        other => panic!("{key}: {other:?}"),
    }
}

#[test]
fn byte_level_bpe_is_gpt2_with_merges() {
    let found = made(&byte_level(), 262, GIVEN).unwrap();
    assert_eq!((get(&found, "ggml.model"), found.pre), (Some(&GgufValue::text("gpt2")), Some("gpt-2")));
    assert_eq!(get(&found, "ggml.pre"), Some(&GgufValue::text("gpt-2")));
    let tokens = texts(&found, "ggml.tokens");
    assert_eq!(tokens.len(), 262);
    assert_eq!((&tokens[32][..], &tokens[104][..], &tokens[257][..]), ("Ġ", "h", "Ġt"));
    assert_eq!(tokens[258..], ["<|endoftext|>", "<tool>", "[PAD260]", "[PAD261]"]);
    let kinds = numbers(&found, "ggml.token_type");
    assert!(kinds[..258].iter().all(|&kind| kind == 1));
    assert_eq!(kinds[258..], [3, 4, 5, 5]);
    assert_eq!(texts(&found, "ggml.merges"), ["h e", "Ġ t"]);
    assert_eq!(get(&found, "ggml.eos_token_id"), Some(&GgufValue::U32(258)));
    assert!(get(&found, "ggml.bos_token_id").is_none() && get(&found, "ggml.scores").is_none());
    assert_eq!(get(&found, "ggml.add_bos_token"), Some(&GgufValue::Bool(false)));
    assert!(found.notes.is_empty(), "{:?}", found.notes);
}

#[test]
fn the_name_of_the_pattern_is_found_or_its_absence_told() {
    let llama = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let qwen = llama.replace("{1,3}", "");
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false});
    let split = |pattern: &str, behavior: &str, invert: bool| {
        let split = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert});
        json!({"type": "Sequence", "pretokenizers": [split, bytes]})
    };
    let digits = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": true}, {"type": "ByteLevel", "add_prefix_space": false},
    ]});
    let cases = [
        (split(llama, "Isolated", false), "llama-bpe"),
        (split(llama, "Removed", true), "llama-bpe"),
        (split(&qwen, "Isolated", false), "qwen2"),
        (digits, "smollm"),
        (split(llama, "Removed", false), "default"),
        (split(r"\w+", "Isolated", false), "default"),
        (bytes.clone(), "default"),
    ];
    for (pre_tokenizer, name) in cases {
        let found = made(&changed(byte_level(), "/pre_tokenizer", pre_tokenizer), 260, GIVEN).unwrap();
        assert_eq!((found.pre, get(&found, "ggml.pre")), (Some(name), Some(&GgufValue::text(name))));
        assert_eq!(found.notes.iter().any(|note| note.contains("no name for the pattern")), name == "default");
        assert_eq!(found.notes.iter().any(|note| note.contains("taken whole")), name == "llama-bpe", "{:?}", found.notes);
    }
    let composed = made(&changed(byte_level(), "/normalizer", json!({"type": "NFC"})), 260, GIVEN).unwrap();
    assert!(composed.notes[0].contains("NFC"));
}

#[test]
fn pieces_have_the_order_of_their_merges_as_scores() {
    let found = made(&pieces(), 266, SpecialIds { bos: Some(1), eos: Some(2), pad: Some(0) }).unwrap();
    assert_eq!((get(&found, "ggml.model"), found.pre), (Some(&GgufValue::text("llama")), Some("default")));
    assert_eq!(texts(&found, "ggml.tokens")[257..], ["<0xFE>", "<0xFF>", "▁", "a", "b", "ab", "▁a", "▁ab", "[PAD265]"]);
    let scores: Vec<f32> = numbers(&found, "ggml.scores").into_iter().map(|bits| f32::from_bits(bits.cast_unsigned())).collect();
    assert_eq!(scores[..4], [0.0; 4]);
    assert_eq!(scores[259..], [-262.0, -263.0, -264.0, 0.0, -1.0, -2.0, -10_000.0]);
    let kinds = numbers(&found, "ggml.token_type");
    assert_eq!((&kinds[..4], &kinds[258..]), (&[2, 3, 3, 6][..], &[6, 1, 1, 1, 1, 1, 1, 5][..]));
    let is = |key: &str, value: GgufValue| assert_eq!(get(&found, key), Some(&value), "{key}");
    is("ggml.add_bos_token", GgufValue::Bool(true));
    is("ggml.add_eos_token", GgufValue::Bool(false));
    is("ggml.add_space_prefix", GgufValue::Bool(true));
    is("ggml.unknown_token_id", GgufValue::U32(0));
    is("ggml.padding_token_id", GgufValue::U32(0));
    assert!(get(&found, "ggml.merges").is_none() && found.notes.is_empty());
}

#[test]
fn pieces_with_scores_keep_them_and_the_difference_is_told() {
    let found = made(&unigram(), 262, SpecialIds::default()).unwrap();
    let scores: Vec<f32> = numbers(&found, "ggml.scores").into_iter().map(|bits| f32::from_bits(bits.cast_unsigned())).collect();
    assert_eq!(scores[259..], [-2.0, -3.5, -1.25]);
    assert_eq!(numbers(&found, "ggml.token_type")[..3], [2, 3, 3]);
    assert_eq!(get(&found, "ggml.model"), Some(&GgufValue::text("t5")));
    assert_eq!(get(&found, "ggml.add_space_prefix"), Some(&GgufValue::Bool(false)));
    assert_eq!(get(&found, "ggml.remove_extra_whitespaces"), Some(&GgufValue::Bool(false)));
    assert!(found.notes[0].contains("one unknown token"));
    let strict = changed(unigram(), "/model/byte_fallback", json!(false));
    assert!(made(&strict, 262, SpecialIds::default()).unwrap().notes.is_empty());
}

#[test]
fn without_a_tokenizer_the_ids_are_there() {
    let found = vocabulary(None, 10, SpecialIds { bos: Some(9), eos: None, pad: Some(3) }, Some("{{ x }}")).unwrap();
    assert_eq!(get(&found, "ggml.model"), Some(&GgufValue::text("none")));
    assert_eq!(get(&found, "ggml.bos_token_id"), Some(&GgufValue::U32(9)));
    assert_eq!(get(&found, "ggml.padding_token_id"), Some(&GgufValue::U32(3)));
    assert_eq!(get(&found, "chat_template"), Some(&GgufValue::text("{{ x }}")));
    assert!(found.pre.is_none() && found.keys.len() == 4);
    let error = vocabulary(None, 10, SpecialIds { bos: Some(10), ..SpecialIds::default() }, None).unwrap_err();
    assert!(error.to_string().contains("the id 10, and the embedding has 10 rows"));
}

#[test]
fn a_filled_row_has_a_name_of_its_own() {
    let mut file = byte_level();
    part(&mut file, "/added_tokens/1")["content"] = json!("[PAD260]");
    assert_eq!(texts(&made(&file, 261, GIVEN).unwrap(), "ggml.tokens")[259..], ["[PAD260]", "[PAD260]_"]);
}

#[test]
fn a_token_around_a_text_must_be_the_one_that_is_named() {
    let template = part(&mut pieces(), "/post_processor").clone();
    let other = SpecialIds { bos: Some(2), ..SpecialIds::default() };
    assert!(made(&pieces(), 266, other).unwrap_err().to_string().contains("lets token 1 begin a text, and the model names token 2"));
    let unnamed = made(&pieces(), 266, SpecialIds::default()).unwrap();
    assert_eq!(get(&unnamed, "ggml.bos_token_id"), Some(&GgufValue::U32(1)));
    let mut both = template;
    both["single"].as_array_mut().unwrap().push(json!({"SpecialToken": {"id": "<s>", "type_id": 0}}));
    let both = changed(pieces(), "/post_processor", json!({"type": "Sequence", "processors": [{"type": "ByteLevel"}, both]}));
    let found = made(&both, 266, SpecialIds::default()).unwrap();
    assert_eq!(get(&found, "ggml.add_eos_token"), Some(&GgufValue::Bool(true)));
}

#[test]
fn a_layout_that_cannot_be_held_is_told() {
    let byte = |pointer: &str, to: Value| changed(byte_level(), pointer, to);
    let piece = |pointer: &str, to: Value| changed(pieces(), pointer, to);
    let metaspace = |split: bool| json!({"type": "Metaspace", "replacement": "▁", "split": split});
    let mut across = piece("/pre_tokenizer", metaspace(true));
    part(&mut across, "/model/vocab")["a▁a"] = json!(265);
    let cases = [
        (byte("/model/type", json!("WordPiece")), "its model is `WordPiece`"),
        (byte("/normalizer", json!({"type": "Lowercase"})), "its normalizer is `Lowercase`"),
        (byte("/pre_tokenizer/add_prefix_space", json!(true)), "add_prefix_space"),
        (byte("/pre_tokenizer", json!({"type": "Whitespace"})), "its pre-tokenizer is `Whitespace`"),
        (byte("/pre_tokenizer", Value::Null), "neither byte-level nor"),
        (byte("/model/continuing_subword_prefix", json!("##")), "`model.continuing_subword_prefix` is set"),
        (byte("/model/dropout", json!(0.1)), "`model.dropout` is set"),
        (byte("/model/vocab/he", json!(-1)), "`model.vocab.he`: expected an id"),
        (byte("/model/vocab/he", json!(0)), "have the id 0"),
        (byte("/model/vocab/he", json!(9000)), "a token of id 9000, and the embedding has 260 rows"),
        (byte("/model/vocab/h€", json!(256)), "characters that stand for bytes"),
        (byte("/model/merges/0", json!("h x y")), "which is not in its vocabulary"),
        (byte("/model/merges/0", json!(["h"])), "`model.merges.0`: expected two tokens"),
        (byte("/model/merges/0", json!("t h")), "its merges name \"th\", which is not in its vocabulary"),
        (byte("/added_tokens/1/content", json!("he")), "two of its ids have the token \"he\""),
        (byte("/added_tokens/1/id", json!("x")), "`added_tokens.1`"),
        (byte("/post_processor", json!({"type": "RobertaProcessing"})), "its post-processor is `RobertaProcessing`"),
        (byte("/model", json!(3)), "`model`: expected an object"),
        (piece("/normalizer", json!({"type": "Precompiled"})), "its normalizer `Precompiled` does more"),
        (piece("/normalizer", json!({"type": "Prepend", "prepend": "_"})), "its normalizer `Prepend` does more"),
        (piece("/normalizer", Value::Null), "neither byte-level nor"),
        (piece("/model/byte_fallback", json!(false)), "256 of 256 are there, `byte_fallback` is false"),
        (piece("/model/merges", json!(["a b", "▁ a", "▁a b"])), "\"▁\" and \"ab\" make a piece"),
        (piece("/model/merges", json!(["▁ ab", "a b", "▁a b", "▁ a"])), "merges that make \"▁ab\" are not one behind the other"),
        (across, "pieces with a space inside"),
        (changed(unigram(), "/model/unk_id", json!(262)), "`model.unk_id`: expected the id of a piece"),
        (changed(unigram(), "/model/vocab/3/1", json!("x")), "`model.vocab.3`: expected a piece and its score"),
    ];
    for (file, reason) in cases {
        let error =
            made(&file, 260.max(if file["model"]["byte_fallback"].is_null() { 0 } else { 266 }), SpecialIds::default()).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}\nexpected: {reason}");
    }
    let error = vocabulary(Some("{"), 10, SpecialIds::default(), None).unwrap_err();
    assert!(matches!(error, HubError::Json { .. }));
    made(&piece("/pre_tokenizer", metaspace(true)), 266, SpecialIds::default()).unwrap();
}
