//! The report of a real run, and of one that tries to break it.

use std::sync::Arc;

use codex_core::{Clock, Digest, FixedClock, Timestamp, files};
use codex_track::{Event, Level, RunDir, RunRecord, RunStatus, list_runs, report, summarize};
use serde_json::json;

use crate::bigram_run;

#[test]
fn a_real_run_that_was_killed_once_is_drawn_whole() {
    let root = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(FixedClock::new(1_795_484_319_250, 7));
    let run = bigram_run::train(root.path(), None, &clock).unwrap();
    let summaries = summarize(&run).unwrap();
    let count = |split: &str| summaries.metrics.iter().find(|one| one.split == split && one.metric == "loss").unwrap().count;
    assert_eq!((count("train"), count("validation")), (bigram_run::STEPS, bigram_run::STEPS / bigram_run::EVERY + 1));
    let record = &list_runs(root.path()).unwrap()[0].record;
    let summary = &record.as_ref().unwrap().summary;
    assert!(summary["validation/loss"] < summary["baseline/unigram/loss"], "{summary:?}");

    let path = report::write(&run).unwrap();
    let page = files::read_to_string(&path).unwrap();
    for section in ["result", "curves", "samples", "configuration", "environment", "data", "events", "files"] {
        assert!(page.contains(&format!("<section id=\"{section}\">")), "{section}");
    }
    for figure in
        ["Figure 1. Loss per token.", "Figure 2. Learning rate.", "Figure 3. Global norm", "Figure 4. Target tokens", "Figure 5. Memory"]
    {
        assert!(page.contains(figure), "{figure}");
    }
    assert_eq!(page.matches("class=\"resumed\"").count(), 10, "one in each figure, wide and narrow");
    assert!(page.contains("below a unigram model on the same tokens") && page.contains(">unigram model</text>"));
    assert!(page.contains("tracker.api_key=[masked]") && !page.contains("not-a-real-one"));
    assert!(!page.contains("What this page leaves out"), "nothing was unreadable");
    is_self_contained(&page);
    assert_eq!(report::render(&run).unwrap(), page, "drawing it again changes nothing");
}

/// Nothing is loaded and no script runs.
fn is_self_contained(page: &str) {
    for forbidden in ["http:", "https:", "<script", "src=", "url(", "@import", "<link", "<iframe", "javascript:", "onload"] {
        assert!(!page.to_lowercase().contains(forbidden), "{forbidden}");
    }
}

#[test]
fn what_a_run_wrote_never_becomes_markup() {
    let root = tempfile::tempdir().unwrap();
    let run = RunDir::open(root.path()).unwrap();
    let hostile = "<script>alert('1')</script><img onerror=\"x\">";
    let mut record = RunRecord::new(&run, hostile, &[hostile.to_owned()], 1, Digest::of_bytes(b""), Digest::of_bytes(b""), Timestamp(0));
    record.promise = hostile.to_owned();
    record.git_revision = Some(hostile.to_owned());
    record.started = hostile.to_owned();
    record.status = RunStatus::Failed;
    record.exit_code = Some(4);
    record.write(&run).unwrap();
    let sample = Event::new(Timestamp(0), Level::Info, "sample", "", json!({ "step": 1, "prompt": hostile, "text": hostile }));
    let degraded = Event::new(Timestamp(0), Level::Warn, "degraded", hostile, json!({ "reason": hostile }));
    let lost = Event::new(Timestamp(0), Level::Error, hostile, hostile, json!({ hostile: hostile }));
    let lines: Vec<String> = [sample, degraded, lost].iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect();
    run.write_text("events.ndjson", &lines.concat()).unwrap();
    run.write_text("config.resolved.toml", "\"<script>\" = \"<script>\"").unwrap();
    run.write_json("config.sources.json", &json!({ "<script>": { "layer": hostile, "path": hostile } })).unwrap();
    run.write_json("environment.json", &json!({ hostile: hostile })).unwrap();
    let source = json!({ "path": hostile, "bytes": 1, "blake3": Digest::of_bytes(b"") });
    run.write_json("dataset_checksums.json", &json!({ "schema": 1, "sources": [source] })).unwrap();
    let metric = json!({ "step": 1, "split": "train", "metric": "loss", "value": 1.0 });
    run.write_text("metrics.ndjson", &format!("{metric}\nnonsense\n")).unwrap();
    run.write_text("a<script>&.txt", "x").unwrap();
    let page = report::render(&run).unwrap();
    assert!(!page.contains("<script") && !page.contains("<img"));
    assert!(page.matches("&lt;script&gt;").count() > 15);
    assert!(page.contains("failed, exit code 4") && page.contains("1 line of `metrics.ndjson` cannot be read"));
    assert!(page.contains("no evaluation has been recorded"));
    assert!(page.contains("href=\"./a%3Cscript%3E%26.txt\""));
}

#[test]
fn a_long_run_is_folded() {
    let root = tempfile::tempdir().unwrap();
    let run = RunDir::open(root.path()).unwrap();
    RunRecord::new(&run, "long", &[], 1, Digest::of_bytes(b""), Digest::of_bytes(b""), Timestamp(0)).write(&run).unwrap();
    let event = |step: u64, kind: &str| {
        serde_json::to_string(&Event::new(Timestamp(0), Level::Info, kind, "m", json!({ "step": step, "text": "t" }))).unwrap() + "\n"
    };
    let lines: String = (0..400).map(|step| event(step, if step < 9 { "sample" } else { "checkpoint" })).collect();
    run.write_text("events.ndjson", &lines).unwrap();
    let metric = |step: u64| {
        json!({ "step": step, "split": "train", "metric": "grad_norm", "value": if step == 50 { 1e4 } else { 1.0 } }).to_string() + "\n"
    };
    run.write_text("metrics.ndjson", &(0..200).map(metric).collect::<String>()).unwrap();
    run.write_text("config.resolved.toml", "a = ").unwrap();
    files::create_dir_all(&run.checkpoints()).unwrap();
    files::write_atomic(&run.checkpoints().join("latest.json"), b"{}").unwrap();
    let page = report::render(&run).unwrap();
    for expected in [
        "5 samples between",
        "91 earlier events are in events.ndjson.",
        "300 events",
        "The scale is logarithmic.",
        "1 files in folders",
        "config.resolved.toml` cannot be read",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    assert!(!page.contains("Figure 2"), "only what was measured is drawn");
}
