//! What sets two resolved configurations apart, key by key.

use std::collections::BTreeMap;
use std::fmt;

use crate::resolved::{Resolved, Row};
use crate::source::Source;

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The value as TOML; `unset` for an option that has none.
    pub value: String,
    /// The place that set it.
    pub source: Source,
}

/// A key whose value is not the same in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The dotted key.
    pub key: String,
    /// In the first; `None` when it has no such key.
    pub first: Option<Side>,
    /// In the second; `None` when it has no such key.
    pub second: Option<Side>,
}

/// ``model.d_model: 32 (compiled-in `model/tiny`:2) -> 64 (run.toml:3)``
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |side: &Option<Side>| {
            side.as_ref().map_or_else(|| "no such key".to_owned(), |side| format!("{} ({})", side.value, side.source))
        };
        write!(f, "{}: {} -> {}", self.key, side(&self.first), side(&self.second))
    }
}

/// Two configurations side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Every key with two values, sorted by key.
    pub differences: Vec<Difference>,
    /// Whether both have one digest; then there are no differences.
    pub same_digest: bool,
}

/// Compares two configurations, also of different types. Where only the source of a value differs, the value is the same.
pub fn diff<A, B>(a: &Resolved<A>, b: &Resolved<B>) -> Comparison {
    let sides = |rows: &[Row]| -> BTreeMap<String, Side> {
        rows.iter().map(|row| (row.key.clone(), Side { value: row.value.clone(), source: row.source.clone() })).collect()
    };
    let (mut first, mut second) = (sides(a.rows()), sides(b.rows()));
    let keys: Vec<String> = first.keys().chain(second.keys()).cloned().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    let differences = keys
        .into_iter()
        .map(|key| Difference { first: first.remove(&key), second: second.remove(&key), key })
        .filter(|difference| difference.first.as_ref().map(|side| &side.value) != difference.second.as_ref().map(|side| &side.value))
        .collect();
    Comparison { differences, same_digest: a.digest() == b.digest() }
}
