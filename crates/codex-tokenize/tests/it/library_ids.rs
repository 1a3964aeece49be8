//! Our own splitting and merging gives the ids of the tokenizers library, for every text and tokenizer.

use codex_tokenize::{BpeTokenizer, Tokenizer, train};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{config, excerpt, novel};

/// The library's ids for a text without special tokens in it.
fn of_the_library(tokenizer: &tokenizers::Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode_fast(text, false).unwrap().get_ids().to_vec()
}

fn both(json: &str) -> (BpeTokenizer, tokenizers::Tokenizer) {
    (BpeTokenizer::from_json(json).unwrap(), json.parse().unwrap())
}

/// Some text of parts that meet in many ways.
fn text() -> impl Strategy<Value = String> {
    let parts = vec![
        "a",
        "aa",
        "aaaa",
        "the",
        " the",
        "ing",
        "Emma",
        " ",
        "  ",
        "    ",
        "\n",
        "\n\n",
        "\t",
        "'s",
        "'",
        "1815",
        "--",
        "....",
        "é",
        "字",
        "🦀",
        "\u{3000}",
        "\u{200b}",
        "Woodhouse",
        "ab",
        "ba",
        "abab",
    ];
    prop::collection::vec(prop::sample::select(parts), 0..60).prop_map(|parts| parts.concat())
}

#[test]
fn a_novel_has_the_librarys_ids() {
    let trained = train(&config(2000), std::iter::once(excerpt().as_str()), &mut |_| ()).unwrap();
    let (ours, library) = both(trained.to_json());
    let text = novel();
    let text = &text[..text.floor_char_boundary(300_000)];
    assert_eq!(ours.encode(text).unwrap(), of_the_library(&library, text));
}

#[test]
fn words_of_every_length_have_the_librarys_ids() {
    // Beyond 48 bytes a word is merged by another way, and beyond 64 it is not remembered.
    let corpus = format!("{} {} {}", "a".repeat(300), "ab".repeat(200), "abcde ".repeat(50));
    let trained = train(&config(300), std::iter::once(corpus.as_str()), &mut |_| ()).unwrap();
    let (ours, library) = both(trained.to_json());
    for length in 0..200 {
        for unit in ["a", "ab", "aab", "abcde", "é"] {
            let text: String = unit.chars().cycle().take(length).collect();
            assert_eq!(ours.encode(&text).unwrap(), of_the_library(&library, &text), "{text}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_tokenizer_has_the_librarys_ids(corpus in text(), texts in prop::collection::vec(text(), 1..20), size in 258_usize..330, any in any::<String>()) {
        prop_assume!(!corpus.is_empty());
        let config = codex_tokenize::TokenizerConfig { min_frequency: 1, ..config(size) };
        let trained = train(&config, std::iter::once(corpus.as_str()), &mut |_| ()).unwrap();
        // The same tokens with the merges in another order, and with words taken whole.
        let mut file: Value = serde_json::from_str(trained.to_json()).unwrap();
        file["model"]["merges"].as_array_mut().unwrap().reverse();
        let reversed = file.to_string();
        file["model"]["ignore_merges"] = json!(true);
        for json in [trained.to_json(), &reversed, &file.to_string()] {
            let (ours, library) = both(json);
            for text in texts.iter().chain([&any, &corpus]) {
                prop_assert_eq!(ours.encode(text).unwrap(), of_the_library(&library, text));
            }
        }
    }
}
