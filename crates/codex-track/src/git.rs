//! The commit that is checked out, read from the files of git. No program is started, and what differs from the commit is not looked at.

use std::path::{Path, PathBuf};

use codex_core::files;

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

    #[test]
    fn what_cannot_be_read_is_no_revision() {
        for head in ["", "ref: refs/heads/none", "ref: refs/../../secret", "ref: /etc/passwd", "xyz"] {
            assert_eq!(revision(tree(&[(".git/HEAD", head)]).path()), None, "{head}");
        }
    }
}
