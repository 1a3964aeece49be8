//! The byte alphabet of GPT-2: each byte has one visible character, so that a token is always valid text.
//!
//! Reference: A. Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), `bytes_to_unicode`.

/// The character that stands for a byte: itself when it is visible Latin-1, else one from U+0100 on, in byte order.
pub(crate) fn byte_to_char(byte: u8) -> char {
    if is_visible(byte) {
        return char::from(byte);
    }
    let n = (0..byte).filter(|&lower| !is_visible(lower)).count() as u32;
    char::from_u32(0x100 + n).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte a character stands for; `None` for a character outside the alphabet.
pub(crate) fn char_to_byte(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ 0..=0xFF => Some(code as u8).filter(|&byte| is_visible(byte)),
        code @ 0x100..=0x143 => Some(HIDDEN[code as usize - 0x100]),
        _ => None,
    }
}

/// The bytes a token stands for; `None` when it holds a character outside the alphabet.
pub(crate) fn token_to_bytes(token: &str) -> Option<Vec<u8>> {
    token.chars().map(char_to_byte).collect()
}

const fn is_visible(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The bytes without a visible character, in order.
const HIDDEN: [u8; 68] = {
    let mut hidden = [0; 68];
    let (mut n, mut byte) = (0, 0);
    while byte < 256 {
        if !is_visible(byte as u8) {
            hidden[n] = byte as u8;
            n += 1;
        }
        byte += 1;
    }
    hidden
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_its_own_character_and_they_are_the_librarys() {
        let library: std::collections::BTreeSet<char> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
        let ours: std::collections::BTreeSet<char> = (0..=255).map(byte_to_char).collect();
        assert_eq!(ours.len(), 256);
        assert_eq!(ours, library);
        for byte in 0..=255 {
            assert_eq!(char_to_byte(byte_to_char(byte)), Some(byte));
        }
    }

    #[test]
    fn published_examples_hold() {
        assert_eq!((byte_to_char(b' '), byte_to_char(b'\n'), byte_to_char(0xAD), byte_to_char(b'a')), ('Ġ', 'Ċ', 'Ń', 'a'));
        assert_eq!(token_to_bytes("Ġthe"), Some(b" the".to_vec()));
        assert_eq!(token_to_bytes("a b"), None);
        assert_eq!(char_to_byte('字'), None);
        assert_eq!(char_to_byte('\u{144}'), None);
    }
}
