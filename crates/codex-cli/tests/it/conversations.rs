//! Fine-tuning on prompts and chats, as a user goes: look at the masks, train, be killed, evaluate, chat.

use codex_core::files;

use crate::harness::Bench;

/// The shipped rows as arguments.
fn rows() -> [String; 3] {
    let path = |name: &str| std::path::absolute("../../fixtures/sft").unwrap().join(name).display().to_string();
    [
        format!("data.train=[\"{}\"]", path("train.jsonl")),
        format!("data.validation=[\"{}\"]", path("validation.jsonl")),
        "data.chat_template=plain".to_owned(),
    ]
}

/// A base with room for a whole row, and the arguments that fine-tune it.
fn base() -> (Bench, Vec<String>) {
    let bench = Bench::with_text();
    let answer = bench.train(&["run.name=base", "model.context_length=128", "train.steps=4"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    let base = bench.run_folder().strip_prefix(bench.path("")).unwrap().display().to_string();
    let fixed = [
        "train",
        "train.steps=12",
        "train.warmup_steps=2",
        "train.batch_size=4",
        "eval.every_steps=6",
        "eval.max_windows=4",
        "eval.sample_tokens=0",
        "checkpoint.every_steps=4",
        "run.name=tuned",
        "adapter.kind=lora",
        "adapter.rank=4",
    ];
    let mut arguments: Vec<String> = fixed.map(str::to_owned).to_vec();
    arguments.push(format!("run.base={base}"));
    arguments.extend(rows());
    (bench, arguments)
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn a_model_is_tuned_on_the_shipped_rows_and_killed_runs_go_on_exactly() {
    let (bench, arguments) = base();
    let answer = bench.run(&words(&arguments));
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(answer.err.contains(" trained) training and "), "{}", answer.err);
    let tuned = bench.run_folder();
    let manifest: serde_json::Value = serde_json::from_slice(&files::read(&tuned.join("data.manifest.json")).unwrap()).unwrap();
    let split = &manifest["splits"]["train"];
    assert!(split["mask"]["trained"].as_u64().unwrap() < split["tokens"].as_u64().unwrap());
    let run = tuned.display().to_string();
    let evaluated = bench.json(&["eval", &run, "--max-windows", "0"]);
    let of_validation = manifest["splits"]["validation"]["mask"]["trained"].as_u64();
    assert_eq!(evaluated["metrics"]["n_tokens"].as_u64(), of_validation, "answers only");
    let talked = bench.run(&["chat", &run, "--message", "Who is Emma?", "--max-new-tokens", "4"]);
    assert_eq!(talked.code, 0, "{}", talked.err);
    assert_eq!(bench.json(&words(&arguments))["status"], "already_finished");

    let weights = |run: &std::path::Path| files::read(&run.join("checkpoints/step-00000012/model.safetensors")).unwrap();
    let expected = weights(&tuned);
    let mut again = arguments.clone();
    again.push("--fresh".to_owned());
    let mut child = bench.command(&words(&again)).stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn().unwrap();
    while bench.run_folder() == tuned || !bench.run_folder().join("checkpoints/step-00000004/manifest.json").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before step 4 was saved");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = bench.run_folder();
    // The finished run would be found first.
    files::rename_new(&tuned, &bench.path("finished")).unwrap();
    let answer = bench.run(&words(&arguments));
    assert!(answer.code == 0 && answer.err.contains("going on with"), "{}", answer.err);
    assert!(weights(&killed) == expected, "after a kill");
}

/// From the model that comes with the repository: a lower loss on held-out answers, and another answer to a prompt that was not trained on.
#[test]
fn the_model_of_the_repository_learns_to_answer() {
    let bench = Bench::new();
    let model = std::path::absolute("../../fixtures/models/austen").unwrap().display().to_string();
    let on_model = format!("run.base={model}");
    let steps = ["train", "train.steps=16", "train.warmup_steps=2", "train.batch_size=4", "train.learning_rate=2e-3", &on_model];
    let others = ["adapter.kind=lora", "eval.every_steps=16", "eval.max_windows=8", "eval.sample_tokens=0", "run.name=tuned"];
    let tuned = bench.json(&[&steps[..], &others, &rows().each_ref().map(String::as_str)].concat());
    let run = tuned["run"].as_str().unwrap();
    let record: serde_json::Value = serde_json::from_slice(&files::read(&bench.path(run).join("run.json")).unwrap()).unwrap();
    let loss = |key: &str| record["summary"][key].as_f64().unwrap();
    assert!(loss("validation/loss") < loss("first/validation/loss") - 0.2, "{}", record["summary"]);
    let answer = |model: &str| {
        let greedy = ["--template", "plain", "--max-new-tokens", "24", "--temperature", "0"];
        let talk = bench.json(&[&["chat", model, "--message", "Who is Mr. Knightley?"][..], &greedy].concat());
        talk["turns"][0]["answer"].as_str().unwrap().to_owned()
    };
    let (before, after) = (answer(&model), answer(run));
    assert!(before != after && !after.trim().is_empty(), "{before:?} {after:?}");
}

#[test]
fn masks_are_shown_before_anything_is_trained() {
    let bench = Bench::new();
    bench.write(
        "a.jsonl",
        "{\"prompt\":\"ab \",\"completion\":\"cd\"}\n{\"prompt\":\"x\",\"completion\":\"\"}\n\
         {\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":\"yo\"}]}\n\
         {\"messages\":[{\"role\":\"assistant\",\"content\":\"yo\"},{\"role\":\"user\",\"content\":\"hi\"}]}\n\
         {\"messages\":[{\"role\":\"who\",\"content\":\"hi\"}]}\n",
    );
    bench.write("words.txt", "some words");
    let missing = bench.run(&["data", "inspect", "a.jsonl", "--masks"]);
    assert_eq!(missing.code, 2, "{}", missing.err);
    assert!(missing.err.contains("no run below `runs`") && missing.err.contains("--tokenizer"), "{}", missing.err);
    assert_eq!(bench.run(&["tokenizer", "train", "--out", "t", "--kind", "byte", "words.txt"]).code, 0);
    let inspect = ["data", "inspect", "a.jsonl", "--masks", "--tokenizer", "t", "--template", "plain", "--context-length", "20"];
    let shown = bench.run(&inspect);
    assert_eq!(shown.code, 0, "{}", shown.err);
    let lines = [
        "a.jsonl:1 (prompt): 6 tokens, 3 trained",
        "a|b| [c|d|<|endoftext|>]",
        "a.jsonl:3 (chat): 24 tokens, 4 trained",
        "U|s|e|r|:| |h|i|\\n|\\n|A|s|s|i|s|t|a|n|t|:[ |y|o|<|endoftext|>]",
        "1 rows that train nothing (left out)",
        "  `a.jsonl:2`: empty completion",
        "0 rows that begin with two tokens that begin a text",
        "1 rows whose end is not trained",
        "  a.jsonl:4",
        "2 rows that are longer than the context of 20 tokens (cut)",
        "1 bad rows",
        "  `a.jsonl:5`: `messages[0].role`: unknown role `who`",
    ];
    for line in lines {
        assert!(shown.out.contains(line), "`{line}` is not in: {}", shown.out);
    }
    let value = bench.json(&[&inspect[..], &["--rows", "1"]].concat());
    assert_eq!((value["rows"].as_array().unwrap().len(), value["n_rows"].as_u64()), (1, Some(3)));
    assert_eq!(value["rows"][0]["tokens"][3], serde_json::json!({ "id": 101, "text": "c", "trained": true, "role": "completion" }));
    assert_eq!(value["by_role"]["user"], serde_json::json!({ "tokens": 4, "trained": 0 }));
    assert_eq!(value["by_role"]["assistant"]["trained"], value["by_role"]["assistant"]["tokens"]);
    assert_eq!((value["train_nothing"]["rows"].as_u64(), value["end_not_trained"]["rows"].as_u64()), (Some(1), Some(1)));
    let all = bench.json(&[&inspect[..], &["--train-on", "all"]].concat());
    assert_eq!(all["tokens"], all["trained_tokens"]);
    let unknown = bench.run(&["data", "inspect", "a.jsonl", "--masks", "--tokenizer", "t", "--template", "plane"]);
    assert!(unknown.code == 2 && unknown.err.contains("plain"), "{}", unknown.err);
}

#[test]
fn rows_that_train_nothing_stop_the_run_where_there_are_too_many() {
    let bench = Bench::with_text();
    let rows = "{\"prompt\":\"ab\",\"completion\":\"\"}\n".repeat(3) + "{\"prompt\":\"ab\",\"completion\":\"cd\"}\n";
    bench.write("a.jsonl", rows);
    let answer = bench.train(&["data.train=[\"a.jsonl\"]", "tokenizer.kind=byte"]);
    assert_eq!(answer.code, 3, "{}", answer.err);
    for part in ["3 of 4 prompts and chats train nothing", "`a.jsonl:1`: empty completion", "hint:", "data.max_empty_rows"] {
        assert!(answer.err.contains(part), "{}", answer.err);
    }
    let answer = bench.train(&["data.train=[\"a.jsonl\"]", "tokenizer.kind=byte", "data.max_empty_rows=0.8"]);
    assert!(answer.code == 0 && answer.err.contains("were left out"), "{}", answer.err);
    let answer = bench.train(&["data.rows=rows"]);
    assert!(answer.code == 2 && answer.err.contains("data.rows"), "{}", answer.err);
}
