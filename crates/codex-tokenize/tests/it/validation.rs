//! Statistics on real text, and a validation that finds what is wrong with a tokenizer that is wrong in every way it looks for.

use codex_core::Digest;
use codex_tokenize::{LongestToken, RoundTripFailure, TokenizeError, Tokenizer, stats, validate};

use crate::{bpe, bytes, excerpt};

#[test]
fn real_tokenizers_pass() {
    let text = excerpt();
    for tokenizer in [bpe(), bytes()] {
        let report = validate(&*tokenizer, text.lines()).unwrap();
        assert!(report.is_ok(), "{report:?}");
        assert_eq!(report.texts, text.lines().count() as u64);
        assert!((100..256).contains(&report.unused_ids), "{}", report.unused_ids);
    }
}

#[test]
fn statistics_are_of_the_texts() {
    let text = excerpt();
    let found = stats(&*bpe(), [text.as_str()]).unwrap();
    assert_eq!((found.texts, found.bytes, found.vocab_size), (1, text.len() as u64, 512));
    assert!((2.0..4.0).contains(&found.bytes_per_token), "{}", found.bytes_per_token);
    assert_eq!(found.tokens, bpe().encode(&text).unwrap().len() as u64);
    assert!(found.unused_ids.iter().all(|&id| id > 1));
    assert_eq!(found.longest_token, Some(LongestToken { id: 489, token: "Knightley".to_owned(), bytes: 9 }));
}

/// Two letters and one special token; `b` is lost, `x` is taken for the special token, and id 3 has no token.
#[derive(Debug)]
struct Wrong;

impl Tokenizer for Wrong {
    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        Ok(text.chars().filter(|&c| c != 'b').map(|c| if c == 'x' { 2 } else { 0 }).collect())
    }
    fn encode_batch(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>, TokenizeError> {
        texts.iter().map(|text| self.encode(text)).collect()
    }
    fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, TokenizeError> {
        Ok(ids.iter().map(|&id| b"abx"[id as usize]).collect())
    }
    fn token_bytes(&self, id: u32) -> Option<usize> {
        [Some(1), Some(1), Some(0), None].get(id as usize).copied().flatten()
    }
    fn vocab_size(&self) -> usize {
        4
    }
    fn token_to_id(&self, token: &str) -> Option<u32> {
        (token == "x").then_some(0)
    }
    fn id_to_token(&self, id: u32) -> Option<String> {
        ["a", "b", "x"].get(id as usize).map(|token| (*token).to_owned())
    }
    fn end_of_text(&self) -> u32 {
        2
    }
    fn pad(&self) -> u32 {
        2
    }
    fn digest(&self) -> Digest {
        Digest::of_bytes(b"")
    }
    fn to_json(&self) -> &'static str {
        ""
    }
}

#[test]
fn a_wrong_tokenizer_is_found_out() {
    let report = validate(&Wrong, ["aa", "aba", "ax"]).unwrap();
    assert!(!report.is_ok());
    assert_eq!(report.round_trip_failures, [RoundTripFailure { index: 1, first_difference: 1, expected: Some(b'b'), found: Some(b'a') }]);
    assert_eq!((report.id_gaps.as_slice(), report.unused_ids, report.texts), ([3].as_slice(), 1, 3));
    let reasons: Vec<&str> = report.special_collisions.iter().map(|collision| collision.reason.as_str()).collect();
    assert_eq!(reasons, ["its name as plain text encodes to a special token", "its name is also that of id 0", "text 2 encodes to it"]);
    assert_eq!(Wrong.decode(&[0, 2]).unwrap(), "ax");
}
