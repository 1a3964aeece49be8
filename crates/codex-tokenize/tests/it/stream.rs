//! Streaming gives what decoding at once gives, and never half a character.

use codex_tokenize::StreamDecoder;
use proptest::prelude::*;

use crate::{bpe, bytes};

proptest! {
    #[test]
    fn the_stream_joined_is_the_whole(ids in prop::collection::vec(0_u32..258, 0..60)) {
        for tokenizer in [bpe(), bytes()] {
            let mut decoder = StreamDecoder::new(&*tokenizer);
            let mut out = String::new();
            for &id in &ids {
                out.push_str(&decoder.push(id).unwrap());
            }
            out.push_str(&decoder.finish());
            prop_assert_eq!(out, tokenizer.decode(&ids).unwrap());
        }
    }

    #[test]
    fn real_characters_are_never_replaced(text in any::<String>()) {
        let text = text.replace('\u{FFFD}', "");
        let tokenizer = bytes();
        let mut decoder = StreamDecoder::new(&*tokenizer);
        for id in tokenizer.encode(&text).unwrap() {
            prop_assert!(!decoder.push(id).unwrap().contains(char::REPLACEMENT_CHARACTER));
        }
        prop_assert_eq!(decoder.finish(), "");
    }
}
