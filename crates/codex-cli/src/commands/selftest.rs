//! `selftest`: the promises of this program, measured on the user's own model and device.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use codex_checkpoint::{CheckpointConfig, CheckpointStore, FolderStore, Snapshot};
use codex_core::{Clock, Digest, SystemClock};
use codex_model::{Decoder, KvCache, LossSettings, Precision, Targets, WindowBatch, parameters};
use codex_tokenize::Tokenizer;
use codex_train::gradients::GradientSum;
use serde::Serialize;
use serde_json::json;

use crate::arguments::Selftest;
use crate::failure::CliError;
use crate::stored_model::{self, newest_model};
use crate::terminal::{Terminal, table};
use crate::{corpus, device, memory};

/// Most positions of a window.
const MOST: usize = 64;
/// Windows of a batch: halved, it is accumulated.
const ROWS: usize = 4;
/// Largest difference, relative to the largest number, of sums that are made in another order.
const NEAR: f64 = 1e-4;

/// What is promised of one thing done in two ways.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    what: String,
    /// Largest difference, relative to the largest number; 0 where bits are the same.
    difference: f64,
    /// The largest that is allowed.
    allowed: f64,
    holds: bool,
    seconds: f64,
}

/// Gradients by path, and the loss.
type Found = (f64, BTreeMap<String, Vec<f32>>);

pub(super) fn run(arguments: &Selftest, terminal: &Terminal) -> Result<(), CliError> {
    let (device, device_name) = device::open(&arguments.device)?;
    let path = arguments.model.clone().map_or_else(|| newest_model(Path::new("runs"), terminal), Ok)?;
    let found = stored_model::find(&path, "latest")?;
    let training = found.network(&device.clone().autodiff())?;
    memory::set_pool(1024);
    let model = training.clone().valid();
    let subject =
        Subject { time: MOST.min(model.config().context_length), ids: ids(found.known_tokenizer().as_deref(), &model)?, model, training };
    let is_exact = device::is_fused(device_name);
    let mut checks = Vec::new();
    let mut check = |name, what: String, allowed: f64, measure: &(dyn Fn() -> Result<f64, CliError> + Sync)| -> Result<(), CliError> {
        let clock = SystemClock::new();
        let difference = device::in_pool(measure)?;
        checks.push(Check { name, what, difference, allowed, holds: difference <= allowed, seconds: clock.elapsed_seconds() });
        Ok(())
    };
    let near = |name: &str| format!("{name}, relative to the largest");
    check("cached = uncached", near("scores of each next token"), NEAR, &|| subject.cached())?;
    check("packed = unpacked", near("loss and gradients of two documents in one window"), NEAR, &|| subject.packed())?;
    check("accumulated = one batch", near("gradients of 2 + 2 windows and of 4"), NEAR, &|| subject.accumulated())?;
    let n_threads = rayon::current_num_threads();
    let bits = if is_exact { 0.0 } else { NEAR };
    check("threads 1 = n", format!("loss and gradients on 1 and on {n_threads} threads"), bits, &|| subject.threads())?;
    check("saved = loaded", "every number of a checkpoint read again".to_owned(), 0.0, &|| subject.saved())?;
    let seconds: f64 = checks.iter().map(|check| check.seconds).sum();
    let holds = checks.iter().all(|check| check.holds);
    let instruction_set = device::instruction_set_of(device_name);
    let value = json!({ "model": path, "device": device_name, "instruction_set": instruction_set, "holds": holds, "seconds": seconds, "checks": checks });
    terminal.result(&value, || {
        let rows = checks.iter().map(|check| {
            let difference = if check.difference == 0.0 { "none".to_owned() } else { format!("{:.1e}", check.difference) };
            let allowed = if check.allowed == 0.0 { "none".to_owned() } else { format!("{:.0e}", check.allowed) };
            let verdict = if check.holds { "holds" } else { "FAILS" };
            vec![check.name.to_owned(), check.what.clone(), difference, allowed, verdict.to_owned()]
        });
        let text = table(&["promise", "what is compared", "difference", "allowed", ""], rows);
        format!("{text}\n{} on {device_name} {instruction_set}, {seconds:.1} s", path.display())
    })?;
    match checks.iter().find(|check| !check.holds) {
        None => Ok(()),
        Some(check) => Err(CliError::Integrity {
            path,
            reason: format!(
                "`{}` does not hold: a difference of {:.1e} where {:.0e} is allowed",
                check.name, check.difference, check.allowed
            ),
            hint: "please report it with the output of `codex-cli doctor`; `run.instruction_set=portable` may help meanwhile",
        }),
    }
}

/// Tokens to compute with: of a novel where the model has a tokenizer.
fn ids(tokenizer: Option<&dyn Tokenizer>, model: &Decoder) -> Result<Vec<u32>, CliError> {
    let n = ROWS * MOST + 1;
    let vocab_size = model.vocab_size();
    let text = corpus::sample_text()?;
    let mut found: Vec<u32> = tokenizer.map(|tokenizer| tokenizer.encode(&text)).transpose()?.unwrap_or_default();
    found.retain(|id| (*id as usize) < vocab_size);
    found.truncate(n);
    let len = found.len();
    found.extend((len..n).map(|i| ((i * 7919 + 1) % vocab_size) as u32));
    Ok(found)
}

struct Subject {
    model: Decoder,
    training: Decoder,
    ids: Vec<u32>,
    time: usize,
}

impl Subject {
    fn cached(&self) -> Result<f64, CliError> {
        let ids = &self.ids[..self.time];
        let whole = parameters::to_host("scores", self.model.forward(&batch(1, ids, None))?)?.values;
        let mut cache = KvCache::new(Precision::F32);
        let mut apart = Apart::default();
        for (id, scores) in ids.chunks(1).zip(whole.chunks(self.model.vocab_size())) {
            let one = parameters::to_host("scores", self.model.forward_cached(id, &mut cache)?)?.values;
            apart.add(scores, &one);
        }
        Ok(apart.relative())
    }

    fn packed(&self) -> Result<f64, CliError> {
        // Each document's last token has no target.
        let half = (self.time / 2).max(1);
        let inputs = &self.ids[..2 * half];
        let targets: Vec<u32> = self.ids[1..=2 * half].to_vec();
        let weights: Vec<f32> = (0..2 * half).map(|i| if (i + 1) % half == 0 { 0.0 } else { 1.0 }).collect();
        let segments: Vec<u32> = (0..2 * half).map(|i| (i / half) as u32).collect();
        let one_window = self.gradients(&[(batch(1, inputs, Some(&segments)), &targets, &weights)])?;
        let two_windows = self.gradients(&[(batch(2, inputs, None), &targets, &weights)])?;
        Ok(apart(&one_window, &two_windows))
    }

    fn accumulated(&self) -> Result<f64, CliError> {
        let (n, half) = (ROWS * self.time, ROWS / 2 * self.time);
        let (inputs, targets, weights) = (&self.ids[..n], &self.ids[1..=n], vec![1.0; n]);
        let whole = self.gradients(&[(batch(ROWS, inputs, None), targets, &weights)])?;
        let parts = [
            (batch(ROWS / 2, &inputs[..half], None), &targets[..half], &weights[..half]),
            (batch(ROWS / 2, &inputs[half..], None), &targets[half..], &weights[half..]),
        ];
        Ok(apart(&whole, &self.gradients(&parts)?))
    }

    fn threads(&self) -> Result<f64, CliError> {
        let n = ROWS * self.time;
        let weights = vec![1.0; n];
        let all = || self.gradients(&[(batch(ROWS, &self.ids[..n], None), &self.ids[1..=n], &weights)]);
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let alone = alone.map_err(|error| CliError::usage(format!("no thread can be started: {error}"), "close other programs"))?;
        let (one, many) = (alone.install(all)?, all()?);
        // Bits, not distances: zero has two.
        let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
        let is_same = one.0.to_bits() == many.0.to_bits() && one.1.iter().all(|(path, values)| same(values, &many.1[path]));
        Ok(if is_same { 0.0 } else { apart(&one, &many).max(f64::MIN_POSITIVE) })
    }

    fn saved(&self) -> Result<f64, CliError> {
        let folder = tempfile::tempdir().map_err(|source| CliError::Output { source })?;
        let weights = parameters::collect_trained(&self.training)?;
        let snapshot = Snapshot {
            step: 1,
            plan: Digest::of_bytes(b"selftest"),
            weights: weights.clone(),
            moments: BTreeMap::new(),
            state: json!({}),
            metrics: BTreeMap::new(),
            extra: Vec::new(),
            lease: None,
        };
        FolderStore::open(folder.path(), &CheckpointConfig::default())?.save(snapshot)?;
        let loaded = FolderStore::read_only(folder.path())?.load(1)?.weights;
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let is_same =
            loaded.len() == weights.len() && weights.iter().all(|(path, tensor)| bits(&tensor.values) == bits(&loaded[path].values));
        Ok(if is_same { 0.0 } else { f64::INFINITY })
    }

    /// The loss and the gradients of several batches, added.
    fn gradients(&self, batches: &[(WindowBatch<'_>, &[u32], &[f32])]) -> Result<Found, CliError> {
        let (mut sum, mut loss) = (GradientSum::default(), 0.0);
        for (windows, ids, weights) in batches {
            let part = self.training.loss(windows, Targets { ids, weights, settings: LossSettings::default() })?;
            loss += parameters::to_host("loss", part.sum.clone().detach())?.values.first().map_or(f64::NAN, |&sum| f64::from(sum));
            sum.add(&self.training, &mut part.sum.backward());
        }
        Ok((loss, sum.to_host()?))
    }
}

fn batch<'a>(n_rows: usize, inputs: &'a [u32], segments: Option<&'a [u32]>) -> WindowBatch<'a> {
    WindowBatch { n_rows, inputs, segments, dropout: None }
}

/// How far two series of numbers are apart.
#[derive(Default)]
struct Apart {
    difference: f64,
    largest: f64,
}

impl Apart {
    fn add(&mut self, a: &[f32], b: &[f32]) {
        for (a, b) in a.iter().zip(b) {
            let difference = (f64::from(*a) - f64::from(*b)).abs();
            // A number that is none is infinitely far from all.
            self.difference = if difference.is_nan() { f64::INFINITY } else { self.difference.max(difference) };
            self.largest = self.largest.max(f64::from(*a).abs());
        }
    }

    fn relative(&self) -> f64 {
        if self.difference == 0.0 { 0.0 } else { self.difference / self.largest.max(f64::MIN_POSITIVE) }
    }
}

/// The largest of the relative differences of the loss and of each gradient.
fn apart(a: &Found, b: &Found) -> f64 {
    let loss = (a.0 - b.0).abs() / a.0.abs().max(f64::MIN_POSITIVE);
    let gradients = a.1.iter().map(|(path, values)| {
        let mut apart = Apart::default();
        match b.1.get(path) {
            Some(others) => apart.add(values, others),
            None => return f64::INFINITY,
        }
        apart.relative()
    });
    gradients.fold(if loss.is_nan() { f64::INFINITY } else { loss }, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_model::ModelConfig;

    fn subject() -> Subject {
        let config = ModelConfig { d_model: 16, n_layers: 2, n_heads: 2, n_kv_heads: 2, context_length: 16, ..ModelConfig::default() };
        let (device, _) = device::open("flex").unwrap();
        let training = Decoder::init(&config, 50, 3, &device.autodiff()).unwrap();
        let model = training.clone().valid();
        Subject { ids: ids(None, &model).unwrap(), model, training, time: 16 }
    }

    #[test]
    fn every_promise_holds_on_a_fresh_network() {
        let subject = subject();
        for difference in [subject.cached(), subject.packed(), subject.accumulated()] {
            let difference = difference.unwrap();
            assert!(difference < NEAR, "{difference}");
        }
        assert_eq!((subject.threads().unwrap(), subject.saved().unwrap()), (0.0, 0.0));
    }

    #[test]
    fn what_is_not_the_same_is_far_apart() {
        let subject = subject();
        let ids = &subject.ids;
        let weights = [1.0; 16];
        let found =
            |inputs: &[u32], segments: Option<&[u32]>| subject.gradients(&[(batch(1, inputs, segments), &ids[1..17], &weights)]).unwrap();
        let one = found(&ids[..16], None);
        // Attention that stays within documents, one other token, half a batch.
        let segments: Vec<u32> = (0..16).map(|i| i / 8).collect();
        let mut other = ids[..16].to_vec();
        other[3] = (other[3] + 1) % 50;
        let half = subject.gradients(&[(batch(1, &ids[..8], None), &ids[1..9], &weights[..8])]).unwrap();
        for different in [&found(&ids[..16], Some(&segments)), &found(&other, None), &half] {
            assert!(apart(&one, different) > 10.0 * NEAR, "{}", apart(&one, different));
        }
        assert!(apart(&one, &one) <= 0.0);
        let mut less = one.clone();
        less.1.pop_first();
        assert!(apart(&one, &less).is_infinite(), "a gradient that is missing");
        let mut wild = one.clone();
        wild.1.values_mut().next().unwrap()[0] = f32::NAN;
        assert!(apart(&one, &wild).is_infinite(), "a number that is none");
    }
}
