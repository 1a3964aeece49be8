//! Safety of the training text, changes of the data, and where the metrics go.

use codex_core::files;

use crate::harness::{Bench, all_files};

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
    let answer = bench.train(&[]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(answer.err.contains("warning: data source `text.txt` has changed since the last run"), "{}", answer.err);
    assert!(!answer.err.contains("held-out.txt` has changed"));
}
