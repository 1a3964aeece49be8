//! What each sign before a key does, and what it refuses.

use insta::assert_snapshot;

use crate::Case;

fn file() -> Case {
    Case::new().file(
        "run.toml",
        "[train]\nmax_steps = 7\nnote = \"x\"\nbetas = [0.5, 0.6]\n[data.weights]\na = 1.0\nb = 2\n[train.lora]\nrank = 4\nalpha = 1\n",
    )
}

fn message(arguments: &[&str]) -> String {
    arguments.iter().fold(file(), |case, text| case.arg(text)).message()
}

#[test]
fn plus_adds_what_no_layer_has_set() {
    let value = file().arg("+train.early_stop=3").arg("+data.weights.c=0.5").arg("++data.weights.a=9").arg("++data.weights.d=4").value();
    assert_eq!(value.train.early_stop, Some(3));
    let weights: Vec<_> = value.data.weights.iter().map(|(name, weight)| format!("{name}={weight}")).collect();
    assert_eq!(weights, ["a=9", "b=2", "c=0.5", "d=4"]);
    assert_snapshot!(message(&["+train.max_steps=3", "data.weights.c=1", "+data.weights.a=1", "+train.zzz=1", "++train.max_step=1"]), @r#"
    argument `+train.max_steps=3`: `train.max_steps`: set already, by run.toml:2
          | +train.max_steps=3
          | ^^^^^^^^^^^^^^^^
      hint: write `train.max_steps=…` to replace it, or `++train.max_steps=…` to set it either way
    argument `data.weights.c=1`: `data.weights.c`: no layer has an entry `c` in `data.weights`; there are `a`, `b`
          | data.weights.c=1
          | ^^^^^^^^^^^^^^
      hint: to add it write `+data.weights.c=…`
    argument `+data.weights.a=1`: `data.weights.a`: set already, by run.toml:6
          | +data.weights.a=1
          | ^^^^^^^^^^^^^^^
      hint: write `data.weights.a=…` to replace it, or `++data.weights.a=…` to set it either way
    argument `+train.zzz=1`: `train.zzz`: unknown key
          | +train.zzz=1
          | ^^^^^^^^^^
      hint: known keys here: `betas`, `early_stop`, `learning_rate`, `lora`, `max_steps`, `note`, `schedule`
    argument `++train.max_step=1`: `train.max_step`: unknown key
          | ++train.max_step=1
          | ^^^^^^^^^^^^^^^^
      hint: did you mean `train.max_steps`?
    "#);
}

#[test]
fn tilde_takes_away_what_layers_set() {
    let case = file().arg("~train.max_steps").arg("~train.note=x").arg("~data.weights.a").arg("~train.lora");
    let value = case.value();
    assert_eq!((value.train.max_steps, value.train.note, value.train.lora), (100, None, None), "also what the compiled-in config set");
    assert_eq!(value.data.weights.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(case.resolve().unwrap().source("train.max_steps").layer(), "default");
    assert_eq!(
        file().arg("~data.weights.a=1").arg("~train.betas=[0.5, 0.6]").arg("~train.lora={rank:4,alpha:1.0}").value().data.weights.len(),
        1
    );
    assert_snapshot!(message(&["~train.max_steps=8", "~seed", "~train.zzz", "~train.betas.0"]), @r#"
    argument `~train.max_steps=8`: `train.max_steps`: not deleted, since it is integer `7`
          | ~train.max_steps=8
          |                  ^
      hint: write `~train.max_steps`
    argument `~seed`: `seed`: no layer sets this, so there is nothing to delete
          | ~seed
          | ^^^^^
      hint: it has its default already; leave the argument out
    argument `~train.zzz`: `train.zzz`: there is nothing of this name to delete
          | ~train.zzz
          | ^^^^^^^^^^
      hint: an item of a list cannot be deleted: set the whole list
    argument `~train.betas.0`: `train.betas.0`: there is nothing of this name to delete
          | ~train.betas.0
          | ^^^^^^^^^^^^^^
      hint: an item of a list cannot be deleted: set the whole list
    "#);
}

#[test]
fn a_deleted_value_is_not_judged() {
    let case = Case::new().file("run.toml", "seed = \"many\"");
    assert!(case.resolve().is_err());
    assert_eq!(case.arg("~seed").value().seed, 1);
}

#[test]
fn items_of_a_list_have_positions() {
    assert_eq!(file().arg("train.betas.0=0.25").value().train.betas.map(f64::to_bits), [0.25, 0.6].map(f64::to_bits));
    assert_eq!(
        file().arg("train.betas.0=0.25").arg("train.betas.1=1").value().train.betas.map(f64::to_bits),
        [0.25, 1.0].map(f64::to_bits)
    );
    assert_eq!(
        Case::new().arg("train.betas.1=0.5").value().train.betas.map(f64::to_bits),
        [0.9, 0.5].map(f64::to_bits),
        "the type's default"
    );
    assert_eq!(Case::new().arg("+data.paths.0=a").arg("+data.paths.1=b").value().data.paths.len(), 2);
    assert_eq!(file().arg("train.betas.0=0.25").resolve().unwrap().source("train.betas").to_string(), "argument `train.betas.0=0.25`");
    assert_snapshot!(message(&["train.betas.2=1", "data.paths.0=x"]), @r#"
    argument `train.betas.2=1`: `train.betas.2`: there is no item 2 in a list of 2 values
          | train.betas.2=1
          | ^^^^^^^^^^^^^
      hint: items are counted from 0; `+` before the key adds one at the end
    argument `data.paths.0=x`: `data.paths.0`: there is no item 0 in a list of 0 values
          | data.paths.0=x
          | ^^^^^^^^^^^^
      hint: items are counted from 0; `+` before the key adds one at the end
    "#);
    assert_snapshot!(message(&["train.betas.x=1"]), @r#"
    argument `train.betas.x=1`: `train.betas.x`: `x` is no position in a list
          | train.betas.x=1
          | ^^^^^^^^^^^^^
      hint: items are counted from 0, as in `paths.0=x`
    "#);
    assert_snapshot!(message(&["train.betas=[1,2]", "train.betas.0=1"]), @r#"
    argument `train.betas.0=1`: `train.betas.0`: set twice, first by argument `train.betas=[1,2]`
          | train.betas.0=1
          | ^^^^^^^^^^^^^
      hint: keep one of the two
    "#);
}

#[test]
fn null_unsets_an_option() {
    assert_eq!(file().arg("train.note=null").value().train.note, None);
    assert_eq!(file().arg("train.note='null'").value().train.note.as_deref(), Some("null"));
    assert_eq!(file().arg("train.lora=null").value().train.lora, None);
    assert_snapshot!(message(&["seed=null", "name=null"]), @r#"
    argument `seed=null`: `seed`: expected an integer of at least 0, found no value
          | seed=null
          |      ^^^^
      hint: only an option can have no value; `~key` takes a value away
    argument `name=null`: `name`: expected a string, found no value
          | name=null
          |      ^^^^
      hint: the text is written `'null'`; `~key` takes a value away
    "#);
}

#[test]
fn values_in_hydras_and_in_tomls_spelling() {
    let value = |text: &str| Case::new().arg(text).value();
    assert_eq!(value("data.paths=[a, b c,'d,e']").data.paths.len(), 3);
    assert_eq!(value("data.weights={a: 1, b: .5}").data.weights["b"].to_bits(), 0.5_f64.to_bits());
    assert_eq!(value("data.weights={ a = 1, b = 0.5 }").data.weights["b"].to_bits(), 0.5_f64.to_bits());
    assert_eq!(value(r#"data.weights={"a": 1, "b": 5e-1}"#).data.weights["b"].to_bits(), 0.5_f64.to_bits());
    assert!(!value("model.tied=FALSE").model.tied);
    assert_eq!(value("train.max_steps=1_000").train.max_steps, 1000);
    assert_eq!(value("train.max_steps=int(7.9)").train.max_steps, 7);
    assert_eq!(value(r#"name="a\n\"b\"""#).name, "a\n\"b\"");
    assert_eq!(value(r"name='it\'s'").name, "it's");
    assert_eq!(value(r"name='C:\'").name, r"C:\", "TOML's literal string");
    assert_eq!(value("name=s3://bucket/a b").name, "s3://bucket/a b");
    let json = serde_json::json!({ "rank": 4, "alpha": 1.5, "targets": ["q\"\\\n${", "é"] });
    let lora = value(&format!("train.lora={}", json.to_string().replace("${", "\\\\${"))).train.lora.unwrap();
    assert_eq!(lora.targets, ["q\"\\\n${", "é"]);
}

#[test]
fn sweeps_are_for_several_runs() {
    assert_snapshot!(message(&["train.max_steps=1,2", "seed=range(3)", "model=tiny,small"]), @r#"
    argument `train.max_steps=1,2`: `train.max_steps`: a sweep has several values, and one run takes one
          | train.max_steps=1,2
          |                 ^^^
      hint: for a run for each of them use `--multirun` or `codex-cli sweep`; text with commas or brackets belongs in quotes
    argument `seed=range(3)`: `seed`: a sweep has several values, and one run takes one
          | seed=range(3)
          |      ^^^^^^^^
      hint: for a run for each of them use `--multirun` or `codex-cli sweep`; text with commas or brackets belongs in quotes
    argument `model=tiny,small`: `model`: a sweep has several values, and one run takes one
          | model=tiny,small
          |       ^^^^^^^^^^
      hint: for a run for each of them use `--multirun` or `codex-cli sweep`; text with commas or brackets belongs in quotes
    "#);
}

#[test]
fn groups_have_no_packages() {
    assert_snapshot!(message(&["model@other=tiny", "nogroup/x=1"]), @r#"
    argument `model@other=tiny`: `model`: `@other` is a package, and groups have none here
          | model@other=tiny
          |      ^^^^^^
      hint: a group's text names its keys in full: write `model=…`
    argument `nogroup/x=1`: `nogroup/x`: no group `nogroup/x`
          | nogroup/x=1
          | ^^^^^^^^^
      hint: a group is a folder of configs; a key is names joined by dots
    "#);
}

#[test]
fn the_place_of_a_slip_is_marked() {
    assert_snapshot!(message(&["name=[a,(b]", "name={a:1,b}", "name='open", "name=intt(3)", "name=1,", "name=a\"b", "näme=1"]), @r#"
    argument `name=[a,(b]`: `(` inside unquoted text
          | name=[a,(b]
          |         ^
      hint: put the whole text in quotes
    argument `name={a:1,b}`: this key has no value
          | name={a:1,b}
          |           ^
      hint: a table is written `{key: value}`
    argument `name='open`: this has no closing `'`
          | name='open
          |      ^
    argument `name=intt(3)`: unknown function `intt`
          | name=intt(3)
          |      ^^^^^^^
      hint: did you mean `int`? functions: `bool`, `choice`, `float`, `glob`, `int`, `interval`, `range`, `shuffle`, `sort`, `str`, `tag`; text with `(` belongs in quotes
    argument `name=1,`: a value is missing after the last comma
          | name=1,
          |        ^
      hint: leave the comma out, or put the text in quotes
    argument `name=a"b`: `"` inside unquoted text
          | name=a"b
          |       ^
      hint: put the whole text in quotes
    argument `näme=1`: `ä` cannot stand in a key
          | näme=1
          |  ^
      hint: a key is names joined by dots, as in `train.learning_rate=3e-4`
    "#);
    assert_snapshot!(message(&[&format!("name={}", "[".repeat(70))]), @r#"
    argument `name=[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[`: nested deeper than 64 levels
          | name=[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[
          |                                                                       ^
    "#);
    assert_snapshot!(message(&[&format!("name=[{}", "1,".repeat(10_001))]), @r#"
    argument `name=[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,…`: more than 10000 values in one override
          | …1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,
          |                                                                                                                      ^
    "#);
}

#[test]
fn a_secret_is_in_no_message() {
    let word = ["hun", "ter2"].concat();
    for case in [
        Case::new().arg(&format!("train.api_key={word}")),
        Case::new().arg(&format!("hub.token='{word}")),
        Case::new().env("CODEX_HUB__PASSWORD", &word),
        Case::new().file("run.toml", format!("[model]\naccess_token = \"{word}\"\n")),
        Case::new().file("run.toml", format!("[model]\naccess_token = \"{word}\n")),
        Case::new().file("run.yaml", format!("model: {{ secret: {word}, tide: 1 }}")),
    ] {
        let message = case.message();
        assert!(!message.contains(&word) && message.contains('…'), "{message}");
    }
}
