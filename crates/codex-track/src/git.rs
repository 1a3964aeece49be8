//! What git knows of the folder that a run was started in: the commit and branch, read from git's files, and whether files differ from the commit,
//! which only the program `git` can say. It is asked to change nothing, and not waited for longer than it is given.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use codex_core::files;
use serde::{Deserialize, Serialize};

/// What git may say in an error, in bytes.
const MAX_COMPLAINT_BYTES: u64 = 400;

const MAX_REF_BYTES: u64 = 4096;
const MAX_PACKED_REFS_BYTES: u64 = 64 << 20;

/// The commit checked out in the work tree that `start` is in, as hexadecimal digits; `None` when there is none or it cannot be read.
pub fn revision(start: &Path) -> Option<String> {
    let start = std::path::absolute(start).ok()?;
    let dir = start.ancestors().find_map(git_dir)?;
    let head = small(&dir.join("HEAD"))?;
    match head.strip_prefix("ref:") {
        None => commit(&head),
        Some(name) => resolve(&dir, name.trim()),
    }
}

/// What git knows of a work tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitState {
    /// The commit, as hexadecimal digits.
    pub revision: Option<String>,
    /// The branch; `None` where a commit is checked out by itself.
    pub branch: Option<String>,
    /// Whether files that git follows differ from the commit; new files are not looked at.
    pub is_dirty: Option<bool>,
    /// Why `is_dirty` is not known.
    pub reason: Option<String>,
}

/// What git knows of the work tree that `start` is in. `program` is the program to ask whether files differ, which has this long to answer.
pub fn state(start: &Path, program: &Path, wait: Duration) -> GitState {
    let absolute = std::path::absolute(start).unwrap_or_else(|_| start.to_owned());
    let Some((tree, dir)) = absolute.ancestors().find_map(|tree| Some((tree, git_dir(tree)?))) else {
        return GitState { reason: Some("no folder on the way up has a `.git`".to_owned()), ..GitState::default() };
    };
    let head = small(&dir.join("HEAD")).unwrap_or_default();
    let branch = head.strip_prefix("ref:").and_then(|name| name.trim().strip_prefix("refs/heads/")).map(str::to_owned);
    let (is_dirty, reason) = match is_dirty(tree, program, wait) {
        Ok(is_dirty) => (Some(is_dirty), None),
        Err(reason) => (None, Some(reason)),
    };
    GitState { revision: revision(start), branch, is_dirty, reason }
}

fn is_dirty(tree: &Path, program: &Path, wait: Duration) -> Result<bool, String> {
    let mut command = Command::new(program);
    // Neither the index is refreshed nor a monitor of the repository's choice started.
    command.args(["--no-optional-locks", "-c", "core.fsmonitor=false", "-C"]).arg(tree);
    command.args(["status", "--porcelain", "--untracked-files=no"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| format!("`{}` cannot be started: {source}", program.display()))?;
    let (Some(mut output), Some(complaints)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("git has no output".to_owned());
    };
    let (sender, receiver) = mpsc::channel();
    let read = move || {
        // One byte says that something differs.
        let n = output.read(&mut [0]).unwrap_or(0);
        let mut complaint = Vec::new();
        if n == 0 {
            drop(complaints.take(MAX_COMPLAINT_BYTES).read_to_end(&mut complaint));
        }
        drop(sender.send((n > 0, complaint)));
    };
    let spawned = thread::Builder::new().name("git status".to_owned()).spawn(read);
    let answer = spawned.map_err(|_| "no thread can be started".to_owned()).and_then(|_| {
        let late = |_| format!("`{}` took longer than {} ms", program.display(), wait.as_millis());
        receiver.recv_timeout(wait).map_err(late)
    });
    match answer {
        Ok((false, complaint)) => match child.wait() {
            Ok(status) if status.success() => Ok(false),
            _ => {
                let complaint = String::from_utf8_lossy(&complaint);
                let words: Vec<&str> = complaint.split_whitespace().collect();
                Err(format!("`{}` failed: {}", program.display(), words.join(" ")))
            }
        },
        Ok((true, _)) => {
            end(child);
            Ok(true)
        }
        Err(reason) => {
            end(child);
            Err(reason)
        }
    }
}

/// Ends the program and takes its status, so that nothing of it is left.
fn end(mut child: Child) {
    drop(child.kill());
    drop(child.wait());
}

/// The git folder of a work tree: `.git`, or where the file `.git` points to in a linked one.
fn git_dir(tree: &Path) -> Option<PathBuf> {
    let dot_git = tree.join(".git");
    if dot_git.is_dir() {
        return Some(dot_git);
    }
    Some(tree.join(small(&dot_git)?.strip_prefix("gitdir:")?.trim()))
}

fn resolve(dir: &Path, name: &str) -> Option<String> {
    let is_plain = name.starts_with("refs/") && !name.split('/').any(|part| part == "..");
    // A linked work tree keeps its branches in the folder of the main one.
    let common = small(&dir.join("commondir")).map_or_else(|| dir.to_owned(), |path| dir.join(path));
    let loose = || [dir, &common].into_iter().find_map(|dir| commit(&small(&dir.join(name))?));
    let packed = || {
        let bytes = files::read_bounded(&common.join("packed-refs"), MAX_PACKED_REFS_BYTES).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        text.lines().find_map(|line| line.split_once(' ').filter(|(_, found)| *found == name).and_then(|(id, _)| commit(id)))
    };
    if is_plain { loose().or_else(packed) } else { None }
}

fn small(path: &Path) -> Option<String> {
    let bytes = files::read_bounded(path, MAX_REF_BYTES).ok()?;
    Some(String::from_utf8(bytes).ok()?.trim().to_owned())
}

fn commit(text: &str) -> Option<String> {
    let is_id = matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| text.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0123456789abcdef0123456789abcdef01234567";
    const B: &str = "89abcdef0123456789abcdef0123456789abcdef";

    fn tree(entries: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in entries {
            let path = dir.path().join(name);
            files::create_dir_all(path.parent().unwrap()).unwrap();
            files::write_atomic(&path, text.as_bytes()).unwrap();
        }
        dir
    }

    #[test]
    fn branches_packed_branches_and_detached_heads_are_read() {
        let detached = tree(&[(".git/HEAD", A), ("a/b/c", "")]);
        assert_eq!(revision(&detached.path().join("a/b")).unwrap(), A);
        let branch = tree(&[(".git/HEAD", "ref: refs/heads/main\n"), (".git/refs/heads/main", &format!("{A}\n"))]);
        assert_eq!(revision(branch.path()).unwrap(), A);
        let packed = tree(&[
            (".git/HEAD", "ref: refs/heads/main\n"),
            (".git/packed-refs", &format!("# pack-refs\n{B} refs/heads/other\n{A} refs/heads/main\n")),
        ]);
        assert_eq!(revision(packed.path()).unwrap(), A);
        let linked = tree(&[
            ("main/.git/worktrees/w/HEAD", "ref: refs/heads/topic"),
            ("main/.git/worktrees/w/commondir", "../.."),
            ("main/.git/refs/heads/topic", B),
            ("w/.git", "gitdir: ../main/.git/worktrees/w\n"),
        ]);
        assert_eq!(revision(&linked.path().join("w")).unwrap(), B);
    }

    fn git(dir: &Path, arguments: &[&str]) -> bool {
        let identity = ["-c", "user.name=x", "-c", "user.email=x", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"];
        let mut command = Command::new("git");
        command.arg("-C").arg(dir).args(identity).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    #[test]
    fn git_itself_says_whether_files_differ() {
        let patient = Duration::from_mins(1);
        let dir = tree(&[("a.txt", "1"), ("b/c.txt", "2")]);
        let ask = |program: &str| state(&dir.path().join("b"), Path::new(program), patient);
        if !git(dir.path(), &["init"]) {
            // A machine without git: that is what is said.
            files::create_dir_all(&dir.path().join(".git")).unwrap();
            assert!(ask("git").reason.unwrap().starts_with("`git` cannot be started: "));
            return;
        }
        assert!(git(dir.path(), &["add", "."]) && git(dir.path(), &["commit", "-m", "x"]));
        let clean = ask("git");
        assert_eq!((clean.branch.as_deref(), clean.is_dirty, clean.reason.as_deref()), (Some("main"), Some(false), None));
        assert_eq!(clean.revision, revision(dir.path()));
        files::write_atomic(&dir.path().join("new.txt"), b"3").unwrap();
        assert_eq!(ask("git").is_dirty, Some(false), "a new file is not followed");
        files::write_atomic(&dir.path().join("a.txt"), b"other").unwrap();
        assert_eq!(ask("git").is_dirty, Some(true));
        assert!(git(dir.path(), &["checkout", "--detach"]));
        assert_eq!(ask("git").branch, None);
    }

    #[test]
    fn a_program_that_fails_or_is_late_is_a_reason() {
        let dir = tree(&[(".git/HEAD", "ref: refs/heads/topic/one\n"), (".git/refs/heads/topic/one", A)]);
        let ask = |program: &str, wait| state(dir.path(), Path::new(program), wait);
        let absent = ask("/nonexistent/git", Duration::from_mins(1));
        assert_eq!((absent.revision.as_deref(), absent.branch.as_deref(), absent.is_dirty), (Some(A), Some("topic/one"), None));
        assert!(absent.reason.unwrap().starts_with("`/nonexistent/git` cannot be started: "));
        // It knows none of the options.
        let failed = ask("sleep", Duration::from_mins(1));
        assert!(failed.is_dirty.is_none() && failed.reason.unwrap().starts_with("`sleep` failed: "));
        // Nothing is there to read at once.
        assert_eq!(ask("sleep", Duration::ZERO).reason.unwrap(), "`sleep` took longer than 0 ms");
        let nowhere = state(Path::new("/nonexistent"), Path::new("git"), Duration::from_mins(1));
        assert!(nowhere.revision.is_none() && nowhere.reason.unwrap().contains("has a `.git`"));
    }

    #[test]
    fn what_cannot_be_read_is_no_revision() {
        for head in ["", "ref: refs/heads/none", "ref: refs/../../secret", "ref: /etc/passwd", "xyz"] {
            assert_eq!(revision(tree(&[(".git/HEAD", head)]).path()), None, "{head}");
        }
    }
}
