//! A megabyte of one thing is encoded, decoded and trained on like any other text. Its time is bounded by construction: see `piece` and `training`.

use codex_tokenize::{StreamDecoder, train};

use crate::{bpe, config};

#[test]
fn long_runs_come_back() {
    let tokenizer = bpe();
    for unit in ["a", " ", "\n", "字", "' ", "\u{200b}", "  x"] {
        let text = unit.repeat((1 << 20) / unit.len() + 3);
        let ids = tokenizer.encode(&text).unwrap();
        assert!(tokenizer.decode(&ids).unwrap() == text, "{unit:?}");
    }
}

#[test]
fn a_long_run_can_be_trained_on_and_merges_to_long_tokens() {
    let text = "a".repeat(1 << 20);
    let tokenizer = train(&config(280), std::iter::once(text.as_str()), &mut |_| ()).unwrap();
    let ids = tokenizer.encode(&text).unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap().len(), 1 << 20);
    // Words are counted in parts of 256 bytes, so no token is longer.
    assert_eq!((0..tokenizer.vocab_size() as u32).filter_map(|id| tokenizer.token_bytes(id)).max(), Some(256));
    assert_eq!(ids.len(), (1 << 20) / 256);
}

#[test]
fn a_long_text_streams_back() {
    let tokenizer = bpe();
    let text = "Emma é字🦀 ".repeat(2000);
    let mut decoder = StreamDecoder::new(&*tokenizer);
    let mut out = String::new();
    for id in tokenizer.encode(&text).unwrap() {
        out.push_str(&decoder.push(id).unwrap());
    }
    assert_eq!(out + &decoder.finish(), text);
}
