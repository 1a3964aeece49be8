//! Text to measure with: the novels of fixtures/corpus again and again, in documents that all differ.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Bytes of text from which on a document ends with its paragraph.
const DOCUMENT_BYTES: usize = 4_000;

/// A file of text.
#[derive(Clone, Debug)]
pub struct Text {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes of its documents, without what stands around them in JSON.
    pub text_bytes: u64,
    /// Documents in it.
    pub documents: u64,
}

/// Of so many documents one has an address and a number that a scan finds.
const DOCUMENTS_FOR_A_FINDING: u64 = 50;

/// Writes at least so many megabytes of documents, each beginning with a line of its own, some with something that a scan finds: as JSON Lines when
/// the name ends so, else as plain text.
pub fn write(root: &Path, path: &Path, megabytes: u64) -> Result<Text> {
    let is_json = path.extension().is_some_and(|extension| extension == "jsonl");
    let documents = documents_of(&root.join("fixtures/corpus/train"))?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    }
    let failed = || format!("cannot write `{}`", path.display());
    let mut file = BufWriter::new(File::create(path).with_context(failed)?);
    let mut written = Text { path: path.to_owned(), text_bytes: 0, documents: 0 };
    for (name, body) in documents.iter().cycle() {
        if written.text_bytes >= megabytes * 1_000_000 {
            break;
        }
        let number = written.documents;
        let mut text = format!("[{name} {number}]\n{body}\n");
        if number.is_multiple_of(DOCUMENTS_FOR_A_FINDING) {
            text += &format!("Write to reader{number}@posteo.de or call +49 30 {:07}.\n", 1_234_567 + number);
        }
        if is_json {
            writeln!(file, "{}", serde_json::json!({ "text": text })).with_context(failed)?;
        } else {
            file.write_all(text.as_bytes()).with_context(failed)?;
        }
        written.text_bytes += text.len() as u64;
        written.documents += 1;
    }
    file.flush().with_context(failed)?;
    Ok(written)
}

/// The novels cut at paragraphs, each piece with the name of its file.
fn documents_of(folder: &Path) -> Result<Vec<(String, String)>> {
    let listed = fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))?;
    let mut paths: Vec<PathBuf> = listed.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let mut document = String::new();
        for paragraph in text.split("\n\n") {
            document += paragraph;
            document += "\n\n";
            if document.len() >= DOCUMENT_BYTES {
                found.push((name.clone(), std::mem::take(&mut document)));
            }
        }
        found.push((name, document));
    }
    if found.is_empty() {
        bail!("`{}` has no `.txt`", folder.display());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn documents_all_differ_and_reach_the_size() {
        let folder = tempfile::tempdir().unwrap();
        let novels = folder.path().join("fixtures/corpus/train");
        fs::create_dir_all(&novels).unwrap();
        fs::write(novels.join("a.txt"), "One paragraph of a novel.\n\n".repeat(1_000)).unwrap();
        let text = write(folder.path(), &folder.path().join("x.jsonl"), 1).unwrap();
        let lines = fs::read_to_string(&text.path).unwrap();
        assert!(text.text_bytes >= 1_000_000 && text.text_bytes < 1_010_000, "{text:?}");
        assert_eq!(lines.lines().count() as u64, text.documents);
        assert_eq!(lines.lines().collect::<BTreeSet<_>>().len() as u64, text.documents);
        assert!(lines.starts_with("{\"text\":\"[a 0]\\nOne paragraph"), "{}", &lines[..40]);
        let plain = write(folder.path(), &folder.path().join("x.txt"), 1).unwrap();
        assert_eq!(fs::metadata(&plain.path).unwrap().len(), plain.text_bytes);
        assert!(write(&folder.path().join("none"), &folder.path().join("y"), 1).is_err());
    }
}
