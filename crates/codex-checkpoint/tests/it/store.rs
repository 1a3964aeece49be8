//! What both stores promise alike.

use std::path::Path;

use codex_checkpoint::{CheckpointConfig, CheckpointError, CheckpointStore, FolderStore, HostTensor, MemoryStore, Mode, TensorMap};
use codex_core::{Digest, ExitClass, Failure};
use proptest::prelude::*;
use serde_json::json;

use crate::sample::{Sample, assert_is_sample, config, plan};

/// Runs a check on an empty store of each kind.
fn check(config: &CheckpointConfig, promise: impl Fn(&mut dyn CheckpointStore)) {
    promise(&mut MemoryStore::new(config));
    let dir = tempfile::tempdir().unwrap();
    promise(&mut FolderStore::open(&dir.path().join("checkpoints"), config).unwrap());
}

#[test]
fn what_was_saved_comes_back() {
    check(&config(9, 1), |store| {
        assert!(store.load_latest(Some(plan())).unwrap().is_none());
        assert_eq!(store.best().unwrap(), None);
        for step in [1, 2, 3] {
            let saved = Sample::of(step).save(store).unwrap();
            assert_eq!((saved.step, saved.pruned), (step, vec![]));
        }
        let loaded = store.load_latest(Some(plan())).unwrap().unwrap();
        assert_eq!((loaded.step, loaded.skipped.len()), (3, 0));
        assert_is_sample(&loaded);
        assert_is_sample(&store.load(1).unwrap());
        assert_eq!(store.steps().unwrap(), [1, 2, 3]);
        let listed = store.list().unwrap();
        assert_eq!(listed.iter().map(|entry| entry.step).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(listed.iter().all(|entry| entry.plan == plan() && entry.bytes > 0 && entry.metrics.len() == 1));
        assert_eq!(store.verify(2).unwrap().files.len(), 4);
    });
}

#[test]
fn both_stores_report_the_same_save() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Sample::of(7).save(&mut FolderStore::open(dir.path(), &config(2, 1)).unwrap()).unwrap();
    let memory = Sample::of(7).save(&mut MemoryStore::new(&config(2, 1))).unwrap();
    assert_eq!((folder.bytes, folder.digest), (memory.bytes, memory.digest));
}

#[test]
fn the_same_content_again_is_fine_and_other_content_is_refused() {
    check(&config(2, 1), |store| {
        let first = Sample::of(5).save(store).unwrap();
        assert_eq!(Sample::of(5).save(store).unwrap(), first);
        let error = Sample::with_loss(5, 0.25).save(store).unwrap_err();
        assert!(matches!(error, CheckpointError::Exists { .. }), "{error}");
        assert_eq!(error.exit_class(), ExitClass::Integrity);
        assert_is_sample(&store.load(5).unwrap());
    });
}

#[test]
fn another_plan_is_refused_with_both_digests() {
    check(&config(2, 1), |store| {
        Sample::of(5).save(store).unwrap();
        let other = Digest::of_bytes(b"other");
        let error = store.load_latest(Some(other)).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(&format!("expected {other}, found {}", plan())), "{message}");
        assert_eq!(error.exit_class(), ExitClass::Integrity);
        assert!(error.hint().unwrap().contains("--fresh"));
        assert_eq!(store.load_latest(None).unwrap().unwrap().step, 5);
    });
}

#[test]
fn a_step_that_is_not_there_is_told_with_those_that_are() {
    check(&config(2, 1), |store| {
        Sample::of(5).save(store).unwrap();
        let error = store.load(6).unwrap_err();
        assert!(error.to_string().ends_with("there are: [5]"), "{error}");
        assert!(store.verify(6).is_err());
        assert_eq!(error.exit_class(), ExitClass::Usage);
        assert!(error.hint().is_some());
    });
}

#[test]
fn the_newest_and_the_best_are_kept() {
    check(&config(2, 1), |store| {
        let mut pruned = Vec::new();
        for (step, loss) in [(10, 0.9), (20, 0.1), (30, 0.5), (40, 0.4), (50, 0.3)] {
            pruned.extend(Sample::with_loss(step, loss).save(store).unwrap().pruned);
        }
        assert_eq!(pruned, [10, 30]);
        assert_eq!(store.steps().unwrap(), [20, 40, 50]);
        assert_eq!(store.best().unwrap(), Some(20));
    });
    check(&CheckpointConfig { mode: Mode::Max, ..config(1, 1) }, |store| {
        for (step, loss) in [(10, 0.9), (20, 0.1), (30, 0.5)] {
            Sample::with_loss(step, loss).save(store).unwrap();
        }
        assert_eq!(store.steps().unwrap(), [10, 30]);
    });
}

#[test]
fn what_was_just_saved_is_never_removed() {
    // A run that went back to an older checkpoint saves steps below one that is there already.
    check(&config(1, 0), |store| {
        Sample::of(20).save(store).unwrap();
        let saved = Sample::of(11).save(store).unwrap();
        assert_eq!(saved.pruned, Vec::<u64>::new());
        assert_eq!(store.steps().unwrap(), [11, 20]);
        assert_eq!(Sample::of(12).save(store).unwrap().pruned, [11]);
    });
}

#[test]
fn a_diverged_model_is_not_saved() {
    check(&config(2, 1), |store| {
        Sample::of(1).save(store).unwrap();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut weights = Sample::of(2);
            weights.weights.get_mut("norm.weight").unwrap().values[4] = bad;
            let mut moments = Sample::of(2);
            moments.moments.get_mut("m.norm.weight").unwrap().values[0] = bad;
            for (sample, name) in [(weights, "`norm.weight`"), (moments, "`m.norm.weight`")] {
                let error = sample.save(store).unwrap_err();
                assert!(error.to_string().contains(name), "{error}");
                assert_eq!(error.exit_class(), ExitClass::Data);
                assert!(error.hint().is_some());
            }
        }
        assert_eq!(store.load_latest(None).unwrap().unwrap().step, 1);
    });
}

#[test]
fn what_could_not_be_loaded_again_is_not_saved() {
    check(&config(2, 1), |store| {
        let sample = Sample::of(3);
        let mut deep = json!(0);
        for _ in 0..200 {
            deep = json!([deep]);
        }
        let mut cases: Vec<(&str, codex_checkpoint::Snapshot)> = Vec::new();
        let names =
            ["", ".hidden", "a/b", "../x", "/etc/x", "manifest.json", "manifest.blake3", "model.safetensors", "état", "tokenizer.json"];
        for name in names {
            let mut snapshot = sample.snapshot();
            snapshot.extra.push((name.to_owned(), vec![1]));
            cases.push((name, snapshot));
        }
        let mut many = sample.snapshot();
        many.extra = (0..80).map(|i| (format!("extra-{i}"), vec![0])).collect();
        cases.push(("files", many));
        let mut metrics = sample.snapshot();
        metrics.metrics = (0..60_000).map(|i| (format!("metric/{i:020}"), 0.5)).collect();
        cases.push(("manifest.json", metrics));
        let mut nested = sample.snapshot();
        nested.state = deep;
        cases.push(("state.json", nested));
        for (what, snapshot) in cases {
            let error = store.save(snapshot).expect_err(what);
            assert!(matches!(error, CheckpointError::Unsaveable { .. }), "{what}: {error}");
            assert_eq!(error.exit_class(), ExitClass::Data);
        }
        for shape in [vec![2], vec![usize::MAX, 2], vec![1 << 63, 2]] {
            let mut lying = Sample::of(3);
            lying.weights.insert("x".to_owned(), HostTensor { shape, values: vec![].into() });
            assert!(matches!(lying.save(store).unwrap_err(), CheckpointError::Unsaveable { .. }));
        }
        assert!(store.steps().unwrap().is_empty());
    });
}

fn finite() -> impl Strategy<Value = f32> {
    let special = [0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, f32::from_bits(1), -f32::from_bits(1), f32::EPSILON];
    prop_oneof![proptest::sample::select(special.to_vec()), any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |v| v.is_finite())]
}

fn tensor_map() -> impl Strategy<Value = TensorMap> {
    let tensor = (1_usize..4, 0_usize..4)
        .prop_flat_map(|(rows, columns)| {
            proptest::collection::vec(finite(), rows * columns)
                .prop_map(move |values| HostTensor { shape: vec![rows, columns], values: values.into() })
        })
        .boxed();
    proptest::collection::btree_map("[a-z]{1,8}(\\.[a-z0-9_]{1,8}){0,3}", tensor, 0..5)
}

fn bits(map: &TensorMap) -> Vec<(String, Vec<usize>, Vec<u32>)> {
    map.iter().map(|(name, t)| (name.clone(), t.shape.clone(), t.values.iter().map(|v| v.to_bits()).collect())).collect()
}

fn same_bits(store: &mut dyn CheckpointStore, weights: &TensorMap, moments: &TensorMap, step: u64, loss: f64) {
    let mut sample = Sample::of(step);
    (sample.weights, sample.moments, sample.loss) = (weights.clone(), moments.clone(), Some(loss));
    sample.save(store).unwrap();
    let loaded = store.load(step).unwrap();
    assert_eq!((bits(&loaded.weights), bits(&loaded.moments)), (bits(weights), bits(moments)));
    assert_eq!(loaded.metrics["validation/loss"].to_bits(), loss.to_bits());
    assert_eq!(loaded.step, step);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_finite_tensors_come_back_bit_for_bit(weights in tensor_map(), moments in tensor_map(), step: u64, loss in -1e300_f64..1e300) {
        same_bits(&mut MemoryStore::new(&config(2, 1)), &weights, &moments, step, loss);
        let dir = tempfile::tempdir_in(memory_folder()).unwrap();
        same_bits(&mut FolderStore::open(dir.path(), &config(2, 1)).unwrap(), &weights, &moments, step, loss);
    }
}

/// A folder where flushing costs nothing, as power loss is not what is tried here.
pub(super) fn memory_folder() -> std::path::PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
}
