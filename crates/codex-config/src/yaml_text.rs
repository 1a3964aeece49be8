//! YAML text to entries with lines, through serde-saphyr's spans.
//!
//! The readings of YAML 1.1 that surprise are off: `yes`, `no`, `on` and `off` are strings, and so are `0755`, `1_000` and `1:30`. Merge keys
//! (`<<`) and unknown tags are refused; anchors may be used. A key without a value is refused, since no other format can say it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{NonFiniteFloatPolicy, Options, Spanned};

use crate::error::{LocatedProblem, Mark};
use crate::layer::{Entry, MAX_DEPTH, Node, Origin};

/// The top table's entries; `None` when the text is no YAML. An empty text has no entries.
pub(crate) fn entries(text: &str, origin: &Origin, problems: &mut Vec<LocatedProblem>) -> Option<Vec<Entry>> {
    let mut tell = |line: usize, message: String, mark: Mark| {
        problems.push(LocatedProblem::new(origin.at(line.max(1)), "", message, None).at(mark));
    };
    match serde_saphyr::from_str_with_options::<Spanned<Found>>(text, options()) {
        Ok(Spanned { value: Found(Some(Node::Table(entries))), .. }) => Some(entries),
        Ok(Spanned { value: Found(None), .. }) => Some(Vec::new()),
        Ok(found) => {
            tell(found.referenced.line() as usize, "expected keys and values".to_owned(), Mark::Line);
            None
        }
        Err(error) => {
            let (line, column) = error.location().map_or((1, 1), |place| (place.line() as usize, place.column() as usize));
            let start = column_offset(text, line, column);
            tell(line, format!("this YAML cannot be read: {}", said(&error)), Mark::Bytes(start..start + 1));
            None
        }
    }
}

/// The byte within its line of a column that counts characters from 1.
fn column_offset(text: &str, line: usize, column: usize) -> usize {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    line.char_indices().nth(column.saturating_sub(1)).map_or(line.len(), |(offset, _)| offset)
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_documents: 1,
            max_nodes: 100_000,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        // Both entries are passed on, so that every such key is told with both lines.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    }
}

/// The parser's message on one line, without the place, which the problem has already.
fn said(error: &serde_saphyr::Error) -> String {
    match error.without_snippet() {
        serde_saphyr::Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => "it has more than one document".to_owned(),
        serde_saphyr::Error::Budget { .. } => "it is too large or nested too deeply".to_owned(),
        other => {
            let text = other.to_string();
            let text = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
            text.split_once(" at line ").map_or(text.clone(), |(said, _)| said.to_owned())
        }
    }
}

/// A node; `None` for a null.
struct Found(Option<Node>);

impl<'de> Deserialize<'de> for Found {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FoundVisitor)
    }
}

impl Found {
    fn node(self) -> Node {
        self.0.unwrap_or(Node::Null)
    }
}

struct FoundVisitor;

impl<'de> Visitor<'de> for FoundVisitor {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number, a boolean, a list or a table")
    }

    fn visit_bool<E: Error>(self, yes: bool) -> Result<Found, E> {
        Ok(Found(Some(Node::Scalar(yes.into()))))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Found, E> {
        Ok(Found(Some(Node::Scalar(number.into()))))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Found, E> {
        Ok(Found(Some(i64::try_from(number).map_or_else(|_| Node::too_large(), |number| Node::Scalar(number.into())))))
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Found, E> {
        Ok(Found(Some(Node::too_large())))
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Found, E> {
        Ok(Found(Some(Node::too_large())))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Found, E> {
        Ok(Found(Some(Node::float(number))))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Found, E> {
        Ok(Found(Some(Node::Scalar(text.into()))))
    }

    fn visit_unit<E: Error>(self) -> Result<Found, E> {
        Ok(Found(None))
    }

    fn visit_none<E: Error>(self) -> Result<Found, E> {
        Ok(Found(None))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        Found::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Found, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Found>()? {
            items.push(item.node());
        }
        Ok(Found(Some(Node::List(items))))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Found>()? {
            entries.push(Entry { name: key.value, line: key.referenced.line() as usize, node: value.node() });
        }
        Ok(Found(Some(Node::Table(entries))))
    }
}
