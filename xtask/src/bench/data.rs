//! `bench data`: from text to tokens on the disk, beside Hugging Face `datasets`.

use std::fs;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::comparison::{Better, Comparison, Measure};
use super::data_room;
use super::options::{Data, DataPart};
use super::program::{Run, Tokenizer};
use super::report::Outcome;
use super::runner::{Job, Progress, Role, Sample, interleave};
use super::session::Session;
use super::text::{self, Text};
use crate::workspace::Workspace;

/// What `datasets_map.py` prints.
#[derive(Deserialize)]
struct PeerLine {
    load_seconds: f64,
    map_seconds: f64,
    tokens: u64,
}

/// Measures, and sums up.
pub fn run(session: &Session, workspace: &Workspace, options: &Data) -> Result<Outcome> {
    let tokenizer = session.tokenizer(options.vocab)?;
    let text = text::write(&session.root, &session.folder.join("text/documents.jsonl"), options.megabytes)?;
    let mut progress = session.progress(9 * session.rounds());
    let mut outcome = Outcome::default();
    let wants = |part| options.parts.is_empty() || options.parts.contains(&part);
    if wants(DataPart::Tokens) {
        to_tokens(session, options, &tokenizer, &text, &mut progress, &mut outcome)?;
    }
    if wants(DataPart::Tokenizer) {
        data_room::train_tokenizer(session, options, &text, &mut progress, &mut outcome)?;
    }
    if wants(DataPart::Start) {
        data_room::warm_start(session, &tokenizer, &text, &mut progress, &mut outcome)?;
    }
    if wants(DataPart::Epoch) {
        let run = session.program.train(&data_room::settings(session, &tokenizer, &text), &session.log("cache-of-the-epoch"))?;
        let cache = session.folder.join("cache/tokens").join(key_of(&run)?);
        run.remove()?;
        data_room::read_epoch(session, workspace, &cache, &mut progress, &mut outcome)?;
    }
    Ok(outcome)
}

/// Text to tokens on the disk, beside `datasets.map`.
fn to_tokens(
    session: &Session,
    options: &Data,
    tokenizer: &Tokenizer,
    text: &Text,
    progress: &mut Progress,
    outcome: &mut Outcome,
) -> Result<()> {
    let what = format!("{:.1} MB in {} documents to tokens", text.text_bytes as f64 / 1e6, text.documents);
    let variant = |name: &str, settings: &'static [&'static str]| {
        Job::new(name, Role::Codex, move |_| measure_codex(session, tokenizer, text, settings))
    };
    let off = &["safety.secrets=off", "safety.personal_data=off", "safety.jailbreak=off"];
    let name = format!("{}, {}, {} processes", session.python.name("datasets"), session.python.name("tokenizers"), options.processes);
    let peer = match session.python.missing(&["datasets", "tokenizers"]) {
        Some(why) => Job::absent(name, Role::Peer, why),
        None => Job::new(name, Role::Peer, |_| measure_peer(session, tokenizer, text, options.processes)),
    };
    let jobs = vec![variant("codex, safety rules on", &[]), variant("codex, safety rules off", off), peer];
    let sides = interleave(&what, session.rounds(), jobs, progress)?;
    outcome.add(Comparison::new(&Measure::new(what, "MB/s", Better::Higher), 0, &sides));
    let tokens: Vec<String> = sides
        .iter()
        .filter_map(|side| Some(format!("{} {}", side.name, side.samples.first()?.values.get(1).copied().flatten()?)))
        .collect();
    outcome.notes.push(format!("tokens: {}", tokens.join("; ")));
    outcome.notes.push(
        "codex: the time of a run of one step of a very small model with an empty cache, less that of the same run right after, which finds the cache; reading, digests, \
         safety rules where they are on, tokenizing, writing with fsync. datasets: load_dataset of the JSON and map to ids, both with their Arrow files; no \
         digests, no fsync, no rules; its memory is that of its largest process, not the sum"
            .to_owned(),
    );
    Ok(())
}

fn measure_codex(session: &Session, tokenizer: &Tokenizer, text: &Text, safety: &[&str]) -> Result<Sample> {
    let cache = session.folder.join("data-cache");
    if cache.exists() {
        fs::remove_dir_all(&cache).with_context(|| format!("cannot remove `{}`", cache.display()))?;
    }
    let mut settings = data_room::settings(session, tokenizer, text);
    settings.extend(safety.iter().map(|&setting| setting.to_owned()));
    settings.push(format!("data.cache_dir={}", cache.display()));
    let empty = session.program.train(&settings, &session.log("codex-empty-cache"))?;
    let filled = session.program.train(&settings, &session.log("codex-filled-cache"))?;
    let tokens = tokens_of(&filled)?;
    let empty = empty.remove()?;
    let seconds = empty.seconds - filled.remove()?.seconds;
    let rate = (seconds > 0.0).then(|| text.text_bytes as f64 / 1e6 / seconds);
    let note = rate.is_none().then(|| "an empty and a filled cache made no difference: give more text by `--megabytes`".to_owned());
    Ok(Sample { note, ..Sample::of(vec![rate, Some(tokens as f64)], &empty) })
}

/// The run's record of its data.
fn manifest_of(run: &Run) -> Result<serde_json::Value> {
    let path = run.folder.join("data.manifest.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("cannot read `{}`", path.display()))
}

/// The name of the cache that a run read.
fn key_of(run: &Run) -> Result<String> {
    Ok(manifest_of(run)?["key"].as_str().context("the record of the data has no key")?.to_owned())
}

/// The tokens of both splits.
fn tokens_of(run: &Run) -> Result<u64> {
    let manifest = manifest_of(run)?;
    Ok(["train", "validation"].iter().filter_map(|split| manifest["splits"][split]["tokens"].as_u64()).sum())
}

fn measure_peer(session: &Session, tokenizer: &Tokenizer, text: &Text, processes: u64) -> Result<Sample> {
    let cache = session.folder.join("datasets-cache");
    if cache.exists() {
        fs::remove_dir_all(&cache).with_context(|| format!("cannot remove `{}`", cache.display()))?;
    }
    let pairs = [
        ("--text", text.path.display().to_string()),
        ("--tokenizer", tokenizer.file.display().to_string()),
        ("--cache", cache.display().to_string()),
        ("--processes", processes.to_string()),
    ];
    let arguments: Vec<String> = pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    let (finished, line) = session.python.run::<PeerLine>("datasets_map.py", &arguments, &session.log("datasets"))?;
    let rate = text.text_bytes as f64 / 1e6 / (line.load_seconds + line.map_seconds);
    Ok(Sample::of(vec![Some(rate), Some(line.tokens as f64)], &finished))
}
