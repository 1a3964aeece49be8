//! Cutting a long text into stretches that are encoded one by one, so that memory stays bounded and one text can use several threads.
//!
//! A cut is made before a single space between two visible characters. The GPT-2 pattern always ends a word there and looks no further back or
//! ahead, so the ids are those of the whole text. Only text with no such place for [`LONGEST`] bytes is cut elsewhere, at a character; the ids around
//! that cut can differ from those of the whole text, the decoded text never does.

/// Where the search for a place to cut begins, in bytes from the start of a stretch.
const USUAL: usize = 64 << 10;
/// The longest stretch, in bytes, and so the longest word that is ever encoded at once.
const LONGEST: usize = 1 << 20;

/// The stretches of a text, in order and together the whole of it.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = &str> + Send {
    pieces_of(text, USUAL, LONGEST)
}

/// [`pieces`] of other sizes, for tests of the claim that cuts change no id.
pub(crate) fn pieces_of(mut text: &str, usual: usize, longest: usize) -> impl Iterator<Item = &str> + Send {
    std::iter::from_fn(move || {
        let (piece, rest) = text.split_at(first_cut(text, usual, longest));
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The length of the first stretch.
fn first_cut(text: &str, usual: usize, longest: usize) -> usize {
    if text.len() <= usual {
        return text.len();
    }
    let end = text.len().min(longest);
    let space = text.as_bytes()[usual..end].iter().enumerate().filter(|(_, byte)| **byte == b' ').map(|(offset, _)| usual + offset);
    for at in space {
        let before = text[..at].chars().next_back();
        let after = text[at + 1..].chars().next();
        if before.zip(after).is_some_and(|(before, after)| !before.is_whitespace() && !after.is_whitespace()) {
            return at;
        }
    }
    if end == text.len() { end } else { text.floor_char_boundary(end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, usual: usize, longest: usize) -> Vec<&str> {
        pieces_of(text, usual, longest).collect()
    }

    #[test]
    fn cuts_are_before_single_spaces_between_visible_characters() {
        assert_eq!(cut("ab cd  ef\n gh ij", 1, 100), ["ab", " cd  ef\n gh", " ij"]);
        assert_eq!(cut("", 1, 100), [""; 0]);
        assert_eq!(cut("short text", 100, 200), ["short text"]);
        assert_eq!(cut("tail ", 1, 100), ["tail "]);
    }

    #[test]
    fn text_without_a_place_is_cut_at_a_character() {
        assert_eq!(cut("ééééé", 1, 5), ["éé", "éé", "é"]);
        assert_eq!(cut(&"a".repeat(10), 2, 4), ["aaaa", "aaaa", "aa"]);
        assert!(pieces(&"字".repeat(1 << 20)).all(|piece| piece.len() <= LONGEST));
    }
}
