//! Each layer wins over the one below, and every value names the layer that set it.

use codex_config::{ConfigError, Layers, Library, Source};
use codex_core::{ExitClass, Failure};
use proptest::prelude::*;
use serde_json::json;

use crate::{Case, LIBRARY, Lora, Schedule, TestConfig, shown};

#[test]
fn the_types_default_is_the_lowest_layer() {
    let resolved = Layers::<TestConfig>::new(LIBRARY).resolve().unwrap();
    assert_eq!(resolved.value, TestConfig::default());
    assert!(resolved.sources().values().all(|source| *source == Source::Default));
}

#[test]
fn each_layer_wins_over_the_one_below() {
    let rate =
        |case: &Case| (case.value().model.d_model, shown(&case.resolve().unwrap().source("model.d_model").to_string(), case.folder.path()));
    let mut case = Case::new();
    assert_eq!(rate(&case), (32, "compiled-in `model/tiny`:2".to_owned()));

    case = case.file("run.toml", "seed = 2\ndefaults = [\"model/small\"]");
    assert_eq!(rate(&case), (128, "compiled-in `model/small`:2".to_owned()));

    case = case.file("run.toml", "defaults = [\"model/small\"]\nmodel.d_model = 256");
    assert_eq!(rate(&case), (256, "run.toml:2".to_owned()));

    case = case.env("CODEX_MODEL__D_MODEL", "512");
    assert_eq!(rate(&case), (512, "environment `CODEX_MODEL__D_MODEL`".to_owned()));

    case = case.arg("model=tiny");
    assert_eq!(rate(&case), (32, "compiled-in `model/tiny`:2".to_owned()));

    case = case.arg("model.d_model=1024");
    assert_eq!(rate(&case), (1024, "argument `model.d_model=1024`".to_owned()));
    assert_eq!(case.value().seed, 1, "what no layer sets keeps its default");
}

#[test]
fn a_compiled_in_config_wins_over_its_own_groups() {
    const OWN: Library = Library::new(&[
        ("default", "defaults = [\"a\", \"b\"]\nseed = 3"),
        ("a", "seed = 1\nname = \"a\""),
        ("b", "seed = 2\nname = \"b\""),
    ]);
    let resolved = Layers::<TestConfig>::new(OWN).base("default").resolve().unwrap();
    assert_eq!((resolved.value.seed, resolved.value.name.as_str()), (3, "b"));
    assert_eq!(*resolved.source("name"), Source::Library { name: "b".to_owned(), line: 2 });
}

#[test]
fn of_several_files_the_later_wins() {
    let case = Case::new().file("a.toml", "seed = 5\nname = \"a\"").beside("b.toml", "seed = 6");
    let (a, b) = (case.folder.path().join("a.toml"), case.folder.path().join("b.toml"));
    let value = Layers::<TestConfig>::new(LIBRARY).file(a).file(b).resolve().unwrap().value;
    assert_eq!((value.seed, value.name.as_str()), (6, "a"));
}

#[test]
fn a_group_is_looked_for_beside_the_file_then_in_the_search_folders_then_in_the_library() {
    let text = "defaults = [\"model/tiny\"]";
    let case = Case::new().file("mine/run.toml", text).search("configs");
    assert_eq!(case.value().model.d_model, 32);
    let case = case.beside("configs/model/tiny.yaml", "model:\n  d_model: 48\n");
    assert_eq!(case.value().model.d_model, 48);
    assert_eq!(shown(&case.resolve().unwrap().source("model.d_model").to_string(), case.folder.path()), "configs/model/tiny.yaml:2");
    let case = case.beside("mine/model/tiny.toml", "[model]\nd_model = 50");
    assert_eq!(case.value().model.d_model, 50);
    let without_file = Case::new().beside("configs/model/tiny.toml", "[model]\nd_model = 48").search("configs");
    assert_eq!(without_file.value().model.d_model, 32, "what is compiled in changes with no folder");
    assert_eq!(without_file.arg("model=tiny").value().model.d_model, 48);
}

#[test]
fn groups_include_groups_each_once() {
    let case = Case::new()
        .file("run.toml", "defaults = [\"a\", \"b\"]")
        .beside("a.toml", "defaults = [\"c\"]\nname = \"a\"")
        .beside("b.toml", "defaults = [\"c\"]\nseed = 9")
        .beside("c.toml", "name = \"c\"\nseed = 8\ntrain.max_steps = 7");
    let value = case.value();
    assert_eq!((value.name.as_str(), value.seed, value.train.max_steps), ("a", 9, 7));
}

#[test]
fn an_empty_file_changes_nothing() {
    for name in ["run.toml", "run.yaml"] {
        assert_eq!(Case::new().file(name, "").value(), Case::new().value());
        assert_eq!(Case::new().file(name, "# nothing\n").value(), Case::new().value());
    }
}

#[test]
fn only_the_programs_own_environment_is_read() {
    let case = Case::new()
        .env("CODEX_SEED", "7")
        .env("CODEX_LOG", "debug")
        .env("CODEX_OFFLINE", "1")
        .env("CODEX_MODEL", "whatever")
        .env("HOME__X", "1")
        .env("CODEX_TRAIN__SCHEDULE", "linear")
        .env("CODEX_TRAIN__BETAS", "[0.8, 0.9]")
        .env("CODEX_DATA__WEIGHTS__BOOKS", "0.25");
    let value = case.value();
    assert_eq!((value.seed, value.train.schedule, value.train.betas), (7, Schedule::Linear, [0.8, 0.9]));
    assert_eq!(value.data.weights["books"].to_bits(), 0.25_f64.to_bits());
}

#[test]
fn a_command_line_value_is_toml_or_a_string() {
    let value = |text: &str| Case::new().arg(text).value();
    assert_eq!(value("train.learning_rate=3e-4").train.learning_rate.to_bits(), 3e-4_f64.to_bits());
    assert_eq!(value("train.learning_rate=1").train.learning_rate.to_bits(), 1_f64.to_bits());
    assert_eq!(value("name='a b=c'").name, "a b=c");
    assert_eq!(value("name=a b/c:d").name, "a b/c:d");
    assert_eq!(value("name=").name, "");
    assert_eq!(value("name=\"quoted\"").name, "quoted");
    assert_eq!(value("train.early_stop=3").train.early_stop, Some(3));
    assert_eq!(value("data.paths=[\"a\", \"b\"]").data.paths.len(), 2);
    assert_eq!(value("data.weights={ a = 1, b = 2 }").data.weights.len(), 2);
    let lora = Lora { rank: 4, alpha: 8.0, targets: vec!["q".to_owned()] };
    assert_eq!(value("train.lora={ rank = 4, alpha = 8.0, targets = [\"q\"] }").train.lora, Some(lora));
}

#[test]
fn what_looks_like_a_number_or_a_date_is_text_where_a_string_is_wanted() {
    for text in ["2024", "1.10", "true", "2024-01-01", "nan", "007", "99999999999999999999"] {
        assert_eq!(Case::new().arg(&format!("name={text}")).value().name, text);
        assert_eq!(Case::new().arg(&format!("train.note={text}")).value().train.note.as_deref(), Some(text));
        assert_eq!(Case::new().env("CODEX_NAME", text).value().name, text);
    }
}

#[test]
fn values_that_need_each_other_may_come_from_different_layers() {
    // `data.span.from` alone is above the default's `to`, and `train.lora.alpha` alone has no rank.
    let case = Case::new().file("run.toml", "data.span.from = 20\ntrain.lora.rank = 4").arg("data.span.to=30").arg("train.lora.alpha=2");
    let value = case.value();
    assert_eq!((value.data.span.from, value.data.span.to), (20, 30));
    assert_eq!(value.train.lora.unwrap().rank, 4);
    let resolved = case.resolve().unwrap();
    assert_eq!(resolved.source("train.lora.alpha").layer(), "argument");
    assert_eq!(resolved.source("train.lora.rank").layer(), "file");
    assert_eq!(resolved.source("train.lora.targets").layer(), "default");
    assert_eq!(resolved.source("train.lora").layer(), "argument");
    assert_eq!(*resolved.source("no.such.key"), Source::Default);
}

#[test]
fn the_report_of_a_resolved_config() {
    let case = Case::new().file("run.toml", "name = \"x\"\n[model]\ndropout = 0.2").env("CODEX_SEED", "3").arg("train.max_steps=5");
    let resolved = case.resolve().unwrap();
    let table: Vec<String> = resolved.rows().iter().map(|row| format!("{} = {}  # {}", row.key, row.value, row.source)).collect();
    insta::assert_snapshot!(shown(&table.join("\n"), case.folder.path()), @r#"
    data.paths = []  # default
    data.span.from = 0  # default
    data.span.to = 10  # default
    data.weights = {}  # default
    model.d_model = 32  # compiled-in `model/tiny`:2
    model.dropout = 0.2  # run.toml:3
    model.n_heads = 2  # compiled-in `model/tiny`:3
    model.tied = true  # default
    name = "x"  # run.toml:1
    seed = 3  # environment `CODEX_SEED`
    train.betas = [0.9, 0.95]  # default
    train.early_stop = unset  # default
    train.learning_rate = 0.001  # default
    train.lora = unset  # default
    train.max_steps = 5  # argument `train.max_steps=5`
    train.note = unset  # default
    train.schedule = "cosine"  # default
    "#);
    insta::assert_snapshot!(resolved.to_toml(), @r#"
    name = "x"
    seed = 3

    [data]
    paths = []

    [data.span]
    from = 0
    to = 10

    [data.weights]

    [model]
    d_model = 32
    dropout = 0.2
    n_heads = 2
    tied = true

    [train]
    betas = [0.9, 0.95]
    learning_rate = 0.001
    max_steps = 5
    schedule = "cosine"
    "#);
    let sources = resolved.sources_json();
    assert_eq!(sources["seed"], json!({ "layer": "environment", "name": "CODEX_SEED" }));
    assert_eq!(sources["train.max_steps"], json!({ "layer": "argument", "text": "train.max_steps=5" }));
    assert_eq!(sources["model.d_model"], json!({ "layer": "library", "name": "model/tiny", "line": 2 }));
    assert_eq!(sources["model.tied"], json!({ "layer": "default" }));
    assert_eq!(sources["name"]["line"], 1);
    assert_eq!(resolved.digest(), codex_core::Digest::of_json(&resolved.value).unwrap());
}

#[test]
fn an_unknown_base_names_the_known_ones() {
    let error = Layers::<TestConfig>::new(LIBRARY).base("defualt").resolve().map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "no compiled-in config is named `defualt`");
    assert_eq!(error.hint().unwrap(), "known configs: `default`, `model/tiny`, `model/small`");
    assert_eq!(error.exit_class(), ExitClass::Usage);
}

#[test]
fn an_unreadable_file_is_an_io_failure_and_a_large_one_is_refused() {
    let case = Case::new();
    let error = Layers::<TestConfig>::new(LIBRARY).file(case.folder.path().join("absent.toml")).resolve().map(|_| ()).unwrap_err();
    assert_eq!(error.exit_class(), ExitClass::Io);
    assert!(error.hint().is_some());
    assert!(matches!(&error, ConfigError::File { source } if source.is_not_found()), "{error}");
    let large = Case::new().file("run.toml", vec![b'#'; (1 << 20) + 1]);
    let error = large.resolve().map(|_| ()).unwrap_err();
    assert_eq!(error.exit_class(), ExitClass::Usage);
    assert_eq!(large.told(&error), "the config cannot be read: cannot read `run.toml`: larger than 1048576 bytes");
    assert!(error.hint().unwrap().contains("short text"));
}

/// Any configuration that the schema accepts, as the text of a file's lines.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let number = -1e6..1e6_f64;
    (
        any::<u32>(),
        // What would be a reference is escaped.
        "[ -~]{0,12}|\\$\\{[a-z]{0,3}\\}?".prop_map(|name| name.replace('\\', "/").replace("${", "\\${")),
        1..9_usize,
        any::<bool>(),
        number.clone(),
        proptest::option::of(0..99_usize),
        proptest::collection::btree_map("[a-z .]{1,6}", number, 0..4),
    )
        .prop_map(|(seed, name, heads, tied, beta, stop, weights)| {
            let mut lines = vec![
                format!("seed = {seed}"),
                format!("name = {}", toml::Value::from(name)),
                format!("model.n_heads = {heads}"),
                format!("model.d_model = {}", heads * 8),
                format!("model.tied = {tied}"),
                format!("train.betas = [{beta:?}, 0.5]"),
                "train.schedule = \"constant\"".to_owned(),
            ];
            lines.extend(stop.map(|stop| format!("train.early_stop = {stop}")));
            lines.extend(weights.iter().map(|(key, weight)| format!("data.weights.{key:?} = {weight:?}")));
            lines
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_was_resolved_loads_again(lines in lines()) {
        let first = Case::new().file("run.toml", lines.join("\n"));
        let resolved = first.resolve().unwrap();
        let again = Case::new().file("again.toml", resolved.to_toml()).resolve().unwrap();
        prop_assert_eq!(&again.value, &resolved.value);
        prop_assert_eq!(again.digest(), resolved.digest());
        prop_assert_eq!(again.to_toml(), resolved.to_toml());
    }

    #[test]
    fn the_order_of_keys_means_nothing(lines in lines().prop_flat_map(|lines| (Just(lines.clone()), Just(lines).prop_shuffle()))) {
        let (plain, shuffled) = lines;
        let resolve = |lines: &[String]| Case::new().file("run.toml", lines.join("\n")).resolve().unwrap();
        let (plain, shuffled) = (resolve(&plain), resolve(&shuffled));
        prop_assert_eq!(&plain.value, &shuffled.value);
        prop_assert_eq!(plain.to_toml(), shuffled.to_toml());
        prop_assert_eq!(plain.digest(), shuffled.digest());
    }
}
