//! What cannot be written is said once, and the run goes on.

use std::sync::Arc;

use codex_core::{Clock, Failure, FileError, FixedClock, Timestamp, files};
use codex_track::event::read_events;
use codex_track::telemetry::TelemetryConfig;
use codex_track::{
    Degraded, DiskSampler, Level, MetricPoint, MetricWriter, RunDir, Sampling, SystemSampler, TrackConfig, TrackError, Tracker, summarize,
};

fn clock() -> Arc<dyn Clock> {
    Arc::new(FixedClock::new(0, 1000))
}

fn point(tracker: &mut Tracker, step: u64) {
    tracker.metrics(&MetricPoint { step, split: "train", values: &[("loss", 1.0)], tokens: 0, epoch: 0.0 });
}

fn components(tracker: &Tracker) -> Vec<&str> {
    tracker.degraded().iter().map(|one| one.component.as_str()).collect()
}

#[test]
fn a_writer_that_cannot_open_its_file_is_reported_and_left_out() {
    let root = tempfile::tempdir().unwrap();
    let run = RunDir::open(root.path()).unwrap();
    files::create_dir_all(&root.path().join("metrics.csv")).unwrap();
    let mut tracker = Tracker::open(&run, None, None, clock(), &TrackConfig::default()).unwrap();
    point(&mut tracker, 1);
    point(&mut tracker, 2);
    tracker.flush();
    assert_eq!(components(&tracker), ["csv"]);
    assert_eq!(summarize(&run).unwrap().metrics[0].count, 2);
    let (events, _) = read_events(&run).unwrap();
    let degraded: Vec<_> = events.iter().filter(|event| event.kind == "degraded").collect();
    assert_eq!((degraded.len(), degraded[0].level, &degraded[0].fields["component"]), (1, Level::Warn, &"csv".into()));
    assert!(Degraded::banner(tracker.degraded()).unwrap().starts_with("[telemetry] degraded: csv (cannot "));
}

#[test]
fn everything_may_be_off_and_the_run_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let run = RunDir::open(root.path()).unwrap();
    for name in ["metrics.csv", "metrics.ndjson", "events.ndjson", "system.ndjson", "metrics.location.json"] {
        files::create_dir_all(&root.path().join(name)).unwrap();
    }
    let mut tracker = Tracker::open(&run, None, Some(3), clock(), &TrackConfig::default()).unwrap();
    point(&mut tracker, 4);
    tracker.event("x", Level::Info, "x", serde_json::Value::Null);
    tracker.sample_system(&mut Sampling::new(&run, &TelemetryConfig::default()), 4);
    tracker.flush();
    assert_eq!(components(&tracker), ["events", "metrics location", "ndjson", "csv", "system"]);
}

#[test]
fn a_metrics_folder_that_cannot_be_made_leaves_the_metrics_in_the_run() {
    let root = tempfile::tempdir().unwrap();
    let run = RunDir::open(root.path()).unwrap();
    files::write_atomic(&root.path().join("taken"), b"").unwrap();
    let mut tracker = Tracker::open(&run, Some(&root.path().join("taken")), None, clock(), &TrackConfig::default()).unwrap();
    point(&mut tracker, 1);
    assert_eq!(components(&tracker), ["metrics folder"]);
    assert_eq!(summarize(&run).unwrap().metrics[0].count, 1);
}

#[test]
fn what_was_not_asked_for_is_not_missed() {
    let root = tempfile::tempdir().unwrap();
    let run = RunDir::open(root.path()).unwrap();
    let config = TrackConfig { csv: false, tensorboard: false, ..TrackConfig::default() };
    let mut tracker = Tracker::open(&run, None, None, clock(), &config).unwrap();
    tracker.sample_system(&mut Sampling::new(&run, &TelemetryConfig { every_seconds: 0.0, ..TelemetryConfig::default() }), 1);
    point(&mut tracker, 1);
    assert_eq!(tracker.degraded(), []);
    assert!(!root.path().join("metrics.csv").exists() && !root.path().join("system.ndjson").exists());
    let nowhere = RunDir::open(root.path()).unwrap();
    drop(root);
    let error = Tracker::open(&nowhere, None, None, clock(), &config).unwrap_err();
    assert!(matches!(error, TrackError::NotARun { .. }) && error.hint().is_some());
}

/// Works twice and then fails, as on a disk that fills up.
struct Filling(u32);

impl MetricWriter for Filling {
    fn name(&self) -> &'static str {
        "filling"
    }

    fn write(&mut self, _: &MetricPoint<'_>, _: Timestamp) -> Result<(), TrackError> {
        self.0 += 1;
        let full = || FileError::new("append to", "disk".as_ref(), std::io::Error::from(std::io::ErrorKind::StorageFull));
        if self.0 > 2 { Err(full().into()) } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), TrackError> {
        Ok(())
    }
}

#[test]
fn a_writer_that_fails_later_is_dropped_once() {
    let root = tempfile::tempdir().unwrap();
    let run = RunDir::open(root.path()).unwrap();
    let mut tracker = Tracker::open(&run, None, None, clock(), &TrackConfig::default()).unwrap();
    tracker.add("filling", Ok(Box::new(Filling(0))));
    tracker.add("absent", Err(TrackError::NotARun { path: "x".into(), found: "does not exist" }));
    (1..=6).for_each(|step| point(&mut tracker, step));
    assert_eq!(components(&tracker), ["absent", "filling"]);
    assert!(tracker.degraded()[1].reason.starts_with("cannot append to `disk`: "), "{:?}", tracker.degraded());
    assert_eq!(summarize(&run).unwrap().metrics[0].count, 6);
    assert!(format!("{tracker:?}").contains("writers: [ndjson, csv, tensorboard]"));
}

/// A machine that tells nothing.
struct Silent;

impl SystemSampler for Silent {
    fn name(&self) -> &'static str {
        "silent"
    }

    fn sample(&mut self) -> Result<std::collections::BTreeMap<String, f64>, TrackError> {
        DiskSampler::new("relative-to-no-mount".as_ref()).sample()?;
        Err(TrackError::Sampler { sampler: "silent".to_owned(), reason: "nothing to tell".to_owned() })
    }
}

#[test]
fn a_sampler_without_numbers_is_reported_once() {
    let root = tempfile::tempdir().unwrap();
    let run = RunDir::open(root.path()).unwrap();
    let mut tracker = Tracker::open(&run, None, None, clock(), &TrackConfig::default()).unwrap();
    let mut sampling = Sampling::with(vec![Box::new(Silent), Box::new(codex_track::ProcSampler::new())], 0.5);
    (1..=3).for_each(|step| tracker.sample_system(&mut sampling, step));
    assert_eq!(components(&tracker), ["sampler silent"]);
    let text = files::read_to_string(&root.path().join("system.ndjson")).unwrap();
    let steps: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(steps.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(steps[0]["process_rss_bytes"].as_f64().unwrap() > 0.0 && steps[0]["ts"].is_string());
}
