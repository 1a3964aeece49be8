//! `generate`: continues a prompt, with the safety rules on both sides.

use std::io::Read;

use codex_core::{Clock, SystemClock};
use codex_model::{CachedSession, SamplingConfig, StopReason, generate};
use codex_safety::{Scanner, Tally, Verdict};
use codex_tokenize::StreamDecoder;
use serde_json::json;

use crate::arguments::{Generate, Global};
use crate::failure::CliError;
use crate::run_config::{self, RunConfig};
use crate::stored_model;
use crate::terminal::Terminal;

/// The longest prompt that is read, in bytes.
const MAX_PROMPT_BYTES: u64 = 1 << 20;

pub(super) fn run(arguments: &Generate, _global: &Global, terminal: &Terminal) -> Result<(), CliError> {
    // Wrong arguments are told before a model is looked for.
    sampling(arguments, &SamplingConfig::default())?;
    let prompt = match &arguments.prompt {
        Some(prompt) => prompt.clone(),
        None => read_prompt()?,
    };
    if prompt.is_empty() {
        return Err(CliError::usage("the prompt is empty", "give one: `--prompt 'It was a'`"));
    }
    let stored = stored_model::load(&arguments.model, terminal)?;
    let config = match &stored.run {
        Some(run) => run_config::of_run(run)?,
        None => RunConfig::default(),
    };
    let sampling = sampling(arguments, &config.sampling)?;
    let scanner = Scanner::new(&config.safety)?;
    let (mut tally_in, mut tally_out) = (Tally::default(), Tally::default());
    let prompt = allowed(scanner.apply(&prompt, &mut tally_in), "the prompt")?;
    let ids = stored.tokenizer.encode(&prompt)?;
    let n_cut = ids.len().saturating_sub(stored.model.config().context_length);
    if n_cut > 0 {
        terminal.warn(&format!(
            "the prompt has {} tokens and the model reads {}: the first {n_cut} are left out",
            ids.len(),
            ids.len() - n_cut
        ));
    }
    let mut decoder = StreamDecoder::new(stored.tokenizer.as_ref());
    let (mut text, mut failure, mut stop_at) = (String::new(), None, None);
    let clock = SystemClock::new();
    let mut session = CachedSession::new(&stored.model);
    let generated = generate(&mut session, &ids, stored.tokenizer.end_of_text(), &sampling, &mut |id| match decoder.push(id) {
        Ok(piece) => {
            text.push_str(&piece);
            stop_at = sampling.stop.iter().filter_map(|stop| text.find(stop)).min();
            stop_at.is_none()
        }
        Err(error) => {
            failure = Some(error);
            false
        }
    })?;
    let seconds = clock.elapsed_seconds();
    if let Some(error) = failure {
        return Err(error.into());
    }
    match stop_at {
        Some(at) => text.truncate(at),
        None => text.push_str(&decoder.finish()),
    }
    let raw = text;
    let text = allowed(scanner.apply(&raw, &mut tally_out), "the generated text")?;
    // Ids would give away what was redacted, or what comes after a stop text.
    let is_whole = text == raw && stop_at.is_none();
    let ids = is_whole.then_some(&generated.ids);
    let log_probabilities = is_whole.then_some(&generated.log_probabilities);
    let stopped = if stop_at.is_some() { json!("stop") } else { json!(generated.stopped) };
    let value = json!({
        "prompt": prompt, "text": text, "ids": ids, "log_probabilities": log_probabilities, "stopped": stopped,
        "prompt_tokens_cut": n_cut,
        "checkpoint": stored.checkpoint, "step": stored.step, "sampling": sampling, "safety": { "prompt": tally_in, "text": tally_out },
        "seconds": seconds, "tokens_per_second": generated.ids.len() as f64 / seconds.max(1e-9),
    });
    debug_assert!(stop_at.is_none() || generated.stopped == StopReason::Caller, "a stop text ends generation");
    terminal.result(&value, || format!("{prompt}{text}"))
}

/// What the arguments say, and where they say nothing what the run's configuration says.
fn sampling(arguments: &Generate, config: &SamplingConfig) -> Result<SamplingConfig, CliError> {
    let sampling = SamplingConfig {
        temperature: arguments.temperature.unwrap_or(config.temperature),
        top_k: arguments.top_k.unwrap_or(config.top_k),
        top_p: arguments.top_p.unwrap_or(config.top_p),
        seed: arguments.seed.unwrap_or(config.seed),
        max_new_tokens: arguments.max_new_tokens.unwrap_or(config.max_new_tokens),
        stop: if arguments.stop.is_empty() { config.stop.clone() } else { arguments.stop.clone() },
    };
    match sampling.problems().into_iter().next() {
        None => Ok(sampling),
        Some((key, message)) => Err(CliError::usage(format!("--{}: {message}", key.replace('_', "-")), "see `codex-cli generate --help`")),
    }
}

fn allowed(verdict: Verdict<'_>, place: &str) -> Result<String, CliError> {
    match verdict {
        Verdict::Keep(text) => Ok(text.into_owned()),
        Verdict::Drop { rules } | Verdict::Stop { rules } => Err(CliError::Refused { place: place.to_owned(), rules }),
    }
}

fn read_prompt() -> Result<String, CliError> {
    let mut prompt = String::new();
    let read = std::io::stdin().lock().take(MAX_PROMPT_BYTES + 1).read_to_string(&mut prompt);
    match read {
        Ok(n) if n as u64 > MAX_PROMPT_BYTES => Err(CliError::usage("the prompt is longer than 1 MiB", "give its last part only")),
        Ok(_) => Ok(prompt.trim_end_matches(['\n', '\r']).to_owned()),
        Err(error) => Err(CliError::usage(format!("standard input is not UTF-8 text: {error}"), "give the prompt by `--prompt`")),
    }
}
