//! Reading and writing files so that every error carries its path and no reader ever sees half a file.
//!
//! A whole folder is published by [`crate::folder`]; locks are in [`crate::lock`].
#![expect(clippy::disallowed_methods, reason = "this is the one place that calls std::fs; everything else goes through it")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
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

/// Creates a folder and its parents.
pub fn create_dir_all(path: &Path) -> Result<(), FileError> {
    at("create folder", path, fs::create_dir_all(path))
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

/// A file's size in bytes.
pub fn size(path: &Path) -> Result<u64, FileError> {
    Ok(at("read", path, fs::metadata(path))?.len())
}

/// Whether the path itself (not what a link points to) is a plain file.
pub fn is_plain_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_file())
}

/// Writes a file so that a reader sees the old content or the new, never a part: temporary file beside it, fsync, rename, fsync of the folder.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = temporary_beside(path);
    let written = write_synced(&temporary, bytes).and_then(|()| at("rename", path, fs::rename(&temporary, path)));
    if written.is_err() {
        // The first error is the one to tell; a temporary file that stays is swept by its name later.
        drop(fs::remove_file(&temporary));
    }
    written?;
    sync_dir(parent(path))
}

/// Writes a new file and flushes it to the disk. A failed flush is final: it is never tried again.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = at("create", path, OpenOptions::new().write(true).create_new(true).open(path))?;
    at("write", path, file.write_all(bytes))?;
    at("sync", path, file.sync_all())
}

/// Flushes a folder's entries to the disk.
pub fn sync_dir(path: &Path) -> Result<(), FileError> {
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

/// A name of this process's own beside `path`: `<name>.tmp-<pid>-<n>`.
pub(crate) fn temporary_beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    parent(path).join(format!("{name}.tmp-{}-{n}", std::process::id()))
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
