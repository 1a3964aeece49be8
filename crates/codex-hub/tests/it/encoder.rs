//! Encoders that transformers wrote, read here: the same scores and vectors. Folders that are wrong in one thing each: a named error.

use std::path::Path;

use burn::tensor::Device;
use codex_core::{ExitClass, Failure, files};
use codex_hub::{HubError, ImportedEncoder, import_encoder, import_folder, is_encoder_folder};
use codex_model::{Encoder, Pooling, TextBatch, parameters};
use serde_json::{Value, json};

use super::malformed::{Change, copy, edit_header, edit_json};
use super::{BOUND, fixtures, golden, greatest_difference};

/// The bound that vectors of transformers and ours are within.
const VECTOR_BOUND: f32 = 1e-5;
const FOLDERS: [&str; 3] = ["bert-mlm", "bert-bare", "bert-2018"];

/// The vectors of a folder's `embeddings.json`, and the texts that they are of.
struct Golden {
    ids: Vec<u32>,
    token_types: Vec<u32>,
    mask: Vec<bool>,
    vectors: Value,
}

impl Golden {
    fn of(name: &str) -> Self {
        let vectors: Value = serde_json::from_slice(&files::read(&fixtures().join(name).join("embeddings.json")).unwrap()).unwrap();
        let counts = |key: &str| flat(&vectors[key]).into_iter().map(|number| number as u32).collect::<Vec<_>>();
        Self {
            ids: counts("ids"),
            token_types: counts("token_types"),
            mask: counts("mask").into_iter().map(|kept| kept == 1).collect(),
            vectors,
        }
    }

    fn batch(&self) -> TextBatch<'_> {
        TextBatch { n_rows: 2, ids: &self.ids, token_types: Some(&self.token_types), mask: Some(&self.mask) }
    }
}

/// The numbers of a matrix.
fn flat(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap()).map(|number| number.as_f64().unwrap() as f32).collect()
}

fn network(imported: &ImportedEncoder) -> Encoder {
    Encoder::load(&imported.config, &imported.weights, &Device::flex()).unwrap()
}

fn read(name: &str) -> ImportedEncoder {
    import_encoder(&fixtures().join(name)).unwrap()
}

#[test]
fn every_spelling_gives_the_vectors_of_transformers() {
    for name in FOLDERS {
        let (model, golden) = (network(&read(name)), Golden::of(name));
        for (key, pooling, normalize) in
            [("mean", Pooling::Mean, false), ("cls", Pooling::Cls, false), ("mean_normalized", Pooling::Mean, true)]
        {
            let found = parameters::to_host(key, model.embed(&golden.batch(), pooling, normalize).unwrap()).unwrap();
            let difference = greatest_difference(&found.values, &flat(&golden.vectors[key]));
            assert!(difference < VECTOR_BOUND, "{name}: {key} differs by {difference}");
        }
    }
}

#[test]
fn every_masked_lm_head_scores_as_in_transformers() {
    for name in ["bert-mlm", "bert-2018"] {
        let model = network(&read(name));
        for (ids, expected) in golden(&fixtures().join(name)) {
            let batch = TextBatch { n_rows: 1, ids: &ids, token_types: None, mask: None };
            let found = parameters::to_host("scores", model.masked_lm_scores(&batch).unwrap()).unwrap();
            let difference = greatest_difference(&found.values, &expected);
            assert!(difference < BOUND, "{name}: {} ids differ by {difference}", ids.len());
        }
    }
}

/// What a mistake could change is far outside the bounds, so they have teeth.
#[test]
fn the_golden_vectors_would_show_a_mistake() {
    let (imported, golden) = (read("bert-mlm"), Golden::of("bert-mlm"));
    let expected = flat(&golden.vectors["mean"]);
    let off = |imported: &ImportedEncoder, batch: &TextBatch<'_>| {
        let found = parameters::to_host("mean", network(imported).embed(batch, Pooling::Mean, false).unwrap()).unwrap();
        greatest_difference(&found.values, &expected)
    };
    assert!(off(&imported, &TextBatch { mask: None, ..golden.batch() }) > 100.0 * VECTOR_BOUND);
    assert!(off(&imported, &TextBatch { token_types: None, ..golden.batch() }) > 100.0 * VECTOR_BOUND);
    let mut other = read("bert-mlm");
    other.config.activation = codex_model::Activation::GeluTanh;
    assert!(off(&other, &golden.batch()) > 5.0 * VECTOR_BOUND);
    let mut other = read("bert-mlm");
    other.config.n_heads = 2;
    assert!(off(&other, &golden.batch()) > 100.0 * VECTOR_BOUND);
}

#[test]
fn what_is_read_of_a_folder_is_told() {
    let (mlm, bare, old) = (read("bert-mlm"), read("bert-bare"), read("bert-2018"));
    assert!(mlm.config.masked_lm_head && old.config.masked_lm_head && !bare.config.masked_lm_head);
    assert_eq!((mlm.pooling, mlm.normalize, mlm.max_tokens), (Pooling::Mean, false, 20));
    assert_eq!(mlm.left_out, Vec::<String>::new());
    assert_eq!(bare.left_out, ["pooler.dense.weight", "pooler.dense.bias"]);
    let names = ["bert.pooler.dense.weight", "bert.pooler.dense.bias", "cls.seq_relationship.weight", "cls.seq_relationship.bias"];
    assert_eq!(old.left_out, names);
    assert!(FOLDERS.iter().all(|name| is_encoder_folder(&fixtures().join(name))));
    assert!(!is_encoder_folder(&fixtures().join("gpt2")) && !is_encoder_folder(&fixtures()));
    // As a decoder it is refused with what to use instead.
    let error = import_folder(&fixtures().join("bert-mlm")).unwrap_err().to_string();
    assert!(error.contains("`model_type`: this is an encoder") && error.contains("model embed"), "{error}");
    let error = import_encoder(&fixtures().join("gpt2")).unwrap_err().to_string();
    assert!(error.contains("`gpt2` is no encoder that is known"), "{error}");
}

/// Writes the files of sentence-transformers beside an encoder.
fn write_sentence(folder: &Path, modules: &[(&str, &str)], pooling: &Value) {
    let list: Vec<Value> = modules
        .iter()
        .enumerate()
        .map(|(index, (kind, path))| json!({"idx": index, "name": index.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}")}))
        .collect();
    put(folder, "modules.json", &Value::from(list));
    files::create_dir_all(&folder.join("1_Pooling")).unwrap();
    put(folder, "1_Pooling/config.json", pooling);
}

fn put(folder: &Path, name: &str, value: &Value) {
    files::write_atomic(&folder.join(name), value.to_string().as_bytes()).unwrap();
}

/// The kind and the folder of each module.
type Modules = Vec<(&'static str, &'static str)>;

const THREE: [(&str, &str); 3] = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")];

#[test]
fn folders_of_sentence_transformers_say_how_to_pool() {
    let mean = json!({"word_embedding_dimension": 16, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true});
    let folder = copy("bert-bare");
    write_sentence(folder.path(), &THREE, &mean);
    put(folder.path(), "sentence_bert_config.json", &json!({"max_seq_length": 8, "do_lower_case": false}));
    put(folder.path(), "config_sentence_transformers.json", &json!({"prompts": {}, "default_prompt_name": null}));
    let read = import_encoder(folder.path()).unwrap();
    assert_eq!((read.pooling, read.normalize, read.max_tokens), (Pooling::Mean, true, 8));
    for cls in [
        json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}),
        json!({"pooling_mode": "cls", "embedding_dimension": 16}),
    ] {
        write_sentence(folder.path(), &THREE[..2], &cls);
        let read = import_encoder(folder.path()).unwrap();
        assert_eq!((read.pooling, read.normalize), (Pooling::Cls, false));
    }
    write_sentence(folder.path(), &THREE[..2], &json!({"word_embedding_dimension": 16}));
    assert_eq!(import_encoder(folder.path()).unwrap().pooling, Pooling::Mean, "what is not said is the mean");
    // The older layout has the encoder in a folder of its own.
    let parent = tempfile::tempdir().unwrap();
    write_sentence(parent.path(), &[("Transformer", "0_Transformer"), THREE[1]], &mean);
    files::create_dir_all(&parent.path().join("0_Transformer")).unwrap();
    for file in files::list_dir(&fixtures().join("bert-bare")).unwrap() {
        files::write_atomic(&parent.path().join("0_Transformer").join(file.file_name().unwrap()), &files::read(&file).unwrap()).unwrap();
    }
    assert!(is_encoder_folder(parent.path()));
    assert_eq!(import_encoder(parent.path()).unwrap().folder, parent.path().join("0_Transformer"));
}

fn refused(folder: &Path) -> HubError {
    import_encoder(folder).unwrap_err()
}

#[test]
fn sentence_files_that_ask_for_more_are_refused_by_key() {
    let mean = json!({"pooling_mode_mean_tokens": true});
    let cases: Vec<(Modules, Value, &str)> = vec![
        ([THREE.as_slice(), &[("Dense", "3_Dense")]].concat(), mean.clone(), "`3.type`: module 3 is `Dense`"),
        (vec![THREE[0], THREE[2]], mean.clone(), "`1.type`: module 1 is `Normalize`"),
        (vec![("WordEmbeddings", "0_W")], mean.clone(), "`0.type`: module 0 is `WordEmbeddings`"),
        (vec![], mean.clone(), "expected at least one module, found none"),
        (vec![THREE[0], ("Pooling", "../1_Pooling")], mean.clone(), "`1.path`: expected the name of a folder"),
        (vec![("Transformer", "/etc")], mean.clone(), "`0.path`: expected the name of a folder"),
        (vec![THREE[0], ("Pooling", "absent")], mean.clone(), "absent/config.json"),
        (THREE.to_vec(), json!({"pooling_mode_max_tokens": true}), "`pooling_mode_max_tokens`: `max_tokens` is neither the mean"),
        (THREE.to_vec(), json!({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}), "two kinds of pooling"),
        (THREE.to_vec(), json!({"pooling_mode_mean_tokens": false}), "`pooling_mode`: no kind of pooling is chosen"),
        (THREE.to_vec(), json!({"pooling_mode": "lasttoken"}), "`pooling_mode`: `lasttoken` is neither"),
        (THREE.to_vec(), json!({"pooling_mode_mean_tokens": 1}), "expected `true` or `false`, found 1"),
        (THREE.to_vec(), json!({"word_embedding_dimension": 17}), "expected the encoder's width 16, found 17"),
        (THREE.to_vec(), json!([]), "expected the object of a description of a pooling module, found a list"),
    ];
    for (modules, pooling, expected) in cases {
        let folder = copy("bert-bare");
        write_sentence(folder.path(), &modules, &pooling);
        let message = refused(folder.path()).to_string();
        assert!(message.contains(expected), "expected {expected:?} in {message}");
    }
    let with = |name: &str, text: &str| {
        let folder = copy("bert-bare");
        files::write_atomic(&folder.path().join(name), text.as_bytes()).unwrap();
        refused(folder.path()).to_string()
    };
    assert!(with("modules.json", "{}").contains("expected a list of modules, found an object"));
    assert!(with("modules.json", "[1]").contains("`0`: expected an object"));
    assert!(with("modules.json", "[{}]").contains("`0.type`: expected a text, found nothing"));
    assert!(with("modules.json", "[").contains("not the JSON of a list of modules"));
    assert!(with("sentence_bert_config.json", r#"{"max_seq_length": 2}"#).contains("`max_seq_length`: expected room"));
    assert!(with("sentence_bert_config.json", r#"{"do_lower_case": true}"#).contains("`do_lower_case`"));
    assert!(with("config_sentence_transformers.json", r#"{"default_prompt_name": "query"}"#).contains("`default_prompt_name`"));
}

/// Changes of `config.json`: the change, what the message says.
#[test]
fn configurations_that_cannot_be_used_are_refused_by_key() {
    let put = |key: &'static str, value: Value| -> Change { Box::new(move |config| config[key] = value.clone()) };
    let cases: Vec<(Change, &str)> = vec![
        (put("model_type", json!("roberta")), "`model_type`: `roberta` is no encoder that is known"),
        (put("model_type", json!(null)), "`model_type`: expected a text, found nothing"),
        (put("position_embedding_type", json!("relative_key")), "`position_embedding_type`: a position is a vector"),
        (put("position_embedding_type", json!("relative_key_query")), "(found \"relative_key_query\")"),
        (put("is_decoder", json!(true)), "`is_decoder`"),
        (put("add_cross_attention", json!(true)), "`add_cross_attention`: there is no other network"),
        (put("pruned_heads", json!({"0": [1]})), "`pruned_heads`"),
        (put("hidden_act", json!("relu")), "`hidden_act`: `relu` is neither"),
        (put("hidden_act", json!(1)), "`hidden_act`: expected a text, found 1"),
        (put("tie_word_embeddings", json!(false)), "`tie_word_embeddings`"),
        (put("quantization_config", json!({})), "`quantization_config`"),
        (put("vocab_size", json!(0)), "`model.vocab_size`: expected 1 to 16777216, found 0"),
        (put("vocab_size", json!(1_u64 << 30)), "`model.vocab_size`"),
        (put("vocab_size", json!(-1)), "`vocab_size`: expected a count"),
        (put("vocab_size", json!(47)), "`bert.embeddings.word_embeddings.weight` has shape [48, 16], expected [47, 16]"),
        (put("hidden_size", json!(null)), "`hidden_size`: expected a count, found nothing"),
        (put("hidden_size", json!(32)), "has shape [20, 16], expected [20, 32]"),
        (put("num_attention_heads", json!(3)), "`model.n_heads`: `d_model` 16 is not divisible by 3"),
        (put("num_attention_heads", json!(0)), "`model.n_heads`"),
        (put("num_hidden_layers", json!(3)), "`bert.encoder.layer.2.attention.output.LayerNorm.bias` of shape [16] is missing"),
        (put("num_hidden_layers", json!(1)), "`bert.encoder.layer.1.attention.output.LayerNorm.bias` of shape [16] belongs to nothing"),
        (put("num_hidden_layers", json!(5000)), "`model.n_layers`"),
        (put("max_position_embeddings", json!(1 << 20)), "`model.max_positions`"),
        (put("type_vocab_size", json!(3)), "`bert.embeddings.token_type_embeddings.weight` has shape [2, 16], expected [3, 16]"),
        (put("layer_norm_eps", json!(0)), "`model.norm_epsilon`: expected a positive number, found 0"),
        (put("layer_norm_eps", json!("small")), "`layer_norm_eps`: expected a number"),
        (put("intermediate_size", json!(25)), "has shape [24, 16], expected [25, 16]"),
    ];
    for (change, expected) in cases {
        let folder = copy("bert-mlm");
        edit_json(&folder.path().join("config.json"), change);
        let error = refused(folder.path());
        assert!(error.to_string().contains(expected), "expected {expected:?} in {error}");
        assert!(matches!(error.exit_class(), ExitClass::Data | ExitClass::Integrity), "{error}");
        assert!(error.to_string().contains(folder.path().to_str().unwrap()), "the place: {error}");
    }
}

/// Changes of the names and shapes in `model.safetensors`.
#[test]
fn tensors_that_do_not_fit_are_named() {
    let rename = |from: &'static str, to: &'static str| -> Change {
        Box::new(move |header| {
            let entry = header.as_object_mut().unwrap().remove(from).unwrap();
            header[to] = entry;
        })
    };
    let shape = |name: &'static str, shape: Value| -> Change { Box::new(move |header| header[name]["shape"] = shape.clone()) };
    let cases: Vec<(&str, Change, &str)> = vec![
        (
            "bert-mlm",
            rename("bert.embeddings.LayerNorm.bias", "bert.embeddings.LayerNorm.other"),
            "`bert.embeddings.LayerNorm.bias` of shape [16] is missing",
        ),
        (
            "bert-mlm",
            rename("bert.embeddings.LayerNorm.bias", "bert.embeddings.LayerNorm.other"),
            "`bert.embeddings.LayerNorm.other` of shape [16] belongs to nothing",
        ),
        (
            "bert-mlm",
            rename("bert.embeddings.LayerNorm.bias", "embeddings.LayerNorm.bias"),
            "`embeddings.LayerNorm.bias` of shape [16] belongs to nothing",
        ),
        ("bert-mlm", rename("cls.predictions.bias", "classifier.bias"), "`cls.predictions.bias` of shape [48] is missing"),
        ("bert-mlm", rename("cls.predictions.bias", "classifier.bias"), "`classifier.bias` of shape [48] belongs to nothing"),
        ("bert-mlm", shape("bert.encoder.layer.1.intermediate.dense.weight", json!([16, 24])), "has shape [16, 24], expected [24, 16]"),
        ("bert-bare", shape("pooler.dense.weight", json!([256])), "`pooler.dense.weight` has shape [256], expected [16, 16]"),
        (
            "bert-bare",
            rename("pooler.dense.bias", "encoder.layer.0.crossattention.self.query.bias"),
            "crossattention.self.query.bias` of shape [16] belongs to nothing",
        ),
        (
            "bert-2018",
            rename("bert.pooler.dense.bias", "bert.embeddings.LayerNorm.weight"),
            "`bert.embeddings.LayerNorm.gamma` and `bert.embeddings.LayerNorm.weight` are one weight in two spellings",
        ),
        (
            "bert-2018",
            shape("cls.seq_relationship.weight", json!([16, 2])),
            "`cls.seq_relationship.weight` has shape [16, 2], expected [2, 16]",
        ),
    ];
    for (name, change, expected) in cases {
        let folder = copy(name);
        edit_header(&folder.path().join("model.safetensors"), change);
        let error = refused(folder.path());
        assert!(error.to_string().contains(expected), "{name}: expected {expected:?} in {error}");
        assert_eq!(error.exit_class(), ExitClass::Integrity, "{error}");
    }
    // A head that is not the table: two tensors of one shape with their numbers exchanged.
    let folder = copy("bert-2018");
    edit_header(&folder.path().join("model.safetensors"), |header| {
        let offsets = header["bert.embeddings.word_embeddings.weight"]["data_offsets"].clone();
        header["bert.embeddings.word_embeddings.weight"]["data_offsets"] = header["cls.predictions.decoder.weight"]["data_offsets"].take();
        header["cls.predictions.decoder.weight"]["data_offsets"] = offsets;
    });
    assert!(import_encoder(folder.path()).is_ok(), "the two are equal");
    let path = folder.path().join("model.safetensors");
    let mut bytes = files::read(&path).unwrap();
    let (start, _) = offsets(&bytes, "cls.predictions.decoder.bias");
    bytes[start] ^= 1;
    files::write_atomic(&path, &bytes).unwrap();
    assert!(refused(folder.path()).to_string().contains("`cls.predictions.decoder.bias` is not equal to `cls.predictions.bias`"));
    // A number that is none.
    let folder = copy("bert-mlm");
    let path = folder.path().join("model.safetensors");
    let mut bytes = files::read(&path).unwrap();
    let (start, _) = offsets(&bytes, "bert.encoder.layer.0.output.dense.bias");
    bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    files::write_atomic(&path, &bytes).unwrap();
    assert!(refused(folder.path()).to_string().contains("`blocks.0.feed_forward.down.bias` holds a number that is not finite"));
}

/// Where the numbers of a tensor begin and end in the bytes of a file.
fn offsets(bytes: &[u8], name: &str) -> (usize, usize) {
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap();
    let at = |index: usize| 8 + header_bytes + header[name]["data_offsets"][index].as_u64().unwrap() as usize;
    (at(0), at(1))
}

#[test]
fn damaged_files_and_pickles_are_refused() {
    let folder = copy("bert-mlm");
    let path = folder.path().join("model.safetensors");
    let bytes = files::read(&path).unwrap();
    files::write_atomic(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refused(folder.path()).to_string().contains("of numbers, and"));
    files::remove_file(&path).unwrap();
    files::write_atomic(&folder.path().join("pytorch_model.bin"), b"\x80\x02").unwrap();
    let error = refused(folder.path());
    assert!(matches!(error, HubError::Pickle { .. }) && error.exit_class() == ExitClass::Policy, "{error}");
    files::remove_file(&folder.path().join("config.json")).unwrap();
    assert_eq!(refused(folder.path()).exit_class(), ExitClass::Io);
    assert!(!is_encoder_folder(folder.path()));
}
