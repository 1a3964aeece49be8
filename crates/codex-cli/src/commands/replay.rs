//! `replay`: takes steps of a run again from a checkpoint, and compares losses, gradient norms and digests with what the run wrote down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use codex_checkpoint::{CheckpointStore, FolderStore, tensor_file};
use codex_track::{RunDir, RunRecord, series};
use codex_train::replay::{ReplayedStep, TensorDigests, replay};
use serde_json::{Value, json};

use crate::arguments::Replay;
use crate::commands::earlier_run::plan_key;
use crate::commands::train::plan;
use crate::failure::CliError;
use crate::stored_model::{self, Base, checkpoints_of, newest_run};
use crate::terminal::{Terminal, table};
use crate::{device, memory, prepared, run_config};

/// Steps where no number is given and no checkpoint follows.
const STEPS: u64 = 100;

/// How near losses and norms must be where bits cannot be the same: other instructions or another device add in another order.
const NEAR: f64 = 1e-2;

pub(super) fn run(arguments: &Replay, terminal: &Terminal) -> Result<(), CliError> {
    let path = arguments.run.clone().map_or_else(|| newest_run(Path::new("runs")), Ok)?;
    let store = checkpoints_of(&path)?;
    let (run, mut config) = (RunDir::open(&path)?, run_config::of_run(&path)?);
    let record = RunRecord::read(&run)?;
    let from = first_step(arguments, &store, &path)?;
    let n_steps = arguments.steps.unwrap_or_else(|| to_next(&store, from).unwrap_or(STEPS).min(STEPS));

    // The device that it is taken again on.
    config.run.threads = arguments.threads.unwrap_or(0);
    if let Some(name) = &arguments.instruction_set {
        device::instruction_set(name)
            .map_err(|message| CliError::usage(format!("`--instruction-set {name}`: {message}"), "see `codex-cli doctor`"))?;
        device::choose_instruction_set(name);
    }
    device::set_threads(config.run.threads)?;
    let wanted = arguments.device.clone().unwrap_or_else(|| record.device.clone());
    let (burn_device, device_name) = device::open(&wanted)?;
    let instruction_set = device::instruction_set_of(device_name);
    let is_exact = device_name == record.device && instruction_set == record.instruction_set;

    // What it was trained on.
    let base = config.run.base.as_deref().map(stored_model::base).transpose()?.map(Base::read_when_needed);
    let prepared = prepared::prepare(&config, base, &prepared::cache_root(&config), terminal)?;
    let key = plan_key(&config, &prepared)?;
    if key != record.plan_digest {
        let reason = format!("its plan has the digest {}, and what its configuration and data make now has {key}", record.plan_digest);
        return Err(CliError::Integrity { path, reason, hint: "bring back the data, the base and the program that it was trained with" });
    }
    let loaded = store.load(from)?;
    let mut expected = recorded(&run, &store, from, n_steps)?;
    if expected.steps.is_empty() {
        let what = format!("`{}` has no record of a step after {from}", path.display());
        return Err(CliError::usage(what, "take an earlier checkpoint: `codex-cli checkpoint list`"));
    }
    memory::set_pool(config.run.pool_mib);
    let plan = plan(&config, prepared, run, None);
    let digests_at: BTreeSet<u64> = expected.digests.keys().copied().collect();
    let n_steps = n_steps.min(expected.steps.len() as u64);
    let has_bar = terminal.start_bar(n_steps, 0, "replaying {bar:24} {pos}/{len} steps  ETA {eta}");
    let mut taken = Vec::new();
    let outcome = device::in_pool(|| {
        replay(&plan, &burn_device, loaded, n_steps, &digests_at, &mut |step| {
            taken.push(Compared::new(step, &mut expected, is_exact));
            if has_bar {
                terminal.move_bar(taken.len() as u64, String::new());
            }
            true
        })
    });
    terminal.end_bar();
    outcome?;
    tell(&Told { path: &path, from, level: level(is_exact), on: (device_name, instruction_set), record: &record, taken: &taken }, terminal)
}

fn first_step(arguments: &Replay, store: &FolderStore, path: &Path) -> Result<u64, CliError> {
    let steps = store.steps()?;
    match arguments.from {
        Some(from) if steps.contains(&from) => Ok(from),
        Some(from) => {
            let known: Vec<String> = steps.iter().map(u64::to_string).collect();
            let what = format!("`{}` has no checkpoint of step {from}; it has {}", path.display(), known.join(", "));
            Err(CliError::usage(what, "take one of these, and keep more with `checkpoint.keep_last`"))
        }
        None => steps.first().copied().ok_or_else(|| {
            CliError::usage(format!("`{}` has no checkpoint", path.display()), "train it for at least one step: `codex-cli train`")
        }),
    }
}

/// Steps from a checkpoint to the next.
fn to_next(store: &FolderStore, from: u64) -> Option<u64> {
    store.steps().ok()?.into_iter().find(|&step| step > from).map(|step| step - from)
}

/// What a run wrote down of its steps.
struct Recorded {
    /// Loss and gradient norm.
    steps: BTreeMap<u64, (f64, f64)>,
    /// Of the checkpoints among them.
    digests: BTreeMap<u64, TensorDigests>,
}

fn recorded(run: &RunDir, store: &FolderStore, from: u64, n_steps: u64) -> Result<Recorded, CliError> {
    let (losses, norms) = (series(run, "train", "loss")?, series(run, "train", "grad_norm")?);
    let last = from.saturating_add(n_steps);
    let steps = losses.range(from + 1..=last).filter_map(|(step, loss)| Some((*step, (*loss, *norms.get(step)?)))).collect();
    let mut digests = BTreeMap::new();
    for step in store.steps()?.into_iter().filter(|&step| step > from && step <= last) {
        let loaded = store.load(step)?;
        let of =
            |tensors| tensor_file::digest(tensors).map_err(|reason| CliError::Integrity { path: loaded.path.clone(), reason, hint: "" });
        digests.insert(step, TensorDigests { weights: of(&loaded.weights)?, moments: of(&loaded.moments)? });
    }
    Ok(Recorded { steps, digests })
}

/// A step beside what the run wrote down of it.
struct Compared {
    step: u64,
    was: (f64, f64),
    is: (f64, f64),
    /// Of a checkpoint: whether the weights and what the optimizer keeps are the same.
    tensors: Option<(bool, bool)>,
    holds: bool,
}

impl Compared {
    fn new(step: &ReplayedStep, expected: &mut Recorded, is_exact: bool) -> Self {
        let was = expected.steps.remove(&step.step).unwrap_or((f64::NAN, f64::NAN));
        let is = (step.loss, step.grad_norm);
        let tensors =
            step.tensors.zip(expected.digests.get(&step.step)).map(|(is, was)| (is.weights == was.weights, is.moments == was.moments));
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        let near = |a: f64, b: f64| (a - b).abs() <= NEAR * b.abs();
        let holds = if is_exact {
            same(is.0, was.0) && same(is.1, was.1) && tensors.is_none_or(|(weights, moments)| weights && moments)
        } else {
            near(is.0, was.0) && near(is.1, was.1)
        };
        Self { step: step.step, was, is, tensors, holds }
    }

    fn to_json(&self) -> Value {
        json!({
            "step": self.step, "holds": self.holds, "loss": { "recorded": self.was.0, "replayed": self.is.0 },
            "grad_norm": { "recorded": self.was.1, "replayed": self.is.1 },
            "same_weights": self.tensors.map(|(weights, _)| weights), "same_optimizer": self.tensors.map(|(_, moments)| moments),
        })
    }
}

fn level(is_exact: bool) -> &'static str {
    if is_exact { "bit-exact" } else { "near" }
}

struct Told<'a> {
    path: &'a PathBuf,
    from: u64,
    level: &'static str,
    on: (&'static str, &'static str),
    record: &'a RunRecord,
    taken: &'a [Compared],
}

fn tell(told: &Told<'_>, terminal: &Terminal) -> Result<(), CliError> {
    let &Told { path, from, level, on, record, taken } = told;
    let first_wrong = taken.iter().find(|step| !step.holds);
    let n_checkpoints = taken.iter().filter(|step| step.tensors.is_some()).count();
    let bits = taken.iter().all(|step| step.is.0.to_bits() == step.was.0.to_bits() && step.is.1.to_bits() == step.was.1.to_bits());
    let value = json!({
        "run": path, "from": from, "steps": taken.iter().map(Compared::to_json).collect::<Vec<_>>(), "level": level, "holds": first_wrong.is_none(),
        "same_bits": bits, "device": on.0, "instruction_set": on.1, "device_of_the_run": record.device,
        "instruction_set_of_the_run": record.instruction_set, "checkpoints_compared": n_checkpoints,
    });
    let named = |device: &str, set: &str| if set.is_empty() { device.to_owned() } else { format!("{device} with {set}") };
    terminal.result(&value, || {
        let shown = taken.iter().filter(|step| step.tensors.is_some() || !step.holds).chain(taken.iter().take(3)).map(|step| step.step);
        let shown: BTreeSet<u64> = shown.take(20).collect();
        let rows = taken.iter().filter(|step| shown.contains(&step.step)).map(|step| {
            let mark = |same: bool| if same { "same" } else { "differs" };
            let tensors = step.tensors.map_or_else(String::new, |(weights, moments)| format!("{} / {}", mark(weights), mark(moments)));
            let verdict = if step.holds { level } else { "DIFFERS" };
            vec![
                step.step.to_string(),
                format!("{:?}", step.was.0),
                format!("{:?}", step.is.0),
                format!("{:?}", step.is.1),
                tensors,
                verdict.to_owned(),
            ]
        });
        let text = table(&["step", "loss then", "loss now", "gradient norm now", "weights / optimizer", ""], rows);
        let on = named(on.0, on.1);
        let of = named(&record.device, &record.instruction_set);
        let what = if level == "bit-exact" {
            "the same bits were demanded".to_owned()
        } else {
            format!("it was trained on {of}: losses and norms within {:.0} % were demanded", 100.0 * NEAR)
        };
        let verdict = match first_wrong {
            None => format!("{} steps from {from} on hold", taken.len()),
            Some(step) => format!("step {} differs", step.step),
        };
        format!("{text}\n{}: {verdict}, and {n_checkpoints} checkpoints were compared; on {on}, where {what}", path.display())
    })?;
    match first_wrong {
        None => Ok(()),
        Some(step) => Err(CliError::Integrity {
            path: path.clone(),
            reason: format!(
                "step {} has loss {:?} and gradient norm {:?}, and had {:?} and {:?}",
                step.step, step.is.0, step.is.1, step.was.0, step.was.1
            ),
            hint: "compare program, data and device: `codex-cli runs verify`, `run.json`, `environment.json`",
        }),
    }
}
