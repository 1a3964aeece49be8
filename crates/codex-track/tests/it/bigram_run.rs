//! A real run to track: a bigram model over characters, trained by gradient descent on the text of the Apache licence, killed and resumed once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use codex_core::{Clock, Digest, Stream};
use codex_track::{
    DatasetChecksums, DiskSampler, Environment, EnvironmentInputs, Level, MetricPoint, ProcSampler, ResumeRecord, RunDir, RunRecord,
    RunStatus, Sampling, SourceChecksum, TrackConfig, TrackError, Tracker,
};
use serde_json::json;

const TEXT: &str = include_str!("../../../../LICENSE-APACHE");
pub(crate) const STEPS: u64 = 1200;
pub(crate) const EVERY: u64 = 100;
const KILLED_AFTER: u64 = 730;
const BATCH: u64 = 128;
const SEED: u64 = 7;

/// Logits of the next character for each character.
#[derive(Clone)]
struct Bigram {
    letters: Vec<char>,
    logits: Vec<Vec<f64>>,
}

impl Bigram {
    fn new() -> Self {
        let letters: Vec<char> = TEXT.chars().collect::<BTreeSet<_>>().into_iter().collect();
        let logits = (0..letters.len())
            .map(|row| (0..letters.len()).map(|col| 0.02 * Stream::new(SEED, "init", (row * 1000 + col) as u64).normal()).collect());
        Self { logits: logits.collect(), letters }
    }

    fn ids(&self) -> Vec<usize> {
        TEXT.chars().map(|c| self.letters.binary_search(&c).unwrap_or(0)).collect()
    }

    fn probabilities(&self, from: usize) -> Vec<f64> {
        let most = self.logits[from].iter().copied().fold(f64::MIN, f64::max);
        let parts: Vec<f64> = self.logits[from].iter().map(|logit| (logit - most).exp()).collect();
        let sum: f64 = parts.iter().sum();
        parts.into_iter().map(|part| part / sum).collect()
    }

    /// One step of gradient descent; returns the loss before it and the norm of the gradient.
    fn step(&mut self, pairs: &[(usize, usize)], learning_rate: f64) -> (f64, f64) {
        let mut gradient: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        let mut loss = 0.0;
        for &(from, to) in pairs {
            let probabilities = self.probabilities(from);
            loss -= probabilities[to].ln() / pairs.len() as f64;
            let row = gradient.entry(from).or_insert_with(|| vec![0.0; self.letters.len()]);
            for (idx, probability) in probabilities.iter().enumerate() {
                row[idx] += (probability - f64::from(u8::from(idx == to))) / pairs.len() as f64;
            }
        }
        let norm = gradient.values().flatten().map(|part| part * part).sum::<f64>().sqrt();
        for (from, row) in gradient {
            for (idx, part) in row.into_iter().enumerate() {
                self.logits[from][idx] -= learning_rate * part;
            }
        }
        (loss, norm)
    }

    /// Mean loss, perplexity, bits per character and accuracy over these pairs.
    fn evaluate(&self, pairs: &[(usize, usize)]) -> [(&'static str, f64); 4] {
        let (mut loss, mut right) = (0.0, 0.0);
        for &(from, to) in pairs {
            let probabilities = self.probabilities(from);
            loss -= probabilities[to].ln() / pairs.len() as f64;
            let best = (0..probabilities.len()).max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]));
            right += f64::from(u8::from(best == Some(to))) / pairs.len() as f64;
        }
        named(loss, right)
    }

    fn sample(&self, prompt: &str) -> String {
        let mut stream = Stream::new(SEED, "sample", 0);
        let mut text = String::new();
        let mut last = prompt.chars().last().and_then(|c| self.letters.binary_search(&c).ok()).unwrap_or(0);
        for _ in 0..220 {
            let mut left = stream.uniform();
            let probabilities = self.probabilities(last);
            last = probabilities
                .iter()
                .position(|probability| {
                    left -= probability;
                    left <= 0.0
                })
                .unwrap_or(0);
            text.push(self.letters[last]);
        }
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

fn named(loss: f64, right: f64) -> [(&'static str, f64); 4] {
    [("loss", loss), ("perplexity", loss.exp()), ("bits_per_byte", loss / std::f64::consts::LN_2), ("token_accuracy", right)]
}

fn learning_rate(step: u64) -> f64 {
    let warmup = 60.0;
    let part = (step as f64 - warmup) / (STEPS as f64 - warmup);
    12.0 * (step as f64 / warmup).min(1.0) * if part > 0.0 { 0.5 * (1.0 + (std::f64::consts::PI * part).cos()) } else { 1.0 }
}

/// Trains, is killed after some steps, and goes on from the last multiple of [`EVERY`].
pub(crate) fn train(root: &Path, art_dir: Option<&Path>, clock: &Arc<dyn Clock>) -> Result<RunDir, TrackError> {
    let run = RunDir::create(root, "Bigram characters of the Apache licence", clock.as_ref())?;
    let argv = ["codex-track", "example", "report", "model=bigram", "tracker.api_key=not-a-real-one"].map(str::to_owned);
    let mut record = RunRecord::new(
        &run,
        "Bigram characters of the Apache licence",
        &argv,
        SEED,
        Digest::of_bytes(b"plan"),
        Digest::of_bytes(b"config"),
        clock.now(),
    );
    record.promise.push_str("bit-exact on one CPU instruction set");
    write_circumstances(&run, &argv, clock)?;

    let start = Bigram::new();
    let pairs: Vec<(usize, usize)> = start.ids().windows(2).map(|pair| (pair[0], pair[1])).collect();
    let (validation, training) = pairs.split_at(pairs.len() / 10);
    note(&mut record, "baseline/unigram", &unigram(training, validation, start.letters.len()));
    let saved = one_process(&run, art_dir, clock, &mut record, &(start, 0), KILLED_AFTER, (training, validation))?;
    record.resumed_from.push(ResumeRecord {
        step: saved.1,
        at: clock.now().to_rfc3339(),
        device: "none".to_owned(),
        instruction_set: String::new(),
        binary_digest: None,
    });
    one_process(&run, art_dir, clock, &mut record, &saved, STEPS, (training, validation))?;
    record.status = RunStatus::Finished;
    record.finished = Some(clock.now().to_rfc3339());
    record.write(&run)?;
    Ok(run)
}

type Pairs<'a> = (&'a [(usize, usize)], &'a [(usize, usize)]);

/// Trains from a saved state to a step; returns the last state saved.
fn one_process(
    run: &RunDir,
    art_dir: Option<&Path>,
    clock: &Arc<dyn Clock>,
    record: &mut RunRecord,
    from: &(Bigram, u64),
    until: u64,
    (training, validation): Pairs<'_>,
) -> Result<(Bigram, u64), TrackError> {
    let config = TrackConfig::default();
    let mut tracker = Tracker::open(run, art_dir, (from.1 > 0).then_some(from.1), Arc::clone(clock), &config)?;
    let mut sampling = Sampling::with(vec![Box::new(ProcSampler::new()), Box::new(DiskSampler::new(run.path()))], 0.02);
    let (mut model, mut saved) = (from.0.clone(), from.clone());
    for step in from.1..=until {
        let epoch = |step: u64| (step * BATCH) as f64 / training.len() as f64;
        if step > from.1 {
            let began = clock.elapsed_seconds();
            let mut stream = Stream::new(SEED, "batch", step);
            let batch: Vec<(usize, usize)> = (0..BATCH).map(|_| training[stream.below(training.len() as u64) as usize]).collect();
            let (loss, norm) = model.step(&batch, learning_rate(step));
            let speed = BATCH as f64 / (clock.elapsed_seconds() - began).max(1e-9);
            let values = [("loss", loss), ("learning_rate", learning_rate(step)), ("grad_norm", norm), ("tokens_per_second", speed)];
            tracker.metrics(&MetricPoint { step, split: "train", values: &values, tokens: step * BATCH, epoch: epoch(step) });
            record.summary.insert("train/loss".to_owned(), loss);
            tracker.sample_system(&mut sampling, step);
        }
        if step % EVERY == 0 && (step > from.1 || step == 0) {
            let values = model.evaluate(validation);
            tracker.metrics(&MetricPoint { step, split: "validation", values: &values, tokens: step * BATCH, epoch: epoch(step) });
            note(record, if step == 0 { "first/validation" } else { "validation" }, &values);
            let prompt = "Subject to the terms ";
            tracker.event("sample", Level::Info, "sample", json!({ "step": step, "prompt": prompt, "text": model.sample(prompt) }));
            tracker.flush();
            tracker.event("checkpoint", Level::Info, "saved", json!({ "step": step }));
            saved = (model.clone(), step);
            record.step = step;
            record.updated = clock.now().to_rfc3339();
            record.write(run)?;
        }
    }
    Ok(saved)
}

fn note(record: &mut RunRecord, prefix: &str, values: &[(&str, f64)]) {
    record.summary.extend(values.iter().map(|(name, value)| (format!("{prefix}/{name}"), *value)));
}

/// What the frequencies of the training characters make of the validation characters.
fn unigram(training: &[(usize, usize)], validation: &[(usize, usize)], n_letters: usize) -> [(&'static str, f64); 4] {
    let mut counts = vec![1.0; n_letters];
    for &(_, to) in training {
        counts[to] += 1.0;
    }
    let sum: f64 = counts.iter().sum();
    let best = (0..n_letters).max_by(|&a, &b| counts[a].total_cmp(&counts[b]));
    let loss = validation.iter().map(|&(_, to)| -(counts[to] / sum).ln()).sum::<f64>() / validation.len() as f64;
    named(loss, validation.iter().filter(|pair| Some(pair.1) == best).count() as f64 / validation.len() as f64)
}

fn write_circumstances(run: &RunDir, argv: &[String], clock: &Arc<dyn Clock>) -> Result<(), TrackError> {
    let variables = BTreeMap::from([("RAYON_NUM_THREADS".to_owned(), "2".to_owned())]);
    let inputs = EnvironmentInputs {
        argv,
        variables: &variables,
        current_dir: Path::new("."),
        seed: SEED,
        rustc: None,
        features: &[],
        lock_digest: None,
        device: Some("cpu, one thread"),
    };
    Environment::capture(&inputs, clock.now()).write(run.path())?;
    let source = SourceChecksum { path: "LICENSE-APACHE".to_owned(), bytes: TEXT.len() as u64, blake3: Digest::of_bytes(TEXT.as_bytes()) };
    DatasetChecksums::new(vec![source]).write(run)?;
    run.write_text(
        "config.resolved.toml",
        &format!("seed = {SEED}\n\n[model]\nkind = \"bigram\"\n\n[train]\nsteps = {STEPS}\nbatch_size = {BATCH}\nlearning_rate = 12.0\nschedule = \"cosine\"\n\n[eval]\nevery_steps = {EVERY}\n"),
    )?;
    let library = |line: u32| json!({ "layer": "library", "name": "default", "line": line });
    let sources = json!({
        "seed": { "layer": "default" },
        "model.kind": { "layer": "argument", "text": "model=bigram" },
        "train.steps": library(6),
        "train.batch_size": library(7),
        "train.learning_rate": { "layer": "file", "path": "bigram.toml", "line": 3 },
        "train.schedule": library(8),
        "eval.every_steps": library(11),
    });
    run.write_json("config.sources.json", &sources)
}
