//! The tokenizer `13a` of mteval-v13a, the scorer of NIST's and WMT's translation tasks, as sacrebleu has it (Post 2018,
//! <https://aclanthology.org/W18-6319>). It is for comparing scores of Western languages, not for models.

use super::ngrams::{is_space, words};

/// The words and signs of a text.
pub(super) fn tokens(text: &str) -> Vec<String> {
    let text = text.trim_end_matches(is_space).replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    // In this order: `&amp;lt;` becomes `<`.
    let text = text.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let mut signs = vec![' '];
    for character in text.chars() {
        if stands_alone(character) {
            signs.extend([' ', character, ' ']);
        } else {
            signs.push(character);
        }
    }
    signs.push(' ');
    let is_stop = |c: char| matches!(c, '.' | ',');
    // A full stop or comma stays within its word only between two digits, and a dash only where no digit is before it.
    let signs = pairs(&signs, |a, b| !a.is_ascii_digit() && is_stop(b), |a, b| [a, ' ', b, ' ']);
    let signs = pairs(&signs, |a, b| is_stop(a) && !b.is_ascii_digit(), |a, b| [' ', a, ' ', b]);
    let signs = pairs(&signs, |a, b| a.is_ascii_digit() && b == '-', |a, b| [a, ' ', b, ' ']);
    let text: String = signs.into_iter().collect();
    words(&text).map(str::to_owned).collect()
}

/// Signs of ASCII that are always a token of their own: all but the apostrophe, the dash, the full stop and the comma.
fn stands_alone(character: char) -> bool {
    matches!(character, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/')
}

/// Rewrites each pair of neighbours that `fits`, from the left; a character belongs to one pair at most, as with a regular expression.
fn pairs(signs: &[char], fits: impl Fn(char, char) -> bool, rewrite: impl Fn(char, char) -> [char; 4]) -> Vec<char> {
    let mut out = Vec::with_capacity(signs.len());
    let mut rest = signs;
    while let [first, behind @ ..] = rest {
        match behind {
            [second, after @ ..] if fits(*first, *second) => {
                out.extend(rewrite(*first, *second));
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = behind;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_part_from_words_but_not_within_numbers() {
        for (text, want) in [
            ("Hello, world!", "Hello , world !"),
            ("1,000.50 is 3-4.", "1,000.50 is 3 - 4 ."),
            ("well-known don't", "well-known don't"),
            ("(a) [b] {c} 50% $5 a/b", "( a ) [ b ] { c } 50 % $ 5 a / b"),
            ("so... yes", "so . . . yes"),
            (".5 5.", ". 5 5 ."),
            ("a &amp;lt; b &quot;c&quot;", "a < b \" c \""),
            ("bro-\nken li\nne <skipped>x", "broken li ne x"),
            ("“quoted” — dash", "“quoted” — dash"),
            ("", ""),
            (" \n", ""),
        ] {
            assert_eq!(tokens(text).join(" "), want, "{text:?}");
        }
    }
}
