//! `data inspect --masks`: which tokens of prompts and chats would be trained, and what is amiss with them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use codex_data::{DataConfig, OnBadRow, RowView, TrainOn, open_sources, view_rows};
use codex_safety::{SafetyConfig, Scanner};
use codex_tokenize::Tokenizer;
use serde_json::{Value, json};

use crate::arguments::Masks;
use crate::failure::CliError;
use crate::run_config;
use crate::terminal::{Terminal, table};
use crate::{corpus, stored_model};

/// Rows with something amiss whose places are listed.
const LISTED: usize = 10;

pub(super) fn run(paths: &[String], text_field: &str, arguments: &Masks, terminal: &Terminal) -> Result<(), CliError> {
    let Vocabulary { tokenizer, of, context_length } = vocabulary(arguments)?;
    let train_on = if arguments.train_on == "all" { TrainOn::All } else { TrainOn::Assistant };
    let config = DataConfig {
        train: paths.to_vec(),
        text_field: text_field.to_owned(),
        chat_template: arguments.template.clone(),
        train_on,
        on_bad_row: OnBadRow::Skip,
        ..DataConfig::default()
    };
    let sources = open_sources(&config, &corpus::builtins(&config)?)?;
    let scanner = Scanner::new(&SafetyConfig::default())?;
    let mut views = view_rows(&sources, &config, tokenizer.as_ref(), &scanner)?;
    let mut totals = Totals { context_length, ..Totals::default() };
    let mut shown = Vec::new();
    for view in &mut views {
        let view = view?;
        totals.add(&view, tokenizer.as_ref());
        if shown.len() < arguments.rows {
            shown.push(view);
        }
    }
    let account = views.account();
    let rows: Vec<Value> = shown.iter().map(|view| as_json(view, tokenizer.as_ref())).collect();
    let value = json!({
        "tokenizer": tokenizer.digest(), "tokenizer_of": of, "template": arguments.template, "train_on": train_on, "context_length": context_length,
        "rows": rows, "n_rows": totals.rows, "tokens": totals.tokens, "trained_tokens": totals.trained,
        "by_role": totals.by_role.iter().map(|(role, (tokens, trained))| (role.clone(), json!({ "tokens": tokens, "trained": trained }))).collect::<serde_json::Map<_, _>>(),
        "conversations": account.conversations, "train_nothing": account.untrained, "double_begin": totals.double_begin.value(),
        "end_not_trained": totals.open_end.value(), "longer_than_context": totals.too_long.value(), "bad_rows": account.skipped,
    });
    terminal.result(&value, || {
        let in_colour = Terminal::has_colour();
        let mut out = String::new();
        for view in &shown {
            let trained = view.tokens.iter().filter(|token| token.is_trained).count();
            out.push_str(&format!("{} ({}): {} tokens, {trained} trained\n", view.origin, view.kind, view.tokens.len()));
            out.push_str(&marked(view, tokenizer.as_ref(), in_colour));
            out.push_str("\n\n");
        }
        let by_role = totals.by_role.iter().map(|(role, (tokens, trained))| vec![role.clone(), tokens.to_string(), trained.to_string()]);
        let all = vec!["all".to_owned(), totals.tokens.to_string(), totals.trained.to_string()];
        out.push_str(&table(&["role", "tokens", "trained"], by_role.chain([all])));
        out.push_str(&format!("\n{} rows by the tokenizer of {of} and the template `{}`\n", totals.rows, arguments.template));
        out.push_str(&format!("{} rows that train nothing (left out)\n", account.untrained.rows));
        out.extend(account.untrained.first.iter().take(LISTED).map(|row| format!("  {row}\n")));
        totals.double_begin.tell(&mut out, "rows that begin with two tokens that begin a text");
        totals.open_end.tell(&mut out, "rows whose end is not trained");
        totals.too_long.tell(&mut out, &format!("rows that are longer than the context of {context_length} tokens (cut)"));
        out.push_str(&format!("{} bad rows\n", account.skipped.rows));
        out.extend(account.skipped.first.iter().take(LISTED).map(|row| format!("  {row}\n")));
        out
    })
}

/// What rows are tokenized by.
struct Vocabulary {
    tokenizer: Arc<dyn Tokenizer>,
    /// Where it was found.
    of: String,
    context_length: usize,
}

/// The tokenizer that was asked for, or the newest run's.
fn vocabulary(arguments: &Masks) -> Result<Vocabulary, CliError> {
    let newest = || {
        stored_model::newest_run(Path::new("runs")).map_err(|_| {
            let what = "there is no run below `runs` whose tokenizer could be taken";
            CliError::usage(what, "name one with `--tokenizer`: a tokenizer.json, its folder, a run or a checkpoint")
        })
    };
    let path = arguments.tokenizer.clone().map_or_else(newest, Ok)?;
    let model = path.join("run.json").exists().then(|| run_config::of_run(&path)).transpose()?.map(|config| config.model);
    let model = match model {
        Some(model) => model,
        None => run_config::resolve(None, &[])?.value.model,
    };
    let tokenizer = codex_tokenize::load(&path)?;
    let context_length = arguments.context_length.unwrap_or(model.context_length);
    Ok(Vocabulary { tokenizer, of: path.display().to_string(), context_length })
}

/// What is counted of all rows.
#[derive(Default)]
struct Totals {
    context_length: usize,
    rows: u64,
    tokens: u64,
    trained: u64,
    by_role: BTreeMap<String, (u64, u64)>,
    double_begin: Found,
    open_end: Found,
    too_long: Found,
}

impl Totals {
    fn add(&mut self, view: &RowView, tokenizer: &dyn Tokenizer) {
        self.rows += 1;
        for token in &view.tokens {
            let of_role = self.by_role.entry(token.role.clone()).or_default();
            let trained = u64::from(token.is_trained);
            (self.tokens, self.trained) = (self.tokens + 1, self.trained + trained);
            *of_role = (of_role.0 + 1, of_role.1 + trained);
        }
        if let [first, second, ..] = view.tokens.as_slice()
            && first.id == second.id
            && tokenizer.is_special(first.id)
        {
            self.double_begin.add(view);
        }
        if !view.tokens.last().is_some_and(|last| last.is_trained && last.id == tokenizer.end_of_text()) {
            self.open_end.add(view);
        }
        // The last token is only ever a target.
        if view.tokens.len() > self.context_length + 1 {
            self.too_long.add(view);
        }
    }
}

/// Rows with something amiss.
#[derive(Default)]
struct Found {
    rows: u64,
    first: Vec<String>,
}

impl Found {
    fn add(&mut self, view: &RowView) {
        self.rows += 1;
        if self.first.len() < LISTED {
            self.first.push(view.origin.to_string());
        }
    }

    fn value(&self) -> Value {
        json!({ "rows": self.rows, "first": self.first })
    }

    fn tell(&self, out: &mut String, what: &str) {
        out.push_str(&format!("{} {what}\n", self.rows));
        out.extend(self.first.iter().map(|row| format!("  {row}\n")));
    }
}

fn as_json(view: &RowView, tokenizer: &dyn Tokenizer) -> Value {
    let tokens = view.tokens.iter().map(|token| {
        json!({ "id": token.id, "text": tokenizer.decode(&[token.id]).unwrap_or_default(), "trained": token.is_trained, "role": token.role })
    });
    json!({ "origin": view.origin.to_string(), "kind": view.kind, "tokens": tokens.collect::<Vec<_>>() })
}

/// The tokens with bars between them, stretches of trained ones in green or in brackets. White space other than spaces, and what a terminal would
/// act on, is escaped.
fn marked(view: &RowView, tokenizer: &dyn Tokenizer, in_colour: bool) -> String {
    let (open, close) = if in_colour { ("\u{1b}[32m", "\u{1b}[0m") } else { ("[", "]") };
    let mut out = String::new();
    for stretch in view.tokens.chunk_by(|a, b| a.is_trained == b.is_trained) {
        let texts: Vec<String> = stretch.iter().map(|token| visible(&tokenizer.decode(&[token.id]).unwrap_or_default())).collect();
        let text = texts.join("|");
        if stretch.first().is_some_and(|token| token.is_trained) {
            out.push_str(&format!("{open}{text}{close}"));
        } else {
            out.push_str(&text);
        }
    }
    out
}

fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}
