//! The list of defaults: its forms, its order, and what a choice on the command line replaces.

use codex_config::{Layers, Library};
use insta::assert_snapshot;

use crate::{Case, TestConfig};

#[test]
fn an_entry_is_a_string_or_a_table() {
    for entry in ["\"model/small\"", "{ model = \"small\" }", "{ model = [\"tiny\", \"small\"] }", "{ \"override model\" = \"small\" }"] {
        assert_eq!(Case::new().file("run.toml", format!("defaults = [{entry}]")).value().model.d_model, 128, "{entry}");
    }
    for text in
        ["defaults:\n  - model: small\n", "defaults: [{override model: small}]", "defaults:\n  - override /model: small\n  - _self_\n"]
    {
        assert_eq!(Case::new().file("run.yaml", text).value().model.d_model, 128, "{text}");
    }
}

#[test]
fn null_takes_nothing() {
    assert_eq!(
        Case::new().file("run.yaml", "defaults:\n  - model: null\n").value().model.d_model,
        32,
        "the compiled-in config's own group stays"
    );
    assert_eq!(Case::new().file("run.yaml", "defaults:\n  - override model: null\n").value().model.d_model, 64, "the type's default");
    assert_eq!(Case::new().file("run.toml", "defaults = [{ \"override model\" = \"null\" }]").value().model.d_model, 64);
}

#[test]
fn self_is_the_place_of_the_texts_own_values() {
    let d_model = |list: &str| Case::new().file("run.toml", format!("defaults = [{list}]\nmodel.d_model = 256")).value().model.d_model;
    assert_eq!(d_model("\"model/small\""), 256, "last when it is not said");
    assert_eq!(d_model("\"model/small\", \"_self_\""), 256);
    assert_eq!(d_model("\"_self_\", \"model/small\""), 128);
}

#[test]
fn an_optional_group_may_be_absent() {
    let case = Case::new().file("run.toml", "defaults = [{ \"optional local\" = \"me\" }, \"optional local/you\"]\nseed = 3");
    assert_eq!(case.value().seed, 3);
    assert_eq!(case.beside("local/me.toml", "name = \"me\"").value().name, "me");
}

/// `model/tiny` sets `n_heads`, and `model/wide` does not.
fn wide() -> Case {
    Case::new().beside("model/wide.toml", "[model]\nd_model = 512\n")
}

#[test]
fn nothing_of_a_replaced_group_is_left() {
    let stacked = wide().file("run.toml", "defaults = [\"model/wide\"]").value().model;
    assert_eq!((stacked.d_model, stacked.n_heads), (512, 2), "a text's groups lie above those of the texts below");
    let replaced = wide().file("run.toml", "defaults = [{ \"override model\" = \"wide\" }]").value().model;
    assert_eq!((replaced.d_model, replaced.n_heads), (512, 4), "the type's default, not that of `model/tiny`");
    let chosen = wide().file("run.toml", "").arg("model=wide").value().model;
    assert_eq!((chosen.d_model, chosen.n_heads), (512, 4));
}

#[test]
fn a_choice_on_the_command_line_replaces_what_any_text_chose() {
    // Within an experiment too, and the experiment's other values stay.
    let case = wide()
        .file("run.toml", "defaults = [\"experiment/x\"]")
        .beside("experiment/x.toml", "defaults = [{ model = \"small\" }]\nseed = 9");
    assert_eq!((case.value().model.n_heads, case.value().seed), (8, 9));
    let case = case.arg("model=wide");
    let value = case.value();
    assert_eq!((value.model.d_model, value.model.n_heads, value.seed), (512, 4, 9));
    assert_eq!(case.resolve().unwrap().source("model.n_heads").layer(), "default");
    // The text of a chosen option may build on another of its group.
    let case =
        Case::new().file("run.toml", "").beside("model/more.toml", "defaults = [\"model/small\"]\nmodel.d_model = 256").arg("model=more");
    assert_eq!((case.value().model.d_model, case.value().model.n_heads), (256, 8));
}

#[test]
fn a_preset_of_the_command_line_wins_over_the_files_own_values() {
    // With Hydra the file's `seed` would win, since its own values come last.
    let case = Case::new().file("run.toml", "seed = 1\nname = \"mine\"").beside("experiment/long.toml", "seed = 9\ntrain.max_steps = 900");
    let value = case.arg("experiment=long").value();
    assert_eq!((value.seed, value.train.max_steps, value.name.as_str()), (9, 900, "mine"));
}

#[test]
fn a_group_is_dropped() {
    for argument in ["~model", "~model=tiny", "model=null"] {
        assert_eq!(Case::new().arg(argument).value().model.d_model, 64, "{argument}");
    }
    // Where no text chose an option, the values of the table are meant.
    let case = Case::new().file("run.toml", "train.max_steps = 5\ntrain.note = \"x\"").arg("~train");
    assert_eq!((case.value().train.max_steps, case.value().train.note), (100, None));
    assert_snapshot!(Case::new().arg("~model=small").arg("~data").message(), @r#"
    argument `~model=small`: `model`: not dropped, since the option is `tiny`
          | ~model=small
          | ^^^^^^
      hint: write `~model`
    argument `~data`: `data`: no layer sets this, so there is nothing to delete
          | ~data
          | ^^^^^
      hint: it has its default already; leave the argument out
    "#);
}

#[test]
fn a_group_is_added() {
    let case = Case::new().beside("train/long.toml", "train.max_steps = 900").file("run.toml", "");
    assert_eq!(case.arg("+train=long").value().train.max_steps, 900);
    assert_eq!(Case::new().arg("++model=small").value().model.d_model, 128);
    assert_snapshot!(Case::new().arg("+model=small").message(), @r#"
    argument `+model=small`: `model`: an option is chosen already: `tiny`
          | +model=small
          | ^^^^^^
      hint: write `model=small` to choose another, or `++model=small` to choose either way
    "#);
}

#[test]
fn the_options_of_a_group() {
    const LIBRARY: Library = Library::new(&[("model/tiny", ""), ("model/x/deep", ""), ("models/not", "")]);
    let case = wide().search("more").beside("more/model/large.yaml", "");
    let layers = Layers::<TestConfig>::new(LIBRARY).file(case.folder.path().join("run.toml")).search_folder(&case.folders[0]);
    assert_eq!(layers.options("model").into_iter().collect::<Vec<_>>(), ["large", "tiny", "wide"]);
    assert!(layers.options("../model").is_empty() && layers.options("").is_empty());
}

#[test]
fn what_is_wrong_with_a_list() {
    let message = |text: &str| Case::new().file("run.toml", text).message();
    assert_snapshot!(message("defaults = [\n  \"_self_\",\n  \"_self_\",\n]"), @r#"
    run.toml:1: `defaults`: `_self_` stands twice
        2 |   "_self_",
          |    ^^^^^^
      hint: keep one of the two
    "#);
    assert_snapshot!(message("defaults = [{ \"model@x\" = \"tiny\" }]"), @r#"
    run.toml:1: `defaults`: `model@x` has a package, and groups have none here
        1 | defaults = [{ "model@x" = "tiny" }]
          |                ^^^^^^^
      hint: a group's text names its keys in full: write `model`
    "#);
    assert_snapshot!(message("defaults = [\n  \"model/tiny\",\n  { \"override train\" = \"x\" },\n]"), @r#"
    run.toml:1: no text before this one chose an option for `train`
        3 |   { "override train" = "x" },
          |                         ^
      hint: leave `override` out
    run.toml:1: no group `train/x`; looked for `train/x.toml`, the compiled-in configs
        3 |   { "override train" = "x" },
          |                         ^
      hint: known groups: `model/small`, `model/tiny`
    "#);
    assert_snapshot!(message("defaults = [\n  # tinny\n  { model = \"tinny\" },\n]"), @r#"
    run.toml:1: no group `model/tinny`; looked for `model/tinny.toml`, the compiled-in configs
        3 |   { model = "tinny" },
          |              ^^^^^
      hint: did you mean `model/tiny`? known groups: `model/small`, `model/tiny`
    "#);
    assert_snapshot!(Case::new().file("run.yaml", "defaults:\n  - model: tiny\n    train: x\n").message(), @r#"
    run.yaml:1: `defaults`: expected a list of group names
        1 | defaults:
          | ^^^^^^^^
      hint: write `defaults = ["model/tiny"]` or `defaults = [{ model = "tiny" }]`
    "#);
}
