//! `data prepare`, `data verify` and `data gc`: making the caches that training reads, proving them, and clearing away those that nothing uses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use codex_core::{Digest, files};
use codex_data::{PackingReport, Split, TokenCache, TrainingData};
use codex_tokenize::TOKENIZER_FILE;
use codex_track::{RunDir, list_runs};
use serde::Serialize;
use serde_json::{Value, json};

use crate::arguments::Configuration;
use crate::failure::CliError;
use crate::prepared;
use crate::terminal::{Terminal, bytes, table};
use crate::training_setup::TrainingSetup;

/// Makes everything that training with this configuration would make first.
pub(super) fn prepare(configuration: &Configuration, terminal: &Terminal) -> Result<(), CliError> {
    let TrainingSetup { resolved, base, .. } = TrainingSetup::new(configuration, Vec::new(), terminal)?;
    let root = prepared::cache_root(&resolved.value);
    let known = prepared::known_checksums(&root);
    let prepared = prepared::prepare(&resolved.value, base, &root, terminal)?;
    drop(known);
    let data = &prepared.data;
    let windows = resolved.value.windows();
    let loader = data.train_loader(&windows)?;
    let packing = loader.reports()?;
    let by_source: BTreeMap<&str, &PackingReport> = packing.iter().map(|(name, report)| (*name, report)).collect();
    let value = json!({
        "context_length": windows.context_length, "packing": windows.cutting.packing, "windows": by_source,
        "cache": root, "key": data.key()?, "tokenizer": prepared.tokenizer.digest(), "vocab_size": prepared.tokenizer.vocab_size(),
        "sources": prepared.checksums, "data": data.record()?,
        "train_tokens": data.n_tokens(Split::Train), "validation_tokens": data.n_tokens(Split::Validation),
    });
    terminal.result(&value, || {
        let shown = |name: &str, fallback: &str| if name.is_empty() { fallback.to_owned() } else { name.to_owned() };
        let row = |part: &str, name: String, cache: &TokenCache, split: Split| {
            let tokens = cache.split(split);
            let account = &cache.manifest().account;
            let trained = if tokens.is_masked() { tokens.n_trained().to_string() } else { "all".to_owned() };
            let left_out = account.skipped.rows + account.dropped + account.empty + account.untrained.rows;
            let counts = [tokens.n_documents(), tokens.n_tokens()].map(|count| count.to_string());
            let [documents, tokens] = counts;
            vec![part.to_owned(), name, documents, tokens, trained, left_out.to_string(), cache.key().short()]
        };
        let sources = data.sources().iter().map(|source| row("train", shown(&source.name, "train"), &source.cache, Split::Train));
        let sets = data.validation().iter().map(|set| row("validation", shown(&set.name, "validation"), &set.cache, set.split));
        let rows: Vec<Vec<String>> = sources.chain(sets).collect();
        let mut worth = PackingReport::default();
        for (_, report) in &packing {
            worth.merge(report);
        }
        format!(
            "{}\n{} windows of {} tokens an epoch: {:.2} % padding; {} of {} documents are cut, {:.2} % of the inputs do not see their document's beginning\ntokenizer {}, {} ids; caches in {}\n",
            table(&["split", "name", "documents", "tokens", "trained", "left out", "cache"], rows),
            worth.windows,
            windows.context_length,
            100.0 * worth.padding_share(),
            worth.cut_documents,
            worth.documents,
            100.0 * worth.cut_share(),
            prepared.tokenizer.digest().short(),
            prepared.tokenizer.vocab_size(),
            root.display()
        )
    })
}

/// A cache in a folder of caches.
#[derive(Debug, Serialize)]
struct Cache {
    kind: &'static str,
    path: PathBuf,
    bytes: u64,
    /// What is wrong with it; of `gc`, whether a run uses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_used: Option<bool>,
}

/// Every cache of a folder, tokens first. What has no digest for a name is none: drafts, and what others put there.
fn caches(root: &Path) -> Result<Vec<Cache>, CliError> {
    let mut all = Vec::new();
    for kind in ["tokens", "tokenizers"] {
        let folder = root.join(kind);
        for path in if folder.is_dir() { files::list_dir(&folder)? } else { Vec::new() } {
            let is_cache = path.file_name().and_then(|name| name.to_str()?.parse::<Digest>().ok()).is_some();
            if is_cache && path.is_dir() {
                let mut bytes = 0;
                for file in files::list_dir(&path)?.iter().filter(|file| files::is_plain_file(file)) {
                    bytes += files::size(file)?;
                }
                all.push(Cache { kind, path, bytes, error: None, is_used: None });
            }
        }
    }
    Ok(all)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Recomputes every digest of every cache.
pub(super) fn verify(root: &Path, terminal: &Terminal) -> Result<(), CliError> {
    let mut all = caches(root)?;
    for cache in &mut all {
        let chain = |error: &dyn std::error::Error| codex_core::failure::chain(error);
        cache.error = if cache.kind == "tokens" {
            match TokenCache::open(&cache.path) {
                Ok(opened) if opened.key().to_string() == name(&cache.path) => None,
                Ok(opened) => Some(format!("it is the cache {}, under another's name", opened.key())),
                Err(error) => Some(chain(&error)),
            }
        } else {
            codex_tokenize::load(&cache.path).err().map(|error| chain(&error))
        };
    }
    let damaged: Vec<&Cache> = all.iter().filter(|cache| cache.error.is_some()).collect();
    terminal.result(&json!({ "folder": root, "caches": all, "damaged": damaged.len() }), || {
        let rows = all.iter().map(|cache| {
            let verdict = cache.error.clone().unwrap_or_else(|| "proven".to_owned());
            vec![cache.kind.to_owned(), name(&cache.path).chars().take(12).collect(), bytes(cache.bytes), verdict]
        });
        format!("{}\n{} of {} caches proven\n", table(&["kind", "cache", "size", ""], rows), all.len() - damaged.len(), all.len())
    })?;
    match damaged.first() {
        None => Ok(()),
        Some(first) => Err(CliError::Integrity {
            path: first.path.clone(),
            reason: first.error.clone().unwrap_or_default(),
            hint: "training makes a damaged cache again by itself; or remove the folder",
        }),
    }
}

/// Removes the caches that no run below a folder uses, or says which those are.
pub(super) fn gc(runs: &Path, root: Option<&Path>, is_dry: bool, terminal: &Terminal) -> Result<(), CliError> {
    let root = root.map_or_else(|| runs.join(".cache"), Path::to_owned);
    let (mut keys, mut tokenizers, mut unreadable) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for entry in if runs.is_dir() { list_runs(runs)? } else { Vec::new() } {
        let read = || -> Result<Value, CliError> { Ok(RunDir::open(&entry.path)?.read_json("data.manifest.json")?) };
        match read() {
            Ok(record) => keys.extend(TrainingData::recorded(&record).into_iter().map(|manifest| manifest.key.to_string())),
            // A run that failed before it had data has none.
            Err(_) if !entry.path.join("data.manifest.json").exists() => {}
            Err(error) => unreadable.push(format!("`{}`: {}", entry.path.display(), codex_core::failure::chain(&error))),
        }
        tokenizers.extend(Digest::of_file(&entry.path.join(TOKENIZER_FILE)).ok());
    }
    if let Some(first) = unreadable.first() {
        let what = format!("what the runs use cannot be told: {first}");
        return Err(CliError::usage(what, "repair or move that run first; nothing was removed"));
    }
    let mut all = caches(&root)?;
    for cache in &mut all {
        cache.is_used = Some(match cache.kind {
            "tokens" => keys.contains(&name(&cache.path)),
            _ => Digest::of_file(&cache.path.join(TOKENIZER_FILE)).is_ok_and(|digest| tokenizers.contains(&digest)),
        });
    }
    let unused: Vec<&Cache> = all.iter().filter(|cache| cache.is_used == Some(false)).collect();
    let freed: u64 = unused.iter().map(|cache| cache.bytes).sum();
    if !is_dry {
        for cache in &unused {
            files::remove_dir_all(&cache.path)?;
        }
    }
    let value = json!({ "folder": root, "caches": all, "unused": unused.len(), "bytes": freed, "removed": !is_dry });
    terminal.result(&value, || {
        let rows = all.iter().map(|cache| {
            let fate = match (cache.is_used, is_dry) {
                (Some(true), _) => "used",
                (_, true) => "would go",
                (_, false) => "removed",
            };
            vec![cache.kind.to_owned(), name(&cache.path).chars().take(12).collect(), bytes(cache.bytes), fate.to_owned()]
        });
        let what = if is_dry { "would be freed" } else { "freed" };
        format!(
            "{}\n{} of {} caches unused, {} {what}\n",
            table(&["kind", "cache", "size", ""], rows),
            unused.len(),
            all.len(),
            bytes(freed)
        )
    })
}
