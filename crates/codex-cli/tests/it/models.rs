//! Models of other programs, as a user meets them: used where they lie, brought in by name, trained on, handed on, and refused with the reason.

use codex_core::files;
use serde_json::Value;

use crate::harness::Bench;

fn parity(name: &str) -> String {
    std::path::absolute("../../fixtures/parity").unwrap().join(name).display().to_string()
}

fn logits(bench: &Bench, model: &[&str]) -> Value {
    bench.json(&[&["model", "logits"], model, &["--ids", "1,5,2,7"]].concat())["sequences"].clone()
}

/// The greatest difference between the scores of two answers.
fn apart(a: &Value, b: &Value) -> f64 {
    let numbers = |value: &Value| -> Vec<f64> {
        let rows = value[0]["logits"].as_array().unwrap().iter();
        rows.flat_map(|row| row.as_array().unwrap()).map(|number| number.as_f64().unwrap()).collect()
    };
    let (a, b) = (numbers(a), numbers(b));
    assert_eq!(a.len(), b.len());
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn a_folder_of_transformers_is_scored_exported_and_imported_by_name() {
    let bench = Bench::new();
    let folder = parity("qwen3");
    let before = logits(&bench, &[&folder]);
    let inspected = bench.json(&["model", "inspect", &folder]);
    assert_eq!((&inspected["holds"], &inspected["tokenizer"], &inspected["step"]), (&Value::from("weights"), &Value::Null, &Value::Null));
    let exported = bench.json(&["model", "export", &folder, "--out", "copy"]);
    assert_eq!((&exported["family"], &exported["proof"]["difference_after_reload"]), (&Value::from("qwen3"), &Value::from(0.0)));
    assert_eq!(logits(&bench, &["copy"]), before, "f32 is exact");
    assert_eq!(bench.json(&["model", "inspect", "copy"])["digest"], inspected["digest"]);
    let imported = bench.json(&["model", "import", &folder, "--name", "mine", "--dtype", "bf16"]);
    assert_eq!(imported["path"], "artifacts/models/mine");
    let rounded = apart(&before, &logits(&bench, &["mine"]));
    assert!(rounded > 0.0 && rounded < 0.1, "{rounded}");
    let list = bench.json(&["model", "list"]);
    assert_eq!((&list[0]["name"], &list[0]["family"], list[0]["parameters"].is_u64()), (&Value::from("mine"), &Value::from("qwen3"), true));
    assert_eq!(bench.json(&["model", "resolve", "mine"])["usable"], true);
    let text = bench.run(&["model", "list"]).out;
    assert!(text.contains("mine") && text.contains("qwen3"), "{text}");
    for (arguments, code, word) in [
        (vec!["model", "export", &folder, "--out", "copy"], 5, "copy"),
        (vec!["model", "export", &folder, "--out", "other", "--dtype", "q8_0"], 2, "q8_0"),
        (vec!["model", "import", &folder, "--name", "a/b"], 2, "`a/b`"),
        (vec!["model", "merge", &folder, "--out", "other"], 2, "holds no adapters"),
        (vec!["model", "export", &folder, "--out", "other", "--format", "peft"], 2, "holds no adapters"),
        (vec!["model", "resolve", "mines"], 2, "did you mean `mine`"),
        (vec!["generate", &folder, "--prompt", "x"], 3, "has no tokenizer"),
        (vec!["model", "logits", &folder, "--ids", "1", "--base", &folder], 2, "--base"),
    ] {
        let answer = bench.run(&arguments);
        assert!(
            answer.code == code && answer.err.contains(word) && !answer.err.contains("panicked"),
            "{arguments:?}: {} {}",
            answer.code,
            answer.err
        );
    }
    assert!(!bench.path("other").exists());
}

#[test]
fn a_run_goes_out_and_comes_back_and_is_trained_on() {
    let bench = Bench::with_text();
    assert_eq!(bench.train(&["run.name=base"]).code, 0);
    let run = bench.run_folder().display().to_string();
    bench.json(&["model", "export", &run, "--out", "out", "--template", "plain"]);
    assert_eq!(logits(&bench, &["out"]), logits(&bench, &[&run]));
    let card = files::read_to_string(&bench.path("out/README.md")).unwrap();
    let record: Value = serde_json::from_slice(&files::read(&bench.path(&format!("{run}/run.json"))).unwrap()).unwrap();
    for digest in [&record["plan_digest"], &record["config_digest"], &bench.json(&["model", "inspect", &run])["digest"]] {
        assert!(card.contains(digest.as_str().unwrap()), "{digest} is not in {card}");
    }
    // One file for llama.cpp, tokenizer inside, proven before it has its name.
    for dtype in ["f32", "f16", "q8_0"] {
        let name = format!("{dtype}.gguf");
        let written = bench.json(&["model", "export", &run, "--out", &name, "--dtype", dtype]);
        assert_eq!(
            (&written["file"]["architecture"], &written["proof"]["difference_after_reload"]),
            (&Value::from("llama"), &Value::from(0.0))
        );
        let rounding = written["proof"]["difference_by_rounding"].as_f64().unwrap();
        assert!(if dtype == "f32" { rounding == 0.0 } else { rounding > 0.0 && rounding < 0.1 }, "{dtype}: {rounding}");
        let again = bench.run(&["model", "export", &run, "--out", &name, "--dtype", dtype]);
        assert!(again.code == 5 && again.err.contains(&name) && again.err.contains("nothing is overwritten"), "{}", again.err);
    }
    assert_eq!(bench.run(&["model", "export", &run, "--out", "bf16.gguf", "--dtype", "bf16"]).code, 2);
    // A template that is broken, in its syntax or in its bytes, is told before anything is written.
    bench.write("broken.jinja", "{% for m in messages %}");
    bench.write("bytes.jinja", b"caf\xe9");
    for (template, word) in [("broken.jinja", "template"), ("bytes.jinja", "UTF-8"), ("chatml2", "did you mean `chatml`")] {
        let refused = bench.run(&["model", "export", &run, "--out", "never", "--template", template]);
        assert!(refused.code != 0 && refused.err.contains(word) && !bench.path("never").exists(), "{template}: {}", refused.err);
    }
    // The same text from the same seed, and a conversation by the template that was written.
    let of = |model: &str| bench.json(&["generate", model, "--prompt", "It was", "--max-new-tokens", "8", "--seed", "3"])["ids"].clone();
    assert_eq!(of("out"), of(&run));
    bench.json(&["chat", "out", "--message", "A", "--max-new-tokens", "4"]);
    bench.json(&["eval", "out", "--data", "held-out.txt", "--max-windows", "2"]);
    // What was exported is a base like the run: the same digest, so the same fine-tuning.
    let tune = |base: &str, name: &str| {
        let base = format!("run.base={base}");
        let name = format!("run.name={name}");
        let text = ["train", "data.train=[\"text.txt\"]", "data.validation=[\"held-out.txt\"]", "train.steps=3", "train.warmup_steps=0"];
        let adapter = ["adapter.kind=dora", "adapter.rank=2", "train.batch_size=2", "eval.max_windows=2", "eval.sample_tokens=0"];
        bench.json(&[&text[..], &adapter, &[&base, &name]].concat())["run"].as_str().unwrap().to_owned()
    };
    let (of_run, of_folder) = (tune(&run, "a"), tune("out", "b"));
    let weights = |run: &str| files::read(&bench.path(run).join("checkpoints/step-00000003/model.safetensors")).unwrap();
    assert_eq!(weights(&of_run), weights(&of_folder));
    // Merged, and as an adapter of peft on its base, it scores the same.
    bench.json(&["model", "merge", &of_run, "--out", "merged"]);
    bench.json(&["model", "export", &of_run, "--format", "peft", "--out", "adapter"]);
    let tuned = logits(&bench, &[&of_run]);
    assert_eq!(logits(&bench, &["adapter"]), tuned, "its files name the base");
    assert_eq!(logits(&bench, &["adapter", "--base", "out"]), tuned);
    assert!(apart(&logits(&bench, &["merged"]), &tuned) < 1e-4);
    assert!(apart(&logits(&bench, &[&run]), &tuned) > 0.0);
    let refused = bench.run(&["model", "export", &of_run, "--out", "whole"]);
    assert!(refused.code == 2 && refused.err.contains("model merge"), "{}", refused.err);
    let other = bench.run(&["model", "logits", "adapter", "--base", "merged", "--ids", "1"]);
    assert!(other.code == 4 && other.err.contains("digest"), "{}", other.err);
}

#[test]
fn the_model_of_the_repository_is_whole_and_answers_where_there_is_no_run() {
    let bench = Bench::new();
    let models = std::path::absolute("../../fixtures/models").unwrap();
    let manifest: Value = serde_json::from_slice(&files::read(&models.join("manifest.json")).unwrap()).unwrap();
    for file in manifest["files"].as_array().unwrap() {
        let digest = codex_core::Digest::of_file(&models.join(file["path"].as_str().unwrap())).unwrap();
        assert_eq!(file["blake3"], digest.to_string(), "{file}");
    }
    for arguments in [&["generate", "--prompt", "Emma said"][..], &["chat", "--message", "Who is Emma?"]] {
        let mut command = bench.command(&[arguments, &["--max-new-tokens", "8", "--temperature", "0", "--json"]].concat());
        let answer = command.env("CODEX_ML_OFFLINE_MODELS_DIR", &models).output().unwrap();
        let (out, told) = (String::from_utf8_lossy(&answer.stdout).into_owned(), String::from_utf8_lossy(&answer.stderr).into_owned());
        assert_eq!(answer.status.code(), Some(0), "{told}");
        assert!(out.contains("fixtures/models/austen"), "{out}");
        assert!(told.contains("which comes with the project"), "{told}");
    }
}

#[test]
fn tokenizers_of_other_programs_are_brought_in() {
    let bench = Bench::new();
    let golden = |name: &str| std::path::absolute("../codex-tokenize/tests/golden").unwrap().join(name).display().to_string();
    let text = "It was a truth, naïve.";
    let round_trip = |folder: &str| {
        let ids = bench.json(&["tokenizer", "encode", folder, text]);
        let ids: Vec<String> = ids.as_array().unwrap().iter().map(ToString::to_string).collect();
        bench.json(&["tokenizer", "decode", folder, &ids.join(",")])["text"].clone()
    };
    let piece = bench.json(&["tokenizer", "import", &golden("sentencepiece/bpe-bytes.model"), "--out", "piece"]);
    assert_eq!((round_trip("piece"), &piece["lossless"]), (Value::from(text), &Value::from(false)));
    let ranks = golden("tiktoken/small.tiktoken");
    let tiktoken = bench.json(&["tokenizer", "import", &ranks, "--encoding", "cl100k_base", "--out", "ranks"]);
    assert!(tiktoken["special_tokens"].as_array().unwrap().contains(&Value::from("<|endoftext|>")), "{tiktoken}");
    assert_eq!(round_trip("ranks"), text);
    let again = bench.json(&["tokenizer", "import", "ranks", "--out", "again"]);
    assert_eq!(again["digest"], tiktoken["digest"]);
    bench.write("broken.model", "no protobuf");
    for (arguments, code, word) in [
        (vec!["tokenizer", "import", &ranks, "--out", "new"], 2, "--encoding"),
        (vec!["tokenizer", "import", &ranks, "--encoding", "cl100k", "--out", "new"], 2, "cl100k_base"),
        (vec!["tokenizer", "import", "broken.model", "--out", "new"], 4, "hint:"),
        (vec!["tokenizer", "import", "ranks", "--out", "again"], 5, "again"),
    ] {
        let answer = bench.run(&arguments);
        assert!(answer.code == code && answer.err.contains(word), "{arguments:?}: {} {}", answer.code, answer.err);
    }
    assert!(!bench.path("new").exists());
}

#[test]
fn adapters_of_peft_score_as_peft_does() {
    let bench = Bench::new();
    for name in ["peft-lora", "peft-rslora", "peft-dora"] {
        let folder = parity(name);
        let golden: Value = serde_json::from_slice(&files::read(&std::path::Path::new(&folder).join("logits.json")).unwrap()).unwrap();
        let base = parity(golden["base"].as_str().unwrap());
        for sequence in golden["sequences"].as_array().unwrap() {
            let ids: Vec<String> = sequence["ids"].as_array().unwrap().iter().map(ToString::to_string).collect();
            let arguments = ["model", "logits", &folder, "--base", &base, "--ids", &ids.join(",")];
            let difference = apart(&bench.json(&arguments)["sequences"], &serde_json::json!([sequence]));
            assert!(difference < 1e-4, "{name}: {difference}");
        }
        bench.json(&["model", "merge", &folder, "--out", &format!("{name}-merged"), "--base", &base]);
    }
}
