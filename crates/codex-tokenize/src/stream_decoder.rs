//! Decoding ids as they arrive, one by one, so that a reader sees whole characters only.

use crate::error::TokenizeError;
use crate::tokenizer::Tokenizer;

/// Turns ids into text as they come. What is given out, joined, is what [`Tokenizer::decode`] makes of all the ids at once.
#[derive(Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a dyn Tokenizer,
    /// The bytes of a character that is not whole yet, at most 3.
    pending: Vec<u8>,
}

impl<'a> StreamDecoder<'a> {
    /// A decoder that has seen nothing.
    pub fn new(tokenizer: &'a dyn Tokenizer) -> Self {
        Self { tokenizer, pending: Vec::new() }
    }

    /// Takes the next id and gives the text that is now certain, which may be none. Bytes that can no longer become a character are U+FFFD.
    pub fn push(&mut self, id: u32) -> Result<String, TokenizeError> {
        self.pending.extend(self.tokenizer.decode_bytes(&[id])?);
        let mut text = String::new();
        let whole = self.pending.len() - unfinished(&self.pending);
        for chunk in self.pending[..whole].utf8_chunks() {
            text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.pending.drain(..whole);
        Ok(text)
    }

    /// Ends the stream: U+FFFD when a character was left unfinished, else nothing.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

/// How many bytes at the end begin a character that more bytes could finish.
fn unfinished(mut bytes: &[u8]) -> usize {
    loop {
        match std::str::from_utf8(bytes) {
            Ok(_) => return 0,
            Err(error) => match error.error_len() {
                Some(n) => bytes = &bytes[error.valid_up_to() + n..],
                None => return bytes.len() - error.valid_up_to(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::byte::ByteTokenizer;
    use crate::config::TokenizerConfig;

    fn stream(bytes: &[u8]) -> Vec<String> {
        let tokenizer = ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap();
        let mut decoder = StreamDecoder::new(&tokenizer);
        let mut out: Vec<String> = bytes.iter().map(|&byte| decoder.push(u32::from(byte) + 2).unwrap()).collect();
        out.push(decoder.finish());
        out
    }

    #[test]
    fn a_character_comes_with_its_last_byte() {
        assert_eq!(stream("aé€".as_bytes()), ["a", "", "é", "", "", "€", ""]);
        assert_eq!(stream("🦀".as_bytes()), ["", "", "", "🦀", ""]);
    }

    #[test]
    fn bytes_that_cannot_become_a_character_are_replaced() {
        assert_eq!(stream(b"\xFFa"), ["\u{FFFD}", "a", ""]);
        assert_eq!(stream(b"\xC3a"), ["", "\u{FFFD}a", ""]);
        assert_eq!(stream(b"\xE2\x82"), ["", "", "\u{FFFD}"]);
    }

    #[test]
    fn an_unknown_id_is_an_error_and_a_special_token_its_name() {
        let tokenizer = ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap();
        let mut decoder = StreamDecoder::new(&tokenizer);
        assert!(matches!(decoder.push(999), Err(TokenizeError::UnknownId { id: 999, .. })));
        assert_eq!(decoder.push(0).unwrap(), "<|endoftext|>");
    }
}
