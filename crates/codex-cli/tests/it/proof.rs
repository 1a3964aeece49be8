//! A run can prove itself: steps taken again, digests recomputed, two runs compared, and what schedulers ask for.

use codex_core::files;
use serde_json::Value;

use crate::harness::{Answer, Bench, all_files, train_arguments};

fn straight(more: &[&str]) -> Bench {
    let bench = Bench::with_text();
    let answer = bench.train(more);
    assert_eq!(answer.code, 0, "{}", answer.err);
    bench
}

/// The first line of a run's metrics that says this, with another value in its place.
fn change_metric(bench: &Bench, step: u64, metric: &str, change: impl Fn(f64) -> f64) {
    let path = bench.run_folder().join("metrics.ndjson");
    let text = files::read_to_string(&path).unwrap();
    let is_it = |line: &&str| line.contains(&format!("\"step\":{step},\"split\":\"train\",\"metric\":\"{metric}\""));
    let line = text.lines().find(is_it).unwrap();
    let mut value: Value = serde_json::from_str(line).unwrap();
    value["value"] = change(value["value"].as_f64().unwrap()).into();
    files::write_atomic(&path, text.replace(line, &value.to_string()).as_bytes()).unwrap();
}

#[test]
fn steps_taken_again_are_the_same_to_the_bit() {
    let everything = ["train.dropout=0.1", "train.accumulation=2", "train.ema_decay=0.5", "train.optimizer=muon", "checkpoint.keep_last=9"];
    for more in [&[][..], &everything, &["adapter.kind=lora", "adapter.dropout=0.1", "checkpoint.keep_last=9"]] {
        let bench = straight(more);
        let oldest = bench.json(&["checkpoint", "list"])["checkpoints"][0]["step"].as_u64().unwrap();
        let found = bench.json(&["replay", "--steps", "100", "--threads", "1"]);
        assert_eq!(
            (found["level"].as_str(), found["holds"].as_bool(), found["from"].as_u64()),
            (Some("bit-exact"), Some(true), Some(oldest))
        );
        let steps = found["steps"].as_array().unwrap();
        assert_eq!(steps.len() as u64, 12 - oldest, "{more:?}");
        let last = steps.last().unwrap();
        assert_eq!((last["same_weights"].as_bool(), last["same_optimizer"].as_bool()), (Some(true), Some(true)), "{more:?}");
        assert!(found["checkpoints_compared"].as_u64().unwrap() > 0 && found["same_bits"].as_bool().unwrap());
        assert!(steps.iter().all(|step| step["loss"]["recorded"] == step["loss"]["replayed"]));
    }
}

#[test]
fn a_replay_names_the_step_that_differs_and_the_level_that_held() {
    let bench = straight(&["checkpoint.keep_last=9", "eval.every_steps=12"]);
    let told = bench.run(&["replay", "--from", "4"]);
    assert!(
        told.code == 0 && told.out.contains("4 steps from 4 on hold") && told.out.contains("the same bits were demanded"),
        "{}",
        told.out
    );
    // Other instructions round in another way: near, and said so.
    if bench.json(&["doctor"])["instruction_set"] != "portable" {
        let near = bench.json(&["replay", "--from", "4", "--instruction-set", "portable"]);
        assert_eq!((near["level"].as_str(), near["holds"].as_bool(), near["same_bits"].as_bool()), (Some("near"), Some(true), Some(false)));
    }
    change_metric(&bench, 6, "loss", |value| f64::from_bits(value.to_bits() + 1));
    let wrong = bench.run(&["replay", "--from", "4"]);
    assert!(wrong.code == 4 && wrong.err.contains("step 6 has loss") && wrong.out.contains("DIFFERS"), "{}{}", wrong.out, wrong.err);
    for (arguments, what) in [
        (&["replay", "--from", "5"][..], "it has 4, 8, 12"),
        (&["replay", "--from", "12"], "no record of a step after 12"),
        (&["replay", "nowhere"], "`nowhere`"),
        (&["replay", "--instruction-set", "mmx"], "mmx"),
    ] {
        let answer = bench.run(arguments);
        assert!(answer.code == 2 && answer.err.contains(what) && answer.err.contains("hint:"), "{arguments:?}: {}", answer.err);
    }
    // The same size, another letter.
    let text = files::read_to_string(&bench.path("text.txt")).unwrap();
    bench.write("text.txt", text.replacen('e', "a", 1));
    let changed = bench.run(&["replay", "--from", "4"]);
    assert!(changed.code == 4 && changed.err.contains("its plan has the digest"), "{}", changed.err);
}

#[test]
fn a_flipped_byte_anywhere_in_a_run_folder_is_found_and_named() {
    let bench = straight(&["checkpoint.keep_last=1", "checkpoint.keep_best=0"]);
    let run = bench.run_folder();
    let mut n_tried = 0;
    for path in all_files(&run) {
        let name = path.strip_prefix(&run).unwrap().to_str().unwrap();
        let whole = files::read(&path).unwrap();
        // Locks hold nothing.
        if whole.is_empty() {
            continue;
        }
        let mut bytes = whole.clone();
        bytes[whole.len() * 2 / 3] ^= 4;
        files::write_atomic(&path, &bytes).unwrap();
        let answer = bench.run(&["verify", run.to_str().unwrap()]);
        assert_ne!(answer.code, 0, "{name}: {}", answer.out);
        let told = format!("{}{}", answer.out, answer.err);
        assert!(told.contains(name) || told.contains(path.file_name().unwrap().to_str().unwrap()), "{name}: {told}");
        files::write_atomic(&path, &whole).unwrap();
        n_tried += 1;
    }
    assert!(n_tried > 15, "{n_tried}");
    assert_eq!(bench.run(&["verify"]).code, 0);
}

#[test]
fn the_tree_says_what_is_proven() {
    let bench = straight(&[]);
    let answer = bench.run(&["verify", "--data"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    for part in
        ["├─ data             proven", "configuration    proven", "program          proven", "metrics          proven", "└─ step 12"]
    {
        assert!(answer.out.contains(part), "{part}: {}", answer.out);
    }
    assert!(bench.run(&["verify"]).out.contains("data             noted"));
    // A value that is changed, and the manifest made anew over it: the chain knows.
    change_metric(&bench, 6, "loss", |value| value - 0.5);
    let answer = bench.run(&["verify"]);
    assert!(answer.code == 4 && answer.out.contains("`metrics.ndjson`:") && answer.out.contains("the line before it"), "{}", answer.out);
    let text = files::read_to_string(&bench.path("text.txt")).unwrap();
    bench.write("text.txt", text.replacen('e', "a", 1));
    let answer = bench.run(&["verify", "--data"]);
    assert!(answer.out.contains("data             DIFFERS") && answer.out.contains("`text.txt`: expected digest"), "{}", answer.out);
    files::remove_file(&bench.path("text.txt")).unwrap();
    let answer = bench.run(&["verify", "--data"]);
    assert!(answer.code == 4 && answer.out.contains("data             MISSING"), "{}", answer.out);
}

#[test]
fn two_runs_are_compared_by_key_by_file_and_by_step() {
    let bench = straight(&["run.name=one"]);
    let first = bench.run_folder();
    assert_eq!(bench.train(&["run.name=two", "train.warmup_steps=3"]).code, 0);
    let second = bench.run_folder();
    let (first, second) = (first.to_str().unwrap(), second.to_str().unwrap());
    let found = bench.json(&["runs", "compare", first, second, "--page", "both.html"]);
    let keys: Vec<&str> = found["differences"]["config"].as_array().unwrap().iter().map(|it| it["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["run.name", "train.warmup_steps"]);
    assert_eq!((found["parts_at"].as_u64(), found["differences"]["data"].as_array().unwrap().len()), (Some(1), 0));
    let page = files::read_to_string(&bench.path("both.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("train.warmup_steps") && !page.contains("<script"));
    let text = bench.run(&["runs", "compare", first, second]);
    assert!(text.code == 0 && text.out.contains("they part at step 1") && text.out.contains("data: no difference"), "{}", text.out);
    let same = bench.json(&["runs", "compare", first, first]);
    assert_eq!((same["parts_at"].as_u64(), same["differences"]["config"].as_array().unwrap().len()), (None, 0));
    assert_eq!(bench.run(&["runs", "compare", first, "nowhere"]).code, 2);
}

#[test]
fn a_scheduler_can_ask_for_a_save_and_for_a_requeue() {
    let long = ["train.steps=100000", "checkpoint.every_steps=100000", "eval.every_steps=100000", "checkpoint.keep_last=9"];
    let bench = Bench::with_text();
    let mut child =
        bench.command(&train_arguments(&long)).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let saved = || {
        let runs = files::list_dir(&bench.path("runs")).unwrap_or_default();
        let checkpoints = runs.iter().filter_map(|run| files::list_dir(&run.join("checkpoints")).ok()).flatten();
        checkpoints.filter(|path| path.join("manifest.json").exists()).count()
    };
    let is_training = || {
        let runs = files::list_dir(&bench.path("runs")).unwrap_or_default();
        runs.iter().any(|run| files::read_to_string(&run.join("metrics.ndjson")).is_ok_and(|text| text.contains("\"step\":2,")))
    };
    let send = |id: u32, signal: &str| {
        assert!(std::process::Command::new("kill").args([signal, &id.to_string()]).status().unwrap().success());
    };
    let wait_until = |child: &mut std::process::Child, is_so: &dyn Fn() -> bool| {
        while !is_so() {
            assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
            std::thread::yield_now();
        }
    };
    wait_until(&mut child, &is_training);
    send(child.id(), "-USR1");
    wait_until(&mut child, &|| saved() == 1);
    send(child.id(), "-USR1");
    wait_until(&mut child, &|| saved() == 2);
    send(child.id(), "-USR2");
    let answer = Answer::of(&child.wait_with_output().unwrap());
    assert_eq!(answer.code, 75, "{}", answer.err);
    let record: Value = serde_json::from_slice(&files::read(&bench.run_folder().join("run.json")).unwrap()).unwrap();
    assert_eq!((record["status"].as_str(), record["exit_code"].as_i64()), (Some("interrupted"), Some(75)));
    assert_eq!(bench.run(&["verify"]).code, 0);
    // Time that is over asks for the same; the plan is the same one.
    let over = bench.train(&[&long[..], &["run.max_minutes=0.01"]].concat());
    assert_eq!(over.code, 75, "{}", over.err);
    assert!(over.err.contains("going on with") && over.out.contains("the same command goes on from there"), "{}{}", over.out, over.err);
}

#[test]
fn a_model_can_be_tested_where_it_is_used() {
    let bench = straight(&["train.dropout=0.1"]);
    let shipped = std::path::absolute("../../fixtures/models/austen").unwrap();
    let learned_positions = straight(&["model.positions=learned", "model.norm=layer", "adapter.kind=lora"]);
    for (bench, model) in [(&bench, None), (&bench, Some(shipped.to_str().unwrap())), (&learned_positions, None)] {
        let found = bench.json(&[&["selftest"][..], model.as_slice()].concat());
        let checks = found["checks"].as_array().unwrap();
        assert_eq!((found["holds"].as_bool(), checks.len()), (Some(true), 5), "{found}");
        let difference = |i: usize| checks[i]["difference"].as_f64().unwrap();
        assert_eq!((difference(3), difference(4)), (0.0, 0.0), "threads and files change no bit");
        assert!(difference(0) < 1e-4 && difference(1) < 1e-4 && difference(2) < 1e-4);
    }
    let told = bench.run(&["selftest"]);
    assert!(told.code == 0 && told.out.contains("packed = unpacked") && told.out.contains("holds"), "{}", told.out);
    assert_eq!(bench.run(&["selftest", "nowhere"]).code, 2);
}

#[test]
fn a_learning_rate_is_found_below_the_one_that_runs_away() {
    let bench = Bench::with_text();
    let arguments = [&["lr", "find", "--steps", "40", "--from", "1e-5", "--to", "1000"], &train_arguments(&[])[1..]].concat();
    let found = bench.json(&arguments);
    let points = found["points"].as_array().unwrap();
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(points.len() > 5 && points.windows(2).all(|pair| number(&pair[0]["learning_rate"]) < number(&pair[1]["learning_rate"])));
    assert!(found["diverged"].as_bool().unwrap() && (1e-5..10.0).contains(&number(&found["proposed"])), "{found}");
    assert!(!bench.path("runs").exists(), "nothing is written");
    // No weight has changed before the first loss: it is the one that training begins with.
    let first = {
        assert_eq!(bench.train(&[]).code, 0);
        let text = files::read_to_string(&bench.run_folder().join("metrics.ndjson")).unwrap();
        let line = text.lines().find(|line| line.contains("\"step\":1,\"split\":\"train\",\"metric\":\"loss\"")).unwrap();
        serde_json::from_str::<Value>(line).unwrap()["value"].clone()
    };
    assert_eq!(points[0]["loss"], first);
    let told = bench.run(&arguments);
    assert!(told.code == 0 && told.out.contains("try `train.learning_rate="), "{}{}", told.out, told.err);
    assert_eq!(bench.run(&["lr", "find", "--from", "1", "--to", "0.5"]).code, 2);
}

#[test]
fn two_checkpoints_are_compared_tensor_by_tensor() {
    let bench = straight(&["checkpoint.keep_last=9"]);
    let run = bench.run_folder();
    let at = |step: u64| run.join(format!("checkpoints/step-{step:08}")).to_str().unwrap().to_owned();
    let found = bench.json(&["checkpoint", "diff", &at(4), &at(8)]);
    let differences = found["differences"].as_array().unwrap();
    assert!(!differences.is_empty() && found["not_comparable"].as_array().unwrap().is_empty() && found["same_state"] == false);
    let embedding = differences.iter().find(|it| it["tensor"] == "model: embedding").unwrap();
    assert!(embedding["different"].as_u64().unwrap() > 0 && embedding["largest"].as_f64().unwrap() > 0.0, "{embedding}");
    let same = bench.json(&["checkpoint", "diff", &at(8), &at(8)]);
    assert_eq!((same["differences"].as_array().unwrap().len(), same["same_state"].as_bool()), (0, Some(true)));
    // A run stands for its newest checkpoint; another shape is no difference of numbers.
    let text = bench.run(&["checkpoint", "diff", run.to_str().unwrap(), &at(12)]);
    assert!(text.code == 0 && text.out.contains("0 differ; the trainer's state is the same"), "{}", text.out);
    let wider = Bench::with_text();
    assert_eq!(wider.train(&["model.d_model=48", "model.n_heads=4", "model.tie_embeddings=false"]).code, 0);
    let other = wider.run_folder().to_str().unwrap().to_owned();
    let text = bench.run(&["checkpoint", "diff", &at(12), &other]);
    assert!(text.code == 0 && text.out.contains("model: head.weight: only in the second") && text.out.contains(" and ["), "{}", text.out);
    assert_eq!(bench.run(&["checkpoint", "diff", "nowhere", &at(8)]).code, 2);
}

#[test]
fn what_retention_does_not_keep_is_removed_when_asked() {
    let bench = straight(&["checkpoint.keep_last=9", "checkpoint.every_steps=2", "eval.every_steps=12"]);
    let run = bench.run_folder();
    let steps = || -> Vec<u64> {
        let list = bench.json(&["checkpoint", "list"]);
        list["checkpoints"].as_array().unwrap().iter().map(|it| it["step"].as_u64().unwrap()).collect()
    };
    assert_eq!(steps(), [2, 4, 6, 8, 10, 12]);
    let dry = bench.run(&["checkpoint", "prune", "--dry-run", "--keep-last", "1", "--keep-every", "4"]);
    assert!(dry.code == 0 && dry.out.contains("would go") && dry.out.contains("3 of 6 checkpoints"), "{}", dry.out);
    assert_eq!(steps().len(), 6, "nothing is removed");
    let removed = bench.json(&["checkpoint", "prune", run.to_str().unwrap(), "--keep-last", "1", "--keep-best", "2", "--keep-every", "4"]);
    assert_eq!(removed["removed"].as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).collect::<Vec<_>>(), [2, 6, 10]);
    assert_eq!(steps(), [4, 8, 12]);
    assert_eq!(bench.run(&["verify"]).code, 0, "the manifest lists what is left");
    assert!(bench.run(&["checkpoint", "prune", "--keep-last", "9"]).out.contains("0 of 3 checkpoints"));
}

#[test]
fn the_base_of_adapters_is_part_of_the_proof() {
    let bench = straight(&["run.name=base"]);
    let base = bench.run_folder();
    let of_base = format!("run.base={}", base.to_str().unwrap());
    let tuned = ["train", &of_base, "run.name=tuned", "adapter.kind=lora", "train.steps=4", "train.warmup_steps=1", "train.batch_size=4"];
    let data = ["data.train=[\"text.txt\"]", "data.validation=[\"held-out.txt\"]", "eval.max_windows=2", "eval.sample_tokens=2"];
    let answer = bench.run(&[&tuned[..], &data].concat());
    assert_eq!(answer.code, 0, "{}", answer.err);
    let run = bench.run_folder();
    let run = run.to_str().unwrap();
    let told = bench.run(&["verify", run, "--data"]);
    assert!(told.code == 0 && told.out.contains("base             proven"), "{}{}", told.out, told.err);
    let inspected = bench.run(&["model", "inspect", run]);
    assert!(inspected.code == 0 && inspected.out.contains("adapters"), "{}", inspected.out);
    assert!(bench.run(&["model", "inspect", base.to_str().unwrap()]).out.contains("tokenizer"));
    // All weights trained on a base: its digest is in the plan's.
    let whole = [&tuned[..3], &["adapter.kind=none", "train.steps=2", "train.warmup_steps=1", "train.batch_size=4"], &data].concat();
    assert_eq!(bench.run(&whole).code, 0);
    let told = bench.run(&["verify"]);
    assert!(told.code == 0 && told.out.contains("base             noted") && told.out.contains("part of the plan"), "{}", told.out);
    files::remove_dir_all(&base.join("checkpoints")).unwrap();
    let told = bench.run(&["verify", run]);
    assert!(told.code == 4 && told.out.contains("base             MISSING"), "{}", told.out);
}
