//! Continuing prompts token by token.

use std::collections::BTreeMap;
use std::sync::Arc;

use codex_kernels::Isa;
use codex_kernels::exponential::{Function, apply};

use crate::cache::KvCache;
use crate::config::Precision;
use crate::error::ModelError;
use crate::network::Decoder;
use crate::parameters::to_host;
use crate::sampling::{SamplingConfig, choose};
use crate::session::Session;

/// What was generated.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The new token ids, without the prompt and without the end-of-text id.
    pub ids: Vec<u32>,
    /// Natural logarithm of each new token's probability before temperature and cuts.
    pub log_probabilities: Vec<f32>,
    /// Why it ended.
    pub stopped: StopReason,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// `max_new_tokens` were generated.
    Length,
    /// The model chose the end-of-text token.
    EndOfText,
    /// The context is full: the last new token was chosen and cannot be read.
    Context,
    /// The caller asked for no more, as for a stop text.
    Caller,
}

/// Continues `prompt`; `more` is told each new id and answers whether to go on.
///
/// A text ends with the context: of a prompt of `n` tokens and a context of `c`, at most `c - n + 1` tokens are generated, the last of which is not
/// read. What the session has read of the prompt before is not read again.
///
/// # Errors
/// A prompt without tokens, or with more than the context holds.
pub fn generate(
    session: &mut dyn Session,
    prompt: &[u32],
    end_of_text: u32,
    config: &SamplingConfig,
    more: &mut dyn FnMut(u32) -> bool,
) -> Result<Generated, ModelError> {
    let mut text = Text::new(prompt, session.context_length())?;
    let mut scores = session.begin(prompt)?;
    while let Some(id) = text.choose(&scores, end_of_text, config, more) {
        scores = session.feed(&[id])?;
    }
    Ok(text.generated)
}

/// A prompt of a batch, and how it is continued.
#[derive(Clone, Debug)]
pub struct BatchPrompt {
    /// Its token ids.
    pub ids: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: SamplingConfig,
}

/// Continues several prompts at once, each with the bits that [`generate`] gives it by itself where products have the same bits at any number of
/// rows, as those of codex-kernels do; `more` is also told which prompt a new id is of. A prompt that is there several times is read once. One
/// that has ended takes no further part.
///
/// # Errors
/// As of [`generate`], before anything is read.
pub fn generate_batch(
    model: &Decoder,
    cache: Precision,
    prompts: &[BatchPrompt],
    end_of_text: u32,
    more: &mut dyn FnMut(usize, u32) -> bool,
) -> Result<Vec<Generated>, ModelError> {
    let context = model.config().context_length;
    let mut texts = prompts.iter().map(|prompt| Text::new(&prompt.ids, context)).collect::<Result<Vec<_>, _>>()?;
    let Read { mut caches, scores } = read(model, cache, prompts)?;
    let choose = |index: usize, text: &mut Text, scores: &[f32], more: &mut dyn FnMut(usize, u32) -> bool| {
        text.choose(scores, end_of_text, &prompts[index].sampling, &mut |id| more(index, id))
    };
    let mut next: Vec<Option<u32>> =
        texts.iter_mut().zip(scores).enumerate().map(|(index, (text, scores))| choose(index, text, &scores, more)).collect();
    loop {
        let (mut ids, mut used, mut indices) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (next, cache)) in next.iter().zip(&mut caches).enumerate() {
            if let Some(id) = next {
                ids.push(std::slice::from_ref(id));
                used.push(cache);
                indices.push(index);
            }
        }
        if indices.is_empty() {
            return Ok(texts.into_iter().map(|text| text.generated).collect());
        }
        let scores = to_host("scores", model.forward_cached_batch(&ids, &mut used)?)?.values;
        for (index, scores) in indices.into_iter().zip(scores.chunks_exact(model.vocab_size())) {
            next[index] = choose(index, &mut texts[index], scores, more);
        }
    }
}

/// Prompts that have been read.
struct Read {
    /// Of each prompt.
    caches: Vec<KvCache>,
    /// Of the token after each prompt.
    scores: Vec<Arc<[f32]>>,
}

/// Reads all prompts together, each that is there several times once.
fn read(model: &Decoder, cache: Precision, prompts: &[BatchPrompt]) -> Result<Read, ModelError> {
    let mut numbers = BTreeMap::new();
    let mut distinct: Vec<&[u32]> = Vec::new();
    for prompt in prompts {
        numbers.entry(prompt.ids.as_slice()).or_insert_with(|| {
            distinct.push(&prompt.ids);
            distinct.len() - 1
        });
    }
    if distinct.is_empty() {
        return Ok(Read { caches: Vec::new(), scores: Vec::new() });
    }
    let mut caches = vec![KvCache::new(cache); distinct.len()];
    let scores = model.forward_cached_batch(&distinct, &mut caches.iter_mut().collect::<Vec<_>>())?;
    let scores = to_host("scores", scores)?.values;
    let scores: Vec<Arc<[f32]>> = scores.chunks_exact(model.vocab_size()).map(Arc::from).collect();
    let number_of = |prompt: &BatchPrompt| numbers.get(prompt.ids.as_slice()).copied().unwrap_or_default();
    let of = |prompt: &BatchPrompt| (caches[number_of(prompt)].clone(), Arc::clone(&scores[number_of(prompt)]));
    let (caches, scores) = prompts.iter().map(of).unzip();
    Ok(Read { caches, scores })
}

/// A text that grows.
struct Text {
    context: usize,
    /// The prompt and what was generated.
    read: Vec<u32>,
    generated: Generated,
}

impl Text {
    fn new(prompt: &[u32], context: usize) -> Result<Self, ModelError> {
        if prompt.is_empty() {
            return Err(ModelError::BadInput { reason: "the prompt has no tokens".to_owned() });
        }
        if prompt.len() > context {
            return Err(ModelError::PromptTooLong { prompt_tokens: prompt.len(), context_length: context });
        }
        let generated = Generated { ids: Vec::new(), log_probabilities: Vec::new(), stopped: StopReason::Length };
        Ok(Self { context, read: prompt.to_vec(), generated })
    }

    /// Chooses the next token from its scores, and returns it where it is to be read; `None` when the text has ended.
    fn choose(&mut self, scores: &[f32], end_of_text: u32, config: &SamplingConfig, more: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        let generated = &mut self.generated;
        if generated.ids.len() >= config.max_new_tokens {
            return None;
        }
        let id = choose(scores, &self.read, config, generated.ids.len() as u64);
        if id == end_of_text {
            generated.stopped = StopReason::EndOfText;
            return None;
        }
        generated.ids.push(id);
        generated.log_probabilities.push(log_probability(scores, id));
        if !more(id) {
            generated.stopped = StopReason::Caller;
            return None;
        }
        if generated.ids.len() == config.max_new_tokens {
            return None;
        }
        if self.read.len() == self.context {
            generated.stopped = StopReason::Context;
            return None;
        }
        self.read.push(id);
        Some(id)
    }
}

/// The natural logarithm of a token's probability.
fn log_probability(scores: &[f32], id: u32) -> f32 {
    let highest = scores.iter().copied().filter(|score| !score.is_nan()).fold(f32::NEG_INFINITY, f32::max);
    // What is no number is never chosen.
    let mut shares: Vec<f32> = scores.iter().map(|score| if score.is_nan() { f32::NEG_INFINITY } else { score - highest }).collect();
    apply(Isa::detect(), Function::Exp, &mut shares);
    let sum: f64 = shares.iter().map(|share| f64::from(*share)).sum();
    (f64::from(scores[id as usize] - highest) - libm::log(sum)) as f32
}
