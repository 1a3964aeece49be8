//! The folder that several processes share: one claim at a time, one end for each trial.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use codex_core::{Failure as _, Timestamp, files};
use codex_sweep::{Claim, Decision, MedianRule, Outcome, Sweep, SweepFolder, TrialClaim, TrialStatus};

const NOW: Timestamp = Timestamp(1_795_484_319_250);

fn sweep(more: &str) -> Sweep {
    let text = format!("name = \"s\"\nstrategy = \"grid\"\nmetric = \"loss\"\n{more}[space]\na = [1, 2, 3, 4]\n");
    Sweep::from_bytes(Path::new("s.toml"), text.into_bytes()).unwrap()
}

fn ready(folder: &SweepFolder, sweep: &Sweep, index: usize) -> TrialClaim {
    match folder.claim(&sweep.trial(index).unwrap(), NOW).unwrap() {
        Claim::Ready(claim) => *claim,
        other => panic!("{other:?}"),
    }
}

fn outcome(value: f64) -> Outcome {
    Outcome { value: Some(value), best_step: Some(10), ..Outcome::default() }
}

#[test]
fn a_trial_is_claimed_once_and_done_once() {
    let dir = tempfile::tempdir().unwrap();
    let sweep = sweep("");
    let opened = SweepFolder::create(&sweep, dir.path()).unwrap();
    assert!(opened.is_new && opened.others.is_empty());
    let folder = opened.folder;
    let trial = sweep.trial(1).unwrap();
    let claim = ready(&folder, &sweep, 1);
    assert_eq!(claim.folder(), dir.path().join(sweep.folder_name()).join("trials/trial-0001"));
    assert!(folder.is_running(1) && !folder.is_running(0));
    assert!(matches!(folder.claim(&trial, NOW).unwrap(), Claim::Busy));
    assert_eq!(folder.trial_record(1).unwrap().unwrap().status, TrialStatus::Running);
    claim.finish(TrialStatus::Completed, outcome(0.5), NOW).unwrap();
    assert!(!folder.is_running(1));
    // Twice the same index does nothing the second time.
    let before = files::read(&folder.trial_folder(1).join("trial.json")).unwrap();
    let Claim::AlreadyDone(record) = folder.claim(&trial, Timestamp(0)).unwrap() else { panic!("not done") };
    assert_eq!((record.outcome.value, record.attempts), (Some(0.5), 1));
    assert_eq!(files::read(&folder.trial_folder(1).join("trial.json")).unwrap(), before);
    assert_eq!(files::read(&folder.sweep_file()).unwrap(), sweep.text());
    let again = SweepFolder::create(&sweep, dir.path()).unwrap();
    assert!(!again.is_new);
    assert_eq!(again.folder.begun().unwrap(), [1]);
}

#[test]
fn a_failed_trial_is_tried_again_and_a_stopped_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let sweep = sweep("");
    let folder = SweepFolder::create(&sweep, dir.path()).unwrap().folder;
    let failed = Outcome { error: Some("diverged".to_owned()), exit_code: Some(3), ..Outcome::default() };
    ready(&folder, &sweep, 0).finish(TrialStatus::Failed, failed, NOW).unwrap();
    let second = ready(&folder, &sweep, 0);
    assert_eq!((second.record().attempts, second.record().outcome.error.clone()), (2, None));
    let record = second.finish(TrialStatus::Stopped, outcome(f64::NAN), NOW).unwrap();
    assert_eq!(record.outcome.value, None, "no number is no result");
    assert!(matches!(folder.claim(&sweep.trial(0).unwrap(), NOW).unwrap(), Claim::AlreadyDone(_)));
}

#[test]
fn a_killed_process_gives_its_trial_back() {
    let dir = tempfile::tempdir().unwrap();
    let sweep = sweep("");
    let folder = SweepFolder::create(&sweep, dir.path()).unwrap().folder;
    let mut claim = ready(&folder, &sweep, 2);
    claim.report(10, 1.0).unwrap();
    drop(claim);
    // Another process holds the same lock, by the same call of the system, until it is killed.
    let lock = folder.trial_folder(2).join("lock");
    let mut holder = Command::new("flock")
        .arg("--close")
        .arg(&lock)
        .args(["sh", "-c", "echo held; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "held\n");
    let trial = sweep.trial(2).unwrap();
    assert!(matches!(folder.claim(&trial, NOW).unwrap(), Claim::Busy));
    holder.kill().unwrap();
    holder.wait().unwrap();
    let Claim::Ready(mut claim) = folder.claim(&trial, NOW).unwrap() else { panic!("still busy") };
    assert_eq!((claim.record().attempts, claim.record().status), (2, TrialStatus::Running));
    claim.report(20, 0.5).unwrap();
    assert_eq!(folder.series(2).unwrap().iter().collect::<Vec<_>>(), [(10, 1.0), (20, 0.5)], "what it had told stays");
}

#[test]
fn many_claims_at_once_give_each_trial_to_one() {
    let dir = tempfile::tempdir().unwrap();
    let sweep = sweep("");
    let folder = SweepFolder::create(&sweep, dir.path()).unwrap().folder;
    let n_ready = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for index in 0..sweep.n_trials() {
                    if let Claim::Ready(claim) = folder.claim(&sweep.trial(index).unwrap(), NOW).unwrap() {
                        n_ready.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        claim.finish(TrialStatus::Completed, outcome(1.0), NOW).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(n_ready.into_inner(), sweep.n_trials());
    assert_eq!(folder.begun().unwrap(), [0, 1, 2, 3]);
}

#[test]
fn other_trials_have_another_folder_and_that_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let first = SweepFolder::create(&sweep(""), dir.path()).unwrap().folder;
    files::create_dir_all(&dir.path().join("s-notes")).unwrap();
    let opened = SweepFolder::create(&sweep("overrides = [\"b=1\"]\n"), dir.path()).unwrap();
    assert!(opened.is_new);
    assert_ne!(opened.folder.path(), first.path());
    assert_eq!(opened.others, [first.path().to_owned()]);
    // More at a time makes the same trials: the folder stays, and the captured file is the newest.
    let wider = sweep("parallel = 3\n");
    let opened = SweepFolder::create(&wider, dir.path()).unwrap();
    assert_eq!((opened.is_new, opened.folder.path()), (false, first.path()));
    assert_eq!(files::read(&first.sweep_file()).unwrap(), wider.text());
}

#[test]
fn a_file_that_changes_between_trials_stops_the_sweep() {
    let dir = tempfile::tempdir().unwrap();
    let sweep = sweep("");
    let folder = SweepFolder::create(&sweep, dir.path()).unwrap().folder;
    let from = |index: usize, name: &str, text: &str| {
        let mut trial = sweep.trial(index).unwrap();
        trial.files = [(name.into(), codex_core::Digest::of_bytes(text.as_bytes()))].into();
        folder.claim(&trial, NOW)
    };
    let Claim::Ready(first) = from(0, "a.toml", "x = 1").unwrap() else { panic!("not ready") };
    let error = from(1, "a.toml", "x = 2").unwrap_err();
    let path = std::path::absolute("a.toml").unwrap();
    assert_eq!(error.to_string(), format!("`{}` is not what it was when trial-0000 was made from it", path.display()));
    assert!(from(1, &path.to_string_lossy(), "x = 2").is_err(), "the same file by another name");
    assert!(folder.trial_record(1).unwrap().is_none(), "nothing has begun");
    assert!(matches!(from(1, "b.toml", "x = 2").unwrap(), Claim::Ready(_)));
    assert!(matches!(from(2, "a.toml", "x = 1").unwrap(), Claim::Ready(_)));
    // The trial itself goes on from the same files only; one that failed binds nobody.
    drop(first);
    assert!(from(0, "a.toml", "x = 2").is_err());
    for (index, name, text) in [(0, "a.toml", "x = 1"), (2, "a.toml", "x = 1")] {
        let Claim::Ready(claim) = from(index, name, text).unwrap() else { panic!("not ready") };
        claim.finish(TrialStatus::Failed, Outcome::default(), NOW).unwrap();
    }
    assert!(matches!(from(0, "a.toml", "x = 2").unwrap(), Claim::Ready(_)));
}

#[test]
fn a_folder_that_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = SweepFolder::open(dir.path()).unwrap_err();
    assert!(error.to_string().ends_with("is not the folder of a sweep: it has no `sweep.json`"), "{error}");
    let sweep = sweep("");
    let folder = SweepFolder::create(&sweep, dir.path()).unwrap().folder;
    ready(&folder, &sweep, 0).finish(TrialStatus::Completed, outcome(1.0), NOW).unwrap();
    // The record of trial 0 in the folder of trial 1.
    let record = files::read(&folder.trial_folder(0).join("trial.json")).unwrap();
    files::create_dir_all(&folder.trial_folder(1)).unwrap();
    files::write_atomic(&folder.trial_folder(1).join("trial.json"), &record).unwrap();
    let error = folder.claim(&sweep.trial(1).unwrap(), NOW).unwrap_err();
    assert_eq!(error.exit_class().code(), 4, "{error}");
    files::write_atomic(&folder.trial_folder(1).join("trial.json"), b"{ torn").unwrap();
    assert_eq!(folder.claim(&sweep.trial(1).unwrap(), NOW).unwrap_err().exit_class().code(), 4);
    files::write_atomic(&folder.path().join("sweep.json"), b"[]").unwrap();
    assert_eq!(SweepFolder::open(folder.path()).unwrap_err().exit_class().code(), 4);
}

#[test]
fn trials_see_each_other_through_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let sweep = sweep("");
    let folder = SweepFolder::create(&sweep, dir.path()).unwrap().folder;
    let rule = MedianRule { warmup_steps: 20, min_trials: 2, every_steps: 10 };
    let mut claims: Vec<TrialClaim> = (0..4).map(|index| ready(&folder, &sweep, index)).collect();
    for (claim, values) in claims.iter_mut().zip([[4.0, 2.0], [5.0, 3.0], [9.0, 8.0], [1.0, 1.0]]) {
        claim.report(10, values[0]).unwrap();
        claim.report(20, values[1]).unwrap();
    }
    // The others' averages of trial 2 are 3, 4 and 1.
    assert_eq!(folder.should_stop(2, rule).unwrap(), Decision::Stop { best: 8.0, median: 3.0 });
    assert_eq!(folder.should_stop(0, rule).unwrap(), Decision::Continue { best: 2.0, median: 4.0 });
    // A trial that failed does not count any more: 3 and 4 are left.
    claims.pop().unwrap().finish(TrialStatus::Failed, Outcome::default(), NOW).unwrap();
    assert_eq!(folder.should_stop(2, rule).unwrap(), Decision::Stop { best: 8.0, median: 3.5 });
    claims[2].report(25, 0.5).unwrap();
    assert_eq!(folder.should_stop(2, rule).unwrap(), Decision::NotDue, "it was asked at 20 already");
}

#[test]
fn the_captured_file_is_the_sweep_whatever_becomes_of_the_first_one() {
    let dir = tempfile::tempdir().unwrap();
    let (path, base) = (dir.path().join("mine/s.toml"), dir.path().join("mine/base.toml"));
    files::create_dir_all(&dir.path().join("mine")).unwrap();
    files::write_atomic(&base, b"x = 1\n").unwrap();
    files::write_atomic(&path, b"name = \"s\"\nbase = \"base.toml\"\nstrategy = \"grid\"\nmetric = \"m\"\n[space]\na = [1, 2]\n").unwrap();
    let sweep = Sweep::load(&path).unwrap();
    let folder = SweepFolder::create(&sweep, &dir.path().join("runs")).unwrap().folder;
    files::remove_file(&path).unwrap();
    let captured = Sweep::load(&folder.sweep_file()).unwrap();
    assert_eq!((captured.digest(), captured.trial(1).unwrap()), (sweep.digest(), sweep.trial(1).unwrap()));
    assert_eq!(captured.base_config().unwrap(), base);
    let opened = SweepFolder::create(&captured, &dir.path().join("runs")).unwrap();
    assert_eq!((opened.is_new, opened.folder.record()), (false, folder.record()));
    files::write_atomic(&base, b"x = 2\n").unwrap();
    let error = Sweep::load(&folder.sweep_file()).unwrap_err();
    assert_eq!(error.exit_class().code(), 4);
    assert!(error.to_string().ends_with("base.toml` has changed"), "{error}");
    // A file of that name beside something else is a sweep file like any other.
    let own = dir.path().join("mine/sweep.toml");
    files::write_atomic(&own, sweep.text()).unwrap();
    files::write_atomic(&dir.path().join("mine/sweep.json"), b"[]").unwrap();
    assert_ne!(Sweep::load(&own).unwrap().digest(), sweep.digest(), "its base has changed");
}
