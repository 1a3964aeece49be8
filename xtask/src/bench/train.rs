//! `bench train`: tokens per second and peak memory of a training step, beside PyTorch.

use anyhow::{Result, bail};
use serde::Deserialize;

use super::comparison::{Better, Comparison, Measure};
use super::options::{Precision, Train};
use super::program::Tokenizer;
use super::report::Outcome;
use super::run_files::{self, Steps};
use super::runner::{Job, Role, Sample, Side, interleave};
use super::session::Session;
use super::shape::Shape;
use super::statistics::Summary;
use super::table::measured;

/// Steps that are not counted, as many as the peer leaves out.
pub const WARMUP: u64 = 3;

/// What `torch_train.py` prints.
#[derive(Debug, Deserialize)]
pub struct PeerLine {
    /// Parameters of the model.
    pub parameters: u64,
    /// Median over the counted steps.
    pub tokens_per_s_median: f64,
    /// When its first step was done, in seconds since 1970.
    pub first_step_unix_s: f64,
}

/// Measures, and sums up.
pub fn run(session: &Session, options: &Train) -> Result<Outcome> {
    let tokenizer = session.tokenizer(options.vocab)?;
    let mut outcome = Outcome::default();
    let mut cases = Vec::new();
    for precision in dedup(&options.precision) {
        let setting = session.precision(precision)?;
        for arch in dedup(&options.arch) {
            cases.push((arch, precision, setting.clone()));
        }
    }
    cases.sort_by_key(|(arch, _, _)| arch.name());
    let mut progress = session.progress(cases.len() * 3 * session.rounds());
    for (arch, precision, setting) in cases {
        let shape = Shape {
            arch,
            d_model: options.d_model,
            n_layers: options.layers,
            n_heads: options.heads,
            context: options.context,
            batch: options.batch,
            vocab: tokenizer.vocab_size,
            is_tied: false,
        };
        let what = format!("training step, {}, {}", shape.line(), precision.name());
        let sides =
            interleave(&what, session.rounds(), jobs(session, &shape, &tokenizer, precision, setting, options.steps), &mut progress)?;
        let mut comparison = Comparison::new(&Measure::new(what, "tokens/s", Better::Higher), 0, &sides);
        comparison.notes.extend(before_save(&sides));
        outcome.add(comparison);
    }
    if tokenizer.vocab_size != options.vocab {
        outcome.notes.push(format!("the tokenizer reached {} of {} ids; both sides have as many", tokenizer.vocab_size, options.vocab));
    }
    Ok(outcome)
}

/// The peers save nothing; codex's whole run does, and its peak may be there.
fn before_save(sides: &[Side]) -> Option<String> {
    let codex = sides.iter().find(|side| side.role == Role::Codex)?;
    let peaks = codex.samples.iter().filter_map(|sample| sample.values.get(1).copied().flatten());
    let mb = measured(Summary::of(peaks)?.median / 1e6);
    Some(format!("codex's peak is that of the whole run, which ends with a save; until its last step it was {mb} MB (system.ndjson)"))
}

fn jobs<'a>(
    session: &'a Session,
    shape: &Shape,
    tokenizer: &'a Tokenizer,
    precision: Precision,
    setting: Result<Option<String>, String>,
    steps: u64,
) -> Vec<Job<'a>> {
    let shape = *shape;
    let mut jobs = vec![match setting {
        Ok(setting) => Job::new("codex", Role::Codex, move |_| measure_codex(session, &shape, tokenizer, setting.as_deref(), steps)),
        Err(why) => Job::absent("codex", Role::Codex, why),
    }];
    let modes = match precision {
        Precision::F32 => ["eager", "compile"],
        Precision::Bf16 => ["bf16", "bf16-compile"],
    };
    for mode in modes {
        let name = format!("{} {mode}", session.python.name("torch"));
        jobs.push(match session.python.missing(&["torch", "numpy"]) {
            Some(why) => Job::absent(name, Role::Peer, why),
            None => Job::new(name, Role::Peer, move |_| measure_peer(session, &shape, mode, steps)),
        });
    }
    jobs
}

fn measure_codex(session: &Session, shape: &Shape, tokenizer: &Tokenizer, precision: Option<&str>, steps: u64) -> Result<Sample> {
    let mut settings = session.settings(shape, tokenizer, WARMUP + steps);
    settings.extend(precision.map(str::to_owned));
    settings.extend(
        ["train.learning_rate=1e-3", "train.schedule=constant", "train.accumulation=1", "train.grad_clip_norm=1.0"].map(str::to_owned),
    );
    let run = session.program.train(&settings, &session.log(&format!("codex-{}", shape.arch.name())))?;
    let rates = Steps::read(&run.folder)?.rates_after(WARMUP);
    if rates.len() as u64 != steps {
        bail!("`{}` has {} steps to count instead of {steps}", run.folder.display(), rates.len());
    }
    let checkpoint = run_files::newest_checkpoint(&run.folder)?;
    let parameters = run_files::count_parameters(&checkpoint.join("model.safetensors"))?;
    let before_save = run_files::peak_of_steps(&run.folder);
    let finished = run.remove()?;
    let median = Summary::of(rates).map(|summary| summary.median);
    Ok(Sample { parameters: Some(parameters), ..Sample::of(vec![median, before_save], &finished) })
}

fn measure_peer(session: &Session, shape: &Shape, mode: &str, steps: u64) -> Result<Sample> {
    let mut arguments = shape.peer_arguments();
    arguments.extend(session.peer_threads());
    arguments.extend(["--mode", mode].map(str::to_owned));
    arguments.extend(["--steps".to_owned(), steps.to_string(), "--warmup".to_owned(), WARMUP.to_string()]);
    let log = session.log(&format!("torch-{}-{mode}", shape.arch.name()));
    let (finished, line) = session.python.run::<PeerLine>("torch_train.py", &arguments, &log)?;
    Ok(Sample { parameters: Some(line.parameters), ..Sample::of(vec![Some(line.tokens_per_s_median)], &finished) })
}

/// Each value once, in the order of its first appearance.
fn dedup<T: Copy + PartialEq>(values: &[T]) -> Vec<T> {
    let mut found: Vec<T> = Vec::new();
    for value in values {
        if !found.contains(value) {
            found.push(*value);
        }
    }
    found
}
