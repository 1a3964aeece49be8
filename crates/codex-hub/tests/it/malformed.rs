//! Folders that are wrong in one thing each: the error names file and key or tensor, nothing panics, and nothing large is asked of memory.

use std::fmt::Write as _;
use std::path::Path;

use codex_core::{ExitClass, Failure, files};
use codex_hub::{HubError, import_folder};
use serde_json::{Value, json};

use super::fixtures;

/// A change of a configuration.
pub(crate) type Change = Box<dyn Fn(&mut Value)>;

/// A copy of a committed folder that may be changed.
pub(crate) fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files::list_dir(&fixtures().join(name)).unwrap() {
        let name = file.file_name().unwrap().to_str().unwrap();
        files::write_atomic(&folder.path().join(name), &files::read(&file).unwrap()).unwrap();
    }
    folder
}

pub(crate) fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&files::read(path).unwrap()).unwrap();
    change(&mut value);
    files::write_atomic(path, value.to_string().as_bytes()).unwrap();
}

/// Changes the header of a safetensors file and leaves the numbers.
pub(crate) fn edit_header(path: &Path, change: impl FnOnce(&mut Value)) {
    let bytes = files::read(path).unwrap();
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut value: Value = serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap();
    change(&mut value);
    let text = value.to_string();
    let changed = [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &bytes[8 + header_bytes..]].concat();
    files::write_atomic(path, &changed).unwrap();
}

fn refused(folder: &Path) -> HubError {
    import_folder(folder).unwrap_err()
}

/// Changes of `config.json`: the model, the change, what the message says.
#[test]
fn configurations_that_cannot_be_used_are_refused_by_key() {
    let put = |key: &'static str, value: Value| -> Change { Box::new(move |config| config[key] = value.clone()) };
    let rope = |key: &'static str, value: Value| -> Change { Box::new(move |config| config["rope_parameters"][key] = value.clone()) };
    let drop_key = |key: &'static str| -> Change { Box::new(move |config| drop(config.as_object_mut().unwrap().remove(key))) };
    let cases: Vec<(&str, Change, &str)> = vec![
        ("llama-tied", drop_key("model_type"), "`model_type`: expected a text, found nothing"),
        ("llama-tied", put("model_type", json!(3)), "`model_type`: expected a text, found 3"),
        ("llama-tied", put("model_type", json!("mamba")), "`model_type`: models of the family `mamba` are not known"),
        ("llama-tied", put("model_type", json!("qwen2")), "bias` of shape"),
        ("llama-tied", drop_key("hidden_size"), "`hidden_size`: expected a count, found nothing"),
        ("llama-tied", put("hidden_size", json!(-4)), "`hidden_size`: expected a count, found -4"),
        ("llama-tied", put("hidden_size", json!(1.5)), "`hidden_size`: expected a count, found 1.5"),
        ("llama-tied", put("hidden_size", json!(1_u64 << 50)), "`hidden_size`: expected a count"),
        ("llama-tied", put("hidden_size", json!(1_u64 << 38)), "`model.d_model`: expected 1 to"),
        ("llama-tied", put("hidden_size", json!(8)), "has shape"),
        ("llama-tied", put("num_hidden_layers", json!(0)), "`model.n_layers`: expected 1 to"),
        ("llama-tied", put("num_hidden_layers", json!(3)), "tensor `model.layers.2.input_layernorm.weight` of shape [16] is missing"),
        (
            "llama-tied",
            put("num_hidden_layers", json!(1)),
            "tensor `model.layers.1.input_layernorm.weight` of shape [16] belongs to nothing",
        ),
        ("llama-tied", put("num_attention_heads", json!(3)), "model.n_"),
        ("llama-tied", put("num_key_value_heads", json!(0)), "model.n_kv_heads"),
        ("llama-tied", put("vocab_size", json!(47)), "has shape [48, 16], expected [47, 16]"),
        ("llama-tied", put("vocab_size", json!(1_u64 << 39)), "has shape"),
        ("llama-tied", put("tie_word_embeddings", json!(false)), "tensor `lm_head.weight` of shape [48, 16] is missing"),
        ("llama-tied", put("tie_word_embeddings", json!("no")), "`tie_word_embeddings`: expected `true` or `false`"),
        ("llama-untied", put("tie_word_embeddings", json!(true)), "`lm_head.weight` is not the embedding"),
        ("llama-tied", put("attention_bias", json!(true)), "`attention_bias`: no biases"),
        ("llama-tied", put("mlp_bias", json!(true)), "`mlp_bias`"),
        ("llama-tied", put("hidden_act", json!("relu")), "`hidden_act`: the gate is SiLU (found \"relu\")"),
        ("llama-tied", put("quantization_config", json!({"bits": 4})), "`quantization_config`"),
        ("llama-tied", put("rms_norm_eps", json!(0)), "norm_epsilon"),
        ("llama-tied", put("rms_norm_eps", json!("small")), "`rms_norm_eps`: expected a number"),
        ("llama-tied", put("rope_parameters", json!([1])), "`rope_parameters`: expected an object, found a list"),
        ("llama-tied", put("rope_parameters", json!({"rope_type": "longrope"})), "`rope_parameters.rope_type`: `longrope` is none of"),
        ("llama-rope-linear", rope("factor", json!(0.25)), "rotary_scaling.factor`: expected 1 or more"),
        ("llama-rope-linear", rope("factor", Value::Null), "factor`: expected a number, found nothing"),
        ("llama-rope-linear", rope("partial_rotary_factor", json!(0.5)), "`rope_parameters.partial_rotary_factor`"),
        ("llama-rope-yarn", rope("mscale", json!(0.7)), "`rope_parameters.mscale`"),
        ("llama-rope-yarn", rope("truncate", json!(0)), "`rope_parameters.truncate`: expected `true` or `false`"),
        ("llama-rope-llama3", rope("high_freq_factor", json!(0.5)), "high_freq_factor"),
        ("llama-tied", put("bos_token_id", json!("<s>")), "`bos_token_id`: expected a token id"),
        ("llama-tied", put("max_position_embeddings", json!(1_u64 << 30)), "model.context_length"),
        ("llama-tied", put("no_rope_layers", json!([1, 0])), "`no_rope_layers`"),
        ("mistral", put("sliding_window", json!(1_u64 << 30)), "model.window"),
        ("mistral", put("layer_types", json!(["full_attention", "sliding_attention"])), "`layer_types`: some layers"),
        ("mistral", put("layer_types", json!([1, 2])), "`layer_types`: expected a list of texts"),
        ("gpt2", put("activation_function", json!("relu")), "`activation_function`: `relu`"),
        ("gpt2", put("scale_attn_by_inverse_layer_idx", json!(true)), "`scale_attn_by_inverse_layer_idx`"),
        ("gpt2", put("n_embd", json!(0)), "model.d_model"),
        ("gpt2", put("n_inner", json!(7)), "has shape"),
        ("qwen3", put("head_dim", json!(7)), "`model.head_dim`: rotary positions need an even head width"),
    ];
    let n = cases.len();
    for (model, change, expected) in cases {
        let folder = copy(model);
        edit_json(&folder.path().join("config.json"), change);
        let error = refused(folder.path());
        assert!(error.to_string().contains(expected), "{model}: expected {expected:?} in {error}");
        assert!(matches!(error.exit_class(), ExitClass::Data | ExitClass::Integrity), "{error}");
        assert!(error.to_string().contains(folder.path().to_str().unwrap()), "the place: {error}");
    }
    assert_eq!(n, 45);
}

#[test]
fn files_that_are_no_json_are_refused_with_the_place() {
    let with = |text: &str| {
        let folder = copy("llama-tied");
        files::write_atomic(&folder.path().join("config.json"), text.as_bytes()).unwrap();
        refused(folder.path()).to_string()
    };
    assert!(with("{\"model_type\": \n nope}").contains("line 2 column"));
    assert!(with("").contains("line 1 column 0"));
    assert!(with("[1, 2]").contains("expected the object of a model configuration, found a list"));
    let mut deep = String::new();
    for _ in 0..100_000 {
        deep.write_str("[").unwrap();
    }
    assert!(with(&deep).contains("recursion limit"));
    let folder = copy("llama-tied");
    files::remove_file(&folder.path().join("config.json")).unwrap();
    assert_eq!(refused(folder.path()).exit_class(), ExitClass::Io);
}

/// Changes of the bytes of `model.safetensors`.
#[test]
fn damaged_weights_are_refused_and_named() {
    let bytes = files::read(&fixtures().join("llama-tied/model.safetensors")).unwrap();
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = |change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap();
        change(&mut value);
        let text = value.to_string();
        [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &bytes[8 + header_bytes..]].concat()
    };
    let name = "model.norm.weight";
    let mut infinite = bytes.clone();
    let last = infinite.len() - 4;
    infinite[last..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "it has 0 bytes"),
        (bytes[..7].to_vec(), "it has 7 bytes"),
        (bytes[..8].to_vec(), "promise a header of"),
        (bytes[..8 + header_bytes / 2].to_vec(), "promise a header of"),
        (bytes[..8 + header_bytes].to_vec(), "of numbers, and 0 follow"),
        (bytes[..bytes.len() - 1].to_vec(), "of numbers, and"),
        ([&bytes[..], &[0]].concat(), "of numbers, and"),
        ([&u64::MAX.to_le_bytes(), &bytes[8..]].concat(), "promise a header of 18446744073709551615 bytes"),
        ([&200_000_000_u64.to_le_bytes(), &bytes[8..]].concat(), "promise a header of 200000000 bytes"),
        ([&8_u64.to_le_bytes(), b"not json".as_slice()].concat(), "its header cannot be read"),
        (header(&|value| value[name]["dtype"] = json!("I64")), "its header cannot be read"),
        (header(&|value| value[name]["dtype"] = json!("I32")), "holds numbers of type I32"),
        (header(&|value| value[name]["dtype"] = json!("X7")), "its header cannot be read"),
        (header(&|value| value[name]["shape"] = json!([4, 4])), "`model.norm.weight` has shape [4, 4], expected [16]"),
        (header(&|value| value[name]["shape"] = json!([u64::MAX, u64::MAX])), "its header cannot be read"),
        (header(&|value| value[name]["data_offsets"] = json!([0, 4])), "its header cannot be read"),
        (header(&|value| value[name]["data_offsets"] = json!([1_u64 << 40, 1_u64 << 41])), "its header cannot be read"),
        (header(&|value| drop(value.as_object_mut().unwrap().remove(name))), "of numbers, and"),
        (infinite, "holds a number that is not finite"),
    ];
    for (i, (bytes, expected)) in cases.into_iter().enumerate() {
        let folder = copy("llama-tied");
        files::write_atomic(&folder.path().join("model.safetensors"), &bytes).unwrap();
        let error = refused(folder.path());
        assert!(error.to_string().contains(expected), "{i}: expected {expected:?} in {error}");
        assert_eq!(error.exit_class(), ExitClass::Integrity, "{error}");
    }
}

#[test]
fn an_index_that_leads_elsewhere_is_refused() {
    let index = "model.safetensors.index.json";
    let first_file = |value: &Value| value["weight_map"]["model.norm.weight"].as_str().unwrap().to_owned();
    let with = |change: &dyn Fn(&mut Value)| {
        let folder = copy("llama-sharded");
        edit_json(&folder.path().join(index), change);
        refused(folder.path()).to_string()
    };
    for name in ["../model.safetensors", "/etc/passwd", "", ".hidden", "a\\b", "a:b"] {
        let message = with(&|value| value["weight_map"]["model.norm.weight"] = json!(name));
        assert!(message.contains("`weight_map.model.norm.weight`: expected the name of a file beside the index"), "{message}");
    }
    assert!(with(&|value| value["weight_map"] = json!([])).contains("`weight_map`"));
    assert!(with(&|value| value["weight_map"]["model.norm.weight"] = json!(7)).contains("the name of a file"));
    assert!(with(&|value| value["weight_map"]["model.extra"] = json!(first_file(value))).contains("in none of the files"));
    assert!(with(&|value| value["weight_map"]["model.norm.weight"] = json!("absent.safetensors")).contains("absent.safetensors"));
    let other = |value: &mut Value| {
        let own = first_file(value);
        let other = value["weight_map"].as_object().unwrap().values().find(|file| file.as_str() != Some(&own)).unwrap().clone();
        value["weight_map"]["model.norm.weight"] = other;
    };
    assert!(with(&other).contains("expected the tensor in"));
    // A tensor in two files.
    let folder = copy("llama-sharded");
    let first = files::list_dir(folder.path()).unwrap().into_iter().find(|path| path.to_str().unwrap().ends_with(".safetensors")).unwrap();
    files::write_atomic(&folder.path().join("copy.safetensors"), &files::read(&first).unwrap()).unwrap();
    edit_json(&folder.path().join(index), |value| value["weight_map"]["model.extra"] = json!("copy.safetensors"));
    assert!(refused(folder.path()).to_string().contains("is in two files"));
}

#[test]
fn a_pickle_is_refused_with_the_reason_and_the_remedy() {
    let folder = copy("llama-tied");
    files::remove_file(&folder.path().join("model.safetensors")).unwrap();
    let error = refused(folder.path());
    assert!(matches!(error, HubError::NoWeights { .. }) && error.hint().unwrap().contains("safetensors"), "{error}");
    files::write_atomic(&folder.path().join("pytorch_model.bin"), b"\x80\x02").unwrap();
    let error = refused(folder.path());
    assert!(error.to_string().contains("pytorch_model.bin` is a pickle, which can run any program"), "{error}");
    assert!(error.hint().unwrap().contains("save_pretrained") && error.exit_class() == ExitClass::Policy);
}
