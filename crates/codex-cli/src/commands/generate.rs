//! `generate`: continues a prompt, with the safety rules on both sides.

use std::io::{Read, Write};

use codex_core::{Clock, SystemClock};
use codex_model::{CachedSession, SamplingConfig, StopReason, generate};
use codex_safety::{SafetyConfig, Scanner, Tally, Verdict};
use codex_tokenize::StreamDecoder;
use serde_json::json;

use crate::arguments::{Generate, Global};
use crate::failure::CliError;
use crate::stored_model;
use crate::terminal::Terminal;

/// The longest prompt that is read, in bytes.
const MAX_PROMPT_BYTES: u64 = 1 << 20;

pub(super) fn run(arguments: &Generate, _global: &Global, terminal: &Terminal) -> Result<(), CliError> {
    let sampling = SamplingConfig {
        temperature: arguments.temperature,
        top_k: arguments.top_k,
        top_p: arguments.top_p,
        seed: arguments.seed,
        max_new_tokens: arguments.max_new_tokens,
        stop: arguments.stop.clone(),
    };
    if let Some((key, message)) = sampling.problems().into_iter().next() {
        return Err(CliError::usage(format!("--{}: {message}", key.replace('_', "-")), "see `codex-cli generate --help`"));
    }
    let prompt = match &arguments.prompt {
        Some(prompt) => prompt.clone(),
        None => read_prompt()?,
    };
    if prompt.is_empty() {
        return Err(CliError::usage("the prompt is empty", "give one: `--prompt 'It was a'`"));
    }
    let stored = stored_model::load(&arguments.model, terminal)?;
    let scanner = Scanner::new(&SafetyConfig::default())?;
    let (mut tally_in, mut tally_out) = (Tally::default(), Tally::default());
    let prompt = allowed(scanner.apply(&prompt, &mut tally_in), "the prompt")?;
    let ids = stored.tokenizer.encode(&prompt)?;
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
    let text = allowed(scanner.apply(&text, &mut tally_out), "the generated text")?;
    let stopped = if stop_at.is_some() { json!("stop") } else { json!(generated.stopped) };
    let value = json!({
        "prompt": prompt, "text": text, "ids": generated.ids, "log_probabilities": generated.log_probabilities, "stopped": stopped,
        "checkpoint": stored.checkpoint, "step": stored.step, "sampling": sampling, "safety": { "prompt": tally_in, "text": tally_out },
        "seconds": seconds, "tokens_per_second": generated.ids.len() as f64 / seconds.max(1e-9),
    });
    debug_assert!(stop_at.is_none() || generated.stopped == StopReason::Caller, "a stop text ends generation");
    terminal.result(&value, || format!("{prompt}{text}"))
}

fn allowed(verdict: Verdict<'_>, place: &str) -> Result<String, CliError> {
    match verdict {
        Verdict::Keep(text) => Ok(text.into_owned()),
        Verdict::Drop { rules } | Verdict::Stop { rules } => Err(CliError::Refused { place: place.to_owned(), rules }),
    }
}

fn read_prompt() -> Result<String, CliError> {
    let mut prompt = String::new();
    drop(std::io::stderr().flush());
    let read = std::io::stdin().lock().take(MAX_PROMPT_BYTES + 1).read_to_string(&mut prompt);
    match read {
        Ok(n) if n as u64 > MAX_PROMPT_BYTES => Err(CliError::usage("the prompt is longer than 1 MiB", "give its last part only")),
        Ok(_) => Ok(prompt.trim_end_matches(['\n', '\r']).to_owned()),
        Err(error) => Err(CliError::usage(format!("standard input is not UTF-8 text: {error}"), "give the prompt by `--prompt`")),
    }
}
