//! Each command on a trained model, in words and as JSON.

use codex_core::files;

use crate::harness::{Bench, SMALL};

#[test]
fn what_training_measured_is_what_eval_and_generate_find() {
    let bench = Bench::with_text();
    let trained = bench.train(&[]);
    assert_eq!(trained.code, 0, "{}", trained.err);
    assert!(trained.out.contains("validation loss") && trained.out.contains("unigram model") && trained.out.contains("next:"));
    let run = bench.run_folder();
    let run = run.to_str().unwrap();

    let record: serde_json::Value = serde_json::from_slice(&files::read(&bench.run_folder().join("run.json")).unwrap()).unwrap();
    let eval = bench.json(&["eval", run]);
    assert_eq!((eval["windows"].as_u64(), eval["unigram_of"].as_str()), (Some(4), Some("training text")));
    assert_eq!(eval["metrics"]["loss"], record["summary"]["validation/loss"], "the same code gives the same number");
    assert_eq!(eval["unigram"]["loss"], record["summary"]["baseline/unigram/loss"]);
    let elsewhere = bench.json(&["eval", run, "--data", "held-out.txt", "--checkpoint", "best"]);
    assert!(elsewhere["metrics"]["n_tokens"].as_u64().unwrap() > 1000);
    assert!(bench.run(&["eval", run]).out.contains("bits per byte"));

    let generate = |more: &[&str]| bench.json(&[&["generate", run, "--prompt", "Emma", "--max-new-tokens", "12"], more].concat());
    let first = generate(&["--seed", "1"]);
    assert_eq!(first["ids"], generate(&["--seed", "1"])["ids"]);
    assert_ne!(first["ids"], generate(&["--seed", "2"])["ids"]);
    assert_eq!(generate(&["--temperature", "0"])["ids"], generate(&["--temperature", "0", "--seed", "9"])["ids"]);
    let text = first["text"].as_str().unwrap();
    let stop: String = text.chars().skip(2).take(2).collect();
    let stopped = generate(&["--seed", "1", "--stop", &stop]);
    assert_eq!((stopped["stopped"].as_str(), stopped["text"].as_str()), (Some("stop"), text.find(&stop).map(|at| &text[..at])));
    assert!(bench.run(&["generate", "--prompt", "Emma"]).out.starts_with("Emma"));

    let redacted = bench.json(&["generate", run, "--prompt", "write to jane.roe@posteo.de", "--max-new-tokens", "1"]);
    assert_eq!((redacted["prompt"].as_str(), &redacted["safety"]["prompt"]["redacted"]), (Some("write to [EMAIL]"), &1.into()));

    let list = bench.json(&["checkpoint", "list", run]);
    assert_eq!(list["checkpoints"].as_array().unwrap().len(), 2);
    assert!(bench.run(&["checkpoint", "list", run]).out.contains("best"));
    assert!(bench.run(&["checkpoint", "verify", run]).out.contains("whole"));
    assert!(bench.json(&["checkpoint", "verify"])["checkpoints"][0]["valid"].as_bool().unwrap());
    assert_eq!(bench.json(&["runs", "list"])["runs"].as_array().unwrap().len(), 1);
    assert!(bench.run(&["runs", "list"]).out.contains("finished"));
    assert_eq!(bench.json(&["runs", "show", run])["metrics"]["bad_lines"], 0);
    assert!(bench.run(&["runs", "show"]).out.contains("grad_norm"));
    let folder = bench.run_folder().join("checkpoints/step-00000012");
    assert_eq!(bench.json(&["generate", folder.to_str().unwrap(), "--prompt", "x", "--max-new-tokens", "1"])["step"], 12);
}

#[test]
fn tokenizers_are_trained_checked_and_used() {
    let bench = Bench::with_text();
    let trained = bench.json(&["tokenizer", "train", "text.txt", "--out", "tok", "--vocab-size", "400"]);
    assert_eq!(trained["vocab_size"], 400);
    let ids = bench.json(&["tokenizer", "encode", "tok", "Emma said: süß <|endoftext|>"]);
    let ids: Vec<String> = ids.as_array().unwrap().iter().map(ToString::to_string).collect();
    assert!(!ids.contains(&"0".to_owned()), "a special token in a text stays text");
    let decoded = bench.json(&["tokenizer", "decode", "tok", &ids.join(",")]);
    assert_eq!(decoded["text"], "Emma said: süß <|endoftext|>");
    let special = bench.json(&["tokenizer", "encode", "tok", "a<|endoftext|>", "--allow-special", "<|endoftext|>"]);
    assert_eq!(special.as_array().unwrap().last().unwrap(), 0);
    assert_eq!(bench.json(&["tokenizer", "validate", "tok", "held-out.txt"])["round_trip_failures"].as_array().unwrap().len(), 0);
    assert!(bench.json(&["tokenizer", "stats", "tok"])["bytes_per_token"].as_f64().unwrap() > 1.5);
    assert!(bench.run(&["tokenizer", "stats", "tok", "held-out.txt"]).out.contains("bytes per token"));
    assert!(bench.run(&["tokenizer", "validate", "tok"]).out.contains("round-trip failures"));
    assert_eq!(bench.json(&["tokenizer", "train", "--kind", "byte", "--out", "bytes", "text.txt"])["vocab_size"], 258);
}

#[test]
fn the_same_texts_in_another_place_have_the_same_tokenizer() {
    let bench = Bench::with_text();
    let text = files::read(&bench.path("text.txt")).unwrap();
    let run = |place: &'static str| {
        bench.write(place, &text);
        let train = ["data.train=[\"", place, "\"]"].concat();
        bench.train(&[&train, "train.steps=1", "train.warmup_steps=0", "--fresh"]).err
    };
    assert!(run("here/a.txt").contains("training the tokenizer"));
    assert!(!run("there/b.txt").contains("training the tokenizer"));
    bench.write("held-out.txt", "another text to judge by, which is as much a part of what was read");
    assert!(run("here/a.txt").contains("training the tokenizer"), "what is held out decides what is trained on");
}

#[test]
fn configuration_names_its_layers() {
    let bench = Bench::new();
    bench.write("run.toml", "defaults = [\"model/nano\"]\n[train]\nsteps = 77\n");
    let mut command = bench.command(&["config", "show", "--config", "run.toml", "train.batch_size=3", "--json"]);
    let output = command.env("CODEX_TRAIN__LEARNING_RATE", "0.5").output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["config"]["train"]["steps"], 77);
    assert_eq!(shown["config"]["model"]["d_model"], 32);
    let layer = |key: &str| shown["sources"][key]["layer"].clone();
    let layers = ["train.steps", "train.learning_rate", "train.batch_size", "model.d_model", "train.warmup_steps"].map(layer);
    assert_eq!(layers, ["file", "environment", "argument", "library", "library"]);
    assert!(bench.run(&["config", "show"]).out.contains("compiled-in"));
    assert!(bench.run(&["config", "check", "run.toml"]).out.contains("valid"));
    let configs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    for path in crate::harness::all_files(&configs) {
        assert_eq!(bench.json(&["config", "check", path.to_str().unwrap()])["valid"], true, "{}", path.display());
    }
}

#[test]
fn everything_else_reports_too() {
    let bench = Bench::with_text();
    let inspected = bench.json(&["data", "inspect", "text.txt"]);
    assert_eq!((inspected["documents"].as_u64(), inspected["text_bytes"].as_u64()), (Some(1), Some(40_000)));
    assert!(bench.run(&["data", "inspect", "text.txt", "builtin:austen/train"]).out.contains("6 documents"));
    let doctor = bench.json(&["doctor"]);
    assert!(doctor["devices"].as_array().unwrap().iter().any(|device| device["name"] == "flex" && device["compiled_in"] == true));
    assert!(bench.run(&["doctor"]).out.contains("instruction sets"));
    assert!(bench.run(&["completions", "bash"]).out.contains("codex-cli"));
    bench.json(&["completions", "zsh"]);
    assert!(bench.json(&["safety", "rules"]).as_array().unwrap().len() >= 40);
    assert!(bench.run(&["safety", "rules"]).out.contains("email"));
    let dry = bench.json(&[&["train", "--dry-run"], SMALL].concat());
    assert!(dry["memory_total_bytes"].as_u64().unwrap() > 100_000 && dry["seconds_per_step"].as_f64().unwrap() > 0.0);
    assert!(bench.run(&[&["train", "--dry-run"], SMALL].concat()).out.contains("nothing was written"));
    assert!(!bench.path("runs").exists(), "a dry run leaves nothing behind");
    for command in ["train", "eval", "generate", "tokenizer", "data", "checkpoint", "runs", "config", "safety"] {
        assert_eq!(bench.run(&[command, "--help"]).code, 0);
    }
}
