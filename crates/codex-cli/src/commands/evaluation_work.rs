//! A model at work on the rows of an evaluation: target tokens and choices scored, predictions written.

use codex_eval::text::{Choice, ChoiceRecord, TextRecord};
use codex_eval::{EvalRow, MetricKind, RowInput, Scoring, Sequence, SequenceScore, TokenMetric, score};
use codex_model::{BatchPrompt, Precision, SamplingConfig, generate_batch};
use codex_safety::{Scanner, Tally, Verdict};
use codex_train::plan::token_bytes;
use serde_json::{Value, json};

use crate::commands::draft::Draft;
use crate::commands::evaluation::Plan;
use crate::commands::evaluation_task::{Task, Tokens};
use crate::device;
use crate::failure::CliError;
use crate::stored_model::StoredModel;
use crate::terminal::Terminal;

/// What a model wrote for a row, or someone before it.
#[derive(Default)]
pub(super) struct Written {
    /// As the safety rules leave it.
    pub(super) whole: String,
    /// What is judged of it.
    pub(super) judged: String,
    pub(super) stopped: Option<&'static str>,
    /// Whether nothing was found in it where something was looked for.
    pub(super) is_unanswered: bool,
    /// Whether the safety policy leaves it out.
    pub(super) is_withheld: bool,
}

/// What was found of all rows; a kind that was not asked for is empty.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) targets: Vec<SequenceScore>,
    pub(super) choices: Vec<ChoiceRecord>,
    pub(super) written: Vec<Written>,
    pub(super) texts: Vec<TextRecord>,
    pub(super) tally: Tally,
}

impl Findings {
    pub(super) fn predictions(&self, plan: &Plan<'_>) -> Value {
        if self.written.is_empty() {
            return Value::Null;
        }
        let count = |is: fn(&Written) -> bool| self.written.iter().filter(|written| is(written)).count();
        json!({
            "from": if plan.sampling.is_some() { "model" } else { "file" }, "n": self.written.len(),
            "without_a_match": count(|written| written.is_unanswered), "withheld": count(|written| written.is_withheld),
        })
    }
}

/// A model at work on a task.
pub(super) struct Work<'a> {
    pub(super) plan: &'a Plan<'a>,
    pub(super) stored: &'a StoredModel,
    pub(super) scanner: &'a Scanner,
    pub(super) terminal: &'a Terminal,
}

impl Work<'_> {
    pub(super) fn find(&self, task: &Task, prepared: &[Tokens]) -> Result<Findings, CliError> {
        let mut found = Findings::default();
        let judges_texts = self.plan.wants(|kind| matches!(kind, MetricKind::Text(_)));
        let n_sequences: usize = prepared.iter().map(|tokens| tokens.targets.len() + tokens.choices.len()).sum();
        let n_texts = if self.plan.sampling.is_some() { prepared.len() } else { 0 };
        let has_bar = self.terminal.start_bar((n_sequences + n_texts) as u64, 0, "evaluating {bar:24} {pos}/{len} {msg}  ETA {eta}");
        let mut done = 0;
        let show = |n: u64, what: &str| {
            if has_bar {
                self.terminal.move_bar(n, what.to_owned());
            }
        };
        if self.plan.wants(|kind| matches!(kind, MetricKind::Token(_))) {
            let scores = self.scores(prepared, |tokens| &tokens.targets, &mut |n| show(n, "targets"))?;
            done += scores.iter().map(|of_row| of_row.len() as u64).sum::<u64>();
            found.targets = scores.into_iter().map(together).collect();
        }
        if self.plan.wants(|kind| matches!(kind, MetricKind::Choice(_))) {
            let scores = self.scores(prepared, |tokens| &tokens.choices, &mut |n| show(done + n, "choices"))?;
            done += scores.iter().map(|of_row| of_row.len() as u64).sum::<u64>();
            found.choices = task
                .rows
                .iter()
                .zip(scores)
                .filter_map(|((_, row), scores)| {
                    let question = row.question.as_ref()?;
                    let choice =
                        |(text, score): (&String, SequenceScore)| Choice::new(-score.totals.nll, text, score.totals.tokens as usize);
                    Some(ChoiceRecord {
                        choices: question.choices.iter().zip(scores).map(choice).collect(),
                        answer_idx: question.answer_idx,
                    })
                })
                .collect();
        }
        if judges_texts {
            found.written = match &self.plan.sampling {
                Some(sampling) => self.write(task, prepared, sampling, &mut found.tally, &mut |n| show(done + n, "predictions"))?,
                None => task.rows.iter().map(|(_, row)| self.judged(row.prediction.clone().unwrap_or_default(), None)).collect(),
            };
            let texts = found.written.iter().zip(&task.rows);
            found.texts = texts
                .map(|(written, (_, row))| TextRecord { prediction: written.judged.clone(), references: row.references.clone() })
                .collect();
        }
        self.terminal.end_bar();
        Ok(found)
    }

    /// The scores of each row's sequences.
    fn scores(
        &self,
        prepared: &[Tokens],
        of: impl Fn(&Tokens) -> &Vec<Sequence>,
        show: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Vec<Vec<SequenceScore>>, CliError> {
        let sequences: Vec<Sequence> = prepared.iter().flat_map(|tokens| of(tokens).iter().cloned()).collect();
        let bytes = token_bytes(self.stored.tokenizer.as_ref());
        let with_confidences = self.plan.wants(|kind| matches!(kind, MetricKind::Token(TokenMetric::CalibrationError)));
        let scoring = Scoring { batch_size: self.plan.arguments.batch_size, token_bytes: &bytes, with_confidences };
        let mut tick = |n| {
            show(n);
            true
        };
        let mut scores = device::in_pool(|| score(&self.stored.model, &sequences, scoring, &mut tick))?.into_iter();
        Ok(prepared.iter().map(|tokens| scores.by_ref().take(of(tokens).len()).collect()).collect())
    }

    /// Lets the model write a prediction for each row.
    fn write(
        &self,
        task: &Task,
        prepared: &[Tokens],
        sampling: &SamplingConfig,
        tally: &mut Tally,
        show: &mut dyn FnMut(u64),
    ) -> Result<Vec<Written>, CliError> {
        let (stored, size) = (self.stored, self.plan.arguments.batch_size.max(1));
        let tokenizer = stored.tokenizer.as_ref();
        let mut written = Vec::with_capacity(prepared.len());
        for (rows, prepared) in task.rows.chunks(size).zip(prepared.chunks(size)) {
            let first = written.len() as u64;
            let prompt = |(idx, tokens): (u64, &Tokens)| BatchPrompt {
                ids: tokens.prompt_ids.clone(),
                sampling: SamplingConfig { seed: sampling.seed.wrapping_add(idx), ..sampling.clone() },
            };
            let prompts: Vec<BatchPrompt> = (first..).zip(prepared).map(prompt).collect();
            let is_turn = |row: &EvalRow| matches!(row.input, RowInput::Chat { .. });
            let draft = |(_, row): &(usize, EvalRow)| {
                if is_turn(row) { Draft::of_turn(tokenizer, &sampling.stop) } else { Draft::new(tokenizer, &sampling.stop) }
            };
            let mut drafts: Vec<Draft<'_>> = rows.iter().map(draft).collect();
            let mut more = |idx: usize, id| drafts[idx].push(id);
            let generated =
                device::in_pool(|| generate_batch(&stored.model, Precision::F32, &prompts, tokenizer.end_of_text(), &mut more))?;
            for ((draft, generated), (file, row)) in drafts.into_iter().zip(&generated).zip(rows) {
                let finished = draft.finish(generated.stopped)?;
                let raw = if is_turn(row) { finished.text.trim() } else { &finished.text };
                written.push(match self.scanner.apply(raw, tally) {
                    Verdict::Keep(text) => self.judged(text.into_owned(), Some(finished.stopped)),
                    Verdict::Drop { .. } => Written { stopped: Some(finished.stopped), is_withheld: true, ..Written::default() },
                    Verdict::Stop { rules } => {
                        let place = format!("the prediction for {}:{}", task.path(*file), row.line);
                        return Err(CliError::Refused { place, rules });
                    }
                });
            }
            show(written.len() as u64);
        }
        Ok(written)
    }

    /// A prediction with what is judged of it.
    fn judged(&self, whole: String, stopped: Option<&'static str>) -> Written {
        let answer = self.plan.extractor.as_ref().map(|extractor| extractor.extract(&whole).map(str::to_owned));
        let is_unanswered = matches!(answer, Some(None));
        let judged = answer.map_or_else(|| whole.clone(), Option::unwrap_or_default);
        Written { judged, whole, stopped, is_unanswered, is_withheld: false }
    }
}

/// The scores of a row's windows as one.
fn together(windows: Vec<SequenceScore>) -> SequenceScore {
    let mut all = SequenceScore::default();
    for SequenceScore { totals, confidences } in windows {
        all.totals.nll += totals.nll;
        all.totals.tokens += totals.tokens;
        all.totals.bytes += totals.bytes;
        all.totals.correct += totals.correct;
        all.confidences.extend(confidences);
    }
    all
}
