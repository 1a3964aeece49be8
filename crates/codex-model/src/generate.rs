//! Continuing a prompt token by token.

use crate::error::ModelError;
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
    if prompt.is_empty() {
        return Err(ModelError::BadInput { reason: "the prompt has no tokens".to_owned() });
    }
    let context = session.context_length();
    let mut read = prompt[prompt.len().saturating_sub(context)..].to_vec();
    let mut generated = Generated { ids: Vec::new(), log_probabilities: Vec::new(), stopped: StopReason::Length };
    session.reset();
    let mut scores = session.feed(&read)?;
    while generated.ids.len() < config.max_new_tokens {
        let id = choose(&scores, config, generated.ids.len() as u64);
        if id == end_of_text {
            generated.stopped = StopReason::EndOfText;
            break;
        }
        generated.ids.push(id);
        generated.log_probabilities.push(log_probability(&scores, id));
        if !more(id) {
            generated.stopped = StopReason::Caller;
            break;
        }
        if generated.ids.len() == config.max_new_tokens {
            break;
        }
        read.push(id);
        scores = if session.len() < context {
            session.feed(&[id])?
        } else {
            session.reset();
            read.drain(..read.len() - (context / 2).max(1));
            session.feed(&read)?
        };
    }
    Ok(generated)
}

fn log_probability(scores: &[f32], id: u32) -> f32 {
    let highest = scores.iter().copied().filter(|score| !score.is_nan()).fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = scores.iter().filter(|score| !score.is_nan()).map(|&score| libm::exp(f64::from(score - highest))).sum();
    (f64::from(scores[id as usize] - highest) - libm::log(sum)) as f32
}
