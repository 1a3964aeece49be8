//! The line that holds a problem, with the place marked below it.
//!
//! A value whose key ends in `token`, `key`, `secret` or `password` is shown as `…`. Columns are those of a terminal: a tab is four spaces, a
//! wide character two columns, a combining one none.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use codex_core::Digest;
use unicode_width::UnicodeWidthChar as _;

use crate::error::{LocatedProblem, Mark};
use crate::source::Source;

/// Columns of a line that are shown.
const MAX_COLUMNS: usize = 120;
/// Lines after the problem's that a text is looked for in.
const MAX_LINES: usize = 200;

/// One line of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Excerpt {
    /// Its number, from 1; `None` for an argument or a variable.
    pub line: Option<usize>,
    /// The line as it is shown: secrets masked, tabs as spaces, cut around the place.
    pub text: String,
    /// Columns before the marked part.
    pub column: usize,
    /// Columns of the marked part, at least 1.
    pub width: usize,
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.map(|line| line.to_string()).unwrap_or_default();
        let margin = number.len().max(3);
        writeln!(f, "  {number:>margin$} | {}", self.text)?;
        write!(f, "  {:>margin$} | {}{}", "", " ".repeat(self.column), "^".repeat(self.width))
    }
}

/// The texts that problems may lie in.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    /// By the place of their first line.
    pub(crate) files: BTreeMap<Source, String>,
    /// Values of environment variables.
    pub(crate) variables: BTreeMap<String, String>,
}

impl Texts {
    /// The files among them, with the digests of their bytes.
    pub(crate) fn digests(&self) -> BTreeMap<PathBuf, Digest> {
        let file = |(place, text): (&Source, &String)| match place {
            Source::File { path, .. } => Some((path.clone(), Digest::of_bytes(text.as_bytes()))),
            _ => None,
        };
        self.files.iter().filter_map(file).collect()
    }

    /// Gives the problem its excerpt.
    pub(crate) fn show(&self, problem: &mut LocatedProblem) {
        let name = problem.key.rsplit('.').next().unwrap_or_default();
        if let (true, Some(start)) = (is_secret(name), problem.message.find("found string `")) {
            problem.message.replace_range(start.., "found a string");
        }
        let (number, line) = match &problem.place {
            Source::Library { name, line } => (*line, self.files.get(&Source::Library { name: name.clone(), line: 1 })),
            Source::File { path, line } => (*line, self.files.get(&Source::File { path: path.clone(), line: 1 })),
            Source::Environment { name } => {
                let Some(value) = self.variables.get(name) else { return };
                let text = format!("{name}={value}");
                let at = if problem.mark == Mark::Key { 0..name.len() } else { name.len() + 1..text.len() };
                problem.excerpt = Some(excerpt(None, &text, &at));
                return;
            }
            Source::Argument { text } => {
                let value = text.find('=').map_or(text.len(), |equals| equals + 1);
                let at = match &problem.mark {
                    Mark::Nowhere => return,
                    Mark::Bytes(range) => range.clone(),
                    Mark::Line => 0..text.len(),
                    Mark::Key | Mark::LastKey => 0..text.find('=').unwrap_or(text.len()),
                    Mark::Text(wanted) => word(text, wanted).unwrap_or(0..text.len()),
                    Mark::Value => value..text.len(),
                };
                problem.excerpt = Some(excerpt(None, text, &at));
                return;
            }
            Source::Default => return,
        };
        let lines = || line.iter().flat_map(|text| text.lines()).enumerate().skip(number.saturating_sub(1));
        let Some((_, text)) = lines().next() else { return };
        let (number, text, at) = match &problem.mark {
            Mark::Nowhere => return,
            Mark::Bytes(range) => (number, text, range.clone()),
            Mark::Text(wanted) => {
                let mut of_text = lines().take(MAX_LINES).filter(|(_, text)| !text.trim_start().starts_with('#'));
                let found = of_text.find_map(|(n, text)| Some((n + 1, text, word(text, wanted)?)));
                found.unwrap_or_else(|| (number, text, whole(text)))
            }
            Mark::Line => (number, text, whole(text)),
            mark => (number, text, key_or_value(text, name, mark)),
        };
        problem.excerpt = Some(excerpt(Some(number), text, &at));
    }
}

/// Where the text stands in the line and is no part of a longer name.
fn word(line: &str, wanted: &str) -> Option<Range<usize>> {
    let is_free = |start: usize| {
        let (before, after) = (line[..start].chars().next_back(), line[start + wanted.len()..].chars().next());
        let goes_on = |c: Option<char>, inside: Option<char>| c.is_some_and(is_name) && inside.is_some_and(is_name);
        !goes_on(before, wanted.chars().next()) && !goes_on(after, wanted.chars().next_back())
    };
    let (start, _) = line.match_indices(wanted).find(|(start, _)| is_free(*start))?;
    Some(start..start + wanted.len())
}

fn whole(line: &str) -> Range<usize> {
    line.len() - line.trim_start().len()..line.trim_end().len().max(line.len() - line.trim_start().len())
}

/// Where the line has this key, or the value behind it; the whole line when it has no such key.
fn key_or_value(line: &str, name: &str, mark: &Mark) -> Range<usize> {
    let name = name.trim_matches('"');
    let found: Vec<_> = keys(line).into_iter().filter(|(key, _)| line[key.clone()].trim_matches(['"', '\'']) == name).collect();
    let Some((key, value)) = (if *mark == Mark::LastKey { found.last() } else { found.first() }) else { return whole(line) };
    if *mark == Mark::Value && !value.is_empty() { value.clone() } else { key.clone() }
}

/// Every key of a line of TOML or YAML with the value behind it.
fn keys(line: &str) -> Vec<(Range<usize>, Range<usize>)> {
    let is_header = line.trim_start().starts_with('[');
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = line[at..].chars().next() {
        let end = match c {
            '#' => break,
            '"' | '\'' => quoted_end(line, at),
            _ if is_name(c) => at + line[at..].find(|c| !is_name(c)).unwrap_or(line.len() - at),
            _ => {
                at += c.len_utf8();
                continue;
            }
        };
        let after = &line[end..];
        let sign = after.trim_start();
        if sign.starts_with('=') || sign == ":" || sign.starts_with(": ") {
            let value_at = line.len() - sign[1..].trim_start().len();
            let value = value_at..value_end(line, value_at);
            found.push((at..end, value.clone()));
            // A table or a list may hold further keys.
            at = if line[value_at..].starts_with(['{', '[']) { value_at + 1 } else { value.end };
            continue;
        } else if after.starts_with('.') || (is_header && after.starts_with(']')) {
            found.push((at..end, end..end));
        }
        at = end.max(at + c.len_utf8());
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

/// The byte after the closing quote, or the line's end.
fn quoted_end(line: &str, start: usize) -> usize {
    let quote = line[start..].chars().next().unwrap_or('"');
    let mut escaped = false;
    for (n, c) in line[start..].char_indices().skip(1) {
        if c == quote && !escaped {
            return start + n + c.len_utf8();
        }
        escaped = c == '\\' && !escaped && quote == '"';
    }
    line.len()
}

fn value_end(line: &str, start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(c) = line[at..].chars().next() {
        match c {
            '"' | '\'' => {
                at = quoted_end(line, at);
                continue;
            }
            '[' | '{' => depth += 1,
            ']' | '}' | ',' if depth == 0 => break,
            ']' | '}' => depth -= 1,
            '#' if line[..at].ends_with(char::is_whitespace) => break,
            _ => {}
        }
        at += c.len_utf8();
    }
    start + line[start..at].trim_end().len()
}

/// Whether a key's value is not to be shown.
pub(crate) fn is_secret(key: &str) -> bool {
    let key = key.trim().trim_matches(['"', '\'']).to_lowercase();
    ["token", "key", "secret", "password"].iter().any(|word| key.ends_with(word))
}

fn excerpt(line: Option<usize>, text: &str, at: &Range<usize>) -> Excerpt {
    let masked: Vec<Range<usize>> = keys(text)
        .into_iter()
        .filter(|(key, value)| is_secret(&text[key.clone()]) && !value.is_empty())
        // What comes after an unreadable value may be the rest of it.
        .map(|(_, value)| if line.is_none() { value.start..text.len() } else { value })
        .collect();
    let mut cells: Vec<(usize, String, usize)> = Vec::new();
    for (byte, c) in text.char_indices() {
        if let Some(range) = masked.iter().find(|range| range.contains(&byte)) {
            if range.start == byte {
                cells.push((byte, "…".to_owned(), 1));
            }
            continue;
        }
        let shown = match c {
            '\t' => "    ".to_owned(),
            c if c.is_control() => c.escape_default().to_string(),
            c => c.to_string(),
        };
        let width = if c == '\t' || c.is_control() { shown.len() } else { c.width().unwrap_or(0) };
        cells.push((byte, shown, width));
    }
    // The column of a byte: what stands before it.
    let column_of = |cells: &[(usize, String, usize)], byte: usize| {
        cells.iter().filter(|(start, ..)| *start < byte).map(|(.., width)| width).sum::<usize>()
    };
    // A place inside a masked value is the mask.
    let out_of_mask = |byte: usize| masked.iter().find(|range| range.contains(&byte)).map_or(byte, |range| range.start);
    let start = column_of(&cells, out_of_mask(at.start));
    let end = column_of(&cells, at.end).max(start + 1);
    let total: usize = cells.iter().map(|(.., width)| width).sum();
    if total <= MAX_COLUMNS {
        return Excerpt { line, text: cells.into_iter().map(|(_, shown, _)| shown).collect(), column: start, width: end - start };
    }
    // The window keeps what is before the place in sight, and has a mark where it cuts.
    let from = start.saturating_sub(MAX_COLUMNS / 2).min(total - MAX_COLUMNS);
    let (mut shown, mut column, mut first) = (String::new(), 0, None);
    for (_, text, width) in &cells {
        if column >= from && column + width <= from + MAX_COLUMNS {
            first.get_or_insert(column);
            shown.push_str(text);
        }
        column += width;
    }
    let first = first.unwrap_or(from);
    let (before, after) = (if first > 0 { "…" } else { "" }, if first + MAX_COLUMNS < total { "…" } else { "" });
    let column = start.saturating_sub(first) + before.chars().count();
    let width = (end.min(first + MAX_COLUMNS)).saturating_sub(start).max(1);
    Excerpt { line, text: format!("{before}{shown}{after}"), column, width }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, at: Range<usize>) -> String {
        excerpt(Some(7), text, &at).to_string()
    }

    #[test]
    fn the_mark_is_below_what_it_means() {
        assert_eq!(shown("lr = x", 5..6), "    7 | lr = x\n      |      ^");
        assert_eq!(shown("\tlr = x", 6..7), "    7 |     lr = x\n      |          ^");
        // Two columns for each of these, none for the accent.
        assert_eq!(shown("名前 = e\u{301}x", 12..13), "    7 | 名前 = e\u{301}x\n      |         ^");
        assert_eq!(shown("a\u{1b}b", 2..3), "    7 | a\\u{1b}b\n      |        ^");
        assert_eq!(shown("", 0..0), "    7 | \n      | ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}HERE{}", "a".repeat(500), "b".repeat(500));
        let cut = excerpt(None, &text, &(500..504));
        assert_eq!(cut.text.chars().count(), MAX_COLUMNS + 2);
        assert_eq!(cut.text.chars().skip(cut.column).take(cut.width).collect::<String>(), "HERE");
        let start = excerpt(None, &text, &(0..2));
        assert!(start.text.starts_with('a') && start.text.ends_with('…') && start.column == 0);
        let end = excerpt(None, &text, &(1003..1004));
        assert_eq!(end.text.chars().nth(end.column), Some('b'));
        assert!(end.text.starts_with('…') && end.text.ends_with('b'));
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = ["hun", "ter2"].concat();
        let secret = secret.as_str();
        for text in [
            format!("api_key = \"{secret}\""),
            format!("hub.token: {secret}"),
            // In two pieces, since the repository is searched for such.
            ["{ \"pass", &format!("word\": '{secret}', x: 1 }}")].concat(),
            format!("CODEX_HUB__SECRET={secret} and, more"),
        ] {
            let line = if text.starts_with("CODEX") { None } else { Some(1) };
            let shown = excerpt(line, &text, &(text.find(secret).unwrap_or(0)..text.len())).to_string();
            assert!(!shown.contains(secret) && shown.contains('…') && shown.contains('^'), "{shown}");
        }
        assert!(excerpt(None, "train.max_tokens=3", &(0..1)).text.ends_with('3'));
    }

    #[test]
    fn keys_and_values_of_a_line() {
        let found = |line: &str| keys(line).into_iter().map(|(k, v)| format!("{}→{}", &line[k], &line[v])).collect::<Vec<_>>().join(" | ");
        assert_eq!(found("a = { b = 1, \"c d\" = [1, 2] } # e = 3"), "a→{ b = 1, \"c d\" = [1, 2] } | b→1 | \"c d\"→[1, 2]");
        assert_eq!(found("train.lr = 'x # y' # z"), "train→ | lr→'x # y'");
        assert_eq!(found("  - lr: a b # z"), "lr→a b");
        assert_eq!(found("[train.lora]"), "train→ | lora→");
        assert_eq!(found("é = \"open"), "é→\"open");
    }
}
