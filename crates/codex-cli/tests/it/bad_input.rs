//! What goes wrong ends with the documented code, names the place and the next step, and never panics.

use codex_core::files;

use crate::harness::{Bench, train_arguments};

/// Expects a code and parts of the message; `hint:` among them where one is due.
fn expect(bench: &Bench, arguments: &[&str], code: i32, parts: &[&str]) {
    let answer = bench.run(arguments);
    assert_eq!(answer.code, code, "{arguments:?}: {}{}", answer.out, answer.err);
    assert!(!answer.err.contains("panicked"), "{}", answer.err);
    for part in parts {
        assert!(answer.err.contains(part), "{arguments:?}: `{part}` is not in: {}", answer.err);
    }
}

#[test]
fn arguments() {
    let bench = Bench::new();
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["trian"], 2, &["trian", "train"]),
        (&[], 2, &["Usage"]),
        (&["train", "--no-such-flag"], 2, &["--no-such-flag"]),
        (&["train", "--device", "tpu"], 2, &["`run.device`", "flex"]),
        (&["train", "--device", "cuda"], 2, &["not compiled into this program", "hint:", "--features cuda"]),
        (&["train", "run.device=wgpu"], 2, &["hint:", "--features wgpu"]),
        (&["eval"], 2, &["no run in `runs`", "hint:"]),
        (&["generate", "--prompt", "x"], 2, &["no run in `runs`", "hint:"]),
        (&["generate", "--prompt", ""], 2, &["the prompt is empty", "hint:"]),
        (&["generate", "--prompt", "x", "--temperature=-1"], 2, &["--temperature", "found -1", "hint:"]),
        (&["generate", "--prompt", "x", "--top-p", "0"], 2, &["--top-p", "hint:"]),
        (&["generate", "nowhere", "--prompt", "x"], 2, &["no model is called `nowhere`", "artifacts/models/nowhere", "hint:"]),
        (&["runs", "show", "nowhere"], 2, &["`nowhere`", "hint:"]),
        (&["checkpoint", "list", "nowhere"], 2, &["`nowhere`", "hint:"]),
        (&["tokenizer", "train", "--out", "t", "--kind", "unigram"], 2, &["`unigram` is not trained here", "hint:"]),
        (&["tokenizer", "train", "--out", "t", "--vocab-size", "10"], 2, &["vocab_size", "hint:"]),
        (&["runs", "verify", "nowhere"], 2, &["`nowhere`", "hint:"]),
        (&["completions", "tcsh-x"], 2, &["tcsh-x"]),
    ];
    for (arguments, code, parts) in cases {
        expect(&bench, arguments, *code, parts);
    }
}

#[test]
fn configuration() {
    let bench = Bench::new();
    bench.write("twice.toml", "[train]\nsteps = 1\nsteps = 2\n");
    bench.write("slip.toml", "[train]\nlearning_rat = 0.1\nstepps = 3\n");
    bench.write("type.toml", "[train]\nsteps = \"many\"\n");
    bench.write("range.toml", "[train]\nsteps = 0\nbeta1 = 1.5\n[model]\nn_heads = 5\n");
    bench.write("broken.toml", "[train\nsteps = 0\n");
    bench.write("group.toml", "defaults = [\"model/huge\"]\n");
    bench.write("slip.yaml", "train:\n  stepz: 3\n");
    bench.write("twice.yaml", "train:\n  steps: 3\n  steps: 4\n");
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["config", "check", "twice.toml"], 2, &["twice.toml:3", "steps"]),
        (
            &["config", "check", "slip.toml"],
            2,
            &["slip.toml:2", "slip.toml:3", "did you mean `train.learning_rate`?", "did you mean `train.steps`?"],
        ),
        (&["config", "check", "type.toml"], 2, &["type.toml:2", "train.steps"]),
        (&["config", "check", "range.toml"], 2, &["range.toml:2", "range.toml:3", "range.toml:5", "train.beta1", "model.n_heads"]),
        (&["config", "check", "broken.toml"], 2, &["broken.toml:1"]),
        (&["config", "check", "group.toml"], 2, &["model/huge", "model/tiny"]),
        (&["config", "check", "slip.yaml"], 2, &["slip.yaml:2", "did you mean `train.steps`?"]),
        (&["config", "check", "twice.yaml"], 2, &["twice.yaml:3"]),
        (&["config", "check", "absent.toml"], 5, &["absent.toml", "hint:"]),
        (&["train", "train.steps=1", "train.steps=2"], 2, &["train.steps"]),
        (&["train", "train.steps"], 2, &["train.steps"]),
        (&["train", "train.stepz=1"], 2, &["did you mean `train.steps`?"]),
        (&["train", "model=enormous"], 2, &["enormous"]),
        (&["train", "run.name=…"], 2, &["run.name"]),
        (&["train", "checkpoint.metric=validation/los"], 2, &["checkpoint.metric", "validation/loss"]),
        (&["train", "train.epsilon=1e-300"], 2, &["train.epsilon"]),
        (&["train", "safety.allow=[\"emial\"]"], 2, &["did you mean `email`?"]),
        (&["train", "data.validation=[\"builtin:austen/train\"]"], 2, &["data.validation"]),
    ];
    for (arguments, code, parts) in cases {
        expect(&bench, arguments, *code, parts);
    }
    let output = bench.command(&["config", "show"]).env("CODEX_TRAIN__STEPZ", "3").output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("CODEX_TRAIN__STEPZ") && err.contains("did you mean"), "{err}");
}

#[test]
fn data() {
    let bench = Bench::with_text();
    bench.write("bad.jsonl", "{\"text\": \"fine\"}\n{\"text\": 3}\n");
    bench.write("array.jsonl", "[\"a\"]\n");
    bench.write("field.jsonl", "{\"txt\": \"fine\"}\n");
    bench.write("utf16.jsonl", [b'{', 0, b'}', 0]);
    bench.write("latin.txt", b"caf\xe9\n");
    bench.write("empty.jsonl", "");
    bench.write("image.png", "x");
    files::create_dir_all(&bench.path("hollow")).unwrap();
    let cases: &[(&str, i32, &[&str])] = &[
        ("bad.jsonl", 3, &["bad.jsonl:2", "hint:"]),
        ("array.jsonl", 3, &["array.jsonl:1"]),
        ("field.jsonl", 3, &["field.jsonl:1", "txt"]),
        ("utf16.jsonl", 3, &["utf16.jsonl", "UTF-16"]),
        ("latin.txt", 3, &["latin.txt"]),
        ("empty.jsonl", 3, &["hint:"]),
        ("image.png", 3, &["image.png", ".jsonl"]),
        ("hollow", 3, &["hollow"]),
        ("absent.txt", 3, &["absent.txt", "hint:"]),
        ("builtin:austen/trian", 2, &["austen/trian", "did you mean"]),
    ];
    for (name, code, parts) in cases {
        let train = format!("data.train=[\"{name}\"]");
        expect(&bench, &train_arguments(&[&train]), *code, parts);
    }
    expect(&bench, &train_arguments(&["data.validation=[]"]), 3, &["validation", "hint:"]);
    let huge = ["model.context_length=1000000", "train.batch_size=64"];
    for more in [&[][..], &["--dry-run"]] {
        expect(&bench, &train_arguments(&[&huge[..], more].concat()), 2, &["of memory", "hint:", "train.batch_size"]);
    }
    assert!(!bench.path("runs").join("run.json").exists());
    expect(&bench, &train_arguments(&["train.learning_rate=1e30", "train.grad_clip_norm=0.0"]), 3, &["text.txt", "hint:"]);
    bench.write("runs-file", "not a folder");
    expect(&bench, &train_arguments(&["run.folder=runs-file"]), 5, &["runs-file"]);
}

#[test]
fn tokenizers() {
    let bench = Bench::with_text();
    assert_eq!(bench.run(&["tokenizer", "train", "text.txt", "--out", "tok", "--vocab-size", "300"]).code, 0);
    bench.write("empty.json", "{}");
    bench.write("broken.json", "{\"version\": ");
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["tokenizer", "encode", "absent", "x"], 5, &["absent", "hint:"]),
        (&["tokenizer", "encode", "empty.json", "x"], 4, &["empty.json"]),
        (&["tokenizer", "encode", "broken.json", "x"], 4, &["broken.json"]),
        (&["tokenizer", "encode", "tok", "x", "--allow-special", "<|nope|>"], 2, &["<|nope|>"]),
        (&["tokenizer", "decode", "tok", "99999"], 3, &["99999"]),
        (&["tokenizer", "decode", "tok", "one"], 2, &["`one` is not a token id", "hint:"]),
        (&["tokenizer", "stats", "tok", "absent.txt"], 3, &["absent.txt"]),
    ];
    for (arguments, code, parts) in cases {
        expect(&bench, arguments, *code, parts);
    }
    let text = files::read_to_string(&bench.path("tok/tokenizer.json")).unwrap();
    bench.write("tok/tokenizer.json", text.replacen("300", "301", 1) + " ");
    expect(&bench, &["tokenizer", "encode", "tok", "x"], 4, &["tok/tokenizer.json", "expected digest", "hint:"]);
    expect(&bench, &train_arguments(&["tokenizer.file=\"tok\""]), 4, &["tok/tokenizer.json"]);
}

#[test]
fn checkpoints() {
    let bench = Bench::with_text();
    assert_eq!(bench.train(&[]).code, 0);
    let run = bench.run_folder();
    let newest = run.join("checkpoints/step-00000012");
    let flip = |path: &std::path::Path, at: usize| {
        let mut bytes = files::read(path).unwrap();
        let n = bytes.len();
        bytes[at % n] ^= 1;
        files::write_atomic(path, &bytes).unwrap();
    };
    let name = run.to_str().unwrap();
    let weights = newest.join("model.safetensors");
    flip(&weights, 5000);
    expect(&bench, &["checkpoint", "verify", name], 4, &["step-00000012/model.safetensors", "hint:"]);
    let answer = bench.run(&["generate", name, "--prompt", "Emma", "--max-new-tokens", "1"]);
    assert_eq!(answer.code, 0);
    assert!(answer.err.contains("step 12 is not usable and was passed over"), "the fallback is announced: {}", answer.err);
    expect(&bench, &["eval", name, "--checkpoint", "12"], 4, &["model.safetensors"]);
    expect(&bench, &["eval", name, "--checkpoint", "99"], 2, &["step 99", "hint:"]);
    expect(&bench, &["eval", name, "--checkpoint", "newest"], 2, &["`--checkpoint newest`", "hint:"]);
    expect(&bench, &["eval", newest.to_str().unwrap()], 4, &["model.safetensors"]);
    flip(&weights, 5000);
    assert_eq!(bench.run(&["eval", newest.to_str().unwrap()]).code, 0, "a checkpoint in a run knows its text");
    let alone = bench.path("store/step-00000012");
    for path in files::list_dir(&newest).unwrap() {
        bench.write(&format!("store/step-00000012/{}", path.file_name().unwrap().to_string_lossy()), files::read(&path).unwrap());
    }
    expect(&bench, &["eval", alone.to_str().unwrap()], 2, &["hint:", "--data"]);
    assert_eq!(bench.run(&["eval", alone.to_str().unwrap(), "--data", "held-out.txt"]).code, 0);
    flip(&newest.join("manifest.json"), 100);
    expect(&bench, &["checkpoint", "verify", newest.to_str().unwrap()], 4, &["manifest.json"]);
    for step in [8, 12] {
        files::truncate(&run.join(format!("checkpoints/step-{step:08}/state.json")), 3).unwrap();
    }
    expect(&bench, &["generate", name, "--prompt", "x"], 4, &["no checkpoint in", "is whole", "hint:"]);
    files::write_atomic(&run.join("run.json"), b"{").unwrap();
    assert!(bench.run(&["runs", "list"]).out.contains("unreadable"));
    let again = bench.train(&[]);
    assert!(again.err.contains("is passed over") && again.err.contains("run.json"), "{}", again.err);
}
