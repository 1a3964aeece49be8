//! `eval`: a trained model on held-out text.

use codex_data::{DataConfig, Split, TokenCache, WindowLoader, open_sources};
use codex_eval::evaluate::EvalWindows;
use codex_eval::{evaluate, unigram};
use codex_safety::{SafetyConfig, Scanner};
use codex_train::plan::token_bytes;
use serde_json::json;

use crate::arguments::Eval;
use crate::failure::CliError;
use crate::run_config::{self, RunConfig};
use crate::stored_model::{self, StoredModel};
use crate::terminal::{Terminal, table};
use crate::{corpus, prepared};

pub(super) fn run(arguments: &Eval, terminal: &Terminal) -> Result<(), CliError> {
    let stored = stored_model::load(&arguments.model, terminal)?;
    let scratch = tempfile::tempdir().map_err(|source| CliError::Output { source })?;
    let (cache, isolate, of) = text(arguments, &stored, scratch.path(), terminal)?;
    let split = cache.split(if arguments.data.is_empty() { Split::Validation } else { Split::Train });
    let loader = WindowLoader::new(split, stored.model.config().context_length, 0, false, isolate);
    let windows = EvalWindows {
        name: "evaluated",
        loader: &loader,
        max_windows: arguments.max_windows,
        batch_size: arguments.batch_size,
        isolate_documents: isolate,
    };
    let bytes = token_bytes(stored.tokenizer.as_ref());
    let has_bar = terminal.start_bar(windows.n_windows(), 0, "evaluating {bar:24} {pos}/{len} windows  ETA {eta}");
    let metrics = evaluate(&stored.model, &windows, &bytes, &mut |done, _| {
        if has_bar {
            terminal.move_bar(done, String::new());
        }
    });
    terminal.end_bar();
    let metrics = metrics?;
    // On the run's own text the baseline knows the training split; on other text only that text itself.
    let baseline = unigram(cache.split(Split::Train), &windows, &bytes)?;
    let value = json!({
        "checkpoint": stored.checkpoint, "step": stored.step, "device": stored.device_name, "text": of, "data_key": cache.manifest().key,
        "tokenizer": stored.tokenizer.digest(), "metrics": metrics, "unigram": baseline,
    });
    terminal.result(&value, || {
        let rows = metrics.named().into_iter().zip(baseline.named());
        let rows = rows.map(|((name, model), (_, unigram))| vec![name.to_owned(), format!("{model:.4}"), format!("{unigram:.4}")]);
        let title = format!("{} (step {}) on {of}: {} target tokens", stored.checkpoint.display(), stored.step, metrics.n_tokens);
        format!("{title}\n{}", table(&["metric", "model", "unigram"], rows))
    })
}

/// The tokens to evaluate on: those of `--data`, or the run's own.
fn text(
    arguments: &Eval,
    stored: &StoredModel,
    scratch: &std::path::Path,
    terminal: &Terminal,
) -> Result<(TokenCache, bool, String), CliError> {
    let mut config = match &stored.run {
        Some(run) => run_config::of_run(run)?,
        None => RunConfig::default(),
    };
    let root = if arguments.data.is_empty() {
        let Some(run) = &stored.run else {
            let what = "a checkpoint folder alone does not say what to evaluate on";
            return Err(CliError::usage(what, "add `--data PATH`, or name the run folder"));
        };
        // Beside the run, wherever the command is given.
        config.data.cache_dir.clone().unwrap_or_else(|| codex_core::files::parent(run).join(".cache"))
    } else {
        config.data = DataConfig { train: arguments.data.clone(), validation: Vec::new(), validation_fraction: 0.0, ..config.data };
        scratch.to_owned()
    };
    let safety: &SafetyConfig = &config.safety;
    let scanner = Scanner::new(safety)?;
    let sources = open_sources(&config.data, &corpus::builtins()?)?;
    let cache = prepared::token_cache(&config.data, &sources, stored.tokenizer.as_ref(), (&scanner, safety), &root, terminal)?;
    let of = if arguments.data.is_empty() { "the run's validation text".to_owned() } else { arguments.data.join(", ") };
    Ok((cache, config.data.isolate_documents, of))
}
