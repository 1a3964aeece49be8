//! From a model back to the bytes that made it.

use codex_core::files;

use crate::harness::{Answer, Bench};

const TUNED: [&str; 9] = [
    "train",
    "run.name=tuned",
    "adapter.kind=lora",
    "train.steps=2",
    "train.warmup_steps=1",
    "train.batch_size=4",
    "data.train=[\"text.txt\"]",
    "data.validation=[\"held-out.txt\"]",
    "eval.max_windows=2",
];

fn flip(bench: &Bench, name: &str) {
    let mut bytes = files::read(&bench.path(name)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    files::write_atomic(&bench.path(name), &bytes).unwrap();
}

fn expect(answer: &Answer, code: i32, words: &[&str]) {
    assert_eq!(answer.code, code, "{}{}", answer.out, answer.err);
    for word in words {
        assert!(answer.out.contains(word) || answer.err.contains(word), "{word} is not in {}{}", answer.out, answer.err);
    }
}

#[test]
fn a_model_is_followed_back_to_its_texts_whatever_it_was_written_as() {
    let bench = Bench::with_text();
    assert_eq!(bench.train(&["run.name=base"]).code, 0);
    let base = bench.run_folder();
    let id = base.file_name().unwrap().to_str().unwrap().to_owned();
    let base = base.to_str().unwrap();
    for more in [&["--out", "folder", "--dtype", "f16"][..], &["--out", "file.gguf", "--dtype", "q8_0"]] {
        expect(&bench.run(&[&["model", "export", base], more].concat()), 0, &[]);
    }
    // The base of adapters is a model that was exported, which is followed further.
    let on_base = [&TUNED[..], &["run.base=folder"]].concat();
    expect(&bench.run(&on_base), 0, &[]);
    let tuned = bench.run_folder();
    let tuned = tuned.to_str().unwrap();
    expect(&bench.run(&["model", "export", tuned, "--format", "peft", "--out", "adapters"]), 0, &[]);
    expect(&bench.run(&["model", "merge", tuned, "--out", "merged"]), 0, &[]);
    let run = format!("run {id}");
    for model in ["folder", "file.gguf", base] {
        let answer = bench.run(&["runs", "lineage", model, "--data"]);
        expect(&answer, 0, &[&run, "step 12", "text.txt", "held-out.txt", "rustc", "Cargo.lock", "configuration"]);
        assert!(!answer.out.contains("DIFFERS") && !answer.out.contains("MISSING"), "{}", answer.out);
    }
    for model in ["adapters", "merged", tuned] {
        let answer = bench.run(&["runs", "lineage", model, "--data"]);
        // Through the adapters' run, the exported folder that it began with, and that one's run.
        expect(&answer, 0, &["-tuned", "folder", &run, "text.txt"]);
    }
    let value = bench.json(&["runs", "lineage", "folder"]);
    assert_eq!((value["valid"].as_bool(), value["parts"][0]["below"][0]["name"].as_str()), (Some(true), Some("step 12")));
    // A copy elsewhere is known by its bytes.
    for path in files::list_dir(&bench.path("folder")).unwrap() {
        bench.write(&format!("sent/{}", path.file_name().unwrap().to_str().unwrap()), files::read(&path).unwrap());
    }
    expect(&bench.run(&["runs", "lineage", "sent"]), 0, &[&run]);
    expect(&bench.run(&["verify", base]), 0, &["exports          proven", "graph            proven", "2 written for other programs"]);

    // A changed text, file or weight is found and named.
    flip(&bench, "held-out.txt");
    expect(&bench.run(&["runs", "lineage", "folder"]), 0, &[]);
    expect(&bench.run(&["runs", "lineage", "folder", "--data"]), 4, &["held-out.txt", "DIFFERS"]);
    flip(&bench, "held-out.txt");
    flip(&bench, "folder/config.json");
    expect(&bench.run(&["runs", "lineage", "folder"]), 4, &["`config.json`: expected digest"]);
    expect(&bench.run(&["verify", base]), 4, &["exports          DIFFERS", "folder/config.json`: expected digest"]);
    flip(&bench, "folder/config.json");
    flip(&bench, "file.gguf");
    expect(&bench.run(&["runs", "lineage", "file.gguf"]), 4, &["MISSING", "no run in `runs` has written it"]);
    files::remove_file(&bench.path("file.gguf")).unwrap();
    expect(&bench.run(&["verify", base]), 0, &["it is not there any more"]);
    flip(&bench, &format!("runs/{id}/checkpoints/step-00000012/model.safetensors"));
    expect(&bench.run(&["runs", "lineage", "folder"]), 4, &["step 12", "model.safetensors"]);
    expect(&bench.run(&["runs", "lineage", "nowhere"]), 2, &["nowhere"]);
    expect(&bench.run(&["runs", "lineage", "folder", "--runs", "elsewhere"]), 4, &["no run in `elsewhere`"]);
}

#[test]
fn the_graph_of_a_run_has_every_input_and_output_by_digest() {
    let bench = Bench::with_text();
    assert_eq!(bench.train(&[]).code, 0);
    let run = bench.run_folder();
    let record: serde_json::Value = serde_json::from_slice(&files::read(&run.join("run.json")).unwrap()).unwrap();
    let kinds = |part: &str| -> Vec<String> {
        record["graph"][part].as_array().unwrap().iter().map(|node| node["kind"].as_str().unwrap().to_owned()).collect()
    };
    let expected = ["data", "data", "tokens", "tokenizer", "configuration", "program", "dependencies", "toolchain", "device"];
    assert_eq!(kinds("inputs"), expected);
    assert_eq!(kinds("outputs"), ["checkpoint", "checkpoint"]);
    let of = |name: &str| -> String {
        let all = record["graph"]["inputs"].as_array().unwrap();
        all.iter().find(|node| node["name"] == name).unwrap()["digest"].as_str().unwrap().to_owned()
    };
    assert_eq!(of("text.txt"), codex_core::Digest::of_file(&bench.path("text.txt")).unwrap().to_string());
    assert_eq!(of("tokenizer.json"), codex_core::Digest::of_file(&run.join("tokenizer.json")).unwrap().to_string());
    assert_eq!(of("config.resolved.toml"), codex_core::Digest::of_file(&run.join("config.resolved.toml")).unwrap().to_string());
    // A graph that does not fit its run is found.
    let path = run.join("run.json");
    let text = files::read_to_string(&path).unwrap();
    files::write_atomic(&path, text.replacen(&of("text.txt"), &of("held-out.txt"), 1).as_bytes()).unwrap();
    expect(&bench.run(&["verify"]), 4, &["graph            DIFFERS", "`text.txt`"]);
}

/// The text of a run's file, changed.
fn change(bench: &Bench, name: &str, from: &str, to: &str) {
    let path = bench.run_folder().join(name);
    let text = files::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    files::write_atomic(&path, text.replacen(from, to, 1).as_bytes()).unwrap();
}

#[test]
fn a_run_of_another_program_is_proven_by_the_bytes_of_its_configuration() {
    let bench = Bench::with_text();
    assert_eq!(bench.train(&[]).code, 0);
    let record: serde_json::Value = serde_json::from_slice(&files::read(&bench.run_folder().join("run.json")).unwrap()).unwrap();
    let (config, program) = (record["config_digest"].as_str().unwrap(), record["binary_digest"].as_str().unwrap());
    // As a program with other keys would have written it: another digest of the same file.
    let other = codex_core::Digest::of_bytes(b"other").to_string();
    change(&bench, "run.json", config, &other);
    let answer = bench.run(&["verify"]);
    assert!(answer.out.contains("configuration    DIFFERS"), "the program is this one: {}", answer.out);
    change(&bench, "run.json", program, &other);
    let answer = bench.run(&["verify"]);
    assert!(answer.out.contains("configuration    proven") && answer.out.contains("its bytes are as written"), "{}", answer.out);
    change(&bench, "config.resolved.toml", "steps = 12", "steps = 13");
    let answer = bench.run(&["verify"]);
    assert!(answer.out.contains("configuration    DIFFERS"), "{}", answer.out);
}
