//! `generate`: continues a prompt, with the safety rules on both sides.

use std::io::Read;

use codex_core::{Clock, SystemClock};
use codex_model::{BatchPrompt, Generated, ModelError, SamplingConfig, generate_batch};
use codex_safety::{Scanner, Tally, Verdict};
use serde::Serialize;
use serde_json::json;

use crate::arguments::{Generate, Global, Sampling};
use crate::commands::draft::{Draft, Finished, Stream};
use crate::commands::inference_record;
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
    let clock = SystemClock::new();
    let n_samples = u64::from(arguments.samples);
    let seeded = |index: u64| SamplingConfig { seed: sampling.seed.wrapping_add(index), ..sampling.clone() };
    let prompts: Vec<BatchPrompt> = (0..n_samples).map(|index| BatchPrompt { ids: ids.clone(), sampling: seeded(index) }).collect();
    // A prompt that does not fit is told before anything is shown.
    check_fits(&ids, stored.model.config().context_length)?;
    let mut drafts: Vec<Draft<'_>> = prompts.iter().map(|_| Draft::new(stored.tokenizer.as_ref(), &sampling.stop)).collect();
    let streams = !terminal.is_json() && n_samples == 1 && (arguments.stream || Terminal::is_watched());
    let mut stream = streams.then(|| Stream::new(&scanner, &prompt));
    let cache = arguments.kv_cache.into();
    let mut prompt_seconds = None;
    let mut more = |index: usize, id| {
        prompt_seconds.get_or_insert_with(|| clock.elapsed_seconds());
        let draft = &mut drafts[index];
        let goes_on = draft.push(id);
        stream.as_mut().is_none_or(|stream| stream.follow(draft)) && goes_on
    };
    let generated = device::in_pool(|| generate_batch(&stored.model, cache, &prompts, stored.tokenizer.end_of_text(), &mut more))?;
    let timing = Timing::new(&generated, ids.len(), prompt_seconds, clock.elapsed_seconds());
    let finished = drafts.into_iter().zip(&generated).zip(&prompts).map(|((draft, generated), prompt)| {
        let finished = draft.finish(generated.stopped)?;
        Sample::new(finished, generated, prompt.sampling.seed, &scanner, &mut tally_out)
    });
    let samples = finished.collect::<Result<Vec<Sample>, CliError>>();
    if let Some(stream) = stream {
        stream.finish(samples.as_ref().ok().and_then(|samples| samples.first()).map(|sample| sample.text.as_str()))?;
    }
    let samples = samples?;
    let Some(first) = samples.first() else { return Ok(()) };
    let mut value = json!({
        "schema": SCHEMA, "at": clock.now().to_rfc3339(), "prompt": prompt, "prompt_ids": ids, "text": first.text, "ids": first.ids,
        "log_probabilities": first.log_probabilities, "stopped": first.stopped, "samples": samples, "kv_cache": arguments.kv_cache,
        "weights": arguments.model.weights, "device": stored.device_name, "checkpoint": stored.checkpoint, "step": stored.step,
        "tokenizer": stored.tokenizer.digest(), "sampling": sampling, "safety": { "prompt": tally_in, "text": tally_out }, "timing": timing,
        "seconds": timing.seconds, "tokens_per_second": timing.tokens_per_second,
    });
    let run = stored.run.as_deref().filter(|_| !arguments.no_record);
    let record = run.map(|run| inference_record::file(run, &value, terminal)).transpose()?.flatten();
    value["record"] = json!(record);
    if streams {
        return Ok(());
    }
    terminal.result(&value, || match samples.as_slice() {
        [only] => format!("{prompt}{}", only.text),
        all => {
            let one = |sample: &Sample| format!("--- seed {}\n{prompt}{}", sample.seed, sample.text);
            all.iter().map(one).collect::<Vec<_>>().join("\n")
        }
    })
}

/// The version of the record.
const SCHEMA: u32 = 1;

/// Refuses a prompt that is longer than the model's context.
fn check_fits(ids: &[u32], context_length: usize) -> Result<(), CliError> {
    if ids.len() <= context_length {
        return Ok(());
    }
    Err(ModelError::PromptTooLong { prompt_tokens: ids.len(), context_length }.into())
}

/// How long it took, the model loaded.
#[derive(Debug, Serialize)]
struct Timing {
    seconds: f64,
    /// All new tokens by all seconds.
    tokens_per_second: f64,
    prompt_tokens: usize,
    /// Until the first new token was chosen.
    prompt_seconds: f64,
    prompt_tokens_per_second: f64,
    /// New tokens but for the first of each text, whose scores the prompt gives.
    decode_tokens: usize,
    decode_seconds: f64,
    /// None where none was decoded.
    decode_tokens_per_second: Option<f64>,
}

impl Timing {
    fn new(generated: &[Generated], prompt_tokens: usize, prompt_seconds: Option<f64>, seconds: f64) -> Self {
        let per = |tokens: usize, seconds: f64| tokens as f64 / seconds.max(1e-9);
        let prompt_seconds = prompt_seconds.unwrap_or(seconds);
        let decode_seconds = seconds - prompt_seconds;
        let decode_tokens = generated.iter().map(|generated| generated.ids.len().saturating_sub(1)).sum();
        Self {
            seconds,
            tokens_per_second: per(generated.iter().map(|generated| generated.ids.len()).sum(), seconds),
            prompt_tokens,
            prompt_seconds,
            prompt_tokens_per_second: per(prompt_tokens, prompt_seconds),
            decode_tokens,
            decode_seconds,
            decode_tokens_per_second: (decode_tokens > 0).then(|| per(decode_tokens, decode_seconds)),
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
    stopped: &'static str,
}

impl Sample {
    fn new(finished: Finished, generated: &Generated, seed: u64, scanner: &Scanner, tally: &mut Tally) -> Result<Self, CliError> {
        let Finished { text: raw, is_cut, stopped } = finished;
        let text = allowed(scanner.apply(&raw, tally), "the generated text")?;
        // Ids would give away what was redacted, or what comes after a stop text.
        let is_whole = text == raw && !is_cut;
        Ok(Self {
            seed,
            text,
            ids: is_whole.then(|| generated.ids.clone()),
            log_probabilities: is_whole.then(|| generated.log_probabilities.clone()),
            stopped,
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
