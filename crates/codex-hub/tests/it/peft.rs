//! Adapters that the peft package wrote: the same scores, the same files back, and a named error for what is wrong.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use codex_core::{Digest, ExitClass, Failure, files};
use codex_hub::{AdapterRequest, Imported, PeftAdapter, import_folder, is_adapter_folder, peft, read_adapter, write_adapter};
use codex_model::{AdapterKind, Decoder, parameters};
use serde_json::{Value, json};

use super::{BOUND, fixtures, golden, greatest_difference, network, scores};

/// A change of a configuration.
type Change = Box<dyn FnOnce(&mut Value)>;

/// The adapters that are committed, each with its base.
fn adapters() -> Vec<(PathBuf, Imported)> {
    let folders = files::list_dir(&fixtures()).unwrap().into_iter().filter(|path| is_adapter_folder(path));
    folders.map(|folder| (folder.clone(), import_folder(&fixtures().join(peft::base_name(&folder).unwrap().unwrap())).unwrap())).collect()
}

fn read(folder: &Path, base: &Imported) -> PeftAdapter {
    read_adapter(folder, &base.config.model, base.config.vocab_size).unwrap()
}

fn adapted(base: &Imported, adapter: &PeftAdapter) -> Decoder {
    let model = network(base).with_adapters(&adapter.adapter, 0, &Device::flex()).unwrap();
    parameters::load_trained(model, &adapter.weights).unwrap()
}

#[test]
fn adapters_score_as_in_peft_merged_or_not() {
    let all = adapters();
    let mut kinds = Vec::new();
    for (folder, base) in &all {
        let adapter = read(folder, base);
        kinds.push((adapter.adapter.kind == AdapterKind::Dora, adapter.adapter.rank_stabilized));
        let (model, bare) = (adapted(base, &adapter), network(base));
        let merged = model.clone().merge().unwrap();
        for (ids, expected) in golden(folder) {
            for (name, model) in [("unmerged", &model), ("merged", &merged)] {
                let difference = greatest_difference(&scores(model, &ids), &expected);
                assert!(difference < BOUND, "{} {name}: {difference}", folder.display());
            }
            assert!(greatest_difference(&scores(&bare, &ids), &expected) > 10.0 * BOUND, "the adapter does something");
        }
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert!(kinds.len() >= 3, "LoRA, rsLoRA and DoRA: {kinds:?}");
}

#[test]
fn what_is_written_is_read_back_the_same() {
    for (folder, base) in adapters() {
        let adapter = read(&folder, &base);
        let target = tempfile::tempdir().unwrap();
        let path = target.path().join("adapter");
        let digest = Digest::of_bytes(b"base").to_string();
        let request = AdapterRequest {
            config: &base.config.model,
            vocab_size: base.config.vocab_size,
            adapter: &adapter.adapter,
            weights: &adapter.weights,
            base_name: "the base",
            base_digest: Some(digest.clone()),
        };
        assert_eq!(write_adapter(&request, &path).unwrap(), path);
        let back = read(&path, &base);
        assert_eq!((&back.adapter, &back.weights), (&adapter.adapter, &adapter.weights));
        assert_eq!((back.base_name.as_deref(), back.base_digest), (Some("the base"), Some(digest)));
        assert!(write_adapter(&request, &path).is_err(), "nothing is overwritten");
        // Written without one of its matrices, nothing is published.
        let mut less = adapter.weights.clone();
        less.pop_first();
        let broken = write_adapter(&AdapterRequest { weights: &less, ..request }, &target.path().join("less"));
        assert!(broken.unwrap_err().to_string().contains("is not among the weights"));
        assert_eq!(files::list_dir(target.path()).unwrap(), [path]);
    }
}

/// What is trained besides adapters comes back too.
#[test]
fn embeddings_and_norms_go_along() {
    let (folder, base) = adapters().into_iter().find(|(folder, _)| folder.ends_with("peft-lora")).unwrap();
    let mut adapter = read(&folder, &base);
    adapter.adapter.also_train = ["embedding", "norms", "head"].map(str::to_owned).into();
    let model = network(&base).with_adapters(&adapter.adapter, 0, &Device::flex()).unwrap();
    let mut weights = parameters::collect_trained(&model).unwrap();
    weights.extend(adapter.weights.clone());
    for tensor in weights.values_mut() {
        tensor.values.iter_mut().for_each(|value| *value += 0.01);
    }
    adapter.weights = weights;
    let target = tempfile::tempdir().unwrap();
    let request = AdapterRequest {
        config: &base.config.model,
        vocab_size: base.config.vocab_size,
        adapter: &adapter.adapter,
        weights: &adapter.weights,
        base_name: "base",
        base_digest: None,
    };
    let path = write_adapter(&request, &target.path().join("all")).unwrap();
    let back = read(&path, &base);
    assert_eq!((&back.adapter, &back.weights), (&adapter.adapter, &adapter.weights));
    let file: Value = serde_json::from_slice(&files::read(&path.join("adapter_config.json")).unwrap()).unwrap();
    let saved: Vec<&str> = file["modules_to_save"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(saved.contains(&"model.embed_tokens") && saved.contains(&"lm_head") && saved.contains(&"model.norm"), "{saved:?}");
}

#[test]
fn adapters_that_cannot_be_used_are_refused_by_key_or_tensor() {
    let (folder, base) = adapters().into_iter().find(|(folder, _)| folder.ends_with("peft-lora")).unwrap();
    let set = |key: &'static str, value: Value| move |config: &mut Value| config[key] = value;
    let configs: Vec<(Change, &str)> = vec![
        (Box::new(set("peft_type", json!("IA3"))), "`peft_type`: expected `LORA`, found `IA3`"),
        (Box::new(set("peft_type", Value::Null)), "found `nothing`"),
        (Box::new(set("r", json!("eight"))), "`r`: expected a count"),
        (Box::new(set("r", Value::Null)), "`r`: expected a count, found nothing"),
        (Box::new(set("lora_alpha", json!([]))), "`lora_alpha`: expected a number"),
        (Box::new(set("lora_alpha", json!(0))), "alpha"),
        (Box::new(set("lora_dropout", json!(1.5))), "dropout"),
        (Box::new(set("bias", json!("all"))), "`bias`: biases are not trained"),
        (Box::new(set("lora_bias", json!(true))), "`lora_bias`"),
        (Box::new(set("use_dora", json!(true))), "lora_magnitude_vector"),
        (Box::new(set("use_rslora", json!("yes"))), "`use_rslora`: expected `true` or `false`"),
        (Box::new(set("init_lora_weights", json!("pissa_niter_4"))), "`init_lora_weights`: `pissa_niter_4` changes the base"),
        (Box::new(set("layer_replication", json!([[0, 1]]))), "`layer_replication`"),
        (Box::new(set("trainable_token_indices", json!([1]))), "`trainable_token_indices`"),
        (Box::new(set("alpha_pattern", json!({"q_.*": 3}))), "`alpha_pattern.q_.*`: patterns are names"),
        (Box::new(set("alpha_pattern", json!({"q_proj": 3, "self_attn.q_proj": 4}))), "two patterns say different things"),
        (Box::new(set("alpha_pattern", json!([1]))), "`alpha_pattern`: expected an object"),
        (Box::new(set("base_model_name_or_path", json!(3))), "`base_model_name_or_path`: expected a text"),
    ];
    let copy = || {
        let target = tempfile::tempdir().unwrap();
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            files::write_atomic(&target.path().join(name), &files::read(&folder.join(name)).unwrap()).unwrap();
        }
        target
    };
    let refused = |folder: &Path| read_adapter(folder, &base.config.model, base.config.vocab_size).unwrap_err();
    for (change, expected) in configs {
        let target = copy();
        let path = target.path().join("adapter_config.json");
        let mut value: Value = serde_json::from_slice(&files::read(&path).unwrap()).unwrap();
        change(&mut value);
        files::write_atomic(&path, value.to_string().as_bytes()).unwrap();
        let error = refused(target.path());
        assert!(error.to_string().contains(expected), "expected {expected:?} in {error}");
    }
    // Tensors: renamed, of other shapes, of zeros.
    let tensors = |change: &dyn Fn(&str) -> String, zero: bool| {
        let target = copy();
        let path = target.path().join("adapter_model.safetensors");
        let bytes = files::read(&path).unwrap();
        let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = change(std::str::from_utf8(&bytes[8..8 + n]).unwrap());
        let data = if zero { vec![0; bytes.len() - 8 - n] } else { bytes[8 + n..].to_vec() };
        files::write_atomic(&path, &[&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()).unwrap();
        refused(target.path()).to_string()
    };
    assert!(
        tensors(&|header| header.replace("layers.0.self_attn.q_proj", "layers.7.self_attn.q_proj"), false)
            .contains("belongs to nothing in the base")
    );
    assert!(tensors(&|header| header.replace("q_proj", "query"), false).contains("query"));
    assert!(tensors(&|header| header.replacen("lora_B", "lora_C", 1), false).contains("expected [rank, "));
    assert!(tensors(&|header| header.replace("base_model.model.", "base."), false).contains("belongs to nothing"));
    assert!(tensors(&|header| header.to_owned(), true).contains("is zero, so it changes nothing"));
    // Files that are not there.
    let target = copy();
    let file = target.path().join("adapter_model.safetensors");
    files::remove_file(&file).unwrap();
    assert_eq!(refused(target.path()).exit_class(), ExitClass::Io);
    files::write_atomic(&target.path().join("adapter_model.bin"), b"\x80").unwrap();
    assert_eq!(refused(target.path()).exit_class(), ExitClass::Policy);
    // Another base.
    let other = import_folder(&fixtures().join("gpt2")).unwrap();
    let error = read_adapter(&folder, &other.config.model, other.config.vocab_size).unwrap_err();
    assert!(error.to_string().contains("belongs to nothing in the base"), "{error}");
}
