//! Environment variables as a layer: `CODEX_TRAIN__LEARNING_RATE` sets `train.learning_rate`.
//!
//! A name with `__` after the prefix is meant for the configuration, and an unknown one is a problem. A name without sets a top-level value when
//! there is one of that name; any other (`CODEX_LOG`, `CODEX_MODEL` where `model` is a table) is none of our business.

use std::collections::BTreeMap;

use crate::argument::set_text;
use crate::error::{LocatedProblem, Mark};
use crate::key::{KeyPath, dotted};
use crate::layer::{Layer, MAX_DEPTH};
use crate::schema::Known;
use crate::source::Source;

/// The layer that these variables set; each name has the prefix.
pub(crate) fn layer(prefix: &str, variables: &BTreeMap<String, String>, known: &Known, problems: &mut Vec<LocatedProblem>) -> Layer {
    let mut layer = Layer { prefix: Some(prefix.to_owned()), ..Layer::default() };
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix(prefix) else { continue };
        let path: KeyPath = rest.split("__").map(str::to_lowercase).collect();
        if path.len() == 1 && known.at(&path).is_none_or(Known::is_table) {
            continue;
        }
        let place = Source::Environment { name: name.clone() };
        let wrong = if path.len() > MAX_DEPTH {
            format!("nested deeper than {MAX_DEPTH} levels")
        } else if path.iter().any(String::is_empty) {
            "an empty name between two `__`".to_owned()
        } else if set_text(&mut layer, &path, value, &place) {
            continue;
        } else {
            let first = layer.place(&path);
            format!("set twice, first by {first}")
        };
        problems.push(LocatedProblem::new(place, dotted(&path), wrong, None).at(Mark::Key));
    }
    layer
}
