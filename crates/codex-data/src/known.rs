//! Digests of large source files that were computed before, so that a start on a warm cache does not read them again.
//!
//! A file is known by what its file system says of it: device, inode, size, and the times of its last change of content and of status to the nanosecond.
//! No program can set the last of these, so a file that was written to is another one. Files that were changed within seconds of being read are not kept,
//! as git does it ("racy git"), because another change could have the same time. What is remembered serves a start only: `verify` reads every byte.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use codex_core::{Clock, Digest, FileError, SystemClock, files};
use serde::{Deserialize, Serialize};

/// The smallest file that is remembered: reading a smaller one takes a tenth of a millisecond.
pub const KNOWN_FROM_BYTES: u64 = 1 << 18;
/// The most that is remembered.
const MAX_BYTES: u64 = 64 << 20;
/// How old a change must be, in seconds: longer than the coarsest clock of a file system.
const SETTLED_SECONDS: i64 = 3;

thread_local! {
    static KNOWN: RefCell<Option<Known>> = const { RefCell::new(None) };
    static SETTLED: Cell<i64> = const { Cell::new(SETTLED_SECONDS) };
}

/// While it lives, this thread finds digests of source files in a file of them, and adds those that it computes; they are saved when it ends.
#[derive(Debug)]
#[must_use = "digests are known only while it lives"]
pub struct KnownChecksums(());

#[derive(Debug)]
struct Known {
    file: PathBuf,
    from_bytes: u64,
    entries: BTreeMap<PathBuf, Entry>,
    is_changed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    identity: Identity,
    blake3: Digest,
}

/// What a file system says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    blake3: Digest,
    files: BTreeMap<PathBuf, Entry>,
}

impl KnownChecksums {
    /// Begins with the digests of files of at least `from_bytes` that this file has; one that is absent or damaged has none.
    pub fn open(file: &Path, from_bytes: u64) -> Self {
        let read = || {
            let sealed: Sealed = serde_json::from_slice(&files::read_bounded(file, MAX_BYTES).ok()?).ok()?;
            (Digest::of_json(&sealed.files).ok()? == sealed.blake3).then_some(sealed.files)
        };
        let known = Known { file: file.to_owned(), from_bytes, entries: read().unwrap_or_default(), is_changed: false };
        KNOWN.set(Some(known));
        Self(())
    }
}

impl Drop for KnownChecksums {
    fn drop(&mut self) {
        if let Some(known) = KNOWN.take().filter(|known| known.is_changed) {
            // Where it cannot be saved, the next start reads the files again.
            drop(known.save());
        }
    }
}

impl Known {
    fn save(self) -> Result<(), FileError> {
        let there: BTreeMap<PathBuf, Entry> = self.entries.into_iter().filter(|(path, _)| path.exists()).collect();
        let failed = |error: serde_json::Error| FileError::new("describe", &self.file, error.into());
        let sealed = Sealed { blake3: Digest::of_json(&there).map_err(failed)?, files: there };
        files::create_dir_all(files::parent(&self.file))?;
        files::write_atomic(&self.file, &serde_json::to_vec(&sealed).map_err(failed)?)
    }
}

/// The digest of a source file: the one that is known, or else computed.
pub(crate) fn digest_of(path: &Path) -> Result<Digest, FileError> {
    let from_bytes = KNOWN.with_borrow(|known| known.as_ref().map(|known| known.from_bytes));
    let of_interest = from_bytes.and_then(|from_bytes| {
        let path = std::path::absolute(path).ok()?;
        let identity = Identity::of(&path).filter(|identity| identity.bytes >= from_bytes)?;
        Some((path, identity))
    });
    let Some((absolute, identity)) = of_interest else { return Digest::of_file(path) };
    let found = KNOWN.with_borrow(|known| known.as_ref()?.entries.get(&absolute).filter(|entry| entry.identity == identity).cloned());
    if let Some(entry) = found {
        return Ok(entry.blake3);
    }
    let begins = SystemClock::new().now().0 / 1000;
    let blake3 = Digest::of_file(path)?;
    let is_settled = begins.saturating_sub(identity.changed.0) >= SETTLED.get();
    if is_settled && Identity::of(&absolute) == Some(identity) {
        KNOWN.with_borrow_mut(|known| {
            if let Some(known) = known {
                known.entries.insert(absolute, Entry { identity, blake3 });
                known.is_changed = true;
            }
        });
    }
    Ok(blake3)
}

impl Identity {
    #[cfg(unix)]
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let it = files::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        let (modified, changed) = ((it.mtime(), it.mtime_nsec()), (it.ctime(), it.ctime_nsec()));
        Some(Self { device: it.dev(), inode: it.ino(), bytes: it.len(), modified, changed })
    }

    /// Other systems have no time that no program can set.
    #[cfg(not(unix))]
    fn of(_path: &Path) -> Option<Self> {
        None
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A text whose last change is said to be long ago in every entry of the file: the test cannot wait.
    fn aged(memo: &Path, change: impl Fn(&mut Entry)) {
        let mut sealed: Sealed = serde_json::from_slice(&files::read(memo).unwrap()).unwrap();
        sealed.files.values_mut().for_each(change);
        sealed.blake3 = Digest::of_json(&sealed.files).unwrap();
        files::write_atomic(memo, &serde_json::to_vec(&sealed).unwrap()).unwrap();
    }

    #[test]
    fn a_digest_is_found_again_until_the_file_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let (memo, text) = (folder.path().join("cache/checksums.json"), folder.path().join("a.txt"));
        files::write_atomic(&text, b"one").unwrap();
        let (one, wrong) = (Digest::of_bytes(b"one"), Digest::of_bytes(b"wrong"));
        let asked = |from_bytes| {
            let _known = KnownChecksums::open(&memo, from_bytes);
            digest_of(&text).unwrap()
        };
        assert_eq!(asked(1), one);
        assert!(!memo.exists(), "a file that was changed just now is not kept");
        // A time that no program can set: the test says how long it takes to settle instead of waiting.
        SETTLED.set(-1);
        assert_eq!(asked(4), one);
        assert!(!memo.exists(), "a small file is not kept");
        assert_eq!(asked(1), one);
        // That it is not read again is seen by an entry with another digest.
        aged(&memo, |entry| entry.blake3 = wrong);
        assert_eq!(asked(1), wrong);
        assert_eq!(digest_of(&text).unwrap(), one, "nothing is known where nothing was opened");
        // Every part of what a file is known by counts.
        let whole = files::read(&memo).unwrap();
        let changes: [fn(&mut Entry); 5] = [
            |entry| entry.identity.inode += 1,
            |entry| entry.identity.device += 1,
            |entry| entry.identity.bytes += 1,
            |entry| entry.identity.modified.1 -= 1,
            |entry| entry.identity.changed.1 -= 1,
        ];
        for change in changes {
            aged(&memo, change);
            assert_eq!(asked(1), one);
            files::write_atomic(&memo, &whole).unwrap();
        }
        // A file of digests that was changed and not sealed again is none.
        let text_of = String::from_utf8(whole.clone()).unwrap();
        let changed = text_of.replace(&wrong.to_string(), &Digest::of_bytes(b"another").to_string());
        assert_ne!(changed, text_of);
        files::write_atomic(&memo, changed.as_bytes()).unwrap();
        assert_eq!(asked(1), one);
        files::write_atomic(&memo, &whole).unwrap();
        // Written in place with the same length, and the time of its content put back: that of its status is another.
        let modified = files::metadata(&text).unwrap().modified().unwrap();
        let mut file = files::open_in_place(&text).unwrap();
        file.write_all(b"two").unwrap();
        file.set_modified(modified).unwrap();
        drop(file);
        assert_eq!(files::metadata(&text).unwrap().modified().unwrap(), modified);
        assert_eq!(asked(1), Digest::of_bytes(b"two"));
    }
}
