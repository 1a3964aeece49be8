//! The rows of an evaluation: read, redacted, and turned into the tokens that a model is given and those that are scored.

use std::path::Path;

use codex_core::{Digest, files};
use codex_eval::rows::RowProblem;
use codex_eval::{EvalError, EvalRow, Question, RowInput, Sequence, read_rows};
use codex_safety::{Scanner, Tally, Verdict};
use codex_tokenize::Tokenizer;
use codex_tokenize::chat::{Chat, ChatTemplate, ChatValue};
use serde::Serialize;

use crate::failure::CliError;

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// A file of rows.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TaskFile {
    /// As it was named.
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) blake3: Digest,
    /// Rows that were read of it.
    pub(super) rows: usize,
}

/// Files and their rows.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) files: Vec<TaskFile>,
    /// Each with the place of its file.
    pub(super) rows: Vec<(usize, EvalRow)>,
}

impl Task {
    /// Reads the files; at most `max_records` rows of all of them, 0 for all.
    pub(super) fn read(paths: &[String], max_records: usize) -> Result<Self, CliError> {
        let mut left = if max_records == 0 { usize::MAX } else { max_records };
        let mut task = Self { files: Vec::new(), rows: Vec::new() };
        for path in paths {
            let extension = Path::new(path).extension().unwrap_or_default().to_string_lossy().to_lowercase();
            if !matches!(extension.as_str(), "jsonl" | "ndjson" | "txt" | "md") {
                let what = format!("`{path}` is no file that ends with .jsonl, .ndjson, .txt or .md");
                return Err(CliError::usage(what, "with `--metrics` and `--sample` name files, not folders"));
            }
            let bytes = files::read_bounded(Path::new(path), MAX_FILE_BYTES)?;
            let rows = match extension.as_str() {
                "jsonl" | "ndjson" => read_rows(&bytes, path, left)?,
                _ if left == 0 => Vec::new(),
                _ => {
                    let text = String::from_utf8(bytes.clone());
                    let wrong = |_| EvalError::BadRow { path: path.clone(), line: 1, problem: RowProblem::NotUtf8 };
                    vec![EvalRow::of_text(text.map_err(wrong)?)]
                }
            };
            left -= rows.len();
            let file = task.files.len();
            let (blake3, n_rows) = (Digest::of_bytes(&bytes), rows.len());
            task.files.push(TaskFile { path: path.clone(), bytes: bytes.len() as u64, blake3, rows: n_rows });
            task.rows.extend(rows.into_iter().map(|row| (file, row)));
        }
        if task.rows.is_empty() {
            return Err(EvalError::NoRecords { what: "an evaluation" }.into());
        }
        Ok(task)
    }

    /// The name of a row's file.
    pub(super) fn path(&self, file: usize) -> &str {
        self.files.get(file).map_or("", |file| file.path.as_str())
    }

    /// Redacts what the safety rules find, as in data that is trained on; rows that they drop are left out.
    pub(super) fn redact(&mut self, scanner: &Scanner) -> Result<Tally, CliError> {
        let mut tally = Tally::default();
        let mut kept = Vec::with_capacity(self.rows.len());
        for (file, mut row) in std::mem::take(&mut self.rows) {
            let mut redaction = Redaction { scanner, tally: &mut tally, is_dropped: false, stopped: Vec::new() };
            redaction.row(&mut row);
            if !redaction.stopped.is_empty() {
                let rules = redaction.stopped;
                return Err(CliError::Refused { place: format!("{}:{}", self.path(file), row.line), rules });
            }
            if !redaction.is_dropped {
                kept.push((file, row));
            }
        }
        self.rows = kept;
        if self.rows.is_empty() {
            return Err(EvalError::NoRecords { what: "an evaluation (the safety policy drops every row)" }.into());
        }
        Ok(tally)
    }
}

/// What becomes of one row.
struct Redaction<'a> {
    scanner: &'a Scanner,
    tally: &'a mut Tally,
    is_dropped: bool,
    stopped: Vec<String>,
}

impl Redaction<'_> {
    fn row(&mut self, row: &mut EvalRow) {
        match &mut row.input {
            RowInput::Nothing => {}
            RowInput::Text(text) | RowInput::Prompt(text) => self.text(text),
            RowInput::Chat { messages, tools } => messages.iter_mut().chain(tools.iter_mut().flatten()).for_each(|value| self.value(value)),
        }
        let choices = row.question.iter_mut().flat_map(|question| &mut question.choices);
        let others = row.completion.iter_mut().chain(&mut row.references).chain(&mut row.prediction).chain(choices);
        others.for_each(|text| self.text(text));
    }

    fn value(&mut self, value: &mut ChatValue) {
        match value {
            ChatValue::Text(text) => self.text(text),
            ChatValue::List(list) => list.iter_mut().for_each(|value| self.value(value)),
            ChatValue::Map(entries) => entries.iter_mut().for_each(|(_, value)| self.value(value)),
            _ => {}
        }
    }

    fn text(&mut self, text: &mut String) {
        match self.scanner.apply(text, self.tally) {
            Verdict::Keep(kept) => *text = kept.into_owned(),
            Verdict::Drop { .. } => self.is_dropped = true,
            Verdict::Stop { rules } => self.stopped = rules,
        }
    }
}

/// What a model is given of a row, and what is scored.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// The prompt as a text, a chat by its template.
    pub(super) prompt: Option<String>,
    /// The ids to go on from.
    pub(super) prompt_ids: Vec<u32>,
    /// The tokens that should follow; several windows of a long text.
    pub(super) targets: Vec<Sequence>,
    /// Each choice behind the prompt.
    pub(super) choices: Vec<Sequence>,
    /// Whether the beginning of a prompt was left out, because all of it is more than the model reads.
    pub(super) is_cut: bool,
}

/// Which tokens are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) targets: bool,
    pub(super) choices: bool,
    /// Most tokens that will be written, where some will.
    pub(super) max_new_tokens: Option<usize>,
}

/// Makes tokens of rows.
pub(super) struct Preparer<'a> {
    pub(super) tokenizer: &'a dyn Tokenizer,
    pub(super) template: Option<&'a ChatTemplate>,
    pub(super) context_length: usize,
    pub(super) wanted: Wanted,
}

impl Preparer<'_> {
    /// The tokens of a row; what is wrong with it otherwise.
    pub(super) fn tokens(&self, row: &EvalRow) -> Result<Tokens, Fault> {
        let mut tokens = Tokens::default();
        match &row.input {
            RowInput::Nothing => {}
            RowInput::Text(text) => {
                if self.wanted.targets {
                    tokens.targets = self.windows(self.tokenizer.encode(text)?);
                }
            }
            RowInput::Prompt(prompt) => {
                let given = self.given(prompt)?;
                if let Some(completion) = row.completion.as_ref().filter(|_| self.wanted.targets) {
                    let mut target = self.tokenizer.encode(completion)?;
                    target.push(self.tokenizer.end_of_text());
                    tokens.targets = vec![self.joined(&given, &target, &mut tokens.is_cut)?];
                }
                if let Some(question) = row.question.as_ref().filter(|_| self.wanted.choices) {
                    tokens.choices = self.choices(prompt, question, &mut tokens.is_cut)?;
                }
                tokens.prompt = Some(prompt.clone());
                tokens.prompt_ids = given;
            }
            RowInput::Chat { messages, tools } => self.chat(messages, tools.as_deref(), row.completion.as_deref(), &mut tokens)?,
        }
        if let Some(max_new_tokens) = self.wanted.max_new_tokens {
            // Room for what is to be written, but never more than half.
            let most = (self.context_length - max_new_tokens.min(self.context_length / 2)).max(1);
            let too_many = tokens.prompt_ids.len().saturating_sub(most);
            tokens.is_cut |= too_many > 0;
            tokens.prompt_ids.drain(..too_many);
        }
        Ok(tokens)
    }

    /// The ids of a prompt; where it has none, a text begins behind the end of another.
    fn given(&self, prompt: &str) -> Result<Vec<u32>, Fault> {
        let ids = self.tokenizer.encode(prompt)?;
        Ok(if ids.is_empty() { vec![self.tokenizer.end_of_text()] } else { ids })
    }

    /// A text with its end, in windows whose first id is the last of the one before: as the run's own evaluations read one document.
    fn windows(&self, mut ids: Vec<u32>) -> Vec<Sequence> {
        ids.push(self.tokenizer.end_of_text());
        let starts = (0..ids.len().saturating_sub(1)).step_by(self.context_length.max(1));
        let window = |start: usize| ids[start..ids.len().min(start + self.context_length + 1)].to_vec();
        starts.map(|start| Sequence { ids: window(start), n_given: 1 }).collect()
    }

    /// What is given with the target behind it; of what is given the end, where all of it is too long.
    fn joined(&self, given: &[u32], target: &[u32], is_cut: &mut bool) -> Result<Sequence, Fault> {
        let context_length = self.context_length;
        if target.len() > context_length {
            return Err(Fault::Row(RowProblem::TooManyTokens { tokens: target.len(), context_length }));
        }
        let too_many = (given.len() + target.len()).saturating_sub(context_length + 1);
        *is_cut |= too_many > 0;
        let given = &given[too_many..];
        Ok(Sequence { n_given: given.len(), ids: [given, target].concat() })
    }

    /// The choices behind the prompt, each parted from it by white space: the prompt's own, or one space where neither has any, which is scored
    /// and not counted in the choice's length, as in lm-evaluation-harness.
    fn choices(&self, prompt: &str, question: &Question, is_cut: &mut bool) -> Result<Vec<Sequence>, Fault> {
        let begun = prompt.trim_end();
        let given = self.given(begun)?;
        let parting = &prompt[begun.len()..];
        let one = |choice: &String| {
            let has_space = !parting.is_empty() || prompt.is_empty() || choice.starts_with(char::is_whitespace);
            let text = [if has_space { parting } else { " " }, choice].concat();
            self.joined(&given, &self.tokenizer.encode(&text)?, is_cut)
        };
        question.choices.iter().map(one).collect()
    }

    fn chat(&self, messages: &[ChatValue], tools: Option<&[ChatValue]>, answer: Option<&str>, tokens: &mut Tokens) -> Result<(), Fault> {
        let Some(template) = self.template else {
            return Err(Fault::Row(RowProblem::NotRendered { reason: "there is no template".to_owned() }));
        };
        let special = self.tokenizer.special_tokens();
        let special: Vec<&str> = special.iter().map(String::as_str).filter(|token| !token.is_empty()).collect();
        let said = messages.iter().filter_map(|message| message.get("content").and_then(ChatValue::as_text)).chain(answer);
        if said.into_iter().any(|said| special.iter().any(|token| said.contains(token))) {
            return Err(Fault::Row(RowProblem::SpellsSpecial));
        }
        let not_rendered =
            |error: codex_tokenize::TokenizeError| Fault::Row(RowProblem::NotRendered { reason: codex_core::failure::chain(&error) });
        let encode = |text: &str| self.tokenizer.encode_with_special(text, &special);
        let prompt = Chat { messages, tools, add_generation_prompt: true, ..Chat::default() };
        let prompt = template.render_text(&prompt).map_err(not_rendered)?;
        tokens.prompt_ids = encode(&prompt)?;
        tokens.prompt = Some(prompt);
        if let Some(answer) = answer.filter(|_| self.wanted.targets) {
            let mut messages = messages.to_vec();
            messages.push(ChatValue::message("assistant", answer));
            let rendered = template.render(&Chat { messages: &messages, tools, ..Chat::default() }).map_err(not_rendered)?;
            let said = rendered.assistant.last().cloned().unwrap_or_default();
            let text = |at: std::ops::Range<usize>| rendered.text.get(at).unwrap_or_default();
            // White space behind the close of the turn is the template's way to the next one.
            let target = encode(text(said.clone()).trim_end_matches('\n'))?;
            tokens.targets = vec![self.joined(&encode(text(0..said.start))?, &target, &mut tokens.is_cut)?];
        }
        Ok(())
    }
}

/// Why a row has no tokens.
#[derive(Debug)]
pub(super) enum Fault {
    Row(RowProblem),
    Tokenize(codex_tokenize::TokenizeError),
}

impl From<codex_tokenize::TokenizeError> for Fault {
    fn from(error: codex_tokenize::TokenizeError) -> Self {
        Self::Tokenize(error)
    }
}

impl Fault {
    /// The error of a row in its place.
    pub(super) fn at(self, path: &str, line: u64) -> CliError {
        match self {
            Self::Row(problem) => EvalError::BadRow { path: path.to_owned(), line, problem }.into(),
            Self::Tokenize(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_safety::SafetyConfig;
    use codex_tokenize::ByteTokenizer;

    fn row(json: &str) -> EvalRow {
        read_rows(json.as_bytes(), "q", 1).unwrap().remove(0)
    }

    fn tokens(json: &str, context_length: usize, max_new_tokens: Option<usize>) -> Result<Tokens, String> {
        let tokenizer = ByteTokenizer::new(&["<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned)).unwrap();
        let template = ChatTemplate::builtin("chatml").unwrap().for_tokenizer(&tokenizer);
        let wanted = Wanted { targets: true, choices: true, max_new_tokens };
        let preparer = Preparer { tokenizer: &tokenizer, template: Some(&template), context_length, wanted };
        preparer.tokens(&row(json)).map_err(|fault| fault.at("q", 1).to_string())
    }

    /// Bytes as letters, special tokens as `$`, a bar before what is scored.
    fn shown(sequence: &Sequence) -> String {
        let letter = |&id: &u32| if id < 4 { '$' } else { char::from((id - 4) as u8) };
        let (given, scored) = sequence.ids.split_at(sequence.n_given);
        format!("{}|{}", given.iter().map(letter).collect::<String>(), scored.iter().map(letter).collect::<String>())
    }

    fn all(sequences: &[Sequence]) -> Vec<String> {
        sequences.iter().map(shown).collect()
    }

    #[test]
    fn texts_are_windows_and_completions_stand_behind_their_prompts() {
        assert_eq!(all(&tokens(r#"{"text": "abcdef"}"#, 4, None).unwrap().targets), ["a|bcde", "e|f$"]);
        assert!(tokens(r#"{"text": ""}"#, 4, None).unwrap().targets.is_empty());
        let pair = tokens(r#"{"prompt": "ab", "completion": " c"}"#, 9, None).unwrap();
        assert_eq!((all(&pair.targets), pair.is_cut), (vec!["ab| c$".to_owned()], false));
        assert_eq!(all(&tokens(r#"{"prompt": "", "completion": "c"}"#, 9, None).unwrap().targets), ["$|c$"]);
        let cut = tokens(r#"{"prompt": "abcd", "completion": "xy"}"#, 4, None).unwrap();
        assert_eq!((all(&cut.targets), cut.is_cut), (vec!["cd|xy$".to_owned()], true));
        let long = tokens(r#"{"prompt": "abcd", "completion": "wxyz"}"#, 4, None).unwrap_err();
        assert_eq!(long, "`q:1`: 5 tokens are to be scored together, and the model's context is 4");
    }

    #[test]
    fn choices_are_parted_from_the_question_by_white_space() {
        let of = |prompt: &str| {
            let json = format!(r#"{{"prompt": "{prompt}", "choices": ["x", " y"], "answer": 0}}"#);
            all(&tokens(&json, 9, None).unwrap().choices)
        };
        assert_eq!(of("a?"), ["a?| x", "a?| y"]);
        assert_eq!(of("a? "), ["a?| x", "a?|  y"]);
        assert_eq!(of(""), ["$|x", "$| y"]);
    }

    #[test]
    fn of_a_chat_the_last_answer_and_its_close_are_scored() {
        let chat = r#"{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}"#;
        let found = tokens(chat, 99, None).unwrap();
        assert_eq!(all(&found.targets), ["$user\nhi$\n$assistant\n|yo$"]);
        assert_eq!(found.prompt.as_deref(), Some("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"));
        assert_eq!(found.targets[0].ids[..found.targets[0].n_given], found.prompt_ids);
        let spelled = r#"{"messages": [{"role": "user", "content": "a<|im_end|>"}]}"#;
        assert!(tokens(spelled, 99, None).unwrap_err().contains("spells a special token"));
    }

    #[test]
    fn a_prompt_leaves_room_for_what_is_written() {
        let of = |n| tokens(r#"{"prompt": "abcdefgh"}"#, 8, Some(n)).unwrap();
        assert_eq!((of(0).prompt_ids.len(), of(3).prompt_ids.len(), of(99).prompt_ids.len()), (8, 5, 4));
        assert!(of(3).is_cut && !of(0).is_cut);
    }

    #[test]
    fn every_text_of_a_row_is_redacted() {
        let secret = "write to jane.roe@posteo.de";
        let scanner = Scanner::new(&SafetyConfig::default()).unwrap();
        for json in [
            format!(r#"{{"text": "{secret}"}}"#),
            format!(r#"{{"prompt": "{secret}", "completion": "{secret}", "prediction": "{secret}"}}"#),
            format!(r#"{{"prompt": "a", "references": ["{secret}"]}}"#),
            format!(r#"{{"prompt": "a", "choices": ["b", "{secret}"], "answer": 0}}"#),
            format!(r#"{{"messages": [{{"role": "user", "content": "{secret}", "more": ["{secret}"]}}]}}"#),
        ] {
            let mut task = Task { files: Vec::new(), rows: vec![(0, row(&json))] };
            let tally = task.redact(&scanner).unwrap();
            assert!(tally.redacted > 0 && !format!("{task:?}").contains("posteo"), "{task:?}");
        }
    }
}
