//! `safety scan`, `safety redact` and `safety rules`.

use std::io::Read;
use std::path::{Path, PathBuf};

use codex_core::files;
use codex_safety::{Finding, SafetyConfig, Scanner, rules};
use serde_json::json;

use crate::arguments::Safety;
use crate::failure::CliError;
use crate::terminal::{Terminal, table};

/// The largest file that is scanned, in bytes.
const MAX_BYTES: u64 = 256 << 20;

pub(super) fn run(arguments: &Safety, terminal: &Terminal) -> Result<(), CliError> {
    let scanner = Scanner::new(&SafetyConfig::default())?;
    match arguments {
        Safety::Scan { paths } => scan(&scanner, paths, terminal),
        Safety::Redact { path } => {
            let text = read(path.as_deref())?;
            let redacted = scanner.redact(&text);
            terminal.text(&json!({ "text": redacted.text, "findings": redacted.findings }), &redacted.text)
        }
        Safety::Rules => {
            let all = rules();
            let rows = all.iter().map(|rule| vec![rule.id.clone(), format!("{:?}", rule.category), rule.description.clone()]);
            let text = table(&["rule", "category", "finds"], rows);
            terminal.result(&all, || text)
        }
    }
}

fn scan(scanner: &Scanner, paths: &[PathBuf], terminal: &Terminal) -> Result<(), CliError> {
    let mut found: Vec<(PathBuf, Finding)> = Vec::new();
    let (mut n_files, mut skipped) = (0_u64, Vec::new());
    let mut waiting: Vec<PathBuf> = paths.iter().rev().cloned().collect();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(files::list_dir(&path)?.into_iter().rev().filter(|inner| !hidden(inner) && !inner.is_symlink()));
            continue;
        }
        match String::from_utf8(files::read_bounded(&path, MAX_BYTES)?) {
            Ok(text) => found.extend(scanner.scan(&text).into_iter().map(|finding| (path.clone(), finding))),
            Err(_) => skipped.push(path),
        }
        n_files += 1;
    }
    for path in &skipped {
        terminal.warn(&format!("`{}` is not UTF-8 text and was not scanned", path.display()));
    }
    let listed: Vec<_> = found.iter().map(|(path, finding)| json!({ "path": path, "finding": finding })).collect();
    terminal.result(&json!({ "files": n_files, "skipped": skipped, "findings": listed }), || {
        let rows = found.iter().map(|(path, finding)| {
            let place = format!("{}:{}:{}", path.display(), finding.line, finding.column);
            vec![place, finding.rule.clone(), format!("{:?}", finding.category), finding.digest.short()]
        });
        let summary = format!("{} findings in {n_files} files", found.len());
        if found.is_empty() { summary } else { format!("{}\n{summary}", table(&["place", "rule", "category", "digest"], rows)) }
    })
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn read(path: Option<&Path>) -> Result<String, CliError> {
    let bytes = if let Some(path) = path {
        files::read_bounded(path, MAX_BYTES)?
    } else {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes);
        if bytes.len() as u64 > MAX_BYTES {
            return Err(CliError::usage("the text is larger than 256 MiB", "give it in parts"));
        }
        read.map_err(|error| CliError::usage(format!("standard input cannot be read: {error}"), "name a file"))?;
        bytes
    };
    let place = path.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        CliError::Unreadable { place, reason: format!("not UTF-8 text (byte {at})") }
    })
}
