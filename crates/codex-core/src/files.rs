//! Reading and writing files so that every error carries its path and no reader ever sees half a file.
//!
//! A whole folder is published by [`crate::folder`]; locks are in [`crate::lock`].
#![expect(clippy::disallowed_methods, reason = "this is the one place that calls std::fs; everything else goes through it")]

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::failure::{ExitClass, Failure};

/// The operating system refused to do something with a path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`: {source}", path.display())]
pub struct FileError {
    /// What was tried, as a verb: `read`, `write`, `rename`.
    pub action: &'static str,
    /// The path it was tried on.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// An error of this action on this path.
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }

    /// Whether the path was simply not there.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

impl Failure for FileError {
    fn exit_class(&self) -> ExitClass {
        ExitClass::Io
    }

    fn hint(&self) -> Option<String> {
        match self.source.kind() {
            io::ErrorKind::NotFound => Some("check the path; relative paths start at the current folder".to_owned()),
            io::ErrorKind::AlreadyExists => Some("nothing is overwritten: choose another name, or move away what is there".to_owned()),
            io::ErrorKind::PermissionDenied => Some("check who owns the path and its permissions".to_owned()),
            io::ErrorKind::StorageFull => Some("free some space on that disk and run the same command again".to_owned()),
            io::ErrorKind::ReadOnlyFilesystem => Some("choose a folder on a file system that can be written".to_owned()),
            _ => None,
        }
    }
}

fn at<T>(action: &'static str, path: &Path, result: io::Result<T>) -> Result<T, FileError> {
    result.map_err(|source| FileError::new(action, path, source))
}

/// Opens a file for reading.
pub fn open(path: &Path) -> Result<File, FileError> {
    at("open", path, File::open(path))
}

/// Opens a file for appending, creating it when absent. One `write_all` of one line is one record.
pub fn open_append(path: &Path) -> Result<File, FileError> {
    at("open", path, OpenOptions::new().create(true).append(true).open(path))
}

/// The whole content of a file.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    at("read", path, fs::read(path))
}

/// The whole content of a file of at most `max_bytes`; a larger one is refused before it is read.
pub fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>, FileError> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    at("read", path, file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes))?;
    if bytes.len() as u64 > max_bytes {
        let told = io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {max_bytes} bytes"));
        return Err(FileError::new("read", path, told));
    }
    Ok(bytes)
}

/// The whole content of a UTF-8 file.
pub fn read_to_string(path: &Path) -> Result<String, FileError> {
    at("read", path, fs::read_to_string(path))
}

/// Opens a file that is there for writing in place: its length, its inode and what others append to it stay.
pub fn open_in_place(path: &Path) -> Result<File, FileError> {
    at("open", path, OpenOptions::new().write(true).open(path))
}

/// Creates a folder and its parents, each flushed into the one above it: without that, a power loss takes all that was saved below.
pub fn create_dir_all(path: &Path) -> Result<(), FileError> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    match create_new_dir(path) {
        Err(error) if error.is_not_found() && parent(path) != path => {
            create_dir_all(parent(path))?;
            // Another process may make it between the two calls.
            match create_new_dir(path) {
                Err(_) if path.is_dir() => Ok(()),
                made => made,
            }
        }
        Err(_) if path.is_dir() => Ok(()),
        made => made,
    }
}

/// Creates a folder that is not there yet, flushed into the one above it; what has the name already is an error and stays.
pub fn create_new_dir(path: &Path) -> Result<(), FileError> {
    create_draft_dir(path)?;
    sync_dir(parent(path))
}

/// Like [`create_new_dir`], for a folder whose final name is flushed when it gets it.
pub(crate) fn create_draft_dir(path: &Path) -> Result<(), FileError> {
    at("create folder", path, fs::create_dir(path))
}

/// Removes a file; one that is already gone is no error.
pub fn remove_file(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::new("remove", path, error)),
        _ => Ok(()),
    }
}

/// Removes a folder with its content; one that is already gone is no error.
pub fn remove_dir_all(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::new("remove", path, error)),
        _ => Ok(()),
    }
}

/// The paths in a folder, sorted by name, so that no result depends on the file system's order.
pub fn list_dir(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut paths = Vec::new();
    for entry in at("list", path, fs::read_dir(path))? {
        paths.push(at("list", path, entry)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// What the file system says of a file.
pub fn metadata(path: &Path) -> Result<fs::Metadata, FileError> {
    at("read", path, fs::metadata(path))
}

/// A file's size in bytes.
pub fn size(path: &Path) -> Result<u64, FileError> {
    Ok(metadata(path)?.len())
}

/// Whether the path itself (not what a link points to) is a plain file.
pub fn is_plain_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_file())
}

/// Writes a file so that a reader sees the old content or the new, never a part: temporary file beside it, fsync, rename, fsync of the folder.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_through(&temporary_beside(path), path, bytes)
}

fn write_through(temporary: &Path, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    // A file that has the name already is another's, and is left where it is.
    let file = create_new(temporary)?;
    let written = fill(file, temporary, bytes).and_then(|()| at("rename", path, fs::rename(temporary, path)));
    if written.is_err() {
        // The first error is the one to tell; a temporary file that stays is swept by its name later.
        drop(fs::remove_file(temporary));
    }
    written?;
    sync_dir(parent(path))
}

/// Writes a new file and flushes it to the disk. A failed flush is final: it is never tried again.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    fill(create_new(path)?, path, bytes)
}

/// Creates a file that is not there yet, for writing.
pub(crate) fn create_new(path: &Path) -> Result<File, FileError> {
    at("create", path, OpenOptions::new().write(true).create_new(true).open(path))
}

fn fill(mut file: File, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    at("write", path, file.write_all(bytes))?;
    at("sync", path, flush(&file))
}

/// Flushes a file's content to the disk. `cargo xtask crash` also builds it without, to see that its checks find that.
pub(crate) fn flush(file: &File) -> io::Result<()> {
    if cfg!(codex_teeth = "no_file_fsync") { Ok(()) } else { file.sync_all() }
}

/// Flushes a folder's entries to the disk.
pub fn sync_dir(path: &Path) -> Result<(), FileError> {
    // Windows opens no folder as a file, and its file systems keep a journal of their entries.
    if cfg!(any(windows, codex_teeth = "no_folder_fsync")) {
        return Ok(());
    }
    at("sync", path, File::open(path).and_then(|folder| folder.sync_all()))
}

/// Shortens a file to `len` bytes and flushes it: how a torn last line is taken off a log.
pub fn truncate(path: &Path, len: u64) -> Result<(), FileError> {
    let file = at("open", path, OpenOptions::new().write(true).open(path))?;
    at("truncate", path, file.set_len(len))?;
    at("sync", path, file.sync_all())
}

/// Renames without ever replacing what already has the name.
pub fn rename_new(from: &Path, to: &Path) -> Result<(), FileError> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            // Some file systems do not know the flag; the check below is then the best there is.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
            Err(errno) => return Err(FileError::new("rename", to, errno.into())),
        }
    }
    if fs::symlink_metadata(to).is_ok() {
        return Err(FileError::new("rename", to, io::Error::from(io::ErrorKind::AlreadyExists)));
    }
    at("rename", to, fs::rename(from, to))
}

/// The folder a path is in; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A name of this process's own beside `path`: `<name>.tmp-<pid>-<random>-<n>`.
///
/// The random part is the operating system's, because process ids repeat where each container starts at 1. It is in the names of files that
/// are renamed or removed, so no result depends on it (invariant 4).
pub(crate) fn temporary_beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static RANDOM: OnceLock<u64> = OnceLock::new();
    let random = RANDOM.get_or_init(|| RandomState::new().hash_one("codex"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    parent(path).join(format!("{name}.tmp-{}-{random:016x}-{n}", std::process::id()))
}

/// Whether a name is one of [`temporary_beside`], or of the same form: behind `.tmp-` words of small letters and digits, the last a number.
pub(crate) fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((_, behind)) = name.rsplit_once(".tmp-") else { return false };
    let Some((words, last)) = behind.rsplit_once('-') else { return false };
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    words.split('-').all(is_word) && !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atomic_write_replaces_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap(), b"two");
        assert_eq!(read_to_string(&path).unwrap(), "two");
        assert_eq!(list_dir(dir.path()).unwrap(), vec![path.clone()]);
        assert_eq!(size(&path).unwrap(), 3);
        assert!(is_plain_file(&path) && !is_plain_file(dir.path()));
    }

    #[test]
    fn errors_carry_the_path_and_a_hint() {
        let absent = Path::new("no/such/file");
        let error = read(absent).unwrap_err();
        assert!(error.is_not_found());
        assert!(error.to_string().starts_with("cannot read `no/such/file`: "), "{error}");
        assert_eq!(error.exit_class(), ExitClass::Io);
        assert!(error.hint().is_some());
        assert!(write_atomic(absent, b"x").is_err());
        assert!(list_dir(absent).is_err());
        assert!(open_append(absent).is_err());
    }

    #[test]
    fn a_failed_rename_removes_the_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join("folder");
        create_dir_all(&taken.join("inner")).unwrap();
        assert!(write_atomic(&taken, b"x").is_err());
        assert_eq!(list_dir(dir.path()).unwrap().len(), 1);
    }

    /// What a killed process with this one's id left behind, as happens in containers, where every process is number 1.
    fn leftovers(of: &Path) -> Vec<PathBuf> {
        let name = of.file_name().unwrap().to_string_lossy();
        (0..100).map(|n| parent(of).join(format!("{name}.tmp-{}-{n}", std::process::id()))).collect()
    }

    #[test]
    fn what_a_process_of_the_same_id_left_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let old = leftovers(&path);
        for left in &old {
            fs::write(left, b"another's").unwrap();
        }
        write_atomic(&path, b"mine").unwrap();
        assert_eq!(read(&path).unwrap(), b"mine");
        assert!(old.iter().all(|left| read(left).unwrap() == b"another's"));
    }

    #[test]
    fn a_write_whose_temporary_name_is_taken_removes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (path, taken) = (dir.path().join("a.json"), dir.path().join("a.json.tmp-1-1"));
        write_synced(&taken, b"another's").unwrap();
        assert_eq!(write_through(&taken, &path, b"mine").unwrap_err().source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read(&taken).unwrap(), b"another's");
        assert!(!path.exists());
    }

    #[test]
    fn rename_new_never_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        write_atomic(&a, b"a").unwrap();
        write_atomic(&b, b"b").unwrap();
        assert_eq!(rename_new(&a, &b).unwrap_err().source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read(&b).unwrap(), b"b");
        remove_file(&b).unwrap();
        rename_new(&a, &b).unwrap();
        assert_eq!(read(&b).unwrap(), b"a");
    }

    #[test]
    fn bounded_read_refuses_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write_atomic(&path, b"12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        assert!(read_bounded(&path, 4).unwrap_err().to_string().contains("larger than 4 bytes"));
        truncate(&path, 2).unwrap();
        assert_eq!(read(&path).unwrap(), b"12");
    }

    #[test]
    fn removing_what_is_gone_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        remove_file(&dir.path().join("x")).unwrap();
        remove_dir_all(&dir.path().join("y")).unwrap();
        assert_eq!(parent(Path::new("x")), Path::new("."));
    }
}
