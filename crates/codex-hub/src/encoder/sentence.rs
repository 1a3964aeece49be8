//! What sentence-transformers writes beside an encoder: which modules follow it (`modules.json`), how it pools, how long a text may be.
//!
//! Format: <https://sbert.net/docs/sentence_transformer/usage/custom_models.html>.

use std::path::{Path, PathBuf};

use codex_model::Pooling;
use serde_json::json;

use crate::config::short;
use crate::error::HubError;
use crate::fields::{Fields, read_list, read_object};
use crate::tensor_folder::is_plain_name;

/// The list of modules, each of which works on what the one before it gives.
const MODULES_FILE: &str = "modules.json";
/// What the first module does with a text.
const TEXT_FILE: &str = "sentence_bert_config.json";
/// What is done with all texts.
const MODEL_FILE: &str = "config_sentence_transformers.json";

/// How an encoder makes one vector of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sentence {
    /// The folder with the encoder and its tokenizer.
    pub(super) encoder: PathBuf,
    pub(super) pooling: Option<Pooling>,
    pub(super) normalize: bool,
    /// Most tokens of a text.
    pub(super) max_tokens: Option<usize>,
    /// The width that the pooling module expects, and the file that says so.
    pub(super) width: Option<(PathBuf, usize)>,
}

/// What the files of a folder say; a folder without them is an encoder alone.
pub(super) fn read(folder: &Path) -> Result<Sentence, HubError> {
    let mut sentence = Sentence { encoder: folder.to_owned(), pooling: None, normalize: false, max_tokens: None, width: None };
    let path = folder.join(MODULES_FILE);
    if path.exists() {
        modules(folder, &path, &mut sentence)?;
    }
    let path = sentence.encoder.join(TEXT_FILE);
    if path.exists() {
        let map = read_object(&path, "description of a text module")?;
        let fields = Fields::new(&path, &map);
        fields.only("do_lower_case", &[json!(false)], "texts are lower-cased by the tokenizer or not at all")?;
        sentence.max_tokens = fields.count("max_seq_length")?;
        if let Some(few) = sentence.max_tokens.filter(|&max| max < 3) {
            return Err(HubError::malformed(&path, "max_seq_length", "room for a token between two special ones", few.to_string()));
        }
    }
    let path = folder.join(MODEL_FILE);
    if path.exists() {
        let map = read_object(&path, "description of a sentence model")?;
        let fields = Fields::new(&path, &map);
        if fields.get("default_prompt_name").is_some() {
            return Err(fields.unsupported("default_prompt_name", "nothing is put before a text"));
        }
    }
    Ok(sentence)
}

fn modules(folder: &Path, path: &Path, sentence: &mut Sentence) -> Result<(), HubError> {
    let list = read_list(path, "list of modules")?;
    for (index, module) in list.iter().enumerate() {
        let prefix = format!("{index}.");
        let map = module.as_object().ok_or_else(|| HubError::malformed(path, &index.to_string(), "an object", "something else"))?;
        let fields = Fields::below(path, &prefix, map);
        let type_name = fields.text("type")?.ok_or_else(|| HubError::malformed(path, &format!("{prefix}type"), "a text", "nothing"))?;
        let place = fields.text("path")?.unwrap_or_default();
        if !place.is_empty() && !is_plain_name(place) {
            return Err(HubError::malformed(path, &format!("{prefix}path"), "the name of a folder beside the list", format!("{place:?}")));
        }
        // The modules of a program are named by their Python path, whose last word stays.
        let kind = type_name.rsplit('.').next().unwrap_or_default();
        match (index, kind) {
            (0, "Transformer") => sentence.encoder = if place.is_empty() { folder.to_owned() } else { folder.join(place) },
            (1, "Pooling") => pooling(&folder.join(place).join("config.json"), sentence)?,
            (2, "Normalize") => sentence.normalize = true,
            _ => {
                let reason = format!("module {index} is `{}`; read are Transformer, Pooling and Normalize, in this order", short(kind));
                return Err(fields.unsupported("type", reason));
            }
        }
    }
    if list.is_empty() {
        return Err(HubError::malformed(path, "the whole file", "at least one module", "none"));
    }
    Ok(())
}

fn pooling(path: &Path, sentence: &mut Sentence) -> Result<(), HubError> {
    let map = read_object(path, "description of a pooling module")?;
    let fields = Fields::new(path, &map);
    let mut chosen = Vec::new();
    if let Some(mode) = fields.text("pooling_mode")? {
        chosen.push(("pooling_mode", mode));
    }
    // The older spelling has a flag for each.
    for key in fields.keys().filter(|key| key.starts_with("pooling_mode_")) {
        if fields.flag(key)?.unwrap_or(false) {
            chosen.push((key.as_str(), key.trim_start_matches("pooling_mode_")));
        }
    }
    let named = |mode: &str| match mode {
        "mean" | "mean_tokens" => Some(Pooling::Mean),
        "cls" | "cls_token" => Some(Pooling::Cls),
        _ => None,
    };
    let has_choice = fields.keys().any(|key| key.starts_with("pooling_mode"));
    sentence.pooling = Some(match chosen.as_slice() {
        [] if !has_choice => Pooling::Mean,
        [] => return Err(fields.unsupported("pooling_mode", "no kind of pooling is chosen; read are mean and cls")),
        [(key, mode)] => {
            named(mode).ok_or_else(|| fields.unsupported(key, format!("`{}` is neither the mean nor the first position", short(mode))))?
        }
        [_, (key, _), ..] => return Err(fields.unsupported(key, "two kinds of pooling side by side are not made")),
    });
    let width = fields.count("word_embedding_dimension")?.map_or_else(|| fields.count("embedding_dimension"), |width| Ok(Some(width)))?;
    sentence.width = width.map(|width| (path.to_owned(), width));
    Ok(())
}
