//! What YAML's surprising readings come to here.

use crate::{Case, Schedule};

fn yaml(text: &str) -> Case {
    Case::new().file("run.yaml", text)
}

#[test]
fn yaml_and_toml_say_the_same() {
    let toml = "name = \"x\"\nseed = 3\n[model]\ntied = false\n[train]\nlearning_rate = 2e-4\nbetas = [0.8, 0.9]\nschedule = \"linear\"\n[data]\nweights = { a = 1, b = 2.5 }\n";
    let text = "name: x\nseed: 3\nmodel:\n  tied: false\ntrain:\n  learning_rate: 2e-4\n  betas: [0.8, 0.9]\n  schedule: linear\ndata:\n  weights:\n    a: 1\n    b: 2.5\n";
    let (a, b) = (Case::new().file("run.toml", toml).resolve().unwrap(), yaml(text).resolve().unwrap());
    assert_eq!(a.value, b.value);
    assert_eq!(a.digest(), b.digest());
    assert_eq!(b.value.train.schedule, Schedule::Linear);
    for (key, line) in [("name", 1), ("model.tied", 4), ("train.betas", 7), ("data.weights.b", 12)] {
        let source = b.source(key).to_string();
        assert!(source.ends_with(&format!("run.yaml:{line}")), "{key}: {source}");
    }
}

#[test]
fn the_groups_of_a_yaml_file() {
    assert_eq!(yaml("defaults: [model/small]\n").value().model.d_model, 128);
    assert_eq!(yaml("defaults:\n  - model/small\nmodel:\n  d_model: 16\n").value().model.d_model, 16);
}

#[test]
fn yes_and_no_are_text() {
    // The country code of Norway stays a string where a string is wanted.
    assert_eq!(yaml("name: no").value().name, "no");
    assert_eq!(yaml("train:\n  note: on").value().train.note.as_deref(), Some("on"));
    insta::assert_snapshot!(yaml("model:\n  tied: no").message(), @r#"
    run.yaml:2: `model.tied`: expected `true` or `false`, found string `no`
        2 |   tied: no
          |         ^^
      hint: write `false`
    "#);
    assert!(!yaml("model:\n  tied: False").value().model.tied);
}

#[test]
fn numbers_that_are_not_what_they_look_like() {
    // Octal, separators, sexagesimal: text, so refused where a number is wanted and kept letter by letter where a string is.
    for text in ["0755", "1_000", "1:30"] {
        assert_eq!(yaml(&format!("name: {text}")).value().name, text);
        assert!(yaml(&format!("seed: {text}")).resolve().is_err(), "{text}");
    }
    insta::assert_snapshot!(yaml("seed: 1_000").message(), @r#"
    run.yaml:1: `seed`: expected an integer of at least 0, found string `1_000`
        1 | seed: 1_000
          |       ^^^^^
      hint: write `1000`, without quotes, separators or leading zeros
    "#);
    // A number is no string: a version `1.10` must not become `1.1`.
    insta::assert_snapshot!(yaml("name: 1.10").message(), @r#"
    run.yaml:1: `name`: expected a string, found number `1.1`
        1 | name: 1.10
          |       ^^^^
      hint: put it in quotes
    "#);
    insta::assert_snapshot!(yaml("train:\n  max_steps: 1e3").message(), @r#"
    run.yaml:2: `train.max_steps`: expected an integer of at least 0, found number `1000.0`
        2 |   max_steps: 1e3
          |              ^^^
      hint: write `1000`, without a fraction or an exponent
    "#);
    assert_eq!(yaml("seed: 0x10").value().seed, 16);
    assert_eq!(yaml("seed: 0o17").value().seed, 15);
    insta::assert_snapshot!(yaml("train:\n  learning_rate: .nan").message(), @r#"
    run.yaml:2: `train.learning_rate`: not a finite number
        2 |   learning_rate: .nan
          |                  ^^^^
      hint: write a finite number
    "#);
    assert_eq!(yaml("train:\n  learning_rate: 1\ndata:\n  weights: {a: -3}").value().data.weights["a"].to_bits(), (-3_f64).to_bits());
    for text in ["99999999999999999999", "-99999999999999999999", "999999999999999999999999999999999999999999"] {
        assert!(yaml(&format!("seed: {text}")).resolve().is_err(), "{text}");
    }
    insta::assert_snapshot!(yaml("seed: 18446744073709551615").message(), @r#"
    run.yaml:1: `seed`: the integer is too large
        1 | seed: 18446744073709551615
          |       ^^^^^^^^^^^^^^^^^^^^
      hint: integers go from -9223372036854775808 to 9223372036854775807
    "#);
}

#[test]
fn a_null_is_refused() {
    insta::assert_snapshot!(yaml("seed: null\nname: ~\nmodel:\n").message(), @r#"
    run.yaml:1: `seed`: no value
        1 | seed: null
          |       ^^^^
      hint: leave the key out to keep what the layers below say; an empty string is `""`
    run.yaml:2: `name`: no value
        2 | name: ~
          |       ^
      hint: leave the key out to keep what the layers below say; an empty string is `""`
    run.yaml:3: `model`: no value
        3 | model:
          | ^^^^^
      hint: leave the key out to keep what the layers below say; an empty string is `""`
    "#);
}

#[test]
fn every_repeated_key_is_told() {
    insta::assert_snapshot!(yaml("seed: 1\nmodel:\n  tied: true\n  tied: false\nseed: 2\n").message(), @r#"
    run.yaml:4: `model.tied`: set twice, first on line 3
        4 |   tied: false
          |   ^^^^
      hint: keep one of the two
    run.yaml:5: `seed`: set twice, first on line 1
        5 | seed: 2
          | ^^^^
      hint: keep one of the two
    "#);
}

#[test]
fn what_else_yaml_can_do() {
    insta::assert_snapshot!(yaml("a: &x {seed: 1}\n<<: *x\n").message(), @r#"
    run.yaml:2: this YAML cannot be read: YAML merge keys are not allowed by configured policy
        2 | <<: *x
          | ^
    "#);
    insta::assert_snapshot!(yaml("seed: !mine 3\n").message(), @r#"
    run.yaml:1: this YAML cannot be read: unsupported tag `!mine`
        1 | seed: !mine 3
          |             ^
    "#);
    insta::assert_snapshot!(yaml("seed: 1\n---\nseed: 2\n").message(), @r#"
    run.yaml:2: this YAML cannot be read: it has more than one document
        2 | ---
          | ^
    "#);
    insta::assert_snapshot!(yaml("- 1\n- 2\n").message(), @r#"
    run.yaml:1: expected keys and values
        1 | - 1
          | ^^^
    "#);
    insta::assert_snapshot!(yaml("seed: [1, 2\nname: x\n").message(), @r#"
    run.yaml:2: this YAML cannot be read: illegal placement of ':' indicator
        2 | name: x
          |     ^
    "#);
    insta::assert_snapshot!(yaml(&format!("data: {}", "[".repeat(500))).message(), @r#"
    run.yaml:1: this YAML cannot be read: recursion limit exceeded
        1 | …[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[…
          |                                                              ^
    "#);
    insta::assert_snapshot!(yaml("1: x\n").message(), @r#"
    run.yaml:1: `1`: unknown key
        1 | 1: x
          | ^
      hint: known keys here: `data`, `model`, `name`, `seed`, `train`
    "#);
    let value = yaml("data:\n  weights:\n    a: &w 0.5\n    b: *w\n").value();
    assert_eq!(value.data.weights["a"].to_bits(), value.data.weights["b"].to_bits());
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (from, to) in ["a", "b", "c", "d", "e", "f", "g"].iter().zip(["b", "c", "d", "e", "f", "g", "h"]) {
        let ten = vec![format!("*{from}"); 10].join(",");
        text = format!("{text}{to}: &{to} [{ten}]\n");
    }
    assert!(yaml(&text).message().contains("this YAML cannot be read"), "{}", yaml(&text).message());
}
