//! What is encoded comes back as it was, for both tokenizers, and the ids are those of the library itself.

use std::str::FromStr;

use codex_tokenize::{PadTo, Padding, Tokenizer, encode_padded};
use proptest::prelude::*;

use crate::{bpe, bytes, excerpt};

/// Text with what is hard for a tokenizer: white space of all kinds, contractions, special tokens, characters of 1 to 4 bytes.
fn text() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        any::<String>(),
        prop::sample::select(vec![
            " ",
            "  ",
            "\n",
            "\r\n",
            "\t",
            "\u{a0}",
            "\u{3000}",
            "'s",
            "'LL",
            "<|endoftext|>",
            "<|pad|>",
            "<|",
            "the",
            "Emma",
            "字",
            "🦀",
            "é",
            "\0",
            "١٢",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(fragment, 0..12).prop_map(|parts| parts.concat())
}

fn check(tokenizer: &dyn Tokenizer, text: &str) {
    let ids = tokenizer.encode(text).unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    assert_eq!(tokenizer.decode_bytes(&ids).unwrap(), text.as_bytes());
    assert!(ids.iter().all(|&id| id > 1 && (id as usize) < tokenizer.vocab_size()));
    assert_eq!(ids.iter().map(|&id| tokenizer.token_bytes(id).unwrap()).sum::<usize>(), text.len());
}

proptest! {
    #[test]
    fn any_text_comes_back(text in text()) {
        check(&*bpe(), &text);
        check(&*bytes(), &text);
    }

    #[test]
    fn any_ids_decode_to_their_bytes(ids in prop::collection::vec(0_u32..512, 0..40)) {
        let tokenizer = bpe();
        let bytes = tokenizer.decode_bytes(&ids).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn ids_are_the_librarys(text in text()) {
        let plain = text.replace("<|", "< |");
        let tokenizer = bpe();
        let library = tokenizers::Tokenizer::from_str(tokenizer.to_json()).unwrap();
        let expected = library.encode(plain.as_str(), false).unwrap();
        prop_assert_eq!(tokenizer.encode(&plain).unwrap(), expected.get_ids());
    }
}

#[test]
fn every_scalar_value_comes_back() {
    let scalars: Vec<char> = ('\0'..=char::MAX).collect();
    assert_eq!(scalars.len(), 1_112_064);
    let blocks: Vec<String> = scalars.chunks(4096).map(|block| block.iter().collect()).collect();
    let texts: Vec<&str> = blocks.iter().map(String::as_str).collect();
    for tokenizer in [bpe(), bytes()] {
        for (ids, text) in tokenizer.encode_batch(&texts).unwrap().iter().zip(&texts) {
            assert!(tokenizer.decode(ids).unwrap() == *text, "block of {:?}", text.chars().next());
        }
    }
}

#[test]
fn real_text_is_compressed_and_the_librarys_ids_are_ours() {
    let (tokenizer, text) = (bpe(), excerpt());
    let library = tokenizers::Tokenizer::from_str(tokenizer.to_json()).unwrap();
    let ids = tokenizer.encode(&text).unwrap();
    assert!(ids.len() * 2 < text.len(), "{} ids for {} bytes", ids.len(), text.len());
    assert!(ids == library.encode(text.as_str(), false).unwrap().get_ids());
    // The library reads the byte tokenizer's file too.
    let bytes = bytes();
    let library = tokenizers::Tokenizer::from_str(bytes.to_json()).unwrap();
    assert_eq!(bytes.encode("a é").unwrap(), library.encode("a é", false).unwrap().get_ids());
    assert_eq!(library.decode(&bytes.encode("a é").unwrap(), false).unwrap(), "a é");
}

#[test]
fn a_batch_is_in_input_order() {
    let texts: Vec<String> = (0..500).map(|i| format!("text number {i}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for tokenizer in [bpe(), bytes()] {
        let each: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
        assert_eq!(tokenizer.encode_batch(&texts).unwrap(), each);
    }
}

#[test]
fn a_batch_is_padded_on_the_right_to_the_length() {
    let padding = Padding { to: PadTo::MaxLength, max_length: Some(8), truncate: true, ..Padding::default() };
    let batch = encode_padded(&*bpe(), &["hello world", "Emma", ""], &padding).unwrap();
    assert_eq!(batch.row(0), [260, 286, 80, 263, 291, 304, 1, 1]);
    assert_eq!(batch.row(1), [38, 383, 1, 1, 1, 1, 1, 1]);
    assert_eq!(batch.row(2), [1; 8]);
    assert_eq!(batch.lengths, [6, 2, 0]);
    assert_eq!(batch.mask()[8..16], [true, true, false, false, false, false, false, false]);
}
