//! Arguments that are none, and all problems of all layers at once: the complete message of each.

use insta::assert_snapshot;

use crate::Case;
use crate::bad_inputs::args;

#[test]
fn arguments_that_are_no_assignment() {
    assert_snapshot!(args(&["seed", "seed==1", "a..b=1", "--seed=1", "data.paths[0]=x"]), @r#"
    argument `seed`: expected `key=value`
          | seed
          |     ^
      hint: a key is names joined by dots, as in `train.learning_rate=3e-4`; `~key` takes a value away
    argument `seed==1`: a second `=`
          | seed==1
          |      ^
      hint: write `key=value`; a value with `=` belongs in quotes: `key='=1'`
    argument `a..b=1`: an empty name in the key
          | a..b=1
          |   ^
      hint: names are joined by single dots
    argument `--seed=1`: a key does not begin with `-`
          | --seed=1
          | ^
      hint: an override is written `key=value`, without dashes
    argument `data.paths[0]=x`: a key has no brackets
          | data.paths[0]=x
          |           ^
      hint: an item of a list is written `paths.0=x`
    "#);
}

#[test]
fn every_problem_at_once() {
    let case = Case::new()
        .file(
            "run.toml",
            "sed = 1\n[model]\ntied = \"no\"\ndropout = 0.1\ndropout = 0.2\n[train]\nlearning_rate = -1\nschedule = \"cosin\"\n",
        )
        .env("CODEX_TRAIN__MAX_STEP", "5")
        .arg("train.max_steps=many")
        .arg("nonsense");
    assert_snapshot!(case.message(), @r#"
    run.toml:1: `sed`: unknown key
        1 | sed = 1
          | ^^^
      hint: did you mean `seed`?
    run.toml:3: `model.tied`: expected `true` or `false`, found string `no`
        3 | tied = "no"
          |        ^^^^
      hint: write `false`
    run.toml:5: `model.dropout`: set twice, first on line 4
        5 | dropout = 0.2
          | ^^^^^^^
      hint: keep one of the two
    run.toml:7: `train.learning_rate`: `-1` is not above 0
        7 | learning_rate = -1
          |                 ^^
    run.toml:8: `train.schedule`: unknown value `cosin`; expected one of `cosine`, `linear`, `constant`
        8 | schedule = "cosin"
          |            ^^^^^^^
      hint: did you mean `cosine`?
    environment `CODEX_TRAIN__MAX_STEP`: `train.max_step`: unknown key
          | CODEX_TRAIN__MAX_STEP=5
          | ^^^^^^^^^^^^^^^^^^^^^
      hint: did you mean `CODEX_TRAIN__MAX_STEPS`?
    argument `train.max_steps=many`: `train.max_steps`: expected an integer of at least 0, found string `many`
          | train.max_steps=many
          |                 ^^^^
    argument `nonsense`: expected `key=value`
          | nonsense
          |         ^
      hint: a key is names joined by dots, as in `train.learning_rate=3e-4`; `~key` takes a value away
    "#);
}
