//! The benchmarks from one end to the other, with stand-ins for codex-cli and for Python: who takes turns, what is shown, what is kept. No time is
//! asserted.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use serde_json::Value;
use xtask::arguments::{Cli, Task};
use xtask::bench;
use xtask::workspace::Workspace;

const OLDER: &str = "## train: an older record\n\n| a | b |\n";

struct Bench {
    folder: tempfile::TempDir,
    workspace: Workspace,
}

impl Bench {
    /// A workspace that holds only what benchmarks read.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let write = |path: &str, text: &str| {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
        };
        write("docs/BENCHMARKS.md", &format!("# Benchmarks\n\nHow to read.\n\n{}\n\n{OLDER}", bench::record::MARKER));
        write("xtask/peers/patterns.txt", "# what to look for\nparagraph\nno such word\nleft out\n");
        write("fixtures/corpus/train/a.txt", &"One paragraph of a novel.\n\n".repeat(400));
        let workspace = Workspace { target: root.join("target"), root, packages: Vec::new() };
        Self { folder, workspace }
    }

    fn stand_in(name: &str) -> PathBuf {
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/it/bench").join(name)
    }

    fn run_with(&self, arguments: &[&str], python: &Path) -> anyhow::Result<()> {
        let typed = [&["cargo xtask", "bench"], arguments].concat();
        let mut typed: Vec<String> = typed.into_iter().map(str::to_owned).collect();
        typed.extend(["--bin".to_owned(), Self::stand_in("codex-cli").display().to_string()]);
        typed.extend(["--python".to_owned(), python.display().to_string()]);
        match Cli::try_parse_from(typed).unwrap().task {
            Task::Bench { what } => bench::run(&self.workspace, &what),
            other => anyhow::bail!("{other:?} is no benchmark"),
        }
    }

    /// Runs a benchmark with both stand-ins; its result as JSON.
    fn run(&self, arguments: &[&str]) -> Value {
        self.run_with(arguments, &Self::stand_in("python")).unwrap();
        self.json(arguments[0])
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.text(&format!("target/bench/{name}.json"))).unwrap()
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.folder.path().join(path)).unwrap()
    }
}

/// The side with this name in a comparison.
fn side<'a>(json: &'a Value, comparison: usize, name: &str) -> &'a Value {
    let sides = json["comparisons"][comparison]["sides"].as_array().unwrap();
    let found = sides.iter().find(|side| side["name"].as_str().unwrap().contains(name));
    assert!(found.is_some(), "no {name} in {sides:#?}");
    found.unwrap()
}

#[test]
fn a_training_step_is_compared_shown_and_recorded() {
    let bench = Bench::new();
    let file = bench.folder.path().join("out/train.json");
    let json = bench.run(&["train", "--steps", "4", "--rounds", "2", "--record", "--json", file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(file).unwrap(), bench.text("target/bench/train.json"));
    // gpt2 and llama, f32 and bf16.
    assert_eq!(json["comparisons"].as_array().unwrap().len(), 4);
    let codex = side(&json, 0, "codex");
    assert_eq!(codex["summary"]["n"], 2);
    let eager = side(&json, 0, "eager");
    assert_eq!((&eager["summary"]["median"], &eager["is_best_peer"]), (&Value::from(1000.0), &Value::from(true)));
    // A peer that fails is shown with the end of its stderr, and the others go on.
    let failed = side(&json, 0, "compile")["obstacle"].as_str().unwrap();
    assert!(failed.starts_with("FAILED: ") && failed.ends_with("no C++ compiler in the stand-in"), "{failed}");
    // A codex-cli that does not know the precision says so, and its peers are measured all the same.
    let refused = side(&json, 1, "codex")["obstacle"].as_str().unwrap();
    assert!(refused.contains("refuses `train.precision=bf16`: error: `train.precision` is not known"), "{refused}");
    assert_eq!(side(&json, 1, "bf16-compile")["summary"]["n"], 2);
    assert!(json["absent"].as_array().unwrap().len() >= 2);
    // 12 parameters here, 13 there.
    let notes = json["comparisons"][0]["notes"].to_string();
    assert!(notes.contains("THE PARAMETER COUNTS DIFFER") && notes.contains("codex 12, torch 2.15.0 eager 13"), "{notes}");
    assert!(notes.contains("until its last step it was 4.00 MB (system.ndjson)"), "{notes}");

    let record = bench.text("docs/BENCHMARKS.md");
    let (new, old) = (record.find("## train: 2").unwrap(), record.find(OLDER).unwrap());
    assert!(record.starts_with("# Benchmarks\n\nHow to read.\n") && new < old, "{record}");
    assert!(record.contains("THE PARAMETER COUNTS DIFFER") && record.contains("no C++ compiler in the stand-in"), "{record}");
    let picture = record.split_once("](bench/").and_then(|(_, rest)| rest.split_once(')')).unwrap().0;
    let svg = bench.text(&format!("docs/bench/{picture}"));
    assert_eq!(svg, bench.text("target/bench/train.svg"));
    assert!(svg.contains("torch 2.15.0 eager") && svg.contains("not measured"));
    // Runs are removed when they have been read.
    assert_eq!(fs::read_dir(bench.folder.path().join("target/bench/runs")).unwrap().count(), 0);
}

#[test]
fn absent_peers_are_shown_and_nothing_else_stops() {
    let bench = Bench::new();
    bench.run_with(&["train", "--arch", "gpt2", "--precision", "f32", "--steps", "2"], Path::new("no-such-python")).unwrap();
    let json = bench.json("train");
    assert_eq!(side(&json, 0, "codex")["summary"]["n"], 3);
    let absent = json["absent"].to_string();
    assert!(
        absent.contains("torch eager: ABSENT: `no-such-python` cannot be used") && absent.contains("torch compile: ABSENT"),
        "{absent}"
    );
}

#[test]
fn a_codex_that_cannot_be_measured_is_an_error() {
    let bench = Bench::new();
    let error = bench.run_with(&["train", "--precision", "bf16"], Path::new("no-such-python")).unwrap_err().to_string();
    assert_eq!(error, "codex was not measured: see above");
    let error = bench.run_with(&["train", "--batch", "32", "--precision", "f32"], Path::new("no-such-python")).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("  | error: out of memory in the stand-in") && error.contains("exit status: 5"), "{error}");
}

#[test]
fn generation_has_speed_and_whole_time() {
    let bench = Bench::new();
    let json = bench.run(&["generate", "--shape", "tiny", "--tokens", "2", "--rounds", "1"]);
    let codex = side(&json, 0, "codex");
    assert_eq!((&codex["summary"]["median"], &codex["times_as_fast"]), (&Value::from(44.5), &Value::from(2.0)));
    assert_eq!(json["comparisons"][1]["unit"], "s");
    let notes = json["comparisons"][0]["notes"].to_string();
    assert!(notes.contains("codex: it stopped after 2 of 2 tokens (end_of_text)"), "{notes}");
    // The model is kept for the next time.
    assert_eq!(fs::read_dir(bench.folder.path().join("target/bench/models")).unwrap().count(), 1);
}

#[test]
fn data_shows_tokens_of_every_side() {
    let bench = Bench::new();
    // Whether the stand-in's cache made a difference in time is chance, and then there is no speed.
    let _by_chance = bench.run_with(&["data", "--megabytes", "1", "--rounds", "1", "--parts", "tokens"], &Bench::stand_in("python"));
    let json = bench.json("data");
    assert_eq!(json["comparisons"][0]["sides"].as_array().unwrap().len(), 3);
    let notes = json["notes"].to_string();
    assert!(notes.contains("codex, safety rules off 999; datasets 4.4.0, tokenizers 0.23.3, 2 processes 999"), "{notes}");
    let rate = side(&json, 0, "datasets")["summary"]["median"].as_f64().unwrap();
    assert!((rate - 0.5).abs() < 0.01, "{rate}");
}

#[test]
fn saves_are_read_from_the_records_of_the_run() {
    let bench = Bench::new();
    let json = bench.run(&["checkpoint", "--shape", "tiny", "--saves", "2", "--rounds", "1"]);
    let codex = &side(&json, 1, "codex")["summary"]["median"];
    // The save that ended the run of the records.
    let expected = 1e3 * 0.012_230;
    assert!((codex.as_f64().unwrap() - expected).abs() < 1e-3, "{codex} ms");
    assert!(side(&json, 0, "cp")["summary"]["n"] == 1 && side(&json, 0, "safetensors")["summary"]["median"] == 2.0);
}

#[test]
fn a_scan_has_as_many_patterns_as_rules() {
    let bench = Bench::new();
    let json = bench.run(&["safety", "--megabytes", "1", "--rounds", "1"]);
    assert_eq!(bench.text("target/bench/text/patterns.txt"), "paragraph\nno such word\n");
    let notes = json["notes"].to_string();
    assert!(notes.contains("codex safety scan, 2 rules 1; grep -E -o, 2 patterns, LC_ALL=C "), "{notes}");
}

#[test]
fn starts_are_counted_apart_from_rounds() {
    let bench = Bench::new();
    let json = bench.run(&["start", "--launches", "4", "--rounds", "2"]);
    assert_eq!([side(&json, 0, "codex"), side(&json, 0, "true"), side(&json, 1, "codex")].map(|side| &side["summary"]["n"]), [4, 4, 2]);
}

#[test]
fn scaling_has_curves_and_goes_on_after_a_size_that_fails() {
    let bench = Bench::new();
    let json = bench.run(&["scaling", "--over", "batch,threads", "--rounds", "1", "--steps", "2"]);
    let table = &json["tables"][0];
    assert_eq!(table["rows"].as_array().unwrap().len(), 5);
    let notes = table["notes"].to_string();
    assert!(notes.contains("batch 32: FAILED: ") && notes.contains("out of memory in the stand-in"), "{notes}");
    let svg = bench.text("target/bench/scaling.svg");
    assert!(svg.contains("codex&apos;s forecast") || svg.contains("codex's forecast"), "{svg}");
    let failed = bench.run_with(&["scaling", "--precision", "bf16"], &Bench::stand_in("python")).unwrap_err().to_string();
    assert!(failed.contains("refuses `train.precision=bf16`"), "{failed}");
}
