//! Continuing prompts token by token.

use codex_kernels::Isa;
use codex_kernels::exponential::{Function, apply};

use crate::config::Precision;
use crate::error::ModelError;
use crate::network::{Decoder, KvCache};
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
    /// The caller asked for no more, as for a stop text.
    Caller,
}

/// Continues `prompt`; `more` is told each new id and answers whether to go on.
///
/// When the context is full, the later half of what was read is read again as a fresh context, so that a text can grow without end.
/// The prompt itself is cut to its last `context_length` tokens.
pub fn generate(
    session: &mut dyn Session,
    prompt: &[u32],
    end_of_text: u32,
    config: &SamplingConfig,
    more: &mut dyn FnMut(u32) -> bool,
) -> Result<Generated, ModelError> {
    let mut text = Text::new(prompt, session.context_length())?;
    session.reset();
    let mut next = Some(text.whole());
    while let Some(Next { ids, is_fresh }) = next {
        if is_fresh {
            session.reset();
        }
        let scores = session.feed(&ids)?;
        next = text.choose(&scores, end_of_text, config, more);
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

/// Continues several prompts at once, each as [`generate`] continues it by itself but for the rounding of products of more rows; `more` is also
/// told which prompt a new id is of. One that has ended takes no further part.
pub fn generate_batch(
    model: &Decoder,
    cache: Precision,
    prompts: &[BatchPrompt],
    end_of_text: u32,
    more: &mut dyn FnMut(usize, u32) -> bool,
) -> Result<Vec<Generated>, ModelError> {
    let context = model.config().context_length;
    let mut texts = prompts.iter().map(|prompt| Text::new(&prompt.ids, context)).collect::<Result<Vec<_>, _>>()?;
    let mut caches: Vec<KvCache> = prompts.iter().map(|_| KvCache::new(cache)).collect();
    let mut next: Vec<Option<Next>> = texts.iter_mut().map(|text| Some(text.whole())).collect();
    loop {
        let (mut ids, mut used, mut indices) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (next, cache)) in next.iter().zip(&mut caches).enumerate() {
            if let Some(next) = next {
                if next.is_fresh {
                    cache.clear();
                }
                ids.push(next.ids.as_slice());
                used.push(cache);
                indices.push(index);
            }
        }
        if indices.is_empty() {
            return Ok(texts.into_iter().map(|text| text.generated).collect());
        }
        let scores = to_host("scores", model.forward_cached_batch(&ids, &mut used)?)?.values;
        for (index, scores) in indices.into_iter().zip(scores.chunks_exact(model.vocab_size())) {
            next[index] = texts[index].choose(scores, end_of_text, &prompts[index].sampling, &mut |id| more(index, id));
        }
    }
}

/// What is read next, and whether everything is forgotten before.
struct Next {
    ids: Vec<u32>,
    is_fresh: bool,
}

/// A text that grows.
struct Text {
    context: usize,
    /// What was read since the beginning or the last fresh start, and what will be.
    read: Vec<u32>,
    generated: Generated,
}

impl Text {
    fn new(prompt: &[u32], context: usize) -> Result<Self, ModelError> {
        if prompt.is_empty() {
            return Err(ModelError::BadInput { reason: "the prompt has no tokens".to_owned() });
        }
        let read = prompt[prompt.len().saturating_sub(context)..].to_vec();
        let generated = Generated { ids: Vec::new(), log_probabilities: Vec::new(), stopped: StopReason::Length };
        Ok(Self { context, read, generated })
    }

    fn whole(&self) -> Next {
        Next { ids: self.read.clone(), is_fresh: true }
    }

    /// Chooses the next token from its scores; `None` when the text has ended.
    fn choose(&mut self, scores: &[f32], end_of_text: u32, config: &SamplingConfig, more: &mut dyn FnMut(u32) -> bool) -> Option<Next> {
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
        let n_read = self.read.len();
        self.read.push(id);
        if n_read < self.context {
            return Some(Next { ids: vec![id], is_fresh: false });
        }
        self.read.drain(..self.read.len() - (self.context / 2).max(1));
        Some(self.whole())
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
