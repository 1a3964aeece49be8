//! The shipped corpus and fine-tuning rows: whole by their manifests, and each answer with words of the file it names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use codex_core::{Digest, files};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    schema: u32,
    source: serde_json::Value,
    files: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    path: String,
    bytes: u64,
    lines: usize,
    words: usize,
    blake3: Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, untagged)]
enum Row {
    Prompt { id: String, prompt: String, completion: String, evidence: Vec<Evidence> },
    Chat { id: String, messages: Vec<Message>, evidence: Vec<Evidence> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    role: String,
    content: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Evidence {
    file: String,
    quote: String,
}

fn root() -> PathBuf {
    std::path::absolute("../..").unwrap()
}

#[test]
fn every_fixture_is_the_one_its_manifest_lists() {
    for folder in ["fixtures/corpus", "fixtures/sft"] {
        let folder = root().join(folder);
        let manifest: Manifest = serde_json::from_slice(&files::read(&folder.join("manifest.json")).unwrap()).unwrap();
        assert_eq!(manifest.schema, 1);
        assert!(manifest.source.is_object());
        let mut listed = BTreeSet::new();
        for record in &manifest.files {
            let path = folder.join(&record.path);
            let text = files::read_to_string(&path).unwrap();
            let found = (text.len() as u64, text.lines().count(), text.split_whitespace().count(), Digest::of_bytes(text.as_bytes()));
            assert_eq!(found, (record.bytes, record.lines, record.words, record.blake3), "{}", path.display());
            listed.insert(path);
        }
        let is_data = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "txt" || extension == "jsonl");
        let all: BTreeSet<PathBuf> = all_files(&folder).into_iter().filter(is_data).collect();
        assert_eq!(all, listed, "a file that no manifest lists");
    }
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let inner = |path: PathBuf| if path.is_dir() { all_files(&path) } else { vec![path] };
    files::list_dir(folder).unwrap().into_iter().flat_map(inner).collect()
}

fn one_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_answer_has_its_words_in_the_file_it_names() {
    let mut texts = std::collections::BTreeMap::new();
    let (mut ids, mut questions) = (BTreeSet::new(), BTreeSet::new());
    for name in ["train", "validation"] {
        let rows = files::read_to_string(&root().join(format!("fixtures/sft/{name}.jsonl"))).unwrap();
        let mut last = String::new();
        for line in rows.lines() {
            let (id, asked, evidence) = match serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")) {
                Row::Prompt { id, prompt, completion, evidence } => {
                    assert!(!completion.trim().is_empty(), "{id}");
                    (id, prompt, evidence)
                }
                Row::Chat { id, messages, evidence } => {
                    let turns = turns(&messages);
                    let expected = ["user", "assistant"].iter().cycle().take(turns.len());
                    assert!(turns.len() >= 2 && turns.len().is_multiple_of(2), "{id}: it ends with the assistant");
                    assert!(turns.iter().zip(expected).all(|(message, role)| message.role == *role), "{id}: the roles take turns");
                    (id, messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n"), evidence)
                }
            };
            assert!(last < id, "{id}: the rows are sorted by id");
            assert!(ids.insert(id.clone()) && questions.insert(asked), "{id}: it is there twice");
            assert!(!evidence.is_empty(), "{id}");
            for Evidence { file, quote } in evidence {
                assert!((20..=200).contains(&quote.len()), "{id}: {} bytes are quoted", quote.len());
                assert!(name == "validation" || !file.ends_with("persuasion.txt"), "{id}: a training row on the held-out novel");
                let text = texts.entry(file.clone()).or_insert_with(|| one_spaced(&files::read_to_string(&root().join(&file)).unwrap()));
                assert!(text.contains(&one_spaced(&quote)), "{id}: `{file}` does not say `{quote}`; correct the row with the file");
            }
            last = id;
        }
    }
    assert!(ids.len() >= 200, "{}", ids.len());
}

/// The messages after an opening system message.
fn turns(messages: &[Message]) -> &[Message] {
    match messages.split_first() {
        Some((first, rest)) if first.role == "system" => rest,
        _ => messages,
    }
}
