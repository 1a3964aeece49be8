//! `model import`, `export` and `merge`: models from and for other programs.

use std::path::Path;

use codex_checkpoint::tensor_file;
use codex_core::{Digest, TensorMap, files};
use codex_hub::gguf::{GgufRequest, GgufType, export_gguf};
use codex_hub::{
    AdapterRequest, ElementType, ExportRequest, Exported, HfConfig, Imported, export_folder, import_folder, is_model_folder, write_adapter,
};
use codex_model::parameters;
use codex_tokenize::chat::ChatTemplate;
use codex_track::{RunDir, RunRecord};
use serde_json::{Value, json};

use crate::arguments::NumberType;
use crate::commands::lineage::keep_export;
use crate::commands::model_proof::{prove, proven};
use crate::failure::CliError;
use crate::model_place::Places;
use crate::stored_model::Found;
use crate::terminal::{Terminal, bytes, table};
use crate::{device, hub_model, run_config};

/// Files of a Hugging Face folder that say how its tokenizer is used, handed on as they are.
const BESIDE: [&str; 5] =
    ["tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "added_tokens.json", "tokenizer.model"];
/// The largest of them that is handed on, in bytes.
const MAX_BESIDE_BYTES: u64 = 64 << 20;
/// The class that transformers reads any `tokenizer.json` with.
const CLASS: &str = "PreTrainedTokenizerFast";
/// What is to be written, and as what.
pub(super) struct Export<'a> {
    pub(super) found: &'a Found,
    /// All weights; adapters are added in them.
    pub(super) weights: &'a TensorMap,
    pub(super) element: ElementType,
    pub(super) max_file_bytes: u64,
    pub(super) template: Option<&'a str>,
}

pub(super) fn import(folder: &Path, name: Option<&str>, dtype: Option<NumberType>, terminal: &Terminal) -> Result<(), CliError> {
    let name = match name {
        Some(name) => name.to_owned(),
        None => name_of(folder).ok_or_else(|| CliError::usage("the folder has no name", "give one: `--name NAME`"))?,
    };
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) {
        return Err(CliError::usage(format!("`{name}` cannot be the name of a folder"), "give a plain one: `--name NAME`"));
    }
    let found = hub_model::find(folder)?;
    let element = match dtype {
        Some(dtype) => element(dtype)?,
        None => import_folder(folder)?.element,
    };
    let target = Places::here().models_folder().join(&name);
    files::create_dir_all(files::parent(&target))?;
    let export = Export { found: &found, weights: &found.weights, element, max_file_bytes: u64::MAX, template: None };
    let (exported, proof) = write(&export, &target)?;
    tell(&exported, &proof, terminal, &format!("codex-cli generate {name}"))
}

/// Writes a Hugging Face folder.
pub(super) fn export(export: &Export<'_>, out: &Path, terminal: &Terminal) -> Result<(), CliError> {
    let (exported, proof) = write(export, out)?;
    keep_export(export.found, "hf", out, digest(export.found, export.weights)?, terminal);
    tell(&exported, &proof, terminal, &format!("codex-cli generate {}", out.display()))
}

/// Writes a GGUF file.
pub(super) fn export_to_gguf(
    found: &Found,
    out: &Path,
    dtype: NumberType,
    template: Option<&str>,
    terminal: &Terminal,
) -> Result<(), CliError> {
    let kind = match dtype {
        NumberType::F32 => GgufType::F32,
        NumberType::F16 => GgufType::F16,
        NumberType::Q8_0 => GgufType::Q8,
        NumberType::Bf16 => {
            return Err(CliError::usage("a GGUF file is written in f32, f16 or q8_0", "take `--dtype f16`, or write a folder"));
        }
    };
    let export = Export { found, weights: &found.weights, element: ElementType::F32, max_file_bytes: u64::MAX, template };
    let (files, special) = beside(&export)?;
    let text = |name: &str| files.iter().find(|(found, _)| found == name).map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned());
    let (tokenizer, template) = (text("tokenizer.json"), text("chat_template.jinja"));
    let (name, provenance) = (name_of(out).unwrap_or_default(), provenance(found, &found.weights)?);
    let request = GgufRequest {
        name: name.strip_suffix(".gguf").unwrap_or(&name),
        config: &found.config,
        weights: &found.weights,
        vocab_size: found.vocab_size(),
        kind,
        tokenizer_json: tokenizer.as_deref(),
        chat_template: template.as_deref(),
        bos: special.bos,
        eos: special.eos.first().copied(),
        pad: special.pad,
        provenance: &provenance,
    };
    let (device, _) = device::open("auto")?;
    let mut proof = Value::Null;
    let exported = export_gguf(&request, out, |config, back| {
        proof = prove(found, &found.weights, config, back, out, &device)?;
        Ok::<(), CliError>(())
    })?;
    for note in &exported.notes {
        terminal.warn(note);
    }
    keep_export(found, "gguf", out, digest(found, &found.weights)?, terminal);
    let value = json!({ "file": exported, "proof": proof });
    terminal.result(&value, || {
        format!(
            "{} ({}, {}, BLAKE3 {})\n{}\nuse it: llama-cli -m {}\n",
            exported.path.display(),
            exported.architecture,
            bytes(exported.bytes),
            exported.digest.short(),
            proven(&proof),
            out.display()
        )
    })
}

/// Writes adapters for the peft package.
pub(super) fn export_adapter(found: &Found, out: &Path, terminal: &Terminal) -> Result<(), CliError> {
    let Some(record) = found.adapter() else {
        let what = format!("`{}` holds no adapters", found.path.display());
        return Err(CliError::usage(what, "leave `--format peft` out to write the whole model"));
    };
    let Some(base) = found.base_of_adapter()? else {
        let what = "these adapters are on weights drawn from a seed, which no other program has";
        return Err(CliError::usage(what, "write the whole model: `codex-cli model merge`"));
    };
    let named = match &found.run {
        Some(run) => run_config::of_run(run)?.run.base.map(|path| path.display().to_string()),
        None => codex_hub::peft::base_name(&found.path)?,
    };
    let request = AdapterRequest {
        config: &found.config,
        vocab_size: base.vocab_size().unwrap_or(0),
        adapter: &record.adapter,
        weights: &found.weights,
        base_name: named.as_deref().unwrap_or_default(),
        base_digest: Some(base.digest().to_string()),
    };
    let path = write_adapter(&request, out)?;
    keep_export(found, "peft", out, digest(found, &found.weights)?, terminal);
    let value = json!({ "path": path, "format": "peft", "tensors": found.weights.len(), "base": named, "base_digest": base.digest() });
    terminal.result(&value, || {
        format!(
            "{}: {} tensors, read again and equal
use it: PeftModel.from_pretrained(base, {:?})
",
            path.display(),
            found.weights.len(),
            path.display().to_string()
        )
    })
}

/// All weights of a model: as they are, or with its adapters added.
pub(super) fn merged(found: &Found) -> Result<TensorMap, CliError> {
    if !found.is_adapter() {
        return Ok(found.weights.clone());
    }
    let (device, _) = device::open("auto")?;
    Ok(parameters::collect(&found.network(&device)?.merge()?)?)
}

fn write(export: &Export<'_>, out: &Path) -> Result<(Exported, Value), CliError> {
    let Export { found, weights, element, .. } = *export;
    let vocab_size = weights.get("embedding").and_then(|table| table.shape.first().copied()).unwrap_or(0);
    let (extra, special) = beside(export)?;
    let provenance = provenance(found, weights)?;
    let name = name_of(out).unwrap_or_else(|| "model".to_owned());
    let request = ExportRequest {
        name: &name,
        config: &found.config,
        weights,
        vocab_size,
        element,
        max_file_bytes: export.max_file_bytes,
        bos: special.bos,
        eos: &special.eos,
        pad: special.pad,
        extra: &extra,
        provenance: &provenance,
    };
    let (device, _) = device::open("auto")?;
    let mut proof = Value::Null;
    let exported = export_folder(&request, out, |back: &Imported| {
        proof = prove(found, weights, &back.config.model, &back.weights, out, &device)?;
        Ok::<(), CliError>(())
    })?;
    Ok((exported, proof))
}

/// The last part of a path.
fn name_of(path: &Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

/// The tokens of a tokenizer that have a part.
#[derive(Clone, Debug, Default)]
pub(super) struct Special {
    pub(super) bos: Option<u32>,
    pub(super) eos: Vec<u32>,
    pub(super) pad: Option<u32>,
}

/// Files by name.
type Files = Vec<(String, Vec<u8>)>;

/// The files of the tokenizer and the chat template.
fn beside(export: &Export<'_>) -> Result<(Files, Special), CliError> {
    let found = export.found;
    let mut all = Vec::new();
    let template = export.template.map(template_source).transpose()?;
    let is_foreign = is_model_folder(&found.path);
    let mut special = Special::default();
    if is_foreign {
        let config = HfConfig::read(&found.path.join("config.json"))?;
        special = Special { bos: config.bos, eos: config.eos, pad: config.pad };
    }
    let Some(tokenizer) = found.known_tokenizer() else {
        return Ok((all, special));
    };
    all.push(("tokenizer.json".to_owned(), tokenizer.to_json().as_bytes().to_vec()));
    if is_foreign {
        for name in BESIDE {
            let path = found.path.join(name);
            if path.exists() && !(name == "chat_template.jinja" && template.is_some()) {
                all.push((name.to_owned(), files::read_bounded(&path, MAX_BESIDE_BYTES)?));
            }
        }
    } else {
        special = Special { bos: None, eos: vec![tokenizer.end_of_text()], pad: Some(tokenizer.pad()) };
    }
    if !all.iter().any(|(name, _)| name == "tokenizer_config.json") {
        let mut config = json!({
            "tokenizer_class": CLASS, "model_max_length": found.config.context_length, "clean_up_tokenization_spaces": false,
            "add_bos_token": false,
        });
        for (key, id) in [("bos_token", special.bos), ("eos_token", special.eos.first().copied()), ("pad_token", special.pad)] {
            config[key] = json!(id.and_then(|id| tokenizer.id_to_token(id)));
        }
        all.push(("tokenizer_config.json".to_owned(), format!("{config:#}\n").into_bytes()));
    }
    all.extend(template.map(|source| ("chat_template.jinja".to_owned(), source.into_bytes())));
    Ok((all, special))
}

/// The text of a chat template. It is compiled before it is written, so that a broken one is told here.
fn template_source(asked: &str) -> Result<String, CliError> {
    let source = ChatTemplate::text_of(asked)?;
    ChatTemplate::from_source(&source, std::collections::BTreeMap::new())?;
    Ok(source)
}

/// What weights are known by.
fn digest(found: &Found, weights: &TensorMap) -> Result<Digest, CliError> {
    tensor_file::digest(weights).map_err(|reason| CliError::Integrity {
        path: found.path.clone(),
        reason,
        hint: "`codex-cli checkpoint verify` names what is damaged",
    })
}

/// What the card says of where the model comes from.
pub(super) fn provenance(found: &Found, weights: &TensorMap) -> Result<Vec<(String, String)>, CliError> {
    let mut all = Vec::new();
    let mut add = |name: &str, value: String| all.push((name.to_owned(), value));
    add("weights in f32", digest(found, weights)?.to_string());
    if found.is_adapter() {
        add("adapters", digest(found, &found.weights)?.to_string());
    }
    if let Some(tokenizer) = found.known_tokenizer() {
        add("tokenizer", tokenizer.digest().to_string());
    }
    add("from", found.path.display().to_string());
    if let Some(run) = &found.run {
        let record = RunRecord::read(&RunDir::open(run)?)?;
        add("run", record.id);
        add("plan", record.plan_digest.to_string());
        add("configuration", record.config_digest.to_string());
        let data: Value = RunDir::open(run)?.read_json("data.manifest.json")?;
        if let Some(key) = data.get("key").and_then(Value::as_str) {
            add("data", key.to_owned());
        }
    }
    if let Some(step) = found.step {
        add("step", step.to_string());
    }
    add("written by", format!("codex-cli {}", env!("CARGO_PKG_VERSION")));
    Ok(all)
}

/// The type of a folder's numbers.
pub(super) fn element(dtype: NumberType) -> Result<ElementType, CliError> {
    match dtype {
        NumberType::F32 => Ok(ElementType::F32),
        NumberType::F16 => Ok(ElementType::F16),
        NumberType::Bf16 => Ok(ElementType::Bf16),
        NumberType::Q8_0 => Err(CliError::usage("a Hugging Face folder holds no q8_0", "take f32, f16 or bf16, or write a `.gguf`")),
    }
}

fn tell(exported: &Exported, proof: &Value, terminal: &Terminal, next: &str) -> Result<(), CliError> {
    let value = json!({ "path": exported.path, "family": exported.family, "files": exported.files, "proof": proof });
    terminal.result(&value, || {
        let rows = exported.files.iter().map(|file| vec![file.name.clone(), bytes(file.bytes), file.digest.short()]);
        let files = table(&["file", "size", "BLAKE3"], rows);
        format!("{} ({})\n{files}\n{}\nuse it: {next}\n", exported.path.display(), exported.family, proven(proof))
    })
}
