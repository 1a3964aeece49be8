//! `generate`: continues a prompt, with the safety rules on both sides.

use std::io::Read;

use codex_core::{Clock, SystemClock};
use codex_model::{BatchPrompt, Generated, SamplingConfig, StopReason, generate_batch};
use codex_safety::{Scanner, Tally, Verdict};
use codex_tokenize::{StreamDecoder, TokenizeError, Tokenizer};
use serde::Serialize;
use serde_json::{Value, json};

use crate::arguments::{Generate, Global, Sampling};
use crate::failure::CliError;
use crate::run_config::{self, RunConfig};
use crate::terminal::Terminal;
use crate::{device, stored_model};

/// The longest prompt that is read, in bytes.
const MAX_PROMPT_BYTES: u64 = 1 << 20;

pub(super) fn run(arguments: &Generate, _global: &Global, terminal: &Terminal) -> Result<(), CliError> {
    // Wrong arguments are told before a model is looked for.
    sampling(&arguments.sampling, &SamplingConfig::default())?;
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
    let sampling = sampling(&arguments.sampling, &config.sampling)?;
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
    let clock = SystemClock::new();
    let n_samples = u64::from(arguments.samples);
    let seeded = |index: u64| SamplingConfig { seed: sampling.seed.wrapping_add(index), ..sampling.clone() };
    let prompts: Vec<BatchPrompt> = (0..n_samples).map(|index| BatchPrompt { ids: ids.clone(), sampling: seeded(index) }).collect();
    let mut drafts: Vec<Draft<'_>> = prompts.iter().map(|_| Draft::new(stored.tokenizer.as_ref())).collect();
    let cache = arguments.kv_cache.into();
    let mut more = |index: usize, id| drafts[index].push(id, &sampling.stop);
    let generated = device::in_pool(|| generate_batch(&stored.model, cache, &prompts, stored.tokenizer.end_of_text(), &mut more))?;
    let seconds = clock.elapsed_seconds();
    let n_tokens: usize = generated.iter().map(|generated| generated.ids.len()).sum();
    let mut samples = Vec::new();
    for ((draft, generated), prompt) in drafts.into_iter().zip(&generated).zip(&prompts) {
        debug_assert!(draft.stop_at.is_none() || generated.stopped == StopReason::Caller, "a stop text ends generation");
        samples.push(Sample::new(draft, generated, prompt.sampling.seed, &scanner, &mut tally_out)?);
    }
    let Some(first) = samples.first() else { return Ok(()) };
    let value = json!({
        "prompt": prompt, "text": first.text, "ids": first.ids, "log_probabilities": first.log_probabilities, "stopped": first.stopped,
        "samples": samples, "prompt_tokens_cut": n_cut, "kv_cache": arguments.kv_cache, "weights": arguments.model.weights,
        "checkpoint": stored.checkpoint, "step": stored.step, "sampling": sampling, "safety": { "prompt": tally_in, "text": tally_out },
        "seconds": seconds, "tokens_per_second": n_tokens as f64 / seconds.max(1e-9),
    });
    terminal.result(&value, || match samples.as_slice() {
        [only] => format!("{prompt}{}", only.text),
        all => {
            let one = |sample: &Sample| format!("--- seed {}\n{prompt}{}", sample.seed, sample.text);
            all.iter().map(one).collect::<Vec<_>>().join("\n")
        }
    })
}

/// A text that is being generated.
struct Draft<'t> {
    decoder: StreamDecoder<'t>,
    text: String,
    stop_at: Option<usize>,
    failure: Option<TokenizeError>,
}

impl<'t> Draft<'t> {
    fn new(tokenizer: &'t dyn Tokenizer) -> Self {
        Self { decoder: StreamDecoder::new(tokenizer), text: String::new(), stop_at: None, failure: None }
    }

    /// Takes the next id; tells whether to go on.
    fn push(&mut self, id: u32, stop: &[String]) -> bool {
        match self.decoder.push(id) {
            Ok(piece) => {
                self.text.push_str(&piece);
                self.stop_at = stop.iter().filter_map(|stop| self.text.find(stop)).min();
                self.stop_at.is_none()
            }
            Err(error) => {
                self.failure = Some(error);
                false
            }
        }
    }
}

/// A generated text as it is shown.
#[derive(Debug, Serialize)]
struct Sample {
    seed: u64,
    text: String,
    ids: Option<Vec<u32>>,
    log_probabilities: Option<Vec<f32>>,
    stopped: Value,
}

impl Sample {
    fn new(draft: Draft<'_>, generated: &Generated, seed: u64, scanner: &Scanner, tally: &mut Tally) -> Result<Self, CliError> {
        let Draft { decoder, mut text, stop_at, failure } = draft;
        if let Some(error) = failure {
            return Err(error.into());
        }
        match stop_at {
            Some(at) => text.truncate(at),
            None => text.push_str(&decoder.finish()),
        }
        let raw = text;
        let text = allowed(scanner.apply(&raw, tally), "the generated text")?;
        // Ids would give away what was redacted, or what comes after a stop text.
        let is_whole = text == raw && stop_at.is_none();
        Ok(Self {
            seed,
            text,
            ids: is_whole.then(|| generated.ids.clone()),
            log_probabilities: is_whole.then(|| generated.log_probabilities.clone()),
            stopped: if stop_at.is_some() { json!("stop") } else { json!(generated.stopped) },
        })
    }
}

/// What the arguments say, and where they say nothing what the run's configuration says.
pub(super) fn sampling(arguments: &Sampling, config: &SamplingConfig) -> Result<SamplingConfig, CliError> {
    let sampling = SamplingConfig {
        temperature: arguments.temperature.unwrap_or(config.temperature),
        top_k: arguments.top_k.unwrap_or(config.top_k),
        top_p: arguments.top_p.unwrap_or(config.top_p),
        min_p: arguments.min_p.unwrap_or(config.min_p),
        repetition_penalty: arguments.repetition_penalty.unwrap_or(config.repetition_penalty),
        seed: arguments.seed.unwrap_or(config.seed),
        max_new_tokens: arguments.max_new_tokens.unwrap_or(config.max_new_tokens),
        stop: if arguments.stop.is_empty() { config.stop.clone() } else { arguments.stop.clone() },
    };
    match sampling.problems().into_iter().next() {
        None => Ok(sampling),
        Some((key, message)) => Err(CliError::usage(format!("--{}: {message}", key.replace('_', "-")), "see `--help`")),
    }
}

pub(super) fn allowed(verdict: Verdict<'_>, place: &str) -> Result<String, CliError> {
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
