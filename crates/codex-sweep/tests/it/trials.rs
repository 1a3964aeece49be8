//! Which trials a sweep has.

use std::collections::BTreeSet;
use std::path::Path;

use codex_core::{Failure as _, files};
use codex_sweep::{Sweep, Value};
use proptest::prelude::*;

fn sweep(strategy: &str, more: &str, space: &str) -> Sweep {
    let text = format!("name = \"s\"\nstrategy = \"{strategy}\"\nmetric = \"loss\"\n{more}\n[space]\n{space}\n");
    Sweep::from_bytes(Path::new("s.toml"), text.into_bytes()).unwrap()
}

fn overrides(sweep: &Sweep) -> Vec<String> {
    (0..sweep.n_trials()).map(|index| sweep.trial(index).unwrap().overrides.join(" ")).collect()
}

#[test]
fn the_last_key_of_a_grid_is_the_fastest() {
    let grid =
        sweep("grid", "overrides = [\"train.steps=5\"]", "a.lr = [1e-3, 0.1]\nname = [\"x\", \"y z\"]\nn = { min = 2, max = 4, step = 2 }");
    assert_eq!(
        overrides(&grid),
        [
            "train.steps=5 a.lr=0.001 name=\"x\" n=2",
            "train.steps=5 a.lr=0.001 name=\"x\" n=4",
            "train.steps=5 a.lr=0.001 name=\"y z\" n=2",
            "train.steps=5 a.lr=0.001 name=\"y z\" n=4",
            "train.steps=5 a.lr=0.1 name=\"x\" n=2",
            "train.steps=5 a.lr=0.1 name=\"x\" n=4",
            "train.steps=5 a.lr=0.1 name=\"y z\" n=2",
            "train.steps=5 a.lr=0.1 name=\"y z\" n=4",
        ]
    );
    let last = grid.trial(7).unwrap();
    assert_eq!((last.index, last.name.as_str()), (7, "trial-0007"));
    assert_eq!(last.parameters[1], ("name".to_owned(), Value::Text("y z".to_owned())));
    let beyond = grid.trial(8).unwrap_err();
    assert_eq!(beyond.to_string(), "the sweep `s` has no trial 8: it has 8, counted from 0");
    assert_eq!(beyond.exit_class().code(), 2);
}

#[test]
fn lists_in_pairs_are_zipped() {
    let paired = sweep("paired", "", "a = [1, 2, 3]\nb = [\"x\", true, 0.5]");
    assert_eq!(overrides(&paired), ["a=1 b=\"x\"", "a=2 b=true", "a=3 b=0.5"]);
}

#[test]
fn random_trials_are_these() {
    // Literal values: a change of the draws would make other trials of every sweep that has been run.
    let random = sweep(
        "random",
        "n_trials = 2\nseed = 7",
        "lr = { min = 1e-5, max = 1e-1, scale = \"log\" }\nn = { min = 1, max = 64 }\nc = [\"x\", \"y\"]",
    );
    assert_eq!(overrides(&random), ["lr=0.014516590775757938 n=26 c=\"x\"", "lr=0.0006250863777177331 n=63 c=\"x\""]);
}

#[test]
fn the_digest_says_whether_the_trials_are_the_same() {
    let digest = |more: &str, space: &str| sweep("random", more, space).digest();
    let base = digest("n_trials = 5\nseed = 1", "a = [1, 2]");
    for same in ["n_trials = 50\nseed = 1", "n_trials = 5\nseed = 1\nparallel = 3", "# a remark\nn_trials = 5\nseed = 1"] {
        assert_eq!(digest(same, "a = [1, 2]"), base, "{same}");
    }
    for (more, space) in [
        ("n_trials = 5\nseed = 2", "a = [1, 2]"),
        ("n_trials = 5\nseed = 1\ngoal = \"maximize\"", "a = [1, 2]"),
        ("n_trials = 5\nseed = 1\noverrides = [\"b=1\"]", "a = [1, 2]"),
        ("n_trials = 5\nseed = 1", "a = [1, 2.0]"),
        ("n_trials = 5\nseed = 1", "a = [\"1\", 2]"),
        ("n_trials = 5\nseed = 1", "b = [1, 2]"),
        ("n_trials = 5\nseed = 1", "a = [1, 2]\n[stopping]\nstrategy = \"median\""),
    ] {
        assert_ne!(digest(more, space), base, "{more} {space}");
    }
    let launched = digest("n_trials = 5\nseed = 1", "a = [1, 2]\n[launcher]\nkind = \"ray\"");
    assert_eq!(launched, base, "who runs the trials does not change them");
}

#[test]
fn the_base_is_beside_the_sweep_file_and_in_the_digest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.toml");
    files::write_atomic(&path, b"name = \"s\"\nbase = \"b.toml\"\nstrategy = \"grid\"\nmetric = \"m\"\n[space]\na = [1]\n").unwrap();
    assert!(Sweep::load(&path).unwrap_err().to_string().contains("b.toml"));
    files::write_atomic(&dir.path().join("b.toml"), b"x = 1\n").unwrap();
    let first = Sweep::load(&path).unwrap();
    assert_eq!(first.base_config().unwrap(), dir.path().join("b.toml"));
    files::write_atomic(&dir.path().join("b.toml"), b"x = 2\n").unwrap();
    let second = Sweep::load(&path).unwrap();
    assert_ne!(first.digest(), second.digest());
    assert_ne!(first.trial(0).unwrap().digest, second.trial(0).unwrap().digest);
}

proptest! {
    #[test]
    fn a_grid_is_the_product_once_in_order(sizes in prop::collection::vec(1_usize..5, 1..5)) {
        let lines: Vec<String> = sizes.iter().enumerate()
            .map(|(n, size)| format!("k{n} = [{}]", (0..*size).map(|v| v.to_string()).collect::<Vec<_>>().join(", "))).collect();
        let grid = sweep("grid", "", &lines.join("\n"));
        prop_assert_eq!(grid.n_trials(), sizes.iter().product::<usize>());
        let trials: Vec<Vec<i64>> = (0..grid.n_trials()).map(|index| {
            let trial = grid.trial(index).unwrap();
            trial.parameters.iter().map(|(_, value)| match value { Value::Integer(n) => *n, other => panic!("{other}") }).collect()
        }).collect();
        // Counting upwards in the mixed radix of the sizes is the order of the words, and each word stands once.
        prop_assert!(trials.is_sorted_by(|a, b| a < b));
        prop_assert!(trials.iter().all(|trial| trial.iter().zip(&sizes).all(|(n, size)| (*n as usize) < *size)));
        let digests: BTreeSet<_> = (0..grid.n_trials()).map(|index| grid.trial(index).unwrap().digest).collect();
        prop_assert_eq!(digests.len(), grid.n_trials());
    }

    #[test]
    fn paired_trials_are_the_lists_side_by_side(values in prop::collection::vec((any::<i32>(), any::<bool>()), 1..20)) {
        let list = |items: Vec<String>| format!("[{}]", items.join(", "));
        let a = list(values.iter().map(|(a, _)| a.to_string()).collect());
        let b = list(values.iter().map(|(_, b)| b.to_string()).collect());
        let paired = sweep("paired", "", &format!("a = {a}\nb = {b}"));
        let expected: Vec<String> = values.iter().map(|(a, b)| format!("a={a} b={b}")).collect();
        prop_assert_eq!(overrides(&paired), expected);
    }

    #[test]
    fn a_random_trial_is_the_same_however_many_there_are(seed in 0_u64..1 << 60, index in 0_usize..40, more in 0_usize..1000) {
        let space = "lr = { min = 1e-5, max = 1.0, scale = \"log\" }\nn = { min = 1, max = 9 }\nc = [1, 2, 3]";
        let few = sweep("random", &format!("n_trials = {}\nseed = {seed}", index + 1), space);
        let many = sweep("random", &format!("n_trials = {}\nseed = {seed}", index + 1 + more), space);
        // Whatever was asked for before.
        let _earlier = many.trial(0).unwrap();
        prop_assert_eq!(few.trial(index).unwrap(), many.trial(index).unwrap());
        let longer = sweep("random", &format!("n_trials = {}\nseed = {seed}", index + 1), &format!("first = [1, 2]\n{space}"));
        prop_assert_eq!(&longer.trial(index).unwrap().parameters[1..], &few.trial(index).unwrap().parameters[..], "a new key changes no other");
    }

    #[test]
    fn an_override_parses_as_the_value_it_was(text in "\\PC*|[\\x00-\\x7f\"\\\\]*", number: i64, float in prop::num::f64::NORMAL | prop::num::f64::ZERO) {
        for value in [Value::Text(text), Value::Integer(number), Value::Float(float)] {
            let nested = Value::List(vec![value.clone(), Value::Boolean(true)]);
            for value in [value, nested] {
                let shown = value.to_string();
                prop_assert!(!shown.contains(char::is_control), "{shown:?}");
                let table: toml::Table = toml::from_str(&format!("v = {shown}")).unwrap();
                let back: Value = serde_json::from_value(serde_json::to_value(&table["v"]).unwrap()).unwrap();
                prop_assert_eq!(back, value);
            }
        }
    }
}
