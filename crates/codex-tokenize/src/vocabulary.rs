//! The ids of a tokenizer: what each is called and which bytes it stands for. It knows nothing of how text becomes ids.

use std::collections::BTreeMap;
use std::fmt;

use codex_core::Digest;

use crate::alphabet;
use crate::error::TokenizeError;

/// Tokens by id and back, with the file they come from.
pub(crate) struct Vocabulary {
    entries: Vec<Entry>,
    ids: BTreeMap<String, u32>,
    end_of_text: u32,
    pad: u32,
    json: String,
    digest: Digest,
}

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// As it is written in the vocabulary.
    pub(crate) token: String,
    /// What it decodes to.
    pub(crate) bytes: Vec<u8>,
    /// Whether it has a meaning instead of a text.
    pub(crate) special: bool,
}

impl Entry {
    /// A special token.
    pub(crate) fn special(token: &str) -> Self {
        Self { token: token.to_owned(), bytes: token.as_bytes().to_vec(), special: true }
    }

    /// A token of the byte alphabet; `None` when it is empty or holds another character.
    pub(crate) fn plain(token: &str) -> Option<Self> {
        let bytes = alphabet::token_to_bytes(token).filter(|bytes| !bytes.is_empty())?;
        Some(Self { token: token.to_owned(), bytes, special: false })
    }
}

impl Vocabulary {
    /// The vocabulary of these tokens, in id order.
    pub(crate) fn new(entries: Vec<Entry>, end_of_text: u32, pad: u32, json: String) -> Self {
        let ids = (0..).zip(&entries).map(|(id, entry)| (entry.token.clone(), id)).collect();
        let digest = Digest::of_bytes(json.as_bytes());
        Self { entries, ids, end_of_text, pad, json, digest }
    }

    pub(crate) fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, TokenizeError> {
        let mut bytes = Vec::with_capacity(4 * ids.len());
        for &id in ids {
            let entry = self.entries.get(id as usize).ok_or(TokenizeError::UnknownId { id, vocab_size: self.len() })?;
            bytes.extend_from_slice(&entry.bytes);
        }
        Ok(bytes)
    }

    pub(crate) fn token_bytes(&self, id: u32) -> Option<usize> {
        self.entries.get(id as usize).map(|entry| if entry.special { 0 } else { entry.bytes.len() })
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn token_to_id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    pub(crate) fn id_to_token(&self, id: u32) -> Option<String> {
        self.entries.get(id as usize).map(|entry| entry.token.clone())
    }

    pub(crate) fn end_of_text(&self) -> u32 {
        self.end_of_text
    }

    pub(crate) fn pad(&self) -> u32 {
        self.pad
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn json(&self) -> &str {
        &self.json
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary").field("len", &self.len()).field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// The methods of [`Tokenizer`](crate::Tokenizer) that every tokenizer with a `vocabulary` field answers alike.
macro_rules! answer_from_vocabulary {
    () => {
        fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, $crate::TokenizeError> {
            self.vocabulary.decode_bytes(ids)
        }

        fn token_bytes(&self, id: u32) -> Option<usize> {
            self.vocabulary.token_bytes(id)
        }

        fn vocab_size(&self) -> usize {
            self.vocabulary.len()
        }

        fn token_to_id(&self, token: &str) -> Option<u32> {
            self.vocabulary.token_to_id(token)
        }

        fn id_to_token(&self, id: u32) -> Option<String> {
            self.vocabulary.id_to_token(id)
        }

        fn end_of_text(&self) -> u32 {
            self.vocabulary.end_of_text()
        }

        fn pad(&self) -> u32 {
            self.vocabulary.pad()
        }

        fn digest(&self) -> codex_core::Digest {
            self.vocabulary.digest()
        }

        fn to_json(&self) -> &str {
            self.vocabulary.json()
        }
    };
}
pub(crate) use answer_from_vocabulary;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_positions_and_specials_have_no_bytes_of_text() {
        let entries = vec![Entry::plain("Ġa").unwrap(), Entry::special("<e>"), Entry::special("<p>")];
        let vocabulary = Vocabulary::new(entries, 1, 2, "{}".to_owned());
        assert_eq!((vocabulary.end_of_text(), vocabulary.pad(), vocabulary.len()), (1, 2, 3));
        assert_eq!([0, 1, 2, 3].map(|id| vocabulary.token_bytes(id)), [Some(2), Some(0), Some(0), None]);
        assert_eq!(vocabulary.decode_bytes(&[0, 1]).unwrap(), b" a<e>");
        assert!(matches!(vocabulary.decode_bytes(&[3]), Err(TokenizeError::UnknownId { id: 3, vocab_size: 3 })));
        assert!(format!("{vocabulary:?}").starts_with("Vocabulary { len: 3, digest: Digest("));
    }

    #[test]
    fn a_plain_token_is_of_the_byte_alphabet() {
        assert_eq!(Entry::plain(""), None);
        assert_eq!(Entry::plain("a b"), None);
        assert_eq!(Entry::plain("Ġé"), Some(Entry { token: "Ġé".to_owned(), bytes: vec![b' ', 0xE9], special: false }));
    }
}
