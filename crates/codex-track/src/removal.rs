//! Taking runs away: only what is a run, nothing that another run was made from, and nothing that is being written to. A run that is removed is moved aside
//! first, so that a kill leaves either the whole run or nothing that looks like one.

use std::path::{Path, PathBuf};

use codex_core::{Lock, files};
use serde::Serialize;

use crate::error::TrackError;
use crate::report::wording;
use crate::run_dir::RunDir;
use crate::run_graph::NodeKind;
use crate::run_list::{RunEntry, has_run_name};
use crate::run_record::RunRecord;
use crate::summary_export::text_table;

/// How the name of a run begins that has been moved aside.
const ASIDE: &str = ".removing-";
/// The locks of a run: of whoever trains, and of whoever saves.
const LOCKS: [&str; 2] = [".lock", "checkpoints/.lock"];
/// How deep folders are followed when a run is measured.
const MAX_DEPTH: usize = 64;
/// The largest part of a damaged record that is searched for names.
const MAX_SEARCHED: u64 = 1 << 20;

/// A run that can be removed, or has been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// The run folder.
    pub path: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// How many files it has.
    pub files: u64,
}

/// What a removal of several runs would do.
#[derive(Debug, Default)]
pub struct RemovalPlan {
    /// The runs that would go.
    pub removals: Vec<Removal>,
    /// Why others stay.
    pub refused: Vec<TrackError>,
}

impl RemovalPlan {
    /// Looks at each of these runs among all that are known; one that was made from another may go together with it. Nothing is changed.
    pub fn of(paths: &[PathBuf], known: &[RunEntry]) -> Self {
        let going: Vec<PathBuf> = paths.iter().filter_map(|path| path.canonicalize().ok()).collect();
        let stays = |entry: &&RunEntry| !entry.path.canonicalize().is_ok_and(|path| going.contains(&path));
        let staying: Vec<&RunEntry> = known.iter().filter(stays).collect();
        let mut plan = Self::default();
        for path in paths {
            match checked(path, &staying) {
                Ok(removal) => plan.removals.push(removal),
                Err(error) => plan.refused.push(error),
            }
        }
        plan
    }

    /// What would go, each with its size, and why others stay: one line each, and the sum below.
    pub fn to_text(&self) -> String {
        let size = |bytes: u64| wording::bytes(bytes as f64);
        let rows = self.removals.iter().map(|it| vec![it.path.display().to_string(), size(it.bytes), format!("{} files", it.files)]);
        let mut text = if self.removals.is_empty() { String::new() } else { text_table(&["run", "size", ""], 1, rows) };
        text.extend(self.refused.iter().flat_map(|error| [error.to_string(), "\n".to_owned()]));
        let n = self.removals.len();
        text + &format!("{n} {}, {}\n", if n == 1 { "run" } else { "runs" }, size(self.bytes()))
    }

    /// Bytes that would be freed.
    pub fn bytes(&self) -> u64 {
        self.removals.iter().map(|removal| removal.bytes).sum()
    }
}

/// Removes the runs of a plan, each after another look at it, and returns what was freed and why others stay.
pub fn remove_runs(plan: &RemovalPlan, known: &[RunEntry]) -> RemovalPlan {
    let paths: Vec<PathBuf> = plan.removals.iter().map(|removal| removal.path.clone()).collect();
    let mut done = RemovalPlan::of(&paths, known);
    let mut refused = Vec::new();
    done.removals.retain(|removal| match remove(&removal.path) {
        Ok(()) => true,
        Err(error) => {
            refused.push(error);
            false
        }
    });
    done.refused.extend(refused);
    done
}

/// Removes what a killed removal had moved aside in a folder of runs, and returns it.
///
/// # Errors
/// A folder that cannot be listed, or files that cannot be removed.
pub fn sweep_removed(root: &Path) -> Result<Vec<Removal>, TrackError> {
    let mut swept = Vec::new();
    for path in files::list_dir(root)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_aside = name.starts_with(ASIDE) && path.is_dir() && !path.is_symlink();
        // Whoever removes it at this moment holds its lock.
        if is_aside && locked(&path).is_ok() {
            let (bytes, n_files) = measure(&path)?;
            files::remove_dir_all(&path)?;
            swept.push(Removal { path, bytes, files: n_files });
        }
    }
    Ok(swept)
}

fn refused(path: &Path, reason: impl Into<String>) -> TrackError {
    TrackError::NotRemoved { path: path.to_owned(), reason: reason.into() }
}

/// The run at a path, if it may be removed.
fn checked(path: &Path, staying: &[&RunEntry]) -> Result<Removal, TrackError> {
    if path.is_symlink() {
        return Err(refused(path, "it is a link; give the folder itself"));
    }
    let run = RunDir::open(path)?;
    if !files::is_plain_file(&path.join(RunRecord::FILE)) {
        return Err(TrackError::NotARun { path: path.to_owned(), found: "has no `run.json`" });
    }
    let record = RunRecord::read(&run);
    // A record that is damaged says nothing, but the name of the folder does.
    if let Err(error) = &record
        && !has_run_name(path)
    {
        return Err(refused(path, format!("its record cannot be read and its name is not that of a run: {error}")));
    }
    for entry in staying {
        if let Some(how) = is_made_from(entry, &run, record.as_ref().ok()) {
            return Err(refused(path, format!("the run `{}` was made from it: {how}", entry.folder_name())));
        }
    }
    drop(locked(path)?);
    let (bytes, n_files) = measure(path)?;
    Ok(Removal { path: path.to_owned(), bytes, files: n_files })
}

/// Holds every lock of a run that there is; none is made.
fn locked(path: &Path) -> Result<Vec<Lock>, TrackError> {
    let there = LOCKS.iter().map(|name| path.join(name)).filter(|lock| lock.exists());
    there.map(|lock| Ok(Lock::acquire(&lock)?)).collect()
}

/// How a run says that it was made from this one; `None` where it does not.
fn is_made_from(entry: &RunEntry, run: &RunDir, record: Option<&RunRecord>) -> Option<String> {
    let id = run.id();
    let is_in = |name: &str| Path::new(name).components().any(|part| part.as_os_str() == id.as_str());
    let text =
        |name: &str| files::read_bounded(&entry.path.join(name), MAX_SEARCHED).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let configured = text("config.resolved.toml").unwrap_or_default().parse::<toml::Table>().ok();
    let base = configured.as_ref().and_then(|table| table.get("run")?.get("base")?.as_str().map(str::to_owned));
    if let Some(base) = base.filter(|base| is_in(base)) {
        return Some(format!("its configuration has `run.base = \"{base}\"`"));
    }
    let Ok(other) = &entry.record else {
        let is_named = text(RunRecord::FILE).is_ok_and(|text| text.split(['/', '\\', '"']).any(|part| part == id));
        return is_named.then(|| "its record is damaged and names it".to_owned());
    };
    let outputs = record.map(|record| record.graph.outputs.as_slice()).unwrap_or_default();
    let is_base = |name: &str, digest| is_in(name) || outputs.iter().any(|output| output.digest == digest);
    let base = other.graph.inputs_of(NodeKind::Base).find(|base| is_base(&base.name, base.digest))?;
    Some(format!("its record names `{}` as its base", base.name))
}

/// Bytes and number of the files of a run, links not followed.
fn measure(path: &Path) -> Result<(u64, u64), TrackError> {
    fn walk(folder: &Path, depth: usize, is_top: bool, sum: &mut (u64, u64)) -> Result<(), TrackError> {
        for path in files::list_dir(folder)? {
            if files::is_plain_file(&path) {
                if !is_top
                    && path.file_name().is_some_and(|name| name == RunRecord::FILE)
                    && files::parent(&path).join("metrics.ndjson").exists()
                {
                    return Err(refused(files::parent(&path), "it is a run inside of another; move it out first"));
                }
                *sum = (sum.0 + files::size(&path)?, sum.1 + 1);
            } else if depth > 0 && path.is_dir() && !path.is_symlink() {
                walk(&path, depth - 1, false, sum)?;
            }
        }
        Ok(())
    }
    let mut sum = (0, 0);
    walk(path, MAX_DEPTH, true, &mut sum)?;
    Ok(sum)
}

/// Moves a run aside, and removes it there.
fn remove(path: &Path) -> Result<(), TrackError> {
    let held = locked(path)?;
    let root = files::parent(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut n = 1_u32;
    let aside = loop {
        let aside = root.join(if n == 1 { format!("{ASIDE}{name}") } else { format!("{ASIDE}{name}-{n}") });
        match files::rename_new(path, &aside) {
            Ok(()) => break aside,
            Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists && n < 1000 => n += 1,
            Err(error) => return Err(error.into()),
        }
    };
    files::sync_dir(root)?;
    files::remove_dir_all(&aside)?;
    drop(held);
    Ok(files::sync_dir(root)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_graph::GraphNode;
    use crate::run_list::list_runs;
    use codex_core::{Digest, ExitClass, Failure, Timestamp};

    fn make(root: &Path, name: &str, base: Option<(&str, Digest)>) -> RunDir {
        let path = root.join(name);
        files::create_dir_all(&path.join("checkpoints/step-00000001")).unwrap();
        let run = RunDir::open(&path).unwrap();
        let mut record = RunRecord::new(&run, name, &[], 1, Digest::of_bytes(b""), Digest::of_bytes(b""), Timestamp(0));
        record.graph.inputs.extend(base.map(|(name, digest)| GraphNode::new(NodeKind::Base, name, digest)));
        record.graph.outputs.push(GraphNode::new(NodeKind::Checkpoint, "c", Digest::of_bytes(name.as_bytes())));
        record.write(&run).unwrap();
        files::write_atomic(&path.join("checkpoints/step-00000001/model.safetensors"), &[0; 1000]).unwrap();
        run
    }

    fn plan(root: &Path, names: &[&str]) -> RemovalPlan {
        RemovalPlan::of(&names.iter().map(|name| root.join(name)).collect::<Vec<_>>(), &list_runs(root).unwrap())
    }

    fn reason(root: &Path, name: &str) -> String {
        let plan = plan(root, &[name]);
        assert!(plan.removals.is_empty());
        assert!(plan.refused[0].hint().is_some());
        plan.refused[0].to_string()
    }

    #[test]
    fn a_run_goes_whole_and_what_was_freed_is_told() {
        let root = tempfile::tempdir().unwrap();
        let run = make(root.path(), "a", None);
        make(root.path(), "b", None);
        let size = files::size(&run.path().join("run.json")).unwrap() + 1000;
        let known = list_runs(root.path()).unwrap();
        let plan = plan(root.path(), &["a"]);
        assert_eq!((plan.bytes(), plan.removals[0].files, plan.refused.len()), (size, 2, 0));
        let told = wording::bytes(size as f64);
        assert!(plan.to_text().ends_with(&format!("{told}  2 files\n1 run, {told}\n")), "{}", plan.to_text());
        assert!(run.path().exists(), "a plan changes nothing");
        assert!(!run.path().join(".lock").exists(), "not even a lock is made");
        let done = remove_runs(&plan, &known);
        assert_eq!((done.bytes(), done.refused.len()), (size, 0));
        assert_eq!(files::list_dir(root.path()).unwrap(), [root.path().join("b")]);
    }

    #[test]
    fn a_base_stays_while_what_was_made_from_it_does() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "d"] {
            make(root.path(), name, None);
        }
        make(root.path(), "by-path", Some(("runs/a/checkpoints/step-00000001", Digest::of_bytes(b"?"))));
        make(root.path(), "by-digest", Some(("elsewhere", Digest::of_bytes(b"b"))));
        let configured = make(root.path(), "by-config", None);
        configured.write_text("config.resolved.toml", "[run]\nbase = \"/x/c\"\n").unwrap();
        let damaged = make(root.path(), "20260101-000000-damaged", None);
        damaged.write_text("run.json", "{\"base\": \"runs/d/\"").unwrap();
        assert!(
            reason(root.path(), "a")
                .ends_with("the run `by-path` was made from it: its record names `runs/a/checkpoints/step-00000001` as its base")
        );
        assert!(reason(root.path(), "b").contains("the run `by-digest` was made from it"));
        assert!(reason(root.path(), "c").contains("the run `by-config` was made from it: its configuration has"));
        assert!(reason(root.path(), "d").contains("its record is damaged and names it"));
        // Together they go.
        assert_eq!(plan(root.path(), &["a", "by-path"]).removals.len(), 2);
    }

    #[test]
    fn what_is_no_run_or_is_in_use_stays() {
        let root = tempfile::tempdir().unwrap();
        let run = make(root.path(), "a", None);
        files::create_dir_all(&root.path().join("folder")).unwrap();
        let damaged = make(root.path(), "damaged", None);
        damaged.write_text("run.json", "{").unwrap();
        assert!(reason(root.path(), "folder").ends_with("is not a run folder: it has no `run.json`"));
        assert!(reason(root.path(), "absent").ends_with("it does not exist"));
        assert!(reason(root.path(), "damaged").contains("its record cannot be read and its name is not that of a run"));
        let held = run.lock().unwrap();
        let busy = plan(root.path(), &["a"]);
        assert_eq!(busy.refused[0].exit_class(), ExitClass::Busy);
        // One that is taken up between the look and the removal stays, too.
        drop(held);
        let (early, known) = (plan(root.path(), &["a"]), list_runs(root.path()).unwrap());
        let held = run.lock().unwrap();
        let done = remove_runs(&early, &known);
        assert!(done.removals.is_empty() && run.path().join("run.json").exists());
        // The last look is at the moment of the removal itself.
        assert!(remove(run.path()).is_err() && run.path().join("run.json").exists());
        drop(held);
        let inner = make(run.path(), "inner", None);
        inner.write_text("metrics.ndjson", "").unwrap();
        assert!(reason(root.path(), "a").ends_with("it is a run inside of another; move it out first"));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let run = make(root.path(), "a", None);
        let other = make(outside.path(), "other", None);
        std::os::unix::fs::symlink(other.path(), root.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path(), run.path().join("inside")).unwrap();
        assert!(reason(root.path(), "link").ends_with("it is a link; give the folder itself"));
        let done = remove_runs(&plan(root.path(), &["a"]), &list_runs(root.path()).unwrap());
        assert_eq!(done.removals[0].files, 2);
        assert!(!run.path().exists() && other.path().join("run.json").exists());
    }

    #[test]
    fn what_a_killed_removal_left_is_no_run_and_is_swept() {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), ".removing-a", None);
        let run = make(root.path(), "a", None);
        assert_eq!(list_runs(root.path()).unwrap().len(), 1);
        let done = remove_runs(&plan(root.path(), &["a"]), &[]);
        assert_eq!((done.removals.len(), run.path().exists()), (1, false));
        let aside = RunDir::open(&root.path().join(".removing-a")).unwrap();
        let held = aside.lock().unwrap();
        assert_eq!(sweep_removed(root.path()).unwrap(), []);
        drop(held);
        assert_eq!(sweep_removed(root.path()).unwrap().len(), 1);
        assert_eq!(files::list_dir(root.path()).unwrap(), Vec::<PathBuf>::new());
    }
}
