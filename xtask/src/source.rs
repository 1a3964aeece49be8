//! Rust text as the rules see it: comments and literals blanked, and the lines that exist only for tests marked. Not a parser.

/// A Rust file, line by line.
#[derive(Debug)]
pub struct Source {
    /// The lines with the contents of comments and literals replaced by spaces.
    pub code: Vec<String>,
    /// Whether each line belongs to an item under `#[cfg(test)]`.
    pub is_test: Vec<bool>,
    /// Modules declared as `#[cfg(test)] mod name;`: their files are test code too.
    pub test_modules: Vec<String>,
}

impl Source {
    /// Reads a file; `all_test` marks every line, for files under `tests/`.
    pub fn new(text: &str, all_test: bool) -> Self {
        let masked = mask(text);
        let mut source = Self { code: masked.lines().map(str::to_owned).collect(), is_test: Vec::new(), test_modules: Vec::new() };
        source.is_test = vec![all_test || masked.contains("#![cfg(test)]"); source.code.len()];
        source.mark_tests(&masked);
        source
    }

    /// Lines that hold code and are not for tests.
    pub fn code_lines(&self) -> usize {
        self.code.iter().zip(&self.is_test).filter(|(line, is_test)| !**is_test && !line.trim().is_empty()).count()
    }

    fn mark_tests(&mut self, masked: &str) {
        let bytes = masked.as_bytes();
        for marker in ["#[cfg(test)]", "#[cfg(all(test"] {
            for (start, _) in masked.match_indices(marker) {
                let end = item_end(bytes, start);
                let line_of = |position: usize| masked[..position].matches('\n').count();
                for line in line_of(start)..=line_of(end.min(bytes.len().saturating_sub(1))) {
                    if let Some(mark) = self.is_test.get_mut(line) {
                        *mark = true;
                    }
                }
                let item = masked.get(start..end).unwrap_or_default();
                if let Some(name) =
                    item.trim_end_matches(';').rsplit("mod ").next().filter(|_| item.ends_with(';') && item.contains("mod "))
                {
                    self.test_modules.push(name.trim().to_owned());
                }
            }
        }
    }
}

/// Where the item that starts with an attribute at `start` ends: after its `;`, or after the brace that closes its first one.
fn item_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut in_braces = false;
    for (offset, &byte) in bytes.iter().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'{' => {
                in_braces |= depth == 0;
                depth += 1;
            }
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && in_braces {
                    return offset + 1;
                }
            }
            b';' if depth == 0 => return offset + 1,
            _ => {}
        }
    }
    bytes.len()
}

/// The text with comments, strings and characters blanked; every line keeps its place, and every character its column.
pub fn mask(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(chars.len());
    let mut at = 0;
    while at < chars.len() {
        let end = blank_end(&chars, at);
        if end > at {
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            // A non-ASCII identifier is blanked to one byte, so that bytes and columns agree.
            out.push(if chars[at].is_ascii() { chars[at] } else { '_' });
            at += 1;
        }
    }
    out
}

/// The end of the comment or literal that begins at `at`, or `at` when none does.
fn blank_end(chars: &[char], at: usize) -> usize {
    let peek = |offset: usize| chars.get(at + offset).copied().unwrap_or('\0');
    let inside_word = at > 0 && is_word(chars[at - 1]);
    match (peek(0), peek(1)) {
        ('/', '/') => (at..chars.len()).find(|&i| chars[i] == '\n').unwrap_or(chars.len()),
        ('/', '*') => block_comment_end(chars, at),
        ('"', _) => string_end(chars, at + 1),
        ('b' | 'c', '"') if !inside_word => string_end(chars, at + 2),
        ('b', '\'') if !inside_word => char_end(chars, at + 1).unwrap_or(at),
        ('r', '"' | '#') if !inside_word => raw_string_end(chars, at + 1).unwrap_or(at),
        ('b' | 'c', 'r') if !inside_word && matches!(peek(2), '"' | '#') => raw_string_end(chars, at + 2).unwrap_or(at),
        ('\'', _) => char_end(chars, at).unwrap_or(at),
        _ => at,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => {
                depth += 1;
                at += 2;
            }
            ('*', '/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `at` is just after the `r`; `r#name` is no literal.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at..].iter().take_while(|&&c| c == '#').count();
    (chars.get(at + hashes) == Some(&'"')).then(|| {
        let body = at + hashes + 1;
        (body..chars.len())
            .find(|&i| chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes)
            .map_or(chars.len(), |i| i + 1 + hashes)
    })
}

/// `at` is the opening quote; a lifetime is no literal.
fn char_end(chars: &[char], at: usize) -> Option<usize> {
    match (chars.get(at + 1)?, chars.get(at + 2)?) {
        ('\\', _) => (at + 3..chars.len().min(at + 14)).find(|&i| chars[i] == '\'').map(|i| i + 1),
        (_, '\'') => Some(at + 3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_in_place() {
        let cases = [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("to\"do", 'x', '\'', b'y')"#, "f(        ,    ,     ,     )"),
            ("r#\"a\"b\"# r#type br\"z\"", "         r#type      "),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            ("'é' café", "    caf_"),
            ("\"unclosed", "         "),
        ];
        for (text, expected) in cases {
            assert_eq!(mask(text), expected, "{text}");
        }
    }

    #[test]
    fn test_items_are_marked_wherever_they_stand() {
        let text = "#[cfg(test)]\nmod probe;\nfn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() { \"}\"; }\n}\nfn c() {}\n";
        let source = Source::new(text, false);
        assert_eq!(source.is_test, [true, true, false, false, true, true, true, true, false]);
        assert_eq!(source.test_modules, ["probe"]);
        assert_eq!(source.code_lines(), 2);
    }

    #[test]
    fn comments_and_blank_lines_are_not_counted() {
        assert_eq!(Source::new("//! x\n\n// y\nfn a() {\n    b(); // z\n}\n", false).code_lines(), 3);
        assert_eq!(Source::new("fn a() {}\n", true).code_lines(), 0);
        assert_eq!(Source::new("#![cfg(test)]\nfn a() {}\n", false).code_lines(), 0);
    }
}
