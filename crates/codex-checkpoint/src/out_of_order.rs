//! A checkpoint whose name and manifest come before what they promise: what `cargo xtask crash` builds to see that its checks find it. It is in no
//! other build.

use std::path::Path;

use codex_core::{Digest, FileError, FolderDraft, files};

use crate::content::Content;
use crate::error::CheckpointError;
use crate::manifest::{self, Manifest};
use crate::snapshot_files::SnapshotFiles;

/// Publishes the manifest, then writes the files that it lists.
pub(crate) fn write(path: &Path, snapshot: &SnapshotFiles) -> Result<Manifest, CheckpointError> {
    let manifest = snapshot.manifest(Content::examine)?;
    let manifest_bytes = manifest.to_bytes()?;
    let draft = FolderDraft::create(path)?;
    draft.write(manifest::SEAL, manifest::seal(Digest::of_bytes(&manifest_bytes)).as_bytes())?;
    draft.write(manifest::FILE, &manifest_bytes)?;
    draft.publish()?;
    for (name, content) in &snapshot.contents {
        let (path, mut bytes) = (path.join(name), Vec::new());
        content.write_to(&mut bytes).map_err(|error| FileError::new("write", &path, error))?;
        files::write_synced(&path, &bytes)?;
    }
    Ok(manifest)
}
