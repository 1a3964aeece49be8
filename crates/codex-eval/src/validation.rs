//! A model on the validation sets of a run: on the main ones together, and on each that has a name.

use std::collections::BTreeMap;

use codex_data::{TrainingData, ValidationSet, WindowLoader, Windows};
use codex_model::Decoder;

use crate::baseline::unigram;
use crate::error::EvalError;
use crate::evaluate::{EvalWindows, totals};
use crate::metrics::{EvalTotals, Metrics};

/// The validation sets of a run, cut into windows.
#[derive(Debug)]
pub struct Validation {
    sets: Vec<Set>,
    max_windows: u64,
    batch_size: usize,
    token_bytes: Vec<usize>,
}

#[derive(Debug)]
struct Set {
    /// Its name in the data; empty for the only one.
    name: String,
    /// Its name as a split of the metrics.
    split: String,
    is_main: bool,
    loader: WindowLoader,
}

/// The split of the main validation in metrics.
pub const VALIDATION: &str = "validation";

/// The split under which a validation set is in the metrics: `validation/NAME`.
pub fn split_of(name: &str) -> String {
    if name.is_empty() { VALIDATION.to_owned() } else { format!("{VALIDATION}/{name}") }
}

impl Validation {
    /// The sets of these data. At most `max_windows` of each are read, all where it is 0; `token_bytes` is the bytes of text that each token id stands for.
    ///
    /// # Errors
    /// A cache that is found damaged.
    pub fn new(
        data: &TrainingData,
        windows: &Windows,
        max_windows: u64,
        batch_size: usize,
        token_bytes: Vec<usize>,
    ) -> Result<Self, EvalError> {
        let set = |(set, loader): (&ValidationSet, WindowLoader)| Set {
            split: split_of(&set.name),
            name: set.name.clone(),
            is_main: set.is_main,
            loader,
        };
        Ok(Self { sets: data.validation_loaders(windows)?.into_iter().map(set).collect(), max_windows, batch_size, token_bytes })
    }

    fn windows<'w>(&self, set: &'w Set) -> EvalWindows<'w> {
        EvalWindows { name: &set.split, loader: &set.loader, max_windows: self.max_windows, batch_size: self.batch_size }
    }

    /// The windows that are read, of all sets.
    pub fn n_windows(&self) -> u64 {
        self.sets.iter().map(|set| self.windows(set).n_windows()).sum()
    }

    /// The windows that there are, of all sets.
    pub fn n_windows_of_text(&self) -> u64 {
        self.sets.iter().map(|set| set.loader.windows_per_epoch()).sum()
    }

    /// The unigram model of the training splits on the main validation.
    ///
    /// # Errors
    /// No target token.
    pub fn baseline(&self, data: &TrainingData) -> Result<Metrics, EvalError> {
        let windows: Vec<EvalWindows<'_>> = self.sets.iter().filter(|set| set.is_main).map(|set| self.windows(set)).collect();
        if windows.is_empty() {
            return Err(EvalError::Empty { split: VALIDATION.to_owned() });
        }
        unigram(&data.train_splits(), &windows, &self.token_bytes)
    }

    /// The model on the main validation, all target tokens weighing alike, and on each set that has a name. `tick` is told the windows done and to do,
    /// and answers whether to go on.
    ///
    /// # Errors
    /// A set without a target token, or with a loss that is no number; [`EvalError::Interrupted`].
    pub fn evaluate(
        &self,
        model: &Decoder,
        tick: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<(Metrics, BTreeMap<String, Metrics>), EvalError> {
        let all = self.n_windows();
        let (mut main, mut named, mut before) = (EvalTotals::default(), BTreeMap::new(), 0);
        for set in &self.sets {
            let windows = self.windows(set);
            let of_set = totals(model, &windows, &self.token_bytes, &mut |done, _| tick(before + done, all))?;
            before += windows.n_windows();
            if set.is_main {
                main.merge(&of_set);
            }
            if !set.name.is_empty() {
                named.insert(set.name.clone(), of_set.finite(&set.split)?);
            }
        }
        Ok((main.finite(VALIDATION)?, named))
    }
}
