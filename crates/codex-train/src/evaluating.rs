//! The loop's evaluations: on the validation split, with a sample, into the metrics.

use codex_data::MixtureLoader;
use codex_eval::Metrics;
use codex_eval::validation::{VALIDATION, Validation, split_of};
use codex_model::{CachedSession, Decoder, generate};
use codex_safety::{Tally, Verdict};
use codex_track::{Level, MetricPoint, Tracker};
use serde_json::json;

use crate::error::TrainError;
use crate::observer::{EvaluationReport, Observer};
use crate::plan::RunPlan;
use crate::state::TrainState;

pub(crate) fn evaluation(
    plan: &RunPlan,
    model: &Decoder,
    validation: &Validation,
    baseline: Metrics,
    state: &mut TrainState,
    go_on: &dyn Fn() -> bool,
    observer: &mut dyn Observer,
) -> Result<EvaluationReport, TrainError> {
    let (metrics, sets) = validation.evaluate(model, &mut |done, all| {
        observer.evaluating(done, all);
        go_on()
    })?;
    let sample = sample(plan, model)?;
    let is_best = state.evaluated(metrics, sets.clone(), (&plan.train.patience_set, plan.train.patience_metric));
    let report = EvaluationReport { step: state.step, metrics, sets, baseline, sample, is_best };
    observer.evaluation(&report);
    Ok(report)
}

/// The sample prompt and what the model makes of it, scanned before anyone sees it.
fn sample(plan: &RunPlan, model: &Decoder) -> Result<Option<(String, String)>, TrainError> {
    let prompt = &plan.eval.sample_prompt;
    if prompt.is_empty() || plan.eval.sample_tokens == 0 {
        return Ok(None);
    }
    let mut ids = plan.tokenizer.encode(prompt)?;
    // A sample is no reason to end a run: of a prompt that does not fit, the end is taken.
    ids.drain(..ids.len().saturating_sub(model.config().context_length));
    let config = codex_model::SamplingConfig { max_new_tokens: plan.eval.sample_tokens, ..plan.sampling.clone() };
    let generated = generate(&mut CachedSession::new(model), &ids, plan.tokenizer.end_of_text(), &config, &mut |_| true)?;
    let mut text = plan.tokenizer.decode(&generated.ids)?;
    if let Some(at) = config.stop.iter().filter_map(|stop| text.find(stop)).min() {
        text.truncate(at);
    }
    let text = match plan.safety.apply(&text, &mut Tally::default()) {
        Verdict::Keep(text) => text.into_owned(),
        Verdict::Drop { rules } | Verdict::Stop { rules } => format!("[withheld: {}]", rules.join(", ")),
    };
    Ok(Some((prompt.clone(), text)))
}

pub(crate) fn track_evaluation(tracker: &mut Tracker, report: &EvaluationReport, state: &TrainState, loader: &MixtureLoader) {
    let epoch = state.cursor.position as f64 / loader.windows_per_epoch().max(1) as f64;
    let main = (VALIDATION.to_owned(), &report.metrics);
    for (split, metrics) in std::iter::once(main).chain(report.sets.iter().map(|(name, metrics)| (split_of(name), metrics))) {
        let values = metrics.named();
        tracker.metrics(&MetricPoint { step: report.step, split: &split, values: &values, tokens: state.tokens, epoch });
    }
    if let Some((prompt, text)) = &report.sample {
        tracker.event("sample", Level::Info, "sample", json!({ "step": report.step, "prompt": prompt, "text": text }));
    }
}
