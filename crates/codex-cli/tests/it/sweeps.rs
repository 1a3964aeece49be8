//! Sweeps as a user runs them: every trial once, wherever it runs, and to the same bytes however often it was killed.

use std::path::PathBuf;
use std::process::Command;

use codex_core::files;
use serde_json::Value;

use crate::harness::{Answer, Bench, SMALL};

/// A sweep file with the small run's values.
fn sweep(bench: &Bench, more: &str) {
    // What a sweep varies it cannot fix as well.
    let fixed = SMALL.iter().filter(|text| !more.contains(&format!("\"{}\"", text.split('=').next().unwrap_or_default())));
    let overrides: Vec<String> = fixed.map(|text| format!("'{text}'")).collect();
    bench.write(
        "sweep.toml",
        format!("name = \"widths\"\noverrides = [{}]\nmetric = \"validation/loss\"\ngoal = \"minimize\"\n{more}", overrides.join(", ")),
    );
}

fn folder(bench: &Bench) -> PathBuf {
    let runs = files::list_dir(&bench.path("runs")).unwrap();
    runs.into_iter().find(|path| path.join("sweep.json").exists()).expect("there is a sweep")
}

fn trial(bench: &Bench, index: usize) -> Value {
    let path = folder(bench).join(format!("trials/trial-{index:04}/trial.json"));
    serde_json::from_slice(&files::read(&path).unwrap()).unwrap()
}

fn run_of(bench: &Bench, index: usize) -> PathBuf {
    let all = files::list_dir(&folder(bench).join(format!("trials/trial-{index:04}"))).unwrap();
    let runs: Vec<PathBuf> = all.into_iter().filter(|path| path.join("run.json").exists()).collect();
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs[0].clone()
}

/// Whether some trial has saved; which step is soon not there any more.
fn has_saved(bench: &Bench) -> bool {
    let is_saved = |path: &PathBuf| path.ends_with("manifest.json") && path.to_string_lossy().contains("/checkpoints/step-");
    crate::harness::all_files_if_any(&bench.path("runs")).iter().any(is_saved)
}

#[test]
fn a_group_that_changes_between_trials_stops_the_sweep() {
    let bench = Bench::with_text();
    bench.write("run.toml", "defaults = [{ train = \"mine\" }]\n");
    bench.write("train/mine.toml", "[train]\nweight_decay = 0.1\n");
    sweep(&bench, &format!("base = \"run.toml\"\n{GRID}"));
    let one = |index: &str| bench.run(&["train", "--sweep-file", "sweep.toml", "--index", index]);
    assert_eq!(one("0").code, 0);
    let files = trial(&bench, 0)["files"].as_object().unwrap().clone();
    assert!(files.len() == 2 && files.keys().any(|path| path.ends_with("train/mine.toml")), "{files:?}");
    bench.write("train/mine.toml", "[train]\nweight_decay = 0.2\n");
    let changed = one("1");
    assert_eq!(changed.code, 4);
    assert!(changed.err.contains("train/mine.toml` is not what it was when trial-0000 was made from it"), "{}", changed.err);
    assert!(!folder(&bench).join("trials/trial-0001/trial.json").exists());
    // Trials that were refused before they began are no success of the sweep.
    let whole = bench.run(&["sweep", "sweep.toml"]);
    assert!(whole.code == 4 && whole.err.contains("3 of 4 trials"), "{} {}", whole.code, whole.err);
    bench.write("train/mine.toml", "[train]\nweight_decay = 0.1\n");
    assert_eq!(one("1").code, 0);
}

const GRID: &str = "strategy = \"grid\"\n[space]\n\"train.learning_rate\" = [1e-3, 3e-3]\n\"run.seed\" = [1, 2]\n";

#[test]
fn every_trial_runs_once_with_its_own_configuration() {
    let bench = Bench::with_text();
    sweep(&bench, GRID);
    let plan = bench.json(&["sweep", "sweep.toml", "--dry-run"]);
    assert_eq!((plan["n_trials"].as_u64(), plan["trials"].as_array().unwrap().len()), (Some(4), 4));
    assert!(!bench.path("runs").exists());
    let found = bench.json(&["sweep", "sweep.toml", "--parallel", "2"]);
    let trials = found["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 4);
    let values: Vec<f64> = trials.iter().map(|it| it["value"].as_f64().unwrap()).collect();
    assert!(values.is_sorted(), "the best first: {values:?}");
    for (index, expected) in [(0, [0.001, 1.0]), (1, [0.001, 2.0]), (2, [0.003, 1.0]), (3, [0.003, 2.0])] {
        let config: toml::Table = files::read_to_string(&run_of(&bench, index).join("config.resolved.toml")).unwrap().parse().unwrap();
        assert_eq!(config["train"]["learning_rate"].as_float(), Some(expected[0]));
        assert_eq!(config["run"]["seed"].as_integer(), Some(expected[1] as i64));
    }
    for name in ["sweep.html", "sweep.svg", "results.csv"] {
        assert!(folder(&bench).join(name).exists(), "{name}");
    }
    // Again there is nothing to do.
    assert_eq!(bench.run(&["sweep", "sweep.toml"]).code, 0);
    assert!((0..4).all(|index| trial(&bench, index)["attempts"] == 1));
    let best = bench.json(&["runs", "best", "--folder", folder(&bench).to_str().unwrap()]);
    assert_eq!(best["runs"][0]["value"].as_f64(), Some(values[0]));
    assert!(best["runs"][0]["checkpoint"].as_str().unwrap().contains("step-"));
}

#[test]
fn a_trial_that_was_killed_goes_on_to_the_same_bytes() {
    let (straight, bench) = (Bench::with_text(), Bench::with_text());
    for bench in [&straight, &bench] {
        sweep(bench, GRID);
    }
    let arguments = ["train", "--sweep-file", "sweep.toml", "--index", "2"];
    assert_eq!(straight.run(&arguments).code, 0);
    let mut child = bench.command(&arguments).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    while !has_saved(&bench) && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    // While it runs, another process is told so.
    let other = bench.run(&arguments);
    assert!([0, 7].contains(&other.code), "{}", other.err);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(bench.run(&arguments).code, 0);
    let weights = |bench: &Bench| files::read(&run_of(bench, 2).join("checkpoints/step-00000012/model.safetensors")).unwrap();
    assert!(weights(&straight) == weights(&bench));
    assert_eq!(trial(&bench, 2)["status"], "completed");
    assert_eq!(trial(&bench, 2)["outcome"]["value"], trial(&straight, 2)["outcome"]["value"]);
    let done = bench.json(&arguments);
    assert_eq!(done["status"], "already_done");
    assert_eq!(bench.run(&["train", "--sweep-file", "sweep.toml", "--index", "4"]).code, 2);
}

#[test]
fn a_trial_that_does_worse_than_the_median_is_given_up() {
    let bench = Bench::with_text();
    let space = "strategy = \"grid\"\n[space]\n\"train.learning_rate\" = [3e-3, 2e-3, 1e-9]\n";
    sweep(&bench, &format!("{space}[stopping]\nstrategy = \"median\"\nwarmup_steps = 1\nmin_trials = 2\nevery_steps = 6\n"));
    let found = bench.json(&["sweep", "sweep.toml"]);
    assert_eq!([0, 1, 2].map(|index| trial(&bench, index)["status"].clone()), ["completed", "completed", "stopped"]);
    assert_eq!(trial(&bench, 2)["outcome"]["last_step"], 6);
    assert_eq!(found["trials"][2]["name"], "trial-0002");
    let log = files::read_to_string(&folder(&bench).join("trials/trial-0002/output.log")).unwrap();
    assert!(log.contains("given up: its best validation/loss so far is"), "{log}");
    assert_eq!(bench.run(&["sweep", "sweep.toml"]).code, 0);
    assert_eq!(trial(&bench, 2)["attempts"], 1);
}

#[test]
fn a_scheduler_is_given_every_index_once() {
    const SBATCH: &str = r#"#!/bin/bash
for script in "$@"; do :; done
last=$(sed -n 's/^#SBATCH --array=0-\([0-9]*\).*/\1/p' "$script")
for index in $(seq 0 "$last"); do echo "$index" >> indices; SLURM_ARRAY_TASK_ID=$index bash "$script" || exit 1; done
"#;
    let bench = Bench::with_text();
    sweep(&bench, &format!("{GRID}[launcher]\nkind = \"slurm\"\npartition = \"cpu\"\n"));
    bench.write("bin/sbatch", SBATCH);
    let planned = bench.run(&["sweep", "sweep.toml", "--dry-run"]).out;
    for part in ["4 trials by slurm", "trial-0003", "--- slurm", "#SBATCH --array=0-3", "$ sbatch"] {
        assert!(planned.contains(part), "{part}: {planned}");
    }
    let told = bench.run(&["sweep", "sweep.toml"]).out;
    assert!(told.contains("submit with `--submit`") && told.contains("sbatch"), "{told}");
    let written = bench.json(&["sweep", "sweep.toml"]);
    assert_eq!(written["submitted"], false);
    assert!(!folder(&bench).join("trials/trial-0000").exists());
    let mut shell = Command::new("sh");
    let with_it = "chmod +x bin/sbatch && PATH=\"$PWD/bin:$PATH\" exec \"$0\" sweep sweep.toml --submit";
    shell.args(["-c", with_it, env!("CARGO_BIN_EXE_codex-cli")]).current_dir(bench.path("."));
    let submitted = Answer::of(&shell.output().unwrap());
    assert_eq!(submitted.code, 0, "{}{}", submitted.out, submitted.err);
    assert_eq!(files::read_to_string(&bench.path("indices")).unwrap(), "0\n1\n2\n3\n");
    assert!((0..4).all(|index| trial(&bench, index)["status"] == "completed"));
    let shown = bench.run(&["sweep", folder(&bench).to_str().unwrap(), "--results"]).out;
    assert!(shown.contains("trial-0003  completed") && shown.contains("best    trial-000"), "{shown}");
    assert_eq!(bench.run(&["sweep", "sweep.toml", "--results"]).code, 0);
    // Another sweep of the same name is told of this one.
    sweep(&bench, "strategy = \"paired\"\n[space]\n\"train.learning_rate\" = [1e-3, -1.0]\n");
    let failed = bench.run(&["sweep", "sweep.toml"]);
    assert!(failed.code == 2 && failed.err.contains("1 of 2 trials failed") && failed.err.contains("another version"), "{}", failed.err);
    assert!(failed.err.contains("trial-0001 ended with exit code 2"), "{}", failed.err);
}

#[test]
fn a_sweep_that_is_stopped_lets_its_trials_save_and_goes_on() {
    let bench = Bench::with_text();
    sweep(&bench, "strategy = \"paired\"\n[space]\n\"train.learning_rate\" = [1e-3, 2e-3]\n\"train.steps\" = [3000, 12]\n");
    let mut child =
        bench.command(&["sweep", "sweep.toml"]).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    while !has_saved(&bench) {
        assert!(child.try_wait().unwrap().is_none(), "the sweep ended before a trial had saved");
        std::thread::yield_now();
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let first = trial(&bench, 0);
    assert_eq!((first["status"].as_str(), first["outcome"]["exit_code"].as_i64()), (Some("running"), Some(75)), "{first}");
    assert!(first["outcome"]["last_step"].as_u64().unwrap() < 3000);
    assert!(!folder(&bench).join("trials/trial-0001/trial.json").exists(), "the other was not begun");
    let shown = bench.json(&["sweep", "sweep.toml", "--results"]);
    assert_eq!(shown["trials"][0]["state"], "interrupted");
}

#[test]
fn many_values_on_the_command_line_are_many_runs() {
    let bench = Bench::with_text();
    let several = ["train.learning_rate=1e-3,3e-3", "run.seed=range(1,3)"];
    let answer = bench.train(&several);
    assert_eq!(answer.code, 2);
    assert!(answer.err.contains("--multirun"), "{}", answer.err);
    let found = bench.train(&[&several[..], &["--multirun", "--json"]].concat());
    assert_eq!(found.code, 0, "{}", found.err);
    let found: Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!(found["trials"].as_array().unwrap().len(), 4);
    let nothing = bench.train(&["--multirun"]);
    assert!(nothing.code == 2 && nothing.err.contains("nothing to vary"), "{}", nothing.err);
}

#[test]
fn every_problem_of_a_sweep_file_is_told_at_once() {
    let bench = Bench::with_text();
    bench.write("sweep.toml", "name = \"x\"\nmetrik = \"a\"\nstrategy = \"gird\"\n[space]\n\"train.learning_rate\" = []\n");
    let answer = bench.run(&["sweep", "sweep.toml"]);
    assert_eq!(answer.code, 2);
    for part in ["sweep.toml:2", "metric", "sweep.toml:3", "grid", "sweep.toml:5"] {
        assert!(answer.err.contains(part), "{part}: {}", answer.err);
    }
    assert!(!bench.path("runs").exists());
}
