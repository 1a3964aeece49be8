//! The folder of one run, and reading and writing whole files in it. What the files mean is in the modules that own them.

use std::io;
use std::path::{Path, PathBuf};

use codex_core::folder::sweep_drafts;
use codex_core::{Clock, Lock, files};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::TrackError;

/// The largest JSON file of a run that is read.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// Where metrics went when they were redirected; absent otherwise.
const REDIRECT: &str = "metrics.location.json";

/// The folder of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes `<root>/<YYYYmmdd-HHMMSS>-<slug of name>`, in UTC; a name that is taken gets `-2`, `-3`, … behind it.
    pub fn create(root: &Path, name: &str, clock: &dyn Clock) -> Result<Self, TrackError> {
        files::create_dir_all(root)?;
        let base = format!("{}-{}", clock.now().to_compact(), slug(name));
        let mut n = 1_u32;
        loop {
            let path = root.join(if n == 1 { base.clone() } else { format!("{base}-{n}") });
            // It begins empty, so making it is publishing it, and no draft can be left behind.
            match files::create_new_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists && n < u32::MAX => n += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The run folder at this path.
    pub fn open(path: &Path) -> Result<Self, TrackError> {
        let not = |found| TrackError::NotARun { path: path.to_owned(), found };
        if !path.exists() {
            return Err(not("does not exist"));
        }
        if !path.is_dir() {
            return Err(not("is no folder"));
        }
        Ok(Self { path: path.to_owned() })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's name, which is the run's id.
    pub fn id(&self) -> String {
        let absolute = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        absolute.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Where the checkpoints are.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Takes the run's lock at once or fails; held by the one process that writes to the run. What a killed one left half written is removed.
    pub fn lock(&self) -> Result<Lock, TrackError> {
        let lock = Lock::acquire(&self.path.join(".lock"))?;
        // What cannot be removed is in nobody's way.
        drop(sweep_drafts(&self.path));
        Ok(lock)
    }

    /// Whether a process holds the run's lock.
    pub fn is_locked(&self) -> bool {
        Lock::is_held(&self.path.join(".lock"))
    }

    /// Publishes a file of the run as indented JSON.
    pub fn write_json<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), TrackError> {
        let path = self.path.join(name);
        write_json_at(&path, value)
    }

    /// Publishes a file of the run.
    pub fn write_text(&self, name: &str, text: &str) -> Result<(), TrackError> {
        Ok(files::write_atomic(&self.path.join(name), text.as_bytes())?)
    }

    /// Reads a JSON file of the run.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T, TrackError> {
        read_json_at(&self.path.join(name))
    }

    /// Where the metrics are, and whether other runs may write to the same files.
    pub(crate) fn metrics_location(&self) -> (PathBuf, bool) {
        self.read_json::<PathBuf>(REDIRECT).map_or_else(|_| (self.path.clone(), false), |dir| (dir, true))
    }

    /// The folder that the metrics of this run go to, where that is another.
    pub fn redirected_metrics(&self) -> Option<PathBuf> {
        let (dir, is_elsewhere) = self.metrics_location();
        is_elsewhere.then_some(dir)
    }

    /// Notes where the metrics go, so that whoever has the run folder finds them.
    pub(crate) fn redirect_metrics(&self, to: Option<&Path>) -> Result<(), TrackError> {
        match to {
            None => Ok(files::remove_file(&self.path.join(REDIRECT))?),
            Some(dir) => self.write_json(REDIRECT, &std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())),
        }
    }
}

/// Publishes a value as indented JSON.
pub(crate) fn write_json_at<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<(), TrackError> {
    let mut text = serde_json::to_string_pretty(value).map_err(|source| TrackError::Encode { path: path.to_owned(), source })?;
    text.push('\n');
    Ok(files::write_atomic(path, text.as_bytes())?)
}

/// Reads a value from a JSON file.
pub(crate) fn read_json_at<T: DeserializeOwned>(path: &Path) -> Result<T, TrackError> {
    parse_json(path, &read_json_bytes(path)?)
}

/// The content of a JSON file, if it is not too large to be one of a run.
pub(crate) fn read_json_bytes(path: &Path) -> Result<Vec<u8>, TrackError> {
    Ok(files::read_bounded(path, MAX_JSON_BYTES)?)
}

/// Reads a value from the content of a JSON file.
pub(crate) fn parse_json<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, TrackError> {
    serde_json::from_slice(bytes).map_err(|source| TrackError::Json {
        path: path.to_owned(),
        line: source.line(),
        column: source.column(),
        source,
    })
}

/// Lower-case letters and digits with single hyphens, at most 48 of them; `run` when nothing is left.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(48);
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "run".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_core::{ExitClass, Failure, FixedClock};

    #[test]
    fn runs_are_named_by_time_and_slug_and_never_share_a_folder() {
        let root = tempfile::tempdir().unwrap();
        let clock = FixedClock::new(1_795_484_319_250, 0);
        let names: Vec<String> =
            (0..3).map(|_| RunDir::create(&root.path().join("runs"), "My run: Tiny/32", &clock).unwrap().id()).collect();
        assert_eq!(names, ["20261124-013839-my-run-tiny-32", "20261124-013839-my-run-tiny-32-2", "20261124-013839-my-run-tiny-32-3"]);
        assert_eq!(files::list_dir(&root.path().join("runs")).unwrap().len(), 3);
        assert_eq!(
            [slug("../.."), slug("Ünder"), slug(&"a-".repeat(40))],
            ["run".to_owned(), "nder".to_owned(), "a-".repeat(24)[..47].to_owned()]
        );
    }

    #[test]
    fn only_a_folder_is_a_run() {
        let root = tempfile::tempdir().unwrap();
        let absent = RunDir::open(&root.path().join("x")).unwrap_err();
        assert_eq!(absent.exit_class(), ExitClass::Usage);
        files::write_atomic(&root.path().join("x"), b"").unwrap();
        assert!(RunDir::open(&root.path().join("x")).unwrap_err().to_string().ends_with("is not a run folder: it is no folder"));
        let run = RunDir::open(root.path()).unwrap();
        assert_eq!(run.checkpoints(), root.path().join("checkpoints"));
        let held = run.lock().unwrap();
        assert_eq!(run.lock().unwrap_err().exit_class(), ExitClass::Busy);
        drop(held);
    }

    #[test]
    fn whoever_holds_the_lock_sweeps_what_a_kill_left() {
        let root = tempfile::tempdir().unwrap();
        let clock = FixedClock::new(0, 0);
        let run = RunDir::create(root.path(), "r", &clock).unwrap();
        for name in ["run.json.tmp-1-1", "metrics.csv.tmp-1-0123456789abcdef-7", "notes.tmp-mine"] {
            files::write_atomic(&run.path().join(name), b"").unwrap();
        }
        let held = run.lock().unwrap();
        let left = |run: &RunDir| files::list_dir(run.path()).unwrap();
        assert_eq!(left(&run), [run.path().join(".lock"), run.path().join("notes.tmp-mine")]);
        // Without the lock nothing is swept.
        files::write_atomic(&run.path().join("a.tmp-1-1"), b"").unwrap();
        assert!(run.lock().is_err());
        assert_eq!(left(&run).len(), 3);
        drop(held);
        assert_eq!(files::list_dir(root.path()).unwrap(), [run.path()], "a run is made without a draft");
    }

    #[test]
    fn files_are_written_and_read_with_their_place_in_errors() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::open(root.path()).unwrap();
        run.write_json("a.json", &[1, 2]).unwrap();
        assert_eq!(run.read_json::<Vec<u32>>("a.json").unwrap(), [1, 2]);
        run.write_text("a.json", "[1,\n x]").unwrap();
        let error = run.read_json::<Vec<u32>>("a.json").unwrap_err();
        assert!(error.to_string().contains("a.json`:2:2: "), "{error}");
        assert!(run.read_json::<u32>("b.json").is_err());
        assert!(run.write_json("c.json", &std::collections::BTreeMap::from([((1, 2), 3)])).is_err());
    }

    #[test]
    fn redirected_metrics_are_found_again() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::open(root.path()).unwrap();
        run.redirect_metrics(Some(Path::new("/somewhere"))).unwrap();
        assert_eq!(run.metrics_location(), (PathBuf::from("/somewhere"), true));
        run.redirect_metrics(None).unwrap();
        assert_eq!(run.metrics_location(), (root.path().to_owned(), false));
    }
}
