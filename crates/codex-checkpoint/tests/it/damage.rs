//! Flipped bits, cut and missing files: each is found, and the last whole checkpoint is used and the others are named.

use std::path::{Path, PathBuf};

use codex_checkpoint::{CheckpointStore, FolderStore};
use codex_core::{ExitClass, Failure, Stream, files};

use crate::sample::{FILES, assert_is_sample, folder_with, plan, write_sealed};
use crate::store::memory_folder;
use crate::tally::Tally;

/// Two checkpoints, of which the newer is damaged by each case in turn.
struct Patient {
    dir: tempfile::TempDir,
}

impl Patient {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(memory_folder()).unwrap();
        folder_with(dir.path(), &[1, 2]);
        Self { dir }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join("step-00000002").join(file)
    }

    /// Puts other bytes, or none, in the place of a file, looks at what is said, and puts it right again.
    fn with(&self, file: &str, bytes: Option<&[u8]>) {
        let path = self.path(file);
        let whole = files::read(&path).unwrap();
        match bytes {
            Some(bytes) => files::write_atomic(&path, bytes).unwrap(),
            None => files::remove_file(&path).unwrap(),
        }
        let store = FolderStore::read_only(self.dir.path()).unwrap();
        let error = store.verify(2).expect_err(file);
        assert_eq!(error.exit_class(), ExitClass::Integrity, "{error}");
        let told = error.to_string().contains(file) || (file == "manifest.blake3" && error.to_string().contains("manifest.json"));
        assert!(told && error.hint().is_some(), "{error}");
        let loaded = store.load_latest(Some(plan())).unwrap().unwrap();
        assert_eq!((loaded.step, loaded.skipped.len(), loaded.skipped[0].step), (1, 1, 2));
        assert_eq!(loaded.skipped[0].reason, error.to_string());
        assert_is_sample(&loaded);
        files::write_atomic(&path, &whole).unwrap();
    }
}

/// The part of the programme: bits flipped and files cut at places drawn from a seed, in every file by turns.
pub(super) fn damages(seed: u64, tally: &mut Tally) {
    for (group, n) in [("flipped bit", 1000), ("cut file", 200)] {
        let n = tally.of(n);
        tally.plan(group, n);
        let mut patient = Patient::new();
        let mut stream = Stream::new(seed, group, 0);
        for i in 0..n {
            let file = *FILES.iter().chain(&["manifest.json", "manifest.blake3"]).nth(i % (FILES.len() + 2)).unwrap();
            let whole = files::read(&patient.path(file)).unwrap();
            let (at, bit) = (stream.below(whole.len() as u64) as usize, stream.below(8) as u32);
            let bad = if group == "cut file" { whole[..at].to_vec() } else { flipped(&whole, at, bit) };
            // What a failed case leaves is not the next one's.
            if !tally.case(group, &format!("{file}, byte {at} of {}, bit {bit}", whole.len()), || patient.with(file, Some(&bad))) {
                patient = Patient::new();
            }
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let patient = Patient::new();
    for file in ["manifest.json", "manifest.blake3"] {
        let whole = files::read(&patient.path(file)).unwrap();
        for at in 0..whole.len() {
            patient.with(file, Some(&flipped(&whole, at, at as u32 % 8)));
        }
    }
    let mut stream = Stream::new(11, "flips", 0);
    for file in FILES {
        let whole = files::read(&patient.path(file)).unwrap();
        for _ in 0..60 {
            let (at, bit) = (stream.below(whole.len() as u64) as usize, stream.below(8) as u32);
            patient.with(file, Some(&flipped(&whole, at, bit)));
        }
    }
}

fn flipped(bytes: &[u8], at: usize, bit: u32) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << bit;
    bytes
}

#[test]
fn a_cut_grown_or_missing_file_is_found() {
    let patient = Patient::new();
    for file in FILES.iter().chain(&["manifest.json", "manifest.blake3"]) {
        let whole = files::read(&patient.path(file)).unwrap();
        for len in [0, 1, 7, whole.len() / 2, whole.len() - 2] {
            patient.with(file, Some(&whole[..len]));
        }
        patient.with(file, Some(&[&whole[..], b"x"].concat()));
        patient.with(file, None);
    }
}

#[test]
fn when_none_is_whole_the_file_and_both_digests_are_named() {
    let dir = tempfile::tempdir().unwrap();
    folder_with(dir.path(), &[1, 2]);
    let mut told = Vec::new();
    for step in ["step-00000001", "step-00000002"] {
        let path = dir.path().join(step).join("model.safetensors");
        let whole = files::read(&path).unwrap();
        let bad = flipped(&whole, whole.len() - 1, 3);
        files::write_atomic(&path, &bad).unwrap();
        told = vec![path.display().to_string(), digest(&whole), digest(&bad)];
    }
    let error = FolderStore::read_only(dir.path()).unwrap().load_latest(None).unwrap_err();
    assert_eq!(error.exit_class(), ExitClass::Integrity);
    assert!(told.iter().all(|part| error.to_string().contains(part)), "{error}");
    assert!(error.hint().unwrap().contains("--fresh"));
}

fn digest(bytes: &[u8]) -> String {
    codex_core::Digest::of_bytes(bytes).to_string()
}

#[test]
fn a_newer_format_is_never_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    folder_with(dir.path(), &[1, 2]);
    let path = dir.path().join("step-00000002/manifest.json");
    let newer = files::read_to_string(&path).unwrap().replace("\"schema\": 1", "\"schema\": 7");
    write_sealed(files::parent(&path), &newer);
    let error = FolderStore::read_only(dir.path()).unwrap().load_latest(None).unwrap_err();
    assert!(error.to_string().ends_with("has schema 7; this program reads schema 1"), "{error}");
    assert_eq!(error.exit_class(), ExitClass::Integrity);
    assert!(error.hint().is_some());
}

#[test]
fn pointers_are_never_trusted() {
    let lies = ["", "{", "[]", "{\"step\":1,\"folder\":\"step-00000001\"}", "{\"step\":9,\"folder\":\"../../etc\",\"items\":[]}"];
    let dir = tempfile::tempdir().unwrap();
    folder_with(dir.path(), &[1, 2]);
    let check = |folder: &Path| assert_is_sample(&FolderStore::read_only(folder).unwrap().load_latest(Some(plan())).unwrap().unwrap());
    for pointer in ["latest.json", "best.json"] {
        let path = dir.path().join(pointer);
        for lie in lies {
            files::write_atomic(&path, lie.as_bytes()).unwrap();
            check(dir.path());
            assert_eq!(FolderStore::read_only(dir.path()).unwrap().best().unwrap(), Some(2));
        }
        files::remove_file(&path).unwrap();
        check(dir.path());
    }
}
