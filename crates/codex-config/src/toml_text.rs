//! TOML text to entries with lines. Spans come from the parser's own tree; one bad line does not hide the next.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{LocatedProblem, Mark};
use crate::layer::{Entry, MAX_SYNTAX_PROBLEMS, Node, Origin};

/// The top table's entries; `None` when the text is no TOML. Keys that are set twice are told and the first one stays.
pub(crate) fn entries(text: &str, origin: &Origin, problems: &mut Vec<LocatedProblem>) -> Option<Vec<Entry>> {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut broken = false;
    let (mut told, mut last_line) = (0, 0);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let line = lines.of_offset(span.start);
        let problem = if error.message() == "duplicate key" {
            duplicate(text, &lines, &table, span, origin)
        } else {
            broken = true;
            // What the parser says of the rest of a line follows from its first complaint.
            if line == last_line {
                continue;
            }
            last_line = line;
            let message = format!("this is not TOML: {}", error.message().replace('\n', "; "));
            let start = span.start - lines.start_of(line);
            LocatedProblem::new(origin.at(line), "", message, None).at(Mark::Bytes(start..start + (span.end - span.start).max(1)))
        };
        told += 1;
        if told > MAX_SYNTAX_PROBLEMS {
            broken = true;
            break;
        }
        problems.push(problem);
    }
    // Keys that stand twice leave the rest readable; anything else may have hidden keys.
    (!broken).then(|| table_entries(table.into_inner(), &lines))
}

/// One TOML value, as on the right of `=`; `None` when the text is none, or one that no configuration may hold.
pub(crate) fn value(text: &str) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    Some(node(value.into_inner(), &Lines::of(text)))
}

fn table_entries(table: DeTable<'_>, lines: &Lines) -> Vec<Entry> {
    let mut entries: Vec<(usize, Entry)> = table
        .into_iter()
        .map(|(key, value)| {
            let offset = key.span().start;
            (offset, Entry { name: key.into_inner().into_owned(), line: lines.of_offset(offset), node: node(value.into_inner(), lines) })
        })
        .collect();
    // In the order of the text, whatever order the parser's map has.
    entries.sort_by_key(|(offset, _)| *offset);
    entries.into_iter().map(|(_, entry)| entry).collect()
}

fn node(value: DeValue<'_>, lines: &Lines) -> Node {
    match value {
        DeValue::String(text) => Node::Scalar(text.into_owned().into()),
        DeValue::Boolean(yes) => Node::Scalar(yes.into()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Node::Scalar(number.into()),
            Err(_) => Node::too_large(),
        },
        DeValue::Float(number) => Node::float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Datetime(_) => Node::refused("a date or time is no value of a configuration", "put it in quotes to have it as a string"),
        DeValue::Array(items) => Node::List(items.into_iter().map(|item| node(item.into_inner(), lines)).collect()),
        DeValue::Table(table) => Node::Table(table_entries(table, lines)),
    }
}

/// The problem of a key that is set twice. The parser tells the second place only; the first is the nearest same name before it.
fn duplicate(text: &str, lines: &Lines, table: &Spanned<DeTable<'_>>, span: std::ops::Range<usize>, origin: &Origin) -> LocatedProblem {
    let written = text.get(span.clone()).unwrap_or_default().trim();
    let name = written.trim_matches(['"', '\'']);
    let place = origin.at(lines.of_offset(span.start));
    // Of a table that is opened twice the parser keeps the later header, so the earlier one is looked for in the text.
    let start = text[..span.start].rfind('\n').map_or(0, |end| end + 1);
    let header = text[start..].lines().next().and_then(|line| line.split_once(']')).map(|(header, _)| header.trim());
    if let Some(header) = header.filter(|header| header.starts_with('[') && !header.starts_with("[[")) {
        let line = text.lines().position(|line| line.trim().split_once(']').is_some_and(|(earlier, _)| earlier == header));
        let first = line.map(|line| line + 1).filter(|line| *line < lines.of_offset(span.start));
        let message = first
            .map_or_else(|| "this table is there already".to_owned(), |line| format!("this table is opened twice, first on line {line}"));
        let hint = Some("put its keys below one header".to_owned());
        return LocatedProblem::new(place, header.trim_start_matches('[').trim(), message, hint).at(Mark::Line);
    }
    let mut first = None;
    nearest_before(table.get_ref(), name, span.start, &mut Vec::new(), &mut first);
    let (key, message) = match first {
        Some((offset, path)) => (crate::key::dotted(&path), format!("set twice, first on line {}", lines.of_offset(offset))),
        None => (name.to_owned(), "set twice".to_owned()),
    };
    let start = span.start - lines.start_of(lines.of_offset(span.start));
    LocatedProblem::new(place, key, message, Some("keep one of the two".to_owned())).at(Mark::Bytes(start..start + span.len()))
}

fn nearest_before(table: &DeTable<'_>, name: &str, end: usize, above: &mut Vec<String>, best: &mut Option<(usize, Vec<String>)>) {
    for (key, value) in table {
        above.push(key.get_ref().to_string());
        let start = key.span().start;
        if key.get_ref() == name && start < end && best.as_ref().is_none_or(|(offset, _)| start > *offset) {
            *best = Some((start, above.clone()));
        }
        if let Some(inner) = value.get_ref().as_table() {
            nearest_before(inner, name, end, above, best);
        }
        above.pop();
    }
}

/// The offsets at which lines start.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(n, _)| n + 1)).collect())
    }

    /// The offset at which a line, counted from 1, starts.
    fn start_of(&self, line: usize) -> usize {
        line.checked_sub(1).and_then(|idx| self.0.get(idx)).copied().unwrap_or(0)
    }

    /// The line, from 1, that holds this offset.
    fn of_offset(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_from_one() {
        let lines = Lines::of("ab\ncd\n");
        assert_eq!([0, 2, 3, 5, 6, 99].map(|offset| lines.of_offset(offset)), [1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn a_value_is_whole_or_none() {
        assert!(matches!(value("3"), Some(Node::Scalar(_))));
        assert!(matches!(value("[1, 2]"), Some(Node::List(items)) if items.len() == 2));
        assert!(matches!(value("1979-05-27"), Some(Node::Refused { .. })));
        assert!(matches!(value("9223372036854775808"), Some(Node::Refused { .. })));
        for text in ["", "text", "3 4", "1\n[x]", "01", "True"] {
            assert!(value(text).is_none(), "{text}");
        }
    }
}
