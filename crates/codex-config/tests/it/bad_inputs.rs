//! Bad inputs and the complete message of each.

use insta::assert_snapshot;

use crate::Case;

fn toml(text: &str) -> String {
    Case::new().file("run.toml", text).message()
}

pub(crate) fn args(arguments: &[&str]) -> String {
    arguments.iter().fold(Case::new(), |case, text| case.arg(text)).message()
}

#[test]
fn unknown_keys() {
    assert_snapshot!(toml("[train]\nlearning_rat = 1\n"), @r#"
    run.toml:2: `train.learning_rat`: unknown key
        2 | learning_rat = 1
          | ^^^^^^^^^^^^
      hint: did you mean `train.learning_rate`?
    "#);
    assert_snapshot!(toml("learning_rate = 1\n"), @r#"
    run.toml:1: `learning_rate`: unknown key
        1 | learning_rate = 1
          | ^^^^^^^^^^^^^
      hint: did you mean `train.learning_rate`?
    "#);
    assert_snapshot!(toml("[trian]\nlearning_rate = 1\nmax_steps = 3\n"), @r#"
    run.toml:1: `trian`: unknown key
        1 | [trian]
          |  ^^^^^
      hint: did you mean `train`?
    "#);
    assert_snapshot!(toml("[train]\nzzz = 1\n"), @r#"
    run.toml:2: `train.zzz`: unknown key
        2 | zzz = 1
          | ^^^
      hint: known keys here: `betas`, `early_stop`, `learning_rate`, `lora`, `max_steps`, `note`, `schedule`
    "#);
    assert_snapshot!(toml("\"train.max_steps\" = 1\n"), @r#"
    run.toml:1: `"train.max_steps"`: unknown key
        1 | "train.max_steps" = 1
          | ^^^^^^^^^^^^^^^^^^^^^
      hint: did you mean `train.max_steps`?
    "#);
    assert_snapshot!(args(&["train.learnin_rate=1"]), @r#"
    argument `train.learnin_rate=1`: `train.learnin_rate`: unknown key
          | train.learnin_rate=1
          | ^^^^^^^^^^^^^^^^^^
      hint: did you mean `train.learning_rate`?
    "#);
    assert_snapshot!(args(&["defaults=[\"model/tiny\"]"]), @r#"
    argument `defaults=["model/tiny"]`: `defaults`: unknown key
          | defaults=["model/tiny"]
          | ^^^^^^^^
      hint: `defaults` belongs in a file; here choose a group by `model=small`
    "#);
    assert_snapshot!(Case::new().env("CODEX_TRAIN__LEARNING_RAT", "1").message(), @r#"
    environment `CODEX_TRAIN__LEARNING_RAT`: `train.learning_rat`: unknown key
          | CODEX_TRAIN__LEARNING_RAT=1
          | ^^^^^^^^^^^^^^^^^^^^^^^^^
      hint: did you mean `CODEX_TRAIN__LEARNING_RATE`?
    "#);
    assert_snapshot!(Case::new().env("CODEX_TRAIN____X", "1").env("CODEX___", "1").message(), @r#"
    environment `CODEX_TRAIN____X`: `train."".x`: an empty name between two `__`
          | CODEX_TRAIN____X=1
          | ^^^^^^^^^^^^^^^^
    environment `CODEX___`: `"".""`: an empty name between two `__`
          | CODEX___=1
          | ^^^^^^^^
    "#);
}

#[test]
fn keys_set_twice() {
    assert_snapshot!(toml("seed = 1\n[model]\ntied = true\ndropout = 0.1\ntied = false\n"), @r#"
    run.toml:5: `model.tied`: set twice, first on line 3
        5 | tied = false
          | ^^^^
      hint: keep one of the two
    "#);
    assert_snapshot!(toml("[model]\ntied = true\n[model]\ndropout = 0.1\n"), @r#"
    run.toml:3: `model`: this table is opened twice, first on line 1
        3 | [model]
          | ^^^^^^^
      hint: put its keys below one header
    "#);
    assert_snapshot!(toml("data.weights = { a = 1, a = 2 }\n"), @r#"
    run.toml:1: `data.weights.a`: set twice, first on line 1
        1 | data.weights = { a = 1, a = 2 }
          |                         ^
      hint: keep one of the two
    "#);
    assert_snapshot!(args(&["seed=1", "seed=2"]), @r#"
    argument `seed=2`: `seed`: set twice, first by argument `seed=1`
          | seed=2
          | ^^^^
      hint: keep one of the two
    "#);
    assert_snapshot!(args(&["train={ max_steps = 1 }", "train.max_steps=2"]), @r#"
    argument `train.max_steps=2`: `train.max_steps`: set twice, first by argument `train={ max_steps = 1 }`
          | train.max_steps=2
          | ^^^^^^^^^^^^^^^
      hint: keep one of the two
    "#);
    assert_snapshot!(args(&["model=tiny", "model=small"]), @r#"
    argument `model=small`: `model`: set twice, first by argument `model=tiny`
          | model=small
          | ^^^^^
      hint: keep one of the two
    "#);
    assert_snapshot!(Case::new().env("CODEX_TRAIN__max_steps", "1").env("CODEX_TRAIN__MAX_STEPS", "1").message(), @r#"
    environment `CODEX_TRAIN__max_steps`: `train.max_steps`: set twice, first by environment `CODEX_TRAIN__MAX_STEPS`
          | CODEX_TRAIN__max_steps=1
          | ^^^^^^^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn wrong_types() {
    assert_snapshot!(toml("[train]\nmax_steps = -1\n"), @r#"
    run.toml:2: `train.max_steps`: expected an integer of at least 0, found integer `-1`
        2 | max_steps = -1
          |             ^^
    "#);
    assert_snapshot!(toml("[train]\nmax_steps = 1e3\n"), @r#"
    run.toml:2: `train.max_steps`: expected an integer of at least 0, found number `1000.0`
        2 | max_steps = 1e3
          |             ^^^
      hint: write `1000`, without a fraction or an exponent
    "#);
    assert_snapshot!(toml("[train]\nmax_steps = \"1_000\"\n"), @r#"
    run.toml:2: `train.max_steps`: expected an integer of at least 0, found string `1_000`
        2 | max_steps = "1_000"
          |             ^^^^^^^
      hint: write `1000`, without quotes, separators or leading zeros
    "#);
    assert_snapshot!(toml("[train]\nschedule = \"cosin\"\n"), @r#"
    run.toml:2: `train.schedule`: unknown value `cosin`; expected one of `cosine`, `linear`, `constant`
        2 | schedule = "cosin"
          |            ^^^^^^^
      hint: did you mean `cosine`?
    "#);
    assert_snapshot!(toml("[train]\nschedule = 1\n"), @r#"
    run.toml:2: `train.schedule`: expected one of `cosine`, `linear`, `constant`, found integer `1`
        2 | schedule = 1
          |            ^
    "#);
    assert_snapshot!(toml("name = 2024\n"), @r#"
    run.toml:1: `name`: expected a string, found integer `2024`
        1 | name = 2024
          |        ^^^^
      hint: put it in quotes
    "#);
    assert_snapshot!(toml("name = 2024-01-01\n"), @r#"
    run.toml:1: `name`: a date or time is no value of a configuration
        1 | name = 2024-01-01
          |        ^^^^^^^^^^
      hint: put it in quotes to have it as a string
    "#);
    assert_snapshot!(toml("[model]\ntied = \"yes\"\n"), @r#"
    run.toml:2: `model.tied`: expected `true` or `false`, found string `yes`
        2 | tied = "yes"
          |        ^^^^^
      hint: write `true`
    "#);
}

#[test]
fn wrong_shapes() {
    assert_snapshot!(toml("train = 3\n[data]\nweights = 1\n"), @r#"
    run.toml:1: `train`: expected a table, found integer `3`
        1 | train = 3
          |         ^
      hint: its keys: `betas`, `early_stop`, `learning_rate`, `lora`, `max_steps`, `note`, `schedule`
    run.toml:3: `data.weights`: expected a table, found integer `1`
        3 | weights = 1
          |           ^
    "#);
    assert_snapshot!(toml("[train.learning_rate]\nvalue = 1\n"), @r#"
    run.toml:2: `train.learning_rate`: expected a number, found a table
        2 | value = 1
          | ^^^^^^^^^
    "#);
    assert_snapshot!(toml("[train]\nbetas = [0.9, \"x\"]\n"), @r#"
    run.toml:2: `train.betas`: item 2: expected a number, found string `x`
        2 | betas = [0.9, "x"]
          |         ^^^^^^^^^^
    "#);
    assert_snapshot!(toml("[train]\nbetas = [0.9, 0.9, 0.9]\n"), @r#"
    run.toml:2: `train.betas`: expected a list of 2 values, found 3 values
        2 | betas = [0.9, 0.9, 0.9]
          |         ^^^^^^^^^^^^^^^
    "#);
    assert_snapshot!(toml("[data.weights]\na = 1\nb = \"x\"\n"), @r#"
    run.toml:3: `data.weights.b`: expected a number, found string `x`
        3 | b = "x"
          |     ^^^
    "#);
    assert_snapshot!(toml("[train.lora]\nrank = 4\n"), @r#"
    run.toml:2: `train.lora.alpha`: this key has to be set when others of its table are
        2 | rank = 4
          | ^^^^^^^^
    "#);
    assert_snapshot!(toml("[train.lora]\nrank = 4\nalpha = 2\nrnk = 4\n"), @r#"
    run.toml:4: `train.lora.rnk`: unknown key
        4 | rnk = 4
          | ^^^
      hint: did you mean `rank`?
    "#);
    assert_snapshot!(toml("[data.span]\nfrom = 50\n"), @r#"
    run.toml:2: `data.span`: `from` 50 is not below `to` 10
        2 | from = 50
          | ^^^^^^^^^
    "#);
    assert_snapshot!(toml("seed = 99999999999999999999\ntrain.learning_rate = inf\n"), @r#"
    run.toml:1: `seed`: the integer is too large
        1 | seed = 99999999999999999999
          |        ^^^^^^^^^^^^^^^^^^^^
      hint: integers go from -9223372036854775808 to 9223372036854775807
    run.toml:2: `train.learning_rate`: not a finite number
        2 | train.learning_rate = inf
          |                       ^^^
      hint: write a finite number
    "#);
    assert_snapshot!(args(&["train.max_steps=many", "data.paths=[a,b]", "train.betas.0=1"]), @r#"
    argument `train.max_steps=many`: `train.max_steps`: expected an integer of at least 0, found string `many`
          | train.max_steps=many
          |                 ^^^^
    "#);
    assert_snapshot!(Case::new().env("CODEX_MODEL__TIED", "True").message(), @r#"
    environment `CODEX_MODEL__TIED`: `model.tied`: expected `true` or `false`, found string `True`
          | CODEX_MODEL__TIED=True
          |                   ^^^^
      hint: write `true`
    "#);
}

#[test]
fn values_of_the_right_type_that_mean_nothing() {
    assert_snapshot!(toml("[train]\nlearning_rate = -0.5\n"), @r#"
    run.toml:2: `train.learning_rate`: `-0.5` is not above 0
        2 | learning_rate = -0.5
          |                 ^^^^
    "#);
    assert_snapshot!(args(&["model.n_heads=3"]), @r#"
    compiled-in `model/tiny`:2: `model.d_model`: `32` is no multiple of `model.n_heads`, which is `3`
        2 | d_model = 32
          |           ^^
      hint: choose `n_heads` among the divisors of `d_model`
    "#);
}

#[test]
fn a_misspelled_key_causes_no_second_problem() {
    assert_snapshot!(toml("[model]\nd_model = 96\nn_haeds = 3\n[train]\nlearning_rate = 0\n"), @r#"
    run.toml:3: `model.n_haeds`: unknown key
        3 | n_haeds = 3
          | ^^^^^^^
      hint: did you mean `model.n_heads`?
    run.toml:5: `train.learning_rate`: `0` is not above 0
        5 | learning_rate = 0
          |                 ^
    "#);
}

#[test]
fn text_that_is_no_toml() {
    assert_snapshot!(toml("seed = 1\nname = \"open\nmodel = = 2\n"), @r#"
    run.toml:2: this is not TOML: invalid basic string, expected `"`
        2 | name = "open
          |             ^
    run.toml:3: this is not TOML: extra `=`, expected nothing
        3 | model = = 2
          |         ^
    "#);
    assert_snapshot!(Case::new().file("run.toml", b"seed = 1\nname = \"\xff\"\n").message(), @"run.toml:2: this is not UTF-8 text");
    assert_snapshot!(Case::new().file("run.toml", format!("data.weights.a = {}1{}", "[".repeat(70), "]".repeat(70))).message(), @r#"
    run.toml:1: `data.weights.a`: nested deeper than 64 levels
        1 | data.weights.a = [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]…
          |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn groups() {
    assert_snapshot!(toml("defaults = [\"model/tinny\"]\n"), @r#"
    run.toml:1: no group `model/tinny`; looked for `model/tinny.toml`, the compiled-in configs
        1 | defaults = ["model/tinny"]
          |                    ^^^^^
      hint: did you mean `model/tiny`? known groups: `model/small`, `model/tiny`
    "#);
    assert_snapshot!(toml("defaults = [\"../secret\"]\n"), @r#"
    run.toml:1: `../secret` is no group name
        1 | defaults = ["../secret"]
          |                 ^^^^^^
      hint: a group is a file's path below a config folder, without its ending, as `model/tiny`
    "#);
    assert_snapshot!(toml("defaults = \"model/tiny\"\n"), @r#"
    run.toml:1: `defaults`: expected a list of group names
        1 | defaults = "model/tiny"
          | ^^^^^^^^
      hint: write `defaults = ["model/tiny"]` or `defaults = [{ model = "tiny" }]`
    "#);
    assert_snapshot!(args(&["model=smal"]), @r#"
    argument `model=smal`: no group `model/smal`; looked for the compiled-in configs
          | model=smal
          |       ^^^^
      hint: did you mean `model/small`? known groups: `model/small`, `model/tiny`
    "#);
    assert_snapshot!(args(&["model=3"]), @r#"
    argument `model=3`: `model`: expected a table, found integer `3`
          | model=3
          |       ^
      hint: its keys: `d_model`, `dropout`, `n_heads`, `tied`
    "#);
    assert_snapshot!(args(&["train=fast"]), @r#"
    argument `train=fast`: no group `train/fast`; looked for the compiled-in configs
          | train=fast
          |       ^^^^
      hint: known groups: `model/small`, `model/tiny`
    "#);
    let ring =
        Case::new().file("run.toml", "defaults = [\"a\"]").beside("a.toml", "defaults = [\"b\"]").beside("b.toml", "\ndefaults = [\"a\"]");
    assert_snapshot!(ring.message(), @r#"
    b.toml:2: the group `a` includes itself: `a` -> `b` -> `a`
        2 | defaults = ["a"]
          |              ^
    "#);
    let nearby = Case::new().file("run.toml", "defaults = [\"size/larg\"]").beside("configs/size/large.toml", "").search("configs");
    assert_snapshot!(nearby.message(), @r#"
    run.toml:1: no group `size/larg`; looked for `size/larg.toml`, `configs/size/larg.toml`, the compiled-in configs
        1 | defaults = ["size/larg"]
          |                   ^^^^
      hint: did you mean `size/large`? known groups: `size/large`
    "#);
    let inside = Case::new().file("run.toml", "defaults = [\"model/mine\"]").beside("model/mine.toml", "n_layers = 3\ntied = true\n");
    assert_snapshot!(inside.message(), @r#"
    model/mine.toml:1: `n_layers`: unknown key
        1 | n_layers = 3
          | ^^^^^^^^
      hint: known keys here: `data`, `model`, `name`, `seed`, `train`
    model/mine.toml:2: `tied`: unknown key
        2 | tied = true
          | ^^^^
      hint: did you mean `model.tied`?
    "#);
}
