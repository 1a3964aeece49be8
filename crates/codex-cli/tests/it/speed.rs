//! What makes a run fast changes its bits only where it says so: precision, instructions, the pool, the profile.

use codex_core::files;
use serde_json::Value;

use crate::harness::Bench;

const WEIGHTS: &str = "model.safetensors";

/// A run of three steps of a model whose products are split among threads.
fn run(more: &[&str]) -> Bench {
    let bench = Bench::with_text();
    let wide =
        ["model=tiny", "tokenizer.vocab_size=1024", "train.steps=3", "train.batch_size=4", "eval.every_steps=3", "eval.max_windows=4"];
    let answer = bench.train(&[&wide[..], more].concat());
    assert_eq!(answer.code, 0, "{}", answer.err);
    bench
}

fn record(bench: &Bench, file: &str) -> Value {
    serde_json::from_slice(&files::read(&bench.run_folder().join(file)).unwrap()).unwrap()
}

#[test]
fn bf16_has_the_same_bytes_at_any_thread_count_and_other_ones_than_f32() {
    let (one, three) = (run(&["train.precision=bf16", "run.threads=1"]), run(&["train.precision=bf16", "run.threads=3"]));
    assert!(one.checkpoint(3, WEIGHTS) == three.checkpoint(3, WEIGHTS));
    assert!(one.checkpoint(3, WEIGHTS) != run(&[]).checkpoint(3, WEIGHTS), "bf16 was not used");
}

#[test]
fn the_pool_and_the_profile_change_no_byte() {
    let plain = run(&["run.pool_mib=0"]);
    let profiled = run(&["--profile"]);
    assert!(plain.checkpoint(3, WEIGHTS) == profiled.checkpoint(3, WEIGHTS));
    assert!(!plain.run_folder().join("profile.json").exists());
    let profile = record(&profiled, "profile.json");
    let span = |name: &str| profile["spans"].as_array().unwrap().iter().find(|span| span["name"] == name).unwrap().clone();
    // Four blocks, three steps; a product of 4 x 128 rows, 128 wide, for each gradient of an output layer and of queries, keys and values.
    assert_eq!(span("attention: gradient")["count"], 12);
    assert_eq!(span("linear: gradient of the weight")["floating_operations"], 3 * 4 * 2 * (4 * 128 * 128 * (128 + 384)) as u64);
    assert!(span("AdamW")["seconds"].as_f64().unwrap() > 0.0);
    assert!(profile["pool"]["reused"].as_u64().unwrap() > 0);
}

#[test]
fn samples_are_what_their_seeds_give_and_a_bf16_cache_is_told() {
    let bench = run(&["sampling.max_new_tokens=12"]);
    let folder = bench.run_folder().display().to_string();
    let generate = |more: &[&str]| bench.json(&[&["generate", &folder, "--prompt", "It was", "--temperature", "1"], more].concat());
    let together = generate(&["--samples", "3", "--seed", "5"]);
    assert_eq!(together["samples"].as_array().unwrap().len(), 3);
    for (index, seed) in ["5", "6", "7"].into_iter().enumerate() {
        let alone = generate(&["--seed", seed]);
        assert_eq!((&together["samples"][index]["ids"], &alone["kv_cache"]), (&alone["ids"], &Value::from("f32")));
        assert_eq!(alone["samples"][0]["text"], alone["text"]);
    }
    assert_eq!(generate(&["--kv-cache", "bf16"])["kv_cache"], "bf16");
    let eval = |weights: &str| bench.json(&["eval", &folder, "--weights", weights, "--max-windows", "4"]);
    let (whole, coarse) = (eval("f32"), eval("int8"));
    assert_eq!((&whole["weights"], &coarse["weights"]), (&Value::from("f32"), &Value::from("int8")));
    let loss = |answer: &Value| answer["metrics"]["loss"].as_f64().unwrap();
    let apart = (loss(&whole) - loss(&coarse)).abs() / loss(&whole);
    assert!(apart > 0.0 && apart < 0.01, "{apart}");
    assert_eq!(generate(&["--weights", "int8"])["weights"], "int8");
    for wrong in [&["--samples", "0"][..], &["--samples", "257"], &["--kv-cache", "f8"], &["--weights", "int4"]] {
        assert_eq!(bench.run(&[&["generate", &folder, "--prompt", "x"], wrong].concat()).code, 2);
    }
}

#[test]
fn the_report_shows_forecast_peak_and_pool() {
    let bench = run(&["run.pool_mib=512"]);
    let memory = &record(&bench, "run.json")["memory"];
    let number = |value: &Value| value.as_u64().unwrap();
    assert!(number(&memory["forecast"]["total"]) > number(&memory["forecast"]["weights"]));
    assert!(number(&memory["peak_resident"]) > 10 << 20);
    assert_eq!(memory["pool"]["allowed"], 512 << 20);
    assert!(number(&memory["pool"]["reused_blocks"]) > 0 && number(&memory["pool"]["most_used"]) > 1 << 20);
    let report = String::from_utf8(files::read(&bench.run_folder().join("report.html")).unwrap()).unwrap();
    for part in ["forecast before the run", "measured peak", "pool: reused blocks", "pool: most used"] {
        assert!(report.contains(part), "{part}");
    }
}

#[test]
fn the_instruction_set_is_recorded_and_a_change_of_it_is_told() {
    let bench = run(&["run.instruction_set=portable"]);
    assert_eq!(record(&bench, "run.json")["instruction_set"], "portable");
    let best = bench.json(&["doctor"])["instruction_set"].as_str().unwrap().to_owned();
    assert!(["portable", "avx2", "avx512", "avx512_bf16"].contains(&best.as_str()));
    let wrong = bench.train(&["run.instruction_set=mmx"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("run.instruction_set") && wrong.err.contains("expected auto, portable, avx2"), "{}", wrong.err);
}

#[test]
fn a_run_that_goes_on_with_other_instructions_says_so() {
    let bench = Bench::with_text();
    let long = |set: &'static str| ["train.steps=100000", "checkpoint.every_steps=4", "checkpoint.keep_last=100000", set];
    let until = |step: u64, set: &'static str| {
        let mut child = bench.spawn_train(&long(set));
        bench.wait_for(&mut child, step);
        let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(status.success());
        child.wait().unwrap();
    };
    until(4, "run.instruction_set=portable");
    let first = record(&bench, "run.json");
    let best = bench.json(&["doctor"])["instruction_set"].as_str().unwrap().to_owned();
    let step = first["step"].as_u64().unwrap();
    until((step / 4 + 1) * 4, "run.instruction_set=auto");
    let second = record(&bench, "run.json");
    assert_eq!(second["instruction_set"], best.as_str());
    let is_told =
        second["promise"].as_str().unwrap() == format!("by tolerance: it was trained on flex with portable and on flex with {best}");
    assert_eq!(is_told, best != "portable", "{}", second["promise"]);
    assert!(first["promise"].as_str().unwrap().starts_with("bit-exact"));
    assert_eq!(second["resumed_from"][0]["instruction_set"], best.as_str());
}

#[test]
fn the_precision_that_suits_the_processor_is_taken_and_written_down() {
    let bench = Bench::with_text();
    let answer = bench.train(&["train.precision=auto", "train.steps=2"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    let taken = if answer.err.contains("train.precision=auto takes bf16: this processor has instructions") { "bf16" } else { "f32" };
    assert!(answer.err.contains(&format!("takes {taken}")), "{}", answer.err);
    let resolved = files::read_to_string(&bench.run_folder().join("config.resolved.toml")).unwrap();
    assert!(resolved.contains(&format!("precision = \"{taken}\"")), "{resolved}");
    // The same plan as if it had been named; on a path without such instructions it is f32.
    let named = bench.train(&[&format!("train.precision={taken}"), "train.steps=2"]);
    assert!(named.code == 0 && named.out.contains("has finished this plan already"), "{}{}", named.out, named.err);
    let portable = bench.train(&["train.precision=auto", "run.instruction_set=portable", "train.steps=2"]);
    assert!(portable.code == 0 && portable.err.contains("auto takes f32: this processor has no"), "{}", portable.err);
}

/// What three steps of a small model come to in f32 on each path, on whatever machine has it: the digest of the weights' file.
const GOLDEN: [(&str, &str); 3] = [
    ("portable", "d7e89101bb9bd2d836ea49b8a1d4ed1bbece1f016861a161f4dc4a1f62f68584"),
    ("avx2", "f29e1ccbc379feb1fc79fd1c821dbb328f7c14ab42563e31065c29b2eac91a6c"),
    ("avx512", "f29e1ccbc379feb1fc79fd1c821dbb328f7c14ab42563e31065c29b2eac91a6c"),
];

#[test]
fn another_machine_with_the_same_instructions_has_the_same_bytes() {
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    for (set, digest) in GOLDEN {
        let bench = Bench::with_text();
        let instructions = format!("run.instruction_set={set}");
        let everything = ["train.steps=3", "train.dropout=0.1", "train.accumulation=2", "train.ema_decay=0.5", "eval.every_steps=3"];
        let answer = bench.train(&[&everything[..], &[&instructions]].concat());
        if answer.code == 2 && answer.err.contains("this processor has no") {
            continue;
        }
        assert_eq!(answer.code, 0, "{}", answer.err);
        found.push((set, codex_core::Digest::of_bytes(&bench.checkpoint(3, WEIGHTS)).to_string()));
        expected.push((set, digest.to_owned()));
    }
    assert!(!found.is_empty(), "every machine has the portable path");
    assert_eq!(found, expected);
}

#[test]
fn activations_computed_again_take_less_memory_for_the_same_bytes() {
    let run = |recompute: &str| {
        let bench = Bench::with_text();
        let deep = ["model=tiny", "model.n_layers=8", "train.steps=2", "train.batch_size=8", "eval.every_steps=2", "eval.batch_size=1"];
        let answer = bench.train(&[&deep[..], &[recompute]].concat());
        assert_eq!(answer.code, 0, "{}", answer.err);
        let record: Value = serde_json::from_slice(&files::read(&bench.run_folder().join("run.json")).unwrap()).unwrap();
        let used = |part: &str, name: &str| record["memory"][part][name].as_f64().unwrap();
        (bench.checkpoint(2, WEIGHTS), used("pool", "most_used"), used("forecast", "a_step_adds"))
    };
    let (kept, again) = (run("train.recompute_activations=false"), run("train.recompute_activations=true"));
    assert!(kept.0 == again.0, "the weights");
    assert!(again.1 < 0.7 * kept.1, "{} and {} bytes in use at most", kept.1, again.1);
    assert!(again.2 < 0.7 * kept.2, "{} and {} bytes forecast", kept.2, again.2);
}
