//! Decoding ids as they arrive, one by one, so that a reader sees whole characters only.

use crate::error::TokenizeError;
use crate::tokenizer::Tokenizer;

/// The most ids that wait for a character to become whole; no encoding of one takes more.
const MAX_WAITING: usize = 8;

/// Turns ids into text as they come. What is given out, joined, is what [`Tokenizer::decode`] makes of all the ids at once; in a tokenizer that is
/// not [lossless](Tokenizer::is_lossless) as far as its decoder looks at neighbouring ids only, which those of language models do.
#[derive(Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a dyn Tokenizer,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The bytes of a character that is not whole yet, at most 3.
    Bytes(Vec<u8>),
    /// What a token becomes depends on those before it: the last ids, of which the first `told` have been given out as `text`.
    Window { ids: Vec<u32>, told: usize, text: String },
}

impl<'a> StreamDecoder<'a> {
    /// A decoder that has seen nothing.
    pub fn new(tokenizer: &'a dyn Tokenizer) -> Self {
        let state = if tokenizer.is_lossless() {
            State::Bytes(Vec::new())
        } else {
            State::Window { ids: Vec::new(), told: 0, text: String::new() }
        };
        Self { tokenizer, state }
    }

    /// Takes the next id and gives the text that is now certain, which may be none. Bytes that can no longer become a character are U+FFFD.
    pub fn push(&mut self, id: u32) -> Result<String, TokenizeError> {
        match &mut self.state {
            State::Bytes(pending) => {
                pending.extend(self.tokenizer.decode_bytes(&[id])?);
                Ok(whole_characters(pending))
            }
            State::Window { ids, told, text } => {
                ids.push(id);
                let decoded = match self.tokenizer.decode(ids) {
                    Ok(decoded) => decoded,
                    Err(error) => {
                        ids.pop();
                        return Err(error);
                    }
                };
                let waits = decoded.ends_with(char::REPLACEMENT_CHARACTER) && ids.len() - *told < MAX_WAITING;
                if waits || decoded.len() <= text.len() {
                    return Ok(String::new());
                }
                let new = new_text(text, &decoded).to_owned();
                // The ids just given out are what the next ones are decoded behind.
                ids.drain(..*told);
                *told = ids.len();
                *text = self.tokenizer.decode(ids)?;
                Ok(new)
            }
        }
    }

    /// Ends the stream: what was left waiting, a character that was not finished as U+FFFD.
    pub fn finish(self) -> String {
        match self.state {
            State::Bytes(pending) => String::from_utf8_lossy(&pending).into_owned(),
            State::Window { ids, text, .. } => {
                let decoded = self.tokenizer.decode(&ids).unwrap_or_default();
                new_text(&text, &decoded).to_owned()
            }
        }
    }
}

/// What the decoded text has behind the part that has been given out.
fn new_text<'t>(told: &str, decoded: &'t str) -> &'t str {
    let same = told.bytes().zip(decoded.bytes()).take_while(|(a, b)| a == b).count();
    &decoded[decoded.floor_char_boundary(same)..]
}

/// Takes the characters that are whole from the front.
fn whole_characters(pending: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let whole = pending.len() - unfinished(pending);
    for chunk in pending[..whole].utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    pending.drain(..whole);
    text
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
