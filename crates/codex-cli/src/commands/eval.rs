//! `eval`: a trained model on held-out text, or, with metrics, on the rows of a task ([`evaluation`]).

use std::path::Path;

use codex_data::{CacheManifest, DataConfig, Split, TokenCache, WindowLoader, open_sources};
use codex_eval::evaluate::EvalWindows;
use codex_eval::{evaluate, unigram};
use codex_safety::Scanner;
use codex_track::{DatasetChecksums, RunDir, SourceChecksum};
use codex_train::plan::token_bytes;
use serde_json::json;

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
    let Text { cache, split, isolate, max_windows, of } = text(arguments, &stored, scratch.path(), terminal)?;
    let split = cache.split(split);
    let loader = WindowLoader::new(split, stored.model.config().context_length, 0, false, isolate);
    let windows = EvalWindows { name: "evaluated", loader: &loader, max_windows, batch_size: arguments.batch_size };
    let bytes = token_bytes(stored.tokenizer.as_ref());
    let has_bar = terminal.start_bar(windows.n_windows(), 0, "evaluating {bar:24} {pos}/{len} windows  ETA {eta}");
    let mut tell = |done, _| {
        if has_bar {
            terminal.move_bar(done, String::new());
        }
        true
    };
    let metrics = device::in_pool(|| evaluate(&stored.model, &windows, &bytes, &mut tell));
    terminal.end_bar();
    let metrics = metrics?;
    // On the run's own text the baseline knows the training split; on other text only that text itself.
    let baseline = unigram(cache.split(Split::Train), &windows, &bytes)?;
    let value = json!({
        "checkpoint": stored.checkpoint, "step": stored.step, "device": stored.device_name, "weights": arguments.model.weights, "text": of, "data_key": cache.manifest().key,
        "tokenizer": stored.tokenizer.digest(), "windows": windows.n_windows(), "windows_of_the_text": loader.windows_per_epoch(),
        "metrics": metrics, "unigram": baseline, "unigram_of": if arguments.data.is_empty() { "training text" } else { "the evaluated text" },
    });
    terminal.result(&value, || {
        let rows = metrics.named().into_iter().zip(baseline.named());
        let rows = rows.map(|((name, model), (_, unigram))| vec![name.replace('_', " "), format!("{model:.4}"), format!("{unigram:.4}")]);
        let step = stored.step.map(|step| format!(" (step {step})")).unwrap_or_default();
        let title = format!(
            "{}{step} on {of}: {} target tokens in {} of {} windows",
            stored.checkpoint.display(),
            metrics.n_tokens,
            windows.n_windows(),
            loader.windows_per_epoch()
        );
        let unigram = if arguments.data.is_empty() { "unigram of the training text" } else { "unigram of this very text" };
        format!("{title}\n{}", table(&["metric", "model", unigram], rows))
    })
}

/// The tokens to evaluate on, and how they are read.
struct Text {
    cache: TokenCache,
    split: Split,
    isolate: bool,
    max_windows: u64,
    of: String,
}

/// The tokens of `--data`, or the run's own.
fn text(arguments: &Eval, stored: &StoredModel, scratch: &Path, terminal: &Terminal) -> Result<Text, CliError> {
    let mut config = match &stored.run {
        Some(run) => run_config::of_run(run)?,
        None => RunConfig::default(),
    };
    let isolate = config.data.isolate_documents;
    if arguments.data.is_empty() {
        let Some(run) = &stored.run else {
            let what = "a checkpoint folder alone does not say what to evaluate on";
            return Err(CliError::usage(what, "add `--data PATH`, or name the run folder"));
        };
        let cache = cache_of_run(run, &config, stored, terminal)?;
        let max_windows = arguments.max_windows.unwrap_or(config.eval.max_windows);
        return Ok(Text { cache, split: Split::Validation, isolate, max_windows, of: "the run's validation text".to_owned() });
    }
    config.data = DataConfig { train: arguments.data.clone(), validation: Vec::new(), validation_fraction: 0.0, ..config.data };
    let cache = build(&config, stored, scratch, terminal)?;
    let of = arguments.data.join(", ");
    Ok(Text { cache, split: Split::Train, isolate, max_windows: arguments.max_windows.unwrap_or(0), of })
}

fn build(config: &RunConfig, stored: &StoredModel, root: &Path, terminal: &Terminal) -> Result<TokenCache, CliError> {
    let scanner = Scanner::new(&config.safety)?;
    let sources = open_sources(&config.data, &corpus::builtins()?)?;
    prepared::token_cache(&config.data, &sources, stored.tokenizer.as_ref(), (&scanner, &config.safety), root, terminal)
}

/// The tokens that the run was validated on: from its cache, wherever the command is given, or made again from the sources if they are the same.
fn cache_of_run(run: &Path, config: &RunConfig, stored: &StoredModel, terminal: &Terminal) -> Result<TokenCache, CliError> {
    let folder = RunDir::open(run)?;
    let recorded: CacheManifest = folder.read_json("data.manifest.json")?;
    // Caches stand beside the run unless the configuration puts them elsewhere.
    let root = config.data.cache_dir.clone().unwrap_or_else(|| codex_core::files::parent(run).join(".cache"));
    if let Ok(cache) = TokenCache::open(&root.join("tokens").join(recorded.key.to_string()))
        && cache.key() == recorded.key
    {
        return Ok(cache);
    }
    let cache = build(config, stored, &root, terminal)?;
    if cache.key() == recorded.key {
        return Ok(cache);
    }
    let was: Vec<SourceChecksum> = DatasetChecksums::read(&folder)?.sources;
    let sources = open_sources(&config.data, &corpus::builtins()?)?.checksums()?;
    let changed = sources.iter().filter(|now| was.iter().any(|then| then.path == now.path && then.blake3 != now.blake3));
    let changed: Vec<String> = changed.map(|source| format!("`{}` has changed", source.path)).collect();
    let what = if changed.is_empty() { "its sources are others".to_owned() } else { changed.join(", ") };
    Err(CliError::OtherText { run: run.to_owned(), what })
}
