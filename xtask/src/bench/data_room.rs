//! The further measurements of `bench data`: training a tokenizer, reading an epoch of a cache, and starting on a warm cache.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::comparison::{Better, Comparison, Measure};
use super::options::Data;
use super::process;
use super::program::Tokenizer;
use super::python::json_line;
use super::report::Outcome;
use super::run_files::Steps;
use super::runner::{Job, Progress, Role, Sample, interleave};
use super::session::Session;
use super::shape::Shape;
use super::text::{self, Text};
use crate::workspace::{Workspace, cargo};

/// The smallest model: what remains of a run when its data is prepared.
pub const NANO: Shape = Shape { d_model: 32, n_layers: 1, n_heads: 1, context: 32, batch: 1, ..Shape::TINY };
/// The text of the small start, in megabytes.
const SMALL: u64 = 1;
/// Inputs of the windows that are read.
const CONTEXT: u64 = 1024;

/// What `bpe_train.py` prints.
#[derive(Deserialize)]
struct TrainerLine {
    seconds: f64,
    vocab_size: u64,
}

/// What the example `read_epoch` prints.
#[derive(Deserialize)]
struct EpochLine {
    bytes: u64,
    seconds: f64,
    proof_seconds: f64,
}

/// Training a tokenizer, beside the library's own trainer.
pub fn train_tokenizer(session: &Session, options: &Data, text: &Text, progress: &mut Progress, outcome: &mut Outcome) -> Result<()> {
    let megabytes = text.text_bytes as f64 / 1e6;
    let what = format!("{megabytes:.1} MB to a byte-level BPE of {} ids", options.trained_vocab);
    let codex = Job::new("codex tokenizer train", Role::Codex, |_| {
        let out = session.folder.join("trained-tokenizer");
        if out.exists() {
            fs::remove_dir_all(&out).with_context(|| format!("cannot remove `{}`", out.display()))?;
        }
        let mut command = session.program.command();
        command
            .args(["tokenizer", "train", "--quiet", "--vocab-size", &options.trained_vocab.to_string(), "--out"])
            .arg(&out)
            .arg(&text.path);
        let finished = process::run(&mut command, &session.log("codex-tokenizer-train"))?;
        Ok(Sample::of(vec![Some(megabytes / finished.seconds)], &finished))
    });
    let name = session.python.name("tokenizers");
    let peer = match session.python.missing(&["tokenizers"]) {
        Some(why) => Job::absent(name, Role::Peer, why),
        None => Job::new(name, Role::Peer, |_| {
            let pairs = [
                ("--text", text.path.display().to_string()),
                ("--vocab", options.trained_vocab.to_string()),
                ("--out", session.folder.join("trained-by-the-library.json").display().to_string()),
            ];
            let arguments: Vec<String> = pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
            let (finished, line) = session.python.run::<TrainerLine>("bpe_train.py", &arguments, &session.log("bpe-train"))?;
            if line.vocab_size != options.trained_vocab {
                bail!("it made {} ids", line.vocab_size);
            }
            Ok(Sample::of(vec![Some(megabytes / line.seconds)], &finished))
        }),
    };
    let sides = interleave(&what, session.rounds(), vec![codex, peer], progress)?;
    outcome.add(Comparison::new(&Measure::new(what, "MB/s", Better::Higher), 0, &sides));
    outcome.notes.push(
        "training a tokenizer: codex as a whole program, with its start, digests, safety rules and saving; the library without its import and its saving".to_owned(),
    );
    Ok(())
}

/// Reading every window of an epoch from the page cache, beside `cat` of the same files.
pub fn read_epoch(session: &Session, workspace: &Workspace, cache: &PathBuf, progress: &mut Progress, outcome: &mut Outcome) -> Result<()> {
    let example = build_example(workspace)?;
    let what = format!("reading an epoch of a cache from memory, windows of {CONTEXT} in their order");
    let mut proof = Vec::new();
    let read = Job::new("codex", Role::Codex, |_| {
        let finished = process::run(Command::new(&example).arg(cache).arg(CONTEXT.to_string()), &session.log("read-epoch"))?;
        let line: EpochLine = json_line(&finished.stdout)?;
        proof.push(line.bytes as f64 / 1e9 / line.proof_seconds);
        Ok(Sample::of(vec![Some(line.bytes as f64 / 1e9 / line.seconds)], &finished))
    });
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(cache).with_context(|| format!("cannot list `{}`", cache.display()))? {
        let path = entry.with_context(|| format!("cannot list `{}`", cache.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "tokens") {
            files.push(path);
        }
    }
    let bytes: u64 = files.iter().filter_map(|path| path.metadata().ok()).map(|it| it.len()).sum();
    let cat = Job::new("cat of the files", Role::Reference, |_| {
        let finished =
            process::run(Command::new("sh").args(["-c", "cat \"$@\" | cat >/dev/null", "cat"]).args(&files), &session.log("cat"))?;
        Ok(Sample::of(vec![Some(bytes as f64 / 1e9 / finished.seconds)], &finished))
    });
    let sides = interleave(&what, session.rounds(), vec![read, cat], progress)?;
    outcome.add(Comparison::new(&Measure::new(what, "GB/s", Better::Higher), 0, &sides));
    proof.sort_by(f64::total_cmp);
    if let Some(median) = proof.get(proof.len() / 2) {
        outcome.notes.push(format!(
            "reading: bytes of tokens as they are stored; proving all digests of the cache before runs at {median:.1} GB/s of tokens"
        ));
    }
    Ok(())
}

/// From start to the end of the first step, on warm caches of a small and of the whole text.
pub fn warm_start(session: &Session, tokenizer: &Tokenizer, text: &Text, progress: &mut Progress, outcome: &mut Outcome) -> Result<()> {
    let small = text::write(&session.root, &session.folder.join("text/small.jsonl"), SMALL)?;
    let what = "start to the end of the first training step on a warm cache";
    let start = |text: &Text| -> Result<Sample> {
        let run = session.program.train(&settings(session, tokenizer, text), &session.log("warm-start"))?;
        let steps = Steps::read(&run.folder)?;
        let done = steps.by_step.values().map(|(_, at)| *at).fold(f64::INFINITY, f64::min);
        let finished = run.remove()?;
        Ok(Sample::of(vec![Some(done - finished.started_unix_s)], &finished))
    };
    // The first start of each fills the cache, and the second remembers the digests of the text, which has settled by then.
    for text in [&small, text] {
        start(text)?;
        std::thread::sleep(std::time::Duration::from_secs(4));
        start(text)?;
    }
    let name = |text: &Text| format!("codex, {:.0} MB", text.text_bytes as f64 / 1e6);
    let jobs = vec![Job::new(name(text), Role::Codex, |_| start(text)), Job::new(name(&small), Role::Reference, |_| start(&small))];
    let sides = interleave(what, session.rounds(), jobs, progress)?;
    outcome.add(Comparison::new(&Measure::new(what, "s", Better::Lower), 0, &sides));
    Ok(())
}

/// The settings of a run on a text whose cache stays.
pub fn settings(session: &Session, tokenizer: &Tokenizer, text: &Text) -> Vec<String> {
    let shape = Shape { vocab: tokenizer.vocab_size, ..NANO };
    let mut settings = session.settings(&shape, tokenizer, 1);
    settings.push(format!("data.train=[\"{}\"]", text.path.display()));
    settings.extend(["data.validation=[]", "data.validation_fraction=0.01"].map(str::to_owned));
    settings
}

/// The example program of codex-data, built in release mode.
fn build_example(workspace: &Workspace) -> Result<PathBuf> {
    Session::say("building codex-data's example in release mode");
    let arguments = ["build", "--release", "--locked", "--package", "codex-data", "--example", "read_epoch"];
    let status = cargo().args(arguments).current_dir(&workspace.root).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("`cargo {}` ended with {status}", arguments.join(" "));
    }
    Ok(workspace.target.join("release/examples/read_epoch"))
}
