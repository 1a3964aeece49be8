//! After a resume no step is there twice and none is missing.

use std::path::Path;
use std::sync::Arc;

use codex_core::{Clock, FixedClock, files};
use codex_track::event::read_events;
use codex_track::{MetricPoint, RunDir, TrackConfig, Tracker, summarize};

fn clock() -> Arc<dyn Clock> {
    Arc::new(FixedClock::new(1_795_484_319_250, 10))
}

/// Writes steps `from..=to`, as a process that is killed at the end does: without a flush.
fn process(run: &RunDir, art_dir: Option<&Path>, resume: Option<u64>, from: u64, to: u64) {
    let mut tracker = Tracker::open(run, art_dir, resume, clock(), &TrackConfig::default()).unwrap();
    for step in from..=to {
        let values = [("loss", 1.0 / step as f64), ("grad_norm", f64::INFINITY)];
        tracker.metrics(&MetricPoint { step, split: "train", values: &values, tokens: step * 8, epoch: 0.0 });
    }
    assert_eq!(tracker.degraded(), []);
}

fn tear(path: &Path, tail: &[u8]) {
    let mut bytes = files::read(path).unwrap();
    bytes.extend_from_slice(tail);
    files::write_atomic(path, &bytes).unwrap();
}

fn ndjson_steps(dir: &Path, run_id: &str) -> Vec<u64> {
    let text = files::read_to_string(&dir.join("metrics.ndjson")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["run_id"] == run_id && line["metric"] == "loss").map(|line| line["step"].as_u64().unwrap()).collect()
}

fn csv_steps(dir: &Path, run_id: &str) -> Vec<u64> {
    let mut reader = csv::Reader::from_path(dir.join("metrics.csv")).unwrap();
    let rows = reader.records().map(Result::unwrap);
    rows.filter(|row| &row[5] == run_id && &row[2] == "loss").map(|row| row[0].parse().unwrap()).collect()
}

#[test]
fn a_killed_run_goes_on_from_its_checkpoint_without_a_gap_or_a_repeat() {
    let root = tempfile::tempdir().unwrap();
    let run = RunDir::create(root.path(), "r", clock().as_ref()).unwrap();
    process(&run, None, None, 1, 7);
    tear(&run.path().join("metrics.ndjson"), br#"{"schema_version":"v1","timest"#);
    tear(&run.path().join("metrics.csv"), b"8,train,lo");
    tear(&run.path().join("events.ndjson"), br#"{"ts":"#);
    process(&run, None, Some(5), 6, 9);
    let expected: Vec<u64> = (1..=9).collect();
    assert_eq!(ndjson_steps(run.path(), &run.id()), expected);
    assert_eq!(csv_steps(run.path(), &run.id()), expected);
    let (events, bad_lines) = read_events(&run).unwrap();
    assert_eq!((events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), bad_lines), (vec!["started", "resumed"], 0));
    assert_eq!(events[1].fields["step"], 5);
    let summaries = summarize(&run).unwrap();
    assert_eq!((summaries.metrics[1].count, summaries.metrics[1].last_step, summaries.bad_lines), (9, 9, 0));
}

#[test]
fn a_run_from_the_start_forgets_what_a_killed_one_measured() {
    let root = tempfile::tempdir().unwrap();
    let run = RunDir::create(root.path(), "r", clock().as_ref()).unwrap();
    process(&run, None, None, 1, 4);
    process(&run, None, None, 1, 2);
    assert_eq!((ndjson_steps(run.path(), &run.id()), csv_steps(run.path(), &run.id())), (vec![1, 2], vec![1, 2]));
}

#[test]
fn redirected_metrics_are_shared_by_runs_and_found_from_each() {
    let root = tempfile::tempdir().unwrap();
    let art_dir = root.path().join("artifacts/metrics");
    let first = RunDir::create(&root.path().join("runs"), "a", clock().as_ref()).unwrap();
    let second = RunDir::create(&root.path().join("runs"), "b", clock().as_ref()).unwrap();
    process(&first, Some(&art_dir), None, 1, 5);
    process(&second, Some(&art_dir), None, 1, 3);
    process(&first, Some(&art_dir), Some(2), 3, 4);
    assert!(!first.path().join("metrics.ndjson").exists() && first.path().join("events.ndjson").exists());
    for (run, steps) in [(&first, vec![1, 2, 3, 4]), (&second, vec![1, 2, 3])] {
        assert_eq!(ndjson_steps(&art_dir, &run.id()), steps);
        assert_eq!(csv_steps(&art_dir, &run.id()), steps);
        assert_eq!(summarize(run).unwrap().metrics[0].count, steps.len() as u64);
    }
}
