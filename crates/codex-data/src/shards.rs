//! Files of a cache in shards: each is mapped into memory, and is what the manifest says before anything of it is used.
//!
//! A large cache is opened without reading it: a shard's digest is then computed when the first of it is asked for. One that is found damaged is an
//! error, and the cache is marked, so that the next opening does not begin with it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use codex_core::{Digest, files};
use mmap_io::{MemoryMappedFile, MmapAdvice};

use crate::error::DataError;
use crate::manifest::ShardManifest;

/// The file that marks a cache in which damage was found while it was in use.
pub(crate) const DAMAGED: &str = "damaged";

/// Items of one size in one file or several. Cloning shares the mappings.
#[derive(Clone, Debug)]
pub(crate) struct Shards {
    item_bytes: u64,
    shards: Arc<[Shard]>,
    /// Where each shard's items end.
    ends: Arc<[u64]>,
    /// Reads since pages were given back; `None` where they stay, because all of it was read at once.
    reads: Option<Arc<AtomicU64>>,
}

/// Reads after which the pages that they touched are given back to the system, which keeps them as long as it likes: otherwise a long training would seem to
/// hold its whole data in memory. A read may touch a page of 2 MiB.
const READS: u64 = 128;

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    map: MemoryMappedFile,
    checksum: Digest,
    /// What was found when its digest was computed: nothing, or another digest.
    found: OnceLock<Option<String>>,
}

impl Shards {
    /// Maps these shards, each of which has the name `name(i)`. With `is_lazy`, digests wait until they are needed.
    pub(crate) fn open(
        folder: &Path,
        manifests: &[ShardManifest],
        item_bytes: u64,
        name: impl Fn(usize) -> String,
        is_lazy: bool,
    ) -> Result<Self, DataError> {
        let (mut shards, mut ends, mut end) = (Vec::with_capacity(manifests.len()), Vec::with_capacity(manifests.len()), 0_u64);
        for (i, manifest) in manifests.iter().enumerate() {
            let path = folder.join(name(i));
            let corrupt = |found: String| DataError::CorruptCache { path: path.clone(), found };
            if manifest.path != name(i) {
                return Err(corrupt(format!("the manifest calls it `{}`", manifest.path)));
            }
            let bytes = manifest.count.checked_mul(item_bytes);
            end = end
                .checked_add(manifest.count)
                .filter(|_| manifest.count > 0)
                .ok_or_else(|| corrupt("its number of items does not fit".to_owned()))?;
            let shard = Shard::map(path.clone(), bytes, manifest.checksum)?;
            if !is_lazy {
                shard.bytes()?;
            }
            shards.push(shard);
            ends.push(end);
        }
        let reads = is_lazy.then(|| Arc::new(AtomicU64::new(0)));
        Ok(Self { item_bytes, shards: shards.into(), ends: ends.into(), reads })
    }

    /// How many items there are.
    pub(crate) fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Where the items of each shard end.
    pub(crate) fn ends(&self) -> &[u64] {
        &self.ends
    }

    /// The bytes of items `start..start + len`, shard by shard; fewer at the end.
    pub(crate) fn each(&self, start: u64, len: u64, mut visit: impl FnMut(&[u8])) -> Result<(), DataError> {
        self.give_back();
        let end = start.saturating_add(len).min(self.len());
        let (mut at, mut shard) = (start, self.ends.partition_point(|end| *end <= start));
        while at < end {
            let (Some(of), Some(&until)) = (self.shards.get(shard), self.ends.get(shard)) else { break };
            let begins = shard.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
            let (from, to) = ((at - begins) * self.item_bytes, (end.min(until) - begins) * self.item_bytes);
            visit(of.bytes()?.get(from as usize..to as usize).unwrap_or_default());
            at = until;
            shard += 1;
        }
        Ok(())
    }

    /// Gives pages back now and then. Where that fails they stay, which costs nothing but how much memory seems to be in use.
    fn give_back(&self) {
        let Some(reads) = &self.reads else { return };
        if reads.fetch_add(1, Ordering::Relaxed) % READS == READS - 1 {
            self.shards.iter().for_each(Shard::give_back);
        }
    }

    /// One item; `None` when there are fewer.
    pub(crate) fn item(&self, index: u64) -> Result<Option<&[u8]>, DataError> {
        self.give_back();
        let shard = self.ends.partition_point(|end| *end <= index);
        let Some(of) = self.shards.get(shard) else { return Ok(None) };
        let begins = shard.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let from = ((index - begins) * self.item_bytes) as usize;
        Ok(of.bytes()?.get(from..from + self.item_bytes as usize))
    }
}

impl Shard {
    fn map(path: PathBuf, bytes: Option<u64>, checksum: Digest) -> Result<Self, DataError> {
        let corrupt = |found: String| DataError::CorruptCache { path: path.clone(), found };
        if !files::is_plain_file(&path) {
            return Err(corrupt("it is missing".to_owned()));
        }
        let map = match MemoryMappedFile::open_ro(&path) {
            Ok(map) => map,
            Err(source) => return Err(DataError::Map { path, source }),
        };
        let size = map.len();
        if bytes != Some(size) {
            let expected = bytes.map_or_else(|| "a size that fits".to_owned(), |bytes| format!("{bytes} bytes"));
            return Err(corrupt(format!("expected {expected}, found {size}")));
        }
        Ok(Self { path, map, checksum, found: OnceLock::new() })
    }

    /// The pages stay in the system's cache; the next read finds them there.
    fn give_back(&self) {
        drop(self.map.advise(0, self.map.len(), MmapAdvice::DontNeed));
    }

    /// Its bytes, once they are known to be what was written: what was mapped is looked at, not what has its path a moment before or after.
    fn bytes(&self) -> Result<&[u8], DataError> {
        let bytes = match self.map.as_slice_bytes(0, self.map.len()) {
            Ok(bytes) => bytes,
            Err(source) => return Err(DataError::Map { path: self.path.clone(), source }),
        };
        let found = self.found.get_or_init(|| {
            let found = Digest::of_bytes(bytes);
            self.give_back();
            (found != self.checksum).then(|| format!("expected blake3 {}, found {found}", self.checksum))
        });
        match found {
            None => Ok(bytes),
            Some(found) => {
                // Where it cannot be marked, the next use finds the same.
                drop(files::write_atomic(&files::parent(&self.path).join(DAMAGED), b""));
                Err(DataError::CorruptCache { path: self.path.clone(), found: found.clone() })
            }
        }
    }
}
