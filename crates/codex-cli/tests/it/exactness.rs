//! The same bytes: twice, at any thread count, and after being killed.

use std::process::Child;

use codex_core::files;

use crate::harness::{Answer, Bench};

const STEPS: u64 = 12;
const FILES: [&str; 3] = ["model.safetensors", "optimizer.safetensors", "state.json"];

fn expect_same(a: &Bench, b: &Bench, what: &str) {
    for file in FILES {
        assert!(a.checkpoint(STEPS, file) == b.checkpoint(STEPS, file), "{what}: {file} differs");
    }
}

/// (step, split, metric) of every line of the metrics that does not measure time.
fn metric_lines(bench: &Bench) -> Vec<(u64, String, String, String)> {
    let text = files::read_to_string(&bench.run_folder().join("metrics.ndjson")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let lines = lines.filter(|line| line["metric"] != "tokens_per_second");
    let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    lines.map(|line| (line["step"].as_u64().unwrap(), word(&line["split"]), word(&line["metric"]), line["value"].to_string())).collect()
}

fn straight() -> Bench {
    let bench = Bench::with_text();
    let answer = bench.train(&[]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    bench
}

/// Large enough that every kind of product is split among threads: the smallest model is not.
const WIDE: &[&str] =
    &["model=tiny", "tokenizer.vocab_size=1024", "train.steps=3", "train.batch_size=8", "eval.every_steps=3", "eval.max_windows=8"];

#[test]
fn the_same_seed_gives_the_same_bytes_at_any_thread_count() {
    let run = |threads: &str| {
        let bench = Bench::with_text();
        let threads = format!("run.threads={threads}");
        let answer = bench.train(&[WIDE, &[threads.as_str()]].concat());
        assert_eq!(answer.code, 0, "{}", answer.err);
        bench
    };
    let first = run("1");
    for threads in ["2", "3", "4", "8"] {
        let again = run(threads);
        for file in FILES {
            assert!(first.checkpoint(3, file) == again.checkpoint(3, file), "{threads} threads: {file} differs");
        }
        assert_eq!(metric_lines(&first), metric_lines(&again));
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_twice() {
    let (first, again) = (straight(), straight());
    expect_same(&first, &again, "twice");
    let other = Bench::with_text();
    assert_eq!(other.train(&["run.seed=7"]).code, 0);
    assert!(first.checkpoint(STEPS, "model.safetensors") != other.checkpoint(STEPS, "model.safetensors"));
}

#[test]
fn a_run_folder_is_enough_to_train_the_same_weights_again() {
    let first = straight();
    let config = first.run_folder().join("config.resolved.toml");
    let again = Bench::with_text();
    let answer = again.run(&["train", "--config", config.to_str().unwrap()]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    expect_same(&first, &again, "from the run's configuration");
}

#[test]
fn killed_and_started_again_equals_uninterrupted() {
    let expected = straight();
    let bench = Bench::with_text();
    // Twice in one run: in the middle of whatever follows the first and the second checkpoint.
    for step in [4, 8] {
        let mut child = bench.spawn_train(&[]);
        bench.wait_for(&mut child, step);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let answer = bench.train(&[]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(answer.err.contains("going on with"), "{}", answer.err);
    expect_same(&expected, &bench, "after two kills");
    assert_eq!(metric_lines(&expected), metric_lines(&bench), "each step appears once");
}

#[test]
fn killed_at_ten_random_moments_equals_uninterrupted() {
    let long = ["train.steps=120", "eval.every_steps=30", "train.dropout=0.1", "checkpoint.keep_last=1"];
    let straight = Bench::with_text();
    assert_eq!(straight.train(&long).code, 0);
    let bench = Bench::with_text();
    // The newest step in the metrics; the file may be in the middle of a write, or not there yet.
    let newest = || {
        let runs = files::list_dir(&bench.path("runs")).unwrap_or_default();
        let text = runs.iter().find_map(|run| files::read_to_string(&run.join("metrics.ndjson")).ok()).unwrap_or_default();
        text.rsplit("\"step\":").next().and_then(|rest| rest.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let mut stream = codex_core::Stream::new(20_261_128, "kill", 0);
    let mut n_killed = 0;
    for moment in 0..10 {
        let step = 12 * moment + 1 + stream.below(11);
        let mut child = bench.spawn_train(&long);
        while newest() < step && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        // Further on by as much as a few system calls take.
        for _ in 0..stream.below(200) {
            std::thread::yield_now();
        }
        n_killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // A machine that is busy may let one end before it is seen.
    assert!(n_killed >= 5, "{n_killed} of 10 were under way when they were killed");
    let answer = bench.train(&long);
    assert_eq!(answer.code, 0, "{}", answer.err);
    for file in FILES {
        assert!(straight.checkpoint(120, file) == bench.checkpoint(120, file), "{file} differs");
    }
    assert_eq!(metric_lines(&straight), metric_lines(&bench), "each step appears once");
    let verified = bench.run(&["verify", "--data"]);
    assert_eq!(verified.code, 0, "{}\n{}", verified.out, verified.err);
}

#[test]
fn a_run_that_was_killed_behind_its_last_step_is_made_whole() {
    let bench = Bench::with_text();
    assert_eq!(bench.train(&[]).code, 0);
    let run = bench.run_folder();
    for file in ["run.manifest.json", "report.html"] {
        files::remove_file(&run.join(file)).unwrap();
    }
    assert_eq!(bench.run(&["verify"]).code, 4);
    assert_eq!(bench.train(&[]).code, 0);
    assert!(run.join("report.html").exists());
    assert_eq!(bench.run(&["verify", "--data"]).code, 0);
}

fn send(child: &Child, signal: &str) {
    let status = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_signal_saves_the_state_and_says_so_in_the_exit_code() {
    // A run too long to end by itself, of which every checkpoint is kept.
    let long = ["train.steps=100000", "checkpoint.every_steps=4", "checkpoint.keep_last=100000"];
    let until = |bench: &Bench, step: u64, signal: &str| {
        let mut child = bench.spawn_train(&long);
        bench.wait_for(&mut child, step);
        send(&child, signal);
        child.wait().unwrap().code()
    };
    let uninterrupted = Bench::with_text();
    assert_eq!(until(&uninterrupted, 40, "-INT"), Some(130));
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let bench = Bench::with_text();
        assert_eq!(until(&bench, 4, signal), Some(code));
        let record: serde_json::Value = serde_json::from_slice(&files::read(&bench.run_folder().join("run.json")).unwrap()).unwrap();
        assert_eq!((record["status"].as_str(), record["exit_code"].as_i64()), (Some("interrupted"), Some(i64::from(code))));
        let step = record["step"].as_u64().unwrap();
        assert!(!bench.checkpoint(step, "state.json").is_empty(), "the step it stopped at is saved");
        assert_eq!(bench.run(&["runs", "verify"]).code, 0, "a stopped run lists its files");
        until(&bench, 40, signal);
        for file in FILES {
            assert!(uninterrupted.checkpoint(40, file) == bench.checkpoint(40, file), "{signal}: {file} differs at step 40");
        }
    }
}

#[test]
fn a_finished_plan_is_not_trained_again_unless_asked() {
    let bench = straight();
    let runs = || files::list_dir(&bench.path("runs")).unwrap().len();
    let (before, first) = (runs(), bench.run_folder());
    let again = bench.train(&[]);
    assert_eq!((again.code, runs()), (0, before));
    assert!(again.out.contains("has finished this plan already"), "{}", again.out);
    let fresh = bench.train(&["--fresh"]);
    assert_eq!((fresh.code, runs()), (0, before + 1), "{}", fresh.err);
    let second = bench.run_folder();
    assert_ne!(first, second);
    let weights = |run: &std::path::Path| files::read(&run.join("checkpoints/step-00000012/model.safetensors")).unwrap();
    assert_eq!(weights(&first), weights(&second));
}

#[test]
fn two_processes_do_not_write_to_one_run() {
    let bench = Bench::with_text();
    let long = ["train.steps=100000", "checkpoint.every_steps=2"];
    let mut child = bench.spawn_train(&long);
    bench.wait_for(&mut child, 2);
    let Answer { code, err, .. } = bench.train(&long);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(code, 7, "{err}");
    assert!(err.contains("in use by another process") && err.contains("hint:"), "{err}");
}

#[test]
fn a_run_that_was_moved_with_its_texts_goes_on_to_the_same_bytes() {
    let bench = Bench::with_text();
    let mut child = bench.spawn_train(&[]);
    bench.wait_for(&mut child, 4);
    child.kill().unwrap();
    child.wait().unwrap();
    let run = bench.run_folder();
    let elsewhere = Bench::new();
    for name in ["text.txt", "held-out.txt"] {
        files::create_dir_all(&elsewhere.path("texts")).unwrap();
        elsewhere.write(&format!("texts/{name}"), files::read(&bench.path(name)).unwrap());
        files::remove_file(&bench.path(name)).unwrap();
    }
    // Only the run's own folder, to another name, without its caches.
    files::create_dir_all(&elsewhere.path("runs")).unwrap();
    files::rename_new(&run, &elsewhere.path("runs/moved")).unwrap();
    let answer = elsewhere.train(&["data.train=[\"texts/text.txt\"]", "data.validation=[\"texts/held-out.txt\"]"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(answer.err.contains("going on with") && answer.err.contains("moved"), "{}", answer.err);
    expect_same(&straight(), &elsewhere, "moved");
}
