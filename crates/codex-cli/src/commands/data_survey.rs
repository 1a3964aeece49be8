//! `data inspect` and `data stats`: what is in files and folders before anything is trained on them, for a person and in numbers.

use std::path::Path;
use std::sync::Arc;

use codex_core::files;
use codex_data::{
    Account, DataConfig, Document, Duplicates, OnBadRow, SourceChecksum, SourceDescription, Spread, Survey, SurveyReport, open_sources,
    usable_documents,
};
use codex_safety::{SafetyConfig, Scanner};
use codex_tokenize::Tokenizer;
use serde_json::json;

use crate::arguments::Surveyed;
use crate::commands::data_picture;
use crate::corpus;
use crate::failure::CliError;
use crate::terminal::{Terminal, bytes, table};

/// Documents whose tokens are counted together.
const TOGETHER: usize = 1024;
/// Rows of a file whose fields are looked at.
const DESCRIBED_ROWS: u64 = 100;
/// Files whose fields are shown; `--json` has them all.
const SHOWN_FILES: usize = 20;
/// Writing systems that are shown.
const SCRIPTS: usize = 8;

/// What was found in the sources.
struct Found {
    checksums: Vec<SourceChecksum>,
    notes: Vec<String>,
    files: Vec<SourceDescription>,
    account: Account,
    survey: SurveyReport,
    /// Where a tokenizer was given.
    tokens: Option<Spread>,
}

fn look(arguments: &Surveyed, tokenizer: Option<&Arc<dyn Tokenizer>>, with_fields: bool, terminal: &Terminal) -> Result<Found, CliError> {
    let Surveyed { paths, text_field, near, .. } = arguments;
    let config = DataConfig { train: paths.clone(), text_field: text_field.clone(), on_bad_row: OnBadRow::Skip, ..DataConfig::default() };
    let sources = open_sources(&config, &corpus::builtins(&config)?)?;
    let (mut checksums, mut sizes) = (Vec::new(), Vec::new());
    for source in sources.train.iter().chain(&sources.validation) {
        let of_source = source.checksums()?;
        sizes.push(of_source.iter().map(|file| file.bytes).sum::<u64>());
        checksums.extend(of_source);
    }
    let scanner = Scanner::new(&SafetyConfig::default())?;
    let files = if with_fields { sources.describe(DESCRIBED_ROWS, &scanner)? } else { Vec::new() };
    let mut documents = usable_documents(&sources, &config, &scanner);
    let mut survey = Survey::new(if *near { Duplicates::Near } else { Duplicates::Exact });
    let mut tokens = Tokens { tokenizer, waiting: Vec::new(), counts: Vec::new() };
    let has_bar = terminal.start_bar(sizes.iter().sum(), 0, "reading {bar:24} {percent} %  {msg}  ETA {eta}");
    let mut n = 0_u64;
    while let Some(document) = documents.next() {
        let document = document?;
        survey.add(&document);
        tokens.add(&document)?;
        n += 1;
        if has_bar && n.is_multiple_of(TOGETHER as u64) {
            terminal.move_bar(documents.bytes_done(&sizes), format!("{n} documents"));
        }
    }
    terminal.end_bar();
    let tokens = tokens.finish()?;
    Ok(Found { checksums, notes: sources.notes(), files, account: documents.account().clone(), survey: survey.report(), tokens })
}

/// The tokens of each document.
struct Tokens<'a> {
    tokenizer: Option<&'a Arc<dyn Tokenizer>>,
    waiting: Vec<String>,
    counts: Vec<u64>,
}

impl Tokens<'_> {
    fn add(&mut self, document: &Document) -> Result<(), CliError> {
        if self.tokenizer.is_some() {
            self.waiting.push(document.content.text().into_owned());
            if self.waiting.len() >= TOGETHER {
                self.count()?;
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), CliError> {
        if let Some(tokenizer) = self.tokenizer {
            let texts: Vec<&str> = self.waiting.iter().map(String::as_str).collect();
            self.counts.extend(tokenizer.encode_batch(&texts)?.iter().map(|ids| ids.len() as u64));
            self.waiting.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Option<Spread>, CliError> {
        self.count()?;
        Ok(self.tokenizer.map(|_| Spread::of(self.counts)))
    }
}

/// What is in the sources, for a person.
pub(super) fn inspect(arguments: &Surveyed, terminal: &Terminal) -> Result<(), CliError> {
    let Found { checksums, notes, files, account, survey, .. } = look(arguments, None, true, terminal)?;
    picture(arguments, &survey, terminal)?;
    let value = json!({
        "sources": checksums, "notes": notes, "files": files, "documents": survey.documents, "text_bytes": survey.bytes.total, "shortest_bytes": survey.bytes.min,
        "longest_bytes": survey.bytes.max, "length_histogram_log2_bytes": survey.length_histogram_log2_bytes, "account": account, "survey": survey,
    });
    terminal.result(&value, || {
        // Both are in reading order.
        let sources = checksums.iter().zip(&files).take(SHOWN_FILES).map(|(source, file)| source_row(source, file));
        let mut out = table(&["source", "size", "BLAKE3", "read as", "fields of the first rows"], sources);
        if checksums.len() > SHOWN_FILES {
            out.push_str(&format!("\nand {} more files", checksums.len() - SHOWN_FILES));
        }
        out.extend(notes.iter().map(|note| format!("\n{note}")));
        let kinds: Vec<String> = survey.kinds.iter().filter(|(kind, _)| **kind != "text").map(|(kind, n)| format!("{n} {kind}s")).collect();
        let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
        out.push_str(&format!("\n{} documents{kinds}, {} of text", survey.documents, bytes(survey.bytes.total)));
        if survey.documents > 0 {
            let Spread { min, max, mean, .. } = survey.bytes;
            out.push_str(&format!("; {} to {} each, {} on average", bytes(min), bytes(max), bytes(mean as u64)));
        }
        out.push('\n');
        out.push_str(&passed_over(&account));
        out.push_str(&bars(&survey.length_histogram_log2_bytes));
        out.push_str(&scripts(&survey));
        out.push_str(&outstanding(&survey));
        for (rule, count) in &account.safety.rules {
            out.push_str(&format!("safety: {rule} {count}\n"));
        }
        for row in &account.skipped.first {
            out.push_str(&format!("bad row: {row}\n"));
        }
        out
    })
}

/// The numbers of the sources.
pub(super) fn stats(arguments: &Surveyed, tokenizer: Option<&Path>, terminal: &Terminal) -> Result<(), CliError> {
    let tokenizer = tokenizer.map(codex_tokenize::load).transpose()?;
    let Found { checksums, account, survey, tokens, .. } = look(arguments, tokenizer.as_ref(), false, terminal)?;
    picture(arguments, &survey, terminal)?;
    let per_token = tokens.map(|tokens| survey.bytes.total as f64 / tokens.total.max(1) as f64);
    let value = json!({
        "sources": checksums, "account": account, "survey": survey, "tokens": tokens, "bytes_per_token": per_token,
        "tokenizer": tokenizer.as_ref().map(|tokenizer| tokenizer.digest()),
    });
    terminal.result(&value, || {
        let row = |name: &str, spread: &Spread| {
            let Spread { total, mean, min, p5, p25, p50, p75, p95, p99, max } = *spread;
            let ranks = [min, p5, p25, p50, p75, p95, p99, max].map(|rank| rank.to_string());
            [vec![name.to_owned(), total.to_string(), format!("{mean:.1}")], ranks.to_vec()].concat()
        };
        let parts = [("bytes", &survey.bytes), ("characters", &survey.characters), ("words", &survey.words), ("lines", &survey.lines)];
        let tokens = tokens.as_ref().map(|tokens| ("tokens", tokens));
        let rows = parts.into_iter().chain(tokens).map(|(name, spread)| row(name, spread));
        let mut out = table(&["of a document", "total", "mean", "min", "p5", "p25", "p50", "p75", "p95", "p99", "max"], rows);
        out.push_str(&format!("\n{} documents; {}", survey.documents, passed_over(&account)));
        if let Some(per_token) = per_token {
            out.push_str(&format!("{per_token:.3} bytes per token\n"));
        }
        out + &scripts(&survey) + &outstanding(&survey)
    })
}

/// A file, what it is, and the types of its fields.
fn source_row(source: &SourceChecksum, file: &SourceDescription) -> Vec<String> {
    let fields = file.fields.iter().map(|field| {
        let types: Vec<&str> = field.types.keys().map(String::as_str).collect();
        format!("{}: {}", field.name, types.join(" or "))
    });
    let how = [Some(file.format.clone()), file.compression.clone(), file.encoding.clone()];
    let (how, fields) = (how.into_iter().flatten().collect::<Vec<_>>().join(", "), fields.collect::<Vec<_>>().join(", "));
    vec![file.path.clone(), bytes(source.bytes), source.blake3.short(), how, fields]
}

/// What was not counted.
fn passed_over(account: &Account) -> String {
    format!("{} empty, {} bad rows, {} dropped by safety rules\n", account.empty, account.skipped.rows, account.dropped)
}

fn picture(arguments: &Surveyed, survey: &SurveyReport, terminal: &Terminal) -> Result<(), CliError> {
    let Some(path) = &arguments.svg else { return Ok(()) };
    files::write_atomic(path, data_picture::svg(survey).as_bytes())?;
    terminal.say(&format!("the lengths and the writing systems are drawn in {}", path.display()));
    Ok(())
}

/// The document lengths as a picture.
fn bars(histogram: &[u64]) -> String {
    let most = histogram.iter().copied().max().unwrap_or(0).max(1);
    let rows = histogram.iter().enumerate().filter(|(_, count)| **count > 0);
    let rows = rows.map(|(i, &count)| format!("{:>9} up  {} {count}\n", bytes(1 << i), "#".repeat((count * 40).div_ceil(most) as usize)));
    rows.collect::<Vec<_>>().concat()
}

fn scripts(survey: &SurveyReport) -> String {
    let all: u64 = survey.scripts.iter().map(|(_, n)| n).sum();
    let share = |n: u64| {
        let percent = 100.0 * n as f64 / all.max(1) as f64;
        if percent < 0.005 { "below 0.01 %".to_owned() } else { format!("{percent:.2} %") }
    };
    let mut told: Vec<String> = survey.scripts.iter().take(SCRIPTS).map(|(name, n)| format!("{name} {}", share(*n))).collect();
    let rest: u64 = survey.scripts.iter().skip(SCRIPTS).map(|(_, n)| n).sum();
    if rest > 0 {
        told.push(format!("{} others {}", survey.scripts.len() - SCRIPTS, share(rest)));
    }
    if told.is_empty() { String::new() } else { format!("writing systems by letters: {}\n", told.join(", ")) }
}

fn outstanding(survey: &SurveyReport) -> String {
    let named = |list: &[codex_data::Outstanding], of: &str| {
        list.iter().map(|one| format!("{} ({} {of})", one.origin, one.size)).collect::<Vec<_>>().join(", ")
    };
    let mut out = String::new();
    if survey.documents > 1 {
        out.push_str(&format!("longest: {}\n", named(&survey.longest, "bytes")));
        out.push_str(&format!("emptiest: {}\n", named(&survey.emptiest, "characters that are no white space")));
    }
    for (reason, n) in &survey.duplicates {
        out.push_str(&format!("{n} {}s\n", reason.replace('_', " ")));
    }
    for one in &survey.first_duplicates {
        let like = one.like.as_ref().map(|like| format!(" of {like}")).unwrap_or_default();
        out.push_str(&format!("  {}: {}{like}\n", one.origin, one.reason.replace('_', " ")));
    }
    out
}
