//! After a resume no step is there twice and none is missing.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use codex_core::{Clock, FixedClock, files};
use codex_track::event::read_events;
use codex_track::{Degraded, MetricPoint, RunDir, TrackConfig, Tracker, summarize};

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
    // In a shared folder a line that was taken out is left as empty ones.
    let lines = text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
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

#[test]
fn another_tools_lines_in_a_shared_folder_stay_and_it_can_go_on_appending() {
    let root = tempfile::tempdir().unwrap();
    let art_dir = root.path().join("shared");
    files::create_dir_all(&art_dir).unwrap();
    let (ndjson, csv) = (art_dir.join("metrics.ndjson"), art_dir.join("metrics.csv"));
    let foreign = ["{\"tool\":\"other\",\"step\":9}\n", "no JSON at all\n", "{\"run_id\":\"theirs\",\"step\":9,\"spl"];
    files::write_atomic(&ndjson, foreign.concat().as_bytes()).unwrap();
    let rows = ["step,split,metric,value,dataset,run_id,timestamp\n", "a,row,of,another,kind\n", "9,train,loss,1,,theirs,now\n"];
    files::write_atomic(&csv, rows.concat().as_bytes()).unwrap();
    // The other tool has the files open all the while.
    let mut theirs = [files::open_append(&ndjson).unwrap(), files::open_append(&csv).unwrap()];
    let run = RunDir::create(&root.path().join("runs"), "a", clock().as_ref()).unwrap();
    process(&run, Some(&art_dir), None, 1, 5);
    theirs[0].write_all(b"{\"tool\":\"other\",\"step\":10}\n").unwrap();
    theirs[1].write_all(b"10,train,loss,1,,theirs,now\n").unwrap();
    process(&run, Some(&art_dir), Some(2), 3, 4);
    theirs[0].write_all(b"{\"tool\":\"other\",\"step\":11}\n").unwrap();
    theirs[1].write_all(b"11,train,loss,1,,theirs,now\n").unwrap();
    let text = files::read_to_string(&ndjson).unwrap();
    assert!(text.starts_with(&foreign.concat()), "{text}");
    for step in [10, 11] {
        assert_eq!(text.lines().filter(|line| *line == format!("{{\"tool\":\"other\",\"step\":{step}}}")).count(), 1, "{text}");
    }
    let table = files::read_to_string(&csv).unwrap();
    assert!(
        table.starts_with(&rows.concat()) && table.contains("\n10,train,") && table.ends_with("\n11,train,loss,1,,theirs,now\n"),
        "{table}"
    );
    let summaries = summarize(&run).unwrap();
    assert_eq!((summaries.metrics[1].count, summaries.metrics[1].last_step, summaries.bad_lines), (4, 4, 0));
    let ours = table.lines().filter(|row| row.contains(&run.id()) && row.contains(",loss,")).map(|row| row[..1].to_owned());
    assert_eq!(ours.collect::<Vec<_>>(), ["1", "2", "3", "4"]);
}

#[test]
fn a_second_run_into_a_folder_in_use_keeps_its_metrics_in_its_own() {
    let root = tempfile::tempdir().unwrap();
    let art_dir = root.path().join("shared");
    let open = |name: &str| {
        let run = RunDir::create(&root.path().join("runs"), name, clock().as_ref()).unwrap();
        let tracker = Tracker::open(&run, Some(&art_dir), None, clock(), &TrackConfig::default()).unwrap();
        (run, tracker)
    };
    let point = |tracker: &mut Tracker, step| {
        tracker.metrics(&MetricPoint { step, split: "train", values: &[("loss", 1.0)], tokens: 0, epoch: 0.0 });
    };
    let (first, mut of_first) = open("a");
    point(&mut of_first, 1);
    let (second, mut of_second) = open("b");
    point(&mut of_second, 1);
    point(&mut of_first, 2);
    assert_eq!(of_first.degraded(), []);
    let banner = Degraded::banner(of_second.degraded()).unwrap();
    let expected =
        format!("metrics folder (`{}` is in use by another run, so the metrics are kept in the run's own folder)", art_dir.display());
    assert_eq!(banner, format!("[telemetry] degraded: {expected}"));
    for (run, dir, steps) in [(&first, art_dir.as_path(), vec![1, 2]), (&second, second.path(), vec![1])] {
        assert_eq!((ndjson_steps(dir, &run.id()), csv_steps(dir, &run.id())), (steps.clone(), steps.clone()));
        assert_eq!(summarize(run).unwrap().metrics[0].count, steps.len() as u64);
    }
    drop(of_first);
    let (_, third) = open("c");
    assert_eq!(third.degraded(), [], "the folder is free again");
}
