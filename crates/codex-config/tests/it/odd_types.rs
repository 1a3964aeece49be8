//! Types of configurations that cannot be, or have rules of their own.

use std::num::NonZeroUsize;

use codex_config::{Layers, Problem, Schema};
use codex_core::{ExitClass, Failure};
use serde::{Deserialize, Serialize};

use crate::LIBRARY;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Unfit {
    #[serde(skip_serializing_if = "Option::is_none")]
    big: Option<u64>,
    seed: u64,
    ratio: f64,
}

impl Schema for Unfit {
    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct NoTable(u8);

impl Schema for NoTable {
    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }
}

#[test]
fn a_type_that_is_no_table_is_refused() {
    let error = Layers::<NoTable>::new(LIBRARY).resolve().map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "the configuration type cannot be used: the default is not a table");
    assert_eq!((error.exit_class(), error.hint()), (ExitClass::Usage, None));
    let resolved = Layers::<Unfit>::new(LIBRARY).overrides(&["seed=9223372036854775807".to_owned()]).resolve().unwrap();
    assert_eq!(resolved.value.seed, i64::MAX as u64);
}

/// A type with what TOML or figment alone would get wrong.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "RawOdd")]
struct Odd {
    low: f64,
    high: f64,
    mark: char,
    size: NonZeroUsize,
    pairs: Vec<[u8; 2]>,
    huge: u64,
}

#[derive(Deserialize)]
struct RawOdd {
    low: f64,
    high: f64,
    mark: char,
    size: NonZeroUsize,
    pairs: Vec<[u8; 2]>,
    huge: u64,
}

impl TryFrom<RawOdd> for Odd {
    type Error = String;

    fn try_from(RawOdd { low, high, mark, size, pairs, huge }: RawOdd) -> Result<Self, String> {
        if low < high { Ok(Self { low, high, mark, size, pairs, huge }) } else { Err("`low` is not below `high`".to_owned()) }
    }
}

impl Default for Odd {
    fn default() -> Self {
        Self { low: 0.0, high: 1.0, mark: 'x', size: NonZeroUsize::MIN, pairs: vec![[1, 2]], huge: u64::MAX }
    }
}

impl Schema for Odd {
    fn problems(&self) -> Vec<Problem> {
        vec![Problem::new("low", "always")].into_iter().filter(|_| self.low < 0.0).collect()
    }
}

fn odd(arguments: &[&str]) -> Result<String, String> {
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    Layers::<Odd>::new(LIBRARY).overrides(&arguments).resolve().map(|resolved| resolved.to_toml()).map_err(|error| error.to_string())
}

#[test]
fn a_type_with_rules_of_its_own() {
    let good = odd(&["huge=1", "low=5", "high=6", "mark=y", "pairs=[[3, 4], [5, 6]]"]);
    insta::assert_snapshot!(good.unwrap(), @r#"
    high = 6.0
    huge = 1
    low = 5.0
    mark = "y"
    pairs = [[3, 4], [5, 6]]
    size = 1
    "#);
    // TOML has no integer for this default, so that nobody could write the resolved config down.
    insta::assert_snapshot!(odd(&[]).unwrap_err(), @"the configuration type cannot be used: `huge`: TOML integers end at 9223372036854775807");
    insta::assert_snapshot!(odd(&["huge=1", "low=5"]).unwrap_err(), @r#"
    argument `low=5`: `low`: `low` is not below `high`
          | low=5
          |     ^
    "#);
    insta::assert_snapshot!(odd(&["huge=1", "low=5", "high=4", "size=0", "mark=yy"]).unwrap_err(), @r#"
    argument `low=5`: `low`: `low` is not below `high`
          | low=5
          |     ^
    argument `size=0`: `size`: expected an integer of at least 1, found integer `0`
          | size=0
          |      ^
    argument `mark=yy`: `mark`: expected a character, found string `yy`
          | mark=yy
          |      ^^
    "#);
    insta::assert_snapshot!(odd(&["huge=1", "pairs=[[1, 2, 3]]"]).unwrap_err(), @r#"
    argument `pairs=[[1, 2, 3]]`: `pairs`: a list has more values than the key takes: invalid length 3, expected fewer elements in array
          | pairs=[[1, 2, 3]]
          |       ^^^^^^^^^^^
    "#);
    insta::assert_snapshot!(odd(&["huge=1", "pairs=[[1, 300]]"]).unwrap_err(), @r#"
    argument `pairs=[[1, 300]]`: `pairs`: item 1, item 2: expected an integer from 0 to 255, found integer `300`
          | pairs=[[1, 300]]
          |       ^^^^^^^^^^
    "#);
    insta::assert_snapshot!(odd(&["huge=1", "low=-1"]).unwrap_err(), @r#"
    argument `low=-1`: `low`: always
          | low=-1
          |     ^^
    "#);
}
