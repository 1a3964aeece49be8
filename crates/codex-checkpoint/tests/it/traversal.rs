//! Checkpoints made to lead a reader astray: names out of the folder, links, lies about sizes and tensors. Every digest in them is right.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use codex_checkpoint::{CheckpointStore, FolderStore};
use codex_core::{Digest, ExitClass, Failure, files};
use serde_json::{Value, json};

use crate::sample::{assert_is_sample, folder_with, plan, write_sealed};
use crate::store::memory_folder;
use crate::tally::Tally;

const STEP: &str = "step-00000002";

/// A store with a good step 1 and a step 2 for the attacker, and a secret beside the store.
struct Scene {
    root: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir_in(memory_folder()).unwrap();
        files::create_dir_all(&root.path().join("secrets")).unwrap();
        files::write_atomic(&root.path().join("secrets/key"), b"secret").unwrap();
        folder_with(&root.path().join("store"), &[1, 2]);
        Self { root }
    }

    fn store(&self) -> PathBuf {
        self.root.path().join("store")
    }

    fn checkpoint(&self) -> PathBuf {
        self.store().join(STEP)
    }

    fn secret(&self) -> PathBuf {
        self.root.path().join("secrets/key")
    }

    /// Edits the manifest and seals it again.
    fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut manifest: Value = serde_json::from_slice(&files::read(&self.checkpoint().join("manifest.json")).unwrap()).unwrap();
        change(&mut manifest);
        write_sealed(&self.checkpoint(), &manifest.to_string());
    }

    /// Replaces a file and lists it with its right size and digest.
    fn plant(&self, name: &str, bytes: &[u8]) {
        files::write_atomic(&self.checkpoint().join(name), bytes).unwrap();
        self.edit(|manifest| {
            let listed = manifest["files"].as_array_mut().unwrap();
            listed.retain(|file| file["name"] != name);
            listed.push(record(name, bytes));
        });
    }

    /// Puts a link in the place of a file or folder.
    fn link(&self, target: &Path, at: &str) {
        let at = self.store().join(at);
        if at.is_dir() {
            files::remove_dir_all(&at).unwrap();
        } else {
            files::remove_file(&at).unwrap();
        }
        symlink(target, at).unwrap();
    }

    /// The attack must be told, with the documented exit code, and step 1 used.
    fn check(&self, case: &str) {
        let store = FolderStore::read_only(&self.store()).unwrap();
        let error = store.load(2).expect_err(case);
        assert_eq!(error.exit_class(), ExitClass::Integrity, "{case}: {error}");
        assert!(error.to_string().contains(STEP), "{case}: {error}");
        let loaded = store.load_latest(Some(plan())).expect(case).unwrap();
        assert_eq!((loaded.step, loaded.skipped.len()), (1, 1), "{case}");
        assert_is_sample(&loaded);
        drop(store.list().expect(case));
        assert_eq!(files::read(&self.secret()).unwrap(), b"secret", "{case}");
    }
}

/// A change to a manifest.
type Edit = fn(&mut Value);

fn record(name: &str, bytes: &[u8]) -> Value {
    json!({ "name": name, "bytes": bytes.len(), "blake3": Digest::of_bytes(bytes) })
}

/// A safetensors file with this header.
fn tensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// The part of the programme: what is in this file, and two writers.
pub(super) fn attacks(tally: &mut Tally) {
    names_out_of_the_folder(tally);
    links(tally);
    lies_in_the_manifest(tally);
    lies_in_a_tensor_file(tally);
    #[cfg(target_os = "linux")]
    crate::writers::two_writers(10, tally);
}

#[test]
fn names_out_of_the_folder_are_refused() {
    names_out_of_the_folder(&mut Tally::in_test());
}

fn names_out_of_the_folder(tally: &mut Tally) {
    const GROUP: &str = "name out of the folder";
    let mut names = [
        "../../secrets/key",
        "./../../secrets/key",
        "model.safetensors/../../../secrets/key",
        "../step-00000001/model.safetensors",
        "..",
        ".",
        "",
        "./state.json",
        "a/b",
        "a//b",
        "/etc/hostname",
        "//etc/hostname",
        "..\\..\\secrets\\key",
        "C:\\key",
        "~/key",
        "key\0",
        "key\n",
        " key",
        ".lock",
        "manifest.json",
        "manifest.blake3",
        "\u{202e}nosj.etats",
        "%2e%2e%2fkey",
    ]
    .map(str::to_owned)
    .to_vec();
    let scene = Scene::new();
    names.extend([scene.secret().display().to_string(), "x".repeat(101), "../".repeat(40) + "etc/hostname"]);
    tally.plan(GROUP, 2 * names.len());
    for name in names {
        let case = format!("added {name:?}");
        tally.case(GROUP, &case, || {
            let scene = Scene::new();
            scene.edit(|manifest| manifest["files"].as_array_mut().unwrap().push(record(&name, b"secret")));
            scene.check(&case);
        });
        let case = format!("in place of the weights {name:?}");
        tally.case(GROUP, &case, || {
            let scene = Scene::new();
            scene.edit(|manifest| manifest["files"][0] = record(&name, b"secret"));
            scene.check(&case);
        });
    }
}

#[test]
fn links_are_refused() {
    links(&mut Tally::in_test());
}

fn links(tally: &mut Tally) {
    const GROUP: &str = "link";
    let whole = Scene::new();
    let weights = files::read(&whole.checkpoint().join("model.safetensors")).unwrap();
    let elsewhere = whole.root.path().join("secrets/model.safetensors");
    files::write_atomic(&elsewhere, &weights).unwrap();
    let good = whole.store().join("step-00000001");
    let cases = [
        (elsewhere.clone(), "step-00000002/model.safetensors"),
        (PathBuf::from("../step-00000001/tokenizer.json"), "step-00000002/tokenizer.json"),
        (PathBuf::from("/nowhere/at/all"), "step-00000002/state.json"),
        (PathBuf::from("state.json"), "step-00000002/state.json"),
        (whole.checkpoint().join("manifest.json"), "step-00000002/manifest.json"),
        (whole.checkpoint().join("manifest.blake3"), "step-00000002/manifest.blake3"),
        (whole.checkpoint(), STEP),
        (good, STEP),
    ];
    tally.plan(GROUP, cases.len() + 1);
    for (target, at) in cases {
        let case = format!("{} -> {}", at, target.display());
        tally.case(GROUP, &case, || {
            let scene = Scene::new();
            scene.link(&target, at);
            scene.check(&case);
        });
    }
    let case = "a folder in the place of a file";
    tally.case(GROUP, case, || {
        let scene = Scene::new();
        files::remove_file(&scene.checkpoint().join("state.json")).unwrap();
        files::create_dir_all(&scene.checkpoint().join("state.json")).unwrap();
        scene.check(case);
    });
}

#[test]
fn lies_in_the_manifest_are_refused() {
    lies_in_the_manifest(&mut Tally::in_test());
}

const LIES: &str = "lie";

fn lies_in_the_manifest(tally: &mut Tally) {
    let edits: [(&str, Edit); 14] = [
        ("another step", |m| m["step"] = json!(1)),
        ("a negative step", |m| m["step"] = json!(-2)),
        ("no files", |m| m["files"] = json!([])),
        ("no weights", |m| drop(m["files"].as_array_mut().unwrap().remove(0))),
        ("a file twice", |m| {
            let first = m["files"][0].clone();
            m["files"].as_array_mut().unwrap().push(first);
        }),
        ("a file that is not there", |m| m["files"].as_array_mut().unwrap().push(record("absent", b""))),
        ("the largest size", |m| m["files"][0]["bytes"] = json!(u64::MAX)),
        ("all sizes the largest", |m| {
            m["files"].as_array_mut().unwrap().iter_mut().for_each(|file| file["bytes"] = json!(u64::MAX));
        }),
        ("a size beyond u64", |m| m["files"][0]["bytes"] = json!(1e30)),
        ("too many files", |m| {
            m["files"].as_array_mut().unwrap().extend((0..100).map(|i| record(&format!("extra-{i}"), b"")));
        }),
        ("an unknown key", |m| m["run"] = json!("rm -rf /")),
        ("an unknown key of a file", |m| m["files"][0]["path"] = json!("/etc/hostname")),
        ("a digest of another length", |m| m["files"][0]["blake3"] = json!("abc")),
        ("no plan", |m| drop(m.as_object_mut().unwrap().remove("plan"))),
    ];
    tally.plan(LIES, edits.len());
    for (case, edit) in edits {
        tally.case(LIES, case, || {
            let scene = Scene::new();
            scene.edit(edit);
            scene.check(case);
        });
    }
    let whole = files::read_to_string(&Scene::new().checkpoint().join("manifest.json")).unwrap();
    let texts = [
        ("not JSON", "not JSON".to_owned()),
        ("an array", "[]".to_owned()),
        ("a schema that is a string", whole.replace("\"schema\": 1", "\"schema\": \"1\"")),
        ("a key twice", whole.replace("\"schema\": 1", "\"schema\": 1,\n  \"step\": 2")),
        ("a deep nest", "[".repeat(100_000)),
        ("two mebibytes", format!("{whole}{}", " ".repeat(2 << 20))),
    ];
    tally.plan(LIES, texts.len());
    for (case, text) in texts {
        tally.case(LIES, case, || {
            let scene = Scene::new();
            write_sealed(&scene.checkpoint(), &text);
            let store = FolderStore::read_only(&scene.store()).unwrap();
            if case == "two mebibytes" {
                // A refusal to read, so told as one.
                assert!(store.load(2).unwrap_err().to_string().contains("larger than"));
                assert_eq!(store.load_latest(None).unwrap().unwrap().step, 1);
            } else {
                scene.check(case);
            }
        });
    }
}

#[test]
fn lies_in_a_tensor_file_are_refused() {
    lies_in_a_tensor_file(&mut Tally::in_test());
}

fn lies_in_a_tensor_file(tally: &mut Tally) {
    let one =
        |dtype: &str, shape: &str, offsets: &str| format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#);
    let cases = [
        ("empty", vec![]),
        ("shorter than its length", vec![1, 0, 0]),
        ("a header of 2^64 - 1 bytes", [&[255_u8; 8][..], b"{}"].concat()),
        ("a header larger than the file", [&900_u64.to_le_bytes()[..], b"{}"].concat()),
        ("a header that is not JSON", tensors("nonsense", b"")),
        ("a shape that overflows", tensors(&one("F32", "[4294967296,4294967296,4294967296]", "[0,4]"), &[0; 4])),
        ("a shape larger than the data", tensors(&one("F32", "[1000000]", "[0,4]"), &[0; 4])),
        ("offsets beyond the end", tensors(&one("F32", "[2]", "[0,8]"), &[0; 4])),
        ("offsets that go back", tensors(&one("F32", "[1]", "[4,0]"), &[0; 4])),
        ("data that no tensor has", tensors(&one("F32", "[1]", "[0,4]"), &[0; 64])),
        ("halves", tensors(&one("F16", "[2]", "[0,4]"), &[0; 4])),
        ("integers", tensors(&one("I64", "[1]", "[0,8]"), &[0; 8])),
    ];
    tally.plan(LIES, 2 * cases.len() + 1);
    for (case, bytes) in cases {
        for file in ["model.safetensors", "optimizer.safetensors"] {
            tally.case(LIES, &format!("{case}, in {file}"), || {
                let scene = Scene::new();
                scene.plant(file, &bytes);
                scene.check(case);
                let error = FolderStore::read_only(&scene.store()).unwrap().load(2).unwrap_err();
                assert!(error.to_string().contains(file), "{case}: {error}");
                if ["halves", "integers"].contains(&case) {
                    assert!(error.to_string().contains("`x`") && error.to_string().contains("F32"), "{error}");
                }
            });
        }
    }
    let case = "a state that is not JSON";
    tally.case(LIES, case, || {
        let scene = Scene::new();
        scene.plant("state.json", b"{");
        scene.check(case);
    });
}
