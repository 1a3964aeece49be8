//! `eval` with metrics: the rows of a task scored by a model, or predictions judged, with intervals and a folder that says how it was done.

use std::path::Path;

use codex_core::Digest;
use codex_eval::text::{Choice, Normalisation};
use codex_eval::{EvalError, EvalMetric, Evidence, Extractor, Measured, MetricKind, Resampling, RowInput, SequenceScore, Which, measure};
use codex_model::SamplingConfig;
use codex_safety::Scanner;
use codex_tokenize::chat::ChatTemplate;
use codex_track::run_manifest::ARTIFACTS;
use serde_json::{Map, Value, json};

use crate::arguments::Eval;
use crate::commands::chat;
use crate::commands::evaluation_folder::{self as folder, Labels, SCHEMA, number};
use crate::commands::evaluation_task::{Preparer, Task, Tokens, Wanted};
use crate::commands::evaluation_work::{Findings, Work};
use crate::device;
use crate::failure::CliError;
use crate::run_config::{self, RunConfig};
use crate::stored_model::{self, Identity, StoredModel};
use crate::terminal::{Terminal, table};

/// The share of resampled values between the ends of an interval.
pub(super) const LEVEL: f64 = 0.95;

pub(super) fn run(arguments: &Eval, terminal: &Terminal) -> Result<(), CliError> {
    // What can be wrong without a model is told before one is looked for.
    let plan = Plan::new(arguments)?;
    let mut task = Task::read(&arguments.data, arguments.task.max_records)?;
    plan.check_rows(&task)?;
    let (stored, identity) = stored_model::load_identified(&arguments.model, terminal)?;
    let config = stored.run.as_deref().map(run_config::of_run).transpose()?.unwrap_or_default();
    let has_chats = task.rows.iter().any(|(_, row)| matches!(row.input, RowInput::Chat { .. }));
    let template = has_chats.then(|| chat::template(arguments.task.template.as_deref(), &stored, &config, terminal)).transpose()?;
    let evaluation = plan.identity(&task, (&stored, identity), &config, template.as_ref())?;
    let key = folder::key(&evaluation)?;
    let place = arguments.task.out.clone().unwrap_or_else(|| match &stored.run {
        Some(run) => run.join(ARTIFACTS).join("eval").join(&key),
        None => Path::new("eval").join(&key),
    });
    folder::check_place(&place, &key)?;

    let scanner = Scanner::new(&config.safety)?;
    let n_rows = task.rows.len();
    let tally_in = task.redact(&scanner)?;
    let wanted = Wanted {
        targets: plan.wants(|kind| matches!(kind, MetricKind::Token(_))),
        choices: plan.wants(|kind| matches!(kind, MetricKind::Choice(_))),
        max_new_tokens: plan.sampling.as_ref().map(|sampling| sampling.max_new_tokens),
    };
    let preparer = Preparer {
        tokenizer: stored.tokenizer.as_ref(),
        template: template.as_ref(),
        context_length: stored.model.config().context_length,
        wanted,
    };
    let prepared = task.rows.iter().map(|(file, row)| preparer.tokens(row).map_err(|fault| fault.at(task.path(*file), row.line)));
    let prepared = prepared.collect::<Result<Vec<Tokens>, CliError>>()?;
    let found = Work { plan: &plan, stored: &stored, scanner: &scanner, terminal }.find(&task, &prepared)?;
    let resampling = Resampling { n_resamples: arguments.task.resamples, level: LEVEL, seed: arguments.task.seed };
    let evidence = Evidence { tokens: &found.targets, texts: &found.texts, choices: &found.choices };
    let measured = plan.metrics.iter().map(|metric| measure(metric, &evidence, resampling)).collect::<Result<Vec<_>, _>>()?;

    let run_id = format!("eval-{key}");
    let summary = json!({
        "schema": SCHEMA, "key": key, "run_id": run_id, "model": evaluation["model"], "dataset": evaluation["data"],
        "dataset_digest": evaluation["dataset_digest"], "n_records": task.rows.len(), "dropped_by_safety": n_rows - task.rows.len(),
        "cut_prompts": prepared.iter().filter(|tokens| tokens.is_cut).count(), "predictions": found.predictions(&plan),
        "metrics": plan.metrics.iter().zip(&measured).map(|(metric, measured)| (metric.name.to_owned(), told(metric, measured, resampling))).collect::<Map<_, _>>(),
        "safety": { "rows": tally_in, "predictions": found.tally },
    });
    let dataset = json!({
        "schema": SCHEMA, "digest": evaluation["dataset_digest"], "files": task.files, "rows": n_rows, "records": task.rows.len(),
    });
    let labels =
        Labels { run_id: &run_id, step: stored.step.unwrap_or(0), dataset: &arguments.data.join(", "), n_records: task.rows.len() };
    let mut all = vec![
        (folder::SUMMARY, folder::pretty(&summary)?),
        (folder::RECORDS, records(&task, &prepared, &found, &measured)),
        (folder::DATASET, folder::pretty(&dataset)?),
    ];
    all.extend(folder::metric_files(&measured, &labels));
    let is_new = folder::publish(&place, &key, &evaluation, &all)?;
    let mut value = summary;
    (value["folder"], value["written"]) = (json!(place), json!(is_new));
    terminal.result(&value, || {
        let rows = plan.metrics.iter().zip(&measured).map(|(metric, measured)| row(metric, measured));
        let text = table(&["metric", "value", "95 % interval", "better"], rows);
        let how = if is_new { "written to" } else { "the same as in" };
        format!("{} records of {}\n{text}\n{how} {}", task.rows.len(), arguments.data.join(", "), place.display())
    })
}

/// What is to be done, checked.
pub(super) struct Plan<'a> {
    pub(super) arguments: &'a Eval,
    pub(super) metrics: Vec<EvalMetric>,
    pub(super) sampling: Option<SamplingConfig>,
    pub(super) extractor: Option<Extractor>,
}

impl<'a> Plan<'a> {
    fn new(arguments: &'a Eval) -> Result<Self, CliError> {
        let task = &arguments.task;
        let names: Vec<&str> = arguments.metrics.iter().map(|name| name.trim()).collect();
        let metrics = EvalMetric::by_names(if names.is_empty() { vec!["exact_match", "f1"] } else { names })?;
        let judges_texts = metrics.iter().any(|metric| matches!(metric.kind, MetricKind::Text(_)));
        if !judges_texts && (task.sample || task.extract.is_some()) {
            return Err(CliError::usage(
                "none of the metrics judges what a model writes",
                "leave out `--sample` and `--extract`, or add a metric such as f1",
            ));
        }
        if arguments.data.is_empty() {
            return Err(CliError::usage("metrics are of rows, and no file of rows is named", "add `--data FILE.jsonl`"));
        }
        if !(1..=codex_eval::text::bootstrap::MAX_RESAMPLES).contains(&task.resamples) {
            return Err(CliError::usage(format!("`--resamples {}`: expected 1 to 1,000,000", task.resamples), "1000 is usual"));
        }
        let sampling = SamplingConfig {
            temperature: task.temperature,
            top_k: task.top_k,
            top_p: task.top_p,
            seed: task.seed,
            max_new_tokens: task.max_new_tokens,
            stop: task.stop.clone(),
            ..SamplingConfig::default()
        };
        if let Some((key, message)) = sampling.problems().into_iter().next() {
            return Err(CliError::usage(format!("--{}: {message}", key.replace('_', "-")), "see `codex-cli eval --help`"));
        }
        let which = if task.extract_first { Which::First } else { Which::Last };
        let extractor = task.extract.as_deref().map(|pattern| Extractor::new(pattern, which)).transpose()?;
        Ok(Self { arguments, metrics, sampling: task.sample.then_some(sampling), extractor })
    }

    pub(super) fn wants(&self, kind: impl Fn(&MetricKind) -> bool) -> bool {
        self.metrics.iter().any(|metric| kind(&metric.kind))
    }

    /// Refuses rows that a metric cannot be computed of.
    fn check_rows(&self, task: &Task) -> Result<(), CliError> {
        for (file, row) in &task.rows {
            for metric in &self.metrics {
                if let Some(field) = row.lacks(metric, self.sampling.is_some()) {
                    let path = task.path(*file).to_owned();
                    return Err(EvalError::Lacks { metric: metric.name, path, line: row.line, field }.into());
                }
            }
        }
        Ok(())
    }

    /// Everything that decides the result, and so the key.
    fn identity(
        &self,
        task: &Task,
        (stored, identity): (&StoredModel, Identity),
        config: &RunConfig,
        template: Option<&ChatTemplate>,
    ) -> Result<Value, CliError> {
        let digest_of = |value: &Value| Digest::of_json(value).map_err(|error| CliError::Output { source: error.into() });
        // The name alone: the same model at another place is the same one.
        let named = std::path::absolute(stored.run.as_deref().unwrap_or(&stored.checkpoint)).unwrap_or_default();
        let which = if self.arguments.task.extract_first { "first" } else { "last" };
        let max_records = self.arguments.task.max_records;
        let digests: Vec<Digest> = task.files.iter().map(|file| file.blake3).collect();
        Ok(json!({
            "program": { "name": "codex-cli", "version": env!("CARGO_PKG_VERSION") },
            "model": {
                "name": named.file_name().unwrap_or_default().to_string_lossy(), "step": stored.step, "weights": identity.weights, "base": identity.base,
                "held": self.arguments.model.weights, "tokenizer": stored.tokenizer.digest(),
            },
            "device": stored.device_name, "instruction_set": device::instruction_set_of(stored.device_name),
            "data": task.files.iter().map(|file| json!({ "path": file.path, "blake3": file.blake3 })).collect::<Vec<_>>(),
            "dataset_digest": digest_of(&json!({ "files": digests, "max_records": max_records }))?,
            "metrics": self.metrics.iter().map(|metric| metric.name).collect::<Vec<_>>(),
            "settings": {
                "max_records": max_records, "batch_size": self.arguments.batch_size, "resamples": self.arguments.task.resamples, "level": LEVEL,
                "seed": self.arguments.task.seed, "sampling": self.sampling, "template": template.map(ChatTemplate::digest),
                "extract": self.arguments.task.extract.as_deref().map(|pattern| json!({ "pattern": pattern, "which": which })),
            },
            "safety": digest_of(&json!(config.safety))?,
        }))
    }
}

/// A metric as the summary has it.
fn told(metric: &EvalMetric, measured: &Measured, resampling: Resampling) -> Value {
    let interval = |(low, high): (f64, f64)| json!({ "low": number(low), "high": number(high), "level": resampling.level, "resamples": resampling.n_resamples });
    json!({
        "value": number(measured.value), "interval": measured.interval.map(interval), "higher_is_better": metric.higher_is_better,
        "n_records": measured.per_record.iter().flatten().count(),
    })
}

fn row(metric: &EvalMetric, measured: &Measured) -> Vec<String> {
    let interval = measured.interval.map_or_else(|| "-".to_owned(), |(low, high)| format!("{low:.4} to {high:.4}"));
    let better = if metric.higher_is_better { "higher" } else { "lower" };
    vec![metric.name.to_owned(), format!("{:.4}", measured.value), interval, better.to_owned()]
}

/// The lines of `records.ndjson`: what is in them has been redacted.
fn records(task: &Task, prepared: &[Tokens], found: &Findings, measured: &[Measured]) -> Vec<u8> {
    let mut lines = Vec::new();
    for (idx, ((file, row), tokens)) in task.rows.iter().zip(prepared).enumerate() {
        let input = match &row.input {
            RowInput::Text(text) => Some(text),
            _ => tokens.prompt.as_ref(),
        };
        let mut record = json!({
            "index": idx, "source": task.path(*file), "line": row.line, "input_blake3": input.map(|input| Digest::of_bytes(input.as_bytes())),
            "prompt": tokens.prompt, "references": row.references, "scores": Value::Null,
        });
        let scores = measured.iter().map(|measured| (measured.name.to_owned(), json!(measured.per_record[idx].map(number))));
        record["scores"] = Value::Object(scores.collect());
        if let Some(written) = found.written.get(idx) {
            record["prediction"] = json!(written.judged);
            // What was judged is a part of it where a pattern found one.
            record["written"] = json!((written.whole != written.judged).then_some(&written.whole));
            record["stopped"] = json!(written.stopped);
        }
        if let Some(SequenceScore { totals, .. }) = found.targets.get(idx) {
            record["tokens"] =
                json!({ "nll": number(totals.nll), "tokens": totals.tokens, "bytes": totals.bytes, "correct": totals.correct });
        }
        if let (Some(question), Some(scored)) = (&row.question, found.choices.get(idx)) {
            let choice = |(text, choice): (&String, &Choice)| json!({ "text": text, "log_likelihood": number(choice.log_likelihood), "tokens": choice.n_tokens });
            record["choices"] = json!(question.choices.iter().zip(&scored.choices).map(choice).collect::<Vec<_>>());
            record["answer"] = json!(question.answer_idx);
            record["chosen"] = json!({
                "raw": scored.chosen_idx(Normalisation::Raw), "by_characters": scored.chosen_idx(Normalisation::Characters),
            });
        }
        lines.extend_from_slice(record.to_string().as_bytes());
        lines.push(b'\n');
    }
    lines
}
