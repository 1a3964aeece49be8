//! The saves of a run: what a checkpoint of the loop holds, and who hears of it.

use std::sync::Arc;

use codex_checkpoint::{BackgroundSaver, CheckpointError, OnFailure, SaveReport, Snapshot};
use codex_core::{Clock, Digest, ExitClass, Failure as _, failure};
use codex_eval::Metrics;
use codex_eval::validation::split_of;
use codex_model::parameters;
use codex_track::{Level, RunRecord, Tracker};
use serde_json::json;

use crate::error::TrainError;
use crate::observer::Observer;
use crate::plan::{AdapterRecord, BaseModel, RunPlan};
use crate::state::TrainState;
use crate::step::Learner;

/// The saves of a run, which go on beside it.
pub(crate) struct Saving<'a> {
    pub(crate) plan: &'a RunPlan,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) baseline: Metrics,
    pub(crate) key: Digest,
    pub(crate) saver: BackgroundSaver,
    /// Where training stood when the last one began.
    pub(crate) state: TrainState,
    /// Seconds for which training waited because of it.
    pub(crate) waited: f64,
    /// Whether the last save has failed.
    pub(crate) has_failed: bool,
}

impl Saving<'_> {
    /// Begins to save weights, moments and state, once the save before is on the disk.
    pub(crate) fn begin(
        &mut self,
        learner: &Learner,
        state: &TrainState,
        record: &mut RunRecord,
        tracker: &mut Tracker,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let (plan, began) = (self.plan, self.clock.elapsed_seconds());
        let before = self.saver.wait();
        self.tell(before, record, tracker, observer)?;
        let wrong = |error: serde_json::Error| TrainError::State { step: state.step, reason: error.to_string() };
        let mut metrics = std::collections::BTreeMap::new();
        if let Some(evaluation) = state.evaluation_of_this_step() {
            metrics.extend(evaluation.named().map(|(name, value)| (format!("validation/{name}"), value)));
            for (set, evaluation) in &state.sets {
                metrics.extend(evaluation.named().map(|(name, value)| (format!("{}/{name}", split_of(set)), value)));
            }
        }
        if let Some(loss) = state.train_loss {
            metrics.insert("train/loss".to_owned(), loss);
        }
        let mut extra = vec![
            ("tokenizer.json".to_owned(), plan.tokenizer.to_json().as_bytes().to_vec()),
            ("model.json".to_owned(), serde_json::to_vec_pretty(&plan.model).map_err(wrong)?),
        ];
        if plan.adapter.is_on() {
            let base = plan.base.as_ref().map(BaseModel::digest);
            let record = AdapterRecord { base, adapter: plan.adapter.clone() };
            extra.push((AdapterRecord::FILE.to_owned(), serde_json::to_vec_pretty(&record).map_err(wrong)?));
        }
        let snapshot = Snapshot {
            step: state.step,
            plan: self.key,
            weights: parameters::collect_trained(&learner.evaluated())?,
            moments: learner.optimizer.collect(&learner.model)?,
            state: serde_json::to_value(state).map_err(wrong)?,
            metrics,
            extra,
            lease: None,
        };
        // Metrics up to this step must be on the disk before a resume may start from it.
        tracker.flush();
        self.saver.begin(snapshot)?;
        self.state = state.clone();
        self.waited = self.clock.elapsed_seconds() - began;
        Ok(())
    }

    /// Waits until weights and moments may be written again.
    pub(crate) fn wait_for_release(&mut self) {
        let began = self.clock.elapsed_seconds();
        self.saver.wait_for_release();
        self.waited += self.clock.elapsed_seconds() - began;
    }

    /// Waits for the save that is under way, which is the last: nothing may be left unsaved.
    pub(crate) fn end(&mut self, record: &mut RunRecord, tracker: &mut Tracker, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let report = self.saver.wait()?;
        self.tell(Ok(report), record, tracker, observer)
    }

    /// A checkpoint is on the disk: only now does anyone hear of it. Or it could not be saved: once that is a warning, unless the policy is another.
    pub(crate) fn tell(
        &mut self,
        report: Result<Option<SaveReport>, CheckpointError>,
        record: &mut RunRecord,
        tracker: &mut Tracker,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let report = match report {
            Err(error)
                if error.exit_class() == ExitClass::Io && self.plan.checkpoint.on_failure == OnFailure::Retry && !self.has_failed =>
            {
                self.has_failed = true;
                let (step, reason) = (self.state.step, failure::chain(&error));
                let message = format!("step {step} could not be saved: {reason}; training goes on, and ends if the next save fails too");
                tracker.event("checkpoint_failed", Level::Error, &message, json!({ "step": step, "reason": reason }));
                observer.warning(&message);
                return Ok(());
            }
            report => report?,
        };
        let Some(SaveReport { checkpoint: saved, seconds }) = report else { return Ok(()) };
        self.has_failed = false;
        let data = json!({
            "step": saved.step,
            "bytes": saved.bytes,
            "manifest": saved.digest,
            "seconds": seconds,
            "waited_seconds": self.waited,
        });
        tracker.event("checkpoint", Level::Info, "saved", data);
        observer.saved(saved.step, &saved.path);
        keep_record(self.plan, record, &self.state, &self.baseline, self.clock)
    }
}

pub(crate) fn keep_record(
    plan: &RunPlan,
    record: &mut RunRecord,
    state: &TrainState,
    baseline: &Metrics,
    clock: &Arc<dyn Clock>,
) -> Result<(), TrainError> {
    record.step = state.step;
    record.updated = clock.now().to_rfc3339();
    let mut note = |prefix: &str, metrics: &Metrics| {
        record.summary.extend(metrics.named().map(|(name, value)| (format!("{prefix}/{name}"), value)));
    };
    note("baseline/unigram", baseline);
    if let Some(first) = &state.first_evaluation {
        note("first/validation", first);
    }
    if let Some(last) = &state.last_evaluation {
        note("validation", last);
    }
    for (set, metrics) in &state.sets {
        note(&split_of(set), metrics);
    }
    if let Some(loss) = state.train_loss {
        record.summary.insert("train/loss".to_owned(), loss);
    }
    Ok(plan.run.write_json("run.json", record)?)
}
