//! Safety of the training text, changes of the data, and where the metrics go.

use std::process::{Command, Stdio};

use codex_core::files;

use crate::harness::{Answer, Bench, all_files, train_arguments};

/// A token in a documented form, put together here so that it stands nowhere as one string.
fn canary() -> String {
    format!("gh{}_{}", "p", "k3JxQ9mZ2vL8pR5wT7yB4nC6dF1gH0sAeUiO")
}

fn with_canary() -> Bench {
    let bench = Bench::with_text();
    let text = files::read_to_string(&bench.path("text.txt")).unwrap();
    bench.write("text.txt", format!("{text}\ntoken {} and jane.roe@posteo.de\n", canary()));
    bench
}

#[test]
fn a_redacted_secret_reaches_no_file() {
    let bench = with_canary();
    let answer = bench.train(&[]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(answer.err.contains("github-token 1"), "{}", answer.err);
    for path in all_files(&bench.path("runs")) {
        let bytes = files::read(&path).unwrap();
        for secret in [canary(), "jane.roe@posteo.de".to_owned()] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{} holds a secret", path.display());
        }
    }
    let manifest: serde_json::Value =
        serde_json::from_slice(&files::read(&bench.run_folder().join("data.manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["account"]["safety"]["rules"]["github-token"], 1);
}

#[test]
fn a_policy_that_stops_names_place_and_rule() {
    let bench = with_canary();
    let answer = bench.train(&["safety.secrets=stop"]);
    assert_eq!(answer.code, 6, "{}", answer.err);
    assert!(answer.err.contains("text.txt") && answer.err.contains("github-token") && answer.err.contains("hint:"), "{}", answer.err);
    assert!(!answer.err.contains(&canary()));
    let dropped = bench.train(&["safety.secrets=drop"]);
    assert_eq!(dropped.code, 3, "the only document is dropped: {}", dropped.err);
    let off = bench.train(&["safety.secrets=off"]);
    assert!(off.err.contains("warning: safety.secrets is off"), "{}", off.err);
}

#[test]
fn files_are_scanned_and_redacted() {
    let bench = with_canary();
    let found = bench.json(&["safety", "scan", "text.txt"]);
    let rules: Vec<&str> = found["findings"].as_array().unwrap().iter().filter_map(|f| f["finding"]["rule"].as_str()).collect();
    assert_eq!(rules, ["github-token", "email"]);
    let answer = bench.run(&["safety", "scan", "."]);
    assert!(answer.out.contains("2 findings in 2 files") && !answer.out.contains(&canary()), "{}", answer.out);
    let redacted = bench.run(&["safety", "redact", "text.txt"]);
    assert!(redacted.out.ends_with("token [SECRET:github-token] and [EMAIL]\n"));
}

#[test]
fn a_changed_source_is_told_and_metrics_can_go_elsewhere() {
    let bench = Bench::with_text();
    assert_eq!(bench.train(&["--art-dir", "artifacts/metrics"]).code, 0);
    assert!(bench.path("artifacts/metrics/metrics.ndjson").exists());
    assert!(!bench.run_folder().join("metrics.ndjson").exists());
    let text = files::read_to_string(&bench.path("text.txt")).unwrap();
    bench.write("text.txt", text.replacen("Emma", "Anna", 1));
    let read = |bench: &Bench, arguments: &[&str]| bench.run(&[&["eval"], arguments].concat());
    let first = bench.run_folder();
    assert_eq!(read(&bench, &[first.to_str().unwrap()]).code, 0, "its own tokens are in the cache");
    let answer = bench.train(&[]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(answer.err.contains("not going on with") && answer.err.contains("its texts or its tokenizer were others"), "{}", answer.err);
    assert!(answer.err.contains("warning: data source `text.txt` has changed since the last run"), "{}", answer.err);
    assert!(!answer.err.contains("held-out.txt` has changed"));
}

#[test]
fn eval_refuses_a_text_that_is_not_the_runs() {
    let bench = Bench::with_text();
    assert_eq!(bench.train(&[]).code, 0);
    let run = bench.run_folder();
    let loss = bench.json(&["eval", run.to_str().unwrap()])["metrics"]["loss"].clone();
    files::remove_dir_all(&bench.path("runs/.cache/tokens")).unwrap();
    assert_eq!(bench.json(&["eval", run.to_str().unwrap()])["metrics"]["loss"], loss, "made again from the same text");
    files::remove_dir_all(&bench.path("runs/.cache/tokens")).unwrap();
    let text = files::read_to_string(&bench.path("held-out.txt")).unwrap();
    bench.write("held-out.txt", text.replacen("Emma", "Anna", 1));
    let answer = bench.run(&["eval", run.to_str().unwrap()]);
    assert_eq!(answer.code, 4, "{}", answer.err);
    assert!(answer.err.contains("`held-out.txt` has changed") && answer.err.contains("hint:"), "{}", answer.err);
}

#[test]
fn what_is_not_recorded_is_told_and_redirected_metrics_stay_where_they_are() {
    let bench = Bench::with_text();
    files::create_dir_all(&bench.path("metrics/metrics.csv")).unwrap();
    let mut child = bench.spawn_train(&["--art-dir", "metrics", "train.steps=100000"]);
    bench.wait_for(&mut child, 4);
    child.kill().unwrap();
    child.wait().unwrap();
    let mut child = bench.command(&train_arguments(&["train.steps=100000"]));
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    bench.wait_for(&mut child, 20);
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let answer = Answer::of(&child.wait_with_output().unwrap());
    assert_eq!(answer.code, 143, "{}", answer.err);
    assert!(answer.err.contains("warning: [telemetry] degraded: csv ("), "{}", answer.err);
    assert!(answer.err.contains("stopping: the state is saved first"), "{}", answer.err);
    let lines = files::read_to_string(&bench.path("metrics/metrics.ndjson")).unwrap();
    assert!(lines.contains("\"step\":20,"), "a resume goes on where the metrics are");
    assert!(!bench.run_folder().join("metrics.ndjson").exists());
}

#[test]
fn a_changed_file_of_a_run_is_found() {
    let bench = Bench::with_text();
    assert_eq!(bench.train(&[]).code, 0);
    let run = bench.run_folder();
    let verified = bench.json(&["runs", "verify"]);
    assert_eq!((verified["valid"].as_bool(), verified["checkpoints"].as_u64()), (Some(true), Some(2)));
    assert!(verified["files"].as_u64().unwrap() >= 14, "{verified}");
    for name in ["metrics.ndjson", "checkpoints/step-00000012/model.safetensors", "checkpoints/step-00000012/manifest.json"] {
        let whole = files::read(&run.join(name)).unwrap();
        let mut bytes = whole.clone();
        bytes[whole.len() / 2] ^= 1;
        files::write_atomic(&run.join(name), &bytes).unwrap();
        let answer = bench.run(&["runs", "verify"]);
        assert_eq!(answer.code, 4, "{name}");
        assert!(answer.out.contains(name) && answer.err.contains("hint:"), "{name}: {}{}", answer.out, answer.err);
        files::write_atomic(&run.join(name), &whole).unwrap();
    }
    assert_eq!(bench.run(&["runs", "verify"]).code, 0);
    files::remove_file(&run.join("run.manifest.json")).unwrap();
    assert_eq!(bench.run(&["runs", "verify"]).code, 4);
}

#[test]
fn the_best_checkpoint_is_the_best_by_the_runs_own_measure() {
    let bench = Bench::with_text();
    let measure = ["checkpoint.metric=\"validation/loss\"", "checkpoint.mode=max", "checkpoint.every_steps=5", "eval.every_steps=3"];
    assert_eq!(bench.train(&measure).code, 0);
    let list = bench.json(&["checkpoint", "list"]);
    let entries = list["checkpoints"].as_array().unwrap();
    for entry in entries {
        // Steps 5 and 10 were saved and not evaluated.
        let is_evaluated = entry["metrics"].get("validation/loss").is_some();
        assert_eq!(is_evaluated, entry["step"].as_u64().unwrap() % 3 == 0, "{entry}");
    }
    let loss = |entry: &&serde_json::Value| entry["metrics"]["validation/loss"].as_f64();
    let worst = entries.iter().filter(|entry| loss(entry).is_some()).max_by(|a, b| loss(a).unwrap().total_cmp(&loss(b).unwrap())).unwrap();
    assert_eq!(list["best"], worst["step"], "the highest loss was asked for");
    let run = bench.run_folder();
    assert_eq!(bench.json(&["eval", run.to_str().unwrap(), "--checkpoint", "best"])["step"], worst["step"]);
}

#[test]
fn no_secret_stands_in_the_repository() {
    let root = std::path::absolute("../..").unwrap();
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    // The tests of the safety rules are made of findings.
    let is_example = |path: &str| path.starts_with("crates/codex-safety/") || path.starts_with("fixtures/safety/");
    let paths: Vec<&str> = listed.split('\0').filter(|path| !path.is_empty() && !is_example(path)).collect();
    assert!(paths.len() > 200 || listed.is_empty(), "{}", paths.len());
    let bench = Bench::new();
    let absolute: Vec<String> =
        paths.iter().map(|path| root.join(path)).filter(|path| path.is_file()).map(|path| path.display().to_string()).collect();
    let arguments: Vec<&str> = ["safety", "scan"].into_iter().chain(absolute.iter().map(String::as_str)).collect();
    let found = bench.json(&arguments);
    let secrets = found["findings"].as_array().unwrap().iter().filter(|found| found["finding"]["category"] == "secret");
    let places: Vec<String> = secrets.map(|found| format!("{}:{}", found["path"], found["finding"]["line"])).collect();
    assert!(places.is_empty(), "{places:?}");
}
