//! The folder store: layout, bytes, pointers, lock, sweeping, and what it does beside damaged folders.

use std::path::{Path, PathBuf};

use codex_checkpoint::{CheckpointError, CheckpointStore, FolderStore};
use codex_core::{Digest, ExitClass, Failure, files};
use serde_json::{Value, json};

use crate::sample::{FILES, Sample, assert_is_sample, config, folder_with, plan, write_sealed};

fn names(folder: &Path) -> Vec<String> {
    let all = files::list_dir(folder).unwrap();
    all.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&files::read(path).unwrap()).unwrap()
}

/// Flips a bit in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = files::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    files::write_atomic(path, &bytes).unwrap();
}

#[test]
fn the_layout_is_the_documented_one() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run/checkpoints");
    let mut store = FolderStore::open(&folder, &config(2, 1)).unwrap();
    let saved = Sample::of(100).save(&mut store).unwrap();
    assert_eq!(saved.path, folder.join("step-00000100"));
    assert_eq!(names(&folder), [".lock", "best.json", "latest.json", "step-00000100"]);
    let mut expected = FILES.map(str::to_owned).to_vec();
    expected.extend(["manifest.json", "manifest.blake3"].map(str::to_owned));
    expected.sort();
    assert_eq!(names(&saved.path), expected);
    let manifest = json_of(&saved.path.join("manifest.json"));
    assert_eq!((&manifest["schema"], &manifest["step"], &manifest["plan"]), (&json!(1), &json!(100), &json!(plan())));
    let listed: Vec<&str> = manifest["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(listed, FILES);
    let digest = Digest::of_file(&saved.path.join("manifest.json")).unwrap();
    assert_eq!(digest, saved.digest);
    assert_eq!(json_of(&folder.join("latest.json")), json!({ "step": 100, "folder": "step-00000100", "manifest_blake3": digest }));
    let item = json!({ "step": 100, "value": 10.0 / 101.0, "folder": "step-00000100" });
    assert_eq!(json_of(&folder.join("best.json")), json!({ "metric": "validation/loss", "mode": "min", "items": [item] }));
    let on_disk: u64 = files::list_dir(&saved.path).unwrap().iter().map(|path| files::size(path).unwrap()).sum();
    assert_eq!(on_disk, saved.bytes);
}

#[test]
fn the_same_snapshot_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    folder_with(&a, &[1, 2]);
    folder_with(&b, &[1, 2]);
    for file in FILES.iter().chain(&["manifest.json"]) {
        let inside = PathBuf::from("step-00000002").join(file);
        assert_eq!(files::read(&a.join(&inside)).unwrap(), files::read(&b.join(&inside)).unwrap(), "{file}");
    }
    for pointer in ["latest.json", "best.json"] {
        assert_eq!(files::read(&a.join(pointer)).unwrap(), files::read(&b.join(pointer)).unwrap());
    }
}

#[test]
fn a_second_writer_is_told_that_the_folder_is_busy() {
    let dir = tempfile::tempdir().unwrap();
    let first = FolderStore::open(dir.path(), &config(2, 1)).unwrap();
    let draft = dir.path().join("step-00000009.tmp-1-1");
    files::create_dir_all(&draft).unwrap();
    let error = FolderStore::open(dir.path(), &config(2, 1)).unwrap_err();
    assert_eq!((error.exit_class(), error.exit_class().code()), (ExitClass::Busy, 7));
    assert!(error.to_string().contains(".lock") && error.hint().is_some(), "{error}");
    assert!(draft.is_dir(), "the refused one must not sweep the first one's draft");
    drop(first);
    FolderStore::open(dir.path(), &config(2, 1)).unwrap();
    assert!(!draft.exists());
}

#[test]
fn a_reader_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    folder_with(dir.path(), &[1]);
    files::create_dir_all(&dir.path().join("step-00000002.tmp-1-1")).unwrap();
    let before = names(dir.path());
    let _writer_beside = codex_core::Lock::acquire(&dir.path().join(".lock")).unwrap();
    let mut reader = FolderStore::read_only(dir.path()).unwrap();
    assert_is_sample(&reader.load_latest(None).unwrap().unwrap());
    let error = Sample::of(2).save(&mut reader).unwrap_err();
    assert!(matches!(error, CheckpointError::ReadOnly { .. }), "{error}");
    assert_eq!((error.exit_class(), error.hint()), (ExitClass::Usage, None));
    assert_eq!(names(dir.path()), before);
    assert_eq!(FolderStore::read_only(&dir.path().join("absent")).unwrap_err().exit_class(), ExitClass::Io);
}

#[test]
fn pointers_name_what_is_there() {
    for keep_best in [0, 1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = FolderStore::open(dir.path(), &config(1, keep_best)).unwrap();
        for (step, loss) in [(1, 0.1), (2, 0.2), (3, 0.9)] {
            Sample::with_loss(step, loss).save(&mut store).unwrap();
        }
        let best = json_of(&dir.path().join("best.json"));
        let items = best["items"].as_array().unwrap();
        assert_eq!(items.len(), keep_best);
        assert!(items.iter().all(|item| dir.path().join(item["folder"].as_str().unwrap()).is_dir()), "{best}");
        assert!(dir.path().join(json_of(&dir.path().join("latest.json"))["folder"].as_str().unwrap()).is_dir());
    }
}

#[test]
fn a_damaged_newer_checkpoint_never_costs_the_one_just_saved() {
    // The newest is damaged, so the run goes back to 10 and saves 11 with only one to keep.
    let dir = tempfile::tempdir().unwrap();
    folder_with(dir.path(), &[10, 20]);
    damage(&dir.path().join("step-00000020/model.safetensors"));
    let mut store = FolderStore::open(dir.path(), &config(1, 0)).unwrap();
    assert_eq!(store.load_latest(Some(plan())).unwrap().unwrap().step, 10);
    assert_eq!(Sample::of(11).save(&mut store).unwrap().pruned, [10]);
    let loaded = store.load_latest(Some(plan())).unwrap().unwrap();
    assert_eq!((loaded.step, loaded.skipped[0].step), (11, 20));
    assert_is_sample(&loaded);
}

#[test]
fn a_damaged_folder_of_the_step_makes_way() {
    for file in FILES.iter().chain(&["manifest.json"]) {
        let dir = tempfile::tempdir().unwrap();
        folder_with(dir.path(), &[1, 2]);
        damage(&dir.path().join("step-00000002").join(file));
        let mut store = FolderStore::open(dir.path(), &config(9, 1)).unwrap();
        Sample::of(2).save(&mut store).unwrap();
        assert_is_sample(&store.load(2).unwrap());
        assert_eq!(names(dir.path()), [".lock", "best.json", "latest.json", "step-00000001", "step-00000002"]);
    }
}

#[test]
fn what_is_not_known_to_be_damaged_does_not_make_way() {
    let dir = tempfile::tempdir().unwrap();
    folder_with(dir.path(), &[1, 2]);
    let manifest = dir.path().join("step-00000002/manifest.json");
    let mut newer = json_of(&manifest);
    newer["schema"] = json!(2);
    write_sealed(&dir.path().join("step-00000002"), &newer.to_string());
    files::write_atomic(&dir.path().join("step-00000003"), b"a file").unwrap();
    // So must a link, wherever it leads.
    std::os::unix::fs::symlink(dir.path().join("nowhere"), dir.path().join("step-00000004")).unwrap();
    let mut store = FolderStore::open(dir.path(), &config(9, 1)).unwrap();
    let error = Sample::of(2).save(&mut store).unwrap_err();
    assert!(matches!(error, CheckpointError::Schema { found: 2, supported: 1, .. }), "{error}");
    assert_eq!(json_of(&manifest), newer);
    let error = Sample::of(3).save(&mut store).unwrap_err();
    assert!(matches!(error, CheckpointError::Exists { .. }), "{error}");
    assert_eq!(files::read(&dir.path().join("step-00000003")).unwrap(), b"a file");
    assert!(matches!(Sample::of(4).save(&mut store).unwrap_err(), CheckpointError::Exists { .. }));
    assert!(!dir.path().join("nowhere").exists());
}
