//! `bench scaling`: how speed and memory grow, and whether codex's forecast of the memory holds.

use std::iter::successors;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::comparison::disturbance_of;
use super::machine::available_bytes;
use super::options::{Axis, Scaling};
use super::picture::Lines;
use super::process;
use super::program::Tokenizer;
use super::report::Outcome;
use super::run_files::{self, Steps};
use super::runner::{Job, Role, Sample, Side, interleave};
use super::session::Session;
use super::shape::{Arch, Shape};
use super::statistics::Summary;
use super::table::{Table, grouped, measured};

/// Steps that are not counted.
const WARMUP: u64 = 2;
/// Tokens of a step where the context grows.
const STEP_TOKENS: u64 = 4096;
/// Bytes for each parameter that training takes at least: weights, gradients, two moments.
const BYTES_PER_PARAMETER: u64 = 16;

/// What `train --dry-run --json` says, as far as it is read.
#[derive(Deserialize)]
struct Forecast {
    memory_total_bytes: u64,
}

/// A model and a batch at one place of an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Where it is on the axis.
    pub x: u64,
    /// The shape.
    pub shape: Shape,
    /// Threads; 0 is what `--threads` says.
    pub threads: usize,
}

impl Axis {
    fn label(self) -> &'static str {
        match self {
            Self::Parameters => "parameters",
            Self::Context => "context, tokens (4,096 tokens a step)",
            Self::Batch => "batch, windows of 256 tokens",
            Self::Threads => "threads",
        }
    }

    /// The places that are measured, up to the limits.
    pub fn points(self, vocab: u64, max_parameters: u64, cores: usize) -> Vec<Point> {
        let reference = Shape { arch: Arch::Llama, vocab, ..Shape::REFERENCE };
        let of = |shape: Shape, x: u64| Point { x, shape, threads: 0 };
        match self {
            Self::Parameters => {
                let sizes = [(64, 4), (128, 4), (256, 6), (384, 6), (512, 10), (768, 12), (1024, 16), (1024, 22)];
                let shapes = sizes.map(|(d_model, n_layers)| Shape { d_model, n_layers, n_heads: d_model / 64, batch: 4, ..reference });
                shapes.into_iter().map(|shape| of(shape, shape.parameters())).filter(|point| point.x <= max_parameters).collect()
            }
            Self::Context => {
                let shape = |context| Shape { context, batch: STEP_TOKENS / context, ..reference };
                [128, 256, 512, 1024, 2048, 4096].map(|context| of(shape(context), context)).to_vec()
            }
            Self::Batch => [1, 2, 4, 8, 16, 32].map(|batch| of(Shape { batch, ..reference }, batch)).to_vec(),
            Self::Threads => {
                let mut counts: Vec<usize> = successors(Some(1), |count| Some(2 * count)).take_while(|&count| count < cores).collect();
                counts.push(cores);
                counts.into_iter().map(|threads| Point { x: threads as u64, shape: reference, threads }).collect()
            }
        }
    }
}

/// Measures, and sums up.
pub fn run(session: &Session, options: &Scaling) -> Result<Outcome> {
    let tokenizer = session.tokenizer(Shape::REFERENCE.vocab)?;
    let mut outcome = Outcome::default();
    let precision = match session.precision(options.precision)? {
        Ok(setting) => setting,
        Err(why) => anyhow::bail!("{why}"),
    };
    let cores = super::machine::Machine::here().cores;
    let axes: Vec<(Axis, Vec<Point>)> =
        options.over.iter().map(|&axis| (axis, axis.points(tokenizer.vocab_size, options.max_parameters, cores))).collect();
    let mut progress = session.progress(axes.iter().map(|(_, points)| points.len()).sum::<usize>() * session.rounds());
    for (axis, points) in axes {
        let mut jobs = Vec::new();
        let mut kept = Vec::new();
        for point in points {
            let least = BYTES_PER_PARAMETER * point.shape.parameters();
            let free = available_bytes().unwrap_or(u64::MAX);
            if least > free / 10 * 8 {
                outcome.notes.push(format!(
                    "not measured: {} parameters need at least {} MB, and {} MB are free",
                    grouped(point.shape.parameters()),
                    grouped(least / 1_000_000),
                    grouped(free / 1_000_000)
                ));
                continue;
            }
            let (tokenizer, precision, steps) = (&tokenizer, precision.as_deref(), options.steps);
            let name = format!("{} {}", axis.label().split([' ', ',']).next().unwrap_or_default(), grouped(point.x));
            // A size that the program refuses for want of memory is out, and the others go on: hence not in codex's role.
            jobs.push(Job::new(name, Role::Reference, move |_| measure(session, &point, tokenizer, precision, steps)));
            kept.push(point);
        }
        let sides = interleave(axis.label(), session.rounds(), jobs, &mut progress)?;
        add(&mut outcome, axis, options, &kept, &sides);
    }
    outcome.notes.push(
        "forecast: `memory_total_bytes` of `codex-cli train --dry-run --json`, made before the run; measured: peak resident memory of the whole process, program, mapped tokens and the \
         save at the end included; before the save: the same until the last step, from system.ndjson; off by: the forecast against the whole"
            .to_owned(),
    );
    Ok(outcome)
}

fn add(outcome: &mut Outcome, axis: Axis, options: &Scaling, points: &[Point], sides: &[Side]) {
    let header = [axis.label(), "shape", "parameters", "tokens/s", "min to max", "peak MB", "before the save", "forecast MB", "off by"];
    let mut table = Table::new(format!("codex over {}, {}", axis.label(), options.precision.name()), &header);
    let (mut speeds, mut peaks, mut forecasts) = (Vec::new(), Vec::new(), Vec::new());
    for (point, side) in points.iter().zip(sides) {
        let value = |index: usize| Summary::of(side.samples.iter().filter_map(|sample| sample.values.get(index).copied().flatten()));
        let (Some(speed), Some(forecast)) = (value(0), value(1)) else {
            table.notes.push(format!("{}: {}", side.name, side.obstacle.as_deref().unwrap_or("not measured")));
            continue;
        };
        let peak = Summary::of(side.samples.iter().filter_map(|sample| sample.peak_rss_bytes.map(|bytes| bytes as f64)));
        let peak = peak.map_or(f64::NAN, |peak| peak.median);
        let x = point.x as f64;
        speeds.push((x, speed.median));
        peaks.push((x, peak / 1e6));
        forecasts.push((x, forecast.median / 1e6));
        table.rows.push(vec![
            grouped(point.x),
            point.shape.line(),
            grouped(point.shape.parameters()),
            measured(speed.median),
            format!("{} to {}", measured(speed.min), measured(speed.max)),
            measured(peak / 1e6),
            value(2).map_or_else(|| "-".to_owned(), |before| measured(before.median / 1e6)),
            measured(forecast.median / 1e6),
            format!("{:+.1} %", 100.0 * (forecast.median - peak) / peak),
        ]);
    }
    let others = sides.iter().filter_map(|side| {
        let others = Summary::of(side.samples.iter().filter_map(|sample| sample.others))?;
        Some((side.name.as_str(), others.max))
    });
    table.notes.extend(disturbance_of(others));
    if axis == Axis::Parameters {
        // The first column has them.
        table.header.remove(2);
        table.rows.iter_mut().for_each(|row| drop(row.remove(2)));
    }
    outcome.tables.push(table);
    let x = axis.label().to_owned();
    outcome.lines.push(Lines { title: format!("tokens/s over {x}"), x: x.clone(), series: vec![("codex".to_owned(), speeds)] });
    let series = vec![("measured peak".to_owned(), peaks), ("codex's forecast".to_owned(), forecasts)];
    outcome.lines.push(Lines { title: format!("memory in MB over {x}"), x, series });
}

fn measure(session: &Session, point: &Point, tokenizer: &Tokenizer, precision: Option<&str>, steps: u64) -> Result<Sample> {
    let mut settings = session.settings(&point.shape, tokenizer, WARMUP + steps);
    settings.extend(precision.map(str::to_owned));
    if point.threads > 0 {
        settings.retain(|setting| !setting.starts_with("run.threads="));
        settings.push(format!("run.threads={}", point.threads));
    }
    let mut dry = session.program.command();
    // One step is enough for the forecast, which depends on shapes only.
    let of_one_step = settings.iter().filter(|setting| !setting.starts_with("train.steps="));
    dry.args(["train", "--dry-run", "--json", "--quiet"]).args(of_one_step).arg("train.steps=1");
    let log = session.log("forecast");
    let finished = process::run(&mut dry, &log)?;
    let forecast: Forecast = serde_json::from_str(&finished.stdout).with_context(|| {
        format!("cannot read what `codex-cli train --dry-run --json` wrote to `{}`", log.with_extension("out").display())
    })?;
    let run = session.program.train(&settings, &session.log("codex"))?;
    let speed = Summary::of(Steps::read(&run.folder)?.rates_after(WARMUP)).map(|summary| summary.median);
    let before_save = run_files::peak_of_steps(&run.folder);
    Ok(Sample::of(vec![speed, Some(forecast.memory_total_bytes as f64), before_save], &run.remove()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_grow_and_keep_their_limits() {
        let xs = |axis: Axis, max, cores| axis.points(4096, max, cores).iter().map(|point| point.x).collect::<Vec<_>>();
        let sizes = xs(Axis::Parameters, 300_000_000, 2);
        assert!(sizes.is_sorted() && sizes[0] < 1_000_000 && sizes.last().is_some_and(|last| *last > 250_000_000), "{sizes:?}");
        assert!(xs(Axis::Parameters, 20_000_000, 2).iter().all(|size| *size <= 20_000_000));
        assert_eq!(xs(Axis::Context, 0, 2), [128, 256, 512, 1024, 2048, 4096]);
        assert_eq!([xs(Axis::Threads, 0, 1), xs(Axis::Threads, 0, 2), xs(Axis::Threads, 0, 6)], [vec![1], vec![1, 2], vec![1, 2, 4, 6]]);
        let tokens = Axis::Context.points(4096, 0, 2).iter().map(|point| point.shape.context * point.shape.batch).collect::<Vec<_>>();
        assert_eq!(tokens, [4096; 6]);
    }
}
