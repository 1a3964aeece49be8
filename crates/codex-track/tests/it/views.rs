//! Every form of the metrics shows what `metrics.ndjson` holds, each value once, whatever was killed, damaged, resumed and switched.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_core::{Clock, FixedClock, files};
use codex_track::{Level, MetricPoint, RunDir, RunStatus, TrackConfig, Tracker, verify_metrics};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use crate::view_readers::{self as read, Points, bits};

fn clock() -> Arc<dyn Clock> {
    Arc::new(FixedClock::new(1_795_484_319_250, 7))
}

/// What happens to a file between two processes.
#[derive(Clone, Debug)]
enum Damage {
    CutAt(Index),
    Flip(Index, u8),
    Garbage(Vec<u8>),
}

/// One process of a run.
#[derive(Clone, Debug)]
struct Process {
    steps: u64,
    /// CSV, TensorBoard, MLflow, Weights & Biases.
    is_on: [bool; 4],
    values: Vec<f64>,
    flush_every: u64,
    is_finished: bool,
    is_put_away: bool,
    damage: Vec<(Index, Damage)>,
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![3 => any::<f64>(), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => Just(f64::NEG_INFINITY), 1 => Just(-0.0), 3 => 0.0..9.0_f64]
}

fn process(damage: impl Strategy<Value = Damage>) -> impl Strategy<Value = (Index, Process)> {
    let what = (any::<Index>(), 1..9_u64, any::<[bool; 4]>(), proptest::collection::vec(value(), 1..6));
    let how = (1..4_u64, any::<bool>(), proptest::bool::weighted(0.2), proptest::collection::vec((any::<Index>(), damage), 0..4));
    (what, how).prop_map(|((resume, steps, is_on, values), (flush_every, is_finished, is_put_away, damage))| {
        (resume, Process { steps, is_on, values, flush_every, is_finished, is_put_away, damage })
    })
}

fn config(is_on: [bool; 4]) -> TrackConfig {
    let [csv, tensorboard, mlflow, wandb] = is_on;
    TrackConfig { csv, tensorboard, mlflow, wandb, ..TrackConfig::default() }
}

/// Goes on from `resume`; returns the last step and what was degraded.
fn go_on(run: &RunDir, process: &Process, resume: Option<u64>) -> (u64, Vec<String>) {
    let mut tracker = Tracker::open(run, None, resume, clock(), &config(process.is_on)).unwrap();
    let first = resume.map_or(0, |step| step + 1);
    let mut values = process.values.iter().copied().cycle();
    let mut next = move || values.next().unwrap_or(0.5);
    for step in first..first + process.steps {
        if step > 0 {
            let values = [("loss", next()), ("odd, \"name\"", next()), ("grad_norm", next())];
            tracker.metrics(&MetricPoint { step, split: "train", values: &values, tokens: step, epoch: 0.5 });
        }
        if step % 3 == 0 {
            tracker.metrics(&MetricPoint { step, split: "validation", values: &[("loss", next())], tokens: step, epoch: 0.5 });
            tracker.event("sample", Level::Info, "sample", json!({ "step": step, "prompt": "p", "text": "t" }));
        }
        if step % process.flush_every == 0 {
            tracker.flush();
        }
    }
    if process.is_finished {
        tracker.finish(RunStatus::Interrupted, &std::collections::BTreeMap::new());
    }
    let degraded = tracker.degraded().iter().map(|one| one.component.clone()).collect();
    (first + process.steps - 1, degraded)
}

fn files_of(run: &RunDir) -> Vec<PathBuf> {
    fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
        for path in files::list_dir(folder).unwrap() {
            if path.is_dir() { walk(&path, into) } else { into.push(path) }
        }
    }
    let mut all = Vec::new();
    walk(run.path(), &mut all);
    all
}

fn harm(run: &RunDir, damage: &[(Index, Damage)]) {
    for (which, damage) in damage {
        let all = files_of(run);
        let path = which.get(&all);
        // A part that was put away is on the disk as it is: a kill does not reach it, and what else does breaks the chain.
        if matches!(damage, Damage::CutAt(_)) && path.to_string_lossy().contains("metrics-0") {
            continue;
        }
        let mut bytes = files::read(path).unwrap();
        match damage {
            Damage::CutAt(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Damage::Flip(at, by) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= by;
            }
            Damage::Flip(..) => {}
            Damage::Garbage(garbage) => bytes.clone_from(garbage),
        }
        files::write_atomic(path, &bytes).unwrap();
    }
}

/// As TensorBoard holds it.
fn narrowed(points: &Points) -> Points {
    let narrow = |(step, held): &(u64, u64)| (*step, bits(f64::from(f64::from_bits(*held) as f32)));
    points.iter().map(|(key, values)| (key.clone(), values.iter().map(narrow).collect())).collect()
}

/// Names aside, which MLflow may spell otherwise.
fn values(points: &Points) -> Vec<Vec<(u64, u64)>> {
    let mut values: Vec<_> = points.values().cloned().collect();
    values.sort();
    values
}

fn check_views(run: &RunDir, off: &[String]) -> Result<(), TestCaseError> {
    let truth = read::ndjson(run.path());
    let is_on = |name: &str| !off.iter().any(|one| one == name);
    let once = |texts: &[(String, u64)]| {
        let mut all = texts.to_vec();
        all.sort();
        all.dedup();
        all.len() == texts.len()
    };
    if is_on("csv") {
        prop_assert_eq!(read::table(run.path()), truth.clone());
    }
    if is_on("tensorboard") {
        let (points, texts) = read::tensorboard(run.path());
        prop_assert_eq!(points, narrowed(&truth));
        prop_assert!(once(&texts), "{:?}", texts);
    }
    if is_on("mlflow") {
        prop_assert_eq!(values(&read::mlflow(run.path())), values(&truth));
    }
    if is_on("wandb") {
        let read::Wandb { points, texts, ends, .. } = read::wandb(run.path());
        prop_assert_eq!(points, truth);
        prop_assert!(once(&texts), "{:?}", texts);
        let n = ends.len();
        prop_assert!(ends.iter().enumerate().all(|(idx, has_end)| *has_end || idx + 1 == n), "{:?}", ends);
    }
    Ok(())
}

/// Goes through the processes, with all writers on in the last one; returns what was degraded in that.
fn whole_run(run: &RunDir, processes: &[(Index, Process)]) -> Vec<String> {
    let mut at = None;
    let mut degraded = Vec::new();
    for (idx, (resume, process)) in processes.iter().enumerate() {
        let is_last = idx + 1 == processes.len();
        let is_on = if is_last { [true; 4] } else { process.is_on };
        let resume = at.map(|last: u64| resume.index(last as usize + 1) as u64);
        let (last, off) = go_on(run, &Process { is_on, is_finished: is_last || process.is_finished, ..process.clone() }, resume);
        (at, degraded) = (Some(last), off);
        if !is_last {
            harm(run, &process.damage);
            let metrics = run.path().join("metrics.ndjson");
            // As a kill leaves it between the two halves of putting a part away.
            if process.is_put_away && metrics.exists() {
                files::rename_new(&metrics, &run.path().join(format!("metrics-{:05}.ndjson", idx + 1))).unwrap();
            }
        }
    }
    degraded
}

fn plain(steps: u64, is_on: [bool; 4]) -> Process {
    let (values, damage) = (vec![0.5, 0.25, 4.0], Vec::new());
    Process { steps, is_on, values, flush_every: 2, is_finished: false, is_put_away: false, damage }
}

fn new_run(root: &tempfile::TempDir) -> RunDir {
    RunDir::create(root.path(), "r", clock().as_ref()).unwrap()
}

#[test]
fn a_writer_that_is_switched_on_at_a_resume_is_made_whole() {
    let root = tempfile::tempdir().unwrap();
    let run = new_run(&root);
    assert_eq!(go_on(&run, &plain(12, [false; 4]), None), (11, vec![]));
    assert!(!run.path().join("tensorboard").exists());
    assert_eq!(go_on(&run, &Process { is_finished: true, ..plain(4, [true; 4]) }, Some(8)), (12, vec![]));
    check_views(&run, &[]).unwrap();
    let texts: Vec<(String, u64)> = [0, 3, 6, 9, 12].map(|step| ("sample".to_owned(), step)).to_vec();
    assert_eq!(read::tensorboard(run.path()).1, texts);
    assert_eq!(read::wandb(run.path()).texts, texts);
    assert!(read::wandb(run.path()).steps.is_sorted(), "texts are among the values that they belong to");
}

#[test]
fn a_writer_that_failed_is_tried_again_and_made_whole_and_strict_tells_it() {
    let root = tempfile::tempdir().unwrap();
    let run = new_run(&root);
    let taken = ["metrics.csv", "tensorboard", "mlflow", "wandb"].map(|name| run.path().join(name));
    files::create_dir_all(&taken[0]).unwrap();
    taken[1..].iter().for_each(|path| files::write_atomic(path, b"in the way").unwrap());
    let names = ["csv", "tensorboard", "mlflow", "wandb"];
    assert_eq!(go_on(&run, &plain(6, [true; 4]), None), (5, names.map(str::to_owned).to_vec()));
    let strict = TrackConfig { strict: true, ..config([true, true, false, true]) };
    let tracker = Tracker::open(&run, None, Some(5), clock(), &strict).unwrap();
    let failure = tracker.strict_failure().unwrap();
    assert_eq!(failure.to_string(), "the run is complete, but not all of it was recorded: csv, tensorboard, wandb");
    assert_eq!(codex_track::Degraded::rows(tracker.degraded()).len(), 3);
    let lenient = Tracker::open(&run, None, Some(5), clock(), &config([true; 4])).unwrap();
    assert!(lenient.degraded().len() == 4 && lenient.strict_failure().is_none());
    files::remove_dir_all(&taken[0]).unwrap();
    taken[1..].iter().for_each(|path| files::remove_file(path).unwrap());
    assert_eq!(go_on(&run, &Process { is_finished: true, ..plain(3, [true; 4]) }, Some(5)), (8, vec![]));
    check_views(&run, &[]).unwrap();
    assert!(Tracker::open(&run, None, Some(8), clock(), &strict).unwrap().strict_failure().is_none());
}

#[test]
fn a_step_of_which_the_truth_lost_a_part_loses_it_in_every_view() {
    for n_left in 0..4 {
        let root = tempfile::tempdir().unwrap();
        let run = new_run(&root);
        go_on(&run, &plain(7, [true; 4]), None);
        let metrics = run.path().join("metrics.ndjson");
        let text = files::read_to_string(&metrics).unwrap();
        // Step 6 is four lines: three of training and one of validation.
        let lines: Vec<&str> = text.lines().collect();
        files::write_atomic(&metrics, (lines[..lines.len() - 4 + n_left].join("\n") + "\n").as_bytes()).unwrap();
        assert_eq!(go_on(&run, &Process { is_finished: true, ..plain(2, [true; 4]) }, Some(6)), (8, vec![]));
        check_views(&run, &[]).unwrap();
        assert_eq!(read::ndjson(run.path()).values().flatten().filter(|point| point.0 == 6).count(), n_left);
    }
}

#[test]
fn without_the_truth_views_are_shortened_to_the_resumed_step() {
    let root = tempfile::tempdir().unwrap();
    let run = new_run(&root);
    go_on(&run, &plain(10, [true; 4]), None);
    let metrics = run.path().join("metrics.ndjson");
    files::remove_file(&metrics).unwrap();
    files::create_dir_all(&metrics).unwrap();
    let process = Process { is_finished: true, ..plain(2, [true; 4]) };
    assert_eq!(go_on(&run, &process, Some(6)), (8, vec!["ndjson".to_owned()]));
    let expected: Vec<u64> = (1..=8).collect();
    let steps = |points: &Points| points["train/loss"].iter().map(|point| point.0).collect::<Vec<_>>();
    let found = [read::table(run.path()), read::tensorboard(run.path()).0, read::mlflow(run.path()), read::wandb(run.path()).points];
    for points in &found {
        assert_eq!(steps(points), expected);
    }
}

#[test]
fn a_run_from_the_start_leaves_nothing_of_the_one_before() {
    let root = tempfile::tempdir().unwrap();
    let run = new_run(&root);
    go_on(&run, &plain(10, [true; 4]), None);
    drop(Tracker::open(&run, None, None, clock(), &config([true; 4])).unwrap());
    let left = [read::table(run.path()), read::tensorboard(run.path()).0, read::mlflow(run.path()), read::wandb(run.path()).points];
    assert!(left.iter().all(Points::is_empty), "{left:?}");
    go_on(&run, &Process { is_finished: true, ..plain(3, [true; 4]) }, None);
    check_views(&run, &[]).unwrap();
    assert_eq!(read::ndjson(run.path())["train/loss"].len(), 2);
    assert_eq!((files::list_dir(&run.path().join("tensorboard")).unwrap().len(), read::wandb(run.path()).ends), (1, vec![true]));
    assert_eq!(files::list_dir(&run.path().join("mlflow")).unwrap().len(), 2);
}

#[test]
fn with_shared_metrics_the_views_stay_in_the_run() {
    let root = tempfile::tempdir().unwrap();
    let shared = root.path().join("shared");
    let (first, second) = (new_run(&root), new_run(&root));
    let open = |run: &RunDir, resume, is_on| Tracker::open(run, Some(&shared), resume, clock(), &config(is_on)).unwrap();
    let step = |tracker: &mut Tracker, step| {
        tracker.metrics(&MetricPoint { step, split: "train", values: &[("loss", step as f64)], tokens: 0, epoch: 0.0 });
    };
    let mut tracker = open(&first, None, [false; 4]);
    (1..=5).for_each(|at| step(&mut tracker, at));
    drop(tracker);
    let mut tracker = open(&second, None, [true; 4]);
    (1..=3).for_each(|at| step(&mut tracker, at));
    drop(tracker);
    let mut tracker = open(&first, Some(4), [true; 4]);
    (5..=6).for_each(|at| step(&mut tracker, at));
    tracker.finish(RunStatus::Finished, &std::collections::BTreeMap::new());
    assert_eq!(tracker.degraded(), []);
    drop(tracker);
    let six: Vec<_> = (1..=6).map(|step| (step, (step as f64).to_bits())).collect();
    for points in [read::tensorboard(first.path()).0, read::mlflow(first.path()), read::wandb(first.path()).points] {
        assert_eq!(points, Points::from([("train/loss".to_owned(), six.clone())]));
    }
    let mut rows = csv::Reader::from_path(shared.join("metrics.csv")).unwrap();
    let ours = rows.records().map(Result::unwrap).filter(|row| row[5] == first.id()).map(|row| row[0].to_owned());
    assert_eq!(ours.collect::<Vec<_>>(), ["1", "2", "3", "4", "5", "6"]);
    assert!(!shared.join("tensorboard").exists() && !first.path().join("metrics.csv").exists());
}

#[test]
fn metrics_are_kept_in_parts_of_the_size_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let run = new_run(&root);
    let config = TrackConfig { rotate_mib: 1, ..config([true, true, false, false]) };
    let mut tracker = Tracker::open(&run, None, None, clock(), &config).unwrap();
    let long = "x".repeat(300_000);
    for step in 1..=8 {
        tracker.metrics(&MetricPoint { step, split: "train", values: &[(&long, 1.0)], tokens: 0, epoch: 0.0 });
    }
    drop(tracker);
    let names = || -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        codex_track::metric_files(run.path()).unwrap().iter().map(name).collect()
    };
    assert_eq!(names(), ["metrics-00001.ndjson", "metrics-00002.ndjson", "metrics.ndjson"]);
    let report = verify_metrics(&run).unwrap();
    assert_eq!((report.lines, report.broken.len(), report.place(7)), (8, 0, Some(("metrics.ndjson", 1))));
    drop(Tracker::open(&run, None, Some(2), clock(), &config).unwrap());
    assert_eq!(names(), ["metrics-00001.ndjson", "metrics.ndjson"]);
    assert_eq!(read::ndjson(run.path()).into_values().next().unwrap().len(), 2);
    assert_eq!(read::table(run.path()).into_values().next().unwrap().len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_view_is_true_after_kills_at_any_byte(
        processes in proptest::collection::vec(process(any::<Index>().prop_map(Damage::CutAt)), 1..5),
    ) {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(root.path(), "r", clock().as_ref()).unwrap();
        let degraded = whole_run(&run, &processes);
        prop_assert_eq!(degraded, Vec::<String>::new());
        check_views(&run, &[])?;
        prop_assert!(read::wandb(run.path()).steps.is_sorted());
        let report = verify_metrics(&run).unwrap();
        prop_assert!(report.broken.is_empty() && report.unreadable.is_empty(), "{:?}", report);
    }

    #[test]
    fn any_bytes_are_repaired_or_told(
        processes in proptest::collection::vec(
            process(prop_oneof![
                any::<Index>().prop_map(Damage::CutAt),
                (any::<Index>(), 1..=255_u8).prop_map(|(at, by)| Damage::Flip(at, by)),
                proptest::collection::vec(any::<u8>(), 0..300).prop_map(Damage::Garbage),
            ]),
            2..4,
        ),
    ) {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(root.path(), "r", clock().as_ref()).unwrap();
        let degraded = whole_run(&run, &processes);
        // A table of other columns is another program's, and stays.
        prop_assert!(degraded.iter().all(|one| one == "csv"), "{:?}", degraded);
        check_views(&run, &degraded)?;
    }
}
