//! Training on several sources in stages, measured on several sets.

use codex_core::files;

use crate::harness::Bench;

/// Two sources, the second alone from step 9 on, and a set of its own.
const MIXTURE: &str = r#"
[data]
train = []
validation = []
validation_fraction = 0.2

[data.sources.novel]
paths = ["novel.txt", "more"]
weight = 3

[data.sources.table]
paths = ["table.jsonl"]

[[data.stages]]
from_step = 9
weights = { table = 1 }

[data.validation_sets]
apart = ["held-out.txt"]

[checkpoint]
metric = "validation/table/loss"
"#;

fn bench() -> Bench {
    let bench = Bench::with_text();
    let text = files::read_to_string(&bench.path("text.txt")).unwrap();
    // Each text file is a document, and a fifth of them are held out by their hash.
    for (i, chapter) in (0..20).map(|i| (i, &text[i * 1000..(i + 1) * 1000])) {
        bench.write(&format!("more/{i:02}.txt"), chapter);
    }
    bench.write("novel.txt", &text[20_000..24_000]);
    let rows: Vec<String> = (0..120).map(|i| format!("{{\"text\": \"row {i} of {} is {}\"}}\n", i * 7, i * i)).collect();
    bench.write("table.jsonl", rows.concat());
    bench.write("mixture.toml", MIXTURE);
    bench
}

fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let small = crate::harness::SMALL.iter().copied().filter(|argument| !argument.starts_with("data."));
    ["train", "--config", "mixture.toml"].into_iter().chain(small).chain(more.iter().copied()).collect()
}

#[test]
fn sources_stages_and_sets_from_the_file_to_the_record() {
    let bench = bench();
    let plan = bench.json(&small(&["--dry-run"]));
    // 8 steps of 4 windows at 3 to 1, and 4 steps of the second alone.
    let epochs = |name: &str| plan["epochs_of_sources"][name].as_f64().unwrap();
    assert!(epochs("novel") > 0.0 && epochs("table") > 0.0, "{plan}");
    let trained = bench.json(&small(&[]));
    let summary = &trained["summary"];
    for name in ["loss", "table/loss", "novel/loss", "apart/loss", "apart/bits_per_byte"] {
        assert!(summary[format!("validation/{name}")].as_f64().unwrap() > 0.0, "{name} in {summary}");
    }
    assert_eq!((summary["epochs/novel"].as_f64(), summary["epochs/table"].as_f64()), (Some(epochs("novel")), Some(epochs("table"))));
    let run = bench.run_folder();
    let metrics = files::read_to_string(&run.join("metrics.ndjson")).unwrap();
    let splits = ["\"split\":\"validation\"", "\"split\":\"validation/apart\"", "\"split\":\"validation/table\""];
    for split in splits {
        assert_eq!(metrics.lines().filter(|line| line.contains(split) && line.contains("\"metric\":\"loss\"")).count(), 3, "{split}");
    }
    let events = files::read_to_string(&run.join("events.ndjson")).unwrap();
    assert!(events.contains("\"stage\"") && events.contains("\"mixture\""), "{events}");
    // Every file that was read is in the record, and `verify` reads them again.
    let sources = files::read_to_string(&run.join("dataset_checksums.json")).unwrap();
    for name in ["novel.txt", "table.jsonl", "held-out.txt", "19.txt"] {
        assert!(sources.contains(name), "{name} in {sources}");
    }
    let verified = bench.run(&["verify", "--data"]);
    assert_eq!(verified.code, 0, "{}", verified.err);
    // What training measured is what `eval` finds, set by set; and the steps can be taken again.
    let eval = bench.json(&["eval", run.to_str().unwrap()]);
    for name in ["table", "novel", "apart"] {
        assert_eq!(eval["sets"][name]["loss"], summary[format!("validation/{name}/loss")], "{name}");
    }
    assert_eq!(eval["metrics"]["loss"], summary["validation/loss"]);
    let replayed = bench.run(&["replay", "--from", "8", "--steps", "4"]);
    assert_eq!(replayed.code, 0, "{}", replayed.err);
    let text = bench.run(&["eval", run.to_str().unwrap()]).out;
    assert!(text.contains("apart") && text.contains("table"), "{text}");
    // A changed file of a set is found.
    let held_out = files::read_to_string(&bench.path("held-out.txt")).unwrap();
    bench.write("held-out.txt", held_out.replacen('e', "a", 1));
    let changed = bench.run(&["verify", "--data"]);
    assert_eq!(changed.code, 4, "{}", changed.out);
    assert!(changed.out.contains("held-out.txt"), "{}", changed.out);
}

#[test]
fn a_mixture_that_cannot_be_is_refused_with_its_keys() {
    let bench = bench();
    let refused = |more: &[&str]| {
        let answer = bench.run(&small(more));
        assert_eq!(answer.code, 2, "{more:?}: {}", answer.err);
        answer.err
    };
    let told = refused(&["data.train=[\"text.txt\"]"]);
    assert!(told.contains("data.train") && told.contains("`sources` too"), "{told}");
    let told = refused(&["checkpoint.metric=validation/tabel/loss"]);
    assert!(told.contains("`validation/NAME/loss` with NAME one of novel, table, apart"), "{told}");
    let told = refused(&["train.patience_set=tabel"]);
    assert!(told.contains("there is no validation set `tabel`; there are: novel, table, apart"), "{told}");
    let told = refused(&["data.sources.table.weight=-1"]);
    assert!(told.contains("weights of 0 or more"), "{told}");
    let told = refused(&["data.sources.table.wieght=2"]);
    assert!(told.contains("wieght"), "{told}");
    let told = bench.run(&small(&["data.sources.table.paths=[\"gone.jsonl\"]"]));
    assert_eq!(told.code, 3, "{}", told.err);
    assert!(told.err.contains("gone.jsonl") && told.err.contains("data.sources"), "{}", told.err);
    // The validation stands in the training text word for word.
    let text = files::read_to_string(&bench.path("text.txt")).unwrap();
    bench.write("copy.txt", &text[2000..8000]);
    let leaks = ["+data.validation_sets.copy=[\"copy.txt\"]", "data.max_leakage=0.02"];
    let told = bench.run(&small(&leaks));
    assert!(told.code == 3 && told.err.contains("stand in the training text too") && told.err.contains("`copy.txt` ("), "{}", told.err);
    let folder = bench.path("runs");
    assert!(!folder.exists() || files::list_dir(&folder).unwrap().iter().all(|path| !path.join("run.json").exists()));
}

#[test]
fn caches_are_made_proven_and_cleared_away() {
    let bench = bench();
    let prepare = |more: &[&str]| {
        let small = crate::harness::SMALL.iter().copied().filter(|argument| !argument.starts_with("data."));
        bench
            .json(&["data", "prepare", "--config", "mixture.toml"].into_iter().chain(small).chain(more.iter().copied()).collect::<Vec<_>>())
    };
    let first = prepare(&[]);
    assert_eq!((first["data"]["sources"][0]["name"].as_str(), first["sources"].as_array().unwrap().len()), (Some("novel"), 23));
    assert!(first["train_tokens"].as_u64().unwrap() > 1000);
    let verified = bench.json(&["data", "verify"]);
    assert_eq!((verified["caches"].as_array().unwrap().len(), verified["damaged"].as_u64()), (4, Some(0)));
    // Another weight makes nothing again, and training finds what was prepared.
    assert_eq!(
        prepare(&["data.sources.novel.weight=9"])["data"]["sources"][0]["cache"]["key"],
        first["data"]["sources"][0]["cache"]["key"]
    );
    let trained = bench.run(&small(&[]));
    assert!(trained.code == 0 && !trained.err.contains("training the tokenizer"), "{}", trained.err);
    // Another safety section makes other caches, which no run uses; its tokenizer is the same, byte for byte.
    prepare(&["safety.secrets=drop"]);
    let dry = bench.json(&["data", "gc", "--dry-run"]);
    assert_eq!(
        (dry["caches"].as_array().unwrap().len(), dry["unused"].as_u64(), dry["removed"].as_bool()),
        (8, Some(3), Some(false)),
        "{dry}"
    );
    assert_eq!(bench.json(&["data", "verify"])["caches"].as_array().unwrap().len(), 8, "nothing is removed");
    assert_eq!(bench.json(&["data", "gc"])["bytes"], dry["bytes"]);
    let left = bench.json(&["data", "verify"]);
    assert_eq!((left["caches"].as_array().unwrap().len(), left["damaged"].as_u64()), (5, Some(0)));
    assert_eq!(bench.json(&["data", "gc"])["unused"], 0);
    // A flipped byte is named; a record that cannot be read stops the clearing.
    let cache = left["caches"][0]["path"].as_str().unwrap();
    let tokens =
        files::list_dir(&bench.path(cache)).unwrap().into_iter().find(|path| path.extension().is_some_and(|end| end != "json")).unwrap();
    let mut bytes = files::read(&tokens).unwrap();
    bytes[0] ^= 1;
    files::write_atomic(&tokens, &bytes).unwrap();
    let answer = bench.run(&["data", "verify"]);
    assert!(
        answer.code == 4 && answer.out.contains("4 of 5 caches proven") && answer.err.contains("blake3"),
        "{}{}",
        answer.out,
        answer.err
    );
    files::write_atomic(&bench.run_folder().join("data.manifest.json"), b"{").unwrap();
    let answer = bench.run(&["data", "gc"]);
    assert!(answer.code == 2 && answer.err.contains("nothing was removed"), "{}", answer.err);
}
