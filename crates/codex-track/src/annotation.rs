//! `annotations.json`: the name, tags and note that a person gave a run afterwards. They lie beside the record, because that is in the run's manifest:
//! a run can be named and tagged for as long as it is kept, and `verify` still finds every byte that it wrote.

use codex_core::{Lock, files};
use serde::{Deserialize, Serialize};

use crate::error::TrackError;
use crate::run_dir::{RunDir, read_json_at};
use crate::run_record::RunRecord;

/// The file's name. No manifest lists it.
pub const FILE: &str = "annotations.json";
/// Held while the file is changed, so that of two changes at once none is lost.
const LOCK: &str = ".annotations.lock";
/// The version of the format.
const SCHEMA: u32 = 1;
/// The longest name, in characters.
pub const MAX_NAME_CHARS: usize = 200;
/// The longest tag, in characters.
pub const MAX_TAG_CHARS: usize = 64;
/// The most tags of a run.
pub const MAX_TAGS: usize = 64;
/// The longest note, in characters.
pub const MAX_NOTE_CHARS: usize = 16_384;

/// A change to what is said of a run; what is `None` or empty stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotation {
    /// Another name, of 1 to [`MAX_NAME_CHARS`] characters. The folder and the run's id stay.
    pub name: Option<String>,
    /// Tags that it gets: at most [`MAX_TAG_CHARS`] characters each, without spaces and commas.
    pub add_tags: Vec<String>,
    /// Tags that it loses; one that it does not have is no error.
    pub remove_tags: Vec<String>,
    /// Another note, of at most [`MAX_NOTE_CHARS`] characters, line ends among them; an empty one takes the note away.
    pub note: Option<String>,
}

/// `annotations.json`. What is absent is as `run.json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotations {
    /// The version of this format: 1.
    pub schema: u32,
    /// The name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// All tags, sorted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// The note; empty where there is none any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Default for Annotations {
    fn default() -> Self {
        Self { schema: SCHEMA, name: None, tags: None, note: None }
    }
}

impl Annotations {
    /// The annotations in a run folder; none of them where it has no such file.
    ///
    /// # Errors
    /// A file that cannot be read, is of another version, or says what [`annotate`] would refuse.
    pub fn read(run: &RunDir) -> Result<Self, TrackError> {
        let path = run.path().join(FILE);
        let read: Self = match read_json_at(&path) {
            Err(TrackError::File(error)) if error.is_not_found() => return Ok(Self::default()),
            read => read?,
        };
        if read.schema != SCHEMA {
            return Err(TrackError::Schema { path, expected: SCHEMA, found: read.schema });
        }
        read.check()?;
        Ok(read)
    }

    /// Puts what a person said in place of what the run wrote.
    pub fn apply(&self, record: &mut RunRecord) {
        record.name = self.name.clone().unwrap_or_else(|| std::mem::take(&mut record.name));
        record.tags = self.tags.clone().unwrap_or_else(|| std::mem::take(&mut record.tags));
        let noted = self.note.clone().or_else(|| record.note.take());
        record.note = noted.filter(|note| !note.is_empty());
    }

    fn check(&self) -> Result<(), TrackError> {
        if let Some(name) = &self.name {
            check("name", name, 1, MAX_NAME_CHARS, |c| !is_hidden(c))?;
        }
        let tags = self.tags.as_deref().unwrap_or_default();
        if tags.len() > MAX_TAGS {
            return Err(refused("tags", &format!("{} tags", tags.len()), format!("at most {MAX_TAGS}")));
        }
        tags.iter().try_for_each(|tag| check_tag(tag))?;
        self.note.as_deref().map_or(Ok(()), |note| check("note", note, 0, MAX_NOTE_CHARS, |c| c == '\n' || !is_hidden(c)))
    }
}

/// Whether a run can have this tag.
///
/// # Errors
/// Says what is expected of a tag.
pub fn check_tag(tag: &str) -> Result<(), TrackError> {
    check("tag", tag, 1, MAX_TAG_CHARS, |c| !is_hidden(c) && !c.is_whitespace() && c != ',')
}

/// The record of a run with its annotations: what is shown to a person.
///
/// # Errors
/// Either of them that cannot be read.
pub fn read_annotated(run: &RunDir) -> Result<RunRecord, TrackError> {
    let mut record = RunRecord::read(run)?.seen(run);
    Annotations::read(run)?.apply(&mut record);
    Ok(record)
}

/// Changes what is said of a run, whether it is under way or long over, and returns its record as it is shown from then on.
///
/// # Errors
/// A run that cannot be read, a value that is too long or has control characters, and a folder that cannot be written; nothing has changed then.
pub fn annotate(run: &RunDir, change: &Annotation) -> Result<RunRecord, TrackError> {
    let mut record = RunRecord::read(run)?.seen(run);
    change.add_tags.iter().try_for_each(|tag| check_tag(tag))?;
    let _lock = Lock::acquire(&run.path().join(LOCK))?;
    let mut annotations = Annotations::read(run)?;
    if let Some(name) = &change.name {
        annotations.name = Some(name.clone());
    }
    if !change.add_tags.is_empty() || !change.remove_tags.is_empty() {
        let mut tags = annotations.tags.take().unwrap_or_else(|| record.tags.clone());
        tags.retain(|tag| !change.remove_tags.contains(tag));
        tags.extend(change.add_tags.iter().cloned());
        tags.sort();
        tags.dedup();
        annotations.tags = Some(tags);
    }
    if let Some(note) = &change.note {
        annotations.note = Some(note.clone());
    }
    annotations.check()?;
    if annotations == Annotations::default() {
        files::remove_file(&run.path().join(FILE))?;
    } else {
        run.write_json(FILE, &annotations)?;
    }
    annotations.apply(&mut record);
    Ok(record)
}

/// Characters that cannot be seen, or turn the direction of what is around them.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn check(key: &'static str, value: &str, least: usize, most: usize, is_allowed: impl Fn(char) -> bool) -> Result<(), TrackError> {
    let n = value.chars().count();
    if !(least..=most).contains(&n) {
        return Err(refused(key, &format!("{n} characters"), format!("{least} to {most} characters")));
    }
    match value.chars().find(|&c| !is_allowed(c)) {
        Some(c) => {
            Err(refused(key, &format!("U+{:04X}", u32::from(c)), "no control characters, and no space or comma in a tag".to_owned()))
        }
        None => Ok(()),
    }
}

fn refused(key: &'static str, found: &str, expected: String) -> TrackError {
    TrackError::Annotation { key, expected, found: found.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_manifest::RunManifest;
    use codex_core::{Digest, ExitClass, Failure, Timestamp};

    fn run() -> (tempfile::TempDir, RunDir) {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::open(root.path()).unwrap();
        let mut record = RunRecord::new(&run, "old", &[], 1, Digest::of_bytes(b""), Digest::of_bytes(b""), Timestamp(0));
        record.tags = vec!["born".to_owned()];
        record.write(&run).unwrap();
        (root, run)
    }

    fn change(name: Option<&str>, add: &[&str], remove: &[&str], note: Option<&str>) -> Annotation {
        let all = |tags: &[&str]| tags.iter().map(|&tag| tag.to_owned()).collect();
        Annotation { name: name.map(str::to_owned), add_tags: all(add), remove_tags: all(remove), note: note.map(str::to_owned) }
    }

    #[test]
    fn a_finished_run_is_named_and_tagged_and_is_still_what_its_manifest_says() {
        let (_root, run) = run();
        let manifest = RunManifest::write(&run).unwrap();
        let record = annotate(&run, &change(Some("Tuned"), &["good", "a", "good"], &["born", "none"], Some("line\nline"))).unwrap();
        assert_eq!((record.name.as_str(), record.tags.join(" ").as_str(), record.note.as_deref()), ("Tuned", "a good", Some("line\nline")));
        assert_eq!(read_annotated(&run).unwrap(), record);
        assert_eq!(RunRecord::read(&run).unwrap().name, "old", "the record itself is not written to");
        assert_eq!(manifest.deviations(&run).unwrap(), []);
        assert_eq!(RunManifest::of(&run).unwrap(), manifest, "and a manifest that is made later does not list it");
        // What is not named stays; an empty note is none.
        let record = annotate(&run, &change(None, &[], &["a"], Some(""))).unwrap();
        assert_eq!((record.name.as_str(), record.tags.join(" ").as_str(), record.note), ("Tuned", "good", None));
    }

    #[test]
    fn what_is_too_long_or_hidden_is_refused_and_changes_nothing() {
        let (_root, run) = run();
        let long = |n: usize| "x".repeat(n);
        let many: Vec<String> = (0..=MAX_TAGS).map(|idx| format!("t{idx}")).collect();
        let cases = [
            change(Some(""), &[], &[], None),
            change(Some(&long(MAX_NAME_CHARS + 1)), &[], &[], None),
            change(Some("a\u{7}b"), &[], &[], None),
            change(Some("a\nb"), &[], &[], None),
            change(Some("a\u{202e}b"), &[], &[], None),
            change(None, &[""], &[], None),
            change(None, &["a b"], &[], None),
            change(None, &["a,b"], &[], None),
            change(None, &[&long(MAX_TAG_CHARS + 1)], &[], None),
            change(None, &[], &[], Some(&long(MAX_NOTE_CHARS + 1))),
            change(None, &[], &[], Some("a\u{1b}[31m")),
            Annotation { add_tags: many, ..Annotation::default() },
        ];
        for case in cases {
            let error = annotate(&run, &case).unwrap_err();
            assert_eq!(error.exit_class(), ExitClass::Usage, "{error}");
            assert!(error.hint().is_some());
        }
        assert!(!run.path().join(FILE).exists());
        let error = annotate(&run, &change(None, &["a b"], &[], None)).unwrap_err();
        assert_eq!(error.to_string(), "the tag of a run: expected no control characters, and no space or comma in a tag, found `U+0020`");
        let exact = change(Some(&long(MAX_NAME_CHARS)), &[&long(MAX_TAG_CHARS)], &[], Some(&long(MAX_NOTE_CHARS)));
        assert!(annotate(&run, &exact).is_ok());
    }

    #[test]
    fn a_file_that_says_what_would_be_refused_is_refused() {
        let (_root, run) = run();
        for text in ["{}", r#"{"schema":2}"#, r#"{"schema":1,"name":"a\u001b"}"#, r#"{"schema":1,"x":1}"#, "x"] {
            run.write_text(FILE, text).unwrap();
            assert!(read_annotated(&run).is_err(), "{text}");
        }
        // An old record without tags reads as one that has none.
        run.write_text(FILE, r#"{"schema":1}"#).unwrap();
        let text = files::read_to_string(&run.path().join("run.json")).unwrap();
        let old = text.replace(",\n  \"tags\": [\n    \"born\"\n  ]", "");
        assert_ne!(old, text);
        run.write_text("run.json", &old).unwrap();
        assert_eq!(read_annotated(&run).unwrap().tags, Vec::<String>::new());
        assert_eq!(annotate(&run, &Annotation::default()).unwrap().note, None);
        assert!(!run.path().join(FILE).exists(), "nothing said, no file");
    }
}
