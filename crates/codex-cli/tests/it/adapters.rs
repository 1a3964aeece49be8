//! From a trained run to adapters on it, as a user goes: train, fine-tune, evaluate, generate, and what is refused.

use codex_core::files;
use serde_json::Value;

use crate::harness::Bench;

const TEXT: [&str; 3] = ["train", "data.train=[\"text.txt\"]", "data.validation=[\"held-out.txt\"]"];

/// A run to begin with.
fn base() -> (Bench, String) {
    let bench = Bench::with_text();
    let answer = bench.train(&["run.name=base"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    let run = bench.run_folder().display().to_string();
    (bench, run)
}

fn loss(bench: &Bench, run: &str) -> f64 {
    bench.json(&["eval", run])["metrics"]["loss"].as_f64().unwrap()
}

#[test]
fn adapters_are_trained_on_a_base_and_used_with_it() {
    let (bench, base) = base();
    let on_base = format!("run.base={base}");
    // The base brings shape and tokenizer.
    let steps = ["train.steps=20", "train.warmup_steps=2", "train.batch_size=4", "eval.every_steps=20", "eval.max_windows=4"];
    let fine = [&TEXT[..], &steps, &["eval.sample_tokens=0", &on_base]].concat();
    let lora = ["adapter.kind=lora", "adapter.rank=4", "adapter.target_modules=[\"q_proj\",\"v_proj\"]", "run.name=tuned"];
    let lora = [&fine[..], &lora].concat();
    let tuned = bench.json(&lora);
    let run = bench.path(tuned["run"].as_str().unwrap()).display().to_string();
    assert!(loss(&bench, &run) < loss(&bench, &base), "adapters learn");
    let size = |file: &str| files::size(&bench.path(file)).unwrap();
    let adapters = size(&format!("{run}/checkpoints/step-00000020/model.safetensors"));
    let whole = size(&format!("{base}/checkpoints/step-00000012/model.safetensors"));
    assert!(adapters < whole / 4, "only the adapters are saved: {adapters} of {whole}");
    assert_eq!(bench.run(&["generate", &run, "--prompt", "It"]).code, 0);
    // The same command finds its run.
    assert_eq!(bench.json(&lora)["status"], "already_finished");
    // All weights may be trained from a base as well.
    assert_eq!(bench.json(&[&fine[..], &["run.name=whole"]].concat())["status"], "finished");
    // Without its base an adapter is refused, and the base is named.
    files::rename_new(&bench.path(&base), &bench.path("moved")).unwrap();
    let missing = bench.run(&["generate", &run, "--prompt", "It"]);
    assert!(missing.code != 0 && missing.err.contains(&base), "{}", missing.err);
}

#[test]
fn an_adapter_of_another_base_is_refused() {
    let (bench, base) = base();
    let on_base = format!("run.base={base}");
    let tuned: Value = bench.json(&[&TEXT[..], &["train.steps=2", "train.warmup_steps=0", &on_base, "adapter.kind=lora"]].concat());
    let run = tuned["run"].as_str().unwrap().to_owned();
    files::remove_dir_all(&bench.path(&base)).unwrap();
    assert_eq!(bench.train(&["run.name=other", "run.seed=9"]).code, 0);
    files::rename_new(&bench.run_folder(), &bench.path(&base)).unwrap();
    let refused = bench.run(&["eval", &run]);
    assert_eq!(refused.code, 4, "{}", refused.err);
    assert!(refused.err.contains("its adapters are of a base with digest"), "{}", refused.err);
}

#[test]
fn what_cannot_be_a_base_is_refused_with_the_reason() {
    let (bench, base) = base();
    let on_base = format!("run.base={base}");
    let refused = |more: &[&str], words: &[&str]| {
        let answer = bench.run(&[&TEXT[..], more].concat());
        assert_eq!(answer.code, 2, "{more:?}: {}", answer.err);
        assert!(words.iter().all(|word| answer.err.contains(word)), "{more:?}: {}", answer.err);
    };
    refused(&["run.base=nowhere"], &["nowhere"]);
    refused(&[&on_base, "model.d_model=96"], &["model.d_model", "run.base"]);
    refused(&[&on_base, "model=small"], &["model.", "run.base"]);
    refused(&[&on_base, "adapter.kind=lora", "adapter.target_modules=[\"query\"]"], &["`query`", "q_proj"]);
    refused(&[&on_base, "adapter.kind=lora", "adapter.rank=0"], &["adapter.rank"]);
    refused(&[&on_base, "adapter.kind=prefix"], &["adapter.kind"]);
}
