//! `eval`: a trained model on held-out text, or, with metrics, on the rows of a task ([`evaluation`]).

use std::collections::BTreeMap;
use std::path::Path;

use codex_core::Digest;
use codex_data::{Cutting, DataConfig, TokenCache, TrainingData, Windows, open_sources};
use codex_eval::Validation;
use codex_safety::Scanner;
use codex_track::{DatasetChecksums, RunDir, SourceChecksum};
use codex_train::plan::token_bytes;
use serde_json::{Value, json};

use crate::arguments::{Eval, EvalAction, EvalCommand};
use crate::commands::{evaluation, evaluation_compare};
use crate::failure::CliError;
use crate::run_config::{self, RunConfig};
use crate::stored_model::{self, StoredModel};
use crate::terminal::{Terminal, table};
use crate::{corpus, device, prepared};

pub(super) fn run(command: &EvalCommand, terminal: &Terminal) -> Result<(), CliError> {
    match &command.action {
        Some(EvalAction::Compare(arguments)) => evaluation_compare::run(arguments, terminal),
        None if command.eval.task.sample || !command.eval.metrics.is_empty() => evaluation::run(&command.eval, terminal),
        None => on_text(&command.eval, terminal),
    }
}

fn on_text(arguments: &Eval, terminal: &Terminal) -> Result<(), CliError> {
    let stored = stored_model::load(&arguments.model, terminal)?;
    let scratch = tempfile::tempdir().map_err(|source| CliError::Output { source })?;
    let Text { data, cutting, max_windows, of } = text(arguments, &stored, scratch.path(), terminal)?;
    let context_length = stored.model.config().context_length;
    let windows = Windows { context_length, seed: 0, cutting, windows_per_step: 1 };
    let bytes = token_bytes(stored.tokenizer.as_ref());
    let validation = Validation::new(&data, &windows, max_windows, arguments.batch_size, bytes)?;
    let has_bar = terminal.start_bar(validation.n_windows(), 0, "evaluating {bar:24} {pos}/{len} windows  ETA {eta}");
    let mut tell = |done, _| {
        if has_bar {
            terminal.move_bar(done, String::new());
        }
        true
    };
    let metrics = device::in_pool(|| validation.evaluate(&stored.model, &mut tell));
    terminal.end_bar();
    let (metrics, sets) = metrics?;
    // On the run's own text the baseline knows the training split; on other text only that text itself.
    let baseline = validation.baseline(&data)?;
    let (n_windows, of_text) = (validation.n_windows(), validation.n_windows_of_text());
    let mut value = json!({
        "checkpoint": stored.checkpoint, "step": stored.step, "device": stored.device_name, "weights": arguments.model.weights, "text": of, "data_key": data.key()?,
        "tokenizer": stored.tokenizer.digest(), "windows": n_windows, "windows_of_the_text": of_text,
        "metrics": metrics, "unigram": baseline, "unigram_of": if arguments.data.is_empty() { "training text" } else { "the evaluated text" },
    });
    if !sets.is_empty() {
        value["sets"] = json!(sets);
    }
    terminal.result(&value, || {
        let shown = |value: f64| format!("{value:.4}");
        let rows = metrics.named().into_iter().zip(baseline.named()).enumerate().map(|(i, ((name, model), (_, unigram)))| {
            let of_sets = sets.values().map(|metrics| shown(metrics.named()[i].1));
            [name.replace('_', " "), shown(model), shown(unigram)].into_iter().chain(of_sets).collect()
        });
        let step = stored.step.map(|step| format!(" (step {step})")).unwrap_or_default();
        let title = format!(
            "{}{step} on {of}: {} target tokens in {} of {} windows",
            stored.checkpoint.display(),
            metrics.n_tokens,
            n_windows,
            of_text
        );
        let unigram = if arguments.data.is_empty() { "unigram of the training text" } else { "unigram of this very text" };
        let mut heads = vec!["metric", "model", unigram];
        heads.extend(sets.keys().map(String::as_str));
        format!("{title}\n{}", table(&heads, rows))
    })
}

/// The tokens to evaluate on, and how they are read.
struct Text {
    data: TrainingData,
    cutting: Cutting,
    max_windows: u64,
    of: String,
}

/// The tokens of `--data`, or the run's own.
fn text(arguments: &Eval, stored: &StoredModel, scratch: &Path, terminal: &Terminal) -> Result<Text, CliError> {
    let mut config = match &stored.run {
        Some(run) => run_config::of_run(run)?,
        None => RunConfig::default(),
    };
    let cutting = Cutting { shuffle: false, ..config.data.cutting() };
    if arguments.data.is_empty() {
        let Some(run) = &stored.run else {
            let what = "a checkpoint folder alone does not say what to evaluate on";
            return Err(CliError::usage(what, "add `--data PATH`, or name the run folder"));
        };
        let data = data_of_run(run, &config, stored, terminal)?;
        let max_windows = arguments.max_windows.unwrap_or(config.eval.max_windows);
        return Ok(Text { data, cutting, max_windows, of: "the run's validation text".to_owned() });
    }
    config.data = DataConfig {
        train: arguments.data.clone(),
        validation: Vec::new(),
        validation_fraction: 0.0,
        sources: BTreeMap::new(),
        stages: Vec::new(),
        validation_sets: BTreeMap::new(),
        ..config.data
    };
    let sources = open_sources(&config.data, &corpus::builtins(&config.data)?)?;
    let scanner = Scanner::new(&config.safety)?;
    let tokenizer = stored.tokenizer.as_ref();
    let cache = prepared::token_cache(&config.data, &sources, tokenizer, (&scanner, &config.safety), scratch, terminal)?;
    let max_windows = arguments.max_windows.unwrap_or(0);
    Ok(Text { data: TrainingData::measured(cache), cutting, max_windows, of: arguments.data.join(", ") })
}

/// The tokens that the run was validated on: from its caches, wherever the command is given, or made again from the sources if they are the same.
fn data_of_run(run: &Path, config: &RunConfig, stored: &StoredModel, terminal: &Terminal) -> Result<TrainingData, CliError> {
    let folder = RunDir::open(run)?;
    let record: Value = folder.read_json("data.manifest.json")?;
    let mut recorded = TrainingData::recorded(&record).into_iter();
    // Caches stand beside the run unless the configuration puts them elsewhere.
    let root = config.data.cache_dir.clone().unwrap_or_else(|| codex_core::files::parent(run).join(".cache"));
    let kept: Result<TrainingData, CliError> = TrainingData::assemble(&config.data, |_| {
        let key = recorded.next().map_or_else(|| Digest::of_bytes(b""), |manifest| manifest.key);
        Ok(TokenCache::open(&root.join("tokens").join(key.to_string()))?)
    });
    if let Ok(data) = kept
        && record["key"] == json!(data.key()?)
    {
        return Ok(data);
    }
    let scanner = Scanner::new(&config.safety)?;
    let data = prepared::training_data(config, stored.tokenizer.as_ref(), &scanner, &root, terminal)?;
    if record["key"] == json!(data.key()?) {
        return Ok(data);
    }
    let was: Vec<SourceChecksum> = DatasetChecksums::read(&folder)?.sources;
    let sources = open_sources(&config.data, &corpus::builtins(&config.data)?)?.checksums()?;
    let changed = sources.iter().filter(|now| was.iter().any(|then| then.path == now.path && then.blake3 != now.blake3));
    let changed: Vec<String> = changed.map(|source| format!("`{}` has changed", source.path)).collect();
    let what = if changed.is_empty() { "its sources are others".to_owned() } else { changed.join(", ") };
    Err(CliError::OtherText { run: run.to_owned(), what })
}
