//! Special tokens are recognised where they are allowed and stay text everywhere else.

use codex_core::{ExitClass, Failure};
use codex_tokenize::{TokenizeError, train};

use crate::{bpe, bytes, config, excerpt};

#[test]
fn a_special_token_in_a_text_is_text() {
    for tokenizer in [bpe(), bytes()] {
        let text = "a<|endoftext|>b <|pad|>";
        let ids = tokenizer.encode(text).unwrap();
        assert!(!ids.contains(&0) && !ids.contains(&1));
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}

#[test]
fn allowed_ones_are_recognised_and_others_are_not() {
    for tokenizer in [bpe(), bytes()] {
        let (a, b) = (tokenizer.encode("a").unwrap(), tokenizer.encode("b<|pad|>").unwrap());
        let ids = tokenizer.encode_with_special("a<|endoftext|>b<|pad|><|endoftext|>", &["<|endoftext|>"]).unwrap();
        assert_eq!(ids, [a, vec![0], b, vec![0]].concat());
        let both = tokenizer.encode_with_special("<|pad|><|endoftext|><|pad|>", &["<|endoftext|>", "<|pad|>"]).unwrap();
        assert_eq!(both, [1, 0, 1]);
        assert_eq!(tokenizer.decode(&both).unwrap(), "<|pad|><|endoftext|><|pad|>");
        assert_eq!(tokenizer.encode_with_special("<|pad|>", &[]).unwrap(), tokenizer.encode("<|pad|>").unwrap());
        assert_eq!(tokenizer.encode_with_special("", &["<|pad|>"]).unwrap(), [0_u32; 0]);
        assert_eq!((tokenizer.end_of_text(), tokenizer.pad()), (0, 1));
        assert_eq!((tokenizer.token_bytes(0), tokenizer.token_bytes(1)), (Some(0), Some(0)));
    }
}

#[test]
fn of_two_that_start_together_the_longer_is_taken() {
    let mut config = config(300);
    config.special_tokens = vec!["<a>".to_owned(), "<a><b>".to_owned(), "<b>".to_owned()];
    let tokenizer = train(&config, std::iter::once(excerpt().as_str()), &mut |_| ()).unwrap();
    let encode = |text: &str, allowed: &[&str]| tokenizer.encode_with_special(text, allowed).unwrap();
    assert_eq!(encode("<a><b><a><b>", &["<a>", "<b>", "<a><b>"]), [1, 1]);
    assert_eq!(encode("<a><b>", &["<b>", "<a>"]), [0, 2]);
}

#[test]
fn one_that_does_not_exist_is_an_error_with_the_nearest() {
    for name in ["<|endoftxt|>", "a", "Ġ"] {
        let error = bpe().encode_with_special("x", &[name]).unwrap_err();
        assert_eq!(error.to_string(), format!("unknown special token `{name}`; known: <|endoftext|>, <|pad|>"));
        assert_eq!(error.exit_class(), ExitClass::Usage);
    }
    let error = bpe().encode_with_special("x", &["<|endoftxt|>"]).unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("did you mean `<|endoftext|>`?"));
}

#[test]
fn an_id_outside_the_vocabulary_is_an_error() {
    for (tokenizer, size) in [(bpe(), 512), (bytes(), 258)] {
        let error = tokenizer.decode(&[5, size]).unwrap_err();
        assert!(matches!(error, TokenizeError::UnknownId { id, .. } if id == size));
        assert!(tokenizer.decode_bytes(&[u32::MAX]).is_err());
        assert_eq!((tokenizer.token_bytes(size), tokenizer.id_to_token(size)), (None, None));
    }
}

#[test]
fn training_text_with_a_special_token_in_it_stays_text() {
    let text = "<|endoftext|> once <|endoftext|> more ".repeat(50);
    let tokenizer = train(&config(300), std::iter::once(text.as_str()), &mut |_| ()).unwrap();
    let ids = tokenizer.encode("<|endoftext|>").unwrap();
    assert!(!ids.contains(&0));
    assert!(ids.len() <= 3, "the pieces of the name are learned as text: {ids:?}");
}
