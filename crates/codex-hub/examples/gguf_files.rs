//! For comparing with other programs: `FOLDERS OUT` writes each Hugging Face folder in FOLDERS as a GGUF file of each type into OUT, and what became of
//! it into `OUT/told.json`. `xtask/parity/gguf_files.py` reads them.
#![expect(clippy::expect_used, reason = "a tool for comparisons; what goes wrong is told and ends it")]

use std::path::{Path, PathBuf};

use codex_core::files;
use codex_hub::gguf::{GgufRequest, GgufType, export_gguf};
use codex_hub::{HubError, import_folder, is_model_folder};
use serde_json::{Value, json};

fn main() {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [folders, out] = &arguments[..] else { return };
    files::create_dir_all(out).expect("OUT can be made");
    let mut told = serde_json::Map::new();
    for folder in files::list_dir(folders).expect("FOLDERS can be listed").into_iter().filter(|path| is_model_folder(path)) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for kind in GgufType::ALL {
            let file = format!("{name}.{}.gguf", kind.name());
            let found = write(&folder, &name, kind, &out.join(&file));
            told.insert(file, found.unwrap_or_else(|error| json!({ "error": error.to_string() })));
        }
    }
    let text = format!("{:#}\n", Value::Object(told));
    files::write_atomic(&out.join("told.json"), text.as_bytes()).expect("the report can be written");
}

fn write(folder: &Path, name: &str, kind: GgufType, target: &Path) -> Result<Value, HubError> {
    let model = import_folder(folder)?;
    let beside = |file: &str| folder.join(file).exists().then(|| files::read_to_string(&folder.join(file))).transpose();
    let (tokenizer, template) = (beside("tokenizer.json")?, beside("chat_template.jinja")?);
    let request = GgufRequest {
        name,
        config: &model.config.model,
        weights: &model.weights,
        vocab_size: model.config.vocab_size,
        kind,
        tokenizer_json: tokenizer.as_deref(),
        chat_template: template.as_deref(),
        bos: model.config.bos,
        eos: model.config.eos.first().copied(),
        pad: model.config.pad,
        provenance: &[("folder".to_owned(), name.to_owned())],
    };
    files::remove_file(target)?;
    let told = export_gguf(&request, target, |_, _| Ok::<_, HubError>(()))?;
    Ok(json!(told))
}
