//! Everything that the loop changes besides weights and moments: exactly what a checkpoint holds as `state.json`.

use std::collections::BTreeMap;

use codex_data::Cursor;
use codex_eval::Metrics;
use serde::{Deserialize, Serialize};

use crate::config::PatienceMetric;
use crate::loss_scale::LossScale;
use crate::spikes::Spikes;

/// Where training stands. Streams need no state here: each draw is a function of (seed, purpose, step).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    /// Optimizer steps taken.
    pub step: u64,
    /// The next window.
    pub cursor: Cursor,
    /// Target tokens seen.
    pub tokens: u64,
    /// Mean loss of the last step.
    pub train_loss: Option<f64>,
    /// The evaluation before the first step.
    pub first_evaluation: Option<Metrics>,
    /// The newest evaluation.
    pub last_evaluation: Option<Metrics>,
    /// The same of each validation set that has a name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sets: BTreeMap<String, Metrics>,
    /// The step after which it was made.
    pub last_evaluation_step: Option<u64>,
    /// The lowest validation loss and the step it was found at.
    pub best: Option<(u64, f64)>,
    /// Evaluations since the best value of what `train.patience_metric` names.
    pub without_improvement: u64,
    /// That value, higher being better, where it is not the loss of the main validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_metric: Option<f64>,
    /// The factor of the loss, with products in f16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
    /// What steps were like, where those that stand out are skipped.
    #[serde(default)]
    pub spikes: Spikes,
}

impl TrainState {
    /// Before the first step.
    pub fn new() -> Self {
        Self {
            step: 0,
            cursor: Cursor { position: 0 },
            tokens: 0,
            train_loss: None,
            first_evaluation: None,
            last_evaluation: None,
            sets: BTreeMap::new(),
            last_evaluation_step: None,
            best: None,
            without_improvement: 0,
            best_metric: None,
            loss_scale: None,
            spikes: Spikes::default(),
        }
    }

    /// Takes note of an evaluation after the current step, of the main validation and of each set with a name; tells whether the main one is the best so
    /// far. Patience looks at a metric of the set of this name, or of the main validation where it is empty.
    pub fn evaluated(&mut self, metrics: Metrics, sets: BTreeMap<String, Metrics>, (set, patience): (&str, PatienceMetric)) -> bool {
        let watched = sets.get(set).copied().unwrap_or(metrics);
        self.sets = sets;
        if self.first_evaluation.is_none() {
            self.first_evaluation = Some(metrics);
        }
        self.last_evaluation = Some(metrics);
        self.last_evaluation_step = Some(self.step);
        let is_best = self.best.is_none_or(|(_, loss)| metrics.loss < loss);
        if is_best {
            self.best = Some((self.step, metrics.loss));
        }
        let is_better = match patience {
            PatienceMetric::Loss if set.is_empty() => is_best,
            PatienceMetric::Loss => self.is_better(-watched.loss),
            PatienceMetric::TokenAccuracy => self.is_better(watched.token_accuracy),
        };
        self.without_improvement = if is_better { 0 } else { self.without_improvement + 1 };
        is_best
    }

    /// Whether what patience looks at is higher than ever.
    fn is_better(&mut self, value: f64) -> bool {
        let is_better = self.best_metric.is_none_or(|best| value > best);
        if is_better {
            self.best_metric = Some(value);
        }
        is_better
    }
}

impl TrainState {
    /// The evaluation of these very weights, if there was one.
    pub fn evaluation_of_this_step(&self) -> Option<&Metrics> {
        self.last_evaluation.as_ref().filter(|_| self.last_evaluation_step == Some(self.step))
    }
}

impl Default for TrainState {
    fn default() -> Self {
        Self::new()
    }
}
