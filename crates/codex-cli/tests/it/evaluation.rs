//! Tasks as a user has them judged: the same bytes again, numbers that follow from the model's own scores, errors with their place, nothing secret.

use std::path::Path;

use codex_core::files;
use serde_json::Value;

use crate::harness::{Bench, all_files};

/// A small trained run and its folder.
fn trained() -> (Bench, String) {
    let bench = Bench::with_text();
    let answer = bench.train(&["model.context_length=64"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    let run = bench.run_folder().display().to_string();
    (bench, run)
}

fn records(folder: &Path) -> Vec<Value> {
    let text = files::read_to_string(&folder.join("records.ndjson")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn value(summary: &Value, metric: &str) -> f64 {
    summary["metrics"][metric]["value"].as_f64().unwrap_or_else(|| panic!("{metric}: {summary}"))
}

fn near(a: f64, b: f64, most: f64) -> bool {
    (a - b).abs() <= most
}

#[test]
fn the_loss_of_a_task_is_that_of_the_text_and_the_same_bytes_come_again() {
    let (bench, run) = trained();
    let plain = bench.json(&["eval", &run, "--data", "held-out.txt"]);
    let task = ["eval", &run, "--data", "held-out.txt", "--metrics", "loss,ppl,bpb,accuracy@token,ece"];
    let first = bench.json(&task);
    for name in ["loss", "perplexity", "bits_per_byte", "token_accuracy"] {
        let (a, b) = (value(&first, name), plain["metrics"][name].as_f64().unwrap());
        assert!(near(a, b, 1e-9 * b.abs()), "{name}: {a}, and {b} without metrics");
    }
    assert!((0.0..=1.0).contains(&value(&first, "ece")) && first["metrics"]["loss"]["interval"].is_null(), "one record has no interval");
    let folder = bench.path(first["folder"].as_str().unwrap());
    assert!(folder.starts_with(bench.run_folder().join("artifacts/eval")), "{}", folder.display());
    let names: Vec<String> = all_files(&folder).iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    let expected = ["dataset_manifest.json", "evaluation_manifest.json", "metrics.csv", "metrics.ndjson", "records.ndjson", "summary.json"];
    assert_eq!(names, expected);
    let bytes = |folder: &Path| all_files(folder).iter().map(|path| files::read(path).unwrap()).collect::<Vec<_>>();
    let before = bytes(&folder);
    let again = bench.json(&task);
    assert_eq!((&first["written"], &again["written"]), (&true.into(), &false.into()));
    assert_eq!(before, bytes(&folder));
    bench.json(&[&task[..], &["--out", "elsewhere", "--threads", "1"]].concat());
    assert_eq!(before, bytes(&bench.path("elsewhere")), "the same wherever it is made, on any number of threads");
    let manifest: Value = serde_json::from_slice(&files::read(&folder.join("evaluation_manifest.json")).unwrap()).unwrap();
    let inspected = bench.json(&["model", "inspect", &run]);
    assert_eq!(manifest["evaluation"]["model"]["weights"], inspected["digest"]);
    for file in manifest["files"].as_array().unwrap() {
        let bytes = files::read(&folder.join(file["name"].as_str().unwrap())).unwrap();
        assert_eq!(file["blake3"], codex_core::Digest::of_bytes(&bytes).to_string().as_str());
    }
    let metrics = files::read_to_string(&folder.join("metrics.ndjson")).unwrap();
    let line: Value = serde_json::from_str(metrics.lines().next().unwrap()).unwrap();
    assert_eq!((&line["schema_version"], &line["tags"]["phase"], &line["step"]), (&"v1".into(), &"evaluation".into(), &12.into()));
    assert_eq!((&line["metric"], &line["value"], &line["timestamp"]), (&"loss".into(), &first["metrics"]["loss"]["value"], &Value::Null));
    assert_eq!(bench.run(&["runs", "verify"]).code, 0, "an evaluation is no part of the run");
}

/// The log-likelihood of the ids behind the first `n_given`, from the scores that `model logits` prints.
fn by_hand(bench: &Bench, run: &str, ids: &[u64], n_given: usize) -> f64 {
    let shown: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let said = bench.json(&["model", "logits", run, "--ids", &shown.join(",")]);
    let logits = said["sequences"][0]["logits"].as_array().unwrap();
    let one = |place: usize| {
        let scores: Vec<f64> = logits[place - 1].as_array().unwrap().iter().map(|score| score.as_f64().unwrap()).collect();
        scores[ids[place] as usize] - scores.iter().map(|score| score.exp()).sum::<f64>().ln()
    };
    (n_given..ids.len()).map(one).sum()
}

fn encoded(bench: &Bench, run: &str, text: &str) -> Vec<u64> {
    let tokenizer = format!("{run}/tokenizer.json");
    bench.json(&["tokenizer", "encode", &tokenizer, text]).as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

#[test]
fn choices_and_completions_are_what_the_models_scores_say() {
    let (bench, run) = trained();
    bench.write(
        "questions.jsonl",
        "{\"prompt\": \"Emma was\", \"choices\": [\"a\", \"very much delighted with the whole of it\", \"xqzj\"], \"answer\": 1}\n\
         {\"prompt\": \"It was a\", \"choices\": [\"very good thing\", \"dog\"], \"answer\": \"dog\"}\n",
    );
    let told = bench.json(&["eval", &run, "--data", "questions.jsonl", "--metrics", "acc,acc_norm", "--batch-size", "2", "--out", "q"]);
    let (mut raw, mut by_characters, mut differ) = (0.0, 0.0, false);
    for (record, prompt) in records(&bench.path("q")).iter().zip(["Emma was", "It was a"]) {
        let given = encoded(&bench, &run, prompt);
        let choices = record["choices"].as_array().unwrap();
        let (mut sums, mut lengths) = (Vec::new(), Vec::new());
        for choice in choices {
            let text = choice["text"].as_str().unwrap();
            let ids = [given.clone(), encoded(&bench, &run, &format!(" {text}"))].concat();
            let sum = by_hand(&bench, &run, &ids, given.len());
            assert!(near(choice["log_likelihood"].as_f64().unwrap(), sum, 1e-3), "{choice}: {sum} by hand");
            assert_eq!(choice["tokens"].as_u64().unwrap() as usize, ids.len() - given.len());
            sums.push(sum);
            lengths.push(text.len() as f64);
        }
        let most = |scores: &[f64]| scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        let of_length: Vec<f64> = sums.iter().zip(&lengths).map(|(sum, length)| sum / length).collect();
        let answer = record["answer"].as_u64().unwrap() as usize;
        assert_eq!(record["chosen"]["raw"], most(&sums));
        assert_eq!(record["chosen"]["by_characters"], most(&of_length));
        differ |= most(&sums) != most(&of_length);
        raw += f64::from(u8::from(most(&sums) == answer)) / 2.0;
        by_characters += f64::from(u8::from(most(&of_length) == answer)) / 2.0;
    }
    assert!(differ, "the length decides somewhere");
    assert!(near(value(&told, "choice_accuracy"), raw, 0.0) && near(value(&told, "choice_accuracy_norm"), by_characters, 0.0), "{told}");

    bench.write(
        "pairs.jsonl",
        "{\"prompt\": \"Emma was\", \"completion\": \" very kind\"}\n{\"messages\": [{\"role\": \"user\", \"content\": \"Who?\"}, \
         {\"role\": \"assistant\", \"content\": \"Emma\"}]}\n",
    );
    bench.json(&["eval", &run, "--data", "pairs.jsonl", "--metrics", "loss", "--template", "plain", "--out", "p"]);
    let found = records(&bench.path("p"));
    let given = encoded(&bench, &run, "Emma was");
    let ids = [given.clone(), encoded(&bench, &run, " very kind"), vec![0]].concat();
    let nll = -by_hand(&bench, &run, &ids, given.len());
    assert!(near(found[0]["tokens"]["nll"].as_f64().unwrap(), nll, 1e-3), "{}: {nll} by hand", found[0]);
    let given = encoded(&bench, &run, "User: Who?\n\nAssistant:");
    let ids = [given.clone(), encoded(&bench, &run, " Emma"), vec![0]].concat();
    let nll = -by_hand(&bench, &run, &ids, given.len());
    assert!(near(found[1]["tokens"]["nll"].as_f64().unwrap(), nll, 1e-3), "{}: {nll} by hand", found[1]);
    assert_eq!((&found[0]["index"], &found[1]["index"], &found[1]["line"]), (&0.into(), &1.into(), &2.into()));
}

#[test]
fn what_a_model_writes_is_cut_searched_and_judged() {
    let (bench, run) = trained();
    let prompts = ["Emma was", "It was", "She had never been"];
    let rows: Vec<String> =
        prompts.iter().map(|prompt| format!("{{\"prompt\": \"{prompt}\", \"references\": [\"a\", \"the\"]}}\n")).collect();
    bench.write("write.jsonl", rows.concat());
    let sample = |out: &str, more: &[&str]| {
        let told =
            bench.json(&[&["eval", &run, "--data", "write.jsonl", "--sample", "--max-new-tokens", "20", "--out", out], more].concat());
        let predictions: Vec<String> = records(&bench.path(out)).iter().map(|it| it["prediction"].as_str().unwrap().to_owned()).collect();
        (told, predictions)
    };
    let (told, greedy) = sample("greedy", &["--batch-size", "2"]);
    for (prompt, prediction) in prompts.iter().zip(&greedy) {
        let generated = bench.json(&["generate", &run, "--prompt", prompt, "--temperature", "0", "--max-new-tokens", "20", "--no-record"]);
        assert_eq!(generated["text"].as_str().unwrap(), prediction, "the same model writes the same");
    }
    assert_eq!((&told["predictions"]["from"], &told["predictions"]["n"]), (&"model".into(), &3.into()));
    assert!(told["metrics"]["exact_match"]["interval"]["low"].is_number() && told["metrics"]["f1"]["n_records"] == 3, "{told}");

    let stop: String = greedy[0].chars().skip(4).take(3).collect();
    let (_, cut) = sample("cut", &["--stop", &stop]);
    for (whole, cut) in greedy.iter().zip(&cut) {
        assert_eq!(whole.find(&stop).map_or(whole.as_str(), |at| &whole[..at]), cut);
    }
    let letters =
        |text: &str| text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (_, last) = sample("last", &["--extract", "([A-Za-z]+)"]);
    let (_, first) = sample("first", &["--extract", "([A-Za-z]+)", "--extract-first"]);
    for ((whole, last), first) in greedy.iter().zip(&last).zip(&first) {
        let words = letters(whole);
        assert_eq!((words.last(), words.first()), (Some(last), Some(first)), "{whole}");
    }
    let (none, empty) = sample("none", &["--extract", "#### ([0-9]+)"]);
    assert_eq!((&none["predictions"]["without_a_match"], empty.concat().as_str()), (&3.into(), ""));
    assert_eq!(records(&bench.path("none"))[0]["written"].as_str(), Some(greedy[0].as_str()), "what was written is kept beside");

    let warm = |out: &str, seed: &str| sample(out, &["--temperature", "1.5", "--seed", seed, "--metrics", "f1,bleu,dist-1"]).1;
    assert_eq!(warm("warm", "1"), warm("warm", "1"));
    let batched = sample("batched", &["--temperature", "1.5", "--seed", "1", "--metrics", "f1", "--batch-size", "1"]).1;
    assert_eq!(warm("warm", "1"), batched, "whatever stands beside");
    assert_ne!(warm("warm", "1"), warm("other", "2"));
    for (idx, (prompt, prediction)) in prompts.iter().zip(&batched).enumerate() {
        let seed = (idx + 1).to_string();
        let as_told = ["--temperature", "1.5", "--top-p", "1", "--seed", &seed, "--max-new-tokens", "20", "--no-record"];
        let generated = bench.json(&[&["generate", &run, "--prompt", prompt][..], &as_told].concat());
        assert_eq!(generated["text"].as_str().unwrap(), prediction, "each row has a seed of its own");
    }
}

#[test]
fn predictions_that_are_there_need_no_model_to_write_them() {
    let (bench, run) = trained();
    bench.write(
        "ready.jsonl",
        "{\"prediction\": \"the red cat\", \"references\": [\"red cat\"]}\n{\"prediction\": \"dog\", \"references\": [\"cat\", \"a dog\"]}\n\
         {\"prediction\": \"x y\", \"references\": [\"y z\"], \"prompt\": \"q\"}\n{\"prediction\": \"no\", \"references\": [\"yes\"]}\n",
    );
    let judge = |more: &[&str]| bench.json(&[&["eval", &run, "--data", "ready.jsonl", "--metrics", "em,f1,bleu,rouge_l"], more].concat());
    let told = judge(&["--out", "ready"]);
    assert_eq!((&told["predictions"]["from"], &told["predictions"]["n"]), (&"file".into(), &4.into()));
    assert!(near(value(&told, "exact_match"), 0.5, 0.0) && near(value(&told, "f1"), 0.625, 1e-12), "{told}");
    assert!(told["metrics"]["bleu"]["interval"].is_null(), "BLEU is no mean of records");
    let interval = &told["metrics"]["exact_match"]["interval"];
    assert_eq!((&interval["low"], &interval["high"], &interval["level"]), (&0.0.into(), &1.0.into(), &0.95.into()));
    let two = judge(&["--max-records", "2", "--out", "two"]);
    assert!(two["n_records"] == 2 && near(value(&two, "exact_match"), 1.0, 0.0));
    bench.write(
        "sums.jsonl",
        "{\"prediction\": \"3? no, 7\", \"references\": [\"7\"]}\n{\"prediction\": \"none\", \"references\": [\"7\"]}\n",
    );
    let sums = |out: &str, more: &[&str]| {
        let told =
            bench.json(&[&["eval", &run, "--data", "sums.jsonl", "--metrics", "em", "--extract", "[0-9]+", "--out", out], more].concat());
        (value(&told, "exact_match"), told["predictions"]["without_a_match"].as_u64())
    };
    assert_eq!((sums("sums", &[]), sums("first", &["--extract-first"])), ((0.5, Some(1)), (0.0, Some(1))));
    let shown = bench.run(&["eval", &run, "--data", "ready.jsonl", "--metrics", "f1"]);
    assert!(shown.out.contains("95 % interval") && shown.out.contains("0.6250") && shown.out.contains("written to "), "{}", shown.out);
    let elsewhere = bench.run_folder().join("checkpoints/step-00000012");
    for path in files::list_dir(&elsewhere).unwrap() {
        bench.write(&format!("store/step-00000012/{}", path.file_name().unwrap().to_string_lossy()), files::read(&path).unwrap());
    }
    let told = bench.json(&["eval", "store/step-00000012", "--data", "ready.jsonl", "--metrics", "f1"]);
    assert!(told["folder"].as_str().unwrap().starts_with("eval/") && bench.path(told["folder"].as_str().unwrap()).is_dir());
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let (bench, run) = trained();
    bench.write("good.jsonl", "{\"prompt\": \"a\", \"references\": [\"b\"]}\n");
    bench.write("bad.jsonl", "{\"text\": \"a\"}\n\n{\"text\": 7}\n");
    bench.write("mixed.jsonl", "{\"prompt\": \"a\", \"references\": [\"b\"]}\n{\"prompt\": \"a\"}\n");
    bench.write("long.jsonl", format!("{{\"prompt\": \"a\", \"completion\": \"{}\"}}\n", "word ".repeat(200)));
    bench.write("empty.jsonl", "\n");
    bench.write("taken/file", "x");
    let table: &[(&[&str], i32, &[&str])] = &[
        (&["--data", "bad.jsonl", "--metrics", "loss"], 3, &["`bad.jsonl:3`: `text`: expected text, found a number", "hint:"]),
        (&["--data", "empty.jsonl", "--metrics", "loss"], 3, &["no records"]),
        (&["--data", "absent.jsonl", "--metrics", "loss"], 5, &["absent.jsonl", "hint:"]),
        (&["--data", "folder", "--metrics", "loss"], 2, &["`folder` is no file", "hint:"]),
        (&["--data", "good.jsonl", "--metrics", "rogue_l"], 2, &["unknown metric `rogue_l`; known: loss", "did you mean `rouge_l`?"]),
        (&["--data", "mixed.jsonl", "--sample"], 2, &["`mixed.jsonl:2` has no `references`, which `exact_match` needs", "hint:"]),
        (&["--data", "good.jsonl", "--metrics", "f1"], 2, &["`good.jsonl:1` has no `prediction`", "`--sample`"]),
        (&["--data", "good.jsonl", "--metrics", "loss"], 2, &["`good.jsonl:1` has no `completion`, which `loss` needs"]),
        (&["--data", "good.jsonl", "--metrics", "acc"], 2, &["`good.jsonl:1` has no `choices`"]),
        (&["--data", "long.jsonl", "--metrics", "loss"], 3, &["`long.jsonl:1`", "the model's context is 64"]),
        (&["--metrics", "loss"], 2, &["no file of rows", "hint:"]),
        (&["--data", "good.jsonl", "--sample", "--metrics", "loss"], 2, &["none of the metrics judges"]),
        (&["--data", "good.jsonl", "--sample", "--extract", "("], 2, &["the pattern `(` cannot be used: unclosed group"]),
        (&["--data", "good.jsonl", "--sample", "--temperature=-1"], 2, &["--temperature", "found -1"]),
        (&["--data", "good.jsonl", "--sample", "--resamples", "0"], 2, &["`--resamples 0`"]),
        (&["--data", "good.jsonl", "--sample", "--out", "taken"], 2, &["`taken` is there and holds no evaluation", "hint:"]),
        (&["--data", "good.jsonl", "--metrics", "f1", "--max-new-tokens", "3"], 2, &["--sample"]),
        (&["--data", "good.jsonl", "--metrics", "f1", "--max-windows", "3"], 2, &["--max-windows"]),
    ];
    for (arguments, code, parts) in table {
        let answer = bench.run(&[&["eval", &run], *arguments].concat());
        assert_eq!(answer.code, *code, "{arguments:?}: {}{}", answer.out, answer.err);
        for part in *parts {
            assert!(answer.err.contains(part), "{arguments:?}: `{part}` is not in: {}", answer.err);
        }
    }
    let sample = ["eval", &run, "--data", "good.jsonl", "--sample", "--max-new-tokens", "2", "--out", "mine"];
    assert_eq!(bench.run(&sample).code, 0);
    let other = bench.run(&[&sample[..], &["--seed", "3"]].concat());
    assert!(other.code == 2 && other.err.contains("`mine` is there and holds another evaluation"), "{}", other.err);
    bench.write("mine/summary.json", "{}");
    let changed = bench.run(&sample);
    assert!(changed.code == 4 && changed.err.contains("other bytes"), "{}", changed.err);
    assert_eq!(files::read(&bench.path("mine/summary.json")).unwrap(), b"{}", "nothing is overwritten");
}

#[test]
fn a_secret_in_a_row_reaches_no_file() {
    let (bench, run) = trained();
    // Put together here, so that it stands nowhere as one string.
    let secret = ["jane.roe", "posteo.de"].join("@");
    let row = |fields: &str| format!("{{{}}}\n", fields.replace("SECRET", &secret));
    bench.write("text.jsonl", row(r#""text": "write to SECRET today""#));
    bench.write("pair.jsonl", row(r#""prompt": "write to SECRET", "completion": " or SECRET", "prediction": "SECRET""#));
    bench.write("choice.jsonl", row(r#""prompt": "write to SECRET", "choices": ["SECRET", "no one"], "answer": 1"#));
    let chat = r#""messages": [{"role": "user", "content": "I am SECRET"}, {"role": "assistant", "content": "so SECRET"}]"#;
    bench.write("chat.jsonl", row(chat));
    for (out, arguments) in [
        ("a", &["--data", "text.jsonl", "--metrics", "loss"][..]),
        ("b", &["--data", "pair.jsonl", "--metrics", "loss,f1"]),
        ("c", &["--data", "choice.jsonl", "--metrics", "acc"]),
        ("d", &["--data", "chat.jsonl", "--sample", "--template", "plain", "--max-new-tokens", "4"]),
        ("e", &["--data", "chat.jsonl", "--metrics", "loss", "--template", "plain"]),
    ] {
        let told = bench.json(&[&["eval", &run, "--out", out], arguments].concat());
        assert!(told["safety"]["rows"]["rules"]["email"].as_u64() > Some(0), "{told}");
        for path in all_files(&bench.path(out)) {
            assert!(!files::read_to_string(&path).unwrap().contains("posteo"), "{}", path.display());
        }
    }
    let found = records(&bench.path("b"));
    assert_eq!((&found[0]["prompt"], &found[0]["prediction"]), (&"write to [EMAIL]".into(), &"[EMAIL]".into()));
}

#[test]
fn evaluations_of_the_same_rows_are_compared_record_by_record() {
    let (bench, run) = trained();
    let judge = |out: &str, predictions: [&str; 4]| {
        let rows: Vec<String> =
            predictions.iter().map(|it| format!("{{\"prompt\": \"q\", \"references\": [\"yes\"], \"completion\": \"{it}\"}}\n")).collect();
        bench.write(&format!("{out}.jsonl"), rows.concat());
    };
    judge("rows", ["yes", "no", "yes yes", "maybe"]);
    let eval = |out: &str, more: &[&str]| {
        let answer = bench.run(&[&["eval", &run, "--data", "rows.jsonl", "--metrics", "loss,token_accuracy", "--out", out], more].concat());
        assert_eq!(answer.code, 0, "{}", answer.err);
    };
    let steps = bench.json(&["checkpoint", "list", &run]);
    let early = steps["checkpoints"][0]["step"].to_string();
    eval("late", &[]);
    eval("early", &["--checkpoint", &early]);
    let told = bench.json(&["eval", "compare", "early", "late/summary.json"]);
    let loss = &told["comparisons"][0]["metrics"]["loss"];
    let summary = |out: &str| serde_json::from_slice::<Value>(&files::read(&bench.path(out).join("summary.json")).unwrap()).unwrap();
    let (was, is) = (value(&summary("early"), "loss"), value(&summary("late"), "loss"));
    assert!(near(loss["difference"].as_f64().unwrap(), is - was, 0.0) && !near(is, was, 0.0), "{loss}");
    let (low, high) = (loss["interval"]["low"].as_f64().unwrap(), loss["interval"]["high"].as_f64().unwrap());
    assert!(low <= is - was && is - was <= high, "{loss}");
    assert_eq!(loss["better"].as_u64().unwrap() + loss["worse"].as_u64().unwrap(), 4);
    let better = (0..4).filter(|&idx| {
        let score = |out: &str| records(&bench.path(out))[idx]["scores"]["loss"].as_f64().unwrap();
        score("late") < score("early")
    });
    assert_eq!(loss["better"].as_u64().unwrap() as usize, better.count(), "a lower loss is better");
    let itself = bench.run(&["eval", "compare", "late", "late", "--metric", "token_accuracy"]);
    assert!(itself.out.contains("0 better, 0 worse") && !itself.out.contains("loss"), "{}", itself.out);
    assert_eq!(told, bench.json(&["eval", "compare", "early", "late"]), "the same draws");

    judge("other", ["a", "b", "c", "d"]);
    bench.json(&["eval", &run, "--data", "other.jsonl", "--metrics", "loss", "--out", "other"]);
    for (arguments, code, part) in [
        (&["late", "other"][..], 2, "different rows"),
        (&["late", "nowhere"], 2, "is no evaluation"),
        (&["late"], 2, "EVALUATION"),
        (&["late", "early", "--metric", "f1"], 2, "has no `f1`"),
        (&["late", "early", "--metric", "los"], 2, "did you mean `loss`?"),
        (&["late", "early", "--matrix"], 2, "2 models on 1 tasks"),
    ] {
        let answer = bench.run(&[&["eval", "compare"], arguments].concat());
        assert!(answer.code == code && answer.err.contains(part), "{arguments:?}: {}", answer.err);
    }
    bench.write("late/records.ndjson", "{}\n");
    let damaged = bench.run(&["eval", "compare", "early", "late"]);
    assert!(damaged.code == 4 && damaged.err.contains("records.ndjson"), "{}", damaged.err);
}

#[test]
fn models_in_the_order_of_training_tell_what_was_gained_and_forgotten() {
    let (bench, run) = trained();
    bench.write("one.txt", "Emma Woodhouse, handsome, clever, and rich, with a comfortable home.");
    bench.write("two.txt", "0123456789 0123456789 0123456789 0123456789");
    let steps = bench.json(&["checkpoint", "list", &run]);
    let steps: Vec<String> = steps["checkpoints"].as_array().unwrap().iter().map(|it| it["step"].to_string()).collect();
    assert_eq!(steps.len(), 2);
    let mut cells = Vec::new();
    for (model, step) in steps.iter().enumerate() {
        for task in ["one", "two"] {
            let (out, data) = (format!("m{model}-{task}"), format!("{task}.txt"));
            let told =
                bench.json(&["eval", &run, "--checkpoint", step, "--data", &data, "--metrics", "loss,token_accuracy", "--out", &out]);
            cells.push((out, value(&told, "loss"), value(&told, "token_accuracy")));
        }
    }
    let paths: Vec<&str> = cells.iter().map(|(out, ..)| out.as_str()).collect();
    let matrix = [&["eval", "compare", "--matrix"], &paths[..]].concat();
    let told = bench.json(&matrix);
    let of = |told: &Value, metric: &str, name: &str| told["metrics"][metric]["transfer"][name].as_f64();
    let [first, _, third, last] = [0, 1, 2, 3].map(|idx| cells[idx].1);
    assert!(near(of(&told, "loss", "average").unwrap(), f64::midpoint(third, last), 1e-12), "{told}");
    assert!(near(of(&told, "loss", "backward").unwrap(), first - third, 1e-12), "a loss that falls is a gain: {told}");
    assert!(near(of(&told, "loss", "forgetting").unwrap(), third - first, 1e-12), "{told}");
    assert_eq!(of(&told, "loss", "forward"), None);
    let backward = cells[2].2 - cells[0].2;
    assert!(near(of(&told, "token_accuracy", "backward").unwrap(), backward, 1e-12), "{told}");
    let with_baseline = bench.json(&[&matrix[..], &["--baseline", "m1-two"]].concat());
    assert!(near(of(&with_baseline, "loss", "forward").unwrap(), last - cells[1].1, 1e-12), "{with_baseline}");
    let shown = bench.run(&matrix);
    assert!(shown.out.contains("backward transfer") && shown.out.contains("one.txt"), "{}", shown.out);
    let missing = bench.json(&["eval", "compare", "--matrix", "m0-one", "m1-one", "m1-two"]);
    assert!(of(&missing, "loss", "backward").is_some() && of(&missing, "loss", "forward").is_none());
    let twice = bench.run(&[&matrix[..], &["m0-one"]].concat());
    assert!(twice.code == 2 && twice.err.contains("the same model and task"), "{}", twice.err);
}
