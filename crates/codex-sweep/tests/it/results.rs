//! The trials of a sweep side by side.

use std::path::Path;

use codex_core::{Timestamp, files};
use codex_sweep::importance;
use codex_sweep::results::{best, csv, json, rank, results, table};
use codex_sweep::{Claim, Goal, Outcome, Sweep, SweepFolder, TrialClaim, TrialState, TrialStatus};

const NOW: Timestamp = Timestamp(1_795_484_319_250);

fn claim(folder: &SweepFolder, sweep: &Sweep, index: usize) -> TrialClaim {
    match folder.claim(&sweep.trial(index).unwrap(), NOW).unwrap() {
        Claim::Ready(claim) => *claim,
        other => panic!("{other:?}"),
    }
}

/// Six trials of a grid: done, done, stopped, failed, interrupted, running; trial 0 and 1 alike. The claim keeps the last one running.
fn run(dir: &Path) -> (SweepFolder, TrialClaim) {
    let text = "name = \"s\"\nstrategy = \"grid\"\nmetric = \"validation/loss\"\n[space]\nlr = [0.001, 0.1]\nopt = [\"adam, w\", \"b\\\"c\", \"x\"]\n";
    let sweep = Sweep::from_bytes(Path::new("s.toml"), text.as_bytes().to_vec()).unwrap();
    let folder = SweepFolder::create(&sweep, dir).unwrap().folder;
    let outcome = |value: f64| Outcome {
        value: Some(value),
        best_step: Some(20),
        last_step: Some(30),
        seconds: Some(61.5),
        exit_code: Some(0),
        ..Outcome::default()
    };
    for (index, value) in [(0, 1.5), (1, 1.5)] {
        claim(&folder, &sweep, index).finish(TrialStatus::Completed, outcome(value), NOW).unwrap();
    }
    claim(&folder, &sweep, 2).finish(TrialStatus::Stopped, outcome(0.5), NOW).unwrap();
    let failed = Outcome { error: Some("no such file".to_owned()), exit_code: Some(3), ..Outcome::default() };
    claim(&folder, &sweep, 3).finish(TrialStatus::Failed, failed, NOW).unwrap();
    let mut interrupted = claim(&folder, &sweep, 4);
    interrupted.report(10, 4.0).unwrap();
    interrupted.report(20, 3.0).unwrap();
    interrupted.report(30, 3.5).unwrap();
    drop(interrupted);
    // A folder whose process was killed before it could write the record.
    files::create_dir_all(&folder.path().join("trials/trial-0099")).unwrap();
    files::create_dir_all(&folder.path().join("trials/notes")).unwrap();
    let running = claim(&folder, &sweep, 5);
    (folder, running)
}

#[test]
fn every_state_is_told_and_ranked() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, _running) = run(dir.path());
    let mut all = results(&folder).unwrap();
    assert_eq!(best(&all, Goal::Minimize).unwrap().index, 0, "of two alike the first");
    all.reverse();
    assert_eq!(best(&all, Goal::Maximize).unwrap().index, 0, "whatever their order");
    rank(&mut all, Goal::Minimize);
    let order: Vec<(usize, TrialState)> = all.iter().map(|result| (result.index, result.state)).collect();
    assert_eq!(
        order,
        [
            (0, TrialState::Completed),
            (1, TrialState::Completed),
            (2, TrialState::Stopped),
            (5, TrialState::Running),
            (4, TrialState::Interrupted),
            (3, TrialState::Failed),
        ],
        "a stopped trial is not the best, whatever its value"
    );
    assert_eq!((all[4].value, all[4].best_step, all[4].last_step), (Some(3.0), Some(20), Some(30)));
    assert_eq!(
        table(&all, "validation/loss"),
        "trial       state        validation/loss  step  seconds  lr     opt\n\
         trial-0000  completed    1.5              20    62       0.001  adam, w\n\
         trial-0001  completed    1.5              20    62       0.001  b\"c\n\
         trial-0002  stopped      0.5              20    62       0.001  x\n\
         trial-0005  running      -                -     -        0.1    x\n\
         trial-0004  interrupted  3                20    -        0.1    b\"c\n\
         trial-0003  failed       -                -     -        0.1    adam, w\n"
    );
    assert_eq!(
        csv(&all[..2], "validation/loss"),
        "trial,state,validation/loss,best_step,last_step,seconds,attempts,lr,opt\n\
         trial-0000,completed,1.5,20,30,61.5,1,0.001,\"adam, w\"\n\
         trial-0001,completed,1.5,20,30,61.5,1,0.001,\"b\"\"c\"\n"
    );
    let shown = json(&all);
    assert_eq!(shown[0]["parameters"]["opt"], "adam, w");
    assert_eq!((&shown[5]["state"], &shown[5]["error"]), (&"failed".into(), &"no such file".into()));
    assert_eq!(best(&[], Goal::Minimize), None);
}

/// A sweep of pairs whose trials all completed with these values.
fn completed(dir: &Path, space: &str, values: &[f64]) -> SweepFolder {
    let text = format!("name = \"s\"\nstrategy = \"paired\"\nmetric = \"loss\"\n[space]\n{space}\n");
    let sweep = Sweep::from_bytes(Path::new("s.toml"), text.into_bytes()).unwrap();
    let folder = SweepFolder::create(&sweep, dir).unwrap().folder;
    for (index, value) in values.iter().enumerate() {
        let outcome = Outcome { value: Some(*value), ..Outcome::default() };
        claim(&folder, &sweep, index).finish(TrialStatus::Completed, outcome, NOW).unwrap();
    }
    folder
}

#[test]
fn rank_correlations_are_these() {
    let dir = tempfile::tempdir().unwrap();
    // By hand: the ranks of the loss are 1 2 3 4; those of `b` 2 1 4 3, so 1 - 6 * 4 / (4 * 15) = 0.6.
    let folder = completed(
        dir.path(),
        "b = [20, 10, 40, 30]\na = [9, 4, 2, 0.5]\nc = [1, 1, 1, 1]\nd = [\"x\", \"y\", \"x\", \"y\"]",
        &[1.0, 2.0, 4.0, 8.0],
    );
    let all = importance(folder.record(), &results(&folder).unwrap());
    let shown: Vec<String> = all.iter().map(|one| format!("{} {:.6} {}", one.key, one.correlation, one.n_trials)).collect();
    assert_eq!(shown, ["a -1.000000 4", "b 0.600000 4"]);
    assert!(importance(folder.record(), &results(&folder).unwrap()[..2]).is_empty(), "two trials say nothing");
}
