//! What the beginning of a text says about how its rows are written.
//!
//! Only what is certain is said: prose that happens to begin with a bracket is none of these.

use codex_tokenize::chat::ChatValue;

use crate::conversation::FieldNames;
use crate::json_array::AFTER_THE_ARRAY;
use crate::row::RowFault;
use crate::row_stream::{Next, RowFormat, RowStream};

/// Rows that are looked at.
const ROWS_LOOKED_AT: usize = 64;

/// The beginning of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'t> {
    text: &'t [u8],
    /// Whether nothing follows.
    is_whole: bool,
    names: &'t FieldNames,
}

impl<'t> Evidence<'t> {
    pub(crate) fn new(text: &'t [u8], is_whole: bool, names: &'t FieldNames) -> Self {
        Self { text, is_whole, names }
    }

    /// Whether the first lines that are not blank are objects, all of them; and if so, whether the first has a field that is looked for.
    pub(crate) fn lines(&self) -> Option<bool> {
        let mut has_field = None;
        for line in self.whole_lines().take(ROWS_LOOKED_AT) {
            let row = object(line)?;
            has_field = has_field.or_else(|| Some(self.has_field(&row)));
        }
        has_field
    }

    /// Whether the first line is a whole object and the next begins as one, which no other writing of JSON does.
    pub(crate) fn begins_with_lines(&self) -> bool {
        let mut lines = self.text.split(|byte| *byte == b'\n').filter(|line| !is_blank(line));
        let first = lines.next().filter(|line| self.is_whole || line.len() < self.text.len());
        first.and_then(object).is_some() && lines.next().is_none_or(|line| line.trim_ascii_start().starts_with(b"{"))
    }

    /// Whether it is one array, whose first element is an object; and if so, whether that has a field that is looked for.
    pub(crate) fn array(&self) -> Option<bool> {
        let mut rows = RowStream::new(self.text, RowFormat::Array, self.text.len());
        let mut row = Vec::new();
        if !matches!(rows.next_row(&mut row), Ok(Next::Row)) {
            return None;
        }
        let has_field = self.has_field(&object(&row)?);
        loop {
            match rows.next_row(&mut row) {
                Ok(Next::Row) => {}
                Ok(Next::End) => return Some(has_field),
                // A line of several arrays, or something else altogether.
                Ok(Next::Bad(RowFault::NotJson { message }, _)) if message == AFTER_THE_ARRAY => return None,
                Ok(Next::Bad(..)) => return (!self.is_whole).then_some(has_field),
                Err(_) => return None,
            }
        }
    }

    /// Whether the first record has two names or more, one of them of a field that is looked for, and the second record fits them.
    pub(crate) fn table(&self, format: RowFormat) -> bool {
        let mut rows = RowStream::new(self.text, format, self.text.len());
        let mut row = Vec::new();
        if !matches!(rows.next_row(&mut row), Ok(Next::Row)) {
            return false;
        }
        let Some(row) = object(&row) else { return false };
        let ChatValue::Map(fields) = &row else { return false };
        let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
        fields.len() > 1 && fields.iter().all(|(name, _)| is_name(name)) && self.has_field(&row)
    }

    /// Lines whose ends are known, without blank ones.
    fn whole_lines(&self) -> impl Iterator<Item = &'t [u8]> {
        let end = if self.is_whole { self.text.len() } else { self.text.iter().rposition(|byte| *byte == b'\n').unwrap_or(0) };
        self.text[..end].split(|byte| *byte == b'\n').filter(|line| !is_blank(line))
    }

    fn has_field(&self, row: &ChatValue) -> bool {
        let has = |field: &str| row.get(field).is_some();
        has(&self.names.text) || has(&self.names.messages) || (has(&self.names.prompt) && has(&self.names.completion))
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

fn object(row: &[u8]) -> Option<ChatValue> {
    serde_json::from_slice(row).ok().filter(|row| matches!(row, ChatValue::Map(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(text: &str, is_whole: bool) -> (Option<bool>, bool, Option<bool>, bool, bool) {
        let names = FieldNames::with_text("text");
        let evidence = Evidence::new(text.as_bytes(), is_whole, &names);
        let table = |format| evidence.table(format);
        (evidence.lines(), evidence.begins_with_lines(), evidence.array(), table(RowFormat::Comma), table(RowFormat::Tab))
    }

    #[test]
    fn only_what_is_certain_is_said() {
        let nothing = (None, false, None, false, false);
        for text in
            ["", "\n \n", "prose", "[1] A footnote\n", "{", "{}x", "[]", "[1, 2]", "text, audio and video\nare, media\n", "text\na\n"]
        {
            assert_eq!(found(text, true), nothing, "{text}");
        }
        assert_eq!(found("{\"text\": 1}\n\n{\"a\": 2}", true), (Some(true), true, None, false, false));
        assert_eq!(found("{\"a\": 1}", true), (Some(false), true, None, false, false));
        assert_eq!(found("{\"a\": 1}", false), nothing, "the line may go on");
        assert_eq!(found("{\"a\": 1}\n{\"text\": \"cut", false), (Some(false), true, None, false, false));
        assert_eq!(found("{\"a\": 1}\noops\n", true), nothing);
        assert_eq!(found("{\"a\": 1}\n{oops\n", true), (None, true, None, false, false));
        assert_eq!(found("{\n\"a\": 1\n}", true), nothing);
        for (text, is_whole) in [("[{\"text\": 1}]", true), ("[\n{\"text\": 1},\n{}\n]\n", true), ("[{\"text\": 1}, {\"te", false)] {
            assert_eq!(found(text, is_whole), (None, false, Some(true), false, false), "{text}");
        }
        assert_eq!(found("[{\"a\": 1}, {\"te", true), nothing, "it has no end");
        assert_eq!(found("[{\"role\": 1}]\n[{\"role\": 2}]\n", true), nothing, "lines of arrays");
        assert_eq!(found("id,text\n1,\"a\nb\"\n", true), (None, false, None, true, false));
        assert_eq!(found("id\ttext\n1\ta\n", true), (None, false, None, false, true));
        assert_eq!(found("prompt,completion\na,b\n", true), (None, false, None, true, false));
        assert_eq!(found("id,text\n1\n", true), nothing);
        assert_eq!(found("id,name\n1,a\n", true), nothing);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), near in r#"([{}\[\]",:0-9a-z\\ \t]|"text"|\n){0,60}"#, is_whole: bool) {
            let names = FieldNames::with_text("text");
            for text in [bytes.as_slice(), near.as_bytes()] {
                let evidence = Evidence::new(text, is_whole, &names);
                let is_object = evidence.lines().is_some();
                prop_assert!(!(is_object && evidence.array().is_some()));
                prop_assert!(!(evidence.begins_with_lines() && evidence.table(RowFormat::Comma) && evidence.table(RowFormat::Tab)));
            }
        }
    }
}
