//! docs/BENCHMARKS.md: a result is put in before the older ones, which stay as they are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The line below which records stand, the newest first.
pub const MARKER: &str = "<!-- records, the newest first -->";

/// A text with a record put in before the older ones.
pub fn insert(text: &str, record: &str) -> Result<String> {
    let (before, after) = text
        .split_once(MARKER)
        .with_context(|| format!("there is no line `{MARKER}`: put it where the records are to begin, or take the file from git"))?;
    let older = after.trim();
    let older = if older.is_empty() { String::new() } else { format!("\n{older}\n") };
    Ok(format!("{before}{MARKER}\n\n{}\n{older}", record.trim()))
}

/// Keeps a result: its picture in `docs/bench/`, its record in `docs/BENCHMARKS.md`. `name` is that of the picture, and `record` makes the record
/// from the link to it. Returns what was written.
pub fn keep(root: &Path, name: &str, svg: &str, record: &dyn Fn(&str) -> String) -> Result<[PathBuf; 2]> {
    let path = root.join("docs/BENCHMARKS.md");
    let picture = root.join("docs/bench").join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let text = insert(&text, &record(&format!("bench/{name}"))).with_context(|| format!("cannot add to `{}`", path.display()))?;
    for (path, text) in [(&picture, svg), (&path, &text)] {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        }
        fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok([path, picture])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_before_the_older_ones_and_they_stay() {
        let empty = format!("# Benchmarks\n\n{MARKER}\n");
        let one = insert(&empty, "## first\n\n| a |\n").unwrap();
        assert_eq!(one, format!("# Benchmarks\n\n{MARKER}\n\n## first\n\n| a |\n"));
        let two = insert(&one, "## second\n").unwrap();
        assert_eq!(two, format!("# Benchmarks\n\n{MARKER}\n\n## second\n\n## first\n\n| a |\n"));
        assert!(insert("# Benchmarks\n", "x").unwrap_err().to_string().contains(MARKER));
    }

    #[test]
    fn record_and_picture_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let keep = || keep(folder.path(), "train-1.svg", "<svg/>", &|link| format!("## train\n\n![x]({link})\n"));
        let error = format!("{:#}", keep().unwrap_err());
        assert!(error.contains("BENCHMARKS.md"), "{error}");
        fs::create_dir_all(folder.path().join("docs")).unwrap();
        fs::write(folder.path().join("docs/BENCHMARKS.md"), format!("{MARKER}\n")).unwrap();
        let [text, picture] = keep().unwrap();
        assert!(fs::read_to_string(text).unwrap().contains("![x](bench/train-1.svg)"));
        assert_eq!(fs::read_to_string(picture).unwrap(), "<svg/>");
    }

    #[test]
    fn the_committed_file_takes_records() {
        let text = include_str!("../../../docs/BENCHMARKS.md");
        assert!(insert(text, "## x\n").unwrap().contains("## x\n"));
    }
}
