//! Generated text as a user gets it: prompts that fit, words as they come, nothing that is taken back, and a record.

use codex_core::files;
use serde_json::Value;

use crate::harness::Bench;

/// A small trained run and its folder.
fn trained(more: &[&str]) -> (Bench, String) {
    let bench = Bench::with_text();
    let answer = bench.train(more);
    assert_eq!(answer.code, 0, "{}", answer.err);
    let run = bench.run_folder().display().to_string();
    (bench, run)
}

#[test]
fn a_prompt_that_does_not_fit_says_by_how_much_and_a_text_ends_with_the_context() {
    let (bench, run) = trained(&["model.context_length=32"]);
    let generate = |n: &str| bench.json(&["generate", &run, "--prompt", "It was", "--temperature", "0", "--max-new-tokens", n]);
    let ended = generate("99");
    let n_ids = ended["ids"].as_array().unwrap().len();
    let n_prompt = ended["prompt_ids"].as_array().unwrap().len();
    assert_eq!((ended["stopped"].as_str(), n_prompt + n_ids), (Some("context"), 33), "the last token is not read");
    assert_eq!(generate("2")["stopped"], "length");
    let long = "It was ".repeat(40);
    let answer = bench.run(&["generate", &run, "--prompt", &long, "--stream"]);
    assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{}", answer.err);
    let numbers: Vec<usize> = answer.err.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    assert!(numbers[0] > 40 && numbers[1] == 32 && numbers[2] == numbers[0] - 32, "{}", answer.err);
    for part in ["tokens and the model's context is 32", "too many", "hint:", "model.context_length"] {
        assert!(answer.err.contains(part), "{}", answer.err);
    }
}

#[test]
fn a_streamed_text_is_the_text() {
    let (bench, run) = trained(&["model.context_length=256"]);
    for (n, more) in [("60", &["--seed", "1"][..]), ("60", &["--seed", "2", "--temperature", "2"]), ("0", &["--temperature", "0"])] {
        let arguments =
            [&["generate", &run, "--prompt", "Write jane.roe@posteo.de:  \n", "--max-new-tokens", n, "--no-record"], more].concat();
        let whole = bench.run(&arguments);
        let streamed = bench.run(&[&arguments[..], &["--stream"]].concat());
        assert_eq!((whole.code, streamed.code), (0, 0), "{}{}", whole.err, streamed.err);
        assert_eq!(streamed.out, whole.out);
        assert!(streamed.out.starts_with("Write [EMAIL]:"), "{}", streamed.out);
        let told = bench.json(&[&arguments[..], &["--stream"]].concat());
        assert_eq!(format!("{}{}", told["prompt"].as_str().unwrap(), told["text"].as_str().unwrap()).trim_end(), whole.out.trim_end());
    }
    let told = bench.json(&["generate", &run, "--prompt", "Emma", "--seed", "1", "--max-new-tokens", "40"]);
    let text = told["text"].as_str().unwrap();
    let stop: String = text.chars().skip(9).take(4).collect();
    let cut = ["generate", &run, "--prompt", "Emma", "--seed", "1", "--max-new-tokens", "40", "--stream", "--stop", &stop];
    assert_eq!(bench.run(&cut).out.trim_end(), format!("Emma{}", &text[..text.find(&stop).unwrap()]).trim_end());
    assert_eq!(bench.run(&["generate", &run, "--prompt", "x", "--stream", "--samples", "2"]).code, 2);
}

#[test]
fn what_a_model_knows_by_heart_is_never_shown() {
    let bench = Bench::with_text();
    // What is trained on is redacted unless someone turns that off; a checkpoint away from its run knows nothing of that.
    bench.write("text.txt", "please write to jane.roe@posteo.de today or tomorrow and then come back\n".repeat(900));
    bench.write("held-out.txt", "please write to jane.roe@posteo.de today or tomorrow and then come back\n".repeat(90));
    let answer = bench.train(&[
        "safety.personal_data=off",
        "model.context_length=64",
        "tokenizer.vocab_size=400",
        "train.steps=150",
        "checkpoint.every_steps=150",
        "eval.every_steps=150",
    ]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    for path in files::list_dir(&bench.run_folder().join("checkpoints/step-00000150")).unwrap() {
        bench.write(&format!("store/step-00000150/{}", path.file_name().unwrap().to_string_lossy()), files::read(&path).unwrap());
    }
    let known = ["--prompt", "please write", "--temperature", "0", "--max-new-tokens", "40"];
    let run = bench.run_folder().display().to_string();
    let open = bench.run(&[&["generate", &run, "--stream"][..], &known].concat());
    assert!(open.out.contains("jane.roe@posteo.de"), "the model knows it: {}", open.out);
    let away = ["generate", "store/step-00000150"];
    let streamed = bench.run(&[&away[..], &["--stream"], &known].concat());
    assert!(streamed.out.contains("[EMAIL]") && !streamed.out.contains('@'), "{}", streamed.out);
    let told = bench.json(&[&away[..], &known].concat());
    assert_eq!((&told["ids"], &told["log_probabilities"], &told["record"]), (&Value::Null, &Value::Null, &Value::Null));
    assert!(told["safety"]["text"]["rules"]["email"].as_u64().unwrap() >= 1);
    assert!(told["text"].as_str().unwrap().contains("[EMAIL]"));
}

#[test]
fn what_was_generated_is_told_in_numbers_and_recorded() {
    let (bench, run) = trained(&[]);
    let arguments =
        ["generate", &run, "--prompt", "It was", "--max-new-tokens", "8", "--temperature", "0.3", "--top-k", "3", "--seed", "4"];
    let told = bench.json(&arguments);
    let ids: Vec<String> = told["prompt_ids"].as_array().unwrap().iter().map(ToString::to_string).collect();
    let scores = bench.json(&["model", "logits", &run, "--ids", &ids.join(",")]);
    let scores: Vec<f64> = scores["sequences"][0]["logits"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect();
    let log_sum = scores.iter().map(|score| score.exp()).sum::<f64>().ln();
    let first = told["ids"][0].as_u64().unwrap() as usize;
    let expected = scores[first] - log_sum;
    let found = told["log_probabilities"][0].as_f64().unwrap();
    assert!((found - expected).abs() < 1e-4, "{found}, and {expected} before temperature and cuts");
    assert_eq!(told["log_probabilities"].as_array().unwrap().len(), 8);
    let timing = &told["timing"];
    assert_eq!((timing["prompt_tokens"].as_u64(), timing["decode_tokens"].as_u64()), (Some(ids.len() as u64), Some(7)));
    for speed in ["prompt_tokens_per_second", "decode_tokens_per_second", "tokens_per_second", "prompt_seconds", "decode_seconds"] {
        assert!(timing[speed].as_f64().unwrap() > 0.0, "{speed}: {timing}");
    }
    assert_eq!((&told["schema"], &told["safety"]["text"]["texts"]), (&1.into(), &1.into()));

    let record = std::path::PathBuf::from(told["record"].as_str().unwrap());
    assert!(record.starts_with(bench.run_folder().join("artifacts/infer")), "{}", record.display());
    let bytes = files::read(&record).unwrap();
    let digest = codex_core::Digest::of_bytes(&bytes).short();
    assert!(record.to_string_lossy().ends_with(&format!("-{digest}.json")));
    let mut same = told.clone();
    same.as_object_mut().unwrap().remove("record");
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), same);
    let records = || files::list_dir(&bench.run_folder().join("artifacts/infer")).unwrap().len();
    assert_eq!(records(), 1);
    assert_eq!(bench.run(&[&arguments[..], &["--no-record"]].concat()).code, 0);
    assert_eq!(records(), 1, "it was left out");
    assert_eq!(bench.run(&["runs", "verify"]).code, 0, "a record is no part of the run");

    files::remove_dir_all(&bench.run_folder().join("artifacts")).unwrap();
    files::write_atomic(&bench.run_folder().join("artifacts"), b"in the way").unwrap();
    let answer = bench.run(&arguments);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(answer.out.starts_with("It was") && answer.err.contains("warning: what was generated is not recorded"), "{}", answer.err);
    assert!(answer.err.contains("--no-record"));
}

#[test]
fn a_streamed_answer_is_the_answer() {
    let (bench, run) = trained(&["model.context_length=256"]);
    let talk = ["chat", &run, "--template", "plain", "--max-new-tokens", "24", "--message", "Who is Emma?", "--message", "And Harriet?"];
    let (whole, streamed) = (bench.run(&talk), bench.run(&[&talk[..], &["--stream"]].concat()));
    assert_eq!((whole.code, streamed.code), (0, 0), "{}{}", whole.err, streamed.err);
    assert_eq!(streamed.out.trim_end(), whole.out.trim_end());
}
