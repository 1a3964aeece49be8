//! `bench checkpoint`: how long training waits for a save, beside copying the same bytes and beside safetensors from Python.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::comparison::{Better, Comparison, Measure};
use super::options::Checkpoint;
use super::process::{self, Finished};
use super::report::Outcome;
use super::run_files::{Save, Steps, saves};
use super::runner::{Job, Role, Sample, interleave};
use super::session::Session;
use super::shape::Shape;
use super::statistics::Summary;
use super::stored_model::StoredModel;
use super::table::{grouped, measured};

/// Steps between saves: one that a save goes on beside, and others.
const EVERY: u64 = 3;

/// What `safetensors_save.py` prints.
#[derive(Deserialize)]
struct PeerLine {
    bytes: u64,
    seconds: f64,
}

/// Measures, and sums up.
pub fn run(session: &Session, options: &Checkpoint) -> Result<Outcome> {
    let model = StoredModel::of(session, options.shape)?;
    let bytes = size_of(&model.checkpoint)?;
    let what = format!("a save of {} parameters with AdamW's moments, {:.0} MB", grouped(model.parameters), bytes as f64 / 1e6);
    let mut progress = session.progress(3 * session.rounds());
    let codex = Job::new("codex", Role::Codex, |_| measure_codex(session, options, bytes));
    let copy = Job::new("cp, then sync of each file", Role::Peer, |_| measure_copy(session, &model.checkpoint, bytes));
    let name = format!("{} from numpy, fsync", session.python.name("safetensors"));
    let python = match session.python.missing(&["safetensors", "numpy"]) {
        Some(why) => Job::absent(name, Role::Reference, why),
        None => Job::new(name, Role::Reference, |_| measure_python(session, &model.checkpoint)),
    };
    let sides = interleave(&what, session.rounds(), vec![codex, copy, python], &mut progress)?;
    let mut outcome = Outcome::default();
    outcome.notes.extend(model.note(options.shape));
    outcome.add(Comparison::new(&Measure::new(format!("the bandwidth of {what}"), "MB/s", Better::Higher), 0, &sides));
    outcome.add(Comparison::new(&Measure::new(format!("the time of {what}"), "ms", Better::Lower), 1, &sides));
    let codex = |index: usize| Summary::of(sides[0].samples.iter().filter_map(|sample| sample.values.get(index).copied().flatten()));
    if let (Some(step), Some(beside), Some(waited), Some(lost)) = (codex(2), codex(3), codex(4), codex(5)) {
        let share = |summary: &Summary| 100.0 * summary.median / step.median;
        outcome.notes.push(format!(
            "beside training a save takes {} ms; training waits {} ms for it, {:.1} % of a step of {} ms ({}); with what saving takes of the \
             processors, {} ms ({:.1} %) are lost for each save",
            measured(beside.median),
            measured(waited.median),
            share(&waited),
            measured(step.median),
            model.shape.line(),
            measured(lost.median),
            share(&lost),
        ));
    }
    outcome.notes.push(
        "codex: the save that ends a run, when nothing else is at work, from its begin until it is whole on the disk: digests, writing, fsync \
         of files and folders, renaming, pointers. cp: the same files from the page cache to a new folder, then fsync. safetensors: \
         both files of tensors that are in memory, no digests, fsync. Waiting: what the run's events say. Lost: the median of the steps beside a \
         save less that of the others"
            .to_owned(),
    );
    Ok(outcome)
}

fn measure_codex(session: &Session, options: &Checkpoint, bytes: u64) -> Result<Sample> {
    settle(session, bytes)?;
    let asked = options.shape.shape();
    let tokenizer = session.tokenizer(asked.vocab)?;
    let shape = Shape { vocab: tokenizer.vocab_size, ..asked };
    let mut settings = session.settings(&shape, &tokenizer, EVERY * (options.saves + 1));
    settings.retain(|setting| !setting.starts_with("checkpoint.every_steps="));
    settings.push(format!("checkpoint.every_steps={EVERY}"));
    let run = session.program.train(&settings, &session.log("codex-saves"))?;
    let steps = Steps::read(&run.folder)?;
    let path = run.folder.join("events.ndjson");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let saves = saves(&text).with_context(|| format!("cannot read `{}`", path.display()))?;
    let Some((last, beside)) = saves.split_last() else { bail!("`{}` tells of no save", path.display()) };
    let tokens = (shape.batch * shape.context) as f64;
    // The first step finds everything cold.
    let duration = |is_beside: bool| {
        let wanted = steps.by_step.iter().filter(|&(&step, _)| step > 1 && (step % EVERY == 1) == is_beside);
        Summary::of(wanted.map(|(_, (rate, _))| 1e3 * tokens / rate)).map(|summary| summary.median)
    };
    let (alone, beside_a_save) = (duration(false), duration(true));
    let median = |value: fn(&Save) -> f64| Summary::of(beside.iter().map(value)).map(|summary| summary.median);
    let values = vec![
        Some(last.bytes as f64 / 1e6 / last.seconds),
        Some(1e3 * last.seconds),
        alone,
        median(|save| 1e3 * save.seconds),
        median(|save| 1e3 * save.waited_seconds),
        beside_a_save.zip(alone).map(|(beside, alone)| beside - alone),
    ];
    let finished = run.remove()?;
    Ok(without_memory(values, &finished))
}

fn measure_copy(session: &Session, from: &Path, bytes: u64) -> Result<Sample> {
    let to = session.folder.join("copy");
    remove(&to)?;
    settle(session, bytes)?;
    let mut copy = Command::new("sh");
    copy.args(["-c", "cp -r \"$1\" \"$2\" && sync \"$2\"/* \"$2\" \"$(dirname \"$2\")\"", "sh"]).arg(from).arg(&to);
    let finished = process::run(&mut copy, &session.log("cp"))?;
    if size_of(&to)? != bytes {
        bail!("`{}` is not what was copied", to.display());
    }
    remove(&to)?;
    Ok(without_memory(vec![Some(bytes as f64 / 1e6 / finished.seconds), Some(1e3 * finished.seconds)], &finished))
}

fn measure_python(session: &Session, from: &Path) -> Result<Sample> {
    let to = session.folder.join("copy");
    remove(&to)?;
    settle(session, size_of(from)?)?;
    let arguments = [from, &to].map(|path| path.display().to_string());
    let (finished, line) = session.python.run::<PeerLine>("safetensors_save.py", &arguments, &session.log("safetensors"))?;
    remove(&to)?;
    Ok(without_memory(vec![Some(line.bytes as f64 / 1e6 / line.seconds), Some(1e3 * line.seconds)], &finished))
}

/// The memory of a training run beside that of `cp` would say nothing.
fn without_memory(values: Vec<Option<f64>>, finished: &Finished) -> Sample {
    Sample { peak_rss_bytes: None, ..Sample::of(values, finished) }
}

/// Lets the disk finish what others wrote before the clock runs, and has the machine's memory touched: in a virtual machine the first use of a
/// page waits for the host, and a side that happens to get such pages for its file would be measured with a multiple of its time.
fn settle(session: &Session, bytes: u64) -> Result<()> {
    let path = session.folder.join("warm");
    let failed = || format!("cannot write `{}`", path.display());
    let mut file = fs::File::create(&path).with_context(failed)?;
    let piece = vec![1_u8; 256 << 10];
    for _ in 0..WARM * bytes / piece.len() as u64 {
        file.write_all(&piece).with_context(failed)?;
    }
    drop(file);
    fs::remove_file(&path).with_context(failed)?;
    process::run(&mut Command::new("sync"), &session.log("sync")).map(drop)
}

/// How many times the size of the files: what a training run, its checkpoints and the page cache take.
const WARM: u64 = 10;

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove `{}`", folder.display()))?;
    }
    Ok(())
}

fn size_of(folder: &Path) -> Result<u64> {
    let failed = || format!("cannot list `{}`", folder.display());
    let mut total = 0;
    for entry in fs::read_dir(folder).with_context(failed)? {
        total += entry.and_then(|entry| entry.metadata()).with_context(failed)?.len();
    }
    Ok(total)
}
