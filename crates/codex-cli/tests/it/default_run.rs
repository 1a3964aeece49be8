//! The default command in an empty folder with no network.

use std::process::Command;

use codex_core::files;

use crate::harness::{Answer, Bench};

#[test]
fn it_trains_below_the_unigram_model_without_a_network() {
    let bench = Bench::new();
    // A namespace of its own has no interface that is up, not even loopback.
    let arguments = ["train", "train.steps=60", "eval.every_steps=60", "eval.max_windows=16", "checkpoint.every_steps=60", "--json"];
    let mut command = Command::new("unshare");
    command.args(["-r", "-n", env!("CARGO_BIN_EXE_codex-cli")]).args(arguments).current_dir(bench.path(""));
    let output = command.output().expect("`unshare` is needed: apt-get install -y util-linux");
    let answer = Answer::of(&output);
    assert_eq!(answer.code, 0, "{}", answer.err);
    let result: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    let value = |key: &str| result["summary"][key].as_f64().unwrap();
    assert!(value("validation/loss") < value("baseline/unigram/loss"), "{}", answer.out);
    assert!(value("first/validation/loss") > value("baseline/unigram/loss"));
    assert!(answer.err.contains("sample: It was >>> "), "{}", answer.err);

    let run = bench.run_folder();
    for name in [
        "run.json",
        "config.resolved.toml",
        "config.sources.json",
        "environment.json",
        "dataset_checksums.json",
        "data.manifest.json",
        "tokenizer.json",
        "metrics.ndjson",
        "metrics.csv",
        "events.ndjson",
        "system.ndjson",
        "report.html",
        "checkpoints/latest.json",
        "checkpoints/best.json",
        "checkpoints/step-00000060/manifest.json",
        "checkpoints/step-00000060/model.safetensors",
    ] {
        assert!(files::size(&run.join(name)).unwrap() > 0, "{name}");
    }
    let here = files::list_dir(&bench.path("")).unwrap();
    assert_eq!(here, [bench.path("runs")], "everything is below `runs`");
    let report = files::read_to_string(&run.join("report.html")).unwrap();
    assert!(report.contains("<svg") && !report.contains("src=\"http"));
}
