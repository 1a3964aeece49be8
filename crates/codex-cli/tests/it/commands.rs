//! Each command on a trained model, in words and as JSON.

use std::io::Write as _;
use std::process::Stdio;

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
    assert!(bench.run(&["config", "show", "--sources"]).out.contains("compiled-in"));
    assert!(bench.run(&["config", "check", "run.toml"]).out.contains("valid"));
    let configs = std::path::absolute("../../configs").unwrap();
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

/// A small trained run and its folder.
fn trained() -> (Bench, String) {
    let bench = Bench::with_text();
    assert_eq!(bench.train(&["model.context_length=512"]).code, 0);
    let run = bench.run_folder().display().to_string();
    (bench, run)
}

#[test]
fn a_model_says_what_it_is_and_its_scores_to_the_last_digit() {
    let (bench, run) = trained();
    let inspected = bench.json(&["model", "inspect", &run]);
    let config: serde_json::Value = serde_json::from_slice(&bench.checkpoint(12, "model.json")).unwrap();
    assert_eq!((&inspected["model"], &inspected["holds"]), (&config, &serde_json::Value::from("weights")));
    assert_eq!(inspected["parameters"], inspected["numbers"]);
    let file = codex_core::Digest::of_bytes(&bench.checkpoint(12, "model.safetensors")).to_string();
    assert_eq!(inspected["digest"], file.as_str(), "weights are known by the file they make");
    let vocab = inspected["vocab_size"].as_u64().unwrap() as usize;
    let said = bench.json(&["model", "logits", &run, "--ids", "1,2,3", "--ids", "2"]);
    let rows = |index: usize| said["sequences"][index]["logits"].as_array().unwrap().clone();
    assert_eq!((rows(0).len(), rows(1).len(), rows(0)[0].as_array().unwrap().len()), (3, 1, vocab));
    assert_ne!(rows(0)[1], rows(1)[0], "the second id has another one before it");
    assert!(bench.run(&["model", "logits", &run, "--ids", "1"]).out.contains("most likely next"));
    for (ids, word) in [("1,x", "`x` is not a token id"), ("999999", "999999")] {
        let refused = bench.run(&["model", "logits", &run, "--ids", ids]);
        assert!(refused.code != 0 && refused.err.contains(word), "{}", refused.err);
    }
    assert_eq!(bench.run(&["model", "inspect", "nowhere"]).code, 2);
}

#[test]
fn a_conversation_follows_its_template_and_is_written_down() {
    let (bench, run) = trained();
    let chat = |more: &[&str]| bench.run(&[&["chat", &run, "--max-new-tokens", "4", "--seed", "1"], more].concat());
    let refused = chat(&["--message", "hi"]);
    assert!(refused.code == 2 && refused.err.contains("no chat template") && refused.err.contains("chatml"), "{}", refused.err);
    let talk = ["chat", &run, "--max-new-tokens", "4", "--seed", "1", "--template", "plain", "--transcript", "talk.jsonl"];
    let turns = ["--system", "Be brief.", "--message", "Who is Emma?", "--message", "And my mail is jane.doe@posteo.de"];
    let told = bench.json(&[&talk[..], &turns].concat());
    assert_eq!(told["turns"].as_array().unwrap().len(), 2);
    assert!(
        told["turns"][0]["answer"].is_string() && told["turns"][1]["prompt_tokens"].as_u64() > told["turns"][0]["prompt_tokens"].as_u64()
    );
    assert!(told["redacted_messages"].as_u64().unwrap() >= 1);
    let second = &told["turns"][1];
    assert_eq!((&second["safety"]["message"]["rules"]["email"], &second["safety"]["message"]["redacted"]), (&1.into(), &1.into()));
    assert!(second["safety"]["answer"]["texts"] == 1 && second["message"].as_str().unwrap().contains("[EMAIL]"));
    let (reused, before) = (second["prompt_tokens_reused"].as_u64(), told["turns"][0]["prompt_tokens"].as_u64());
    assert!(told["turns"][0]["prompt_tokens_reused"] == 0 && reused > Some(4) && reused <= before, "{told}");
    let aloud = chat(&["--template", "plain", "--message", "Mail jane.doe@posteo.de"]);
    assert!(aloud.err.contains("warning: the user's message was redacted (email): Mail [EMAIL]"), "{}", aloud.err);
    let transcript = files::read_to_string(&bench.path("talk.jsonl")).unwrap();
    let roles: Vec<String> =
        transcript.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["role"].to_string()).collect();
    assert_eq!(roles, ["\"system\"", "\"user\"", "\"assistant\"", "\"user\"", "\"assistant\""]);
    assert!(transcript.contains("[EMAIL]") && !transcript.contains("posteo"), "{transcript}");
    assert!(transcript.contains(r#""findings":{"email":1}"#), "{transcript}");
    let special = chat(&["--template", "plain", "--message", "a <|endoftext|> b"]);
    assert!(special.code == 2 && special.err.contains("<|endoftext|>"), "{}", special.err);
    let long = "word ".repeat(4000);
    let long = chat(&["--template", "plain", "--message", &long]);
    assert!(
        long.code == 2 && long.err.contains("the model's context is 512") && long.err.contains("too many") && long.err.contains("hint:"),
        "{}",
        long.err
    );
    assert_eq!(chat(&["--template", "nothing", "--message", "x"]).code, 2);
}

#[test]
fn a_conversation_is_read_from_standard_input_line_by_line() {
    let (bench, run) = trained();
    let mut command = bench.command(&["chat", &run, "--max-new-tokens", "3", "--seed", "1", "--template", "plain", "--stop", "zzz"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"Who is Emma?\nAnd who is Harriet?\n\nThis is not read.\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().lines().count() >= 2, "an answer to each line");
    bench.write("own.jinja", "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:");
    let own = bench.json(&["chat", &run, "--max-new-tokens", "3", "--template", "own.jinja", "--message", "x"]);
    assert!(own["turns"][0]["prompt_tokens"].as_u64().unwrap() > 4);
}

#[test]
fn a_collection_is_looked_at_and_counted() {
    let bench = Bench::new();
    let rows = ["Эмма, Emma", "twice the same", "twice the same", "\\n\\n", "a longer text than all the others here"];
    bench.write("rows.jsonl", rows.map(|row| format!("{{\"text\":\"{row}\"}}\n")).concat());
    let inspected = bench.json(&["data", "inspect", "rows.jsonl", "--svg", "lengths.svg"]);
    let survey = &inspected["survey"];
    assert_eq!((inspected["documents"].as_u64(), survey["duplicates"]["duplicate"].as_u64()), (Some(5), Some(1)));
    assert_eq!(survey["first_duplicates"][0]["like"], "rows.jsonl:2");
    assert_eq!((&survey["longest"][0]["origin"], &survey["emptiest"][0]["origin"]), (&"rows.jsonl:5".into(), &"rows.jsonl:4".into()));
    assert_eq!(survey["scripts"][0][0], "Latin");
    assert!(files::read_to_string(&bench.path("lengths.svg")).unwrap().contains("5 documents by their bytes"));
    let shown = bench.run(&["data", "inspect", "rows.jsonl"]).out;
    for part in [
        "text: text",
        "5 documents",
        "writing systems by letters: Latin",
        "Cyrillic",
        "longest: rows.jsonl:5 (38 bytes)",
        "1 duplicates",
        "rows.jsonl:3: duplicate of rows.jsonl:2",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    bench.run(&["tokenizer", "train", "rows.jsonl", "--out", "t", "--kind", "byte"]);
    let stats = bench.json(&["data", "stats", "rows.jsonl", "--tokenizer", "t"]);
    assert_eq!(stats["tokens"]["total"], stats["survey"]["bytes"]["total"], "a token is a byte here");
    assert_eq!((stats["survey"]["bytes"]["max"].as_u64(), stats["bytes_per_token"].as_f64()), (Some(38), Some(1.0)));
    let shown = bench.run(&["data", "stats", "rows.jsonl", "--tokenizer", "t"]).out;
    assert!(shown.contains("p95") && shown.contains("1.000 bytes per token") && shown.contains("0 bad rows"), "{shown}");
    let both = bench.run(&["data", "inspect", "rows.jsonl", "builtin:austen/train"]).out;
    assert!(both.contains("JSON lines") && both.contains("builtin:austen/train"), "{both}");
    assert_eq!(bench.run(&["data", "stats", "nowhere.jsonl"]).code, 3);
}

#[test]
fn how_documents_are_packed_is_told() {
    let bench = Bench::new();
    let rows: Vec<String> = (0..60_usize).map(|i| format!("{{\"text\":\"{}\"}}\n", "word ".repeat(i % 13 + 1))).collect();
    bench.write("rows.jsonl", rows.concat());
    let prepare = |packing: &str| {
        let packing = format!("data.packing={packing}");
        bench.json(&[
            "data",
            "prepare",
            "data.train=[\"rows.jsonl\"]",
            "data.validation=[]",
            "data.validation_fraction=0.1",
            "tokenizer.vocab_size=300",
            "model.context_length=16",
            &packing,
        ])
    };
    let (stream, packed, rows) = (prepare("stream"), prepare("best_fit"), prepare("rows"));
    assert_eq!((&stream["key"], &packed["packing"]), (&rows["key"], &"best_fit".into()));
    let padding = |of: &serde_json::Value| of["windows"][""]["padding"].as_u64().unwrap();
    assert!(padding(&packed) < padding(&rows), "{stream} {packed} {rows}");
    assert_eq!(packed["windows"][""]["cut_documents"], 0);
    assert!(stream["windows"][""]["cut_documents"].as_u64().unwrap() > 0);
    let refused = bench.run(&["data", "prepare", "data.packing=tight"]);
    assert!(refused.code == 2 && refused.err.contains("best_fit"), "{} {}", refused.code, refused.err);
}

#[test]
fn tokenizers_are_compared_exported_and_told_how_to_cut() {
    let bench = Bench::with_text();
    let train = |out: &str, more: &[&str]| bench.json(&[&["tokenizer", "train", "text.txt", "--out", out], more].concat());
    let small = train("small", &["--vocab-size", "300"]);
    train("large", &["--vocab-size", "600"]);
    assert_eq!((small["texts"].as_u64(), small["left_out"].is_null()), (Some(1), true));
    let found = bench.json(&["tokenizer", "compare", "small", "large", "text.txt", "--text", "the time"]);
    assert!(found["a"]["tokens"].as_u64() > found["b"]["tokens"].as_u64());
    assert_eq!(found["shared_of_a"], 1.0, "what is merged first is in both");
    assert_eq!(found["spans_b"][0]["start"], 0);
    let shown = bench.run(&["tokenizer", "compare", "small", "large", "text.txt", "--text", "the time"]).out;
    assert!(shown.contains("bytes per token") && shown.contains("large: ") && shown.contains('|'), "{shown}");
    let stats = bench.run(&["tokenizer", "stats", "large", "text.txt"]).out;
    assert!(stats.contains("tokens per word") && stats.contains("Latin"), "{stats}");

    // What is exported is read back to the same ids.
    let ids = |tokenizer: &str, more: &[&str]| bench.json(&[&["tokenizer", "encode", tokenizer, "that was the time"], more].concat());
    bench.json(&["tokenizer", "export", "large", "--out", "hf", "--template", "chatml"]);
    assert!(bench.path("hf/special_tokens_map.json").exists());
    assert_eq!(ids("hf", &[]), ids("large", &[]));
    bench.json(&["tokenizer", "export", "large", "--out", "large.tiktoken", "--format", "tiktoken"]);
    bench.json(&["tokenizer", "import", "large.tiktoken", "--encoding", "gpt2", "--out", "back"]);
    assert_eq!(ids("back", &[]), ids("large", &[]));
    assert_eq!(bench.run(&["tokenizer", "export", "large", "--out", "hf"]).code, 5);

    // Settings in the file are honoured, and can be taken out.
    bench.json(&["tokenizer", "padding", "large", "--out", "cut", "--max-length", "3", "--truncate"]);
    let whole = ids("large", &[]);
    assert_eq!(ids("cut", &[]).as_array().unwrap()[..], whole.as_array().unwrap()[..3]);
    assert_eq!(ids("cut", &["--as-it-is"]), whole);
    bench.json(&["tokenizer", "padding", "cut", "--out", "plain"]);
    assert_eq!(ids("plain", &[]), whole);

    // A model with too few rows is named.
    bench.json(&[&["train"], SMALL].concat());
    let run = bench.run_folder().display().to_string();
    assert_eq!(bench.run(&["tokenizer", "validate", &run, "text.txt", "--model", &run]).code, 0);
    let misfit = bench.run(&["tokenizer", "validate", "large", "text.txt", "--model", &run]);
    assert!(misfit.code == 4 && misfit.err.contains("have no row"), "{} {}", misfit.code, misfit.err);
    // Words, and kinds whose trainers cannot be repeated.
    let words = train("words", &["--kind", "word_level", "--vocab-size", "400"]);
    assert_eq!(words["vocab_size"], 400);
    let refused = bench.run(&["tokenizer", "train", "text.txt", "--out", "u", "--kind", "unigram"]);
    assert!(refused.code == 2 && refused.err.contains("is not trained here"), "{} {}", refused.code, refused.err);
}

#[test]
fn a_source_that_has_not_changed_is_not_read_again() {
    let bench = Bench::new();
    let novel = std::path::absolute("../../fixtures/corpus/train/emma.txt").unwrap().display().to_string();
    let text = format!("data.train=[\"{novel}\"]");
    let prepared = || bench.json(&["data", "prepare", &text, "data.validation=[]", "model=nano", "tokenizer.kind=byte"])["key"].clone();
    let key = prepared();
    let path = bench.path("runs/.cache/checksums.json");
    let mut known: serde_json::Value = serde_json::from_slice(&files::read(&path).unwrap()).unwrap();
    assert_eq!(known["files"].as_object().unwrap().keys().collect::<Vec<_>>(), [&novel]);
    assert_eq!(prepared(), key);
    // That the file is not read is seen by what a wrong digest does.
    known["files"][&novel]["blake3"] = serde_json::json!(codex_core::Digest::of_bytes(b"wrong"));
    known["blake3"] = serde_json::json!(codex_core::Digest::of_json(&known["files"]).unwrap());
    files::write_atomic(&path, known.to_string().as_bytes()).unwrap();
    assert_ne!(prepared(), key);
    files::remove_file(&path).unwrap();
    assert_eq!(prepared(), key);
}

#[test]
fn rows_are_piped_in() {
    use std::io::Write as _;
    let bench = Bench::new();
    let mut command = bench.command(&["data", "stats", "-", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"{\"text\":\"one\"}\n{\"text\":\"three\"}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((found["survey"]["documents"].as_u64(), found["survey"]["bytes"]["max"].as_u64()), (Some(2), Some(5)));
    let twice = bench.run(&["data", "stats", "-", "-"]);
    assert!(twice.code == 2 && twice.err.contains("hint:"), "{} {}", twice.code, twice.err);
    bench.write("rows.parquet", b"PAR1");
    let parquet = bench.run(&["data", "stats", "rows.parquet"]);
    assert!(parquet.code != 0 && parquet.err.contains("parquet") && parquet.err.contains("hint:"), "{} {}", parquet.code, parquet.err);
}
